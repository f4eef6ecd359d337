//! A copy is a guest at both its sides (rule M16): how fast it may go there, by what clients and
//! the database feel meanwhile.
//!
//! Clients are to feel it by less than twice of what they took before: its share of the rate is
//! halved as soon as 99 of 100 commands take longer than one and three quarters of that, because
//! what is felt in a look is over when it is told. The share grows again by an eighth of the rate a
//! look, and while it is less than that, it doubles. So it settles where clients are still served
//! well, whatever it is that they wait for: processors, the disk, or replicas.
//!
//! Invariant: a copy always gets on, by a 32nd of its rate at least, unless the database itself is
//! about to hold writes back, or a replica that has just left would have to be copied anew for it.
//! What clients feel while it goes no faster than that is not its doing: after a while that is the
//! measure, until they feel less.

use api::moves::{Brake, Rate};

/// How often it is to be looked, ms.
pub const LOOK_MS: u64 = 500;
/// Of a rate.
const WHOLE: u32 = 1_024;
/// Where a copy begins after there was none: a small one is over before it is looked twice.
const START: u32 = WHOLE / 16;
/// Added by a look at which nothing is felt, at most.
const STEP: u32 = WHOLE / 8;
/// It goes no slower, nor slower than [`Rate::MIN`].
const LEAST: u32 = WHOLE / 32;
/// Looks at the least share after which what clients feel is taken for what they always do.
const LOOKS_AT_LEAST: u32 = 20;
/// Looks for which what clients told last counts while fewer commands come than tell anything: as
/// long as a window of a node that gathers them.
const LOOKS_UNSAID: u32 = 6;
/// No bound is below that, µs: twice of next to nothing is next to nothing.
const BOUND_MIN_US: u64 = 500;
/// The bound where nobody has seen the clients without a copy, µs.
const BOUND_UNKNOWN_US: u64 = 5_000;
/// What they feel without a copy is no more than that where only a copy that begins has seen them,
/// µs.
const CALM_UNKNOWN_US: u64 = 2_500;
/// Bytes that the in-sync set has not acknowledged; more of them are a set that does not follow.
const UNACKED_MAX: u64 = 1 << 20;

/// What was felt since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Felt {
    /// 99 of 100 commands took no longer, µs; `None`: there were too few to say.
    pub p99_us: Option<u64>,
    /// A bound for that, as an operator has set it; 0: none, it follows from what was before.
    pub bound_us: u64,
    /// The database slows writes down, or nearly does.
    pub is_pressed: bool,
    /// A replica is away for whose return the log has to reach back, and half of that is used up
    /// ([`Absence`]).
    pub is_replica_missed: bool,
    /// Bytes that the in-sync set has not acknowledged.
    pub unacked_bytes: u64,
}

/// How fast copies may go at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guest {
    /// What clients feel without a copy, µs.
    calm_us: Option<u64>,
    /// What they feel since they were slower beside the least share, µs.
    learned_us: Option<u64>,
    /// Of [`WHOLE`].
    share: u32,
    /// Looks in a row that found the least share to be too much.
    at_least: u32,
    /// Looks in a row at which there were too few commands to say.
    unsaid: u32,
    /// Seconds in a row without a copy.
    rests: u32,
    brake: Option<Brake>,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            calm_us: None,
            learned_us: None,
            share: START,
            at_least: 0,
            unsaid: 0,
            rests: 0,
            brake: None,
        }
    }
}

impl Guest {
    /// A second without any copy, and what clients felt.
    pub fn rest(&mut self, p99_us: Option<u64>) {
        // The parts of a large copy follow each other within moments: the next one need not begin
        // as if nothing was known.
        self.rests = self.rests.saturating_add(1);
        if self.rests > 1 {
            self.share = self.share.min(START.max(self.share / 2));
        }
        (self.at_least, self.unsaid, self.brake) = (0, 0, None);
        self.calm_us = self.learned_us.take().or(self.calm_us);
        if let Some(us) = p99_us {
            // The last seconds. A rush that has just ended is forgotten sooner than it is learned,
            // or a copy behind it would be felt and not brake.
            let mean = |calm: u64| match us < calm {
                true => calm / 2 + us / 2,
                false => calm.saturating_mul(7).saturating_add(us) / 8,
            };
            self.calm_us = Some(self.calm_us.map_or(us, mean));
        }
    }

    /// What 99 of 100 commands may take while something is copied, µs. `fixed_us`: as in [`Felt`].
    pub fn bound_us(&self, fixed_us: u64) -> u64 {
        if fixed_us > 0 {
            return fixed_us;
        }
        let more = |us: u64| us.saturating_add(us / 4 * 3).max(BOUND_MIN_US);
        self.learned_us.or(self.calm_us).map_or(BOUND_UNKNOWN_US, more)
    }

