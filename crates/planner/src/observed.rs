//! What the controller saw, as the input of a plan.
//!
//! Nothing here is a conclusion. Tasks of the controller write it under its lock; each field says
//! which, by its module there: `cluster` (start, and the record that comes into force), `question`
//! (a heartbeat that leaves, its answer), `node_task` (a heartbeat without an answer),
//! `planner_task` (what a plan sets off), `balancer_task`, `rival` and `doubt`.

use std::collections::{BTreeMap, BTreeSet};

use api::balancer::{Frontend, Sessions};
use api::certificate::{Certificate, Trust};
use api::heartbeat::Reply;
use api::moves::MoveId;
use api::store::StoreId;
use topology::Endpoint;

use crate::moves::{Attempts, Moved};
use crate::{Authority, ShardId, Time};

/// A heartbeat reply and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What the node said.
    pub reply: Reply,
    /// When the heartbeat left; the reply describes some moment after it.
    pub sent_at: Time,
    /// When the reply was read; the node's clock was read before it.
    pub received_at: Time,
}

/// A topology the node acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Version of it.
    pub version: i64,
    /// When the acknowledgement was read.
    pub at: Time,
}

/// A CLIENT PAUSE this controller sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// For which intent.
    pub intent: String,
    /// When it left: writes stay paused until this + `for_ms` at least.
    pub sent_at: Time,
    /// Its bound, ms.
    pub for_ms: u64,
    /// When it was acknowledged: no write is in flight any more.
    pub acked_at: Option<Time>,
    /// Why it was not.
    pub error: Option<String>,
}

/// A grant that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which epoch.
    pub epoch: u64,
    /// When the refusal was read.
    pub at: Time,
    /// The node's words.
    pub why: String,
}

/// A controller whose store was copied or moved, until it is known that nobody else leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// When it began to ask.
    pub since: Time,
    /// How long nodes must have heard of nobody, ms.
    pub quiet_ms: u64,
    /// Where the store was before.
    pub from: String,
    /// Term of the other controller, once one was heard of.
    pub rival: Option<u64>,
}

