//! The keys of a run: which kind of object each is, and in which shard it lives.

use std::collections::HashSet;
use std::fmt;

use anyhow::{Context as _, Result};

use super::history::Call;

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
    /// LPUSH and RPUSH by producers, blocking pops and moves by consumers, and a list in which
    /// these put elements aside.
    Queue,
    /// SADD, SREM, SPOP, SISMEMBER, SMEMBERS of few members.
    Set,
    /// A counter in a field of a hash: HINCRBY, HGET.
    Field,
    /// A counter that is a score of a sorted set: ZINCRBY, ZSCORE.
    Score,
    /// Compare-and-set by scripts, which write every value in several places.
    Script,
    /// XADD by producers, a group of consumers with XREADGROUP, XAUTOCLAIM, XACK.
    Stream,
    /// A channel: PUBLISH, and a subscriber in each shard.
    Channel,
    /// Written, never checked: fills the WAL and the memtables.
    Ballast,
}

impl Kind {
    /// All that are checked.
    pub const ALL: [Self; 11] = [
        Self::Register,
        Self::Counter,
        Self::List,
        Self::Lock,
        Self::Queue,
        Self::Set,
        Self::Field,
        Self::Score,
        Self::Script,
        Self::Stream,
        Self::Channel,
    ];

    /// Its name in arguments.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Counter => "counter",
            Self::List => "list",
            Self::Lock => "lock",
            Self::Queue => "queue",
            Self::Set => "set",
            Self::Field => "field",
            Self::Score => "score",
            Self::Script => "script",
            Self::Stream => "stream",
            Self::Channel => "channel",
            Self::Ballast => "ballast",
        }
    }

    /// By name; ballast is always there.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// What shows all there is of it.
    pub fn reads(self) -> &'static [Call] {
        match self {
            Self::Queue => &[Call::Get, Call::Aside],
            Self::Stream => &[Call::Get, Call::Pending],
            Self::Channel | Self::Ballast => &[],
            _ => &[Call::Get],
        }
    }

    /// How many keys follow each other as one. What each operation without an answer did is for
    /// some kinds nowhere to be seen later, so that it nearly doubles the search for an order.
    pub(super) fn turns(self) -> usize {
        match self {
            Self::Lock | Self::Set => 8,
            Self::Queue => 12,
            _ => 1,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// As the server knows it.
    pub name: String,
    /// How it is used.
    pub kind: Kind,
    /// Of which shard its slot is, before anything moves.
    pub shard: usize,
    /// Locks: how long they last, ms.
    pub ttl_ms: u64,
    /// Position of the key that is used instead when too many operations on this one stayed without
    /// an answer.
    pub successor: Option<usize>,
}

impl Key {
    /// Queues: the list, in the same slot, in which consumers put elements aside.
    pub fn aside(&self) -> String {
        format!("{}:aside", self.name)
    }

    /// Scripts: a second string and a hash, in the same slot, that say the same.
    pub fn copies(&self) -> [String; 2] {
        [format!("{}:copy", self.name), format!("{}:hash", self.name)]
    }
}

/// Slots of a shard: inclusive ranges.
pub type Ranges = Vec<(u16, u16)>;

/// A lock that lasts longer than any run, and one that runs out within it.
const TTLS_MS: [u64; 2] = [120_000, 1_500];

/// The keys of a run, of these kinds and ballast, over shards of these slots; the fewer shards, the
/// more keys of each.
pub fn keys(shards: &[Ranges], kinds: &[Kind]) -> Result<Vec<Key>> {
    let each = if shards.len() > 1 { 1 } else { 2 };
    let count = |kind: Kind| match kind {
        Kind::Register | Kind::Lock => 2 * each,
        Kind::Counter | Kind::List | Kind::Queue | Kind::Set | Kind::Script | Kind::Stream => each,
        Kind::Field | Kind::Score | Kind::Channel | Kind::Ballast => 1,
    };
    let mut keys = Vec::new();
    for (shard, ranges) in shards.iter().enumerate() {
        for kind in kinds.iter().copied().chain([Kind::Ballast]) {
            for number in 0..count(kind) {
                let turns = kind.turns();
                for turn in 0..turns {
                    let stem = match turn {
                        0 => format!("{kind}-{number}"),
                        _ => format!("{kind}-{number}-{turn}"),
                    };
                    let name = name_in(ranges, &stem)?;
                    keys.push(Key {
                        // A tag, for what lies beside it.
                        name: match kind {
                            Kind::Queue | Kind::Script => format!("{{{name}}}"),
                            _ => name,
                        },
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

/// Positions of the keys that clients begin with: all but successors.
pub fn first_of(keys: &[Key]) -> Vec<usize> {
    let successors: HashSet<usize> = keys.iter().filter_map(|key| key.successor).collect();
    (0..keys.len()).filter(|index| !successors.contains(index)).collect()
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

/// Slot of a key that is all hash tag, or has none: CRC-16/XMODEM modulo 16384.
pub fn slot(key: &[u8]) -> u16 {
    let tag = key.strip_prefix(b"{").and_then(|rest| rest.split(|byte| *byte == b'}').next());
    let key = tag.unwrap_or(key);
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
        assert_eq!((slot(b"{foo}"), slot(b"{foo}:aside")), (12_182, 12_182));
    }

    #[test]
    fn every_shard_gets_keys_of_its_own() {
        let shards: Vec<Ranges> = ["0-5460", "5461-10922", "10923-16383"]
            .iter()
            .map(|text| vec![range(text).expect("a range")])
            .collect();
        let keys = keys(&shards, &Kind::ALL).expect("keys for every shard");
        for key in &keys {
            let (first, last) = shards[key.shard][0];
            assert!((first..=last).contains(&slot(key.name.as_bytes())), "{key:?}");
        }
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
            assert!((0..3).all(|s| keys.iter().any(|key| key.shard == s && key.kind == kind)));
        }
        for shard in 0..3 {
            let here: Vec<usize> =
                first_of(&keys).into_iter().filter(|i| keys[*i].shard == shard).collect();
            let of = |kind| here.iter().filter(|i| keys[**i].kind == kind).count();
            assert_eq!((of(Kind::Register), of(Kind::Lock), of(Kind::Ballast)), (2, 2, 1));
            assert_eq!((of(Kind::Queue), of(Kind::Set)), (1, 1));
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
