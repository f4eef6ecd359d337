//! The master's side: whether a replica may continue, what it is sent, what it has acknowledged,
//! which checkpoint it copies.
//!
//! Invariant: a feed sends batches in unbroken sequence or ends; it never skips and never sends
//! twice. Reading the WAL, files and sockets is the driver's.

pub mod acks;
pub mod checkpoint;
pub mod feed;
pub mod psync;
pub mod replconf;
pub mod wait;

/// Answer to a replica while the node's database is being replaced.
pub const LOADING: &str = "LOADING kvrocks is restoring the db from backup";
