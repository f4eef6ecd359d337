//! How a drill client finds its master: always at the announced address, or by a DNS name that it
//! caches.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::dns;

/// Where to connect next.
#[derive(Debug)]
pub(crate) enum Route {
    /// The same address for ever: what is behind it changes.
    Announced(SocketAddr),
    /// A name, looked up again when the answer's TTL is over and not before.
    Name {
        /// The name server.
        server: SocketAddr,
        /// What to ask for.
        name: String,
        /// The last answer and when it ends.
        cached: Option<(SocketAddr, Instant)>,
    },
}

impl Route {
    /// A client that follows a name.
    pub(crate) fn by_name(server: SocketAddr, name: String) -> Self {
        Self::Name { server, name, cached: None }
    }

    /// The address to connect to now.
    pub(crate) async fn address(&mut self) -> io::Result<SocketAddr> {
        match self {
            Self::Announced(address) => Ok(*address),
            Self::Name { server, name, cached } => {
                if let Some((address, until)) = cached
                    && Instant::now() < *until
                {
                    return Ok(*address);
                }
                let (address, ttl) = dns::resolve(*server, name).await?;
                *cached = Some((address, Instant::now() + ttl));
                Ok(address)
            }
        }
    }
}
