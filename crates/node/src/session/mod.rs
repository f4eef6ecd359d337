//! One connection's state, and what handlers are given.

mod cx;
pub mod dispatch;
pub mod expire;
pub mod gates;
pub mod lend;
pub mod long;
pub mod nested;
pub mod outcome;
pub mod pipeline;
pub mod serve;
pub mod table;
pub mod transaction;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::heartbeat::ClientAccess;
use resp::{Protocol, Writer};
use storage::{DEFAULT_NAMESPACE, Name, Scope};
use topology::{Asker, Reach};

use crate::acl::log::{Context, Reason};
use crate::acl::{self, Account};
use crate::clients::{Client, Via};
use crate::command::{Flags, Reply};
use crate::config::Values;
use crate::memory::parts;
use crate::migration::import::Link;
use crate::node::Node;
use crate::tracking::{Mode, Sending};
use crate::waiters::Standing;
pub use cx::{Beyond, ReadCx, SessionCx, WriteCx};
pub use nested::NestedCx;
pub use outcome::{After, Answer, Back, Detached, LongRead, Takeover, Tells};
pub use table::Command;
use transaction::Transaction;

/// What a connection has proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Nothing, and a password is needed.
    None,
    /// A password (or none is needed): a client, and an administrator.
    Client,
    /// `peer-auth`: a node or a controller.
    Peer,
}

/// State of one connection. It stays on its worker, so nothing here needs a lock.
#[derive(Debug)]
pub struct Session {
    /// What others see of it.
    pub client: Arc<Client>,
    /// RESP version.
    pub protocol: Protocol,
    /// What it has proved.
    pub auth: Auth,
    /// Whose keys it sees.
    pub namespace: Arc<[u8]>,
    /// It authenticated with the token of a namespace.
    pub is_tenant: bool,
    /// Whose it is; `None`: the default user's.
    pub user: Option<Arc<Account>>,
    /// CLIENT TRACKING.
    pub tracks: Option<Mode>,
    /// CLIENT CACHING was sent just before.
    pub caches: bool,
    /// It has asked what only nodes and controllers ask.
    pub asks_as_peer: bool,
    /// READONLY was sent.
    pub is_readonly: bool,
    /// ASKING was sent just before.
    pub is_asking: bool,
    /// Slots come over it.
    pub importing: Option<Arc<Link>>,
    /// MULTI and WATCH.
    pub transaction: Transaction,
    /// REPLCONF listening-port and ip-address.
    pub replica: ReplicaFacts,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// CLIENT REPLY was sent since this was made, or lent.
    pub has_set_replies: bool,
    /// Protected mode refuses everything but authentication.
    pub is_denied: bool,
    /// Its next command begins anew, to wait: another thread has found nothing for it.
    pub has_looked: bool,
    /// The place in line and the deadline of its next command, from the command's earlier wait: it
    /// begins anew.
    pub standing: Option<Standing>,
}

/// What a replica said of itself before PSYNC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaFacts {
    /// `replconf listening-port`; 0 when it said none.
    pub port: u16,
    /// `replconf ip-address`.
    pub ip: Option<String>,
    /// It understands Holdfast's additions to the file transfer.
    pub is_holdfast: bool,
    /// `replconf history`: its epochs and where it is.
    pub position: Option<replication::history::Position>,
    /// What its data was compared with: the generation of this node's role when it was told.
    pub compared_with: Option<u64>,
    /// `replconf … lineage`: who wrote its data.
    pub lineage: Option<replication::history::History>,
    /// `replconf member`: what its data is called in in-sync sets.
    pub member: Option<::grant::Member>,
}

/// CLIENT REPLY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyMode {
    /// Replies are sent.
    #[default]
    On,
    /// None are.
    Off,
    /// The reply of SKIP itself and of the next command are not sent: value = commands still to
    /// skip.
    Skip(u8),
}

impl Session {
    /// A connection that has just been accepted.
    pub fn new(client: Arc<Client>, config: &Values, is_denied: bool) -> Self {
        let mut session = Self {
            client,
            protocol: Protocol::V2,
            auth: Auth::None,
            namespace: DEFAULT_NAMESPACE.into(),
            is_tenant: false,
            user: None,
            tracks: None,
            caches: false,
            asks_as_peer: false,
            is_readonly: false,
            is_asking: false,
            importing: None,
            transaction: Transaction::default(),
            replica: ReplicaFacts::default(),
            reply_mode: ReplyMode::On,
            has_set_replies: false,
            is_denied,
            has_looked: false,
            standing: None,
        };
        session.auth = session.initial_auth(config);
        session
    }

