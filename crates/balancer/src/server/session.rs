//! From an accepted connection to its end.
//!
//! Invariant: whatever ends a session other than both sides closing — a cut, an error, the end of
//! the process — resets both sides. A client whose handshake fails, or lasts when it is cut, has no
//! session yet: its connection is closed.
//!
//! A session leads to one node after the other: where its frontend holds, it is taken back from its
//! node (`docs/protocol.md` §12), waits, and goes on at the next one.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::balancer::Backend;
use api::moving::Mark;
use api::proxy::{self, Secure};
use limits::{Seldom, Spare};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use web::terminate::{Said, Side};
use web::tls::Tls;

use super::frontend::{Frontend, Pass, Reach};
use super::relay::{Budgets, End, Leave, Luggage, Record, relay};
use super::sys;
use super::workers::{Seat, Workers};
use crate::lookup::Lookups;

/// How long accepting rests when the process has no descriptors left.
const ACCEPT_REST: Duration = Duration::from_millis(20);
/// Between two words in the log about connections that could not be accepted.
const WORD: Duration = Duration::from_secs(10);
/// How long a client may stay when its node has ended its session, and all of it was passed on. One
/// in a pool that nobody looks at would else keep a place here for ever, and those of a client that
/// sends QUIT and stays cost it nothing at the node.
const STAYS: Duration = Duration::from_secs(10);

/// What all sessions share.
pub(super) struct Shared {
    pub(super) workers: Workers,
    pub(super) bind_source: Option<IpAddr>,
    pub(super) send_proxy: bool,
    /// Backends are checked between clients.
    pub(super) is_checked: bool,
    pub(super) connect_timeout: Duration,
    pub(super) max_sessions: usize,
    pub(super) sessions: AtomicUsize,
    /// For what is kept of sessions that move.
    pub(super) budgets: Budgets,
    /// Where the TLS of clients ends here.
    pub(super) tls: Arc<Tls>,
    /// Names of nodes and of announced endpoints.
    pub(super) lookups: Lookups,
}

/// A place under `limits.max_sessions`.
struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Both ends. Fields are dropped in this order: the sockets are closed before the session stops
/// counting.
struct Ends {
    client: Side,
    backend: Option<Side>,
    clean: bool,
    pass: Pass,
    _place: Place,
    _seat: Seat,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if !self.clean {
            sys::reset_on_close(self.client.socket());
            if let Some(backend) = &self.backend {
                sys::reset_on_close(backend.socket());
            }
        }
    }
}

