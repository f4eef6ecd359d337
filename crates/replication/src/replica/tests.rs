//! Scripted events with the exact actions they cause.

use super::*;
use crate::FileName;
use crate::files::{CheckpointId, FileHead, RemoteFile, list, trailer};
use crate::wire::{self, Leave};
use proptest::prelude::*;

fn config() -> Config {
    Config { next: 6, announce_port: 7001, ..Config::default() }
}

fn batch(sequence: u64, count: u32) -> Vec<u8> {
    let mut bytes = sequence.to_le_bytes().to_vec();
    bytes.extend(count.to_le_bytes());
    bytes
}

fn bulk(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::bulk(payload, &mut out);
    out
}

fn name(text: &str) -> FileName {
    FileName::parse(text.as_bytes()).unwrap()
}

fn send(conn: u32, args: &[&str]) -> Action<'static> {
    let args: Vec<&[u8]> = args.iter().map(|a| a.as_bytes()).collect();
    Action::Send { conn: Conn(conn), bytes: wire::request(&args) }
}

fn acked(conn: u32, sequence: u64) -> Action<'static> {
    Action::SendAck { conn: Conn(conn), bytes: wire::ack(sequence) }
}

fn says<'a>(machine: &mut Machine, conn: u32, bytes: &'a [u8], now: u64) -> Vec<Action<'a>> {
    machine.step(Event::Received { conn: Conn(conn), bytes }, now)
}

/// A machine that streams from `next` on connection 1 of a master of this kind.
fn streaming(peer: Peer) -> Machine {
    let mut machine = Machine::new(config(), 1);
    machine.step(Event::Start, 0);
    machine.step(Event::Connected(Conn(1)), 0);
    let extension: &[u8] = match peer {
        Peer::Holdfast => b"+OK\r\n",
        Peer::Kvrocks => b"-ERR unknown option\r\n",
    };
    for answer in [b"change.me.db\r\n", &b"+OK\r\n"[..], extension] {
        says(&mut machine, 1, answer, 0);
    }
    if peer == Peer::Holdfast {
        says(&mut machine, 1, b"+5;-\r\n", 0);
    }
    let streams = says(&mut machine, 1, b"+OK\r\n", 0);
    let adopts = streams.contains(&Action::Adopt(None));
    assert_eq!(adopts, peer == Peer::Kvrocks, "{streams:?}");
    assert!(streams.ends_with(&[acked(1, 5), Action::Report(State::Connected)]), "{streams:?}");
    assert_eq!(machine.peer(), peer);
    machine
}

#[test]
fn an_attempt_goes_by_the_newest_options_and_begins_at_once_when_asked_for() {
    let options = |password: &str| Options {
        password: Some(password.as_bytes().to_vec()),
        announce_port: 7002,
        announce_ip: None,
        epoch_patience_ms: None,
        connect_timeout_ms: 100,
        receive_timeout_ms: 200,
    };
    let mut m = Machine::new(Config { password: Some(b"old".to_vec()), ..config() }, 1);
    m.step(Event::Start, 0);
    assert_eq!(m.step(Event::Connected(Conn(1)), 0), [send(1, &["AUTH", "old"])]);
    let refused = says(&mut m, 1, b"-WRONGPASS no\r\n", 0);
    assert!(matches!(refused.last(), Some(Action::Failed { .. })), "{refused:?}");
    for _ in 0..9 {
        // The delay grows.
        let at = m.deadline().unwrap();
        m.step(Event::Tick, at);
        let conn = Conn(m.conns);
        m.step(Event::Closed { conn, cause: "refused".into() }, at);
    }
    let waits = m.deadline().unwrap();
    m.set_options(options("new"));
    let conn = m.conns + 1;
    assert_eq!(m.step(Event::Retry, waits - 1_000), [Action::Connect(Conn(conn))]);
    assert_eq!(m.step(Event::Connected(Conn(conn)), waits - 1_000), [send(conn, &["AUTH", "new"])]);
    assert_eq!(m.deadline(), Some(waits - 900), "the new time limit");
    // Nothing is begun twice, and an open stream is left alone.
    assert_eq!(m.step(Event::Retry, waits), []);
    let mut streams = streaming(Peer::Kvrocks);
    streams.set_options(options("new"));
    assert_eq!(streams.step(Event::Retry, 1), []);
    assert_eq!(streams.state(), State::Connected);
}

