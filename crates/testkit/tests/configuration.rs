//! What is written in configuration files and on command lines takes effect, or is refused where it
//! is written.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::process::{self, Server};
use testkit::wait;
use testkit::wire::{Connection, Reply};

const PATIENCE: Duration = Duration::from_secs(30);

fn run(words: &[&str]) -> Result<Output> {
    Command::new(process::holdfast()?).args(words).output().context("run holdfast")
}

/// Exit code, and everything it said.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_command_line_that_is_not_understood_starts_nothing() -> Result<()> {
    for words in [&["node", "--bogus", "1"][..], &["node", "--port"], &["node", "stray"]] {
        let (code, text) = said(&run(words)?);
        ensure!(code == Some(2), "{words:?}: {code:?} {text}");
        ensure!(text.contains("bogus") || text.contains("--help"), "{words:?}: {text}");
    }
    Ok(())
}

#[test]
fn a_check_tells_a_good_file_from_a_bad_one_and_starts_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    let check = |process: &str, text: &str| -> Result<(Option<i32>, String)> {
        std::fs::write(&file, text)?;
        let path = file.to_str().context("a path")?;
        Ok(said(&run(&[process, "--check", "-c", path])?))
    };
    let long = format!("unixsocket /{}\n", "x".repeat(107));
    for (process, good, bad, why) in [
        (
            "node",
            "port 7000\nrename-command\tconfig\t\"\"\n",
            "port 7000\nrequirepas x\n",
            "line 2",
        ),
        ("node", "bind ::1 *\n", "port 7000\nbind node7.example\n", "line 2: option `bind`"),
        ("node", "admin-bind ::1\n", "admin-bind node7\n", "line 1: option `admin-bind`"),
        ("node", "unixsocket x\n", &long, "line 1: option `unixsocket`"),
        ("node", "aclfile \"\"\n", "aclfile /nowhere/users\n", "line 1: option `aclfile`"),
        ("node", "peer-auth a\n", "port 1\npeer-auth-also b\n", "line 2: option `peer-auth-also`"),
        ("controller", "heartbeat_ms = 200\n", "haertbeat_ms = 200\n", "line 1"),
        ("balancer", "workers = 1\n", "[limits]\nmax_sessions = 0\n", "max_sessions"),
    ] {
        let (code, text) = check(process, good)?;
        ensure!(code == Some(0) && text.contains("file: ok"), "{process}: {code:?} {text}");
        let (code, text) = check(process, bad)?;
        ensure!(code == Some(1) && text.contains(why), "{process}: {code:?} {text}");
    }
    let (code, text) = said(&run(&["node", "--check", "-c", "/nowhere/node.conf"])?);
    ensure!(code == Some(1) && text.contains("/nowhere/node.conf"), "{code:?} {text}");
    Ok(())
}

/// Ended by force after a while: what should have refused to start may run for ever.
fn start(words: &[&str]) -> Result<Output> {
    let holdfast = process::holdfast()?;
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "60"]).arg(holdfast).args(words);
    command.output().context("run holdfast for a while")
}

/// A start and a check say the same of a file that cannot be, and where in it.
#[test]
fn what_cannot_be_is_refused_by_start_and_check_with_its_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    let path = file.to_str().context("a path")?;
    let data = format!("data = {:?}\n", folder.path().join("store.redb"));
    let etcd = "store = 'etcd'\netcd_endpoints = ['http://127.0.0.1:1']\netcd_user = 'x'\n";
    let password = format!("{etcd}etcd_password_file = '/nowhere/password'\n");
    let cases: [(&str, &str, usize, &str); 12] = [
        ("controller", "# one\n\nlease_ms = 5\n", 3, "`lease_ms` is 5; accepted: "),
        ("controller", "misses = 1\nheartbeat_ms = 40000\n", 2, "`lease_ms` is 1000"),
        ("controller", "etcd_user = 'x'\n", 1, "accepted: that only with `store = \"etcd\"`"),
        ("controller", &password, 4, "/nowhere/password"),
        ("controller", "log_level = 'inof'\n", 1, "`inof` is neither"),
        (
            "controller",
            "[tls]\ncert_file = '/nowhere/c'\nkey_file = '/nowhere/k'\n",
            2,
            "/nowhere/c",
        ),
        ("controller", "allowed_hosts = ['http://x']\n", 1, "`http://x`"),
        ("balancer", "workers = 257\n", 1, "workers is 257; accepted: 0 to 256"),
        ("balancer", "[limits]\ndrain_ms = 3600001\n", 2, "limits.drain_ms is 3600001"),
        ("balancer", "limits.max_sessions = 0\n", 1, "accepted: 1 to 1000000"),
        ("balancer", "\n\nlisten = '0.0.0.0:1'\n", 3, "not a loopback address"),
        ("balancer", "token_file = '/nowhere/token'\n", 1, "/nowhere/token"),
    ];
    for (process, text, line, why) in cases {
        let place = format!("configuration {path}, line {line}: ");
        // One that is to fail for another reason has a place for its store.
        let more = if process == "controller" && !text.contains("data =") && !text.contains("[tls]")
        {
            data.as_str()
        } else {
            ""
        };
        std::fs::write(&file, format!("{text}{more}"))?;
        for output in [run(&[process, "--check", "-c", path])?, start(&[process, "-c", path])?] {
            let (code, said) = said(&output);
            ensure!(code == Some(1), "{process} {text:?}: {code:?} {said}");
            ensure!(said.contains(&place) && said.contains(why), "{process} {text:?}: {said}");
        }
    }
    // A folder that its unit may make is no fault of the file before the start.
    for process in ["controller", "balancer"] {
        std::fs::write(&file, "\nlog_file = '/nowhere/log'\n")?;
        let (code, said) = said(&start(&[process, "-c", path])?);
        let place = format!("configuration {path}, line 2: open the log /nowhere/log");
        ensure!(code == Some(1) && said.contains(&place), "{process}: {code:?} {said}");
        let (code, said) = self::said(&run(&[process, "--check", "-c", path])?);
        ensure!(code == Some(0), "{process}: {code:?} {said}");
    }
    Ok(())
}

