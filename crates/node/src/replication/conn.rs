//! One socket of the link: a task that connects, reads into the driver's queue and writes what the
//! driver queued.
//!
//! Reading never waits for writing: a Kvrocks master of a version without acknowledgements never
//! reads them.

use std::sync::Arc;

use parking_lot::Mutex;
use replication::replica::Conn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::dial::Way;
use crate::stream::Stream;

/// Read at once.
const READ_BYTES: usize = 256 * 1024;

/// What a socket tells the driver.
#[derive(Debug)]
pub(super) enum Incoming {
    /// It is connected.
    Connected(Conn),
    /// It ended, or was never connected.
    Closed(Conn, String),
    /// Bytes arrived.
    Data(Conn, Vec<u8>),
}

#[derive(Debug, Default)]
struct Outbox {
    queued: Mutex<Queued>,
    has_more: Notify,
}

#[derive(Debug, Default)]
struct Queued {
    bytes: Vec<u8>,
    /// Waits until everything else is sent; a newer one takes its place.
    ack: Option<Vec<u8>>,
}

/// The driver's handle. Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Socket {
    outbox: Arc<Outbox>,
    task: JoinHandle<()>,
}

impl Socket {
    /// Starts to connect by `way`.
    pub(super) fn open(
        conn: Conn,
        way: std::io::Result<Way>,
        events: mpsc::Sender<Incoming>,
    ) -> Self {
        let outbox = Arc::new(Outbox::default());
        let task = tokio::spawn(run(conn, way, Arc::clone(&outbox), events));
        Self { outbox, task }
    }

    pub(super) fn send(&self, bytes: &[u8]) {
        self.outbox.queued.lock().bytes.extend_from_slice(bytes);
        self.outbox.has_more.notify_one();
    }

    pub(super) fn send_ack(&self, bytes: Vec<u8>) {
        self.outbox.queued.lock().ack = Some(bytes);
        self.outbox.has_more.notify_one();
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Outbox {
    /// What to send next: the acknowledgement only once nothing else waits.
    fn take(&self) -> Vec<u8> {
        let mut queued = self.queued.lock();
        if queued.bytes.is_empty() {
            queued.ack.take().unwrap_or_default()
        } else {
            std::mem::take(&mut queued.bytes)
        }
    }
}

async fn run(
    conn: Conn,
    way: std::io::Result<Way>,
    outbox: Arc<Outbox>,
    events: mpsc::Sender<Incoming>,
) {
    let dialled = match way {
        Ok(way) => way.dial().await,
        Err(error) => Err(error),
    };
    let cause = match dialled {
        Ok(stream) => match talk(conn, stream, &outbox, &events).await {
            Ok(()) => "closed by the master".to_owned(),
            Err(error) => error.to_string(),
        },
        Err(error) => format!("refused: {error}"),
    };
    // Nobody listens only when the link has ended.
    let _ = events.send(Incoming::Closed(conn, cause)).await;
}

async fn talk(
    conn: Conn,
    stream: Stream,
    outbox: &Outbox,
    events: &mpsc::Sender<Incoming>,
) -> std::io::Result<()> {
    if events.send(Incoming::Connected(conn)).await.is_err() {
        return Ok(());
    }
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut out = Vec::new();
    let mut sent = 0;
    let mut bytes = Vec::with_capacity(READ_BYTES);
    loop {
        if sent == out.len() {
            out = outbox.take();
            sent = 0;
        }
        tokio::select! {
            read = reader.read_buf(&mut bytes) => {
                if read? == 0 {
                    return Ok(());
                }
                // Small portions are handed over in small pieces of memory, the buffer stays.
                let portion = if bytes.len() < READ_BYTES / 8 {
                    let portion = bytes.as_slice().to_vec();
                    bytes.clear();
                    portion
                } else {
                    std::mem::replace(&mut bytes, Vec::with_capacity(READ_BYTES))
                };
                if events.send(Incoming::Data(conn, portion)).await.is_err() {
                    return Ok(());
                }
            }
            written = writer.write(&out[sent..]), if sent < out.len() => sent += written?,
            () = outbox.has_more.notified(), if sent == out.len() => {}
        }
    }
}
