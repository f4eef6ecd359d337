//! TLS that ends here: what a load balancer greets clients with, and the connections that it moves
//! bytes between.
//!
//! The handshake is a part of the caller's task, so that one that is slow holds up nobody else, and
//! it has a limit.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsStream, client};

use crate::authority::Authority;
use crate::certs::{self, Clients, Fault, Own, Validity};
use crate::secure;
use crate::trust::Trust;

/// How long a handshake may take, with the wait for the first byte of a client that may speak in
/// clear.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first byte of a TLS record of the kind "handshake", which begins no command.
const HANDSHAKE: u8 = 0x16;

/// The key of a configuration file, as faults name it.
pub const CERT: &str = "tls.terminate.cert_file";
/// The key of a configuration file, as faults name it.
pub const KEY: &str = "tls.terminate.key_file";
const CLIENT_CA: &str = "tls.terminate.client_ca_file";
const OPTIONAL: &str = "tls.terminate.client_optional";
const FRONTENDS: &str = "tls.terminate.frontends";

/// The table `tls.terminate` of a balancer's configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Terminate {
    /// Certificate that clients see, then those that lead to its CA, PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM, not encrypted.
    pub key_file: Option<PathBuf>,
    /// Certificates of the CAs of which clients must show one, PEM.
    pub client_ca_file: Option<PathBuf>,
    /// A client may show none; one that is shown must be of these CAs all the same.
    pub client_optional: bool,
    /// The frontends where TLS ends, as `host:port`; none: all.
    pub frontends: Vec<String>,
    /// Clients may speak in clear there too.
    pub plain: bool,
}

impl Terminate {
    /// The frontends that are listed.
    ///
    /// # Errors
    /// One of them is none.
    pub fn places(&self) -> Result<Vec<Authority>, Fault> {
        let place = |text: &String| match text.parse::<Authority>() {
            Ok(at) if at.has_port() => Ok(at),
            _ => {
                let why = format!("`{text}` is no frontend: host:port as the controller says it");
                Err(Fault::of(FRONTENDS, why))
            }
        };
        self.frontends.iter().map(place).collect()
    }
}

/// Whether the frontend at this address is meant, however the address is written.
fn is_meant(frontends: &[Authority], frontend: &str) -> bool {
    frontends.is_empty() || frontend.parse().is_ok_and(|at: Authority| frontends.contains(&at))
}

/// What the files of such a table hold.
#[derive(Debug)]
pub(crate) struct Loaded {
    server: Arc<ServerConfig>,
    chain: Vec<CertificateDer<'static>>,
    validity: Validity,
    trust: Vec<Trust>,
    frontends: Vec<Authority>,
    plain: bool,
}

impl Loaded {
    /// # Errors
    /// The key to change, and why.
    pub(crate) fn read(table: &Terminate, provider: &Arc<CryptoProvider>) -> Result<Self, Fault> {
        let Some(certificate) = &table.cert_file else {
            return Err(Fault::of(CERT, "TLS cannot end here without a certificate"));
        };
        let Some(key) = &table.key_file else {
            return Err(Fault::of(KEY, "the key of the certificate is needed"));
        };
        if table.client_optional && table.client_ca_file.is_none() {
            let why = "there is nothing to be left out: set tls.terminate.client_ca_file too";
            return Err(Fault::of(OPTIONAL, why));
        }
        let own = Own::read((CERT, certificate), (KEY, key))?;
        let (validity, issuer) = (own.validity(), own.issuer());
        let own = own.certified(provider)?;
        let clients = table
            .client_ca_file
            .as_deref()
            .map(|path| Clients { file: (CLIENT_CA, path), may_be_unknown: table.client_optional });
        let (server, mut trust) = certs::server(provider, CERT, &own, clients)?;
        trust.push(issuer);
        Ok(Self {
            server: Arc::new(server),
            chain: own.cert.clone(),
            validity,
            trust,
            frontends: table.places()?,
            plain: table.plain,
        })
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn validity(&self) -> Validity {
        self.validity
    }

    pub(crate) fn trust(&self) -> &[Trust] {
        &self.trust
    }

    /// What the clients of this frontend are greeted with; `None`: it passes on what they send.
    pub(crate) fn at(&self, frontend: &str) -> Option<Terminator> {
        let acceptor = || TlsAcceptor::from(Arc::clone(&self.server));
        is_meant(&self.frontends, frontend)
            .then(|| Terminator { acceptor: acceptor(), plain: self.plain })
    }
}

/// Greets the clients of a frontend.
#[derive(Clone)]
pub struct Terminator {
    acceptor: TlsAcceptor,
    plain: bool,
}

impl Terminator {
    /// Greets a client; what it says comes in clear from then on.
    ///
    /// # Errors
    /// Those of the connection and of the handshake; it takes longer than ten seconds, from the
    /// start; the certificate of a client that comes again has run out.
    pub async fn greet(self, socket: TcpStream) -> io::Result<Side> {
        let deadline = Instant::now() + PATIENCE;
        if self.plain && !begins_with_handshake(&socket, deadline).await? {
            return Ok(Side::Plain(socket));
        }
        let tls = timeout_at(deadline, self.acceptor.accept(socket)).await??;
        certs::check_resumed(tls.get_ref().1, certs::now_s())?;
        Ok(Side::Secure(Box::new(Secure { tls: tls.into(), pending: 0 })))
    }
}

/// Looks at the first byte without taking it. A client that is silent says nothing in clear, which
/// is its right.
async fn begins_with_handshake(socket: &TcpStream, deadline: Instant) -> io::Result<bool> {
    let mut first = [0; 1];
    match timeout_at(deadline, socket.peek(&mut first)).await {
        Ok(count) => Ok(count? > 0 && first == [HANDSHAKE]),
        Err(_) => Ok(false),
    }
}

/// What is known of a client that speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// As OpenSSL writes it: `TLSv1.3`.
    pub version: String,
    /// As the standard writes it: `TLS_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// It showed a certificate that is believed, now or in the session that this one resumes.
    pub is_known: bool,
    /// The common name in it.
    pub name: Option<String>,
}

