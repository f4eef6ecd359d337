//! What all threads of a node share.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use api::heartbeat::LeaseMode;
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use storage::{DEFAULT_NAMESPACE, FailureHook, Scope, Store};
use tokio::sync::watch;
use topology::{Cluster, Topology};

use crate::backup::state::Backups;
use crate::clients::Clients;
use crate::clock;
use crate::config::value::HashForm;
use crate::config::{Config, Values};
use crate::descriptors::Descriptors;
use crate::gate::{Engine, ResyncState, Role};
use crate::grants::state::Grants;
use crate::locks::Locks;
use crate::long_reads::LongReads;
use crate::memory::held::Held;
use crate::monitor::Monitors;
use crate::namespaces::Namespaces;
use crate::perflog::Perflog;
use crate::pubsub::Pubsub;
use crate::scripts::{self, Scripts};
use crate::slowlog::Slowlog;
use crate::stats::Stats;
use crate::tls::{self, Tls};
use crate::tracking::Sending;
use crate::waiters::Waiters;
use crate::watch::Watches;

/// A running node.
pub struct Node {
    /// Options.
    pub config: Config,
    /// `dir`, absolute.
    pub dir: PathBuf,
    /// The write gate.
    pub gate: RwLock<Engine>,
    /// What is known of the cluster. Replaced as a whole, under the gate when the role changes with
    /// it.
    pub cluster: ArcSwap<Cluster>,
    /// One change of topology or role at a time.
    pub changing: tokio::sync::Mutex<()>,
    /// The database is told of options by one at a time.
    telling: Mutex<()>,
    /// Lease, grant, in-sync set, promises.
    pub grants: Grants,
    /// What connections hold, where `maxmemory` bounds it.
    pub memory: Arc<Held>,
    /// Connections.
    pub clients: Clients,
    /// What it may have open, and for whom.
    pub descriptors: Descriptors,
    /// Key locks.
    pub locks: Locks,
    /// WATCH.
    pub watches: Watches,
    /// Channels.
    pub pubsub: Pubsub,
    /// MONITOR.
    pub monitors: Monitors,
    /// CLIENT TRACKING.
    pub tracking: crate::tracking::Tracking,
    /// Users.
    pub acl: crate::acl::Acl,
    /// Tokens of namespaces.
    pub namespaces: Namespaces,
    /// EVAL and FCALL.
    pub scripts: Scripts,
    /// Threads and memory of long reads.
    pub long_reads: LongReads,
    /// Commands that wait for a key.
    pub waiters: Arc<Waiters>,
    /// Counters.
    pub stats: Stats,
    /// SLOWLOG.
    pub slowlog: Slowlog,
    /// PERFLOG.
    pub perflog: Perflog,
    /// LATENCY.
    pub latency: crate::latency::Monitor,
    /// COMPACT is under way.
    pub is_compacting: AtomicBool,
    /// Nodes that a controller has found gone.
    pub down_nodes: crate::down_nodes::DownNodes,
    /// Slots that move.
    pub moves: crate::moves::state::Moves,
    /// Slots that Kvrocks' own migration gives and brings.
    pub migration: crate::migration::state::Migration,
    /// Sessions that were moved here.
    pub taken: crate::moving::Taken,
    /// BGSAVE.
    pub backups: Backups,
    /// Load balancers it does not know.
    pub proxy_refused: crate::proxy_refused::ProxyRefused,
    /// Addresses of announced names.
    pub hosts: crate::hosts::Hosts,
    /// Whether a full sync is due.
    pub resync: ResyncState,
    /// Replication: feeders and the link to the master.
    pub replication: crate::replication::state::Replication,
    /// CLOCK_BOOTTIME at start, ns.
    pub started_ns: u64,
    /// 40 hex digits of this process, for INFO's run_id.
    pub run_id: String,
    /// Unix ms of the last lease warning, so that `log-only` does not flood the log.
    pub lease_warned_ms: AtomicU64,
    /// Bytes the database takes on disk, as of the last look (once a second).
    pub used_bytes: AtomicU64,
    /// DEBUG DBSIZE-LIMIT: it is to be taken for more than `max-db-size`.
    pub counts_as_full: AtomicBool,
    /// RDB LOAD.
    pub loads: crate::rdb_load::Loads,
    /// Of the disk that the data folder is on, at the last look.
    pub room: Mutex<Option<api::heartbeat::Room>>,
    /// Whether that disk gives back what is read.
    pub reads: Arc<crate::disk::Reads>,
    /// Result of the last DBSIZE SCAN.
    pub keyspace: Mutex<Keyspace>,
    /// Threads that serve connections, that of peers included: the last one.
    pub workers: usize,
    /// SCAN cursors handed out as numbers.
    pub cursors: crate::cursors::Cursors,
    /// What TLS is spoken with.
    pub tls: tls::Current,
    /// Whether the process is about to end, and waits for a successor.
    pub stopping: crate::stopping::Stopping,
    shutdown: watch::Sender<bool>,
    on_failure: Option<FailureHook>,
    on_regained: Option<OnRegained>,
}

