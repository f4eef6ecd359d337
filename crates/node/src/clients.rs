//! The connections of this node: CLIENT LIST, KILL and PAUSE, idle time-outs, who must go when a
//! master is deposed, and how many there may be ([`places`]).

mod last;
mod line;
mod pausing;
pub mod places;
pub mod subscriptions;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering,
};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use resp::Protocol;
use tokio::sync::Notify;

use crate::clock;
use crate::inbox::{Inbox, Limit};
use crate::listener;
use crate::memory::held::Held;
pub use last::LastCommand;
use places::{Place, Places};
use subscriptions::Subscriptions;

/// What Redis tells a client for whom there is no place.
pub const TOO_MANY: &str = "ERR max number of clients reached";

/// How a connection reached the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Straight to the node's port.
    Direct,
    /// Through a load balancer, which said so in a PROXY header.
    Balancer {
        /// The balancer's address.
        balancer: SocketAddr,
        /// The address the client dialled.
        frontend: SocketAddr,
    },
    /// A load balancer itself, which wants to know whether the node answers: it may PING.
    Check {
        /// The balancer's address.
        balancer: SocketAddr,
    },
}

/// What a connection is used for, as CLIENT LIST's and KILL's TYPE names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Commands.
    Normal,
    /// A replica reading the stream.
    Replica,
    /// The link to this node's master. It is dialled, not accepted, and never in the list.
    Master,
    /// A subscriber of channels.
    Subscriber,
}

/// One connection as others see it.
#[derive(Debug)]
pub struct Client {
    /// Never used again within a process.
    pub id: u64,
    /// The client's own address: behind a balancer the one in the PROXY header.
    pub address: SocketAddr,
    /// Where it arrived.
    pub local: SocketAddr,
    /// The socket file it came by, if it did.
    file: Option<Arc<str>>,
    /// How.
    pub via: Via,
    /// By which version of TLS it speaks, with this node or with a balancer in front of it; nothing
    /// in clear, and before a handshake is over.
    pub tls: OnceLock<String>,
    /// When it connected, Unix ms.
    pub since_ms: u64,
    /// When it was active last, Unix ms: its last command, or the end of what that waited for.
    pub last_ms: AtomicU64,
    /// The last command.
    pub last_command: LastCommand,
    /// Its descriptor; -1 where there is none.
    pub descriptor: AtomicI32,
    /// Bytes that are kept of what it sent, waiting to be served or just served.
    pub query_bytes: AtomicUsize,
    /// Bytes of replies that have not left: the client does not read them, or they wait for the
    /// in-sync set.
    pub reply_bytes: AtomicUsize,
    /// Bytes of pushes among these that stand behind replies which wait for the in-sync set.
    pub pushed_bytes: AtomicUsize,
    /// Memory that these take; 0 where there are none.
    pub reply_memory: AtomicUsize,
    /// Bytes of these that wait for the in-sync set.
    pub held_bytes: AtomicUsize,
    /// What is counted of it where `maxmemory` bounds what connections hold, pushes left out.
    pub charged: AtomicUsize,
    /// A reply to it was larger than its share where connections held all that they may: it waits
    /// until they do not.
    pub asks_much: AtomicBool,
    /// It waits until connections hold less, and is still by no fault of its own.
    pub waits_for_room: AtomicBool,
    /// Bytes that its client has taken of what is sent to it; they rise by parts.
    pub taken: AtomicU64,
    /// What its session is like.
    pub shown: Shown,
    /// What CLIENT LIST tells of CLIENT TRACKING. Written by `tracking`.
    pub tracks: Tracks,
    /// Whether it authenticated as a peer: a node or a controller.
    pub is_peer: AtomicBool,
    /// Whether it asks what peers ask, where no secret tells them from others.
    pub is_peer_by_conduct: AtomicBool,
    /// Whether it reads the replication stream.
    pub is_replica: AtomicBool,
    /// Database-independent facts that commands may change.
    pub names: Mutex<Names>,
    /// Channels. Changed by `pubsub`.
    pub subscriptions: Mutex<Subscriptions>,
    /// Whether there are any: every command looks.
    pub is_subscriber: AtomicBool,
    /// MONITOR was sent.
    pub is_monitor: AtomicBool,
    /// Pushes that wait for it.
    pub inbox: Inbox,
    memory: Arc<Held>,
    is_killed: AtomicBool,
    /// Told when it is to end, or has pushes to send.
    call: Notify,
    /// Given back when the connection is forgotten.
    place: Mutex<Option<Place>>,
    /// There is no place for it unless it is a peer.
    is_visitor: AtomicBool,
}

