//! The built-in TCP balancer: a process that owns frontends, sends PROXY protocol v2 to nodes, and
//! cuts sessions on a switch.
//!
//! Invariants: it starts closed; a switch is answered only when no session to a former backend is
//! left; a lower `(term, version)` changes nothing. It keeps nothing on disk: after a restart its
//! `start_id` is new and the controller applies everything again.

mod admin;
mod config;
mod counters;
mod frontend;
mod health;
mod metrics;
mod relay;
mod session;
mod sys;
mod table;
mod workers;

use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use web::bounded::Bounded;

use config::ADMIN_CONNECTIONS;
pub use config::{Config, ConfigError, Limits};
/// The configuration of a balancer that runs.
pub type Live = web::Live<Config>;

use table::Table;
use workers::Workers;

/// A connection to the admin address that says nothing for so long is closed: what the controller
/// asks is answered within seconds.
const ADMIN_IDLE: Duration = Duration::from_secs(120);

/// Runs until `shutdown` resolves: then closes the listeners, lets sessions finish for
/// `limits.drain_ms`, or until `again` resolves, and resets the rest.
///
/// Errors: the admin address cannot be bound, or a worker thread cannot be started.
pub async fn run(
    live: Arc<Live>,
    shutdown: impl Future<Output = ()>,
    again: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let listen = live.config().listen;
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("listen on {listen} (`listen`): is it an address of this host, and free?")
    })?;
    serve(live, listener, shutdown, again).await
}

/// As [`run`], on an admin listener that is bound already: for tests and for supervisors that hand
/// over sockets.
pub async fn serve(
    live: Arc<Live>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    again: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut config = Config::clone(&live.config());
    config.fit_into(limits::raise_open_files(config.open_files())?)?;
    let workers = Workers::start(config.worker_count()).context("start worker threads")?;
    let table = Arc::new(Table::new(&config, workers, Arc::clone(live.tls())));
    let address = listener.local_addr().context("read the admin address")?;
    tracing::info!(name = %config.name, admin = %address, start_id = table.start_id(), "balancer is up, all frontends closed");

    let bounded = Bounded::new(listener, ADMIN_CONNECTIONS, ADMIN_IDLE);
    let tls = Arc::clone(live.tls());
    let listener = web::Listener::new(bounded, move || tls.acceptor());
    let router = admin::router(Arc::clone(&table), live);
    let server = axum::serve(listener, web::service(router));
    let mut server = tokio::spawn(server.into_future());
    web::supervisor::ready();
    let health = tokio::spawn(health::watch(Arc::clone(&table), config.health_interval_ms));
    tokio::select! {
        () = shutdown => {}
        ended = &mut server => {
            ended.context("run the admin server")?.context("serve the admin address")?;
        }
    }
    web::supervisor::waits(config.limits.drain());
    // The admin interface answers while sessions drain, so that a controller can still confirm a
    // fence here.
    table.stop(config.limits.drain(), again).await;
    health.abort();
    server.abort();
    tracing::info!("balancer stopped");
    Ok(())
}
