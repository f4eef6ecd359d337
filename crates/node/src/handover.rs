//! Waiting, before the process ends, until another node has taken over what this one does.
//!
//! What ends the wait is decided in [`crate::stopping`]; a second signal ends it as well (`run`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::heartbeat::LinkStatus;

use crate::clients::Via;
use crate::clock;
use crate::node::Node;
use crate::stopping::{Look, may_end};

/// Between two looks.
const PACE: Duration = Duration::from_millis(10);

/// Returns when the process may end: at once where no controller leads this node.
pub(crate) async fn wait(node: &Arc<Node>) {
    let limit_ms = node.config.now().handover_timeout_ms;
    if limit_ms == 0 || !node.config.now().cluster_enabled {
        return;
    }
    let begun_ms = clock::boottime_ms();
    if may_end(&look(node, begun_ms)).is_some() {
        return;
    }
    node.stopping.begin(begun_ms);
    tracing::info!(limit_ms, "another node is to take over first; a second signal ends this one");
    loop {
        if let Some(why) = may_end(&look(node, begun_ms)) {
            let took_ms = clock::boottime_ms().saturating_sub(begun_ms);
            tracing::info!(took_ms, why, "the wait is over");
            return;
        }
        tokio::time::sleep(PACE).await;
    }
}

fn look(node: &Node, begun_ms: u64) -> Look {
    let heard = node.grants.heard.newest();
    Look {
        now_ms: clock::boottime_ms(),
        begun_ms,
        limit_ms: u64::from(node.config.now().handover_timeout_ms),
        heard_ms: heard.map(|(_, at_ns)| at_ns / 1_000_000),
        has_fellows: has_fellows(node),
        is_master: node.engine().role.is_master(),
        told_ms: node.stopping.told_ms(),
        sessions: sessions(node),
        is_linked: node.replication.link_status() == LinkStatus::Up,
        leave: node.stopping.leave(),
    }
}

/// Whether the topology has another node for the slots of this one.
fn has_fellows(node: &Node) -> bool {
    let cluster = node.cluster.load();
    let (Some(me), Ok(topology)) = (cluster.myself(), cluster.topology()) else { return false };
    let master = |node: &topology::Node| match &node.role {
        topology::Role::Replica { of } => *of,
        topology::Role::Master => node.id,
    };
    topology.nodes.iter().any(|other| other.id != me.id && master(other) == master(me))
}

fn sessions(node: &Node) -> usize {
    let is_session = |client: &crate::clients::Client| {
        matches!(client.via, Via::Balancer { .. }) && !client.is_replica.load(Ordering::Relaxed)
    };
    node.clients.list().iter().filter(|client| is_session(client)).count()
}
