//! Clients that break the protocol, send too much, read nothing or leave half-way: they harm
//! themselves only.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, SeedableRng as _};
use testkit::process::Server;
use testkit::wire::Reply;

const PATIENCE: Duration = Duration::from_secs(10);
const MIB: u64 = 1 << 20;

fn dial(server: &Server) -> Result<TcpStream> {
    let stream = TcpStream::connect(server.address).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends bytes and the end of the stream; returns everything that was answered.
fn answer(server: &Server, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = dial(server)?;
    // The node may have closed already, which is an answer too.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
            Err(error).context("the connection stays open")
        }
        _ => Ok(all),
    }
}

fn is_well(server: &Server) -> Result<()> {
    let reply = server.connect()?.call(&["PING"])?;
    ensure!(reply == Reply::Simple(b"PONG".to_vec()), "PING: {reply:?}");
    ensure!(!server.process().log().contains("panicked"), "{}", server.process().log());
    Ok(())
}

/// Resident memory in bytes.
fn memory(server: &Server) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process().pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

#[test]
fn broken_frames_are_told_and_the_connection_ends() -> Result<()> {
    let server = Server::node("workers 2")?;
    let inline = [vec![b'a'; 70_000], b"\r\n".to_vec()].concat();
    let cases: [(&[u8], &str); 12] = [
        (b"*x\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"*99999999999\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"*2000000\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n+PING\r\n", "-ERR Protocol error: expected '$', got '+'"),
        (b"*1\r\n$x\r\n", "-ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$9999999999\r\n", "-ERR Protocol error: invalid bulk length"),
        (b"SET k \"open\r\n", "-ERR Protocol error: unbalanced quotes in request"),
        (&inline, "-ERR Protocol error: too big inline request"),
        (b"\r\n\r\nPING\r\n", "+PONG"),
        (b"*0\r\n*-1\r\nPING\r\n", "+PONG"),
        (b"*1\r\n$4\r\nPI", ""),
    ];
    for (bytes, expected) in cases {
        let all = String::from_utf8_lossy(&answer(&server, bytes)?).into_owned();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
        ensure!(all.trim_end() == expected, "{shown:?}: {all:?}, not {expected:?}");
    }
    is_well(&server)
}

#[test]
fn noise_harms_nobody() -> Result<()> {
    let server = Server::node("workers 2")?;
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let words: [&[u8]; 10] = [
        b"*2\r\n",
        b"$3\r\n",
        b"GET",
        b"\r\n",
        b"*-5\r\n",
        b"$0\r\n",
        b"\0\xff",
        b"\"",
        b"MULTI\r\n",
        b"3",
    ];
    for _ in 0..2000 {
        let mut bytes = Vec::new();
        for _ in 0..random.random_range(1..12) {
            if random.random_bool(0.8) {
                bytes.extend(words[random.random_range(0..words.len())]);
            } else {
                bytes.push(random.random());
            }
        }
        answer(&server, &bytes).with_context(|| format!("{}", bytes.escape_ascii()))?;
    }
    is_well(&server)
}

#[test]
fn strangers_may_send_little() -> Result<()> {
    let server = Server::node("workers 2\nrequirepass secret")?;
    for (bytes, expected) in [
        ("*2\r\n$4\r\nAUTH\r\n$100000\r\n", "-ERR Protocol error: unauthenticated bulk length"),
        ("*11\r\n", "-ERR Protocol error: unauthenticated multibulk length"),
        ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "-NOAUTH Authentication required."),
    ] {
        let all = String::from_utf8_lossy(&answer(&server, bytes.as_bytes())?).into_owned();
        ensure!(all.trim_end() == expected, "{bytes:?}: {all:?}");
    }
    // In one piece with the password the limit is no longer theirs.
    let mut bytes =
        b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$20000\r\n".to_vec();
    bytes.extend([b'v'; 20_000]);
    bytes.extend(b"\r\n");
    ensure!(answer(&server, &bytes)? == b"+OK\r\n+OK\r\n");
    Ok(())
}

#[test]
fn a_pipeline_of_100_000_commands_is_answered_in_order_and_after_a_half_close() -> Result<()> {
    let server = Server::node("workers 2")?;
    let mut stream = dial(&server)?;
    let mut sender = stream.try_clone()?;
    let writer = std::thread::spawn(move || -> Result<()> {
        let bytes: Vec<u8> = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n".repeat(100_000);
        sender.write_all(&bytes)?;
        Ok(sender.shutdown(Shutdown::Write)?)
    });
    let mut all = String::new();
    stream.read_to_string(&mut all)?;
    writer.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    let expected: String = (1..=100_000).map(|number| format!(":{number}\r\n")).collect();
    ensure!(all == expected, "{} bytes, not {}", all.len(), expected.len());
    is_well(&server)
}

#[test]
fn who_does_not_read_costs_no_memory() -> Result<()> {
    let server = Server::node("workers 2")?;
    server.connect()?.call(&[b"SET".as_slice(), b"big", &vec![b'x'; 1 << 20]])?;
    server.connect()?.call(&["GET", "big"])?;
    let before = memory(&server)?;
    let mut slow = Vec::new();
    for _ in 0..10 {
        let mut stream = dial(&server)?;
        // 500 MiB of replies, of which nobody reads one byte.
        stream.write_all(&b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n".repeat(500))?;
        slow.push(stream);
    }
    // And announcements of much that never comes.
    for _ in 0..50 {
        let mut stream = dial(&server)?;
        stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nbegin")?;
        slow.push(stream);
    }
    for _ in 0..100 {
        is_well(&server)?;
    }
    let grown = memory(&server)?.saturating_sub(before);
    ensure!(grown < 160 * MIB, "{} MiB for {} connections", grown / MIB, slow.len());
    Ok(())
}
