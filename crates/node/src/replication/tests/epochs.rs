//! Epoch histories between nodes: which replica may go on, which rewinds, which copies.

use std::path::PathBuf;

use ::replication::history::EpochId;

use super::*;

impl Running {
    pub(super) fn store(&self) -> Store {
        self.node.engine().store.clone().unwrap()
    }

    pub(super) fn open_epoch(&self, epoch: u64) -> u64 {
        self.store().open_epoch(epoch, EpochId::from_random(epoch), 0).unwrap()
    }

    /// Becomes a master; the old one must have noticed before it may follow this one.
    fn leave(&self, master: &Self) {
        assert_eq!(self.ask(&["SLAVEOF", "NO", "ONE"]), "+OK");
        wait_until(|| match master.node.replication.replicas().len() {
            0 => Ok(()),
            some => Err(format!("{some} replicas")),
        });
    }

    fn depose(&self, master: &Self) {
        self.node.resync.set_required(true);
        self.follow(master.port);
    }

    pub(super) fn discarded(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.dir.path().join(DISCARDED)) else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Writes a key, and then everything to tables; the log file that has it, which is kept for
    /// replicas.
    fn archive(&self, key: &str) -> PathBuf {
        self.ask(&["SET", key, "x"]);
        self.store().flush().unwrap();
        let archive = self.node.db_path().join("archive");
        let has_it = |path: &PathBuf| {
            let bytes = std::fs::read(path).unwrap_or_default();
            bytes.windows(key.len()).any(|part| part == key.as_bytes())
        };
        let mut found = None;
        wait_until(|| {
            let files = std::fs::read_dir(&archive).map_err(|error| error.to_string())?;
            found = files.flatten().map(|file| file.path()).find(has_it);
            if found.is_some() { Ok(()) } else { Err(format!("no log file there has {key}")) }
        });
        found.unwrap()
    }

    fn full_syncs_given(&self) -> u64 {
        self.node.stats.sync_full.load(Ordering::Relaxed)
    }
}

/// A master in epoch 1 and its replica, both with a key, the replica promoted into epoch 2.
fn parted() -> (Running, Running) {
    let (old, new) = (Running::start(), Running::start());
    old.open_epoch(1);
    old.ask(&["SET", "both", "1"]);
    new.follow(old.port);
    new.await_up_with(&old);
    assert_eq!(new.store().position(), old.store().position());
    new.leave(&old);
    new.open_epoch(2);
    (old, new)
}

#[test]
fn a_deposed_master_rewinds_to_where_its_successor_began() {
    let (old, new) = parted();
    for index in 0..10 {
        old.ask(&["SET", &format!("discarded {index}"), "x"]);
        // As many records as the old master wrote, with other content: by numbers alone they look
        // the same.
        if index > 0 {
            new.ask(&["SET", &format!("kept {index}"), "x"]);
        }
    }
    old.ask(&["DEL", "both"]);
    new.ask(&["SET", "kept", "x"]);
    assert_eq!(old.sequence(), new.sequence());
    old.depose(&new);
    old.await_up_with(&new);
    assert_eq!(new.full_syncs_given(), 0);
    assert_eq!(old.ask(&["GET", "both"]), "1");
    assert_eq!(old.ask(&["GET", "kept 9"]), "x");
    assert_eq!(old.ask(&["GET", "discarded 3"]), "nil");
    assert_eq!(old.store().position(), new.store().position());
    assert!(!old.dir.path().join("db.deposed").exists());
    let text = std::fs::read_to_string(&old.discarded()[0]).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("\"put\":")).count(), 10, "{text}");
    assert!(text.lines().any(|line| line.starts_with("{\"delete\":\"metadata\"")), "{text}");
    // The log it feeds others from has nothing of what was cut off.
    let last = Running::start();
    last.follow(old.port);
    last.await_up_with(&new);
    assert_eq!(last.ask(&["GET", "kept 9"]), "x");
    assert_eq!(last.ask(&["GET", "discarded 3"]), "nil");
}