    /// What clients feel beside a copy is no less than what they feel without one.
    fn learn(&mut self, us: u64) {
        match (self.learned_us, self.calm_us) {
            (None, None) if self.share <= START => self.calm_us = Some(us.min(CALM_UNKNOWN_US)),
            // They were busy with something else before, and nobody was there to say so since. By
            // less than a quarter it is chance.
            (None, Some(calm)) if us < calm - calm / 4 => {
                self.calm_us = Some(calm - (calm - us) / 4);
            }
            (Some(learned), calm) if us < learned => {
                let less = learned - (learned - us) / 8;
                self.learned_us = Some(less).filter(|less| calm.is_none_or(|calm| *less > calm));
            }
            _ => {}
        }
    }

    /// To be called every [`LOOK_MS`] while something is copied.
    pub fn look(&mut self, felt: &Felt) {
        self.rests = 0;
        match felt.p99_us {
            Some(us) => {
                self.learn(us);
                self.unsaid = 0;
            }
            None => self.unsaid = self.unsaid.saturating_add(1),
        }
        let bound_us = self.bound_us(felt.bound_us);
        let is_slow = felt.p99_us.is_some_and(|us| us > bound_us);
        let is_behind = felt.unacked_bytes > UNACKED_MAX;
        // A few commands take a while to gather, and the copy is not to grow meanwhile.
        let is_still_slow =
            self.brake == Some(Brake::Latency) && (1..=LOOKS_UNSAID).contains(&self.unsaid);
        self.brake = match (felt.is_pressed, felt.is_replica_missed, is_slow, is_behind) {
            (true, ..) => Some(Brake::Engine),
            (_, true, ..) => Some(Brake::Replica),
            (_, _, true, _) => Some(Brake::Latency),
            (.., true) => Some(Brake::Set),
            _ => None,
        };
        if self.brake.is_some() {
            self.slow_down(felt.p99_us.filter(|_| is_slow));
        } else if is_still_slow {
            self.brake = Some(Brake::Latency);
        } else {
            self.at_least = 0;
            // Close to the bound it stays as it is.
            let is_near = felt.p99_us.is_some_and(|us| us > bound_us - bound_us / 4);
            if !is_near {
                self.share = (self.share + self.share.min(STEP)).min(WHOLE);
            } else if self.share < WHOLE {
                self.brake = Some(Brake::Latency);
            }
        }
    }

    /// `slow_us`: what clients felt, if that is why.
    fn slow_down(&mut self, slow_us: Option<u64>) {
        let is_at_least = self.share == LEAST;
        self.share = (self.share / 2).max(LEAST);
        self.at_least = if is_at_least && slow_us.is_some() { self.at_least + 1 } else { 0 };
        if self.at_least >= LOOKS_AT_LEAST {
            (self.learned_us, self.at_least) = (slow_us, 0);
        }
    }

    /// Bytes a second of a copy that may bring `most`; 0: nothing until the next look.
    pub fn bytes_per_s(&self, most: Rate) -> u64 {
        if matches!(self.brake, Some(Brake::Engine | Brake::Replica)) {
            return 0;
        }
        let most = most.bytes_per_s();
        let share = most / u64::from(WHOLE) * u64::from(self.share);
        share.max(Rate::MIN_BYTES_PER_S).min(most)
    }

    /// What keeps copies from their rate, as the last look found it.
    pub fn brake(&self) -> Option<Brake> {
        self.brake
    }
}

/// For so long a copy waits for a replica that is away, ms.
const AWAY_MS: u64 = 600_000;

/// Whether a replica is away that could go on from the log here, if a copy did not use that up: it
/// stops once half of it is gone, and goes on when the replica is back, or does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Absence {
    /// Since when, ms, and bytes of the log then.
    since: Option<(u64, u64)>,
}

