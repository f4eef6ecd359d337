//! How a node shares out the descriptors it may have: its own files first, then peers, then
//! RocksDB's tables, then clients.
//!
//! Invariant: clients, visitors, peers and tables together leave [`Descriptors::own`] of them for
//! the log, the MANIFEST, checkpoints, threads and whatever else the node opens while it serves; so
//! a crowd of clients meets `maxclients`, and never the log a limit.

use std::os::fd::AsRawFd;

use crate::clients::places::PEERS_BY_CONDUCT;
use crate::config::Values;

/// Of the node's own: log files and tables that are being written, feeds, files that are sent, the
/// admin port's listener, the info log.
const OWN: u64 = 128;
/// A worker's runtime.
const PER_WORKER: u64 = 4;
/// Inputs and outputs of one background job.
const PER_JOB: u64 = 8;
/// Connections of peers. A replica's feed holds a runtime and two log files beside its socket.
const PEERS: u64 = PEERS_BY_CONDUCT as u64;
/// Connections to the admin port.
pub const ADMIN_CONNECTIONS: usize = 64;
/// Visitors: one in so many of all descriptors, but for these bounds.
const VISITORS: (u64, u64, u64) = (16, 16, 256);
/// Tables are cached open by at least one in so many of what is left, where it is too little for
/// all.
const TABLES: u64 = 4;
/// What `rocksdb.max_open_files -1` asks for: tables of 128 MiB would be 8 TiB.
const ALL_TABLES: u64 = 65_536;
/// With fewer for clients and tables a node does not start.
const LEAST: u64 = 64;

/// Why a node cannot start, or cannot have so many clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {limit} files and connections open and needs {needed} at least: raise the limit (`ulimit -n`, LimitNOFILE of systemd)"
)]
pub struct TooFew {
    limit: u64,
    needed: u64,
}

/// What is whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    limit: u64,
    own: u64,
    tables: u64,
    visitors: u64,
    /// Clients there may be.
    clients: u64,
}

impl Default for Descriptors {
    /// For a node that is part of another process, such as a test.
    fn default() -> Self {
        Self { limit: u64::MAX, own: 0, tables: 0, visitors: VISITORS.2, clients: u64::MAX }
    }
}

impl Descriptors {
    /// Shares out `limit` descriptors.
    ///
    /// # Errors
    /// They are too few for a node at all.
    pub fn share(values: &Values, limit: u64) -> Result<Self, TooFew> {
        let (own, visitors) = (own(values), visitors(limit));
        let others = own + PEERS + admin(values);
        let rest = limit.checked_sub(others + visitors).filter(|rest| *rest >= LEAST);
        let rest = rest.ok_or_else(|| TooFew { limit, needed: needed(others + LEAST) })?;
        let (clients, tables) = (u64::from(values.maxclients), tables(values));
        let tables = tables.min(rest.saturating_sub(clients).max(rest / TABLES));
        Ok(Self { limit, own, tables, visitors, clients: rest - tables })
    }

    /// Raises the limit of the process to what `values` ask for, shares out what that gives, and
    /// lowers in `values` what it is too little for. Says so.
    ///
    /// # Errors
    /// See [`Self::share`]; or the system does not tell the limit.
    pub fn prepare(values: &mut Values) -> anyhow::Result<Self> {
        let limit = limits::raise_open_files(wanted(values))?;
        let shared = Self::share(values, limit.soft)?;
        for word in shared.fit(values) {
            tracing::warn!(limit = limit.soft, hard_limit = limit.hard, "{word}");
        }
        Ok(shared)
    }

    /// Lowers what is too much, and says what was lowered.
    fn fit(&self, values: &mut Values) -> Vec<String> {
        const REMEDY: &str = "raise the limit of open files (`ulimit -n`, LimitNOFILE of systemd)";
        let mut words = Vec::new();
        if self.tables < tables(values) {
            let (asked, given) = (values.rocksdb_max_open_files, self.tables);
            values.rocksdb_max_open_files = i32::try_from(given).unwrap_or(i32::MAX);
            words.push(format!("rocksdb.max_open_files is {given} and not {asked}: {REMEDY}"));
        }
        if self.clients < u64::from(values.maxclients) {
            let (asked, given) = (values.maxclients, self.clients);
            values.maxclients = u32::try_from(given).unwrap_or(u32::MAX);
            words.push(format!("maxclients is {given} and not {asked}: {REMEDY}"));
        }
        words
    }

