//! Putting an export back through the present master.
//!
//! The controller holds one export at a time in memory, up to a bound; each key's last state counts. What was begun goes on when whoever asked for it
//! hangs up, and the event log says that it began, and how far it got.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::rest::{Actor, DiscardedApply, DiscardedExport, DiscardedOutcome};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;
use resp::Value;
use tokio::sync::Semaphore;

use super::{Change, Peer, latin, listed, page};
use crate::events::Event;
use crate::rest::error::{ApiError, ok};
use crate::rest::{App, body, find};

/// Longest time a master may take to put keys back: it looks through its log first.
const APPLY_PATIENCE: Duration = Duration::from_secs(60);
/// Keys and values that are put back by one request.
const APPLY_BYTES: usize = 4 << 20;
/// And how many keys.
const APPLY_KEYS: usize = 4_096;
/// Keys and values held while an export is put back. The tail that an in-sync master may have unacknowledged is far
/// smaller.
const EXPORT_BYTES_MAX: usize = 256 << 20;
/// Keys named in an answer, of each outcome.
const NAMED_MAX: usize = 100;

/// Exports that this process puts back at once: each may be held in memory.
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
        let (changes, mut outcome) = last_states(holder, file).await?;
        let what = format!("discarded writes of {} ({file})", holder.endpoint);
        let keys = changes.len();
        if spec.confirm {
            note(format!("{what}: {keys} keys are being put back through {}", master.endpoint));
        }
        let done = self.put_all_back(&export, changes, &mut outcome).await;
        if spec.confirm {
            let counts = outcome.counts.iter().map(|(word, count)| format!("{count} {word}"));
            let counts = counts.collect::<Vec<_>>().join(", ");
            note(match &done {
                Ok(()) => format!("{what} put back through {}: {counts}", master.endpoint),
                // The keys of the request that failed are in no count: it may have put back some of them.
                Err(error) => format!(
                    "{what} put back in part through {}: {error}; of {keys} keys so far: {counts}",
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
        changes: Vec<Change>,
        outcome: &mut DiscardedOutcome,
    ) -> Result<(), ApiError> {
        let (mut batch, mut size) = (Vec::new(), 0);
        let mut changes = changes.into_iter().peekable();
        while let Some(change) = changes.next() {
            size += change.key.len() + change.value.len();
            batch.push(change);
            if changes.peek().is_none() || size >= APPLY_BYTES || batch.len() >= APPLY_KEYS {
                self.put_back(export, &batch, outcome).await?;
                (batch, size) = (Vec::new(), 0);
            }
        }
        Ok(())
    }

    async fn put_back(
        &self,
        export: &DiscardedExport,
        batch: &[Change],
        outcome: &mut DiscardedOutcome,
    ) -> Result<(), ApiError> {
        let Self { master, spec, .. } = self;
        let fork = export.fork.to_string();
        let mode: &[u8] = if spec.confirm { b"RUN" } else { b"DRY" };
        let rule: &[u8] = if spec.only_absent { b"ABSENT" } else { b"SINCE" };
        let mut words: Vec<&[u8]> = vec![b"CLUSTERX", b"DISCARDED", b"APPLY"];
        words.extend([fork.as_bytes(), export.epoch_id.as_bytes(), mode, rule]);
        let expiries: Vec<String> =
            batch.iter().map(|change| change.expire_ms.to_string()).collect();
        for (change, expiry) in batch.iter().zip(&expiries) {
            words.extend([change.what.as_bytes(), &change.key, &change.value, expiry.as_bytes()]);
        }
        let value = master.ask(&words, APPLY_PATIENCE).await;
        let value = value.map_err(|error| master.failed(&error))?;
        let Value::Array(answers) = value else {
            return Err(ApiError::failed(format!(
                "master {}: its answer cannot be read",
                master.endpoint
            )));
        };
        for (change, answer) in batch.iter().zip(&answers) {
            count(outcome, answer.as_str().unwrap_or("unknown"), &change.key);
        }
        Ok(())
    }
}

/// The last state of each key in an export, and what of it cannot be put back.
async fn last_states(
    holder: &Peer,
    file: &str,
) -> Result<(Vec<Change>, DiscardedOutcome), ApiError> {
    let mut last = BTreeMap::<Vec<u8>, Change>::new();
    let mut outcome = DiscardedOutcome::default();
    let (mut offset, mut size) = (0, 0);
    loop {
        let (changes, next) = page(holder, file, offset).await?;
        for change in changes {
            size += change.key.len() + change.value.len();
            last.insert(change.key.clone(), change);
        }
        if size > EXPORT_BYTES_MAX {
            return Err(ApiError::bad(format!(
                "the export holds more than {} MiB: too much to put back at once",
                EXPORT_BYTES_MAX >> 20
            )));
        }
        match next {
            Some(next) if next > offset => offset = next,
            _ => break,
        }
    }
    let (usable, other): (Vec<Change>, Vec<Change>) =
        last.into_values().partition(|change| change.what != "other");
    for change in other {
        count(&mut outcome, "unsupported", &change.key);
    }
    Ok((usable, outcome))
}

fn count(outcome: &mut DiscardedOutcome, word: &str, key: &[u8]) {
    *outcome.counts.entry(word.to_owned()).or_default() += 1;
    let named = outcome.keys.entry(word.to_owned()).or_default();
    if named.len() < NAMED_MAX {
        named.push(latin(key));
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

    /// A node with an export of more keys than one request takes, which as master takes so many requests.
    async fn job(local: &tokio::task::LocalSet, requests: usize, confirm: bool) -> Job {
        const KEYS: usize = APPLY_KEYS + 10;
        let left = Rc::new(Cell::new(requests));
        let answer = async move |words: &[Vec<u8>], out: &mut Vec<u8>| {
            let mut reply = Writer::new(out, Protocol::V2);
            match words.get(2).map(Vec::as_slice) {
                Some(b"LIST") => reply.bulk(b"1-7.jsonl 100 7 1 9 1 0000000000000001\r\n"),
                Some(b"READ") => {
                    reply.array(1 + 4 * (KEYS + 1));
                    reply.integer(-1);
                    for number in 0..KEYS {
                        let key = format!("{number:06}");
                        for word in [b"set", key.as_bytes(), b"v", b"0"] {
                            reply.bulk(word);
                        }
                    }
                    for word in ["other", "large", "a value of 9000000 bytes", "0"] {
                        reply.bulk(word.as_bytes());
                    }
                }
                Some(b"APPLY") if left.get() > 0 => {
                    left.set(left.get() - 1);
                    let keys = (words.len() - 7) / 4;
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
        let local = tokio::task::LocalSet::new();
        let notes = Arc::new(Mutex::new(Vec::new()));
        let done = local
            .run_until(async {
                let job = job(&local, requests, confirm).await;
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
        assert!(begin.contains("4106 keys are being put back"), "{begin}");
        assert!(end.contains("4106 applied, 1 unsupported"), "{end}");
        let (done, notes) = run(2, false).await;
        assert!(done.is_ok_and(|outcome| !outcome.done) && notes.is_empty());
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
        assert!(end.contains("of 4106 keys so far: 4096 applied"), "{end}");
    }
}