impl Absence {
    /// To be called once a second, with the bytes that were ever appended to the log, and those of
    /// it that are kept; 0: it is not bounded by bytes. Whether a copy is to stop.
    pub fn look(&mut self, is_away: bool, (appended, kept): (u64, u64), now_ms: u64) -> bool {
        if !is_away {
            self.since = None;
            return false;
        }
        let (since_ms, from) = *self.since.get_or_insert((now_ms, appended));
        let is_long = now_ms.saturating_sub(since_ms) >= AWAY_MS;
        kept > 0 && !is_long && appended.saturating_sub(from) >= kept / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate::USUAL;
    const FULL: u64 = 64_000_000;

    fn calm(us: u64) -> Guest {
        let mut guest = Guest::default();
        (0..60).for_each(|_| guest.rest(Some(us)));
        guest
    }

    fn felt(p99_us: u64) -> Felt {
        Felt { p99_us: Some(p99_us), ..Felt::default() }
    }

    #[test]
    fn a_copy_nobody_feels_comes_to_its_whole_rate_and_stays_there() {
        let mut guest = calm(1_000);
        assert_eq!(guest.bytes_per_s(RATE), FULL / 16, "it begins slowly");
        guest.look(&felt(1_100));
        assert_eq!(guest.bytes_per_s(RATE), FULL / 8, "a small share doubles");
        for _ in 0..8 {
            guest.look(&felt(1_100));
        }
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (FULL, None));
        guest.look(&Felt::default());
        assert_eq!(guest.bytes_per_s(RATE), FULL, "few commands tell of nobody who suffers");
        guest.rest(None);
        assert_eq!(guest.bytes_per_s(RATE), FULL, "its next part follows at once");
        (0..5).for_each(|_| guest.rest(None));
        assert_eq!(guest.bytes_per_s(RATE), FULL / 16, "another one begins slowly again");
    }

