//! The course of one large move, second by second: what clients waited, and what processes held in
//! memory. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::found::{Found, Log, micros, of_a_hundred};
use crate::bench::minutes::thinned;
use crate::bench::plot;

/// Whose memory is looked at, in this order.
pub const NODES: [&str; 4] = ["giver", "giver's replica", "taker", "taker's replica"];
/// Connections are new, and nothing is known yet, s.
const WARM_S: f64 = 3.0;
/// Points of a line; a picture shows no more.
const POINTS: usize = 560;
const MIB: f64 = (1_u64 << 20) as f64;

/// Memory of all processes at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Since clients began, s.
    pub at_s: f64,
    /// Physical memory, bytes, in the order of [`NODES`].
    pub bytes: [u64; NODES.len()],
}

/// Writes that were answered within some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// Acknowledged per second.
    pub per_s: u64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 99 of 100 of them took no longer.
    pub p99: Duration,
}

/// What one large move was.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// `builtin` or `haproxy`.
    pub balancer: &'static str,
    /// Names and values that moved, MB.
    pub mb: u32,
    /// Writes a second that clients tried.
    pub rate: u32,
    /// What 99 of 100 commands may take before the copy gives way, ms; 0: as nodes find it.
    pub p99_ms: u32,
    /// Moves that it was cut into.
    pub parts: usize,
    /// When it was asked for, and when all was over, since clients began, s.
    pub moved: (f64, f64),
    /// Of each second since clients began.
    pub seconds: Vec<Waits>,
    /// Before, while slots move, and after.
    pub phases: [Waits; 3],
    /// As it was looked at.
    pub memory: Vec<Memory>,
    /// What may not happen, and how long keys waited.
    pub found: Found,
}

impl Waits {
    fn of(mut us: Vec<u32>, seconds: f64) -> Self {
        us.sort_unstable();
        let (count, p50) = (us.len() as f64, micros(us.get(us.len() / 2).copied()));
        Self { per_s: (count / seconds.max(0.001)) as u64, p50, p99: of_a_hundred(us, 99) }
    }
}

/// All seconds that are over, also those in which nothing was answered.
pub(super) fn seconds(logs: &[Log], took: Duration) -> Vec<Waits> {
    let mut of: BTreeMap<u64, Vec<u32>> = (0..took.as_secs()).map(|at| (at, Vec::new())).collect();
    for write in logs.iter().flat_map(|log| &log.writes) {
        if let Some(of) = of.get_mut(&u64::from(write.at_ms / 1_000)) {
            of.push(write.us);
        }
    }
    of.into_values().map(|us| Waits::of(us, 1.0)).collect()
}

/// Before the move, meanwhile, and after it, of all keys.
pub(super) fn phases(logs: &[Log], moved: (f64, f64), took: Duration) -> [Waits; 3] {
    let ends = [(WARM_S, moved.0), moved, (moved.1, took.as_secs_f64())];
    ends.map(|(from, to)| {
        let is_within = |at_ms: u32| (from..to).contains(&(f64::from(at_ms) / 1e3));
        let writes = logs.iter().flat_map(|log| &log.writes);
        let us = writes.filter(|write| is_within(write.at_ms)).map(|write| write.us).collect();
        Waits::of(us, to - from)
    })
}

impl Course {
    fn lasted_s(&self) -> f64 {
        self.moved.1 - self.moved.0
    }

    /// Memory of a process when the move began, at most since then, and at the end, MiB.
    fn memory_mib(&self, node: usize) -> (u64, u64, u64) {
        let of = |one: &Memory| one.bytes.get(node).copied().unwrap_or_default() >> 20;
        let before = self.memory.iter().rfind(|one| one.at_s <= self.moved.0);
        let since = self.memory.iter().filter(|one| one.at_s > self.moved.0);
        (
            before.map(of).unwrap_or_default(),
            since.map(of).max().unwrap_or_default(),
            self.memory.last().map(of).unwrap_or_default(),
        )
    }

    /// A line of the table.
    pub fn line(&self) -> String {
        let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
        let three = |of: fn(&Waits) -> String| self.phases.each_ref().map(of).join(" · ");
        let mut line = format!(
            "| {} | {} MB | {} | {:.1} | {:.1} | {} | {} | {} | {} · {} ({:.2}) | {} ({}) | {} | {} |",
            self.balancer,
            self.mb,
            self.parts,
            self.lasted_s(),
            f64::from(self.mb) / self.lasted_s().max(0.001),
            three(|waits| waits.per_s.to_string()),
            three(|waits| format!("{:.1}", waits.p50.as_secs_f64() * 1e3)),
            three(|waits| format!("{:.1}", waits.p99.as_secs_f64() * 1e3)),
            ms(self.found.others_before),
            ms(self.found.others_moving),
            self.found.times_others(),
            ms(self.found.stall_p99),
            ms(self.found.stall_worst),
            self.found.errors.values().sum::<u64>(),
            self.found.missing,
        );
        for node in 0..NODES.len() {
            let (before, most, last) = self.memory_mib(node);
            line += &format!(" {before} · {most} · {last} |");
        }
        line.push('\n');
        line
    }

    /// The page, without what it was measured on.
    pub fn page(&self) -> String {
        let gives_way = match self.p99_ms {
            0 => "the copy gives way to clients as nodes find it".to_owned(),
            ms => format!("the copy gives way to clients that wait {ms} ms (`move-p99-ms`)"),
        };
        let mut page = format!(
            "{} MB of names and values in one request for a move, a replica at either side, {} \
             writes a second of all types tried; {gives_way}; of three figures the first is \
             before, the second while slots move, the third after. Pictures: {}.\n\n{}{}",
            self.mb,
            self.rate,
            self.pictures().map(|(name, _)| name).join(", "),
            head(),
            self.line(),
        );
        for (error, count) in &self.found.errors {
            page += &format!("\n* {count} × {error}");
        }
        page
    }

