//! Real processes at their limits: clients fill what is theirs, and neither the log nor a peer nor
//! a controller lacks anything for it.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use testkit::cluster::{Cluster, Node, Options};
use testkit::process::{self, Server};
use testkit::wait;
use testkit::wire::{Connection, Reply};

use common::{PATIENCE, in_set, key_at, write_until_ok};

/// Small memtables: the log is followed by the next one every MiB.
const SMALL: &str =
    "workers 2\nrocksdb.write_buffer_size 1\nrocksdb.block_cache_size 16\nvalue-cache-size 0";
const TOO_MANY: &str = "ERR max number of clients reached";
/// Of a process that met a limit: EX_OSERR of sysexits.h.
const LIMIT_EXIT_CODE: i32 = 71;

/// A number, or a word, of INFO.
fn info(connection: &mut Connection, name: &str) -> Result<String> {
    let text = connection.call(&["INFO"])?.text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    Ok(line.with_context(|| text.clone())?.trim().to_owned())
}

fn option(connection: &mut Connection, name: &str) -> Result<u64> {
    let reply = connection.call(&["CONFIG", "GET", name])?;
    let value = reply.elements().get(1).context("a value")?.text();
    value.parse().with_context(|| value.clone())
}

fn idle(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let open = |_| TcpStream::connect(address).context("connect");
    (0..count).map(open).collect()
}

/// So many MiB in values of 16 KiB.
fn write_mib(connection: &mut Connection, from: usize, mib: usize) -> Result<()> {
    let value = "v".repeat(16 << 10);
    for number in from..from + mib * 64 {
        let said = connection.call(&["SET", &format!("k{number}"), &value])?;
        ensure!(said.text() == "OK", "k{number}: {said:?}");
    }
    Ok(())
}

fn tables(server: &Server) -> usize {
    let entries = std::fs::read_dir(server.dir.join("db")).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "sst")).count()
}

#[test]
fn a_crowd_of_idle_clients_under_a_low_limit_ends_no_node() -> Result<()> {
    process::raise_open_files()?;
    let server = Server::node_under_limit(1024, 1024, SMALL)?;
    let said = server.process().log();
    ensure!(said.contains("maxclients is "), "nothing is said of maxclients: {said}");
    let mut client = server.connect()?;
    let places = option(&mut client, "maxclients")?;
    ensure!((300..1000).contains(&places), "maxclients {places}");
    let crowd = idle(server.address, 1_100)?;
    write_mib(&mut client, 0, 16)?;
    wait::until("memtables are flushed", PATIENCE, || {
        let count = tables(&server);
        ensure!(count > 0, "no table");
        Ok(())
    })?;
    ensure!(info(&mut client, "role")? == "master");
    // Clients that came too late are told so.
    wait::until("those without a place are told", PATIENCE, || {
        let refused: u64 = info(&mut client, "rejected_connections")?.parse()?;
        ensure!(refused >= 1_100 - places, "{refused} of {}", 1_100 - places);
        Ok(())
    })?;
    let log = server.process().log();
    ensure!(log.lines().count() < 100, "the log is flooded: {} lines", log.lines().count());

    // A replica finds a place beside the crowd, and follows.
    let replica = Server::node(SMALL)?;
    let port = server.address.port().to_string();
    ensure!(replica.connect()?.call(&["SLAVEOF", "127.0.0.1", &port])?.text() == "OK");
    wait::until("a replica follows", PATIENCE, || {
        let (has, all) =
            (info(&mut replica.connect()?, "sequence")?, info(&mut client, "sequence")?);
        ensure!(has == all, "{has} of {all}");
        Ok(())
    })
    .with_context(|| replica.process().log())?;

    drop(crowd);
    wait::until("the places are free again", PATIENCE, || {
        ensure!(server.connect()?.call(&["PING"])?.text() == "PONG");
        Ok::<_, anyhow::Error>(())
    })
}

/// The soft limit of open files of a process.
fn soft_limit(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    let word = line.and_then(|line| line.split_whitespace().next()).context("its limit")?;
    word.parse().with_context(|| word.to_owned())
}

