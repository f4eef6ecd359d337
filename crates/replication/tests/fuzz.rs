//! Entry points for foreign bytes: what masters and replicas say to each other, and what lies in
//! files.

#[path = "../../../tests/fuzz/mod.rs"]
mod fuzz;

use std::borrow::Cow;

use api::moves::MoveId;
use replication::answer::Answer;
use replication::files::{
    self, CheckpointId, FileHead, FileList, ListReader, parse_fetch, parse_plain_fetch,
    parse_trailer,
};
use replication::history::{Entry, History, KEY_PREFIX, Position};
use replication::lineage::Lineage;
use replication::master::acks::AckReader;
use replication::master::replconf::Replconf;
use replication::master::{psync, wait};
use replication::replica::{Action, Config, Event, Machine};
use replication::slots::{self, Cursor, Mark, State};
use replication::wire::{BatchHead, BulkReader, LineReader, Stamp, bulk};
use replication::{FileName, wire};

const FULL: &[u8] = include_bytes!("../testdata/kvrocks/full_sync.txt");
const ENTRIES: &[u8] = b"3:000000000000000a:1:0,4:000000000000000b:61:1798761599999";

/// What a reader finds in bytes that come in portions.
fn portions(
    bytes: &[u8],
    portion: usize,
    mut read: impl for<'a> FnMut(&mut &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, wire::Malformed>,
) -> Result<Vec<Vec<u8>>, wire::Malformed> {
    let mut found = Vec::new();
    for mut input in bytes.chunks(portion) {
        while !input.is_empty() {
            found.extend(read(&mut input)?.map(Cow::into_owned));
        }
    }
    Ok(found)
}

/// Bulks are the same however they arrive, and what is written is read back.
fn bulks(bytes: &[u8]) {
    let of = |bytes: &[u8], portion| {
        let mut reader = BulkReader::new(1 << 40);
        portions(bytes, portion, |input| reader.read(input))
    };
    let whole = of(bytes, usize::MAX);
    assert_eq!(of(bytes, 3), whole);
    for payload in whole.iter().flatten() {
        let mut written = Vec::new();
        bulk(payload, &mut written);
        assert_eq!(of(&written, 5), Ok(vec![payload.clone()]));
    }
    let mut reader = LineReader::new(64);
    let _ = portions(bytes, 7, |input| reader.read(input));
}

/// The head of a batch, and a heartbeat with a clock.
fn batches(bytes: &[u8]) {
    if let Ok(head) = BatchHead::parse(bytes) {
        assert!(head.next() >= head.sequence);
    }
    if let Some(stamp) = Stamp::parse_ping(bytes) {
        let mut written = Vec::new();
        stamp.ping(&mut written);
        let read = BulkReader::new(64).read(&mut &written[..]);
        let read = read.expect("a bulk").expect("the whole of it").into_owned();
        assert_eq!(Stamp::parse_ping(&read), Some(stamp));
    }
}

fn histories(bytes: &[u8]) {
    if let Ok(history) = History::parse(bytes) {
        assert_eq!(History::parse(history.to_string().as_bytes()), Ok(history));
    }
    if let Ok(position) = Position::parse(bytes) {
        assert_eq!(Position::parse(position.to_string().as_bytes()), Ok(position));
    }
    if let Ok(answer) = Answer::parse(bytes) {
        assert_eq!(Answer::parse(answer.to_string().as_bytes()), Ok(answer));
    }
}

fn lineages(bytes: &[u8]) {
    if let Ok(lineage) = Lineage::parse(bytes) {
        lineage.history();
        assert_eq!(Lineage::parse(lineage.to_string().as_bytes()), Ok(lineage));
    }
}

/// A record of the database: a key of the length that is theirs, and a value.
fn entries(bytes: &[u8]) {
    let (key, value) = bytes.split_at(bytes.len().min(KEY_PREFIX.len() + 8));
    if let Some(Ok(entry)) = Entry::read(key, value) {
        assert_eq!(Entry::read(&Entry::key(entry.epoch), &entry.value()), Some(Ok(entry)));
    }
}

fn list(lines: &[u8]) -> Option<FileList> {
    let (mut reader, mut input) = (ListReader::default(), lines);
    let mut lines = LineReader::new(files::LIST_BYTES_MAX);
    while !input.is_empty() {
        if let Some(list) = reader.line(&lines.read(&mut input).ok()??).ok()? {
            return Some(list);
        }
    }
    None
}

