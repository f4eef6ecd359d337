//! What connections hold, counted while it changes, and whether that is too much.
//!
//! A connection counts its buffers when they change by some KiB, with one addition; nobody walks
//! through connections to know the sum. Where `maxmemory` bounds nothing, nothing is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::parts::CONNECTION;

/// Changes of a connection that are no more than this are not counted.
const STEP: usize = 4096;
/// State of a connection beside its buffers.
const STATE: usize = 8 << 10;

/// Bytes of names of channels and patterns that one connection may have the node keep.
pub const NAMES_BYTES_MAX: usize = 256 << 20;

/// What a name takes in one table, bytes.
pub fn name_bytes(name: &[u8]) -> usize {
    name.len() + 96
}

/// How much of their part connections hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// There is room.
    Free,
    /// Three quarters: those that hold more than their share wait.
    Tight,
    /// All of it: whatever may take more than a share waits.
    Full,
}

impl Level {
    /// Of so many bytes of a part; a part of 0 is not bounded.
    pub fn of(used: usize, limit: usize) -> Self {
        if limit == 0 || used < soft(limit) {
            Self::Free
        } else if used < limit {
            Self::Tight
        } else {
            Self::Full
        }
    }
}

/// From here on those that hold much wait.
pub fn soft(limit: usize) -> usize {
    limit / 4 * 3
}

/// What each of `count` connections may hold however little is left: half of the part is theirs in
/// equal shares.
pub fn share(limit: usize, count: usize) -> usize {
    let least = usize::try_from(CONNECTION).unwrap_or(usize::MAX);
    even(limit, count).max(least)
}

/// The same, however little that is: where there are more connections than fit, some have to go.
pub fn even(limit: usize, count: usize) -> usize {
    (limit / 2).checked_div(count).unwrap_or(limit / 2)
}

/// A counter that all workers write, beside nothing that they only read.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart(AtomicUsize);

/// What connections hold together.
#[derive(Debug, Default)]
pub struct Held {
    /// Bytes of their part; 0: no bound.
    limit: AtomicUsize,
    /// Of each connection, at the last look.
    share: AtomicUsize,
    /// Buffers and queues.
    buffers: Apart,
    /// Of these, those of connections that wait until there is less.
    waiting: Apart,
    /// Number of the connection that goes on while such wait; 0: none does.
    first: AtomicU64,
    /// Pushes on their way to connections: counted whether or not anything is bounded.
    pub pushes: Arc<AtomicUsize>,
    /// The process takes more than `maxmemory`.
    is_over: AtomicBool,
    /// Writes that were refused for that.
    pub refused: AtomicU64,
    /// Connections that were closed for what they hold.
    pub evicted: AtomicU64,
}

impl Held {
    /// Bounds what connections hold; 0: not. So many there are just now.
    pub fn bound(&self, limit: usize, connections: usize) {
        self.share.store(share(limit, connections), Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
        if limit == 0 {
            self.is_over.store(false, Ordering::Relaxed);
        }
    }

    /// Bytes of the part; 0: no bound.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Whether anything is bounded.
    pub fn is_bounded(&self) -> bool {
        self.limit() > 0
    }

    /// Bytes that each connection may hold at any time.
    pub fn share(&self) -> usize {
        self.share.load(Ordering::Relaxed)
    }

    /// Bytes that connections hold.
    pub fn bytes(&self) -> usize {
        let (buffers, pushes) = (&self.buffers.0, &self.pushes);
        buffers.load(Ordering::Relaxed).saturating_add(pushes.load(Ordering::Relaxed))
    }

    /// Whether that is much.
    pub fn level(&self) -> Level {
        match self.limit() {
            0 => Level::Free,
            limit => Level::of(self.bytes(), limit),
        }
    }

    /// Whether the connection of this number goes on while others wait.
    pub fn is_first(&self, id: u64) -> bool {
        self.first.load(Ordering::Relaxed) == id
    }

    /// Whether a push of so many bytes may be kept for a connection that holds `own` already.
    pub fn takes(&self, push: usize, own: usize) -> bool {
        let limit = self.limit();
        limit == 0
            || self.bytes().saturating_add(push) <= limit
            || own.saturating_add(push) <= self.share()
    }

    /// Notes whether the process takes more than `maxmemory`.
    pub fn set_over(&self, is_over: bool) {
        self.is_over.store(is_over, Ordering::Relaxed);
    }

    /// Whether the process takes more than `maxmemory`.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// What one connection holds; given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    held: Arc<Held>,
    bytes: usize,
    /// What of it is counted as waiting.
    waiting: usize,
    /// Its connection's number where it goes on while others wait; else 0.
    first: u64,
}

impl Charge {
    /// Of a connection that has just come.
    pub fn new(held: &Arc<Held>) -> Self {
        Self { held: Arc::clone(held), bytes: 0, waiting: 0, first: 0 }
    }

    /// Its buffers take so many bytes from here on; `None` for one whose memory is not its client's
    /// to answer for, such as a peer's.
    pub fn set(&mut self, buffers: Option<usize>) {
        let wanted = match buffers {
            Some(bytes) if self.held.is_bounded() => bytes.saturating_add(STATE),
            _ => 0,
        };
        if wanted <= self.held.share() {
            self.step_back();
        }
        // What is not counted at all any more, or for the first time, is more than a step.
        if wanted.abs_diff(self.bytes) < STEP {
            return;
        }
        change(&self.held.buffers, self.bytes, wanted);
        self.bytes = wanted;
    }

