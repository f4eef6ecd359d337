//! Scripted plans of nodes that answer with errors, and of a controller that cannot ask: neither is
//! a node's silence.

use super::grants::in_sync;
use super::*;

impl Script {
    fn complains(&mut self, name: &str, error: &str) {
        let now = self.now;
        self.observed.complained(&id(name), now, error);
    }
}

/// Without a lease that it needs, it serves as before.
#[test]
fn a_master_that_answers_with_errors_and_needs_no_lease_stays_master() {
    let mut s = in_sync(&["a", "b"]);
    s.answers_with("a", |reply| reply.lease_mode = LeaseMode::Disabled);
    s.acts();
    s.misses("a", 3);
    for _ in 0..50 {
        s.after_ms(200);
        s.answers_with("b", |_| {});
        s.complains("a", "ERR max number of clients reached");
        let plan = s.acts();
        assert_eq!(plan.shards[0].word(), "suspect", "{}", show(&plan));
        assert!(plan.leases.contains(&id("a")));
        assert!(!plan.actions.iter().any(|a| matches!(a, Action::CompareAndSwap { .. })));
    }
    s.answers_with("a", |_| {});
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        steady: 
    "#]]);
}

/// E.g. the controller's connection found no place: the heartbeat comes by way of a replica, and
/// renews the lease.
#[test]
fn a_master_that_complains_is_asked_through_a_replica_and_stays_while_that_is_answered() {
    let mut s = in_sync(&["a", "b"]);
    let mut relayed = 0;
    for _ in 0..50 {
        s.after_ms(200);
        s.answers_with("b", |_| {});
        s.complains("a", "ERR max number of clients reached");
        let plan = s.acts();
        assert_ne!(plan.shards[0].word(), "fencing", "{}", show(&plan));
        if plan.actions.iter().any(|action| matches!(action, Action::Relay { .. })) {
            relayed += 1;
            s.answers_with("a", |_| {});
            s.granted("a");
            let now = s.now;
            s.observed.nodes.entry(id("a")).or_default().relayed_at = Some(now);
        }
    }
    assert!(relayed > 10, "{relayed}");
}

/// E.g. its `peer-auth` was mistyped and it restarted: it has no lease, and serves nobody.
#[test]
fn a_master_that_errors_keep_from_its_lease_is_replaced_once_that_is_over() {
    let mut s = in_sync(&["a", "b"]);
    s.granted("a");
    let is_replaced =
        |plan: &Plan| plan.actions.iter().any(|a| matches!(a, Action::CompareAndSwap { .. }));
    let mut waited = 0;
    loop {
        s.answers_with("b", |_| {});
        s.complains("a", "NOAUTH Authentication required.");
        let plan = s.acts();
        if is_replaced(&plan) {
            break;
        }
        assert!(waited < 2_000, "{}", show(&plan));
        assert!(plan.wake_at.is_some(), "nothing else happens: {}", show(&plan));
        waited += 100;
        s.after_ms(100);
    }
    // Its lease of 1,000 ms, and the drift.
    assert_eq!(waited, 1_100);
    assert_eq!(s.record.shards[0].master().map(|node| node.id.clone()), Some(id("b")));
    s.balancer_answers(&[]);
    s.check(expect![[r#"
        push b: it has version 7, the record has 8
        balancers 3: lb0=- lb1=-
        leases: b
        grant b: epoch 4 least Some(0000000000000003) 100 request 0 of b/1/1
        settling: master b:1 takes over version 8
        alarm: a:1: answers with an error: NOAUTH Authentication required. (the controller's password is not its `peer-auth`: change that, or the controller's by `ctl set cluster --password-file`)
    "#]]);
}

#[test]
fn a_master_that_has_complained_and_then_is_silent_is_down() {
    let mut s = in_sync(&["a", "b"]);
    s.complains("a", "NOAUTH Authentication required.");
    s.after_ms(800);
    s.answers_with("b", |_| {});
    s.misses("a", 4);
    let plan = s.plan();
    assert_eq!(plan.shards[0].word(), "fencing", "{}", show(&plan));
}

#[test]
fn a_silent_node_is_told_of_once_it_is_down_and_gave_no_error() {
    let mut s = in_sync(&["a", "b"]);
    let told = |s: &Script| crate::silent(&s.record, &s.observed, &s.policy);
    s.misses("b", 3);
    assert_eq!(told(&s), Vec::<String>::new());
    s.misses("b", 4);
    assert_eq!(told(&s).len(), 1);
    assert!(told(&s)[0].starts_with("b:1: does not answer"), "{:?}", told(&s));
    // The error says more.
    s.complains("b", "NOAUTH Authentication required.");
    s.misses("b", 4);
    assert_eq!(told(&s), Vec::<String>::new());
}

#[test]
fn what_a_complaining_node_said_before_is_no_news_of_it() {
    let mut s = in_sync(&["a", "b"]);
    s.complains("b", "LOADING kvrocks is restoring the db from backup");
    s.misses("a", 4);
    let plan = s.plan();
    // The replica may not be what it was: no promotion rests on its old word.
    assert!(!plan.actions.iter().any(|action| matches!(action, Action::CompareAndSwap { .. })));
    assert_eq!(plan.shards[0].word(), "stuck", "{}", show(&plan));
}

#[test]
fn a_controller_that_cannot_ask_counts_no_silence() {
    let mut s = in_sync(&["a", "b"]);
    for beat in 0..50 {
        s.after_ms(200);
        let now = s.now;
        for name in ["a", "b"] {
            s.observed.unasked(&id(name), now, "this controller cannot open a connection");
        }
        let plan = s.plan();
        // The lease of the master is over then, and nobody else can be asked either.
        let word = if beat < 5 { "suspect" } else { "stuck" };
        assert_eq!(plan.shards[0].word(), word, "{beat}: {}", show(&plan));
        assert_eq!(plan.actions, []);
    }
}

/// What it said before it refused this controller is no news of it: a promotion would wait for its
/// answer for ever.
#[test]
fn a_replica_that_obeys_another_controller_is_no_candidate() {
    let mut s = in_sync(&["a", "b", "c"]);
    s.after_ms(1_000);
    s.observed.term = 3;
    s.record.term = 3;
    s.answers_with("c", |_| {});
    let led = crate::Led { term: 2, heard_at: None, at: s.now, store: None };
    s.observed.nodes.entry(id("b")).or_default().led = Some(led);
    let now = s.now;
    s.observed.heard(&id("b"), now);
    s.misses("a", 4);
    s.acts();
    s.balancer_answers(&[]);
    s.acts();
    s.after_ms(100);
    s.answers_with("c", |_| {});
    s.acts();
    assert_eq!(s.record.shards[0].master().map(|node| node.id.clone()), Some(id("c")));
}
