//! Which faults happen when: a function of the seed and nothing else, so that a seed replays a
//! schedule.
//!
//! Pure.

mod shared;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::actions::{Action, Fault, QUIET_MS, Target};
use super::args::Options;
use super::errands::{self, Errand};
use super::faults::{Kind, Style};
use super::setup::{Balancer, Shape, Store};

/// Instances of the load balancer.
pub const BALANCERS: usize = 2;
/// Members of an etcd.
pub const MEMBERS: usize = 3;
/// Told apart from the seed of the schedule.
const SIDE_SEED: u64 = 0x7369_6465_0000_0000;
/// As a cluster has it by default.
const LEASE_MS: u64 = 1_000;
const LONG_LEASE_MS: u64 = 3_000;

/// Everything about a run that its seed decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// What stands in front.
    pub balancer: Balancer,
    /// Shards and nodes.
    pub shape: Shape,
    /// How many controllers.
    pub controllers: usize,
    /// What they keep their records in.
    pub store: Store,
    /// How faults follow each other.
    pub style: Style,
    /// Size of a memtable, MiB: small ones put the tail into table files before it can be cut off.
    pub memtable_mb: u32,
    /// Clients read nearly always: where answers wait for the in-sync set, one write that hangs
    /// holds all reads after it back, and hides what a node would still have answered.
    pub is_quiet: bool,
    /// Length of leases, ms. Long ones outlast by far what it takes to notice that a master is
    /// lost, so that the fence has something to wait for.
    pub lease_ms: u64,
    /// Heartbeats without an answer before a node counts as down.
    pub misses: u32,
    /// In order of their beginning.
    pub faults: Vec<Fault>,
    /// What moves, in order; none where nothing is to move.
    pub errands: Vec<Errand>,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64, options: &Options) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        // Drawn whether they are used or not: an argument must not change what else the seed means.
        let haproxy = rng.random_bool(0.5);
        let wide = rng.random_bool(0.5);
        let mixed = rng.random_bool(0.6);
        let small = rng.random_bool(0.5);
        let drawn = if haproxy { Balancer::Haproxy } else { Balancer::Builtin };
        let narrow = Shape { shards: if options.moves { 2 } else { 1 }, nodes: 3 };
        let shape = if wide { Shape { shards: 3, nodes: 2 } } else { narrow };
        let shape = options.shape.unwrap_or(shape);
        let style = options.style.unwrap_or(if mixed { Style::Mixed } else { Style::Alone });
        let (controllers, store) = (options.controllers, options.store);
        let mut draw = Draw { rng, shape, controllers, store, faults: Vec::new() };
        draw.all(options, style);
        let (errands, cuts) = errands::draw(seed, shape, options);
        draw.faults.extend(cuts);
        draw.faults.sort_by_key(|fault| fault.at_ms);
        // Of numbers of its own, so that seeds keep their schedules.
        let mut side = StdRng::seed_from_u64(seed ^ SIDE_SEED);
        let (quiet, long) = (side.random_ratio(1, 3), side.random_ratio(1, 3));
        let is_fill = |action: &Action| matches!(action, Action::Fill(target) if target.is_node());
        let fills = draw.faults.iter().any(|fault| is_fill(&fault.action));
        // A log that is never followed by the next one opens no file.
        let starves =
            draw.faults.iter().any(|fault| matches!(fault.action, Action::Descriptors(_)));
        Self {
            seed,
            balancer: options.balancer.unwrap_or(drawn),
            shape,
            controllers,
            store,
            style,
            // RocksDB reserves as much WAL as a memtable: a large one would not notice a full disk.
            memtable_mb: if small || fills || starves { 1 } else { 64 },
            // Only writes notice a full disk.
            is_quiet: options.quiet.unwrap_or(quiet && !fills),
            lease_ms: options.lease_ms.unwrap_or(if long { LONG_LEASE_MS } else { LEASE_MS }),
            misses: options.misses,
            faults: draw.faults,
            errands,
        }
    }

    /// Whether disks of these targets hang.
    pub fn hangs_disks(&self, of: impl Fn(Target) -> bool) -> bool {
        self.faults.iter().any(|fault| matches!(fault.action, Action::Hang(target) if of(target)))
    }

    /// Whether etcd is filled.
    pub fn uses_up_quota(&self) -> bool {
        self.faults.iter().any(|fault| fault.action == Action::Quota)
    }

    /// Whether disks of these targets are filled.
    pub fn fills_disks(&self, of: impl Fn(Target) -> bool) -> bool {
        self.faults.iter().any(|fault| matches!(fault.action, Action::Fill(target) if of(target)))
    }
}

