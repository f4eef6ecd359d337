//! Several shards that are ready for a change at one moment.

use std::time::{Duration, Instant};

use super::grants::{in_sync, member, standing};
use super::*;

/// Shards of a and b, and of c and d, under epochs; a and c are their masters.
fn two() -> Script {
    let mut s = in_sync(&["a", "b"]);
    let mut other = record(&["c", "d"]).shards.remove(0);
    (other.id, other.slot_ranges) = (ShardId(0xb), vec![(10_000, 16_383)]);
    for (node, place) in other.nodes.iter_mut().zip(8..) {
        node.announced = Some(endpoint(&format!("lb{place}")));
        node.stated = s.record.shards[0].nodes[0].stated.clone();
    }
    other.epoch = s.record.shards[0].epoch.clone();
    other.epoch.in_sync = [member("c"), member("d")].into_iter().collect();
    s.record.shards[0].slot_ranges = vec![(0, 9_999)];
    s.record.shards.push(other);
    s.record.check().expect("a sound record");
    for (name, does) in [("c", Does::Master), ("d", Does::Slave)] {
        s.answers(name, reply(name, 7, does));
        s.answers_with(name, |reply| reply.standing = standing(does));
    }
    s.granted("c");
    for name in ["a", "c"] {
        s.observed.nodes.entry(id(name)).or_default().confirmed = Some((3, 0));
    }
    while !s.acts().actions.is_empty() {
        s.balancer_answers(&[]);
    }
    s
}

#[test]
fn masters_lost_at_one_moment_are_replaced_in_one_change() {
    let mut s = two();
    s.observed.fresh_id = 0xf;
    let version = s.record.version;
    for name in ["a", "c"] {
        s.refuses(name, 2);
    }
    // Until their leases are over, and the frontends closed.
    let mut swaps = 0;
    for _ in 0..20 {
        s.after_ms(200);
        for name in ["b", "d"] {
            s.answers_with(name, |_| {});
        }
        let plan = s.acts();
        swaps += plan.actions.iter().filter(|a| matches!(a, Action::CompareAndSwap { .. })).count();
        if s.observed.desired.is_some() {
            s.balancer_answers(&[]);
        }
        if s.record.version > version {
            break;
        }
    }
    assert_eq!(s.record.version, version + 1);
    let masters: Vec<&str> =
        s.record.shards.iter().filter_map(|shard| shard.master()).map(|n| short(&n.id)).collect();
    assert_eq!(masters, ["b", "d"]);
    assert_eq!(swaps, 1);
    let epochs: Vec<_> = s.record.shards.iter().map(|shard| shard.epoch.id).collect();
    assert_ne!(epochs[0], epochs[1], "two histories");
    s.record.check().expect("a sound record");
}

/// Two masters were started on each other's folders: what either says counts for nothing, and each
/// shard goes on with a replica and a history of its own.
#[test]
fn masters_on_each_others_folders_lead_neither_shard() {
    let mut s = two();
    s.observed.fresh_id = 0xf;
    let version = s.record.version;
    for _ in 0..20 {
        s.after_ms(200);
        for (name, folder) in [("a", "c"), ("c", "a")] {
            s.answers_with(name, |reply| {
                (reply.myid, reply.nonce) = (id(folder), "9".into());
                (reply.lease_remaining_ms, reply.standing.granted_epoch) = (0, 0);
            });
        }
        for name in ["b", "d"] {
            s.answers_with(name, |_| {});
        }
        let plan = s.acts();
        let told = plan.alarms.iter().filter(|alarm| alarm.contains("runs on the data folder of"));
        assert_eq!(told.count(), 2, "{:?}", plan.alarms);
        if s.observed.desired.is_some() {
            s.balancer_answers(&[]);
        }
        if s.record.version > version {
            break;
        }
    }
    let masters: Vec<&str> =
        s.record.shards.iter().filter_map(|shard| shard.master()).map(|n| short(&n.id)).collect();
    assert_eq!(masters, ["b", "d"]);
    let epochs: Vec<_> = s.record.shards.iter().map(|shard| shard.epoch.id).collect();
    assert_ne!(epochs[0], epochs[1], "two histories");
    for (shard, name) in s.record.shards.iter().zip(["b", "d"]) {
        let own: api::grant::Members = [member(name)].into_iter().collect();
        assert_eq!(shard.epoch.in_sync, own);
    }
    s.record.check().expect("a sound record");
}

/// So many shards more, of a master m… and a replica r… each.
fn many(count: usize) -> Script {
    let mut s = Script::serving(&["a", "b"]);
    for (index, number) in (0..count).zip(100..) {
        let (master, replica) = (format!("m{index}"), format!("r{index}"));
        let mut shard = record(&[&master, &replica]).shards.remove(0);
        (shard.id, shard.slot_ranges) = (ShardId(number), Vec::new());
        shard.nodes.iter_mut().for_each(|node| node.announced = None);
        s.record.shards.push(shard);
        s.answers(&master, reply(&master, 7, Does::Master));
        s.answers(&replica, reply(&replica, 7, Does::Slave));
        s.granted(&master);
    }
    s
}

/// How long a plan takes.
fn time(s: &Script) -> Duration {
    let began = Instant::now();
    let plan = s.plan();
    let took = began.elapsed();
    assert_eq!(plan.shards.len(), s.record.shards.len());
    took
}

/// A plan is made under a lock that the heartbeats of the whole cluster wait for: of ten times as
/// many shards it takes about ten times as long. What is slow by its steps, a hundred times as
/// long, is so at each try; what a busy machine makes slow is not.
#[test]
fn a_plan_takes_as_long_as_there_are_shards_and_no_longer() {
    let lost = |count: usize| {
        let mut s = many(count);
        for index in 0..count {
            s.refuses(&format!("m{index}"), 2);
        }
        s.after_ms(5_000);
        for index in 0..count {
            s.answers_with(&format!("r{index}"), |_| {});
        }
        let plan = s.plan();
        let swapped = plan.actions.iter().find_map(|action| match action {
            Action::CompareAndSwap { record, .. } => Some(record),
            _ => None,
        });
        let is_new = |shard: &&Shard| shard.master().is_some_and(|node| node.id.starts_with('r'));
        let masters = swapped.expect("a change").shards.iter().filter(is_new).count();
        assert_eq!(masters, count);
        s
    };
    // As where this controller has no descriptors left.
    let unclear = |count: usize| {
        let mut s = many(count);
        let (nodes, now) = (s.record.nodes().map(|(_, node)| node.id.clone()), s.now);
        for id in nodes.collect::<Vec<_>>() {
            s.observed.unasked(&id, now, "too many open files");
        }
        s
    };
    let cases: [(&str, &dyn Fn(usize) -> Script); 2] = [("lost", &lost), ("unclear", &unclear)];
    for (what, build) in cases {
        let (few, more) = (build(150), build(1_500));
        let mut tries = (0..20).map(|_| (time(&few), time(&more)));
        assert!(
            tries.any(|(few, more)| more < few * 40),
            "{what}: a plan for 1,500 masters takes more than 40 times as long as one for 150"
        );
    }
}