    /// It waits until connections hold less, or does not any more.
    pub fn set_waiting(&mut self, waits: bool) {
        let wanted = if waits { self.bytes } else { 0 };
        change(&self.held.waiting, self.waiting, wanted);
        self.waiting = wanted;
    }

    /// Whether the connection of this number goes on, though it uses more than its share. If only
    /// waiting connections are in the way, one of them does, until it uses no more than its share:
    /// or none ever would.
    pub fn goes_first(&mut self, id: u64) -> bool {
        let (held, limit) = (&self.held, self.held.limit());
        let waiting = held.waiting.0.load(Ordering::Relaxed).saturating_sub(self.waiting);
        let all = held.bytes();
        let others = all.saturating_sub(self.bytes).saturating_sub(waiting);
        if others >= soft(limit) || all >= limit.saturating_add(limit / 4) {
            return false;
        }
        if self.first == 0 {
            let relaxed = Ordering::Relaxed;
            if held.first.compare_exchange(0, id, relaxed, relaxed).is_ok() {
                self.first = id;
            }
        }
        self.first != 0
    }

    /// Another one may go first.
    pub fn step_back(&mut self) {
        if self.first != 0 {
            self.first = 0;
            self.held.first.store(0, Ordering::Relaxed);
        }
    }

    /// Bytes that are counted of it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set_waiting(false);
        self.step_back();
        change(&self.held.buffers, self.bytes, 0);
    }
}

/// Counts other bytes than before.
fn change(all: &Apart, before: usize, now: usize) {
    if now > before {
        all.0.fetch_add(now - before, Ordering::Relaxed);
    } else {
        all.0.fetch_sub(before - now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_holds_is_counted_until_it_is_gone() {
        let held = Arc::<Held>::default();
        held.bound(1 << 20, 2);
        let mut one = Charge::new(&held);
        one.set(Some(100_000));
        assert_eq!((held.bytes(), one.bytes()), (100_000 + STATE, 100_000 + STATE));
        one.set(Some(101_000));
        assert_eq!(held.bytes(), 100_000 + STATE, "a small change is not counted");
        let mut other = Charge::new(&held);
        other.set(Some(50_000));
        one.set(Some(0));
        assert_eq!(held.bytes(), 50_000 + 2 * STATE);
        other.set(None);
        assert_eq!((held.bytes(), other.bytes()), (STATE, 0));
        drop(one);
        assert_eq!(held.bytes(), 0);
    }

    #[test]
    fn of_those_that_are_in_each_others_way_one_goes_on_at_a_time() {
        let held = Arc::<Held>::default();
        held.bound(1 << 20, 8);
        let mut all = [1, 2, 3].map(|_| Charge::new(&held));
        for charge in &mut all {
            charge.set(Some(300_000));
        }
        assert_eq!(held.level(), Level::Tight);
        let [one, other, third] = &mut all;
        one.set_waiting(true);
        assert!(one.goes_first(1), "of the others one is free to go on");
        one.set_waiting(false);
        assert!(one.goes_first(1) && held.is_first(1));
        other.set_waiting(true);
        third.set_waiting(true);
        assert!(!other.goes_first(2) && !third.goes_first(3));
        one.set(Some(0));
        assert!(other.goes_first(2) && !third.goes_first(3) && !held.is_first(1));
        // With fewer connections it holds no more than its share.
        held.bound(1 << 20, 1);
        other.set(Some(300_000));
        assert!(!held.is_first(2) && other.goes_first(2));
        // What does not wait is waited for.
        other.step_back();
        held.pushes.store(soft(1 << 20), Ordering::Relaxed);
        assert!(!other.goes_first(2) && !third.goes_first(3));
        drop(all);
        held.pushes.store(0, Ordering::Relaxed);
        assert_eq!((held.bytes(), held.waiting.0.load(Ordering::Relaxed)), (0, 0));
        assert!(held.is_first(0), "nobody is");
    }

    #[test]
    fn nothing_is_counted_where_nothing_is_bounded() {
        let held = Arc::<Held>::default();
        let mut charge = Charge::new(&held);
        charge.set(Some(1 << 30));
        assert_eq!((held.bytes(), held.level()), (0, Level::Free));
        held.bound(1 << 20, 1);
        charge.set(Some(1 << 30));
        assert_eq!(held.level(), Level::Full);
        held.bound(0, 1);
        charge.set(Some(1 << 30));
        assert_eq!(held.bytes(), 0, "what was counted is given back");
    }

    #[test]
    fn levels_are_three_quarters_and_all() {
        let of = |used| Level::of(used, 400);
        assert_eq!([of(0), of(299)], [Level::Free; 2]);
        assert_eq!([of(300), of(399)], [Level::Tight; 2]);
        assert_eq!([of(400), of(9_000)], [Level::Full; 2]);
        assert_eq!(Level::of(usize::MAX, 0), Level::Free);
    }

    #[test]
    fn a_push_has_room_in_the_part_or_in_the_share() {
        let held = Held::default();
        assert!(held.takes(usize::MAX, usize::MAX), "without a bound");
        held.bound(1 << 20, 8);
        assert_eq!(held.share(), 64 << 10);
        held.pushes.store(1 << 20, Ordering::Relaxed);
        assert!(held.takes(1000, 0), "full, and within its share");
        assert!(!held.takes(1000, 64 << 10));
        held.pushes.store(100, Ordering::Relaxed);
        assert!(held.takes(1000, 64 << 10));
    }
}
