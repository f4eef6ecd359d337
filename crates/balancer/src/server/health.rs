//! Health of backends between clients: a PING behind a LOCAL header, which a node answers on the thread that serves clients.
//!
//! It only reports; nothing here closes a frontend or moves a route. A check is no session: it cannot touch keys (`docs/protocol.md` §3).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::balancer::Backend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::frontend::Reach;
use super::session::{Shared, dial};
use super::sys;
use super::table::Table;

/// How long a node may take to answer: longer than a busy one does, and short beside the outages that this is to notice.
const PATIENCE: Duration = Duration::from_millis(400);

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// Checks all backends every `interval_ms`, for ever; returns at once if that is 0.
pub(super) async fn watch(table: Arc<Table>, interval_ms: u64) {
    if interval_ms == 0 {
        return;
    }
    let mut ticks = interval(Duration::from_millis(interval_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut checks = JoinSet::new();
        for frontend in table.frontends() {
            let Some(backend) = frontend.backend() else { continue };
            let shared = Arc::clone(table.shared());
            checks.spawn(async move {
                let patience = shared.connect_timeout.min(PATIENCE);
                let checking = timeout(patience, check(&backend, &shared));
                let reached = matches!(checking.await, Ok(Ok(())));
                frontend.set_reach(&backend, if reached { Reach::Up } else { Reach::Down });
            });
        }
        // Each is bounded, so a silent node delays a round by no more than that.
        while checks.join_next().await.is_some() {}
    }
}

/// Any answer counts: an error such as `-NOAUTH` is made by the data path too.
async fn check(backend: &Backend, shared: &Shared) -> io::Result<()> {
    let mut stream = dial(backend, shared).await?;
    let mut request = if shared.send_proxy { api::proxy::encode_local() } else { Vec::new() };
    request.extend_from_slice(PING);
    stream.write_all(&request).await?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).await?;
    // No TIME_WAIT for each check.
    sys::reset_on_close(&stream);
    if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}
