//! A store as a whole: what it is called, all that it holds as one text, and the mark of one that
//! was given up.
//!
//! A name stays with its content, wherever that goes; its generation rises each time that the
//! content is taken up anew. Of two stores of one name the higher generation is the one that
//! counts, and its terms are above all of the other's.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use api::store::StoreId;
use planner::Record;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::sealed::{self, Held};
use super::{FORMAT, StoreError, failed, fresh_tag};
use crate::events::Event;
use crate::seal::{Keys, Locked};

/// What a store that nobody may lead from says of its format, in place of its own: versions that
/// know no marks do not touch a later format.
pub(super) const CLOSED: u64 = 1_000_000;

/// What a store is called, and which life of it this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Random, 16 hexadecimal digits.
    pub name: String,
    /// 1 at first, higher with each import, migration and adoption.
    pub generation: u64,
}

impl Identity {
    /// Of a store that begins.
    pub(super) fn fresh() -> Self {
        Self { name: format!("{:016x}", fresh_tag()), generation: 1 }
    }

    /// What is said of it to nodes; `None` where its name is none that can be said.
    pub fn id(&self) -> Option<StoreId> {
        StoreId::new(&self.name, self.generation)
    }
}

/// What a store was given up for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// Where its content went, for people and to be told again.
    pub to: String,
    /// The generation that counts from then on.
    pub generation: u64,
    /// No store that was made of it began with a higher term, as far as its nodes knew none; 0 in
    /// marks of earlier versions.
    #[serde(default)]
    pub term: u64,
    /// Ms since 1970.
    pub at_ms: u64,
}

/// What a running store is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// `embedded` or `etcd`.
    pub kind: &'static str,
    /// Its file, or members and prefix of its etcd.
    pub place: String,
    /// What it is called.
    pub identity: Identity,
    /// Where its content came from, if it began elsewhere.
    pub origin: Option<String>,
    /// The stores whose place it takes at its nodes.
    pub takes: Vec<StoreId>,
}

/// What is found at a place from which no controller of ours leads at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// `None`: no store yet.
    pub identity: Option<Identity>,
    /// Highest term that was led with.
    pub term: u64,
    /// How many namespaces there are.
    pub namespaces: usize,
    /// How many clusters.
    pub clusters: usize,
    /// It was given up.
    pub given_up: Option<GivenUp>,
    /// An import into it has begun and not ended: what it holds is not whole.
    pub is_filling: bool,
    /// The store whose import that is; `None` where an earlier version began it.
    pub filling_of: Option<Identity>,
}

/// What begins at a new place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    /// What it is called from then on.
    pub identity: Identity,
    /// Every controller of it has a higher term.
    pub term: u64,
    /// Where it came from, for people.
    pub origin: String,
    /// The stores that have led its nodes, as far as they told: it takes their place.
    pub takes: Vec<StoreId>,
}

/// All that a store holds, of one moment. With secrets, which are opened: passwords of nodes,
/// tokens of balancers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The format of the store it was made from.
    pub format: u64,
    /// Of the store.
    pub identity: Identity,
    /// Highest term that was led with.
    pub term: u64,
    /// Where it was made, for people.
    pub from: String,
    /// Ms since 1970.
    pub made_at_ms: u64,
    /// Sorted.
    pub namespaces: Vec<String>,
    /// Every cluster of every namespace.
    pub clusters: Vec<Record>,
    /// Documents of users by their names, carried as they are.
    #[serde(default)]
    pub users: BTreeMap<String, Value>,
    /// Both logs, by number.
    pub events: Vec<Event>,
}

