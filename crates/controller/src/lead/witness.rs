//! What a standby sees of the leader's process: whether its REST port answers, is silent, or is
//! refused.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use planner::{Hearing, Standby, Time};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::known::{HEARS, HOLDS};
use crate::cluster::Shared;
use crate::store::Leader;

/// Between two questions.
const PACE: Duration = Duration::from_millis(100);
/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(20);
/// What this process hears is told for so long after the store has answered it, ms.
const HEARS_MS: u64 = 500;
/// A connection on which nothing comes for so long is made anew.
const SILENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Seen {
    heard_at: Time,
    closed_at: Option<Time>,
    refused_at: Option<Time>,
    /// Since when another process answers in its place.
    replaced_at: Option<Time>,
}

impl Seen {
    fn heard(now: Time) -> Self {
        Self { heard_at: now, closed_at: None, refused_at: None, replaced_at: None }
    }
}

/// Watches one leader at a time.
#[derive(Debug)]
pub(super) struct Witness {
    shared: Arc<Shared>,
    /// Claim, what is seen of it, and who looks.
    of: Option<(String, Arc<Mutex<Seen>>, JoinHandle<()>)>,
    began: Time,
    /// What this process hears of nodes, and when it was looked at last, for the leader to know.
    hears: Arc<Mutex<(Hearing, Time)>>,
}

impl Witness {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let began = shared.now();
        Self { shared, of: None, began, hears: Arc::default() }
    }

    /// Watches this leader from here on; `None`: nobody.
    pub(super) fn watch(&mut self, leader: Option<&Leader>) {
        let leader = leader.filter(|leader| !leader.is_vacant());
        if self.of.as_ref().map(|(claim, ..)| claim.as_str()) == leader.map(|of| of.claim.as_str())
        {
            return;
        }
        self.began = self.shared.now();
        if let Some((_, _, task)) = self.of.take() {
            task.abort();
        }
        let Some(leader) = leader else { return };
        let seen = Arc::new(Mutex::new(Seen::heard(self.began)));
        let hears = Arc::clone(&self.hears);
        let sight = Sight { seen: Arc::clone(&seen), hears, term: leader.term };
        let task = tokio::spawn(look(Arc::clone(&self.shared), leader.address.clone(), sight));
        self.of = Some((leader.claim.clone(), seen, task));
    }

    /// Whether the leader's process was heard since it is watched.
    pub(super) fn has_heard(&self) -> bool {
        self.of.as_ref().is_some_and(|(_, seen, _)| seen.lock().heard_at > self.began)
    }

    /// What is known, for a decision.
    pub(super) fn standby(
        &self,
        vacant_at: Option<Time>,
        (nodes, hearing): (Vec<planner::Witness>, Hearing),
        claimed_at: Option<Time>,
    ) -> Standby {
        *self.hears.lock() = (hearing, self.shared.now());
        let seen = self.of.as_ref().map(|(_, seen, _)| *seen.lock());
        Standby {
            vacant_at,
            heard_at: seen.map_or(self.began, |seen| seen.heard_at),
            closed_at: seen.and_then(|seen| seen.closed_at),
            refused_at: seen.and_then(|seen| seen.refused_at),
            replaced_at: seen.and_then(|seen| seen.replaced_at),
            nodes,
            hearing,
            claimed_at,
            in_vain: 0,
            word: None,
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if let Some((_, _, task)) = self.of.take() {
            task.abort();
        }
    }
}

/// What is seen of the leader, and what it is told.
struct Sight {
    seen: Arc<Mutex<Seen>>,
    hears: Arc<Mutex<(Hearing, Time)>>,
    /// In which it leads.
    term: u64,
}

impl Sight {
    /// What this process hears. One whose store does not answer would not take the lead.
    fn hears(&self, now: Time) -> Hearing {
        let (hearing, at) = *self.hears.lock();
        let is_lately = now < at.plus_millis(HEARS_MS);
        if is_lately { hearing } else { Hearing { answering: 0, ..hearing } }
    }
}

async fn look(shared: Arc<Shared>, url: String, sight: Sight) {
    let seen = &sight.seen;
    let (is_secure, address) = match url.strip_prefix("https://") {
        Some(address) => (true, address),
        None => (false, url.strip_prefix("http://").unwrap_or(&url)),
    };
    let address = address.trim_end_matches('/');
    loop {
        match tokio::time::timeout(SILENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                if is_secure {
                    // One that is not whom it should be is heard no more than one that is silent.
                    let greeting = shared.tls.connect(web::tls::host(address), stream);
                    if let Ok(Ok(stream)) = tokio::time::timeout(SILENCE, greeting).await {
                        listen(&shared, stream, address, &sight).await;
                    }
                } else {
                    listen(&shared, stream, address, &sight).await;
                }
                let mut seen = seen.lock();
                seen.closed_at.get_or_insert(shared.now());
                // What answers there next is not known.
                seen.replaced_at = None;
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                let now = shared.now();
                let mut seen = seen.lock();
                seen.closed_at.get_or_insert(now);
                seen.refused_at = Some(now);
            }
            // No way there, or none of ours: nothing is refused by that.
            Ok(Err(_)) | Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The term of the claim that a process says it holds, where this part of its answer says so. One
/// that holds less than the leader's claim is another process at its address, as after a restart.
/// It may be the one that asks.
fn held(answer: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(answer);
    let mut said = text.lines().filter_map(|line| line.split_once(": "));
    let held = said.find(|(name, _)| name.eq_ignore_ascii_case(HOLDS));
    held.and_then(|(_, held)| held.trim().parse().ok())
}

/// Asks until the connection ends. Any byte is life, whatever it says, unless that it is another.
async fn listen(
    shared: &Shared,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    address: &str,
    sight: &Sight,
) {
    let mut buffer = [0; 4096];
    // Of the process at the other end. Not every part of its answers says so.
    let mut is_another = false;
    loop {
        let Hearing { nodes, answering, .. } = sight.hears(shared.now());
        let question = format!(
            "GET /healthz HTTP/1.1\r\nHost: {address}\r\n{HEARS}: {answering}/{nodes}\r\n\r\n"
        );
        if stream.write_all(question.as_bytes()).await.is_err() {
            return;
        }
        match tokio::time::timeout(SILENCE, stream.read(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => {
                let held = held(&buffer[..count]);
                is_another = held.map_or(is_another, |held| held < sight.term);
                let (now, mut seen) = (shared.now(), sight.seen.lock());
                match is_another {
                    true => {
                        seen.replaced_at.get_or_insert(now);
                    }
                    false => *seen = Seen::heard(now),
                }
            }
            _ => return,
        }
        tokio::time::sleep(PACE).await;
    }
}
