//! Writes that failovers of asynchronous shards are known to have lost: counted, told, and
//! remembered from the log of events by the next controller, whose alarm is the same until its hour
//! is over.
//!
//! Their events are in the transaction of the failover: whoever comes to know that it was made
//! comes to know of them too, however late, and whether or not this controller lives then.

use std::sync::Arc;
use std::time::Duration;

use planner::{LOSS_MS, Record, ShardId};

use super::{Cluster, Shared};
use crate::events::{Event, now_ms};
use crate::store::{Change, StoreError};

/// What such an event is called in the log.
const KIND: &str = "loss";
/// Losses that are read of the log at most.
const RECALLED: usize = 1_000;
/// After the store failed, before it is read again, and how often that is done.
const RETRY: Duration = Duration::from_secs(1);
const TRIES: u32 = 60;

/// A failover that loses writes, if it is made.
#[derive(Debug)]
pub(super) struct Loss {
    /// The lasting name of the shard; none in a record of an earlier version.
    shard: ShardId,
    index: usize,
    /// The id of its master then.
    to: String,
    writes: u64,
    /// Without the shard.
    what: String,
    event: Event,
}

impl Loss {
    /// The failover was made.
    fn is_so(&self, record: &Record) -> bool {
        let index =
            if self.shard.is_none() { Some(self.index) } else { record.place_of(self.shard) };
        let shard = index.and_then(|index| record.shards.get(index));
        shard.and_then(planner::Shard::master).is_some_and(|master| master.id == self.to)
    }
}

/// What new masters of asynchronous shards are known to lack.
pub(super) fn of(cluster: &Cluster, after: &Record) -> Vec<Loss> {
    let label = cluster.label();
    let term = cluster.shared.store.term();
    let state = cluster.state.lock();
    let shards = state.record.shards.iter().zip(&after.shards).enumerate();
    let lost = shards.filter_map(|(index, (old, new))| {
        let (from, to) = (old.master()?, new.master()?);
        // Where a set decides, nothing that was acknowledged is lost.
        if from.id == to.id || !old.epoch.in_sync.is_empty() {
            return None;
        }
        let had = state.observed.node(&from.id).master_sequence?;
        let has = state.observed.node(&to.id).seen.as_ref()?.reply.sequence;
        let writes = had.checked_sub(has).filter(|lost| *lost > 0)?;
        let what = format!(
            "{} took over from {} without its last {writes} writes or more ({has} of {had}); \
             once {} is back, `ctl discarded list` shows them",
            to.local, from.local, from.local
        );
        let event = Event::now(term, label.clone(), KIND, format!("shard {index}: {what}"));
        let event = Event { shard: Some(old.id).filter(|id| !id.is_none()), ..event };
        Some(Loss { shard: old.id, index, to: to.id.clone(), writes, what, event })
    });
    lost.collect()
}

/// What is to be said beside that of failovers of asynchronous shards: a master that died may have
/// taken writes since it was heard last, and nobody knows before it is back.
pub(super) fn unknown(cluster: &Cluster, after: &Record) -> String {
    let now = cluster.shared.now();
    let state = cluster.state.lock();
    let shards = state.record.shards.iter().zip(&after.shards).enumerate();
    let told = shards.filter_map(|(index, (old, new))| {
        let (from, to) = (old.master()?, new.master()?);
        let is_planned = old.intent.is_some() || old.fence.is_some() || new.fence.is_some();
        if from.id == to.id || is_planned || !old.epoch.in_sync.is_empty() {
            return None;
        }
        let heard = state.observed.node(&from.id).answered_at;
        let ago = heard.map(|at| format!(", {} ms before", now.millis_since(at)));
        Some(format!(
            "; shard {index} is asynchronous: what {} took after its last answer{} is known once it is back (`ctl discarded list`)",
            from.local,
            ago.unwrap_or_default()
        ))
    });
    told.collect()
}

/// Those that are written with the failover.
pub(super) fn events(losses: &[Loss]) -> Vec<Event> {
    losses.iter().take(Change::ALSO_MAX).map(|loss| loss.event.clone()).collect()
}

/// Counter and alarm of each loss that is one by the record in force, and the events that found no
/// room in its transaction.
pub(super) fn tell(cluster: &Arc<Cluster>, losses: Vec<Loss>, record: &Record) {
    for (number, loss) in losses.into_iter().enumerate() {
        if !loss.is_so(record) {
            continue;
        }
        tracing::warn!(cluster = %cluster.label(), "{}", loss.event.text);
        cluster.shared.counters.lost_writes.add(loss.writes);
        if number >= Change::ALSO_MAX {
            // History: it is never only counted.
            let _ = cluster.shared.journal.add(loss.event);
        }
        if !loss.shard.is_none() {
            let until = cluster.shared.now().plus_millis(LOSS_MS);
            cluster.state.lock().observed.losses.insert(loss.shard, (until, loss.what));
        }
        cluster.wake.notify_one();
    }
}