#[test]
fn handshake_asks_one_thing_after_the_other() {
    let config = Config {
        password: Some(b"pw".to_vec()),
        announce_ip: Some("10.0.0.1".into()),
        replication_id: Some(*b"AAAAAAAAAAAAAAAA"),
        ..config()
    };
    let mut m = Machine::new(config, 1);
    assert_eq!(
        m.step(Event::Start, 0),
        [Action::Connect(Conn(1)), Action::Report(State::Connecting)]
    );
    assert_eq!(m.step(Event::Start, 0), []);
    assert_eq!(m.step(Event::Connected(Conn(1)), 0), [send(1, &["AUTH", "pw"])]);
    assert_eq!(says(&mut m, 1, b"+O", 0), []);
    assert_eq!(says(&mut m, 1, b"K\r\n", 0), [send(1, &["_db_name"])]);
    assert_eq!(
        says(&mut m, 1, b"change.me.db\r\n", 0),
        [send(1, &["replconf", "listening-port", "7001", "ip-address", "10.0.0.1"])]
    );
    assert_eq!(
        says(&mut m, 1, b"-ERR unknown option\r\n", 0),
        [send(1, &["replconf", "listening-port", "7001"])]
    );
    assert_eq!(says(&mut m, 1, b"+OK\r\n", 0), [send(1, &["replconf", "holdfast", "1"])]);
    assert_eq!(
        says(&mut m, 1, b"-ERR unknown option\r\n", 0),
        [send(1, &["PSYNC", "AAAAAAAAAAAAAAAA", "6"])]
    );
    assert_eq!(
        says(&mut m, 1, b"-ERR wrong number of arguments\r\n", 0),
        [send(1, &["PSYNC", "6"])]
    );
    let stream = [b"+OK\r\n".to_vec(), bulk(&batch(6, 2))].concat();
    assert_eq!(
        says(&mut m, 1, &stream, 0),
        [Action::Adopt(None), Action::Apply(batch(6, 2).into()), Action::Report(State::Connected)]
    );
}

#[test]
fn holdfast_masters_get_every_group_acknowledged() {
    let mut m = streaming(Peer::Holdfast);
    let group = [bulk(&batch(6, 2)), bulk(&batch(8, 1)), wire::PING.to_vec()].concat();
    assert_eq!(
        says(&mut m, 1, &group, 10),
        [Action::Apply(batch(6, 2).into()), Action::Apply(batch(8, 1).into())]
    );
    assert_eq!(m.step(Event::Applied { next: 9 }, 10), [acked(1, 8)]);
    assert_eq!(says(&mut m, 1, wire::PING, 20), [acked(1, 8)], "heartbeats are answered");
}

#[test]
fn kvrocks_masters_get_one_acknowledgement_a_second_and_those_they_ask_for() {
    let mut m = streaming(Peer::Kvrocks);
    says(&mut m, 1, &bulk(&batch(6, 1)), 10);
    assert_eq!(m.step(Event::Applied { next: 7 }, 10), []);
    assert_eq!(m.deadline(), Some(1000));
    assert_eq!(m.step(Event::Tick, 999), []);
    assert_eq!(m.step(Event::Tick, 1000), [acked(1, 6)]);
    assert_eq!(says(&mut m, 1, wire::PING, 3000), [], "nothing new, nothing said");
    let asked = [bulk(&batch(7, 1)), wire::GETACK.to_vec()].concat();
    assert_eq!(says(&mut m, 1, &asked, 3001), [Action::Apply(batch(7, 1).into())]);
    assert_eq!(m.step(Event::Applied { next: 8 }, 3001), [acked(1, 7)]);
    assert_eq!(says(&mut m, 1, wire::GETACK, 3002), [acked(1, 7)]);
}

