//! Where the entries of a stream went, and whom its group gave them to: an account that needs no
//! search.
//!
//! Pure. Entries are only added, so that the last read shows every id there ever was and its
//! element. An operation without an answer is given the benefit of the doubt. Which entry an
//! unanswered XREADGROUP took is not known, only that it was one.

use std::collections::{BTreeMap, HashMap};

use super::history::{Answer, Call, Record, id_text};
use super::queues::Wrong;

/// Entries that a text names.
const NAMED: usize = 10;
const LOST: &str = "lost write";
const TWICE: &str = "taken twice";
const ORDER: &str = "not linearizable";

/// What happened to an entry: positions in the history.
#[derive(Debug, Default)]
struct Course {
    /// XADD that answered its id.
    added: Option<usize>,
    /// XREADGROUP.
    taken: Vec<usize>,
    /// XAUTOCLAIM.
    claimed: Vec<usize>,
    /// XACK that acknowledged it.
    acked: Vec<usize>,
    /// XACK without an answer.
    may_be_acked: Vec<usize>,
    /// XACK that found nothing to acknowledge.
    refused: Vec<usize>,
    /// It is in the last XRANGE; in the last XPENDING.
    is_there: bool,
    is_pending: bool,
}

impl Course {
    fn given(&self) -> impl Iterator<Item = usize> {
        self.taken.iter().chain(&self.claimed).copied()
    }

    fn all(&self) -> Vec<usize> {
        let acks = [&self.acked, &self.may_be_acked, &self.refused].into_iter().flatten().copied();
        self.added.into_iter().chain(self.given()).chain(acks).collect()
    }
}

struct Account<'a> {
    /// In the order in which they were sent, without those that were refused.
    operations: Vec<(usize, &'a Record)>,
    /// By position in the history.
    by_index: HashMap<usize, &'a Record>,
    courses: BTreeMap<u64, Course>,
    /// The last XRANGE: ids in its order, and the element of each.
    stream: Vec<u64>,
    elements: HashMap<u64, u64>,
    /// Where it is in the history.
    end: usize,
    found: Vec<Wrong>,
}

/// Judges the operations of one stream; those from `last` on are the last reads.
pub fn account<'a>(
    operations: impl Iterator<Item = (usize, &'a Record)>,
    last: usize,
) -> Vec<Wrong> {
    let operations: Vec<_> = operations.filter(|(_, record)| record.may_have_effect()).collect();
    let end = operations.iter().find_map(|(index, record)| match (record.call, record.answer()) {
        (Call::Get, Some(Answer::Entries(entries))) if *index >= last => Some((*index, entries)),
        _ => None,
    });
    // A run that was stuck has no last reads, which is a finding already.
    let Some((end, entries)) = end else { return Vec::new() };
    let mut account = Account {
        by_index: operations.iter().copied().collect(),
        operations,
        courses: BTreeMap::new(),
        stream: entries.iter().map(|(id, _)| *id).collect(),
        elements: entries.iter().copied().collect(),
        end,
        found: Vec::new(),
    };
    account.write_down(last);
    account.stream_is_in_order();
    account.entries_are_there();
    account.reads_are_beginnings();
    account.order_of_calls();
    account.nothing_was_passed_over();
    account.group_gives_each_once();
    account.group_forgets_nothing();
    account.found
}

