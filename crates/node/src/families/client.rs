//! CLIENT: what a connection says of itself, and what is done to others.

mod tracking;

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use api::heartbeat::ClientAccess;

use crate::clients::{Client, Kind, PauseKind, Via};
use crate::clock;
use crate::command::{Args, Error, Reply, Result};
use crate::session::table::SessionHandler;
use crate::session::{After, Command, ReplyMode, SessionCx};

#[rustfmt::skip]
pub(super) const COMMANDS: &[Command] = &[
    client("client|caching",  3, tracking::caching),
    client("client|getname",  2, get_name),
    client("client|getredir", 2, tracking::get_redirection),
    client("client|help",     2, help),
    client("client|id",       2, id),
    client("client|info",     2, info),
    client("client|kill",    -3, kill),
    client("client|list",    -2, list),
    client("client|no-evict", 3, switch),
    client("client|no-touch", 3, switch),
    client("client|pause",   -3, pause).control().admin(),
    client("client|reply",    3, set_reply_mode),
    client("client|setinfo",  4, set_info),
    client("client|setname",  3, set_name),
    client("client|tracking", -3, tracking::tracking),
    client("client|trackinginfo", 2, tracking::info),
    client("client|unblock", -3, unblock),
    client("client|unpause",  2, unpause).control().admin(),
];

const fn client(name: &'static str, arity: i8, handler: SessionHandler) -> Command {
    Command::session(name, arity, handler).loading().stale().no_script()
}

fn id(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.integer(i64::try_from(cx.session.client.id).unwrap_or(i64::MAX)).into())
}

fn get_name(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let name = cx.session.client.names.lock().name.clone();
    Ok(reply.bulk_or_null((!name.is_empty()).then_some(name.as_bytes())).into())
}

fn set_name(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let name = check_name(args.bytes()?)?;
    cx.session.client.names.lock().name = name;
    Ok(reply.ok().into())
}

fn info(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    cx.session.show();
    let line = cx.session.client.line(cx.now_ms) + "\n";
    Ok(reply.verbatim(&line).into())
}

/// NO-EVICT and NO-TOUCH change nothing here: a key has no age, and under `maxmemory` connections
/// are closed by what they hold and whether they read, whatever they say of themselves.
fn switch(_cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    match args.word().as_deref() {
        Some(b"ON" | b"OFF") => Ok(reply.ok().into()),
        _ => Err(Error::Syntax),
    }
}

fn help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(CLIENT_HELP).into())
}

const CLIENT_HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CACHING (YES|NO)",
    "    Track the keys of the next command in OPTIN mode, or not in OPTOUT mode.",
    "GETREDIR",
    "    Return the client ID that invalidations are sent to.",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are: ADDR, LADDR, TYPE (NORMAL|REPLICA), USER, SKIPME (YES|NO), ID.",
    "LIST [options ...]",
    "    Return information about client connections. Options: TYPE (NORMAL|REPLICA), ID <id> [<id>...].",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Suspend all, or just write, clients for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "SETINFO <option> <value>",
    "    Set client meta attr. Options are: LIB-NAME, LIB-VER.",
    "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT] [NOLOOP]",
    "    Be told when keys change that this connection has read.",
    "TRACKINGINFO",
    "    Report how this connection tracks.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Unblock the specified blocked client.",
    "UNPAUSE",
    "    Stop the current client pause, resuming traffic.",
    "HELP",
    "    Print this help.",
];

/// Longest name of a client, and of its library and that one's version, bytes: anybody who lists
/// clients gets all of them.
const NAME_BYTES_MAX: usize = 4096;

