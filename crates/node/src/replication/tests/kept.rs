//! What a master keeps of its log for who copies its data.

use super::*;

/// A master that keeps no log for others, with a checkpoint, from behind which there are archived
/// files; and the first sequence behind it.
fn copied() -> (Running, u64) {
    let master = Running::start_with(|values| {
        values.rocksdb_wal_ttl_seconds = 0;
        values.rocksdb_wal_size_limit_mb = 0;
        values.max_db_size = 1;
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
    (master, next)
}

/// However long the copy takes: the replica goes on behind it, or copies once more.
#[test]
fn the_log_stays_from_a_checkpoint_on_while_that_may_be_copied() {
    let (master, next) = copied();
    crate::cron::tend(&master.node);
    assert!(storage::starts_batch(&master.store(), next).unwrap());
    // A full disk is worse than another copy.
    *master.node.room.lock() = Some(api::heartbeat::Room { free: 49, size: 1000 });
    crate::cron::tend(&master.node);
    assert!(!storage::starts_batch(&master.store(), next).unwrap());
}

/// So is a master that refuses writes: archived log counts for `max-db-size`.
#[test]
fn the_log_does_not_stay_where_it_would_make_the_database_too_large() {
    let (master, next) = copied();
    master.node.used_bytes.store(900 << 20, Ordering::Relaxed);
    crate::cron::tend(&master.node);
    assert!(storage::starts_batch(&master.store(), next).unwrap());
    master.node.used_bytes.store(950 << 20, Ordering::Relaxed);
    crate::cron::tend(&master.node);
    assert!(!storage::starts_batch(&master.store(), next).unwrap());
}

#[test]
fn a_checkpoint_that_nobody_copies_keeps_no_log() {
    let master = Running::start();
    assert!(master.ask(&["_fetch_meta"]).contains("CURRENT"));
    assert!(master.node.replication.checkpoint_at().is_some());
    assert!(master.node.replication.shelf.lock().expire(u64::MAX).is_some());
    assert_eq!(master.node.replication.checkpoint_at(), None);
}
