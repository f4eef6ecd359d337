//! Grants, leases, the in-sync set and promises of this process: crate `grant` decides, this carries it out.
//!
//! One mutex holds the rules' state; what every command looks at is mirrored into atomics whenever that state changes. Locks are taken in the order write gate,
//! holder, list of feeds; nobody waits for the gate with the holder locked.

pub mod commit;
pub mod heard;
pub mod identity;
pub mod owner;
pub mod relay;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::grant::{
    Answer, CommitMode, EpochId, Facts, Heartbeat, HeartbeatError, History, Holder, LEASE_MS_MAX,
    Member, Opened, Promise, Taken,
};
use ::replication::wire::Stamp;
use api::heartbeat::Standing;
use parking_lot::Mutex;
use storage::Store;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::gate::Engine;
use crate::node::Node;
use commit::{Commit, Lacks};
use identity::Identity;

/// How often the set is judged.
const LOOK: Duration = Duration::from_millis(50);

/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// What this process may do as a master, and what it promised as a replica.
#[derive(Debug)]
pub struct Grants {
    holder: Mutex<Holder>,
    nonce: u64,
    /// CLOCK_BOOTTIME until which a master may serve, ns; 0 without lease or grant.
    until_ns: AtomicU64,
    /// A grant is held.
    is_held: AtomicBool,
    /// What the data here is called.
    pub identity: Identity,
    /// Which replies may leave.
    pub commit: Commit,
    /// When a controller was last heard.
    pub heard: heard::Heard,
    /// Held while it is written whose data this is.
    naming: Mutex<()>,
}

/// Why a heartbeat was not taken. `Display` is what follows `-`.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It, or its grant, was refused.
    #[error("ERR {0}")]
    Refused(#[from] HeartbeatError),
    /// The epoch could not be made durable.
    #[error("ERR grant refused: open the epoch: {0}")]
    Storage(#[from] storage::Error),
}

/// A reply that waits for the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Newest sequence its commands could see.
    pub sequence: u64,
    /// Of the write gate, when they ran.
    pub generation: u64,
    /// One of them wrote.
    pub is_write: bool,
}

impl Grants {
    /// For a process that has just opened the database in `dir`.
    pub fn new(dir: &std::path::Path, db: &std::path::Path, workers: usize) -> Self {
        let (nonce, now_ns) = (clock::nonce(), clock::boottime_ns());
        let identity = Identity::load(db);
        let (kept, is_same_boot) = identity::load_promise(dir, &identity);
        let promise = Promise::new(now_ns, kept, is_same_boot);
        Self {
            holder: Mutex::new(Holder::new(nonce, promise)),
            nonce,
            until_ns: AtomicU64::new(0),
            is_held: AtomicBool::new(false),
            identity,
            commit: Commit::new(workers),
            heard: heard::Heard::default(),
            naming: Mutex::default(),
        }
    }

    /// This process's nonce.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Highest term of a controller seen.
    pub fn term(&self) -> u64 {
        self.holder.lock().term()
    }

    /// Whether a master may serve at `now_ns`: it has a lease, and a grant where grants are in use.
    pub fn is_valid(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns.load(Ordering::SeqCst)
    }

    /// What is left at `now_ns`, in milliseconds, at most the longest lease.
    pub fn remaining_ms(&self, now_ns: u64) -> u64 {
        let left = self.until_ns.load(Ordering::SeqCst).saturating_sub(now_ns) / MS;
        left.min(LEASE_MS_MAX)
    }

    /// The node is no master any more, or its database is replaced: only a newer grant undoes it.
    pub fn give_up(&self) {
        let mut holder = self.holder.lock();
        holder.give_up();
        self.until_ns.store(0, Ordering::SeqCst);
        self.is_held.store(false, Ordering::SeqCst);
        self.commit.end();
    }

    /// Puts into force what the rules say now.
    fn mirror(&self, holder: &Holder, history: &History<'_>, store: &Store) {
        self.until_ns.store(holder.until_ns(history), Ordering::SeqCst);
        self.is_held.store(holder.held().is_some(), Ordering::SeqCst);
        let held = holder.held().filter(|held| held.mode == CommitMode::InSync);
        let lacks = held.map_or(Lacks::default(), |held| Lacks {
            members: !held.has_enough(),
            copies: !held.has_enough_copies(),
        });
        self.commit.set(held.and_then(|held| held.in_sync.reached()), lacks, Some(store));
    }

    /// A replica acknowledged, and perhaps returned a stamp of this process' clock.
    pub fn acked(
        &self,
        store: &Store,
        member: Member,
        (epoch, sequence): (Option<EpochId>, u64),
        echo: Option<Stamp>,
        longest_ms: u64,
    ) {
        let mut holder = self.holder.lock();
        let Some(in_sync) = holder.in_sync() else { return };
        in_sync.ack(member, epoch, sequence);
        in_sync.commit(store.published());
        if let Some(Stamp { clock_ns, lease_ms }) = echo {
            let facts = (clock::boottime_ns(), longest_ms);
            holder.echo(member, epoch, clock_ns, lease_ms, facts);
        }
        self.mirror(&holder, &NO_HISTORY, store);
    }

    /// The stamp for a ping to replicas; `None` while this process is no master under a grant.
    pub fn stamp(&self) -> Option<Stamp> {
        let lease_ms = self.holder.lock().granted_lease_ms()?;
        Some(Stamp { clock_ns: clock::boottime_ns(), lease_ms })
    }

