//! What node, controller, balancer and `ctl` say to each other: the one place that spells these
//! messages, so that both ends of a wire are built from the same type.
//!
//! Pure: values and text, no sockets, no clocks. `docs/protocol.md` is the prose.

pub mod balancer;
pub mod certificate;
pub mod grant;
pub mod health;
pub mod heard;
pub mod heartbeat;
pub mod moves;
pub mod moving;
pub mod openapi;
pub mod proxy;
pub mod rest;
pub mod store;
pub mod time;
mod words;