#[test]
fn a_low_soft_limit_is_raised_to_what_the_options_need() -> Result<()> {
    let hard = process::raise_open_files()?.min(20_000);
    let server = Server::node_under_limit(256, hard, "maxclients 500\nrocksdb.max_open_files 200")?;
    let soft = soft_limit(server.process().pid())?;
    ensure!(soft > 700 && soft < hard, "{soft}");
    let mut client = server.connect()?;
    ensure!(option(&mut client, "maxclients")? == 500);
    // And further where it may be, or it is said how far.
    ensure!(client.call(&["CONFIG", "SET", "maxclients", "3000"])?.text() == "OK");
    ensure!(soft_limit(server.process().pid())? > 3_200);
    let refused = client.call(&["CONFIG", "SET", "maxclients", "2000000000"])?.text();
    ensure!(refused.contains("is not able to handle the specified number of clients"), "{refused}");
    ensure!(option(&mut client, "maxclients")? == 3_000);
    Ok(())
}

#[test]
fn processes_that_cannot_do_with_their_limit_say_what_they_need() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path().display();
    let toml = folder.path().join("toml");
    let cases = [
        ("node", format!("port {}\ndir {dir}/node\n", process::free_port()?)),
        (
            "controller",
            format!("listen = \"127.0.0.1:{}\"\ndata = \"{dir}/data\"\n", process::free_port()?),
        ),
        ("balancer", format!("listen = \"127.0.0.1:{}\"\n", process::free_port()?)),
    ];
    for (name, text) in cases {
        std::fs::write(&toml, text)?;
        let mut command = process::under_limit(&process::holdfast()?, 48, 48);
        let output = command.arg(name).arg("-c").arg(&toml).output().context("run it")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{name}: {}: {said}", output.status);
        ensure!(said.contains("may have 48 files") && said.contains("ulimit -n"), "{name}: {said}");
    }
    Ok(())
}

#[test]
fn a_limit_met_by_the_log_is_not_called_a_fault_of_the_disk() -> Result<()> {
    let mut server = Server::node(SMALL)?;
    let mut client = server.connect()?;
    write_mib(&mut client, 0, 1)?;
    let pid = server.process().pid();
    let lowered =
        Command::new("prlimit").arg(format!("--pid={pid}")).arg("--nofile=10").status()?;
    ensure!(lowered.success(), "{lowered}");
    let mut acknowledged = 64;
    while let Ok(said) = client.call(&["SET", &format!("k{acknowledged}"), &"v".repeat(16 << 10)]) {
        ensure!(said.text() == "OK", "{said:?}");
        acknowledged += 1;
        ensure!(acknowledged < 10_000, "the log never ends");
    }
    let status =
        wait::until("its end", PATIENCE, || server.process_mut().ended()?.context("it runs"))?;
    let log = server.process().log();
    ensure!(status.code() == Some(LIMIT_EXIT_CODE), "{status}: {log}");
    ensure!(
        log.contains("Too many open files") && log.contains("a limit of this process"),
        "{log}"
    );
    ensure!(!log.contains("full or broken"), "{log}");
    let again = Server::node_at(&server.dir, server.address.port(), "")?;
    let mut client = again.connect()?;
    for number in 0..acknowledged {
        let length = client.call(&["STRLEN", &format!("k{number}")])?;
        ensure!(length == Reply::Integer(16 << 10), "k{number} of {acknowledged}: {length:?}");
    }
    Ok(())
}

#[test]
fn of_150_connections_at_once_ten_are_served_and_all_others_told() -> Result<()> {
    let server = Server::node("workers 4\nmaxclients 10")?;
    let (served, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let gate = std::sync::Barrier::new(150);
    let done = std::sync::Barrier::new(150);
    std::thread::scope(|scope| {
        let client = |number: usize| -> Result<()> {
            gate.wait();
            let connection = Connection::open(server.address);
            // Half of them say something, half wait for what they are told.
            let reply = connection.and_then(|mut connection| {
                let asks = number.is_multiple_of(2);
                let first = if asks { connection.call(&["PING"]) } else { connection.receive() };
                let reply = match first {
                    Ok(Reply::Error(text)) => String::from_utf8_lossy(&text).into_owned(),
                    Ok(reply) => reply.text(),
                    // Nothing is told to whoever has a place and says nothing.
                    Err(_) => connection.call(&["PING"])?.text(),
                };
                Ok((connection, reply))
            });
            // Nobody leaves before all have come.
            done.wait();
            let (_connection, reply) = reply?;
            match reply.as_str() {
                "PONG" => served.fetch_add(1, Ordering::SeqCst),
                TOO_MANY => told.fetch_add(1, Ordering::SeqCst),
                other => bail!("{number}: {other}"),
            };
            Ok(())
        };
        let crowd: Vec<_> = (0..150).map(|number| scope.spawn(move || client(number))).collect();
        crowd.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| bail!("it panicked")))
    })?;
    let (served, told) = (served.into_inner(), told.into_inner());
    ensure!((served, told) == (10, 140), "{served} served, {told} told");
    Ok(())
}

