//! Scripted plans where a master's data is gone: nobody is led into giving up what is left, and
//! people are told where it lies.

use api::heartbeat::End;

use super::grants::{in_sync, standing};
use super::*;

/// Epoch 3, asynchronous, after the controller has restarted: nothing is known of the master but
/// what it says now.
fn asynchronous(nodes: &[&str]) -> Script {
    let mut s = in_sync(nodes);
    s.record.commit_mode = CommitMode::Async;
    s.record.shards[0].epoch.in_sync = api::grant::Members::default();
    s.controller_restarts();
    s.observed.fresh_id = 0xf;
    s.after_ms(10_000);
    s
}

/// The next process of a, on a disk that holds this.
fn comes_back(s: &mut Script, epoch: u64, sequence: u64) {
    s.answers("a", reply("a", 7, Does::Master));
    s.answers_with("a", |reply| {
        (reply.nonce, reply.lease_remaining_ms, reply.sequence) = ("2".into(), 0, sequence);
        let history_id = (epoch > 0).then_some(EpochId(epoch));
        reply.standing = Standing {
            incarnation: Some(2),
            history_epoch: epoch,
            history_id,
            granted_epoch: 0,
            ..standing(Does::Master)
        };
    });
}

fn replica(s: &mut Script, name: &str, epoch: u64, sequence: u64) {
    s.answers(name, reply(name, 7, Does::Slave));
    s.answers_with(name, |reply| {
        let history_id = Some(EpochId(epoch));
        reply.sequence = sequence;
        reply.standing = Standing { history_epoch: epoch, history_id, ..standing(Does::Slave) };
    });
}

fn opens_for_a(s: &Script) -> bool {
    let opens = |action: &Action| match action {
        Action::CompareAndSwap { record, .. } => {
            let shard = &record.shards[0];
            shard.epoch.number == 4 && shard.master().is_some_and(|master| master.id == id("a"))
        }
        _ => false,
    };
    s.plan().actions.iter().any(opens)
}

#[test]
fn an_empty_master_without_a_set_gives_way_to_who_has_more() {
    let mut s = asynchronous(&["a", "b"]);
    comes_back(&mut s, 0, 0);
    // Nobody else was heard yet: whoever it is may have everything.
    let plan = s.plan();
    assert_eq!(plan.shards[0].word(), "stuck", "{plan:?}");
    assert!(plan.shards[0].detail().contains("waiting for b:1, which may hold more"), "{plan:?}");
    assert!(plan.grants.is_empty() && plan.leases.is_empty(), "{plan:?}");
    assert!(plan.alarms.iter().any(|alarm| alarm.contains("is to be removed from the shard")));
    // Heard, and busy: it still has it.
    replica(&mut s, "b", 3, 200);
    s.answers_with("b", |reply| reply.resync = Resync::Required);
    assert_eq!(s.plan().shards[0].word(), "stuck");
    s.answers_with("b", |reply| reply.resync = Resync::None);
    assert_eq!(s.plan().shards[0].word(), "fencing", "{:?}", s.plan());
    assert!(!opens_for_a(&s));
    // It has no more than that, by its own word.
    replica(&mut s, "b", 0, 0);
    s.answers_with("b", |reply| reply.standing.history_id = None);
    assert!(opens_for_a(&s), "{:?}", s.plan());
}

/// What a replica said while the process before still ran is older than what it may have got from
/// that one.
#[test]
fn an_empty_master_without_a_set_waits_for_answers_since_its_process_began() {
    let mut s = asynchronous(&["a", "b"]);
    let empty = |s: &mut Script| {
        replica(s, "b", 0, 0);
        s.answers_with("b", |reply| reply.standing.history_id = None);
    };
    empty(&mut s);
    s.after_ms(60);
    comes_back(&mut s, 0, 0);
    let plan = s.plan();
    assert!(plan.shards[0].detail().contains("waiting for b:1, which may hold more"), "{plan:?}");
    assert!(plan.actions.contains(&Action::HeartbeatNow { node: id("b") }), "{plan:?}");
    assert!(!opens_for_a(&s));
    s.after_ms(5);
    empty(&mut s);
    assert!(opens_for_a(&s), "{:?}", s.plan());
}