impl Account<'_> {
    fn write_down(&mut self, last: usize) {
        for id in &self.stream {
            self.courses.entry(*id).or_default().is_there = true;
        }
        for (index, record) in self.operations.clone() {
            match (record.call, record.answer()) {
                (Call::Enter(element), Some(Answer::Value(Some(id)))) => {
                    let before = self.of(*id).added.replace(index);
                    self.has_element(*id, element, index);
                    if let Some(before) = before {
                        let text = format!("two entries were given the id {}", id_text(*id));
                        self.wrong(ORDER, text, vec![before, index]);
                    }
                }
                (Call::Take(_) | Call::Claim(_), Some(Answer::Entries(entries))) => {
                    for (id, element) in entries {
                        self.has_element(*id, *element, index);
                        let course = self.of(*id);
                        match record.call {
                            Call::Take(_) => course.taken.push(index),
                            _ => course.claimed.push(index),
                        }
                    }
                }
                (Call::Ack(id), None) => self.of(id).may_be_acked.push(index),
                (Call::Ack(id), Some(Answer::Whether(true))) => self.of(id).acked.push(index),
                (Call::Ack(id), Some(_)) => self.of(id).refused.push(index),
                (Call::Pending, Some(Answer::Content(ids))) if index >= last => {
                    for id in ids {
                        self.of(*id).is_pending = true;
                    }
                }
                _ => {}
            }
        }
    }

    fn of(&mut self, id: u64) -> &mut Course {
        self.courses.entry(id).or_default()
    }

    fn record(&self, index: usize) -> Option<&Record> {
        self.by_index.get(&index).copied()
    }

    /// The first was answered before the second was sent.
    fn is_before(&self, one: usize, other: usize) -> bool {
        match (self.record(one), self.record(other)) {
            (Some(one), Some(other)) => one.answer().is_some() && one.ended < other.invoked,
            _ => false,
        }
    }

    fn wrong(&mut self, kind: &'static str, text: String, operations: Vec<usize>) {
        self.found.push(Wrong { kind, text, operations });
    }

    /// What an operation was told of an entry is what the last read says; that it is missing there
    /// is told once.
    fn has_element(&mut self, id: u64, element: u64, index: usize) {
        if let Some(other) = self.elements.get(&id).copied().filter(|other| *other != element) {
            let text = format!("{} was {element} and is {other}", id_text(id));
            self.wrong(ORDER, text, vec![index, self.end]);
        }
    }

    /// Tells of all entries with something wrong, in one finding.
    fn tell(&mut self, kind: &'static str, text: &str, is: impl Fn(&Self, &Course) -> bool) {
        let bad = self.courses.iter().filter(|(_, course)| is(self, course));
        let bad: Vec<(u64, Vec<usize>)> = bad.map(|(id, course)| (*id, course.all())).collect();
        if bad.is_empty() {
            return;
        }
        let names: Vec<String> = bad.iter().take(NAMED).map(|(id, _)| id_text(*id)).collect();
        let text = format!("{} {text}: {}", bad.len(), names.join(" "));
        self.wrong(kind, text, bad.into_iter().flat_map(|(_, operations)| operations).collect());
    }

    fn stream_is_in_order(&mut self) {
        if !self.stream.is_sorted_by(|one, other| one < other) {
            self.wrong(ORDER, "ids do not rise along the stream".to_owned(), vec![self.end]);
        }
        let sent: HashMap<u64, usize> = self.operations.iter().filter_map(entered).collect();
        let mut times: HashMap<u64, usize> = HashMap::new();
        for element in self.elements.values() {
            *times.entry(*element).or_default() += 1;
        }
        let twice = times.values().filter(|times| **times > 1).count();
        let strange = times.keys().filter(|element| !sent.contains_key(element)).count();
        if twice + strange > 0 {
            let text = format!("{twice} elements are there twice, {strange} were never sent");
            self.wrong(LOST, text, vec![self.end]);
        }
    }

    fn entries_are_there(&mut self) {
        self.tell(LOST, "acknowledged entries are missing", |_, course| {
            course.added.is_some() && !course.is_there
        });
        self.tell(LOST, "entries that a consumer was given are missing", |_, course| {
            course.added.is_none() && course.given().next().is_some() && !course.is_there
        });
    }

    /// A read shows the stream as far as it went then: all that was acknowledged before, nothing
    /// that was sent after.
    fn reads_are_beginnings(&mut self) {
        let sent: HashMap<u64, usize> = self.operations.iter().filter_map(entered).collect();
        let mut bad = Vec::new();
        for (index, record) in &self.operations {
            let (Call::Get, Some(Answer::Entries(entries))) = (record.call, record.answer()) else {
                continue;
            };
            let is_beginning =
                entries.iter().map(|(id, _)| id).eq(self.stream.iter().take(entries.len()));
            let next = self.stream.get(entries.len()).and_then(|id| self.courses.get(id)?.added);
            let lacks = next.filter(|added| self.is_before(*added, *index));
            let is_early = entries.iter().any(|(_, element)| {
                let by = sent.get(element).and_then(|by| self.record(*by));
                by.is_some_and(|by| by.invoked > record.ended)
            });
            if !is_beginning || lacks.is_some() || is_early {
                bad.extend([*index].into_iter().chain(lacks));
            }
        }
        if !bad.is_empty() {
            let text = "reads show what the stream cannot have been then".to_owned();
            self.wrong(ORDER, text, bad);
        }
    }

    /// Ids rise from each XADD to those sent after it, and from each XREADGROUP.
    fn order_of_calls(&mut self) {
        let added = |course: &Course| course.added.into_iter().collect();
        self.rises("ids of entries fall", added);
        self.rises("entries were given out of order", |course: &Course| course.taken.clone());
    }

    fn rises(&mut self, text: &str, calls: impl Fn(&Course) -> Vec<usize>) {
        let of_entry = |(id, course): (&u64, &Course)| {
            calls(course).into_iter().map(|index| (*id, index)).collect::<Vec<_>>()
        };
        // From the highest id down, the earliest end of those above.
        let mut all: Vec<(u64, usize)> = self.courses.iter().flat_map(of_entry).collect();
        all.reverse();
        let mut earliest: Option<usize> = None;
        let mut bad = Vec::new();
        for (_, index) in all {
            match earliest {
                Some(above) if self.is_before(above, index) => bad.extend([above, index]),
                _ => {}
            }
            let ended = |index: usize| self.record(index).map_or(u64::MAX, |record| record.ended);
            earliest =
                Some(earliest.filter(|above| ended(*above) <= ended(index)).unwrap_or(index));
        }
        if !bad.is_empty() {
            self.wrong(ORDER, text.to_owned(), bad);
        }
    }

    /// An XREADGROUP that was given nothing saw nothing to give: not what was there before it and
    /// was taken after it.
    fn nothing_was_passed_over(&mut self) {
        let mut bad = Vec::new();
        for (index, record) in &self.operations {
            let is_nothing =
                matches!(record.answer(), Some(Answer::Entries(given)) if given.is_empty());
            if !is_nothing || !matches!(record.call, Call::Take(_)) {
                continue;
            }
            let missed = self.courses.values().find(|course| {
                let was_there = course.added.is_some_and(|added| self.is_before(added, *index));
                was_there && course.taken.iter().any(|taken| self.is_before(*index, *taken))
            });
            bad.extend(
                missed.into_iter().flat_map(|course| course.all().into_iter().chain([*index])),
            );
        }
        if !bad.is_empty() {
            let text = "XREADGROUP passed entries over that were there".to_owned();
            self.wrong(ORDER, text, bad);
        }
    }

    fn group_gives_each_once(&mut self) {
        self.tell(TWICE, "entries were given out twice as new", |_, course| course.taken.len() > 1);
        self.tell(TWICE, "entries were acknowledged twice", |_, course| course.acked.len() > 1);
        self.tell(TWICE, "acknowledged entries were given out again", |account, course| {
            let is_after =
                |given: usize| course.acked.iter().any(|acked| account.is_before(*acked, given));
            course.is_pending && !course.acked.is_empty() || course.given().any(is_after)
        });
    }

    /// What was given out waits for its acknowledgement.
    fn group_forgets_nothing(&mut self) {
        self.tell(LOST, "entries that a consumer was given are not pending", |_, course| {
            let is_acked = !course.acked.is_empty() || !course.may_be_acked.is_empty();
            course.given().next().is_some() && !is_acked && !course.is_pending
        });
        self.tell(
            LOST,
            "entries that a consumer was given could not be acknowledged",
            |account, course| {
                let others = || course.acked.iter().chain(&course.may_be_acked);
                course.refused.iter().any(|refused| {
                    let was_given = course.given().any(|given| account.is_before(given, *refused));
                    was_given && others().all(|other| account.is_before(*refused, *other))
                })
            },
        );
        // Each XREADGROUP without an answer took one at most.
        let is_unanswered =
            |record: &Record| matches!(record.call, Call::Take(_)) && record.answer().is_none();
        let unanswered = self.operations.iter().filter(|(_, record)| is_unanswered(record)).count();
        let is_orphan = |course: &Course| {
            course.taken.is_empty() && (course.is_pending || !course.claimed.is_empty())
        };
        if self.courses.values().filter(|course| is_orphan(course)).count() > unanswered {
            let text = "entries are pending that no XREADGROUP was given";
            self.tell(ORDER, text, |_, course| is_orphan(course));
        }
    }
}

