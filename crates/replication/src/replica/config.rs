//! What the machine is told once, and keeps current while it runs.

use std::sync::Arc;

use crate::ReplicationId;
use crate::history::{EpochId, History};
use crate::lineage::Lineage;

/// How long a disk that is full is left alone, ms.
pub(super) const FULL_MS: u64 = 60_000;

/// Shortest and longest delay between copies of all that the master has, while they turn out to be
/// of no use: each costs both ends what the first one did.
pub(super) const COPIES_MS: (u64, u64) = (1_000, 60_000);

/// What the machine needs to know. Times in milliseconds.
#[derive(Debug, Clone)]
pub struct Config {
    /// `masterauth`; without it no AUTH is sent.
    pub password: Option<Vec<u8>>,
    /// `db-name`, the same on both sides.
    pub db_name: String,
    /// Port the master is to show for this replica.
    pub announce_port: u16,
    /// Address the master is to show, if not the connection's.
    pub announce_ip: Option<String>,
    /// Sent with `PSYNC` when `use-rsid-psync` is on and an id is known.
    pub replication_id: Option<ReplicationId>,
    /// Sequence of the next write here.
    pub next: u64,
    /// Epochs of the data here, as of the start; later ones are told with [`super::Machine::know`].
    pub history: Arc<History>,
    /// Which nodes wrote the data here, as of the start; told anew with [`super::Machine::know`].
    pub lineage: Arc<Lineage>,
    /// Name of this node's cluster, if it knows: see [`super::Machine::be_of`].
    pub cluster: Option<String>,
    /// The data is known to be of no use: no partial sync before a full one.
    pub must_full_sync: bool,
    /// The data may hold writes that the master has not (the node was a master under an older
    /// topology): no partial sync unless the epochs prove it sound.
    pub is_deposed: bool,
    /// How long a master may take to open its epoch before the data here is replaced by a copy of
    /// its own; `None`: for ever, because the data here may hold acknowledged writes that the
    /// master has lost.
    pub epoch_patience_ms: Option<u64>,
    /// Ask the master whether it is Holdfast.
    pub offer_extension: bool,
    /// What a Holdfast master is told that the data here is called in in-sync sets.
    pub member: Option<String>,
    /// Newest epoch in the database, see [`super::Machine::set_epoch`].
    pub epoch: Option<EpochId>,
    /// `replication-connect-timeout-ms`, for connecting and for each plain answer; 3100.
    pub connect_timeout_ms: u64,
    /// `replication-recv-timeout-ms`: longest silence in the stream; above the master's heartbeat
    /// interval; 3200.
    pub receive_timeout_ms: u64,
    /// Longest silence in a transfer. Kvrocks masters with `max-replication-mb` pause between
    /// files.
    pub transfer_timeout_ms: u64,
    /// Largest batch accepted.
    pub batch_bytes_max: u64,
    /// Shortest and longest delay between attempts.
    pub retry_ms: (u64, u64),
}

/// What may change while the machine runs, see [`super::Machine::set_options`]. The fields are
/// those of [`Config`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// See [`Config::password`].
    pub password: Option<Vec<u8>>,
    /// See [`Config::announce_port`].
    pub announce_port: u16,
    /// See [`Config::announce_ip`].
    pub announce_ip: Option<String>,
    /// See [`Config::epoch_patience_ms`].
    pub epoch_patience_ms: Option<u64>,
    /// See [`Config::connect_timeout_ms`].
    pub connect_timeout_ms: u64,
    /// See [`Config::receive_timeout_ms`].
    pub receive_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            password: None,
            db_name: "change.me.db".to_owned(),
            announce_port: 6666,
            announce_ip: None,
            replication_id: None,
            next: 1,
            history: Arc::default(),
            lineage: Arc::default(),
            cluster: None,
            must_full_sync: false,
            is_deposed: false,
            epoch_patience_ms: Some(10_000),
            offer_extension: true,
            member: None,
            epoch: None,
            connect_timeout_ms: 3100,
            receive_timeout_ms: 3200,
            transfer_timeout_ms: 60_000,
            batch_bytes_max: crate::BATCH_BYTES_MAX as u64,
            retry_ms: (50, 5000),
        }
    }
}
