//! Scripted plans of controllers that may not lead any more, and of stores older than their nodes.

use super::grants::{in_sync, member};
use super::*;
use crate::granted;

fn lease_of(s: &Script) -> Option<crate::Granted> {
    granted(&s.plan(), &s.record, &s.record.shards[0], &s.observed, &s.policy, &id("a"))
}

/// Rule O2: it has full length or is not given.
#[test]
fn a_lease_is_granted_only_from_a_stamp_that_is_older_than_the_read() {
    let mut s = in_sync(&["a", "b"]);
    let stamp = s.observed.node(&id("a")).seen.as_ref().expect("an answer").received_at;
    let shared = |read| Authority::Shared { read, is_fresh: true };
    assert_eq!(lease_of(&s).map(|lease| lease.lease_ms), Some(1_000));
    s.observed.authority = shared(Some(stamp));
    assert_eq!(lease_of(&s), None);
    s.observed.authority = shared(Some(Time::from_nanos(stamp.nanos() + 1)));
    assert_eq!(lease_of(&s).map(|lease| lease.lease_ms), Some(1_000));
    // The machine slept: what was read before says nothing of an answer that came since.
    s.after_ms(5_000);
    s.answers_with("a", |_| {});
    assert_eq!(lease_of(&s), None);
    s.observed.authority = Authority::Shared { read: Some(s.now), is_fresh: false };
    assert_eq!(lease_of(&s), None);
}