fn entered((index, record): &(usize, &Record)) -> Option<(u64, usize)> {
    match record.call {
        Call::Enter(element) => Some((element, *index)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Outcome;
    use super::*;

    /// Judges operations one after the other; the last two are the last reads.
    fn found(operations: &[(Call, Option<Answer>)]) -> Vec<&'static str> {
        let record = |(number, (call, answer)): (u64, &(Call, Option<Answer>))| Record {
            client: 0,
            key: 0,
            call: *call,
            invoked: number * 10,
            ended: number * 10 + 5,
            outcome: match answer {
                Some(answer) => Outcome::Answered(answer.clone()),
                None => Outcome::Unknown("cut".to_owned()),
            },
            by: None,
        };
        let records: Vec<Record> = (1..).zip(operations).map(record).collect();
        let found = account(records.iter().enumerate(), records.len() - 2);
        found.into_iter().map(|wrong| wrong.kind).collect()
    }

    /// The element of an entry is ten times its id here.
    fn entries(ids: &[u64]) -> Option<Answer> {
        Some(Answer::Entries(ids.iter().map(|id| (*id, id * 10)).collect()))
    }

    fn add(id: u64) -> (Call, Option<Answer>) {
        (Call::Enter(id * 10), Some(Answer::Value(Some(id))))
    }

    fn take(id: u64) -> (Call, Option<Answer>) {
        (Call::Take(1), entries(&[id]))
    }

    fn claim(id: u64) -> (Call, Option<Answer>) {
        (Call::Claim(2), entries(&[id]))
    }

    fn ack(id: u64, is_done: bool) -> (Call, Option<Answer>) {
        (Call::Ack(id), Some(Answer::Whether(is_done)))
    }

    fn end(stream: &[u64], pending: &[u64]) -> [(Call, Option<Answer>); 2] {
        let pending = Some(Answer::Content(pending.to_vec()));
        [(Call::Get, entries(stream)), (Call::Pending, pending)]
    }

    fn judged(
        operations: &[(Call, Option<Answer>)],
        stream: &[u64],
        pending: &[u64],
    ) -> Vec<&'static str> {
        found(&[operations, &end(stream, pending)].concat())
    }

    const NOTHING: (Call, Option<Answer>) = (Call::Take(3), Some(Answer::Entries(Vec::new())));

    #[test]
    fn an_ordinary_history_has_nothing_wrong() {
        let all = [
            NOTHING,
            add(1),
            add(2),
            (Call::Get, entries(&[1, 2])),
            take(1),
            take(2),
            NOTHING,
            claim(1),
            ack(1, true),
            ack(1, false),
            (Call::Enter(30), None),
            (Call::Take(1), None),
        ];
        assert!(judged(&all, &[1, 2], &[2]).is_empty());
        assert!(judged(&all, &[1, 2, 3], &[2]).is_empty());
        assert!(judged(&all, &[1, 2, 3], &[2, 3]).is_empty());
        let lost_ack = [add(1), take(1), (Call::Ack(1), None), ack(1, false)];
        assert!(judged(&lost_ack, &[1], &[]).is_empty());
        assert!(judged(&lost_ack[..3], &[1], &[1]).is_empty());
    }

    #[test]
    fn an_acknowledged_entry_that_is_missing_or_wrong_is_found() {
        assert_eq!(judged(&[add(1), add(2)], &[2], &[]), [LOST]);
        assert_eq!(judged(&[add(1), (Call::Enter(20), None), take(2)], &[1], &[])[..1], [LOST]);
        assert_eq!(judged(&[add(1)], &[1, 7], &[]), [LOST]);
        let other = (Call::Enter(99), Some(Answer::Value(Some(1))));
        assert_eq!(judged(&[(Call::Enter(10), None), other], &[1], &[]), [ORDER]);
        assert_eq!(judged(&[add(2), add(1)], &[1, 2], &[]), [ORDER]);
        assert_eq!(judged(&[add(1), add(2)], &[2, 1], &[])[..1], [ORDER]);
        assert_eq!(judged(&[add(1), add(1)], &[1], &[])[..1], [ORDER]);
    }

    #[test]
    fn a_read_that_lacks_or_foresees_something_is_found() {
        let read = |ids: &[u64]| (Call::Get, entries(ids));
        assert_eq!(judged(&[add(1), add(2), read(&[1])], &[1, 2], &[]), [ORDER]);
        assert_eq!(judged(&[add(1), read(&[1, 2]), add(2)], &[1, 2], &[]), [ORDER]);
        assert_eq!(judged(&[add(1), add(2), read(&[2])], &[1, 2], &[]), [ORDER]);
    }

    #[test]
    fn what_was_acknowledged_is_not_given_out_again() {
        let acked = [add(1), take(1), ack(1, true)];
        assert_eq!(judged(&[&acked[..], &[claim(1)]].concat(), &[1], &[]), [TWICE]);
        assert_eq!(judged(&acked, &[1], &[1]), [TWICE]);
        assert_eq!(judged(&[&acked[..], &[ack(1, true)]].concat(), &[1], &[]), [TWICE]);
        assert_eq!(judged(&[add(1), take(1), take(1)], &[1], &[1]), [TWICE]);
    }

    #[test]
    fn what_was_given_out_is_pending_until_it_is_acknowledged() {
        assert_eq!(judged(&[add(1), take(1)], &[1], &[]), [LOST]);
        assert_eq!(judged(&[add(1), take(1), ack(1, false)], &[1], &[1]), [LOST]);
        assert_eq!(judged(&[add(1)], &[1], &[1]), [ORDER]);
        assert_eq!(judged(&[add(1), claim(1)], &[1], &[1]), [ORDER]);
        assert!(judged(&[add(1), (Call::Take(1), None), claim(1)], &[1], &[1]).is_empty());
    }

    #[test]
    fn a_group_gives_entries_in_order_and_passes_none_over() {
        assert_eq!(judged(&[add(1), add(2), take(2), take(1)], &[1, 2], &[1, 2]), [ORDER]);
        assert_eq!(judged(&[add(1), NOTHING, take(1)], &[1], &[1]), [ORDER]);
    }
}
