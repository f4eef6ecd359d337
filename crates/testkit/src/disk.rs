//! Small disks that can be filled and can hang. Needs root (CAP_SYS_ADMIN).

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Puts a file system in memory, of this size and under this name, into an empty folder.
pub fn mount(dir: &Path, megabytes: u32, name: &str) -> Result<()> {
    let size = format!("size={megabytes}m");
    let words = ["-t", "tmpfs", "-o", &size, name].map(OsStr::new);
    run("mount", &[words.as_slice(), &[dir.as_os_str()]].concat())
}

/// Puts a small ext4 into an empty folder: one that can be frozen.
pub fn mount_ext4(dir: &Path, megabytes: u64) -> Result<()> {
    let image = dir.with_extension("img");
    let file = std::fs::File::create(&image).context("create the image of a disk")?;
    file.set_len(megabytes << 20).context("size the image of a disk")?;
    drop(file);
    let made = run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_os_str()]);
    let mounted = made.and_then(|()| {
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_os_str(), dir.as_os_str()])
    });
    // The mount keeps it: it goes with its last user, whatever way that ends.
    std::fs::remove_file(&image).context("remove the image of a disk")?;
    mounted
}

/// From now on whatever is written to the disk of a folder waits, without an error and not even ending with SIGKILL.
pub fn freeze(dir: &Path) -> Result<()> {
    run("fsfreeze", &["--freeze".as_ref(), dir.as_os_str()])
}

/// Lets it all go on.
pub fn thaw(dir: &Path) -> Result<()> {
    run("fsfreeze", &["--unfreeze".as_ref(), dir.as_os_str()])
}

/// A disk that hangs until this is dropped: processes that wait for it cannot end before.
#[derive(Debug)]
pub struct Frozen(PathBuf);

impl Frozen {
    /// Freezes the disk of a folder.
    pub fn new(dir: &Path) -> Result<Self> {
        freeze(dir)?;
        Ok(Self(dir.to_owned()))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Fails only for what is not frozen.
        let _ = thaw(&self.0);
    }
}

fn run(program: &str, arguments: &[&OsStr]) -> Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("run {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} (this needs root): {errors}");
    Ok(())
}

/// Takes it away again. One that is still in use goes when it is not any more.
pub fn unmount(dir: &Path) {
    // Both fail only for what is not so.
    let _ = thaw(dir);
    let _ = Command::new("umount").arg("--lazy").arg(dir).output();
}

/// Gives the calling thread, and what it starts, mounts of its own: they go when all of these have ended, whatever way.
#[expect(unsafe_code, reason = "std cannot give a thread a namespace")]
pub fn unshare() -> Result<()> {
    // SAFETY: unshare takes flags and touches no memory.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(std::io::Error::last_os_error()).context("unshare mounts (this needs root)");
    }
    run("mount", &["--make-rprivate".as_ref(), "/".as_ref()])
}

/// The file that uses up the disk of a folder.
pub fn filling(dir: &Path) -> PathBuf {
    dir.join("filling")
}

/// Writes zeros until nothing more fits.
pub fn fill(dir: &Path) -> Result<()> {
    let mut file = std::fs::File::create(filling(dir)).context("create the filling")?;
    for size in [1 << 20, 4_096, 64] {
        let zeros = vec![0_u8; size];
        while file.write_all(&zeros).is_ok() {}
    }
    Ok(())
}

/// Gives the space back. A disk that is not filled is left alone.
pub fn free(dir: &Path) -> Result<()> {
    match std::fs::remove_file(filling(dir)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("remove the filling")
        }
        _ => Ok(()),
    }
}
