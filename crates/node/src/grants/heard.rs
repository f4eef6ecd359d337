//! When a controller was last heard, for another one that wants to know whether this node is led.

use parking_lot::Mutex;

/// The newest heartbeat that was taken.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Option<(u64, u64)>>);

impl Heard {
    /// A heartbeat for a shard with that master was taken at `now_ns`. One that names nobody only
    /// says hello.
    pub fn note(&self, master: &[u8], term: u64, now_ns: u64) {
        if master.iter().any(|byte| *byte != b'0') {
            *self.0.lock() = Some((term, now_ns));
        }
    }

    /// The term of the newest one, and when it was taken, in ns.
    pub fn newest(&self) -> Option<(u64, u64)> {
        *self.0.lock()
    }
}