fn file_lists(bytes: &[u8]) {
    if let Some(found) = list(bytes) {
        let id = found.checkpoint.clone().expect("an id");
        let sized = found.files.iter().map(|file| (file.name.clone(), file.size.expect("a size")));
        let written = files::list(&id, found.sequence, &sized.collect::<Vec<_>>());
        assert_eq!(list(&written), Some(found));
    }
    if let Ok(found) = ListReader::plain(bytes) {
        let names: Vec<FileName> = found.files.iter().map(|file| file.name.clone()).collect();
        let written = files::plain_list(&names);
        assert_eq!(ListReader::plain(written.strip_suffix(b"\r\n").expect("a line")), Ok(found));
    }
}

/// Requests for files, and the lines around their bytes.
fn fetches(bytes: &[u8]) {
    let id = CheckpointId::parse(b"c1").expect("an id");
    if let Ok(wanted) = parse_fetch(bytes) {
        assert!(files::fetch(Some(&id), &wanted).ends_with(b"\r\n"));
        let words: Vec<String> =
            wanted.iter().map(|wanted| format!("{}:{}", wanted.name, wanted.offset)).collect();
        assert_eq!(parse_fetch(words.join(",").as_bytes()), Ok(wanted));
    }
    let _ = parse_plain_fetch(bytes);
    let line = |text: Vec<u8>| text.strip_suffix(b"\r\n").expect("a line").to_vec();
    if let Ok(head) = FileHead::parse(bytes) {
        assert_eq!(FileHead::parse(&line(head.text())), Ok(head));
    }
    if let Ok(head) = FileHead::parse_plain(bytes) {
        assert_eq!(FileHead::parse_plain(&line(FileHead::plain(head.size))), Ok(head));
    }
    if let Ok(checksum) = parse_trailer(bytes) {
        assert_eq!(parse_trailer(&line(files::trailer(checksum))), Ok(checksum));
    }
    let _ = CheckpointId::parse(bytes);
}

/// What a replica asks and acknowledges.
fn requests(bytes: &[u8]) {
    let mut reader = AckReader::default();
    let _ = bytes.chunks(5).try_for_each(|portion| reader.read(portion).map(drop));
    let _ = AckReader::default().read(bytes);
    let words: Vec<&[u8]> = bytes.split(|byte| *byte == b' ').collect();
    let _ = Replconf::default().apply(&words);
    let _ = psync::parse(&words);
    if let [replicas, timeout, ..] = words[..] {
        let _ = wait::Wait::parse(replicas, timeout, 1, u64::MAX);
    }
}

/// A replica whose master says this on every connection; the driver does what it is told.
fn masters(bytes: &[u8]) {
    let config = Config { password: Some(b"x".to_vec()), ..Config::default() };
    let (mut machine, mut now) = (Machine::new(config, 1), 0);
    let mut events = vec![Event::Start];
    for _ in 0..200 {
        let Some(event) = (if events.is_empty() { None } else { Some(events.remove(0)) }) else {
            let Some(deadline) = machine.deadline() else { return };
            now = deadline.max(now);
            events.push(Event::Tick);
            continue;
        };
        let mut applied = None;
        for action in machine.step(event, now) {
            match action {
                Action::Connect(conn) => {
                    events.push(Event::Connected(conn));
                    events.extend(bytes.chunks(64).map(|bytes| Event::Received { conn, bytes }));
                }
                Action::Apply(batch) => {
                    applied = Some(BatchHead::parse(&batch).expect("a batch has a head").next());
                }
                Action::Prepare { .. } => events.push(Event::Prepared { held: Vec::new() }),
                Action::Swap => events.push(Event::Swapped { next: 14, replication_id: None }),
                _ => {}
            }
        }
        if let Some(next) = applied {
            events.insert(0, Event::Applied { next });
        }
    }
}

/// What a database says of slots that move: a key of the propagate family and its value.
fn marks(bytes: &[u8]) {
    let Some((key, value)) = bytes.split_at_checked(slots::marks::KEY_PREFIX.len() + 8) else {
        return;
    };
    let Some(id) = Mark::move_of(key) else { return };
    assert_eq!(Mark::key(id), key);
    if let Ok(mark) = Mark::parse(id, value) {
        assert_eq!(mark.value(), value);
        let mut table = slots::Table::default();
        table.put(mark.clone());
        let slot = mark.slots.iter().next().expect("one at least");
        assert_eq!(table.newest(slot), Some(&mark));
    }
}

