//! Load balancers that a node does not take for such.

use std::net::IpAddr;

/// A load balancer that a node does not take for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stranger {
    /// Where it dials the node from.
    pub address: IpAddr,
    /// Connections that began with a PROXY header, since the start of the process.
    pub connections: u64,
    /// Since the last of them, ms.
    pub age_ms: u64,
}

impl Stranger {
    /// As a reply has them.
    pub(super) fn show_all(all: &[Self]) -> String {
        let show = |s: &Self| format!("{}/{}/{}", s.address, s.connections, s.age_ms);
        all.iter().map(show).collect::<Vec<_>>().join(",")
    }

    /// What cannot be read is left out: nothing is decided by it, it is only told to people.
    pub(super) fn read_all(text: Option<&str>) -> Vec<Self> {
        let read = |text: &str| {
            let mut parts = text.split('/');
            let mut part = || parts.next();
            Some(Self {
                address: part()?.parse().ok()?,
                connections: part()?.parse().ok()?,
                age_ms: part()?.parse().ok()?,
            })
        };
        text.unwrap_or_default().split(',').filter_map(read).collect()
    }
}
