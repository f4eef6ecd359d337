//! Moves bytes both ways between two sockets, in one task and without a buffer per idle session.
//!
//! Each thread has one scratch buffer: what is read is written on at once, and only what the other side does not take is kept with the session, at most one scratch full per direction.
//! `poll_read` with a buffer larger than what is there tells tokio that the socket is empty, so that a request costs one `recv` and one `send`, like in a hand-made event loop.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes read at once.
const SCRATCH: usize = 64 * 1024;

/// Bytes a session counts by itself before it touches the shared counter.
const COUNT_STEP: u64 = 1 << 20;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// One direction.
struct Pipe<'a> {
    kept: Vec<u8>,
    sent: usize,
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

/// Copies until both sides have closed, passing a half-close on. An error of either side ends it.
pub(super) async fn relay(
    client: &mut TcpStream,
    backend: &mut TcpStream,
    inbound: &AtomicU64,
    outbound: &AtomicU64,
) -> io::Result<()> {
    let mut up = Pipe::new(inbound);
    let mut down = Pipe::new(outbound);
    poll_fn(|cx| {
        BUFFER.with_borrow_mut(|scratch| {
            let upward = up.step(cx, client, backend, scratch)?;
            let downward = down.step(cx, backend, client, scratch)?;
            match (upward, downward) {
                (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            }
        })
    })
    .await
}

impl<'a> Pipe<'a> {
    fn new(total: &'a AtomicU64) -> Self {
        Self { kept: Vec::new(), sent: 0, ended: false, closed: false, bytes: 0, total }
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
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.closed = true;
                break;
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

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.bytes >= COUNT_STEP {
            self.total.fetch_add(self.bytes, Ordering::Relaxed);
            self.bytes = 0;
        }
    }
}