#[test]
fn what_parted_without_being_master_rewinds_too() {
    let (old, new) = parted();
    let replica = Running::start();
    replica.follow(old.port);
    old.ask(&["SET", "unseen by the successor", "x"]);
    replica.await_up_with(&old);
    replica.follow(new.port);
    replica.await_up_with(&new);
    assert_eq!(replica.ask(&["GET", "unseen by the successor"]), "nil");
    assert_eq!(replica.discarded().len(), 1);
    assert_eq!(new.full_syncs_given(), 0);
}

#[test]
fn a_successor_without_an_epoch_is_waited_for() {
    let (old, new) = (Running::start(), Running::start());
    old.open_epoch(1);
    new.follow(old.port);
    new.await_up_with(&old);
    new.leave(&old);
    old.ask(&["SET", "discarded", "x"]);
    old.depose(&new);
    let commands = || new.node.stats.commands();
    let before = commands();
    wait_until(|| if commands() > before + 8 { Ok(()) } else { Err("few attempts".into()) });
    assert_eq!(old.sequence(), 2, "nothing is cut off yet");
    assert!(old.node.resync.is_required());
    new.open_epoch(2);
    old.await_up_with(&new);
    assert_eq!(old.ask(&["GET", "discarded"]), "nil");
    assert_eq!(new.full_syncs_given(), 0);
}

#[test]
fn what_is_in_tables_already_is_copied_and_what_was_written_is_exported() {
    let (old, new) = parted();
    old.ask(&["SET", "discarded", "x"]);
    old.store().flush().unwrap();
    old.depose(&new);
    old.await_up_with(&new);
    assert_eq!(new.full_syncs_given(), 1);
    assert_eq!(old.ask(&["GET", "discarded"]), "nil");
    assert_eq!(old.store().position(), new.store().position());
    let text = std::fs::read_to_string(&old.discarded()[0]).unwrap();
    assert!(text.contains("discarded\""), "{text}");
    assert!(!old.dir.path().join("db.deposed").exists(), "all of it is exported");
}

/// An export has no gap, lest something be put back without what was written before it: all of it
/// is in the old database, which stays.
#[test]
fn where_the_log_has_a_gap_the_export_ends_there_and_the_old_database_stays() {
    const KEYS: [&str; 3] = ["first", "second", "third"];
    for gone in [0, 1] {
        let (old, new) = parted();
        old.store().flush().unwrap();
        let logs = KEYS.map(|key| old.archive(key));
        std::fs::remove_file(&logs[gone]).unwrap();
        let position = old.store().position();
        old.depose(&new);
        old.await_up_with(&new);
        assert_eq!(new.full_syncs_given(), 1);
        assert_eq!(old.store().position(), new.store().position());
        let texts: Vec<String> =
            old.discarded().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert_eq!(texts.len(), gone, "no file without a batch: {texts:?}");
        let is_exported = |key: &str| texts.iter().any(|text| text.contains(&format!("{key}\"")));
        assert_eq!(KEYS.map(is_exported), [gone == 1, false, false], "{texts:?}");
        assert_eq!(storage::peek(&old.node.path("db.deposed")).unwrap(), position);
        assert_eq!(old.node.replication.aside.position(), Some(position));
    }
}

#[test]
fn a_stranger_with_epochs_of_its_own_is_replaced_and_kept_aside() {
    let (stranger, master) = (Running::start(), Running::start());
    stranger.open_epoch(1);
    stranger.ask(&["SET", "mine", "x"]);
    master.grant(2);
    stranger.follow(master.port);
    stranger.await_up_with(&master);
    assert_eq!(stranger.ask(&["GET", "mine"]), "nil");
    assert!(stranger.dir.path().join("db.deposed").join("CURRENT").exists());
    // The other way round a node without epochs does not pass for a replica of one that has some.
    let plain = Running::start();
    plain.ask(&["SET", "mine", "x"]);
    plain.follow(master.port);
    plain.await_up_with(&master);
    assert_eq!(plain.ask(&["GET", "mine"]), "nil");
}

