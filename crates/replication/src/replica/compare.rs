//! What a replica does once it knows its master's epoch history (rule R11).
//!
//! Nothing is discarded, and nothing of a deposed master is taken for its successor's, before the
//! master has opened an epoch of its own behind the common one: until then the common epoch may
//! still grow there.

use crate::answer::{Answer, Granted};
use crate::history::{Fork, Position, common, fork};
use crate::lineage::{Lineage, Source};

/// See [`judge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The master has everything that is here: partial sync.
    Continue,
    /// What is behind this sequence the master has not: cut it off.
    Rewind(u64),
    /// The master must open its epoch first.
    Wait,
    /// The data here is of this epoch, and the master shows no grant of it or a later one: nothing
    /// is given up for it.
    NoGrant(u64),
    /// The node was a master and nothing can be compared: copy.
    Required,
    /// Nothing here is known to be the master's: copy. Why, for the log.
    Parted(&'static str),
}

/// This node's data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mine<'a> {
    pub(super) position: &'a Position,
    pub(super) lineage: &'a Lineage,
    /// This node was a master under an older topology.
    pub(super) is_deposed: bool,
    /// The data is known to be of no use.
    pub(super) is_spoilt: bool,
}

/// Compares this node's data with its master's.
pub(super) fn judge(mine: Mine<'_>, theirs: &Answer) -> Verdict {
    if let Some(newest) = mine.position.history.newest().filter(|newest| !theirs.shows(newest)) {
        return Verdict::NoGrant(newest.epoch);
    }
    if mine.is_spoilt {
        return Verdict::Required;
    }
    match by_epochs(mine.position, &theirs.position, mine.is_deposed) {
        // A grant orders everything within its epoch; without one nodes may have been made masters
        // by hand.
        Verdict::Continue if !matches!(theirs.granted, Granted::Epoch(_)) => {
            by_lineage(mine, theirs)
        }
        verdict => verdict,
    }
}

fn by_epochs(mine: &Position, theirs: &Position, is_deposed: bool) -> Verdict {
    if mine.history.is_empty() && theirs.history.is_empty() {
        // No epoch was ever opened: what Kvrocks does, with a copy where that is known to be
        // unsound.
        return if is_deposed { Verdict::Required } else { Verdict::Continue };
    }
    let is_closed = is_closed(mine, theirs);
    match fork(mine, theirs) {
        Fork::None => Verdict::Parted("no epoch in common"),
        Fork::Same if is_closed || !is_deposed || mine.latest == 0 => Verdict::Continue,
        Fork::At(sequence) if is_closed => Verdict::Rewind(sequence),
        Fork::Same | Fork::At(_) => Verdict::Wait,
    }
}

/// The master's end of the common epoch is final once another epoch follows there.
fn is_closed(mine: &Position, theirs: &Position) -> bool {
    let newest = theirs.history.newest();
    common(&mine.history, &theirs.history)
        .is_some_and(|entry| newest.is_some_and(|newest| !newest.is_same(entry)))
}

/// Nothing was granted: the lineages tell whether the master has the data here.
fn by_lineage(mine: Mine<'_>, theirs: &Answer) -> Verdict {
    let Some(lineage) = &theirs.lineage else { return by_epochs_alone(mine, &theirs.position) };
    match mine.lineage.fork(mine.position.latest, lineage, theirs.position.latest) {
        None | Some(Fork::Same) => Verdict::Continue,
        Some(Fork::At(_)) => Verdict::Parted("records here were not written by the master"),
        Some(Fork::None) => Verdict::Parted("the data here is not known to be the master's"),
    }
}

/// A master of an earlier version tells neither grant nor lineage. Its epochs prove what this node
/// wrote in an epoch of its own, one that begins in the same stretch, once it is closed there:
/// nobody else wrote in it. A stretch that begins within an epoch was written by hand, and in an
/// epoch that goes on at the master another node writes by hand: no epoch vouches for those.
fn by_epochs_alone(mine: Mine<'_>, theirs: &Position) -> Verdict {
    let Position { history, latest } = mine.position;
    let stretch = mine.lineage.stretch(*latest);
    let is_of_epoch = history
        .newest()
        .is_some_and(|newest| stretch.is_none_or(|(first, _)| first <= newest.first));
    match is_of_epoch && is_closed(mine.position, theirs) {
        true => Verdict::Continue,
        false => by_source(mine),
    }
}

/// Nothing can be compared: Kvrocks' way, but for what this node wrote as a master.
fn by_source(mine: Mine<'_>) -> Verdict {
    let latest = mine.position.latest;
    let is_own = latest > 0 && mine.lineage.source(latest) == Some(Source::Own);
    if is_own { Verdict::Required } else { Verdict::Continue }
}

