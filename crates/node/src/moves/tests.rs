//! Two masters of a cluster on loopback, and orders as a controller gives them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::grant::{Member, Members};
use ::replication::slots::{Cursor, Least, MoveId, Slots};
use ::replication::wire;
use api::heartbeat::{LeaseMode, Reply};
use api::moves::{Asked, Feed, Frozen, Mark, Order, Ordered, Rate, Said, weights};
use storage::types::keyspace;
use storage::{Direction, Family, Read as _};

use crate::config::Values;
use crate::replication::tests::{Running, answer, wait_until};

mod batches;
mod beside;
mod committed;
mod dump;
mod numbers;
mod paces;
mod reads;
mod saved;
mod wished;

const ID: MoveId = MoveId(1);
/// Slots of S, of which the lower half moves.
const MOVING: &str = "0-4095";

fn options(values: &mut Values) {
    values.cluster_enabled = true;
    values.master_lease_mode = LeaseMode::BlockAll;
    values.peer_auth = "secret".into();
}

/// A master, and what its controller grants it.
struct Master {
    node: Option<Running>,
    id: String,
    epoch: u64,
    /// Of its set, beside itself.
    replicas: Vec<Member>,
}

impl Master {
    fn new(letter: char) -> Self {
        let node = Some(Running::start_with(options));
        let id = letter.to_string().repeat(40);
        let master = Self { node, id, epoch: 0, replicas: Vec::new() };
        assert_eq!(master.ask(&["CLUSTERX", "SETNODEID", &master.id]), "+OK");
        master
    }

    fn node(&self) -> &Running {
        self.node.as_ref().unwrap()
    }

    fn ask(&self, words: &[&str]) -> String {
        self.node().ask(words)
    }

    /// A new process on the same data.
    fn restart(&mut self, topology: &str, version: i64) {
        self.node = self.node.take().map(|node| node.restart(options));
        assert_eq!(self.ask(&["CLUSTERX", "SETNODEID", &self.id]), "+OK");
        self.set_nodes(topology, version);
        self.open_epoch();
    }

    fn set_nodes(&self, topology: &str, version: i64) {
        assert_eq!(self.ask(&["CLUSTERX", "SETNODES", topology, &version.to_string()]), "+OK");
    }

    fn open_epoch(&mut self) {
        self.epoch += 1;
        assert_eq!(self.heartbeat(&[]).standing.granted_epoch, self.epoch);
    }

    fn epoch_id(&self) -> u64 {
        self.epoch * 1000 + u64::from(self.id.as_bytes()[0])
    }

