//! Drives the state machines of crate `replication` with sockets, threads and the database.
//!
//! One thread follows the master ([`link`]), one thread feeds each replica ([`feeder`]), one sends
//! each set of files ([`files`]). A change of role only tells them to end and starts others: it
//! waits for none of them. Meanwhile the write gate protects the data: a link applies under it, and
//! only while the gate's generation is the one that the link was started under.

mod applying;
pub mod aside;
mod conn;
pub mod deposed;
mod exchange;
mod failures;
mod feeder;
mod feeders;
mod files;
pub(crate) mod folder;
pub mod lineage;
mod link;
mod mark;
mod news;
mod pace;
pub mod rewind;
mod service;
mod show;
pub mod state;
mod swap;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use replication::history::Position;
use tokio::sync::watch;
use topology::Endpoint;

use crate::node::Node;
use crate::threads::{block_on, spawn, vital};

#[cfg(test)]
pub(crate) use applying::serve_reads;
pub use feeder::serve as feed;
pub use files::{Request as FileRequest, no_grant, serve as send_files, sweep};
pub(crate) use folder::discard_all as discard_download;
pub use mark::{ByHand, by_hand, heed as heed_mark};
pub use rewind::{DISCARDED, finish as finish_rewind};
pub use show::{Role, info, role};
pub use swap::{DirLock, recover};

/// Replicates from `master` from now on, under write-gate generation `generation`; ends what was
/// before. Never waits.
pub fn follow(node: &Arc<Node>, master: Endpoint, generation: u64) {
    node.replication.cut_replicas();
    node.replication.feeders.forget_lost();
    let (cancel, cancelled) = watch::channel(false);
    let serial = {
        let mut link = node.replication.link.lock();
        // Orders are given after the gate is passed on, so one can be late.
        if generation < link.generation {
            return;
        }
        link.end();
        link.generation = generation;
        link.cancel = Some(cancel);
        link.serial
    };
    let job = link::Job { node: Arc::clone(node), master, serial, generation, cancelled };
    // It may panic in the middle of a step that only the next start finishes; and nothing else
    // would say that there is no link.
    spawn("repl-link", move || vital("repl-link", || link::run(job)));
}

/// Follows the master that the node's role names, if it is a replica, where its link has ended.
fn follow_again(node: &Arc<Node>) {
    let (role, generation) = {
        let engine = node.engine();
        (engine.role.clone(), engine.generation)
    };
    if let crate::gate::Role::Replica { from } = role {
        follow(node, from, generation);
    }
}

/// Begins the link anew where it has ended though the role asks for one: there may have been no
/// thread or descriptor for it. To be called now and then; waits for nothing.
pub fn follow_if_ended(node: &Arc<Node>) {
    let has_ended = {
        let link = node.replication.link.lock();
        link.cancel.as_ref().is_some_and(watch::Sender::is_closed)
    };
    let role = node.gate.try_read().map(|engine| (engine.role.clone(), engine.generation));
    if let Some((crate::gate::Role::Replica { from }, generation)) = role.filter(|_| has_ended) {
        tracing::warn!(master = %from, "the replication link has ended, and begins anew");
        follow(node, from, generation);
    }
}

/// The node ends: it follows no master and feeds no replica any more. Never waits.
pub fn end(node: &Arc<Node>) {
    stop(node);
    node.replication.feeders.end_all();
}

/// Looks for what was set aside before this process, on a thread of its own: a database of an older
/// version has to be opened.
pub fn look_aside(node: &Arc<Node>) {
    let node = Arc::clone(node);
    spawn("repl-aside", move || node.replication.aside.look(&node.dir));
}

/// Puts the data in `db.deposed` in service.
///
/// # Errors
/// See [`deposed::RestoreError`].
pub async fn restore(node: Arc<Node>, expected: Position) -> Result<(), deposed::RestoreError> {
    let (done, result) = tokio::sync::oneshot::channel();
    spawn("repl-restore", move || {
        block_on(async {
            // Nobody may be waiting any more.
            let _ = done.send(deposed::restore(node, expected).await);
        });
    });
    result.await.unwrap_or(Err(deposed::RestoreError::Stopping))
}

/// Ends replication from a master. Never waits.
pub fn stop(node: &Arc<Node>) {
    node.replication.link.lock().end();
}
