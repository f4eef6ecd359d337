//! Commands that waited for a key are served by the batch that changed it.
//!
//! They run as they were sent, in order of arrival, each as a batch of its own, while the keys of
//! the changing batch are still locked. A command that names other keys too is served at once only
//! if those are free; else afterwards, under all its locks. If a script holds one of them, maybe
//! for long, the command begins anew on its own connection: the worker that changed the key does
//! not wait, as it has other clients.
//!
//! The permissions of a waiting command's user are checked again before it gets anything, as in
//! Redis. If they no longer suffice, it is answered with the refusal, and the next command in line
//! is served.
//!
//! Answers leave once no locks are held: some from here, the others from their connections.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;
use resp::Writer;
use storage::budget::{self, Budget};
use storage::changes::{self, Change};
use storage::types::keys;
use storage::{Name, Store};

use super::long;
use super::table::{self, Handler, Taken};
use super::{Beyond, Command, ReadCx, WriteCx, scope_in};
use crate::acl::log::{Context, Refusal};
use crate::command::{Args, Error, Reply, Words};
use crate::config::Values;
use crate::events::{self, Event};
use crate::locks::Locks;
use crate::node::Node;
use crate::scripts::SLICE;
use crate::tracking::Sending;
use crate::waiters::{Answer, Slot, Told, Waiter};

/// So many answers of one batch are sent by the thread that made them. The others are sent by their
/// own connections, which hear of them at once: their workers share the work, and no thread holds
/// all of these answers in memory.
const SENT_HERE: usize = 8;

/// For how long a waiting read may keep the thread that serves it, whatever its steps.
const READ_TIME: Duration = Duration::from_millis(100);

/// Keys that others wait for, and that got something: the ids of their names, each once. A client
/// may wait for any number of keys, and a batch may give something to all of them. Also the answers
/// to the commands that were served.
#[derive(Debug, Default)]
pub struct Ready {
    queue: VecDeque<Arc<[u8]>>,
    known: HashSet<Arc<[u8]>>,
    answers: Vec<Answer>,
    /// How many answers there were.
    kept: usize,
}

impl Ready {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.answers.is_empty()
    }

    fn add(&mut self, id: &[u8]) {
        if !self.known.contains(id) {
            let id: Arc<[u8]> = id.into();
            self.known.insert(Arc::clone(&id));
            self.queue.push_back(id);
        }
    }

    /// Takes the first one.
    fn take(&mut self) -> Option<Arc<[u8]>> {
        let id = self.queue.pop_front()?;
        self.known.remove(&id);
        Some(id)
    }

    /// These too.
    pub fn append(&mut self, mut others: Self) {
        while let Some(id) = others.take() {
            self.add(&id);
        }
        for answer in others.answers {
            self.keep(answer);
        }
    }

    /// Keeps an answer until no locks are held, or leaves it to its connection.
    fn keep(&mut self, answer: Answer) {
        if self.kept < SENT_HERE {
            self.kept += 1;
            self.answers.push(answer);
        }
    }

    /// Lets the answers leave.
    fn answer(&mut self) {
        self.answers.drain(..).for_each(Answer::send);
    }
}

/// What came of the locks of a waiting command.
enum Locking<L> {
    Held(L),
    /// Its key is tried again once the caller holds no locks.
    Later,
    /// They will not be free soon: it begins anew.
    Anew,
}

/// What serving needs to know of the batch that does it.
#[derive(Clone, Copy)]
pub struct Server<'a> {
    /// The node.
    pub node: &'a Node,
    /// The current options.
    pub config: &'a Values,
    /// The database.
    pub store: &'a Store,
    /// Index of the worker.
    pub worker: usize,
    /// Unix ms of the batch.
    pub now_ms: u64,
    /// Number of the connection that wrote it, if it was one.
    pub writer: Option<u64>,
}

/// Tells watchers and subscribers what a batch changed, and notes the keys for which commands wait.
pub fn note(server: &Server<'_>, batch: &[u8], ready: &mut Ready) {
    server.node.watches.touch_changed(batch, server.config.cluster_enabled);
    note_removed(server, batch, ready);
}

/// The same for a batch that only removes keys which had already ended: watchers see no change.
pub fn note_removed(server: &Server<'_>, batch: &[u8], ready: &mut Ready) {
    let (node, cluster) = (server.node, server.config.cluster_enabled);
    let (limit, now_ms) = (server.config.subscriber_limit(), server.now_ms);
    node.pubsub.deliver(batch, cluster, limit);
    node.tracking.tell(batch, cluster, server.writer, Sending { limit, now_ms });
    note_ready(node, batch, cluster, ready);
}

