//! Striped key locks: what reads and then writes a key is alone with it.

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

/// Number of stripes; two keys share one with a chance of 1 in 4096.
const STRIPES: usize = 4096;

/// Locks over keys. Several stripes are always taken in ascending order, so nobody waits in a circle.
#[derive(Debug)]
pub struct Locks(Box<[Mutex<()>]>);

/// Held stripes.
pub type Held<'a> = SmallVec<[MutexGuard<'a, ()>; 2]>;

impl Default for Locks {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| Mutex::new(())).collect())
    }
}

impl Locks {
    /// Locks the stripes of these keys.
    pub fn lock<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Held<'_> {
        let mut stripes: SmallVec<[usize; 8]> = keys.map(stripe).collect();
        if stripes.len() > 1 {
            stripes.sort_unstable();
            stripes.dedup();
        }
        stripes.iter().filter_map(|stripe| self.0.get(*stripe)).map(Mutex::lock).collect()
    }

    /// Locks everything.
    pub fn lock_all(&self) -> Held<'_> {
        self.0.iter().map(Mutex::lock).collect()
    }
}

/// FNV-1a, folded: good enough to spread keys, and the same for every process.
fn stripe(key: &[u8]) -> usize {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    usize::try_from((hash ^ (hash >> 32)) & (STRIPES as u64 - 1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_twice_is_locked_once() {
        let locks = Locks::default();
        assert_eq!(locks.lock([b"a".as_slice(), b"a", b"b"].into_iter()).len(), 2);
        assert_eq!(locks.lock_all().len(), STRIPES);
    }
}