struct Draw {
    rng: StdRng,
    shape: Shape,
    controllers: usize,
    store: Store,
    faults: Vec<Fault>,
}

impl Draw {
    fn all(&mut self, options: &Options, style: Style) {
        let mut at = QUIET_MS + self.rng.random_range(0..500);
        while at < options.seconds * 1_000 {
            let Some(kind) = options.faults.choose(&mut self.rng).copied() else { return };
            let end = self.one(kind, at);
            at = match style {
                Style::Alone => end + self.rng.random_range(1_200..2_500),
                Style::Mixed => at + self.rng.random_range(200..2_000),
            };
        }
    }

    /// Adds a fault; returns when it is over.
    fn one(&mut self, kind: Kind, at_ms: u64) -> u64 {
        let away = self.rng.random_range(600..5_000);
        let (for_ms, action) = match kind {
            Kind::Kill => (away, Action::Kill(self.master())),
            Kind::KillRestart => (0, Action::Kill(self.master())),
            Kind::ReplicaKill => (away, Action::Kill(self.replica())),
            Kind::ReplicaKillRestart => (0, Action::Kill(self.replica())),
            Kind::StopShort => (300, Action::Stop(self.master())),
            Kind::StopLong => (self.rng.random_range(2_500..5_500), Action::Stop(self.master())),
            Kind::ReplicaStop => (away, Action::Stop(self.replica())),
            Kind::LinkDown => (away, Action::LinkDown(self.node())),
            Kind::Partition => (away, self.cut(true)),
            Kind::OneWay => (away, self.cut(false)),
            Kind::ControllerKill => (away, Action::Kill(Target::Controller)),
            Kind::ControllerStop => (away, Action::Stop(Target::Controller)),
            Kind::FailoverController => return self.failover_controller(at_ms),
            Kind::Blind => return self.blind(at_ms),
            Kind::BalancerKill => (away, Action::Kill(Target::Balancer(self.balancer()))),
            Kind::BalancerReload => (0, Action::Reload(self.balancer())),
            Kind::DiskFull => (away, Action::Fill(self.master())),
            Kind::DiskHang => (away, Action::Hang(self.node())),
            Kind::StoreHang => (away, Action::Hang(Target::Controller)),
            Kind::StoreFull => (away, Action::Fill(Target::Controller)),
            Kind::Crowd => (away, Action::Crowd(self.node())),
            Kind::Descriptors => (away, Action::Descriptors(self.node())),
            Kind::DiskLost => (0, Action::Lose(self.master())),
            Kind::DiskLostLate => (away, Action::Lose(self.master())),
            Kind::Switchover => (0, Action::Switchover(self.shard())),
            _ => return self.of_shared(kind, at_ms, away),
        };
        self.faults.push(Fault { at_ms, for_ms, action });
        at_ms + for_ms
    }

    fn failover_controller(&mut self, at_ms: u64) -> u64 {
        let master = self.master();
        let lost =
            if self.rng.random_bool(0.5) { Action::Kill(master) } else { Action::Stop(master) };
        let for_ms = self.rng.random_range(2_000..6_000);
        self.faults.push(Fault { at_ms, for_ms, action: lost });
        // A killed master is noticed at once, a stopped one after about 0.8 s.
        let then = at_ms + self.rng.random_range(0..1_300);
        let controller = Target::Controller;
        let action = if self.rng.random_bool(0.5) {
            Action::Kill(controller)
        } else {
            Action::Stop(controller)
        };
        let for_controller = self.rng.random_range(0..3_000);
        self.faults.push(Fault { at_ms: then, for_ms: for_controller, action });
        (at_ms + for_ms).max(then + for_controller)
    }

    fn blind(&mut self, at_ms: u64) -> u64 {
        let shard = self.shard();
        let (master, controllers) = (Target::Master(shard), self.all_controllers());
        let balancers = (0..BALANCERS).map(Target::Balancer).collect();
        let cut = |from, to| Action::Cut { from, to, both: true, blackhole: false };
        let for_ms = self.rng.random_range(3_000..5_500);
        let action = if self.rng.random_bool(0.5) {
            Action::Stop(master)
        } else {
            let others = (0..self.shape.nodes - 1).map(|number| Target::Replica(shard, number));
            cut(vec![master], others.chain(controllers.iter().copied()).collect())
        };
        self.faults.push(Fault { at_ms, for_ms, action });
        // Longer, so that the master finds its clients when it comes back.
        let blind_ms = for_ms + self.rng.random_range(300..1_500);
        let action = cut(controllers, balancers);
        self.faults.push(Fault { at_ms, for_ms: blind_ms, action });
        at_ms + blind_ms
    }

