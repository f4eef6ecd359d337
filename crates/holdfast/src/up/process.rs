//! Starting, watching and stopping one child process.
//!
//! Invariant: no child outlives this process, not even when it is killed with SIGKILL. The kernel
//! sends each child a signal when the *thread* that started it ends, which is why `up` runs on one
//! thread only.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Unique, such as `node-7100`; also the name of the log file.
    pub(crate) name: String,
    /// Executable.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Takes standard output and error, appended.
    pub(crate) log: PathBuf,
    /// Children of one rank are stopped together, those of a higher one before.
    pub(crate) rank: u8,
}

/// How long a child may take to stop by itself after SIGTERM.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Starts a child in its own process group, so that Ctrl-C in the terminal reaches this process
/// only and the order of stopping is ours.
pub(crate) fn spawn(spec: &Spec) -> Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&spec.log)
        .with_context(|| format!("open log {}", spec.log.display()))?;
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log")?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true);
    die_with_parent(&mut command);
    command.spawn().with_context(|| format!("start {} ({})", spec.name, spec.program.display()))
}

#[expect(unsafe_code, reason = "PR_SET_PDEATHSIG can be set only between fork and exec")]
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: the closure calls prctl, getppid and nothing else; all are async-signal-safe and
    // allocate nothing.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The parent may have died before the line above.
            if libc::getppid().cast_unsigned() != parent {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        });
    }
}

/// Sends a signal to a child. One that is gone already is no error.
pub(crate) fn signal(pid: u32, signal: i32) {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return };
    #[expect(unsafe_code, reason = "std sends no signal but SIGKILL")]
    // SAFETY: kill takes two integers; the pid is that of a child not yet waited for, so it is not
    // reused.
    unsafe {
        libc::kill(pid, signal);
    }
}

/// Between two SIGTERMs: at the second one a node ends without a successor; here all of them end.
const AGAIN: Duration = Duration::from_millis(100);

/// SIGTERM until it ends, for a while, then SIGKILL. A stopped child gets SIGCONT too, or it would
/// never see the SIGTERM.
pub(crate) async fn stop(child: &mut Child) -> Result<ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < STOP_PATIENCE {
        if let Some(pid) = child.id() {
            signal(pid, libc::SIGTERM);
            signal(pid, libc::SIGCONT);
        }
        if let Ok(status) = timeout(AGAIN, child.wait()).await {
            return status.context("wait for a child");
        }
    }
    child.start_kill().context("kill a child")?;
    child.wait().await.context("wait for a killed child")
}

/// The last lines of a log, for the message when a start fails.
pub(crate) fn tail(path: &std::path::Path, lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
