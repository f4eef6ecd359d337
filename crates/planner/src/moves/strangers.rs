//! What is held back or staged for moves that are not under way by the record: by an order that
//! came late, or for a move of a store of later, of which this one knows nothing.

use api::moves::{Mark, MoveId, Order, Ordered, Said, Slots};

use super::{Context, Move, Phase, Plan, Side, Stranger};
use crate::{Record, Shard};

/// Lets go what no swap can rest on any more, and notes what a person should know of.
pub(super) fn look(cx: &Context<'_>, plan: &mut Plan) {
    for shard in &cx.record.shards {
        let Some(side) = cx.side(shard.id) else { continue };
        let held = side.answer.said.values().filter(|said| said.frozen.is_some() || said.is_sealed);
        for said in held.filter(|said| !is_known(cx, said)) {
            judge(cx, side, said, plan);
        }
        // The record is raised above what a store of later has told first.
        if side.answer.version <= cx.record.version {
            let left = side.answer.said.values().filter(|said| is_nobodys(cx, side, said));
            left.for_each(|said| forget(cx, side, said, plan));
        }
    }
}

/// What is staged for a number that is not in the list.
pub(crate) fn left<'s>(record: &Record, said: &'s Said) -> Option<&'s Slots> {
    let is_staged = matches!(said.mark, Some(Mark::Staged { .. }));
    let is_known = record.moves.list.iter().any(|one| one.id == said.id);
    said.slots.as_ref().filter(|_| is_staged && !is_known)
}

/// Some of the slots are the shard's.
pub(crate) fn owns_any(shard: &Shard, slots: &Slots) -> bool {
    let meets = |&(a, b): &(u16, u16)| shard.slot_ranges.iter().any(|&(c, d)| a <= d && c <= b);
    slots.ranges().iter().any(meets)
}

/// Nobody will come for it, and it is not the only copy. It may be where the shard owns it: its
/// master has then taken over without the mark of one that had opened.
fn is_nobodys(cx: &Context<'_>, side: Side<'_>, said: &Said) -> bool {
    let Some(slots) = left(cx.record, said) else { return false };
    let is_whole = matches!(said.mark, Some(Mark::Staged { is_whole: true, .. }));
    // The copy of a move of all of them begins empty. One of some would leave the others where no
    // order reaches them any more.
    let covers = |one: &Move| slots.iter().all(|slot| one.slots.contains(slot));
    let is_wanted = cx.record.moves.list.iter().any(covers) || owns_any(side.shard, slots);
    let may_be_only_copy = is_whole && may_be_given(cx, said.id, slots);
    !is_wanted && !may_be_only_copy
}

/// What is whole may have been given away by a swap that this record lacks: then its giver, which
/// is an owner by this record, knows the number, and is sealed or may have deleted what it had. Of
/// slots that nobody owns the giver has left, and is not there to be asked.
fn may_be_given(cx: &Context<'_>, id: MoveId, slots: &Slots) -> bool {
    let knows = |side: Side<'_>| match side.answer.said.get(&id) {
        Some(said) => said.mark.is_some() || said.is_sealed,
        None => side.answer.newest >= id,
    };
    let is_owned = |slot: u16| {
        let mut ranges = cx.record.shards.iter().flat_map(|shard| &shard.slot_ranges);
        ranges.any(|&(first, last)| (first..=last).contains(&slot))
    };
    let mut owners = cx.record.shards.iter().filter(|shard| owns_any(shard, slots));
    owners.any(|owner| cx.side(owner.id).is_none_or(knows)) || !slots.iter().all(is_owned)
}

/// A node obeys nothing of a move whose slots have a later mark: it is told before it is told to
/// begin another one.
fn forget(cx: &Context<'_>, side: Side<'_>, said: &Said, plan: &mut Plan) {
    let Some(slots) = said.slots.clone() else { return };
    let ordered = Ordered { id: said.id, slots, term: cx.observed.term, order: Order::Drop };
    plan.orders.insert(0, (side.node.to_owned(), ordered));
}

/// It is held back for a move of the record, which its steps decide about.
fn is_known(cx: &Context<'_>, said: &Said) -> bool {
    let is_of = |one: &&Move| one.id == said.id;
    cx.record.moves.list.iter().find(is_of).is_some_and(|one| {
        let is_own = said.slots.as_ref().is_none_or(|slots| *slots == one.slots);
        is_own
            && match one.phase {
                // Of this record nobody has asked for it yet.
                Phase::Queued => false,
                // What is sealed was so by a swap that this record lacks: no order thaws it.
                Phase::Copy | Phase::Drop { .. } => !said.is_sealed,
                Phase::Owned { .. } => true,
            }
    })
}

/// No swap of its number can be under way: this record has none, and a controller that rested on
/// another one is heard no more by this master, which has answered this term. Nor has a taker
/// opened for it: that one waits for the seal, or for the end of this epoch. A topology that is
/// newer than the record may have come from a swap that the record lacks: a person sees it first.
fn judge(cx: &Context<'_>, side: Side<'_>, said: &Said, plan: &mut Plan) {
    let past = cx.record.moves.done.iter().find(|past| past.id == said.id);
    let past = past.filter(|past| said.slots.as_ref().is_none_or(|slots| *slots == past.slots));
    let slots = said.slots.clone().or_else(|| past.map(|past| past.slots.clone()));
    let is_past = past.is_some() || side.answer.version <= cx.record.version;
    if let (Some(frozen), Some(slots), true, false) = (said.frozen, &slots, is_past, said.is_sealed)
    {
        let order = Order::Thaw { number: frozen.number };
        let ordered = Ordered { id: said.id, slots: slots.clone(), term: cx.observed.term, order };
        plan.urgent.insert(side.node.to_owned());
        plan.orders.push((side.node.to_owned(), ordered));
    }
    if past.is_none() || said.is_sealed {
        let (node, is_sealed) = (side.node.to_owned(), said.is_sealed);
        plan.strangers.push(Stranger { node, id: said.id, slots, is_sealed });
    }
}
