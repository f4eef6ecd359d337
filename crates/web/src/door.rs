//! Which requests are let in at all: see the crate's page.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::connect_info::{Connected, IntoMakeServiceWithConnectInfo};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::serve::IncomingStream;
use tokio::net::TcpListener;

use crate::authority::{Authority, Names};
use crate::body::Timed;
use crate::bounded::{BODY, Bounded, Conduct};
use crate::error::{Say, in_json};
use crate::listener::{Listener, Shown};

/// Both ends of a connection, and what it is doing.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The address of this machine that it was made to.
    local: Option<IpAddr>,
    peer: IpAddr,
    /// `None` where connections are not counted.
    conduct: Option<Arc<Conduct>>,
    /// `None` where nobody is asked for a certificate.
    shown: Option<Arc<OnceLock<Shown>>>,
}

impl Ends {
    fn of(local: Option<SocketAddr>, peer: SocketAddr, conduct: Option<&Arc<Conduct>>) -> Self {
        let local = local.map(|address| address.ip().to_canonical());
        Self { local, peer: peer.ip().to_canonical(), conduct: conduct.cloned(), shown: None }
    }

    /// The certificate that the client of a [`service`] has shown; its CA was looked at.
    pub fn shown(request: &Request) -> Option<&Shown> {
        request.extensions().get::<ConnectInfo<Self>>()?.0.shown.as_ref()?.get()
    }

    /// From where a request of a [`service`] came: the other end of its connection.
    pub fn peer(request: &Request) -> Option<IpAddr> {
        let info = request.extensions().get::<ConnectInfo<Self>>()?;
        Some(info.0.peer)
    }

    /// Says of a request of a [`service`] that it may come in: where places are short, its
    /// connection keeps its own before those that have shown no token.
    pub fn admit(request: &Request) {
        if let Some(conduct) = conduct(request) {
            conduct.know();
        }
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Ends {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self::of(stream.io().local_addr().ok(), *stream.remote_addr(), None)
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Ends {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        let io = stream.io();
        Self::of(io.local_addr().ok(), *stream.remote_addr(), Some(io.conduct()))
    }
}

impl Connected<IncomingStream<'_, Listener>> for Ends {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        let io = stream.io();
        let ends = Self::of(io.local_addr(), *stream.remote_addr(), Some(io.conduct()));
        Self { shown: Some(Arc::clone(io.shown())), ..ends }
    }
}

/// What [`axum::serve`] takes, so that a [`Door`] knows where a connection arrived, and handlers
/// from where it came.
pub fn service(router: Router) -> IntoMakeServiceWithConnectInfo<Router, Ends> {
    router.into_make_service_with_connect_info::<Ends>()
}

/// Lets in only who names this listener and comes from no other origin.
#[derive(Clone)]
pub struct Door {
    names: Arc<dyn Fn() -> Names + Send + Sync>,
    /// Paths that health checks ask for. They say nothing that is worth a trick, and their Host is
    /// often missing, or an address that a router moved here.
    probes: &'static [&'static str],
    /// The option that names more hosts, for the text of a refusal.
    option: &'static str,
    say: Say,
}

/// A refusal: status and words.
type Refused = (StatusCode, String);

