//! The giver's stream: `CLUSTERX MOVE PULL` on a thread of its own.
//!
//! Invariant: nothing leaves that the in-sync set has not acknowledged (rule M7), nor anything of a
//! history that does not hold what the taker has. The stream ends with the grant.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::replication::slots::copy::{Sender, Step};
use ::replication::slots::{Cursor, MoveId};
use api::moves::Feed;
use parking_lot::Mutex;
use storage::batch::Writer;
use storage::slots::Most;
use storage::{FeedRead, FeedReader, Snapshot, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::beside::{self, Beside};
use super::look::{self, holds, least};
use super::pace::{Pace, now_us};
use super::request::accept;
use super::state::Give;
use crate::clock;
use crate::node::Node;
use crate::session::Detached;
use crate::stream::Stream;
use crate::threads::{block_on, spawn};

pub use super::request::Request;

/// Bytes of a chunk, and of the log that is read at once, about: as long as it takes to append
/// them, clients of the taker, and of its replicas, do not write.
const CHUNK_BYTES: usize = 64 << 10;
/// Of a chunk of small records it is their number that takes time.
const CHUNK: Most = Most { bytes: CHUNK_BYTES, records: 512 };
/// Frames that the taker has not taken yet.
const WINDOW: usize = 16;
/// Streams of one node.
const STREAMS_MAX: usize = 4;
/// Further behind, the taker is not close.
const CLOSE_BYTES: u64 = 256 << 10;
/// For so long it has to be close.
const CLOSE_MS: u64 = 1_000;
/// While nothing of the slots is written the taker is told of the log that often, and whenever so
/// much of it was written: what others write must not keep the taker from being close.
const IDLE_MS: u64 = 100;
const IDLE_BYTES: u64 = CLOSE_BYTES / 8;
/// Between two looks at what is acknowledged.
const LOOK: Duration = Duration::from_millis(2);
/// Between two looks at a taker that does not read.
const LOOK_SENDING: Duration = Duration::from_millis(100);
/// A taker that takes nothing for so long may be cut off: the controller hears of no stream, so
/// that it orders one, which a taker that is there and waits passes over, ms.
const SILENT_MS: u64 = 2_000;
/// A taker that takes nothing for so long is gone, ms.
const PATIENCE_MS: u64 = 10_000;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("read what moves: {0}")]
    Storage(#[from] storage::Error),
    #[error("the taker takes nothing for {PATIENCE_MS} ms")]
    Stalled,
    #[error("the log does not reach back to what the taker has")]
    Gone,
    #[error("the taker closed it")]
    Closed,
    #[error("another stream, another grant, or the slots have left")]
    Over,
}

/// Answers a `PULL` on a thread of its own.
pub fn serve(detached: Detached, request: Request) {
    spawn("move-give", move || {
        block_on(
            detached.attended("stream of a slot move", async move |detached| {
                run(detached, request).await
            }),
        )
    });
}

async fn run(detached: Detached, request: Request) {
    let Detached { stream, client, node, .. } = detached;
    let id = request.id;
    match stream.arrive() {
        Ok(mut stream) => {
            if let Err(end) = answer(&node, &mut stream, request).await {
                tracing::info!(%id, taker = %client.address, %end, "stream of a slot move ended");
            }
        }
        Err(error) => tracing::warn!(%error, "cannot take a taker's socket"),
    }
}

async fn answer(node: &Arc<Node>, stream: &mut Stream, request: Request) -> Result<(), End> {
    let store = match accept(node, &request) {
        Ok(store) => store,
        Err(why) => {
            tracing::info!(id = %request.id, why, "a taker is refused");
            stream.write_all(format!("-ERR {why}\r\n").as_bytes()).await?;
            return Ok(());
        }
    };
    let give = Arc::new(Give {
        slots: request.slots.clone(),
        rate: request.rate,
        is_over: AtomicBool::new(false),
        feed: Mutex::new(Some(Feed::Far)),
        paced: Mutex::default(),
        growth: Mutex::default(),
    });
    if !register(node, request.id, &give) {
        stream.write_all(b"-ERR too many slot moves give from here\r\n").await?;
        return Ok(());
    }
    let registered = Registered { node, id: request.id, give: &give };
    stream.write_all(beside::GREETING).await?;
    if let Some(has) = request.has.filter(|has| !holds(&store, *has)) {
        tracing::warn!(id = %request.id, ?has, "the taker has what this history does not hold");
        registered.stay_misfit();
        return Ok(());
    }
    let mut giving = Giving {
        node,
        reader: store.feed(),
        sender: Sender::new(request.id, request.has, request.cursor.clone()),
        log: Log::default(),
        beside: Beside::default(),
        pace: Pace::default(),
        snapshot: None,
        stop: node.shutdown(),
        in_flight: 0,
        acked_at_ms: clock::boottime_ms(),
        sent_at_ms: 0,
        sent_at_bytes: 0,
        acked_bytes: 0,
        sent_bytes: VecDeque::new(),
        far_at_ms: clock::boottime_ms(),
        give: &give,
        store: &store,
        request: &request,
    };
    let result = giving.run(stream).await;
    if matches!(result, Err(End::Gone)) {
        registered.stay_misfit();
    }
    result
}

