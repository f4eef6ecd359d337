//! From which connections memory is taken, and when: decisions, without effect.
//!
//! In this order: those that hold more than their share wait; then connections are closed that hold
//! more than their share and make no progress, the slowest readers first. E.g. of a thousand
//! clients that ask for large values and never read them, those that have read nothing for longest
//! are closed until the others fit, and a client that reads is not among them.

use std::cmp::Reverse;

use super::held::soft;

/// A client that takes what it holds within so long, ms, is not slow.
const ALL_WITHIN: u64 = 30_000;

/// What a connection holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub id: u64,
    /// All of it, bytes.
    pub bytes: usize,
    /// Of that, what its client could read and has not, bytes.
    pub unread: usize,
    /// For so long, ms, it has neither read nor sent anything, or too little ([`still_since`]).
    pub still_ms: u64,
}

/// Since when, ms, a connection is still that was so since `since` and has moved so many bytes by
/// now, of those it holds: each counts for its part of the time it has for all of them. So one of
/// which a trickle is read becomes still as one of which nothing is.
pub fn still_since(since: u64, moved: u64, holds: usize, now_ms: u64) -> u64 {
    let holds = u64::try_from(holds).unwrap_or(u64::MAX).max(1);
    since.saturating_add(moved.saturating_mul(ALL_WITHIN) / holds).min(now_ms)
}

/// For how long connections may make no progress, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Whose client could read and does not.
    pub readers: u64,
    /// Others: they may wait for memory themselves.
    pub others: u64,
}

/// When connections hold `used` of `limit` bytes; `None` where nobody is closed.
pub fn patience_ms(used: usize, limit: usize) -> Option<Patience> {
    if limit == 0 || used < soft(limit) {
        None
    } else if used < limit {
        Some(Patience { readers: 5_000, others: 10_000 })
    } else if used < limit.saturating_add(limit / 4) {
        Some(Patience { readers: 500, others: 5_000 })
    } else {
        Some(Patience { readers: 0, others: 500 })
    }
}

/// The connections that are closed: as many as bring `used` bytes below three quarters of `limit`,
/// none that holds no more than its share.
pub fn choose(mut holders: Vec<Holder>, used: usize, limit: usize, share: usize) -> Vec<u64> {
    let Some(patience) = patience_ms(used, limit) else { return Vec::new() };
    // A client that does not read is at fault; one that sends much, or whose replies wait for
    // replicas, merely is in the way.
    let reads_too_little = |holder: &Holder| holder.unread > share;
    holders.retain(|holder| {
        let patience = if reads_too_little(holder) { patience.readers } else { patience.others };
        holder.bytes > share && holder.still_ms >= patience
    });
    holders.sort_unstable_by_key(|holder| {
        let is_first = Reverse(reads_too_little(holder));
        (is_first, Reverse(holder.still_ms), Reverse(holder.bytes), holder.id)
    });
    let mut left = used;
    let mut chosen = Vec::new();
    for holder in holders {
        if left < soft(limit) {
            break;
        }
        left = left.saturating_sub(holder.bytes);
        chosen.push(holder.id);
    }
    chosen
}

/// Whether the process, which takes `used` bytes, takes more than `total`. Once it does, until it
/// is a thirty-second below.
pub fn is_over(was_over: bool, used: u64, total: u64) -> bool {
    let bound = if was_over { total - total / 32 } else { total };
    total > 0 && used > bound
}

/// Whether pages that the process has freed are worth giving back: it is `resident` with more than
/// fifteen sixteenths of `total`, and a thirty-second of it is in no use.
pub fn is_worth_purging(resident: u64, used: u64, total: u64) -> bool {
    resident > total / 16 * 15 && resident.saturating_sub(used) > total / 32
}

