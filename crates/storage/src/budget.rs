//! How much a command reads before it is ended, so that its thread can serve others.
//!
//! A long read is not cut into parts: it is ended with [`Error::Stopped`], and its caller runs it
//! anew where it is in nobody's way. E.g. SMEMBERS of a million members ends after some thousand
//! steps on its worker, and then runs to its end on a thread that serves nobody else.
//!
//! Everything that reads passes here, so no type and no command counts by itself: a step of a walk
//! and a look-up are one step each, and another one for each [`STEP_BYTES`] of what was found.
//! Outside [`within`] and [`watched`] nothing is bounded but what writes gather before they write
//! it ([`gathering`]).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::Error;

/// Bytes that take about as long as a step.
const STEP_BYTES: usize = 4096;
/// Steps between two looks at the clock.
const STEPS_OF_A_LOOK: u64 = 64;

/// How much may be read.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Steps.
    pub steps: u64,
    /// And for how long.
    pub time: Duration,
}

/// What is asked now and then whether a read goes on; it is told how many bytes the read has
/// gathered beside its reply.
pub type Watcher = Box<dyn FnMut(usize) -> bool>;

enum Limit {
    /// The clock is looked at only where the first steps are not enough: most reads are shorter.
    Budget {
        steps: u64,
        time: Duration,
        until: Option<Instant>,
    },
    Watcher {
        every: u64,
        goes_on: Watcher,
    },
}

struct State {
    limit: Limit,
    gathered: usize,
    has_ended: bool,
}

