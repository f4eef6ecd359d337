//! What slots weigh, as the masters that own them estimate it.

use std::collections::BTreeSet;
use std::time::Duration;

use api::moves::{RANGES_MAX, Slots, Weights, weights};
use planner::balance::Given;
use planner::{Record, Shard, ShardId};
use tokio::task::JoinSet;

use super::App;
use super::discarded::Peer;
use super::error::ApiError;
use crate::client::ClientError;

/// Longest time a master may take where everything rests on it: it may read indexes of its files.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same where people are only told of it, and moves are cut by it.
const SHORT: Duration = Duration::from_secs(2);

/// Of every slot that has an owner.
pub(super) async fn of_all(registry: &App, record: &Record) -> Result<Weights, ApiError> {
    ask(registry, record, |_| true, PATIENCE).await
}

/// Of the slots of those that are to give; nothing, if one of them does not say it at once.
pub(super) async fn of_givers(registry: &App, record: &Record, all: &[Given]) -> Option<Weights> {
    let givers: BTreeSet<ShardId> = all.iter().map(|one| one.from).collect();
    let told = ask(registry, record, |shard| givers.contains(&shard.id), SHORT).await;
    let untold = |error: &ApiError| tracing::debug!(%error, "what slots weigh is not known");
    told.inspect_err(untold).ok()
}

/// Asks the masters of some shards at once.
async fn ask(
    registry: &App,
    record: &Record,
    is_asked: impl Fn(&Shard) -> bool,
    patience: Duration,
) -> Result<Weights, ApiError> {
    let mut asked = JoinSet::new();
    for (index, shard) in record.shards.iter().enumerate().filter(|(_, shard)| is_asked(shard)) {
        let none = || ApiError::conflict(format!("shard {index} has no master"));
        let master = shard.master().ok_or_else(none)?;
        let (peer, local) = (Peer::find(registry, record, &master.id)?, master.local.clone());
        let pieces = shard.slot_ranges.chunks(RANGES_MAX);
        let pieces: Vec<Slots> = pieces.filter_map(|piece| Slots::new(piece).ok()).collect();
        asked.spawn(async move {
            let mut weighed = Vec::new();
            for slots in pieces {
                let bytes = one(&peer, &slots, patience).await;
                let bytes = bytes.map_err(|error| refused(&local.to_string(), &error))?;
                weighed.extend(slots.iter().zip(bytes));
            }
            Ok::<_, ApiError>(weighed)
        });
    }
    let mut all = Weights::default();
    while let Some(weighed) = asked.join_next().await {
        let weighed = weighed.map_err(|error| ApiError::failed(error.to_string()))??;
        weighed.into_iter().for_each(|(slot, bytes)| all.set(slot, bytes));
    }
    Ok(all)
}

async fn one(peer: &Peer, slots: &Slots, patience: Duration) -> Result<Vec<u64>, ClientError> {
    let text = slots.to_string();
    let words: [&[u8]; 4] = [b"CLUSTERX", b"MOVE", b"WEIGH", text.as_bytes()];
    let value = peer.ask(&words, patience).await?;
    let weighed = value.as_str().and_then(|text| weights::parse(text, slots.iter().count()).ok());
    weighed.ok_or(ClientError::Unexpected { command: "CLUSTERX MOVE WEIGH" })
}

fn refused(local: &str, error: &ClientError) -> ApiError {
    let is_older = matches!(error, ClientError::Node(text) if text.contains("CLUSTERX command"));
    let remedy = if is_older {
        "; it does not know what slots weigh: run a build that does on every node, or share them \
         out `by: slots`"
    } else {
        ""
    };
    ApiError::conflict(format!("node {local}: cannot ask what its slots weigh: {error}{remedy}"))
}
