//! A client: operations on random keys through the load balancers, each written down with its
//! times.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::commands::{command, outcome, refusal};
use super::history::{Answer, Call, Outcome, Record, Way};
use super::keys::{Key, Kind, first_of};
use super::timeline::Clock;
use crate::linear::queue::End;
use crate::linear::set::MEMBERS;
use crate::wait;
use crate::wire::{Connection, Reply, encode};

const CONNECT: Duration = Duration::from_millis(300);
/// After that an operation's outcome is unknown.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// After a refusal or a failed connection.
const BACK_OFF: Duration = Duration::from_millis(20);
/// After an operation without an answer: each makes the search for an order harder.
const BACK_OFF_UNKNOWN: Duration = Duration::from_millis(200);
/// With so many operations without an answer a key is left for its successor.
const UNANSWERED: usize = 4;
/// Ids of one client: values, elements and tokens are unique over all clients.
const IDS: u64 = 100_000;
/// Of so many pops that may wait, the client hangs up in the middle of one.
const HANGS_UP: u32 = 100;
const PIPELINE: usize = 5;
const BALLAST_BYTES: usize = 16_384;

/// What all clients share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// All keys.
    pub keys: Arc<Vec<Key>>,
    /// By key: operations without an answer so far.
    pub unanswered: Arc<Vec<AtomicUsize>>,
    /// By key: its shard, as clients were told last.
    pub places: Arc<Vec<AtomicUsize>>,
    /// Where clients reach the master of each shard.
    pub masters: Arc<Vec<SocketAddr>>,
    /// The clock of the run.
    pub clock: Clock,
    /// Set when they are to end.
    pub stop: Arc<AtomicBool>,
    /// How often of a hundred times ballast is written.
    pub ballast_percent: u32,
    /// How often of a thousand times anything is written.
    pub write_permille: u32,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    number: u32,
    shared: Shared,
    rng: StdRng,
    links: HashMap<usize, Connection>,
    /// By key: the token of a lock that may be ours.
    tokens: HashMap<usize, u64>,
    /// By key: elements that were put aside for us, to be removed when their work is done.
    aside: HashMap<usize, Vec<u64>>,
    /// By key: the ids of entries that were given to us, to be acknowledged.
    given: HashMap<usize, Vec<u64>>,
    /// By key: the value that a script saw last, or wrote.
    seen: HashMap<usize, Option<u64>>,
    used_ids: u64,
    records: Vec<Record>,
}

/// An operation of a pipeline that has ended.
struct Ended {
    key: usize,
    call: Call,
    outcome: Outcome,
    at: u64,
}

