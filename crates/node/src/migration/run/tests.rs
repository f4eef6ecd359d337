//! A source beside a target that is played by hand: what holds a freeze, and what ends a migration.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use resp::request::Parsed;
use resp::{Limits as Sizes, Parser};
use topology::{NodeId, SlotRange};

use super::*;
use crate::migration::state::Ended;
use crate::migration::tests::Side;

const B: &[u8] = b"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const TRYAGAIN: &str = "TRYAGAIN Can\\'t write to slot being migrated";

/// A migration of the slot of `{T}`, up to the first request that brings data, which is not
/// answered.
struct Giving {
    source: Side,
    target: Target,
    job: Arc<Job>,
    thread: Option<std::thread::JoinHandle<Ended>>,
}

struct Target {
    stream: TcpStream,
    buffer: Vec<u8>,
    parser: Parser,
}

impl Target {
    fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// The first word of the next request, and the last one.
    fn next(&mut self) -> (String, String) {
        loop {
            let parsed = self.parser.parse(&self.buffer, &Sizes::new(64 << 20)).unwrap();
            if let Parsed::Command { length } = parsed {
                let words = self.parser.arguments(&self.buffer);
                let words: Vec<_> = words.map(|word| word.escape_ascii().to_string()).collect();
                self.buffer.drain(..length);
                return (words[0].to_ascii_lowercase(), words[words.len() - 1].clone());
            }
            let mut some = [0; 64 << 10];
            let count = self.stream.read(&mut some).unwrap();
            assert!(count > 0, "the source has ended it");
            self.buffer.extend_from_slice(&some[..count]);
        }
    }
}

impl Giving {
    fn begin(freeze: Duration) -> Self {
        let mut source = Side::new();
        assert_eq!(source.line("SET {T}a 1"), "+OK\\r\\n");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let range = SlotRange::single(topology::key_slot(b"{T}"));
        let node = Arc::clone(&source.node);
        let job = node.migration.begin(range, NodeId::new(B).unwrap()).unwrap();
        let own = Arc::clone(&job);
        let thread = std::thread::spawn(move || {
            let to = Endpoint { host: "127.0.0.1".into(), port };
            let result = run(&node, &own, &to, freeze);
            conclude(&node, &own, result)
        });
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let target = Target { stream, buffer: Vec::new(), parser: Parser::new() };
        let mut giving = Self { source, target, job, thread: Some(thread) };
        assert_eq!(giving.target.next(), ("cluster".into(), "0".into()));
        giving.target.say("+OK\r\n");
        assert_eq!(giving.target.next().0, "command");
        giving.target.say("*1\r\n*1\r\n$10\r\napplybatch\r\n");
        assert_eq!(giving.target.next().0, "applybatch");
        giving
    }

    /// Goes on until writes are stopped and the rest is sent; that is not answered either.
    fn freeze(&mut self) {
        assert_eq!(self.source.line("SET {T}b 1"), "+OK\\r\\n");
        self.target.say(":1\r\n");
        assert_eq!(self.target.next().0, "applybatch");
        assert!(self.source.node.migration.frozen().is_some());
    }

    fn end(&mut self) -> Ended {
        self.thread.take().unwrap().join().unwrap()
    }

    #[track_caller]
    fn is_refused(&mut self, words: &[&[u8]]) {
        let reply = self.source.run(words);
        assert!(reply.contains(TRYAGAIN), "{reply}");
    }
}

#[test]
fn a_target_that_is_slow_in_the_freeze_leaves_the_slots_here() {
    // Longer than this test may be held up for while it looks at the freeze.
    let longest = Duration::from_secs(3);
    let mut giving = Giving::begin(longest);
    let begun = Instant::now();
    giving.freeze();
    let ended = giving.end().unwrap_err();
    assert!(ended.contains("migrate-sequence-gap"), "{ended}");
    assert!(begun.elapsed() >= longest, "{:?}", begun.elapsed());
    assert_eq!(giving.source.line("SET {T}b 2"), "+OK\\r\\n");
    assert_eq!(giving.target.next(), ("cluster".into(), "2".into()), "it is told");
}

#[test]
fn what_writes_to_all_keys_waits_for_the_end_of_a_freeze() {
    let mut giving = Giving::begin(Duration::from_secs(60));
    giving.freeze();
    giving.is_refused(&[b"SET", b"{T}a", b"2"]);
    giving.is_refused(&[b"FLUSHALL"]);
    giving.is_refused(&[b"FLUSHDB"]);
    giving.is_refused(&[b"EVAL", b"return redis.call('flushall')", b"0"]);
    giving.is_refused(&[b"CLUSTERX", b"FLUSHSLOTS", b"0-16383"]);
    let mut batch = storage::batch::Writer::new(Vec::new());
    batch.delete(storage::Family::Metadata, b"x");
    giving.is_refused(&[b"APPLYBATCH", batch.finish()]);
    for line in ["MULTI", "FLUSHALL"] {
        assert!(!giving.source.line(line).starts_with('-'), "{line}");
    }
    giving.is_refused(&[b"EXEC"]);
    assert_eq!(giving.source.line("GET {T}a"), "$1\\r\\n1\\r\\n");
    assert_eq!(giving.job.stopped(), None);
    giving.target.say(":1\r\n");
    assert_eq!(giving.target.next(), ("cluster".into(), "1".into()));
    giving.is_refused(&[b"FLUSHALL"]);
    giving.target.say("+OK\r\n");
    assert_eq!(giving.end(), Ok(()));
    assert_eq!(giving.source.line("FLUSHALL"), "+OK\\r\\n");
}

#[test]
fn a_flush_ends_a_migration_at_once() {
    for command in ["FLUSHALL", "FLUSHDB", "CLUSTERX FLUSHSLOTS 0-16383"] {
        let mut giving = Giving::begin(Duration::from_secs(60));
        assert_eq!(giving.source.line(command), "+OK\\r\\n");
        // The request that brings data still waits for its answer.
        let ended = giving.end().unwrap_err();
        assert!(ended.contains("flushed"), "{command}: {ended}");
        assert_eq!(giving.source.line("SET {T}a 2"), "+OK\\r\\n");
    }
}
