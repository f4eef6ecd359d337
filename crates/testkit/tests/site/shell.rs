//! The operator's shell, and what stands in for other machines: `ssh` and `scp` lead to hosts of
//! the test, `apt-get` lays out what a package would, `systemctl` starts units.

use std::collections::btree_map::Entry;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail, ensure};

use crate::host::{OPERATOR, Site, USERS};
use crate::units::Service;

/// Questions go out by 3, answers come by 4, and what is said goes to a file.
const PRELUDE: &str = "exec 3>&1 4<&0 </dev/null >&2\nset -euo pipefail\ncd /srv\n";
/// Longest time that a script may take, seconds: the whole of a page, on a busy machine.
const LIMIT: &str = "600";

/// A child that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only for one that is gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Site {
    /// Gives commands to one shell of the operator's; what they said, if the last of them did what
    /// it should.
    pub(crate) fn operate(&mut self, script: &str) -> Result<String> {
        let operator = self.index(OPERATOR)?;
        let (code, said) = self.converse(operator, script)?;
        self.story += &said;
        ensure!(code == 0, "the operator's commands end with {code}: {said}");
        Ok(said)
    }

    /// The same at the place where the site's certificates and passwords are.
    pub(crate) fn ctl(&mut self, words: &str) -> Result<String> {
        self.operate(&format!("cd site; . ./ctl.env; holdfast ctl {words}\n"))
    }

    /// A shell of a host, whose questions are answered; its exit code, and what it said.
    fn converse(&mut self, at: usize, script: &str) -> Result<(i32, String)> {
        let place = self.hosts.get(at).context("find a host")?.place.clone();
        let path = self.log(&format!("{}-shell", place.name))?;
        let log = std::fs::File::create(&path).context("create a log")?;
        let script = format!("{PRELUDE}{script}");
        let mut command = place.command(&["timeout", LIMIT, "bash", "-c", &script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = Killed(command.spawn().context("start a shell")?);
        let mut answers = child.0.stdin.take().context("its input")?;
        let questions = BufReader::new(child.0.stdout.take().context("its output")?);
        for question in questions.lines() {
            let (code, said) = match self.answer(at, &question.context("read a question")?) {
                Ok(answer) => answer,
                Err(error) => (1, format!("{error:#}\n")),
            };
            std::fs::write(place.path("/tmp/said"), said).context("write an answer")?;
            writeln!(answers, "{code}").context("answer a shell")?;
        }
        let status = child.0.wait().context("wait for a shell")?;
        let said = std::fs::read(&path).context("read a log")?;
        Ok((status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned()))
    }

    fn answer(&mut self, at: usize, question: &str) -> Result<(i32, String)> {
        let place = &self.hosts.get(at).context("find a host")?.place;
        let asked = std::fs::read_to_string(place.path("/tmp/asked")).context("read a question")?;
        let lines: Vec<&str> = asked.lines().collect();
        let (folder, words) = lines.split_first().context("an empty question")?;
        let done = |done: Result<()>| done.map(|()| (0, String::new()));
        match question {
            "ssh" => {
                let (to, words) = words.split_first().context("ssh to nowhere")?;
                let to = self.index(to.strip_prefix("root@").context("as root")?)?;
                self.converse(to, &words.join(" "))
            }
            "scp" => done(self.copy(at, folder, words)),
            "apt-get" => done(self.install(at, folder, words)),
            "systemctl" => done(self.systemctl(at, words)),
            other => bail!("nobody stands in for {other}"),
        }
    }

    /// A word of a command as a path of that host.
    fn resolve(&self, at: usize, folder: &str, word: &str) -> Result<PathBuf> {
        let place = &self.hosts.get(at).context("find a host")?.place;
        let is_whole = word.starts_with('/');
        Ok(if is_whole { place.path(word) } else { place.path(folder).join(word) })
    }

    /// Files go with their modes, those that are there keep theirs.
    fn copy(&self, at: usize, folder: &str, words: &[&str]) -> Result<()> {
        let [from, to] = words else { bail!("scp {words:?}") };
        let (host, path) = to.split_once(':').context("a host")?;
        let to = self.index(host.strip_prefix("root@").context("as root")?)?;
        let from = self.resolve(at, folder, from)?;
        let mut target = self.resolve(to, "/srv", path)?;
        if target.is_dir() {
            target.push(from.file_name().context("a name")?);
        }
        let bytes = std::fs::read(&from).with_context(|| format!("read {}", from.display()))?;
        let is_there = target.exists();
        std::fs::write(&target, bytes).with_context(|| format!("write {}", target.display()))?;
        if !is_there {
            let permissions = std::fs::metadata(&from)?.permissions();
            std::fs::set_permissions(&target, permissions)?;
        }
        Ok(())
    }

    /// What a package lays out, as far as commands of the pages meet it.
    fn install(&self, at: usize, folder: &str, words: &[&str]) -> Result<()> {
        let ["install", "-y", package] = words else { bail!("apt-get {words:?}") };
        let place = &self.hosts.get(at).context("find a host")?.place;
        let id = |name: &str| USERS.iter().find(|(known, _)| *known == name).map(|(_, id)| *id);
        let make = |path: &str, mode: u32, (user, group): (Option<u32>, Option<u32>)| {
            let path = place.path(path);
            std::fs::create_dir_all(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
            chown(&path, user, group)
        };
        match *package {
            "etcd-server" => make("var/lib/etcd", 0o755, (id("etcd"), id("etcd")))?,
            "haproxy" => ensure!(Path::new("/usr/sbin/haproxy").exists(), "no haproxy"),
            file => {
                let file = self.resolve(at, folder, file)?;
                let is_ours = file.display().to_string().ends_with(".deb") && file.exists();
                ensure!(is_ours, "no package {}", file.display());
                make("etc/holdfast", 0o750, (Some(0), id("holdfast")))?;
                for sample in ["node.conf", "controller.toml", "balancer.toml"] {
                    let path = place.path("etc/holdfast").join(sample);
                    if !path.exists() {
                        std::fs::write(&path, "# a sample\n").context("write a sample")?;
                    }
                }
            }
        }
        Ok(())
    }

    fn systemctl(&mut self, at: usize, words: &[&str]) -> Result<()> {
        let (flags, rest): (Vec<&str>, Vec<&str>) =
            words.iter().copied().partition(|word| word.starts_with("--"));
        let (verb, units) = rest.split_first().context("systemctl without a verb")?;
        let waits = !flags.contains(&"--no-block");
        for unit in units {
            match (*verb, flags.contains(&"--now")) {
                ("enable", false) => {}
                ("enable", true) | ("start", _) => self.start(at, unit, waits)?,
                ("stop", _) | ("disable", true) => self.stop(at, unit)?,
                ("restart", _) => {
                    self.stop(at, unit)?;
                    self.start(at, unit, waits)?;
                }
                other => bail!("nobody stands in for systemctl {other:?}"),
            }
        }
        Ok(())
    }

    fn start(&mut self, at: usize, unit: &str, waits: bool) -> Result<()> {
        if let Some(to) = unit.strip_prefix("holdfast-forward@") {
            return self.forward(at, to);
        }
        let place = self.hosts.get(at).context("find a host")?.place.clone();
        let log = self.log(&format!("{}-{unit}", place.name))?;
        let services = &mut self.hosts.get_mut(at).context("find a host")?.services;
        let service = match services.entry(unit.to_owned()) {
            Entry::Occupied(running) => running.into_mut(),
            Entry::Vacant(none) => none.insert(Service::start(&place, unit, &log)?),
        };
        if waits { service.await_ready() } else { Ok(()) }
    }

    fn stop(&mut self, at: usize, unit: &str) -> Result<()> {
        let host = self.hosts.get_mut(at).context("find a host")?;
        let Some(service) = host.services.remove(unit) else { return Ok(()) };
        let status = service.stop()?;
        // As systemd sees it.
        let is_clean = status.success() || status.signal() == Some(libc::SIGTERM);
        ensure!(is_clean, "{unit} ended with {status}");
        Ok(())
    }

    /// As `holdfast-forward@` does by ssh.
    fn forward(&mut self, at: usize, to: &str) -> Result<()> {
        let there = self.host(to)?.place.path("/run/holdfast-haproxy");
        let folder = self.hosts.get(at).context("find a host")?.place.path("/run");
        let folder = folder.join("holdfast-forward").join(to);
        std::fs::create_dir_all(&folder).context("create a folder")?;
        for (near, far) in [("runtime.sock", "holdfast.sock"), ("master.sock", "master.sock")] {
            self.forwards.push(Forward::open(folder.join(near), there.join(far))?);
        }
        Ok(())
    }
}

/// A socket file that leads to another one.
#[derive(Debug)]
pub(crate) struct Forward {
    near: PathBuf,
    is_over: Arc<AtomicBool>,
}

impl Forward {
    fn open(near: PathBuf, far: PathBuf) -> Result<Self> {
        let listener = UnixListener::bind(&near).context("listen on a socket file")?;
        std::fs::set_permissions(&near, std::fs::Permissions::from_mode(0o777))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                // One that is not reached is a connection that ends.
                let Ok(server) = UnixStream::connect(&far) else { continue };
                let (Ok(back), Ok(again)) = (server.try_clone(), client.try_clone()) else {
                    continue;
                };
                std::thread::spawn(move || pass(&client, &server));
                std::thread::spawn(move || pass(&back, &again));
            }
        });
        Ok(Self { near, is_over })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes it.
        let _ = UnixStream::connect(&self.near);
    }
}

/// Passes bytes on as they come, and their end.
fn pass(mut from: &UnixStream, mut to: &UnixStream) {
    let mut chunk = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
