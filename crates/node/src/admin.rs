//! The admin port: `/metrics`, `/healthz`, `/primary`, `/replica` over HTTP, or HTTPS with
//! `tls-admin`. It only shows; nothing can be changed here.
//!
//! `/primary` is what a load balancer outside of ours may probe. It is answered from what the data
//! path is answered from – role, lease, and the write gate itself – so a node that would not serve
//! a write does not claim it would. A gate that cannot be had in [`GATE_WAIT`] counts as not
//! serving.

mod files;
mod metrics;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::heartbeat::{LinkStatus, Resync};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use storage::Store;
use web::Door;
use web::bounded::Bounded;

use crate::clock;
use crate::descriptors::ADMIN_CONNECTIONS;
use crate::disk::HANG_MS;
use crate::gate::{Engine, Role};
use crate::node::Node;

/// Longest wait for the write gate. A change of role holds it for microseconds.
const GATE_WAIT: Duration = Duration::from_millis(200);

/// A connection that says nothing for so long is closed: a scraper keeps its own for 15 s to a
/// minute.
const ADMIN_IDLE: Duration = Duration::from_secs(120);

/// Serves the admin port until the node shuts down.
///
/// # Errors
/// When the socket cannot be used.
pub async fn serve(node: Arc<Node>, listener: TcpListener) -> anyhow::Result<()> {
    listener.set_nonblocking(true).context("prepare the admin port")?;
    let address = listener.local_addr().context("name the admin port")?;
    let listener = tokio::net::TcpListener::from_std(listener).context("serve the admin port")?;
    if address.ip().is_loopback() {
        tracing::info!(%address, "admin port open");
    } else {
        tracing::warn!(%address, "admin port open to other machines: it needs no password and shows metrics and state");
    }
    let mut shutdown = node.shutdown();
    let ended = async move {
        // The sender lives as long as the node, so this only ends with a shutdown.
        let _ = shutdown.wait_for(|stop| *stop).await;
    };
    let bounded = Bounded::new(listener, ADMIN_CONNECTIONS, ADMIN_IDLE);
    let greeter = Arc::clone(&node);
    let greets = move || greeter.tls.now().and_then(|tls| tls.admin_acceptor());
    let listener = web::Listener::new(bounded, greets);
    axum::serve(listener, web::service(router(node)))
        .with_graceful_shutdown(ended)
        .await
        .context("serve the admin port")
}

/// What load balancers and supervisors ask for.
const PROBES: &[&str] = &["/healthz", "/primary", "/replica"];

fn router(node: Arc<Node>) -> Router {
    let live = Arc::clone(&node);
    let names = move || live.config.now().admin_allowed_hosts.clone();
    Door::new(names, PROBES, "admin-allowed-hosts", say).before(routes(node))
}

/// A refusal of the door, in the form of the controller's and the balancer's. What a probe says is
/// plain text.
fn say(status: StatusCode, message: String) -> Response {
    (status, Json(serde_json::json!({ "error": { "message": message } }))).into_response()
}

fn routes(node: Arc<Node>) -> Router {
    let files = files::Files::default();
    Router::new()
        .route("/metrics", get(move |node| metrics(node, files.clone())))
        .route("/healthz", get(|node| probe(node, health)))
        .route("/primary", get(|node| probe(node, primary)))
        .route("/replica", get(|node| probe(node, replica)))
        .fallback(|| async { say(StatusCode::NOT_FOUND, "no such path".to_owned()) })
        .with_state(node)
}

/// What a probe answers: why, in words for people.
type Verdict = Result<String, String>;

/// Answers a probe away from the runtime's thread, because the gate may have to be waited for.
async fn probe(State(node): State<Arc<Node>>, ask: fn(&Node, &Engine) -> Verdict) -> Response {
    let verdict = tokio::task::spawn_blocking(move || judge(&node, ask)).await;
    let (status, text) = match verdict {
        Ok(Ok(text)) => (StatusCode::OK, text),
        Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, why),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the probe ended early: {error}"))
        }
    };
    (status, text + "\n").into_response()
}

fn judge(node: &Node, ask: fn(&Node, &Engine) -> Verdict) -> Verdict {
    judge_by(node, node.gate.try_read_for(GATE_WAIT).as_deref(), ask)
}

/// The same, by what is behind the gate; `None` if that could not be had.
fn judge_by(node: &Node, engine: Option<&Engine>, ask: fn(&Node, &Engine) -> Verdict) -> Verdict {
    if *node.shutdown().borrow() {
        return Err("shutting down".into());
    }
    match engine {
        Some(engine) => ask(node, engine),
        None => Err("busy: the write gate is taken, nothing is served".into()),
    }
}

/// Whether the store is open and takes writes.
fn health(node: &Node, engine: &Engine) -> Verdict {
    let store = engine.store.as_ref().ok_or("loading: the data is being replaced")?;
    takes_writes(node, store)?;
    let is_stopped = store.is_write_stopped();
    if is_stopped.map_err(|error| format!("the database cannot be read: {error}"))? {
        return Err("the database takes no writes: it waits for flush or compaction".into());
    }
    Ok(format!("ok sequence={}", store.latest_sequence()))
}

/// Looks only: a probe that writes, be it RocksDB's word in its own log that somebody lists files,
/// would wait as long as the writes it asks about.
fn takes_writes(node: &Node, store: &Store) -> Result<(), String> {
    if store.has_failed() {
        return Err("the WAL cannot be written".into());
    }
    match (store.log_wait_ms(), node.reads.wait_ms()) {
        (wait_ms @ HANG_MS.., _) => {
            Err(format!("the disk hangs: it has taken nothing of the WAL for {wait_ms} ms"))
        }
        (_, HANG_MS..) => Err("the disk hangs: it gives back nothing that is read".into()),
        _ => Ok(()),
    }
}

