//! Writes that have run but are not committed: they become one batch, as the commands of a MULTI
//! do. They come from one pipeline, and from the other connections of the worker that had commands
//! in the same turn.
//!
//! A client that sends sixteen SETs at once pays for one append to the WAL instead of sixteen, and
//! so do sixteen clients that send one each. No client can see a difference:
//!
//! * the keys stay locked until the commit, and no reply leaves before it;
//! * a write of one of these keys sees the uncommitted writes;
//! * a command that is no write first commits what its own client wrote before it;
//! * if the commit fails, each of the commands is answered with the error.

use std::sync::Arc;

use parking_lot::MutexGuard;
use smallvec::SmallVec;
use storage::Suspended;

use super::serve::{self, Ready, Server};
use crate::command::Error;
use crate::events::Event;
use crate::locks::{Held, Locks, Stripes};

/// Commands that may wait together. More gain little and keep others from the keys.
const COMMANDS_MAX: usize = 64;
/// Bytes of their batch to which another command may add. A larger one is copied and looked through
/// several times where no cache holds it.
const BYTES_MAX: usize = 64 << 10;

/// The waiting writes.
#[derive(Default)]
pub struct Pending<'n> {
    writes: Option<Suspended>,
    held: SmallVec<[MutexGuard<'n, ()>; 16]>,
    stripes: SmallVec<[u16; 16]>,
    commands: usize,
    /// Their events, to be told once the batch is written.
    events: Vec<Event>,
    groups: Groups,
    /// The namespace of all their keys.
    namespace: Option<Arc<[u8]>>,
    /// The client that wrote last; the only one, if clients are told of all changes but their own.
    writer: Option<u64>,
}

/// Waiting commands of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Which one of the connections that share a batch.
    pub member: usize,
    /// Where in its output the first of their replies begins.
    pub mark: usize,
    /// How many.
    pub commands: usize,
}

/// In the order in which they ran.
pub type Groups = SmallVec<[Group; 4]>;

/// The result of a commit, and the commands that it is for.
#[derive(Debug)]
pub struct Committed {
    /// The commands that waited.
    pub groups: Groups,
    /// Whether something was written. If it failed, all of the commands are to be answered with the
    /// error.
    pub result: Result<bool, Error>,
}

