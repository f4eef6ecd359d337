//! Carries out what the rules of grants decide, with this node's clock, gate and database.
//!
//! Locks are taken in the order write gate, holder, list of feeds. Nobody waits for the gate with
//! the holder locked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::grant::{
    CommitMode, EpochId, Facts, Heartbeat, HeartbeatError, History, Link, Opened, Taken,
};
use api::grant::{Member, Members};
use api::heard::Told;
use api::store::Heeds;
use storage::Store;
use tokio::time::MissedTickBehavior;
use topology::Role;

use super::identity;
use super::leader::{self, KEEP_AGAIN};
use super::state::{MS, NO_HISTORY, Ticket};
use crate::clock;
use crate::gate::Engine;
use crate::node::Node;
use crate::upkeep::settle;

/// How often the set is judged.
const LOOK: Duration = Duration::from_millis(50);
/// After that a disk that did not take a promise is tried again: the master's lease is short.
const PROMISE_AGAIN: Duration = Duration::from_millis(100);

/// Why a heartbeat was not taken. `Display` is what follows `-`.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It, or its grant, was refused.
    #[error("ERR {0}")]
    Refused(#[from] HeartbeatError),
    /// Its controller is not obeyed.
    #[error(transparent)]
    Leader(#[from] leader::NotBegun),
    /// The epoch could not be made durable.
    #[error("ERR grant refused: open the epoch: {0}")]
    Storage(#[from] storage::Error),
}

/// Runs `decide` with what this moment looks like.
fn with_facts<T>(node: &Node, engine: &Engine, decide: impl FnOnce(&Facts<'_>) -> T) -> T {
    let config = node.config.now();
    let history = engine.store.as_ref().map(Store::history).unwrap_or_default();
    let entries: Vec<Opened> = history
        .entries()
        .iter()
        .map(|e| Opened { epoch: e.epoch, id: EpochId(e.id.bits()), first: e.first })
        .collect();
    let latest = engine.store.as_ref().map_or(0, Store::latest_sequence);
    // The gate is held: what is decided here is decided about this topology.
    let cluster = node.cluster.load();
    decide(&Facts {
        now_ns: clock::boottime_ns(),
        longest_ms: u64::from(config.master_lease_max_ms),
        is_master: engine.role.is_master() && engine.store.is_some(),
        me: node.grants.identity.member(cluster.id(), config.durable_ack),
        version: cluster.version(),
        history: History { entries: &entries, latest },
    })
}

/// Takes a heartbeat; a new epoch is on the disk when this returns. The caller holds the write gate
/// in no form.
pub fn heartbeat(node: &Node, beat: &Heartbeat) -> Result<(), NotTaken> {
    let grants = &node.grants;
    leader::begin(node, beat.term, beat.store)?;
    {
        // Under the gate: nothing is granted to a role that is just being lost.
        let engine = node.engine();
        let mut holder = grants.holder.lock();
        let taken = with_facts(node, &engine, |facts| {
            let taken = holder.heartbeat(beat, facts);
            // Also where it was refused: from the first grant on, a lease alone is worth nothing.
            if let (false, Some(store)) = (matches!(taken, Ok(Taken::Open)), &engine.store) {
                grants.mirror(&holder, &facts.history, store);
            }
            taken
        })?;
        if let Taken::Ignored(why) = taken {
            tracing::debug!(?why, "grant passed over");
        }
        if taken != Taken::Open {
            node.replication.answer_leavers();
            return Ok(());
        }
    }
    open_epoch(node, beat)
}

/// Alone with the gate: nothing is written between the decision, the epoch's put and the grant.
fn open_epoch(node: &Node, beat: &Heartbeat) -> Result<(), NotTaken> {
    let grants = &node.grants;
    let engine = node.gate.write();
    let mut holder = grants.holder.lock();
    with_facts(node, &engine, |facts| {
        let taken = holder.heartbeat(beat, facts)?;
        let (Taken::Open, Some(grant), Some(store)) = (taken, &beat.grant, &engine.store) else {
            return Ok(());
        };
        let id = ::replication::history::EpochId::from_random(grant.id.0);
        let first = store.open_epoch(grant.epoch, id, clock::unix_ms()).inspect_err(|error| {
            tracing::error!(%error, epoch = grant.epoch, "cannot open an epoch: the grant is not held");
        })?;
        be_of_cluster(node, store)?;
        holder.open(beat, first, facts);
        // What others are compared with is not discarded any more.
        settle(store.clone());
        grants.mirror(&holder, &NO_HISTORY, store);
        let members = addresses(node, &grant.members);
        tracing::info!(
            epoch = grant.epoch, id = %grant.id, first, mode = %grant.mode, %members,
            "granted: this process serves as master in a new epoch"
        );
        Ok(())
    })
}

/// Marks of moved slots count only for the cluster that made them: those of another cluster are
/// deleted before anything is served by them. Alone with the gate.
fn be_of_cluster(node: &Node, store: &Store) -> Result<(), storage::Error> {
    let Some(name) = node.cluster.load().cluster_id() else { return Ok(()) };
    let marks = store.be_of_cluster(&name.to_string())?;
    store.publish()?;
    if marks > 0 {
        tracing::warn!(cluster = %name, marks, "this data comes from another cluster: its marks of slot moves are deleted");
    }
    Ok(())
}

/// The cluster has a name, or another one, since the epoch was opened.
pub fn name_cluster(node: &Node) {
    let name = node.cluster.load().cluster_id().map(|name| name.to_string());
    let is_known = |store: &Store| {
        name.as_ref().is_none_or(|name| store.is_of_cluster(name).unwrap_or_default())
    };
    let is_granted = || node.grants.granted_epoch().is_some();
    if !is_granted() || node.engine().store.as_ref().is_none_or(is_known) {
        return;
    }
    let engine = node.gate.write();
    let store = engine.store.as_ref().filter(|_| engine.role.is_master() && is_granted());
    if let Some(Err(error)) = store.map(|store| be_of_cluster(node, store)) {
        tracing::error!(%error, "cannot note whose data this is: the next epoch does");
    }
}

/// The members of a set as people know them: by address, or by id where the topology has none.
fn addresses(node: &Node, members: &Members) -> String {
    let cluster = node.cluster.load();
    let topology = cluster.topology().ok();
    let name = |member: &Member| {
        let mut nodes = topology.iter().flat_map(|topology| &topology.nodes);
        let known = nodes.find(|known| known.id == member.node());
        known.map_or_else(|| member.node().to_string(), |known| known.local.to_string())
    };
    members.iter().map(name).collect::<Vec<_>>().join(" ")
}

/// Judges the set by what is seen now: which members are dropped, which replicas may join, which
/// set is asked for.
pub fn look(node: &Node) {
    let grants = &node.grants;
    let Some(store) = node.engine().store.clone() else { return };
    let mut holder = grants.holder.lock();
    if holder.held().is_none_or(|held| held.mode != CommitMode::InSync) {
        return;
    }
    let links = replicas_of_shard(node);
    let timeout_ms = u64::from(node.config.now().in_sync_timeout_ms);
    let Some(in_sync) = holder.in_sync() else { return };
    let published = store.published();
    in_sync.commit(published);
    let before = in_sync.newest().1.clone();
    if in_sync.tick(clock::boottime_ns() / MS, published, timeout_ms, &links) {
        let (request, members) = in_sync.newest();
        count_dropped(node, &links, before.iter().filter(|member| !members.contains(member)));
        let members = addresses(node, members);
        tracing::warn!(request, %members, "asks the controller for another in-sync set");
    }
    grants.mirror(&holder, &NO_HISTORY, &store);
    // Replies looked at what is in force; whatever left before it came into force is at most this.
    let latest = store.latest_sequence();
    if let Some(in_sync) = holder.in_sync() {
        in_sync.settle(latest);
    }
    drop(holder);
    node.replication.answer_leavers();
}

/// The replicas that may be in a set: those that the topology here calls this node's. Others may
/// stream, as one does that was taken out of the shard and runs on; the store takes no set with one
/// of them in it, and no member that is lost could be dropped as long as they stay.
fn replicas_of_shard(node: &Node) -> Vec<Link> {
    let mut links = node.replication.links();
    let cluster = node.cluster.load();
    if let (Some(me), Ok(topology)) = (cluster.myself(), cluster.topology()) {
        let is_ours = |link: &Link| {
            let id = link.member.node();
            let found = topology.nodes.iter().find(|known| known.id == id);
            found.is_some_and(|known| matches!(&known.role, Role::Replica { of } if *of == me.id))
        };
        links.retain(is_ours);
    }
    links
}

/// Counts members that are asked out of the set: they leave while they acknowledge, or writes may
/// wait until the store has confirmed.
fn count_dropped<'a>(node: &Node, links: &[Link], dropped: impl Iterator<Item = &'a Member>) {
    for member in dropped {
        let leaves = links.iter().any(|link| link.is_leaving && link.member == *member);
        let counter = if leaves { &node.stats.in_sync_left } else { &node.stats.in_sync_lost };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Looks at the set every few ten milliseconds, keeps on disk the term of controllers, and what it
/// may promise its master, until the node stops.
///
/// # Errors
/// None; the type is that of the other services.
pub async fn run(node: Arc<Node>) -> anyhow::Result<()> {
    let mut shutdown = node.shutdown();
    tokio::select! {
        () = judge(&node) => {}
        () = keep_terms(&node) => {}
        () = keep_promises(&node) => {}
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
    Ok(())
}

async fn judge(node: &Node) {
    let mut beat = tokio::time::interval(LOOK);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        look(node);
    }
}

/// Puts each higher term on disk, soon after it was heard: no heartbeat waits for that, or is
/// refused where the disk does not take it.
async fn keep_terms(node: &Arc<Node>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(term) = node.grants.term_to_keep() else { continue };
        let keeping = Arc::clone(node);
        let kept = tokio::task::spawn_blocking(move || leader::keep_term(&keeping));
        match kept.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, term, "the term of the controller cannot be kept on disk; it is tried again");
                tokio::time::sleep(KEEP_AGAIN).await;
            }
            Err(error) => tracing::error!(%error, "keep the term of the controller"),
        }
    }
}

