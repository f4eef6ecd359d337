//! Slots as write batches, for a target that takes them unchanged (APPLYBATCH).
//!
//! A key's metadata comes first, so that no compaction there finds sub-keys of nothing; then its
//! sub-keys of the current version. Expired keys come along: no clock decides. What the log has is
//! passed on batch by batch, each whole, so what is one MULTI here is one batch there.

use topology::SlotRange;

use super::keys::{Stored, by_score, is_scored};
use super::layout::{SCOPE, STAGES, bounds, slot_of};
use crate::batch::{self, Record, Writer};
use crate::types::fields::Form;
use crate::types::kind::Type;
use crate::{Error, Family, Snapshot};

/// Why a batch of the log is not passed on.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Keys of the slots were deleted all at once.
    #[error("the slots were flushed meanwhile")]
    Flushed,
    /// No batch.
    #[error(transparent)]
    Storage(#[from] Error),
}

/// Takes finished batches.
pub type Sink<'s, E> = dyn FnMut(&[u8]) -> Result<(), E> + 's;

/// Records on their way into batches of about this many bytes.
pub struct Batches {
    writer: Writer,
    max_bytes: usize,
}

impl Batches {
    /// An empty one.
    pub fn new(max_bytes: usize) -> Self {
        Self { writer: Writer::new(Vec::new()), max_bytes }
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.writer.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.writer.is_empty()
    }

    /// Another size, from the next record on.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
    }

    /// Hands on what waits, if it is enough.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn pass_on<E>(&mut self, sink: &mut Sink<'_, E>) -> Result<(), E> {
        if self.writer.len() < self.max_bytes { Ok(()) } else { self.flush(sink) }
    }

    /// Hands on what waits.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn flush<E>(&mut self, sink: &mut Sink<'_, E>) -> Result<(), E> {
        if self.writer.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(self.writer.finish());
        self.writer = Writer::new(Vec::with_capacity(self.max_bytes.min(bytes.len())));
        sink(&bytes)
    }

    /// Deletes all that lies under a key's version, in every family where something may.
    pub(super) fn clear(&mut self, key: &Stored) {
        let (Some(prefix), Some(first)) = (key.prefix(), key.family()) else { return };
        self.begin(key);
        let end = crate::prefix_end(&prefix);
        let is_scored = key.header().is_some_and(|header| is_scored(&header));
        let scores = is_scored.then_some(Family::ZsetScore);
        for family in [Some(first), scores].into_iter().flatten() {
            self.writer.delete_range(family, &prefix, &end);
        }
    }

    /// Adds a key with all that lies under it.
    ///
    /// # Errors
    /// I/O errors, those of `sink`.
    pub fn add_key<E: From<Error>>(
        &mut self,
        at: &Snapshot<'_>,
        key: &Stored,
        sink: &mut Sink<'_, E>,
    ) -> Result<(), E> {
        self.begin(key);
        let ns_key = SCOPE.ns_key(&key.name);
        self.writer.put(Family::Metadata, &[&ns_key], &[&key.metadata]);
        self.pass_on(sink)?;
        let (Some(prefix), Some(family)) = (key.prefix(), key.family()) else { return Ok(()) };
        let is_scored = key.header().is_some_and(|header| is_scored(&header));
        key.for_each(at, |sub, value| {
            self.begin(key);
            self.writer.put(family, &[&prefix, sub], &[value]);
            if is_scored {
                self.writer.put(Family::ZsetScore, &[&prefix, &by_score(value, sub)], &[]);
            }
            self.pass_on(sink)
        })
    }

    /// Adds how a key is stored now: its metadata, and of its sub-keys these.
    ///
    /// # Errors
    /// I/O errors.
    pub(super) fn add_part<'k>(
        &mut self,
        at: &Snapshot<'_>,
        key: &Stored,
        subs: impl Iterator<Item = &'k (Family, Vec<u8>)>,
    ) -> Result<(), Error> {
        self.begin(key);
        let ns_key = SCOPE.ns_key(&key.name);
        self.writer.put(Family::Metadata, &[&ns_key], &[&key.metadata]);
        for (family, sub) in subs {
            match at.find(*family, sub)? {
                Some(value) => self.writer.put(*family, &[sub], &[&value]),
                None => self.writer.delete(*family, sub),
            }
        }
        Ok(())
    }

    /// A batch begins with the type of its first record.
    fn begin(&mut self, key: &Stored) {
        if self.writer.is_empty() {
            self.writer.log(log_data(key));
        }
    }

    /// Adds what a batch of the log changes of these slots. Whole, whatever its size.
    ///
    /// # Errors
    /// [`Refusal::Flushed`]; bytes that are no batch.
    pub fn add_log(&mut self, bytes: &[u8], slots: SlotRange) -> Result<(), Refusal> {
        if !concerns(bytes, slots)? {
            return Ok(());
        }
        for record in batch::records(bytes) {
            match record.map_err(Error::from)? {
                Record::LogData(data) => self.writer.log(data),
                Record::Put { family, key, value } if moves(family, key, slots) => {
                    self.writer.put(family, &[key], &[value]);
                }
                Record::Delete { family, key } if moves(family, key, slots) => {
                    self.writer.delete(family, key);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batches({} bytes of {})", self.len(), self.max_bytes)
    }
}

fn log_data(key: &Stored) -> &'static [u8] {
    let header = key.header();
    match header.and_then(|header| header.kind()) {
        Some(Type::List) => b"3 7",
        Some(Type::Hash) => {
            header.and_then(|header| header.form()).unwrap_or(Form::Plain).log_data()
        }
        Some(kind) => kind.log_data(),
        None => Type::String.log_data(),
    }
}

/// Whether a record belongs to these slots.
pub(super) fn moves(family: Family, key: &[u8], slots: SlotRange) -> bool {
    let slot = slot_of(key).and_then(topology::Slot::new);
    STAGES.contains(&family) && slot.is_some_and(|slot| slots.contains(slot))
}

/// Whether a batch of the log changes anything of these slots.
///
/// # Errors
/// [`Refusal::Flushed`]; bytes that are no batch.
pub(super) fn concerns(bytes: &[u8], slots: SlotRange) -> Result<bool, Refusal> {
    let (lower, _) = bounds(slots.first().number());
    let (_, upper) = bounds(slots.last().number());
    let mut is_concerned = false;
    for record in batch::records(bytes) {
        match record.map_err(Error::from)? {
            Record::Put { family, key, .. } | Record::Delete { family, key } => {
                is_concerned |= moves(family, key, slots);
            }
            Record::DeleteRange { family, begin, end } => {
                let is_data = STAGES.contains(&family);
                if is_data && begin < &*upper && &*lower < end {
                    return Err(Refusal::Flushed);
                }
            }
            Record::LogData(_) => {}
        }
    }
    Ok(is_concerned)
}
