//! A transaction runs as a whole or not at all: what must hold for all of it is checked before any
//! of it runs.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::wrong_door::{HIGH, LOW, ME, OTHER, OTHER_DOOR};
use super::*;
use crate::locks::Locks;

/// Changes something on a node.
type Change = fn(&Node);

impl Bench {
    /// The topology becomes this one; roles stay as they are.
    fn set_nodes(node: &Node, mine: &str, other: &str) {
        let mut cluster = Cluster::clone(&node.cluster.load());
        let version = cluster.version() + 1;
        let text = format!("{ME} 10.0.0.1 6666 {mine}\n{OTHER} 10.0.0.2 6666 {other}");
        let change =
            cluster.prepare_set_nodes(text.as_bytes(), version, false, &|_| false).unwrap();
        cluster.commit(change).unwrap();
        node.cluster.store(Arc::new(cluster));
    }

    /// A node with all slots.
    fn alone() -> Self {
        Self::in_cluster(
            Role::Master,
            ["master - 0-16383 192.0.2.1 7001", &format!("slave {ME} 192.0.2.2 7002")],
        )
    }

    /// Queues writes of two keys, changes the node, runs EXEC. Nothing may have run, and the
    /// transaction is over.
    #[track_caller]
    fn assert_whole(mut self, change: Change, undo: Change, expected: &str) {
        let (low, high) = (format!("SET {LOW} 1"), format!("INCR {HIGH}"));
        let queued = self.pipeline(&["MULTI", &low, &high, &low]);
        assert_eq!(queued, "+OK +QUEUED +QUEUED +QUEUED");
        let before = self.sequence();
        change(&self.node);
        let said = self.answer("EXEC").unwrap();
        assert!(said.starts_with(expected), "{said}");
        assert!(!said.starts_with('*'), "{said}");
        undo(&self.node);
        assert_eq!(self.sequence(), before, "something ran");
        assert_eq!(self.answer("EXEC").unwrap(), "-ERR EXEC without MULTI");
        assert!(
            self.session.client.line(0).contains(" flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 ")
        );
    }
}

fn nothing(_: &Node) {}

fn everything_here(node: &Node) {
    Bench::set_nodes(node, "master - 0-16383", &format!("slave {ME}"));
}

#[test]
fn a_slot_that_has_moved_is_execs_own_reply() {
    let one_of_two: Change = |node| {
        Bench::set_nodes(
            node,
            "master - 0-8191 192.0.2.1 7001",
            "master - 8192-16383 192.0.2.2 7002",
        );
    };
    let expected = format!("-MOVED 15495 {OTHER_DOOR}");
    Bench::alone().assert_whole(one_of_two, everything_here, &expected);
    let nobodys: Change = |node| {
        Bench::set_nodes(node, "master - 0-8191", "master - 9000-10000");
    };
    Bench::alone().assert_whole(nobodys, everything_here, "-CLUSTERDOWN Hash slot not served");
}

#[test]
fn role_lease_data_and_size_are_looked_at_for_the_whole() {
    let abort = "-EXECABORT Transaction discarded because of: ";
    let deposed: Change = |node| {
        let from = topology::Endpoint { host: "10.0.0.2".into(), port: 6666 };
        node.gate.write().role = Role::Replica { from };
    };
    let promoted: Change = |node| node.gate.write().role = Role::Master;
    Bench::alone().assert_whole(deposed, promoted, &format!("{abort}READONLY"));
    let leased: Change = |node| {
        node.config.set(&[("master-lease-mode", "block-write")]).unwrap();
    };
    Bench::alone().assert_whole(leased, nothing, "-CLUSTERDOWN master lease expired");
    let untrusted: Change = |node| node.resync.set_required(true);
    let trusted: Change = |node| node.resync.set_required(false);
    Bench::alone().assert_whole(untrusted, trusted, &format!("{abort}MASTERDOWN"));
    let full: Change = |node| {
        node.config.set(&[("max-db-size", "1")]).unwrap();
        node.used_bytes.store(2 << 30, Ordering::Relaxed);
    };
    Bench::alone().assert_whole(full, nothing, &format!("{abort}write command not allowed"));
    let said_to_be_full: Change = |node| node.counts_as_full.store(true, Ordering::Relaxed);
    let not_full: Change = |node| node.counts_as_full.store(false, Ordering::Relaxed);
    let refusal = format!("{abort}write command not allowed");
    Bench::alone().assert_whole(said_to_be_full, not_full, &refusal);
    let few: Change = |node| node.grants.commit.lose_members();
    Bench::alone().assert_whole(few, nothing, &format!("{abort}NOREPLICAS"));
}

