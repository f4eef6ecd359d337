//! Faults of controllers that share an etcd, and of that etcd.
//!
//! By the seed alone: who leads is found out when a fault is due.

use rand::Rng as _;

use super::{BALANCERS, Draw, MEMBERS};
use crate::torture::actions::{Action, Fault, Target};
use crate::torture::faults::Kind;

impl Draw {
    /// Adds one; returns when it is over. `away` is how long what is killed or stopped stays so,
    /// ms.
    pub(super) fn of_shared(&mut self, kind: Kind, at_ms: u64, away: u64) -> u64 {
        let (for_ms, action) = match kind {
            Kind::StandbyKill => (away, Action::Kill(self.standby())),
            Kind::StandbyStop => (away, Action::Stop(self.standby())),
            Kind::ControllerEnd => (away, Action::End(Target::Controller)),
            Kind::BothKill => return self.both(at_ms),
            Kind::CutEtcd => (away, self.cut_etcd()),
            // One that hears no node gives the lead up after 3 s.
            Kind::CutNodes => (self.rng.random_range(1_500..6_000), self.cut_nodes()),
            Kind::CutControllers => {
                let standbys = (0..self.controllers - 1).map(Target::Standby).collect();
                (away, self.apart(standbys))
            }
            Kind::Split => (self.rng.random_range(3_000..5_500), self.split()),
            Kind::MemberKill => (away, Action::Kill(self.member())),
            Kind::MemberStop => (away, Action::Stop(self.member())),
            Kind::RaftKill => (away, Action::Kill(Target::Raft)),
            Kind::RaftStop => (away, Action::Stop(Target::Raft)),
            Kind::EtcdAway => return self.etcd_away(at_ms, away),
            Kind::EtcdFreeze => (self.rng.random_range(300..3_000), Action::Freeze),
            Kind::EtcdSlow => return self.etcd_slow(at_ms, away),
            Kind::EtcdHang => (away, Action::Hang(self.raft_or_member())),
            Kind::EtcdFull => (self.rng.random_range(1_500..5_000), Action::Quota),
            // The others are drawn by whoever calls this.
            _ => return at_ms,
        };
        self.faults.push(Fault { at_ms, for_ms, action });
        at_ms + for_ms
    }

    /// The leading one first.
    pub(super) fn all_controllers(&self) -> Vec<Target> {
        let standbys = (0..self.controllers - 1).map(Target::Standby);
        [Target::Controller].into_iter().chain(standbys).collect()
    }

    /// At one moment; either may be back first.
    fn both(&mut self, at_ms: u64) -> u64 {
        let targets = [self.master(), Target::Controller];
        let mut end = at_ms;
        for target in targets {
            let for_ms = self.rng.random_range(0..4_000);
            self.faults.push(Fault { at_ms, for_ms, action: Action::Kill(target) });
            end = end.max(at_ms + for_ms);
        }
        end
    }

    fn cut_etcd(&mut self) -> Action {
        // One of three says enough, unless it leads the others.
        let count = if self.rng.random_bool(0.6) { MEMBERS } else { MEMBERS - 1 };
        let first = self.rng.random_range(0..MEMBERS);
        let members = (0..count).map(|number| Target::Member((first + number) % MEMBERS));
        self.apart(members.collect())
    }

    fn cut_nodes(&mut self) -> Action {
        let nodes = self.everyone().into_iter().filter(|target| target.is_node());
        self.apart(nodes.collect())
    }

    fn split(&mut self) -> Action {
        let mut here = vec![Target::Controller, self.master()];
        here.extend((0..BALANCERS).map(Target::Balancer));
        let all = self.everyone().into_iter();
        let there = all.filter(|target| !here.contains(target)).collect();
        let blackhole = self.rng.random_bool(0.3);
        Action::Cut { from: here, to: there, both: true, blackhole }
    }

    /// The leading controller and these.
    fn apart(&mut self, others: Vec<Target>) -> Action {
        let (both, back) = (self.rng.random_bool(0.7), self.rng.random_bool(0.5));
        let blackhole = self.rng.random_bool(0.3);
        let leading = vec![Target::Controller];
        let (from, to) = if back { (others, leading) } else { (leading, others) };
        Action::Cut { from, to, both, blackhole }
    }

    fn etcd_away(&mut self, at_ms: u64, for_ms: u64) -> u64 {
        let (is_kill, first) = (self.rng.random_bool(0.5), self.rng.random_range(0..MEMBERS));
        for number in 0..=MEMBERS / 2 {
            let member = Target::Member((first + number) % MEMBERS);
            let action = if is_kill { Action::Kill(member) } else { Action::Stop(member) };
            self.faults.push(Fault { at_ms, for_ms, action });
        }
        at_ms + for_ms
    }

