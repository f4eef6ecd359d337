//! A replica whose machine is gone: its connection stays, and nothing comes from it any more.

use super::*;

/// The beginning of a stream; nothing in it is read.
fn stream(master: &Running, port: &str, is_holdfast: bool) -> TcpStream {
    let mut stream = master.connect();
    let next = (master.sequence() + 1).to_string();
    if is_holdfast {
        assert_eq!(talk(&mut stream, &[&["replconf", "holdfast", "1"]]), ["+OK"]);
    }
    let begin: [&[&str]; 2] = [&["replconf", "listening-port", port], &["PSYNC", &next]];
    assert_eq!(talk(&mut stream, &begin), ["+OK", "+OK"]);
    stream
}

#[test]
fn a_replica_that_answers_no_ping_is_shown_no_longer_than_one_that_reads_nothing() {
    let master = Running::start_with(|values| {
        values.replication_ping_ms = 10;
        // Longer than this test may be held up for: the one that is alive says so by its thread.
        values.replication_send_timeout_ms = 4_000;
    });
    let _silent = stream(&master, "7001", true);
    // Versions of Kvrocks that never acknowledge are no worse than others.
    let _kvrocks = stream(&master, "7002", false);
    let mut alive = stream(&master, "7003", true);
    let ports = || {
        let replicas = master.node.replication.replicas();
        replicas.iter().map(|replica| replica.port).collect::<Vec<_>>()
    };
    assert_eq!(ports(), [7001, 7002, 7003]);
    let mut since = None;
    wait_until(|| {
        alive.write_all(&::replication::wire::ack(master.sequence())).unwrap();
        if since.is_none() && ports() == [7002, 7003] {
            since = Some(Instant::now());
        }
        // The others would have gone by then.
        let is_over =
            since.is_some_and(|since: Instant| since.elapsed() > Duration::from_millis(1_500));
        if is_over { Ok(()) } else { Err(format!("{:?}", ports())) }
    });
    assert_eq!(ports(), [7002, 7003]);
}
