//! Even shares, compared with the least that any way could do.

use super::*;
use crate::simulation::SplitMix;
use crate::tests::record as sample;

/// Shards of these ranges, called 1, 2, …
pub(super) fn record(ranges: &[&[(u16, u16)]]) -> Record {
    let mut record = sample(&["a"]);
    let shard = record.shards[0].clone();
    record.shards = (1..)
        .zip(ranges)
        .map(|(id, ranges)| {
            let mut shard = crate::Shard { id: ShardId(id), ..shard.clone() };
            shard.slot_ranges = ranges.to_vec();
            for node in &mut shard.nodes {
                node.id = crate::tests::id(&format!("n{id}"));
                node.local.host = format!("n{id}");
                node.announced = None;
            }
            shard
        })
        .collect();
    record.check().expect("a record");
    record
}

fn show(given: &[Given]) -> Vec<String> {
    let line = |one: &Given| format!("{} {}>{}", one.slots, one.from.0, one.to.0);
    given.iter().map(line).collect()
}

/// The record after the moves.
pub(super) fn done(record: &Record, given: &[Given]) -> Record {
    check(record, given).expect("moves that can be queued");
    let mut record = record.clone();
    for one in given {
        for (id, is_added) in [(one.from, false), (one.to, true)] {
            let place = record.place_of(id).expect("a shard");
            let ranges = &mut record.shards[place].slot_ranges;
            let mut all: Vec<u16> = ranges.iter().flat_map(|&(a, b)| a..=b).collect();
            match is_added {
                true => all.extend(one.slots.iter()),
                false => all.retain(|slot| !one.slots.contains(*slot)),
            }
            *ranges = joined(all);
        }
    }
    record.check().expect("a record");
    record
}

pub(super) fn counts(record: &Record) -> Vec<usize> {
    record.shards.iter().map(|shard| joined_len(&shard.slot_ranges)).collect()
}

fn joined_len(ranges: &[(u16, u16)]) -> usize {
    ranges.iter().map(|&(a, b)| usize::from(b - a) + 1).sum()
}

pub(super) fn moved(given: &[Given]) -> usize {
    given.iter().map(|one| one.slots.iter().count()).sum()
}

#[test]
fn a_new_shard_gets_its_share_from_each() {
    let four = record(&[&[(0, 5461)], &[(5462, 10922)], &[(10923, 16383)], &[]]);
    let given = even(&four);
    let mut lines = show(&given);
    lines.sort();
    assert_eq!(lines, ["15019-16383 3>4", "4096-5461 1>4", "9558-10922 2>4"]);
    assert_eq!(counts(&done(&four, &given)), [4096; 4]);
    assert_eq!(even(&done(&four, &given)), []);
}

#[test]
fn those_that_make_up_for_each_other_are_paired() {
    // 1 gives what 4 lacks and 2 what 3 lacks: two moves, where one after the other takes three.
    let four = record(&[&[(0, 5)], &[(6, 12)], &[(13, 13)], &[(14, 15)]]);
    let given = even(&four);
    assert_eq!(counts(&done(&four, &given)), [4; 4]);
    assert_eq!((given.len(), moved(&given)), (2, 5));
}

#[test]
fn one_slot_more_is_no_reason_to_move() {
    assert_eq!(even(&record(&[&[(0, 5461)], &[(5462, 10922)], &[(10923, 16383)]])), []);
    assert_eq!(even(&record(&[&[(0, 16383)]])), []);
}

#[test]
fn a_drained_shard_is_empty_and_nothing_moves_among_the_others() {
    let three = record(&[&[(0, 9)], &[(10, 11)], &[(12, 14)]]);
    let given = drain(&three, ShardId(1)).unwrap();
    let after = done(&three, &given);
    assert_eq!(counts(&after), [0, 8, 7]);
    assert_eq!(moved(&given), 10);
    assert_eq!(drain(&after, ShardId(1)).unwrap(), []);
    assert_eq!(drain(&after, ShardId(9)), Err(Refusal::Unknown(ShardId(9))));
    assert_eq!(drain(&record(&[&[(0, 9)]]), ShardId(1)), Err(Refusal::Alone));
}

