//! Peers move from the worker that accepted them to one of their own, so that no command of a
//! client, however long, delays a heartbeat.
//!
//! A connection moves between two commands, when it has answered everything.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Connection, End, Seat, attend};
use crate::session::{Auth, Session};
use crate::stream::Away;

/// Where peers are served.
#[derive(Debug, Clone)]
pub struct Desk {
    /// Leads there.
    pub door: mpsc::UnboundedSender<Caller>,
}

/// A peer on its way there.
#[derive(Debug)]
pub struct Caller {
    stream: Away,
    unread: Vec<u8>,
    session: Session,
}

impl Connection {
    /// Whether this is a peer that is not where peers are served, and may move now. The secret
    /// alone makes none: operators have it too, and what they ask may take long.
    pub(super) fn belongs_elsewhere(&self, session: &Session) -> bool {
        session.auth == Auth::Peer
            && session.asks_as_peer
            && self.held.is_empty()
            && !self.at_end
            && !session.transaction.is_open()
            && self.peers.is_some()
    }

    /// Sends it there.
    pub(super) fn hand_over(self, session: Session) -> End {
        let Some(desk) = &self.peers else { return End::Killed };
        let unread = self.buffer.get(self.start..).unwrap_or_default().to_vec();
        match self.stream.leave() {
            Ok(stream) => match desk.door.send(Caller { stream, unread, session }) {
                Ok(()) => End::HandedOver,
                // Its worker has ended: the node does.
                Err(_) => End::Killed,
            },
            Err(error) => End::Io(error),
        }
    }
}

/// Serves a peer that came from another worker until its connection ends.
pub async fn receive(at: Seat, caller: Caller) {
    let Caller { stream, unread, session } = caller;
    let (node, client) = (Arc::clone(&at.node), Arc::clone(&session.client));
    match stream.arrive() {
        Ok(stream) => {
            let connection = Connection::new(at, stream, unread);
            attend(&node, &client, connection.go_on(session)).await;
        }
        Err(error) => {
            tracing::warn!(%error, "cannot serve a peer's connection");
            node.clients.remove(client.id);
        }
    }
}
