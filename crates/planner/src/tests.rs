//! Scripted events, exact plans.
//!
//! [`Script`] plays nodes, balancers and store to the letter: what a plan asks for is shown, and
//! done by the script only where the script says so.

use api::balancer::Sessions;
use api::grant::{CommitMode, EpochId, Least, Member};
use api::heartbeat::{ClientAccess, LeaseMode, LinkStatus, Reply, Resync, Role as Does, Standing};
use expect_test::{Expect, expect};
use topology::Endpoint;

use crate::{
    Action, Authority, Balancer, BalancerKind, Desired, Epoch, InForce, Intent, Node, Observed,
    Pause, Plan, Policy, Pushed, Record, Role, Seen, Shard, ShardId, Time, plan,
};

mod authority;
mod controller;
mod disks;
mod errors;
mod grants;
mod identity;
mod joined;
mod lost;
mod moves;
mod news;
mod operator;
mod paused;
mod rival;
mod sources;
mod stopping;
mod switchover;
mod tls_ports;
mod told;
mod unreached;
mod wishes;

const HASH: &str = "h";

pub(crate) fn id(name: &str) -> String {
    format!("{name:_<40}")
}

fn short(id: &str) -> &str {
    id.trim_end_matches('_')
}

fn endpoint(host: &str) -> Endpoint {
    Endpoint { host: host.to_owned(), port: 1 }
}

/// One shard: master a, replicas b and c, one balancer.
pub(crate) fn record(nodes: &[&str]) -> Record {
    let node = |(place, name): (usize, &&str)| Node {
        id: id(name),
        local: endpoint(name),
        announced: Some(endpoint(&format!("lb{place}"))),
        tls: topology::TlsPorts::default(),
        role: if place == 0 { Role::Master } else { Role::Slave },
        created_at: 0,
        stated: None,
    };
    Record {
        namespace: "n".into(),
        name: "c".into(),
        revision: 1,
        tag: 0,
        version: 7,
        shards: vec![Shard {
            id: ShardId(0xa),
            nodes: nodes.iter().enumerate().map(node).collect(),
            slot_ranges: vec![(0, 16383)],
            intent: None,
            last_intent: None,
            fence: None,
            epoch: Epoch::default(),
            floor: None,
        }],
        balancers: vec![Balancer {
            name: "lb".into(),
            kind: BalancerKind::Builtin,
            endpoint: "http://lb".into(),
            token: None,
            sources: vec!["10.0.0.0/8".into()],
            closing: false,
        }],
        longest_lease_ms: 1_000,
        allow_unfenced: false,
        password: None,
        commit_mode: CommitMode::Async,
        min_in_sync: 1,
        max_lag: None,
        term: 0,
        cluster_id: String::new(),
        paused: None,
        moves: crate::moves::Moves::default(),
        instead_of: Vec::new(),
    }
}

pub(crate) fn reply(name: &str, version: i64, role: Does) -> Reply {
    Reply {
        role,
        sequence: 100,
        myid: id(name),
        cluster_id: String::new(),
        version,
        topology_hash: HASH.into(),
        clock_ns: 5,
        nonce: "1".into(),
        lease_mode: LeaseMode::BlockAll,
        lease_remaining_ms: if role == Does::Master { 900 } else { 0 },
        client_access: ClientAccess::BalancerOnly,
        balancer_sources: vec!["10.1.0.0/16".into()],
        strangers: Vec::new(),
        link_status: if role == Does::Master { LinkStatus::Connecting } else { LinkStatus::Up },
        link_error: None,
        sync: None,
        master: (role == Does::Slave).then(|| ("a".to_owned(), 1)),
        resync: Resync::None,
        paused: false,
        loading: false,
        replicas: Vec::new(),
        log_wait_ms: 0,
        room: None,
        down: None,
        deposed: None,
        uptime_ms: 1,
        copies: Vec::new(),
        wall_ms: 0,
        stopping: false,
        standing: Standing::default(),
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
    }
}

struct Script {
    record: Record,
    observed: Observed,
    policy: Policy,
    now: Time,
}

impl Script {
    /// A cluster that has been serving for ten seconds.
    fn serving(nodes: &[&str]) -> Self {
        let observed = Observed { topology_hash: HASH.into(), ..Observed::default() };
        let mut script = Self {
            record: record(nodes),
            observed,
            policy: Policy::default(),
            now: Time::from_millis(10_000),
        };
        for (place, name) in nodes.iter().enumerate() {
            let does = if place == 0 { Does::Master } else { Does::Slave };
            script.answers(name, reply(name, 7, does));
        }
        script.granted("a");
        script.acts();
        script.acts();
        script.balancer_answers(&[]);
        assert_eq!(script.plan().actions, [], "nothing left to do");
        script
    }

