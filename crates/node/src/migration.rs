//! Kvrocks' own slot migration: `CLUSTERX MIGRATE` gives slots to another master, `CLUSTER IMPORT`
//! takes them, and whoever asked for it tells all nodes by SETSLOT or SETNODES.
//!
//! For clusters that no controller of ours leads: under a grant the commands are refused, and
//! [`crate::moves`] is how slots go. What is known of a migration is in memory, as in Kvrocks.
//!
//! [`state`] is what is known; [`checks`] and [`stage`] decide, without sockets and clocks; [`run`]
//! is the thread that gives, over a [`link`] at a [`pace`]; [`import`] is the link that takes.
//!
//! Invariant: the marks of the cluster (`write_forbidden`, `migrated`, `importing`, `imported`)
//! change under the lock of changes and the write gate, by [`marks::update`] or with a topology.

pub mod checks;
pub mod import;
pub mod link;
pub mod marks;
pub mod pace;
pub mod run;
pub mod stage;
pub mod state;

#[cfg(test)]
mod tests;
