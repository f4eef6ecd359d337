//! Which end of the log is a guest's: parts of copies, which clients see no sooner than a mark says
//! so that is appended behind them.

use std::sync::atomic::{AtomicU64, Ordering};

/// The run of such parts that the log ends with. Changed under the lock of `writing`.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    /// Its newest sequence; 0 while another run begins, and before any.
    last: AtomicU64,
    /// The newest sequence before it.
    before: AtomicU64,
}

impl Guests {
    /// A part was appended, of these sequences.
    pub(super) fn staged(&self, first: u64, last: u64) {
        if self.last.load(Ordering::SeqCst).saturating_add(1) != first {
            self.last.store(0, Ordering::SeqCst);
            self.before.store(first.saturating_sub(1), Ordering::SeqCst);
        }
        self.last.store(last, Ordering::SeqCst);
    }

    /// The newest sequence that clients can see, while `latest` is the newest of all.
    pub(super) fn seen(&self, latest: u64) -> u64 {
        let last = self.last.load(Ordering::SeqCst);
        if last != latest {
            return latest;
        }
        let before = self.before.load(Ordering::SeqCst);
        // Of another run `before` may be another run's.
        if self.last.load(Ordering::SeqCst) == last { before } else { latest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_parts_at_the_end_is_aside_and_nothing_else() {
        let guests = Guests::default();
        assert_eq!(guests.seen(7), 7);
        guests.staged(8, 9);
        assert_eq!((guests.seen(9), guests.seen(10)), (7, 10), "a client wrote behind it");
        guests.staged(10, 12);
        assert_eq!(guests.seen(12), 7, "the run goes on");
        assert_eq!(guests.seen(9), 9, "in doubt, all of it");
        guests.staged(15, 15);
        assert_eq!(guests.seen(15), 14, "another run");
        let first = Guests::default();
        first.staged(1, 2);
        assert_eq!((first.seen(0), first.seen(2)), (0, 0));
    }
}
