//! Processor time, as `/proc` has it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::DirEntry;
use std::path::Path;

/// USER_HZ wherever Linux runs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of all threads of this process by their ids, seconds, without those of a name and
/// the one that asks, which looks at what is measured.
pub fn threads(without: &str) -> BTreeMap<u64, f64> {
    let own = std::fs::read_link("/proc/thread-self").expect("a thread");
    let own = own.file_name().map(OsStr::to_owned);
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
    let others = tasks.flatten().filter(|task| Some(task.file_name()) != own);
    let read = |task: DirEntry| {
        let id: u64 = task.file_name().to_str()?.parse().ok()?;
        let (name, seconds) = stat(&task.path().join("stat"))?;
        (name != without).then_some((id, seconds))
    };
    others.filter_map(read).collect()
}

/// Processor time of another process, seconds; `None`: it has ended.
pub fn of_process(pid: u32) -> Option<f64> {
    stat(Path::new(&format!("/proc/{pid}/stat"))).map(|(_, seconds)| seconds)
}

/// Name of a thread or process, and its processor time, seconds; `None`: it has ended.
fn stat(path: &Path) -> Option<(String, f64)> {
    let stat = std::fs::read_to_string(path).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // utime and stime are the 14th and 15th of all fields.
    let (user, system): (u64, u64) = (fields.get(11)?.parse().ok()?, fields.get(12)?.parse().ok()?);
    Some((name.to_owned(), (user + system) as f64 / TICKS_PER_SECOND))
}
