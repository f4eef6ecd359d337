//! A connection's bytes, in clear or over TLS: the one type that everything reads and writes.
//!
//! Where this node has a certificate, the first byte that a client sends tells which of the two it
//! wants: a handshake begins with one that begins no command. The handshake takes place while the
//! first bytes are read, so that nobody else needs to know of it. What is dialled says so itself.
//!
//! A stream may leave its runtime for another one ([`Away`]); a handshake must be over then.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use api::moving::Mark;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::{Accept, TlsAcceptor, TlsConnector, TlsStream};

use crate::clock;
use crate::tls::Tls;
use crate::tls_records::Records;

/// The first byte of a TLS record of the kind "handshake".
const HANDSHAKE: u8 = 0x16;
/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is spoken with a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spoken {
    /// That is not known before its first bytes, or the end of a handshake.
    Undecided,
    /// Nothing is encrypted.
    Clear,
    /// What it sends is encrypted.
    Tls {
        /// As OpenSSL writes it: `TLSv1.3`.
        version: String,
        /// The common name in the certificate that it showed.
        name: Option<String>,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Stream {
    inner: Inner,
    /// It came by a port where only TLS is spoken.
    must_be_secure: bool,
}

enum Inner {
    Plain(TcpStream),
    /// What comes first decides.
    Undecided(TcpStream, Greeter),
    Greeting(Box<Greeting>),
    Secure(Box<Secure>),
    /// Between two states, and after a handshake that failed.
    Gone,
}

/// What a client is greeted with, if it speaks TLS.
#[derive(Clone)]
struct Greeter {
    acceptor: TlsAcceptor,
    /// What its balancer sends behind its last record.
    mark: Option<Mark>,
}

struct Greeting {
    accept: Accept<Slot>,
    limit: Pin<Box<Sleep>>,
}

struct Secure {
    tls: TlsStream<Slot>,
    /// Bytes that were encrypted, and have not left as a whole: not counted as written yet.
    pending: usize,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Undecided(..) => "Undecided",
            Self::Greeting(_) => "Greeting",
            Self::Secure(_) => "Secure",
            Self::Gone => "Gone",
        })
    }
}

/// The socket below TLS, which may be away, and what was read of it before the handshake began.
#[derive(Debug)]
struct Slot {
    socket: Option<TcpStream>,
    ahead: Vec<u8>,
    /// Followed where a balancer tells of the client's end by a mark.
    records: Option<Box<Records>>,
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl Slot {
    fn descriptor(&self) -> RawFd {
        self.socket.as_ref().map_or(-1, |socket| socket.as_raw_fd())
    }

    fn socket(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.socket.as_mut().map(Pin::new).ok_or_else(gone)
    }
}

impl AsyncRead for Slot {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.records.is_none() {
            return self.poll_raw(cx, to);
        }
        self.poll_records(cx, to)
    }
}

impl Slot {
    fn new(socket: TcpStream, ahead: Vec<u8>, mark: Option<Mark>) -> Self {
        let records = mark.map(|mark| Box::new(Records::until(mark)));
        Self { socket: Some(socket), ahead, records }
    }

