//! The answer to a waiting command is sent by the thread that makes it.

use std::io::Read as _;

use super::pushes::{NO_LIMIT, expect};
use super::*;

const POPPED: &[u8] = b"*2\r\n$1\r\nq\r\n$1\r\nv\r\n";

/// Reads `POPPED` while the thread of the connection, which is this one, does nothing else.
fn read_at_once(stream: TcpStream) -> TcpStream {
    let mut stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = vec![0; POPPED.len()];
    stream.read_exact(&mut answer).expect("an answer that its connection does not send");
    assert_eq!(answer, POPPED);
    stream.set_nonblocking(true).unwrap();
    TcpStream::from_std(stream).unwrap()
}

#[test]
fn an_answer_leaves_before_its_connection_knows() {
    served(|node, mut stream| async move {
        say(&mut stream, b"BLPOP q 3600\r\n").await;
        until(|| node.waiters.any()).await;
        let client = node.clients.list().remove(0);
        let is_blocked = || client.shown.is_blocked.load(Ordering::Relaxed);
        assert!(is_blocked());
        let received = || node.stats.sum(|worker| &worker.bytes_in);
        let before = received();
        client.last_ms.store(1, Ordering::Relaxed);
        assert_eq!(ask(&node, "RPUSH q v"), ":1\r\n");
        assert!(!is_blocked() && !node.waiters.any());
        let last_ms = client.last_ms.load(Ordering::Relaxed);
        let idle_ms = clock::unix_ms().saturating_sub(last_ms);
        assert!(idle_ms < 60_000, "`timeout` counts from its answer on");
        let mut stream = read_at_once(stream);
        assert_eq!(client.taken.load(Ordering::Relaxed), 0);
        stream.write_all(b"PING\r\nBLPOP q 0\r\n").await.unwrap();
        expect(&mut stream, "+PONG\r\n").await;
        until(|| node.waiters.any()).await;
        let sent = POPPED.len() as u64 + 7;
        assert_eq!(client.taken.load(Ordering::Relaxed), sent, "each byte counts once");
        assert_eq!(received() - before, 17, "here as well");
        // Again, and to the end of the session: what has left is in no trailer.
        assert_eq!(ask(&node, "RPUSH q v"), ":1\r\n");
        let mut stream = read_at_once(stream);
        stream.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let record = find(&bytes).and_then(|range| bytes.get(range)).expect("a trailer");
        let moved = node.taken.open("secret", record, clock::unix_ms()).unwrap();
        assert!(moved.unread.is_empty());
    });
}

/// The time of the command ends after its answer has left.
#[test]
fn one_that_has_its_answer_is_not_told_that_its_time_is_over() {
    served(|node, mut stream| async move {
        say(&mut stream, b"BLPOP q 1\r\n").await;
        until(|| node.waiters.any()).await;
        assert_eq!(ask(&node, "RPUSH q v"), ":1\r\n");
        let mut stream = read_at_once(stream);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        stream.write_all(mark().bytes()).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
    });
}

#[test]
fn one_that_has_sent_more_goes_on_at_once() {
    for has_sent_before in [true, false] {
        served(|node, mut stream| async move {
            let first = if has_sent_before { "BLPOP q 0\r\nPING\r\n" } else { "BLPOP q 0\r\n" };
            say(&mut stream, first.as_bytes()).await;
            until(|| node.waiters.any()).await;
            if !has_sent_before {
                stream.write_all(b"PING\r\n").await.unwrap();
            }
            let client = node.clients.list().remove(0);
            until(|| client.query_bytes.load(Ordering::Relaxed) > 12).await;
            assert_eq!(ask(&node, "RPUSH q v"), ":1\r\n");
            let all = [std::str::from_utf8(POPPED).unwrap(), "+PONG\r\n"].concat();
            expect(&mut stream, &all).await;
            stream.write_all(mark().bytes()).await.unwrap();
            assert_eq!(rest(&mut stream).await, "");
        });
    }
}

