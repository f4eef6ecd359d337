//! A session that goes to another node, and one that comes from there.
//!
//! A balancer that can move sessions ends its side of the connection when it wants a session back.
//! If the client itself has ended its side, a mark in the stream says so, and the session is
//! answered to its end, here or at the next node.
//!
//! When the balancer's side ends, every whole command before the end has run and is answered,
//! except those that wait; the unanswered ones go into the trailer. So no command is lost and none
//! runs twice: what ran is answered before the trailer, what is in the trailer did not run.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use api::moving::{self, Mark, Replies};
use resp::Protocol;
use tokio::io::AsyncReadExt as _;

use super::{Connection, End};
use crate::clients::subscriptions::Kind;
use crate::clients::{Client, Via};
use crate::clock;
use crate::command::Flags;
use crate::config::Values;
use crate::moving::{Refused, seal};
use crate::node::Node;
use crate::session::{Auth, ReplyMode, Session, gates};

impl Connection {
    /// Reads a record of `length` bytes behind a PROXY header, and checks that it belongs to this
    /// client.
    pub(super) async fn read_record(
        &mut self,
        length: u32,
        client: SocketAddr,
        frontend: SocketAddr,
    ) -> Result<moving::Session, End> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > moving::RECORD_MAX {
            return Err(End::Refused(format!("a record of {length} bytes is too long")));
        }
        while self.buffer.len() < length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(End::Eof);
            }
        }
        let record: Vec<u8> = self.buffer.drain(..length).collect();
        let config = self.node.config.now();
        let mut opened = Err(Refused::NoSecret);
        for secret in config.peer_secrets() {
            // A record is used up by the secret that it was made with only.
            opened = self.node.taken.open(secret, &record, clock::unix_ms());
            if !matches!(opened, Err(Refused::Forged)) {
                break;
            }
        }
        let opened =
            opened.and_then(|moved| match moved.client == client && moved.frontend == frontend {
                true => Ok(moved),
                false => Err(Refused::Foreign),
            });
        match opened {
            Ok(moved) => {
                self.node.stats.moved_in.fetch_add(1, Ordering::Relaxed);
                // What the client sent before comes before what the balancer read since.
                self.buffer.splice(..0, moved.unread.iter().copied());
                Ok(moved)
            }
            Err(why) => {
                tracing::warn!(%client, %why, "a session that was moved here is not taken");
                Err(End::Refused(why.to_string()))
            }
        }
    }

    /// Takes the mark off what was read. What may be its beginning is kept from the parser, for
    /// which it could complete a command.
    pub(super) fn look_for_mark(&mut self) {
        // Behind TLS there are the client's bytes alone: what a balancer adds, no client sealed.
        let Some(mark) = self.mark.as_ref().filter(|_| !self.stream.is_secure()) else { return };
        self.kept_back = mark.begun_in(self.buffer.get(self.start..).unwrap_or_default());
        if self.kept_back == Mark::BYTES {
            self.buffer.truncate(self.buffer.len() - Mark::BYTES);
            (self.kept_back, self.mark, self.is_over) = (0, None, true);
        }
    }

    /// Gives the session back to the balancer, if it wants it and the session can move.
    pub(super) async fn give_back(&mut self, session: &Session) -> End {
        let unread = self.buffer.get(self.start..).unwrap_or_default();
        // Found out before anything is copied.
        let is_small = unread.len() + session.transaction.queue_bytes() <= moving::RECORD_MAX;
        let packed = is_small.then(|| packed(session, unread.to_vec())).flatten();
        let record = packed.and_then(|packed| {
            let secret = &self.node.config.now().peer_auth;
            moving::trailer(seal(secret, &packed)?)
        });
        let Some(trailer) = record else { return End::Eof };
        self.out.extend_from_slice(&trailer);
        match self.send(session).await {
            Ok(()) => End::Moved,
            Err(end) => end,
        }
    }
}

/// Whether the last command may begin anew at another node: what is asked of a node is meant for
/// this one, and a script that runs already may write.
pub(super) fn is_repeatable(session: &Session) -> bool {
    let command = session.client.last_command.get();
    let stays = [Flags::PEER, Flags::AT_NODE, Flags::SCRIPT, Flags::RUNS_QUEUE];
    command.is_some_and(|command| !stays.iter().any(|flag| command.flags.has(*flag)))
}

