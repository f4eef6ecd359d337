//! Sixteen uneven shards, and other numbers of them, brought to even shares: what moves beside the
//! least that any way could do. The figures are in `docs/performance.md`.

use api::moves::Weights;

use super::tests::{counts, done, least, moved, record};
use super::*;
use crate::simulation::SplitMix;

const MIB: u64 = 1 << 20;

/// How shards came to be uneven.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Of ranges of any length, and slots of about the same weight.
    Ranges,
    /// Of the same number of slots, in some of which more lies.
    Weights,
    /// One was added, and is empty.
    Added,
    /// By many moves before: each has slots here and there.
    Scattered,
}

const KINDS: [(Kind, &str); 4] = [
    (Kind::Ranges, "ranges of any length"),
    (Kind::Weights, "slots of any weight"),
    (Kind::Added, "one added, empty"),
    (Kind::Scattered, "slots here and there"),
];

fn below(rng: &mut SplitMix, bound: u64) -> u64 {
    rng.next_u64() % bound
}

/// The owner of each slot.
fn owners(kind: Kind, shards: usize, rng: &mut SplitMix) -> Vec<usize> {
    let slots = usize::from(topology::SLOT_COUNT);
    let evenly = |slot: usize, shards: usize| slot * shards / slots;
    match kind {
        Kind::Weights => (0..slots).map(|slot| evenly(slot, shards)).collect(),
        Kind::Added => (0..slots).map(|slot| evenly(slot, shards - 1)).collect(),
        Kind::Ranges => {
            let mut ends: Vec<usize> =
                (1..shards).map(|_| below(rng, slots as u64) as usize).collect();
            ends.sort_unstable();
            (0..slots).map(|slot| ends.iter().filter(|end| **end <= slot).count()).collect()
        }
        Kind::Scattered => {
            let mut owners = Vec::new();
            while owners.len() < slots {
                // Those with a low number have more and longer runs.
                let owner = below(rng, shards as u64).min(below(rng, shards as u64)) as usize;
                let run = 1 + below(rng, 60) as usize;
                owners.extend(std::iter::repeat_n(owner, run.min(slots - owners.len())));
            }
            owners
        }
    }
}

/// About 64 MiB a slot; where they are of any weight, some have a hundred times as much as others,
/// and shards differ by as much as three times.
fn weights(kind: Kind, owners: &[usize], rng: &mut SplitMix) -> Weights {
    let mut weights = Weights::default();
    let shards = owners.iter().max().map_or(1, |last| last + 1);
    let of_shard: Vec<u64> = (0..shards).map(|_| 50 + below(rng, 100)).collect();
    for (slot, owner) in (0..).zip(owners) {
        let bytes = match kind {
            Kind::Weights => of_shard[*owner] * (MIB / 100) * (1 << below(rng, 8)) * 5 / 2,
            _ => 56 * MIB + below(rng, 16 * MIB),
        };
        weights.set(slot, bytes);
    }
    weights
}

/// Shards, and what their slots weigh.
fn uneven(kind: Kind, shards: usize, seed: u64) -> (Record, Weights) {
    let mut rng = SplitMix(seed);
    let owners = owners(kind, shards, &mut rng);
    let of = |shard| {
        let own = (0..).zip(&owners).filter(move |(_, owner)| **owner == shard);
        joined(own.map(|(slot, _)| slot))
    };
    let ranges: Vec<Vec<(u16, u16)>> = (0..shards).map(of).collect();
    let record = record(&ranges.iter().map(Vec::as_slice).collect::<Vec<_>>());
    (record, weights(kind, &owners, &mut rng))
}

fn bytes_of(record: &Record, weights: &Weights) -> Vec<u64> {
    loads(record, weights).into_iter().map(|(_, load)| load).collect()
}

fn bytes_moved(given: &[Given], weights: &Weights) -> u64 {
    given.iter().map(|one| weights.sum(one.slots.iter())).sum()
}

