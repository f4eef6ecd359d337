//! A real database behind one socket, seen from its other end.

use std::time::Duration;

use api::moving::{Mark, find};
use api::proxy;
use storage::Store;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use topology::Cluster;

use super::*;
use crate::clients::PauseKind;
use crate::config::Values;
use crate::config::value::Networks;
use crate::gate::Role;
use crate::threads::surviving;

mod greeting;
mod idle;
mod lending;
mod long_reads;
mod memory;
mod moved;
mod places;
mod pushes;
mod tls;

const PATIENCE: Duration = Duration::from_secs(60);
const HOUR_NS: u64 = 3_600_000_000_000;

#[tokio::test]
async fn a_panic_ends_one_connection_only() {
    assert_eq!(surviving(async { 1 }).await, Ok(1));
    let panics = async {
        tokio::task::yield_now().await;
        assert_eq!(std::hint::black_box(1), 2, "told");
    };
    let told = surviving(panics).await.unwrap_err();
    assert!(told.contains("told"), "{told}");
}

/// Others do not learn of it from the connection itself: its session has gone.
#[tokio::test]
async fn a_panic_leaves_nothing_of_its_connection_behind() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), |_| {});
    let mut session = crate::shell::session(&node);
    let client = Arc::clone(&session.client);
    for command in ["HELLO 3", "WATCH a b", "CLIENT TRACKING ON", "SUBSCRIBE a", "MONITOR"] {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let mut batch = Batch::begin(&node, node.config.now(), 0, clock::unix_ms());
        batch.run(&mut session, &words, &mut Vec::new());
        batch.close(&session, &mut Vec::new()).finish(&node).unwrap();
    }
    let mut other = crate::shell::session(&node);
    let mut batch = Batch::begin(&node, node.config.now(), 0, clock::unix_ms());
    batch.run(&mut other, &[b"WATCH", b"a"], &mut Vec::new());
    batch.close(&other, &mut Vec::new()).finish(&node).unwrap();
    let known = |node: &Node| {
        (node.pubsub.any(), node.monitors.any(), node.tracking.any(), node.clients.len())
    };
    assert_eq!(known(&node), (true, true, true, 2));
    let panics = async move {
        let _session = session;
        assert_eq!(std::hint::black_box(1), 2, "told");
        End::Quit
    };
    attend(&node, &client, panics).await;
    assert_eq!(known(&node), (false, false, false, 1));
    assert_eq!(node.watches.watchers(), 1, "the other one watches on");
}

fn node(folder: &std::path::Path, change: impl FnOnce(&mut Values)) -> Arc<Node> {
    let mut values = Values { peer_auth: "secret".into(), ..crate::shell::small() };
    values.balancer_sources = Networks(vec!["127.0.0.1/32".parse().unwrap()]);
    values.protected_mode = false;
    change(&mut values);
    let node = crate::shell::node(folder, values, Cluster::default(), Role::Master);
    node.tls.start(&node.config).unwrap();
    node
}

/// Runs `test` with the balancer's end of a connection that `node` serves, and waits until the node
/// has let go of it.
fn served<F: Future<Output = ()>>(test: impl FnOnce(Arc<Node>, TcpStream) -> F) {
    served_by(|_| {}, test);
}

/// As [`served`], by a node with other options.
fn served_by<F: Future<Output = ()>>(
    change: impl FnOnce(&mut Values),
    test: impl FnOnce(Arc<Node>, TcpStream) -> F,
) {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), change);
    // One thread for what is slow: whoever has it decides when the rest may begin.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        let place = node.clients.places.enter(1_000, 8);
        let serving =
            serve(Seat { node: Arc::clone(&node), worker: 0, peers: None }, accepted, peer, place);
        let both = async { tokio::join!(serving, test(Arc::clone(&node), stream)) };
        tokio::time::timeout(PATIENCE, both).await.expect("an end");
    });
}

fn mark() -> Mark {
    Mark::new(*b"0123456789abcdef")
}

/// Client and frontend.
fn ends() -> (SocketAddr, SocketAddr) {
    ("10.0.0.1:5".parse().unwrap(), "10.0.9.1:6379".parse().unwrap())
}

fn header() -> Vec<u8> {
    let (client, frontend) = ends();
    proxy::encode_moving(client, frontend, 0, &mark())
}

/// Sends the header and `bytes`.
async fn say(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(&[&header(), bytes].concat()).await.unwrap();
}

/// What comes until the node closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