/// Why a text is no export that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It begins otherwise.
    #[error("it is no export of a store")]
    NoExport,
    /// Of another version of this form.
    #[error(
        "it is an export of version {0}, this program reads version {VERSION}; use the program that wrote it, or a later one"
    )]
    Version(String),
    /// Its content is not what was written.
    #[error("its checksum is wrong: it was changed, or cut off")]
    Sum,
    /// It is what was written, and still cannot be read.
    #[error("read its content")]
    Content(#[from] serde_json::Error),
    /// Secrets in it are sealed, and do not open here.
    #[error("{what}: {why}")]
    Locked {
        /// Which secrets.
        what: String,
        /// Why not.
        why: Locked,
    },
    /// Its store has a later format.
    #[error(
        "it is of a store of format {0}, this program knows formats up to {FORMAT}; use the program that wrote it, or a later one"
    )]
    Newer(u64),
}

/// How the text begins.
const HEAD: &str = "holdfast-store-export";
/// Of the form of the text.
const VERSION: &str = "1";
/// The field of all records.
const CLUSTERS: &str = "clusters";

impl Export {
    /// As a file: one line with version and SHA-256 of the rest, then one line of JSON. Secrets in
    /// it are in clear.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn text(&self) -> Result<String, StoreError> {
        self.text_with(&Keys::default())
    }

    /// The same with its secrets sealed by the first of these keys, if there is one.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn text_with(&self, keys: &Keys) -> Result<String, StoreError> {
        let mut body = match keys.sealing() {
            None => serde_json::to_string(self).map_err(failed("encode the export"))?,
            Some(_) => self.sealed(keys)?.to_string(),
        };
        body.push('\n');
        Ok(format!("{HEAD} {VERSION} {}\n{body}", sum(&body)))
    }

    fn sealed(&self, keys: &Keys) -> Result<Value, StoreError> {
        let mut clusters = Vec::new();
        for record in &self.clusters {
            let text = sealed::text(record, keys)?;
            let cluster = serde_json::from_str(&text).map_err(failed("encode a cluster"))?;
            clusters.push(cluster);
        }
        let mut body = serde_json::to_value(self).map_err(failed("encode the export"))?;
        body[CLUSTERS] = Value::Array(clusters);
        Ok(body)
    }

    /// Whether it has a secret.
    pub fn has_secrets(&self) -> bool {
        self.clusters.iter().any(sealed::has_secrets)
    }

    /// Reads such a text, with its secrets in clear.
    ///
    /// # Errors
    /// It is none, or not whole, or of a later version; secrets in it are sealed.
    pub fn parse(text: &str) -> Result<Self, ExportError> {
        Self::parse_with(text, &Keys::default())
    }

    /// Reads such a text, and opens what is sealed in it.
    ///
    /// # Errors
    /// As [`Export::parse`], where it does not open with these keys.
    pub fn parse_with(text: &str, keys: &Keys) -> Result<Self, ExportError> {
        let mut body = body_of(text)?;
        for cluster in body[CLUSTERS].as_array_mut().into_iter().flatten() {
            match sealed::record(cluster.to_string().as_bytes(), keys) {
                Ok(record) => *cluster = serde_json::to_value(record)?,
                Err(StoreError::Locked { what, why }) => {
                    return Err(ExportError::Locked { what, why });
                }
                // What it is is found out below.
                Err(_) => {}
            }
        }
        let export: Self = serde_json::from_value(body)?;
        if export.format > FORMAT {
            return Err(ExportError::Newer(export.format));
        }
        Ok(export)
    }

    /// Whether both hold the same clusters, tags included, and users; logs may be kept for
    /// different times.
    pub fn has_the_content_of(&self, other: &Self) -> bool {
        let sorted = |export: &Self| {
            let mut clusters = export.clusters.clone();
            clusters.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
            clusters
        };
        (&self.namespaces, &self.users) == (&other.namespaces, &other.users)
            && sorted(self) == sorted(other)
    }
}

/// How the secrets of each cluster lie in the text of an export.
///
/// # Errors
/// It is none, or not whole.
pub fn held_in(text: &str) -> Result<Vec<Held>, ExportError> {
    let body = body_of(text)?;
    let clusters = body[CLUSTERS].as_array().into_iter().flatten();
    let held = clusters.map(|cluster| sealed::held(cluster.to_string().as_bytes()));
    Ok(held.filter_map(Result::ok).collect())
}

