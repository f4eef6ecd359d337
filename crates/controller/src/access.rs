//! Users: who they are, by what token they are known, and what is made of a token that is shown.
//!
//! A token is random and has 256 bits, so its plain SHA-256 is kept: nobody finds a token by
//! trying, and a reader of the store has none. The configured token is no user; it is an admin,
//! whatever becomes of the users.

use std::fmt::Write as _;
use std::sync::Arc;

use api::rest::{Actor, UserRole};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;
use planner::Time;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How every token begins: what looks for secrets that leaked finds it, and no command line takes
/// it for an option.
const PREFIX: &str = "hft_";
/// Random bytes of a token.
const SECRET_BYTES: usize = 32;

/// The name of a caller with the configured token. No user has such a name.
pub(crate) const CONFIGURED: &str = "(configured token)";
/// The same of one without any, where none is configured.
pub(crate) const OPEN: &str = "(no token)";

/// A user as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Unique.
    pub name: String,
    /// What it may do.
    pub role: UserRole,
    /// SHA-256 of its token, hexadecimal.
    pub hash: String,
    /// When it was added, ms since 1970.
    pub created_at_ms: u64,
    /// By whom.
    pub created_by: String,
    /// From when on its token is refused, ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
}

impl User {
    /// From its document. One that this version does not understand, because a later one wrote it,
    /// is nobody: a store that has it is led all the same.
    pub(crate) fn read(document: &[u8]) -> Option<Self> {
        let read: Result<Self, _> = serde_json::from_slice(document);
        read.inspect_err(|error| tracing::debug!(%error, "pass over a user")).ok()
    }

    /// Its token is refused.
    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|end| now_ms >= end)
    }

    /// `operator, until 2026-01-31 23:59:59.123 UTC`.
    pub(crate) fn promise(&self) -> String {
        match self.expires_at_ms {
            None => self.role.to_string(),
            Some(end) => format!("{}, until {} UTC", self.role, api::time::utc(end)),
        }
    }
}

/// A token that was never given.
pub(crate) fn mint() -> String {
    let secret: [u8; SECRET_BYTES] = rand::random();
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret))
}

/// What is kept of a token.
pub(crate) fn hash(token: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(token) {
        // A string takes everything.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// What a token is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This user's.
    User(Actor),
    /// It was this user's until then, ms since 1970.
    Expired { name: String, at_ms: u64 },
    /// Nobody's.
    Unknown,
    /// The users were not read yet.
    NotRead,
}

/// What `token` is worth at `now_ms`. It takes as long whoever's it is.
fn judge(users: &[User], token: &[u8], from: &str, now_ms: u64) -> Verdict {
    let hash = hash(token);
    let mut found = None;
    for user in users {
        if web::same(hash.as_bytes(), user.hash.as_bytes()) {
            found = Some(user);
        }
    }
    let Some(user) = found else { return Verdict::Unknown };
    match user.expires_at_ms {
        Some(at_ms) if user.is_expired(now_ms) => {
            Verdict::Expired { name: user.name.clone(), at_ms }
        }
        _ => {
            Verdict::User(Actor { who: user.name.clone(), role: user.role, from: from.to_owned() })
        }
    }
}

/// It may be a user's: worth a look at the store.
pub(crate) fn is_one(token: &[u8]) -> bool {
    let length = PREFIX.len() + (SECRET_BYTES * 4).div_ceil(3);
    token.starts_with(PREFIX.as_bytes()) && token.len() == length
}

/// What this process knows of the users.
#[derive(Debug, Default)]
pub(crate) struct Known {
    newest: RwLock<Option<Read>>,
    /// When a request last read them anew; held by the one that does.
    pub(crate) asked: tokio::sync::Mutex<Time>,
}

#[derive(Debug)]
struct Read {
    began: Time,
    users: Arc<Vec<User>>,
}

impl Known {
    /// Takes what a read showed that began then. One that began earlier than the newest tells
    /// nothing.
    pub(crate) fn take(&self, began: Time, users: Vec<User>) {
        let mut known = self.newest.write();
        if known.as_ref().is_none_or(|known| known.began <= began) {
            *known = Some(Read { began, users: Arc::new(users) });
        }
    }

    pub(crate) fn judge(&self, token: &[u8], from: &str, now_ms: u64) -> Verdict {
        // Not held while it is compared.
        let users = self.newest.read().as_ref().map(|known| Arc::clone(&known.users));
        users.map_or(Verdict::NotRead, |users| judge(&users, token, from, now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, token: &str, expires_at_ms: Option<u64>) -> User {
        User {
            name: name.to_owned(),
            role: UserRole::Operator,
            hash: hash(token.as_bytes()),
            created_at_ms: 1,
            created_by: CONFIGURED.to_owned(),
            expires_at_ms,
        }
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_token_is_its_users_until_it_ends() {
        let known = Known::default();
        let told = |token: &str, now_ms| known.judge(token.as_bytes(), "10.0.0.1", now_ms);
        assert_eq!(told("a", 1), Verdict::NotRead);
        known.take(at(1), vec![user("deploy", "a", None), user("guest", "b", Some(100))]);
        let actor = Actor {
            who: "deploy".to_owned(),
            role: UserRole::Operator,
            from: "10.0.0.1".to_owned(),
        };
        assert_eq!(told("a", u64::MAX), Verdict::User(actor));
        assert!(matches!(told("b", 99), Verdict::User(_)));
        assert_eq!(told("b", 100), Verdict::Expired { name: "guest".to_owned(), at_ms: 100 });
        for other in ["", "c", "aa", &hash(b"a")] {
            assert_eq!(told(other, 1), Verdict::Unknown, "{other}");
        }
    }

    #[test]
    fn a_read_that_began_earlier_and_ended_later_brings_nobody_back() {
        let known = Known::default();
        known.take(at(2), Vec::new());
        known.take(at(1), vec![user("gone", "a", None)]);
        assert_eq!(known.judge(b"a", "", 1), Verdict::Unknown);
        known.take(at(3), vec![user("new", "a", None)]);
        assert!(matches!(known.judge(b"a", "", 1), Verdict::User(_)));
    }

    #[test]
    fn tokens_differ_and_are_told_from_other_words() {
        let (one, other) = (mint(), mint());
        assert_ne!(one, other);
        assert!(is_one(one.as_bytes()) && is_one(other.as_bytes()), "{one}");
        assert!(!is_one(b"secret") && !is_one(&one.as_bytes()[1..]));
        // FIPS 180-4, "abc".
        assert_eq!(
            hash(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn what_is_stored_has_no_token_in_it_and_is_read_again() {
        let token = mint();
        let stored = user("deploy", &token, Some(7));
        let text = serde_json::to_string(&stored).expect("JSON");
        assert!(!text.contains(&token) && text.contains("\"operator\""), "{text}");
        assert_eq!(User::read(text.as_bytes()), Some(stored));
        assert_eq!(User::read(text.replace("operator", "auditor").as_bytes()), None);
    }
}
