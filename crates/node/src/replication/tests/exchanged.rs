//! A database that comes into service: the owner's name and the lineage beside its data.

use std::sync::mpsc::Sender;

use ::replication::lineage::Source;

use super::*;
use crate::replication::service::{put_in, reopen, take_out};

const OWNER: &str = "holdfast.owner";

impl Running {
    /// Takes the database out, runs `meanwhile`, and puts it back.
    fn exchanged(&self, meanwhile: impl FnOnce()) {
        let generation = self.node.engine().generation;
        let (store, generation) = take_out(&self.node, generation).unwrap();
        meanwhile();
        let node = Arc::clone(&self.node);
        // As a link does, on a runtime of its own.
        let thread = std::thread::spawn(move || {
            block_on(async move {
                put_in(&node, store, generation).await.unwrap();
            });
        });
        thread.join().unwrap();
    }

    /// Of a link that is not running, and whose master is not there.
    fn driver(&self) -> link::Driver {
        let (events, _) = tokio::sync::mpsc::channel(1);
        let (_, cancelled) = watch::channel(false);
        let master = Endpoint { host: "127.0.0.1".into(), port: 1 };
        let (node, generation) = (Arc::clone(&self.node), self.node.engine().generation);
        let job = link::Job { node, master, serial: 0, generation, cancelled };
        link::Driver::new(job, events).unwrap()
    }

    fn writer_of_next(&self) -> Option<Source> {
        self.node.replication.lineage.now().source(self.sequence() + 1)
    }
}

#[test]
fn a_node_that_is_promoted_without_a_database_writes_by_itself() {
    let pair = ClusterPair::start();
    let (master, replica) = (&pair.one, &pair.two);
    pair.push(0, "1");
    master.ask(&["SET", "k", "v"]);
    replica.await_up_with(master);
    assert_eq!(replica.writer_of_next(), Some(Source::Master));
    replica.exchanged(|| ());
    assert_eq!(replica.writer_of_next(), Some(Source::Master), "a replica does not");
    replica.exchanged(|| pair.push_to(replica, 1, "2"));
    assert_eq!(replica.writer_of_next(), Some(Source::Own));
    let kept = std::fs::read_to_string(replica.node.db_path().join("holdfast.lineage")).unwrap();
    assert!(kept.trim_end().ends_with(" own"), "{kept}");
}

#[test]
fn nobody_is_promoted_by_hand_while_the_data_is_being_replaced() {
    let node = Running::start();
    assert_eq!(node.ask(&["SET", "k", "v"]), "+OK");
    node.node.resync.set_required(true);
    // Nobody listens there.
    node.follow(1);
    // As when a copy is in service whose end nobody has compared yet.
    node.node.resync.set_touched(true);
    let said = node.ask(&["SLAVEOF", "NO", "ONE"]);
    assert!(said.starts_with("-ERR the data of this node is just being replaced"), "{said}");
    assert!(!node.node.engine().role.is_master());
    node.node.resync.set_touched(false);
    assert_eq!(node.ask(&["SLAVEOF", "NO", "ONE"]), "+OK");
    assert_eq!(node.ask(&["GET", "k"]), "v");
}

/// A disk may take long.
#[test]
fn data_gets_its_name_before_everybody_waits_at_the_gate() {
    let node = Running::start();
    let generation = node.node.engine().generation;
    let (store, generation) = take_out(&node.node, generation).unwrap();
    let path = node.node.db_path().join("holdfast.incarnation");
    std::fs::remove_file(&path).unwrap();
    let shared = node.node.gate.read();
    let exchanged = Arc::clone(&node.node);
    let thread = std::thread::spawn(move || {
        block_on(async move {
            put_in(&exchanged, store, generation).await.unwrap();
        });
    });
    wait_until(|| if path.exists() { Ok(()) } else { Err("it has no name".to_owned()) });
    assert_eq!(node.node.grants.identity.incarnation(), None, "it is not in service yet");
    drop(shared);
    thread.join().unwrap();
    let name = node.node.grants.identity.incarnation().unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), format!("{name:016x}\n"));
}

