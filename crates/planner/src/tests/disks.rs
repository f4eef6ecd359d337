//! Scripted plans of nodes whose disk takes nothing while they answer heartbeats (rule R14).

use super::grants::in_sync;
use super::*;

#[test]
fn a_slow_disk_is_waited_for() {
    let mut s = in_sync(&["a", "b"]);
    s.after_ms(200);
    s.answers_with("a", |reply| reply.log_wait_ms = 799);
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        steady: 
    "#]]);
}

#[test]
fn a_master_whose_disk_hangs_is_fenced_and_replaced() {
    let mut s = in_sync(&["a", "b"]);
    s.after_ms(200);
    s.answers_with("a", |reply| reply.log_wait_ms = 800);
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b
        leases: 
        fencing: master a:1 hangs: its disk takes nothing; closing its frontends, waiting for a fence
        alarm: shard 0: the disk of a:1 takes nothing
    "#]]);
    s.acts();
    s.balancer_answers(&[]);
    s.after_ms(10);
    s.check(expect![[r#"
        ask b
        leases: 
        fencing: master a:1 hangs: its disk takes nothing; every balancer cut it off; comparing positions
        alarm: shard 0: the disk of a:1 takes nothing
    "#]]);
    s.answers_with("b", |_| {});
    s.check(expect![[r#"
        store v8 a@lb1 b*@lb0 epoch 4=f process 1 request 0 of b/1/1: shard 0: master a:1 hangs: its disk takes nothing; every balancer cut it off; b:1 takes over at sequence 100
        leases: 
        fencing: shard 0: master a:1 hangs: its disk takes nothing; every balancer cut it off; b:1 takes over at sequence 100
        alarm: shard 0: the disk of a:1 takes nothing
    "#]]);
    s.acts();
    // What hangs is not in the new set, and gets nothing but the topology.
    s.after_ms(10);
    s.answers_with("a", |reply| reply.log_wait_ms = 1_010);
    s.check(expect![[r#"
        ask b
        push b: it has version 7, the record has 8
        balancers 3: lb0=- lb1=-
        leases: b
        grant b: epoch 4 least Some(0000000000000003) 100 request 0 of b/1/1
        settling: master b:1 takes over version 8
        alarm: shard 0: the disk of a:1 takes nothing
    "#]]);
}

/// Nothing has happened yet that could not be undone: the disk was slow after all.
#[test]
fn a_disk_that_goes_on_before_the_fence_ends_the_failover() {
    let mut s = in_sync(&["a", "b"]);
    s.after_ms(200);
    s.answers_with("a", |reply| reply.log_wait_ms = 800);
    s.acts();
    s.after_ms(10);
    s.answers_with("a", |reply| reply.log_wait_ms = 0);
    s.check(expect![[r#"
        balancers 3: lb0=a lb1=b
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        steady: 
    "#]]);
}

#[test]
fn a_hanging_replica_takes_nothing_over_and_is_told_of() {
    let mut s = in_sync(&["a", "b"]);
    s.after_ms(200);
    s.answers_with("b", |reply| reply.log_wait_ms = 900);
    s.check(expect![[r#"
        ask a
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        steady: 
        alarm: shard 0: the disk of b:1 takes nothing
    "#]]);
    s.refuses("a", 2);
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        stuck: master a:1 is down; b:1 hangs: its disk takes nothing
        alarm: shard 0: master a:1 is down, nobody can take over: b:1 hangs: its disk takes nothing
        alarm: shard 0: the disk of b:1 takes nothing
    "#]]);
}

#[test]
fn nobody_takes_over_from_a_hanging_master_that_is_alone() {
    let mut s = in_sync(&["a"]);
    s.after_ms(200);
    s.answers_with("a", |reply| reply.log_wait_ms = 5_000);
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1
        stuck: master a:1 hangs: its disk takes nothing; it has no replica
        alarm: shard 0: master a:1 hangs: its disk takes nothing, nobody can take over: it has no replica
        alarm: shard 0: the disk of a:1 takes nothing
    "#]]);
}
