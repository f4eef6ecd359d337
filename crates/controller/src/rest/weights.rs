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

/// Fewer commands of all slots tell nothing of what they will get: of each 64 one is counted.
const COMMANDS_MIN: u64 = 100_000;

/// What masters are asked of slots.
#[derive(Debug, Clone, Copy)]
enum What {
    Bytes,
    Load,
}

impl What {
    /// The word of the question.
    fn word(self) -> &'static str {
        match self {
            Self::Bytes => "WEIGH",
            Self::Load => "LOAD",
        }
    }

    /// For people.
    fn text(self) -> &'static str {
        match self {
            Self::Bytes => "what slots weigh",
            Self::Load => "how many commands slots get",
        }
    }
}

/// Of every slot that has an owner.
pub(super) async fn of_all(registry: &App, record: &Record) -> Result<Weights, ApiError> {
    ask(registry, record, |_| true, (What::Bytes, PATIENCE)).await
}

/// The commands of the last minutes, of every slot that has an owner.
pub(super) async fn loads_of_all(registry: &App, record: &Record) -> Result<Weights, ApiError> {
    let loads = ask(registry, record, |_| true, (What::Load, PATIENCE)).await?;
    let all = loads.sum(0..topology::SLOT_COUNT);
    match all < COMMANDS_MIN {
        true => Err(ApiError::conflict(format!(
            "about {all} commands were counted of late, which are too few to share slots out by"
        ))),
        false => Ok(loads),
    }
}

/// Of the slots of those that are to give; nothing, if one of them does not say it at once.
pub(super) async fn of_givers(registry: &App, record: &Record, all: &[Given]) -> Option<Weights> {
    let givers: BTreeSet<ShardId> = all.iter().map(|one| one.from).collect();
    let told =
        ask(registry, record, |shard| givers.contains(&shard.id), (What::Bytes, SHORT)).await;
    let untold = |error: &ApiError| tracing::debug!(%error, "what slots weigh is not known");
    told.inspect_err(untold).ok()
}

/// Asks the masters of some shards at once.
async fn ask(
    registry: &App,
    record: &Record,
    is_asked: impl Fn(&Shard) -> bool,
    (what, patience): (What, Duration),
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
                let bytes = one(&peer, &slots, (what, patience)).await;
                let bytes = bytes.map_err(|error| refused(&local.to_string(), what, &error))?;
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

async fn one(
    peer: &Peer,
    slots: &Slots,
    (what, patience): (What, Duration),
) -> Result<Vec<u64>, ClientError> {
    let text = slots.to_string();
    let words: [&[u8]; 4] = [b"CLUSTERX", b"MOVE", what.word().as_bytes(), text.as_bytes()];
    let value = peer.ask(&words, patience).await?;
    let weighed = value.as_str().and_then(|text| weights::parse(text, slots.iter().count()).ok());
    weighed.ok_or(ClientError::Unexpected { command: "CLUSTERX MOVE" })
}

fn refused(local: &str, what: What, error: &ClientError) -> ApiError {
    let is_older = matches!(error, ClientError::Node(text) if text.contains("CLUSTERX command"));
    let what = what.text();
    let remedy = match is_older {
        true => format!(
            "; it does not know {what}: run a build that does on every node, or share them out \
             `by: slots`"
        ),
        false => String::new(),
    };
    ApiError::conflict(format!("node {local}: cannot ask {what}: {error}{remedy}"))
}
