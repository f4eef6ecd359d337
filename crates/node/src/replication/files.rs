//! Sending a checkpoint: `_fetch_meta` and `_fetch_file`, each connection on a thread of its own.
//!
//! There is one checkpoint at a time, in `<dir>/checkpoint`. All replicas that copy share it, and
//! it is deleted when none is left. Names are plain file names by type (`FileName`), so nothing
//! outside that folder can be read.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use replication::files::{self, CheckpointId, FileHead, Wanted};
use replication::history::{Entry, is_grant_shown};
use replication::master::checkpoint::{Decision, Fitness};
use replication::{FileName, IN_SYNC, NO_GRANT};
use storage::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::folder::{CHECKPOINT, fits};
use crate::clock::{self, boottime_ms as now_ms};
use crate::durable::remove_folder_if_there;
use crate::info::process;
use crate::node::Node;
use crate::session::{Detached, ReplicaFacts};
use crate::stream::Stream;
use crate::threads::{block_on, spawn};

/// Read and sent at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// What a replica asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The file list.
    Meta,
    /// Files, of a checkpoint it names or (Kvrocks) of the one there is.
    Files {
        /// The checkpoint.
        checkpoint: Option<CheckpointId>,
        /// The files.
        wanted: Vec<Wanted>,
    },
}

/// Why a transfer ended early.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("{action} {name}: {cause}")]
    File {
        action: &'static str,
        name: FileName,
        #[source]
        cause: std::io::Error,
    },
    #[error("make a checkpoint: {0}")]
    Storage(#[from] storage::Error),
    #[error("read the checkpoint's folder: {0}")]
    Folder(std::io::Error),
    #[error("make a checkpoint: it copies {copied} bytes, and {free} are free on the disk")]
    NoRoom { copied: u64, free: u64 },
    #[error("the replica takes nothing for {0} ms")]
    Stalled(u32),
    #[error("the checkpoint is no longer there")]
    Gone,
    #[error("{0} is shorter than where the replica wants to go on")]
    Shrunk(FileName),
    #[error("the connection was ended by an administrator")]
    Killed,
}

/// Answers on a thread of its own, then closes the connection, as Kvrocks does.
pub fn serve(detached: Detached, request: Request) {
    spawn("repl-files", move || {
        block_on(
            detached
                .attended("transfer of files", async move |detached| run(detached, request).await),
        )
    });
}

async fn run(detached: Detached, request: Request) {
    let Detached { stream, client, node, facts, .. } = detached;
    client.is_replica.store(true, Ordering::Relaxed);
    let result = match stream.arrive() {
        Ok(stream) => {
            let mut sending = Sending { node: Arc::clone(&node), stream, facts };
            tokio::select! {
                result = sending.answer(request) => result,
                () = client.killed() => Err(End::Killed),
            }
        }
        Err(error) => Err(End::Io(error)),
    };
    if let Err(error) = result {
        tracing::warn!(conn = client.id, replica = %client.address, %error, "file transfer ended early");
    }
}

/// A connection copies files of a checkpoint for as long as this lives: it may be killed within, or
/// end in a panic, and nobody else lets go for it.
struct Using {
    node: Arc<Node>,
    id: CheckpointId,
}

impl Drop for Using {
    fn drop(&mut self) {
        self.node.replication.shelf.lock().end(&self.id, now_ms());
    }
}

struct Sending {
    node: Arc<Node>,
    stream: Stream,
    facts: ReplicaFacts,
}

impl Sending {
    async fn answer(&mut self, request: Request) -> Result<(), End> {
        match request {
            Request::Meta => self.meta().await,
            Request::Files { checkpoint, wanted } => {
                let begun = self.node.replication.shelf.lock().begin(checkpoint.as_ref(), now_ms());
                let Some(id) = begun else {
                    // Kvrocks only closes; its replicas would take a text for a size.
                    return if self.facts.is_holdfast {
                        self.send(b"-ERR checkpoint is gone\r\n").await
                    } else {
                        Err(End::Gone)
                    };
                };
                let using = Using { node: Arc::clone(&self.node), id };
                self.files(&using.id, &wanted).await
            }
        }?;
        self.hang_up().await
    }