    /// The most clients that `maxclients` may allow from now on, the limit of the process raised
    /// for them where it may be.
    pub fn most_clients(&self, wanted: u32) -> u64 {
        let more = u64::from(wanted).saturating_sub(self.clients);
        if more == 0 || self.limit == u64::MAX {
            return self.clients;
        }
        // Not told is not raised.
        let limit = limits::raise_open_files(self.limit.saturating_add(more));
        self.clients + limit.map_or(0, |limit| limit.soft.saturating_sub(self.limit))
    }

    /// Visitors there may be at a time.
    pub fn visitors(&self) -> usize {
        usize::try_from(self.visitors).unwrap_or(usize::MAX)
    }

    /// Whether a socket that was just accepted took what is the node's own: descriptors are given
    /// lowest first, so its number tells how many are in use.
    pub fn are_short_after(&self, socket: &impl AsRawFd) -> bool {
        // A later raise of the limit only leaves more.
        let number = u64::try_from(socket.as_raw_fd()).unwrap_or_default();
        let limit = || limits::open_files().map_or(self.limit, |limit| limit.soft);
        number >= self.limit.saturating_sub(self.own) && number >= limit().saturating_sub(self.own)
    }
}

/// Of so many descriptors.
fn visitors(limit: u64) -> u64 {
    let (part, least, most) = VISITORS;
    (limit / part).clamp(least, most)
}

/// The least limit that leaves so many beside visitors.
fn needed(others: u64) -> u64 {
    let mut limit = others;
    while limit < others + visitors(limit) {
        limit += 1;
    }
    limit
}

fn own(values: &Values) -> u64 {
    OWN + PER_WORKER * u64::from(values.workers)
        + PER_JOB * u64::from(values.rocksdb_max_background_jobs)
}

fn admin(values: &Values) -> u64 {
    if values.admin_port == 0 { 0 } else { ADMIN_CONNECTIONS as u64 }
}

fn tables(values: &Values) -> u64 {
    u64::try_from(values.rocksdb_max_open_files).unwrap_or(ALL_TABLES)
}

/// What leaves every option as it is.
fn wanted(values: &Values) -> u64 {
    own(values) + PEERS + admin(values) + VISITORS.2 + u64::from(values.maxclients) + tables(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(shared: &Descriptors) -> u64 {
        shared.own + PEERS + shared.visitors + shared.tables + shared.clients
    }

    #[test]
    fn what_is_wanted_is_enough_for_every_option() {
        for (clients, tables) in [(10_240, 8_096), (1, 20), (100_000, -1)] {
            let mut values =
                Values { maxclients: clients, rocksdb_max_open_files: tables, ..Values::default() };
            let before = values.clone();
            let shared = Descriptors::share(&values, wanted(&values)).unwrap();
            assert!(shared.fit(&mut values).is_empty());
            assert_eq!(values, before);
        }
    }

    #[test]
    fn what_is_missing_is_taken_from_tables_and_clients_and_said() {
        let mut values = Values::default();
        let shared = Descriptors::share(&values, 1024).unwrap();
        assert_eq!(all(&shared), 1024);
        assert!(shared.own >= OWN && shared.tables >= 100 && shared.clients >= 400, "{shared:?}");
        let words = shared.fit(&mut values);
        assert_eq!(words.len(), 2, "{words:?}");
        assert!(words[1].contains("maxclients is ") && words[1].contains(" and not 10240"));
        assert_eq!(u64::from(values.maxclients), shared.clients);
        assert_eq!(i64::from(values.rocksdb_max_open_files), shared.tables as i64);
        // A node that asks for little gives its tables what clients leave.
        let modest = Values { maxclients: 50, ..Values::default() };
        let shared = Descriptors::share(&modest, 1024).unwrap();
        assert!(shared.tables > 500 && shared.clients >= 50, "{shared:?}");
    }

    #[test]
    fn too_few_for_a_node_are_refused_with_the_number_that_is_needed() {
        let why = Descriptors::share(&Values::default(), 200).unwrap_err();
        assert!(Descriptors::share(&Values::default(), why.needed).is_ok());
        assert!(Descriptors::share(&Values::default(), why.needed - 1).is_err());
        assert!(why.to_string().contains("may have 200 files"), "{why}");
    }

    #[test]
    fn a_socket_whose_number_is_in_the_reserve_is_one_too_many() {
        struct Socket(i32);
        impl AsRawFd for Socket {
            fn as_raw_fd(&self) -> i32 {
                self.0
            }
        }
        let limit = limits::open_files().unwrap().soft;
        let shared = Descriptors { limit, own: 100, ..Descriptors::default() };
        let number = |below: u64| Socket(i32::try_from(limit - below).unwrap());
        assert!(!shared.are_short_after(&number(101)));
        assert!(shared.are_short_after(&number(100)));
        assert!(!Descriptors::default().are_short_after(&number(1)));
    }
}
