//! The REST interface: who asks ([`guard`]), what can be asked by whom ([`rows`]), errors.
//! Handlers are grouped by what they touch.

mod balancers;
mod certificates;
mod clusters;
mod deposed;
mod discarded;
mod error;
mod forward;
mod guard;
mod import;
mod intent;
mod loss;
mod moves;
mod namespaces;
mod nodes;
mod overview;
mod page;
mod probe;
mod release;
mod shards;
mod slots;
mod status;
mod store;
mod switchover;
mod table;
mod tag;
mod users;
mod view;
mod weights;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::rest::UserRole::{Admin, Operator, Viewer};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware, routing};
use planner::{Record, Shard, ShardId};
use serde::de::DeserializeOwned;
use web::Door;

use self::error::ApiError;
use self::table::{Row, delete, get, patch, post};
use crate::Live;
use crate::cluster::Cluster;
use crate::lead::known::{HEARS, HOLDS};
use crate::registry::Registry;

/// What every handler gets.
type App = State<Arc<Registry>>;

const CLUSTERS: &str = "/api/v1/namespaces/{ns}/clusters";

/// What a load balancer or a supervisor asks for.
const PROBES: &[&str] = &["/healthz"];

/// All routes.
pub(crate) fn router(registry: Arc<Registry>, live: Arc<Live>) -> Router {
    let names = Arc::clone(&live);
    Door::new(move || names.names(), PROBES, "allowed_hosts", error::say)
        .before(routes(registry, live))
}

/// All routes but that of health checks, which asks nobody for a token.
fn rows() -> Vec<Row> {
    let mut rows = vec![
        get("/api/v1/overview", Viewer, overview::show),
        get("/api/v1/namespaces", Viewer, namespaces::list),
        post("/api/v1/namespaces", Admin, namespaces::create),
        get("/api/v1/namespaces/{ns}", Viewer, namespaces::show),
        delete("/api/v1/namespaces/{ns}", Admin, namespaces::remove),
        get("/api/v1/users", Admin, users::list),
        post("/api/v1/users", Admin, users::add),
        delete("/api/v1/users/{name}", Admin, users::remove),
        get("/api/v1/store", Viewer, store::show),
        // All secrets that the store has.
        get("/api/v1/store/export", Admin, store::export),
        post("/api/v1/store/reseal", Admin, store::reseal),
        get("/api/v1/events", Viewer, status::events),
        get("/api/v1/openapi.json", Viewer, openapi),
        get("/metrics", Viewer, status::metrics),
        // As the numbers: of this process.
        get("/certificates", Viewer, certificates::own),
        get(CLUSTERS, Viewer, clusters::list),
        post(CLUSTERS, Admin, clusters::create),
    ];
    rows.extend(of_cluster());
    rows.extend(of_shards());
    rows
}

fn cluster(rest: &str) -> String {
    format!("{CLUSTERS}/{{c}}{rest}")
}

fn of_cluster() -> Vec<Row> {
    vec![
        get(cluster(""), Viewer, clusters::show),
        // To pause; what a cluster promises, and its password, are an admin's.
        patch(cluster(""), Operator, clusters::change),
        delete(cluster(""), Admin, clusters::remove),
        post(cluster("/import"), Admin, import::import),
        post(cluster("/release"), Admin, release::release),
        get(cluster("/status"), Viewer, status::show),
        get(cluster("/events"), Viewer, status::events_of),
        get(cluster("/certificates"), Viewer, certificates::list),
        get(cluster("/balancers"), Viewer, balancers::list),
        post(cluster("/balancers"), Operator, balancers::add),
        patch(cluster("/balancers/{name}"), Operator, balancers::change),
        delete(cluster("/balancers/{name}"), Operator, balancers::remove),
        patch(cluster("/nodes/{id}"), Operator, nodes::change_anywhere),
        get(cluster("/discarded"), Viewer, discarded::list),
        // Keys and values of clients.
        get(cluster("/discarded/{id}/{file}"), Operator, discarded::show),
        post(cluster("/discarded/{id}/{file}/apply"), Admin, discarded::apply),
        get(cluster("/moves"), Viewer, moves::list),
        post(cluster("/moves"), Operator, moves::queue),
        get(cluster("/moves/{id}"), Viewer, moves::show),
        patch(cluster("/moves/{id}"), Operator, moves::change),
        delete(cluster("/moves/{id}"), Operator, moves::cancel),
        post(cluster("/migrate"), Operator, moves::migrate),
        post(cluster("/rebalance"), Operator, moves::rebalance),
    ]
}

