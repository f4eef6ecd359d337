//! What goes to a taker beside the records of the slots: scripts and functions that clients call by
//! name (rule M11), and what the giver's clock reads (rule M15).
//!
//! It goes in frames of its own, on the stream of the copy, to a taker that has said that it takes
//! them; a frame says no new position. What was read of the giver ends with its clock, which so
//! says, too, that nothing stood in the way of what came before it.
//!
//! Invariant: no position leaves before the scripts and functions that were kept below it. The
//! taker adds what it lacks, and replaces nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use script::sha1_hex;
use storage::batch::{self, Record, Writer};
use storage::types::scripts as kept;
use storage::{Family, Read, Store};

use crate::clock;
use crate::locks::Locks;
use crate::node::Node;

/// The giver's greeting, if it has something to send beside the copy.
pub(super) const GREETING: &[u8] = b"+OK beside\r\n";
/// What a taker answers to that, if it takes it. Everything else that it says is about frames.
pub(super) const WANTED: u8 = b'b';

/// What a batch that goes beside the copy begins with.
const SIGN: &[u8] = b"beside";
/// Families are those of the store, and nothing of it is kept as it came: there has to be one.
const FAMILY: Family = Family::Propagate;
/// Texts of EVAL that may be on their way when a stop would be short.
const TEXTS_AT_STOP: usize = 100;
/// Longest wait for commands that write to any key.
const PATIENCE: Duration = Duration::from_millis(50);

/// One thing that is sent whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Thing {
    /// Of SCRIPT LOAD.
    Script(Arc<[u8]>),
    /// Of EVAL: in the memory of its node alone.
    Text(Arc<[u8]>),
    /// Of FUNCTION LOAD.
    Library { name: String, code: Vec<u8>, functions: Vec<String> },
    /// The wall clock of the giver, ms since 1970.
    Clock(u64),
}

/// Bytes that are no things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Thing {
    fn bytes(&self) -> usize {
        match self {
            Self::Script(text) | Self::Text(text) => text.len(),
            Self::Library { code, .. } => code.len(),
            Self::Clock(_) => 8,
        }
    }

    fn put(&self, out: &mut Writer) {
        match self {
            Self::Script(text) => out.put(FAMILY, &[b"s"], &[text]),
            Self::Text(text) => out.put(FAMILY, &[b"t"], &[text]),
            Self::Library { name, code, functions } => {
                out.put(FAMILY, &[b"l", name.as_bytes()], &[code]);
                for function in functions {
                    out.put(FAMILY, &[b"f", function.as_bytes()], &[]);
                }
            }
            Self::Clock(ms) => out.put(FAMILY, &[b"c"], &[&ms.to_be_bytes()]),
        }
    }

    /// What two things have in common that are the same.
    fn print(&self) -> Option<String> {
        match self {
            Self::Script(text) => Some(sha1_hex(text)),
            Self::Library { name, code, .. } => Some(format!("{name} {}", sha1_hex(code))),
            Self::Text(_) | Self::Clock(_) => None,
        }
    }
}

/// As records of a frame, about `max` bytes of them; the rest stays in the queue.
fn render(queue: &mut VecDeque<Thing>, max: usize) -> Vec<u8> {
    let mut out = Writer::new(Vec::new());
    out.log(SIGN);
    while let Some(thing) = queue.pop_front() {
        thing.put(&mut out);
        let next = queue.front().map_or(0, Thing::bytes);
        if out.len() + next > max {
            break;
        }
    }
    std::mem::take(out.finish())
}

/// The things of a frame; `None` if it is one of the copy.
pub(super) fn parse(records: &[u8]) -> Option<Result<Vec<Thing>, Malformed>> {
    let mut found = batch::records(records);
    match found.next() {
        Some(Ok(Record::LogData(SIGN))) => Some(things(found)),
        _ => None,
    }
}

