//! Which slots should go where: for an even share, to empty a shard, or as a person said.
//!
//! Pure, and it changes nothing: what comes of it is shown to people first, and then queued as it
//! was shown. What is on its way already counts where it goes to, and is left alone.
//!
//! Invariants: no slot moves that need not, and of all ways to do that one with the fewest moves is
//! taken (up to [`EXACT_MAX`] shards that give or take; above, at most one move fewer than shards).

use std::collections::BTreeMap;

use api::moves::{MoveId, RANGES_MAX, Slots};

use crate::{Record, ShardId};

mod bytes;
mod portions;

pub use bytes::{TOLERANCE, TOLERANCE_MAX, drain_bytes, even_bytes, loads};
pub use portions::{MOVE_BYTES, portions};

/// Shards among which the fewest moves are searched for; each more doubles the work.
const EXACT_MAX: usize = 16;

/// Slots that are to go from one shard to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Which.
    pub slots: Slots,
    /// The shard that gives.
    pub from: ShardId,
    /// The shard that takes.
    pub to: ShardId,
}

/// Why slots cannot be moved as somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Some have no owner.
    #[error("slots {0} belong to no shard")]
    Unowned(Slots),
    /// They belong to somebody else.
    #[error("slots {0} do not belong to shard {1}")]
    Other(Slots, ShardId),
    /// They are there.
    #[error("slots {0} belong to shard {1} already")]
    There(Slots, ShardId),
    /// They are in a move.
    #[error(
        "slots {0} are in move {1} already: `ctl moves` shows it, `ctl moves cancel {1}` ends it"
    )]
    UnderWay(Slots, MoveId),
    /// Named twice.
    #[error("slots {0} are named twice")]
    Twice(Slots),
    /// There is no such shard.
    #[error("shard {0}: not found")]
    Unknown(ShardId),
    /// Nobody could take them.
    #[error("there is no other shard that could take its slots: add one first, `ctl shard add`")]
    Alone,
}