    fn heartbeat(&self, asked: &[Asked]) -> Reply {
        let read = |text: String| Reply::parse(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let hello = ["CLUSTERX", "HEARTBEAT", &self.id, "1000", "1", "CLOCK", "0", "0"];
        let seen = read(self.ask(&hello));
        let mut words: Vec<String> =
            ["CLUSTERX", "HEARTBEAT", &self.id, "30000", "1", "CLOCK"].map(str::to_owned).to_vec();
        words.extend([seen.clock_ns.to_string(), seen.nonce.clone(), "GRANT".into()]);
        words.extend([self.epoch.to_string(), format!("{:016x}", self.epoch_id())]);
        let own = seen.member().unwrap();
        let members: Members = self.replicas.iter().copied().chain([own]).collect();
        let members = members.to_string();
        words.extend(["-", "0", "in-sync", "1", "0", &members, "MOVES"].map(str::to_owned));
        words.extend(asked.iter().map(ToString::to_string));
        read(self.ask(&words.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    fn order(&self, order: Order) -> Said {
        self.order_of(ID, order)
    }

    fn order_of(&self, id: MoveId, order: Order) -> Said {
        let asked = Asked::Do(Ordered { id, slots: MOVING.parse().unwrap(), term: 1, order });
        let said = self.heartbeat(&[asked]).moves.unwrap();
        said.into_iter().find(|said| said.id == id).unwrap()
    }

    fn say(&self) -> Said {
        self.heartbeat(&[Asked::Of(ID)]).moves.unwrap().remove(0)
    }

    /// What may be pulled from.
    fn source(&self) -> Order {
        self.source_at(None)
    }

    fn source_at(&self, rate: Option<Rate>) -> Order {
        let nonce = self.heartbeat(&[]).nonce;
        Order::Pull { node: self.id.clone(), nonce, epoch: self.epoch, rate }
    }

    /// A command of a peer.
    fn peer(&self, words: &[&str]) -> String {
        let mut peer = self.node().connect();
        for words in [&["AUTH", "secret"][..], words] {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            peer.write_all(&wire::request(&words)).unwrap();
        }
        assert_eq!(answer(&mut peer), "+OK");
        answer(&mut peer)
    }

    /// All records of the slots that move, sub-keys without an owner aside.
    fn records(&self) -> Vec<u8> {
        let engine = self.node().node.engine();
        let (slots, store): (Slots, _) = (MOVING.parse().unwrap(), engine.store.as_ref().unwrap());
        let all = storage::slots::Most { bytes: usize::MAX, records: usize::MAX };
        storage::slots::chunk(&store.snapshot(), &slots, &Cursor::Start, all).unwrap().records
    }

    /// Records of the slots that move, in every family.
    fn raw(&self) -> usize {
        let engine = self.node().node.engine();
        let (slots, store): (Slots, _) = (MOVING.parse().unwrap(), engine.store.as_ref().unwrap());
        let mut found = 0;
        for family in Family::ALL {
            let mut cursor = store.scan(family, b"", b"", Direction::Forward).unwrap();
            while let Some((key, _)) = cursor.next().unwrap() {
                let slot = key.strip_prefix(b"\x0b__namespace").and_then(|key| key.first_chunk());
                found +=
                    usize::from(slot.is_some_and(|slot| slots.contains(u16::from_be_bytes(*slot))));
            }
        }
        found
    }

    /// Keys of the slots that move that clients of this node could see.
    fn count(&self) -> u64 {
        let engine = self.node().node.engine();
        let txn = engine.store.as_ref().unwrap().txn();
        let scope = self.node().node.scope(crate::clock::unix_ms());
        let slots: Slots = MOVING.parse().unwrap();
        slots.iter().map(|slot| keyspace::count_in_slot(&txn, &scope, slot).unwrap()).sum()
    }
}

/// Two shards, with the topology before the move, or after it.
struct Cluster {
    s: Master,
    d: Master,
    version: i64,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self { s: Master::new('s'), d: Master::new('d'), version: 1 };
        cluster.push();
        cluster.s.open_epoch();
        cluster.d.open_epoch();
        cluster
    }

    fn topology(&self) -> String {
        let (s, d) = if self.version == 1 {
            ("0-8191", "8192-16383")
        } else {
            ("4096-8191", "0-4095 8192-16383")
        };
        let line = |master: &Master, slots| {
            format!("{} 127.0.0.1 {} master - {slots}", master.id, master.node().port)
        };
        format!("{}\n{}", line(&self.s, s), line(&self.d, d))
    }

    fn push(&self) {
        for master in [&self.d, &self.s] {
            master.set_nodes(&self.topology(), self.version);
        }
    }

    fn restart_s(&mut self) {
        let (topology, version) = (self.topology(), self.version);
        self.s.restart(&topology, version);
    }

    fn restart_d(&mut self) {
        let (topology, version) = (self.topology(), self.version);
        self.d.restart(&topology, version);
    }

    /// Orders to pull until the taker has everything and keeps up.
    fn copy(&self) {
        self.copy_at(None);
    }

    fn copy_at(&self, rate: Option<Rate>) {
        wait_until(|| {
            let (giver, taker) = (self.s.say(), self.d.say());
            let is_whole = matches!(taker.mark, Some(Mark::Staged { is_whole: true, .. }));
            if is_whole && giver.feed == Some(Feed::Close) {
                return Ok(());
            }
            if giver.feed.is_none() || taker.mark.is_none() {
                self.d.order(self.s.source_at(rate));
            }
            Err(format!("{giver:?} {taker:?}"))
        });
    }

    /// Holds the writes until the taker has all.
    fn freeze(&self, number: u64) -> Least {
        let mut at = None;
        wait_until(|| {
            let giver = self.s.order(Order::Freeze { number });
            let Some(Frozen { at: Some(frozen), .. }) = giver.frozen else {
                return Err(format!("{giver:?}"));
            };
            at = Some(frozen);
            // Others go on writing behind it.
            assert_eq!(self.s.ask(&["INCR", "{c}other"]).get(..1), Some(":"));
            let taker = self.d.say();
            let staged = Mark::Staged { at, is_whole: true };
            let is_ready = taker.mark == Some(staged) && taker.is_committed;
            if is_ready { Ok(()) } else { Err(format!("{frozen:?}: {taker:?}")) }
        });
        at.unwrap()
    }

    /// The record has given the slots away: nothing goes back any more.
    fn own(&mut self, at: Least) {
        self.version = 2;
        assert!(self.s.order(Order::Seal).is_sealed);
        assert_eq!(self.s.records(), self.d.records(), "what is given is what is taken");
        let opened = self.d.order(Order::Open { at, version: 2 });
        assert_eq!(opened.mark, Some(Mark::Held));
        self.push();
        self.finish();
    }

    fn finish(&self) {
        assert_eq!(
            self.s.order(Order::Leave { version: 2 }).mark,
            Some(Mark::Gone { is_empty: false })
        );
        wait_until(|| {
            let taker = self.d.say();
            let is_safe = taker.mark == Some(Mark::Held) && taker.is_committed && taker.is_synced;
            if is_safe { Ok(()) } else { Err(format!("{taker:?}")) }
        });
        self.clean();
    }

    /// While a command runs nothing is deleted.
    fn clean(&self) {
        wait_until(|| {
            let gone = self.s.order(Order::Clean);
            match (gone.mark, gone.frozen) {
                (Some(Mark::Gone { is_empty: true }), None) => Ok(()),
                _ => Err(format!("{gone:?}")),
            }
        });
        assert_eq!((self.s.count(), self.s.raw()), (0, 0));
    }
}

/// A client that goes where it is sent, and remembers what was acknowledged.
struct Client {
    ports: [u16; 2],
    streams: BTreeMap<u16, TcpStream>,
    at: u16,
    /// Longest that a command took.
    slowest: Duration,
}

impl Client {
    fn new(cluster: &Cluster) -> Self {
        let ports = [cluster.s.node().port, cluster.d.node().port];
        Self { ports, streams: BTreeMap::new(), at: ports[0], slowest: Duration::ZERO }
    }

    /// Sends a command until it is answered with something else than a redirection.
    fn run(&mut self, words: &[&str]) -> String {
        let begun = Instant::now();
        for _ in 0..1000 {
            let port = self.at;
            let stream = self.streams.entry(port).or_insert_with(|| {
                let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                stream
            });
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            stream.write_all(&wire::request(&words)).unwrap();
            let answer = answer(stream);
            if !answer.starts_with("-MOVED") {
                self.slowest = self.slowest.max(begun.elapsed());
                return answer;
            }
            self.at = answer.rsplit_once(':').unwrap().1.parse().unwrap();
            assert!(self.ports.contains(&self.at), "{answer}");
        }
        panic!("sent to and fro");
    }
}

/// Keys `{tag}…` in slots that move, and in one that stays with S.
fn tags(count: usize) -> Vec<String> {
    let slot = |tag: &String| topology::key_slot(tag.as_bytes()).number();
    let all = (0..).map(|number| format!("t{number}"));
    all.filter(|tag| slot(tag) < 4096).take(count).collect()
}

/// A key of every type, in each of these slots.
fn fill(client: &mut Client, tags: &[String]) {
    for tag in tags {
        let key = |name: &str| format!("{{{tag}}}{name}");
        let long = "x".repeat(3000);
        for words in [
            &["SET", &key("s"), &long][..],
            &["SET", &key("px"), "v", "PX", "100000"],
            &["HSET", &key("h"), "a", "1", "b", "2", "c", &long],
            &["HDEL", &key("h"), "b"],
            &["RPUSH", &key("l"), "1", "2", "3"],
            &["LPOP", &key("l")],
            &["SADD", &key("set"), "1", "2"],
            &["ZADD", &key("z"), "1", "a", "2", "b"],
            &["GEOADD", &key("geo"), "1", "2", "here"],
            &["XADD", &key("x"), "1-1", "f", "v"],
            &["XGROUP", "CREATE", &key("x"), "g", "0"],
            &["SETBIT", &key("bits"), "70000", "1"],
            &["SIADD", &key("si"), "5", "6"],
            &["JSON.SET", &key("json"), "$", "{\"a\":1}"],
            &["BF.ADD", &key("bloom"), "a"],
            &["PFADD", &key("hll"), "a"],
            &["CF.ADD", &key("cuckoo"), "a"],
            &["TDIGEST.CREATE", &key("digest"), "COMPRESSION", "1"],
            &["TDIGEST.ADD", &key("digest"), "1", "2"],
            &["TDIGEST.MERGE", &key("digest"), "1", &key("digest")],
            &["TS.ADD", &key("series"), "5", "1", "CHUNK_SIZE", "1"],
            &["TS.ADD", &key("series"), "6", "1"],
            &["SADD", &key("gone"), "1"],
            &["DEL", &key("gone")],
        ] {
            let answer = client.run(words);
            assert!(!answer.starts_with('-'), "{words:?}: {answer}");
        }
    }
}

/// Writes while slots move, until told to end; what was acknowledged, by key.
fn write(
    cluster: &Cluster,
    tags: Vec<String>,
    ends: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<(BTreeMap<String, i64>, Duration)> {
    let (mut client, ends) = (Client::new(cluster), Arc::clone(ends));
    std::thread::spawn(move || {
        let mut acked = BTreeMap::new();
        for round in 0_i64.. {
            if ends.load(Ordering::SeqCst) {
                break;
            }
            for tag in &tags {
                let key = |name: &str| format!("{{{tag}}}{name}");
                let field = (round % 20).to_string();
                assert_eq!(client.run(&["INCR", &key("counter")]), format!(":{}", round + 1));
                acked.insert(key("counter"), round + 1);
                let answer = client.run(&["HSET", &key("h"), &field, &round.to_string()]);
                assert!(answer.starts_with(':'), "{answer}");
                let answer = client.run(&["ZADD", &key("z"), &round.to_string(), &field]);
                assert!(answer.starts_with(':'), "{answer}");
                if round % 7 == 3 {
                    assert_eq!(client.run(&["DEL", &key("h")]), ":1");
                }
            }
        }
        (acked, client.slowest)
    })
}

#[test]
fn slots_move_while_a_client_writes_and_nothing_is_lost() {
    let mut cluster = Cluster::new();
    let (tags, ends) = (tags(40), Arc::new(AtomicBool::new(false)));
    fill(&mut Client::new(&cluster), &tags);
    let stays = "{c}stays";
    assert!((4096..8192).contains(&topology::key_slot(stays.as_bytes()).number()));
    let mut client = Client::new(&cluster);
    assert_eq!(client.run(&["SET", stays, "1"]), "+OK");
    let writer = write(&cluster, tags[..8].to_vec(), &ends);
    cluster.copy();
    let seen = |words: &[&str]| cluster.d.ask(words);
    assert_eq!(seen(&["DBSIZE"]), ":0");
    assert_eq!((seen(&["SCAN", "0"]), seen(&["RANDOMKEY"])), ("0 ".into(), "nil".into()));
    assert_eq!(seen(&["FLUSHALL"]), "+OK");
    let moved = format!("-MOVED {} ", topology::key_slot(tags[0].as_bytes()).number());
    assert!(seen(&["GET", &tags[0]]).starts_with(&moved));
    let at = cluster.freeze(1);
    cluster.own(at);
    let keys = cluster.d.count();
    let counter = format!("{{{}}}counter", tags[0]);
    let mut count = || client.run(&["GET", &counter]).parse::<i64>().unwrap();
    let before = count();
    wait_until(|| if count() > before + 2 { Ok(()) } else { Err("the writer waits".into()) });
    ends.store(true, Ordering::SeqCst);
    let (acked, slowest) = writer.join().unwrap();
    for (key, count) in acked {
        assert_eq!(client.run(&["GET", &key]), count.to_string(), "{key}");
    }
    assert!(keys > 40 * 10, "{keys}");
    assert_eq!(client.run(&["HGET", &format!("{{{}}}h", tags[30]), "a"]), "1");
    assert_eq!(client.run(&["JSON.GET", &format!("{{{}}}json", tags[30])]), "{\"a\":1}");
    assert_eq!(client.run(&["GET", stays]), "1");
    assert!(slowest < Duration::from_secs(20), "{slowest:?}");
    let moved = cluster.s.ask(&["GET", &tags[0]]);
    assert!(moved.ends_with(&cluster.d.node().port.to_string()), "{moved}");
}

#[test]
fn a_copy_goes_on_after_a_restart_of_either_side() {
    let mut cluster = Cluster::new();
    let tags = tags(35);
    fill(&mut Client::new(&cluster), &tags[..30]);
    cluster.d.order(cluster.s.source());
    wait_until(|| match cluster.d.say().mark {
        Some(Mark::Staged { at: Some(_), .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    cluster.restart_d();
    let kept = cluster.d.say();
    assert!(matches!(kept.mark, Some(Mark::Staged { at: Some(_), .. })), "{kept:?}");
    cluster.copy();
    fill(&mut Client::new(&cluster), &tags[30..]);
    cluster.restart_s();
    cluster.copy();
    assert_ne!(cluster.s.say().feed, Some(Feed::Misfit));
    // Frozen in one process, and not in the next.
    cluster.freeze(1);
    cluster.restart_s();
    assert_eq!(cluster.s.say().frozen, None);
    cluster.copy();
    let at = cluster.freeze(2);
    cluster.restart_d();
    cluster.own(at);
    for restarts_s in [true, false] {
        if restarts_s {
            cluster.restart_s()
        } else {
            cluster.restart_d()
        }
        assert_eq!(cluster.s.say().mark, Some(Mark::Gone { is_empty: true }));
        assert_eq!(cluster.d.say().mark, Some(Mark::Held));
        assert_eq!(
            Client::new(&cluster).run(&["LRANGE", &format!("{{{}}}l", tags[7]), "0", "-1"]),
            "2 3"
        );
    }
}

/// Above what lies between two words about a log that says nothing of the slots; but not by much,
/// lest a busy machine be behind by itself all the time.
#[test]
fn what_others_write_does_not_keep_a_taker_from_being_close() {
    let cluster = Cluster::new();
    let ends = Arc::new(AtomicBool::new(false));
    let (port, ended) = (cluster.s.node().port, Arc::clone(&ends));
    let writer = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let long = "x".repeat(16 << 10);
        let words = [b"SET".as_slice(), b"{c}long", long.as_bytes()];
        while !ended.load(Ordering::SeqCst) {
            stream.write_all(&wire::request(&words)).unwrap();
            assert_eq!(answer(&mut stream), "+OK");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    });
    cluster.copy();
    ends.store(true, Ordering::SeqCst);
    writer.join().unwrap();
}

#[test]
fn nothing_of_a_guest_is_appended_while_writes_are_paused_for_a_switchover() {
    let cluster = Cluster::new();
    let key = format!("{{{}}}long", tags(1)[0]);
    assert_eq!(cluster.s.ask(&["SET", &key, "1"]), "+OK");
    cluster.copy();
    assert_eq!(cluster.d.ask(&["CLIENT", "PAUSE", "60000", "WRITE"]), "+OK");
    let paused = cluster.d.node().sequence();
    let long = "x".repeat(600 << 10);
    assert_eq!(cluster.s.ask(&["SET", &key, &long]), "+OK");
    wait_until(|| match cluster.s.say().feed {
        Some(Feed::Far) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let staged = cluster.d.order(Order::Drop).mark;
    assert!(matches!(staged, Some(Mark::Staged { .. })), "{staged:?}");
    assert_eq!(cluster.d.node().sequence(), paused);
    assert_eq!(cluster.d.ask(&["CLIENT", "UNPAUSE"]), "+OK");
    wait_until(|| match cluster.d.records() == cluster.s.records() {
        true => Ok(()),
        false => Err("not whole".into()),
    });
    assert_eq!(cluster.d.order(Order::Drop).mark, Some(Mark::Gone { is_empty: true }));
}

#[test]
fn frozen_commands_are_held_and_not_refused_and_exec_as_a_whole() {
    let cluster = Cluster::new();
    let tag = &tags(1)[0];
    let (mine, frozen) = ("{c}1", format!("{{{tag}}}1"));
    let connect = || cluster.s.node().connect();
    let send = |stream: &mut TcpStream, words: &[&str]| {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        stream.write_all(&wire::request(&words)).unwrap();
    };
    assert_eq!(cluster.s.ask(&["SET", &frozen, "0"]), "+OK");
    wait_until(|| match cluster.s.order(Order::Freeze { number: 1 }).frozen {
        Some(Frozen { at: Some(_), .. }) => Ok(()),
        // Something held the gate for longer than an order waits.
        other => Err(format!("{other:?}")),
    });
    let (mut writer, mut exec, mut flush) = (connect(), connect(), connect());
    send(&mut writer, &["INCR", &frozen]);
    for words in [&["MULTI"][..], &["INCR", &frozen], &["EXEC"]] {
        send(&mut exec, words);
    }
    send(&mut flush, &["FLUSHALL"]);
    assert_eq!((answer(&mut exec), answer(&mut exec)), ("+OK".into(), "+QUEUED".into()));
    assert_eq!(cluster.s.ask(&["SET", mine, "1"]), "+OK", "other slots");
    assert_eq!(cluster.s.ask(&["GET", &frozen]), "0", "reads go on until the seal");
    let before = cluster.s.node().sequence();
    for _ in 0..50 {
        assert_eq!(cluster.s.ask(&["GET", mine]), "1");
    }
    assert_eq!(cluster.s.node().sequence(), before, "nothing was written");
    assert_eq!(cluster.s.order(Order::Thaw { number: 1 }).frozen, None);
    assert_eq!(answer(&mut flush), "+OK");
    assert!(answer(&mut writer).starts_with(':') && answer(&mut exec).starts_with(':'));
    // Sealed, reads wait as well.
    cluster.s.order(Order::Seal);
    let mut reader = connect();
    send(&mut reader, &["GET", &frozen]);
    for _ in 0..20 {
        assert!(!cluster.s.ask(&["GET", mine]).starts_with('-'));
    }
    reader.set_nonblocking(true).unwrap();
    assert!(reader.peek(&mut [0]).is_err());
}

#[test]
fn a_move_that_is_given_up_leaves_nothing_and_the_next_one_begins_empty() {
    let mut cluster = Cluster::new();
    fill(&mut Client::new(&cluster), &tags(20));
    cluster.copy();
    assert_eq!(cluster.d.order(Order::Drop).mark, Some(Mark::Gone { is_empty: true }));
    assert_eq!(cluster.d.raw(), 0);
    // Of the first try nothing is obeyed any more.
    let late = cluster.d.order(cluster.s.source());
    assert_eq!(late.mark, Some(Mark::Gone { is_empty: true }));
    assert!(cluster.s.count() > 0);
    // What is not its own to take, or to give.
    let wrong = cluster.s.order_of(MoveId(2), cluster.d.source());
    assert_eq!(wrong.mark, None);
    let wrong = cluster.d.order_of(MoveId(2), Order::Freeze { number: 1 });
    assert_eq!(wrong.frozen, None);
    let staged = cluster.d.order_of(MoveId(2), cluster.s.source());
    assert!(matches!(staged.mark, Some(Mark::Staged { .. })), "{staged:?}");
    wait_until(|| {
        let same = cluster.d.records() == cluster.s.records();
        if same { Ok(()) } else { Err("not whole".into()) }
    });
    // A grant that ends takes the streams with it.
    cluster.restart_s();
    assert_eq!(cluster.s.order_of(MoveId(2), Order::Thaw { number: 1 }).feed, None);
}

#[test]
fn who_shows_no_secret_is_given_nothing_and_a_malformed_word_is_refused() {
    let cluster = Cluster::new();
    let pull = ["CLUSTERX", "MOVE", "PULL", "1", MOVING, "1", "1", "x"];
    assert!(cluster.s.ask(&pull).starts_with("-NOPERM"));
    let hello = ["CLUSTERX", "HEARTBEAT", &cluster.s.id, "1000", "1", "MOVES", "melt"];
    assert!(cluster.s.ask(&hello).starts_with("-ERR malformed"));
    let many = vec!["1"; 65];
    let words: Vec<&str> = hello[..6].iter().copied().chain(many).collect();
    assert!(cluster.s.ask(&words).starts_with("-ERR malformed"));
    assert_eq!(cluster.s.peer(&pull), "-ERR syntax error");
    assert!(cluster.s.ask(&["CLUSTERX", "MOVE", "WEIGH", MOVING]).starts_with("-NOPERM"));
    let bad = cluster.s.peer(&["CLUSTERX", "MOVE", "WEIGH", "5-4"]);
    assert!(bad.starts_with("-ERR slots `5-4`"), "{bad}");
}

/// Each value is a frame of its own, and paid for before the next one leaves.
#[test]
fn slots_are_weighed_and_copied_no_faster_than_was_ordered() {
    let cluster = Cluster::new();
    assert!(cluster.s.heartbeat(&[]).knows_rates);
    let tag = tags(1).remove(0);
    let weigh = || {
        let said = cluster.s.peer(&["CLUSTERX", "MOVE", "WEIGH", MOVING]);
        weights::parse(&said, 4_096).unwrap_or_else(|_| panic!("{said}"))
    };
    assert_eq!(weigh(), [0; 4_096]);
    let long = "x".repeat(1_000_000);
    for number in 0..3 {
        let key = format!("{{{tag}}}{number}");
        assert_eq!(cluster.s.ask(&["SET", &key, &long]), "+OK");
    }
    let (weighed, slot) = (weigh(), topology::key_slot(tag.as_bytes()).number());
    assert!(weighed[usize::from(slot)] > 1_000_000, "{weighed:?}");
    assert_eq!(weighed.iter().filter(|bytes| **bytes > 0).count(), 1, "{weighed:?}");
    let begun = Instant::now();
    cluster.copy_at(Rate::new(1).ok());
    // Two of three are paid for, and the taker has to be close for a second.
    assert!(begun.elapsed() > Duration::from_millis(2_800), "{:?}", begun.elapsed());
    assert_eq!(cluster.s.records(), cluster.d.records());
}

#[test]
fn under_a_grant_slots_go_by_moves_alone() {
    let mut master = Master::new('a');
    let topology = format!("{} 127.0.0.1 1 master - 0-8191", master.id);
    master.set_nodes(&topology, 1);
    let other = "b".repeat(40);
    assert_eq!(
        master.ask(&["CLUSTERX", "MIGRATE", "1", &other]),
        "-ERR Can't find the destination node id"
    );
    master.open_epoch();
    for words in [
        &["CLUSTER", "IMPORT", "9000", "0"][..],
        &["CLUSTERX", "SETSLOT", "1", "NODE", &other, "2"],
        &["CLUSTERX", "SETNODES", &topology, "2", "force"],
    ] {
        let said = master.ask(words);
        assert!(said.contains("move them with `holdfast ctl move slots"), "{words:?}: {said}");
    }
    // A wish, see `wished`; not of a node that is not there.
    assert_eq!(
        master.ask(&["CLUSTERX", "MIGRATE", "1", &other]),
        "-ERR Can't find the destination node id"
    );
}
