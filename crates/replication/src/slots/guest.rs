//! A copy is a guest at both its sides (rule M16): how fast it may go there, by what clients and
//! the database feel meanwhile.
//!
//! Its share of the rate is halved as soon as 99 of 100 commands take longer than twice of what
//! they took before, and grows again by an eighth of the rate a look. So it settles where clients
//! are still served well, whatever it is that they wait for: processors, the disk, or replicas.
//!
//! Invariant: a copy always gets on, by a 32nd of its rate at least, unless the database itself is
//! about to hold writes back. What clients feel while it goes no faster than that is not its doing:
//! after a while that is the measure.

use api::moves::{Brake, Rate};

/// How often it is to be looked, ms.
pub const LOOK_MS: u64 = 500;
/// Of a rate.
const WHOLE: u32 = 1_024;
/// Where a copy begins after there was none.
const START: u32 = WHOLE / 4;
/// Added by a look at which nothing is felt.
const STEP: u32 = WHOLE / 8;
/// It goes no slower, nor slower than [`Rate::MIN`].
const LEAST: u32 = WHOLE / 32;
/// Looks at the least share after which what clients feel is taken for what they always do.
const LOOKS_AT_LEAST: u32 = 20;
/// No bound is below that, µs: twice of next to nothing is next to nothing.
const BOUND_MIN_US: u64 = 1_000;
/// The bound where nobody has seen the clients without a copy, µs.
const BOUND_UNKNOWN_US: u64 = 5_000;
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
    /// Bytes that the in-sync set has not acknowledged.
    pub unacked_bytes: u64,
}

/// How fast copies may go at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guest {
    /// What clients feel without a copy, µs.
    calm_us: Option<u64>,
    /// Of [`WHOLE`].
    share: u32,
    /// Looks in a row that found the least share to be too much.
    at_least: u32,
    brake: Option<Brake>,
}

impl Default for Guest {
    fn default() -> Self {
        Self { calm_us: None, share: START, at_least: 0, brake: None }
    }
}

impl Guest {
    /// A second without any copy, and what clients felt.
    pub fn rest(&mut self, p99_us: Option<u64>) {
        (self.share, self.at_least, self.brake) = (self.share.min(START), 0, None);
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
        let follows =
            self.calm_us.map_or(BOUND_UNKNOWN_US, |us| us.saturating_mul(2).max(BOUND_MIN_US));
        if fixed_us > 0 { fixed_us } else { follows }
    }

    /// To be called every [`LOOK_MS`] while something is copied.
    pub fn look(&mut self, felt: &Felt) {
        let bound_us = self.bound_us(felt.bound_us);
        let is_slow = felt.p99_us.is_some_and(|us| us > bound_us);
        let is_behind = felt.unacked_bytes > UNACKED_MAX;
        self.brake = match (felt.is_pressed, is_slow, is_behind) {
            (true, ..) => Some(Brake::Engine),
            (_, true, _) => Some(Brake::Latency),
            (_, _, true) => Some(Brake::Set),
            _ => None,
        };
        if self.brake.is_some() {
            let is_at_least = self.share == LEAST;
            self.share = (self.share / 2).max(LEAST);
            self.at_least = if is_at_least && is_slow { self.at_least + 1 } else { 0 };
            if self.at_least >= LOOKS_AT_LEAST {
                (self.calm_us, self.at_least) = (felt.p99_us, 0);
            }
            return;
        }
        self.at_least = 0;
        // Close to the bound it stays as it is.
        let is_near = felt.p99_us.is_some_and(|us| us > bound_us - bound_us / 4);
        if !is_near {
            self.share = (self.share + STEP).min(WHOLE);
        } else if self.share < WHOLE {
            self.brake = Some(Brake::Latency);
        }
    }

    /// Bytes a second of a copy that may bring `most`; 0: nothing until the next look.
    pub fn bytes_per_s(&self, most: Rate) -> u64 {
        if self.brake == Some(Brake::Engine) {
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
        assert_eq!(guest.bytes_per_s(RATE), FULL / 4, "it begins slowly");
        for _ in 0..6 {
            guest.look(&felt(1_100));
        }
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (FULL, None));
        guest.look(&Felt::default());
        assert_eq!(guest.bytes_per_s(RATE), FULL, "few commands tell of nobody who suffers");
        guest.rest(None);
        assert_eq!(guest.bytes_per_s(RATE), FULL / 4, "the next one begins slowly again");
    }

