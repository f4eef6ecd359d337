//! Exclusive access for a transaction or a script: the locks of its keys, and the write gate if the
//! batch does not already hold it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLockReadGuard;
use topology::{RouteRequest, key_slot};

use super::super::gates::{self, Caller, Refusal, Seen};
use super::super::{Beyond, Command};
use super::{CHANGED, Call, NestedCx};
use crate::clock;
use crate::command::row::Access;
use crate::command::{Error, Flags, Result, Row};
use crate::gate::Engine;
use crate::locks::{Held, Locks};
use crate::node::Node;
use crate::scripts::SLICE;

/// How long a script waits for a lock while it holds others.
const MORE: Duration = Duration::from_millis(1);
/// How long the write gate may be taken by others before a script gives way.
pub const GIVES_WAY: Duration = Duration::from_millis(100);
/// How long the end of a script waits at most before it asks the gates again.
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// Locks stripes; the caller holds none, but may have the write gate. What holds them may wait for
/// a change that needs this gate, e.g. for the master's lease: so the caller is to let go of it.
///
/// # Errors
/// [`Error::Locked`] if a script, or another command aside, holds one of them and may hold it for
/// long.
pub fn lock<'n>(node: &'n Node, stripes: &[u16]) -> Result<Held<'n>> {
    let scripts = &node.scripts;
    loop {
        let patience = if scripts.any_slow() { Duration::ZERO } else { SLICE };
        match node.locks.lock_within(stripes, patience) {
            Some(held) => return Ok(held),
            None if scripts.any() => return Err(Error::Locked),
            // What else holds one has the write gate, too, and waits for nobody else who has it.
            None => {}
        }
    }
}

/// Whether a command takes the locks of all keys.
fn takes_all(command: &Command) -> bool {
    command.flags.has(Flags::ALL_KEYS) || command.flags.has(Flags::LEADS)
}

