//! Who leads among several controllers, and for how long (rule R8).
//!
//! Invariant: a term is durably higher than every earlier one before anything is done in it. What a
//! leader may conclude ends with its authority: the planner is told, and stops.

use planner::Time;

use crate::store::Store;

/// The leadership of this process.
pub(crate) trait Election: std::fmt::Debug + Send + Sync {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Shared, authority};

    #[derive(Debug)]
    struct Bounded(Time);

    impl Election for Bounded {
        fn term(&self) -> u64 {
            7
        }

        fn leads_until(&self) -> Option<Time> {
            Some(self.0)
        }
    }

    fn store(dir: &tempfile::TempDir) -> Store {
        Store::open(&dir.path().join("store"), 0).expect("a new store")
    }

    #[test]
    fn the_embedded_store_leads_for_ever_in_a_higher_term_each_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = store(&dir);
        let term = Election::term(&first);
        assert_eq!(first.leads_until(), None);
        drop(first);
        assert!(Election::term(&store(&dir)) > term);
    }

    #[test]
    fn plans_are_made_with_the_authority_of_the_election() {
        let dir = tempfile::tempdir().expect("a folder");
        let shared = Shared::new(store(&dir), planner::Policy::default());
        assert_eq!(authority(&shared).1, None);
        let until = shared.now().plus_millis(300);
        let shared = shared.elected_by(Box::new(Bounded(until)));
        assert_eq!(authority(&shared), (7, Some(until)));
    }
}