/// The second line of an export, if it is what was written.
fn body_of(text: &str) -> Result<Value, ExportError> {
    let (head, body) = text.split_once('\n').ok_or(ExportError::NoExport)?;
    let mut words = head.split(' ');
    if words.next() != Some(HEAD) {
        return Err(ExportError::NoExport);
    }
    match words.next() {
        Some(VERSION) => {}
        other => return Err(ExportError::Version(other.unwrap_or("none").to_owned())),
    }
    if words.next() != Some(&*sum(body)) {
        return Err(ExportError::Sum);
    }
    let body: Value = serde_json::from_str(body)?;
    match body.is_object() {
        true => Ok(body),
        false => Err(ExportError::NoExport),
    }
}

fn sum(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::test_record;

    fn export() -> Export {
        let record = Record { password: Some("s3cret".to_owned()), tag: u64::MAX, ..test_record() };
        Export {
            format: FORMAT,
            identity: Identity { name: "00000000000000ab".to_owned(), generation: 3 },
            term: 7,
            from: "a file".to_owned(),
            made_at_ms: 1,
            namespaces: vec!["n".to_owned()],
            clusters: vec![record],
            users: BTreeMap::from([("deploy".to_owned(), serde_json::json!({ "hash": "ab" }))]),
            events: vec![Event::now(7, "n/c".to_owned(), "failover", "ä\nb".to_owned())],
        }
    }

    #[test]
    fn an_export_is_read_back_as_it_was() {
        let export = export();
        let text = export.text().expect("a text");
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("s3cret"), "a store that is built from it reaches the nodes");
        let read = Export::parse(&text).expect("an export");
        assert_eq!(read, export);
        assert!(read.has_the_content_of(&export));
        let other = Export { namespaces: Vec::new(), ..read };
        assert!(!other.has_the_content_of(&export));
    }

    #[test]
    fn a_sealed_export_shows_no_secret_and_needs_its_key() {
        let keys =
            |()| Keys::parse(&crate::seal::grown("", false).expect("a key").0).expect("keys");
        let (own, other) = (keys(()), keys(()));
        let export = export();
        assert!(export.has_secrets());
        let text = export.text_with(&own).expect("a text");
        assert!(!text.contains("s3cret"), "{text}");
        assert_eq!(Export::parse_with(&text, &own).expect("an export"), export);
        for keys in [Keys::default(), other] {
            let error = Export::parse_with(&text, &keys).expect_err("locked").to_string();
            assert!(error.starts_with("the secrets of cluster n/c: sealed with key"), "{error}");
        }
        // One in clear is read whatever keys there are, and each says what it is.
        let clear = export.text().expect("a text");
        assert_eq!(Export::parse_with(&clear, &own).expect("an export"), export);
        let has = |text: &str| held_in(text).expect("an export").pop().expect("a cluster").has;
        assert_eq!(has(&clear), sealed::Has::Clear);
        assert_eq!(has(&text), sealed::Has::Sealed(own.sealing().expect("a key").to_owned()));
    }

    #[test]
    fn what_was_changed_cut_off_or_is_of_a_later_version_is_refused() {
        let text = export().text().expect("a text");
        let refused = |text: &str| Export::parse(text).expect_err("no export");
        let cut: String = text.chars().take(text.chars().count() - 9).collect();
        assert!(matches!(refused(&cut), ExportError::Sum));
        assert!(matches!(refused(&text.replace("s3cret", "s4cret")), ExportError::Sum));
        assert!(matches!(refused("{}"), ExportError::NoExport));
        assert!(matches!(refused("{}\n{}"), ExportError::NoExport));
        let later = text.replacen(" 1 ", " 2 ", 1);
        assert!(matches!(refused(&later), ExportError::Version(version) if version == "2"));
        let later = Export { format: FORMAT + 1, ..export() }.text().expect("a text");
        assert!(matches!(refused(&later), ExportError::Newer(_)));
    }
}
