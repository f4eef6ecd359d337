//! What a replica reports while it does not follow yet.

use super::*;

/// A value of INFO.
fn field<T: std::str::FromStr>(node: &Running, name: &str) -> Option<T> {
    let text = info(&node.node);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|value| value.parse().ok())
}

#[test]
fn a_full_sync_tells_how_far_it_is() {
    const BYTES: u64 = 6 << 20;
    let master = Running::start_with(|values| values.max_replication_mb = 1);
    let replica = Running::start();
    // Random, so that no compression makes it small; in tables, so that files are large.
    let value: String = (0..3 << 20).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
    for key in ["a", "b"] {
        master.ask(&["SET", key, &value]);
    }
    master.node.engine().store.as_ref().unwrap().flush().unwrap();
    assert_eq!(field::<u64>(&replica, "master_sync_total_bytes"), None);
    replica.node.resync.set_required(true);
    replica.follow(master.port);
    let seen = || -> Option<(u64, u64, u64, f64)> {
        Some((
            field(&replica, "master_sync_total_bytes")?,
            field(&replica, "master_sync_read_bytes")?,
            field(&replica, "master_sync_left_bytes")?,
            field(&replica, "master_sync_perc")?,
        ))
    };
    wait_until(|| match seen() {
        Some((of, done, left, percent)) if done > 0 && left > 0 => {
            assert!(of >= BYTES && percent > 0.0 && percent < 100.0, "{of} {percent}");
            Ok(())
        }
        other => Err(format!("{other:?}: {}", info(&replica.node))),
    });
    assert_eq!(field(&replica, "master_sync_in_progress"), Some(1));
    let told = crate::role::heartbeat_reply(&replica.node).sync.expect("a full sync");
    assert!(told.of >= Some(BYTES) && Some(told.done) < told.of, "{told:?}");
    assert_eq!(master.ask(&["CONFIG", "SET", "max-replication-mb", "0"]), "+OK");
    replica.await_up_with(&master);
    assert_eq!(seen(), None);
    assert_eq!(crate::role::heartbeat_reply(&replica.node).sync, None);
}

#[test]
fn what_only_somebody_can_mend_is_told() {
    let (master, replica) = (Running::start(), Running::start());
    let shows = |wanted: &str| {
        wait_until(|| match field::<String>(&replica, "master_sync_unrecoverable_error") {
            Some(shown) if shown == wanted => Ok(()),
            _ => Err(info(&replica.node)),
        });
    };
    // A master that is away may come back.
    replica.follow(1);
    wait_until(|| replica.node.replication.link_error().map(drop).ok_or("no attempt yet".into()));
    shows("no");
    assert_eq!(master.ask(&["CONFIG", "SET", "requirepass", "secret"]), "+OK");
    replica.follow(master.port);
    shows("yes");
    assert_eq!(replica.ask(&["CONFIG", "SET", "masterauth", "secret"]), "+OK");
    shows("no");
    let other = Running::start_with(|values| {
        values.db_name = "another".into();
        values.requirepass = "secret".into();
    });
    replica.follow(other.port);
    shows("yes");
}

#[test]
fn child_with_a_link() {
    if !crate::threads::tests::is_child() {
        return;
    }
    let pair = ClusterPair::start();
    pair.push(0, "1");
    pair.one.ask(&["SET", "k", "old"]);
    pair.push(1, "2");
    pair.two.ask(&["SET", "k", "new"]);
    // The link of the deposed one panics when its data is the master's.
    wait_until(|| Err("the process goes on without a link".into()));
}

#[test]
fn a_link_that_panics_ends_the_process() {
    let child = "replication::tests::progress::child_with_a_link";
    let (code, said) = crate::threads::tests::end_of_child(child);
    assert_eq!(code, Some(i32::from(crate::threads::EXIT_CODE)), "{said}");
    assert!(said.contains("told to panic"), "{said}");
}

#[test]
fn a_feed_that_panics_ends_its_connection_alone() {
    let node = Running::start();
    let mut feed = node.connect();
    let id = talk(&mut feed, &[&["CLIENT", "ID"]]).remove(0);
    let id: u64 = id.trim_start_matches(':').parse().unwrap();
    let client = node.node.clients.find(id).unwrap();
    let (port, own) = (node.port, Arc::clone(&node.node));
    block_on(async move {
        let socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let stream = crate::stream::Stream::from(socket).leave().unwrap();
        let facts = crate::session::ReplicaFacts::default();
        let detached =
            crate::session::Detached { stream, unread: Vec::new(), client, node: own, facts };
        let feed = async |detached: crate::session::Detached| {
            assert!(detached.unread.len() > 7, "told");
        };
        detached.attended("feed", feed).await;
    });
    assert!(node.node.clients.is_gone(id));
    assert_eq!(node.ask(&["PING"]), "+PONG");
}