/// What the master said on each connection of a recording.
fn recorded() -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(FULL);
    let mut said = vec![Vec::new()];
    for line in text.lines() {
        if line.starts_with("@ conn ") {
            said.push(Vec::new());
        } else if let (Some(line), Some(said)) = (line.strip_prefix("M> "), said.last_mut()) {
            said.extend(unescaped(line));
        }
    }
    said
}

/// Text with `\r`, `\n` and `\xNN`; the recording's other signs are left as they are, for bytes
/// that are to be changed anyway.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        out.push(*byte);
        rest = after;
        if *byte != b'\\' {
            continue;
        }
        let (byte, taken) = match after {
            [b'r', ..] => (b'\r', 1),
            [b'n', ..] => (b'\n', 1),
            [b'x', high, low, ..] => (hex(&[*high, *low]).unwrap_or(0), 3),
            _ => continue,
        };
        *out.last_mut().expect("one was pushed") = byte;
        rest = &after[taken..];
    }
    out
}

#[test]
fn any_bulk() {
    fuzz::run(bulks, &[b"$4\r\nping\r\n$7\r\n_getack\r\n", b"$1\r\n\n\r\n$20\r\n"]);
}

#[test]
fn any_batch() {
    fuzz::run(batches, &[b"\x05\0\0\0\0\0\0\0\x03\0\0\0\x01\x01k\x01v", b"ping 123 1000"]);
}

#[test]
fn any_history() {
    let answer = [b"99;", ENTRIES, b" granted 4 lineage ", ENTRIES].concat();
    let position = [b"99;", ENTRIES].concat();
    fuzz::run(histories, &[ENTRIES, b"-", &position, &answer, b"7;- granted -"]);
}

#[test]
fn any_lineage() {
    let text = b"1:000000000000000a:1:0 own\n2:000000000000000b:61:5 master\n3:000000000000000c:70:6 foreign\n";
    fuzz::run(lineages, &[text]);
}

#[test]
fn any_entry_of_a_history() {
    let record = [KEY_PREFIX, &7_u64.to_be_bytes(), &[0; 15], &[1], &[0; 8]].concat();
    fuzz::run(entries, &[&record]);
}

#[test]
fn any_mark() {
    let at = Some(api::grant::Least { id: Some(api::grant::EpochId(2)), sequence: 3 });
    let staged = State::Staged { at, cursor: Cursor::At(b"key".to_vec()) };
    let record = |state| {
        let slots = "0-99,200".parse().expect("slots");
        let mark = Mark { id: MoveId(7), slots, version: 12, state };
        [Mark::key(mark.id), mark.value()].concat()
    };
    fuzz::run(
        marks,
        &[&record(staged), &record(State::Held), &record(State::Gone { is_empty: true })],
    );
}

#[test]
fn any_file_list() {
    let lines = b"holdfast 1 0000000000000007 99 2\r\nCURRENT 16\r\n000012.sst 0\r\n";
    fuzz::run(file_lists, &[lines, b"CURRENT,MANIFEST-000004,000012.sst"]);
}

#[test]
fn any_fetch() {
    fuzz::run(fetches, &[b"CURRENT:0,000012.sst:65536", b"10 4", b"10", b"0000beef"]);
}

#[test]
fn any_request_of_a_replica() {
    let acks = [wire::ack(5), wire::request(&[b"ping"]), wire::ack(9)].concat();
    let position = [b"history 99;", ENTRIES, b" granted ? lineage ", ENTRIES].concat();
    let options = b"listening-port 6666 ip-address 10.0.0.1 holdfast 1 member a ack 7";
    fuzz::run(requests, &[&acks, &position, options, b"ABCDEFGHIJKLMNOP 12", b"12"]);
}

#[test]
fn any_master() {
    let recorded = recorded();
    let mut texts: Vec<&[u8]> = recorded.iter().map(Vec::as_slice).collect();
    texts
        .push(b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n$17\r\n\x01\0\0\0\0\0\0\0\x01\0\0\0\x01\x01k\x01v\r\n");
    assert!(texts.iter().filter(|text| !text.is_empty()).count() > 2);
    fuzz::run(masters, &texts);
}
