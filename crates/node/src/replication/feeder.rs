//! Feeding one replica: the connection of a `PSYNC` on a thread of its own, from the decision to
//! its end.
//!
//! Invariant: only published batches leave, in unbroken sequence. If the feed cannot continue, the
//! connection ends; the replica comes back and is told to take a full sync.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ::grant::EpochId;
use parking_lot::Mutex;
use replication::FORKED;
use replication::master::LOADING;
use replication::master::feed::{Config, Fault, Feed};
use replication::master::psync::{self, Facts, Refusal, Request};
use replication::master::replconf::Replconf;
use replication::wire::Stamp;
use storage::{FeedRead, FeedReader, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::feeders::{self, Replica};
use crate::clients::Client;
use crate::clock::{boottime_ms as now_ms, until};
use crate::node::Node;
use crate::session::Detached;
use crate::stream::Stream;
use crate::threads::{block_on, spawn};

/// Answers a `PSYNC` on a thread of its own and, if it is accepted, feeds the replica until either
/// side ends.
pub fn serve(detached: Detached, request: Request) {
    spawn("repl-feed", move || {
        block_on(detached.attended("feed", async move |detached| run(detached, request).await))
    });
}

async fn run(detached: Detached, request: Request) {
    let Detached { stream, unread, client, node, facts } = detached;
    client.is_replica.store(true, Ordering::Relaxed);
    match stream.arrive() {
        Ok(mut stream) => {
            let replica = Replconf {
                listening_port: Some(facts.port),
                ip_address: facts.ip,
                is_holdfast: facts.is_holdfast,
                position: facts.position,
                lineage: facts.lineage,
                asks_grant: false,
                member: facts.member.map(|member| member.to_string()),
                ack: None,
            };
            let result = answer(&node, &client, &mut stream, request, replica, &unread).await;
            let address = client.address;
            match result {
                Ok(end) => tracing::info!(conn = client.id, replica = %address, end, "feed ended"),
                Err(error) => {
                    tracing::warn!(conn = client.id, replica = %address, %error, "feed ended");
                }
            }
        }
        Err(error) => tracing::warn!(%error, "cannot take a replica's socket"),
    }
}

/// Why a feed ended, where it was not asked to.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("read the feed: {0}")]
    Storage(#[from] storage::Error),
    #[error("the replica reads nothing for {0} ms")]
    Stalled(u64),
    #[error("the replica has said nothing for {0} ms")]
    Silent(u64),
}

/// Decides, says so, and feeds.
async fn answer(
    node: &Arc<Node>,
    client: &Arc<Client>,
    stream: &mut Stream,
    request: Request,
    replica: Replconf,
    unread: &[u8],
) -> Result<&'static str, End> {
    let (reader, store, generation) = match accept(node, request, &replica)? {
        Ok(accepted) => accepted,
        Err(text) => {
            node.stats.sync_partial_err.fetch_add(1, Ordering::Relaxed);
            tracing::info!(replica = %client.address, next = request.next, reason = text, "partial sync refused");
            stream.write_all(format!("-{text}\r\n").as_bytes()).await?;
            return Ok("partial sync refused");
        }
    };
    let (end, ended) = watch::channel(false);
    let shown = Arc::new(Replica {
        ip: replica.ip_address.clone().unwrap_or_else(|| client.address.ip().to_string()),
        port: replica.listening_port.unwrap_or(0),
        is_holdfast: replica.is_holdfast,
        member: replica.member.as_ref().and_then(|text| text.parse().ok()),
        epoch: Mutex::default(),
        offset: AtomicU64::new(request.next.saturating_sub(1)),
        acked_next: AtomicU64::new(0),
        heard_ms: AtomicU64::new(now_ms()),
        is_ack_wanted: AtomicBool::new(false),
        is_leaving: AtomicBool::new(false),
        end,
    });
    let _registered = match Registered::new(node, client.id, &shown) {
        Ok(registered) => registered,
        Err(text) => {
            node.stats.sync_partial_err.fetch_add(1, Ordering::Relaxed);
            tracing::error!(replica = %client.address, "a replica is refused: {text}");
            stream.write_all(format!("-TWIN {text}\r\n").as_bytes()).await?;
            return Ok("another process has its name");
        }
    };
    node.stats.sync_partial_ok.fetch_add(1, Ordering::Relaxed);
    tracing::info!(replica = %client.address, next = request.next, "partial sync accepted");
    // A change of the generation ends the feeds that are registered; this one may have come too
    // late for that.
    if node.engine().generation != generation {
        return Ok("the role or the database changed");
    }
    let mut feeding = Feeding {
        node: Arc::clone(node),
        client: Arc::clone(client),
        bell: node.replication.bell.rung.subscribe(),
        ended,
        feed: Feed::new(config(node, None), replica, request.next, now_ms()),
        reader,
        store,
        shown,
        out: b"+OK\r\n".to_vec(),
        sent: 0,
        is_stamped: false,
        progress_at: now_ms(),
        has_batches: false,
        taken_at: now_ms(),
        silent_since: None,
    };
    feeding.received(unread)?;
    feeding.run(stream).await
}

