//! The steps of one move.

use api::moves::{Feed, Frozen, Mark, Order, Rate, Said};

use super::give;
use super::{
    A_SHORT_STOP, AGAIN_MAX_MS, AGAIN_MS, ANSWERS, CLOCKS_AT_STOP_MS, CLOCKS_MS, COPIES_ON, Came,
    Context, FREEZE_MS, Floor, GIVERS_REPLICAS, IS_TO_REST, ITS_TURN, KNOWING_NODES, LED_TO, Move,
    Moves, NUMBERS, PAUSED, Phase, Plan, RESTS, ROOM, SWITCHOVER, Side, TAKERS_REPLICAS, THE_COPY,
    TRIES_MAX,
};
use crate::Time;

/// What the move needs now.
pub(super) fn decide(cx: &Context<'_>, one: &Move, plan: &mut Plan) {
    match &one.phase {
        Phase::Queued => begin(cx, one, plan),
        Phase::Copy => copy(cx, one, plan),
        Phase::Owned { .. } => finish(cx, one, plan),
        Phase::Drop { why, again } => undo(cx, one, (why, *again), plan),
    }
}

/// Its turn comes once both masters are sure of their place, and neither gives or takes for another
/// move already.
fn begin(cx: &Context<'_>, one: &Move, plan: &mut Plan) {
    let Some(from) = cx.shard(one.from).filter(|from| one.slots.lie_in(&from.slot_ranges)) else {
        let mut record = cx.record.next();
        record.moves.conclude(one.id, Some("the slots are not the giver's".to_owned()));
        return plan.swap(record, format!("move {}: {} is not there to give", one.id, one.slots));
    };
    let is_busy = cx.record.moves.list.iter().any(|other| {
        other.id != one.id
            && other.phase != Phase::Queued
            && (other.from == one.from || other.to == one.to || other.slots.meet(&one.slots))
    });
    let moves = &cx.record.moves;
    let is_full = moves.limit.is_some_and(|limit| moves.under_way().count() as u64 >= limit.into());
    if one.is_paused || is_busy || is_full {
        return plan.waits(one, if one.is_paused { PAUSED } else { ITS_TURN });
    }
    let (Some(s), Some(d)) = (cx.side(one.from), cx.side(one.to)) else {
        return plan.waits(one, ANSWERS);
    };
    if !s.is_steady() || !d.is_steady() {
        return plan.waits(one, SWITCHOVER);
    }
    if !s.answer.knows_moves || !d.answer.knows_moves {
        return plan.waits(one, KNOWING_NODES);
    }
    if !d.answer.has_room {
        return plan.waits(one, ROOM);
    }
    if !d.answer.is_reached {
        return plan.waits(one, LED_TO);
    }
    if s.apart_ms(&d) >= CLOCKS_MS {
        return plan.waits(one, "the clocks of both masters, which are a second apart");
    }
    let known = s.answer.newest.max(d.answer.newest);
    if known > Moves::KNOWN_MAX {
        return plan.waits(one, &format!("{NUMBERS}: one says that it knows of move {known}"));
    }
    let mut record = cx.record.next();
    if one.id <= known {
        let id = record.moves.renumber(one.id, known);
        let why =
            format!("move {}: is {id} from here on, nodes know of moves up to {known}", one.id);
        return plan.swap(record, why);
    }
    if let Some(next) = record.moves.get_mut(one.id) {
        next.phase = Phase::Copy;
    }
    let why = format!(
        "move {}: {} begin to move from shard {} to {}",
        one.id, one.slots, from.id, one.to
    );
    plan.swap(record, why);
}