/// Its master, which hears no answer to a ping meanwhile, would end the stream, and send it anew.
#[test]
fn a_batch_that_is_long_on_its_way_is_no_silence() {
    for (peer, meanwhile) in [(Peer::Holdfast, vec![acked(1, 5)]), (Peer::Kvrocks, Vec::new())] {
        let mut m = streaming(peer);
        let bytes = bulk(&batch(6, 1));
        assert_eq!(says(&mut m, 1, &bytes[..8], 500), []);
        assert_eq!(says(&mut m, 1, &bytes[8..9], 1_000), meanwhile);
        assert_eq!(says(&mut m, 1, &bytes[9..10], 1_999), [], "once a second");
        assert_eq!(says(&mut m, 1, &bytes[10..11], 2_000), meanwhile);
        let applies = says(&mut m, 1, &bytes[11..], 3_000);
        assert_eq!(applies, [Action::Apply(batch(6, 1).into())], "not while it is written");
        assert_eq!(m.step(Event::Applied { next: 7 }, 3_000), [acked(1, 6)]);
    }
}

#[test]
fn silence_ends_the_attempt_and_delays_grow() {
    let mut m = streaming(Peer::Kvrocks);
    assert_eq!(m.step(Event::Tick, 3199), []);
    let mut now = 3200;
    for step in [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
        let actions = m.step(Event::Tick, now);
        let Some(Action::Failed { retry_ms, .. }) =
            actions.iter().find(|a| matches!(a, Action::Failed { .. }))
        else {
            panic!("{actions:?}");
        };
        assert!(*retry_ms <= step && *retry_ms >= step * 3 / 4, "{retry_ms} of {step}");
        now = m.deadline().unwrap();
        let actions = m.step(Event::Tick, now);
        assert!(matches!(actions[..], [Action::Connect(_)]), "{actions:?}");
        now = m.deadline().unwrap();
    }
}

#[test]
fn a_gap_is_never_applied() {
    let mut m = streaming(Peer::Holdfast);
    let bytes = [bulk(&batch(6, 1)), bulk(&batch(8, 1))].concat();
    let actions = says(&mut m, 1, &bytes, 10);
    assert_eq!(actions[0], Action::Apply(batch(6, 1).into()));
    assert_eq!(actions[1], Action::Close(Conn(1)));
    let fault = Fault::Gap { expected: 7, found: 8 };
    assert!(matches!(&actions[2], Action::Failed { fault: f, .. } if *f == fault), "{actions:?}");
    m.step(Event::Applied { next: 7 }, 10);
    let now = m.deadline().unwrap();
    m.step(Event::Tick, now);
    m.step(Event::Connected(Conn(2)), now);
    says(&mut m, 2, b"change.me.db\r\n+OK\r\n", now);
    assert_eq!(says(&mut m, 2, b"-ERR unknown option\r\n", now), [send(2, &["PSYNC", "7"])]);
}

#[test]
fn a_database_that_stands_elsewhere_needs_a_full_sync() {
    elsewhere(Event::Applied { next: 9 });
    // As many records of its own as came.
    elsewhere(Event::Diverged { next: 7 });
}

fn elsewhere(event: Event<'_>) {
    let mut m = streaming(Peer::Holdfast);
    says(&mut m, 1, &bulk(&batch(6, 1)), 10);
    m.step(event, 10);
    assert!(m.must_full_sync());
    let now = m.deadline().unwrap();
    m.step(Event::Tick, now);
    m.step(Event::Connected(Conn(2)), now);
    says(&mut m, 2, b"change.me.db\r\n+OK\r\n", now);
    assert_eq!(
        says(&mut m, 2, b"+OK\r\n", now),
        [
            Action::Close(Conn(2)),
            Action::FullSync(Reason::Required),
            Action::Connect(Conn(3)),
            Action::Report(State::Sync)
        ]
    );
}

