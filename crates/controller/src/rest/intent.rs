//! What an operator asks of a shard that the planner does in steps: it is put into the record, and
//! its end awaited.

use std::sync::Arc;
use std::time::Duration;

use api::rest::Actor;
use planner::{Intent, Shard, ShardId};

use super::error::ApiError;
use super::shard_again;
use crate::cluster::{Cluster, UpdateError};

/// How often what is seen is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What it comes to is for another to tell, and to do.
const OVER: &str = "this controller leads no more, or the cluster was deleted: what was asked for is in the \
                    record, and whoever leads now goes on with it; `status` shows what came of it";

/// Names a request; its result carries it.
pub(super) fn new_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// An intent for the shard at an index, why, and by whom.
pub(super) struct Asked {
    pub(super) index: usize,
    pub(super) intent: Intent,
    pub(super) reason: String,
    pub(super) by: Actor,
}

/// Asks for it, and waits for `limit` at most; returns the master of the shard once that one
/// answers as the granted master. One that takes longer is withdrawn, also when the client that
/// asked has hung up meanwhile.
pub(super) async fn carry_out(
    cluster: &Arc<Cluster>,
    Asked { index, intent, reason, by }: Asked,
    limit: Duration,
    check: fn(&Shard, &Intent) -> Result<(), String>,
) -> Result<String, ApiError> {
    let cluster = Arc::clone(cluster);
    let of = cluster.record().shards.get(index).map_or(ShardId::default(), |shard| shard.id);
    let work = async move {
        let mut changes = cluster.changes();
        cluster
            .update(&by, &reason, |record| {
                let shard = shard_again(record, index, of)?;
                check(shard, &intent)?;
                if shard.intent.is_some() || shard.fence.is_some() {
                    return Err("a switchover of this shard is under way".to_owned());
                }
                shard.intent = Some(intent.clone());
                Ok(())
            })
            .await?;
        let done = tokio::time::timeout(limit, async {
            loop {
                if let Some(result) = result_of(&cluster, (index, of), &intent) {
                    return result.map_err(ApiError::failed);
                }
                if cluster.is_over() {
                    return Err(ApiError::unknown(OVER));
                }
                tokio::select! {
                    // Its sender lives as long as the cluster.
                    _ = changes.changed() => {}
                    // What nodes answer is no change of the record.
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        });
        if let Ok(result) = done.await {
            return result;
        }
        withdraw(&cluster, &by, (index, of), &intent.id).await;
        Err(ApiError::failed(overdue(&cluster, index, &intent, limit)))
    };
    tokio::spawn(work).await.map_err(|_| ApiError::from(UpdateError::Gone))?
}

/// The new master once it answers as such, or why there is none; `None` while it is under way.
fn result_of(
    cluster: &Cluster,
    (index, of): (usize, ShardId),
    intent: &Intent,
) -> Option<Result<String, String>> {
    let state = cluster.state.lock();
    let index = if of.is_none() { index } else { state.record.place_of(of).unwrap_or(usize::MAX) };
    let Some(shard) = state.record.shards.get(index) else {
        return Some(Err("the shard was removed".to_owned()));
    };
    let result = shard.last_intent.as_ref().filter(|result| result.id == intent.id)?;
    if let Some(error) = &result.error {
        return Some(Err(error.clone()));
    }
    let policy = &cluster.shared.policy;
    if !planner::serves(&state.record, &state.observed, policy, index) {
        return None;
    }
    let master = shard.master()?;
    match &intent.preferred {
        Some(preferred) if *preferred != master.id => {
            Some(Err(format!("{} is master of shard {index} instead", master.local)))
        }
        _ => Some(Ok(master.id.clone())),
    }
}

/// What is known of it when nobody waits any longer.
fn overdue(cluster: &Cluster, index: usize, intent: &Intent, limit: Duration) -> String {
    let record = cluster.record();
    let shard = record.shards.get(index);
    let is_decided =
        |shard: &&Shard| shard.last_intent.as_ref().is_some_and(|result| result.id == intent.id);
    match shard.filter(is_decided).and_then(Shard::master) {
        Some(master) => format!(
            "{} is to be master of shard {index}, but does not serve as such after {limit:?}; \
             `status` shows what the shard waits for",
            master.local
        ),
        None => format!("not done within {limit:?}; `status` shows what shard {index} waits for"),
    }
}

async fn withdraw(cluster: &Arc<Cluster>, by: &Actor, (index, of): (usize, ShardId), id: &str) {
    let reason = format!("shard {index}: withdrawn, it took too long");
    let result = cluster
        .update(by, &reason, |record| {
            let shard = shard_again(record, index, of)?;
            match &shard.intent {
                Some(intent) if intent.id == id => {
                    shard.intent = None;
                    Ok(())
                }
                _ => Err("it is over".to_owned()),
            }
        })
        .await;
    if let Err(error) = result {
        tracing::debug!(%error, "withdraw a switchover");
    }
}

#[cfg(test)]
mod tests {
    use planner::Policy;

    use super::*;
    use crate::cluster::{Shared, test_actor, test_pair};
    use crate::events::Event;
    use crate::store::{Embedded, Store as _};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Otherwise it learns, minutes later, that it was not done, which nobody here knows.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_waits_is_told_at_once_that_another_controller_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Embedded::open(&folder.path().join("store"), 0).expect("a store");
        let event = Event::now(1, "n/c".to_owned(), "operator", "created".to_owned());
        let made = store.create_namespace("n".to_owned(), event.clone()).await;
        made.done().expect("a namespace");
        store.create(test_pair(), event).await.done().expect("a cluster");
        let shared = Shared::new(Arc::new(store), Policy::default()).expect("threads");
        let cluster = Cluster::start(Arc::new(shared), test_pair(), None).expect("a cluster");

        let intent = Intent {
            id: new_id(),
            preferred: None,
            force: false,
            sync_timeout_ms: 1_000,
            pause_ms: 2_000,
            accept_loss: false,
        };
        let reason = "shard 0: switchover asked for".to_owned();
        let asked = Asked { index: 0, intent, reason, by: test_actor() };
        let limit = Duration::from_secs(600);
        let asking = Arc::clone(&cluster);
        let waits =
            tokio::spawn(async move { carry_out(&asking, asked, limit, |_, _| Ok(())).await });
        let written = async {
            while cluster.record().shards[0].intent.is_none() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, written).await.expect("an intent");
        cluster.stop();
        let told = tokio::time::timeout(PATIENCE, waits).await.expect("an answer");
        let error = told.expect("no panic").expect_err("it is not done").to_string();
        assert!(error.contains("whoever leads now goes on with it"), "{error}");
    }
}
