//! `PSYNC`: its arguments, and whether the WAL here continues the replica's.

use crate::ReplicationId;
use crate::history::{Fork, History, Position, fork};
use crate::number::decimal;

/// A parsed `PSYNC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The history the replica holds, if it says.
    pub replication_id: Option<ReplicationId>,
    /// Sequence it wants first.
    pub next: u64,
}

/// Why there is no partial sync. The text is what follows `-ERR `.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No argument.
    #[error("wrong number of arguments")]
    Arity,
    /// The position is not a number.
    #[error("value is not an unsigned long long or out of range")]
    NotANumber,
    /// The id has not 16 characters.
    #[error("Wrong replication id length")]
    IdLength,
    /// The WAL has another history before that position.
    #[error("wrong replication id of the last log")]
    OtherHistory,
    /// The WAL has nothing that begins there.
    #[error("sequence out of range, please use fullsync")]
    OutOfRange,
}

/// Reads the arguments behind `PSYNC`. As Kvrocks does: two arguments are id and position; with
/// more, the first is the position.
pub fn parse(args: &[&[u8]]) -> Result<Request, Refusal> {
    let (id, next) = match args {
        [] => return Err(Refusal::Arity),
        [id, next] => (Some(*id), *next),
        [next, ..] => (None, *next),
    };
    let next = decimal(next).ok_or(Refusal::NotANumber)?;
    let replication_id = match id {
        Some(id) => Some(ReplicationId::try_from(id).map_err(|_| Refusal::IdLength)?),
        None => None,
    };
    Ok(Request { replication_id, next })
}

/// What the database knows about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Newest sequence written.
    pub latest: u64,
    /// Replication id recorded in the WAL for the batch that holds `next - 1`; `None` if ids are
    /// off here (`use-rsid-psync no`) or the WAL has no such batch.
    pub id_before: Option<ReplicationId>,
    /// Sequence at which the first batch begins that the WAL returns when opened at `next`.
    /// Needed only if [`Request::is_in_wal`].
    pub wal_batch: Option<u64>,
}

/// May a replica that said `theirs` of itself go on at `request.next` in a database at `mine`?
/// Histories are compared on both sides: between the replica's look and its `PSYNC`, the master's
/// may have changed.
///
/// The same for lineages, where both tell one and no grant orders what is written here
/// (`is_granted`).
pub fn continues(
    request: Request,
    (theirs, their_lineage): (&Position, Option<&History>),
    (mine, my_lineage): (&Position, &History),
    is_granted: bool,
) -> bool {
    let lineage = their_lineage.filter(|lineage| !is_granted && !lineage.is_empty());
    let is_other = |lineage: &History| {
        let at = |history: &History, latest| Position { history: history.clone(), latest };
        fork(&at(lineage, theirs.latest), &at(my_lineage, mine.latest)) != Fork::Same
    };
    if lineage.is_some_and(is_other) {
        return false;
    }
    if theirs.history.is_empty() && mine.history.is_empty() {
        return true;
    }
    theirs.latest.checked_add(1) == Some(request.next) && fork(theirs, mine) == Fork::Same
}

impl Request {
    /// Does the answer depend on what the WAL holds at `next`?
    pub fn is_in_wal(&self, latest: u64) -> bool {
        self.next > 0 && self.next <= latest
    }