#[test]
fn answers_that_mean_later_do_not_cost_the_data() {
    for answer in [
        "-LOADING kvrocks is restoring the db from backup\r\n",
        "-NOAUTH Authentication required.\r\n",
    ] {
        let mut m = Machine::new(Config { offer_extension: false, ..config() }, 1);
        m.step(Event::Start, 0);
        m.step(Event::Connected(Conn(1)), 0);
        says(&mut m, 1, b"change.me.db\r\n+OK\r\n", 0);
        let actions = says(&mut m, 1, answer.as_bytes(), 0);
        assert!(
            matches!(actions[..], [Action::Close(_), Action::Failed { .. }]),
            "{answer}: {actions:?}"
        );
    }
}

#[test]
fn another_database_is_refused() {
    let mut m = Machine::new(config(), 1);
    m.step(Event::Start, 0);
    m.step(Event::Connected(Conn(1)), 0);
    let actions = says(&mut m, 1, b"other.db\r\n", 0);
    let Action::Failed { fault, .. } = &actions[1] else { panic!("{actions:?}") };
    assert_eq!(fault.to_string(), "master's db-name is `other.db`, ours is `change.me.db`");
    assert_eq!(fault.blame(), Blame::Local);
}

/// A machine that must do a full sync from a Holdfast master, up to the prepared folder.
fn listed(files: &[(FileName, u64)], held: Vec<Held>) -> (Machine, Vec<Action<'static>>) {
    let mut m = Machine::new(Config { must_full_sync: true, ..config() }, 1);
    m.step(Event::Start, 0);
    m.step(Event::Connected(Conn(1)), 0);
    says(&mut m, 1, b"change.me.db\r\n+OK\r\n+OK\r\n", 0);
    assert_eq!(m.step(Event::Connected(Conn(2)), 0), [send(2, &["replconf", "holdfast", "1"])]);
    let asked = ["replconf", "history", "5;-", "granted", "?", "lineage", "-"];
    assert_eq!(says(&mut m, 2, b"+OK\r\n", 0), [send(2, &asked)]);
    // A master of an earlier version knows neither form.
    let unknown = b"-ERR unknown option\r\n";
    assert_eq!(says(&mut m, 2, unknown, 0), [send(2, &asked[..3])]);
    assert_eq!(says(&mut m, 2, unknown, 0), [send(2, &["_fetch_meta"])]);
    let text = list(&id(), 50, files);
    let expected = files
        .iter()
        .map(|(name, size)| RemoteFile { name: name.clone(), size: Some(*size) })
        .collect();
    assert_eq!(
        says(&mut m, 2, &text, 0),
        [Action::Close(Conn(2)), Action::Prepare { checkpoint: Some(id()), files: expected }]
    );
    let actions = m.step(Event::Prepared { held }, 0);
    (m, actions)
}

fn id() -> CheckpointId {
    CheckpointId::parse(b"c1").unwrap()
}

#[test]
fn full_sync_resumes_and_checks_files() {
    let files = [(name("CURRENT"), 4), (name("000001.sst"), 6), (name("000002.sst"), 0)];
    let beginning = Part::Beginning { bytes: 3, crc32c: crc32c::crc32c(b"abc") };
    let held = vec![
        Held { name: name("CURRENT"), part: Part::Whole },
        Held { name: name("000001.sst"), part: beginning },
    ];
    let (mut m, actions) = listed(&files, held);
    assert_eq!(actions, [Action::Connect(Conn(3))]);
    m.step(Event::Connected(Conn(3)), 0);
    assert_eq!(
        says(&mut m, 3, b"+OK\r\n", 0),
        [send(3, &["_fetch_file", "c1", "000001.sst:3,000002.sst:0"])]
    );
    let bytes = [
        FileHead { size: 6, offset: 3 }.text(),
        b"def".to_vec(),
        trailer(crc32c::crc32c(b"abcdef")),
        FileHead { size: 0, offset: 0 }.text(),
        trailer(0),
    ]
    .concat();
    assert_eq!(
        says(&mut m, 3, &bytes, 0),
        [
            Action::OpenFile { conn: Conn(3), name: name("000001.sst"), offset: 3 },
            Action::WriteFile { conn: Conn(3), bytes: b"def" },
            Action::FinishFile { conn: Conn(3) },
            Action::OpenFile { conn: Conn(3), name: name("000002.sst"), offset: 0 },
            Action::FinishFile { conn: Conn(3) },
            Action::Close(Conn(3)),
            Action::Swap,
        ]
    );
    assert!(m.must_full_sync());
    assert_eq!(
        m.step(Event::Swapped { next: 51, replication_id: None }, 0),
        [Action::Connect(Conn(4)), Action::Report(State::Connecting)]
    );
    assert!(!m.must_full_sync());
}

