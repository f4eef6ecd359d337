//! Known good and known bad histories, and random ones beside a search that tries every order.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::lock::{self, Lock};
use super::{History, Model, Operation, Verdict, check, counter, list, queue, register, set};

const LIMIT: usize = 1_000_000;

/// `(call, reply, invoked, returned)`; no return: the outcome is unknown.
fn operation<C, R>(call: C, reply: Option<R>, invoked: u64, returned: u64) -> Operation<C, R> {
    Operation { call, reply, invoked, returned: (returned > 0).then_some(returned) }
}

fn of_register(operations: &[(register::Call, Option<u64>, u64, u64)]) -> Verdict {
    let history = operations.iter().map(|(call, reply, invoked, returned)| {
        operation(*call, (*returned > 0).then_some(*reply), *invoked, *returned)
    });
    check(&register::Register, &register::prepare(history.collect()), LIMIT)
}

fn is_bad(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Violated(_))
}

#[test]
fn overlapping_writes_may_take_effect_in_either_order() {
    use register::Call::{Read, Write};
    for seen in [1, 2] {
        let verdict = of_register(&[
            (Write(1), None, 10, 40),
            (Write(2), None, 20, 30),
            (Read, Some(seen), 50, 60),
        ]);
        assert_eq!(verdict, Verdict::Linearizable, "{seen}");
    }
}

#[test]
fn a_lost_write_is_found_and_named() {
    use register::Call::{Read, Write};
    let verdict =
        of_register(&[(Write(1), None, 10, 20), (Write(2), None, 30, 40), (Read, Some(1), 50, 60)]);
    let Verdict::Violated(violation) = verdict else { panic!("{verdict:?}") };
    assert_eq!((violation.order, violation.stuck), (vec![0, 1], 2));
}

#[test]
fn a_stale_read_is_found_although_the_end_is_right() {
    use register::Call::{Read, Write};
    let stale = [
        (Write(1), None, 10, 20),
        (Write(2), None, 30, 40),
        (Read, Some(2), 42, 45),
        (Read, Some(1), 50, 60),
        (Read, Some(2), 70, 80),
    ];
    assert!(is_bad(&of_register(&stale)));
    // The same reads while the second write is under way are fine the other way round only.
    let early = [
        (Write(1), None, 10, 20),
        (Write(2), None, 30, 100),
        (Read, Some(1), 42, 45),
        (Read, Some(2), 50, 60),
    ];
    assert_eq!(of_register(&early), Verdict::Linearizable);
}

#[test]
fn a_dirty_read_of_a_write_that_vanished_is_found() {
    use register::Call::{Read, Write};
    let history = [(Write(1), None, 10, 0), (Read, Some(1), 20, 30), (Read, None, 40, 50)];
    assert!(is_bad(&of_register(&history)));
}

#[test]
fn a_write_without_an_answer_may_take_effect_late_or_never() {
    use register::Call::{Read, Swap, Write};
    let late = [
        (Write(1), None, 10, 0),
        (Write(2), None, 20, 30),
        (Read, Some(2), 40, 50),
        (Read, Some(1), 60, 70),
        (Swap(3), Some(1), 80, 90),
    ];
    assert_eq!(of_register(&late), Verdict::Linearizable);
    let never = [(Write(1), None, 10, 0), (Write(2), None, 20, 30), (Read, Some(2), 40, 50)];
    assert_eq!(of_register(&never), Verdict::Linearizable);
    let twice = [
        (Write(1), None, 10, 0),
        (Read, Some(1), 12, 15),
        (Write(2), None, 20, 30),
        (Read, Some(1), 40, 50),
    ];
    assert!(is_bad(&of_register(&twice)));
    assert!(is_bad(&of_register(&[(Read, Some(7), 10, 20), (Write(7), None, 30, 40)])));
    assert!(is_bad(&of_register(&[(Read, Some(7), 10, 20), (Write(7), None, 30, 0)])));
}

