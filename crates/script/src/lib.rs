//! Redis' scripts: Lua 5.1 in Redis' sandbox, with its libraries. Replies are made into Lua values
//! and back; commands are run by the [`Host`] that the engine is given.
//!
//! Invariant: nothing a script does outlives its run but the functions of loaded libraries, and
//! nothing it does can end the process: errors, lack of memory and endless loops end the script.
//! It knows no sockets, no data and no clock but the Lua standard library's for random numbers.

mod answer;
mod api;
mod args;
mod bits;
mod calls;
mod cjson;
mod compiled;
mod control;
mod convert;
mod current;
mod engine;
mod failed;
mod guard;
mod header;
mod host;
mod job;
mod library;
mod looks;
mod msgpack;
mod pack;
mod patterns;
mod run;
mod text;
mod watched;

pub use compiled::check;
pub use control::{Control, Stop, Tick};
pub use convert::command_error;
pub use engine::Engine;
pub use failed::Error;
pub use header::{Header, HeaderError, ScriptFlags, is_library_name, parse as parse_header};
pub use host::{Called, Host, Level, Settings};
pub use job::Job;
pub use library::{Function, Library};

/// SHA-1 of a script, 40 lower-case hex digits.
pub fn sha1_hex(text: &[u8]) -> String {
    sha1_smol::Sha1::from(text).digest().to_string()
}
