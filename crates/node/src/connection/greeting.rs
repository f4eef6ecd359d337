//! How a connection begins: the PROXY header where it is required, and how one is handled where
//! none is allowed (`docs/protocol.md` §3).

use std::net::SocketAddr;
use std::time::Duration;

use api::proxy::{self, Opening};
use tokio::io::AsyncReadExt as _;

use super::{Connection, End, canonical};
use crate::clients::{Client, Via};
use crate::clock;
use crate::listener;
use crate::proxy_refused::Fault;

/// Longest wait for a PROXY header, and for the record behind it.
const GREETING: Duration = Duration::from_secs(5);
/// Longest wait for the first bytes of a connection that is refused whatever it sends.
pub(super) const INTRODUCTION: Duration = Duration::from_millis(200);

/// The caller, and the way it came.
pub(super) struct Greeting {
    pub(super) address: SocketAddr,
    pub(super) via: Via,
    /// What the session was at another node.
    pub(super) moved: Option<api::moving::Session>,
    /// What its balancer says of it, if its TLS ended there.
    pub(super) secure: Option<Box<proxy::Secure>>,
}

impl Connection {
    /// Reads the PROXY header where one must be, and tells who is calling and how.
    pub(super) async fn greet(
        &mut self,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Result<Greeting, End> {
        let config = self.node.config.now();
        // Behind the socket file is a process of this host, whatever addresses balancers have.
        if listener::is_file(&peer) || !config.balancer_sources.contains(peer.ip()) {
            let (address, via) = (canonical(peer), Via::Direct);
            return Ok(Greeting { address, via, moved: None, secure: None });
        }
        let header = match tokio::time::timeout(GREETING, self.read_header()).await {
            Ok(Err(End::Refused(why))) => return Err(self.bad_header(peer, why)),
            Ok(header) => header?,
            Err(_) => {
                let why = "no PROXY header came from a balancer's address".to_owned();
                return Err(self.bad_header(peer, why));
            }
        };
        let address = canonical(header.source.unwrap_or(peer));
        if header.command == proxy::Command::Local {
            let via = Via::Check { balancer: peer };
            return Ok(Greeting { address, via, moved: None, secure: None });
        }
        let frontend = header.destination.unwrap_or(local);
        self.moves = header.moving.is_some() && !config.peer_auth.is_empty();
        self.mark = header.moving.and_then(|moving| moving.mark);
        let moved = match header.moving.map_or(0, |moving| moving.record) {
            0 => None,
            length => {
                let reading = self.read_record(length, address, frontend);
                let read = tokio::time::timeout(GREETING, reading).await;
                let late = |_| End::Refused("the record of a moved session did not come".into());
                Some(read.map_err(late)??)
            }
        };
        let via = Via::Balancer { balancer: peer, frontend };
        Ok(Greeting { address, via, moved, secure: header.secure })
    }

    fn bad_header(&self, peer: SocketAddr, why: String) -> End {
        self.node.proxy_refused.note(peer.ip(), Fault::NoHeader, clock::boottime_ns());
        End::Refused(why)
    }

    async fn read_header(&mut self) -> Result<proxy::Header, End> {
        loop {
            match proxy::parse(&self.buffer) {
                Ok(proxy::Parsed::Header(header)) => {
                    self.buffer.drain(..header.len);
                    return Ok(header);
                }
                Ok(proxy::Parsed::Incomplete) => {}
                Err(error) => return Err(End::Refused(format!("bad PROXY header: {error}"))),
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(End::Eof);
            }
        }
    }

    /// Notes a header where a command should be, and says why the connection ends. Not a byte is
    /// answered: the client behind the balancer would take it for the answer to what it sent.
    pub(super) fn stray_header(&self, client: &Client) -> &'static str {
        let (balancer, fault, why) = match client.via {
            Via::Direct => {
                let why = "a PROXY header from an address that is not in balancer-sources";
                (client.address, Fault::Unlisted, why)
            }
            Via::Balancer { balancer, .. } | Via::Check { balancer } => {
                (balancer, Fault::Twice, "a second PROXY header behind the first")
            }
        };
        self.node.proxy_refused.note(balancer.ip(), fault, clock::boottime_ns());
        why
    }

    /// Whether the first bytes of a connection that is refused anyway are a header, so that its
    /// client is told nothing. A connection that says nothing for a moment is no balancer's.
    pub(super) async fn is_introduced(&mut self, client: &Client) -> bool {
        let reading = async {
            loop {
                match proxy::opening(&self.buffer) {
                    Opening::Header => return true,
                    Opening::Command if !self.buffer.is_empty() => return false,
                    _ => {}
                }
                if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {
                    return false;
                }
            }
        };
        let is_header = tokio::time::timeout(INTRODUCTION, reading).await.unwrap_or(false);
        if is_header {
            self.stray_header(client);
        }
        is_header
    }
}