    /// The client's records; the mark behind them is the end.
    fn poll_records(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = to.filled().len();
        while to.filled().len() == start
            && self.records.as_ref().is_some_and(|records| !records.are_over())
        {
            ready!(self.poll_raw(cx, to))?;
            let read = to.filled().get(start..).unwrap_or_default();
            if read.is_empty() {
                break;
            }
            let Some(records) = &mut self.records else { break };
            let taken = records.take(read)?;
            to.set_filled(start + taken);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_raw(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return self.socket()?.poll_read(cx, to);
        }
        let count = self.ahead.len().min(to.remaining());
        to.put_slice(&self.ahead[..count]);
        self.ahead.drain(..count);
        if self.ahead.is_empty() {
            self.ahead = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Slot {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_shutdown(cx)
    }
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Self {
        Self { inner: Inner::Plain(socket), must_be_secure: false }
    }
}

impl Stream {
    /// A connection of a port where only TLS is spoken.
    pub fn of_tls_port(socket: TcpStream) -> Self {
        Self { must_be_secure: true, ..socket.into() }
    }

    /// Whatever the port is for, this one chooses how it speaks.
    pub fn may_be_clear(&mut self) {
        self.must_be_secure = false;
    }

    /// Where an accepted connection arrived. It sends without delay from here on; one that cannot
    /// works, only slower.
    pub fn accepted(&self) -> Option<std::net::SocketAddr> {
        let Inner::Plain(socket) = &self.inner else { return None };
        let _ = socket.set_nodelay(true);
        socket.local_addr().ok()
    }

    /// Dials; over TLS if `tls` is given, and the other side must then prove to be `host`.
    ///
    /// # Errors
    /// Those of connect(2), and a handshake that fails or takes too long.
    pub async fn dial(host: &str, port: u16, tls: Option<Arc<Tls>>) -> io::Result<Self> {
        let socket = TcpStream::connect((host, port)).await?;
        socket.set_nodelay(true)?;
        let Some(tls) = tls else { return Ok(socket.into()) };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let slot = Slot::new(socket, Vec::new(), None);
        let dialled = TlsConnector::from(tls.client()?).connect(name, slot);
        let tls = tokio::time::timeout(PATIENCE, dialled).await??;
        let secure = Secure { tls: tls.into(), pending: 0 };
        Ok(Self { inner: Inner::Secure(Box::new(secure)), must_be_secure: true })
    }

    /// From here on the client says whether it speaks TLS; `ahead` is what came already, and `mark`
    /// what its balancer sends in place of its end.
    ///
    /// # Errors
    /// TLS only is spoken here, and there is no certificate.
    pub fn secure(
        &mut self,
        tls: Option<&Tls>,
        ahead: &mut Vec<u8>,
        mark: Option<Mark>,
    ) -> io::Result<()> {
        let Some(tls) = tls else {
            let why = "there is no certificate to speak TLS with";
            return if self.must_be_secure { Err(io::Error::other(why)) } else { Ok(()) };
        };
        let Inner::Plain(socket) = std::mem::replace(&mut self.inner, Inner::Gone) else {
            return Err(gone());
        };
        let greeter = Greeter { acceptor: tls.acceptor(), mark };
        self.inner = match ahead.first() {
            _ if self.must_be_secure => Inner::greet(socket, &greeter, std::mem::take(ahead)),
            Some(&HANDSHAKE) => Inner::greet(socket, &greeter, std::mem::take(ahead)),
            Some(_) => Inner::Plain(socket),
            None => Inner::Undecided(socket, greeter),
        };
        Ok(())
    }

    /// It goes on in clear: a session that was served elsewhere is in the middle of a command.
    ///
    /// # Errors
    /// TLS only is spoken here.
    pub fn stay_clear(&self) -> io::Result<()> {
        match self.must_be_secure {
            true => Err(io::Error::other("a session in clear goes on where TLS only is spoken")),
            false => Ok(()),
        }
    }

    /// Whether what is sent is encrypted, or is about to be.
    pub fn is_secure(&self) -> bool {
        matches!(self.inner, Inner::Greeting(_) | Inner::Secure(_))
    }

    /// What is spoken with the client that was accepted here.
    pub fn spoken(&self) -> Spoken {
        match &self.inner {
            Inner::Plain(_) => Spoken::Clear,
            Inner::Secure(secure) => {
                let (_, connection) = secure.tls.get_ref();
                let version = connection.protocol_version();
                let version = version.and_then(|version| version.as_str()).unwrap_or("TLS");
                let shown = connection.peer_certificates().and_then(<[_]>::first);
                Spoken::Tls {
                    version: version.replace('_', "."),
                    name: shown.and_then(web::certs::common_name),
                }
            }
            _ => Spoken::Undecided,
        }
    }

    /// Whether a text can be sent at once: not within a handshake, and not in clear where TLS alone
    /// is spoken.
    pub fn takes_text(&self) -> bool {
        match &self.inner {
            Inner::Greeting(_) => false,
            Inner::Secure(_) => true,
            _ => !self.must_be_secure,
        }
    }

    /// The descriptor; -1 where there is none.
    pub fn descriptor(&self) -> RawFd {
        match &self.inner {
            Inner::Plain(socket) | Inner::Undecided(socket, _) => socket.as_raw_fd(),
            Inner::Greeting(greeting) => greeting.accept.get_ref().map_or(-1, Slot::descriptor),
            Inner::Secure(secure) => secure.tls.get_ref().0.descriptor(),
            Inner::Gone => -1,
        }
    }

    /// The descriptor of one that is known to speak in clear.
    pub fn clear_descriptor(&self) -> Option<RawFd> {
        match &self.inner {
            Inner::Plain(socket) => Some(socket.as_raw_fd()),
            _ => None,
        }
    }

    /// Leaves this runtime.
    ///
    /// # Errors
    /// The handshake is not over, or the runtime does not let go.
    pub fn leave(self) -> io::Result<Away> {
        match self.inner {
            Inner::Plain(socket) | Inner::Undecided(socket, _) => {
                Ok(Away { socket: socket.into_std()?, secure: None })
            }
            Inner::Secure(mut secure) => {
                let socket = secure.tls.get_mut().0.socket.take().ok_or_else(gone)?;
                Ok(Away { socket: socket.into_std()?, secure: Some(secure) })
            }
            Inner::Greeting(_) | Inner::Gone => Err(gone()),
        }
    }
}

/// A stream on its way from one runtime to another.
pub struct Away {
    socket: std::net::TcpStream,
    secure: Option<Box<Secure>>,
}

impl std::fmt::Debug for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Away").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Away {
    /// Is served by this runtime from now on.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub fn arrive(self) -> io::Result<Stream> {
        let socket = TcpStream::from_std(self.socket)?;
        let Some(mut secure) = self.secure else { return Ok(socket.into()) };
        secure.tls.get_mut().0.socket = Some(socket);
        Ok(Stream { inner: Inner::Secure(secure), must_be_secure: true })
    }
}

impl Inner {
    fn greet(socket: TcpStream, greeter: &Greeter, ahead: Vec<u8>) -> Self {
        let accept = greeter.acceptor.accept(Slot::new(socket, ahead, greeter.mark));
        Self::Greeting(Box::new(Greeting { accept, limit: Box::pin(tokio::time::sleep(PATIENCE)) }))
    }