/// Whether a write would be served here and now, as far as role and lease go.
fn primary(node: &Node, engine: &Engine) -> Verdict {
    if let Role::Replica { from } = &engine.role {
        return Err(format!("not master: replica of {from}"));
    }
    takes_writes(node, engine.store.as_ref().ok_or("loading: the data is being replaced")?)?;
    if node.resync.now() != Resync::None {
        return Err("deposed: this node must take a full sync first".into());
    }
    let mode = node.config.now().master_lease_mode;
    let now_ns = clock::boottime_ns();
    if Node::is_lease_blocking(mode) && !node.grants.is_valid(now_ns) {
        return Err("lease expired: this node has not heard from its controller".into());
    }
    Ok(format!("master lease_mode={mode} lease_remaining_ms={}", node.grants.remaining_ms(now_ns)))
}

/// Whether this is a replica whose data follows its master's.
fn replica(node: &Node, engine: &Engine) -> Verdict {
    let Role::Replica { from } = &engine.role else { return Err("not replica: master".into()) };
    if engine.store.is_none() {
        return Err("loading: the data is being replaced".into());
    }
    match (node.resync.now(), node.replication.link_status()) {
        (Resync::None, LinkStatus::Up) => Ok(format!("replica of {from}")),
        (Resync::None, status) => Err(format!("link to {from}: {status}")),
        (resync, _) => Err(format!("full sync {resync}")),
    }
}

/// The metrics, with what `/healthz` would say.
fn page(node: &Node, files: &files::Files) -> String {
    let is_ready = |engine: Option<&Engine>| judge_by(node, engine, health).is_ok();
    metrics::render(node, files, is_ready, GATE_WAIT)
}

async fn metrics(State(node): State<Arc<Node>>, files: files::Files) -> Response {
    match tokio::task::spawn_blocking(move || page(&node, &files)).await {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("collect metrics: {error}\n"))
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use topology::{Cluster, Endpoint};

    use super::*;
    use ::grant::Heartbeat;

    fn node(folder: &std::path::Path, role: Role) -> std::sync::Arc<Node> {
        crate::shell::node(folder, crate::shell::small(), Cluster::default(), role)
    }

    fn grant(node: &Node, lease_ms: u64) {
        let now_ns = clock::boottime_ns();
        let clock = Some((now_ns, node.grants.nonce()));
        let (is_for_me, grant, store) = (true, None, None);
        let beat = Heartbeat { is_for_me, lease_ms, term: 1, clock, grant, store };
        crate::grants::drive::heartbeat(node, &beat).unwrap();
    }

    #[test]
    fn a_master_is_primary_only_while_its_lease_lasts_and_its_data_is_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let node = node(folder.path(), Role::Master);
        assert!(judge(&node, health).is_ok());
        assert!(judge(&node, primary).unwrap().starts_with("master lease_mode=disabled"));
        node.config.set(&[("master-lease-mode", "block-write")]).unwrap();
        assert!(judge(&node, primary).unwrap_err().starts_with("lease expired"));
        grant(&node, 60_000);
        assert!(judge(&node, primary).is_ok());
        node.resync.set_required(true);
        assert!(judge(&node, primary).unwrap_err().starts_with("deposed"));
        assert_eq!(judge(&node, replica), Err("not replica: master".into()));
    }

    #[test]
    fn a_replica_without_a_link_is_neither() {
        let folder = tempfile::tempdir().unwrap();
        let from = Endpoint { host: "127.0.0.1".into(), port: 1 };
        let node = node(folder.path(), Role::Replica { from });
        assert_eq!(judge(&node, primary), Err("not master: replica of 127.0.0.1:1".into()));
        assert_eq!(judge(&node, replica), Err("link to 127.0.0.1:1: connecting".into()));
    }

    #[test]
    fn the_page_of_numbers_says_what_the_check_says() {
        let folder = tempfile::tempdir().unwrap();
        let node = node(folder.path(), Role::Master);
        let files = files::Files::default();
        assert!(page(&node, &files).contains("\nholdfast_node_ready 1\n"));
        let _taken = node.gate.write();
        assert!(judge(&node, health).is_err());
        assert!(page(&node, &files).contains("\nholdfast_node_ready 0\n"));
    }

    #[test]
    fn a_disk_that_gives_nothing_back_is_not_well_and_the_controller_hears_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut node = node(folder.path(), Role::Master);
        let mut hang = |ms| {
            let reads = Arc::new(crate::disk::Reads::hanging(ms));
            Arc::get_mut(&mut node).expect("nobody else has it").reads = reads;
            (judge(&node, health), crate::role::heartbeat_reply(&node).log_wait_ms)
        };
        let (said, wait_ms) = hang(1_000);
        assert!(said.is_ok() && wait_ms == 0, "a busy disk: {said:?}, {wait_ms} ms");
        let (said, wait_ms) = hang(15_000);
        assert!(said.is_err_and(|why| why.starts_with("the disk hangs")));
        assert!((5_000..15_000).contains(&wait_ms), "{wait_ms} ms");
    }

    #[test]
    fn a_taken_gate_is_not_serving() {
        let folder = tempfile::tempdir().unwrap();
        let node = node(folder.path(), Role::Master);
        let _taken = node.gate.write();
        assert!(judge(&node, primary).unwrap_err().starts_with("busy"));
    }

    #[test]
    fn a_database_that_is_being_replaced_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let node = node(folder.path(), Role::Master);
        node.gate.write().store = None;
        for ask in [health as fn(&Node, &Engine) -> Verdict, primary] {
            assert!(judge(&node, ask).unwrap_err().starts_with("loading"));
        }
    }
}