#[test]
fn a_database_that_is_being_replaced_runs_nothing() {
    let mut bench = Bench::alone();
    bench.pipeline(&["MULTI", &format!("GET {LOW}")]);
    let store = bench.node.gate.write().store.take();
    let said = Bench::run_unfinished(&bench.node, &mut bench.session, "EXEC");
    assert!(said.starts_with("-EXECABORT Transaction discarded because of: LOADING"), "{said}");
    bench.node.gate.write().store = store;
    assert_eq!(bench.pipeline(&["EXEC"]), "-ERR EXEC without MULTI");
}

/// Two slots of one node may be written together, as in Kvrocks.
#[test]
fn slots_of_one_node_share_a_transaction() {
    let mut bench = Bench::alone();
    let (low, high) = (format!("SET {LOW} 1"), format!("SET {HIGH} 2"));
    let said = bench.pipeline(&["MULTI", &low, &high, "EXEC"]);
    assert_eq!(said, "+OK +QUEUED +QUEUED *2 +OK +OK");
}

#[test]
fn a_renamed_write_waits_for_the_end_of_a_pause_too() {
    let rename = |values: &mut Values| values.renames.add("set", "s2").unwrap();
    let mut bench = Bench::start(rename, Cluster::default(), Role::Master);
    assert_eq!(bench.pipeline(&["MULTI", "S2 k v", "GET k"]), "+OK +QUEUED +QUEUED");
    bench.node.clients.pause(PauseKind::Write, u64::MAX, 0);
    let mut out = Vec::new();
    let mut batch = begin(&bench.node);
    assert!(matches!(batch.run(&mut bench.session, &[b"EXEC"], &mut out), After::Again(_)));
    drop(batch);
    bench.node.clients.unpause();
    assert_eq!(bench.pipeline(&["EXEC"]), "*2 +OK $1 v");
    // A transaction that only reads does not wait for a pause of writes.
    bench.node.clients.pause(PauseKind::Write, u64::MAX, 0);
    assert_eq!(bench.pipeline(&["MULTI", "GET k", "EXEC"]), "+OK +QUEUED *1 $1 v");
}

#[test]
fn what_exec_could_not_run_is_not_queued() {
    let mut bench = Bench::alone();
    for command in ["CLUSTER RESET", "CLUSTERX SETNODEID x", "ClusterX FlushSlots 0", "READONLY"] {
        let name = command.split(' ').next().unwrap().to_lowercase();
        assert_eq!(bench.pipeline(&["MULTI"]), "+OK");
        let refused = format!("-ERR Can't execute {name} in MULTI");
        assert_eq!(bench.pipeline(&[command]), refused);
        assert!(bench.pipeline(&["EXEC"]).starts_with("-EXECABORT"));
    }
    let said = bench.pipeline(&["MULTI", "CLUSTERX VERSION", "EXEC"]);
    assert_eq!(said, "+OK +QUEUED *1 $1 1");
}

#[test]
fn asking_before_multi_is_for_the_whole_transaction() {
    let mut bench = Bench::new();
    bench.pipeline(&["ASKING", "MULTI", "SET a 1"]);
    assert!(bench.session.is_asking);
    bench.pipeline(&["EXEC"]);
    assert!(!bench.session.is_asking);
    bench.pipeline(&["ASKING", "MULTI", "DISCARD"]);
    assert!(!bench.session.is_asking);
    // Else it is for the next command, be it refused.
    for command in ["GET a", "GET", "NOSUCH"] {
        bench.pipeline(&["ASKING", command]);
        assert!(!bench.session.is_asking, "{command}");
    }
}

/// Names may differ from node to node, and nobody may run another command than the one that was
/// queued, or fewer.
#[test]
fn a_queue_that_comes_from_another_node_runs_whole_or_not_at_all() {
    let words = |text: &str| text.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    let mut bench = Bench::new();
    let renames = &bench.node.config.now().renames;
    bench.session.transaction.resume(vec![words("SET a 1"), words("GET a")], renames);
    assert_eq!(bench.pipeline(&["EXEC"]), "*2 +OK $1 1");
    for unknown in ["S2 a 2", "MULTI", "EXEC"] {
        bench.session.transaction.resume(vec![words("SET a 2"), words(unknown)], renames);
        let said = bench.pipeline(&["EXEC", "GET a"]);
        assert_eq!(said, "-EXECABORT Transaction discarded because of previous errors. $1 1");
    }
}