/// What a command of another client is answered.
fn ask(node: &Arc<Node>, command: &str) -> String {
    let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    let (mut session, mut out) = (crate::shell::session(node), Vec::new());
    let mut batch = Batch::begin(node, node.config.now(), 0, clock::unix_ms());
    let after = batch.run(&mut session, &words, &mut out);
    assert!(matches!(after, After::Next(_)), "{command}: {after:?}");
    batch.close(&session, &mut out).finish(node).unwrap();
    node.clients.remove(session.client.id);
    String::from_utf8(out).unwrap()
}

/// Keeps the thread for what is slow until the sender is dropped.
fn occupied() -> (std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    (sender, tokio::task::spawn_blocking(move || assert!(receiver.recv().is_err())))
}

#[test]
fn what_a_client_sent_before_its_end_is_run_and_answered() {
    served(|_, mut stream| async move {
        let sets = "SET k v\r\n".repeat(200_000);
        let (mut from, mut to) = stream.split();
        let sending = async {
            let end = [sets.as_bytes(), b"DBSIZE\r\nPING last\r\n", mark().bytes()].concat();
            to.write_all(&[header(), end].concat()).await.unwrap();
        };
        let mut answers = String::new();
        let ((), read) = tokio::join!(sending, from.read_to_string(&mut answers));
        read.unwrap();
        assert_eq!(answers.matches("+OK\r\n").count(), 200_000);
        assert!(answers.ends_with("+OK\r\n:1\r\n$4\r\nlast\r\n"));
    });
}

/// It is loaded on another thread, without the write gate.
#[test]
fn what_is_written_right_before_a_library_is_loaded_stays() {
    served(|_, mut stream| async move {
        say(&mut stream, b"APPEND k a\r\nFUNCTION LOAD x\r\nGET k\r\n").await;
        let expected = ":1\r\n-ERR Missing library metadata\r\n$1\r\na\r\n";
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    });
}

/// It is in the middle of a command, so it cannot begin with a handshake.
#[test]
fn a_session_in_clear_does_not_go_on_where_tls_alone_is_spoken() {
    for is_tls in [false, true] {
        served(|node, mut stream| async move {
            let now_ns = clock::boottime_ns();
            node.clients.pause(PauseKind::Write, now_ns + HOUR_NS, now_ns);
            say(&mut stream, b"GET k\r\nSET k v\r\n").await;
            stream.read_exact(&mut [0; 5]).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            let record = find(&bytes).and_then(|range| bytes.get(range)).expect("a trailer");
            node.clients.unpause();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut next = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (accepted, peer) = listener.accept().await.unwrap();
            let accepted =
                if is_tls { Stream::of_tls_port(accepted) } else { Stream::from(accepted) };
            let seat = Seat { node: Arc::clone(&node), worker: 0, peers: None };
            let serving = serve(seat, accepted, peer, node.clients.places.enter(1_000, 8));
            let going_on = async {
                let (client, frontend) = ends();
                let length = u32::try_from(record.len()).unwrap();
                let head = proxy::encode_moving(client, frontend, length, &mark());
                let all = [&head[..], record, &mark().bytes()[..]].concat();
                next.write_all(&all).await.unwrap();
                let answer = greeting::remains(&mut next).await;
                assert_eq!(answer, if is_tls { &b""[..] } else { b"+OK\r\n" });
            };
            tokio::join!(serving, going_on);
        });
    }
}

/// The end comes while a write waits for the end of a pause: it is answered by this node, or, if
/// the session is asked for, by the next.
#[test]
fn a_client_that_ended_its_side_waits_out_a_pause_or_moves() {
    served(|node, mut stream| async move {
        node.clients.pause(PauseKind::Write, clock::boottime_ns() + HOUR_NS, clock::boottime_ns());
        say(&mut stream, &[b"GET k\r\nSET k v\r\n", &mark().bytes()[..]].concat()).await;
        let mut first = [0; 5];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"$-1\r\n");
        node.clients.unpause();
        assert_eq!(rest(&mut stream).await, "+OK\r\n");
    });
    served(|node, mut stream| async move {
        node.clients.pause(PauseKind::Write, clock::boottime_ns() + HOUR_NS, clock::boottime_ns());
        say(&mut stream, &[b"GET k\r\nSET k v\r\n", &mark().bytes()[..]].concat()).await;
        let mut first = [0; 5];
        stream.read_exact(&mut first).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let record = find(&bytes).and_then(|range| bytes.get(range)).expect("a trailer");
        let moved = node.taken.open("secret", record, clock::unix_ms()).unwrap();
        assert_eq!(moved.unread, b"SET k v\r\n");
    });
}

