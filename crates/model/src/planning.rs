//! Between the model's small states and the planner's types: the planner that ships does the
//! thinking.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use api::balancer::{Backend, Frontend};
use api::grant::CommitMode;
use api::heartbeat::{ClientAccess, LeaseMode, LinkStatus, Reply, Resync, Role as Does, Standing};
use api::store::Heeds;
use planner::{
    Action, Authority, Balancer, BalancerKind, BalancerObserved, Desired, Epoch, InForce, Intent,
    Led, NodeObserved, Observed, Pause, PendingFence, Policy, Pushed, Record, Role, Seen, Shard,
    ShardId, Stated, Time,
};
use topology::Endpoint;

use crate::control::{Controller, Seen as Heard};
use crate::node::{Answered, index_of, name};
use crate::rules::Failover;
use crate::second::led_from;
use crate::stored::Stored;
use crate::time::{LEASE_MS, TICK_MS, TICK_NS};

impl Stored {
    fn of(record: &Record) -> Option<Self> {
        let shard = record.shards.first()?;
        let epoch = &shard.epoch;
        Some(Self {
            revision: record.revision,
            term: u8::try_from(record.term).ok()?,
            version: u8::try_from(record.version).ok()?,
            master: index_of(&shard.master()?.id),
            epoch: epoch.number,
            id: epoch.id,
            nonce: u64::from_str_radix(&epoch.nonce, 16).unwrap_or(0),
            least: epoch.least,
            epoch_version: u8::try_from(epoch.version).ok()?,
            request: epoch.request,
            members: epoch.in_sync.clone(),
            intent: shard.intent.as_ref().and_then(|intent| intent.id.parse().ok()),
            fence: match &shard.fence {
                None => None,
                Some(fence) => {
                    Some((index_of(&fence.node), u8::try_from(fence.version).ok()?, fence.member))
                }
            },
        })
    }

    fn record(&self, model: &Failover) -> Record {
        let stated = Stated {
            lease_mode: LeaseMode::BlockAll.to_string(),
            client_access: access(model).to_string(),
            balancer_sources: sources(model),
        };
        let node = |index| planner::Node {
            id: name(index),
            local: endpoint(&char::from(b'a' + index).to_string()),
            announced: (index == self.master && model.balanced).then(|| endpoint("lb")),
            tls: topology::TlsPorts::default(),
            role: if index == self.master { Role::Master } else { Role::Slave },
            created_at: 0,
            stated: Some(stated.clone()),
        };
        let balancer = |index: u8| Balancer {
            name: index.to_string(),
            kind: BalancerKind::Builtin,
            endpoint: index.to_string(),
            token: None,
            sources: vec!["10.0.0.0/8".to_owned()],
            closing: false,
        };
        Record {
            namespace: "n".to_owned(),
            name: "c".to_owned(),
            revision: self.revision,
            tag: 0,
            version: i64::from(self.version),
            shards: vec![Shard {
                id: ShardId(1),
                nodes: (0..3).map(node).collect(),
                slot_ranges: vec![(0, 16383)],
                intent: self.intent.map(intent),
                last_intent: None,
                fence: self.fence.map(|(node, version, member)| PendingFence {
                    node: name(node),
                    version: i64::from(version),
                    member,
                }),
                epoch: Epoch {
                    number: self.epoch,
                    id: self.id,
                    nonce: format!("{:x}", self.nonce),
                    least: self.least,
                    request: self.request,
                    in_sync: self.members.clone(),
                    version: i64::from(self.epoch_version),
                },
                floor: None,
            }],
            balancers: (0..2).filter(|_| model.balanced).map(balancer).collect(),
            longest_lease_ms: LEASE_MS,
            allow_unfenced: false,
            password: None,
            commit_mode: CommitMode::InSync,
            min_in_sync: 1,
            max_lag: None,
            term: u64::from(self.term),
            cluster_id: String::new(),
            paused: None,
            moves: planner::moves::Moves::default(),
            instead_of: Vec::new(),
        }
    }
}

/// How long a switchover pauses its old master, ticks.
pub(crate) const PAUSE: u8 = 2;

fn intent(number: u8) -> Intent {
    Intent {
        id: number.to_string(),
        preferred: None,
        force: false,
        sync_timeout_ms: u64::from(PAUSE) * TICK_MS,
        pause_ms: u64::from(PAUSE) * TICK_MS,
        accept_loss: false,
    }
}

fn endpoint(host: &str) -> Endpoint {
    Endpoint { host: host.to_owned(), port: 1 }
}

fn access(model: &Failover) -> ClientAccess {
    if model.balanced { ClientAccess::BalancerOnly } else { ClientAccess::Any }
}

fn sources(model: &Failover) -> Vec<String> {
    if model.balanced { vec!["10.0.0.0/8".to_owned()] } else { Vec::new() }
}

fn hash(version: u8) -> String {
    format!("h{version}")
}

fn time(tick: u8) -> Time {
    Time::from_millis(u64::from(tick) * TICK_MS)
}