/// Puts on disk what this node is about to promise its master (rule R9), ahead of the pings:
/// neither they nor the stream wait for a disk.
async fn keep_promises(node: &Arc<Node>) {
    let mut refused = 0_u32;
    loop {
        let longest_ms = u64::from(node.config.now().master_lease_max_ms);
        let Some(kept) = node.grants.promise_to_keep(longest_ms) else {
            node.grants.promise_due.notified().await;
            continue;
        };
        let keeping = Arc::clone(node);
        let write = move || identity::keep_promise(&keeping.dir, &keeping.grants.identity, kept);
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {
                node.grants.holder.lock().kept(kept);
                refused = 0;
                continue;
            }
            Ok(Err(error)) if refused.is_multiple_of(100) => {
                tracing::warn!(%error, "a promise to the master cannot be kept on disk, and is not given");
            }
            Ok(Err(_)) => {}
            Err(error) => tracing::error!(%error, "keep a promise to the master"),
        }
        refused = refused.wrapping_add(1);
        tokio::time::sleep(PROMISE_AGAIN).await;
    }
}

/// A ping of this node's master: true if its stamp may go back, because this node has promised,
/// durably, not to become master meanwhile.
pub fn promise(node: &Node, lease_ms: u64) -> bool {
    let now_ns = clock::boottime_ns();
    let longest_ms = u64::from(node.config.now().master_lease_max_ms);
    node.grants.pinged(lease_ms, now_ns, longest_ms)
}

