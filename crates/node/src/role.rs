//! Changing the topology and the role of this node.
//!
//! One change at a time: prepare on a copy, note who writes from now on, make `nodes.conf` durable,
//! then commit topology and role together under the write gate. So `+OK` means durable, and nothing
//! is half applied when the disk refuses. Nothing here waits for replication threads.

use std::sync::Arc;

use topology::persist::{self, Disk};
use topology::state::FileChange;
use topology::{Assignment, Change, Cluster, ClusterError, Endpoint, Outcome};

use crate::clock;
use crate::gate::{Engine, Role};
use crate::node::{Acted, Node};
use crate::replication::{ByHand, by_hand};
use crate::upkeep::settle;

/// Why a change was not made. `Display` is the reply without the leading `-`.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The topology refused it.
    #[error("{}", .0.reply())]
    Refused(#[from] ClusterError),
    /// `nodes.conf` could not be written: nothing was changed.
    #[error("ERR {0}: nothing was changed")]
    Save(#[from] persist::SaveError),
    /// `nodes.conf` was written, and cannot be known to be on the disk; it could not be put back.
    #[error(
        "ERR {0}: the role is what it was, but nodes.conf may have the change, and the next start would make it"
    )]
    SaveLate(persist::SaveError),
    /// The engine could not delete the keys of slots that were handed over.
    #[error("ERR delete keys of moved slots: {0}")]
    Storage(#[from] storage::Error),
    /// That this node writes from now on could not be noted: nothing was changed.
    #[error("ERR note in the database folder who writes from now on: {0}: nothing was changed")]
    Lineage(std::io::Error),
    /// The same, after `nodes.conf` was written; it could not be put back.
    #[error(
        "ERR note in the database folder who writes from now on: {0}: the role is what it was, but nodes.conf has the change, and the \
         next start makes it"
    )]
    LineageLate(std::io::Error),
    /// The task that wrote the file ended early.
    #[error("ERR the change was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Makes one change of topology, durably.
pub async fn change(
    node: Arc<Node>,
    prepare: impl FnOnce(&Cluster) -> Result<Change, ClusterError>,
) -> Result<(), ChangeError> {
    let _one_at_a_time = node.changing.lock().await;
    let change = prepare(&node.cluster.load())?;
    let is_kept = node.config.now().persist_cluster_nodes_enabled;
    // Nobody else changes the role meanwhile.
    let wanted = wanted_role(&change.outcome.assignment, &node.engine().role);
    note_ahead(&node, &wanted).await?;
    if is_kept && let Err(error) = keep(&node, change.file.clone()).await {
        forget_note(&node).await;
        return Err(unsaved(&node, error).await);
    }
    let next = change.next().clone();
    let outcome = change.outcome;
    let version = next.version();
    let is_reset = next.id().is_none() && node.cluster.load().id().is_some();
    let warnings = next.topology().map(topology::Topology::warnings).unwrap_or_default();
    match commit(&node, next, &outcome) {
        Err(ChangeError::Lineage(error)) => {
            forget_note(&node).await;
            return Err(put_back(&node, is_kept, error).await);
        }
        done => done?,
    }
    let owned = Arc::clone(&node);
    let note = move || {
        crate::grants::owner::keep(&owned);
        crate::grants::drive::name_cluster(&owned);
        if is_reset {
            crate::grants::leader::forget(&owned);
        }
    };
    tokio::task::spawn_blocking(note).await?;
    for warning in warnings {
        tracing::warn!(version, "the topology was taken as it is, but {warning}");
    }
    tracing::info!(version, role = role_word(&node), "topology changed");
    Ok(())
}

/// The data here is the master's again, as its link found under that generation of the write gate:
/// `nodes.conf` asks for no full sync any more. Given to [`Node::on_regained`].
pub fn note_regained(node: Arc<Node>, generation: u64) -> Acted {
    Box::pin(async move {
        let own = Arc::clone(&node);
        let change = change(node, move |cluster| {
            // One change at a time: the role stays what it is now until this one is made.
            if own.engine().generation != generation {
                return Err(ClusterError::Version);
            }
            Ok(cluster.prepare_full_sync_done())
        });
        if let Err(error) = change.await {
            tracing::warn!(%error, "cannot note in nodes.conf that the data is the master's: the next start looks again");
        }
    })
}