    fn plan(&self) -> Plan {
        plan(&self.record, &self.observed, &self.policy, self.now)
    }

    /// Shows what is planned and who is granted a lease.
    #[track_caller]
    fn check(&self, expected: Expect) {
        expected.assert_eq(&show(&self.plan()));
    }

    /// Does what only the controller itself does: store, pushes, what balancers are told.
    fn acts(&mut self) -> Plan {
        let plan = self.plan();
        for action in &plan.actions {
            match action {
                Action::CompareAndSwap { record, .. } => {
                    if record.version != self.record.version {
                        self.observed.record_at = self.now;
                    }
                    self.record = (**record).clone();
                }
                Action::ApplyBalancers(desired) => self.observed.desired = Some(desired.clone()),
                Action::Push { node, .. } => {
                    let (version, at) = (self.record.version, self.now);
                    let node = self.observed.nodes.entry(node.clone()).or_default();
                    node.pushed = Some(Pushed { version, at });
                }
                Action::Pause { node, for_ms, intent } => {
                    let (sent_at, node) = (self.now, node.clone());
                    self.observed.nodes.entry(node).or_default().pause = Some(Pause {
                        intent: intent.clone(),
                        sent_at,
                        for_ms: *for_ms,
                        acked_at: Some(sent_at),
                        error: None,
                    });
                }
                Action::Unpause { node, .. } => {
                    self.observed.nodes.entry(node.clone()).or_default().pause = None;
                }
                Action::Relay { node, .. } => {
                    let now = self.now;
                    self.observed.nodes.entry(node.clone()).or_default().relaying = Some(now);
                }
                Action::HeartbeatNow { .. } => {}
            }
        }
        plan
    }

    fn after_ms(&mut self, ms: u64) {
        self.now = self.now.plus_millis(ms);
    }

    fn answers(&mut self, name: &str, reply: Reply) {
        let now = self.now;
        let master = reply.role == Does::Master;
        let node = self.observed.nodes.entry(id(name)).or_default();
        if master {
            node.served(&reply);
        }
        node.saw(Seen { reply, sent_at: now, received_at: now });
        self.observed.heard(&id(name), now);
    }

    /// As the last answer, changed.
    fn answers_with(&mut self, name: &str, change: impl FnOnce(&mut Reply)) {
        let seen = self.observed.node(&id(name)).seen.clone();
        let mut reply = seen.expect("an earlier answer").reply;
        change(&mut reply);
        self.answers(name, reply);
    }

    fn granted(&mut self, name: &str) {
        let end = self.policy.lease_end(self.now, 1_000);
        let node = self.observed.nodes.entry(id(name)).or_default();
        node.lease_until = Some(end);
        node.lease_nonce = Some("1".into());
    }

    fn misses(&mut self, name: &str, misses: u32) {
        self.observed.nodes.entry(id(name)).or_default().misses = misses;
    }

    fn refuses(&mut self, name: &str, times: u32) {
        let now = self.now;
        let node = self.observed.nodes.entry(id(name)).or_default();
        node.misses = times;
        node.refused = times;
        node.refused_at = Some(now);
    }

    /// The balancer did what it was told last, but has these sessions left.
    fn balancer_answers(&mut self, sessions: &[&str]) {
        let Desired { version, frontends, .. } = self.observed.desired.clone().expect("a demand");
        let in_force = InForce {
            start_id: "s".into(),
            version,
            frontends,
            sessions: sessions.iter().map(|n| Sessions { node: id(n), count: 1 }).collect(),
            moved: 0,
            cut: 0,
            at: self.now,
        };
        self.observed.balancers.entry("lb".into()).or_default().in_force = Some(in_force);
    }

    /// A new process on the same store: it has seen nothing.
    fn controller_restarts(&mut self) {
        self.observed = Observed {
            started_at: self.now,
            record_at: self.now,
            topology_hash: HASH.into(),
            ..Observed::default()
        };
    }
}

fn name_of(member: &Member) -> String {
    let text = member.to_string();
    let (node, rest) = text.split_once('/').expect("a member");
    let rest: Vec<&str> = rest.split('/').map(|part| part.trim_start_matches('0')).collect();
    format!("{}/{}", short(node), rest.join("/"))
}

fn epoch(record: &Record) -> String {
    let epoch = &record.shards[0].epoch;
    if epoch.number == 0 {
        return String::new();
    }
    let members: Vec<String> = epoch.in_sync.iter().map(name_of).collect();
    let (number, nonce, request) = (epoch.number, &epoch.nonce, epoch.request);
    let id = epoch.id.to_string();
    let id = id.trim_start_matches('0');
    format!(" epoch {number}={id} process {nonce} request {request} of {}", members.join(" "))
}

