//! Health of backends between clients: a PING behind a LOCAL header, which a node answers on the thread that serves clients.
//!
//! It only reports; nothing here closes a frontend or moves a route. A check is no session: it cannot touch keys (`docs/protocol.md` §3).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::balancer::Backend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::frontend::Reach;
use super::session::{Shared, dial};
use super::sys;
use super::table::Table;

/// How long a connection may take, and then an answer: short beside the outages that this is to notice. A host that is reached takes connections however busy
/// the node is.
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
                if let Some(reach) = check(&backend, &shared).await {
                    frontend.set_reach(&backend, reach);
                }
            });
        }
        // Each is bounded, so a silent node delays a round by no more than that.
        while checks.join_next().await.is_some() {}
    }
}

/// What a check tells; `None` if the node took the connection and is late with its answer. Then it is reached and busy, as under a bulk load that its disk
/// cannot follow, or it hangs: which of both is for the controller to find out, who asks the node itself.
async fn check(backend: &Backend, shared: &Shared) -> Option<Reach> {
    let patience = shared.connect_timeout.min(PATIENCE);
    let mut stream = match timeout(patience, dial(backend, shared)).await {
        Ok(Ok(stream)) => stream,
        // A want of descriptors here says nothing of the node.
        Ok(Err(error)) if limits::is_limit(&error) => return None,
        _ => return Some(Reach::Down),
    };
    match timeout(patience, ask(&mut stream, shared)).await {
        Ok(Ok(())) => Some(Reach::Up),
        Ok(Err(_)) => Some(Reach::Down),
        Err(_) => None,
    }
}

/// Any answer counts: an error such as `-NOAUTH` is made by the data path too.
async fn ask(stream: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    // No TIME_WAIT for each check.
    sys::reset_on_close(stream);
    let mut request = if shared.send_proxy { api::proxy::encode_local() } else { Vec::new() };
    request.extend_from_slice(PING);
    stream.write_all(&request).await?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).await?;
    if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}
