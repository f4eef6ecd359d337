//! Scripted swaps of data folders: what a node says under another's name, or of another cluster, is
//! an alarm and nothing else.

use super::grants::{in_sync, standing};
use super::*;

const OURS: &str = "00000000000000aa";
const OTHER: &str = "00000000000000bb";

/// As [`in_sync`], of nodes that know their cluster.
fn named(nodes: &[&str]) -> Script {
    let mut s = in_sync(nodes);
    s.record.cluster_id = OURS.into();
    for name in nodes {
        s.answers_with(name, |reply| reply.cluster_id = OURS.into());
    }
    assert_eq!(s.plan().actions, [], "nothing left to do");
    s
}

/// The node runs on a folder that has seen more of everything than this store.
fn swapped(s: &mut Script, name: &str, folder: impl FnOnce(&mut Reply)) {
    s.answers_with(name, |reply| {
        folder(reply);
        (reply.version, reply.sequence, reply.topology_hash) = (40, 9_000, "x".into());
        (reply.standing.history_epoch, reply.standing.history_id) = (20, Some(EpochId(20)));
        (reply.standing.promised_ms, reply.standing.incarnation) = (500, Some(9));
    });
}

/// Epochs, versions and positions of another node's folder say nothing of this store's age.
#[test]
fn a_swapped_folder_takes_no_lease_from_a_healthy_master() {
    let mut s = named(&["a", "b"]);
    swapped(&mut s, "b", |reply| reply.myid = id("c"));
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        steady: 
        alarm: b:1 answers as node c_______________________________________, not b_______________________________________: it runs on the data folder of a node that is not of this cluster; give it the folder of b_______________________________________, or delete that node from this cluster: until then, what it says counts for nothing
    "#]]);
    // Of another cluster, under the right name: a clone of the folder's database.
    let mut s = named(&["a", "b"]);
    swapped(&mut s, "b", |reply| reply.cluster_id = OTHER.into());
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        steady: 
        alarm: b:1 runs on a data folder of cluster 00000000000000bb (node b_______________________________________), this is cluster 00000000000000aa; give it the folder of node b_______________________________________, or delete that node from this cluster: until then, what it says counts for nothing
    "#]]);
}

#[test]
fn two_nodes_on_each_others_folders_are_told_apart_from_strangers() {
    let mut s = named(&["a", "b", "c"]);
    swapped(&mut s, "b", |reply| reply.myid = id("c"));
    swapped(&mut s, "c", |reply| reply.myid = id("b"));
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1 c/1/1
        steady: 
        alarm: b:1 answers as node c_______________________________________, not b_______________________________________: it runs on the data folder of c:1; stop both, give each its own folder, and start them again: until then, what it says counts for nothing
        alarm: c:1 answers as node b_______________________________________, not c_______________________________________: it runs on the data folder of b:1; stop both, give each its own folder, and start them again: until then, what it says counts for nothing
    "#]]);
    // Swapped back: as if nothing had been.
    for name in ["b", "c"] {
        s.answers_with(name, |reply| {
            *reply = Reply { cluster_id: OURS.into(), ..super::reply(name, 7, Does::Slave) };
            reply.standing = standing(Does::Slave);
        });
    }
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1 c/1/1
        steady: 
    "#]]);
}

