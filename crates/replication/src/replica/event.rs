//! What goes into and comes out of the replica's machine.

use crate::ReplicationId;
use crate::answer::Answer;
use crate::files::{BadFiles, CheckpointId, RemoteFile};
use crate::history::History;
use crate::name::FileName;
use crate::wire::{Leave, Malformed, Stamp};
use std::borrow::Cow;

/// A connection to the master. Numbers are never used twice by one machine, so a late event of a
/// closed one is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conn(pub u32);

/// What the driver reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// Begin. Also useful after a role change that left the machine as it was: it does nothing
    /// then.
    Start,
    /// An operator asks for the link: an attempt that waits begins at once, and the delays between
    /// attempts begin anew.
    Retry,
    /// This process is about to end: it should be in no in-sync set before. The link goes on.
    Leave,
    /// Time passed; due whenever [`super::Machine::deadline`] is reached.
    Tick,
    /// A connection is open.
    Connected(Conn),
    /// A connection could not be opened, or ended.
    Closed {
        /// Which.
        conn: Conn,
        /// Why, for the log.
        cause: String,
    },
    /// Bytes arrived.
    Received {
        /// On which connection.
        conn: Conn,
        /// In order, in any portions.
        bytes: &'a [u8],
    },
    /// All batches of the previous step are applied; `next` is the database's newest sequence + 1.
    Applied {
        /// Sequence of the next write.
        next: u64,
    },
    /// A batch of the master has the number of another record here, which this node wrote by
    /// itself; the further `Apply` of that step were skipped.
    Diverged {
        /// Sequence of the next write.
        next: u64,
    },
    /// A batch could not be applied; the further `Apply` of that step were skipped, its other
    /// actions done.
    ApplyFailed {
        /// Sequence of the next write.
        next: u64,
        /// Why, for the log.
        cause: String,
    },
    /// The folder for the download is ready.
    Prepared {
        /// What an earlier attempt at the same checkpoint left.
        held: Vec<Held>,
    },
    /// The folder or a file could not be written; a `Swap` of that step was not made.
    FileFailed {
        /// Why, for the log.
        cause: String,
        /// The disk has no room for them.
        is_full: bool,
    },
    /// The downloaded database is in service.
    Swapped {
        /// Its newest sequence + 1.
        next: u64,
        /// Its replication id, where the node uses one.
        replication_id: Option<ReplicationId>,
    },
    /// The database was cut off where it parted from the master's.
    Rewound {
        /// Its newest sequence + 1.
        next: u64,
    },
    /// It cannot be cut off there: only a copy helps.
    RewindImpossible {
        /// Why, for the log.
        cause: String,
        /// The attempt has spoilt the data: it must not be used at all.
        is_spoilt: bool,
    },
    /// A step of the rewind failed; it can be tried again.
    RewindFailed {
        /// Why, for the log.
        cause: String,
    },
    /// The downloaded database cannot be used.
    SwapFailed {
        /// Why, for the log.
        cause: String,
    },
}

/// A file, or its beginning, that is here already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: FileName,
    /// How much there is.
    pub part: Part,
}

/// How much of a file is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it, checked when it was completed.
    Whole,
    /// The first `bytes` bytes, with this CRC32C.
    Beginning {
        /// Bytes in the unfinished file.
        bytes: u64,
        /// CRC32C of those bytes.
        crc32c: u32,
    },
}

