//! Keeps children running: one task per child starts it, waits for its end, and starts it again
//! after a while.
//!
//! Knows nothing of what the children are. Stopping goes by rank, the highest first: children of
//! one rank stop together.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::process::{self, Spec};

/// EX_IOERR of sysexits.h.
const IO_ERROR: i32 = 74;
/// EX_OSERR of sysexits.h.
const LIMIT: i32 = 71;

/// What happens when a child ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    /// It is started again after this time.
    After(Duration),
    /// It stays dead.
    Never,
}

/// What is known of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// None while it does not run.
    pub(crate) pid: Option<u32>,
    /// How many times it ended by itself.
    pub(crate) ends: u32,
    restart: Restart,
}

#[derive(Debug)]
struct Shared {
    children: Mutex<BTreeMap<String, Status>>,
    /// Raised at every change of a pid.
    changed: watch::Sender<u64>,
    announce: bool,
}

impl Shared {
    fn update(&self, name: &str, change: impl FnOnce(&mut Status)) -> Restart {
        let mut children = self.children.lock();
        let status = children.entry(name.to_owned()).or_insert(Status {
            pid: None,
            ends: 0,
            restart: Restart::Never,
        });
        change(status);
        let restart = status.restart;
        drop(children);
        self.changed.send_modify(|count| *count += 1);
        restart
    }
}

/// All children of this process.
#[derive(Debug)]
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    tasks: Vec<Task>,
}

/// What keeps one child running.
#[derive(Debug)]
struct Task {
    rank: u8,
    stop: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

impl Supervisor {
    /// `announce`: say on standard output when a child dies and comes back.
    pub(crate) fn new(announce: bool) -> Self {
        let shared = Shared {
            children: Mutex::new(BTreeMap::new()),
            changed: watch::channel(0).0,
            announce,
        };
        Self { shared: Arc::new(shared), tasks: Vec::new() }
    }

    /// Starts a child. An error here means that it could not be started at all.
    pub(crate) fn start(&mut self, spec: Spec, restart: Restart) -> Result<()> {
        let child = process::spawn(&spec)?;
        self.shared.update(&spec.name, |status| {
            status.pid = child.id();
            status.restart = restart;
        });
        let rank = spec.rank;
        let (stop, stopped) = watch::channel(false);
        let handle = tokio::spawn(supervise(spec, child, Arc::clone(&self.shared), stopped));
        self.tasks.push(Task { rank, stop, handle });
        Ok(())
    }

    /// What is known of a child.
    pub(crate) fn status(&self, name: &str) -> Option<Status> {
        self.shared.children.lock().get(name).copied()
    }

    /// The children that ended by themselves at least once.
    pub(crate) fn ended(&self) -> Vec<String> {
        let children = self.shared.children.lock();
        children.iter().filter(|(_, s)| s.ends > 0).map(|(name, _)| name.clone()).collect()
    }

    /// Changes what happens at the next end of a child.
    pub(crate) fn set_restart(&self, name: &str, restart: Restart) {
        self.shared.update(name, |status| status.restart = restart);
    }

    /// Resolves when a pid changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Stops all children, those of the highest rank first: balancers close before nodes do, so
    /// clients see a clean end.
    pub(crate) async fn stop(self) {
        let mut left = self.tasks;
        while let Some(rank) = left.iter().map(|task| task.rank).max() {
            let (now, later): (Vec<Task>, Vec<Task>) =
                left.into_iter().partition(|task| task.rank == rank);
            left = later;
            // Each takes its time, much of which is waiting: all of them are told first.
            for task in &now {
                task.stop.send_replace(true);
            }
            for task in now {
                // A task that panicked has dropped its child, which killed it.
                let _ = task.handle.await;
            }
        }
    }
}

async fn supervise(
    spec: Spec,
    mut child: tokio::process::Child,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let since = Instant::now();
        tokio::select! {
            end = child.wait() => {
                let restart = shared.update(&spec.name, |status| {
                    status.pid = None;
                    status.ends += 1;
                });
                let how = end.map_or_else(|error| error.to_string(), describe);
                say(&shared, &format!(
                    "{} ended after {:.1} s: {how} (log: {})",
                    spec.name, since.elapsed().as_secs_f64(), spec.log.display()
                ));
                match restarted(&spec, restart, &shared, &mut stopped).await {
                    Some(next) => child = next,
                    None => return,
                }
            }
            _ = stopped.changed() => {
                if let Err(error) = process::stop(&mut child).await {
                    say(&shared, &format!("{}: {error:#}", spec.name));
                }
                shared.update(&spec.name, |status| status.pid = None);
                return;
            }
        }
    }
}

/// How a child ended, in words where the number says more to programs than to people.
fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(IO_ERROR) => format!("{status} (its disk is full, or fails)"),
        Some(LIMIT) => format!("{status} (it met a limit of open files or memory)"),
        _ => status.to_string(),
    }
}

