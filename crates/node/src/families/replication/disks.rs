//! WAITAOF: waits until what was written so far is on disks.
//!
//! There is no append-only file: the log is RocksDB's, and local means that it is synced up to
//! there, which is done here if nobody else does it. A replica is counted if it has said that what
//! it acknowledges is on its disk (`durable-ack yes`), and has acknowledged that much. Others may
//! have it on their disks too; nobody knows, so they do not count.

use std::sync::Arc;
use std::time::Duration;

use ::replication::master::wait::{DiskWait, Disks, Refusal};
use storage::Store;

use crate::command::texts::LOADING;
use crate::command::{Args, Error, Reply, Result};
use crate::node::Node;
use crate::session::{After, SessionCx, Tells};
use crate::waiters::Apart;

pub(super) fn wait_aof(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let (local, replicas, timeout) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let mut wait = DiskWait::parse(local, replicas, timeout, cx.now_ms).map_err(Error::err)?;
    let store = {
        let engine = cx.node.engine();
        if !engine.role.is_master() {
            return Err(Error::err(Refusal::DisksOfReplica));
        }
        engine.store.clone().ok_or_else(|| Error::text(LOADING))?
    };
    // Published first: replicas are never sent what is not.
    wait.sequence = store.publish()?;
    let reached = reached(cx.node, &store, &wait);
    let answer = if cx.exec.is_some() { Some(reached) } else { wait.poll(reached, cx.now_ms) };
    if let Some(Disks { is_local, replicas }) = answer {
        let replied = reply.with(|writer| {
            writer.array(2);
            writer.integer(i64::from(is_local));
            writer.integer(i64::try_from(replicas).unwrap_or(i64::MAX));
        });
        return Ok(replied.into());
    }
    let apart = cx.node.waiters.wait_apart(cx.session.client.id);
    let answer = Box::pin(wait_for_disks(Arc::clone(cx.node), store, wait, apart));
    Ok(After::Later(answer, Tells::Nothing))
}

fn reached(node: &Node, store: &Store, wait: &DiskWait) -> Disks {
    wait.reached(store.synced(), node.replication.acked_as_durable())
}

fn text(Disks { is_local, replicas }: Disks) -> Vec<u8> {
    format!("*2\r\n:{}\r\n:{replicas}\r\n", u8::from(is_local)).into_bytes()
}

/// Syncs the log, unless somebody has by then. One at a time: others find it done.
async fn sync(node: Arc<Node>, store: Store, sequence: u64) -> Result<()> {
    let _one_at_a_time = node.replication.syncing.lock().await;
    if store.synced() >= sequence {
        return Ok(());
    }
    let synced = tokio::task::spawn_blocking(move || store.sync()).await;
    synced.map_err(Error::err)?.map(drop).map_err(Error::from)
}

async fn wait_for_disks(
    node: Arc<Node>,
    store: Store,
    wait: DiskWait,
    mut apart: Apart,
) -> Vec<u8> {
    let mut news = node.replication.acks();
    node.replication.ask_for_acks();
    let mut is_syncing = wait.wanted.is_local;
    let mut synced = Box::pin(sync(Arc::clone(&node), store.clone(), wait.sequence));
    loop {
        let now_ms = crate::clock::unix_ms();
        if !node.engine().role.is_master() {
            return format!("-ERR {}\r\n", Refusal::DisksOfReplica).into_bytes();
        }
        if let Some(disks) = wait.poll(reached(&node, &store, &wait), now_ms) {
            return text(disks);
        }
        // Now and then a look at the role, which tells nobody that it changed.
        let longest = wait.deadline.map_or(500, |at| at.saturating_sub(now_ms).clamp(1, 500));
        tokio::select! {
            biased;
            ending = apart.unblocked() => {
                return match ending {
                    Ok(()) => text(reached(&node, &store, &wait)),
                    Err(text) => format!("-{text}\r\n").into_bytes(),
                };
            }
            outcome = &mut synced, if is_syncing => {
                is_syncing = false;
                if let Err(error) = outcome {
                    return format!("-{error}\r\n").into_bytes();
                }
            }
            // News, or time: the loop looks at both.
            _ = tokio::time::timeout(Duration::from_millis(longest), news.changed()) => {}
        }
    }
}
