//! Which checkpoint replicas copy: one at a time, shared, deleted when nobody uses it.
//!
//! Invariant: a checkpoint in use is neither replaced nor deleted, and none outlives the history it
//! was taken from (a role change or a replaced database invalidates it; copying connections are
//! then cut by the driver).

use crate::files::CheckpointId;
use crate::history::EpochId;

/// Kept this long after the last connection, so that a broken transfer can resume; milliseconds.
pub const IDLE_MS: u64 = 30_000;
/// Bounds for how old a checkpoint may be that another replica starts to copy; milliseconds.
const AGE_MS: std::ops::RangeInclusive<u64> = 600_000..=3_600_000;

/// The one checkpoint, and what is known of it.
#[derive(Debug, Default)]
pub struct Shelf {
    current: Option<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: CheckpointId,
    epoch: Option<EpochId>,
    sequence: u64,
    made_at: u64,
    used_at: u64,
    users: usize,
    is_valid: bool,
}

/// What to answer a replica that asks for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Give it this one.
    Reuse {
        /// Its id.
        id: CheckpointId,
        /// Least sequence it holds.
        sequence: u64,
    },
    /// Delete the old one, if any, make a new one and call [`Shelf::made`].
    Create {
        /// To be deleted first.
        old: Option<CheckpointId>,
    },
    /// The present one is too old for a newcomer but still in use: an error, the replica tries
    /// again.
    Busy,
}

/// Facts on which a checkpoint's fitness depends.
#[derive(Debug, Clone, Copy)]
pub struct Fitness {
    /// The present epoch: a checkpoint of an older one is not given any more.
    pub epoch: Option<EpochId>,
    /// Oldest sequence from which the WAL can be read.
    pub wal_from: u64,
    /// `rocksdb.wal_ttl_seconds`, in milliseconds.
    pub wal_ttl_ms: u64,
}

impl Shelf {
    /// A replica asks for the file list.
    pub fn ask(&mut self, fitness: Fitness, now: u64) -> Decision {
        let Some(entry) = &mut self.current else { return Decision::Create { old: None } };
        let age_max = (fitness.wal_ttl_ms / 2).clamp(*AGE_MS.start(), *AGE_MS.end());
        let is_young = now.saturating_sub(entry.made_at) < age_max;
        // After copying it, the replica continues at sequence + 1.
        let is_present = entry.epoch == fitness.epoch;
        let is_covered = entry.sequence.saturating_add(1) >= fitness.wal_from;
        if entry.is_valid && is_young && is_covered && is_present {
            entry.used_at = now;
            return Decision::Reuse { id: entry.id.clone(), sequence: entry.sequence };
        }
        if entry.is_idle(now) || (entry.users == 0 && !(entry.is_valid && is_present)) {
            let old = self.current.take().map(|e| e.id);
            return Decision::Create { old };
        }
        Decision::Busy
    }

    /// Least sequence the present checkpoint holds, if there is one.
    pub fn sequence(&self) -> Option<u64> {
        self.current.as_ref().map(|entry| entry.sequence)
    }

    /// A checkpoint was made in this epoch that holds at least `sequence`.
    pub fn made(&mut self, id: CheckpointId, epoch: Option<EpochId>, sequence: u64, now: u64) {
        let (made_at, used_at) = (now, now);
        let is_valid = true;
        self.current = Some(Entry { id, epoch, sequence, made_at, used_at, users: 0, is_valid });
    }

    /// A connection copies files: of the checkpoint it names, or (Kvrocks) of the one there is.
    /// Gives the id to be released afterwards.
    pub fn begin(&mut self, id: Option<&CheckpointId>, now: u64) -> Option<CheckpointId> {
        let entry = self.current.as_mut().filter(|e| e.is_valid)?;
        if id.is_some_and(|id| *id != entry.id) {
            return None;
        }
        entry.users += 1;
        entry.used_at = now;
        Some(entry.id.clone())
    }

    /// A connection that began is over.
    pub fn end(&mut self, id: &CheckpointId, now: u64) {
        if let Some(entry) = self.current.as_mut().filter(|e| e.id == *id) {
            entry.users = entry.users.saturating_sub(1);
            entry.used_at = now;
        }
    }