    /// Their files, and what is in them.
    pub fn pictures(&self) -> [(&'static str, String); 3] {
        let of_seconds = |value: fn(&Waits) -> f64| {
            let points = self.seconds.iter().enumerate();
            points.map(|(second, waits)| (second as f64 + 0.5, value(waits))).collect::<Vec<_>>()
        };
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let of_node = |node: usize| {
            let points = self.memory.iter();
            points.map(|one| (one.at_s, one.bytes[node] as f64 / MIB)).collect::<Vec<_>>()
        };
        let rates = vec![("writes".to_owned(), of_seconds(|waits| waits.per_s as f64))];
        let waits = vec![
            ("p50".to_owned(), of_seconds(|waits| waits.p50.as_secs_f64() * 1e3)),
            ("p99".to_owned(), of_seconds(|waits| waits.p99.as_secs_f64() * 1e3)),
        ];
        let memory = [0, 2, 3].map(|node| (NODES[node].to_owned(), of_node(node))).to_vec();
        let p99 = format!("Writes, ms (longest stall of a key {:.1})", ms(self.found.stall_worst));
        [
            ("move-writes.svg", self.picture("Writes acknowledged a second", rates)),
            ("move-waits.svg", self.picture(&p99, waits)),
            ("move-memory.svg", self.picture("Memory of processes, MiB", memory)),
        ]
    }

    /// Lines, and a box around the time in which slots move.
    fn picture(&self, title: &str, mut series: Vec<(String, Vec<(f64, f64)>)>) -> String {
        for (_, points) in &mut series {
            *points = thinned(points, POINTS);
        }
        let values = series.iter().flat_map(|(_, points)| points).map(|(_, value)| *value);
        let top = values.fold(1.0, f64::max);
        let (from, to) = self.moved;
        let walls = vec![(from, 0.0), (from, top), (to, top), (to, 0.0)];
        series.push(("slots move".to_owned(), walls));
        plot::lines(title, &series)
    }
}

/// What stands above the lines.
pub fn head() -> String {
    let memory = NODES.map(|node| format!("{node}, MiB before · most · last"));
    let columns = [
        "balancer",
        "moved",
        "parts",
        "s",
        "MB/s",
        "acknowledged/s",
        "p50, ms",
        "p99, ms",
        "p99 of keys that stay before · meanwhile (times), ms",
        "longest stall of a key that moves, p99 of keys (worst), ms",
        "errors",
        "missing",
    ];
    let columns: Vec<String> = columns.into_iter().map(str::to_owned).chain(memory).collect();
    format!("| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()))
}

#[cfg(test)]
mod tests {
    use super::super::found::{Phase, Write};
    use super::*;

    fn log(writes: &[(u32, u32)]) -> Log {
        let of = |&(at_ms, us): &(u32, u32)| Write { key: 0, phase: Phase::Before, at_ms, us };
        Log { writes: writes.iter().map(of).collect(), ..Log::default() }
    }

    fn course() -> Course {
        let took = Duration::from_millis(9_900);
        let first = log(&[(1_000, 90_000), (3_500, 1_000), (4_000, 3_000), (6_200, 8_000)]);
        let second = log(&[(4_500, 2_000), (8_999, 500), (9_500, 700)]);
        let (logs, moved) = ([first, second], (4.2, 6.7));
        let memory = |at_s: f64, giver: u64| Memory { at_s, bytes: [giver << 20, 7 << 20, 0, 0] };
        Course {
            balancer: "builtin",
            mb: 100,
            rate: 8_000,
            p99_ms: 0,
            parts: 2,
            moved,
            seconds: seconds(&logs, took),
            phases: phases(&logs, moved, took),
            memory: vec![memory(0.5, 900), memory(4.0, 100), memory(5.0, 160), memory(9.0, 120)],
            found: Found::default(),
        }
    }

    #[test]
    fn seconds_without_an_answer_are_seconds() {
        let rates: Vec<u64> = course().seconds.iter().map(|one| one.per_s).collect();
        assert_eq!(rates, [0, 1, 0, 1, 2, 0, 1, 0, 1], "the last one is not over");
        assert_eq!(course().seconds[4].p99, Duration::from_millis(3));
    }

    #[test]
    fn what_was_before_meanwhile_and_after_is_told_apart() {
        let [before, moving, after] = course().phases;
        assert_eq!((before.per_s, before.p99), (1, Duration::from_millis(3)), "not the first s");
        assert_eq!((moving.per_s, moving.p99), (0, Duration::from_millis(8)));
        assert_eq!((after.per_s, after.p50), (0, Duration::from_micros(700)));
    }

    #[test]
    fn a_line_has_a_figure_for_each_column() {
        let line = course().line();
        let bars = |text: &str| text.matches('|').count();
        assert!(head().lines().all(|of| bars(of) == bars(&line)), "{line}{}", head());
        assert!(line.contains("| 100 MB | 2 | 2.5 | 40.0 | 1 · 0 · 0 |"), "{line}");
        assert!(line.contains("| 100 · 160 · 120 | 7 · 7 · 7 | 0 · 0 · 0 |"), "{line}");
    }

    #[test]
    fn pictures_show_when_slots_move() {
        for (name, svg) in course().pictures() {
            assert!(name.starts_with("move-") && svg.ends_with("</svg>\n"));
            assert!(svg.contains(">slots move<"), "{svg}");
        }
        assert!(course().page().contains("move-memory.svg"));
        assert!(course().page().contains("as nodes find it"));
        assert!(Course { p99_ms: 70, ..course() }.page().contains("wait 70 ms (`move-p99-ms`)"));
    }
}