#[test]
fn a_renaming_with_any_blanks_takes_effect() -> Result<()> {
    let server = Server::node("rename-command\tconfig \t x\nrename-command   KEYS\t\"\"")?;
    let mut client = server.connect()?;
    let unknown = |reply: Reply| matches!(reply, Reply::Error(text) if text.starts_with(b"ERR unknown command"));
    ensure!(unknown(client.call(&["CONFIG", "GET", "port"])?), "CONFIG is served");
    ensure!(unknown(client.call(&["KEYS", "*"])?), "KEYS is served");
    let said = client.call(&["X", "GET", "port"])?;
    ensure!(said.elements().len() == 2, "{said:?}");
    Ok(())
}

fn ping(socket: &Path) -> Result<String> {
    let mut stream = UnixStream::connect(socket).context("connect to the socket file")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn a_socket_file_is_served_as_the_file_says_and_goes_with_its_process() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("socket");
    let lines = format!("unixsocket {}\nunixsocketperm 750", socket.display());
    let port = process::free_port()?;
    let mode = || -> Result<u32> { Ok(std::fs::metadata(&socket)?.permissions().mode() & 0o777) };
    let server = Server::node_at(folder.path(), port, &lines)?;
    ensure!(ping(&socket)? == "+PONG\r\n" && mode()? == 0o750);
    server.kill()?;
    ensure!(socket.exists() && ping(&socket).is_err(), "a killed process leaves its file");
    let server = Server::node_at(folder.path(), port, &lines)?;
    ensure!(ping(&socket)? == "+PONG\r\n" && mode()? == 0o750);
    // Nobody takes it away from a process that lives.
    let other = tempfile::tempdir()?;
    let refused = Server::node_at(other.path(), process::free_port()?, &lines);
    let why = format!("{:#}", refused.err().context("a second node with that file started")?);
    ensure!(why.contains("another process listens there"), "{why}");
    ensure!(ping(&socket)? == "+PONG\r\n");
    server.terminate()?;
    ensure!(!socket.exists(), "it is still there");
    Ok(())
}

fn replica_of(dir: &Path, master: SocketAddr, lines: &str) -> Result<Server> {
    let lines = format!("slaveof {}\t{}\n{lines}", master.ip(), master.port());
    Server::node_at(dir, process::free_port()?, &lines)
}

fn link_is(client: &mut Connection, wanted: &str) -> Result<()> {
    wait::until("the state of the link", PATIENCE, || {
        let info = client.call(&["INFO", "replication"])?.text();
        ensure!(info.contains(&format!("master_link_status:{wanted}")), "{info}");
        Ok(())
    })
}

/// The link looks its password up at each attempt, and tries at once when it is told another.
#[test]
fn a_link_takes_up_another_password() -> Result<()> {
    let master = Server::node("requirepass first")?;
    let folder = tempfile::tempdir()?;
    let replica = replica_of(folder.path(), master.address, "masterauth first")?;
    let (mut here, mut there) = (replica.connect()?, master.connect()?);
    link_is(&mut here, "up")?;
    there.call(&["AUTH", "first"])?;
    there.call(&["CONFIG", "SET", "requirepass", "second"])?;
    ensure!(there.call(&["CLIENT", "KILL", "TYPE", "REPLICA"])? == Reply::Integer(1));
    wait::until("the old password is refused", PATIENCE, || {
        let log = replica.process().log();
        ensure!(log.contains("WRONGPASS"), "{log}");
        Ok(())
    })?;
    here.call(&["CONFIG", "SET", "masterauth", "second"])?;
    link_is(&mut here, "up")
}

/// As `docs/operating.md` has it. By itself a link whose attempts fail makes about fifteen of them
/// in that time: up to 5 s lie between two.
#[test]
fn slaveof_said_again_makes_the_next_attempt_at_once() -> Result<()> {
    const ATTEMPTS: usize = 30;
    let replica = Server::node("")?;
    // A master that hangs up on whoever comes.
    let master = TcpListener::bind("127.0.0.1:0")?;
    master.set_nonblocking(true)?;
    let port = master.local_addr()?.port().to_string();
    let mut attempts = 0;
    wait::until("attempts as often as they are asked for", PATIENCE, || {
        let said = replica.connect()?.call(&["SLAVEOF", "127.0.0.1", &port])?.text();
        ensure!(said == "OK", "{said}");
        while master.accept().is_ok() {
            attempts += 1;
        }
        ensure!(attempts >= ATTEMPTS, "{attempts} by now");
        Ok(())
    })
}
