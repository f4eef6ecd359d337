//! What a giver sends and what a taker calls committed, where a set has more than its master: a
//! replica that acknowledges when the test wants.

use super::*;
use crate::grants::tests::Puppet;

/// For so long a giver that sends too much would have done so; it looks every 2 ms.
const WHILE_MS: u64 = 300;

impl Master {
    /// In sync with a replica from here on, in a new epoch; it acknowledges nothing yet.
    fn followed(&mut self) -> Puppet {
        let puppet = Puppet::follow(self.node());
        self.replicas.push(puppet.member);
        self.open_epoch();
        puppet
    }

    /// The replica has everything that was written so far.
    fn acknowledge(&self, puppet: &mut Puppet) {
        puppet.ack_under(self.node().sequence(), self.epoch_id(), None);
    }

    fn is_published(&self, sequence: u64) -> bool {
        let engine = self.node().node.engine();
        engine.store.as_ref().unwrap().published() >= sequence
    }
}

/// Where the taker is in the giver's log.
fn staged_at(said: &Said) -> Option<u64> {
    match said.mark {
        Some(Mark::Staged { at, .. }) => at.map(|at| at.sequence),
        _ => None,
    }
}

/// The record rests on it: the taker's next master must have what was copied, too.
#[test]
fn a_taker_calls_committed_what_its_whole_set_has_and_synced_what_is_on_its_disk() {
    let mut cluster = Cluster::new();
    let key = format!("{{{}}}k", tags(1)[0]);
    assert_eq!(cluster.s.ask(&["SET", &key, "1"]), "+OK");
    let mut puppet = cluster.d.followed();
    let begun = cluster.d.order(cluster.s.source());
    assert!(begun.sequence > 0 && !begun.is_synced, "{begun:?}");
    wait_until(|| {
        let said = cluster.d.say();
        let is_copied = staged_at(&said).is_some();
        let is_here = is_copied && said.is_synced && cluster.d.is_published(said.sequence);
        if is_here { Ok(()) } else { Err(format!("{said:?}")) }
    });
    assert_eq!(cluster.d.records(), cluster.s.records());
    let silent = cluster.d.say();
    assert!(!silent.is_committed, "its master alone has it: {silent:?}");
    wait_until(|| {
        cluster.d.acknowledge(&mut puppet);
        let said = cluster.d.say();
        if said.is_committed { Ok(()) } else { Err(format!("{said:?}")) }
    });
}

/// Nobody is shown what is staged: who reads at the taker does not wait until its set has that.
#[test]
fn replies_of_a_taker_do_not_wait_for_what_is_staged() {
    let mut cluster = Cluster::new();
    let key = format!("{{{}}}k", tags(1)[0]);
    assert_eq!(cluster.s.ask(&["SET", &key, "1"]), "+OK");
    let is_ds = |key: &String| topology::key_slot(key.as_bytes()).number() >= 8192;
    let own = (0..).map(|number| format!("own{number}")).find(is_ds).unwrap();
    assert_eq!(cluster.d.ask(&["SET", &own, "mine"]), "+OK");
    let mut puppet = cluster.d.followed();
    cluster.d.acknowledge(&mut puppet);
    let begun = cluster.d.order(cluster.s.source());
    puppet.ack_under(begun.sequence, cluster.d.epoch_id(), None);
    wait_until(|| {
        // More comes, and is not acknowledged.
        assert_eq!(cluster.s.ask(&["SET", &key, "2"]), "+OK");
        match cluster.d.say() {
            said if staged_at(&said).is_some() && !said.is_committed => Ok(()),
            said => Err(format!("{said:?}")),
        }
    });
    assert_eq!(cluster.d.ask(&["GET", &own]), "mine");
    // A write lies behind it, and waits for all of it.
    let before = cluster.d.node().sequence();
    let mut writer = cluster.d.node().connect();
    writer.write_all(&wire::request(&[b"SET".as_slice(), own.as_bytes(), b"more"])).unwrap();
    // More of what is staged may come behind `before`: that the writer waits is what tells.
    wait_until(|| {
        let waiting = cluster.d.node().node.grants.commit.waiting();
        let is_written = waiting == 1 && cluster.d.is_published(before + 1);
        if is_written { Ok(()) } else { Err(format!("{waiting} wait")) }
    });
    assert!(!cluster.d.say().is_committed);
    cluster.d.acknowledge(&mut puppet);
    assert_eq!(answer(&mut writer), "+OK");
    // More may have come since.
    wait_until(|| {
        cluster.d.acknowledge(&mut puppet);
        match cluster.d.say() {
            said if said.is_committed => Ok(()),
            said => Err(format!("{said:?}")),
        }
    });
}

/// What the set lacks may be taken back by its next master: then nobody must have it.
#[test]
fn a_giver_sends_what_its_whole_set_has() {
    let mut cluster = Cluster::new();
    let key = format!("{{{}}}k", tags(1)[0]);
    assert_eq!(cluster.s.ask(&["SET", &key, "1"]), "+OK");
    let mut puppet = cluster.s.followed();
    cluster.s.acknowledge(&mut puppet);
    cluster.copy();
    let acknowledged = cluster.s.node().sequence();
    let mut writer = cluster.s.node().connect();
    writer.write_all(&wire::request(&[b"SET".as_slice(), key.as_bytes(), b"2"])).unwrap();
    wait_until(|| match cluster.s.is_published(acknowledged + 1) {
        true => Ok(()),
        false => Err("not written".into()),
    });
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(WHILE_MS) {
        let taker = cluster.d.say();
        assert!(staged_at(&taker).unwrap() <= acknowledged, "{taker:?}");
    }
    assert_ne!(cluster.d.records(), cluster.s.records());
    cluster.s.acknowledge(&mut puppet);
    assert_eq!(answer(&mut writer), "+OK");
    wait_until(|| match cluster.d.records() == cluster.s.records() {
        true => Ok(()),
        false => Err(format!("{:?}", cluster.d.say())),
    });
    assert!(staged_at(&cluster.d.say()).unwrap() > acknowledged);
}