    /// The keys this connection sees at `now_ms`, Unix ms. Beside it only [`Node::scope`] makes
    /// one.
    pub fn scope(&self, config: &Values, now_ms: u64) -> Scope<'_> {
        scope_in(&self.namespace, config, now_ms)
    }

    /// Whether slots come over it just now, or have come.
    pub fn imports(&self) -> bool {
        self.importing.as_ref().is_some_and(|link| link.is_active())
    }

    /// Whether it may show who it is, and nothing else: it was not let in, or protected mode stands
    /// in its way.
    pub fn is_stranger(&self) -> bool {
        self.auth == Auth::None || (self.is_denied && self.auth != Auth::Peer)
    }

    /// Whether it may do what is not for clients of a namespace.
    pub fn is_admin(&self) -> bool {
        !self.is_tenant
    }

    /// It is this user's from here on; `None`: the default user's.
    pub fn belong_to(&mut self, user: Option<Arc<Account>>) {
        let name = user.as_ref().map_or(String::new(), |account| account.name.clone());
        self.client.names.lock().user = name;
        self.user = user;
    }

    /// The same for a user that was just found; false if it was removed meanwhile: what removes one
    /// ends the connections that are its own by then.
    pub fn belong_to_found(&mut self, node: &Node, account: &Arc<Account>) -> bool {
        let before = self.user.clone();
        self.belong_to(Some(Arc::clone(account)));
        let is_there = node.acl.has(account);
        if !is_there {
            self.belong_to(before);
        }
        is_there
    }

    /// Whose it is.
    pub fn user_name(&self) -> &str {
        self.user.as_ref().map_or(acl::DEFAULT, |account| &account.name)
    }

    /// A connection that says nothing may do nothing where the default user must say who it is.
    pub fn meet(&mut self, node: &Node) {
        let default = node.acl.default_account().user();
        if self.auth == Auth::Client && self.user.is_none() && !(default.is_on && default.is_open) {
            self.auth = Auth::None;
        }
    }

    /// The user whose permissions count; `None` for one that is no user. Peers and checks of load
    /// balancers are no users: what they may do, other gates say.
    pub fn account<'a>(&'a self, node: &'a Node) -> Option<&'a Arc<Account>> {
        if self.auth != Auth::Client || matches!(self.client.via, Via::Check { .. }) {
            return None;
        }
        Some(self.user.as_ref().unwrap_or_else(|| node.acl.default_account()))
    }

    /// Whether it may use all of these channels, or patterns of them. Also asked once they are
    /// entered: a change of rules after the gates has ended only those that were entered by then.
    pub fn may_use<'n>(
        &self,
        node: &Node,
        mut names: impl Iterator<Item = &'n [u8]>,
        is_pattern: bool,
    ) -> bool {
        match self.account(node) {
            Some(account) if account.is_unrestricted() => true,
            Some(account) => {
                let user = account.user();
                names.all(|name| user.allows_channel(name, is_pattern))
            }
            None => self.auth != Auth::None || names.next().is_none(),
        }
    }

    /// The context of its commands, for ACL LOG.
    pub fn context(&self) -> Context {
        if self.transaction.is_open() { Context::Multi } else { Context::Toplevel }
    }

    /// Notes for ACL LOG what was refused, and to whom.
    pub fn note_refusal(
        &self,
        (node, config): (&Node, &Values),
        (reason, object, user): (Reason, &[u8], &str),
        context: Context,
        now_ms: u64,
    ) {
        let refusal = acl::log::Refusal {
            reason,
            context,
            object: object.to_vec(),
            user: user.to_owned(),
            client: self.client.line(now_ms),
        };
        let limit = usize::try_from(config.acllog_max_len).unwrap_or(usize::MAX);
        node.acl.log.add(refusal, now_ms, limit);
    }

    /// It sees these keys from here on.
    pub fn enter(&mut self, namespace: Arc<[u8]>, is_tenant: bool) {
        let name = match *namespace == *DEFAULT_NAMESPACE {
            true => String::new(),
            false => String::from_utf8_lossy(&namespace).into_owned(),
        };
        let mut names = self.client.names.lock();
        // A namespace without a token of its own is a database, which SELECT has named by number.
        names.database = if is_tenant { 0 } else { name.parse().unwrap_or(0) };
        names.namespace = name;
        drop(names);
        (self.namespace, self.is_tenant) = (namespace, is_tenant);
    }

    /// Notes which keys a command is about to read, if changes of them are to be told. As in Redis
    /// 7.2 a script reads nothing but what its commands do, whatever it declares.
    fn note_reading(&self, node: &Node, config: &Values, command: &Command, words: &[&[u8]]) {
        let is_noted = match self.tracks {
            None | Some(Mode::Broadcast) => false,
            Some(Mode::Read) => true,
            Some(Mode::OptIn) => self.caches,
            Some(Mode::OptOut) => !self.caches,
        };
        let flags = command.flags;
        let reads = !command.is_write() && !flags.has(Flags::PUBSUB) && !flags.has(Flags::SCRIPT);
        if !is_noted || !reads {
            return;
        }
        let keys = command.keys_in(words).map(|key| Name { namespace: &self.namespace, key });
        let max = parts::tracked(config.maxmemory.0, config.tracking_table_max_keys.into());
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let (limit, now_ms) = (config.subscriber_limit(), crate::clock::unix_ms());
        node.tracking.note(self.client.id, keys, max, Sending { limit, now_ms });
    }

    /// The right to answer once, in its version of the protocol.
    pub fn reply<'o>(&self, out: &'o mut Vec<u8>) -> Reply<'o> {
        Reply::new(Writer::new(out, self.protocol))
    }

    /// Takes note of what the connection has proved. What was a peer and is none any more gives a
    /// peer's place back.
    pub fn prove(&mut self, auth: Auth, node: &Node, config: &Values) {
        self.auth = auth;
        if auth == Auth::Peer {
            self.client.become_peer();
        } else {
            self.asks_as_peer = false;
            let clients_max = usize::try_from(config.parts().connections).unwrap_or(usize::MAX);
            self.client.leave_peers(clients_max, node.descriptors.visitors());
        }
    }

    /// Publishes what others see of this session. Nothing else writes it, so CLIENT LIST cannot
    /// show a transaction that is over.
    pub fn show(&self) {
        let (shown, transaction) = (&self.client.shown, &self.transaction);
        let queued =
            transaction.queue().map_or(-1, |queue| i64::try_from(queue.len()).unwrap_or(i64::MAX));
        shown.resp.store(if self.protocol == Protocol::V3 { 3 } else { 2 }, Ordering::Relaxed);
        shown.is_readonly.store(self.is_readonly, Ordering::Relaxed);
        shown.queued.store(queued, Ordering::Relaxed);
        shown.queued_bytes.store(transaction.queue_bytes(), Ordering::Relaxed);
        shown.watched.store(transaction.watched(), Ordering::Relaxed);
        shown.is_dirty.store(transaction.is_dirty(), Ordering::Relaxed);
    }

    /// Which nodes its client can reach, and how it speaks with them. With `client-access
    /// balancer-only`, a client that came through a balancer reaches announced endpoints. A direct
    /// connection is then a peer or an operator, and sees every node.
    pub fn asker(&self, config: &Values) -> Asker {
        let is_balanced = matches!(self.client.via, crate::clients::Via::Balancer { .. });
        let reach = match config.client_access {
            ClientAccess::BalancerOnly if is_balanced => Reach::Announced,
            _ => Reach::Nodes,
        };
        Asker { reach, is_tls: self.client.tls.get().is_some() }
    }

    /// The rights of a connection before it says anything: all if no password is set, but none if
    /// it came around the balancers.
    pub fn initial_auth(&self, config: &Values) -> Auth {
        let needs_peer_auth = config.client_access == ClientAccess::BalancerOnly
            && self.client.via == crate::clients::Via::Direct;
        if needs_peer_auth || !config.requirepass.is_empty() { Auth::None } else { Auth::Client }
    }
}

fn scope_in<'n>(namespace: &'n [u8], config: &Values, now_ms: u64) -> Scope<'n> {
    Scope { namespace, cluster: config.cluster_enabled, now_ms }
}

#[cfg(test)]
mod tests;
