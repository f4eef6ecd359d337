//! TLS with real processes: Debian's redis-cli as the client, certificates made here.

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use testkit::cluster::{Cluster, Node, Options};
use testkit::process::{self, Process, Server};
use testkit::wait;
use testkit::wire::{Connection, Reply, answer_from};

use common::certs::{Ca, GOOD, HERE};
use common::wiretap::wiretap;
use common::{PATIENCE, in_set, key_at, switch_over};

/// What it says to both of its outputs.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output().context("run redis-cli")?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

fn config_set(connection: &mut Connection, pairs: &[(&str, String)]) -> Result<Reply> {
    let mut words = vec!["CONFIG", "SET"];
    for (name, value) in pairs {
        words.extend([*name, value.as_str()]);
    }
    connection.call(&words)
}

#[test]
fn redis_cli_is_served_over_tls_at_both_ports_and_in_clear_at_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (ours, other) = (Ca::new(folder.path(), "ours")?, Ca::new(folder.path(), "other")?);
    ours.issue("node", &[HERE], GOOD)?;
    ours.issue("client", &[], GOOD)?;
    other.issue("client", &[], GOOD)?;
    let tls_port = process::free_port()?;
    let lines = format!("{}tls-port {tls_port}\nrequirepass hush\n", ours.lines("node"));
    let node = Server::node(&lines)?;
    let port = node.address.port();
    for port in [port, tls_port] {
        let cli = |words: &[&str]| said(ours.cli((HERE, port), Some("client")).args(words));
        ensure!(cli(&["PING"])?.contains("NOAUTH"));
        let reply = cli(&["--no-auth-warning", "-a", "hush", "-3", "CLIENT", "INFO"])?;
        ensure!(reply.contains("resp=3"), "{reply}");
        // More than a record of TLS, and than a socket takes at once.
        let value = "v".repeat(5_000_000);
        let mut set = ours.cli((HERE, port), Some("client"));
        set.args(["--no-auth-warning", "-a", "hush", "-x", "SET", "large"]);
        let mut child = set.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        child.stdin.take().context("its input")?.write_all(value.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.stdout == b"OK\n", "{}", String::from_utf8_lossy(&output.stdout));
        let reply = cli(&["--no-auth-warning", "-a", "hush", "GET", "large"])?;
        ensure!(reply == value, "{} bytes came back", reply.len());
    }
    let mut plain = node.connect()?;
    ensure!(plain.call(&["AUTH", "hush"])?.text() == "OK");
    ensure!(plain.call(&["STRLEN", "large"])? == Reply::Integer(5_000_000));
    // Only TLS is spoken there, and only with whoever shows a certificate of the CA.
    let mut silent = TcpStream::connect((HERE, tls_port))?;
    silent.set_read_timeout(Some(PATIENCE))?;
    silent.write_all(b"PING\r\n")?;
    let mut answer = Vec::new();
    // A reset is as good as an end.
    let _ = silent.read_to_end(&mut answer);
    ensure!(!answer.starts_with(b"+") && !answer.starts_with(b"-"), "{answer:?}");
    for port in [port, tls_port] {
        let nobody = said(ours.cli((HERE, port), None).arg("PING"))?;
        ensure!(!nobody.contains("PONG") && !nobody.contains("NOAUTH"), "{nobody}");
        let mut stranger = ours.cli((HERE, port), None);
        stranger.args(["--cert", &other.path("client.pem"), "--key", &other.path("client.key")]);
        let stranger = said(stranger.arg("PING"))?;
        ensure!(!stranger.contains("PONG") && !stranger.contains("NOAUTH"), "{stranger}");
        let doubting = said(other.cli((HERE, port), Some("client")).arg("PING"))?;
        ensure!(doubting.contains("certificate verify failed"), "{doubting}");
    }
    for asked in ["optional", "no"] {
        ensure!(plain.call(&["CONFIG", "SET", "tls-auth-clients", asked])?.text() == "OK");
        let anybody = said(ours.cli((HERE, tls_port), None).arg("PING"))?;
        ensure!(anybody.contains("NOAUTH"), "{asked}: {anybody}");
        let mut stranger = ours.cli((HERE, tls_port), None);
        stranger.args(["--cert", &other.path("client.pem"), "--key", &other.path("client.key")]);
        let stranger = said(stranger.arg("PING"))?;
        ensure!(stranger.contains("NOAUTH") == (asked == "no"), "{asked}: {stranger}");
    }
    let log = node.process().log();
    ensure!(!log.contains("hush") && !log.contains("PRIVATE KEY"), "{log}");
    Ok(())
}