/// What the HTTP port of a node answers.
fn page(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).context("connect to the HTTP port")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).context("ask")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("read the answer")?;
    Ok(text)
}

#[test]
fn idle_connections_to_its_http_port_hide_no_node() -> Result<()> {
    let admin = process::free_port()?;
    let server = Server::node(&format!("workers 2\nadmin-port {admin}"))?;
    let address = SocketAddr::from(([127, 0, 0, 1], admin));
    let mut crowd = idle(address, 200)?;
    let said = page(address, "/healthz")?;
    ensure!(said.contains("ok sequence="), "{said}");
    let said = page(address, "/metrics")?;
    ensure!(said.contains("process_http_connections_closed_total{reason=\"given-up\"} "), "{said}");
    // Nobody asked the newest to go.
    let last = crowd.last_mut().context("a connection")?;
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\n\r\n");
    last.set_read_timeout(Some(PATIENCE))?;
    last.write_all(request.as_bytes()).context("ask")?;
    ensure!(last.read(&mut [0; 8])? > 0, "the newest connection was closed");
    drop(server);
    Ok(())
}

/// Clients that hold every place of a node and come again at once when they are refused, until it
/// is dropped.
struct Crowd {
    is_over: std::sync::Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    _held: Vec<TcpStream>,
}

impl Crowd {
    fn around(address: SocketAddr, held: usize) -> Result<Self> {
        let is_over = std::sync::Arc::new(AtomicBool::new(false));
        let _held = idle(address, held)?;
        let insist = |number: usize| {
            let is_over = std::sync::Arc::clone(&is_over);
            std::thread::spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    let Ok(mut connection) = Connection::open(address) else { continue };
                    // Some speak, some wait to be told.
                    let _ = if number.is_multiple_of(2) {
                        connection.call(&["GET", "x"])
                    } else {
                        connection.receive()
                    };
                }
            })
        };
        let threads = (0..8).map(insist).collect();
        Ok(Self { is_over, threads, _held })
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // One that panicked has ended too.
            let _ = thread.join();
        }
    }
}

#[test]
fn peers_find_a_place_while_clients_hold_all_and_insist() -> Result<()> {
    let server = Server::node("workers 2\nmaxclients 20\npeer-auth secret")?;
    let _crowd = Crowd::around(server.address, 100)?;
    wait::until("no client finds a place", PATIENCE, || {
        let said = server.connect()?.call(&["PING"])?.text();
        ensure!(said == TOO_MANY, "{said}");
        Ok(())
    })?;
    for _ in 0..50 {
        let mut peer = server.connect()?;
        ensure!(peer.call(&["AUTH", "secret"])?.text() == "OK");
        ensure!(peer.call(&["PING"])?.text() == "PONG");
        ensure!(peer.call(&["CLIENT", "PAUSE", "1", "WRITE"])?.text() == "OK");
    }
    // A wrong secret makes no peer. One of those that insist may just have left a place, so one
    // stranger alone might find it; a peer would find one each time.
    wait::until("a stranger finds no place", PATIENCE, || {
        let mut stranger = server.connect()?;
        let said = stranger.call(&["AUTH", "guess"])?.text();
        let is_refused = said.starts_with("WRONGPASS") || said == TOO_MANY || said.contains("AUTH");
        ensure!(is_refused, "{said}");
        let said = stranger.call(&["PING"])?.text();
        ensure!(said == TOO_MANY, "{said}");
        Ok(())
    })?;

    let replica = Server::node("workers 2\nmasterauth secret")?;
    let port = server.address.port().to_string();
    ensure!(replica.connect()?.call(&["SLAVEOF", "127.0.0.1", &port])?.text() == "OK");
    wait::until("a replica follows", PATIENCE, || {
        let status = info(&mut replica.connect()?, "master_link_status")?;
        ensure!(status == "up", "{status}");
        Ok(())
    })
    .with_context(|| replica.process().log())
}

