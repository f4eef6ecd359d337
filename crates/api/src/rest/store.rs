//! The controllers' store as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /store`: where the records of all clusters are kept, and who leads by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// `embedded` or `etcd`.
    pub kind: String,
    /// Its file, or members and prefix of its etcd.
    pub place: String,
    /// Random, 16 hexadecimal digits; stays with its content through export and import.
    pub name: String,
    /// How often that content was taken up anew, by import, migration or adoption; 1 at first.
    pub generation: u64,
    /// Form of what it holds.
    pub format: u64,
    /// Of the controller that leads; 0 before any did.
    pub term: u64,
    /// URL of that controller; none with an embedded store, which has only the one that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// What it takes on disk, bytes, at one member of an etcd; none if it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Namespaces in it; none if it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<usize>,
    /// Clusters that are looked after.
    pub clusters: usize,
    /// Where its content came from, if it began elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// What keeps it from its work now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// How secrets lie in it; none if it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing: Option<StoreSealing>,
}

/// How the secrets of clusters lie in the store. Keys are named by ids, which tell nothing of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSealing {
    /// Key that seals what is written from now on; none: it is written in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seals_with: Option<String>,
    /// Keys that the controller can open with.
    pub opens_with: Vec<String>,
    /// Clusters whose secrets are sealed, by the key.
    pub used: BTreeMap<String, usize>,
    /// Clusters whose secrets lie there in clear.
    pub in_clear: usize,
    /// Clusters whose secrets would lie there otherwise if they were written now.
    pub behind: usize,
}

/// The answer to `POST /store/reseal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreResealed {
    /// Key that seals; none: secrets are written in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seals_with: Option<String>,
    /// Clusters that were written anew.
    pub resealed: usize,
    /// `namespace/cluster` of those that are left as they were.
    pub left: Vec<String>,
}

/// `GET /store/export`: all of it, secrets sealed as in the store, or in clear where that is asked
/// for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreExport {
    /// What the file is to contain, as it is.
    pub file: String,
}
