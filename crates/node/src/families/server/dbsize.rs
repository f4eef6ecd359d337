//! DBSIZE: an exact count, by looking at every key.
//!
//! Kvrocks answers with the result of the last `DBSIZE SCAN`; Redis clients and tests expect the
//! truth. So DBSIZE counts, off the worker and outside the write gate, and is answered when the
//! count is done. A count is kept and answered again as long as nothing was written since and no
//! counted key can expire. A change of role or database ends a count within a thousand keys, so a
//! count never delays a failover; so does the end of the connection that asked, or clients that ask
//! and go could have any number of counts under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::heartbeat::LeaseMode;
use resp::Writer;
use storage::types::keyspace::{self, Census};
use storage::{DEFAULT_NAMESPACE, Scope, Store, Txn};

use crate::clock;
use crate::command::texts::LOADING;
use crate::command::{Args, Error, Reply, Result};
use crate::node::{Keyspace, Node};
use crate::session::{After, SessionCx, Tells};

/// Counts begun anew because the write gate was taken meanwhile.
const ATTEMPTS: usize = 8;
/// Keys counted between two looks at the bound inside EXEC, in the steps of the census.
const EXEC_STEPS_MAX: usize = 1024;

/// DBSIZE, and DBSIZE SCAN (Kvrocks): counts in the background for INFO.
pub(super) fn dbsize(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let is_background = match (args.word().as_deref(), args.len()) {
        (None, _) => false,
        (Some(b"SCAN"), 0) => true,
        (Some(b"SCAN"), _) => return Err(Error::Arity("dbsize".into())),
        _ => return Err(Error::Syntax),
    };
    let is_default = *cx.session.namespace == *DEFAULT_NAMESPACE;
    if is_background {
        // INFO shows the default namespace; the others are counted when somebody asks.
        if is_default {
            start(cx)?;
        }
        return Ok(reply.ok().into());
    }
    if let Some(txn) = cx.exec {
        return Ok(reply.integer(count_in_exec(txn, &cx.scope())?).into());
    }
    if let Some(keys) = known(cx.node).filter(|_| is_default) {
        return Ok(reply.integer(keys).into());
    }
    let (node, protocol) = (Arc::clone(cx.node), cx.session.protocol);
    let namespace = Arc::clone(&cx.session.namespace);
    let answer = Box::pin(async move {
        let wish = Wish::default();
        let given_up = Arc::clone(&wish.given_up);
        let counted =
            tokio::task::spawn_blocking(move || count(&node, &namespace, &given_up)).await;
        drop(wish);
        let counted =
            counted.unwrap_or_else(|error| Err(Error::err(format!("count keys: {error}"))));
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, protocol);
        match counted {
            Ok(keys) => writer.integer(keys),
            Err(error) => writer.error(&error.to_string()),
        }
        bytes
    });
    Ok(After::Later(answer, Tells::Read))
}

/// Held by the connection that waits for a count.
#[derive(Default)]
struct Wish {
    given_up: Arc<AtomicBool>,
}

impl Drop for Wish {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

fn integer(keys: u64) -> i64 {
    i64::try_from(keys).unwrap_or(i64::MAX)
}

/// The last count, if it still holds.
fn known(node: &Node) -> Option<i64> {
    let latest = node.engine().store.as_ref().map(Store::latest_sequence)?;
    let last = *node.keyspace.lock();
    let holds = last.at_ms != 0 && last.sequence == latest && last.expires == 0;
    holds.then(|| integer(last.keys))
}

fn start(cx: &SessionCx<'_>) -> Result<()> {
    let node = Arc::clone(cx.node);
    {
        let mut last = node.keyspace.lock();
        if last.is_running {
            return Ok(());
        }
        last.is_running = true;
    }
    let spawned = std::thread::Builder::new().name("dbsize".into()).spawn({
        let node = Arc::clone(&node);
        move || {
            if let Err(error) = count(&node, DEFAULT_NAMESPACE, &AtomicBool::new(false)) {
                tracing::warn!(%error, "DBSIZE SCAN ended without a result");
            }
            node.keyspace.lock().is_running = false;
        }
    });
    if let Err(error) = spawned {
        node.keyspace.lock().is_running = false;
        return Err(Error::err(format!("start a scan: {error}")));
    }
    Ok(())
}

/// Counts all keys of a namespace. The answer is that of one moment, and of the role and lease the
/// node still has at the end.
fn count(node: &Node, namespace: &[u8], given_up: &AtomicBool) -> Result<i64> {
    let is_over = || *node.shutdown().borrow() || given_up.load(Ordering::Relaxed);
    for _ in 0..ATTEMPTS {
        if is_over() {
            break;
        }
        let (store, generation) = {
            let engine = node.engine();
            let store = engine.store.clone();
            (store.ok_or_else(|| Error::text(LOADING))?, engine.generation)
        };
        let sequence = store.latest_sequence();
        let mut is_whole = true;
        let scope = Scope { namespace, ..node.scope(clock::unix_ms()) };
        let census = keyspace::census(&store, &scope, || {
            // A task that wants the gate alone may want to close the database: it must not wait
            // for this handle.
            let goes_on =
                node.gate.try_read().is_some_and(|engine| engine.generation == generation);
            is_whole = goes_on && !is_over();
            is_whole
        })?;
        drop(store);
        if !is_whole {
            continue;
        }
        still_mine(node, generation)?;
        if namespace == DEFAULT_NAMESPACE {
            keep(node, &census, sequence);
        }
        return Ok(integer(census.keys));
    }
    Err(Error::err("the keys could not be counted because this node was changing: try again"))
}

/// The same check a data command passes before its reply leaves: a count may take longer than a
/// lease.
fn still_mine(node: &Node, generation: u64) -> Result<()> {
    let mode = node.config.now().master_lease_mode;
    let engine = node.engine();
    if mode != LeaseMode::Disabled && engine.generation != generation {
        return Err(Error::err("the role of this node changed while the command ran"));
    }
    node.check_lease(mode, false, &engine.role).map_err(|_| {
        Error::text("CLUSTERDOWN master lease expired: this node has not heard from its controller")
    })
}

fn keep(node: &Node, census: &Census, sequence: u64) {
    let mut last = node.keyspace.lock();
    *last = Keyspace {
        at_ms: clock::unix_ms(),
        keys: census.keys,
        expires: census.expires,
        expired: census.expired,
        average_ttl_ms: census.average_ttl_ms,
        is_running: last.is_running,
        sequence,
    };
}

/// Inside EXEC nothing may wait, and everything else does: a bounded count.
fn count_in_exec(txn: &Txn<'_>, scope: &Scope<'_>) -> Result<i64> {
    let mut steps = 0;
    let census = keyspace::census(txn, scope, || {
        steps += 1;
        steps < EXEC_STEPS_MAX
    })?;
    if steps >= EXEC_STEPS_MAX {
        return Err(Error::err("DBSIZE of so many keys is not possible inside EXEC"));
    }
    Ok(integer(census.keys))
}