fn things<'r>(
    records: impl Iterator<Item = Result<Record<'r>, batch::BatchError>>,
) -> Result<Vec<Thing>, Malformed> {
    let name = |name: &[u8]| {
        let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
        name.map(str::to_owned).ok_or(Malformed)
    };
    let mut things = Vec::new();
    for record in records {
        let Ok(Record::Put { key, value, .. }) = record else { return Err(Malformed) };
        match (key, things.last_mut()) {
            (b"s", _) => things.push(Thing::Script(value.into())),
            (b"t", _) => things.push(Thing::Text(value.into())),
            (b"c", _) => {
                let ms = value.try_into().map_err(|_| Malformed)?;
                things.push(Thing::Clock(u64::from_be_bytes(ms)));
            }
            ([b'l', library @ ..], _) => things.push(Thing::Library {
                name: name(library)?,
                code: value.to_vec(),
                functions: Vec::new(),
            }),
            ([b'f', function @ ..], Some(Thing::Library { functions, .. })) => {
                functions.push(name(function)?);
            }
            _ => return Err(Malformed),
        }
    }
    Ok(things)
}

/// All that is kept in the database.
fn read(read: &impl Read) -> Result<Vec<Thing>, storage::Error> {
    let scripts = kept::scripts(read)?.into_iter().map(|(_, text)| Thing::Script(text.into()));
    let mut all: Vec<Thing> = scripts.collect();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let mut functions: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    for (function, library) in kept::functions(read)? {
        functions.entry(library).or_default().push(text(function));
    }
    for (name, code) in kept::libraries(read)? {
        let functions = functions.remove(&name).unwrap_or_default();
        all.push(Thing::Library { name: text(name), code, functions });
    }
    Ok(all)
}

/// What a giver has sent beside the copy, and has to send.
#[derive(Debug, Default)]
pub(super) struct Beside {
    is_wanted: bool,
    /// Libraries were kept since it was last looked: all that is kept is to be read.
    is_due: bool,
    /// Scripts that were: the log has each as a whole.
    fresh: Vec<Thing>,
    /// To be sent before the next position, in this order.
    queue: VecDeque<Thing>,
    /// Sequence that the newest of it may be of.
    as_of: u64,
    /// Texts of EVAL. New ones may come without an end: the copy goes on between them.
    texts: VecDeque<Thing>,
    has_sent_text: bool,
    /// Of [`Thing::print`].
    sent: BTreeSet<String>,
    /// Texts that were looked at.
    seen: u64,
    /// The freeze for which the clock was said.
    frozen: Option<u64>,
}

impl Beside {
    /// The taker takes it.
    pub(super) fn want(&mut self) {
        (self.is_wanted, self.is_due) = (true, true);
    }

    /// Nothing of the log before now is looked at: what was kept meanwhile is to be read.
    pub(super) fn read_anew(&mut self) {
        self.is_due |= self.is_wanted;
    }

    /// What was kept in the log up to `to`. Before it is wanted it is not looked at: all is read
    /// then.
    pub(super) fn note_kept(&mut self, kept: kept::Kept, to: u64) {
        if !self.is_wanted {
            return;
        }
        self.is_due |= kept.has_libraries;
        if !kept.scripts.is_empty() {
            self.as_of = self.as_of.max(to);
            self.fresh.extend(kept.scripts.into_iter().map(|text| Thing::Script(text.into())));
        }
    }

    /// The next position has to wait.
    pub(super) fn is_first(&self) -> bool {
        self.is_wanted && (self.is_due || !self.fresh.is_empty() || !self.queue.is_empty())
    }

    /// A stop now would have to wait for it.
    pub(super) fn is_behind(&self) -> bool {
        self.is_first() || self.texts.len() > TEXTS_AT_STOP
    }

