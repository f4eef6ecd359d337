//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.

use crate::command::keys::KEYS;
use crate::command::{Args, Error, Reply, Result};
use crate::session::{Command, Flow, SessionCx};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::session("multi",    1, multi).fast().unqueued().no_script(),
    Command::exec   ("exec").unqueued().no_script().skip_slowlog(),
    Command::session("discard",  1, discard).fast().unqueued().no_script(),
    Command::session("watch",   -2, watch).keyed(KEYS).fast().unqueued().no_script(),
    Command::session("unwatch",  1, unwatch).fast().no_script(),
];

fn multi(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<Flow> {
    if cx.session.transaction.is_open() {
        return Err(Error::text("ERR MULTI calls can not be nested"));
    }
    cx.session.transaction.open();
    Ok(reply.ok().into())
}

fn discard(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<Flow> {
    if !cx.session.transaction.is_open() {
        return Err(Error::text("ERR DISCARD without MULTI"));
    }
    cx.session.transaction.take();
    cx.session.transaction.unwatch(cx.node);
    Ok(reply.ok().into())
}

fn watch(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Flow> {
    if cx.session.transaction.is_open() {
        return Err(Error::text("ERR WATCH inside MULTI is not allowed"));
    }
    let scope = storage::Scope {
        namespace: storage::DEFAULT_NAMESPACE,
        cluster: cx.config.cluster_enabled,
        now_ms: cx.now_ms,
    };
    for key in args.rest() {
        // Watched first: a change between the look and the watch must not go unseen.
        cx.session.transaction.watch(cx.node, key);
        let engine = cx.node.engine();
        let Some(store) = &engine.store else { continue };
        let exists = storage::types::keys::exists(&store.txn(), &scope, &[key])? > 0;
        cx.session.transaction.note_existing(key, exists);
    }
    Ok(reply.ok().into())
}

fn unwatch(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<Flow> {
    cx.session.transaction.unwatch(cx.node);
    Ok(reply.ok().into())
}