#[test]
fn a_rewind_that_its_process_did_not_finish_is_finished_before_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let options = storage::Options { block_cache_size: 8 << 20, ..storage::Options::default() };
    let db = folder.path().join("db");
    let store = Store::open(&db, options.clone()).unwrap();
    store.open_epoch(1, EpochId::from_random(1), 0).unwrap();
    let write = |store: &Store, key: &[u8]| {
        let mut txn = store.txn();
        txn.put(storage::Family::Metadata, key, b"v");
        txn.commit().unwrap().unwrap()
    };
    let fork = write(&store, b"stays");
    write(&store, b"goes");
    store.close().unwrap();
    std::fs::write(db.join("holdfast.rewind"), format!("rewind 1\nfork {fork}\nat 7\n")).unwrap();
    finish_rewind(folder.path(), &options).unwrap();
    let store = Store::open(&db, options.clone()).unwrap();
    assert_eq!(store.latest_sequence(), fork);
    assert!(folder.path().join(DISCARDED).join(format!("7-{fork}.jsonl")).exists());
    // One that is impossible is given up, and the data stays as it is.
    write(&store, b"goes");
    store.flush().unwrap();
    let latest = write(&store, b"goes, too");
    store.close().unwrap();
    std::fs::write(db.join("holdfast.rewind"), format!("rewind 1\nfork {fork}\nat 8\n")).unwrap();
    finish_rewind(folder.path(), &options).unwrap();
    let store = Store::open(&db, options).unwrap();
    assert_eq!(store.latest_sequence(), latest);
}

#[test]
fn a_planned_switchover_needs_no_full_sync_and_forgets_that_it_was_master() {
    let pair = ClusterPair::start();
    pair.push(0, "1");
    pair.one.open_epoch(1);
    pair.one.ask(&["SET", "k", "old"]);
    pair.two.await_up_with(&pair.one);
    for (master, version) in [(1, "2"), (0, "3"), (1, "4")] {
        let (new, old) = if master == 0 { (&pair.one, &pair.two) } else { (&pair.two, &pair.one) };
        pair.push(master, version);
        new.open_epoch(version.parse().unwrap());
        new.ask(&["SET", "k", version]);
        old.await_up_with(new);
        wait_until(|| {
            let outcome = old.node.cluster.load().outcome();
            if outcome.full_sync_required { Err("still required".into()) } else { Ok(()) }
        });
    }
    assert_eq!(pair.one.full_syncs_given() + pair.two.full_syncs_given(), 0);
    assert_eq!(pair.one.store().position(), pair.two.store().position());
    assert!(pair.one.discarded().is_empty() && pair.two.discarded().is_empty());
}

#[test]
fn a_replica_whose_history_changed_since_it_was_asked_is_sent_back() {
    let (old, new) = parted();
    let mut stream = new.connect();
    let mut ask = |words: &[&str]| {
        stream.write_all(&::replication::wire::request(&bytes(words))).unwrap();
        line(&mut stream)
    };
    let (theirs, mine) = (new.store().position(), old.store().position());
    let next = (mine.latest + 1).to_string();
    assert_eq!(ask(&["replconf", "holdfast", "1"]), "+OK");
    assert_eq!(ask(&["replconf", "history", &mine.to_string()]), format!("+{theirs}"));
    old.ask(&["SET", "more", "x"]);
    let mine = old.store().position();
    assert_eq!(ask(&["replconf", "history", &mine.to_string()]), format!("+{theirs}"));
    assert_eq!(ask(&["replconf", "history", "x"]), "-ERR malformed epoch history");
    assert_eq!(ask(&["PSYNC", &next]), "-FORKED the histories differ, compare again");
}
