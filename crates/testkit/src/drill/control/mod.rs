//! The rows of the drill about several controllers on an etcd: each is killed or stopped, with a
//! master and without, and so is the etcd. Besides what clients see it is measured how long nobody
//! leads, or how long nodes hear no controller.
//!
//! It uses the site of the torture, and the clients of the drill.

pub mod row;
pub mod story;
pub mod table;
pub mod witness;
