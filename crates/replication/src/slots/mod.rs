//! Slots that move to another shard: what a node keeps of a move, and what it does on an order.
//!
//! * [`marks`] is what the data itself says of slots: part of the log, so it travels, rewinds and
//!   is copied with what it tells of (rule M2).
//! * [`Machine`] obeys orders: what a master holds back while its slots are handed over, and which
//!   mark is put or which slots are emptied.
//! * [`copy`] is the way of the data: what the giver sends next, what the taker may append.
//! * [`wishes`] is what users asked for, until a controller has heard of it.
//! * [`Guest`] is how fast that may go by what clients feel of it (M16).
//!
//! Invariants: only an order thaws what an order froze (M4); nothing is deleted but under the
//! newest mark of its slots, of the same move (M12); a staged copy is the giver's data at its
//! position, below its cursor (M8).
//!
//! Not here: the record and who decides (`planner::moves`), the log, the write gate, sockets.

pub mod copy;
pub mod guest;
mod machine;
pub mod marks;
pub mod wishes;

pub use guest::{Absence, Felt, Guest};
pub use machine::{Access, Act, Here, Machine, Refusal};
pub use marks::{Cursor, Mark, State, Table};

pub use api::grant::Least;
pub use api::moves::{MoveId, Slots};
