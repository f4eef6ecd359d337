//! Habits of Unix: what signals, pipes, full disks, command lines and modes of files mean to every
//! other program.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, ensure};
use testkit::process::{self, free_port};
use testkit::wait;
use testkit::wire::{Connection, Reply};

use common::PATIENCE;

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status()?;
        ensure!(sent.success(), "kill -s {name}");
        Ok(())
    }

    fn end(&mut self) -> Result<ExitStatus> {
        wait::until("its end", PATIENCE, || self.0.try_wait()?.context("it runs"))
    }
}

fn start(words: &[&str], folder: &Path) -> Result<Running> {
    let errors = File::create(folder.join("stderr"))?;
    let child = Command::new(process::holdfast()?)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .context("start")?;
    Ok(Running(child))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn until(what: &str, path: &Path, is_so: impl Fn(&str) -> bool) -> Result<()> {
    wait::until(what, PATIENCE, || {
        let text = text(path);
        ensure!(is_so(&text), "{text}");
        Ok(())
    })
}

/// Status line and body of a plain request.
fn get(port: u16, path: &str, header: &str) -> Result<String> {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A process whose file is changed and read again: `extra` is what its file needs beside the port.
fn hangup(process: &str, extra: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (port, file) = (free_port()?, folder.path().join("process.toml"));
    let log = folder.path().join("process.log");
    let write = |token: &str, more: &str| {
        let data = folder.path().join("store");
        let extra = extra.replace("$DATA", &format!("{data:?}"));
        fs::write(
            &file,
            format!(
                "listen = \"127.0.0.1:{port}\"\ntoken = \"{token}\"\nlog_file = {log:?}\n{extra}{more}"
            ),
        )
    };
    write("one", "")?;
    let mut running = start(&[process, "-c", file.to_str().context("UTF-8")?], folder.path())?;
    wait::until("the port", PATIENCE, || get(port, "/healthz", "").map(drop))?;
    let is_let_in = |token: &str| -> Result<bool> {
        let header = format!("Authorization: Bearer {token}\r\n");
        Ok(get(port, "/metrics", &header)?.starts_with("HTTP/1.1 200"))
    };
    ensure!(is_let_in("one")? && !is_let_in("two")?);

    // As logrotate does it.
    fs::rename(&log, folder.path().join("process.log.1"))?;
    write("two", "allowed_hosts = [\"ops.example\"]\n")?;
    running.signal("HUP")?;
    until("the new log", &log, |text| text.contains("configuration read again"))?;
    ensure!(text(&log).contains("token") && text(&log).contains("allowed_hosts"), "{}", text(&log));
    ensure!(is_let_in("two")? && !is_let_in("one")?);

    // A rotation while somebody edits the file.
    fs::rename(&log, folder.path().join("process.log.2"))?;
    write("half", "")?;
    running.signal("USR1")?;
    until("a log of its own", &log, |text| text.contains("SIGUSR1: log opened again"))?;
    ensure!(is_let_in("two")? && !is_let_in("half")?, "the file was read");
    ensure!(!text(&log).contains("configuration"), "{}", text(&log));

    write("three", "nonsense = 1\n")?;
    running.signal("HUP")?;
    until("a complaint", &log, |text| text.contains("the configuration stays as it is"))?;
    ensure!(text(&log).contains("nonsense") && is_let_in("two")?, "{}", text(&log));
    ensure!(running.0.try_wait()?.is_none(), "it lives");
    running.signal("TERM")?;
    let ended = running.end()?;
    ensure!(ended.code() == Some(0) && ended.signal().is_none(), "{ended}");
    ensure!(text(&log).contains("SIGTERM: stopping"), "{}", text(&log));
    Ok(())
}

#[test]
fn a_controller_reads_its_file_again_at_sighup() -> Result<()> {
    hangup("controller", "data = $DATA\n")
}

#[test]
fn a_balancer_reads_its_file_again_at_sighup() -> Result<()> {
    hangup("balancer", "")
}

#[test]
fn a_node_reads_its_file_again_at_sighup_and_opens_its_log_anew() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (port, admin) = (free_port()?, free_port()?);
    let (file, logs) = (folder.path().join("node.conf"), folder.path().join("logs"));
    let log = logs.join("holdfast.log");
    let write = |more: &str| {
        let dir = folder.path().join("data");
        let fixed = format!("port {port}\nadmin-port {admin}\nworkers 1\ndir {}\n", dir.display());
        fs::write(&file, format!("{fixed}log-dir {}\n{more}", logs.display()))
    };
    write("")?;
    let mut running = start(&["node", "-c", file.to_str().context("UTF-8")?], folder.path())?;
    until("a node", &log, |text| text.contains("ready to serve"))?;
    for word in ["node starts", "version=", "node.conf", "opening the database", "database open"] {
        ensure!(text(&log).contains(word), "{word}: {}", text(&log));
    }
    let metrics = |header: &str| get(admin, "/metrics", header);
    ensure!(metrics("Origin: http://evil.example\r\n")?.starts_with("HTTP/1.1 403"));
    ensure!(metrics("")?.starts_with("HTTP/1.1 200"));

    fs::rename(&log, logs.join("holdfast.log.1"))?;
    write("timeout 77\nlog-level debug\ntcp-backlog 300\n")?;
    running.signal("HUP")?;
    until("the new log", &log, |text| text.contains("configuration read again"))?;
    let said = text(&log);
    ensure!(said.contains("timeout") && said.contains("in force only after a restart"), "{said}");
    ensure!(said.contains("tcp-backlog"), "{said}");
    let mut connection = Connection::open(SocketAddr::from(([127, 0, 0, 1], port)))?;
    let got = connection.call(&["CONFIG", "GET", "timeout"])?;
    ensure!(matches!(&got, Reply::Many(_, pair) if pair[1].text() == "77"), "{got:?}");

    // A rotation leaves alone what was set, and a file that somebody edits.
    connection.call(&["CONFIG", "SET", "timeout", "78"])?;
    write("timeout 79\n")?;
    fs::rename(&log, logs.join("holdfast.log.2"))?;
    running.signal("USR1")?;
    until("a log of its own", &log, |text| text.contains("SIGUSR1: log opened again"))?;
    let got = connection.call(&["CONFIG", "GET", "timeout"])?;
    ensure!(matches!(&got, Reply::Many(_, pair) if pair[1].text() == "78"), "{got:?}");

    write("timeout nonsense\n")?;
    running.signal("HUP")?;
    until("a complaint", &log, |text| text.contains("the configuration stays as it is"))?;
    let mode = fs::metadata(folder.path().join("data/db"))?.permissions().mode();
    ensure!(mode & 0o077 == 0, "others may read the data: {mode:o}");
    running.signal("TERM")?;
    ensure!(running.end()?.code() == Some(0));
    Ok(())
}

#[test]
fn the_controllers_store_is_its_users_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (port, file, store) =
        (free_port()?, folder.path().join("c.toml"), folder.path().join("store"));
    fs::write(&file, format!("listen = \"127.0.0.1:{port}\"\ndata = {store:?}\n"))?;
    for made in [false, true] {
        if made {
            // As earlier versions left it.
            fs::set_permissions(&store, fs::Permissions::from_mode(0o644))?;
        }
        let _running =
            start(&["controller", "-c", file.to_str().context("UTF-8")?], folder.path())?;
        wait::until("the port", PATIENCE, || get(port, "/healthz", "").map(drop))?;
        let mode = fs::metadata(&store)?.permissions().mode();
        ensure!(mode & 0o777 == 0o600, "{mode:o}");
    }
    Ok(())
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure_and_a_full_disk_is() -> Result<()> {
    for words in [
        &["node", "--sample"][..],
        &["node", "--help"],
        &["controller", "--sample"],
        &["balancer", "--sample"],
        &["--help"],
        &["--version"],
        &["ctl", "haproxy-config", "--announce", "127.0.0.1:7000"],
    ] {
        let mut child = Command::new(process::holdfast()?)
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // Closed before a byte is read.
        drop(child.stdout.take());
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(0) && said.is_empty(), "{words:?}: {said}");

        let full = OpenOptions::new().write(true).open("/dev/full")?;
        let output = Command::new(process::holdfast()?).args(words).stdout(full).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{words:?}: {:?}", output.status);
        ensure!(said.contains("No space left on device"), "{words:?}: {said}");
    }
    Ok(())
}

