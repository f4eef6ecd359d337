//! When a controller was last heard, for another one that wants to know whether this node is led.

use api::heard::Told;
use parking_lot::Mutex;

use crate::clock;
use crate::node::Node;

/// The newest heartbeat that was taken.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Option<(u64, u64)>>);

impl Heard {
    /// A heartbeat for a shard with that master was taken at `now_ns`. One that names nobody only
    /// says hello.
    pub fn note(&self, master: &[u8], term: u64, now_ns: u64) {
        if master.iter().any(|byte| *byte != b'0') {
            *self.0.lock() = Some((term, now_ns));
        }
    }
}

/// What this node says of its controller, and of itself: the answer counts only if it is the node
/// that was meant.
pub fn told(node: &Node) -> Told {
    let cluster = node.cluster.load();
    let heard = *node.grants.heard.0.lock();
    let since = |at_ns: u64| clock::boottime_ns().saturating_sub(at_ns) / 1_000_000;
    Told {
        myid: cluster.id().map(|id| id.to_string()).unwrap_or_default(),
        cluster_id: cluster.cluster_id().map_or_else(|| "-".to_owned(), |id| id.to_string()),
        term: node.grants.term(),
        heard_ms: heard.map(|(_, at_ns)| since(at_ns)),
        heard_term: heard.map_or(0, |(term, _)| term),
    }
}
