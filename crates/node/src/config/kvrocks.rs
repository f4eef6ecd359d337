//! Options of Kvrocks that this node does not have: its files may name them, and a warning says
//! that they change nothing.

/// Names, in the order of Kvrocks' sample file, with what stands in for them here; empty: nothing
/// does. Names of older releases, and of what is not merged there yet, stand at the end.
#[rustfmt::skip]
const OPTIONS: &[(&str, &str)] = &[
    ("daemonize",                                            "the process stays in the foreground; let a service manager start it"),
    ("supervised",                                           ""),
    ("socket-fd",                                            ""),
    ("tls-session-cache-timeout",                            "a session is remembered until there are too many"),
    ("master-use-repl-port",                                 "replicas connect to the master's own port"),
    ("dbsize-scan-cron",                                     "DBSIZE counts whenever it is asked"),
    ("use-rsid-psync",                                       "epochs tell histories apart"),
    ("auto-resize-block-and-sst",                            ""),
    ("fullsync-recv-file-delay",                             ""),
    ("txn-context-enabled",                                  ""),
    ("replication-no-slowdown",                              ""),
    ("replication-delay-bytes",                              ""),
    ("replication-delay-updates",                            ""),
    ("replication-enable-sequence-padding",                  ""),
    ("max-replication-lag",                                  "a replica that reads is never dropped for being behind"),
    ("histogram-bucket-boundaries",                          ""),
    ("skip-block-cache-deallocation-on-close",               ""),
    ("rocksdb.max_background_compactions",                   "rocksdb.max_background_jobs is for both"),
    ("rocksdb.max_background_flushes",                       "rocksdb.max_background_jobs is for both"),
    ("rocksdb.wal_compression",                              "what of the log fits into memory is told by its size"),
    ("rocksdb.enable_pipelined_write",                       "there is one writer at a time"),
    ("rocksdb.share_metadata_and_subkey_block_cache",        "one cache is shared"),
    ("rocksdb.row_cache_size",                               "value-cache-size is for what is read often, and Kvrocks has given it up"),
    ("rocksdb.write_options.disable_wal",                    "the WAL is what replicas are sent"),
    ("rocksdb.write_options.no_slowdown",                    ""),
    ("rocksdb.write_options.low_pri",                        ""),
    ("rocksdb.write_options.memtable_insert_hint_per_batch", "memtables are of another kind"),
    ("rocksdb.read_options.async_io",                        ""),
    ("rocksdb.sst_file_delete_rate_bytes_per_sec",           ""),
    ("rocksdb.daily_offpeak_time_utc",                       ""),
    ("rocksdb.max_sub_compactions",                          "the old name of rocksdb.max_subcompactions"),
    ("repl-bind",                                            "replicas come to the master's own port"),
    ("repl-workers",                                         "each replica has a thread of its own"),
    ("codis-enabled",                                        ""),
    ("enable-blob-cache",                                    ""),
    ("cloud-storage-type",                                   "backups are folders, see BGSAVE"),
    ("cloud-storage-bucket",                                 ""),
    ("cloud-storage-access-key",                             ""),
    ("cloud-storage-secret-key",                             ""),
    ("cloud-storage-endpoint",                               ""),
];

/// Taken, kept and shown, and without effect, with what stands in for them here.
const TAKEN: &[(&str, &str)] = &[
    ("replication-group-sync", "durable-ack is for masters and replicas alike"),
    ("slave-empty-db-before-fullsync", "the old data stays until the copy is whole"),
];

