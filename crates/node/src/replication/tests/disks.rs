//! WAITAOF: whose disks count.

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
        let timeout = if expected == ":1 :1" { "0" } else { "100" };
        assert_eq!(pair.one.ask(&["WAITAOF", "1", "1", timeout]), expected);
        let refused = pair.two.ask(&["WAITAOF", "1", "0", "0"]);
        assert!(refused.starts_with("-ERR WAITAOF cannot be used with replica"), "{refused}");
    }
}
