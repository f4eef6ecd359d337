//! Scripted switchovers that nobody asks for: balancers do not reach a master that answers the
//! controller.

use super::*;
use crate::IntentResult;

impl Script {
    /// What the balancer says of nodes.
    fn balancer_reaches(&mut self, said: &[(&str, bool)]) {
        let now = self.now;
        let seen = self.observed.balancers.entry("lb".into()).or_default();
        seen.reaches(said.iter().map(|(node, is_up)| (id(node), *is_up)), now);
    }
}

#[test]
fn a_master_that_balancers_miss_is_replaced_by_a_replica_they_reach() {
    let mut s = Script::serving(&["a", "b"]);
    s.balancer_reaches(&[("a", false), ("b", true)]);
    // It may be busy for a moment.
    s.check(expect![[r#"
        leases: a
        steady: 
    "#]]);
    s.after_ms(399);
    s.balancer_reaches(&[("a", false), ("b", true)]);
    s.check(expect![[r#"
        leases: a
        steady: 
    "#]]);
    s.after_ms(1);
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1: shard 0: master a:1 is not reached by lb: b:1 is to take over
        leases: a
        switchover: shard 0: master a:1 is not reached by lb: b:1 is to take over
        alarm: shard 0: master a:1 is not reached by lb
    "#]]);
    s.acts();
    s.check(expect![[r#"
        pause a 3000 ms
        leases: a
        switchover: a:1 to b:1
    "#]]);
}

#[test]
fn a_moment_of_contact_begins_anew() {
    let mut s = Script::serving(&["a", "b"]);
    s.balancer_reaches(&[("a", false), ("b", true)]);
    s.after_ms(300);
    s.balancer_reaches(&[("a", true), ("b", true)]);
    s.after_ms(50);
    s.balancer_reaches(&[("a", false), ("b", true)]);
    s.after_ms(300);
    s.check(expect![[r#"
        leases: a
        steady: 
    "#]]);
}

#[test]
fn nothing_moves_where_no_replica_is_reached_either() {
    let mut s = Script::serving(&["a", "b"]);
    s.balancer_reaches(&[("a", false), ("b", false)]);
    s.after_ms(900);
    s.check(expect![[r#"
        leases: a
        steady: 
        alarm: shard 0: master a:1 is not reached by lb, and no replica that could take over is known to be reached by all of them
    "#]]);
    s.balancer_reaches(&[("a", false)]);
    s.check(expect![[r#"
        leases: a
        steady: 
        alarm: shard 0: master a:1 is not reached by lb, and no replica that could take over is known to be reached by all of them
    "#]]);
    // Nor where a balancer says nothing.
    s.observed.balancers.clear();
    s.check(expect![[r#"
        leases: a
        steady: 
    "#]]);
}

#[test]
fn what_did_not_help_is_not_done_again_at_once() {
    let mut s = Script::serving(&["a", "b"]);
    let error = Some("no replica can take over".into());
    s.record.shards[0].last_intent = Some(IntentResult { id: "unreached-1".into(), error });
    s.observed.concluded.insert(0, s.now);
    s.balancer_reaches(&[("a", false), ("b", true)]);
    s.after_ms(9_999);
    s.check(expect![[r#"
        leases: a
        steady: 
        alarm: shard 0: master a:1 is not reached by lb
    "#]]);
    s.after_ms(1);
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1: shard 0: master a:1 is not reached by lb: b:1 is to take over
        leases: a
        switchover: shard 0: master a:1 is not reached by lb: b:1 is to take over
        alarm: shard 0: master a:1 is not reached by lb
    "#]]);
}

/// It stays behind for as long as it does not follow, and the pause would be for nothing.
#[test]
fn a_replica_that_does_not_follow_is_not_chosen() {
    let mut s = Script::serving(&["a", "b"]);
    s.answers_with("b", |reply| reply.link_status = LinkStatus::Connecting);
    s.balancer_reaches(&[("a", false), ("b", true)]);
    s.after_ms(400);
    assert!(s.plan().actions.is_empty(), "{}", show(&s.plan()));
}
