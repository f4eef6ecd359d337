//! Waiting until the in-sync set has everything that a copy holds. Only then is it certain that
//! nothing of it will be discarded.
//!
//! A master knows; a replica asks its master, because its own data says nothing of the other
//! members.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use resp::{Value, encode_command};
use topology::Endpoint;

use super::{Failed, Origin};
use crate::dial::Way;
use crate::gate::Role;
use crate::grants::drive;
use crate::grants::state::Ticket;
use crate::node::Node;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest wait for one answer of the master.
const ANSWER: Duration = Duration::from_secs(2);
/// INFO is far below it.
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own looks at what another node says, with a bound"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// Returns once `sequence` is acknowledged, at once where nobody is waited for.
pub(super) fn acknowledged(
    node: &Node,
    origin: &Origin,
    sequence: u64,
    deadline: Instant,
) -> Result<(), Failed> {
    loop {
        origin.check(node)?;
        let outcome = match &origin.role {
            Role::Master => at_master(node, origin, sequence),
            // A database without epochs was never part of an in-sync set.
            Role::Replica { .. } if origin.store.history().is_empty() => Ok(()),
            Role::Replica { from } => ask(node, origin, from, sequence),
        };
        match outcome {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() >= deadline => {
                return Err(Failed::Tail(format!(
                    "what is in the copy is not acknowledged: {why}"
                )));
            }
            Err(_) => pause(),
        }
    }
}

fn at_master(node: &Node, origin: &Origin, sequence: u64) -> Result<(), String> {
    let commit = &node.grants.commit;
    if !commit.is_waiting() {
        let is_let = node.grants.mode().is_some() || origin.store.history().is_empty();
        // With epochs and without a grant it is not known what the set has.
        return if is_let { Ok(()) } else { Err("this master holds no grant".to_owned()) };
    }
    if !commit.has(sequence) {
        return Err(format!("the in-sync set does not have sequence {sequence}"));
    }
    let ticket = Ticket { sequence, generation: origin.generation, is_write: true };
    drive::may_leave(node, &ticket).map_err(str::to_owned)
}

/// What the master says of its set.
fn ask(node: &Node, origin: &Origin, master: &Endpoint, sequence: u64) -> Result<(), String> {
    let info = info(node, master).map_err(|error| format!("ask the master {master}: {error}"))?;
    let field = |name: &str| {
        let mut values = info.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.next().unwrap_or_default().trim()
    };
    let newest = origin.store.history().newest().map(|entry| entry.id.to_string());
    if Some(field("epoch_id")) != newest.as_deref() {
        return Err(format!("the master {master} is in another epoch"));
    }
    match field("commit_mode") {
        "async" => Ok(()),
        "in-sync" => match field("committed").parse::<u64>() {
            Ok(committed) if committed >= sequence => Ok(()),
            _ => Err(format!("the in-sync set does not have sequence {sequence}")),
        },
        _ => Err(format!("the master {master} holds no grant")),
    }
}

fn info(node: &Node, master: &Endpoint) -> std::io::Result<String> {
    let unfit = |text: &str| std::io::Error::other(text.to_owned());
    let Way { host, port, tls } = node.way_to(master)?;
    let address = (host.as_str(), port).to_socket_addrs()?.next();
    let stream =
        TcpStream::connect_timeout(&address.ok_or_else(|| unfit("it has no address"))?, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    match tls {
        None => info_over(node, stream),
        Some(tls) => info_over(node, tls.over(stream, &host)?),
    }
}

fn info_over(node: &Node, mut stream: impl Read + Write) -> std::io::Result<String> {
    let unfit = |text: &str| std::io::Error::other(text.to_owned());
    let password = node.config.now().masterauth.clone();
    if !password.is_empty() {
        stream.write_all(&encode_command(&["AUTH", &password]))?;
        if !read(&mut stream)?.is_ok() {
            return Err(unfit("it does not take this node's masterauth"));
        }
    }
    stream.write_all(&encode_command(&["INFO", "holdfast"]))?;
    let value = read(&mut stream)?;
    let text = value.as_str().ok_or_else(|| unfit("it does not answer INFO"))?;
    Ok(text.to_owned())
}

fn read(stream: &mut impl Read) -> std::io::Result<Value> {
    let mut buffer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match Value::parse(&buffer, ANSWER_BYTES_MAX) {
            Ok(Some((value, _))) => return Ok(value),
            Ok(None) => {}
            Err(error) => return Err(std::io::Error::other(error.to_string())),
        }
        match stream.read(&mut chunk)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => buffer.extend_from_slice(&chunk[..read]),
        }
    }
}