#[test]
fn a_compare_and_set_writes_only_over_what_it_names() {
    use register::Call::{Compare, Read};
    let first = (Compare(None, 1), None, 10, 20);
    let second = (Compare(Some(1), 2), Some(1), 30, 40);
    let lost_race = (Compare(Some(1), 3), Some(2), 50, 60);
    let chain = [first, second, lost_race];
    assert_eq!(of_register(&chain), Verdict::Linearizable);
    // An acknowledged one that is gone; one that lost and won; two that won over one value.
    for bad in [
        [first, second, (Read, Some(1), 70, 80)],
        [first, (Compare(Some(7), 2), Some(1), 30, 40), (Read, Some(2), 70, 80)],
        [first, second, (Compare(Some(1), 3), Some(1), 50, 60)],
    ] {
        assert!(is_bad(&of_register(&bad)), "{bad:?}");
    }
    // Without an answer, it may be what another without an answer waited for.
    let hidden = [
        first,
        (Compare(Some(1), 2), None, 30, 0),
        (Compare(Some(2), 3), None, 50, 0),
        (Read, Some(3), 70, 80),
    ];
    assert_eq!(of_register(&hidden), Verdict::Linearizable);
    assert!(is_bad(&of_register(&[hidden[0], hidden[2], hidden[3]])));
}

fn of_counter(operations: &[(counter::Call, i64, u64, u64)]) -> Verdict {
    let history = operations.iter().map(|(call, reply, invoked, returned)| {
        operation(*call, (*returned > 0).then_some(*reply), *invoked, *returned)
    });
    check(&counter::Counter, &counter::prepare(history.collect()), LIMIT)
}

#[test]
fn a_counter_that_steps_back_or_counts_twice_is_found() {
    use counter::Call::{Add, Read};
    let good = [(Add, 1, 10, 20), (Add, 3, 30, 60), (Add, 2, 35, 50), (Read, 3, 70, 80)];
    assert_eq!(of_counter(&good), Verdict::Linearizable);
    assert!(is_bad(&of_counter(&[(Add, 1, 10, 20), (Add, 1, 30, 40)])));
    assert!(is_bad(&of_counter(&[(Add, 1, 10, 20), (Read, 2, 30, 40)])));
    let maybe = [(Add, 1, 10, 20), (Add, 0, 22, 0), (Add, 0, 23, 0), (Read, 3, 30, 40)];
    assert_eq!(of_counter(&maybe), Verdict::Linearizable);
    assert!(is_bad(&of_counter(&[(Add, 0, 22, 0), (Read, 2, 30, 40)])));
}

#[test]
fn a_list_that_forgets_or_reorders_is_found() {
    use list::Call::{Append, Read};
    use list::Reply::{Content, Length};
    let base = || {
        vec![
            operation(Append(1), Some(Length(1)), 10, 20),
            operation(Append(2), Some(Length(2)), 30, 40),
            operation(Append(3), None, 45, 0),
        ]
    };
    let verdict = |content: Vec<u64>| {
        let mut history = base();
        history.push(operation(Read, Some(Content(content)), 50, 60));
        check(&list::List, &list::prepare(history), LIMIT)
    };
    assert_eq!(verdict(vec![1, 2]), Verdict::Linearizable);
    assert_eq!(verdict(vec![1, 2, 3]), Verdict::Linearizable);
    for bad in [vec![2, 1], vec![1], vec![1, 3, 2], vec![1, 2, 2], vec![1, 2, 3, 4], vec![2]] {
        assert!(is_bad(&verdict(bad.clone())), "{bad:?}");
    }
}

#[test]
fn an_append_nobody_saw_still_counts_for_lengths() {
    use list::Call::{Append, Read};
    use list::Reply::{Content, Length};
    let history = vec![
        operation(Append(1), None, 5, 0),
        operation(Read, Some(Content(vec![])), 10, 20),
        operation(Append(2), Some(Length(2)), 30, 40),
    ];
    assert_eq!(check(&list::List, &list::prepare(history), LIMIT), Verdict::Linearizable);
}

const LOCK: Lock = Lock { slack: 0 };

fn of_lock(operations: &[(lock::Call, Option<lock::Reply>, u64, u64)]) -> Verdict {
    let history = operations
        .iter()
        .map(|(call, reply, invoked, returned)| operation(*call, *reply, *invoked, *returned));
    check(&LOCK, &lock::prepare(history.collect()), LIMIT)
}

#[test]
fn a_lock_held_twice_is_found_unless_its_time_ran_out() {
    use lock::Call::{Acquire, Release};
    use lock::Reply::Done;
    let second_at = |invoked: u64| {
        of_lock(&[
            (Acquire { token: 1, ttl: 100 }, Some(Done(true)), 10, 20),
            (Acquire { token: 2, ttl: 100 }, Some(Done(true)), invoked, invoked + 10),
        ])
    };
    assert!(is_bad(&second_at(50)));
    assert_eq!(second_at(105), Verdict::Linearizable);
    let released = of_lock(&[
        (Acquire { token: 1, ttl: 100 }, Some(Done(true)), 10, 20),
        (Release { token: 1 }, Some(Done(true)), 30, 40),
        (Acquire { token: 2, ttl: 100 }, Some(Done(true)), 50, 60),
    ]);
    assert_eq!(released, Verdict::Linearizable);
}

