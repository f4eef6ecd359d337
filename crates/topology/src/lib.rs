//! Slots, nodes, endpoints and versions of a cluster, and every text form they have.
//!
//! Pure: no sockets, no clock; `persist` writes `nodes.conf` through a trait. An address is rendered for a viewer in [`view`] and nowhere else.

pub mod model;

pub use model::{Endpoint, Node, NodeId, Role, Slot, SlotSet, Topology, Viewer};
