//! Changing the topology and the role of this node.
//!
//! One change at a time: prepare on a copy, make `nodes.conf` durable, then commit topology and role together under the write gate. So `+OK` means
//! durable, and nothing is half applied when the disk refuses. Nothing here waits for replication threads.

use std::sync::Arc;

use topology::persist::{self, Disk};
use topology::state::FileChange;
use topology::{Assignment, Change, Cluster, ClusterError, Endpoint, Outcome};

use crate::node::{Engine, Node, Role};

/// Why a change was not made. `Display` is the reply without the leading `-`.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The topology refused it.
    #[error("{}", .0.reply())]
    Refused(#[from] ClusterError),
    /// `nodes.conf` could not be written: nothing was changed.
    #[error("ERR {0}: nothing was changed")]
    Save(#[from] persist::SaveError),
    /// The engine could not delete the keys of slots that were handed over.
    #[error("ERR delete keys of moved slots: {0}")]
    Storage(#[from] storage::Error),
    /// That this node writes from now on could not be noted: nothing was changed.
    #[error("ERR note in the database folder who writes from now on: {0}: nothing was changed")]
    Lineage(std::io::Error),
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
    let (folder, file) = (node.dir.clone(), change.file.clone());
    if is_kept {
        tokio::task::spawn_blocking(move || save(&folder, &file)).await??;
    }
    let next = change.next().clone();
    let outcome = change.outcome;
    let version = next.version();
    let warnings = next.topology().map(topology::Topology::warnings).unwrap_or_default();
    commit(&node, next, &outcome)?;
    for warning in warnings {
        tracing::warn!(version, "the topology was taken as it is, but {warning}");
    }
    tracing::info!(version, role = role_word(&node), "topology changed");
    Ok(())
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

fn commit(node: &Arc<Node>, next: Cluster, outcome: &Outcome) -> Result<(), ChangeError> {
    let change = {
        let mut engine = node.gate.write();
        let wanted = wanted_role(&outcome.assignment, &engine.role);
        note_writer(node, &engine, &wanted).map_err(ChangeError::Lineage)?;
        node.cluster.store(Arc::new(next));
        // A link that found another history said so; no later topology makes that data trustworthy, only a full sync does.
        let is_untrusted = !wanted.is_master() && node.resync.is_required();
        node.resync.set_required(outcome.full_sync_required || is_untrusted);
        if wanted == engine.role {
            None
        } else {
            engine.role = wanted.clone();
            engine.generation += 1;
            Some((wanted, engine.generation))
        }
    };
    if let Some((role, generation)) = change {
        take_role(node, role, generation);
    }
    clear_slots(node, outcome)
}

/// A node that becomes master may write by itself from then on: that is on the disk before the role is taken, so no later
/// master takes these records for its own. To be called with the gate held alone.
pub fn note_writer(node: &Node, engine: &Engine, wanted: &Role) -> std::io::Result<()> {
    if !wanted.is_master() || engine.role.is_master() {
        return Ok(());
    }
    begin_to_write(node, engine)
}

/// The same for a process that begins as a master: an earlier one may have written what the disk has lost since.
pub fn begin_to_write(node: &Node, engine: &Engine) -> std::io::Result<()> {
    let Some(store) = &engine.store else { return Ok(()) };
    if node.replication.lineage.begin(&node.db_path(), store.latest_sequence())? {
        node.replication.lineage_changed();
    }
    Ok(())
}

/// A replica that may be written to (`slave-read-only no`) is about to be: what it writes is not its master's.
pub fn note_own_write(node: &Node, engine: &Engine) -> std::io::Result<()> {
    let Some(store) = &engine.store else { return Ok(()) };
    if node.replication.lineage.write(&node.db_path(), store.latest_sequence())? {
        node.replication.lineage_changed();
    }
    Ok(())
}

fn wanted_role(assignment: &Assignment, now: &Role) -> Role {
    match assignment {
        Assignment::Unchanged => now.clone(),
        Assignment::Master | Assignment::NotInTable => Role::Master,
        Assignment::ReplicaOf { local, .. } => Role::Replica { from: local.clone() },
    }
}

/// What follows from a new role. The gate has already been passed on: this only starts and ends things, and waits for none of them.
pub fn take_role(node: &Arc<Node>, role: Role, generation: u64) {
    match role {
        Role::Master => {
            tracing::info!(generation, "role: master");
            crate::replication::stop(node);
            settle_without_epochs(node);
        }
        Role::Replica { from } => {
            let needs_full_sync = node.resync.is_required();
            tracing::info!(generation, master = %from, needs_full_sync, "role: replica");
            node.grants.give_up();
            node.clients.unpause();
            node.watches.touch_all();
            if Node::is_lease_blocking(node.config.now().master_lease_mode) {
                node.close_clients("this node is no master any more");
            }
            crate::replication::follow(node, from, generation);
        }
    }
}

/// A master whose database has no epochs will never be asked to discard anything; one that has some settles when it opens its own.
pub fn settle_without_epochs(node: &Arc<Node>) {
    let store = node.engine().store.clone();
    if let Some(store) = store.filter(|store| store.history().is_empty()) {
        crate::replication::settle(store);
    }
}

fn clear_slots(node: &Node, outcome: &Outcome) -> Result<(), ChangeError> {
    if outcome.clear_slots.is_empty() {
        return Ok(());
    }
    let engine = node.engine();
    let Some(store) = &engine.store else { return Ok(()) };
    let scope = storage::Scope {
        namespace: crate::session::dispatch::NAMESPACE,
        cluster: true,
        now_ms: crate::clock::unix_ms(),
    };
    let mut txn = store.txn();
    for slot in outcome.clear_slots.iter() {
        storage::types::keyspace::delete_slot(&mut txn, &scope, slot.number());
    }
    txn.commit()?;
    store.publish()?;
    node.watches.touch_all();
    Ok(())
}

/// Whether a local endpoint of a topology is one of this process' listeners, as Kvrocks tells: the port, and a host that is one
/// of the `bind` words, or any interface address where a wildcard is bound.
pub fn identifies(node: &Node, endpoint: &Endpoint) -> bool {
    let config = node.config.now();
    if endpoint.port != config.port {
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

/// The reply to a heartbeat: everything a controller decides by.
pub fn heartbeat_reply(node: &Node) -> api::heartbeat::Reply {
    use api::heartbeat::{End, Reply, Role as Word};
    let config = node.config.now();
    // Role and topology of one moment: a controller takes both together for an acknowledged demotion.
    let (role, sequence, is_loading, cluster, standing, log_wait_ms) = {
        let engine = node.engine();
        let log_wait_ms = engine.store.as_ref().map_or(0, storage::Store::log_wait_ms);
        let sequence = engine.store.as_ref().map_or(0, storage::Store::latest_sequence);
        let standing = node.grants.standing(&engine, config.durable_ack);
        let cluster = node.cluster.load_full();
        (engine.role.clone(), sequence, engine.store.is_none(), cluster, standing, log_wait_ms)
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
        version: cluster.version(),
        topology_hash: cluster.hash(),
        clock_ns: now_ns,
        nonce: format!("{:x}", node.grants.nonce()),
        lease_mode: config.master_lease_mode,
        lease_remaining_ms: node.grants.remaining_ms(now_ns),
        client_access: config.client_access,
        balancer_sources: config.balancer_sources.0.iter().map(ToString::to_string).collect(),
        strangers: node.strangers.list(now_ns),
        link_status: node.replication.link_status(),
        link_error: node.replication.link_error(),
        master,
        resync: node.resync.now(),
        paused: node.clients.paused(|| now_ns).is_some(),
        loading: is_loading,
        replicas: node.replication.replicas(),
        log_wait_ms,
        down: Some(node.gone.told()),
        deposed: node.replication.aside.position().map(|position| End {
            epoch: position.history.newest().map_or(0, |newest| newest.epoch),
            sequence: position.latest,
        }),
        uptime_ms: node.uptime_ms(),
        wall_ms: crate::clock::unix_ms(),
        standing,
    }
}

#[cfg(test)]
mod tests {
    use storage::Store;

    use super::*;
    use crate::config::{Config, Values};

    const ME: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn node(dir: &std::path::Path) -> Arc<Node> {
        let mut values = Values { workers: 1, cluster_enabled: true, ..Values::default() };
        values.rocksdb_metadata_block_cache_size = 8;
        values.rocksdb_subkey_block_cache_size = 8;
        let store = Store::open(&dir.join("db"), crate::run::storage_options(&values)).unwrap();
        let config = Config::new(values, None);
        let cluster = Cluster::default();
        Arc::new(Node::new(config, dir.to_owned(), store, cluster, Role::Master))
    }

    async fn set_nodes(node: &Arc<Node>, me_as_master: bool, version: i64) {
        let text = if me_as_master {
            format!("{ME} 127.0.0.1 1 master - 0-16383\n{OTHER} 127.0.0.1 2 slave {ME}")
        } else {
            format!("{ME} 127.0.0.1 1 slave {OTHER}\n{OTHER} 127.0.0.1 2 master - 0-16383")
        };
        change(Arc::clone(node), |cluster| {
            cluster.prepare_set_nodes(text.as_bytes(), version, false, &|at| at.port == 1)
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_new_topology_does_not_make_another_history_trustworthy() {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path());
        // As a start finds it that comes after a link had found another history; a link that runs says by itself what it found.
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
}