/// Reads what earlier controllers told of lately, and tells it on. A store that does not answer is
/// asked again for a while; nothing waits for it.
pub(crate) async fn recall(shared: Arc<Shared>, clusters: Vec<Arc<Cluster>>) {
    for _ in 0..TRIES {
        match read(&shared).await {
            Ok(events) => {
                let now_ms = now_ms();
                return clusters.iter().for_each(|cluster| remember(cluster, &events, now_ms));
            }
            Err(error) => tracing::warn!(%error, "read which writes were lost lately"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn read(shared: &Arc<Shared>) -> Result<Vec<Event>, StoreError> {
    let call = shared.call().await?;
    let now_ms = now_ms();
    let is_wanted = move |event: &Event| event.kind == KIND && left_ms(event, now_ms).is_some();
    let events = shared.store.events(RECALLED, Box::new(is_wanted)).await;
    drop(call);
    events
}

/// For how long it is still told; `None`: no longer. One of a clock that was ahead is told in full.
fn left_ms(event: &Event, now_ms: u64) -> Option<u64> {
    LOSS_MS.checked_sub(now_ms.saturating_sub(event.at_ms)).filter(|left| *left > 0)
}

/// Takes up what is told of this cluster's shards: another one that had its name before had others.
fn remember(cluster: &Arc<Cluster>, events: &[Event], now_ms: u64) {
    let (label, now) = (cluster.label(), cluster.shared.now());
    let mut state = cluster.state.lock();
    for event in events.iter().filter(|event| event.cluster == label) {
        let (Some(shard), Some(left)) = (event.shard, left_ms(event, now_ms)) else {
            continue;
        };
        let until = now.plus_millis(left);
        let known = state.observed.losses.get(&shard);
        let is_newer = known.is_none_or(|(known, _)| *known < until);
        if is_newer && state.record.place_of(shard).is_some() {
            // Its index was another one then, perhaps.
            let what = event.text.split_once(": ").map_or(&*event.text, |(_, what)| what);
            state.observed.losses.insert(shard, (until, what.to_owned()));
        }
    }
    drop(state);
    cluster.wake.notify_one();
}

#[cfg(test)]
mod tests {
    use planner::Policy;

    use super::*;
    use crate::cluster::{test_failover, test_pair, test_record, test_sequences};
    use crate::store::{Embedded, Store as _};

    const SHARD: ShardId = ShardId(1);

    /// A loss of that shard, so many minutes ago, when it was the fourth.
    fn event(minutes: u64, shard: ShardId, what: &str) -> Event {
        let event = Event::now(1, "n/c".to_owned(), KIND, format!("shard 3: {what}"));
        Event { at_ms: event.at_ms - minutes * 60_000, shard: Some(shard), ..event }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_next_controller_tells_on_what_was_lost_within_the_hour() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Embedded::open(&folder.path().join("store"), 0).expect("a store");
        let made = event(80, SHARD, "a namespace");
        store.create_namespace("n".to_owned(), made).await.done().expect("a namespace");
        let other = Event { cluster: "n/other".to_owned(), ..event(1, SHARD, "of another") };
        let events = vec![
            event(70, SHARD, "too long ago"),
            event(20, SHARD, "before"),
            event(10, SHARD, "the newest: ab"),
            event(5, ShardId(99), "of a shard that is gone, or of a cluster that had the name"),
            other,
            Event { shard: None, ..event(1, SHARD, "of an earlier version") },
            Event { kind: "alarm".to_owned(), ..event(1, SHARD, "no loss") },
        ];
        store.append(events).await.done().expect("events");
        let shared = Arc::new(Shared::new(Arc::new(store), Policy::default()).expect("threads"));
        let cluster = Cluster::start(Arc::clone(&shared), test_record(), None).expect("a cluster");
        recall(Arc::clone(&shared), vec![Arc::clone(&cluster)]).await;
        let told = cluster.state.lock().observed.losses.clone();
        assert_eq!(told.keys().collect::<Vec<_>>(), [&SHARD], "{told:?}");
        let (until, text) = &told[&SHARD];
        assert_eq!(text, "the newest: ab");
        let left = until.millis_since(shared.now());
        assert!((45 * 60_000..=50 * 60_000).contains(&left), "{left}");
        cluster.stop();
    }

    /// Before the journal has written anything: this controller may die in that moment.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_failover_loses_is_in_its_own_transaction() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Embedded::open(&folder.path().join("store"), 0).expect("a store");
        let made = Event::now(1, "n/c".to_owned(), "operator", "created".to_owned());
        store.create_namespace("n".to_owned(), made.clone()).await.done().expect("a namespace");
        // As this controller leaves it, so that its planner has nothing to write.
        let record = Record { term: store.term(), ..test_pair() };
        store.create(record.clone(), made).await.done().expect("a cluster");
        let shared = Arc::new(Shared::new(Arc::new(store), Policy::default()).expect("threads"));
        let cluster = Cluster::start(Arc::clone(&shared), record, None).expect("a cluster");
        let planner = cluster.planner.lock().take().expect("a planner");
        planner.abort();
        assert!(planner.await.is_err_and(|error| error.is_cancelled()));
        test_sequences(&mut cluster.state.lock().observed, 122, 100);
        let after = test_failover(&cluster.record());
        let lost = of(&cluster, &after);
        let more = unknown(&cluster, &after);
        assert!(more.contains("what 127.0.0.1:1 took after its last answer"), "{more}");
        assert_eq!(unknown(&cluster, &cluster.record()), "", "nothing was replaced");
        let event = Event::now(1, "n/c".to_owned(), "failover", "a is down".to_owned());
        cluster.swap(after, event, lost).await.expect("a change");
        let written = shared.store.events(10, Box::new(|event| event.kind == KIND)).await;
        let [event] = &written.expect("events")[..] else { panic!("not one loss") };
        assert_eq!(event.shard, Some(SHARD));
        assert!(event.text.starts_with("shard 0: 127.0.0.1:2 took over from 127.0.0.1:1"));
        assert!(event.text.contains("without its last 22 writes"), "{}", event.text);
        let told = cluster.state.lock().observed.losses.clone();
        assert_eq!(Some(&*told[&SHARD].1), event.text.strip_prefix("shard 0: "));
        cluster.stop();
    }
}
