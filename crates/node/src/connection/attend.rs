//! The end of a connection, whatever brings it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use super::End;
use crate::clients::Client;
use crate::node::Node;

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
            // A defect of ours. Locks and gates were let go of on the way here, and nothing was answered.
            node.clients.remove(client.id);
            let command = client.command();
            tracing::error!(conn = client.id, %address, command, panic, "a command panicked: its connection is closed");
        }
    }
}

/// Runs a connection to its end; a panic in it becomes an error, so that the other connections of the worker live on.
pub(super) async fn surviving<T>(connection: impl Future<Output = T>) -> Result<T, String> {
    let mut connection = std::pin::pin!(connection);
    std::future::poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| connection.as_mut().poll(cx)));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(cause) => {
                let text = cause.downcast_ref::<String>().cloned();
                let text = text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string));
                Poll::Ready(Err(text.unwrap_or_default()))
            }
        }
    })
    .await
}