    /// Accepts a replica whose next batch is one this master has or will write next.
    pub fn decide(&self, facts: Facts) -> Result<(), Refusal> {
        if let (Some(theirs), Some(ours)) = (self.replication_id, facts.id_before)
            && theirs != ours
        {
            return Err(Refusal::OtherHistory);
        }
        if facts.latest.checked_add(1) == Some(self.next) {
            return Ok(());
        }
        let begins_there = facts.wal_batch == Some(self.next);
        if self.is_in_wal(facts.latest) && begins_there { Ok(()) } else { Err(Refusal::OutOfRange) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        let args: Vec<&[u8]> = line.split(' ').skip(1).map(str::as_bytes).collect();
        parse(&args).map_err(|e| e.to_string())
    }

    /// Every `PSYNC` in the recorded probes of two masters is decided as Kvrocks did.
    #[test]
    fn recorded_probes() {
        let text = include_str!("../../testdata/kvrocks/replication_probes.txt");
        let mut latest = 411;
        let mut seen = 0;
        for line in text.lines() {
            if line.starts_with("# second server") {
                latest = 6;
            }
            if !line.starts_with("PSYNC") {
                continue;
            }
            let (command, answer) = match line.split_once(" -> ") {
                Some(both) => both,
                None => line.split_once(" b'").unwrap(),
            };
            // Batches of the first server begin at 1, 2, 4, 5 …, those of the second at 1, 4, 5.
            let begins = |next: u64| match next {
                1 | 2 | 4 if latest == 411 => Some(next),
                1 | 4 | 5 => Some(next),
                _ => Some(1),
            };
            let verdict = parsed(command).and_then(|request| {
                let wal_batch = begins(request.next);
                let facts = Facts { latest, id_before: None, wal_batch };
                request.decide(facts).map_err(|e| e.to_string())
            });
            match verdict {
                Ok(()) => assert!(answer.starts_with("+OK\\r\\n"), "{line}"),
                Err(text) => {
                    assert!(answer.starts_with(&format!("-ERR {text}\\r\\n")), "{line}: {text}")
                }
            }
            seen += 1;
        }
        assert_eq!(seen, 18);
    }

    #[test]
    fn another_history_is_refused_where_it_can_be_seen() {
        let request = parsed("PSYNC AAAAAAAAAAAAAAAA 7").unwrap();
        let facts = |id_before| Facts { latest: 6, id_before, wal_batch: None };
        assert_eq!(request.decide(facts(Some(*b"BBBBBBBBBBBBBBBB"))), Err(Refusal::OtherHistory));
        assert_eq!(request.decide(facts(Some(*b"AAAAAAAAAAAAAAAA"))), Ok(()));
        assert_eq!(request.decide(facts(None)), Ok(()));
    }

    #[test]
    fn a_history_is_looked_at_once_more() {
        let position = |text: &str| Position::parse(text.as_bytes()).unwrap();
        let at = |next: u64| parsed(&format!("PSYNC {next}")).unwrap();
        let mine = position("9;1:0000000000000001:1:0,2:0000000000000002:6:0");
        let theirs = position("5;1:0000000000000001:1:0");
        let none = History::default();
        let continues = |request, theirs: &Position, mine: &Position| {
            super::continues(request, (theirs, None), (mine, &none), false)
        };
        assert!(continues(at(6), &theirs, &mine));
        assert!(!continues(at(5), &theirs, &mine), "not what it said");
        assert!(!continues(at(7), &position("6;1:0000000000000001:1:0"), &mine), "parted");
        assert!(!continues(at(6), &position("5;-"), &mine), "without history");
        assert!(continues(at(3), &position("5;-"), &position("9;-")), "no epochs at all");
    }

    #[test]
    fn a_lineage_is_looked_at_once_more() {
        let position = |text: &str| Position::parse(text.as_bytes()).unwrap();
        let lineage = |text: &str| History::parse(text.as_bytes()).unwrap();
        let (theirs, mine) = (position("5;-"), position("9;-"));
        let own = lineage("1:0000000000000001:1:0,2:0000000000000002:5:0");
        let (part, other) = (lineage("1:0000000000000001:1:0"), lineage("1:0000000000000009:1:0"));
        let at = |theirs: &Position, lineage, is_granted| {
            let request = parsed(&format!("PSYNC {}", theirs.latest + 1)).unwrap();
            continues(request, (theirs, lineage), (&mine, &own), is_granted)
        };
        assert!(at(&position("4;-"), Some(&part), false));
        assert!(at(&theirs, Some(&own), false));
        assert!(!at(&theirs, Some(&part), false), "it has a record of another writer");
        assert!(at(&theirs, Some(&part), true), "a grant orders it");
        assert!(!at(&theirs, Some(&other), false));
        assert!(at(&theirs, Some(&History::default()), false), "nothing is known of it");
    }

    #[test]
    fn the_largest_number_does_not_overflow() {
        let request = parsed("PSYNC 18446744073709551615").unwrap();
        let facts = Facts { latest: u64::MAX, id_before: None, wal_batch: None };
        assert_eq!(request.decide(facts), Err(Refusal::OutOfRange));
        assert_eq!(
            parsed("PSYNC 18446744073709551616").unwrap_err(),
            Refusal::NotANumber.to_string()
        );
    }
}