/// What a client says of itself.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub library: String,
    /// CLIENT SETINFO LIB-VER.
    pub version: String,
    /// Its namespace; empty: the default one.
    pub namespace: String,
    /// Its user; empty: the default one.
    pub user: String,
    /// Number of its database, as SELECT names it.
    pub database: u32,
}

/// How a client tracks what it reads, as others see it.
#[derive(Debug, Default)]
pub struct Tracks {
    /// It does.
    pub is_on: AtomicBool,
    /// It is told of all keys, or of those with its prefixes, without reading them.
    pub is_broadcast: AtomicBool,
    /// The connection that was to be told in its place is gone.
    pub is_broken: AtomicBool,
    /// Bytes of its prefixes.
    pub bytes: AtomicUsize,
    /// Which connection is told in its place; 0 for none.
    pub redirect: AtomicU64,
}

/// State of the connection's session as others see it: a copy, written by `Session::show` after
/// every command.
#[derive(Debug, Default)]
pub struct Shown {
    /// RESP version, 2 or 3.
    pub resp: AtomicU8,
    /// READONLY was sent.
    pub is_readonly: AtomicBool,
    /// Commands queued since MULTI; -1 without one.
    pub queued: AtomicI64,
    /// Bytes of them.
    pub queued_bytes: AtomicUsize,
    /// Watched keys.
    pub watched: AtomicUsize,
    /// One of them has changed.
    pub is_dirty: AtomicBool,
    /// It waits for a key, or for the answer of a command that takes its time: WAIT, DBSIZE, a long
    /// read, a change of the topology.
    pub is_blocked: AtomicBool,
    /// Bytes of what it waits for by keys.
    pub awaited_bytes: AtomicUsize,
}

impl Client {
    /// Asks the connection to end; it is closed without a further reply.
    pub fn kill(&self) {
        self.is_killed.store(true, Ordering::SeqCst);
        self.call.notify_one();
    }