    /// Ends the sending direction and waits for the replica to close: a reset could overtake the
    /// last bytes.
    async fn hang_up(&mut self) -> Result<(), End> {
        let mut rest = [0; 512];
        let drained = async {
            // Over TLS it sends something, which a replica that has stopped does not take.
            if self.stream.shutdown().await.is_ok() {
                while self.stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
            }
        };
        // A replica that does not close within this time is cut off.
        let _ = tokio::time::timeout(Duration::from_secs(2), drained).await;
        Ok(())
    }

    async fn meta(&mut self) -> Result<(), End> {
        if let Some(text) = self.refusal() {
            tracing::info!(reason = text, "full sync refused");
            return self.send(format!("-{text}\r\n").as_bytes()).await;
        }
        let (id, sequence) = match checkpoint(&self.node) {
            Ok(Some(found)) => found,
            Ok(None) => return self.send(files::NO_CHECKPOINT).await,
            Err(error) => {
                self.send(files::NO_CHECKPOINT).await?;
                return Err(error);
            }
        };
        // The role changed since the replica was told who wrote the data here: it would keep what
        // it was told beside a copy of newer data, find that the two do not fit, and copy once
        // more.
        let compared_with = self.facts.compared_with;
        if compared_with.is_some_and(|generation| generation != self.node.engine().generation) {
            tracing::info!(
                "full sync put off: the role changed since the replica compared its data"
            );
            return self.send(files::NO_CHECKPOINT).await;
        }
        self.node.stats.sync_full.fetch_add(1, Ordering::Relaxed);
        let listed = list(&self.node).map_err(End::Folder)?;
        tracing::info!(
            checkpoint = id.as_str(),
            sequence,
            files = listed.len(),
            "full sync: sending the file list"
        );
        let text = if self.facts.is_holdfast {
            files::list(&id, sequence, &listed)
        } else {
            files::plain_list(&listed.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        };
        self.send(&text).await
    }

    /// Why the data of this replica, as far as it said what it is, must not be replaced by what is
    /// here.
    fn refusal(&self) -> Option<String> {
        let newest = self.facts.position.as_ref().and_then(|position| position.history.newest());
        let history = self.node.engine().store.as_ref().map(Store::history).unwrap_or_default();
        let granted = self.node.grants.granted_epoch();
        if newest.is_some_and(|newest| !is_grant_shown(newest, &history, granted)) {
            return Some(no_grant(newest));
        }
        let is_counted = self.facts.member.is_some_and(|member| self.node.grants.counts(member));
        is_counted.then(|| {
            format!(
                "{IN_SYNC} this data is in the in-sync set: it must not be replaced before the controller has a set without it"
            )
        })
    }

    async fn files(&mut self, id: &CheckpointId, wanted: &[Wanted]) -> Result<(), End> {
        for file in wanted {
            self.file(id, file).await?;
        }
        Ok(())
    }

    async fn file(&mut self, id: &CheckpointId, wanted: &Wanted) -> Result<(), End> {
        let fail = |action| {
            let name = wanted.name.clone();
            move |cause| End::File { action, name, cause }
        };
        let path = folder(&self.node).join(wanted.name.as_str());
        let mut file = fs::File::open(path).map_err(fail("open"))?;
        let size = file.metadata().map_err(fail("look at"))?.len();
        let head = FileHead { size, offset: wanted.offset };
        if wanted.offset > size {
            return Err(End::Shrunk(wanted.name.clone()));
        }
        let text = if self.facts.is_holdfast { head.text() } else { FileHead::plain(size) };
        self.send(&text).await?;
        // What the replica has already counts for the checksum too.
        let mut crc32c = 0;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut at = if self.facts.is_holdfast { 0 } else { wanted.offset };
        file.seek(SeekFrom::Start(at)).map_err(fail("read"))?;
        while at < size {
            let boundary = if at < wanted.offset { wanted.offset } else { size };
            let length =
                usize::try_from(boundary - at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            let bytes = &mut chunk[..length];
            file.read_exact(bytes).map_err(fail("read"))?;
            if self.facts.is_holdfast {
                crc32c = crc32c::crc32c_append(crc32c, bytes);
            }
            if at >= wanted.offset {
                // Rule R13: nothing of a history that is over may leave.
                if !self.node.replication.shelf.lock().is_valid(id) {
                    return Err(End::Gone);
                }
                self.pace(length).await;
                self.send(&chunk[..length]).await?;
            }
            at += length as u64;
        }
        if self.facts.is_holdfast { self.send(&files::trailer(crc32c)).await } else { Ok(()) }
    }

    async fn pace(&self, bytes: usize) {
        let limit = mb_per_second(&self.node);
        let delay = self.node.replication.pacer.delay(bytes, limit, clock::boottime_ns());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        let patience_ms = self.node.config.now().replication_send_timeout_ms;
        let patience = Duration::from_millis(u64::from(patience_ms));
        tokio::time::timeout(patience, self.stream.write_all(bytes))
            .await
            .map_err(|_| End::Stalled(patience_ms))??;
        Ok(())
    }
}

/// The answer to a replica whose data is of an epoch that this node shows no grant of.
pub fn no_grant(newest: Option<&Entry>) -> String {
    let epoch = newest.map_or(0, |newest| newest.epoch);
    format!(
        "{NO_GRANT} this node holds no grant of epoch {epoch} or a later one, and does not have that epoch"
    )
}

fn folder(node: &Node) -> PathBuf {
    node.path(CHECKPOINT)
}

/// The files of the checkpoint with their sizes.
fn list(node: &Node) -> std::io::Result<Vec<(FileName, u64)>> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(folder(node))? {
        let entry = entry?;
        // RocksDB makes no other names.
        if let Ok(name) = FileName::parse(entry.file_name().as_encoded_bytes()) {
            listed.push((name, entry.metadata()?.len()));
        }
    }
    Ok(listed)
}

/// The checkpoint to copy, made if need be; `None` while the present one can be neither given nor
/// replaced, or there is no data to give.
fn checkpoint(node: &Arc<Node>) -> Result<Option<(CheckpointId, u64)>, End> {
    let replication = &node.replication;
    let _one_at_a_time = replication.making.lock();
    let (store, generation) = {
        let engine = node.engine();
        match (&engine.store, node.resync.is_required()) {
            (Some(store), false) => (store.clone(), engine.generation),
            _ => return Ok(None),
        }
    };
    let wal_ttl_ms = u64::from(node.config.now().rocksdb_wal_ttl_seconds) * 1000;
    let known = replication.shelf.lock().sequence();
    let wal_from = match known {
        Some(sequence) if !storage::starts_batch(&store, sequence + 1)? => u64::MAX,
        _ => 0,
    };
    let epoch = store.history().newest().map(|entry| entry.id);
    let decision = replication.shelf.lock().ask(Fitness { epoch, wal_from, wal_ttl_ms }, now_ms());
    match decision {
        Decision::Reuse { id, sequence } => Ok(Some((id, sequence))),
        Decision::Busy => Ok(None),
        Decision::Create { .. } => make(node, &store, generation).map(Some),
    }
}

fn make(node: &Arc<Node>, store: &Store, generation: u64) -> Result<(CheckpointId, u64), End> {
    let path = folder(node);
    remove_folder_if_there(&path).map_err(End::Folder)?;
    let free = process::disk(&node.dir).map_or(u64::MAX, |disk| disk.free);
    has_room(&node.db_path(), free)?;
    // Before the checkpoint: one that has a newer epoch than it is known by is only made again.
    let epoch = store.history().newest().map(|entry| entry.id);
    let sequence = store.checkpoint(&path)?;
    let id = CheckpointId::in_epoch(epoch, rand::random());
    let engine = node.engine();
    let is_current = engine.generation == generation;
    if is_current {
        // Under the gate: a change of role that follows invalidates it. So does an epoch.
        node.replication.shelf.lock().made(id.clone(), epoch, sequence, now_ms());
    }
    drop(engine);
    if !is_current {
        // Nobody knows of it, and it links every table of this moment.
        remove_folder_if_there(&path).map_err(End::Folder)?;
        return Err(End::Gone);
    }
    tracing::info!(checkpoint = id.as_str(), sequence, "checkpoint made");
    sweep(node);
    Ok((id, sequence))
}

/// A checkpoint links tables and logs that are closed, and copies what is still written to. Where
/// that filled the disk, the next write of this node would be its last.
fn has_room(db: &Path, free: u64) -> Result<(), End> {
    let (mut copied, mut newest_log) = (0_u64, (0_u64, 0_u64));
    for entry in fs::read_dir(db).map_err(End::Folder)? {
        let entry = entry.map_err(End::Folder)?;
        // One that was removed meanwhile takes nothing.
        let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        match name.strip_suffix(".log").and_then(|number| number.parse().ok()) {
            Some(number) => newest_log = newest_log.max((number, bytes)),
            None if name.starts_with("MANIFEST-") => copied = copied.saturating_add(bytes),
            None => {}
        }
    }
    let copied = copied.saturating_add(newest_log.1);
    if fits(copied, free) { Ok(()) } else { Err(End::NoRoom { copied, free }) }
}

/// A thread looks after the checkpoint for as long as this lives.
struct Sweeping(Arc<Node>);

impl Drop for Sweeping {
    fn drop(&mut self) {
        self.0.replication.is_sweeping.store(false, Ordering::SeqCst);
    }
}

/// Deletes the checkpoint once nobody needs it, from a thread that ends then. To be called now and
/// then besides: there may have been no thread or descriptor for that. Waits for nothing.
pub fn sweep(node: &Arc<Node>) {
    let replication = &node.replication;
    let is_empty = replication.checkpoint_at().is_none();
    if is_empty || replication.is_sweeping.swap(true, Ordering::SeqCst) {
        return;
    }
    let sweeping = Sweeping(Arc::clone(node));
    spawn("repl-sweep", move || block_on(sweep_until_empty(sweeping)));
}

async fn sweep_until_empty(sweeping: Sweeping) {
    let node = Arc::clone(&sweeping.0);
    let mut shutdown = node.shutdown();
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        let replication = &node.replication;
        let _one_at_a_time = replication.making.lock();
        if let Some(id) = replication.shelf.lock().expire(now_ms()) {
            match remove_folder_if_there(&folder(&node)) {
                Ok(()) => tracing::info!(checkpoint = id.as_str(), "checkpoint deleted"),
                Err(error) => tracing::warn!(%error, "cannot delete a checkpoint"),
            }
        }
        if replication.checkpoint_at().is_none() {
            // Before another one can be made, which wants a thread of its own then.
            drop(sweeping);
            return;
        }
    }
}

