//! One socket: greeting, reading, running what is complete, answering.
//!
//! Everything that a client makes the node hold is bounded: its unserved bytes, its unsent replies,
//! one command. If a client does not read its replies, nothing more is read from it either.
//!
//! Replies that wait for the in-sync set wait in [`held`]; meanwhile further commands are read and
//! run, up to a bound.

mod arrival;
mod attend;
mod event;
mod greeting;
mod held;
mod known;
mod late;
mod lending;
mod moving;
mod peers;
mod room;
mod sending;
mod time_left;
mod turn;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use api::moving::Mark;
use api::proxy::{self, Opening};
use resp::{Limits, Parser, Writer, request::Parsed};
use tokio::io::AsyncWriteExt;

use crate::clients::places::Place;
use crate::clients::{Client, Via};
use crate::clock;
use crate::command::Words;
use crate::memory::held::Charge;
use crate::node::Node;
use crate::session::dispatch::{Batch, Ran};
use crate::session::{After, Detached, ReplyMode, Session, Takeover, gates};
use crate::stats::WorkerStats;
use crate::stats::latency::Begun;
use crate::stream::Stream;
use crate::waiters::Lent;
use attend::attend;
use event::Event;
use greeting::Greeting;
use held::Held;
pub use peers::{Caller, Desk, receive};
pub use turn::close_line;
use turn::{Done, Served};

/// Read at once.
const READ_BYTES: usize = 16 * 1024;
/// Unsent replies above which they are sent before more commands are run.
const REPLY_BYTES: usize = 256 * 1024;
/// For how long a pipeline runs before the other connections of its worker have a turn.
const TURN: Duration = Duration::from_millis(10);
/// Buffers larger than that are given back when they are empty.
const KEEP_BYTES: usize = 64 * 1024;

/// Why a connection ended; for the debug log.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client closed it")]
    Eof,
    #[error("its balancer ended its side, and was given what is left")]
    Moved,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Refused(String),
    #[error("there was no place for it")]
    NoPlace,
    #[error("it was asked to end")]
    Killed,
    #[error("its last command ended it")]
    Quit,
    #[error("it became a replication stream")]
    Detached,
    #[error("it went to the worker that serves peers")]
    HandedOver,
}

/// How a connection leaves its worker.
enum Leave {
    /// It becomes something else.
    Detach(Takeover),
    /// It goes where peers are served.
    ToPeers,
}

/// Where a connection is served.
#[derive(Debug)]
pub struct Seat {
    /// The node.
    pub node: Arc<Node>,
    /// Index of the worker.
    pub worker: usize,
    /// The worker that serves peers instead, if it is another one.
    pub peers: Option<Desk>,
}

/// Serves one accepted socket until it ends.
pub async fn serve(at: Seat, stream: impl Into<Stream>, peer: SocketAddr, mut place: Place) {
    let stream = stream.into();
    let local = stream.accepted().unwrap_or(peer);
    let mut connection = Connection::new(at, stream, Vec::new());
    let Greeting { address, via, moved, secure } =
        match connection.arrive(peer, local, &mut place).await {
            Ok(greeting) => greeting,
            Err(end) => {
                tracing::debug!(%peer, %end, "connection refused");
                return;
            }
        };
    if let Via::Check { .. } = via {
        // It may say PING and nothing else, and that the node answers is to be seen also where
        // clients speak TLS alone, by balancers without a certificate.
        connection.stream.may_be_clear();
    }
    // A session that was elsewhere goes on in clear where it was in the middle of a command.
    let decided = match &moved {
        Some(moved) if !moved.unread.is_empty() => connection.stream.stay_clear(),
        _ => connection.secure(),
    };
    if let Err(error) = decided {
        tracing::debug!(%peer, %error, "connection refused");
        return;
    }
    let node = Arc::clone(&connection.node);
    let since_ms = moved.as_ref().map_or_else(clock::unix_ms, |moved| moved.since_ms);
    let client = node.clients.add(address, local, via, since_ms);
    client.sit(place);
    client.descriptor.store(connection.stream.descriptor(), Ordering::Relaxed);
    let told = Told { moved, secure };
    attend(&node, &client, connection.run(Arc::clone(&client), told)).await;
}

