//! Errors of the engine. Errors of a command (wrong type, not an integer, …) are in
//! [`crate::types`].

use std::path::PathBuf;

use replication::history::{Malformed, Misfit};

use crate::batch::BatchError;

/// What can go wrong between a caller and the disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process (or another `Store` of this one) holds the directory.
    #[error(
        "data directory {} is in use by another process; stop it or choose another directory",
        dir.display()
    )]
    InUse {
        /// The database folder.
        dir: PathBuf,
    },
    /// The directory was written in the other cluster mode.
    #[error(
        "data directory {} was written with cluster-enabled {}, but cluster-enabled {} is configured; \
         set cluster-enabled {} or use another directory",
        dir.display(), yes_no(*found), yes_no(!*found), yes_no(*found)
    )]
    WrongMode {
        /// The database folder.
        dir: PathBuf,
        /// Whether the data is that of a cluster.
        found: bool,
    },
    /// The directory was written in a format of a later version.
    #[error(
        "data directory {} has format {found}, this version reads formats up to {known}; start the version that wrote it, or a later one",
        dir.display()
    )]
    NewerFormat {
        /// The database folder.
        dir: PathBuf,
        /// What is there; a number, or what stands in its place.
        found: String,
        /// The newest that is known here.
        known: u32,
    },
    /// A rewind of the database was begun and must be finished first.
    #[error("data directory {} is in the middle of a rewind", dir.display())]
    RewindPending {
        /// The database folder.
        dir: PathBuf,
    },
    /// The file system refused something.
    #[error("{action}: {message}")]
    Io {
        /// Verb and object.
        action: &'static str,
        /// RocksDB's or the system's text.
        message: String,
    },
    /// The disk is full.
    #[error("{action}: no space left on the device")]
    NoSpace {
        /// Verb and object.
        action: &'static str,
    },
    /// A limit of this process or machine was met, descriptors or memory. The disk is not at fault.
    #[error("{action}: {message} ({})", remedy(message))]
    Limit {
        /// Verb and object.
        action: &'static str,
        /// RocksDB's or the system's text.
        message: String,
    },
    /// The database failed before ([`crate::Store::has_failed`]); nothing was tried.
    #[error("the log could not be written before: the database must be opened again")]
    Failed,
    /// Checksums or structure of stored data are wrong.
    #[error("{action}: data is corrupt: {message}")]
    Corrupt {
        /// Verb and object.
        action: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A batch is larger than one may be, or what is taken out and returned is: nothing was
    /// written.
    #[error(
        "too much at once: {bytes} bytes to write, or to take out and return, and {max} are allowed: \
         do less at once, or raise rocksdb.write_options.write_batch_max_bytes (at most {})",
        replication::BATCH_BYTES_MAX
    )]
    TooLarge {
        /// Its size, or that of what was looked at by then.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// Ranges of keys were to be deleted, and slots in them have begun to move here since it was
    /// decided which ones: nothing was written.
    #[error("slots of these keys have begun to move meanwhile: nothing was deleted")]
    SlotsMove,
    /// The newest writes may have to be cut off yet, and could not be once they are in tables.
    #[error(
        "it is not known yet whether the newest writes here are the cluster's: they stay in the log"
    )]
    Unsettled,
    /// A read was ended before it was done ([`crate::budget`]).
    #[error("the read was ended before it was done")]
    Stopped,
    /// A foreign write batch is malformed; nothing was written.
    #[error("write batch is malformed")]
    BadBatch(#[from] BatchError),
    /// A foreign write batch does not continue the history; nothing was written.
    #[error("write batch starts at sequence {found}, expected {expected}")]
    OutOfSequence {
        /// Latest sequence number + 1.
        expected: u64,
        /// Sequence number in the header of the batch.
        found: u64,
    },
    /// An epoch cannot follow those of this database; nothing was written.
    #[error("{0}")]
    EpochRefused(Misfit),
    /// A foreign write batch has an epoch entry that cannot be read; nothing was written.
    #[error("{0}")]
    BadEpoch(Malformed),
    /// Any other refusal of RocksDB.
    #[error("{action}: {message}")]
    Engine {
        /// Verb and object.
        action: &'static str,
        /// RocksDB's text.
        message: String,
    },
}

fn yes_no(cluster: bool) -> &'static str {
    if cluster { "yes" } else { "no" }
}

/// Which limit a text of the system is about, and what helps.
fn remedy(message: &str) -> &'static str {
    if message.contains("open files") {
        "a limit of this process or machine, not the disk: raise that of open files (`ulimit -n`, LimitNOFILE), or lower maxclients or rocksdb.max_open_files"
    } else {
        "a limit of this process or machine, not the disk: give it more memory, or lower its caches"
    }
}

impl Error {
    /// Whether a limit of this process or machine was met, and not a fault of the disk.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Limit { .. })
    }

    /// Wraps an error of RocksDB. `action` is verb and object, lower case.
    pub(crate) fn engine(action: &'static str, error: rocksdb::Error) -> Self {
        let kind = error.kind();
        Self::of_kind(action, kind, error.into_string())
    }

    /// Wraps what RocksDB says without the binding: a text that begins with its kind.
    pub(crate) fn engine_text(action: &'static str, message: String) -> Self {
        let kind = match message.split(':').next() {
            Some("IO error") => rocksdb::ErrorKind::IOError,
            Some("Corruption") => rocksdb::ErrorKind::Corruption,
            _ => rocksdb::ErrorKind::Unknown,
        };
        Self::of_kind(action, kind, message)
    }

    fn of_kind(action: &'static str, kind: rocksdb::ErrorKind, message: String) -> Self {
        match kind {
            rocksdb::ErrorKind::IOError if message.contains("No space left") => {
                Self::NoSpace { action }
            }
            // RocksDB has the system's text and no number.
            rocksdb::ErrorKind::IOError if limits::is_limit_text(&message) => {
                Self::Limit { action, message }
            }
            rocksdb::ErrorKind::IOError => Self::Io { action, message },
            rocksdb::ErrorKind::Corruption => Self::Corrupt { action, message },
            _ => Self::Engine { action, message },
        }
    }

    /// Wraps an error of the file system.
    pub(crate) fn io(action: &'static str, error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::StorageFull {
            return Self::NoSpace { action };
        }
        if limits::is_limit(error) {
            return Self::Limit { action, message: error.to_string() };
        }
        Self::Io { action, message: error.to_string() }
    }

    /// Stored data that cannot be decoded.
    pub(crate) fn corrupt(action: &'static str, message: impl Into<String>) -> Self {
        Self::Corrupt { action, message: message.into() }
    }
}
