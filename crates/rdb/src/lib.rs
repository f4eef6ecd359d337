//! Redis' RDB: the values that DUMP answers and RESTORE takes, and the files that a server writes.
//!
//! Read is what Redis wrote in versions 1 to 12, in every encoding a value can have. Written are
//! forms that every Redis since 4.0 reads ([`write`] says which). Bytes come from a reader, so that
//! a file need not be in memory; a value is given out in parts, one element at a time.
//!
//! Invariant: what is read is foreign. No number in it decides how much memory is taken, only the
//! bytes that are there; nothing panics; what contradicts itself is [`Error::Malformed`].
//!
//! It does not know what is done with a value, looks for no duplicates, and drops nothing that has
//! ended.

mod checksum;
pub mod file;
pub mod functions;
mod lzf;
mod packed;
mod part;
mod read;
pub mod write;

pub use checksum::{body, seal};
pub use part::{Id, Kind, Part, Read};
pub use read::Reader;

/// The newest version that is understood.
pub const VERSION_MAX: u16 = 12;
/// What stands before the source of a library of functions.
const FUNCTION: u8 = 245;
/// The longest string, and the longest packed part of a value.
pub const STRING_MAX: u64 = 512 << 20;

/// Why bytes are not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The footer of a payload: its version is not known, or its checksum another one.
    #[error("version or checksum are wrong")]
    Footer,
    /// They end within a value.
    #[error("the data ends too early")]
    Cut,
    /// They contradict themselves.
    #[error("{0}")]
    Malformed(&'static str),
    /// A kind of value that Redis has and this reader does not: a module's, or one of later days.
    #[error("values of type {0} are not known")]
    Kind(u8),
    /// What they come from failed.
    #[error("read: {0}")]
    Io(std::io::Error),
}
