//! The key `sealing`: id of the key that the leader seals secrets with; none where it seals
//! nothing.
//!
//! It changes with claims alone, and each claim compares it: nobody leads that lacks the key by
//! which its predecessor may have sealed something a moment ago.

use super::Etcd;
use super::wire::{Compare, Write};
use crate::seal::Keys;
use crate::store::StoreError;

/// Behind the prefix.
pub(super) const KEY: &str = "sealing";

/// Whether a process with these keys may lead at `place`.
///
/// # Errors
/// [`StoreError::Locked`].
pub(super) fn check(sealing: Option<&str>, keys: &Keys, place: &str) -> Result<(), StoreError> {
    let Some(id) = sealing else { return Ok(()) };
    keys.check(id).map_err(|why| StoreError::Locked { what: format!("secrets in {place}"), why })
}

impl Etcd {
    /// A read has shown it.
    pub(super) fn saw_sealing(&self, value: Option<&str>) {
        let mut known = self.sealing.lock();
        if known.as_deref() != value {
            *known = value.map(str::to_owned);
        }
    }

    /// Why this process must not lead: the leader seals with a key that is not here, as far as was
    /// read last.
    pub(crate) fn locked(&self) -> Option<StoreError> {
        let known = self.sealing.lock();
        check(known.as_deref(), &self.keys, &self.place).err()
    }

    /// What a claim compares, and what it writes if that is not so already.
    ///
    /// # Errors
    /// As [`Etcd::locked`].
    pub(super) fn claims_to_seal(&self) -> Result<(Compare, Option<Write>), StoreError> {
        let key = self.key(KEY);
        let known = self.sealing.lock().clone();
        check(known.as_deref(), &self.keys, &self.place)?;
        let write = match self.keys.sealing() {
            own if own == known.as_deref() => None,
            Some(own) => Some(Write::Put(key.clone(), own.to_owned())),
            None => Some(Write::Remove(key.clone())),
        };
        let compare = match known {
            Some(id) => Compare::Is(key, id),
            None => Compare::Absent(key),
        };
        Ok((compare, write))
    }
}
