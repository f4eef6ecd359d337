//! A port of HTTP, or of HTTPS where there is a certificate.
//!
//! The handshake takes place while the first bytes are read, so that one that is slow holds up
//! nobody, and it has a limit.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use crate::bounded::{Bounded, Conduct, Connection};
use crate::certs;

/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Accepts connections; over TLS if there is a certificate at that moment.
pub struct Listener {
    bounded: Bounded,
    greets: Box<dyn Fn() -> Option<TlsAcceptor> + Send + Sync>,
}

impl Listener {
    /// What `bounded` accepts. `greets` is asked at each connection what it is greeted with; by
    /// `None` it is answered in clear.
    pub fn new(
        bounded: Bounded,
        greets: impl Fn() -> Option<TlsAcceptor> + Send + Sync + 'static,
    ) -> Self {
        Self { bounded, greets: Box::new(greets) }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        let (socket, peer) = self.bounded.accept().await;
        (Stream::new(socket, (self.greets)()), peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.bounded.local_addr()
    }
}

/// The certificate that a client has shown, as far as it says who that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What its holder is called.
    pub names: Vec<String>,
    /// Until when it is good, Unix seconds: a connection may last longer.
    pub ends_s: i64,
}

impl Shown {
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let ends_s = certs::ends_s(certificate)?;
        Some(Self { names: certs::names(certificate), ends_s })
    }
}

/// A connection.
pub struct Stream {
    inner: Inner,
    local: Option<SocketAddr>,
    conduct: Arc<Conduct>,
    /// Empty until the handshake is over, and where nothing was shown.
    shown: Arc<OnceLock<Shown>>,
}

enum Inner {
    Plain(Connection),
    Greeting(Box<(Accept<Connection>, Pin<Box<Sleep>>)>),
    Secure(Box<TlsStream<Connection>>),
    /// The handshake failed.
    Gone,
}

impl Stream {
    fn new(socket: Connection, acceptor: Option<TlsAcceptor>) -> Self {
        let (local, conduct) = (socket.local_addr().ok(), Arc::clone(socket.conduct()));
        let inner = match acceptor {
            None => Inner::Plain(socket),
            Some(acceptor) => {
                let limit = Box::pin(sleep(PATIENCE));
                Inner::Greeting(Box::new((acceptor.accept(socket), limit)))
            }
        };
        Self { inner, local, conduct, shown: Arc::default() }
    }

    /// What the client shows in the handshake, once that is over.
    pub fn shown(&self) -> &Arc<OnceLock<Shown>> {
        &self.shown
    }

    /// The address of this machine that it was made to.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local
    }

    /// What the connection is doing.
    pub fn conduct(&self) -> &Arc<Conduct> {
        &self.conduct
    }

    /// The stream behind a handshake that is over.
    fn poll_greeted(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut Inner>> {
        if let Inner::Greeting(greeting) = &mut self.inner {
            let (accept, limit) = &mut **greeting;
            let accepted = match Pin::new(accept).poll(cx) {
                Poll::Ready(accepted) => accepted,
                Poll::Pending => {
                    ready!(limit.as_mut().poll(cx));
                    Err(io::ErrorKind::TimedOut.into())
                }
            };
            self.inner = Inner::Gone;
            let stream = accepted?;
            certs::check_resumed(stream.get_ref().1, certs::now_s())?;
            let own = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            if let Some(shown) = own.and_then(Shown::of) {
                // There is one handshake.
                let _ = self.shown.set(shown);
            }
            self.inner = Inner::Secure(Box::new(stream));
        }
        Poll::Ready(Ok(&mut self.inner))
    }
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(self.poll_greeted(cx))? {
            Inner::Plain(socket) => Pin::new(socket).poll_read(cx, to),
            Inner::Secure(tls) => Pin::new(tls).poll_read(cx, to),
            Inner::Greeting(_) | Inner::Gone => gone(),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_greeted(cx))? {
            Inner::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Inner::Secure(tls) => Pin::new(tls).poll_write(cx, bytes),
            Inner::Greeting(_) | Inner::Gone => gone(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Inner::Secure(tls) => Pin::new(tls).poll_flush(cx),
            Inner::Greeting(_) => Poll::Ready(Ok(())),
            Inner::Gone => gone(),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Inner::Secure(tls) => Pin::new(tls).poll_shutdown(cx),
            Inner::Greeting(_) | Inner::Gone => Poll::Ready(Ok(())),
        }
    }
}
