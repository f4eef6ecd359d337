//! The metadata value of a key (Kvrocks' encoding): flags, expiry, and for types with sub-keys
//! version, size and a type-specific tail.
//!
//! Two forms exist: the current one with 64-bit fields and the expiry in milliseconds, and the one
//! of old data with 32-bit size and the expiry in seconds. Both are read; a value is rewritten in
//! the form it has.

use super::CommandError;
use super::fields::Form;
use super::kind::Type;

/// Bit 7 of the flags: 64-bit fields.
const WIDE: u8 = 0x80;

/// A metadata value taken apart as far as it is the same for all types. Borrows the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    pub(super) flags: u8,
    /// Unix time in milliseconds, 0 for never.
    pub expire_ms: u64,
    /// Everything after the expiry.
    pub rest: &'a [u8],
}

impl<'a> Header<'a> {
    /// `None` if the value is too short.
    pub fn decode(value: &'a [u8]) -> Option<Self> {
        let (&flags, rest) = value.split_first()?;
        let (expire_ms, rest) = if flags & WIDE == 0 {
            let (seconds, rest) = rest.split_first_chunk::<4>()?;
            (u64::from(u32::from_be_bytes(*seconds)) * 1000, rest)
        } else {
            let (milliseconds, rest) = rest.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*milliseconds), rest)
        };
        Some(Self { flags, expire_ms, rest })
    }

    /// The header of a living key; `None` if the key is dead.
    ///
    /// # Errors
    /// The value is none.
    pub fn living(value: &'a [u8], now_ms: u64) -> Result<Option<Self>, CommandError> {
        let header =
            Self::decode(value).ok_or_else(|| CommandError::corrupt("metadata is too short"))?;
        Ok(Some(header).filter(|header| !header.is_dead(now_ms)))
    }

    /// The same header, if the key has this type. Types that are not served, and ones that this
    /// version does not know, are kept as they are: they have no other one.
    ///
    /// # Errors
    /// [`CommandError::WrongType`].
    pub fn of(self, kind: Type) -> Result<Self, CommandError> {
        if self.kind() == Some(kind) { Ok(self) } else { Err(CommandError::WrongType) }
    }

    /// `None` for a type this version does not know.
    pub fn kind(&self) -> Option<Type> {
        Type::from_id(self.flags & 0x0f)
    }

    /// Whether this is one of the types without sub-keys.
    pub fn is_single(&self) -> bool {
        self.kind().is_some_and(Type::is_single)
    }

    /// The byte that the value begins with: the id of the type, and bit 7 for 64-bit fields.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// 64-bit form?
    pub fn is_wide(&self) -> bool {
        self.flags & WIDE != 0
    }

    /// Version and size of a type with sub-keys; `None` if the value is too short or the type has
    /// none.
    pub fn version_and_size(&self) -> Option<(u64, u64)> {
        if self.is_single() {
            return None;
        }
        let (version, rest) = self.rest.split_first_chunk::<8>()?;
        let size = if self.is_wide() {
            u64::from_be_bytes(*rest.first_chunk::<8>()?)
        } else {
            u64::from(u32::from_be_bytes(*rest.first_chunk::<4>()?))
        };
        Some((u64::from_be_bytes(*version), size))
    }

    /// Type-specific tail behind the size; empty for single-value types and short values.
    pub fn tail(&self) -> &'a [u8] {
        if self.is_single() {
            return &[];
        }
        self.rest.get(if self.is_wide() { 16 } else { 12 }..).unwrap_or_default()
    }

    /// Its own end is past.
    pub fn has_ended(&self, now_ms: u64) -> bool {
        self.expire_ms != 0 && self.expire_ms < now_ms
    }

    /// Its end is past, or that of each field that a hash has.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        if self.has_ended(now_ms) {
            return true;
        }
        matches!(self.form(), Some(Form::Timed(times)) if times.are_over(now_ms))
    }

    /// How a hash keeps its fields; `None` for other types, and forms that are not known.
    pub fn form(&self) -> Option<Form> {
        let is_hash = self.flags & 0x0f == Type::Hash.id();
        if is_hash { Form::read(self.tail()) } else { None }
    }

    /// First log data of a batch that carries this key over; `None` for a type that is not known.
    pub fn log_data(&self) -> Option<&'static [u8]> {
        let kind = self.kind()?;
        Some(self.form().map_or(kind.log_data(), |form| form.log_data()))
    }

    /// Absent for readers: expired, or empty though its type may not be.
    pub fn is_dead(&self, now_ms: u64) -> bool {
        self.is_expired(now_ms) || self.is_empty()
    }

    /// It has no elements, though its type may not be without.
    pub fn is_empty(&self) -> bool {
        match self.kind() {
            Some(kind) if !kind.may_be_empty() => {
                self.version_and_size().is_some_and(|(_, size)| size == 0)
            }
            _ => false,
        }
    }
}

/// Flags and expiry in front of a payload: what every metadata value begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    bytes: [u8; 9],
    length: usize,
}

impl Prefix {
    /// A new value in the current form. `expire_ms` 0 is never.
    pub fn new(kind: Type, expire_ms: u64) -> Self {
        Self::with_flags(kind.id() | WIDE, expire_ms)
    }

    /// The value `header` was read from, with another expiry, in its own form.
    pub fn rewritten(header: &Header<'_>, expire_ms: u64) -> Self {
        Self::with_flags(header.flags, expire_ms)
    }

