//! Decides what a cluster needs next: observed state + record + policy + now → actions.
//!
//! Pure and level-triggered: no sockets, no clock, no randomness, no memory between calls. Whatever
//! happened before, [`plan`] looks only at what is in force now, so a controller may crash after any
//! action and the next one carries on.
//!
//! Invariant: a record that makes a node master is only written, or only acted upon, when a sound
//! fence of the previous master is confirmed ([`fence`]).
//!
//! It does not: talk to anybody, choose who leads among several controllers, move slots.

mod candidate;
mod epoch;
mod fence;
mod frontends;
mod handover;
mod heartbeat;
mod loss;
mod observed;
mod plan;
mod policy;
mod record;
mod reopen;
mod shard;
mod sources;
mod switchover;
mod tell;
mod time;
mod unreached;

pub use candidate::Ineligible;
pub use epoch::Epoch;
pub use fence::{Confirmed, Fence, Soundness, covers, is_network, soundness};
pub use heartbeat::{Granted, granted};
pub use loss::{Holding, Loss, MemberLoss, loss};
pub use observed::{
    BalancerObserved, Desired, InForce, NodeObserved, Observed, Pause, Pushed, Reach, Refusal, Seen,
};
pub use plan::{Action, Plan, ShardState, health, plan, serves, settled};
pub use policy::Policy;
pub use record::{
    Balancer, BalancerKind, Intent, IntentResult, Node, PendingFence, Record, RecordError, Role,
    Shard, Stated,
};
pub use time::Time;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