/// What a node says of its controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Led {
    /// Highest term it has seen.
    pub term: u64,
    /// When it last took a heartbeat, as far as it knows.
    pub heard_at: Option<Time>,
    /// When it said so.
    pub at: Time,
    /// From which store it is led, if it knows.
    pub store: Option<StoreId>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeObserved {
    /// Newest reply. Written by `question` ([`Self::saw`]).
    pub seen: Option<Seen>,
    /// When the first answer of its present process came, if an earlier process was heard. As
    /// `seen`.
    pub process_at: Option<Time>,
    /// When it last answered, be it with an error. Written by [`Observed::heard`].
    pub answered_at: Option<Time>,
    /// Heartbeat intervals without an answer since the last one.
    /// Counted by `node_task`, cleared by an answer ([`Observed::heard`]).
    pub misses: u32,
    /// When the current row of misses began. As `misses`.
    pub missing_since: Option<Time>,
    /// Its silence says nothing about it before: until then, in its current row of misses, no other
    /// node was heard either. Written by [`Observed::heard`], for all nodes.
    pub counts_from: Option<Time>,
    /// Connections refused or closed in a row. Counted by `node_task`, cleared by an answer.
    pub refused: u32,
    /// When the last of them was. As `refused`.
    pub refused_at: Option<Time>,
    /// Last error text. Written by `node_task`, cleared by the next good reply.
    pub error: Option<String>,
    /// Since when it is not known how the node is, though it is not silent: it answers with errors,
    /// or this controller cannot ask. Written by `node_task`, cleared by an answer.
    pub unclear_since: Option<Time>,
    /// A push of that version is under way.
    /// Set by `planner_task` with the action, cleared at its end.
    pub pushing: Option<i64>,
    /// Newest acknowledged push. Written by `planner_task`.
    pub pushed: Option<Pushed>,
    /// When the last push failed. Written by `planner_task`, cleared by the next that succeeds.
    pub push_failed_at: Option<Time>,
    /// No lease granted by this controller process lasts longer than this.
    /// Written by `question`, before the heartbeat leaves.
    pub lease_until: Option<Time>,
    /// Process (nonce) the newest grant was for. As `lease_until`.
    pub lease_nonce: Option<String>,
    /// Newest sequence seen from it as master; of the process that was last granted a lease, once
    /// that process has answered. Written by `question` ([`Self::served`]), cleared by `cluster`
    /// once the record makes it a replica.
    pub master_sequence: Option<u64>,
    /// Our pause, until it was lifted.
    /// Written by `planner_task`: set and removed with the action, completed by the answer.
    pub pause: Option<Pause>,
    /// Epoch and request of the newest grant it answered to. Written by `question`.
    pub confirmed: Option<(u64, u64)>,
    /// The last grant it refused, until it takes one. Written by `question`.
    pub refusal: Option<Refusal>,
    /// When a heartbeat was last sent to it by way of a replica.
    /// Written by `planner_task`, with the action.
    pub relaying: Option<Time>,
    /// When its newest answer came by way of a replica; `None` if it came directly.
    /// Written by `question`.
    pub relayed_at: Option<Time>,
    /// As a replica: since when it has had no stream from its master. Written by `question`.
    pub unlinked_since: Option<Time>,
    /// How far its wall clock is ahead of the controller's, ms, if it says. Written by `question`.
    pub clock_ahead_ms: Option<i64>,
    /// By how much that may be wrong, ms: the answer took twice as long. Written by `question`.
    pub clock_error_ms: u64,
    /// The other controller that it obeys; nothing once it takes a heartbeat of this one.
    /// Written by `rival`, cleared by `question`; by `rival` for all nodes when the guard ends.
    pub led: Option<Led>,
}

/// So many misses one after the other are more than the jitter of a busy machine.
const ROW: u32 = 2;

impl NodeObserved {
    /// Silent for a while, and not for want of a process: a host that refuses connections is heard.
    fn is_silent(&self) -> bool {
        self.misses >= ROW && self.refused == 0
    }

    /// What is suspicious about one that is not down, to follow its address.
    pub(crate) fn suspicion(&self) -> String {
        match &self.error {
            // It is not silent, and may be serving: it is not replaced for that.
            Some(error) if self.unclear_since.is_some() => format!(": {error}"),
            _ => format!(" missed {} heartbeats", self.misses.max(1)),
        }
    }

    /// Takes its newest answer.
    pub fn saw(&mut self, seen: Seen) {
        let before = self.seen.as_ref().map(|before| &before.reply.nonce);
        if before.is_some_and(|before| *before != seen.reply.nonce) {
            self.process_at = Some(seen.received_at);
        }
        self.seen = Some(seen);
    }

    /// Notes how far the node has served, from its answer as the master.
    ///
    /// The process that holds our lease is the measure: after a power loss it may have less than an
    /// earlier process showed, and its replicas lag behind what there is, not behind what is lost.
    pub fn served(&mut self, reply: &Reply) {
        let is_granted = self.lease_nonce.as_deref() == Some(reply.nonce.as_str());
        let before = self.master_sequence.filter(|_| !is_granted).unwrap_or(0);
        self.master_sequence = Some(before.max(reply.sequence));
    }

    fn heard(&mut self, at: Time) {
        self.answered_at = self.answered_at.max(Some(at));
        self.misses = 0;
        self.missing_since = None;
        self.counts_from = None;
        self.refused = 0;
        self.refused_at = None;
        self.error = None;
        self.unclear_since = None;
    }
}

