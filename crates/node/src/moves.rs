//! Slots that move to another shard, as this node gives or takes them.
//!
//! [`state`] is what every command looks at; [`orders`] carries out what a controller orders in a
//! heartbeat, and says what is so; [`give`] is the stream of a giver, [`take`] that of a taker,
//! [`beside`] what goes over it beside the slots; [`guest`] says how fast. [`wishes`] is where
//! users' wishes for slots wait for a controller; [`loads`] is what slots are asked for.
//!
//! Invariants: the machine of `replication::slots` decides, under the write gate and a grant; what
//! it holds back ends with the grant. Nothing is deleted, staged or opened but by a batch with the
//! move's mark, appended while the machine is locked, so orders and streams come one after the
//! other.
//!
//! Locks are taken in the order write gate, machine.

mod beside;
mod copied;
pub mod give;
pub mod guest;
pub mod loads;
pub mod look;
pub mod orders;
mod pace;
mod request;
pub mod state;
pub mod take;
mod tries;
pub mod wishes;

#[cfg(test)]
mod tests;