async fn keep(node: &Node, file: FileChange) -> Result<(), ChangeError> {
    let folder = node.dir.clone();
    Ok(tokio::task::spawn_blocking(move || save(&folder, &file)).await??)
}

/// What there is to tell of a `nodes.conf` that could not be saved. One that is in place, and not
/// known to be on the disk, becomes what it was: its change is not made.
async fn unsaved(node: &Node, error: ChangeError) -> ChangeError {
    match error {
        ChangeError::Save(error) if error.is_in_place() => {
            let before = FileChange::Write(node.cluster.load().nodes_conf().to_bytes());
            match keep(node, before).await {
                Ok(()) => ChangeError::Save(error),
                Err(_) => ChangeError::SaveLate(error),
            }
        }
        other => other,
    }
}

/// Of the two files only the other one was written: `nodes.conf` becomes what it was. What there is
/// to tell.
async fn put_back(node: &Node, is_kept: bool, error: std::io::Error) -> ChangeError {
    let before = FileChange::Write(node.cluster.load().nodes_conf().to_bytes());
    match is_kept && keep(node, before).await.is_err() {
        true => ChangeError::LineageLate(error),
        false => ChangeError::Lineage(error),
    }
}

fn save(folder: &std::path::Path, change: &FileChange) -> Result<(), persist::SaveError> {
    match change {
        FileChange::Write(content) => persist::save(&Disk, folder, content),
        FileChange::Remove => persist::remove(&Disk, folder),
    }
}

/// Writes or removes `nodes.conf` when `persist-cluster-nodes-enabled` is switched.
pub fn persist_now(node: &Node, is_kept: bool) -> Result<(), persist::SaveError> {
    if is_kept {
        let content = node.cluster.load().nodes_conf().to_bytes();
        persist::save(&Disk, &node.dir, &content)
    } else {
        persist::remove(&Disk, &node.dir)
    }
}

fn commit(node: &Arc<Node>, mut next: Cluster, outcome: &Outcome) -> Result<(), ChangeError> {
    let (change, generation) = {
        let mut engine = node.gate.write();
        let wanted = wanted_role(&outcome.assignment, &engine.role);
        note_writer(node, &engine, &wanted).map_err(ChangeError::Lineage)?;
        node.migration.topology_changed(&mut next, &outcome.told, wanted.is_master());
        node.cluster.store(Arc::new(next));
        // A link that found another history said so; no later topology makes that data trustworthy,
        // only a full sync does. What is whole is good for a master, what is spoilt for nobody.
        let is_useless = wanted.is_master() && by_hand(node, &engine) == ByHand::Useless;
        let is_untrusted = is_useless || (!wanted.is_master() && node.resync.is_required());
        if is_useless {
            tracing::error!(
                "a topology makes this node a master, and its data is of no use to anybody: it serves none of it"
            );
        }
        node.resync.set_required(outcome.full_sync_required || is_untrusted);
        let change = (wanted != engine.role).then(|| {
            engine.role = wanted.clone();
            engine.generation += 1;
            wanted
        });
        (change, engine.generation)
    };
    if let Some(role) = change {
        take_role(node, role, generation);
    }
    leave_slots(node);
    clear_slots(node, outcome, generation)
}

/// Ends what waits for keys of other shards, and subscriptions to their channels. Both are served
/// by the whole shard: a replica's slots are its master's.
fn leave_slots(node: &Node) {
    let cluster = node.cluster.load();
    let master = cluster.myself().map(|me| match &me.role {
        topology::Role::Replica { of } => of,
        topology::Role::Master => &me.id,
    });
    let is_gone =
        |key: &[u8]| cluster.owner(topology::key_slot(key)).map(|owner| &owner.id) != master;
    node.waiters.begin_anew_where(is_gone);
    let limit = node.config.now().subscriber_limit();
    node.pubsub.drop_shards(is_gone, limit, clock::unix_ms());
}

