//! Plays a file against a server and lists what differs.
//!
//! A command that is not implemented yet is left out, and the replies of every later one in its block that uses one of
//! its words (its keys among them) or looks at the whole key space are not compared, because they depend on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::compare::{Variables, matches, same_answer};
use super::exceptions::Exceptions;
use super::parse::{Block, Expected, File, Step};
use crate::process::Server;
use crate::wait;
use crate::wire::{Connection, Reply};

/// The recorder let this much time pass after a command that blocks.
const BLOCKING: Duration = Duration::from_millis(150);
/// Replies of these depend on every key there is.
const KEY_SPACE: [&str; 6] = ["keys", "scan", "dbsize", "randomkey", "info", "exec"];

/// One reply that is not the recorded one.
#[derive(Debug)]
pub struct Difference {
    /// Line in the file.
    pub line: usize,
    /// The command.
    pub command: String,
    /// What was recorded.
    pub recorded: String,
    /// What came.
    pub actual: String,
    /// Whether redis-server answers the same (errors by code); none if it was not asked.
    pub is_redis: Option<bool>,
}

/// What playing a file showed.
#[derive(Debug, Default)]
pub struct Report {
    /// Commands whose replies were compared.
    pub compared: usize,
    /// Commands skipped because they, or something before them, are not implemented yet.
    pub skipped: usize,
    /// Differences that agree with redis-server.
    pub like_redis: Vec<Difference>,
    /// Differences that are declared.
    pub declared: usize,
    /// Differences that are neither.
    pub wrong: Vec<Difference>,
}

impl Report {
    /// One line for each difference, and a sum.
    pub fn render(&self, file: &str) -> String {
        let mut text = String::new();
        let rows = self.like_redis.iter().map(|d| ("redis", d));
        for (verdict, difference) in rows.chain(self.wrong.iter().map(|d| ("WRONG", d))) {
            let Difference { line, command, recorded, actual, .. } = difference;
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{verdict} {file}:{line} > {command}\n    recorded {recorded}\n    actual   {actual}"
            );
        }
        let _ = writeln!(
            text,
            "{file}: {} compared, {} like redis, {} declared, {} wrong; {} skipped",
            self.compared,
            self.like_redis.len(),
            self.declared,
            self.wrong.len(),
            self.skipped
        );
        text
    }
}

/// One server with the connections of a block.
struct Side<'a> {
    server: &'a Server,
    is_resp3: bool,
    connections: BTreeMap<String, Connection>,
    variables: Variables,
}

/// Plays all blocks; `redis` settles differences where it can.
pub fn play(
    file: &File,
    server: &Server,
    redis: Option<&Server>,
    exceptions: &Exceptions,
) -> Result<Report> {
    let mut report = Report::default();
    for block in &file.blocks {
        let line = block.steps.first().map_or(0, |step| step.line);
        play_block(file, block, server, redis, exceptions, &mut report)
            .with_context(|| format!("{}: block at line {line}", file.name))?;
    }
    Ok(report)
}

fn play_block(
    file: &File,
    block: &Block,
    server: &Server,
    redis: Option<&Server>,
    exceptions: &Exceptions,
    report: &mut Report,
) -> Result<()> {
    let mut ours = Side::fresh(server, file)?;
    // A redis-server that cannot follow a block (Kvrocks' own commands) is asked no more in it.
    let mut theirs = redis.map(|redis| Side::fresh(redis, file)).transpose()?;
    let mut taint = BTreeSet::new();
    for step in &block.steps {
        let course = course(step, exceptions, &mut taint);
        if course == Course::LeaveOut {
            report.skipped += 1;
            continue;
        }
        let actual =
            ours.step(step).with_context(|| format!("line {}: {}", step.line, step.text))?;
        let reference = theirs.as_mut().map(|side| side.step(step));
        if let Some(Err(_)) = reference {
            theirs = None;
        }
        if course == Course::SendOnly {
            report.skipped += 1;
            continue;
        }
        report.compared += 1;
        if let Some(mut difference) = ours.compare(step, &actual) {
            let reference = reference.and_then(Result::ok);
            difference.is_redis = reference.map(|theirs| {
                actual.len() == theirs.len()
                    && actual.iter().zip(&theirs).all(|(ours, theirs)| same_answer(ours, theirs))
            });
            if exceptions.allow(&file.name, &step.text) {
                report.declared += 1;
            } else if difference.is_redis == Some(true) {
                report.like_redis.push(difference);
            } else {
                report.wrong.push(difference);
            }
        }
        ours.remember(step, &actual);
    }
    if file.is_cluster {
        // Whatever it answers: the next block begins with it too.
        let _ = ours.connection("main")?.call(&["CLUSTER", "RESET"]);
    }
    Ok(())
}

/// What to do with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// Send it and compare the reply.
    Compare,
    /// Send it; its reply depends on a command that was left out.
    SendOnly,
    /// Leave it out.
    LeaveOut,
}

fn course(step: &Step, exceptions: &Exceptions, taint: &mut BTreeSet<Vec<u8>>) -> Course {
    let none = Variables::new();
    let mut words = step.arguments.iter().map(|argument| argument.fill(&none));
    let Some(name) = words.next() else {
        return if taint.is_empty() { Course::Compare } else { Course::LeaveOut };
    };
    let name = String::from_utf8_lossy(&name).to_lowercase();
    let mut words = words.peekable();
    let subcommand = words.peek().map(|word| String::from_utf8_lossy(word).to_lowercase());
    if subcommand
        .as_ref()
        .is_some_and(|word| exceptions.not_yet.contains(&format!("{name}+{word}")))
    {
        return Course::LeaveOut;
    }
    let words: BTreeSet<Vec<u8>> = words.collect();
    let is_not_yet = exceptions.not_yet.contains(&name);
    let depends =
        !words.is_disjoint(taint) || (!taint.is_empty() && KEY_SPACE.contains(&name.as_str()));
    if !is_not_yet && !depends {
        return Course::Compare;
    }
    taint.extend(words);
    // Something is tainted even by a command without arguments.
    taint.insert(name.into_bytes());
    if is_not_yet { Course::LeaveOut } else { Course::SendOnly }
}

