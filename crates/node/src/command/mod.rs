//! What a command is: one line of a const table and a small handler.
//!
//! Whether a command reads or writes is the type of its handler: only a write handler is given a
//! transaction it can put into. Every path through a handler must yield a [`Replied`], so answering
//! twice or never does not compile. Checks that concern many commands are gates (`session::gates`),
//! read from the table; no handler repeats them.

pub mod args;
pub mod catalog;
pub mod categories;
pub mod error;
pub mod keys;
pub mod renames;
pub mod reply;
pub mod row;
pub mod table;
pub mod texts;

pub use args::{Args, Words};
pub use catalog::Catalog;
pub use error::{Error, Result};
pub use renames::Renames;
pub use reply::{Replied, Reply};
pub use row::{Flags, Row};
pub use table::Table;
