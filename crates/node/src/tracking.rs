//! CLIENT TRACKING: clients that keep what they read are told when it changes.
//!
//! A key is noted before it is read, and a change is told after it was written, so no change
//! between the two is missed; one too many may be told. What merely expires is told when it is
//! written next: a client keeps a key no longer than it lives.
//!
//! Invariant: once a change of a key was told, the key is noted no more, as in Redis. A client that
//! reads it again is told again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use resp::{Protocol, Writer};
use storage::Name;
use storage::changes::{self, Change};

use crate::clients::Client;
use crate::inbox::Limit;
use crate::memory::held::name_bytes;

/// Channel of clients that are told by way of another connection.
pub const CHANNEL: &[u8] = b"__redis__:invalidate";

/// What a client is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// What it reads.
    #[default]
    Read,
    /// What it reads right behind CLIENT CACHING YES.
    OptIn,
    /// What it reads, unless right behind CLIENT CACHING NO.
    OptOut,
    /// Everything, or what begins with its prefixes.
    Broadcast,
}

/// How a client tracks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// Of what it is told.
    pub mode: Mode,
    /// Not of what it writes itself.
    pub is_no_loop: bool,
    /// Number of the connection that is told instead.
    pub redirect: Option<u64>,
    /// Of a broadcast; empty, or an empty one among them: all keys. In the order of their bytes;
    /// but for the empty one none begins with another.
    pub prefixes: Vec<Vec<u8>>,
}

impl Wish {
    /// Bytes that the prefixes take.
    pub fn bytes(&self) -> usize {
        self.prefixes.iter().map(|prefix| name_bytes(prefix)).sum()
    }

    /// Whether a broadcast is of this key. Asked of each key that anybody changes, however many
    /// prefixes there are: only the last one that does not stand behind the key can be its own.
    fn concerns(&self, key: &[u8]) -> bool {
        let behind = self.prefixes.partition_point(|prefix| prefix.as_slice() <= key);
        let nearest = behind.checked_sub(1).and_then(|place| self.prefixes.get(place));
        let is_of_all = self.prefixes.first().is_none_or(Vec::is_empty);
        is_of_all || nearest.is_some_and(|prefix| key.starts_with(prefix))
    }
}

#[derive(Debug)]
struct Tracker {
    client: Arc<Client>,
    /// The connection that is told.
    target: Arc<Client>,
    /// Those that it has been in since it tracks: what it read of each may still be kept.
    namespaces: Vec<Arc<[u8]>>,
    wish: Arc<Wish>,
    is_broken: bool,
}

#[derive(Debug, Default)]
struct State {
    trackers: HashMap<u64, Tracker>,
    noted: Noted,
}

/// The keys that were read, of which any can be chosen by lot: where they are too many, one that
/// was read just now must not be likelier to go than others.
#[derive(Debug, Default)]
struct Noted {
    /// By the ids of their names.
    by_key: HashMap<Arc<[u8]>, Readers>,
    keys: Vec<Arc<[u8]>>,
}

#[derive(Debug)]
struct Readers {
    clients: BTreeSet<u64>,
    /// Where the key is among all keys.
    place: usize,
}

impl Noted {
    fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The readers of a key, which is noted from here on.
    fn readers(&mut self, id: &[u8]) -> &mut BTreeSet<u64> {
        let Self { by_key, keys } = self;
        let key: Arc<[u8]> = id.into();
        let readers = by_key.entry(Arc::clone(&key)).or_insert_with(|| {
            let place = keys.len();
            keys.push(key);
            Readers { clients: BTreeSet::new(), place }
        });
        &mut readers.clients
    }

    /// A key is noted no more; its readers.
    fn remove(&mut self, id: &[u8]) -> Option<BTreeSet<u64>> {
        let Self { by_key, keys } = self;
        let Readers { clients, place } = by_key.remove(id)?;
        if place < keys.len() {
            keys.swap_remove(place);
        }
        // The last one stands there now, if it was not the last.
        if let Some(key) = keys.get(place)
            && let Some(readers) = by_key.get_mut(key)
        {
            readers.place = place;
        }
        Some(clients)
    }

    /// Any key; `None` if none is noted.
    fn any(&self) -> Option<Arc<[u8]>> {
        let place = rand::random_range(0..self.keys.len().max(1));
        self.keys.get(place).cloned()
    }

    fn remove_where(&mut self, is_meant: impl Fn(&[u8]) -> bool) {
        let meant: Vec<_> = self.keys.iter().filter(|key| is_meant(key)).cloned().collect();
        for key in meant {
            self.remove(&key);
        }
    }
}

