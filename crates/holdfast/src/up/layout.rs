//! Which process gets which address. Pure: a base port and the counts decide everything, so that a
//! second start in the same folder finds every port where the cluster's topology says it is.
//!
//! From the base port `B`: announced endpoints at `B`, nodes at `B + 100`, their admin ports at
//! `B + 200`, the controller at `B + 300`, the balancers' own ports from `B + 301`, further
//! controllers from `B + 309`, an etcd's members from `B + 313`.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Everything listens here; what keeps clients from the nodes is the nodes' `client-access`.
pub(crate) const HOST: &str = "127.0.0.1";
/// Away from 6379, from Kvrocks' 6666 and from the range that Linux gives to outgoing connections
/// (32768 and up).
pub(crate) const DEFAULT_BASE_PORT: u16 = 7000;

const NODES_MAX: u16 = 100;
const NODES_AT: u16 = 100;
const ADMIN_AT: u16 = 200;
const CONTROLLER_AT: u16 = 300;
const BALANCERS_AT: u16 = 301;
const BALANCERS_MAX: u8 = 8;
const CONTROLLERS_AT: u16 = BALANCERS_AT + BALANCERS_MAX as u16;
const CONTROLLERS_MAX: u8 = 5;
const ETCD_AT: u16 = CONTROLLERS_AT + CONTROLLERS_MAX as u16 - 1;
/// Members of an etcd: one may be away.
pub(crate) const ETCD_MEMBERS: u8 = 3;
const PORTS: u16 = ETCD_AT + 2 * ETCD_MEMBERS as u16;

/// What stands in front of the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BalancerKind {
    /// `holdfast balancer`
    Builtin,
    /// HAProxy in master-worker mode
    Haproxy,
    /// Nothing: clients reach the nodes themselves
    None,
}

impl std::fmt::Display for BalancerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Builtin => "builtin",
            Self::Haproxy => "haproxy",
            Self::None => "none",
        })
    }
}

/// Where the controllers keep their records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Store {
    /// In a file of the only one
    #[default]
    Embedded,
    /// In three members of etcd, started here
    Etcd,
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Etcd => "etcd",
        })
    }
}

fn one() -> u8 {
    1
}

/// The shape of a local cluster; written to the folder at the first start and binding for later
/// ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// Masters.
    pub(crate) shards: u16,
    /// Replicas of each master.
    pub(crate) replicas: u16,
    /// What stands in front.
    pub(crate) balancer: BalancerKind,
    /// How many of them share the announced addresses; 0 with [`BalancerKind::None`].
    pub(crate) balancers: u8,
    /// First of the ports.
    pub(crate) base_port: u16,
    /// Controllers; folders of earlier versions have one.
    #[serde(default = "one")]
    pub(crate) controllers: u8,
    /// Where they keep their records.
    #[serde(default)]
    pub(crate) store: Store,
}

/// Why a shape cannot be built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("--shards must be at least 1")]
    NoShards,
    #[error("{0} nodes are more than the {NODES_MAX} that a local cluster may have")]
    TooManyNodes(u32),
    #[error("--balancers must be 1 to {BALANCERS_MAX}")]
    Balancers,
    #[error("--controllers must be 1 to {CONTROLLERS_MAX}")]
    Controllers,
    #[error("several controllers share a store: --store etcd")]
    Alone,
    #[error("ports {0} to {1} are not all usable: choose a --base-port from 1024 to {max}", max = u16::MAX - PORTS)]
    Ports(u32, u32),
}

impl Layout {
    /// Refuses shapes that do not fit the ports.
    pub(crate) fn check(&self) -> Result<(), LayoutError> {
        if self.shards == 0 {
            return Err(LayoutError::NoShards);
        }
        let nodes = u32::from(self.shards) * (u32::from(self.replicas) + 1);
        if nodes > u32::from(NODES_MAX) {
            return Err(LayoutError::TooManyNodes(nodes));
        }
        let balancers = match self.balancer {
            BalancerKind::None => 0..=0,
            _ => 1..=BALANCERS_MAX,
        };
        if !balancers.contains(&self.balancers) {
            return Err(LayoutError::Balancers);
        }
        if !(1..=CONTROLLERS_MAX).contains(&self.controllers) {
            return Err(LayoutError::Controllers);
        }
        if self.store == Store::Embedded && self.controllers > 1 {
            return Err(LayoutError::Alone);
        }
        let first = u32::from(self.base_port);
        let last = first + u32::from(PORTS);
        if first < 1024 || last > u32::from(u16::MAX) {
            return Err(LayoutError::Ports(first, last));
        }
        Ok(())
    }

    /// Nodes in all.
    pub(crate) fn nodes(&self) -> u16 {
        self.shards * (self.replicas + 1)
    }

    /// Nodes are numbered shard by shard, the first master of a shard before its replicas: the
    /// order in which the controller takes them.
    pub(crate) fn node_port(&self, node: u16) -> u16 {
        self.base_port + NODES_AT + node
    }

