//! A key of a type with sub-keys: found or made anew, its sub-keys under one prefix, its metadata
//! written back last.
//!
//! A command on a type is: find, look at elements, log, put elements, store. What is dead, of
//! another type or not decodable is dealt with here. A key that is made anew gets a version of its
//! own, so that nothing of its earlier lives comes back.

use super::bounds::SubRange;
use super::elements::Elements;
use super::head::{Header, Metadata};
use super::kind::Type;
use super::{CommandError, version};
use crate::read::each;
use crate::{At, Direction, Error, Family, KeyBuf, Read, Txn, Value};

/// A type with sub-keys.
pub trait Kind {
    /// Which.
    const TYPE: Type;
    /// What its metadata holds beside version and size.
    type Tail: Tail;
}

/// The type-specific end of a metadata value.
pub trait Tail: Sized {
    /// That of a key that is made anew.
    fn fresh() -> Self;
    /// `None` if the bytes are none.
    fn read(bytes: &[u8]) -> Option<Self>;
    /// Appends its bytes.
    fn write(&self, out: &mut Vec<u8>);
}

/// Most types have none. Bytes of a later version are not understood, and not lost either: they are
/// of another type, as it were.
impl Tail for () {
    fn fresh() -> Self {}

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }

    fn write(&self, _out: &mut Vec<u8>) {}
}

/// What becomes of a key whose last element is gone. Both are absent to readers; which one a
/// command leaves is seen in its batch (SREM deletes, HDEL keeps).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfEmpty {
    /// Its metadata is deleted.
    Delete,
    /// Its metadata stays, with size 0.
    Keep,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Object<K: Kind> {
    ns_key: KeyBuf,
    prefix: KeyBuf,
    /// Without its tail.
    metadata: Metadata,
    /// Number of elements.
    pub size: u64,
    /// What is particular to the type.
    pub tail: K::Tail,
    /// When it was looked up: what has ended by then is over. Unix ms.
    pub now_ms: u64,
}

impl<K: Kind> Object<K> {
    /// The object of a living key; `None` if there is none.
    ///
    /// # Errors
    /// Wrong type.
    pub fn find(read: &impl Read, at: &At<'_>) -> Result<Option<Self>, CommandError> {
        read.look(Family::Metadata, &at.ns_key, |value| Self::found(at, value))?
    }

    /// The one of what was found in the metadata family, if the key lives.
    fn found(at: &At<'_>, value: Option<&[u8]>) -> Result<Option<Self>, CommandError> {
        let Some(value) = value else { return Ok(None) };
        let header = Header::living(value, at.scope.now_ms)?;
        header.map(|header| Self::open(at, header)).transpose()
    }

    /// The same, or a new one, which is there once it is stored.
    ///
    /// # Errors
    /// Wrong type.
    pub fn find_or_new(read: &impl Read, at: &At<'_>) -> Result<Self, CommandError> {
        Ok(Self::find(read, at)?.unwrap_or_else(|| Self::new(at)))
    }

    /// A new one, whatever the key holds now: storing it replaces that.
    pub fn new(at: &At<'_>) -> Self {
        Self::with(at, Metadata::new(K::TYPE, version::next()), K::Tail::fresh())
    }

    /// The one behind a header.
    ///
    /// # Errors
    /// Wrong type.
    pub(super) fn open(at: &At<'_>, header: Header<'_>) -> Result<Self, CommandError> {
        let header = header.of(K::TYPE)?;
        let tail = K::Tail::read(header.tail());
        let tail = tail.ok_or(CommandError::WrongType)?;
        Ok(Self::with(at, Metadata::without_tail(&header)?, tail))
    }

    fn with(at: &At<'_>, metadata: Metadata, tail: K::Tail) -> Self {
        let prefix = at.scope.sub_key_prefix(at.key, metadata.version);
        let (ns_key, now_ms) = (at.ns_key.clone(), at.scope.now_ms);
        Self { ns_key, prefix, size: metadata.size, metadata, tail, now_ms }
    }

    /// The same key with another tail, under a version of its own: its elements are to be written
    /// anew, and the old ones become garbage.
    pub fn renewed(&self, at: &At<'_>, tail: K::Tail) -> Self {
        Self::with(at, self.metadata.with_version(version::next()), tail)
    }

