//! Grants, leases, the in-sync set and promises of this process: crate `grant` decides, this
//! carries it out.
//!
//! Below, what the node holds and every command looks at: [`state`], [`commit`], [`heard`],
//! [`identity`]. Above, what acts on it: [`leader`], [`drive`], [`owner`], [`relay`].

pub mod commit;
pub mod drive;
pub mod heard;
pub mod identity;
pub mod leader;
pub mod owner;
pub mod relay;
pub mod state;

#[cfg(test)]
pub(crate) mod tests;