/// Whether a reply that waited may leave now.
///
/// # Errors
/// Why its connection is closed instead (rule R4).
pub fn may_leave(node: &Node, ticket: &Ticket) -> Result<(), &'static str> {
    let engine = node.engine();
    if engine.generation != ticket.generation {
        return Err("the role of this node changed while a reply waited");
    }
    if engine.store.as_ref().is_none_or(Store::has_failed) {
        return Err("the WAL could not be written while a reply waited");
    }
    if !node.grants.is_held.load(Ordering::SeqCst) {
        return Err("the grant was given up while a reply waited");
    }
    if ticket.is_write && node.grants.commit.lacks_copies() {
        return Err("too few replicas have what the reply tells of");
    }
    let mode = node.config.now().master_lease_mode;
    node.check_lease(mode, ticket.is_write, &engine.role)
        .map_err(|_| "the lease ran out while a reply waited")
}

/// What this node says of its controller, and of itself: the answer counts only if this is the node
/// that the question was meant for.
pub fn told(node: &Node) -> Told {
    let cluster = node.cluster.load();
    let heard = node.grants.heard.newest();
    let since = |at_ns: u64| clock::boottime_ns().saturating_sub(at_ns) / 1_000_000;
    Told {
        myid: cluster.id().map(|id| id.to_string()).unwrap_or_default(),
        cluster_id: cluster.cluster_id().map_or_else(|| "-".to_owned(), |id| id.to_string()),
        term: node.grants.term(),
        heard_ms: heard.map(|(_, at_ns)| since(at_ns)),
        heard_term: heard.map_or(0, |(term, _)| term),
        store: Heeds::of(node.grants.store()),
    }
}