/// Writes ahead what [`note_writer`] needs on the disk, on a thread of its own and with the gate
/// held shared: the database stays in its place, and commands go on. It comes before everything
/// else of a change, since it does no harm where that is not made: in memory nothing is different,
/// [`forget_note`] makes the disk the same again, and a process that dies in between may have to
/// copy what it could have kept. What a link brings until the gate is taken moves the end, and
/// [`note_writer`] writes again behind it.
pub async fn note_ahead(node: &Arc<Node>, wanted: &Role) -> Result<(), ChangeError> {
    if !wanted.is_master() || node.engine().role.is_master() {
        return Ok(());
    }
    let owned = Arc::clone(node);
    let write = move || {
        let engine = owned.engine();
        // Where there is none, it is noted when one is put in service.
        let Some(store) = &engine.store else { return Ok(()) };
        owned.replication.lineage.prepare(&owned.db_path(), store.latest_sequence())
    };
    let written = tokio::task::spawn_blocking(write).await?;
    if let Err(error) = written {
        forget_note(node).await;
        return Err(ChangeError::Lineage(error));
    }
    Ok(())
}

/// The change that [`note_ahead`] was called for is not made.
pub async fn forget_note(node: &Arc<Node>) {
    let node = Arc::clone(node);
    let forget = move || {
        let engine = node.engine();
        if engine.store.is_some() {
            node.replication.lineage.give_up(&node.db_path());
        }
    };
    if let Err(error) = tokio::task::spawn_blocking(forget).await {
        tracing::error!(%error, "cannot take back a note of who writes here");
    }
}

/// A node that becomes master may write by itself from then on: that is on the disk before the role
/// is taken, so no later master takes these records for its own. To be called with the gate held
/// alone, after [`note_ahead`]: then the disk is waited for only if records came in between.
pub fn note_writer(node: &Node, engine: &Engine, wanted: &Role) -> std::io::Result<()> {
    if !wanted.is_master() || engine.role.is_master() {
        return Ok(());
    }
    begin_to_write(node, engine)
}

/// The same for a process that begins as a master: an earlier one may have written what the disk
/// has lost since.
pub fn begin_to_write(node: &Node, engine: &Engine) -> std::io::Result<()> {
    let Some(store) = &engine.store else { return Ok(()) };
    if node.replication.lineage.begin(&node.db_path(), store.latest_sequence())? {
        node.replication.lineage_changed();
    }
    Ok(())
}

/// What waiting commands of a master are told when it is none any more; Redis' words.
const UNBLOCKED: &str =
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";

fn wanted_role(assignment: &Assignment, now: &Role) -> Role {
    match assignment {
        Assignment::Unchanged => now.clone(),
        Assignment::Master | Assignment::NotInTable => Role::Master,
        Assignment::ReplicaOf { local, .. } => Role::Replica { from: local.clone() },
    }
}

/// What follows from a new role. The gate has already been passed on: this only starts and ends
/// things, and waits for none of them.
pub fn take_role(node: &Arc<Node>, role: Role, generation: u64) {
    match role {
        Role::Master => {
            tracing::info!(generation, "role: master");
            crate::replication::stop(node);
            // Reads that wait are a master's from here on.
            node.waiters.begin_anew();
            settle_without_epochs(node);
        }
        Role::Replica { from } => {
            let needs_full_sync = node.resync.is_required();
            tracing::info!(generation, master = %from, needs_full_sync, "role: replica");
            node.grants.give_up();
            node.moves.give_up();
            node.clients.unpause();
            node.touch_all();
            for _ in 0..node.waiters.unblock_all(UNBLOCKED) {
                node.stats.errors.note(UNBLOCKED.as_bytes());
            }
            if Node::is_lease_blocking(node.config.now().master_lease_mode) {
                node.close_clients("this node is no master any more");
            }
            if node.stopping.has_begun() {
                // Its master would wait for it, and then for its end.
                crate::replication::end(node);
            } else {
                crate::replication::follow(node, from, generation);
            }
        }
    }
}

/// A master whose database has no epochs will never be asked to discard anything; one that has some
/// settles when it opens its own.
pub fn settle_without_epochs(node: &Arc<Node>) {
    let store = node.engine().store.clone();
    if let Some(store) = store.filter(|store| store.history().is_empty()) {
        settle(store);
    }
}

/// Deletes what lies in slots that a migration gave away, as Kvrocks does; a batch a slot, each
/// under the gate like any write (rule R5): role, database and lease are looked at for every one.
///
/// Only where nothing is granted: under grants a topology that does not mention a slot is no reason
/// to delete it, since the only copy may lie here.
fn clear_slots(node: &Node, outcome: &Outcome, generation: u64) -> Result<(), ChangeError> {
    for slot in outcome.clear_slots.iter() {
        let engine = node.engine();
        if let Some(why) = keeps_slots(node, &engine, generation) {
            tracing::warn!(slot = slot.number(), why, "keys of slots that moved away are kept");
            return Ok(());
        }
        let Some(store) = &engine.store else { return Ok(()) };
        let mut txn = store.txn();
        let scope = node.scope(clock::unix_ms());
        storage::types::keyspace::delete_slot(&mut txn, &scope, slot.number());
        txn.commit()?;
        store.publish()?;
        node.touch_all();
    }
    Ok(())
}