/// The taker copies, and once it is close the handover is tried.
fn copy(cx: &Context<'_>, one: &Move, plan: &mut Plan) {
    let (s, d) = (cx.side(one.from), cx.side(one.to));
    let (Some(s), Some(d)) = (s, d) else {
        // A giver stays frozen only as long as a swap may still count on it.
        if let Some(s) = s {
            give_up(cx, one, s, &s.said(one.id), plan);
        }
        return plan.waits(one, ANSWERS);
    };
    let (giver, taker) = (s.said(one.id), d.said(one.id));
    if is_others(one, (s, d)) {
        let mut record = cx.record.next();
        if let Some(next) = record.moves.get_mut(one.id) {
            let why = "a node knows another move by this number".to_owned();
            next.phase = Phase::Drop { why, again: true };
        }
        let why = format!("move {}: begins anew, its number is another move's at a node", one.id);
        return plan.swap(record, why);
    }
    if giver.feed == Some(Feed::Misfit) {
        let mut record = cx.record.next();
        if let Some(next) = record.moves.get_mut(one.id) {
            let why = "the giver's history is not the one that was copied".to_owned();
            next.phase = Phase::Drop { why, again: true };
        }
        return plan.swap(record, format!("move {}: begins anew, the giver has lost it", one.id));
    }
    if let Some(frozen) = confirmed(cx, one, &giver) {
        let staged = Mark::Staged { at: frozen.at, is_whole: true };
        let is_ready = taker.mark == Some(staged) && taker.is_committed;
        if let (true, Some(at)) = (is_ready, frozen.at) {
            return own(cx, one, (s, d), (at, taker.sequence), plan);
        }
    }
    if one.is_paused && takes(one, d) == Some(true) {
        plan.order(cx, d, one, Order::Rest);
    } else if !one.is_paused && !has_stream(one, (s, d), (&giver, &taker)) {
        plan.order(cx, d, one, pull(one, s, d));
    }
    attempt(cx, one, (s, d), (&giver, &taker), plan);
}

/// The number has been another move's, of which this record knows nothing: of other slots, or it
/// has ended at one of both.
fn is_others(one: &Move, (s, d): (Side<'_>, Side<'_>)) -> bool {
    let has_ended = |mark: Option<Mark>| matches!(mark, Some(Mark::Held | Mark::Gone { .. }));
    !s.knows(one)
        || !d.knows(one)
        || s.said(one.id).mark.is_some()
        || has_ended(d.said(one.id).mark)
}

/// The stream is up as long as the giver says how it goes, and the taker that it takes one of the
/// rate that it is to have: another process there has none, whatever the giver believes.
fn has_stream(one: &Move, (s, d): (Side<'_>, Side<'_>), (giver, taker): (&Said, &Said)) -> bool {
    let is_taken = match &d.answer.takes {
        None => true,
        Some(takes) => takes.get(&one.id) == Some(&rate(one, s, d)),
    };
    taker.mark.is_some() && giver.feed.is_some() && is_taken
}

/// Whether the taker has a stream, as far as it says.
fn takes(one: &Move, d: Side<'_>) -> Option<bool> {
    d.answer.takes.as_ref().map(|takes| takes.contains_key(&one.id))
}

