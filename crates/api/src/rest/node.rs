//! Nodes: what is said of a new one, what the store holds of one, and what is seen of it.
//!
//! A password goes in with a new one, and never comes out.

use serde::{Deserialize, Serialize};

use super::NodeAnswer;
use crate::health::Health;

/// A node to create, add or import: an address, or an address with more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NodeSpec {
    /// `host:port`, IPv6 in brackets.
    Address(String),
    /// The same with an announced endpoint.
    Full(NodeFields),
}

impl NodeSpec {
    /// Both forms as the second.
    pub fn into_fields(self) -> NodeFields {
        match self {
            Self::Address(addr) => NodeFields { addr, ..NodeFields::default() },
            Self::Full(fields) => fields,
        }
    }
}

/// A node with everything that can be said of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeFields {
    /// `host:port`, IPv6 in brackets.
    pub addr: String,
    /// `slave` (default) or `master`; for nodes added to a shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The nodes' `peer-auth` secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// 1..=65535: where it speaks TLS alone, at the host of `addr`. Without, the port there takes
    /// both kinds, or TLS alone with `port 0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_port: Option<u16>,
    /// Where clients reach it.
    #[serde(flatten)]
    pub announced: Announced,
}

/// An announced endpoint: host and port, or neither.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Announced {
    /// Host name, IPv4 or IPv6.
    #[serde(default, alias = "lb_host", skip_serializing_if = "Option::is_none")]
    pub announced_host: Option<String>,
    /// 1..=65535.
    #[serde(default, alias = "lb_port", skip_serializing_if = "Option::is_none")]
    pub announced_port: Option<u16>,
    /// 1..=65535: where TLS alone is spoken, at the same host. Without, `announced_port` takes both
    /// kinds, or TLS alone with `port 0`. Not without a host, not even 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced_tls_port: Option<u16>,
}

/// `PATCH …/nodes/:id`. What is announced is replaced as a whole, by nothing where nothing is said
/// of it; `tls_port` alone leaves it as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeChange {
    /// Host name, IPv4 or IPv6.
    #[serde(default, alias = "lb_host", skip_serializing_if = "Option::is_none")]
    pub announced_host: Option<String>,
    /// 1..=65535.
    #[serde(default, alias = "lb_port", skip_serializing_if = "Option::is_none")]
    pub announced_port: Option<u16>,
    /// As of a new node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced_tls_port: Option<u16>,
    /// Where the node speaks TLS alone, at its own host; 0: nowhere. Without, it stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_port: Option<u16>,
}

impl NodeChange {
    /// What is announced from now on; `None`: what was.
    pub fn announced(&self) -> Option<Announced> {
        let announced = Announced {
            announced_host: self.announced_host.clone(),
            announced_port: self.announced_port,
            announced_tls_port: self.announced_tls_port,
        };
        let stays = self.tls_port.is_some() && announced == Announced::default();
        (!stays).then_some(announced)
    }
}

impl From<Announced> for NodeChange {
    fn from(announced: Announced) -> Self {
        let Announced { announced_host, announced_port, announced_tls_port } = announced;
        Self { announced_host, announced_port, announced_tls_port, tls_port: None }
    }
}

/// What the store holds of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// 40 characters.
    pub id: String,
    /// `host:port`, IPv6 in brackets.
    pub addr: String,
    /// `master` or `slave`.
    pub role: String,
    /// Always empty: secrets are not told.
    #[serde(default)]
    pub password: String,
    /// Seconds since 1970.
    pub created_at: u64,
    /// Where it speaks TLS alone, at the host of `addr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_port: Option<u16>,
    /// Where clients reach it.
    #[serde(flatten)]
    pub announced: Announced,
}

/// What is seen of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// 40 characters.
    pub id: String,
    /// `host:port`.
    pub addr: String,
    /// Where clients reach it.
    pub announced: Option<String>,
    /// Where it speaks TLS alone, at the host of `addr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_port: Option<u16>,
    /// Where TLS alone is spoken, at the announced host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced_tls_port: Option<u16>,
    /// What the record makes of it: `master` or `slave`.
    pub role: String,
    /// How it answers.
    pub health: Health,
    /// It plays its role at the record's version.
    pub settled: bool,
    /// Its last answer, if there is one.
    pub answer: Option<NodeAnswer>,
    /// Sequence numbers behind its master, for replicas.
    pub lag: Option<u64>,
    /// Heartbeats missed in a row.
    pub misses: u32,
    /// Last error.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::ClusterSpec;

    #[test]
    fn nodes_are_addresses_or_objects_with_either_name_of_the_endpoint() {
        let spec: ClusterSpec = serde_json::from_str(
            r#"{"name":"c","nodes":["a:1",{"addr":"b:2","lb_host":"lb","lb_port":3}],"replica":2}"#,
        )
        .expect("both forms are read");
        assert_eq!(spec.replicas, Some(2));
        let nodes: Vec<NodeFields> = spec.nodes.into_iter().map(NodeSpec::into_fields).collect();
        assert_eq!(nodes[0].addr, "a:1");
        assert_eq!(nodes[0].announced, Announced::default());
        assert_eq!(nodes[1].announced.announced_host.as_deref(), Some("lb"));
        assert_eq!(nodes[1].announced.announced_port, Some(3));
    }

    #[test]
    fn a_change_of_the_port_of_tls_alone_leaves_what_is_announced() {
        let read = |text: &str| serde_json::from_str::<NodeChange>(text).expect("a change");
        let of_port = read(r#"{"tls_port":6667}"#);
        assert_eq!((of_port.announced(), of_port.tls_port), (None, Some(6667)));
        assert_eq!(read(r#"{"tls_port":0}"#).announced(), None);
        assert_eq!(read("{}").announced(), Some(Announced::default()));
        let both = read(r#"{"lb_host":"lb","lb_port":3,"announced_tls_port":4,"tls_port":5}"#);
        let announced = both.announced().expect("it is said");
        assert_eq!(announced.announced_tls_port, Some(4));
        assert_eq!(both, NodeChange { tls_port: Some(5), ..announced.into() });
    }
}
