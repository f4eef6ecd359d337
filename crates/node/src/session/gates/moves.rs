//! The gates for slots that move to another shard.

use std::cell::Cell;
use std::sync::Arc;

use ::replication::slots::{Mark, MoveId, State};
use storage::Store;
use storage::slots::Marks;
use topology::{Route, RouteRequest, Slot, key_slot};

use super::{Caller, Check, Engine, Refusal, error};
use crate::clients::{Pause, PauseKind};
use crate::clock;
use crate::command::{Error, Flags};
use crate::moves::state::{self, Barred};
use crate::node::Node;

/// A slot that was opened here under a topology that this node does not have yet.
pub(super) fn is_opened_by(caller: &Caller<'_>, slot: u16) -> bool {
    let (Some(store), Some(cluster)) = (&caller.engine.store, caller.cluster) else { return false };
    caller.engine.role.is_master() && state::is_opened(store, slot, cluster.version())
}

/// One of so many commands is counted, with this weight.
const COUNTED_AS: u32 = 64;

thread_local! {
    /// Numbers that follow each other by no rule that a pipeline could have.
    static CHANCE: Cell<u32> = const { Cell::new(1) };
}

/// Counts the load of slots, by a sample of the commands that may run.
pub(super) fn counted(check: &Check<'_>) -> Result<(), Refusal> {
    let chance = CHANCE.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    CHANCE.set(chance);
    if chance < u32::MAX / COUNTED_AS
        && let Some(key) = check.command.keys_in(check.words).next()
    {
        check.node.moves.loads.add(key_slot(key).number(), COUNTED_AS);
    }
    Ok(())
}

/// Commands for slots that are handed over wait and are not refused; EXEC waits as a whole. A
/// command that names no key and writes to all of them waits, too.
pub(super) fn moves(check: &Check<'_>) -> Result<(), Refusal> {
    let (command, node) = (check.command, check.node);
    batch(check)?;
    let (Some(store), Some(_)) = (&check.engine.store, check.cluster) else { return Ok(()) };
    let is_holding = node.moves.is_holding();
    if !is_holding && store.marks().is_none() {
        return Ok(());
    }
    let mut slots = command.keys_in(check.words).map(|key| key_slot(key).number()).peekable();
    let writes_all = command.is_write() && !command.flags.has(Flags::MAY_REPLICATE);
    if slots.peek().is_none() && writes_all && is_holding {
        return Err(hold());
    }
    slots.try_for_each(|slot| may_run(node, store, slot, command.is_write()))
}

/// APPLYBATCH names no key: the slots of its records are looked up here, as those of a command that
/// writes them. If another connection has taken over the import, the command is refused.
fn batch(check: &Check<'_>) -> Result<(), Refusal> {
    let (Some(cluster), Some(store)) = (check.cluster, &check.engine.store) else { return Ok(()) };
    let Some(raw) = check.words.get(1).filter(|_| check.command.name == "applybatch") else {
        return Ok(());
    };
    if check.session.importing.is_some() && !check.session.imports() {
        return error("ERR the slots that this connection brought are not taken from it any more");
    }
    // What is no batch is refused by the command itself.
    let slots = storage::slots::named(raw).unwrap_or_default();
    let mut slots = slots.into_iter().filter_map(Slot::new);
    slots.try_for_each(|slot| match cluster.route([slot], check.route_request(true)) {
        Route::Run => may_run(check.node, store, slot.number(), true),
        Route::Moved { slot, .. } if check.node.moves.is_held(slot.number()) => Err(hold()),
        Route::Moved { slot, .. } if is_opened_by(check, slot.number()) => Ok(()),
        other => error(other.to_string()),
    })
}

/// Whether a command for a slot that is served here by the topology may run, as far as moves go.
pub(super) fn may_run(
    node: &Node,
    store: &Store,
    slot: u16,
    is_write: bool,
) -> Result<(), Refusal> {
    match node.moves.may_run(store, slot, is_write) {
        Ok(()) => Ok(()),
        Err(Barred::Wait) => Err(hold()),
        Err(Barred::NotHere(id)) => error(not_here(id)),
    }
}

fn not_here(id: MoveId) -> String {
    format!("CLUSTERDOWN Hash slot not served: by move {id} its data is not on this node")
}

