//! What a start takes and refuses, with the place that it names.

use super::*;
use crate::config::value::Value as _;

fn arguments(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn a_bad_value_names_file_line_option_and_what_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.conf");
    std::fs::write(&path, "# c\nworkers 4\nport seven\n").unwrap();
    let error = load(&arguments(&["-c", path.to_str().unwrap()])).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "node.conf, line 3: option `port`: argument must be an integer between 0 and 65535"
        ),
        "{error}"
    );
}

#[test]
fn the_command_line_wins_and_names_of_kvrocks_only_warn() {
    let text = "port 1000\nsupervised no\nReplicaOf\tnode7\t\t7001\n";
    let loaded = loaded(text, &["--port", "2000"]).unwrap();
    assert_eq!((loaded.values.port, loaded.warnings.len()), (2000, 1));
    assert!(loaded.warnings[0].contains("line 2: option `supervised` is ignored: Kvrocks has it"));
    assert_eq!(loaded.values.slaveof.render(), "node7 7001");
}

#[test]
fn an_option_that_stands_there_twice_is_told_and_the_last_one_counts() {
    let twice = loaded("port 1000\n# other\nPORT 2000\n", &[]).unwrap();
    assert_eq!(twice.values.port, 2000);
    let [told] = twice.warnings.as_slice() else { panic!("{:?}", twice.warnings) };
    assert!(told.contains("line 3: option `PORT` stands in "), "{told}");
    assert!(told.ends_with("line 1 too: the last one counts"), "{told}");
    // Each of these says something of its own; and a command line is there to win.
    let limits =
        "client-output-buffer-limit normal 0 0 0\nclient-output-buffer-limit pubsub 1 1 1\n";
    let more = format!("{limits}rename-command KEYS \"\"\nrename-command SORT \"\"\nport 1\n");
    assert_eq!(loaded(&more, &["--port", "2"]).unwrap().warnings, [""; 0]);
}

#[test]
fn a_byte_order_mark_is_not_part_of_the_first_name() {
    assert_eq!(loaded("\u{feff}port 1000\n", &[]).unwrap().values.port, 1000);
}

