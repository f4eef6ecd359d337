//! The table of commands: a row and what runs it.

use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock;
use std::time::Duration;

use resp::Writer;

use super::{After, NestedCx, ReadCx, SessionCx, WriteCx};
use crate::command::keys::Keys;
use crate::command::row::{Access, Flags, Row, Usage, each_flag};
use crate::command::{Args, Catalog, Renames, Replied, Reply, Result, Table, Words};
use crate::config::Values;
use crate::node::Node;

/// See [`Handler::Read`].
pub type ReadHandler = fn(&ReadCx<'_>, &mut Args<'_>, Reply<'_>) -> Result<Replied>;
/// See [`Handler::Write`].
pub type WriteHandler = fn(&mut WriteCx<'_>, &mut Args<'_>, Reply<'_>) -> Result<Replied>;
/// See [`Handler::Session`].
pub type SessionHandler = fn(&mut SessionCx<'_>, &mut Args<'_>, Reply<'_>) -> Result<After>;
/// See [`Handler::Nested`].
pub type NestedHandler = fn(&mut NestedCx<'_>, &mut Args<'_>) -> Result<After>;

/// See [`Handler::Script`].
pub type ScriptHandler = fn(&mut NestedCx<'_>, &mut WriteCx<'_>, &mut Args<'_>) -> Result<Replied>;

/// See [`Handler::Blocking`].
pub type BlockingHandler =
    for<'a> fn(&mut WriteCx<'_>, &mut Args<'a>, Reply<'_>) -> Result<Taken<'a>>;

/// See [`Handler::BlockingRead`].
pub type BlockingReadHandler =
    for<'a> fn(&ReadCx<'_>, &mut Args<'a>, Reply<'_>) -> Result<Taken<'a>>;

/// The words of such a command with what means the moment at which it came (the `$` of XREAD) by
/// its name, so that it means the same whenever it is tried; `None` where there is nothing like
/// that.
pub type Settle = fn(&ReadCx<'_>, &[&[u8]]) -> Option<Vec<Vec<u8>>>;

/// Called on a thread for scripts before anything is held for the calls. What it prepares, their
/// handlers use. It is called again, without calls, to forget that when they are done.
///
/// There is only one such function: it is handed all calls that are prepared, whichever commands
/// they are of.
pub type Prepare = fn(&Node, &Values, &[Words<'_>]);

/// A command that runs inside another one, and its words.
pub type Call<'w> = (&'static Command, Words<'w>);

/// What a command found that waits if it finds nothing.
#[derive(Debug)]
pub enum Taken<'a> {
    /// It answered.
    Replied(Replied),
    /// There is nothing for it. What it has written, e.g. the consumer of an XREADGROUP, stays if
    /// it came just now; where it is tried again it does not.
    Nothing(Wait<'a>),
}

impl From<Replied> for Taken<'_> {
    fn from(replied: Replied) -> Self {
        Self::Replied(replied)
    }
}

/// What such a command waits for.
#[derive(Debug)]
pub struct Wait<'a> {
    /// Any of these keys.
    pub keys: Vec<&'a [u8]>,
    /// How long; `None` for ever.
    pub patience: Option<Duration>,
    /// What it answers inside EXEC, where it does not wait. When its time is over, it is
    /// [`Nil::Array`] for all, as in Redis.
    pub nil: Nil,
    /// The words it is tried again with, if not those it came with: what means the moment at which
    /// it came (the `$` of XREAD) stands there by its name.
    pub words: Option<Vec<Vec<u8>>>,
    /// It is tried again also when one of the keys is gone.
    pub minds_end: bool,
}

impl<'a> Wait<'a> {
    /// With the words it came with, until there is something at one of the keys.
    pub fn new(keys: Vec<&'a [u8]>, patience: Option<Duration>, nil: Nil) -> Self {
        Self { keys, patience, nil, words: None, minds_end: false }
    }
}

/// The kind of "nothing" that a command answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nil {
    /// In place of an array.
    Array,
    /// In place of a string.
    Bulk,
}

impl Nil {
    /// Writes it.
    pub fn write(self, writer: &mut Writer<'_>) {
        match self {
            Self::Array => writer.null_array(),
            Self::Bulk => writer.null(),
        }
    }
}

/// What runs a command. The type says what it may do.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Sees data.
    Read(ReadHandler),
    /// Sees data and puts into a transaction that is committed when it returns `Ok`.
    Write(WriteHandler),
    /// As a write, and waits if there is nothing for it. Inside EXEC it does not wait.
    Blocking(BlockingHandler),
    /// A read that waits if there is nothing for it; inside EXEC it does not wait. The second
    /// function settles its words when it comes, before it reads.
    BlockingRead(BlockingReadHandler, Settle),
    /// Changes the connection or the node, and may answer later. Runs outside the write gate.
    Session(SessionHandler),
    /// Runs other commands as one.
    Nested(NestedHandler),
    /// Runs a script, which runs other commands.
    Script(ScriptHandler),
    /// Nothing: what stands behind the name is run.
    Container,
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read(_) => "Read",
            Self::Write(_) => "Write",
            Self::Blocking(_) => "Blocking",
            Self::BlockingRead(..) => "BlockingRead",
            Self::Session(_) => "Session",
            Self::Nested(_) => "Nested",
            Self::Script(_) => "Script",
            Self::Container => "Container",
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
    /// The commands of a container, by their second word.
    pub leaves: &'static [Self],
    /// Calls that have this are handed to it first, all those of a transaction together.
    pub prepare: Option<Prepare>,
    /// What it is where its words make a read of it.
    pub reading: Option<&'static Reading>,
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

    /// A command that changes data, or waits until there is something for it.
    pub const fn waiting(
        name: &'static str,
        arity: i8,
        keys: Keys,
        handler: BlockingHandler,
    ) -> Self {
        Self::new(name, arity, keys, Handler::Blocking(handler)).blocking()
    }

    /// A command that sees data, or waits until there is some for it.
    pub const fn waiting_read(
        name: &'static str,
        arity: i8,
        keys: Keys,
        handler: BlockingReadHandler,
        settle: Settle,
    ) -> Self {
        Self::new(name, arity, keys, Handler::BlockingRead(handler, settle)).blocking()
    }

    /// A command about the connection or the node.
    pub const fn session(name: &'static str, arity: i8, handler: SessionHandler) -> Self {
        Self::new(name, arity, Keys::None, Handler::Session(handler))
    }

    /// A command that runs others. `access` is what they may do to data, so that it passes the
    /// gates of a read or a write before it begins; EXEC passes those of all it runs instead.
    pub const fn nested(
        name: &'static str,
        arity: i8,
        access: Access,
        handler: NestedHandler,
    ) -> Self {
        let mut command = Self::new(name, arity, Keys::None, Handler::Nested(handler));
        command.row.access = access;
        command
    }

    /// A command that runs a script. `access` is what the script may do at most as far as is known
    /// before it runs; the commands it calls pass gates of their own.
    pub const fn scripted(
        name: &'static str,
        arity: i8,
        (keys, access): (Keys, Access),
        handler: ScriptHandler,
    ) -> Self {
        let mut command = Self::new(name, arity, keys, Handler::Script(handler));
        command.row.access = access;
        command.script()
    }

    const fn new(name: &'static str, arity: i8, keys: Keys, handler: Handler) -> Self {
        let access = match handler {
            Handler::Read(_) | Handler::BlockingRead(..) => Access::Read,
            Handler::Write(_) | Handler::Blocking(_) => Access::Write,
            Handler::Session(_) | Handler::Nested(_) | Handler::Script(_) | Handler::Container => {
                Access::None
            }
        };
        let row = Row {
            name,
            arity,
            keys,
            access,
            flags: Flags::NONE,
            names: names(name),
            is_container: false,
            usage: Usage::Redis,
        };
        Self { row, handler, leaves: &[], prepare: None, reading: None }
    }

    /// Another one where its words make a read of it.
    pub const fn or_read(mut self, reading: &'static Reading) -> Self {
        self.reading = Some(reading);
        self
    }

    /// Treated as a command that changes data by all that do not run it; see [`Reading`].
    pub const fn as_write(mut self) -> Self {
        self.row.access = Access::Write;
        self
    }

    /// A name that says nothing without a second word.
    pub const fn container(name: &'static str, leaves: &'static [Self]) -> Self {
        Self::new(name, -2, Keys::None, Handler::Container).containing(leaves)
    }

    /// With commands of its own behind its name.
    pub const fn containing(mut self, leaves: &'static [Self]) -> Self {
        self.row.is_container = true;
        self.leaves = leaves;
        self
    }

    /// With something to be done before gate and locks are held.
    pub const fn prepared(mut self, prepare: Prepare) -> Self {
        self.prepare = Some(prepare);
        self
    }

    /// With another answer than Redis' to words that do not fit.
    pub const fn usage(mut self, usage: Usage) -> Self {
        self.row.usage = usage;
        self
    }

    /// The command of a container that this second word calls, and which of them it is.
    fn leaf(&'static self, word: &[u8]) -> Option<(usize, &'static Self)> {
        let behind = self.row.name.len() + 1;
        let is_called = |(_, leaf): &(usize, &Self)| {
            let name = leaf.row.name.as_bytes().get(behind..).unwrap_or_default();
            word.eq_ignore_ascii_case(name)
        };
        self.leaves.iter().enumerate().find(is_called)
    }

    /// With keys, for session commands that name some (WATCH).
    pub const fn keyed(mut self, keys: Keys) -> Self {
        self.row.keys = keys;
        self
    }
}

/// What a command that writes is where its words make a read of it. E.g. SORT without STORE: it
/// needs no locks, and leaves its worker where it takes long, as any read.
///
/// For everything that is decided without running it, it stays what its row says, as in Redis: a
/// replica refuses it, CLIENT PAUSE WRITE holds it up.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// What runs then, and the same row.
    pub command: Command,
    /// Whether these words, the name first, are such.
    pub is_meant: fn(&[&[u8]]) -> bool,
}