    /// Whether it was asked to end.
    pub fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::SeqCst)
    }

    /// Returns once it is asked to end.
    pub async fn killed(&self) {
        while !self.is_killed() {
            self.call.notified().await;
        }
    }

    /// Returns once it is asked to end, or there are pushes.
    pub async fn called(&self) {
        while !self.is_killed() && self.inbox.is_empty() {
            self.call.notified().await;
        }
    }

    /// Sends it a push, as RESP of its version. One that reads none is cut off.
    pub fn push(&self, push: &[u8], limit: Limit, now_ms: u64) {
        let is_there_for_pushes =
            self.kind() == Kind::Subscriber || self.is_monitor.load(Ordering::Relaxed);
        // A reply that a tracking client asked for is no push, however long.
        let unsent = if is_there_for_pushes { &self.reply_bytes } else { &self.pushed_bytes };
        let unsent = unsent.load(Ordering::Relaxed);
        let own = self.charged.load(Ordering::Relaxed).saturating_add(self.inbox.len());
        let has_room = !self.is_bound_in_memory() || self.memory.takes(push.len(), own);
        if has_room && self.inbox.put(push, unsent, limit, now_ms) {
            self.call.notify_one();
        } else if !self.is_killed() {
            let at = if has_room { "client-output-buffer-limit" } else { "maxmemory" };
            tracing::warn!(conn = self.id, address = %self.address, at, "a client does not read what it subscribes to: it is cut off");
            if !has_room {
                self.memory.evicted.fetch_add(1, Ordering::Relaxed);
            }
            self.kill();
        }
    }

    /// Whether what it holds is bounded where memory is: a client's, not a peer's or a replica's.
    pub fn is_bound_in_memory(&self) -> bool {
        !self.is_peer.load(Ordering::Relaxed)
            && !self.is_peer_by_conduct.load(Ordering::Relaxed)
            && self.kind() != Kind::Replica
    }

    /// The name of its user.
    pub fn user_name(&self) -> String {
        let names = self.names.lock();
        if names.user.is_empty() { "default".to_owned() } else { names.user.clone() }
    }

    /// Its version of RESP.
    pub fn protocol(&self) -> Protocol {
        if self.shown.resp.load(Ordering::Relaxed) == 3 { Protocol::V3 } else { Protocol::V2 }
    }

    /// Puts it on its place.
    pub fn sit(&self, place: Place) {
        self.is_visitor.store(place.visit().is_some(), Ordering::SeqCst);
        *self.place.lock() = Some(place);
    }

    /// Whether there is no place for it unless it is a peer.
    pub fn is_visitor(&self) -> bool {
        self.is_visitor.load(Ordering::SeqCst)
    }

    /// Returns when it must go because it is a visitor and has not shown itself as a peer.
    pub async fn visit_over(&self) {
        let visit = self.place.lock().as_ref().and_then(Place::visit);
        match visit {
            Some(visit) => visit.over().await,
            None => std::future::pending().await,
        }
    }

    /// It authenticated as a peer: it needs no client's place.
    pub fn become_peer(&self) {
        self.is_peer.store(true, Ordering::Relaxed);
        if let Some(place) = &mut *self.place.lock() {
            place.become_peer();
        }
        self.is_visitor.store(false, Ordering::SeqCst);
    }

    /// It is no peer, or none any more, and needs a client's place, or goes soon.
    pub fn leave_peers(&self, clients_max: usize, visitors_max: usize) {
        self.is_peer.store(false, Ordering::Relaxed);
        self.is_peer_by_conduct.store(false, Ordering::Relaxed);
        if let Some(place) = &mut *self.place.lock() {
            place.leave_peers(clients_max, visitors_max);
            self.is_visitor.store(place.visit().is_some(), Ordering::SeqCst);
        }
    }

    /// It asks what only nodes and controllers ask, and was allowed to: it needs no client's place,
    /// as far as there are others.
    pub fn show_peer(&self) {
        let is_seated = self.place.lock().as_mut().is_none_or(Place::show_peer);
        if is_seated {
            self.is_peer_by_conduct.store(true, Ordering::Relaxed);
            self.is_visitor.store(false, Ordering::SeqCst);
        }
    }

    /// It waits for the answer of a command that takes its time, until the guard is dropped.
    pub fn blocked(&self) -> Blocked<'_> {
        self.shown.is_blocked.store(true, Ordering::Relaxed);
        Blocked(self)
    }

    /// What it is used for.
    pub fn kind(&self) -> Kind {
        if self.is_replica.load(Ordering::Relaxed) {
            Kind::Replica
        } else if self.is_subscriber.load(Ordering::Relaxed) {
            Kind::Subscriber
        } else {
            Kind::Normal
        }
    }

    /// Its address as clients are told: for the socket file, as Redis, its path and port 0.
    pub fn shown_address(&self) -> String {
        self.file.as_ref().map_or_else(|| self.address.to_string(), |path| format!("{path}:0"))
    }

    /// Name of its last command; `NULL` before the first.
    pub fn command(&self) -> &'static str {
        self.last_command.get().map_or("NULL", |row| row.first_word())
    }
}

/// See [`Client::blocked`].
#[derive(Debug)]
pub struct Blocked<'c>(&'c Client);

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        // It is idle from its answer on.
        self.0.last_ms.store(clock::unix_ms(), Ordering::Relaxed);
        self.0.shown.is_blocked.store(false, Ordering::Relaxed);
    }
}

/// What CLIENT PAUSE stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PauseKind {
    /// Commands that write.
    Write,
    /// All commands of clients.
    All,
}

/// A pause in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// What it stops.
    pub kind: PauseKind,
    /// CLOCK_BOOTTIME at which it ends by itself, in ns.
    pub until_ns: u64,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Clients {
    next_id: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
    count: AtomicUsize,
    pause: Mutex<Option<Pause>>,
    is_paused: AtomicBool,
    resumed: Notify,
    /// Path of the socket file, where there is one.
    pub file: OnceLock<Arc<str>>,
    /// How many may be connected.
    pub places: Arc<Places>,
    memory: Arc<Held>,
}

/// Bits of the number of a connection that are counted, and those above that are drawn. More would
/// be more than JavaScript can tell apart.
const COUNTED_BITS: u32 = 32;
const DRAWN_BITS: u32 = 20;

impl Clients {
    /// Without connections; `drawn`, a random number, is what their numbers begin with. A session
    /// that was moved here remembers the number that it had at another node: it is to be nobody's.
    pub fn numbered(drawn: u64) -> Self {
        let high = drawn % (1 << DRAWN_BITS);
        Self { next_id: AtomicU64::new(high << COUNTED_BITS), ..Self::default() }
    }