/// What a balancer tells of a client.
struct Told {
    moved: Option<api::moving::Session>,
    secure: Option<Box<proxy::Secure>>,
}

struct Connection {
    node: Arc<Node>,
    worker: usize,
    /// Where it goes as a peer; `None` where it is there.
    peers: Option<Desk>,
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    out: Vec<u8>,
    held: Held,
    /// Commands whose replies are in `out`.
    leaving: Vec<Begun>,
    /// Its balancer can move the session: when it ends its side, the session is given back.
    moves: bool,
    /// What comes from there when the client has ended its side.
    mark: Option<Mark>,
    /// Bytes at the end of the buffer that may be the beginning of the mark.
    kept_back: usize,
    /// The client has ended its side: what it sent is run and answered, then the connection is
    /// closed.
    is_over: bool,
    /// The stream has ended.
    at_end: bool,
    /// Pushes stay where they are: what is waited for was read before they came.
    keeps_pushes: bool,
    /// The thread that answers the waiting command may send the answer by this.
    lent: Option<Lent>,
    /// It is not known yet whether the client speaks TLS, nor whom its certificate names.
    is_new: bool,
    /// Bytes that are held of a command that has not come whole, beside the buffer.
    parsed: usize,
    /// The memory it uses, as the node counts it.
    charge: Charge,
}

impl Connection {
    fn new(at: Seat, stream: impl Into<Stream>, buffer: Vec<u8>) -> Self {
        let Seat { node, worker, peers } = at;
        let charge = Charge::new(&node.memory);
        Self {
            charge,
            node,
            worker,
            peers,
            stream: stream.into(),
            buffer,
            start: 0,
            out: Vec::new(),
            held: Held::default(),
            leaving: Vec::new(),
            moves: false,
            mark: None,
            kept_back: 0,
            is_over: false,
            at_end: false,
            keeps_pushes: false,
            lent: None,
            is_new: true,
            parsed: 0,
        }
    }

    /// From here on the client may begin TLS, if this node has a certificate.
    fn secure(&mut self) -> std::io::Result<()> {
        let tls = self.node.tls.now();
        self.stream.secure(tls.as_deref(), &mut self.buffer, self.mark)
    }

    /// Whether its balancer may take the session elsewhere. A session over TLS has its keys here,
    /// and stays.
    fn may_move(&self) -> bool {
        self.moves && !self.stream.is_secure()
    }

    async fn run(mut self, client: Arc<Client>, told: Told) -> End {
        let config = self.node.config.now();
        let is_denied = config.protected_mode
            && config.requirepass.is_empty()
            && self.node.acl.default_account().user().is_open
            && !client.address.ip().is_loopback()
            && !matches!(client.via, Via::Check { .. });
        if is_denied && config.peer_auth.is_empty() {
            Writer::new(&mut self.out, resp::Protocol::V2).error(gates::DENIED);
            if !self.is_introduced(&client).await {
                // The peer may be gone already; it is refused either way.
                let _ = self.stream.write_all(&self.out).await;
            }
            return End::Refused("protected mode".into());
        }
        let mut session = Session::new(client, &config, is_denied);
        session.meet(&self.node);
        let Told { moved, secure } = told;
        if let Some(secure) = secure {
            known::recognize_behind(&self.node, &mut session, &secure, moved.is_some());
        }
        if let Some(moved) = moved {
            moving::unpack(&self.node, &mut session, moved, &config);
        }
        drop(config);
        self.go_on(session).await
    }

