//! How a record lies in a store: as JSON, its secrets sealed where there is a key for them.
//!
//! All secrets of a record are one seal, in the place of the password: `"password": {"sealed": …}`.
//! A version that knows no seals reads no such record, so it neither leads by it nor writes it back
//! without its secrets. A record in clear is read as ever, and sealed when it is written next.

use std::collections::BTreeMap;

use planner::Record;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{StoreError, failed};
use crate::seal::{self, Keys, Locked};

/// What is secret in a record.
#[derive(Default, Serialize, Deserialize)]
struct Secrets {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    /// Of balancers, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tokens: BTreeMap<String, String>,
}

/// Whether the secrets of a record are sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Has {
    /// It has none.
    None,
    /// They lie there in clear.
    Clear,
    /// With the key of this id.
    Sealed(String),
    /// Nobody knows: the record cannot be read.
    Unread,
}

/// A cluster, and how its secrets lie in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its secrets.
    pub has: Has,
}

impl Held {
    /// Whether the next write of its record makes it another one.
    pub fn is_behind(&self, keys: &Keys) -> bool {
        match (&self.has, keys.sealing()) {
            (Has::None, _) | (Has::Clear, None) => false,
            (Has::Clear, Some(_)) | (Has::Sealed(_), None) | (Has::Unread, _) => true,
            (Has::Sealed(by), Some(key)) => by != key,
        }
    }
}

/// Takes the secrets out of a record.
fn taken(record: &mut Record) -> Secrets {
    let mut secrets = Secrets { password: record.password.take(), ..Secrets::default() };
    for balancer in &mut record.balancers {
        let token = balancer.token.take();
        secrets.tokens.extend(token.map(|token| (balancer.name.clone(), token)));
    }
    secrets
}

/// Whether a record has something to seal.
pub(super) fn has_secrets(record: &Record) -> bool {
    record.password.is_some() || record.balancers.iter().any(|of| of.token.is_some())
}

/// What a seal is bound to.
fn about(record: &Record) -> String {
    format!("record {}/{}", record.namespace, record.name)
}

fn locked(record: &Record, why: Locked) -> StoreError {
    let Record { namespace, name, .. } = record;
    StoreError::Locked { what: format!("the secrets of cluster {namespace}/{name}"), why }
}

/// A record as it is stored.
///
/// # Errors
/// It cannot be encoded.
pub(super) fn text(record: &Record, keys: &Keys) -> Result<String, StoreError> {
    let encode =
        |record: &Record| serde_json::to_string(record).map_err(failed("encode a cluster"));
    if keys.sealing().is_none() || !has_secrets(record) {
        return encode(record);
    }
    let mut bare = record.clone();
    let secrets = serde_json::to_vec(&taken(&mut bare)).map_err(failed("encode its secrets"))?;
    let sealed = keys.seal(&secrets, &about(record)).map_err(|why| locked(record, why))?;
    let text = encode(&bare)?;
    // An object with fields before, and no password among them.
    let rest = text.strip_suffix('}').unwrap_or(&text);
    Ok(format!("{rest},\"password\":{{\"sealed\":\"{sealed}\"}}}}"))
}

/// A record without the secrets that are sealed in it, and their seal.
fn parted(text: &[u8]) -> Result<(Record, Option<String>), StoreError> {
    #[derive(Deserialize)]
    struct Place {
        #[serde(default)]
        password: Value,
    }
    // In clear it is read as it is, and costs no more than that.
    let unread = match serde_json::from_slice(text) {
        Ok(record) => return Ok((record, None)),
        Err(error) => error,
    };
    let place: Option<Place> = serde_json::from_slice(text).ok();
    let seal = place.as_ref().and_then(|place| place.password.get("sealed")?.as_str());
    let Some(seal) = seal else { return Err(failed("read a cluster")(unread)) };
    let bare = || -> Result<Record, serde_json::Error> {
        let mut document: Value = serde_json::from_slice(text)?;
        if let Some(fields) = document.as_object_mut() {
            fields.remove("password");
        }
        serde_json::from_value(document)
    };
    Ok((bare().map_err(failed("read a cluster"))?, Some(seal.to_owned())))
}

/// A record that is stored, without what is sealed in it: nobody need open it to compare it.
///
/// # Errors
/// It cannot be read.
pub(super) fn bare(text: &[u8]) -> Result<Record, StoreError> {
    parted(text).map(|(record, _)| record)
}

