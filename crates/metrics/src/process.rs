//! What Linux knows of this process, under the names that Prometheus' own libraries use.
//!
//! A number that cannot be had is left out: a page of metrics must not fail because `/proc` is not
//! mounted.

use crate::{Metric, Page, rows};

rows! {
    CPU_SECONDS Counter "process_cpu_seconds_total" "CPU used, in and outside of the kernel.";
    RESIDENT_MEMORY_BYTES Gauge "process_resident_memory_bytes" "Physical memory of the process.";
    START_TIME_SECONDS Gauge "process_start_time_seconds" "Start of the process, Unix time.";
    OPEN_FDS Gauge "process_open_fds" "Open file descriptors.";
    MAX_FDS Gauge "process_max_fds" "How many there may be.";
    HTTP_CLOSED Counter "process_http_connections_closed_total" ["reason"] "HTTP connections closed by this process: all places taken (full), its place given to another (given-up), a request or answer that took too long (slow).";
    CERTIFICATE_END_TIME_SECONDS Gauge "process_certificate_end_time_seconds" "When the certificate of this process runs out, Unix time.";
}

/// Ticks of `/proc/…/stat` in a second: fixed for what user space is shown.
const TICKS: f64 = 100.0;

/// Adds the metrics of this process to a page. `closed` are the connections to its HTTP port that
/// it has closed, by reason; `certificate_ends_s` is when its certificate runs out, where it has
/// one.
pub fn render(page: &mut Page, closed: &[(&str, u64)], certificate_ends_s: Option<i64>) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let system = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let files = std::fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
    let rows: [(&Metric, Option<f64>); 5] = [
        (&CPU_SECONDS, cpu(&stat)),
        (&RESIDENT_MEMORY_BYTES, resident(&status)),
        (&START_TIME_SECONDS, start(&stat, &system)),
        // The folder is read through a descriptor of its own.
        (&OPEN_FDS, files.map(|count| count.saturating_sub(1) as f64)),
        (&MAX_FDS, max_files(&limits)),
    ];
    for (metric, value) in rows {
        if let Some(value) = value {
            page.value(metric, value);
        }
    }
    page.family(&HTTP_CLOSED, closed.iter().copied());
    if let Some(ends_s) = certificate_ends_s {
        page.value(&CERTIFICATE_END_TIME_SECONDS, ends_s);
    }
}

/// The fields behind the name, which may hold blanks and brackets itself; the first is the state,
/// number 3 of the manual page.
fn fields(stat: &str) -> Vec<&str> {
    stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect())
}

fn field(stat: &str, number: usize) -> Option<f64> {
    fields(stat).get(number.checked_sub(3)?)?.parse().ok()
}

fn cpu(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS)
}

fn start(stat: &str, system: &str) -> Option<f64> {
    let booted: f64 =
        system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + field(stat, 22)? / TICKS)
}

fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

fn max_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described_under_the_usual_names() {
        let mut page = Page::default();
        render(&mut page, &[("full", 7), ("slow", 0)], Some(1));
        let text = page.into_text();
        for Metric { name, .. } in ALL {
            let begins = [format!("{name} "), format!("{name}{{")];
            let row = text.lines().find(|line| begins.iter().any(|begin| line.starts_with(begin)));
            let value = row.and_then(|row| row.rsplit(' ').next()?.parse::<f64>().ok());
            assert!(value.is_some_and(|value| value >= 0.0), "{name}: {text}");
        }
        assert!(text.contains("# TYPE process_cpu_seconds_total counter\n"));
        assert!(text.contains("\nprocess_http_connections_closed_total{reason=\"full\"} 7\n"));
    }

    #[test]
    fn a_name_with_brackets_hides_nothing_and_nonsense_is_left_out() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 300 9 9";
        assert_eq!(cpu(stat), Some(2.0));
        assert_eq!(start(stat, "cpu 1\nbtime 1000\n"), Some(1003.0));
        assert_eq!(cpu(""), None);
        assert_eq!(max_files("Max open files            unlimited  unlimited files"), None);
        assert_eq!(resident("VmRSS:\t    12 kB\n"), Some(12_288.0));
    }
}
