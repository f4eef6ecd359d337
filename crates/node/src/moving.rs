//! Records of sessions that a balancer moves between nodes (`docs/protocol.md` §12): made here, and
//! believed only if a node of this cluster made them.
//!
//! A record says that its session has authenticated, so nobody but nodes may be able to make one:
//! it ends in an HMAC-SHA256 under `peer-auth`, which clients never have. It names client and
//! frontend, counts for a minute, and once. Without `peer-auth` sessions do not move.

use std::collections::HashMap;

use api::moving::{Error as Malformed, MAC_BYTES, Session};
use hmac::{Hmac, Mac as _};
use parking_lot::Mutex;
use sha2::Sha256;

/// How old or how new a record may be, ms: nodes' clocks may differ by that.
const VALID_MS: u64 = 60_000;

/// How often records that would not count any more are looked for, ms. Not for each one that is
/// taken: in a switchover thousands come at once.
const PRUNE_MS: u64 = 1_000;

/// Keeps these from being mistaken for anything else the secret may sign one day.
const PURPOSE: &[u8] = b"holdfast moved session 1";

/// Why a record is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no `peer-auth` here.
    #[error("this node has no peer-auth to know records by")]
    NoSecret,
    /// Nobody with this cluster's secret made it.
    #[error("the record was not made by a node with the same peer-auth")]
    Forged,
    /// It was, but makes no sense.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// It belongs to another connection.
    #[error("the record belongs to another client or frontend")]
    Foreign,
    /// Its time is not now.
    #[error("the record is too old, or the nodes' clocks differ by more than a minute")]
    Untimely,
    /// It was taken before.
    #[error("the record was used before")]
    Used,
}

/// The records that were taken lately.
#[derive(Debug, Default)]
pub struct Taken(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// When each was made, Unix ms, by nonce.
    issued_ms: HashMap<u128, u64>,
    pruned_ms: u64,
}

fn mac(secret: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
    // A key of any length will do.
    let mut mac = Hmac::new_from_slice(secret.as_bytes()).ok().filter(|_| !secret.is_empty())?;
    mac.update(PURPOSE);
    mac.update(body);
    Some(mac)
}

/// The record of a session; `None` without a secret, or with more than fits.
pub fn seal(secret: &str, session: &Session) -> Option<Vec<u8>> {
    let mut record = session.encode()?;
    let tag = mac(secret, &record)?.finalize().into_bytes();
    record.extend_from_slice(&tag);
    Some(record)
}

impl Taken {
    /// The session of a record, once; `now_ms` is Unix time.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn open(&self, secret: &str, record: &[u8], now_ms: u64) -> Result<Session, Refused> {
        let cut = record.len().checked_sub(MAC_BYTES).ok_or(Refused::Forged)?;
        let (body, tag) = record.split_at_checked(cut).ok_or(Refused::Forged)?;
        let mac = mac(secret, body).ok_or(Refused::NoSecret)?;
        mac.verify_slice(tag).map_err(|_| Refused::Forged)?;
        let session = Session::decode(body)?;
        if session.issued_ms.abs_diff(now_ms) > VALID_MS {
            return Err(Refused::Untimely);
        }
        let mut known = self.0.lock();
        if known.pruned_ms.abs_diff(now_ms) >= PRUNE_MS {
            known.issued_ms.retain(|_, issued_ms| issued_ms.abs_diff(now_ms) <= VALID_MS);
            known.pruned_ms = now_ms;
        }
        match known.issued_ms.insert(session.nonce, session.issued_ms) {
            None => Ok(session),
            Some(_) => Err(Refused::Used),
        }
    }
}

#[cfg(test)]
mod tests {
    use api::moving::Replies;

    use super::*;

    fn session(nonce: u128) -> Session {
        Session {
            client: "10.0.0.1:5".parse().unwrap(),
            frontend: "10.0.9.1:6379".parse().unwrap(),
            issued_ms: 100_000,
            nonce,
            since_ms: 3,
            is_authenticated: true,
            is_denied: false,
            is_resp3: true,
            is_readonly: false,
            is_asking: false,
            is_watching: false,
            is_aborted: false,
            replies: Replies::On,
            name: "n".into(),
            library: String::new(),
            version: String::new(),
            queue: None,
            unread: b"*1".to_vec(),
            subscriptions: api::moving::Subscriptions::default(),
            user: String::new(),
        }
    }

    #[test]
    fn a_record_is_taken_once_and_in_time_and_with_the_same_secret() {
        let (taken, record) = (Taken::default(), seal("secret", &session(1)).unwrap());
        assert_eq!(taken.open("other", &record, 100_000), Err(Refused::Forged));
        assert_eq!(taken.open("", &record, 100_000), Err(Refused::NoSecret));
        assert_eq!(taken.open("secret", &record, 160_001), Err(Refused::Untimely));
        assert_eq!(taken.open("secret", &record, 100_500), Ok(session(1)));
        assert_eq!(taken.open("secret", &record, 100_500), Err(Refused::Used));
        let other = seal("secret", &session(2)).unwrap();
        assert_eq!(taken.open("secret", &other, 40_000), Ok(session(2)));
        assert_eq!(seal("", &session(1)), None);
    }

    #[test]
    fn no_bit_of_a_record_can_be_changed() {
        let (taken, record) = (Taken::default(), seal("secret", &session(1)).unwrap());
        for at in 0..record.len() {
            let mut forged = record.clone();
            forged[at] ^= 1;
            assert_eq!(taken.open("secret", &forged, 100_000), Err(Refused::Forged), "{at}");
            assert_eq!(taken.open("secret", &record[..at], 100_000), Err(Refused::Forged), "{at}");
        }
    }

    #[test]
    fn what_was_taken_is_forgotten_when_it_would_not_count_any_more() {
        let taken = Taken::default();
        let take = |nonce, issued_ms, now_ms| {
            let record = seal("secret", &Session { issued_ms, ..session(nonce) }).unwrap();
            taken.open("secret", &record, now_ms).unwrap();
            taken.0.lock().issued_ms.len()
        };
        for nonce in 0..10 {
            take(nonce, 100_000, 159_800);
        }
        // Nobody looks through all of them for each that comes.
        assert_eq!(take(10, 160_100, 160_100), 11);
        assert_eq!(take(11, 160_800, 160_800), 2);
        assert_eq!(take(12, 300_000, 300_000), 1);
    }
}
