//! Why a call to etcd came to nothing, and what that says of what was asked.
//!
//! Whether a write that failed can still be made is told by what failed, never by the words of a
//! text that is not known: what is not certainly refused is unknown.

use super::full;
use super::wire::Refusal;

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) struct Failure {
    /// Whatever was asked is not done, and will not be.
    pub(super) is_refused: bool,
    /// A new token is needed.
    pub(super) wants_token: bool,
    /// It says that it is full: nothing of what was asked is under way, and it may have been done.
    pub(super) is_full: bool,
    /// It is larger than what a member takes in one request.
    pub(super) is_too_large: bool,
    /// etcd has said so itself.
    pub(super) is_answer: bool,
    pub(super) why: String,
}

impl Failure {
    /// It may be done yet.
    pub(super) fn unclear(why: String) -> Self {
        Self {
            is_refused: false,
            wants_token: false,
            is_full: false,
            is_too_large: false,
            is_answer: false,
            why,
        }
    }

    /// It never is.
    pub(super) fn refused(why: String) -> Self {
        Self { is_refused: true, ..Self::unclear(why) }
    }
}

/// What an error of etcd means for what was asked.
pub(super) fn refused(endpoint: &str, text: &[u8]) -> Failure {
    let refusal: Refusal = serde_json::from_slice(text).unwrap_or_default();
    let message = &refusal.message;
    // gRPC: invalid argument, permission denied, unimplemented, unauthenticated. All are said
    // before anything is proposed, or instead of it; of "resource exhausted" too many requests
    // alone are.
    let is_refused = matches!(refusal.code, 3 | 7 | 12 | 16)
        || (refusal.code == 8 && message.contains("too many requests"));
    let wants_token = refusal.code == 16
        || message.contains("invalid auth token")
        || message.contains("revision in header is old")
        || message.contains("user name is empty");
    Failure {
        is_refused,
        wants_token,
        is_full: full::is_said(refusal.code, message),
        is_too_large: refusal.code == 3 && message.contains("request is too large"),
        is_answer: true,
        why: format!("{endpoint}: {message} (code {})", refusal.code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_etcd_certainly_refused_counts_as_not_done() {
        let failure = |text: &str| refused("m", text.as_bytes());
        assert!(failure(r#"{"code":8,"message":"etcdserver: too many requests"}"#).is_refused);
        // It may say so of what it has made.
        let full = failure(r#"{"code":8,"message":"etcdserver: mvcc: database space exceeded"}"#);
        assert!(full.is_full && !full.is_refused);
        let large = failure(r#"{"code":3,"message":"etcdserver: request is too large"}"#);
        assert!(large.is_too_large && large.is_refused);
        assert!(failure(r#"{"code":16,"message":"etcdserver: invalid auth token"}"#).wants_token);
        assert!(
            failure(r#"{"code":3,"message":"etcdserver: revision in header is old"}"#).wants_token
        );
        for unclear in [
            r#"{"code":14,"message":"etcdserver: request timed out"}"#,
            r#"{"code":14,"message":"etcdserver: leader changed"}"#,
            r#"{"code":2,"message":"something nobody has heard of"}"#,
            r#"{"code":8,"message":"grpc: received message larger than max (9 vs. 4)"}"#,
            "a proxy says no",
        ] {
            assert!(!failure(unclear).is_refused, "{unclear}");
        }
    }
}
