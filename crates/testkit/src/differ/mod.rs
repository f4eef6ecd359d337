//! Random commands, asked of a node and of redis-server, whose answers must be alike.
//!
//! A sequence is what its seed and the table of [`grammar`] make of it: the same on every machine,
//! and for both versions of RESP. The judge is that of the transcripts. What differs is made small
//! ([`shrink`]) and shown as lines of a `.probe` file, where it can stay. Deliberately not here:
//! commands that Redis does not know, and those whose answer no two servers share (DBSIZE while
//! keys expire, RANDOMKEY, INFO, TIME).

pub mod declared;
pub mod difference;
pub mod form;
pub mod generate;
pub mod grammar;
pub mod kind;
pub mod run;
pub mod shrink;

pub use difference::Difference;
pub use generate::{Step, sequence};
pub use run::Pair;
