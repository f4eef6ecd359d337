//! COMMAND: what the table says of itself, and one line of documentation per command.
//!
//! Everything but the summaries is derived from the table, so it cannot differ from what the gates do.

use std::borrow::Cow;

use resp::Writer;
use storage::types::glob;

use crate::command::keys::Keys;
use crate::command::row::Access;
use crate::command::{Args, Error, Flags, Renames, Replied, Reply, Result};
use crate::session::table::{self, Family};
use crate::session::{After, Command, SessionCx};

/// Documentation of one command.
#[derive(Debug, Clone, Copy)]
pub struct Doc {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Redis version that first had it; empty for commands Redis does not have.
    pub since: &'static str,
}

const fn doc(name: &'static str, since: &'static str, summary: &'static str) -> Doc {
    Doc { name, summary, since }
}

#[rustfmt::skip]
const DOCS: &[Doc] = &[
    // Strings.
    doc("append",      "2.0.0",  "Adds to the end of a string; creates it if needed."),
    doc("cad",         "",       "Deletes a string if it has the given value."),
    doc("cas",         "",       "Replaces a string if it has the given value."),
    doc("decr",        "1.0.0",  "Subtracts one from an integer; a missing key counts as 0."),
    doc("decrby",      "1.0.0",  "Subtracts from an integer; a missing key counts as 0."),
    doc("get",         "1.0.0",  "Reads a string."),
    doc("getdel",      "6.2.0",  "Reads a string and deletes its key."),
    doc("getex",       "6.2.0",  "Reads a string and sets or removes its expiry time."),
    doc("getrange",    "2.4.0",  "Reads a part of a string by positions."),
    doc("getset",      "1.0.0",  "Replaces a string and returns its old value."),
    doc("incr",        "1.0.0",  "Adds one to an integer; a missing key counts as 0."),
    doc("incrby",      "1.0.0",  "Adds to an integer; a missing key counts as 0."),
    doc("incrbyfloat", "2.6.0",  "Adds to a floating-point number; a missing key counts as 0."),
    doc("lcs",         "7.0.0",  "Finds the longest common subsequence of two strings."),
    doc("mget",        "1.0.0",  "Reads several strings."),
    doc("mset",        "1.0.1",  "Writes several strings at once."),
    doc("msetnx",      "1.0.1",  "Writes several strings at once if none of their keys exists."),
    doc("psetex",      "2.6.0",  "Writes a string that expires after some milliseconds."),
    doc("set",         "1.0.0",  "Writes a string, whatever the key held before."),
    doc("setex",       "2.0.0",  "Writes a string that expires after some seconds."),
    doc("setnx",       "1.0.0",  "Writes a string if its key does not exist."),
    doc("setrange",    "2.2.0",  "Overwrites a part of a string from a position on."),
    doc("strlen",      "2.2.0",  "Tells the length of a string."),
    doc("substr",      "1.0.0",  "Reads a part of a string by positions; older name of GETRANGE."),
    // Hashes.
    doc("hdel",        "2.0.0",  "Deletes fields of a hash."),
    doc("hexists",     "2.0.0",  "Tells whether a hash has a field."),
    doc("hget",        "2.0.0",  "Reads a field of a hash."),
    doc("hgetall",     "2.0.0",  "Reads all fields of a hash and their values."),
    doc("hincrby",     "2.0.0",  "Adds to an integer in a field; a missing one counts as 0."),
    doc("hincrbyfloat", "2.6.0", "Adds to a floating-point number in a field; a missing one counts as 0."),
    doc("hkeys",       "2.0.0",  "Lists the fields of a hash."),
    doc("hlen",        "2.0.0",  "Counts the fields of a hash."),
    doc("hmget",       "2.0.0",  "Reads several fields of a hash."),
    doc("hmset",       "2.0.0",  "Writes fields of a hash; older form of HSET."),
    doc("hrandfield",  "6.2.0",  "Returns fields of a hash by chance."),
    doc("hrangebylex", "",       "Lists the fields of a hash between two names, with their values."),
    doc("hscan",       "2.8.0",  "Walks through the fields of a hash step by step."),
    doc("hset",        "2.0.0",  "Writes fields of a hash; creates it if needed."),
    doc("hsetnx",      "2.0.0",  "Writes a field of a hash if it has none of that name."),
    doc("hstrlen",     "3.2.0",  "Tells the length of a field of a hash."),
    doc("hvals",       "2.0.0",  "Lists the values of a hash."),
    // Sorted sets.
    doc("zadd",        "1.2.0",  "Gives members of a sorted set their scores; creates it if needed."),
    doc("zcard",       "1.2.0",  "Counts the members of a sorted set."),
    doc("zcount",      "2.0.0",  "Counts the members of a sorted set between two scores."),
    doc("zdiff",       "6.2.0",  "Lists the members of a sorted set that others do not have."),
    doc("zdiffstore",  "6.2.0",  "Stores the members of a sorted set that others do not have."),
    doc("zincrby",     "1.2.0",  "Adds to the score of a member; a missing one counts as 0."),
    doc("zinter",      "6.2.0",  "Lists the members that several sorted sets have."),
    doc("zintercard",  "7.0.0",  "Counts the members that several sorted sets have."),
    doc("zinterstore", "2.0.0",  "Stores the members that several sorted sets have."),
    doc("zlexcount",   "2.8.9",  "Counts the members of a sorted set between two names."),
    doc("zmpop",       "7.0.0",  "Takes members out at one end of the first sorted set that has any."),
    doc("zmscore",     "6.2.0",  "Reads the scores of several members."),
    doc("zpopmax",     "5.0.0",  "Takes the members with the greatest scores out of a sorted set."),
    doc("zpopmin",     "5.0.0",  "Takes the members with the least scores out of a sorted set."),
    doc("zrandmember", "6.2.0",  "Returns members of a sorted set by chance."),
    doc("zrange",      "1.2.0",  "Lists members of a sorted set by rank, score or name."),
    doc("zrangebylex", "2.8.9",  "Lists the members of a sorted set between two names."),
    doc("zrangebyscore", "1.0.5", "Lists the members of a sorted set between two scores."),
    doc("zrangestore", "6.2.0",  "Stores members of a sorted set by rank, score or name."),
    doc("zrank",       "2.0.0",  "Tells how many members have smaller scores than one."),
    doc("zrem",        "1.2.0",  "Deletes members of a sorted set."),
    doc("zremrangebylex", "2.8.9", "Deletes the members of a sorted set between two names."),
    doc("zremrangebyrank", "2.0.0", "Deletes the members of a sorted set between two ranks."),
    doc("zremrangebyscore", "1.2.0", "Deletes the members of a sorted set between two scores."),
    doc("zrevrange",   "1.2.0",  "Lists members of a sorted set by rank, greatest scores first."),
    doc("zrevrangebylex", "2.8.9", "Lists the members of a sorted set between two names, last ones first."),
    doc("zrevrangebyscore", "2.2.0", "Lists the members of a sorted set between two scores, greatest first."),
    doc("zrevrank",    "2.0.0",  "Tells how many members have greater scores than one."),
    doc("zscan",       "2.8.0",  "Walks through the members of a sorted set step by step."),
    doc("zscore",      "1.2.0",  "Reads the score of a member."),
    doc("zunion",      "6.2.0",  "Lists the members of several sorted sets."),
    doc("zunionstore", "2.0.0",  "Stores the members of several sorted sets."),
    // Keys.
    doc("copy",        "6.2.0",  "Copies the value of a key to another key."),
    doc("del",         "1.0.0",  "Deletes keys."),
    doc("dump",        "2.6.0",  "Returns the value of a key in serialised form."),
    doc("exists",      "1.0.0",  "Counts how many of the keys exist."),
    doc("expire",      "1.0.0",  "Lets a key expire after some seconds."),
    doc("expireat",    "1.2.0",  "Lets a key expire at a Unix time in seconds."),
    doc("expiretime",  "7.0.0",  "Tells when a key expires, as a Unix time in seconds."),
    doc("keys",        "1.0.0",  "Lists all keys that match a pattern."),
    doc("move",        "1.0.0",  "Answers as if a key was moved to another database; there is only one."),
    doc("movex",       "",       "Moves a key to another namespace."),
    doc("object",      "2.2.3",  "Looks into how a key is stored."),
    doc("persist",     "2.2.0",  "Removes the expiry time of a key."),
    doc("pexpire",     "2.6.0",  "Lets a key expire after some milliseconds."),
    doc("pexpireat",   "2.6.0",  "Lets a key expire at a Unix time in milliseconds."),
    doc("pexpiretime", "7.0.0",  "Tells when a key expires, as a Unix time in milliseconds."),
    doc("pttl",        "2.6.0",  "Tells how many milliseconds a key has left."),
    doc("randomkey",   "1.0.0",  "Returns one of the keys by chance."),
    doc("rename",      "1.0.0",  "Gives a key another name, in place of any key that has it."),
    doc("renamenx",    "1.0.0",  "Gives a key another name if no key has it."),
    doc("restore",     "2.6.0",  "Creates a key from its serialised form."),
    doc("scan",        "2.8.0",  "Walks through the keys step by step."),
    doc("sort",        "1.0.0",  "Sorts the elements of a list or set; may store the result."),
    doc("sort_ro",     "7.0.0",  "Sorts the elements of a list or set."),
    doc("touch",       "3.2.1",  "Counts how many of the keys exist."),
    doc("ttl",         "1.0.0",  "Tells how many seconds a key has left."),
    doc("type",        "1.0.0",  "Tells which type the value of a key has."),
    doc("unlink",      "4.0.0",  "Deletes keys, as DEL does."),
    // Connection.
    doc("auth",        "1.0.0",  "Authenticates the connection."),
    doc("client",      "2.4.0",  "Shows, names, pauses and ends connections."),
    doc("echo",        "1.0.0",  "Returns its argument."),
    doc("hello",       "6.0.0",  "Chooses the protocol version; may authenticate and name the connection."),
    doc("ping",        "1.0.0",  "Answers, to show that the node does."),
    doc("quit",        "1.0.0",  "Ends the connection."),
    doc("reset",       "6.2.0",  "Puts the connection back into the state it began with."),
    doc("select",      "1.0.0",  "Chooses database 0, the only one."),
    // Server.
    doc("bgsave",      "1.0.0",  "Begins to make a backup: a copy of the database in backup-dir."),
    doc("command",     "2.8.13", "Describes the commands."),
    doc("config",      "2.0.0",  "Shows and changes the options of the node."),
    doc("dbsize",      "1.0.0",  "Counts the keys by looking at each."),
    doc("debug",       "1.0.0",  "Makes the node misbehave, for tests."),
    doc("flushbackup", "",       "Removes the backup that BGSAVE made."),
    doc("flushall",    "1.0.0",  "Deletes all keys of all namespaces."),
    doc("flushdb",     "1.0.0",  "Deletes all keys."),
    doc("info",        "1.0.0",  "Shows what the node is, does and has done."),
    doc("lastsave",    "1.0.0",  "Tells when the newest backup was made, or the time of the start."),
    doc("role",        "2.8.12", "Tells the role of the node and with whom it replicates."),
    doc("shutdown",    "1.0.0",  "Ends the process."),
    doc("slowlog",     "2.2.12", "Shows the commands that took longest lately."),
    doc("time",        "2.6.0",  "Tells the time of the node's clock."),
    // Transactions.
    doc("discard",     "2.0.0",  "Forgets the queued commands and ends the transaction."),
    doc("exec",        "1.2.0",  "Runs the queued commands as one."),
    doc("multi",       "1.2.0",  "Begins to queue commands for one transaction."),
    doc("unwatch",     "2.2.0",  "Watches no key any more."),
    doc("watch",       "2.2.0",  "Lets the next EXEC do nothing if one of the keys changes before."),
    // Cluster.
    doc("asking",      "3.0.0",  "Lets the next command use a slot that is being imported."),
    doc("cluster",     "3.0.0",  "Shows the topology of the cluster."),
    doc("clusterx",    "",       "Sets the topology of the cluster and grants leases; for controllers."),
    doc("readonly",    "3.0.0",  "Lets the connection read from a replica."),
    doc("readwrite",   "3.0.0",  "Ends what READONLY began."),
    // Replication.
    doc("_db_name",    "",       "Tells the name both ends of a replication link must agree on."),
    doc("_fetch_file", "",       "Sends files of a full sync; for replicas."),
    doc("_fetch_meta", "",       "Lists the files of a full sync; for replicas."),
    doc("failover",    "6.2.0",  "Hands the role of master to a replica."),
    doc("pollupdates", "",       "Returns write batches behind a sequence number."),
    doc("psync",       "2.8.0",  "Begins a replication stream; for replicas."),
    doc("replconf",    "3.0.0",  "Tells a master about its replica; for replicas."),
    doc("replicaof",   "5.0.0",  "Makes the node a replica of another, or a master."),
    doc("slaveof",     "1.0.0",  "Makes the node a replica of another, or a master."),
    doc("sync",        "1.0.0",  "Begins a replication stream of Redis; refused."),
    doc("wait",        "3.0.0",  "Waits until replicas have acknowledged the writes so far."),
];