    async fn go_on(self, session: Session) -> End {
        let Some((end, served)) = turn::serve(Served::new(self, session)).await else {
            return End::Killed;
        };
        let Served { connection, mut session, .. } = *served;
        if let Ok(Leave::ToPeers) = end {
            return connection.hand_over(session);
        }
        session.transaction.unwatch(&connection.node);
        connection.node.pubsub.leave(&session.client);
        connection.node.monitors.remove(&session.client);
        connection.node.tracking.end(session.client.id);
        match end {
            Ok(Leave::Detach(detach)) => {
                connection.detach(session, detach);
                End::Detached
            }
            Ok(Leave::ToPeers) => End::HandedOver,
            Err(end) => end,
        }
    }

    /// Answers commands that have run, and waits for what is to run next. `Some` when the socket is
    /// to leave the worker.
    async fn answer(
        &mut self,
        session: &mut Session,
        parser: &mut Parser,
        Done { stop, ran, begun }: Done,
    ) -> Result<Option<Leave>, End> {
        let ticket = ran.finish(&self.node).map_err(|why| End::Refused(why.into()))?;
        if let Stop::Command { after: After::Drop(why), .. } = stop {
            return Err(End::Refused(why.into()));
        }
        if !matches!(stop, Stop::Command { after: After::Again(_), .. }) {
            // It has run, and is still from here on by its client's fault.
            self.set_waiting(session, false);
        }
        if ticket.is_some() || !self.held.is_empty() {
            self.held.push(&mut self.out, ticket, begun);
        } else {
            self.leaving.push(begun);
        }
        self.take_pushes(session);
        match stop {
            // Further commands may run while replies wait.
            Stop::Read | Stop::More | Stop::Turn => {}
            Stop::Malformed | Stop::Command { .. } => self.drain(session).await?,
        }
        self.send(session).await?;
        match stop {
            Stop::Read if self.at_end || self.is_over => {
                self.drain(session).await?;
                // A half-closed client has all its answers by now.
                let is_asked = self.at_end && self.may_move() && !self.is_over;
                return Err(if is_asked { self.give_back(session).await } else { End::Eof });
            }
            Stop::Read if self.belongs_elsewhere(session) => return Ok(Some(Leave::ToPeers)),
            Stop::Read => self.read(session, parser).await?,
            Stop::More => self.make_room(session).await?,
            Stop::Turn => tokio::task::yield_now().await,
            Stop::Malformed => return Err(End::Quit),
            Stop::Command { after, length, replies } => {
                let ended = Ended { after, length, replies, ran, begun };
                return self.follow(session, ended, parser).await;
            }
        }
        Ok(None)
    }

    /// Runs the complete commands in the buffer, up to a bound of unsent replies. They have waited
    /// since then.
    fn run_buffered(
        &mut self,
        session: &mut Session,
        parser: &mut Parser,
        batch: &mut Batch<'_>,
        since: Instant,
    ) -> (Stop, Begun) {
        let (bulk_max, replies_max) = self.bounds(session, &batch.config);
        session.client.last_ms.store(batch.now_ms(), Ordering::Relaxed);
        let mut begun = Begun { at: since, commands: 0 };
        let stop = loop {
            if self.out.len() > replies_max {
                break Stop::More;
            }
            if batch.age() > TURN {
                break Stop::Turn;
            }
            let limits = match session.is_stranger() {
                true => Limits::unauthenticated(),
                false => Limits::new(bulk_max),
            };
            let pending = &self.buffer[self.start..self.buffer.len() - self.kept_back];
            match proxy::opening(pending) {
                Opening::Command => {}
                Opening::Undecided => break Stop::Read,
                Opening::Header => {
                    let after = After::Drop(self.stray_header(&session.client));
                    break Stop::Command { after, length: 0, replies: session.reply_mode };
                }
            }
            let length = match parser.parse(pending, &limits) {
                Ok(Parsed::Incomplete) => break Stop::Read,
                Ok(Parsed::Command { length }) => length,
                Err(error) => {
                    let text = format!("ERR {error}");
                    self.node.stats.errors.note(text.as_bytes());
                    Writer::new(&mut self.out, session.protocol).error(&text);
                    break Stop::Malformed;
                }
            };
            let words: Words<'_> = parser.arguments(pending).collect();
            let replies = session.reply_mode;
            let after = batch.run(session, &words, &mut self.out);
            drop(words);
            match &after {
                After::Next(_) | After::Wrote(_) => {
                    self.start += length;
                    begun.commands += 1;
                }
                After::Again(_) => {
                    // Not consumed: the parser starts again at the same command.
                    *parser = Parser::new();
                    break Stop::Command { after, length, replies };
                }
                _ => {
                    self.start += length;
                    break Stop::Command { after, length, replies };
                }
            }
        };
        self.show_buffers(session);
        (stop, begun)
    }