    /// Reads what is new here. With a freeze, whatever was there at its begin goes before the
    /// position that is frozen.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) fn look(
        &mut self,
        (node, store): (&Node, &Store),
        frozen: Option<u64>,
    ) -> Result<(), storage::Error> {
        if !self.is_wanted {
            return Ok(());
        }
        let (seen, texts) = node.scripts.since(self.seen);
        self.seen = seen;
        self.texts.extend(texts.into_iter().map(Thing::Text));
        let is_frozen_anew = frozen.is_some() && frozen != self.frozen;
        self.frozen = frozen;
        if !self.is_due && self.fresh.is_empty() && !is_frozen_anew {
            return Ok(());
        }
        let mut things = std::mem::take(&mut self.fresh);
        if self.is_due {
            things.extend(read(store)?);
            self.as_of = store.latest_sequence();
            self.is_due = false;
        }
        for thing in things {
            if thing.print().is_some_and(|print| self.sent.insert(print)) {
                self.queue.push_back(thing);
            }
        }
        if is_frozen_anew {
            self.queue.append(&mut self.texts);
        }
        self.queue.push_back(Thing::Clock(clock::unix_ms()));
        Ok(())
    }

    /// Records of the next frame, if there are any to send while the set has everything up to
    /// `acknowledged`.
    pub(super) fn next(&mut self, acknowledged: u64, max: usize) -> Option<Vec<u8>> {
        if !self.queue.is_empty() {
            return (acknowledged >= self.as_of).then(|| render(&mut self.queue, max));
        }
        self.has_sent_text = !self.texts.is_empty() && !self.has_sent_text;
        self.has_sent_text.then(|| render(&mut self.texts, max))
    }
}

/// Why a taker does not take what came.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// What a person has to mend.
    #[error("{0}")]
    Clash(String),
    #[error("keep what came beside a copy: {0}")]
    Storage(#[from] storage::Error),
}

/// A library, or a function, of which there is another one.
fn clash(what: &str, name: &str) -> Refusal {
    /// Longest name that is shown whole.
    const SHOWN: usize = 64;
    // It becomes a part of one line.
    let name: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    Refusal::Clash(format!(
        "{what} `{name}` at the taker, which is another one: FUNCTION LOAD REPLACE the one that is \
         meant there, or FUNCTION DELETE it"
    ))
}

/// Whether it is missing here.
fn lacks(read: &impl Read, thing: &Thing) -> Result<bool, Refusal> {
    match thing {
        Thing::Script(text) => Ok(kept::script(read, sha1_hex(text).as_bytes())?.is_none()),
        Thing::Library { name, code, functions } => {
            match kept::library(read, name.as_bytes())? {
                Some(known) if known == *code => return Ok(false),
                Some(_) => return Err(clash("the library", name)),
                None => {}
            }
            for function in functions {
                if kept::library_of(read, function.as_bytes())?.is_some() {
                    return Err(clash("the function", function));
                }
            }
            Ok(true)
        }
        Thing::Text(_) | Thing::Clock(_) => Ok(false),
    }
}

