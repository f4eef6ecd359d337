//! What is in a store.

use api::grant::{EpochId, Least, Member, Members};

/// The record, without what never changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stored {
    /// Rises with every write.
    pub revision: u64,
    /// Of the newest controller.
    pub term: u8,
    /// Of the topology.
    pub version: u8,
    /// The node that is master.
    pub master: u8,
    /// Number of the epoch.
    pub epoch: u64,
    /// Its id.
    pub id: EpochId,
    /// The process it is for.
    pub nonce: u64,
    /// What that must hold.
    pub least: Least,
    /// The version it was opened at.
    pub epoch_version: u8,
    /// Newest set that was taken over.
    pub request: u64,
    /// That set.
    pub members: Members,
    /// The switchover that is wanted.
    pub intent: Option<u8>,
    /// A predecessor that must be fenced first: node, version that demotes it, its data.
    pub fence: Option<(u8, u8, Option<Member>)>,
}

impl Stored {
    pub(crate) fn new() -> Self {
        Self {
            revision: 1,
            term: 0,
            version: 1,
            master: 0,
            epoch: 0,
            id: EpochId(0),
            nonce: 0,
            least: Least::default(),
            epoch_version: 0,
            request: 0,
            members: Members::default(),
            intent: None,
            fence: None,
        }
    }
}
