//! The turn of a worker: all commands that its connections have sent are run together, under one
//! hold of the write gate, become one batch of the log, and are published by one system call. Redis
//! does the same in a turn of its loop.
//!
//! A connection that wrote lately lines up and lets the others of its worker do so; the one that
//! came first runs what all of them sent. Nothing is held while a connection waits in line: no
//! lock, no gate, no command that has run. A connection that only reads runs its commands at once,
//! and so does one that was alone in line lately.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Instant;

use resp::Parser;
use tokio::sync::oneshot;

use super::{Connection, End, Leave, Stop};
use crate::clock;
use crate::node::Node;
use crate::session::Session;
use crate::session::dispatch::{Batch, Ran};
use crate::stats::latency::Begun;

/// After a turn of one connection, so many do without lining up.
const ALONE: u8 = 15;
/// Connections of one turn. The first of them is answered when the last has run.
const MEMBERS_MAX: usize = 64;

/// A connection and its session, which go where their commands run.
pub(super) struct Served {
    pub(super) connection: Connection,
    pub(super) session: Session,
    pub(super) parser: Parser,
    /// The commands that ran last wrote something.
    writes: bool,
}

/// The commands of one read buffer have run.
pub(super) struct Done {
    pub(super) stop: Stop,
    pub(super) ran: Ran,
    pub(super) begun: Begun,
}

/// What comes back from a turn.
enum Back {
    Ran(Box<Served>, Done),
    /// A command of this connection panicked.
    Panicked(Box<dyn Any + Send>),
}

/// A connection in line.
struct Waiting {
    served: Box<Served>,
    since: Instant,
    back: oneshot::Sender<Back>,
}

#[derive(Default)]
struct Line {
    waiting: Vec<Waiting>,
    alone: u8,
}

thread_local! {
    /// The line of this worker.
    static LINE: RefCell<Line> = RefCell::default();
}

impl Served {
    pub(super) fn new(connection: Connection, session: Session) -> Box<Self> {
        Box::new(Self { connection, session, parser: Parser::new(), writes: false })
    }

    /// Runs what is complete in the buffer, in a batch that others may share.
    fn run(&mut self, batch: &mut Batch<'_>, since: Instant) -> (Stop, Begun) {
        let Self { connection, session, parser, .. } = self;
        let ran = connection.run_buffered(session, parser, batch, since);
        parser.forget();
        connection.parsed = parser.held();
        ran
    }
}

/// Serves a connection until it ends, or is to leave the worker; `None` if the worker ends.
pub(super) async fn serve(mut served: Box<Served>) -> Option<(Result<Leave, End>, Box<Served>)> {
    served.connection.look_for_mark();
    loop {
        let Served { connection, session, .. } = &mut *served;
        if !connection.recognize(session) {
            // Boxed: nearly no connection needs the room for it.
            let end = Box::pin(connection.refuse_clear(session)).await;
            return Some((Err(end), served));
        }
        connection.forget_served();
        let (back, done) = run(served).await?;
        served = back;
        let Served { connection, session, parser, .. } = &mut *served;
        match connection.answer(session, parser, done).await {
            Ok(None) => {}
            Ok(Some(leave)) => return Some((Ok(leave), served)),
            Err(end) => return Some((Err(end), served)),
        }
    }
}

async fn run(served: Box<Served>) -> Option<(Box<Served>, Done)> {
    let since = Instant::now();
    let lines_up = served.writes
        && LINE.with_borrow_mut(|line| {
            let is_alone = line.alone > 0;
            line.alone = line.alone.saturating_sub(1);
            !is_alone
        });
    if !lines_up {
        return Some(run_alone(served, since));
    }
    let (back, answer) = oneshot::channel();
    let is_first = LINE.with_borrow_mut(|line| {
        line.waiting.push(Waiting { served, since, back });
        line.waiting.len() == 1
    });
    if is_first {
        tokio::task::yield_now().await;
        take_turn();
    }
    match answer.await.ok()? {
        Back::Ran(served, done) => Some((served, done)),
        Back::Panicked(cause) => resume_unwind(cause),
    }
}

fn run_alone(mut served: Box<Served>, since: Instant) -> (Box<Served>, Done) {
    let node = Arc::clone(&served.connection.node);
    let mut batch = begin(&node, served.connection.worker);
    let (stop, begun) = served.run(&mut batch, since);
    let ran = batch.close(&served.session, &mut served.connection.out);
    served.writes = ran.has_written;
    (served, Done { stop, ran, begun })
}

fn begin(node: &Arc<Node>, worker: usize) -> Batch<'_> {
    Batch::begin(node, node.config.now(), worker, clock::unix_ms())
}

/// Lets go of the connections in line: the worker ends, and will not run what they sent.
pub fn close_line() {
    let line = LINE.take();
    drop(line);
}

/// Runs what the connections in line sent.
fn take_turn() {
    let mut waiting = LINE.with_borrow_mut(|line| {
        line.alone = if line.waiting.len() == 1 { ALONE } else { 0 };
        std::mem::take(&mut line.waiting)
    });
    while !waiting.is_empty() {
        let rest = waiting.split_off(waiting.len().min(MEMBERS_MAX));
        let rest_of_these = run_together(waiting);
        waiting = rest_of_these;
        waiting.extend(rest);
    }
}

/// Runs some in one batch. Returns those behind one whose command panicked: they need another
/// batch.
fn run_together(waiting: Vec<Waiting>) -> Vec<Waiting> {
    let Some(first) = waiting.first() else { return Vec::new() };
    let node = Arc::clone(&first.served.connection.node);
    let mut batch = begin(&node, first.served.connection.worker);
    let mut have_run = Vec::with_capacity(waiting.len());
    let mut rest = waiting.into_iter();
    for mut next in rest.by_ref() {
        let (served, since) = (&mut next.served, next.since);
        match catch_unwind(AssertUnwindSafe(|| served.run(&mut batch, since))) {
            Ok((stop, begun)) => have_run.push((next, stop, batch.leave(), begun)),
            Err(cause) => {
                // It goes on in the connection's own task, as that of any other command.
                let _ = next.back.send(Back::Panicked(cause));
                break;
            }
        }
    }
    let ended = batch.end();
    for (member, (next, stop, ran, begun)) in have_run.into_iter().enumerate() {
        let Waiting { mut served, back, .. } = next;
        let Served { connection, session, .. } = &mut *served;
        let ran = ended.apply(member, ran, session, &mut connection.out);
        served.writes = ran.has_written;
        // Nobody is there any more only when the worker ends.
        let _ = back.send(Back::Ran(served, Done { stop, ran, begun }));
    }
    rest.collect()
}
