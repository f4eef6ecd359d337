//! Pushes: what a connection is sent without having asked.

use super::*;
use crate::inbox::Limit;
use crate::pubsub::Message;

pub(super) const NO_LIMIT: Limit = Limit { hard: 0, soft: 0, lasting: Duration::ZERO };

fn publish(node: &Node, channel: &str, text: &str) {
    let message = Message { is_shard: false, channel: channel.as_bytes(), text: text.as_bytes() };
    node.pubsub.publish(message, NO_LIMIT, clock::unix_ms());
}

pub(super) async fn expect(stream: &mut TcpStream, text: &str) {
    let mut bytes = vec![0; text.len()];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), text);
}

#[test]
fn pushes_come_between_replies_and_while_a_command_waits() {
    served(|node, mut stream| async move {
        say(&mut stream, b"CLIENT REPLY SKIP\r\nHELLO 3\r\nSUBSCRIBE a b\r\nPING\r\n").await;
        expect(&mut stream, ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;
        expect(&mut stream, ">3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n+PONG\r\n").await;
        publish(&node, "a", "1");
        expect(&mut stream, ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n1\r\n").await;
        stream.write_all(b"BLPOP q 0\r\n").await.unwrap();
        until(|| node.waiters.any()).await;
        publish(&node, "b", "2");
        expect(&mut stream, ">3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$1\r\n2\r\n").await;
        // Own messages come before the reply to the command that sent them.
        assert!(node.waiters.unblock(node.clients.list()[0].id, None));
        expect(&mut stream, "_\r\n").await;
        stream.write_all(b"PUBLISH a x\r\n").await.unwrap();
        expect(&mut stream, ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n:1\r\n").await;
        // After the word that a subscription is over nothing comes of it.
        publish(&node, "a", "last");
        stream.write_all(b"UNSUBSCRIBE\r\nPING\r\n").await.unwrap();
        expect(&mut stream, ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\nlast\r\n").await;
        expect(&mut stream, ">3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n").await;
        expect(&mut stream, ">3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n+PONG\r\n").await;
        assert!(!node.pubsub.any());
    });
}

#[test]
fn in_resp2_a_subscriber_asks_for_nothing_else() {
    served(|node, mut stream| async move {
        say(&mut stream, b"PSUBSCRIBE n*\r\nGET k\r\nPING\r\nRESET\r\nGET k\r\n").await;
        expect(&mut stream, "*3\r\n$10\r\npsubscribe\r\n$2\r\nn*\r\n:1\r\n").await;
        expect(&mut stream, "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n").await;
        expect(&mut stream, "*2\r\n$4\r\npong\r\n$0\r\n\r\n+RESET\r\n$-1\r\n").await;
        assert!(!node.pubsub.any());
    });
}

#[test]
fn subscriptions_move_with_their_session_and_end_with_their_client() {
    served(|node, mut stream| async move {
        say(&mut stream, b"SUBSCRIBE a\r\nPSUBSCRIBE p*\r\nSSUBSCRIBE s\r\n").await;
        let replies = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$10\r\npsubscribe\r\n$2\r\np*\r\n:2\r\n*3\r\n$10\r\nssubscribe\r\n$1\r\ns\r\n:1\r\n";
        expect(&mut stream, replies).await;
        stream.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let record = find(&bytes).and_then(|range| bytes.get(range)).expect("a trailer");
        let moved = node.taken.open("secret", record, clock::unix_ms()).unwrap();
        let names = |name: &str| vec![name.as_bytes().to_vec()];
        let all = api::moving::Subscriptions {
            channels: names("a"),
            patterns: names("p*"),
            shards: names("s"),
        };
        assert_eq!(moved.subscriptions, all);
        until(|| !node.pubsub.any()).await;
    });
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_off() {
    let change = |values: &mut Values| {
        values.set("client-output-buffer-limit", "pubsub 1mb 0 0").unwrap();
    };
    served_by(change, |node, mut stream| async move {
        say(&mut stream, b"SUBSCRIBE a\r\n").await;
        expect(&mut stream, "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;
        let limit = node.config.now().subscriber_limit();
        let text = vec![b'x'; 64 << 10];
        while node.pubsub.any() {
            let message = Message { is_shard: false, channel: b"a", text: &text };
            node.pubsub.publish(message, limit, clock::unix_ms());
            tokio::task::yield_now().await;
        }
        assert!(node.clients.is_empty());
    });
}

/// What a client has asked for itself is not held against it: it is none of those that subscribe.
#[test]
fn one_that_tracks_is_not_cut_off_in_the_middle_of_a_large_reply() {
    // Fewer than make a long read of it, however busy the machine is; more than the limit.
    const BYTES: usize = 200_000;
    // More than the kernel takes for one that does not read.
    const READS: usize = 200;
    let change = |values: &mut Values| {
        values.set("client-output-buffer-limit", "pubsub 64kb 0 0").unwrap();
    };
    served_by(change, |node, mut stream| async move {
        ask(&node, &format!("SET large {}", "x".repeat(BYTES)));
        let begin = "CLIENT REPLY SKIP\r\nHELLO 3\r\nCLIENT TRACKING ON\r\nGET small\r\n";
        say(&mut stream, [begin, &"GET large\r\n".repeat(READS)].concat().as_bytes()).await;
        until(|| !node.clients.is_empty()).await;
        let client = node.clients.list().remove(0);
        let unsent = || client.reply_bytes.load(Ordering::Relaxed);
        until(|| unsent() > BYTES && client.query_bytes.load(Ordering::Relaxed) > 0).await;
        assert_eq!(ask(&node, "SET small x"), "+OK\r\n");
        assert!(!client.is_killed());
        let reply = format!("${BYTES}\r\n{}\r\n", "x".repeat(BYTES));
        let push = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$5\r\nsmall\r\n";
        expect(&mut stream, "+OK\r\n_\r\n").await;
        let mut bytes = vec![0; READS * reply.len() + push.len()];
        stream.read_exact(&mut bytes).await.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.replace(push, "") == reply.repeat(READS), "a push within a reply");
    });
}

/// What has left the shard while the record was on its way.
#[test]
fn a_session_that_comes_is_told_of_shard_channels_that_are_elsewhere() {
    const ME: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    served(|node, mut stream| async move {
        // Their slots: 3300 and 15495.
        say(&mut stream, b"SUBSCRIBE a\r\nSSUBSCRIBE b\r\nSSUBSCRIBE a\r\n").await;
        stream.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let record = find(&bytes).and_then(|range| bytes.get(range)).expect("a trailer");
        let moved = node.taken.open("secret", record, clock::unix_ms()).unwrap();
        let mut cluster = Cluster::default();
        let change = cluster.prepare_set_node_id(ME.as_bytes(), true).unwrap();
        cluster.commit(change).unwrap();
        let lines = [
            format!("{ME} 10.0.0.1 6666 master - 0-8191"),
            format!("{OTHER} 10.0.0.2 6666 master - 8192-16383"),
        ];
        let change =
            cluster.prepare_set_nodes(lines.join("\n").as_bytes(), 1, false, &|_| false).unwrap();
        cluster.commit(change).unwrap();
        let values = Values { cluster_enabled: true, ..crate::shell::small() };
        let folder = tempfile::tempdir().unwrap();
        let next = crate::shell::node(folder.path(), values, cluster, Role::Master);
        let mut session = crate::shell::session(&next);
        crate::connection::moving::unpack(&next, &mut session, moved, &next.config.now());
        let mut told = Vec::new();
        session.client.inbox.take(&mut told);
        let told = String::from_utf8(told).unwrap().replace("\r\n", " ");
        assert_eq!(told, "*3 $12 sunsubscribe $1 a :1 ");
        assert_eq!(next.pubsub.names(true, None), [b"b".to_vec()]);
        assert_eq!(next.pubsub.names(false, None), [b"a".to_vec()]);
    });
}

/// As redis-server 7.0: what subscriptions answer are pushes.
#[test]
fn a_client_that_wants_no_replies_is_told_of_its_subscriptions_and_gets_all_messages() {
    served(|node, mut stream| async move {
        say(&mut stream, b"CLIENT REPLY OFF\r\nSUBSCRIBE a\r\nPING\r\n").await;
        expect(&mut stream, "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;
        publish(&node, "a", "last");
        stream.write_all(b"UNSUBSCRIBE a\r\nGET k\r\n").await.unwrap();
        expect(&mut stream, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\nlast\r\n").await;
        expect(&mut stream, "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n").await;
        let skip = b"CLIENT REPLY ON\r\nCLIENT REPLY SKIP\r\nSUBSCRIBE b\r\nPING\r\n";
        stream.write_all(skip).await.unwrap();
        expect(&mut stream, "+OK\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:1\r\n").await;
        expect(&mut stream, "*2\r\n$4\r\npong\r\n$0\r\n\r\n").await;
    });
}

/// Messages that stand behind a reply that waits for replicas have left the inbox, and count on.
#[tokio::test]
async fn what_stands_behind_held_replies_counts_against_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), |_| {});
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let client = node.clients.add(peer, peer, Via::Direct, 0);
    let session = Session::new(Arc::clone(&client), &node.config.now(), false);
    let seat = Seat { node: Arc::clone(&node), worker: 0, peers: None };
    let mut connection = Connection::new(seat, stream, Vec::new());
    connection.held.push(&mut b"+OK\r\n".to_vec(), None, Begun { at: Instant::now(), commands: 1 });
    let limit = Limit { hard: 100, soft: 0, lasting: Duration::ZERO };
    for is_killed in [false, true] {
        client.push(&[b'x'; 60], limit, 1);
        connection.take_pushes(&session);
        assert_eq!((client.is_killed(), client.inbox.is_empty()), (is_killed, true));
    }
}

#[test]
fn monitor_shows_what_others_run() {
    served(|node, mut stream| async move {
        say(&mut stream, b"MONITOR\r\n").await;
        expect(&mut stream, "+OK\r\n").await;
        let client = node.clients.list().remove(0);
        node.monitors.tell(&client, &[b"GET", b"k"], Duration::from_micros(1_500_000), NO_LIMIT);
        expect(&mut stream, "+1.500000 [0 10.0.0.1:5] \"GET\" \"k\"\r\n").await;
        stream.write_all(b"RESET\r\n").await.unwrap();
        let mut bytes = [0; 256];
        let read = stream.read(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
        assert!(text.ends_with("+RESET\r\n"), "{text}");
        assert!(!node.monitors.any());
    });
}
