//! What a master keeps of its log for who copies its data.

use super::*;

/// However long the copy takes: the replica goes on behind it, or copies once more.
#[test]
fn the_log_stays_from_a_checkpoint_on_while_that_may_be_copied() {
    let master = Running::start_with(|values| {
        values.rocksdb_wal_ttl_seconds = 0;
        values.rocksdb_wal_size_limit_mb = 0;
    });
    let store = master.store();
    assert_eq!(master.ask(&["SET", "k", "before"]), "+OK");
    assert!(master.ask(&["_fetch_meta"]).contains("CURRENT"));
    let next = master.node.replication.checkpoint_at().unwrap() + 1;
    let archived = || {
        let archive = std::fs::read_dir(master.node.db_path().join("archive"));
        archive.map_or(0, std::iter::Iterator::count)
    };
    wait_until(|| {
        assert_eq!(master.ask(&["SET", "k", "behind"]), "+OK");
        store.flush().unwrap();
        if archived() < 3 { Err(format!("{} files", archived())) } else { Ok(()) }
    });
    crate::cron::tend(&master.node);
    assert!(storage::starts_batch(&store, next).unwrap());
    // A full disk is worse than another copy.
    *master.node.room.lock() = Some(api::heartbeat::Room { free: 49, size: 1000 });
    crate::cron::tend(&master.node);
    assert!(!storage::starts_batch(&store, next).unwrap());
}

#[test]
fn a_checkpoint_that_nobody_copies_keeps_no_log() {
    let master = Running::start();
    assert!(master.ask(&["_fetch_meta"]).contains("CURRENT"));
    assert!(master.node.replication.checkpoint_at().is_some());
    assert!(master.node.replication.shelf.lock().expire(u64::MAX).is_some());
    assert_eq!(master.node.replication.checkpoint_at(), None);
}
