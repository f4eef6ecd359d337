//! The write batches of our commands against recorded ones, byte by byte. Commands of other types in the recordings are
//! applied as they were recorded, so that every command meets the state it was recorded in. INCRBYFLOAT is among those:
//! we store the shortest form, as Redis does (1.5), Kvrocks six digits (1.500000).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use storage::key::DEFAULT_NAMESPACE;
use storage::types::expiry::{Expiry, Unit};
use storage::types::keys::{self, ExpireCondition};
use storage::types::strings::{self, Condition, SetOptions};
use storage::types::{copy, keyspace};
use storage::{FeedRead, Options, Scope, Store, Txn, batch};

/// A command and what the recorded server wrote for it.
struct Step {
    command: String,
    batches: Vec<Vec<u8>>,
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Undoes the escapes of a capture: `\r \n \\ \xNN \{NN*n}`.
fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        if first != '\\' {
            bytes.push(first as u8);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (skip, repeated) = match rest.as_bytes()[1] {
            b'r' => (2, vec![b'\r']),
            b'n' => (2, vec![b'\n']),
            b'x' => (4, unhex(&rest[2..4])),
            b'{' => {
                let end = rest.find('}').unwrap();
                let (byte, count) = rest[2..end].split_once('*').unwrap();
                (end + 1, unhex(byte).repeat(count.parse().unwrap()))
            }
            other => (2, vec![other]),
        };
        bytes.extend(repeated);
        rest = &rest[skip..];
    }
    bytes
}

/// The bulk strings of a master's line that are write batches.
fn streamed(line: &str) -> Option<Vec<u8>> {
    let bytes = match line.strip_prefix("hex(") {
        Some(hex) => unhex(hex.split_once(')')?.1),
        None => unescape(line),
    };
    let rest = bytes.strip_prefix(b"$")?;
    let end = rest.iter().position(|byte| *byte == b'\r')?;
    let length: usize = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    let body = rest.get(end + 2..end + 2 + length)?;
    batch::parse(body).ok().map(|_| body.to_vec())
}

fn now_of(batches: &[Vec<u8>], unit_ms: i64, amount: i64) -> Option<u64> {
    let batch::Record::Put { value, .. } = batch::records(batches.first()?).nth(1)?.ok()? else {
        return None;
    };
    let expire_ms = u64::from_be_bytes(value.get(1..9)?.try_into().ok()?);
    u64::try_from(i64::try_from(expire_ms).ok()? - amount * unit_ms).ok()
}