/// What a balancer instance confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Random per process of the balancer.
    pub start_id: String,
    /// Version of the [`Desired`] it answered to.
    pub version: u64,
    /// Where frontends lead, as the balancer says.
    pub frontends: Vec<Frontend>,
    /// Sessions that exist.
    pub sessions: Vec<Sessions>,
    /// Sessions it has moved to another node since its start, as far as it says.
    pub moved: u64,
    /// Sessions it has reset since then because their node was no longer the backend.
    pub cut: u64,
    /// When the answer was read.
    pub at: Time,
}

/// One balancer instance; all of it is written by `balancer_task`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BalancerObserved {
    /// Newest answer.
    pub in_force: Option<InForce>,
    /// Why there is no newer one.
    pub error: Option<String>,
    /// By node id: whether it reaches the node, of those it has tried. Nothing while it does not
    /// answer.
    pub reach: BTreeMap<String, Reach>,
    /// By node id: why it does not.
    pub faults: BTreeMap<String, String>,
    /// Where it dials nodes from, by its own configuration.
    pub source: Option<String>,
    /// By node id: where it last dialled the node from, as its host sees it.
    pub dials: BTreeMap<String, String>,
    /// Whether it sends nodes a PROXY header, if it says so.
    pub sends_header: Option<bool>,
    /// Its certificates, for people.
    pub certificates: Vec<Certificate>,
    /// Which CAs it knows others by, for people.
    pub trust: Vec<Trust>,
}

/// Whether a balancer reaches a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Its last attempt succeeded.
    pub is_up: bool,
    /// When the controller first heard so.
    pub since: Time,
}

impl BalancerObserved {
    /// Takes what the balancer said at `now`.
    pub fn reaches(&mut self, said: impl IntoIterator<Item = (String, bool)>, now: Time) {
        let before = std::mem::take(&mut self.reach);
        for (node, is_up) in said {
            let known = before.get(&node).filter(|known| known.is_up == is_up);
            self.reach.insert(node, Reach { is_up, since: known.map_or(now, |known| known.since) });
        }
    }
}

/// What the balancers were told last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Rises with every change within this process.
    pub version: u64,
    /// All frontends.
    pub frontends: Vec<Frontend>,
    /// Those that hold connections for a backend to come, and since when.
    pub holding: BTreeMap<Endpoint, Time>,
    /// Balancers that are to have no frontend at all: they are being removed.
    pub closing: BTreeSet<String>,
}

/// Everything seen of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// When this controller took over the cluster; every lease counts as granted in full then.
    /// Written by `cluster`; again by `rival` when the guard ends.
    pub started_at: Time,
    /// When the current record came into force. Written by `cluster`, when the version changes.
    pub record_at: Time,
    /// By shard: when what was asked of it last ended, as far as this controller saw it end.
    /// Written by `cluster`.
    pub concluded: BTreeMap<usize, Time>,
    /// By shard: until when it is told what a failover has lost, and what, as far as controllers
    /// know. A shard without a lasting name has none. Written by `losses`.
    pub losses: BTreeMap<ShardId, (Time, String)>,
    /// When this controller learned of the newest epoch of the record: only answers to questions
    /// asked since then tell a newer process from one that the granted process replaced.
    /// Written by `cluster`.
    pub epoch_at: Time,
    /// Id of the next epoch, random; another one after every plan. Written by `planner_task`.
    pub fresh_id: u64,
    /// Term of this controller. Written by `cluster`, at the start.
    pub term: u64,
    /// The store it leads from; `None` where that has no name that can be said. As `term`.
    pub store: Option<StoreId>,
    /// The stores whose place that one takes, for all clusters. As `term`.
    pub takes: Vec<StoreId>,
    /// It does not lead before it knows that nobody else does.
    /// Written by `cluster` at the start, then by `rival`.
    pub guard: Option<Guard>,
    /// By what this controller leads (rules O2, O3). Written by `planner_task` before each plan,
    /// and by `question` before each heartbeat.
    pub authority: Authority,
    /// A change of the record whose outcome the store has not told: until it is known which record
    /// is in force, nothing is granted and no way is opened (rule O4). Written by `doubt`.
    pub in_doubt: Option<String>,
    /// Hash of the record's topology, as nodes compute it. Written by `cluster`.
    pub topology_hash: String,
    /// The same of the topology without ports of TLS, where it has some: what nodes have that do
    /// not know these. As `topology_hash`.
    pub plain_hash: Option<String>,
    /// By node id. Each is removed by `cluster` with its node.
    pub nodes: BTreeMap<String, NodeObserved>,
    /// By name. Written by `balancer_task`, removed by `cluster` with the balancer.
    pub balancers: BTreeMap<String, BalancerObserved>,
    /// What the balancers were told last; `None` before the first time.
    /// Written by `planner_task`, with the action.
    pub desired: Option<Desired>,
    /// Attempts of this controller to hand slots over. Written by `question` before an order
    /// leaves, cleared by `cluster` with the term, and with each move.
    pub attempts: Attempts,
    /// By move: where it is, and since when. Written by `planner_task` ([`crate::moving::note`]).
    pub moved: BTreeMap<MoveId, (Moved, Time)>,
    /// Demands are numbered above this: the balancers may have been told more, in this term, by
    /// a cluster that is gone. Written by `cluster`, at the start.
    pub desired_floor: u64,
}

