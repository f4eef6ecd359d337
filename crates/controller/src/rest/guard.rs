//! By whom a request is: looked at once, before anything else is.
//!
//! A controller that does not lead looks as well, and passes on; the one that leads looks for
//! itself.

use std::net::IpAddr;
use std::sync::Arc;

use api::rest::{Actor, UserRole};
use api::time::utc;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use web::{Admission, Ends};

use super::error::{ApiError, TooLow};
use super::forward;
use crate::Live;
use crate::access::{CONFIGURED, OPEN, Verdict};
use crate::registry::Registry;

pub(super) async fn guard(
    State((registry, live)): State<(Arc<Registry>, Arc<Live>)>,
    mut request: Request,
    next: Next,
) -> Response {
    registry.shared.counters.requests.add(1);
    let (given, from) = (request.headers().get(AUTHORIZATION).cloned(), from(&request));
    let by = match actor(&registry, &live, given, from).await {
        Ok(by) => by,
        Err(error) => {
            registry.shared.counters.refused.add(1);
            return error.into_response();
        }
    };
    Ends::admit(&request);
    // What is this process's own is not for the leader.
    if !registry.shared.leads() && request.uri().path().starts_with("/api/") {
        return forward::pass_on(&registry, &by, request).await;
    }
    let asked = format!("{} {}", request.method(), request.uri().path());
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    request.extensions_mut().insert(by.clone());
    let response = next.run(request).await;
    let Actor { who, role, from } = by;
    if let Some(TooLow { needs }) = response.extensions().get() {
        registry.shared.counters.refused.add(1);
        tracing::warn!(who, %role, from, %needs, "{asked}: refused, the role is too low");
    } else if changes {
        tracing::info!(who, %role, from, status = response.status().as_u16(), "{asked}");
    }
    response
}

/// Says by whom a request is that carries this header and came from there.
async fn actor(
    registry: &Registry,
    live: &Live,
    given: Option<HeaderValue>,
    from: String,
) -> Result<Actor, ApiError> {
    let given = given.as_ref().map(HeaderValue::as_bytes);
    let admin =
        |who: &str| Actor { who: who.to_owned(), role: UserRole::Admin, from: from.clone() };
    let admission = live.admits(given);
    if admission == Admission::Token {
        return Ok(admin(CONFIGURED));
    }
    let verdict = match web::bearer(given) {
        Some(token) => registry.judge(token, &from).await,
        None if admission == Admission::Open => return Ok(admin(OPEN)),
        None => return Err(ApiError::unauthorized("send `Authorization: Bearer <token>`")),
    };
    match verdict {
        Verdict::User(by) => Ok(by),
        // A token that is not good is no less than none.
        _ if admission == Admission::Open => Ok(admin(OPEN)),
        Verdict::Expired { name, at_ms } => Err(ApiError::unauthorized(format!(
            "this token of user {name} has expired at {} UTC: an admin makes another with `ctl user remove {name}` and `ctl user add {name}`",
            utc(at_ms)
        ))),
        Verdict::Unknown => Err(ApiError::unauthorized(
            "this token is nobody's: neither the controller's `token`, nor that of a user in `ctl user list`",
        )),
        Verdict::NotRead => Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the users are not read from the store yet: ask again",
        )),
    }
}

/// The other end of the connection; where another controller passed the request on, also what it
/// says of its own.
fn from(request: &Request) -> String {
    let peer = Ends::peer(request).map_or("?".to_owned(), |peer| peer.to_string());
    let said = request.headers().get(forward::CLIENT).and_then(|said| said.to_str().ok());
    match said.and_then(|said| said.parse::<IpAddr>().ok()) {
        Some(said) if request.headers().contains_key(forward::HOP) => {
            format!("{said} by way of {peer}")
        }
        _ => peer,
    }
}