impl Door {
    /// `names` is asked at every request, so that it may change.
    pub fn new(
        names: impl Fn() -> Names + Send + Sync + 'static,
        probes: &'static [&'static str],
        option: &'static str,
        say: Say,
    ) -> Self {
        Self { names: Arc::new(names), probes, option, say }
    }

    /// Puts the door, errors as JSON, and a limit for the bodies of requests before all routes and
    /// fallbacks that `router` has.
    pub fn before(self, router: Router) -> Router {
        let say = self.say;
        // As one service: a layer on the routes themselves is inside of what adds `Allow` to a 405.
        Router::new()
            .fallback_service(router)
            .layer(middleware::from_fn_with_state(self, enter))
            .layer(middleware::from_fn_with_state(say, in_json))
            .layer(middleware::from_fn(serve))
    }

    fn check(&self, request: &Request) -> Result<(), Refused> {
        let ends = request.extensions().get::<ConnectInfo<Ends>>();
        let local = ends.and_then(|ends| ends.0.local);
        let is_probe = self.probes.contains(&request.uri().path())
            && matches!(*request.method(), Method::GET | Method::HEAD);
        let host = self.host(request, is_probe)?;
        if let Some(host) = &host {
            self.is_ours(host, local, is_probe)?;
        }
        // An absolute address in the request line is what counts for a proxy, so both must be ours.
        if let Some(target) = request.uri().authority() {
            let target = target.as_str().parse().map_err(|error| self.foreign("target", &error))?;
            self.is_ours(&target, local, is_probe)?;
        }
        self.origin(request.headers(), host.as_ref())?;
        is_json(request)
    }

    /// The one Host. A probe may have none, as HTTP/1.0 has.
    fn host(&self, request: &Request, is_probe: bool) -> Result<Option<Authority>, Refused> {
        match one(request.headers(), &HOST)? {
            Some(host) => {
                let text = host.to_str().unwrap_or("?");
                text.parse().map(Some).map_err(|error| self.foreign("Host", &error))
            }
            None if is_probe && request.version() <= Version::HTTP_10 => Ok(None),
            None => Err((StatusCode::BAD_REQUEST, "send a Host header".to_owned())),
        }
    }

    fn is_ours(
        &self,
        asked: &Authority,
        local: Option<IpAddr>,
        is_probe: bool,
    ) -> Result<(), Refused> {
        let address = asked.address();
        let is_here = address.is_some_and(|address| is_probe || Some(address) == local);
        if is_here || asked.is_loopback() || (self.names)().contain(asked) {
            return Ok(());
        }
        Err(self.foreign("Host", &format!("`{asked}` is not this listener")))
    }

    /// A page may ask where it came from, and nowhere else. `null` is a page that hides it.
    fn origin(&self, headers: &HeaderMap, host: Option<&Authority>) -> Result<(), Refused> {
        let Some(origin) = one(headers, &ORIGIN)? else { return Ok(()) };
        let text = origin.to_str().unwrap_or("?");
        let is_same = Authority::of_origin(text)
            .zip(host)
            .is_some_and(|((origin, default), host)| origin.is_same(host, default));
        if is_same {
            return Ok(());
        }
        let shown: String = text.chars().take(100).collect();
        let words = format!(
            "Origin `{shown}` is refused: a web page of another place may not ask here. Programs \
             send no Origin; pages are let in from this address only"
        );
        Err((StatusCode::FORBIDDEN, words))
    }

    fn foreign(&self, what: &str, why: &dyn std::fmt::Display) -> Refused {
        let words = format!(
            "{what} refused: {why}. Use the listener's address or `localhost`, or list the name \
             in `{}`",
            self.option
        );
        (StatusCode::FORBIDDEN, words)
    }
}

fn conduct(request: &Request) -> Option<&Arc<Conduct>> {
    request.extensions().get::<ConnectInfo<Ends>>()?.0.conduct.as_ref()
}

/// The connection keeps its place until its request's handler has answered, and the body has its
/// limit.
async fn serve(request: Request, next: Next) -> Response {
    let _served = conduct(&request).map(Conduct::serve);
    let has_body = !request.body().is_end_stream();
    let timed = |body| Body::new(Timed::new(body, BODY));
    next.run(if has_body { request.map(timed) } else { request }).await
}

async fn enter(State(door): State<Door>, request: Request, next: Next) -> Response {
    match door.check(&request) {
        Ok(()) => next.run(request).await,
        Err((status, words)) => (door.say)(status, words),
    }
}

/// The value of a header that may be there once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Refused> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err((StatusCode::BAD_REQUEST, format!("more than one `{name}` header"))),
        (value, None) => Ok(value),
    }
}

/// Every change says that it is JSON, also one without a body: a page of another origin may send
/// plain texts, forms and nothing at all unasked, but no JSON. A DELETE it may not send unasked at
/// all, so one without a body may leave it out.
fn is_json(request: &Request) -> Result<(), Refused> {
    let method = request.method();
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let kind = one(request.headers(), &CONTENT_TYPE)?;
    if kind.is_none() && *method == Method::DELETE && request.body().is_end_stream() {
        return Ok(());
    }
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let words = format!("{method} needs the header `Content-Type: application/json`");
    Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, words))
}