/// What a session takes along; `None` for those that cannot move.
fn packed(session: &Session, unread: Vec<u8>) -> Option<moving::Session> {
    let client = &session.client;
    let Via::Balancer { frontend, .. } = client.via else { return None };
    let stays =
        client.is_replica.load(Ordering::Relaxed) || client.is_monitor.load(Ordering::Relaxed);
    let is_elsewhere = *session.namespace != *storage::DEFAULT_NAMESPACE;
    // What it has read is noted here alone.
    let is_tracking = session.tracks.is_some();
    if session.auth == Auth::Peer || is_elsewhere || is_tracking || stays {
        return None;
    }
    let names = client.names.lock().clone();
    let transaction = &session.transaction;
    Some(moving::Session {
        client: client.address,
        frontend,
        issued_ms: clock::unix_ms(),
        nonce: rand::random(),
        since_ms: client.since_ms,
        is_authenticated: session.auth == Auth::Client,
        is_denied: session.is_denied,
        is_resp3: session.protocol == Protocol::V3,
        is_readonly: session.is_readonly,
        is_asking: session.is_asking,
        is_watching: transaction.is_watching(),
        is_aborted: transaction.is_aborted,
        replies: match session.reply_mode {
            ReplyMode::On => Replies::On,
            ReplyMode::Off => Replies::Off,
            ReplyMode::Skip(left) => Replies::Skip(left),
        },
        name: names.name,
        library: names.library,
        version: names.version,
        queue: transaction
            .queue()
            .map(|queue| queue.iter().map(|queued| queued.words.clone()).collect()),
        unread,
        subscriptions: subscriptions(client),
        user: session.user.as_ref().map_or(String::new(), |account| account.name.clone()),
    })
}

fn subscriptions(client: &Client) -> moving::Subscriptions {
    let own = client.subscriptions.lock();
    let names = |kind| own.of(kind).iter().cloned().collect();
    moving::Subscriptions {
        channels: names(Kind::Channel),
        patterns: names(Kind::Pattern),
        shards: names(Kind::Shard),
    }
}

/// Gives a new session the state of the one that was moved here. It has missed what was published
/// in between, as any subscriber that connects anew. If slots of its channels left this shard
/// meanwhile, it is told so.
pub(super) fn unpack(node: &Node, session: &mut Session, moved: moving::Session, config: &Values) {
    if moved.is_authenticated {
        session.auth = Auth::Client;
    }
    if moved.user.is_empty() {
        // As of any other user below.
        if !node.acl.default_account().user().is_on {
            session.auth = Auth::None;
        }
    } else {
        // Users belong to a node: one that is not here has to show again who it is.
        let account = node.acl.find(&moved.user).filter(|account| account.user().is_on);
        if !account.is_some_and(|account| session.belong_to_found(node, &account)) {
            session.auth = Auth::None;
        }
    }
    session.is_denied = moved.is_denied;
    session.protocol = if moved.is_resp3 { Protocol::V3 } else { Protocol::V2 };
    session.is_readonly = moved.is_readonly;
    session.is_asking = moved.is_asking;
    session.reply_mode = match moved.replies {
        Replies::On => ReplyMode::On,
        Replies::Off => ReplyMode::Off,
        Replies::Skip(left) => ReplyMode::Skip(left),
    };
    let transaction = &mut session.transaction;
    transaction.is_aborted = moved.is_aborted;
    if let Some(queue) = moved.queue {
        transaction.resume(queue, &config.renames);
    }
    if moved.is_watching {
        // Nobody here knows what happened to the keys meanwhile: as if one had changed.
        transaction.give_up_watch();
    }
    let moving::Subscriptions { channels, patterns, shards } = moved.subscriptions;
    let all = [(Kind::Channel, channels), (Kind::Pattern, patterns), (Kind::Shard, shards)];
    let mut may_all = true;
    for (kind, names) in all {
        for name in &names {
            node.pubsub.subscribe(&session.client, kind, name);
        }
        may_all &= session.may_use(node, names.iter().map(Vec::as_slice), kind == Kind::Pattern);
    }
    let client = &session.client;
    if !may_all {
        // As one whose rules change: what it subscribed to elsewhere is not for it to hear here.
        client.kill();
    }
    client.last_ms.store(clock::unix_ms(), Ordering::Relaxed);
    let mut names = client.names.lock();
    names.name = moved.name;
    names.library = moved.library;
    names.version = moved.version;
    drop(names);
    session.show();
    let shards: Vec<Vec<u8>> =
        client.subscriptions.lock().of(Kind::Shard).iter().cloned().collect();
    let shards: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
    gates::leave_foreign_channels((node, config, clock::unix_ms()), session, &shards);
}
