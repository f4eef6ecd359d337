//! Reading: one key, many keys, a range. The same for the database, for a transaction, which sees
//! its own writes, and for a snapshot of either.

use std::cmp::Ordering;
use std::ops::Deref;
use std::sync::Arc;

use rocksdb::{DBPinnableSlice, DBRawIterator};

use crate::overlay::Slice as OverlaySlice;
use crate::slots::Marks;
use crate::{Error, Family, budget};

/// A value read from the database; not copied: pinned in the block cache or memtable, or shared
/// with what is kept in memory.
pub struct Value<'a> {
    repr: Repr<'a>,
    /// The value begins somewhere in what is held.
    start: usize,
}

enum Repr<'a> {
    Pinned(DBPinnableSlice<'a>),
    Owned(Box<[u8]>),
    Shared(Arc<[u8]>),
}

impl<'a> Value<'a> {
    pub(crate) fn pinned(slice: DBPinnableSlice<'a>) -> Self {
        Self { repr: Repr::Pinned(slice), start: 0 }
    }

    pub(crate) fn shared(data: Arc<[u8]>, start: usize) -> Self {
        Self { repr: Repr::Shared(data), start }
    }

    pub(crate) fn owned(bytes: impl Into<Box<[u8]>>) -> Self {
        Self { repr: Repr::Owned(bytes.into()), start: 0 }
    }

    /// The same without so many bytes at its beginning.
    pub(crate) fn without(self, bytes: usize) -> Self {
        Self { start: self.start.saturating_add(bytes), ..self }
    }
}

impl Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let held: &[u8] = match &self.repr {
            Repr::Pinned(slice) => slice,
            Repr::Owned(bytes) => bytes,
            Repr::Shared(data) => data,
        };
        held.get(self.start..).unwrap_or_default()
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

/// Order of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending.
    Forward,
    /// Descending.
    Reverse,
}

/// What commands read from: [`crate::Store`], [`crate::Txn`] or a [`crate::Snapshot`] of one; the
/// module of the last says when one is needed.
pub trait Read {
    /// The value of a key.
    ///
    /// # Errors
    /// I/O errors and corruption.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Value<'_>>, Error>;

    /// The values of many keys at once, in their order.
    ///
    /// # Errors
    /// I/O errors and corruption.
    fn multi_get<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Vec<Option<Value<'_>>>, Error>;

    /// All entries of `[lower, upper)`; an empty `upper` means no bound. The scan sees the state of
    /// the moment it was opened. Without a call of [`Cursor::next`] nothing is read.
    ///
    /// # Errors
    /// Only if the family is missing; reading errors come from [`Cursor::next`].
    fn scan(
        &self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Result<Cursor<'_>, Error>;

    /// Marks of slot moves, where there are any: keys of slots that are others' are there for no
    /// command on many keys.
    fn marks(&self) -> Option<Arc<Marks>>;
}

/// Key and value of an entry.
pub type Entry<'e> = (&'e [u8], &'e [u8]);

/// A range scan. Lends its entries, so that nothing is copied.
pub struct Cursor<'a> {
    engine: DBRawIterator<'a>,
    direction: Direction,
    position: Position,
    overlay: Option<OverlaySlice>,
}

/// Where the engine's iterator stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Unopened,
    /// On an entry that was lent already.
    Used,
    /// On an entry that was not lent yet, or behind the end.
    Fresh,
}

enum Source {
    Engine,
    Overlay,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(
        engine: DBRawIterator<'a>,
        direction: Direction,
        overlay: Option<OverlaySlice>,
    ) -> Self {
        Self { engine, direction, position: Position::Unopened, overlay }
    }

    /// The next entry (key, value).
    ///
    /// # Errors
    /// I/O errors and corruption; the scan is over then.
    #[expect(clippy::should_implement_trait, reason = "lends from itself, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        let entry = match self.step()? {
            None => None,
            Some(Source::Engine) => self.engine.item(),
            Some(Source::Overlay) => self.overlay.as_ref().and_then(OverlaySlice::passed),
        };
        if let Some((_, value)) = entry {
            budget::found(value.len());
        }
        Ok(entry)
    }

    fn step(&mut self) -> Result<Option<Source>, Error> {
        loop {
            budget::step(1)?;
            self.advance_engine()?;
            let Some(overlay) = &mut self.overlay else {
                return Ok(self.lend_engine());
            };
            let head = overlay.head(self.direction);
            let order = match (self.engine.key(), head) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(engine), Some(key)) => match self.direction {
                    Direction::Forward => engine.cmp(key),
                    Direction::Reverse => (**key).cmp(engine),
                },
            };
            if order == Ordering::Less {
                if self.engine.key().is_some_and(|key| overlay.hides(key)) {
                    self.position = Position::Used;
                    continue;
                }
                return Ok(self.lend_engine());
            }
            if order == Ordering::Equal {
                self.position = Position::Used;
            }
            overlay.pop(self.direction);
            if overlay.passed().is_some() {
                return Ok(Some(Source::Overlay));
            }
        }
    }

    fn lend_engine(&mut self) -> Option<Source> {
        self.engine.valid().then(|| {
            self.position = Position::Used;
            Source::Engine
        })
    }

    fn advance_engine(&mut self) -> Result<(), Error> {
        match (self.position, self.direction) {
            (Position::Fresh, _) => return Ok(()),
            (Position::Unopened, Direction::Forward) => self.engine.seek_to_first(),
            (Position::Unopened, Direction::Reverse) => self.engine.seek_to_last(),
            (Position::Used, _) if !self.engine.valid() => {}
            (Position::Used, Direction::Forward) => self.engine.next(),
            (Position::Used, Direction::Reverse) => self.engine.prev(),
        }
        self.position = Position::Fresh;
        if self.engine.valid() {
            return Ok(());
        }
        self.engine.status().map_err(|error| Error::engine("scan a family", error))
    }
}
