//! One RESP connection to a node.
//!
//! Commands are answered in order; whoever sends waits. A connection on which anything went wrong
//! is dropped by its owner, never reused.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::store::Heeds;
use resp::{Value, encode_command};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use topology::Endpoint;
use web::tls::Tls;

/// Largest reply read from a node, unless another bound is given: a heartbeat or a topology is far
/// below it. A page of discarded writes fits, with the largest change that nodes tell (8 MiB).
pub const REPLY_BYTES_MAX: usize = 16 << 20;

/// The first byte of a TLS record of the kind "alert", with which no answer in RESP begins: all
/// that a port of TLS alone says to a command.
const ALERT: u8 = 0x15;

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or the connection was closed.
    #[error("connection refused or closed")]
    Refused(#[source] Option<io::Error>),
    /// Any other failure of the transport.
    #[error("{0}")]
    Io(io::Error),
    /// This process or machine has no descriptor, no memory or no port for a connection: that says
    /// nothing of the node.
    #[error(
        "this controller cannot open a connection: {0}; raise its limit of open files, or the \
         range of local ports"
    )]
    Limit(#[source] io::Error),
    /// Not RESP.
    #[error("answer is not RESP: {0}")]
    Protocol(String),
    /// What listens there is spoken to in clear, and takes TLS alone.
    #[error(
        "it takes TLS alone at this port, and is spoken to in clear: this controller needs \
         `nodes = true` in its table `[tls]`, and each balancer where TLS ends"
    )]
    TlsAlone,
    /// The node answered with an error.
    #[error("{0}")]
    Node(String),
    /// The node answered something else than expected.
    #[error("unexpected answer to {command}")]
    Unexpected {
        /// What was asked.
        command: &'static str,
    },
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl ClientError {
    /// Whether this is a node's answer, though an error: it is alive. A server that does not know
    /// the command is no node of ours, but something else at its address.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Node(text) if !text.to_ascii_lowercase().starts_with("err unknown "))
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset};
        if limits::is_limit_of_dialling(&error) {
            return Self::Limit(error);
        }
        match error.kind() {
            ConnectionRefused | ConnectionReset | ConnectionAborted | BrokenPipe => {
                Self::Refused(Some(error))
            }
            _ => Self::Io(error),
        }
    }
}

/// Connects to the first address of a host that takes it.
async fn dial(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await?;
    let addresses: Vec<SocketAddr> = found.collect();
    let mut known = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => known = Some(telling(known, error)),
        }
    }
    Err(known.unwrap_or_else(|| {
        let why = format!("{} has no address", endpoint.host);
        io::Error::new(io::ErrorKind::NotFound, why)
    }))
}

/// Which of two errors says more of the node. A name may have an address that no machine without
/// IPv6 can dial, which is told with the words of a want of ports: a node that is gone is gone all
/// the same, and is to be replaced.
fn telling(known: Option<io::Error>, next: io::Error) -> io::Error {
    match known {
        Some(known) if limits::is_limit_of_dialling(&next) => known,
        _ => next,
    }
}

/// In clear or over TLS.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug> Stream for T {}

/// An authenticated connection.
#[derive(Debug)]
pub struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// Largest reply that is read.
    reply_bytes_max: usize,
    /// From which store the node at the other end is led, once it was asked on this connection.
    pub(crate) heeds: Option<Heeds>,
}

impl Connection {
    /// Dials, over TLS if `tls` says so, and authenticates where a secret is given.
    pub async fn open(
        endpoint: &Endpoint,
        password: Option<&str>,
        tls: &Arc<Tls>,
    ) -> Result<Self, ClientError> {
        let socket = dial(endpoint).await?;
        socket.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match tls.dials_nodes() {
            true => Box::new(tls.connect(&endpoint.host, socket).await?),
            false => Box::new(socket),
        };
        let reply_bytes_max = REPLY_BYTES_MAX;
        let mut connection = Self { stream, buffer: Vec::new(), reply_bytes_max, heeds: None };
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            connection.expect_ok("AUTH", &["AUTH", password]).await?;
        }
        Ok(connection)
    }

    /// Reads replies of so many bytes from now on.
    pub fn set_reply_bytes_max(&mut self, bytes: usize) {
        self.reply_bytes_max = bytes;
    }

    /// Sends one command and reads its reply; an error reply is an error.
    pub async fn command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<Value, ClientError> {
        self.stream.write_all(&encode_command(arguments)).await?;
        self.stream.flush().await?;
        self.read().await
    }

    /// Sends a command that must be answered `+OK`.
    pub async fn expect_ok(
        &mut self,
        command: &'static str,
        arguments: &[&str],
    ) -> Result<(), ClientError> {
        let answer = self.command(arguments).await?;
        if answer.is_ok() { Ok(()) } else { Err(ClientError::Unexpected { command }) }
    }

    /// Returns when the peer closes the connection, or sends something nobody asked for.
    pub async fn closed(&mut self) {
        // What comes, be it an error, is the same: the owner drops the connection.
        let _ = self.stream.read(&mut [0; 1]).await;
    }

    async fn read(&mut self) -> Result<Value, ClientError> {
        loop {
            if self.buffer.first() == Some(&ALERT) {
                return Err(ClientError::TlsAlone);
            }
            if let Some((value, length)) = Value::parse(&self.buffer, self.reply_bytes_max)
                .map_err(|error| ClientError::Protocol(error.to_string()))?
            {
                self.buffer.drain(..length);
                return match value {
                    Value::Error(text) => Err(ClientError::Node(text)),
                    value => Ok(value),
                };
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ClientError::Refused(None));
            }
        }
    }
}