/// Adds what is missing here, under the gate; the newest sequence of it, 0 if nothing was. `None`
/// while something writes to any key for long: to be tried again.
///
/// # Errors
/// A name that something else has here; those of the database.
pub(super) fn adopt(node: &Node, store: &Store, things: &[Thing]) -> Result<Option<u64>, Refusal> {
    for thing in things {
        if let Thing::Text(text) = thing {
            node.scripts.remember(&sha1_hex(text), text);
        }
    }
    let mut is_missing = false;
    for thing in things {
        is_missing |= lacks(store, thing)?;
    }
    if !is_missing {
        return Ok(Some(0));
    }
    // FUNCTION LOAD looks and writes alone, so does this.
    let Some(_alone) = node.locks.lock_within(&Locks::all_stripes(), PATIENCE) else {
        return Ok(None);
    };
    let mut txn = store.txn();
    for thing in things {
        if !lacks(&txn, thing)? {
            continue;
        }
        match thing {
            Thing::Script(text) => kept::put(&mut txn, &sha1_hex(text), text),
            Thing::Library { name, code, functions } => {
                kept::put_library(&mut txn, name, code, functions.iter().map(String::as_str));
            }
            Thing::Text(_) | Thing::Clock(_) => {}
        }
    }
    let sequence = txn.commit()?;
    store.publish()?;
    Ok(Some(sequence.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(name: &str, functions: &[&str]) -> Thing {
        let functions = functions.iter().map(|name| (*name).to_owned()).collect();
        Thing::Library { name: name.to_owned(), code: b"code".to_vec(), functions }
    }

    #[test]
    fn things_are_read_back_as_they_were_sent_and_none_is_cut() {
        let all = [
            Thing::Script(Arc::from(&b"return 1"[..])),
            library("lib", &["one", "two"]),
            library("empty", &[]),
            Thing::Text(Arc::from(&b"return 2"[..])),
            Thing::Clock(7),
        ];
        for max in [1, 60, 1_000] {
            let (mut queue, mut read, mut frames) = (VecDeque::from(all.to_vec()), Vec::new(), 0);
            while !queue.is_empty() {
                let records = render(&mut queue, max);
                assert!(batch::parse(&records).is_ok());
                read.extend(parse(&records).unwrap().unwrap());
                frames += 1;
            }
            assert_eq!(read, all);
            assert!(if max == 1_000 { frames == 1 } else { frames > 1 }, "{max}: {frames}");
        }
        let mut of_copy = Writer::new(Vec::new());
        of_copy.put(Family::Metadata, &[b"s"], &[b"return 1"]);
        assert_eq!(parse(of_copy.finish()), None);
        assert_eq!(parse(b""), None);
    }

    /// A thousand SCRIPT LOAD are not a thousand readings of all that is kept.
    #[test]
    fn a_script_is_sent_as_the_log_has_it_and_libraries_are_read() {
        let script = || kept::Kept { scripts: vec![b"return 1".to_vec()], has_libraries: false };
        let mut beside = Beside { is_wanted: true, ..Beside::default() };
        beside.note_kept(kept::Kept::default(), 5);
        assert!(!beside.is_first());
        beside.note_kept(script(), 7);
        assert!(beside.is_first() && beside.is_behind() && !beside.is_due);
        assert_eq!((beside.as_of, beside.fresh.len()), (7, 1));
        beside.note_kept(kept::Kept { has_libraries: true, ..kept::Kept::default() }, 8);
        assert!(beside.is_due);
        let mut unwanted = Beside::default();
        unwanted.note_kept(script(), 7);
        unwanted.read_anew();
        assert!(!unwanted.is_first() && unwanted.fresh.is_empty(), "an older taker takes none");
        let mut begun = Beside { is_wanted: true, ..Beside::default() };
        begun.read_anew();
        assert!(begun.is_first(), "the log begins with the first snapshot");
    }

    #[test]
    fn what_is_no_thing_is_refused() {
        for (key, value) in [("x", ""), ("c", "1"), ("fone", ""), ("l", ""), ("", "")] {
            let mut out = Writer::new(Vec::new());
            out.log(SIGN);
            out.put(FAMILY, &[key.as_bytes()], &[value.as_bytes()]);
            assert_eq!(parse(out.finish()), Some(Err(Malformed)), "{key}");
        }
    }

    /// The copy has its turn between two frames of texts, and none between what comes first.
    #[test]
    fn texts_of_eval_do_not_keep_the_copy_from_going_on() {
        let text = |number: u8| Thing::Text(Arc::from(&[number][..]));
        let mut beside = Beside { is_wanted: true, ..Beside::default() };
        beside.texts.extend([text(1), text(2), text(3)]);
        let sent: Vec<bool> = (0..6).map(|_| beside.next(0, 1).is_some()).collect();
        assert_eq!(sent, [true, false, true, false, true, false]);
        beside.queue.extend([text(1), text(2)]);
        beside.as_of = 5;
        assert!(beside.is_first() && beside.next(4, 1).is_none(), "not acknowledged");
        assert!(beside.next(5, 1).is_some() && beside.is_first() && beside.next(5, 1).is_some());
        assert!(!beside.is_first());
    }
}
