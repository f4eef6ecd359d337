//! When a controller was last heard: other controllers ask, to learn whether this node is led.

use parking_lot::Mutex;

/// A controller that is silent for so long may be gone for good, ns: somebody may have to do by
/// hand what it does not. A new leader takes over within a few seconds.
const GONE_NS: u64 = 10_000_000_000;

#[derive(Debug, Clone, Copy)]
struct Newest {
    term: u64,
    at_ns: u64,
    has_name: bool,
}

/// The newest heartbeat that was taken.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Option<Newest>>);

impl Heard {
    /// A heartbeat for a shard with that master was taken at `now_ns`. One that names nobody only
    /// says hello. `has_name`: it said from which store it comes.
    pub fn note(&self, master: &[u8], term: u64, has_name: bool, now_ns: u64) {
        if master.iter().any(|byte| *byte != b'0') {
            *self.0.lock() = Some(Newest { term, at_ns: now_ns, has_name });
        }
    }

    /// The term of the newest one, and when it was taken, in ns.
    pub fn newest(&self) -> Option<(u64, u64)> {
        self.0.lock().map(|newest| (newest.term, newest.at_ns))
    }

    /// Whether some controller leads this node, by now.
    pub fn is_led(&self, now_ns: u64) -> bool {
        self.newest().is_some_and(|(_, at_ns)| now_ns.saturating_sub(at_ns) < GONE_NS)
    }

    /// Whether who leads this node names its store in all that it says, which earlier controllers
    /// do not: what is said without a name is not that controller's.
    pub fn has_name(&self, now_ns: u64) -> bool {
        let is_led = |newest: Newest| now_ns.saturating_sub(newest.at_ns) < GONE_NS;
        self.0.lock().is_some_and(|newest| newest.has_name && is_led(newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_heartbeat_says_whether_its_controller_has_a_name() {
        let heard = Heard::default();
        assert!(!heard.has_name(0));
        heard.note(b"m", 1, true, 5);
        assert!(heard.has_name(5 + GONE_NS - 1));
        assert!(!heard.has_name(5 + GONE_NS), "it may be gone for good");
        assert_eq!([4 + GONE_NS, 5 + GONE_NS].map(|now_ns| heard.is_led(now_ns)), [true, false]);
        heard.note(b"000", 2, false, 6);
        assert!(heard.has_name(7), "that was nobody's");
        heard.note(b"m", 2, false, 8);
        assert!(!heard.has_name(9), "one of before leads by now");
        assert_eq!(heard.newest(), Some((2, 8)));
    }
}
