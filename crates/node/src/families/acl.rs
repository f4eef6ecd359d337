//! ACL: users and what they may do. Replies are Redis 7's.

use resp::Writer;

use crate::acl::log::{Entry, Reason};
use crate::acl::selector::{Denied, Selector};
use crate::acl::{self, Account, DEFAULT};
use crate::clients::subscriptions::Kind;
use crate::command::categories::CATEGORIES;
use crate::command::{Args, Catalog, Error, Reply, Result};
use crate::durable;
use crate::node::Node;
use crate::session::table::{self, SessionHandler};
use crate::session::{After, Command, SessionCx};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::container("acl", ACL).loading().stale().no_script(),
];

#[rustfmt::skip]
const ACL: &[Command] = &[
    acl("acl|cat",     -2, categories),
    acl("acl|deluser", -3, remove).admin().at_node(),
    acl("acl|dryrun",  -4, try_out).admin().skip_slowlog(),
    acl("acl|genpass", -2, generate),
    acl("acl|getuser",  3, show).admin(),
    acl("acl|help",     2, help),
    acl("acl|list",     2, list).admin(),
    acl("acl|load",     2, load).admin().at_node(),
    acl("acl|log",     -2, log).admin(),
    acl("acl|save",     2, save).admin().at_node(),
    acl("acl|setuser", -3, set).admin().at_node().skip_slowlog(),
    acl("acl|users",    2, names).admin(),
    acl("acl|whoami",   2, who_am_i),
];

const fn acl(name: &'static str, arity: i8, handler: SessionHandler) -> Command {
    Command::session(name, arity, handler).loading().stale().no_script()
}

const HELP: &[&str] = &[
    "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CAT [<category>]",
    "    List the categories of commands, or the commands of one.",
    "DELUSER <username> [<username> ...]",
    "    Remove users, and close their connections.",
    "DRYRUN <username> <command> [<arg> ...]",
    "    Say whether a user may run a command, without running it.",
    "GENPASS [<bits>]",
    "    Make up a password of so many bits (default: 256).",
    "GETUSER <username>",
    "    Show a user.",
    "LIST",
    "    Show all users as lines of a configuration file.",
    "LOAD",
    "    Read the users from the file of `aclfile` again.",
    "LOG [<count> | RESET]",
    "    Show what was refused lately, or forget it.",
    "SAVE",
    "    Write the users into the file of `aclfile`.",
    "SETUSER <username> <modifier> [<modifier> ...]",
    "    Change a user, or make one.",
    "USERS",
    "    List the names of all users.",
    "WHOAMI",
    "    Say whose connection this is.",
    "HELP",
    "    Print this help.",
];

fn help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(HELP).into())
}

fn who_am_i(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.bulk(cx.session.user_name().as_bytes()).into())
}

fn categories(_cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let wanted = match args.rest() {
        [] => return Ok(reply.bulks(&CATEGORIES).into()),
        [wanted] => *wanted,
        _ => {
            return Err(Error::err(
                "unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP.",
            ));
        }
    };
    let wanted = String::from_utf8_lossy(wanted).to_lowercase();
    let catalog = Catalog::get();
    if !catalog.has_category(&wanted) {
        return Err(Error::err(format!("Unknown category '{wanted}'")));
    }
    // As in Redis, of a container what is in it.
    let is_listed = |name: &str| {
        let entry = catalog.find(name).and_then(|at| catalog.entries().get(at));
        entry.is_some_and(|entry| !entry.row.is_container)
    };
    let entries = catalog.entries().iter();
    let found: Vec<&str> = entries
        .filter(|entry| entry.categories.contains(&wanted) && is_listed(entry.row.name))
        .map(|entry| entry.row.name)
        .collect();
    Ok(reply.bulks(&found).into())
}

/// Longest password that is made up, in bits.
const BITS_MAX: i64 = 4096;

fn generate(_cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let bits = if args.is_empty() { 256 } else { args.integer()? };
    args.end()?;
    if !(1..=BITS_MAX).contains(&bits) {
        return Err(Error::err(
            "ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
        ));
    }
    let digits = usize::try_from(bits).unwrap_or(0).div_ceil(4);
    // `rand::random` draws from a generator that is seeded by the system and made for secrets.
    let text: String = (0..digits).map(|_| format!("{:x}", rand::random::<u8>() & 0xf)).collect();
    Ok(reply.bulk(text.as_bytes()).into())
}