/// Accepts for ever; ended by aborting its task.
pub(super) async fn accept(
    listener: std::net::TcpListener,
    frontend: Arc<Frontend>,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let listener = sys::watch(listener)?;
    let mut spare = Spare::new()?;
    let seldom = Seldom::every(WORD);
    loop {
        let mut ready = listener.readable().await?;
        match ready.try_io(|listener| listener.get_ref().accept()) {
            Err(_would_block) => {}
            Ok(Ok((client, peer))) => admit(client, peer, &frontend, &shared),
            // The client was gone before it was accepted.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => {
                if let Some(count) = seldom.count() {
                    tracing::warn!(frontend = %frontend.listen, %error, count, "cannot accept, resting");
                }
                if limits::is_limit(&error) {
                    frontend.came_short();
                    // With the spare descriptor: the client learns now that there is no place, and
                    // not when it gives up.
                    let refused = spare.lend(|| {
                        let accepted = listener.get_ref().accept();
                        accepted.map(|(client, _)| sys::reset_on_close(&client))
                    });
                    frontend
                        .counters
                        .refused
                        .fetch_add(u64::from(refused.is_ok()), Ordering::Relaxed);
                }
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// Starts a session on the least loaded worker, or resets the client.
fn admit(client: StdStream, peer: SocketAddr, frontend: &Arc<Frontend>, shared: &Arc<Shared>) {
    frontend.counters.accepted.fetch_add(1, Ordering::Relaxed);
    let place = take_place(shared);
    let entered = place.and_then(|place| Some((place, frontend.enter()?)));
    let Some((place, pass)) = entered else {
        frontend.counters.refused.fetch_add(1, Ordering::Relaxed);
        sys::reset_on_close(&client);
        return;
    };
    let id = pass.id();
    let seat = shared.workers.seat();
    let handle = seat.handle.clone();
    let task = handle.spawn(run(client, peer, pass, place, seat));
    frontend.started(id, task.abort_handle());
}

fn take_place(shared: &Arc<Shared>) -> Option<Place> {
    let before = shared.sessions.fetch_add(1, Ordering::Relaxed);
    let place = Place(Arc::clone(shared));
    (before < shared.max_sessions).then_some(place)
}

async fn run(client: StdStream, peer: SocketAddr, pass: Pass, place: Place, seat: Seat) {
    let shared = Arc::clone(&place.0);
    let client = match client.set_nonblocking(true).and_then(|()| TcpStream::from_std(client)) {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(%error, "cannot use an accepted connection");
            return;
        }
    };
    let frontend = Arc::clone(&pass.frontend);
    let client = match greet(client, &frontend, &shared).await {
        Ok(client) => client,
        Err(error) => {
            tracing::debug!(frontend = %frontend.listen, %peer, %error, "cannot use a client's connection");
            frontend.counters.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
    };
    let mut ends = Ends { client, backend: None, clean: false, pass, _place: place, _seat: seat };
    let (mut luggage, mut record) = (Luggage::default(), None);
    while let Some(to) = ends.pass.next().await {
        let mark = match connect(&ends, peer, (&to, record.take()), &shared).await {
            Ok((backend, mark)) => {
                let from = backend.socket().local_addr().ok().map(|from| from.ip().to_canonical());
                frontend.connected(&to, from, shared.is_checked);
                // Of one in clear the node has proved nothing.
                if matches!(backend, Side::Secure(_)) || !shared.tls.dials_nodes() {
                    frontend.set_unbelieved(&to, None);
                }
                ends.backend = Some(backend);
                mark
            }
            Err(missed) => {
                tell(&frontend, &to, &missed);
                frontend.counters.refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        match follow(&mut ends, &mut luggage, mark, &shared).await {
            Ok(End::Given(given)) => {
                frontend.counters.moved.fetch_add(1, Ordering::Relaxed);
                record = Some(given);
            }
            Ok(End::Closed) => return ends.clean = true,
            Ok(End::Cut) => {
                frontend.counters.cut.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Ok(End::NotGiven) => {
                // All that the node answered has reached the client: an end without a reset keeps
                // it.
                frontend.counters.cut.fetch_add(1, Ordering::Relaxed);
                return ends.clean = true;
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::OutOfMemory {
                    // It was to move, and there is no room for what it has to keep.
                    frontend.counters.cut.fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
        }
        ends.backend = None;
        ends.pass.left();
    }
    // Closed while it was being set up, or while it waited.
    frontend.counters.refused.fetch_add(1, Ordering::Relaxed);
}

/// Makes a client's connection ready. Where its TLS ends here the handshake comes first: the client
/// has a place already, and no node yet. One that fails is closed and not reset, so that the client
/// learns why.
async fn greet(client: TcpStream, frontend: &Frontend, shared: &Shared) -> io::Result<Side> {
    sys::tune(&client)?;
    match shared.tls.terminator(&frontend.listen.to_string()) {
        None => Ok(client.into()),
        Some(terminator) => terminator.greet(client).await,
    }
}

/// What the node is told of a client whose TLS ended here.
fn secure(client: &Side) -> Option<Secure> {
    let Said { version, cipher, is_known, name } = client.said()?;
    Some(Secure { version, cipher, is_known, name })
}

/// Moves bytes until the session ends or leaves its node.
async fn follow(
    ends: &mut Ends,
    luggage: &mut Luggage,
    mark: Option<Mark>,
    shared: &Shared,
) -> io::Result<End> {
    let Ends { client, backend: Some(backend), pass, .. } = ends else {
        return Err(io::ErrorKind::NotConnected.into());
    };
    let counters = &pass.frontend.counters;
    let leave = Leave { order: &pass.order, mark, budgets: &shared.budgets, patience: STAYS };
    relay(client, backend, luggage, (&counters.inbound, &counters.outbound), leave).await
}

/// Why a session has not come to its node.
enum Missed {
    /// There was no connection, or not in time.
    Dialling(io::Error),
    /// There was one, and it was of no use.
    Opening(io::Error),
}

/// Dials the backend and opens the session there, both within one limit.
async fn connect(
    ends: &Ends,
    peer: SocketAddr,
    (to, record): (&Backend, Option<Record>),
    shared: &Shared,
) -> Result<(Side, Option<Mark>), Missed> {
    let deadline = Instant::now() + shared.connect_timeout;
    let dialled = timeout_at(deadline, dial(to, shared)).await;
    let backend = dialled.unwrap_or_else(|late| Err(late.into())).map_err(Missed::Dialling)?;
    let opened = timeout_at(deadline, open(backend, ends, peer, (to, record), shared)).await;
    opened.unwrap_or_else(|late| Err(late.into())).map_err(Missed::Opening)
}

/// What is to be known of a node that a session has not come to. One that took the connection was
/// reached: it may be busy, or be about to end. That it speaks no TLS that is believed is told all
/// the same, and is no reason to replace it.
fn tell(frontend: &Frontend, to: &Arc<Backend>, missed: &Missed) {
    match missed {
        // A want of descriptors or ports here says nothing of the node.
        Missed::Dialling(error) if limits::is_limit_of_dialling(error) => frontend.came_short(),
        Missed::Dialling(error) => {
            frontend.set_reach(to, Reach::Down(error.to_string()), None);
        }
        Missed::Opening(error) => match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::Other => {
                frontend.set_unbelieved(to, Some(format!("TLS with it: {error}")));
            }
            _ => {
                let (frontend, node) = (&frontend.listen, &to.node);
                tracing::debug!(%frontend, node, %error, "a session did not come to its node");
            }
        },
    }
}

/// Sends the PROXY header, and behind it the record of a session that was elsewhere before; returns
/// the node's side with the mark that the header names. Where nodes are spoken to over TLS, and the
/// client's ended here, the session has no mark and stays where it is.
async fn open(
    mut backend: TcpStream,
    ends: &Ends,
    peer: SocketAddr,
    (to, record): (&Backend, Option<Record>),
    shared: &Shared,
) -> io::Result<(Side, Option<Mark>)> {
    if !shared.send_proxy {
        return Ok((backend.into(), None));
    }
    let (at, secure) = (ends.client.socket().local_addr()?, secure(&ends.client));
    // A session that was elsewhere before goes on as it began.
    if let (Some(secure), None, true) = (&secure, &record, shared.tls.dials_nodes()) {
        backend.write_all(&proxy::encode_secure(peer, at, secure)).await?;
        return Ok((shared.tls.connect(&to.host, backend).await?.into(), None));
    }
    let bytes = record.as_ref().map(|record| &record.bytes[..]).unwrap_or_default();
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mark = Mark::fresh(rand::random());
    let header = proxy::encode_session(peer, at, length, &mark, secure.as_ref());
    backend.write_all(&header).await?;
    backend.write_all(bytes).await?;
    // Counted until here.
    drop(record);
    Ok((backend.into(), Some(mark)))
}

/// A connection to a node, without a header yet.
pub(super) async fn dial(backend: &Backend, shared: &Shared) -> io::Result<TcpStream> {
    let found = shared.lookups.one(&backend.host, backend.port).await.addresses()?;
    let none =
        || io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", backend.host));
    let target = found.first().copied().ok_or_else(none)?;
    let stream = sys::dialler(target, shared.bind_source)?.connect(target).await?;
    sys::tune(&stream)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use topology::Endpoint;

    use super::super::frontend::Way;
    use super::*;

    /// A controller replaces a master that a balancer does not reach: clients that use up what this
    /// machine has to dial with must not bring that about.
    #[test]
    fn what_this_machine_lacks_is_not_told_of_the_node() {
        let told = |number: i32| {
            let frontend = Frontend::new(Endpoint { host: "127.0.0.1".to_owned(), port: 7000 });
            let host = "127.0.0.1".to_owned();
            frontend.switch(&Way::To(Backend { node: "a".repeat(40), host, port: 6666 }));
            let to = frontend.backend().unwrap();
            tell(&frontend, &to, &Missed::Dialling(io::Error::from_raw_os_error(number)));
            let state = frontend.state();
            (state.backend_up, state.error.is_some())
        };
        for number in [libc::EADDRNOTAVAIL, libc::EMFILE, libc::ENOBUFS] {
            assert_eq!(told(number), (None, true), "{number}");
        }
        for number in [libc::ECONNREFUSED, libc::EHOSTUNREACH] {
            assert_eq!(told(number), (Some(false), false), "{number}");
        }
    }
}