#[test]
fn a_filter_that_names_nobody_mutes_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (port, file) = (free_port()?, folder.path().join("b.toml"));
    fs::write(&file, format!("listen = \"127.0.0.1:{port}\"\n"))?;
    let errors = folder.path().join("stderr");
    let child = Command::new(process::holdfast()?)
        .args(["balancer", "-c", file.to_str().context("UTF-8")?])
        .env("RUST_LOG", "bogus")
        .stderr(File::create(&errors)?)
        .spawn()?;
    let _running = Running(child);
    until("words", &errors, |text| text.contains("balancer is up") && text.contains("`bogus`"))
}

#[test]
fn values_out_of_range_are_refused_and_not_changed() -> Result<()> {
    for words in [
        &["failover", "shard", "0", "--sync-timeout-ms", "70000"][..],
        &["failover", "shard", "0", "--pause-timeout-ms", "60001"],
        &["set", "cluster", "--min-in-sync", "0"],
        &["create", "cluster", "c", "--nodes", "a:1", "--min-in-sync", "0"],
        &["create", "cluster", "c", "--nodes", "a:1", "-r", "0"],
        &["events", "--limit", "0"],
        &["events", "--limit", "20000"],
        &["haproxy-config", "--announce", "127.0.0.1:1", "--maxconn", "0"],
    ] {
        let output = Command::new(process::holdfast()?).arg("ctl").args(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{words:?}: {:?} {said}", output.status);
        ensure!(said.contains("is not in"), "{words:?}: {said}");
    }
    Ok(())
}

fn ctl(words: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Command::new(process::holdfast()?).arg("ctl").args(words).output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn what_a_command_of_ctl_lacks_is_named_before_anybody_is_asked() -> Result<()> {
    let (code, said) = ctl(&["set", "cluster"])?;
    ensure!(code == Some(2) && said.contains("--commit-mode"), "{code:?} {said}");
    let (code, said) = ctl(&["pause", "cluster", "a", "-c", "b"])?;
    ensure!(code == Some(2) && said.contains("cannot be used with"), "{code:?} {said}");
    let three = ["create", "cluster", "c", "-n", "n", "-r", "2", "--nodes", "a:1,b:1,c:1"];
    let (code, said) = ctl(&three)?;
    ensure!(code == Some(1) && said.contains("3 nodes cannot be parted"), "{code:?} {said}");
    let (code, said) = ctl(&["--version"])?;
    ensure!(code == Some(0) && said.is_empty(), "{code:?} {said}");
    Ok(())
}

/// `-H` of an operator in a hurry.
#[test]
fn an_address_where_no_controller_is_says_what_is_there() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (port, file) = (free_port()?, folder.path().join("b.toml"));
    fs::write(&file, format!("listen = \"127.0.0.1:{port}\"\n"))?;
    let _running = start(&["balancer", "-c", file.to_str().context("UTF-8")?], folder.path())?;
    wait::until("the port", PATIENCE, || get(port, "/healthz", "").map(drop))?;
    for (at, words) in [
        (format!("127.0.0.1:{port}"), "is it a controller"),
        ("http://127.0.0.1:port".to_owned(), "--controller takes URLs"),
    ] {
        let (code, said) = ctl(&["-H", &at, "status"])?;
        ensure!(code == Some(1) && said.contains(words), "{at}: {code:?} {said}");
    }
    Ok(())
}

#[test]
fn a_mistake_in_a_file_names_the_file_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("mistaken.toml");
    fs::write(&file, "lisen = \"127.0.0.1:1\"\n")?;
    for process in ["controller", "balancer"] {
        for name in [&file, &folder.path().join("mistaken-missing.toml")] {
            let output = Command::new(process::holdfast()?)
                .args([process, "--check", "-c"])
                .arg(name)
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(1), "{process}: {said}");
            ensure!(said.matches("mistaken").count() == 1, "{process}: {said}");
        }
    }
    Ok(())
}

/// The first of them takes connections, as a stopped process does, and says nothing.
#[test]
fn a_controller_that_hangs_keeps_no_answer_of_another_one_away() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let other = TcpListener::bind("127.0.0.1:0")?;
    let at = format!("{},{}", silent.local_addr()?, other.local_addr()?);
    let answers = std::thread::spawn(move || -> Result<()> {
        let (mut stream, _) = other.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = [0; 4096];
        ensure!(stream.read(&mut request)? > 0, "a request");
        let body = "{\"data\":{\"namespaces\":[\"prod\"]}}";
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        Ok(())
    });
    let output = Command::new(process::holdfast()?)
        .args(["ctl", "-H", &at, "--timeout", "10", "list", "namespaces"])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(0) && said == "prod\n", "{said} {why}");
    answers.join().map_err(|_| anyhow::anyhow!("the thread that answers panicked"))?
}
