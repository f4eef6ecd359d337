//! Masters that lost their data, and data that was set aside: a replica gives up nothing for a
//! master that shows no grant.

use ::grant::{CommitMode, EpochId, Grant, Heartbeat, Least, Members};

use super::*;
use crate::replication::deposed::RestoreError;

impl Running {
    /// A grant of that epoch, which opens it; the node gets an id if it has none.
    pub(super) fn grant(&self, epoch: u64) {
        let mut cluster = Cluster::clone(&self.node.cluster.load());
        if cluster.id().is_none() {
            let change = cluster.prepare_set_node_id(&[b'a'; 40], true).unwrap();
            cluster.commit(change).unwrap();
            self.node.cluster.store(Arc::new(cluster));
        }
        let grant = Grant {
            epoch,
            id: EpochId(epoch),
            least: Least::default(),
            mode: CommitMode::Async,
            min_in_sync: 1,
            request: 0,
            members: Members::default(),
            version: 0,
        };
        let clock = Some((clock::boottime_ns(), self.node.grants.nonce()));
        let (is_for_me, grant) = (true, Some(grant));
        let beat = Heartbeat { is_for_me, lease_ms: 60_000, term: 1, clock, grant, store: None };
        crate::grants::drive::heartbeat(&self.node, &beat).unwrap();
        assert_eq!(self.node.grants.granted_epoch(), Some(epoch));
    }

    fn await_refusal(&self) -> String {
        wait_until(|| match self.node.replication.link_error() {
            Some(why) if why.contains("no grant of epoch") => Ok(()),
            other => Err(format!("{other:?}")),
        });
        self.node.replication.link_error().unwrap()
    }

    fn restore(&self, expected: &Position) -> Result<(), RestoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(restore(Arc::clone(&self.node), expected.clone()))
    }
}

/// A replica with data of epoch 1, and its master's next process, which has nothing.
fn lost() -> (Running, Running) {
    let (master, replica, empty) = (Running::start(), Running::start(), Running::start());
    master.grant(1);
    master.ask(&["SET", "k", "v"]);
    replica.follow(master.port);
    replica.await_up_with(&master);
    drop(master);
    (replica, empty)
}

