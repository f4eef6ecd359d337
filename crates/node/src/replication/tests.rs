//! Nodes in this process, on loopback, with real sockets and databases.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::heartbeat::LinkStatus;
use storage::Store;
use topology::Cluster;

use super::*;
use crate::clock;
use crate::config::engine::storage_options;
use crate::config::file::{Kept, rewrite};
use crate::config::{Config, Values};
use crate::gate::Role;
use crate::listener::Listener;

mod by_hand;
mod discarded;
mod disks;
mod epochs;
mod exchanged;
mod kept;
mod killed;
mod lost;
mod messages;
mod moment;
mod progress;
mod shards;
mod silent;
mod started;

pub(crate) struct Running {
    pub(crate) node: Arc<Node>,
    pub(crate) port: u16,
    dir: Arc<tempfile::TempDir>,
    _lock: DirLock,
}

impl Running {
    fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Values)) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), 0, change, storage_options)
    }

    /// A new process in the folder of an earlier one, at its port.
    pub(crate) fn restart(self, change: impl FnOnce(&mut Values)) -> Self {
        let (dir, port) = (Arc::clone(&self.dir), self.port);
        drop(self);
        Self::start_in(dir, port, change, storage_options)
    }

    fn start_in(
        dir: Arc<tempfile::TempDir>,
        port: u16,
        change: impl FnOnce(&mut Values),
        options: fn(&Values) -> storage::Options,
    ) -> Self {
        let mut values = Values { workers: 2, ..Values::default() };
        values.rocksdb_metadata_block_cache_size = 8;
        values.rocksdb_subkey_block_cache_size = 8;
        values.rocksdb_write_buffer_size = 4;
        change(&mut values);
        let mut listener = None;
        wait_until(|| {
            let bound = TcpListener::bind(("127.0.0.1", port));
            listener = Some(bound.map_err(|error| error.to_string())?);
            Ok(())
        });
        let listener = listener.unwrap();
        let port = listener.local_addr().unwrap().port();
        values.port = port;
        listener.set_nonblocking(true).unwrap();
        let mut lock = None;
        wait_until(|| {
            lock = Some(recover(dir.path()).map_err(|error| error.to_string())?);
            Ok(())
        });
        let lock = lock.unwrap();
        let store = Store::open(&dir.path().join("db"), options(&values)).unwrap();
        let config = Config::new(values, None);
        let path = dir.path().to_owned();
        let node = Node::new(
            config,
            path,
            store,
            Cluster::default(),
            Role::Master,
            crate::shell::commands(),
        );
        let node = Arc::new(node.on_regained(regained));
        crate::role::begin_to_write(&node, &node.engine()).unwrap();
        let workers = crate::worker::start(&node).unwrap();
        let accepting = Arc::clone(&node);
        spawn("accept", move || {
            block_on(async move {
                crate::worker::accept(accepting, Listener::Tcp(listener), workers).await.unwrap();
            });
        });
        let looking = Arc::clone(&node);
        spawn("look", move || {
            block_on(async move { crate::grants::drive::run(looking).await.unwrap() })
        });
        Self { node, port, dir, _lock: lock }
    }

    /// One request, one answer as text; arrays are flattened.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let mut stream = self.connect();
        stream.write_all(&::replication::wire::request(&bytes(words))).unwrap();
        answer(&mut stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn follow(&self, port: u16) {
        assert_eq!(self.ask(&["SLAVEOF", "127.0.0.1", &port.to_string()]), "+OK");
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.node.engine().store.as_ref().map_or(0, Store::latest_sequence)
    }

    fn await_up_with(&self, master: &Self) {
        wait_until(|| {
            let (theirs, ours) = (master.sequence(), self.sequence());
            let status = self.node.replication.link_status();
            let is_done =
                status == LinkStatus::Up && theirs == ours && !self.node.resync.is_required();
            if is_done { Ok(()) } else { Err(format!("{status}: {ours} of {theirs}")) }
        });
    }
}

/// As in a real node; in the process of a test that wants it, the link panics here.
fn regained(node: Arc<Node>, generation: u64) -> crate::node::Acted {
    assert!(!crate::threads::tests::is_child(), "told to panic");
    crate::role::note_regained(node, generation)
}

impl Drop for Running {
    fn drop(&mut self) {
        self.node.shut_down();
        end(&self.node);
        // The process must not end while a thread closes a database: its exit handlers take what
        // that needs.
        let Some(store) = self.node.gate.write().store.take() else { return };
        let watch = store.close_watch();
        drop(store);
        watch.wait(Duration::from_secs(20));
    }
}

