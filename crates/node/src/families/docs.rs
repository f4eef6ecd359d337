//! COMMAND: what the table says of itself, and one line of documentation per command.
//!
//! Everything but the summaries is derived from the table, so it cannot differ from what the gates
//! do.

mod summaries;
mod uses;

use resp::Writer;
use storage::types::glob;

use crate::command::categories::{categories as categories_of, flag_words};
use crate::command::keys::Keys;
use crate::command::{Args, Error, Flags, Renames, Replied, Reply, Result};
use crate::session::table::{self, Family};
use crate::session::{After, Command, SessionCx};
use summaries::find;

const HELP: &[&str] = &[
    "COMMAND [<subcommand> [<arg> ...]]. Subcommands are:",
    "(no subcommand)",
    "    Describe all commands.",
    "COUNT",
    "    Say how many commands there are.",
    "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
    "    List the names of commands.",
    "INFO [<command-name> ...]",
    "    Describe commands; all if none is named.",
    "DOCS [<command-name> ...]",
    "    Document commands; all if none is named.",
    "GETKEYS <full-command>",
    "    List the keys in a command.",
    "GETKEYSANDFLAGS <full-command>",
    "    List the keys in a command, and what it does with each.",
    "HELP",
    "    Print this help.",
];

#[rustfmt::skip]
pub(super) const COMMANDS: &[Command] = &[
    Command::session("command|count",    2, count).loading().stale(),
    Command::session("command|docs",    -2, document).loading().stale(),
    Command::session("command|getkeys", -4, get_keys).loading().stale(),
    Command::session("command|getkeysandflags", -4, get_keys_and_flags).loading().stale(),
    Command::session("command|help",     2, help).loading().stale(),
    Command::session("command|info",    -2, info).loading().stale(),
    Command::session("command|list",    -2, list).loading().stale(),
];

/// Names of commands that one client asks for at once: each is described anew, in a hundred times
/// its own bytes.
const NAMES_MAX: usize = 10_000;

fn must_be_few(names: &[&[u8]]) -> Result<()> {
    match names.len() {
        0..=NAMES_MAX => Ok(()),
        _ => Err(Error::err("too many names of commands at once")),
    }
}

/// COMMAND.
pub(super) fn command(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    Ok(describe_all(&cx.config.renames, reply).into())
}

fn count(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.count(table::all(&cx.config.renames).count()).into())
}

fn info(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let (renames, names) = (&cx.config.renames, args.rest());
    must_be_few(names)?;
    Ok(match names {
        [] => describe_all(renames, reply),
        names => describe_some(renames, names, reply),
    }
    .into())
}

fn help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(HELP).into())
}

fn document(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let names = args.rest();
    must_be_few(names)?;
    Ok(docs_of(&cx.config.renames, names, reply).into())
}

fn get_keys(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(keys_of(&cx.config.renames, args.rest(), reply)?.into())
}

fn get_keys_and_flags(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let words = args.rest();
    let command = with_keys(&cx.config.renames, words)?;
    let keys: Vec<&[u8]> = command.keys_in(words).collect();
    let replied = reply.with(|writer| {
        writer.array(keys.len());
        for (place, key) in keys.iter().enumerate() {
            writer.array(2);
            writer.bulk(key);
            simple_set(writer, &uses::words(&command.row, words, (place, keys.len())));
        }
    });
    Ok(replied.into())
}

fn list(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    // As in Redis also what is in containers.
    let of = |command: &'static Command| std::iter::once(command).chain(command.leaves);
    let names = || table::all(&cx.config.renames).flat_map(of);
    let chosen: Vec<&str> = match args.word().as_deref() {
        None => names().map(|command| command.name).collect(),
        Some(b"FILTERBY") => {
            let kind = args.word().ok_or(Error::Syntax)?;
            let wanted = args.bytes()?.to_ascii_lowercase();
            args.end()?;
            match &*kind {
                // There are no modules.
                b"MODULE" => Vec::new(),
                b"ACLCAT" => names()
                    .filter(|command| {
                        categories(command).iter().any(|c| c.as_bytes()[1..] == *wanted)
                    })
                    .map(|command| command.name)
                    .collect(),
                b"PATTERN" => names()
                    .map(|command| command.name)
                    .filter(|name| glob::matches(&wanted, name.as_bytes()))
                    .collect(),
                _ => return Err(Error::Syntax),
            }
        }
        Some(_) => return Err(Error::Syntax),
    };
    Ok(reply.bulks(&chosen).into())
}

