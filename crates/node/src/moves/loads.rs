//! How many commands slots get, about: by it shards are brought to as many.
//!
//! One command of 64 is counted, as 64, for the slot of its first key: the others cost a
//! multiplication. Each minute halves what was counted, so it is the load of the last minutes, and
//! nodes that count alike, and for long enough, can be compared.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use topology::SLOT_COUNT;

/// After as many minutes about all is counted that ever will be.
const MINUTES_MIN: u32 = 5;

/// By slot.
pub struct Loads {
    slots: Box<[AtomicU32]>,
    /// The grant that it is counted under, and for how many minutes it has been.
    since: Mutex<(Option<u64>, u32)>,
}

impl Default for Loads {
    fn default() -> Self {
        let slots = (0..SLOT_COUNT).map(|_| AtomicU32::new(0)).collect();
        Self { slots, since: Mutex::default() }
    }
}

impl std::fmt::Debug for Loads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Loads({} commands)", (0..SLOT_COUNT).map(|slot| self.of(slot)).sum::<u64>())
    }
}

impl Loads {
    /// So many commands more for a slot.
    pub fn add(&self, slot: u16, commands: u32) {
        if let Some(load) = self.slots.get(usize::from(slot)) {
            load.fetch_add(commands, Ordering::Relaxed);
        }
    }

    /// To be called once a minute, with the epoch that this process holds a grant of.
    pub fn fade(&self, granted: Option<u64>) {
        for load in &self.slots {
            // What comes between is lost, and is nothing beside the rest.
            load.store(load.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
        }
        let mut since = self.since.lock();
        let minutes = if since.0 == granted { since.1.saturating_add(1) } else { 0 };
        *since = (granted, minutes);
    }

    /// Whether it can be compared: a process that has begun, or became the master, a moment ago has
    /// counted too little.
    pub fn is_settled(&self, granted: Option<u64>) -> bool {
        let (since, minutes) = *self.since.lock();
        since == granted && minutes >= MINUTES_MIN
    }

    /// Of a slot: twice of what it gets in a minute, where that stays the same.
    pub fn of(&self, slot: u16) -> u64 {
        self.slots.get(usize::from(slot)).map_or(0, |load| load.load(Ordering::Relaxed).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_to_twice_of_what_a_minute_brings_and_fades() {
        let loads = Loads::default();
        loads.add(SLOT_COUNT, 5);
        for _ in 0..40 {
            loads.fade(None);
            loads.add(3, 1_000);
        }
        assert!((1_990..=2_000).contains(&loads.of(3)), "{}", loads.of(3));
        assert_eq!((loads.of(2), loads.of(SLOT_COUNT)), (0, 0));
        (0..12).for_each(|_| loads.fade(None));
        assert_eq!(loads.of(3), 0);
    }

    #[test]
    fn it_is_compared_once_it_was_counted_for_minutes_under_one_grant() {
        let loads = Loads::default();
        (0..4).for_each(|_| loads.fade(None));
        assert!(!loads.is_settled(None));
        loads.fade(None);
        assert!(loads.is_settled(None) && !loads.is_settled(Some(7)));
        // When within the first minute the grant began is not known.
        (0..5).for_each(|_| loads.fade(Some(7)));
        assert!(!loads.is_settled(Some(7)));
        loads.fade(Some(7));
        assert!(loads.is_settled(Some(7)) && !loads.is_settled(Some(8)));
    }
}