#[test]
fn a_handshake_that_is_not_finished_is_given_up_and_holds_up_nobody() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(folder.path(), "ca")?;
    ca.issue("node", &[HERE], GOOD)?;
    let tls_port = process::free_port()?;
    let lines = format!("{}tls-port {tls_port}\ntls-auth-clients no\n", ca.lines("node"));
    let node = Server::node(&lines)?;
    let port = node.address.port();
    // Where only TLS is spoken silence is a handshake too.
    let mut half_open = vec![TcpStream::connect((HERE, tls_port))?];
    for port in [port, tls_port] {
        let mut stream = TcpStream::connect((HERE, port))?;
        stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0])?;
        half_open.push(stream);
    }
    let mut idle = node.connect()?;
    ensure!(idle.call(&["PING"])?.text() == "PONG");
    ensure!(said(ca.cli((HERE, port), None).arg("PING"))? == "PONG");
    ensure!(said(ca.cli((HERE, tls_port), None).arg("PING"))? == "PONG");
    for mut stream in half_open {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut rest = Vec::new();
        // A reset is as good as an end; a limit that passes is neither.
        if let Err(error) = stream.read_to_end(&mut rest) {
            ensure!(error.kind() == std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
    // A client in clear may be silent for as long as it likes.
    ensure!(idle.call(&["PING"])?.text() == "PONG");
    Ok(())
}

#[test]
fn a_certificate_is_looked_at_before_it_is_in_force() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (old, new) = (Ca::new(folder.path(), "old")?, Ca::new(folder.path(), "new")?);
    old.issue("node", &[HERE], GOOD)?;
    let node = Server::node(&format!("{}tls-auth-clients no\n", old.lines("node")))?;
    let port = node.address.port();
    let is_known_to =
        |ca: &Ca| -> Result<bool> { Ok(said(ca.cli((HERE, port), None).arg("PING"))? == "PONG") };
    ensure!(is_known_to(&old)? && !is_known_to(&new)?);
    let mut plain = node.connect()?;
    let mut refused = |options: Vec<(&'static str, String)>, why: &str| -> Result<()> {
        let reply = config_set(&mut plain, &options)?;
        ensure!(matches!(&reply, Reply::Error(_)) && reply.text().contains(why), "{reply:?}");
        ensure!(is_known_to(&old)?, "behind {reply:?}");
        let kept = plain.call(&["CONFIG", "GET", "tls-cert-file"])?;
        ensure!(kept.elements()[1].text() == old.path("node.pem"), "{kept:?}");
        Ok(())
    };
    new.issue("late", &[HERE], 2001)?;
    refused(new.options("late"), "it ran out at")?;
    new.issue("node", &[HERE], GOOD)?;
    let mut mixed = new.options("node");
    mixed[1].1 = new.path("late.key");
    refused(mixed, "it is not the key of the certificate")?;
    refused(vec![("tls-cert-file", new.path("none.pem"))], "No such file")?;
    refused(vec![("tls-protocols", "TLSv1.1".into())], "is broken and not spoken here")?;
    refused(vec![("tls-ciphers", "DEFAULT".into())], "leave it empty")?;
    refused(vec![("tls-key-file-pass", "x".into())], "encrypted keys are not read")?;
    // At a start there is no other one: it is told, and clients in clear are served.
    let late = Server::node(&new.lines("late"))?;
    ensure!(late.connect()?.call(&["PING"])?.text() == "PONG");
    ensure!(late.process().log().contains("it ran out at"), "{}", late.process().log());
    let doubting = said(new.cli((HERE, late.address.port()), Some("late")).arg("PING"))?;
    ensure!(doubting.contains("certificate verify failed"), "{doubting}");
    // Replaced under their old names, one after the other: a SIGHUP in between changes nothing.
    for (file, is_whole) in [("node.pem", false), ("node.key", true)] {
        std::fs::copy(new.path(file), old.path(file))?;
        let before = node.process().log().matches("SIGHUP").count();
        process::signal(node.process().pid(), libc::SIGHUP)?;
        wait::until("SIGHUP is told of", PATIENCE, || {
            let count = node.process().log().matches("configuration read again").count();
            if count > 0 && node.process().log().matches("SIGHUP").count() > before {
                Ok(())
            } else {
                Err(node.process().log())
            }
        })?;
        ensure!(is_known_to(&new)? == is_whole && is_known_to(&old)? != is_whole, "{file}");
    }
    Ok(())
}

#[test]
fn a_node_does_not_start_with_what_it_cannot_speak() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(folder.path(), "ca")?;
    ca.issue("node", &[HERE], GOOD)?;
    let refusals = [
        ("tls-port 7777", "a certificate is needed"),
        ("tls-replication yes", "a certificate is needed"),
        ("tls-only yes", "a certificate is needed"),
        ("tls-ciphers ECDHE-RSA-AES128-GCM-SHA256", "option `tls-ciphers`"),
        ("tls-protocols SSLv3", "TLSv1.2 and TLSv1.3 are"),
        ("tls-ciphersuites TLS_AES_128_CCM_SHA256", "is none of TLS_AES_256_GCM_SHA384"),
    ];
    for (line, why) in refusals {
        let is_alone = why.starts_with("a certificate");
        let own = if is_alone { String::new() } else { ca.lines("node") };
        let config = folder.path().join("node.conf");
        let dir = folder.path().join("data");
        std::fs::write(&config, format!("{own}{line}\ndir {}\n", dir.display()))?;
        for check in [&["--check"][..], &[]] {
            let mut command = Command::new(process::holdfast()?);
            command.arg("node").args(check).arg("-c").arg(&config);
            let output = command.output()?;
            let text = String::from_utf8_lossy(&output.stderr);
            ensure!(!output.status.success() && text.contains(why), "{line}: {text}");
        }
        ensure!(!dir.exists(), "{line}: it touched its data");
    }
    Ok(())
}

