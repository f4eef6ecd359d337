//! A connection that copies files, and is ended by an administrator.

use super::*;

/// Nobody else lets go of the checkpoint for it: no other could be made, and none deleted.
#[test]
fn a_checkpoint_is_let_go_when_the_connection_that_copies_it_is_killed() {
    let master = Running::start_with(|values| {
        values.max_replication_mb = 1;
        // All of it stays in one log, which is more than sockets take for one that does not read.
        values.rocksdb_write_buffer_size = 64;
    });
    let long = "x".repeat(1 << 20);
    for number in 0..24 {
        assert_eq!(master.ask(&["SET", &number.to_string(), &long]), "+OK");
    }
    let names = master.ask(&["_fetch_meta"]);
    let log = names.split(',').find(|name| name.ends_with(".log")).expect("the log is in it");
    let mut stream = master.connect();
    let words: [&[u8]; 2] = [b"_fetch_file", log.as_bytes()];
    stream.write_all(&::replication::wire::request(&words)).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let is_idle = || master.node.replication.shelf.lock().expire(u64::MAX).is_some();
    assert!(!is_idle(), "it is being copied, a megabyte a second");
    // The connection that asked for names is gone, and its master may not have noticed.
    wait_until(|| match master.ask(&["CLIENT", "LIST", "TYPE", "replica"]).lines().count() {
        1 => Ok(()),
        count => Err(format!("{count} replicas")),
    });
    assert_eq!(master.ask(&["CLIENT", "KILL", "TYPE", "replica"]), ":1");
    wait_until(|| if is_idle() { Ok(()) } else { Err("it is still held".into()) });
}
