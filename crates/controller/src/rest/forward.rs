//! Requests to a controller that does not lead: passed on to the one that does, one hop (rule O10).

use std::sync::Arc;
use std::time::Duration;

use api::rest::Actor;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;
use crate::config::Config;
use crate::registry::Registry;

/// Says that a request was passed on already.
pub(super) const HOP: &str = "x-holdfast-passed-on";
/// From which address it came to whoever passed it on.
pub(super) const CLIENT: &str = "x-holdfast-client";
/// The user for whose certificate whoever passed it on vouches, by the configured token.
const VOUCHED: &str = "x-holdfast-vouched";
/// The name in that certificate by which it is the user's.
const CERTIFICATE: &str = "x-holdfast-vouched-certificate";
/// Header of requests that means something to their handlers.
const UNCHECKED: &str = "x-dont-check-cluster-mode";
/// Largest body of a request, bytes, as the server has it for its own.
const BODY_MAX: usize = 2 << 20;
/// Longest wait for the leader: switchovers and what is put back of an export take their time.
const LIMIT: Duration = Duration::from_secs(900);

/// The user for whose certificate another controller vouches, and the name in that certificate.
pub(super) struct Vouched {
    pub(super) user: String,
    pub(super) certificate: String,
}

/// For whom another controller vouches. Whether it may is for the token beside.
pub(super) fn vouched(headers: &HeaderMap) -> Option<Vouched> {
    let is_passed_on = headers.contains_key(HOP);
    let user = headers.get(VOUCHED).filter(|_| is_passed_on)?;
    // What is no name is no user's, and not the token's either.
    let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec());
    let certificate = headers.get(CERTIFICATE).and_then(|value| text(value).ok());
    let user = text(user).unwrap_or_default();
    Some(Vouched { user, certificate: certificate.unwrap_or_default() })
}

/// The leader's answer. With a configuration this process vouches for a certificate of that name,
/// which it was shown.
pub(super) async fn pass_on(
    registry: &Registry,
    by: (&Actor, Option<(Arc<Config>, String)>),
    request: Request,
) -> Response {
    match exchange(registry, by, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn exchange(
    registry: &Registry,
    (by, vouches): (&Actor, Option<(Arc<Config>, String)>),
    request: Request,
) -> Result<Response, ApiError> {
    let away = |why: String| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, why);
    let (head, body) = request.into_parts();
    if head.headers.contains_key(HOP) {
        return Err(ApiError::not_done(
            "this controller does not lead, and the request was passed on already: ask again",
        ));
    }
    let leader = registry.shared.lead.as_ref().and_then(|lead| lead.leader());
    let nobody = || ApiError::not_done("no controller leads at the moment: ask again");
    let leader = leader.ok_or_else(nobody)?;
    let body = axum::body::to_bytes(body, BODY_MAX).await;
    let body = body.map_err(|error| away(error.to_string()))?;
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut passed = registry
        .passing
        .request(head.method, format!("{}{path}", leader.trim_end_matches('/')))
        .timeout(LIMIT)
        .header(HOP, "1")
        .header(CLIENT, &by.from)
        .body(body);
    let vouched = vouches.is_some();
    if let Some((config, certificate)) = vouches {
        let token = config.token.as_deref().filter(|_| leader.starts_with("https://"));
        // A token of an admin goes nowhere in clear.
        let token = token.ok_or_else(|| {
            away(format!("this controller does not lead, and the one that does, {leader}, is not `https://`: ask that one"))
        })?;
        passed = passed.bearer_auth(token).header(VOUCHED, &by.who);
        passed = passed.header(CERTIFICATE, certificate.as_bytes());
    }
    for name in [AUTHORIZATION.as_str(), CONTENT_TYPE.as_str(), UNCHECKED] {
        // There is one of them, and it is this process's then.
        let is_taken = vouched && name == AUTHORIZATION.as_str();
        if let Some(value) = head.headers.get(name).filter(|_| !is_taken) {
            passed = passed.header(name, value);
        }
    }
    let answer = passed.send().await.map_err(|error| {
        let why = format!("the controller that leads, {leader}, does not answer");
        match error.is_connect() {
            true => ApiError::not_done(format!("{why}: {error}")),
            false => ApiError::unknown(format!("{why}; whether it was done is not known: {error}")),
        }
    })?;
    let (status, kind) = (answer.status(), answer.headers().get(CONTENT_TYPE).cloned());
    let text = answer.bytes().await.map_err(|error| {
        let why = "has not answered to the end";
        ApiError::unknown(format!("the controller that leads, {leader}, {why}: {error}"))
    })?;
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    Ok(response)
}
