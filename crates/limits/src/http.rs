//! A listener for HTTP whose connections are counted: whoever opens many, or says nothing on one, takes no descriptors from what the process is there for.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::Seldom;

/// Rest after an error, so that one that stays does not cost a processor.
const REST: Duration = Duration::from_millis(20);
/// Longest time for which a client may take nothing of its answer; less where less is given to
/// those who say nothing.
const TAKES: Duration = Duration::from_secs(60);
/// Between two words about refused connections.
const WORD: Duration = Duration::from_secs(10);

/// Accepts at most so many connections at a time, and closes those that say or take nothing for too
/// long.
#[derive(Debug)]
pub struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    idle: Duration,
    refused: Seldom,
}

impl Bounded {
    /// At most `most` connections, none of them silent for longer than `idle`.
    pub fn new(listener: TcpListener, most: usize, idle: Duration) -> Self {
        let places = Arc::new(Semaphore::new(most));
        Self { listener, places, idle, refused: Seldom::every(WORD) }
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => match Arc::clone(&self.places).try_acquire_owned() {
                    Ok(place) => return (Connection::new(stream, self.idle, place), peer),
                    // Closed with the stream.
                    Err(_) => {
                        if let Some(count) = self.refused.count() {
                            tracing::warn!(%peer, count, "too many HTTP connections: closed");
                        }
                    }
                },
                Err(error) => {
                    if let Some(count) = self.refused.count() {
                        tracing::warn!(%error, count, "cannot accept an HTTP connection");
                    }
                    sleep(REST).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One of them.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
    /// While nothing of what is written can leave.
    stuck: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, idle: Duration, place: OwnedSemaphorePermit) -> Self {
        let silence = Box::pin(sleep_until(Instant::now() + idle));
        Self { stream, idle, silence, stuck: None, _place: place }
    }

    /// The address of this machine that it was made to.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    fn heard(&mut self) {
        self.silence.as_mut().reset(Instant::now() + self.idle);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Pending => self
                .silence
                .as_mut()
                .poll(cx)
                .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was said"))),
            ready => {
                self.heard();
                ready
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Pending => {
                let limit = self.idle.min(TAKES);
                let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(limit)));
                let why = "nothing of the answer was taken";
                stuck.as_mut().poll(cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, why)))
            }
            ready => {
                self.stuck = None;
                self.heard();
                ready
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn serve(most: usize, idle: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/large", get(|| async { vec![b'x'; 64 << 20] }));
        tokio::spawn(async move { axum::serve(Bounded::new(listener, most, idle), app).await });
        address
    }

    /// What is answered until the connection ends.
    async fn ask(address: SocketAddr) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    async fn until_it_answers(address: SocketAddr) {
        let asking = async {
            while !ask(address).await.is_ok_and(|text| text.ends_with("here")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap();
    }

    #[tokio::test]
    async fn more_connections_than_places_are_closed_until_one_is_free() {
        let address = serve(1, PATIENCE * 10).await;
        until_it_answers(address).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET / HT").await.unwrap();
        let refused = async {
            while ask(address).await.is_ok_and(|text| !text.is_empty()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.unwrap();
        drop(silent);
        until_it_answers(address).await;
    }

    #[tokio::test]
    async fn who_takes_nothing_of_an_answer_is_closed() {
        let address = serve(1, Duration::from_millis(50)).await;
        let mut stuck = TcpStream::connect(address).await.unwrap();
        // What follows is not read before the answer is written, so nobody waits for it to say
        // more.
        let requests = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n";
        stuck.write_all(requests).await.unwrap();
        until_it_answers(address).await;
        drop(stuck);
    }

    #[tokio::test]
    async fn who_says_nothing_is_closed() {
        let address = serve(1, Duration::from_millis(50)).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let read = tokio::time::timeout(PATIENCE, silent.read(&mut [0; 8])).await.unwrap();
        assert_eq!(read.unwrap_or(0), 0);
        until_it_answers(address).await;
    }
}
