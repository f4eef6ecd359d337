//! The options, declared once.

use api::heartbeat::{ClientAccess, LeaseMode};

use web::Names;

use crate::command::Renames;
use crate::machine;

use super::Tokens;
use super::declared::{check, mode, options};
use super::output::OutputLimits;
use super::sampled::Sampled;
use super::schedule::{Hours, Schedule};
use super::value::{
    AuthClients, CacheType, ClientsUser, Compression, DumpLevel, Events, HashForm, HashLength,
    Host, Hosts, JsonFormat, LogDir, LogLevel, Master, MigrateType, Networks, Octal, Size,
    SocketPath, Value,
};

/// Why an option could not be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No such option.
    #[error("unknown option")]
    Unknown,
    /// Only read at start.
    #[error("can't set at run time: change the file and restart")]
    Restart,
    /// The value is not accepted.
    #[error("{0}")]
    Value(String),
}

/// What is known of an option beside its value.
#[derive(Debug, Clone, Copy)]
pub struct Option_ {
    /// Name in files.
    pub name: &'static str,
    /// One paragraph for people.
    pub doc: &'static str,
    /// Whether CONFIG SET works.
    pub is_live: bool,
    /// Whether its value is never shown or logged.
    pub is_secret: bool,
}

/// The option of that name, in any case.
pub fn find(name: &str) -> Option<&'static Option_> {
    OPTIONS.iter().find(|option| option.name.eq_ignore_ascii_case(name))
}

const MAX: i32 = i32::MAX;

