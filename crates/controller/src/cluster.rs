//! One cluster at run time: what is known, who asks, who plans, who acts.
//!
//! [`Cluster`] holds record, observations and the newest plan behind one lock, so that a heartbeat
//! carries a lease only if the plan in force says so, and the bound of that lease is written down
//! before the heartbeat leaves. The lock is never held across an await.

mod balancer_task;
mod beats;
mod change;
mod copied;
mod doubt;
pub(crate) mod driver;
pub(crate) mod losses;
mod node_task;
mod planner_task;
mod pushes;
mod question;
pub(crate) mod rival;
#[cfg(test)]
mod sample;
mod shared;
mod tasks;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::moves::MoveId;
use parking_lot::Mutex;
use planner::{Desired, Guard, Observed, Places, Plan, Record, Time};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

pub(crate) use change::UpdateError;
pub(crate) use copied::Copied;
pub(crate) use planner_task::named_by;
#[cfg(test)]
pub(crate) use sample::{test_actor, test_failover, test_pair, test_record, test_sequences};
pub(crate) use shared::Shared;
use tasks::{BalancerTask, NodeTask};
use text::topology_after;
pub(crate) use text::{TopologyError, TopologyText, topology_of};

/// A plan that is late by so much, ms, is not made any more: something keeps its task.
const PLAN_LATE_MS: u64 = 5_000;
/// How long a request waits for the store.
pub(crate) const STORE_LIMIT: Duration = Duration::from_secs(5);

/// Everything known about the cluster.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) record: Arc<Record>,
    pub(crate) topology: Arc<TopologyText>,
    /// Of the record.
    places: Places,
    pub(crate) observed: Observed,
    /// The newest plan; its `leases` are what heartbeats carry.
    pub(crate) plan: Plan,
    nodes: BTreeMap<String, NodeTask>,
    balancers: BTreeMap<String, BalancerTask>,
    /// When the next plan is to be made at the latest; `None` while the planner waits for the
    /// store.
    plan_due: Option<Time>,
    /// By the newest plan nothing is to be done: answers that are no news are no reason to plan.
    rests: bool,
    /// Nodes whose answers plans wait for, until they have answered.
    awaited: BTreeSet<String>,
    /// Replicas that are down by the newest plan, sorted.
    gone: Vec<String>,
    /// By move: how far its copy was when.
    pub(crate) copies: BTreeMap<MoveId, Copied>,
    /// Changes of the record whose outcome is not known.
    doubts: i64,
    deleted: bool,
}

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: Mutex<State>,
    /// Something was seen or changed: plan again.
    wake: Notify,
    /// Something was seen that changes nothing by itself: plan soon.
    soon: Notify,
    desired: watch::Sender<Option<Desired>>,
    /// Counts changes of the record, for those who wait for one.
    changed: watch::Sender<u64>,
    planner: Mutex<Option<JoinHandle<()>>>,
}

impl Cluster {
    /// Starts all tasks of a cluster that is in the store.
    pub(crate) fn start(
        shared: Arc<Shared>,
        record: Record,
        guard: Option<Guard>,
    ) -> Result<Arc<Self>, TopologyError> {
        let topology = Arc::new(topology_of(&record)?);
        let (now, about) = (shared.now(), shared.store.about());
        let observed = Observed {
            started_at: now,
            record_at: now,
            epoch_at: now,
            term: shared.store.term(),
            authority: shared.authority(),
            store: about.identity.id(),
            takes: about.takes,
            guard,
            topology_hash: topology.hash.to_string(),
            plain_hash: topology.plain_hash(),
            // Balancers refuse what is older than the newest they saw in this term, and they may
            // have served another cluster before.
            desired_floor: shared.starts.fetch_add(1, Ordering::Relaxed) << 32,
            ..Observed::default()
        };
        let cluster = Arc::new(Self {
            shared,
            state: Mutex::new(State {
                places: Places::of(&record),
                record: Arc::new(record),
                topology,
                observed,
                plan: Plan::default(),
                nodes: BTreeMap::new(),
                balancers: BTreeMap::new(),
                plan_due: Some(now),
                rests: false,
                awaited: BTreeSet::new(),
                gone: Vec::new(),
                copies: BTreeMap::new(),
                doubts: 0,
                deleted: false,
            }),
            wake: Notify::new(),
            soon: Notify::new(),
            desired: watch::Sender::new(None),
            changed: watch::Sender::new(0),
            planner: Mutex::new(None),
        });
        cluster.follow_record();
        let task = tokio::spawn(planner_task::run(Arc::clone(&cluster)));
        *cluster.planner.lock() = Some(task);
        Ok(cluster)
    }