    #[test]
    fn it_is_halved_above_twice_of_what_clients_felt_before() {
        let mut guest = calm(1_800);
        assert_eq!(guest.bound_us(0), 3_600);
        guest.look(&felt(3_601));
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (FULL / 8, Some(Brake::Latency)));
        guest.look(&felt(3_000));
        let held = (guest.bytes_per_s(RATE), guest.brake());
        assert_eq!(held, (FULL / 8, Some(Brake::Latency)), "close to the bound it stays");
        guest.look(&felt(2_600));
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (FULL / 4, None));
        // What an operator says counts instead.
        assert_eq!(guest.bound_us(2_000), 2_000);
        guest.look(&Felt { bound_us: 2_000, ..felt(2_600) });
        assert_eq!(guest.brake(), Some(Brake::Latency));
    }

    #[test]
    fn a_rush_before_the_copy_is_soon_forgotten_and_slowly_learned() {
        let mut guest = calm(20_000);
        (0..5).for_each(|_| guest.rest(Some(1_800)));
        assert_eq!(guest.bound_us(0), 2 * 2_368);
        let mut guest = calm(1_000);
        guest.rest(Some(9_000));
        assert_eq!(guest.bound_us(0), 2 * 2_000);
    }

    #[test]
    fn bounds_are_not_below_a_millisecond_and_something_where_nothing_is_known() {
        assert_eq!(Guest::default().bound_us(0), 5_000);
        assert_eq!(calm(20).bound_us(0), 1_000);
        assert_eq!(calm(u64::MAX / 16).bound_us(0), u64::MAX / 16 * 2);
    }

    #[test]
    fn it_never_stops_for_clients_alone_and_learns_what_is_not_its_doing() {
        let mut guest = calm(1_000);
        for _ in 0..3 {
            guest.look(&felt(9_000));
        }
        assert_eq!(guest.bytes_per_s(RATE), FULL / 32);
        assert_eq!(guest.bytes_per_s(Rate::new(5).unwrap()), 1_000_000, "a MB a second at least");
        assert_eq!(guest.bytes_per_s(Rate::new(1).unwrap()), 1_000_000);
        // The load has become another one: as slow as they are at the least share is normal.
        for _ in 0..LOOKS_AT_LEAST {
            guest.look(&felt(9_000));
        }
        assert_eq!(guest.bound_us(0), 18_000);
        guest.look(&felt(9_000));
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (FULL / 32 * 5, None));
    }

    #[test]
    fn a_database_about_to_hold_writes_back_stops_it_and_a_set_that_lags_slows_it() {
        let mut guest = calm(1_000);
        guest.look(&Felt { is_pressed: true, ..felt(1_000) });
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (0, Some(Brake::Engine)));
        guest.look(&felt(1_000));
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (FULL / 4, None));
        guest.look(&Felt { unacked_bytes: UNACKED_MAX + 1, ..felt(1_000) });
        assert_eq!((guest.bytes_per_s(RATE), guest.brake()), (FULL / 8, Some(Brake::Set)));
        guest.look(&Felt { unacked_bytes: UNACKED_MAX, ..felt(1_000) });
        assert_eq!(guest.bytes_per_s(RATE), FULL / 4);
    }

    /// Clients whose latency rises with what is copied: it settles below twice of theirs.
    #[test]
    fn it_settles_where_clients_are_served_well() {
        let mut guest = calm(1_000);
        let (mut sum, mut above) = (0, 0);
        for look in 0..400_u64 {
            // Twice as long at a third of the rate.
            let us = 1_000 + 1_000 * guest.bytes_per_s(RATE) / (FULL / 3);
            guest.look(&felt(us));
            if look >= 100 {
                sum += guest.bytes_per_s(RATE);
                above += u64::from(us > 2_000);
            }
        }
        let mean = sum / 300;
        assert!((FULL / 12..FULL / 3).contains(&mean), "{mean}");
        assert!(above < 150, "{above} of 300 looks above the bound");
    }
}
