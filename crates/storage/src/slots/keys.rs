//! The keys of slots with all that lies under them, as they are at one moment, for a target that
//! takes them key by key (Kvrocks' slot migration).

use topology::SlotRange;

use super::layout::{SCOPE, bounds};
use crate::types::head::Header;
use crate::types::kind::Type;
use crate::types::score;
use crate::{Direction, Error, Family, KeyBuf, Snapshot};

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// As users write it.
    pub name: Vec<u8>,
    /// Its metadata.
    pub metadata: Vec<u8>,
}

impl Stored {
    /// The key with this name; `None` if nothing is stored for it.
    pub(super) fn find(at: &Snapshot<'_>, name: &[u8]) -> Result<Option<Self>, Error> {
        let found = at.find(Family::Metadata, &SCOPE.ns_key(name))?;
        Ok(found.map(|value| Self { name: name.to_vec(), metadata: value.to_vec() }))
    }

    /// Its metadata taken apart; `None` if it is none.
    pub fn header(&self) -> Option<Header<'_>> {
        Header::decode(&self.metadata)
    }

    /// What every sub-key of its version begins with; `None` for a type without.
    pub(super) fn prefix(&self) -> Option<KeyBuf> {
        let (version, _) = self.header()?.version_and_size()?;
        Some(SCOPE.sub_key_prefix(&self.name, version))
    }

    /// Calls `visit` with the name and the value of each sub-key of its version, in their order.
    /// What is derived from them (the scores of a sorted set) is left out.
    pub(super) fn for_each<E: From<Error>>(
        &self,
        at: &Snapshot<'_>,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (Some(prefix), Some(family)) = (self.prefix(), self.family()) else { return Ok(()) };
        let end = crate::prefix_end(&prefix);
        let mut cursor = at.walk(family, (&prefix, &end), Direction::Forward)?;
        while let Some((key, value)) = cursor.next()? {
            visit(key.get(prefix.len()..).unwrap_or_default(), value)?;
        }
        Ok(())
    }

    /// The last of its sub-keys.
    pub(super) fn last(&self, at: &Snapshot<'_>) -> Result<Option<Vec<u8>>, Error> {
        let (Some(prefix), Some(family)) = (self.prefix(), self.family()) else { return Ok(None) };
        let end = crate::prefix_end(&prefix);
        let mut cursor = at.walk(family, (&prefix, &end), Direction::Reverse)?;
        let last = cursor.next()?;
        Ok(last.map(|(key, _)| key.get(prefix.len()..).unwrap_or_default().to_vec()))
    }

    /// Where its elements lie.
    pub(super) fn family(&self) -> Option<Family> {
        match self.header()?.kind() {
            Some(kind) => kind.families().first().copied(),
            // A type of a later version: as most have it.
            None => Some(Family::Default),
        }
    }
}

/// Calls `visit` with each key of these slots, expired ones too, in the order of slots and names.
///
/// # Errors
/// I/O errors, and those of `visit`.
pub fn for_each_key<E: From<Error>>(
    at: &Snapshot<'_>,
    slots: SlotRange,
    mut visit: impl FnMut(&Stored) -> Result<(), E>,
) -> Result<(), E> {
    let (lower, _) = bounds(slots.first().number());
    let (_, upper) = bounds(slots.last().number());
    let mut cursor = at.walk(Family::Metadata, (&lower, &upper), Direction::Forward)?;
    while let Some((key, value)) = cursor.next()? {
        let Some(name) = SCOPE.user_key(key) else { continue };
        visit(&Stored { name: name.to_vec(), metadata: value.to_vec() })?;
    }
    Ok(())
}

/// The record of a sorted set's member by its score, which follows from the one by its name.
pub(super) fn by_score(score: &[u8], member: &[u8]) -> Vec<u8> {
    [score, member].concat()
}

/// Whether this is a sorted set, whose members lie in two families.
pub(super) fn is_scored(header: &Header<'_>) -> bool {
    header.kind() == Some(Type::Zset)
}

/// The text of a stored score; `None` if it is none.
pub(super) fn score_text(stored: &[u8]) -> Option<String> {
    stored.try_into().ok().map(|bytes| score::format(score::decode(bytes)))
}
