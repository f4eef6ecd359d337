//! Removal of keys whose end is past, if events of that are enabled: each such key is told of once,
//! as in Redis. A command that finds one has it removed, and a walk in the background finds the
//! keys that no command asks for.
//!
//! If these events are disabled, such keys stay until compactions remove them, and no command sees
//! them.

use storage::Name;
use storage::types::CommandError;
use storage::types::{keys, keyspace};
use topology::{Route, key_slot};

use super::serve::{self, Ready, Server};
use super::{gates, scope_in};
use crate::clock;
use crate::events;
use crate::gate::Engine;
use crate::locks::Locks;
use crate::node::Node;

/// Entries that the walk looks at in one go.
const WALKED: usize = 5_000;
/// Keys that are removed before the write gate is let go of, and for one command: the walk finds
/// the others.
pub(super) const AT_ONCE: usize = 64;

impl Server<'_> {
    /// Removes those of these keys (ids of their names) whose end is past, and tells of each. A key
    /// is left alone if this master may not change it now, or if its lock is held. True if one was
    /// removed.
    pub fn remove_ended(&self, engine: &Engine, ids: &[Vec<u8>]) -> bool {
        let is_wanted = self.config.notify_keyspace_events.minds_ends();
        if !is_wanted || gates::may_write(self.node, self.config, engine).is_err() {
            return false;
        }
        let mut has_removed = false;
        for id in ids {
            match self.remove(engine, id) {
                Ok(is_removed) => has_removed |= is_removed,
                Err(error) => {
                    tracing::warn!(%error, "cannot remove a key whose end is past");
                    break;
                }
            }
        }
        has_removed
    }

    fn remove(&self, engine: &Engine, id: &[u8]) -> Result<bool, CommandError> {
        let Some(Name { namespace, key }) = Name::of(id) else { return Ok(false) };
        let is_ours = || {
            let route = gates::route_write(self.node, engine, key_slot(key));
            matches!(route, Ok(Route::Run))
        };
        if self.config.cluster_enabled && !is_ours() {
            return Ok(false);
        }
        let stripes = Locks::stripes(std::iter::once(key));
        // Its holder may be the caller, or may have made it anew.
        let Some(held) = self.node.locks.try_lock(&stripes) else { return Ok(false) };
        let mut txn = self.store.txn();
        let scope = scope_in(namespace, self.config, self.now_ms);
        if !keys::remove_ended(&mut txn, &scope.at(key))? {
            return Ok(false);
        }
        let mut ready = Ready::new();
        // Those who watch it were told when it ended.
        let tell = |batch: &[u8]| serve::note_removed(self, batch, &mut ready);
        txn.commit_and_tell(tell)?;
        self.tell_events(&[events::expired(id)]);
        self.serve_holding(&mut ready, &stripes);
        drop(held);
        self.serve(ready);
        Ok(true)
    }
}

/// Looks at the next entries behind a position, removes what has ended there, and says where to go
/// on. Where the write gate is taken nothing is done.
pub fn walk(node: &Node, position: Vec<u8>) -> Vec<u8> {
    let config = node.config.now();
    if !config.notify_keyspace_events.minds_ends() {
        return Vec::new();
    }
    let open = || {
        let engine = node.gate.try_read()?;
        engine.store.clone().filter(|_| engine.role.is_master())
    };
    let Some(store) = open() else { return position };
    let now_ms = clock::unix_ms();
    let found = keyspace::ended(&store, (&position, WALKED), (config.cluster_enabled, now_ms));
    let (ids, next) = match found {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "cannot look for keys whose end is past");
            return Vec::new();
        }
    };
    for ids in ids.chunks(AT_ONCE) {
        let Some(engine) = node.gate.try_read() else { return position };
        let Some(store) = &engine.store else { return position };
        let server = Server { node, config: &config, store, worker: 0, now_ms, writer: None };
        // Nobody is answered who would see to that.
        if server.remove_ended(&engine, ids)
            && let Err(error) = store.publish()
        {
            tracing::error!(%error, "cannot publish that keys were removed");
            return position;
        }
    }
    next
}