    fn cut(&mut self, both: bool) -> Action {
        let shard = self.shard();
        let (master, controller) = (Target::Master(shard), Target::Controller);
        let replicas: Vec<Target> =
            (0..self.shape.nodes - 1).map(|number| Target::Replica(shard, number)).collect();
        let balancers: Vec<Target> = (0..BALANCERS).map(Target::Balancer).collect();
        let all = self.everyone();
        let without = |out: &[Target]| -> Vec<Target> {
            all.iter().copied().filter(|target| !out.contains(target)).collect()
        };
        let (from, to) = match self.rng.random_range(0..9) {
            0 => (vec![controller], vec![master]),
            1 => {
                let nodes = without(&balancers);
                (vec![controller], nodes.into_iter().filter(|t| *t != controller).collect())
            }
            2 => (balancers, vec![master]),
            3 => (vec![balancers[self.rng.random_range(0..BALANCERS)]], vec![master]),
            4 => (vec![controller], balancers),
            5 => (vec![master], replicas),
            6 => (vec![master], without(&[master])),
            7 => {
                let replica = self.replica();
                (vec![replica], without(&[replica]))
            }
            _ => all.iter().copied().partition(|_| self.rng.random_bool(0.5)),
        };
        let (from, to) = if self.rng.random_bool(0.5) { (from, to) } else { (to, from) };
        Action::Cut { from, to, both, blackhole: self.rng.random_bool(0.3) }
    }

    fn everyone(&self) -> Vec<Target> {
        let mut all = self.all_controllers();
        all.extend((0..BALANCERS).map(Target::Balancer));
        for shard in 0..self.shape.shards {
            all.push(Target::Master(shard));
            all.extend((0..self.shape.nodes - 1).map(|number| Target::Replica(shard, number)));
        }
        if self.store == Store::Etcd {
            all.extend((0..MEMBERS).map(Target::Member));
        }
        all
    }

    fn shard(&mut self) -> usize {
        self.rng.random_range(0..self.shape.shards)
    }

    fn balancer(&mut self) -> usize {
        self.rng.random_range(0..BALANCERS)
    }

    fn master(&mut self) -> Target {
        Target::Master(self.shard())
    }

    fn replica(&mut self) -> Target {
        Target::Replica(self.shard(), self.rng.random_range(0..self.shape.nodes - 1))
    }

    fn node(&mut self) -> Target {
        if self.rng.random_bool(0.7) { self.master() } else { self.replica() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_schedule_and_another_seed_another() {
        let options = Options::default();
        for seed in 0..200 {
            let plan = Plan::new(seed, &options);
            assert_eq!(plan, Plan::new(seed, &options));
            assert_ne!(plan.faults, Plan::new(seed + 1, &options).faults);
            assert!(!plan.faults.is_empty());
            assert!(plan.faults.is_sorted_by_key(|fault| fault.at_ms));
            assert!(plan.faults.iter().all(|fault| fault.at_ms < 20_000 && fault.for_ms < 10_000));
        }
    }

    #[test]
    fn every_kind_happens_and_only_what_is_asked_for() {
        let options = Options { faults: vec![Kind::ReplicaKillRestart], ..Options::default() };
        for fault in Plan::new(5, &options).faults {
            assert!(matches!(fault.action, Action::Kill(Target::Replica(..))), "{fault}");
            assert_eq!(fault.for_ms, 0);
        }
        let text: String = (0..300)
            .flat_map(|seed| Plan::new(seed, &Options::default()).faults)
            .map(|fault| format!("{fault}\n"))
            .collect();
        for word in [
            "kill the m",
            "kill the r",
            "stop the c",
            "<x>",
            " x> ",
            "reload",
            "fill",
            "hangs",
            "disk of the controller hangs",
            "fill the disk of the controller",
            "every place",
            "no descriptors",
            "is lost",
            "switch",
            "interface",
        ] {
            assert!(text.contains(word), "{word}");
        }
    }

    #[test]
    fn alone_means_one_after_the_other() {
        let options = Options {
            style: Some(Style::Alone),
            faults: vec![Kind::Kill, Kind::Partition, Kind::StopLong],
            ..Options::default()
        };
        for seed in 0..50 {
            let faults = Plan::new(seed, &options).faults;
            for pair in faults.windows(2) {
                assert!(pair[0].at_ms + pair[0].for_ms < pair[1].at_ms, "{pair:?}");
            }
        }
    }
}