    #[test]
    fn it_is_halved_before_clients_feel_twice_of_what_they_felt_before() {
        let mut guest = calm(2_000);
        assert_eq!(guest.bound_us(0), 3_500);
        (0..2).for_each(|_| guest.look(&felt(2_000)));
        assert_eq!(guest.bytes_per_s(RATE), FULL / 4);
        guest.look(&felt(3_501));
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (FULL / 8, Some(Brake::Latency)));
        guest.look(&felt(2_700));
        let held = (guest.bytes_per_s(RATE), guest.brake());
        assert_eq!(held, (FULL / 8, Some(Brake::Latency)), "close to the bound it stays");
        guest.look(&felt(2_600));
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (FULL / 4, None));
        // What an operator says counts instead.
        assert_eq!(guest.bound_us(2_000), 2_000);
        guest.look(&Felt { bound_us: 2_000, ..felt(2_600) });
        assert_eq!(guest.brake(), Some(Brake::Latency));
    }

    /// Fifty commands a second tell of 99 of 100 every two seconds.
    #[test]
    fn what_few_commands_told_last_counts_until_more_have_come() {
        let mut guest = calm(1_000);
        (0..4).for_each(|_| guest.look(&felt(1_000)));
        guest.look(&felt(9_000));
        let slowed = guest.bytes_per_s(RATE);
        for _ in 0..3 {
            guest.look(&Felt::default());
            assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (slowed, Some(Brake::Latency)));
        }
        guest.look(&felt(9_000));
        assert_eq!(guest.bytes_per_s(RATE), slowed / 2);
        // Nobody is left who could say.
        (0..LOOKS_UNSAID).for_each(|_| guest.look(&Felt::default()));
        assert_eq!(guest.bytes_per_s(RATE), slowed / 2);
        guest.look(&Felt::default());
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (slowed, None));
    }

    #[test]
    fn a_rush_before_the_copy_is_soon_forgotten_and_slowly_learned() {
        let mut guest = calm(20_000);
        (0..5).for_each(|_| guest.rest(Some(1_800)));
        assert_eq!(guest.bound_us(0), 2_368 + 2_368 / 4 * 3);
        let mut guest = calm(1_000);
        guest.rest(Some(9_000));
        assert_eq!(guest.bound_us(0), 3_500);
    }

    #[test]
    fn a_load_of_before_that_was_another_one_is_no_measure_for_long() {
        let mut guest = calm(50_000);
        (0..20).for_each(|_| guest.look(&felt(2_000)));
        assert!((3_500..5_000).contains(&guest.bound_us(0)), "{}", guest.bound_us(0));
        let mut guest = calm(2_000);
        (0..50).for_each(|_| guest.look(&felt(1_600)));
        assert_eq!(guest.bound_us(0), 3_500, "a little less is chance");
    }

    #[test]
    fn bounds_are_not_below_half_a_millisecond_and_something_where_nothing_is_known() {
        assert_eq!(Guest::default().bound_us(0), 5_000);
        assert_eq!(calm(20).bound_us(0), 500);
        let long = u64::MAX / 16;
        assert_eq!(calm(long).bound_us(0), long + long / 4 * 3);
        // Before a copy that begins there was nobody to ask; what comes first is no more than that.
        let mut guest = Guest::default();
        guest.look(&felt(800));
        assert_eq!((guest.bound_us(0), guest.brake()), (1_400, None));
        let mut guest = Guest::default();
        guest.look(&felt(900_000));
        assert_eq!((guest.bound_us(0), guest.brake()), (4_375, Some(Brake::Latency)));
    }

    #[test]
    fn it_never_stops_for_clients_alone_and_learns_what_is_not_its_doing() {
        let mut guest = calm(1_000);
        guest.look(&felt(9_000));
        assert_eq!(guest.bytes_per_s(RATE), FULL / 32);
        assert_eq!(guest.bytes_per_s(Rate::new(5).unwrap()), 1_000_000, "a MB a second at least");
        assert_eq!(guest.bytes_per_s(Rate::new(1).unwrap()), 1_000_000);
        // The load has become another one: as slow as they are at the least share is normal.
        for _ in 0..LOOKS_AT_LEAST {
            guest.look(&felt(9_000));
        }
        assert_eq!(guest.bound_us(0), 15_750);
        guest.look(&felt(9_000));
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (FULL / 16, None));
        // It was something that passes: what they felt before is the measure again.
        for _ in 0..20 {
            guest.look(&felt(1_000));
        }
        assert!(guest.bound_us(0) < 3_000, "{}", guest.bound_us(0));
        for _ in 0..80 {
            guest.look(&felt(900));
        }
        assert_eq!(guest.bound_us(0), 1_750, "and no less than that");
    }

    #[test]
    fn a_database_about_to_hold_writes_back_stops_it_and_a_set_that_lags_slows_it() {
        let mut guest = calm(1_000);
        (0..2).for_each(|_| guest.look(&felt(1_000)));
        assert_eq!(guest.bytes_per_s(RATE), FULL / 4);
        guest.look(&Felt { is_pressed: true, ..felt(1_000) });
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (0, Some(Brake::Engine)));
        guest.look(&felt(1_000));
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (FULL / 4, None));
        guest.look(&Felt { unacked_bytes: UNACKED_MAX + 1, ..felt(1_000) });
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (FULL / 8, Some(Brake::Set)));
        guest.look(&Felt { unacked_bytes: UNACKED_MAX, ..felt(1_000) });
        assert_eq!(guest.bytes_per_s(RATE), FULL / 4);
    }

    #[test]
    fn a_copy_stops_for_a_replica_that_has_left_and_not_for_ever() {
        let mut absence = Absence::default();
        assert!(!absence.look(false, (900, 100), 1_000));
        assert!(!absence.look(true, (1_000, 100), 2_000), "it has just left");
        assert!(!absence.look(true, (1_049, 100), 3_000));
        assert!(absence.look(true, (1_050, 100), 4_000), "half of the log");
        assert!(absence.look(true, (9_000, 100), 601_999));
        assert!(!absence.look(true, (9_000, 100), 602_000), "it does not come");
        assert!(!absence.look(false, (9_000, 100), 603_000));
        assert!(!absence.look(true, (9_000, 100), 604_000), "it has left anew");
        assert!(!absence.look(true, (99_000, 0), 605_000), "kept by time alone");
        let mut guest = calm(1_000);
        guest.look(&Felt { is_replica_missed: true, ..felt(1_000) });
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (0, Some(Brake::Replica)));
        guest.look(&felt(1_000));
        assert!(guest.bytes_per_s(RATE) > 0 && guest.brake().is_none());
    }

    /// From -100 to 100, always the same for a number.
    fn noise(number: u64) -> i64 {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        i64::try_from((mixed >> 32) % 201).unwrap() - 100
    }

    /// Clients whose latency rises with what is copied, by twice at some share of the rate, and is
    /// another one each time by some of a hundred: it settles below twice of theirs.
    #[test]
    fn it_settles_where_clients_are_served_well() {
        for (twice_at, of_a_hundred) in [(2, 0), (3, 0), (3, 15), (6, 15), (12, 0), (12, 15)] {
            let mut guest = calm(1_000);
            let (mut sum, mut above, mut waited) = (0, 0, 0);
            for look in 0..400_u64 {
                let us = 1_000 + 1_000 * guest.bytes_per_s(RATE) / (FULL / twice_at);
                let more = i64::try_from(us).unwrap() * noise(look) * of_a_hundred / 10_000;
                let us = us.saturating_add_signed(more);
                guest.look(&felt(us));
                if look >= 100 {
                    sum += guest.bytes_per_s(RATE);
                    above += u64::from(us > 2_000);
                    waited += us;
                }
            }
            let case = format!("{twice_at}, {of_a_hundred}: {sum} {above} {waited}");
            assert!(above <= 30, "{case}: above twice in no more than one of ten looks");
            assert!(waited / 300 < 1_800, "{case}");
            let ideal = FULL / twice_at;
            assert!(sum / 300 >= ideal / 4, "{case}: it gets on");
        }
    }
}
