//! What cannot have happened. Pure: histories in, findings out.

use std::collections::{BTreeMap, HashSet};

use super::deposed;
use super::history::{Answer, Call, Outcome, Record};
use super::keys::{Key, Kind};
use super::observer::Reign;
use super::{queues, streams};
use crate::linear::{self, Model, Operation, Verdict, counter, list, lock, queue, register, set};

/// Memory of a search: entries.
const LIMIT: usize = 3_000_000;
/// Expiries are in whole ms of a wall clock that may be slewed.
const LOCK_SLACK_NS: u64 = 100_000_000;
/// Operations shown around the one that cannot be explained.
const SHOWN: usize = 24;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// In one or two words, for the results file.
    pub kind: &'static str,
    /// What and where.
    pub text: String,
    /// The operations that show it, as positions in the history.
    pub operations: Vec<usize>,
}

/// Everything that is wrong with a history whose last records are the last reads.
pub fn judge(records: &[Record], last: usize, keys: &[Key], reigns: &[Reign]) -> Vec<Finding> {
    let mut by_key: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        by_key.entry(record.key).or_default().push(index);
    }
    let mut findings = Vec::new();
    for (key, indexes) in by_key {
        let Some(key) = keys.get(key) else { continue };
        let history = History { records, indexes: &indexes, key };
        if let Some(index) = history.garbage() {
            findings.push(Finding {
                kind: "garbage",
                text: format!("{} answered what nobody wrote", key.name),
                operations: vec![index],
            });
            continue;
        }
        let end = indexes.iter().copied().find(|index| *index >= last);
        match key.kind {
            Kind::Queue => findings.extend(history.miscounted(|all| queues::account(all, last))),
            Kind::Stream => findings.extend(history.miscounted(|all| streams::account(all, last))),
            _ => findings.extend(end.and_then(|end| history.lost(end))),
        }
        findings.extend(history.order());
    }
    findings.extend(deposed(records, keys, reigns));
    findings
}

/// One finding for each shard and version.
fn deposed(records: &[Record], keys: &[Key], reigns: &[Reign]) -> Vec<Finding> {
    let mut groups: BTreeMap<(usize, i64), Vec<usize>> = BTreeMap::new();
    for (index, version) in deposed::answers(records, keys, reigns) {
        let shard = keys.get(records[index].key).map_or(0, |key| key.shard);
        groups.entry((shard, version)).or_default().push(index);
    }
    let finding = |((shard, version), indexes): ((usize, i64), Vec<usize>)| Finding {
        kind: "deposed",
        text: format!(
            "shard {shard}: {} answers of a node that was not master under version {version}",
            indexes.len()
        ),
        operations: indexes.into_iter().take(SHOWN).collect(),
    };
    groups.into_iter().map(finding).collect()
}

struct History<'a> {
    records: &'a [Record],
    indexes: &'a [usize],
    key: &'a Key,
}

