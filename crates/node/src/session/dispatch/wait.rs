//! Commands that wait if there is nothing for them.

use std::sync::Arc;

use resp::{Room, Writer};
use storage::budget;

use super::super::expire::AT_ONCE;
use super::super::gates;
use super::super::long;
use super::super::nested::lock;
use super::super::serve::{self, Ready, Server};
use super::super::table::{BlockingHandler, BlockingReadHandler, Nil, Taken, Wait};
use super::super::{After, Beyond, Command, Session, WriteCx};
use super::Batch;
use crate::command::{Args, Error, Reply, Words};
use crate::events;
use crate::locks::Locks;
use crate::node::Node;
use crate::waiters::Wish;

impl<'n> Batch<'n> {
    /// Runs a command that waits if there is nothing for it: a batch of its own.
    pub(super) fn run_blocking(
        &mut self,
        session: &Session,
        command: &Command,
        handler: BlockingHandler,
        words: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<After, Error> {
        let mark = out.len();
        let ran = self.try_blocking(session, command, handler, words, out);
        if ran.is_err() {
            // The reply of what was not committed: an error stands in its place.
            out.truncate(mark);
        }
        ran
    }

    fn try_blocking(
        &mut self,
        session: &Session,
        command: &Command,
        handler: BlockingHandler,
        words: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<After, Error> {
        let node: &'n Arc<Node> = self.node;
        let stripes = Locks::stripes(command.keys_in(words));
        let held = lock(node, &stripes)?;
        let store = self.store()?.clone();
        let scope = session.scope(&self.config, self.now_ms);
        let (config, worker, now_ms) = (&*self.config, self.worker, self.now_ms);
        let (txn, touched) = (store.txn(), events::Touched::default());
        let beyond = Beyond::These(&[]);
        let mut cx = WriteCx { txn, serves: None, beyond, scope, node, config, worker, touched };
        let before = cx.txn.mark();
        let found = events::look(config.notify_keyspace_events, command, words, &cx.txn, cx.scope);
        self.ended.extend(found.ended.iter().take(AT_ONCE).cloned());
        let taken = handler(&mut cx, &mut Args::behind(command.names, words), session.reply(out))?;
        let after: After = match taken {
            Taken::Replied(replied) => replied.into(),
            // Before the keys are let go of: no write comes in between.
            Taken::Nothing(wait) => {
                After::Blocked(node.waiters.add(wish(node, session, words, wait)))
            }
        };
        if matches!(after, After::Blocked(_)) && cx.txn.count() == 0 {
            return Ok(after);
        }
        let writer = Some(session.client.id);
        let server = Server { node, config, store: &store, worker, now_ms, writer };
        let mut ready = Ready::new();
        let tell = |batch: &[u8]| serve::note(&server, batch, &mut ready);
        let touched = cx.take_touched(writer);
        let at = (&cx.txn, before, cx.scope);
        let events =
            events::of(config.notify_keyspace_events, command, words, at, (touched, &found));
        let has_written = cx.txn.commit_and_tell(tell)?.is_some();
        server.tell_events(&events);
        server.serve_holding(&mut ready, &stripes);
        drop(held);
        server.serve(ready);
        self.has_written |= has_written;
        Ok(after)
    }

    /// Runs a read that waits if there is nothing for it. It takes no locks, which would keep
    /// nothing away on a replica: it looks again once it is among those that wait, so that no write
    /// comes in between.
    pub(super) fn run_blocking_read(
        &self,
        session: &Session,
        command: &'static Command,
        handler: BlockingReadHandler,
        words: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<After, Error> {
        let mark = out.len();
        let room = self.room(session, mark);
        let mut looked = || self.look(session, command, handler, words, (&mut *out, room.as_ref()));
        let looked = match session.has_looked {
            true => Some(looked()),
            false => budget::within(long::budget(&self.config), looked),
        };
        if self.asks_much(session, room.as_ref()) {
            out.truncate(mark);
            return Ok(After::Again(gates::until_there_is_room()));
        }
        let wait = match looked {
            None => return Ok(self.run_elsewhere(session, (command, words), (mark, out))),
            Some(Ok(Taken::Replied(replied))) => return Ok(replied.into()),
            Some(Ok(Taken::Nothing(wait))) => wait,
            Some(Err(error)) => return Err(error),
        };
        let (mark, wish) = (out.len(), wish(self.node, session, words, wait));
        let again = wish.words.clone();
        let waiting = self.node.waiters.add(wish);
        let words: Words<'_> = again.iter().map(Vec::as_slice).collect();
        let found = match self.look(session, command, handler, &words, (&mut *out, room.as_ref())) {
            Ok(Taken::Nothing(_)) => return Ok(After::Blocked(waiting)),
            Ok(Taken::Replied(replied)) => Ok(replied.into()),
            Err(error) => Err(error),
        };
        if waiting.withdraw() {
            if self.asks_much(session, room.as_ref()) {
                out.truncate(mark);
                return Ok(After::Again(gates::until_there_is_room()));
            }
            return found;
        }
        // The batch that changed the key was quicker, and has answered.
        out.truncate(mark);
        Ok(After::Blocked(waiting))
    }

    fn look<'w>(
        &self,
        session: &Session,
        command: &Command,
        handler: BlockingReadHandler,
        words: &'w [&'w [u8]],
        (out, room): (&mut Vec<u8>, Option<&Room>),
    ) -> Result<Taken<'w>, Error> {
        let txn = self.store()?.txn();
        let cx = self.read_cx(session, &txn);
        let reply = Reply::new(Writer::new(out, session.protocol).within(room));
        handler(&cx, &mut Args::behind(command.names, words), reply)
    }
}

/// What is remembered of a command while it waits.
fn wish(node: &Node, session: &Session, words: &[&[u8]], wait: Wait<'_>) -> Wish {
    let mut nil = Vec::new();
    // Whatever kind it answers inside EXEC.
    Nil::Array.write(&mut Writer::new(&mut nil, session.protocol));
    let owned = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect();
    Wish {
        client: session.client.id,
        is_other: wait.words.is_some(),
        words: wait.words.unwrap_or_else(|| owned(words)),
        keys: owned(&wait.keys),
        minds_end: wait.minds_end,
        user: session.account(node).cloned(),
        protocol: session.protocol,
        namespace: Arc::clone(&session.namespace),
        nil,
        patience: wait.patience,
        standing: session.standing,
    }
}