/// Tells subscribers and tracking clients what a batch of the master changed, and applies its
/// changes of namespaces. Watchers were told by [`crate::watch::Watches::applying`].
pub fn note_applied(node: &Node, batch: &[u8]) {
    let config = node.config.now();
    let (limit, cluster) = (config.subscriber_limit(), config.cluster_enabled);
    if node.replication.news.has(batch) {
        node.pubsub.deliver(batch, cluster, limit);
    }
    let sending = Sending { limit, now_ms: crate::clock::unix_ms() };
    node.tracking.tell(batch, cluster, None, sending);
    node.namespaces.take_up(&config, batch);
}

/// Notes the keys of a batch for which commands wait.
pub fn note_ready(node: &Node, batch: &[u8], cluster: bool, ready: &mut Ready) {
    if !node.waiters.any() {
        return;
    }
    for change in changes::of(batch, cluster) {
        match change {
            Change::Key(key) | Change::Emptied(key) if node.waiters.is_awaited(&key) => {
                ready.add(&key.id());
            }
            // What gives a key something says so of the key too.
            Change::Key(_) | Change::Emptied(_) | Change::Part(_) | Change::Group(_) => {}
            Change::Message { .. } | Change::Namespaces(_) => {}
            Change::Range { namespace } => {
                node.waiters.minding_ends(namespace).iter().for_each(|id| ready.add(id));
            }
        }
    }
}

