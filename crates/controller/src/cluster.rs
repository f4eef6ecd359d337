//! One cluster at run time: what is known, who asks, who plans, who acts.
//!
//! [`Cluster`] holds record, observations and the newest plan behind one lock, so that a heartbeat
//! carries a lease only if the plan in force says so, and the bound of that lease is written down
//! before the heartbeat leaves. The lock is never held across an await.

mod balancer_task;
mod doubt;
pub(crate) mod driver;
mod node_task;
mod planner_task;
mod question;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use planner::{Desired, Observed, Plan, Policy, Record, RecordError, Time};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use topology::{Endpoint, NodeId, Slot, Topology, Warning};

use crate::election::Election;
use crate::events::{Event, Journal};
use crate::metrics::Counters;
use crate::store::{Outcome, Records, Store, StoreError};

/// A plan that is late by so much, ms, is not made any more: something keeps its task.
const PLAN_LATE_MS: u64 = 5_000;
/// How long a request waits for the store.
pub(crate) const STORE_LIMIT: Duration = Duration::from_secs(5);
/// How many requests may wait for it.
const CALLS_MAX: usize = 32;

/// What all clusters share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) policy: Policy,
    pub(crate) counters: Counters,
    pub(crate) journal: Journal,
    /// Requests that wait for the store: one that does not answer must not take every thread there is.
    calls: Arc<Semaphore>,
    /// Another than the store's, where several controllers share one.
    election: Option<Box<dyn Election>>,
    /// Another than the store.
    records: Option<Box<dyn Records>>,
    epoch: Instant,
    starts: AtomicU64,
}

impl Shared {
    pub(crate) fn new(store: Store, policy: Policy) -> Self {
        Self {
            store,
            policy,
            counters: Counters::default(),
            journal: Journal::default(),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            election: None,
            records: None,
            epoch: Instant::now(),
            starts: AtomicU64::new(0),
        }
    }

    /// With another election than the store's.
    #[cfg(test)]
    pub(crate) fn elected_by(self, election: Box<dyn Election>) -> Self {
        Self { election: Some(election), ..self }
    }

    /// With other records than the store's.
    #[cfg(test)]
    pub(crate) fn recorded_by(self, records: Box<dyn Records>) -> Self {
        Self { records: Some(records), ..self }
    }

    /// Where the records of clusters are kept.
    pub(crate) fn records(&self) -> &dyn Records {
        self.records.as_deref().unwrap_or(&self.store)
    }

    /// A place among those that wait for the store.
    pub(crate) async fn call(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        let silent = StoreError::Silent(STORE_LIMIT);
        match tokio::time::timeout(STORE_LIMIT, Arc::clone(&self.calls).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(silent),
        }
    }

    /// What says for how long this process leads.
    pub(crate) fn election(&self) -> &dyn Election {
        self.election.as_deref().unwrap_or(&self.store)
    }

    /// The controller's monotonic clock. It may stand still while this machine sleeps, which
    /// makes leases seem longer than they are: the safe side.
    pub(crate) fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The moment `time` on the runtime's clock.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        let offset = std::time::Duration::from_nanos(time.nanos());
        tokio::time::Instant::from_std(self.epoch) + offset
    }
}

/// The term, and until when it lasts, as plans take them.
pub(crate) fn authority(shared: &Shared) -> (u64, Option<Time>) {
    let election = shared.election();
    (election.term(), election.leads_until())
}

/// Why a record was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpdateError {
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The result would break an invariant.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The topology cannot be expressed.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// Whoever asked changed its mind when it saw the current record.
    #[error("{0}")]
    Refused(String),
    /// The store failed, and has not told yet what became of the change.
    #[error(
        "whether it was done is not known yet: {0}; `status` shows what is in force once the store tells"
    )]
    Unknown(String),
    /// The store's thread is gone.
    #[error("the store does not answer")]
    Gone,
}

/// What nodes are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopologyText {
    pub(crate) version: i64,
    pub(crate) text: String,
    pub(crate) hash: String,
    /// Nodes that clients take for one. Old records may have them, and failovers go on; no change makes any.
    pub(crate) shared: Vec<Warning>,
}

/// Why a record is no topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TopologyError {
    #[error("node id `{0}` is not 40 bytes")]
    Id(String),
    #[error("slots {0}-{1} are out of range")]
    Slots(u16, u16),
    #[error("{0}")]
    Refused(String),
}

