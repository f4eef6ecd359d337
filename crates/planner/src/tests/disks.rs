//! Scripted plans of nodes whose disk takes nothing while they answer heartbeats (rule R14).

use super::grants::in_sync;
use super::*;

#[test]
fn a_slow_disk_is_waited_for() {
    let mut s = in_sync(&["a", "b"]);
    s.after_ms(200);
    s.answers_with("a", |reply| reply.log_wait_ms = 799);
    s.check(expect![[r#"
    "#]]);
}

#[test]
fn a_master_whose_disk_hangs_is_fenced_and_replaced() {
    let mut s = in_sync(&["a", "b"]);
    s.after_ms(200);
    s.answers_with("a", |reply| reply.log_wait_ms = 800);
    s.check(expect![[r#"
    "#]]);
    s.acts();
    s.balancer_answers(&[]);
    s.after_ms(10);
    s.check(expect![[r#"
    "#]]);
    s.answers_with("b", |_| {});
    s.check(expect![[r#"
    "#]]);
    s.acts();
    // What hangs is not in the new set, and gets nothing but the topology.
    s.after_ms(10);
    s.answers_with("a", |reply| reply.log_wait_ms = 1_010);
    s.check(expect![[r#"
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
    "#]]);
}

#[test]
fn a_hanging_replica_takes_nothing_over_and_is_told_of() {
    let mut s = in_sync(&["a", "b"]);
    s.after_ms(200);
    s.answers_with("b", |reply| reply.log_wait_ms = 900);
    s.check(expect![[r#"
    "#]]);
    s.refuses("a", 2);
    s.check(expect![[r#"
    "#]]);
}

#[test]
fn nobody_takes_over_from_a_hanging_master_that_is_alone() {
    let mut s = in_sync(&["a"]);
    s.after_ms(200);
    s.answers_with("a", |reply| reply.log_wait_ms = 5_000);
    s.check(expect![[r#"
    "#]]);
}
