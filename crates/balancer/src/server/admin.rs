//! The admin interface (`docs/protocol.md` §4), `/healthz` and `/metrics`.

use std::sync::Arc;

use api::balancer::{Desired, State as BalancerState};
use axum::extract::rejection::JsonRejection;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use web::{Door, Ends};

use super::table::{Refusal, Table};
use super::{Live, metrics};

/// `{"error":{"message":…}}`.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "error": { "message": self.1 } }))).into_response()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Older { .. } | Refusal::Ambiguous { .. } => StatusCode::CONFLICT,
            Refusal::Restarted { .. } => StatusCode::PRECONDITION_FAILED,
            Refusal::Twice(_) | Refusal::NoPort(_) => StatusCode::BAD_REQUEST,
            Refusal::Remaining(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, refusal.to_string())
    }
}

/// What a load balancer or a supervisor asks for.
const PROBES: &[&str] = &["/healthz"];

/// All routes. With a token everything but `/healthz` asks for it.
pub(super) fn router(table: Arc<Table>, live: Arc<Live>) -> Router {
    let names = Arc::clone(&live);
    Door::new(move || names.names(), PROBES, "allowed_hosts", say).before(routes(table, live))
}

/// Refusals of the door and of the server itself, in the form of all others.
fn say(status: StatusCode, message: String) -> Response {
    Failure(status, message).into_response()
}

fn routes(table: Arc<Table>, live: Arc<Live>) -> Router {
    let tls = Arc::clone(live.tls());
    let metrics = get(move |State(table): State<Arc<Table>>| async move {
        let page = metrics::render(&table, tls.ends_s());
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page)
    });
    Router::new()
        .route("/api/v1/state", get(state))
        .route("/api/v1/desired", put(desired))
        .route("/metrics", metrics)
        .route_layer(middleware::from_fn_with_state(live, authorize))
        .route("/healthz", get(health))
        .fallback(|| async { Failure(StatusCode::NOT_FOUND, "no such path".to_owned()) })
        .with_state(table)
}

async fn authorize(
    State(live): State<Arc<Live>>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    if !live.lets_in(given) {
        return Err(Failure(StatusCode::UNAUTHORIZED, "a token is required".to_owned()));
    }
    Ends::admit(&request);
    Ok(next.run(request).await)
}

async fn state(State(table): State<Arc<Table>>) -> Json<BalancerState> {
    Json(table.state())
}

async fn desired(
    State(table): State<Arc<Table>>,
    headers: HeaderMap,
    body: Result<Json<Desired>, JsonRejection>,
) -> Result<Json<BalancerState>, Failure> {
    let Json(desired) = body.map_err(|error| Failure(error.status(), error.body_text()))?;
    let expected = match headers.get(header::IF_MATCH).map(|value| value.to_str()) {
        None => None,
        Some(Ok(text)) => Some(text.trim_matches('"').to_owned()),
        Some(Err(_)) => return Err(Failure(StatusCode::BAD_REQUEST, "bad If-Match".to_owned())),
    };
    // A task of its own: a caller that hangs up must not leave the switch half-way.
    let applying = tokio::spawn(async move { table.apply(desired, expected.as_deref()).await });
    match applying.await {
        Ok(result) => Ok(Json(result?)),
        Err(error) => {
            tracing::error!(%error, "applying a desired state failed");
            Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, "applying failed".to_owned()))
        }
    }
}

/// Whether clients are served by this process, for those who choose among several: it starts
/// closed, and stays so until a controller has told it what to open. A frontend that a controller
/// has closed says nothing against the process.
async fn health(State(table): State<Arc<Table>>) -> Response {
    match table.trouble() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}