#[test]
fn a_lock_that_is_kept_too_long_or_freed_by_a_stranger_is_found() {
    use lock::Call::{Acquire, Read, Release};
    use lock::Reply::{Done, Holder};
    let first = (Acquire { token: 1, ttl: 100 }, Some(Done(true)), 10, 20);
    assert!(is_bad(&of_lock(&[first, (Read, Some(Holder(Some(1))), 130, 140)])));
    assert!(is_bad(&of_lock(&[first, (Read, Some(Holder(None)), 30, 40)])));
    assert!(is_bad(&of_lock(&[first, (Release { token: 2 }, Some(Done(true)), 30, 40)])));
    assert!(is_bad(&of_lock(&[first, (Release { token: 1 }, Some(Done(false)), 30, 40)])));
    // Time does not run backwards: free by expiry, then held by an operation that had returned
    // before it.
    let back = [
        first,
        (Acquire { token: 2, ttl: 1_000 }, Some(Done(true)), 90, 200),
        (Read, Some(Holder(Some(2))), 92, 95),
    ];
    assert!(is_bad(&of_lock(&back)));
    // Refused by one that nobody has an answer of.
    let hidden = [
        (Acquire { token: 1, ttl: 1_000 }, None, 10, 0),
        (Acquire { token: 2, ttl: 100 }, Some(Done(false)), 30, 40),
        (Release { token: 1 }, None, 50, 0),
        (Acquire { token: 3, ttl: 100 }, Some(Done(true)), 60, 70),
    ];
    assert_eq!(of_lock(&hidden), Verdict::Linearizable);
    assert!(is_bad(&of_lock(&hidden[1..])));
}

/// Every order of every subset that holds all bounded operations.
fn by_trying_all<M: Model>(
    model: &M,
    history: &[Operation<M::Call, M::Reply>],
    state: &M::State,
    placed: &mut Vec<bool>,
) -> bool {
    let is_open = |index: usize| history[index].returned.is_none();
    if (0..history.len()).all(|index| placed[index] || is_open(index)) {
        return true;
    }
    (0..history.len()).any(|index| {
        let is_late = (0..history.len()).any(|other| {
            !placed[other] && history[other].returned.is_some_and(|at| at < history[index].invoked)
        });
        if placed[index] || is_late {
            return false;
        }
        let Some(then) = model.step(state, &history[index]) else { return false };
        placed[index] = true;
        let found = by_trying_all(model, history, &then, placed);
        placed[index] = false;
        found
    })
}

/// Compares both searches on random histories; returns how many were linearizable.
fn compare<M: Model>(
    model: &M,
    prepare: fn(History<M>) -> History<M>,
    mut draw: impl FnMut(&mut StdRng, u64) -> (M::Call, M::Reply),
) -> usize
where
    M::Call: Clone + std::fmt::Debug,
    M::Reply: Clone + std::fmt::Debug,
{
    let mut rng = StdRng::seed_from_u64(7);
    let mut good = 0;
    for _ in 0..3_000 {
        let count = rng.random_range(1..7);
        let history: Vec<_> = (0..count)
            .map(|number| {
                let (call, reply) = draw(&mut rng, number + 1);
                let invoked = rng.random_range(0..30);
                let is_open = rng.random_bool(0.25);
                Operation {
                    call,
                    reply: (!is_open).then_some(reply),
                    invoked,
                    returned: (!is_open).then(|| invoked + rng.random_range(1..15)),
                }
            })
            .collect();
        let all = by_trying_all(model, &history, &model.initial(), &mut vec![false; history.len()]);
        let found = check(model, &prepare(history.clone()), LIMIT);
        assert_eq!(found == Verdict::Linearizable, all, "{found:?}: {history:#?}");
        good += usize::from(all);
    }
    good
}

/// Neither nearly all nor nearly none, or the comparison would say little.
fn is_telling(good: usize) -> bool {
    (100..2_900).contains(&good)
}