/// Documentation of the command of that lower-case name.
pub fn find(name: &str) -> Option<&'static Doc> {
    DOCS.iter().find(|doc| doc.name == name)
}

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
    "HELP",
    "    Print this help.",
];

#[rustfmt::skip]
pub(super) const COMMANDS: &[Command] = &[
    Command::session("command|count",    2, count).loading().stale(),
    Command::session("command|docs",    -2, document).loading().stale(),
    Command::session("command|getkeys", -4, get_keys).loading().stale(),
    Command::session("command|help",     2, help).loading().stale(),
    Command::session("command|info",    -2, info).loading().stale(),
    Command::session("command|list",    -2, list).loading().stale(),
];

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
    let renames = &cx.config.renames;
    Ok(match args.is_empty() {
        true => describe_all(renames, reply),
        false => describe_some(renames, args.rest(), reply),
    }
    .into())
}

fn help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(HELP).into())
}

fn document(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(docs_of(&cx.config.renames, args.rest(), reply).into())
}

fn get_keys(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(keys_of(&cx.config.renames, args.rest(), reply)?.into())
}

fn list(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let names = || table::all(&cx.config.renames);
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
    let (_, command) =
        table::find(renames, words).ok_or_else(|| Error::err("Invalid command specified"))?;
    if matches!(command.keys, Keys::None) {
        return Err(Error::err("The command has no key arguments"));
    }
    if !command.accepts(words.len()) {
        return Err(Error::err("Invalid number of arguments specified for command"));
    }
    let keys: Vec<&[u8]> = command.keys_in(words).collect();
    Ok(reply.bulks(&keys))
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
    let words: Vec<&[u8]> = name.splitn(2, |byte| *byte == b'|').collect();
    let (_, command) = table::find(renames, &words)?;
    (usize::from(command.names) == words.len()).then_some(command)
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

/// The ten elements of Redis 7: name, arity, flags, first and last key, step, ACL categories, tips, key specifications, subcommands.
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
    simple_set(writer, &flag_words(command));
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
        Keys::With(_) => {
            writer.set(1);
            specify(writer, 0, "unknown", &[]);
        }
    }
}

