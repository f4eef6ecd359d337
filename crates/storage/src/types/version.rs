//! Versions of keys with sub-keys: a key that is created anew gets a new version, so that sub-keys
//! of its earlier lives stay invisible until compaction removes them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Low bits that hold a counter; the rest is Unix time in microseconds.
const COUNTER_BITS: u32 = 11;

/// Last version handed out; 0 before the first. Process-wide, so that no two stores of one process
/// (tests, rewinds) can hand out the same version either.
static LAST: AtomicU64 = AtomicU64::new(0);

/// A version that was never handed out before by this process, and is greater than all of them even
/// if the clock was set back. Form as in Kvrocks: microseconds << 11 | counter that starts at
/// random and wraps.
pub fn next() -> u64 {
    let micros = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64);
    let floor = LAST.load(Ordering::Relaxed);
    let counter = if floor == 0 { rand::random() } else { floor.wrapping_add(1) };
    let fresh = (micros << COUNTER_BITS) | (counter & ((1 << COUNTER_BITS) - 1));
    let previous = LAST.fetch_max(fresh, Ordering::Relaxed);
    if previous < fresh {
        return fresh;
    }
    // The clock stood still or went back: count up from the last one.
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_unique_and_near_the_clock() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..20_000).map(|_| super::next()).collect::<Vec<_>>()))
            .collect();
        let mut all: Vec<u64> = Vec::new();
        for thread in threads {
            let versions = thread.join().unwrap();
            assert!(versions.is_sorted());
            all.extend(versions);
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        let now_ms = crate::types::now_ms();
        let age_ms = now_ms.abs_diff((all[0] >> 11) / 1000);
        assert!(age_ms < 60_000, "{age_ms}");
    }
}
