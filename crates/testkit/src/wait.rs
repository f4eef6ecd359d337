//! Waiting for a condition: bounded, on the state itself and not on an event, with the last state
//! in the message.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL: Duration = Duration::from_millis(20);

/// Calls `look` until it returns Ok; after `patience` fails with the last obstacle.
pub fn until<T, E: Debug>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(obstacle) if Instant::now() > deadline => {
                bail!("{what}: not within {patience:?}; last seen: {obstacle:?}")
            }
            Err(_) => pause(POLL),
        }
    }
}

/// Lets time pass, where the passing of time is the thing itself: between two looks, or in a
/// recorded script.
#[expect(clippy::disallowed_methods, reason = "the one place where tests wait")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_obstacle_is_in_the_message() {
        let mut looks = 0;
        let third = until("third look", Duration::from_secs(5), || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err("not yet") }
        });
        assert_eq!(third.unwrap(), 3);
        let never = until("pigs fly", Duration::ZERO, || Err::<(), _>("on the ground"));
        assert!(never.unwrap_err().to_string().contains("on the ground"));
    }
}
