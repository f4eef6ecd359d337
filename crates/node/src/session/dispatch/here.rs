//! Scripts begin on the worker of their connection, under the write gate and together with the
//! uncommitted writes: most are over before a thread for scripts would have woken up.
//!
//! If a script is not over soon, or needs something that is not free, it gives way: it is undone,
//! and begins anew aside (`dispatch::aside`). So a script here does nothing that cannot be undone,
//! and nobody sees it before it is over.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;

use storage::Suspended;
use storage::budget::{self, Budget};

use super::super::nested::{Here, More, NestedCx, TIME_HERE, Why, lock};
use super::super::pipeline::Pending;
use super::super::table::{Call, Handler};
use super::super::{After, Beyond, Command, Session, WriteCx, long, scope_in};
use super::Batch;
use crate::command::keys::Keys;
use crate::command::texts::LOADING;
use crate::command::{Error, Words};
use crate::events::{Event, Touched};
use crate::locks::{Held, Locks, Stripes};
use crate::node::Node;

/// Words of a call that begins here, and their bytes: they become values of Lua's.
const WORDS_MAX: usize = 1_000;
const BYTES_MAX: usize = 64 << 10;
/// Most calls of a script that took too long here that go aside at once: one after the first time,
/// as it may have been the machine's fault, and twice as many and one each time that it is so
/// again.
const ASIDE_MAX: u8 = 63;
/// Scripts of which that is known; beyond that it is found out anew.
const LONG_MAX: usize = 1_000;

/// A script that took too long when it was tried last.
struct Long {
    /// How many calls went aside after that try, or are to.
    spell: u8,
    /// How many of these are still to go aside.
    left: u8,
}

thread_local! {
    /// Scripts that took too long for this worker, by a hash of what they are called by.
    static LONG: RefCell<HashMap<u64, Long>> = RefCell::default();
}

/// A script by its text, its hash or its name. Two that are taken for one only go aside together.
fn called_by(words: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(words.get(1).copied().unwrap_or_default());
    hasher.finish()
}

fn is_long(words: &[&[u8]]) -> bool {
    let goes =
        |long: &HashMap<u64, Long>| long.get(&called_by(words)).is_some_and(|known| known.left > 0);
    LONG.with_borrow(|long| !long.is_empty() && goes(long))
}

/// It took too long.
fn note_long(words: &[&[u8]]) {
    LONG.with_borrow_mut(|long| {
        let script = called_by(words);
        let spell = long.get(&script).map_or(1, |known| (2 * known.spell + 1).min(ASIDE_MAX));
        if long.len() >= LONG_MAX {
            long.clear();
        }
        long.insert(script, Long { spell, left: spell });
    });
}

/// It was over in time.
fn note_short(words: &[&[u8]]) {
    LONG.with_borrow_mut(|long| {
        if !long.is_empty() {
            long.remove(&called_by(words));
        }
    });
}

/// A call goes aside at once.
pub(super) fn note_aside(words: &[&[u8]]) {
    LONG.with_borrow_mut(|long| {
        if !long.is_empty()
            && let Some(known) = long.get_mut(&called_by(words))
        {
            known.left = known.left.saturating_sub(1);
        }
    });
}

/// The locks that a script holds beside those of the uncommitted writes before it.
struct Taken<'n, 'p> {
    locks: &'n Locks,
    pending: &'p Pending<'n>,
    held: Held<'n>,
    /// Of all its keys.
    stripes: Stripes,
}

impl More for Taken<'_, '_> {
    fn take(&mut self, stripes: &[u16]) -> bool {
        let is_held = |stripe: &u16| self.stripes.contains(stripe) || self.pending.holds(*stripe);
        let more: Stripes = stripes.iter().copied().filter(|stripe| !is_held(stripe)).collect();
        let Some(held) = self.locks.try_lock(&more) else { return false };
        self.held.extend(held);
        self.stripes.extend(more);
        true
    }
}

/// A script that has run, or not.
struct Tried {
    /// The uncommitted writes before it, and the script's own if it has ended well.
    writes: Suspended,
    ended: Result<Result<Vec<Event>, Error>, Why>,
    /// Somebody waits for a key that it has written, or may.
    is_awaited: bool,
}

impl<'n> Batch<'n> {
    /// Whether a command is a script that begins here. What it tells others while it runs could not
    /// be taken back: if somebody listens for that, it runs aside.
    pub(super) fn begins_here(
        &self,
        session: &Session,
        command: &Command,
        words: &[&[u8]],
    ) -> bool {
        matches!(command.handler, Handler::Script(_))
            && !matches!(command.keys, Keys::None)
            && !self.is_aside
            && !session.transaction.is_open()
            && session.tracks.is_none()
            && !self.node.monitors.any()
            && !self.config.notify_keyspace_events.minds_absence()
            && words.len() <= WORDS_MAX
            && words.iter().map(|word| word.len()).sum::<usize>() <= BYTES_MAX
            && !is_long(words)
    }