/// Each command waits for a moment, and the next one is always there: what was run is let go of.
#[test]
fn a_client_that_is_always_one_waiting_command_ahead_does_not_grow() {
    served(|node, mut stream| async move {
        say(&mut stream, b"CLIENT REPLY OFF\r\n").await;
        let command = format!("BLPOP {} 0.000001\r\n", "k".repeat(1 << 15));
        for _ in 0..200 {
            stream.write_all(command.as_bytes()).await.unwrap();
        }
        stream.write_all(b"CLIENT REPLY ON\r\nPING\r\n").await.unwrap();
        let mut bytes = [0; 12];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"+OK\r\n+PONG\r\n");
        let client = node.clients.list().remove(0);
        let kept = client.query_bytes.load(Ordering::Relaxed);
        assert!(kept < 1 << 20, "{kept} bytes are kept");
    });
}

#[tokio::test]
async fn what_has_run_is_let_go_of_once_it_is_half_of_the_buffer() {
    let folder = tempfile::tempdir().unwrap();
    let seat = Seat { node: node(folder.path(), |_| {}), worker: 0, peers: None };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut connection = Connection::new(seat, stream, vec![0; 10 * READ_BYTES]);
    connection.start = 2 * READ_BYTES;
    connection.forget_served();
    assert_eq!((connection.start, connection.buffer.len()), (2 * READ_BYTES, 10 * READ_BYTES));
    connection.start = 6 * READ_BYTES;
    connection.forget_served();
    assert_eq!((connection.start, connection.buffer.len()), (0, 4 * READ_BYTES));
    connection.start = 4 * READ_BYTES;
    connection.forget_served();
    assert_eq!((connection.start, connection.buffer.capacity()), (0, 0));
}

/// More than a record holds, and more than sockets do: else the end behind it would not be seen.
#[test]
fn what_is_waited_for_is_not_given_to_one_that_is_gone_however_much_it_had_sent() {
    served(|node, mut stream| async move {
        say(&mut stream, b"BLPOP q 0\r\n").await;
        until(|| node.waiters.any()).await;
        stream.write_all(&b"PING\r\n".repeat(3 << 20)).await.unwrap();
        let client = node.clients.list().remove(0);
        until(|| client.query_bytes.load(Ordering::Relaxed) > 16 << 20).await;
        assert!(node.waiters.any(), "it is there, and waits on");
        stream.write_all(mark().bytes()).await.unwrap();
        until(|| !node.waiters.any()).await;
        assert_eq!(ask(&node, "RPUSH q v"), ":1\r\n");
        assert_eq!(rest(&mut stream).await, "");
        assert_eq!(ask(&node, "LLEN q"), ":1\r\n");
    });
}

#[test]
fn one_that_waits_and_sends_more_than_a_client_may_is_cut_off() {
    let change = |values: &mut Values| {
        values.client_query_buffer_limit = crate::config::value::Size(1 << 20);
    };
    served_by(change, |node, mut stream| async move {
        say(&mut stream, b"BLPOP q 0\r\n").await;
        until(|| node.waiters.any()).await;
        // The node may close before all is written.
        let _ = stream.write_all(&b"PING\r\n".repeat(1 << 20)).await;
        until(|| !node.waiters.any()).await;
        assert_eq!(ask(&node, "RPUSH q v"), ":1\r\n");
    });
}

#[test]
fn what_is_asked_of_a_node_does_not_begin_anew_at_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), |_| {});
    let session = crate::shell::session(&node);
    for (name, moves) in [("wait", true), ("dbsize", true), ("rdb load", false), ("eval", false)] {
        let words: Vec<&[u8]> = name.split(' ').map(str::as_bytes).collect();
        let (_, command) = crate::session::table::find(&node.config.now().renames, &words).unwrap();
        session.client.last_command.set(&command.row);
        assert_eq!(moving::is_repeatable(&session), moves, "{name}");
    }
}

/// However often it moves.
#[test]
fn one_that_waits_waits_elsewhere_for_what_is_left_of_its_time() {
    served(|node, mut stream| async move {
        say(&mut stream, b"BLPOP q 3600\r\nPING\r\n").await;
        until(|| node.waiters.any()).await;
        stream.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let record = find(&bytes).and_then(|range| bytes.get(range)).expect("a trailer");
        let moved = node.taken.open("secret", record, clock::unix_ms()).unwrap();
        let unread = String::from_utf8(moved.unread).unwrap();
        let words: Vec<&str> = unread.split("\r\n").collect();
        let ["*3", "$5", "BLPOP", "$1", "q", "$8", seconds, "PING", ""] = words[..] else {
            panic!("{unread}")
        };
        let seconds: f64 = seconds.parse().unwrap();
        assert!((3000.0..3600.0).contains(&seconds), "{seconds}");
    });
}