#[test]
fn a_download_tells_how_far_it_is() {
    let files = [(name("CURRENT"), 4), (name("000001.sst"), 6), (name("000002.sst"), 10)];
    let beginning = Part::Beginning { bytes: 3, crc32c: crc32c::crc32c(b"abc") };
    let held = vec![
        Held { name: name("CURRENT"), part: Part::Whole },
        Held { name: name("000001.sst"), part: beginning },
    ];
    let (mut m, _) = listed(&files, held);
    let done = |m: &Machine| m.progress().map(|progress| (progress.done, progress.of));
    assert_eq!(done(&m), Some((7, Some(20))));
    m.step(Event::Connected(Conn(3)), 0);
    says(&mut m, 3, b"+OK\r\n", 0);
    let head = FileHead { size: 6, offset: 3 }.text();
    says(&mut m, 3, &[head, b"de".to_vec()].concat(), 0);
    assert_eq!(done(&m), Some((9, Some(20))));
    let rest = [b"f".to_vec(), trailer(crc32c::crc32c(b"abcdef"))].concat();
    says(&mut m, 3, &rest, 0);
    assert_eq!(done(&m), Some((10, Some(20))));
    m.step(Event::Closed { conn: Conn(3), cause: "ended".into() }, 0);
    assert_eq!(done(&m), None);
}

#[test]
fn a_damaged_file_is_fetched_again() {
    let (mut m, _) = listed(&[(name("CURRENT"), 3)], Vec::new());
    m.step(Event::Connected(Conn(3)), 0);
    says(&mut m, 3, b"+OK\r\n", 0);
    let bytes =
        [FileHead { size: 3, offset: 0 }.text(), b"abX".to_vec(), trailer(crc32c::crc32c(b"abc"))];
    let bytes = bytes.concat();
    let actions = says(&mut m, 3, &bytes, 0);
    assert_eq!(actions[2], Action::DiscardFile { conn: Conn(3) });
    assert_eq!(actions[3], Action::Close(Conn(3)));
    let fault = Fault::Checksum(name("CURRENT"));
    assert!(matches!(&actions[4], Action::Failed { fault: f, .. } if *f == fault), "{actions:?}");
}

#[test]
fn a_copy_shorter_than_announced_is_not_trusted() {
    let held = vec![Held { name: name("CURRENT"), part: Part::Whole }];
    let (mut m, actions) = listed(&[(name("CURRENT"), 3)], held);
    assert_eq!(actions, [Action::Swap]);
    let actions = m.step(Event::Swapped { next: 50, replication_id: None }, 0);
    let fault = Fault::ShortCopy { announced: 50, found: 49 };
    assert!(matches!(&actions[0], Action::Failed { fault: f, .. } if *f == fault), "{actions:?}");
    assert!(m.must_full_sync());
}

