//! Decides what a cluster needs next: observed state + record + policy + now → actions.
//!
//! Pure and level-triggered: no sockets, no clock, no randomness, no memory between calls. Whatever
//! happened before, [`plan`] looks only at what is in force now, so a controller may crash after
//! any action and the next one carries on.
//!
//! Invariant: a record that makes a node master is only written, or only acted upon, when a sound
//! fence of the previous master is confirmed ([`fence`]).
//!
//! It does not: talk to anybody.

mod authority;
pub mod balance;
mod balancers;
mod candidate;
mod context;
mod doubt;
mod draft;
mod epoch;
mod fence;
mod frontends;
mod handover;
mod hearing;
mod heartbeat;
mod identity;
mod joined;
mod loss;
pub mod moves;
pub mod moving;
mod news;
mod observed;
mod outcome;
mod paused;
mod places;
mod plan;
mod policy;
mod queue;
mod record;
mod removal;
mod reopen;
mod rival;
mod shard;
mod shard_id;
mod sources;
mod stopping;
mod switchover;
mod takeover;
mod tell;
mod time;
mod unasked;
mod unreached;
mod upkeep;
mod verdict;
mod wishes;

pub use authority::{Authority, FRESH_MS, Proof, Standby, Witness, Word, proof};
pub use candidate::Ineligible;
pub use context::{KNOWN_VERSION_MAX, health, healths, next_version, serves, settled};
pub use doubt::{Asked, Doubts, Step};
pub use fence::{Confirmed, Fence, Soundness, covers, is_network, soundness};
pub use hearing::{Hearing, Leading, yields};
pub use heartbeat::{Granted, granted};
pub use identity::is_stranger;
pub use loss::{Holding, Loss, MemberLoss, NeverHad, loss};
pub use news::{awaited, is_news, is_news_of_balancer, rests};
pub use observed::{
    BalancerObserved, Desired, Guard, InForce, Led, NodeObserved, Observed, Pause, Pushed, Reach,
    Refusal, Seen,
};
pub use outcome::{Action, Plan, ShardState};
pub use places::Places;
pub use plan::plan;
pub use policy::Policy;
pub use record::{
    Balancer, BalancerKind, Epoch, Intent, IntentResult, Node, Paused, PendingFence, Record,
    RecordError, Role, Shard, Stated,
};
pub use removal::{Removal, removal};
pub use rival::{guarded, said};
pub use shard_id::ShardId;
pub use sources::needs_endpoint;
pub use tell::{LOSS_MS, silent};
pub use time::Time;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