/// The least bytes after which all are within the tolerance, if slots could be cut: what the heavy
/// ones have too much, or the light ones too little, whichever is more.
fn least_bytes(loads: &[u64], tolerance: u64) -> u64 {
    let mean = loads.iter().sum::<u64>() / loads.len() as u64;
    let off = mean * tolerance / 100;
    let over: u64 = loads.iter().map(|load| load.saturating_sub(mean + off)).sum();
    let under: u64 = loads.iter().map(|load| (mean - off).saturating_sub(*load)).sum();
    over.max(under)
}

/// As the planner's documentation has it.
fn slack(loads: &[u64]) -> u64 {
    let total: u64 = loads.iter().sum();
    let off = total / loads.len() as u64 * u64::from(TOLERANCE) / 100;
    (off / 40).max(total / 32_768)
}

fn ranges(given: &[Given]) -> usize {
    given.iter().map(|one| one.slots.ranges().len()).sum()
}

/// Furthest from the mean, in tenths of a percent of it.
fn furthest(loads: &[u64]) -> u64 {
    let mean = loads.iter().sum::<u64>() / loads.len() as u64;
    loads.iter().map(|load| load.abs_diff(mean) * 1_000 / mean).max().unwrap_or(0)
}

#[test]
fn no_slot_moves_that_need_not_whatever_the_shards_are() {
    for seed in 0..1_000 {
        let kind = KINDS[seed as usize % KINDS.len()].0;
        let shards = 2 + (seed as usize * 7) % 60;
        let (before, _) = uneven(kind, shards, seed);
        let given = even(&before);
        assert!(seed % 10 > 0 || given == even(&before), "the same again");
        assert_eq!(moved(&given), least(&counts(&before)), "{kind:?}, {shards} shards, {seed}");
        assert!(given.len() < shards, "{} moves for {shards} shards", given.len());
        let after = counts(&done(&before, &given));
        assert!(after.iter().max().unwrap() - after.iter().min().unwrap() <= 1, "{after:?}");
    }
}

#[test]
fn bytes_are_evened_by_little_more_than_the_least() {
    for seed in 0..1_000 {
        let kind = KINDS[seed as usize % KINDS.len()].0;
        let shards = 2 + (seed as usize * 11) % 38;
        let (before, weights) = uneven(kind, shards, seed);
        let loads = bytes_of(&before, &weights);
        let given = even_bytes(&before, &weights, TOLERANCE);
        let label = format!("{kind:?}, {shards} shards, seed {seed}");
        let again = || even_bytes(&before, &weights, TOLERANCE);
        assert!(seed % 10 > 0 || given == again(), "the same again");
        let (moved, least) = (bytes_moved(&given, &weights), least_bytes(&loads, 5));
        assert!(moved <= least + 7 * shards as u64 * slack(&loads), "{label}: {moved} of {least}");
        assert!(given.len() < shards, "{label}: {} moves", given.len());
        let after = done(&before, &given);
        let then = bytes_of(&after, &weights);
        assert!(furthest(&then) <= 50, "{label}: {then:?}");
        assert_eq!(even_bytes(&after, &weights, TOLERANCE), [], "{label}: nothing is left to do");
        let had = before.shards.iter().map(|shard| shard.slot_ranges.len()).sum::<usize>();
        assert!(ranges(&given) <= had + 4 * given.len(), "{label}: {} ranges", ranges(&given));
    }
}

#[test]
fn what_grows_and_shrinks_a_little_does_not_swing() {
    for seed in 0..100 {
        let (before, weights) = uneven(Kind::Ranges, 16, seed);
        let after = done(&before, &even_bytes(&before, &weights, TOLERANCE));
        let (mut rng, mut other) = (SplitMix(seed + 1_000), Weights::default());
        for slot in 0..topology::SLOT_COUNT {
            other.set(slot, weights.of(slot) * (900 + below(&mut rng, 201)) / 1_000);
        }
        let again = bytes_moved(&even_bytes(&after, &other, TOLERANCE), &other);
        let total = other.sum(0..topology::SLOT_COUNT);
        assert!(again <= total / 100, "seed {seed}: {again} of {total}");
    }
}

