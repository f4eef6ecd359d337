//! The table of commands: what COMMAND, the gates, ACL categories and statistics read.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use super::{Args, Replied, Reply, Result};
use crate::session::{Flow, ReadCx, SessionCx, WriteCx};

/// See [`Handler::Read`].
pub type ReadHandler = fn(&ReadCx<'_>, &mut Args<'_>, Reply<'_>) -> Result<Replied>;
/// See [`Handler::Write`].
pub type WriteHandler = fn(&mut WriteCx<'_>, &mut Args<'_>, Reply<'_>) -> Result<Replied>;

/// What runs a command. The type says what it may do.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Sees data.
    Read(ReadHandler),
    /// Sees data and puts into a transaction that is committed when it returns `Ok`.
    Write(WriteHandler),
    /// Changes the connection or the node, and may answer later. Runs outside the write gate.
    Session(fn(&mut SessionCx<'_>, &mut Args<'_>, Reply<'_>) -> Result<Flow>),
    /// EXEC: runs what the connection has queued (`session::dispatch`).
    Exec,
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read(_) => "Read",
            Self::Write(_) => "Write",
            Self::Session(_) => "Session",
            Self::Exec => "Exec",
        })
    }
}

/// Where a command's keys are, as COMMAND shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// It has none.
    None,
    /// Positions `first..=last` in steps; a negative `last` counts from the end.
    Range {
        /// First key; 1 is the first argument.
        first: u8,
        /// Last key.
        last: i8,
        /// Distance.
        step: u8,
    },
}

/// One key, the first argument.
pub const KEY: Keys = Keys::Range { first: 1, last: 1, step: 1 };
/// Two keys, the first two arguments.
pub const KEYS2: Keys = Keys::Range { first: 1, last: 2, step: 1 };
/// All arguments are keys.
pub const KEYS: Keys = Keys::Range { first: 1, last: -1, step: 1 };
/// Keys and values alternate.
pub const PAIRS: Keys = Keys::Range { first: 1, last: -1, step: 2 };
/// No keys.
pub const NONE: Keys = Keys::None;

impl Keys {
    /// Positions of the keys in `words`; empty when the command is too short for them.
    pub fn positions(self, words: usize) -> impl Iterator<Item = usize> {
        let (first, last, step) = match self {
            Self::None => (1, 0, 1),
            Self::Range { first, last, step } => {
                let last = match usize::try_from(last) {
                    Ok(last) => last,
                    Err(_) => words.saturating_sub(usize::from(last.unsigned_abs())),
                };
                (usize::from(first), last, usize::from(step))
            }
        };
        (first..=last).step_by(step.max(1)).filter(move |position| *position < words)
    }
}

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $method:ident, $word:literal;)+) => {
        /// Properties of a command beside reading or writing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Flags(u32);

        impl Flags {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)+

            /// Whether all of `other` are set.
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The words COMMAND shows.
            pub fn words(self) -> impl Iterator<Item = &'static str> {
                [$((Self::$name, $word)),+].into_iter()
                    .filter(move |(flag, word)| self.has(*flag) && !word.is_empty())
                    .map(|(_, word)| word)
            }
        }

        impl Command {
            $($(#[$doc])* pub const fn $method(mut self) -> Self {
                self.flags = Flags(self.flags.0 | Flags::$name.0);
                self
            })+
        }
    };
}

flags! {
    /// Constant or logarithmic time.
    FAST = 0, fast, "fast";
    /// Runs before authentication.
    NO_AUTH = 1, no_auth, "no_auth";
    /// Runs while the data is being replaced.
    LOADING = 2, loading, "loading";
    /// Served on a replica that lost its master, whatever `slave-serve-stale-data` says.
    STALE = 3, stale, "stale";
    /// For administrators, as COMMAND tells it. There is one kind of password for clients, so
    /// whoever has given it is one.
    ADMIN = 4, admin, "admin";
    /// Between nodes and controllers only: never for a client that came through a balancer of a balancer-only node.
    PEER = 5, peer, "";
    /// Not inside MULTI.
    NO_MULTI = 6, no_multi, "no_multi";
    /// Runs at once inside MULTI instead of being queued.
    UNQUEUED = 7, unqueued, "";
    /// Not from scripts.
    NO_SCRIPT = 8, no_script, "noscript";
    /// Only removes: allowed above `max-db-size`.
    REMOVES = 9, removes, "";
    /// Waits, possibly long.
    BLOCKING = 11, blocking, "blocking";
    /// Not shown in SLOWLOG, because its arguments are secret or it waits by design.
    SKIP_SLOWLOG = 12, skip_slowlog, "skip_slowlog";
    /// Touches the whole key space rather than named keys; routed nowhere, but part of the data path: lease and access are checked.
    KEYSPACE = 13, keyspace, "";
    /// Writes the whole key space: takes every key lock.
    ALL_KEYS = 14, all_keys, "";
}

/// One word behind a command that is a command of its own, as CLIENT ID is.
#[derive(Debug, Clone, Copy)]
pub struct Subcommand {
    /// Lower-case name.
    pub name: &'static str,
    /// Words including both names; negative: at least that many.
    pub arity: i8,
}

