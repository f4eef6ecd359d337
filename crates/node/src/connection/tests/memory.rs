//! Connections of a node whose memory is short.

use super::*;

/// A part of a MiB for a hundred connections, of which so many bytes are in use.
fn in_use(node: &Node, bytes: usize) {
    node.memory.bound(1 << 20, 100);
    node.memory.pushes.store(bytes, Ordering::Relaxed);
}

const TIGHT: usize = 800 << 10;

#[test]
fn one_that_holds_more_than_its_share_reads_no_more_while_memory_is_tight() {
    served(|node, mut stream| async move {
        in_use(&node, TIGHT);
        let value = vec![b'x'; 400_000];
        say(&mut stream, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$400000\r\n").await;
        stream.write_all(&value[..200_000]).await.unwrap();
        let charged = || node.clients.list().first().map(|c| c.charged.load(Ordering::Relaxed));
        until(|| charged().is_some_and(|bytes| bytes > node.memory.share())).await;
        stream.write_all(&value[200_000..]).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
        let mut answer = [0; 5];
        let early =
            tokio::time::timeout(Duration::from_millis(200), stream.read(&mut answer)).await;
        assert!(early.is_err(), "it was read: {early:?}");
        in_use(&node, 0);
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"+OK\r\n");
        stream.write_all(mark().bytes()).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
    });
}

#[test]
fn one_that_holds_little_goes_on_and_gives_its_buffers_back() {
    served(|node, mut stream| async move {
        in_use(&node, TIGHT);
        say(&mut stream, b"SET k v\r\nGET k\r\nGET k\r\n").await;
        let mut answers = [0; 19];
        stream.read_exact(&mut answers).await.unwrap();
        assert_eq!(&answers, b"+OK\r\n$1\r\nv\r\n$1\r\nv\r\n");
        let idle = usize::try_from(crate::memory::parts::CONNECTION).unwrap();
        until(|| {
            let client = node.clients.list().remove(0);
            let bytes = client.charged.load(Ordering::Relaxed);
            bytes > 0 && bytes <= idle
        })
        .await;
        stream.write_all(mark().bytes()).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
        until(|| node.memory.bytes() == TIGHT).await;
    });
}

#[test]
fn what_a_command_waits_for_counts_until_it_is_answered() {
    served(|node, mut stream| async move {
        in_use(&node, 0);
        let keys: String = (0..1_000).map(|number| format!("k{number} ")).collect();
        say(&mut stream, format!("BLPOP {keys}0\r\n").as_bytes()).await;
        until(|| node.waiters.any()).await;
        let client = node.clients.list().remove(0);
        let charged = || client.charged.load(Ordering::Relaxed);
        until(|| charged() > 400_000).await;
        assert!(node.waiters.unblock(client.id, None));
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"*-1\r\n");
        let idle = usize::try_from(crate::memory::parts::CONNECTION).unwrap();
        until(|| charged() <= idle).await;
    });
}

#[test]
fn what_is_reserved_for_a_command_counts_before_it_has_come() {
    served(|node, mut stream| async move {
        in_use(&node, 0);
        say(&mut stream, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$900000\r\n").await;
        let charged = || node.clients.list().first().map(|c| c.charged.load(Ordering::Relaxed));
        until(|| charged().is_some_and(|bytes| bytes > 900_000)).await;
        node.clients.list().remove(0).kill();
        until(|| node.clients.is_empty()).await;
        assert_eq!(node.memory.bytes(), 0);
    });
}

/// There may be a million words of no bytes, and the place of each is remembered.
#[test]
fn words_of_a_command_count_before_it_has_come() {
    served(|node, mut stream| async move {
        node.memory.bound(8 << 20, 100);
        say(&mut stream, b"*1000000\r\n").await;
        stream.write_all(&b"$0\r\n\r\n".repeat(50_000)).await.unwrap();
        let charged = || node.clients.list().first().map(|c| c.charged.load(Ordering::Relaxed));
        until(|| charged().is_some_and(|bytes| bytes > 1_000_000)).await;
        node.clients.list().remove(0).kill();
        until(|| node.clients.is_empty()).await;
        assert_eq!(node.memory.bytes(), 0);
    });
}

#[tokio::test]
async fn less_is_kept_for_one_that_has_yet_to_say_who_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), |values| values.requirepass = "geheim".into());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let seat = Seat { node: Arc::clone(&node), worker: 0, peers: None };
    let connection = Connection::new(seat, stream, Vec::new());
    let mut session = crate::shell::session(&node);
    assert_eq!(connection.replies_max(&session), READ_BYTES);
    session.auth = crate::session::Auth::Client;
    assert_eq!(connection.replies_max(&session), REPLY_BYTES);
}

#[test]
fn one_that_waits_for_a_key_is_cut_off_where_all_is_in_use_and_it_sends_on() {
    served(|node, mut stream| async move {
        in_use(&node, 0);
        say(&mut stream, b"BLPOP q 0\r\n").await;
        until(|| node.waiters.any()).await;
        in_use(&node, 2 << 20);
        // It may be cut off before all is sent.
        drop(stream.write_all(&b"PING\r\n".repeat(20_000)).await);
        until(|| node.clients.is_empty()).await;
        assert_eq!(node.memory.evicted.load(Ordering::Relaxed), 1);
    });
}

/// Sets `k` to more than the sockets' buffers take, and returns how much that is.
async fn set_large(stream: &mut TcpStream) -> usize {
    let value = vec![b'x'; 48 << 20];
    say(stream, format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len()).as_bytes()).await;
    stream.write_all(&value).await.unwrap();
    stream.write_all(b"\r\n").await.unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    value.len()
}

#[test]
fn one_that_does_not_read_what_it_has_waited_for_waits_no_more() {
    served(|node, mut stream| async move {
        let length = set_large(&mut stream).await;
        in_use(&node, 2 << 20);
        stream.write_all(b"GET k\r\n").await.unwrap();
        let client = node.clients.list().remove(0);
        until(|| client.waits_for_room.load(Ordering::Relaxed)).await;
        in_use(&node, 0);
        until(|| client.reply_memory.load(Ordering::Relaxed) >= length).await;
        until(|| !client.waits_for_room.load(Ordering::Relaxed)).await;
        client.kill();
        until(|| node.clients.is_empty()).await;
        assert_eq!(node.memory.bytes(), 0);
    });
}

/// A reply that its client does not read is counted, whichever thread made it, until the client is
/// gone.
#[test]
fn a_reply_that_is_not_read_counts_and_its_client_may_be_closed() {
    served(|node, mut stream| async move {
        let length = set_large(&mut stream).await;
        in_use(&node, 0);
        stream.write_all(b"GET k\r\n").await.unwrap();
        let client = node.clients.list().remove(0);
        until(|| client.reply_memory.load(Ordering::Relaxed) >= length).await;
        assert!(node.memory.bytes() >= length);
        client.kill();
        until(|| node.clients.is_empty()).await;
        assert_eq!(node.memory.bytes(), 0);
    });
}
