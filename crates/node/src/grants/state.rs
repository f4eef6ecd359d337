//! What this process may do as a master, and what it promised as a replica.
//!
//! One mutex holds the rules' state; what every command looks at is mirrored into atomics whenever
//! that state changes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ::grant::{CommitMode, EpochId, History, Holder, Kept, LEASE_MS_MAX, Member, Promise, StoreId};
use ::replication::wire::Stamp;
use api::heartbeat::Standing;
use api::store::Heeds;
use parking_lot::Mutex;
use storage::Store;
use tokio::sync::Notify;

use super::commit::{Commit, Lacks};
use super::heard::Heard;
use super::identity::{self, Identity, Obeyed};
use crate::clock;
use crate::gate::Engine;

/// Nanoseconds of a millisecond.
pub(super) const MS: u64 = 1_000_000;

/// What this process may do as a master, and what it promised as a replica.
#[derive(Debug)]
pub struct Grants {
    pub(super) holder: Mutex<Holder>,
    nonce: u64,
    /// The newest ping of the master: the length of its lease, ms, and when it came, ns.
    asked: Mutex<Option<(u64, u64)>>,
    /// Rung when a ping shows that something must be kept for the next ones.
    pub(super) promise_due: Notify,
    /// CLOCK_BOOTTIME until which a master may serve, ns; 0 without lease or grant.
    until_ns: AtomicU64,
    /// A grant is held.
    pub(super) is_held: AtomicBool,
    /// What the data here is called.
    pub identity: Identity,
    /// Which replies may leave.
    pub commit: Commit,
    /// When a controller was last heard.
    pub heard: Heard,
    /// Held while it is written whose data this is.
    pub(super) naming: Mutex<()>,
    /// The term that the next process finds on disk.
    kept_term: AtomicU64,
    /// What else it finds there; locked while that is written, and before the holder is.
    pub(super) kept: Mutex<OnDisk>,
}

/// What the next process finds on disk of the controllers that this one obeyed.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    /// The store.
    pub(super) store: Option<StoreId>,
    /// When the disk did not take one.
    pub(super) failed_at: Option<std::time::Instant>,
}

/// A reply that waits for the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Newest sequence its commands could see.
    pub sequence: u64,
    /// Generation of the write gate when they ran.
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
            asked: Mutex::default(),
            promise_due: Notify::default(),
            until_ns: AtomicU64::new(0),
            is_held: AtomicBool::new(false),
            identity,
            commit: Commit::new(workers),
            heard: Heard::default(),
            naming: Mutex::default(),
            kept_term: AtomicU64::new(0),
            kept: Mutex::default(),
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

    /// The store whose controllers are obeyed (rule O7).
    pub fn store(&self) -> Option<StoreId> {
        self.holder.lock().store()
    }

    /// An earlier process of this node left that on disk: lower terms are refused, and other stores
    /// (rule O7). To be called before anybody is heard.
    pub fn remember(&self, obeyed: Obeyed) {
        let mut kept = self.kept.lock();
        let mut holder = self.holder.lock();
        holder.remember(obeyed.term);
        if let Some(store) = obeyed.store {
            holder.led_from(store);
        }
        kept.store = obeyed.store;
        self.kept_term(obeyed.term);
    }

    /// The term that is to be put on disk, if it is not there: of a controller that leads a shard
    /// here. One that only says hello may have mistaken the node for its own.
    pub fn term_to_keep(&self) -> Option<u64> {
        let (led, _) = self.heard.newest()?;
        let kept = self.kept_term.load(Ordering::SeqCst);
        let highest = self.holder.lock().to_keep(kept)?;
        Some(highest.min(led)).filter(|term| *term > kept)
    }

    /// That term is on disk.
    pub(super) fn kept_term(&self, term: u64) {
        self.kept_term.store(term, Ordering::SeqCst);
    }

    /// The term that is on disk.
    pub(super) fn term_on_disk(&self) -> u64 {
        self.kept_term.load(Ordering::SeqCst)
    }

    /// Whether a master may serve at `now_ns`: it has a lease, and a grant where grants are in use.
    pub fn is_valid(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns.load(Ordering::SeqCst)
    }

    /// Whether this process serves only under a grant: some heartbeat carried one.
    pub fn has_seen_grant(&self) -> bool {
        self.holder.lock().needs_grant(&NO_HISTORY)
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
    pub(super) fn mirror(&self, holder: &Holder, history: &History<'_>, store: &Store) {
        self.until_ns.store(holder.until_ns(history), Ordering::SeqCst);
        self.is_held.store(holder.held().is_some(), Ordering::SeqCst);
        let held = holder.held().filter(|held| held.mode == CommitMode::InSync);
        let lacks = held.map_or(Lacks::default(), |held| Lacks {
            members: !held.has_enough(),
            copies: !held.has_enough_copies(),
        });
        let reached = held.and_then(|held| held.in_sync.reached());
        self.commit.set(reached, lacks, Some(store));
        match (holder.held(), held) {
            // Alone in its set: what is published is all there is to wait for. Without a word of it
            // old log files would stay.
            (_, Some(_)) if reached.is_none() => store.set_acknowledged(store.published()),
            (Some(_), None) => store.forget_acknowledged(),
            _ => {}
        }
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

    /// A ping of the master: whether its stamp may go back.
    pub(super) fn pinged(&self, lease_ms: u64, now_ns: u64, longest_ms: u64) -> bool {
        *self.asked.lock() = Some((lease_ms, now_ns));
        let mut holder = self.holder.lock();
        if holder.promise_ahead(lease_ms, now_ns, longest_ms).is_some() {
            self.promise_due.notify_one();
        }
        holder.ping(lease_ms, now_ns, longest_ms)
    }

    /// What must be on disk for the next pings; `None` where enough is, and where the master has
    /// asked for nothing within its lease.
    pub(super) fn promise_to_keep(&self, longest_ms: u64) -> Option<Kept> {
        let (lease_ms, asked_ns) = (*self.asked.lock())?;
        let now_ns = clock::boottime_ns();
        let is_recent = now_ns.saturating_sub(asked_ns) < lease_ms.saturating_mul(MS);
        is_recent.then(|| self.holder.lock().promise_ahead(lease_ms, now_ns, longest_ms))?
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
        standing.store = Heeds::of(holder.store());
        standing.granted_epoch = holder.held().map_or(0, |held| held.epoch);
        standing.granted_version = Some(holder.held().map_or(0, |held| held.version));
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

    /// Whether the store may hold this data as a member of the set: then it must stay what it is
    /// (rule R3).
    pub fn counts(&self, member: Member) -> bool {
        let holder = self.holder.lock();
        holder.held().is_some_and(|held| {
            held.mode == CommitMode::InSync && held.in_sync.others_in_store().contains(&member)
        })
    }

    /// Whether a replica that leaves may end: no answer would wait for it ([`Holder::lets_go`]).
    pub fn lets_go(&self, member: &Member, store: &Store) -> bool {
        let holder = self.holder.lock();
        // An epoch in the database was granted, if not to this process.
        let needs_grant = holder.needs_grant(&NO_HISTORY) || !store.history().is_empty();
        holder.lets_go(member, needs_grant)
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
pub(super) const NO_HISTORY: History<'static> = History { entries: &[], latest: 0 };
