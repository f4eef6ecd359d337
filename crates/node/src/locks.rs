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
pub struct Locks(Box<[Mutex<()>]>);

/// Held stripes.
pub type Held<'a> = SmallVec<[MutexGuard<'a, ()>; 2]>;

/// Stripes of some keys, ascending, each once.
pub type Stripes = SmallVec<[u16; 8]>;

impl Default for Locks {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| Mutex::new(())).collect())
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

    /// Locks these stripes; the caller holds none.
    pub fn lock(&self, stripes: &[u16]) -> Held<'_> {
        stripes
            .iter()
            .filter_map(|stripe| self.0.get(usize::from(*stripe)))
            .map(Mutex::lock)
            .collect()
    }

    /// Locks these stripes if all are free, without waiting: allowed also to a caller that holds
    /// others.
    pub fn try_lock(&self, stripes: &[u16]) -> Option<Held<'_>> {
        stripes.iter().map(|stripe| self.0.get(usize::from(*stripe))?.try_lock()).collect()
    }

    /// As [`Self::lock`], but gives up after `patience`.
    pub fn lock_within(&self, stripes: &[u16], patience: Duration) -> Option<Held<'_>> {
        let mut until = None;
        let lock = |stripe: &u16| {
            let mutex = self.0.get(usize::from(*stripe))?;
            mutex.try_lock().or_else(|| {
                // The clock is looked at by those alone that have to wait.
                let until = *until.get_or_insert_with(|| Instant::now() + patience);
                mutex.try_lock_until(until)
            })
        };
        stripes.iter().map(lock).collect()
    }

    /// Locks everything; the caller holds none.
    pub fn lock_all(&self) -> Held<'_> {
        self.0.iter().map(Mutex::lock).collect()
    }
}

/// FNV-1a, folded: good enough to spread keys, and the same for every process.
fn stripe(key: &[u8]) -> u16 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    u16::try_from((hash ^ (hash >> 32)) & (STRIPES as u64 - 1)).unwrap_or(0)
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