/// What a plan asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Planned {
    /// A compare-and-swap.
    pub(crate) swap: Option<Arc<Stored>>,
    /// Nodes to be told the topology, a bit each.
    pub(crate) pushes: u8,
    /// A new demand on the balancer.
    pub(crate) desired: Option<(u8, Option<u8>)>,
    /// A node that is to pause, and for which switchover.
    pub(crate) pause: Option<(u8, u8)>,
    /// A node that is to pause no longer.
    pub(crate) unpause: Option<u8>,
    /// What heartbeats grant, by node: lease in ms, stamp, nonce, end, grant.
    pub(crate) granted: [Option<Grants>; 3],
    /// What a person would be told.
    pub(crate) text: String,
}

/// What one heartbeat grants.
#[derive(Debug, Clone)]
pub(crate) struct Grants {
    pub(crate) lease_ms: u64,
    pub(crate) clock_ns: u64,
    pub(crate) nonce: u64,
    pub(crate) end: u8,
    pub(crate) grant: Option<grant::Grant>,
}

/// Plans kept at most; the same inputs come again and again.
const CACHE_MAX: usize = 100_000;

type Cache = HashMap<(Controller, u8), Rc<Planned>>;

thread_local! {
    static CACHE: RefCell<(Option<Failover>, Cache)> = RefCell::new((None, HashMap::new()));
}

/// What the controller does at `now`, by the planner that ships.
pub(crate) fn plan(model: &Failover, controller: &Controller, now: u8) -> Rc<Planned> {
    CACHE.with_borrow_mut(|(of, cache)| {
        if of.is_none_or(|of| of != *model) || cache.len() > CACHE_MAX {
            *of = Some(*model);
            cache.clear();
        }
        let key = (controller.clone(), now);
        if let Some(known) = cache.get(&key) {
            return Rc::clone(known);
        }
        let planned = Rc::new(think(model, controller, now));
        cache.insert(key, Rc::clone(&planned));
        planned
    })
}

fn think(model: &Failover, controller: &Controller, now: u8) -> Planned {
    let policy = Policy {
        misses: 1,
        lease_ms: LEASE_MS,
        drift_permille: 0,
        push_retry_ms: 0,
        settle_ms: 0,
        ..Policy::default()
    };
    let record = controller.record.record(model);
    let observed = observed(model, controller, now);
    let plan = planner::plan(&record, &observed, &policy, time(now));
    let mut planned = Planned::default();
    for action in &plan.actions {
        match action {
            Action::CompareAndSwap { record, reason } => {
                planned.swap = Stored::of(record).map(Arc::new);
                planned.text.clone_from(reason);
            }
            Action::Push { node, .. } => planned.pushes |= 1 << index_of(node),
            Action::ApplyBalancers(desired) => {
                let backend = desired.frontends.first().and_then(|f| f.backend.as_ref());
                let version = u8::try_from(desired.version).unwrap_or(u8::MAX);
                planned.desired = Some((version, backend.map(|backend| index_of(&backend.node))));
            }
            Action::Pause { node, intent, .. } => {
                planned.pause = Some((index_of(node), intent.parse().unwrap_or(0)));
            }
            Action::Unpause { node, .. } => planned.unpause = Some(index_of(node)),
            // Asking is possible at any time.
            Action::HeartbeatNow { .. } | Action::Relay { .. } => {}
        }
    }
    for index in 0..3_u8 {
        let (shard, id) = (&record.shards[0], name(index));
        let granted = planner::granted(&plan, &record, shard, &observed, &policy, &id);
        planned.granted[usize::from(index)] = granted.map(|granted| Grants {
            lease_ms: granted.lease_ms,
            clock_ns: granted.clock_ns,
            nonce: u64::from_str_radix(&granted.nonce, 16).unwrap_or(0),
            end: u8::try_from(granted.end.nanos().div_ceil(TICK_NS)).unwrap_or(u8::MAX),
            grant: granted.grant,
        });
    }
    planned
}