#[rustfmt::skip]
options! {
    /// Addresses to listen on, separated by blanks.
    "bind" bind: Hosts = Hosts(vec!["127.0.0.1".into()]), Restart;
    /// Port for clients, peers and controllers; 0: none, beside a tls-port.
    "port" port: u16 = 6666, Restart;
    /// Path of a socket file to serve processes of this host, beside the port; empty: none. Their
    /// clients count as direct ones from this host.
    "unixsocket" unixsocket: SocketPath = SocketPath::default(), Restart;
    /// Permissions of the socket file, octal.
    "unixsocketperm" unixsocketperm: Octal = Octal(0o777), Restart;
    /// Address of the HTTP port with /metrics, /healthz, /primary, /replica.
    "admin-bind" admin_bind: Host = Host("127.0.0.1".into()), Restart;
    /// The HTTP port; 0 switches it off.
    "admin-port" admin_port: u16 = 0, Restart;
    /// Names under which that port is reached, beside `localhost` and its addresses: `name` or
    /// `name:port`, separated by blanks. Requests to others are refused, because a web page may
    /// have sent them.
    "admin-allowed-hosts" admin_allowed_hosts: Names = Names::default(), Live;
    /// A port where only TLS is spoken; 0: none. With a certificate `port` takes both.
    "tls-port" tls_port: u16 = 0, Restart;
    /// `port` takes TLS only, too, from clients, nodes and controllers alike. Exceptions:
    /// connections from this host, and clients whose TLS ended at a balancer that says so.
    "tls-only" tls_only: bool = false, Live;
    /// Certificate of this node and what leads to its CA, PEM. Read anew at SIGHUP, CONFIG SET.
    "tls-cert-file" tls_cert_file: String = String::new(), Live;
    /// Private key of that certificate, PEM, not encrypted.
    "tls-key-file" tls_key_file: String = String::new(), Live;
    /// Refused unless empty: encrypted keys are not read.
    "tls-key-file-pass" tls_key_file_pass: String = String::new(), LiveSecret;
    /// Certificates of the CAs that clients, and masters, are known by, PEM.
    "tls-ca-cert-file" tls_ca_cert_file: String = String::new(), Live;
    /// A folder of files as tls-ca-cert-file is one.
    "tls-ca-cert-dir" tls_ca_cert_dir: String = String::new(), Live;
    /// Whether a client must show a certificate of one of the named CAs: yes, no, optional.
    "tls-auth-clients" tls_auth_clients: AuthClients = AuthClients::Yes, Live;
    /// The user of a client that showed a certificate: off, or CN, the user of its common name.
    "tls-auth-clients-user" tls_auth_clients_user: ClientsUser = ClientsUser::Off, Live;
    /// The HTTP port (admin-port) speaks TLS only, with the same certificate.
    "tls-admin" tls_admin: bool = false, Live;
    /// As tls-auth-clients, of those who ask at the HTTP port.
    "tls-admin-auth-clients" tls_admin_auth_clients: AuthClients = AuthClients::No, Live;
    /// Links to the master are made over TLS. Its certificate must name its address.
    "tls-replication" tls_replication: bool = false, Live;
    /// Versions of TLS: of TLSv1.2 and TLSv1.3, separated by blanks; empty: both.
    "tls-protocols" tls_protocols: String = String::new(), Live;
    /// Refused unless empty: the ciphers of TLS 1.2 are not chosen one by one.
    "tls-ciphers" tls_ciphers: String = String::new(), Live;
    /// Ciphers of TLS 1.3, separated by colons; empty: all.
    "tls-ciphersuites" tls_ciphersuites: String = String::new(), Live;
    /// This node's order of ciphers counts, not the client's.
    "tls-prefer-server-ciphers" tls_prefer_server_ciphers: bool = false, Live;
    /// A client that comes back may skip a part of the handshake.
    "tls-session-caching" tls_session_caching: bool = true, Live;
    /// TLS sessions that are remembered for tls-session-caching.
    "tls-session-cache-size" tls_session_cache_size: u32 = 20_480, [1, 1_000_000], Live;
    /// Threads that serve connections; if not set, one per processor, at least 2 and at most 16.
    "workers" workers: u32 = machine::workers(), [1, 256], Restart;
    /// Directory of data, nodes.conf and pid file. The default is for trials: /tmp is emptied at a
    /// reboot.
    "dir" dir: String = "/tmp/holdfast".into(), Restart;
    /// Folder that BGSAVE makes and replaces; a relative one lies in `dir`. Empty: <dir>/backup.
    "backup-dir" backup_dir: String = String::new(), Live;
    /// When BGSAVE begins by itself, local time, as in cron's files: `0 3 * * *`; several may
    /// follow one another. Empty: never.
    "bgsave-cron" bgsave_cron: Schedule = Schedule::default(), Live;
    /// When the database is compacted by itself, in the form of bgsave-cron.
    "compact-cron" compact_cron: Schedule = Schedule::default(), Live;
    /// When tables with many deletions are looked for, each minute that is meant, and compacted, in
    /// the form of bgsave-cron.
    "compaction-checker-cron" compaction_checker_cron: Schedule = Schedule::default(), Live;
    /// Hours of the day at which such tables are looked for: `0-7` is from midnight to eight. In
    /// place of compaction-checker-cron.
    "compaction-checker-range" compaction_checker_range: Hours = Hours::default(), Live;
    /// Tables older than that many seconds are compacted then, those with most deletions first.
    "force-compact-file-age" force_compact_file_age: i64 = 172_800, [60, i64::MAX], Live;
    /// But only tables of which at least that percentage of the records are deletions.
    "force-compact-file-min-deleted-percentage" force_compact_file_min_deleted_percentage: u32 = 10, [1, 100], Live;
    /// Whether a backup is kept: 1, or 0 to remove it within a minute.
    "max-backup-to-keep" max_backup_to_keep: u32 = 1, [0, 1], Live;
    /// Hours after which a backup is removed; 0: never.
    "max-backup-keep-hours" max_backup_keep_hours: u32 = 0, [0, MAX], Live;
    /// Remove the backup when a full sync begins, here as master or as replica: its files keep old
    /// data on the disk.
    "purge-backup-on-fullsync" purge_backup_on_fullsync: bool = false, Live;
    /// Name both ends of a replication link must agree on.
    "db-name" db_name: String = "change.me.db".into(), Restart;
    /// File with the process id; empty: <dir>/kvrocks.pid.
    "pidfile" pidfile: String = String::new(), Restart;
    /// Least severe message that is logged.
    "log-level" log_level: LogLevel = LogLevel::Info, Live;
    /// Where the log goes: empty: standard error; `stdout`; or a folder, whose `holdfast.log` is
    /// opened again at SIGUSR1 and at SIGHUP; or a folder and stdout, separated by a comma. Errors
    /// go to standard error in any case.
    "log-dir" log_dir: LogDir = LogDir::default(), Restart;
    /// Days for which files stay that a rotation of the log has made in the folder of `log-dir`
    /// (`holdfast.log.1`, `holdfast.log-20261129.gz`); -1: for ever.
    "log-retention-days" log_retention_days: i32 = -1, [-1, MAX], Live;
    /// Close connections idle for that many seconds; 0 never.
    "timeout" timeout: u32 = 0, [0, MAX], Live;
    /// Length of the accept queue.
    "tcp-backlog" tcp_backlog: u32 = 511, [0, MAX], Restart;
    /// Most connections at a time.
    "maxclients" maxclients: u32 = 10_240, [1, MAX], Live;
    /// Password of administrators and clients; empty: none.
    "requirepass" requirepass: String = String::new(), LiveSecret;
    /// A second password that is accepted beside `requirepass`, while it is being changed; empty:
    /// none.
    "requirepass-also" requirepass_also: String = String::new(), LiveSecret;
    /// File with the users of ACL, one a line; a relative path lies in `dir`. Empty: users stand in
    /// this file, as `user NAME MODIFIER…`.
    "aclfile" aclfile: String = String::new(), Restart;
    /// Entries that ACL LOG keeps.
    "acllog-max-len" acllog_max_len: u32 = 128, [0, MAX], Live;
    /// Password this node sends to its master.
    "masterauth" masterauth: String = String::new(), LiveSecret;
    /// Without a password, serve loopback only.
    "protected-mode" protected_mode: bool = true, Live;
    /// Longest argument of a command.
    "proto-max-bulk-len" proto_max_bulk_len: Size = Size(512 << 20), [1 << 20, i64::MAX], Live;
    /// MiB of a bitmap that GET, GETEX and MGET read as a string; of a longer one they are refused.
    "max-bitmap-to-string-mb" max_bitmap_to_string_mb: u32 = 16, [0, MAX], Live;
    /// Most bytes one connection may have sent without having been served.
    "client-query-buffer-limit" client_query_buffer_limit: Size = Size(1 << 30), [1 << 20, i64::MAX], Live;
    /// Memory that this node may take, divided among caches, memtables, connections and the rest.
    /// Connections that hold much wait before it is exceeded, the slowest readers are closed, and
    /// writes are refused above it; no data is evicted. 0: each part has a size of its own, and the
    /// whole has no bound; else at least 256mb.
    "maxmemory" maxmemory: Size = Size(0), [0, i64::MAX], Live;
    /// How much may wait for a client that does not read, per kind of client (`normal`, `slave`,
    /// `pubsub`): bytes at which it is cut off at once, bytes at which it is when they last, and
    /// for how many seconds; 0: no limit. Replies of normal clients know the first alone, since
    /// nothing more is read from one that does not read; replicas read from the log.
    "client-output-buffer-limit" client_output_buffer_limit: OutputLimits = OutputLimits::default(), Live;
    /// Keep the tokens of namespaces in the database, from where replicas have them, instead of in
    /// this file.
    "repl-namespace-enabled" repl_namespace_enabled: bool = false, Live;
    /// How many databases SELECT knows, outside cluster mode and without namespaces; 0: the first
    /// one alone.
    "redis-databases" redis_databases: u32 = 0, [0, MAX], Restart;
    /// Which keyspace notifications are published, in Redis' letters: K (channels of keys) or E
    /// (channels of events), and classes g $ l s h z x t d, or A for all of them, and m and n;
    /// empty: none. With x keys whose end is past are removed when a command finds them, or a walk
    /// that looks at 5000 keys a second.
    "notify-keyspace-events" notify_keyspace_events: Events = Events::default(), Live;
    /// Keys that are noted for CLIENT TRACKING; more are told as if they had changed. 0: no limit.
    "tracking-table-max-keys" tracking_table_max_keys: u32 = 1_000_000, [0, MAX], Live;
    /// How JSON documents are kept when they are written: `json` (as text) or `cbor`. Both are
    /// read.
    "json-storage-format" json_storage_format: JsonFormat = JsonFormat::Json, Live;
    /// How many arrays and objects of a JSON document may be within each other: at most 1024, which
    /// is all that can be read again.
    "json-max-nesting-depth" json_max_nesting_depth: u32 = 1_024, [0, 1_024], Live;
    /// How a hash is kept that is made anew: `legacy` (plainly; the first field that gets an end
    /// has all of them written anew) or `field-expiration` (with 8 bytes more for each field, so
    /// that this is never needed). Both are read.
    "hash-encoding-mode" hash_encoding_mode: HashForm = HashForm::Legacy, Live;
    /// What HLEN answers of a hash with fields that may have ended: `accurate` (it reads them all,
    /// where there are more than 512) or `approximate` (it reads none, and counts what has ended
    /// since the hash was written).
    "hash-length-mode" hash_length_mode: HashLength = HashLength::Accurate, Live;
    /// Steps (elements, look-ups) that a read takes on the thread that serves its client; one that
    /// needs more is run anew on a thread of its own, so that the other clients of its thread do
    /// not wait for it.
    "long-read-steps" long_read_steps: u32 = 20_000, [1, MAX], Live;
    /// Threads for long reads (long-read-steps); further ones wait for one of them.
    "long-read-threads" long_read_threads: u32 = 2, [1, 64], Restart;
    /// Most bytes that the replies of long reads hold together, until they are sent. What a single
    /// one may hold is that divided by the threads; a larger reply is an error.
    "long-read-memory" long_read_memory: Size = Size(2 << 30), [1 << 20, i64::MAX], Restart;
    /// Whether HELLO 3 is accepted.
    "resp3-enabled" resp3_enabled: bool = true, Live;

    /// Cluster mode; decides how keys are stored and cannot be changed for existing data.
    "cluster-enabled" cluster_enabled: bool = false, Restart;
    /// Keep the topology in <dir>/nodes.conf.
    "persist-cluster-nodes-enabled" persist_cluster_nodes_enabled: bool = true, Live;
    /// What a master does without a valid lease: disabled, log-only, block-write, block-all.
    /// In the block modes a missing lease counts as expired.
    "master-lease-mode" master_lease_mode: LeaseMode = LeaseMode::Disabled, Live;
    /// A heartbeat cannot grant a lease that ends further ahead than this, in milliseconds.
    "master-lease-max-ms" master_lease_max_ms: u32 = 60_000, [1, 600_000], Live;
    /// A member of the in-sync set that owes an acknowledgement for that long, in milliseconds, is
    /// dropped from it.
    "in-sync-timeout-ms" in_sync_timeout_ms: u32 = 800, [50, 60_000], Live;
    /// Most bytes of writes the in-sync set has not acknowledged yet; further writes wait.
    "unacknowledged-max-bytes" unacknowledged_max_bytes: Size = Size(16 << 20), [1 << 16, i64::MAX], Live;
    /// An acknowledgement, of a replica or of a client's write, means that it is on the disk. Must
    /// be the same on all nodes of a cluster.
    "durable-ack" durable_ack: bool = false, Restart;
    /// How long a node that is told to end waits until another one has taken over, ms; 0: not.
    "handover-timeout-ms" handover_timeout_ms: u32 = 5_000, [0, 600_000], Live;
    /// Whose connections may run keyed commands: any, balancer-only.
    "client-access" client_access: ClientAccess = ClientAccess::Any, Restart;
    /// Networks whose connections are balancers' and start with a PROXY protocol v2 header.
    "balancer-sources" balancer_sources: Networks = Networks(Vec::new()), Restart;
    /// Secret of nodes and controllers; clients never have it.
    "peer-auth" peer_auth: String = String::new(), LiveSecret;
    /// A second secret that is accepted beside `peer-auth`, while it is being changed; empty: none.
    "peer-auth-also" peer_auth_also: String = String::new(), LiveSecret;

    /// `host port` of the master, outside cluster mode.
    "slaveof" slaveof: Master = Master(None), Restart;
    /// Refuse writes of clients on a replica.
    "slave-read-only" slave_read_only: bool = true, Live;
    /// Serve reads while the link to the master is down.
    "slave-serve-stale-data" slave_serve_stale_data: bool = true, Live;
    /// Reported only.
    "slave-priority" slave_priority: u32 = 100, [0, MAX], Live;
    /// Accepted for Kvrocks' files, without effect: old data is kept until a full sync is complete.
    "slave-empty-db-before-fullsync" slave_empty_db_before_fullsync: bool = false, Live;
    /// Address a replica announces to its master.
    "replica-announce-ip" replica_announce_ip: String = String::new(), Live;
    /// Port a replica announces to its master; 0: its own.
    "replica-announce-port" replica_announce_port: u16 = 0, Live;
    /// Full-sync speed limit in MB/s; 0: none.
    "max-replication-mb" max_replication_mb: u32 = 0, [0, MAX], Live;
    /// Longest wait for a connection to the master.
    "replication-connect-timeout-ms" replication_connect_timeout_ms: u32 = 3_100, [1, MAX], Live;
    /// Longest silence of a master.
    "replication-recv-timeout-ms" replication_recv_timeout_ms: u32 = 3_200, [1, MAX], Live;
    /// Longest time a replica may leave the stream unread, or its pings unanswered; Kvrocks'
    /// replicas answer none.
    "replication-send-timeout-ms" replication_send_timeout_ms: u32 = 30_000, [1, MAX], Live;
    /// Taken for Kvrocks' files and told to be ignored; `durable-ack` stands in for it.
    "replication-group-sync" replication_group_sync: bool = false, Live;
    /// Idle time after which a master pings its replicas, in milliseconds; those that may lend it a
    /// lease at least every tenth of that.
    "replication-ping-ms" replication_ping_ms: u32 = 200, [10, 60_000], Live;

    /// How CLUSTERX MIGRATE sends keys: raw-key-value, or redis-command for targets that take no
    /// batches.
    "migrate-type" migrate_type: MigrateType = MigrateType::RawKeyValue, Live;
    /// Commands a second that a migration sends as redis-command; 0: no limit. This and the next
    /// two: of migrations that begin.
    "migrate-speed" migrate_speed: u32 = 4_096, [0, MAX], Live;
    /// Commands that such a migration sends before it waits for the replies.
    "migrate-pipeline-size" migrate_pipeline_size: u32 = 16, [1, MAX], Live;
    /// Records of the log that may be left to send when writes of the slots are stopped.
    "migrate-sequence-gap" migrate_sequence_gap: u32 = 10_000, [1, MAX], Live;
    /// KiB of a batch that a migration sends as raw-key-value.
    "migrate-batch-size-kb" migrate_batch_size_kb: u32 = 16, [1, MAX], Live;
    /// MiB a second that a migration sends as raw-key-value; 0: no limit.
    "migrate-batch-rate-limit-mb" migrate_batch_rate_limit_mb: u32 = 16, [0, MAX], Live;

    /// Rate of a slot move's copy from here, or to here, where the move names none: MB (a million
    /// bytes) a second.
    "move-rate-mb" move_rate_mb: u32 = 64, [1, 10_000], Live;
    /// Milliseconds that 99 of 100 commands may take while slots are copied from here or to here;
    /// above, the copy slows down. 0: so that they take less than twice what they took before.
    "move-p99-ms" move_p99_ms: u32 = 0, [0, 60_000], Live;

    /// Commands slower than that many microseconds are kept in SLOWLOG; -1: none.
    "slowlog-log-slower-than" slowlog_log_slower_than: i64 = 200_000, [-1, MAX], Live;
    /// Entries SLOWLOG keeps.
    "slowlog-max-len" slowlog_max_len: u32 = 128, [0, MAX], Live;
    /// With which level entries of SLOWLOG go to the log too: off, debug, info, warning.
    "slowlog-dump-logfile-level" slowlog_dump_logfile_level: DumpLevel = DumpLevel::Off, Live;
    /// Percentage of the commands of profiling-sample-commands of which RocksDB's counters and
    /// times are taken, for PERFLOG; 0: none. A write that is sampled is written alone, not
    /// together with the rest of its pipeline, so that what is counted is its own.
    "profiling-sample-ratio" profiling_sample_ratio: u32 = 0, [0, 100], Live;
    /// Which commands are sampled: names separated by commas, or * for all.
    "profiling-sample-commands" profiling_sample_commands: Sampled = Sampled::default(), Live;
    /// Samples of commands that took less than that many milliseconds are not kept.
    "profiling-sample-record-threshold-ms" profiling_sample_record_threshold_ms: u32 = 100, [0, MAX], Live;
    /// Samples PERFLOG keeps.
    "profiling-sample-record-max-len" profiling_sample_record_max_len: u32 = 256, [0, MAX], Live;
    /// What takes that many milliseconds is noted for LATENCY; 0: nothing.
    "latency-monitor-threshold" latency_monitor_threshold: u32 = 0, [0, MAX], Live;
    /// A command that a script holds up for that many milliseconds is answered with BUSY, and the
    /// script may be ended by SCRIPT KILL or FUNCTION KILL; 0: never BUSY.
    "lua-time-limit" lua_time_limit: u32 = 5_000, [0, MAX], Live;
    /// A script that has run for that many milliseconds is ended, and what it has written is
    /// dropped; 0: no limit.
    "script-time-max-ms" script_time_max_ms: u32 = 0, [0, MAX], Live;
    /// Most memory one script may use, and most bytes of its reply; new limits hold for threads
    /// that run their first script.
    "script-memory-max" script_memory_max: Size = Size(256 << 20), [1 << 20, 1_i64 << 40], Restart;
    /// Scripts may touch only keys that they are called with.
    "lua-strict-key-accessing" lua_strict_key_accessing: bool = false, Live;
    /// Numeric SCAN cursors; no: `_<last key>`.
    "redis-cursor-compatible" redis_cursor_compatible: bool = true, Live;
    /// Refuse writes above that many GiB on disk; 0: no limit.
    "max-db-size" max_db_size: u32 = 0, [0, MAX], Live;
    /// RocksDB flush and compaction limit in MiB/s; 0: none.
    "max-io-mb" max_io_mb: u32 = 0, [0, MAX], Restart;

    /// Block compression: no, snappy, zlib, lz4, zstd.
    "rocksdb.compression" rocksdb_compression: Compression = Compression::No, Restart;
    /// Level of the compression, as its algorithm counts; 32767: the algorithm's own default.
    "rocksdb.compression_level" rocksdb_compression_level: i32 = 32_767, [i32::MIN, i32::MAX], Restart;
    /// First level of tables that is compressed.
    "rocksdb.compression_start_level" rocksdb_compression_start_level: u32 = 2, [0, 6], Restart;
    /// Bytes of a block.
    "rocksdb.block_size" rocksdb_block_size: u32 = 16_384, [0, MAX], Restart;
    /// Files kept open; -1: all.
    "rocksdb.max_open_files" rocksdb_max_open_files: i32 = 8_096, [-1, MAX], Restart;
    /// MiB of a memtable; if not set, 1/64 of the memory, at least 4 and at most 64.
    "rocksdb.write_buffer_size" rocksdb_write_buffer_size: u32 = machine::share_mib(64, (4, 64)), [1, 4_096], Restart;
    /// Memtables per family.
    "rocksdb.max_write_buffer_number" rocksdb_max_write_buffer_number: u32 = 4, [1, 256], Restart;
    /// Memtables merged per flush.
    "rocksdb.min_write_buffer_number_to_merge" rocksdb_min_write_buffer_number_to_merge: u32 = 2, [1, 256], Restart;
    /// MiB of a table file.
    "rocksdb.target_file_size_base" rocksdb_target_file_size_base: u32 = 128, [1, 1_024], Restart;
    /// Background threads.
    "rocksdb.max_background_jobs" rocksdb_max_background_jobs: u32 = 4, [1, 32], Restart;
    /// Threads of one compaction.
    "rocksdb.max_subcompactions" rocksdb_max_subcompactions: u32 = 2, [0, 16], Restart;
    /// Bytes of one compaction, at most; 0: as RocksDB chooses.
    "rocksdb.max_compaction_bytes" rocksdb_max_compaction_bytes: i64 = 0, [0, i64::MAX], Restart;
    /// Bytes that compactions read ahead.
    "rocksdb.compaction_readahead_size" rocksdb_compaction_readahead_size: u32 = 2 << 20, [0, 64 << 20], Restart;
    /// Table files older than that many seconds are compacted; 0: not; if not set, as RocksDB
    /// chooses. So with the next.
    "rocksdb.periodic_compaction_seconds" rocksdb_periodic_compaction_seconds: u64 = storage::LEFT_TO_ROCKSDB, Restart;
    /// Table files whose data is older than that many seconds are compacted down.
    "rocksdb.ttl" rocksdb_ttl: u64 = storage::LEFT_TO_ROCKSDB, Restart;
    /// `max-io-mb` is what flush and compaction may take at most; they are given less while they
    /// need less.
    "rocksdb.rate_limiter_auto_tuned" rocksdb_rate_limiter_auto_tuned: bool = true, Restart;
    /// Table files that are no longer needed are removed in the background.
    "rocksdb.avoid_unnecessary_blocking_io" rocksdb_avoid_unnecessary_blocking_io: bool = true, Restart;
    /// Bytes a second of writes while RocksDB slows them down; 0: as RocksDB chooses.
    "rocksdb.delayed_write_rate" rocksdb_delayed_write_rate: i64 = 0, [0, i64::MAX], Restart;
    /// Seconds between two dumps of RocksDB's statistics into its own log; 0: none.
    "rocksdb.stats_dump_period_sec" rocksdb_stats_dump_period_sec: u32 = 0, [0, MAX], Restart;
    /// Statistics of the allocator are dumped with those of RocksDB.
    "rocksdb.dump_malloc_stats" rocksdb_dump_malloc_stats: bool = true, Restart;
    /// Index and filter blocks are kept in the block cache, and count there.
    "rocksdb.cache_index_and_filter_blocks" rocksdb_cache_index_and_filter_blocks: bool = true, Restart;
    /// Filters are read in parts.
    "rocksdb.partition_filters" rocksdb_partition_filters: bool = true, Restart;
    /// Which block cache: lru, hcc.
    "rocksdb.block_cache_type" rocksdb_block_cache_type: CacheType = CacheType::Lru, Restart;
    /// MiB of one cache for all families; 0: the two below.
    "rocksdb.block_cache_size" rocksdb_block_cache_size: u32 = 0, [0, MAX], Restart;
    /// MiB of cache for sub-keys; if not set, 1/8 of the memory, at most 2048.
    "rocksdb.subkey_block_cache_size" rocksdb_subkey_block_cache_size: u32 = machine::share_mib(8, (8, 2_048)), [0, MAX], Restart;
    /// MiB of cache for metadata; if not set, 1/8 of the memory, at most 2048.
    "rocksdb.metadata_block_cache_size" rocksdb_metadata_block_cache_size: u32 = machine::share_mib(8, (8, 2_048)), [0, MAX], Restart;
    /// MiB of small values kept in memory in front of RocksDB, after they were read; 0: none. If
    /// not set, 1/32 of the memory, at most 256.
    "value-cache-size" value_cache_size: u32 = machine::share_mib(32, (8, 256)), [0, MAX], Restart;
    /// How long archived WAL is kept, in seconds.
    "rocksdb.wal_ttl_seconds" rocksdb_wal_ttl_seconds: u32 = 10_800, [0, MAX], Restart;
    /// How much archived WAL is kept, in MB.
    "rocksdb.wal_size_limit_mb" rocksdb_wal_size_limit_mb: u32 = 16_384, [0, MAX], Restart;
    /// MiB of live WAL above which memtables are flushed.
    "rocksdb.max_total_wal_size" rocksdb_max_total_wal_size: u32 = 512, [0, MAX], Restart;
    /// No automatic compaction.
    "rocksdb.disable_auto_compactions" rocksdb_disable_auto_compactions: bool = false, Restart;
    /// Table files in level 0 that start a compaction.
    "rocksdb.level0_file_num_compaction_trigger" rocksdb_level0_file_num_compaction_trigger: u32 = 4, [1, 1_024], Restart;
    /// Table files in level 0 that slow writes down.
    "rocksdb.level0_slowdown_writes_trigger" rocksdb_level0_slowdown_writes_trigger: u32 = 20, [1, 1_024], Restart;
    /// Table files in level 0 that stop writes.
    "rocksdb.level0_stop_writes_trigger" rocksdb_level0_stop_writes_trigger: u32 = 40, [1, 1_024], Restart;
    /// MiB of level 1.
    "rocksdb.max_bytes_for_level_base" rocksdb_max_bytes_for_level_base: Size = Size(268_435_456), Restart;
    /// How many times the size of the level above each further level has.
    "rocksdb.max_bytes_for_level_multiplier" rocksdb_max_bytes_for_level_multiplier: u32 = 10, [1, 100], Restart;
    /// Sizes of levels are chosen from the last one upwards.
    "rocksdb.level_compaction_dynamic_level_bytes" rocksdb_level_compaction_dynamic_level_bytes: bool = true, Restart;
    /// Large values lie in files of their own.
    "rocksdb.enable_blob_files" rocksdb_enable_blob_files: bool = false, Restart;
    /// Bytes from which on a value is large and lies in such a file.
    "rocksdb.min_blob_size" rocksdb_min_blob_size: u32 = 4_096, [0, MAX], Restart;
    /// Bytes of a file of large values.
    "rocksdb.blob_file_size" rocksdb_blob_file_size: u32 = 256 << 20, [0, MAX], Restart;
    /// Compactions write anew what is left of old files of large values.
    "rocksdb.enable_blob_garbage_collection" rocksdb_enable_blob_garbage_collection: bool = true, Restart;
    /// Percentage of the files of large values, the oldest, that are old in this sense.
    "rocksdb.blob_garbage_collection_age_cutoff" rocksdb_blob_garbage_collection_age_cutoff: u32 = 25, [0, 100], Restart;
    /// fsync the WAL before every reply.
    "rocksdb.write_options.sync" rocksdb_write_options_sync: bool = false, Restart;
    /// Largest batch of a command or a MULTI, in bytes; 0: the 2 GiB that replicas take.
    "rocksdb.write_options.write_batch_max_bytes" rocksdb_write_batch_max_bytes: u32 = 0, [0, MAX], Live;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_and_read_back() {
        let mut values = Values::default();
        assert_eq!(values.set("PORT", "7000"), Ok(()));
        assert_eq!(values.get("port").as_deref(), Some("7000"));
        assert_eq!(
            values.set("workers", "1000"),
            Err(SetError::Value("argument must be between 1 and 256".into()))
        );
        assert_eq!(values.set("nonsense", "1"), Err(SetError::Unknown));
        let modes = "invalid enum option, acceptable values are 'disabled', 'log-only', 'block-write', 'block-all'";
        assert_eq!(values.set("master-lease-mode", "x"), Err(SetError::Value(modes.into())));
        assert_eq!(values.set("proto-max-bulk-len", "16m"), Ok(()));
        assert_eq!(values.proto_max_bulk_len, Size(16 << 20));
    }

    #[test]
    fn every_default_is_accepted_by_its_own_parser() {
        let defaults = Values::default();
        let mut values = Values::default();
        for option in OPTIONS {
            let text = defaults.get(option.name).unwrap();
            assert_eq!(values.set(option.name, &text), Ok(()), "{}", option.name);
        }
        assert_eq!(values, defaults);
    }
}