#[test]
fn options_that_change_without_a_database_are_told_to_the_next_one() {
    let node = Running::start();
    let set = ["CONFIG", "SET", "rocksdb.write_options.write_batch_max_bytes", "100"];
    node.exchanged(|| assert_eq!(node.ask(&set), "+OK"));
    let said = node.ask(&["SET", "k", &"v".repeat(200)]);
    assert!(said.starts_with("-ERR storage: too much at once"), "{said}");
}

#[test]
fn a_master_gets_no_database_before_it_is_noted_that_it_writes() {
    let node = Running::start();
    let obstacle = node.node.db_path().join("holdfast.lineage.new");
    std::thread::scope(|scope| {
        let exchange = scope.spawn(|| node.exchanged(|| std::fs::create_dir(&obstacle).unwrap()));
        wait_until(|| match node.ask(&["GET", "k"]) {
            said if said.starts_with("-LOADING") && obstacle.exists() => Ok(()),
            said => Err(said),
        });
        std::fs::remove_dir(&obstacle).unwrap();
        exchange.join().unwrap();
    });
    assert_eq!(node.ask(&["GET", "k"]), "nil");
    assert_eq!(node.writer_of_next(), Some(Source::Own));
}

/// A process may end right behind an exchange: the database must not be anybody's then.
#[test]
fn a_database_has_its_owners_name_before_it_is_put_in_service() {
    let node = Running::start_with(|values| values.cluster_enabled = true);
    let id = "1".repeat(40);
    assert_eq!(node.ask(&["CLUSTERX", "SETNODEID", &id]), "+OK");
    let copy = node.node.path(folder::NAME);
    std::fs::create_dir(&copy).unwrap();
    node.driver().seal().unwrap();
    assert_eq!(std::fs::read_to_string(copy.join(OWNER)).unwrap(), format!("{id} -\n"));
}

/// Which checkpoint is in the folder for downloads, or no word of it, as where it is complete.
fn await_download(replica: &Running, is_there: bool) {
    let id = replica.dir.path().join("sync_checkpoint.id");
    wait_until(|| match id.exists() {
        found if found == is_there => Ok(()),
        found => Err(format!("{} is there: {found}", id.display())),
    });
}

/// The next process would put in service what has come by then.
#[test]
fn no_intent_of_an_exchange_is_left_where_a_download_begins() {
    let (master, replica) = (Running::start(), Running::start());
    assert_eq!(master.ask(&["SET", "k", "v"]), "+OK");
    // As where the disk did not take its removal.
    let intent = replica.dir.path().join("fullsync.swap");
    std::fs::write(&intent, "db.old").unwrap();
    replica.node.resync.set_required(true);
    // Connections: handshake, file list, and no file ever comes.
    let relay = Relay::to(master.port, |index| (index >= 2).then_some(0));
    replica.follow(relay.port);
    await_download(&replica, true);
    assert!(!intent.exists());
}

/// Has a replica begin a full sync whose files come once the test says so: by what is returned.
fn follow_but_for_files(replica: &Running, master: &Running) -> (Relay, Sender<()>) {
    let (go, gone) = std::sync::mpsc::channel();
    let relay = Relay::to(master.port, move |index| {
        if index == 2 {
            let _ = gone.recv();
        }
        None
    });
    replica.follow(relay.port);
    await_download(replica, true);
    (relay, go)
}

/// A node that is promoted before that writes on, and a process that begins would throw it away.
#[test]
fn an_exchange_is_intended_once_the_database_is_out_of_service() {
    let (master, replica) = (Running::start(), Running::start());
    assert_eq!(master.ask(&["SET", "k", "v"]), "+OK");
    replica.node.resync.set_required(true);
    let (_relay, go) = follow_but_for_files(&replica, &master);
    let engine = replica.node.engine();
    go.send(()).unwrap();
    await_download(&replica, false);
    // All is here; the link waits for the gate.
    std::thread::park_timeout(Duration::from_millis(200));
    let is_intended = replica.dir.path().join("fullsync.swap").exists();
    drop(engine);
    assert!(!is_intended);
    replica.await_up_with(&master);
    assert_eq!(replica.ask(&["GET", "k"]), "v");
}