/// Puts a stream on the list, in place of an earlier one of its move; false if there are too many.
fn register(node: &Node, id: MoveId, give: &Arc<Give>) -> bool {
    let mut gives = node.moves.gives.lock();
    // What began anew since was told of long ago.
    gives.retain(|known, give| *known >= id || *give.feed.lock() != Some(Feed::Misfit));
    if gives.keys().filter(|known| **known != id).count() >= STREAMS_MAX {
        return false;
    }
    if let Some(before) = gives.insert(id, Arc::clone(give)) {
        before.is_over.store(true, Ordering::SeqCst);
    }
    true
}

/// Takes a stream off the list, however it ends.
struct Registered<'a> {
    node: &'a Node,
    id: MoveId,
    give: &'a Arc<Give>,
}

impl Registered<'_> {
    /// The controller is to hear that the copy has to begin anew, also once the stream has ended.
    fn stay_misfit(&self) {
        *self.give.feed.lock() = Some(Feed::Misfit);
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut gives = self.node.moves.gives.lock();
        let is_own = gives.get(&self.id).is_some_and(|give| Arc::ptr_eq(give, self.give));
        if is_own && *self.give.feed.lock() != Some(Feed::Misfit) {
            gives.remove(&self.id);
        }
    }
}

/// What was read of the log and not sent yet.
#[derive(Default)]
struct Log {
    records: Option<Writer>,
    /// Read up to there; 0: nothing is waiting.
    to: u64,
}

struct Giving<'a> {
    node: &'a Node,
    store: &'a Store,
    request: &'a Request,
    give: &'a Give,
    reader: FeedReader,
    sender: Sender,
    log: Log,
    beside: Beside,
    /// Of the copy alone: what clients write meanwhile neither waits nor counts, or a copy that is
    /// slower than they would never end.
    pace: Pace,
    snapshot: Option<Snapshot<'a>>,
    /// The node ends.
    stop: watch::Receiver<bool>,
    /// Frames the taker has not taken.
    in_flight: usize,
    /// When the taker last took anything.
    acked_at_ms: u64,
    sent_at_ms: u64,
    /// Bytes of the log when the newest frame was sent.
    sent_at_bytes: u64,
    /// Bytes of the log when the newest frame that the taker has was sent.
    acked_bytes: u64,
    /// The same of those that it has not taken yet.
    sent_bytes: VecDeque<u64>,
    /// When the taker was last far behind.
    far_at_ms: u64,
}