    /// Lets go of the bytes of commands that have run. A client that is always one waiting command
    /// ahead is read from without end, and not by [`Self::read`]. What is left is moved only when
    /// it is no more than what goes: it may be as much as a client may send ahead.
    fn forget_served(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
            if self.buffer.capacity() > self.keeps().0 {
                sending::give_back(std::mem::take(&mut self.buffer));
            }
        } else if self.start > READ_BYTES && self.start >= self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
    }

    /// How much has come that has not run.
    ///
    /// # Errors
    /// It is more than a client may send ahead.
    fn unserved(&self, session: &Session) -> Result<usize, End> {
        let unserved = self.buffer.len() - self.start;
        if u64::try_from(unserved).unwrap_or(u64::MAX) > self.query_max(session) {
            return Err(End::Refused("client-query-buffer-limit exceeded".into()));
        }
        Ok(unserved)
    }

    async fn read(&mut self, session: &Session, parser: &Parser) -> Result<(), End> {
        self.forget_served();
        self.wait_for_room(session).await?;
        let pending = self.unserved(session)?;
        self.buffer.reserve(parser.wanted(pending).clamp(READ_BYTES, 1 << 20));
        // Its client may be silent from here on.
        self.show_buffers(session);
        let read = match self.read_while_waiting(session).await? {
            Some(read) => read,
            None => match self.event(session, true, std::future::pending::<Infallible>()).await? {
                Event::Read(read) => read,
                Event::Done(never) => match never {},
            },
        };
        self.count(|stats| &stats.bytes_in, read);
        Ok(())
    }

    fn count(
        &self,
        counter: impl Fn(&WorkerStats) -> &std::sync::atomic::AtomicU64,
        amount: usize,
    ) {
        if let Some(stats) = self.node.stats.workers.get(self.worker) {
            WorkerStats::add(counter(stats), amount as u64);
        }
    }

    fn detach(self, session: Session, take: Takeover) {
        let client = session.client;
        match self.stream.leave() {
            Ok(stream) => take(Detached {
                stream,
                unread: self.buffer.get(self.start..).unwrap_or_default().to_vec(),
                client,
                node: self.node,
                facts: session.replica,
            }),
            Err(error) => {
                tracing::warn!(%error, "cannot take a socket from its worker");
                self.node.clients.remove(client.id);
            }
        }
    }
}

/// Why no further command of the buffer runs.
enum Stop {
    /// More bytes are needed.
    Read,
    /// Replies are to be sent first.
    More,
    /// Others have a turn first.
    Turn,
    /// What came is no command; that was said.
    Malformed,
    /// A command ended so that the next one cannot follow at once.
    Command {
        after: After,
        /// Length of the command, in bytes.
        length: usize,
        /// CLIENT REPLY as it was before the command.
        replies: ReplyMode,
    },
}

/// A command after which the next one cannot follow at once.
struct Ended {
    after: After,
    /// See [`Stop::Command`].
    length: usize,
    replies: ReplyMode,
    ran: Ran,
    begun: Begun,
}

/// IPv4 in IPv6 clothes is shown as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
