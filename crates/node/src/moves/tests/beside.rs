//! What goes beside the copy: scripts, functions, clocks; and what clients write meanwhile.

use std::io::Read as _;
use std::net::TcpListener;

use ::replication::slots::copy::Head;
use api::grant::EpochId;
use api::moves::Copying;
use resp::request::Parsed;
use resp::{Limits, Parser};

use super::*;
use crate::clock;
use crate::moves::beside::{GREETING, WANTED};

const LIBRARY: &str = "#!lua name=mine\nredis.register_function{function_name='hi', \
     callback=function(keys, args) return redis.call('GET', keys[1]) end, flags={'no-writes'}}";
const OTHER: &str = "#!lua name=mine\nredis.register_function{function_name='hi', \
     callback=function(keys, args) return 'other' end, flags={'no-writes'}}";
const THIRD: &str = "#!lua name=third\nredis.register_function{function_name='hi', \
     callback=function(keys, args) return 'third' end, flags={'no-writes'}}";

impl Cluster {
    fn clash(&self) -> Option<String> {
        let copying = self.d.heartbeat(&[Asked::Of(ID)]).copying;
        copying.into_iter().find(|of| of.id == ID).and_then(|of| of.clash)
    }

    fn parts(&self) -> u64 {
        let copying: Vec<Copying> = self.d.heartbeat(&[Asked::Of(ID)]).copying;
        copying.iter().find(|of| of.id == ID).map_or(0, |of| of.parts)
    }

    /// Until nothing stands in the way any more, or until something does.
    fn await_clash(&self, with: Option<&str>) {
        wait_until(|| {
            if self.s.say().feed.is_none() {
                self.d.order(self.s.source());
            }
            let clash = self.clash();
            let is_so = match (&clash, with) {
                (Some(clash), Some(with)) => clash.starts_with(with),
                (None, None) => self.d.say().mark.is_some(),
                _ => false,
            };
            if is_so { Ok(()) } else { Err(format!("{clash:?}, {with:?}")) }
        });
    }
}

/// What is kept, what an EVAL brought, and what is loaded while the copy is whole already.
#[test]
fn scripts_and_functions_that_worked_work_after_the_handover() {
    let mut cluster = Cluster::new();
    let tag = tags(1).remove(0);
    let mut client = Client::new(&cluster);
    assert_eq!(client.run(&["SET", &tag, "v"]), "+OK");
    let script = |number: u32| format!("return redis.call('GET', KEYS[1]) .. '{number}'");
    let hash = |number| script::sha1_hex(script(number).as_bytes());
    assert_eq!(cluster.s.ask(&["SCRIPT", "LOAD", &script(1)]), hash(1));
    assert_eq!(cluster.s.ask(&["EVAL", &script(2), "1", &tag]), "v2");
    assert_eq!(cluster.d.ask(&["SCRIPT", "LOAD", &script(3)]), hash(3), "it has its own");
    cluster.copy();
    assert_eq!(cluster.s.ask(&["FUNCTION", "LOAD", LIBRARY]), "mine");
    assert_eq!(cluster.s.ask(&["SCRIPT", "LOAD", &script(4)]), hash(4));
    assert_eq!(cluster.s.ask(&["EVAL", &script(5), "1", &tag]), "v5");
    let at = cluster.freeze(1);
    cluster.own(at);
    for number in [1, 2, 4, 5, 3] {
        assert_eq!(client.run(&["EVALSHA", &hash(number), "1", &tag]), format!("v{number}"));
    }
    assert_eq!(client.run(&["FCALL", "hi", "1", &tag]), "v");
    let port = cluster.d.node().port;
    assert_eq!(client.at, port, "the taker ran them");
    cluster.restart_d();
    for number in [1, 4] {
        assert_eq!(cluster.d.ask(&["EVALSHA", &hash(number), "1", &tag]), format!("v{number}"));
    }
    assert_eq!(cluster.d.ask(&["FCALL", "hi", "1", &tag]), "v");
}

