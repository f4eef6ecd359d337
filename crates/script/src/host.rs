//! What an engine is told, and what its scripts ask of the outside.

use resp::Protocol;

/// What an engine is told once.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// `redis.REDIS_VERSION`.
    pub version: &'static str,
    /// `redis.REDIS_VERSION_NUM`.
    pub version_number: u32,
    /// Most bytes that Lua may use, and a reply may have.
    pub memory_max: usize,
    /// Instructions between two looks at whether a script is to end.
    pub looks_every: u32,
}

/// Severity of `redis.log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For developers.
    Debug,
    /// Many, seldom useful.
    Verbose,
    /// Moderately many.
    Notice,
    /// Important.
    Warning,
}

/// What came of a command.
#[derive(Debug)]
pub enum Called {
    /// It ran: its reply, in the protocol that was asked for.
    Reply(Vec<u8>),
    /// It did not run: the error, without the leading `-`.
    Refused(String),
    /// The script cannot go on.
    Stop,
}

/// What a script asks of the outside.
pub trait Host {
    /// Runs a command.
    fn call(&mut self, words: &[&[u8]], protocol: Protocol) -> Called;
    /// Writes a line into the log.
    fn log(&mut self, level: Level, text: &[u8]);
    /// Whether the user may run a command; `None` if there is none of that name.
    fn may_call(&mut self, words: &[&[u8]]) -> Option<bool>;
}