/// A database that is in service beside an intent is written to, and the next process would put
/// the copy in its place.
#[test]
fn no_database_is_put_in_service_beside_an_intent_that_cannot_be_taken_back() {
    let (master, replica) = (Running::start(), Running::start());
    assert_eq!(master.ask(&["SET", "k", "v"]), "+OK");
    replica.node.resync.set_required(true);
    let (_relay, go) = follow_but_for_files(&replica, &master);
    // No file can have that name, and none of that name be removed.
    let intent = replica.dir.path().join("fullsync.swap");
    std::fs::create_dir(&intent).unwrap();
    go.send(()).unwrap();
    let is_out = || replica.node.engine().store.is_none();
    wait_until(|| if is_out() { Ok(()) } else { Err("it is in service".to_owned()) });
    std::thread::park_timeout(Duration::from_millis(200));
    assert!(is_out());
    std::fs::remove_dir(&intent).unwrap();
    replica.await_up_with(&master);
    assert_eq!(replica.ask(&["GET", "k"]), "v");
}

/// What comes by the stream is not among it.
#[test]
fn what_was_exported_counts_until_there_is_a_stream() {
    let node = Running::start();
    let mut driver = node.driver();
    driver.is_exported = true;
    driver.has_joined();
    assert!(!driver.is_exported);
}

/// Where two renames failed, the data lies in another folder.
#[test]
fn no_empty_database_is_made_where_there_is_none() {
    let node = Running::start();
    assert_eq!(node.ask(&["SET", "k", "v"]), "+OK");
    let generation = node.node.engine().generation;
    let (store, generation) = take_out(&node.node, generation).unwrap();
    let options = store.options().clone();
    let watch = store.close_watch();
    drop(store);
    assert!(watch.wait(Duration::from_secs(20)));
    let (db, aside) = (node.node.db_path(), node.dir.path().join("db.old"));
    std::fs::rename(&db, &aside).unwrap();
    let owned = Arc::clone(&node.node);
    let opening = std::thread::spawn(move || {
        block_on(async move {
            let store = reopen(&owned, &options).await.unwrap();
            put_in(&owned, store, generation).await.unwrap();
        });
    });
    std::thread::park_timeout(Duration::from_millis(100));
    assert!(!opening.is_finished() && !db.exists());
    std::fs::rename(&aside, &db).unwrap();
    opening.join().unwrap();
    assert_eq!(node.ask(&["GET", "k"]), "v");
}

/// It may be as large as the data.
#[test]
fn a_download_that_nobody_goes_on_with_is_removed() {
    let (master, replica) = (Running::start(), Running::start());
    assert_eq!(master.ask(&["SET", "k", "v"]), "+OK");
    let await_removed = || {
        let left = ["sync_checkpoint", "sync_checkpoint.id", "sync_checkpoint.stale"]
            .map(|name| replica.dir.path().join(name));
        wait_until(|| match left.iter().find(|path| path.exists()) {
            None => Ok(()),
            Some(path) => Err(format!("{} is there", path.display())),
        });
    };
    // The copy breaks off, and then the node is made a master.
    replica.node.resync.set_required(true);
    let relay = Relay::to(master.port, |index| (index >= 2).then_some(0));
    replica.follow(relay.port);
    await_download(&replica, true);
    assert_eq!(replica.ask(&["SLAVEOF", "NO", "ONE"]), "+OK");
    await_removed();
    // The data turns out to be good enough for a stream.
    let other = Running::start();
    std::fs::create_dir(other.dir.path().join("sync_checkpoint")).unwrap();
    other.follow(master.port);
    other.await_up_with(&master);
    let folder = other.dir.path().join("sync_checkpoint");
    wait_until(|| if folder.exists() { Err("it is there".into()) } else { Ok(()) });
}
