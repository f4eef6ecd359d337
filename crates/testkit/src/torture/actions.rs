//! What a fault does, to whom, and when.
//!
//! Targets are roles (`the master of shard 0`) that are looked up when the fault begins.

use std::fmt;

/// Faults begin this long after the clients.
pub(super) const QUIET_MS: u64 = 800;

/// What is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The controller; of several, whichever leads by then.
    Controller,
    /// One of those that stand by then.
    Standby(usize),
    /// A member of etcd.
    Member(usize),
    /// Whichever member leads etcd by then.
    Raft,
    /// A load balancer instance.
    Balancer(usize),
    /// The node that is master of a shard by then.
    Master(usize),
    /// One of a shard's replicas by then.
    Replica(usize, usize),
}

/// What is done, and undone when the fault is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL; started again at the end.
    Kill(Target),
    /// SIGTERM; started again at the end.
    End(Target),
    /// SIGSTOP; SIGCONT at the end.
    Stop(Target),
    /// The same of all members of etcd.
    Freeze,
    /// The quota of etcd is used up; it has room again at the end.
    Quota,
    /// The interface goes down; up at the end.
    LinkDown(Target),
    /// Packets of the first set do not reach the second.
    Cut {
        /// Those that are not heard.
        from: Vec<Target>,
        /// Those that do not hear.
        to: Vec<Target>,
        /// The other way round too.
        both: bool,
        /// Refused at the sender, instead of lost on the way.
        blackhole: bool,
    },
    /// A new load balancer process beside or after the old one.
    Reload(usize),
    /// No space left; freed at the end.
    Fill(Target),
    /// Writes to the disk wait; they go on at the end.
    Hang(Target),
    /// Its places are held by clients that insist.
    Crowd(Target),
    /// Its limit of open files is met; raised again at the end.
    Descriptors(Target),
    /// SIGKILL, and the data is removed; started again, empty, at the end.
    Lose(Target),
    /// A planned switchover of a shard.
    Switchover(usize),
}

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// ms after the clients began.
    pub at_ms: u64,
    /// How long it lasts, ms.
    pub for_ms: u64,
    /// What it is.
    pub action: Action,
}

impl Target {
    /// Of the cluster, and not of what leads it or stands before it.
    pub fn is_node(self) -> bool {
        matches!(self, Self::Master(_) | Self::Replica(..))
    }

    /// Of an etcd.
    pub fn is_member(self) -> bool {
        matches!(self, Self::Member(_) | Self::Raft)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller => f.write_str("controller"),
            Self::Standby(number) => write!(f, "controller that stands by ({number})"),
            Self::Member(number) => write!(f, "member {number} of etcd"),
            Self::Raft => f.write_str("member that leads etcd"),
            Self::Balancer(number) => write!(f, "balancer {number}"),
            Self::Master(shard) => write!(f, "master of shard {shard}"),
            Self::Replica(shard, number) => write!(f, "replica {number} of shard {shard}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |targets: &[Target]| -> String {
            targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Kill(target) => write!(f, "kill the {target}"),
            Self::End(target) => write!(f, "end the {target}"),
            Self::Stop(target) => write!(f, "stop the {target}"),
            Self::Freeze => f.write_str("stop all members of etcd"),
            Self::Quota => f.write_str("use up the quota of etcd"),
            Self::LinkDown(target) => write!(f, "interface down at the {target}"),
            Self::Cut { from, to, both, blackhole } => {
                let way = if *both { "<x>" } else { "x>" };
                let how = if *blackhole { " (blackhole)" } else { "" };
                write!(f, "cut [{}] {way} [{}]{how}", names(from), names(to))
            }
            Self::Reload(number) => write!(f, "reload balancer {number}"),
            Self::Fill(target) => write!(f, "fill the disk of the {target}"),
            Self::Hang(target) => write!(f, "the disk of the {target} hangs"),
            Self::Crowd(target) => write!(f, "clients hold every place of the {target}"),
            Self::Descriptors(target) => write!(f, "no descriptors for the {target}"),
            Self::Lose(target) => write!(f, "the disk of the {target} is lost"),
            Self::Switchover(shard) => write!(f, "switchover of shard {shard}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} ms + {:>4} ms  {}", self.at_ms, self.for_ms, self.action)
    }
}
