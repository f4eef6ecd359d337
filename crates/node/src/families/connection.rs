//! Commands about the connection itself: greeting, authentication, RESET.

use std::sync::Arc;

use resp::{Protocol, Writer};
use storage::DEFAULT_NAMESPACE;

use super::acl::note_failed_login;
use super::client::check_name;
use crate::clients::{Kind, Via};
use crate::command::{Args, Error, Reply, Result};
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
    Command::container("client", super::client::COMMANDS).loading().stale().no_script(),
];

fn auth(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let (user, password) = match args.rest() {
        [password] => (None, *password),
        [user, password] => (Some(*user), *password),
        _ => return Err(Error::Syntax),
    };
    log_in_or_note(cx, user, password)?;
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

/// A log-in that fails is for ACL LOG.
fn log_in_or_note(cx: &mut SessionCx<'_>, user: Option<&[u8]>, password: &[u8]) -> Result<()> {
    let outcome = log_in(cx, user, password);
    match outcome {
        Ok(()) => cx.node.tracking.only(cx.session.client.id, &cx.session.namespace),
        Err(_) => note_failed_login(cx, user),
    }
    outcome
}

/// A user that is not the default one.
fn log_in_as(cx: &mut SessionCx<'_>, user: &[u8], password: &[u8]) -> Result<()> {
    let is_direct = cx.session.client.via == Via::Direct;
    let needs_peer =
        cx.config.client_access == api::heartbeat::ClientAccess::BalancerOnly && is_direct;
    let account = std::str::from_utf8(user).ok().and_then(|name| cx.node.acl.find(name));
    let account = account.filter(|account| !needs_peer && account.user().accepts(password));
    let account = account.ok_or_else(wrong_password)?;
    if !cx.session.belong_to_found(cx.node, &account) {
        return Err(wrong_password());
    }
    cx.session.enter(DEFAULT_NAMESPACE.into(), false);
    cx.session.prove(Auth::Client, cx.node, cx.config);
    cx.session.is_denied = false;
    Ok(())
}

fn log_in(cx: &mut SessionCx<'_>, user: Option<&[u8]>, password: &[u8]) -> Result<()> {
    let config = cx.config;
    let is_known_user = user.is_none_or(|user| user == b"default");
    if let Some(user) = user.filter(|_| !is_known_user) {
        return log_in_as(cx, user, password);
    }
    let default = cx.node.acl.default_account().user();
    let is_direct = cx.session.client.via == Via::Direct;
    if is_known_user
        && is_direct
        && config.peer_secrets().any(|secret| is_same_secret(password, secret))
    {
        cx.session.enter(DEFAULT_NAMESPACE.into(), false);
        cx.session.belong_to(None);
        cx.session.prove(Auth::Peer, cx.node, cx.config);
        return Ok(());
    }
    let may_log_in =
        cx.session.initial_auth(config) == Auth::Client || !config.requirepass.is_empty();
    let is_open = default.is_on && default.is_open;
    if config.requirepass.is_empty() && may_log_in && is_open {
        if user.is_some() {
            // Redis: the default user without a password takes any.
            cx.session.belong_to(None);
            cx.session.enter(DEFAULT_NAMESPACE.into(), false);
            cx.session.prove(Auth::Client, cx.node, cx.config);
            return Ok(());
        }
        return Err(Error::text(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        ));
    }
    let needs_peer =
        cx.config.client_access == api::heartbeat::ClientAccess::BalancerOnly && is_direct;
    let is_theirs = config.client_secrets().any(|secret| is_same_secret(password, secret));
    let is_given =
        is_theirs && !default.has_own_alone || !default.is_open && default.accepts(password);
    if default.is_on && !needs_peer && is_given {
        cx.session.enter(DEFAULT_NAMESPACE.into(), false);
        cx.session.belong_to(None);
        cx.session.prove(Auth::Client, cx.node, cx.config);
        cx.session.is_denied = false;
        return Ok(());
    }
    if default.is_on
        && !needs_peer
        && !config.requirepass.is_empty()
        && let Some(namespace) = cx.node.namespaces.of_token(password)
    {
        cx.session.enter(namespace, true);
        cx.session.belong_to(None);
        cx.session.prove(Auth::Client, cx.node, cx.config);
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
                log_in_or_note(cx, Some(user), password)?;
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

/// With `redis-databases` a database is the namespace that its number names, as in Kvrocks; else
/// there is one. Redis clients select 0 without being asked to.
fn select(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let index = args.integer()?;
    if index != 0 && cx.config.cluster_enabled {
        return Err(Error::text("ERR SELECT is not allowed in cluster mode"));
    }
    let namespace = cx.config.database(index);
    let namespace = namespace.ok_or_else(|| Error::text("ERR DB index is out of range"))?;
    if cx.config.redis_databases > 0 {
        if !cx.session.is_admin() {
            return Err(Error::text("ERR DB index is out of range"));
        }
        let namespace = Arc::from(namespace);
        cx.node.tracking.enter(cx.session.client.id, &namespace);
        cx.session.enter(namespace, false);
    }
    Ok(reply.ok().into())
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
    cx.node.tracking.end(session.client.id);
    (session.tracks, session.caches) = (None, false);
    session.protocol = Protocol::V2;
    session.is_readonly = false;
    session.is_asking = false;
    session.reply_mode = ReplyMode::On;
    session.enter(DEFAULT_NAMESPACE.into(), false);
    session.belong_to(None);
    session.prove(session.initial_auth(cx.config), cx.node, cx.config);
    session.meet(cx.node);
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