fn show(plan: &Plan) -> String {
    let mut lines = Vec::new();
    for action in &plan.actions {
        lines.push(match action {
            Action::HeartbeatNow { node } => format!("ask {}", short(node)),
            Action::Push { node, reason } => format!("push {}: {reason}", short(node)),
            Action::ApplyBalancers(desired) => {
                let frontends = desired.frontends.iter().map(|frontend| {
                    let none = if frontend.hold { "hold" } else { "-" };
                    let node = frontend.backend.as_ref().map_or(none, |b| short(&b.node));
                    format!("{}={node}", frontend.listen.host)
                });
                let frontends: Vec<String> = frontends.collect();
                format!("balancers {}: {}", desired.version, frontends.join(" "))
            }
            Action::CompareAndSwap { record, reason } => {
                let nodes = record.shards[0].nodes.iter().map(|node| {
                    let role = if node.role == Role::Master { "*" } else { "" };
                    let at = node.announced.as_ref().map_or("-", |e| e.host.as_str());
                    format!("{}{role}@{at}", short(&node.id))
                });
                let nodes: Vec<String> = nodes.collect();
                let epoch = epoch(record);
                format!("store v{} {}{epoch}: {reason}", record.version, nodes.join(" "))
            }
            Action::Pause { node, for_ms, .. } => format!("pause {} {for_ms} ms", short(node)),
            Action::Unpause { node, reason } => format!("unpause {}: {reason}", short(node)),
            Action::Relay { node, via } => format!("ask {} through {}", short(node), short(via)),
        });
    }
    let leases: Vec<&str> = plan.leases.iter().map(|id| short(id)).collect();
    lines.push(format!("leases: {}", leases.join(" ")));
    for (id, grant) in &plan.grants {
        let members: Vec<String> = grant.members.iter().map(name_of).collect();
        lines.push(format!(
            "grant {}: epoch {} least {:?} {} request {} of {}",
            short(id),
            grant.epoch,
            grant.least.id,
            grant.least.sequence,
            grant.request,
            members.join(" ")
        ));
    }
    lines.push(format!("{}: {}", plan.shards[0].word(), plan.shards[0].detail()));
    lines.extend(plan.alarms.iter().map(|alarm| format!("alarm: {alarm}")));
    lines.join("\n") + "\n"
}

