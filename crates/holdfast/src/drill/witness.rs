//! Watches what a node that is no longer master answers to clients: it must be nothing.
//!
//! Two ways lead to it. *Directly*, to its own port, as a client that got hold of the local address
//! would try. And *through the balancers*, over connections that were open before the fault and
//! over new ones; there `CLUSTER MYID` in the same packet tells which node answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use resp::{Value, encode_command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::writer::first_words;
use crate::client::Client;

const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);
/// Connections through the balancers that are open when the fault happens.
const CONNECTIONS: usize = 4;

/// What was answered.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Directly: how often which reply came to a keyed command.
    pub(crate) direct: BTreeMap<String, u64>,
    /// Directly: replies other than errors.
    pub(crate) direct_served: u64,
    /// Through the balancers: when a read was served, and by which node.
    pub(crate) served: Vec<(Instant, String)>,
}

/// Watches until told to stop.
#[derive(Debug)]
pub(crate) struct Witness {
    seen: Arc<Mutex<Seen>>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Witness {
    /// Opens the connections through `announced`, if there is such an address; `direct` is the old
    /// master's own port.
    pub(crate) fn start(announced: SocketAddr, key: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (stop, stopped) = watch::channel(false);
        let tasks = (0..CONNECTIONS)
            .map(|_| {
                let (seen, stopped) = (Arc::clone(&seen), stopped.clone());
                tokio::spawn(through(announced, key.to_owned(), seen, stopped))
            })
            .collect();
        Self { seen, stop, tasks }
    }

    /// From the fault on: also knocks at the old master's own port.
    pub(crate) fn knock(&mut self, local: SocketAddr, key: &str) {
        let stopped = self.stop.subscribe();
        let seen = Arc::clone(&self.seen);
        self.tasks.push(tokio::spawn(direct(local, key.to_owned(), seen, stopped)));
    }

    /// Stops, and hands over what was seen.
    pub(crate) async fn finish(self) -> Seen {
        self.stop.send_replace(true);
        for task in self.tasks {
            // Nothing to be learned from a task that panicked but its absence in the counts.
            let _ = task.await;
        }
        std::mem::take(&mut self.seen.lock())
    }
}

async fn through(
    address: SocketAddr,
    key: String,
    seen: Arc<Mutex<Seen>>,
    stopped: watch::Receiver<bool>,
) {
    let mut bytes = encode_command(&["GET", &key]);
    bytes.extend(encode_command(&["CLUSTER", "MYID"]));
    let mut open: Option<Client> = None;
    while !*stopped.borrow() {
        let mut client = match open.take() {
            Some(client) => client,
            None => match Client::connect(address, PATIENCE).await {
                Ok(client) => client,
                Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        // Any error means that the connection was cut, and the next round opens a new one.
        if let Ok(replies) = client.pipeline(&bytes, 2).await {
            if let [Value::Bulk(_) | Value::Null, id] = replies.as_slice() {
                let by = id.as_str().unwrap_or_default().to_owned();
                seen.lock().served.push((Instant::now(), by));
            }
            open = Some(client);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn direct(
    address: SocketAddr,
    key: String,
    seen: Arc<Mutex<Seen>>,
    stopped: watch::Receiver<bool>,
) {
    while !*stopped.borrow() {
        for command in [vec!["GET", key.as_str()], vec!["SET", key.as_str(), "intruder"]] {
            let reply = match Client::connect(address, PATIENCE).await {
                Ok(mut client) => client.call(&command).await,
                Err(error) => Err(error),
            };
            let mut seen = seen.lock();
            let text = match reply {
                Ok(Value::Error(text)) => first_words(&text),
                Ok(served) => {
                    seen.direct_served += 1;
                    format!("{} served: {served:?}", command[0])
                }
                Err(error) => error.kind().to_string(),
            };
            *seen.direct.entry(text).or_default() += 1;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
