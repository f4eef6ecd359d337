//! BLPOP: how long it takes until a client that waits has what another one pushes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;

use super::systems::Running;
use super::{histogram, middle_ms, record, spread};
use crate::wait::{self, pause};
use crate::wire::{Connection, Reply, encode};

/// A client that has sent its BLPOP so long ago waits.
const SETTLED: Duration = Duration::from_millis(1);
/// Until then all of the others wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is done.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Elements that are handed over, one after the other.
    pub rounds: u32,
    /// Clients beside that wait for other lists all the while.
    pub others: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Found {
    /// From before the push until the client that waited had its reply, µs.
    pub latency_us: Histogram<u64>,
    /// Processor time of the server, µs per element.
    pub cpu_us: f64,
}

/// Hands elements over.
///
/// # Errors
/// A reply is not what it must be, or does not come.
pub fn run(system: &Running, load: &Load) -> Result<Found> {
    let others: Vec<Connection> = (0..load.others)
        .map(|number| {
            let mut connection = system.connect()?;
            connection.send(&["BLPOP", &format!("other:{number}"), "0"])?;
            Ok(connection)
        })
        .collect::<Result<_>>()?;
    let (mut waiting, mut pushing) = (system.connect()?, system.connect()?);
    settle(&mut pushing, load.others)?;
    let push = encode(&["RPUSH", "handed", "element"]);
    let expected = ["handed", "element"];
    let mut latency_us = histogram()?;
    let before = system.cpu_seconds()?;
    for _ in 0..load.rounds {
        waiting.send(&["BLPOP", "handed", "0"])?;
        pause(SETTLED);
        let sent = Instant::now();
        pushing.send_raw(&push)?;
        let got = waiting.receive()?;
        record(&mut latency_us, sent.elapsed());
        let words: Vec<String> = got.elements().iter().map(Reply::text).collect();
        ensure!(words == expected, "BLPOP was answered with {got:?}");
        // As in Redis the push says 1: the list had the element before it was handed over.
        let pushed = pushing.receive()?;
        ensure!(pushed == Reply::Integer(1), "RPUSH was answered with {pushed:?}");
    }
    let cpu = system.cpu_seconds()? - before;
    drop(others);
    Ok(Found { latency_us, cpu_us: cpu * 1e6 / f64::from(load.rounds.max(1)) })
}

/// Waits until so many clients do: that they come is no part of what is measured.
fn settle(connection: &mut Connection, others: usize) -> Result<()> {
    wait::until("the others wait", PATIENCE, || {
        let info = connection.call(&["INFO", "clients"])?.text();
        let blocked = info.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
        let blocked = blocked.context("INFO says nothing of blocked clients")?.trim();
        let blocked: usize = blocked.parse().context("read blocked_clients")?;
        ensure!(blocked >= others, "{blocked} of {others} wait");
        Ok::<_, anyhow::Error>(())
    })
}

/// The figures as Markdown.
pub fn page(systems: &[Running], found: &[(Load, Vec<Vec<Found>>)]) -> String {
    let mut page = String::from(
        "A client waits in BLPOP, another one pushes: milliseconds from before RPUSH until the one \
         that waited has the element; of several rounds the middle.\n\n\
         | beside clients that wait | system | p50 | p99 | longest | CPU µs per element |\n\
         |---|---|---|---|---|---|\n",
    );
    for (load, of) in found {
        for (running, rounds) in systems.iter().zip(of) {
            let at = |quantile| middle_ms(rounds.iter().map(|one| &one.latency_us), quantile);
            page.push_str(&format!(
                "| {} | {} | {:.3} | {:.3} | {:.2} | {:.1} |\n",
                load.others,
                running.system.name,
                at(0.5),
                at(0.99),
                at(1.0),
                spread(rounds.iter().map(|one| one.cpu_us)).0,
            ));
        }
    }
    page
}
