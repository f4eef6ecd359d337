//! Types of keys: ids on disk, names, and what they have in common.

use crate::Family;

/// Type of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Type {
    /// Redis string.
    String = 1,
    /// Redis hash.
    Hash = 2,
    /// Redis list.
    List = 3,
    /// Redis set.
    Set = 4,
    /// Redis sorted set.
    Zset = 5,
    /// Bitmap in segments.
    Bitmap = 6,
    /// Sorted set of integers.
    SortedInt = 7,
    /// Redis stream.
    Stream = 8,
    /// Bloom filter.
    Bloom = 9,
    /// JSON document.
    Json = 10,
    /// HyperLogLog.
    HyperLogLog = 11,
    /// T-digest.
    TDigest = 12,
    /// Time series.
    TimeSeries = 13,
    /// Cuckoo filter.
    Cuckoo = 14,
}

impl Type {
    /// All types in the order of their ids.
    pub const ALL: [Self; 14] = [
        Self::String,
        Self::Hash,
        Self::List,
        Self::Set,
        Self::Zset,
        Self::Bitmap,
        Self::SortedInt,
        Self::Stream,
        Self::Bloom,
        Self::Json,
        Self::HyperLogLog,
        Self::TDigest,
        Self::TimeSeries,
        Self::Cuckoo,
    ];

    /// Id on disk, 1..=14.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The type with this id.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id.checked_sub(1)?)).copied()
    }

    /// Reply of TYPE.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Hash => "hash",
            Self::List => "list",
            Self::Set => "set",
            Self::Zset => "zset",
            Self::Bitmap => "bitmap",
            Self::SortedInt => "sortedint",
            Self::Stream => "stream",
            Self::Bloom => "MBbloom--",
            Self::Json => "ReJSON-RL",
            Self::HyperLogLog => "hyperloglog",
            Self::TDigest => "TDIS-TYPE",
            Self::TimeSeries => "timeseries",
            Self::Cuckoo => "MBbloomCF",
        }
    }

    /// Whether the metadata value is the whole value.
    pub fn is_single(self) -> bool {
        matches!(self, Self::String | Self::Json)
    }

    /// Whether a key of size 0 exists.
    pub fn may_be_empty(self) -> bool {
        matches!(
            self,
            Self::String
                | Self::Json
                | Self::Stream
                | Self::Bloom
                | Self::HyperLogLog
                | Self::TDigest
                | Self::TimeSeries
                | Self::Cuckoo
        )
    }

    /// First log data of a batch about this type: the id in decimal.
    pub fn log_data(self) -> &'static [u8] {
        match self {
            Self::String => b"1",
            Self::Hash => b"2",
            Self::List => b"3",
            Self::Set => b"4",
            Self::Zset => b"5",
            Self::Bitmap => b"6",
            Self::SortedInt => b"7",
            Self::Stream => b"8",
            Self::Bloom => b"9",
            Self::Json => b"10",
            Self::HyperLogLog => b"11",
            Self::TDigest => b"12",
            Self::TimeSeries => b"13",
            Self::Cuckoo => b"14",
        }
    }

    /// Families that hold its sub-keys.
    pub fn families(self) -> &'static [Family] {
        match self {
            Self::String | Self::Json => &[],
            Self::Zset => &[Family::Default, Family::ZsetScore],
            Self::Stream => &[Family::Stream],
            _ => &[Family::Default],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_is_that_of_its_type_and_no_other_is_one() {
        for id in 0..=u8::MAX {
            let found = Type::ALL.into_iter().find(|kind| kind.id() == id);
            assert_eq!(Type::from_id(id), found, "{id}");
        }
    }
}
