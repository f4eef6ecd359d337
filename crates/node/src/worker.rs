//! Worker threads, and the accepting that feeds them.
//!
//! A connection stays on the worker it was given to; a worker is an OS thread with a
//! single-threaded runtime. Accepting is done by one thread that deals connections out in turn, so
//! that few connections are spread evenly.
//!
//! Every accepted connection has a place ([`crate::clients::places`]) before anybody serves it. One
//! that takes a descriptor of the node's own reserve is told so and closed here.

use std::io::{self, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use limits::{Seldom, Spare};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::clients::TOO_MANY;
use crate::clients::places::Place;
use crate::connection::{self, Caller, Desk, Seat};
use crate::listener::{Accepting, Listener};
use crate::node::Node;
use crate::scripts::STACK_BYTES;
use crate::stats::WorkerStats;
use crate::stream::Stream;
use crate::threads::{vital, vital_task};

/// A connection on its way to a worker.
#[derive(Debug)]
pub struct Accepted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    place: Place,
    /// It came by a port where only TLS is spoken.
    is_tls: bool,
}

/// Between two words in the log about connections that are refused.
const WORD: Duration = Duration::from_secs(10);
/// Rest after an error, so that one that stays does not cost a processor.
const REST: Duration = Duration::from_millis(10);

/// Starts the workers: those of clients, and the one of peers, which no accepted connection is
/// dealt to. They end when the node shuts down.
pub fn start(node: &Arc<Node>) -> anyhow::Result<Vec<mpsc::UnboundedSender<Accepted>>> {
    let peers = node.workers - 1;
    let (door, callers) = mpsc::unbounded_channel();
    let desk = Desk { door };
    let mut workers = Vec::with_capacity(peers);
    for index in 0..peers {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (node, desk) = (Arc::clone(node), desk.clone());
        spawn(format!("worker-{index}"), move |runtime| {
            LocalSet::new().block_on(runtime, work(node, index, desk, receiver));
        })?;
        workers.push(sender);
    }
    let own = Arc::clone(node);
    spawn("worker-peers".into(), move |runtime| {
        LocalSet::new().block_on(runtime, work_for_peers(own, peers, callers));
    })?;
    Ok(workers)
}

fn spawn(
    name: String,
    work: impl FnOnce(&tokio::runtime::Runtime) + Send + 'static,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .context("start a worker's runtime")?;
    // Scripts begin there.
    let thread = std::thread::Builder::new().name(name.clone()).stack_size(STACK_BYTES);
    // Connections are dealt to it, and nobody looks whether it lives.
    let thread = thread.spawn(move || vital(&name, || work(&runtime)));
    thread.context("start a worker thread").map(drop)
}

/// Wakes those of its connections whose replies wait for the in-sync set.
async fn wake(node: Arc<Node>, index: usize) {
    vital_task("wake", node.grants.commit.serve(index, node.shutdown())).await;
}

async fn work_for_peers(
    node: Arc<Node>,
    index: usize,
    mut callers: mpsc::UnboundedReceiver<Caller>,
) {
    let mut shutdown = node.shutdown();
    tokio::task::spawn_local(wake(Arc::clone(&node), index));
    loop {
        let next = tokio::select! {
            next = callers.recv() => next,
            _ = shutdown.wait_for(|stop| *stop) => None,
        };
        let Some(caller) = next else { break };
        tokio::task::spawn_local(connection::receive(
            Seat { node: Arc::clone(&node), worker: index, peers: None },
            caller,
        ));
    }
    connection::close_line();
}

async fn work(
    node: Arc<Node>,
    index: usize,
    desk: Desk,
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
) {
    let mut shutdown = node.shutdown();
    tokio::task::spawn_local(wake(Arc::clone(&node), index));
    loop {
        let next = tokio::select! {
            next = accepted.recv() => next,
            _ = shutdown.wait_for(|stop| *stop) => None,
        };
        let Some(Accepted { stream, peer, place, is_tls }) = next else { break };
        match tokio::net::TcpStream::from_std(stream) {
            Ok(stream) => {
                if let Some(stats) = node.stats.workers.get(index) {
                    WorkerStats::add(&stats.connections, 1);
                }
                let at = Seat { node: Arc::clone(&node), worker: index, peers: Some(desk.clone()) };
                let stream = if is_tls { Stream::of_tls_port(stream) } else { stream.into() };
                let serving = connection::serve(at, stream, peer, place);
                tokio::task::spawn_local(serving);
            }
            Err(error) => tracing::warn!(%error, "cannot serve an accepted connection"),
        }
    }
    connection::close_line();
}