fn of_shards() -> Vec<Row> {
    vec![
        get(cluster("/shards"), Viewer, shards::list),
        // A node that is added is sent the nodes' password, whoever it is.
        post(cluster("/shards"), Admin, shards::create),
        get(cluster("/shards/{i}"), Viewer, shards::show),
        delete(cluster("/shards/{i}"), Operator, shards::remove),
        post(cluster("/shards/{i}/failover"), Operator, switchover::failover),
        post(cluster("/shards/{i}/accept-loss"), Admin, loss::accept),
        post(cluster("/shards/{i}/restore-deposed"), Admin, deposed::restore),
        post(cluster("/shards/{i}/drain"), Operator, moves::drain),
        get(cluster("/shards/{i}/nodes"), Viewer, nodes::list),
        post(cluster("/shards/{i}/nodes"), Admin, nodes::add),
        delete(cluster("/shards/{i}/nodes/{id}"), Operator, nodes::remove),
        patch(cluster("/shards/{i}/nodes/{id}"), Operator, nodes::change),
    ]
}

fn routes(registry: Arc<Registry>, live: Arc<Live>) -> Router {
    table::router(rows())
        .fallback(|| async { ApiError::not_found("not found") })
        .layer(middleware::from_fn_with_state((Arc::clone(&registry), live), guard::guard))
        // Added after the guard, which asks for a token before all routes above.
        .route("/healthz", routing::get(health))
        .merge(page::routes())
        .with_state(registry)
}

/// Whether a failover could be carried out now, and not only whether somebody listens. A controller
/// that stands by asks as well, and says what it hears of nodes.
async fn health(registry: App, headers: HeaderMap) -> Response {
    let hears = headers.get(HEARS).and_then(|hears| hears.to_str().ok());
    let lead = registry.shared.lead.as_ref();
    if let Some((lead, hears)) = lead.zip(hears) {
        lead.told(hears, registry.shared.now());
    }
    let mut answer = match registry.unready() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    };
    if let Some(lead) = lead {
        let held = HeaderValue::from(lead.holds().unwrap_or(0));
        answer.headers_mut().insert(HOLDS, held);
    }
    answer
}

/// What can be asked, for programs.
async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], api::openapi::DOCUMENT).into_response()
}

/// Reads a JSON body; an empty one counts as `{}`.
fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, ApiError> {
    let text: &[u8] = if bytes.iter().all(u8::is_ascii_whitespace) { b"{}" } else { bytes };
    serde_json::from_slice(text).map_err(|error| ApiError::bad(format!("request body: {error}")))
}

/// A word of the query; without it: no.
fn yes_or_no(query: &BTreeMap<String, String>, name: &str) -> Result<bool, ApiError> {
    match query.get(name).map(String::as_str) {
        None | Some("no") => Ok(false),
        Some("yes") => Ok(true),
        Some(other) => Err(ApiError::bad(format!("{name} `{other}` is none of yes, no"))),
    }
}

fn find(registry: &Registry, namespace: &str, name: &str) -> Result<Arc<Cluster>, ApiError> {
    if let Some(cluster) = registry.get(namespace, name) {
        return Ok(cluster);
    }
    let cluster = format!("cluster {namespace}/{name}");
    Err(match registry.unread(namespace, name) {
        Some(why) => {
            let words = format!("{cluster}: its record in the store cannot be read: {why}");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, words)
        }
        None => ApiError::not_found(format!("{cluster}: not found")),
    })
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
