//! Replays of recorded replication between two Kvrocks: fed with the master's bytes, this replica
//! sends what Kvrocks sent.
//!
//! One known difference: on a reconnect Kvrocks sends AUTH once more each time; this replica sends
//! it once.

use super::*;
use crate::wire::BatchHead;
use std::collections::{BTreeMap, HashMap, VecDeque};

#[derive(Debug)]
enum Line {
    Replica(Vec<u8>),
    Master(Vec<u8>),
}

/// The connections of a capture, in the order they were opened.
fn connections(text: &str) -> VecDeque<VecDeque<Line>> {
    let mut conns: BTreeMap<u32, VecDeque<Line>> = BTreeMap::new();
    let mut current = 0;
    for line in text.lines() {
        if let Some(number) = line.strip_prefix("@ conn ") {
            current = number.parse().unwrap();
        } else if let Some(bytes) = line.strip_prefix("R> ") {
            conns.entry(current).or_default().push_back(Line::Replica(unescape(bytes)));
        } else if let Some(bytes) = line.strip_prefix("M> ") {
            conns.entry(current).or_default().push_back(Line::Master(unescape(bytes)));
        }
    }
    conns.into_values().map(without_repeated_auth).collect()
}

fn without_repeated_auth(lines: VecDeque<Line>) -> VecDeque<Line> {
    let mut seen = false;
    let mut skip_answer = false;
    let keep = |line: &Line| match line {
        Line::Replica(bytes) if bytes.starts_with(b"*2\r\n$4\r\nAUTH") => {
            skip_answer = seen;
            !std::mem::replace(&mut seen, true)
        }
        Line::Master(_) if skip_answer => {
            skip_answer = false;
            false
        }
        _ => true,
    };
    let mut lines = lines;
    lines.retain(keep);
    lines
}

fn unescape(text: &str) -> Vec<u8> {
    let hex = |t: &str| u8::from_str_radix(t, 16).unwrap();
    if let Some(rest) = text.strip_prefix("hex(") {
        let digits = rest.split_once(") ").unwrap().1;
        return (0..digits.len() / 2).map(|i| hex(&digits[2 * i..2 * i + 2])).collect();
    }
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c != '\\' {
            out.push(u8::try_from(c).unwrap());
            rest = &rest[1..];
            continue;
        }
        let (byte, taken) = match rest.as_bytes()[1] {
            b'r' => (b'\r', 2),
            b'n' => (b'\n', 2),
            b'x' => (hex(&rest[2..4]), 4),
            b'{' => {
                let (inside, _) = rest[2..].split_once('}').unwrap();
                let (byte, times) = inside.split_once('*').unwrap();
                let times: usize = times.parse().unwrap();
                out.extend(std::iter::repeat_n(hex(byte), times - 1));
                (hex(byte), inside.len() + 3)
            }
            other => (other, 2),
        };
        out.push(byte);
        rest = &rest[taken..];
    }
    out
}

/// The arguments of a request.
fn args(request: &[u8]) -> Vec<String> {
    let text = String::from_utf8(request.to_vec()).unwrap();
    text.split("\r\n").skip(2).step_by(2).map(str::to_owned).collect()
}

struct Replay {
    machine: Machine,
    waiting: VecDeque<VecDeque<Line>>,
    open: HashMap<Conn, VecDeque<Line>>,
    /// Bytes on their way to the machine.
    inbox: VecDeque<(Conn, Vec<u8>)>,
    now: u64,
    applied: u64,
    files: BTreeMap<String, Vec<u8>>,
    writing: HashMap<Conn, String>,
    states: Vec<State>,
    portion: usize,
}

impl Replay {
    fn run(text: &str, config: Config, portion: usize) -> Self {
        let mut replay = Self {
            applied: config.next - 1,
            machine: Machine::new(config, 1),
            waiting: connections(text),
            open: HashMap::new(),
            inbox: VecDeque::new(),
            now: 0,
            files: BTreeMap::new(),
            writing: HashMap::new(),
            states: Vec::new(),
            portion,
        };
        replay.step(Event::Start);
        loop {
            if let Some((conn, bytes)) = replay.inbox.pop_front() {
                for bytes in bytes.chunks(replay.portion) {
                    replay.step(Event::Received { conn, bytes });
                }
            } else if replay.waiting.is_empty() {
                break;
            } else if let Some(conn) = replay.machine.open_conns().first().copied() {
                replay.step(Event::Closed { conn, cause: "end of the recording".to_owned() });
            } else {
                replay.now = replay.machine.deadline().expect("a next attempt");
                replay.step(Event::Tick);
            }
        }
        for (conn, lines) in &replay.open {
            assert!(lines.is_empty(), "{conn:?}: never came to {lines:?}");
        }
        replay
    }

