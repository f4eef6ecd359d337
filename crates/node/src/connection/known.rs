//! What is spoken with a client, and the user that its certificate names.
//!
//! Known once the handshake is over, which is while the first bytes are read, or from the header of
//! a balancer where the client's TLS ended.

use api::proxy::Secure;

use super::Connection;
use crate::acl;
use crate::config::value::ClientsUser;
use crate::node::Node;
use crate::session::{Auth, Session};
use crate::stream::Spoken;

impl Connection {
    /// Looks who the client is, as soon as that can be known.
    pub(super) fn recognize(&mut self, session: &mut Session) {
        if !self.is_new {
            return;
        }
        match self.stream.spoken() {
            Spoken::Undecided => {}
            Spoken::Clear => self.is_new = false,
            Spoken::Tls { version, name } => {
                self.is_new = false;
                // As the second to set it, where a balancer speaks TLS with this node too.
                let _ = session.client.tls.set(version);
                become_user(&self.node, session, name.as_deref());
            }
        }
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

/// The session is that of the user whom the certificate names. A client of one that is not there,
/// or is off, has to show who it is as anybody else; nobody is the default user by a name.
fn become_user(node: &Node, session: &mut Session, name: Option<&str>) {
    let takes_names = node.config.now().tls_auth_clients_user == ClientsUser::Cn;
    let Some(name) = name.filter(|_| takes_names && session.auth != Auth::Peer) else { return };
    let account = node.acl.find(name).filter(|account| account.user().is_on);
    let account = account.filter(|account| account.name != acl::DEFAULT);
    if let Some(account) = account {
        session.auth = Auth::Client;
        session.belong_to(Some(account));
    }
}
