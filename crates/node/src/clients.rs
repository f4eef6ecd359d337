//! The connections of this node: CLIENT LIST, KILL and PAUSE, idle time-outs, and who must go when a master is deposed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

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
    /// How.
    pub via: Via,
    /// When it connected, Unix ms.
    pub since_ms: u64,
    /// Last command, Unix ms.
    pub last_ms: AtomicU64,
    /// Index of the last command in the table; `usize::MAX` before the first.
    pub last_command: AtomicUsize,
    /// Bytes waiting to be served.
    pub query_bytes: AtomicUsize,
    /// Whether it authenticated as a peer: a node or a controller.
    pub is_peer: AtomicBool,
    /// Whether it reads the replication stream.
    pub is_replica: AtomicBool,
    /// Database-independent facts that commands may change.
    pub names: Mutex<Names>,
    is_killed: AtomicBool,
    kill: Notify,
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
    /// 2 or 3.
    pub resp: u8,
    /// User shown: always `default`.
    pub queued: Option<usize>,
}

impl Client {
    /// Asks the connection to end; it is closed without a further reply.
    pub fn kill(&self) {
        self.is_killed.store(true, Ordering::SeqCst);
        self.kill.notify_one();
    }

    /// Whether it was asked to end.
    pub fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::SeqCst)
    }

    /// Returns once it is asked to end.
    pub async fn killed(&self) {
        while !self.is_killed() {
            self.kill.notified().await;
        }
    }

    /// What it is used for.
    pub fn kind(&self) -> Kind {
        if self.is_replica.load(Ordering::Relaxed) { Kind::Replica } else { Kind::Normal }
    }

    /// Name of its last command; `NULL` before the first.
    pub fn command(&self) -> &'static str {
        let table = crate::command::Table::get();
        let row = table.commands().get(self.last_command.load(Ordering::Relaxed));
        row.map_or("NULL", |command| command.name)
    }

    /// The line of CLIENT LIST, without line end.
    pub fn line(&self, now_ms: u64) -> String {
        let names = self.names.lock().clone();
        let command = self.command();
        let seconds = |from: u64| now_ms.saturating_sub(from) / 1000;
        let flags = match self.kind() {
            Kind::Replica => "S",
            Kind::Normal if names.queued.is_some() => "x",
            Kind::Normal => "N",
            Kind::Master => "M",
            Kind::Subscriber => "P",
        };
        let via = match self.via {
            Via::Direct => "direct".to_owned(),
            Via::Balancer { balancer, .. } => format!("balancer:{balancer}"),
            Via::Check { balancer } => format!("check:{balancer}"),
        };
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db=0 sub=0 psub=0 ssub=0 multi={} \
             qbuf={} cmd={command} user=default resp={} lib-name={} lib-ver={} via={via} peer={}",
            self.id,
            self.address,
            self.local,
            names.name,
            seconds(self.since_ms),
            seconds(self.last_ms.load(Ordering::Relaxed)),
            names.queued.map_or(-1, |queued| i64::try_from(queued).unwrap_or(i64::MAX)),
            self.query_bytes.load(Ordering::Relaxed),
            names.resp,
            names.library,
            names.version,
            u8::from(self.is_peer.load(Ordering::Relaxed)),
        )
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
}

impl Clients {
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
            via,
            since_ms: now_ms,
            last_ms: AtomicU64::new(now_ms),
            last_command: AtomicUsize::new(usize::MAX),
            query_bytes: AtomicUsize::new(0),
            is_peer: AtomicBool::new(false),
            is_replica: AtomicBool::new(false),
            names: Mutex::new(Names { resp: 2, ..Names::default() }),
            is_killed: AtomicBool::new(false),
            kill: Notify::new(),
        });
        self.all.lock().insert(client.id, Arc::clone(&client));
        self.count.fetch_add(1, Ordering::SeqCst);
        client
    }

    /// Forgets a connection that has ended.
    pub fn remove(&self, id: u64) {
        if self.all.lock().remove(&id).is_some() {
            self.count.fetch_sub(1, Ordering::SeqCst);
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

    /// Ends every connection that is chosen, and says how many were.
    pub fn kill_where(&self, mut choose: impl FnMut(&Client) -> bool) -> usize {
        let chosen: Vec<_> = self.list().into_iter().filter(|client| choose(client)).collect();
        for client in &chosen {
            client.kill();
        }
        chosen.len()
    }

    /// Starts a pause or extends the one in force: as in Redis, neither its end nor its kind ever shrinks.
    pub fn pause(&self, kind: PauseKind, until_ns: u64, now_ns: u64) {
        let mut pause = self.pause.lock();
        let running = pause.filter(|pause| pause.until_ns > now_ns);
        *pause = Some(Pause {
            kind: running.map_or(kind, |running| running.kind.max(kind)),
            until_ns: running.map_or(until_ns, |running| running.until_ns.max(until_ns)),
        });
        self.is_paused.store(true, Ordering::SeqCst);
    }

    /// Ends the pause.
    pub fn unpause(&self) {
        *self.pause.lock() = None;
        self.is_paused.store(false, Ordering::SeqCst);
        self.resumed.notify_waiters();
    }

    /// The pause in force at `now_ns`.
    pub fn paused(&self, now_ns: impl FnOnce() -> u64) -> Option<Pause> {
        if !self.is_paused.load(Ordering::SeqCst) {
            return None;
        }
        let now_ns = now_ns();
        let mut pause = self.pause.lock();
        if let Some(running) = *pause
            && running.until_ns > now_ns
        {
            return Some(running);
        }
        *pause = None;
        self.is_paused.store(false, Ordering::SeqCst);
        None
    }

    /// Returns when a pause ends early, or after `longest`.
    pub async fn resumed(&self, longest: std::time::Duration) {
        let resumed = self.resumed.notified();
        if self.is_paused.load(Ordering::SeqCst) {
            // Either end of the wait is the same to the caller, who looks again.
            let _ = tokio::time::timeout(longest, resumed).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