    fn etcd_slow(&mut self, at_ms: u64, length_ms: u64) -> u64 {
        let mut at = at_ms;
        while at < at_ms + length_ms {
            let for_ms = self.rng.random_range(40..240);
            self.faults.push(Fault { at_ms: at, for_ms, action: Action::Freeze });
            at += for_ms + self.rng.random_range(30..200);
        }
        at
    }

    fn standby(&mut self) -> Target {
        Target::Standby(self.rng.random_range(0..self.controllers - 1))
    }

    fn member(&mut self) -> Target {
        Target::Member(self.rng.random_range(0..MEMBERS))
    }

    fn raft_or_member(&mut self) -> Target {
        if self.rng.random_bool(0.6) { Target::Raft } else { self.member() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Plan, Store, Style};
    use super::*;

    fn options(faults: Vec<Kind>) -> Options {
        let (controllers, store) = (3, Store::Etcd);
        Options { controllers, store, faults, ..Options::default() }
    }

    #[test]
    fn a_seed_is_a_schedule_of_every_fault_that_such_a_site_can_have() {
        let all = options(Kind::of(3, Store::Etcd));
        let mut text = String::new();
        for seed in 0..600 {
            let plan = Plan::new(seed, &all);
            assert_eq!(plan, Plan::new(seed, &all));
            assert!(!plan.faults.is_empty() && plan.faults.is_sorted_by_key(|fault| fault.at_ms));
            assert!(plan.faults.iter().all(|fault| fault.for_ms < 10_000));
            text.extend(plan.faults.iter().map(|fault| format!("{fault}\n")));
        }
        for word in [
            "kill the controller\n",
            "stop the controller\n",
            "end the controller\n",
            "stop the controller that stands by (1)",
            "kill the controller that stands by (0)",
            "kill the member that leads etcd",
            "stop the member that leads etcd",
            "stop the member 2 of etcd",
            "stop all members of etcd",
            "the disk of the member that leads etcd hangs",
            "use up the quota",
            "[controller] <x> [member 0 of etcd, member 1 of etcd, member 2 of etcd]",
            "[controller] <x> [controller that stands by (0), controller that stands by (1)]",
            "[controller] x> [master of shard 0, replica 0 of shard 0",
            "[controller, master of shard 0, balancer 0, balancer 1] <x> [controller that stands by (0), \
             controller that stands by (1), replica 0 of shard 0",
        ] {
            assert!(text.contains(word), "{word}");
        }
        assert!(!text.contains("the disk of the controller"), "nothing is on it");
    }

    #[test]
    fn what_happens_to_both_happens_at_one_moment_and_most_of_etcd_is_away_at_once() {
        let faults = Plan::new(3, &options(vec![Kind::BothKill])).faults;
        for pair in faults.chunks(2) {
            assert_eq!(pair[0].at_ms, pair[1].at_ms);
            assert!(matches!(pair[0].action, Action::Kill(Target::Master(_))), "{}", pair[0]);
            assert_eq!(pair[1].action, Action::Kill(Target::Controller));
        }
        let alone = Options { style: Some(Style::Alone), ..options(vec![Kind::EtcdAway]) };
        for pair in Plan::new(4, &alone).faults.chunks(2) {
            assert_eq!((pair[0].at_ms, pair[0].for_ms), (pair[1].at_ms, pair[1].for_ms));
            assert_ne!(pair[0].action, pair[1].action);
        }
    }

    #[test]
    fn a_slow_etcd_is_one_that_stops_again_and_again() {
        let alone = Options { style: Some(Style::Alone), ..options(vec![Kind::EtcdSlow]) };
        let faults = Plan::new(5, &alone).faults;
        assert!(faults.len() > 5, "{}", faults.len());
        for pair in faults.windows(2) {
            assert!(pair[0].action == Action::Freeze && pair[0].for_ms < 250, "{}", pair[0]);
            assert!(pair[0].at_ms + pair[0].for_ms < pair[1].at_ms, "{pair:?}");
        }
    }

    #[test]
    fn one_controller_on_etcd_has_nobody_beside_it() {
        let faults = Kind::of(1, Store::Etcd);
        let one = Options { controllers: 1, ..options(faults) };
        for seed in 0..100 {
            let plan = Plan::new(seed, &one);
            let text: String = plan.faults.iter().map(ToString::to_string).collect();
            assert!(!text.contains("stands by"), "{text}");
        }
    }
}
