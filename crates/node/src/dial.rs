//! How another node is dialled: at its local address, and with `tls-replication` over TLS, at the
//! port of TLS that the topology has for it.
//!
//! The address itself stays who the node is: in roles, INFO and messages.

use std::io;
use std::num::NonZeroU16;
use std::sync::Arc;

use topology::Endpoint;

use crate::node::Node;
use crate::stream::Stream;
use crate::tls::Tls;

/// Where and by what.
#[derive(Debug, Clone)]
pub struct Way {
    /// Host; over TLS the node has to prove that it is this one.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What is spoken over, if not in clear.
    pub tls: Option<Arc<Tls>>,
}

impl Way {
    /// Goes it.
    ///
    /// # Errors
    /// See [`Stream::dial`].
    pub async fn dial(self) -> io::Result<Stream> {
        Stream::dial(&self.host, self.port, self.tls).await
    }
}

impl Node {
    /// The way to the node whose local address is `at`. Of a node that is in no topology, or has no
    /// port of TLS there, the port takes both kinds, or TLS alone with `port 0`.
    ///
    /// # Errors
    /// `tls-replication` is set, and there is no certificate.
    pub fn way_to(&self, at: &Endpoint) -> io::Result<Way> {
        let tls = self.link_tls()?;
        let secure = tls.as_ref().and_then(|_| self.tls_port_of(at));
        let port = secure.map_or(at.port, NonZeroU16::get);
        Ok(Way { host: at.host.clone(), port, tls })
    }

    fn tls_port_of(&self, at: &Endpoint) -> Option<NonZeroU16> {
        let cluster = self.cluster.load();
        let topology = cluster.topology().ok()?;
        topology.nodes.iter().find(|node| node.local == *at)?.tls.local
    }
}