impl<'a> NestedCx<'a> {
    /// What its commands hold of the keys that they do not name.
    pub(super) fn beyond(&self) -> Beyond<'static> {
        if self.wants_all { Beyond::All } else { Beyond::These(&[]) }
    }

    /// Takes the locks of all keys that these commands name and of those that the connection
    /// watches, or of all keys. It holds none. What is watched must not change between the look
    /// whether it has and the commit: two transactions of which each watches what the other writes
    /// would both go through.
    pub fn lock(&mut self, calls: &[Call<'_>]) -> Result<()> {
        self.forget_counted();
        let takes_all = self.wants_all || calls.iter().any(|(command, _)| takes_all(command));
        self.held = match takes_all {
            true => Locks::all_stripes(),
            false => {
                let named = calls.iter().flat_map(|(command, words)| command.keys_in(words));
                Locks::stripes(named.chain(self.session.transaction.watched_keys()))
            }
        };
        self.guards = lock(self.node, &self.held)?;
        // Of two that change one key the later one is told a later time.
        self.began_us = clock::unix_us();
        self.wants_all = takes_all;
        Ok(())
    }

    /// Lets go of all locks.
    pub fn unlock(&mut self) {
        self.guards.clear();
        self.held.clear();
    }

    /// Takes the locks of further keys that a command in a script names. The script holds others,
    /// so it waits for a moment only: after that it begins anew with all locks.
    ///
    /// # Errors
    /// [`Error::Locked`].
    pub fn lock_more(&mut self, command: &Command, words: &[&[u8]]) -> Result<()> {
        if self.wants_all {
            return Ok(());
        }
        let takes_all = takes_all(command);
        if self.is_here() {
            return self.lock_more_here(takes_all, command, words);
        }
        let mut more = match takes_all {
            true => Locks::all_stripes(),
            false => Locks::stripes(command.keys_in(words)),
        };
        more.retain(|stripe| !self.held.contains(stripe));
        if more.is_empty() {
            return Ok(());
        }
        let Some(guards) = self.node.locks.lock_within(&more, MORE) else {
            self.wants_all = true;
            return Err(self.fail(Error::Locked));
        };
        self.guards.extend(guards);
        self.held.extend(more);
        self.wants_all |= takes_all;
        Ok(())
    }

    /// The write gate, once what `pass` asks for is so under it; `None` if the batch holds it.
    ///
    /// # Errors
    /// Why nothing may be written.
    #[expect(clippy::disallowed_methods, reason = "a thread for scripts serves nobody else")]
    pub fn enter(
        &self,
        pass: impl Fn(&Caller<'_>) -> std::result::Result<(), Refusal>,
    ) -> Result<Option<RwLockReadGuard<'a, Engine>>> {
        if let Some(passed) = self.pass_here(&pass) {
            return passed.map(|()| None);
        }
        let Some(generation) = self.generation() else { return Ok(None) };
        let mut waiting = None;
        loop {
            // What has the gate alone for long may wait for the database to be let go of.
            let engine = self.node.gate.try_read_for(GIVES_WAY);
            let same = |engine: &RwLockReadGuard<'_, Engine>| engine.generation == generation;
            let engine = engine.filter(same).ok_or_else(|| Error::err(CHANGED))?;
            let cluster = self.config.cluster_enabled.then(|| self.node.cluster.load());
            let caller = Caller {
                node: self.node,
                config: self.config,
                session: self.session,
                engine: &engine,
                cluster: cluster.as_deref().map(Arc::as_ref),
            };
            let left = match pass(&caller) {
                Ok(()) => return Ok(Some(engine)),
                Err(Refusal::Error(text) | Refusal::ErrorAndClose(text)) => {
                    return Err(Error::Text(text));
                }
                Err(Refusal::Close(why)) => return Err(Error::err(why)),
                Err(Refusal::Wait(pause)) => pause.until_ns.saturating_sub(clock::boottime_ns()),
            };
            drop(engine);
            if *self.node.shutdown().borrow() {
                return Err(Error::err(CHANGED));
            }
            // Nobody is to wait for its locks with the gate, which may be what this waits for.
            waiting.get_or_insert_with(|| self.node.scripts.wait());
            std::thread::sleep(Duration::from_nanos(left).clamp(MORE, PAUSE_MAX));
        }
    }

    /// The marks as they are, where what is read may be deleted before the end: with the gate
    /// nothing is.
    pub(super) fn seen(&self) -> Option<Seen> {
        let may_change = !self.holds_gate && self.config.cluster_enabled;
        may_change.then(|| Seen::now(self.store))
    }

    /// The write gate for the end of these commands, if they have written.
    pub(super) fn enter_to_end(
        &self,
        calls: &[Call<'_>],
        seen: Option<&Seen>,
        has_written: bool,
    ) -> Result<Option<RwLockReadGuard<'a, Engine>>> {
        if let Some(seen) = seen {
            self.has_found_all(calls, seen)?;
        }
        if has_written { self.enter_to_append(calls) } else { Ok(None) }
    }

    /// Whether the data of all that was looked for was here to the end. What a moment shows stays.
    fn has_found_all(&self, calls: &[Call<'_>], seen: &Seen) -> Result<()> {
        if self.moment.is_some() {
            return Ok(());
        }
        let named = calls.iter().flat_map(|(command, words)| command.keys_in(words));
        let slots = named.map(key_slot).chain(self.touched.iter().copied());
        let request = RouteRequest {
            is_write: false,
            readonly: self.session.is_readonly,
            // It may have passed as one that asks.
            asking: true,
            asker: self.session.asker(self.config),
        };
        seen.are_still_here(self.node, self.store, slots, request)
    }

    /// The write gate for the end of what these commands have written.
    pub(super) fn enter_to_append(
        &self,
        calls: &[Call<'_>],
    ) -> Result<Option<RwLockReadGuard<'a, Engine>>> {
        self.enter(|caller| {
            for (command, words) in calls {
                // A script has written, whatever it said it would.
                let row = match command.flags.has(Flags::SCRIPT) {
                    true => Row { access: Access::Write, flags: Flags::KEYSPACE, ..command.row },
                    false => command.row,
                };
                gates::pass_to_append(&caller.check(&row, words))?;
            }
            if self.touched_all {
                gates::all_may_change(caller)?;
            }
            gates::are_served(caller, &self.touched)
        })
    }
}
