//! An open loop: requests are sent when they are due, whether or not earlier ones were answered,
//! and each is timed from when it was due. A server that stops for a moment is seen to stop for all
//! that was due meanwhile; the closed loop of redis-benchmark sends nothing while it waits.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::load::KEYS;
use super::systems::Running;
use super::{histogram, middle_ms, record};
use crate::wait::pause;
use crate::wire::{Connection, Reply, encode};

/// A request is answered within this, or the run fails.
const PATIENCE: Duration = Duration::from_secs(30);
const VALUE: [u8; 100] = [b'x'; 100];

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Requests per second.
    pub rate: u32,
    /// For so many seconds.
    pub seconds: u32,
    /// Connections, which take turns.
    pub connections: usize,
    /// Of a hundred requests so many are GET, the others SET.
    pub reads_percent: u32,
}

/// What came of it.
#[derive(Debug)]
pub struct Found {
    /// Of all requests, µs from when each was due until its answer was there.
    pub latency_us: Histogram<u64>,
    /// Processor time of the server, µs per request.
    pub cpu_us: f64,
}

impl Load {
    fn requests(&self) -> u64 {
        u64::from(self.rate) * u64::from(self.seconds)
    }

    /// When a request is due, after the beginning.
    fn due(&self, request: u64) -> Duration {
        Duration::from_nanos(request.saturating_mul(1_000_000_000) / u64::from(self.rate.max(1)))
    }

    /// What the table calls it.
    pub fn title(&self) -> String {
        format!("{} % GET, {} requests/s", self.reads_percent, self.rate)
    }
}

/// Sends a load, and waits for all answers.
///
/// # Errors
/// When an answer is an error, or does not come.
pub fn run(system: &Running, load: &Load) -> Result<Found> {
    let address = system.address;
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for _ in 0..load.connections.max(1) {
        let (receiver, sender) = Connection::open_within(address, PATIENCE, PATIENCE)?.halves()?;
        senders.push(sender);
        receivers.push(receiver);
    }
    let (before, began) = (system.cpu_seconds()?, Instant::now());
    let latency_us = std::thread::scope(|threads| -> Result<_> {
        let turns = receivers.len() as u64;
        let mut waiting = Vec::new();
        for (first, receiver) in (0..).zip(receivers) {
            let its = (first..load.requests()).step_by(turns as usize);
            waiting.push(threads.spawn(move || receive(receiver, its, load, began)));
        }
        send(&mut senders, load, began)?;
        let mut all = histogram()?;
        for thread in waiting {
            let Ok(found) = thread.join() else { bail!("a reader of answers panicked") };
            all.add(found?).context("add latencies up")?;
        }
        Ok(all)
    })?;
    let cpu = system.cpu_seconds()? - before;
    Ok(Found { latency_us, cpu_us: cpu * 1e6 / load.requests().max(1) as f64 })
}

fn send(senders: &mut [TcpStream], load: &Load, began: Instant) -> Result<()> {
    let mut random = StdRng::seed_from_u64(u64::from(load.rate));
    let turns = senders.len() as u64;
    for request in 0..load.requests() {
        let due = load.due(request);
        // What is late is sent at once.
        if let Some(early) = due.checked_sub(began.elapsed()) {
            pause(early);
        }
        let key = format!("key:{:012}", random.random_range(0..KEYS));
        let words: &[&[u8]] = if random.random_range(0..100) < load.reads_percent {
            &[b"GET", key.as_bytes()]
        } else {
            &[b"SET", key.as_bytes(), &VALUE]
        };
        let Some(sender) = senders.get_mut((request % turns) as usize) else { continue };
        sender.write_all(&encode(words)).context("send a request")?;
    }
    Ok(())
}

fn receive(
    mut receiver: Connection,
    requests: impl Iterator<Item = u64>,
    load: &Load,
    began: Instant,
) -> Result<Histogram<u64>> {
    let mut found = histogram()?;
    for request in requests {
        match receiver.receive()? {
            Reply::Error(text) => bail!("an answer was {}", String::from_utf8_lossy(&text)),
            _ => {
                let taken = began.elapsed().saturating_sub(load.due(request));
                record(&mut found, taken);
            }
        }
    }
    Ok(found)
}

/// The figures as Markdown: per load and system the middle of all rounds.
pub fn page(systems: &[Running], found: &[(Load, Vec<Vec<Found>>)]) -> String {
    let mut page = String::from(
        "Each request is timed from when it was due. Milliseconds; of several rounds the middle.\n\n\
         | load | system | p50 | p99 | p99.9 | longest | CPU µs per request |\n|---|---|---|---|---|---|---|\n",
    );
    for (load, of) in found {
        for (running, rounds) in systems.iter().zip(of) {
            let at = |quantile| middle_ms(rounds.iter().map(|one| &one.latency_us), quantile);
            let cpu_us = super::spread(rounds.iter().map(|one| one.cpu_us)).0;
            page.push_str(&format!(
                "| {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {cpu_us:.1} |\n",
                load.title(),
                running.system.name,
                at(0.5),
                at(0.99),
                at(0.999),
                at(1.0),
            ));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn requests_are_due_at_even_distances() {
        let load = Load { rate: 4, seconds: 2, connections: 1, reads_percent: 90 };
        assert_eq!(load.requests(), 8);
        assert_eq!(load.due(6), Duration::from_millis(1_500));
    }

    #[test]
    fn a_server_that_stops_is_seen_to_stop_for_all_that_was_due() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let load = Load { rate: 100, seconds: 1, connections: 1, reads_percent: 100 };
        let stop = Duration::from_millis(300);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = vec![0; encode(&["GET", "key:000000000000"]).len()];
                for count in 0..load.requests() {
                    stream.read_exact(&mut request).unwrap();
                    if count == 0 {
                        pause(stop);
                    }
                    stream.write_all(b"$-1\r\n").unwrap();
                }
            });
            let connection = Connection::open(address).unwrap();
            let (receiver, sender) = connection.halves().unwrap();
            let began = Instant::now();
            let answers =
                threads.spawn(move || receive(receiver, 0..load.requests(), &load, began));
            send(&mut [sender], &load, began).unwrap();
            let found = answers.join().unwrap().unwrap();
            // Some thirty of a hundred were due while it stopped.
            assert!(found.max() >= 300_000, "{}", found.max());
            assert!(found.value_at_quantile(0.8) >= 50_000, "{}", found.value_at_quantile(0.8));
            assert_eq!(found.len(), 100);
        });
    }
}
