//! What the cluster of a run is made of: each a choice of the arguments, or of the seed.

use std::fmt;

/// How the cluster acknowledges writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// After the in-sync set has them.
    InSync,
    /// At once.
    Async,
}

impl Mode {
    /// As the REST interface calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InSync => "in-sync",
            Self::Async => "async",
        }
    }
}

/// What stands in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balancer {
    /// `holdfast balancer`
    Builtin,
    /// HAProxy in master-worker mode.
    Haproxy,
}

impl Balancer {
    /// As the REST interface calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Haproxy => "haproxy",
        }
    }
}

/// What controllers keep their records in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A file of the only one.
    Embedded,
    /// Three members of an etcd, each on a host of its own.
    Etcd,
}

impl Store {
    /// Its name in arguments.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Etcd => "etcd",
        }
    }
}

/// Shards, and nodes in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// 1..=8
    pub shards: usize,
    /// 2..=5
    pub nodes: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.shards, self.nodes)
    }
}