/// The child's next life, or none if it is to stay dead.
async fn restarted(
    spec: &Spec,
    restart: Restart,
    shared: &Shared,
    stopped: &mut watch::Receiver<bool>,
) -> Option<tokio::process::Child> {
    let Restart::After(mut delay) = restart else {
        say(shared, &format!("{} is not restarted (--no-restart)", spec.name));
        return None;
    };
    loop {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = stopped.changed() => return None,
        }
        match process::spawn(spec) {
            Ok(child) => {
                shared.update(&spec.name, |status| status.pid = child.id());
                say(shared, &format!("{} restarted", spec.name));
                return Some(child);
            }
            Err(error) => say(shared, &format!("{}: {error:#}", spec.name)),
        }
        delay = delay.max(Duration::from_secs(1));
    }
}

fn say(shared: &Shared, text: &str) {
    if shared.announce {
        crate::out::say(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &std::path::Path) -> Spec {
        Spec {
            name: "sleeper".into(),
            program: "/bin/sleep".into(),
            arguments: vec!["600".into()],
            log: dir.join("sleeper.log"),
            rank: 0,
        }
    }

    /// A shell that does something when it is told to end, and says by a file that it listens.
    fn shell(dir: &std::path::Path, name: &str, rank: u8, at_its_end: &str) -> Spec {
        let script = format!(
            "cd '{}'; trap '{at_its_end}; touch {name}.ended; exit 0' TERM; touch {name}.up\n\
             while :; do sleep 0.01; done",
            dir.display()
        );
        Spec {
            name: name.into(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            log: dir.join(format!("{name}.log")),
            rank,
        }
    }

    async fn pid_other_than(supervisor: &Supervisor, old: Option<u32>) -> u32 {
        let mut changes = supervisor.changes();
        let wait = changes.wait_for(|_| {
            let pid = supervisor.status("sleeper").and_then(|status| status.pid);
            pid.is_some() && pid != old
        });
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap().unwrap();
        supervisor.status("sleeper").unwrap().pid.unwrap()
    }

    #[tokio::test]
    async fn a_killed_child_comes_back_and_a_stopped_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut supervisor = Supervisor::new(false);
        supervisor.start(sleeper(dir.path()), Restart::After(Duration::ZERO)).unwrap();
        let first = pid_other_than(&supervisor, None).await;
        process::signal(first, libc::SIGKILL);
        let second = pid_other_than(&supervisor, Some(first)).await;
        assert_eq!(supervisor.ended(), ["sleeper"]);
        // SIGTERM alone would not end a stopped process.
        process::signal(second, libc::SIGSTOP);
        supervisor.stop().await;
        assert!(!std::path::Path::new(&format!("/proc/{second}/exe")).exists());
    }

    /// Each of the two ends only if the other one was told as well, and the third sees both ends.
    #[tokio::test]
    async fn children_of_a_rank_stop_together_and_those_below_them_later() {
        let dir = tempfile::tempdir().unwrap();
        let await_other = |other: &str, own: &str| {
            format!("touch {own}.told; until [ -e {other}.told ]; do sleep 0.01; done")
        };
        let below = "ls a.ended b.ended >seen";
        let specs = [
            shell(dir.path(), "below", 0, below),
            shell(dir.path(), "a", 1, &await_other("b", "a")),
            shell(dir.path(), "b", 1, &await_other("a", "b")),
        ];
        let mut supervisor = Supervisor::new(false);
        for spec in specs {
            supervisor.start(spec, Restart::Never).unwrap();
        }
        let listens = |name: &&str| dir.path().join(name).with_extension("up").exists();
        let all_listen = async {
            while !["below", "a", "b"].iter().all(listens) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all_listen).await.unwrap();
        supervisor.stop().await;
        let seen = std::fs::read_to_string(dir.path().join("seen")).unwrap();
        assert_eq!(seen, "a.ended\nb.ended\n");
        assert!(dir.path().join("below.ended").exists());
    }

    #[test]
    fn a_full_disk_and_a_limit_are_named() {
        use std::os::unix::process::ExitStatusExt as _;
        let said = describe(ExitStatus::from_raw(IO_ERROR << 8));
        assert_eq!(said, "exit status: 74 (its disk is full, or fails)");
        let said = describe(ExitStatus::from_raw(LIMIT << 8));
        assert_eq!(said, "exit status: 71 (it met a limit of open files or memory)");
        assert_eq!(describe(ExitStatus::from_raw(1 << 8)), "exit status: 1");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let spec = Spec { program: dir.path().join("nothing"), ..sleeper(dir.path()) };
        assert!(Supervisor::new(false).start(spec, Restart::Never).is_err());
    }
}