/// A connection as a load balancer opens it: for a client, or (LOCAL) in its own name.
fn from_balancer(address: SocketAddr, is_client: bool) -> Result<Connection> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    if is_client {
        // PROXY, TCP over IPv4: from 10.0.0.1:1 to 10.0.0.2:2.
        header.extend([0x21, 0x11, 0, 12, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2]);
    } else {
        header.extend([0x20, 0, 0, 0]);
    }
    let mut connection = Connection::open(address)?;
    connection.send_raw(&header)?;
    Ok(connection)
}

#[test]
fn a_node_that_is_full_of_clients_is_well_to_its_balancers() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let port = process::free_port()?;
    let config = dir.path().join("node.conf");
    let text = format!(
        "bind 127.0.0.1\nport {port}\ndir {}\nworkers 2\nprotected-mode no\nmaxclients 1\nbalancer-sources 127.0.0.1/32\n",
        dir.path().display()
    );
    std::fs::write(&config, text)?;
    let arguments = ["node".into(), "-c".into(), config];
    let log = dir.path().join("log");
    let process =
        process::Process::start::<std::path::PathBuf>(&process::holdfast()?, &arguments, &log)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let client = wait::until("a client is served", PATIENCE, || {
        let mut client = from_balancer(address, true)?;
        let said = client.call(&["PING"])?.text();
        ensure!(said == "PONG", "{said}");
        Ok(client)
    })
    .with_context(|| process.log())?;
    for _ in 0..50 {
        let told = from_balancer(address, true)?.receive()?.text();
        ensure!(told == TOO_MANY, "{told}");
        let well = from_balancer(address, false)?.call(&["PING"])?.text();
        ensure!(well == "PONG", "{well}");
    }
    drop(client);
    wait::until("the place is free again", PATIENCE, || {
        let said = from_balancer(address, true)?.call(&["PING"])?.text();
        ensure!(said == "PONG", "{said}");
        Ok(())
    })
}

/// Every place of the master is held, through the balancers and at its own port, by clients that
/// insist.
fn besiege(master: &Node) -> Result<[Crowd; 2]> {
    Ok([Crowd::around(master.announced()?, 80)?, Crowd::around(master.local()?, 80)?])
}

#[test]
fn a_controller_that_comes_back_finds_a_besieged_master_and_keeps_it() -> Result<()> {
    let options = Options { shards: 1, ..Options::default() };
    let cluster = Cluster::start(options)?;
    let (master, replica) = (cluster.master(0)?, cluster.replica(0)?);
    in_set(&cluster, &master, &replica)?;
    let key = key_at(master.announced()?)?;
    let said = cluster.peer(&master)?.call(&["CONFIG", "SET", "maxclients", "60"])?.text();
    ensure!(said == "OK", "{said}");
    let crowds = besiege(&master)?;
    wait::until("no client finds a place", PATIENCE, || {
        let said = Connection::open(master.local()?)?.call(&["PING"])?.text();
        ensure!(said == TOO_MANY, "{said}");
        Ok(())
    })?;
    let pid = cluster.state()?.controller.pid.context("a controller")?;
    process::signal(pid, libc::SIGKILL)?;
    let state = cluster.await_that("the controller is back", PATIENCE, |state| {
        state.controller.pid.is_some_and(|now| now != pid)
    })?;
    wait::until("the controller sees a healthy cluster", PATIENCE, || {
        let output = Command::new(process::holdfast()?)
            .args(["ctl", "-H", &state.controller.url, "--json", "status"])
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let status: serde_json::Value = serde_json::from_str(&said).with_context(|| said)?;
        ensure!(status["healthy"] == true, "{status:#}");
        Ok(())
    })
    .with_context(|| cluster.logs())?;
    // For as long as a silent master would take to be replaced, several times over, it is looked
    // at.
    let deadline = std::time::Instant::now() + Duration::from_secs(4);
    while std::time::Instant::now() < deadline {
        let now = cluster.master(0)?;
        ensure!(now.id == master.id && now.pid == master.pid, "{now:?}\n{}", cluster.logs());
        wait::pause(Duration::from_millis(50));
    }
    drop(crowds);
    let by = write_until_ok(master.announced()?, &key, "after")?;
    ensure!(by == master.id, "{by}\n{}", cluster.logs());
    Ok(())
}
