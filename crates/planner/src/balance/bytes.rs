//! Even shares by what slots weigh.
//!
//! Shards that are heavier or lighter than the mean by more than a tolerance are brought into it,
//! by the least that has to move for that; the others give or take only what these need. A transfer
//! may miss what it is to bring by a *slack*: a fortieth of the tolerance, or half a slot of the
//! mean weight where that is more.
//!
//! Invariants: what moves is more than the least possible by no more than seven slacks a shard;
//! a shard that is within the tolerance stays there, and no other gets further away, but for slots
//! that are heavier than a slack; of a shard too heavy by one slot alone, that slot stays.

use api::moves::Weights;

use super::{Given, Refusal, Share, count, cut, joined, settle, shares, transfers};
use crate::{Record, ShardId};

/// How far from the mean a shard may be unless somebody says otherwise, percent of it.
pub const TOLERANCE: u32 = 5;
/// What may be said at most.
pub const TOLERANCE_MAX: u32 = 50;

/// Slacks of a tolerance.
const SLACKS: u64 = 40;
/// By so many slacks less than the tolerance is aimed at: by rounding, and by what transfers miss.
const MARGIN: u64 = 4;
/// Ranges that are cut for one transfer, to come closer to what it is to bring.
const CUTS_MAX: usize = 4;
/// Ranges of one transfer.
const PIECES_MAX: usize = 1_024;

fn slots_of(ranges: &[(u16, u16)]) -> impl Iterator<Item = u16> + '_ {
    ranges.iter().flat_map(|&(first, last)| first..=last)
}

/// What each shard weighs once all moves are done.
pub fn loads(record: &Record, weights: &Weights) -> Vec<(ShardId, u64)> {
    let load = |share: &Share| {
        let coming = record.moves.list.iter().filter(|one| one.to == share.id);
        let coming = weights.sum(coming.flat_map(|one| one.slots.iter()));
        (share.id, coming.saturating_add(weights.sum(slots_of(&share.free))))
    };
    shares(record).iter().map(load).collect()
}

/// The moves after which no shard is heavier or lighter than the mean by more than `tolerance`
/// percent of it, as far as whole slots allow.
pub fn even_bytes(record: &Record, weights: &Weights, tolerance: u32) -> Vec<Given> {
    let mut shares = shares(record);
    let loads: Vec<u64> = loads(record, weights).into_iter().map(|(_, load)| load).collect();
    let total = sum(&loads);
    let mean = total / (loads.len() as u64).max(1);
    let off = share_of(mean, tolerance);
    if loads.iter().all(|load| load.abs_diff(mean) <= off) {
        return Vec::new();
    }
    let slack = (off / SLACKS).max(total / u64::from(topology::SLOT_COUNT) / 2);
    let aim = off.saturating_sub(MARGIN * slack);
    let targets = targets(&loads, (mean.saturating_sub(aim), mean.saturating_add(aim)));
    let mut balances: Vec<i64> = (shares.iter().zip(loads.iter().zip(&targets)))
        .map(|(share, (load, target))| {
            // What is on its way to it can only go on from there once it has arrived.
            (signed(*load) - signed(*target)).min(signed(weights.sum(slots_of(&share.free))))
        })
        .collect();
    settle(&mut balances);
    let unit = slack.max(1);
    round(&mut balances, signed(unit));
    let mut given = Vec::new();
    // By how much each has given or got more than it was to; less than nothing: less.
    let mut beyond = vec![0_i64; shares.len()];
    for (from, to, units) in transfers(&balances) {
        let planned = count(units).saturating_mul(signed(unit));
        // One of the two is in its first transfer, and bears half of what the other is off by.
        let wanted = planned - (beyond[from] + beyond[to]) / 2;
        let need = u64::try_from(wanted).unwrap_or(0);
        let (pieces, bytes) = pick(&mut shares[from].free, weights, need, slack);
        for party in [from, to] {
            beyond[party] += signed(bytes) - planned;
        }
        given.extend(cut(pieces, shares[from].id, shares[to].id));
    }
    given
}