impl Client {
    /// For the thread it will run on, which is in the clients' namespace.
    pub fn new(number: u32, seed: u64, shared: Shared) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ (u64::from(number) << 32));
        Self {
            number,
            shared,
            rng,
            links: HashMap::new(),
            tokens: HashMap::new(),
            aside: HashMap::new(),
            given: HashMap::new(),
            seen: HashMap::new(),
            used_ids: 0,
            records: Vec::new(),
        }
    }

    /// Works until it is told to stop; returns all it did.
    pub fn run(mut self) -> Vec<Record> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.turn();
            let pause = self.rng.random_range(2..14);
            wait::pause(Duration::from_millis(pause));
        }
        self.records
    }

    fn turn(&mut self) {
        let shard = self.rng.random_range(0..self.shared.masters.len());
        if !self.connect(shard) {
            wait::pause(BACK_OFF);
            return;
        }
        let keys = Arc::clone(&self.shared.keys);
        let here = self.here(shard);
        let writes = self.rng.random_ratio(self.shared.write_permille, 1_000);
        if writes && self.rng.random_ratio(self.shared.ballast_percent, 100) {
            return self.write_ballast(shard, &here);
        }
        let count = if self.rng.random_bool(0.25) { PIPELINE } else { 1 };
        let mut calls = Vec::new();
        for _ in 0..count {
            let Some(key) = here.choose(&mut self.rng).copied() else { return };
            let call = match keys[key].kind {
                Kind::Ballast => None,
                Kind::Channel if !writes => None,
                _ if writes && !self.is_worn(key) => self.draw(key, &keys[key]),
                _ => Some(Call::Get),
            };
            calls.extend(call.map(|call| (key, call)));
        }
        match calls.first().copied() {
            None => {}
            // It takes two exchanges, so it is never part of a pipeline.
            Some((key, Call::Release(token))) => self.release(shard, key, token),
            Some(_) => {
                calls.retain(|(_, call)| !matches!(call, Call::Release(_)));
                self.exchange(shard, &calls);
            }
        }
    }

    /// The keys that are in use and, as far as is known, in this shard.
    fn here(&self, shard: usize) -> Vec<usize> {
        let is_here = |key: &usize| self.shared.places[*key].load(Ordering::Relaxed) == shard;
        let current = first_of(&self.shared.keys).into_iter().map(|key| self.current(key));
        current.filter(is_here).collect()
    }

    /// `MOVED <slot> <address>`: the key is at another shard.
    fn learn(&self, key: usize, refusal: &str) {
        let mut words = refusal.split(' ');
        let is_moved = words.next() == Some("MOVED");
        let to: Option<SocketAddr> = words.nth(1).and_then(|address| address.parse().ok());
        let place = self.shared.masters.iter().position(|master| Some(*master) == to);
        if let Some(place) = place.filter(|_| is_moved) {
            self.shared.places[key].store(place, Ordering::Relaxed);
        }
    }

    /// The key itself, or who took over from it.
    fn current(&self, mut key: usize) -> usize {
        while let Some(successor) = self.shared.keys[key].successor
            && self.shared.unanswered[key].load(Ordering::Relaxed) >= UNANSWERED
        {
            key = successor;
        }
        key
    }

    /// The last of several keys that follow each other, with too many operations without an answer:
    /// it is only read, or no search would find an order.
    fn is_worn(&self, key: usize) -> bool {
        let Key { kind, successor, .. } = self.shared.keys[key];
        let unanswered = self.shared.unanswered[key].load(Ordering::Relaxed);
        kind.turns() > 1 && successor.is_none() && unanswered >= UNANSWERED
    }

    fn draw(&mut self, index: usize, key: &Key) -> Option<Call> {
        let part = self.rng.random_range(0..100);
        Some(match key.kind {
            Kind::Register if part < 45 => Call::Get,
            Kind::Register if part < 85 => Call::Set(self.id()),
            Kind::Register => Call::Swap(self.id()),
            Kind::Counter | Kind::Field | Kind::Score if part < 30 => Call::Get,
            Kind::Counter | Kind::Field | Kind::Score => Call::Incr,
            Kind::List if part < 30 => Call::Get,
            Kind::List => Call::Append(self.id()),
            Kind::Lock if part < 20 => Call::Get,
            Kind::Lock => match self.tokens.get(&index) {
                Some(token) => Call::Release(*token),
                None => Call::Acquire(self.id()),
            },
            Kind::Queue => self.draw_for_queue(index, part),
            Kind::Set => {
                let member = self.rng.random_range(0..MEMBERS);
                match part {
                    0..20 => Call::Get,
                    20..30 => Call::Has(member),
                    30..65 => Call::Add(member),
                    65..85 => Call::Remove(member),
                    _ => Call::Draw,
                }
            }
            Kind::Script if part < 25 => Call::Get,
            Kind::Script => {
                let way = [Way::Text, Way::Sha, Way::Function][self.rng.random_range(0..3)];
                let old = self.seen.get(&index).copied().flatten();
                Call::Compare(way, old, self.id())
            }
            Kind::Stream => self.draw_for_stream(index, part),
            Kind::Channel => Call::Publish(self.id()),
            Kind::Ballast => return None,
        })
    }

    /// As much is taken as comes, so that consumers often wait, and some of it is left for others.
    fn draw_for_stream(&mut self, key: usize, part: u32) -> Call {
        match part {
            0..8 => Call::Get,
            8..12 => Call::Pending,
            12..38 => Call::Enter(self.id()),
            38..65 => Call::Take(self.number),
            65..75 => Call::Claim(self.number),
            _ => match self.given.get(&key).and_then(|given| given.last()) {
                Some(id) => Call::Ack(*id),
                None => Call::Take(self.number),
            },
        }
    }

    /// As many elements are taken as come, so that consumers often wait and queues stay short.
    fn draw_for_queue(&mut self, key: usize, part: u32) -> Call {
        match part {
            0..10 => Call::Get,
            10..20 => Call::Aside,
            20..40 => Call::Push(End::Left, self.id()),
            40..60 => Call::Push(End::Right, self.id()),
            60..70 => Call::Pop(End::Left),
            70..80 => Call::Pop(End::Right),
            _ => match self.aside.get(&key).and_then(|elements| elements.last()) {
                Some(element) => Call::Done(*element),
                None => Call::Move,
            },
        }
    }

    fn id(&mut self) -> u64 {
        self.used_ids += 1;
        u64::from(self.number + 1) * IDS + self.used_ids
    }

    /// True with a connection to a shard.
    fn connect(&mut self, shard: usize) -> bool {
        if self.links.contains_key(&shard) {
            return true;
        }
        let fresh = Connection::open_within(self.shared.masters[shard], CONNECT, PATIENCE);
        fresh.map(|link| self.links.insert(shard, link)).is_ok()
    }

    /// Sends commands together and reads their replies one by one. Which node serves the connection
    /// is asked before and after: a balancer may move it.
    fn exchange(&mut self, shard: usize, calls: &[(usize, Call)]) {
        let keys = Arc::clone(&self.shared.keys);
        let commands = calls.iter().flat_map(|(key, call)| command(&keys[*key], *call));
        let bytes: Vec<u8> = who_asks().into_iter().chain(commands).chain(who_asks()).collect();
        let Some(mut link) = self.links.remove(&shard) else { return };
        let invoked = self.shared.clock.now();
        let mut broken = link.send_raw(&bytes).err();
        if calls.iter().any(|(_, call)| call.waits()) && self.rng.random_ratio(1, HANGS_UP) {
            wait::pause(Duration::from_millis(self.rng.random_range(0..100)));
            broken = Some(anyhow!("the client hung up"));
        }
        let mut next = |broken: &mut Option<anyhow::Error>| match broken {
            Some(_) => None,
            None => link.receive().map_err(|error| *broken = Some(error)).ok(),
        };
        let before = next(&mut broken);
        let mut done = Vec::new();
        for (key, call) in calls.iter().copied() {
            let reply = next(&mut broken);
            let outcome = match (reply, &broken) {
                (Some(reply), _) => outcome(call, &keys[key], &reply),
                (None, error) => {
                    let why = error.as_ref().map(|error| format!("{:#}", error));
                    Outcome::Unknown(why.unwrap_or_default())
                }
            };
            done.push(Ended { key, call, outcome, at: self.shared.clock.now() });
        }
        let by = server(before.as_ref(), next(&mut broken).as_ref());
        let is_refused = done.iter().any(|ended| matches!(ended.outcome, Outcome::Refused(_)));
        let is_unknown = broken.is_some()
            || done.iter().any(|ended| matches!(ended.outcome, Outcome::Unknown(_)));
        for (position, ended) in (0..).zip(done) {
            self.remember(ended.key, ended.call, &ended.outcome);
            // A ns apart, so that the time of its call names an operation.
            self.write_down(invoked + position, ended, by.clone());
        }
        if is_unknown {
            wait::pause(BACK_OFF_UNKNOWN);
        } else if is_refused {
            wait::pause(BACK_OFF);
        } else {
            self.links.insert(shard, link);
        }
    }

    fn remember(&mut self, key: usize, call: Call, outcome: &Outcome) {
        match (call, outcome) {
            (
                Call::Acquire(token),
                Outcome::Answered(Answer::Whether(true)) | Outcome::Unknown(_),
            ) => {
                self.tokens.insert(key, token);
            }
            (Call::Move, Outcome::Answered(Answer::Value(Some(element)))) => {
                self.aside.entry(key).or_default().push(*element);
            }
            (Call::Done(element), Outcome::Answered(_) | Outcome::Unknown(_)) => {
                if let Some(elements) = self.aside.get_mut(&key) {
                    elements.retain(|other| *other != element);
                }
            }
            (Call::Take(_) | Call::Claim(_), Outcome::Answered(Answer::Entries(entries))) => {
                self.given.entry(key).or_default().extend(entries.iter().map(|(id, _)| *id));
            }
            (Call::Ack(id), Outcome::Answered(_) | Outcome::Unknown(_)) => {
                if let Some(given) = self.given.get_mut(&key) {
                    given.retain(|other| *other != id);
                }
            }
            (Call::Compare(_, old, new), Outcome::Answered(Answer::Value(seen))) => {
                self.seen.insert(key, if *seen == old { Some(new) } else { *seen });
            }
            (Call::Get, Outcome::Answered(Answer::Value(seen)))
                if self.shared.keys[key].kind == Kind::Script =>
            {
                self.seen.insert(key, *seen);
            }
            _ => {}
        }
    }

    fn write_down(&mut self, invoked: u64, ended: Ended, by: Option<Arc<str>>) {
        let Ended { key, call, outcome, at: ended } = ended;
        if matches!(outcome, Outcome::Unknown(_)) && !call.is_read() {
            self.shared.unanswered[key].fetch_add(1, Ordering::Relaxed);
        }
        if let Outcome::Refused(text) = &outcome {
            self.learn(key, text);
        }
        let client = self.number;
        self.records.push(Record { client, key, call, invoked, ended, outcome, by });
    }

    fn release(&mut self, shard: usize, key: usize, token: u64) {
        let Some(mut link) = self.links.remove(&shard) else { return };
        let invoked = self.shared.clock.now();
        let name = self.shared.keys[key].name.clone();
        // A connection with an answer outstanding is of no use: the next command would be given it.
        let Ok(before) = link.call(&WHO) else { return wait::pause(BACK_OFF_UNKNOWN) };
        let done = release(&mut link, &name, token);
        let at = self.shared.clock.now();
        let after = if done.is_ok() { link.call(&WHO).ok() } else { None };
        let by = server(Some(&before), after.as_ref());
        let outcome = match &done {
            Ok(Some(outcome)) => Some(outcome.clone()),
            // Another client touched it meanwhile: nothing was done, and nothing was learned.
            Ok(None) => None,
            Err(error) => Some(Outcome::Unknown(format!("{error:#}"))),
        };
        if let Some(outcome) = outcome {
            if matches!(outcome, Outcome::Answered(_)) {
                self.tokens.remove(&key);
            }
            let ended = Ended { key, call: Call::Release(token), outcome, at };
            self.write_down(invoked, ended, by);
        }
        match done {
            Ok(Some(Outcome::Refused(_))) => wait::pause(BACK_OFF),
            Ok(None | Some(Outcome::Answered(_))) if after.is_some() => {
                self.links.insert(shard, link);
            }
            _ => wait::pause(BACK_OFF_UNKNOWN),
        }
    }

    fn write_ballast(&mut self, shard: usize, here: &[usize]) {
        let is_ballast = |index: &&usize| self.shared.keys[**index].kind == Kind::Ballast;
        let Some(key) = here.iter().find(is_ballast) else { return };
        let name = self.shared.keys[*key].name.clone();
        // Incompressible enough: nothing here depends on it.
        let value = vec![self.rng.random::<u8>(); BALLAST_BYTES];
        let Some(mut link) = self.links.remove(&shard) else { return };
        match link.call(&[b"SET".as_slice(), name.as_bytes(), &value]) {
            Ok(Reply::Simple(_)) => drop(self.links.insert(shard, link)),
            said => {
                let error = said.map(|said| said.text()).unwrap_or_default();
                self.learn(*key, &error);
                wait::pause(BACK_OFF);
            }
        }
    }
}

