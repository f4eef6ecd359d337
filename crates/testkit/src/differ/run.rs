//! Plays sequences against a pair of servers and tells the first difference.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::declared::Declared;
use super::difference::Difference;
use super::generate::{Grammar, Step, sequence};
use super::shrink::shrink;
use crate::process::Server;
use crate::transcript::compare::same_answer;
use crate::transcript::order::{Order, Orders};
use crate::transcript::player::show;
use crate::wait;
use crate::wire::{Connection, Reply};

/// A key that has a millisecond to live is gone long before.
const EXPIRY_PATIENCE: Duration = Duration::from_secs(30);

/// What came of the sequence of a seed.
#[derive(Debug)]
pub enum Outcome {
    /// All replies were alike; so many were compared.
    Alike(usize),
    /// A difference that is in the list; what followed was not asked.
    Declared,
    /// Another, with a text for whoever is to mend it.
    Differs(Difference, String),
}

/// A node and a redis-server, and the version of RESP in which they are asked.
#[derive(Debug)]
pub struct Pair {
    ours: Server,
    theirs: Server,
    is_resp3: bool,
    grammar: Grammar,
}

/// The connections to one of them.
struct Side<'a> {
    server: &'a Server,
    is_resp3: bool,
    connections: BTreeMap<char, Connection>,
}

impl Pair {
    /// Starts both.
    pub fn start(is_resp3: bool) -> Result<Self> {
        let ours = Server::node("workers 2\nresp3-enabled yes")?;
        Ok(Self { ours, theirs: Server::redis()?, is_resp3, grammar: Grammar::read()? })
    }

    /// Plays the sequence of a seed; a difference that is not declared is made small.
    pub fn check(&self, seed: u64, declared: &Declared) -> Result<Outcome> {
        let steps = sequence(&self.grammar, seed)?;
        let Some(difference) = self.play(&steps).with_context(|| format!("play seed {seed}"))?
        else {
            return Ok(Outcome::Alike(steps.len()));
        };
        if declared.allows(&difference) {
            return Ok(Outcome::Declared);
        }
        let mut steps = steps;
        steps.truncate(difference.at + 1);
        let steps = shrink(steps, |steps| {
            let found = self.play(steps)?;
            Ok(found
                .is_some_and(|found| found.name() == difference.name() && !declared.allows(&found)))
        })?;
        // It came and went: what was seen first is all there is to show.
        let difference = self.play(&steps)?.unwrap_or(difference);
        let text = self.render(seed, &steps, &difference);
        Ok(Outcome::Differs(difference, text))
    }

    /// The first difference that a sequence shows, if it does.
    pub fn play(&self, steps: &[Step]) -> Result<Option<Difference>> {
        let (mut ours, mut theirs) = (self.fresh(&self.ours)?, self.fresh(&self.theirs)?);
        let mut orders: BTreeMap<char, Orders> = BTreeMap::new();
        let mut said = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            let one = ours.step(step).with_context(|| format!("ours, step {at}: {step}"))?;
            let other = theirs.step(step).with_context(|| format!("redis, step {at}: {step}"))?;
            let order = match step {
                Step::Ask(connection, words) => {
                    let orders = orders.entry(*connection).or_default();
                    orders.of(words, &Order::Exact, other.as_ref())
                }
                Step::Expire(_) => Order::Exact,
            };
            let is_alike = match (&one, &other) {
                (Some(one), Some(other)) => same_answer(one, other, &order),
                (one, other) => one == other,
            };
            if !is_alike {
                return Ok(Some(difference(&steps[..=at], &said, one, other, &order)));
            }
            said.push(other);
        }
        Ok(None)
    }

    fn fresh<'a>(&self, server: &'a Server) -> Result<Side<'a>> {
        let log = || format!("begin with an empty database; the log: {}", server.process().log());
        Side::fresh(server, self.is_resp3).with_context(log)
    }

    fn render(&self, seed: u64, steps: &[Step], difference: &Difference) -> String {
        let version = if self.is_resp3 { 3 } else { 2 };
        let mut text = format!("seed {seed}, RESP{version}; as lines of a .probe file:\n");
        // Writing to a String cannot fail.
        for step in steps {
            let _ = writeln!(text, "{step}");
        }
        let _ = write!(text, "    ours  {}\n    redis {}", difference.ours, difference.redis);
        text
    }
}

