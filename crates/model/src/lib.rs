//! A model of the failover protocol, searched exhaustively within bounds (`stateright`); that of
//! slot moves is [`moves`].
//!
//! One shard of three nodes, two controllers on one store, or on two of which neither knows of the
//! other, one load balancer with two instances. What decides is the code that ships:
//! `planner::plan` and `planner::granted` for controllers, crate `grant` for nodes. What is
//! modelled is everything around it: processes, disks, sockets, time in coarse ticks, clients, and
//! faults out of a budget.
//!
//! Invariants, after every step: at most one node can answer a client; whoever can holds every
//! write that a client was ever shown; and once faults end the shard serves again, with everything
//! it acknowledged.
//!
//! A model that finds nothing may be blind, so each rule of the protocol can be switched off
//! ([`Rules`]), and the tests demand that a violation is found then.
//!
//! Deliberately left out: slots, several shards, asynchronous clusters, clock drift; balancers
//! beside a second store, since they know no store by name, and a store that takes the place of one
//! whose controllers still lead.

mod act;
mod action;
mod check;
mod control;
pub mod moves;
mod node;
mod planning;
mod possible;
mod replicate;
mod rules;
mod search;
mod second;
mod stored;
mod time;
mod world;

pub use action::Action;
pub use rules::{Bounds, Failover, Kinds, Rules};
pub use second::{Apart, Second};
pub use world::{Violation, World};
