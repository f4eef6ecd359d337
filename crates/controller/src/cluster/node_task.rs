//! Heartbeats to one node, at its own pace: no other node's silence delays them.
//!
//! A heartbeat that is not answered is not sent again on the same connection; each interval that
//! passes is a miss, and an answer that comes late still counts as life. A closed connection is a
//! miss at once.

use std::sync::Arc;
use std::time::Duration;

use api::heartbeat::Reply;
use planner::{Role, Seen, Time};
use tokio::sync::Notify;
use tokio::time::Instant;
use topology::Endpoint;

use super::Cluster;
use crate::client::{ClientError, Connection};

/// Intervals without an answer after which the connection is given up: the path may be gone while
/// the node is not. Between, dialling again would only fill a stopped node's queue.
const GIVE_UP_MISSES: u32 = 5;

pub(super) struct NodeTask {
    pub(super) cluster: Arc<Cluster>,
    pub(super) id: String,
    pub(super) local: Endpoint,
    pub(super) password: Option<String>,
    pub(super) now: Arc<Notify>,
}

/// A heartbeat ready to leave.
struct Question {
    master: String,
    lease_ms: u64,
    term: u64,
    clock_ns: u64,
    nonce: String,
    sent_at: Time,
}

impl NodeTask {
    pub(super) async fn run(self) {
        let interval = Duration::from_millis(self.cluster.shared.policy.heartbeat_ms);
        let mut connection = None;
        loop {
            let started = Instant::now();
            self.beat(&mut connection, started, interval).await;
            let closed = async {
                match &mut connection {
                    Some(connection) => connection.closed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(started + interval) => {}
                () = self.now.notified() => {}
                () = closed => {
                    connection = None;
                    self.missed(Some("connection closed"), true);
                    tokio::select! {
                        () = tokio::time::sleep_until(started + interval) => {}
                        () = self.now.notified() => {}
                    }
                }
            }
        }
    }

    async fn beat(
        &self,
        connection: &mut Option<Connection>,
        started: Instant,
        interval: Duration,
    ) {
        let result = self.wait(connection, started, interval).await;
        match result {
            Ok(seen) => self.answered(seen),
            Err(error) => {
                *connection = None;
                let refused = matches!(error, ClientError::Refused(_));
                match error {
                    // Counted while waiting.
                    ClientError::Timeout(_) => {}
                    error => self.missed(Some(&error.to_string()), refused),
                }
            }
        }
    }

    /// The answer, or a timeout after [`GIVE_UP_MISSES`]; counts misses on the way.
    async fn wait(
        &self,
        connection: &mut Option<Connection>,
        started: Instant,
        interval: Duration,
    ) -> Result<Seen, ClientError> {
        let mut answer = std::pin::pin!(self.exchange(connection));
        let mut waited = 0;
        let mut due = started + interval;
        loop {
            tokio::select! {
                // An answer that is there counts, however late this process gets to read it.
                biased;
                result = &mut answer => return result,
                () = tokio::time::sleep_until(due) => {
                    waited += 1;
                    // Counted from now: a controller that was stopped or starved itself has seen
                    // one miss, not as many as fit into the time it slept.
                    due = Instant::now() + interval;
                    self.missed(None, false);
                    if waited >= GIVE_UP_MISSES {
                        return Err(ClientError::Timeout(interval * waited));
                    }
                }
            }
        }
    }

    async fn exchange(&self, connection: &mut Option<Connection>) -> Result<Seen, ClientError> {
        let open = match connection.take() {
            Some(open) => connection.insert(open),
            None => {
                connection.insert(Connection::open(&self.local, self.password.as_deref()).await?)
            }
        };
        let question = self.question();
        let lease = question.lease_ms.to_string();
        let (term, clock) = (question.term.to_string(), question.clock_ns.to_string());
        let arguments = [
            "CLUSTERX",
            "HEARTBEAT",
            &question.master,
            &lease,
            &term,
            "CLOCK",
            &clock,
            &question.nonce,
        ];
        let value = open.command(&arguments).await?;
        let received_at = self.cluster.shared.now();
        let text =
            value.as_str().ok_or(ClientError::Unexpected { command: "CLUSTERX HEARTBEAT" })?;
        let reply = Reply::parse(text).map_err(|error| ClientError::Node(error.to_string()))?;
        Ok(Seen { reply, sent_at: question.sent_at, received_at })
    }

    /// Decides under the lock whether this heartbeat grants, and writes the bound down first.
    fn question(&self) -> Question {
        let shared = &self.cluster.shared;
        let mut state = self.cluster.state.lock();
        let master = state
            .record
            .shards
            .iter()
            .find(|shard| shard.node(&self.id).is_some())
            .and_then(|shard| shard.master())
            .map_or_else(|| self.id.clone(), |master| master.id.clone());
        let lease_ms = state.plan.lease_ms.max(1);
        let granted = state.plan.leases.contains(&self.id);
        let node = state.observed.nodes.entry(self.id.clone()).or_default();
        let mut question = Question {
            master,
            lease_ms,
            term: shared.store.term(),
            clock_ns: 0,
            nonce: "0".to_owned(),
            sent_at: shared.now(),
        };
        if let Some(seen) = node.seen.as_ref().filter(|_| granted)
            && seen.reply.nonce != "0"
            && seen.reply.myid == self.id
        {
            let end = shared.policy.lease_end(seen.received_at, lease_ms);
            node.lease_until = Some(node.lease_until.map_or(end, |old| old.max(end)));
            node.lease_nonce = Some(seen.reply.nonce.clone());
            question.clock_ns = seen.reply.clock_ns;
            question.nonce = seen.reply.nonce.clone();
        }
        question
    }

    fn answered(&self, seen: Seen) {
        {
            let mut state = self.cluster.state.lock();
            let master = state.record.node(&self.id).is_some_and(|node| node.role == Role::Master);
            let node = state.observed.nodes.entry(self.id.clone()).or_default();
            if master && seen.reply.role == api::heartbeat::Role::Master {
                let newest = node.master_sequence.unwrap_or(0).max(seen.reply.sequence);
                node.master_sequence = Some(newest);
            }
            node.seen = Some(seen);
            node.misses = 0;
            node.missing_since = None;
            node.refused = 0;
            node.refused_at = None;
            node.error = None;
        }
        self.cluster.wake.notify_one();
    }

    fn missed(&self, error: Option<&str>, refused: bool) {
        let shared = &self.cluster.shared;
        let now = shared.now();
        shared.counters.heartbeat_misses.add(1);
        {
            let mut state = self.cluster.state.lock();
            let node = state.observed.nodes.entry(self.id.clone()).or_default();
            node.misses = node.misses.saturating_add(1);
            node.missing_since.get_or_insert(now);
            if refused {
                node.refused = node.refused.saturating_add(1);
                node.refused_at = Some(now);
            }
            if let Some(error) = error {
                node.error = Some(error.to_owned());
            }
        }
        self.cluster.wake.notify_one();
    }
}
