//! What happens to whom.

use std::time::Duration;

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// SIGKILL to the master and to the controller that leads, at one moment.
    LeaderAndMaster,
    /// SIGKILL to the controller that leads.
    LeaderKill,
    /// SIGSTOP to it; SIGCONT when another one has led for a while.
    LeaderStop,
    /// A host is lost that had the master, the controller that leads and the member that leads
    /// etcd: their interfaces go down at one moment.
    LeaderHost,
    /// SIGKILL to the member that leads etcd.
    EtcdKill,
    /// SIGKILL to all members of etcd, which stay away.
    EtcdAway,
}

/// What is measured besides what clients see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// From the fault on, until a controller answers for itself that leads in a later term.
    Leads,
    /// The longest time, at any node, between two heartbeats that it took.
    Silence,
    /// From the moment when the members are started until every node has taken a heartbeat.
    Back,
}

impl Row {
    /// All, in the order in which they are drilled.
    pub const ALL: [Self; 6] = [
        Self::LeaderAndMaster,
        Self::LeaderKill,
        Self::LeaderStop,
        Self::LeaderHost,
        Self::EtcdKill,
        Self::EtcdAway,
    ];

    /// As it is chosen.
    pub fn word(self) -> &'static str {
        match self {
            Self::LeaderAndMaster => "leader-and-master",
            Self::LeaderKill => "leader-kill",
            Self::LeaderStop => "leader-stop",
            Self::LeaderHost => "leader-host",
            Self::EtcdKill => "etcd-kill",
            Self::EtcdAway => "etcd-away",
        }
    }

    /// As the table says it, with how long etcd is away.
    pub fn name(self, away: Duration) -> String {
        match self {
            Self::LeaderAndMaster => "master and leading controller kill -9 together".to_owned(),
            Self::LeaderKill => "leading controller kill -9".to_owned(),
            Self::LeaderStop => "leading controller SIGSTOP, SIGCONT later".to_owned(),
            Self::LeaderHost => {
                "interfaces of master, leading controller and etcd's leader down".to_owned()
            }
            Self::EtcdKill => "etcd's leader kill -9".to_owned(),
            Self::EtcdAway => format!("etcd kill -9, away for {} s", away.as_secs()),
        }
    }

    /// What is measured of the controllers.
    pub fn control(self) -> Control {
        match self {
            Self::LeaderAndMaster | Self::LeaderKill | Self::LeaderStop | Self::LeaderHost => {
                Control::Leads
            }
            Self::EtcdKill => Control::Silence,
            Self::EtcdAway => Control::Back,
        }
    }

    /// The master is hurt too, and to be replaced; else it is to stay what it is.
    pub fn hurts_the_master(self) -> bool {
        matches!(self, Self::LeaderAndMaster | Self::LeaderHost)
    }
}

impl Control {
    /// As the table explains it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Leads => {
                "from the fault on, until a controller says that it leads in a later term"
            }
            Self::Silence => "longest time between two heartbeats that a node took",
            Self::Back => {
                "from the start of etcd's members on, until every node has taken a heartbeat"
            }
        }
    }
}
