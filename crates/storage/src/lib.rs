//! The storage engine of a data server: Kvrocks' on-disk format in RocksDB, the write-ahead log as
//! replication feed, and the data types on top.
//!
//! This is the only crate that names RocksDB. What it promises:
//!
//! * **Bytes.** Families, keys, metadata, values and the content of every write batch are those of
//!   Kvrocks, so that data directories and replication streams are interchangeable.
//! * **One command, one batch, one WAL record.** RocksDB gets one writer at a time and so cannot
//!   merge several into one WAL record: a batch boundary is the same on every node, whatever way
//!   the batch travelled.
//! * **Written is not published.** Writes stay in the process's WAL buffer until [`Store::publish`]
//!   hands them to the operating system (or to the disk with `sync_writes`). A worker executes all
//!   commands of one read buffer, publishes once, and only then lets replies leave; replicas are
//!   only ever given published batches, so a killed master is never behind its replica.
//! * **Nothing read from disk or network panics.** Foreign batches are validated before RocksDB
//!   sees them.
//!
//! What it does not do: RESP, command parsing, locks between commands (the caller serialises
//! read-modify-write of one key), roles, leases.

mod cache;
mod cursor;
mod engine;
mod error;
mod family;
mod filters;
mod format;
mod hot;
mod memtable;
mod options;
mod overlay;
mod reserve;
mod scope;
mod value;
mod versions;
mod view;

pub mod batch;
pub mod budget;
pub mod changes;
pub mod feed;
pub mod key;
pub mod perf;
pub mod read;
pub mod rewind;
pub mod slots;
pub mod snapshot;
pub mod stats;
pub mod store;
pub mod told;
pub mod txn;
pub mod types;

pub use cursor::Cursor;
pub use error::Error;
pub use family::Family;
pub use feed::{FeedBatch, FeedRead, FeedReader, starts_batch};
pub use format::check_number as check_format;
pub use key::{DEFAULT_NAMESPACE, KeyBuf, prefix_end};
pub use options::{Compression, LEFT_TO_ROCKSDB, Options};
pub use read::Read;
pub use reserve::give_back_reserve;
pub use scope::{At, Name, Scope};
pub use snapshot::{Moment, Snapshot};
pub use stats::{Counters, Stats};
pub use store::{Cause, CloseError, CloseWatch, FailureHook, Memory, Sizes, Store, Worn, peek};
pub use txn::{Suspended, Txn};
pub use value::{Direction, Value};
