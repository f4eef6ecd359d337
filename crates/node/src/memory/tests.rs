//! A node whose memory is short, without sockets.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::held::Charge;
use super::watch::Watch;
use crate::clients::Client;
use crate::config::value::Size;
use crate::inbox::Limit;
use crate::node::Node;
use crate::session::dispatch::Batch;
use crate::session::{After, Auth, Session};
use crate::shell::{Shell, session};

/// A total that this test's process is far below.
const TOTAL: u64 = 64 << 30;

fn bounded() -> Shell {
    Shell::with(|values| {
        values.maxmemory = Size(TOTAL);
        values.value_cache_size = 8;
    })
}

#[test]
fn above_the_total_nothing_is_written_and_what_frees_or_reads_goes_on() {
    const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.";
    let mut shell = bounded();
    let node = shell.node();
    assert_eq!(shell.run("SET a 1"), "+OK");
    node.memory.set_over(true);
    for refused in ["SET a 2", "HSET h f v", "APPEND a x", "LPUSH l x"] {
        assert_eq!(shell.run(refused), OOM, "{refused}");
    }
    assert_eq!(shell.run("GET a"), "$1 1");
    assert_eq!((shell.run("DEL a"), shell.run("PING")), (":1".into(), "+PONG".into()));
    assert_eq!(node.memory.refused.load(Ordering::Relaxed), 4);
    // As Redis: nothing is queued either, and what was queued before does not run.
    assert_eq!((shell.run("MULTI"), shell.run("GET a")), ("+OK".into(), OOM.into()));
    assert!(shell.run("EXEC").starts_with("-EXECABORT"));
    node.memory.set_over(false);
    assert_eq!((shell.run("MULTI"), shell.run("SET a 1")), ("+OK".into(), "+QUEUED".into()));
    node.memory.set_over(true);
    let told = shell.run("EXEC");
    assert!(told.starts_with("-EXECABORT") && told.contains("OOM command not allowed"), "{told}");
    let script = "return(redis.call('set','a','1')) 0";
    assert!(shell.run(&format!("EVAL {script}")).contains("OOM"));
    assert_eq!(shell.run(&format!("EVAL #!lua\tflags=allow-oom\n{script}")), "+OK");
    node.memory.set_over(false);
    assert_eq!(shell.run("SET a 2"), "+OK");
}

#[test]
fn peers_are_refused_nothing() {
    let shell = bounded();
    let node = shell.node();
    node.memory.set_over(true);
    fill(&node);
    let mut peer = session(&node);
    peer.auth = Auth::Peer;
    peer.client.charged.store(usize::MAX, Ordering::Relaxed);
    let (after, told) = step(&node, &mut peer, "SET a 1");
    assert!(matches!(after, After::Next(_)) && told == "+OK\r\n", "{after:?} {told}");
    peer.client.is_peer.store(true, Ordering::Relaxed);
    peer.client.push(&[b'x'; 1_000], Limit::default(), 1);
    assert_eq!((peer.client.is_killed(), peer.client.inbox.len()), (false, 1_000));
}

/// Connections hold all of their part.
fn fill(node: &Node) {
    node.memory.pushes.store(node.memory.limit(), Ordering::Relaxed);
}

fn step(node: &Arc<Node>, session: &mut Session, command: &str) -> (After, String) {
    let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    let mut out = Vec::new();
    let mut batch = Batch::begin(node, node.config.now(), 0, crate::clock::unix_ms());
    let after = batch.run(session, &words, &mut out);
    batch.close(session, &mut out).finish(node).unwrap();
    (after, String::from_utf8(out).unwrap())
}

#[test]
fn where_connections_hold_all_replies_within_the_share_leave_and_others_wait() {
    let mut shell = bounded();
    let node = shell.node();
    shell.run(&format!("SET large {}", "x".repeat(100_000)));
    shell.run("SET small x");
    // With a hundred connections of a MiB together each has what an idle one takes.
    node.memory.bound(1 << 20, 100);
    let share = node.memory.share();
    assert!(share < 100_000, "{share}");
    let mut client = session(&node);
    let mut is_waiting = |command: &str| {
        let (after, told) = step(&node, &mut client, command);
        let is_waiting = matches!(after, After::Again(_));
        assert_eq!(is_waiting, told.is_empty(), "{command}: {after:?} {told}");
        is_waiting
    };
    assert!(!is_waiting("GET large"));
    fill(&node);
    assert!(!is_waiting("GET small") && !is_waiting("SET small y") && !is_waiting("PING"));
    assert!(is_waiting("GET large"), "a reply above the share");
    assert!(is_waiting("GET small"), "in order behind it, and nothing is read for it again");
    node.memory.pushes.store(0, Ordering::Relaxed);
    assert!(!is_waiting("GET large"));
    fill(&node);
    assert!(!is_waiting("GET small"), "it has had its answer");
    assert!(is_waiting("EVAL return(1) 0"), "a script may answer anything");
    // One that holds more than its share waits with whatever touches data.
    client.client.charged.store(share + 1, Ordering::Relaxed);
    let mut is_waiting =
        |command: &str| matches!(step(&node, &mut client, command).0, After::Again(_));
    assert!(is_waiting("GET small") && is_waiting("SET small z") && !is_waiting("PING"));
    node.memory.pushes.store(0, Ordering::Relaxed);
    assert!(!is_waiting("GET small") && !is_waiting("GET large"));
}

