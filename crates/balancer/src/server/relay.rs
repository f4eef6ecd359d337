//! Moves bytes both ways between two sockets, in one task and without a buffer per idle session.
//!
//! Each thread has one scratch buffer: what is read is written on at once, and only what the other side does not take is kept with the session, at most one scratch full per direction.
//! `poll_read` with a buffer larger than what is there tells tokio that the socket is empty, so that a request costs one `recv` and one `send`, like in a hand-made event loop.
//!
//! A node that was told that sessions can be moved ends its stream with a trailer once our side of it is closed, whatever closed it. From there on the last
//! [`TRAILER_MAX`] bytes are withheld until the stream has ended: a trailer never reaches a client. What all sessions withhold together has a [`Budget`].

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use api::moving::{TRAILER_MAX, find};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Bytes read at once.
const SCRATCH: usize = 64 * 1024;

/// Bytes a session counts by itself before it touches the shared counter.
const COUNT_STEP: u64 = 1 << 20;

/// Bytes that all sessions together may withhold, records that wait for a node included.
const WITHHELD_MAX: usize = 256 << 20;

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
    /// The node gave the session back.
    Given(Record),
}

/// What a session takes along, which no balancer understands.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) bytes: Vec<u8>,
    _share: Share,
}

/// What is left of [`WITHHELD_MAX`].
#[derive(Debug)]
pub(super) struct Budget(AtomicUsize);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicUsize::new(WITHHELD_MAX))
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
        self.bytes -= surplus;
        self.budget.0.fetch_add(surplus, Ordering::Relaxed);
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
    pub(super) to_backend: Vec<u8>,
    pub(super) to_client: Vec<u8>,
}

/// When a session leaves its node.
pub(super) struct Leave<'a> {
    /// Told when it is to.
    pub(super) order: &'a Notify,
    /// The node was told that it can.
    pub(super) is_possible: bool,
    /// Where what is withheld meanwhile is taken from.
    pub(super) budget: &'a Arc<Budget>,
}

/// One direction.
struct Pipe<'a> {
    kept: Vec<u8>,
    sent: usize,
    /// The last bytes of a stream that may end in a trailer.
    tail: Vec<u8>,
    share: Share,
    ended: bool,
    closed: bool,
    bytes: u64,
    total: &'a AtomicU64,
}

impl Drop for Pipe<'_> {
    fn drop(&mut self) {
        self.total.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Copies until both sides have closed, passing a half-close on, or until the session has left the backend. An error of either side ends it.
/// `luggage` is sent first, and holds what was not sent when the session leaves.
pub(super) async fn relay(
    client: &mut TcpStream,
    backend: &mut TcpStream,
    luggage: &mut Luggage,
    (inbound, outbound): (&AtomicU64, &AtomicU64),
    leave: Leave<'_>,
) -> io::Result<End> {
    let mut up = Pipe::new(std::mem::take(&mut luggage.to_backend), inbound, leave.budget);
    let mut down = Pipe::new(std::mem::take(&mut luggage.to_client), outbound, leave.budget);
    let mut asked = pin!(leave.order.notified());
    let (mut is_asked, mut was_over) = (false, false);
    let end = poll_fn(|cx| -> Poll<io::Result<End>> {
        if !is_asked && asked.as_mut().poll(cx).is_ready() {
            if !leave.is_possible {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            (is_asked, was_over) = (true, up.ended || down.ended);
        }
        BUFFER.with_borrow_mut(|scratch| {
            let upward = if is_asked {
                up.close(cx, backend)?
            } else {
                up.step(cx, client, backend, scratch)?
            };
            if leave.is_possible && up.closed && !down.ended {
                ready!(down.step_to_end(cx, backend, client, scratch))?;
                if let Some(record) = down.untail().filter(|_| is_asked && !was_over) {
                    return Poll::Ready(Ok(End::Given(record)));
                }
            }
            let downward = down.step(cx, backend, client, scratch)?;
            match (upward, downward) {
                (_, Poll::Ready(())) if is_asked && !was_over => Poll::Ready(Ok(End::NotGiven)),
                // One side was going anyway.
                (_, Poll::Ready(())) if is_asked => Poll::Ready(Ok(End::Closed)),
                (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(End::Closed)),
                _ => Poll::Pending,
            }
        })
    })
    .await?;
    luggage.to_backend = up.unsent();
    luggage.to_client = down.unsent();
    Ok(end)
}

impl<'a> Pipe<'a> {
    fn new(kept: Vec<u8>, total: &'a AtomicU64, budget: &Arc<Budget>) -> Self {
        let share = Share::none(budget);
        Self {
            kept,
            sent: 0,
            tail: Vec::new(),
            share,
            ended: false,
            closed: false,
            bytes: 0,
            total,
        }
    }

    /// Goes on as far as the sockets let it; ready once the end was passed on.
    fn step(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        scratch: &mut [u8],
    ) -> Poll<io::Result<()>> {
        while !self.closed {
            ready!(self.send_kept(cx, to))?;
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

    /// Closes this direction, whether or not all that was kept was sent.
    fn close(&mut self, cx: &mut Context<'_>, to: &mut TcpStream) -> Poll<io::Result<()>> {
        if !self.closed {
            ready!(Pin::new(to).poll_shutdown(cx))?;
            self.closed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads to the end of the stream, passing on only what cannot belong to a trailer. A client that takes nothing delays that only once much is kept.
    fn step_to_end(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        scratch: &mut [u8],
    ) -> Poll<io::Result<()>> {
        while !self.ended {
            let sending = self.send_kept(cx, to)?;
            if self.tail.len() > TRAILER_MAX + SCRATCH {
                ready!(sending);
                let surplus = self.tail.len() - TRAILER_MAX;
                self.count(surplus);
                self.kept.extend(self.tail.drain(..surplus));
                self.share.shrink_to(TRAILER_MAX);
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
        let none = Share::none(&self.share.budget);
        let mut share = std::mem::replace(&mut self.share, none);
        share.shrink_to(record.as_ref().map_or(0, Vec::len));
        record.map(|bytes| Record { bytes, _share: share })
    }

    fn send_kept(&mut self, cx: &mut Context<'_>, to: &mut TcpStream) -> Poll<io::Result<()>> {
        while self.sent < self.kept.len() {
            let sent = ready!(Pin::new(&mut *to).poll_write(cx, &self.kept[self.sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        if self.sent > 0 {
            self.sent = 0;
            self.kept = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    fn unsent(&mut self) -> Vec<u8> {
        self.kept.drain(..self.sent);
        self.sent = 0;
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
mod tests {
    use super::*;

    #[test]
    fn what_is_withheld_has_a_bound_over_all_sessions() {
        let budget = Arc::new(Budget::default());
        let (mut one, mut other) = (Share::none(&budget), Share::none(&budget));
        assert!(one.grow(WITHHELD_MAX - 10) && other.grow(10));
        assert!(!other.grow(1));
        one.shrink_to(5);
        assert!(other.grow(1));
        drop((one, other));
        assert_eq!(budget.0.load(Ordering::Relaxed), WITHHELD_MAX);
    }
}
