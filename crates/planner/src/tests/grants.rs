//! Scripted plans of clusters with grants: who gets an epoch, who may take over, whose sets count.

use super::*;

/// A member as the nodes of [`in_sync`] are: first copy of the data, boot 1.
pub(super) fn member(name: &str) -> Member {
    format!("{}/1/1", id(name)).parse().expect("a member")
}

pub(super) fn standing(role: Does) -> Standing {
    Standing {
        incarnation: Some(1),
        boot: Some(1),
        history_epoch: 3,
        history_id: Some(EpochId(3)),
        granted_epoch: if role == Does::Master { 3 } else { 0 },
        committed: 100,
        ..Standing::default()
    }
}

/// In-sync commit, epoch 3 granted to the process `1` of a, everybody in the set.
pub(super) fn in_sync(nodes: &[&str]) -> Script {
    let mut s = Script::serving(nodes);
    s.record.commit_mode = CommitMode::InSync;
    s.record.shards[0].epoch = Epoch {
        number: 3,
        id: EpochId(3),
        nonce: "1".into(),
        least: Least { id: Some(EpochId(2)), sequence: 50 },
        request: 0,
        in_sync: nodes.iter().map(|name| member(name)).collect(),
        version: 5,
    };
    s.observed.fresh_id = 0xf;
    for (place, name) in nodes.iter().enumerate() {
        let role = if place == 0 { Does::Master } else { Does::Slave };
        s.answers_with(name, |reply| reply.standing = standing(role));
    }
    s.observed.nodes.entry(id("a")).or_default().confirmed = Some((3, 0));
    assert_eq!(s.plan().actions, [], "nothing left to do");
    s
}

#[test]
fn a_serving_master_is_granted_its_epoch_with_every_lease() {
    let s = in_sync(&["a", "b"]);
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        steady: 
    "#]]);
}