/// What a paused one waits for whose copy has begun.
fn rests(one: &Move, d: Side<'_>) -> &'static str {
    match takes(one, d) {
        None => COPIES_ON,
        Some(true) => IS_TO_REST,
        Some(false) => RESTS,
    }
}

/// A rate is said only where both know one: to an older node it would be no order.
fn rate(one: &Move, s: Side<'_>, d: Side<'_>) -> Option<Rate> {
    one.rate.filter(|_| s.answer.knows_rates && d.answer.knows_rates)
}

fn pull(one: &Move, s: Side<'_>, d: Side<'_>) -> Order {
    let (nonce, rate) = (s.answer.nonce.clone(), rate(one, s, d));
    Order::Pull { node: s.node.to_owned(), nonce, epoch: s.answer.granted_epoch, rate }
}

/// Where the giver's data ends, if that is what this controller asked for, and has not given up: a
/// freeze for another term may be thawed by that one's order at any time.
fn confirmed(cx: &Context<'_>, one: &Move, giver: &Said) -> Option<Frozen> {
    let attempt = cx.observed.attempts.get(&one.id).filter(|attempt| !attempt.is_given_up)?;
    let is_ours =
        |frozen: &Frozen| frozen.term == cx.observed.term && frozen.number == attempt.number;
    giver.frozen.filter(is_ours)
}

/// Freezes, waits a little, and gives up again.
fn attempt(
    cx: &Context<'_>,
    one: &Move,
    (s, d): (Side<'_>, Side<'_>),
    (giver, taker): (&Said, &Said),
    plan: &mut Plan,
) {
    let attempt = cx.observed.attempts.get(&one.id);
    if let Some(attempt) = attempt.filter(|attempt| !attempt.is_given_up) {
        let until = attempt.at.plus_millis(FREEZE_MS);
        if cx.now < until {
            plan.hurry(&[Some(s), Some(d)]);
            // It may have been lost: it is ordered again until it is confirmed.
            if confirmed(cx, one, giver).is_none() {
                plan.order(cx, s, one, Order::Freeze { number: attempt.number });
            }
            plan.wake(until);
            return plan.waits(one, "the taker to have what the giver has");
        }
        return give_up(cx, one, s, giver, plan);
    }
    let number = attempt.map_or(0, |attempt| attempt.number);
    let is_whole = matches!(taker.mark, Some(Mark::Staged { is_whole: true, .. }));
    let in_the_way = in_the_way(one, is_whole, (s, d));
    let is_ready = s.is_steady() && d.is_steady() && in_the_way.is_none();
    let is_close = is_whole && giver.feed == Some(Feed::Close) && is_ready;
    let due = attempt.map_or(cx.now, |attempt| attempt.at.plus_millis(pause_ms(attempt.number)));
    if is_close && !one.is_paused && due <= cx.now {
        plan.hurry(&[Some(s)]);
        return plan.order(cx, s, one, Order::Freeze { number: number + 1 });
    }
    give_up(cx, one, s, giver, plan);
    if is_close {
        wake_later(cx, due, plan);
    }
    let waits_for = if is_whole { A_SHORT_STOP } else { THE_COPY };
    let waits_for = in_the_way.unwrap_or(waits_for);
    plan.waits(one, if one.is_paused { rests(one, d) } else { waits_for });
}

/// What is to be mended before the slots can be handed over.
fn in_the_way<'a>(one: &Move, is_whole: bool, (s, d): (Side<'_>, Side<'a>)) -> Option<&'a str> {
    if let Some(clash) = d.answer.clashes.get(&one.id) {
        return Some(clash);
    }
    if !is_whole {
        return None;
    }
    if !d.answer.is_reached {
        return Some(LED_TO);
    }
    let is_apart = s.apart_ms(&d) > CLOCKS_AT_STOP_MS;
    is_apart.then_some("the clocks of both masters, which are more than 50 ms apart")
}

fn wake_later(cx: &Context<'_>, due: Time, plan: &mut Plan) {
    if due > cx.now {
        plan.wake(due);
    }
}

/// 1, 2, 4 … 30 s.
fn pause_ms(attempts: u64) -> u64 {
    let doublings = attempts.saturating_sub(1).min(8);
    (AGAIN_MS << doublings).min(AGAIN_MAX_MS)
}

/// What is frozen is let go: no swap is on its way that would count on it, or this would not have
/// been asked. A freeze of an earlier term is, too.
fn give_up(cx: &Context<'_>, one: &Move, s: Side<'_>, giver: &Said, plan: &mut Plan) {
    let number = match (giver.frozen, cx.observed.attempts.get(&one.id)) {
        (Some(frozen), _) => frozen.number,
        // It may be frozen without having said so yet.
        (None, Some(attempt)) if !attempt.is_given_up => attempt.number,
        (None, _) => return,
    };
    plan.hurry(&[Some(s)]);
    plan.order(cx, s, one, Order::Thaw { number });
}

/// The slots change their owner.
fn own(
    cx: &Context<'_>,
    one: &Move,
    (s, d): (Side<'_>, Side<'_>),
    (at, sequence): (api::grant::Least, u64),
    plan: &mut Plan,
) {
    let mut record = cx.record.next();
    give::give(&mut record, one);
    let version = record.version;
    let (epoch, process) = (s.shard.epoch.number, s.shard.epoch.nonce.clone());
    if let Some(next) = record.moves.get_mut(one.id) {
        next.phase = Phase::Owned { at, version, epoch, process };
    }
    let floor = Floor { epoch: d.shard.epoch.number, id: d.shard.epoch.id, sequence };
    if let Some(place) = record.place_of(one.to) {
        record.shards[place].floor = Some(floor);
    }
    let (id, slots, to) = (one.id, one.slots.clone(), one.to);
    record.moves.has_come(Came { id, slots, to, floor });
    plan.swap(record, format!("move {}: shard {} owns {}", one.id, one.to, one.slots));
}

/// Nothing can go back from here on: the giver is sealed, the taker opens, the giver forgets.
fn finish(cx: &Context<'_>, one: &Move, plan: &mut Plan) {
    let Phase::Owned { at, version, epoch, ref process } = one.phase else { return };
    let (s, d) = (cx.side(one.from), cx.side(one.to));
    let giver = s.map(|s| s.said_of(one)).unwrap_or_else(|| Said::nothing(one.id));
    let taker = d.map(|d| d.said_of(one)).unwrap_or_else(|| Said::nothing(one.id));
    // A later epoch names a topology that gives the slots away. A failover opens it after a fence
    // of the earlier one's process; a switchover before that, and one that goes back opens it for
    // that very process, which serves as ever until it has heard of it.
    let is_over = cx.shard(one.from).is_none_or(|from| {
        let is_fenced = from.fence.is_none() && (from.epoch.nonce != *process || s.is_some());
        from.epoch.number > epoch && is_fenced
    });
    let is_left = matches!(giver.mark, Some(Mark::Gone { .. }));
    let is_open = taker.mark == Some(Mark::Held);
    if !is_over && !giver.is_sealed && !is_left && !is_open {
        plan.hurry(&[s]);
        if let Some(s) = s {
            plan.order(cx, s, one, Order::Seal);
        }
        return plan.waits(one, "the giver to answer for the slots no more");
    }
    if !is_open {
        plan.hurry(&[d]);
        if let Some(d) = d {
            plan.order(cx, d, one, Order::Open { at, version });
        }
        return plan.waits(one, "the taker to open");
    }
    let Some(s) = s else { return plan.waits(one, "the giver to answer") };
    match giver.mark {
        Some(Mark::Gone { is_empty: true }) if giver.is_committed => {
            let mut record = cx.record.next();
            record.moves.conclude(one.id, None);
            plan.swap(record, format!("move {}: done", one.id));
        }
        Some(Mark::Gone { is_empty: true }) => plan.waits(one, GIVERS_REPLICAS),
        Some(Mark::Gone { is_empty: false }) => {
            // Its hold ends with this, where it is not over yet.
            plan.order(cx, s, one, Order::Leave { version });
            if taker.is_committed && taker.is_synced {
                plan.order(cx, s, one, Order::Clean);
            }
            plan.waits(one, "the giver to delete what is gone");
        }
        _ => {
            plan.hurry(&[Some(s)]);
            plan.order(cx, s, one, Order::Leave { version });
            plan.waits(one, "the giver to note that the slots are gone");
        }
    }
}

/// It is given up: nothing has moved.
fn undo(cx: &Context<'_>, one: &Move, (why, again): (&str, bool), plan: &mut Plan) {
    let Some(s) = cx.side(one.from) else { return plan.waits(one, "the giver to answer") };
    // What is sealed is no freeze of this move, and what is another one's is thawed for that one.
    let giver = s.said_of(one);
    if let Some(Frozen { number, .. }) = giver.frozen.filter(|_| !giver.is_sealed) {
        plan.hurry(&[Some(s)]);
        plan.order(cx, s, one, Order::Thaw { number });
        return plan.waits(one, "the giver to take writes again");
    }
    let Some(d) = cx.side(one.to) else { return plan.waits(one, "the taker to answer") };
    let taker = d.said(one.id);
    // Also where nothing was staged: it might yet begin, by an order that is late. It cannot where
    // the number is another move's, be it by what is sealed alone, or what it brought is held:
    // nothing of it is staged there.
    let is_anothers = taker.mark.is_none() && taker.is_sealed && !d.knows(one);
    let has_ended = is_anothers || matches!(taker.mark, Some(Mark::Held | Mark::Gone { .. }));
    if !has_ended && (taker.mark.is_none() || d.knows(one)) {
        plan.order(cx, d, one, Order::Drop);
        return plan.waits(one, "the taker to delete what is staged");
    }
    // Without a mark there is none that they could lack.
    if !is_anothers && !taker.is_committed {
        return plan.waits(one, TAKERS_REPLICAS);
    }
    let mut record = cx.record.next();
    if again && one.tries < TRIES_MAX {
        // Of another number: what was ordered for this one does not concern it.
        let id = record.moves.again(one.id, why);
        return plan.swap(record, format!("move {}: queued again as {id}: {why}", one.id));
    }
    record.moves.conclude(one.id, Some(why.to_owned()));
    plan.swap(record, format!("move {}: given up: {why}", one.id));
}
