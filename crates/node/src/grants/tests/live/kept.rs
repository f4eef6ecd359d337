//! What is kept beside the data, and what is said to the log.

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
        _ => return false,
    }
    true
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
