//! Channels: PUBLISH, SUBSCRIBE and their kin.

use std::sync::Arc;

use resp::Writer;
use storage::Family;
use storage::changes::shard_message;

use crate::clients::subscriptions::Kind;
use crate::command::keys::Keys;
use crate::command::{Args, Replied, Reply, Result};
use crate::pubsub::{Message, confirmation};
use crate::session::gates::leave_foreign_channels;
use crate::session::table::SessionHandler;
use crate::session::{After, Command, SessionCx, WriteCx};

/// A shard channel is a key, as far as slots go.
const CHANNEL: Keys = Keys::Range { first: 1, last: 1, step: 1 };
const CHANNELS: Keys = Keys::Range { first: 1, last: -1, step: 1 };

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    published(Command::write("publish",  3, Keys::None, publish)).keyspace(),
    published(Command::write("mpublish", -3, Keys::None, publish_many)).keyspace(),
    published(Command::write("spublish", 3, CHANNEL, publish_to_shard)),
    subscription("subscribe",    -2, subscribe),
    subscription("unsubscribe",  -1, unsubscribe),
    subscription("psubscribe",   -2, subscribe_pattern),
    subscription("punsubscribe", -1, unsubscribe_pattern),
    subscription("ssubscribe",   -2, subscribe_shard).keyed(CHANNELS),
    subscription("sunsubscribe", -1, unsubscribe_shard).keyed(CHANNELS),
    Command::container("pubsub", PUBSUB).pubsub().loading().stale(),
];

#[rustfmt::skip]
const PUBSUB: &[Command] = &[
    about("pubsub|channels",      -2, channels),
    about("pubsub|help",           2, help),
    about("pubsub|numpat",         2, count_patterns),
    about("pubsub|numsub",        -2, count_subscribers),
    about("pubsub|shardchannels", -2, shard_channels),
    about("pubsub|shardnumsub",   -2, count_shard_subscribers),
];

const fn published(command: Command) -> Command {
    command.pubsub().fast().loading().stale().may_replicate().removes()
}

/// Not in MULTI, as in Kvrocks: its replies are pushes, which do not fit into EXEC's array.
const fn subscription(name: &'static str, arity: i8, handler: SessionHandler) -> Command {
    let command = Command::session(name, arity, handler);
    command.pubsub().loading().stale().no_script().no_multi().subscriber()
}

const fn about(name: &'static str, arity: i8, handler: SessionHandler) -> Command {
    Command::session(name, arity, handler).pubsub().loading().stale()
}

/// Sends a message on its way: with the batch that is committed, from where replicas have it too.
/// On a replica, which writes nothing by itself, it reaches those who subscribe there.
fn send(cx: &mut WriteCx<'_>, is_shard: bool, channel: &[u8], text: &[u8]) {
    let node = cx.node;
    if !node.engine().role.is_master() {
        let message = Message { is_shard, channel, text };
        node.pubsub.publish(message, cx.config.subscriber_limit(), cx.scope.now_ms);
    } else if is_shard {
        cx.txn.delete(Family::Pubsub, &shard_message(channel, text));
    } else {
        cx.txn.put(Family::Pubsub, channel, text);
    }
}

fn publish(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (channel, text) = (args.bytes()?, args.bytes()?);
    let receivers = cx.node.pubsub.receivers(false, channel);
    send(cx, false, channel, text);
    Ok(reply.count(receivers))
}

fn publish_many(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let channel = args.bytes()?;
    let texts = args.rest();
    let receivers = cx.node.pubsub.receivers(false, channel);
    texts.iter().for_each(|text| send(cx, false, channel, text));
    Ok(reply.count(receivers.saturating_mul(texts.len())))
}

fn publish_to_shard(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (channel, text) = (args.bytes()?, args.bytes()?);
    let receivers = cx.node.pubsub.receivers(true, channel);
    send(cx, true, channel, text);
    Ok(reply.count(receivers))
}

