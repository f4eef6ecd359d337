//! The profiler of the heap within jemalloc: it samples which calls allocated what is in use.
//!
//! It is in binaries that were built with the feature `profiling`, and can be switched in processes
//! that were started with `MALLOC_CONF=prof:true`. Elsewhere it is off, and says why.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::clock;

/// Why the profiler does not do what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// This binary has none.
    #[error("memory profiling is not compiled in: it takes a build with `--features profiling`")]
    NotCompiledIn,
    /// This process was started without it.
    #[error(
        "memory profiling is off: it takes a start with MALLOC_CONF=prof:true,prof_active:false"
    )]
    NotStarted,
    /// The file cannot be made.
    #[error("make {path:?}: {cause}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// jemalloc would not.
    #[error("the allocator refuses: {0}")]
    Allocator(tikv_jemalloc_ctl::Error),
}

/// Whether it samples now.
pub fn is_active() -> bool {
    flag(b"prof.active\0")
}

/// From now on it samples what is allocated.
///
/// # Errors
/// It is not compiled in, or was not started.
pub fn activate() -> Result<(), Refused> {
    check()?;
    set_active(true)
}

/// From now on it samples nothing. What was sampled before stays known.
///
/// # Errors
/// The allocator refuses.
pub fn deactivate() -> Result<(), Refused> {
    if is_active() { set_active(false) } else { Ok(()) }
}

/// Writes what is in use to a new file `jeprof_PID_TIME.heap` in a folder, which only this user may
/// read. It takes a while, for which nothing is sampled.
///
/// # Errors
/// As of [`activate`]; the file cannot be made.
pub fn dump(folder: &Path) -> Result<PathBuf, Refused> {
    check()?;
    let path = folder.join(format!("jeprof_{}_{}.heap", std::process::id(), clock::unix_ms()));
    // jemalloc would follow a link that somebody laid there, and empty what it leads to.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    if let Err(cause) = made {
        return Err(Refused::File { path, cause });
    }
    let written = write_to(&path);
    if written.is_err() {
        // What is left is no profile.
        let _ = fs::remove_file(&path);
    }
    written.map(|()| path)
}

fn check() -> Result<(), Refused> {
    if !flag(b"config.prof\0") {
        return Err(Refused::NotCompiledIn);
    }
    if !flag(b"opt.prof\0") {
        return Err(Refused::NotStarted);
    }
    Ok(())
}

/// False where jemalloc does not know the name, as it does those of a profiler that is not there.
#[expect(unsafe_code, reason = "the crate has no function for it")]
fn flag(name: &'static [u8]) -> bool {
    // SAFETY: the names that are asked for end with 0, and their values are of the type `bool`.
    unsafe { tikv_jemalloc_ctl::raw::read::<bool>(name) }.unwrap_or(false)
}

#[expect(unsafe_code, reason = "the crate has no function for it")]
fn set_active(is_active: bool) -> Result<(), Refused> {
    // SAFETY: the name ends with 0, and its value is of the type `bool`.
    unsafe { tikv_jemalloc_ctl::raw::write(b"prof.active\0", is_active) }
        .map_err(Refused::Allocator)
}

#[expect(unsafe_code, reason = "the crate takes names of files that live for ever")]
fn write_to(path: &Path) -> Result<(), Refused> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| Refused::File {
        path: path.to_owned(),
        cause: io::Error::new(io::ErrorKind::InvalidInput, error),
    })?;
    // SAFETY: the name ends with 0, and its value is a pointer to a string that ends with 0, which
    // jemalloc reads before it returns.
    unsafe { tikv_jemalloc_ctl::raw::write(b"prof.dump\0", name.as_ptr()) }
        .map_err(Refused::Allocator)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests are built without the profiler, and a build that has it is started without.
    #[test]
    fn a_process_without_the_profiler_says_so_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_active());
        for refused in [activate(), dump(folder.path()).map(|_| ())] {
            let refused = refused.unwrap_err();
            assert!(matches!(refused, Refused::NotCompiledIn | Refused::NotStarted), "{refused}");
        }
        assert!(deactivate().is_ok(), "it is off already");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
