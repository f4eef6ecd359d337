//! The taker's stream: pulls a copy from the giver, and appends it as records of its own log.
//!
//! Invariant: each frame is appended with the mark that says how far the copy is, in one batch, and
//! only if it fits the mark that is there; so a failover, a rewind and a restart find what is
//! staged and how far it goes as one thing (rule M8).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::replication::slots::copy::{self, FRAME_HEAD_BYTES, Head, encode_place};
use ::replication::slots::marks::CURSOR_BYTES_MAX;
use ::replication::slots::{Cursor, MoveId, Slots, State};
use api::moves::Brake;
use resp::value::encode_command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use topology::{Endpoint, NodeId, Viewer};

use super::beside::{self, Thing};
use super::guest::Paced;
use super::look::{self, master};
use super::pace::{Pace, now_us};
use super::state::{Source, Take};
use crate::clock;
use crate::node::Node;
use crate::stream::Stream;
use crate::threads::{block_on, spawn, surviving};

/// A stream that the giver says it does not have, and that has brought nothing for so long, is
/// begun anew.
const PROGRESS_MS: u64 = 2_000;
/// A copy that could not go on is tried again so long after its last progress: it would be the same
/// until a person has mended it.
const LONG_MS: u64 = 5_000;
/// Longest wait for a connection and its greeting.
const GREETING: Duration = Duration::from_millis(2_000);
/// Longest line of a greeting.
const LINE_BYTES_MAX: usize = 1024;
/// Between two looks at what the in-sync set has.
const LOOK: Duration = Duration::from_millis(1);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("the giver refuses: {0}")]
    Refused(String),
    #[error("no answer of the giver")]
    Silent,
    #[error("a frame that is none: {0}")]
    Malformed(&'static str),
    #[error("append what came: {0}")]
    Storage(#[from] storage::Error),
    #[error("{0}")]
    Misfit(#[from] copy::Misfit),
    #[error("another stream, another grant, or the move is over")]
    Over,
    #[error("the topology has no such node")]
    Unknown,
    #[error("what came beside the copy: {0}")]
    Beside(#[from] beside::Refusal),
}

struct Job {
    node: Arc<Node>,
    id: MoveId,
    slots: Slots,
    /// The grant it takes under.
    granted: u64,
    take: Arc<Take>,
    /// The node ends.
    stop: watch::Receiver<bool>,
}

/// Pulls from that process, unless that is under way.
pub fn pull(node: &Arc<Node>, id: MoveId, slots: &Slots, source: Source) {
    let Some(granted) = node.grants.granted_epoch() else { return };
    let now = clock::boottime_ms();
    let take = {
        let mut takes = node.moves.takes.lock();
        takes.retain(|known, take| *known == id || !take.is_over.load(Ordering::SeqCst));
        let before = takes.get(&id).cloned();
        if let Some(known) = &before {
            let age_ms = now.saturating_sub(known.progress_ms.load(Ordering::SeqCst));
            let is_over = known.is_over.load(Ordering::SeqCst);
            let is_this = known.source == source && known.slots == *slots;
            let waits_ms = match is_over {
                true if known.is_long.lock().is_some() => LONG_MS,
                true => 0,
                false => PROGRESS_MS,
            };
            if is_this && age_ms < waits_ms {
                return;
            }
            known.is_over.store(true, Ordering::SeqCst);
        }
        let before = before.filter(|known| known.slots == *slots);
        let take = Arc::new(Take::new(slots.clone(), source, before.as_deref(), now));
        takes.insert(id, Arc::clone(&take));
        take
    };
    let (stop, slots) = (node.shutdown(), slots.clone());
    let job = Job { node: Arc::clone(node), id, slots, granted, take, stop };
    spawn("move-take", move || {
        block_on(async move {
            match surviving(job.run()).await {
                Ok(Ok(())) => {}
                Ok(Err(end)) => tracing::info!(id = %job.id, %end, "pull of a slot move ended"),
                Err(panic) => {
                    tracing::error!(id = %job.id, panic, "a pull of a slot move panicked")
                }
            }
            job.take.is_over.store(true, Ordering::SeqCst);
        });
    });
}

/// Ends the stream of a move, if there is one: what has come stays.
pub fn rest(node: &Node, id: MoveId) {
    if let Some(take) = node.moves.takes.lock().get(&id) {
        take.is_over.store(true, Ordering::SeqCst);
    }
}

impl Job {
    async fn run(&self) -> Result<(), End> {
        let mut stream =
            tokio::time::timeout(GREETING, self.open()).await.unwrap_or(Err(End::Silent))?;
        let mut pace = Pace::default();
        loop {
            let (head, records) = self.receive(&mut stream).await?;
            let things = beside::parse(&records).transpose();
            let things = things.map_err(|_| End::Malformed("what came beside the copy"))?;
            let appended = loop {
                let appended = match &things {
                    Some(things) => {
                        let adopted = self.adopt(&head, things);
                        adopted.map(|done| done.map(|sequence| (sequence, false)))
                    }
                    None => self.append(&head, &records),
                };
                if let Some(appended) = appended? {
                    break appended;
                }
                let is_paused = self.node.clients.paused(clock::boottime_ns).is_some();
                self.waits(is_paused.then_some(Brake::Paused))?;
                tokio::time::sleep(LOOK).await;
            };
            let (sequence, is_of_copy) = appended;
            if is_of_copy {
                pace.leave_in_part(records.len(), now_us());
            }
            let is_more_to_come = is_of_copy && head.cursor != Cursor::End;
            self.settle(sequence, (is_of_copy, is_more_to_come), &mut pace).await?;
            self.progress();
            stream.write_all(b"+").await?;
        }
    }

    /// Until the set here has what was appended, and more may come: so no more than one frame of a
    /// guest's data is ever unacknowledged, and clients' writes wait behind no more than that. The
    /// disk may hold it up as well, and what clients wait, the database and its `max-db-size` hold
    /// up a part of the copy (rule M16): what others write meanwhile is not put off, or it would be
    /// more in the end.
    async fn settle(
        &self,
        sequence: u64,
        (is_of_copy, is_more_to_come): (bool, bool),
        pace: &mut Pace,
    ) -> Result<(), End> {
        let commit = &self.node.grants.commit;
        loop {
            if !commit.has(sequence) {
                self.waits(None)?;
                commit.reached_within(sequence, LOOK).await;
                continue;
            }
            let brake = self.brake(pace, is_more_to_come)?;
            if brake.is_none() && (!is_of_copy || pace.is_paid(now_us())) {
                return Ok(());
            }
            self.waits(brake)?;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What holds the copy up here altogether; else how fast it may go is in `pace`.
    fn brake(&self, pace: &mut Pace, is_more_to_come: bool) -> Result<Option<Brake>, End> {
        let most = self.take.source.rate.unwrap_or_else(|| look::usual_rate(&self.node));
        // What RocksDB is asked for may wait, and the gate is not held meanwhile.
        let store = {
            let engine = self.node.engine();
            master(&self.node, &engine).ok_or(End::Over)?.0.clone()
        };
        let paced = look::pace(&self.node, &store, most);
        pace.set(paced.bytes_per_s);
        *self.take.paced.lock() = paced;
        Ok(self.lacks_room(is_more_to_come).then_some(Brake::Room))
    }

    /// It has to wait for something here: that is no silence of the giver.
    fn waits(&self, brake: Option<Brake>) -> Result<(), End> {
        self.look()?;
        self.progress();
        if let Some(brake) = brake {
            *self.take.paced.lock() = Paced { bytes_per_s: 0, brake: Some(brake) };
        }
        Ok(())
    }

    fn progress(&self) {
        self.take.progress_ms.store(clock::boottime_ms(), Ordering::SeqCst);
    }

    /// Dials the giver, and asks for what is not here yet.
    async fn open(&self) -> Result<Stream, End> {
        let Source { node: giver, nonce, epoch, rate } = &self.take.source;
        let mut stream = self.node.way_to(&self.giver(giver)?)?.dial().await?;
        let config = self.node.config.now();
        if let Some(secret) = config.link_secret() {
            stream.write_all(&encode_command(&["AUTH", secret])).await?;
            line(&mut stream).await?;
        }
        let place = {
            let engine = self.node.engine();
            let (store, _) = master(&self.node, &engine).ok_or(End::Over)?;
            let marks = store.marks().ok_or(End::Over)?;
            let mark = marks.table().of(self.id).filter(|mark| mark.slots == self.slots);
            let State::Staged { at, cursor } = &mark.ok_or(End::Over)?.state else {
                return Err(End::Over);
            };
            encode_place(*at, cursor)
        };
        let (id, slots, epoch) = (self.id.to_string(), self.slots.to_string(), epoch.to_string());
        let rate = rate.map(|rate| rate.to_string());
        let words: [&[u8]; 8] = [
            b"CLUSTERX",
            b"MOVE",
            b"PULL",
            id.as_bytes(),
            slots.as_bytes(),
            nonce.as_bytes(),
            epoch.as_bytes(),
            &place,
        ];
        let rate = rate.as_deref().map(str::as_bytes);
        let words: Vec<&[u8]> = words.into_iter().chain(rate).collect();
        stream.write_all(&encode_command(&words)).await?;
        if line(&mut stream).await? == beside::GREETING {
            stream.write_all(&[beside::WANTED]).await?;
        }
        Ok(stream)
    }

    fn giver(&self, id: &str) -> Result<Endpoint, End> {
        let cluster = self.node.cluster.load();
        let topology = cluster.topology().map_err(|_| End::Unknown)?;
        let id = NodeId::new(id.as_bytes()).ok_or(End::Unknown)?;
        let giver = topology.node(&id).ok_or(End::Unknown)?;
        Ok(giver.endpoint(Viewer::Peer).clone())
    }

    /// One frame. What a peer may make this node hold is bounded by the largest batch.
    async fn receive(&self, stream: &mut Stream) -> Result<(Head, Vec<u8>), End> {
        let mut start = [0; FRAME_HEAD_BYTES];
        self.fill(stream, &mut start).await?;
        let number = |bytes: &[u8]| bytes.try_into().map(u32::from_be_bytes).unwrap_or_default();
        let (length, sum) = (number(&start[..4]) as usize, number(&start[4..]));
        let max = {
            let engine = self.node.engine();
            let (store, _) = master(&self.node, &engine).ok_or(End::Over)?;
            store.batch_bytes_max().saturating_add(CURSOR_BYTES_MAX)
        };
        if length > max {
            self.is_too_long(max);
            return Err(End::Malformed("longer than a batch may be"));
        }
        // Grows as bytes come: a length alone reserves little.
        let mut body = Vec::new();
        while body.len() < length {
            let from = body.len();
            body.resize(length.min(from + (1 << 20)), 0);
            self.fill(stream, &mut body[from..]).await?;
        }
        let (head, records) =
            Head::parse(sum, &body).map_err(|_| End::Malformed("its sum or its head is wrong"))?;
        let records = records.to_vec();
        Ok((head, records))
    }

    /// Reads as many bytes, and looks now and then whether this stream is still wanted.
    async fn fill(&self, stream: &mut Stream, mut to: &mut [u8]) -> Result<(), End> {
        while !to.is_empty() {
            self.look()?;
            let limit = Duration::from_millis(100);
            let Ok(read) = tokio::time::timeout(limit, stream.read(to)).await else { continue };
            match read? {
                0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                read => to = to.split_at_mut(read).1,
            }
            // A frame may be long on its way: one that comes is not to be begun anew.
            self.progress();
        }
        Ok(())
    }

    /// A person is to know: it would be the same each time.
    fn is_too_long(&self, max: usize) {
        let text = format!(
            "a part of the copy that is longer than the taker takes at once ({max} bytes, \
             `rocksdb.write_options.write_batch_max_bytes` and a sixteenth of `maxmemory`): larger \
             records, or keys with names above 1 MiB that begin alike"
        );
        *self.take.is_long.lock() = Some(text);
    }

    fn look(&self) -> Result<(), End> {
        let is_granted = self.node.grants.granted_epoch() == Some(self.granted);
        let is_over = self.take.is_over.load(Ordering::SeqCst) || *self.stop.borrow();
        match is_over || !is_granted {
            true => Err(End::Over),
            false => Ok(()),
        }
    }

    /// The disk has no room for what is others', or the database none for more of the copy (rule
    /// M16). A copy that is whole is not to wait for that: it would be behind for ever.
    fn lacks_room(&self, is_more_to_come: bool) -> bool {
        let room = *self.node.room.lock();
        let is_full = room.is_some_and(|room| !room.has_place_for_guests());
        is_full || (is_more_to_come && !self.node.has_size_for_guests(&self.node.config.now()))
    }

    /// Keeps what came beside the copy, if it fits where that is; the newest sequence of it. `None`
    /// while writes are paused, or while others write to any key.
    fn adopt(&self, head: &Head, things: &[Thing]) -> Result<Option<u64>, End> {
        let engine = self.node.engine();
        let (store, epoch) = master(&self.node, &engine).ok_or(End::Over)?;
        if epoch != self.granted {
            return Err(End::Over);
        }
        if self.node.clients.paused(clock::boottime_ns).is_some() {
            return Ok(None);
        }
        let marks = store.marks().ok_or(End::Over)?;
        copy::staged(marks.table().of(self.id).ok_or(End::Over)?, head)?;
        let adopted = beside::adopt(&self.node, store, things);
        if let Err(beside::Refusal::Clash(clash)) = &adopted {
            *self.take.clash.lock() = Some(clash.clone());
        }
        let adopted = adopted?;
        for thing in things.iter().filter(|_| adopted.is_some()) {
            if let Thing::Clock(giver_ms) = thing {
                self.take.clock_is(*giver_ms, clock::unix_ms());
                *self.take.clash.lock() = None;
            }
        }
        Ok(adopted)
    }

    /// Appends a frame under the gate; the sequence of its mark, and whether the copy is further
    /// with it. `None` while writes are paused: what a switchover waits for its successor to have
    /// does not grow (rule M16).
    fn append(&self, head: &Head, records: &[u8]) -> Result<Option<(u64, bool)>, End> {
        let engine = self.node.engine();
        let (store, epoch) = master(&self.node, &engine).ok_or(End::Over)?;
        if epoch != self.granted {
            return Err(End::Over);
        }
        if self.node.clients.paused(clock::boottime_ns).is_some() {
            return Ok(None);
        }
        // Orders and streams come one after the other: none of them drops the move meanwhile.
        let _held = self.node.moves.lock(epoch);
        self.look()?;
        let marks = store.marks().ok_or(End::Over)?;
        let mark = marks.table().of(self.id).filter(|mark| mark.slots == self.slots);
        let mark = mark.ok_or(End::Over)?;
        if marks.table().is_newer(self.id, &self.slots) {
            return Err(End::Over);
        }
        let State::Staged { cursor, .. } = &mark.state else { return Err(End::Over) };
        let staged = store.stage(&copy::staged(mark, head)?, records);
        if let Err(storage::Error::TooLarge { max, .. }) = staged {
            self.is_too_long(max);
        }
        let sequence = staged?;
        // Where the copy is whole it is a part of the log that was too long, and has come.
        let is_of_log = head.cursor == Cursor::End && !records.is_empty();
        let is_of_copy = *cursor != head.cursor;
        if is_of_copy || is_of_log {
            *self.take.is_long.lock() = None;
        }
        self.take.copied.lock().took(&self.slots, (cursor, &head.cursor), records);
        store.publish()?;
        Ok(Some((sequence, is_of_copy)))
    }
}

/// One line of a greeting, which must be a positive one.
async fn line(stream: &mut Stream) -> Result<Vec<u8>, End> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        if line.len() > LINE_BYTES_MAX {
            return Err(End::Malformed("its greeting is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    match line.first() {
        Some(b'+') => Ok(line),
        _ => Err(End::Refused(String::from_utf8_lossy(&line).trim_end().to_owned())),
    }
}
