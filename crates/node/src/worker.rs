//! Worker threads and the listeners that feed them.
//!
//! A connection stays on the worker it was given to; a worker is an OS thread with a single-threaded runtime. Accepting is done by one thread that deals
//! connections out in turn, so that few connections are spread evenly.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::connection;
use crate::grants::commit;
use crate::node::Node;
use crate::stats::WorkerStats;

type Accepted = (std::net::TcpStream, SocketAddr);

/// Binds every address of `bind` on `port`. A port in use is an error that names address and remedy.
pub fn listen(
    bind: &[String],
    port: u16,
    backlog: u32,
) -> anyhow::Result<Vec<std::net::TcpListener>> {
    let mut listeners = Vec::new();
    for host in bind {
        let ip: IpAddr = match host.as_str() {
            "localhost" => IpAddr::from([127, 0, 0, 1]),
            "*" => IpAddr::from([0, 0, 0, 0]),
            other => other
                .trim_start_matches('-')
                .parse()
                .with_context(|| format!("option `bind`: `{other}` is no IP address"))?,
        };
        let address = SocketAddr::new(ip, port);
        let listener = listen_on(address, backlog).with_context(|| {
            format!(
                "listen on {address}: is another process using the port? choose another with `port`"
            )
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn listen_on(address: SocketAddr, backlog: u32) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX).max(1))?;
    Ok(socket.into())
}

/// Starts the workers. They end when the node shuts down.
pub fn start(node: &Arc<Node>) -> anyhow::Result<Vec<mpsc::UnboundedSender<Accepted>>> {
    let count = node.stats.workers.len();
    let mut workers = Vec::with_capacity(count);
    for index in 0..count {
        let (sender, receiver) = mpsc::unbounded_channel();
        let node = Arc::clone(node);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .build()
            .context("start a worker's runtime")?;
        std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || LocalSet::new().block_on(&runtime, work(node, index, receiver)))
            .context("start a worker thread")?;
        workers.push(sender);
    }
    Ok(workers)
}

async fn work(node: Arc<Node>, index: usize, mut accepted: mpsc::UnboundedReceiver<Accepted>) {
    let mut shutdown = node.shutdown();
    tokio::task::spawn_local(commit::serve(Arc::clone(&node), index));
    loop {
        let next = tokio::select! {
            next = accepted.recv() => next,
            _ = shutdown.wait_for(|stop| *stop) => None,
        };
        let Some((stream, peer)) = next else { return };
        match tokio::net::TcpStream::from_std(stream) {
            Ok(stream) => {
                if let Some(stats) = node.stats.workers.get(index) {
                    WorkerStats::add(&stats.connections, 1);
                }
                tokio::task::spawn_local(connection::serve(Arc::clone(&node), index, stream, peer));
            }
            Err(error) => tracing::warn!(%error, "cannot serve an accepted connection"),
        }
    }
}

/// Accepts on one listener and deals connections out, until shutdown.
pub async fn accept(
    node: Arc<Node>,
    listener: std::net::TcpListener,
    workers: Vec<mpsc::UnboundedSender<Accepted>>,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener).context("serve a listener")?;
    let mut shutdown = node.shutdown();
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a client that was gone at once: neither ends the node.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            }
        };
        let limit = usize::try_from(node.config.now().maxclients).unwrap_or(usize::MAX);
        if node.clients.len() >= limit {
            node.stats.rejected_connections.fetch_add(1, Ordering::Relaxed);
            // The peer may be gone already; it is refused either way.
            let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            continue;
        }
        let Ok(stream) = stream.into_std() else { continue };
        if let Some(worker) = workers.get(turn % workers.len().max(1)) {
            // Fails only when the worker has ended, that is at shutdown.
            let _ = worker.send((stream, peer));
        }
        turn = turn.wrapping_add(1);
    }
}
