use expect_test::expect;

use super::*;
use crate::{
    announced,
    route::{Route, RouteRequest},
    slots_arg::parse_slots,
};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const C: &str = "cccccccccccccccccccccccccccccccccccccccc";
const D: &str = "dddddddddddddddddddddddddddddddddddddddd";

fn nobody(_: &Endpoint) -> bool {
    false
}

fn id(text: &str) -> NodeId {
    NodeId::new(text.as_bytes()).unwrap()
}

fn slot(number: u16) -> Slot {
    Slot::new(number).unwrap()
}

/// Two masters with a replica each; node A listens on 127.0.0.1:7000.
fn two_shards() -> String {
    format!(
        "{A} 127.0.0.1 7000 master - 0-8191\n{B} 10.0.0.2 6666 master - 8192-16383\n\
         {C} 10.0.0.3 6666 slave {A}\n{D} 10.0.0.4 6666 slave {B}"
    )
}

impl Cluster {
    fn set(&mut self, description: &str, version: i64) -> Outcome {
        self.try_set(description, version, false).unwrap()
    }

    fn try_set(
        &mut self,
        description: &str,
        version: i64,
        force: bool,
    ) -> Result<Outcome, ClusterError> {
        let listens = |endpoint: &Endpoint| endpoint.port == 7000 && endpoint.host == "127.0.0.1";
        let change = self.prepare_set_nodes(description.as_bytes(), version, force, &listens)?;
        Ok(self.commit(change).unwrap())
    }

    fn move_slots(&mut self, slots: &str, to: &str, version: i64) -> Result<Outcome, ClusterError> {
        let slots = parse_slots(slots.as_bytes()).unwrap();
        let change = self.prepare_set_slot(&slots, to.as_bytes(), version)?;
        Ok(self.commit(change).unwrap())
    }

    /// As a node would find itself after a restart.
    fn restarted(&self) -> Self {
        Self::load(NodesConf::parse(&self.nodes_conf().to_bytes()).unwrap(), &nobody)
    }
}

fn node(name: &str) -> Cluster {
    let mut cluster = Cluster::default();
    let change = cluster.prepare_set_node_id(name.as_bytes(), true).unwrap();
    cluster.commit(change).unwrap();
    cluster.set(&two_shards(), 1);
    cluster
}

#[test]
fn before_the_first_topology() {
    let cluster = Cluster::default();
    assert_eq!((cluster.version(), cluster.id(), cluster.hash()), (-1, None, String::new()));
    let error = cluster.topology().unwrap_err();
    assert_eq!(error.reply(), "CLUSTERDOWN The cluster is not initialized");
    assert_eq!(cluster.outcome().assignment, Assignment::Unchanged);
    assert_eq!(
        cluster.prepare_set_node_id(b"x", true).unwrap_err().reply(),
        "ERR Invalid cluster node id"
    );
}

#[test]
fn versions() {
    let mut cluster = node(A);
    let other = format!("{A} 127.0.0.1 7000 master - 5");
    assert_eq!(cluster.try_set(&other, -1, true), Err(ClusterError::Version));
    assert_eq!(cluster.try_set(&other, 0, false), Err(ClusterError::Version));
    // The same version: ignored, good or bad.
    assert_eq!(cluster.set(&other, 1).assignment, Assignment::Unchanged);
    assert_eq!(cluster.set("nonsense", 1).assignment, Assignment::Unchanged);
    assert_eq!(cluster.topology().unwrap().nodes.len(), 4);
    // Gaps are fine, and force goes back, also to the same version.
    assert_eq!(cluster.set(&other, 9).assignment, Assignment::Master);
    assert_eq!(cluster.topology().unwrap().assigned_slots(), 1);
    cluster.try_set(&two_shards(), 9, true).unwrap();
    assert_eq!(cluster.topology().unwrap().assigned_slots(), 16_384);
    cluster.try_set(&other, 0, true).unwrap();
    assert_eq!(cluster.version(), 0);
}

#[test]
fn bad_description_changes_nothing() {
    let mut cluster = node(A);
    let before = (cluster.nodes_conf(), cluster.generation);
    let error = cluster.try_set("x", 2, false).unwrap_err();
    assert_eq!(error.reply(), "ERR Invalid cluster nodes info");
    assert_eq!((cluster.nodes_conf(), cluster.generation), before);
}