/// The difference in the last of these steps. That of an EXEC is said of the queued command that
/// makes it.
fn difference(
    steps: &[Step],
    said: &[Option<Reply>],
    ours: Option<Reply>,
    theirs: Option<Reply>,
    order: &Order,
) -> Difference {
    let show =
        |reply: Option<&Reply>| reply.map_or_else(|| "the connection was closed".to_owned(), show);
    let at = steps.len() - 1;
    let (mut step, mut ours_shown, mut redis) =
        (&steps[at], show(ours.as_ref()), show(theirs.as_ref()));
    if let (Order::Each(orders), Some(ours), Some(theirs)) = (order, &ours, &theirs) {
        let replies = ours.elements().iter().zip(theirs.elements()).zip(orders);
        let mut replies = replies.zip(queued(steps, said));
        let found = replies.find(|(((one, other), order), _)| !same_answer(one, other, order));
        if let Some((((one, other), _), command)) = found {
            (step, ours_shown, redis) = (command, show(Some(one)), show(Some(other)));
        }
    }
    let line = step.to_string();
    let command = line.split_once(": ").map_or(line.as_str(), |(_, rest)| rest).to_owned();
    Difference { at, command, ours: ours_shown, redis }
}

/// The commands that the last of these steps, an EXEC, carries out.
fn queued<'s>(steps: &'s [Step], said: &'s [Option<Reply>]) -> impl Iterator<Item = &'s Step> {
    let connection = |step: &Step| match step {
        Step::Ask(connection, _) => *connection,
        Step::Expire(_) => 'c',
    };
    let ours = steps.last().map(connection);
    let of_it = steps.iter().zip(said).filter(move |(step, _)| Some(connection(step)) == ours);
    let of_it: Vec<_> = of_it.collect();
    let is = |reply: &Option<Reply>, text: &[u8]| matches!(reply, Some(Reply::Simple(reply)) if reply == text);
    let is_multi =
        |(step, reply): &(&Step, &Option<Reply>)| step.name() == "multi" && is(reply, b"OK");
    let from = of_it.iter().rposition(is_multi).unwrap_or(0);
    let queued = of_it.into_iter().skip(from).filter(move |(_, reply)| is(reply, b"QUEUED"));
    queued.map(|(step, _)| step)
}

impl<'a> Side<'a> {
    /// An empty database and no connections.
    fn fresh(server: &'a Server, is_resp3: bool) -> Result<Self> {
        let mut side = Self { server, is_resp3, connections: BTreeMap::new() };
        side.connection('z')?.call(&["FLUSHALL"])?;
        Ok(side)
    }

    fn connection(&mut self, name: char) -> Result<&mut Connection> {
        if !self.connections.contains_key(&name) {
            let mut connection = self.server.connect()?;
            if self.is_resp3 {
                connection.call(&["HELLO", "3"])?;
            }
            self.connections.insert(name, connection);
        }
        self.connections.get_mut(&name).context("find a connection")
    }

    /// The reply; `None` if the connection was closed instead.
    fn step(&mut self, step: &Step) -> Result<Option<Reply>> {
        let key = match step {
            Step::Ask(name, words) => return self.connection(*name)?.ask(words),
            Step::Expire(key) => key.as_slice(),
        };
        let connection = self.connection('c')?;
        connection.call(&[b"PEXPIRE", key, b"1"])?;
        wait::until("the end of a key", EXPIRY_PATIENCE, || {
            match connection.call(&[b"EXISTS", key]) {
                Ok(reply) if reply == Reply::Integer(0) => Ok(reply),
                other => Err(other),
            }
        })
        .map(Some)
    }
}