impl History<'_> {
    fn garbage(&self) -> Option<usize> {
        let is_garbage =
            |index: &&usize| matches!(self.records[**index].answer(), Some(Answer::Garbage(_)));
        self.indexes.iter().find(is_garbage).copied()
    }

    /// Acknowledged writes that the last read does not show.
    fn lost(&self, end: usize) -> Option<Finding> {
        let answer = self.records[end].answer()?;
        let (text, mut operations) = match answer {
            Answer::Value(value) if matches!(self.key.kind, Kind::Register | Kind::Script) => {
                self.lost_values(*value)
            }
            Answer::Number(count) => self.lost_increments(*count),
            Answer::Content(content) if self.key.kind == Kind::List => self.lost_elements(content),
            _ => None,
        }?;
        operations.push(end);
        Some(Finding { kind: "lost write", text: format!("{}: {text}", self.key.name), operations })
    }

    /// Elements of a queue, or entries of a stream, that went where no operation explains, or
    /// came back.
    fn miscounted(
        &self,
        account: impl FnOnce(&mut dyn Iterator<Item = (usize, &Record)>) -> Vec<queues::Wrong>,
    ) -> Vec<Finding> {
        let mut all = self.indexes.iter().map(|index| (*index, &self.records[*index]));
        account(&mut all)
            .into_iter()
            .map(|wrong| Finding {
                kind: wrong.kind,
                text: format!("{}: {}", self.key.name, wrong.text),
                operations: wrong.operations.into_iter().take(SHOWN).collect(),
            })
            .collect()
    }

    fn writes(&self) -> impl Iterator<Item = (usize, &Record)> {
        let all = self.indexes.iter().map(|index| (*index, &self.records[*index]));
        all.filter(|(_, record)| !record.call.is_read() && record.may_have_effect()).filter(
            |(_, record)| match (record.call, record.answer()) {
                (Call::Compare(_, old, _), Some(Answer::Value(seen))) => *seen == old,
                _ => true,
            },
        )
    }

    /// The last value was overwritten for certain: an acknowledged write began after its own had
    /// ended.
    fn lost_values(&self, value: Option<u64>) -> Option<(String, Vec<usize>)> {
        let value_of = |call: Call| match call {
            Call::Set(value) | Call::Swap(value) | Call::Compare(.., value) => Some(value),
            _ => None,
        };
        let origin =
            self.writes().find(|(_, record)| value.is_some() && value_of(record.call) == value);
        // Open-ended writes may take effect at any time, so nothing is certainly after them.
        let ended = match (value, &origin) {
            (None, _) => 0,
            (Some(_), Some((_, record))) if record.answer().is_some() => record.ended,
            (Some(_), _) => return None,
        };
        let lost: Vec<usize> = self
            .writes()
            .filter(|(_, record)| record.answer().is_some() && record.invoked > ended)
            .map(|(index, _)| index)
            .collect();
        if lost.is_empty() {
            return None;
        }
        let shown = value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
        let text = format!("{} acknowledged writes after `{shown}` are gone", lost.len());
        let mut operations: Vec<usize> = origin.into_iter().map(|(index, _)| index).collect();
        operations.extend(lost.into_iter().take(SHOWN));
        Some((text, operations))
    }

    fn lost_increments(&self, count: i64) -> Option<(String, Vec<usize>)> {
        let known = self.writes().filter(|(_, record)| record.answer().is_some()).count();
        let maybe = self.writes().count();
        let count = usize::try_from(count).unwrap_or(0);
        let text = if count < known {
            format!("{known} increments were acknowledged, {count} counted: {} lost", known - count)
        } else if count > maybe {
            format!("{maybe} increments were sent, {count} counted")
        } else {
            return None;
        };
        Some((text, Vec::new()))
    }

    fn lost_elements(&self, content: &[u64]) -> Option<(String, Vec<usize>)> {
        let there: HashSet<u64> = content.iter().copied().collect();
        let element = |record: &Record| match record.call {
            Call::Append(element) => Some(element),
            _ => None,
        };
        let lost: Vec<usize> = self
            .writes()
            .filter(|(_, record)| record.answer().is_some())
            .filter(|(_, record)| element(record).is_some_and(|element| !there.contains(&element)))
            .map(|(index, _)| index)
            .collect();
        let sent: HashSet<u64> = self.writes().filter_map(|(_, record)| element(record)).collect();
        let strange = there.iter().filter(|element| !sent.contains(element)).count();
        let doubles = content.len() - there.len();
        if lost.is_empty() && strange == 0 && doubles == 0 {
            return None;
        }
        let text = format!(
            "{} acknowledged elements are missing, {doubles} are there twice, {strange} were never sent",
            lost.len()
        );
        Some((text, lost.into_iter().take(SHOWN).collect()))
    }

    /// Whether some order of its operations explains all answers.
    fn order(&self) -> Option<Finding> {
        let (verdict, explained) = match self.key.kind {
            Kind::Register | Kind::Script => {
                self.search(&register::Register, register::prepare, of_register)
            }
            Kind::Counter | Kind::Field | Kind::Score => {
                self.search(&counter::Counter, counter::prepare, of_counter)
            }
            Kind::Queue => self.search(&queue::Queue, queue::prepare, of_queue),
            Kind::Set => self.search(&set::Set, set::prepare, of_set),
            Kind::List => self.search(&list::List, list::prepare, of_list),
            Kind::Lock => {
                let ttl = self.key.ttl_ms * 1_000_000;
                let model = lock::Lock { slack: LOCK_SLACK_NS };
                self.search(&model, lock::prepare, |record| of_lock(record, ttl))
            }
            Kind::Stream | Kind::Channel | Kind::Ballast => return None,
        };
        let name = &self.key.name;
        match verdict {
            Verdict::Linearizable => None,
            Verdict::Undecided => Some(Finding {
                kind: "undecided",
                text: format!("{name}: more than {LIMIT} states"),
                operations: Vec::new(),
            }),
            Verdict::Violated(violation) => Some(Finding {
                kind: "not linearizable",
                text: format!(
                    "{name}: no order explains the last of these after the {} before it",
                    violation.order.len()
                ),
                operations: explained,
            }),
        }
    }

    /// The verdict, and the operations around a violation in the order of the best attempt.
    fn search<M: Model>(
        &self,
        model: &M,
        prepare: fn(linear::History<M>) -> linear::History<M>,
        convert: impl Fn(&Record) -> Option<Operation<M::Call, M::Reply>>,
    ) -> (Verdict, Vec<usize>)
    where
        Operation<M::Call, M::Reply>: Clone,
    {
        let relevant = self.indexes.iter().copied().filter(|i| self.records[*i].may_have_effect());
        let history: Vec<_> = relevant.filter_map(|index| convert(&self.records[index])).collect();
        let prepared = prepare(history);
        let verdict = linear::check(model, &prepared, LIMIT);
        let Verdict::Violated(violation) = &verdict else { return (verdict, Vec::new()) };
        let order = &violation.order;
        let tail = order.get(order.len().saturating_sub(SHOWN)..).unwrap_or_default();
        let shown = tail.iter().chain(std::iter::once(&violation.stuck));
        let operations = shown.filter_map(|at| self.find(prepared.get(*at)?.invoked)).collect();
        (verdict, operations)
    }

    /// Preparation leaves the moment of a call as it is, and it names the operation.
    fn find(&self, invoked: u64) -> Option<usize> {
        self.indexes.iter().copied().find(|index| self.records[*index].invoked == invoked)
    }
}

