//! Start and stop of the controller.

use std::future::Future;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use web::Settings as _;

use crate::Live;
use crate::cluster::Shared;
use crate::config::Config;
use crate::registry::Registry;
use crate::rest;
use crate::store::Store;

/// Runs a controller until `shutdown` resolves. Nodes and balancers keep what they were told.
///
/// # Errors
/// A store that another controller holds, a port in use.
pub async fn run(
    live: Arc<Live>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let listener = bind(&live.config()).await?;
    serve(live, listener, shutdown).await
}

/// Checks the configuration and takes the port.
pub async fn bind(config: &Config) -> anyhow::Result<TcpListener> {
    config.check()?;
    TcpListener::bind(config.listen).await.with_context(|| {
        format!("listen on {} (`listen`): is it an address of this host, and free?", config.listen)
    })
}

/// [`run`] on a port that is already taken.
pub async fn serve(
    live: Arc<Live>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let config = live.config();
    let (path, min_term) = (config.data.clone(), config.min_term);
    let store = tokio::task::spawn_blocking(move || Store::open(&path, min_term)).await??;
    let address = listener.local_addr().context("read the listening address")?;
    tracing::info!(%address, term = store.term(), data = %config.data.display(), "controller started");
    let shared = Arc::new(Shared::new(store, config.policy()));
    let registry = Registry::start(shared).await?;
    let app = web::service(rest::router(Arc::clone(&registry), live));
    // Not graceful: a stuck client must not keep a controller from ending.
    let served = tokio::select! {
        served = axum::serve(listener, app) => served.context("serve the REST interface"),
        why = registry.keep() => Err(anyhow::anyhow!(why)),
        () = shutdown => Ok(()),
    };
    registry.stop();
    tracing::info!("controller stopped");
    served
}
