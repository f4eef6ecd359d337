//! How many files and connections a process may have open, and what it does where that is not
//! enough.
//!
//! A process raises its soft limit at the start to what its configuration needs, as far as the hard
//! one lets, and takes what is missing then from its clients' share. A limit that is met all the
//! same says nothing of a disk, a node or a balancer: [`is_limit`] tells such an error from others.
//!
//! No decision about who is refused is made here.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Where descriptors are had without a disk.
const NOWHERE: &str = "/dev/null";

/// RLIMIT_NOFILE; [`u64::MAX`] is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// The limit in force.
    pub soft: u64,
    /// How far this process may raise it.
    pub hard: u64,
}

/// The current limit.
///
/// # Errors
/// The system does not tell.
#[expect(unsafe_code, reason = "std has no getrlimit")]
pub fn open_files() -> io::Result<OpenFiles> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a whole `rlimit` of ours, which the call fills.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => Ok(OpenFiles { soft: limit.rlim_cur, hard: limit.rlim_max }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Raises the soft limit to `wanted`, or as far as the hard one lets; never lowers it. The hard
/// limit is the administrator's and stays.
///
/// # Errors
/// The system does not tell the limit, or refuses.
#[expect(unsafe_code, reason = "std has no setrlimit")]
pub fn raise_open_files(wanted: u64) -> io::Result<OpenFiles> {
    let OpenFiles { soft, hard } = open_files()?;
    let target = wanted.min(hard);
    if target <= soft {
        return Ok(OpenFiles { soft, hard });
    }
    let limit = libc::rlimit { rlim_cur: target, rlim_max: hard };
    // SAFETY: the pointer is to a whole `rlimit` of ours, which the call only reads.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(OpenFiles { soft: target, hard }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether an error tells of a limit of this process or this machine, descriptors or memory, or
/// only that the call is to be made again: not of a fault of what was asked.
pub fn is_limit(error: &io::Error) -> bool {
    let number = error.raw_os_error().unwrap_or_default();
    [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EAGAIN, libc::EINTR]
        .contains(&number)
}

/// The same of an error of dialling, where the ports of this machine may be used up as well: all
/// sessions of a load balancer share those towards a node, and it is no fault of the node's.
pub fn is_limit_of_dialling(error: &io::Error) -> bool {
    is_limit(error) || error.raw_os_error() == Some(libc::EADDRNOTAVAIL)
}

/// Whether a text that ends in the system's words for an error tells of such a limit; for libraries
/// that give nothing but text.
pub fn is_limit_text(text: &str) -> bool {
    const WORDS: [&str; 5] = [
        "Too many open files",
        "Cannot allocate memory",
        "No buffer space available",
        "Resource temporarily unavailable",
        "Interrupted system call",
    ];
    WORDS.iter().any(|words| text.contains(words))
}

/// A descriptor held for the moment in which there is none left: a connection can then still be
/// accepted and told so, instead of waiting in the kernel's queue.
#[derive(Debug)]
pub struct Spare(Option<File>);

impl Spare {
    /// Takes one.
    ///
    /// # Errors
    /// There is none left.
    pub fn new() -> io::Result<Self> {
        File::open(NOWHERE).map(|file| Self(Some(file)))
    }

    /// Gives the descriptor up while `f` runs. Another thread may be faster: `f` may find none all
    /// the same.
    pub fn lend<T>(&mut self, f: impl FnOnce() -> T) -> T {
        self.0 = None;
        let done = f();
        // Without one there is none to lend next time, and the next time takes it.
        self.0 = File::open(NOWHERE).ok();
        done
    }
}

/// Counts what happens often, to be told of seldom.
#[derive(Debug)]
pub struct Seldom {
    interval: Duration,
    state: Mutex<(Option<Instant>, u64)>,
}

impl Seldom {
    /// At most one word per `interval`.
    pub const fn every(interval: Duration) -> Self {
        Self { interval, state: Mutex::new((None, 0)) }
    }

    /// Counts one more. How many there were since the last word, if one is due.
    pub fn count(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let (told_at, count) = &mut *state;
        *count += 1;
        if told_at.is_some_and(|at| at.elapsed() < self.interval) {
            return None;
        }
        *told_at = Some(Instant::now());
        Some(std::mem::take(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_as_far_as_the_hard_one_lets_and_never_lowered() {
        let before = open_files().unwrap();
        assert_eq!(raise_open_files(1).unwrap(), before);
        let wanted = (before.soft + 1).min(before.hard);
        assert_eq!(raise_open_files(wanted).unwrap(), OpenFiles { soft: wanted, ..before });
        let all = raise_open_files(u64::MAX).unwrap();
        assert_eq!(all, OpenFiles { soft: before.hard, hard: before.hard });
        assert_eq!(open_files().unwrap(), all);
    }

    #[test]
    fn a_limit_is_told_from_a_fault() {
        let is_one = |number| is_limit(&io::Error::from_raw_os_error(number));
        for number in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::EINTR] {
            assert!(is_one(number), "{number}");
            let text = io::Error::from_raw_os_error(number).to_string();
            assert!(is_limit_text(&format!("While open a file: /x: {text}")), "{text}");
        }
        for number in [libc::EIO, libc::ENOSPC, libc::EROFS, libc::ENOENT, libc::ECONNREFUSED] {
            assert!(!is_one(number), "{number}");
            assert!(!is_limit_text(&io::Error::from_raw_os_error(number).to_string()));
        }
    }

    #[test]
    fn a_want_of_ports_is_a_limit_for_those_who_dial_only() {
        let no_port = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        assert!(is_limit_of_dialling(&no_port) && !is_limit(&no_port));
        assert!(is_limit_of_dialling(&io::Error::from_raw_os_error(libc::EMFILE)));
        for number in [libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ETIMEDOUT] {
            assert!(!is_limit_of_dialling(&io::Error::from_raw_os_error(number)), "{number}");
        }
    }

    #[test]
    fn a_spare_descriptor_is_free_while_it_is_lent() {
        use std::os::fd::AsRawFd as _;
        let mut spare = Spare::new().unwrap();
        let number = spare.0.as_ref().unwrap().as_raw_fd();
        let path = format!("/proc/self/fd/{number}");
        let is_null = || std::fs::read_link(&path).is_ok_and(|to| to.ends_with("null"));
        assert!(is_null());
        assert!(!spare.lend(is_null));
        assert!(spare.0.is_some());
    }

    #[test]
    fn what_happens_often_is_told_of_seldom_and_counted() {
        let seldom = Seldom::every(Duration::from_secs(3600));
        assert_eq!([seldom.count(), seldom.count(), seldom.count()], [Some(1), None, None]);
        seldom.state.lock().0 = None;
        assert_eq!(seldom.count(), Some(3));
    }
}