/// Accepts on one listener and deals connections out, until shutdown.
///
/// # Errors
/// When the socket cannot be used.
pub async fn accept(
    node: Arc<Node>,
    listener: Listener,
    workers: Vec<mpsc::UnboundedSender<Accepted>>,
) -> anyhow::Result<()> {
    let mut refusing = Refusing::new(&listener)?;
    let is_tls = matches!(listener, Listener::Tls(_));
    let listener = listener.serve().context("serve a listener")?;
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
                // Neither a want of descriptors nor a client that was gone at once ends the node.
                refusing.cannot_accept(&node, &error);
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        if node.descriptors.are_short_after(&stream) {
            refusing.tell(&node, stream, "the descriptors left are the node's own");
            continue;
        }
        let clients_max =
            usize::try_from(node.config.now().parts().connections).unwrap_or(usize::MAX);
        let place = node.clients.places.enter(clients_max, node.descriptors.visitors());
        if let Some(worker) = workers.get(turn % workers.len().max(1)) {
            // Fails only when the worker has ended, that is at shutdown.
            let _ = worker.send(Accepted { stream, peer, place, is_tls });
        }
        turn = turn.wrapping_add(1);
    }
}

/// What is done with connections for which there are no descriptors.
struct Refusing {
    listener: Accepting,
    spare: Spare,
    seldom: Seldom,
}

impl Refusing {
    fn new(listener: &Listener) -> anyhow::Result<Self> {
        Ok(Self {
            listener: listener.accepting().context("share a listener")?,
            spare: Spare::new().context("keep a spare descriptor")?,
            seldom: Seldom::every(WORD),
        })
    }

    /// Says so to a client, and at times in the log.
    fn tell(&self, node: &Node, mut stream: std::net::TcpStream, why: &str) {
        node.stats.rejected_connections.fetch_add(1, Ordering::Relaxed);
        // The peer may be gone already; it is refused either way.
        let _ = write!(stream, "-{TOO_MANY}\r\n");
        if let Some(count) = self.seldom.count() {
            tracing::warn!(count, why, "connections refused");
        }
    }

    /// Without a descriptor for a connection the kernel would keep it waiting, and the listener
    /// ready: it is accepted with the spare one, and told.
    fn cannot_accept(&mut self, node: &Node, error: &io::Error) {
        if !limits::is_limit(error) {
            if let Some(count) = self.seldom.count() {
                tracing::warn!(%error, count, "cannot accept a connection");
            }
            return;
        }
        let listener = &self.listener;
        let accepted = self.spare.lend(|| {
            // Told before the descriptor is taken back.
            let stream = listener.accept()?;
            Ok::<_, io::Error>((&stream).write_all(format!("-{TOO_MANY}\r\n").as_bytes()))
        });
        if accepted.is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            return;
        }
        node.stats.rejected_connections.fetch_add(1, Ordering::Relaxed);
        if let Some(count) = self.seldom.count() {
            tracing::warn!(%error, count, "connections refused: a limit of this process or machine was met");
        }
    }
}

#[cfg(test)]
mod tests {
    use storage::{Options, Store};
    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
    use topology::Cluster;

