//! Striped key locks: what reads and then writes a key is alone with it.
//!
//! They go by the bare key, in whatever namespace it is: so who moves or copies a key from one
//! namespace to another holds both ends, and an EXEC with SELECT knows its locks before it runs.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

/// Number of stripes; two keys share one with a chance of 1 in 4096.
const STRIPES: usize = 4096;

/// Locks over keys. A thread that waits for a stripe holds none, or takes several in ascending
/// order: no circle of waiting threads can form.
#[derive(Debug)]
pub struct Locks(Box<[Lock]>);

/// Alone on a line of the cache. Side by side they are 64 to a line, and a worker that lets go of
/// one would have to get its line back from another one that has locked any of its neighbours.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Lock(Mutex<()>);

/// Held stripes.
pub type Held<'a> = SmallVec<[MutexGuard<'a, ()>; 2]>;

/// Stripes of some keys, ascending, each once.
pub type Stripes = SmallVec<[u16; 8]>;

impl Default for Locks {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| Lock::default()).collect())
    }
}

impl Locks {
    /// The stripes of these keys.
    pub fn stripes<'k>(keys: impl Iterator<Item = &'k [u8]>) -> Stripes {
        let mut stripes: Stripes = keys.map(stripe).collect();
        if stripes.len() > 1 {
            stripes.sort_unstable();
            stripes.dedup();
        }
        stripes
    }

    /// Those of all keys.
    pub fn all_stripes() -> Stripes {
        (0..STRIPES).filter_map(|stripe| u16::try_from(stripe).ok()).collect()
    }

    /// Locks these stripes; the caller holds none. Nobody waits for so long who may have the gate.
    #[cfg(test)]
    pub fn lock(&self, stripes: &[u16]) -> Held<'_> {
        stripes.iter().filter_map(|stripe| Some(self.of(*stripe)?.lock())).collect()
    }

    /// Locks these stripes if all are free, without waiting: allowed also to a caller that holds
    /// others.
    pub fn try_lock(&self, stripes: &[u16]) -> Option<Held<'_>> {
        stripes.iter().map(|stripe| self.of(*stripe)?.try_lock()).collect()
    }

    /// Locks these stripes, but gives up after `patience`; the caller holds none.
    pub fn lock_within(&self, stripes: &[u16], patience: Duration) -> Option<Held<'_>> {
        let mut until = None;
        let lock = |stripe: &u16| {
            let mutex = self.of(*stripe)?;
            mutex.try_lock().or_else(|| {
                // The clock is looked at by those alone that have to wait.
                let until = *until.get_or_insert_with(|| Instant::now() + patience);
                mutex.try_lock_until(until)
            })
        };
        stripes.iter().map(lock).collect()
    }

    /// Locks everything; the caller holds none.
    #[cfg(test)]
    pub fn lock_all(&self) -> Held<'_> {
        self.0.iter().map(|Lock(mutex)| mutex.lock()).collect()
    }

    fn of(&self, stripe: u16) -> Option<&Mutex<()>> {
        self.0.get(usize::from(stripe)).map(|Lock(mutex)| mutex)
    }
}

/// Eight bytes a step, as every write asks; the same for every process. A key that somebody has
/// chosen to share a stripe lets other writes of it wait, and nothing else.
fn stripe(key: &[u8]) -> u16 {
    /// Odd, and without a pattern: the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(FACTOR);
        (product >> 64) as u64 ^ product as u64
    };
    let length = (key.len() as u64).wrapping_mul(FACTOR);
    let hash = match key.last_chunk::<8>() {
        // What is left behind the others is among the last eight.
        Some(last) => {
            let (words, _) = key.as_chunks::<8>();
            let words = words.iter().chain([last]);
            words.fold(length, |hash, word| fold(hash, u64::from_le_bytes(*word)))
        }
        None => fold(length, key.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))),
    };
    u16::try_from(hash & (STRIPES as u64 - 1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_twice_is_locked_once() {
        let locks = Locks::default();
        let stripes = Locks::stripes([b"a".as_slice(), b"a", b"b"].into_iter());
        assert_eq!(locks.lock(&stripes).len(), 2);
        assert_eq!(locks.lock_all().len(), STRIPES);
    }

    #[test]
    fn keys_that_follow_each_other_are_spread() {
        let names: [fn(u32) -> String; 3] =
            [|n: u32| n.to_string(), |n| format!("user:{n}"), |n| format!("key:{n:012}")];
        for name in names {
            let mut counts = vec![0; STRIPES];
            for number in 0..8192 {
                counts[usize::from(stripe(name(number).as_bytes()))] += 1;
            }
            // Of so many, chance leaves 554 stripes empty.
            let empty = counts.iter().filter(|count| **count == 0).count();
            assert!(empty < 700 && counts.iter().all(|count| *count < 16), "{}", name(0));
        }
        // A byte at any place matters, and the length does.
        let mut stripes = std::collections::BTreeSet::new();
        for (length, at) in (0..20).flat_map(|length| (0..length).map(move |at| (length, at))) {
            let mut key = vec![b'x'; length];
            key[at] = b'y';
            stripes.insert(stripe(&key));
        }
        assert!(stripes.len() > 170, "{}", stripes.len());
    }

    #[test]
    fn trying_takes_all_or_nothing() {
        let locks = Locks::default();
        let (a, both) = (
            Locks::stripes([b"a".as_slice()].into_iter()),
            Locks::stripes([b"a".as_slice(), b"b"].into_iter()),
        );
        let held = locks.lock(&a);
        assert!(locks.try_lock(&both).is_none());
        drop(held);
        assert_eq!(locks.try_lock(&both).map(|held| held.len()), Some(2));
    }
}
