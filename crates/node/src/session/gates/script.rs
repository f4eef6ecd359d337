//! The gates for the commands of a script, and those asked again before its writes are appended.

use topology::{Route, Slot, key_slot};

use super::{
    Caller, Check, Gate, Refusal, admin, ask, cluster_mode, control, door, error, frozen, in_sync,
    is_opened_by, lease, may_run, memory_to_write, moves, pass_running, paused, read_only_replica,
    slot_owner, trusted_data,
};
use crate::acl::log::Context;

/// Passed before those of `RUNNING` by a command that a script calls, once its user may run it;
/// the script's own command has passed the others.
const CALLED: &[Gate] = &[admin, door, control, cluster_mode];

/// Passed again before a script's writes are appended: it did not hold the write gate.
const APPENDING: &[Gate] =
    &[slot_owner, moves, frozen, paused, trusted_data, read_only_replica, lease, in_sync];

/// Whether a script may call this command at all.
pub fn pass_in_script(check: &Check<'_>) -> Result<(), Refusal> {
    ask(check, Some(Context::Lua)).map_err(in_script)?;
    CALLED.iter().try_for_each(|gate| gate(check))
}

/// What a script is told that its user may not call, in the words of Redis 7.2.
fn in_script(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Error(text) => {
            let why = text.strip_prefix("NOPERM ").unwrap_or(&text);
            Refusal::Error(format!("NOPERM ACL failure in script: {why}").into())
        }
        other => other,
    }
}

/// The same for a script that only wants to know, which is no refusal for ACL LOG.
pub fn may_call(check: &Check<'_>) -> Result<(), Refusal> {
    ask(check, None)?;
    CALLED.iter().try_for_each(|gate| gate(check))
}

/// Whether a write that a script calls may run now. As in Redis `asks_memory` is for the first one
/// of a script: the others would leave half of it.
pub fn pass_to_write(check: &Check<'_>, asks_memory: bool) -> Result<(), Refusal> {
    pass_running(check)?;
    if asks_memory { memory_to_write(check) } else { Ok(()) }
}

/// Whether what a read of a script looks for is here, as far as moves go: also of keys that the
/// script has not declared. Where the topology gives their slots is looked at beside.
pub fn pass_to_read(check: &Check<'_>) -> Result<(), Refusal> {
    let (Some(cluster), Some(store)) = (check.cluster, &check.engine.store) else { return Ok(()) };
    if !check.node.moves.is_holding() && store.marks().is_none() {
        return Ok(());
    }
    let request = check.route_request(false);
    let mut slots = check.command.keys_in(check.words).map(key_slot);
    slots.try_for_each(|slot| match cluster.route([slot], request) {
        Route::Run => may_run(check.node, store, slot.number(), false),
        _ => Ok(()),
    })
}

/// Whether what these commands have written may be appended.
pub fn pass_to_append(check: &Check<'_>) -> Result<(), Refusal> {
    APPENDING.iter().try_for_each(|gate| gate(check))
}

/// Whether these slots were opened here under a topology that this node does not have yet.
pub fn are_opened(
    caller: &Caller<'_>,
    mut slots: impl Iterator<Item = Slot>,
) -> Result<(), Refusal> {
    match slots.all(|slot| is_opened_by(caller, slot.number())) {
        true => Ok(()),
        false => error(Route::ScriptNonLocal.to_string()),
    }
}

/// Are these slots served here for writes? What a script touched without naming it.
pub fn are_served(caller: &Caller<'_>, slots: &[Slot]) -> Result<(), Refusal> {
    let Some(cluster) = caller.cluster else { return Ok(()) };
    let request = caller.route_request(true);
    slots.iter().try_for_each(|slot| match cluster.route([*slot], request) {
        Route::Run => match &caller.engine.store {
            Some(store) => may_run(caller.node, store, slot.number(), true),
            None => Ok(()),
        },
        Route::Moved { slot, .. } if is_opened_by(caller, slot.number()) => Ok(()),
        other => error(other.to_string()),
    })
}