/// Commands of one kind, as the documentation groups them.
#[derive(Debug)]
pub struct Family {
    /// Group name of COMMAND DOCS.
    pub name: &'static str,
    /// Its rows.
    pub commands: &'static [Command],
}

/// In table order, each with its place in the catalog.
static COMMANDS: OnceLock<Vec<(usize, &'static Command)>> = OnceLock::new();

/// Hands in the commands of this build; returns how many there are, with what is in containers. The
/// first ones stay.
pub fn give(families: &'static [Family]) -> usize {
    let commands = || families.iter().flat_map(|family| family.commands);
    let whole = families.iter().flat_map(|family| {
        let rows = family.commands.iter().flat_map(|command| {
            std::iter::once(command).chain(command.leaves).map(|command| &command.row)
        });
        rows.map(|row| (row, family.name))
    });
    Catalog::give(whole);
    Table::give(commands().map(|command| &command.row));
    let catalog = Catalog::get();
    let placed = |command: &'static Command| catalog.find(command.name).map(|at| (at, command));
    COMMANDS.get_or_init(|| commands().filter_map(placed).collect());
    catalog.entries().len()
}

/// How many words a name has.
const fn names(name: &str) -> u8 {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'|' {
            return 2;
        }
        at += 1;
    }
    1
}

