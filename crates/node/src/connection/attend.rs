//! The end of a connection, whatever brings it.

use super::End;
use crate::clients::Client;
use crate::node::Node;
use crate::threads::surviving;

/// Sees a connection to its end, and forgets it then.
pub(super) async fn attend(node: &Node, client: &Client, connection: impl Future<Output = End>) {
    let address = client.address;
    match surviving(connection).await {
        Ok(End::Detached | End::HandedOver) => {}
        Ok(end) => {
            node.clients.remove(client.id);
            tracing::debug!(conn = client.id, %address, %end, "connection ended");
        }
        Err(panic) => {
            // A defect of ours. Locks and gates were let go of on the way here, and nothing was
            // answered. Its session is gone, and with it who would have left what others know of
            // it.
            node.pubsub.leave(client);
            node.monitors.remove(client);
            node.tracking.end(client.id);
            node.watches.forget_gone();
            node.clients.remove(client.id);
            let command = client.command();
            tracing::error!(conn = client.id, %address, command, panic, "a command panicked: its connection is closed");
        }
    }
}