fn keys_of(renames: &Renames, words: &[&[u8]], reply: Reply<'_>) -> Result<Replied> {
    let keys: Vec<&[u8]> = with_keys(renames, words)?.keys_in(words).collect();
    Ok(reply.bulks(&keys))
}

/// The command that these words call, which must have keys.
fn with_keys(renames: &Renames, words: &[&[u8]]) -> Result<&'static Command> {
    let (_, command) =
        table::find(renames, words).ok_or_else(|| Error::err("Invalid command specified"))?;
    if matches!(command.keys, Keys::None) || command.flags.has(Flags::PUBSUB) {
        return Err(Error::err("The command has no key arguments"));
    }
    if !command.accepts(words.len()) {
        return Err(Error::err("Invalid number of arguments specified for command"));
    }
    if !command.keys.are_all_there(words) {
        return Err(Error::err("Invalid arguments specified for command"));
    }
    Ok(command)
}

fn describe_all(renames: &Renames, reply: Reply<'_>) -> Replied {
    let commands: Vec<&Command> = table::all(renames).collect();
    reply.with(|writer| {
        writer.array(commands.len());
        for command in commands {
            describe(writer, command);
        }
    })
}

/// The command of that name, which may be that of one in a container (`client|id`).
fn named(renames: &Renames, name: &[u8]) -> Option<&'static Command> {
    table::named(renames, name).map(|(_, command)| command)
}

fn describe_some(renames: &Renames, names: &[&[u8]], reply: Reply<'_>) -> Replied {
    reply.with(|writer| {
        writer.array(names.len());
        for name in names {
            match named(renames, name) {
                Some(command) => describe(writer, command),
                None => writer.null(),
            }
        }
    })
}

/// The ten elements of Redis 7: name, arity, flags, first and last key, step, ACL categories, tips,
/// key specifications, subcommands.
fn describe(writer: &mut Writer<'_>, command: &Command) {
    describe_row(writer, command);
    writer.set(command.leaves.len());
    for leaf in command.leaves {
        describe_row(writer, leaf);
        writer.set(0);
    }
}

/// The first nine elements.
fn describe_row(writer: &mut Writer<'_>, command: &Command) {
    writer.array(10);
    writer.bulk(command.name.as_bytes());
    writer.integer(i64::from(command.arity));
    simple_set(writer, &flag_words(&command.row));
    let (first, last, step) = command.keys.shown();
    writer.integer(first);
    writer.integer(last);
    writer.integer(step);
    simple_set(writer, &categories(command));
    // No tips.
    writer.set(0);
    key_specifications(writer, command);
}

fn simple_set(writer: &mut Writer<'_>, words: &[impl AsRef<str>]) {
    writer.set(words.len());
    for word in words {
        writer.simple(word.as_ref());
    }
}

