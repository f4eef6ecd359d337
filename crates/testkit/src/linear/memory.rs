//! What a search has tried already.
//!
//! Two places of a search that have placed the same operations that must be placed, and are in the
//! same state, differ in the open-ended operations they used up. Whatever follows from the one that
//! used more follows from the other too: it can still place what the first has placed, or leave it
//! out. So a place is tried only if none was that had used a subset. Without this, every operation
//! nobody saw the answer of doubles the search.
//!
//! With twins ([`Model::alike`](super::Model::alike)) the subset may hold an earlier twin of what a
//! follow-up places; it places that one instead.

use std::collections::HashMap;

/// Where places with the same hash differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    /// Open-ended operations that were used up.
    pub(super) optional: u128,
    /// See [`Model::lateness`](super::Model::lateness).
    pub(super) late: u64,
}

impl Rest {
    /// Whatever follows from the other follows from this.
    fn covers(&self, other: &Self) -> bool {
        self.optional & !other.optional == 0 && self.late <= other.late
    }
}

/// Places tried.
#[derive(Debug, Default)]
pub(super) struct Memory {
    tried: HashMap<u128, Vec<Rest>>,
    entries: usize,
}

impl Memory {
    /// Remembers a place; false if it, or one that covers it, was there.
    pub(super) fn insert(&mut self, (hash, rest): (u128, Rest)) -> bool {
        let tried = self.tried.entry(hash).or_default();
        if tried.iter().any(|other| other.covers(&rest)) {
            return false;
        }
        // A place that is covered was left without an end, or is above this one; it need not be
        // known beside it.
        let before = tried.len();
        tried.retain(|other| !rest.covers(other));
        tried.push(rest);
        self.entries = self.entries + tried.len() - before;
        true
    }

    /// Places remembered.
    pub(super) fn len(&self) -> usize {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(optional: u128, late: u64) -> Rest {
        Rest { optional, late }
    }

    #[test]
    fn more_used_up_or_later_is_nothing_new() {
        let mut memory = Memory::default();
        assert!(memory.insert((1, rest(0b011, 5))));
        assert!(!memory.insert((1, rest(0b011, 5))));
        assert!(!memory.insert((1, rest(0b111, 5))));
        assert!(!memory.insert((1, rest(0b011, 6))));
        assert!(memory.insert((2, rest(0b111, 5))));
        assert!(memory.insert((1, rest(0b011, 4))));
        assert!(memory.insert((1, rest(0b100, 9))));
        assert_eq!(memory.len(), 3);
    }
}