/// How many pings a replica gets within a lease that it may have to lend, at least: it begins after
/// a third of it, and some are late.
const PINGS_OF_A_LEASE: u64 = 10;

/// The current options of a feed, for a replica that is asked for such a lease.
fn config(node: &Node, stamp: Option<Stamp>) -> Config {
    let often_ms = u64::from(node.config.now().replication_ping_ms);
    let asks_ms = stamp.map_or(u64::MAX, |stamp| (stamp.lease_ms / PINGS_OF_A_LEASE).max(10));
    Config { ping_interval_ms: often_ms.min(asks_ms), ..Config::default() }
}

/// Whether a replica may continue from where it is, as Kvrocks decides it and by the epochs; `Err`
/// is the error reply.
fn accept(
    node: &Node,
    request: Request,
    replica: &Replconf,
) -> Result<Result<(FeedReader, Store, u64), String>, End> {
    let (store, generation) = {
        let engine = node.engine();
        // Data that is about to be thrown away must not be passed on.
        match (&engine.store, node.resync.is_required()) {
            (Some(store), false) => {
                node.replication.hang_bell(store);
                (store.clone(), engine.generation)
            }
            _ => return Ok(Err(LOADING.to_owned())),
        }
    };
    // The feed is opened first: from now on nothing it will need is missed.
    let reader = store.feed();
    let is_other = |theirs| {
        let (mine, lineage) = (store.position(), node.replication.lineage.now().history());
        let theirs = (theirs, replica.lineage.as_ref());
        let is_granted = node.grants.granted_epoch().is_some();
        !psync::continues(request, theirs, (&mine, &lineage), is_granted)
    };
    if replica.position.as_ref().is_some_and(is_other) {
        return Ok(Err(format!("{FORKED} the histories differ, compare again")));
    }
    let latest = store.latest_sequence();
    let wal_batch = if request.is_in_wal(latest) && storage::starts_batch(&store, request.next)? {
        Some(request.next)
    } else {
        None
    };
    let facts = Facts { latest, id_before: None, wal_batch };
    let refused = |refusal: Refusal| format!("ERR {refusal}");
    Ok(request.decide(facts).map(|()| (reader, store, generation)).map_err(refused))
}

/// Puts a replica on the list and takes it off again, however its feed ends.
struct Registered<'a> {
    node: &'a Node,
    id: u64,
}

impl<'a> Registered<'a> {
    /// `Err` says why not.
    fn new(node: &'a Node, id: u64, replica: &Arc<Replica>) -> Result<Self, String> {
        let alive_ms = feeders::alive_ms(node.config.now().replication_ping_ms);
        let admitted = node.replication.feeders.admit(id, replica, (now_ms(), alive_ms));
        admitted.map_err(|other| {
            let of = replica.member.map_or_else(String::new, |member| member.node().to_string());
            format!(
                "{}:{} follows with the data of node {of}: if this folder is a copy of its, \
                 start with an empty one",
                other.ip, other.port
            )
        })?;
        node.replication.bell.listeners.fetch_add(1, Ordering::SeqCst);
        Ok(Self { node, id })
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.node.replication.bell.listeners.fetch_sub(1, Ordering::SeqCst);
        self.node.replication.feeders.ended(self.id, now_ms());
        // A lost member is dropped from the set at once.
        crate::grants::drive::look(self.node);
    }
}

struct Feeding {
    node: Arc<Node>,
    client: Arc<Client>,
    bell: watch::Receiver<()>,
    ended: watch::Receiver<bool>,
    feed: Feed,
    reader: FeedReader,
    store: Store,
    shown: Arc<Replica>,
    out: Vec<u8>,
    sent: usize,
    /// The replica is asked for a lease.
    is_stamped: bool,
    /// When the replica last took bytes, or had taken all.
    progress_at: u64,
    /// There are batches in `out`, and not just words.
    has_batches: bool,
    /// When it last took bytes of batches.
    taken_at: u64,
    /// Since when it is known that it says nothing.
    silent_since: Option<u64>,
}

/// Bytes asked of the feed at once.
const GROUP_BYTES: usize = 256 * 1024;
/// Buffers larger than that are given back once they are sent.
const KEEP_BYTES: usize = 4 * GROUP_BYTES;
/// What a replica has said may wait to be read, where this process did not run for a while.
const READ_MS: u64 = 1_000;

