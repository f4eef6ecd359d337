//! Load by redis-benchmark, and what it cost: the server's processor time per operation, and how
//! much of a core the load itself took.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::rows::{Row, SCRIPT};
use super::systems::Running;

/// Keys that requests name.
pub const KEYS: u64 = 1_000_000;

/// One run of one row.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Requests per second.
    pub rate: f64,
    /// Of the server, µs per request.
    pub cpu_us: f64,
    /// Of that, by threads that flush and compact: of requests that were sent long before, too.
    pub background_us: f64,
    /// Of the load balancers in front of it, µs per request; 0 without.
    pub balancer_us: f64,
    /// Half of the requests took no longer, ms.
    pub p50_ms: f64,
    /// All but one in a hundred took no longer, ms.
    pub p99_ms: f64,
    /// Of the load, cores.
    pub load_cores: f64,
}

/// Lays what a row reads, unless it lies there.
pub fn prepare(
    system: &Running,
    row: &Row,
    laid: &mut BTreeSet<(SocketAddr, &str, usize)>,
) -> Result<()> {
    let what = if row.name.starts_with("MGET") { "GET" } else { row.name };
    if !laid.insert((system.address, what, row.value_bytes)) {
        return Ok(());
    }
    let value = "x".repeat(row.value_bytes);
    let (words, count): (Vec<&str>, u64) = match what {
        // Nearly two thirds of the numbers get a key.
        "GET" => (vec!["SET", "key:__rand_int__", &value], numbers(row)),
        "GET of one key" => (vec!["SET", "one", &value], 1),
        "HGET" => (vec!["HSET", "myhash", "element:__rand_int__", &value], KEYS / 4 / small(row)),
        "HGETALL" => (vec!["HSET", "small", "a", &value, "b", &value, "c", &value, "d", &value], 1),
        "LRANGE" => (vec!["LPUSH", "mylist", &value], 1_000),
        "EVALSHA" => (vec!["SCRIPT", "LOAD", SCRIPT], 1),
        "ZUNIONSTORE" => (vec!["ZADD", "hundred", "__rand_int__", "element:__rand_int__"], 100),
        "ZRANGE" => (vec!["ZADD", "myzset", "__rand_int__", "element:__rand_int__"], 10_000),
        _ => return Ok(()),
    };
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    benchmark(system, &words, (50, 64), (count.max(50), numbers(row))).map(drop)
}

/// Keys that the requests of a row name: of large values fewer, so that what is read was laid.
fn numbers(row: &Row) -> u64 {
    KEYS / small(row)
}

/// Large values are fewer.
fn small(row: &Row) -> u64 {
    (row.value_bytes as u64 / 256).max(1)
}

/// Runs a row once.
pub fn run(system: &Running, row: &Row) -> Result<Measured> {
    let count = row.requests(1.0);
    benchmark(system, &row.words(), (row.clients, row.in_flight), (count, numbers(row)))
}

fn benchmark(
    system: &Running,
    words: &[String],
    (clients, in_flight): (u32, u32),
    (count, numbers): (u64, u64),
) -> Result<Measured> {
    let mut command = Command::new("redis-benchmark");
    let (host, port) = (system.address.ip().to_string(), system.address.port().to_string());
    command.args(["-h", &host, "-p", &port, "-n", &count.to_string(), "--csv"]);
    command.args(["-c", &clients.to_string(), "-P", &in_flight.to_string()]);
    command.args(["-r", &numbers.to_string()]).args(words).stdin(Stdio::null());
    let balancer_before = system.balancer_cpu_seconds()?;
    let background_before = system.background_cpu_seconds()?;
    let (before, load_before, began) = (system.cpu_seconds()?, of_children()?, Instant::now());
    let output = command.output().context("run redis-benchmark")?;
    let (seconds, load) = (began.elapsed().as_secs_f64(), of_children()? - load_before);
    let cpu = system.cpu_seconds()? - before;
    let background = system.background_cpu_seconds()? - background_before;
    let balancer = system.balancer_cpu_seconds()? - balancer_before;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(numbers) = result(&text).filter(|_| output.status.success()) else {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("redis-benchmark of {} said: {text}{said}", system.system.name);
    };
    let [rate, p50_ms, p99_ms] = numbers;
    let per_request = |seconds: f64| seconds * 1e6 / count as f64;
    Ok(Measured {
        rate,
        cpu_us: per_request(cpu),
        background_us: per_request(background),
        balancer_us: per_request(balancer),
        p50_ms,
        p99_ms,
        load_cores: load / seconds,
    })
}

/// Rate, p50 and p99: the last line, of which the first word is the command and may hold commas.
fn result(csv: &str) -> Option<[f64; 3]> {
    let line = csv.lines().rev().find(|line| line.starts_with('"'))?;
    let fields: Vec<f64> = line
        .rsplit("\",\"")
        .map(|field| field.trim_matches('"'))
        .map_while(|f| f.parse().ok())
        .collect();
    // From behind: max, p99, p95, p50, min, mean, rate.
    Some([*fields.get(6)?, *fields.get(3)?, *fields.get(1)?])
}

/// Processor time of all children that have ended, in seconds: servers run on.
#[expect(unsafe_code, reason = "std has no getrusage")]
fn of_children() -> Result<f64> {
    // SAFETY: all zeros is a valid `rusage`, which is made of numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole `rusage` of ours, which the call fills.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) } != 0 {
        return Err(std::io::Error::last_os_error()).context("ask what the load used");
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_was_laid_whatever_its_size() {
        let of = |value_bytes| numbers(&Row { value_bytes, ..Row::base("GET", 1) });
        assert_eq!((of(100), of(1 << 10), of(64 << 10)), (KEYS, KEYS / 4, KEYS / 256));
    }

    #[test]
    fn the_result_is_the_last_line() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\
                    \"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
                    \"SET a b,c\",\"32000.00\",\"1.221\",\"0.048\",\"1.079\",\"2.743\",\"5.391\",\"19.647\"\n";
        assert_eq!(result(text), Some([32_000.0, 1.079, 5.391]));
        assert_eq!(result("Could not connect\n"), None);
    }
}
