//! PUBLISH to many subscribers: how long until all of them have a message, and what a delivery
//! costs the server.
//!
//! One thread is publisher and all subscribers, so that it does not take the processors that the
//! server needs; a message is sent when everybody has the one before.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::systems::Running;
use super::{histogram, middle_ms, record, spread};
use crate::wire::encode;

/// A message is with all subscribers within this, or the run fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is sent, and to how many.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Connections that subscribe.
    pub subscribers: usize,
    /// Messages, one after the other.
    pub messages: u32,
    /// Bytes of one.
    pub bytes: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Found {
    /// From before PUBLISH until the last subscriber had the message, µs.
    pub latency_us: Histogram<u64>,
    /// Processor time of the server, µs per delivery.
    pub cpu_us: f64,
    /// Deliveries per second.
    pub rate: f64,
}

impl Load {
    /// What the table calls it.
    pub fn title(&self) -> String {
        format!("{} bytes to {}", self.bytes, self.subscribers)
    }

    fn message(&self) -> String {
        "x".repeat(self.bytes)
    }

    /// Bytes that a subscriber of a channel is sent for one message.
    fn pushed(&self, channel: &str) -> usize {
        encode(&["message", channel, &self.message()]).len()
    }
}

/// Bytes that subscribers have, and who waits for them.
#[derive(Debug, Default)]
struct Delivered {
    bytes: Cell<u64>,
    awaited: Cell<u64>,
    all: Notify,
}

impl Delivered {
    fn add(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
        if self.bytes.get() >= self.awaited.get() {
            self.all.notify_one();
        }
    }

    /// Returns once there are so many.
    async fn reaches(&self, bytes: u64) {
        self.awaited.set(bytes);
        while self.bytes.get() < bytes {
            self.all.notified().await;
        }
    }
}

/// Publishes, and waits for all deliveries.
///
/// # Errors
/// A connection ends, or a message does not reach everybody.
pub fn run(system: &Running, load: &Load) -> Result<Found> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    LocalSet::new().block_on(&runtime, publish(system, load))
}

/// A channel that no earlier run has used, whose subscribers may not be gone yet.
fn channel() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    format!("bench:{:08}", RUNS.fetch_add(1, Ordering::Relaxed))
}

async fn publish(system: &Running, load: &Load) -> Result<Found> {
    let channel = channel();
    let delivered = Rc::<Delivered>::default();
    for _ in 0..load.subscribers {
        let stream = subscribe(system.address, &channel).await?;
        tokio::task::spawn_local(count(stream, Rc::clone(&delivered)));
    }
    let mut publisher = TcpStream::connect(system.address).await.context("connect")?;
    publisher.set_nodelay(true).context("send at once")?;
    let request = encode(&["PUBLISH", &channel, &load.message()]);
    let answer = format!(":{}\r\n", load.subscribers).into_bytes();
    let each = (load.pushed(&channel) * load.subscribers) as u64;
    let mut latency_us = histogram()?;
    let (before, began) = (system.cpu_seconds()?, Instant::now());
    for message in 1..=u64::from(load.messages) {
        let sent = Instant::now();
        publisher.write_all(&request).await.context("publish")?;
        let all = async {
            let mut said = vec![0; answer.len()];
            publisher.read_exact(&mut said).await.context("read how many got it")?;
            ensure!(said == answer, "PUBLISH was answered with {}", said.escape_ascii());
            delivered.reaches(message * each).await;
            Ok::<_, anyhow::Error>(())
        };
        match tokio::time::timeout(PATIENCE, all).await {
            Ok(done) => done?,
            Err(_) => bail!("message {message} did not reach everybody"),
        }
        record(&mut latency_us, sent.elapsed());
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), system.cpu_seconds()? - before);
    let deliveries = f64::from(load.messages) * load.subscribers as f64;
    Ok(Found { latency_us, cpu_us: cpu * 1e6 / deliveries, rate: deliveries / seconds })
}

async fn subscribe(address: SocketAddr, channel: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await.context("connect a subscriber")?;
    stream.write_all(&encode(&["SUBSCRIBE", channel])).await.context("subscribe")?;
    let told = format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{channel}\r\n:1\r\n", channel.len());
    let mut said = vec![0; told.len()];
    stream.read_exact(&mut said).await.context("read what SUBSCRIBE is answered")?;
    ensure!(said == told.as_bytes(), "SUBSCRIBE was answered with {}", said.escape_ascii());
    Ok(stream)
}

/// Counts what a subscriber gets. One whose connection ends is missed by the next message.
async fn count(mut stream: TcpStream, delivered: Rc<Delivered>) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
        delivered.add(read as u64);
    }
}

/// The figures as Markdown.
pub fn page(systems: &[Running], found: &[(Load, Vec<Vec<Found>>)]) -> String {
    let mut page = String::from(
        "One message after the other, each sent when all subscribers have the one before. \
         Milliseconds from before PUBLISH until the last one has it; of several rounds the middle.\n\n\
         | load | system | p50 | p99 | deliveries/s | CPU µs per delivery |\n|---|---|---|---|---|---|\n",
    );
    for (load, of) in found {
        for (running, rounds) in systems.iter().zip(of) {
            let at = |quantile| middle_ms(rounds.iter().map(|one| &one.latency_us), quantile);
            page.push_str(&format!(
                "| {} | {} | {:.2} | {:.2} | {:.0} | {:.2} |\n",
                load.title(),
                running.system.name,
                at(0.5),
                at(0.99),
                spread(rounds.iter().map(|one| one.rate)).0,
                spread(rounds.iter().map(|one| one.cpu_us)).0,
            ));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_takes_what_resp_says() {
        let load = Load { subscribers: 3, messages: 1, bytes: 4 };
        assert_eq!(
            load.pushed("bench"),
            "*3\r\n$7\r\nmessage\r\n$5\r\nbench\r\n$4\r\nxxxx\r\n".len()
        );
        assert_eq!(load.title(), "4 bytes to 3");
    }

    #[test]
    fn it_is_waited_for_the_last_one() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let delivered = Rc::<Delivered>::default();
        LocalSet::new().block_on(&runtime, async {
            let (counts, ear) = (Rc::clone(&delivered), Rc::clone(&delivered));
            let waiting = tokio::task::spawn_local(async move { ear.reaches(10).await });
            tokio::task::yield_now().await;
            counts.add(6);
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            counts.add(4);
            waiting.await.unwrap();
        });
    }
}
