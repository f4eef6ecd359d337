//! Start and stop of the controller.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use web::Settings as _;
use web::bounded::Bounded;
use web::tls::Tls;

use crate::Live;
use crate::cluster::Shared;
use crate::config::{Config, Kind};
use crate::home;
use crate::lead::known::Lead;
use crate::registry::Registry;
use crate::rest;
use crate::store::{Embedded, Etcd, Identity, Place, Store as _, StoreError};

/// Connections to the REST interface at a time: more would take descriptors from heartbeats.
const CONNECTIONS: usize = 512;
/// One that says nothing for so long is closed. A switchover or what is put back of an export may
/// be waited for in silence.
const IDLE: Duration = Duration::from_secs(900);
/// How long a controller that starts waits for its etcd, and between two attempts.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(500);
/// What is done where it may fail for want of threads.
const THREADS: &str = "start the threads that carry heartbeats";
/// Descriptors that a controller wants: a few connections to each of some thousand nodes.
const OPEN_FILES: u64 = 16_384;
/// With fewer than that beside REST it does not start.
const LEAST: u64 = 256;

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
    prepare_limit()?;
    let config = live.config();
    let address = listener.local_addr().context("read the listening address")?;
    let tls = Arc::clone(live.tls());
    let (registry, claiming) = match config.store {
        Kind::Embedded => alone(&config, &tls).await?,
        Kind::Etcd => (shared(&live, address).await?, None),
    };
    tracing::info!(%address, "controller started");
    web::supervisor::ready();
    let app = web::service(rest::router(Arc::clone(&registry), live));
    let listener =
        web::Listener::new(Bounded::new(listener, CONNECTIONS, IDLE), move || tls.acceptor());
    // Not graceful: a stuck client must not keep a controller from ending.
    let served = tokio::select! {
        served = axum::serve(listener, app) => served.context("serve the REST interface"),
        why = registry.keep() => Err(anyhow::anyhow!(why)),
        () = shutdown => Ok(()),
    };
    if let Some(claiming) = claiming {
        claiming.abort();
    }
    registry.stop();
    if let Some(lead) = &registry.shared.lead {
        lead.resign().await;
    }
    tracing::info!("controller stopped");
    served
}

/// The only controller of an embedded store.
async fn alone(
    config: &Config,
    tls: &Arc<Tls>,
) -> anyhow::Result<(Arc<Registry>, Option<JoinHandle<()>>)> {
    let (path, min_term) = (config.data.clone(), config.min_term);
    let keys = Arc::clone(&config.store_keys);
    let open = move || Embedded::open_with(&path, min_term, keys);
    let store = tokio::task::spawn_blocking(open).await??;
    let seals_with = store.keys().sealing();
    tracing::info!(term = store.term(), data = %config.data.display(), seals_with, "the store is open");
    let from = moved_from(&store, config).await?;
    let shared = Shared::new(Arc::new(store.clone()), config.policy()).context(THREADS)?;
    let shared = Arc::new(shared.speaking(Arc::clone(tls)));
    let registry = Registry::start(shared, from.clone()).await?;
    let claiming =
        from.map(|_| tokio::spawn(claim(Arc::clone(&registry), store, config.data.clone())));
    Ok((registry, claiming))
}

/// One of several on an etcd.
async fn shared(live: &Arc<Live>, listens: SocketAddr) -> anyhow::Result<Arc<Registry>> {
    let (config, tls) = (live.config(), live.tls());
    let etcd = Arc::new(reached(config.place(tls)?).await?);
    let Identity { name, generation } = etcd.identity();
    let seals_with = etcd.keys().sealing();
    tracing::info!(name, generation, etcd = ?config.etcd_endpoints, seals_with, "the store is open");
    let lead = Lead::new(Arc::clone(&etcd), (Arc::clone(live), listens), config.min_term);
    let shared = Shared::new(etcd, config.policy()).context(THREADS)?;
    let shared = shared.led_by(lead).speaking(Arc::clone(tls));
    Registry::new(Arc::new(shared))
}

/// The etcd, as soon as it is there: a host that starts has both to start.
async fn reached(place: Place) -> anyhow::Result<Etcd> {
    let began = Instant::now();
    loop {
        let error = match Etcd::open(place.clone()).await {
            Ok(etcd) => return Ok(etcd),
            Err(
                error @ (StoreError::Unusable(_)
                | StoreError::GivenUp { .. }
                | StoreError::Locked { .. }),
            ) => return Err(error.into()),
            Err(error) => error,
        };
        if began.elapsed() >= PATIENCE {
            return Err(error.into());
        }
        tracing::warn!(error = error.chain(), "reach etcd");
        tokio::time::sleep(RETRY).await;
    }
}

/// Where the store was before, if it is not known to be led from here.
async fn moved_from(store: &Embedded, config: &Config) -> anyhow::Result<Option<String>> {
    let here = home::of(&config.data);
    match store.home() {
        Some(from) if from != here && !config.take_over => {
            tracing::warn!(
                from,
                here,
                "this store was copied or moved: the nodes are asked whether another controller leads them"
            );
            Ok(Some(from.to_owned()))
        }
        Some(from) if from == here => Ok(None),
        _ => {
            store.claim(here).await.context("say where the store is led from")?;
            Ok(None)
        }
    }
}

/// How often it is looked whether the clusters may be led.
const CLAIM: Duration = Duration::from_millis(200);

/// Once no cluster is guarded any more, the store is at home here.
async fn claim(registry: Arc<Registry>, store: Embedded, path: PathBuf) {
    while registry.all().iter().any(|cluster| cluster.is_guarded()) {
        tokio::time::sleep(CLAIM).await;
    }
    match store.claim(home::of(&path)).await {
        Ok(()) => tracing::info!("no other controller leads: this one does"),
        Err(error) => tracing::error!(%error, "say where the store is led from"),
    }
}

/// Raises the limit of open files as far as it may be.
fn prepare_limit() -> anyhow::Result<()> {
    let limit = limits::raise_open_files(OPEN_FILES).context("raise the limit of open files")?;
    let needed = CONNECTIONS as u64 + LEAST;
    anyhow::ensure!(
        limit.soft >= needed,
        "this process may have {} files and connections open and needs {needed} at least: raise the limit (`ulimit -n`, LimitNOFILE of systemd)",
        limit.soft
    );
    Ok(())
}
