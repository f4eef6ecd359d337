//! What this machine has, as far as defaults depend on it: processors and memory.
//!
//! Asked once per process. A container counts as a machine: the least of what it and its host have.

use std::sync::OnceLock;

/// Fewest threads for connections: one long command leaves another thread to the rest.
const WORKERS_MIN: u32 = 2;
/// Most of them by default. More hand the log from one to the other and gain nothing.
const WORKERS_MAX: u32 = 16;
/// What is assumed where nobody says how much memory there is, MiB.
const UNKNOWN_MIB: u64 = 8 << 10;

/// Threads that serve connections, unless the configuration says otherwise: one per processor.
pub fn workers() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(processors).unwrap_or(WORKERS_MAX).clamp(WORKERS_MIN, WORKERS_MAX)
}

/// A share of the memory, one part of `parts`, in MiB; at least `least`, at most `most`.
pub fn share_mib(parts: u64, (least, most): (u32, u32)) -> u32 {
    share(memory_mib(), parts, (least, most))
}

/// MiB of memory that this process may use.
pub fn memory_mib() -> u64 {
    static MIB: OnceLock<u64> = OnceLock::new();
    *MIB.get_or_init(|| {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let host = read("/proc/meminfo").and_then(|text| total_kib(&text)).map(|kib| kib >> 10);
        // Of the second version of cgroups, and of the first.
        let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        let limits = limits.into_iter().filter_map(read).filter_map(|text| limit_mib(&text));
        host.into_iter().chain(limits).min().unwrap_or(UNKNOWN_MIB)
    })
}

/// How the kernel gives out huge pages: `always`, `madvise`, `never`; `None` where it has none.
pub fn huge_pages() -> Option<String> {
    let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    chosen(&text).map(str::to_owned)
}

fn share(memory_mib: u64, parts: u64, (least, most): (u32, u32)) -> u32 {
    let share = memory_mib / parts.max(1);
    u32::try_from(share).unwrap_or(most).clamp(least, most)
}

fn total_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// `max`, or a number near the largest there is, is no limit.
fn limit_mib(text: &str) -> Option<u64> {
    text.trim().parse::<u64>().ok().map(|bytes| bytes >> 20).filter(|mib| *mib > 0)
}

/// The word in brackets.
fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_stays_within_its_bounds() {
        assert_eq!(share(24 << 10, 8, (16, 2_048)), 2_048);
        assert_eq!(share(4 << 10, 8, (16, 2_048)), 512);
        assert_eq!(share(64, 8, (16, 2_048)), 16);
        assert_eq!(share(u64::MAX, 1, (16, 2_048)), 2_048);
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(total_kib("MemTotal:       24609604 kB\nMemFree: 1 kB\n"), Some(24_609_604));
        assert_eq!(total_kib("MemFree: 1 kB\n"), None);
        assert_eq!(limit_mib("max\n"), None);
        assert_eq!(limit_mib("1073741824\n"), Some(1024));
        assert_eq!(chosen("always [madvise] never\n"), Some("madvise"));
        assert_eq!(chosen("always"), None);
    }

    #[test]
    fn this_machine_has_something() {
        assert!((WORKERS_MIN..=WORKERS_MAX).contains(&workers()));
        assert!(memory_mib() > 0);
    }
}