#[test]
fn a_member_names_itself_its_epoch_and_what_it_promised() {
    let config = Config { member: Some("m/1/-".into()), ..config() };
    let mut m = Machine::new(config, 1);
    m.step(Event::Start, 0);
    m.step(Event::Connected(Conn(1)), 0);
    says(&mut m, 1, b"change.me.db\r\n+OK\r\n", 0);
    assert_eq!(says(&mut m, 1, b"+OK\r\n", 0), [send(1, &["replconf", "member", "m/1/-"])]);
    // A master that knows neither of the options streams all the same.
    let history = ["replconf", "history", "5;-", "granted", "?", "lineage", "-"];
    assert_eq!(says(&mut m, 1, b"-ERR unknown option\r\n", 0), [send(1, &history)]);
    assert_eq!(says(&mut m, 1, b"-ERR unknown option\r\n", 0), [send(1, &history[..3])]);
    let psync = [send(1, &["PSYNC", "6"])];
    assert_eq!(says(&mut m, 1, b"-ERR unknown option\r\n", 0), psync);
    let ack = |sequence, epoch, echo| Action::SendAck {
        conn: Conn(1),
        bytes: wire::ack_of_member(sequence, epoch, echo),
    };
    let up = Action::Report(State::Connected);
    assert_eq!(says(&mut m, 1, b"+OK\r\n", 0), [ack(5, None, None), up]);
    let stamp = Stamp { clock_ns: 7, lease_ms: 1000 };
    let pinged = says(&mut m, 1, b"$11\r\nping 7 1000\r\n", 100);
    assert_eq!(pinged, [Action::Pinged(stamp), ack(5, None, None)]);
    assert_eq!(m.step(Event::Tick, 100), []);
    m.echo(stamp);
    assert_eq!(m.step(Event::Tick, 100), [ack(5, None, Some(stamp))]);
    let epoch = Some(EpochId::from_random(3));
    says(&mut m, 1, &bulk(&batch(6, 1)), 110);
    m.set_epoch(epoch);
    // The driver may not have sent the one before.
    assert_eq!(m.step(Event::Applied { next: 7 }, 110), [ack(6, epoch, Some(stamp))]);
    let later = Stamp { clock_ns: 8, lease_ms: 1000 };
    let pinged = says(&mut m, 1, b"$11\r\nping 8 1000\r\n", 200);
    assert_eq!(pinged, [Action::Pinged(later), ack(6, epoch, None)]);
}

#[test]
fn one_that_leaves_says_so_once_a_stream_and_goes_on() {
    let config = Config { member: Some("m/1/-".into()), ..config() };
    let mut m = Machine::new(config, 1);
    m.step(Event::Start, 0);
    m.step(Event::Connected(Conn(1)), 0);
    says(&mut m, 1, b"change.me.db\r\n+OK\r\n+OK\r\n", 0);
    // Told to end before there is a stream: the master hears it as soon as there is one.
    assert_eq!(m.step(Event::Leave, 0), []);
    says(&mut m, 1, b"+OK\r\n", 0);
    says(&mut m, 1, b"+5;- granted 1 lineage -\r\n", 0);
    let leaves = [send(1, &["replconf", "leaving", "1"]), Action::Leaves(Leave::Told)];
    let streams = says(&mut m, 1, b"+OK\r\n", 0);
    assert!(streams.starts_with(&leaves), "{streams:?}");
    assert_eq!(m.step(Event::Leave, 10), [], "once");
    assert_eq!(says(&mut m, 1, b"$7\r\nleaving\r\n", 20), [Action::Leaves(Leave::Heard)]);
    // It applies and acknowledges as before.
    let bytes = bulk(&batch(6, 1));
    let applies = says(&mut m, 1, &bytes, 30);
    assert!(matches!(applies[..], [Action::Apply(_)]), "{applies:?}");
    let acks = m.step(Event::Applied { next: 7 }, 30);
    assert!(matches!(acks[..], [Action::SendAck { .. }]), "{acks:?}");
    assert_eq!(says(&mut m, 1, b"$4\r\nleft\r\n", 40), [Action::Leaves(Leave::Gone)]);
    assert_eq!(m.state(), State::Connected);
}