/// A node that lost its name holds data that nobody can vouch for, until it has it again.
#[test]
fn epochs_of_a_node_without_a_name_do_not_age_the_store() {
    let mut s = named(&["a", "b"]);
    s.answers_with("b", |reply| {
        (reply.myid, reply.version) = (String::new(), -1);
        (reply.standing.history_epoch, reply.standing.history_id) = (20, Some(EpochId(20)));
    });
    s.check(expect![[r#"
        push b: it has no topology, the record has 7
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        steady: 
    "#]]);
}

/// Neither may it take over, nor does its answer fence the one that should be there.
#[test]
fn a_stranger_neither_takes_over_nor_vouches_for_a_dead_master() {
    let mut s = named(&["a", "b"]);
    swapped(&mut s, "b", |reply| reply.cluster_id = OTHER.into());
    s.refuses("a", 2);
    s.check(expect![[r#"
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1
        stuck: master a:1 is down; b:1 runs on another node's data folder
        alarm: b:1 runs on a data folder of cluster 00000000000000bb (node b_______________________________________), this is cluster 00000000000000aa; give it the folder of node b_______________________________________, or delete that node from this cluster: until then, what it says counts for nothing
        alarm: shard 0: master a:1 is down, nobody can take over: b:1 runs on another node's data folder
    "#]]);
    let mut s = named(&["a", "b"]);
    s.after_ms(10);
    // A newer process at the master's address, of another cluster, without a lease.
    swapped(&mut s, "a", |reply| {
        (reply.cluster_id, reply.nonce, reply.lease_remaining_ms) = (OTHER.into(), "9".into(), 0);
    });
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b
        leases: 
        fencing: master a:1 is down; closing its frontends, waiting for a fence
        alarm: a:1 runs on a data folder of cluster 00000000000000bb (node a_______________________________________), this is cluster 00000000000000aa; give it the folder of node a_______________________________________, or delete that node from this cluster: until then, what it says counts for nothing
    "#]]);
}

#[test]
fn a_stranger_at_a_members_address_does_not_hold_up_an_accepted_loss() {
    let mut s = named(&["a", "b"]);
    s.after_ms(10);
    swapped(&mut s, "a", |reply| reply.cluster_id = OTHER.into());
    s.answers_with("b", |reply| reply.standing.incarnation = Some(2));
    let loss = |s: &Script, name| crate::loss(&s.record, &s.observed, &s.policy, 0, &id(name));
    assert_eq!(loss(&s, "b").expect("a loss").epoch, 3);
    assert_eq!(loss(&s, "a").expect_err("not its data"), "a:1 answers as another node");
}

#[test]
fn a_cluster_is_named_once_and_its_nodes_are_told() {
    let mut s = in_sync(&["a", "b", "c"]);
    s.observed.fresh_id = 0xcafe;
    s.answers_with("a", |reply| reply.cluster_id = "-".into());
    s.check(expect![[r#"
        store v7 a*@lb0 b@lb1 c@lb2 epoch 3=3 process 1 request 0 of a/1/1 b/1/1 c/1/1: the cluster is named 000000000000cafe
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1 c/1/1
        steady: 
    "#]]);
    s.acts();
    assert_eq!(s.record.cluster_id, "000000000000cafe");
    // Older nodes (b, c) are not told what they could not keep.
    s.check(expect![[r#"
        push a: it does not know its cluster
        leases: a
        grant a: epoch 3 least Some(0000000000000002) 50 request 0 of a/1/1 b/1/1 c/1/1
        steady: 
    "#]]);
    // A store that does not know the name takes that of its nodes, not of the one that is foreign.
    let mut s = in_sync(&["a", "b", "c"]);
    for (name, cluster) in [("a", OTHER), ("b", OURS), ("c", OURS)] {
        s.answers_with(name, |reply| reply.cluster_id = cluster.into());
    }
    s.acts();
    assert_eq!(s.record.cluster_id, OURS);
}

/// An index is another shard's as soon as one before it is removed.
#[test]
fn a_shard_without_a_name_is_given_one_that_stays() {
    let mut s = Script::serving(&["a", "b"]);
    let other = Shard { id: ShardId(0xcafe), nodes: Vec::new(), ..s.record.shards[0].clone() };
    s.record.shards[0].id = ShardId::default();
    s.observed.fresh_id = 0xcafe;
    // A record of an earlier version.
    let json = serde_json::to_string(&s.record.shards[0]).expect("JSON");
    assert!(!json.contains("\"id\":\"0000000000000000\""), "{json}");
    assert_eq!(serde_json::from_str::<Shard>(&json).expect("a shard"), s.record.shards[0]);
    let named = |s: &Script| match &s.plan().actions[..] {
        [Action::CompareAndSwap { record, .. }] => record.shards[0].id,
        other => panic!("{other:?}"),
    };
    assert_eq!(named(&s), ShardId(0xcafe));
    let alone = s.record.shards.clone();
    s.record.shards.push(Shard { slot_ranges: Vec::new(), ..other });
    assert!(![ShardId(0xcafe), ShardId::default()].contains(&named(&s)), "it has it already");
    s.record.shards = alone;
    s.record.shards[0].id = named(&s);
    assert_eq!(s.plan().actions, [], "given once");
}

#[test]
fn a_shards_name_is_no_index() {
    let id = ShardId(0x10);
    assert_eq!(id.to_string().parse(), Ok(id));
    for bad in ["", "10", "0000000000000010 ", "+000000000000010", "00000000000000g0"] {
        assert!(bad.parse::<ShardId>().is_err(), "{bad}");
    }
    let mut record = record(&["a"]);
    let mut twin = record.shards[0].clone();
    (twin.nodes[0].id, twin.nodes[0].local) = (super::id("b"), super::endpoint("b"));
    (twin.nodes[0].announced, twin.slot_ranges) = (None, Vec::new());
    record.shards.push(twin);
    assert_eq!(record.check(), Err(crate::RecordError::ShardId(ShardId(0xa))));
    record.shards[1].id = ShardId(0xb);
    assert_eq!(record.check(), Ok(()));
    assert_eq!((record.place_of(ShardId(0xb)), record.place_of(ShardId(0))), (Some(1), None));
}
