//! Numeric SCAN cursors: Redis clients expect numbers, the key space is walked by key.
//!
//! As Kvrocks does, the last key of a call is remembered in a table of fixed size under a number that is checked when it comes back; a cursor
//! that was overwritten or is from before a restart begins anew, which repeats keys but misses none.

use parking_lot::Mutex;

/// Cursors remembered at a time.
const SLOTS: usize = 16_384;
/// Set in every cursor, so that none is 0.
const TOP: u64 = 1 << 63;

/// The table.
#[derive(Debug, Default)]
pub struct Cursors(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    counter: u64,
    keys: Vec<Option<(u64, Vec<u8>)>>,
}

impl Cursors {
    /// A number for "go on behind this key".
    pub fn remember(&self, key: &[u8]) -> u64 {
        let mut table = self.0.lock();
        if table.keys.is_empty() {
            table.keys.resize(SLOTS, None);
        }
        table.counter += 1;
        let index = usize::try_from(table.counter).unwrap_or(0) % SLOTS;
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in key {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let cursor = TOP | ((index as u64) << 32) | (hash & 0xffff_ffff);
        if let Some(slot) = table.keys.get_mut(index) {
            *slot = Some((cursor, key.to_vec()));
        }
        cursor
    }

    /// The key behind which to go on; `None` when the number is not known any more.
    pub fn recall(&self, cursor: u64) -> Option<Vec<u8>> {
        let table = self.0.lock();
        let index = usize::try_from((cursor & !TOP) >> 32).ok()?;
        match table.keys.get(index)? {
            Some((known, key)) if *known == cursor => Some(key.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_known_until_it_is_overwritten() {
        let cursors = Cursors::default();
        let first = cursors.remember(b"k");
        assert_eq!(cursors.recall(first).as_deref(), Some(b"k".as_slice()));
        for _ in 0..SLOTS {
            cursors.remember(b"other");
        }
        assert_eq!(cursors.recall(first), None);
        assert_eq!(cursors.recall(0), None);
    }
}
