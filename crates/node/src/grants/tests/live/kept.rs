//! Live options of what is kept beside the data, and of what is logged.

use super::*;
use crate::shell::Shell;
use crate::shell::ear::Ear;

/// These do nothing, and who sets them is told.
pub(super) fn is_told_to_be_ignored(name: &str) -> bool {
    let mut shell = Shell::new();
    let heard = Ear::hear(|| {
        shell.run(&format!("CONFIG SET {name} yes"));
        shell.run(&format!("CONFIG SET {name} no"));
    });
    let told = heard.iter().filter(|line| line.starts_with("WARN") && line.contains(name));
    let told: Vec<_> = told.collect();
    told.len() == 1 && told[0].contains("it has no effect here")
}

pub(super) fn of_kept(name: &str) -> bool {
    match name {
        "slowlog-dump-logfile-level" => slow_commands_are_logged(name),
        "purge-backup-on-fullsync" => a_backup_makes_room(name),
        "log-retention-days" => old_logs_go(name),
        "bgsave-cron" | "max-backup-to-keep" | "max-backup-keep-hours" => a_backup_is_due(name),
        "compact-cron" => a_compaction_is_due(name),
        "compaction-checker-cron"
        | "compaction-checker-range"
        | "force-compact-file-age"
        | "force-compact-file-min-deleted-percentage" => worn_tables_are_compacted(name),
        "profiling-sample-ratio"
        | "profiling-sample-commands"
        | "profiling-sample-record-threshold-ms"
        | "profiling-sample-record-max-len" => commands_are_sampled(name),
        _ => return false,
    }
    true
}

/// With this option as the first value says none of three commands is kept, or one; then two are.
fn commands_are_sampled(name: &str) {
    let node = plain();
    let options = [
        ("profiling-sample-ratio", "0", "100"),
        ("profiling-sample-commands", "get", "get,set"),
        ("profiling-sample-record-threshold-ms", "1000000", "0"),
        ("profiling-sample-record-max-len", "1", "2"),
    ];
    let kept = || {
        assert_eq!(node.ask(&["PERFLOG", "RESET"]), "+OK");
        for value in ["a", "b", "c"] {
            assert_eq!(node.ask(&["SET", "k", value]), "+OK");
        }
        node.ask(&["PERFLOG", "LEN"])
    };
    for (option, less, more) in options {
        set(&node, option, if option == name { less } else { more });
    }
    assert_eq!(kept(), if name.ends_with("max-len") { ":1" } else { ":0" });
    let more = options.iter().find(|(option, ..)| *option == name).unwrap().2;
    set(&node, name, more);
    assert_eq!(kept(), ":2");
}

fn slow_commands_are_logged(name: &str) {
    let mut shell = Shell::with(|values| values.slowlog_log_slower_than = 0);
    let mut heard = |level: &str| {
        assert_eq!(shell.run(&format!("CONFIG SET {name} {level}")), "+OK");
        let heard = Ear::hear(|| {
            shell.run("SET k v");
        });
        heard.into_iter().filter(|line| line.contains("slow command")).collect::<Vec<_>>()
    };
    assert_eq!(heard("off"), [""; 0]);
    for (level, shown) in [("debug", "DEBUG"), ("info", "INFO"), ("warning", "WARN")] {
        let heard = heard(level);
        let [line] = heard.as_slice() else { panic!("{level}: {heard:?}") };
        assert!(line.starts_with(shown) && line.contains("command=\"SET k v\""), "{line}");
    }
}

