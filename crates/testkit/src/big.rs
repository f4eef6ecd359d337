//! Keys of very many elements in a cluster behind its balancer: what they cost its memory, and the
//! other clients of the node.
//!
//! One key of each type is written, walked through, read as a whole and removed, while other
//! clients ask for PING without pause and the memory of the master is looked at. There are more of
//! those clients than workers, so that each worker has some.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::bench::usage::resident_bytes;
use crate::cluster::{Cluster, Node, Options};
use crate::wait::pause;
use crate::wire::{Connection, Reply, encode};

/// Elements of one command, and commands sent before their replies are read.
const EACH: u64 = 500;
const DEPTH: usize = 8;
/// Clients that ask for PING.
const PINGS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(600);

/// A type with very many elements.
#[derive(Debug, Clone, Copy)]
pub struct Type {
    /// Name, as of its key.
    pub name: &'static str,
    write: &'static str,
    /// Words of an element.
    element: fn(u64, &mut Vec<String>),
    /// Reads a part; `None` for a list, which is walked by indexes.
    scan: Option<&'static str>,
    whole: &'static [&'static str],
    count: &'static str,
    remove: &'static str,
}

/// All of them.
pub const TYPES: [Type; 4] = [
    Type {
        name: "list",
        write: "RPUSH",
        element: |number, words| words.push(format!("element-{number}")),
        scan: None,
        whole: &["LRANGE", "list", "0", "-1"],
        count: "LLEN",
        remove: "DEL",
    },
    Type {
        name: "hash",
        write: "HSET",
        element: |number, words| words.extend([format!("field-{number}"), number.to_string()]),
        scan: Some("HSCAN"),
        whole: &["HGETALL", "hash"],
        count: "HLEN",
        remove: "UNLINK",
    },
    Type {
        name: "set",
        write: "SADD",
        element: |number, words| words.push(format!("member-{number}")),
        scan: Some("SSCAN"),
        whole: &["SMEMBERS", "set"],
        count: "SCARD",
        remove: "DEL",
    },
    Type {
        name: "zset",
        write: "ZADD",
        element: |number, words| words.extend([number.to_string(), format!("member-{number}")]),
        scan: Some("ZSCAN"),
        whole: &["ZRANGE", "zset", "0", "-1", "WITHSCORES"],
        count: "ZCARD",
        remove: "UNLINK",
    },
];

/// What one phase was seen to cost.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    /// How long it took.
    pub time: Duration,
    /// The longest wait for an answer to PING.
    pub worst: Duration,
    /// Most memory of the master, bytes.
    pub memory: u64,
}

/// The figures of one type.
#[derive(Debug)]
pub struct Figures {
    /// Which.
    pub name: &'static str,
    /// By their names.
    pub phases: Vec<(&'static str, Phase)>,
    /// Bytes of the reply that holds all elements.
    pub reply_bytes: u64,
}

/// A cluster of one shard, and those who watch it.
#[derive(Debug)]
pub struct Bench {
    cluster: Cluster,
    master: Node,
    worst_ns: Arc<AtomicU64>,
    memory: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    watchers: Vec<std::thread::JoinHandle<Result<()>>>,
}

impl Bench {
    /// Starts them.
    pub fn start() -> Result<Self> {
        let options = Options { shards: 1, replicas: 1, ..Options::default() };
        let cluster = Cluster::start(options)?;
        let master = cluster.master(0)?;
        let (worst_ns, memory, stop) =
            <(Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicBool>)>::default();
        let (address, pid) = (master.announced()?, master.running()?);
        let mut watchers = Vec::new();
        for _ in 0..PINGS {
            let (worst, stop) = (Arc::clone(&worst_ns), Arc::clone(&stop));
            watchers.push(std::thread::spawn(move || ping(address, &worst, &stop)));
        }
        let (most, over) = (Arc::clone(&memory), Arc::clone(&stop));
        watchers.push(std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(resident_bytes(pid)?, Ordering::Relaxed);
                pause(Duration::from_millis(50));
            }
            Ok(())
        }));
        Ok(Self { cluster, master, worst_ns, memory, stop, watchers })
    }

    fn phase(&self, work: impl FnOnce() -> Result<()>) -> Result<Phase> {
        self.worst_ns.store(0, Ordering::Relaxed);
        self.memory.store(0, Ordering::Relaxed);
        let began = Instant::now();
        work().with_context(|| self.cluster.logs())?;
        let time = began.elapsed();
        // One look more, so that also a short phase has one.
        pause(Duration::from_millis(100));
        let worst = Duration::from_nanos(self.worst_ns.load(Ordering::Relaxed));
        Ok(Phase { time, worst, memory: self.memory.load(Ordering::Relaxed) })
    }

    /// What the machine itself makes a client wait: nothing is done.
    pub fn idle(&self) -> Result<Phase> {
        self.phase(|| {
            pause(Duration::from_secs(5));
            Ok(())
        })
    }

    /// Writes, walks through, reads and removes one key of a type.
    pub fn run(&self, kind: &Type, elements: u64) -> Result<Figures> {
        let address = self.master.announced()?;
        let mut client = Connection::open_within(address, PATIENCE, PATIENCE)?;
        let mut phases = Vec::new();
        phases.push(("write", self.phase(|| write(&mut client, kind, elements))?));
        let count = client.call(&[kind.count, kind.name])?;
        ensure!(count == Reply::Integer(i64::try_from(elements)?), "{} has {count:?}", kind.name);
        phases.push(("walk", self.phase(|| walk(&mut client, kind, elements))?));
        let mut reply_bytes = 0;
        phases.push((
            "read all",
            self.phase(|| {
                reply_bytes = read_all(address, kind.whole)?;
                Ok(())
            })?,
        ));
        phases.push((
            "remove",
            self.phase(|| {
                let removed = client.call(&[kind.remove, kind.name])?;
                ensure!(removed == Reply::Integer(1), "{}: {removed:?}", kind.remove);
                Ok(())
            })?,
        ));
        Ok(Figures { name: kind.name, phases, reply_bytes })
    }

    /// Ends; fails unless the master is the one it began with, and no client lost its connection.
    pub fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for watcher in self.watchers {
            match watcher.join() {
                Ok(watched) => watched.context("watch the node")?,
                Err(_) => bail!("one who watched the node panicked"),
            }
        }
        let state = self.cluster.state()?;
        let master = self.cluster.master(0)?;
        ensure!(master.id == self.master.id && master.pid == self.master.pid, "{state:?}");
        let failovers = failovers(&state.controller.url)?;
        ensure!(failovers == "0", "failovers: {failovers}");
        Ok(())
    }
}

