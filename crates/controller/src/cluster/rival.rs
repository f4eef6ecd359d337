//! Asking a node who leads it, without leading it by that: where it refuses this controller's term
//! or store, and where the store was copied or moved.

use std::sync::Arc;

use api::heard::Told;
use planner::{Guard, Led, Time};

use super::{Cluster, Shared};
use crate::client::{ClientError, Connection};

/// What a node says to a term that is lower than one it has seen.
const OUTRANKED: &str = "ERR election version mismatch";

/// What a node says to a controller of a store that was left behind, or of another one (rule O7).
const OTHER_STORE: &str = "ERR store mismatch";

/// Nodes must have heard of nobody for so many heartbeats, at least [`QUIET_MS`].
const QUIET_BEATS: u64 = 5;
const QUIET_MS: u64 = 1_000;

/// For a store that was elsewhere before.
pub(crate) fn guard(shared: &Shared, from: String) -> Guard {
    let quiet_ms = QUIET_MS.max(QUIET_BEATS * shared.policy.heartbeat_ms);
    Guard { since: shared.now(), quiet_ms, from, rival: None }
}

/// The node refuses this controller, for another one's sake.
pub(super) fn is_outranked(error: &ClientError) -> bool {
    matches!(error, ClientError::Node(why) if why.starts_with(OUTRANKED) || why.starts_with(OTHER_STORE))
}

/// Asks. Older nodes do not know the question.
pub(crate) async fn ask(connection: &mut Connection) -> Result<Told, ClientError> {
    let value = connection.command(&["CLUSTERX", "CONTROLLER"]).await?;
    let told = value.as_str().and_then(Told::parse);
    told.ok_or(ClientError::Unexpected { command: "CLUSTERX CONTROLLER" })
}

/// Writes an answer down, if it is the node's own: what another cluster's node says of its
/// controller says nothing of this cluster. False if it is not, or the node has left.
pub(super) fn heard(cluster: &Arc<Cluster>, id: &str, told: &Told, sent_at: Time) -> bool {
    let was_guarded;
    {
        let mut state = cluster.state.lock();
        let is_nameless = told.cluster_id.is_empty() || told.cluster_id == "-";
        let is_own = told.myid == id
            && (is_nameless
                || state.record.cluster_id.is_empty()
                || told.cluster_id == state.record.cluster_id);
        if !is_own {
            return false;
        }
        let heard_at = told.heard_ms.map(|ms| {
            Time::from_nanos(sent_at.nanos().saturating_sub(ms.saturating_mul(1_000_000)))
        });
        let Some(node) = state.seen_of(id) else { return false };
        let store = told.store.store();
        node.led = Some(Led { term: told.term, heard_at, at: sent_at, store });
        state.observed.heard(id, sent_at);
        was_guarded = state.observed.guard.is_some();
        state.observed.guard = planner::guarded(&state.record, &state.observed);
        if was_guarded && state.observed.guard.is_none() {
            // From here on it asks as one that leads: what was said before is of others.
            state.observed.nodes.values_mut().for_each(|node| node.led = None);
            state.observed.started_at = cluster.shared.now();
        }
    }
    cluster.wake.notify_one();
    true
}