fn timed<C, R>(record: &Record, call: C, reply: Option<R>) -> Operation<C, R> {
    let returned = matches!(record.outcome, Outcome::Answered(_)).then_some(record.ended);
    Operation { call, reply, invoked: record.invoked, returned }
}

fn of_register(record: &Record) -> Option<register::RegisterOperation> {
    let seen = match record.answer() {
        Some(Answer::Value(value)) => Some(*value),
        Some(Answer::Done) => Some(None),
        _ => None,
    };
    let call = match record.call {
        Call::Get => register::Call::Read,
        Call::Set(value) => register::Call::Write(value),
        Call::Swap(value) => register::Call::Swap(value),
        Call::Compare(_, old, value) => register::Call::Compare(old, value),
        _ => return None,
    };
    Some(timed(record, call, seen))
}

fn of_counter(record: &Record) -> Option<counter::CounterOperation> {
    let seen = match record.answer() {
        Some(Answer::Number(number)) => Some(*number),
        _ => None,
    };
    let call = match record.call {
        Call::Get => counter::Call::Read,
        Call::Incr => counter::Call::Add,
        _ => return None,
    };
    Some(timed(record, call, seen))
}

fn of_list(record: &Record) -> Option<list::ListOperation> {
    let seen = match record.answer() {
        Some(Answer::Content(content)) => Some(list::Reply::Content(content.clone())),
        Some(Answer::Number(length)) => {
            Some(list::Reply::Length(u64::try_from(*length).unwrap_or(u64::MAX)))
        }
        _ => None,
    };
    let call = match record.call {
        Call::Get => list::Call::Read,
        Call::Append(element) => list::Call::Append(element),
        _ => return None,
    };
    Some(timed(record, call, seen))
}