    /// Unix time in milliseconds at which it ends; 0 for never.
    pub fn expire_ms(&self) -> u64 {
        self.metadata.expire_ms
    }

    /// Lets it end at `expire_ms`; 0 for never.
    pub fn set_expire_ms(&mut self, expire_ms: u64) {
        self.metadata.expire_ms = expire_ms;
    }

    /// Key of a sub-key on disk.
    pub fn sub_key(&self, sub: &[u8]) -> KeyBuf {
        let mut key = self.prefix.clone();
        key.push(sub);
        key
    }

    /// The value of a sub-key.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn element<'r>(
        &self,
        read: &'r impl Read,
        family: Family,
        sub: &[u8],
    ) -> Result<Option<Value<'r>>, Error> {
        read.get(family, &self.sub_key(sub))
    }

    /// The values of several sub-keys, as they are at one moment.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn elements_at<'r>(
        &self,
        read: &'r impl Read,
        family: Family,
        subs: &[&[u8]],
    ) -> Result<Vec<Option<Value<'r>>>, Error> {
        if let [sub] = subs {
            // RocksDB's read of many prepares for many.
            return Ok(vec![self.element(read, family, sub)?]);
        }
        let keys: Vec<KeyBuf> = subs.iter().map(|sub| self.sub_key(sub)).collect();
        read.multi_get(family, &keys)
    }

    /// Calls `visit` with the values of several sub-keys, as [`each`] does.
    ///
    /// # Errors
    /// Those of the engine; those of `visit`.
    pub fn each_element<E: From<Error>>(
        &self,
        read: &impl Read,
        family: Family,
        subs: &[&[u8]],
        mut visit: impl FnMut(Option<Value<'_>>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let [sub] = subs {
            return visit(self.element(read, family, sub)?);
        }
        let keys: Vec<KeyBuf> = subs.iter().map(|sub| self.sub_key(sub)).collect();
        each(read, family, &keys, visit)
    }

    /// The sub-keys of a range, in the order of their bytes or against it.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn elements<'r>(
        &self,
        read: &'r impl Read,
        family: Family,
        range: &SubRange,
        direction: Direction,
    ) -> Result<Elements<'r>, Error> {
        let (lower, upper) = range.under(&self.prefix);
        let cursor = read.scan(family, &lower, &upper, direction)?;
        Ok(Elements::new(cursor, self.prefix.len()))
    }

    /// Sets a sub-key, which is given in parts.
    pub fn put(&self, txn: &mut Txn<'_>, family: Family, sub: &[&[u8]], value: &[&[u8]]) {
        match sub {
            [one] => txn.put_parts(family, &[&self.prefix, one], value),
            [one, two] => txn.put_parts(family, &[&self.prefix, one, two], value),
            parts => txn.put_parts(family, &[&self.prefix, &parts.concat()], value),
        }
    }

    /// Sets a sub-key to what `write` appends to the batch.
    pub(super) fn put_written(
        &self,
        txn: &mut Txn<'_>,
        family: Family,
        sub: &[u8],
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        txn.put_written(family, &[&self.prefix, sub], write);
    }

    /// Removes a sub-key, which is given in parts.
    pub fn remove(&self, txn: &mut Txn<'_>, family: Family, sub: &[&[u8]]) {
        match sub {
            [one] => txn.delete_parts(family, &[&self.prefix, one]),
            [one, two] => txn.delete_parts(family, &[&self.prefix, one, two]),
            parts => txn.delete_parts(family, &[&self.prefix, &parts.concat()]),
        }
    }

    /// Writes the metadata: behind the sub-keys, as Kvrocks orders its batches.
    pub fn store(mut self, txn: &mut Txn<'_>, if_empty: IfEmpty) {
        if self.size == 0 && if_empty == IfEmpty::Delete {
            return txn.delete(Family::Metadata, &self.ns_key);
        }
        self.write(txn);
    }

    /// Writes the metadata as it is now, before what follows.
    pub fn write(&mut self, txn: &mut Txn<'_>) {
        self.metadata.size = self.size;
        txn.put_written(Family::Metadata, &[&self.ns_key], |value| {
            self.metadata.write_head(value);
            self.tail.write(value);
        });
    }
}
