//! Channels: who subscribes to what, and how a message gets to them.
//!
//! PUBLISH and SPUBLISH write a record ([`storage::changes::Change::Message`]), so that a message
//! reaches subscribers here and at replicas in the order of the batches, and nothing of a
//! transaction that was discarded. A message is promised to nobody: those who are not connected
//! when it comes do not get it.

mod patterns;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use resp::{Protocol, Writer};
use storage::changes::{self, Change};
use storage::types::glob;

use crate::clients::Client;
use crate::clients::subscriptions::Kind;
use crate::clock;
use crate::inbox::Limit;
use patterns::{Matching, Patterns};

/// Subscribers by the number of their connection: those who came first get a message first.
type Subscribers = BTreeMap<u64, Arc<Client>>;

#[derive(Debug, Default)]
struct Tables {
    channels: HashMap<Vec<u8>, Subscribers>,
    patterns: Patterns<Subscribers>,
    shards: HashMap<Vec<u8>, Subscribers>,
}

impl Tables {
    /// Puts a message into inboxes; of these patterns its channel is one's.
    fn give(
        &self,
        message: Message<'_>,
        patterns: &[Matching<'_, Subscribers>],
        (limit, now_ms): (Limit, u64),
    ) {
        let Message { is_shard, channel, text } = message;
        if is_shard {
            if let Some(subscribers) = self.shards.get(channel) {
                send(subscribers, &[b"smessage", channel, text], limit, now_ms);
            }
            return;
        }
        if let Some(subscribers) = self.channels.get(channel) {
            send(subscribers, &[b"message", channel, text], limit, now_ms);
        }
        for (pattern, subscribers) in patterns {
            send(subscribers, &[b"pmessage", pattern, channel, text], limit, now_ms);
        }
    }
}

/// All subscriptions of a node.
#[derive(Debug, Default)]
pub struct Pubsub {
    /// Of all kinds; nothing is locked while there are none.
    count: AtomicUsize,
    tables: Mutex<Tables>,
}

/// A message on its way, and how it is sent.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// To a shard channel.
    pub is_shard: bool,
    /// Where to.
    pub channel: &'a [u8],
    /// What.
    pub text: &'a [u8],
}

impl Pubsub {
    /// Whether anybody subscribes to anything.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Adds a subscription; how many the client has now, as its reply counts them. `None` if its
    /// names would take more than they may.
    pub fn subscribe(&self, client: &Arc<Client>, kind: Kind, name: &[u8]) -> Option<usize> {
        let mut tables = self.tables.lock();
        let mut own = client.subscriptions.lock();
        if !own.of(kind).contains(name) {
            if !own.has_room(name) {
                return None;
            }
            own.insert(kind, name);
            let subscribers = match kind {
                Kind::Channel => tables.channels.entry(name.to_vec()).or_default(),
                Kind::Pattern => tables.patterns.entry(name),
                Kind::Shard => tables.shards.entry(name.to_vec()).or_default(),
            };
            subscribers.insert(client.id, Arc::clone(client));
            client.is_subscriber.store(true, Ordering::Relaxed);
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        Some(own.count(kind))
    }

    /// Removes a subscription, if it is there; how many the client has now.
    pub fn unsubscribe(&self, client: &Client, kind: Kind, name: &[u8]) -> usize {
        let mut tables = self.tables.lock();
        self.remove(&mut tables, client, kind, name);
        client.subscriptions.lock().count(kind)
    }

    fn remove(&self, tables: &mut Tables, client: &Client, kind: Kind, name: &[u8]) {
        let mut own = client.subscriptions.lock();
        if !own.remove(kind, name) {
            return;
        }
        client.is_subscriber.store(!own.is_empty(), Ordering::Relaxed);
        drop(own);
        self.count.fetch_sub(1, Ordering::SeqCst);
        let is_last = |subscribers: Option<&mut Subscribers>| {
            subscribers.is_some_and(|subscribers| {
                subscribers.remove(&client.id);
                subscribers.is_empty()
            })
        };
        match kind {
            Kind::Channel if is_last(tables.channels.get_mut(name)) => {
                tables.channels.remove(name);
            }
            Kind::Pattern if is_last(tables.patterns.get_mut(name)) => {
                tables.patterns.remove(name);
            }
            Kind::Shard if is_last(tables.shards.get_mut(name)) => {
                tables.shards.remove(name);
            }
            _ => {}
        }
    }

    /// Removes all subscriptions of a client that leaves.
    pub fn leave(&self, client: &Client) {
        if !client.is_subscriber.load(Ordering::Relaxed) {
            return;
        }
        let mut tables = self.tables.lock();
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            let names: Vec<Vec<u8>> =
                client.subscriptions.lock().of(kind).iter().cloned().collect();
            for name in &names {
                self.remove(&mut tables, client, kind, name);
            }
        }
    }

    /// Ends the subscriptions to shard channels that are another node's now, and tells their
    /// clients, as Redis does.
    pub fn drop_shards(&self, is_gone: impl Fn(&[u8]) -> bool, limit: Limit, now_ms: u64) {
        if !self.any() {
            return;
        }
        let mut tables = self.tables.lock();
        let gone: Vec<Vec<u8>> =
            tables.shards.keys().filter(|name| is_gone(name)).cloned().collect();
        for name in gone {
            let clients: Vec<Arc<Client>> =
                tables.shards.get(&name).into_iter().flat_map(BTreeMap::values).cloned().collect();
            for client in clients {
                self.end_shard(&mut tables, &client, &name, (limit, now_ms));
            }
        }
    }

