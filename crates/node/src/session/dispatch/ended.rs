//! Keys that a read does not find, and keys whose end is past, where somebody wants to be told.

use super::super::serve::Server;
use super::super::{Command, Session};
use super::Batch;
use crate::events;

impl Batch<'_> {
    /// Tells which keys a read that is about to run will miss, and notes those that have ended.
    pub(super) fn look_for_absent(
        &mut self,
        session: &Session,
        command: &Command,
        words: &[&[u8]],
    ) {
        let wanted = self.config.notify_keyspace_events;
        if !wanted.minds_absence() {
            return;
        }
        let Ok(store) = self.store() else { return };
        let scope = session.scope(&self.config, self.now_ms);
        let found = events::look(wanted, command, words, &store.txn(), scope);
        let missed = events::missed(wanted, command, &found);
        let limit = self.config.subscriber_limit();
        events::deliver(&self.node.pubsub, wanted, &missed, limit, self.now_ms);
        self.ended.extend(found.ended);
    }

    /// Removes what commands have found past its end, once none of them waits to be committed.
    pub(super) fn remove_ended(&mut self) {
        // What waits to be committed holds the locks of its keys.
        if self.ended.is_empty() || !self.pending.is_empty() {
            return;
        }
        let ended = std::mem::take(&mut self.ended);
        // A command that has let go of the gate has seen to it by itself.
        let Some(engine) = self.guard.as_deref() else { return };
        let Some(store) = &engine.store else { return };
        let server = Server {
            writer: None,
            node: self.node,
            config: &self.config,
            store,
            worker: self.worker,
            now_ms: self.now_ms,
        };
        server.remove_ended(engine, &ended);
    }
}