/// Begins subscriptions: one reply for each, as a push.
fn begin(
    cx: &SessionCx<'_>,
    args: &mut Args<'_>,
    (kind, what): (Kind, &str),
    reply: Reply<'_>,
) -> After {
    let client = Arc::clone(&cx.session.client);
    let names = args.rest();
    let replied = reply.with(|writer| {
        for name in names {
            match cx.node.pubsub.subscribe(&client, kind, name) {
                Some(count) => confirmation(writer, what, Some(name), count),
                None => writer.error("ERR the names of this client's subscriptions are too long"),
            }
        }
    });
    if kind == Kind::Shard {
        leave_foreign_channels((cx.node, cx.config, cx.now_ms), cx.session, names);
    }
    if !cx.session.may_use(cx.node, names.iter().copied(), kind == Kind::Pattern) {
        return After::Close;
    }
    replied.into()
}

/// Ends them; all of the kind if none is named.
fn end(
    cx: &SessionCx<'_>,
    args: &mut Args<'_>,
    (kind, what): (Kind, &str),
    reply: Reply<'_>,
) -> After {
    let client = &cx.session.client;
    let own: Vec<Vec<u8>>;
    let names: Vec<&[u8]> = match args.rest() {
        [] => {
            own = client.subscriptions.lock().of(kind).iter().cloned().collect();
            own.iter().map(Vec::as_slice).collect()
        }
        named => named.to_vec(),
    };
    let mut ended = Vec::new();
    let mut writer = Writer::new(&mut ended, cx.session.protocol);
    if names.is_empty() {
        let count = client.subscriptions.lock().count(kind);
        confirmation(&mut writer, what, None, count);
    }
    for name in names {
        let count = cx.node.pubsub.unsubscribe(client, kind, name);
        confirmation(&mut writer, what, Some(name), count);
    }
    let replied = reply.with(|writer| {
        // What came before the end comes before the word that tells of it.
        let mut before = Vec::new();
        client.inbox.take(&mut before);
        writer.raw(&before);
        writer.raw(&ended);
    });
    replied.into()
}

fn subscribe(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(begin(cx, args, (Kind::Channel, "subscribe"), reply))
}

fn unsubscribe(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(end(cx, args, (Kind::Channel, "unsubscribe"), reply))
}

fn subscribe_pattern(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    Ok(begin(cx, args, (Kind::Pattern, "psubscribe"), reply))
}

fn unsubscribe_pattern(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    Ok(end(cx, args, (Kind::Pattern, "punsubscribe"), reply))
}

fn subscribe_shard(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(begin(cx, args, (Kind::Shard, "ssubscribe"), reply))
}

fn unsubscribe_shard(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    Ok(end(cx, args, (Kind::Shard, "sunsubscribe"), reply))
}

fn channels(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    list(cx, args, false, reply)
}

fn shard_channels(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    list(cx, args, true, reply)
}

fn list(
    cx: &SessionCx<'_>,
    args: &mut Args<'_>,
    is_shard: bool,
    reply: Reply<'_>,
) -> Result<After> {
    let pattern = if args.is_empty() { None } else { Some(args.bytes()?) };
    args.end()?;
    Ok(reply.bulks(&cx.node.pubsub.names(is_shard, pattern)).into())
}

fn count_patterns(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.count(cx.node.pubsub.patterns()).into())
}

fn count_subscribers(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    Ok(count(cx, args, false, reply))
}

fn count_shard_subscribers(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    Ok(count(cx, args, true, reply))
}

/// Names and numbers in turn, also in RESP3, as in Redis.
fn count(cx: &SessionCx<'_>, args: &mut Args<'_>, is_shard: bool, reply: Reply<'_>) -> After {
    let names = args.rest();
    let replied = reply.with(|writer| {
        writer.array(names.len() * 2);
        for name in names {
            writer.bulk(name);
            let count = cx.node.pubsub.subscribers(is_shard, name);
            writer.integer(i64::try_from(count).unwrap_or(i64::MAX));
        }
    });
    replied.into()
}

const HELP: &[&str] = &[
    "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANNELS [<pattern>]",
    "    List the channels that have subscribers.",
    "NUMPAT",
    "    Count the patterns that clients subscribe to.",
    "NUMSUB [<channel> ...]",
    "    Count the subscribers of each channel.",
    "SHARDCHANNELS [<pattern>]",
    "    List the shard channels that have subscribers.",
    "SHARDNUMSUB [<channel> ...]",
    "    Count the subscribers of each shard channel.",
    "HELP",
    "    Print this help.",
];

fn help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(HELP).into())
}
