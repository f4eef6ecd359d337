//! The kinds of faults, by name, which of them a site can have, and how they follow each other.

use super::setup::Store;

/// A kind of fault, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A master is killed and stays away for a while.
    Kill,
    /// A master is killed and started again at once.
    KillRestart,
    /// A replica is killed and stays away for a while.
    ReplicaKill,
    /// A replica is killed and started again at once.
    ReplicaKillRestart,
    /// A master is stopped for less than a lease.
    StopShort,
    /// A master is stopped for several leases.
    StopLong,
    /// A replica is stopped.
    ReplicaStop,
    /// The network interface of a node goes down.
    LinkDown,
    /// Two sets of hosts do not hear each other.
    Partition,
    /// One set of hosts does not hear the other.
    OneWay,
    /// The controller is killed; of several the one that leads.
    ControllerKill,
    /// The controller is stopped; of several the one that leads, mostly for longer than its claim
    /// can last.
    ControllerStop,
    /// A master is lost, and the controller too while it is busy with that.
    FailoverController,
    /// The controller reaches no load balancer, and a master is stopped for several leases, or cut
    /// off from all but its clients: nothing but its lease can fence it.
    Blind,
    /// A load balancer instance is killed.
    BalancerKill,
    /// A load balancer instance is reloaded (HAProxy) or restarted (built-in).
    BalancerReload,
    /// The disk of a master is full.
    DiskFull,
    /// The disk of a node takes nothing, and says nothing.
    DiskHang,
    /// The disk of the controller takes nothing, and says nothing: its store answers late.
    StoreHang,
    /// The disk of the controller is full.
    StoreFull,
    /// Clients hold every place of a node, and come again at once when they are refused.
    Crowd,
    /// The process of a node may open nothing more.
    Descriptors,
    /// A master is killed, its data is gone, and it is started again at once.
    DiskLost,
    /// The same, and it stays away for a while.
    DiskLostLate,
    /// Not a fault: an operator asks for another master.
    Switchover,
    /// A controller that stands by is killed.
    StandbyKill,
    /// A controller that stands by is stopped.
    StandbyStop,
    /// The leading controller is told to end: it makes the lead vacant.
    ControllerEnd,
    /// A master and the leading controller are killed at one moment.
    BothKill,
    /// The leading controller and etcd, or most of its members, do not hear each other, in both
    /// ways or in one.
    CutEtcd,
    /// The same of the leading controller and all nodes.
    CutNodes,
    /// The same of the leading controller and those that stand by.
    CutControllers,
    /// The leading controller, a master and the load balancers are cut off from all others:
    /// whichever controller leads next reaches neither that master nor a balancer, and clients
    /// still find it. Nothing but its lease can fence it, and who has the lead no more must not
    /// grant it another.
    Split,
    /// A member of etcd is killed.
    MemberKill,
    /// A member of etcd is stopped, and what was asked of it may be done when it goes on.
    MemberStop,
    /// The member that leads etcd is killed.
    RaftKill,
    /// The member that leads etcd is stopped.
    RaftStop,
    /// Most members of etcd are killed, or stopped.
    EtcdAway,
    /// All members of etcd are stopped.
    EtcdFreeze,
    /// All members of etcd are stopped for a moment, again and again.
    EtcdSlow,
    /// The disk of a member of etcd takes nothing, and says nothing.
    EtcdHang,
    /// The quota of etcd is used up.
    EtcdFull,
}

impl Kind {
    /// Those of one controller with a file of its own.
    pub const ALL: [Self; 25] = [
        Self::Kill,
        Self::KillRestart,
        Self::ReplicaKill,
        Self::ReplicaKillRestart,
        Self::StopShort,
        Self::StopLong,
        Self::ReplicaStop,
        Self::LinkDown,
        Self::Partition,
        Self::OneWay,
        Self::ControllerKill,
        Self::ControllerStop,
        Self::FailoverController,
        Self::Blind,
        Self::BalancerKill,
        Self::BalancerReload,
        Self::DiskFull,
        Self::DiskHang,
        Self::StoreHang,
        Self::StoreFull,
        Self::Crowd,
        Self::Descriptors,
        Self::DiskLost,
        Self::DiskLostLate,
        Self::Switchover,
    ];