/// One side of a session: a client's connection, or one to a node.
pub enum Side {
    /// In clear, or encrypted for a process behind this one.
    Plain(TcpStream),
    /// Its TLS ends here.
    Secure(Box<Secure>),
}

/// A connection whose TLS ends here.
pub struct Secure {
    tls: TlsStream<TcpStream>,
    /// Bytes that were encrypted, and have not left as a whole: not counted as written yet.
    pending: usize,
}

impl From<TcpStream> for Side {
    fn from(socket: TcpStream) -> Self {
        Self::Plain(socket)
    }
}

impl From<client::TlsStream<TcpStream>> for Side {
    fn from(tls: client::TlsStream<TcpStream>) -> Self {
        Self::Secure(Box::new(Secure { tls: tls.into(), pending: 0 }))
    }
}

impl Side {
    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Secure(secure) => secure.tls.get_ref().0,
        }
    }

    /// What is known of a client, if its TLS ends here.
    pub fn said(&self) -> Option<Said> {
        let Self::Secure(secure) = self else { return None };
        let connection = secure.tls.get_ref().1;
        let version = connection.protocol_version();
        let version = version.and_then(|version| version.as_str()).unwrap_or_default();
        let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
        let suite = suite.and_then(|suite| suite.as_str()).unwrap_or_default();
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        Some(Said {
            version: version.replace('_', "."),
            cipher: suite.replace("TLS13_", "TLS_"),
            is_known: shown.is_some(),
            name: shown.and_then(certs::common_name),
        })
    }
}

impl AsyncRead for Side {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, to),
            Self::Secure(secure) => secure::poll_read(&mut secure.tls, cx, to),
        }
    }
}

impl Secure {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        secure::poll_write(&mut self.tls, &mut self.pending, cx, bytes)
    }
}

impl AsyncWrite for Side {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Secure(secure) => secure.poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Secure(secure) => Pin::new(&mut secure.tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Secure(secure) => Pin::new(&mut secure.tls).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontend_is_listed_however_its_address_is_written() {
        let places = |frontends: &[&str]| {
            let frontends = frontends.iter().map(ToString::to_string).collect();
            Terminate { frontends, ..Terminate::default() }.places()
        };
        let listed = ["LB.test:7000", "[2001:DB8:0::1]:7000", "10.0.8.1:7000"];
        let listed = places(&listed).unwrap();
        for (frontend, expected) in [
            ("lb.test:7000", true),
            ("Lb.Test.:7000", true),
            ("[2001:db8::1]:7000", true),
            ("[2001:db8:0:0::1]:7000", true),
            ("[::ffff:10.0.8.1]:7000", true),
            ("lb.test:7001", false),
            ("b.test:7000", false),
            ("10.0.8.2:7000", false),
            ("no frontend", false),
        ] {
            assert_eq!(is_meant(&listed, frontend), expected, "{frontend}");
        }
        assert!(is_meant(&[], "b.test:7000"));
        assert_eq!(places(&["b.test:7000", "lb.test"]).unwrap_err().option, FRONTENDS);
    }
}