impl Feeding {
    async fn run(&mut self, stream: &mut Stream) -> Result<&'static str, End> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut acks = [0_u8; 4096];
        loop {
            if self.sent == self.out.len() {
                self.bell.mark_unchanged();
                if !self.refill()? {
                    return Ok("the WAL does not continue where the replica is");
                }
            }
            let is_sending = self.sent < self.out.len();
            // The patience may be changed while it runs out.
            let wake = if is_sending {
                self.stall_at().min(now_ms() + 1_000)
            } else {
                self.feed.due_at(self.is_stamped)
            };
            tokio::select! {
                written = writer.write(&self.out[self.sent..]), if is_sending => {
                    self.sent += written?;
                    self.progress_at = now_ms();
                    if self.has_batches {
                        self.taken_at = self.progress_at;
                    }
                }
                read = reader.read(&mut acks) => match read? {
                    0 => return Ok("closed by the replica"),
                    read => self.received(acks.get(..read).unwrap_or_default())?,
                },
                _ = self.bell.changed(), if !is_sending => {}
                () = until(wake) => if is_sending && now_ms() >= self.stall_at() {
                    return Err(End::Stalled(now_ms().saturating_sub(self.progress_at)));
                },
                () = self.client.killed() => return Ok("killed"),
                () = ended(&mut self.ended) => return Ok("the role or the database changed"),
            }
        }
    }

    /// A replica that answers every ping, and has said nothing for longer than one may take
    /// nothing: its machine may be gone, which ends no connection for a quarter of an hour. What it
    /// was sent is not counted while it takes that: a large batch is acknowledged at its end.
    fn check_silence(&mut self, now: u64) -> Result<(), End> {
        let config = self.node.config.now();
        let patience_ms = u64::from(config.replication_send_timeout_ms)
            .max(feeders::alive_ms(config.replication_ping_ms));
        let heard_at = self.shown.heard_ms.load(Ordering::Relaxed).max(self.taken_at);
        let silent_ms = now.saturating_sub(heard_at);
        if !self.shown.is_holdfast || silent_ms < patience_ms {
            self.silent_since = None;
            return Ok(());
        }
        let since = *self.silent_since.get_or_insert(now);
        if now.saturating_sub(since) < READ_MS { Ok(()) } else { Err(End::Silent(silent_ms)) }
    }

    fn stall_at(&self) -> u64 {
        let patience_ms = u64::from(self.node.config.now().replication_send_timeout_ms);
        self.progress_at.saturating_add(patience_ms)
    }

    /// What to send next, if anything; false when the feed cannot go on.
    fn refill(&mut self) -> Result<bool, End> {
        self.out.clear();
        self.sent = 0;
        if self.out.capacity() > KEEP_BYTES {
            self.out = Vec::new();
        }
        let now = now_ms();
        self.check_silence(now)?;
        (self.progress_at, self.has_batches) = (now, false);
        let stamp = self.shown.member.and_then(|_| self.node.grants.stamp());
        self.is_stamped = stamp.is_some();
        self.feed.set_config(config(&self.node, stamp));
        match self.reader.read(self.feed.next(), GROUP_BYTES)? {
            FeedRead::Batches(batches) => {
                self.has_batches = true;
                for batch in &batches {
                    self.feed.batch(&batch.data, now, &mut self.out)?;
                }
            }
            FeedRead::UpToDate => {}
            FeedRead::Gone => return Ok(false),
        }
        if self.shown.is_ack_wanted.swap(false, Ordering::SeqCst) {
            self.feed.getack(now, &mut self.out);
        }
        if let Some(stamp) = stamp {
            self.feed.stamp(now, stamp, &mut self.out);
        }
        if self.feed.is_leaving() {
            let lets_go = |member| self.node.grants.lets_go(member, &self.store);
            let is_gone = self.shown.member.as_ref().is_none_or(lets_go);
            self.feed.answer_leave(is_gone, now, &mut self.out);
        }
        self.feed.ping(now, &mut self.out);
        self.shown.offset.store(self.feed.offset(), Ordering::Relaxed);
        Ok(true)
    }

    fn received(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.shown.heard_ms.store(now_ms(), Ordering::Relaxed);
        let is_news = self.feed.received(bytes)?;
        if let Some(acked) = self.feed.acked() {
            self.acknowledged(acked, is_news);
        }
        if self.feed.is_leaving() && !self.shown.is_leaving.swap(true, Ordering::SeqCst) {
            tracing::info!(conn = self.client.id, replica = %self.client.address, "it leaves the in-sync set: its process is about to end");
            // The set without it is asked for at once.
            crate::grants::drive::look(&self.node);
        }
        Ok(())
    }

    fn acknowledged(&mut self, acked: u64, is_news: bool) {
        let epoch = self.feed.epoch().map(|id| EpochId(id.bits()));
        if let Some(member) = self.shown.member {
            *self.shown.epoch.lock() = epoch;
            let longest_ms = u64::from(self.node.config.now().master_lease_max_ms);
            let echo = self.feed.take_echo();
            self.node.grants.acked(&self.store, member, (epoch, acked), echo, longest_ms);
        }
        if is_news {
            self.shown.acked_next.store(acked.saturating_add(1), Ordering::SeqCst);
            self.shown.offset.store(acked, Ordering::Relaxed);
            self.node.replication.feeders.acks.send_modify(|news| *news = news.wrapping_add(1));
        }
    }
}

/// Returns when a feed is told to end.
async fn ended(receiver: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, so nobody can end it any more: it has ended.
    let _ = receiver.wait_for(|ended| *ended).await;
}
