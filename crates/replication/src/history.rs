//! The history of epochs of a database: which stretch of the sequence numbers each epoch has, and
//! where two databases part.
//!
//! Every epoch begins with one record of its own in the database ([`Entry`]); its sequence number
//! is the first of the epoch, and the epoch lasts up to the record before the next entry, or to the
//! newest record. One epoch is written by one process, so two databases that both have an entry
//! hold the same records from there to the end of the shorter one (rule R11). Numbers alone say
//! nothing: two controllers can give one number to two epochs, therefore each has a random id, and
//! entries are the same only if number, id and first sequence are.
//!
//! Invariant of [`History`]: epochs and first sequences rise from entry to entry.

use std::fmt;

use crate::number::decimal;

/// Most entries that are sent to a peer: the newest ones. Databases that part before them need a
/// full sync.
pub const SENT_ENTRIES_MAX: usize = 1024;
/// Longest text of a [`Position`] that is read; room for [`SENT_ENTRIES_MAX`] entries of the
/// longest numbers.
pub const TEXT_BYTES_MAX: usize = 128 << 10;
/// Bytes of an entry as the value of its record, see [`Entry::value`].
pub const VALUE_BYTES: usize = 24;
/// What the keys of entries begin with, in the propagate family. Kvrocks ignores keys there that it
/// does not know.
pub const KEY_PREFIX: &[u8] = b"__holdfast_epoch__";

/// Random identity of an epoch: 16 hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EpochId(u64);

impl EpochId {
    /// An id of random bits that the caller drew.
    pub fn from_random(bits: u64) -> Self {
        Self(bits)
    }

    /// Its bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Reads exactly 16 hex digits of lower case.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let is_plain =
            text.len() == 16 && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_plain {
            return None;
        }
        u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok().map(Self)
    }
}

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The beginning of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Number of the epoch, given by the controller.
    pub epoch: u64,
    /// Its random identity.
    pub id: EpochId,
    /// Sequence number of the entry's own record, at least 1.
    pub first: u64,
    /// Unix ms at the master that opened it; for people only, nothing is decided by it.
    pub wall_ms: u64,
}

/// Bytes or text that are no entry or no history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed epoch history")]
pub struct Malformed;

/// Why an entry cannot follow those there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The history already has a newer epoch, or this one.
    #[error("epoch {found} cannot follow epoch {newest}")]
    OldEpoch {
        /// Newest in the history.
        newest: u64,
        /// Of the entry.
        found: u64,
    },
    /// The history has an epoch of the same number and another identity.
    #[error("epoch {epoch} is known as {known}, not as {found}")]
    OtherId {
        /// The number.
        epoch: u64,
        /// In the history.
        known: EpochId,
        /// Of the entry.
        found: EpochId,
    },
    /// Its first sequence is not behind the newest entry's.
    #[error("epoch {epoch} cannot begin at sequence {first}")]
    OldSequence {
        /// Of the entry.
        epoch: u64,
        /// Of the entry.
        first: u64,
    },
}

impl Entry {
    /// Key of its record in the propagate family.
    pub fn key(epoch: u64) -> Vec<u8> {
        [KEY_PREFIX, &epoch.to_be_bytes()].concat()
    }

    /// Value of its record: id, first sequence, wall clock, each 8 bytes, big-endian.
    pub fn value(&self) -> [u8; VALUE_BYTES] {
        let mut value = [0; VALUE_BYTES];
        for (part, number) in value.chunks_exact_mut(8).zip([self.id.0, self.first, self.wall_ms]) {
            part.copy_from_slice(&number.to_be_bytes());
        }
        value
    }

    /// Reads a record of the propagate family; `None` if its key is not that of an entry.
    ///
    /// # Errors
    /// The key is, and it or the value cannot be read.
    pub fn read(key: &[u8], value: &[u8]) -> Option<Result<Self, Malformed>> {
        let epoch = key.strip_prefix(KEY_PREFIX)?;
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).map_err(|_| Malformed);
        let entry = || {
            let (Some(id), Some(first), Some(wall_ms)) =
                (value.get(..8), value.get(8..16), value.get(16..))
            else {
                return Err(Malformed);
            };
            let id = EpochId(number(id)?);
            let (epoch, first) = (number(epoch)?, number(first)?);
            if first == 0 {
                return Err(Malformed);
            }
            Ok(Self { epoch, id, first, wall_ms: number(wall_ms)? })
        };
        Some(entry())
    }

    /// Is it the beginning of the same epoch? The wall clock does not matter.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.epoch, self.id, self.first) == (other.epoch, other.id, other.first)
    }

    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = text.split(|byte| *byte == b':');
        let epoch = decimal(parts.next()?)?;
        let id = EpochId::parse(parts.next()?)?;
        let first = decimal(parts.next()?).filter(|first| *first > 0)?;
        let wall_ms = decimal(parts.next()?)?;
        parts.next().is_none().then_some(Self { epoch, id, first, wall_ms })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.epoch, self.id, self.first, self.wall_ms)
    }
}

/// The epochs of a database, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    entries: Vec<Entry>,
}