/// All clients that track.
#[derive(Debug, Default)]
pub struct Tracking {
    /// How many; nothing is locked while there are none.
    count: AtomicUsize,
    state: Mutex<State>,
}

/// How much may wait for a client, and when it is.
#[derive(Debug, Clone, Copy)]
pub struct Sending {
    /// Of its inbox.
    pub limit: Limit,
    /// Unix ms.
    pub now_ms: u64,
}

impl Tracking {
    /// Whether anybody tracks.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Clients that track, and keys that were noted.
    pub fn counts(&self) -> (usize, usize) {
        (self.count.load(Ordering::SeqCst), self.state.lock().noted.len())
    }

    /// How a client tracks, and whether the connection it named is gone.
    pub fn of(&self, client: u64) -> Option<(Arc<Wish>, bool)> {
        let state = self.state.lock();
        state.trackers.get(&client).map(|tracker| (Arc::clone(&tracker.wish), tracker.is_broken))
    }

    /// A client tracks from here on, or does so otherwise: what it has read already it still keeps.
    pub fn begin(
        &self,
        client: &Arc<Client>,
        namespace: &Arc<[u8]>,
        target: Option<Arc<Client>>,
        wish: Wish,
    ) {
        let mut state = self.state.lock();
        let old = state.trackers.remove(&client.id);
        if old.is_none() {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        let mut namespaces = old.map(|tracker| tracker.namespaces).unwrap_or_default();
        if !namespaces.contains(namespace) {
            namespaces.push(Arc::clone(namespace));
        }
        let tracker = Tracker {
            client: Arc::clone(client),
            target: target.unwrap_or_else(|| Arc::clone(client)),
            namespaces,
            wish: Arc::new(wish),
            is_broken: false,
        };
        client.tracks.bytes.store(tracker.wish.bytes(), Ordering::Relaxed);
        tracker.show(true);
        state.trackers.insert(client.id, tracker);
    }

    /// A client sees another database from here on.
    pub fn enter(&self, client: u64, namespace: &Arc<[u8]>) {
        if !self.any() {
            return;
        }
        if let Some(tracker) = self.state.lock().trackers.get_mut(&client)
            && !tracker.namespaces.contains(namespace)
        {
            tracker.namespaces.push(Arc::clone(namespace));
        }
    }

    /// It is somebody else's from here on, and sees this namespace alone.
    pub fn only(&self, client: u64, namespace: &Arc<[u8]>) {
        if !self.any() {
            return;
        }
        if let Some(tracker) = self.state.lock().trackers.get_mut(&client) {
            tracker.namespaces = vec![Arc::clone(namespace)];
        }
    }

    /// A client tracks no more. What is noted of it goes with the keys.
    pub fn end(&self, client: u64) {
        if !self.any() {
            return;
        }
        if let Some(tracker) = self.state.lock().trackers.remove(&client) {
            tracker.show(false);
            tracker.client.tracks.bytes.store(0, Ordering::Relaxed);
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// A client is about to read these keys. More keys than `max` are not noted: others are told as
    /// if they had changed.
    pub fn note<'k>(
        &self,
        client: u64,
        keys: impl Iterator<Item = Name<'k>>,
        max: usize,
        sending: Sending,
    ) {
        let mut state = self.state.lock();
        for key in keys {
            let State { trackers, noted } = &mut *state;
            let of_key = noted.readers(&key.id());
            of_key.insert(client);
            // Those that have ended are forgotten before they are many.
            if of_key.len() > 2 * trackers.len() + 64 {
                of_key.retain(|reader| trackers.contains_key(reader));
            }
        }
        while max > 0 && state.noted.len() > max {
            let Some(id) = state.noted.any() else { break };
            state.tell_readers(&id, None, sending);
        }
    }

    /// Tells what a batch changed, written by this client if by one.
    pub fn tell(&self, batch: &[u8], cluster: bool, writer: Option<u64>, sending: Sending) {
        if !self.any() {
            return;
        }
        let mut state = self.state.lock();
        let mut changed: BTreeSet<Vec<u8>> = BTreeSet::new();
        for change in changes::of(batch, cluster) {
            match change {
                Change::Key(key) | Change::Emptied(key) | Change::Part(key) => {
                    changed.insert(key.id().to_vec());
                }
                Change::Range { namespace } => state.tell_all(namespace, sending),
                Change::Group(_) | Change::Message { .. } | Change::Namespaces(_) => {}
            }
        }
        state.tell_of(&changed, writer, sending);
    }

    /// Tells of keys that a command has touched, by the ids of their names, as [`Self::tell`] does.
    pub fn tell_of(&self, ids: &[Vec<u8>], writer: Option<u64>, sending: Sending) {
        if self.any() {
            self.state.lock().tell_of(&ids.iter().cloned().collect(), writer, sending);
        }
    }

    /// Tells everybody that anything may have changed.
    pub fn tell_all(&self, sending: Sending) {
        if self.any() {
            self.state.lock().tell_all(None, sending);
        }
    }
}

impl State {
    /// Tells all whom these keys concern.
    fn tell_of(&mut self, changed: &BTreeSet<Vec<u8>>, writer: Option<u64>, sending: Sending) {
        for id in changed {
            self.tell_readers(id, writer, sending);
        }
        self.broadcast(changed, writer, sending);
    }

    /// Tells those who have read a key.
    fn tell_readers(&mut self, id: &[u8], writer: Option<u64>, sending: Sending) {
        let Some(readers) = self.noted.remove(id) else { return };
        let Some(Name { key, .. }) = Name::of(id) else { return };
        for reader in readers {
            if let Some(tracker) = self.trackers.get_mut(&reader)
                && tracker.wish.mode != Mode::Broadcast
            {
                tracker.tell(Some(&[key]), writer, sending);
            }
        }
    }

    /// Tells clients that asked for all changes (`BCAST`), each of all keys at once.
    fn broadcast(&mut self, changed: &BTreeSet<Vec<u8>>, writer: Option<u64>, sending: Sending) {
        let listeners =
            self.trackers.values_mut().filter(|tracker| tracker.wish.mode == Mode::Broadcast);
        for tracker in listeners {
            let names = changed.iter().filter_map(|id| Name::of(id));
            let keys: Vec<&[u8]> = names
                .filter(|name| tracker.is_in(name.namespace))
                .map(|name| name.key)
                .filter(|key| tracker.wish.concerns(key))
                .collect();
            if !keys.is_empty() {
                tracker.tell(Some(&keys), writer, sending);
            }
        }
    }

    fn tell_all(&mut self, namespace: Option<&[u8]>, sending: Sending) {
        let is_meant = |other: &[u8]| namespace.is_none_or(|wanted| wanted == other);
        self.noted.remove_where(|id| Name::of(id).is_some_and(|name| is_meant(name.namespace)));
        for tracker in self.trackers.values_mut() {
            if namespace.is_none_or(|namespace| tracker.is_in(namespace)) {
                tracker.tell(None, None, sending);
            }
        }
    }
}

impl Tracker {
    /// Writes down for CLIENT LIST how it tracks, if it does.
    fn show(&self, is_on: bool) {
        let tracks = &self.client.tracks;
        let is_broadcast = self.wish.mode == Mode::Broadcast;
        tracks.is_on.store(is_on, Ordering::Relaxed);
        tracks.is_broadcast.store(is_on && is_broadcast, Ordering::Relaxed);
        tracks.is_broken.store(is_on && self.is_broken, Ordering::Relaxed);
        tracks.redirect.store(self.wish.redirect.unwrap_or(0), Ordering::Relaxed);
    }

    fn is_in(&self, namespace: &[u8]) -> bool {
        self.namespaces.iter().any(|own| **own == *namespace)
    }

    /// Tells of these keys; `None`: of all.
    fn tell(&mut self, keys: Option<&[&[u8]]>, writer: Option<u64>, sending: Sending) {
        if self.wish.is_no_loop && writer == Some(self.client.id) {
            return;
        }
        if self.wish.redirect.is_some() && self.target.is_killed() {
            self.is_broken = true;
            self.show(true);
        }
        let (mut push, is_redirected) = (Vec::new(), self.wish.redirect.is_some());
        if self.is_broken {
            if self.client.protocol() == Protocol::V3 {
                let mut writer = Writer::new(&mut push, Protocol::V3);
                writer.push(2);
                writer.bulk(b"tracking-redir-broken");
                let target = self.wish.redirect.unwrap_or(0);
                writer.integer(i64::try_from(target).unwrap_or(i64::MAX));
                self.client.push(&push, sending.limit, sending.now_ms);
            }
            return;
        }
        let protocol = self.target.protocol();
        let mut writer = Writer::new(&mut push, protocol);
        match protocol {
            Protocol::V3 => {
                writer.push(2);
                writer.bulk(b"invalidate");
            }
            Protocol::V2 if is_redirected && self.target.is_subscriber.load(Ordering::Relaxed) => {
                writer.array(3);
                writer.bulk(b"message");
                writer.bulk(CHANNEL);
            }
            // A push would look like a reply.
            Protocol::V2 => return,
        }
        match keys {
            Some(keys) => writer.bulks(keys),
            None => writer.null(),
        }
        self.target.push(&push, sending.limit, sending.now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::{Clients, Via};

    const SENDING: Sending = Sending {
        limit: Limit { hard: 0, soft: 0, lasting: std::time::Duration::ZERO },
        now_ms: 1,
    };

    fn client(clients: &Clients, version: u8) -> Arc<Client> {
        let address = "127.0.0.1:1".parse().unwrap();
        let client = clients.add(address, address, Via::Direct, 0);
        client.shown.resp.store(version, Ordering::Relaxed);
        client
    }

    fn pushed(client: &Client) -> String {
        let mut out = Vec::new();
        client.inbox.take(&mut out);
        String::from_utf8(out).unwrap().replace("\r\n", " ")
    }

    fn batch(keys: &[&str]) -> Vec<u8> {
        let mut writer = storage::batch::Writer::new(Vec::new());
        for key in keys {
            let id = Name { namespace: b"n", key: key.as_bytes() }.id();
            writer.put(storage::Family::Metadata, &[&id], &[b"v"]);
        }
        writer.finish().clone()
    }

    fn begin(tracking: &Tracking, client: &Arc<Client>, target: Option<&Arc<Client>>, wish: Wish) {
        let redirect = target.map(|target| target.id);
        tracking.begin(client, &Arc::from(&b"n"[..]), target.cloned(), Wish { redirect, ..wish });
    }

    fn note(tracking: &Tracking, client: &Client, key: &str, max: usize) {
        let name = Name { namespace: b"n", key: key.as_bytes() };
        tracking.note(client.id, std::iter::once(name), max, SENDING);
    }

    #[test]
    fn a_key_that_was_read_is_told_once() {
        let (tracking, clients) = (Tracking::default(), Clients::default());
        let (a, b) = (client(&clients, 3), client(&clients, 3));
        begin(&tracking, &a, None, Wish::default());
        begin(&tracking, &b, None, Wish { is_no_loop: true, ..Wish::default() });
        note(&tracking, &a, "k", 0);
        note(&tracking, &b, "k", 0);
        tracking.tell(&batch(&["other"]), false, None, SENDING);
        assert_eq!((pushed(&a), pushed(&b)), (String::new(), String::new()));
        tracking.tell(&batch(&["k", "k"]), false, Some(b.id), SENDING);
        assert_eq!(pushed(&a), ">2 $10 invalidate *1 $1 k ");
        assert_eq!((pushed(&b), tracking.counts()), (String::new(), (2, 0)));
        tracking.tell(&batch(&["k"]), false, None, SENDING);
        assert_eq!(pushed(&a), "");
        tracking.tell_all(SENDING);
        assert_eq!(pushed(&a), ">2 $10 invalidate _ ");
        tracking.end(a.id);
        tracking.end(b.id);
        assert!(!tracking.any());
    }

    #[test]
    fn what_was_read_of_each_database_is_told_of() {
        let (tracking, clients) = (Tracking::default(), Clients::default());
        let (a, b) = (client(&clients, 3), client(&clients, 3));
        tracking.begin(&a, &Arc::from(&b"0"[..]), None, Wish::default());
        let wish = Wish { mode: Mode::Broadcast, ..Wish::default() };
        tracking.begin(&b, &Arc::from(&b"0"[..]), None, wish);
        tracking.tell(&batch(&["k"]), false, None, SENDING);
        assert_eq!(pushed(&b), "", "of another database");
        for reader in [&a, &b] {
            tracking.enter(reader.id, &Arc::from(&b"n"[..]));
        }
        note(&tracking, &a, "k", 0);
        tracking.state.lock().tell_all(Some(b"n"), SENDING);
        assert_eq!(pushed(&a), ">2 $10 invalidate _ ");
        assert_eq!(pushed(&b), ">2 $10 invalidate _ ");
        tracking.tell(&batch(&["k"]), false, None, SENDING);
        assert_eq!(pushed(&b), ">2 $10 invalidate *1 $1 k ");
    }

    #[test]
    fn one_that_tracks_otherwise_is_told_of_the_same_databases() {
        let (tracking, clients) = (Tracking::default(), Clients::default());
        let a = client(&clients, 3);
        begin(&tracking, &a, None, Wish::default());
        let other: Arc<[u8]> = Arc::from(&b"0"[..]);
        tracking.enter(a.id, &other);
        let wish = Wish { is_no_loop: true, ..Wish::default() };
        tracking.begin(&a, &other, None, wish.clone());
        assert_eq!((tracking.of(a.id), tracking.counts()), (Some((Arc::new(wish), false)), (1, 0)));
        for namespace in ["n", "0"] {
            tracking.state.lock().tell_all(Some(namespace.as_bytes()), SENDING);
            assert_eq!(pushed(&a), ">2 $10 invalidate _ ", "{namespace}");
        }
    }

    #[test]
    fn a_broadcast_is_of_all_keys_with_a_prefix_at_once() {
        let (tracking, clients) = (Tracking::default(), Clients::default());
        let a = client(&clients, 3);
        let prefixes = vec![b"k".to_vec(), b"x".to_vec()];
        begin(&tracking, &a, None, Wish { mode: Mode::Broadcast, prefixes, ..Wish::default() });
        tracking.tell(&batch(&["k2", "other", "k1"]), false, None, SENDING);
        assert_eq!(pushed(&a), ">2 $10 invalidate *2 $2 k1 $2 k2 ");
    }

    #[test]
    fn a_key_is_found_to_be_of_a_prefix_wherever_that_stands() {
        let of = |prefixes: &[&str]| Wish {
            mode: Mode::Broadcast,
            prefixes: prefixes.iter().map(|prefix| prefix.as_bytes().to_vec()).collect(),
            ..Wish::default()
        };
        let concerns = |prefixes: &[&str]| {
            let keys = ["", "a", "b", "ba", "bzz", "c", "cc", "d", "z"];
            let wish = of(prefixes);
            let found = keys.into_iter().filter(|key| wish.concerns(key.as_bytes()));
            found.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(concerns(&["b", "cc", "x"]), "b ba bzz cc");
        assert_eq!(concerns(&["ba", "bb", "z"]), "ba z");
        assert_eq!(concerns(&["aa"]), "");
        for all in [&[][..], &[""], &["", "b"]] {
            assert_eq!(concerns(all), " a b ba bzz c cc d z");
        }
    }

    #[test]
    fn another_connection_is_told_as_a_subscriber() {
        let (tracking, clients) = (Tracking::default(), Clients::default());
        let (a, target) = (client(&clients, 3), client(&clients, 2));
        begin(&tracking, &a, Some(&target), Wish::default());
        note(&tracking, &a, "k", 0);
        tracking.tell(&batch(&["k"]), false, None, SENDING);
        assert_eq!(pushed(&target), "", "in RESP2 only one that subscribes");
        target.is_subscriber.store(true, Ordering::Relaxed);
        note(&tracking, &a, "k", 0);
        tracking.tell(&batch(&["k"]), false, None, SENDING);
        assert_eq!(pushed(&target), "*3 $7 message $20 __redis__:invalidate *1 $1 k ");
        tracking.tell_all(SENDING);
        assert_eq!(pushed(&target), "*3 $7 message $20 __redis__:invalidate $-1 ");
        target.kill();
        note(&tracking, &a, "k", 0);
        tracking.tell(&batch(&["k"]), false, None, SENDING);
        assert_eq!(pushed(&a), format!(">2 $21 tracking-redir-broken :{} ", target.id));
        assert!(tracking.of(a.id).unwrap().1);
    }

    #[test]
    fn more_keys_than_fit_are_told_as_changed() {
        let (tracking, clients) = (Tracking::default(), Clients::default());
        let a = client(&clients, 3);
        begin(&tracking, &a, None, Wish::default());
        for key in ["a", "b", "c"] {
            note(&tracking, &a, key, 2);
        }
        assert!(pushed(&a).starts_with(">2 $10 invalidate *1 $1 "));
        assert_eq!(tracking.counts(), (1, 2));
    }

    #[test]
    fn of_too_many_keys_those_go_that_the_lot_chooses() {
        let mut noted = Noted::default();
        let id = |number: u32| number.to_be_bytes();
        for number in 0..1_000 {
            noted.readers(&id(number)).insert(1);
        }
        noted.remove_where(|key| key < &id(500)[..]);
        // With each that is noted one goes; hardly ever the same one.
        let mut gone_at_once = 0;
        for number in 1_000..2_000 {
            noted.readers(&id(number)).insert(1);
            let key = noted.any().unwrap();
            gone_at_once += usize::from(*key == id(number));
            assert_eq!(noted.remove(&key), Some(BTreeSet::from([1])));
        }
        assert_eq!((noted.len(), noted.keys.len()), (500, 500));
        assert!(gone_at_once < 100, "{gone_at_once} of 1000");
        for (place, key) in noted.keys.iter().enumerate() {
            assert_eq!(noted.by_key[key].place, place);
        }
        noted.remove_where(|_| true);
        assert!(noted.any().is_none() && noted.remove(&id(1)).is_none());
    }
}