impl<'a> Side<'a> {
    fn fresh(server: &'a Server, file: &File) -> Result<Self> {
        let port = server.address.port();
        let variables = Variables::from([
            ("port".to_owned(), port.to_string().into_bytes()),
            ("busport".to_owned(), (u32::from(port) + 10_000).to_string().into_bytes()),
        ]);
        let connections = BTreeMap::new();
        let mut side = Self { server, is_resp3: file.is_resp3, connections, variables };
        let mut admin = server.connect()?;
        if file.is_cluster {
            // Without keys first: CLUSTER RESET refuses a master that has some.
            admin.call(&["FLUSHALL"])?;
            admin.call(&["CLUSTER", "RESET"])?;
        }
        admin.call(&["FLUSHALL"])?;
        side.connection("main")?;
        Ok(side)
    }

    fn connection(&mut self, name: &str) -> Result<&mut Connection> {
        if !self.connections.contains_key(name) {
            let mut connection = self.server.connect()?;
            if self.is_resp3 {
                connection.call(&["HELLO", "3"])?;
            }
            self.connections.insert(name.to_owned(), connection);
        }
        self.connections.get_mut(name).context("find a connection")
    }

    fn step(&mut self, step: &Step) -> Result<Vec<Reply>> {
        let arguments: Vec<Vec<u8>> =
            step.arguments.iter().map(|argument| argument.fill(&self.variables)).collect();
        let connection = self.connection(&step.connection)?;
        if !arguments.is_empty() {
            connection.send(&arguments)?;
            if step.replies.is_empty() {
                wait::pause(BLOCKING);
            }
        }
        let mut replies = Vec::new();
        for _ in &step.replies {
            replies.push(connection.receive()?);
            // An error stands alone, whatever was recorded.
            if matches!(replies.last(), Some(Reply::Error(_))) {
                break;
            }
        }
        Ok(replies)
    }

    fn compare(&self, step: &Step, actual: &[Reply]) -> Option<Difference> {
        let same =
            step.replies.len() == actual.len()
                && step.replies.iter().zip(actual).all(|(expected, actual)| {
                    matches(expected, actual, step.order, &self.variables)
                });
        let conf = self.compare_nodes_conf(step);
        if same && conf.is_none() {
            return None;
        }
        let (recorded, actual) = conf.filter(|_| same).unwrap_or_else(|| {
            let recorded: Vec<String> =
                step.replies.iter().map(|reply| show_expected(reply, &self.variables)).collect();
            let actual: Vec<String> = actual.iter().map(show).collect();
            (recorded.join(" "), actual.join(" "))
        });
        let command = step.text.clone();
        Some(Difference { line: step.line, command, recorded, actual, is_redis: None })
    }

    /// Recorded and actual lines of nodes.conf, if they differ.
    fn compare_nodes_conf(&self, step: &Step) -> Option<(String, String)> {
        if step.nodes_conf.is_empty() {
            return None;
        }
        let text = std::fs::read_to_string(self.server.dir.join("nodes.conf"))
            .unwrap_or_else(|_| "(none)".to_owned());
        let mut left: Vec<&str> =
            text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let found = step.nodes_conf.iter().all(|pattern| {
            let at = left.iter().position(|line| pattern.matches(line.as_bytes(), &self.variables));
            at.map(|index| left.swap_remove(index)).is_some()
        });
        if found && left.is_empty() {
            return None;
        }
        let recorded = step
            .nodes_conf
            .iter()
            .map(|pattern| String::from_utf8_lossy(&pattern.fill(&self.variables)).into_owned());
        Some((format!("nodes.conf {:?}", recorded.collect::<Vec<_>>()), format!("{text:?}")))
    }

    fn remember(&mut self, step: &Step, actual: &[Reply]) {
        let Some((name, path)) = &step.save else { return };
        let mut element = actual.first();
        for index in path {
            element = element.and_then(|reply| reply.elements().get(*index));
        }
        if let Some(element) = element {
            self.variables.insert(name.clone(), element.text().into_bytes());
        }
    }
}

fn show(reply: &Reply) -> String {
    match reply {
        Reply::Many(shape, elements) => {
            let elements: Vec<String> = elements.iter().map(show).collect();
            format!("{}[{}]", shape.sign(), elements.join(" "))
        }
        Reply::Error(_) => format!("-{}", reply.text()),
        Reply::Simple(_) => format!("+{}", reply.text()),
        Reply::Bulk(_) => format!("{:?}", reply.text()),
        other => format!("{other:?}"),
    }
}

fn show_expected(reply: &Expected, variables: &Variables) -> String {
    match reply {
        Expected::Many(shape, elements) => {
            let elements: Vec<String> =
                elements.iter().map(|element| show_expected(element, variables)).collect();
            format!("{}[{}]", shape.sign(), elements.join(" "))
        }
        Expected::AnyOf(kind) => format!("any {kind}"),
        Expected::Line(sign, pattern) => {
            let text = String::from_utf8_lossy(&pattern.fill(variables)).into_owned();
            match sign {
                '$' => format!("{text:?}"),
                'n' => text,
                sign => format!("{sign}{text}"),
            }
        }
    }
}
