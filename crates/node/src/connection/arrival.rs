//! The first words of a connection: who is calling, and whether there is a place left.

use std::net::SocketAddr;

use resp::Writer;
use tokio::io::AsyncWriteExt as _;

use super::greeting::Greeting;
use super::{Connection, End};
use crate::clients::places::Place;
use crate::clients::{TOO_MANY, Via};

impl Connection {
    /// Learns who is calling. A connection without a place is turned away here if it cannot prove
    /// to be a peer's: one that a balancer brings is a client's.
    pub(super) async fn arrive(
        &mut self,
        peer: SocketAddr,
        local: SocketAddr,
        place: &mut Place,
    ) -> Result<Greeting, End> {
        let greeting = match place.visit() {
            None => self.greet(peer, local).await?,
            Some(visit) => tokio::select! {
                greeting = self.greet(peer, local) => greeting?,
                () = visit.over() => return Err(self.turn_away().await),
            },
        };
        if let Via::Check { .. } = greeting.via {
            // A node that is full is well: its check needs no client's place.
            place.show_peer();
        }
        let is_client = matches!(greeting.via, Via::Balancer { .. });
        let clients_max =
            usize::try_from(self.node.config.now().parts().connections).unwrap_or(usize::MAX);
        if is_client && !place.become_client(clients_max) {
            // The client of a session that was elsewhere asked nothing just now: any word would be
            // taken for another answer.
            let is_session = greeting.moved.is_some();
            return Err(if is_session { End::NoPlace } else { self.turn_away().await });
        }
        Ok(greeting)
    }

    /// Tells a connection that there is no place for it.
    pub(super) async fn turn_away(&mut self) -> End {
        self.node.stats.rejected_connections.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut text = Vec::new();
        Writer::new(&mut text, resp::Protocol::V2).error(TOO_MANY);
        // It may be gone already; it is closed either way. Its socket's buffer is empty, so that
        // this waits for nobody; a handshake would have to be waited for.
        if self.stream.takes_text() {
            let _ = self.stream.write_all(&text).await;
        }
        End::NoPlace
    }
}