fn name<'a>(args: &mut Args<'a>) -> Result<&'a str> {
    let name = std::str::from_utf8(args.bytes()?).unwrap_or_default();
    if acl::is_name(name) {
        return Ok(name);
    }
    Err(Error::err("Usernames can't contain spaces or null characters"))
}

fn set(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let name = name(args)?;
    let modifiers: std::result::Result<Vec<&str>, _> =
        args.rest().iter().map(|word| std::str::from_utf8(word)).collect();
    let modifiers = modifiers.map_err(|_| Error::err("modifiers of ACL SETUSER are UTF-8 text"))?;
    cx.node.acl.set(name, &modifiers).map_err(Error::err)?;
    tracing::info!(user = name, client = %cx.session.client.address, "ACL SETUSER");
    if let Some(account) = cx.node.acl.find(name) {
        end_subscriptions(cx.node, &account);
    }
    Ok(reply.ok().into())
}

/// Clients that subscribe to what their user may not use any more are cut off, as in Redis.
fn end_subscriptions(node: &Node, account: &Account) {
    let user = account.user();
    node.clients.kill_where(|client| {
        if client.user_name() != account.name {
            return false;
        }
        let own = client.subscriptions.lock();
        let is_lost = |kind, is_pattern| {
            own.of(kind).iter().any(|channel| !user.allows_channel(channel, is_pattern))
        };
        is_lost(Kind::Channel, false) || is_lost(Kind::Pattern, true) || is_lost(Kind::Shard, false)
    });
}

/// Closes the connections of users; true if this one is among them.
fn close(cx: &SessionCx<'_>, users: &[String]) -> bool {
    let me = cx.session.client.id;
    let is_theirs = |name: &str| users.iter().any(|user| user == name);
    cx.node.clients.kill_where(|client| {
        client.id != me
            && !client.is_peer.load(std::sync::atomic::Ordering::Relaxed)
            && is_theirs(&client.user_name())
    });
    is_theirs(cx.session.user_name())
}

fn remove(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let names: Vec<String> =
        args.rest().iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    if names.iter().any(|name| name == DEFAULT) {
        return Err(Error::err("The 'default' user cannot be removed"));
    }
    let gone: Vec<String> = names.into_iter().filter(|name| cx.node.acl.remove(name)).collect();
    let is_me = close(cx, &gone);
    let replied = reply.count(gone.len());
    Ok(if is_me { After::Close } else { replied.into() })
}

fn names(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let all = cx.node.acl.all();
    let names: Vec<&str> = all.iter().map(|account| account.name.as_str()).collect();
    Ok(reply.bulks(&names).into())
}

fn list(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.bulks(&cx.node.acl.lines()).into())
}

fn show(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let name = args.bytes()?;
    let account = std::str::from_utf8(name).ok().and_then(|name| cx.node.acl.find(name));
    let Some(account) = account else { return Ok(reply.null().into()) };
    let user = account.user();
    let replied = reply.with(|writer| {
        writer.map(6);
        writer.bulk(b"flags");
        let flags = user.flags();
        writer.set(flags.len());
        for flag in flags {
            writer.bulk(flag.as_bytes());
        }
        writer.bulk(b"passwords");
        writer.bulks(&user.passwords);
        show_selector(writer, &user.root);
        writer.bulk(b"selectors");
        writer.array(user.selectors.len());
        for selector in &user.selectors {
            writer.map(3);
            show_selector(writer, selector);
        }
    });
    Ok(replied.into())
}

fn show_selector(writer: &mut Writer<'_>, selector: &Selector) {
    let parts = [
        ("commands", selector.commands_text()),
        ("keys", selector.keys_text()),
        ("channels", selector.channels_text()),
    ];
    for (name, text) in parts {
        writer.bulk(name.as_bytes());
        writer.bulk(text.as_bytes());
    }
}

