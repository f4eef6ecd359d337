//! Why a grant is refused.

use api::grant::{EpochId, Member};

use crate::history::Position;

/// Why a grant contradicts what this node has: the controller's record is not the newest, or not of
/// this data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A lower epoch than one that was held or is in the database.
    #[error("epoch {got} is older than {known}")]
    OlderEpoch {
        /// What came.
        got: u64,
        /// The newest known.
        known: u64,
    },
    /// The same number, opened by somebody else.
    #[error("epoch {epoch} has the id {known} here, not {got}")]
    OtherId {
        /// The number.
        epoch: u64,
        /// What came.
        got: EpochId,
        /// What is known.
        known: EpochId,
    },
    /// The epoch was opened before and is not held any more: an earlier process, or before a
    /// demotion.
    #[error("epoch {0} was opened before and given up: a new one is needed")]
    GivenUp(u64),
    /// Data is missing here.
    #[error("this node lacks sequence {sequence} of epoch {id}: it has {position:?}")]
    Lacks {
        /// What must be there.
        sequence: u64,
        /// Of which epoch, `-` for none.
        id: String,
        /// What is there.
        position: Position,
    },
    /// The set names other data than what is here.
    #[error("{0} is no member of the set")]
    NoMember(Member),
    /// The set is no request of this process.
    #[error("request {0} of this epoch was not made here")]
    UnknownRequest(u64),
    /// The request named others.
    #[error("request {0} of this epoch named other members")]
    OtherMembers(u64),
}
