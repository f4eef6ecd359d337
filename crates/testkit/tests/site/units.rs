//! Units, started as systemd does: their command lines, users, folders, environment and limits of
//! files are those of the unit files. Hardening is `packaging/tests/boot`'s to try.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use testkit::process::{self, Process};
use testkit::wait;

use crate::host::{HOLDFAST, Place, USERS};

/// systemd's, for a start.
const START_PATIENCE: Duration = Duration::from_secs(90);

/// A running unit; its processes end with it.
#[derive(Debug)]
pub(crate) struct Service {
    name: String,
    process: Option<Process>,
    /// Where it says that it serves, until it was waited for.
    notify: Option<UnixDatagram>,
}

impl Service {
    /// Starts a unit.
    pub(crate) fn start(place: &Place, name: &str, log: &Path) -> Result<Self> {
        let unit = Unit::read(name, &place.name)?;
        unit.make_folders(place)?;
        let environment = unit.environment(place)?;
        for line in unit.values("ExecStartPre") {
            let output = unit.command(place, line, &environment)?.output().context("run it")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{line}: {}: {said}", output.status);
        }
        let line = unit.values("ExecStart").last().context("no ExecStart")?;
        let mut command = unit.command(place, line, &environment)?;
        let notify = format!("/run/n/{name}");
        let path = place.path(&notify);
        // One of an earlier start.
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).context("listen as systemd does")?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
        socket.set_nonblocking(true)?;
        command.env("NOTIFY_SOCKET", &notify).process_group(0);
        let process = Some(Process::start_command(command, log)?);
        let is_told = unit.values("Type").any(|kind| kind == "notify");
        Ok(Self { name: name.to_owned(), process, notify: is_told.then_some(socket) })
    }

    /// Waits until it has said that it serves, if it says so.
    pub(crate) fn await_ready(&mut self) -> Result<()> {
        let Some(socket) = self.notify.take() else { return Ok(()) };
        let name = &self.name;
        let process = self.process.as_mut().context("a process")?;
        let mut heard = String::new();
        let ended = wait::until(&format!("{name} serves"), START_PATIENCE, || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
                heard.push('\n');
            }
            if heard.lines().any(|line| line == "READY=1") {
                return Ok(None);
            }
            let ended = process.ended().map_err(|error| format!("{error:#}"))?;
            ended.map(Some).ok_or_else(|| process.log())
        })?;
        match ended {
            None => Ok(()),
            Some(status) => bail!("{name} ended with {status}: {}", process.log()),
        }
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        let process = self.process.take().context("a process")?;
        let group = process.pid();
        let status = process.terminate();
        // What is left of its group, such as workers of HAProxy; mostly nothing.
        let _ = process::signal_group(group, libc::SIGKILL);
        status
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            // Fails for what is gone.
            let _ = process::signal_group(process.pid(), libc::SIGKILL);
        }
    }
}

/// The lines of a unit.
struct Unit {
    lines: Vec<(String, String)>,
}

impl Unit {
    /// Ours, or one that this machine has of a package.
    fn read(name: &str, host: &str) -> Result<Self> {
        let (stem, instance) = name.split_once('@').unwrap_or((name, ""));
        let at = if instance.is_empty() { "" } else { "@" };
        let file = format!("{stem}{at}.service");
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd");
        let folders: [PathBuf; 2] = [ours, "/lib/systemd/system".into()];
        let mut paths = folders.iter().map(|folder| folder.join(&file));
        let path = paths.find(|path| path.exists());
        let path = path.with_context(|| format!("there is no unit {file}"))?;
        let text = std::fs::read_to_string(&path).context("read a unit")?;
        let text = text.replace("\\\n", " ").replace("/usr/bin/holdfast", HOLDFAST);
        let text = text.replace("%i", instance).replace("%p", stem).replace("%H", host);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.split_once('='));
        Ok(Self { lines: pairs.map(|(key, value)| (key.into(), value.trim().into())).collect() })
    }

    fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.lines.iter().filter(move |(known, _)| known == key);
        found.map(|(_, value)| value.as_str())
    }

    fn user(&self) -> Result<(&'static str, u32)> {
        let name = self.values("User").last().context("a unit without a user")?;
        let known = USERS.iter().find(|(known, _)| *known == name);
        known.copied().with_context(|| format!("no package makes the user {name}"))
    }

    fn make_folders(&self, place: &Place) -> Result<()> {
        let (_, id) = self.user()?;
        let kinds = [
            ("StateDirectory", "var/lib"),
            ("LogsDirectory", "var/log"),
            ("RuntimeDirectory", "run"),
        ];
        for (key, base) in kinds {
            for name in self.values(key).flat_map(str::split_whitespace) {
                let path = place.path(&format!("{base}/{name}"));
                std::fs::create_dir_all(&path).context("create a folder")?;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
                chown(&path, Some(id), Some(id)).context("give a folder away")?;
            }
        }
        Ok(())
    }

    fn environment(&self, place: &Place) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        let mut read = |line: &str| {
            if let Some((key, value)) = line.split_once('=') {
                all.insert(key.to_owned(), value.trim_matches('"').to_owned());
            }
        };
        self.values("Environment").for_each(&mut read);
        for file in self.values("EnvironmentFile") {
            let path = place.path(file.trim_start_matches('-'));
            if file.starts_with('-') && !path.exists() {
                continue;
            }
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {file}"))?;
            text.lines().filter(|line| !line.starts_with('#')).for_each(&mut read);
        }
        Ok(all)
    }

    /// A command line of it, as its user and with its limit of files.
    fn command(
        &self,
        place: &Place,
        line: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<Command> {
        let (user, _) = self.user()?;
        let files: u64 = self.values("LimitNOFILE").last().unwrap_or("1024").parse()?;
        // A container may have less to give.
        let files = files.min(process::raise_open_files()?);
        let (files, to, of) = (
            format!("--nofile={files}:{files}"),
            format!("--reuid={user}"),
            format!("--regid={user}"),
        );
        // Each host has processors of its own: what else this machine does comes second.
        let mut words = vec!["nice", "-n", "-10", "prlimit", &files, "--"];
        words.extend(["setpriv", &to, &of, "--init-groups", "--"]);
        for word in line.split_whitespace() {
            match word.strip_prefix('$') {
                None => words.push(word),
                Some(name) => {
                    let value = environment.get(name).map(String::as_str).unwrap_or_default();
                    words.extend(value.split_whitespace());
                }
            }
        }
        let mut command = place.command(&words);
        command.envs(environment);
        Ok(command)
    }
}