fn of_lock(record: &Record, ttl: u64) -> Option<lock::LockOperation> {
    let seen = match record.answer() {
        Some(Answer::Value(holder)) => Some(lock::Reply::Holder(*holder)),
        Some(Answer::Whether(done)) => Some(lock::Reply::Done(*done)),
        _ => None,
    };
    let call = match record.call {
        Call::Get => lock::Call::Read,
        Call::Acquire(token) => lock::Call::Acquire { token, ttl },
        Call::Release(token) => lock::Call::Release { token },
        _ => return None,
    };
    Some(timed(record, call, seen))
}

fn of_queue(record: &Record) -> Option<queue::QueueOperation> {
    let seen = match record.answer() {
        Some(Answer::Number(length)) => {
            Some(queue::Reply::Length(u64::try_from(*length).unwrap_or(u64::MAX)))
        }
        Some(Answer::Value(taken)) => Some(queue::Reply::Taken(*taken)),
        Some(Answer::Whether(removed)) => Some(queue::Reply::Removed(*removed)),
        Some(Answer::Content(content)) => Some(queue::Reply::Content(content.clone())),
        _ => None,
    };
    let call = match record.call {
        Call::Get => queue::Call::Read,
        Call::Aside => queue::Call::ReadAside,
        Call::Push(end, element) => queue::Call::Push(end, element),
        Call::Pop(end) => queue::Call::Pop(end),
        Call::Move => queue::Call::Move,
        Call::Done(element) => queue::Call::Remove(element),
        _ => return None,
    };
    Some(timed(record, call, seen))
}

