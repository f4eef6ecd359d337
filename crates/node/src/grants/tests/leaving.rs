//! Replicas that leave the in-sync set while they acknowledge, because their processes end.

use std::sync::Arc;

use ::replication::wire::Leave;

use super::*;
use crate::grants::drive::look;

impl Puppet {
    fn leaves(&mut self) {
        self.stream.write_all(&wire::leaving()).unwrap();
        self.is_told(Leave::Heard);
    }

    /// Reads on until the master says so.
    fn is_told(&mut self, leave: Leave) {
        while self.leave != Some(leave) {
            self.read();
        }
    }
}

/// Nothing is dropped here because it is late.
fn patient(values: &mut Values) {
    values.in_sync_timeout_ms = 60_000;
}

fn counts(node: &Running) -> (String, String) {
    let info = node.ask(&["INFO", "holdfast"]);
    let count = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is not in {info}")).to_owned()
    };
    (count("in_sync_left:"), count("in_sync_lost:"))
}

#[test]
fn it_is_asked_out_at_once_and_counted_on_until_the_store_has_confirmed() {
    let (node, mut controller, mut puppet) = in_sync(patient, 1);
    puppet.leaves();
    let standing = Controller::hello(&node).standing;
    assert_eq!((standing.request, standing.request_members.len()), (1, 1));
    // Its acknowledgement lets an answer leave: nobody waits for the store.
    let before = node.sequence();
    let mut writer = node.connect();
    send(&mut writer, &["SET", "k", "1"]);
    await_waiting(&node, 1, before + 1);
    assert_silent(&mut writer);
    puppet.ack(before + 1, 1, None);
    assert_eq!(answer(&mut writer), "+OK");
    assert_eq!(puppet.leave, Some(Leave::Heard), "the store may hold it");
    controller.adopt(&node);
    puppet.is_told(Leave::Gone);
    assert_eq!(node.ask(&["SET", "k", "2"]), "+OK");
    // It streams on, and is not asked back; when it ends nothing changes any more.
    puppet.ack(node.sequence(), 1, None);
    (0..3).for_each(|_| look(&node.node));
    drop(puppet);
    wait_until(|| match node.node.replication.links().len() {
        0 => Ok(()),
        links => Err(format!("{links} streams")),
    });
    look(&node.node);
    assert_eq!(Controller::hello(&node).standing.request, 1);
    assert_eq!(counts(&node), ("1".to_owned(), "0".to_owned()));
}

#[test]
fn one_that_just_ends_is_lost() {
    let (node, _, puppet) = in_sync(|_| {}, 1);
    assert_eq!(counts(&node), ("0".to_owned(), "0".to_owned()));
    drop(puppet);
    wait_until(|| match Controller::hello(&node).standing.request {
        1 => Ok(()),
        other => Err(other.to_string()),
    });
    assert_eq!(counts(&node), ("0".to_owned(), "1".to_owned()));
}

#[test]
fn who_is_needed_for_writes_is_not_let_go() {
    let (node, mut controller, mut puppet) = in_sync(patient, 2);
    puppet.leaves();
    (0..3).for_each(|_| look(&node.node));
    assert_eq!(Controller::hello(&node).standing.request, 0, "two are wanted");
    assert!(!node.node.grants.commit.lacks_members());
    controller.min = 1;
    controller.grant(&node);
    look(&node.node);
    assert_eq!(Controller::hello(&node).standing.request, 1);
    controller.adopt(&node);
    puppet.is_told(Leave::Gone);
}

#[test]
fn who_is_in_no_set_may_go_at_once() {
    let node = master(|_| {});
    let controller = Controller::of(&[member_of(&node)]);
    controller.grant(&node);
    let mut puppet = Puppet::follow(&node);
    puppet.stream.write_all(&wire::leaving()).unwrap();
    puppet.is_told(Leave::Gone);
    puppet.ack(node.sequence(), 1, None);
    (0..3).for_each(|_| look(&node.node));
    assert_eq!(Controller::hello(&node).standing.request, 0, "it does not join");
}

#[test]
fn a_real_replica_ends_once_the_store_has_a_set_without_it() {
    let (a, b) = (master(patient), start(|_| {}));
    assert_eq!(b.ask(&["CLUSTERX", "SETNODEID", &r()]), "+OK");
    let text = topology(&a, b.port);
    for node in [&a, &b] {
        set_nodes(node, &text, 2);
    }
    let mut controller = Controller::of(&[member_of(&a)]);
    controller.grant(&a);
    wait_until(|| {
        let standing = controller.adopt(&a).standing;
        let is_up = b.node.replication.link_status() == LinkStatus::Up;
        let is_in = controller.members.len() == 2 && is_up;
        if is_in { Ok(()) } else { Err(format!("{standing:?}")) }
    });
    assert_eq!(b.ask(&["CONFIG", "SET", "handover-timeout-ms", "600000"]), "+OK");
    // One that is not heard is waited for by nobody.
    controller.try_grant(&b, &m());
    let stopped = Arc::clone(&b.node);
    let stop = std::thread::spawn(move || {
        crate::threads::block_on(async move { crate::handover::wait(&stopped).await });
    });
    wait_until(|| {
        controller.try_grant(&b, &m());
        let (leave, asked) = (b.node.stopping.leave(), Controller::hello(&a).standing);
        let is_heard = leave.is_some_and(|(leave, _)| leave == Leave::Heard);
        let is_asked = asked.request_members.len() == 1;
        if is_heard && is_asked { Ok(()) } else { Err(format!("{leave:?} {asked:?}")) }
    });
    // Its controller is heard on.
    controller.try_grant(&b, &m());
    // The store has not adopted it: the replica acknowledges, and writes are answered.
    assert_eq!(a.ask(&["SET", "k", "1"]), "+OK");
    assert!(!stop.is_finished());
    controller.adopt(&a);
    wait_until(|| {
        controller.try_grant(&b, &m());
        let leave = b.node.stopping.leave();
        if stop.is_finished() { Ok(()) } else { Err(format!("{leave:?}")) }
    });
    assert_eq!(counts(&a), ("1".to_owned(), "0".to_owned()));
}

/// Nobody stops it when it is taken out of the shard: it streams on. The store takes no set with it
/// in it, and so would let no other member be dropped either.
#[test]
fn one_that_the_topology_does_not_have_any_more_is_asked_out_while_it_streams() {
    let (node, mut controller, mut puppet) = in_sync(patient, 1);
    wait_until(|| match node.node.replication.links().len() {
        1 => Ok(()),
        links => Err(format!("{links} streams")),
    });
    look(&node.node);
    assert_eq!(Controller::hello(&node).standing.request, 0);
    let alone = format!("{} 127.0.0.1 {} master - 0-16383", m(), node.port);
    set_nodes(&node, &alone, 2);
    look(&node.node);
    let standing = Controller::hello(&node).standing;
    assert_eq!((standing.request, standing.request_members.len()), (1, 1));
    assert_eq!(node.node.replication.links().len(), 1, "its stream goes on");
    controller.adopt(&node);
    assert_eq!(node.ask(&["SET", "k", "1"]), "+OK", "nobody waits for it");
    // It is added again.
    set_nodes(&node, &topology(&node, 1), 3);
    wait_until(|| {
        puppet.ack(node.sequence(), 1, None);
        look(&node.node);
        match Controller::hello(&node).standing.request_members.len() {
            2 => Ok(()),
            members => Err(format!("{members} members")),
        }
    });
}
