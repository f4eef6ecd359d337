//! A name server and a resolver for one question: where is the master of a shard?
//!
//! The answer is an SRV record, because on one machine nodes differ by port. The server answers on
//! a loopback port and only names that were set; each name carries its TTL in its first label, so
//! that clients with different TTLs can follow the same master: `ttl-5.shard-0.drill.`

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::SRV;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// How long a client waits for the name server.
const PATIENCE: Duration = Duration::from_secs(1);
const DATAGRAM_MAX: usize = 1232;

type Masters = Arc<Mutex<BTreeMap<String, u16>>>;

/// Answers until dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    masters: Masters,
    task: tokio::task::JoinHandle<()>,
}

/// The name that clients with this TTL follow.
pub(crate) fn name(shard: usize, ttl: Duration) -> String {
    format!("ttl-{}.shard-{shard}.drill.", ttl.as_secs())
}

impl Server {
    /// Listens on a free loopback port.
    pub(crate) async fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = socket.local_addr()?;
        let masters = Masters::default();
        let task = tokio::spawn(serve(socket, Arc::clone(&masters)));
        Ok(Self { address, masters, task })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the shard's master is at this port.
    pub(crate) fn set(&self, shard: usize, port: u16) {
        self.masters.lock().insert(format!("shard-{shard}.drill."), port);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, masters: Masters) {
    let mut buffer = [0; DATAGRAM_MAX];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let Some(question) = buffer.get(..length) else { continue };
        if let Some(answer) = answer(question, &masters) {
            // A client that is gone asks again or does not.
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

/// None for what is no question at all.
fn answer(question: &[u8], masters: &Masters) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?;
    let mut reply = Message::response(question.metadata.id, OpCode::Query);
    reply.add_query(query.clone());
    let text = query.name().to_ascii().to_ascii_lowercase();
    let found = text.split_once('.').and_then(|(label, shard)| {
        let ttl: u32 = label.strip_prefix("ttl-")?.parse().ok()?;
        Some((ttl, *masters.lock().get(shard)?))
    });
    match found {
        Some((ttl, port)) if query.query_type() == RecordType::SRV => {
            let target = Name::from_ascii("localhost.").ok()?;
            let data = RData::SRV(SRV::new(0, 0, port, target));
            reply.add_answer(Record::from_rdata(query.name().clone(), ttl, data));
        }
        Some(_) => {}
        None => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    reply.to_vec().ok()
}

/// Asks the server; returns the address and how long it may be remembered.
pub(crate) async fn resolve(server: SocketAddr, name: &str) -> io::Result<(SocketAddr, Duration)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(server).await?;
    let mut question = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    let asked = Name::from_ascii(name).map_err(io::Error::other)?;
    question.add_query(Query::query(asked, RecordType::SRV));
    let id = question.metadata.id;
    socket.send(&question.to_vec().map_err(io::Error::other)?).await?;
    let mut buffer = [0; DATAGRAM_MAX];
    let length = timeout(PATIENCE, socket.recv(&mut buffer))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let answer =
        Message::from_vec(buffer.get(..length).unwrap_or_default()).map_err(io::Error::other)?;
    let record = answer.answers.first().filter(|_| answer.metadata.id == id);
    match record.map(|record| (&record.data, record.ttl)) {
        Some((RData::SRV(srv), ttl)) => {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, srv.port));
            Ok((address, Duration::from_secs(u64::from(ttl))))
        }
        _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("no answer for {name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_leads_to_the_port_that_was_set_last_with_its_own_ttl() {
        let server = Server::start().await.unwrap();
        let five = name(0, Duration::from_secs(5));
        assert!(resolve(server.address(), &five).await.is_err());
        for port in [7100, 7103] {
            server.set(0, port);
            let (address, ttl) = resolve(server.address(), &five).await.unwrap();
            assert_eq!((address.port(), ttl), (port, Duration::from_secs(5)));
        }
        assert!(resolve(server.address(), "ttl-5.shard-1.drill.").await.is_err());
    }
}