    /// Looks at the first byte without taking it.
    fn poll_decide(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Undecided(socket, greeter) = self else { return Poll::Ready(Ok(())) };
        let mut first = [0; 1];
        let count = ready!(socket.poll_peek(cx, &mut ReadBuf::new(&mut first)))?;
        let greeter = greeter.clone();
        let is_handshake = count > 0 && first == [HANDSHAKE];
        self.settle(|socket| match is_handshake {
            true => Self::greet(socket, &greeter, Vec::new()),
            false => Self::Plain(socket),
        });
        Poll::Ready(Ok(()))
    }

    fn settle(&mut self, into: impl FnOnce(TcpStream) -> Self) {
        if matches!(self, Self::Undecided(..))
            && let Self::Undecided(socket, _) = std::mem::replace(self, Self::Gone)
        {
            *self = into(socket);
        }
    }

    fn poll_greet(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Greeting(greeting) = self else { return Poll::Ready(Ok(())) };
        let accepted = match Pin::new(&mut greeting.accept).poll(cx) {
            Poll::Ready(accepted) => accepted,
            Poll::Pending => {
                ready!(greeting.limit.as_mut().poll(cx));
                Err(io::ErrorKind::TimedOut.into())
            }
        };
        *self = Self::Gone;
        let accepted = accepted?;
        web::certs::check_resumed(accepted.get_ref().1, clock::unix_s())?;
        let secure = Secure { tls: accepted.into(), pending: 0 };
        *self = Self::Secure(Box::new(secure));
        Poll::Ready(Ok(()))
    }
}

impl Secure {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        web::secure::poll_write(&mut self.tls, &mut self.pending, cx, bytes)
    }
}

