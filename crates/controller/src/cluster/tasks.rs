//! What asks the nodes and tells the balancers of a cluster: a task for each that the record has.

use std::sync::Arc;

use planner::{Balancer, BalancerObserved, NodeObserved, Record};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use topology::Endpoint;

use super::{Cluster, State, balancer_task, node_task};

/// What asks a node.
#[derive(Debug)]
pub(super) struct NodeTask {
    pub(super) local: Endpoint,
    pub(super) now: Arc<Notify>,
    pub(super) task: JoinHandle<()>,
}

/// What tells a balancer.
#[derive(Debug)]
pub(super) struct BalancerTask {
    pub(super) balancer: planner::Balancer,
    pub(super) task: JoinHandle<()>,
}

impl State {
    /// What is seen of a node, to be written to. `None` for one that has left the cluster: what was
    /// under way to it brings no trace of it back, which would look for ever like a node that is
    /// missed by nobody ([`planner::Observed::heard`]).
    pub(super) fn seen_of(&mut self, id: &str) -> Option<&mut NodeObserved> {
        self.places.find(&self.record, id)?;
        Some(self.observed.nodes.entry(id.to_owned()).or_default())
    }

    /// The same of a balancer. `None`, too, for one that is elsewhere by now: where it was says
    /// nothing of where it is, least of all that nobody is let through there.
    pub(super) fn seen_of_balancer(
        &mut self,
        balancer: &Balancer,
    ) -> Option<&mut BalancerObserved> {
        self.balancers.get(&balancer.name).filter(|task| task.balancer == *balancer)?;
        Some(self.observed.balancers.entry(balancer.name.clone()).or_default())
    }
}

impl Cluster {
    /// One task per node and balancer of the record, none for others.
    pub(super) fn follow_record(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.deleted {
            return;
        }
        let record = Arc::clone(&state.record);
        let stale = |id: &str, task: &NodeTask| {
            let found = state.places.find(&record, id);
            found.is_none_or(|(_, node)| node.local != task.local)
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
            let task = NodeTask {
                local: node.local.clone(),
                now,
                task: self.shared.beats.spawn(ask.run()),
            };
            state.nodes.insert(node.id.clone(), task);
        }
        self.follow_balancers(&mut state, &record);
    }

    /// The name of the balancer whose process has that id, as far as is known.
    pub(crate) fn balancer_of(&self, start_id: &str) -> Option<String> {
        let state = self.state.lock();
        let is_it = |seen: &planner::BalancerObserved| {
            seen.in_force.as_ref().is_some_and(|in_force| in_force.start_id == start_id)
        };
        let mut found = state.observed.balancers.iter().filter(|(_, seen)| is_it(seen));
        found.next().map(|(name, _)| name.clone())
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