/// What the driver has to do, in this order. Failures come back as events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<'a> {
    /// Open a connection to the master; answered by `Connected` or `Closed`.
    Connect(Conn),
    /// Queue bytes. Never stop reading because they cannot be sent.
    Send {
        /// Where.
        conn: Conn,
        /// What.
        bytes: Vec<u8>,
    },
    /// Queue an acknowledgement, in place of an older one of which no byte was sent yet.
    /// (Kvrocks before 2.14 never reads them: they must not pile up nor hold anything up.)
    SendAck {
        /// Where.
        conn: Conn,
        /// What.
        bytes: Vec<u8>,
    },
    /// Close the connection and its file, keeping what was written. No `Closed` is expected.
    Close(Conn),
    /// The data here is this master's, and what follows too: make its lineage that of the data
    /// here, durably, before the first `Apply`; `None` for a master that keeps none. Answered by
    /// `ApplyFailed` if that cannot be done.
    Adopt(Option<History>),
    /// The stream begins, and its master had written up to this sequence when it was asked: so much
    /// of the stream is history. Not told of a master that does not tell its end.
    HistoryUpTo(u64),
    /// Write this batch as it is. After the last one of a step: `Applied`.
    Apply(Cow<'a, [u8]>),
    /// Make the download folder hold nothing but what belongs to this checkpoint; without an id,
    /// nothing at all. Answered by `Prepared`.
    Prepare {
        /// Which checkpoint; only the same one may be resumed.
        checkpoint: Option<CheckpointId>,
        /// Its files.
        files: Vec<RemoteFile>,
    },
    /// Open `<name>.tmp` for this connection's bytes.
    OpenFile {
        /// The connection it belongs to.
        conn: Conn,
        /// Its final name.
        name: FileName,
        /// Keep that many bytes of it, cut off the rest.
        offset: u64,
    },
    /// Append to the open file.
    WriteFile {
        /// The connection it belongs to.
        conn: Conn,
        /// What.
        bytes: &'a [u8],
    },
    /// The file is complete and checked: fsync, rename to its final name.
    FinishFile {
        /// The connection it belongs to.
        conn: Conn,
    },
    /// The open file is wrong: remove it.
    DiscardFile {
        /// The connection it belongs to.
        conn: Conn,
    },
    /// Keep aside what the database has behind this sequence, and cut it off. Answered by
    /// `Rewound`, `RewindImpossible` or `RewindFailed`.
    Rewind {
        /// Newest sequence that stays.
        fork: u64,
    },
    /// The master sent its clock. If this node promises not to become master while the lease
    /// counted from it may last: [`super::Machine::echo`].
    Pinged(Stamp),
    /// How far the leave of [`Event::Leave`] is. Of a master that has no sets it is [`Leave::Gone`]
    /// at once.
    Leaves(Leave),
    /// Put the downloaded database in the place of the present one. Answered by `Swapped` or
    /// `SwapFailed`.
    Swap,
    /// The link's state changed.
    Report(State),
    /// An attempt failed; the next one follows after `retry_ms`.
    Failed {
        /// Why.
        fault: Fault,
        /// Milliseconds until the next attempt.
        retry_ms: u64,
    },
    /// A full sync begins.
    FullSync(Reason),
}

/// State of the link as ROLE and INFO show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No stream yet, or no longer.
    Connecting,
    /// A full sync is running.
    Sync,
    /// The stream flows.
    Connected,
}

impl State {
    /// The word in ROLE.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Sync => "sync",
            Self::Connected => "connected",
        }
    }
}

/// How far the files of a full sync are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are here.
    pub done: u64,
    /// Of so many; `None` where the master does not tell before it sends them, as Kvrocks.
    pub of: Option<u64>,
}

/// Why a full sync is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The node may hold writes that its master has not.
    Required,
    /// The master refused the partial sync, with this answer.
    Refused(String),
    /// The data here has parted from the master's, nobody knows where, or the master does not say.
    Parted(String),
    /// It has parted at a fork that it cannot be rewound to. What is behind that was exported, as
    /// far as the driver could.
    Unrewindable(String),
}

/// Which program the master is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Kvrocks' protocol and nothing else.
    Kvrocks,
    /// The extension was accepted.
    Holdfast,
}