thread_local! {
    /// Steps until the state is looked at.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// Runs `work` within a budget; `None` if it ran out, whatever `work` made of that.
pub fn within<T>(budget: Budget, work: impl FnOnce() -> T) -> Option<T> {
    let Budget { steps, time } = budget;
    let first = steps.min(STEPS_OF_A_LOOK);
    limited(Limit::Budget { steps: steps - first, time, until: None }, first, work)
}

/// Runs `work`, which ends once `goes_on` says so; it is asked every so many steps. `None` if it
/// was ended.
pub fn watched<T>(every: u64, goes_on: Watcher, work: impl FnOnce() -> T) -> Option<T> {
    limited(Limit::Watcher { every, goes_on }, 0, work)
}

/// Runs a write that gathers what it is going to write, and ends it where that is more than `max`
/// bytes. Inside a budget that bounds it anyway.
///
/// # Errors
/// Those of `work`; [`Error::TooLarge`].
pub fn gathering<T, E: From<Error>>(
    max: usize,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    if STATE.with_borrow(Option::is_some) {
        return work();
    }
    let bytes = Rc::new(Cell::new(0));
    let seen = Rc::clone(&bytes);
    let goes_on = move |gathered: usize| {
        seen.set(gathered);
        gathered <= max
    };
    let done = watched(STEPS_OF_A_LOOK, Box::new(goes_on), work);
    done.unwrap_or_else(|| Err(Error::TooLarge { bytes: bytes.get(), max }.into()))
}

fn limited<T>(limit: Limit, first: u64, work: impl FnOnce() -> T) -> Option<T> {
    /// Puts back what was there, also when the work panics.
    struct Back(Option<State>, u64);
    impl Drop for Back {
        fn drop(&mut self) {
            STATE.set(self.0.take());
            LEFT.set(self.1);
        }
    }
    let state = State { limit, gathered: 0, has_ended: false };
    let _back = Back(STATE.replace(Some(state)), LEFT.replace(first));
    let done = work();
    let has_ended = STATE.with_borrow(|state| state.as_ref().is_some_and(|state| state.has_ended));
    (!has_ended).then_some(done)
}

/// Takes so many steps.
///
/// # Errors
/// [`Error::Stopped`].
#[inline]
pub(crate) fn step(count: u64) -> Result<(), Error> {
    let left = LEFT.get();
    if left >= count {
        LEFT.set(left - count);
        return Ok(());
    }
    look(count - left)
}

/// So many bytes were found. Does not fail; the next step may.
#[inline]
pub(crate) fn found(bytes: usize) {
    if bytes >= STEP_BYTES {
        let steps = (bytes / STEP_BYTES) as u64;
        match LEFT.get().checked_sub(steps) {
            Some(left) => LEFT.set(left),
            None => owe(steps - LEFT.get()),
        }
    }
}

/// What was found took so many steps more than were given out: they are none of those that are
/// given out next. E.g. a value of 100 MB is not the 64 steps that were left.
#[cold]
fn owe(steps: u64) {
    LEFT.set(0);
    STATE.with_borrow_mut(|state| {
        if let Some(State { limit: Limit::Budget { steps: left, .. }, .. }) = state {
            *left = left.saturating_sub(steps);
        }
    });
}

/// So many bytes are gathered, to be kept until the read is done.
///
/// # Errors
/// [`Error::Stopped`].
pub(crate) fn gather(bytes: usize) -> Result<(), Error> {
    let is_watched = STATE.with_borrow_mut(|state| {
        let Some(state) = state else { return false };
        state.gathered = state.gathered.saturating_add(bytes);
        true
    });
    if is_watched { step((bytes / STEP_BYTES) as u64) } else { Ok(()) }
}

/// The steps that were given out are used up, and so many more are wanted.
#[cold]
fn look(wanted: u64) -> Result<(), Error> {
    STATE.with_borrow_mut(|state| {
        let Some(state) = state else {
            LEFT.set(u64::MAX);
            return Ok(());
        };
        let more = match &mut state.limit {
            _ if state.has_ended => None,
            Limit::Budget { steps, time, until } => {
                let now = Instant::now();
                let is_in_time = now < *until.get_or_insert(now + *time);
                steps.checked_sub(wanted).filter(|_| is_in_time).map(|left| {
                    let more = left.min(STEPS_OF_A_LOOK);
                    *steps = left - more;
                    more
                })
            }
            Limit::Watcher { every, goes_on } => goes_on(state.gathered).then_some(*every),
        };
        state.has_ended = more.is_none();
        LEFT.set(more.unwrap_or(0));
        if state.has_ended { Err(Error::Stopped) } else { Ok(()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn steps(count: u64) -> Result<(), Error> {
        (0..count).try_for_each(|_| step(1))
    }

    #[test]
    fn a_budget_is_used_up_by_steps_by_bytes_and_by_time() {
        let budget = |steps, time| Budget { steps, time };
        assert!(within(budget(100, LONG), || steps(100)).is_some());
        assert!(within(budget(100, LONG), || steps(101)).is_none());
        assert!(within(budget(100, LONG), || step(101)).is_none());
        assert!(within(budget(100, Duration::ZERO), || steps(100)).is_none());
        // What makes nothing of the error has been ended all the same.
        assert!(within(budget(1, LONG), || drop(steps(5))).is_none());
        let large = || {
            step(1).and_then(|()| {
                found(STEP_BYTES * 60);
                steps(50)
            })
        };
        assert!(within(budget(100, LONG), large).is_none());
        // What is larger than the steps of one look is counted as a whole.
        let larger = |bytes| {
            move || {
                found(bytes);
                step(1)
            }
        };
        assert!(within(budget(1_000, LONG), larger(STEP_BYTES * 900)).is_some());
        assert!(within(budget(1_000, LONG), larger(STEP_BYTES * 1_000)).is_none());
        assert!(steps(1_000).is_ok(), "nothing is bounded outside");
    }

    #[test]
    fn a_watcher_is_asked_now_and_then_and_told_what_is_gathered() {
        let asked = Rc::new(Cell::new(0));
        let count = Rc::clone(&asked);
        let goes_on = Box::new(move |gathered: usize| {
            count.set(count.get() + 1);
            gathered < 1 << 20
        });
        let work = || {
            steps(1000).unwrap();
            gather(1 << 19).unwrap();
            gather(1 << 19).and_then(|()| steps(200)).unwrap_err();
            assert!(step(1).is_err(), "it stays ended");
        };
        assert!(watched(100, goes_on, work).is_none());
        assert!((11..=14).contains(&asked.get()), "{}", asked.get());
    }
    #[test]
    fn a_write_gathers_no_more_than_it_may() {
        let gathers = |count: usize| {
            move || -> Result<usize, Error> {
                for _ in 0..count {
                    step(1)?;
                    gather(100)?;
                }
                Ok(count)
            }
        };
        assert_eq!(gathering(100_000, gathers(1_000)).unwrap(), 1_000);
        let Err(Error::TooLarge { bytes, max }) = gathering(100_000, gathers(1_000_000)) else {
            panic!("it gathers more than it may");
        };
        assert!(max == 100_000 && (100_001..110_000).contains(&bytes), "{bytes}");
        assert!(steps(1_000).is_ok(), "nothing is bounded afterwards");
        // What has a budget keeps it.
        assert!(within(Budget { steps: 10, time: LONG }, || gathering(1, gathers(100))).is_none());
        let error = gathering(1, || step(1).and(Err::<(), _>(Error::Stopped)));
        assert!(matches!(error, Err(Error::Stopped)));
    }
}
