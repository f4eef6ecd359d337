//! Scripted maintenance: masters go away on purpose, and nobody replaces them.

use super::grants::in_sync;
use super::*;
use crate::Paused;

fn pause(s: &mut Script) {
    s.record.paused = Some(Paused { since_ms: 1, reason: "new switches".into() });
}

#[test]
fn a_master_that_fails_is_not_replaced_while_failover_is_paused() {
    let mut s = in_sync(&["a", "b"]);
    pause(&mut s);
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        steady: 
        alarm: automatic failover is paused by an operator (new switches): a master that fails is not replaced before `ctl resume cluster`
    "#]]);
    s.refuses("a", 2);
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        stuck: master a:1 is down; automatic failover is paused
        alarm: automatic failover is paused by an operator (new switches): a master that fails is not replaced before `ctl resume cluster`
        alarm: shard 0: master a:1 is down; automatic failover is paused
    "#]]);
    s.after_ms(60_000);
    assert_eq!(s.plan().actions, [], "however long it lasts");
    // It is back, as the same process: it goes on.
    s.answers_with("a", |_| {});
    assert_eq!(s.plan().leases.len(), 1);
    assert_eq!(s.plan().shards[0].word(), "steady");
    // Resumed while it is away.
    s.refuses("a", 2);
    s.record.paused = None;
    assert_eq!(s.plan().shards[0].word(), "fencing");
}

/// A restart in place is what a pause is for; an empty disk is not.
#[test]
fn a_restarted_master_goes_on_and_an_empty_one_serves_nobody() {
    let mut s = in_sync(&["a", "b"]);
    pause(&mut s);
    s.after_ms(10);
    s.answers_with("a", |reply| {
        (reply.nonce, reply.lease_remaining_ms) = ("2".into(), 0);
        reply.standing.granted_epoch = 0;
    });
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1 epoch 4=f process 2 request 0 of a/1/1 b/1/1: shard 0: epoch 4 for a:1: a new process of it answers
        leases: 
        settling: shard 0: epoch 4 for a:1: a new process of it answers
        alarm: automatic failover is paused by an operator (new switches): a master that fails is not replaced before `ctl resume cluster`
    "#]]);
    s.answers_with("a", |reply| {
        (reply.sequence, reply.standing.incarnation) = (0, Some(9));
        (reply.standing.history_epoch, reply.standing.history_id) = (0, None);
    });
    s.check(expect![[r#"
        leases: 
        stuck: a new process of master a:1 answers without what the set names it for; automatic failover is paused
        alarm: automatic failover is paused by an operator (new switches): a master that fails is not replaced before `ctl resume cluster`
        alarm: shard 0: a new process of master a:1 answers without what the set names it for; automatic failover is paused
    "#]]);
}

#[test]
fn what_an_operator_asked_for_ends_when_its_master_fails() {
    let mut s = in_sync(&["a", "b"]);
    pause(&mut s);
    s.record.shards[0].intent = Some(Intent {
        id: "i".into(),
        preferred: None,
        force: false,
        sync_timeout_ms: 1_000,
        pause_ms: 3_000,
        accept_loss: false,
    });
    // As long as it lives it is done.
    assert!(s.plan().actions.iter().any(|action| matches!(action, Action::Pause { .. })));
    s.refuses("a", 2);
    s.acts();
    assert_eq!(s.record.shards[0].intent, None);
    let ended = s.record.shards[0].last_intent.clone().expect("an end");
    assert_eq!(ended.error.as_deref(), Some("master a:1 is down; automatic failover is paused"));
}
