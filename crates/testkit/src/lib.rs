//! Starts, wounds and awaits real processes, and compares what they answer with recordings.
//!
//! Invariant: it sees the binary and nothing behind it, so that what is tested is what runs;
//! therefore it has a RESP reader of its own. Every wait is bounded and says what it saw last;
//! every process dies with its handle.

pub mod bench;
pub mod big;
pub mod clients;
pub mod cluster;
pub mod compat;
pub mod differ;
pub mod disk;
pub mod drill;
pub mod linear;
pub mod netns;
pub mod openapi;
pub mod ports;
pub mod process;
pub mod reshard;
pub mod restartable;
pub mod tap;
pub mod torture;
pub mod transcript;
pub mod wait;
pub mod wire;
