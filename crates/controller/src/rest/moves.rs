//! `/moves`, `/rebalance`, `/shards/:i/drain`: slots that go from shard to shard.
//!
//! A request only queues moves, or changes what is queued; `planner::moves` carries them out. What
//! nodes could not carry out is not queued. Where masters say what slots weigh, it is queued in
//! moves of bounded size.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::moves::{MoveId, Rate, RateError, Slots, Weights};
use api::rest;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;
use planner::balance::{self, Given, Refusal, TOLERANCE, TOLERANCE_MAX};
use planner::moves::QUEUE_MAX;
use planner::{Record, ShardId};

use super::error::{ApiError, created, ok};
use super::{App, body, find, shard_index, view, weights};
use crate::cluster::Cluster;

/// Moves that are over and shown.
const DONE_SHOWN: usize = 100;

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::UnderWay(..) => Self::conflict(text),
            Refusal::Unknown(_) => Self::not_found(text),
            _ => Self::bad(text),
        }
    }
}

/// What is known of the weight of what moves.
enum Known {
    /// All of it.
    All(Weights),
    /// Nothing yet: those that give are asked.
    Nothing,
    /// It was asked when this was shown.
    Shown,
}

/// What is asked for, beside which slots go where, and by whom.
struct Asked {
    by: rest::Actor,
    known: Known,
    rate: Option<Rate>,
    max_concurrent: Option<u32>,
    dry: bool,
    reason: String,
}

