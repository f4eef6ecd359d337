//! Commands inside a command: they run one after the other under the locks of their keys, see each
//! other's writes, and become one batch. EXEC runs so what was queued.
//!
//! No gate is asked here. All of them were passed for the whole of EXEC before its first command
//! runs (`Batch::pass`), so a transaction that is not allowed to run does not run by half. What a
//! single command can still say is what depends on its data.

mod alone;
mod counted;
mod each;
mod here;
mod identity;
mod monitors;
mod noted;
mod reads;
mod sampled;

use std::cell::OnceCell;
use std::sync::Arc;

use parking_lot::RwLockReadGuard;
use resp::{Protocol, Writer};
use smallvec::SmallVec;
use storage::types::keys;
use storage::{Moment, Scope, Store};
use topology::Slot;

use super::long::{self, Aside, Gaps};
use super::serve::{self, Ready, Server};
use super::table::{Call, Handler, Taken};
use super::{After, Command, LongRead, ReadCx, Session, SessionCx, Tells, WriteCx, scope_in};
use crate::clock;
use crate::command::{Args, Error, Flags, Reply, Result};
use crate::config::Values;
use crate::events::{self, Event};
use crate::gate::Engine;
use crate::locks::{Held, Stripes};
use crate::node::Node;
use crate::stats::Outcome;
pub use alone::{GIVES_WAY, lock};
pub use here::{Here, More, TIME_HERE, Why, is_awaited};
use identity::Identity;
pub(super) use monitors::tell_monitors;

/// What is answered when a script cannot be ended under the role it began with.
pub const CHANGED: &str =
    "the role of this node changed while the script ran: nothing of it was written";

/// What a command sees that runs others.
pub struct NestedCx<'a> {
    /// The node.
    pub node: &'a Arc<Node>,
    /// The connection.
    pub session: &'a mut Session,
    /// The current options.
    pub config: &'a Arc<Values>,
    /// All keys are to be locked, not only those that the commands name.
    pub wants_all: bool,
    /// Slots of keys that were touched without being named.
    pub touched: Vec<Slot>,
    /// All keys were touched without being named.
    touched_all: bool,
    store: &'a Store,
    worker: usize,
    now_ms: u64,
    /// When its keys were locked, Unix µs, which TIME tells.
    began_us: u64,
    /// Generation of the write gate when it began.
    generation: u64,
    /// The batch holds the write gate.
    holds_gate: bool,
    /// It is at a replica that takes no writes of clients.
    pub(super) reads_only: bool,
    /// The moment that all commands read at such a replica, while the master's batches are applied.
    moment: Option<Arc<Moment>>,
    /// Reads that took too long, and where their replies belong; `None` where all must be read at
    /// once.
    aside: Option<Aside>,
    /// Where replies go.
    out: &'a mut Vec<u8>,
    /// One of the commands saw data.
    has_data: bool,
    /// Something was written.
    has_written: bool,
    /// The commands are called by a script.
    pub is_in_script: bool,
    /// The next command is the whole that runs, not one of many.
    is_whole: bool,
    /// It runs on the worker of its connection.
    here: Option<Here<'a>>,
    /// Why all that was written is to be dropped.
    failed: Option<Error>,
    /// Stripes that the command holds.
    held: Stripes,
    guards: Held<'a>,
    /// The write gate, from the append on, if the batch does not hold it.
    entered: Option<RwLockReadGuard<'a, Engine>>,
    /// Keys for which others wait, to be served when the command holds no locks.
    ready: Ready,
    /// Events of the commands, to be told once the batch is written.
    events: Vec<Event>,
    /// What they found of keys that are not there.
    noted: noted::Noted,
    /// What they count for.
    counted: counted::Counted,
}

