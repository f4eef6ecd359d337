//! Commands about the connection itself: greeting, authentication, CLIENT.

use std::time::Duration;

use resp::{Protocol, Writer};

use crate::clients::{Client, Kind, PauseKind, Via};
use crate::clock;
use crate::command::{Args, Error, Reply, Result};
use crate::session::table::SessionHandler;
use crate::session::{After, Auth, Command, ReplyMode, SessionCx};
use crate::version::REDIS_VERSION;

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::session("auth",   -2, auth).fast().no_auth().loading().stale().no_script().skip_slowlog(),
    Command::session("hello",  -1, hello).fast().no_auth().loading().stale().no_script().skip_slowlog(),
    Command::session("ping",   -1, ping).fast().loading().stale().subscriber(),
    Command::session("echo",    2, echo).fast().loading().stale(),
    Command::session("select",  2, select).fast().loading().stale(),
    Command::session("quit",   -1, quit).fast().no_auth().loading().stale().unqueued().no_script().subscriber(),
    Command::session("reset",   1, reset).fast().no_auth().loading().stale().unqueued().no_script().subscriber(),
    Command::container("client", CLIENT).loading().stale().no_script(),
];

#[rustfmt::skip]
const CLIENT: &[Command] = &[
    client("client|getname",  2, get_name),
    client("client|getredir", 2, get_redirection),
    client("client|help",     2, help),
    client("client|id",       2, id),
    client("client|info",     2, info),
    client("client|kill",    -3, kill),
    client("client|list",    -2, list),
    client("client|no-evict", 3, switch),
    client("client|no-touch", 3, switch),
    client("client|pause",   -3, pause).control(),
    client("client|reply",    3, set_reply_mode),
    client("client|setinfo",  4, set_info),
    client("client|setname",  3, set_name),
    client("client|unblock", -3, unblock),
    client("client|unpause",  2, unpause).control(),
];

const fn client(name: &'static str, arity: i8, handler: SessionHandler) -> Command {
    Command::session(name, arity, handler).loading().stale().no_script()
}

fn auth(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let (user, password) = match args.rest() {
        [password] => (None, *password),
        [user, password] => (Some(*user), *password),
        _ => return Err(Error::Syntax),
    };
    log_in(cx, user, password)?;
    Ok(reply.ok().into())
}

/// Compares in time that does not depend on where the difference is.
fn is_same_secret(given: &[u8], secret: &str) -> bool {
    let secret = secret.as_bytes();
    let difference = given
        .iter()
        .zip(secret)
        .fold(given.len() ^ secret.len(), |sum, (a, b)| sum | usize::from(a ^ b));
    difference == 0
}

fn log_in(cx: &mut SessionCx<'_>, user: Option<&[u8]>, password: &[u8]) -> Result<()> {
    let config = cx.config;
    let is_known_user = user.is_none_or(|user| user == b"default");
    let is_direct = cx.session.client.via == Via::Direct;
    if is_known_user
        && is_direct
        && config.peer_secrets().any(|secret| is_same_secret(password, secret))
    {
        cx.session.prove(Auth::Peer);
        return Ok(());
    }
    let may_log_in =
        cx.session.initial_auth(config) == Auth::Client || !config.requirepass.is_empty();
    if config.requirepass.is_empty() && may_log_in {
        if user.is_some() {
            // Redis: the default user without a password takes any.
            return if is_known_user { Ok(()) } else { Err(wrong_password()) };
        }
        return Err(Error::text(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        ));
    }
    let needs_peer =
        cx.config.client_access == api::heartbeat::ClientAccess::BalancerOnly && is_direct;
    let is_given = config.client_secrets().any(|secret| is_same_secret(password, secret));
    if is_known_user && !needs_peer && is_given {
        cx.session.prove(Auth::Client);
        cx.session.is_denied = false;
        return Ok(());
    }
    Err(wrong_password())
}

fn wrong_password() -> Error {
    Error::text("WRONGPASS invalid username-password pair or user is disabled.")
}

