//! Servers that write their data anew all the while they are measured: COMPACT here, BGREWRITEAOF
//! of redis-server, one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, bail};

use super::systems::Running;
use crate::wait::{self, pause};
use crate::wire::Connection;

/// Between two looks whether it is done.
const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(300);

/// One that is at it until this is dropped.
#[derive(Debug)]
pub struct Compacting {
    stop: Arc<AtomicBool>,
    begun: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Compacting {
    /// Has a server write its data anew without pause.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn begin(running: &Running) -> Result<Self> {
        let (mut connection, is_redis) = (running.connect()?, running.is_redis());
        let (stop, begun) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let (told, count) = (Arc::clone(&stop), Arc::clone(&begun));
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                match step(&mut connection, is_redis) {
                    Ok(has_begun) => {
                        count.fetch_add(u64::from(has_begun), Ordering::Relaxed);
                    }
                    // What it has begun until then is told.
                    Err(_) => return,
                }
                pause(LOOK);
            }
        });
        Ok(Self { stop, begun, thread: Some(thread) })
    }

    /// How often it has begun: each time but the first, the one before was done.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }
}

impl Drop for Compacting {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It counts, and nothing else.
            let _ = thread.join();
        }
    }
}

/// Has a server write its data anew, by COMPACT or BGREWRITEAOF, and waits until that is done.
///
/// # Errors
/// It does not end within a few minutes.
pub fn compact(running: &Running) -> Result<()> {
    let (mut connection, is_redis) = (running.connect()?, running.is_redis());
    wait::until("it begins to write its data anew", PATIENCE, || {
        let has_begun = step(&mut connection, is_redis)?;
        if has_begun { Ok(()) } else { bail!("it is busy") }
    })?;
    wait::until("the data is written anew", PATIENCE, || {
        let is_busy = is_busy(&mut connection, is_redis)?;
        if is_busy { bail!("it is at it") } else { Ok(()) }
    })
}

/// Asks a server to write its data anew, unless it is at it: whether it has begun.
fn step(connection: &mut Connection, is_redis: bool) -> Result<bool> {
    if is_busy(connection, is_redis)? {
        return Ok(false);
    }
    let command = if is_redis { "BGREWRITEAOF" } else { "COMPACT" };
    Ok(connection.call(&[command])?.error_code().is_none())
}

/// Whether it is at it.
fn is_busy(connection: &mut Connection, is_redis: bool) -> Result<bool> {
    let section = if is_redis { "persistence" } else { "rocksdb" };
    Ok(is_at_it(&connection.call(&["INFO", section])?.text()))
}

/// Whether a server that says this of itself writes its data anew just now, or is about to.
fn is_at_it(info: &str) -> bool {
    ["aof_rewrite_in_progress:1", "aof_rewrite_scheduled:1", "is_compacting:yes"]
        .iter()
        .any(|sign| info.lines().any(|line| line.trim_end() == *sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_itself_is_read() {
        assert!(is_at_it("# Persistence\r\naof_rewrite_in_progress:1\r\naof_x:0\r\n"));
        assert!(is_at_it("is_bgsaving:no\r\nis_compacting:yes\r\n"));
        assert!(!is_at_it("aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\n"));
        assert!(!is_at_it("is_compacting:no\r\n") && !is_at_it(""));
    }
}