impl Observed {
    /// The hash of the record's topology at a node that answers so.
    pub(crate) fn hash_at(&self, reply: &Reply) -> &str {
        let plain = self.plain_hash.as_ref().filter(|_| !reply.knows_tls_ports);
        plain.unwrap_or(&self.topology_hash)
    }

    /// A node answered: what was counted of it before is over.
    ///
    /// If nobody was heard until now, the break was on the controller's own side, and it is chance
    /// which node is heard first after it: the silence of the others counts from now. Once in a row
    /// of misses, or a node that answers now and then would put off the replacement of one that
    /// never does.
    pub fn heard(&mut self, id: &str, at: Time) {
        if self.nodes.values().all(NodeObserved::is_silent) {
            for node in self.nodes.values_mut() {
                node.counts_from.get_or_insert(at);
            }
        }
        self.nodes.entry(id.to_owned()).or_default().heard(at);
    }

    /// A node answered with an error, such as `NOAUTH` or that it has no place for the connection.
    /// That is an answer, so no silence is counted, but it does not say how the node is.
    pub fn complained(&mut self, id: &str, at: Time, error: &str) {
        let since = self.node(id).unclear_since;
        self.heard(id, at);
        self.unclear(id, since.unwrap_or(at), format!("answers with an error: {error}"));
    }

    /// This controller could not ask, for want of descriptors or the like: that is no silence of
    /// the node.
    pub fn unasked(&mut self, id: &str, at: Time, error: &str) {
        let since = self.node(id).unclear_since;
        self.unclear(id, since.unwrap_or(at), error.to_owned());
    }

    fn unclear(&mut self, id: &str, since: Time, error: String) {
        let node = self.nodes.entry(id.to_owned()).or_default();
        node.unclear_since = Some(since);
        node.error = Some(error);
    }

    /// The node, or the emptiest observation.
    pub fn node(&self, id: &str) -> &NodeObserved {
        static NONE: NodeObserved = NodeObserved {
            seen: None,
            process_at: None,
            answered_at: None,
            misses: 0,
            missing_since: None,
            counts_from: None,
            refused: 0,
            refused_at: None,
            error: None,
            unclear_since: None,
            pushing: None,
            pushed: None,
            push_failed_at: None,
            lease_until: None,
            lease_nonce: None,
            master_sequence: None,
            pause: None,
            confirmed: None,
            refusal: None,
            relaying: None,
            relayed_at: None,
            unlinked_since: None,
            clock_ahead_ms: None,
            clock_error_ms: 0,
            led: None,
        };
        self.nodes.get(id).unwrap_or(&NONE)
    }
}