/// `None`: the lock was touched between the look and the deletion.
fn release(connection: &mut Connection, name: &str, token: u64) -> Result<Option<Outcome>> {
    connection.send_raw(&[encode(&["WATCH", name]), encode(&["GET", name])].concat())?;
    let (watched, held) = (connection.receive()?, connection.receive()?);
    for reply in [&watched, &held] {
        if let Reply::Error(_) = reply {
            return Ok(Some(refusal(reply)));
        }
    }
    if held.text() != token.to_string() {
        connection.call(&["UNWATCH"])?;
        return Ok(Some(Outcome::Answered(Answer::Whether(false))));
    }
    let transaction = [encode(&["MULTI"]), encode(&["DEL", name]), encode(&["EXEC"])].concat();
    connection.send_raw(&transaction)?;
    let (multi, queued, done) =
        (connection.receive()?, connection.receive()?, connection.receive()?);
    Ok(match done {
        Reply::Many(_, ref replies) => match replies.first() {
            Some(Reply::Integer(count)) => Some(Outcome::Answered(Answer::Whether(*count == 1))),
            Some(error @ Reply::Error(_)) => Some(refusal(error)),
            _ => Some(Outcome::Unknown(format!("{done:?}"))),
        },
        Reply::NilArray | Reply::NilBulk | Reply::Null => None,
        Reply::Error(_) => {
            // EXECABORT means that a command before was refused, and says not why.
            let first = [&multi, &queued].into_iter().find(|r| matches!(r, Reply::Error(_)));
            Some(first.map_or_else(|| refusal(&done), refusal))
        }
        other => Some(Outcome::Unknown(format!("{other:?}"))),
    })
}

