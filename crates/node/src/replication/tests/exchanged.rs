//! A database that comes into service: the owner's name and the lineage beside its data.

use ::replication::lineage::Source;

use super::*;
use crate::replication::service::{put_in, take_out};

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
    let (events, _incoming) = tokio::sync::mpsc::channel(1);
    let (_cancel, cancelled) = watch::channel(false);
    let master = Endpoint { host: "127.0.0.1".into(), port: 1 };
    let generation = node.node.engine().generation;
    let of = Arc::clone(&node.node);
    let job = link::Job { node: of, master, serial: 0, generation, cancelled };
    link::Driver::new(job, events).unwrap().seal().unwrap();
    assert_eq!(std::fs::read_to_string(copy.join(OWNER)).unwrap(), format!("{id} -\n"));
}