pub(super) fn check_name(name: &[u8]) -> Result<String> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::err(format_args!(
            "Client names cannot be longer than {NAME_BYTES_MAX} bytes."
        )));
    }
    if name.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
        return Err(Error::text(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn set_info(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let (option, value) = (args.bytes()?, args.bytes()?);
    let mut names = cx.session.client.names.lock();
    let shown = String::from_utf8_lossy(option);
    let place = match option.to_ascii_lowercase().as_slice() {
        b"lib-name" => &mut names.library,
        b"lib-ver" => &mut names.version,
        _ => return Err(Error::err(format!("Unrecognized option '{shown}'"))),
    };
    if value.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
        return Err(Error::err(format!(
            "{shown} cannot contain spaces, newlines or special characters."
        )));
    }
    if value.len() > NAME_BYTES_MAX {
        return Err(Error::err(format_args!(
            "{shown} cannot be longer than {NAME_BYTES_MAX} bytes."
        )));
    }
    *place = String::from_utf8_lossy(value).into_owned();
    drop(names);
    Ok(reply.ok().into())
}

fn list(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let (mut kind, mut ids) = (None, HashSet::new());
    match args.word().as_deref() {
        None => {}
        Some(b"TYPE") => {
            kind = Some(parse_kind(args)?);
            args.end()?;
        }
        Some(b"ID") if !args.is_empty() => {
            while !args.is_empty() {
                let id = args.integer().map_err(|_| Error::text("ERR Invalid client ID"))?;
                // Nobody has a negative one.
                ids.insert(u64::try_from(id).unwrap_or(0));
            }
        }
        Some(_) => return Err(Error::Syntax),
    }
    let mut text = String::new();
    let namespace = own_namespace(cx);
    for client in cx.node.clients.list() {
        let is_wanted = kind.is_none_or(|kind| kind == client.kind())
            && (ids.is_empty() || ids.contains(&client.id))
            && is_of(namespace.as_deref(), &client);
        if is_wanted {
            text.push_str(&client.line(cx.now_ms));
            text.push('\n');
        }
    }
    Ok(reply.verbatim(&text).into())
}

/// The namespace whose clients alone this one may see and end; `None`: all clients.
fn own_namespace(cx: &SessionCx<'_>) -> Option<String> {
    let is_tenant = !cx.session.is_admin();
    is_tenant.then(|| cx.session.client.names.lock().namespace.clone())
}

fn is_of(namespace: Option<&str>, client: &Client) -> bool {
    namespace.is_none_or(|namespace| client.names.lock().namespace == namespace)
}

fn parse_id(args: &mut Args<'_>) -> Result<u64> {
    let id = args.integer().ok().and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
    id.ok_or_else(|| Error::text("ERR client-id should be greater than 0"))
}

fn parse_kind(args: &mut Args<'_>) -> Result<Kind> {
    let word = args.bytes()?;
    match word.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(Kind::Normal),
        b"replica" | b"slave" => Ok(Kind::Replica),
        b"master" => Ok(Kind::Master),
        b"pubsub" => Ok(Kind::Subscriber),
        _ => {
            let word = String::from_utf8_lossy(word);
            Err(Error::err(format!("Unknown client type '{word}'")))
        }
    }
}

/// Filters of CLIENT KILL; all must match.
#[derive(Default)]
struct KillFilter {
    id: Option<u64>,
    address: Option<String>,
    local: Option<String>,
    kind: Option<Kind>,
    user: Option<String>,
    spares_me: bool,
    /// A client of a namespace ends others of it alone.
    namespace: Option<String>,
    /// What nodes and controllers say to each other goes on.
    spares_cluster: bool,
}

/// Whether a node or a controller is at its other end.
fn is_of_cluster(client: &Client) -> bool {
    client.is_peer.load(Ordering::Relaxed)
        || client.is_peer_by_conduct.load(Ordering::Relaxed)
        || client.kind() == Kind::Replica
}

impl KillFilter {
    fn matches(&self, client: &Client, me: u64) -> bool {
        self.id.is_none_or(|id| id == client.id)
            && self.address.as_ref().is_none_or(|address| *address == client.shown_address())
            && self.local.as_ref().is_none_or(|local| *local == client.local.to_string())
            && self.kind.is_none_or(|kind| kind == client.kind())
            // Peers are no users.
            && self.user.as_ref().is_none_or(|user| {
                *user == client.user_name() && !client.is_peer.load(Ordering::Relaxed)
            })
            && !(self.spares_me && client.id == me)
            && is_of(self.namespace.as_deref(), client)
            && !(self.spares_cluster && is_of_cluster(client))
    }
}

fn kill(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let me = cx.session.client.id;
    let namespace = own_namespace(cx);
    // As with CLIENT PAUSE, what stops the whole node is not for those who come through a balancer.
    let is_guarded = cx.config.client_access == ClientAccess::BalancerOnly;
    let is_outside = is_guarded && cx.session.client.via != Via::Direct;
    let spares_cluster = namespace.is_some() || is_outside;
    if args.len() == 1 {
        let address = Some(args.text()?.to_owned());
        let filter = KillFilter { address, namespace, spares_cluster, ..KillFilter::default() };
        return match cx.node.clients.kill_where(|client| filter.matches(client, me)) {
            0 => Err(Error::text("ERR No such client")),
            _ => Ok(reply.ok().into()),
        };
    }
    let mut filter =
        KillFilter { spares_me: true, namespace, spares_cluster, ..KillFilter::default() };
    while let Some(word) = args.word() {
        match &*word {
            b"ID" => filter.id = Some(parse_id(args)?),
            b"ADDR" => filter.address = Some(args.text()?.to_owned()),
            b"LADDR" => filter.local = Some(args.text()?.to_owned()),
            b"TYPE" => filter.kind = Some(parse_kind(args)?),
            b"USER" => {
                let user = args.text()?;
                if cx.node.acl.find(user).is_none() {
                    return Err(Error::err(format!("No such user '{user}'")));
                }
                filter.user = Some(user.to_owned());
            }
            b"SKIPME" => match args.word().as_deref() {
                Some(b"YES") => filter.spares_me = true,
                Some(b"NO") => filter.spares_me = false,
                _ => return Err(Error::Syntax),
            },
            _ => return Err(Error::Syntax),
        }
    }
    let mut kills_me = false;
    let count = cx.node.clients.kill_where(|client| {
        let is_chosen = filter.matches(client, me);
        kills_me |= is_chosen && client.id == me;
        is_chosen && client.id != me
    });
    let replied = reply.count(count + usize::from(kills_me));
    Ok(if kills_me { After::Close } else { replied.into() })
}