/// Why nothing may be deleted here now; the topology was changed under `generation`.
fn keeps_slots(node: &Node, engine: &Engine, generation: u64) -> Option<&'static str> {
    let store = engine.store.as_ref()?;
    if engine.generation != generation || !engine.role.is_master() {
        return Some("this node is no master any more, or its database is another one");
    }
    if !store.history().is_empty() || node.grants.has_seen_grant() {
        return Some("under grants only a named move deletes them");
    }
    let mode = node.config.now().master_lease_mode;
    let is_leased = node.check_lease(mode, true, &engine.role).is_ok();
    (!is_leased).then_some("there is no lease to write under")
}

/// Whether a local endpoint of a topology is one of this process' listeners, as Kvrocks tells: the
/// port, or that of TLS, and a host that is one of the `bind` words, or any interface address where
/// a wildcard is bound.
pub fn identifies(node: &Node, endpoint: &Endpoint) -> bool {
    let config = node.config.now();
    if endpoint.port == 0 || ![config.port, config.tls_port].contains(&endpoint.port) {
        return false;
    }
    let binds = &config.bind.0;
    let is_wild = binds.iter().any(|bind| matches!(bind.as_str(), "0.0.0.0" | "::" | "*"));
    binds.contains(&endpoint.host) || (is_wild && is_interface_address(&endpoint.host))
}

/// An address is local exactly if a socket can be bound to it.
fn is_interface_address(host: &str) -> bool {
    let Ok(ip) = host.parse::<std::net::IpAddr>() else { return false };
    std::net::UdpSocket::bind((ip, 0)).is_ok()
}

fn role_word(node: &Node) -> &'static str {
    if node.engine().role.is_master() { "master" } else { "slave" }
}

