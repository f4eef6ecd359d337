//! What follows from several options together, and which of them cannot work together.

use std::sync::LazyLock;

use api::heartbeat::ClientAccess;

use super::Tokens;
use super::options::Values;
use crate::inbox::Limit;
use crate::memory::parts::{self, LEAST, Parts};

/// Bytes of batches for replicas, which no option changes.
const FEED: u64 = 64 << 20;

impl Values {
    /// Passwords that make a connection a client's; none where it needs none.
    pub fn client_secrets(&self) -> impl Iterator<Item = &str> {
        [self.requirepass.as_str(), &self.requirepass_also]
            .into_iter()
            .filter(|secret| !secret.is_empty())
    }

    /// Passwords that make a connection a peer's. The first one is this node's own.
    pub fn peer_secrets(&self) -> impl Iterator<Item = &str> {
        [self.peer_auth.as_str(), &self.peer_auth_also]
            .into_iter()
            .filter(|secret| !secret.is_empty())
    }

    /// All passwords, by the options that have them: those that are taken here, and the one that
    /// this node says to its master.
    pub fn secrets(&self) -> [(&'static str, &str); 5] {
        [
            ("requirepass", self.requirepass.as_str()),
            ("requirepass-also", self.requirepass_also.as_str()),
            ("peer-auth", self.peer_auth.as_str()),
            ("peer-auth-also", self.peer_auth_also.as_str()),
            ("masterauth", self.masterauth.as_str()),
        ]
    }

    /// Looks for a password that is the token of a namespace, too.
    ///
    /// # Errors
    /// The option to change, and why.
    pub fn check_tokens(&self, tokens: &Tokens) -> Result<(), (&'static str, &'static str)> {
        const WHY: &str = "it is the token of a namespace, whose clients it would let in as others";
        let is_token = |secret: &str| !secret.is_empty() && tokens.contains_key(secret);
        match self.secrets().into_iter().find(|(_, secret)| is_token(secret)) {
            Some((option, _)) => Err((option, WHY)),
            None => Ok(()),
        }
    }

    /// Whether no reply leaves before the disk has what it tells of.
    pub fn syncs_writes(&self) -> bool {
        self.rocksdb_write_options_sync || self.durable_ack
    }

    /// The namespace of a database by its number; `None` if there is none.
    pub fn database(&self, index: i64) -> Option<Vec<u8>> {
        match index {
            0 => Some(storage::DEFAULT_NAMESPACE.to_vec()),
            1.. if index < i64::from(self.redis_databases) => Some(index.to_string().into_bytes()),
            _ => None,
        }
    }

    /// MiB of the one block cache that all families share.
    pub fn block_cache_mib(&self) -> u32 {
        match self.rocksdb_block_cache_size {
            0 => self
                .rocksdb_metadata_block_cache_size
                .saturating_add(self.rocksdb_subkey_block_cache_size),
            one => one,
        }
    }

    /// Bytes of a bitmap that is read as a string.
    pub fn bitmap_bytes_max(&self) -> u64 {
        u64::from(self.max_bitmap_to_string_mb) << 20
    }

    /// What each part of the node's memory has.
    pub fn parts(&self) -> Parts {
        /// As the machine alone decides.
        static USUAL: LazyLock<Parts> = LazyLock::new(|| Values::default().asked());
        Parts::divide(self.maxmemory.0, &self.asked(), &USUAL)
    }

    /// Most bytes of the Lua state of a worker.
    pub fn script_bytes_here(&self) -> u64 {
        parts::script_here(self.maxmemory.0, self.workers.into(), self.parts().script)
    }

    /// What the options ask for one by one.
    fn asked(&self) -> Parts {
        let mib = |count: u32| u64::from(count) << 20;
        Parts {
            total: 0,
            block_cache: mib(self.block_cache_mib()),
            values: mib(self.value_cache_size),
            memtables: 0,
            write_buffer: mib(self.rocksdb_write_buffer_size),
            log: mib(self.rocksdb_max_total_wal_size),
            feed: FEED,
            clients: 0,
            long_reads: self.long_read_memory.0,
            script: self.script_memory_max.0,
            argument: self.proto_max_bulk_len.0,
            query: self.client_query_buffer_limit.0,
            batch: u64::from(self.rocksdb_write_batch_max_bytes),
            readahead: u64::from(self.rocksdb_compaction_readahead_size),
            tracked: u64::from(self.tracking_table_max_keys),
            steps: u64::from(self.long_read_steps),
            connections: u64::from(self.maxclients),
        }
    }

    /// How much may wait for a client that subscribes.
    pub fn subscriber_limit(&self) -> Limit {
        self.client_output_buffer_limit.pubsub
    }

    /// What this node says to its master.
    pub fn link_secret(&self) -> Option<&str> {
        [self.masterauth.as_str(), &self.peer_auth].into_iter().find(|secret| !secret.is_empty())
    }

    /// The port by which others are told to come: where there is none for both kinds, that of TLS.
    pub fn told_port(&self) -> u16 {
        if self.port == 0 { self.tls_port } else { self.port }
    }

    /// Looks for combinations that cannot work.
    ///
    /// # Errors
    /// The option to change, and why.
    pub fn check_together(&self) -> Result<(), (&'static str, &'static str)> {
        if self.bind.0.is_empty() {
            return Err(("bind", "at least one address is needed"));
        }
        if self.told_port() == 0 {
            return Err(("port", "0 is for a node whose clients all speak TLS: set tls-port"));
        }
        if self.maxmemory.0 > 0 && self.maxmemory.0 < LEAST {
            return Err(("maxmemory", "at least 256mb are needed, or 0 for no bound"));
        }
        if self.client_access == ClientAccess::BalancerOnly {
            if self.balancer_sources.0.is_empty() {
                return Err((
                    "client-access",
                    "balancer-only needs balancer-sources, or no client could ever come",
                ));
            }
            if self.peer_auth.is_empty() {
                return Err((
                    "client-access",
                    "balancer-only needs peer-auth, or no peer or controller could ever come",
                ));
            }
        }
        if self.requirepass.is_empty() && !self.requirepass_also.is_empty() {
            return Err(("requirepass-also", "without requirepass no password is asked for"));
        }
        if self.peer_auth.is_empty() && !self.peer_auth_also.is_empty() {
            return Err(("peer-auth-also", "it is a second secret: set peer-auth first"));
        }
        if !self.compaction_checker_range.is_empty() && !self.compaction_checker_cron.is_empty() {
            return Err((
                "compaction-checker-range",
                "compaction-checker-cron says when: one of them is to be empty",
            ));
        }
        if self.cluster_enabled && self.redis_databases > 0 {
            return Err(("redis-databases", "a cluster has one database"));
        }
        if self.cluster_enabled && self.slaveof.0.is_some() {
            return Err((
                "slaveof",
                "in cluster mode the topology decides who replicates from whom",
            ));
        }
        Ok(())
    }
}