#[test]
fn links_between_nodes_show_no_key_no_value_and_no_password() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (ca, other) = (Ca::new(folder.path(), "ca")?, Ca::new(folder.path(), "other")?);
    for ca in [&ca, &other] {
        ca.issue("node", &[HERE], GOOD)?;
    }
    let master = Server::node(&format!("{}requirepass hush\n", ca.lines("node")))?;
    let mut at_master = master.connect()?;
    ensure!(at_master.call(&["AUTH", "hush"])?.text() == "OK");
    let value = "visible-value".repeat(1_000);
    for number in 0..50 {
        let key = format!("visible-key-{number}");
        ensure!(at_master.call(&["SET", &key, &value])?.text() == "OK");
    }
    let (port, heard) = wiretap(master.address)?;
    let link = format!("slaveof {HERE} {port}\nmasterauth hush\ntls-replication yes\n");
    let replica = Server::node(&format!("{}{link}", ca.lines("node")))?;
    let mut at_replica = replica.connect()?;
    let mut follows = |key: &str, value: &str| {
        wait::until("the replica has it", PATIENCE, || {
            let reply = at_replica.call(&["GET", key])?;
            ensure!(reply.text() == value, "{}", reply.text().len());
            Ok(())
        })
    };
    // By whichever way the first data came, what is written now comes by the stream.
    follows("visible-key-49", &value)?;
    ensure!(at_master.call(&["SET", "visible-key-50", "visible-value"])?.text() == "OK");
    follows("visible-key-50", "visible-value")?;
    ensure!(at_master.call(&["WAIT", "1", "5000"])? == Reply::Integer(1));
    let heard = heard.lock().clone();
    ensure!(heard.len() > 1_000 && heard.first() == Some(&0x16), "{} bytes", heard.len());
    for word in ["visible", "hush", "AUTH", "PSYNC", "REPLCONF"] {
        ensure!(!heard.windows(word.len()).any(|bytes| bytes == word.as_bytes()), "{word}");
    }
    // One that another CA vouches for is not believed, and gets nothing.
    let doubting = Server::node(&format!("{}{link}", other.lines("node")))?;
    let mut at_doubting = doubting.connect()?;
    wait::until("it says why", PATIENCE, || {
        let info = at_doubting.call(&["INFO", "replication"])?.text();
        ensure!(info.contains("master_link_status:down"), "{info}");
        let log = doubting.process().log();
        ensure!(log.contains("UnknownIssuer"), "{log}");
        Ok(())
    })?;
    ensure!(at_doubting.call(&["DBSIZE"])? == Reply::Integer(0));
    Ok(())
}

