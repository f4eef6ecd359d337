//! The units of `packaging/systemd`, read by systemd itself, and held against what the processes
//! accept.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use testkit::process::{self, Process};
use testkit::wait;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd")
}

fn units() -> Result<Vec<(String, String)>> {
    let mut units = Vec::new();
    for entry in std::fs::read_dir(folder()).context("read the folder of units")? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "service" || kind == "timer") {
            let name = path.file_name().and_then(|name| name.to_str()).context("a name")?;
            units.push((name.to_owned(), std::fs::read_to_string(&path)?));
        }
    }
    units.sort();
    ensure!(units.len() >= 8, "units: {units:?}");
    Ok(units)
}

/// The units as they would be installed here: the binary is this build's, the template has an
/// instance.
fn installed(units: &[(String, String)], into: &Path) -> Result<Vec<PathBuf>> {
    let binary = process::holdfast()?;
    let binary = binary.to_str().context("a path in UTF-8")?;
    let mut paths = Vec::new();
    for (name, text) in units {
        // What is not installed here is not what is asked.
        let text = text.replace("/usr/bin/holdfast", binary);
        let text = text.replace("=/usr/bin/ssh ", "=/bin/true ");
        let path = into.join(name.replace("@.", "@lb1."));
        std::fs::write(&path, &text)?;
        if name.contains("@.") {
            std::fs::write(into.join(name), &text)?;
        }
        paths.push(path);
    }
    Ok(paths)
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() -> Result<()> {
    let known = Command::new("systemd-analyze").arg("--version").output();
    if known.is_err() {
        ensure!(std::env::var_os("CI").is_none(), "systemd-analyze is not installed");
        eprintln!("NOT TESTED: systemd-analyze is not installed");
        return Ok(());
    }
    let into = tempfile::tempdir()?;
    for path in installed(&units()?, into.path())? {
        let output =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        // What is wrong with units of this machine is not ours to mend.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("holdfast")).collect();
        ensure!(ours.is_empty(), "{}: {ours:#?}", path.display());
    }
    Ok(())
}

#[test]
fn every_process_is_started_again_for_ever_and_has_files_enough() -> Result<()> {
    for (name, text) in units()? {
        // What is done once, at its time, is started again at the next one.
        if name.ends_with(".timer") || text.contains("\nType=oneshot\n") {
            continue;
        }
        for line in ["Restart=always", "StartLimitIntervalSec=0"] {
            ensure!(text.lines().any(|it| it == line), "{name} has no {line}");
        }
        let has_section = |line: &str| text.lines().position(|it| it == line);
        let (unit, service) = (has_section("[Unit]"), has_section("[Service]"));
        let limit = has_section("StartLimitIntervalSec=0");
        ensure!(unit < limit && limit < service, "{name}: the limit is an option of [Unit]");
        if !name.contains('@') {
            let files = text.lines().find_map(|line| line.strip_prefix("LimitNOFILE="));
            let files: u32 = files.context("LimitNOFILE")?.parse()?;
            ensure!(files >= 16_384, "{name}: {files}");
        }
    }
    Ok(())
}

/// A folder goes with the first unit that stops, and takes along what others have in it, unless it
/// is told to stay.
#[test]
fn no_unit_removes_a_folder_of_another_one() -> Result<()> {
    let mut folders: Vec<(String, String, bool)> = Vec::new();
    for (name, text) in units()? {
        let value =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let Some(folder) = value("RuntimeDirectory") else { continue };
        let stays = value("RuntimeDirectoryPreserve") == Some("yes");
        // As somebody may call a host, or a node.
        let instances: &[&str] =
            if name.contains('@') { &["forward", "haproxy", "node", "lb1"] } else { &[""] };
        for instance in instances {
            let unit = name.replace('@', &format!("@{instance}"));
            folders.push((unit, format!("{}/", folder.replace("%i", instance)), stays));
        }
    }
    ensure!(folders.len() > 10, "{folders:?}");
    for (unit, folder, stays) in &folders {
        for (other, inside, _) in folders.iter().filter(|(other, ..)| other != unit) {
            let is_removed = !stays && inside.starts_with(folder.as_str());
            ensure!(!is_removed, "{unit} removes {inside} of {other}");
        }
    }
    Ok(())
}

/// SIGUSR1 is for a process that knows it; one of an earlier version, which it would end, gets
/// SIGHUP, and one that does not listen yet nothing.
#[test]
fn a_rotation_of_logs_ends_no_process() -> Result<()> {
    let rotation = folder().join("../debian/holdfast.logrotate");
    let rotation = std::fs::read_to_string(rotation).context("read how logs are rotated")?;
    let (_, script) = rotation.split_once("postrotate\n").context("no postrotate")?;
    let (script, _) = script.split_once("endscript").context("no endscript")?;
    let into = tempfile::tempdir()?;
    let knows = |signal: &str| format!("trap 'echo {signal}' {signal}; ");
    let traps = [knows("USR1") + &knows("HUP"), knows("HUP"), String::new()];
    let (mut processes, mut pids) = (Vec::new(), String::new());
    for (number, traps) in traps.iter().enumerate() {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{traps}echo ready; while :; do sleep 0.05; done")]);
        let process = Process::start_command(command, &into.path().join(number.to_string()))?;
        wait::until("a process", process::START_PATIENCE, || {
            ensure!(process.log().contains("ready"), "{}", process.log());
            Ok(())
        })?;
        pids.push_str(&format!("echo {}; echo; ", process.pid()));
        processes.push(process);
    }
    // As systemd has it where a unit does not run, and between two.
    let script = format!("systemctl() {{ echo 0; echo; {pids}}}\n{script}");
    let status = Command::new("sh").args(["-c", &script]).status()?;
    ensure!(status.success(), "{status}");
    wait::until("both are told", process::START_PATIENCE, || {
        let said: Vec<String> = processes.iter().map(Process::log).collect();
        ensure!(said[0].contains("USR1") && said[1].contains("HUP"), "{said:?}");
        Ok(())
    })?;
    for process in &mut processes {
        let ended = process.ended()?;
        ensure!(ended.is_none(), "{ended:?}: {}", process.log());
    }
    ensure!(!processes[0].log().contains("HUP"), "{}", processes[0].log());
    Ok(())
}

/// The line of the backup with the values of its sample: it is understood, and fails for want of a
/// node alone.
fn takes_its_environment(words: &[&str], name: &str) -> Result<()> {
    let sample = folder().join("../etc/backup.env");
    let sample = std::fs::read_to_string(sample).context("read backup.env")?;
    let folder = tempfile::tempdir()?;
    let port = process::free_port()?;
    let mut line = words.join(" ");
    for (key, value) in sample.lines().filter_map(|line| line.split_once('=')) {
        let value = match key {
            "TO" => folder.path().display().to_string(),
            "NODES" => format!("127.0.0.1:{port}"),
            _ => value.to_owned(),
        };
        line = line.replace(&format!("${{{key}}}"), &value).replace(&format!("${key}"), &value);
    }
    ensure!(!line.contains('$'), "{name}: backup.env lacks a value of {line}");
    let output = Command::new(process::holdfast()?).args(line.split(' ')).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let is_refused = output.status.code() == Some(1) && said.contains(&port.to_string());
    ensure!(is_refused, "{name}: {line}: {:?} {said}", output.status);
    Ok(())
}

#[test]
fn the_processes_take_the_command_lines_of_their_units() -> Result<()> {
    let into = tempfile::tempdir()?;
    let empty = into.path().join("empty");
    std::fs::write(&empty, "")?;
    for (name, text) in units()? {
        let Some(line) =
            text.lines().find_map(|it| it.strip_prefix("ExecStart=/usr/bin/holdfast "))
        else {
            continue;
        };
        let words: Vec<&str> = line.split(' ').collect();
        if words.first() == Some(&"ctl") {
            takes_its_environment(&words, &name)?;
            continue;
        }
        let [process, "-c", _file] = words.as_slice() else { bail!("{name}: {line}") };
        if *process == "node" {
            continue;
        }
        let output = Command::new(process::holdfast()?)
            .args([process, "-c"])
            .arg(&empty)
            .arg("--check")
            .output()?;
        ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// A drain, or a handover, may be given more time than the units give a stop.
#[test]
fn a_process_that_is_stopped_asks_for_the_time_that_it_was_given() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).context("listen as systemd does")?;
    socket.set_nonblocking(true)?;
    let dir = folder.path().join("node");
    let cases = [
        (
            "balancer",
            format!(
                "listen = '127.0.0.1:{}'\n[limits]\ndrain_ms = 120000\n",
                process::free_port()?
            ),
        ),
        (
            "node",
            format!(
                "bind 127.0.0.1\nport {}\ndir {}\nhandover-timeout-ms 120000\n",
                process::free_port()?,
                dir.display()
            ),
        ),
    ];
    for (name, text) in cases {
        let config = folder.path().join(format!("{name}.conf"));
        std::fs::write(&config, text)?;
        let mut command = Command::new(process::holdfast()?);
        command.args([name, "-c"]).arg(&config).env("NOTIFY_SOCKET", &path);
        let process = Process::start_command(command, &folder.path().join("log"))?;
        said(&socket, "READY=1").with_context(|| process.log())?;
        process::signal(process.pid(), libc::SIGTERM)?;
        let asked = said(&socket, "EXTEND_TIMEOUT_USEC=").with_context(|| process.log())?;
        let asked_us: u64 = asked.trim().parse().with_context(|| asked.clone())?;
        ensure!((120_000_000..240_000_000).contains(&asked_us), "{name} asks for {asked_us} us");
    }
    Ok(())
}

/// As a controller does whose store was given up to another site: its log alone is not enough.
#[test]
fn one_that_ends_by_itself_tells_its_supervisor_why() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).context("listen as systemd does")?;
    socket.set_nonblocking(true)?;
    let (config, data) = (folder.path().join("controller.toml"), folder.path().join("a-folder"));
    std::fs::create_dir(&data)?;
    let (port, place) = (process::free_port()?, data.display());
    let text = format!("listen = '127.0.0.1:{port}'\ndata = '{place}'\n");
    std::fs::write(&config, text)?;
    let mut command = Command::new(process::holdfast()?);
    command.args(["controller", "-c"]).arg(&config).env("NOTIFY_SOCKET", &path);
    let process = Process::start_command(command, &folder.path().join("log"))?;
    let why = said(&socket, "STATUS=").with_context(|| process.log())?;
    ensure!(!why.trim().is_empty() && why.contains("a-folder"), "{why}");
    Ok(())
}

/// What follows `word` in what a process tells its supervisor, as soon as it does.
fn said(socket: &UnixDatagram, word: &str) -> Result<String> {
    let mut heard = String::new();
    wait::until(word, process::START_PATIENCE, || {
        let mut buffer = [0; 4096];
        while let Ok(length) = socket.recv(&mut buffer) {
            heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
            heard.push('\n');
        }
        let line = heard.lines().find_map(|line| line.strip_prefix(word));
        line.map(str::to_owned).with_context(|| heard.clone())
    })
}