/// Dials, sends commands that must all be answered `+OK`, and closes: for what happens rarely and
/// must not wait behind a heartbeat.
pub async fn once(
    (endpoint, tls): (&Endpoint, &Arc<Tls>),
    password: Option<&str>,
    commands: &[(&'static str, Vec<&str>)],
    limit: Duration,
) -> Result<(), ClientError> {
    let work = async {
        let mut connection = Connection::open(endpoint, password, tls).await?;
        for (name, arguments) in commands {
            connection.expect_ok(name, arguments).await?;
        }
        Ok(())
    };
    tokio::time::timeout(limit, work).await.map_err(|_| ClientError::Timeout(limit))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_node_is_an_answer_and_what_is_no_node_says_is_none() {
        for text in [
            "ERR max number of clients reached",
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "LOADING kvrocks is restoring the db from backup",
            "ERR election version mismatch: 3 is older than 100",
        ] {
            assert!(ClientError::Node(text.to_owned()).is_answer(), "{text}");
        }
        let stranger = "ERR unknown command 'CLUSTERX', with args beginning with: 'HEARTBEAT'";
        assert!(!ClientError::Node(stranger.to_owned()).is_answer());
        assert!(!ClientError::Refused(None).is_answer());
        assert!(!ClientError::Timeout(Duration::ZERO).is_answer());
    }

    #[tokio::test]
    async fn a_port_of_tls_alone_is_told_from_what_is_no_node() {
        use tokio::net::TcpListener;
        let alert = &b"\x15\x03\x03\x00\x02\x02\x32"[..];
        for (said, is_tls) in [(alert, true), (&b"HTTP/1.1"[..], false)] {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let answer = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let read = stream.read(&mut [0; 64]).await.unwrap();
                assert!(read > 0);
                stream.write_all(said).await.unwrap();
            });
            let at = Endpoint { host: "127.0.0.1".to_owned(), port };
            let mut connection = Connection::open(&at, None, &Arc::default()).await.unwrap();
            let error = connection.command(&["PING"]).await.unwrap_err();
            assert_eq!(matches!(error, ClientError::TlsAlone), is_tls, "{error}");
            assert!(!error.is_answer(), "{error}");
            answer.await.unwrap();
        }
    }

    #[test]
    fn a_want_of_descriptors_here_is_told_from_a_node_that_refuses() {
        let error = |number| ClientError::from(io::Error::from_raw_os_error(number));
        // EMFILE, ENFILE; ECONNREFUSED.
        assert!(matches!((error(24), error(23)), (ClientError::Limit(_), ClientError::Limit(_))));
        assert!(matches!(error(111), ClientError::Refused(_)));
    }

    /// Such a node would never be taken to be down.
    #[test]
    fn an_address_that_cannot_be_dialled_here_hides_no_node_that_is_gone() {
        let error = io::Error::from_raw_os_error;
        // ECONNREFUSED, EADDRNOTAVAIL; EHOSTUNREACH.
        for (one, other) in [(111, 99), (99, 111)] {
            let told = telling(Some(telling(None, error(one))), error(other));
            assert!(matches!(ClientError::from(told), ClientError::Refused(_)), "{one}, {other}");
        }
        let told = telling(Some(error(99)), error(99));
        assert!(matches!(ClientError::from(told), ClientError::Limit(_)));
        let told = telling(Some(error(111)), error(113));
        assert!(matches!(ClientError::from(told), ClientError::Io(_)));
    }
}