/// How fast all files together are sent, MB/s; 0: no limit.
pub(super) fn mb_per_second(node: &Node) -> u32 {
    node.config.now().max_replication_mb
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::tests::{Running, wait_until};

    #[test]
    fn a_checkpoint_is_not_begun_where_what_it_copies_has_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let mib = |count: u64| count << 20;
        for (name, size) in [
            // Closed, or a table: it is linked.
            ("000009.log", mib(4096)),
            ("000011.sst", mib(4096)),
            ("000012.log", mib(300)),
            ("MANIFEST-000004", mib(1)),
        ] {
            let file = fs::File::create(dir.path().join(name)).unwrap();
            file.set_len(size).unwrap();
        }
        assert!(has_room(dir.path(), mib(400)).is_ok());
        let refused = has_room(dir.path(), mib(310)).unwrap_err().to_string();
        assert!(refused.contains(&mib(301).to_string()), "{refused}");
    }

    #[test]
    fn a_checkpoint_that_comes_too_late_is_not_left_lying() {
        let running = Running::start_with(|_| {});
        let node = &running.node;
        let generation = node.engine().generation;
        let store = node.engine().store.clone().unwrap();
        assert!(matches!(make(node, &store, generation + 1), Err(End::Gone)));
        assert!(!folder(node).exists());
        assert!(make(node, &store, generation).is_ok());
        assert!(folder(node).exists());
    }

    /// It would keep its tables, and now the log behind it, until the next start.
    #[test]
    fn a_checkpoint_that_had_no_thread_to_look_after_it_gets_one_later() {
        let running = Running::start_with(|_| {});
        let node = &running.node;
        let generation = node.engine().generation;
        let store = node.engine().store.clone().unwrap();
        // As where the thread cannot be started: what it was to run is dropped.
        node.replication.is_sweeping.store(true, Ordering::SeqCst);
        assert!(make(node, &store, generation).is_ok());
        drop(Sweeping(Arc::clone(node)));
        node.replication.shelf.lock().invalidate();
        sweep(node);
        wait_until(|| match folder(node).exists() {
            true => Err("the checkpoint is there".to_owned()),
            false => Ok(()),
        });
        wait_until(|| match node.replication.is_sweeping.load(Ordering::SeqCst) {
            true => Err("it is looked after".to_owned()),
            false => Ok(()),
        });
        sweep(node);
        assert!(!node.replication.is_sweeping.load(Ordering::SeqCst), "there is nothing");
    }
}