/// How many bytes of the block cache are given up for other parts. `given`: those given up so far.
/// `block_cache`: its part. The cache gives way above fifteen sixteenths of `total`, and comes back
/// in steps below seven eighths.
pub fn give_way(given: u64, used: u64, total: u64, block_cache: u64) -> u64 {
    /// What it keeps: blocks that are being read are in it anyway.
    const KEPT: u64 = 8 << 20;
    let (high, low) = (total / 16 * 15, total / 8 * 7);
    if used > high {
        // What was given up already may not show yet, so this may be more than is needed.
        (given + (used - high)).min(block_cache.saturating_sub(KEPT))
    } else if used < low {
        given.saturating_sub(total / 64)
    } else {
        given
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::super::held::{even, share};
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn holder(id: u64, bytes: usize, unread: usize, still_ms: u64) -> Holder {
        Holder { id, bytes, unread, still_ms }
    }

    #[test]
    fn the_slowest_readers_are_closed_and_no_more_than_need_be() {
        let share = 1_000;
        let holders = vec![
            holder(1, 200_000, 200_000, 600),
            holder(2, 300_000, 300_000, 900),
            holder(3, 900_000, 0, 20_000),
            holder(4, 300_000, 300_000, 100),
            holder(5, 1_000, 1_000, 9_000),
        ];
        // Full: connections without progress for half a second are chosen, the one that is still
        // for longest first.
        assert_eq!(choose(holders.clone(), LIMIT + 1, LIMIT, share), [2]);
        assert_eq!(choose(holders.clone(), LIMIT + 200_000, LIMIT, share), [2, 1]);
        // Then those that are only in the way; never one within its share, or that moves.
        let all = LIMIT * 5 / 4 - 1;
        assert_eq!(choose(holders[..1].to_vec(), all, LIMIT, share), [1]);
        assert_eq!(choose(holders[2..].to_vec(), all, LIMIT, share), [3]);
        // A quarter above the limit nobody is waited for.
        assert_eq!(choose(holders[3..].to_vec(), LIMIT * 2, LIMIT, share), [4]);
        // With room none is closed; between three quarters and all of it, one that is still for
        // five seconds, or ten.
        assert_eq!(choose(holders.clone(), LIMIT / 2, LIMIT, share), [0_u64; 0]);
        assert_eq!(choose(holders, LIMIT - 1, LIMIT, share), [3]);
    }

    /// However memory is spread over connections: when all of it is in use and nobody moves, what
    /// is chosen brings it below three quarters. So nobody waits for ever.
    #[test]
    fn there_is_always_somebody_to_close() {
        for seed in 0..500 {
            let mut random = StdRng::seed_from_u64(seed);
            let count = random.random_range(1..20_usize);
            let mut left = LIMIT + random.random_range(0..LIMIT);
            let used = left;
            let mut holders = Vec::new();
            for id in 0..count {
                let is_last = id + 1 == count;
                let bytes = if is_last { left } else { random.random_range(0..=left) };
                left -= bytes;
                let unread = random.random_range(0..=bytes);
                holders.push(holder(id as u64, bytes, unread, 10_000));
            }
            let share = share(LIMIT, count);
            let chosen = choose(holders.clone(), used, LIMIT, share);
            let is_chosen = |holder: &&Holder| chosen.contains(&holder.id);
            let freed: usize = holders.iter().filter(is_chosen).map(|holder| holder.bytes).sum();
            assert!(used - freed < soft(LIMIT), "seed {seed}: {holders:?} {chosen:?}");
            assert!(holders.iter().filter(is_chosen).all(|holder| holder.bytes > share));
        }
    }

    #[test]
    fn of_more_connections_than_fit_some_are_closed_though_none_holds_much() {
        let holders = (0..100).map(|id| holder(id, 12_000, 0, 10_000)).collect();
        assert_eq!(choose(holders, 1_200_000, LIMIT, even(LIMIT, 100)).len(), 35);
    }

    #[test]
    fn a_trickle_is_no_progress_and_a_reply_that_is_read_in_its_time_is() {
        let after = |moved: u64, looks: u64| {
            (1..=looks).fold(0, |since, look| still_since(since, moved, 3 << 20, look * 100))
        };
        // 100 ms are 10 KiB of 3 MiB.
        assert_eq!(after(11 << 10, 100), 10_000);
        assert_eq!(after(5 << 10, 100), 4_800);
        assert_eq!(after(0, 100), 0);
        assert_eq!(still_since(7, u64::MAX, 0, 9), 9);
    }

    #[test]
    fn writes_are_refused_above_the_total_until_it_is_a_little_below() {
        let steps = [999, 1_001, 990, 970, 968, 1_000, 1_001];
        let mut is = false;
        let seen = steps.map(|used| {
            is = is_over(is, used, 1_000);
            is
        });
        assert_eq!(seen, [false, true, true, true, false, false, true]);
        assert!(!is_over(true, u64::MAX, 0), "without a total");
    }

    #[test]
    fn pages_are_given_back_where_the_process_is_large_and_much_of_it_is_free() {
        assert!(is_worth_purging(1_000, 900, 1_024));
        assert!(!is_worth_purging(900, 100, 1_024), "there is room");
        assert!(!is_worth_purging(1_000, 990, 1_024), "it is in use");
    }

    #[test]
    fn the_block_cache_gives_way_and_comes_back() {
        const MIB: u64 = 1 << 20;
        let total = 1024 * MIB;
        let after =
            |given: u64, used: u64| give_way(given * MIB, used * MIB, total, 208 * MIB) / MIB;
        assert_eq!(after(0, 960), 0);
        assert_eq!(after(0, 1_000), 40);
        assert_eq!(after(40, 970), 50);
        assert_eq!(after(50, 2_000), 200, "it keeps something");
        assert_eq!(after(200, 930), 200, "neither much nor little");
        assert_eq!(after(200, 890), 184);
        assert_eq!(after(8, 100), 0);
        assert_eq!(give_way(0, 2 * total, total, MIB), 0, "a cache of little has nothing to give");
    }
}
