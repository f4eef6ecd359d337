//! Which versions this node says it has.

/// Of Holdfast.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Of Redis: clients choose by it what they may send.
pub const REDIS_VERSION: &str = "7.0.15";
