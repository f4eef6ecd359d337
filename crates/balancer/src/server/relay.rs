//! Moves bytes both ways between two sockets, in one task and without a buffer per idle session.
//!
//! Each thread has one scratch buffer: what is read is written on at once, and only what the other
//! side does not take is kept with the session, at most one scratch full per direction. `poll_read`
//! with a buffer larger than what is there tells tokio that the socket is empty, so that a request
//! costs one `recv` and one `send`, like in a hand-made event loop.
//!
//! A node that was told that sessions can be moved ends its stream with a trailer once our side of
//! it is closed. That is closed only to ask for the session: a client's end is passed on as a mark.
//! From the close on, the last [`TRAILER_MAX`] bytes are withheld until the stream has ended: a
//! trailer never reaches a client. What all sessions withhold together has a [`Budget`], and so has
//! what their clients left unread when they moved.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use api::moving::{Mark, TRAILER_MAX, find};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};
use web::terminate::Side;

/// Bytes read at once.
const SCRATCH: usize = 64 * 1024;

/// Bytes a session counts by itself before it touches the shared counter.
const COUNT_STEP: u64 = 1 << 20;

/// Bytes that all sessions together may withhold while they leave their node, records that wait for
/// a node included.
const WITHHELD_MAX: usize = 256 << 20;

/// Bytes that the clients of all sessions together may leave unread when these move, beyond one
/// scratch each. Not out of [`WITHHELD_MAX`]: clients that never read would else use that up, and
/// the next switchover could move nobody.
const UNREAD_MAX: usize = 256 << 20;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// How a relay ended.
#[derive(Debug)]
pub(super) enum End {
    /// Both sides closed.
    Closed,
    /// The node was asked to give the session back and closed it.
    NotGiven,
    /// It was to leave, and cannot: its node was told of no mark.
    Cut,
    /// The node gave the session back.
    Given(Record),
}

/// What a session takes along, which no balancer understands.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) bytes: Vec<u8>,
    _share: Share,
}

/// What is left of a bound.
#[derive(Debug)]
struct Budget(AtomicUsize);

/// What sessions may keep because they move.
#[derive(Debug, Clone)]
pub(super) struct Budgets {
    withheld: Arc<Budget>,
    unread: Arc<Budget>,
}

impl Default for Budgets {
    fn default() -> Self {
        let budget = |bytes| Arc::new(Budget(AtomicUsize::new(bytes)));
        Self { withheld: budget(WITHHELD_MAX), unread: budget(UNREAD_MAX) }
    }
}

/// A part of the budget, given back when this is dropped.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    fn none(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// False, and nothing taken, if there is not as much left.
    fn grow(&mut self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        let taken = self.budget.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        self.bytes += if taken { bytes } else { 0 };
        taken
    }

    fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        if surplus > 0 {
            self.bytes -= surplus;
            self.budget.0.fetch_add(surplus, Ordering::Relaxed);
        }
    }

    /// A part of it, at most all.
    fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: Arc::clone(&self.budget), bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// What a session that moves has read from one side and not written to the other.
#[derive(Debug, Default)]
pub(super) struct Luggage {
    to_backend: Vec<u8>,
    to_client: Vec<u8>,
    /// Of what goes to the client.
    unread: Option<Share>,
    /// The client has ended its side.
    is_over: bool,
}

/// When a session leaves its node.
pub(super) struct Leave<'a> {
    /// Told when it is to.
    pub(super) order: &'a Notify,
    /// What the node was told that the client's end will be; without it the session cannot leave.
    pub(super) mark: Option<Mark>,
    /// Where what is kept for that is taken from.
    pub(super) budgets: &'a Budgets,
    /// How long the client may keep its side open behind its node's end: nobody answers it any
    /// more, and the node has no place for it, and no limit.
    pub(super) patience: Duration,
}

/// One direction.
struct Pipe<'a> {
    kept: Vec<u8>,
    sent: usize,
    /// The last bytes of a stream that may end in a trailer.
    tail: Vec<u8>,
    /// Of the tail, and of what came from there and is kept.
    share: Share,
    /// Of what is kept beyond a scratch full since the session moved.
    unread: Share,
    /// Sent in place of the end, and how much of it was.
    mark: Option<(Mark, usize)>,
    /// The end was read.
    ended: bool,
    /// It was passed on.
    closed: bool,
    /// Nothing more can be written.
    shut: bool,
    bytes: u64,
    total: &'a AtomicU64,
}