impl<'a> NestedCx<'a> {
    /// For one command: where it runs (node, options, worker, Unix ms), the database, and the
    /// generation of the write gate and whether that is held.
    pub fn new(
        (node, config, worker, now_ms): (&'a Arc<Node>, &'a Arc<Values>, usize, u64),
        session: &'a mut Session,
        (store, generation, holds_gate): (&'a Store, u64, bool),
        out: &'a mut Vec<u8>,
    ) -> Self {
        Self {
            node,
            session,
            config,
            wants_all: false,
            touched: Vec::new(),
            touched_all: false,
            store,
            worker,
            now_ms,
            began_us: clock::unix_us(),
            generation,
            holds_gate,
            reads_only: false,
            moment: None,
            aside: None,
            out,
            has_data: false,
            has_written: false,
            is_in_script: false,
            is_whole: false,
            here: None,
            failed: None,
            held: Stripes::new(),
            guards: Held::new(),
            entered: None,
            ready: Ready::new(),
            events: Vec::new(),
            noted: noted::Noted::default(),
            counted: counted::Counted::default(),
        }
    }

    /// Lets go of the locks and serves those who wait for the keys. Returns whether data was seen,
    /// and whether some was written.
    pub fn end(mut self) -> (bool, bool) {
        self.unlock();
        let ready = std::mem::take(&mut self.ready);
        self.server().serve(ready);
        self.remove_ended();
        self.tell_counted();
        (self.has_data, self.has_written)
    }

    /// Marks the whole as failed: none of its writes is to stay. Returns the same error, for the
    /// caller.
    pub fn fail(&mut self, error: Error) -> Error {
        let text = error.to_string();
        let same = if matches!(error, Error::Locked) { Error::Locked } else { Error::text(text) };
        self.failed.get_or_insert(error);
        same
    }

    /// The generation of the write gate under which the command began; `None` if it holds the gate.
    pub fn generation(&self) -> Option<u64> {
        (!self.holds_gate).then_some(self.generation)
    }

    /// A watched key that existed and has expired or was emptied since is a change too.
    pub fn has_expired(&self) -> Result<bool> {
        let txn = self.store.txn();
        for name in self.session.transaction.watched_existing() {
            let scope = scope_in(name.namespace, self.config, self.now_ms);
            if keys::exists(&txn, &scope, &[name.key])? == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What serves those who wait for keys that the commands changed.
    pub(super) fn server(&self) -> Server<'_> {
        Server {
            writer: Some(self.session.client.id),
            node: self.node,
            config: self.config,
            store: self.store,
            worker: self.worker,
            now_ms: self.now_ms,
        }
    }

    /// Where the replies are that come from here on.
    pub fn mark(&self) -> usize {
        self.out.len()
    }

    /// Takes back the replies since a mark.
    pub fn take_back(&mut self, mark: usize) {
        self.out.truncate(mark);
    }

    /// The right to answer once.
    pub fn reply(&mut self) -> Reply<'_> {
        self.session.reply(self.out)
    }

    /// Fixes what the commands read: from the first call on, the database as it is then. Only
    /// needed, and only done, at a replica, where the master's batches change it; returns whether
    /// it is one. A batch marks watched keys before it can be seen, so a look at them after this
    /// call knows of all that is read.
    pub fn fix_moment(&mut self) -> bool {
        if self.reads_only && self.moment.is_none() {
            self.moment = Some(Arc::new(self.store.txn().moment()));
        }
        self.reads_only
    }

    /// Runs the commands on a transaction of their own, and commits it; the reply is an array.
    pub fn run_all(&mut self, calls: &[Call<'_>]) -> Result<After> {
        let mark = self.mark();
        if self.holds_gate {
            self.aside = Some(Aside::new());
        }
        Writer::new(self.out, self.session.protocol).array(calls.len());
        self.run_from(mark, calls)
    }

    /// The same for one command, whose reply is its own.
    pub fn run_one(&mut self, calls: &[Call<'_>; 1]) -> Result<After> {
        // It may be a second try, which reads anew.
        (self.moment, self.is_whole) = (None, true);
        let mark = self.mark();
        self.run_from(mark, calls)
    }

    /// Keys of where the session is now, whose name is kept in `place`.
    fn scope<'p>(&self, place: &'p OnceCell<Arc<[u8]>>) -> Scope<'p> {
        let namespace = place.get_or_init(|| Arc::clone(&self.session.namespace));
        scope_in(namespace, self.config, self.now_ms)
    }

    fn run_from(&mut self, mark: usize, calls: &[Call<'_>]) -> Result<After> {
        self.touched.clear();
        self.touched_all = false;
        self.events.clear();
        self.noted.begin();
        let (seen, whose) = (self.seen(), Identity::of(self.session));
        // Each command may lead to another database.
        let first = OnceCell::new();
        let entered: SmallVec<[OnceCell<Arc<[u8]>>; 1]> =
            calls.iter().map(|_| OnceCell::new()).collect();
        // At a master nothing changes that it reads: it has the locks.
        self.fix_moment();
        let moment = self.moment.clone();
        let mut write = WriteCx {
            txn: match &moment {
                Some(moment) => moment.txn(),
                None => self.store.txn(),
            },
            serves: None,
            beyond: self.beyond(),
            scope: self.scope(&first),
            node: self.node,
            config: self.config,
            worker: self.worker,
            touched: events::Touched::default(),
        };
        let closes = self.call_each(&whose, &mut write, calls, &entered);
        if let Some(error) = self.failed.take() {
            self.take_back(mark);
            return Err(error);
        }
        let entered = self.enter_to_end(calls, seen.as_ref(), write.txn.count() > 0);
        // Held until those are served who wait for the keys.
        self.entered = match entered {
            Ok(entered) => entered,
            Err(error) => {
                self.take_back(mark);
                return Err(error);
            }
        };
        let mut ready = Ready::new();
        let server = self.server();
        let tell = |batch: &[u8]| serve::note(&server, batch, &mut ready);
        match write.txn.commit_and_tell(tell) {
            Ok(written) => {
                self.has_written |= written.is_some();
                // Also where nothing was written: a key may have been touched.
                let events = std::mem::take(&mut self.events);
                self.server().tell_events(&events);
                self.server().serve_holding(&mut ready, &self.held);
                self.ready.append(ready);
            }
            Err(error) => {
                self.take_back(mark);
                return Err(error.into());
            }
        }
        let jobs = self.aside.take().map(|aside| aside.jobs).unwrap_or_default();
        if !jobs.is_empty() {
            let jobs = jobs.into_iter().map(|(at, job)| (at.saturating_sub(mark), job)).collect();
            let gaps = Gaps { reply: self.out.split_off(mark), jobs };
            let tells = if self.has_written { Tells::Write } else { Tells::Read };
            return Ok(After::Long(LongRead { closes, ..long::filling(gaps, tells) }));
        }
        // The array was written piece by piece; this only says so.
        let replied = self.reply().with(|_| {});
        Ok(if closes { After::Close } else { replied.into() })
    }

    /// Runs one command and writes its reply. What it wrote is taken back if it fails. True if the
    /// connection is to be closed afterwards.
    pub fn call(
        &mut self,
        write: &mut WriteCx<'_>,
        command: &'static Command,
        words: &[&[u8]],
    ) -> bool {
        let mark = self.mark();
        // The whole is counted where it began, but for what it answers.
        if self.is_whole {
            let (closes, _) = self.call_uncounted(write, command, words);
            self.count_error(mark);
            return closes;
        }
        // INFO and CONFIG RESETSTAT know of what ran before them.
        if matches!(command.handler, Handler::Session(_)) && !self.is_in_script {
            self.tell_counted();
        }
        let (began, aside) = (self.begin_count(), self.put_aside());
        let (closes, outcome) = self.call_uncounted(write, command, words);
        self.count_error(mark);
        self.count((command, words), began, (outcome, self.put_aside() > aside));
        closes
    }

    fn call_uncounted(
        &mut self,
        write: &mut WriteCx<'_>,
        command: &'static Command,
        words: &[&[u8]],
    ) -> (bool, Outcome) {
        self.has_data |= command.is_data();
        self.touched_all |= command.flags.has(Flags::ALL_KEYS);
        tell_monitors(self.node, self.config, self.session, command, words);
        self.session.note_reading(self.node, self.config, command, words);
        let (mark, before) = (self.mark(), write.txn.mark());
        let wanted = self.config.notify_keyspace_events;
        let found = self.look(write, command, words);
        match self.run_sampled(write, command, words) {
            Ok(closes) => {
                let touched = write.take_touched(Some(self.session.client.id));
                let at = (&write.txn, before, write.scope);
                self.note_missed(command, &found);
                self.events.extend(events::of(wanted, command, words, at, (touched, &found)));
                self.note_awaited(command, words);
                let is_error = self.out.get(mark) == Some(&b'-');
                (closes, if is_error { Outcome::Failed } else { Outcome::Done })
            }
            Err(error) => {
                write.txn.rollback(before);
                write.touched = events::Touched::default();
                self.take_back(mark);
                match &error {
                    // It has read as much as it may here.
                    Error::Storage(storage::Error::Stopped) if self.is_here() => {
                        self.give_way(Why::Long);
                    }
                    // Perhaps only with what waits before it, which is committed first then.
                    Error::Storage(storage::Error::TooLarge { .. }) if self.is_here() => {
                        self.give_way(Why::Busy);
                    }
                    _ => error.log(command.name),
                }
                self.reply().error(&error.to_string());
                let is_refused = matches!(error, Error::Storage(storage::Error::TooLarge { .. }));
                if self.is_in_script && matches!(error, Error::Storage(_)) && !is_refused {
                    self.fail(error);
                }
                (false, Outcome::Failed)
            }
        }
    }

    /// The same for a script: the reply, in the protocol that the script has asked for.
    pub fn call_in_script(
        &mut self,
        write: &mut WriteCx<'_>,
        command: &'static Command,
        words: &[&[u8]],
        protocol: Protocol,
    ) -> Vec<u8> {
        let (own, mark) = (std::mem::replace(&mut self.session.protocol, protocol), self.mark());
        self.call(write, command, words);
        self.session.protocol = own;
        self.out.split_off(mark.min(self.out.len()))
    }

    /// Whether nothing of what was written is to stay.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some() || self.gives_way().is_some()
    }

    fn run(
        &mut self,
        write: &mut WriteCx<'_>,
        command: &'static Command,
        words: &[&[u8]],
    ) -> Result<bool> {
        let mut args = Args::behind(command.names, words);
        match command.handler {
            Handler::Read(handler) => {
                self.read(write, (command, words), |cx, reply| handler(cx, &mut args, reply))?;
            }
            Handler::BlockingRead(handler, _) => {
                let read = |cx: &ReadCx<'_>, reply: Reply<'_>| handler(cx, &mut args, reply);
                if let Some(Taken::Nothing(wait)) = self.read(write, (command, words), read)? {
                    self.reply().with(|writer| wait.nil.write(writer));
                }
            }
            Handler::Write(handler) => {
                // A script takes locks while it runs.
                write.beyond = self.beyond();
                handler(write, &mut args, self.reply())?;
            }
            Handler::Blocking(handler) => {
                if let Taken::Nothing(wait) = handler(write, &mut args, self.reply())? {
                    self.reply().with(|writer| wait.nil.write(writer));
                }
            }
            Handler::Session(handler) => {
                let reply = Reply::new(Writer::new(self.out, self.session.protocol));
                let mut cx = SessionCx {
                    node: self.node,
                    session: self.session,
                    config: self.config,
                    exec: Some(&write.txn),
                    began_us: Some(self.began_us),
                    now_ms: self.now_ms,
                };
                let before = Arc::clone(&cx.session.namespace);
                match handler(&mut cx, &mut args, reply)? {
                    After::Next(_) => {}
                    After::Close => return Ok(true),
                    _ => return Err(Error::err("this command is not possible inside EXEC")),
                }
                if self.is_in_script && self.session.namespace != before {
                    let is_tenant = !self.session.is_admin();
                    self.session.enter(before, is_tenant);
                    return Err(Error::err("a script stays in the database of its caller"));
                }
            }
            Handler::Script(handler) => {
                handler(self, write, &mut args)?;
            }
            Handler::Nested(_) => return Err(Error::err("MULTI calls can not be nested")),
            Handler::Container => return Err(Error::Syntax),
        }
        Ok(false)
    }
}
