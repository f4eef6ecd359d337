//! Links to a master, and the files that are sent over them.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::*;

pub(super) fn of_links(name: &str) -> bool {
    match name {
        "replication-connect-timeout-ms" => a_mute_master_is_given_up(name),
        "replication-recv-timeout-ms" => a_stream_that_falls_silent_is_given_up(name),
        "max-replication-mb" => files_are_sent_slowly(name),
        _ => return false,
    }
    true
}

/// Until the link has failed after that time.
fn fails_after(replica: &Running, ms: u32) {
    let wanted = format!("nothing from the master for {ms} ms");
    wait_until(|| match replica.node.replication.link_error() {
        Some(why) if why == wanted => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn follow(replica: &Running, port: u16) {
    assert_eq!(replica.ask(&["SLAVEOF", "127.0.0.1", &port.to_string()]), "+OK");
}

fn a_mute_master_is_given_up(name: &str) {
    // The kernel takes the connection, and nobody answers.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let replica = Running::start_with(|values| values.replication_connect_timeout_ms = 99);
    follow(&replica, mute.local_addr().unwrap().port());
    fails_after(&replica, 99);
    set(&replica, name, "77");
    fails_after(&replica, 77);
}

fn a_stream_that_falls_silent_is_given_up(name: &str) {
    let master = Running::start_with(|values| values.replication_ping_ms = 60_000);
    let replica = Running::start_with(|values| values.replication_recv_timeout_ms = 60_000);
    follow(&replica, master.port);
    is_up(&replica);
    set(&replica, name, "77");
    // It is waited for so long from what comes next.
    assert_eq!(master.ask(&["SET", "k", "v"]), "+OK");
    fails_after(&replica, 77);
}

/// Three MiB take seconds at one of them a second, and none without a rate.
fn files_are_sent_slowly(name: &str) {
    let master = plain();
    // Random, so that no compression makes it small; in tables, so that files are large.
    let value: String = (0..3 << 20).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
    assert_eq!(master.ask(&["SET", "k", &value]), "+OK");
    master.node.engine().store.as_ref().unwrap().flush().unwrap();
    let takes = || {
        let replica = plain();
        replica.node.resync.set_required(true);
        let began = Instant::now();
        follow(&replica, master.port);
        wait_until(|| match replica.node.resync.is_required() {
            false if replica.sequence() == master.sequence() => Ok(()),
            seen => Err(format!("resync required: {seen}")),
        });
        began.elapsed()
    };
    set(&master, name, "1");
    let slow = takes();
    assert!(slow >= Duration::from_secs(2), "{slow:?}");
    set(&master, name, "0");
    // A busy machine may need as long without a rate, but not again and again.
    let fast: Vec<Duration> =
        std::iter::repeat_with(takes).take(10).take_while(|took| took.as_secs() >= 2).collect();
    assert!(fast.len() < 10, "{fast:?} and {slow:?}");
}
