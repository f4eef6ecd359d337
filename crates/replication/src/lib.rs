//! Replication over Kvrocks' wire protocol, as state machines: bytes and facts in, actions out.
//!
//! Invariant: nothing here opens a socket or a file, reads a clock or draws a random number. Time
//! is an argument in milliseconds of any monotonic clock, randomness a seed. Bytes from the other
//! side are never trusted: they can end a link, but not panic, and not allocate more than the
//! stated limits.
//!
//! Not here: RocksDB, threads, role changes (`node::replication` drives these machines).

pub mod answer;
pub mod backoff;
pub mod files;
pub mod history;
pub mod lineage;
pub mod master;
pub mod name;
mod number;
pub mod replica;
pub mod slots;
pub mod wire;

pub use name::FileName;

/// The 16 characters `[0-9A-Z]` that name a history (`use-rsid-psync`).
pub type ReplicationId = [u8; 16];

/// Largest write batch, in bytes. A master writes no larger one, and a replica takes every one up
/// to this size: what one end allowed and the other refused would end the replication of a history
/// for good.
pub const BATCH_BYTES_MAX: usize = 2 << 30;

/// Argument of `REPLCONF` by which two Holdfast nodes recognise each other; Kvrocks answers `-ERR
/// unknown option`.
///
/// On a connection where it was accepted, `_fetch_meta` and `_fetch_file` use the forms of
/// [`files`] with sizes, checksums and offsets, and acknowledgements follow every applied group.
pub const EXTENSION: &str = "holdfast";

/// Version of the extension, the value of [`EXTENSION`].
pub const EXTENSION_VERSION: &str = "1";

/// Option of `REPLCONF` with this node's epochs ([`history::Position`]), on a connection where
/// [`EXTENSION`] was accepted; the answer is a simple string with the master's.
pub const HISTORY: &[u8] = b"history";

/// Option of `REPLCONF` beside [`HISTORY`], with the value `?`: the answer says what the master is
/// granted, see [`answer`].
pub const GRANTED: &[u8] = b"granted";

/// Option of `REPLCONF` beside [`HISTORY`], with the replica's lineage: the answer has the
/// master's.
pub const LINEAGE: &[u8] = b"lineage";

/// Begins the answer of a master that shows no grant of the epoch that the replica's data is of: it
/// is nothing to be copied.
pub const NO_GRANT: &str = "NOGRANT";

/// Begins the answer of a master that counts the replica's data in its in-sync set: it must not be
/// replaced before the controller's store has a set without it.
pub const IN_SYNC: &str = "INSYNC";

/// Begins the answer to a `PSYNC` of a replica whose history turned out not to be the master's:
/// compare again.
pub const FORKED: &str = "FORKED";