/// Ranges of single slots, ascending.
pub(crate) fn joined(slots: impl IntoIterator<Item = u16>) -> Vec<(u16, u16)> {
    let mut slots: Vec<u16> = slots.into_iter().collect();
    slots.sort_unstable();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for slot in slots {
        match ranges.last_mut() {
            Some((_, last)) if slot <= last.saturating_add(1) => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    ranges
}

/// The first of them, if there are any: what a person is told of.
fn some(slots: impl IntoIterator<Item = u16>) -> Option<Slots> {
    let ranges = joined(slots);
    Slots::new(&ranges[..ranges.len().min(RANGES_MAX)]).ok()
}

fn owns(ranges: &[(u16, u16)], slot: u16) -> bool {
    ranges.iter().any(|&(first, last)| (first..=last).contains(&slot))
}

/// The moves by which these slots come to a shard, one for each that gives.
///
/// # Errors
/// When a slot has no owner, is there, or is in a move.
pub fn to(record: &Record, slots: &Slots, to: ShardId) -> Result<Vec<Given>, Refusal> {
    let taker = record.place_of(to).ok_or(Refusal::Unknown(to))?;
    is_free(record, slots)?;
    let there = slots.iter().filter(|slot| owns(&record.shards[taker].slot_ranges, *slot));
    if let Some(there) = some(there) {
        return Err(Refusal::There(there, to));
    }
    let mut given = Vec::new();
    let mut left: Vec<u16> = slots.iter().collect();
    for shard in &record.shards {
        let (of, rest): (Vec<u16>, Vec<u16>) =
            left.into_iter().partition(|slot| owns(&shard.slot_ranges, *slot));
        left = rest;
        given.extend(cut(joined(of), shard.id, to));
    }
    match some(left) {
        Some(unowned) => Err(Refusal::Unowned(unowned)),
        None => Ok(given),
    }
}

fn is_free(record: &Record, slots: &Slots) -> Result<(), Refusal> {
    let busy = record.moves.list.iter().find(|one| one.slots.meet(slots));
    let Some(one) = busy else { return Ok(()) };
    let both = some(slots.iter().filter(|slot| one.slots.contains(*slot)));
    Err(Refusal::UnderWay(both.unwrap_or_else(|| slots.clone()), one.id))
}

/// Whether these moves can be queued as the record is now.
///
/// # Errors
/// Why one of them cannot.
pub fn check(record: &Record, all: &[Given]) -> Result<(), Refusal> {
    for (index, Given { slots, from, to }) in all.iter().enumerate() {
        let giver = record.place_of(*from).ok_or(Refusal::Unknown(*from))?;
        record.place_of(*to).ok_or(Refusal::Unknown(*to))?;
        if from == to {
            return Err(Refusal::There(slots.clone(), *to));
        }
        is_free(record, slots)?;
        let ranges = &record.shards[giver].slot_ranges;
        if let Some(other) = some(slots.iter().filter(|slot| !owns(ranges, *slot))) {
            return Err(Refusal::Other(other, *from));
        }
        let before = all[..index].iter().find(|before| before.slots.meet(slots));
        if let Some(before) = before {
            let both = some(slots.iter().filter(|slot| before.slots.contains(*slot)));
            return Err(Refusal::Twice(both.unwrap_or_else(|| slots.clone())));
        }
    }
    Ok(())
}

/// What a shard has once all moves are done, and which of it may be moved now.
struct Share {
    id: ShardId,
    /// Slots, those on their way to it included.
    count: usize,
    /// Those that are in no move.
    free: Vec<(u16, u16)>,
}

fn shares(record: &Record) -> Vec<Share> {
    let mut moving: BTreeMap<u16, ShardId> = BTreeMap::new();
    for one in &record.moves.list {
        moving.extend(one.slots.iter().map(|slot| (slot, one.to)));
    }
    let coming = |id| moving.values().filter(|to| **to == id).count();
    let share = |shard: &crate::Shard| {
        let own = shard.slot_ranges.iter().flat_map(|&(first, last)| first..=last);
        let free: Vec<u16> = own.filter(|slot| !moving.contains_key(slot)).collect();
        let count = free.len() + coming(shard.id);
        Share { id: shard.id, count, free: joined(free) }
    };
    record.shards.iter().map(share).collect()
}

/// The moves after which all shards have the same number of slots, or one more.
pub fn even(record: &Record) -> Vec<Given> {
    let shares = shares(record);
    let total: usize = shares.iter().map(|share| share.count).sum();
    let base = total / shares.len().max(1);
    let mut targets = vec![base; shares.len()];
    // The shards that have most keep one more, so that it need not move.
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(shares[*index].count));
    for index in order.into_iter().take(total - base * shares.len()) {
        targets[index] += 1;
    }
    give(shares, &targets)
}

/// The moves after which a shard has no slots, and the others as equal a number as that allows.
///
/// # Errors
/// When there is no other shard, or none of that id.
pub fn drain(record: &Record, id: ShardId) -> Result<Vec<Given>, Refusal> {
    let place = record.place_of(id).ok_or(Refusal::Unknown(id))?;
    if record.shards.len() < 2 {
        return Err(Refusal::Alone);
    }
    let shares = shares(record);
    let mut targets: Vec<usize> = shares.iter().map(|share| share.count).collect();
    let mut left = shares[place].free.iter().map(|&(a, b)| usize::from(b - a) + 1).sum::<usize>();
    targets[place] -= left;
    // Poured into the emptiest: nothing moves among the others.
    while left > 0 {
        let others = (0..targets.len()).filter(|index| *index != place);
        let lowest = others.clone().map(|index| targets[index]).min().unwrap_or(0);
        let next = others.clone().map(|index| targets[index]).filter(|count| *count > lowest).min();
        let low: Vec<usize> = others.filter(|index| targets[*index] == lowest).collect();
        let up = next.map_or(left, |next| (next - lowest) * low.len()).min(left);
        for (rank, index) in low.iter().enumerate() {
            targets[*index] += up / low.len() + usize::from(rank < up % low.len());
        }
        left -= up;
    }
    Ok(give(shares, &targets))
}

/// The moves that bring each shard to its target.
fn give(mut shares: Vec<Share>, targets: &[usize]) -> Vec<Given> {
    let mut balances: Vec<i64> = (shares.iter().zip(targets))
        .map(|(share, target)| {
            let free = share.free.iter().map(|&(a, b)| i64::from(b - a) + 1).sum::<i64>();
            // What is on its way to it can only go on from there once it has arrived.
            (count(share.count) - count(*target)).min(free)
        })
        .collect();
    settle(&mut balances);
    let mut given = Vec::new();
    for (from, to, many) in transfers(&balances) {
        let slots = take(&mut shares[from].free, many);
        given.extend(cut(slots, shares[from].id, shares[to].id));
    }
    given
}

fn count(many: usize) -> i64 {
    i64::try_from(many).unwrap_or(i64::MAX)
}

/// As much is taken as is given.
fn settle(balances: &mut [i64]) {
    let mut excess = -balances.iter().sum::<i64>();
    for balance in balances.iter_mut().filter(|balance| **balance < 0) {
        let less = excess.clamp(0, -*balance);
        *balance += less;
        excess -= less;
    }
}

/// Transfers as (giver, taker, how many), as few as can be: parties that make up for each other
/// among themselves need one transfer fewer than there are of them, so as many such groups as can
/// be are found.
fn transfers(balances: &[i64]) -> Vec<(usize, usize, usize)> {
    let mut parties: Vec<usize> = (0..balances.len()).filter(|at| balances[*at] != 0).collect();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    if parties.len() > EXACT_MAX {
        // Pairs that fit are the groups that bring most.
        while let Some((one, other)) = pair(&parties, balances) {
            parties.retain(|party| *party != one && *party != other);
            groups.push(vec![one, other]);
        }
        groups.push(parties);
    } else {
        groups = most_groups(&parties, balances);
    }
    groups.iter().flat_map(|group| within(group, balances)).collect()
}

fn pair(parties: &[usize], balances: &[i64]) -> Option<(usize, usize)> {
    let fits = |one: usize| {
        let other = parties.iter().find(|other| balances[**other] == -balances[one]);
        other.map(|other| (one, *other))
    };
    parties.iter().find_map(|one| fits(*one))
}

/// By the best order to add party after party: each time that the sum is 0, a group is complete.
fn most_groups(parties: &[usize], balances: &[i64]) -> Vec<Vec<usize>> {
    let all = 1_usize << parties.len();
    let mut sums = vec![0_i64; all];
    for mask in 1..all {
        let lowest = mask.trailing_zeros() as usize;
        sums[mask] = sums[mask & (mask - 1)] + balances[parties[lowest]];
    }
    // Of each set of parties: how many groups, and who was added last.
    let mut best: Vec<(usize, usize)> = vec![(0, 0); all];
    for mask in 1..all {
        let bits = (0..parties.len()).filter(|bit| mask >> bit & 1 == 1);
        let last = bits.max_by_key(|bit| best[mask ^ 1 << bit].0).unwrap_or(0);
        best[mask] = (best[mask ^ 1 << last].0 + usize::from(sums[mask] == 0), last);
    }
    let (mut groups, mut group, mut mask) = (Vec::new(), Vec::new(), all - 1);
    while mask != 0 {
        if sums[mask] == 0 && !group.is_empty() {
            groups.push(std::mem::take(&mut group));
        }
        group.push(parties[best[mask].1]);
        mask ^= 1 << best[mask].1;
    }
    groups.push(group);
    groups
}

/// One after the other: each transfer ends at least one party.
fn within(group: &[usize], balances: &[i64]) -> Vec<(usize, usize, usize)> {
    let of = |sign: i64| {
        let parties = group.iter().filter(move |party| balances[**party] * sign > 0);
        parties.map(|party| (*party, balances[*party].unsigned_abs())).collect::<Vec<_>>()
    };
    let (mut givers, mut takers) = (of(1), of(-1));
    let mut all = Vec::new();
    while let (Some(giver), Some(taker)) = (givers.last_mut(), takers.last_mut()) {
        let many = giver.1.min(taker.1);
        all.push((giver.0, taker.0, usize::try_from(many).unwrap_or(0)));
        giver.1 -= many;
        taker.1 -= many;
        givers.retain(|giver| giver.1 > 0);
        takers.retain(|taker| taker.1 > 0);
    }
    all
}

/// Takes so many slots out of the ranges, in as few pieces as can be, from the ends of ranges.
fn take(ranges: &mut Vec<(u16, u16)>, many: usize) -> Vec<(u16, u16)> {
    let length = |&(first, last): &(u16, u16)| usize::from(last - first) + 1;
    let mut taken = Vec::new();
    let mut left = many;
    while left > 0 && !ranges.is_empty() {
        let enough = (0..ranges.len()).filter(|at| length(&ranges[*at]) >= left);
        // The shortest that is enough, else the longest.
        let at = enough.min_by_key(|at| length(&ranges[*at]));
        let at =
            at.or_else(|| (0..ranges.len()).max_by_key(|at| length(&ranges[*at]))).unwrap_or(0);
        let (first, last) = ranges[at];
        if length(&(first, last)) <= left {
            ranges.remove(at);
            taken.push((first, last));
            left -= length(&(first, last));
        } else {
            let cut = last - u16::try_from(left).unwrap_or(0);
            ranges[at] = (first, cut);
            taken.push((cut + 1, last));
            left = 0;
        }
    }
    taken.sort_unstable();
    taken
}

/// A move names only so many ranges.
fn cut(ranges: Vec<(u16, u16)>, from: ShardId, to: ShardId) -> Vec<Given> {
    let pieces = ranges.chunks(RANGES_MAX).filter_map(|piece| Slots::new(piece).ok());
    pieces.map(|slots| Given { slots, from, to }).collect()
}

#[cfg(test)]
mod sixteen;
#[cfg(test)]
mod tests;
