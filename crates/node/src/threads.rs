//! Threads for what may take long or waits for disks.

/// Runs `run` on a thread of that name. Where there is none to be had, that is logged.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(run) {
        tracing::error!(%error, name, "cannot start a thread");
    }
}

/// Runs a future on a runtime of the calling thread's own.
pub(crate) fn block_on(future: impl Future<Output = ()>) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => tracing::error!(%error, "cannot start a runtime"),
    }
}
