//! The rules of grants, leases and in-sync sets as values: which node may serve as master, until
//! when, and which of its answers may leave.
//!
//! Everything here is a decision over plain values: no socket, no clock, no random number, no disk.
//! `node` feeds it with what it sees and carries out what it says; the model of the failover
//! protocol runs the same code. All state is `Clone + Eq + Hash + Ord`.
//!
//! * [`Holder`] takes heartbeats: refuse, renew, or open an epoch. It owns the rest.
//! * [`Lease`] is what controllers give against this process's own clock (rule R7).
//! * [`InSync`] is the set the master waits for, owned by it through numbered requests (R3).
//! * [`Promise`] is a replica's word to its master, while no controller is heard, not to become
//!   master (R9).

pub mod history;
pub mod holder;
pub mod in_sync;
pub mod lease;
pub mod promise;
pub mod refusal;

pub use api::grant::{CommitMode, EpochId, Grant, Least, Member, Members};
pub use api::store::{Mismatch, Said, StoreId};
pub use history::{History, Opened, Position};
pub use holder::{Facts, Held, Holder, Ignored, NoServing, Taken};
pub use in_sync::{InSync, Link};
pub use lease::{Heartbeat, HeartbeatError, LEASE_MS_MAX, Lease};
pub use promise::{Kept, Promise};
pub use refusal::Refusal;