/// Runs a command of ours; false if it is none.
fn run(txn: &mut Txn<'_>, scope: &Scope<'_>, words: &[&[u8]]) -> bool {
    let integer = |at: usize| std::str::from_utf8(words[at]).unwrap().parse::<i64>().unwrap();
    let set = |txn: &mut Txn<'_>, expiry, condition| {
        let options = SetOptions { condition, expiry, get: false };
        strings::set(txn, scope, words[1], words[2], &options).unwrap();
    };
    let expire = |txn: &mut Txn<'_>, unit: Unit| {
        let at_ms = unit.for_expire(integer(2), scope).unwrap();
        keys::expire(txn, scope, words[1], at_ms, ExpireCondition::default()).unwrap();
    };
    let pairs = || words[1..].chunks(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>();
    let value_expiry = |unit: Unit, at| Expiry::At(unit.for_value(integer(at), scope).unwrap());
    match (words[0], words.len()) {
        (b"SET", 3) => set(txn, Expiry::Never, Condition::Always),
        (b"SET", 4) if words[3] == b"KEEPTTL" => set(txn, Expiry::Keep, Condition::Always),
        (b"SET", 5) if words[3] == b"PX" => {
            set(txn, value_expiry(Unit::Milliseconds, 4), Condition::Always);
        }
        (b"SET", 5) if words[3] == b"PXAT" => {
            set(txn, value_expiry(Unit::UnixMilliseconds, 4), Condition::Always);
        }
        (b"GETSET", 3) => {
            let options = SetOptions { get: true, ..SetOptions::default() };
            strings::set(txn, scope, words[1], words[2], &options).unwrap();
        }
        (b"SETEX", 4) => {
            let options =
                SetOptions { expiry: value_expiry(Unit::Seconds, 2), ..SetOptions::default() };
            strings::set(txn, scope, words[1], words[3], &options).unwrap();
        }
        (b"SETNX", 3) => set(txn, Expiry::Never, Condition::IfAbsent),
        (b"INCR", 2) => drop(strings::incrby(txn, scope, words[1], 1).unwrap()),
        (b"APPEND", 3) => drop(strings::append(txn, scope, words[1], words[2]).unwrap()),
        (b"SETRANGE", 4) => {
            strings::setrange(txn, scope, words[1], integer(2), words[3]).unwrap();
        }
        (b"GETDEL", 2) => drop(strings::getdel(txn, scope, words[1]).unwrap()),
        (b"GETEX", 3) => {
            drop(strings::getex(txn, scope, words[1], Some(Expiry::Never)).unwrap());
        }
        (b"GETEX", 4) => {
            let expiry = value_expiry(Unit::Seconds, 3);
            drop(strings::getex(txn, scope, words[1], Some(expiry)).unwrap());
        }
        (b"MSET", _) => strings::mset(txn, scope, &pairs()),
        (b"MSETNX", _) => drop(strings::msetnx(txn, scope, &pairs()).unwrap()),
        (b"CAS", 4) => {
            strings::cas(txn, scope, words[1], words[2], words[3], Expiry::Never).unwrap();
        }
        (b"CAD", 3) => drop(strings::cad(txn, scope, words[1], words[2]).unwrap()),
        (b"DEL" | b"UNLINK", _) => drop(keys::del(txn, scope, &words[1..]).unwrap()),
        (b"EXPIRE", 3) => expire(txn, Unit::Seconds),
        (b"PEXPIRE", 3) => expire(txn, Unit::Milliseconds),
        (b"EXPIREAT", 3) => expire(txn, Unit::UnixSeconds),
        (b"PEXPIREAT", 3) => expire(txn, Unit::UnixMilliseconds),
        (b"PERSIST", 2) => drop(keys::persist(txn, scope, words[1]).unwrap()),
        (b"RENAME", 3) => copy::rename(txn, scope, words[1], words[2]).unwrap(),
        (b"COPY", 3) => drop(copy::copy(txn, scope, words[1], words[2], false).unwrap()),
        (b"FLUSHDB", 1) => keyspace::flush_namespace(txn, scope),
        (b"FLUSHALL", 1) => keyspace::flush_all(txn).unwrap(),
        _ => return false,
    }
    true
}

