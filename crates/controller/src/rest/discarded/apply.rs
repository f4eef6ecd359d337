//! Putting an export back through the present master.
//!
//! Each key's last state counts. The controller holds a share of the keys at a time in memory, up
//! to a bound: the export is read once for each share. What was begun goes on when whoever asked
//! for it hangs up, and the event log says that it began, and how far it got. Done again, it finds
//! what is so.

use std::sync::Arc;
use std::time::Duration;

use api::rest::{Actor, DiscardedApply, DiscardedExport, DiscardedOutcome};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;
use resp::Value;
use tokio::sync::Semaphore;

use super::fold::{Fold, Page};
use super::{Peer, latin, listed};
use crate::events::Event;
use crate::rest::error::{ApiError, ok};
use crate::rest::{App, body, find};

/// Longest time a master may take to put keys back: it looks through its log first.
const APPLY_PATIENCE: Duration = Duration::from_secs(60);
/// Longest time a node may take to tell a page of records: of a large value it has to read the
/// whole line.
const RECORDS_PATIENCE: Duration = Duration::from_secs(60);
/// Largest value that nodes tell, and what a page may have besides.
const PAGE_BYTES_MAX: usize = (64 + 16) << 20;
/// Keys and values that are put back by one request.
const APPLY_BYTES: usize = 4 << 20;
/// And how many keys.
const APPLY_KEYS: usize = 4_096;
/// Keys and records held at once while an export is put back. The tail that an in-sync master may
/// have unacknowledged is far smaller. One key may be half of it.
const SHARE_BYTES_MAX: usize = 2 * super::fold::KEY_BYTES_MAX;
/// Most shares that an export is divided into: more are needed only if keys are made to fall into
/// one.
const SHARES_MAX: u64 = 1 << 20;
/// Keys named in an answer that are put back, or are so already.
const DONE_NAMED_MAX: usize = 100;
/// Keys named in an answer of each other outcome.
const LEFT_NAMED_MAX: usize = 10_000;
/// Bytes of all keys that are named in an answer.
const NAMED_BYTES_MAX: usize = 1 << 20;
/// Characters of a key that is named in an error.
const FIRST_CHARS: usize = 64;

/// Exports that this process puts back at once: a share of each is held in memory.
static APPLYING: Semaphore = Semaphore::const_new(1);

pub(in crate::rest) async fn apply(
    registry: App,
    Extension(by): Extension<Actor>,
    Path((ns, name, id, file)): Path<(String, String, String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let spec: DiscardedApply = body(&bytes)?;
    let record = cluster.record();
    let holder = Peer::find(&registry, &record, &id)?;
    let master = record.shards.get(holder.shard).and_then(planner::Shard::master);
    let master = master.ok_or_else(|| ApiError::failed("the shard has no master"))?;
    let master = Peer::new(&registry, &record, (holder.shard, master));
    let job = Job { holder, master, file, spec };
    let label = cluster.label();
    let (cluster, registry) = (label.clone(), Arc::clone(&registry.0));
    let work = async move {
        if job.spec.confirm {
            let (holder, master) = (&job.holder.endpoint, &job.master.endpoint);
            let file = &job.file;
            let text =
                format!("discarded writes of {holder} ({file}) are put back through {master}");
            registry.write_down(&by, label, text).await?;
        }
        let note = move |text: String| {
            tracing::info!(%cluster, "{text}");
            let term = registry.shared.store.term();
            let event = Event::asked(&by, term, cluster.clone(), text);
            // What is of the history is never only counted.
            let _ = registry.shared.journal.add(event);
        };
        job.run(Arc::new(note)).await
    };
    Ok(ok(alone(&APPLYING, work).await?))
}

/// Runs the work if nobody else does such, and to its end also when whoever waits for it is gone.
async fn alone<T: Send + 'static>(
    places: &'static Semaphore,
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    let permit = places.try_acquire().map_err(|_| {
        ApiError::conflict("this controller is putting back an export already; try again later")
    })?;
    let task = tokio::spawn(async move {
        let _permit = permit;
        work.await
    });
    task.await.unwrap_or_else(|error| Err(ApiError::failed(format!("put back: {error}"))))
}

/// What is to be put back, and where.
struct Job {
    /// The node with the export.
    holder: Peer,
    master: Peer,
    file: String,
    spec: DiscardedApply,
}

