//! Driver of the built-in balancer: REST (`docs/protocol.md` §4).
//!
//! Every PUT says which process it means (`If-Match`): a balancer that was restarted has forgotten
//! the highest term, so a controller that was stopped before its PUT must not reach the new process
//! with it.

use std::time::Duration;

use api::balancer::{Backend, Desired, State};
use reqwest::{Client, ClientBuilder, RequestBuilder, StatusCode};
use serde::Deserialize;
use web::tls::ClientConfig;

use crate::driver::{Applied, DEFAULT_TIMEOUT, Driver, Error, SessionCount};

/// Longest answer read, in bytes; a state with 10,000 frontends takes about 4 MB.
const MAX_ANSWER: usize = 16 << 20;

/// One instance.
#[derive(Debug)]
pub struct Builtin {
    name: String,
    url: String,
    token: Option<String>,
    timeout: Duration,
    client: Client,
}

#[derive(Deserialize)]
struct Failure {
    error: Message,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

impl Builtin {
    /// `url` is the admin address, such as `http://127.0.0.1:9400`. A `timeout` of `None` is one second.
    pub fn new(
        name: &str,
        url: &str,
        token: Option<String>,
        timeout: Option<Duration>,
    ) -> Result<Self, Error> {
        let timeout = timeout.unwrap_or(DEFAULT_TIMEOUT);
        let client = build(name, builder(timeout))?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { name: name.to_owned(), url, token, timeout, client })
    }

    /// The same for an `https://` address, whose certificate is looked at as `tls` says.
    pub fn over(mut self, tls: ClientConfig) -> Result<Self, Error> {
        self.client = build(&self.name, builder(self.timeout).use_preconfigured_tls(tls))?;
        Ok(self)
    }

    /// The configured name.
    pub fn name(&self) -> &str {
        &self.name
    }

    async fn state(&self) -> Result<State, Error> {
        self.send("read its state", self.client.get(format!("{}/api/v1/state", self.url))).await
    }

    async fn send(&self, action: &str, mut request: RequestBuilder) -> Result<State, Error> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let mut response =
            request.send().await.map_err(|source| unreachable(&self.name, action, source))?;
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|source| unreachable(&self.name, action, source))?
        {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(self.nonsense("the answer is too long", &body));
            }
        }
        if response.status() == StatusCode::OK {
            return serde_json::from_slice(&body)
                .map_err(|error| self.nonsense(&error.to_string(), &body));
        }
        let instance = self.name.clone();
        let detail = match serde_json::from_slice::<Failure>(&body) {
            Ok(failure) => failure.error.message,
            Err(_) => return Err(self.nonsense(&format!("HTTP {}", response.status()), &body)),
        };
        Err(match response.status() {
            StatusCode::CONFLICT => Error::Stale { instance, detail },
            StatusCode::PRECONDITION_FAILED => Error::Restarted { instance, detail },
            _ => Error::Refused { instance, detail },
        })
    }

    /// Whether the answer to a PUT is of the process that was meant, and of what it was told. One
    /// that says yes to everything shows no session and no way, and has cut nobody off: neither is
    /// there in what it shows.
    fn confirms(&self, state: &State, start_id: &str, desired: &Desired) -> Result<(), Error> {
        let instance = self.name.clone();
        if state.start_id != start_id {
            let detail = format!("it answers as process {}, {start_id} was asked", state.start_id);
            return Err(Error::Restarted { instance, detail });
        }
        if (state.term, state.version) == (desired.term, desired.version) {
            return Ok(());
        }
        let detail = format!(
            "it says that it has applied term {} version {}, and was told term {} version {}",
            state.term, state.version, desired.term, desired.version
        );
        Err(Error::Refused { instance, detail })
    }

    fn nonsense(&self, detail: &str, body: &[u8]) -> Error {
        let line =
            String::from_utf8_lossy(body).lines().next().unwrap_or("").chars().take(200).collect();
        Error::Nonsense { instance: self.name.clone(), detail: detail.to_owned(), line }
    }
}

impl Driver for Builtin {
    async fn apply_while(
        &self,
        desired: &Desired,
        may: impl Fn() -> bool + Send + Sync,
    ) -> Result<Applied, Error> {
        let seen = self.state().await?;
        if !may() {
            return Err(Error::Ended { instance: self.name.clone() });
        }
        let request = self
            .client
            .put(format!("{}/api/v1/desired", self.url))
            .header("If-Match", format!("\"{}\"", seen.start_id))
            .json(desired);
        let state = self.send("apply a state", request).await?;
        self.confirms(&state, &seen.start_id, desired)?;
        Ok(applied(state))
    }

    async fn observe(&self) -> Result<Applied, Error> {
        self.state().await.map(applied)
    }
}

fn applied(state: State) -> Applied {
    let mut applied = Applied {
        start_id: state.start_id,
        source: state.bind_source,
        sends_header: state.send_proxy,
        certificates: state.certificates,
        trust: state.trust,
        ..Applied::default()
    };
    for frontend in state.frontends {
        for sessions in frontend.sessions {
            applied.sessions.push(SessionCount {
                frontend: frontend.listen.clone(),
                node: sessions.node,
                count: sessions.count,
            });
        }
        if let Some(Backend { node, .. }) = &frontend.backend {
            applied.reach.extend(frontend.backend_up.map(|is_up| (node.clone(), is_up)));
            applied.faults.extend(frontend.backend_error.map(|why| (node.clone(), why)));
            applied.dials.extend(frontend.dials_from.map(|from| (node.clone(), from)));
        }
        applied.held += frontend.held;
        applied.moved += frontend.moved;
        applied.cut += frontend.cut;
        applied.errors.extend(frontend.error.map(|error| (frontend.listen.clone(), error)));
        applied.in_force.push((frontend.listen, frontend.backend));
    }
    applied
}

fn builder(timeout: Duration) -> ClientBuilder {
    Client::builder().no_proxy().timeout(timeout).connect_timeout(timeout)
}

fn build(name: &str, builder: ClientBuilder) -> Result<Client, Error> {
    builder.build().map_err(|source| unreachable(name, "build a client", source))
}

fn unreachable(instance: &str, action: &str, source: reqwest::Error) -> Error {
    Error::Unreachable {
        instance: instance.to_owned(),
        action: action.to_owned(),
        source: Box::new(source),
    }
}
