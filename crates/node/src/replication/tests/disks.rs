//! WAITAOF: which nodes' disks count.

use super::*;

#[test]
fn the_log_is_synced_for_who_waits_for_it() {
    let node = Running::start();
    node.ask(&["SET", "k", "v"]);
    assert_eq!(node.ask(&["WAITAOF", "0", "0", "0"]), ":0 :0", "nobody has synced it");
    assert_eq!(node.ask(&["WAITAOF", "1", "0", "0"]), ":1 :0");
    assert_eq!(node.ask(&["WAITAOF", "0", "0", "0"]), ":1 :0");
    // There is no replica: the time ends the wait, and the answer says what is so.
    let began = Instant::now();
    assert_eq!(node.ask(&["WAITAOF", "1", "1", "60"]), ":1 :0");
    // Times are whole milliseconds.
    assert!(began.elapsed() >= Duration::from_millis(55));
    let mut client = node.connect();
    let id = talk(&mut client, &[&["CLIENT", "ID"]]).remove(0);
    client.write_all(&::replication::wire::request(&bytes(&["WAITAOF", "1", "1", "0"]))).unwrap();
    let id = id.trim_start_matches(':').to_owned();
    wait_until(|| match node.ask(&["CLIENT", "UNBLOCK", &id]) {
        unblocked if unblocked == ":1" => Ok(()),
        other => Err(other),
    });
    assert_eq!(answer(&mut client), ":1 :0");
}

#[test]
fn only_replicas_that_acknowledge_their_disks_count() {
    let durable = |values: &mut Values| values.durable_ack = true;
    for (of_replica, expected) in [(durable as fn(&mut Values), ":1 :1"), (|_| {}, ":1 :0")] {
        let pair = ClusterPair::start_with([|_| {}, of_replica]);
        pair.push(0, "1");
        pair.two.await_up_with(&pair.one);
        pair.one.ask(&["SET", "k", "v"]);
        assert_eq!(pair.one.ask(&["WAIT", "1", "0"]), ":1", "it acknowledges all the same");
        // Else the time below may end before this node's own disk has it.
        assert!(pair.one.ask(&["WAITAOF", "1", "0", "0"]).starts_with(":1 "));
        let timeout = if expected == ":1 :1" { "0" } else { "100" };
        assert_eq!(pair.one.ask(&["WAITAOF", "1", "1", timeout]), expected);
        let refused = pair.two.ask(&["WAITAOF", "1", "0", "0"]);
        assert!(refused.starts_with("-ERR WAITAOF cannot be used with replica"), "{refused}");
    }
}

/// There a replica has no name but that of its process.
#[test]
fn disks_of_replicas_count_outside_cluster_mode_too() {
    let master = Running::start();
    let durable = || Running::start_with(|values| values.durable_ack = true);
    let replicas = [durable(), Running::start()];
    for replica in &replicas {
        replica.follow(master.port);
        replica.await_up_with(&master);
    }
    master.ask(&["SET", "k", "v"]);
    assert_eq!(master.ask(&["WAIT", "2", "0"]), ":2");
    assert_eq!(master.ask(&["WAITAOF", "1", "1", "0"]), ":1 :1");
    assert_eq!(master.ask(&["WAITAOF", "1", "2", "100"]), ":1 :1", "the other one says no disk");
    // Two on copies of one folder are two.
    drop(replicas);
    wait_until(|| match master.node.replication.replicas().len() {
        0 => Ok(()),
        left => Err(format!("{left} are left")),
    });
    let one = durable();
    one.follow(master.port);
    one.await_up_with(&master);
    let copy = std::fs::read(one.node.db_path().join("holdfast.incarnation")).unwrap();
    let other = durable();
    std::fs::write(other.node.db_path().join("holdfast.incarnation"), copy).unwrap();
    other.node.grants.identity.reload(&other.node.db_path());
    other.follow(master.port);
    other.await_up_with(&master);
    assert_eq!(master.ask(&["WAITAOF", "1", "2", "0"]), ":1 :2");
}
