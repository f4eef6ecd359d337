//! Small disks that can be filled. Needs root (CAP_SYS_ADMIN).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Puts a file system in memory, of this size and under this name, into an empty folder.
pub fn mount(dir: &Path, megabytes: u32, name: &str) -> Result<()> {
    let output = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), name])
        .arg(dir)
        .output()
        .context("run mount")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "mount a small disk (this needs root): {errors}");
    Ok(())
}

/// Takes it away again. One that is still in use goes when it is not any more.
pub fn unmount(dir: &Path) {
    // Fails only for what is not mounted.
    let _ = Command::new("umount").arg("--lazy").arg(dir).output();
}

/// Gives the calling thread, and what it starts, mounts of its own: they go when all of these have ended, whatever way.
#[expect(unsafe_code, reason = "std cannot give a thread a namespace")]
pub fn unshare() -> Result<()> {
    // SAFETY: unshare takes flags and touches no memory.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(std::io::Error::last_os_error()).context("unshare mounts (this needs root)");
    }
    let output = Command::new("mount").args(["--make-rprivate", "/"]).output();
    let output = output.context("run mount")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
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
