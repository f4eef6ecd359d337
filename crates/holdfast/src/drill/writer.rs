//! One client that writes, one write after the other, and remembers each answer: what the outage is
//! measured with.
//!
//! A write is a SET of a key of its own, so that an acknowledged one can be looked for afterwards;
//! with it, in the same packet, goes `CLUSTER MYID`, so that it is known which node answered. After
//! an error the writer connects again, to the same address, as any client library would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use resp::{Value, encode_command};
use tokio::sync::watch;

use super::route::Route;
use crate::client::Client;

/// A client's patience with one request; libraries have a second or more.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause after a failed attempt: as eager as a client may be without burning a processor.
const RETRY: Duration = Duration::from_millis(5);
/// Pause between writes: enough of them to see an outage of a few ms, few enough to leave the
/// processor to the cluster.
const PACE: Duration = Duration::from_millis(2);

/// An answered write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) key: String,
    /// When the attempt began.
    pub(crate) sent: Instant,
    /// When the answer was read.
    pub(crate) at: Instant,
    /// Node id of whoever answered.
    pub(crate) by: String,
}

/// What a writer has seen so far.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// Attempts that failed, by message.
    pub(crate) errors: std::collections::BTreeMap<String, u64>,
}

/// Writes until told to stop.
#[derive(Debug)]
pub(crate) struct Writer {
    log: Arc<Mutex<Log>>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    /// Starts writing keys `<prefix>:<number>`; `prefix` holds a hash tag of the shard that `route`
    /// leads to.
    pub(crate) fn start(route: Route, prefix: String) -> Self {
        let log = Arc::new(Mutex::new(Log::default()));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(write(route, prefix, Arc::clone(&log), stopped));
        Self { log, stop, task }
    }

    /// The newest acknowledged write.
    pub(crate) fn last(&self) -> Option<Acknowledged> {
        self.log.lock().acknowledged.last().cloned()
    }

    /// Stops, and hands over everything seen.
    pub(crate) async fn finish(self) -> Log {
        self.stop.send_replace(true);
        // A panic would show as an empty rest of the log; the bounds of the drill catch it.
        let _ = self.task.await;
        std::mem::take(&mut self.log.lock())
    }
}

async fn write(
    mut route: Route,
    prefix: String,
    log: Arc<Mutex<Log>>,
    stopped: watch::Receiver<bool>,
) {
    let mut connection: Option<(SocketAddr, Client)> = None;
    let mut number = 0_u64;
    while !*stopped.borrow() {
        number += 1;
        let key = format!("{prefix}:{number}");
        let sent = Instant::now();
        match attempt(&mut route, &mut connection, &key, number).await {
            Ok(by) => {
                log.lock().acknowledged.push(Acknowledged { key, sent, at: Instant::now(), by });
                tokio::time::sleep(PACE).await;
            }
            Err(message) => {
                *log.lock().errors.entry(message).or_default() += 1;
                connection = None;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn attempt(
    route: &mut Route,
    connection: &mut Option<(SocketAddr, Client)>,
    key: &str,
    number: u64,
) -> Result<String, String> {
    let (_, client) = match connection {
        Some(open) => open,
        None => {
            let address = route.address().await.map_err(|error| error.to_string())?;
            let client = Client::connect(address, PATIENCE).await.map_err(|error| kind(&error))?;
            connection.insert((address, client))
        }
    };
    set_and_who(client, key, &number.to_string()).await
}

/// Writes, and asks the same node for its id; the error is a word or two, fit for counting.
async fn set_and_who(client: &mut Client, key: &str, value: &str) -> Result<String, String> {
    let mut bytes = encode_command(&["SET", key, value]);
    bytes.extend(encode_command(&["CLUSTER", "MYID"]));
    let replies = client.pipeline(&bytes, 2).await.map_err(|error| kind(&error))?;
    match replies.as_slice() {
        [set, id] if set.is_ok() => Ok(id.as_str().unwrap_or_default().to_owned()),
        [Value::Error(text), _] => Err(first_words(text)),
        other => Err(format!("unexpected {other:?}")),
    }
}

fn kind(error: &std::io::Error) -> String {
    error.kind().to_string()
}

/// An error without what differs from one to the next (slots, addresses).
pub(crate) fn first_words(text: &str) -> String {
    match text.split_once(' ') {
        Some(("MOVED" | "ASK", _)) => text.split(' ').next().unwrap_or_default().to_owned(),
        _ => text.to_owned(),
    }
}
