//! `timeout`: who is idle, and who only waits.

use super::pushes::expect;
use super::*;
use crate::cron::close_idle;

const HOUR_MS: u64 = 3_600_000;

fn with_timeout(values: &mut Values) {
    values.timeout = 60;
}

#[test]
fn one_that_waits_for_a_key_is_idle_from_its_answer_on() {
    served_by(with_timeout, |node, mut stream| async move {
        say(&mut stream, b"BLPOP q 0\r\n").await;
        until(|| node.waiters.any()).await;
        let client = node.clients.list().remove(0);
        client.last_ms.store(1, Ordering::Relaxed);
        close_idle(&node, clock::unix_ms());
        assert!(!client.is_killed(), "it waits");
        assert!(node.waiters.unblock(client.id, None));
        expect(&mut stream, "*-1\r\n").await;
        close_idle(&node, clock::unix_ms());
        assert!(!client.is_killed(), "it has just been answered");
        close_idle(&node, clock::unix_ms() + HOUR_MS);
        assert_eq!(rest(&mut stream).await, "");
    });
}

#[test]
fn one_that_listens_is_not_idle() {
    served_by(with_timeout, |node, mut stream| async move {
        say(&mut stream, b"SUBSCRIBE a\r\n").await;
        expect(&mut stream, "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;
        let client = node.clients.list().remove(0);
        close_idle(&node, clock::unix_ms() + HOUR_MS);
        assert!(!client.is_killed(), "it waits for messages");
        stream.write_all(b"UNSUBSCRIBE a\r\n").await.unwrap();
        expect(&mut stream, "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n").await;
        close_idle(&node, clock::unix_ms() + HOUR_MS);
        assert_eq!(rest(&mut stream).await, "");
    });
    served_by(with_timeout, |node, mut stream| async move {
        say(&mut stream, b"MONITOR\r\n").await;
        expect(&mut stream, "+OK\r\n").await;
        close_idle(&node, clock::unix_ms() + HOUR_MS);
        assert!(!node.clients.list().remove(0).is_killed(), "it waits for commands of others");
    });
}

#[test]
fn one_that_reads_a_long_reply_is_not_idle() {
    served_by(with_timeout, |node, mut stream| async move {
        say(&mut stream, b"SETRANGE k 60000000 x\r\nGET k\r\n").await;
        stream.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
        let client = node.clients.list().remove(0);
        client.last_ms.store(1, Ordering::Relaxed);
        // More than the buffers of both sockets hold.
        stream.read_exact(&mut vec![0; 48 << 20]).await.unwrap();
        close_idle(&node, clock::unix_ms());
        assert!(!client.is_killed());
    });
}
