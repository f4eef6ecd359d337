//! The node's clocks. Nothing else in this crate asks the system for the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds: what expiry times are compared with.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Unix time in seconds, as certificates have it.
pub fn unix_s() -> i64 {
    i64::try_from(unix_ms() / 1_000).unwrap_or(i64::MAX)
}

/// Unix time in microseconds.
pub fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// CLOCK_BOOTTIME in nanoseconds: it goes on while the machine sleeps, so a lease cannot outlive a
/// suspend (`docs/protocol.md` §1).
#[expect(unsafe_code, reason = "std has no CLOCK_BOOTTIME")]
pub fn boottime_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec; the clock exists on every Linux since 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The same in milliseconds: what all times of replication are counted in.
pub fn boottime_ms() -> u64 {
    boottime_ns() / 1_000_000
}

/// Returns at a time of [`boottime_ms`].
pub async fn until(at_ms: u64) {
    tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(boottime_ms()))).await;
}

/// A random number of this process, never 0: the nonce of its heartbeats.
pub fn nonce() -> u64 {
    rand::random::<u64>().max(1)
}

/// Milliseconds of a duration, saturating.
pub fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
