//! Signals as futures.

use std::future::Future;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Registers for SIGTERM and SIGINT at once, and completes at the first of them. Must be called inside a runtime.
pub(crate) fn shutdown() -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
        web::supervisor::stopping();
    })
}

/// As [`shutdown`], for what belongs to a terminal: that it was closed ends it as well.
pub(crate) fn terminal() -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut hangup = hangup()?;
    let shutdown = shutdown()?;
    Ok(async move {
        tokio::select! {
            () = shutdown => {}
            _ = hangup.recv() => {}
        }
    })
}

/// Registers for SIGHUP, which ends this process from now on no more. Must be called inside a runtime.
pub(crate) fn hangup() -> Result<Signal> {
    signal(SignalKind::hangup()).context("listen for SIGHUP")
}