#[test]
fn the_search_agrees_with_trying_all_orders() {
    use rand::seq::IndexedRandom as _;
    let some = |rng: &mut StdRng| [None, Some(1), Some(2), Some(3)].choose(rng).copied().flatten();
    let registers = compare(&register::Register, register::prepare, |rng, number| {
        let seen = some(rng);
        match rng.random_range(0..4) {
            0 | 1 => (register::Call::Read, seen),
            2 => (register::Call::Write(number), seen),
            _ => (register::Call::Swap(number), seen),
        }
    });
    let compared = compare(&register::Register, register::prepare, |rng, number| {
        let seen = some(rng);
        match rng.random_range(0..6) {
            0 | 1 => (register::Call::Read, seen),
            2 => (register::Call::Write(number), seen),
            _ => (register::Call::Compare(some(rng), number), seen),
        }
    });
    let counters = compare(&counter::Counter, counter::prepare, |rng, _| {
        if rng.random_bool(0.3) {
            (counter::Call::Read, rng.random_range(0..4))
        } else {
            (counter::Call::Add, rng.random_range(1..5))
        }
    });
    let lists = compare(&list::List, list::prepare, |rng, number| {
        if rng.random_bool(0.3) {
            let mut content: Vec<u64> = (1..=number).filter(|_| rng.random_bool(0.3)).collect();
            if rng.random_bool(0.2) {
                content.reverse();
            }
            (list::Call::Read, list::Reply::Content(content))
        } else {
            (list::Call::Append(number), list::Reply::Length(rng.random_range(1..4)))
        }
    });
    let locks = compare(&LOCK, lock::prepare, |rng, number| match rng.random_range(0..4) {
        0 => (lock::Call::Read, lock::Reply::Holder(some(rng))),
        1 => {
            let token = rng.random_range(1..4);
            (lock::Call::Release { token }, lock::Reply::Done(rng.random_bool(0.5)))
        }
        _ => {
            let ttl = rng.random_range(5..20);
            (lock::Call::Acquire { token: number, ttl }, lock::Reply::Done(rng.random_bool(0.6)))
        }
    });
    for good in [registers, compared, counters, lists, locks] {
        assert!(is_telling(good), "{registers} {compared} {counters} {lists} {locks}");
    }
}

/// A history as many clients at one register make it: the effect is somewhere between call and
/// return.
fn long(count: u64, rng: &mut StdRng) -> Vec<register::RegisterOperation> {
    let mut value = None;
    (1..=count)
        .map(|number| {
            let effect = number * 100;
            let invoked = effect - rng.random_range(1..500).min(effect);
            let is_write = rng.random_bool(0.5);
            let reply = value;
            let call = if is_write { register::Call::Write(number) } else { register::Call::Read };
            if is_write {
                value = Some(number);
            }
            let is_known = rng.random_bool(0.98);
            Operation {
                call,
                reply: is_known.then_some(reply),
                invoked,
                returned: is_known.then(|| effect + rng.random_range(1..500)),
            }
        })
        .collect()
}

#[test]
fn thousands_of_operations_need_a_bounded_memory() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut history = long(10_000, &mut rng);
    let good = check(&register::Register, &register::prepare(history.clone()), LIMIT);
    assert_eq!(good, Verdict::Linearizable);
    let at = 10_000 * 100 + 10_000;
    history.push(operation(register::Call::Read, Some(None), at, at + 10));
    assert!(is_bad(&check(&register::Register, &register::prepare(history.clone()), LIMIT)));
    assert_eq!(check(&register::Register, &history, 10), Verdict::Undecided);
}

#[test]
fn thousands_of_increments_with_lost_answers() {
    let mut rng = StdRng::seed_from_u64(4);
    let history: Vec<_> = (1..=5_000_u64)
        .map(|number| {
            let effect = number * 100;
            let is_known = rng.random_bool(0.99);
            let invoked = effect - rng.random_range(1..300).min(effect);
            let value = i64::try_from(number).expect("a small number");
            let returned = if is_known { effect + rng.random_range(1..300) } else { 0 };
            operation(counter::Call::Add, is_known.then_some(value), invoked, returned)
        })
        .collect();
    let prepared = counter::prepare(history);
    assert_eq!(check(&counter::Counter, &prepared, LIMIT), Verdict::Linearizable);
}

