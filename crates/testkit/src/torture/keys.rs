//! The keys of a run: which kind of object each is, and in which shard it lives.

use std::collections::HashSet;
use std::fmt;

use anyhow::{Context as _, Result};

/// What a key is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// SET, GET, SET … GET of unique values.
    Register,
    /// INCR, GET.
    Counter,
    /// APPEND of unique elements, GET.
    List,
    /// SET NX PX, released by token.
    Lock,
    /// Written, never checked: fills the WAL and the memtables.
    Ballast,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Register => "register",
            Self::Counter => "counter",
            Self::List => "list",
            Self::Lock => "lock",
            Self::Ballast => "ballast",
        })
    }
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// As the server knows it.
    pub name: String,
    /// How it is used.
    pub kind: Kind,
    /// Of which shard its slot is.
    pub shard: usize,
    /// Locks: how long they last, ms.
    pub ttl_ms: u64,
    /// Locks: position of the key that is used instead when too many operations on this one stayed without an answer. Who may
    /// have taken a lock is nowhere to be seen later, so that each of them nearly doubles the search for an order.
    pub successor: Option<usize>,
}

/// Slots of a shard: inclusive ranges.
pub type Ranges = Vec<(u16, u16)>;

/// A lock that lasts longer than any run, and one that runs out within it.
const TTLS_MS: [u64; 2] = [120_000, 1_500];

/// Keys that follow each other as one lock.
const LOCK_TURNS: usize = 8;

/// The keys of a run over shards of these slots; the fewer shards, the more keys of each.
pub fn keys(shards: &[Ranges]) -> Result<Vec<Key>> {
    let each = if shards.len() > 1 { 1 } else { 2 };
    let kinds = [
        (Kind::Register, 2 * each),
        (Kind::Counter, each),
        (Kind::List, each),
        (Kind::Lock, 2 * each),
        (Kind::Ballast, 1),
    ];
    let mut keys = Vec::new();
    for (shard, ranges) in shards.iter().enumerate() {
        for (kind, count) in kinds {
            for number in 0..count {
                let turns = if kind == Kind::Lock { LOCK_TURNS } else { 1 };
                for turn in 0..turns {
                    let stem = match turn {
                        0 => format!("{kind}-{number}"),
                        _ => format!("{kind}-{number}-{turn}"),
                    };
                    keys.push(Key {
                        name: name_in(ranges, &stem)?,
                        kind,
                        shard,
                        ttl_ms: TTLS_MS[number % TTLS_MS.len()],
                        successor: (turn + 1 < turns).then_some(keys.len() + 1),
                    });
                }
            }
        }
    }
    Ok(keys)
}

/// Positions of the keys of a shard that clients begin with: all but successors.
pub fn first_of(keys: &[Key], shard: usize) -> Vec<usize> {
    let successors: HashSet<usize> = keys.iter().filter_map(|key| key.successor).collect();
    let is_first = |index: &usize| keys[*index].shard == shard && !successors.contains(index);
    (0..keys.len()).filter(is_first).collect()
}

/// A name with this beginning whose slot is within the ranges.
fn name_in(ranges: &Ranges, stem: &str) -> Result<String> {
    let is_in = |name: &String| {
        let slot = slot(name.as_bytes());
        ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    };
    let mut names = (0..1_000_000_u64).map(|number| format!("{stem}:{number}"));
    names.find(is_in).with_context(|| format!("find a key for slots {ranges:?}"))
}

/// Slot of a key without a hash tag: CRC-16/XMODEM modulo 16384.
pub fn slot(key: &[u8]) -> u16 {
    let crc = key.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 16_384
}

/// `0-5460` or `7`, as the controller writes them.
pub fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!((slot(b"foo"), slot(b"123456789")), (12_182, 0x31c3));
    }

    #[test]
    fn every_shard_gets_keys_of_its_own() {
        let shards: Vec<Ranges> = ["0-5460", "5461-10922", "10923-16383"]
            .iter()
            .map(|text| vec![range(text).expect("a range")])
            .collect();
        let keys = keys(&shards).expect("keys for every shard");
        for key in &keys {
            let (first, last) = shards[key.shard][0];
            assert!((first..=last).contains(&slot(key.name.as_bytes())), "{key:?}");
        }
        for kind in [Kind::Register, Kind::Counter, Kind::List, Kind::Lock] {
            assert!((0..3).all(|s| keys.iter().any(|key| key.shard == s && key.kind == kind)));
        }
        for shard in 0..3 {
            let of =
                |kind| first_of(&keys, shard).iter().filter(|i| keys[**i].kind == kind).count();
            assert_eq!((of(Kind::Register), of(Kind::Lock), of(Kind::Ballast)), (2, 2, 1));
        }
        for (key, next) in keys.iter().filter_map(|key| Some((key, &keys[key.successor?]))) {
            assert_eq!((key.kind, key.shard, key.ttl_ms), (next.kind, next.shard, next.ttl_ms));
        }
        let mut names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), keys.len());
    }
}