    /// Runs a command; `None` if it is a script that is to run aside.
    pub(super) fn run_or_give_way(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        words: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Option<Result<After, Error>> {
        match command.handler {
            Handler::Script(_) if !self.is_aside => {
                self.run_here_sampled(session, (command, words), out)
            }
            _ => Some(self.handle(session, command, words, out)),
        }
    }

    /// Runs a script on top of what waits to be committed, with which it becomes one batch.
    pub(super) fn run_here(
        &mut self,
        session: &mut Session,
        (command, words): (&'static Command, &[&[u8]]),
        out: &mut Vec<u8>,
    ) -> Option<Result<After, Error>> {
        let node: &'n Arc<Node> = self.node;
        let reads_only = self.reads_only();
        let stripes = Locks::stripes(command.keys_in(words));
        let joins = !reads_only && self.pending.is_in(&session.namespace);
        let joined = if joins { self.pending.join(&node.locks, &stripes) } else { None };
        let held = match joined {
            Some(held) => held,
            None => {
                // What waits for a lock may hold none.
                self.settle(session, out);
                match lock(node, &stripes) {
                    Ok(held) => held,
                    Err(error) => return Some(Err(error)),
                }
            }
        };
        let (mark, mut waiting) = (out.len(), self.pending.take_writes());
        let mut taken = Taken { locks: &node.locks, pending: &self.pending, held, stripes };
        let tried = self.try_here(session, (command, words), (&mut waiting, &mut taken), out);
        let Taken { held, stripes, .. } = taken;
        let Tried { writes, ended, is_awaited } = match tried {
            Ok(tried) => tried,
            Err(error) => {
                waiting.into_iter().for_each(|writes| self.pending.put_back(writes));
                return Some(Err(error));
            }
        };
        if let Ok(Ok(events)) = ended {
            note_short(words);
            let written = ((writes, events), &session.namespace, session.client.id);
            self.pending.add(written, (held, &stripes), (self.member, mark));
            // As after any other write.
            if is_awaited {
                self.settle(session, out);
            }
            // Its reply is there already; this only says so.
            return Some(Ok(session.reply(out).with(|_| {}).into()));
        }
        out.truncate(mark);
        self.pending.put_back(writes);
        match ended {
            Ok(ended) => ended.err().map(Err),
            Err(why) => {
                if why == Why::Long {
                    note_long(words);
                }
                None
            }
        }
    }

    /// Runs it on top of `waiting`; what it wrote is taken back unless it ended well.
    fn try_here<'t>(
        &'t self,
        session: &'t mut Session,
        (command, words): (&'static Command, &[&[u8]]),
        (waiting, locks): (&mut Option<Suspended>, &'t mut (dyn More + 't)),
        out: &'t mut Vec<u8>,
    ) -> Result<Tried, Error> {
        let Some(engine) = self.guard.as_deref() else { return Err(Error::text(LOADING)) };
        let (store, cluster) = (self.store()?, self.cluster.as_deref().map(Arc::as_ref));
        let (reads_only, namespace) = (self.reads_only(), Arc::clone(&session.namespace));
        // The master's batches, which change what it reads there, take no locks.
        let moment = reads_only.then(|| store.txn().moment());
        let txn = match (&moment, waiting.take()) {
            (Some(moment), _) => moment.txn(),
            (None, Some(writes)) => store.txn_resumed(writes),
            (None, None) => store.txn(),
        };
        let (before, count) = (txn.mark(), txn.count());
        let mut write = WriteCx {
            txn,
            serves: None,
            beyond: Beyond::These(&[]),
            scope: scope_in(&namespace, &self.config, self.now_ms),
            node: self.node,
            config: &self.config,
            worker: self.worker,
            touched: Touched::default(),
        };
        let at = (self.node, &self.config, self.worker, self.now_ms);
        let mut cx = NestedCx::new(at, session, (store, self.generation, true), out);
        cx.reads_only = reads_only;
        cx.stay(Here::new(engine, cluster, locks));
        let limit = Budget { time: TIME_HERE, ..long::budget(&self.config) };
        if budget::within(limit, || cx.call(&mut write, command, words)).is_none() {
            cx.give_way(Why::Long);
        }
        let call: Call<'_> = (command, words.iter().copied().collect::<Words<'_>>());
        let ended = cx.end_here(&call, write.txn.count() > count);
        if ended.is_ok() {
            cx.tell_counted();
        }
        let is_awaited = cx.is_awaited();
        drop(cx);
        if !matches!(ended, Ok(Ok(_))) {
            write.txn.rollback(before);
        }
        Ok(Tried { writes: write.txn.suspend(), ended, is_awaited })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_took_too_long_goes_aside_so_often_and_is_tried_again() {
        let (long, other): ([&[u8]; 2], [&[u8]; 2]) = ([b"EVALSHA", b"a"], [b"EVALSHA", b"b"]);
        note_aside(&long);
        assert!(!is_long(&long));
        for spell in [1, 3, 7, 15, 31, 63, 63] {
            note_long(&long);
            for _ in 0..spell {
                assert!(is_long(&long) && !is_long(&other));
                note_aside(&long);
            }
            assert!(!is_long(&long), "{spell}");
        }
        note_short(&long);
        note_long(&long);
        note_aside(&long);
        assert!(!is_long(&long), "it is as the first time");
        // With the one above it is one too many: all others are forgotten for the last.
        for number in 0..LONG_MAX {
            note_long(&[b"EVALSHA", number.to_string().as_bytes()]);
        }
        assert!(!is_long(&[b"EVALSHA", b"0"]));
        assert_eq!(LONG.with_borrow(HashMap::len), 1);
    }
}
