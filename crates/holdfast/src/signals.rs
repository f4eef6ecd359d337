//! Signals as futures.

use std::future::Future;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Registers for SIGTERM and SIGINT at once, and completes at the first of them. Must be called
/// inside a runtime.
pub(crate) fn shutdown() -> Result<impl Future<Output = ()> + Send + 'static> {
    shutdown_and_again().map(|(shutdown, _)| shutdown)
}

/// The same, and what completes at the second of them, for a process that waits for something after
/// the first.
pub(crate) fn shutdown_and_again()
-> Result<(impl Future<Output = ()> + Send + 'static, impl Future<Output = ()> + Send + 'static)> {
    let mut ends = Ends {
        terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
        interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
    };
    let (hand_on, handed_on) = oneshot::channel();
    let shutdown = async move {
        let name = ends.next().await;
        tracing::info!("{name}: stopping");
        web::supervisor::stopping();
        // Nobody may want to know of a second one.
        let _ = hand_on.send(ends);
    };
    let again = async move {
        match handed_on.await {
            Ok(mut ends) => {
                let name = ends.next().await;
                tracing::info!("{name} again: stopping at once");
            }
            // There was no first one.
            Err(_) => std::future::pending().await,
        }
    };
    Ok((shutdown, again))
}

/// Signals that end a process.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    /// Waits for the next one; its name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
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

/// Registers for SIGHUP, so that it does not end this process. Must be called inside a runtime.
pub(crate) fn hangup() -> Result<Signal> {
    signal(SignalKind::hangup()).context("listen for SIGHUP")
}

/// The same of SIGUSR1.
pub(crate) fn reopen() -> Result<Signal> {
    signal(SignalKind::user_defined1()).context("listen for SIGUSR1")
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::process::Command;
    use std::task::Poll;

    use super::*;

    fn send(name: &str) {
        let process = std::process::id().to_string();
        let sent = Command::new("kill").args(["-s", name, &process]).status().unwrap();
        assert!(sent.success(), "kill -s {name}");
    }

    #[tokio::test]
    async fn the_second_signal_is_told_apart_from_the_first() {
        let (shutdown, again) = shutdown_and_again().unwrap();
        let mut again = pin!(again);
        send("TERM");
        shutdown.await;
        let is_told = poll_fn(|cx| Poll::Ready(again.as_mut().poll(cx).is_ready())).await;
        assert!(!is_told, "of one signal");
        send("INT");
        again.await;
    }
}