/// The same for a master that knows no histories. `is_proven`: one such was streamed from since
/// this machine began.
pub(super) fn judge_unknown(mine: Mine<'_>, is_proven: bool) -> Verdict {
    // Data of such masters may hold the records of epochs: they were replicas once.
    let is_theirs = is_proven || mine.lineage.source(mine.position.latest) == Some(Source::Foreign);
    match mine.position.history.newest() {
        Some(newest) if !is_theirs => Verdict::NoGrant(newest.epoch),
        _ if mine.is_deposed || mine.is_spoilt => Verdict::Required,
        _ => by_source(mine),
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

    /// A master that is granted the newest epoch it has.
    fn granted(position: &Position) -> Answer {
        let newest = position.history.newest();
        let granted = newest.map_or(Granted::None, |newest| Granted::Epoch(newest.epoch));
        let lineage = Some(History::default());
        Answer { position: position.clone(), granted, lineage, cluster: None }
    }

    fn mine<'a>(position: &'a Position, lineage: &'a Lineage, is_deposed: bool) -> Mine<'a> {
        Mine { position, lineage, is_deposed, is_spoilt: false }
    }

    fn judged(own: &Position, theirs: &Position, is_deposed: bool) -> Verdict {
        judge(mine(own, &Lineage::default(), is_deposed), &granted(theirs))
    }

    fn by(entries: &[(u64, u64, Source)]) -> Lineage {
        let mut lineage = Lineage::default();
        for (id, first, source) in entries {
            lineage.begin(first - 1, EpochId::from_random(*id), 0, *source);
        }
        lineage
    }

    #[test]
    fn a_deposed_master_rewinds_only_behind_its_successors_epoch() {
        let successor = position(&[(1, 1), (2, 61)], 80);
        assert_eq!(judged(&position(&[(1, 1)], 70), &successor, true), Verdict::Rewind(60));
        assert_eq!(judged(&position(&[(1, 1)], 60), &successor, true), Verdict::Continue);
        let not_yet = position(&[(1, 1)], 60);
        assert_eq!(judged(&position(&[(1, 1)], 70), &not_yet, true), Verdict::Wait);
        assert_eq!(judged(&position(&[(1, 1)], 60), &not_yet, true), Verdict::Wait);
        // Wiped: there is nothing that could be wrong.
        assert_eq!(judged(&position(&[], 0), &successor, true), Verdict::Continue);
    }

    #[test]
    fn a_replica_goes_on_in_the_same_epoch_unless_it_is_ahead() {
        let master = position(&[(1, 1)], 60);
        assert_eq!(judged(&position(&[(1, 1)], 50), &master, false), Verdict::Continue);
        assert_eq!(judged(&position(&[(1, 1)], 70), &master, false), Verdict::Wait);
        let successor = position(&[(1, 1), (2, 61)], 80);
        assert_eq!(judged(&position(&[(1, 1)], 70), &successor, false), Verdict::Rewind(60));
        let parted = Verdict::Parted("no epoch in common");
        assert_eq!(judged(&position(&[], 5), &master, false), parted);
        // Another history that was granted later: an operator has let it go on.
        let later = position(&[(8, 1)], 60);
        assert_eq!(judged(&position(&[(7, 1)], 60), &later, false), parted);
    }

    #[test]
    fn nothing_is_given_up_for_a_master_that_shows_no_grant() {
        let own = position(&[(1, 1), (4, 61)], 70);
        let none = Lineage::default();
        for is_deposed in [false, true] {
            for is_spoilt in [false, true] {
                let own = Mine { is_spoilt, ..mine(&own, &none, is_deposed) };
                for theirs in [
                    // Empty: its disk was lost, its folder is not the one it was, or it never was
                    // of this cluster.
                    position(&[], 0),
                    // Filled by hand.
                    position(&[], 900),
                    // An older copy of the folder; a rewind to its end would be possible.
                    position(&[(1, 1)], 60),
                    // Of another cluster, whose epochs are older.
                    position(&[(3, 1)], 900),
                ] {
                    for granted in [Granted::None, Granted::Untold, Granted::Epoch(3)] {
                        let position = theirs.clone();
                        let answer = Answer { position, granted, lineage: None, cluster: None };
                        assert_eq!(judge(own, &answer), Verdict::NoGrant(4), "{answer}");
                    }
                }
                assert_eq!(judge_unknown(own, false), Verdict::NoGrant(4));
            }
        }
        // A copy of later epochs counts once its process is granted one.
        let later = Answer { granted: Granted::None, ..granted(&position(&[(1, 1), (5, 50)], 60)) };
        assert_eq!(judge(mine(&own, &none, false), &later), Verdict::NoGrant(4));
        let later = Answer { granted: Granted::Epoch(6), ..later };
        assert_eq!(judge(mine(&own, &none, false), &later), Verdict::Rewind(49));
    }

    #[test]
    fn without_epochs_all_is_as_it_was() {
        let (own, theirs) = (position(&[], 9), position(&[], 20));
        assert_eq!(judged(&own, &theirs, false), Verdict::Continue);
        assert_eq!(judged(&own, &theirs, true), Verdict::Required);
        let none = Lineage::default();
        assert_eq!(judge_unknown(mine(&own, &none, false), false), Verdict::Continue);
        assert_eq!(judge_unknown(mine(&own, &none, true), true), Verdict::Required);
        // Data of Kvrocks with records of epochs: it was a replica once.
        let own = position(&[(1, 1)], 9);
        assert_eq!(judge_unknown(mine(&own, &none, false), true), Verdict::Continue);
        let foreign = by(&[(5, 1, Source::Foreign)]);
        assert_eq!(judge_unknown(mine(&own, &foreign, false), false), Verdict::Continue);
    }

    #[test]
    fn own_writes_are_never_taken_for_the_masters() {
        let own = position(&[], 71);
        let wrote = by(&[(1, 1, Source::Master), (9, 71, Source::Own)]);
        let parted = Verdict::Parted("records here were not written by the master");
        let answer = |entries: &[(u64, u64, Source)], latest| Answer {
            position: position(&[], latest),
            granted: Granted::None,
            lineage: Some(by(entries).history()),
            cluster: None,
        };
        let former = answer(&[(1, 1, Source::Own)], 500);
        assert_eq!(judge(mine(&own, &wrote, false), &former), parted);
        assert_eq!(
            judge(mine(&own, &by(&[(1, 1, Source::Master)]), false), &former),
            Verdict::Continue
        );
        // Promoted, but nothing was written.
        assert_eq!(judge(mine(&position(&[], 70), &wrote, false), &former), Verdict::Continue);
        // A master that keeps no lineage, of either kind.
        let older = Answer { lineage: None, ..former.clone() };
        assert_eq!(judge(mine(&own, &wrote, false), &older), Verdict::Required);
        assert_eq!(judge_unknown(mine(&own, &wrote, false), true), Verdict::Required);
        // A master nobody here has ever heard of.
        let stranger = Verdict::Parted("the data here is not known to be the master's");
        assert_eq!(
            judge(mine(&own, &wrote, false), &answer(&[(7, 1, Source::Own)], 500)),
            stranger
        );
        // Within one epoch, where nodes are made masters by hand.
        let (epoch, theirs) = (position(&[(1, 1)], 71), position(&[(1, 1)], 90));
        let by_hand = Answer { position: theirs, ..former };
        assert_eq!(judge(mine(&epoch, &wrote, false), &by_hand), parted);
        let under_a_grant = Answer { granted: Granted::Epoch(1), ..by_hand };
        assert_eq!(judge(mine(&epoch, &wrote, false), &under_a_grant), Verdict::Continue);
    }

    /// A rolling upgrade: the master is of a version that tells neither grants nor a lineage.
    #[test]
    fn what_was_written_in_an_epoch_of_its_own_is_compared_by_epochs_alone() {
        let granted = Granted::Untold;
        let untold = |position| Answer { position, granted, lineage: None, cluster: None };
        let successor = untold(position(&[(1, 1), (2, 61)], 80));
        let (short, long) = (position(&[(1, 1)], 60), position(&[(1, 1)], 70));
        // The granted master of epoch 1; it may have begun to write before the epoch was opened.
        let wrote = by(&[(7, 1, Source::Own)]);
        for is_deposed in [false, true] {
            assert_eq!(judge(mine(&short, &wrote, is_deposed), &successor), Verdict::Continue);
            assert_eq!(judge(mine(&long, &wrote, is_deposed), &successor), Verdict::Rewind(60));
        }
        // It started anew, or was promoted by hand, and wrote within the epoch.
        let by_hand = by(&[(7, 1, Source::Own), (8, 41, Source::Own)]);
        assert_eq!(judge(mine(&short, &by_hand, false), &successor), Verdict::Required);
        let promoted = by(&[(7, 1, Source::Master), (8, 41, Source::Own)]);
        assert_eq!(judge(mine(&short, &promoted, false), &successor), Verdict::Required);
        // The other was: it goes on in this node's epoch.
        let same_epoch = untold(position(&[(1, 1)], 80));
        assert_eq!(judge(mine(&short, &wrote, false), &same_epoch), Verdict::Required);
        // A replica of both.
        let theirs = by(&[(7, 1, Source::Master)]);
        assert_eq!(judge(mine(&short, &theirs, false), &same_epoch), Verdict::Continue);
        assert_eq!(judge(mine(&short, &Lineage::default(), false), &same_epoch), Verdict::Continue);
    }
}
