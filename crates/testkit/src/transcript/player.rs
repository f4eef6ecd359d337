//! Plays a file against a server and lists what differs.
//!
//! A command that is not implemented yet is left out, and the replies of every later one in its
//! block that uses one of its words (its keys among them) or looks at the whole key space are not
//! compared, because they depend on it. A connection that would have authenticated with something
//! that is not there is left out from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::compare::{Variables, matches, same_answer};
use super::exceptions::Exceptions;
use super::order::{Order, Orders};
use super::parse::{Block, Expected, File, Step};
use crate::process::Server;
use crate::wait;
use crate::wire::{Connection, Reply};

/// How long a command that blocks may take to do so.
const BLOCK_PATIENCE: Duration = Duration::from_secs(30);
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
    let mut taint = Taint::default();
    let mut orders: BTreeMap<&str, Orders> = BTreeMap::new();
    for step in &block.steps {
        let course = taint.course(step, exceptions);
        if course == Course::LeaveOut {
            report.skipped += 1;
            continue;
        }
        let actual =
            ours.step(step).with_context(|| format!("line {}: {}", step.line, step.text))?;
        let orders = orders.entry(&step.connection).or_default();
        let order = orders.of(&words(step), &step.order, actual.first());
        let reference = theirs.as_mut().filter(|_| !moves_away(step)).map(|side| side.step(step));
        if reference.as_ref().is_some_and(Result::is_err) {
            theirs = None;
        }
        if course == Course::SendOnly {
            report.skipped += 1;
            continue;
        }
        report.compared += 1;
        let difference = ours.compare(step, &order, &actual);
        if let Some(mut difference) = difference.filter(|_| !is_unknown_as_recorded(step, &actual))
        {
            let reference = reference.and_then(Result::ok);
            difference.is_redis = match reference {
                Some(theirs) => Some(is_like(step, &order, &actual, &theirs)),
                None => is_code_recorded(step, &actual).then_some(true),
            };
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

/// What of a block depends on commands that are not there.
#[derive(Default)]
struct Taint {
    /// Words of commands that were left out.
    words: BTreeSet<Vec<u8>>,
    /// Names of commands of which a subcommand was left out.
    names: BTreeSet<String>,
    /// Connections that did not become what they were to be.
    connections: BTreeSet<String>,
}

impl Taint {
    fn course(&mut self, step: &Step, exceptions: &Exceptions) -> Course {
        if self.connections.contains(&step.connection) {
            return Course::LeaveOut;
        }
        let mut words = words(step).into_iter();
        let Some(name) = words.next() else {
            return if self.words.is_empty() { Course::Compare } else { Course::LeaveOut };
        };
        let name = lower(&name);
        let mut words = words.peekable();
        let subcommand = words.peek().map(|word| format!("{name}+{}", lower(word)));
        if subcommand.is_some_and(|subcommand| exceptions.not_yet.contains(&subcommand)) {
            self.names.insert(name);
            return Course::LeaveOut;
        }
        let words: BTreeSet<Vec<u8>> = words.collect();
        let is_not_yet = exceptions.not_yet.contains(&name);
        let depends = !words.is_disjoint(&self.words)
            || self.names.contains(&name)
            || (!self.words.is_empty() && KEY_SPACE.contains(&name.as_str()));
        if !is_not_yet && !depends {
            return Course::Compare;
        }
        if depends && name == "auth" {
            self.connections.insert(step.connection.clone());
            return Course::LeaveOut;
        }
        self.words.extend(words);
        // Something is tainted even by a command without arguments.
        self.words.insert(name.into_bytes());
        if is_not_yet { Course::LeaveOut } else { Course::SendOnly }
    }
}

fn lower(word: &[u8]) -> String {
    String::from_utf8_lossy(word).to_lowercase()
}

/// A step's command, as it was written.
fn words(step: &Step) -> Vec<Vec<u8>> {
    step.arguments.iter().map(|argument| argument.fill(&Variables::new())).collect()
}

/// The name of a step's command in lower case.
fn name(step: &Step) -> String {
    lower(words(step).first().map_or(&[], Vec::as_slice))
}

/// Whether redis-server would do it and be gone from its port.
fn moves_away(step: &Step) -> bool {
    ["CONFIG SET port", "CONFIG SET bind"].iter().any(|start| step.text.starts_with(start))
}

/// Whether two servers answered a step alike.
fn is_like(step: &Step, order: &Order, ours: &[Reply], theirs: &[Reply]) -> bool {
    let is_hello = name(step) == "hello";
    let comparable = |reply: &Reply| if is_hello { without_id(reply) } else { reply.clone() };
    ours.len() == theirs.len()
        && ours
            .iter()
            .zip(theirs)
            .all(|(ours, theirs)| same_answer(&comparable(ours), &comparable(theirs), order))
}

/// HELLO's reply without the number of the connection, which no two servers share.
fn without_id(reply: &Reply) -> Reply {
    let Reply::Many(shape, elements) = reply else { return reply.clone() };
    let mut elements = elements.clone();
    if let Some(id) = elements.iter().position(|element| element.text() == "id")
        && let Some(number @ Reply::Integer(_)) = elements.get_mut(id + 1)
    {
        *number = Reply::Integer(0);
    }
    Reply::Many(*shape, elements)
}

/// Whether the command is unknown, as it was when recorded: each server has its own quotes for
/// that.
fn is_unknown_as_recorded(step: &Step, actual: &[Reply]) -> bool {
    const START: &[u8] = b"ERR unknown command ";
    let ([Expected::Line('-', recorded)], [Reply::Error(actual)]) =
        (step.replies.as_slice(), actual)
    else {
        return false;
    };
    recorded.fill(&Variables::new()).starts_with(START) && actual.starts_with(START)
}

/// Where no redis-server can be asked: whether a command that is not Kvrocks' own failed with the
/// recorded code.
fn is_code_recorded(step: &Step, actual: &[Reply]) -> bool {
    let ([Expected::Line('-', recorded)], [reply]) = (step.replies.as_slice(), actual) else {
        return false;
    };
    let recorded = recorded.fill(&Variables::new());
    let code = recorded.split(|byte| *byte == b' ').next().unwrap_or_default();
    !matches!(name(step).as_str(), "cluster" | "clusterx")
        && reply.error_code().is_some_and(|actual| actual.as_bytes() == code)
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
        if !arguments.is_empty() {
            // What has no answer yet waits. The recorder let time pass; here others see it wait.
            let before = if step.replies.is_empty() { Some(self.blocked()?) } else { None };
            self.connection(&step.connection)?.send(&arguments)?;
            if let Some(before) = before {
                wait::until("a command to block", BLOCK_PATIENCE, || {
                    let now = self.blocked()?;
                    ensure!(now > before, "{now} wait, as before");
                    Ok(())
                })?;
            }
        }
        let connection = self.connection(&step.connection)?;
        let mut replies = Vec::new();
        for _ in &step.replies {
            replies.push(connection.receive()?);
            // An error stands alone, whatever was recorded.
            if matches!(replies.last(), Some(Reply::Error(_))) {
                break;
            }
        }
        // Redis ends the connection whatever stands behind QUIT, Kvrocks only when nothing does:
        // the rest needs a new one.
        if name(step) == "quit" && matches!(replies.last(), Some(Reply::Simple(_))) {
            self.connections.remove(&step.connection);
        }
        Ok(replies)
    }

    /// How many connections wait in a command.
    fn blocked(&self) -> Result<u64> {
        let info = self.server.connect()?.call(&["INFO", "clients"])?.text();
        let count = info.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
        count.with_context(|| info.clone())?.trim().parse().context("read a number")
    }

    fn compare(&self, step: &Step, order: &Order, actual: &[Reply]) -> Option<Difference> {
        let same = step.replies.len() == actual.len()
            && step
                .replies
                .iter()
                .zip(actual)
                .all(|(expected, actual)| matches(expected, actual, order, &self.variables));
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

    /// Recorded and actual lines of nodes.conf, if they differ. Its reader takes any number of
    /// blanks and skips comments.
    fn compare_nodes_conf(&self, step: &Step) -> Option<(String, String)> {
        if step.nodes_conf.is_empty() {
            return None;
        }
        let text = std::fs::read_to_string(self.server.dir.join("nodes.conf"))
            .unwrap_or_else(|_| "(none)".to_owned());
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut left: Vec<String> = text
            .lines()
            .map(words)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect();
        let found = step.nodes_conf.iter().all(|pattern| {
            let recorded = words(&String::from_utf8_lossy(&pattern.fill(&self.variables)));
            let at = left.iter().position(|line| *line == recorded);
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

/// A reply in one line.
pub fn show(reply: &Reply) -> String {
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