/// Runs the steps on a fresh store; returns how many commands were ours.
fn replay(steps: &[Step]) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { block_cache_size: 1 << 20, ..Options::default() };
    let store = Store::open(dir.path(), options).unwrap();
    let mut feed = store.feed();
    let (mut now_ms, mut ours, mut differences) = (0, 0, String::new());
    for step in steps {
        let words: Vec<&[u8]> = step.command.split(' ').map(str::as_bytes).collect();
        let relative = match (words[0], words.len()) {
            (b"EXPIRE", 3) => Some((1000, words[2])),
            (b"PEXPIRE", 3) => Some((1, words[2])),
            (b"SETEX", 4) => Some((1000, words[2])),
            (b"GETEX", 4) => Some((1000, words[3])),
            (b"SET", 5) if words[3] == b"PX" => Some((1, words[4])),
            _ => None,
        };
        let recorded_now = relative.and_then(|(unit_ms, amount)| {
            now_of(&step.batches, unit_ms, std::str::from_utf8(amount).ok()?.parse().ok()?)
        });
        now_ms = recorded_now.unwrap_or(now_ms + 5);
        let scope = Scope { namespace: DEFAULT_NAMESPACE, cluster: false, now_ms };
        let next = store.latest_sequence() + 1;
        let mut txn = store.txn();
        if !run(&mut txn, &scope, &words) {
            drop(txn);
            for batch in &step.batches {
                store.write_raw(batch).unwrap();
            }
            continue;
        }
        ours += 1;
        txn.commit().unwrap();
        store.publish().unwrap();
        let mut written: Vec<Vec<u8>> = match feed.read(next, usize::MAX).unwrap() {
            FeedRead::Batches(batches) => batches.iter().map(|b| b.data.to_vec()).collect(),
            FeedRead::UpToDate => Vec::new(),
            FeedRead::Gone => panic!("gone"),
        };
        if matches!(words[0], b"RENAME" | b"COPY") {
            // Ours get a version of their own.
            written.iter_mut().zip(&step.batches).for_each(|(a, b)| adopt_version(a, b));
        }
        if written != step.batches {
            let show = |batches: &[Vec<u8>]| {
                batches
                    .iter()
                    .map(|b| b.escape_ascii().to_string())
                    .collect::<Vec<_>>()
                    .join("\n  ")
            };
            writeln!(
                differences,
                "{}\n  {}\nrecorded:\n  {}",
                step.command,
                show(&written),
                show(&step.batches)
            )
            .unwrap();
        }
    }
    assert!(differences.is_empty(), "{differences}");
    ours
}

fn version(bytes: &[u8]) -> Option<[u8; 8]> {
    batch::records(bytes).find_map(|record| match record {
        Ok(batch::Record::Put { family: storage::Family::Metadata, value, .. }) => {
            value.get(9..17)?.try_into().ok()
        }
        _ => None,
    })
}

fn adopt_version(ours: &mut [u8], theirs: &[u8]) {
    let (Some(mine), Some(wanted)) = (version(ours), version(theirs)) else { return };
    for at in 0..ours.len().saturating_sub(7) {
        if ours[at..at + 8] == mine {
            ours[at..at + 8].copy_from_slice(&wanted);
        }
    }
}

#[test]
fn commands_write_the_recorded_batches() {
    let text = include_str!("kvrocks/write_batches.txt");
    let mut total = 0;
    for part in text.split("## part").skip(1) {
        let mut steps: Vec<Step> = Vec::new();
        for line in part.lines() {
            if let Some(command) = line.strip_prefix("> ") {
                let command = command.split("   -> ").next().unwrap().to_owned();
                steps.push(Step { command, batches: Vec::new() });
            } else if let Some(hex) = line.strip_prefix("B> ") {
                steps.last_mut().unwrap().batches.push(unhex(hex));
            }
        }
        total += replay(&steps);
    }
    assert!(total >= 20, "{total}");
}

#[test]
fn commands_write_the_streamed_batches() {
    let text = include_str!("kvrocks/partial_sync.txt");
    let mut steps = vec![Step { command: String::new(), batches: Vec::new() }];
    let mut is_multi = false;
    for line in text.lines() {
        if let Some((_, command)) = line.split_once(" command: ") {
            // Queued commands are written by EXEC; escaped or cut words cannot be run.
            is_multi = (is_multi || command == "MULTI") && command != "EXEC";
            let is_opaque = is_multi || command.contains('\\') || command.contains("...");
            let command = if is_opaque { "(opaque)" } else { command };
            steps.push(Step { command: command.to_owned(), batches: Vec::new() });
        } else if let Some(batch) = line.strip_prefix("M> ").and_then(streamed) {
            steps.last_mut().unwrap().batches.push(batch);
        }
    }
    for step in &mut steps {
        step.command = step.command.replace("''", "");
    }
    let ours = replay(&steps);
    assert!(ours >= 40, "{ours}");
}