fn bytes<'a>(words: &[&'a str]) -> Vec<&'a [u8]> {
    words.iter().map(|word| word.as_bytes()).collect()
}

fn line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        if stream.read(&mut byte).unwrap() == 0 {
            return format!("(closed) {}", String::from_utf8_lossy(&line));
        }
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
}

pub(crate) fn answer(stream: &mut TcpStream) -> String {
    let head = line(stream);
    let count = || head[1..].parse::<i64>().unwrap();
    match head.as_bytes().first() {
        Some(b'$') if count() < 0 => "nil".to_owned(),
        Some(b'$') => {
            let mut payload = vec![0; usize::try_from(count()).unwrap() + 2];
            stream.read_exact(&mut payload).unwrap();
            String::from_utf8_lossy(&payload[..payload.len() - 2]).into_owned()
        }
        Some(b'*') if count() < 0 => String::new(),
        Some(b'*') => {
            let items: Vec<_> = (0..count()).map(|_| answer(stream)).collect();
            items.join(" ")
        }
        _ => head,
    }
}

/// Waits for a condition, at most a minute; then fails with what was seen last.
pub(crate) fn wait_until(mut look: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match look() {
            Ok(()) => return,
            Err(seen) if Instant::now() > end => panic!("waited in vain, last seen: {seen}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(5)),
        }
    }
}

/// Several requests on one connection.
fn talk(stream: &mut TcpStream, requests: &[&[&str]]) -> Vec<String> {
    let say = |words: &&[&str]| {
        stream.write_all(&::replication::wire::request(&bytes(words))).unwrap();
        answer(stream)
    };
    requests.iter().map(say).collect()
}

#[test]
fn who_watches_at_a_replica_hears_of_what_the_master_writes() {
    let (master, replica) = (Running::start(), Running::start());
    replica.follow(master.port);
    assert_eq!(master.ask(&["MSET", "a", "1", "b", "1"]), "+OK");
    replica.await_up_with(&master);
    let mut client = replica.connect();
    let exec = |client: &mut TcpStream| talk(client, &[&["MULTI"], &["GET", "a"], &["EXEC"]]).pop();
    assert_eq!(talk(&mut client, &[&["WATCH", "a"]]), ["+OK"]);
    assert_eq!(master.ask(&["SET", "b", "2"]), "+OK");
    replica.await_up_with(&master);
    assert_eq!(exec(&mut client).as_deref(), Some("1"), "another key");
    for (change, seen) in [
        (&["SET", "a", "2"][..], "2"),
        (&["EXPIRE", "a", "1000"], "2"),
        (&["DEL", "a"], "nil"),
        (&["SET", "a", "3"], "3"),
        (&["FLUSHALL"], "nil"),
    ] {
        assert_eq!(talk(&mut client, &[&["WATCH", "a"]]), ["+OK"]);
        master.ask(change);
        replica.await_up_with(&master);
        assert_eq!(exec(&mut client).as_deref(), Some(""), "{change:?}");
        assert_eq!(exec(&mut client).as_deref(), Some(seen), "{change:?}, not watched");
    }
}

