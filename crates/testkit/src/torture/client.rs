//! A client: operations on random keys through the load balancers, each written down with its times.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::history::{Answer, Call, Outcome, Record};
use super::keys::{Key, Kind, first_of};
use super::timeline::Clock;
use crate::wait;
use crate::wire::{Connection, Reply, encode};

const CONNECT: Duration = Duration::from_millis(300);
/// After that an operation's outcome is unknown.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// After a refusal or a failed connection.
const BACK_OFF: Duration = Duration::from_millis(20);
/// After an operation without an answer: each makes the search for an order harder.
const BACK_OFF_UNKNOWN: Duration = Duration::from_millis(200);
/// With so many operations without an answer a lock is left for its successor.
const UNANSWERED: usize = 4;
/// Ids of one client: values, elements and tokens are unique over all clients.
const IDS: u64 = 100_000;
/// Bytes of an element of a list, its end mark included.
const ELEMENT: usize = 9;
const PIPELINE: usize = 5;
const BALLAST_BYTES: usize = 16_384;

/// Errors that are given before anything is done.
const REFUSALS: [&str; 11] = [
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "NOREPLICAS",
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "NOAUTH",
    "DENIED",
    "BUSY",
];

/// What all clients share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// All keys.
    pub keys: Arc<Vec<Key>>,
    /// By key: operations without an answer so far.
    pub unanswered: Arc<Vec<AtomicUsize>>,
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
        let here = first_of(&keys, shard);
        let writes = self.rng.random_ratio(self.shared.write_permille, 1_000);
        if writes && self.rng.random_ratio(self.shared.ballast_percent, 100) {
            return self.write_ballast(shard, &here);
        }
        let count = if self.rng.random_bool(0.25) { PIPELINE } else { 1 };
        let mut calls = Vec::new();
        for _ in 0..count {
            let Some(key) = here.choose(&mut self.rng).map(|key| self.current(*key)) else {
                return;
            };
            let call = match keys[key].kind {
                Kind::Ballast => None,
                _ if writes => self.draw(key, &keys[key]),
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

    /// The key itself, or who took over from it.
    fn current(&self, mut key: usize) -> usize {
        while let Some(successor) = self.shared.keys[key].successor
            && self.shared.unanswered[key].load(Ordering::Relaxed) >= UNANSWERED
        {
            key = successor;
        }
        key
    }

    fn draw(&mut self, index: usize, key: &Key) -> Option<Call> {
        let part = self.rng.random_range(0..100);
        Some(match key.kind {
            Kind::Register if part < 45 => Call::Get,
            Kind::Register if part < 85 => Call::Set(self.id()),
            Kind::Register => Call::Swap(self.id()),
            Kind::Counter if part < 30 => Call::Get,
            Kind::Counter => Call::Incr,
            Kind::List if part < 30 => Call::Get,
            Kind::List => Call::Append(self.id()),
            Kind::Lock if part < 20 => Call::Get,
            Kind::Lock => match self.tokens.get(&index) {
                Some(token) => Call::Release(*token),
                None => Call::Acquire(self.id()),
            },
            Kind::Ballast => return None,
        })
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

    /// Sends commands together and reads their replies one by one. Which node serves the connection is asked before and after: a balancer may move it.
    fn exchange(&mut self, shard: usize, calls: &[(usize, Call)]) {
        let keys = Arc::clone(&self.shared.keys);
        let commands = calls.iter().flat_map(|(key, call)| command(&keys[*key], *call));
        let bytes: Vec<u8> = who_asks().into_iter().chain(commands).chain(who_asks()).collect();
        let Some(mut link) = self.links.remove(&shard) else { return };
        let invoked = self.shared.clock.now();
        let mut broken = link.send_raw(&bytes).err();
        let mut next = |broken: &mut Option<anyhow::Error>| match broken {
            Some(_) => None,
            None => link.receive().map_err(|error| *broken = Some(error)).ok(),
        };
        let before = next(&mut broken);
        let mut done = Vec::new();
        for (key, call) in calls.iter().copied() {
            let reply = next(&mut broken);
            let outcome = match (reply, &broken) {
                (Some(reply), _) => outcome(call, keys[key].kind, &reply),
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
        if let Call::Acquire(token) = call {
            let taken = *outcome == Outcome::Answered(Answer::Whether(true));
            if taken || matches!(outcome, Outcome::Unknown(_)) {
                self.tokens.insert(key, token);
            }
        }
    }

    fn write_down(&mut self, invoked: u64, ended: Ended, by: Option<Arc<str>>) {
        let Ended { key, call, outcome, at: ended } = ended;
        if matches!(outcome, Outcome::Unknown(_)) && !matches!(call, Call::Get) {
            self.shared.unanswered[key].fetch_add(1, Ordering::Relaxed);
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
        if let Ok(Reply::Simple(_)) = link.call(&[b"SET".as_slice(), name.as_bytes(), &value]) {
            self.links.insert(shard, link);
        } else {
            wait::pause(BACK_OFF);
        }
    }
}

/// A read of a key in its own right: the value at the end, or at a replica.
pub fn read(connection: &mut Connection, key: &Key) -> Result<Outcome> {
    let reply = connection.call(&["GET", &key.name])?;
    Ok(outcome(Call::Get, key.kind, &reply))
}

fn command(key: &Key, call: Call) -> Vec<u8> {
    let name = key.name.as_str();
    match call {
        Call::Get => encode(&["GET", name]),
        Call::Set(value) => encode(&["SET", name, &value.to_string()]),
        Call::Swap(value) => encode(&["SET", name, &value.to_string(), "GET"]),
        Call::Incr => encode(&["INCR", name]),
        Call::Append(element) => encode(&["APPEND", name, &format!("{element:08};")]),
        Call::Acquire(token) => {
            encode(&["SET", name, &token.to_string(), "NX", "PX", &key.ttl_ms.to_string()])
        }
        // It is not one command; see `release`.
        Call::Release(_) => Vec::new(),
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

fn refusal(reply: &Reply) -> Outcome {
    let (text, code) = (reply.text(), reply.error_code().unwrap_or_default());
    let is_known = REFUSALS.contains(&code.as_str())
        || text.starts_with("ERR this node serves clients only through")
        || text == "ERR max number of clients reached";
    if is_known { Outcome::Refused(text) } else { Outcome::Unknown(text) }
}

fn outcome(call: Call, kind: Kind, reply: &Reply) -> Outcome {
    let garbage = || Answer::Garbage(format!("{reply:?}").chars().take(200).collect());
    let value = |reply: &Reply| match reply {
        Reply::NilBulk | Reply::Null => Some(None),
        Reply::Bulk(_) => reply.text().parse().ok().map(Some),
        _ => None,
    };
    let answer = match (call, reply) {
        (_, Reply::Error(_)) => return refusal(reply),
        (Call::Set(_), Reply::Simple(_)) => Some(Answer::Done),
        (Call::Get, _) if kind == Kind::List => content(reply).map(Answer::Content),
        (Call::Get, _) if kind == Kind::Counter => {
            let number = value(reply).and_then(|value| i64::try_from(value.unwrap_or(0)).ok());
            number.map(Answer::Number)
        }
        (Call::Get | Call::Swap(_), _) => value(reply).map(Answer::Value),
        (Call::Incr, Reply::Integer(number)) => Some(Answer::Number(*number)),
        (Call::Append(_), Reply::Integer(bytes)) => {
            let bytes = usize::try_from(*bytes).unwrap_or(1);
            let elements = i64::try_from(bytes / ELEMENT).unwrap_or(0);
            (bytes % ELEMENT == 0).then_some(Answer::Number(elements))
        }
        (Call::Acquire(_), Reply::Simple(_)) => Some(Answer::Whether(true)),
        (Call::Acquire(_), Reply::NilBulk | Reply::Null) => Some(Answer::Whether(false)),
        _ => None,
    };
    Outcome::Answered(answer.unwrap_or_else(garbage))
}

/// The elements of a list; `None` where it is torn.
fn content(reply: &Reply) -> Option<Vec<u64>> {
    let text = match reply {
        Reply::NilBulk | Reply::Null => return Some(Vec::new()),
        Reply::Bulk(_) => reply.text(),
        _ => return None,
    };
    let is_whole = text.len() % ELEMENT == 0 && text.is_ascii();
    let elements = text.as_bytes().chunks(ELEMENT).map(|chunk| {
        let digits = chunk.strip_suffix(b";")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    });
    is_whole.then(|| elements.collect::<Option<_>>()).flatten()
}

const WHO: [&str; 2] = ["CLUSTER", "MYID"];

fn who_asks() -> Vec<u8> {
    encode(&WHO)
}

/// Who served what was asked between two such questions. Where the second was not answered, the first counts: it was answered after the operations were sent,
/// by a node that had not let go of the session by then.
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
    fn replies_are_understood_and_torn_lists_are_garbage() {
        let answered = |call, kind, reply| match outcome(call, kind, &reply) {
            Outcome::Answered(answer) => answer,
            other => panic!("{other:?}"),
        };
        let list = answered(Call::Get, Kind::List, bulk("00100001;00100002;"));
        assert_eq!(list, Answer::Content(vec![100_001, 100_002]));
        let torn = answered(Call::Get, Kind::List, bulk("00100001;001000"));
        assert!(matches!(torn, Answer::Garbage(_)));
        let length = answered(Call::Append(1), Kind::List, Reply::Integer(18));
        assert_eq!(length, Answer::Number(2));
        assert_eq!(answered(Call::Get, Kind::Counter, Reply::NilBulk), Answer::Number(0));
        assert_eq!(answered(Call::Acquire(1), Kind::Lock, Reply::NilBulk), Answer::Whether(false));
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

    #[test]
    fn only_errors_that_come_before_the_effect_are_refusals() {
        let error = |text: &str| refusal(&Reply::Error(text.as_bytes().to_vec()));
        assert!(matches!(error("MOVED 1 h:1"), Outcome::Refused(_)));
        assert!(matches!(
            error("NOREPLICAS Not enough good replicas to write."),
            Outcome::Refused(_)
        ));
        assert!(matches!(error("ERR max number of clients reached"), Outcome::Refused(_)));
        assert!(matches!(error("ERR IO error: No space left on device"), Outcome::Unknown(_)));
    }
}