/// A record that is stored.
///
/// # Errors
/// It cannot be read; [`StoreError::Locked`] where what is sealed in it cannot be opened.
pub(super) fn record(text: &[u8], keys: &Keys) -> Result<Record, StoreError> {
    let (mut record, seal) = parted(text)?;
    let Some(seal) = seal else { return Ok(record) };
    let opened = keys.open(&seal, &about(&record)).map_err(|why| locked(&record, why))?;
    // The error could show a part of them.
    let secrets: Secrets =
        serde_json::from_slice(&opened).map_err(|_| locked(&record, Locked::Unknown))?;
    record.password = secrets.password;
    for balancer in &mut record.balancers {
        balancer.token = secrets.tokens.get(&balancer.name).cloned();
    }
    Ok(record)
}

/// How the secrets of a record lie there.
///
/// # Errors
/// It cannot be read.
pub(super) fn held(text: &[u8]) -> Result<Held, StoreError> {
    let (record, seal) = parted(text)?;
    let has = match seal {
        Some(seal) => Has::Sealed(seal::key_of(&seal).unwrap_or("?").to_owned()),
        None if has_secrets(&record) => Has::Clear,
        None => Has::None,
    };
    let Record { namespace, name, .. } = record;
    Ok(Held { namespace, name, has })
}

#[cfg(test)]
mod tests {
    use planner::{Balancer, BalancerKind};

    use super::*;
    use crate::cluster::test_record;

    fn keys() -> Keys {
        Keys::parse(&seal::grown("", false).expect("a key").0).expect("keys")
    }

    fn balancer(name: &str, token: Option<&str>) -> Balancer {
        Balancer {
            name: name.to_owned(),
            kind: BalancerKind::Builtin,
            endpoint: format!("http://{name}"),
            token: token.map(str::to_owned),
            sources: Vec::new(),
            closing: false,
        }
    }

    fn secretive() -> Record {
        let balancers = vec![balancer("lb1", Some("t0ken")), balancer("lb2", None)];
        Record { password: Some("s3cret".to_owned()), balancers, tag: u64::MAX, ..test_record() }
    }

    #[test]
    fn a_record_is_read_as_it_was_and_shows_no_secret() {
        let keys = keys();
        let whole = secretive();
        let token_only = Record { password: None, ..whole.clone() };
        for was in [whole.clone(), token_only, test_record()] {
            let text = text(&was, &keys).expect("a text");
            assert!(!text.contains("s3cret") && !text.contains("t0ken"), "{text}");
            assert_eq!(record(text.as_bytes(), &keys).expect("a record"), was);
            let bare = bare(text.as_bytes()).expect("a record");
            assert_eq!((bare.tag, &bare.password), (was.tag, &None));
        }
        let nothing = text(&test_record(), &keys).expect("a text");
        assert_eq!(nothing, serde_json::to_string(&test_record()).expect("a text"));
    }

    #[test]
    fn a_record_in_clear_is_read_and_sealed_when_it_is_written_next() {
        let (none, keys) = (Keys::default(), keys());
        let clear = text(&secretive(), &none).expect("a text");
        assert_eq!(clear, serde_json::to_string(&secretive()).expect("a text"));
        let read = record(clear.as_bytes(), &keys).expect("a record");
        assert_eq!(read, secretive());
        let sealed = text(&read, &keys).expect("a text");
        let (clear, sealed) = (held(clear.as_bytes()), held(sealed.as_bytes()));
        let (clear, sealed) = (clear.expect("how"), sealed.expect("how"));
        assert_eq!(clear.has, Has::Clear);
        assert_eq!(sealed.has, Has::Sealed(keys.sealing().expect("a key").to_owned()));
        assert!(clear.is_behind(&keys) && !clear.is_behind(&none));
        assert!(!sealed.is_behind(&keys) && sealed.is_behind(&none));
        assert!(sealed.is_behind(&self::keys()), "another key seals now");
    }

    #[test]
    fn without_its_key_a_record_is_locked_and_of_no_use_to_another_cluster() {
        let keys = keys();
        let sealed = text(&secretive(), &keys).expect("a text");
        for other in [Keys::default(), self::keys()] {
            let error = record(sealed.as_bytes(), &other).expect_err("locked");
            assert!(matches!(error, StoreError::Locked { .. }), "{error}");
            assert!(error.to_string().contains("cluster n/c: sealed with key"), "{error}");
        }
        let moved = sealed.replace("\"name\":\"c\"", "\"name\":\"d\"");
        assert_ne!(moved, sealed);
        let error = record(moved.as_bytes(), &keys).expect_err("locked");
        assert!(error.to_string().contains("another cluster's"), "{error}");
        // An earlier version cannot read it at all, so it loses nothing.
        assert!(serde_json::from_str::<Record>(&sealed).is_err());
        let later = sealed.replace("\"sealed\":\"1.", "\"sealed\":\"2.");
        let error = record(later.as_bytes(), &keys).expect_err("locked");
        assert!(error.to_string().contains("a later one"), "{error}");
    }
}