/// Renders the record as nodes take it, and reads it back: a node must never be sent what it
/// would refuse or read otherwise.
pub(crate) fn topology_of(record: &Record) -> Result<TopologyText, TopologyError> {
    let id =
        |text: &str| NodeId::new(text.as_bytes()).ok_or_else(|| TopologyError::Id(text.to_owned()));
    let mut nodes = Vec::new();
    for shard in &record.shards {
        let Some(master) = shard.master() else { continue };
        for node in &shard.nodes {
            let is_master = node.role == planner::Role::Master;
            let mut slots = topology::SlotSet::default();
            for &(first, last) in shard.slot_ranges.iter().filter(|_| is_master) {
                for number in first..=last {
                    slots.insert(Slot::new(number).ok_or(TopologyError::Slots(first, last))?);
                }
            }
            let role = if is_master {
                topology::Role::Master
            } else {
                topology::Role::Replica { of: id(&master.id)? }
            };
            nodes.push(topology::Node {
                id: id(&node.id)?,
                local: node.local.clone(),
                announced: node.announced.clone(),
                role,
                failed: false,
                slots,
            });
        }
    }
    let topology = Topology { version: record.version, nodes };
    let text = topology.render();
    if !topology.nodes.is_empty() {
        let read = Topology::parse(&text, record.version)
            .map_err(|error| TopologyError::Refused(error.to_string()))?;
        if read != topology {
            return Err(TopologyError::Refused("an address cannot be expressed".to_owned()));
        }
    }
    let (hash, shared) = (topology.hash(), topology.warnings());
    Ok(TopologyText { version: record.version, text, hash, shared })
}

/// Refuses what would put two nodes at one address and did not before.
fn apart(before: &TopologyText, after: &TopologyText) -> Result<(), String> {
    match after.shared.iter().find(|shared| !before.shared.contains(shared)) {
        None => Ok(()),
        Some(shared) => Err(format!("{shared}: announce each at an address of its own")),
    }
}

/// Everything known about the cluster.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) record: Arc<Record>,
    pub(crate) topology: Arc<TopologyText>,
    pub(crate) observed: Observed,
    /// The newest plan; its `leases` are what heartbeats carry.
    pub(crate) plan: Plan,
    nodes: BTreeMap<String, NodeTask>,
    balancers: BTreeMap<String, BalancerTask>,
    /// When the next plan is to be made at the latest; `None` while the planner waits for the store, or for news.
    plan_due: Option<Time>,
    /// Changes of the record whose outcome is not known.
    doubts: i64,
    deleted: bool,
}

#[derive(Debug)]
struct NodeTask {
    local: Endpoint,
    now: Arc<Notify>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct BalancerTask {
    balancer: planner::Balancer,
    task: JoinHandle<()>,
}

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: Mutex<State>,
    /// Something was seen or changed: plan again.
    wake: Notify,
    desired: watch::Sender<Option<Desired>>,
    /// Counts changes of the record, for those who wait for one.
    changed: watch::Sender<u64>,
    planner: Mutex<Option<JoinHandle<()>>>,
}

impl Cluster {
    /// Starts all tasks of a cluster that is in the store.
    pub(crate) fn start(shared: Arc<Shared>, record: Record) -> Result<Arc<Self>, TopologyError> {
        let topology = Arc::new(topology_of(&record)?);
        let now = shared.now();
        let observed = Observed {
            started_at: now,
            record_at: now,
            epoch_at: now,
            term: authority(&shared).0,
            topology_hash: topology.hash.clone(),
            // Balancers refuse what is older than the newest they saw in this term, and they may
            // have served another cluster before.
            desired_floor: shared.starts.fetch_add(1, Ordering::Relaxed) << 32,
            ..Observed::default()
        };
        let cluster = Arc::new(Self {
            shared,
            state: Mutex::new(State {
                record: Arc::new(record),
                topology,
                observed,
                plan: Plan::default(),
                nodes: BTreeMap::new(),
                balancers: BTreeMap::new(),
                plan_due: Some(now),
                doubts: 0,
                deleted: false,
            }),
            wake: Notify::new(),
            desired: watch::Sender::new(None),
            changed: watch::Sender::new(0),
            planner: Mutex::new(None),
        });
        cluster.follow_record();
        let task = tokio::spawn(planner_task::run(Arc::clone(&cluster)));
        *cluster.planner.lock() = Some(task);
        Ok(cluster)
    }

    /// Ends all tasks. Nothing is told to nodes or balancers: they keep what they have.
    pub(crate) fn stop(&self) {
        if let Some(task) = self.planner.lock().take() {
            task.abort();
        }
        let mut state = self.state.lock();
        state.deleted = true;
        for (_, node) in std::mem::take(&mut state.nodes) {
            node.task.abort();
        }
        for (_, balancer) in std::mem::take(&mut state.balancers) {
            balancer.task.abort();
        }
    }