fn loaded(text: &str, more: &[&str]) -> Result<Loaded, String> {
    crate::shell::table();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.conf");
    std::fs::write(&path, text).unwrap();
    let mut all = vec!["-c", path.to_str().unwrap()];
    all.extend(more);
    match load(&arguments(&all)) {
        Ok(Request::Start(loaded)) => Ok(*loaded),
        Ok(Request::Print(text)) => panic!("printed {text}"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn what_cannot_take_effect_stops_the_start_and_names_file_and_line() {
    for (line, why) in [
        ("requirepas secret", "unknown option `requirepas`, is `requirepass` meant?"),
        ("namespace.__namespace t", "the default namespace has no token"),
        ("namespace.a", "a token are needed"),
        ("rename-command", "option `rename-command`: a command and its new name are needed"),
        ("rename-command KEYS", "a command and its new name are needed"),
        ("rename-command KEYS a b", "a command and its new name are needed"),
        ("rename-command KEYZ x", "there is no command `keyz`"),
        ("rename-command KEYS get", "`get` is already the name of a command"),
        ("rename-command KEYS \"x", "a quote is not closed"),
        ("slaveof 10.0.0.1", "option `slaveof`: a host and a port are needed"),
        ("slaveof 10.0.0.1:6666", "option `slaveof`: a host and a port are needed"),
        ("slaveof 10.0.0.1 0", "option `slaveof`: `0` is no port: 1 to 65535"),
        ("slaveof 10.0.0.1 x", "option `slaveof`: `x` is no port: 1 to 65535"),
        ("port 70000", "option `port`"),
        ("bind 127.0.0.1 nonsense", "option `bind`: `nonsense` is no IP address"),
        ("bind example.org", "option `bind`: `example.org` is no IP address"),
        ("admin-bind ::1 ::2", "option `admin-bind`: `::1 ::2` is no IP address"),
        (&format!("unixsocket /{}", "x".repeat(107)), "option `unixsocket`: a path of at most 107"),
        ("json-max-nesting-depth 1025", "argument must be between 0 and 1024"),
        ("\u{feff}port 7000", "unknown option"),
        ("requirepass", "option `requirepass`: a value is needed, `requirepass \"\"` for none"),
        ("RequirePass   # the password", "a value is needed"),
        ("requirepass #secret", "one that begins with # goes in quotes"),
        ("peer-auth\t", "option `peer-auth`: a value is needed"),
        ("aclfile", "option `aclfile`: a value is needed"),
    ] {
        let error = loaded(&format!("# first\n{line}\n"), &[]).unwrap_err();
        assert!(error.contains("node.conf, line 2: ") && error.contains(why), "{line}: {error}");
    }
}

#[test]
fn no_password_is_said_by_quotes_and_one_with_a_hash_goes_in_quotes() {
    for none in ["requirepass \"\"", "requirepass '' # nobody else is here", "masterauth"] {
        let loaded = loaded(none, &[]).unwrap();
        assert_eq!((loaded.values.requirepass.as_str(), loaded.warnings.len()), ("", 0), "{none}");
    }
    assert_eq!(loaded("requirepass '#secret'", &[]).unwrap().values.requirepass, "#secret");
    let cut = loaded("# mine\nrequirepass s3#cret\n", &[]).unwrap();
    let [told] = cut.warnings.as_slice() else { panic!("{:?}", cut.warnings) };
    assert!(told.contains("line 2: option `requirepass` ends before the #"), "{told}");
    assert!(!told.contains("cret"), "{told}");
    for whole in ["requirepass 's3#cret'", "requirepass s3 #cret", "db-name a#b"] {
        assert_eq!(loaded(whole, &[]).unwrap().warnings, [""; 0], "{whole}");
    }
}

/// Each name that a release of Kvrocks has had for an option, and those of branches that are
/// not released.
const KVROCKS: &str = "auto-resize-block-and-sst backup-dir bgsave-cron bind cloud-storage-access-key \
    cloud-storage-bucket cloud-storage-endpoint cloud-storage-secret-key cloud-storage-type \
    cluster-enabled codis-enabled compact-cron compaction-checker-cron \
    compaction-checker-range daemonize db-name dbsize-scan-cron dir enable-blob-cache \
    force-compact-file-age force-compact-file-min-deleted-percentage \
    fullsync-recv-file-delay hash-encoding-mode hash-length-mode json-max-nesting-depth \
    json-storage-format log-dir log-level log-retention-days master-use-repl-port masterauth \
    max-backup-keep-hours max-backup-to-keep max-bitmap-to-string-mb max-db-size max-io-mb \
    max-replication-mb maxclients migrate-batch-rate-limit-mb migrate-batch-size-kb \
    migrate-pipeline-size migrate-sequence-gap migrate-speed migrate-type \
    persist-cluster-nodes-enabled pidfile port profiling-sample-commands \
    profiling-sample-ratio profiling-sample-record-max-len \
    profiling-sample-record-threshold-ms proto-max-bulk-len purge-backup-on-fullsync \
    redis-cursor-compatible rename-command repl-bind repl-namespace-enabled repl-workers \
    replica-announce-ip replica-announce-port requirepass resp3-enabled \
    rocksdb.avoid_unnecessary_blocking_io rocksdb.blob_file_size \
    rocksdb.blob_garbage_collection_age_cutoff rocksdb.block_cache_size \
    rocksdb.block_cache_type rocksdb.block_size rocksdb.cache_index_and_filter_blocks \
    rocksdb.compaction_readahead_size rocksdb.compression rocksdb.compression_level \
    rocksdb.compression_start_level rocksdb.delayed_write_rate \
    rocksdb.disable_auto_compactions rocksdb.enable_blob_files \
    rocksdb.enable_blob_garbage_collection rocksdb.enable_pipelined_write \
    rocksdb.level0_file_num_compaction_trigger rocksdb.level0_slowdown_writes_trigger \
    rocksdb.level0_stop_writes_trigger rocksdb.level_compaction_dynamic_level_bytes \
    rocksdb.max_background_compactions rocksdb.max_background_flushes \
    rocksdb.max_background_jobs rocksdb.max_bytes_for_level_base \
    rocksdb.max_bytes_for_level_multiplier rocksdb.max_open_files \
    rocksdb.max_sub_compactions rocksdb.max_subcompactions rocksdb.max_total_wal_size \
    rocksdb.max_write_buffer_number rocksdb.metadata_block_cache_size rocksdb.min_blob_size \
    rocksdb.rate_limiter_auto_tuned rocksdb.read_options.async_io rocksdb.row_cache_size \
    rocksdb.share_metadata_and_subkey_block_cache rocksdb.stats_dump_period_sec \
    rocksdb.subkey_block_cache_size rocksdb.target_file_size_base rocksdb.wal_compression \
    rocksdb.wal_size_limit_mb rocksdb.wal_ttl_seconds rocksdb.write_buffer_size \
    rocksdb.write_options.disable_wal rocksdb.write_options.low_pri \
    rocksdb.write_options.memtable_insert_hint_per_batch rocksdb.write_options.no_slowdown \
    rocksdb.write_options.sync rocksdb.write_options.write_batch_max_bytes \
    slave-empty-db-before-fullsync slave-priority slave-read-only slave-serve-stale-data \
    slaveof slowlog-log-slower-than slowlog-max-len socket-fd supervised tcp-backlog timeout \
    tls-auth-clients tls-ca-cert-dir tls-ca-cert-file tls-cert-file tls-ciphers \
    tls-ciphersuites tls-key-file tls-key-file-pass tls-port tls-prefer-server-ciphers \
    tls-protocols tls-replication tls-session-cache-size tls-session-cache-timeout \
    tls-session-caching txn-context-enabled unixsocket unixsocketperm use-rsid-psync workers";

#[test]
fn no_name_of_kvrocks_stops_the_start() {
    for name in KVROCKS.split_whitespace() {
        assert!(is_known(name), "{name}");
        // It is served, or told to be ignored, and not both.
        let is_served = name == RENAME || crate::config::options::find(alias(name)).is_some();
        assert_ne!(is_served, kvrocks::ignored(name).is_some(), "{name}");
    }
    let told = loaded("use-rsid-psync yes\n", &[]).unwrap().warnings;
    assert!(told[0].contains("line 1: option `use-rsid-psync` is ignored"), "{told:?}");
}

#[test]
fn what_cannot_be_together_names_file_and_line() {
    for (line, why) in [
        ("bind", "option `bind`: at least one address is needed"),
        ("client-access balancer-only", "option `client-access`: balancer-only needs"),
        ("maxmemory 255mb", "option `maxmemory`: at least 256mb are needed"),
        (
            "compaction-checker-range 0-7\ncompaction-checker-cron * * * * *",
            "option `compaction-checker-range`: compaction-checker-cron says when",
        ),
        ("requirepass-also x", "option `requirepass-also`: without requirepass"),
        ("peer-auth-also x", "option `peer-auth-also`: it is a second secret"),
        ("namespace.a t", "option `namespace.a`: namespaces need requirepass"),
        ("redis-databases 4\ncluster-enabled yes", "option `redis-databases`: a cluster has"),
        ("replicaof 10.0.0.1 7\ncluster-enabled yes", "option `slaveof`: in cluster mode"),
        ("user u on\naclfile users", "option `user`: users stand in this file or"),
    ] {
        let error = loaded(&format!("# first\n{line}\n"), &[]).unwrap_err();
        let place = format!("node.conf, line 2: {why}");
        assert!(error.contains(&place), "{line}: {error}");
    }
    let error = load(&arguments(&["--peer-auth-also", "x"])).unwrap_err();
    assert!(error.is_usage() && error.to_string().starts_with("command line: "), "{error}");
}

#[test]
fn more_memory_than_there_is_is_told() {
    let told = |line: &str| loaded(line, &[]).unwrap().warnings;
    let warnings = told("# first\nmaxmemory 1p\n");
    assert!(warnings[0].contains("line 2: option `maxmemory` allows more than"), "{warnings:?}");
    assert!(told("maxmemory 256mb\n").is_empty() && told("maxmemory 0\n").is_empty());
}

#[test]
fn an_option_that_says_nothing_without_another_is_told() {
    for (line, needed) in [
        ("unixsocketperm 700", "unixsocket x"),
        ("admin-bind 10.0.0.1", "admin-port 7"),
        ("admin-allowed-hosts node1", "admin-port 7"),
        ("tls-admin yes", "admin-port 7"),
        ("tls-admin-auth-clients optional", "tls-admin yes\nadmin-port 7"),
        ("tls-ca-cert-file ca.pem", "tls-cert-file x"),
        ("tls-auth-clients-user CN", "tls-cert-file x"),
    ] {
        let told = loaded(line, &[]).unwrap().warnings;
        let (option, needed_option) =
            (line.split(' ').next().unwrap(), needed.split(' ').next().unwrap());
        let text = format!("line 1: option `{option}` has no effect without `{needed_option}`");
        assert!(told.len() == 1 && told[0].ends_with(&text), "{line}: {told:?}");
        let both = loaded(&format!("{line}\n{needed}\n"), &[]).unwrap();
        assert_eq!(both.warnings, [""; 0], "{line}");
    }
    let told_of = "tls-auth-clients-user CN\nbalancer-sources 10.0.0.1/32\n";
    assert_eq!(loaded(told_of, &[]).unwrap().warnings, [""; 0]);
}

#[test]
fn namespaces_need_a_password_and_no_cluster() {
    let text = "namespace.a t1\nnamespace.b \"t 2\"\nnamespace.a t3\n";
    let why = loaded(text, &[]).unwrap_err();
    assert!(why.contains("namespaces need requirepass"), "{why}");
    let why = loaded(text, &["--requirepass", "s", "--cluster-enabled", "yes"]).unwrap_err();
    assert!(why.contains("a cluster has no namespaces"), "{why}");
    let tokens = loaded(text, &["--requirepass", "s"]).unwrap().values.namespaces;
    let shown: Vec<_> = tokens.iter().map(|(t, n)| format!("{t}={n}")).collect();
    assert_eq!(shown, ["t 2=b", "t3=a"]);
    let why = loaded("namespace.a t\nnamespace.b t\n", &[]).unwrap_err();
    assert!(why.contains("`a` has the same token"), "{why}");
    let why = loaded(text, &["--requirepass", "t3"]).unwrap_err();
    assert!(why.contains("`requirepass`") && why.contains("the token of a namespace"), "{why}");
}

#[test]
fn blanks_are_blanks_and_quotes_are_quotes_in_a_renaming() {
    for line in [
        "rename-command\tconfig\tx",
        "rename-command   CONFIG \t  X  # why",
        "\tRENAME-command \"config\" 'x'",
    ] {
        let renames = loaded(line, &[]).unwrap().values.renames;
        let name = |name: &str| renames.find(name.as_bytes()).map(|(_, command)| command.name);
        assert_eq!((name("config"), name("x")), (None, Some("config")), "{line:?}");
    }
    let renames = loaded("rename-command\tKEYS\t\"\"\n", &[]).unwrap().values.renames;
    assert!(renames.find(b"keys").is_none() && renames.find(b"").is_none());
    let both = loaded("rename-command GET tmp", &["--rename-command", "tmp x"]).unwrap();
    assert!(both.values.renames.find(b"x").is_some());
}

#[test]
fn a_renaming_that_others_would_miss_is_told() {
    let told = |line: &str| loaded(line, &[]).unwrap().warnings;
    assert!(told("rename-command clusterx \"\"")[0].contains("use it by its own name"));
    assert!(told("rename-command ft.create x")[0].contains("this build does not serve it"));
    assert_eq!(told("rename-command keys \"\""), [""; 0]);
}

#[test]
fn the_command_line_takes_only_what_it_knows() {
    for (list, is_usage) in [
        (&["--bogus", "1"][..], true),
        (&["--bogus=1"], true),
        (&["--port"], true),
        (&["stray"], true),
        (&["--port", "x"], true),
        (&["-c", "/nowhere/node.conf"], false),
    ] {
        assert_eq!(load(&arguments(list)).unwrap_err().is_usage(), is_usage, "{list:?}");
    }
}

#[test]
fn a_check_says_what_is_odd_and_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.conf");
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load(&arguments(&["--check", "-c", path.to_str().unwrap()]))
    };
    let Ok(Request::Print(said)) = check("supervised x\n") else { panic!("expected a word") };
    assert!(said.starts_with("warning: ") && said.ends_with("node.conf: ok"), "{said}");
    assert!(check("port x\n").is_err());
    let users = |text: &str| {
        std::fs::write(folder.path().join("users"), text).unwrap();
        check(&format!("dir {}\naclfile users\n", folder.path().display()))
    };
    let refused = |checked: Result<Request, LoadError>| checked.unwrap_err().to_string();
    let why = refused(check("dir /nowhere\naclfile users\n"));
    assert!(why.contains("line 2: option `aclfile`: read /nowhere/users: "), "{why}");
    let why = refused(users("user u on\nuser v nonsense\n"));
    assert!(why.contains("line 2: option `aclfile`: ") && why.contains(": line 2: "), "{why}");
    assert!(users("user u on\n").is_ok());
    let why = refused(check("# first\ntls-cert-file /nowhere/cert\n"));
    assert!(why.contains("option `tls-key-file`: "), "{why}");
    let why = refused(check("# first\ntls-port 7001\n"));
    assert!(why.contains("line 2: option `tls-port`: a certificate is needed"), "{why}");
}

#[test]
fn every_argument_that_the_help_names_is_understood() {
    let Request::Print(help) = load(&arguments(&["--help"])).unwrap() else { panic!() };
    let whole = "Their clients count as direct";
    assert!(!help.contains(whole) && help.contains("beside the port; empty: none. []"), "{help}");
    for flag in FLAGS {
        let long = format!("--{}", flag.long);
        let short = flag.short.map(|letter| format!("-{letter}"));
        for name in [Some(long), short].into_iter().flatten() {
            assert!(help.contains(&name), "{name}");
            match load(&arguments(&[&name])) {
                Ok(_) => assert_eq!(flag.value, None, "{name}"),
                Err(error) => {
                    assert!(flag.value.is_some(), "{name}: {error}");
                    assert!(error.to_string().contains("needs a value"), "{name}: {error}");
                }
            }
        }
    }
}

#[test]
fn balancer_only_without_balancers_is_refused() {
    assert!(load(&arguments(&["--client-access", "balancer-only"])).is_err());
}
