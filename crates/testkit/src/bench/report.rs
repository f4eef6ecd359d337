//! The figures as Markdown: ratios to redis-server of the same run, and processor time per
//! operation.

use std::fmt::Write as _;

use super::load::Measured;
use super::systems::Running;
use super::{Cell, spread};

/// A load that took so much of a core may be what was measured.
const LOAD_LIMITS: f64 = 0.9;

/// Throughput and processor time per request of Kvrocks over redis-server, measured once on a
/// machine of two cores with redis-benchmark (22 November 2026, Kvrocks of October 2024): what an
/// indirect comparison is made with.
const KVROCKS: &[(&str, u32, f64, f64)] = &[
    ("SET", 1, 0.62, 1.78),
    ("GET", 1, 0.74, 1.78),
    ("INCR", 1, 0.67, 1.97),
    ("LPUSH", 1, 0.71, 1.97),
    ("HSET", 1, 0.61, 1.97),
    ("ZADD", 1, 0.52, 1.97),
    ("SET", 16, 0.66, 1.76),
    ("GET", 16, 0.80, 1.76),
    ("INCR", 16, 0.34, 4.17),
    ("LPUSH", 16, 0.22, 4.17),
    ("HSET", 16, 0.24, 4.17),
    ("ZADD", 16, 0.28, 4.17),
];

/// A system's ratio to the one all are compared with, round by round: the middle, the least, the
/// greatest.
pub fn ratio(ours: &[Measured], theirs: &[Measured], of: fn(&Measured) -> f64) -> (f64, f64, f64) {
    spread(ours.iter().zip(theirs).map(|(ours, theirs)| of(ours) / of(theirs)))
}

/// Position of the system that the others are compared with.
fn base(systems: &[Running]) -> Option<usize> {
    systems.iter().position(|running| running.system.name == "redis")
}

/// One row in a line, for whoever watches.
pub fn line(systems: &[Running], cell: &Cell) -> String {
    let mut line = format!("{:<28}", cell.row.title());
    for (running, found) in systems.iter().zip(&cell.of) {
        let (rate, ..) = spread(found.iter().map(|m| m.rate));
        let cpu = with_spread(spread(found.iter().map(|m| m.cpu_us)));
        let _ = write!(line, "  {} {rate:.0}/s {cpu} µs", running.system.name);
        let (background, _, most) = spread(found.iter().map(|m| m.background_us));
        if most > 0.0 {
            let _ = write!(line, ", {background:.2} of it in the background");
        }
    }
    line
}

/// The whole page.
pub fn page(systems: &[Running], cells: &[Cell], facts: &[(&str, String)]) -> String {
    let mut page = String::from("# Figures of one run\n\n");
    for (name, fact) in facts {
        let _ = writeln!(page, "* {name}: {fact}");
    }
    for running in systems {
        let (name, version) = (&running.system.name, &running.version);
        let _ = writeln!(page, "* {name}: version {version}, {}", running.system.described());
    }
    page.push_str(
        "\nThroughput and processor time of the server per request are ratios to redis of the same round: the middle of \
         all rounds, and in brackets the least and the greatest. `*`: the load took 90 % of a core or more, and may be \
         what was measured.\nFlushes and compactions are part of the processor time, and are apart in the column behind it: they are as \
         well of rows before, so a row may have one in one of its rounds and not in the others.\n",
    );
    for (index, running) in systems.iter().enumerate() {
        if base(systems) != Some(index) {
            table(&mut page, systems, cells, (index, &running.system.name));
        }
    }
    page
}

fn table(page: &mut String, systems: &[Running], cells: &[Cell], (index, name): (usize, &str)) {
    let Some(base) = base(systems) else { return };
    let _ = write!(
        page,
        "\n## {name} beside redis\n\n| row | throughput | CPU per request | CPU µs {name} / redis | \
         flush, compaction: µs of {name} | \
         requests/s {name} / redis | p99 ms {name} / redis | kvrocks, indirect: throughput, CPU |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    for cell in cells {
        let (Some(ours), Some(theirs)) = (cell.of.get(index), cell.of.get(base)) else { continue };
        let (rate, cpu) = (ratio(ours, theirs, |m| m.rate), ratio(ours, theirs, |m| m.cpu_us));
        let middle = |of: fn(&Measured) -> f64| {
            (spread(ours.iter().map(of)).0, spread(theirs.iter().map(of)).0)
        };
        let (us, rates, p99) = (middle(|m| m.cpu_us), middle(|m| m.rate), middle(|m| m.p99_ms));
        let is_limited = {
            let (mine, other) = middle(|m| m.load_cores);
            mine.max(other) >= LOAD_LIMITS
        };
        let _ = writeln!(
            page,
            "| {}{} | {} | {} | {:.2} / {:.2} | {} | {:.0} / {:.0} | {:.2} / {:.2} | {} |",
            cell.row.title(),
            if is_limited { " *" } else { "" },
            with_spread(rate),
            with_spread(cpu),
            us.0,
            us.1,
            with_spread(spread(ours.iter().map(|m| m.background_us))),
            rates.0,
            rates.1,
            p99.0,
            p99.1,
            indirect(cell, rate.0, cpu.0),
        );
    }
}

fn with_spread((middle, least, greatest): (f64, f64, f64)) -> String {
    format!("{middle:.2} ({least:.2}–{greatest:.2})")
}

/// Ours over Kvrocks, by way of redis.
fn indirect(cell: &Cell, rate: f64, cpu: f64) -> String {
    let row = &cell.row;
    let is_base = row.clients == 50 && row.value_bytes == 100;
    let known = KVROCKS
        .iter()
        .find(|(name, in_flight, ..)| is_base && *name == row.name && *in_flight == row.in_flight);
    known.map_or_else(
        || "–".into(),
        |(_, _, their_rate, their_cpu)| format!("{:.1}, {:.2}", rate / their_rate, cpu / their_cpu),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let of = |rates: [f64; 2]| {
            rates.map(|rate| Measured {
                rate,
                cpu_us: 1.0,
                background_us: 0.0,
                balancer_us: 0.0,
                p50_ms: 1.0,
                p99_ms: 1.0,
                load_cores: 0.5,
            })
        };
        // Twice as busy in the second round, both of them.
        let (middle, least, greatest) = ratio(&of([200.0, 100.0]), &of([100.0, 50.0]), |m| m.rate);
        assert_eq!((middle, least, greatest), (2.0, 2.0, 2.0));
        assert_eq!(with_spread((1.0, 0.5, 1.5)), "1.00 (0.50–1.50)");
    }
}
