//! How a client speaks (in clear or TLS), whether that is accepted here, and the user that its
//! certificate names.
//!
//! This is known once the handshake is over, while the first bytes are read; if the client's TLS
//! ended at a balancer, from the balancer's header.

use api::heartbeat::ClientAccess;
use api::proxy::Secure;
use resp::Writer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::greeting::INTRODUCTION;
use super::{Connection, End, READ_BYTES};
use crate::acl;
use crate::clients::{Client, Via};
use crate::config::value::ClientsUser;
use crate::listener;
use crate::node::Node;
use crate::session::{Auth, Session};
use crate::stream::Spoken;

const TLS_ALONE: &str =
    "ERR this node takes TLS alone (tls-only), and this connection is in clear: connect over TLS";

impl Connection {
    /// Looks who the client is, as soon as that can be known; nothing of it has run before. False:
    /// it is not taken as it speaks.
    pub(super) fn recognize(&mut self, session: &mut Session) -> bool {
        if !self.is_new {
            return true;
        }
        match self.stream.spoken() {
            Spoken::Undecided => {}
            Spoken::Clear => {
                self.is_new = false;
                return !self.node.config.now().tls_only || may_be_clear(&session.client);
            }
            Spoken::Tls { version, name } => {
                self.is_new = false;
                // Where a balancer speaks TLS with this node its client's is known already, and the
                // certificate is the balancer's.
                if session.client.tls.set(version).is_ok() {
                    become_user(&self.node, session, name.as_deref());
                }
            }
        }
        true
    }

    /// Says so to a client that is not taken in clear; nothing to one that is a balancer's.
    pub(super) async fn refuse_clear(&mut self, session: &Session) -> End {
        if !self.is_introduced(&session.client).await {
            self.out.clear();
            Writer::new(&mut self.out, session.protocol).error(TLS_ALONE);
            // It may be gone already; it is refused either way. What else it sent is taken off the
            // socket, or its reset would take the answer along.
            let _ = self.stream.write_all(&self.out).await;
            self.buffer.reserve(READ_BYTES);
            let rest = self.stream.read_buf(&mut self.buffer);
            let _ = tokio::time::timeout(INTRODUCTION, rest).await;
        }
        End::Refused("in clear where TLS alone is taken".into())
    }
}

/// Whether only this host and balancers hear what is said in clear. True of a client of this host,
/// one whose TLS ended at a balancer, and a balancer that asks how this node is. A client that
/// reached a balancer by loopback is of that host.
fn may_be_clear(client: &Client) -> bool {
    let address = &client.address;
    client.tls.get().is_some()
        || match client.via {
            Via::Direct => address.ip().is_loopback() || listener::is_file(address),
            Via::Check { .. } => true,
            Via::Balancer { .. } => false,
        }
}

/// The same of a client whose TLS ended at a balancer that is listed. A session that was elsewhere
/// before brings its user along.
pub(super) fn recognize_behind(
    node: &Node,
    session: &mut Session,
    secure: &Secure,
    is_moved: bool,
) {
    let version = if secure.version.is_empty() { "TLS" } else { &secure.version };
    // Shown in lines of words.
    let version = version.chars().filter(char::is_ascii_graphic).take(16).collect();
    let _ = session.client.tls.set(version);
    if !is_moved {
        become_user(node, session, secure.name.as_deref());
    }
}

/// Gives the session to the user whom the certificate names. If that user does not exist or is off,
/// the client must authenticate as any other; a certificate never makes it the default user. Around
/// the balancers of a node that only they bring clients to, nobody is a user, as with AUTH.
fn become_user(node: &Node, session: &mut Session, name: Option<&str>) {
    let config = node.config.now();
    let goes_around =
        config.client_access == ClientAccess::BalancerOnly && session.client.via == Via::Direct;
    let takes_names = config.tls_auth_clients_user == ClientsUser::Cn && !goes_around;
    let Some(name) = name.filter(|_| takes_names && session.auth != Auth::Peer) else { return };
    let account = node.acl.find(name).filter(|account| account.user().is_on);
    let account = account.filter(|account| account.name != acl::DEFAULT);
    if account.is_some_and(|account| session.belong_to_found(node, &account)) {
        session.auth = Auth::Client;
    }
}