fn write(client: &mut Connection, kind: &Type, elements: u64) -> Result<()> {
    let (mut next, mut unread) = (0, 0);
    while next < elements || unread > 0 {
        if next < elements && unread < DEPTH {
            let end = elements.min(next + EACH);
            let mut words = vec![kind.write.to_owned(), kind.name.to_owned()];
            (next..end).for_each(|number| (kind.element)(number, &mut words));
            client.send(&words)?;
            (next, unread) = (end, unread + 1);
            continue;
        }
        let reply = client.receive()?;
        ensure!(matches!(reply, Reply::Integer(_)), "{}: {}", kind.write, reply.text());
        unread -= 1;
    }
    Ok(())
}

fn walk(client: &mut Connection, kind: &Type, elements: u64) -> Result<()> {
    let Some(scan) = kind.scan else {
        for start in (0..elements).step_by(10_000) {
            let stop = start + 9_999;
            let part =
                client.call(&["LRANGE", kind.name, &start.to_string(), &stop.to_string()])?;
            ensure!(!part.elements().is_empty(), "{part:?}");
        }
        return Ok(());
    };
    let (mut cursor, mut seen) = ("0".to_owned(), 0);
    loop {
        let page = client.call(&[scan, kind.name, &cursor, "COUNT", "5000"])?;
        let [next, items] = page.elements() else { bail!("{scan}: {}", page.text()) };
        seen += items.elements().len() as u64;
        cursor = next.text();
        if cursor == "0" {
            break;
        }
    }
    let words = if kind.name == "set" { 1 } else { 2 };
    ensure!(seen == elements * words, "{scan} has met {seen} words of {elements} elements");
    Ok(())
}

/// Reads the reply without keeping it; returns its length.
fn read_all(address: SocketAddr, command: &[&str]) -> Result<u64> {
    const END: &[u8] = b"$17\r\nthat was the last\r\n";
    let mut stream = TcpStream::connect(address).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE)).context("set a time limit")?;
    let mut sent = encode(command);
    sent.extend(encode(&["ECHO", "that was the last"]));
    stream.write_all(&sent).context("send")?;
    let (mut buffer, mut tail, mut total) = (vec![0; 1 << 18], Vec::new(), 0);
    loop {
        let read = stream.read(&mut buffer).context("read a reply")?;
        ensure!(read > 0, "the connection was closed after {total} bytes");
        let part = buffer.get(..read).unwrap_or_default();
        ensure!(total > 0 || !part.starts_with(b"-"), "{}", String::from_utf8_lossy(part));
        total += read as u64;
        tail.extend_from_slice(part);
        let surplus = tail.len().saturating_sub(END.len());
        tail.drain(..surplus);
        if tail == END {
            return Ok(total - END.len() as u64);
        }
    }
}

fn ping(address: SocketAddr, worst_ns: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let mut client = Connection::open_within(address, PATIENCE, PATIENCE)?;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let reply = client.call(&["PING"])?;
        let waited = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        ensure!(matches!(reply, Reply::Simple(_)), "PING: {}", reply.text());
        worst_ns.fetch_max(waited, Ordering::Relaxed);
        pause(Duration::from_millis(2));
    }
    Ok(())
}

/// What the controller counts.
fn failovers(url: &str) -> Result<String> {
    let address: SocketAddr =
        url.trim_start_matches("http://").parse().context("read the controller's address")?;
    let mut stream = TcpStream::connect(address).context("connect to the controller")?;
    let question = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(question.as_bytes()).context("ask for metrics")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("read metrics")?;
    let line = text.lines().find_map(|line| {
        line.strip_prefix("holdfast_controller_failovers_total")?.rsplit(' ').next()
    });
    line.map(ToOwned::to_owned).with_context(|| text.clone())
}