impl Job {
    /// `note`: writes an event.
    async fn run(
        &self,
        note: Arc<dyn Fn(String) + Send + Sync>,
    ) -> Result<DiscardedOutcome, ApiError> {
        let Self { holder, master, file, spec } = self;
        let exports = listed(holder).await.map_err(|error| holder.failed(&error))?;
        let export = exports.into_iter().find(|export| export.file == *file);
        let export = export.ok_or_else(|| ApiError::not_found("there is no such export"))?;
        let mut tally = Tally::default();
        let what = format!("discarded writes of {} ({file})", holder.endpoint);
        if spec.confirm {
            let records = export.records;
            let through = &master.endpoint;
            note(format!("{what}: {records} records are being put back through {through}"));
        }
        let done = self.put_all_back(&export, &mut tally).await;
        let mut outcome = tally.outcome;
        if spec.confirm {
            let counts = outcome.counts.iter().map(|(word, count)| format!("{count} {word}"));
            let counts = counts.collect::<Vec<_>>().join(", ");
            note(match &done {
                Ok(()) => format!("{what} put back through {}: {counts}", master.endpoint),
                // The keys of the request that failed are in no count: it may have put back some of
                // them.
                Err(error) => format!(
                    "{what} put back in part through {}: {error}; keys so far: {counts}",
                    master.endpoint
                ),
            });
        }
        done?;
        outcome.master = master.endpoint.to_string();
        outcome.done = spec.confirm;
        Ok(outcome)
    }

    async fn put_all_back(
        &self,
        export: &DiscardedExport,
        tally: &mut Tally,
    ) -> Result<(), ApiError> {
        // A file is as large as what it holds, at least.
        let of = export.bytes / (SHARE_BYTES_MAX as u64 / 2) + 1;
        let mut shares: Vec<(u64, u64)> = (0..of).rev().map(|part| (part, of)).collect();
        while let Some((part, of)) = shares.pop() {
            match self.fold(part, of).await? {
                Some((fold, skip)) => {
                    self.put_share_back(export, (fold, skip, part == 0), tally).await?;
                }
                None if of < SHARES_MAX => shares.extend([(part + of, 2 * of), (part, 2 * of)]),
                None => return Err(ApiError::failed("the keys of the export fall into one share")),
            }
        }
        Ok(())
    }

    /// The last states of a share of the keys, and how many bytes stand before their names; `None`
    /// if they are too much to be held.
    async fn fold(&self, part: u64, of: u64) -> Result<Option<(Fold, usize)>, ApiError> {
        let Self { holder, file, .. } = self;
        let (part, of) = (part.to_string(), of.to_string());
        let (mut fold, mut offset) = (Fold::default(), 0);
        loop {
            let at = u64::to_string(&offset);
            let words: [&[u8]; 7] = [
                b"CLUSTERX",
                b"DISCARDED",
                b"RECORDS",
                file.as_bytes(),
                at.as_bytes(),
                part.as_bytes(),
                of.as_bytes(),
            ];
            let value = holder.ask_much(&words, RECORDS_PATIENCE, PAGE_BYTES_MAX).await;
            let value = value.map_err(|error| holder.failed(&error))?;
            let Page { next, skip, records } = Page::read(value).ok_or_else(|| unread(holder))?;
            records.into_iter().for_each(|record| fold.take(record));
            if fold.bytes() > SHARE_BYTES_MAX {
                return Ok(None);
            }
            match next {
                Some(next) if next > offset => offset = next,
                _ => return Ok(Some((fold, skip))),
            }
        }
    }

    async fn put_share_back(
        &self,
        export: &DiscardedExport,
        (fold, skip, is_first): (Fold, usize, bool),
        tally: &mut Tally,
    ) -> Result<(), ApiError> {
        // What is of no key is told in each share.
        for word in fold.nameless.iter().filter(|_| is_first) {
            tally.count(word, b"");
        }
        let (mut batch, mut size) = (Vec::new(), 0);
        let has_copies = fold.has_copies;
        for (on_disk, key) in fold.keys {
            let name = on_disk.get(skip..).unwrap_or_default().to_vec();
            if let Some(word) = key.refused() {
                // Of another namespace it is all that is known.
                tally.count(word, if word == "unsupported" { &on_disk } else { &name });
                continue;
            }
            size += name.len() + key.bytes();
            batch.push((name, key.words(has_copies)));
            if size >= APPLY_BYTES || batch.len() >= APPLY_KEYS {
                self.put_back(export, std::mem::take(&mut batch), tally).await?;
                size = 0;
            }
        }
        if batch.is_empty() { Ok(()) } else { self.put_back(export, batch, tally).await }
    }