/// What CLIENT LIST shows of a session is what it is.
#[test]
fn a_transaction_is_shown_while_it_lasts() {
    let mut bench = Bench::new();
    let shown = |bench: &Bench| {
        let line = bench.session.client.line(0);
        let is_told = |field: &&str| {
            ["flags=", "multi=", "watch=", "resp="].iter().any(|name| field.starts_with(name))
        };
        line.split(' ').filter(is_told).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown(&bench), "flags=N multi=-1 watch=0 resp=2");
    bench.pipeline(&["WATCH a b", "MULTI", "SET a 1", "SET b 2"]);
    assert_eq!(shown(&bench), "flags=x multi=2 watch=2 resp=2");
    bench.pipeline(&["EXEC"]);
    assert_eq!(shown(&bench), "flags=N multi=-1 watch=0 resp=2");
    bench.pipeline(&["HELLO 3", "MULTI", "NOSUCH", "EXEC"]);
    assert_eq!(shown(&bench), "flags=N multi=-1 watch=0 resp=3");
    let mut other = Bench::session(&bench.node);
    bench.pipeline(&["WATCH a"]);
    Bench::run(&bench.node, &mut other, &["SET a 3"]);
    bench.pipeline(&["MULTI"]);
    assert_eq!(shown(&bench), "flags=xd multi=0 watch=1 resp=3");
    bench.pipeline(&["RESET"]);
    assert_eq!(shown(&bench), "flags=N multi=-1 watch=0 resp=2");
}

/// What one end of a replication link writes the other one takes.
#[test]
fn a_batch_above_the_bound_is_refused_and_the_others_of_its_pipeline_are_not() {
    let bound = |values: &mut Values| values.rocksdb_write_batch_max_bytes = 220;
    let mut bench = Bench::start(bound, Cluster::default(), Role::Master);
    let (some, long) = ("y".repeat(100), "x".repeat(300));
    let refused = "-ERR storage: too much at once: ";
    let before = bench.sequence();
    let said = bench.pipeline(&[&format!("SET a {long}")]);
    assert!(said.starts_with(refused) && said.contains("220"), "{said}");
    assert_eq!(bench.sequence(), before);
    // Each by itself is small enough: that they came together is nobody's business.
    let sets = ["a", "b", "c"].map(|key| format!("SET {key} {some}"));
    assert_eq!(bench.pipeline(&sets.each_ref().map(String::as_str)), "+OK +OK +OK");
    let said = bench.pipeline(&["SET d 1", &format!("SET e {long}"), "SET f 1"]);
    assert!(said.starts_with(&format!("+OK {refused}")) && said.ends_with(" +OK"), "{said}");
    assert_eq!(bench.pipeline(&["EXISTS d e f"]), ":2");
    // A transaction is one batch.
    let (g, h) = (format!("SET g {some}"), format!("SET h {some}"));
    let said = bench.pipeline(&["MULTI", &g, &h, "EXEC", "EXISTS g h"]);
    assert!(said.starts_with(&format!("+OK +QUEUED +QUEUED {refused}")), "{said}");
    assert!(said.ends_with(" :0"), "{said}");
    let live =
        ["CONFIG SET rocksdb.write_options.write_batch_max_bytes 0", &format!("SET a {long}")];
    assert_eq!(bench.pipeline(&live), "+OK +OK");
}

/// What is watched does not change between the look whether it has and the commit, although no
/// command of the transaction names it.
#[test]
fn exec_is_alone_with_what_is_watched() {
    let mut bench = Bench::new();
    assert_eq!(bench.pipeline(&["WATCH w", "MULTI", "SET k v"]), "+OK +OK +QUEUED");
    let node = Arc::clone(&bench.node);
    // Another client is in the middle of writing `w`.
    let held = node.locks.lock(&Locks::stripes(std::iter::once(b"w".as_slice())));
    let is_written = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let exec = scope.spawn(|| {
            let said = bench.says("EXEC");
            assert!(is_written.load(Ordering::SeqCst), "EXEC did not wait for a writer of `w`");
            said
        });
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until && !exec.is_finished() {
            std::thread::yield_now();
        }
        node.watches.touch(std::iter::once(node.scope(0).name(b"w")));
        is_written.store(true, Ordering::SeqCst);
        drop(held);
        assert_eq!(exec.join().unwrap(), "*-1");
    });
    assert_eq!(bench.says("GET k"), "$-1");
}

