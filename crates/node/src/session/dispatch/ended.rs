//! Keyspace notifications for reads: keys that a read does not find, and keys whose end is past.
//!
//! If no such event is enabled, nothing is looked up.

use storage::budget;

use super::super::expire::AT_ONCE;
use super::super::serve::Server;
use super::super::{After, Command, Session, long};
use super::Batch;
use crate::command::Error;
use crate::events::{self, Event};

impl Batch<'_> {
    /// The keys that a read is about to miss; notes those whose end is past. If the look itself
    /// takes too long for the worker, nothing is told of this read.
    pub(super) fn look_for_absent(
        &mut self,
        session: &Session,
        command: &Command,
        words: &[&[u8]],
    ) -> Vec<Event> {
        let wanted = self.config.notify_keyspace_events;
        if !wanted.minds_absence() {
            return Vec::new();
        }
        let Ok(store) = self.store() else { return Vec::new() };
        let scope = session.scope(&self.config, self.now_ms);
        let look = || events::look(wanted, command, words, &store.txn(), scope);
        let found = match self.is_aside {
            true => Some(look()),
            false => budget::within(long::budget(&self.config), look),
        };
        let found = found.unwrap_or_default();
        let missed = events::missed(wanted, command, &found);
        self.ended.extend(found.ended.into_iter().take(AT_ONCE));
        missed
    }

    /// Tells which keys a read has missed, unless it is tried again.
    pub(super) fn tell_missed(&self, missed: &[Event], ran: &Result<After, Error>) {
        if !matches!(ran, Ok(After::Again(_))) {
            let (wanted, limit) =
                (self.config.notify_keyspace_events, self.config.subscriber_limit());
            events::deliver(&self.node.pubsub, wanted, missed, limit, self.now_ms);
        }
    }

    /// Removes the keys that commands have found past their end, once no write waits to be
    /// committed.
    pub(super) fn remove_ended(&mut self) {
        // Uncommitted writes hold the locks of their keys.
        if self.ended.is_empty() || !self.pending.is_empty() {
            return;
        }
        let ended = std::mem::take(&mut self.ended);
        // A command that has let go of the gate has seen to it by itself.
        let Some(engine) = self.guard.as_deref() else { return };
        let Some(store) = &engine.store else { return };
        let (node, config, worker, now_ms) = (self.node, &*self.config, self.worker, self.now_ms);
        let server = Server { node, config, store, worker, now_ms, writer: None };
        server.remove_ended(engine, &ended);
    }
}
