//! Replies that waited for the set are checked again when they may leave; and what an
//! acknowledgement is worth with `durable-ack`.

use std::time::{Duration, Instant};

use super::*;

/// Whether the connection's write waits for the set; if not, it was refused.
fn waits(node: &Running, stream: &mut TcpStream) -> bool {
    let mut is_waiting = false;
    wait_until(|| {
        is_waiting = node.node.grants.commit.waiting() == 1;
        stream.set_nonblocking(true).unwrap();
        let is_answered = stream.peek(&mut [0]).is_ok();
        stream.set_nonblocking(false).unwrap();
        if is_waiting || is_answered {
            Ok(())
        } else {
            Err("it neither waits nor is answered".into())
        }
    });
    is_waiting
}

/// The set has the write, but another node may be master by then: the client must not take the
/// answer for that one's.
#[test]
fn a_reply_that_waited_does_not_leave_once_the_lease_is_over() {
    let node = master(|_| {});
    let mut puppet = Puppet::follow(&node);
    let mut controller = Controller::of(&[member_of(&node), puppet.member]);
    controller.lease_ms = 1_000;
    let mut writer = node.connect();
    wait_until(|| {
        // A busy machine may not come to the write before the lease is over.
        controller.grant(&node);
        writer = node.connect();
        send(&mut writer, &["SET", "k", "1"]);
        if waits(&node, &mut writer) { Ok(()) } else { Err("refused".into()) }
    });
    // A replica that returns no stamp lends nothing.
    wait_until(|| match node.node.grants.is_valid(clock::boottime_ns()) {
        true => Err("the lease is not over".into()),
        false => Ok(()),
    });
    let refused = node.ask(&["GET", "k"]);
    assert!(refused.starts_with("-CLUSTERDOWN"), "{refused}");
    assert_silent(&mut writer);
    puppet.ack(node.sequence(), 1, None);
    assert_closed(&mut writer);
    // It was written all the same.
    wait_until(|| {
        controller.grant(&node);
        match node.ask(&["GET", "k"]) {
            written if written == "1" => Ok(()),
            other => Err(other),
        }
    });
}

/// The answer to a command that waited for a key shows what was written. It waits for the set,
/// whichever thread sends it, and whichever members were waited for when the command came.
#[test]
fn what_is_handed_over_waits_for_a_set_that_began_meanwhile() {
    let node = master(|_| {});
    let mut controller = Controller::of(&[member_of(&node)]);
    assert_eq!(controller.grant(&node).standing.granted_epoch, 1);
    let mut waiting = node.connect();
    let begin = |stream: &mut TcpStream| {
        send(stream, &["BLMOVE", "{q}1", "{q}2", "LEFT", "LEFT", "0"]);
        wait_until(|| if node.node.waiters.any() { Ok(()) } else { Err("nobody waits".into()) });
    };
    begin(&mut waiting);
    // Nobody is waited for.
    assert_eq!(node.ask(&["RPUSH", "{q}1", "a"]), ":1");
    assert_eq!(answer(&mut waiting), "a");
    begin(&mut waiting);
    let mut puppet = Puppet::follow(&node);
    puppet.ack(node.sequence(), 1, None);
    wait_until(|| {
        controller.adopt(&node);
        let members = controller.members.to_string();
        if members.contains(&puppet.member.to_string()) { Ok(()) } else { Err(members) }
    });
    let mut pushing = node.connect();
    send(&mut pushing, &["RPUSH", "{q}1", "b"]);
    await_waiting(&node, 2, 0);
    assert_silent(&mut waiting);
    assert_silent(&mut pushing);
    puppet.ack(node.sequence(), 1, None);
    assert_eq!((answer(&mut waiting), answer(&mut pushing)), ("b".into(), ":1".into()));
}

/// Without leases the grant alone says who may answer.
#[test]
fn a_reply_that_waited_does_not_leave_once_the_grant_is_given_up() {
    let (node, controller, _puppet) =
        in_sync(|values| values.master_lease_mode = LeaseMode::Disabled, 1);
    let mut writer = node.connect();
    let before = node.sequence();
    send(&mut writer, &["SET", "k", "1"]);
    await_waiting(&node, 1, before + 1);
    let generation = node.node.engine().generation;
    node.node.grants.give_up();
    assert_closed(&mut writer);
    assert_eq!(node.node.engine().generation, generation, "the role is what it was");
    let refused = controller.try_grant(&node, &m());
    assert!(refused.contains("was opened before and given up"), "{refused}");
}