fn unblock(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let id = args.integer()?;
    let error = match args.word().as_deref() {
        None | Some(b"TIMEOUT") => None,
        Some(b"ERROR") => Some("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        Some(_) => return Err(Error::err("CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
    };
    args.end()?;
    let namespace = own_namespace(cx);
    let is_theirs = |id| {
        let client = cx.node.clients.find(id);
        client.is_some_and(|client| is_of(namespace.as_deref(), &client))
    };
    let is_done = u64::try_from(id).is_ok_and(|id| {
        (namespace.is_none() || is_theirs(id)) && cx.node.waiters.unblock(id, error)
    });
    if let (true, Some(text)) = (is_done, error) {
        cx.node.stats.errors.note(text.as_bytes());
    }
    Ok(reply.flag(is_done).into())
}

pub(super) fn pause(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let length = args.patience_ms(cx.now_ms)?.unwrap_or_default();
    let kind = match args.word().as_deref() {
        None | Some(b"ALL") => PauseKind::All,
        Some(b"WRITE") => PauseKind::Write,
        Some(_) => return Err(Error::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    args.end()?;
    let now_ns = clock::boottime_ns();
    let until_ns = now_ns.saturating_add(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX));
    cx.node.clients.pause(kind, until_ns, now_ns);
    // Commands look for a pause under the gate: afterwards no write is in flight that did not see
    // this one.
    cx.wait_for_writes();
    Ok(reply.ok().into())
}

pub(super) fn unpause(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    cx.node.clients.unpause();
    Ok(reply.ok().into())
}

fn set_reply_mode(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let mode = match args.word().as_deref() {
        Some(b"ON") => ReplyMode::On,
        Some(b"OFF") => ReplyMode::Off,
        Some(b"SKIP") if cx.session.reply_mode == ReplyMode::Off => ReplyMode::Off,
        // Counts this reply too.
        Some(b"SKIP") => ReplyMode::Skip(1),
        _ => return Err(Error::Syntax),
    };
    (cx.session.reply_mode, cx.session.has_set_replies) = (mode, true);
    Ok(reply.ok().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Clients;

    /// As Redis 7.2: the option is looked at first, and shown as it was given.
    #[test]
    fn options_and_kinds_are_told_as_they_were_given() {
        let mut shell = crate::shell::Shell::new();
        for (command, answer) in [
            ("CLIENT SETINFO Lib-Name redis-x", "+OK"),
            ("CLIENT SETINFO LIB-VER 1.2", "+OK"),
            (
                "CLIENT SETINFO Lib-Ver a\tb",
                "-ERR Lib-Ver cannot contain spaces, newlines or special characters.",
            ),
            ("CLIENT SETINFO Lib-Other a\tb", "-ERR Unrecognized option 'Lib-Other'"),
            ("CLIENT LIST TYPE Bad", "-ERR Unknown client type 'Bad'"),
            ("CLIENT KILL TYPE Bad", "-ERR Unknown client type 'Bad'"),
            ("CLIENT PAUSE 9223372036854775807", "-ERR timeout is out of range"),
        ] {
            assert_eq!(shell.run(command), answer, "{command}");
        }
        let info = shell.run("CLIENT INFO");
        assert!(info.contains(" lib-name=redis-x lib-ver=1.2 "), "{info}");
    }

    #[test]
    fn who_spares_the_cluster_ends_neither_replication_nor_peers() {
        let clients = Clients::default();
        let address = "127.0.0.1:1".parse().unwrap();
        let replica = clients.add(address, address, Via::Direct, 0);
        replica.is_replica.store(true, Ordering::Relaxed);
        let peer = clients.add(address, address, Via::Direct, 0);
        peer.become_peer();
        let other = clients.add(address, address, Via::Direct, 0);
        for spares_cluster in [false, true] {
            let filter = KillFilter { spares_cluster, ..KillFilter::default() };
            for client in [&replica, &peer] {
                assert_eq!(filter.matches(client, 0), !spares_cluster);
            }
            assert!(filter.matches(&other, 0));
        }
    }
}