    async fn put_back(
        &self,
        export: &DiscardedExport,
        batch: Vec<(Vec<u8>, [Vec<u8>; 2])>,
        tally: &mut Tally,
    ) -> Result<(), ApiError> {
        let Self { master, spec, .. } = self;
        let fork = export.fork.to_string();
        let mode: &[u8] = if spec.confirm { b"RUN" } else { b"DRY" };
        let rule: &[u8] = if spec.only_absent { b"ABSENT" } else { b"SINCE" };
        let mut words: Vec<&[u8]> = vec![b"CLUSTERX", b"DISCARDED", b"RESTORE"];
        words.extend([fork.as_bytes(), export.epoch_id.as_bytes(), mode, rule]);
        for (name, [endless, records]) in &batch {
            words.extend([name.as_slice(), endless, records]);
        }
        let value = master.ask(&words, APPLY_PATIENCE).await;
        let value = value.map_err(|error| {
            let (failed, count) = (master.failed(&error), batch.len());
            let first = batch.first().map_or_else(String::new, |(name, _)| latin(name));
            let first: String = first.chars().take(FIRST_CHARS).collect();
            ApiError::bad(format!("{failed} (of {count} keys, of which {first:?} is the first)"))
        })?;
        let Value::Array(answers) = value else { return Err(unread(master)) };
        if answers.len() != batch.len() {
            return Err(unread(master));
        }
        for ((name, _), answer) in batch.iter().zip(&answers) {
            tally.count(answer.as_str().unwrap_or("unknown"), name);
        }
        Ok(())
    }
}

fn unread(peer: &Peer) -> ApiError {
    ApiError::failed(format!("node {}: its answer cannot be read", peer.endpoint))
}

/// What is answered, and how much of it is names.
#[derive(Default)]
struct Tally {
    outcome: DiscardedOutcome,
    named_bytes: usize,
}

