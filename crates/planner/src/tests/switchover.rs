//! Scripted switchovers: carried out, given up, and overtaken by a fault of either side.

use super::*;

fn intent() -> Intent {
    Intent {
        id: "i".into(),
        preferred: None,
        force: false,
        sync_timeout_ms: 1_000,
        pause_ms: 3_000,
        accept_loss: false,
    }
}

/// As far as the replica has everything: the next plan names it in the store.
fn caught_up() -> Script {
    let mut s = Script::serving(&["a", "b"]);
    s.record.shards[0].intent = Some(intent());
    s.check(expect![[r#"
        pause a 3000 ms
        leases: a
        switchover: a:1 to b:1
    "#]]);
    s.acts();
    s.after_ms(10);
    s.answers_with("a", |reply| {
        reply.paused = true;
        reply.sequence = 120;
    });
    s.check(expect![[r#"
        ask b
        leases: a
        switchover: a:1 waits for b:1
    "#]]);
    s.after_ms(10);
    s.answers_with("b", |reply| reply.sequence = 120);
    s
}

#[test]
fn switchover() {
    let mut s = caught_up();
    // Both nodes lose their sessions while the store is written.
    s.check(expect![[r#"
        balancers 2: lb0=hold lb1=hold
        store v8 a@lb1 b*@lb0: shard 0: switchover from a:1 to b:1 at 120
        leases: 
        switchover: shard 0: switchover from a:1 to b:1 at 120
    "#]]);
    s.acts();
    // The store names b, but it hears nothing before a has let go, and a not before its sessions
    // have left it.
    s.check(expect![[r#"
        ask a
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
    s.after_ms(5);
    s.balancer_answers(&["a"]);
    s.check(expect![[r#"
        ask a
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
    s.balancer_answers(&[]);
    s.check(expect![[r#"
        push a: it has version 7, the record has 8
        ask a
        store v8 a@lb1 b*@lb0: shard 0: a:1 is fenced: every balancer cut it off
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
    s.acts();
    s.check(expect![[r#"
        push b: it has version 7, the record has 8
        ask a
        leases: b
        settling: master b:1 takes over version 8
    "#]]);
    s.acts();
    s.answers("a", reply("a", 8, Does::Slave));
    s.check(expect![[r#"
        balancers 3: lb0=hold lb1=a
        leases: b
        settling: master b:1 takes over version 8
    "#]]);
    s.acts();
    s.answers("b", reply("b", 8, Does::Master));
    s.check(expect![[r#"
        balancers 4: lb0=b lb1=a
        leases: b
        steady: 
    "#]]);
    s.acts();
    s.balancer_answers(&["a", "b"]);
    s.check(expect![[r#"
        leases: b
        steady: 
    "#]]);
}

/// The record names it long before: an operator who is told so goes on to stop the old one.
#[test]
fn a_switchover_is_done_once_the_new_master_answers_as_such() {
    let mut s = caught_up();
    let is_done = |s: &Script| crate::serves(&s.record, &s.observed, &s.policy, 0);
    assert!(is_done(&s), "by the old master");
    s.acts();
    assert!(!is_done(&s), "the store names the new one");
    s.after_ms(5);
    s.balancer_answers(&[]);
    s.acts();
    assert!(s.record.shards[0].fence.is_none() && !is_done(&s), "the old one is fenced");
    s.acts();
    s.answers("b", reply("b", 7, Does::Master));
    assert!(!is_done(&s), "it has not heard of it");
    s.answers("b", reply("b", 8, Does::Slave));
    assert!(!is_done(&s));
    s.answers("b", reply("b", 8, Does::Master));
    s.answers_with("b", |reply| reply.lease_remaining_ms = 0);
    assert!(!is_done(&s), "it may not serve yet");
    s.answers_with("b", |reply| reply.lease_remaining_ms = 900);
    assert!(is_done(&s));
}

/// Until it has compared its data with its successor's it refuses reads, so sessions wait.
#[test]
fn sessions_of_the_replica_are_held_until_the_former_master_has_compared_its_data() {
    let mut s = caught_up();
    s.acts();
    s.after_ms(5);
    s.balancer_answers(&[]);
    s.acts();
    s.acts();
    s.answers("a", reply("a", 8, Does::Slave));
    let leads = |s: &mut Script| {
        s.acts();
        let frontends = s.observed.desired.clone().expect("a demand").frontends;
        let of_replica = frontends.into_iter().find(|frontend| frontend.listen.host == "lb1");
        let of_replica = of_replica.expect("a frontend");
        (of_replica.backend.map(|at| at.node), of_replica.hold)
    };
    for resync in [Resync::Required, Resync::Running] {
        s.answers_with("a", |reply| reply.resync = resync);
        assert_eq!(leads(&mut s), (None, true), "{resync:?}");
    }
    s.answers_with("a", |reply| reply.resync = Resync::None);
    assert_eq!(leads(&mut s), (Some(id("a")), false));
}

#[test]
fn sessions_that_do_not_leave_delay_the_demotion_for_a_while_and_wait_for_a_while() {
    let mut s = caught_up();
    s.acts();
    s.after_ms(499);
    s.check(expect![[r#"
        ask b
        ask a
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
    s.after_ms(1);
    s.answers_with("b", |_| {});
    s.check(expect![[r#"
        push a: it has version 7, the record has 8
        ask a
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
    s.acts();
    s.after_ms(2_499);
    s.answers_with("a", |_| {});
    s.answers_with("b", |_| {});
    s.check(expect![[r#"
        push a: it has version 7, the record has 8
        store v8 a@lb1 b*@lb0: shard 0: a:1 is fenced: its lease is over; not within its pause: writes it took meanwhile may be lost
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
    // Held long enough.
    s.after_ms(1);
    s.check(expect![[r#"
        push a: it has version 7, the record has 8
        balancers 3: lb0=- lb1=-
        store v8 a@lb1 b*@lb0: shard 0: a:1 is fenced: its lease is over; not within its pause: writes it took meanwhile may be lost
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
}

#[test]
fn a_switchover_that_loses_against_another_change_of_the_store_keeps_holding() {
    let mut s = caught_up();
    let record = s.record.clone();
    s.acts();
    s.record = record;
    s.check(expect![[r#"
        ask a
        store v8 a@lb1 b*@lb0: shard 0: switchover from a:1 to b:1 at 120
        leases: 
        switchover: shard 0: switchover from a:1 to b:1 at 120
    "#]]);
    // Given up after all: everybody goes on at the old master.
    s.record.shards[0].intent = None;
    s.check(expect![[r#"
        unpause a: the switchover is over
        balancers 3: lb0=a lb1=b
        leases: a
        steady: 
    "#]]);
}

/// Where no balancer can hold, frontends are closed when the old master hears of it, not before.
#[test]
fn switchover_behind_haproxy() {
    let mut s = caught_up();
    s.record.balancers[0].kind = BalancerKind::Haproxy;
    s.check(expect![[r#"
        store v8 a@lb1 b*@lb0: shard 0: switchover from a:1 to b:1 at 120
        leases: 
        switchover: shard 0: switchover from a:1 to b:1 at 120
    "#]]);
    s.acts();
    s.check(expect![[r#"
        push a: it has version 7, the record has 8
        balancers 2: lb0=- lb1=-
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
    s.acts();
    s.answers("a", reply("a", 8, Does::Slave));
    s.check(expect![[r#"
        store v8 a@lb1 b*@lb0: shard 0: a:1 is fenced: it acknowledged its demotion
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
    s.acts();
    s.check(expect![[r#"
        push b: it has version 7, the record has 8
        balancers 3: lb0=- lb1=a
        leases: b
        settling: master b:1 takes over version 8
    "#]]);
    s.acts();
    s.answers("b", reply("b", 8, Does::Master));
    s.check(expect![[r#"
        balancers 4: lb0=b lb1=a
        leases: b
        steady: 
    "#]]);
}

#[test]
fn switchover_is_given_up_when_the_replica_does_not_catch_up() {
    let mut s = Script::serving(&["a", "b"]);
    s.record.shards[0].intent = Some(intent());
    s.acts();
    s.after_ms(10);
    s.answers_with("a", |reply| {
        reply.paused = true;
        reply.sequence = 120;
    });
    s.after_ms(990);
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1: shard 0: switchover given up: b:1 did not catch up: it is at 100 of 120
        leases: a
        switchover: b:1 did not catch up: it is at 100 of 120
    "#]]);
    s.acts();
    s.check(expect![[r#"
        unpause a: the switchover is over
        leases: a
        steady: 
    "#]]);
}

#[test]
fn switchover_whose_old_master_vanishes_waits_for_another_fence() {
    let mut s = Script::serving(&["a", "b"]);
    s.record.shards[0].intent = Some(intent());
    s.acts();
    s.after_ms(10);
    s.answers_with("a", |reply| reply.paused = true);
    s.answers_with("b", |reply| reply.sequence = 100);
    s.acts();
    assert!(s.record.shards[0].fence.is_some());
    s.misses("a", 4);
    s.acts();
    s.check(expect![[r#"
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
    s.balancer_answers(&[]);
    s.check(expect![[r#"
        store v8 a@lb1 b*@lb0: shard 0: a:1 is fenced: every balancer cut it off; not within its pause: writes it took meanwhile may be lost
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
}

#[test]
fn switchover_whose_new_master_vanishes_goes_back() {
    let mut s = Script::serving(&["a", "b"]);
    s.record.shards[0].intent = Some(intent());
    s.acts();
    s.after_ms(10);
    s.answers_with("a", |reply| reply.paused = true);
    s.answers_with("b", |reply| reply.sequence = 100);
    s.acts();
    s.refuses("b", 2);
    s.check(expect![[r#"
        store v9 a*@lb0 b@lb1: shard 0: b:1 is down before it took over
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
}

/// On an idle shard the answer from before the pause already shows the paused sequence: it says
/// nothing of whether the replica still lives.
#[test]
fn a_replica_that_fell_silent_before_the_pause_is_not_made_master() {
    let mut s = Script::serving(&["a", "b"]);
    s.record.shards[0].intent = Some(intent());
    s.after_ms(1);
    s.acts();
    s.after_ms(10);
    s.answers_with("a", |reply| reply.paused = true);
    s.check(expect![[r#"
        ask b
        leases: a
        switchover: a:1 waits for b:1
    "#]]);
    s.after_ms(600);
    s.misses("b", 3);
    s.answers_with("a", |_| {});
    s.check(expect![[r#"
        ask b
        leases: a
        switchover: a:1 waits for b:1
    "#]]);
    // The time to catch up is over.
    s.after_ms(390);
    s.answers_with("a", |_| {});
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1: shard 0: switchover given up: b:1 has not answered since writes were paused
        leases: a
        switchover: b:1 has not answered since writes were paused
    "#]]);
    s.acts();
    s.check(expect![[r#"
        unpause a: the switchover is over
        leases: a
        steady: 
    "#]]);
}

#[test]
fn not_even_force_makes_a_silent_replica_master() {
    let mut s = Script::serving(&["a", "b"]);
    s.record.shards[0].intent = Some(Intent { force: true, ..intent() });
    s.after_ms(1);
    s.acts();
    s.after_ms(999);
    s.answers_with("a", |reply| {
        reply.paused = true;
        reply.sequence = 120;
    });
    s.misses("b", 3);
    s.check(expect![[r#"
        ask b
        leases: a
        switchover: a:1 waits for b:1
    "#]]);
    s.after_ms(1);
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1: shard 0: switchover given up: b:1 has not answered since writes were paused
        leases: a
        switchover: b:1 has not answered since writes were paused
    "#]]);
    s.answers_with("b", |reply| reply.sequence = 110);
    s.check(expect![[r#"
        balancers 2: lb0=hold lb1=hold
        store v8 a@lb1 b*@lb0: shard 0: switchover from a:1 to b:1 at 110
        leases: 
        switchover: shard 0: switchover from a:1 to b:1 at 110
    "#]]);
}

/// Nobody was asked for by name: the one that answers and has everything takes over, although
/// another is first in order.
#[test]
fn a_silent_replica_does_not_keep_another_from_taking_over() {
    let mut s = Script::serving(&["a", "b", "c"]);
    s.record.shards[0].intent = Some(intent());
    s.after_ms(1);
    s.acts();
    s.after_ms(10);
    s.answers_with("a", |reply| reply.paused = true);
    s.misses("b", 1);
    s.check(expect![[r#"
        ask b
        ask c
        leases: a
        switchover: a:1 waits for b:1, c:1
    "#]]);
    s.answers_with("c", |_| {});
    s.check(expect![[r#"
        balancers 2: lb0=hold lb1=b lb2=hold
        store v8 a@lb2 b@lb1 c*@lb0: shard 0: switchover from a:1 to c:1 at 100
        leases: 
        switchover: shard 0: switchover from a:1 to c:1 at 100
    "#]]);
}

/// The store names it, and nothing has happened yet that cannot be undone: the old master is told
/// only while its successor is known to answer.
#[test]
fn the_old_master_is_not_demoted_for_a_successor_that_fell_silent() {
    let mut s = caught_up();
    s.record.balancers[0].kind = BalancerKind::Haproxy;
    s.acts();
    s.after_ms(101);
    s.misses("b", 1);
    s.check(expect![[r#"
        ask b
        balancers 2: lb0=- lb1=-
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
    // It answers again.
    s.answers_with("b", |_| {});
    s.check(expect![[r#"
        push a: it has version 7, the record has 8
        balancers 2: lb0=- lb1=-
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
    s.acts();
    // It falls silent after all, once the old master has let go: that one has everything, and goes
    // on.
    s.after_ms(101);
    s.answers("a", reply("a", 8, Does::Slave));
    s.misses("b", 1);
    s.check(expect![[r#"
        ask b
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
    s.misses("b", 4);
    s.check(expect![[r#"
        ask b
        store v9 a*@lb0 b@lb1: shard 0: b:1 is down before it took over
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
}

/// E.g. its `peer-auth` was changed meanwhile: nobody is granted while the successor cannot be led.
#[test]
fn a_successor_that_answers_with_errors_gives_the_shard_back() {
    let mut s = caught_up();
    s.acts();
    let mut waited = 0;
    while s.record.shards[0].master().map(|node| node.id.clone()) != Some(id("a")) {
        assert!(waited <= 1_000, "{}", show(&s.plan()));
        s.after_ms(100);
        waited += 100;
        s.answers_with("a", |_| {});
        let now = s.now;
        s.observed.complained(&id("b"), now, "NOAUTH Authentication required.");
        s.acts();
    }
    assert_eq!(waited, 900, "as long as a node may be silent, from its first error");
    assert!(s.record.shards[0].fence.is_none());
}

/// With both of them gone within the old master's lease, the next plan is due when that is over,
/// and not at once, for ever.
#[test]
fn a_plan_does_not_wait_for_what_is_past() {
    let mut s = caught_up();
    s.acts();
    s.granted("a");
    let now = s.now;
    s.observed.complained(&id("b"), now, "NOAUTH Authentication required.");
    s.after_ms(900);
    s.misses("a", 4);
    let plan = s.plan();
    assert_eq!(plan.shards[0].word(), "switchover", "{}", show(&plan));
    assert!(plan.wake_at.is_some_and(|at| at > s.now), "{:?} at {:?}", plan.wake_at, s.now);
}

/// A deposed master that has not cut off yet what it wrote alone: it is as far by number only.
#[test]
fn a_replica_that_is_as_far_in_another_history_is_not_made_master() {
    let mut s = grants::in_sync(&["a", "b"]);
    s.record.shards[0].intent = Some(intent());
    s.acts();
    s.after_ms(10);
    s.answers_with("a", |reply| reply.paused = true);
    let (newest, before) = ((3, Some(EpochId(3))), (2, Some(EpochId(2))));
    let answer = |s: &mut Script, (epoch, id)| {
        s.answers_with("b", |reply| {
            (reply.standing.history_epoch, reply.standing.history_id) = (epoch, id);
        });
    };
    answer(&mut s, before);
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        switchover: a:1 waits for b:1
    "#]]);
    answer(&mut s, newest);
    s.check(expect![[r#"
        balancers 2: lb0=hold lb1=hold
        store v8 a@lb1 b*@lb0 epoch 4=f process 1 request 0 of b/1/1: shard 0: switchover from a:1 to b:1 at 100
        leases: 
        switchover: shard 0: switchover from a:1 to b:1 at 100
    "#]]);
}
