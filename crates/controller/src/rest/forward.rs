//! Requests to a controller that does not lead: passed on to the one that does, one hop (rule O10).

use std::time::Duration;

use api::rest::Actor;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;
use crate::registry::Registry;

/// Says that a request was passed on already.
pub(super) const HOP: &str = "x-holdfast-passed-on";
/// From which address it came to whoever passed it on.
pub(super) const CLIENT: &str = "x-holdfast-client";
/// Header of requests that means something to their handlers.
const UNCHECKED: &str = "x-dont-check-cluster-mode";
/// Largest body of a request, bytes, as the server has it for its own.
const BODY_MAX: usize = 2 << 20;
/// Longest wait for the leader: switchovers and what is put back of an export take their time.
const LIMIT: Duration = Duration::from_secs(900);

/// The leader's answer.
pub(super) async fn pass_on(registry: &Registry, by: &Actor, request: Request) -> Response {
    match exchange(registry, by, request).await {
        Ok(response) => response,
        Err(why) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

async fn exchange(registry: &Registry, by: &Actor, request: Request) -> Result<Response, String> {
    let (head, body) = request.into_parts();
    if head.headers.contains_key(HOP) {
        return Err(
            "this controller does not lead, and the request was passed on already: ask again"
                .to_owned(),
        );
    }
    let leader = registry.shared.lead.as_ref().and_then(|lead| lead.leader());
    let leader = leader.ok_or("no controller leads at the moment: ask again")?;
    let body = axum::body::to_bytes(body, BODY_MAX).await.map_err(|error| error.to_string())?;
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut passed = registry
        .passing
        .request(head.method, format!("{}{path}", leader.trim_end_matches('/')))
        .timeout(LIMIT)
        .header(HOP, "1")
        .header(CLIENT, &by.from)
        .body(body);
    for name in [AUTHORIZATION.as_str(), CONTENT_TYPE.as_str(), UNCHECKED] {
        if let Some(value) = head.headers.get(name) {
            passed = passed.header(name, value);
        }
    }
    let answer = passed.send().await.map_err(|error| {
        let is_sent = !error.is_connect();
        let done = if is_sent { "; whether it was done is not known" } else { "" };
        format!("the controller that leads, {leader}, does not answer{done}: {error}")
    })?;
    let (status, kind) = (answer.status(), answer.headers().get(CONTENT_TYPE).cloned());
    let text = answer.bytes().await.map_err(|error| {
        format!("the controller that leads, {leader}, has not answered to the end: {error}")
    })?;
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    Ok(response)
}