/// Clients at one lock that runs out by itself, one of `lost` answers of which gets lost: often the
/// operation with it.
fn locks(count: u64, lost: f64, rng: &mut StdRng) -> Vec<lock::LockOperation> {
    const TTL: u64 = 1_500;
    let mut holder: Option<(u64, u64)> = None;
    let mut tokens: Vec<u64> = Vec::new();
    (1..=count)
        .map(|number| {
            let effect = number * 100;
            let invoked = effect - rng.random_range(1..500).min(effect);
            let is_known = !rng.random_bool(lost);
            let is_done = is_known || rng.random_bool(0.5);
            holder = holder.filter(|(_, end)| effect < *end);
            let held = holder.map(|(token, _)| token);
            let (call, reply) = match rng.random_range(0..10) {
                0..2 => (lock::Call::Read, lock::Reply::Holder(held)),
                2..5 if !tokens.is_empty() => {
                    let token = tokens.swap_remove(rng.random_range(0..tokens.len()));
                    let is_its = held == Some(token);
                    if is_its && is_done {
                        holder = None;
                    }
                    (lock::Call::Release { token }, lock::Reply::Done(is_its))
                }
                _ => {
                    if held.is_none() && is_done {
                        holder = Some((number, effect + TTL));
                    }
                    if held.is_none() || !is_known {
                        tokens.push(number);
                    }
                    (
                        lock::Call::Acquire { token: number, ttl: TTL },
                        lock::Reply::Done(held.is_none()),
                    )
                }
            };
            let returned = if is_known { effect + rng.random_range(1..500) } else { 0 };
            operation(call, is_known.then_some(reply), invoked, returned)
        })
        .collect()
}

/// Every answer that got lost would double the search, if it did not forget what it need not know.
#[test]
fn locks_with_lost_answers_need_a_bounded_memory() {
    let mut rng = StdRng::seed_from_u64(5);
    for lost in [0.02, 0.05] {
        let history = locks(300, lost, &mut rng);
        let good = check(&LOCK, &lock::prepare(history.clone()), LIMIT / 20);
        assert_eq!(good, Verdict::Linearizable, "{lost}");
        // Two holders at the end of it are still found.
        let at = 300 * 100 + 100_000;
        let second = |token| {
            let call = lock::Call::Acquire { token, ttl: 1_000_000 };
            operation(call, Some(lock::Reply::Done(true)), at, at + 10)
        };
        let bad = history.into_iter().chain([second(5_001), second(5_002)]).collect();
        assert!(is_bad(&check(&LOCK, &lock::prepare(bad), LIMIT / 20)), "{lost}");
    }
}

#[test]
fn the_search_agrees_with_trying_all_orders_for_queues_and_sets() {
    use queue::End;
    let queues = compare(&queue::Queue, queue::prepare, |rng, number| {
        let end = if rng.random_bool(0.5) { End::Left } else { End::Right };
        let some = |rng: &mut StdRng| rng.random_bool(0.7).then(|| rng.random_range(1..=number));
        let content = |rng: &mut StdRng| {
            let mut content: Vec<u64> = (1..=number).filter(|_| rng.random_bool(0.3)).collect();
            if rng.random_bool(0.3) {
                content.reverse();
            }
            queue::Reply::Content(content)
        };
        match rng.random_range(0..10) {
            0..4 => (queue::Call::Push(end, number), queue::Reply::Length(rng.random_range(1..4))),
            4..6 => (queue::Call::Pop(end), queue::Reply::Taken(some(rng))),
            6 => (queue::Call::Move, queue::Reply::Taken(some(rng))),
            7 => {
                let element = rng.random_range(1..=number);
                (queue::Call::Remove(element), queue::Reply::Removed(rng.random_bool(0.5)))
            }
            8 => (queue::Call::Read, content(rng)),
            _ => (queue::Call::ReadAside, content(rng)),
        }
    });
    let sets = compare(&set::Set, set::prepare, |rng, _| {
        let member = rng.random_range(1..3);
        let whether = set::Reply::Whether(rng.random_bool(0.7));
        match rng.random_range(0..10) {
            0..4 => (set::Call::Add(member), whether),
            4..6 => (set::Call::Remove(member), whether),
            6 => (set::Call::Has(member), whether),
            7 => (set::Call::Pop, set::Reply::Popped(rng.random_bool(0.7).then_some(member))),
            _ => {
                let members = (1..3).filter(|_| rng.random_bool(0.5)).collect();
                (set::Call::Read, set::Reply::Members(members))
            }
        }
    });
    for good in [queues, sets] {
        assert!(is_telling(good), "{queues} {sets}");
    }
}
