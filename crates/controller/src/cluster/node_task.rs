//! Heartbeats to one node, at its own pace: no other node's silence delays them.
//!
//! A heartbeat that is not answered is not sent again on the same connection; each interval that
//! passes is a miss, and an answer that comes late still counts as life. A closed connection is a
//! miss at once.

use std::sync::Arc;
use std::time::Duration;

use api::heard::Told;
use planner::{Seen, Time};
use tokio::sync::Notify;
use tokio::time::Instant;
use topology::Endpoint;

use super::Cluster;
use super::question::{self, Question};
use super::rival;
use crate::client::{ClientError, Connection};

/// Intervals without an answer after which the connection is given up: the path may be gone while
/// the node is not. Between, dialling again would only fill a stopped node's queue.
const GIVE_UP_MISSES: u32 = 5;

pub(super) struct NodeTask {
    pub(super) cluster: Arc<Cluster>,
    pub(super) id: String,
    pub(super) local: Endpoint,
    pub(super) now: Arc<Notify>,
}

/// What came of one beat.
enum Heard {
    /// It took the heartbeat.
    Answer(Box<(Question, Seen)>),
    /// It was asked by one that does not lead, and what it said is written down.
    Observed,
    /// It was asked, or refuses this controller: who leads it.
    Told(Told, Time),
}

impl NodeTask {
    pub(super) async fn run(self) {
        let interval = Duration::from_millis(self.cluster.shared.policy.heartbeat_ms);
        let mut connection = None;
        let mut password = self.cluster.record().password.clone();
        loop {
            let started = Instant::now();
            let present = &self.cluster.record().password;
            if *present != password {
                // What was seen of the node stays; only the way there is made anew.
                password.clone_from(present);
                connection = None;
            }
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
            Ok(Heard::Answer(answer)) => {
                let (question, seen) = *answer;
                question::answered(&self.cluster, &self.id, &question, seen, false);
                self.tell_of_gone(connection, interval).await;
            }
            Ok(Heard::Observed) => {}
            Ok(Heard::Told(told, sent_at)) => {
                if !rival::heard(&self.cluster, &self.id, &told, sent_at) {
                    let who =
                        if told.myid.is_empty() { "a node without an id" } else { &told.myid };
                    let text = format!("{who} answers there, led with term {}", told.term);
                    self.missed(Some(&text), false);
                }
            }
            Err(error) => {
                *connection = None;
                let refused = matches!(error, ClientError::Refused(_));
                match error {
                    // Counted while waiting.
                    ClientError::Timeout(_) => {}
                    error if error.is_answer() => self.unclear(&error),
                    error @ ClientError::Limit(_) => self.unclear(&error),
                    error => self.missed(Some(&error.to_string()), refused),
                }
            }
        }
    }

    /// Tells the node which replicas are gone, where that is news to it. Nothing depends on it:
    /// what fails is tried again after the next heartbeat.
    async fn tell_of_gone(&self, connection: &mut Option<Connection>, longest: Duration) {
        let Some(words) = question::news_of_gone(&self.cluster, &self.id) else { return };
        let Some(open) = connection else { return };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let told = tokio::time::timeout(longest, open.expect_ok("CLUSTERX DOWN", &words)).await;
        match told {
            Ok(Ok(())) => {}
            Ok(Err(ClientError::Node(error))) => {
                tracing::debug!(node = %self.local, error, "not told which replicas are gone");
            }
            // The connection is in the middle of an answer.
            Ok(Err(_)) | Err(_) => *connection = None,
        }
    }

    /// The answer, or a timeout after [`GIVE_UP_MISSES`]; counts misses on the way.
    async fn wait(
        &self,
        connection: &mut Option<Connection>,
        started: Instant,
        interval: Duration,
    ) -> Result<Heard, ClientError> {
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

    async fn exchange(&self, connection: &mut Option<Connection>) -> Result<Heard, ClientError> {
        let open = match connection.take() {
            Some(open) => connection.insert(open),
            None => {
                let password = self.cluster.record().password.clone();
                connection.insert(
                    Connection::open(&self.local, password.as_deref(), &self.cluster.shared.tls)
                        .await?,
                )
            }
        };
        if self.cluster.is_guarded() {
            let sent_at = self.cluster.shared.now();
            return rival::ask(open).await.map(|told| Heard::Told(told, sent_at));
        }
        if !self.cluster.shared.authority().acts() {
            let sent_at = self.cluster.shared.now();
            let value = open.command(&["CLUSTERX", "OBSERVE"]).await?;
            open.heeds = Some(question::heeds(&value));
            question::observed(&self.cluster, &self.id, sent_at, &value)?;
            return Ok(Heard::Observed);
        }
        let heeds = match open.heeds {
            Some(heeds) => heeds,
            // Another process may be at the other end than before, and of another version.
            None => {
                let heeds = question::meet(open).await?;
                open.heeds = Some(heeds);
                heeds
            }
        };
        let question = question::ask(&self.cluster, &self.id, heeds).ok_or_else(gone)?;
        match ask(open, &self.cluster, &question).await {
            Err(error) if question::is_refusal(&self.cluster, &self.id, &question, &error) => {
                let again = question::ask(&self.cluster, &self.id, heeds).ok_or_else(gone)?;
                ask(open, &self.cluster, &again)
                    .await
                    .map(|seen| Heard::Answer(Box::new((again, seen))))
            }
            Err(error) if rival::is_outranked(&error) => {
                // An error is an answer: who it obeys is worth more than that it refuses. Older
                // nodes say no more than that.
                let told = rival::ask(open).await.map_err(|_| error)?;
                open.heeds = Some(told.store);
                Ok(Heard::Told(told, question.sent_at))
            }
            other => other.map(|seen| Heard::Answer(Box::new((question, seen)))),
        }
    }

    /// The node answered with an error, or could not be asked: no silence of its own, and everybody
    /// may know why.
    fn unclear(&self, error: &ClientError) {
        let shared = &self.cluster.shared;
        let now = shared.now();
        {
            let mut state = self.cluster.state.lock();
            if state.seen_of(&self.id).is_none() {
                return;
            }
            if error.is_answer() {
                state.observed.complained(&self.id, now, &error.to_string());
            } else {
                state.observed.unasked(&self.id, now, &error.to_string());
            }
        }
        self.cluster.wake.notify_one();
    }

    fn missed(&self, error: Option<&str>, refused: bool) {
        let shared = &self.cluster.shared;
        let now = shared.now();
        shared.counters.heartbeat_misses.add(1);
        {
            let mut state = self.cluster.state.lock();
            let Some(node) = state.seen_of(&self.id) else { return };
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

async fn ask(
    connection: &mut Connection,
    cluster: &Cluster,
    question: &Question,
) -> Result<Seen, ClientError> {
    let words = question.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let value = connection.command(&words).await?;
    let seen = question::read(cluster, question, &value)?;
    connection.heeds = Some(seen.reply.standing.store);
    Ok(seen)
}

/// The node was taken out of the cluster: its task is about to end.
fn gone() -> ClientError {
    ClientError::Unexpected { command: "CLUSTERX HEARTBEAT" }
}