/// The reply to a heartbeat: everything a controller decides by. The answers to what it asks of
/// single moves are put into it behind this.
pub fn heartbeat_reply(node: &Node) -> api::heartbeat::Reply {
    use api::heartbeat::{Copied, End, Reply, Role as Word};
    let config = node.config.now();
    // Role and topology of one moment: a controller takes both together for an acknowledged
    // demotion.
    let (role, sequence, is_loading, cluster, standing, log_wait_ms, newest_move) = {
        let engine = node.engine();
        let log_wait_ms = engine.store.as_ref().map_or(0, |store| node.disk_wait_ms(store));
        let sequence = engine.store.as_ref().map_or(0, storage::Store::latest_sequence);
        let standing = node.grants.standing(&engine, config.durable_ack);
        let cluster = node.cluster.load_full();
        let newest = engine.store.as_ref().map(|store| node.moves.newest(store));
        let (role, is_loading) = (engine.role.clone(), engine.store.is_none());
        (role, sequence, is_loading, cluster, standing, log_wait_ms, newest)
    };
    let now_ns = crate::clock::boottime_ns();
    let (word, master) = match role {
        Role::Master => (Word::Master, None),
        Role::Replica { from } => (Word::Slave, Some((from.host, from.port))),
    };
    Reply {
        role: word,
        sequence,
        myid: cluster.id().map(|id| id.to_string()).unwrap_or_default(),
        cluster_id: cluster.cluster_id().map_or_else(|| "-".to_owned(), |id| id.to_string()),
        version: cluster.version(),
        topology_hash: cluster.hash(),
        clock_ns: now_ns,
        nonce: format!("{:x}", node.grants.nonce()),
        lease_mode: config.master_lease_mode,
        lease_remaining_ms: node.grants.remaining_ms(now_ns),
        client_access: config.client_access,
        balancer_sources: config.balancer_sources.0.iter().map(ToString::to_string).collect(),
        strangers: node.proxy_refused.list(now_ns),
        link_status: node.replication.link_status(),
        link_error: node.replication.link_error(),
        sync: node.replication.sync_progress().map(|at| Copied { done: at.done, of: at.of }),
        master,
        resync: node.resync.now(),
        paused: node.clients.paused(|| now_ns).is_some(),
        loading: is_loading,
        replicas: node.replication.replicas(),
        log_wait_ms,
        room: *node.room.lock(),
        down: Some(node.down_nodes.told()),
        deposed: node.replication.aside.position().map(|position| End {
            epoch: position.history.newest().map_or(0, |newest| newest.epoch),
            sequence: position.latest,
        }),
        uptime_ms: node.uptime_ms(),
        copies: node.moves.copies(),
        wall_ms: crate::clock::unix_ms(),
        stopping: node.stopping.has_begun(),
        standing,
        moves: Some(Vec::new()),
        knows_rates: true,
        knows_tls_ports: true,
        copying: node.moves.copying(),
        usual_rate: api::moves::Rate::new(config.move_rate_mb).ok(),
        flows: Some(node.moves.flows()),
        wishes: node.moves.wishes.open(),
        certificates: node.tls.certificates(),
        trust: node.tls.trust(),
        newest_move,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Values;

    const ME: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn node(dir: &std::path::Path) -> Arc<Node> {
        let values = Values { cluster_enabled: true, ..crate::shell::small() };
        crate::shell::node(dir, values, Cluster::default(), Role::Master)
    }

    async fn try_set_nodes(
        node: &Arc<Node>,
        me_as_master: bool,
        version: i64,
    ) -> Result<(), ChangeError> {
        let text = if me_as_master {
            format!("{ME} 127.0.0.1 1 master - 0-16383\n{OTHER} 127.0.0.1 2 slave {ME}")
        } else {
            format!("{ME} 127.0.0.1 1 slave {OTHER}\n{OTHER} 127.0.0.1 2 master - 0-16383")
        };
        let changed = change(Arc::clone(node), |cluster| {
            cluster.prepare_set_nodes(text.as_bytes(), version, false, &|at| at.port == 1)
        });
        changed.await
    }

    async fn set_nodes(node: &Arc<Node>, me_as_master: bool, version: i64) {
        try_set_nodes(node, me_as_master, version).await.unwrap();
    }

    #[tokio::test]
    async fn a_new_topology_does_not_make_another_history_trustworthy() {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path());
        // As a start finds it that comes after a link had found another history; a link that runs
        // says by itself what it found.
        node.resync.set_required(true);
        for version in [1, 2] {
            set_nodes(&node, false, version).await;
            assert!(node.resync.is_required());
        }
        set_nodes(&node, true, 3).await;
        assert!(!node.resync.is_required());
        set_nodes(&node, false, 4).await;
        assert!(node.resync.is_required(), "it was master under version 3");
        crate::replication::stop(&node);
    }

    /// As [`crate::replication::heed_mark`] at a start, and `SLAVEOF NO ONE`.
    #[tokio::test]
    async fn a_topology_makes_spoilt_data_no_masters_either() {
        for (mark, is_good) in [("apart\n", true), ("spoilt\n", false), ("", false)] {
            let dir = tempfile::tempdir().unwrap();
            let node = node(dir.path());
            std::fs::write(dir.path().join("fullsync.required"), mark).unwrap();
            node.resync.set_required(true);
            set_nodes(&node, false, 1).await;
            // The next one finds it a master already.
            for version in [2, 3] {
                set_nodes(&node, true, version).await;
                assert_eq!(node.resync.is_required(), !is_good, "{mark} {version}");
            }
            set_nodes(&node, false, 4).await;
            assert!(node.resync.is_required(), "{mark}");
            crate::replication::stop(&node);
        }
    }

    fn lies(dir: &std::path::Path) -> (Vec<u8>, Vec<u8>) {
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
        (read("nodes.conf"), read("db/holdfast.lineage"))
    }

    #[tokio::test]
    async fn a_promotion_that_the_disk_refuses_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path());
        set_nodes(&node, false, 1).await;
        let before = lies(dir.path());
        for refused in ["db/holdfast.lineage.new", "nodes.conf.tmp"] {
            let obstacle = dir.path().join(refused);
            std::fs::create_dir(&obstacle).unwrap();
            let said = try_set_nodes(&node, true, 2).await.unwrap_err().to_string();
            assert!(said.ends_with(": nothing was changed"), "{said}");
            assert_eq!(lies(dir.path()), before, "{refused}");
            assert!(!node.engine().role.is_master() && node.cluster.load().version() == 1);
            std::fs::remove_dir(&obstacle).unwrap();
        }
        try_set_nodes(&node, true, 2).await.unwrap();
        assert!(node.engine().role.is_master());
        let wrote = node.replication.lineage.now().source(1);
        assert_eq!(wrote, Some(::replication::lineage::Source::Own));
    }

    /// A record of the old master's comes between the note and the change, and the disk fails then.
    /// Keys of slots that were given away go only where nobody grants, by the write gate's rules.
    #[tokio::test]
    async fn keys_of_moved_slots_are_deleted_in_the_gate_and_never_under_grants() {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path());
        set_nodes(&node, true, 1).await;
        let outcome = Outcome {
            assignment: Assignment::Unchanged,
            full_sync_required: false,
            clear_slots: topology::SlotSet::from_iter([topology::key_slot(b"k")]),
            told: topology::SlotSet::default(),
        };
        let newest = || node.engine().store.as_ref().unwrap().latest_sequence();
        let changes = |generation| {
            let before = newest();
            clear_slots(&node, &outcome, generation).unwrap();
            newest() > before
        };
        let generation = node.engine().generation;
        assert!(changes(generation), "without grants, as Kvrocks");
        assert!(!changes(generation + 1), "the role or the database was changed since");
        node.gate.write().role =
            Role::Replica { from: Endpoint { host: "10.0.0.2".into(), port: 1 } };
        assert!(!changes(generation), "a replica's data is its master's");
        node.gate.write().role = Role::Master;
        assert!(changes(generation));
        let beat = grant::Heartbeat {
            is_for_me: false,
            lease_ms: 1_000,
            term: 1,
            clock: Some((0, 0)),
            grant: Some(
                grant::Grant::parse(&["1", "1", "-", "0", "async", "1", "0", "-"]).unwrap(),
            ),
            store: None,
        };
        crate::grants::drive::heartbeat(&node, &beat).unwrap();
        assert!(!changes(generation), "somebody grants: only a named move deletes");
    }

    #[tokio::test]
    async fn a_file_that_may_be_lost_again_is_put_back_before_nothing_was_changed_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path());
        set_nodes(&node, false, 1).await;
        let before = lies(dir.path()).0;
        let failed = |step| {
            let source = std::io::Error::other("lost");
            ChangeError::Save(persist::SaveError { step, path: dir.path().to_owned(), source })
        };
        for (step, expected) in [("write", &b"version 7\n"[..]), ("sync folder", before.as_slice())]
        {
            keep(&node, FileChange::Write(b"version 7\n".to_vec())).await.unwrap();
            let said = unsaved(&node, failed(step)).await.to_string();
            assert!(said.starts_with(&format!("ERR {step} ")), "{said}");
            assert!(said.ends_with(": nothing was changed"), "{said}");
            assert_eq!(lies(dir.path()).0, expected, "{step}");
        }
        std::fs::create_dir(dir.path().join("nodes.conf.tmp")).unwrap();
        let said = unsaved(&node, failed("sync folder")).await.to_string();
        assert!(said.contains("nodes.conf may have the change"), "{said}");
    }

    #[tokio::test]
    async fn a_late_refusal_puts_back_what_was_written_before() {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path());
        set_nodes(&node, false, 1).await;
        let before = lies(dir.path());
        let (db, lineage) = (node.db_path(), &node.replication.lineage);
        note_ahead(&node, &Role::Master).await.unwrap();
        assert_ne!(lies(dir.path()), before);
        std::fs::create_dir(db.join("holdfast.lineage.new")).unwrap();
        assert!(lineage.begin(&db, 1).is_err(), "one record further");
        std::fs::remove_dir(db.join("holdfast.lineage.new")).unwrap();
        forget_note(&node).await;
        let other = FileChange::Write(b"version 7\n".to_vec());
        keep(&node, other).await.unwrap();
        let error = || std::io::Error::other("full");
        let said = put_back(&node, true, error()).await.to_string();
        assert!(said.ends_with("full: nothing was changed"), "{said}");
        assert_eq!(lies(dir.path()), before);
        std::fs::create_dir(dir.path().join("nodes.conf.tmp")).unwrap();
        let said = put_back(&node, true, error()).await.to_string();
        assert!(said.contains("nodes.conf has the change"), "{said}");
    }
}
