//! The options of Kvrocks' own migration, each set on a node that gives a slot, and then observed
//! by the node that takes it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use resp::request::Parsed;
use resp::{Limits, Parser};

use super::*;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const LONG: Duration = Duration::from_secs(20);
/// No more of a pipeline comes in it.
const SHORT: Duration = Duration::from_millis(200);

struct Source {
    node: Running,
    target: TcpListener,
}

/// The other end, by hand.
struct Target {
    stream: TcpStream,
    buffer: Vec<u8>,
    parser: Parser,
}

impl Source {
    fn new(options: &[(&str, &str)], keys: usize, value: &str) -> Self {
        let node = Running::start_with(|values| values.cluster_enabled = true);
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mine, theirs) = (node.port, target.local_addr().unwrap().port());
        assert_eq!(node.ask(&["CLUSTERX", "SETNODEID", A]), "+OK");
        let nodes = format!(
            "{A} 127.0.0.1 {mine} master - 0-8191\n{B} 127.0.0.1 {theirs} master - 8192-16383"
        );
        assert_eq!(node.ask(&["CLUSTERX", "SETNODES", &nodes, "1"]), "+OK");
        for (name, value) in options {
            set(&node, name, value);
        }
        for number in 0..keys {
            assert_eq!(node.ask(&["SET", &format!("{{T}}{number}"), value]), "+OK");
        }
        Self { node, target }
    }

    /// Begins, up to the first request that brings data. It is not answered.
    fn give(&self) -> (Target, Vec<String>) {
        assert_eq!(self.node.ask(&["CLUSTERX", "MIGRATE", "6769", B]), "+OK");
        let (stream, _) = self.target.accept().unwrap();
        let mut target = Target { stream, buffer: Vec::new(), parser: Parser::new() };
        loop {
            let words = target.next(LONG).unwrap();
            match words[0].to_ascii_lowercase().as_str() {
                "command" => target.say("*1\r\n*1\r\n$10\r\napplybatch\r\n"),
                "cluster" => target.say("+OK\r\n"),
                _ => return (target, words),
            }
        }
    }
}

impl Target {
    fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// The next request, if it comes in time.
    fn next(&mut self, patience: Duration) -> Option<Vec<String>> {
        self.stream.set_read_timeout(Some(patience)).unwrap();
        loop {
            let parsed = self.parser.parse(&self.buffer, &Limits::new(64 << 20)).unwrap();
            if let Parsed::Command { length } = parsed {
                let words = self.parser.arguments(&self.buffer);
                let words = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
                self.buffer.drain(..length);
                return Some(words);
            }
            let mut some = [0; 64 << 10];
            match self.stream.read(&mut some) {
                Ok(0) => panic!("the source has ended it"),
                Ok(count) => self.buffer.extend_from_slice(&some[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Answers until the slot is handed over. Returns how many requests brought data.
    fn take_all(&mut self) -> usize {
        let mut requests = 1;
        loop {
            self.say("+OK\r\n");
            match self.next(LONG).unwrap()[0].to_ascii_lowercase().as_str() {
                "cluster" => return requests,
                _ => requests += 1,
            }
        }
    }
}

pub(super) fn of_migration(name: &str) -> bool {
    let as_commands = ("migrate-type", "redis-command");
    let one = ("migrate-pipeline-size", "1");
    match name {
        "migrate-type" => {
            assert_eq!(Source::new(&[], 1, "v").give().1[0], "APPLYBATCH");
            assert_ne!(Source::new(&[as_commands], 1, "v").give().1[0], "APPLYBATCH");
        }
        "migrate-pipeline-size" => {
            let source = Source::new(&[as_commands], 3, "v");
            assert!(source.give().0.next(LONG).is_some());
            let source = Source::new(&[as_commands, one], 3, "v");
            assert_eq!(source.give().0.next(SHORT), None);
        }
        "migrate-speed" => {
            let source = Source::new(&[as_commands, one, (name, "2")], 2, "v");
            // Before the first request: behind it this thread may be held up.
            let begun = Instant::now();
            let (mut target, _) = source.give();
            target.say("+OK\r\n");
            assert!(target.next(LONG).is_some());
            assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
        }
        "migrate-batch-size-kb" => {
            let source = Source::new(&[(name, "1")], 20, &"v".repeat(1000));
            let requests = source.give().0.take_all();
            assert!(requests >= 10, "{requests}");
        }
        "migrate-batch-rate-limit-mb" => {
            let source = Source::new(&[(name, "1")], 40, &"v".repeat(16 << 10));
            let begun = Instant::now();
            let (mut target, _) = source.give();
            target.take_all();
            assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
        }
        // What it does is shown where slots move: `moves::tests::beside`.
        "move-rate-mb" => {
            let node = plain();
            set(&node, name, "7");
            let told = crate::role::heartbeat_reply(&node.node).usual_rate;
            assert_eq!(told.map(|rate| rate.mb()), Some(7));
        }
        "move-p99-ms" => {
            let node = plain();
            let bound_us = || crate::moves::look::bound_us(&node.node);
            let before_us = bound_us();
            set(&node, name, "7");
            assert_eq!(bound_us(), 7_000);
            set(&node, name, "0");
            assert_eq!(bound_us(), before_us, "by what clients felt without a copy");
        }
        "migrate-sequence-gap" => {
            let source = Source::new(&[(name, "1")], 1, "v");
            let (mut target, _) = source.give();
            for number in 0..5 {
                assert_eq!(source.node.ask(&["SET", &format!("{{T}}more{number}"), "v"]), "+OK");
            }
            // One more round comes before writes are stopped.
            target.say("+OK\r\n");
            assert_eq!(target.next(LONG).unwrap()[0], "APPLYBATCH");
            assert_eq!(source.node.ask(&["SET", "{T}0", "w"]), "+OK");
        }
        _ => return false,
    }
    true
}