fn flag_words(command: &Command) -> Vec<&'static str> {
    let kind = match command.access {
        Access::Write => Some("write"),
        Access::Read => Some("readonly"),
        // DBSIZE counts outside the gate, but what it does is read.
        Access::None => command.flags.has(Flags::KEYSPACE).then_some("readonly"),
    };
    let grows = command.may_grow().then_some("denyoom");
    let moves = matches!(command.keys, Keys::Counted { .. } | Keys::With(_));
    let moves = moves.then_some("movablekeys");
    kind.into_iter().chain(grows).chain(command.flags.words()).chain(moves).collect()
}

/// ACL categories, in Redis' order.
fn categories(command: &Command) -> Vec<Cow<'static, str>> {
    let flags = command.flags;
    let family = family(command);
    let is_fast = flags.has(Flags::FAST);
    let is_admin = flags.has(Flags::ADMIN) || flags.has(Flags::PEER);
    let kind = flag_words(command).first().copied();
    let facts = [
        ("@keyspace", family == "generic" || flags.has(Flags::KEYSPACE)),
        ("@read", kind == Some("readonly")),
        ("@write", kind == Some("write")),
        ("@string", family == "string"),
        ("@admin", is_admin),
        ("@fast", is_fast),
        ("@slow", !is_fast),
        ("@blocking", flags.has(Flags::BLOCKING)),
        ("@dangerous", is_admin || flags.has(Flags::ALL_KEYS)),
        ("@connection", family == "connection"),
        ("@transaction", family == "transactions"),
    ];
    let mut found: Vec<Cow<'static, str>> =
        facts.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.into()).collect();
    let is_named_above = matches!(
        family,
        "string" | "generic" | "connection" | "transactions" | "server" | "cluster" | "replication"
    );
    if !is_named_above {
        found.push(format!("@{family}").into());
    }
    found
}

