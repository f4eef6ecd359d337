//! What the log has changed of some slots: keys, and of each the sub-keys. Values are not kept:
//! they are read when they are sent.

use std::collections::{BTreeMap, BTreeSet};

use topology::SlotRange;

use super::layout::SCOPE;
use super::raw::{Refusal, concerns, moves};
use crate::batch::{self, Record};
use crate::key::split_internal;
use crate::{Error, Family};

/// Bytes of names above which what was noted is to be sent.
const BYTES_MAX: usize = 16 << 20;
/// What an entry takes beside its name, about.
const ENTRY_BYTES: usize = 64;

/// Sub-keys of one key as they lie, of any version.
pub(super) type Subs = BTreeSet<(Family, Vec<u8>)>;

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Dirty {
    /// By the names of keys.
    keys: BTreeMap<Vec<u8>, Subs>,
    bytes: usize,
}

impl Dirty {
    /// Notes what a batch of the log changes of these slots.
    ///
    /// # Errors
    /// [`Refusal::Flushed`]; bytes that are no batch.
    pub fn note(&mut self, bytes: &[u8], slots: SlotRange) -> Result<(), Refusal> {
        if !concerns(bytes, slots)? {
            return Ok(());
        }
        for record in batch::records(bytes) {
            match record.map_err(Error::from)? {
                Record::Put { family, key, .. } | Record::Delete { family, key }
                    if moves(family, key, slots) =>
                {
                    self.touch(family, key);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn touch(&mut self, family: Family, key: &[u8]) {
        if family == Family::Metadata {
            if let Some(name) = SCOPE.user_key(key) {
                self.subs(name);
            }
            return;
        }
        // A sub-key that leads to no key is nobody's.
        let Some((_, name, _)) = split_internal(key, true) else { return };
        if self.subs(name).insert((family, key.to_vec())) {
            self.bytes += key.len() + ENTRY_BYTES;
        }
    }

    fn subs(&mut self, name: &[u8]) -> &mut Subs {
        if !self.keys.contains_key(name) {
            self.bytes += name.len() + ENTRY_BYTES;
        }
        self.keys.entry(name.to_vec()).or_default()
    }

    /// Whether as much is noted as may be.
    pub fn is_full(&self) -> bool {
        self.bytes >= BYTES_MAX
    }

    /// Whether nothing is noted.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys, in the order of their names.
    pub(super) fn into_keys(self) -> impl Iterator<Item = (Vec<u8>, Subs)> {
        self.keys.into_iter()
    }
}
