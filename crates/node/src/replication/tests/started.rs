//! Processes that have just started, and processes that are about to end.

use super::*;

impl Running {
    /// As a process starts: the log is held until its history is known to be the right one.
    fn start_held() -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::start_in(dir, 0, |_| {}, crate::config::engine::starting_options)
    }

    fn await_settled(&self) {
        wait_until(|| match self.store().is_holding() {
            true => Err("the log is held".into()),
            false => Ok(()),
        });
    }
}

/// Memtables that are not flushed keep their records in the log, where a rewind finds them.
#[test]
fn the_log_is_held_after_a_start_until_there_is_an_epoch_or_a_stream() {
    let (master, replica) = (Running::start_held(), Running::start_held());
    for node in [&master, &replica] {
        node.ask(&["PING"]);
        assert!(node.store().is_holding());
    }
    replica.follow(master.port);
    replica.await_up_with(&master);
    replica.await_settled();
    assert!(master.store().is_holding(), "nobody has told it anything");
    master.grant(1);
    master.await_settled();
}

/// Its successor would wait for it to catch up, and then for its end.
#[test]
fn a_node_that_is_demoted_while_it_stops_follows_nobody() {
    let (successor, node) = (Running::start(), Running::start());
    let follows = || {
        let is_linked = node.node.replication.link.lock().cancel.is_some();
        (is_linked, node.node.engine().role.is_master())
    };
    node.follow(successor.port);
    node.await_up_with(&successor);
    assert_eq!(follows(), (true, false));
    assert_eq!(node.ask(&["SLAVEOF", "NO", "ONE"]), "+OK");
    assert_eq!(follows(), (false, true));
    node.node.stopping.begin(1);
    node.follow(successor.port);
    assert_eq!(follows(), (false, false), "demoted all the same");
    assert_eq!(node.node.replication.link_status(), LinkStatus::Connecting);
}

/// The link that was there when the stop began was rung, and none after it.
#[test]
fn a_link_that_begins_while_the_node_stops_leaves_as_well() {
    let (master, replica) = (Running::start(), Running::start());
    replica.follow(master.port);
    replica.await_up_with(&master);
    let node = &replica.node;
    let is_gone = || match node.stopping.leave() {
        Some((::replication::wire::Leave::Gone, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    node.stopping.begin(1);
    wait_until(is_gone);
    // What was said on that stream says nothing of the next one.
    node.stopping.leaves(None, 1);
    let from = Endpoint { host: "127.0.0.1".to_owned(), port: master.port };
    let generation = node.engine().generation;
    crate::replication::follow(node, from, generation);
    wait_until(is_gone);
}

/// A link that finds another role ends where it is: what it wrote last is in memory alone.
#[test]
fn what_an_earlier_link_wrote_is_published_before_it_is_acknowledged() {
    let (master, replica) = (Running::start(), Running::start());
    replica.follow(master.port);
    replica.await_up_with(&master);
    crate::replication::stop(&replica.node);
    // It has ended.
    drop(replica.node.replication.one_link.lock());
    assert_eq!(master.ask(&["SET", "k", "v"]), "+OK");
    let (theirs, own) = (master.store(), replica.store());
    let read = theirs.feed().read(own.latest_sequence() + 1, 1 << 20).unwrap();
    let storage::FeedRead::Batches(batches) = read else { panic!("no batch") };
    for batch in &batches {
        own.write_raw(&batch.data).unwrap();
    }
    let latest = own.latest_sequence();
    assert!(own.published() < latest);
    let generation = replica.node.engine().generation;
    let from = Endpoint { host: "127.0.0.1".to_owned(), port: master.port };
    crate::replication::follow(&replica.node, from, generation);
    wait_until(|| match master.node.replication.acked() {
        acked if acked == [latest] => Ok(()),
        acked => Err(format!("{acked:?}")),
    });
    assert_eq!(own.published(), latest);
}

/// There may have been no thread or descriptor for it at that moment.
#[test]
fn a_link_that_could_not_begin_begins_later() {
    let (master, replica) = (Running::start(), Running::start());
    let streams = |wanted: usize| match master.node.replication.replicas().len() {
        count if count == wanted => Ok(()),
        count => Err(format!("{count} replicas")),
    };
    let await_streams = |wanted: usize| wait_until(|| streams(wanted));
    replica.follow(master.port);
    await_streams(1);
    crate::replication::follow_if_ended(&replica.node);
    // As where its thread never began: nobody listens to what it is told.
    replica.node.replication.link.lock().cancel = Some(watch::channel(false).0);
    await_streams(0);
    wait_until(|| {
        // It passes over a gate that somebody has, until the next look.
        crate::replication::follow_if_ended(&replica.node);
        streams(1)
    });
    replica.await_up_with(&master);
    crate::replication::stop(&replica.node);
    crate::replication::follow_if_ended(&replica.node);
    await_streams(0);
}
