//! What a node's database says of its past: the epochs in it, and where each begins.

use api::grant::{EpochId, Least};

/// An epoch in a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Opened {
    /// Its number.
    pub epoch: u64,
    /// Its random name.
    pub id: EpochId,
    /// Sequence number of the put that opened it.
    pub first: u64,
}

/// How far data goes. Ordered: the data with the higher epoch has more, whatever its sequence (rule
/// R2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    /// Newest epoch, 0 for none.
    pub epoch: u64,
    /// Newest sequence.
    pub sequence: u64,
}

/// A database's epochs, oldest first, and its newest sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct History<'a> {
    /// Oldest first.
    pub entries: &'a [Opened],
    /// Newest sequence.
    pub latest: u64,
}

impl History<'_> {
    /// The epoch that is being written.
    pub fn newest(&self) -> Option<Opened> {
        self.entries.last().copied()
    }

    /// How far the data goes.
    pub fn position(&self) -> Position {
        let epoch = self.newest().map_or(0, |newest| newest.epoch);
        Position { epoch, sequence: self.latest }
    }

    /// Newest sequence that is a part of the epoch `id`; `None` if that is not in here.
    ///
    /// A later epoch may have begun below the end of an earlier one elsewhere: the newest sequence
    /// alone would count its writes as theirs.
    pub fn end_of(&self, id: EpochId) -> Option<u64> {
        let at = self.entries.iter().position(|entry| entry.id == id)?;
        let next = self.entries.get(at + 1);
        Some(next.map_or(self.latest, |next| next.first.saturating_sub(1)))
    }

    /// Whether everything that `least` names is in here.
    pub fn holds(&self, least: Least) -> bool {
        let end = match least.id {
            Some(id) => self.end_of(id),
            // Before all epochs.
            None => {
                let first = self.entries.first();
                Some(first.map_or(self.latest, |first| first.first.saturating_sub(1)))
            }
        };
        // A sequence of 0 is in every database.
        end.is_some_and(|end| end >= least.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epochs_writes_do_not_stand_for_an_earlier_ones() {
        let entries = [
            Opened { epoch: 1, id: EpochId(11), first: 1 },
            Opened { epoch: 2, id: EpochId(22), first: 91 },
        ];
        let history = History { entries: &entries, latest: 120 };
        let needs = |id, sequence| history.holds(Least { id: Some(EpochId(id)), sequence });
        assert!(needs(11, 90) && needs(22, 120));
        assert!(!needs(11, 100), "91 to 100 of epoch 1 were lost here");
        assert!(!needs(22, 121) && !needs(33, 0));
        assert_eq!(history.position(), Position { epoch: 2, sequence: 120 });
        assert!(Position { epoch: 1, sequence: 500 } < history.position());
    }

    #[test]
    fn data_from_before_all_epochs_is_compared_by_its_sequence() {
        let old = History { entries: &[], latest: 50 };
        assert!(old.holds(Least { id: None, sequence: 50 }));
        assert!(!old.holds(Least { id: None, sequence: 51 }));
        let entries = [Opened { epoch: 1, id: EpochId(11), first: 41 }];
        let other = History { entries: &entries, latest: 60 };
        assert!(!other.holds(Least { id: None, sequence: 50 }), "41 to 50 are another history");
    }
}