/// Commands of Kvrocks that this build does not serve: a file may rename them, or switch them off.
#[rustfmt::skip]
const COMMANDS: &[&str] = &[
    "acl", "applybatch", "bf.add", "bf.card", "bf.exists", "bf.info", "bf.insert", "bf.madd",
    "bf.mexists", "bf.reserve", "bitcount", "bitfield", "bitfield_ro", "bitop",
    "bitpos", "blmove", "blmpop", "blpop", "brpop", "bzmpop", "bzpopmax", "bzpopmin", "compact",
    "disk", "dump", "eval", "eval_ro", "evalsha", "evalsha_ro", "failover", "fcall", "fcall_ro",
    "ft._list", "ft.create", "ft.dropindex", "ft.explain", "ft.explainsql",
    "ft.info", "ft.search", "ft.searchsql", "ft.tagvals", "function", "geoadd", "geodist",
    "geohash", "geopos", "georadius", "georadius_ro", "georadiusbymember",
    "georadiusbymember_ro", "geosearch", "geosearchstore", "getbit", "hdel", "hexists",
    "hexpire", "hexpireat", "hexpiretime", "hget", "hgetall", "hincrby", "hincrbyfloat",
    "hkeys", "hlen", "hmget", "hmset", "hpersist", "hpexpire", "hpexpireat", "hpexpiretime",
    "hpttl", "hrandfield", "hrangebylex", "hscan", "hset", "hsetexpire", "hsetnx", "hstrlen",
    "httl", "hvals", "json.arrappend", "json.arrindex", "json.arrinsert", "json.arrlen",
    "json.arrpop", "json.arrtrim", "json.clear", "json.debug", "json.del", "json.forget",
    "json.get", "json.info", "json.merge", "json.mget", "json.mset", "json.numincrby",
    "json.nummultby", "json.objkeys", "json.objlen", "json.resp", "json.set", "json.strappend",
    "json.strlen", "json.toggle", "json.type", "kmetadata", "lindex", "linsert", "llen",
    "lmove", "lmpop", "lpop", "lpos", "lpush", "lpushx", "lrange", "lrem", "lset", "ltrim",
    "memory", "monitor", "move", "movex", "mpublish", "namespace", "object", "perflog", "pfadd",
    "pfcount", "pfmerge", "pollupdates", "psubscribe", "publish", "pubsub", "punsubscribe",
    "rdb", "restore", "rpop", "rpoplpush", "rpush", "rpushx", "sadd", "scard", "script",
    "sdiff", "sdiffstore", "setbit", "siadd", "sicard", "siexists", "sinter", "sintercard",
    "sinterstore", "sirange", "sirangebyvalue", "sirem", "sirevrange", "sirevrangebyvalue",
    "sismember", "smembers", "smismember", "smove", "sort", "sort_ro", "spop", "srandmember",
    "srem", "sscan", "ssubscribe", "stats", "subscribe", "sunion", "sunionstore",
    "sunsubscribe", "tdigest.add", "unsubscribe", "xack", "xadd", "xautoclaim", "xclaim",
    "xdel", "xgroup", "xinfo", "xlen", "xpending", "xrange", "xread", "xreadgroup", "xrevrange",
    "xsetid", "xtrim", "zadd", "zcard", "zcount", "zdiff", "zdiffstore", "zincrby", "zinter",
    "zintercard", "zinterstore", "zlexcount", "zmpop", "zmscore", "zpopmax", "zpopmin",
    "zrandmember", "zrange", "zrangebylex", "zrangebyscore", "zrangestore", "zrank", "zrem",
    "zremrangebylex", "zremrangebyrank", "zremrangebyscore", "zrevrange", "zrevrangebylex",
    "zrevrangebyscore", "zrevrank", "zscan", "zscore", "zunion", "zunionstore",
];

/// Why an option is ignored, if it is one of Kvrocks'.
pub(super) fn ignored(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let (_, instead) = OPTIONS.iter().find(|(option, _)| *option == lower)?;
    Some(if instead.is_empty() {
        "Kvrocks has it, and it has no effect here".into()
    } else {
        format!("Kvrocks has it, and it has no effect here: {instead}")
    })
}

/// Why an option is taken and has no effect, if it is such a one, and has a value that asks for
/// one.
pub(crate) fn without_effect(name: &str, value: &str) -> Option<String> {
    let (_, instead) = TAKEN.iter().find(|(option, _)| name.eq_ignore_ascii_case(option))?;
    let is_asked = value.eq_ignore_ascii_case("yes");
    is_asked.then(|| format!("Kvrocks has it, and it has no effect here: {instead}"))
}

/// Whether a command that is not served here is one of Kvrocks'.
pub(super) fn is_command(name: &str) -> bool {
    COMMANDS.iter().any(|command| name.eq_ignore_ascii_case(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kvrocks_are_known_in_any_case_and_no_others() {
        let timeout = ignored("TLS-Session-Cache-Timeout");
        assert!(timeout.is_some_and(|why| why.contains("until there are too many")));
        assert!(ignored("requirepas").is_none());
        assert!(is_command("BF.Add") && !is_command("gett"));
    }
}
