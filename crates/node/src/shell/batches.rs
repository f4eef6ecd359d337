//! The write batches of our commands against recorded ones of Kvrocks, byte by byte, through the
//! table.
//!
//! A command that is not served yet is applied as it was recorded, so that every command meets the
//! state it was recorded in. Known differences:
//!
//! * INCRBYFLOAT and HINCRBYFLOAT are applied as recorded, too: we store the shortest form, as
//!   Redis does (1.5), Kvrocks six digits (1.500000).
//! * EXEC is applied as recorded, and what was queued is left out.
//! * SMOVE, MPUBLISH, EVAL, SCRIPT FLUSH, FUNCTION and the BF.ADD that makes a filter were recorded
//!   as several batches, and are one here.
//! * SPOP takes members at random.
//! * XREADGROUP counts deliveries as Redis does, and XGROUP DESTROY removes a group alone.
//! * A key that is made anew has another version, as versions are made from the time.
//!
//! Everything else is the same to the byte.

use std::fmt::Write as _;

use storage::types::kind::Type;
use storage::{Family, batch};

use super::Shell;

/// Served, but not compared here; the module says why.
#[rustfmt::skip]
const OTHERWISE: &[&str] = &[
    "EXEC", "INCRBYFLOAT", "HINCRBYFLOAT", "SMOVE", "MPUBLISH", "SPOP", "XREADGROUP", "XGROUP DESTROY",
    "EVAL", "SCRIPT FLUSH", "FUNCTION",
    "BF.ADD w:bloom:default",
];

/// Commands that Kvrocks does otherwise than Redis: its BITFIELD on a bitmap contradicts its own
/// GETBIT, and its BITOP takes no strings.
const UNLIKE_REDIS: &[&str] = &[
    "BITFIELD str SET u8 0 97",
    "BITFIELD w:bitfield SET u8 16 200 INCRBY i5 3 -4",
    "BITOP OR out str",
];

/// Recorded with blanks within words, and good commands without them.
const BLANKS: &[&str] = &["RPUSH w:retyped now a list", "RPUSH w:list z with space"];

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

/// The number at this byte of the value of a record of the first batch, log data counted.
fn written_at(step: &Step, record: usize, at: usize) -> Option<u64> {
    let record = batch::records(step.batches.first()?).nth(record)?.ok()?;
    let batch::Record::Put { value, .. } = record else { return None };
    Some(u64::from_be_bytes(value.get(at..at + 8)?.try_into().ok()?))
}

/// Unix ms at which the recorded server ran the command, where its batch tells.
fn recorded_now(step: &Step, words: &[&str]) -> Option<u64> {
    let (unit_ms, amount) = match words {
        ["EXPIRE", _, amount] | ["SETEX", _, amount, _] | ["GETEX", _, _, amount] => (1000, amount),
        ["PEXPIRE", _, amount] | ["SET", _, _, "PX", amount] => (1, amount),
        ["XGROUP", "CREATECONSUMER", ..] => return written_at(step, 1, 8),
        ["XCLAIM", ..] => return written_at(step, 2, 0),
        _ => return None,
    };
    now_of(&step.batches, unit_ms, amount.parse().ok()?)
}

/// Versions of keys: ours, and what the recorded server called the same one.
#[derive(Default)]
struct Versions(Vec<([u8; 8], [u8; 8])>);

impl Versions {
    /// Takes note of the versions that two batches of one command give to the same keys.
    fn learn(&mut self, ours: &[u8], theirs: &[u8]) {
        for pair in batch::records(ours).zip(batch::records(theirs)) {
            if let (Ok(ours), Ok(theirs)) = pair {
                self.0.extend(version(&ours).zip(version(&theirs)).filter(|(a, b)| a != b));
            }
        }
    }

    /// A batch with our versions in place of the recorded ones.
    fn ours(&self, theirs: &[u8]) -> Vec<u8> {
        // Zeros, the version that Kvrocks gives to destinations of LMOVE, are elsewhere as well.
        let named = self.0.iter().filter(|(_, theirs)| *theirs != [0; 8]);
        named.fold(theirs.to_vec(), |batch, (to, from)| replaced(batch, from, to))
    }

    /// A batch with the recorded versions in place of ours.
    fn theirs(&self, ours: &[u8]) -> Vec<u8> {
        self.0.iter().fold(ours.to_vec(), |batch, (from, to)| replaced(batch, from, to))
    }
}

fn replaced(mut batch: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    for at in 0..batch.len().saturating_sub(7) {
        if batch[at..at + 8] == *from {
            batch[at..at + 8].copy_from_slice(to);
        }
    }
    batch
}

/// The version in a metadata entry of a type with sub-keys.
fn version(record: &batch::Record<'_>) -> Option<[u8; 8]> {
    match record {
        batch::Record::Put { family: Family::Metadata, value, .. } => {
            let kind = Type::from_id(value.first()? & 0x0f)?;
            value.get(9..17)?.try_into().ok().filter(|_| !kind.is_single())
        }
        _ => None,
    }
}

/// Runs the steps on a fresh database; returns how many commands were ours.
fn replay(steps: &[Step]) -> usize {
    let mut shell = Shell::with(|values| {
        values.requirepass = "secret".into();
        values.repl_namespace_enabled = true;
    });
    shell.run("AUTH secret");
    shell.set_now(0);
    let (mut ours, mut differences) = (0, String::new());
    let mut versions = Versions::default();
    for step in steps {
        let words: Vec<&str> = step.command.split(' ').collect();
        shell.set_now(recorded_now(step, &words).unwrap_or(shell.now_ms() + 5));
        let before = shell.sequence();
        let is_otherwise = |name: &&str| {
            let rest = step.command.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let is_ours = !OTHERWISE.iter().any(is_otherwise)
            && !UNLIKE_REDIS.contains(&&*step.command)
            && crate::shell::table().find(words[0].as_bytes()).is_some();
        // Blanks within words are lost in the recordings: what was taken there has other words
        // here.
        let is_opaque = |reply: &str| {
            let is_refused = reply == "-ERR syntax error" || reply.contains("wrong number of arg");
            is_refused && !step.batches.is_empty()
        };
        if !is_ours || is_opaque(&shell.run(&step.command)) {
            assert!(differences.is_empty(), "{differences}");
            for batch in &step.batches {
                shell.apply(&versions.ours(batch));
            }
            continue;
        }
        ours += 1;
        let written = shell.batches_since(before);
        written.iter().zip(&step.batches).for_each(|(ours, theirs)| versions.learn(ours, theirs));
        let written: Vec<_> = written.iter().map(|batch| versions.theirs(batch)).collect();
        if written != step.batches {
            let show = |batches: &[Vec<u8>]| {
                let lines = batches.iter().map(|batch| batch.escape_ascii().to_string());
                lines.collect::<Vec<_>>().join("\n  ")
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

#[test]
fn commands_write_the_recorded_batches() {
    let text = include_str!("../../testdata/kvrocks/write_batches.txt");
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
    let text = include_str!("../../../replication/testdata/kvrocks/partial_sync.txt");
    let mut steps = vec![Step { command: String::new(), batches: Vec::new() }];
    let mut is_multi = false;
    for line in text.lines() {
        if let Some((_, command)) = line.split_once(" command: ") {
            // Queued commands are written by EXEC; escaped or cut words cannot be run.
            is_multi = (is_multi || command == "MULTI") && command != "EXEC";
            let is_cut = command.contains('\\') || command.contains("...");
            let is_opaque = is_multi || is_cut || BLANKS.contains(&command);
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