fn hello(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let mut protocol = cx.session.protocol;
    if !args.is_empty() {
        let version = args
            .integer()
            .map_err(|_| Error::text("ERR Protocol version is not an integer or out of range"))?;
        protocol = match version {
            2 => Protocol::V2,
            3 if cx.config.resp3_enabled => Protocol::V3,
            _ => return Err(Error::text("NOPROTO unsupported protocol version")),
        };
    }
    let mut name = None;
    while !args.is_empty() {
        let option = args.bytes()?;
        match (option.to_ascii_uppercase().as_slice(), args.len()) {
            (b"AUTH", 2..) => {
                let (user, password) = (args.bytes()?, args.bytes()?);
                log_in(cx, Some(user), password)?;
            }
            (b"SETNAME", 1..) => name = Some(check_name(args.bytes()?)?),
            _ => {
                return Err(Error::err(format!(
                    "Syntax error in HELLO option '{}'",
                    String::from_utf8_lossy(option)
                )));
            }
        }
    }
    if cx.session.auth == Auth::None {
        return Err(Error::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    cx.session.protocol = protocol;
    if let Some(name) = name {
        cx.session.client.names.lock().name = name;
    }
    let role = if cx.node.engine().role.is_master() { "master" } else { "replica" };
    let mode = if cx.config.cluster_enabled { "cluster" } else { "standalone" };
    let id = i64::try_from(cx.session.client.id).unwrap_or(i64::MAX);
    Ok(reply
        .with(|writer| {
            // The answer already comes in the version that was asked for.
            let mut bytes = Vec::with_capacity(160);
            let mut hello = Writer::new(&mut bytes, protocol);
            hello.map(7);
            let texts = [("server", "redis"), ("version", REDIS_VERSION)];
            for (key, value) in texts {
                hello.bulk(key.as_bytes());
                hello.bulk(value.as_bytes());
            }
            hello.bulk(b"proto");
            hello.integer(if protocol == Protocol::V3 { 3 } else { 2 });
            hello.bulk(b"id");
            hello.integer(id);
            for (key, value) in [("mode", mode), ("role", role)] {
                hello.bulk(key.as_bytes());
                hello.bulk(value.as_bytes());
            }
            hello.bulk(b"modules");
            hello.array(0);
            writer.raw(&bytes);
        })
        .into())
}

fn ping(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let client = &cx.session.client;
    let is_bound = cx.session.protocol == Protocol::V2 && client.kind() == Kind::Subscriber;
    Ok(match args.rest() {
        // In the form of a message.
        [] if is_bound => reply.bulks(&[&b"pong"[..], b""]),
        [text] if is_bound => reply.bulks(&[&b"pong"[..], text]),
        [] => reply.simple("PONG"),
        [text] => reply.bulk(text),
        _ => return Err(Error::Arity("ping".into())),
    }
    .into())
}

fn echo(_cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.bulk(args.bytes()?).into())
}

/// There is one database. Redis clients select 0 without being asked to.
fn select(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    if args.integer()? == 0 {
        return Ok(reply.ok().into());
    }
    Err(Error::text(if cx.config.cluster_enabled {
        "ERR SELECT is not allowed in cluster mode"
    } else {
        "ERR DB index is out of range"
    }))
}

fn quit(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    reply.ok();
    Ok(After::Close)
}

fn reset(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let session = &mut *cx.session;
    session.transaction.take();
    session.transaction.unwatch(cx.node);
    cx.node.pubsub.leave(&session.client);
    cx.node.monitors.remove(&session.client);
    session.protocol = Protocol::V2;
    session.is_readonly = false;
    session.is_asking = false;
    session.reply_mode = ReplyMode::On;
    session.prove(session.initial_auth(cx.config));
    session.client.names.lock().name.clear();
    // Pushes that came before come before. Written in RESP2, which is what the connection speaks
    // from here on.
    let mut before = Vec::new();
    session.client.inbox.take(&mut before);
    Ok(reply
        .with(|writer| {
            writer.raw(&before);
            writer.simple("RESET");
        })
        .into())
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

/// NO-EVICT and NO-TOUCH: there is nothing here that they could change.
fn switch(_cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    match args.word().as_deref() {
        Some(b"ON" | b"OFF") => Ok(reply.ok().into()),
        _ => Err(Error::Syntax),
    }
}

/// Nothing is tracked, so nothing is redirected.
fn get_redirection(
    _cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    Ok(reply.integer(-1).into())
}

fn help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(CLIENT_HELP).into())
}

const CLIENT_HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
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
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Unblock the specified blocked client.",
    "UNPAUSE",
    "    Stop the current client pause, resuming traffic.",
    "HELP",
    "    Print this help.",
];