    /// What is committed, asked for and promised, for INFO and the controller.
    pub fn standing(&self, engine: &Engine, is_durable: bool) -> Standing {
        let newest = engine.store.as_ref().and_then(|store| store.history().newest().copied());
        let mut holder = self.holder.lock();
        let mut standing = Standing {
            incarnation: self.identity.incarnation(),
            boot: self.identity.boot(is_durable),
            history_epoch: newest.map_or(0, |newest| newest.epoch),
            history_id: newest.map(|newest| EpochId(newest.id.bits())),
            promised_ms: holder.promised_ns(clock::boottime_ns()).div_ceil(MS),
            ..Standing::default()
        };
        standing.granted_epoch = holder.held().map_or(0, |held| held.epoch);
        if let (Some(in_sync), Some(store)) = (holder.in_sync(), &engine.store) {
            standing.committed = in_sync.commit(store.published());
            let (request, members) = in_sync.newest();
            standing.request = request;
            standing.request_members = members.clone();
        }
        standing
    }

    /// The epoch this process holds a grant of.
    pub fn granted_epoch(&self) -> Option<u64> {
        self.holder.lock().held().map(|held| held.epoch)
    }

    /// Whether the store may hold this data as a member of the set: then it must stay what it is (rule R3).
    pub fn counts(&self, member: Member) -> bool {
        let holder = self.holder.lock();
        holder.held().is_some_and(|held| {
            held.mode == CommitMode::InSync && held.in_sync.others_in_store().contains(&member)
        })
    }

    /// Ids of the nodes whose data the store is known to hold as members, comma-separated.
    pub fn in_sync_nodes(&self) -> String {
        let holder = self.holder.lock();
        let members = holder.held().map(|held| held.in_sync.confirmed_members());
        let ids = members.into_iter().flatten().map(|member| member.node().to_string());
        ids.collect::<Vec<_>>().join(",")
    }

    /// Commit mode and least size of the set of the grant that is held.
    pub fn mode(&self) -> Option<(CommitMode, u32)> {
        self.holder.lock().held().map(|held| (held.mode, held.min_in_sync))
    }
}

/// For decisions about a grant that is held: then the database is not asked.
const NO_HISTORY: History<'static> = History { entries: &[], latest: 0 };

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
    decide(&Facts {
        now_ns: clock::boottime_ns(),
        longest_ms: u64::from(config.master_lease_max_ms),
        is_master: engine.role.is_master() && engine.store.is_some(),
        me: node.grants.identity.member(node.cluster.load().id(), config.durable_ack),
        history: History { entries: &entries, latest },
    })
}

/// Takes a heartbeat; a new epoch is on the disk when this returns. The caller holds the write gate in no form.
pub fn heartbeat(node: &Node, beat: &Heartbeat) -> Result<(), NotTaken> {
    let grants = &node.grants;
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
        holder.open(beat, first, facts);
        // What others are compared with is not discarded any more.
        crate::replication::settle(store.clone());
        grants.mirror(&holder, &NO_HISTORY, store);
        tracing::info!(
            epoch = grant.epoch, id = %grant.id, first, mode = %grant.mode, members = %grant.members,
            "granted: this process serves as master in a new epoch"
        );
        Ok(())
    })
}

/// Judges the set by what is seen now: who is dropped, who may join, what is asked for.
pub fn look(node: &Node) {
    let grants = &node.grants;
    let Some(store) = node.engine().store.clone() else { return };
    let mut holder = grants.holder.lock();
    if holder.held().is_none_or(|held| held.mode != CommitMode::InSync) {
        return;
    }
    let links = node.replication.links();
    let timeout_ms = u64::from(node.config.now().in_sync_timeout_ms);
    let Some(in_sync) = holder.in_sync() else { return };
    let published = store.published();
    in_sync.commit(published);
    if in_sync.tick(clock::boottime_ns() / MS, published, timeout_ms, &links) {
        let (request, members) = in_sync.newest();
        tracing::warn!(request, %members, "asks for another in-sync set");
    }
    grants.mirror(&holder, &NO_HISTORY, &store);
    // Replies looked at what is in force; whatever left before it came into force is at most this.
    let latest = store.latest_sequence();
    if let Some(in_sync) = holder.in_sync() {
        in_sync.settle(latest);
    }
}

/// Looks at the set every few ten milliseconds until the node stops.
///
/// # Errors
/// None; the type is that of the other services.
pub async fn run(node: Arc<Node>) -> anyhow::Result<()> {
    let mut shutdown = node.shutdown();
    let mut beat = tokio::time::interval(LOOK);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beat.tick() => look(&node),
            _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

/// A ping of this node's master: true if its stamp may go back, because this node has promised, durably, not to become master meanwhile.
pub fn promise(node: &Node, lease_ms: u64) -> bool {
    let longest_ms = u64::from(node.config.now().master_lease_max_ms);
    let ask = || node.grants.holder.lock().ping(lease_ms, clock::boottime_ns(), longest_ms);
    match ask() {
        Answer::Silent => false,
        Answer::Echo => true,
        Answer::Keep(kept) => {
            match identity::keep_promise(&node.dir, &node.grants.identity, kept) {
                Ok(()) => {
                    node.grants.holder.lock().kept(kept);
                    ask() == Answer::Echo
                }
                Err(error) => {
                    tracing::warn!(%error, "a promise to the master cannot be kept on disk, and is not given");
                    false
                }
            }
        }
    }
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

#[cfg(test)]
mod tests;