    /// What connections hold is counted there.
    #[must_use]
    pub fn within(self, memory: Arc<Held>) -> Self {
        Self { memory, ..self }
    }

    /// Registers a connection.
    pub fn add(
        &self,
        address: SocketAddr,
        local: SocketAddr,
        via: Via,
        now_ms: u64,
    ) -> Arc<Client> {
        let client = Arc::new(Client {
            id: self.next_id.fetch_add(1, Ordering::Relaxed) + 1,
            address,
            local,
            file: self.file.get().filter(|_| listener::is_file(&address)).cloned(),
            via,
            tls: OnceLock::new(),
            since_ms: now_ms,
            last_ms: AtomicU64::new(now_ms),
            last_command: LastCommand::default(),
            descriptor: AtomicI32::new(-1),
            query_bytes: AtomicUsize::new(0),
            reply_bytes: AtomicUsize::new(0),
            pushed_bytes: AtomicUsize::new(0),
            reply_memory: AtomicUsize::new(0),
            held_bytes: AtomicUsize::new(0),
            charged: AtomicUsize::new(0),
            asks_much: AtomicBool::new(false),
            waits_for_room: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            shown: Shown { resp: AtomicU8::new(2), queued: AtomicI64::new(-1), ..Shown::default() },
            tracks: Tracks::default(),
            is_peer: AtomicBool::new(false),
            is_peer_by_conduct: AtomicBool::new(false),
            is_replica: AtomicBool::new(false),
            names: Mutex::new(Names::default()),
            is_killed: AtomicBool::new(false),
            subscriptions: Mutex::default(),
            is_subscriber: AtomicBool::new(false),
            is_monitor: AtomicBool::new(false),
            inbox: Inbox::counted(Arc::clone(&self.memory.pushes)),
            memory: Arc::clone(&self.memory),
            call: Notify::new(),
            place: Mutex::default(),
            is_visitor: AtomicBool::new(false),
        });
        self.all.lock().insert(client.id, Arc::clone(&client));
        self.count.fetch_add(1, Ordering::SeqCst);
        client
    }

    /// Forgets a connection that has ended.
    pub fn remove(&self, id: u64) {
        let removed = self.all.lock().remove(&id);
        if let Some(client) = removed {
            self.count.fetch_sub(1, Ordering::SeqCst);
            // Others may still look at it.
            *client.place.lock() = None;
        }
    }

    /// Open connections.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// True without connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every connection, oldest first.
    pub fn list(&self) -> Vec<Arc<Client>> {
        self.all.lock().values().cloned().collect()
    }

    /// The connection of that number.
    pub fn find(&self, id: u64) -> Option<Arc<Client>> {
        self.all.lock().get(&id).filter(|client| !client.is_killed()).cloned()
    }

    /// Whether a connection has ended or was asked to.
    pub fn is_gone(&self, id: u64) -> bool {
        self.all.lock().get(&id).is_none_or(|client| client.is_killed())
    }

    /// Ends every connection that is chosen, and says how many were.
    pub fn kill_where(&self, mut choose: impl FnMut(&Client) -> bool) -> usize {
        let chosen: Vec<_> = self.list().into_iter().filter(|client| choose(client)).collect();
        for client in &chosen {
            client.kill();
        }
        chosen.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_one_node_and_fit_into_any_client() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let id = |clients: &Clients| clients.add(address, address, Via::Direct, 0).id;
        let (one, other) = (Clients::numbered(u64::MAX), Clients::numbered(7));
        let (first, second) = (id(&one), id(&one));
        assert_eq!((second, id(&other)), (first + 1, (7 << 32) + 1));
        assert!(second + u64::from(u32::MAX) < 1 << 53, "{second}");
    }

    #[test]
    fn a_pause_never_shrinks_and_ends_by_itself() {
        let clients = Clients::default();
        clients.pause(PauseKind::All, 100, 0);
        clients.pause(PauseKind::Write, 50, 10);
        assert_eq!(clients.paused(|| 99), Some(Pause { kind: PauseKind::All, until_ns: 100 }));
        assert_eq!(clients.paused(|| 100), None);
        clients.pause(PauseKind::Write, 300, 200);
        assert_eq!(clients.paused(|| 250).map(|pause| pause.kind), Some(PauseKind::Write));
        clients.unpause();
        assert_eq!(clients.paused(|| 250), None);
    }
}
