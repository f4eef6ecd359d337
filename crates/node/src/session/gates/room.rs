//! The gates for room on the disk and in memory.
//!
//! They only check: room is made elsewhere.

use std::sync::atomic::Ordering;

use super::{Check, Refusal, error};
use crate::clients::{Pause, PauseKind};
use crate::clock;
use crate::command::{Flags, Row};
use crate::memory::held::Level;
use crate::node::Node;
use crate::session::{Auth, Session};

/// Redis' text.
const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";
/// How long a command waits at most before it looks again whether there is memory.
const LOOK_NS: u64 = 30_000_000;

/// A database above `max-db-size` does not grow.
pub(super) fn database_size(check: &Check<'_>) -> Result<(), Refusal> {
    if check.command.may_grow() && check.node.has_reached_its_size(check.config) {
        return error("ERR write command not allowed when reached max-db-size.");
    }
    Ok(())
}

/// Above `maxmemory` nothing is written. If connections use all of their part, two kinds of command
/// wait: those of a connection that uses more than its share, and those that may take any amount.
pub(super) fn memory(check: &Check<'_>) -> Result<(), Refusal> {
    if !concerns(check) {
        return Ok(());
    }
    memory_to_write(check)?;
    if waits_for_memory(check.node, check.session, check.command) { Err(wait()) } else { Ok(()) }
}

/// Above `maxmemory` nothing is written. Nothing waits here: a script would wait with its keys
/// locked.
pub(super) fn memory_to_write(check: &Check<'_>) -> Result<(), Refusal> {
    if concerns(check) && check.node.memory.is_over() && check.command.may_grow() {
        return refused(check);
    }
    Ok(())
}

/// Whether a command waits until connections hold less: where they hold all of their part.
pub fn waits_for_memory(node: &Node, session: &Session, command: &Row) -> bool {
    if node.memory.level() < Level::Full || !is_bound_in_memory(session) {
        return false;
    }
    let takes_any = command.flags.has(Flags::RUNS_QUEUE) || command.flags.has(Flags::SCRIPT);
    takes_any || command.is_data() && takes_much(node, session)
}

/// As Redis: above `maxmemory` nothing is queued either, be it a read.
pub(super) fn memory_to_queue(check: &Check<'_>) -> Result<(), Refusal> {
    if !concerns(check) {
        return Ok(());
    }
    let memory = &check.node.memory;
    if memory.is_over() {
        return refused(check);
    }
    if memory.level() == Level::Full && takes_much(check.node, check.session) {
        return Err(wait());
    }
    Ok(())
}

/// Whether the gate concerns a command: memory is bounded, and the session is a client's. Peers and
/// replicas go on.
fn concerns(check: &Check<'_>) -> bool {
    check.node.memory.is_bounded() && is_bound_in_memory(check.session)
}

/// Whether a session's memory is bounded if the node's is: a client's, not a peer's.
pub fn is_bound_in_memory(session: &Session) -> bool {
    session.auth != Auth::Peer && session.client.is_bound_in_memory()
}

fn takes_much(node: &Node, session: &Session) -> bool {
    let (memory, client) = (&node.memory, &session.client);
    let holds_much = client.charged.load(Ordering::Relaxed) > memory.share();
    client.asks_much.load(Ordering::Relaxed) || holds_much && !memory.is_first(client.id)
}

fn refused(check: &Check<'_>) -> Result<(), Refusal> {
    check.node.memory.refused.fetch_add(1, Ordering::Relaxed);
    error(OOM)
}

fn wait() -> Refusal {
    Refusal::Wait(until_there_is_room())
}

/// Until the slowest readers have read, or are closed.
pub fn until_there_is_room() -> Pause {
    Pause { kind: PauseKind::Write, until_ns: clock::boottime_ns() + LOOK_NS }
}