    fn step(&mut self, event: Event<'_>) {
        let mut answers = Vec::new();
        let mut last_apply = None;
        for action in self.machine.step(event, self.now) {
            match action {
                Action::Connect(conn) => {
                    let lines =
                        self.waiting.pop_front().expect("the recording has no such connection");
                    self.open.insert(conn, lines);
                    answers.push(Event::Connected(conn));
                }
                Action::Send { conn, bytes } => self.sent(conn, &bytes),
                Action::Apply(batch) => last_apply = Some(BatchHead::parse(&batch).unwrap().next()),
                Action::Prepare { .. } => answers.push(Event::Prepared { held: Vec::new() }),
                Action::OpenFile { conn, name, offset } => {
                    assert_eq!(offset, 0);
                    self.files.insert(name.to_string(), Vec::new());
                    self.writing.insert(conn, name.to_string());
                }
                Action::WriteFile { conn, bytes } => {
                    self.files.get_mut(&self.writing[&conn]).unwrap().extend_from_slice(bytes);
                }
                Action::FinishFile { conn } => {
                    self.writing.remove(&conn).unwrap();
                }
                Action::Swap => answers.push(self.swapped()),
                Action::Report(state) => self.states.push(state),
                Action::DiscardFile { .. } => panic!("a recorded file is wrong"),
                Action::Rewind { .. } => panic!("a recorded master keeps no epochs"),
                Action::Failed { fault, .. } => {
                    assert!(matches!(fault, Fault::Closed(_)), "{fault}")
                }
                Action::Adopt(lineage) => {
                    assert_eq!(lineage, None, "a recorded master keeps no lineage");
                }
                Action::HistoryUpTo(_) => panic!("a recorded master tells no position"),
                Action::SendAck { .. }
                | Action::Close(_)
                | Action::FullSync(_)
                | Action::Pinged(_)
                | Action::Leaves(_) => {}
            }
        }
        if let Some(next) = last_apply {
            self.applied = next - 1;
            answers.push(Event::Applied { next });
        }
        for event in answers {
            self.step(event);
        }
    }

    /// What the machine sends must be the recorded request; what the master said to it is
    /// delivered.
    fn sent(&mut self, conn: Conn, bytes: &[u8]) {
        let lines = self.open.get_mut(&conn).unwrap();
        match lines.pop_front() {
            Some(Line::Replica(recorded)) => {
                assert_eq!(String::from_utf8_lossy(bytes), String::from_utf8_lossy(&recorded));
            }
            other => {
                panic!("{conn:?} sent {:?} instead of {other:?}", String::from_utf8_lossy(bytes))
            }
        }
        while let Some(Line::Master(bytes)) = lines.pop_front_if(|l| matches!(l, Line::Master(_))) {
            self.inbox.push_back((conn, bytes));
        }
    }

    /// The copy ends where the recorded replica continued.
    fn swapped(&mut self) -> Event<'static> {
        let psync = self.waiting[0].iter().find_map(|line| match line {
            Line::Replica(bytes) if bytes.windows(5).any(|w| w == b"PSYNC") => Some(args(bytes)),
            _ => None,
        });
        let psync = psync.unwrap();
        let next: u64 = psync.last().unwrap().parse().unwrap();
        self.applied = next - 1;
        let replication_id = (psync.len() == 3).then(|| psync[1].as_bytes().try_into().unwrap());
        Event::Swapped { next, replication_id }
    }
}

fn config() -> Config {
    Config {
        password: Some(b"masterpw".to_vec()),
        announce_port: 27623,
        offer_extension: false,
        ..Config::default()
    }
}

const FULL: &str = include_str!("../../testdata/kvrocks/full_sync.txt");
const MANY: &str = include_str!("../../testdata/kvrocks/full_sync_many_files.txt");
const PARTIAL: &str = include_str!("../../testdata/kvrocks/partial_sync.txt");
const RSID: &str = include_str!("../../testdata/kvrocks/partial_sync_rsid.txt");

#[test]
fn full_sync() {
    for portion in [1, 7, usize::MAX] {
        let replay = Replay::run(FULL, config(), portion);
        assert_eq!(replay.applied, 13);
        assert_eq!(
            replay.states,
            [State::Connecting, State::Sync, State::Connecting, State::Connected]
        );
        assert_eq!(replay.files.len(), 9);
        assert_eq!(replay.files["CURRENT"], b"MANIFEST-000020\n");
        assert_eq!(replay.files["OPTIONS-000022"].len(), 35680);
        assert!(replay.writing.is_empty());
    }
}

#[test]
fn full_sync_of_many_files() {
    for portion in [3, usize::MAX] {
        let replay = Replay::run(MANY, config(), portion);
        assert_eq!(replay.applied, 52);
        assert_eq!(replay.files.len(), 28);
        assert_eq!(replay.files["000015.sst"].len(), 1606);
    }
}

#[test]
fn partial_sync_and_reconnects() {
    for portion in [1, 1000, usize::MAX] {
        assert_eq!(Replay::run(PARTIAL, config(), portion).applied, 411);
    }
}

#[test]
fn partial_sync_with_replication_id() {
    let config = Config { replication_id: Some(*b"NUNRU92XOF28AYJN"), next: 2, ..config() };
    let replay = Replay::run(RSID, config, 64);
    assert_eq!(replay.applied, 13);
    assert_eq!(replay.files.len(), 4);
}