impl<'n> Pending<'n> {
    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.commands == 0
    }

    /// True when commands of this connection wait.
    pub fn has_of(&self, member: usize) -> bool {
        self.groups.last().is_some_and(|group| group.member == member)
    }

    /// Whether writes to this namespace may wait together with what waits.
    pub fn is_in(&self, namespace: &[u8]) -> bool {
        self.namespace.as_deref().is_none_or(|mine| mine == namespace)
    }

    /// Whether a stripe is locked for what waits.
    pub fn holds(&self, stripe: u16) -> bool {
        self.stripes.contains(&stripe)
    }

    /// Locks the stripes of one more command, as far as they are not locked for those that wait; if
    /// that is possible without waiting, and they are not too much already.
    pub fn join(&self, locks: &'n Locks, stripes: &[u16]) -> Option<Held<'n>> {
        let bytes = self.writes.as_ref().map_or(0, Suspended::size_bytes);
        if self.commands >= COMMANDS_MAX || bytes > BYTES_MAX {
            return None;
        }
        let more = stripes.iter().filter(|stripe| !self.stripes.contains(stripe));
        let more: Stripes = more.copied().collect();
        locks.try_lock(&more)
    }

    /// Takes the writes, to add to them.
    pub fn take_writes(&mut self) -> Option<Suspended> {
        self.writes.take()
    }

    /// Gives the writes back after a command that added nothing.
    pub fn put_back(&mut self, writes: Suspended) {
        if !self.is_empty() {
            self.writes = Some(writes);
        }
    }

    /// Gives the writes back, together with those of one more command. The command's reply begins
    /// at `mark` of its connection's output.
    pub fn add(
        &mut self,
        ((writes, events), namespace, writer): ((Suspended, Vec<Event>), &Arc<[u8]>, u64),
        (held, stripes): (Held<'n>, &Stripes),
        (member, mark): (usize, usize),
    ) {
        self.events.extend(events);
        self.writer = Some(writer);
        match self.groups.last_mut() {
            Some(group) if group.member == member => group.commands += 1,
            _ => self.groups.push(Group { member, mark, commands: 1 }),
        }
        if self.namespace.is_none() {
            self.namespace = Some(Arc::clone(namespace));
        }
        self.commands += 1;
        self.writes = Some(writes);
        self.held.extend(held);
        self.stripes.extend_from_slice(stripes);
    }

    /// Commits the waiting writes, serves the commands that waited for their keys, and unlocks the
    /// keys.
    pub fn commit(&mut self, server: Option<Server<'_>>) -> Committed {
        let groups = std::mem::take(&mut self.groups);
        let server = server.map(|server| Server { writer: self.writer.take(), ..server });
        let (Some(writes), Some(server)) = (self.writes.take(), server) else {
            // A command panicked on top of them: they are lost, and their clients are told so.
            self.clear();
            return Committed { groups, result: Err(Error::text(LOST)) };
        };
        let events = std::mem::take(&mut self.events);
        self.namespace = None;
        let mut ready = Ready::new();
        // While the keys are locked: a client that watches one and reads it afterwards sees the
        // new value.
        let tell = |batch: &[u8]| serve::note(&server, batch, &mut ready);
        let result = server.store.txn_resumed(writes).commit_and_tell(tell);
        // While the keys are locked, and before anybody is served: events of a key come in the
        // order of its changes.
        if result.is_ok() {
            server.tell_events(&events);
        }
        if !ready.is_empty() {
            server.serve_holding(&mut ready, &self.stripes);
        }
        self.clear();
        if !ready.is_empty() {
            server.serve(ready);
        }
        Committed { groups, result: result.map(|last| last.is_some()).map_err(Error::from) }
    }

    fn clear(&mut self) {
        self.held.clear();
        self.stripes.clear();
        self.events.clear();
        self.commands = 0;
        self.namespace = None;
    }
}

/// What is said of a write that had run when a defect took the batch that it was in.
const LOST: &str = "ERR the write was not committed: a command in the same batch failed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_that_are_lost_are_an_error_for_everybody_who_waits_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let store =
            storage::Store::open(&dir.path().join("db"), storage::Options::default()).unwrap();
        let locks = Locks::default();
        let namespace: Arc<[u8]> = b"mine".as_slice().into();
        let mut pending = Pending::default();
        for (member, mark) in [(0, 3), (0, 8), (2, 0)] {
            let stripes = Locks::stripes([[member as u8].as_slice()].into_iter());
            let held = pending.join(&locks, &stripes).unwrap();
            let writes = pending.take_writes().unwrap_or_else(|| store.txn().suspend());
            pending.add(((writes, Vec::new()), &namespace, 1), (held, &stripes), (member, mark));
        }
        assert!(pending.has_of(2) && !pending.has_of(0));
        assert!(pending.is_in(b"mine") && !pending.is_in(b"other"));
        // As if a command panicked on top of them.
        drop(pending.take_writes());
        let committed = pending.commit(None);
        let groups: Vec<_> = committed
            .groups
            .iter()
            .map(|group| (group.member, group.mark, group.commands))
            .collect();
        assert_eq!(groups, [(0, 3, 2), (2, 0, 1)]);
        assert!(committed.result.is_err() && pending.is_empty());
        let stripes = Locks::stripes([[0].as_slice(), &[2]].into_iter());
        assert!(locks.try_lock(&stripes).is_some(), "their keys are free");
    }

    #[test]
    fn what_waits_is_joined_up_to_so_many_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let store =
            storage::Store::open(&dir.path().join("db"), storage::Options::default()).unwrap();
        let (locks, namespace): (_, Arc<[u8]>) = (Locks::default(), b"mine".as_slice().into());
        let stripes = Locks::stripes(std::iter::once(b"k".as_slice()));
        let mut pending = Pending::default();
        let value = [b'x'; BYTES_MAX / 4];
        let mut joined = 0;
        while let Some(held) = pending.join(&locks, &stripes) {
            let waiting = pending.take_writes().unwrap_or_default();
            let mut txn = store.txn_resumed(waiting);
            txn.put(storage::Family::Metadata, b"k", &value);
            let writes = (txn.suspend(), Vec::new());
            pending.add((writes, &namespace, 1), (held, &stripes), (0, 0));
            joined += 1;
        }
        assert_eq!(joined, 4, "the fourth one has made it too much");
    }
}
