//! RESP2 and RESP3: bytes to commands and values, replies to bytes.
//!
//! Pure: no sockets. [`request`] is the server's reading side (incremental, bounded), [`reply`] its
//! writing side, [`value`] the client's view of a reply.

pub mod reply;
pub mod request;
pub mod value;

pub use reply::{Protocol, Room, Writer, float_text};
pub use request::{Limits, Parser, ProtocolError};
pub use value::{Value, encode_command};