/// A row of a container's list.
pub const fn subcommand(name: &'static str, arity: i8) -> Subcommand {
    Subcommand { name, arity }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Lower-case name.
    pub name: &'static str,
    /// Words including the name; negative: at least that many. The sign is Redis', so that the table compares with COMMAND INFO by eye.
    pub arity: i8,
    /// Where the keys are.
    pub keys: Keys,
    /// What runs it.
    pub handler: Handler,
    /// The rest.
    pub flags: Flags,
    /// What may stand behind the name; empty when that is the handler's affair.
    pub subcommands: &'static [Subcommand],
    /// Second words, in lower case, with which it cannot run inside EXEC, and so is not queued.
    pub outside_multi: &'static [&'static str],
}

impl Command {
    /// A command that sees data.
    pub const fn read(name: &'static str, arity: i8, keys: Keys, handler: ReadHandler) -> Self {
        Self::new(name, arity, keys, Handler::Read(handler))
    }

    /// A command that changes data.
    pub const fn write(name: &'static str, arity: i8, keys: Keys, handler: WriteHandler) -> Self {
        Self::new(name, arity, keys, Handler::Write(handler))
    }

    /// A command about the connection or the node.
    pub const fn session(
        name: &'static str,
        arity: i8,
        handler: fn(&mut SessionCx<'_>, &mut Args<'_>, Reply<'_>) -> Result<Flow>,
    ) -> Self {
        Self::new(name, arity, Keys::None, Handler::Session(handler))
    }

    /// EXEC.
    pub const fn exec(name: &'static str) -> Self {
        Self::new(name, 1, Keys::None, Handler::Exec)
    }

    const fn new(name: &'static str, arity: i8, keys: Keys, handler: Handler) -> Self {
        Self { name, arity, keys, handler, flags: Flags(0), subcommands: &[], outside_multi: &[] }
    }

    /// With a closed list of subcommands: unknown ones and wrong numbers of words are refused before the handler, also while queueing.
    pub const fn containing(mut self, subcommands: &'static [Subcommand]) -> Self {
        self.subcommands = subcommands;
        self
    }

    /// With second words that are refused inside MULTI.
    pub const fn outside_multi(mut self, words: &'static [&'static str]) -> Self {
        self.outside_multi = words;
        self
    }

    /// Whether these words can be queued and run by EXEC.
    pub fn may_be_queued(&self, words: &[&[u8]]) -> bool {
        let second = words.get(1).copied().unwrap_or_default();
        !self.flags.has(Flags::NO_MULTI)
            && !self.outside_multi.iter().any(|word| second.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Whether it is refused above `max-db-size`.
    pub fn may_grow(&self) -> bool {
        self.is_write() && !self.flags.has(Flags::REMOVES)
    }

    /// With keys, for session commands that name some (WATCH).
    pub const fn keyed(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// Whether a number of words, name included, fits.
    pub fn accepts(&self, words: usize) -> bool {
        fits(self.arity, words)
    }

    /// True for commands that change data.
    pub fn is_write(&self) -> bool {
        matches!(self.handler, Handler::Write(_))
    }

    /// True for commands that see or change data: lease, access and slot ownership are checked for them.
    pub fn is_data(&self) -> bool {
        self.keys != Keys::None || self.flags.has(Flags::KEYSPACE)
    }
}

impl Subcommand {
    /// Whether a number of words, both names included, fits.
    pub fn accepts(&self, words: usize) -> bool {
        fits(self.arity, words)
    }
}

fn fits(arity: i8, words: usize) -> bool {
    let least = usize::from(arity.unsigned_abs());
    if arity < 0 { words >= least } else { words == least }
}

/// All commands of this build.
#[derive(Debug)]
pub struct Table {
    commands: Vec<&'static Command>,
    by_name: HashMap<&'static [u8], usize>,
}

impl Table {
    /// The table.
    pub fn get() -> &'static Self {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(|| {
            let commands: Vec<&'static Command> =
                crate::families::ALL.iter().flat_map(|family| family.commands).collect();
            let by_name =
                commands.iter().enumerate().map(|(at, c)| (c.name.as_bytes(), at)).collect();
            Self { commands, by_name }
        })
    }

    /// The command of that name in any case, with its index.
    pub fn find(&self, name: &[u8]) -> Option<(usize, &'static Command)> {
        let mut lower = [0_u8; 32];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let index = *self.by_name.get(&*lower)?;
        self.commands.get(index).map(|command| (index, *command))
    }

    /// All commands, in table order; the index is stable within a process.
    pub fn commands(&self) -> &[&'static Command] {
        &self.commands
    }
}

/// Commands of one kind, as the documentation groups them.
#[derive(Debug)]
pub struct Family {
    /// Group name of COMMAND DOCS.
    pub name: &'static str,
    /// Its rows.
    pub commands: &'static [Command],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lower_case_and_keys_fit_the_arity() {
        let mut seen = std::collections::BTreeSet::new();
        for command in Table::get().commands() {
            assert!(seen.insert(command.name), "{} twice", command.name);
            assert_eq!(command.name, command.name.to_lowercase());
            if let Keys::Range { first, .. } = command.keys {
                let shortest = command.arity.unsigned_abs();
                assert!(first < shortest, "{}: first key beyond its arity", command.name);
            }
        }
    }

    #[test]
    fn key_positions_count_from_both_ends() {
        assert_eq!(PAIRS.positions(5).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(KEYS.positions(4).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(KEYS2.positions(2).collect::<Vec<_>>(), [1]);
        assert_eq!(NONE.positions(9).count(), 0);
    }
}