/// See [`Node::on_regained`]: the node, and the generation of the write gate.
pub type OnRegained = fn(Arc<Node>, u64) -> Acted;

/// Ready when something was acted on.
pub type Acted = Pin<Box<dyn Future<Output = ()>>>;

/// Key counts of the last scan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keyspace {
    /// Unix ms of the scan; 0: never.
    pub at_ms: u64,
    /// Live keys.
    pub keys: u64,
    /// Those with an expiry time.
    pub expires: u64,
    /// Expired but not yet removed.
    pub expired: u64,
    /// Mean time to live in ms of those with an expiry time.
    pub average_ttl_ms: u64,
    /// A scan runs.
    pub is_running: bool,
    /// Sequence number the count was taken at.
    pub sequence: u64,
}

/// Why a data command cannot run because of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseExpired;

impl Node {
    /// A node that serves nothing yet; `commands`: how many there are, with what is in containers.
    pub fn new(
        config: Config,
        dir: PathBuf,
        store: Store,
        cluster: Cluster,
        role: Role,
        commands: usize,
    ) -> Self {
        // One more serves peers.
        let workers = usize::try_from(config.now().workers).unwrap_or(1).saturating_add(1);
        let long_reads = LongReads::new(&config.now());
        let memory = Arc::<Held>::default();
        let bound = usize::try_from(config.now().parts().clients).unwrap_or(usize::MAX);
        memory.bound(bound, 0);
        let replication = crate::replication::state::Replication::default();
        replication.lineage.reload(&dir.join("db"));
        let namespaces = Namespaces::new(config.now().namespaces.clone());
        Self {
            grants: Grants::new(&dir, &dir.join("db"), workers),
            config,
            dir,
            gate: RwLock::new(Engine { store: Some(store), role, generation: 0 }),
            cluster: ArcSwap::from_pointee(cluster),
            changing: tokio::sync::Mutex::new(()),
            telling: Mutex::new(()),
            clients: Clients::numbered(rand::random()).within(Arc::clone(&memory)),
            memory,
            descriptors: Descriptors::default(),
            locks: Locks::default(),
            watches: Watches::default(),
            pubsub: Pubsub::default(),
            monitors: Monitors::default(),
            tracking: crate::tracking::Tracking::default(),
            acl: crate::acl::Acl::default(),
            namespaces,
            scripts: Scripts::default(),
            long_reads,
            waiters: Arc::default(),
            // Behind the workers' counters those of the threads that run scripts.
            stats: Stats::new(workers + scripts::THREADS_MAX, commands),
            workers,
            slowlog: Slowlog::default(),
            perflog: Perflog::default(),
            latency: crate::latency::Monitor::default(),
            is_compacting: AtomicBool::new(false),
            moves: crate::moves::state::Moves::default(),
            migration: crate::migration::state::Migration::default(),
            taken: crate::moving::Taken::default(),
            backups: Backups::default(),
            down_nodes: crate::down_nodes::DownNodes::default(),
            proxy_refused: crate::proxy_refused::ProxyRefused::default(),
            hosts: crate::hosts::Hosts::default(),
            resync: ResyncState::default(),
            replication,
            started_ns: clock::boottime_ns(),
            run_id: (0..5).map(|_| format!("{:08x}", rand::random::<u32>())).collect(),
            lease_warned_ms: AtomicU64::new(0),
            used_bytes: AtomicU64::new(0),
            counts_as_full: AtomicBool::new(false),
            loads: crate::rdb_load::Loads::default(),
            room: Mutex::default(),
            reads: Arc::default(),
            keyspace: Mutex::new(Keyspace::default()),
            cursors: crate::cursors::Cursors::default(),
            tls: tls::Current::default(),
            stopping: crate::stopping::Stopping::default(),
            shutdown: watch::channel(false).0,
            on_failure: None,
            on_regained: None,
        }
    }