/// What comes first of a header of version 2; command, family, length and addresses follow.
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What is answered to bytes that come from a balancer's address.
fn from_a_balancer(port: u16, bytes: &[u8]) -> Result<Vec<u8>> {
    let target = SocketAddr::from(([127, 0, 0, 1], port));
    answer_from(IpAddr::from([127, 0, 0, 2]), target, bytes, PATIENCE)
}

/// Without a port in clear there is no answer in clear, but for balancers that ask if it lives.
#[test]
fn a_node_may_have_a_port_of_tls_alone_and_its_balancers_still_see_that_it_answers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(folder.path(), "ca")?;
    for name in ["node", "client"] {
        ca.issue(name, &[HERE], GOOD)?;
    }
    let (port, dir) = (process::free_port()?, folder.path().join("data"));
    std::fs::create_dir(&dir)?;
    let config = folder.path().join("node.conf");
    let lines = format!(
        "bind {HERE}\nport 0\ndir {}\nrequirepass hush\nbalancer-sources 127.0.0.2/32\n{}",
        dir.display(),
        ca.lines("node")
    );
    std::fs::write(&config, &lines)?;
    let mut check = Command::new(process::holdfast()?);
    let output = check.args(["node", "--check", "-c"]).arg(&config).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let is_told = text.contains("line 2: option `port`") && text.contains("set tls-port");
    ensure!(!output.status.success() && is_told, "{text}");
    std::fs::write(&config, format!("{lines}tls-port {port}\n"))?;
    let mut command = Command::new(process::holdfast()?);
    command.args(["node", "-c"]).arg(&config);
    let node = Process::start_command(command, &folder.path().join("log"))?;
    let cli = |words: &[&str]| {
        let mut cli = ca.cli((HERE, port), Some("client"));
        said(cli.args(["--no-auth-warning", "-a", "hush"]).args(words))
    };
    wait::until("it serves", PATIENCE, || {
        let answer = cli(&["PING"])?;
        ensure!(answer == "PONG", "{answer}: {}", node.log());
        Ok(())
    })?;
    let info = cli(&["INFO", "server"])?;
    ensure!(info.contains(&format!("tcp_port:{port}\r\n")), "{info}");
    // LOCAL, and the only word that it may say.
    let local = [HEADER, b"\x20\0\0\0"].concat();
    let asked = |command: &[u8]| from_a_balancer(port, &[local.as_slice(), command].concat());
    ensure!(asked(b"PING\r\n")? == b"+PONG\r\n");
    let refused = asked(b"GET key\r\n")?;
    ensure!(refused.starts_with(b"-NOPERM"), "{}", String::from_utf8_lossy(&refused));
    // PROXY, of a client in clear; and such a client without a balancer.
    let client = [HEADER, &[0x21, 0x11, 0, 12, 10, 0, 0, 1, 10, 0, 0, 2, 0, 5, 0, 6]].concat();
    let behind = from_a_balancer(port, &[client.as_slice(), b"PING\r\n"].concat())?;
    ensure!(!behind.starts_with(b"+") && !behind.starts_with(b"-"), "{behind:?}");
    let mut plain = TcpStream::connect((HERE, port))?;
    plain.set_read_timeout(Some(PATIENCE))?;
    plain.write_all(b"PING\r\n")?;
    let mut answer = Vec::new();
    // A reset is as good as an end.
    let _ = plain.read_to_end(&mut answer);
    ensure!(!answer.starts_with(b"+") && !answer.starts_with(b"-"), "{answer:?}");
    Ok(())
}

