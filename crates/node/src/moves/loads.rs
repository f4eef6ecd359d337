//! How many commands slots get, about: by it shards are brought to as many.
//!
//! One command of 64 is counted, as 64, for the slot of its first key: the others cost a
//! multiplication. Each minute halves what was counted, so it is the load of the last minutes, and
//! nodes that count alike can be compared.

use std::sync::atomic::{AtomicU32, Ordering};

use topology::SLOT_COUNT;

/// By slot.
pub struct Loads(Box<[AtomicU32]>);

impl Default for Loads {
    fn default() -> Self {
        Self((0..SLOT_COUNT).map(|_| AtomicU32::new(0)).collect())
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
        if let Some(load) = self.0.get(usize::from(slot)) {
            load.fetch_add(commands, Ordering::Relaxed);
        }
    }

    /// To be called once a minute.
    pub fn fade(&self) {
        for load in &self.0 {
            // What comes between is lost, and is nothing beside the rest.
            load.store(load.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
        }
    }

    /// Of a slot: twice of what it gets in a minute, where that stays the same.
    pub fn of(&self, slot: u16) -> u64 {
        self.0.get(usize::from(slot)).map_or(0, |load| load.load(Ordering::Relaxed).into())
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
            loads.fade();
            loads.add(3, 1_000);
        }
        assert!((1_990..=2_000).contains(&loads.of(3)), "{}", loads.of(3));
        assert_eq!((loads.of(2), loads.of(SLOT_COUNT)), (0, 0));
        (0..12).for_each(|_| loads.fade());
        assert_eq!(loads.of(3), 0);
    }
}