    /// Anything may have changed for those who watch keys or keep what they read: a full sync,
    /// another role, moved slots.
    pub fn touch_all(&self) {
        self.watches.touch_all();
        let (limit, now_ms) = (self.config.now().subscriber_limit(), clock::unix_ms());
        self.tracking.tell_all(Sending { limit, now_ms });
    }

    /// The engine, shared. Recursive, so that a command inside EXEC may look again.
    pub fn engine(&self) -> RwLockReadGuard<'_, Engine> {
        self.gate.read_recursive()
    }

    /// All keys of this node that a cluster knows, at `now_ms`, Unix ms: for what no client asks
    /// for.
    pub fn scope(&self, now_ms: u64) -> Scope<'static> {
        let cluster = self.config.now().cluster_enabled;
        Scope { namespace: DEFAULT_NAMESPACE, cluster, now_ms }
    }

    /// The database folder.
    pub fn db_path(&self) -> PathBuf {
        self.dir.join("db")
    }

    /// For how long the disk has taken nothing of the log of `store`, or given nothing back, beyond
    /// what a busy one makes either take, ms.
    pub fn disk_wait_ms(&self, store: &Store) -> u64 {
        store.log_wait_ms().max(self.reads.wait_ms())
    }

    /// A file or folder in `dir`.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether the node serves under leases: then a missing one counts as expired.
    pub fn is_lease_blocking(mode: LeaseMode) -> bool {
        matches!(mode, LeaseMode::BlockWrite | LeaseMode::BlockAll)
    }

    /// Whether the database is larger than it may be, and what may grow is refused.
    pub fn has_reached_its_size(&self, config: &Values) -> bool {
        let limit = u64::from(config.max_db_size) << 30;
        let is_larger = limit > 0 && self.used_bytes.load(Ordering::Relaxed) > limit;
        is_larger || self.counts_as_full.load(Ordering::Relaxed)
    }

    /// Whether others' data may come in: it is not what fills the last tenth of what the database
    /// may take, since clients' writes are refused above that (rule M16).
    pub fn has_size_for_guests(&self, config: &Values) -> bool {
        let limit = u64::from(config.max_db_size) << 30;
        limit == 0 || self.used_bytes.load(Ordering::Relaxed) < limit - limit / 10
    }

    /// Whether a data command may run, or its answer may leave, as far as the lease goes. Replicas
    /// need none for what they may serve.
    pub fn check_lease(
        &self,
        mode: LeaseMode,
        is_write: bool,
        role: &Role,
    ) -> Result<(), LeaseExpired> {
        let concerns = match mode {
            LeaseMode::Disabled => false,
            LeaseMode::LogOnly | LeaseMode::BlockWrite => is_write,
            LeaseMode::BlockAll => true,
        };
        if !concerns || !role.is_master() || self.grants.is_valid(clock::boottime_ns()) {
            return Ok(());
        }
        if mode == LeaseMode::LogOnly {
            self.warn_of_lease();
            return Ok(());
        }
        Err(LeaseExpired)
    }

    fn warn_of_lease(&self) {
        let now = clock::unix_ms();
        let last = self.lease_warned_ms.load(Ordering::Relaxed);
        if now.saturating_sub(last) >= 1_000 {
            self.lease_warned_ms.store(now, Ordering::Relaxed);
            tracing::warn!(
                "master lease expired; writes go on because master-lease-mode is log-only"
            );
        }
    }

    /// What the master is dialled with, if over TLS. Without a certificate nothing is dialled in
    /// clear instead.
    ///
    /// # Errors
    /// `tls-replication` is set, and there is no certificate.
    pub fn link_tls(&self) -> std::io::Result<Option<Arc<Tls>>> {
        if !self.config.now().tls_replication {
            return Ok(None);
        }
        let none = || std::io::Error::other("tls-replication needs a certificate (tls-cert-file)");
        self.tls.now().ok_or_else(none).map(Some)
    }

    /// Asks the whole process to stop.
    pub fn shut_down(&self) {
        self.shutdown.send_replace(true);
    }

    /// Says what this process may have open. To be said before the node serves.
    #[must_use]
    pub fn with_descriptors(self, descriptors: Descriptors) -> Self {
        Self { descriptors, ..self }
    }

    /// `hook` is called when this database, or one that takes its place, fails (rule R14). To be
    /// said before the node serves.
    #[must_use]
    pub fn on_failure(mut self, hook: FailureHook) -> Self {
        self.on_failure = Some(hook);
        if let Some(store) = &self.engine().store {
            self.look_after(store);
        }
        self
    }

    /// Takes up the tokens that the database holds. To be said before the node serves.
    #[must_use]
    pub fn with_namespaces(self) -> Self {
        if let Some(store) = &self.engine().store {
            self.namespaces.look_into(&self.config.now(), store);
        }
        self
    }

    /// `act` is called when the link finds that the data here is the master's again: the topology
    /// is changed by others than the link. To be said before the node serves.
    #[must_use]
    pub fn on_regained(self, act: OnRegained) -> Self {
        Self { on_regained: Some(act), ..self }
    }

    /// The data here is the master's again, under that generation of the write gate. Returns when
    /// that was acted on.
    pub async fn regained(self: &Arc<Self>, generation: u64) {
        if let Some(act) = self.on_regained {
            act(Arc::clone(self), generation).await;
        }
    }

    /// Gives the database what it is to know of options that may change. To be called when they
    /// have changed, and for a database that was put in service meanwhile.
    pub fn tell_options(&self, store: &Store) {
        // Else what was looked up first could be told last.
        let _one_at_a_time = self.telling.lock();
        let values = self.config.now();
        store.set_batch_bytes_max(usize::try_from(values.parts().batch).unwrap_or(usize::MAX));
        store.set_times_hashes(values.hash_encoding_mode == HashForm::FieldExpiration);
        store.set_removes_ended(values.notify_keyspace_events.minds_ends());
    }

    /// To be called for every database that is put in service.
    pub fn look_after(&self, store: &Store) {
        if let Some(hook) = &self.on_failure {
            store.on_failure(Arc::clone(hook));
        }
    }

    /// Changes to true when the process is to stop.
    pub fn shutdown(&self) -> watch::Receiver<bool> {
        self.shutdown.subscribe()
    }

    /// The topology as clients of this node are to see it: with the nodes that are gone.
    pub fn shown<'t>(&self, topology: &'t Topology) -> Cow<'t, Topology> {
        let mut ids = self.down_nodes.unheard(&self.replication.heard());
        if let Some(me) = self.cluster.load().id() {
            ids.remove(&me);
        }
        if ids.is_empty() {
            return Cow::Borrowed(topology);
        }
        Cow::Owned(topology.with_failed(|id| ids.contains(id)))
    }

    /// The same for those who ask how each node is. Where no controller says so, a master knows
    /// which of its replicas had a stream here and have not come back.
    pub fn shown_with_lost<'t>(&self, topology: &'t Topology) -> Cow<'t, Topology> {
        let shown = self.shown(topology);
        let me = self.cluster.load().id().filter(|_| self.engine().role.is_master());
        let Some(me) = me.filter(|_| !self.grants.heard.is_led(clock::boottime_ns())) else {
            return shown;
        };
        let is_lost = |node: &&topology::Node| self.replication.is_lost(node.id, &node.local);
        let ids: BTreeSet<_> = topology.replicas_of(me).filter(is_lost).map(|n| n.id).collect();
        if ids.is_empty() {
            return shown;
        }
        Cow::Owned(shown.with_failed(|id| ids.contains(id)))
    }

    /// Milliseconds since start.
    pub fn uptime_ms(&self) -> u64 {
        clock::boottime_ns().saturating_sub(self.started_ns) / 1_000_000
    }

    /// Ends the connections of clients, not those of peers: after a demotion nobody may go on
    /// believing this is the master (rule R6).
    pub fn close_clients(self: &Arc<Self>, why: &str) {
        let count = self.clients.kill_where(|client| {
            !client.is_peer.load(Ordering::Relaxed) && !client.is_replica.load(Ordering::Relaxed)
        });
        if count > 0 {
            tracing::info!(count, why, "closed client connections");
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("dir", &self.dir).finish_non_exhaustive()
    }
}