/// The command that these words call, in any case, with its place in the catalog: of a container
/// the one that the second word names, or the container itself.
pub fn find(renames: &Renames, words: &[&[u8]]) -> Option<(usize, &'static Command)> {
    let (index, _) = renames.find(words.first()?)?;
    let (place, container) = at(index)?;
    let (behind, command) = match words.get(1).and_then(|word| container.leaf(word)) {
        Some((number, leaf)) => (number + 1, leaf),
        None => (0, container),
    };
    Some(match command.reading {
        Some(reading) if (reading.is_meant)(words) => (place + behind, &reading.command),
        _ => (place + behind, command),
    })
}

/// The command of that name, which may be that of one in a container (`client|id`), with its place
/// in the catalog.
pub fn named(renames: &Renames, name: &[u8]) -> Option<(usize, &'static Command)> {
    let words: Vec<&[u8]> = name.splitn(2, |byte| *byte == b'|').collect();
    find(renames, &words).filter(|(_, command)| usize::from(command.names) == words.len())
}

/// The commands that answer to some name, in table order; containers, not what is in them.
pub fn all(renames: &Renames) -> impl Iterator<Item = &'static Command> {
    renames.rows().filter_map(|(index, _)| at(index)).map(|(_, command)| command)
}

fn at(index: usize) -> Option<(usize, &'static Command)> {
    COMMANDS.get()?.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_a_container_have_its_name_before_their_own() {
        crate::shell::table();
        for container in all(&Renames::default()) {
            assert_eq!(container.is_container, !container.leaves.is_empty(), "{}", container.name);
            let mut seen = std::collections::BTreeSet::new();
            let (place, _) = named(&Renames::default(), container.name.as_bytes()).unwrap();
            let whole = std::iter::once(container).chain(container.leaves);
            for (number, command) in whole.enumerate() {
                let (found, _) = named(&Renames::default(), command.name.as_bytes()).unwrap();
                let entry = &Catalog::get().entries()[place + number];
                assert_eq!((found, entry.row.name), (place + number, command.name));
            }
            for leaf in container.leaves {
                assert_eq!((leaf.first_word(), leaf.names), (container.name, 2), "{}", leaf.name);
                assert!(seen.insert(leaf.name), "{} twice", leaf.name);
                assert!(leaf.leaves.is_empty() && leaf.name == leaf.name.to_lowercase());
            }
        }
    }
}