/// What a client that is gone waited for is for others; a session that is asked for begins its wait
/// anew at the next node.
#[test]
fn a_wait_ends_with_its_client_and_moves_with_its_session() {
    served(|node, mut stream| async move {
        say(&mut stream, b"BLPOP q 0\r\n").await;
        until(|| node.waiters.any()).await;
        stream.write_all(mark().bytes()).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
        assert!(!node.waiters.any());
    });
    served(|node, mut stream| async move {
        say(&mut stream, b"PING\r\nBLPOP q 0\r\nPING\r\n").await;
        until(|| node.waiters.any()).await;
        stream.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let record = find(&bytes).and_then(|range| bytes.get(range)).expect("a trailer");
        let moved = node.taken.open("secret", record, clock::unix_ms()).unwrap();
        assert_eq!(moved.unread, b"BLPOP q 0\r\nPING\r\n");
        assert!(bytes.starts_with(b"+PONG\r\n") && !node.waiters.any());
    });
}

#[test]
fn client_unblock_ends_a_wait_for_replicas() {
    served(|node, mut stream| async move {
        let unblocked = |error| {
            let client = node.clients.list().first().map(|client| client.id);
            client.is_some_and(|client| node.waiters.unblock(client, error))
        };
        say(&mut stream, b"SET k v\r\nWAIT 1 0\r\n").await;
        until(|| unblocked(None)).await;
        let mut answers = [0; 9];
        stream.read_exact(&mut answers).await.unwrap();
        assert_eq!(&answers, b"+OK\r\n:0\r\n");
        stream.write_all(b"WAIT 1 100000\r\n").await.unwrap();
        until(|| unblocked(Some("UNBLOCKED x"))).await;
        assert!(!unblocked(None));
        stream.write_all(mark().bytes()).await.unwrap();
        assert_eq!(rest(&mut stream).await, "-UNBLOCKED x\r\n");
    });
}

/// What may be the mark is not taken for the rest of a value, and what only began like it is.
#[test]
fn a_mark_in_pieces_completes_no_command() {
    served(|node, mut stream| async move {
        let begun = b"SET k 1\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nab";
        say(&mut stream, &[&begun[..], &mark().bytes()[..5]].concat()).await;
        let mut first = [0; 5];
        stream.read_exact(&mut first).await.unwrap();
        stream.write_all(b"01234\r\nGET k\r\n").await.unwrap();
        let mut second = [0; 24];
        stream.read_exact(&mut second).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&second), "+OK\r\n$12\r\nab0123401234\r\n");
        stream.write_all(&[&begun[9..], &mark().bytes()[..7]].concat()).await.unwrap();
        let held = |client: &Arc<Client>| client.query_bytes.load(Ordering::Relaxed) >= 30;
        until(|| node.clients.list().iter().any(held)).await;
        stream.write_all(&mark().bytes()[7..]).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
    });
}

#[test]
fn answers_that_come_later_obey_client_reply() {
    served(|_, mut stream| async move {
        let skipped = b"CLIENT REPLY SKIP\r\nDBSIZE\r\nSET a 1\r\nDBSIZE\r\n";
        let off = b"CLIENT REPLY OFF\r\nSET b 1\r\nDBSIZE\r\nCLIENT REPLY ON\r\n";
        let last = b"DBSIZE\r\n";
        say(&mut stream, &[&skipped[..], off, last, mark().bytes()].concat()).await;
        assert_eq!(rest(&mut stream).await, "+OK\r\n:1\r\n+OK\r\n:2\r\n");
    });
}

#[test]
fn a_count_that_nobody_waits_for_is_given_up() {
    served(|node, mut stream| async move {
        let (sender, slow) = occupied();
        say(&mut stream, b"SET a 1\r\nCLIENT REPLY SKIP\r\nDBSIZE\r\n").await;
        let mut first = [0; 5];
        stream.read_exact(&mut first).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let record = find(&bytes).and_then(|range| bytes.get(range)).expect("a trailer");
        let moved = node.taken.open("secret", record, clock::unix_ms()).unwrap();
        assert_eq!(moved.unread, b"DBSIZE\r\n");
        assert_eq!(moved.replies, api::moving::Replies::Skip(0), "as it was before");
        drop(sender);
        slow.await.unwrap();
        // Behind the count in the one queue.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        assert_eq!(node.keyspace.lock().at_ms, 0, "it was counted all the same");
    });
}

/// A balancer that moves nothing passes the end on as it is.
#[test]
fn a_plain_end_costs_no_answer() {
    served(|_, mut stream| async move {
        let (client, frontend) = ("10.0.0.1:5".parse().unwrap(), "10.0.9.1:6379".parse().unwrap());
        let header = proxy::encode(client, frontend);
        stream.write_all(&[&header[..], b"SET k v\r\nDBSIZE\r\n"].concat()).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await, "+OK\r\n:1\r\n");
    });
}