impl Tally {
    fn count(&mut self, word: &str, key: &[u8]) {
        let outcome = &mut self.outcome;
        *outcome.counts.entry(word.to_owned()).or_default() += 1;
        let named = outcome.keys.entry(word.to_owned()).or_default();
        let max = match word {
            "applied" | "same" => DONE_NAMED_MAX,
            _ => LEFT_NAMED_MAX,
        };
        if named.len() < max && self.named_bytes + key.len() <= NAMED_BYTES_MAX {
            self.named_bytes += key.len();
            named.push(latin(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use parking_lot::Mutex;
    use resp::{Protocol, Writer};

    use super::super::tests::node;
    use super::*;

    /// A node with an export of more keys than one request takes, which as master takes so many
    /// requests.
    async fn job(
        local: &tokio::task::LocalSet,
        (requests, confirm): (usize, bool),
        bytes: u64,
    ) -> Job {
        const KEYS: usize = APPLY_KEYS + 10;
        let left = Rc::new(Cell::new(requests));
        let answer = async move |words: &[Vec<u8>], out: &mut Vec<u8>| {
            let mut reply = Writer::new(out, Protocol::V2);
            match words.get(2).map(Vec::as_slice) {
                Some(b"LIST") => {
                    let line = format!("1-7.jsonl {bytes} 7 1 9 1 0000000000000001\r\n");
                    reply.bulk(line.as_bytes());
                }
                Some(b"RECORDS") => {
                    let number = |place: usize| {
                        let text = String::from_utf8_lossy(&words[place]).into_owned();
                        text.parse::<usize>().expect("a number")
                    };
                    let (part, of) = (number(5), number(6));
                    let mine: Vec<usize> = (0..KEYS).filter(|key| key % of == part).collect();
                    reply.array(2 + 5 * (mine.len() + 1));
                    reply.integer(-1);
                    reply.integer(2);
                    for number in mine {
                        let key = format!("ns{number:06}");
                        let place = b"\x01\0\0\0\0\0\0\0\0";
                        for word in [&b"put"[..], key.as_bytes(), place, b"value", b"1"] {
                            reply.bulk(word);
                        }
                    }
                    // Told in each share, and counted once.
                    for word in ["range", "nsx", "nsy", "", "0"] {
                        reply.bulk(word.as_bytes());
                    }
                }
                Some(b"RESTORE") if left.get() > 0 => {
                    left.set(left.get() - 1);
                    let keys = (words.len() - 7) / 3;
                    reply.array(keys);
                    (0..keys).for_each(|_| reply.bulk(b"applied"));
                }
                _ => reply.error("TRYAGAIN the role of this node is changing"),
            }
        };
        let holder = node(answer, local).await;
        let spec = DiscardedApply { confirm, only_absent: false };
        Job { master: holder.clone(), holder, file: "1-7.jsonl".to_owned(), spec }
    }

    async fn run(
        requests: usize,
        confirm: bool,
    ) -> (Result<DiscardedOutcome, ApiError>, Vec<String>) {
        run_of(requests, confirm, 100).await
    }

    /// Of an export of so many bytes.
    async fn run_of(
        requests: usize,
        confirm: bool,
        bytes: u64,
    ) -> (Result<DiscardedOutcome, ApiError>, Vec<String>) {
        let local = tokio::task::LocalSet::new();
        let notes = Arc::new(Mutex::new(Vec::new()));
        let done = local
            .run_until(async {
                let job = job(&local, (requests, confirm), bytes).await;
                let notes = Arc::clone(&notes);
                job.run(Arc::new(move |text| notes.lock().push(text))).await
            })
            .await;
        let notes = notes.lock().clone();
        (done, notes)
    }

    #[tokio::test]
    async fn what_is_put_back_is_noted_before_and_after() {
        let (done, notes) = run(2, true).await;
        let counts = done.expect("done").counts;
        assert_eq!(counts, [("applied".into(), 4_106), ("unsupported".into(), 1)].into());
        let [begin, end] = notes.as_slice() else { panic!("{notes:?}") };
        assert!(begin.contains("2 records are being put back"), "{begin}");
        assert!(end.contains("4106 applied, 1 unsupported"), "{end}");
        let (done, notes) = run(2, false).await;
        assert!(done.is_ok_and(|outcome| !outcome.done) && notes.is_empty());
    }

    #[tokio::test]
    async fn a_large_export_is_put_back_in_shares() {
        let (done, notes) = run_of(100, true, 10 * SHARE_BYTES_MAX as u64).await;
        let counts = done.expect("done").counts;
        assert_eq!(counts, [("applied".into(), 4_106), ("unsupported".into(), 1)].into());
        assert_eq!(notes.len(), 2);
    }

    #[test]
    fn keys_that_are_left_as_they_are_are_named_up_to_a_bound() {
        let mut tally = Tally::default();
        for number in 0..LEFT_NAMED_MAX + 5 {
            tally.count("changed", number.to_string().as_bytes());
            tally.count("applied", b"k");
        }
        tally.count("large", &vec![0; NAMED_BYTES_MAX]);
        let DiscardedOutcome { counts, keys, .. } = tally.outcome;
        let named = ["changed", "applied", "large"].map(|word| keys[word].len());
        assert_eq!(named, [LEFT_NAMED_MAX, DONE_NAMED_MAX, 0]);
        assert_eq!((counts["changed"], counts["large"]), (LEFT_NAMED_MAX as u64 + 5, 1));
    }

    #[tokio::test]
    async fn one_at_a_time_runs_to_its_end_also_when_nobody_waits_for_it() {
        static PLACES: Semaphore = Semaphore::const_new(1);
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let (told, done) = tokio::sync::oneshot::channel();
        let work = async move {
            gone.await.expect("the test goes on");
            told.send(()).map_err(|()| ApiError::failed("nobody looks"))
        };
        // The client hangs up after the first poll.
        tokio::select! {
            biased;
            _ = alone(&PLACES, work) => panic!("it waits"),
            () = std::future::ready(()) => {}
        }
        let second = alone(&PLACES, async { Ok(()) }).await;
        assert!(second.is_err_and(|error| error.to_string().contains("already")));
        go.send(()).expect("it is still there");
        done.await.expect("it came to its end");
        let _free = PLACES.acquire().await.expect("the place is free again");
    }

    #[tokio::test]
    async fn what_was_put_back_before_a_failure_is_noted() {
        let (done, notes) = run(1, true).await;
        assert!(done.is_err_and(|error| error.to_string().contains("TRYAGAIN")));
        let [_, end] = notes.as_slice() else { panic!("{notes:?}") };
        assert!(end.contains("in part") && end.contains("TRYAGAIN"), "{end}");
        assert!(end.contains("keys so far: 4096 applied"), "{end}");
        assert!(end.contains("(of 10 keys, of which \"004096\" is the first)"), "{end}");
    }
}
