//! What the operating system and the allocator know of this process.
//!
//! A number that cannot be had is 0 or `None`: INFO must not fail because `/proc` is not mounted.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::OnceLock;

/// The heap as jemalloc counts it, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Heap {
    /// Handed out.
    pub allocated: u64,
    /// In pages that hold something handed out.
    pub active: u64,
    /// In physical memory.
    pub resident: u64,
}

/// The current heap.
pub fn heap() -> Option<Heap> {
    // Statistics are those of the last epoch: begin a new one.
    tikv_jemalloc_ctl::epoch::advance().ok()?;
    let bytes = |read: tikv_jemalloc_ctl::Result<usize>| Some(read.ok()? as u64);
    Some(Heap {
        allocated: bytes(tikv_jemalloc_ctl::stats::allocated::read())?,
        active: bytes(tikv_jemalloc_ctl::stats::active::read())?,
        resident: bytes(tikv_jemalloc_ctl::stats::resident::read())?,
    })
}

/// Gives pages that hold nothing back to the system; false if the allocator refuses.
pub fn purge() -> bool {
    let Ok(arenas) = tikv_jemalloc_ctl::arenas::narenas::read() else { return false };
    (0..arenas).all(purge_arena)
}

/// Pages that may wait for no time go at once: that is said, and taken back.
#[expect(unsafe_code, reason = "the crate has no function for it")]
fn purge_arena(arena: libc::c_uint) -> bool {
    let name = format!("arena.{arena}.dirty_decay_ms\0");
    // SAFETY: the name ends with 0, and its value is a `ssize_t`.
    let Ok(before) = (unsafe { tikv_jemalloc_ctl::raw::read::<isize>(name.as_bytes()) }) else {
        // It was never used.
        return true;
    };
    let set = |ms: isize| {
        // SAFETY: as above.
        unsafe { tikv_jemalloc_ctl::raw::write(name.as_bytes(), ms) }.is_ok()
    };
    set(0) && set(before)
}

/// Bytes of this process in physical memory.
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    pages * page_bytes()
}

#[expect(unsafe_code, reason = "std does not tell the page size")]
fn page_bytes() -> u64 {
    // SAFETY: takes and returns plain numbers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}

/// Bytes in physical memory when this was first asked: the node asks at its start.
pub fn startup_bytes() -> u64 {
    static BYTES: OnceLock<u64> = OnceLock::new();
    *BYTES.get_or_init(resident_bytes)
}

/// Seconds of CPU this process has used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// In the kernel.
    pub system: f64,
    /// Outside.
    pub user: f64,
}

/// CPU used since the start.
#[expect(unsafe_code, reason = "std has no getrusage")]
pub fn cpu_seconds() -> Cpu {
    // SAFETY: all-zero bytes are a valid rusage: it consists of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live rusage.
    let outcome = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    if outcome != 0 {
        return Cpu::default();
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Cpu { system: seconds(usage.ru_stime), user: seconds(usage.ru_utime) }
}

/// A file system, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Disk {
    /// As a whole.
    pub capacity: u64,
    /// By anybody.
    pub used: u64,
    /// What this process may still write: some of what is unused may be kept for root.
    pub free: u64,
}

/// The file system a folder is on.
#[expect(unsafe_code, reason = "std has no statvfs")]
pub fn disk(folder: &Path) -> Option<Disk> {
    let folder = CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: all-zero bytes are a valid statvfs: it consists of integers.
    let mut facts: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the first pointer is to a string that ends with 0, the second to a live statvfs.
    let outcome = unsafe { libc::statvfs(folder.as_ptr(), &raw mut facts) };
    if outcome != 0 {
        return None;
    }
    let bytes = |blocks: libc::fsblkcnt_t| blocks.saturating_mul(facts.f_frsize);
    let capacity = bytes(facts.f_blocks);
    let used = capacity.saturating_sub(bytes(facts.f_bfree));
    Some(Disk { capacity, used, free: bytes(facts.f_bavail) })
}

/// Kernel and architecture, as `Linux 6.1.0 x86_64`.
pub fn os() -> &'static str {
    static OS: OnceLock<String> = OnceLock::new();
    OS.get_or_init(|| {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        format!("Linux {} {}", release.trim(), std::env::consts::ARCH)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_cpu_and_disk() {
        assert!(startup_bytes() > 0 && resident_bytes() > 0);
        let cpu = cpu_seconds();
        assert!(cpu.user + cpu.system > 0.0);
        let disk = disk(Path::new("/")).unwrap();
        assert!(disk.capacity >= disk.used && disk.capacity > 0);
        assert!(disk_of_nothing().is_none());
    }

    fn disk_of_nothing() -> Option<Disk> {
        disk(Path::new("/no/such/folder"))
    }
}