/// Where a write of a slot belongs, for a handler that writes on its own: decided by the topology
/// and by what the data says of moving slots, as for a command. [`Route::TryAgain`]: it will be
/// known soon. To be asked with the write gate held.
///
/// # Errors
/// The topology gives the slot to this node, and by a move its data is elsewhere.
pub fn route_write(node: &Node, engine: &Engine, slot: Slot) -> Result<Route, Error> {
    let cluster = node.cluster.load();
    let request = RouteRequest { is_write: true, ..RouteRequest::default() };
    let (route, number) = (cluster.route([slot], request), slot.number());
    let Some(store) = &engine.store else { return Ok(route) };
    let is_opened =
        || engine.role.is_master() && state::is_opened(store, number, cluster.version());
    match route {
        Route::Run => match node.moves.may_run(store, number, true) {
            Ok(()) => Ok(Route::Run),
            Err(Barred::Wait) => Ok(Route::TryAgain),
            Err(Barred::NotHere(id)) => Err(Error::text(not_here(id))),
        },
        Route::Moved { .. } if node.moves.is_held(number) => Ok(Route::TryAgain),
        Route::Moved { .. } if is_opened() => Ok(Route::Run),
        other => Ok(other),
    }
}

/// What a read is told whose slot came back meanwhile.
const WAS_AWAY: &str = "TRYAGAIN the slot was given away while its data was read";

/// The marks when something began to read that does not hold the write gate to its end: what is
/// given away is deleted behind it, and what it has found by then is no answer.
#[derive(Debug)]
pub struct Seen(Option<Arc<Marks>>);

impl Seen {
    /// As they are.
    pub fn now(store: &Store) -> Self {
        Self(store.marks())
    }

    /// Whether the data of these slots was here all the time. To be asked behind the last read.
    ///
    /// # Errors
    /// Where to ask instead.
    pub fn are_still_here(
        &self,
        node: &Node,
        store: &Store,
        slots: impl Iterator<Item = Slot>,
        request: RouteRequest,
    ) -> Result<(), Error> {
        let (now, cluster) = (store.marks(), node.cluster.load());
        for slot in slots {
            let number = slot.number();
            let before = newest(self.0.as_deref(), number);
            let after = newest(now.as_deref(), number);
            // A later mark that says as the one before: it was away, and came back.
            let is_same = before.map(|mark| mark.id) == after.map(|mark| mark.id);
            let has_stayed = is_same && is_here(before) && is_here(after);
            let is_opened = || state::is_opened(store, number, cluster.version());
            match cluster.route([slot], request) {
                Route::Run if has_stayed => {}
                Route::Moved { .. } if has_stayed && is_opened() => {}
                moved @ Route::Moved { .. } => return Err(Error::text(moved.to_string())),
                _ => return Err(Error::text(WAS_AWAY)),
            }
        }
        Ok(())
    }
}

fn newest(marks: Option<&Marks>, slot: u16) -> Option<&Mark> {
    marks?.newest(slot)
}

fn is_here(mark: Option<&Mark>) -> bool {
    mark.is_none_or(|mark| mark.state == State::Held)
}

/// Slots that Kvrocks' own migration hands over take no writes meanwhile. A command that names
/// their keys is refused where slots are looked up; one that writes to all keys without naming them
/// is refused here.
pub(super) fn frozen(check: &Check<'_>) -> Result<(), Refusal> {
    match check.command.flags.has(Flags::ALL_KEYS) {
        true => all_may_change(check),
        false => Ok(()),
    }
}

/// Whether every key of this node may be changed now. What another master's migration brings is of
/// other slots.
pub fn all_may_change(caller: &Caller<'_>) -> Result<(), Refusal> {
    let is_frozen = caller.cluster.is_some() && caller.node.migration.frozen().is_some();
    match is_frozen && !caller.session.imports() {
        true => error(Route::TryAgain.to_string()),
        false => Ok(()),
    }
}

/// How long a command for slots that are handed over waits before it is tried again.
const HOLD_NS: u64 = 2_000_000;

/// To be tried again.
pub(super) fn hold() -> Refusal {
    let until_ns = clock::boottime_ns() + HOLD_NS;
    Refusal::Wait(Pause { kind: PauseKind::Write, until_ns })
}