impl History {
    /// All entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// True if no epoch was ever opened.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The present epoch.
    pub fn newest(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// Does it have an epoch of this identity?
    pub fn contains(&self, id: EpochId) -> bool {
        self.entries.iter().any(|entry| entry.id == id)
    }

    /// The epoch that holds a sequence number.
    pub fn at(&self, sequence: u64) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.first <= sequence)
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// It cannot follow those there are; nothing is changed.
    pub fn push(&mut self, entry: Entry) -> Result<(), Misfit> {
        if let Some(newest) = self.newest() {
            self.check_number(entry.epoch, entry.id)?;
            if entry.first <= newest.first {
                return Err(Misfit::OldSequence { epoch: entry.epoch, first: entry.first });
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    /// May an epoch of this number and identity be opened?
    ///
    /// # Errors
    /// The history has a newer one, or this number.
    pub fn check_number(&self, epoch: u64, id: EpochId) -> Result<(), Misfit> {
        if let Some(known) = self.entries.iter().find(|known| known.epoch == epoch)
            && known.id != id
        {
            return Err(Misfit::OtherId { epoch, known: known.id, found: id });
        }
        match self.newest() {
            Some(newest) if epoch <= newest.epoch => {
                Err(Misfit::OldEpoch { newest: newest.epoch, found: epoch })
            }
            _ => Ok(()),
        }
    }

    /// The history of the records up to a sequence number.
    #[must_use]
    pub fn up_to(&self, sequence: u64) -> Self {
        let entries = self.entries.iter().filter(|entry| entry.first <= sequence);
        Self { entries: entries.copied().collect() }
    }

    /// Reads what [`History::to_string`] writes.
    ///
    /// # Errors
    /// Anything else, or more than [`TEXT_BYTES_MAX`] bytes.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Malformed);
        }
        let mut history = Self::default();
        if text != b"-" {
            for text in text.split(|byte| *byte == b',') {
                let entry = Entry::parse(text).ok_or(Malformed)?;
                history.push(entry).map_err(|_| Malformed)?;
            }
        }
        Ok(history)
    }

    /// Newest sequence of the epoch at `index`, in a database that ends at `latest`.
    fn end(&self, index: usize, latest: u64) -> u64 {
        let next = self.entries.get(index + 1);
        next.map_or(latest, |next| latest.min(next.first.saturating_sub(1)))
    }
}

/// A history and where it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// The epochs.
    pub history: History,
    /// Newest sequence number; 0 in an empty database.
    pub latest: u64,
}

impl Position {
    /// Reads what [`Position::to_string`] writes.
    ///
    /// # Errors
    /// Anything else, more than [`TEXT_BYTES_MAX`] bytes, or a newest entry behind the end.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Malformed);
        }
        let mut parts = text.splitn(2, |byte| *byte == b';');
        let latest = parts.next().and_then(decimal).ok_or(Malformed)?;
        let history = History::parse(parts.next().ok_or(Malformed)?)?;
        if history.newest().is_some_and(|newest| newest.first > latest) {
            return Err(Malformed);
        }
        Ok(Self { history, latest })
    }
}

/// `<latest>;<history>`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{}", self.latest, self.history)
    }
}

/// `<epoch>:<id>:<first>:<wall ms>,…`, or `-` without any epoch. Only the newest entries, at most
/// [`SENT_ENTRIES_MAX`].
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entries.is_empty() {
            return f.write_str("-");
        }
        let skipped = self.entries.len().saturating_sub(SENT_ENTRIES_MAX);
        for (index, entry) in self.entries.iter().skip(skipped).enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{entry}")?;
        }
        Ok(())
    }
}

/// Whether a node may be given data for that is of the epoch `newest`: its own data has that epoch,
/// or this process was granted a later one (`granted`). A node of which neither is known has lost
/// its data, or never had any: that it has no history does not make it another one.
pub fn is_grant_shown(newest: &Entry, theirs: &History, granted: Option<u64>) -> bool {
    theirs.entries.iter().any(|entry| entry.is_same(newest))
        || granted.is_some_and(|granted| granted > newest.epoch)
}

/// Where a database parts from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// Nowhere: the other one holds everything this one does.
    Same,
    /// Everything up to this sequence number is the same; what this one has behind it, the other
    /// has not.
    At(u64),
    /// Nothing is known to be the same.
    None,
}

/// The newest epoch that both have.
pub fn common<'a>(mine: &'a History, theirs: &History) -> Option<&'a Entry> {
    let is_theirs = |entry: &&Entry| theirs.entries.iter().any(|other| other.is_same(entry));
    mine.entries.iter().rev().find(is_theirs)
}

/// Where `mine` parts from `theirs`: at the smaller end of the newest epoch that both have. An
/// empty database is the beginning of any other.
pub fn fork(mine: &Position, theirs: &Position) -> Fork {
    if mine.latest == 0 {
        return Fork::Same;
    }
    let Some(common) = common(&mine.history, &theirs.history) else { return Fork::None };
    let end = |side: &Position| {
        let index = side.history.entries.iter().position(|entry| entry.is_same(common));
        index.map_or(0, |index| side.history.end(index, side.latest))
    };
    let fork = end(mine).min(end(theirs));
    if fork == mine.latest { Fork::Same } else { Fork::At(fork) }
}

#[cfg(test)]
mod tests;
