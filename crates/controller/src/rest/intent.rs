//! What an operator asks of a shard that the planner does in steps: it is put into the record, and its end awaited.

use std::sync::Arc;
use std::time::Duration;

use planner::{Intent, Shard};

use super::error::ApiError;
use crate::cluster::{Cluster, UpdateError};

/// Names a request; its result carries it.
pub(super) fn new_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Asks for it, and waits for `limit` at most; returns the master of the shard afterwards. One that takes longer is
/// withdrawn, also when the client that asked has hung up meanwhile.
pub(super) async fn carry_out(
    cluster: &Arc<Cluster>,
    (index, intent): (usize, Intent),
    reason: String,
    limit: Duration,
    check: fn(&Shard, &Intent) -> Result<(), String>,
) -> Result<String, ApiError> {
    let cluster = Arc::clone(cluster);
    let work = async move {
        let mut changes = cluster.changes();
        cluster
            .update(&reason, |record| {
                let shard = record.shards.get_mut(index).ok_or("index out of range")?;
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
                if let Some(result) = result_of(&cluster, index, &intent.id) {
                    return result;
                }
                if changes.changed().await.is_err() {
                    return Err("the cluster was deleted".to_owned());
                }
            }
        });
        if let Ok(result) = done.await {
            return result.map_err(ApiError::failed);
        }
        withdraw(&cluster, index, &intent.id).await;
        Err(ApiError::failed(format!(
            "not done within {limit:?}; `status` shows what shard {index} waits for"
        )))
    };
    tokio::spawn(work).await.map_err(|_| ApiError::from(UpdateError::Gone))?
}

/// The new master, or why there is none; `None` while it is under way.
fn result_of(cluster: &Cluster, index: usize, id: &str) -> Option<Result<String, String>> {
    let record = cluster.record();
    let Some(shard) = record.shards.get(index) else {
        return Some(Err("the shard was removed".to_owned()));
    };
    let result = shard.last_intent.as_ref().filter(|result| result.id == id)?;
    if let Some(error) = &result.error {
        return Some(Err(error.clone()));
    }
    // Named in the store, but its predecessor may still have to be fenced.
    if shard.fence.is_some() {
        return None;
    }
    Some(shard.master().map(|node| node.id.clone()).ok_or_else(|| "no master".to_owned()))
}

async fn withdraw(cluster: &Arc<Cluster>, index: usize, id: &str) {
    let reason = format!("shard {index}: withdrawn, it took too long");
    let result = cluster
        .update(&reason, |record| {
            let shard = record.shards.get_mut(index).ok_or("index out of range")?;
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
