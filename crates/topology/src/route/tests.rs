use super::*;
use crate::{
    model::{Reach, SlotRange},
    slot::key_slot,
    state::Marks,
};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const C: &str = "cccccccccccccccccccccccccccccccccccccccc";

const ANYBODY: Asker = Asker { reach: Reach::Nodes, is_tls: false };
const READ: RouteRequest =
    RouteRequest { is_write: false, readonly: false, asking: false, asker: ANYBODY };
const WRITE: RouteRequest = RouteRequest { is_write: true, ..READ };
const READONLY: RouteRequest = RouteRequest { readonly: true, ..READ };
const ASKING: RouteRequest = RouteRequest { asking: true, ..WRITE };

fn cluster(name: &str) -> Cluster {
    let mut cluster = Cluster::default();
    let change = cluster.prepare_set_node_id(name.as_bytes(), true).unwrap();
    cluster.commit(change).unwrap();
    let text = format!(
        "{A} 10.0.0.1 6666 master - 0-8191\n{B} 10.0.0.2 6666 master - 8192-16000 fd00::2 7001\n\
         {C} 10.0.0.3 6666 slave {A}"
    );
    let change = cluster.prepare_set_nodes(text.as_bytes(), 1, false, &|_| false).unwrap();
    cluster.commit(change).unwrap();
    cluster
}

fn check(cluster: &Cluster, keys: &[&str], request: RouteRequest, expected: &str) {
    let route = cluster.route(keys.iter().map(|key| key_slot(key.as_bytes())), request);
    assert_eq!(route.to_string(), expected, "{keys:?} {request:?}");
    assert_eq!(route.error().is_none(), expected.is_empty());
}

const CROSS: &str = "CROSSSLOT Attempted to access keys that don't hash to the same slot";

#[test]
fn without_a_topology() {
    let cluster = Cluster::default();
    check(&cluster, &[], WRITE, "");
    check(&cluster, &["k"], READ, "CLUSTERDOWN Hash slot not served");
    check(&cluster, &["a", "b"], READ, CROSS);
}

#[test]
fn a_master() {
    let cluster = cluster(A);
    // Slot of a: 15495 (B), of b: 3300 (A), of {06S}: 0 (A).
    check(&cluster, &["b"], WRITE, "");
    check(&cluster, &["{b}1", "{b}2"], WRITE, "");
    check(&cluster, &["b", "a"], WRITE, CROSS);
    // The announced endpoint, IPv6 without brackets.
    for request in [READ, WRITE, READONLY, ASKING] {
        check(&cluster, &["a"], request, "MOVED 15495 fd00::2:7001");
    }
    let unassigned = cluster.route([Slot::new(16_001).unwrap()], READ);
    assert_eq!(unassigned.to_string(), "CLUSTERDOWN Hash slot not served");
}

#[test]
fn a_replica() {
    let cluster = cluster(C);
    check(&cluster, &["b"], READ, "MOVED 3300 10.0.0.1:6666");
    check(&cluster, &["b"], READONLY, "");
    let write = RouteRequest { is_write: true, ..READONLY };
    check(&cluster, &["b"], write, "MOVED 3300 10.0.0.1:6666");
    check(&cluster, &["a"], READONLY, "MOVED 15495 fd00::2:7001");
}

#[test]
fn a_node_that_is_in_no_table() {
    let mut cluster = cluster(&"e".repeat(40));
    cluster.update_marks(|marks| {
        marks.imported.insert(key_slot(b"a"));
    });
    check(&cluster, &["a"], READONLY, "MOVED 15495 fd00::2:7001");
    check(&cluster, &["b"], READONLY, "MOVED 3300 10.0.0.1:6666");
    check(&cluster, &[], READ, "");
}

#[test]
fn a_slot_on_its_way_out() {
    let mut cluster = cluster(A);
    let slot = key_slot(b"b");
    cluster.update_marks(|marks| marks.write_forbidden = Some(SlotRange::single(slot)));
    check(&cluster, &["b"], READ, "");
    check(
        &cluster,
        &["b"],
        WRITE,
        "TRYAGAIN Can't write to slot being migrated which is in write forbidden phase",
    );
    let to = NodeId::new(B.as_bytes()).unwrap();
    cluster.update_marks(|marks| {
        *marks = Marks { migrated: [(slot, to)].into(), ..Marks::default() };
    });
    check(&cluster, &["b"], READ, "MOVED 3300 fd00::2:7001");
}