impl Server<'_> {
    /// Tells of what commands did, once it is written.
    pub fn tell_events(&self, events: &[Event]) {
        let (wanted, limit) = (self.config.notify_keyspace_events, self.config.subscriber_limit());
        events::deliver(&self.node.pubsub, wanted, events, limit, self.now_ms);
    }

    /// Serves the commands that wait for these keys, whose stripes the caller holds. The rest of
    /// `ready` is to be served once the caller holds none. True if something was written.
    pub fn serve_holding(&self, ready: &mut Ready, held: &[u16]) -> bool {
        let (mut has_written, mut later) = (false, Ready::new());
        while let Some(key) = ready.take() {
            let is_done = self.serve_key(&key, ready, &mut has_written, |server, stripes| {
                let more: Vec<u16> =
                    stripes.iter().copied().filter(|stripe| !held.contains(stripe)).collect();
                server.node.locks.try_lock(&more).map_or(Locking::Later, Locking::Held)
            });
            if !is_done {
                later.add(&key);
            }
        }
        ready.append(later);
        has_written
    }

    /// The same for a caller that holds no locks. Afterwards the answers leave.
    pub fn serve(&self, mut ready: Ready) -> bool {
        // One bound for all of them together, however many wait.
        let (mut has_written, mut patience) = (false, SLICE);
        // Clients that were served under the caller's locks do not wait for others'.
        ready.answer();
        while let Some(key) = ready.take() {
            self.serve_key(&key, &mut ready, &mut has_written, |server, stripes| {
                let held = server.node.locks.lock_within(stripes, patience);
                held.map_or_else(
                    || {
                        patience = Duration::ZERO;
                        Locking::Anew
                    },
                    Locking::Held,
                )
            });
            // Nor do those who were served now.
            ready.answer();
        }
        has_written
    }

    /// Serves the reads that wait for these keys. A replica does so when its master's batch has
    /// changed them, and serves nothing else.
    pub fn serve_reads(&self, ready: &Ready) {
        for id in &ready.queue {
            let Some(name) = Name::of(id) else { continue };
            let mut places = self.node.waiters.places();
            while let Some((waiter, behind)) = self.node.waiters.next(id, places, false) {
                places = behind;
                // Its connection sends: the thread of the stream has better to do.
                self.serve_read(&waiter, name.key, &mut Ready::new());
            }
        }
    }

    /// Serves the commands that wait for a key; false if one of them could not get its locks.
    fn serve_key<'s, L>(
        &'s self,
        id: &[u8],
        ready: &mut Ready,
        has_written: &mut bool,
        mut lock: impl FnMut(&'s Self, &[u16]) -> Locking<L>,
    ) -> bool {
        let Some(Name { key, .. }) = Name::of(id) else { return true };
        let (mut is_gone, mut places) = (false, self.node.waiters.places());
        while let Some((waiter, behind)) = self.node.waiters.next(id, places, is_gone) {
            places = behind;
            // One that was killed may not have noticed yet: it gets nothing.
            let is_passed_over = is_gone && !waiter.minds_end
                || self.node.clients.is_gone(waiter.client)
                || self.serve_read(&waiter, key, ready);
            if is_passed_over {
                continue;
            }
            let words: Words<'_> = waiter.words.iter().map(Vec::as_slice).collect();
            let Some((_, command)) = table::find(&self.config.renames, &words) else { continue };
            let stripes = Locks::stripes(command.keys_in(&words));
            let _alone = match lock(self, &stripes) {
                Locking::Held(held) => held,
                Locking::Later => return false,
                Locking::Anew => {
                    self.node.waiters.tell(&waiter, Told::Again);
                    continue;
                }
            };
            let scope = scope_in(&waiter.namespace, self.config, self.now_ms);
            is_gone = matches!(keys::exists(&self.store.txn(), &scope, &[key]), Ok(0));
            if !is_gone || waiter.minds_end {
                *has_written |= self.serve_one(&waiter, command, (&words, key), ready);
            }
        }
        true
    }

    /// Runs a waiting read; false if it is none. It takes no locks.
    fn serve_read(&self, waiter: &Arc<Waiter>, key: &[u8], ready: &mut Ready) -> bool {
        let words: Words<'_> = waiter.words.iter().map(Vec::as_slice).collect();
        let Some((_, command)) = table::find(&self.config.renames, &words) else { return false };
        let Handler::BlockingRead(handler, _) = command.handler else { return false };
        let slot = waiter.slot();
        if slot.is_none() {
            return true;
        }
        if let Some(refused) = self.refused(waiter, command, &words) {
            self.answer(waiter, slot, refused, ready);
            return true;
        }
        let (txn, mut out) = (self.store.txn(), Vec::new());
        let cx = ReadCx {
            txn: &txn,
            serves: Some(key),
            scope: scope_in(&waiter.namespace, self.config, self.now_ms),
            node: self.node,
            config: self.config,
            worker: self.worker,
        };
        let reply = Reply::new(Writer::new(&mut out, waiter.protocol));
        let read = || handler(&cx, &mut Args::behind(command.names, &words), reply);
        let limit = Budget { time: READ_TIME, ..long::budget(self.config) };
        match budget::within(limit, read) {
            // As where it came: it is read elsewhere, with what long reads have. E.g. one that
            // names a stream a million times would be given each entry so often, here.
            None => {
                drop(slot);
                self.node.waiters.tell(waiter, Told::Again);
                return true;
            }
            Some(Ok(Taken::Nothing(_))) => return true,
            Some(Ok(Taken::Replied(_))) => {}
            Some(Err(error)) => Self::fail(waiter, command, &error, &mut out),
        }
        self.answer(waiter, slot, out, ready);
        true
    }

    /// Runs a waiting command; true if it wrote something. Its keys are locked.
    fn serve_one(
        &self,
        waiter: &Arc<Waiter>,
        command: &'static Command,
        (words, key): (&[&[u8]], &[u8]),
        ready: &mut Ready,
    ) -> bool {
        let Handler::Blocking(handler) = command.handler else { return false };
        let slot = waiter.slot();
        if slot.is_none() {
            return false;
        }
        if let Some(refused) = self.refused(waiter, command, words) {
            self.answer(waiter, slot, refused, ready);
            return false;
        }
        let (mut out, scope) = (Vec::new(), scope_in(&waiter.namespace, self.config, self.now_ms));
        let mut cx = WriteCx {
            txn: self.store.txn(),
            serves: Some(key),
            beyond: Beyond::These(&[]),
            scope,
            node: self.node,
            config: self.config,
            worker: self.worker,
            touched: events::Touched::default(),
        };
        let reply = Reply::new(Writer::new(&mut out, waiter.protocol));
        let mut args = Args::behind(command.names, words);
        let (before, wanted) = (cx.txn.mark(), self.config.notify_keyspace_events);
        let found = events::look(wanted, command, words, &cx.txn, cx.scope);
        let taken = handler(&mut cx, &mut args, reply).and_then(|taken| match taken {
            Taken::Nothing(_) => Ok(None),
            Taken::Replied(_) => {
                let touched = cx.take_touched(Some(waiter.client));
                let at = (&cx.txn, before, cx.scope);
                let events = events::of(wanted, command, words, at, (touched, &found));
                let server = Server { writer: Some(waiter.client), ..*self };
                let tell = |batch: &[u8]| note(&server, batch, ready);
                let has_written = cx.txn.commit_and_tell(tell)?.is_some();
                self.tell_events(&events);
                Ok(Some(has_written))
            }
        });
        let has_written = match taken {
            Ok(None) => return false,
            Ok(Some(has_written)) => has_written,
            Err(error) => {
                Self::fail(waiter, command, &error, &mut out);
                false
            }
        };
        self.answer(waiter, slot, out, ready);
        has_written
    }

    /// The refusal, if its user may not run it any more; noted in ACL LOG.
    fn refused(&self, waiter: &Waiter, command: &Command, words: &[&[u8]]) -> Option<Vec<u8>> {
        let account = waiter.user.as_ref()?;
        let refused = account.refusal(&command.row, words)?;
        let client = self.node.clients.find(waiter.client);
        let refusal = Refusal {
            reason: refused.reason,
            context: Context::Toplevel,
            object: refused.object,
            user: account.name.clone(),
            client: client.map(|client| client.line(self.now_ms)).unwrap_or_default(),
        };
        let limit = usize::try_from(self.config.acllog_max_len).unwrap_or(usize::MAX);
        self.node.acl.log.add(refusal, self.now_ms, limit);
        Some(format!("-{}\r\n", refused.text).into_bytes())
    }

    fn answer(
        &self,
        waiter: &Arc<Waiter>,
        slot: MutexGuard<'_, Slot>,
        out: Vec<u8>,
        ready: &mut Ready,
    ) {
        self.node.stats.errors.note_reply(&out);
        if let Some(answer) = self.node.waiters.answer(waiter, slot, out) {
            ready.keep(answer);
        }
    }

    fn fail(waiter: &Waiter, command: &Command, error: &Error, out: &mut Vec<u8>) {
        error.log(command.name);
        out.clear();
        Reply::new(Writer::new(out, waiter.protocol)).error(&error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiters::{Waiters, Waiting, Wish};

    #[test]
    fn a_key_is_ready_once_and_again_once_it_was_taken() {
        let (mut ready, mut others) = (Ready::new(), Ready::new());
        ["b", "a", "b"].iter().for_each(|id| ready.add(id.as_bytes()));
        ["a", "c"].iter().for_each(|id| others.add(id.as_bytes()));
        ready.append(others);
        assert_eq!(ready.take().as_deref(), Some(&b"b"[..]));
        ready.add(b"b");
        let rest: Vec<_> = std::iter::from_fn(|| ready.take()).collect();
        assert_eq!(rest.iter().map(|id| &**id).collect::<Vec<_>>(), [b"a", b"c", b"b"]);
        assert!(ready.is_empty());
    }

    #[test]
    fn of_many_answers_those_that_are_not_sent_here_are_told_at_once() {
        let (waiters, name) = (Arc::new(Waiters::default()), Name { namespace: b"n", key: b"q" });
        let wish = |client: u64| Wish {
            client,
            words: Vec::new(),
            is_other: false,
            keys: vec![b"q".to_vec()],
            minds_end: false,
            user: None,
            protocol: resp::Protocol::V2,
            namespace: Arc::from(&b"n"[..]),
            nil: Vec::new(),
            patience: None,
            standing: None,
        };
        let mut waiting: Vec<Waiting> = (0..10).map(|client| waiters.add(wish(client))).collect();
        let (mut first, mut ready) = (Ready::new(), Ready::new());
        for number in 0..10 {
            let (waiter, _) = waiters.next(&name.id(), waiters.places(), false).unwrap();
            let answer = waiters.answer(&waiter, waiter.slot(), b"+OK\r\n".to_vec()).unwrap();
            let to = if number < 3 { &mut first } else { &mut ready };
            to.keep(answer);
        }
        // The bound is for all answers of a batch.
        ready.append(first);
        let told = |waiting: &mut [Waiting]| -> Vec<usize> {
            let told = waiting.iter_mut().enumerate();
            told.filter_map(|(place, one)| one.now().map(|_| place)).collect()
        };
        assert_eq!(told(&mut waiting), [1, 2]);
        ready.answer();
        assert_eq!(told(&mut waiting), [0, 3, 4, 5, 6, 7, 8, 9]);
    }
}
