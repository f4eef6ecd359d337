//! Small disks that can be filled and can hang. Needs root (CAP_SYS_ADMIN).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

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
    let file = File::create(&image).context("create the image of a disk")?;
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

/// Freezes, says so, and thaws once nobody holds the other end of its input: also if that process
/// was killed, for what waits for a frozen disk cannot end, and would keep it frozen. If that
/// process waits itself, it does so for two minutes.
const FREEZE: &str = "trap '' HUP INT PIPE TERM; fsfreeze --freeze \"$1\" || exit 1; echo frozen; \
                      timeout --signal=KILL 120 cat; fsfreeze --unfreeze \"$1\"";

/// A disk that hangs: until this is dropped, whatever is written to it waits, without an error, and
/// not even SIGKILL ends who waits.
#[derive(Debug)]
pub struct Frozen(Child);

impl Frozen {
    /// Freezes the disk of a folder.
    pub fn new(dir: &Path) -> Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", FREEZE, "freeze"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Out of reach of what is sent to the whole group.
            .process_group(0)
            .spawn()
            .context("run a shell")?;
        let said = shell.stdout.take().context("find the output of a shell")?;
        let frozen = Self(shell);
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line).context("wait for a disk to freeze")?;
        ensure!(line.trim() == "frozen", "fsfreeze (this needs root) of {}", dir.display());
        Ok(frozen)
    }

    /// Lets everything go on.
    pub fn thaw(mut self) -> Result<()> {
        let status = self.end()?;
        ensure!(status.success(), "fsfreeze --unfreeze: {status}");
        Ok(())
    }

    fn end(&mut self) -> Result<ExitStatus> {
        drop(self.0.stdin.take());
        self.0.wait().context("wait for a disk to thaw")
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.end();
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
    // Fails only for what is not mounted.
    let _ = Command::new("umount").arg("--lazy").arg(dir).output();
}

/// Gives the calling thread, and what it starts, mounts of its own: they go when all of these have
/// ended, whatever way.
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

/// Takes all space there is, without writing much.
pub fn fill(dir: &Path) -> Result<()> {
    let path = filling(dir);
    let mut file = File::create(&path).context("create the filling")?;
    for megabytes in [2_048_u64, 1_024, 512, 256, 128, 64, 32, 16, 8, 4, 2] {
        let end = file.seek(SeekFrom::End(0)).context("find the end of the filling")?;
        let (offset, length) = (end.to_string(), (megabytes << 20).to_string());
        let words = ["-o", &offset, "-l", &length].map(OsStr::new);
        // Fails for more than there is.
        let _ = run("fallocate", &[words.as_slice(), &[path.as_os_str()]].concat());
    }
    file.seek(SeekFrom::End(0)).context("find the end of the filling")?;
    for size in [1 << 20, 4_096, 64] {
        let zeros = vec![0_u8; size];
        while file.write_all(&zeros).is_ok() {}
    }
    Ok(())
}

/// Gives the space back. A disk that is not filled is left alone.
pub fn free(dir: &Path) -> Result<()> {
    if !filling(dir).exists() {
        // Even the attempt would wait where it hangs.
        return Ok(());
    }
    match std::fs::remove_file(filling(dir)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("remove the filling")
        }
        _ => Ok(()),
    }
}
