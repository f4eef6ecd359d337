//! The rows of the drill in which slots move: three shards become four and three again, and one
//! large move, while clients write all types at a given rate and follow the redirections of a
//! cluster client.
//!
//! A key has one writer, which counts: its n-th write is one that the key's size, or its value,
//! tells afterwards. So a write that was acknowledged and is gone is found, whichever shard has the
//! key.

mod client;
pub mod course;
pub mod found;
pub mod kinds;
mod load;
pub mod one;
mod site;
pub mod story;
