//! The gates' checks for handlers that write on their own and name no key.

use storage::Store;

use crate::clock;
use crate::command::Error;
use crate::command::texts::{LEASE_EXPIRED, LOADING, NOREPLICAS, READONLY};
use crate::config::Values;
use crate::gate::Engine;
use crate::node::Node;

/// The checks of the gates for a handler that writes by itself what a peer asks for, with the gate
/// held alone: no key is named, so no gate looked.
///
/// # Errors
/// The reply that says what is in the way.
pub fn may_write<'e>(node: &Node, config: &Values, engine: &'e Engine) -> Result<&'e Store, Error> {
    let store = serves_writes(node, config, engine)?;
    if is_paused(node) {
        return Err(Error::text("TRYAGAIN writes are paused for a switchover"));
    }
    if node.moves.is_holding() {
        return Err(Error::text("TRYAGAIN slots are handed over to another shard"));
    }
    Ok(store)
}

/// Whether all writes are to wait. While it lasts, the controller takes the sequence for the final
/// one; peers' commands are not paused.
pub fn is_paused(node: &Node) -> bool {
    node.clients.paused(clock::boottime_ns).is_some()
}

/// The checks among these that nothing is waited for.
///
/// # Errors
/// The reply that says what is in the way.
pub fn serves_writes<'e>(
    node: &Node,
    config: &Values,
    engine: &'e Engine,
) -> Result<&'e Store, Error> {
    if !engine.role.is_master() {
        return Err(Error::text(READONLY));
    }
    if node.check_lease(config.master_lease_mode, true, &engine.role).is_err() {
        return Err(Error::text(LEASE_EXPIRED));
    }
    if node.grants.commit.lacks_members() {
        return Err(Error::text(NOREPLICAS));
    }
    engine.store.as_ref().ok_or_else(|| Error::text(LOADING))
}