const WHO: [&str; 2] = ["CLUSTER", "MYID"];

fn who_asks() -> Vec<u8> {
    encode(&WHO)
}

/// The node that served what was asked between two such questions. If the second was not answered,
/// the first counts: it was answered after the operations were sent, by a node that had not let go
/// of the session by then.
fn server(before: Option<&Reply>, after: Option<&Reply>) -> Option<Arc<str>> {
    let id = |reply: &Reply| match reply {
        Reply::Bulk(id) => String::from_utf8(id.clone()).ok(),
        _ => None,
    };
    let before = id(before?)?;
    let is_same = after.is_none_or(|after| id(after).is_some_and(|after| after == before));
    is_same.then(|| before.into())
}

/// Asks who serves a connection.
pub fn who(connection: &mut Connection) -> Result<String> {
    let reply = connection.call(&WHO).context("ask for the node's id")?;
    Ok(reply.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.as_bytes().to_vec())
    }

    #[test]
    fn who_served_is_known_unless_the_session_was_moved_meanwhile() {
        let (a, b) = (bulk("a"), bulk("b"));
        assert_eq!(server(Some(&a), Some(&a)).as_deref(), Some("a"));
        assert_eq!(server(Some(&a), None).as_deref(), Some("a"));
        assert_eq!(server(Some(&a), Some(&b)), None);
        assert_eq!(server(None, Some(&b)), None);
        assert_eq!(server(Some(&Reply::Error(b"NOAUTH".to_vec())), None), None);
    }
}