#[test]
fn who_waits_for_replicas_is_shown_as_blocked() {
    let node = Running::start();
    let mut client = node.connect();
    // By its id: the node may not have noticed yet that other connections of this test are gone.
    let id = talk(&mut client, &[&["CLIENT", "ID"]]).remove(0);
    client.write_all(&::replication::wire::request(&bytes(&["WAIT", "1", "0"]))).unwrap();
    wait_until(|| match (node.ask(&["INFO", "clients"]), node.ask(&["CLIENT", "LIST"])) {
        (info, list) if info.contains("blocked_clients:1") && list.contains(" flags=b ") => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    assert_eq!(node.ask(&["CLIENT", "KILL", "ID", id.trim_start_matches(':')]), ":1");
    wait_until(|| match node.ask(&["INFO", "clients"]) {
        info if info.contains("blocked_clients:0") => Ok(()),
        info => Err(info),
    });
}

#[test]
fn a_wait_ends_when_its_node_is_no_master_any_more() {
    let (node, other) = (Running::start(), Running::start());
    let mut client = node.connect();
    client.write_all(&::replication::wire::request(&bytes(&["BLPOP", "q", "0"]))).unwrap();
    let mut counts = node.connect();
    counts.write_all(&::replication::wire::request(&bytes(&["WAIT", "1", "0"]))).unwrap();
    wait_until(|| match node.ask(&["INFO", "clients"]) {
        info if info.contains("blocked_clients:2") => Ok(()),
        info => Err(info),
    });
    node.follow(other.port);
    let told = answer(&mut client);
    assert!(told.starts_with("-UNBLOCKED force unblock from blocking operation"), "{told}");
    let told = answer(&mut counts);
    assert!(told.starts_with("-ERR WAIT command can only be executed on master"), "{told}");
    wait_until(|| match node.ask(&["INFO", "errorstats"]) {
        info if ["ERR", "UNBLOCKED"]
            .iter()
            .all(|code| info.contains(&format!("errorstat_{code}:count=1"))) =>
        {
            Ok(())
        }
        info => Err(info),
    });
    // Whose time is over is told so to the millisecond, not at the next look.
    let began = Instant::now();
    assert_eq!(other.ask(&["BLPOP", "q", "0.05"]), "");
    assert!(began.elapsed() >= Duration::from_millis(50));
}

/// A way to a master that ends chosen connections after so many bytes of the master's.
struct Relay {
    port: u16,
    /// Bytes from the master, by connection.
    carried: Arc<Mutex<Vec<usize>>>,
}

impl Relay {
    fn to(master: u16, cut: impl Fn(usize) -> Option<usize> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let carried: Arc<Mutex<Vec<usize>>> = Arc::default();
        let all = Arc::clone(&carried);
        spawn("relay", move || {
            let accepted = AtomicUsize::new(0);
            for replica in listener.incoming().map_while(Result::ok) {
                let index = accepted.fetch_add(1, Ordering::SeqCst);
                all.lock().unwrap().push(0);
                let upstream = TcpStream::connect(("127.0.0.1", master)).unwrap();
                let (mut from, mut to) =
                    (replica.try_clone().unwrap(), upstream.try_clone().unwrap());
                spawn("relay-up", move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
                let (all, limit) = (Arc::clone(&all), cut(index).unwrap_or(usize::MAX));
                spawn("relay-down", move || pass(upstream, replica, limit, index, &all));
            }
        });
        Self { port, carried }
    }
}

fn pass(
    mut from: TcpStream,
    mut to: TcpStream,
    limit: usize,
    index: usize,
    all: &Mutex<Vec<usize>>,
) {
    let mut buffer = [0; 16384];
    let mut total = 0;
    while total < limit {
        let Ok(read @ 1..) = from.read(&mut buffer) else { break };
        let read = read.min(limit - total);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        total += read;
        all.lock().unwrap()[index] = total;
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}

#[test]
fn a_replica_follows_and_waits_are_answered() {
    let (master, replica) = (Running::start(), Running::start());
    master.ask(&["SET", "before", "1"]);
    replica.follow(master.port);
    replica.await_up_with(&master);
    assert_eq!(replica.ask(&["GET", "before"]), "1");
    assert!(replica.ask(&["SET", "x", "1"]).starts_with("-READONLY"));

    let mut client = master.connect();
    for index in 0..100 {
        let value = index.to_string();
        client
            .write_all(&::replication::wire::request(&bytes(&["SET", "during", &value])))
            .unwrap();
        assert_eq!(answer(&mut client), "+OK");
    }
    client.write_all(&::replication::wire::request(&bytes(&["WAIT", "1", "0"]))).unwrap();
    assert_eq!(answer(&mut client), ":1");
    assert_eq!(replica.ask(&["GET", "during"]), "99");
    assert_eq!(master.ask(&["WAIT", "2", "50"]), ":1");
    assert_eq!(master.ask(&["WAIT", "-1", "0"]), "-ERR numreplicas should be a positive integer");
    assert_eq!(
        replica.ask(&["WAIT", "1", "0"]),
        "-ERR WAIT command can only be executed on master"
    );

    let at = master.sequence();
    let port = replica.port;
    assert_eq!(master.ask(&["ROLE"]), format!("master {at} 127.0.0.1 {port} {at}"));
    assert_eq!(replica.ask(&["ROLE"]), format!("slave 127.0.0.1 {} connected {at}", master.port));
    let text = info(&master.node);
    let expected =
        format!("slave0:ip=127.0.0.1,port={port},offset={at},lag=0\r\nmaster_repl_offset:{at}\r\n");
    assert!(text.ends_with(&expected), "{text}");
    assert!(info(&replica.node).contains("master_link_status:up\r\n"));
}

#[test]
fn a_replica_ahead_of_its_master_takes_a_full_sync() {
    let (master, replica) = (Running::start(), Running::start());
    master.ask(&["SET", "kept", "1"]);
    for index in 0..10 {
        replica.ask(&["SET", "discarded", &index.to_string()]);
    }
    replica.follow(master.port);
    replica.await_up_with(&master);
    assert_eq!(replica.ask(&["GET", "kept"]), "1");
    assert_eq!(replica.ask(&["GET", "discarded"]), "nil");
    assert!(replica.dir.path().join("db.deposed").exists(), "it wrote that as a master");
    assert!(!replica.dir.path().join("db.old").exists());
    master.ask(&["SET", "after", "2"]);
    assert_eq!(master.ask(&["WAIT", "1", "0"]), ":1");
    assert_eq!(replica.ask(&["GET", "after"]), "2");
}

#[test]
fn a_deposed_master_never_joins_by_partial_sync_and_keeps_its_data_aside() {
    let (master, deposed) = (Running::start(), Running::start());
    // Sequences that a partial sync would accept.
    master.ask(&["SET", "a", "new"]);
    master.ask(&["SET", "b", "new"]);
    deposed.ask(&["SET", "a", "old"]);
    deposed.node.resync.set_required(true);
    assert!(deposed.ask(&["PSYNC", "1"]).starts_with("-LOADING"));
    deposed.follow(master.port);
    deposed.await_up_with(&master);
    assert_eq!(deposed.ask(&["GET", "a"]), "new");
    assert_eq!(deposed.ask(&["GET", "b"]), "new");
    assert!(deposed.dir.path().join("db.deposed").join("CURRENT").exists());
    assert_eq!(master.node.stats.sync_full.load(Ordering::Relaxed), 1);
}

#[test]
fn a_broken_transfer_resumes_where_it_was() {
    let (master, replica) = (Running::start(), Running::start());
    // Random, so that no compression makes it small; in tables, so that files are large.
    let value: String = (0..3 << 20).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
    for key in ["a", "b"] {
        master.ask(&["SET", key, &value]);
    }
    master.node.engine().store.as_ref().unwrap().flush().unwrap();
    replica.node.resync.set_required(true);
    // Connections: handshake, file list, files (cut), then the same again.
    let relay = Relay::to(master.port, |index| (index == 2).then_some(2 << 20));
    replica.follow(relay.port);
    replica.await_up_with(&master);
    assert_eq!(replica.ask(&["GET", "b"]), value);
    let carried = relay.carried.lock().unwrap().clone();
    assert_eq!(carried[2], 2 << 20);
    let again: usize = carried[3..].iter().sum();
    assert!(again < 5 << 20, "{carried:?}: more than what was missing came");
}

#[test]
fn a_promoted_replica_is_not_written_to_by_its_old_link() {
    let (master, replica) = (Running::start(), Running::start());
    replica.follow(master.port);
    replica.await_up_with(&master);
    let is_writing = Arc::new(AtomicBool::new(true));
    let (port, flag) = (master.port, Arc::clone(&is_writing));
    let writer = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        while flag.load(Ordering::SeqCst) {
            stream.write_all(&::replication::wire::request(&bytes(&["INCR", "n"]))).unwrap();
            line(&mut stream);
        }
    });
    wait_until(|| if replica.sequence() > 100 { Ok(()) } else { Err("too few writes".into()) });
    assert_eq!(replica.ask(&["SLAVEOF", "NO", "ONE"]), "+OK");
    let at = replica.sequence();
    assert_eq!(replica.ask(&["SET", "mine", "1"]), "+OK");
    let before = master.sequence();
    wait_until(|| {
        if master.sequence() > before + 100 { Ok(()) } else { Err("too few writes".into()) }
    });
    assert_eq!(replica.sequence(), at + 1);
    is_writing.store(false, Ordering::SeqCst);
    writer.join().unwrap();
    assert!(replica.ask(&["ROLE"]).starts_with("master"));
}

#[test]
fn role_changes_in_quick_succession_end_in_the_last() {
    let (one, two, replica) = (Running::start(), Running::start(), Running::start());
    one.ask(&["SET", "from", "one"]);
    for _ in 0..5 {
        two.ask(&["SET", "from", "two"]);
    }
    for _ in 0..5 {
        replica.node.resync.set_required(true);
        replica.follow(one.port);
        replica.follow(two.port);
    }
    replica.await_up_with(&two);
    assert_eq!(replica.ask(&["GET", "from"]), "two");
}

#[test]
fn a_chain_passes_on_what_it_gets() {
    let (master, middle, last) = (Running::start(), Running::start(), Running::start());
    middle.follow(master.port);
    middle.await_up_with(&master);
    last.follow(middle.port);
    last.await_up_with(&middle);
    master.ask(&["SET", "k", "v"]);
    wait_until(|| match last.ask(&["GET", "k"]).as_str() {
        "v" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(last.sequence(), master.sequence());
}

/// What a Kvrocks replica sends, and the bytes it must get.
#[test]
fn kvrocks_replicas_are_answered_in_kvrocks_bytes() {
    let master = Running::start();
    master.ask(&["SET", "k", "v"]);
    let mut stream = master.connect();
    let mut ask = |words: &[&str]| {
        stream.write_all(&::replication::wire::request(&bytes(words))).unwrap();
        line(&mut stream)
    };
    assert_eq!(ask(&["_db_name"]), "change.me.db");
    assert_eq!(ask(&["replconf", "listening-port"]), "-ERR wrong number of arguments");
    assert_eq!(ask(&["replconf", "version", "1"]), "-ERR unknown option");
    assert_eq!(ask(&["replconf", "listening-port", "7000"]), "+OK");
    assert_eq!(ask(&["PSYNC"]), "-ERR wrong number of arguments");
    assert_eq!(ask(&["PSYNC", "x"]), "-ERR value is not an unsigned long long or out of range");
    assert_eq!(ask(&["PSYNC", "1"]), "+OK");
    let batch = answer(&mut stream);
    assert!(batch.starts_with("\u{1}\0\0\0\0\0\0\0\u{1}\0\0\0\u{3}\u{1}1\u{5}\u{1}"), "{batch:?}");
    assert_eq!(answer(&mut stream), "ping");

    assert_eq!(master.ask(&["PSYNC", "3"]), "-ERR sequence out of range, please use fullsync");
    let names = master.ask(&["_fetch_meta"]);
    assert!(names.split(',').any(|name| name == "CURRENT"), "{names}");
    let mut stream = master.connect();
    stream.write_all(&::replication::wire::request(&bytes(&["_fetch_file", "CURRENT"]))).unwrap();
    let mut body = String::new();
    stream.read_to_string(&mut body).unwrap();
    let (size, content) = body.split_once("\r\n").unwrap();
    assert_eq!(size, content.len().to_string());
    assert!(content.starts_with("MANIFEST-"), "{content}");
    for hostile in ["../db/CURRENT", "nope", "/etc/passwd", ".."] {
        let mut stream = master.connect();
        stream.write_all(&::replication::wire::request(&bytes(&["_fetch_file", hostile]))).unwrap();
        let mut body = Vec::new();
        stream.read_to_end(&mut body).unwrap();
        assert!(body.is_empty(), "{hostile}");
    }
}

#[test]
fn a_master_that_is_away_is_found_again() {
    let (master, replica) = (Running::start(), Running::start());
    // Every connection but the fourth and later ends in the middle of the stream.
    let relay = Relay::to(master.port, |index| (index < 3).then_some(120));
    replica.follow(relay.port);
    for index in 0..20 {
        master.ask(&["SET", "k", &index.to_string()]);
    }
    replica.await_up_with(&master);
    assert_eq!(replica.ask(&["GET", "k"]), "19");
}

#[test]
fn slaveof_refuses_what_makes_no_sense() {
    let node = Running::start();
    assert_eq!(node.ask(&["SLAVEOF", "127.0.0.1", "x"]), "-ERR port should be number");
    let own = node.port.to_string();
    assert_eq!(node.ask(&["SLAVEOF", "127.0.0.1", &own]), "-ERR can't replicate itself");
    assert_eq!(node.ask(&["SLAVEOF", "no", "one"]), "+OK");
    let cluster = Running::start_with(|values| values.cluster_enabled = true);
    let text = "-ERR can't change to slave in cluster mode";
    assert_eq!(cluster.ask(&["SLAVEOF", "no", "one"]), text);
    let endpoint = Endpoint { host: "127.0.0.1".into(), port: 1 };
    // Late orders are not obeyed.
    follow(&node.node, endpoint.clone(), 7);
    follow(&node.node, endpoint, 6);
    assert_eq!(node.node.replication.link.lock().generation, 7);
}

#[test]
fn slaveof_is_what_config_shows_and_rewrites() {
    let (master, node) = (Running::start(), Running::start());
    let options = || node.node.config.now();
    node.follow(master.port);
    let at = format!("127.0.0.1 {}", master.port);
    assert_eq!(options().get("slaveof"), Some(at.clone()));
    let rewritten = |text| rewrite(text, &options(), &Kept::default());
    for text in ["", "slaveof 10.0.0.1 1\n"] {
        assert!(rewritten(text).contains(&format!("slaveof {at}\n")), "{text}");
    }
    assert_eq!(node.ask(&["SLAVEOF", "no", "one"]), "+OK");
    assert_eq!(options().get("slaveof"), Some(String::new()));
    assert!(!rewritten("").contains("slaveof"));
}

/// Two nodes of a cluster with one shard.
struct ClusterPair {
    one: Running,
    two: Running,
    ids: [String; 2],
}

impl ClusterPair {
    fn start() -> Self {
        Self::start_with([|_| {}, |_| {}])
    }

    /// With other options of the first and of the second one.
    fn start_with([one, two]: [fn(&mut Values); 2]) -> Self {
        let start = |change: fn(&mut Values)| {
            Running::start_with(|values| {
                values.cluster_enabled = true;
                change(values);
            })
        };
        Self { one: start(one), two: start(two), ids: ["1".repeat(40), "2".repeat(40)] }
    }

    /// Tells both nodes who is master, the one that is not first.
    fn push(&self, master: usize, version: &str) {
        for index in [1 - master, master] {
            let node = [&self.one, &self.two][index];
            assert_eq!(node.ask(&["CLUSTERX", "SETNODEID", &self.ids[index]]), "+OK");
            self.push_to(node, master, version);
        }
    }

    fn push_to(&self, node: &Running, master: usize, version: &str) {
        let (ids, nodes) = (&self.ids, [&self.one, &self.two]);
        let line = |index: usize| {
            let start = format!("{} 127.0.0.1 {}", ids[index], nodes[index].port);
            let of = if index == master {
                "master - 0-16383".into()
            } else {
                format!("slave {}", ids[master])
            };
            format!("{start} {of}")
        };
        let text = format!("{}\n{}", line(0), line(1));
        assert_eq!(node.ask(&["CLUSTERX", "SETNODES", &text, version]), "+OK");
    }
}

#[test]
fn a_master_shows_how_far_its_replicas_are() {
    let pair = ClusterPair::start();
    pair.push(0, "1");
    pair.one.ask(&["SET", "k", "v"]);
    pair.two.await_up_with(&pair.one);
    let offsets = |node: &Running| {
        let said = node.ask(&["CLUSTER", "SHARDS"]);
        let words: Vec<&str> = said.split(' ').collect();
        let behind = words.windows(2).filter(|pair| pair[0] == "replication-offset");
        behind.map(|pair| pair[1].to_owned()).collect::<Vec<_>>()
    };
    let sequence = format!(":{}", pair.one.sequence());
    // The acknowledgement may still be on its way.
    wait_until(|| match offsets(&pair.one) {
        all if all == [sequence.clone(), sequence.clone()] => Ok(()),
        other => Err(format!("{other:?} of {sequence}")),
    });
    // A replica knows of itself alone.
    assert_eq!(offsets(&pair.two), [":0".to_owned(), sequence]);
}

/// Roles as a controller swaps them: the deposed master takes a full sync, and forgets durably that
/// it had to.
#[test]
fn a_deposed_master_of_a_cluster_comes_back_by_full_sync() {
    let pair = ClusterPair::start();
    let ClusterPair { one, two, .. } = &pair;
    pair.push(0, "1");
    one.ask(&["SET", "k", "old"]);
    two.await_up_with(one);
    pair.push(1, "2");
    two.ask(&["SET", "k", "new"]);
    one.await_up_with(two);
    assert!(one.dir.path().join("db.deposed").join("CURRENT").exists());
    assert_eq!(two.node.stats.sync_full.load(Ordering::Relaxed), 1);
    wait_until(|| {
        let outcome = one.node.cluster.load().outcome();
        if outcome.full_sync_required { Err("still required".into()) } else { Ok(()) }
    });
    let kept = topology::persist::load(&topology::persist::Disk, one.dir.path()).unwrap().unwrap();
    assert_eq!(kept.mastered_at, None);
    let mut client = one.connect();
    for (words, expected) in [(["READONLY", ""], "+OK"), (["GET", "k"], "new")] {
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        client.write_all(&::replication::wire::request(&bytes(&words))).unwrap();
        assert_eq!(answer(&mut client), expected);
    }
}
