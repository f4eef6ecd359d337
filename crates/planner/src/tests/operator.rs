//! Scripted decisions of an operator: another commit mode, and the acceptance of a loss.

use super::grants::{in_sync, member};
use super::*;

#[test]
fn a_set_is_let_go_of_only_by_a_new_epoch_and_counts_until_then() {
    let mut s = in_sync(&["a", "b"]);
    s.record.commit_mode = CommitMode::Async;
    // The master hears nothing of it before.
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1 epoch 4=f process 1 request 0 of : shard 0: epoch 4 for a:1: commit mode async begins
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        settling: shard 0: epoch 4 for a:1: commit mode async begins
    "#]]);
    s.acts();
    s.check(expect![[r#"
        leases: a
        grant a: epoch 4 least Some(0000000000000003) 100 request 0 of 
        steady: 
    "#]]);

    // Its master dies before: the set still says who may take over.
    let mut s = in_sync(&["a", "b", "c"]);
    s.record.commit_mode = CommitMode::Async;
    s.record.shards[0].epoch.in_sync = ["a", "b"].iter().map(|name| member(name)).collect();
    s.answers_with("c", |reply| reply.sequence = 1_000);
    s.refuses("a", 2);
    s.acts();
    s.after_ms(5);
    s.balancer_answers(&[]);
    s.answers_with("b", |_| {});
    s.check(expect![[r#"
        store v8 a@lb1 b*@lb0 c@lb2 epoch 4=f process 1 request 0 of : shard 0: master a:1 is down; every balancer cut it off; b:1 takes over at sequence 100
        leases: 
        fencing: shard 0: master a:1 is down; every balancer cut it off; b:1 takes over at sequence 100
    "#]]);
}

#[test]
fn a_set_begins_with_a_new_epoch_and_nobody_is_promised_more_before() {
    let mut s = in_sync(&["a", "b"]);
    s.record.shards[0].epoch.in_sync = api::grant::Members::default();
    s.record.commit_mode = CommitMode::InSync;
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1 epoch 4=f process 1 request 0 of a/1/1: shard 0: epoch 4 for a:1: commit mode in-sync begins
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of 
        settling: shard 0: epoch 4 for a:1: commit mode in-sync begins
    "#]]);
    assert!(s.plan().grants.values().all(|grant| grant.mode == CommitMode::Async));
    s.acts();
    s.check(expect![[r#"
        leases: a
        grant a: epoch 4 least Some(0000000000000003) 100 request 0 of a/1/1
        steady: 
    "#]]);
    assert!(s.plan().grants.values().all(|grant| grant.mode == CommitMode::InSync));
}

/// Both machines came back with other data: nobody goes on by himself.
fn lost() -> Script {
    let mut s = in_sync(&["a", "b"]);
    s.after_ms(10);
    s.answers_with("a", |reply| {
        (reply.nonce, reply.lease_remaining_ms, reply.sequence) = ("2".into(), 0, 0);
        (reply.standing.incarnation, reply.standing.granted_epoch) = (Some(2), 0);
        (reply.standing.history_epoch, reply.standing.history_id) = (0, None);
    });
    s.answers_with("b", |reply| {
        (reply.standing.incarnation, reply.sequence) = (Some(2), 40);
    });
    assert_eq!(s.plan().shards[0].word(), "stuck");
    s
}

fn accepts(s: &mut Script, name: &str) {
    s.record.shards[0].intent = Some(Intent {
        id: "i".into(),
        preferred: Some(id(name)),
        force: true,
        sync_timeout_ms: 0,
        pause_ms: 0,
        accept_loss: true,
    });
}

fn result(s: &Script) -> Option<String> {
    s.record.shards[0].last_intent.as_ref().and_then(|result| result.error.clone())
}

#[test]
fn a_loss_is_told_before_it_is_accepted() {
    let s = lost();
    let loss = crate::loss(&s.record, &s.observed, &s.policy, 0, &id("b")).expect("a loss");
    assert_eq!((loss.epoch, loss.node_at), (3, (3, 40)));
    let why: Vec<_> = loss.members.iter().map(|m| (m.node.as_str(), m.why.as_str())).collect();
    let gone = "no longer holds what it acknowledged";
    assert_eq!(why, [("a:1", gone), ("b:1", gone)]);
    // Nobody goes on with less by the way.
    let further = |s: &Script, name: &str| {
        let loss = crate::loss(&s.record, &s.observed, &s.policy, 0, &id(name)).expect("a loss");
        loss.passed_over().map(|holding| holding.node.clone()).collect::<Vec<_>>()
    };
    assert_eq!((further(&s, "a"), further(&s, "b")), (vec!["b:1".to_owned()], vec![]));
    let mut alone = lost();
    alone.misses("b", 4);
    assert_eq!(further(&alone, "a"), Vec::<String>::new(), "it is not there to go on");
    let told = |s: &Script, name: &str| {
        crate::loss(&s.record, &s.observed, &s.policy, 0, &id(name)).expect_err("no loss")
    };
    assert!(told(&s, "z").contains("not of this shard"));
    let whole = in_sync(&["a", "b"]);
    assert!(told(&whole, "b").contains("a:1 answers and holds what was acknowledged"));
    let mut silent = lost();
    silent.misses("b", 4);
    assert!(told(&silent, "b").contains("does not answer"));
}

/// What an operator takes out is no member of anything any more.
#[test]
fn nobody_is_taken_out_that_may_be_all_that_is_left() {
    let asked = |s: &Script, name: &str| {
        let at = (&s.policy, s.now);
        crate::removal(&s.record, &s.observed, at, &id(name), &s.plan().shards)
    };
    let refuses = |s: &Script, name: &str| match asked(s, name) {
        crate::Removal::Refused(why) => why.contains(&format!("{name}:1 may hold what nobody")),
        _ => false,
    };
    let mut s = in_sync(&["a", "b"]);
    assert_eq!(asked(&s, "b"), crate::Removal::Fine);
    s.misses("a", 1);
    assert_eq!(asked(&s, "b"), crate::Removal::Unclear);
    s.misses("a", 4);
    assert!(refuses(&s, "b"), "{:?}", asked(&s, "b"));
    s.misses("b", 4);
    assert!(refuses(&s, "b"), "silent, and a member: {:?}", asked(&s, "b"));
    // The master came back with other data: it answers, and serves nobody.
    assert!(refuses(&lost(), "b"));
    // Without a set one that will never come back has to go, so that the others can be compared.
    let mut s = Script::serving(&["a", "b", "c"]);
    s.misses("a", 4);
    s.misses("c", 4);
    assert!(refuses(&s, "b"));
    assert_eq!(asked(&s, "c"), crate::Removal::Fine);
    // That does not depend on how the master is.
    s.misses("a", 1);
    assert_eq!(asked(&s, "c"), crate::Removal::Fine);
    // Nor is one that was not heard of yet a silent one.
    s.controller_restarts();
    assert_eq!(asked(&s, "c"), crate::Removal::Unclear);
    s.misses("a", 4);
    assert_eq!(asked(&s, "c"), crate::Removal::Unclear);
    s.misses("c", 4);
    assert_eq!(asked(&s, "c"), crate::Removal::Fine);
}

/// A late heartbeat, a controller that has just begun and a disk that hangs tell of no loss.
#[test]
fn nothing_is_given_up_that_may_still_be_there() {
    let told = |s: &Script| {
        crate::loss(&s.record, &s.observed, &s.policy, 0, &id("b")).expect_err("no loss")
    };
    let set = || {
        let mut s = in_sync(&["a", "b"]);
        s.answers_with("b", |reply| reply.standing.incarnation = Some(2));
        s
    };
    let mut late = set();
    late.misses("a", 1);
    assert!(told(&late).contains("a:1 answers and holds"), "{}", told(&late));
    let mut unheard = set();
    unheard.observed.nodes.remove(&id("a"));
    assert!(told(&unheard).contains("a:1 has not been heard of yet"), "{}", told(&unheard));
    let mut hanging = set();
    hanging.answers_with("a", |reply| reply.log_wait_ms = 900);
    assert!(told(&hanging).contains("the disk of a:1 takes nothing"), "{}", told(&hanging));
    // Nor is what is under way given up for one late heartbeat.
    let mut under_way = set();
    under_way.misses("a", 4);
    under_way.misses("b", 1);
    accepts(&mut under_way, "b");
    assert_eq!(under_way.plan().shards[0].word(), "fencing");
}

#[test]
fn the_master_goes_on_in_an_epoch_whose_set_names_its_data_alone() {
    let mut s = lost();
    accepts(&mut s, "a");
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1 epoch 4=f process 2 request 0 of a/2/1: shard 0: epoch 4 for a:1: the loss of its in-sync set was accepted
        leases: 
        settling: shard 0: epoch 4 for a:1: the loss of its in-sync set was accepted
    "#]]);
    s.acts();
    assert_eq!(result(&s), None);
    s.check(expect![[r#"
        leases: a
        grant a: epoch 4 least None 0 request 0 of a/2/1
        settling: master a:1 takes over version 7
    "#]]);
}

#[test]
fn a_replica_goes_on_once_the_old_master_is_fenced_and_it_was_asked_again() {
    let mut s = in_sync(&["a", "b"]);
    s.answers_with("b", |reply| {
        (reply.standing.incarnation, reply.sequence) = (Some(2), 40);
    });
    s.misses("a", 4);
    assert_eq!(s.plan().shards[0].word(), "stuck");
    accepts(&mut s, "b");
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b
        leases: 
        fencing: the loss of its in-sync set was accepted; closing its frontends, waiting for a fence
    "#]]);
    s.acts();
    s.after_ms(5);
    s.balancer_answers(&[]);
    s.check(expect![[r#"
        ask b
        leases: 
        fencing: the loss of its in-sync set was accepted; every balancer cut it off; comparing positions
    "#]]);
    s.answers_with("b", |reply| reply.sequence = 41);
    s.check(expect![[r#"
        store v8 a@lb1 b*@lb0 epoch 4=f process 1 request 0 of b/2/1: shard 0: the loss of its in-sync set was accepted; every balancer cut it off; b:1 takes over at sequence 41
        leases: 
        fencing: shard 0: the loss of its in-sync set was accepted; every balancer cut it off; b:1 takes over at sequence 41
    "#]]);
    s.acts();
    assert_eq!(result(&s), None);
    // The old master turns up again, with the data of the old set: it is nobody's any more.
    s.answers_with("a", |reply| reply.sequence = 1_000);
    s.check(expect![[r#"
        push b: it has version 7, the record has 8
        balancers 3: lb0=- lb1=-
        leases: b
        grant b: epoch 4 least Some(0000000000000003) 41 request 0 of b/2/1
        settling: master b:1 takes over version 8
    "#]]);
}

#[test]
fn nothing_is_given_up_when_a_member_comes_back_first() {
    let mut s = lost();
    accepts(&mut s, "a");
    s.answers_with("b", |reply| reply.standing.incarnation = Some(1));
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1 epoch 3=3 process 1 request 0 of a/1/1 b/1/1: shard 0: no loss is accepted: b:1 answers and holds what was acknowledged: nothing is lost
        leases: 
        settling: b:1 answers and holds what was acknowledged: nothing is lost
    "#]]);
    s.acts();
    assert!(result(&s).is_some_and(|why| why.contains("b:1 answers and holds")));
    // And takes over, as it would have.
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b
        store v8 a@lb1 b*@lb0 epoch 4=f process 1 request 0 of b/1/1: shard 0: a new process of master a:1 answers without what the set names it for; a newer process of it answers without a lease; b:1 takes over at sequence 40
        leases: 
        fencing: shard 0: a new process of master a:1 answers without what the set names it for; a newer process of it answers without a lease; b:1 takes over at sequence 40
    "#]]);
}
