//! Who leads among several controllers, and for how long (rule R8).
//!
//! Invariant: a term is durably higher than every earlier one before anything is done in it. What a
//! leader may conclude ends with its authority: the planner is told, and stops.

use planner::Time;

use crate::store::Store;

/// The leadership of this process.
pub trait Election: std::fmt::Debug + Send + Sync {
    /// The term it leads in.
    fn term(&self) -> u64;

    /// Until when nobody else can lead, on this process's clock; `None` for ever.
    fn leads_until(&self) -> Option<Time>;
}

/// The embedded store's file is locked by one process, and each start is a term of its own.
impl Election for Store {
    fn term(&self) -> u64 {
        Self::term(self)
    }

    fn leads_until(&self) -> Option<Time> {
        None
    }
}