    fn with_flags(flags: u8, expire_ms: u64) -> Self {
        let mut bytes = [0; 9];
        let [first, expiry @ ..] = &mut bytes;
        *first = flags;
        if flags & WIDE == 0 {
            // Rounded to the nearest second, but never to 0, which would be "no expiry".
            let seconds = match expire_ms {
                0 => 0,
                1..1000 => 1,
                _ => u32::try_from(expire_ms.saturating_add(499) / 1000).unwrap_or(u32::MAX),
            };
            if let Some(narrow) = expiry.first_chunk_mut::<4>() {
                *narrow = seconds.to_be_bytes();
            }
            Self { bytes, length: 5 }
        } else {
            *expiry = expire_ms.to_be_bytes();
            Self { bytes, length: 9 }
        }
    }

    /// 9 bytes in the current form, 5 in the old one.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The metadata of a type with sub-keys, decoded for change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    flags: u8,
    /// Unix time in milliseconds, 0 for never.
    pub expire_ms: u64,
    /// Version all living sub-keys carry.
    pub version: u64,
    /// Number of elements (bitmaps: bytes; Bloom filters: items added).
    pub size: u64,
    /// Type-specific tail.
    pub tail: Vec<u8>,
}

impl Metadata {
    /// Metadata of a key that is about to be created, in the current form.
    pub fn new(kind: Type, version: u64) -> Self {
        Self { flags: kind.id() | WIDE, expire_ms: 0, version, size: 0, tail: Vec::new() }
    }

    /// Decodes the metadata of a living key of type `kind`; `Ok(None)` if it is dead.
    ///
    /// # Errors
    /// Wrong type; the value is none.
    pub fn decode(value: &[u8], kind: Type, now_ms: u64) -> Result<Option<Self>, CommandError> {
        let Some(header) = Header::living(value, now_ms)? else { return Ok(None) };
        Self::of(&header.of(kind)?).map(Some)
    }

    /// The metadata behind a header of a type with sub-keys.
    ///
    /// # Errors
    /// The value is too short, or its type has no sub-keys.
    pub fn of(header: &Header<'_>) -> Result<Self, CommandError> {
        Ok(Self { tail: header.tail().to_vec(), ..Self::without_tail(header)? })
    }

    /// The same for one who has read the tail by itself.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub(super) fn without_tail(header: &Header<'_>) -> Result<Self, CommandError> {
        let (version, size) = header
            .version_and_size()
            .ok_or_else(|| CommandError::corrupt("metadata is too short"))?;
        let (flags, expire_ms) = (header.flags, header.expire_ms);
        Ok(Self { flags, expire_ms, version, size, tail: Vec::new() })
    }

    /// The same of another version.
    #[must_use]
    pub fn with_version(&self, version: u64) -> Self {
        Self { version, ..self.clone() }
    }

    /// The value to store.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(25 + self.tail.len());
        self.write_head(&mut value);
        value.extend_from_slice(&self.tail);
        value
    }

    /// Appends what stands before the tail in the value to store.
    pub(super) fn write_head(&self, value: &mut Vec<u8>) {
        let prefix = Prefix::with_flags(self.flags, self.expire_ms);
        value.extend_from_slice(prefix.as_bytes());
        value.extend_from_slice(&self.version.to_be_bytes());
        if self.flags & WIDE == 0 {
            let size = u32::try_from(self.size).unwrap_or(u32::MAX);
            value.extend_from_slice(&size.to_be_bytes());
        } else {
            value.extend_from_slice(&self.size.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn old_form_keeps_its_form() {
        // A hash that expires at second 2, version 5, size 1.
        let old = b"\x02\0\0\0\x02\0\0\0\0\0\0\0\x05\0\0\0\x01";
        let mut metadata = Metadata::decode(old, Type::Hash, 0).unwrap().unwrap();
        assert_eq!((metadata.expire_ms, metadata.version, metadata.size), (2000, 5, 1));
        metadata.expire_ms = 2500;
        assert_eq!(metadata.encode(), b"\x02\0\0\0\x02\0\0\0\0\0\0\0\x05\0\0\0\x01");
        metadata.expire_ms = 2501;
        assert_eq!(metadata.encode()[4], 3);
        metadata.expire_ms = 1;
        assert_eq!(metadata.encode()[4], 1);
        metadata.expire_ms = 0;
        assert_eq!(metadata.encode()[4], 0);
    }

    #[test]
    fn empty_hash_and_expired_key_are_dead() {
        let mut metadata = Metadata::new(Type::Hash, 1);
        assert!(Header::decode(&metadata.encode()).unwrap().is_dead(0));
        metadata.size = 1;
        metadata.expire_ms = 10;
        let value = metadata.encode();
        let header = Header::decode(&value).unwrap();
        assert!(!header.is_dead(10));
        assert!(header.is_dead(11));
        assert!(!Header::decode(&Metadata::new(Type::Stream, 1).encode()).unwrap().is_dead(0));
        assert!(matches!(Metadata::decode(&value, Type::Set, 5), Err(CommandError::WrongType)));
    }

    proptest! {
        #[test]
        fn foreign_values_never_panic(value in proptest::collection::vec(any::<u8>(), 0..40), now: u64) {
            if let Some(header) = Header::decode(&value) {
                let _ = (header.kind(), header.version_and_size(), header.tail(), header.is_dead(now));
            }
            let _ = Metadata::decode(&value, Type::Hash, now);
        }

        #[test]
        fn current_form_round_trips(expire_ms: u64, version: u64, size in 1u64.., tail: Vec<u8>) {
            let mut metadata = Metadata::new(Type::List, version);
            (metadata.expire_ms, metadata.size, metadata.tail) = (expire_ms, size, tail);
            let decoded = Metadata::decode(&metadata.encode(), Type::List, 0).unwrap();
            prop_assert_eq!(decoded, Some(metadata));
        }
    }
}