#[test]
fn a_master_without_sets_has_nothing_to_be_left() {
    let mut m = streaming(Peer::Kvrocks);
    assert_eq!(m.step(Event::Leave, 1), [Action::Leaves(Leave::Gone)]);
    // Nobody who has not asked takes these words for anything but a batch.
    let mut m = streaming(Peer::Holdfast);
    let failed = says(&mut m, 1, b"$4\r\nleft\r\n", 1);
    assert!(matches!(failed.last(), Some(Action::Report(State::Connecting))), "{failed:?}");
}

#[test]
fn late_events_of_closed_connections_do_nothing() {
    let mut m = streaming(Peer::Holdfast);
    m.step(Event::Closed { conn: Conn(1), cause: "reset".into() }, 10);
    assert_eq!(says(&mut m, 1, b"$0\r\n", 10), []);
    assert_eq!(m.step(Event::Closed { conn: Conn(1), cause: "reset".into() }, 10), []);
    assert_eq!(m.step(Event::Connected(Conn(1)), 10), []);
    assert_eq!(m.step(Event::Prepared { held: Vec::new() }, 10), []);
}

/// Sends bytes in pieces and lists what came out, with the pieces of a file joined.
fn outcome(machine: &mut Machine, conn: u32, bytes: &[u8], cuts: &[usize]) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    let mut written = Vec::new();
    let mut at = [&[0], cuts, &[bytes.len()]].concat();
    at.sort_unstable();
    for piece in at.windows(2) {
        for action in says(machine, conn, &bytes[piece[0]..piece[1]], 0) {
            match action {
                Action::WriteFile { bytes, .. } => written.extend_from_slice(bytes),
                Action::SendAck { .. } => {}
                other => {
                    seen.push(format!("{:?}", std::mem::take(&mut written)));
                    seen.push(format!("{other:?}"));
                }
            }
        }
    }
    seen
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_splits_do_not_matter(
        stage in 0usize..4,
        prefix in 0usize..3,
        noise in prop::collection::vec(any::<u8>(), 0..120),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let make = || match stage {
            0 => {
                let mut m = Machine::new(config(), 1);
                m.step(Event::Start, 0);
                m.step(Event::Connected(Conn(1)), 0);
                (m, 1)
            }
            1 => (streaming(Peer::Kvrocks), 1),
            2 => {
                let (mut m, _) = listed(&[(name("CURRENT"), 20)], Vec::new());
                m.step(Event::Connected(Conn(3)), 0);
                says(&mut m, 3, b"+OK\r\n", 0);
                (m, 3)
            }
            _ => {
                let mut m = Machine::new(Config { must_full_sync: true, ..config() }, 1);
                m.step(Event::Start, 0);
                m.step(Event::Connected(Conn(1)), 0);
                says(&mut m, 1, b"change.me.db\r\n+OK\r\n+OK\r\n", 0);
                m.step(Event::Connected(Conn(2)), 0);
                says(&mut m, 2, b"+OK\r\n", 0);
                (m, 2)
            }
        };
        let good: [&[u8]; 4] = [
            b"change.me.db\r\n+OK\r\n",
            b"$12\r\n\x06\0\0\0\0\0\0\0\x01\0\0\0\r\n$4\r\nping\r\n",
            b"20 0\r\n0123456789",
            b"holdfast 1 c1 50 2\r\nCURRENT 3\r\n",
        ];
        let bytes = [&good[stage][..good[stage].len() * prefix / 2], &noise[..]].concat();
        let cuts: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
        let (mut whole, conn) = make();
        let (mut split, _) = make();
        let expected = outcome(&mut whole, conn, &bytes, &[]);
        prop_assert_eq!(outcome(&mut split, conn, &bytes, &cuts), expected);
        prop_assert_eq!(split.state(), whole.state());
    }
}