    /// The same for one channel of one client, if it subscribes to it.
    pub fn drop_shard(&self, client: &Client, name: &[u8], limit: Limit, now_ms: u64) {
        let mut tables = self.tables.lock();
        let is_there = client.subscriptions.lock().of(Kind::Shard).contains(name);
        if is_there {
            self.end_shard(&mut tables, client, name, (limit, now_ms));
        }
    }

    fn end_shard(
        &self,
        tables: &mut Tables,
        client: &Client,
        name: &[u8],
        (limit, now_ms): (Limit, u64),
    ) {
        self.remove(tables, client, Kind::Shard, name);
        let left = client.subscriptions.lock().count(Kind::Shard);
        let mut push = Vec::new();
        let mut writer = Writer::new(&mut push, client.protocol());
        confirmation(&mut writer, "sunsubscribe", Some(name), left);
        client.push(&push, limit, now_ms);
    }

    /// How many would get a message, each as often as it does.
    pub fn receivers(&self, is_shard: bool, channel: &[u8]) -> usize {
        if !self.any() {
            return 0;
        }
        let tables = self.tables.lock();
        let of = |subscribers: Option<&Subscribers>| subscribers.map_or(0, BTreeMap::len);
        if is_shard {
            return of(tables.shards.get(channel));
        }
        let matching = tables.patterns.matching(channel);
        of(tables.channels.get(channel)) + matching.iter().map(|(_, all)| all.len()).sum::<usize>()
    }

    /// Gives the messages of a batch to those who subscribe.
    pub fn deliver(&self, batch: &[u8], cluster: bool, limit: Limit) {
        if !self.any() {
            return;
        }
        let messages = changes::of(batch, cluster).filter_map(|change| {
            let Change::Message { is_shard, channel, text } = change else { return None };
            Some(Message { is_shard, channel, text })
        });
        let mut messages = messages.peekable();
        if messages.peek().is_none() {
            return;
        }
        let (tables, now_ms) = (self.tables.lock(), clock::unix_ms());
        // One command may send any number of messages to one channel: patterns are matched once.
        let mut last: Option<(&[u8], Vec<Matching<'_, Subscribers>>)> = None;
        for message in messages {
            let channel = message.channel;
            if !message.is_shard && last.as_ref().is_none_or(|(known, _)| *known != channel) {
                last = Some((channel, tables.patterns.matching(channel)));
            }
            let patterns = last.as_ref().map_or(&[][..], |(_, patterns)| patterns.as_slice());
            tables.give(message, patterns, (limit, now_ms));
        }
    }

    /// Puts a message into the inboxes of those who subscribe.
    pub fn publish(&self, message: Message<'_>, limit: Limit, now_ms: u64) {
        if !self.any() {
            return;
        }
        let tables = self.tables.lock();
        let patterns = match message.is_shard {
            true => Vec::new(),
            false => tables.patterns.matching(message.channel),
        };
        tables.give(message, &patterns, (limit, now_ms));
    }

    /// The channels that somebody subscribes to and a pattern matches.
    pub fn names(&self, is_shard: bool, pattern: Option<&[u8]>) -> Vec<Vec<u8>> {
        let tables = self.tables.lock();
        let channels = if is_shard { &tables.shards } else { &tables.channels };
        let is_wanted =
            |name: &&Vec<u8>| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        channels.keys().filter(is_wanted).cloned().collect()
    }

    /// How many subscribe to a channel by its name.
    pub fn subscribers(&self, is_shard: bool, channel: &[u8]) -> usize {
        let tables = self.tables.lock();
        let channels = if is_shard { &tables.shards } else { &tables.channels };
        channels.get(channel).map_or(0, BTreeMap::len)
    }

    /// Channels that somebody subscribes to; those of shards are not among them.
    pub fn channels(&self) -> usize {
        self.tables.lock().channels.len()
    }

    /// Channels of shards that somebody subscribes to.
    pub fn shard_channels(&self) -> usize {
        self.tables.lock().shards.len()
    }

    /// Patterns that somebody subscribes to.
    pub fn patterns(&self) -> usize {
        self.tables.lock().patterns.len()
    }
}

/// What a client is told about one subscription: it began, or it is over. Without a name where
/// there was none to be ended.
pub fn confirmation(writer: &mut Writer<'_>, what: &str, name: Option<&[u8]>, count: usize) {
    writer.push(3);
    writer.bulk(what.as_bytes());
    writer.bulk_or_null(name);
    writer.integer(i64::try_from(count).unwrap_or(i64::MAX));
}

/// One push for many: written once for each version of the protocol.
fn send(subscribers: &Subscribers, parts: &[&[u8]], limit: Limit, now_ms: u64) {
    let write = |protocol| {
        let mut push = Vec::new();
        let mut writer = Writer::new(&mut push, protocol);
        writer.push(parts.len());
        for part in parts {
            writer.bulk(part);
        }
        push
    };
    let (mut second, mut third) = (None, None);
    for client in subscribers.values() {
        let protocol = client.protocol();
        let push = match protocol {
            Protocol::V2 => second.get_or_insert_with(|| write(protocol)),
            Protocol::V3 => third.get_or_insert_with(|| write(protocol)),
        };
        client.push(push, limit, now_ms);
    }
}
