//! Limits of a process that are met: places for clients, and descriptors.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::netns;
use crate::wait;
use crate::wire::Connection;

/// What a node ends with when its log meets a limit.
pub const EXIT_CODE: i32 = 71;
/// Of open files: fewer than any node has open.
const NOTHING_MORE: u64 = 10;
/// What it is given back; at most the hard limit counts.
const ENOUGH: u64 = 20_000;
/// Clients that insist.
const INSISTENT: usize = 4;
/// Connections each of them holds.
const HELD: usize = 16;
const PATIENCE: Duration = Duration::from_millis(500);

/// From now on the process opens nothing more.
pub fn take_descriptors(pid: u32) -> Result<()> {
    set(pid, NOTHING_MORE)
}

/// It may open files again.
pub fn give_descriptors(pid: u32) -> Result<()> {
    set(pid, ENOUGH)
}

/// The soft limit only; the hard one stays.
fn set(pid: u32, soft: u64) -> Result<()> {
    let mut command = Command::new("prlimit");
    command.arg(format!("--pid={pid}")).arg(format!("--nofile={soft}:"));
    let output = command.output().context("run prlimit")?;
    // The process may be gone.
    let is_gone = !crate::process::is_alive(pid);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(is_gone || output.status.success(), "prlimit: {errors}");
    Ok(())
}

/// Clients that take every place they find and come again at once when they are refused, until it
/// is dropped.
#[derive(Debug)]
pub struct Crowd {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Crowd {
    /// Around a node, from its own namespace.
    pub fn around(space: &str, address: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let insist = |_| {
            let (space, is_over) = (space.to_owned(), Arc::clone(&is_over));
            std::thread::spawn(move || netns::inside(&space, || insist(address, &is_over)))
        };
        let threads = (0..INSISTENT).map(insist).collect();
        Self { is_over, threads }
    }
}

/// Holds what it gets, and drops the oldest for each new one.
fn insist(address: SocketAddr, is_over: &AtomicBool) -> Result<()> {
    let mut held = std::collections::VecDeque::new();
    while !is_over.load(Ordering::SeqCst) {
        let Ok(mut connection) = Connection::open_within(address, PATIENCE, PATIENCE) else {
            // The host may be cut off, or its process away.
            wait::pause(Duration::from_millis(50));
            continue;
        };
        if connection.call(&["PING"]).is_ok() {
            held.push_back(connection);
            held.truncate(HELD);
        }
    }
    Ok(())
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // One that failed has ended too.
            let _ = thread.join();
        }
    }
}