/// An interactive redis-cli.
struct Cli {
    child: std::process::Child,
    said: Arc<Mutex<String>>,
}

impl Cli {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start redis-cli")?;
        let said = Arc::new(Mutex::new(String::new()));
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().context("its output")?),
            Box::new(child.stderr.take().context("its errors")?),
        ];
        for mut output in outputs {
            let said = Arc::clone(&said);
            std::thread::spawn(move || {
                let mut chunk = [0; 1024];
                while let Ok(count @ 1..) = output.read(&mut chunk) {
                    said.lock().push_str(&String::from_utf8_lossy(&chunk[..count]));
                }
            });
        }
        Ok(Self { child, said })
    }

    /// Says a line; returns once what it has said since contains this.
    fn call(&mut self, line: &str, expected: &str) -> Result<()> {
        self.said.lock().clear();
        let input = self.child.stdin.as_mut().context("its input")?;
        input.write_all(format!("{line}\n").as_bytes())?;
        wait::until("redis-cli answers", PATIENCE, || {
            let said = self.said.lock().clone();
            if said.contains(expected) { Ok(()) } else { Err(said) }
        })
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn announced(node: &Node) -> Result<(String, u16)> {
    let at = node.announced()?;
    Ok((at.ip().to_string(), at.port()))
}

/// The balancer passes it on as it is. A switchover takes sessions in clear along; one over TLS has
/// its keys at its node, is cut, and comes in again at the same address.
#[test]
fn tls_passes_through_the_balancer() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, ..Options::default() })?;
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(folder.path(), "ca")?;
    let (old, new) = (cluster.master(0)?, cluster.replica(0)?);
    in_set(&cluster, &old, &new)?;
    let (host, port) = announced(&old)?;
    ca.issue("node", &[&host, HERE], GOOD)?;
    for node in [&old, &new] {
        let mut options = ca.options("node");
        options.push(("tls-auth-clients", "no".into()));
        let reply = config_set(&mut cluster.peer(node)?, &options)?;
        ensure!(reply.text() == "OK", "{reply:?}");
    }
    let mut plain = Connection::open(old.announced()?)?;
    ensure!(plain.call(&["CLUSTER", "MYID"])?.text() == old.id);
    let mut secure = Cli::start(ca.cli((&host, port), None))?;
    secure.call("CLUSTER MYID", &old.id)?;
    secure.call("SET key value", "OK")?;
    secure.call("CLIENT INFO", "addr=127.0.0.1")?;
    let key = key_at(old.announced()?)?;
    let answer = switch_over(&cluster)?;
    ensure!(answer["moved"].as_u64() >= Some(1) && answer["cut"] == 1, "{answer}");
    ensure!(plain.call(&["CLUSTER", "MYID"])?.text() == new.id);
    ensure!(!matches!(plain.call(&["SET", &key, "1"])?, Reply::Error(_)));
    secure.call("CLUSTER MYID", "Server closed the connection")?;
    secure.call("CLUSTER MYID", &new.id)?;
    secure.call("GET key", "value")?;
    Ok(())
}
