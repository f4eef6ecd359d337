//! Scripted stops: a master that is told to end hands over first, a replica gives sessions back.

use api::grant::Members;

use super::grants::{in_sync, member};
use super::*;
use crate::IntentResult;

fn members(names: &[&str]) -> Members {
    names.iter().map(|name| member(name)).collect()
}

fn stops(s: &mut Script, name: &str) {
    s.answers_with(name, |reply| reply.stopping = true);
}

fn written(s: &Script) -> Option<Record> {
    s.plan().actions.into_iter().find_map(|action| match action {
        Action::CompareAndSwap { record, .. } => Some(*record),
        _ => None,
    })
}

#[test]
fn a_master_that_is_stopped_hands_over() {
    let mut s = Script::serving(&["a", "b"]);
    stops(&mut s, "a");
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1: shard 0: master a:1 is being stopped
        leases: a
        switchover: shard 0: master a:1 is being stopped
    "#]]);
    s.acts();
    s.check(expect![[r#"
        pause a 3000 ms
        leases: a
        switchover: a:1 to b:1
    "#]]);
    s.acts();
    s.after_ms(10);
    s.answers_with("a", |reply| reply.paused = true);
    s.answers_with("b", |_| {});
    s.check(expect![[r#"
        balancers 2: lb0=hold lb1=hold
        store v8 a@lb1 b*@lb0: shard 0: switchover from a:1 to b:1 at 100
        leases: 
        switchover: shard 0: switchover from a:1 to b:1 at 100
    "#]]);
    s.acts();
    s.balancer_answers(&[]);
    s.acts();
    s.acts();
    s.answers("b", reply("b", 8, Does::Master));
    // Its old endpoint's sessions wait for its next process and are not led to this one.
    s.answers("a", Reply { stopping: true, ..reply("a", 8, Does::Slave) });
    s.check(expect![[r#"
        balancers 3: lb0=b lb1=hold
        leases: b
        steady: 
    "#]]);
}

#[test]
fn a_pause_of_failovers_keeps_nobody_from_handing_over() {
    let mut s = Script::serving(&["a", "b"]);
    s.record.paused = Some(crate::Paused { since_ms: 1, reason: String::new() });
    stops(&mut s, "a");
    assert!(written(&s).is_some(), "{}", show(&s.plan()));
}

#[test]
fn who_is_stopped_as_well_takes_nothing_over() {
    let mut s = Script::serving(&["a", "b", "c"]);
    stops(&mut s, "a");
    stops(&mut s, "b");
    s.acts();
    s.acts();
    s.after_ms(10);
    s.answers_with("a", |reply| reply.paused = true);
    s.answers_with("c", |_| {});
    let record = written(&s).expect("somebody takes over");
    assert_eq!(record.shards[0].master().map(|node| &node.id), Some(&id("c")));

    let mut s = Script::serving(&["a", "b"]);
    stops(&mut s, "a");
    stops(&mut s, "b");
    s.check(expect![[r#"
        balancers 2: lb0=a lb1=hold
        leases: a
        steady: 
        alarm: shard 0: master a:1 is being stopped, and nobody can take over: b:1 is being stopped
    "#]]);
}

/// Told to end while writes pause for it: nothing is lost, nothing is changed.
#[test]
fn a_replica_that_is_stopped_during_the_switchover_ends_it() {
    let mut s = Script::serving(&["a", "b"]);
    stops(&mut s, "a");
    s.acts();
    s.acts();
    s.after_ms(10);
    s.answers_with("a", |reply| reply.paused = true);
    stops(&mut s, "b");
    s.check(expect![[r#"
        balancers 2: lb0=a lb1=hold
        store v7 a*@lb0 b@lb1: shard 0: switchover given up: no replica can take over: b:1 is being stopped
        leases: a
        switchover: no replica can take over: b:1 is being stopped
    "#]]);
}

#[test]
fn what_failed_is_tried_again_after_a_moment() {
    let mut s = Script::serving(&["a", "b"]);
    let error = Some("b:1 did not catch up".into());
    s.record.shards[0].last_intent = Some(IntentResult { id: "stopping-1".into(), error });
    s.observed.concluded.insert(0, s.now);
    stops(&mut s, "a");
    s.after_ms(249);
    s.check(expect![[r#"
        leases: a
        steady: 
    "#]]);
    s.after_ms(1);
    assert!(written(&s).is_some(), "{}", show(&s.plan()));
}

#[test]
fn sessions_of_a_replica_that_is_stopped_wait_for_another_one_or_its_return() {
    let mut s = Script::serving(&["a", "b"]);
    stops(&mut s, "b");
    s.check(expect![[r#"
        balancers 2: lb0=a lb1=hold
        leases: a
        steady: 
    "#]]);
    s.acts();
    s.balancer_answers(&["a"]);
    s.after_ms(100);
    s.check(expect![[r#"
        ask b
        leases: a
        steady: 
    "#]]);
    s.answers("b", reply("b", 7, Does::Slave));
    s.check(expect![[r#"
        balancers 3: lb0=a lb1=b
        leases: a
        steady: 
    "#]]);
}

/// A replica is told to end, and its master is asked what it wants until it is in no set; with
/// `is_left` the master has asked for the set without it by now.
fn stopping_replica(is_left: bool) -> Script {
    let mut s = in_sync(&["a", "b"]);
    stops(&mut s, "b");
    let ask = Action::HeartbeatNow { node: id("a") };
    s.acts();
    s.balancer_answers(&["a"]);
    s.after_ms(50);
    assert!(s.plan().actions.contains(&ask), "{}", show(&s.plan()));
    if !is_left {
        return s;
    }
    s.answers_with("a", |reply| {
        reply.standing.request = 1;
        reply.standing.request_members = members(&["a"]);
    });
    let record = written(&s).expect("the set is adopted at once");
    assert_eq!(record.shards[0].epoch.in_sync, members(&["a"]));
    assert_eq!(record.shards[0].epoch.request, 1);
    s.acts();
    s.after_ms(50);
    assert!(s.plan().actions.contains(&ask), "told at once: {}", show(&s.plan()));
    s.observed.nodes.entry(id("a")).or_default().confirmed = Some((3, 1));
    assert!(!s.plan().actions.contains(&ask), "{}", show(&s.plan()));
    s
}

#[test]
fn the_set_without_a_replica_that_leaves_is_adopted_as_soon_as_its_master_asks() {
    let mut s = stopping_replica(false);
    s.check(expect![[r#"
        ask a
        ask b
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        steady: 
    "#]]);
    s.answers_with("a", |reply| {
        reply.standing.request = 1;
        reply.standing.request_members = members(&["a"]);
    });
    s.check(expect![[r#"
        ask b
        store v7 a*@lb0 b@lb1 epoch 3=3 process 1 request 1 of a/1/1: shard 0: in sync are a:1
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        settling: shard 0: in sync are a:1
    "#]]);
}

/// The record's master some time after a has died, and these answer.
fn heir(mut s: Script, left: &[&str]) -> Option<String> {
    s.refuses("a", 2);
    for _ in 0..4 {
        s.acts();
        s.balancer_answers(&[]);
        s.after_ms(10);
        left.iter().for_each(|name| s.answers_with(name, |_| {}));
    }
    s.record.shards[0].master().map(|node| node.id.clone())
}

/// It ends once its master has heard this, and what was acknowledged since it may not have.
#[test]
fn who_has_left_the_set_takes_nothing_over() {
    assert_eq!(heir(stopping_replica(true), &["b"]), Some(id("a")));
    // As long as the store has it, it is as good as any.
    assert_eq!(heir(stopping_replica(false), &["b"]), Some(id("b")));
}

/// Without its master's stream its process ends at once. What it has beyond the other one was not
/// acknowledged; without a set that is not known.
#[test]
fn a_member_that_is_about_to_end_takes_over_if_no_other_one_can() {
    let ahead = |mut s: Script| {
        stops(&mut s, "b");
        s.answers_with("b", |reply| reply.sequence = 101);
        s
    };
    assert_eq!(heir(ahead(in_sync(&["a", "b", "c"])), &["b", "c"]), Some(id("c")));
    assert_eq!(heir(ahead(Script::serving(&["a", "b", "c"])), &["b", "c"]), Some(id("b")));
}

/// Whether clients at the replica's endpoint are sent away by the plan.
fn is_given_up(s: &Script) -> bool {
    s.plan().actions.iter().any(|action| match action {
        Action::ApplyBalancers(desired) => desired.frontends.iter().any(|frontend| {
            frontend.listen.host == "lb1" && frontend.backend.is_none() && !frontend.hold
        }),
        _ => false,
    })
}

#[test]
fn a_replica_that_opens_a_large_database_is_waited_for() {
    let mut s = Script::serving(&["a", "b"]);
    stops(&mut s, "b");
    s.acts();
    s.balancer_answers(&[]);
    // Its process ends, and the next one takes connections and answers none.
    s.after_ms(500);
    s.refuses("b", 2);
    s.after_ms(2_499);
    s.misses("b", 12);
    assert!(!is_given_up(&s));
    s.after_ms(1);
    assert!(!is_given_up(&s), "{}", show(&s.plan()));
    // It refuses them again: there is none.
    s.refuses("b", 3);
    assert!(is_given_up(&s));
    s.observed.nodes.entry(id("b")).or_default().refused_at = None;
    s.after_ms(11_999);
    assert!(!is_given_up(&s));
    s.after_ms(1);
    assert!(is_given_up(&s), "not for ever");
}

/// The set that the new master begins with where its old one and another replica stop.
fn set_after(min_in_sync: u32) -> Members {
    let mut s = in_sync(&["a", "b", "c"]);
    s.record.min_in_sync = min_in_sync;
    stops(&mut s, "a");
    stops(&mut s, "b");
    s.acts();
    s.acts();
    s.after_ms(10);
    s.answers_with("a", |reply| reply.paused = true);
    for name in ["b", "c"] {
        s.answers_with(name, |_| {});
    }
    let record = written(&s).unwrap_or_else(|| panic!("{}", show(&s.plan())));
    assert_eq!(record.shards[0].master().map(|node| &node.id), Some(&id("c")));
    record.shards[0].epoch.in_sync.clone()
}

#[test]
fn a_new_master_does_not_begin_with_those_who_are_about_to_end() {
    assert_eq!(set_after(1), members(&["c"]));
    // But where writes would be refused without them.
    assert_eq!(set_after(2), members(&["b", "c"]));
}