/// Whose fault an attempt's failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The master or the way to it.
    Peer,
    /// This node: its disk, its configuration.
    Local,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection, or it ended.
    #[error("connection to the master {0}")]
    Closed(String),
    /// No answer, or no heartbeat, within the time limit.
    #[error("nothing from the master for {0} ms")]
    TimedOut(u64),
    /// The master answered a request with an error.
    #[error("master refused {request}: {reply}")]
    Refused {
        /// What was asked.
        request: &'static str,
        /// What it said.
        reply: String,
    },
    /// The master's `db-name` is another one.
    #[error("master's db-name is `{theirs}`, ours is `{ours}`")]
    OtherDatabase {
        /// The master's.
        theirs: String,
        /// This node's.
        ours: String,
    },
    /// The master is of another cluster: nothing here is given up for its data, nor taken of it.
    #[error("master is of cluster {theirs}, this node of {ours}")]
    OtherCluster {
        /// The master's.
        theirs: String,
        /// This node's.
        ours: String,
    },
    /// Bytes that are not the protocol.
    #[error("master sent {0}")]
    Malformed(#[from] Malformed),
    /// A file list or file head that cannot be used.
    #[error("master sent a bad file list: {0}")]
    Files(#[from] BadFiles),
    /// The stream does not go on where it should.
    #[error("batch begins at {found}, expected {expected}")]
    Gap {
        /// Sequence expected.
        expected: u64,
        /// Sequence found.
        found: u64,
    },
    /// A file arrived that is not what the master has.
    #[error("checksum of {0} differs")]
    Checksum(FileName),
    /// A file's size is not the one announced.
    #[error("{name} has {found} bytes, announced were {announced}")]
    Size {
        /// The file.
        name: FileName,
        /// In the file list.
        announced: u64,
        /// Before the file.
        found: u64,
    },
    /// The copied database ends before what the master announced.
    #[error("copied database ends at {found}, the master announced {announced}")]
    ShortCopy {
        /// The master's.
        announced: u64,
        /// The copy's.
        found: u64,
    },
    /// After applying, the database stands elsewhere than the stream.
    #[error("database is at {found} after applying up to {expected}")]
    Diverged {
        /// The stream's next sequence.
        expected: u64,
        /// The database's.
        found: u64,
    },
    /// Whether the data here is the master's will be known once the master has opened its epoch.
    #[error("master has not opened an epoch of its own yet")]
    NoEpoch,
    /// The data here is not given up for this master's.
    #[error(
        "master has {theirs} and no grant of epoch {epoch}, which the data here is of, or of a later one: the data is kept, and \
         the master waited for; to follow it all the same, stop this node and move its `db` aside"
    )]
    NoGrant {
        /// Of the data here.
        epoch: u64,
        /// What the master has.
        theirs: String,
    },
    /// A batch, a file or a rewind failed here.
    #[error("{0}")]
    Local(String),
    /// The copy is complete, and cannot be put in service here.
    #[error("{0}")]
    Unusable(String),
    /// The disk here has no room for the files.
    #[error("{0}")]
    Full(String),
}

impl Fault {
    pub(super) fn no_grant(epoch: u64, theirs: Option<&Answer>) -> Self {
        let theirs = match theirs {
            None => "no histories of epochs".to_owned(),
            Some(answer) if answer.position.latest == 0 => "no data".to_owned(),
            Some(answer) => match answer.position.history.newest() {
                None => format!("data without epochs up to sequence {}", answer.position.latest),
                Some(newest) => format!("data of epoch {}", newest.epoch),
            },
        };
        Self::NoGrant { epoch, theirs }
    }

    /// Whether no attempt will do better before somebody changes a configuration.
    pub fn needs_somebody(&self) -> bool {
        let is_login = |reply: &str| {
            let reply = reply.trim_start_matches('-');
            ["NOAUTH", "WRONGPASS", "NOPERM"].iter().any(|code| reply.starts_with(code))
        };
        match self {
            Self::OtherDatabase { .. } | Self::OtherCluster { .. } => true,
            Self::Refused { request, reply } => *request == "AUTH" || is_login(reply),
            _ => false,
        }
    }

    /// Where to look.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Local(_)
            | Self::Unusable(_)
            | Self::Full(_)
            | Self::Diverged { .. }
            | Self::OtherCluster { .. }
            | Self::OtherDatabase { .. } => Blame::Local,
            _ => Blame::Peer,
        }
    }
}