    /// May a connection go on sending this one?
    pub fn is_valid(&self, id: &CheckpointId) -> bool {
        self.current.as_ref().is_some_and(|e| e.is_valid && e.id == *id)
    }

    /// The node's history changes: no further byte of the present checkpoint may be sent.
    pub fn invalidate(&mut self) {
        if let Some(entry) = &mut self.current {
            entry.is_valid = false;
        }
    }

    /// The checkpoint to delete now, if nobody needs it any more. Ask once a second.
    pub fn expire(&mut self, now: u64) -> Option<CheckpointId> {
        self.current.take_if(|e| e.is_idle(now) || (e.users == 0 && !e.is_valid)).map(|e| e.id)
    }
}

impl Entry {
    fn is_idle(&self, now: u64) -> bool {
        self.users == 0 && now.saturating_sub(self.used_at) >= IDLE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: Fitness = Fitness { epoch: None, wal_from: 1, wal_ttl_ms: 10_800_000 };

    fn id(n: u64) -> CheckpointId {
        CheckpointId::from_random(n)
    }

    fn shelf() -> Shelf {
        let mut shelf = Shelf::default();
        assert_eq!(shelf.ask(FIT, 0), Decision::Create { old: None });
        shelf.made(id(1), None, 100, 0);
        shelf
    }

    #[test]
    fn several_replicas_share_one() {
        let mut shelf = shelf();
        let reuse = Decision::Reuse { id: id(1), sequence: 100 };
        assert_eq!(shelf.ask(FIT, 10), reuse);
        assert_eq!(shelf.begin(Some(&id(1)), 10), Some(id(1)));
        assert_eq!(shelf.begin(None, 10), Some(id(1)));
        assert_eq!(shelf.begin(Some(&id(2)), 10), None);
        shelf.end(&id(1), 20);
        assert_eq!(shelf.expire(100_000), None, "one is still copying");
        shelf.end(&id(1), 100_000);
        assert_eq!(shelf.expire(129_999), None);
        assert_eq!(shelf.expire(130_000), Some(id(1)));
    }

    #[test]
    fn too_old_or_uncovered_is_not_given_and_not_replaced_under_a_copy() {
        let mut shelf = shelf();
        shelf.begin(None, 0);
        let uncovered = Fitness { wal_from: 102, ..FIT };
        assert_eq!(
            shelf.ask(Fitness { wal_from: 101, ..FIT }, 1).clone(),
            Decision::Reuse { id: id(1), sequence: 100 }
        );
        assert_eq!(shelf.ask(uncovered, 1), Decision::Busy);
        assert_eq!(shelf.ask(FIT, 3_600_000), Decision::Busy);
        shelf.end(&id(1), 3_600_000);
        assert_eq!(shelf.ask(FIT, 3_629_999), Decision::Busy);
        assert_eq!(shelf.ask(FIT, 3_630_000), Decision::Create { old: Some(id(1)) });
    }

    #[test]
    fn a_checkpoint_does_not_outlive_its_epoch() {
        let mut shelf = shelf();
        shelf.begin(None, 0);
        let later = Fitness { epoch: Some(EpochId::from_random(5)), ..FIT };
        assert_eq!(shelf.ask(later, 1), Decision::Busy, "it is being copied");
        shelf.end(&id(1), 2);
        assert_eq!(shelf.ask(later, 2), Decision::Create { old: Some(id(1)) });
        let id = CheckpointId::in_epoch(later.epoch, 7);
        assert_eq!(id.as_str(), "00000000000000050000000000000007");
        assert_eq!(CheckpointId::parse(id.as_str().as_bytes()), Some(id));
    }

    #[test]
    fn nothing_of_another_history_is_served() {
        let mut shelf = shelf();
        shelf.begin(None, 0);
        shelf.invalidate();
        assert!(!shelf.is_valid(&id(1)));
        assert_eq!(shelf.begin(None, 1), None);
        assert_eq!(shelf.ask(FIT, 1), Decision::Busy);
        shelf.end(&id(1), 2);
        assert_eq!(shelf.ask(FIT, 2), Decision::Create { old: Some(id(1)) });
    }
}