pub(super) async fn list(
    registry: App,
    Path((ns, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let state = cluster.state.lock();
    let moves = &state.record.moves;
    let skipped = moves.done.len().saturating_sub(DONE_SHOWN);
    Ok(ok(rest::Moves {
        moves: view::moves(&state, cluster.shared.now()),
        done: moves.done.iter().skip(skipped).map(view::past_move).collect(),
        max_concurrent: moves.limit,
    }))
}

pub(super) async fn queue(
    registry: App,
    Extension(by): Extension<rest::Actor>,
    Path((ns, name)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let spec: rest::MovesSpec = body(&bytes)?;
    let rate = rate(spec.rate_mb)?;
    let (max_concurrent, dry) = (spec.max_concurrent, spec.dry);
    let asked = |known, reason| Asked { by, known, rate, max_concurrent, dry, reason };
    if !spec.moves.is_empty() {
        if !spec.slots.is_empty() || !spec.to.is_empty() {
            return Err(ApiError::bad("`moves` and `slots` exclude each other"));
        }
        let wishes = spec.moves.iter().map(given).collect::<Result<Vec<_>, _>>()?;
        let reason = match wishes.len() {
            1 => "a move of slots queued".to_owned(),
            count => format!("{count} moves of slots queued"),
        };
        let asked = asked(Known::Shown, reason);
        return carry_out(&registry, &cluster, asked, |_| Ok(wishes)).await;
    }
    let (slots, to, reason) = sent(&cluster.record(), &spec.slots, &spec.to)?;
    let asked = asked(Known::Nothing, reason);
    carry_out(&registry, &cluster, asked, move |record| balance::to(record, &slots, to)).await
}

/// As kvrocks-controller is asked: slots of one shard go to another one, by the queue.
pub(super) async fn migrate(
    registry: App,
    Extension(by): Extension<rest::Actor>,
    Path((ns, name)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let rest::MigrateSpec { target, slot, slot_only } = body(&bytes)?;
    if slot_only {
        return Err(ApiError::bad(
            "`slot_only` gives slots away without their data: slots move with it here, and those \
             that are empty in no time",
        ));
    }
    let (slots, to, reason) = sent(&cluster.record(), &slot, &target.to_string())?;
    let (rate, max_concurrent, dry) = (None, None, false);
    let asked = Asked { by, known: Known::Nothing, rate, max_concurrent, dry, reason };
    let plan = move |record: &Record| balance::to(record, &slots, to);
    carry_out(&registry, &cluster, asked, plan).await?;
    Ok(ok(rest::ClusterAnswer { cluster: view::cluster(&cluster.record()) }))
}

fn rate(mb: Option<u32>) -> Result<Option<Rate>, ApiError> {
    let rate = mb.map(Rate::new).transpose();
    rate.map_err(|error: RateError| ApiError::bad(format!("`rate_mb`: {error}")))
}

fn slots(text: &str) -> Result<Slots, ApiError> {
    text.parse().map_err(|error: api::moves::SlotsError| ApiError::bad(error.to_string()))
}

/// These slots, the shard with this index, to which they are to move, and that for the history.
fn sent(record: &Record, these: &str, to: &str) -> Result<(Slots, ShardId, String), ApiError> {
    let slots = slots(these)?;
    let to = record.shards[shard_index(to, record)?].id;
    let reason = format!("slots {slots} are to move to shard {to}");
    Ok((slots, to, reason))
}

fn given(wish: &rest::MoveWish) -> Result<Given, ApiError> {
    let id = |text: &str| text.parse::<ShardId>().map_err(ApiError::bad);
    Ok(Given { slots: slots(&wish.slots)?, from: id(&wish.from)?, to: id(&wish.to)? })
}

pub(super) async fn rebalance(
    registry: App,
    Extension(by): Extension<rest::Actor>,
    Path((ns, name)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let spec: rest::RebalanceSpec = body(&bytes)?;
    let (rate, max_concurrent, dry) = (rate(spec.rate_mb)?, spec.max_concurrent, spec.dry);
    if spec.by == rest::By::Slots {
        if spec.tolerance.is_some() {
            return Err(ApiError::bad("`tolerance` goes with `by: bytes` and `by: load`"));
        }
        let reason = "slots are to be shared out evenly".to_owned();
        let asked = Asked { by, known: Known::Nothing, rate, max_concurrent, dry, reason };
        return carry_out(&registry, &cluster, asked, |record| Ok(balance::even(record))).await;
    }
    let tolerance = spec.tolerance.unwrap_or(TOLERANCE);
    if !(1..=TOLERANCE_MAX).contains(&tolerance) {
        return Err(ApiError::bad(format!("`tolerance`: 1 to {TOLERANCE_MAX} percent expected")));
    }
    let (all, known, what) = weighed(&registry, &cluster.record(), spec.by).await?;
    let reason = format!("slots are to be shared out by {what}, to {tolerance} percent");
    let asked = Asked { by, known, rate, max_concurrent, dry, reason };
    let plan = move |record: &Record| Ok(balance::even_bytes(record, &all, tolerance));
    carry_out(&registry, &cluster, asked, plan).await
}

/// What slots are shared out by, what is known of their bytes then, and the word of it.
async fn weighed(
    registry: &App,
    record: &Record,
    by: rest::By,
) -> Result<(Weights, Known, &'static str), ApiError> {
    if by == rest::By::Load {
        return Ok((weights::loads_of_all(registry, record).await?, Known::Nothing, "load"));
    }
    let all = weights::of_all(registry, record).await?;
    Ok((all.clone(), Known::All(all), "bytes"))
}

pub(super) async fn drain(
    registry: App,
    Extension(by): Extension<rest::Actor>,
    Path((ns, name, index)): Path<(String, String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let spec: rest::DrainSpec = body(&bytes)?;
    let (rate, max_concurrent, dry) = (rate(spec.rate_mb)?, spec.max_concurrent, spec.dry);
    let record = cluster.record();
    let index = shard_index(&index, &record)?;
    let id = record.shards[index].id;
    let reason = format!("shard {index} ({id}) is to be drained");
    if spec.by == rest::By::Slots {
        let asked = Asked { by, known: Known::Nothing, rate, max_concurrent, dry, reason };
        return carry_out(&registry, &cluster, asked, move |record| balance::drain(record, id))
            .await;
    }
    let (all, known, what) = weighed(&registry, &record, spec.by).await?;
    let reason = format!("{reason}, by {what}");
    let asked = Asked { by, known, rate, max_concurrent, dry, reason };
    let plan = move |record: &Record| balance::drain_bytes(record, &all, id);
    carry_out(&registry, &cluster, asked, plan).await
}

/// Queues what `plan` makes of the record, or only shows it.
async fn carry_out(
    registry: &App,
    cluster: &Arc<Cluster>,
    asked: Asked,
    plan: impl FnOnce(&Record) -> Result<Vec<Given>, Refusal> + Send + 'static,
) -> Result<Response, ApiError> {
    let record = cluster.record();
    let of = record.clone();
    let planned = apart(move || {
        let wanted = plan(&of)?;
        balance::check(&of, &wanted)?;
        Ok::<_, Refusal>(wanted)
    });
    let mut wanted = planned.await??;
    can_carry_out(cluster, &record, &wanted, asked.rate.is_some())?;
    let mut known = match &asked.known {
        Known::All(all) => Some(all.clone()),
        Known::Nothing => weights::of_givers(registry, &record, &wanted).await,
        Known::Shown => None,
    };
    if let Some(weights) = known.take() {
        let most = QUEUE_MAX.saturating_sub(record.moves.list.len());
        let cut = apart(move || (balance::portions(&wanted, &weights, most), weights));
        let (parts, weights) = cut.await?;
        (wanted, known) = (parts, Some(weights));
    }
    let (wanted, known) = (wanted, known);
    if record.moves.list.len() + wanted.len() > QUEUE_MAX {
        return Err(ApiError::bad(format!("more than {QUEUE_MAX} moves would be queued")));
    }
    let slots = wanted.iter().map(|one| one.slots.iter().count()).sum();
    let bytes = match &asked.known {
        Known::All(all) => balance::loads(&record, all),
        _ => Vec::new(),
    };
    let bytes = bytes.into_iter().map(|(id, bytes)| (id.to_string(), bytes)).collect();
    let wish = |id, one: &Given| {
        let bytes = known.as_ref().map(|known| known.sum(one.slots.iter()));
        view::wish(&cluster.state.lock(), id, one, bytes)
    };
    let notes = known.as_ref().map(|known| notes(cluster, &record, &wanted, known));
    let notes = notes.unwrap_or_default();
    let is_nothing = wanted.is_empty() && asked.max_concurrent.is_none();
    if asked.dry || is_nothing {
        let moves = wanted.iter().map(|one| wish(None, one)).collect();
        return Ok(ok(rest::MovesAnswer { moves, slots, bytes, notes, done: !asked.dry }));
    }
    let first = parking_lot::Mutex::new(0);
    let change = |record: &mut Record| {
        balance::check(record, &wanted).map_err(|refusal| refusal.to_string())?;
        if let Some(limit) = asked.max_concurrent {
            record.moves.limit = Some(limit).filter(|limit| *limit > 0);
        }
        *first.lock() = record.moves.newest.0 + 1;
        for Given { slots, from, to } in wanted.clone() {
            let bytes = known.as_ref().map(|known| known.sum(slots.iter()));
            let id = record.moves.queue(slots, from, to);
            if let Some(queued) = record.moves.get_mut(id) {
                queued.rate = asked.rate;
                queued.bytes = bytes;
            }
        }
        Ok(())
    };
    cluster.update(&asked.by, &asked.reason, change).await?;
    let ids = *first.lock()..;
    let moves = ids.zip(&wanted).map(|(id, one)| wish(Some(id), one)).collect();
    Ok(created(rest::MovesAnswer { moves, slots, bytes, notes, done: true }))
}

/// What takes long among many slots and shards, on a thread that carries no heartbeats.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::failed(format!("plan what moves: {error}")))
}

/// What a person should know before.
fn notes(cluster: &Cluster, record: &Record, all: &[Given], known: &Weights) -> Vec<String> {
    let mut coming: BTreeMap<ShardId, u64> = BTreeMap::new();
    for one in all {
        let sum = coming.entry(one.to).or_default();
        *sum = sum.saturating_add(known.sum(one.slots.iter()));
    }
    let state = cluster.state.lock();
    let place = |(id, bytes)| planner::moving::have_place(record, &state.observed, id, bytes).err();
    coming.into_iter().filter_map(place).collect()
}

/// Masters that know nothing of moves, or hold no epoch, would never begin; those that take no rate
/// would copy at their own; and those that no client reaches would keep the slots from all.
fn can_carry_out(
    cluster: &Cluster,
    record: &Record,
    all: &[Given],
    has_rate: bool,
) -> Result<(), ApiError> {
    let state = cluster.state.lock();
    let mut shards: Vec<ShardId> = all.iter().flat_map(|one| [one.from, one.to]).collect();
    shards.sort_unstable();
    shards.dedup();
    for id in shards {
        planner::moving::is_able(record, &state.observed, id).map_err(ApiError::conflict)?;
        if all.iter().any(|one| one.to == id) {
            planner::moving::may_take(record, &state.observed, id).map_err(ApiError::conflict)?;
        }
        if has_rate {
            planner::moving::takes_rates(record, &state.observed, id)
                .map_err(ApiError::conflict)?;
        }
    }
    Ok(())
}

fn move_id(text: &str) -> Result<MoveId, ApiError> {
    let id = text.parse().map_err(|_| ApiError::bad(format!("move `{text}` is no number")))?;
    Ok(MoveId(id))
}

fn one(cluster: &Cluster, id: MoveId) -> Result<rest::MoveAnswer, ApiError> {
    let state = cluster.state.lock();
    let of = view::moves(&state, cluster.shared.now()).into_iter().find(|one| one.id == id.0);
    let done = state.record.moves.done.iter().find(|past| past.id == id).map(view::past_move);
    match (&of, &done) {
        (None, None) => Err(ApiError::not_found(format!("move {id}: not found"))),
        _ => Ok(rest::MoveAnswer { of, done }),
    }
}

pub(super) async fn show(
    registry: App,
    Path((ns, name, id)): Path<(String, String, String)>,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    Ok(ok(one(&cluster, move_id(&id)?)?))
}

pub(super) async fn change(
    registry: App,
    Extension(by): Extension<rest::Actor>,
    Path((ns, name, id)): Path<(String, String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let (id, change): (_, rest::MoveChange) = (move_id(&id)?, body(&bytes)?);
    let changed = Changed::new(&change)?;
    is_under_way(&cluster, id)?;
    if matches!(changed.rate, Some(Some(_))) {
        let record = cluster.record();
        let one = record.moves.list.iter().find(|one| one.id == id);
        for shard in one.into_iter().flat_map(|one| [one.from, one.to]) {
            let state = cluster.state.lock();
            planner::moving::takes_rates(&record, &state.observed, shard)
                .map_err(ApiError::conflict)?;
        }
    }
    let reason = format!("move {id} {}", changed.word());
    cluster.update(&by, &reason, |record| changed.apply(record, id)).await?;
    Ok(ok(one(&cluster, id)?))
}

/// What becomes of a move that is not over.
struct Changed {
    paused: Option<bool>,
    /// `Some(None)`: as if none had been said.
    rate: Option<Option<Rate>>,
}

impl Changed {
    fn new(change: &rest::MoveChange) -> Result<Self, ApiError> {
        let rest::MoveChange { paused, rate_mb } = *change;
        let rate = match rate_mb {
            Some(0) => Some(None),
            mb => rate(mb)?.map(Some),
        };
        if paused.is_none() && rate.is_none() {
            return Err(ApiError::bad("`paused`, `rate_mb`, or both expected"));
        }
        Ok(Self { paused, rate })
    }

    /// For the history.
    fn word(&self) -> String {
        let paused = self.paused.map(|paused| if paused { "paused" } else { "resumed" });
        let rate = self.rate.map(|rate| match rate {
            Some(rate) => format!("copies at {rate} MB/s at most"),
            None => "copies at the usual rate".to_owned(),
        });
        [paused.map(str::to_owned), rate].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn apply(&self, record: &mut Record, id: MoveId) -> Result<(), String> {
        let one = record.moves.get_mut(id).ok_or("the move is over")?;
        let has_moved = one.phase.word() == "owned";
        if has_moved && self.paused == Some(true) {
            return Err("its slots have moved already: what follows is not paused".to_owned());
        }
        if has_moved && self.rate.is_some() {
            return Err("its slots have moved already: nothing is copied any more".to_owned());
        }
        one.is_paused = self.paused.unwrap_or(one.is_paused);
        one.rate = self.rate.unwrap_or(one.rate);
        Ok(())
    }
}

pub(super) async fn cancel(
    registry: App,
    Extension(by): Extension<rest::Actor>,
    Path((ns, name, id)): Path<(String, String, String)>,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let id = move_id(&id)?;
    is_under_way(&cluster, id)?;
    let cancel = |record: &mut Record| record.moves.cancel(id).map_err(str::to_owned);
    cluster.update(&by, &format!("move {id} cancelled"), cancel).await?;
    Ok(ok(one(&cluster, id)?))
}

fn is_under_way(cluster: &Cluster, id: MoveId) -> Result<(), ApiError> {
    let answer = one(cluster, id)?;
    let Some(past) = answer.done.filter(|_| answer.of.is_none()) else { return Ok(()) };
    let end = past.error.map_or("done".to_owned(), |error| format!("over: {error}"));
    Err(ApiError::conflict(format!("move {id} is {end}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn what_takes_long_is_planned_on_a_thread_that_carries_no_heartbeats() {
        let here = std::thread::current().id();
        let there = apart(|| std::thread::current().id()).await;
        assert!(there.is_ok_and(|there| there != here));
        assert!(apart(|| panic!("as said")).await.is_err());
    }
}