/// Where the keys are, in Redis' words; one of a rule of its own is said to be unknown.
fn key_specifications(writer: &mut Writer<'_>, command: &Command) {
    type Facts<'f> = &'f [(&'f str, i64)];
    let specify = |writer: &mut Writer<'_>, first: i64, kind: &str, facts: Facts<'_>| {
        writer.map(3);
        writer.bulk(b"flags");
        let flags: &[&str] = if command.is_write() { &["RW", "update"] } else { &["RO", "access"] };
        simple_set(writer, flags);
        let parts: [(&str, &str, Facts<'_>); 2] =
            [("begin_search", "index", &[("index", first)]), ("find_keys", kind, facts)];
        for (role, kind, facts) in parts {
            writer.bulk(role.as_bytes());
            writer.map(2);
            writer.bulk(b"type");
            writer.bulk(kind.as_bytes());
            writer.bulk(b"spec");
            writer.map(facts.len());
            for (name, value) in facts {
                writer.bulk(name.as_bytes());
                writer.integer(*value);
            }
        }
    };
    let range = |last, step| [("lastkey", last), ("keystep", step), ("limit", 0)];
    match command.keys {
        Keys::None => writer.set(0),
        Keys::Range { first, last, step } => {
            // Counted from the first key; from the end where it is negative.
            let last = if last < 0 { i64::from(last) } else { i64::from(last) - i64::from(first) };
            writer.set(1);
            specify(writer, i64::from(first), "range", &range(last, i64::from(step)));
        }
        Keys::Counted { also, count } => {
            writer.set(1 + usize::from(also > 0));
            if also > 0 {
                specify(writer, i64::from(also), "range", &range(0, 1));
            }
            let facts = [("keynumidx", 0), ("firstkey", 1), ("keystep", 1)];
            specify(writer, i64::from(count), "keynum", &facts);
        }
        Keys::FirstAnd(_) => {
            writer.set(2);
            specify(writer, 1, "range", &range(0, 1));
            specify(writer, 0, "unknown", &[]);
        }
        Keys::With(_) => {
            writer.set(1);
            specify(writer, 0, "unknown", &[]);
        }
    }
}

/// ACL categories, in Redis' order.
fn categories(command: &Command) -> Vec<String> {
    let all = categories_of(&command.row, family(command)).into_iter();
    all.map(|category| format!("@{category}")).collect()
}

fn family(command: &Command) -> &'static str {
    let has = |family: &&Family| family.commands.iter().any(|row| row.name == command.first_word());
    super::ALL.iter().find(has).map_or("generic", |family| family.name)
}

fn docs_of(renames: &Renames, names: &[&[u8]], reply: Reply<'_>) -> Replied {
    let found: Vec<&Command> = match names {
        [] => table::all(renames).collect(),
        names => names.iter().filter_map(|name| named(renames, name)).collect(),
    };
    reply.with(|writer| {
        writer.map(found.len());
        found.into_iter().for_each(|command| document_one(writer, command));
    })
}

/// A name and what there is to say of it; of a container also what is in it, which has no summary
/// of its own.
fn document_one(writer: &mut Writer<'_>, command: &Command) {
    let own = find(command.name);
    let doc = own.or_else(|| find(command.first_word()));
    let facts = [
        ("summary", doc.map_or("", |doc| doc.summary)),
        ("since", own.map_or("", |doc| doc.since)),
        ("group", group(command)),
    ];
    let known = facts.iter().filter(|(_, text)| !text.is_empty());
    let has_leaves = !command.leaves.is_empty();
    writer.bulk(command.name.as_bytes());
    writer.map(known.clone().count() + usize::from(has_leaves));
    for (name, text) in known {
        writer.bulk(name.as_bytes());
        writer.bulk(text.as_bytes());
    }
    if has_leaves {
        writer.bulk(b"subcommands");
        writer.map(command.leaves.len());
        command.leaves.iter().for_each(|leaf| document_one(writer, leaf));
    }
}

/// Redis has no group for replication, whose commands are the server's, and none for SORT.
fn group(command: &Command) -> &'static str {
    match family(command) {
        "replication" => "server",
        "sort" => "generic",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::summaries::DOCS;
    use super::*;
    use crate::shell;

    #[test]
    fn every_command_has_one_summary() {
        for command in shell::table().rows() {
            let count = DOCS.iter().filter(|doc| doc.name == command.name).count();
            assert_eq!(count, 1, "documentation of `{}`", command.name);
        }
        for doc in DOCS {
            assert!(doc.summary.ends_with('.') && doc.summary.len() < 80, "{}", doc.name);
        }
    }

    fn replied(run: impl FnOnce(Reply<'_>) -> Replied) -> String {
        let mut out = Vec::new();
        run(Reply::new(Writer::new(&mut out, resp::Protocol::V2)));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_description_has_the_shape_of_redis_7() {
        shell::table();
        let text = replied(|reply| describe_some(&Renames::default(), &[b"GET", b"nosuch"], reply));
        let expected = "*2 *10 $3 get :2 *2 +readonly +fast :1 :1 :1 *3 +@read +@string +@fast *0 *1 *6 $5 flags *2 +RO +access \
            $12 begin_search *4 $4 type $5 index $4 spec *2 $5 index :1 \
            $9 find_keys *4 $4 type $5 range $4 spec *6 $7 lastkey :0 $7 keystep :1 $5 limit :0 *0 $-1";
        assert_eq!(text.split("\r\n").collect::<Vec<_>>().join(" ").trim_end(), expected);
    }

    #[test]
    fn a_container_is_described_with_its_subcommands() {
        shell::table();
        let text = replied(|reply| describe_some(&Renames::default(), &[b"slowlog"], reply));
        let names: Vec<&str> = text.lines().filter(|line| line.starts_with("slowlog")).collect();
        assert_eq!(
            names,
            ["slowlog", "slowlog|get", "slowlog|help", "slowlog|len", "slowlog|reset"]
        );
        let names: &[&[u8]] = &[b"CLIENT|Kill", b"client|x", b"get|x"];
        let text = replied(|reply| describe_some(&Renames::default(), names, reply));
        assert!(text.starts_with("*3\r\n*10\r\n$11\r\nclient|kill\r\n:-3\r\n"), "{text}");
        assert!(text.ends_with("*0\r\n$-1\r\n$-1\r\n"), "{text}");
    }

    #[test]
    fn what_is_in_a_container_is_documented_with_it_and_by_its_name() {
        shell::table();
        let names: &[&[u8]] = &[b"SLOWLOG|Len", b"slowlog|x", b"nosuch", b"asking"];
        let text = replied(|reply| docs_of(&Renames::default(), names, reply));
        let words: Vec<&str> = text.lines().filter(|line| !line.starts_with(['*', '$'])).collect();
        let summary = |name: &str| find(name).unwrap().summary;
        let one = ["slowlog|len", "summary", summary("slowlog"), "group", "server"];
        let other = ["asking", "summary", summary("asking"), "since", "3.0.0", "group", "cluster"];
        assert_eq!(words, [&one[..], &other].concat());
        let text = replied(|reply| docs_of(&Renames::default(), &[b"slowlog"], reply));
        assert!(
            text.contains("$11\r\nsubcommands\r\n*8\r\n$11\r\nslowlog|get\r\n*4\r\n"),
            "{text}"
        );
    }

    #[test]
    fn a_renamed_command_is_known_by_its_new_name_only() {
        shell::table();
        let mut renames = Renames::default();
        renames.add("get", "g").unwrap();
        let keys = replied(|reply| keys_of(&renames, &[b"g", b"a"], reply).unwrap());
        assert_eq!(keys, "*1\r\n$1\r\na\r\n");
        let text = replied(|reply| describe_some(&renames, &[b"get", b"G"], reply));
        assert!(text.starts_with("*2\r\n$-1\r\n*10\r\n$3\r\nget\r\n"), "{text}");
        let count = replied(|reply| describe_all(&renames, reply));
        assert!(count.starts_with(&format!("*{}\r\n", shell::table().rows().len())));
    }

    #[test]
    fn keys_are_found_and_missing_ones_explained() {
        shell::table();
        let keys = replied(|reply| {
            keys_of(&Renames::default(), &[b"mset", b"a", b"1", b"b", b"2"], reply).unwrap()
        });
        assert_eq!(keys, "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
        let refused = |words: &[&[u8]]| {
            let mut out = Vec::new();
            let reply = Reply::new(Writer::new(&mut out, resp::Protocol::V2));
            keys_of(&Renames::default(), words, reply).unwrap_err().to_string()
        };
        assert_eq!(refused(&[b"nosuch", b"a"]), "ERR Invalid command specified");
        assert_eq!(refused(&[b"ping", b"a"]), "ERR The command has no key arguments");
        assert_eq!(
            refused(&[b"set", b"a"]),
            "ERR Invalid number of arguments specified for command"
        );
    }
}
