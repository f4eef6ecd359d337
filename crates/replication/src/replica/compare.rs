//! What a replica does once it knows its master's epoch history (rule R11).
//!
//! Nothing is discarded, and nothing of a deposed master is taken for its successor's, before the master has opened an
//! epoch of its own behind the common one: until then the common epoch may still grow there.

use crate::history::{Fork, Position, common, fork};

/// See [`judge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The master has everything that is here: partial sync.
    Continue,
    /// What is behind this sequence the master has not: cut it off.
    Rewind(u64),
    /// The master must open its epoch first.
    Wait,
    /// The node was a master and nothing can be compared: copy.
    Required,
    /// Nothing here is known to be the master's: copy. Why, for the log.
    Parted(&'static str),
}

/// Compares this node's data with its master's. `is_deposed`: this node was a master under an older topology.
pub(super) fn judge(mine: &Position, theirs: &Position, is_deposed: bool) -> Verdict {
    if mine.history.is_empty() && theirs.history.is_empty() {
        // No epoch was ever opened: what Kvrocks does, with a copy where that is known to be unsound.
        return if is_deposed { Verdict::Required } else { Verdict::Continue };
    }
    let shared = common(&mine.history, &theirs.history);
    // The master's end of the common epoch is final once another epoch follows there.
    let is_closed = shared
        .is_some_and(|entry| theirs.history.newest().is_some_and(|newest| !newest.is_same(entry)));
    match fork(mine, theirs) {
        Fork::None => Verdict::Parted("no epoch in common"),
        Fork::Same if is_closed || !is_deposed || mine.latest == 0 => Verdict::Continue,
        Fork::At(sequence) if is_closed => Verdict::Rewind(sequence),
        Fork::Same | Fork::At(_) => Verdict::Wait,
    }
}

/// The same for a master that knows no histories. `is_proven`: it was streamed from since this machine began.
pub(super) fn judge_unknown(mine: &Position, is_deposed: bool, is_proven: bool) -> Verdict {
    if is_deposed {
        Verdict::Required
    } else if mine.history.is_empty() || is_proven {
        Verdict::Continue
    } else {
        Verdict::Parted("the master keeps no epochs, and the data here has some")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Entry, EpochId, History};

    fn position(epochs: &[(u64, u64)], latest: u64) -> Position {
        let mut history = History::default();
        for (epoch, first) in epochs {
            let id = EpochId::from_random(*epoch);
            history.push(Entry { epoch: *epoch, id, first: *first, wall_ms: 0 }).unwrap();
        }
        Position { history, latest }
    }

    #[test]
    fn a_deposed_master_rewinds_only_behind_its_successors_epoch() {
        let successor = position(&[(1, 1), (2, 61)], 80);
        assert_eq!(judge(&position(&[(1, 1)], 70), &successor, true), Verdict::Rewind(60));
        assert_eq!(judge(&position(&[(1, 1)], 60), &successor, true), Verdict::Continue);
        let not_yet = position(&[(1, 1)], 60);
        assert_eq!(judge(&position(&[(1, 1)], 70), &not_yet, true), Verdict::Wait);
        assert_eq!(judge(&position(&[(1, 1)], 60), &not_yet, true), Verdict::Wait);
        // Wiped: there is nothing that could be wrong.
        assert_eq!(judge(&position(&[], 0), &successor, true), Verdict::Continue);
    }

    #[test]
    fn a_replica_goes_on_in_the_same_epoch_unless_it_is_ahead() {
        let master = position(&[(1, 1)], 60);
        assert_eq!(judge(&position(&[(1, 1)], 50), &master, false), Verdict::Continue);
        assert_eq!(judge(&position(&[(1, 1)], 70), &master, false), Verdict::Wait);
        let successor = position(&[(1, 1), (2, 61)], 80);
        assert_eq!(judge(&position(&[(1, 1)], 70), &successor, false), Verdict::Rewind(60));
        let parted = Verdict::Parted("no epoch in common");
        assert_eq!(judge(&position(&[], 5), &master, false), parted);
        assert_eq!(judge(&position(&[(7, 1)], 60), &master, false), parted);
    }

    #[test]
    fn without_epochs_all_is_as_it_was() {
        let (mine, theirs) = (position(&[], 9), position(&[], 20));
        assert_eq!(judge(&mine, &theirs, false), Verdict::Continue);
        assert_eq!(judge(&mine, &theirs, true), Verdict::Required);
        assert_eq!(judge_unknown(&mine, false, false), Verdict::Continue);
        assert_eq!(judge_unknown(&mine, true, true), Verdict::Required);
        let mine = position(&[(1, 1)], 9);
        assert!(matches!(judge_unknown(&mine, false, false), Verdict::Parted(_)));
        assert_eq!(judge_unknown(&mine, false, true), Verdict::Continue);
    }
}