    /// Port of a node's metrics and health.
    pub(crate) fn admin_port(&self, node: u16) -> u16 {
        self.base_port + ADMIN_AT + node
    }

    /// The admin port that belongs to a node's port.
    pub(crate) fn admin_port_of(&self, node_port: u16) -> u16 {
        node_port + ADMIN_AT - NODES_AT
    }

    /// Port that clients are told for a node; masters come first, so that they are `B`, `B + 1`, ….
    pub(crate) fn announced_port(&self, node: u16) -> Option<u16> {
        let (shard, member) = (node / (self.replicas + 1), node % (self.replicas + 1));
        let port = self.base_port + member * self.shards + shard;
        (self.balancer != BalancerKind::None).then_some(port)
    }

    /// Port of a controller's REST interface.
    pub(crate) fn controller_port(&self, controller: u8) -> u16 {
        match controller {
            0 => self.base_port + CONTROLLER_AT,
            other => self.base_port + CONTROLLERS_AT + u16::from(other) - 1,
        }
    }

    /// Members of the etcd.
    pub(crate) fn members(&self) -> u8 {
        if self.store == Store::Etcd { ETCD_MEMBERS } else { 0 }
    }

    /// Ports of a member of the etcd: for controllers, and for the other members.
    pub(crate) fn etcd_ports(&self, member: u8) -> (u16, u16) {
        let port = self.base_port + ETCD_AT + 2 * u16::from(member);
        (port, port + 1)
    }

    /// Port of a balancer's own interface.
    pub(crate) fn balancer_port(&self, balancer: u8) -> u16 {
        self.base_port + BALANCERS_AT + u16::from(balancer)
    }

    /// Address a balancer dials nodes from, by which nodes know it.
    pub(crate) fn balancer_source(&self, balancer: u8) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::new(127, 0, 0, 2 + balancer)
    }

    /// Every port that something will listen on, with its purpose.
    pub(crate) fn ports(&self) -> Vec<(u16, String)> {
        let mut ports = Vec::new();
        for controller in 0..self.controllers {
            ports.push((self.controller_port(controller), format!("controller {controller}")));
        }
        for member in 0..self.members() {
            let (clients, peers) = self.etcd_ports(member);
            ports.push((clients, format!("member {member} of etcd")));
            ports.push((peers, format!("the others of member {member} of etcd")));
        }
        for node in 0..self.nodes() {
            ports.push((self.node_port(node), format!("node {node}")));
            ports.push((self.admin_port(node), format!("the admin port of node {node}")));
            if let Some(port) = self.announced_port(node) {
                ports.push((port, format!("the announced endpoint of node {node}")));
            }
        }
        if self.balancer == BalancerKind::Builtin {
            for balancer in 0..self.balancers {
                ports.push((self.balancer_port(balancer), format!("balancer {balancer}")));
            }
        }
        ports
    }

    /// Where the ports are, for messages.
    pub(crate) fn port_range(&self) -> RangeInclusive<u16> {
        self.base_port..=self.base_port + PORTS - 1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn layout(shards: u16, replicas: u16) -> Layout {
        Layout {
            shards,
            replicas,
            balancer: BalancerKind::Builtin,
            balancers: 2,
            base_port: DEFAULT_BASE_PORT,
            controllers: 1,
            store: Store::Embedded,
        }
    }

    #[test]
    fn no_port_is_given_twice_and_none_is_outside_the_range() {
        for (shards, replicas) in [(1, 0), (3, 1), (10, 9), (100, 0)] {
            let layout = Layout { controllers: 5, store: Store::Etcd, ..layout(shards, replicas) };
            assert_eq!(layout.check(), Ok(()));
            let ports = layout.ports();
            let distinct: BTreeSet<u16> = ports.iter().map(|(port, _)| *port).collect();
            assert_eq!(distinct.len(), ports.len());
            assert!(distinct.iter().all(|port| layout.port_range().contains(port)));
        }
    }

    #[test]
    fn masters_have_the_first_announced_ports() {
        let layout = layout(3, 1);
        let announced: Vec<_> = (0..6).map(|node| layout.announced_port(node).unwrap()).collect();
        assert_eq!(announced, [7000, 7003, 7001, 7004, 7002, 7005]);
        let none = Layout { balancer: BalancerKind::None, balancers: 0, ..layout };
        assert_eq!(none.announced_port(0), None);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert_eq!(layout(0, 1).check(), Err(LayoutError::NoShards));
        assert_eq!(layout(51, 1).check(), Err(LayoutError::TooManyNodes(102)));
        assert_eq!(Layout { balancers: 0, ..layout(1, 0) }.check(), Err(LayoutError::Balancers));
        let several = Layout { controllers: 3, ..layout(1, 0) };
        assert_eq!(several.check(), Err(LayoutError::Alone));
        let none = Layout { controllers: 0, ..layout(1, 0) };
        assert_eq!(none.check(), Err(LayoutError::Controllers));
        let high = Layout { base_port: 65_300, ..layout(1, 0) };
        assert!(matches!(high.check(), Err(LayoutError::Ports(65_300, _))));
    }
}
