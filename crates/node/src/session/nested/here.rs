//! A script on the worker of its connection: what it may use there, and when it gives way.
//!
//! The worker holds the write gate for the script, and serves no other client meanwhile. So the
//! script may run only for a short time ([`TIME_HERE`]), and may not wait. If it would have to
//! wait, or takes too long, it gives way: it is undone, and begins anew on a thread for scripts.

use std::cell::Cell;
use std::time::Duration;

use storage::Name;
use topology::Cluster;

use super::super::Command;
use super::super::gates::{Caller, Refusal};
use super::{Call, NestedCx};
use crate::command::{Error, Flags, Result};
use crate::events::Event;
use crate::gate::Engine;
use crate::locks::Locks;
use crate::node::Node;

/// For how long a script may keep its worker.
pub const TIME_HERE: Duration = Duration::from_millis(2);

/// Why a script gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Something that it needs is not free just now.
    Busy,
    /// It takes more than a worker has for it, and will the next time.
    Long,
}

/// Where a script gets the locks of keys that it was not called with.
pub trait More {
    /// Takes those of these stripes that are not held yet; false if one of them is not free.
    fn take(&mut self, stripes: &[u16]) -> bool;
}

/// What a script has on a worker.
pub struct Here<'a> {
    engine: &'a Engine,
    cluster: Option<&'a Cluster>,
    locks: &'a mut (dyn More + 'a),
    gives_way: Cell<Option<Why>>,
    /// Somebody waits for a key that it has written, or may.
    is_awaited: bool,
}

impl<'a> Here<'a> {
    /// With what the write gate covers, which is held for it.
    pub fn new(
        engine: &'a Engine,
        cluster: Option<&'a Cluster>,
        locks: &'a mut (dyn More + 'a),
    ) -> Self {
        Self { engine, cluster, locks, gives_way: Cell::new(None), is_awaited: false }
    }
}

/// Whether a command waits for one of the keys that these words name, or may. None begins to while
/// they are locked.
pub fn is_awaited(node: &Node, namespace: &[u8], command: &Command, words: &[&[u8]]) -> bool {
    let waits = |key: &[u8]| node.waiters.is_awaited(&Name { namespace, key });
    node.waiters.any() && (command.flags.has(Flags::ELSEWHERE) || command.keys_in(words).any(waits))
}

impl<'a> NestedCx<'a> {
    /// The script that is about to run stays on its worker.
    pub fn stay(&mut self, here: Here<'a>) {
        (self.here, self.is_whole) = (Some(here), true);
    }

    /// Whether the script runs on its worker.
    pub fn is_here(&self) -> bool {
        self.here.is_some()
    }

    /// Whether a command would tell others at once what cannot be taken back: a replica's messages
    /// are in no batch.
    pub fn tells_at_once(&self, command: &Command) -> bool {
        let is_at_replica = |here: &Here<'_>| !here.engine.role.is_master();
        let is_message = command.is_write() && command.flags.has(Flags::MAY_REPLICATE);
        is_message && self.here.as_ref().is_some_and(is_at_replica)
    }

    /// Has the script run aside: nothing of this try stays. Returns an error for the caller that
    /// needed something; no client is told of it. The first reason counts.
    pub fn give_way(&self, why: Why) -> Error {
        if let Some(here) = &self.here {
            here.gives_way.set(here.gives_way.get().or(Some(why)));
        }
        Error::Locked
    }

    /// Why the script gives way, if it does.
    pub fn gives_way(&self) -> Option<Why> {
        self.here.as_ref().and_then(|here| here.gives_way.get())
    }

    /// Whether somebody waits for a key that the script has written on its worker, or may.
    pub fn is_awaited(&self) -> bool {
        self.here.as_ref().is_some_and(|here| here.is_awaited)
    }

    /// A command has run, whose keys are locked from here on.
    pub(super) fn note_awaited(&mut self, command: &Command, words: &[&[u8]]) {
        let Some(here) = &mut self.here else { return };
        if command.is_write() && !here.is_awaited {
            here.is_awaited = is_awaited(self.node, &self.session.namespace, command, words);
        }
    }

    /// Whether what `pass` asks for is so; `None` for what does not run on its worker.
    pub(super) fn pass_here(
        &self,
        pass: &impl Fn(&Caller<'_>) -> std::result::Result<(), Refusal>,
    ) -> Option<Result<()>> {
        let here = self.here.as_ref()?;
        let caller = Caller {
            node: self.node,
            config: self.config,
            session: self.session,
            engine: here.engine,
            cluster: here.cluster,
        };
        Some(match pass(&caller) {
            Ok(()) => Ok(()),
            Err(Refusal::Wait(_)) => Err(self.give_way(Why::Busy)),
            Err(Refusal::Error(text) | Refusal::ErrorAndClose(text)) => Err(Error::Text(text)),
            Err(Refusal::Close(why)) => Err(Error::err(why)),
        })
    }

    /// Takes the locks of what a command of the script names besides, if they are free.
    ///
    /// # Errors
    /// The script gives way.
    pub(super) fn lock_more_here(
        &mut self,
        takes_all: bool,
        command: &Command,
        words: &[&[u8]],
    ) -> Result<()> {
        let Some(here) = &mut self.here else { return Ok(()) };
        if takes_all {
            return Err(self.give_way(Why::Long));
        }
        match here.locks.take(&Locks::stripes(command.keys_in(words))) {
            true => Ok(()),
            false => Err(self.give_way(Why::Busy)),
        }
    }

    /// How the script has ended: what it did to keys, or the error that it is answered with.
    ///
    /// # Errors
    /// It gives way: also where it could not be done here, as what it wrote is one batch with what
    /// waits before it.
    pub fn end_here(
        &mut self,
        call: &Call<'_>,
        has_written: bool,
    ) -> std::result::Result<Result<Vec<Event>>, Why> {
        if let Some(why) = self.gives_way() {
            return Err(why);
        }
        if self.failed.is_some() {
            return Err(Why::Busy);
        }
        if has_written && let Err(error) = self.enter_to_append(std::slice::from_ref(call)) {
            return self.gives_way().map_or(Ok(Err(error)), Err);
        }
        Ok(Ok(std::mem::take(&mut self.events)))
    }
}