fn a_backup_makes_room(name: &str) {
    let node = plain();
    std::fs::create_dir_all(node.node.path("sync_checkpoint")).unwrap();
    let folder = node.node.path("backup");
    assert_eq!(node.ask(&["BGSAVE"]), "+OK");
    wait_until(|| match (folder.exists(), node.node.backups.state().is_running) {
        (true, false) => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    crate::timed::make_room(&node.node);
    assert!(folder.exists() && !node.node.backups.state().is_running);
    set(&node, name, "yes");
    crate::timed::make_room(&node.node);
    wait_until(|| if folder.exists() { Err("it is there".into()) } else { Ok(()) });
}

fn old_logs_go(name: &str) {
    let node = plain();
    let folder = node.node.path("logs");
    std::fs::create_dir(&folder).unwrap();
    let names = ["holdfast.log", "holdfast.log.1", "holdfast.log-2.gz", "holdfast.logs"];
    names.iter().for_each(|name| std::fs::write(folder.join(name), "x").unwrap());
    let node = Running::start_with(|values| values.log_dir.folder = Some(folder.clone()));
    let left = || {
        crate::timed::keep_to_schedule(&node.node, 0);
        names.map(|name| folder.join(name).exists())
    };
    for (days, kept) in [("-1", true), ("1", true), ("0", false)] {
        set(&node, name, days);
        assert_eq!(left(), [true, kept, kept, true], "{days}");
    }
}

fn a_backup_is_due(name: &str) {
    let node = plain();
    let folder = node.node.path("backup");
    let at_noon = || crate::timed::keep_to_schedule(&node.node, 43_200);
    let is_there = |wanted: bool| {
        wait_until(|| match (folder.exists(), node.node.backups.state().is_running) {
            (is_there, false) if is_there == wanted => Ok(()),
            seen => Err(format!("{seen:?}")),
        });
    };
    at_noon();
    is_there(false);
    if name == "bgsave-cron" {
        set(&node, name, "* * * * *");
        at_noon();
        is_there(true);
        return;
    }
    assert_eq!(node.ask(&["BGSAVE"]), "+OK");
    is_there(true);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7_300);
    std::fs::File::open(&folder).unwrap().set_modified(long_ago).unwrap();
    at_noon();
    is_there(true);
    // It is a little older than two hours.
    if name == "max-backup-keep-hours" {
        set(&node, name, "3");
        at_noon();
        is_there(true);
        set(&node, name, "2");
    } else {
        set(&node, name, "0");
    }
    at_noon();
    is_there(false);
}

fn a_compaction_is_due(name: &str) {
    let node = plain();
    let store = node.node.engine().store.clone().unwrap();
    let count = || store.counters().compactions;
    // Two tables, of which one holds what the other deletes.
    for command in [&["SET", "k", "v"][..], &["DEL", "k"]] {
        node.ask(command);
        store.flush().unwrap();
    }
    let before = count();
    crate::timed::keep_to_schedule(&node.node, 43_200);
    assert!(!node.node.is_compacting.load(Ordering::SeqCst) && count() == before);
    set(&node, name, "* * * * *");
    crate::timed::keep_to_schedule(&node.node, 43_200);
    wait_until(|| match (count() > before, node.node.is_compacting.load(Ordering::SeqCst)) {
        (true, false) => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
}

/// A table of deletions lies above what they delete, two hours old.
fn worn_tables_are_compacted(name: &str) {
    let node = plain();
    let store = node.node.engine().store.clone().unwrap();
    let write = |keys: std::ops::Range<u32>| {
        for key in keys {
            assert_eq!(node.ask(&["SET", &key.to_string(), "v"]), "+OK");
        }
    };
    write(0..100);
    store.flush().unwrap();
    store.compact(&[], &[]).unwrap();
    // Of 100 records 8 are deletions.
    assert_eq!(node.ask(&["DEL", "0", "1", "2", "3", "4", "5", "6", "7"]), ":8");
    write(100..192);
    store.flush().unwrap();
    let two_hours_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7_200);
    for entry in std::fs::read_dir(node.node.path("db")).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "sst") {
            std::fs::File::open(entry.path()).unwrap().set_modified(two_hours_ago).unwrap();
        }
    }
    let count = || store.counters().compactions;
    // What RocksDB was told to compact waits, or runs, or is done.
    let is_quiet = |before: u64| {
        let stats = store.stats().unwrap();
        let seen = (stats.pending_compactions, stats.running_compactions, count());
        if seen == (0, 0, before) { Ok(()) } else { Err(format!("{seen:?}, {before} before")) }
    };
    wait_until(|| is_quiet(count()));
    let before = count();
    let look = || crate::timed::keep_to_schedule(&node.node, 43_200);
    let (is_time, is_few) = (name.starts_with("compaction"), name.ends_with("percentage"));
    set(&node, "force-compact-file-age", if is_time || is_few { "3600" } else { "172800" });
    let few = "force-compact-file-min-deleted-percentage";
    set(&node, few, if is_few { "50" } else { "5" });
    if !is_time {
        set(&node, "compaction-checker-cron", "* * * * *");
    }
    look();
    assert_eq!(is_quiet(before), Ok(()), "{name}");
    let value = match name {
        "compaction-checker-cron" => "* * * * *",
        "compaction-checker-range" => "0-23",
        "force-compact-file-age" => "3600",
        _ => "5",
    };
    set(&node, name, value);
    wait_until(|| {
        look();
        if count() > before { Ok(()) } else { Err(format!("{} compactions", count())) }
    });
}
