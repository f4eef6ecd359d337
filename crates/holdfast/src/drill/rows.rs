//! What can be drilled, by name, and what each fault may do to clients.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A line of the table at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    /// A fault of this process's cluster.
    Fault(Fault),
    /// A killed master, for clients that follow a DNS name.
    ByName,
    /// What is not this program's business: a fault of a network, or of several controllers on an
    /// etcd, takes a namespace per host, and slots that move take clients of their own.
    /// `make drill` runs it with the same arguments after this.
    Elsewhere(&'static str),
}

impl Row {
    /// All names, in the order in which they are drilled.
    const NAMES: [(&'static str, Self); 19] = [
        ("kill", Self::Fault(Fault::Kill)),
        ("stop", Self::Fault(Fault::Stop)),
        ("kill-restart", Self::Fault(Fault::KillAndRestart)),
        ("replica-kill", Self::Fault(Fault::ReplicaKill)),
        ("replica-stop", Self::Fault(Fault::ReplicaStop)),
        ("switchover", Self::Fault(Fault::Switchover)),
        ("controller-kill", Self::Fault(Fault::ControllerKill)),
        ("dns", Self::ByName),
        ("link-down", Self::Elsewhere("link-down")),
        ("partition-balancer", Self::Elsewhere("partition-balancer")),
        ("partition-controller", Self::Elsewhere("partition-controller")),
        ("leader-and-master", Self::Elsewhere("leader-and-master")),
        ("leader-kill", Self::Elsewhere("leader-kill")),
        ("leader-stop", Self::Elsewhere("leader-stop")),
        ("leader-host", Self::Elsewhere("leader-host")),
        ("etcd-kill", Self::Elsewhere("etcd-kill")),
        ("etcd-away", Self::Elsewhere("etcd-away")),
        ("reshard", Self::Elsewhere("reshard")),
        ("move", Self::MOVE),
    ];

    /// It takes minutes, and disk for all that moves: it is not one of all.
    const MOVE: Self = Self::Elsewhere("move");

    /// Those that are chosen, in their order; without a choice all but [`Self::MOVE`]. `None` if
    /// that leaves none.
    pub(crate) fn chosen(only: &[Self], leaves_out_dns: bool) -> Option<Vec<Self>> {
        let rows = Self::NAMES.into_iter().map(|(_, row)| row);
        let rows = rows.filter(|row| match only.is_empty() {
            true => *row != Self::MOVE,
            false => only.contains(row),
        });
        let rows: Vec<Self> =
            rows.filter(|row| !(leaves_out_dns && *row == Self::ByName)).collect();
        (!rows.is_empty()).then_some(rows)
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, row)| row).ok_or_else(|| {
            let names = Self::NAMES.map(|(name, _)| name);
            format!("no such row; there are: {}", names.join(", "))
        })
    }
}

/// What happens to a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL to the master; its supervisor restarts it after 2 s.
    Kill,
    /// SIGSTOP to the master; SIGCONT once its replica has taken over.
    Stop,
    /// SIGKILL to the master; its supervisor restarts it at once.
    KillAndRestart,
    /// SIGKILL to the replica; its supervisor restarts it after 2 s.
    ReplicaKill,
    /// SIGSTOP to the replica; SIGCONT once clients write without it.
    ReplicaStop,
    /// Nothing breaks: another master is asked for.
    Switchover,
    /// SIGKILL to the controller, which stays away.
    ControllerKill,
}

impl Fault {
    /// The master is to stay what it is.
    pub(crate) fn leaves_the_master(self) -> bool {
        matches!(self, Self::ReplicaKill | Self::ReplicaStop | Self::ControllerKill)
    }

    /// Its row, with how long the controller is away.
    pub(crate) fn name(self, away: Duration) -> String {
        match self {
            Self::ControllerKill => format!("controller kill -9, away for {} s", away.as_secs()),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill -9, restarted after 2 s",
            Self::Stop => "SIGSTOP, SIGCONT after the takeover",
            Self::KillAndRestart => "kill -9, restarted at once",
            Self::ReplicaKill => "replica kill -9, restarted after 2 s",
            Self::ReplicaStop => "replica SIGSTOP, SIGCONT 1 s later",
            Self::Switchover => "planned switchover",
            Self::ControllerKill => "controller kill -9",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_name_and_keep_their_order() {
        let chosen = ["dns", "kill"].map(|name| name.parse().unwrap());
        let both = [Row::Fault(Fault::Kill), Row::ByName];
        assert_eq!(Row::chosen(&chosen, false).unwrap(), both);
        assert_eq!(Row::chosen(&chosen, true).unwrap(), both[..1]);
        assert_eq!(Row::chosen(&[], false).unwrap().len(), Row::NAMES.len() - 1);
        let only = ["move".parse().unwrap()];
        assert_eq!(Row::chosen(&only, false).unwrap(), only, "where it is asked for");
        assert_eq!(Row::chosen(&[Row::ByName], true), None, "nothing is no success");
        let error = "kil".parse::<Row>().unwrap_err();
        assert!(error.contains("link-down"), "{error}");
    }
}
