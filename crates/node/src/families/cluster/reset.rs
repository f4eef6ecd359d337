//! CLUSTER RESET, and whether it would lose data.
//!
//! Never through a balancer.

use storage::types::keyspace;
use topology::state::ResetGuards;

use super::{CLUSTER_TEXT, change_later};
use crate::clients::Via;
use crate::command::{Args, Error, Reply, Result};
use crate::session::{After, SessionCx};

/// Whether there is any key; while the database is being replaced, nobody knows.
pub(super) fn has_data(cx: &SessionCx<'_>) -> Result<bool> {
    let engine = cx.node.engine();
    Ok(match &engine.store {
        Some(store) => keyspace::random_key(&store.txn(), &cx.node.scope(cx.now_ms))?.is_some(),
        None => true,
    })
}

pub(super) fn reset(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    _reply: Reply<'_>,
) -> Result<After> {
    match (args.word().as_deref(), args.is_empty()) {
        (None | Some(b"HARD" | b"SOFT"), true) => {}
        (_, true) => return Err(Error::Syntax),
        (_, false) => return Err(Error::text(CLUSTER_TEXT)),
    }
    if cx.session.client.via != Via::Direct {
        return Err(Error::text(
            "ERR CLUSTER RESET is only possible on a connection to the node itself",
        ));
    }
    let migration = &cx.node.migration;
    let guards = ResetGuards {
        is_migrating: migration.is_giving(),
        is_importing: migration.is_taking(),
        has_data: has_data(cx)?,
    };
    Ok(change_later(cx.node, move |cluster, _| cluster.prepare_reset(guards)))
}