#[test]
fn a_disk_without_room_is_tried_again_after_a_minute() {
    for (is_full, retry_ms) in [(true, Some(60_000)), (false, None)] {
        let (mut m, _) = listed(&[(name("CURRENT"), 4)], Vec::new());
        let cause = "no room".to_owned();
        let actions = m.step(Event::FileFailed { cause: cause.clone(), is_full }, 1_000);
        let failed = actions.iter().find_map(|action| match action {
            Action::Failed { fault, retry_ms } => Some((fault.clone(), *retry_ms)),
            _ => None,
        });
        let (fault, found_ms) = failed.unwrap();
        let expected = if is_full { Fault::Full(cause) } else { Fault::Local(cause) };
        assert_eq!(fault, expected);
        assert_eq!(fault.blame(), Blame::Local);
        match retry_ms {
            Some(retry_ms) => assert_eq!(found_ms, retry_ms),
            None => assert!(found_ms < 60_000, "{found_ms}"),
        }
        assert_eq!(m.step(Event::Tick, 1_000 + found_ms - 1), []);
        let again = m.step(Event::Tick, 1_000 + found_ms);
        assert!(again.iter().any(|action| matches!(action, Action::Connect(_))), "{again:?}");
    }
}

/// The disk is full at the very end, or the last name cannot be given: the swap is ordered by then.
#[test]
fn a_copy_whose_last_file_fails_is_tried_again_too() {
    for is_full in [true, false] {
        let (mut m, _) = listed(&[(name("CURRENT"), 3)], Vec::new());
        m.step(Event::Connected(Conn(3)), 0);
        says(&mut m, 3, b"+OK\r\n", 0);
        let head = FileHead { size: 3, offset: 0 }.text();
        let bytes = [head, b"abc".to_vec(), trailer(crc32c::crc32c(b"abc"))].concat();
        assert_eq!(says(&mut m, 3, &bytes, 0).last(), Some(&Action::Swap));
        let failed = m.step(Event::FileFailed { cause: "no room".to_owned(), is_full }, 1_000);
        assert!(matches!(&failed[0], Action::Failed { .. }), "{failed:?}");
        let again = m.step(Event::Tick, 1_000 + FULL_MS);
        assert!(again.iter().any(|action| matches!(action, Action::Connect(_))), "{again:?}");
        assert!(m.must_full_sync());
    }
}

/// Each copy costs both ends what the first one did.
#[test]
fn a_copy_that_is_of_no_use_is_fetched_less_and_less_often() {
    fn connected(m: &mut Machine, actions: &[Action<'_>], now: u64) -> u32 {
        let opened = actions.iter().find_map(|action| match action {
            Action::Connect(conn) => Some(*conn),
            _ => None,
        });
        let conn = opened.unwrap_or_else(|| panic!("{actions:?}"));
        m.step(Event::Connected(conn), now);
        conn.0
    }
    let mut m = Machine::new(Config { must_full_sync: true, ..config() }, 1);
    let text = list(&id(), 50, &[(name("CURRENT"), 3)]);
    let (mut now, mut waited) = (0, Vec::new());
    let mut actions = m.step(Event::Start, now);
    for _ in 0..8 {
        let conn = connected(&mut m, &actions, now);
        let asks = says(&mut m, conn, b"change.me.db\r\n+OK\r\n+OK\r\n", now);
        let conn = connected(&mut m, &asks, now);
        says(&mut m, conn, b"+OK\r\n-ERR unknown option\r\n-ERR unknown option\r\n", now);
        says(&mut m, conn, &text, now);
        let held = vec![Held { name: name("CURRENT"), part: Part::Whole }];
        assert_eq!(m.step(Event::Prepared { held }, now), [Action::Swap]);
        let failed = m.step(Event::SwapFailed { cause: "of another mode".to_owned() }, now);
        let Action::Failed { fault, retry_ms } = &failed[0] else { panic!("{failed:?}") };
        assert_eq!(fault.blame(), Blame::Local);
        waited.push(*retry_ms);
        now += retry_ms;
        actions = m.step(Event::Tick, now);
    }
    assert!(waited[0] <= 1_000 && waited[..7].is_sorted(), "{waited:?}");
    assert!(waited[7] >= 45_000, "{waited:?}");
    // An operator who has mended what it was does not wait for that.
    m.step(Event::Retry, now);
    assert!(m.copies.next_delay_ms() <= 1_000);
}
