//! What a data node tells. Names are `holdfast_node_<area>_<noun>_<unit>[_total]`. Labels are
//! bounded: commands, column families, replicas; never a key or a client.

use crate::rows;

rows! {
    BUILD_INFO Gauge "holdfast_node_build_info" ["version"] "Version of this build; always 1.";
    READY Gauge "holdfast_node_ready" "1 while `/healthz` answers 200: the node takes writes.";
    PROCESS_UPTIME_SECONDS Gauge "holdfast_node_process_uptime_seconds" "Age of the process.";
    PROCESS_CPU_SECONDS Counter "holdfast_node_process_cpu_seconds_total" ["mode"] "CPU used.";
    PROCESS_RESIDENT_BYTES Gauge "holdfast_node_process_resident_bytes" "Physical memory of the process.";
    HEAP_ALLOCATED_BYTES Gauge "holdfast_node_heap_allocated_bytes" "Memory handed out by the allocator.";
    HEAP_RESIDENT_BYTES Gauge "holdfast_node_heap_resident_bytes" "Physical memory of the allocator.";
    MEMORY_MAX_BYTES Gauge "holdfast_node_memory_max_bytes" "What `maxmemory` allows; 0: no bound.";
    MEMORY_LIMIT_BYTES Gauge "holdfast_node_memory_limit_bytes" ["part"] "What a part may take; 0: no bound.";
    MEMORY_USED_BYTES Gauge "holdfast_node_memory_used_bytes" ["part"] "What a part takes.";
    MEMORY_REFUSED Counter "holdfast_node_memory_refused_total" "Writes refused because of `maxmemory`.";
    DISK_CAPACITY_BYTES Gauge "holdfast_node_disk_capacity_bytes" "Size of the file system of the data.";
    DISK_USED_BYTES Gauge "holdfast_node_disk_used_bytes" "Used part of it, by anybody.";

    CLIENTS_CONNECTIONS Gauge "holdfast_node_clients_connections" "Open connections.";
    CLIENTS_PAUSED Gauge "holdfast_node_clients_paused" "1 while CLIENT PAUSE is in force.";
    CLIENTS_ACCEPTED Counter "holdfast_node_clients_accepted_total" "Connections accepted.";
    CLIENTS_REJECTED Counter "holdfast_node_clients_rejected_total" "Connections refused because of maxclients.";
    CLIENTS_EVICTED Counter "holdfast_node_clients_evicted_total" "Connections closed because of `maxmemory`.";
    LONG_READS Counter "holdfast_node_long_reads_total" "Reads that took too many steps for their worker.";
    CLIENTS_MOVED_IN Counter "holdfast_node_clients_moved_in_total"
        "Sessions that a balancer moved here from another node.";
    CLIENTS_PROXY_REFUSED Counter "holdfast_node_clients_proxy_refused_total" ["reason"]
        "Connections ended because of a PROXY header: from an unlisted balancer, none from a listed one, a second one.";
    CLIENTS_RECEIVED_BYTES Counter "holdfast_node_clients_received_bytes_total" "Bytes read from clients.";
    CLIENTS_SENT_BYTES Counter "holdfast_node_clients_sent_bytes_total" "Bytes written to clients.";
    KEYSPACE_HITS Counter "holdfast_node_keyspace_hits_total" "Reads that found their key.";
    KEYSPACE_MISSES Counter "holdfast_node_keyspace_misses_total" "Reads that did not find their key.";
    SLOWLOG_ENTRIES Gauge "holdfast_node_slowlog_entries" "Entries in SLOWLOG.";

    COMMAND_CALLS Counter "holdfast_node_command_calls_total" ["command"] "Commands run.";
    COMMAND_FAILED Counter "holdfast_node_command_failed_total" ["command"] "Commands that answered an error.";
    COMMAND_REJECTED Counter "holdfast_node_command_rejected_total" ["command"] "Commands refused before they ran.";
    COMMAND_SECONDS Counter "holdfast_node_command_seconds_total" ["command"] "Time commands took.";
    REPLY_SECONDS Histogram "holdfast_node_reply_seconds"
        "From the start of a client's command until its reply was sent, the wait for the in-sync set included.";

    LEASE_MODE Gauge "holdfast_node_lease_mode" ["mode"] "1 for the lease mode in force.";
    LEASE_REMAINING_SECONDS Gauge "holdfast_node_lease_remaining_seconds" "What is left of the lease.";
    LEASE_VALID Gauge "holdfast_node_lease_valid" "1 while there is a lease.";
    LEASE_TERM Gauge "holdfast_node_lease_term" "Highest term of a controller seen.";
    TOPOLOGY_VERSION Gauge "holdfast_node_topology_version" "Version of the topology; -1 without one.";

    REPLICATION_LINK_UP Gauge "holdfast_node_replication_link_up" "1 on a replica that follows its master.";
    REPLICATION_RESYNC_DUE Gauge "holdfast_node_replication_resync_due" "1 while a full sync must come first.";
    REPLICATION_SILENCE_SECONDS Gauge "holdfast_node_replication_silence_seconds" "Since the master was heard last.";
    REPLICATION_REPLICAS Gauge "holdfast_node_replication_replicas" "Replicas with a live stream.";
    REPLICATION_ACKED_SEQUENCE Gauge "holdfast_node_replication_acked_sequence" ["replica"]
        "Newest sequence a replica has acknowledged.";
    REPLICATION_SYNCS Counter "holdfast_node_replication_syncs_total" ["outcome"] "Requests of replicas, by outcome.";

    GATE_TAKEN Gauge "holdfast_node_gate_taken" "1 while the write gate could not be had.";
    EPOCH Gauge "holdfast_node_epoch" "Newest epoch in the database.";
    GRANTED_EPOCH Gauge "holdfast_node_granted_epoch" "Epoch this process holds a grant of; 0: none.";
    IN_SYNC_MODE Gauge "holdfast_node_in_sync_mode" "1 while replies wait for the in-sync set.";
    IN_SYNC_MEMBERS Gauge "holdfast_node_in_sync_members" "Members of the newest set asked for.";
    IN_SYNC_TOO_SMALL Gauge "holdfast_node_in_sync_too_small" "1 while writes are refused for want of members.";
    COMMITTED_SEQUENCE Gauge "holdfast_node_committed_sequence" "Newest sequence the whole set has.";
    UNACKNOWLEDGED_BYTES Gauge "holdfast_node_unacknowledged_bytes" "Bytes of writes the set has not acknowledged.";
    PROMISED_MS Gauge "holdfast_node_promised_ms" "For how long every grant is passed over.";
    ROLE_MASTER Gauge "holdfast_node_role_master" "1 on a master, 0 on a replica.";
    LOADING Gauge "holdfast_node_loading" "1 while the data is being replaced.";
    ROLE_CHANGES Counter "holdfast_node_role_changes_total" "Changes of role or database since the start.";

    STORAGE_LOG_WAIT_SECONDS Gauge "holdfast_node_storage_log_wait_seconds"
        "For how long the disk has taken nothing of the log that it was given; 0 while nothing waits.";
    STORAGE_STATS_AGE_SECONDS Gauge "holdfast_node_storage_stats_age_seconds"
        "Age of the numbers of the database below: its disk answers late.";
    STORAGE_SEQUENCE Gauge "holdfast_node_storage_sequence" "Newest sequence number.";
    STORAGE_PUBLISHED_SEQUENCE Gauge "holdfast_node_storage_published_sequence"
        "Sequence up to which the WAL was handed to the system.";
    STORAGE_DISK_BYTES Gauge "holdfast_node_storage_disk_bytes" "Bytes the database takes on disk.";
    STORAGE_WAL_BYTES Gauge "holdfast_node_storage_wal_bytes" "Bytes of the live WAL.";
    STORAGE_ARCHIVED_WAL_BYTES Gauge "holdfast_node_storage_archived_wal_bytes" "Bytes of WAL kept for replicas.";
    STORAGE_OLDEST_WAL_SEQUENCE Gauge "holdfast_node_storage_oldest_wal_sequence"
        "Oldest sequence a replica can continue from.";
    STORAGE_BLOCK_CACHE_BYTES Gauge "holdfast_node_storage_block_cache_bytes" "Bytes in the block cache.";
    STORAGE_BLOCK_CACHE_CAPACITY_BYTES Gauge "holdfast_node_storage_block_cache_capacity_bytes"
        "Size of the block cache.";
    STORAGE_RUNNING_COMPACTIONS Gauge "holdfast_node_storage_running_compactions" "Compactions at work.";
    STORAGE_RUNNING_FLUSHES Gauge "holdfast_node_storage_running_flushes" "Flushes at work.";
    STORAGE_BACKGROUND_ERRORS Counter "holdfast_node_storage_background_errors_total"
        "Failed flushes and compactions.";
    STORAGE_WRITE_STOPPED Gauge "holdfast_node_storage_write_stopped" "1 while the database takes no writes.";
    STORAGE_DELAYED_WRITE_BYTES_PER_SECOND Gauge "holdfast_node_storage_delayed_write_bytes_per_second"
        "Rate writes are slowed to; 0: they are not.";
    STORAGE_KEYS_ESTIMATE Gauge "holdfast_node_storage_keys_estimate" ["family"] "RocksDB's estimate of its keys.";
    STORAGE_MEMTABLE_BYTES Gauge "holdfast_node_storage_memtable_bytes" ["family"] "Bytes of memtables.";
    STORAGE_TABLE_BYTES Gauge "holdfast_node_storage_table_bytes" ["family"] "Bytes of table files.";
    STORAGE_BLOB_BYTES Gauge "holdfast_node_storage_blob_bytes" ["family"] "Bytes of blob files.";
    STORAGE_LEVEL0_FILES Gauge "holdfast_node_storage_level0_files" ["family"] "Table files in level 0.";
    STORAGE_PENDING_COMPACTION_BYTES Gauge "holdfast_node_storage_pending_compaction_bytes" ["family"]
        "Estimate of what compaction has to rewrite.";
    DISCARDED_FILES Gauge "holdfast_node_discarded_files" "Exports of discarded writes.";
    DISCARDED_BYTES Gauge "holdfast_node_discarded_bytes" "Bytes of these.";
    DEPOSED_BYTES Gauge "holdfast_node_deposed_bytes" "Bytes of a database that was set aside.";
}
