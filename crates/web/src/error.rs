//! Errors that no handler made – no such method, a body too long – in the words and form of all
//! others.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

/// How a process tells of a failure: its form of JSON.
pub type Say = fn(StatusCode, String) -> Response;

/// Longest text of a refusal that is read.
const TEXT_MAX: usize = 64 << 10;

/// A layer, outside of all routes: gives refusals that are not JSON the form of `say`.
pub async fn in_json(State(say): State<Say>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(200).collect();
    let response = next.run(request).await;
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    let is_json = kind.is_some_and(|kind| kind.starts_with(b"application/json"));
    if !status.is_client_error() || is_json {
        return response;
    }
    let allowed = response.headers().get(header::ALLOW).cloned();
    let words = words(&method, &path, response).await;
    let mut response = say(status, words);
    if let Some(allowed) = allowed {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

async fn words(method: &Method, path: &str, response: Response<Body>) -> String {
    let status = response.status();
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            let allowed = accepted(response.headers());
            return format!("{path} does not take {method}; it takes {allowed}");
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            return "the body is too long; at most 2 MiB are read".to_owned();
        }
        _ => {}
    }
    let text = to_bytes(response.into_body(), TEXT_MAX).await.unwrap_or_default();
    match String::from_utf8_lossy(&text).trim() {
        "" => status.canonical_reason().unwrap_or("refused").to_lowercase(),
        text => text.to_owned(),
    }
}

fn accepted(headers: &HeaderMap) -> String {
    let allowed = headers.get(header::ALLOW).and_then(|allowed| allowed.to_str().ok());
    allowed.unwrap_or("nothing").replace(',', ", ")
}
