//! Recorded conversations (`tests/compat/*.resp`): parsed, played against a server, compared.
//!
//! The format is that of `tests/compat/README.md`. A block stands alone: it begins with an empty
//! database and fresh connections. Where a reply differs from the recording, Debian's redis-server
//! is asked the same, because Redis' own commands follow Redis 7.

pub mod compare;
pub mod exceptions;
pub mod order;
pub mod parse;
pub mod player;
pub mod probe;

pub use exceptions::Exceptions;
pub use parse::{Block, File};
pub use player::{Difference, Report, play};
