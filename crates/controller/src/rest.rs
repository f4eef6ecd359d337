//! The REST interface: routes, authentication, errors. Handlers are grouped by what they touch.

mod balancers;
mod clusters;
mod deposed;
mod discarded;
mod error;
mod forward;
mod import;
mod intent;
mod loss;
mod moves;
mod namespaces;
mod nodes;
mod probe;
mod release;
mod shards;
mod status;
mod switchover;
mod view;
mod weights;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use planner::{Record, Shard, ShardId};
use serde::de::DeserializeOwned;
use web::Door;

use self::error::ApiError;
use crate::Live;
use crate::cluster::Cluster;
use crate::registry::Registry;

/// What every handler gets.
type App = State<Arc<Registry>>;

/// What a load balancer or a supervisor asks for.
const PROBES: &[&str] = &["/healthz"];

/// All routes.
pub(crate) fn router(registry: Arc<Registry>, live: Arc<Live>) -> Router {
    let names = Arc::clone(&live);
    Door::new(move || names.names(), PROBES, "allowed_hosts", error::say)
        .before(routes(registry, live))
}

fn routes(registry: Arc<Registry>, live: Arc<Live>) -> Router {
    const CLUSTERS: &str = "/api/v1/namespaces/{ns}/clusters";
    let cluster = |rest: &str| format!("{CLUSTERS}/{{c}}{rest}");
    Router::new()
        .route("/api/v1/namespaces", get(namespaces::list).post(namespaces::create))
        .route("/api/v1/namespaces/{ns}", get(namespaces::show).delete(namespaces::remove))
        .route(CLUSTERS, get(clusters::list).post(clusters::create))
        .route(&cluster(""), get(clusters::show).patch(clusters::change).delete(clusters::remove))
        .route(&cluster("/import"), post(import::import))
        .route(&cluster("/release"), post(release::release))
        .route(&cluster("/status"), get(status::show))
        .route(&cluster("/events"), get(status::events_of))
        .route(&cluster("/balancers"), get(balancers::list).post(balancers::add))
        .route(&cluster("/balancers/{name}"), delete(balancers::remove))
        .route(&cluster("/nodes/{id}"), patch(nodes::change_anywhere))
        .route(&cluster("/shards"), get(shards::list).post(shards::create))
        .route(&cluster("/shards/{i}"), get(shards::show).delete(shards::remove))
        .route(&cluster("/shards/{i}/failover"), post(switchover::failover))
        .route(&cluster("/shards/{i}/accept-loss"), post(loss::accept))
        .route(&cluster("/shards/{i}/restore-deposed"), post(deposed::restore))
        .route(&cluster("/discarded"), get(discarded::list))
        .route(&cluster("/discarded/{id}/{file}"), get(discarded::show))
        .route(&cluster("/discarded/{id}/{file}/apply"), post(discarded::apply))
        .route(&cluster("/shards/{i}/drain"), post(moves::drain))
        .route(&cluster("/rebalance"), post(moves::rebalance))
        .route(&cluster("/moves"), get(moves::list).post(moves::queue))
        .route(&cluster("/moves/{id}"), get(moves::show).patch(moves::change).delete(moves::cancel))
        .route(&cluster("/shards/{i}/nodes"), get(nodes::list).post(nodes::add))
        .route(&cluster("/shards/{i}/nodes/{id}"), delete(nodes::remove).patch(nodes::change))
        .route("/api/v1/events", get(status::events))
        .route("/metrics", get(status::metrics))
        .fallback(|| async { ApiError::not_found("not found") })
        .layer(middleware::from_fn_with_state((Arc::clone(&registry), live), guard))
        .route("/healthz", get(health))
        .with_state(registry)
}

/// Whether a failover could be carried out now, and not only whether somebody listens.
async fn health(registry: App) -> Response {
    match registry.trouble() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}

async fn guard(
    State((registry, live)): State<(Arc<Registry>, Arc<Live>)>,
    request: Request,
    next: Next,
) -> Response {
    registry.shared.counters.requests.add(1);
    let given = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    if !live.lets_in(given) {
        return ApiError::unauthorized().into_response();
    }
    // What is this process's own is not for the leader.
    if registry.shared.leads() || !request.uri().path().starts_with("/api/") {
        return next.run(request).await;
    }
    forward::pass_on(&registry, request).await
}

/// Reads a JSON body; an empty one counts as `{}`.
fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, ApiError> {
    let text: &[u8] = if bytes.iter().all(u8::is_ascii_whitespace) { b"{}" } else { bytes };
    serde_json::from_slice(text).map_err(|error| ApiError::bad(format!("request body: {error}")))
}

fn find(registry: &Registry, namespace: &str, name: &str) -> Result<Arc<Cluster>, ApiError> {
    registry
        .get(namespace, name)
        .ok_or_else(|| ApiError::not_found(format!("cluster {namespace}/{name}: not found")))
}

/// The index of the shard that a path names: by its lasting id, or by where it stands now.
fn shard_index(text: &str, record: &Record) -> Result<usize, ApiError> {
    if let Ok(id) = text.parse::<ShardId>() {
        let place = record.place_of(id);
        return place.ok_or_else(|| ApiError::not_found(format!("shard {id}: not found")));
    }
    let index: usize = text
        .parse()
        .map_err(|_| ApiError::bad(format!("shard `{text}` is neither an index nor an id")))?;
    let count = record.shards.len();
    if index < count {
        return Ok(index);
    }
    Err(ApiError::bad(format!(
        "shard index out of range: there are {count} shards, the first is 0, and {index} is none"
    )))
}

/// The shard that stood at `index` when it was `id`: others may have been removed since.
fn shard_again(record: &mut Record, index: usize, id: ShardId) -> Result<&mut Shard, String> {
    let index = if id.is_none() { Some(index) } else { record.place_of(id) };
    let shard = index.and_then(|index| record.shards.get_mut(index));
    shard.ok_or_else(|| "the shard was removed by others".to_owned())
}

/// A name for a shard that is added.
fn new_shard_id() -> ShardId {
    ShardId(rand::random::<std::num::NonZeroU64>().get())
}
