//! Writes for many minutes: how even the throughput is while memtables are flushed and tables are
//! compacted, and what the server's memory and data grow to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::spread;
use super::systems::Running;
use crate::wait::pause;
use crate::wire::{Connection, Reply, encode};

/// Between two samples.
const SAMPLE: Duration = Duration::from_secs(1);
/// A reply that takes longer ends the run.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is written.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// For so long.
    pub lasts: Duration,
    /// By so many connections.
    pub connections: u64,
    /// Requests in flight of each.
    pub in_flight: usize,
    /// Numbers of keys.
    pub keys: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
}

/// How it was at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Since the beginning, s.
    pub at_s: f64,
    /// Writes per second since the sample before.
    pub rate: f64,
    /// Memory of the server, bytes.
    pub memory: u64,
}

/// Writes, and samples all the while.
///
/// # Errors
/// A write is refused, or not answered.
pub fn run(system: &Running, load: &Load) -> Result<Vec<Sample>> {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let address = system.address;
    std::thread::scope(|threads| -> Result<_> {
        let (stop, count) = (&stop, &count);
        let writers: Vec<_> = (0..load.connections)
            .map(|seed| threads.spawn(move || write(address, load, seed, (stop, count))))
            .collect();
        let samples =
            sample(system, load.lasts, count, || writers.iter().any(|one| one.is_finished()));
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            let Ok(done) = writer.join() else { bail!("a writer panicked") };
            done?;
        }
        samples
    })
}

/// Writes until it is told to stop.
fn write(
    address: SocketAddr,
    load: &Load,
    seed: u64,
    (stop, count): (&AtomicBool, &AtomicU64),
) -> Result<()> {
    let mut connection = Connection::open_within(address, PATIENCE, PATIENCE)?;
    let mut random = StdRng::seed_from_u64(seed);
    let value = "x".repeat(load.value_bytes);
    while !stop.load(Ordering::Relaxed) {
        let mut requests = Vec::new();
        for _ in 0..load.in_flight {
            let key = format!("key:{:012}", random.random_range(0..load.keys));
            requests.extend(encode(&["SET", &key, &value]));
        }
        connection.send_raw(&requests)?;
        for _ in 0..load.in_flight {
            let reply = connection.receive()?;
            ensure!(matches!(reply, Reply::Simple(_)), "SET was answered with {reply:?}");
        }
        count.fetch_add(load.in_flight as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn sample(
    system: &Running,
    lasts: Duration,
    count: &AtomicU64,
    is_broken: impl Fn() -> bool,
) -> Result<Vec<Sample>> {
    let (began, mut samples) = (Instant::now(), Vec::new());
    let (mut before, mut last) = (0, began);
    while began.elapsed() < lasts && !is_broken() {
        pause(SAMPLE);
        let (now, written) = (Instant::now(), count.load(Ordering::Relaxed));
        let seconds = now.duration_since(last).as_secs_f64();
        samples.push(Sample {
            at_s: now.duration_since(began).as_secs_f64(),
            rate: (written - before) as f64 / seconds,
            memory: system.resident_bytes()?,
        });
        (before, last) = (written, now);
    }
    Ok(samples)
}

/// No more than so many points, each the mean of some that follow each other.
pub fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(most.max(1)).max(1);
    let mean = |of: &[(f64, f64)]| {
        let count = of.len().max(1) as f64;
        let sum = of.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(each).map(mean).collect()
}

/// The longest time, s, for which each sample was below a share of `usual`.
fn longest_below(samples: &[Sample], usual: f64, share: f64) -> f64 {
    let (mut longest, mut begin, mut last) = (0.0_f64, None, 0.0);
    for sample in samples {
        if sample.rate < usual * share {
            let since = *begin.get_or_insert(last);
            longest = longest.max(sample.at_s - since);
        } else {
            begin = None;
        }
        last = sample.at_s;
    }
    longest
}

/// A line of the table: how even it was.
pub fn line(name: &str, samples: &[Sample], disk_bytes: u64) -> String {
    let (usual, least, most) = spread(samples.iter().map(|sample| sample.rate));
    let memory = samples.iter().map(|sample| sample.memory).max().unwrap_or_default();
    let tenth = samples.len().div_ceil(10);
    let of = |part: &[Sample]| spread(part.iter().map(|sample| sample.rate)).0;
    let (first, last) = (
        of(samples.get(..tenth).unwrap_or_default()),
        of(samples.get(samples.len() - tenth..).unwrap_or_default()),
    );
    format!(
        "| {name} | {usual:.0} | {least:.0}–{most:.0} | {:.2} | {:.0} | {:.0} | {} | {} |\n",
        last / first,
        longest_below(samples, usual, 0.5),
        longest_below(samples, usual, 0.1),
        memory >> 20,
        disk_bytes >> 20,
    )
}

/// What stands above those lines.
pub const HEAD: &str = "| system | writes/s, middle | least–most of a second | last tenth / first tenth | \
    longest below a half, s | below a tenth, s | memory at most, MiB | on the disk, MiB |\n\
    |---|---|---|---|---|---|---|---|\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(rates: &[f64]) -> Vec<Sample> {
        let of = |(second, rate): (u32, &f64)| Sample {
            at_s: f64::from(second),
            rate: *rate,
            memory: u64::from(second) << 20,
        };
        (1..).zip(rates).map(of).collect()
    }

    #[test]
    fn points_are_thinned_to_means() {
        let points = [(1.0, 10.0), (2.0, 20.0), (3.0, 60.0)];
        assert_eq!(thinned(&points, 2), [(1.5, 15.0), (3.0, 60.0)]);
        assert_eq!(thinned(&points, 9), points);
        assert_eq!(thinned(&[], 9), []);
    }

    #[test]
    fn the_longest_stop_is_found() {
        let all = samples(&[100.0, 40.0, 100.0, 5.0, 0.0, 30.0, 100.0]);
        assert_eq!(longest_below(&all, 100.0, 0.5), 3.0);
        assert_eq!(longest_below(&all, 100.0, 0.1), 2.0);
        assert_eq!(longest_below(&all, 100.0, 0.0), 0.0);
    }

    #[test]
    fn a_line_says_how_even_it_was() {
        let line = line("one", &samples(&[100.0, 100.0, 50.0, 100.0]), 3 << 20);
        assert_eq!(line, "| one | 100 | 50–100 | 1.00 | 0 | 0 | 4 | 3 |\n");
        assert_eq!(HEAD.lines().next().unwrap().matches('|').count(), line.matches('|').count());
        assert!(super::line("none", &[], 0).contains("| none | 0 |"));
    }
}