fn observed(model: &Failover, controller: &Controller, now: u8) -> Observed {
    let rules = &model.rules;
    let record = &controller.record;
    let master = &controller.nodes[usize::from(record.master)];
    let is_fresh = master.is_fresh || !rules.newer_process;
    let mut observed = Observed {
        // Long ago, if nobody is to be waited for.
        started_at: if rules.fence_wait { time(controller.started) } else { Time::default() },
        epoch_at: if is_fresh { Time::default() } else { Time::from_nanos(u64::MAX) },
        fresh_id: (record.epoch + 1) * 16 + u64::from(controller.term),
        term: u64::from(controller.term),
        store: rules.store.then(|| led_from(model.second, controller.is_apart)),
        authority: Authority::Shared { read: Some(read_at(model, controller)), is_fresh: true },
        in_doubt: (controller.in_doubt.is_some() && rules.doubt).then(String::new),
        topology_hash: hash(record.version),
        desired: controller.desired.map(|(version, backend)| Desired {
            version: u64::from(version),
            frontends: vec![frontend(backend)],
            holding: BTreeMap::new(),
            closing: BTreeSet::new(),
        }),
        ..Observed::default()
    };
    for (index, seen) in (0_u8..).zip(&controller.nodes) {
        let node = NodeObserved {
            seen: seen.reply.as_ref().map(|answered| Seen {
                reply: reply(model, index, answered),
                sent_at: time(seen.sent),
                received_at: received_at(controller, seen),
            }),
            misses: u32::from(seen.missed),
            pushed: (seen.pushed > 0)
                .then(|| Pushed { version: i64::from(seen.pushed), at: Time::default() }),
            lease_until: seen.lease_until.filter(|_| rules.fence_wait).map(time),
            confirmed: seen.confirmed,
            led: seen.is_led.then(|| Led {
                term: 0,
                heard_at: Some(time(now)),
                at: time(now),
                store: Some(led_from(model.second, !controller.is_apart)),
            }),
            pause: seen.paused.map(|(intent, at)| Pause {
                intent: intent.to_string(),
                sent_at: time(at),
                for_ms: u64::from(PAUSE) * TICK_MS,
                acked_at: Some(time(at)),
                error: None,
            }),
            ..NodeObserved::default()
        };
        observed.nodes.insert(name(index), node);
    }
    for (index, in_force) in (0_u8..).zip(&controller.instances) {
        let in_force = in_force.map(|in_force| InForce {
            start_id: "s".to_owned(),
            version: u64::from(in_force.version),
            frontends: vec![frontend(in_force.backend)],
            sessions: Vec::new(),
            moved: 0,
            cut: 0,
            at: time(in_force.at),
        });
        let instance = BalancerObserved { in_force, ..BalancerObserved::default() };
        observed.balancers.insert(index.to_string(), instance);
    }
    observed
}

/// The newest tick of an answer after which the store was read.
fn newest_read(controller: &Controller) -> Option<u8> {
    let read = controller.nodes.iter().filter(|seen| seen.is_read);
    read.map(|seen| seen.received).max()
}

/// When the store was read last: just after that answer.
fn read_at(model: &Failover, controller: &Controller) -> Time {
    if !model.rules.authority {
        return Time::from_nanos(u64::MAX);
    }
    newest_read(controller).map_or(Time::default(), |tick| Time::from_nanos(time(tick).nanos() + 1))
}

/// When an answer came; just after the last read, if that was in the same tick and before it.
fn received_at(controller: &Controller, seen: &Heard) -> Time {
    let is_after = !seen.is_read && newest_read(controller) == Some(seen.received);
    Time::from_nanos(time(seen.received).nanos() + if is_after { 2 } else { 0 })
}

fn frontend(backend: Option<u8>) -> Frontend {
    let backend = backend.map(|index| Backend {
        node: name(index),
        host: char::from(b'a' + index).to_string(),
        port: 1,
    });
    Frontend { listen: endpoint("lb"), backend, hold: false }
}

fn reply(model: &Failover, index: u8, answered: &Answered) -> Reply {
    let is_master = answered.version > 0 && answered.master == index;
    let follows = (!is_master && answered.version > 0)
        .then(|| (char::from(b'a' + answered.master).to_string(), 1));
    Reply {
        role: if is_master { Does::Master } else { Does::Slave },
        sequence: answered.sequence,
        myid: name(index),
        // Folders are not swapped here.
        cluster_id: String::new(),
        version: if answered.version == 0 { -1 } else { i64::from(answered.version) },
        topology_hash: hash(answered.version),
        clock_ns: u64::from(answered.clock) * TICK_NS,
        nonce: format!("{:x}", answered.nonce),
        lease_mode: LeaseMode::BlockAll,
        lease_remaining_ms: if answered.has_lease { 1 } else { 0 },
        client_access: access(model),
        balancer_sources: sources(model),
        strangers: Vec::new(),
        link_status: if is_master { LinkStatus::Connecting } else { LinkStatus::Up },
        link_error: None,
        sync: None,
        master: follows,
        resync: Resync::None,
        paused: answered.is_paused,
        loading: false,
        replicas: Vec::new(),
        log_wait_ms: 0,
        room: None,
        down: None,
        deposed: None,
        uptime_ms: 1,
        copies: Vec::new(),
        wall_ms: 0,
        moves: None,
        knows_rates: false,
        knows_tls_ports: false,
        copying: Vec::new(),
        usual_rate: None,
        flows: None,
        wishes: Vec::new(),
        certificates: Vec::new(),
        trust: Vec::new(),
        newest_move: None,
        stopping: answered.is_leaving,
        standing: Standing {
            incarnation: Some(u64::from(answered.incarnation)),
            boot: Some(u128::from(answered.boot)),
            history_epoch: answered.history_epoch,
            history_id: answered.history_id,
            granted_epoch: answered.granted_epoch,
            granted_version: Some(i64::from(answered.granted_version)),
            committed: 0,
            request: answered.request,
            request_members: answered.members.clone(),
            promised_ms: answered.promised_ms,
            store: Heeds::Nobody,
        },
    }
}