#[test]
fn preparing_changes_nothing_until_the_commit() {
    let mut cluster = node(A);
    let first = cluster.prepare_set_nodes(two_shards().as_bytes(), 2, false, &nobody).unwrap();
    let second = cluster.prepare_set_nodes(two_shards().as_bytes(), 3, false, &nobody).unwrap();
    assert_eq!((cluster.version(), first.next().version()), (1, 2));
    assert_eq!(first.file, FileChange::Write(first.next().nodes_conf().to_bytes()));
    cluster.commit(first).unwrap();
    assert_eq!(cluster.commit(second), Err(StaleChange));
    assert_eq!(cluster.version(), 2);
    let third = cluster.prepare_set_nodes(two_shards().as_bytes(), 4, false, &nobody).unwrap();
    let (next, outcome) = third.into_parts();
    assert_eq!((next.version(), outcome.assignment), (4, Assignment::Master));
    // The same version again writes the file again: the first attempt may have failed after the
    // rename.
    let again = cluster.prepare_set_nodes(b"", 2, false, &nobody).unwrap();
    assert_eq!(again.file, FileChange::Write(cluster.nodes_conf().to_bytes()));
}

#[test]
fn slots_that_are_no_longer_named_have_no_owner() {
    let mut cluster = node(A);
    cluster.set(&format!("{A} 127.0.0.1 7000 master - 0-100"), 2);
    assert_eq!(cluster.owner(slot(100)).unwrap().id, id(A));
    assert_eq!(cluster.owner(slot(101)), None);
    assert_eq!(cluster.route([slot(101)], RouteRequest::default()), Route::SlotNotServed);
}

#[test]
fn finds_itself_by_address() {
    let mut cluster = Cluster::default();
    cluster.set(&two_shards(), 1);
    assert_eq!(cluster.id(), Some(id(A)));
    // An id that is known stays, unless force is given; then it stays only if nothing matches.
    let change = cluster.prepare_set_node_id(B.as_bytes(), true).unwrap();
    assert_eq!(cluster.commit(change).unwrap().assignment, Assignment::Master);
    cluster.set(&two_shards(), 2);
    assert_eq!(cluster.id(), Some(id(B)));
    cluster.try_set(&two_shards(), 2, true).unwrap();
    assert_eq!(cluster.id(), Some(id(A)));
    cluster.try_set(&format!("{C} h 1 master - 0"), 3, true).unwrap();
    assert_eq!((cluster.id(), cluster.myself()), (Some(id(A)), None));
}

#[test]
fn announced_endpoints_do_not_identify() {
    let mut cluster = Cluster::default();
    let outcome = cluster.set(&format!("{A} 10.9.9.9 1 master - 0 127.0.0.1 7000"), 1);
    assert_eq!((cluster.id(), outcome.assignment), (None, Assignment::NotInTable));
}

#[test]
fn assignments() {
    let master = Assignment::ReplicaOf {
        id: id(A),
        local: Endpoint { host: "127.0.0.1".to_owned(), port: 7000 },
    };
    assert_eq!(node(A).outcome().assignment, Assignment::Master);
    assert_eq!(node(C).outcome().assignment, master);
    assert_eq!(node(C).restarted().outcome().assignment, master);
    let mut cluster = node(C);
    let orphan = format!("{A} h 1 master - 0 lb 1\n{C} h 2 slave {B}");
    assert_eq!(cluster.set(&orphan, 2).assignment, Assignment::Unchanged);
    // The announced endpoint is never a replication source.
    let adopted = format!("{A} h 1 master - 0 lb 1\n{C} h 2 slave {A}");
    let local = Endpoint { host: "h".to_owned(), port: 1 };
    assert_eq!(cluster.set(&adopted, 3).assignment, Assignment::ReplicaOf { id: id(A), local });
    assert_eq!(cluster.set(&format!("{A} h 1 master - 0"), 4).assignment, Assignment::NotInTable);
}

#[test]
fn a_former_master_needs_a_full_sync() {
    let swapped = format!("{A} 127.0.0.1 7000 slave {C}\n{C} 10.0.0.3 6666 master - 0-8191");
    for mut cluster in [node(A), node(A).restarted()] {
        assert!(!cluster.outcome().full_sync_required);
        assert!(cluster.set(&swapped, 2).full_sync_required);
        // Neither a restart nor newer topologies make the old data good.
        cluster = cluster.restarted();
        assert!(cluster.outcome().full_sync_required);
        assert!(cluster.set(&swapped, 3).full_sync_required);
        let change = cluster.prepare_full_sync_done();
        cluster.commit(change).unwrap();
        assert!(!cluster.set(&swapped, 4).full_sync_required);
        assert!(!cluster.restarted().outcome().full_sync_required);
    }
    assert!(!node(C).outcome().full_sync_required);
}