#[test]
fn a_subscriber_above_its_share_is_cut_off_and_one_below_is_not() {
    let shell = bounded();
    let node = shell.node();
    node.memory.bound(1 << 20, 100);
    let share = node.memory.share();
    let (slow, quick) = (session(&node).client, session(&node).client);
    fill(&node);
    slow.charged.store(share, Ordering::Relaxed);
    for client in [&slow, &quick] {
        client.push(&[b'x'; 1_000], Limit::default(), 1);
    }
    assert_eq!((slow.is_killed(), quick.is_killed()), (true, false));
    assert_eq!(quick.inbox.len(), 1_000);
    assert_eq!(node.memory.evicted.load(Ordering::Relaxed), 1);
}

/// A client of which so many bytes are counted, none of them read.
fn reader(node: &Node, unread: usize) -> (Arc<Client>, Charge) {
    let client = session(node).client;
    let mut charge = Charge::new(&node.memory);
    charge.set(Some(unread));
    client.charged.store(charge.bytes(), Ordering::Relaxed);
    client.reply_memory.store(unread, Ordering::Relaxed);
    (client, charge)
}

#[test]
fn the_slowest_readers_are_closed_once_they_had_their_time() {
    let shell = bounded();
    let node = shell.node();
    let mut watch = Watch::default();
    watch.look(&node, 1_000);
    let limit = node.memory.limit();
    let (slow, _of_slow) = reader(&node, limit / 2);
    let (reads, _of_reads) = reader(&node, limit / 2);
    let peer = session(&node).client;
    peer.is_peer.store(true, Ordering::Relaxed);
    peer.charged.store(limit, Ordering::Relaxed);
    watch.look(&node, 2_000);
    watch.look(&node, 2_400);
    assert!(!slow.is_killed(), "half a second is not over");
    reads.taken.fetch_add(1 << 30, Ordering::Relaxed);
    watch.look(&node, 2_600);
    let killed = [&slow, &reads, &peer].map(|client| client.is_killed());
    assert_eq!(killed, [true, false, false]);
    assert_eq!(node.memory.evicted.load(Ordering::Relaxed), 1);
    // It is on its way out, and nobody else has to go for it.
    watch.look(&node, 9_000);
    assert!(!reads.is_killed());
}

/// What is read of them in trickles frees nothing: nobody else would ever have their memory.
#[test]
fn readers_of_a_trickle_are_closed_and_those_that_wait_for_them_are_not() {
    let shell = bounded();
    let node = shell.node();
    let mut watch = Watch::default();
    watch.look(&node, 1_000);
    let limit = node.memory.limit();
    let (trickle, of_trickle) = reader(&node, limit / 2);
    let (waits, _of_waits) = reader(&node, limit / 2);
    waits.reply_memory.store(0, Ordering::Relaxed);
    waits.waits_for_room.store(true, Ordering::Relaxed);
    for look in 0..20 {
        watch.look(&node, 2_000 + look * 1_000);
        trickle.taken.fetch_add(32 << 10, Ordering::Relaxed);
    }
    assert_eq!([trickle.is_killed(), waits.is_killed()], [true, false]);
    // Where all wait for each other somebody goes.
    node.clients.remove(trickle.id);
    drop(of_trickle);
    let (other, _of_other) = reader(&node, limit / 2);
    other.reply_memory.store(0, Ordering::Relaxed);
    watch.look(&node, 30_000);
    assert!(!waits.is_killed(), "another one is waited for");
    other.waits_for_room.store(true, Ordering::Relaxed);
    watch.look(&node, 31_000);
    watch.look(&node, 37_000);
    assert!(waits.is_killed());
}

#[test]
fn the_database_takes_its_sizes_from_the_total_while_it_is_open() {
    let shell = Shell::new();
    let (node, mut watch) = (shell.node(), Watch::default());
    let store = node.engine().store.clone().unwrap();
    let before = store.sizes().unwrap();
    let mut takes = |total: &str, memtables: usize, hot: usize| {
        node.config.set(&[("maxmemory", total)]).unwrap();
        // A second.
        for _ in 0..10 {
            watch.look(&node, 1_000);
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while store.sizes().is_none_or(|now| (now.memtables, now.hot) != (memtables, hot)) {
            assert!(Instant::now() < deadline, "{:?}", store.sizes());
            std::thread::yield_now();
        }
    };
    takes("256mb", 48 << 20, 8 << 20);
    assert_eq!((node.memory.limit(), before.memtables), (48 << 20, 0));
    takes("0", 0, before.hot);
    assert_eq!(store.sizes(), Some(before));
    assert_eq!((node.memory.limit(), node.memory.is_over()), (0, false));
}
