//! By whom a request is: looked at once, before anything else is.
//!
//! A controller that does not lead looks as well, and passes on; the one that leads looks for
//! itself. A certificate it cannot see: of that the other one vouches, by the token that all have.

use std::net::IpAddr;
use std::sync::Arc;

use api::rest::{Actor, UserRole};
use api::time::utc;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use web::{Admission, Ends, certs};

use super::error::{ApiError, Outside, TooLow};
use super::forward::{self, Vouched};
use super::table::Within;
use crate::Live;
use crate::access::{Asks, CONFIGURED, Caller, OPEN, Verdict};
use crate::registry::Registry;

/// By what somebody was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    /// What the request carries, or nothing.
    Header,
    /// The certificate that was shown to this process.
    Certificate,
}

pub(super) async fn guard(
    State((registry, live)): State<(Arc<Registry>, Arc<Live>)>,
    mut request: Request,
    next: Next,
) -> Response {
    registry.shared.counters.requests.add(1);
    // Nothing of the request is held while the store may be waited for.
    let asked = asked(&request);
    let known = match asked {
        Ok(asked) => caller(&registry, &live, asked).await,
        Err(error) => Err(error),
    };
    let (Caller { by, namespaces, certificate }, means) = match known {
        Ok(caller) => caller,
        Err(error) => {
            registry.shared.counters.refused.add(1);
            return error.into_response();
        }
    };
    Ends::admit(&request);
    // What is this process's own is not for the leader.
    if !registry.shared.leads() && request.uri().path().starts_with("/api/") {
        let certificate = certificate.filter(|_| means == Means::Certificate);
        let vouches = certificate.map(|name| (live.config(), name));
        return forward::pass_on(&registry, (&by, vouches), request).await;
    }
    let asked = format!("{} {}", request.method(), request.uri().path());
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    request.extensions_mut().insert(by.clone());
    request.extensions_mut().insert(Within(namespaces.into()));
    let response = next.run(request).await;
    let Actor { who, role, from } = by;
    if let Some(TooLow { needs }) = response.extensions().get() {
        registry.shared.counters.refused.add(1);
        tracing::warn!(who, %role, from, %needs, "{asked}: refused, the role is too low");
    } else if response.extensions().get::<Outside>().is_some() {
        registry.shared.counters.refused.add(1);
        tracing::warn!(who, %role, from, "{asked}: refused, it is none of the user's namespaces");
    } else if changes {
        tracing::info!(who, %role, from, status = response.status().as_u16(), "{asked}");
    }
    response
}

/// What a request has to say of who asks.
struct Asked {
    given: Option<HeaderValue>,
    from: String,
    /// The names in the certificate that was shown.
    shown: Option<Vec<String>>,
    /// For whom another controller vouches.
    vouched: Option<Vouched>,
}

fn asked(request: &Request) -> Result<Asked, ApiError> {
    Ok(Asked {
        given: request.headers().get(AUTHORIZATION).cloned(),
        from: from(request),
        shown: shown(request)?,
        vouched: forward::vouched(request.headers()),
    })
}

/// Says by whom a request is. What it carries goes before what its connection has shown.
async fn caller(
    registry: &Registry,
    live: &Live,
    asked: Asked,
) -> Result<(Caller, Means), ApiError> {
    let Asked { given, from, shown, vouched } = asked;
    let given = given.as_ref().map(HeaderValue::as_bytes);
    let admin = |who: &str| {
        let by = Actor { who: who.to_owned(), role: UserRole::Admin, from: from.clone() };
        (Caller { by, namespaces: Vec::new(), certificate: None }, Means::Header)
    };
    let admission = live.admits(given);
    let (asks, means) = match (admission, web::bearer(given), &vouched, &shown) {
        // What has the token could ask for anything: by this it asks for less.
        (Admission::Token, _, Some(Vouched { user, certificate }), _) => {
            (Asks::Vouched { user, certificate }, Means::Header)
        }
        (Admission::Token, ..) => return Ok(admin(CONFIGURED)),
        (_, Some(token), ..) => (Asks::Token(token), Means::Header),
        (Admission::Open, ..) => return Ok(admin(OPEN)),
        (_, None, _, Some(names)) => (Asks::Certificate(names), Means::Certificate),
        (_, None, _, None) => {
            return Err(ApiError::unauthorized("send `Authorization: Bearer <token>`"));
        }
    };
    match registry.judge(asks, &from).await {
        Verdict::User(caller) => Ok((caller, means)),
        // A token that is not good is no less than none.
        _ if admission == Admission::Open => Ok(admin(OPEN)),
        verdict => Err(refusal(verdict, asks)),
    }
}

/// The names in the certificate that was shown, if one was.
fn shown(request: &Request) -> Result<Option<Vec<String>>, ApiError> {
    match Ends::shown(request) {
        Some(shown) if shown.ends_s < certs::now_s() => Err(ApiError::unauthorized(
            "the certificate of this connection has run out: connect anew",
        )),
        Some(shown) => Ok(Some(shown.names.clone())),
        None => Ok(None),
    }
}

/// Why what somebody asks by is not good.
fn refusal(verdict: Verdict, asks: Asks<'_>) -> ApiError {
    let is_token = matches!(asks, Asks::Token(_));
    match verdict {
        Verdict::Expired { name, at_ms } => {
            let what = if is_token { "this token of user" } else { "user" };
            ApiError::unauthorized(format!(
                "{what} {name} has expired at {} UTC: an admin makes another with `ctl user remove {name}` and `ctl user add {name}`",
                utc(at_ms)
            ))
        }
        Verdict::Several(names) => ApiError::unauthorized(format!(
            "this certificate stands for several users, {}: an admin removes all but one (`ctl user remove`)",
            names.join(", ")
        )),
        Verdict::Unknown | Verdict::User(_) if is_token => ApiError::unauthorized(
            "this token is nobody's: neither the controller's `token`, nor that of a user in `ctl user list`",
        ),
        Verdict::Unknown | Verdict::User(_) => ApiError::unauthorized(
            "this certificate stands for no user (`ctl user add NAME --certificate …`): send `Authorization: Bearer <token>`",
        ),
        Verdict::NotRead => {
            ApiError::not_done("the users are not read from the store yet: ask again")
        }
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
