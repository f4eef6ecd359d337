//! What a value consists of.

/// What a value is, whatever its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One string.
    String,
    /// Elements in their order.
    List,
    /// Members.
    Set,
    /// Members with scores.
    Zset,
    /// Fields with values.
    Hash,
    /// Entries, and groups of consumers.
    Stream,
}

impl Kind {
    /// The kind behind a type byte; `None` for a module's value and for types of later versions.
    pub fn of(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::String,
            1 | 10 | 14 | 18 => Self::List,
            2 | 11 | 20 => Self::Set,
            3 | 5 | 12 | 17 => Self::Zset,
            4 | 9 | 13 | 16 | 22..=25 => Self::Hash,
            15 | 19 | 21 => Self::Stream,
            _ => return None,
        })
    }
}

/// Identifier of an entry of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Id {
    /// Unix milliseconds.
    pub ms: u64,
    /// Number within them.
    pub seq: u64,
}

impl Id {
    /// Sixteen bytes in the order of the numbers.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.ms) << 64) | u128::from(self.seq)).to_be_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        let number = u128::from_be_bytes(bytes);
        Self { ms: (number >> 64) as u64, seq: number as u64 }
    }
}

/// A part of a value. They come in the order in which they lie, those of a stream as follows: its
/// entries, the stream itself, and of each group its consumers, each before its pending entries,
/// and then the group.
#[derive(Debug, Clone, PartialEq)]
pub enum Part<'a> {
    /// The whole of a string.
    String(&'a [u8]),
    /// An element of a list.
    Element(&'a [u8]),
    /// A member of a set.
    Member(&'a [u8]),
    /// A member of a sorted set, and its score, which is a number.
    Scored(&'a [u8], f64),
    /// A field of a hash.
    Field {
        /// Its name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
        /// When it ends, Unix ms; 0 for never.
        end_ms: u64,
    },
    /// An entry of a stream.
    Entry {
        /// Its identifier.
        id: Id,
        /// Fields and values in turn.
        fields: &'a [&'a [u8]],
    },
    /// What is known of a stream beside its entries.
    Stream {
        /// How many entries it has.
        length: u64,
        /// Of the newest one, also if it is deleted.
        last: Id,
        /// The greatest one that was deleted; nothing in old versions.
        max_deleted: Id,
        /// Entries ever added; old versions do not say it.
        entries_added: Option<u64>,
    },
    /// A consumer of a group.
    Consumer {
        /// The group.
        group: &'a [u8],
        /// Its name.
        name: &'a [u8],
        /// When it last asked, Unix ms.
        seen_ms: u64,
        /// When it last got something, Unix ms; -1, here the greatest number, for never.
        active_ms: u64,
        /// How many entries are pending for it.
        pending: u64,
    },
    /// An entry that was delivered and is not acknowledged.
    Pending {
        /// The group.
        group: &'a [u8],
        /// The consumer.
        consumer: &'a [u8],
        /// The entry.
        id: Id,
        /// When it was delivered last, Unix ms.
        delivered_ms: u64,
        /// How often.
        count: u64,
    },
    /// A group of consumers.
    Group {
        /// Its name.
        name: &'a [u8],
        /// The last entry that was delivered.
        last_delivered: Id,
        /// Which one it was of all that were ever added.
        entries_read: Read,
        /// How many consumers it has.
        consumers: u64,
        /// How many entries are pending for them.
        pending: u64,
    },
}

/// How far a group has read, as a number of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many.
    Known(u64),
    /// It could not be told.
    Unknown,
    /// The version of the data does not say it.
    Unsaid,
}