#[test]
fn one_that_wants_no_replies_gets_none_from_others() {
    served(|node, mut stream| async move {
        say(&mut stream, b"CLIENT REPLY OFF\r\nBLPOP q 0\r\n").await;
        until(|| node.waiters.any()).await;
        assert_eq!(ask(&node, "RPUSH q v"), ":1\r\n");
        stream.write_all(&[&b"CLIENT REPLY ON\r\n"[..], mark().bytes()].concat()).await.unwrap();
        assert_eq!(rest(&mut stream).await, "+OK\r\n");
    });
}

/// Another client's tracking may lead its pushes here.
#[test]
fn a_push_comes_before_an_answer_or_behind_it() {
    const PUSH: &str = ">1\r\n$4\r\npush\r\n";
    let answer = std::str::from_utf8(POPPED).unwrap();
    for is_pushed_first in [true, false] {
        served(|node, mut stream| async move {
            say(&mut stream, b"HELLO 3\r\nBLPOP q 0\r\n").await;
            until(|| node.waiters.any()).await;
            let client = node.clients.list().remove(0);
            let mut hello = vec![0; 4096];
            let read = stream.read(&mut hello).await.unwrap();
            assert!(hello[..read].starts_with(b"%"));
            let push = || client.push(PUSH.as_bytes(), NO_LIMIT, clock::unix_ms());
            if is_pushed_first {
                push();
                expect(&mut stream, PUSH).await;
            }
            assert_eq!(ask(&node, "RPUSH q v"), ":1\r\n");
            if is_pushed_first {
                expect(&mut stream, answer).await;
            } else {
                push();
                expect(&mut stream, &[answer, PUSH].concat()).await;
            }
            stream.write_all(b"PING\r\n").await.unwrap();
            expect(&mut stream, "+PONG\r\n").await;
            stream.write_all(mark().bytes()).await.unwrap();
            assert_eq!(rest(&mut stream).await, "");
        });
    }
}

/// One sync is for all replies of a turn: each answer of its own would cost one.
#[test]
fn an_answer_that_waits_for_the_disk_is_sent_by_its_connection() {
    let durable = |values: &mut Values| values.durable_ack = true;
    served_by(durable, |node, mut stream| async move {
        say(&mut stream, b"BLPOP q 0\r\n").await;
        until(|| node.waiters.any()).await;
        let client = node.clients.list().remove(0);
        let store = node.engine().store.clone().unwrap();
        let (mut session, mut out) = (crate::shell::session(&node), Vec::new());
        let mut batch = Batch::begin(&node, node.config.now(), 0, clock::unix_ms());
        batch.run(&mut session, &[b"RPUSH", b"q", b"v"], &mut out);
        let ran = batch.close(&session, &mut out);
        assert!(store.published() < store.latest_sequence(), "nothing was synced for it alone");
        assert!(client.shown.is_blocked.load(Ordering::Relaxed), "nothing has left");
        ran.finish(&node).unwrap();
        node.clients.remove(session.client.id);
        expect(&mut stream, std::str::from_utf8(POPPED).unwrap()).await;
        stream.write_all(mark().bytes()).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
    });
}

/// The worker that pushes has other clients, too: a long answer would hold them up.
#[test]
fn a_long_answer_is_sent_by_its_connection() {
    served(|node, mut stream| async move {
        say(&mut stream, b"BLMPOP 0 1 q LEFT COUNT 100\r\n").await;
        until(|| node.waiters.any()).await;
        let client = node.clients.list().remove(0);
        let element = "e".repeat(64 << 10);
        let push = [&["RPUSH q"][..], &[element.as_str(); 30]].concat().join(" ");
        assert_eq!(ask(&node, &push), ":30\r\n");
        assert!(client.shown.is_blocked.load(Ordering::Relaxed), "nothing has left");
        let head = "*2\r\n$1\r\nq\r\n*30\r\n";
        let one = format!("${}\r\n{element}\r\n", element.len());
        expect(&mut stream, &[head, &one.repeat(30)].concat()).await;
        stream.write_all(mark().bytes()).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
    });
}
