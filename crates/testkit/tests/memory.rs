//! A node with `maxmemory`: it stays below while clients want more than there is, and others are
//! served meanwhile.

mod common;

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use testkit::process::{self, Server};
use testkit::wait;
use testkit::wire::{Connection, encode};

use common::PATIENCE;

const TOTAL_MIB: u64 = 512;
/// A quarter more than that is as good: what counts is that it is not what clients ask for.
const PEAK_MIB: u64 = TOTAL_MIB * 5 / 4;
const READERS: usize = 1_000;
const VALUES: usize = 200;
const VALUE_BYTES: usize = 1 << 20;
const PIPELINES: usize = 8;
/// Commands of a pipeline that are sent before the first reply is read, and bytes of a value.
const DEPTH: usize = 500;
const PIPED_BYTES: usize = 16 << 10;

/// The most physical memory that a process has had, MiB.
fn peak_mib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("look at it")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
    Ok(kib.parse::<u64>().context("read VmHWM")? >> 10)
}

fn info(connection: &mut Connection, name: &str) -> Result<u64> {
    let text = connection.call(&["INFO", "everything"])?.text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.with_context(|| format!("no {name} in {text}"))?.trim().parse().context("a number")
}

fn patient(server: &Server) -> Result<Connection> {
    let mut connection = server.connect()?;
    connection.set_patience(2 * PATIENCE)?;
    Ok(connection)
}

/// Asks for more than the socket takes, four times, and reads nothing. By the socket file: what its
/// buffers hold is a fifth of a value, those of TCP may hold several.
fn slow_reader(socket: &Path, number: usize) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).context("connect to the socket file")?;
    let ask = encode(&["GET", &format!("large{}", number % VALUES)]);
    stream.write_all(&ask.repeat(4)).context("ask")?;
    Ok(stream)
}

/// Sends many writes, and reads the replies then.
fn pipeline(address: SocketAddr, number: usize) -> Result<()> {
    let (mut replies, mut requests) =
        Connection::open_within(address, PATIENCE, 4 * PATIENCE)?.halves()?;
    let value = vec![b'p'; PIPED_BYTES];
    for place in 0..DEPTH {
        let key = format!("piped{number}:{place}");
        requests
            .write_all(&encode(&[b"SET".as_slice(), key.as_bytes(), &value]))
            .context("send a write")?;
    }
    for place in 0..DEPTH {
        let said = replies.receive()?;
        ensure!(said.text() == "OK", "{place} of pipeline {number}: {said:?}");
    }
    Ok(())
}

/// What nobody hinders: small commands of a client that reads, and whatever a peer asks.
fn others_are_served(server: &Server) -> Result<()> {
    let mut small = patient(server)?;
    let mut peer = patient(server)?;
    ensure!(peer.call(&["AUTH", "secret"])?.text() == "OK");
    for round in 0..100 {
        ensure!(small.call(&["PING"])?.text() == "PONG");
        let key = format!("small{round}");
        ensure!(small.call(&["SET", &key, "value"])?.text() == "OK", "{key}");
        ensure!(small.call(&["GET", &key])?.text() == "value", "{key}");
        let large = peer.call(&["GET", &format!("large{}", round % VALUES)])?.text();
        ensure!(large.len() == VALUE_BYTES, "{} bytes for a peer", large.len());
    }
    Ok(())
}

#[test]
fn a_node_stays_below_its_memory_under_large_values_pipelines_and_a_thousand_slow_readers()
-> Result<()> {
    process::raise_open_files()?;
    let folder = tempfile::tempdir().context("create a folder")?;
    let socket = folder.path().join("s");
    let server = Server::node(&format!(
        "workers 2\nmaxmemory {TOTAL_MIB}mb\npeer-auth secret\nunixsocket {}",
        socket.display()
    ))?;
    let pid = server.process().pid();
    let mut client = patient(&server)?;
    ensure!(info(&mut client, "maxmemory")? == TOTAL_MIB << 20);
    let value = vec![b'v'; VALUE_BYTES];
    // Twice: more than all memtables and caches together.
    for number in (0..VALUES).chain(0..VALUES) {
        let key = format!("large{number}");
        let said = client.call(&[b"SET".as_slice(), key.as_bytes(), &value])?;
        ensure!(said.text() == "OK", "{key}: {said:?}");
    }
    let readers: Vec<UnixStream> =
        (0..READERS).map(|number| slow_reader(&socket, number)).collect::<Result<_>>()?;
    std::thread::scope(|threads| -> Result<()> {
        let address = server.address;
        let pipelines: Vec<_> =
            (0..PIPELINES).map(|number| threads.spawn(move || pipeline(address, number))).collect();
        others_are_served(&server)?;
        for thread in pipelines {
            thread.join().ok().context("a pipeline panicked")??;
        }
        Ok(())
    })?;
    wait::until("slow readers are closed", 2 * PATIENCE, || {
        let evicted = info(&mut client, "evicted_clients")?;
        ensure!(evicted >= 50, "{evicted} closed");
        Ok(())
    })?;
    let refused = info(&mut client, "maxmemory_refused_writes")?;
    ensure!(refused == 0, "{refused} writes were refused, with room in every other part");
    let peak = peak_mib(pid)?;
    ensure!(peak <= PEAK_MIB, "{peak} MiB at most: {}", client.call(&["INFO", "memory"])?.text());
    drop(readers);
    wait::until("connections hold nothing any more", PATIENCE, || {
        let held = info(&mut client, "mem_clients_normal")?;
        ensure!(held < 4 << 20, "{held} bytes");
        Ok(())
    })?;
    let again = patient(&server)?.call(&["GET", "large7"])?.text();
    ensure!(again.len() == VALUE_BYTES, "{} bytes of a value", again.len());
    Ok(())
}
