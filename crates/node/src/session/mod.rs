//! One connection's state, and what handlers are given.

pub mod dispatch;
pub mod gates;
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
use storage::{DEFAULT_NAMESPACE, Scope, Store, Txn};
use topology::Reach;

use crate::clients::Client;
use crate::command::{Error, Reply};
use crate::config::Values;
use crate::locks::Stripes;
use crate::node::Node;
use crate::stats::WorkerStats;
use crate::waiters::Standing;
use long::Aside;
pub use outcome::{After, Answer, Detached, LongRead, Takeover, Tells};
use serve::Ready;
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
    /// It has asked what only nodes and controllers ask.
    pub asks_as_peer: bool,
    /// READONLY was sent.
    pub is_readonly: bool,
    /// ASKING was sent just before.
    pub is_asking: bool,
    /// MULTI and WATCH.
    pub transaction: Transaction,
    /// REPLCONF listening-port and ip-address.
    pub replica: ReplicaFacts,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// Protected mode refuses everything but authentication.
    pub is_denied: bool,
    /// Its next command begins anew, to wait: another thread has found nothing for it.
    pub has_looked: bool,
    /// What its next command, which begins anew, has from its earlier wait.
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

/// What a read handler sees.
pub struct ReadCx<'a> {
    /// Reads go here: outside MULTI straight to the database.
    pub txn: &'a Txn<'a>,
    /// The key for which a waiting command is tried again; `None` when it came just now.
    pub serves: Option<&'a [u8]>,
    /// Namespace, mode and time.
    pub scope: Scope<'a>,
    /// The node.
    pub node: &'a Node,
    /// The options of now.
    pub config: &'a Values,
    /// Which worker runs this, for counters.
    pub worker: usize,
}

/// What a write handler sees.
pub struct WriteCx<'a> {
    /// Reads and writes go here; committed when the handler returns `Ok`.
    pub txn: Txn<'a>,
    /// The key for which a waiting command is tried again; `None` when it came just now.
    pub serves: Option<&'a [u8]>,
    /// Namespace, mode and time.
    pub scope: Scope<'a>,
    /// The node.
    pub node: &'a Node,
    /// The options of now.
    pub config: &'a Values,
    /// Which worker runs this, for counters.
    pub worker: usize,
}

/// What a session handler sees.
pub struct SessionCx<'a> {
    /// The node.
    pub node: &'a Arc<Node>,
    /// The connection.
    pub session: &'a mut Session,
    /// The options of now.
    pub config: &'a Values,
    /// Inside EXEC what the transaction has written so far. A command there may not wait.
    pub exec: Option<&'a Txn<'a>>,
    /// Unix ms.
    pub now_ms: u64,
}

/// What a command sees that runs others (`session::nested`).
pub struct NestedCx<'a> {
    /// The node.
    pub node: &'a Arc<Node>,
    /// The connection.
    pub session: &'a mut Session,
    /// The current options.
    pub config: &'a Arc<Values>,
    store: &'a Store,
    worker: usize,
    now_ms: u64,
    /// Of the write gate.
    generation: u64,
    /// Reads that took too long, and where their replies belong; `None` where all must be read at
    /// once.
    aside: Option<Aside>,
    /// Where replies go.
    out: &'a mut Vec<u8>,
    /// One of the commands saw data.
    has_data: bool,
    /// Something was written.
    has_written: bool,
    /// Stripes that the command holds.
    held: Stripes,
    /// Keys for which others wait, to be served when the command holds no locks.
    ready: Ready,
}

impl SessionCx<'_> {
    /// Waits until every write that is under way is done. A command inside EXEC is part of one, and
    /// holds the gate itself.
    pub fn wait_for_writes(&self) {
        if self.exec.is_none() {
            drop(self.node.gate.write());
        }
    }

    /// The keys of this connection, by the clock of this command.
    pub fn scope(&self) -> Scope<'_> {
        self.session.scope(self.config, self.now_ms)
    }
}

impl WriteCx<'_> {
    /// What a waiting command finds at a key it waits for; `None` if nothing. When it came, a key
    /// of another type is an error; later it is none of its business, as in Redis.
    ///
    /// # Errors
    /// Those of `find`.
    pub fn find_or_wait<T>(
        &mut self,
        key: &[u8],
        find: impl FnOnce(&mut Self) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let serves = self.serves;
        find_or_wait(serves, key, || find(self))
    }
}

fn find_or_wait<T>(
    serves: Option<&[u8]>,
    key: &[u8],
    find: impl FnOnce() -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    if serves.is_some_and(|served| served != key) {
        return Ok(None);
    }
    match find() {
        Err(Error::WrongType) if serves.is_some() => Ok(None),
        found => found,
    }
}

impl ReadCx<'_> {
    /// See [`WriteCx::find_or_wait`].
    ///
    /// # Errors
    /// Those of `find`.
    pub fn find_or_wait<T>(
        &self,
        key: &[u8],
        find: impl FnOnce() -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        find_or_wait(self.serves, key, find)
    }

    /// Counts a look-up of a key for INFO.
    pub fn count(&self, is_hit: bool) {
        if let Some(stats) = self.node.stats.workers.get(self.worker) {
            WorkerStats::add(if is_hit { &stats.hits } else { &stats.misses }, 1);
        }
    }
}

impl Session {
    /// A connection that has just been accepted.
    pub fn new(client: Arc<Client>, config: &Values, is_denied: bool) -> Self {
        let mut session = Self {
            client,
            protocol: Protocol::V2,
            auth: Auth::None,
            namespace: DEFAULT_NAMESPACE.into(),
            asks_as_peer: false,
            is_readonly: false,
            is_asking: false,
            transaction: Transaction::default(),
            replica: ReplicaFacts::default(),
            reply_mode: ReplyMode::On,
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

    /// Whether it may do what is not for clients of a namespace.
    pub fn is_admin(&self) -> bool {
        *self.namespace == *DEFAULT_NAMESPACE
    }

    /// The right to answer once, in its version of the protocol.
    pub fn reply<'o>(&self, out: &'o mut Vec<u8>) -> Reply<'o> {
        Reply::new(Writer::new(out, self.protocol))
    }

    /// Takes note of what the connection has proved.
    pub fn prove(&mut self, auth: Auth) {
        self.auth = auth;
        if auth == Auth::Peer {
            self.client.become_peer();
        } else {
            self.client.is_peer.store(false, Ordering::Relaxed);
        }
    }

    /// Writes down what others see of this session. Nothing else writes it, so that CLIENT LIST
    /// cannot tell of a transaction that is over.
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

    /// Which nodes its client can reach. Where only balancers bring clients, one that came through
    /// a balancer reaches announced endpoints; who came to the node itself is a peer or an
    /// operator, and sees every node.
    pub fn reach(&self, config: &Values) -> Reach {
        let is_balanced = matches!(self.client.via, crate::clients::Via::Balancer { .. });
        match config.client_access {
            ClientAccess::BalancerOnly if is_balanced => Reach::Announced,
            _ => Reach::Nodes,
        }
    }

    /// What a connection has before it says anything: everything where no password is set, unless
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
