//! The part of a session that a command takes along to another thread, and brings back.
//!
//! What other connections see of the client (e.g. its line in CLIENT LIST) stays with the
//! connection.

use std::sync::Arc;

use resp::Protocol;

use super::transaction::Transaction;
use super::{Auth, ReplicaFacts, ReplyMode, Session};
use crate::acl::Account;
use crate::tracking::Mode;

/// The state of a connection that commands in EXEC may change (HELLO, SELECT, AUTH, CLIENT TRACKING
/// and their kin), beside what others see of it.
#[derive(Debug)]
pub struct State {
    protocol: Protocol,
    auth: Auth,
    namespace: Arc<[u8]>,
    is_tenant: bool,
    user: Option<Arc<Account>>,
    tracks: Option<Mode>,
    caches: bool,
    asks_as_peer: bool,
    is_readonly: bool,
    is_denied: bool,
    /// What CLIENT REPLY has said, if it was said.
    replies: Option<ReplyMode>,
}

impl Session {
    /// The part of the session that a command takes along to another thread, while its connection
    /// waits: the connection's state, and the transaction, if the command ends it. Keys that are
    /// watched for a later transaction stay with the connection.
    pub fn lend(&mut self) -> Self {
        Self {
            client: Arc::clone(&self.client),
            protocol: self.protocol,
            auth: self.auth,
            namespace: Arc::clone(&self.namespace),
            is_tenant: self.is_tenant,
            user: self.user.clone(),
            tracks: self.tracks,
            caches: self.caches,
            asks_as_peer: self.asks_as_peer,
            is_readonly: self.is_readonly,
            is_asking: std::mem::take(&mut self.is_asking),
            importing: self.importing.clone(),
            transaction: match self.transaction.is_open() {
                true => std::mem::take(&mut self.transaction),
                false => Transaction::default(),
            },
            replica: ReplicaFacts::default(),
            // The connection itself sees to what is not sent.
            reply_mode: ReplyMode::On,
            has_set_replies: false,
            is_denied: self.is_denied,
            standing: None,
            has_looked: false,
        }
    }

    /// The state of the session after the command that it was lent to.
    pub fn state(&self) -> State {
        State {
            protocol: self.protocol,
            auth: self.auth,
            namespace: Arc::clone(&self.namespace),
            is_tenant: self.is_tenant,
            user: self.user.clone(),
            tracks: self.tracks,
            caches: self.caches,
            asks_as_peer: self.asks_as_peer,
            is_readonly: self.is_readonly,
            is_denied: self.is_denied,
            replies: self.has_set_replies.then_some(self.reply_mode),
        }
    }

    /// Is from here on what the command has made of the session that it was lent. The connection
    /// has waited for it, so nothing else has changed.
    pub fn take_up(&mut self, state: State) {
        let State {
            protocol,
            auth,
            namespace,
            is_tenant,
            user,
            tracks,
            caches,
            asks_as_peer,
            is_readonly,
            is_denied,
            replies,
        } = state;
        (self.protocol, self.auth, self.user) = (protocol, auth, user);
        (self.namespace, self.is_tenant) = (namespace, is_tenant);
        (self.tracks, self.caches) = (tracks, caches);
        (self.asks_as_peer, self.is_readonly, self.is_denied) =
            (asks_as_peer, is_readonly, is_denied);
        self.reply_mode = replies.unwrap_or(self.reply_mode);
        // The one that was lent has shown itself.
        self.show();
    }
}