/// Rule O3.
#[test]
fn a_controller_without_a_fresh_read_does_nothing() {
    let mut s = in_sync(&["a", "b"]);
    s.observed.authority = Authority::Shared { read: Some(s.now), is_fresh: false };
    s.refuses("a", 2);
    s.after_ms(5_000);
    s.check(expect![[r#"
        leases: 
        suspect: this controller does not lead for certain
    "#]]);
}

/// Rule O8: the claim in the store is one key, and shuts the last leader out of every record.
#[test]
fn a_takeover_on_a_shared_store_writes_no_record() {
    let mut s = in_sync(&["a", "b"]);
    (s.record.term, s.observed.term) = (9, 5);
    s.observed.authority = Authority::Shared { read: Some(s.now.plus_millis(1)), is_fresh: true };
    let plan = s.plan();
    assert!(!plan.actions.iter().any(|action| matches!(action, Action::CompareAndSwap { .. })));
    assert!(plan.leases.contains(&id("a")));
}

/// A controller's first act is to make the compare-and-swap of an older one fail: else one that
/// knows only its own leases could think that the master's are over.
#[test]
fn a_new_controller_writes_its_term_before_anything_else() {
    let mut s = in_sync(&["a", "b"]);
    s.record.term = 4;
    s.observed.term = 5;
    s.refuses("a", 2);
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1 epoch 3=3 process 1 request 0 of a/1/1 b/1/1: the controller of term 5 takes over
        leases: 
        suspect: the controller of term 5 takes over
    "#]]);
    s.acts();
    assert_eq!(s.record.term, 5);
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b
        leases: 
        fencing: master a:1 is down; closing its frontends, waiting for a fence
    "#]]);
    s.observed.term = 4;
    s.check(expect![[r#"
        leases: 
        suspect: the controller of term 5 leads
    "#]]);
}

/// An epoch this store never opened.
#[test]
fn a_store_older_than_its_nodes_promotes_nobody_until_the_newest_master_says_its_set() {
    let mut s = in_sync(&["a", "b", "c"]);
    s.answers_with("c", |reply| reply.standing.history_epoch = 8);
    s.misses("a", 4);
    s.misses("b", 4);
    s.check(expect![[r#"
        leases: 
        stuck: nodes hold epoch 8, the store knows 3
        alarm: shard 0: nodes hold epoch 8, the store knows 3: it was restored from a backup, and promotes nobody before a node confirms the newest epoch
    "#]]);
    s.answers_with("b", |reply| {
        reply.role = Does::Master;
        reply.standing.granted_epoch = 9;
        reply.standing.history_epoch = 9;
        reply.standing.request_members = [member("b"), member("c")].into_iter().collect();
    });
    s.check(expect![[r#"
        store v8 a@lb1 b*@lb0 c@lb2 epoch 10=f process 1 request 0 of b/1/1 c/1/1: shard 0: nodes hold epoch 9, the store knows 3; b:1 goes on as master
        leases: 
        settling: shard 0: nodes hold epoch 9, the store knows 3; b:1 goes on as master
        alarm: shard 0: nodes hold epoch 9, the store knows 3: it was restored from a backup, and promotes nobody before a node confirms the newest epoch
    "#]]);
}

#[test]
fn without_a_granted_master_a_stale_store_waits_for_all_nodes() {
    let mut s = in_sync(&["a", "b", "c"]);
    s.answers_with("a", |reply| (reply.nonce, reply.lease_remaining_ms) = ("2".into(), 0));
    s.answers_with("a", |reply| reply.standing.granted_epoch = 0);
    s.answers_with("b", |reply| (reply.standing.history_epoch, reply.sequence) = (8, 90));
    s.answers_with("c", |reply| (reply.standing.history_epoch, reply.sequence) = (8, 91));
    s.check(expect![[r#"
        store v8 a@lb2 b@lb1 c*@lb0 epoch 9=f process 1 request 0 of c/1/1: shard 0: nodes hold epoch 8, the store knows 3; c:1 goes on as master
        leases: 
        settling: shard 0: nodes hold epoch 8, the store knows 3; c:1 goes on as master
        alarm: shard 0: nodes hold epoch 8, the store knows 3: it was restored from a backup, and promotes nobody before a node confirms the newest epoch
    "#]]);
}

/// A record as the version before grants wrote it.
#[test]
fn a_record_without_the_new_fields_is_an_asynchronous_cluster_without_epochs() {
    let mut old = serde_json::to_value(record(&["a", "b"])).expect("JSON");
    let fields = old.as_object_mut().expect("an object");
    for name in ["commit_mode", "min_in_sync", "term"] {
        assert!(fields.remove(name).is_some(), "{name}");
    }
    assert!(!old.to_string().contains("epoch"), "{old}");
    let read: Record = serde_json::from_value(old).expect("a record");
    assert_eq!(read, record(&["a", "b"]));
    let mut new = in_sync(&["a", "b"]).record;
    new.shards[0].fence =
        Some(crate::PendingFence { node: id("b"), version: 7, member: Some(member("b")) });
    let text = serde_json::to_string(&new).expect("JSON");
    assert_eq!(serde_json::from_str::<Record>(&text).expect("a record"), new);
}

/// The store was restored, and gave the number of an epoch again.
#[test]
fn an_epoch_whose_number_was_given_twice_is_not_taken_for_the_stores() {
    let mut s = in_sync(&["a", "b"]);
    s.answers_with("a", |reply| {
        reply.standing.history_id = Some(EpochId(0xbad));
        reply.standing.request_members = [member("a"), member("b")].into_iter().collect();
    });
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1 epoch 4=f process 1 request 0 of a/1/1 b/1/1: shard 0: nodes hold another epoch 3 than the store; a:1 goes on as master
        leases: 
        settling: shard 0: nodes hold another epoch 3 than the store; a:1 goes on as master
        alarm: shard 0: nodes hold another epoch 3 than the store: it was restored from a backup, and promotes nobody before a node confirms the newest epoch
    "#]]);
}

/// The swap that names b timed out, and a answers again. If the store has made it, b is granted
/// with no fence pending.
#[test]
fn nothing_is_granted_while_nobody_knows_which_record_is_in_force() {
    let mut s = Script::serving(&["a", "b"]);
    s.misses("a", 4);
    s.acts();
    s.balancer_answers(&[]);
    s.answers_with("b", |_| {});
    let Some(Action::CompareAndSwap { record: unknown, .. }) = s.plan().actions.pop() else {
        panic!("no swap: {}", show(&s.plan()));
    };
    s.observed.in_doubt = Some("b takes over".to_owned());
    s.answers_with("a", |_| {});
    s.check(expect![[r#"
        leases: 
        suspect: the store has not told whether a change of the record was made
        alarm: the store has not told whether a change of the record was made, nothing is granted until it does: b takes over
    "#]]);
    // It was done.
    s.observed.in_doubt = None;
    s.observed.record_at = s.now;
    s.record = *unknown;
    s.check(expect![[r#"
        push b: it has version 7, the record has 8
        balancers 3: lb0=- lb1=-
        leases: b
        settling: master b:1 takes over version 8
    "#]]);
}

/// The plan waits for the store while the master's next process answers.
#[test]
fn a_process_that_came_up_since_the_plan_is_granted_nothing_by_it() {
    let mut s = Script::serving(&["a", "b"]);
    let member = |reply: &mut Reply| {
        reply.standing.incarnation = Some(1);
        reply.standing.boot = Some(1);
    };
    s.answers_with("a", member);
    s.acts();
    s.answers_with("a", |_| {});
    let plan = s.plan();
    let granted = |s: &Script| {
        granted(&plan, &s.record, &s.record.shards[0], &s.observed, &s.policy, &id("a"))
    };
    assert!(granted(&s).is_some(), "{}", show(&plan));
    s.answers_with("a", |reply| reply.nonce = "2".into());
    assert_eq!(granted(&s), None);
}
