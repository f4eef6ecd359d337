//! A client: operations on random keys through the load balancers, each written down with its times.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::history::{Answer, Call, Outcome, Record};
use super::keys::{Key, Kind};
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
/// Ids of one client: values, elements and tokens are unique over all clients.
const IDS: u64 = 100_000;
/// Bytes of an element of a list, its end mark included.
const ELEMENT: usize = 9;
const PIPELINE: usize = 5;
const BALLAST_BYTES: usize = 16_384;
/// Connections are asked again which node serves them after so many operations.
const ASK_AGAIN: u32 = 48;

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
    links: HashMap<usize, Link>,
    /// By key: the token of a lock that may be ours.
    tokens: HashMap<usize, u64>,
    used_ids: u64,
    records: Vec<Record>,
}

#[derive(Debug)]
struct Link {
    connection: Connection,
    by: Option<Arc<str>>,
    uses: u32,
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
        let here: Vec<usize> =
            (0..keys.len()).filter(|index| keys[*index].shard == shard).collect();
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

    /// True with a connection to a shard whose node is known.
    fn connect(&mut self, shard: usize) -> bool {
        if self.links.get(&shard).is_some_and(|link| link.uses < ASK_AGAIN) {
            return true;
        }
        let fresh = match self.links.remove(&shard) {
            Some(link) => Ok(link.connection),
            None => Connection::open_within(self.shared.masters[shard], CONNECT, PATIENCE),
        };
        let link = fresh.and_then(|mut connection| {
            let by = match connection.call(&["CLUSTER", "MYID"])? {
                Reply::Bulk(id) => Some(String::from_utf8(id)?.into()),
                _ => None,
            };
            Ok(Link { connection, by, uses: 0 })
        });
        link.map(|link| self.links.insert(shard, link)).is_ok()
    }

    /// Sends commands together and reads their replies one by one.
    fn exchange(&mut self, shard: usize, calls: &[(usize, Call)]) {
        let keys = Arc::clone(&self.shared.keys);
        let bytes: Vec<u8> =
            calls.iter().flat_map(|(key, call)| command(&keys[*key], *call)).collect();
        let Some(mut link) = self.links.remove(&shard) else { return };
        link.uses += 1;
        let invoked = self.shared.clock.now();
        let mut broken = link.connection.send_raw(&bytes).err();
        let (mut is_refused, mut is_unknown) = (false, false);
        for (position, (key, call)) in (0..).zip(calls.iter().copied()) {
            let reply = match &broken {
                Some(_) => None,
                None => link.connection.receive().map_err(|error| broken = Some(error)).ok(),
            };
            let outcome = match (reply, &broken) {
                (Some(reply), _) => outcome(call, keys[key].kind, &reply),
                (None, error) => {
                    let why = error.as_ref().map(|error| format!("{:#}", error));
                    Outcome::Unknown(why.unwrap_or_default())
                }
            };
            is_refused |= matches!(outcome, Outcome::Refused(_));
            is_unknown |= matches!(outcome, Outcome::Unknown(_));
            self.remember(key, call, &outcome);
            // A ns apart, so that the time of its call names an operation.
            self.write_down(key, call, invoked + position, outcome, link.by.clone());
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

    fn write_down(
        &mut self,
        key: usize,
        call: Call,
        invoked: u64,
        outcome: Outcome,
        by: Option<Arc<str>>,
    ) {
        let (client, ended) = (self.number, self.shared.clock.now());
        self.records.push(Record { client, key, call, invoked, ended, outcome, by });
    }

    fn release(&mut self, shard: usize, key: usize, token: u64) {
        let Some(mut link) = self.links.remove(&shard) else { return };
        link.uses += 1;
        let invoked = self.shared.clock.now();
        let name = self.shared.keys[key].name.clone();
        let done = release(&mut link.connection, &name, token);
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
            self.write_down(key, Call::Release(token), invoked, outcome, link.by.clone());
        }
        match done {
            Ok(Some(Outcome::Refused(_))) => wait::pause(BACK_OFF),
            Err(_) | Ok(Some(Outcome::Unknown(_))) => wait::pause(BACK_OFF_UNKNOWN),
            Ok(_) => {
                self.links.insert(shard, link);
            }
        }
    }

    fn write_ballast(&mut self, shard: usize, here: &[usize]) {
        let is_ballast = |index: &&usize| self.shared.keys[**index].kind == Kind::Ballast;
        let Some(key) = here.iter().find(is_ballast) else { return };
        let name = self.shared.keys[*key].name.clone();
        // Incompressible enough: nothing here depends on it.
        let value = vec![self.rng.random::<u8>(); BALLAST_BYTES];
        let Some(mut link) = self.links.remove(&shard) else { return };
        if let Ok(Reply::Simple(_)) =
            link.connection.call(&[b"SET".as_slice(), name.as_bytes(), &value])
        {
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
        || text.starts_with("ERR this node serves clients only through");
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

/// Asks who serves a connection.
pub fn who(connection: &mut Connection) -> Result<String> {
    let reply = connection.call(&["CLUSTER", "MYID"]).context("ask for the node's id")?;
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
    fn only_errors_that_come_before_the_effect_are_refusals() {
        let error = |text: &str| refusal(&Reply::Error(text.as_bytes().to_vec()));
        assert!(matches!(error("MOVED 1 h:1"), Outcome::Refused(_)));
        assert!(matches!(
            error("NOREPLICAS Not enough good replicas to write."),
            Outcome::Refused(_)
        ));
        assert!(matches!(error("ERR IO error: No space left on device"), Outcome::Unknown(_)));
    }
}