fn try_out(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let name = String::from_utf8_lossy(args.bytes()?).into_owned();
    let account = cx.node.acl.find(&name);
    let account = account.ok_or_else(|| Error::err(format!("User '{name}' not found")))?;
    let words = args.rest();
    let Some((_, command)) = table::find(&cx.config.renames, words) else {
        let name = words.first().map(|word| String::from_utf8_lossy(word)).unwrap_or_default();
        return Err(Error::err(format!("Command '{name}' not found")));
    };
    if !command.accepts(words.len()) {
        return Err(Error::Arity(command.name.into()));
    }
    let text = match account.user().check(&command.row, words) {
        Ok(()) => return Ok(reply.ok().into()),
        Err(Denied::Command(command)) => acl::may_not_run(&name, command),
        Err(Denied::Key(key)) => {
            let key = String::from_utf8_lossy(&key).into_owned();
            format!("User {name} has no permissions to access the '{key}' key")
        }
        Err(Denied::Channel(channel)) => {
            let channel = String::from_utf8_lossy(&channel).into_owned();
            format!("User {name} has no permissions to access the '{channel}' channel")
        }
    };
    Ok(reply.bulk(text.as_bytes()).into())
}

const NO_FILE: &str = "This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration.";

fn file(cx: &SessionCx<'_>) -> Result<std::path::PathBuf> {
    match cx.config.aclfile.as_str() {
        "" => Err(Error::err(NO_FILE)),
        path => Ok(cx.node.path(path)),
    }
}

fn load(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let path = file(cx)?;
    let refused = |why: String| Error::err(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| refused(error.to_string()))?;
    let changed = cx.node.acl.replace(&text).map_err(refused)?;
    tracing::info!(?changed, "ACL LOAD");
    let is_me = close(cx, &changed);
    let replied = reply.ok();
    Ok(if is_me { After::Close } else { replied.into() })
}

fn save(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let path = file(cx)?;
    let text: String = cx.node.acl.lines().iter().map(|line| format!("{line}\n")).collect();
    let folder = path.parent().unwrap_or(std::path::Path::new("."));
    durable::replace_privately(&path, text.as_bytes())
        .and_then(|()| durable::sync_folder(folder))
        .map_err(|error| Error::err(format!("{}: {error}", path.display())))?;
    Ok(reply.ok().into())
}

fn log(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let count = match args.rest() {
        [] => 10,
        [word] if word.eq_ignore_ascii_case(b"reset") => {
            cx.node.acl.log.clear();
            return Ok(reply.ok().into());
        }
        [count] => crate::command::args::parse_integer(count).ok_or(Error::NotInteger)?,
        _ => return Err(Error::Arity("acl|log".into())),
    };
    let entries = cx.node.acl.log.newest(usize::try_from(count).unwrap_or(0));
    let now_ms = cx.now_ms;
    let replied = reply.with(|writer| {
        writer.array(entries.len());
        for entry in &entries {
            show_refusal(writer, entry, now_ms);
        }
    });
    Ok(replied.into())
}

fn show_refusal(writer: &mut Writer<'_>, entry: &Entry, now_ms: u64) {
    let refusal = &entry.refusal;
    let age = now_ms.saturating_sub(entry.last_ms) as f64 / 1000.0;
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    writer.map(10);
    writer.bulk(b"count");
    writer.integer(number(entry.count));
    for (name, text) in [("reason", refusal.reason.as_str()), ("context", refusal.context.as_str())]
    {
        writer.bulk(name.as_bytes());
        writer.bulk(text.as_bytes());
    }
    writer.bulk(b"object");
    writer.bulk(&refusal.object);
    writer.bulk(b"username");
    writer.bulk(refusal.user.as_bytes());
    writer.bulk(b"age-seconds");
    writer.double(&format!("{age:.3}"));
    writer.bulk(b"client-info");
    writer.bulk(refusal.client.as_bytes());
    for (name, value) in [
        ("entry-id", entry.id),
        ("timestamp-created", entry.since_ms),
        ("timestamp-last-updated", entry.last_ms),
    ] {
        writer.bulk(name.as_bytes());
        writer.integer(number(value));
    }
}

/// Notes a log-in that failed.
pub(super) fn note_failed_login(cx: &SessionCx<'_>, user: Option<&[u8]>) {
    let name = user.map_or(DEFAULT.into(), String::from_utf8_lossy);
    let what = (Reason::Auth, b"AUTH".as_slice(), &*name);
    cx.session.note_refusal((cx.node, cx.config), what, cx.session.context(), cx.now_ms);
}