#[test]
fn the_first_epoch_begins_with_the_master_alone() {
    let mut s = Script::serving(&["a", "b"]);
    s.observed.fresh_id = 0xf;
    s.record.commit_mode = CommitMode::InSync;
    let unborn =
        Standing { history_epoch: 0, history_id: None, granted_epoch: 0, ..standing(Does::Master) };
    s.answers_with("a", |reply| reply.standing = unborn.clone());
    s.answers_with("b", |reply| reply.standing = unborn.clone());
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1 epoch 1=f process 1 request 0 of a/1/1: shard 0: epoch 1 for a:1: its first epoch
        leases: a
        settling: shard 0: epoch 1 for a:1: its first epoch
    "#]]);
    s.acts();
    s.check(expect![[r#"
        leases: a
        grant a: epoch 1 least None 100 request 0 of a/1/1
        steady: 
    "#]]);
}

#[test]
fn an_asynchronous_cluster_has_epochs_and_no_set() {
    let mut s = in_sync(&["a", "b"]);
    s.record.commit_mode = CommitMode::Async;
    s.record.shards[0].epoch.in_sync = api::grant::Members::default();
    s.after_ms(10);
    s.answers_with("a", |reply| {
        (reply.nonce, reply.lease_remaining_ms) = ("2".into(), 0);
        reply.standing.granted_epoch = 0;
    });
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1 epoch 4=f process 2 request 0 of : shard 0: epoch 4 for a:1: a new process of it answers
        leases: 
        settling: shard 0: epoch 4 for a:1: a new process of it answers
    "#]]);
    // And nobody asks who is in sync before another one takes over.
    s.refuses("a", 2);
    s.answers_with("b", |reply| reply.standing.incarnation = Some(7));
    s.acts();
    s.balancer_answers(&[]);
    s.check(expect![[r#"
        push b: it has version 7, the record has 8
        balancers 3: lb0=- lb1=-
        leases: b
        grant b: epoch 4 least Some(0000000000000003) 100 request 0 of 
        settling: master b:1 takes over version 8
    "#]]);
}

/// The restarted process is not what the epoch was opened for, whatever its disk says.
#[test]
fn a_restarted_master_gets_a_new_epoch_and_nothing_before() {
    let mut s = in_sync(&["a", "b"]);
    s.after_ms(10);
    s.answers_with("a", |reply| {
        (reply.nonce, reply.lease_remaining_ms) = ("2".into(), 0);
        (reply.standing.granted_epoch, reply.standing.committed) = (0, 0);
    });
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1 epoch 4=f process 2 request 0 of a/1/1 b/1/1: shard 0: epoch 4 for a:1: a new process of it answers
        leases: 
        settling: shard 0: epoch 4 for a:1: a new process of it answers
    "#]]);
    s.acts();
    s.check(expect![[r#"
        leases: a
        grant a: epoch 4 least Some(0000000000000003) 100 request 0 of a/1/1 b/1/1
        settling: master a:1 takes over version 7
    "#]]);
}

/// An answer from before this controller knew of the epoch may be of the process before.
#[test]
fn an_answer_from_before_the_epoch_is_no_newer_process() {
    let mut s = in_sync(&["a", "b"]);
    s.answers_with("a", |reply| reply.nonce = "0a".into());
    s.after_ms(10);
    s.observed.epoch_at = s.now;
    s.check(expect![[r#"
        ask a
        leases: 
        settling: asking which process of a:1 runs
    "#]]);
    s.answers_with("a", |reply| reply.nonce = "1".into());
    assert_eq!(s.plan().actions, []);
}

/// The machine restarted, what was not on its disk is gone.
#[test]
fn a_rebooted_master_gives_way_to_the_member_that_has_everything() {
    let mut s = in_sync(&["a", "b"]);
    s.after_ms(10);
    s.answers_with("a", |reply| {
        (reply.nonce, reply.lease_remaining_ms, reply.sequence) = ("2".into(), 0, 82);
        reply.standing.boot = Some(2);
    });
    s.answers_with("b", |_| {});
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b
        store v8 a@lb1 b*@lb0 epoch 4=f process 1 request 0 of b/1/1: shard 0: a new process of master a:1 answers without what the set names it for; a newer process of it answers without a lease; b:1 takes over at sequence 100
        leases: 
        fencing: shard 0: a new process of master a:1 answers without what the set names it for; a newer process of it answers without a lease; b:1 takes over at sequence 100
    "#]]);
}

#[test]
fn a_restarted_master_that_holds_less_than_a_member_gives_way() {
    let mut s = in_sync(&["a", "b", "c"]);
    s.after_ms(10);
    s.answers_with("c", |reply| reply.sequence = 101);
    s.answers_with("b", |reply| reply.sequence = 102);
    s.answers_with("a", |reply| (reply.nonce, reply.lease_remaining_ms) = ("2".into(), 0));
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b lb2=c
        store v8 a@lb1 b*@lb0 c@lb2 epoch 4=f process 1 request 0 of b/1/1 c/1/1: shard 0: a new process of master a:1 answers and holds less than b:1; a newer process of it answers without a lease; b:1 takes over at sequence 102
        leases: 
        fencing: shard 0: a new process of master a:1 answers and holds less than b:1; a newer process of it answers without a lease; b:1 takes over at sequence 102
    "#]]);
}

#[test]
fn when_all_machines_restarted_the_furthest_goes_on_once_all_answer() {
    let mut s = in_sync(&["a", "b"]);
    s.after_ms(10);
    s.answers_with("a", |reply| {
        (reply.nonce, reply.lease_remaining_ms, reply.sequence) = ("2".into(), 0, 82);
        reply.standing.boot = Some(2);
    });
    s.misses("b", 4);
    s.check(expect![[r#"
        leases: 
        stuck: a new process of master a:1 answers; waiting for a:1 (no longer holds what it acknowledged), b:1 (does not answer)
        alarm: shard 0: a new process of master a:1 answers without what it acknowledged; waiting for a:1 (no longer holds what it acknowledged), b:1 (does not answer)
    "#]]);
    s.answers_with("b", |reply| {
        reply.sequence = 83;
        reply.standing.boot = Some(3);
    });
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b
        store v8 a@lb1 b*@lb0 epoch 4=f process 1 request 0 of b/1/3: shard 0: every member's machine restarted; a newer process of it answers without a lease; b:1 takes over at sequence 83
        leases: 
        fencing: shard 0: every member's machine restarted; a newer process of it answers without a lease; b:1 takes over at sequence 83
        alarm: shard 0: every member of its in-sync set restarted with its machine: what was not on disk is lost; `durable-ack yes` prevents that
    "#]]);
    s.answers_with("b", |reply| reply.sequence = 81);
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1 epoch 4=f process 2 request 0 of a/1/2: shard 0: epoch 4 for a:1: every member's machine restarted, it holds most
        leases: 
        settling: shard 0: epoch 4 for a:1: every member's machine restarted, it holds most
        alarm: shard 0: every member of its in-sync set restarted with its machine: what was not on disk is lost; `durable-ack yes` prevents that
    "#]]);
    // Data that was replaced is never the furthest, however long it is.
    s.answers_with("a", |reply| reply.standing.incarnation = Some(2));
    s.answers_with("b", |reply| reply.standing.incarnation = Some(2));
    s.check(expect![[r#"
        leases: 
        stuck: a new process of master a:1 answers; waiting for a:1 (no longer holds what it acknowledged), b:1 (no longer holds what it acknowledged)
        alarm: shard 0: a new process of master a:1 answers without what it acknowledged; waiting for a:1 (no longer holds what it acknowledged), b:1 (no longer holds what it acknowledged)
    "#]]);
}

/// The set names data, not nodes.
#[test]
fn a_replica_whose_data_was_replaced_cannot_take_over() {
    let mut s = in_sync(&["a", "b", "c"]);
    s.answers_with("b", |reply| {
        reply.standing.incarnation = Some(2);
        reply.sequence = 1_000;
    });
    s.answers_with("c", |reply| {
        reply.standing.boot = Some(2);
        reply.sequence = 1_000;
    });
    s.refuses("a", 2);
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1 c/1/1
        stuck: master a:1 is down; b:1 is not in the in-sync set, c:1 is not in the in-sync set
        alarm: shard 0: master a:1 is down, nobody can take over: b:1 is not in the in-sync set, c:1 is not in the in-sync set
    "#]]);
}

/// A member added without the store's knowledge may be complete, but that cannot be proven.
#[test]
fn only_members_take_over_and_the_new_set_is_of_those_that_answer() {
    let mut s = in_sync(&["a", "b", "c", "d"]);
    let members = ["a", "b", "d"];
    s.record.shards[0].epoch.in_sync = members.iter().map(|name| member(name)).collect();
    s.answers_with("c", |reply| reply.sequence = 1_000);
    s.refuses("a", 2);
    s.acts();
    s.after_ms(5);
    s.balancer_answers(&[]);
    s.answers_with("b", |reply| reply.sequence = 99);
    s.answers_with("d", |reply| reply.standing.history_epoch = 2);
    s.check(expect![[r#"
        store v8 a@lb1 b*@lb0 c@lb2 d@lb3 epoch 4=f process 1 request 0 of b/1/1 d/1/1: shard 0: master a:1 is down; every balancer cut it off; b:1 takes over at sequence 99
        leases: 
        fencing: shard 0: master a:1 is down; every balancer cut it off; b:1 takes over at sequence 99
    "#]]);
    s.acts();
    s.check(expect![[r#"
        push b: it has version 7, the record has 8
        balancers 3: lb0=- lb1=- lb2=c lb3=d
        leases: b
        grant b: epoch 4 least Some(0000000000000003) 99 request 0 of b/1/1 d/1/1
        settling: master b:1 takes over version 8
    "#]]);
}

/// A longer tail of an older epoch is not more.
#[test]
fn positions_compare_by_epoch_first() {
    let mut s = in_sync(&["a", "b", "c"]);
    s.refuses("a", 2);
    s.acts();
    s.after_ms(5);
    s.balancer_answers(&[]);
    s.answers_with("b", |reply| {
        (reply.standing.history_epoch, reply.standing.history_id) = (2, Some(EpochId(2)));
        reply.sequence = 500;
    });
    s.answers_with("c", |reply| reply.sequence = 99);
    s.check(expect![[r#"
        store v8 a@lb2 b@lb1 c*@lb0 epoch 4=f process 1 request 0 of b/1/1 c/1/1: shard 0: master a:1 is down; every balancer cut it off; c:1 takes over at sequence 99
        leases: 
        fencing: shard 0: master a:1 is down; every balancer cut it off; c:1 takes over at sequence 99
    "#]]);
}

/// Requests are adopted in order, of this epoch and this process only.
#[test]
fn a_set_the_master_asks_for_is_taken_over_at_once() {
    let mut s = in_sync(&["a", "b", "c"]);
    let ask = |s: &mut Script, change: fn(&mut Reply)| {
        s.after_ms(10);
        s.answers_with("a", |reply| {
            reply.standing.request = 2;
            reply.standing.request_members = [member("a"), member("c")].into_iter().collect();
            change(reply);
        });
    };
    ask(&mut s, |reply| {
        reply.standing.granted_epoch = 2;
        (reply.standing.history_epoch, reply.standing.history_id) = (2, Some(EpochId(2)));
    });
    assert_eq!(s.plan().actions, []);
    ask(&mut s, |reply| {
        reply.standing.granted_epoch = 3;
        (reply.standing.history_epoch, reply.standing.history_id) = (3, Some(EpochId(3)));
        reply.standing.request_members = [member("c")].into_iter().collect();
    });
    assert_eq!(s.plan().actions, [], "a set without the master is none");
    ask(&mut s, |reply| {
        reply.standing.request_members = [member("a"), member("z")].into_iter().collect();
    });
    assert_eq!(s.plan().actions, [], "nor one with a stranger");
    ask(&mut s, |_| {});
    let shard = &s.record.shards[0];
    let is_set = |reply: &Reply| {
        crate::epoch::request(shard, shard.master().expect("a master"), reply).is_some()
    };
    let seen = s.observed.node(&id("a")).seen.clone().expect("an answer").reply;
    assert!(is_set(&seen));
    assert!(!is_set(&Reply { nonce: "2".into(), ..seen }), "nor one of another process");
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1 c@lb2 epoch 3=3 process 1 request 2 of a/1/1 c/1/1: shard 0: in sync are a:1, c:1
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1 c/1/1
        settling: shard 0: in sync are a:1, c:1
    "#]]);
    s.acts();
    // The master waits for the old members until it knows.
    s.after_ms(10);
    s.check(expect![[r#"
        ask a
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 2 of a/1/1 c/1/1
        steady: 
    "#]]);
    s.observed.nodes.entry(id("a")).or_default().confirmed = Some((3, 2));
    assert_eq!(s.plan().actions, []);
    ask(&mut s, |reply| reply.standing.request = 1);
    assert_eq!(s.plan().actions, [], "an older request");
}

#[test]
fn a_silent_member_makes_its_master_be_asked_what_it_wants() {
    let mut s = in_sync(&["a", "b"]);
    s.refuses("b", 1);
    s.observed.nodes.entry(id("b")).or_default().missing_since = Some(s.now);
    s.after_ms(50);
    s.check(expect![[r#"
        ask a
        ask b
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        steady: 
    "#]]);
    s.after_ms(2_000);
    s.refuses("b", 4);
    assert_eq!(s.plan().actions, [], "but not for ever");
}

#[test]
fn too_few_members_is_an_alarm() {
    let mut s = in_sync(&["a", "b"]);
    s.record.min_in_sync = 3;
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        steady: 
        alarm: shard 0: 2 in sync of 3 wanted: writes are refused
    "#]]);
}

/// The new master hears of its set and of what it must hold with its first grant.
#[test]
fn a_process_that_restarted_since_it_was_chosen_is_granted_nothing() {
    let mut s = in_sync(&["a", "b"]);
    s.refuses("a", 2);
    s.acts();
    s.balancer_answers(&[]);
    s.acts();
    s.observed.epoch_at = s.now;
    s.after_ms(10);
    s.answers_with("b", |reply| {
        reply.nonce = "9".into();
        reply.standing.incarnation = Some(2);
    });
    s.check(expect![[r#"
        push b: it has version 7, the record has 8
        balancers 3: lb0=- lb1=-
        leases: 
        stuck: a new process of master b:1 answers; waiting for b:1 (no longer holds what it acknowledged)
        alarm: shard 0: a new process of master b:1 answers without what it acknowledged; waiting for b:1 (no longer holds what it acknowledged)
    "#]]);
}

/// A full sync ended between the answer it was chosen by and the store: found by the model.
#[test]
fn a_new_master_whose_data_was_replaced_meanwhile_gives_way_to_another_member() {
    let mut s = in_sync(&["a", "b", "c"]);
    let members = ["a", "c"];
    s.record.shards[0].epoch.in_sync = members.iter().map(|name| member(name)).collect();
    s.answers_with("a", |reply| {
        reply.standing.granted_epoch = 0;
        (reply.standing.incarnation, reply.lease_remaining_ms) = (Some(2), 0);
    });
    s.acts();
    s.balancer_answers(&[]);
    s.after_ms(5);
    s.answers_with("c", |_| {});
    s.check(expect![[r#"
        store v8 a@lb2 b@lb1 c*@lb0 epoch 4=f process 1 request 0 of c/1/1: shard 0: master a:1 cannot take its epoch without what the set names it for; every balancer cut it off; c:1 takes over at sequence 100
        leases: 
        fencing: shard 0: master a:1 cannot take its epoch without what the set names it for; every balancer cut it off; c:1 takes over at sequence 100
    "#]]);
}

/// It was demoted and made master again, or lost its disk for a moment: only a later epoch is
/// taken.
#[test]
fn a_master_that_gave_its_epoch_up_gets_another() {
    let mut s = in_sync(&["a", "b"]);
    s.answers_with("a", |reply| {
        reply.lease_remaining_ms = 0;
        reply.standing.granted_epoch = 0;
    });
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1 epoch 4=f process 1 request 0 of a/1/1 b/1/1: shard 0: epoch 4 for a:1: it holds its epoch no more
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        settling: shard 0: epoch 4 for a:1: it holds its epoch no more
    "#]]);
}

#[test]
fn a_grant_that_was_refused_is_tried_again_later_and_said() {
    let mut s = in_sync(&["a", "b"]);
    let why = "ERR grant refused: promised".to_owned();
    s.observed.nodes.entry(id("a")).or_default().refusal =
        Some(crate::Refusal { epoch: 3, at: s.now, why });
    s.check(expect![[r#"
        leases: a
        steady: 
        alarm: a:1: ERR grant refused: promised
    "#]]);
    s.after_ms(200);
    assert!(s.plan().grants.contains_key(&id("a")));
}

#[test]
fn a_new_master_that_promised_its_old_one_to_wait_is_asked_again_when_that_is_over() {
    let mut s = in_sync(&["a", "b"]);
    s.answers_with("a", |reply| {
        reply.lease_remaining_ms = 0;
        (reply.standing.history_epoch, reply.standing.history_id) = (2, Some(EpochId(2)));
        (reply.standing.granted_epoch, reply.standing.promised_ms) = (0, 700);
    });
    s.check(expect![[r#"
        leases: a
        settling: a:1 promised its old master to wait until 10.700s
    "#]]);
    s.after_ms(700);
    s.check(expect![[r#"
        ask a
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        settling: master a:1 takes over version 7
    "#]]);
}

#[test]
fn a_switchover_opens_an_epoch_and_going_back_another() {
    let mut s = in_sync(&["a", "b", "c"]);
    s.record.shards[0].intent = Some(Intent {
        id: "i".into(),
        preferred: Some(id("b")),
        force: false,
        sync_timeout_ms: 1_000,
        pause_ms: 3_000,
        accept_loss: false,
    });
    s.acts();
    s.after_ms(10);
    s.answers_with("a", |reply| (reply.paused, reply.sequence) = (true, 120));
    s.answers_with("b", |reply| reply.sequence = 120);
    s.check(expect![[r#"
        balancers 2: lb0=hold lb1=hold lb2=c
        store v8 a@lb1 b*@lb0 c@lb2 epoch 4=f process 1 request 0 of b/1/1 c/1/1: shard 0: switchover from a:1 to b:1 at 120
        leases: 
        switchover: shard 0: switchover from a:1 to b:1 at 120
    "#]]);
    s.acts();
    s.observed.epoch_at = s.now;
    s.refuses("b", 2);
    s.check(expect![[r#"
        store v9 a*@lb0 b@lb1 c@lb2 epoch 5=f process 1 request 0 of a/1/1 c/1/1: shard 0: b:1 is down before it took over
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
    // Not with other data than the set named it for.
    s.answers_with("a", |reply| reply.standing.incarnation = Some(2));
    s.check(expect![[r#"
        leases: 
        switchover: b:1 takes over once a:1 is fenced
    "#]]);
}

/// The controller's path to the master is broken, its replica's is not.
#[test]
fn a_master_that_only_its_replica_sees_is_asked_through_it() {
    let mut s = in_sync(&["a", "b"]);
    s.misses("a", 1);
    assert_eq!(s.plan().actions, []);
    s.misses("a", 2);
    s.check(expect![[r#"
        ask a through b
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        suspect: master a:1 missed 2 heartbeats
    "#]]);
    s.acts();
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        suspect: master a:1 missed 2 heartbeats
    "#]]);
    s.after_ms(100);
    let at = s.now;
    s.answers_with("a", |_| {});
    s.observed.nodes.entry(id("a")).or_default().relayed_at = Some(at);
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        steady: 
        alarm: shard 0: master a:1 is reached only through its replica b:1: the path to it is broken
    "#]]);
    s.after_ms(100);
    s.misses("a", 1);
    s.check(expect![[r#"
        ask a through b
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        suspect: master a:1 missed 1 heartbeats
        alarm: shard 0: master a:1 is reached only through its replica b:1: the path to it is broken
    "#]]);
    // A refused connection is the end of a process, not of a path; nor does a failover wait.
    s.refuses("a", 2);
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b
        leases: 
        fencing: master a:1 is down; closing its frontends, waiting for a fence
        alarm: shard 0: master a:1 is reached only through its replica b:1: the path to it is broken
    "#]]);
}

/// A slot may have been given away since a master's last topology: it serves nothing before it
/// knows.
#[test]
fn a_grant_names_the_topology_its_epoch_was_opened_at() {
    let mut s = in_sync(&["a", "b"]);
    let named = |s: &Script| s.plan().grants.get(&id("a")).map(|grant| grant.version);
    assert_eq!(named(&s), Some(0), "an older node would refuse the word");
    s.answers_with("a", |reply| reply.standing.granted_version = Some(5));
    assert_eq!(named(&s), Some(5));
    // Another process of it comes up: its epoch is opened at the current topology.
    s.answers_with("a", |reply| {
        reply.nonce = "2".into();
        reply.standing.granted_epoch = 0;
    });
    let plan = s.plan();
    let opened = plan.actions.iter().find_map(|action| match action {
        Action::CompareAndSwap { record, .. } => Some(record),
        _ => None,
    });
    let opened = opened.expect("an epoch for the new process");
    assert_eq!((opened.version, opened.shards[0].epoch.version), (7, 7));
    assert_eq!(named(&s), None);
}

/// A record of an epoch that was written before it named a version asks for none.
#[test]
fn an_epoch_of_before_asks_for_no_topology() {
    let epoch = Epoch { version: 9, ..in_sync(&["a"]).record.shards[0].epoch.clone() };
    let mut json = serde_json::to_value(&epoch).expect("JSON");
    assert_eq!(json["version"], 9);
    json.as_object_mut().expect("an object").remove("version");
    let read: Epoch = serde_json::from_value(json).expect("an epoch");
    assert_eq!(read, Epoch { version: 0, ..epoch });
}

/// Slots came to the shard at a position: whoever has less never had them.
#[test]
fn nobody_below_the_floor_becomes_master() {
    let mut s = Script::serving(&["a", "b"]);
    let found = |s: &Script| {
        let Script { record, observed, policy, now } = s;
        let cx = crate::context::Context::new(record, observed, policy, *now);
        let shard = &record.shards[0];
        crate::candidate::eligible(&cx, shard, shard.master().expect("a master")).len()
    };
    let holds = |s: &mut Script, epoch: u64, sequence: u64| {
        s.answers_with("b", |reply| {
            reply.sequence = sequence;
            reply.standing.history_epoch = epoch;
            reply.standing.history_id = Some(EpochId(epoch));
        });
    };
    holds(&mut s, 3, 99);
    assert_eq!(found(&s), 1);
    let floor = crate::moves::Floor { epoch: 3, id: EpochId(3), sequence: 100 };
    s.record.shards[0].floor = Some(floor);
    assert_eq!(found(&s), 0);
    holds(&mut s, 3, 100);
    assert_eq!(found(&s), 1);
    holds(&mut s, 2, 500);
    assert_eq!(found(&s), 0, "of an earlier epoch");
    holds(&mut s, 4, 50);
    assert_eq!(found(&s), 1, "a later one was opened upon data that goes so far");
}
