//! JSON documents as Kvrocks keeps them: text and CBOR ⇄ values, JSONPath, edits at a path.
//!
//! Kvrocks stands on the library jsoncons; its dialect of JSONPath, the form of its numbers, the
//! order of keys (sorted) and its bytes of CBOR are the contract. Where its answers are accidents
//! the modules say what is done instead.
//!
//! Pure: no RESP, no storage. Nothing here panics whatever the bytes: documents are at most
//! [`DEPTH_MAX`] deep, paths nest a bounded number of times, and a path that visits too much is
//! given up ([`Error::TooMuch`]).

mod cbor;
pub mod edit;
pub mod path;
mod read;
mod value;
mod write;

pub use cbor::{from_cbor, to_cbor};
pub use path::Path;
pub use read::from_text;
pub use value::{Kind, Number, Object, Value};
pub use write::{Layout, number_text, to_text, write, write_all, write_found};

/// Arrays and objects within each other, at most. Kvrocks reads nothing deeper, whatever it was
/// told to write.
pub const DEPTH_MAX: usize = 1024;

/// Bytes of a document, of what is put into one, and of an answer, at most.
pub const BYTES_MAX: usize = 512 << 20;

/// Why something is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A text that is no JSON, or a path that is none: what, and where.
    #[error("{what} at line {line} and column {column}")]
    Syntax {
        /// In jsoncons' words.
        what: &'static str,
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// There is no text.
    #[error("Failed to parse json string: Source error")]
    Nothing,
    /// Bytes that are no CBOR of a JSON document.
    #[error("not the CBOR of a JSON document: {0}")]
    Cbor(&'static str),
    /// A document that is too deep to be kept.
    #[error("Failed to encode JSON into storage: Data item nesting exceeds limit in options")]
    TooDeep,
    /// A document or an answer that is too large.
    #[error("the document would be too large")]
    TooLarge,
    /// A path that visits too much, or descends too deep.
    #[error("the path takes too many steps in this document")]
    TooMuch,
    /// Arithmetic beyond all numbers.
    #[error("the result is an infinite number")]
    Infinite,
}

/// Their result.
pub type Result<T> = std::result::Result<T, Error>;
