//! Load balancers: one driver per kind, and the built-in TCP balancer.
//!
//! Invariant: an instance counts as a fence of a node only by its own answer that no frontend leads
//! there and no session of it is left ([`Applied::fenced`]). Which node stands behind which
//! frontend is the controller's business; nothing here decides it.

mod any;
mod builtin;
mod driver;
pub mod haproxy;
mod lookup;
pub mod server;

pub use any::AnyDriver;
pub use builtin::Builtin;
pub use driver::{Applied, Driver, Error, SessionCount};
pub use haproxy::{Haproxy, HaproxyConfig};
pub use lookup::{Resolver, Resolving};