fn family(command: &Command) -> &'static str {
    let has = |family: &&Family| family.commands.iter().any(|row| row.name == command.first_word());
    super::ALL.iter().find(has).map_or("generic", |family| family.name)
}

fn docs_of(renames: &Renames, names: &[&[u8]], reply: Reply<'_>) -> Replied {
    let found: Vec<&Command> = if names.is_empty() {
        table::all(renames).collect()
    } else {
        names
            .iter()
            .filter_map(|name| table::find(renames, &[*name]))
            .map(|(_, command)| command)
            .collect()
    };
    reply.with(|writer| {
        writer.map(found.len());
        for command in found {
            writer.bulk(command.name.as_bytes());
            let doc = find(command.name);
            let facts = [
                ("summary", doc.map_or("", |doc| doc.summary)),
                ("since", doc.map_or("", |doc| doc.since)),
                ("group", group(command)),
            ];
            let known = facts.iter().filter(|(_, text)| !text.is_empty());
            writer.map(known.clone().count());
            for (name, text) in known {
                writer.bulk(name.as_bytes());
                writer.bulk(text.as_bytes());
            }
        }
    })
}

/// Redis has no group for replication: its commands are the server's.
fn group(command: &Command) -> &'static str {
    match family(command) {
        "replication" => "server",
        other => other,
    }
}

#[cfg(test)]
mod tests {
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