#[test]
fn a_library_of_the_same_name_stops_the_move_until_somebody_mends_it() {
    let cluster = Cluster::new();
    assert_eq!(cluster.s.ask(&["FUNCTION", "LOAD", LIBRARY]), "mine");
    assert_eq!(cluster.d.ask(&["FUNCTION", "LOAD", OTHER]), "mine");
    cluster.await_clash(Some("the library `mine` at the taker"));
    assert_ne!(cluster.s.say().feed, Some(Feed::Close));
    assert_eq!(cluster.d.ask(&["FCALL", "hi", "0"]), "other", "nothing is replaced");
    // At once: between the two the giver's might come.
    let mut stream = cluster.d.node().connect();
    let mut say = |words: &[&str]| {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        stream.write_all(&wire::request(&words)).unwrap();
        answer(&mut stream)
    };
    assert_eq!(say(&["MULTI"]), "+OK");
    assert_eq!(say(&["FUNCTION", "DELETE", "mine"]), "+QUEUED");
    assert_eq!(say(&["FUNCTION", "LOAD", THIRD]), "+QUEUED");
    assert_eq!(say(&["EXEC"]), "+OK third");
    cluster.await_clash(Some("the function `hi` at the taker"));
    assert_eq!(cluster.d.ask(&["FUNCTION", "DELETE", "third"]), "+OK");
    cluster.await_clash(None);
    cluster.copy();
    assert_eq!(cluster.clash(), None);
    // Replaced at one side only, it is in the way again.
    assert_eq!(cluster.s.ask(&["FUNCTION", "LOAD", "REPLACE", OTHER]), "mine");
    cluster.await_clash(Some("the library `mine` at the taker"));
    assert_eq!(cluster.d.ask(&["FUNCTION", "LOAD", "REPLACE", OTHER]), "mine");
    cluster.await_clash(None);
    cluster.copy();
}

/// Of one slot that is copied first, more than a hundred times the rate of the copy.
#[test]
fn what_clients_write_does_not_count_against_the_rate_of_the_copy() {
    let cluster = Cluster::new();
    let mut all = tags(40);
    all.sort_by_key(|tag| topology::key_slot(tag.as_bytes()).number());
    let value = "x".repeat(60_000);
    for tag in &all {
        assert_eq!(cluster.s.ask(&["SET", &format!("{{{tag}}}v"), &value]), "+OK");
    }
    let ends = Arc::new(AtomicBool::new(false));
    let (port, ended) = (cluster.s.node().port, Arc::clone(&ends));
    let first = format!("{{{}}}v", all[0]);
    let writer = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let words = [b"SET".as_slice(), first.as_bytes(), value.as_bytes()];
        let (begun, mut bytes) = (Instant::now(), 0_u64);
        let passed_ms = || u64::try_from(begun.elapsed().as_millis()).unwrap();
        while !ended.load(Ordering::SeqCst) {
            // By the clock: what it was held up for is made up.
            if bytes >= passed_ms() * 10_000 {
                std::thread::park_timeout(Duration::from_millis(4));
                continue;
            }
            stream.write_all(&wire::request(&words)).unwrap();
            assert_eq!(answer(&mut stream), "+OK");
            bytes += value.len() as u64;
        }
        bytes / passed_ms().max(1)
    });
    let rate = Rate::new(1).ok();
    wait_until(|| {
        let (giver, taker) = (cluster.s.say(), cluster.d.say());
        if matches!(taker.mark, Some(Mark::Staged { is_whole: true, .. })) {
            return Ok(());
        }
        if giver.feed.is_none() || taker.mark.is_none() {
            cluster.d.order(cluster.s.source_at(rate));
        }
        Err(format!("{giver:?} {taker:?}"))
    });
    ends.store(true, Ordering::SeqCst);
    let kb_per_s = writer.join().unwrap();
    assert!(kb_per_s > 1_500, "{kb_per_s} KB/s: less than the copy may bring");
    let parts = cluster.parts();
    assert!((10..100).contains(&parts), "{parts}: parts of the copy alone are counted");
}

#[test]
fn the_usual_rate_is_that_of_the_option() {
    let cluster = Cluster::new();
    assert_eq!(cluster.s.heartbeat(&[]).usual_rate, Some(Rate::USUAL));
    assert_eq!(cluster.s.ask(&["CONFIG", "SET", "move-rate-mb", "1"]), "+OK");
    assert_eq!(cluster.s.heartbeat(&[]).usual_rate, Rate::new(1).ok());
    let tag = tags(1).remove(0);
    for number in 0..3 {
        let key = format!("{{{tag}}}{number}");
        assert_eq!(cluster.s.ask(&["SET", &key, &"x".repeat(1_000_000)]), "+OK");
    }
    let begun = Instant::now();
    cluster.copy();
    assert!(begun.elapsed() > Duration::from_millis(2_800), "{:?}", begun.elapsed());
}