#[test]
fn a_former_master_is_found_out_later() {
    // Out of the table first, replica only then.
    let mut cluster = node(A);
    let gone = cluster.set(&format!("{C} 10.0.0.3 6666 master - 0-8191"), 2);
    assert!(!gone.full_sync_required);
    cluster = cluster.restarted();
    let swapped = format!("{A} 127.0.0.1 7000 slave {C}\n{C} 10.0.0.3 6666 master - 0-8191");
    assert!(cluster.set(&swapped, 3).full_sync_required);
    // Promoted again without a sync: its data is the truth once more.
    assert!(!cluster.set(&two_shards(), 4).full_sync_required);
    assert!(cluster.set(&swapped, 5).full_sync_required);
}

#[test]
fn set_slot_as_recorded() {
    let mut cluster = node(A);
    assert_eq!(cluster.move_slots("5", B, 1), Err(ClusterError::Version));
    assert_eq!(cluster.move_slots("5", B, 3), Err(ClusterError::Version));
    assert_eq!(cluster.move_slots("5", "x", 2), Err(ClusterError::NodeId));
    assert_eq!(cluster.move_slots("5", C, 2), Err(ClusterError::NotAMaster));
    let before = cluster.nodes_conf();
    let unknown = cluster.move_slots("5", &"e".repeat(40), 2).unwrap_err();
    assert_eq!(unknown.reply(), "ERR No this node in the cluster");
    assert_eq!(cluster.nodes_conf(), before, "an unknown id leaves no trace");
    assert_eq!(
        Cluster::default().move_slots("5", B, 0),
        Err(ClusterError::Version),
        "version 0 is not for SETSLOT"
    );
    for (slots, to, version) in
        [("5", B, 2), ("10-12 20 30-31", B, 3), ("7-7", B, 4), ("9000", A, 5), ("0", A, 6)]
    {
        cluster.move_slots(slots, to, version).unwrap();
    }
    expect![[r#"
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 127.0.0.1 7000 master - 0-4 6 8-9 13-19 21-29 32-8191 9000
        bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 10.0.0.2 6666 master - 5 7 10-12 20 30-31 8192-8999 9001-16383
        cccccccccccccccccccccccccccccccccccccccc 10.0.0.3 6666 slave aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        dddddddddddddddddddddddddddddddddddddddd 10.0.0.4 6666 slave bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"#]]
    .assert_eq(&cluster.topology().unwrap().render());
    assert_eq!(cluster.version(), 6);
    assert_eq!(cluster.move_slots("0", A, 0), Err(ClusterError::Version));
    let restarted = cluster.restarted();
    for number in 0..SLOT_COUNT {
        assert_eq!(restarted.owner(slot(number)), cluster.owner(slot(number)));
    }
}

/// A mistyped number must not be the last topology that a node ever takes.
#[test]
fn a_version_that_leaves_no_room_for_the_next_ones_is_refused() {
    let mut cluster = node(A);
    for version in [VERSION_MAX + 1, i64::MAX] {
        for force in [false, true] {
            let refused = cluster.try_set(&two_shards(), version, force);
            assert_eq!(refused, Err(ClusterError::Version), "{version} {force}");
        }
    }
    assert_eq!(cluster.version(), 1);
    cluster.set(&two_shards(), VERSION_MAX);
    for version in [i64::MIN, VERSION_MAX, i64::MAX] {
        assert_eq!(cluster.move_slots("5", B, version), Err(ClusterError::Version), "{version}");
    }
    // A node that has come so far with an earlier version goes on.
    cluster.move_slots("5", B, VERSION_MAX + 1).unwrap();
    cluster.set(&two_shards(), VERSION_MAX + 9);
    cluster.set(&two_shards(), i64::MAX);
    assert_eq!(cluster.move_slots("5", B, i64::MIN), Err(ClusterError::Version));
    assert_eq!(cluster.move_slots("5", B, i64::MAX), Err(ClusterError::Version));
}

fn marked(name: &str) -> Cluster {
    let mut cluster = node(name);
    cluster.update_marks(|marks| {
        marks.migrated.extend([(slot(1), id(B)), (slot(2), id(B))]);
        marks.imported.insert(slot(9000));
    });
    cluster
}

#[test]
fn an_outcome_names_the_slots_that_the_change_is_about() {
    let mut cluster = node(A);
    assert_eq!(
        cluster.move_slots("1-2", A, 2).unwrap().told,
        SlotSet::from_iter([slot(1), slot(2)])
    );
    let table = format!("{A} 127.0.0.1 7000 master - 0-8191\n{B} h 1 master - 8192-16383");
    assert!(cluster.set(&table, 2).told.is_empty(), "the same version says nothing new");
    assert_eq!(cluster.set(&table, 3).told.len(), usize::from(crate::SLOT_COUNT));
}

#[test]
fn handed_over_slots_are_cleared_when_the_topology_says_so() {
    let mut cluster = marked(A);
    let outcome = cluster.move_slots("1", B, 2).unwrap();
    assert_eq!(outcome.clear_slots, SlotSet::from_iter([slot(1)]));
    assert_eq!(cluster.marks().migrated.keys().copied().collect::<Vec<_>>(), [slot(2)]);
    assert!(cluster.marks().imported.contains(slot(9000)), "marks of other slots survive");

    // Slots that came and are left with their owner are not served here as well.
    cluster.move_slots("9000", B, 3).unwrap();
    assert!(!cluster.marks().imported.contains(slot(9000)));

    // SETNODES: slot 1 goes, slot 2 stays after all; all marks are forgotten.
    let mut cluster = marked(A);
    let moved = format!("{A} 127.0.0.1 7000 master - 0 2-8191\n{B} h 1 master - 1 8192-16383");
    assert_eq!(cluster.set(&moved, 2).clear_slots, SlotSet::from_iter([slot(1)]));
    assert_eq!(*cluster.marks(), Marks::default());

    // Nobody's slot is not somebody else's.
    let mut cluster = marked(A);
    let outcome = cluster.set(&format!("{A} 127.0.0.1 7000 master - 0"), 2);
    assert!(outcome.clear_slots.is_empty());

    // A replica never deletes by itself.
    let mut cluster = marked(A);
    let outcome = cluster.set(&format!("{A} h 1 slave {B}\n{B} h 2 master - 0-16383"), 2);
    assert!(outcome.clear_slots.is_empty() && outcome.full_sync_required);
}

#[test]
fn marks_make_prepared_changes_stale() {
    let mut cluster = node(A);
    let change = cluster.prepare_set_nodes(two_shards().as_bytes(), 2, false, &nobody).unwrap();
    cluster.update_marks(|marks| marks.importing = parse_slots(b"9000").unwrap().pop());
    assert_eq!(cluster.commit(change), Err(StaleChange));
}

#[test]
fn reset() {
    let mut cluster = marked(A);
    let mut guards = ResetGuards { is_migrating: true, is_importing: true, has_data: true };
    let refusal = |guards| cluster.prepare_reset(guards).unwrap_err().reply();
    assert_eq!(refusal(guards), "ERR Can't reset cluster while migrating slot");
    guards.is_migrating = false;
    assert_eq!(refusal(guards), "ERR Can't reset cluster while importing slot");
    guards.is_importing = false;
    assert_eq!(refusal(guards), "ERR Can't reset cluster while database is not empty");
    let change = cluster.prepare_reset(ResetGuards::default()).unwrap();
    assert_eq!(change.file, FileChange::Remove);
    let outcome = cluster.commit(change).unwrap();
    assert_eq!(outcome.assignment, Assignment::NotInTable);
    assert_eq!(cluster.nodes_conf(), NodesConf::default());
    assert_eq!(*cluster.marks(), Marks::default());
    // A reset does not make an older change current.
    assert!(cluster.generation > 0);
}

#[test]
fn loads_a_file_with_an_id_only() {
    let file = NodesConf::parse(format!("version -1\nid {A}\n").as_bytes()).unwrap();
    let cluster = Cluster::load(file, &nobody);
    assert_eq!((cluster.version(), cluster.id()), (-1, Some(id(A))));
    assert_eq!(cluster.outcome().assignment, Assignment::Unchanged);
}

#[test]
fn announced_endpoints_survive_a_restart() {
    let mut cluster = node(A);
    let text = format!("{A} 127.0.0.1 7000 master - 0-5 lb1 6379\n{C} h 1 slave {A} ::1 6380");
    cluster.set(&text, 2);
    let restarted = cluster.restarted();
    assert_eq!(restarted.topology(), cluster.topology());
    let announced = announced::check("[::1]", 6380).unwrap();
    assert_eq!(restarted.topology().unwrap().nodes[1].announced, Some(announced));
}
