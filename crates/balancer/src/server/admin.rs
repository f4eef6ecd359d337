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

use super::metrics;
use super::table::{Refusal, Table};

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
            Refusal::Remaining(_) | Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, refusal.to_string())
    }
}

/// All routes. With a token everything but `/healthz` asks for it.
pub(super) fn router(table: Arc<Table>, token: Option<String>) -> Router {
    let token: Arc<Option<String>> = Arc::new(token);
    Router::new()
        .route("/api/v1/state", get(state))
        .route("/api/v1/desired", put(desired))
        .route("/metrics", get(show_metrics))
        .route_layer(middleware::from_fn_with_state(token, authorize))
        .route("/healthz", get(health))
        .fallback(|| async { Failure(StatusCode::NOT_FOUND, "no such path".to_owned()) })
        .with_state(table)
}

async fn authorize(
    State(token): State<Arc<Option<String>>>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    if let Some(token) = token.as_ref() {
        let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
        if !given.is_some_and(|given| same(given, token.as_bytes())) {
            return Err(Failure(StatusCode::UNAUTHORIZED, "a token is required".to_owned()));
        }
    }
    Ok(next.run(request).await)
}

/// Compares in a time that does not tell how much was right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
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

/// Whether clients are served by this process, for those who choose among several: it starts closed, and stays so until a
/// controller has told it what to open. A frontend that a controller has closed says nothing against the process.
async fn health(State(table): State<Arc<Table>>) -> Response {
    match table.trouble() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}

async fn show_metrics(State(table): State<Arc<Table>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::render(&table))
}