/// The moves after which a shard has no slots, and those that were the lightest weigh as much as
/// each other: its slots go to them, to each of them neighbours.
///
/// # Errors
/// As [`super::drain`], which it is where the shard weighs nothing.
pub fn drain_bytes(record: &Record, weights: &Weights, id: ShardId) -> Result<Vec<Given>, Refusal> {
    let place = record.place_of(id).ok_or(Refusal::Unknown(id))?;
    let left: Vec<u16> = slots_of(&shares(record)[place].free).collect();
    let all = weights.sum(left.iter().copied());
    if record.shards.len() < 2 || all == 0 {
        return super::drain(record, id);
    }
    let others = loads(record, weights).into_iter().filter(|(of, _)| *of != id);
    let mut others: Vec<(u64, ShardId)> = others.map(|(of, load)| (load, of)).collect();
    others.sort_unstable();
    let needs = |level: u64| {
        let each: Vec<u64> = others.iter().map(|(load, _)| level.saturating_sub(*load)).collect();
        sum(&each)
    };
    let level = largest((0, u64::MAX), |level| needs(level) <= all);
    let takers = others.iter().filter(|(load, _)| *load <= level).count();
    let mut slots = left.into_iter().peekable();
    let (mut given, mut due, mut got) = (Vec::new(), 0_u64, 0_u64);
    for (rank, (load, to)) in others.into_iter().take(takers).enumerate() {
        due = due.saturating_add(level - load);
        let mut its = Vec::new();
        let is_last = rank + 1 == takers;
        // The slot at the border goes where more than half of it is due.
        while let Some(slot) =
            slots.next_if(|slot| is_last || got.saturating_add(weights.of(*slot) / 2) < due)
        {
            got = got.saturating_add(weights.of(slot));
            its.push(slot);
        }
        given.extend(cut(joined(its), id, to));
    }
    Ok(given)
}