impl Drop for Secure {
    /// Says that this is the end, as far as that needs no waiting: without a word it could be
    /// anybody's doing.
    fn drop(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut self.tls).poll_shutdown(&mut cx);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Inner::Plain(socket) = &mut self.inner {
            return Pin::new(socket).poll_read(cx, to);
        }
        ready!(self.inner.poll_decide(cx))?;
        ready!(self.inner.poll_greet(cx))?;
        match &mut self.inner {
            Inner::Plain(socket) => Pin::new(socket).poll_read(cx, to),
            Inner::Secure(secure) => web::secure::poll_read(&mut secure.tls, cx, to),
            _ => Poll::Ready(Err(gone())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Inner::Plain(socket) = &mut self.inner {
            return Pin::new(socket).poll_write(cx, bytes);
        }
        // A node that speaks first does so in clear.
        self.inner.settle(Inner::Plain);
        ready!(self.inner.poll_greet(cx))?;
        match &mut self.inner {
            Inner::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Inner::Secure(secure) => secure.poll_write(cx, bytes),
            _ => Poll::Ready(Err(gone())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(socket) | Inner::Undecided(socket, _) => Pin::new(socket).poll_flush(cx),
            Inner::Secure(secure) => Pin::new(&mut secure.tls).poll_flush(cx),
            Inner::Greeting(_) => Poll::Ready(Ok(())),
            Inner::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(socket) | Inner::Undecided(socket, _) => {
                Pin::new(socket).poll_shutdown(cx)
            }
            Inner::Secure(secure) => Pin::new(&mut secure.tls).poll_shutdown(cx),
            Inner::Greeting(_) | Inner::Gone => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::runtime::{Handle, Runtime};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::config::Values;
    use crate::config::value::AuthClients;

    /// More than sockets and TLS together keep for a reader that does not read.
    const LARGE: usize = 16 << 20;

    fn tls() -> Arc<Tls> {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let path = |name| folder.path().join(name).display().to_string();
        let (pem, key_pem) = (path("own.pem"), path("own.key"));
        std::fs::write(&pem, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&key_pem, key.serialize_pem()).unwrap();
        let values = Values {
            tls_cert_file: pem.clone(),
            tls_key_file: key_pem,
            tls_ca_cert_file: pem,
            tls_auth_clients: AuthClients::No,
            ..Values::default()
        };
        Arc::new(Tls::load(&values).unwrap().unwrap())
    }

    /// What dials, and what accepts; the handshake takes place when one reads and the other writes.
    async fn pair(tls: &Arc<Tls>, clients: &Handle) -> (JoinHandle<Stream>, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, of_client) = (listener.local_addr().unwrap().port(), Arc::clone(tls));
        let dialling = clients
            .spawn(async move { Stream::dial("127.0.0.1", port, Some(of_client)).await.unwrap() });
        let mut accepted: Stream = listener.accept().await.unwrap().0.into();
        accepted.secure(Some(tls), &mut Vec::new(), None).unwrap();
        (dialling, accepted)
    }

    fn runtime() -> Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn what_was_decrypted_and_not_read_goes_along_to_another_runtime() {
        let (one, other, tls) = (runtime(), runtime(), tls());
        let clients = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (dialling, away) = one.block_on(async {
            let (dialling, mut server) = pair(&tls, clients.handle()).await;
            let sending = clients.spawn(async move {
                let mut client = dialling.await.unwrap();
                client.write_all(b"first second").await.unwrap();
                client
            });
            let mut word = [0; 6];
            server.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"first ");
            (sending, server.leave().unwrap())
        });
        drop(one);
        other.block_on(async {
            let mut server = away.arrive().unwrap();
            let mut word = [0; 6];
            server.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"second");
            server.write_all(b"answer").await.unwrap();
            let mut client = dialling.await.unwrap();
            client.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"answer");
        });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_write_that_was_given_up_and_goes_on_sends_each_byte_once() {
        let (dialling, mut server) = pair(&tls(), &Handle::current()).await;
        let greeting = tokio::spawn(async move {
            let mut client = dialling.await.unwrap();
            client.write_all(b"go").await.unwrap();
            client
        });
        server.read_exact(&mut [0; 2]).await.unwrap();
        let mut client = greeting.await.unwrap();
        let bytes: Vec<u8> = (0..LARGE).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let mut sent = 0;
        // Until the client's side is full: each attempt is given up as a select would.
        while let Ok(written) =
            tokio::time::timeout(Duration::from_millis(100), server.write(&bytes[sent..])).await
        {
            sent += written.unwrap();
        }
        assert!(sent < LARGE, "the client read nothing");
        let reading = tokio::spawn(async move {
            let mut read = vec![0; LARGE];
            client.read_exact(&mut read).await.unwrap();
            read
        });
        while sent < LARGE {
            sent += server.write(&bytes[sent..]).await.unwrap();
        }
        assert!(reading.await.unwrap() == bytes);
    }

    #[tokio::test]
    async fn one_that_speaks_in_clear_is_understood_where_it_may() {
        let tls = tls();
        for is_tls_port in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.write_all(b"PING\r\n").await.unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            let mut server = if is_tls_port { Stream::of_tls_port(socket) } else { socket.into() };
            server.secure(Some(&tls), &mut Vec::new(), None).unwrap();
            let mut word = [0; 6];
            let read = server.read_exact(&mut word).await;
            assert_eq!((read.is_err(), &word == b"PING\r\n"), (is_tls_port, !is_tls_port));
        }
        // Without a certificate a port of TLS takes nobody.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = Stream::of_tls_port(listener.accept().await.unwrap().0);
        assert!(server.secure(None, &mut Vec::new(), None).is_err());
    }
}