#[test]
fn a_slot_on_its_way_in() {
    let mut cluster = cluster(A);
    let slot = key_slot(b"a");
    cluster.update_marks(|marks| marks.importing = Some(SlotRange::single(slot)));
    check(&cluster, &["a"], WRITE, "MOVED 15495 fd00::2:7001");
    check(&cluster, &["a"], ASKING, "");
    cluster.update_marks(|marks| {
        marks.importing = None;
        marks.imported.insert(slot);
    });
    check(&cluster, &["a"], WRITE, "");
}

#[test]
fn scripts() {
    let cluster = cluster(A);
    let (mine, also_mine, foreign) = (key_slot(b"b"), Slot::new(7).unwrap(), key_slot(b"a"));
    let mut scope = ScriptScope::default();
    // The first undeclared key of a script is checked as any other.
    assert_eq!(cluster.route_in_script([foreign], WRITE, &mut scope), Route::ScriptNonLocal);
    assert_eq!(cluster.route_in_script([mine], WRITE, &mut scope), Route::Run);
    assert_eq!(cluster.route_in_script([mine], WRITE, &mut scope), Route::Run);
    assert_eq!(cluster.route_in_script([also_mine], WRITE, &mut scope), Route::ScriptCrossSlot);
    assert_eq!(scope.last_slot, Some(mine));
    scope.allow_cross_slot = true;
    assert_eq!(cluster.route_in_script([also_mine], WRITE, &mut scope), Route::Run);
    assert_eq!(scope.last_slot, Some(also_mine));
    assert_eq!(cluster.route_in_script([], WRITE, &mut scope), Route::Run);
}

#[test]
fn nobody_is_sent_to_a_node_he_cannot_reach() {
    const DOWN: &str = "CLUSTERDOWN Hash slot not served: its master has no announced endpoint";
    let asker = Asker { reach: Reach::Announced, ..ANYBODY };
    let balanced = |request| RouteRequest { asker, ..request };
    let replica = cluster(C);
    for request in [READ, WRITE] {
        check(&replica, &["b"], balanced(request), DOWN);
    }
    check(&replica, &["b"], balanced(READONLY), "");
    check(&replica, &["a"], balanced(READ), "MOVED 15495 fd00::2:7001");
    let mut scope = ScriptScope::default();
    let slot = key_slot(b"b");
    let route = replica.route_in_script([slot], balanced(READ), &mut scope);
    assert_eq!(route, Route::ScriptNonLocal);
    // What it serves itself it serves, whatever it is announced as.
    check(&cluster(A), &["b"], balanced(WRITE), "");
}

#[test]
fn a_redirection_leads_to_the_port_of_its_kind() {
    let mut cluster = cluster(A);
    let text = format!(
        "{A} 10.0.0.1 6666 master - 0-8191 tls=6667,0\n\
         {B} 10.0.0.2 6666 master - 8192-16383 fd00::2 7001 tls=6667,7002"
    );
    let change = cluster.prepare_set_nodes(text.as_bytes(), 2, false, &|_| false).unwrap();
    cluster.commit(change).unwrap();
    let asker = Asker { is_tls: true, ..ANYBODY };
    check(&cluster, &["a"], WRITE, "MOVED 15495 fd00::2:7001");
    check(&cluster, &["a"], RouteRequest { asker, ..WRITE }, "MOVED 15495 fd00::2:7002");
    // A slot that was handed over, but is this node's in the topology.
    let slot = key_slot(b"b");
    cluster.update_marks(|marks| {
        marks.migrated.insert(slot, NodeId::new(B.as_bytes()).unwrap());
    });
    check(&cluster, &["b"], RouteRequest { asker, ..WRITE }, "MOVED 3300 fd00::2:7002");
}
