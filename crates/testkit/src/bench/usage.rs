//! What processes use, as the kernel tells: processor time, memory, disk.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// What the kernel counts for programs in is 1/100 s on every Linux there is.
const TICKS: f64 = 100.0;

/// Processor time of all threads of a process so far, in seconds.
///
/// # Errors
/// There is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    Ok(parse(&stat.context("read what a process used")?).ticks as f64 / TICKS)
}

/// Processor time so far, in seconds, of the threads of a process whose names begin with `name`.
/// That of threads that have ended is lost.
///
/// # Errors
/// There is no such process.
pub fn thread_cpu_seconds(pid: u32, name: &str) -> Result<f64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).context("list threads")?;
    let mut ticks = 0_u64;
    for thread in threads.flatten() {
        // It may have ended meanwhile.
        let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else { continue };
        if name_in(&stat).starts_with(name) {
            ticks += parse(&stat).ticks;
        }
    }
    Ok(ticks as f64 / TICKS)
}

/// The same of a process and of all its children that live.
///
/// # Errors
/// The kernel does not list processes.
pub fn cpu_seconds_of_all(pid: u32) -> Result<f64> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").context("list processes")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended meanwhile.
        if let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) {
            all.insert(pid, parse(&stat));
        }
    }
    let family = descendants(pid, &all);
    Ok(family.iter().filter_map(|pid| all.get(pid)).map(|one| one.ticks as f64 / TICKS).sum())
}

/// Bytes of a process in physical memory.
///
/// # Errors
/// There is no such process.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).context("look at memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(kib.parse::<u64>().context("read VmRSS")? * 1024)
}

/// Bytes that a folder takes on the disk, with all that is in it. What goes meanwhile counts as
/// gone.
///
/// # Errors
/// The folder cannot be read.
pub fn disk_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).context("look at a folder")?.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += metadata.blocks() * 512;
        if metadata.is_dir() {
            bytes += disk_bytes(&entry.path()).unwrap_or_default();
        }
    }
    Ok(bytes)
}

/// A line of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stat {
    parent: u32,
    ticks: u64,
}

/// The name in such a line, which may hold blanks and brackets.
fn name_in(stat: &str) -> &str {
    let behind = stat.split_once('(').map_or("", |(_, behind)| behind);
    behind.rsplit_once(')').map_or("", |(name, _)| name)
}

fn parse(stat: &str) -> Stat {
    // The name before the numbers may hold blanks and brackets.
    let numbers = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = numbers.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    Stat {
        parent: number(1).and_then(|parent| u32::try_from(parent).ok()).unwrap_or_default(),
        ticks: number(11).unwrap_or_default() + number(12).unwrap_or_default(),
    }
}

/// A process and all below it.
fn descendants(pid: u32, all: &BTreeMap<u32, Stat>) -> BTreeSet<u32> {
    let mut family = BTreeSet::from([pid]);
    loop {
        let children = all.iter().filter(|(_, stat)| family.contains(&stat.parent));
        let children: Vec<u32> =
            children.map(|(pid, _)| *pid).filter(|pid| !family.contains(pid)).collect();
        if children.is_empty() {
            return family;
        }
        family.extend(children);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::process::START_PATIENCE;
    use crate::wait;

    #[test]
    fn a_line_of_the_kernel_is_read() {
        let stat = "42 (a) b) c) S 7 42 42 0 -1 4194304 100 0 0 0 1234 66 0 0 20 0 9 0 5000 1 2";
        assert_eq!(parse(stat), Stat { parent: 7, ticks: 1300 });
        assert_eq!(parse("nonsense"), Stat::default());
        assert_eq!((name_in(stat), name_in("nonsense")), ("a) b) c", ""));
    }

    #[test]
    fn children_of_children_are_found_in_any_order() {
        let of = |parent| Stat { parent, ticks: 1 };
        let all = BTreeMap::from([(1, of(0)), (5, of(9)), (9, of(20)), (20, of(1)), (30, of(1))]);
        assert_eq!(descendants(20, &all), BTreeSet::from([5, 9, 20]));
    }

    #[test]
    fn threads_are_told_apart_by_their_names() {
        let is_seen = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_seen);
        let work = move || {
            while !until.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        let busy = std::thread::Builder::new().name("busy:one".into()).spawn(work).unwrap();
        let of = |name: &str| thread_cpu_seconds(std::process::id(), name).unwrap();
        let found = wait::until("a busy thread has used something", START_PATIENCE, || {
            if of("busy:") > 0.0 { Ok(()) } else { anyhow::bail!("nothing yet") }
        });
        let (idle, all) = (of("idle:"), of(""));
        is_seen.store(true, Ordering::Relaxed);
        busy.join().unwrap();
        found.unwrap();
        assert!(idle == 0.0 && all > 0.0, "{idle} {all}");
        assert!(thread_cpu_seconds(u32::MAX, "").is_err());
    }

    #[test]
    fn this_process_uses_something() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() > 1 << 20);
        assert!(cpu_seconds_of_all(pid).unwrap() >= cpu_seconds(pid).unwrap() - 0.5);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("in/file"), vec![1; 100_000]).unwrap();
        // Some file systems write a little later.
        assert!(disk_bytes(folder.path()).is_ok());
    }
}
