//! `tests/compat/*.probe`: commands without recorded replies, asked of two servers whose answers
//! must be alike.
//!
//! What Redis does in odd cases is not written down here a second time: a redis-server is there to
//! be asked. A declared difference that does not show is a failure too.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::compare::same_answer;
use super::order::{Order, Orders};
use super::parse::mark;
use crate::process::Server;
use crate::wait;
use crate::wire::{Connection, Reply};

const PATIENCE: Duration = Duration::from_secs(30);

/// One line of a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Probe {
    line: usize,
    connection: String,
    words: Vec<Vec<u8>>,
    /// The order that it is marked with.
    order: Order,
    /// Only the type of the reply is compared.
    is_loose: bool,
    /// Why the answers differ, where they are to.
    differs: Option<String>,
    /// Asked again and again until the answer is this number.
    until: Option<i64>,
}

/// Where it is, and its words.
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words.iter().map(|word| word.escape_ascii().to_string());
        write!(f, "line {} > {}", self.line, words.collect::<Vec<_>>().join(" "))
    }
}

/// What asking showed.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Answers compared.
    pub compared: usize,
    /// Of those, declared differences.
    pub declared: usize,
    /// One paragraph for each answer that is not as it should be.
    pub wrong: String,
}

/// Asks both servers all of a file in one version of RESP. A line that either of them leaves
/// without an answer is an error.
pub fn ask(text: &str, is_resp3: bool, ours: &Server, theirs: &Server) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for block in parse(text)? {
        let (mut ours, mut theirs) = (Side::fresh(ours, is_resp3)?, Side::fresh(theirs, is_resp3)?);
        let mut orders: BTreeMap<&str, Orders> = BTreeMap::new();
        for probe in &block {
            let one = ours.ask(probe).with_context(|| format!("ours, {probe}"))?;
            let other = theirs.ask(probe).with_context(|| format!("redis, {probe}"))?;
            let orders = orders.entry(&probe.connection).or_default();
            let order = orders.of(&probe.words, &probe.order, other.as_ref());
            outcome.compared += 1;
            let is_alike = match (&one, &other) {
                (Some(one), Some(other)) if probe.is_loose => kind(one) == kind(other),
                (Some(one), Some(other)) => same_answer(one, other, &order),
                (one, other) => one == other,
            };
            outcome.declared += usize::from(probe.differs.is_some());
            if is_alike == probe.differs.is_some() {
                // Writing to a String cannot fail.
                let _ = writeln!(outcome.wrong, "{probe}\n    ours  {one:?}\n    redis {other:?}");
            }
        }
    }
    Ok(outcome)
}

fn parse(text: &str) -> Result<Vec<Vec<Probe>>> {
    let (mut blocks, mut differs, mut order) = (vec![Vec::new()], None, Order::Exact);
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        if line.is_empty() {
            blocks.push(Vec::new());
            continue;
        }
        if let Some(comment) = line.strip_prefix('#') {
            order = comment.strip_prefix(' ').and_then(mark).unwrap_or(order);
            continue;
        }
        if let Some(reason) = line.strip_prefix("! ") {
            differs = Some(reason.to_owned());
            continue;
        }
        let probe = probe(line).with_context(|| format!("line {line_number}: {line}"))?;
        let (differs, order) = (differs.take(), std::mem::take(&mut order));
        let probe = Probe { line: line_number, differs, order, ..probe };
        blocks.last_mut().context("a block")?.push(probe);
    }
    blocks.retain(|block| !block.is_empty());
    Ok(blocks)
}

/// One line, without what the lines above it say.
fn probe(line: &str) -> Result<Probe> {
    let (is_loose, rest) = match line.strip_prefix("~ ") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (until, rest) = match rest.strip_prefix("until ") {
        Some(rest) => {
            let (number, rest) = rest.split_once(' ').context("`until` without a command")?;
            (Some(number.parse().context("`until` without a number")?), rest)
        }
        None => (None, rest),
    };
    let (connection, rest) = match rest.split_once(": ") {
        Some((name, rest)) if name.len() == 1 => (name, rest),
        _ if until.is_some() => ("until", rest),
        _ => ("main", rest),
    };
    let words = resp::request::split_words(rest.as_bytes()).context("open quotes")?;
    ensure!(!words.is_empty(), "no command");
    Ok(Probe { connection: connection.to_owned(), words, is_loose, until, ..Probe::default() })
}

struct Side<'a> {
    server: &'a Server,
    is_resp3: bool,
    connections: BTreeMap<String, Connection>,
}

impl<'a> Side<'a> {
    /// An empty database and no connections.
    fn fresh(server: &'a Server, is_resp3: bool) -> Result<Self> {
        server.connect()?.call(&["FLUSHALL"])?;
        Ok(Self { server, is_resp3, connections: BTreeMap::new() })
    }

    /// The answer; `None` if the connection was closed instead.
    fn ask(&mut self, probe: &Probe) -> Result<Option<Reply>> {
        if !self.connections.contains_key(&probe.connection) {
            let mut connection = self.server.connect()?;
            if self.is_resp3 {
                connection.call(&["HELLO", "3"])?;
            }
            self.connections.insert(probe.connection.clone(), connection);
        }
        let connection = self.connections.get_mut(&probe.connection).context("a connection")?;
        let Some(number) = probe.until else { return connection.ask(&probe.words) };
        let wanted = Reply::Integer(number);
        wait::until("the wanted number", PATIENCE, || match connection.call(&probe.words) {
            Ok(reply) if reply == wanted => Ok(reply),
            other => Err(other),
        })
        .map(Some)
    }
}

/// The type of a reply; texts of both forms are one.
fn kind(reply: &Reply) -> String {
    match reply {
        Reply::Many(shape, _) => shape.sign().to_string(),
        other => format!("{other:?}").split('(').next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_line_is_understood() {
        let text = "# why\n\n! reason\nSET k \"a \\x00\"\n~ b: TTL k\n\n\
                    # unordered pairs\nuntil 0 EXISTS k\nGET k\n";
        let blocks = parse(text).unwrap();
        let [first, second] = blocks.as_slice() else { panic!("{blocks:?}") };
        assert_eq!(first[0].differs.as_deref(), Some("reason"));
        assert_eq!(first[0].words[2], b"a \0");
        assert!(first[1].is_loose && first[1].connection == "b" && first[1].differs.is_none());
        assert_eq!((second[0].until, second[0].words.len()), (Some(0), 2));
        assert_eq!((&second[0].order, &second[1].order), (&Order::Pairs, &Order::Exact));
        assert!(parse("GET \"k").is_err());
    }
}
