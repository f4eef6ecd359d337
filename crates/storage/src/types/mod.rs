//! Data types as functions over [`crate::Read`] and [`crate::Txn`]: no RESP, no parsing of
//! arguments, no locks.
//!
//! Semantics of Redis' own commands are those of Redis 7; bytes on disk and in write batches are
//! those of Kvrocks. A function that changes nothing leaves the transaction empty, so that no batch
//! is written. A function that fails may leave records in the transaction: roll it back then.
//! A function that reads several records takes a [`crate::Snapshot`].
//!
//! What the types stand on: [`kind`], [`head`] and [`living`] (metadata), [`object`] and
//! [`elements`] (sub-keys), [`bounds`], [`score`] and [`numbers`] (parts and numbers), [`page`] and
//! [`pick`] (walks and chance), [`log`], [`expiry`], [`fields`] (lifetimes of them), [`version`],
//! [`glob`]. Keys of any type: [`keys`], [`keyspace`], [`copy`], [`dump`].

#[cfg(test)]
mod bench;
pub mod bitmap;
pub mod bloom;
pub mod bounds;
pub mod copy;
pub mod cuckoo;
pub mod dump;
pub mod elements;
pub mod expiry;
pub mod fields;
pub mod geo;
pub mod glob;
pub mod hash;
pub mod head;
pub mod hyperloglog;
pub mod json;
pub mod keys;
pub mod keyspace;
pub mod kind;
pub mod lcs;
pub mod list;
pub mod living;
pub mod log;
mod murmur;
pub mod numbers;
pub mod object;
pub mod page;
pub mod pick;
pub mod score;
pub mod scripts;
pub mod set;
pub mod sort;
pub mod sortedint;
pub mod stream;
pub mod strings;
pub mod tdigest;
pub mod timeseries;
pub mod version;
pub mod weigh;
pub mod zset;

/// Why a command fails. The texts of replies are made by the server.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The key holds another type.
    #[error("key holds another type")]
    WrongType,
    /// A stored value or an argument is not a 64-bit integer.
    #[error("value is not an integer or out of range")]
    NotAnInteger,
    /// The value of a hash's field is not a 64-bit integer.
    #[error("hash value is not an integer")]
    HashValueNotAnInteger,
    /// The value of a hash's field is not a float.
    #[error("hash value is not a float")]
    HashValueNotAFloat,
    /// An increment would leave the 64-bit range.
    #[error("increment or decrement would overflow")]
    Overflow,
    /// A stored value or an argument is not a float.
    #[error("value is not a valid float")]
    NotAFloat,
    /// An increment would produce NaN or infinity.
    #[error("increment would produce NaN or Infinity")]
    NanOrInfinity,
    /// A score and its increment are infinities that have no sum.
    #[error("resulting score is not a number (NaN)")]
    ScoreIsNan,
    /// An offset into a string is negative.
    #[error("offset is out of range")]
    OffsetOutOfRange,
    /// A value would be longer than the limit for strings.
    #[error("string exceeds maximum allowed size")]
    TooLong,
    /// A bitmap is longer than is read as a string.
    #[error("bitmap is too long to be read as a string")]
    BitmapTooLong,
    /// A time to live that is not positive, or too far away.
    #[error("invalid expire time")]
    InvalidExpire,
    /// A list has no element there.
    #[error("index out of range")]
    IndexOutOfRange,
    /// A source key does not exist.
    #[error("no such key")]
    NoSuchKey,
    /// The key holds what Redis has no form for.
    #[error("the value has no form in Redis")]
    NoRedisForm,
    /// A value of Redis is none.
    #[error(transparent)]
    Redis(#[from] rdb::Error),
    /// A document that is not there is made at its root.
    #[error("new objects must be created at the root")]
    NotAtRoot,
    /// A document, a path or an edit is refused.
    #[error(transparent)]
    Json(#[from] ::json::Error),
    /// A stream refuses.
    #[error(transparent)]
    Stream(#[from] stream::Refusal),
    /// Rules lead from a time series to these keys, of which some are not held: what it takes is
    /// for them too.
    #[error("the time series has rules that lead to keys which are not locked")]
    LeadsTo(Vec<Vec<u8>>),
    /// A time series with rules keeps its samples for a time only, and some are to be deleted that
    /// were before it.
    #[error("the time series has rules, and does not keep samples that were before")]
    BeyondRetention,
    /// A reply would list too many buckets without samples.
    #[error("too many empty buckets")]
    TooManyBuckets,
    /// The engine failed.
    #[error(transparent)]
    Storage(#[from] crate::Error),
}

impl CommandError {
    /// A value of Redis contradicts itself.
    pub(crate) fn malformed(message: &'static str) -> Self {
        Self::Redis(rdb::Error::Malformed(message))
    }

    pub(crate) fn corrupt(message: &'static str) -> Self {
        Self::Storage(crate::Error::corrupt("decode a stored value", message))
    }
}

/// Unix time in milliseconds by this machine's clock.
pub fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
