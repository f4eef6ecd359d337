//! The copy between giver and taker: its next frame, and what the taker does with one.

use replication::slots::{Cursor, copy};

use super::Moving;
use super::world::{Entry, Records, World};

/// The giver, and the taker.
pub(super) fn ends(world: &World) -> (u8, u8) {
    let gives = world.shards[1].feeds.is_some();
    if gives { (1, 0) } else { (0, 1) }
}

/// The next frame of the copy, if there is a stream and something to send.
pub(super) fn frame(model: &Moving, world: &mut World) -> Option<(copy::Head, Records)> {
    let (from, to) = ends(world);
    let (own, pulls) = {
        let taker = &world.shards[usize::from(to)];
        (taker.epoch.number, taker.pulls)
    };
    let giver = world.shard(from);
    let number = giver.epoch.number;
    let committed = if model.rules.acknowledged_only { giver.committed } else { giver.log.len() };
    let (id, epoch, sender) = giver.feeds.clone()?;
    let mut sender = sender?;
    let is_empty = world.shards[usize::from(to)].has_of_another_slot(id);
    let giver = world.shard(from);
    if pulls != Some((id, number)) || epoch != own {
        return None;
    }
    if sender.step(committed as u64) == copy::Step::Snapshot {
        sender.snapshot(giver.latest());
    }
    let made = match sender.step(committed as u64) {
        copy::Step::Forward { after, through } => {
            let (after, through) = (usize::try_from(after).ok()?, usize::try_from(through).ok()?);
            let below = sender.cursor().clone();
            let written = giver.log[after..through].iter().filter_map(|entry| match entry {
                Entry::Write(key, value) if below.is_above(&[*key]) && !is_empty => {
                    Some((*key, *value))
                }
                _ => None,
            });
            let records = written.collect();
            Some((sender.forwarded(giver.name(through as u64)), records))
        }
        copy::Step::Chunk { as_of } => {
            let data = giver.data(usize::try_from(as_of).ok()?);
            // A key at a time.
            let key = u8::from(*sender.cursor() != Cursor::Start);
            let data = data[usize::from(key)].filter(|_| !is_empty);
            let records = data.map(|value| (key, value)).into_iter().collect();
            let cursor = if key == 0 { Cursor::At(vec![1]) } else { Cursor::End };
            Some((sender.copied(giver.name(as_of), cursor), records))
        }
        copy::Step::Snapshot | copy::Step::Wait => None,
    };
    giver.feeds = Some((id, epoch, Some(sender)));
    made
}

/// The taker appends a frame, in one batch with its mark.
pub(super) fn stage(model: &Moving, world: &mut World, head: &copy::Head, records: Records) {
    let (from, to) = ends(world);
    let taker = world.shard(to);
    let table = taker.table();
    let known = table.of(head.id).filter(|mark| !table.is_newer(head.id, &mark.slots));
    let Some(Ok(mark)) = known.map(|mark| copy::staged(mark, head)) else {
        // The taker ends a stream of which it lacks something, and asks for another.
        world.shard(from).feeds = None;
        return;
    };
    if model.rules.mark_in_batch {
        taker.log.push(Entry::Staged(records, Some(mark)));
    } else {
        taker.log.push(Entry::Staged(records, None));
        taker.aside = Some(mark);
    }
}