    pub(crate) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.state.lock().record)
    }

    /// `namespace/cluster`, as events name it.
    pub(crate) fn label(&self) -> String {
        let record = self.record();
        format!("{}/{}", record.namespace, record.name)
    }

    /// Writes an event that is no change of the record, without waiting for the disk.
    pub(crate) fn note(self: &Arc<Self>, kind: &'static str, text: String) {
        // What repeats is counted.
        let _ = planner_task::note(self, kind, text);
    }

    /// What keeps this cluster from being looked after, although the process runs; `None` if nothing does.
    pub(crate) fn trouble(&self) -> Option<String> {
        let ended = |task: &JoinHandle<()>| task.is_finished();
        let label = self.label();
        if self.planner.lock().as_ref().is_some_and(ended) {
            return Some(format!("the planner of cluster {label} has ended"));
        }
        let state = self.state.lock();
        if state.deleted {
            return None;
        }
        if let Some(node) = state.nodes.values().find(|node| ended(&node.task)) {
            return Some(format!("nobody asks node {} of cluster {label} any more", node.local));
        }
        if let Some(of) = state.balancers.values().find(|balancer| ended(&balancer.task)) {
            let name = &of.balancer.name;
            return Some(format!("nobody tells balancer {name} of cluster {label} any more"));
        }
        let late = |due: &Time| self.shared.now().millis_since(*due) >= PLAN_LATE_MS;
        let since = state.plan_due.filter(late)?;
        let seconds = self.shared.now().millis_since(since) / 1_000;
        Some(format!("cluster {label} should have been planned for {seconds} s ago"))
    }

    /// Told of every change of the record.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Changes the record by compare-and-swap, trying again when somebody else was faster.
    /// `change` gets a copy of the current record and may refuse; a new topology gets a new
    /// version here.
    pub(crate) async fn update(
        self: &Arc<Self>,
        reason: &str,
        change: impl Fn(&mut Record) -> Result<(), String>,
    ) -> Result<Arc<Record>, UpdateError> {
        loop {
            let current = self.record();
            let mut record = current.next();
            change(&mut record).map_err(UpdateError::Refused)?;
            let (before, after) = (topology_of(&current)?, topology_of(&record)?);
            apart(&before, &after).map_err(UpdateError::Refused)?;
            if after.text != before.text {
                record.version = self.highest_version(&current) + 1;
            }
            let _call = self.shared.call().await?;
            let swap = self.swap(record, "operator", reason);
            // The change itself goes on to its end.
            let Ok(swapped) = tokio::time::timeout(STORE_LIMIT, swap).await else {
                return Err(UpdateError::Unknown(StoreError::Silent(STORE_LIMIT).to_string()));
            };
            match swapped {
                Err(UpdateError::Store(StoreError::Conflict)) => tokio::task::yield_now().await,
                other => return other,
            }
        }
    }

    fn highest_version(&self, record: &Record) -> i64 {
        let state = self.state.lock();
        let seen = record.nodes().filter_map(|(_, node)| state.observed.nodes.get(&node.id));
        seen.filter_map(|node| node.seen.as_ref())
            .map(|seen| seen.reply.version)
            .fold(record.version, i64::max)
    }

    /// Writes `record` if the store still has the revision before it, and lets everybody know. It goes on to its end even
    /// if nobody waits for it any more (a client that hangs up ends its request): what the store has must be in force.
    async fn swap(
        self: &Arc<Self>,
        record: Record,
        kind: &'static str,
        reason: &str,
    ) -> Result<Arc<Record>, UpdateError> {
        record.check()?;
        topology_of(&record)?;
        let (cluster, reason) = (Arc::clone(self), reason.to_owned());
        let written = tokio::task::spawn_blocking(move || cluster.write(record, kind, reason));
        written.await.map_err(|_| UpdateError::Gone)?
    }

    fn write(
        self: &Arc<Self>,
        record: Record,
        kind: &'static str,
        reason: String,
    ) -> Result<Arc<Record>, UpdateError> {
        let records = self.shared.records();
        let label = format!("{}/{}", record.namespace, record.name);
        let event = Event::now(self.shared.store.term(), label, kind, reason.clone());
        match records.swap(&record, &event) {
            Outcome::Done(()) => {
                let record = Arc::new(record);
                self.adopt(Arc::clone(&record))?;
                Ok(record)
            }
            Outcome::NotDone(error) => {
                // Somebody else was faster.
                if matches!(error, StoreError::Conflict)
                    && let Some(other) = records.cluster(&record.namespace, &record.name)?
                {
                    self.adopt(Arc::new(other))?;
                }
                Err(error.into())
            }
            Outcome::Unknown(error) => self.in_doubt(record, &reason, error),
        }
    }

    /// Makes a record that is in the store the one in force; an older one is ignored.
    fn adopt(self: &Arc<Self>, record: Arc<Record>) -> Result<(), TopologyError> {
        let topology = topology_of(&record)?;
        {
            let mut state = self.state.lock();
            if record.revision <= state.record.revision {
                return Ok(());
            }
            if topology.version != state.record.version {
                state.observed.record_at = self.shared.now();
            }
            let opened = |record: &Record| -> Vec<_> {
                record.shards.iter().map(|shard| (shard.epoch.number, shard.epoch.id)).collect()
            };
            for (index, shard) in record.shards.iter().enumerate() {
                let before = state.record.shards.get(index);
                if before.is_none_or(|before| before.last_intent != shard.last_intent) {
                    let now = self.shared.now();
                    state.observed.concluded.insert(index, now);
                }
            }
            if opened(&record) != opened(&state.record) {
                state.observed.epoch_at = self.shared.now();
            }
            state.observed.topology_hash = topology.hash.clone();
            state.topology = Arc::new(topology);
            for (_, node) in record.nodes() {
                if node.role != planner::Role::Master
                    && let Some(seen) = state.observed.nodes.get_mut(&node.id)
                {
                    seen.master_sequence = None;
                }
            }
            state.record = record;
        }
        self.follow_record();
        self.changed.send_modify(|count| *count += 1);
        self.wake.notify_one();
        Ok(())
    }

    /// One task per node and balancer of the record, none for others.
    fn follow_record(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.deleted {
            return;
        }
        let record = Arc::clone(&state.record);
        let wanted: BTreeSet<&str> = record.nodes().map(|(_, node)| node.id.as_str()).collect();
        let stale = |id: &str, task: &NodeTask| {
            !wanted.contains(id) || record.node(id).is_none_or(|node| node.local != task.local)
        };
        let gone: Vec<String> = (state.nodes.iter())
            .filter(|(id, task)| stale(id, task))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            if let Some(node) = state.nodes.remove(&id) {
                node.task.abort();
            }
            state.observed.nodes.remove(&id);
        }
        for (_, node) in record.nodes() {
            if state.nodes.contains_key(&node.id) {
                continue;
            }
            let now = Arc::new(Notify::new());
            let ask = node_task::NodeTask {
                cluster: Arc::clone(self),
                id: node.id.clone(),
                local: node.local.clone(),
                now: Arc::clone(&now),
            };
            let task = NodeTask { local: node.local.clone(), now, task: tokio::spawn(ask.run()) };
            state.nodes.insert(node.id.clone(), task);
        }
        self.follow_balancers(&mut state, &record);
    }

    fn follow_balancers(self: &Arc<Self>, state: &mut State, record: &Record) {
        let gone: Vec<String> = (state.balancers.values())
            .filter(|task| !record.balancers.contains(&task.balancer))
            .map(|task| task.balancer.name.clone())
            .collect();
        for name in gone {
            if let Some(balancer) = state.balancers.remove(&name) {
                balancer.task.abort();
            }
            state.observed.balancers.remove(&name);
        }
        for balancer in &record.balancers {
            if state.balancers.contains_key(&balancer.name) {
                continue;
            }
            let apply =
                balancer_task::run(Arc::clone(self), balancer.clone(), self.desired.subscribe());
            let task = BalancerTask { balancer: balancer.clone(), task: tokio::spawn(apply) };
            state.balancers.insert(balancer.name.clone(), task);
        }
    }
}

/// One shard of one node that does not answer.
#[cfg(test)]
pub(crate) fn test_record() -> Record {
    let node = planner::Node {
        id: "a".repeat(40),
        local: Endpoint { host: "127.0.0.1".to_owned(), port: 1 },
        announced: None,
        role: planner::Role::Master,
        created_at: 0,
        stated: None,
    };
    let shard = planner::Shard {
        nodes: vec![node],
        slot_ranges: vec![(0, 16_383)],
        intent: None,
        last_intent: None,
        fence: None,
        epoch: planner::Epoch::default(),
    };
    Record {
        namespace: "n".to_owned(),
        name: "c".to_owned(),
        revision: 1,
        version: 1,
        shards: vec![shard],
        balancers: Vec::new(),
        longest_lease_ms: 1_000,
        allow_unfenced: true,
        password: None,
        commit_mode: api::grant::CommitMode::Async,
        min_in_sync: 1,
        max_lag: None,
        term: 0,
    }
}
