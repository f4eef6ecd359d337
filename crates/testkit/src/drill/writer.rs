//! Clients of a drill: writers whose gaps are measured, and readers that hold on to their
//! connections.
//!
//! A write is a SET of a key of its own with `CLUSTER MYID` in the same packet, so that it is known
//! who answered. After an error a client connects again at once, to the same address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;

use super::outcome::{Acknowledged, Log};
use crate::netns;
use crate::wait;
use crate::wire::{Connection, Reply, encode};

/// A client's patience with one request; libraries have a second or more.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause after a failed attempt.
const RETRY: Duration = Duration::from_millis(5);
/// Pause between writes, and between reads.
const PACE: Duration = Duration::from_millis(2);

/// A thread in the clients' namespace that writes until told to stop.
#[derive(Debug)]
pub struct Writer {
    log: Arc<Mutex<Log>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Writer {
    /// Writes keys `<prefix>:<number>`.
    pub fn start(space: &str, address: SocketAddr, prefix: String) -> Self {
        let (log, stop) = (Arc::<Mutex<Log>>::default(), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (log, stop, space) = (Arc::clone(&log), Arc::clone(&stop), space.to_owned());
            std::thread::spawn(move || {
                netns::enter(&space)?;
                write(address, &prefix, &log, &stop);
                Ok(())
            })
        };
        Self { log, stop, thread }
    }

    /// The newest acknowledged write.
    pub fn last(&self) -> Option<Acknowledged> {
        self.log.lock().acknowledged.last().cloned()
    }

    /// Stops, and hands over everything seen.
    pub fn finish(self) -> Result<Log> {
        self.stop.store(true, Ordering::Relaxed);
        joined(self.thread)?;
        Ok(std::mem::take(&mut self.log.lock()))
    }
}

/// When a read was answered, and by which node.
pub type Reads = Vec<(Instant, String)>;

/// A thread in the clients' namespace that reads until told to stop.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Reads>>,
}

impl Reader {
    /// Reads one key.
    pub fn start(space: &str, address: SocketAddr, key: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (stop, space) = (Arc::clone(&stop), space.to_owned());
            std::thread::spawn(move || {
                netns::enter(&space)?;
                Ok(read(address, &key, &stop))
            })
        };
        Self { stop, thread }
    }

    /// Stops, and hands over what was answered.
    pub fn finish(self) -> Result<Reads> {
        self.stop.store(true, Ordering::Relaxed);
        joined(self.thread)
    }
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| bail!("a client panicked"))
}

fn write(address: SocketAddr, prefix: &str, log: &Mutex<Log>, stop: &AtomicBool) {
    let mut open: Option<Connection> = None;
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("{prefix}:{number}");
        let sent = Instant::now();
        match attempt(&mut open, address, &["SET", &key, &number.to_string()]) {
            Ok((Reply::Simple(_), by)) => {
                log.lock().acknowledged.push(Acknowledged { key, sent, at: Instant::now(), by });
                wait::pause(PACE);
            }
            failed => {
                let message = match failed {
                    Ok((reply, _)) => reply.text(),
                    Err(error) => error.root_cause().to_string(),
                };
                *log.lock().errors.entry(message).or_default() += 1;
                open = None;
                wait::pause(RETRY);
            }
        }
    }
}

fn read(address: SocketAddr, key: &str, stop: &AtomicBool) -> Reads {
    let mut open: Option<Connection> = None;
    let mut reads = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match attempt(&mut open, address, &["GET", key]) {
            Ok((Reply::Bulk(_) | Reply::NilBulk, by)) => {
                reads.push((Instant::now(), by));
                wait::pause(PACE);
            }
            _ => {
                open = None;
                wait::pause(RETRY);
            }
        }
    }
    reads
}

/// A command, and who answered it.
fn attempt(
    open: &mut Option<Connection>,
    address: SocketAddr,
    command: &[&str],
) -> Result<(Reply, String)> {
    let connection = match open {
        Some(connection) => connection,
        None => open.insert(Connection::open_within(address, PATIENCE, PATIENCE)?),
    };
    connection.send_raw(&[encode(command), encode(&["CLUSTER", "MYID"])].concat())?;
    let (reply, by) = (connection.receive()?, connection.receive()?);
    Ok((reply, by.text()))
}

/// How many of these keys are not there.
pub fn missing(space: &str, address: SocketAddr, keys: &[&str]) -> Result<usize> {
    netns::inside(space, || {
        let mut connection = Connection::open(address)?;
        let mut missing = 0;
        for batch in keys.chunks(500) {
            let bytes: Vec<u8> = batch.iter().flat_map(|key| encode(&["EXISTS", key])).collect();
            connection.send_raw(&bytes)?;
            for _ in batch {
                match connection.receive()? {
                    Reply::Integer(1) => {}
                    Reply::Integer(_) => missing += 1,
                    other => bail!("answered {other:?} to EXISTS"),
                }
            }
        }
        Ok(missing)
    })
    .context("look for acknowledged writes")
}