#[test]
fn subscribers_of_shard_channels_are_told_once_the_slots_are_given_away() {
    let cluster = Cluster::new();
    let (tag, stays) = (tags(1).remove(0), "{c}stays");
    let mut subscriber = cluster.s.node().connect();
    for channel in [tag.as_str(), stays] {
        subscriber.write_all(&wire::request(&[b"SSUBSCRIBE", channel.as_bytes()])).unwrap();
        assert!(answer(&mut subscriber).starts_with(&format!("ssubscribe {channel}")));
    }
    cluster.copy();
    cluster.freeze(1);
    assert_eq!(
        cluster.s.ask(&["PUBSUB", "SHARDNUMSUB", &tag]),
        format!("{tag} :1"),
        "a thaw may come"
    );
    assert!(cluster.s.order(Order::Seal).is_sealed);
    let told = answer(&mut subscriber);
    assert!(told.starts_with(&format!("sunsubscribe {tag}")), "{told}");
    assert_eq!(cluster.s.ask(&["SPUBLISH", stays, "hello"]), ":1");
    assert!(answer(&mut subscriber).starts_with("smessage"));
}

/// A giver of which nothing is there but the stream.
struct Giver {
    listener: TcpListener,
    at: Least,
}

impl Giver {
    /// Sends that the copy is whole, and that its clock is so far ahead.
    fn give(&self, ahead_ms: u64, sent: std::sync::mpsc::Sender<()>) {
        let (listener, at) = (self.listener.try_clone().unwrap(), self.at);
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut parser, mut buffer) = (Parser::new(), Vec::new());
            loop {
                let parsed = parser.parse(&buffer, &Limits::new(1 << 20)).unwrap();
                if let Parsed::Command { length } = parsed {
                    let is_auth = parser.arguments(&buffer).next() == Some(b"AUTH");
                    buffer.drain(..length);
                    if !is_auth {
                        break;
                    }
                    stream.write_all(b"+OK\r\n").unwrap();
                    continue;
                }
                let mut some = [0; 4096];
                let count = stream.read(&mut some).unwrap();
                assert!(count > 0);
                buffer.extend_from_slice(&some[..count]);
            }
            stream.write_all(GREETING).unwrap();
            let head = Head { id: ID, from: None, to: at, cursor: Cursor::End };
            stream.write_all(&head.frame(&[])).unwrap();
            let mut beside = storage::batch::Writer::new(Vec::new());
            beside.log(b"beside");
            let clock = clock::unix_ms() + ahead_ms;
            beside.put(Family::Propagate, &[b"c"], &[&clock.to_be_bytes()]);
            let head = Head { from: Some(at), ..head };
            stream.write_all(&head.frame(beside.finish())).unwrap();
            let mut said = [0; 3];
            stream.read_exact(&mut said).unwrap();
            assert_eq!(said.iter().filter(|byte| **byte == WANTED).count(), 1, "{said:?}");
            sent.send(()).unwrap();
            // Until the taker ends it.
            let _ = stream.read(&mut said);
        });
    }
}

/// What had expired at the giver is not there again at a taker whose clock is behind.
#[test]
fn the_taker_opens_once_its_clock_reads_what_the_givers_did() {
    let giver = Giver {
        listener: TcpListener::bind("127.0.0.1:0").unwrap(),
        at: Least { id: Some(EpochId(7)), sequence: 50 },
    };
    let mut d = Master::new('d');
    let (s, port) = ("s".repeat(40), giver.listener.local_addr().unwrap().port());
    let line = |id: &str, port, slots| format!("{id} 127.0.0.1 {port} master - {slots}");
    let topology = [line(&s, port, "0-8191"), line(&d.id, d.node().port, "8192-16383")];
    d.set_nodes(&topology.join("\n"), 1);
    d.open_epoch();
    let (sent, is_sent) = std::sync::mpsc::channel();
    giver.give(700, sent);
    let begun = Instant::now();
    d.order(Order::Pull { node: s, nonce: "1".into(), epoch: 1, rate: None });
    is_sent.recv_timeout(Duration::from_secs(20)).unwrap();
    let open = Order::Open { at: giver.at, version: 2 };
    wait_until(|| match d.order(open.clone()).mark {
        Some(Mark::Held) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let opened = begun.elapsed();
    assert!(opened >= Duration::from_millis(690), "{opened:?}");
}
