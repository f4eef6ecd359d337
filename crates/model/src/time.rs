//! Coarse time.

/// A tick, ns: half a lease.
pub(crate) const TICK_NS: u64 = 500 * 1_000_000;
/// A tick, ms.
pub(crate) const TICK_MS: u64 = 500;
/// Length of leases, ms.
pub(crate) const LEASE_MS: u64 = 2 * TICK_MS;
/// The tick it always is: later than anything lasts that is counted from the past.
pub(crate) const NOW: u8 = 3;

/// The clock of every machine at a tick.
pub(crate) fn clock(now: u8) -> u64 {
    u64::from(now) * TICK_NS
}