#[test]
fn kill() {
    let mut s = Script::serving(&["a", "b"]);
    s.refuses("a", 1);
    s.check(expect![[r#"
        leases: a
        suspect: master a:1 missed 1 heartbeats
    "#]]);
    s.after_ms(50);
    s.check(expect![[r#"
        ask a
        leases: a
        suspect: master a:1 missed 1 heartbeats
    "#]]);
    s.refuses("a", 2);
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b
        leases: 
        fencing: master a:1 is down; closing its frontends, waiting for a fence
    "#]]);
    s.acts();
    s.check(expect![[r#"
        leases: 
        fencing: master a:1 is down; closing its frontends, waiting for a fence
    "#]]);
    s.balancer_answers(&["a"]);
    s.check(expect![[r#"
        leases: 
        fencing: master a:1 is down; closing its frontends, waiting for a fence
    "#]]);
    s.balancer_answers(&[]);
    // Whether its successor still answers is asked once it is fenced, although there is no other.
    s.check(expect![[r#"
        ask b
        leases: 
        fencing: master a:1 is down; every balancer cut it off; comparing positions
    "#]]);
    s.answers_with("b", |_| {});
    s.check(expect![[r#"
        store v8 a@lb1 b*@lb0: shard 0: master a:1 is down; every balancer cut it off; b:1 takes over at sequence 100
        leases: 
        fencing: shard 0: master a:1 is down; every balancer cut it off; b:1 takes over at sequence 100
    "#]]);
    s.acts();
    s.check(expect![[r#"
        push b: it has version 7, the record has 8
        balancers 3: lb0=- lb1=-
        leases: b
        settling: master b:1 takes over version 8
    "#]]);
    s.acts();
    s.balancer_answers(&[]);
    s.answers("b", reply("b", 8, Does::Master));
    s.check(expect![[r#"
        balancers 4: lb0=b lb1=-
        leases: b
        steady: 
    "#]]);
    s.acts();
    s.balancer_answers(&[]);
    // The old one returns: it learns what it is, and its frontend opens when it plays its role.
    s.answers("a", reply("a", 7, Does::Master));
    s.check(expect![[r#"
        push a: it has version 7, the record has 8
        leases: b
        steady: 
    "#]]);
    s.acts();
    s.answers("a", reply("a", 8, Does::Slave));
    s.check(expect![[r#"
        balancers 5: lb0=b lb1=a
        leases: b
        steady: 
    "#]]);
}

#[test]
fn stop_and_the_balancer_is_unreachable() {
    let mut s = Script::serving(&["a", "b"]);
    s.after_ms(200);
    s.misses("a", 1);
    s.check(expect![[r#"
        leases: a
        suspect: master a:1 missed 1 heartbeats
    "#]]);
    s.after_ms(600);
    s.misses("a", 4);
    s.acts();
    s.check(expect![[r#"
        leases: 
        fencing: master a:1 is down; closing its frontends, waiting for a fence
    "#]]);
    // The lease granted at 10 s lasts until 11.01 s.
    s.after_ms(209);
    assert!(s.plan().actions.is_empty(), "not before its lease is over");
    s.after_ms(1);
    s.answers_with("b", |_| {});
    s.check(expect![[r#"
        store v8 a@lb1 b*@lb0: shard 0: master a:1 is down; its lease is over; b:1 takes over at sequence 100
        leases: 
        fencing: shard 0: master a:1 is down; its lease is over; b:1 takes over at sequence 100
    "#]]);
}

#[test]
fn a_fenced_master_that_comes_back_before_anybody_took_over_gets_its_frontends_back() {
    let mut s = Script::serving(&["a", "b"]);
    s.misses("a", 4);
    s.acts();
    s.answers("a", reply("a", 7, Does::Master));
    s.check(expect![[r#"
        balancers 3: lb0=a lb1=b
        leases: a
        steady: 
    "#]]);
}

#[test]
fn restart_at_once_is_granted_again() {
    let mut s = Script::serving(&["a", "b"]);
    s.answers_with("a", |reply| {
        reply.nonce = "2".into();
        reply.lease_remaining_ms = 0;
    });
    s.check(expect![[r#"
        leases: a
        settling: master a:1 takes over version 7
    "#]]);
}

#[test]
fn a_master_that_lost_its_disk_does_not_lead() {
    let mut s = Script::serving(&["a", "b"]);
    s.answers_with("a", |reply| {
        reply.nonce = "2".into();
        reply.lease_remaining_ms = 0;
        reply.sequence = 0;
        reply.myid = String::new();
        reply.version = -1;
    });
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b
        leases: 
        fencing: master a:1 came back at 0 of 100; closing its frontends, waiting for a fence
    "#]]);
    s.answers_with("a", |reply| reply.myid = id("a"));
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b
        store v8 a@lb1 b*@lb0: shard 0: master a:1 came back at 0 of 100; a newer process of it answers without a lease; b:1 takes over at sequence 100
        leases: 
        fencing: shard 0: master a:1 came back at 0 of 100; a newer process of it answers without a lease; b:1 takes over at sequence 100
    "#]]);
}

#[test]
fn nobody_can_take_over() {
    for change in [
        (|reply: &mut Reply| reply.resync = Resync::Required) as fn(&mut Reply),
        |reply| reply.loading = true,
        |reply| reply.link_status = LinkStatus::Sync,
        |reply| reply.sequence = 0,
        |reply| reply.role = Does::Master,
        |reply| {
            reply.version = 6;
            reply.master = Some(("z".into(), 1));
        },
    ] {
        let mut s = Script::serving(&["a", "b"]);
        s.answers_with("b", change);
        s.refuses("a", 2);
        let plan = s.plan();
        assert_eq!(plan.shards[0].word(), "stuck", "{}", show(&plan));
        assert!(plan.alarms.iter().any(|alarm| alarm.contains("nobody can take over")));
        let swaps = plan.actions.iter().filter(|a| matches!(a, Action::CompareAndSwap { .. }));
        assert_eq!(swaps.count(), 0);
    }
}

#[test]
fn the_most_advanced_replica_is_chosen_by_positions_read_after_the_fence() {
    let mut s = Script::serving(&["a", "b", "c"]);
    s.refuses("a", 2);
    s.acts();
    s.after_ms(5);
    s.balancer_answers(&[]);
    s.check(expect![[r#"
        ask b
        ask c
        leases: 
        fencing: master a:1 is down; every balancer cut it off; comparing positions
    "#]]);
    s.answers("b", reply("b", 7, Does::Slave));
    s.answers_with("c", |reply| reply.sequence = 101);
    s.check(expect![[r#"
        store v8 a@lb2 b@lb1 c*@lb0: shard 0: master a:1 is down; every balancer cut it off; c:1 takes over at sequence 101
        leases: 
        fencing: shard 0: master a:1 is down; every balancer cut it off; c:1 takes over at sequence 101
    "#]]);
}

#[test]
fn without_a_sound_fence_nobody_is_promoted() {
    let mut s = Script::serving(&["a", "b"]);
    s.answers_with("a", |reply| {
        reply.lease_mode = LeaseMode::BlockWrite;
        reply.balancer_sources.push("192.168.0.0/24".into());
    });
    s.acts();
    s.refuses("a", 2);
    s.after_ms(100_000);
    s.check(expect![[r#"
        leases: a
        stuck: master a:1 is down; no sound fence: master-lease-mode is `block-write`, not `block-all`; its balancer-sources 192.168.0.0/24 belong to no listed balancer
        alarm: shard 0: master a:1 is down and cannot be fenced: master-lease-mode is `block-write`, not `block-all`; its balancer-sources 192.168.0.0/24 belong to no listed balancer; set `master-lease-mode block-all`, or `client-access balancer-only` with every balancer listed
        alarm: shard 0: no cut of the load balancers fences master a:1 (master-lease-mode is `block-write`, not `block-all`; its balancer-sources 192.168.0.0/24 belong to no listed balancer): nothing else does
    "#]]);
    s.record.allow_unfenced = true;
    s.answers_with("b", |_| {});
    s.check(expect![[r#"
        balancers 2: lb0=- lb1=b
        store v8 a@lb1 b*@lb0: shard 0: master a:1 is down; unfenced, as the cluster allows; b:1 takes over at sequence 100
        leases: 
        fencing: shard 0: master a:1 is down; unfenced, as the cluster allows; b:1 takes over at sequence 100
        alarm: shard 0: no cut of the load balancers fences master a:1 (master-lease-mode is `block-write`, not `block-all`; its balancer-sources 192.168.0.0/24 belong to no listed balancer): nothing else does
    "#]]);
}

/// Leases ran out while there was no controller; the frontends are as they were, and stay so.
#[test]
fn versions_are_raised_above_what_a_node_shows() {
    let mut s = Script::serving(&["a", "b"]);
    s.answers_with("b", |reply| reply.version = 40);
    s.check(expect![[r#"
        store v41 a*@lb0 b@lb1: b:1 has a higher version (40), not this controller's
        leases: a
        steady: 
    "#]]);
    let mut s = Script::serving(&["a", "b"]);
    s.answers_with("b", |reply| reply.topology_hash = "other".into());
    s.check(expect![[r#"
        store v8 a*@lb0 b@lb1: b:1 has another topology (7), not this controller's
        leases: a
        steady: 
    "#]]);
    s.acts();
    s.check(expect![[r#"
        push a: it has version 7, the record has 8
        leases: a
        settling: master a:1 takes over version 8
    "#]]);
}

#[test]
fn a_stranger_at_an_address_is_an_alarm() {
    let mut s = Script::serving(&["a", "b"]);
    s.answers_with("b", |reply| reply.myid = id("x"));
    s.check(expect![[r#"
        leases: a
        steady: 
        alarm: b:1 answers as node x_______________________________________, not b_______________________________________: it runs on the data folder of a node that is not of this cluster; give it the folder of b_______________________________________, or delete that node from this cluster: until then, what it says counts for nothing
    "#]]);
}

#[test]
fn a_failed_push_is_tried_again() {
    let mut s = Script::serving(&["a", "b"]);
    s.answers_with("b", |reply| reply.version = 6);
    s.observed.nodes.entry(id("b")).or_default().push_failed_at = Some(s.now);
    assert!(s.plan().actions.is_empty());
    s.after_ms(200);
    s.check(expect![[r#"
        push b: it has version 6, the record has 7
        leases: a
        steady: 
    "#]]);
}

#[test]
fn an_answer_to_an_earlier_demand_is_no_fence() {
    let mut s = Script::serving(&["a", "b"]);
    s.misses("a", 4);
    s.acts();
    s.balancer_answers(&[]);
    s.answers("a", reply("a", 7, Does::Master));
    s.acts();
    // The balancer may have opened again by now; the answer to that got lost.
    s.misses("a", 4);
    s.acts();
    s.check(expect![[r#"
        leases: 
        fencing: master a:1 is down; closing its frontends, waiting for a fence
    "#]]);
    s.balancer_answers(&[]);
    let swaps = |s: &Script| {
        let plan = s.plan();
        plan.actions.iter().any(|action| matches!(action, Action::CompareAndSwap { .. }))
    };
    assert!(swaps(&s));
}