    /// Those of controllers that keep their records in an etcd.
    const OF_ETCD: [Self; 13] = [
        Self::ControllerEnd,
        Self::BothKill,
        Self::CutEtcd,
        Self::CutNodes,
        Self::MemberKill,
        Self::MemberStop,
        Self::RaftKill,
        Self::RaftStop,
        Self::EtcdAway,
        Self::EtcdFreeze,
        Self::EtcdSlow,
        Self::EtcdHang,
        Self::EtcdFull,
    ];

    /// Those of several controllers.
    const OF_SEVERAL: [Self; 4] =
        [Self::StandbyKill, Self::StandbyStop, Self::CutControllers, Self::Split];

    /// All that a site of so many controllers on such a store can have, in one order.
    pub fn of(controllers: usize, store: Store) -> Vec<Self> {
        if store == Store::Embedded {
            return Self::ALL.to_vec();
        }
        // The disk of such a controller has nothing on it.
        let of_file = [Self::StoreHang, Self::StoreFull];
        let mut kinds: Vec<Self> =
            Self::ALL.into_iter().filter(|kind| !of_file.contains(kind)).collect();
        kinds.extend(Self::OF_ETCD);
        if controllers > 1 {
            kinds.extend(Self::OF_SEVERAL);
        }
        kinds
    }

    /// Its name in arguments.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillRestart => "kill-restart",
            Self::ReplicaKill => "replica-kill",
            Self::ReplicaKillRestart => "replica-kill-restart",
            Self::StopShort => "stop-short",
            Self::StopLong => "stop-long",
            Self::ReplicaStop => "replica-stop",
            Self::LinkDown => "link-down",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::ControllerKill => "controller-kill",
            Self::ControllerStop => "controller-stop",
            Self::FailoverController => "failover-controller",
            Self::Blind => "blind",
            Self::BalancerKill => "balancer-kill",
            Self::BalancerReload => "balancer-reload",
            Self::DiskFull => "disk-full",
            Self::DiskHang => "disk-hang",
            Self::StoreHang => "store-hang",
            Self::StoreFull => "store-full",
            Self::Crowd => "crowd",
            Self::Descriptors => "descriptors",
            Self::DiskLost => "disk-lost",
            Self::DiskLostLate => "disk-lost-late",
            Self::Switchover => "switchover",
            Self::StandbyKill => "standby-kill",
            Self::StandbyStop => "standby-stop",
            Self::ControllerEnd => "controller-end",
            Self::BothKill => "both-kill",
            Self::CutEtcd => "cut-etcd",
            Self::CutNodes => "cut-nodes",
            Self::CutControllers => "cut-controllers",
            Self::Split => "split",
            Self::MemberKill => "member-kill",
            Self::MemberStop => "member-stop",
            Self::RaftKill => "raft-kill",
            Self::RaftStop => "raft-stop",
            Self::EtcdAway => "etcd-away",
            Self::EtcdFreeze => "etcd-freeze",
            Self::EtcdSlow => "etcd-slow",
            Self::EtcdHang => "etcd-hang",
            Self::EtcdFull => "etcd-full",
        }
    }

    /// By name, whatever site it is of.
    pub fn parse(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter().chain(Self::OF_ETCD).chain(Self::OF_SEVERAL);
        all.find(|kind| kind.as_str() == name)
    }
}

/// How faults follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The next begins when the last is over, and a little later.
    Alone,
    /// They overlap as it happens.
    Mixed,
}

impl Style {
    /// Its name in arguments.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Mixed => "mixed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_and_each_site_has_its_own() {
        let file = Kind::of(1, Store::Embedded);
        assert_eq!(file, Kind::ALL);
        let (one, three) = (Kind::of(1, Store::Etcd), Kind::of(3, Store::Etcd));
        for kind in file.iter().chain(&three) {
            assert_eq!(Kind::parse(kind.as_str()), Some(*kind));
        }
        assert!(!three.contains(&Kind::StoreFull) && !file.contains(&Kind::RaftKill));
        assert!(one.contains(&Kind::EtcdAway) && !one.contains(&Kind::StandbyKill));
        assert!(three.contains(&Kind::StandbyKill) && three.contains(&Kind::Kill));
        assert_eq!(Kind::parse("rain"), None);
    }
}
