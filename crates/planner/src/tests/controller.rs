//! Scripted faults of the controller itself: it restarts, or hears nobody.

use super::*;

const DEAF: &str =
    "leases: a\nsuspect: master a:1 does not answer; until a moment ago no node did\n";
const FENCING: &str = "fencing: master a:1 is down; closing its frontends, waiting for a fence\n";

/// Which node answers first after the controller's own network recovers is random.
#[test]
fn a_controller_that_heard_nobody_listens_before_it_replaces_a_master() {
    let mut s = Script::serving(&["a", "b", "c"]);
    s.misses("a", 4);
    // Not down yet, but not heard either.
    s.misses("b", 3);
    s.misses("c", 3);
    s.answers("b", reply("b", 7, Does::Slave));
    assert_eq!(show(&s.plan()), DEAF);
    s.after_ms(799);
    s.misses("a", 8);
    assert_eq!(show(&s.plan()), DEAF);
    s.after_ms(1);
    assert!(show(&s.plan()).ends_with(FENCING), "{}", show(&s.plan()));
}

#[test]
fn a_replica_that_answers_now_and_then_puts_nothing_off() {
    let mut s = Script::serving(&["a", "b"]);
    let mut said = Vec::new();
    for misses in [2, 4, 6, 8] {
        s.misses("a", misses);
        s.misses("b", 2);
        s.answers("b", reply("b", 7, Does::Slave));
        said.push(s.plan().shards[0].word());
        s.after_ms(400);
    }
    assert_eq!(said, ["suspect", "suspect", "fencing", "fencing"]);
}

#[test]
fn a_controller_that_heard_anybody_was_not_deaf() {
    for heard in [1, 0] {
        let mut s = Script::serving(&["a", "b", "c"]);
        s.misses("a", 4);
        s.misses("b", 4);
        if heard == 1 {
            s.misses("c", 1)
        } else {
            s.refuses("c", 2)
        }
        s.answers("b", reply("b", 7, Does::Slave));
        assert!(show(&s.plan()).ends_with(FENCING), "{}", show(&s.plan()));
    }
}

#[test]
fn a_restarted_controller_closes_nothing_before_masters_have_their_leases_back() {
    let mut s = Script::serving(&["a", "b"]);
    s.controller_restarts();
    s.answers("b", reply("b", 7, Does::Slave));
    s.answers("a", Reply { lease_remaining_ms: 0, ..reply("a", 7, Does::Master) });
    let is_told = |s: &Script| {
        s.plan().actions.iter().any(|action| matches!(action, Action::ApplyBalancers(_)))
    };
    assert!(!is_told(&s));
    s.answers("a", reply("a", 7, Does::Master));
    s.check(expect![[r#"
        balancers 1: lb0=a lb1=b
        leases: a
        steady: 
    "#]]);
    // One that gets none is closed in the end.
    s.controller_restarts();
    s.answers("b", reply("b", 7, Does::Slave));
    s.answers("a", Reply { lease_remaining_ms: 0, ..reply("a", 7, Does::Master) });
    assert!(!is_told(&s));
    s.after_ms(1_000);
    assert!(is_told(&s));
}

#[test]
fn a_restarted_controller_waits_out_every_lease_it_does_not_know() {
    let mut s = Script::serving(&["a", "b"]);
    s.controller_restarts();
    s.check(expect![[r#"
        leases: a
        suspect: master a:1 has not been heard of yet
    "#]]);
    s.answers("b", reply("b", 7, Does::Slave));
    s.refuses("a", 2);
    s.check(expect![[r#"
        balancers 1: lb0=- lb1=b
        leases: 
        fencing: master a:1 is down; closing its frontends, waiting for a fence
    "#]]);
    s.acts();
    s.after_ms(1_009);
    assert!(s.plan().actions.is_empty());
    s.after_ms(1);
    s.answers_with("b", |_| {});
    s.check(expect![[r#"
        store v8 a@lb1 b*@lb0: shard 0: master a:1 is down; its lease is over; b:1 takes over at sequence 100
        leases: 
        fencing: shard 0: master a:1 is down; its lease is over; b:1 takes over at sequence 100
    "#]]);
    s.acts();
    // Again, right after the store was written: nothing but the record remains.
    s.controller_restarts();
    s.answers("b", reply("b", 7, Does::Slave));
    s.refuses("a", 2);
    s.check(expect![[r#"
        push b: it has version 7, the record has 8
        balancers 1: lb0=- lb1=-
        leases: b
        settling: master b:1 takes over version 8
    "#]]);
    s.acts();
    s.controller_restarts();
    s.answers("b", reply("b", 8, Does::Master));
    s.refuses("a", 2);
    s.check(expect![[r#"
        balancers 1: lb0=b lb1=-
        leases: b
        steady: 
    "#]]);
}
