//! What moves from shard to shard while faults happen: a function of the seed, as the faults are.
//!
//! Pure. The slots that a shard begins with are cut into blocks; a block moves as a whole, so that
//! it always has one owner. Where it is by then, and so where it goes, is looked up when the time
//! comes.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::actions::{Action, Fault, QUIET_MS, Target};
use super::args::Options;
use super::keys::Ranges;
use super::setup::Shape;

/// Told apart from the seeds of faults.
const SEED: u64 = 0x6d6f_7665_0000_0000;
/// Blocks of each shard.
pub const BLOCKS: usize = 3;

/// A block is to go to another shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errand {
    /// ms after the clients began.
    pub at_ms: u64,
    /// The shard that began with it.
    pub home: usize,
    /// Which of its blocks.
    pub block: usize,
    /// So many shards on from where it is: 1 or more.
    pub by: usize,
    /// What becomes of it.
    pub then: Then,
}

/// What an operator does with a move that is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// It is given up after so many ms.
    Cancel(u64),
    /// It is paused after so many ms, and resumed after so many more.
    Pause(u64, u64),
}

/// The errands of a seed, and cuts between giver and taker, which no other fault makes alone.
pub fn draw(seed: u64, shape: Shape, options: &Options) -> (Vec<Errand>, Vec<Fault>) {
    let (mut errands, mut cuts) = (Vec::new(), Vec::new());
    if !options.moves || shape.shards < 2 {
        return (errands, cuts);
    }
    let mut rng = StdRng::seed_from_u64(seed ^ SEED);
    let mut at_ms = QUIET_MS / 2;
    while at_ms < options.seconds * 1_000 {
        let then = match rng.random_range(0..10) {
            0 | 1 => Then::Cancel(rng.random_range(0..3_000)),
            2 => Then::Pause(rng.random_range(0..1_500), rng.random_range(200..3_000)),
            _ => Then::Nothing,
        };
        errands.push(Errand {
            at_ms,
            home: rng.random_range(0..shape.shards),
            block: rng.random_range(0..BLOCKS),
            by: rng.random_range(1..shape.shards),
            then,
        });
        at_ms += rng.random_range(100..1_200);
    }
    if !options.faults.is_empty() {
        for _ in 0..rng.random_range(0..3) {
            cuts.push(cut(&mut rng, shape, options.seconds * 1_000));
        }
    }
    (errands, cuts)
}

fn cut(rng: &mut StdRng, shape: Shape, until_ms: u64) -> Fault {
    let from = rng.random_range(0..shape.shards);
    let to = (from + rng.random_range(1..shape.shards)) % shape.shards;
    let (from, to) = (vec![Target::Master(from)], vec![Target::Master(to)]);
    let (both, blackhole) = (rng.random_bool(0.7), rng.random_bool(0.3));
    Fault {
        at_ms: rng.random_range(QUIET_MS..until_ms.max(QUIET_MS + 1)),
        for_ms: rng.random_range(300..5_000),
        action: Action::Cut { from, to, both, blackhole },
    }
}

/// The slots of a block, of those that a shard begins with.
pub fn block(slots: &Ranges, block: usize) -> Ranges {
    let all: Vec<u16> = slots.iter().flat_map(|(first, last)| *first..=*last).collect();
    let at = |block: usize| all.len() * block / BLOCKS;
    let mut ranges: Ranges = Vec::new();
    for slot in all.get(at(block)..at(block + 1)).unwrap_or_default() {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*slot) => *last = *slot,
            _ => ranges.push((*slot, *slot)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_all_of_the_slots_and_each_slot_is_in_one() {
        let slots = vec![(0, 9), (20, 30), (65_535, 65_535)];
        let mut all: Vec<u16> = Vec::new();
        for number in 0..BLOCKS {
            let ranges = block(&slots, number);
            assert!(!ranges.is_empty());
            all.extend(ranges.iter().flat_map(|(first, last)| *first..=*last));
        }
        let expected: Vec<u16> = (0..=9).chain(20..=30).chain([65_535]).collect();
        assert_eq!(all, expected);
        assert_eq!(block(&Vec::new(), 0), []);
    }

    #[test]
    fn errands_follow_from_the_seed_and_only_if_they_are_asked_for() {
        let shape = Shape { shards: 3, nodes: 2 };
        let options = Options { moves: true, ..Options::default() };
        let mut kinds = [0; 3];
        for seed in 0..50 {
            let (errands, cuts) = draw(seed, shape, &options);
            assert_eq!(
                (&errands, &cuts),
                (&draw(seed, shape, &options).0, &draw(seed, shape, &options).1)
            );
            assert!(errands.len() > 5 && errands.is_sorted_by_key(|errand| errand.at_ms));
            for errand in errands {
                assert!(errand.home < 3 && errand.block < BLOCKS && (1..3).contains(&errand.by));
                kinds[match errand.then {
                    Then::Nothing => 0,
                    Then::Cancel(_) => 1,
                    Then::Pause(..) => 2,
                }] += 1;
            }
        }
        assert!(kinds.iter().all(|count| *count > 10), "{kinds:?}");
        assert_eq!(draw(1, shape, &Options::default()), (vec![], vec![]));
        let none = Options { faults: vec![], ..options };
        assert!(draw(1, shape, &none).1.is_empty());
    }
}