    use super::*;
    use crate::config::value::Value;
    use crate::config::{Config, Values};
    use crate::gate::Role;
    use crate::listener::{listen, listen_on_file};

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn call<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, words: &str) -> String {
        stream.write_all(format!("{words}\r\n").as_bytes()).await.unwrap();
        let mut answer = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&answer[..read]).trim_end().to_owned()
    }

    #[tokio::test]
    async fn a_client_of_the_socket_file_is_one_of_this_host() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mut values = crate::shell::small();
        // Its address would be a balancer's.
        values.balancer_sources = Value::parse("127.0.0.1/32").unwrap();
        let node = crate::shell::node(folder.path(), values, Cluster::default(), Role::Master);
        let shown = path.to_str().unwrap();
        node.clients.file.set(shown.into()).unwrap();
        let listener = listen_on_file(&path, 0o700, 16).unwrap();
        let workers = start(&node).unwrap();
        let accepting = tokio::spawn(accept(Arc::clone(&node), listener, workers));
        let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
        let mut killer = tokio::net::UnixStream::connect(&path).await.unwrap();
        assert_eq!(call(&mut client, "SET k v").await, "+OK");
        let listed = call(&mut client, "CLIENT INFO").await;
        assert!(listed.contains(&format!("addr={shown}:0 laddr={shown}:0")), "{listed}");
        assert!(listed.contains(" flags=U "), "{listed}");
        let kill = format!("CLIENT KILL ADDR {shown}:0 SKIPME yes");
        assert_eq!(call(&mut killer, &kill).await, ":1");
        let mut end = [0; 1];
        let ended = tokio::time::timeout(PATIENCE, client.read(&mut end)).await.unwrap();
        assert_eq!(ended.unwrap(), 0);
        node.shut_down();
        accepting.await.unwrap().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn child_with_a_worker() {
        if crate::threads::tests::is_child() {
            spawn("worker-7".into(), |_| panic!("told")).unwrap();
            // Longer than it may take: the process is to be gone by then.
            std::thread::park_timeout(PATIENCE);
        }
    }

    #[test]
    fn a_worker_that_panics_ends_the_process() {
        let (code, said) =
            crate::threads::tests::end_of_child("worker::tests::child_with_a_worker");
        assert_eq!(code, Some(i32::from(crate::threads::EXIT_CODE)), "{said}");
        assert!(said.contains("told"), "{said}");
    }

    #[tokio::test]
    async fn peers_are_served_by_a_worker_without_clients() {
        let folder = tempfile::tempdir().unwrap();
        let values = Values { workers: 2, peer_auth: "secret".into(), ..Values::default() };
        let options = Options { block_cache_size: 8 << 20, ..Options::default() };
        let store = Store::open(&folder.path().join("db"), options).unwrap();
        let dir = folder.path().to_owned();
        let node = Node::new(
            Config::new(values, None),
            dir,
            store,
            Cluster::default(),
            Role::Master,
            crate::shell::commands(),
        );
        let node = Arc::new(node);
        let options = crate::listener::Options { bind: "bind", port: "port" };
        let listener = listen(&["127.0.0.1".into()], 0, 16, options).unwrap().pop().unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Listener::Tcp(listener);
        let workers = start(&node).unwrap();
        assert_eq!(workers.len(), 2);
        let accepting = tokio::spawn(accept(Arc::clone(&node), listener, workers));
        let sent = |index: usize| node.stats.workers[index].bytes_out.load(Ordering::Relaxed);
        for _ in 0..4 {
            let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
            assert_eq!(call(&mut client, "PING").await, "+PONG");
        }
        assert!(sent(0) > 0 && sent(1) > 0);
        assert_eq!(sent(2), 0);
        let mut peer = tokio::net::TcpStream::connect(address).await.unwrap();
        assert_eq!(call(&mut peer, "AUTH secret").await, "+OK");
        // With the secret alone it is an operator's connection, which may ask what takes long.
        assert_eq!(call(&mut peer, "PING").await, "+PONG");
        assert_eq!(sent(2), 0);
        let asked = call(&mut peer, "REPLCONF listening-port 1").await;
        // A worker counts what it sent after it was sent.
        let all = 5 * "+PONG\r\n".len() + "+OK\r\n".len() + asked.len() + "\r\n".len();
        let all = u64::try_from(all).unwrap();
        let counted = async {
            while sent(0) + sent(1) < all {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, counted).await.unwrap();
        let before = (sent(0), sent(1));
        assert_eq!(call(&mut peer, "PING").await, "+PONG");
        assert_eq!(call(&mut peer, "ECHO hello").await, "$5\r\nhello");
        assert_eq!((sent(0), sent(1)), before);
        assert!(sent(2) > 0);
        assert_eq!(node.clients.places.count().1, 1);
        drop(peer);
        let gone = async {
            while node.clients.places.count().1 > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
        node.shut_down();
        accepting.await.unwrap().unwrap();
    }
}