#[test]
fn a_waiting_command_that_may_not_be_committed_has_one_reply() {
    let mut bench = Bench::new();
    let values: Vec<String> = (0..2_000).map(|number| number.to_string()).collect();
    assert_eq!(bench.says(&format!("RPUSH l {}", values.join(" "))), ":2000");
    let bound = "CONFIG SET rocksdb.write_options.write_batch_max_bytes 10000";
    assert_eq!(bench.says(bound), "+OK");
    let said = bench.pipeline(&["BLMPOP 0 1 l LEFT COUNT 2000", "LLEN l"]);
    assert!(said.starts_with("-ERR ") && said.ends_with(" :2000"), "{said}");
}

/// A Redis that moves keys here says so with each of them: it needs no ASKING before.
#[test]
fn restore_asking_reaches_a_slot_that_is_being_taken_over() {
    let mut bench = Bench::beside_another_master();
    let [plain, asking] = ["RESTORE", "RESTORE-ASKING"].map(|name| format!("{name} {HIGH} 0 x"));
    let moved = format!("-MOVED 15495 {OTHER_DOOR}");
    assert_eq!(bench.answer(&asking).unwrap(), moved);
    let slot = topology::Slot::new(15_495).unwrap();
    let mut cluster = Cluster::clone(&bench.node.cluster.load());
    cluster.update_marks(|marks| marks.importing = topology::SlotRange::new(slot, slot));
    bench.node.cluster.store(Arc::new(cluster));
    assert_eq!(bench.answer(&plain).unwrap(), moved);
    let refused = "-ERR DUMP payload version or checksum are wrong";
    assert_eq!(bench.answer(&asking).unwrap(), refused);
}

/// Ends what runs beside a test, however the test ends.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Between the look at what is watched and the read nothing comes in, whatever else is queued.
#[test]
fn exec_at_a_replica_reads_what_is_watched_as_it_was_watched() {
    const TIMES: usize = 5_000;
    let mut bench = Bench::new();
    let before = bench.sequence();
    for set in ["SET k 1", "SET k 2"] {
        assert_eq!(bench.pipeline(&[set]), "+OK");
    }
    let node = Arc::clone(&bench.node);
    let store = node.engine().store.clone().unwrap();
    let FeedRead::Batches(batches) = store.feed().read(before + 1, 1 << 20).unwrap() else {
        panic!("no batches");
    };
    let batches: Vec<Vec<u8>> = batches.iter().map(|batch| batch.data.to_vec()).collect();
    assert_eq!(batches.len(), 2);
    let from = topology::Endpoint { host: "10.0.0.2".into(), port: 6666 };
    node.gate.write().role = Role::Replica { from };
    let (is_over, mut whole) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (count, batch) in batches.iter().cycle().enumerate() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let mut batch = batch.clone();
                batch[..8].copy_from_slice(&(store.latest_sequence() + 1).to_le_bytes());
                node.watches.applying(&batch, false, || store.write_raw(&batch)).unwrap();
                // Now and then there is time for a transaction.
                (0..count % 64 * 50).for_each(|_| std::hint::spin_loop());
            }
        });
        let _ends = Ends(&is_over);
        for _ in 0..TIMES {
            let watched = bench.pipeline(&["WATCH k", "GET k"]);
            let said = bench.pipeline(&["MULTI", "GET k", "PING", "EXEC"]);
            if said != "+OK +QUEUED +QUEUED *-1" {
                let value = watched.strip_prefix("+OK ").unwrap();
                assert_eq!(said, format!("+OK +QUEUED +QUEUED *2 {value} +PONG"));
                whole += 1;
            }
        }
    });
    assert!(whole > 0, "none of {TIMES} was let through");
}

/// In the words of Redis 7.
#[test]
fn in_a_cluster_commands_reach_no_keys_but_those_of_their_slot() {
    let mut bench = Bench::alone();
    for (command, why) in [
        ("MOVE k 1", "MOVE is not allowed in cluster mode"),
        ("SORT k BY w*", "BY option of SORT denied in Cluster mode."),
        ("SORT k GET #", "GET option of SORT denied in Cluster mode."),
    ] {
        assert_eq!(bench.answer(command).unwrap(), format!("-ERR {why}"));
    }
    assert_eq!(bench.answer("SORT k BY nosort").unwrap(), "*0");
}