fn check_name(name: &[u8]) -> Result<String> {
    if name.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
        return Err(Error::text(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn set_info(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let option = args.word().ok_or(Error::Syntax)?;
    let value = args.bytes()?;
    let name = String::from_utf8_lossy(&option).into_owned();
    if value.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
        return Err(Error::err(format!(
            "{} cannot contain spaces, newlines or special characters.",
            name.to_lowercase()
        )));
    }
    let value = String::from_utf8_lossy(value).into_owned();
    let mut names = cx.session.client.names.lock();
    match &*option {
        b"LIB-NAME" => names.library = value,
        b"LIB-VER" => names.version = value,
        _ => return Err(Error::err(format!("Unrecognized option '{}'", name.to_lowercase()))),
    }
    Ok(reply.ok().into())
}

fn list(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let (mut kind, mut ids) = (None, Vec::new());
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
                ids.push(u64::try_from(id).unwrap_or(0));
            }
        }
        Some(_) => return Err(Error::Syntax),
    }
    let mut text = String::new();
    for client in cx.node.clients.list() {
        let is_wanted = kind.is_none_or(|kind| kind == client.kind())
            && (ids.is_empty() || ids.contains(&client.id));
        if is_wanted {
            text.push_str(&client.line(cx.now_ms));
            text.push('\n');
        }
    }
    Ok(reply.verbatim(&text).into())
}

fn parse_id(args: &mut Args<'_>) -> Result<u64> {
    let id = args.integer().ok().and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
    id.ok_or_else(|| Error::text("ERR client-id should be greater than 0"))
}

fn parse_kind(args: &mut Args<'_>) -> Result<Kind> {
    let word = args.word().ok_or(Error::Syntax)?;
    match &*word {
        b"NORMAL" => Ok(Kind::Normal),
        b"REPLICA" | b"SLAVE" => Ok(Kind::Replica),
        b"MASTER" => Ok(Kind::Master),
        b"PUBSUB" => Ok(Kind::Subscriber),
        other => Err(Error::err(format!(
            "Unknown client type '{}'",
            String::from_utf8_lossy(other).to_lowercase()
        ))),
    }
}

/// Filters of CLIENT KILL; all must match.
#[derive(Default)]
struct KillFilter {
    id: Option<u64>,
    address: Option<String>,
    local: Option<String>,
    kind: Option<Kind>,
    spares_me: bool,
}

impl KillFilter {
    fn matches(&self, client: &Client, me: u64) -> bool {
        self.id.is_none_or(|id| id == client.id)
            && self.address.as_ref().is_none_or(|address| *address == client.shown_address())
            && self.local.as_ref().is_none_or(|local| *local == client.local.to_string())
            && self.kind.is_none_or(|kind| kind == client.kind())
            && !(self.spares_me && client.id == me)
    }
}

fn kill(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let me = cx.session.client.id;
    if args.len() == 1 {
        let address = args.text()?.to_owned();
        let filter = KillFilter { address: Some(address), ..KillFilter::default() };
        return match cx.node.clients.kill_where(|client| filter.matches(client, me)) {
            0 => Err(Error::text("ERR No such client")),
            _ => Ok(reply.ok().into()),
        };
    }
    let mut filter = KillFilter { spares_me: true, ..KillFilter::default() };
    while let Some(word) = args.word() {
        match &*word {
            b"ID" => filter.id = Some(parse_id(args)?),
            b"ADDR" => filter.address = Some(args.text()?.to_owned()),
            b"LADDR" => filter.local = Some(args.text()?.to_owned()),
            b"TYPE" => filter.kind = Some(parse_kind(args)?),
            b"USER" => {
                let user = args.text()?;
                if user != "default" {
                    return Err(Error::err(format!("No such user '{user}'")));
                }
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
    let is_done = u64::try_from(id).is_ok_and(|id| cx.node.waiters.unblock(id, error));
    Ok(reply.flag(is_done).into())
}

pub(super) fn pause(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let ms =
        args.integer().map_err(|_| Error::text("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| Error::text("ERR timeout is negative"))?;
    let kind = match args.word().as_deref() {
        None | Some(b"ALL") => PauseKind::All,
        Some(b"WRITE") => PauseKind::Write,
        Some(_) => return Err(Error::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    args.end()?;
    let now_ns = clock::boottime_ns();
    let length = Duration::from_millis(ms);
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
    cx.session.reply_mode = mode;
    Ok(reply.ok().into())
}
