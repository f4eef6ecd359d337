//! Numeric SCAN cursors: Redis clients expect numbers, the key space is walked by key.
//!
//! As Kvrocks does, the last key of a call is remembered in a table of fixed size under a number
//! that is checked when it comes back; a cursor that was overwritten or is from before a restart
//! begins anew, which repeats keys but misses none.

use parking_lot::Mutex;

/// Cursors remembered at a time.
const SLOTS: usize = 16_384;
/// Bytes of their keys: of long ones fewer are remembered, and one at least.
const BYTES_MAX: usize = 16 << 20;
/// Set in every cursor, so that none is 0.
const TOP: u64 = 1 << 63;

/// The table.
#[derive(Debug, Default)]
pub struct Cursors(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    counter: u64,
    /// Of those that were counted so far none is remembered.
    forgotten: u64,
    keys: Vec<Option<(u64, Vec<u8>)>>,
    bytes: usize,
}

impl Table {
    /// Puts something in the place of a count, or nothing.
    fn put(&mut self, count: u64, entry: Option<(u64, Vec<u8>)>) {
        let Some(slot) = self.keys.get_mut(place(count)) else { return };
        let length = |entry: Option<&(u64, Vec<u8>)>| entry.map_or(0, |(_, key)| key.len());
        self.bytes = (self.bytes + length(entry.as_ref())).saturating_sub(length(slot.as_ref()));
        *slot = entry;
    }
}

/// Where the so many-th one is remembered.
fn place(count: u64) -> usize {
    usize::try_from(count).unwrap_or(0) % SLOTS
}

impl Cursors {
    /// A number for "go on behind this key".
    pub fn remember(&self, key: &[u8]) -> u64 {
        let mut table = self.0.lock();
        if table.keys.is_empty() {
            table.keys.resize(SLOTS, None);
        }
        table.counter += 1;
        let count = table.counter;
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in key {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let cursor = TOP | ((place(count) as u64) << 32) | (hash & 0xffff_ffff);
        table.put(count, Some((cursor, key.to_vec())));
        table.forgotten = table.forgotten.max(count.saturating_sub(SLOTS as u64));
        while table.bytes > BYTES_MAX && table.forgotten + 1 < count {
            table.forgotten += 1;
            let oldest = table.forgotten;
            table.put(oldest, None);
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

    #[test]
    fn of_long_keys_fewer_are_known_and_one_at_least() {
        let cursors = Cursors::default();
        let short = cursors.remember(b"k");
        let key = vec![b'k'; BYTES_MAX / 4];
        let all: Vec<u64> = (0..6).map(|_| cursors.remember(&key)).collect();
        let known = |cursor: &u64| cursors.recall(*cursor).is_some();
        assert_eq!(
            all.iter().map(known).collect::<Vec<_>>(),
            [false, false, true, true, true, true]
        );
        assert!(!known(&short));
        let alone = cursors.remember(&vec![b'k'; BYTES_MAX + 1]);
        assert!(known(&alone) && !all.iter().any(known));
        let next = cursors.remember(b"k");
        assert!(known(&next) && !known(&alone));
    }
}