#[test]
fn a_slot_that_is_too_heavy_alone_stays_and_the_others_leave_it() {
    let two = record(&[&[(0, 99)], &[(100, 199)]]);
    let mut weights = Weights::default();
    for slot in 0..200 {
        weights.set(slot, 1_000_000);
    }
    weights.set(50, 1_000_000_000);
    let given = even_bytes(&two, &weights, TOLERANCE);
    let after = done(&two, &given);
    assert_eq!(after.shards[0].slot_ranges, [(50, 50)], "{given:?}");
    assert_eq!(even_bytes(&after, &weights, TOLERANCE), []);
    assert_eq!(even_bytes(&two, &Weights::default(), TOLERANCE), [], "nothing is known");
    // What is on its way counts where it goes to, and is left alone.
    let mut busy = record(&[&[(0, 99)], &[]]);
    (0..100).for_each(|slot| weights.set(slot, 1_000_000));
    busy.moves.queue("0-49".parse().unwrap(), ShardId(1), ShardId(2));
    assert_eq!(even_bytes(&busy, &weights, TOLERANCE), []);
    assert_eq!(loads(&busy, &weights), [(ShardId(1), 50_000_000), (ShardId(2), 50_000_000)]);
}

fn median_and_worst(mut values: Vec<u64>) -> (u64, u64) {
    values.sort_unstable();
    (values[values.len() / 2], values[values.len() - 1])
}

fn percent(tenths: u64) -> String {
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// Median and worst.
fn both(values: Vec<u64>, show: impl Fn(u64) -> String) -> String {
    let (median, worst) = median_and_worst(values);
    format!("{} / {}", show(median), show(worst))
}

/// One row: sixteen shards, two hundred seeds; of each figure the median and the worst.
fn row(by: &str, kind: (Kind, &str)) -> String {
    let mut columns: [Vec<u64>; 6] = Default::default();
    for seed in 0..200 {
        let (before, weights) = uneven(kind.0, 16, seed);
        let (given, all, least, moves) = if by == "slots" {
            let given = even(&before);
            let moves = moved(&given) as u64;
            (given, 16_384_u64, least(&counts(&before)) as u64, moves)
        } else {
            let loads = bytes_of(&before, &weights);
            let given = even_bytes(&before, &weights, TOLERANCE);
            let moves = bytes_moved(&given, &weights);
            (given, loads.iter().sum::<u64>(), least_bytes(&loads, 5), moves)
        };
        let share = |record: &Record| match by {
            "slots" => furthest(&counts(record).into_iter().map(|n| n as u64).collect::<Vec<_>>()),
            _ => furthest(&bytes_of(record, &weights)),
        };
        let figures = [
            least * 1_000 / all,
            moves.saturating_sub(least) * 1_000 / all,
            given.len() as u64,
            ranges(&given) as u64,
            share(&before),
            share(&done(&before, &given)),
        ];
        for (column, figure) in columns.iter_mut().zip(figures) {
            column.push(figure);
        }
    }
    let plain = |number: u64| number.to_string();
    let [least, over, moves, ranges, before, after] = columns;
    let cells = [
        format!("{by}, {}", kind.1),
        both(least, percent),
        both(over, percent),
        both(moves, plain),
        both(ranges, plain),
        both(before, percent),
        both(after, percent),
    ];
    format!("| {} |\n", cells.join(" | "))
}

#[test]
fn the_figures_of_sixteen_uneven_shards_are_those_of_the_page() {
    let mut table =
        "| by, shards | least | more than that | moves | ranges | furthest before | and after |\n\
                     |---|---|---|---|---|---|---|\n"
            .to_owned();
    for by in ["slots", "bytes"] {
        let kinds =
            KINDS.into_iter().filter(|(kind, _)| by == "bytes" || !matches!(kind, Kind::Weights));
        kinds.for_each(|kind| table.push_str(&row(by, kind)));
    }
    let page = include_str!("../../../../docs/performance.md");
    assert!(page.contains(&table), "docs/performance.md does not have:\n{table}");
}