/// What a replica said before the master's process ended says nothing of what it has since.
#[test]
fn replicas_are_asked_once_more_before_an_empty_master_leads() {
    let asked = || {
        let mut s = Script::serving(&["a", "b"]);
        s.answers_with("b", |reply| reply.sequence = 0);
        s.after_ms(60);
        s.answers_with("a", |reply| {
            (reply.nonce, reply.lease_remaining_ms, reply.sequence) = ("2".into(), 0, 0);
        });
        s.check(expect![[r#"
            ask b
            leases: 
            suspect: master a:1 came back at 0 of 100; its replicas are asked what they have
        "#]]);
        s
    };
    let mut s = asked();
    s.after_ms(5);
    s.answers_with("b", |reply| reply.sequence = 100);
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b
        store v8 a@lb1 b*@lb0: shard 0: master a:1 came back at 0 of 100; a newer process of it answers without a lease; b:1 takes over at sequence 100
        leases: 
        fencing: shard 0: master a:1 came back at 0 of 100; a newer process of it answers without a lease; b:1 takes over at sequence 100
    "#]]);
    // One that does not answer is waited for as long as a master is.
    let mut s = asked();
    s.after_ms(801);
    s.answers_with("a", |_| {});
    s.check(expect![[r#"
        leases: a
        settling: master a:1 takes over version 7
        alarm: shard 0: master a:1 came back at 0 of 100, and no replica has more
    "#]]);
}

/// The first epoch was opened upon nothing: an empty node could be one that never heard of it.
#[test]
fn the_first_epoch_is_told_from_a_lost_one_by_what_the_others_have() {
    for others_at in [0, 200] {
        let mut s = asynchronous(&["a", "b"]);
        s.record.shards[0].epoch.least = Least::default();
        comes_back(&mut s, 0, 0);
        assert_eq!(s.plan().shards[0].word(), "stuck");
        replica(&mut s, "b", 3, others_at);
        if others_at == 0 {
            s.answers_with("b", |reply| {
                (reply.standing.history_epoch, reply.standing.history_id) = (0, None);
            });
        }
        assert_eq!(opens_for_a(&s), others_at == 0, "{:?}", s.plan());
    }
}

#[test]
fn a_master_that_lost_its_newest_records_gives_way_too() {
    let mut s = asynchronous(&["a", "b"]);
    comes_back(&mut s, 3, 90);
    replica(&mut s, "b", 3, 100);
    assert_eq!(s.plan().shards[0].word(), "fencing", "{:?}", s.plan());
}

#[test]
fn an_older_copy_of_the_folder_gives_way_as_well() {
    let mut s = asynchronous(&["a", "b"]);
    comes_back(&mut s, 1, 40);
    assert_eq!(s.plan().shards[0].word(), "stuck");
    replica(&mut s, "b", 3, 100);
    assert_eq!(s.plan().shards[0].word(), "fencing");
}

#[test]
fn a_master_that_restarted_with_its_data_goes_on_at_once() {
    // It has its epoch; or it never heard of it, and has what that was opened upon.
    for (epoch, sequence) in [(3, 100), (2, 50), (2, 60)] {
        let mut s = asynchronous(&["a", "b"]);
        comes_back(&mut s, epoch, sequence);
        assert!(opens_for_a(&s), "{:?}", s.plan());
    }
    // It lost the end of that.
    let mut s = asynchronous(&["a", "b"]);
    comes_back(&mut s, 2, 49);
    assert!(!opens_for_a(&s), "{:?}", s.plan());
    // Nobody else can have it.
    let mut s = asynchronous(&["a"]);
    comes_back(&mut s, 0, 0);
    assert!(opens_for_a(&s), "{:?}", s.plan());
}

/// It has its epoch, and lost the end of it: slots that were moved here are in no other shard.
#[test]
fn a_master_below_the_position_at_which_slots_came_does_not_go_on() {
    let below = |sequence: u64| {
        let mut s = asynchronous(&["a", "b"]);
        let floor = crate::moves::Floor { epoch: 3, id: EpochId(3), sequence: 100 };
        s.record.shards[0].floor = Some(floor);
        comes_back(&mut s, 3, sequence);
        s
    };
    assert!(opens_for_a(&below(100)), "{:?}", below(100).plan());
    let mut s = below(99);
    assert!(!opens_for_a(&s), "the other one was not heard yet");
    assert!(s.plan().shards[0].detail().contains("waiting for b:1, which may hold more"));
    replica(&mut s, "b", 3, 98);
    let plan = s.plan();
    assert!(!opens_for_a(&s) && plan.grants.is_empty(), "{plan:?}");
    let told =
        "at sequence 99 of epoch 3; it lacks slots that were moved here, and nobody has them";
    assert!(plan.alarms.iter().any(|alarm| alarm.contains(told)), "{:?}", plan.alarms);
    // Not one of them either, unless it has them.
    assert_eq!(plan.shards[0].word(), "stuck");
    replica(&mut s, "b", 3, 100);
    assert_eq!(s.plan().shards[0].word(), "fencing", "{:?}", s.plan());
}

/// Nobody has them any more, and nothing but an operator's word lets the shard go on.
#[test]
fn slots_that_a_node_never_had_are_named_before_they_are_given_up() {
    let mut s = asynchronous(&["a", "b"]);
    let floor = crate::moves::Floor { epoch: 3, id: EpochId(3), sequence: 100 };
    let to = s.record.shards[0].id;
    let came = |number: u64, slots: &str, sequence: u64| crate::moves::Came {
        id: api::moves::MoveId(number),
        slots: slots.parse().expect("slots"),
        to,
        floor: crate::moves::Floor { sequence, ..floor },
    };
    s.record.shards[0].floor = Some(floor);
    s.record.shards[0].slot_ranges = vec![(0, 25), (40, 16_383)];
    s.record.moves.came =
        vec![came(6, "0-9", 60), came(7, "20-29", 99), came(8, "30-39", 100), came(9, "50", 100)];
    comes_back(&mut s, 3, 98);
    let loss = |s: &Script, name| crate::loss(&s.record, &s.observed, &s.policy, 0, &id(name));
    let error = loss(&s, "a").expect_err("b was not heard");
    assert!(error.contains("b:1 has not been heard of yet: it may hold what was moved"), "{error}");
    replica(&mut s, "b", 3, 100);
    let error = loss(&s, "a").expect_err("b has them");
    assert!(error.contains("b:1 answers and holds what was moved here"), "{error}");
    replica(&mut s, "b", 3, 97);
    let found = loss(&s, "a").expect("a loss");
    let named: Vec<_> =
        found.never_had.iter().map(|one| (one.id.0, one.slots.to_string())).collect();
    // What has left the shard since is nobody's loss here.
    assert_eq!(named, [(7, "20-25".to_owned()), (9, "50".to_owned())]);
    assert_eq!(found.slots_never_had(), [(20, 25), (50, 50)]);
    assert!(!opens_for_a(&s), "{:?}", s.plan());
    s.record.shards[0].intent = Some(crate::Intent {
        id: "i".into(),
        preferred: Some(id("a")),
        force: true,
        sync_timeout_ms: 0,
        pause_ms: 0,
        accept_loss: true,
    });
    assert!(opens_for_a(&s), "{:?}", s.plan());
}

#[test]
fn what_lies_in_db_deposed_is_told_with_the_way_back() {
    let mut s = in_sync(&["a", "b"]);
    s.answers_with("b", |reply| reply.deposed = Some(End { epoch: 3, sequence: 100 }));
    assert!(s.plan().alarms.is_empty(), "no more than what is in service");
    s.after_ms(10);
    for name in ["a", "b"] {
        s.answers_with(name, |reply| {
            (reply.nonce, reply.sequence) = ("2".into(), 0);
            reply.standing = Standing { incarnation: Some(9), ..Standing::default() };
        });
    }
    let plan = s.plan();
    let way = format!("`ctl shard restore-deposed 0 --node {}`", id("b"));
    assert_eq!(plan.shards[0].word(), "stuck");
    assert!(plan.alarms.iter().any(|alarm| alarm.contains(&way)), "{:?}", plan.alarms);
    // The operator who accepts the loss is told, too.
    let loss = crate::loss(&s.record, &s.observed, &s.policy, 0, &id("a")).expect("a loss");
    let overlooked: Vec<_> = loss.overlooked().map(|holding| holding.node.as_str()).collect();
    assert_eq!(overlooked, ["b:1"]);
    assert_eq!(loss.holds.len(), 2);
    assert_eq!((loss.holds[1].at, loss.holds[1].deposed), (Some((0, 0)), Some((3, 100))));
    // Back in service it is a member again, and takes over by itself.
    s.answers_with("b", |reply| {
        (reply.sequence, reply.deposed) = (100, Some(End::default()));
        reply.standing = standing(Does::Slave);
    });
    let plan = s.plan();
    assert_eq!(plan.shards[0].word(), "fencing", "{plan:?}");
    assert!(plan.alarms.is_empty(), "{:?}", plan.alarms);
}
