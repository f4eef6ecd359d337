//! The built-in balancer's REST, without any traffic.

use std::sync::Arc;

use api::balancer::{Backend, Desired, FrontendState, State};
use api::certificate::{Certificate, Trust};
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use parking_lot::Mutex;
use tokio::sync::watch;

#[derive(Debug)]
struct Inside {
    state: Mutex<State>,
    /// Requests wait while it is false.
    reachable: watch::Sender<bool>,
    /// Everything that was applied, in order.
    applied: Mutex<Vec<Desired>>,
}

pub struct FakeBalancer {
    inside: Arc<Inside>,
    port: u16,
}

impl FakeBalancer {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let inside = Arc::new(Inside {
            state: Mutex::new(closed(format!("of-{port}"))),
            reachable: watch::Sender::new(true),
            applied: Mutex::new(Vec::new()),
        });
        let app = Router::new()
            .route("/api/v1/desired", put(apply))
            .route("/api/v1/state", get(observe))
            .with_state(Arc::clone(&inside));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { inside, port }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it dials nodes from, as it says; it sends headers.
    #[allow(dead_code, reason = "not every test that shares this module says so")]
    pub fn set_source(&self, source: &str) {
        let mut state = self.inside.state.lock();
        state.bind_source = Some(source.to_owned());
        state.send_proxy = Some(true);
    }

    #[allow(dead_code, reason = "not every test that shares this module says so")]
    pub fn set_certificates(&self, certificates: Vec<Certificate>) {
        self.inside.state.lock().certificates = certificates;
    }

    #[allow(dead_code, reason = "not every test that shares this module says so")]
    pub fn set_trust(&self, trust: Vec<Trust>) {
        self.inside.state.lock().trust = trust;
    }

    pub fn set_reachable(&self, reachable: bool) {
        self.inside.reachable.send_replace(reachable);
    }

    /// As after a restart: closed, and with a new start id.
    pub fn restart(&self) {
        let mut state = self.inside.state.lock();
        let start_id = format!("{}+", state.start_id);
        *state = closed(start_id);
    }

    pub fn backend(&self, port: u16) -> Option<Backend> {
        let state = self.inside.state.lock();
        state.frontends.iter().find(|f| f.listen.port == port)?.backend.clone()
    }

    /// How often it was told something.
    #[allow(dead_code, reason = "not every test that shares this module counts")]
    pub fn told(&self) -> usize {
        self.inside.applied.lock().len()
    }

    /// Every change of what `port` leads to, as node ids.
    pub fn history(&self, port: u16) -> Vec<Option<String>> {
        let mut history: Vec<Option<String>> = Vec::new();
        for desired in self.inside.applied.lock().iter() {
            let frontend = desired.frontends.iter().find(|f| f.listen.port == port);
            let node = frontend.and_then(|f| f.backend.as_ref()).map(|b| b.node.clone());
            if history.last() != Some(&node) {
                history.push(node);
            }
        }
        history
    }
}

fn closed(start_id: String) -> State {
    State {
        start_id,
        term: 0,
        version: 0,
        bind_source: None,
        send_proxy: None,
        certificates: Vec::new(),
        trust: Vec::new(),
        frontends: Vec::new(),
    }
}

async fn observe(Shared(inside): Shared<Arc<Inside>>) -> Json<State> {
    Json(inside.state.lock().clone())
}

async fn apply(
    Shared(inside): Shared<Arc<Inside>>,
    Json(desired): Json<Desired>,
) -> Result<Json<State>, StatusCode> {
    let mut reachable = inside.reachable.subscribe();
    reachable.wait_for(|reachable| *reachable).await.map_err(|_| StatusCode::GONE)?;
    let mut state = inside.state.lock();
    if (desired.term, desired.version) < (state.term, state.version) {
        return Err(StatusCode::CONFLICT);
    }
    state.term = desired.term;
    state.version = desired.version;
    state.frontends = desired
        .frontends
        .iter()
        .map(|frontend| FrontendState {
            hold: frontend.hold,
            held: 0,
            moved: 0,
            cut: 0,
            listen: frontend.listen.clone(),
            backend: frontend.backend.clone(),
            sessions: Vec::new(),
            accepted: 0,
            refused: 0,
            backend_up: None,
            backend_error: None,
            dials_from: None,
            error: None,
        })
        .collect();
    inside.applied.lock().push(desired);
    Ok(Json(state.clone()))
}
