//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.

use std::sync::Arc;

use storage::Name;

use crate::command::keys::KEYS;
use crate::command::row::Access;
use crate::command::{Args, Error, Flags, Reply, Result};
use crate::session::table::Call;
use crate::session::transaction::Queued;
use crate::session::{After, Command, NestedCx, SessionCx};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::session("multi",    1, multi).fast().unqueued().no_script(),
    Command::nested ("exec",     1, Access::None, exec).runs_queue().unqueued().no_script().skip_slowlog(),
    Command::session("discard",  1, discard).fast().unqueued().no_script(),
    Command::session("watch",   -2, watch).keyed(KEYS).fast().unqueued().no_script(),
    Command::session("unwatch",  1, unwatch).fast().no_script(),
];

fn multi(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    if cx.session.transaction.is_open() {
        return Err(Error::text("ERR MULTI calls can not be nested"));
    }
    cx.session.transaction.open();
    Ok(reply.ok().into())
}

fn exec(cx: &mut NestedCx<'_>, _args: &mut Args<'_>) -> Result<After> {
    let node = Arc::clone(cx.node);
    let transaction = &mut cx.session.transaction;
    if !transaction.is_open() {
        return Err(Error::text("ERR EXEC without MULTI"));
    }
    let is_aborted = transaction.is_aborted;
    let queued = transaction.take();
    if is_aborted {
        transaction.unwatch(&node);
        return Err(Error::text("EXECABORT Transaction discarded because of previous errors."));
    }
    let calls: Vec<Call<'_>> = queued.iter().map(Queued::call).collect();
    // A script may touch keys that it does not name.
    cx.wants_all |= calls.iter().any(|(command, _)| command.flags.has(Flags::SCRIPT));
    if let Err(error) = cx.lock(&calls) {
        drop(calls);
        cx.session.transaction.put_back(queued);
        return Err(error);
    }
    let is_fixed = cx.fix_moment();
    let has_changed = cx.session.transaction.may_have_changed(&node) || cx.has_expired()?;
    let only_reads = calls.iter().all(|(command, _)| command.access == Access::Read);
    let mark = cx.mark();
    let done = match has_changed {
        true => Ok(None),
        false => cx.run_all(&calls).map(Some),
    };
    // A replica applies without key locks: what was read may be newer than what was watched, where
    // clients may write besides, and there is no moment.
    let is_torn = (only_reads && !is_fixed)
        && (cx.session.transaction.may_have_changed(&node) || cx.has_expired().unwrap_or(true));
    cx.session.transaction.unwatch(&node);
    match done? {
        Some(done) if !is_torn => Ok(done),
        _ => {
            cx.take_back(mark);
            Ok(cx.reply().with(|writer| writer.null_array()).into())
        }
    }
}

fn discard(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    if !cx.session.transaction.is_open() {
        return Err(Error::text("ERR DISCARD without MULTI"));
    }
    cx.session.transaction.take();
    cx.session.transaction.unwatch(cx.node);
    Ok(reply.ok().into())
}

fn watch(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    if cx.session.transaction.is_open() {
        return Err(Error::text("ERR WATCH inside MULTI is not allowed"));
    }
    let namespace = Arc::clone(&cx.session.namespace);
    for key in args.rest() {
        // Watched first: a change between the look and the watch must not go unseen.
        let name = Name { namespace: &namespace, key };
        if !cx.session.transaction.watch(cx.node, &name) {
            return Err(Error::err("the names of the keys that are watched are too long"));
        }
        let engine = cx.node.engine();
        let Some(store) = &engine.store else { continue };
        let exists = storage::types::keys::exists(&store.txn(), &cx.scope(), &[key])? > 0;
        cx.session.transaction.note_existing(&name, exists);
    }
    Ok(reply.ok().into())
}

fn unwatch(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    cx.session.transaction.unwatch(cx.node);
    Ok(reply.ok().into())
}