fn share_of(bytes: u64, percent: u32) -> u64 {
    u64::try_from(u128::from(bytes) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

fn sum(all: &[u64]) -> u64 {
    all.iter().copied().fold(0, u64::saturating_add)
}

/// No disks are so large that it would be another number.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What each is to weigh: between the bounds, and the nearest to what it weighs that all can have
/// at once. Where the light ones need more than the heavy ones have to give, the heaviest of the
/// others give it; where these give more, the lightest take it.
fn targets(loads: &[u64], (low, high): (u64, u64)) -> Vec<u64> {
    let total = sum(loads);
    let within: Vec<u64> = loads.iter().map(|load| (*load).clamp(low, high)).collect();
    let bound = |load: u64, bound: u64| match sum(&within) > total {
        true => load.min(bound),
        false => load.max(bound),
    };
    let all = |by: u64| within.iter().map(|load| bound(*load, by)).collect::<Vec<u64>>();
    all(largest((low, high), |by| sum(&all(by)) <= total))
}

/// The largest number between the two for which it is so, if it is so for all below that.
fn largest((mut low, mut high): (u64, u64), is_so: impl Fn(u64) -> bool) -> u64 {
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if is_so(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

/// Makes units of bytes, as many given as taken: parties make up for each other more often then,
/// which saves moves. Each is less than a unit from what it was.
fn round(balances: &mut [i64], unit: i64) {
    let mut order: Vec<usize> = (0..balances.len()).filter(|at| balances[*at] != 0).collect();
    order.sort_by_key(|at| std::cmp::Reverse(balances[*at].rem_euclid(unit)));
    for balance in balances.iter_mut() {
        *balance = balance.div_euclid(unit);
    }
    let missing = -balances.iter().sum::<i64>();
    for at in order.into_iter().take(usize::try_from(missing).unwrap_or(0)) {
        balances[at] += 1;
    }
}

/// A part of one of the ranges.
struct Piece {
    /// Of which.
    range: usize,
    slots: (u16, u16),
    bytes: u64,
}

/// Takes slots that weigh `need`, give or take `slack`, out of the ranges, in few pieces; and says
/// what they weigh. It is less where those that are left are too heavy, and never more.
fn pick(
    ranges: &mut Vec<(u16, u16)>,
    weights: &Weights,
    need: u64,
    slack: u64,
) -> (Vec<(u16, u16)>, u64) {
    let (mut taken, mut bytes, mut cuts) = (Vec::new(), 0_u64, 0);
    while need.saturating_sub(bytes) > slack && taken.len() < PIECES_MAX && cuts < CUTS_MAX {
        let left = need - bytes;
        let Some(piece) = best(ranges, weights, left, slack) else { break };
        let Piece { range, slots: (first, last), .. } = piece;
        let (start, end) = ranges[range];
        cuts += usize::from((first, last) != (start, end));
        let before = (start < first).then(|| (start, first - 1));
        let after = (last < end).then(|| (last + 1, end));
        ranges.splice(range..=range, before.into_iter().chain(after));
        bytes += piece.bytes;
        taken.push((first, last));
    }
    taken.sort_unstable();
    (taken, bytes)
}

/// The piece that ends the search with the fewest ranges left behind, else the heaviest. A little
/// less than is left is better than a little more.
fn best(ranges: &[(u16, u16)], weights: &Weights, left: u64, slack: u64) -> Option<Piece> {
    let enough = left.saturating_sub(slack);
    let exact = heaviest(ranges, weights, left, enough).filter(|piece| piece.bytes >= enough);
    exact.or_else(|| heaviest(ranges, weights, left.saturating_add(slack), enough))
}

fn heaviest(ranges: &[(u16, u16)], weights: &Weights, most: u64, enough: u64) -> Option<Piece> {
    let pieces = ranges.iter().enumerate().flat_map(|(range, &bounds)| {
        windows(bounds, weights, most).map(move |(slots, bytes)| Piece { range, slots, bytes })
    });
    let rank = |piece: &Piece| {
        let (start, end) = ranges[piece.range];
        let (first, last) = piece.slots;
        let edges = u64::from(first == start) + u64::from(last == end);
        let is_enough = piece.bytes >= enough;
        let by = if is_enough { (edges, piece.bytes) } else { (piece.bytes, edges) };
        (is_enough, by, std::cmp::Reverse(piece.slots))
    };
    let best = pieces.filter(|piece| piece.bytes > 0).max_by_key(rank)?;
    Some(trimmed(best, ranges, weights))
}

/// Of each slot of a range the most slots from there on that weigh no more than `most`.
fn windows(
    (start, end): (u16, u16),
    weights: &Weights,
    most: u64,
) -> impl Iterator<Item = ((u16, u16), u64)> + '_ {
    // Behind the newest window, and its bytes.
    let (mut next, mut bytes) = (u32::from(start), 0_u64);
    (start..=end).filter_map(move |first| {
        if next < u32::from(first) {
            (next, bytes) = (u32::from(first), 0);
        }
        while let Some(slot) = u16::try_from(next).ok().filter(|slot| *slot <= end) {
            let Some(more) = bytes.checked_add(weights.of(slot)).filter(|sum| *sum <= most) else {
                break;
            };
            (next, bytes) = (next + 1, more);
        }
        let last = u16::try_from(next.checked_sub(1)?).ok().filter(|last| *last >= first)?;
        let window = ((first, last), bytes);
        bytes = bytes.saturating_sub(weights.of(first));
        Some(window)
    })
}

/// Without slots at a cut that weigh nothing: they need not move.
fn trimmed(piece: Piece, ranges: &[(u16, u16)], weights: &Weights) -> Piece {
    let (start, end) = ranges[piece.range];
    let (mut first, mut last) = piece.slots;
    while last < end && last > first && weights.of(last) == 0 {
        last -= 1;
    }
    while first > start && first < last && weights.of(first) == 0 {
        first += 1;
    }
    Piece { slots: (first, last), ..piece }
}
