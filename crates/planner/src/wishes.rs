//! What users of nodes wish for their slots: a front door to the queue of moves, as REST is one.
//!
//! A node tells of its wishes in its answers until it has heard what becomes of them. Each is taken
//! into the queue as a whole, in one compare-and-swap, or refused with the reason. What was taken
//! is known by the name that it has in the record, so it is taken once, whatever controller hears
//! of it however often; what is refused is judged anew each time, until the node has heard it.

use api::moves::wish::{Fate, Part, PartId, Stage, Told, Wish, Wished};

use crate::context::{Context, Health};
use crate::moves::{Move, Phase, QUEUE_MAX};
use crate::{Node, Plan, Record, balance, moving};

/// What a node is told of a wish that was taken and is not in the record.
const UNKNOWN: &str = "it was taken, and the controller knows nothing of it any more: \
                       `holdfast ctl moves` shows what there is";

/// What is to be said of all wishes, and a change of the record, if one wants it.
pub(crate) fn decide(cx: &Context<'_>, is_free: bool, plan: &mut Plan) -> Option<(Record, String)> {
    let mut swap = None;
    for (_, node) in cx.record.nodes() {
        // What a node said that is gone is nobody's wish any more: it may have been given up since.
        let reply = cx.reply(&node.id).filter(|reply| reply.myid == node.id);
        let Some(reply) = reply.filter(|_| cx.health(&node.id) == Health::Up) else { continue };
        let mut all: Vec<(bool, Told)> = Vec::new();
        for wished in &reply.wishes {
            let told = match answer(cx.record, wished) {
                Some(told) => told,
                // Another store led meanwhile, or a build that drops the name: it may be done.
                None if wished.is_heard => vec![refused(wished, UNKNOWN.to_owned())],
                None => match carried_out(cx, node, wished) {
                    Err(why) => vec![refused(wished, why)],
                    Ok(change) => {
                        // One change of the record at a time: it is looked at again after that.
                        swap.get_or_insert(change);
                        continue;
                    }
                },
            };
            let is_news = !wished.is_heard || told.iter().all(|told| told.fate.is_end());
            if is_news {
                cx.ask(&node.id, plan);
            }
            all.extend(told.into_iter().map(|told| (is_news, told)));
        }
        if all.is_empty() {
            continue;
        }
        // It may be more than a heartbeat has place for. A wish that is new, or over, is told of as
        // a whole, and no more once it is heard: the others have their turn then.
        all.sort_by_key(|(is_news, told)| (!is_news, !is_news && !told.fate.is_end()));
        let told = all.into_iter().map(|(_, told)| told);
        plan.told.entry(node.id.clone()).or_default().extend(told);
    }
    swap.filter(|_| is_free)
}

fn refused(wished: &Wished, why: String) -> Told {
    Told { id: wished.id, fate: Fate::Refused(why) }
}

/// What has become of it, as the record says; `None`: nothing yet.
fn answer(record: &Record, wished: &Wished) -> Option<Vec<Told>> {
    match &wished.wish {
        Wish::Move(parts) => {
            let ids = (0..=u8::MAX).zip(parts).map(|(number, _)| wished.id.part(number));
            let told: Vec<Told> = ids.filter_map(|id| of_part(record, id)).collect();
            (!told.is_empty()).then_some(told)
        }
        Wish::Cancel(ids) => {
            let is_left = record.moves.list.iter().any(|one| is_to_cancel(one, ids));
            (!is_left).then(|| vec![Told { id: wished.id, fate: Fate::Done }])
        }
    }
}

/// A part may be several moves: one from each shard that gives. It is as far as the last of them.
fn of_part(record: &Record, id: PartId) -> Option<Told> {
    let is_of = |wish: Option<PartId>| wish == Some(id);
    let left = record.moves.list.iter().filter(|one| is_of(one.wish));
    let stages = left.map(|one| Stage::of(one.phase.word()));
    if let Some(stage) = stages.min() {
        return Some(Told { id, fate: Fate::Taken(stage) });
    }
    let mut over = record.moves.done.iter().filter(|past| is_of(past.wish)).peekable();
    over.peek()?;
    let fate = match over.find_map(|past| past.error.clone()) {
        Some(why) => Fate::Failed(why),
        None => Fate::Done,
    };
    Some(Told { id, fate })
}

fn is_to_cancel(one: &Move, ids: &[PartId]) -> bool {
    let is_over = matches!(one.phase, Phase::Owned { .. } | Phase::Drop { again: false, .. });
    one.wish.is_some_and(|wish| ids.contains(&wish)) && !is_over
}

/// The record with what is wished, and why it is changed.
///
/// # Errors
/// Why nothing of it is done.
fn carried_out(cx: &Context<'_>, node: &Node, wished: &Wished) -> Result<(Record, String), String> {
    let mut record = cx.record.next();
    let asked = format!("asked for at node {}", node.local);
    match &wished.wish {
        Wish::Move(parts) => {
            for (number, part) in (0..=u8::MAX).zip(parts) {
                queue(cx, &mut record, part, wished.id.part(number))?;
            }
            let one = |Part { slots, to }: &Part| format!("slots {slots} are to move to {to}");
            let parts: Vec<String> = parts.iter().map(one).collect();
            Ok((record, format!("{}: {asked}", parts.join(", "))))
        }
        Wish::Cancel(ids) => {
            let of = record.moves.list.iter().filter(|one| is_to_cancel(one, ids));
            let all: Vec<_> = of.map(|one| one.id).collect();
            for id in &all {
                record.moves.cancel(*id)?;
            }
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            Ok((record, format!("move {} cancelled: {asked}", all.join(", "))))
        }
    }
}

/// Queues the moves of a part: one from each shard that gives.
fn queue(cx: &Context<'_>, record: &mut Record, part: &Part, id: PartId) -> Result<(), String> {
    let Part { slots, to } = part;
    let taker = record.shards.iter().find(|shard| shard.node(to).is_some());
    let taker = taker.ok_or_else(|| format!("node {to} is not of this cluster"))?.id;
    let given = balance::to(record, slots, taker).map_err(|refusal| refusal.to_string())?;
    if record.moves.list.len() + given.len() > QUEUE_MAX {
        return Err(format!("more than {QUEUE_MAX} moves would be queued"));
    }
    for one in given {
        for shard in [one.from, one.to] {
            moving::is_able(cx.record, cx.observed, shard)?;
        }
        let number = record.moves.queue(one.slots, one.from, one.to);
        if let Some(queued) = record.moves.get_mut(number) {
            queued.wish = Some(id);
        }
    }
    Ok(())
}