#[test]
fn a_shard_is_drained_to_the_lightest_by_what_slots_weigh() {
    let three = record(&[&[(0, 5_999)], &[(6_000, 8_999)], &[(9_000, 16_383)]]);
    let weights = |each: [u64; 3]| {
        let mut weights = api::moves::Weights::default();
        for (shard, bytes) in three.shards.iter().zip(each) {
            let slots = shard.slot_ranges.iter().flat_map(|&(first, last)| first..=last);
            slots.for_each(|slot| weights.set(slot, bytes));
        }
        weights
    };
    let drained = |each| show(&drain_bytes(&three, &weights(each), ShardId(3)).unwrap());
    // 6,000 and 30,000 of the others, and 29,536 that go.
    assert_eq!(drained([1, 10, 4]), ["9000-15691 3>1", "15692-16383 3>2"]);
    assert_eq!(drained([1, 100, 4]), ["9000-16383 3>1"]);
    // A heavy slot that nobody has place for goes all the same, and what weighs nothing with it.
    let one = record(&[&[(0, 0)], &[(1, 1)], &[(2, 3)]]);
    let mut heavy = weights([0, 0, 0]);
    heavy.set(3, 1);
    assert_eq!(show(&drain_bytes(&one, &heavy, ShardId(3)).unwrap()), ["2-3 3>2"]);
    assert_eq!(drain_bytes(&three, &weights([1, 1, 0]), ShardId(3)), drain(&three, ShardId(3)));
    let some = weights([1, 1, 1]);
    assert_eq!(drain_bytes(&three, &some, ShardId(9)), Err(Refusal::Unknown(ShardId(9))));
    let alone = record(&[&[(0, 9)]]);
    assert_eq!(drain_bytes(&alone, &some, ShardId(1)), Err(Refusal::Alone));
}

#[test]
fn what_is_on_its_way_counts_where_it_goes_to() {
    let mut two = record(&[&[(0, 9)], &[]]);
    two.moves.queue("0-4".parse().unwrap(), ShardId(1), ShardId(2));
    assert_eq!(even(&two), []);
    let drained = drain(&two, ShardId(1)).unwrap();
    assert_eq!(show(&drained), ["5-9 1>2"]);
    assert_eq!(drain(&two, ShardId(2)).unwrap(), [], "nothing is there yet");
}

#[test]
fn slots_come_from_whoever_has_them() {
    let three = record(&[&[(0, 9)], &[(10, 19)], &[(20, 29)]]);
    let given = to(&three, &"8-11".parse().unwrap(), ShardId(3)).unwrap();
    assert_eq!(show(&given), ["8-9 1>3", "10-11 2>3"]);
    let refused = |text: &str, id| to(&three, &text.parse().unwrap(), ShardId(id)).unwrap_err();
    assert_eq!(
        refused("8-31", 2).to_string(),
        "slots 10-19 belong to shard 0000000000000002 already"
    );
    assert_eq!(refused("0-9,29-31", 2).to_string(), "slots 30-31 belong to no shard");
    assert_eq!(refused("0", 7).to_string(), "shard 0000000000000007: not found");
    let mut busy = three.clone();
    busy.moves.queue("5-12".parse().unwrap(), ShardId(1), ShardId(3));
    let why = to(&busy, &"0-6".parse().unwrap(), ShardId(2)).unwrap_err();
    assert_eq!(why, Refusal::UnderWay("5-6".parse().unwrap(), MoveId(1)));
}

#[test]
fn what_was_shown_is_looked_at_again_before_it_is_queued() {
    let two = record(&[&[(0, 9)], &[(10, 19)]]);
    let given = |slots: &str, from, to| Given {
        slots: slots.parse().unwrap(),
        from: ShardId(from),
        to: ShardId(to),
    };
    assert_eq!(check(&two, &[given("0-4", 1, 2), given("5-9", 1, 2)]), Ok(()));
    let why = |all: &[Given]| check(&two, all).unwrap_err().to_string();
    assert_eq!(why(&[given("0-4", 1, 2), given("4-5", 1, 2)]), "slots 4 are named twice");
    assert_eq!(why(&[given("5-14", 1, 2)]), "slots 10-14 do not belong to shard 0000000000000001");
    assert_eq!(why(&[given("5", 1, 1)]), "slots 5 belong to shard 0000000000000001 already");
    assert_eq!(why(&[given("5", 1, 3)]), "shard 0000000000000003: not found");
}