impl Giving<'_> {
    async fn run(&mut self, stream: &mut Stream) -> Result<(), End> {
        loop {
            self.look()?;
            let frame = if self.in_flight < WINDOW { self.next()? } else { None };
            let Some(frame) = frame else {
                self.wait(stream, LOOK).await?;
                continue;
            };
            if self.in_flight == 0 {
                self.acked_at_ms = clock::boottime_ms();
            }
            self.in_flight += 1;
            self.send(stream, &frame).await?;
        }
    }

    /// Sends a frame. A taker that does not read it is looked after meanwhile.
    async fn send(&mut self, stream: &mut Stream, frame: &[u8]) -> Result<(), End> {
        let mut rest = frame;
        loop {
            let before = rest.len();
            let sending = stream.write_all_buf(&mut rest);
            let sent = tokio::time::timeout(LOOK_SENDING, sending).await;
            match sent {
                Ok(sent) => return Ok(sent?),
                // It reads, and can acknowledge nothing before it has all of it.
                Err(_) if rest.len() < before => self.acked_at_ms = clock::boottime_ms(),
                Err(_) if self.silent_ms() > PATIENCE_MS => return Err(End::Stalled),
                Err(_) => {}
            }
            self.look()?;
        }
    }

    /// For how long the taker has taken nothing that it was sent, ms.
    fn silent_ms(&self) -> u64 {
        if self.in_flight == 0 { 0 } else { clock::boottime_ms().saturating_sub(self.acked_at_ms) }
    }

    /// Takes what the taker says, one byte a frame, for at most so long.
    async fn wait(&mut self, stream: &mut Stream, limit: Duration) -> Result<(), End> {
        let mut acks = [0; WINDOW];
        let Ok(read) = tokio::time::timeout(limit, stream.read(&mut acks)).await else {
            let is_gone = self.silent_ms() > PATIENCE_MS;
            return if is_gone { Err(End::Stalled) } else { Ok(()) };
        };
        match read? {
            0 => Err(End::Closed),
            read => {
                let acks = acks.iter().take(read).filter(|ack| **ack != beside::WANTED).count();
                if acks < read {
                    self.beside.want();
                }
                self.in_flight = self.in_flight.saturating_sub(acks);
                for bytes in self.sent_bytes.drain(..acks.min(self.sent_bytes.len())) {
                    self.acked_bytes = bytes;
                }
                self.acked_at_ms = clock::boottime_ms();
                Ok(())
            }
        }
    }

    /// Whether this stream is still that of a grant, and how far the taker is.
    fn look(&mut self) -> Result<(), End> {
        let most = self.request.rate.unwrap_or_else(|| look::usual_rate(self.node));
        let paced = look::pace(self.node, self.store, most);
        self.pace.set(paced.bytes_per_s);
        *self.give.paced.lock() = paced;
        let is_granted = self.node.grants.granted_epoch() == Some(self.request.epoch);
        let is_left =
            self.store.marks().is_some_and(|marks| marks.table().of(self.request.id).is_some());
        let is_over = self.give.is_over.load(Ordering::SeqCst) || *self.stop.borrow();
        if is_over || is_left || !is_granted {
            return Err(End::Over);
        }
        let now = clock::boottime_ms();
        let appended = self.store.appended_bytes();
        self.give.growth.lock().note((appended, self.acked_bytes), now);
        let behind = appended.saturating_sub(self.acked_bytes);
        // While nothing of the slots is written the taker is told seldom of the rest.
        let is_idle = self.in_flight == 0 && self.log.to == 0;
        let is_whole = *self.sender.cursor() == Cursor::End;
        let is_silent = self.silent_ms() > SILENT_MS;
        let is_near = is_whole && !is_silent && (is_idle || behind <= CLOSE_BYTES);
        if !is_near {
            self.far_at_ms = now;
        }
        let is_close = now.saturating_sub(self.far_at_ms) >= CLOSE_MS && !self.beside.is_behind();
        let feed = if is_close { Feed::Close } else { Feed::Far };
        *self.give.feed.lock() = (!is_silent).then_some(feed);
        Ok(())
    }

    /// Newest sequence that the in-sync set has.
    fn acknowledged(&self) -> u64 {
        let published = self.store.published();
        match self.node.grants.commit.is_waiting() {
            true => published.min(self.node.grants.commit.newest()),
            false => published,
        }
    }

    /// Newest sequence that may leave.
    ///
    /// While the slots are frozen the taker's position has to be the freeze's: what others write
    /// behind it does not concern the taker. The freeze is looked at last, so what is not frozen
    /// yet will be at this sequence or behind it; and the grant after it, since a freeze ends with
    /// it: a position behind the one that the record rests on could never be opened.
    fn committed(&self) -> Result<u64, End> {
        let committed = self.acknowledged();
        let frozen = self.node.moves.frozen_at(self.request.id, &self.request.slots);
        if self.node.grants.granted_epoch() != Some(self.request.epoch) {
            return Err(End::Over);
        }
        Ok(frozen.map_or(committed, |at| at.min(committed)))
    }

    /// What goes beside the copy.
    fn beside(&mut self) -> Result<Option<Vec<u8>>, End> {
        let frozen = self.node.moves.frozen_at(self.request.id, &self.request.slots);
        self.beside.look((self.node, self.store), frozen)?;
        let acknowledged = self.acknowledged();
        let Some(head) = self.sender.beside() else { return Ok(None) };
        let records = self.beside.next(acknowledged, CHUNK_BYTES);
        if records.is_some() {
            // It tells the taker nothing of the log.
            let told = self.sent_bytes.back().copied().unwrap_or(self.acked_bytes);
            self.sent_bytes.push_back(told);
        }
        Ok(records.map(|records| head.frame(&records)))
    }

    /// The next frame, if there is one.
    fn next(&mut self) -> Result<Option<Vec<u8>>, End> {
        let beside = self.beside()?;
        // Before there is a position nothing can go beside it.
        if beside.is_some() || self.beside.is_first() && self.sender.beside().is_some() {
            return Ok(beside);
        }
        match self.sender.step(self.committed()?) {
            Step::Wait => Ok(self.flush(false)),
            // No snapshot is held while the rate is waited for.
            Step::Snapshot if !self.pace.is_paid(now_us()) => Ok(self.flush(false)),
            Step::Snapshot => {
                // What was read of the log lies before it.
                if let Some(frame) = self.flush(true) {
                    return Ok(Some(frame));
                }
                let snapshot = self.store.snapshot().aside();
                if *self.sender.cursor() == Cursor::Start {
                    // Only what is kept behind it is found in the log.
                    self.beside.read_anew();
                }
                self.sender.snapshot(snapshot.sequence());
                self.snapshot = Some(snapshot);
                Ok(None)
            }
            Step::Forward { after, through } => {
                if !self.read_log(after, through)? {
                    return Ok(self.flush(false));
                }
                // Scripts that were kept there come before the position.
                if self.beside.is_first() {
                    return Ok(None);
                }
                Ok(self.flush(self.log.to == through && *self.sender.cursor() != Cursor::End))
            }
            Step::Chunk { as_of } => {
                let Some(snapshot) = self.snapshot.take() else { return Err(End::Over) };
                let (slots, cursor) = (&self.request.slots, self.sender.cursor().clone());
                let chunk = match storage::slots::chunk(&snapshot, slots, &cursor, CHUNK) {
                    Err(storage::Error::TooLarge { .. }) => return Ok(Some(self.give.too_long())),
                    chunk => chunk?,
                };
                let head = self.sender.copied(least(self.store, as_of), chunk.cursor);
                self.noted_sent();
                let frame = head.frame(&chunk.records);
                self.pace.leave(frame.len(), now_us());
                Ok(Some(frame))
            }
        }
    }

    /// Reads on in the log, up to `through`; false if there is nothing.
    fn read_log(&mut self, after: u64, through: u64) -> Result<bool, End> {
        let next = self.log.to.max(after) + 1;
        if next > through {
            return Ok(false);
        }
        let batches = match self.reader.read(next, CHUNK_BYTES)? {
            FeedRead::Batches(batches) => batches,
            FeedRead::UpToDate => return Ok(false),
            FeedRead::Gone => return Err(End::Gone),
        };
        let mut has_read = false;
        let records = self.log.records.get_or_insert_with(|| Writer::new(Vec::new()));
        for batch in batches.iter().take_while(|batch| batch.end() <= through + 1) {
            let (slots, below) = (&self.request.slots, self.sender.cursor());
            let kept = storage::slots::forward(&batch.data, slots, below, records)?;
            self.log.to = batch.end() - 1;
            self.beside.note_kept(kept, self.log.to);
            has_read = true;
            if records.len() >= CHUNK_BYTES {
                break;
            }
        }
        Ok(has_read)
    }

    /// What was read of the log, as a frame: at once if there are records of the slots, or if the
    /// taker is waited for.
    fn flush(&mut self, is_wanted: bool) -> Option<Vec<u8>> {
        if self.log.to <= self.sender.sent() {
            return None;
        }
        let has_records = self.log.records.as_ref().is_some_and(|records| !records.is_empty());
        let unsent = self.store.appended_bytes().saturating_sub(self.sent_at_bytes);
        let is_late = clock::boottime_ms().saturating_sub(self.sent_at_ms) >= IDLE_MS;
        let is_due = is_late || unsent >= IDLE_BYTES;
        let is_frozen = self.node.moves.is_holding();
        // A taker that is busy gets more at once.
        let bytes = self.log.records.as_ref().map_or(0, Writer::len);
        let is_full = self.in_flight < 2 || bytes >= CHUNK_BYTES / 4;
        if !(is_wanted || is_due || is_frozen || has_records && is_full) {
            return None;
        }
        let mut log = std::mem::take(&mut self.log);
        let head = self.sender.forwarded(least(self.store, log.to));
        self.noted_sent();
        let records = log.records.as_mut().filter(|records| !records.is_empty());
        let records = records.map(|records| std::mem::take(records.finish()));
        Some(head.frame(&records.unwrap_or_default()))
    }

    fn noted_sent(&mut self) {
        self.sent_at_ms = clock::boottime_ms();
        self.sent_at_bytes = self.store.appended_bytes();
        self.sent_bytes.push_back(self.sent_at_bytes);
    }
}
