//! `/overview`: all clusters in short, the controller itself, and who asks. The web page asks for
//! it all the time, so an answer that has not changed is not sent again.

use api::health::Health;
use api::rest::{Actor, ClusterOverview, Data, Overview};
use axum::Extension;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;
use super::status::{status, told, troubles};
use super::table::Within;
use super::{App, tag};
use crate::cluster::Cluster;

pub(super) async fn show(
    registry: App,
    Extension(by): Extension<Actor>,
    Extension(within): Extension<Within>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let shared = &registry.shared;
    let mut clusters = registry.all();
    clusters.retain(|cluster| within.shows(&cluster.record().namespace));
    let data = Overview {
        by,
        term: shared.store.term(),
        leader: shared.lead.as_ref().map(|lead| lead.address()),
        alarms: told(troubles(&registry), &within),
        clusters: clusters.iter().map(|cluster| in_short(cluster)).collect(),
        within: within.0.to_vec(),
    };
    let text = serde_json::to_vec(&Data { data })
        .map_err(|error| ApiError::failed(format!("write the answer: {error}")))?;
    let tag = tag::of(&text);
    let heads = [(ETAG, tag.as_str()), (CACHE_CONTROL, "no-cache")];
    if tag::is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, heads).into_response());
    }
    Ok((heads, [(CONTENT_TYPE, "application/json")], text).into_response())
}

fn in_short(cluster: &Cluster) -> ClusterOverview {
    let paused = cluster.record().paused.as_ref().map(|paused| paused.reason.clone());
    // What is wrong with the controller is told once, and not with each cluster.
    let status = status(cluster, Vec::new());
    let nodes = || status.shards.iter().flat_map(|shard| &shard.nodes);
    ClusterOverview {
        healthy: status.healthy,
        paused,
        shards: status.shards.len(),
        stuck: status.shards.iter().filter(|shard| shard.state == "stuck").count(),
        nodes: nodes().count(),
        down: nodes().filter(|node| node.health == Health::Down).count(),
        moves: status.moves.len(),
        namespace: status.namespace,
        name: status.name,
        alarms: status.alarms,
    }
}