#[test]
fn an_empty_master_is_waited_for_until_it_shows_a_grant() {
    let (replica, empty) = lost();
    let position = replica.store().position();
    replica.follow(empty.port);
    let why = replica.await_refusal();
    assert!(why.contains("no data and no grant of epoch 1"), "{why}");
    assert!(replica.ask(&["INFO", "replication"]).contains(&format!("master_link_error:{why}")));
    assert_eq!(replica.store().position(), position);
    assert!(!replica.node.resync.is_required(), "it may take over");
    // It is given writes by hand: data without epochs is no grant.
    empty.ask(&["SET", "other", "1"]);
    wait_until(|| match replica.node.replication.link_error() {
        Some(why) if why.contains("without epochs up to sequence 1") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // An operator let it go on.
    empty.grant(2);
    replica.await_up_with(&empty);
    assert_eq!(replica.ask(&["GET", "k"]), "nil");
    assert_eq!(replica.node.replication.link_error(), None);
    assert_eq!(replica.node.replication.aside.position(), Some(position));
}

#[test]
fn a_node_without_a_grant_gives_nothing_to_data_of_an_epoch() {
    let (replica, empty) = lost();
    let mine = replica.store().position().to_string();
    let mut stream = empty.connect();
    let mut ask = |words: &[&str]| {
        stream.write_all(&::replication::wire::request(&bytes(words))).unwrap();
        line(&mut stream)
    };
    assert_eq!(ask(&["replconf", "holdfast", "1"]), "+OK");
    // As an older version asks: it would take the copy.
    let refused = ask(&["replconf", "history", &mine]);
    assert!(refused.starts_with("-NOGRANT this node holds no grant of epoch 1"), "{refused}");
    let answer = ask(&["replconf", "history", &mine, "granted", "?", "lineage", "-"]);
    assert!(answer.starts_with("+0;- granted - lineage 1:"), "{answer}");
    let refused = ask(&["_fetch_meta"]);
    assert!(refused.starts_with("-NOGRANT"), "{refused}");
    // A replica that has nothing to lose, and Kvrocks, which says nothing of itself.
    for said in [&["replconf", "history", "0;-"][..], &["replconf", "listening-port", "1"]] {
        let mut stream = empty.connect();
        for words in [said, &["_fetch_meta"]] {
            stream.write_all(&::replication::wire::request(&bytes(words))).unwrap();
            let answer = line(&mut stream);
            assert!(!answer.starts_with('-'), "{words:?}: {answer}");
        }
    }
}

/// What is to be replaced is nobody's to compare with, or to copy.
#[test]
fn data_that_is_to_be_replaced_is_shown_and_given_to_no_replica() {
    let node = Running::start();
    node.ask(&["SET", "k", "v"]);
    let mine = node.store().position().to_string();
    let asks = || {
        let requests = [
            &["replconf", "history", &mine][..],
            &["replconf", "history", &mine, "granted", "?", "lineage", "-"],
            &["_fetch_meta"],
        ];
        requests.map(|words| {
            let mut stream = node.connect();
            stream.write_all(&::replication::wire::request(&bytes(words))).unwrap();
            line(&mut stream)
        })
    };
    node.node.resync.set_required(true);
    let [by_history, by_grant, files] = asks();
    assert!(by_history.starts_with("-LOADING") && by_grant == by_history, "{by_history}");
    assert_eq!(files, "-can't create db checkpoint");
    node.node.resync.set_required(false);
    for answer in asks() {
        assert!(!answer.starts_with('-'), "{answer}");
    }
}

/// A replica whose data went aside for a master of a later epoch.
fn set_aside() -> (Running, Running, Position, Position) {
    let (replica, master) = lost();
    let old = replica.store().position();
    master.grant(2);
    replica.follow(master.port);
    replica.await_up_with(&master);
    let new = replica.store().position();
    assert_eq!(replica.node.replication.aside.position().as_ref(), Some(&old));
    assert_eq!(replica.ask(&["GET", "k"]), "nil");
    (replica, master, old, new)
}

#[test]
fn what_was_set_aside_comes_back_and_the_other_goes_aside() {
    let (replica, master, old, new) = set_aside();
    let other = Position { latest: old.latest + 1, ..old.clone() };
    let refused = replica.restore(&other).unwrap_err();
    assert!(matches!(refused, RestoreError::Other(_)), "{refused}");
    assert!(matches!(master.restore(&old), Err(RestoreError::Granted(2))));
    replica.await_up_with(&master);
    replica.ask(&["SLAVEOF", "NO", "ONE"]);
    assert!(matches!(Running::start().restore(&old), Err(RestoreError::Nothing)));

    replica.restore(&old).unwrap();
    assert_eq!(replica.ask(&["GET", "k"]), "v");
    assert_eq!(replica.store().position(), old);
    let aside = replica.node.replication.aside.position().unwrap();
    assert_eq!(aside.history, new.history);
    replica.restore(&aside).unwrap();
    assert_eq!(replica.ask(&["GET", "k"]), "nil");
    // A mark about the one must not condemn the other.
    std::fs::write(replica.node.path("fullsync.required"), "").unwrap();
    replica.node.resync.set_required(true);
    replica.restore(&old).unwrap();
    assert!(!replica.node.resync.is_required());
    assert!(!replica.node.path("fullsync.required").exists());
}

#[test]
fn data_that_is_brought_back_waits_for_its_master_too() {
    let (replica, master, old, _) = set_aside();
    drop(master);
    let empty = Running::start();
    replica.restore(&old).unwrap();
    replica.follow(empty.port);
    replica.await_refusal();
    assert_eq!(replica.store().position(), old);
}

/// A master of epoch 3 with a history of its own, followed by `replica`, whose data goes aside.
fn follow_another(replica: &Running) -> Running {
    let next = Running::start();
    next.ask(&["SET", "other", "1"]);
    next.grant(3);
    replica.follow(next.port);
    replica.await_up_with(&next);
    next
}

/// What goes further by epoch and sequence stays in `db.deposed`, whatever is set aside after it;
/// what goes further by its sequence alone, the most there may ever have been, is not lost either.
#[test]
fn data_that_is_set_aside_takes_its_place_by_epoch_and_sequence() {
    let (replica, master, old, new) = set_aside();
    drop(master);
    assert!(new.latest < old.latest, "{new} {old}");
    let _next = follow_another(&replica);
    let lies = |name: &str| storage::peek(&replica.node.path(name)).unwrap();
    assert_eq!(replica.node.replication.aside.position().as_ref(), Some(&new));
    assert_eq!((lies("db.deposed"), lies("db.deposed.lesser")), (new, old));
}

#[test]
fn data_that_nobody_can_tell_the_end_of_stays_where_it_lies() {
    let (replica, master, _, new) = set_aside();
    drop(master);
    let folder = replica.node.path("db.deposed");
    for name in ["holdfast.position", "CURRENT"] {
        std::fs::remove_file(folder.join(name)).unwrap();
    }
    std::fs::write(folder.join("mark"), "").unwrap();
    replica.node.replication.aside.look(&replica.node.dir);
    let _next = follow_another(&replica);
    assert!(folder.join("mark").exists(), "it may be all there is");
    assert_eq!(storage::peek(&replica.node.path("db.deposed.lesser")).unwrap(), new);
}

/// The first link of a process may come before the look at what an earlier one left.
#[test]
fn what_nobody_has_looked_at_yet_is_looked_at_before_it_is_replaced() {
    let (replica, master, _, new) = set_aside();
    drop(master);
    let folder = replica.node.path("db.deposed");
    let further = Position::parse(b"1000;9:0000000000000009:1:0").unwrap();
    std::fs::write(folder.join("holdfast.position"), format!("{further}\n")).unwrap();
    // As a process that has just started knows of nothing.
    replica.node.replication.aside.look(&replica.node.path("nothing here"));
    let _next = follow_another(&replica);
    assert_eq!(replica.node.replication.aside.position(), Some(further));
    assert_eq!(storage::peek(&replica.node.path("db.deposed.lesser")).unwrap(), new);
}

#[test]
fn a_database_that_an_older_version_set_aside_is_looked_into() {
    let (replica, _master, old, _) = set_aside();
    let folder = replica.node.path("db.deposed");
    std::fs::remove_file(folder.join("holdfast.position")).unwrap();
    replica.node.replication.aside.look(&replica.node.dir);
    assert_eq!(replica.node.replication.aside.position(), Some(old));
    std::fs::remove_dir_all(&folder).unwrap();
    replica.node.replication.aside.look(&replica.node.dir);
    assert_eq!(replica.node.replication.aside.position(), None);
}

/// An address may be another cluster's by now.
#[test]
fn a_node_takes_nothing_of_a_master_of_another_cluster() {
    let pair = ClusterPair::start();
    let names = ["00000000000000c1", "00000000000000c2"];
    for ((node, id), name) in [&pair.one, &pair.two].into_iter().zip(&pair.ids).zip(names) {
        assert_eq!(node.ask(&["CLUSTERX", "SETNODEID", id]), "+OK");
        assert_eq!(node.ask(&["CLUSTERX", "SETCLUSTERID", name]), "+OK");
    }
    pair.push(0, "1");
    assert_eq!(pair.one.ask(&["SET", "k", "v"]), "+OK");
    wait_until(|| match pair.two.node.replication.link_error() {
        Some(why) if why.contains("of cluster 00000000000000c1") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!((pair.two.sequence(), pair.one.node.replication.replicas().len()), (0, 0));
}
