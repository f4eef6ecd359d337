//! Writes that failovers of asynchronous shards are known to have lost: counted, told, and remembered from the log of
//! events by the next controller, whose alarm is the same until its hour is over.

use std::sync::Arc;
use std::time::Duration;

use planner::LOSS_MS;

use super::{Cluster, Shared};
use crate::events::{Event, now_ms};
use crate::store::StoreError;

/// What such an event is called in the log.
const KIND: &str = "loss";
/// Losses that are read of the log at most.
const RECALLED: usize = 1_000;
/// After the store failed, before it is read again, and how often that is done.
const RETRY: Duration = Duration::from_secs(1);
const TRIES: u32 = 60;

/// A failover that lost writes.
#[derive(Debug)]
pub(super) struct Loss {
    shard: usize,
    writes: u64,
    text: String,
}

/// What new masters of asynchronous shards are known to lack.
pub(super) fn of(cluster: &Cluster, after: &planner::Record) -> Vec<Loss> {
    let state = cluster.state.lock();
    let shards = state.record.shards.iter().zip(&after.shards).enumerate();
    let lost = shards.filter_map(|(shard, (old, new))| {
        let (from, to) = (old.master()?, new.master()?);
        // Where a set decides, nothing that was acknowledged is lost.
        if from.id == to.id || !old.epoch.in_sync.is_empty() {
            return None;
        }
        let had = state.observed.node(&from.id).master_sequence?;
        let has = state.observed.node(&to.id).seen.as_ref()?.reply.sequence;
        let writes = had.checked_sub(has).filter(|lost| *lost > 0)?;
        let text = format!(
            "{}{} took over from {} without its last {writes} writes or more ({has} of {had}); \
             once {} is back, `ctl discarded list` shows them",
            beginning(shard),
            to.local,
            from.local,
            from.local
        );
        Some(Loss { shard, writes, text })
    });
    lost.collect()
}

/// What the text of a loss begins with; by it the log is read again.
fn beginning(shard: usize) -> String {
    format!("shard {shard}: ")
}

fn shard_of(text: &str) -> Option<usize> {
    text.strip_prefix("shard ")?.split_once(": ")?.0.parse().ok()
}

/// Event, counter and alarm of each loss.
pub(super) fn tell(cluster: &Arc<Cluster>, losses: Vec<Loss>) {
    for Loss { shard, writes, text } in losses {
        tracing::warn!(cluster = %cluster.label(), "{text}");
        cluster.shared.counters.lost_writes.add(writes);
        cluster.note(KIND, text.clone());
        let until = cluster.shared.now().plus_millis(LOSS_MS);
        cluster.state.lock().observed.losses.insert(shard, (until, text));
        cluster.wake.notify_one();
    }
}

/// Reads what earlier controllers told of lately, and tells it on. A store that does not answer is asked again for a while;
/// nothing waits for it.
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

/// Takes up what is told of this cluster, and of no other that had its name before.
fn remember(cluster: &Arc<Cluster>, events: &[Event], now_ms: u64) {
    let (label, now) = (cluster.label(), cluster.shared.now());
    let mut state = cluster.state.lock();
    let created = state.record.nodes().map(|(_, node)| node.created_at).min();
    let created_ms = created.unwrap_or_default().saturating_mul(1_000);
    for event in events.iter().filter(|event| event.cluster == label && event.at_ms >= created_ms) {
        let (Some(shard), Some(left)) = (shard_of(&event.text), left_ms(event, now_ms)) else {
            continue;
        };
        let until = now.plus_millis(left);
        let known = state.observed.losses.get(&shard);
        if shard < state.record.shards.len() && known.is_none_or(|(known, _)| *known < until) {
            state.observed.losses.insert(shard, (until, event.text.clone()));
        }
    }
    drop(state);
    cluster.wake.notify_one();
}

#[cfg(test)]
mod tests {
    use planner::Policy;

    use super::*;
    use crate::cluster::test_record;
    use crate::store::{Embedded, Store as _};

    /// A loss of the first shard, so many minutes ago.
    fn event(minutes: u64, shard: usize, what: &str) -> Event {
        let text = format!("{}{what}", beginning(shard));
        let event = Event::now(1, "n/c".to_owned(), KIND, text);
        Event { at_ms: event.at_ms - minutes * 60_000, ..event }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_next_controller_tells_on_what_was_lost_within_the_hour() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Embedded::open(&folder.path().join("store"), 0).expect("a store");
        let made = event(80, 0, "a namespace");
        store.create_namespace("n".to_owned(), made).await.done().expect("a namespace");
        let other = Event { cluster: "n/other".to_owned(), ..event(1, 0, "of another cluster") };
        let events = vec![
            event(70, 0, "too long ago"),
            event(20, 0, "before"),
            event(10, 0, "the newest"),
            event(5, 99, "of a shard that is gone"),
            other,
            Event { kind: "alarm".to_owned(), ..event(1, 0, "no loss") },
        ];
        store.append(events).await.done().expect("events");
        let shared = Arc::new(Shared::new(Arc::new(store), Policy::default()).expect("threads"));
        let mut record = test_record();
        for node in record.shards.iter_mut().flat_map(|shard| &mut shard.nodes) {
            node.created_at = 0;
        }
        let cluster = Cluster::start(Arc::clone(&shared), record, None).expect("a cluster");
        recall(Arc::clone(&shared), vec![Arc::clone(&cluster)]).await;
        let told = cluster.state.lock().observed.losses.clone();
        assert_eq!(told.keys().collect::<Vec<_>>(), [&0], "{told:?}");
        let (until, text) = &told[&0];
        assert_eq!(text, "shard 0: the newest");
        let left = until.millis_since(shared.now());
        assert!((45 * 60_000..=50 * 60_000).contains(&left), "{left}");

        // What had the name before it lost nothing of this one.
        let young = Event { at_ms: 5_000, ..event(0, 0, "older than the cluster") };
        let mut record = test_record();
        for node in record.shards.iter_mut().flat_map(|shard| &mut shard.nodes) {
            node.created_at = 6;
        }
        cluster.stop();
        let cluster = Cluster::start(shared, record, None).expect("a cluster");
        remember(&cluster, &[young], 6_000);
        assert!(cluster.state.lock().observed.losses.is_empty());
        cluster.stop();
    }
}