/// The fewest slots that must move, over all ways to say who keeps one more.
fn least_by_trying(counts: &[usize]) -> usize {
    let (total, shards) = (counts.iter().sum::<usize>(), counts.len());
    let (base, more) = (total / shards, total % shards);
    (0_u32..1 << shards)
        .filter(|mask| mask.count_ones() as usize == more)
        .map(|mask| {
            let target = |at: usize| base + usize::from(mask >> at & 1 == 1);
            counts.iter().enumerate().map(|(at, count)| count.saturating_sub(target(at))).sum()
        })
        .min()
        .unwrap_or(0)
}

/// The same of any number of shards: who has more than the mean keeps one more first.
pub(super) fn least(counts: &[usize]) -> usize {
    let (total, shards) = (counts.iter().sum::<usize>(), counts.len());
    let above = counts.iter().map(|count| count.saturating_sub(total / shards));
    let keep = counts.iter().filter(|count| **count > total / shards).count();
    above.sum::<usize>() - keep.min(total % shards)
}

/// The fewest transfers that settle the balances, by trying all.
fn fewest(balances: &mut Vec<i64>) -> usize {
    let Some(at) = balances.iter().position(|balance| *balance != 0) else { return 0 };
    let mut best = usize::MAX;
    for other in at + 1..balances.len() {
        if balances[other] * balances[at] < 0 {
            let (kept, own) = (balances[other], balances[at]);
            (balances[other], balances[at]) = (kept + own, 0);
            best = best.min(1 + fewest(balances));
            (balances[other], balances[at]) = (kept, own);
        }
    }
    best
}

/// Shards of so many slots each, scattered: slot after slot in turn.
fn scattered(counts: &[usize]) -> Record {
    let mut ranges: Vec<Vec<u16>> = vec![Vec::new(); counts.len()];
    let mut slot = 0;
    for round in 0..counts.iter().copied().max().unwrap_or(0) {
        for (of, count) in ranges.iter_mut().zip(counts) {
            if round < *count {
                of.push(slot);
                slot += 1;
            }
        }
    }
    let ranges: Vec<Vec<(u16, u16)>> = ranges.into_iter().map(joined).collect();
    record(&ranges.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// So many slots of each of up to so many shards.
fn some_counts(rng: &mut SplitMix, shards: usize, slots: usize) -> Vec<usize> {
    let many = 2 + rng.next_u32() as usize % (shards - 1);
    (0..many).map(|_| rng.next_u32() as usize % slots).collect()
}

#[test]
fn the_least_moves_and_by_the_fewest_moves() {
    for seed in 0..400 {
        let counts = some_counts(&mut SplitMix(seed), 7, 40);
        let before = scattered(&counts);
        let given = even(&before);
        assert_eq!(moved(&given), least_by_trying(&counts), "{counts:?}");
        assert_eq!(least(&counts), least_by_trying(&counts), "{counts:?}");
        let after = super::tests::counts(&done(&before, &given));
        let (low, high) = (after.iter().min().unwrap(), after.iter().max().unwrap());
        assert!(high - low <= 1, "{counts:?} to {after:?}");
        let balance = |(a, b): (&usize, &usize)| count(*a) - count(*b);
        let mut balances: Vec<i64> = counts.iter().zip(&after).map(balance).collect();
        assert_eq!(given.len(), fewest(&mut balances), "{counts:?}");
    }
}

#[test]
fn many_shards_are_evened_and_drained_too() {
    for seed in 0..100 {
        let mut rng = SplitMix(seed);
        let counts = some_counts(&mut rng, 120, 60);
        let before = scattered(&counts);
        let given = even(&before);
        let after = super::tests::counts(&done(&before, &given));
        assert!(after.iter().max().unwrap() - after.iter().min().unwrap() <= 1, "{after:?}");
        assert!(given.len() < counts.len(), "{} moves", given.len());
        let place = rng.next_u32() as usize % counts.len();
        let given = drain(&before, before.shards[place].id).unwrap();
        let after = super::tests::counts(&done(&before, &given));
        assert_eq!((after[place], moved(&given)), (0, counts[place]));
        let others = || (0..after.len()).filter(|at| *at != place);
        let took = others().filter(|at| after[*at] > counts[*at]);
        let high = took.map(|at| after[at]).max().unwrap_or(0);
        for at in others() {
            assert!(after[at] + 1 >= high, "{at} could have taken more: {after:?}");
        }
    }
}