impl Drop for Pipe<'_> {
    fn drop(&mut self) {
        self.total.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Copies until both sides have closed, passing a half-close on, or until the session has left the
/// backend. An error of either side ends it. So does a client that does not close behind its node's
/// end. A session leaves a backend in clear only: what was encrypted for it, and has not left,
/// cannot be taken back. `luggage` is sent first, and holds what was not sent when the session
/// leaves.
pub(super) async fn relay(
    client: &mut Side,
    backend: &mut Side,
    luggage: &mut Luggage,
    (inbound, outbound): (&AtomicU64, &AtomicU64),
    leave: Leave<'_>,
) -> io::Result<End> {
    let mut up = Pipe::new(std::mem::take(&mut luggage.to_backend), inbound, leave.budgets);
    let mut down = Pipe::new(std::mem::take(&mut luggage.to_client), outbound, leave.budgets);
    up.ended = luggage.is_over;
    up.mark = leave.mark.map(|mark| (mark, 0));
    if let Some(unread) = luggage.unread.take() {
        down.unread = unread;
    }
    let mut asked = pin!(leave.order.notified());
    let (mut is_asked, mut was_over, mut gone, mut late) = (false, false, None, None);
    let end = poll_fn(|cx| -> Poll<io::Result<End>> {
        if !is_asked && asked.as_mut().poll(cx).is_ready() {
            if leave.mark.is_none() {
                return Poll::Ready(Ok(End::Cut));
            }
            (is_asked, was_over) = (true, down.ended);
        }
        if down.ended {
            // Nobody is there to read a mark.
            up.mark = None;
        } else if up.ended {
            // Its socket is not read any more, and perhaps there is nothing to be written for long.
            let gone = match &mut gone {
                Some(gone) => gone,
                none => none.insert(Box::pin(broken(again(client.socket())?))),
            };
            if gone.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
        BUFFER.with_borrow_mut(|scratch| {
            let upward = if is_asked {
                up.close(cx, backend)?
            } else {
                up.step(cx, client, backend, scratch)?
            };
            if is_asked && up.shut && !down.ended {
                ready!(down.step_to_end(cx, backend, client, scratch))?;
                if let Some(record) = down.untail() {
                    let _ = down.send_kept(cx, client)?;
                    return Poll::Ready(down.settle().map(|()| End::Given(record)));
                }
            }
            let downward = down.step(cx, backend, client, scratch)?;
            match (upward, downward) {
                (_, Poll::Ready(())) if is_asked && !was_over && !up.ended => {
                    Poll::Ready(Ok(End::NotGiven))
                }
                // Asked for, one side was going anyway.
                (upward, Poll::Ready(())) if is_asked || upward.is_ready() => {
                    Poll::Ready(Ok(End::Closed))
                }
                (_, Poll::Ready(())) => over(&mut late, leave.patience, cx),
                (_, Poll::Pending) => Poll::Pending,
            }
        })
    })
    .await?;
    luggage.is_over = up.ended;
    luggage.to_backend = up.unsent();
    luggage.to_client = down.unsent();
    luggage.unread = Some(down.unread.split(usize::MAX));
    Ok(end)
}

/// Ready once a client has stayed for so long, which counts from the first look.
fn over(
    late: &mut Option<Pin<Box<Sleep>>>,
    patience: Duration,
    cx: &mut Context<'_>,
) -> Poll<io::Result<End>> {
    let late = late.get_or_insert_with(|| Box::pin(sleep(patience)));
    late.as_mut().poll(cx).map(|()| Ok(End::Closed))
}

/// The same connection once more, to be watched beside its use.
fn again(stream: &TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(SockRef::from(stream).try_clone()?.into())
}

/// Resolves once a connection is broken.
async fn broken(stream: TcpStream) {
    // An error is one as well.
    let _ = stream.ready(Interest::ERROR).await;
}

impl<'a> Pipe<'a> {
    fn new(kept: Vec<u8>, total: &'a AtomicU64, budgets: &Budgets) -> Self {
        Self {
            kept,
            sent: 0,
            tail: Vec::new(),
            share: Share::none(&budgets.withheld),
            unread: Share::none(&budgets.unread),
            mark: None,
            ended: false,
            closed: false,
            shut: false,
            bytes: 0,
            total,
        }
    }

    /// Goes on as far as the sockets let it; ready once the end was passed on.
    fn step(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        scratch: &mut [u8],
    ) -> Poll<io::Result<()>> {
        while !self.closed {
            ready!(self.send_kept(cx, to))?;
            if self.ended && self.mark.is_some() {
                ready!(self.send_mark(cx, to))?;
                self.closed = true;
                break;
            }
            if self.ended {
                return self.close(cx, to);
            }
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer))?;
            let read = buffer.filled();
            if read.is_empty() {
                self.ended = true;
                continue;
            }
            self.count(read.len());
            match Pin::new(&mut *to).poll_write(cx, read)? {
                Poll::Ready(sent) => self.kept.extend_from_slice(&read[sent..]),
                Poll::Pending => self.kept.extend_from_slice(read),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Closes this direction, whether or not all that was kept was sent. A mark that was begun is
    /// completed: half of one would pass for the client's.
    fn close(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        if !self.shut {
            if self.mark.is_some_and(|(_, sent)| sent > 0) {
                ready!(self.send_mark(cx, to))?;
            }
            ready!(Pin::new(to).poll_shutdown(cx))?;
            (self.closed, self.shut) = (true, true);
        }
        Poll::Ready(Ok(()))
    }

    fn send_mark(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while let Some((mark, sent)) = &mut self.mark
            && let Some(rest) = mark.bytes().get(*sent..).filter(|rest| !rest.is_empty())
        {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += written;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads to the end of the stream, passing on only what cannot belong to a trailer. A client
    /// that takes nothing delays that only once much is kept.
    fn step_to_end(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        scratch: &mut [u8],
    ) -> Poll<io::Result<()>> {
        while !self.ended {
            let sending = self.send_kept(cx, to)?;
            if self.tail.len() > TRAILER_MAX + SCRATCH {
                ready!(sending);
                let surplus = self.tail.len() - TRAILER_MAX;
                self.count(surplus);
                self.kept.extend(self.tail.drain(..surplus));
                continue;
            }
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer))?;
            if !self.share.grow(buffer.filled().len()) {
                return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
            }
            self.tail.extend_from_slice(buffer.filled());
            self.ended = buffer.filled().is_empty();
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the record off the end of a stream; the rest is for the client.
    fn untail(&mut self) -> Option<Record> {
        let found = find(&self.tail);
        let record = found.clone().and_then(|range| self.tail.get(range)).map(<[u8]>::to_vec);
        if let Some(range) = found {
            self.tail.truncate(range.start);
        }
        self.count(self.tail.len());
        self.kept.append(&mut self.tail);
        record.map(|bytes| Record { _share: self.share.split(bytes.len()), bytes })
    }

    /// What the client has not taken by now has another bound than what is withheld.
    fn settle(&mut self) -> io::Result<()> {
        let more = self.unsent_beyond().saturating_sub(self.unread.bytes);
        self.share.shrink_to(0);
        if self.unread.grow(more) { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) }
    }

    /// Bytes kept beyond what every session may keep.
    fn unsent_beyond(&self) -> usize {
        self.kept.len().saturating_sub(SCRATCH)
    }

    fn send_kept(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while self.sent < self.kept.len() {
            let sent = ready!(Pin::new(&mut *to).poll_write(cx, &self.kept[self.sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
            if self.sent >= SCRATCH {
                // What is counted is what is allocated.
                self.kept.drain(..self.sent);
                self.kept.shrink_to_fit();
                self.sent = 0;
            }
            self.share.shrink_to(self.tail.len() + self.kept.len());
            self.unread.shrink_to(self.unsent_beyond());
        }
        if self.sent > 0 {
            self.sent = 0;
            self.kept = Vec::new();
        }
        self.share.shrink_to(self.tail.len());
        self.unread.shrink_to(0);
        Poll::Ready(Ok(()))
    }

    fn unsent(&mut self) -> Vec<u8> {
        self.kept.drain(..self.sent);
        self.sent = 0;
        self.unread.shrink_to(self.unsent_beyond());
        std::mem::take(&mut self.kept)
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.bytes >= COUNT_STEP {
            self.total.fetch_add(self.bytes, Ordering::Relaxed);
            self.bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests;
