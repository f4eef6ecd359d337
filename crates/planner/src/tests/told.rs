//! What a person is told of a shard that serves.

use api::heartbeat::{Copied, Room};

use super::*;

#[test]
fn a_replica_without_a_stream_is_told_of_after_a_while() {
    let mut s = Script::serving(&["a", "b"]);
    s.answers_with("b", |reply| reply.link_status = LinkStatus::Connecting);
    let node = s.observed.nodes.get_mut(&id("b")).expect("b");
    node.unlinked_since = Some(s.now);
    s.after_ms(1_999);
    s.check(expect![[r#"
        leases: a
        steady: 
    "#]]);
    s.after_ms(1);
    s.check(expect![[r#"
        leases: a
        steady: 
        alarm: shard 0: replica b:1 does not follow its master: link connecting
    "#]]);
    s.observed.nodes.get_mut(&id("b")).expect("b").unlinked_since = None;
    assert!(s.plan().alarms.is_empty());
}

#[test]
fn why_a_replica_has_no_stream_is_told_in_words_that_stay() {
    let mut s = Script::serving(&["a", "b"]);
    s.observed.nodes.get_mut(&id("b")).expect("b").unlinked_since = Some(s.now);
    s.after_ms(2_000);
    let mut told = |change: &dyn Fn(&mut Reply)| {
        s.answers_with("b", |reply| change(reply));
        s.plan().alarms.into_iter().collect::<Vec<_>>()
    };
    let alarm = |why: &str| [format!("shard 0: replica b:1 does not follow its master: {why}")];
    let refused = "master refused auth: -WRONGPASS invalid username-password pair";
    let said = told(&|reply| {
        reply.link_status = LinkStatus::Connecting;
        reply.link_error = Some(refused.into());
    });
    assert_eq!(said, alarm(refused));
    // What failed before the sync began is over.
    let syncs = |done, of| {
        move |reply: &mut Reply| {
            reply.link_status = LinkStatus::Sync;
            reply.sync = Some(Copied { done, of });
        }
    };
    assert_eq!(told(&syncs(40, Some(100))), alarm("full sync at 40 %"));
    assert_eq!(told(&syncs(49, Some(100))), alarm("full sync at 40 %"));
    assert_eq!(told(&syncs(50, Some(100))), alarm("full sync at 50 %"));
    assert_eq!(told(&syncs(50, None)), alarm("full sync"));
}

fn clocks(ahead_ms: &[(&str, i64)]) -> std::collections::BTreeSet<String> {
    let mut s = Script::serving(&["a", "b", "c"]);
    for (name, ms) in ahead_ms {
        s.observed.nodes.get_mut(&id(name)).expect("a node").clock_ahead_ms = Some(*ms);
    }
    s.plan().alarms
}

#[test]
fn a_clock_that_is_off_is_told_of_and_whose_it_is() {
    assert!(clocks(&[("a", 0), ("b", 900), ("c", -1_000)]).is_empty());
    let said = clocks(&[("a", 3), ("b", 3_600_050), ("c", 0)]);
    expect![[r#"
        {
            "the clock of b:1 is ahead of this controller's by more than an hour: keys with an expiry live shorter or longer where it is master; is NTP running?",
        }
    "#]]
    .assert_debug_eq(&said);
    // The words do not change with every answer.
    assert_eq!(said, clocks(&[("a", 3), ("b", 3_612_345), ("c", 0)]));
    let said = clocks(&[("a", 61_000), ("b", 61_100), ("c", 60_900)]);
    expect![[r#"
        {
            "this controller's clock is behind those of all nodes by more than a minute: events have the wrong time",
        }
    "#]]
    .assert_debug_eq(&said);
}

#[test]
fn a_disk_that_is_nearly_full_is_told_of_before_it_is_full() {
    const GIB: u64 = 1 << 30;
    let said = |free, size| {
        let mut s = Script::serving(&["a", "b"]);
        s.answers_with("b", |reply| reply.room = Some(Room { free, size }));
        s.plan().alarms.into_iter().collect::<Vec<_>>()
    };
    assert!(said(5 * GIB, 100 * GIB).is_empty());
    let words = "the disk of b:1 is nearly full: less than a twentieth of it is free; make room, or the node ends when it is";
    assert_eq!(said(5 * GIB - 1, 100 * GIB), [words]);
    assert_eq!(said(GIB - 1, 100 * GIB), [words.replace("twentieth", "hundredth")]);
    // A twentieth of a large disk lasts.
    assert!(said(20 * GIB, 4_000 * GIB).is_empty());
    assert!(said(0, 0).is_empty(), "a file system that does not say");
}

#[test]
fn lost_writes_are_an_alarm_for_an_hour() {
    let mut s = Script::serving(&["a", "b"]);
    let until = s.now.plus_millis(crate::LOSS_MS);
    let id = s.record.shards[0].id;
    s.observed.losses.insert(id, (until, "22 writes are lost".to_owned()));
    s.observed.losses.insert(crate::ShardId(99), (until, "of a shard that is gone".to_owned()));
    assert_eq!(s.plan().alarms.into_iter().collect::<Vec<_>>(), ["shard 0: 22 writes are lost"]);
    s.after_ms(3_600_000);
    assert!(s.plan().alarms.is_empty());
}

#[test]
fn nobody_is_promoted_that_lacks_more_than_may_be_lost() {
    let mut s = Script::serving(&["a", "b"]);
    s.answers_with("a", |reply| reply.sequence = 122);
    s.record.max_lag = Some(21);
    s.misses("a", 4);
    s.check(expect![[r#"
        leases: a
        stuck: master a:1 is down; b:1 is further behind than max-lag allows (`ctl set cluster --max-lag`)
        alarm: shard 0: master a:1 is down, nobody can take over: b:1 is further behind than max-lag allows (`ctl set cluster --max-lag`)
    "#]]);
    s.record.max_lag = Some(22);
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b
        leases: 
        fencing: master a:1 is down; closing its frontends, waiting for a fence
    "#]]);
}

/// E.g. after a power loss of all machines: the replicas lag behind what there is, not behind what
/// is lost.
#[test]
fn max_lag_counts_from_the_process_that_was_granted() {
    let mut s = Script::serving(&["a", "b"]);
    s.record.max_lag = Some(10);
    s.answers_with("a", |reply| reply.sequence = 1_000);
    let restarted = |reply: &mut Reply| {
        reply.sequence = 110;
        reply.nonce = "2".into();
    };
    s.answers_with("a", restarted);
    let sequence = |s: &Script| s.observed.node(&id("a")).master_sequence;
    assert_eq!(sequence(&s), Some(1_000), "what it has lost is known until it is granted again");
    s.observed.nodes.get_mut(&id("a")).expect("a").lease_nonce = Some("2".into());
    s.answers_with("a", restarted);
    assert_eq!(sequence(&s), Some(110));
    s.answers_with("b", |reply| reply.sequence = 100);
    s.misses("a", 4);
    let plan = s.plan();
    assert_eq!(plan.shards[0].word(), "fencing", "{}", show(&plan));
}

/// `CLUSTERX SETNODES` by hand, with a digit too many: nothing would ever be above it.
#[test]
fn a_version_that_nothing_is_above_is_told_of_and_raises_none() {
    let most = topology::VERSION_MAX / 2;
    for mistyped in [most + 1, i64::MAX] {
        let mut s = Script::serving(&["a", "b", "c"]);
        s.answers_with("c", |reply| reply.version = mistyped);
        assert_eq!(s.plan().actions, []);
        let alarms: Vec<String> = s.plan().alarms.into_iter().collect();
        let [alarm] = alarms.as_slice() else { panic!("{alarms:#?}") };
        assert!(alarm.starts_with(&format!("c:1 has version {mistyped} of the topology")));
        assert!(alarm.ends_with("remove its nodes.conf, and start it again"), "{alarm}");
        // A failover is made with a version that the others take.
        s.after_ms(50);
        s.refuses("a", 2);
        s.acts();
        s.balancer_answers(&[]);
        for name in ["b", "c"] {
            s.answers_with(name, |_| {});
        }
        s.acts();
        assert_eq!(s.record.version, 8);
        assert_eq!(s.record.shards[0].master().map(|node| node.id.clone()), Some(id("b")));
    }
    let mut s = Script::serving(&["a", "b"]);
    s.answers_with("b", |reply| reply.version = most);
    s.acts();
    assert_eq!(s.record.version, most + 1);
    // What this store gave itself is no mistake of anybody's.
    s.answers_with("b", |reply| reply.version = most + 1);
    assert!(s.plan().alarms.is_empty());
}