/// A client that is always ahead must not make the node hold all its answers.
#[test]
fn nothing_more_runs_once_too_many_bytes_of_answers_wait() {
    let (node, _, mut puppet) = in_sync(|_| {}, 1);
    let mut client = node.connect();
    let value = "v".repeat(100 << 10);
    let before = node.sequence();
    send(&mut client, &["SET", "long", &value]);
    await_waiting(&node, 1, before + 1);
    puppet.ack(before + 1, 1, None);
    assert_eq!(answer(&mut client), "+OK");
    let before = node.sequence();
    // In one packet. More than 256 KiB of answers wait before the last one.
    let get = &["GET", "long"][..];
    let all = [&["INCR", "a"][..], get, get, get, &["INCR", "b"]].map(|words: &[&str]| {
        wire::request(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>())
    });
    client.write_all(&all.concat()).unwrap();
    await_waiting(&node, 1, before + 1);
    assert_eq!(node.sequence(), before + 1, "the last one has not run");
    assert_silent(&mut client);
    puppet.ack(before + 1, 1, None);
    assert_eq!(answer(&mut client), ":1");
    for _ in 0..3 {
        assert_eq!(answer(&mut client).len(), value.len());
    }
    await_waiting(&node, 1, before + 2);
    puppet.ack(before + 2, 1, None);
    assert_eq!(answer(&mut client), ":1");
}

/// However short they are. With one worker, a command that is answered on another connection ran
/// after all that was sent before.
#[test]
fn nothing_more_runs_once_1024_answers_wait_one_by_one() {
    const GROUPS: u64 = 1_024;
    let (node, controller, mut puppet) = in_sync(|values| values.workers = 1, 1);
    let mut client = node.connect();
    let before = node.sequence();
    for number in 1..=GROUPS {
        if number % 128 == 0 {
            // All of them may take longer than a lease lasts.
            controller.grant(&node);
        }
        // Not sent before the last one ran, so that each is a batch of its own. A thousand rests
        // between the looks would take long.
        send(&mut client, &["INCR", "k"]);
        let end = Instant::now() + Duration::from_secs(20);
        while node.sequence() < before + number {
            assert!(Instant::now() < end, "{number} does not run");
            std::thread::yield_now();
        }
    }
    send(&mut client, &["INCR", "k"]);
    for _ in 0..5 {
        assert_eq!(node.ask(&["PING"]), "+PONG");
    }
    await_waiting(&node, 1, before + GROUPS);
    assert_eq!(node.sequence(), before + GROUPS, "the last one has not run");
    assert_silent(&mut client);
    puppet.ack(before + GROUPS, 1, None);
    for number in 1..=GROUPS {
        assert_eq!(answer(&mut client), format!(":{number}"));
    }
    await_waiting(&node, 1, before + GROUPS + 1);
    puppet.ack(before + GROUPS + 1, 1, None);
    assert_eq!(answer(&mut client), format!(":{}", GROUPS + 1));
}

/// What the set has is on its disks then, so a boot of a machine takes nothing of it away.
#[test]
fn with_durable_ack_acknowledged_is_on_the_disk_and_a_boot_makes_no_other_member() {
    for is_durable in [false, true] {
        let node = master(|values| values.durable_ack = is_durable);
        let member = member_of(&node).to_string();
        let standing = Controller::hello(&node).standing;
        assert_eq!((standing.boot.is_none(), member.ends_with("/-")), (is_durable, is_durable));
        let standing = Controller::of(&[member_of(&node)]).grant(&node).standing;
        assert_eq!(standing.granted_epoch, 1, "{member}");
        assert_eq!(node.ask(&["SET", "k", "1"]), "+OK");
        let engine = node.node.engine();
        assert_eq!(engine.store.as_ref().unwrap().options().sync_writes, is_durable);
    }
}

/// What a rewind put aside comes back as any write (rule R4).
#[test]
fn what_is_put_back_of_discarded_writes_waits_for_the_set_too() {
    let (node, _, mut puppet) = in_sync(|_| {}, 1);
    let mut operator = node.connect();
    send(&mut operator, &["AUTH", "secret"]);
    assert_eq!(answer(&mut operator), "+OK");
    let before = node.sequence();
    let apply = ["CLUSTERX", "DISCARDED", "APPLY", "0", "-", "RUN", "ABSENT", "SET", "k", "1", "0"];
    send(&mut operator, &apply);
    await_waiting(&node, 1, before + 1);
    assert_silent(&mut operator);
    puppet.ack(node.sequence(), 1, None);
    assert_eq!(answer(&mut operator), "applied");
}
