//! Users: who they are, by what token or certificate they are known, and what is made of one that
//! is shown.
//!
//! A token is random and has 256 bits, so its plain SHA-256 is kept: nobody finds a token by
//! trying, and a reader of the store has none. Of a certificate the store has a name; who may have
//! one of that name is for its CA. The configured token is no user; it is an admin, whatever
//! becomes of the users.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use api::rest::{Actor, UserRole};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::{Mutex, RwLock};
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

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct User {
    /// Unique.
    pub name: String,
    /// What it may do.
    pub role: UserRole,
    /// Where it may do it; empty: everywhere.
    pub namespaces: Vec<String>,
    /// SHA-256 of its token, hexadecimal; empty where it has none.
    pub hash: String,
    /// Common name, or one of the names beside it, of the certificate that it is known by, in place
    /// of a token.
    pub certificate: Option<String>,
    /// When it was added, ms since 1970.
    pub created_at_ms: u64,
    /// By whom.
    pub created_by: String,
    /// From when on what it shows is refused, ms since 1970.
    pub expires_at_ms: Option<u64>,
    /// When it was seen, ms since 1970. It may have been seen since: that is written once an hour.
    pub last_used_ms: Option<u64>,
}

/// A user as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    name: String,
    role: Grant,
    hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    created_at_ms: u64,
    created_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_used_ms: Option<u64>,
}

/// A role that ends somewhere is spelled so that a version which does not know of that reads no
/// user there, and not one without the end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Grant {
    Everywhere(UserRole),
    Within { role: UserRole, namespaces: Vec<String> },
}

impl From<Stored> for User {
    fn from(stored: Stored) -> Self {
        let (role, namespaces) = match stored.role {
            Grant::Everywhere(role) => (role, Vec::new()),
            Grant::Within { role, namespaces } => (role, namespaces),
        };
        let Stored { name, hash, certificate, created_at_ms, created_by, expires_at_ms, .. } =
            stored;
        let last_used_ms = stored.last_used_ms;
        Self {
            name,
            role,
            namespaces,
            hash,
            certificate,
            created_at_ms,
            created_by,
            expires_at_ms,
            last_used_ms,
        }
    }
}

impl From<User> for Stored {
    fn from(user: User) -> Self {
        let User { name, role, namespaces, hash, certificate, created_at_ms, created_by, .. } =
            user;
        let (expires_at_ms, last_used_ms) = (user.expires_at_ms, user.last_used_ms);
        let role = match namespaces.is_empty() {
            true => Grant::Everywhere(role),
            false => Grant::Within { role, namespaces },
        };
        Self {
            name,
            role,
            hash,
            certificate,
            created_at_ms,
            created_by,
            expires_at_ms,
            last_used_ms,
        }
    }
}

/// How often it is written down at most that a user was seen, ms.
pub(crate) const COARSE_MS: u64 = 3_600_000;

impl User {
    /// From its document. One that this version does not understand, because a later one wrote it,
    /// is nobody: a store that has it is led all the same.
    pub(crate) fn read(document: &[u8]) -> Option<Self> {
        let read: Result<Self, _> = serde_json::from_slice(document);
        read.inspect_err(|error| tracing::debug!(%error, "pass over a user")).ok()
    }

    /// The document of a user that was seen then; nothing of one that was not there yet, or that
    /// this version does not understand. Whatever else a later version has written into it stays.
    pub(crate) fn seen(document: &[u8], at_ms: u64) -> Option<Vec<u8>> {
        // It may be another one by now.
        Self::read(document).filter(|user| user.created_at_ms <= at_ms)?;
        let mut value: serde_json::Value = serde_json::from_slice(document).ok()?;
        value["last_used_ms"] = at_ms.into();
        serde_json::to_vec(&value).ok()
    }

    /// Its token is refused.
    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|end| now_ms >= end)
    }

    /// `operator in a, b, by certificate duty, until 2026-01-31 23:59:59.123 UTC`.
    pub(crate) fn promise(&self) -> String {
        let mut words = self.role.to_string();
        if !self.namespaces.is_empty() {
            words.push_str(&format!(" in {}", self.namespaces.join(", ")));
        }
        if let Some(certificate) = &self.certificate {
            words.push_str(&format!(", by certificate {certificate}"));
        }
        if let Some(end) = self.expires_at_ms {
            words.push_str(&format!(", until {} UTC", api::time::utc(end)));
        }
        words
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

/// By what somebody wants to be known.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asks<'a> {
    /// A token.
    Token(&'a [u8]),
    /// The names in a certificate, of which a CA that is believed has vouched.
    Certificate(&'a [String]),
    /// The name of a user, and of its certificate, of which another controller has vouched: a user
    /// of that name may have another one by now.
    Vouched { user: &'a str, certificate: &'a str },
}

/// What that is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This user's.
    User(Caller),
    /// It was this user's until then, ms since 1970.
    Expired { name: String, at_ms: u64 },
    /// These users' alike.
    Several(Vec<String>),
    /// Nobody's.
    Unknown,
    /// The users were not read yet.
    NotRead,
}

/// A user that asks for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) by: Actor,
    /// Where it may ask; empty: everywhere.
    pub(crate) namespaces: Vec<String>,
    /// The name in a certificate that it is known by, if it is.
    pub(crate) certificate: Option<String>,
}