    /// As a panic would.
    #[cfg(test)]
    pub(crate) fn end_planner(&self) {
        self.planner.lock().as_ref().expect("a planner").abort();
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

    /// The record in force and the topology that it is.
    fn in_force(&self) -> (Arc<Record>, Arc<TopologyText>) {
        let state = self.state.lock();
        (Arc::clone(&state.record), Arc::clone(&state.topology))
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

    /// Something was seen. What is no news is looked at with what else comes, unless the cluster
    /// `rests`: then with the plan that is made once per heartbeat in any case.
    fn seen(&self, is_news: bool, rests: bool) {
        match (is_news, rests) {
            (true, _) => self.wake.notify_one(),
            (false, false) => self.soon.notify_one(),
            (false, true) => {}
        }
    }

    /// Whether this process leads for certain, and stands back for nobody.
    fn may_tell(&self) -> bool {
        self.shared.authority().acts() && self.state.lock().plan.stands_back.is_none()
    }

    /// It was stopped: another controller leads, or the cluster is gone. This is of before.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().deleted
    }

    /// Which of its tasks has ended although nobody ended it, so by a panic; `None` if none has.
    pub(crate) fn ended(&self) -> Option<String> {
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
        None
    }

    /// Why nothing is done for this cluster: another controller leads it. One of several that share
    /// a store may stand by for ever, and says nothing of that. An alarm of the plan tells more.
    pub(crate) fn stands_back(&self) -> Option<String> {
        let label = self.label();
        let state = self.state.lock();
        let why = state.plan.stands_back.as_ref()?;
        let is_alone = state.observed.authority == planner::Authority::Alone;
        is_alone.then(|| format!("nothing is done for cluster {label}: {why}"))
    }

    /// What keeps this cluster from being looked after, although the process runs; `None` if
    /// nothing does.
    pub(crate) fn trouble(&self) -> Option<String> {
        if let Some(ended) = self.ended() {
            return Some(ended);
        }
        let label = self.label();
        let state = self.state.lock();
        if state.deleted {
            return None;
        }
        let late = |due: &Time| self.shared.now().millis_since(*due) >= PLAN_LATE_MS;
        let since = state.plan_due.filter(late)?;
        let seconds = self.shared.now().millis_since(since) / 1_000;
        Some(format!("cluster {label} should have been planned for {seconds} s ago"))
    }

    /// It does not lead yet: its store was copied or moved, and another controller may.
    pub(crate) fn is_guarded(&self) -> bool {
        self.state.lock().observed.guard.is_some()
    }

    /// This process leads from here on: every lease of its predecessor counts as granted in full
    /// now.
    pub(crate) fn leads(&self, term: u64) {
        {
            let now = self.shared.now();
            let floor = self.shared.starts.fetch_add(1, Ordering::Relaxed) << 32;
            let observed = &mut self.state.lock().observed;
            observed.term = term;
            (observed.started_at, observed.record_at, observed.epoch_at) = (now, now, now);
            (observed.desired, observed.desired_floor) = (None, floor);
            // Attempts are numbered within a term.
            observed.attempts.clear();
            // What was heard of the predecessor is over.
            observed.nodes.values_mut().for_each(|node| node.led = None);
        }
        self.wake.notify_one();
    }

    /// What its nodes say of who leads them.
    pub(crate) fn witnesses(&self) -> Vec<planner::Witness> {
        let state = self.state.lock();
        let witness = |(_, node): (usize, &planner::Node)| {
            let seen = state.observed.node(&node.id);
            let answered_at = seen.led.map(|led| led.at).filter(|_| seen.misses == 0);
            planner::Witness { answered_at, heard_at: seen.led.and_then(|led| led.heard_at) }
        };
        state.record.nodes().map(witness).collect()
    }

    /// Adds what is heard of its nodes. One that answers with an error is heard, as it is by those
    /// who stand by and only observe it.
    pub(crate) fn hears(&self, hearing: &mut planner::Hearing) {
        let (now, state) = (self.shared.now(), self.state.lock());
        for (_, node) in state.record.nodes() {
            let answered_at = state.observed.node(&node.id).answered_at;
            hearing.add(answered_at, &self.shared.policy, now);
        }
    }

    /// Told of every change of the record.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Makes a record that is in the store the one in force; an older one is ignored.
    pub(crate) fn adopt(self: &Arc<Self>, record: Arc<Record>) -> Result<(), TopologyError> {
        let (was, known) = self.in_force();
        let topology = topology_after(&was, &known, &record)?;
        self.comes_into_force(record, topology);
        Ok(())
    }

    fn comes_into_force(self: &Arc<Self>, record: Arc<Record>, topology: Arc<TopologyText>) {
        let places = Places::of(&record);
        {
            let mut state = self.state.lock();
            let known = (state.record.revision, state.record.tag);
            if record.revision < known.0 || (record.revision, record.tag) == known {
                return;
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
            state.observed.topology_hash = topology.hash.to_string();
            state.observed.plain_hash = topology.plain_hash();
            (state.topology, state.places) = (topology, places);
            for (_, node) in record.nodes() {
                if node.role != planner::Role::Master
                    && let Some(seen) = state.observed.nodes.get_mut(&node.id)
                {
                    seen.master_sequence = None;
                }
            }
            planner::moving::forget(&mut state.observed.attempts, &record);
            let is_known = |id: &MoveId| record.moves.list.iter().any(|one| one.id == *id);
            state.copies.retain(|id, _| is_known(id));
            state.record = record;
        }
        self.follow_record();
        self.changed.send_modify(|count| *count += 1);
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests;
