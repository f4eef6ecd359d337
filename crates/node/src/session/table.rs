//! The table of commands: a row and what runs it.

use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock;

use super::{Flow, ReadCx, SessionCx, WriteCx};
use crate::command::keys::Keys;
use crate::command::row::{Access, Flags, Row, Subcommand, each_flag};
use crate::command::{Args, Renames, Replied, Reply, Result, Table};

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

/// One command: a line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// What is known of it.
    pub row: Row,
    /// What runs it.
    pub handler: Handler,
}

impl Deref for Command {
    type Target = Row;

    fn deref(&self) -> &Row {
        &self.row
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $method:ident, $word:literal;)+) => {
        impl Command {
            $($(#[$doc])* pub const fn $method(mut self) -> Self {
                self.row.flags = self.row.flags.with(Flags::$name);
                self
            })+
        }
    };
}

each_flag!(setters);

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
        let access = match handler {
            Handler::Read(_) => Access::Read,
            Handler::Write(_) => Access::Write,
            Handler::Session(_) | Handler::Exec => Access::None,
        };
        let flags = Flags::NONE;
        let row = Row { name, arity, keys, access, flags, subcommands: &[], outside_multi: &[] };
        Self { row, handler }
    }

    /// With a closed list of subcommands: unknown ones and wrong numbers of words are refused before the handler, also while queueing.
    pub const fn containing(mut self, subcommands: &'static [Subcommand]) -> Self {
        self.row.subcommands = subcommands;
        self
    }

    /// With second words that are refused inside MULTI.
    pub const fn outside_multi(mut self, words: &'static [&'static str]) -> Self {
        self.row.outside_multi = words;
        self
    }

    /// With keys, for session commands that name some (WATCH).
    pub const fn keyed(mut self, keys: Keys) -> Self {
        self.row.keys = keys;
        self
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

static COMMANDS: OnceLock<Vec<&'static Command>> = OnceLock::new();

/// Hands in the commands of this build; returns how many there are. The first ones stay.
pub fn give(families: &'static [Family]) -> usize {
    let commands = || families.iter().flat_map(|family| family.commands);
    Table::give(commands().map(|command| &command.row));
    COMMANDS.get_or_init(|| commands().collect()).len()
}

/// The command that answers to this name in any case, with its index in the table.
pub fn find(renames: &Renames, name: &[u8]) -> Option<(usize, &'static Command)> {
    let (index, _) = renames.find(name)?;
    Some((index, at(index)?))
}

/// The commands that answer to some name, in table order.
pub fn all(renames: &Renames) -> impl Iterator<Item = &'static Command> {
    renames.rows().filter_map(|(index, _)| at(index))
}

fn at(index: usize) -> Option<&'static Command> {
    COMMANDS.get()?.get(index).copied()
}