/// Whose it is. Of a token it takes as long whoever's that is.
fn found<'u>(users: &'u [User], asks: Asks<'_>) -> Vec<&'u User> {
    match asks {
        Asks::Token(token) => {
            let hash = hash(token);
            let mut found = None;
            for user in users {
                if web::same(hash.as_bytes(), user.hash.as_bytes()) {
                    found = Some(user);
                }
            }
            found.into_iter().collect()
        }
        Asks::Certificate(names) => {
            let is_named = |user: &&User| {
                user.certificate.as_ref().is_some_and(|certificate| names.contains(certificate))
            };
            users.iter().filter(is_named).collect()
        }
        Asks::Vouched { user: name, certificate } => {
            let is_it = |user: &&User| {
                user.name == name && user.certificate.as_deref() == Some(certificate)
            };
            users.iter().filter(is_it).collect()
        }
    }
}

fn judge(users: &[User], asks: Asks<'_>, from: &str, now_ms: u64) -> Verdict {
    let found = found(users, asks);
    let user = match found.as_slice() {
        [] => return Verdict::Unknown,
        [user] => user,
        several => {
            return Verdict::Several(several.iter().map(|user| user.name.clone()).collect());
        }
    };
    match user.expires_at_ms {
        Some(at_ms) if user.is_expired(now_ms) => {
            Verdict::Expired { name: user.name.clone(), at_ms }
        }
        _ => {
            let by = Actor { who: user.name.clone(), role: user.role, from: from.to_owned() };
            let (namespaces, certificate) = (user.namespaces.clone(), user.certificate.clone());
            Verdict::User(Caller { by, namespaces, certificate })
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
    /// When each user was last seen by this process, ms since 1970.
    used: Mutex<BTreeMap<String, u64>>,
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

    pub(crate) fn judge(&self, asks: Asks<'_>, from: &str, now_ms: u64) -> Verdict {
        // Not held while it is compared.
        let users = self.newest.read().as_ref().map(|known| Arc::clone(&known.users));
        let verdict = users.map_or(Verdict::NotRead, |users| judge(&users, asks, from, now_ms));
        if let Verdict::User(caller) = &verdict {
            self.used.lock().insert(caller.by.who.clone(), now_ms);
        }
        verdict
    }

    /// When this process saw that user last, ms since 1970; nothing from before it was added.
    pub(crate) fn used(&self, name: &str, created_at_ms: u64) -> Option<u64> {
        self.used.lock().get(name).copied().filter(|at| *at >= created_at_ms)
    }

    /// Users that it has seen, and of which the store has an older note: what is to be written
    /// down.
    pub(crate) fn unwritten(&self) -> Vec<(String, u64)> {
        let users = self.newest.read().as_ref().map(|known| Arc::clone(&known.users));
        let users = users.unwrap_or_default();
        let mut used = self.used.lock();
        // One that had the name before is another.
        let is_it = |user: &User, name: &str, at| user.name == name && user.created_at_ms <= at;
        used.retain(|name, at| users.iter().any(|user| is_it(user, name, *at)));
        let is_due = |user: &&User| {
            let seen = used.get(&user.name).copied().unwrap_or(0);
            seen >= user.last_used_ms.map_or(1, |last| last.saturating_add(COARSE_MS))
        };
        let due = users.iter().filter(is_due);
        due.filter_map(|user| Some((user.name.clone(), *used.get(&user.name)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, token: &str, expires_at_ms: Option<u64>) -> User {
        User {
            name: name.to_owned(),
            role: UserRole::Operator,
            namespaces: Vec::new(),
            hash: hash(token.as_bytes()),
            certificate: None,
            created_at_ms: 1,
            created_by: CONFIGURED.to_owned(),
            expires_at_ms,
            last_used_ms: None,
        }
    }

    fn certified(name: &str, certificate: &str) -> User {
        let certificate = Some(certificate.to_owned());
        User { hash: String::new(), certificate, ..user(name, "", None) }
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_token_is_its_users_until_it_ends() {
        let known = Known::default();
        let told =
            |token: &str, now_ms| known.judge(Asks::Token(token.as_bytes()), "10.0.0.1", now_ms);
        assert_eq!(told("a", 1), Verdict::NotRead);
        known.take(at(1), vec![user("deploy", "a", None), user("guest", "b", Some(100))]);
        let actor = Actor {
            who: "deploy".to_owned(),
            role: UserRole::Operator,
            from: "10.0.0.1".to_owned(),
        };
        let caller = Caller { by: actor, namespaces: Vec::new(), certificate: None };
        assert_eq!(told("a", u64::MAX), Verdict::User(caller));
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
        assert_eq!(known.judge(Asks::Token(b"a"), "", 1), Verdict::Unknown);
        known.take(at(3), vec![user("new", "a", None)]);
        assert!(matches!(known.judge(Asks::Token(b"a"), "", 1), Verdict::User(_)));
    }

    #[test]
    fn a_certificate_is_its_users_by_any_of_its_names_and_no_token_is() {
        let known = Known::default();
        let ends = User { expires_at_ms: Some(100), ..certified("guest", "guest.example") };
        let all = vec![
            certified("deploy", "deploy"),
            ends,
            certified("twin", "t"),
            certified("twin2", "t"),
        ];
        known.take(at(1), all);
        let told = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            known.judge(Asks::Certificate(&names), "10.0.0.1", 100)
        };
        let who = |verdict: Verdict| match verdict {
            Verdict::User(caller) => caller.by.who,
            other => format!("{other:?}"),
        };
        assert_eq!(who(told(&["deploy"])), "deploy");
        assert_eq!(who(told(&["x", "deploy"])), "deploy");
        assert_eq!(told(&["guest.example"]), Verdict::Expired { name: "guest".into(), at_ms: 100 });
        for names in [&[][..], &["x"], &[""], &["DEPLOY"]] {
            assert_eq!(told(names), Verdict::Unknown, "{names:?}");
        }
        // One that is two users' is nobody's: which of both it is could be chosen.
        let several = Verdict::Several(vec!["deploy".into(), "guest".into()]);
        assert_eq!(told(&["deploy", "guest.example"]), several);
        assert!(matches!(told(&["t"]), Verdict::Several(_)));
        for token in ["", "deploy", &hash(b"")] {
            let verdict = known.judge(Asks::Token(token.as_bytes()), "", 1);
            assert_eq!(verdict, Verdict::Unknown, "{token}");
        }
        // Of users with certificates alone another controller may vouch.
        let vouched = || {
            let asks = Asks::Vouched { user: "deploy", certificate: "deploy" };
            known.judge(asks, "", 1)
        };
        assert_eq!(who(vouched()), "deploy");
        // One that has the name, and another certificate by now.
        known.take(at(2), vec![certified("deploy", "deploy.new")]);
        assert_eq!(vouched(), Verdict::Unknown);
        known.take(at(3), vec![user("deploy", "a", None)]);
        assert_eq!(vouched(), Verdict::Unknown);
    }

    #[test]
    fn that_a_user_was_seen_is_written_once_an_hour_and_not_for_each_request() {
        let known = Known::default();
        let of = |last_used_ms| vec![User { last_used_ms, ..user("deploy", "a", None) }];
        let seen = |now_ms| drop(known.judge(Asks::Token(b"a"), "", now_ms));
        known.take(at(1), of(None));
        assert_eq!((known.unwritten(), known.used("deploy", 1)), (Vec::new(), None));
        seen(5_000);
        assert_eq!(known.unwritten(), [("deploy".to_owned(), 5_000)]);
        known.take(at(2), of(Some(5_000)));
        seen(4_999 + COARSE_MS);
        assert!(known.unwritten().is_empty());
        assert_eq!(known.used("deploy", 1), Some(4_999 + COARSE_MS), "it is told all the same");
        seen(5_000 + COARSE_MS);
        assert_eq!(known.unwritten().len(), 1);
        known.take(at(3), Vec::new());
        assert_eq!((known.unwritten(), known.used("deploy", 1)), (Vec::new(), None), "it is gone");
    }

    #[test]
    fn that_a_user_was_seen_is_nothing_about_the_next_one_of_its_name() {
        let known = Known::default();
        known.take(at(1), vec![user("deploy", "a", None)]);
        assert!(matches!(known.judge(Asks::Token(b"a"), "", 5_000), Verdict::User(_)));
        let next = User { created_at_ms: 6_000, ..user("deploy", "b", None) };
        known.take(at(2), vec![next.clone()]);
        assert_eq!((known.used("deploy", 6_000), known.unwritten()), (None, Vec::new()));
        let stored = serde_json::to_vec(&next).expect("JSON");
        assert_eq!(User::seen(&stored, 5_999), None);
        assert!(User::seen(&stored, 6_000).is_some());
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

    /// A user as earlier versions read it.
    #[derive(Debug, Deserialize)]
    struct Before {
        role: UserRole,
    }

    #[test]
    fn a_role_that_ends_somewhere_is_none_to_a_version_that_does_not_know_of_that() {
        let namespaces = vec!["a".to_owned(), "b".to_owned()];
        let limited = User { namespaces, ..certified("duty", "duty.example") };
        let text = serde_json::to_string(&limited).expect("JSON");
        assert_eq!(User::read(text.as_bytes()), Some(limited.clone()));
        assert!(serde_json::from_str::<Before>(&text).is_err(), "{text}");
        let everywhere = User { namespaces: Vec::new(), ..limited.clone() };
        let text = serde_json::to_string(&everywhere).expect("JSON");
        let before: Before = serde_json::from_str(&text).expect("a user of before");
        assert_eq!(before.role, UserRole::Operator);
        assert_eq!(limited.promise(), "operator in a, b, by certificate duty.example");
    }
}
