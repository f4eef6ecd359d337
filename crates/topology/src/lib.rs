//! Slots, nodes, endpoints and versions of a cluster, and every text form they have.
//!
//! Pure: no sockets, no clock; `persist` writes `nodes.conf` through a trait. What address a client
//! is shown, or a peer dials, is chosen in [`model::Node`], and rendered for a client in [`view`],
//! and nowhere else.

pub mod announced;
pub mod description;
pub mod model;
mod parse_error;
pub mod persist;
pub mod route;
pub mod slot;
pub mod slots_arg;
pub mod state;
pub mod tls_ports;
pub mod view;

pub use description::Warning;
pub use model::{
    Address, Asker, ClusterId, Endpoint, Node, NodeId, Reach, Role, SLOT_COUNT, Slot, SlotRange,
    SlotSet, Topology, VERSION_MAX, Viewer,
};
pub use parse_error::ParseError;
pub use route::{Route, RouteRequest, ScriptScope};
pub use slot::key_slot;
pub use slots_arg::{SlotsError, parse_slots};
pub use state::names::Misplaced;
pub use state::{Assignment, Change, Cluster, ClusterError, Outcome};
pub use tls_ports::TlsPorts;
