//! `/overview`: all clusters in short, the controller itself, and who asks. The web page asks for
//! it all the time: so one is made for all who ask at one moment, one that has not changed is not
//! sent again, and a request may wait for the change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::health::Health;
use api::rest::{Actor, ClusterOverview, Data, Overview};
use axum::Extension;
use axum::extract::Query;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Semaphore;

use super::error::ApiError;
use super::status::{status, told, troubles};
use super::table::Within;
use super::{App, tag};
use crate::cluster::Cluster;
use crate::registry::Seen;

/// Longest time that a request may wait, ms, and how often it looks meanwhile.
const WAIT_MAX_MS: u64 = 10_000;
const LOOK: Duration = Duration::from_millis(250);

/// Requests that wait at a time: each keeps its place at the port. Others are answered at once.
static WAITING: Semaphore = Semaphore::const_new(64);

pub(super) async fn show(
    registry: App,
    Extension(by): Extension<Actor>,
    Extension(within): Extension<Within>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let until = Instant::now() + wait(&query)?;
    let place = WAITING.try_acquire();
    let mut seen = seen_now(&registry);
    let mut text = written(&registry, &by, &within, &seen)?;
    let mut tag = tag::of(&text);
    // One that leads no more has nothing to wait for.
    while tag::is_known(&headers, &tag) && place.is_ok() && registry.shared.leads() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        tokio::time::sleep(LOOK.min(left)).await;
        let newest = seen_now(&registry);
        if !Arc::ptr_eq(&newest, &seen) {
            text = written(&registry, &by, &within, &newest)?;
            tag = tag::of(&text);
            seen = newest;
        }
    }
    let heads = [(ETAG, tag.as_str()), (CACHE_CONTROL, "no-cache")];
    if tag::is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, heads).into_response());
    }
    Ok((heads, [(CONTENT_TYPE, "application/json")], text).into_response())
}

/// For how long a request waits that has what there is.
fn wait(query: &BTreeMap<String, String>) -> Result<Duration, ApiError> {
    let Some(text) = query.get("wait_ms") else { return Ok(Duration::ZERO) };
    let ms = text.parse::<u64>().ok().filter(|ms| *ms <= WAIT_MAX_MS);
    let accepted = || ApiError::bad(format!("wait_ms is `{text}`; accepted: 0 to {WAIT_MAX_MS}"));
    ms.map(Duration::from_millis).ok_or_else(accepted)
}

fn seen_now(registry: &App) -> Arc<Seen> {
    registry.in_short.newest(registry.shared.now(), || {
        let clusters = registry.all().iter().map(|cluster| in_short(cluster)).collect();
        Seen { troubles: troubles(registry), clusters }
    })
}

/// The answer: what of that its reader may see.
fn written(registry: &App, by: &Actor, within: &Within, seen: &Seen) -> Result<Vec<u8>, ApiError> {
    let shared = &registry.shared;
    let shown = seen.clusters.iter().filter(|cluster| within.shows(&cluster.namespace));
    let data = Overview {
        by: by.clone(),
        within: within.0.to_vec(),
        term: shared.store.term(),
        leader: shared.lead.as_ref().map(|lead| lead.address()),
        alarms: told(seen.troubles.clone(), within),
        clusters: shown.cloned().collect(),
    };
    serde_json::to_vec(&Data { data })
        .map_err(|error| ApiError::failed(format!("write the answer: {error}")))
}

fn in_short(cluster: &Cluster) -> ClusterOverview {
    let paused = cluster.record().paused.as_ref().map(|paused| paused.reason.clone());
    // What is wrong with the controller is told once, and not with each cluster.
    let status = status(cluster, Vec::new());
    let nodes = || status.shards.iter().flat_map(|shard| &shard.nodes);
    ClusterOverview {
        version: status.version,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_number_of_ms_that_is_not_too_large() {
        let of = |text: &str| wait(&BTreeMap::from([("wait_ms".to_owned(), text.to_owned())]));
        assert_eq!(wait(&BTreeMap::new()).expect("none"), Duration::ZERO);
        assert_eq!(of("0").expect("none"), Duration::ZERO);
        assert_eq!(of("10000").expect("the longest"), Duration::from_secs(10));
        for wrong in ["", "10001", "-1", "1s", "99999999999999999999"] {
            let told = of(wrong).expect_err(wrong).to_string();
            assert!(told.contains(&format!("`{wrong}`; accepted: 0 to 10000")), "{told}");
        }
    }
}