fn of_set(record: &Record) -> Option<set::SetOperation> {
    let seen = match record.answer() {
        Some(Answer::Value(drawn)) => Some(set::Reply::Popped(*drawn)),
        Some(Answer::Whether(whether)) => Some(set::Reply::Whether(*whether)),
        Some(Answer::Content(members)) => Some(set::Reply::Members(members.clone())),
        _ => None,
    };
    let call = match record.call {
        Call::Get => set::Call::Read,
        Call::Add(member) => set::Call::Add(member),
        Call::Remove(member) => set::Call::Remove(member),
        Call::Has(member) => set::Call::Has(member),
        Call::Draw => set::Call::Pop,
        _ => return None,
    };
    Some(timed(record, call, seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::queue::End;

    fn key(kind: Kind) -> Key {
        Key { name: "k".to_owned(), kind, shard: 0, ttl_ms: 1_000, successor: None }
    }

    /// Operations one after the other, 10 ns each; the last read, or the last two, is at the end.
    fn judged(kind: Kind, operations: &[(Call, Outcome)]) -> Vec<&'static str> {
        let records: Vec<Record> = (1..)
            .zip(operations)
            .map(|(number, (call, outcome))| Record {
                client: 0,
                key: 0,
                call: *call,
                invoked: number * 100,
                ended: number * 100 + 10,
                outcome: outcome.clone(),
                by: None,
            })
            .collect();
        let found = judge(&records, records.len() - kind.reads().len(), &[key(kind)], &[]);
        found.into_iter().map(|finding| finding.kind).collect()
    }

    fn ok(answer: Answer) -> Outcome {
        Outcome::Answered(answer)
    }

    fn unknown() -> Outcome {
        Outcome::Unknown("cut".to_owned())
    }

    #[test]
    fn registers() {
        let end = |value| (Call::Get, ok(Answer::Value(value)));
        let (one, two) = ((Call::Set(1), ok(Answer::Done)), (Call::Set(2), ok(Answer::Done)));
        let maybe = (Call::Set(3), unknown());
        let refused = (Call::Set(4), Outcome::Refused("MOVED".to_owned()));
        let bad = ["lost write", "not linearizable"];
        let judged = |operations: &[(Call, Outcome)]| judged(Kind::Register, operations);
        assert!(judged(&[one.clone(), two.clone(), maybe.clone(), end(Some(2))]).is_empty());
        assert!(judged(&[one.clone(), maybe.clone(), two.clone(), end(Some(3))]).is_empty());
        assert_eq!(judged(&[one.clone(), two.clone(), end(Some(1))]), bad);
        assert_eq!(judged(&[one.clone(), end(None)]), bad);
        assert_eq!(judged(&[one, refused, end(Some(4))]), ["not linearizable"]);
    }

    #[test]
    fn scripts() {
        let end = |value| (Call::Get, ok(Answer::Value(value)));
        let way = super::super::history::Way::Function;
        let compare = |old, new, seen| (Call::Compare(way, old, new), ok(Answer::Value(seen)));
        let judged = |operations: &[(Call, Outcome)]| judged(Kind::Script, operations);
        let (one, two) = (compare(None, 1, None), compare(Some(1), 2, Some(1)));
        let late = compare(Some(1), 3, Some(2));
        assert!(judged(&[one.clone(), two.clone(), late.clone(), end(Some(2))]).is_empty());
        let maybe = (Call::Compare(way, Some(2), 4), unknown());
        assert!(judged(&[one.clone(), two.clone(), maybe, end(Some(4))]).is_empty());
        // Undone, done although it was told otherwise, and two that won over one value.
        let bad = ["lost write", "not linearizable"];
        assert_eq!(judged(&[one.clone(), two.clone(), end(Some(1))]), bad);
        assert_eq!(judged(&[one.clone(), end(None)]), bad);
        let order = ["not linearizable"];
        assert_eq!(judged(&[one.clone(), two.clone(), late, end(Some(3))])[..], order);
        let second = compare(Some(1), 3, Some(1));
        assert_eq!(judged(&[one.clone(), two, second, end(Some(3))]), order);
        let torn = ok(Answer::Garbage("TORN".to_owned()));
        assert_eq!(judged(&[one, (Call::Get, torn)]), ["garbage"]);
    }

    #[test]
    fn streams() {
        let add = (Call::Enter(10), ok(Answer::Value(Some(1))));
        let take = (Call::Take(0), ok(Answer::Entries(vec![(1, 10)])));
        let end = |pending: &[u64]| {
            let read = (Call::Get, ok(Answer::Entries(vec![(1, 10)])));
            [read, (Call::Pending, ok(Answer::Content(pending.to_vec())))]
        };
        let judged = |operations: &[(Call, Outcome)]| judged(Kind::Stream, operations);
        assert!(judged(&[&[add.clone(), take.clone()], &end(&[1])[..]].concat()).is_empty());
        assert_eq!(judged(&[&[add, take], &end(&[])[..]].concat()), ["lost write"]);
    }

    #[test]
    fn counters() {
        let end = |number| (Call::Get, ok(Answer::Number(number)));
        let add = |number| (Call::Incr, ok(Answer::Number(number)));
        let maybe = (Call::Incr, unknown());
        let judged = |operations: &[(Call, Outcome)]| judged(Kind::Counter, operations);
        assert!(judged(&[add(1), maybe.clone(), add(2), end(2)]).is_empty());
        assert!(judged(&[add(1), maybe.clone(), add(3), end(3)]).is_empty());
        let bad = ["lost write", "not linearizable"];
        assert_eq!(judged(&[add(1), add(2), end(1)]), bad);
        assert_eq!(judged(&[add(1), maybe, end(3)]), bad);
    }

    #[test]
    fn lists() {
        let end = |content| (Call::Get, ok(Answer::Content(content)));
        let one = (Call::Append(1), ok(Answer::Number(1)));
        let two = (Call::Append(2), ok(Answer::Number(2)));
        let judged = |operations: &[(Call, Outcome)]| judged(Kind::List, operations);
        assert!(judged(&[one.clone(), two.clone(), end(vec![1, 2])]).is_empty());
        let bad = ["lost write", "not linearizable"];
        assert_eq!(judged(&[one.clone(), two.clone(), end(vec![1])]), bad);
        assert_eq!(judged(&[one.clone(), two, end(vec![1, 2, 2])]), bad);
        let torn = ok(Answer::Garbage("0010".to_owned()));
        assert_eq!(judged(&[one, (Call::Get, torn)]), ["garbage"]);
    }

    #[test]
    fn queues() {
        let content = |content: &[u64]| ok(Answer::Content(content.to_vec()));
        let push = |element, length| (Call::Push(End::Left, element), ok(Answer::Number(length)));
        let pop = |element| (Call::Pop(End::Right), ok(Answer::Value(element)));
        let read = |queue: &[u64]| (Call::Get, content(queue));
        let judged = |operations: &[(Call, Outcome)]| {
            let empty = [(Call::Aside, content(&[]))];
            judged(Kind::Queue, &[operations, &empty].concat())
        };
        let both = [push(1, 1), push(2, 2)];
        assert!(judged(&[&both[..], &[pop(Some(1)), read(&[2])]].concat()).is_empty());
        let maybe = [(Call::Pop(End::Right), unknown()), read(&[2])];
        assert!(judged(&[&both[..], &maybe].concat()).is_empty());
        // Lost, given out twice, and out of order.
        let bad = |kind| vec![kind, "not linearizable"];
        assert_eq!(judged(&[&both[..], &[read(&[2])]].concat()), bad("lost write"));
        let twice = [pop(Some(1)), pop(Some(1)), read(&[2])];
        assert_eq!(judged(&[&both[..], &twice].concat()), bad("taken twice"));
        let out_of_order = [pop(Some(2)), read(&[1])];
        assert_eq!(judged(&[&both[..], &out_of_order].concat()), ["not linearizable"]);
        let not_there = [pop(None), pop(Some(1)), read(&[2])];
        assert_eq!(judged(&[&both[..], &not_there].concat()), ["not linearizable"]);
    }

    #[test]
    fn sets() {
        let whether = |call, changed| (call, ok(Answer::Whether(changed)));
        let drawn = |member| (Call::Draw, ok(Answer::Value(member)));
        let end = |members: &[u64]| (Call::Get, ok(Answer::Content(members.to_vec())));
        let judged = |operations: &[(Call, Outcome)]| judged(Kind::Set, operations);
        let both = [whether(Call::Add(1), true), whether(Call::Add(2), true)];
        assert!(judged(&[&both[..], &[drawn(Some(2)), end(&[1])]].concat()).is_empty());
        assert!(judged(&[&both[..], &[(Call::Draw, unknown()), end(&[2])]].concat()).is_empty());
        for bad in [
            [drawn(Some(2)), end(&[1, 2])],
            [drawn(Some(3)), end(&[1, 2])],
            [whether(Call::Add(1), true), end(&[1, 2])],
            [whether(Call::Remove(3), true), end(&[1, 2])],
            [whether(Call::Has(1), false), end(&[1, 2])],
            [(Call::Draw, unknown()), end(&[])],
        ] {
            let found = judged(&[&both[..], &bad].concat());
            assert_eq!(found, ["not linearizable"], "{bad:?}");
        }
    }

    #[test]
    fn locks() {
        let acquire = |token| (Call::Acquire(token), ok(Answer::Whether(true)));
        let release = |token| (Call::Release(token), ok(Answer::Whether(true)));
        let end = (Call::Get, ok(Answer::Value(None)));
        let judged = |operations: &[(Call, Outcome)]| judged(Kind::Lock, operations);
        // The slack is far above these times, so only a ttl above it says anything: the key's is 1
        // s.
        assert!(judged(&[acquire(1), release(1), acquire(2), release(2), end.clone()]).is_empty());
        assert_eq!(judged(&[acquire(1), acquire(2), end]), ["not linearizable"]);
    }
}
