//! Commands inside a command: they run one after the other under the locks of their keys, see each
//! other's writes, and become one batch. EXEC runs so what was queued.
//!
//! No gate is asked here. All of them were passed for the whole of EXEC before its first command
//! runs (`Batch::pass`), so a transaction that is not allowed to run does not run by half. What a
//! single command can still say is what depends on its data.

use std::sync::Arc;
use std::time::Duration;

use resp::Writer;
use storage::types::keys;

use super::long::{self, Aside, Gaps, Job};
use super::serve::{self, Ready, Server};
use super::table::{Handler, Taken};
use super::{
    After, Auth, Command, LongRead, NestedCx, ReadCx, Session, SessionCx, Tells, WriteCx, scope_in,
};
use crate::clock;
use crate::command::{Args, Error, Flags, Reply, Result, Words};
use crate::config::Values;
use crate::locks::{Held, Locks};
use crate::node::Node;

/// A command that runs inside another one, and its words.
pub type Call<'w> = (&'static Command, Words<'w>);

impl<'a> NestedCx<'a> {
    /// The locks of all keys that these commands name. The caller holds none.
    pub fn lock(&mut self, calls: &[Call<'_>]) -> Held<'a> {
        let locks = &self.node.locks;
        if calls.iter().any(|(command, _)| command.flags.has(Flags::ALL_KEYS)) {
            self.held = Locks::all_stripes();
            return locks.lock_all();
        }
        let keys = calls.iter().flat_map(|(command, words)| command.keys_in(words));
        self.held = Locks::stripes(keys);
        locks.lock(&self.held)
    }

    /// A watched key that existed and has expired or was emptied since is a change too.
    pub fn has_expired(&self) -> Result<bool> {
        let txn = self.store.txn();
        let scope = self.session.scope(self.config, self.now_ms);
        for key in self.session.transaction.watched_existing() {
            if keys::exists(&txn, &scope, &[key])? == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What serves those who wait for keys that the commands changed.
    pub(super) fn server(&self) -> Server<'_> {
        Server {
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

    /// Runs the commands on a transaction of their own, and commits it; the reply is an array.
    pub fn run_all(&mut self, calls: &[Call<'_>]) -> Result<After> {
        let (mark, mut closes) = (self.mark(), false);
        self.aside = Some(Aside::new());
        Writer::new(self.out, self.session.protocol).array(calls.len());
        let namespace = Arc::clone(&self.session.namespace);
        let mut write = WriteCx {
            txn: self.store.txn(),
            serves: None,
            scope: scope_in(&namespace, self.config, self.now_ms),
            node: self.node,
            config: self.config,
            worker: self.worker,
        };
        for (command, words) in calls {
            closes |= self.call(&mut write, command, words);
        }
        let mut ready = Ready::new();
        let server = self.server();
        let tell = |batch: &[u8]| serve::note(&server, batch, &write.scope, &mut ready);
        match write.txn.commit_and_tell(tell) {
            Ok(Some(_)) => {
                self.has_written = true;
                self.server().serve_holding(&mut ready, &self.held);
                self.ready.extend(ready);
            }
            Ok(None) => {}
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
        self.has_data |= command.is_data();
        tell_monitors(self.node, self.config, self.session, command, words);
        let (mark, before) = (self.mark(), write.txn.mark());
        match self.run(write, command, words) {
            Ok(closes) => closes,
            Err(error) => {
                write.txn.rollback(before);
                self.take_back(mark);
                error.log(command.name);
                self.reply().error(&error.to_string());
                false
            }
        }
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
            Handler::BlockingRead(handler) => {
                let read = |cx: &ReadCx<'_>, reply: Reply<'_>| handler(cx, &mut args, reply);
                if let Some(Taken::Nothing(wait)) = self.read(write, (command, words), read)? {
                    self.reply().with(|writer| wait.nil.write(writer));
                }
            }
            Handler::Write(handler) => {
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
                    now_ms: self.now_ms,
                };
                match handler(&mut cx, &mut args, reply)? {
                    After::Next(_) => {}
                    After::Close => return Ok(true),
                    _ => return Err(Error::err("this command is not possible inside EXEC")),
                }
            }
            Handler::Nested(_) => return Err(Error::err("MULTI calls can not be nested")),
            Handler::Container => return Err(Error::Syntax),
        }
        Ok(false)
    }
}

impl NestedCx<'_> {
    /// Runs a read; `None` if it took too long and is put aside: it is to see then what it would
    /// have seen now.
    fn read<T>(
        &mut self,
        write: &WriteCx<'_>,
        call: (&'static Command, &[&[u8]]),
        read: impl FnOnce(&ReadCx<'_>, Reply<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let Some(mut aside) = self.aside.take() else {
            return read(&read_in(write), self.reply()).map(Some);
        };
        let mark = self.mark();
        let done = aside.within(self.config, || read(&read_in(write), self.reply()));
        if done.is_none() {
            self.take_back(mark);
            let when = (self.now_ms, self.generation);
            let job = Job::new((self.node, self.config), self.session, call, when);
            let moment = Some(write.txn.moment());
            aside.jobs.push((mark, Job { moment, ..job }));
        }
        self.aside = Some(aside);
        done.transpose()
    }
}

/// What a read sees in the middle of a transaction.
fn read_in<'w>(write: &'w WriteCx<'_>) -> ReadCx<'w> {
    ReadCx {
        txn: &write.txn,
        serves: None,
        scope: write.scope,
        node: write.node,
        config: write.config,
        worker: write.worker,
    }
}

/// Tells those who watch what runs. What holds secrets or is for administrators is not shown.
pub(super) fn tell_monitors(
    node: &Node,
    config: &Values,
    session: &Session,
    command: &Command,
    words: &[&[u8]],
) {
    let flags = command.flags;
    let is_hidden =
        flags.has(Flags::SKIP_SLOWLOG) || flags.has(Flags::ADMIN) || flags.has(Flags::PEER);
    if node.monitors.any() && !is_hidden && session.auth != Auth::Peer {
        let now = Duration::from_micros(clock::unix_us());
        node.monitors.tell(&session.client, words, now, config.subscriber_limit());
    }
}
