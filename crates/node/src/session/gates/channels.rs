//! Shard channels, which go where their slots go.

use topology::{Route, RouteRequest, key_slot};

use super::{Caller, Session, is_opened_by};
use crate::config::Values;
use crate::node::Node;

impl Caller<'_> {
    /// Whether subscribers of a shard channel are served here: by any node of its shard, as in
    /// Redis.
    fn has_channel(&self, name: &[u8]) -> bool {
        let Some(cluster) = self.cluster else { return true };
        let slot = key_slot(name);
        let request = RouteRequest { readonly: true, ..self.route_request(false) };
        match cluster.route([slot], request) {
            Route::Run => true,
            // It leaves, or has come, with a topology that is under way.
            Route::Moved { slot, .. } => {
                self.node.moves.is_held(slot.number()) || is_opened_by(self, slot.number())
            }
            _ => false,
        }
    }
}

/// Ends those of a connection's subscriptions that belong to another shard, and tells it so. To be
/// called once the subscriptions are entered: a topology that came after the gates were passed has
/// ended only those that were entered by then.
pub fn leave_foreign_channels(
    (node, config, now_ms): (&Node, &Values, u64),
    session: &Session,
    names: &[&[u8]],
) {
    if !config.cluster_enabled {
        return;
    }
    let engine = node.engine();
    let cluster = node.cluster.load();
    let caller = Caller { node, config, session, engine: &engine, cluster: Some(&**cluster) };
    let limit = config.subscriber_limit();
    for name in names.iter().filter(|name| !caller.has_channel(name)) {
        node.pubsub.drop_shard(&session.client, name, limit, now_ms);
    }
}
