//! XREAD and XREADGROUP, which wait for entries.

use std::time::Duration;

use resp::{Protocol, Room, Writer};
use storage::Direction;
use storage::types::stream::{self, Id, InGroup, Reader, Span, fields};

use super::{id, note_consumer, there, write_entry, write_id};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::table::{Nil, Taken, Wait};
use crate::session::{ReadCx, WriteCx};

/// Where the keys are: behind STREAMS, as many as identifiers behind them. Options are read as the
/// commands read them: a group may be called STREAMS.
pub(super) fn keys(words: &[&[u8]]) -> Vec<usize> {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        at += match &*word.to_ascii_uppercase() {
            b"NOACK" => 1,
            b"BLOCK" | b"COUNT" => 2,
            b"GROUP" => 3,
            b"STREAMS" => {
                let count = words.len() - at - 1;
                let count = if count.is_multiple_of(2) { count / 2 } else { 0 };
                return (at + 1..at + 1 + count).collect();
            }
            _ => break,
        };
    }
    Vec::new()
}

/// What is to be read.
struct Wanted<'a> {
    /// So many entries of each stream at most.
    count: u64,
    /// Whether to wait, and how long.
    patience: Option<Option<Duration>>,
    /// The group and its consumer.
    group: Option<(&'a [u8], &'a [u8])>,
    acknowledges: bool,
    keys: &'a [&'a [u8]],
    /// Behind which identifier.
    ids: &'a [&'a [u8]],
}

impl<'a> Wanted<'a> {
    fn read(args: &mut Args<'a>, has_group: bool, now_ms: u64) -> Result<Self> {
        let (mut count, mut patience, mut group, mut acknowledges) = (u64::MAX, None, None, false);
        while let Some(word) = args.word() {
            match &*word {
                b"BLOCK" if !args.is_empty() => patience = Some(args.patience_ms(now_ms)?),
                b"COUNT" if !args.is_empty() => {
                    let wanted = u64::try_from(args.integer()?).unwrap_or(0);
                    count = if wanted == 0 { u64::MAX } else { wanted };
                }
                b"GROUP" if args.len() >= 2 && has_group => {
                    group = Some((args.bytes()?, args.bytes()?));
                }
                b"GROUP" if args.len() >= 2 => return Err(only_of_groups("GROUP")),
                b"NOACK" if has_group => acknowledges = true,
                b"NOACK" => return Err(only_of_groups("NOACK")),
                b"STREAMS" if !args.is_empty() => {
                    if has_group && group.is_none() {
                        return Err(Error::text("ERR Missing GROUP option for XREADGROUP"));
                    }
                    let words = args.rest();
                    if !words.len().is_multiple_of(2) {
                        return Err(Error::text(UNBALANCED));
                    }
                    let (keys, ids) = words.split_at(words.len() / 2);
                    return Ok(Self { count, patience, group, acknowledges, keys, ids });
                }
                _ => return Err(Error::Syntax),
            }
        }
        Err(Error::Syntax)
    }

    /// The same, served by what gave a key something.
    fn served(self, is_served: bool) -> Self {
        let is_open = is_served && self.count == u64::MAX;
        Self { count: if is_open { SERVED } else { self.count }, ..self }
    }

    /// Each key with its identifier.
    fn streams(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.keys.iter().copied().zip(self.ids.iter().copied())
    }

    /// What was found; if nothing, whether to wait for it.
    fn answer(self, found: Found<'_>, reply: Reply<'_>) -> Taken<'a> {
        match self.patience {
            _ if found.streams > 0 => found.reply(reply).into(),
            None => reply.with(|writer| writer.null_array()).into(),
            Some(patience) => Taken::Nothing(Wait::new(self.keys.to_vec(), patience, Nil::Array)),
        }
    }
}

fn only_of_groups(option: &str) -> Error {
    Error::err(format_args!(
        "The {option} option is only supported by XREADGROUP. You called XREAD instead."
    ))
}

/// Of both commands, as in Redis 7.0 and Kvrocks.
const UNBALANCED: &str = "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' \
                          must be specified.";

/// Streams that have something, as RESP.
struct Found<'r> {
    protocol: Protocol,
    streams: usize,
    bytes: Vec<u8>,
    room: Option<&'r Room>,
}

impl<'r> Found<'r> {
    /// None yet, for this reply.
    fn new(reply: &Reply<'r>) -> Self {
        Self { protocol: reply.protocol(), streams: 0, bytes: Vec::new(), room: reply.room() }
    }

    /// For entries of one stream, one behind the other.
    fn writer(&mut self) -> Writer<'_> {
        Writer::new(&mut self.bytes, self.protocol).within(self.room)
    }

    /// What was written from there on are so many entries of this stream.
    fn begin(&mut self, from: usize, key: &[u8], count: usize) {
        self.streams += 1;
        let mut head = Vec::new();
        let mut writer = Writer::new(&mut head, self.protocol);
        if self.protocol == Protocol::V2 {
            writer.array(2);
        }
        writer.bulk(key);
        writer.array(count);
        self.bytes.splice(from..from, head);
    }

    fn reply(self, reply: Reply<'_>) -> Replied {
        reply.with(|writer| {
            match self.protocol {
                Protocol::V2 => writer.array(self.streams),
                Protocol::V3 => writer.map(self.streams),
            }
            writer.raw(&self.bytes);
        })
    }
}

/// So many entries of each stream at most where a command has waited for them and was not told how
/// many, as in Redis: what gives a key so many serves all that wait before anything else.
const SERVED: u64 = 1000;

/// The identifiers that stand for the `$` of an XREAD that waits: it means the moment at which the
/// command came. Words that it does not understand it leaves to the command.
pub(super) fn settle(cx: &ReadCx<'_>, words: &[&[u8]]) -> Option<Vec<Vec<u8>>> {
    let wanted = Wanted::read(&mut Args::behind(1, words), false, cx.scope.now_ms).ok()?;
    if wanted.patience.is_none() || !wanted.ids.contains(&&b"$"[..]) {
        return None;
    }
    let behind = words.len().checked_sub(wanted.ids.len())?;
    let mut settled: Vec<Vec<u8>> = words.iter().take(behind).map(|word| word.to_vec()).collect();
    for (key, word) in wanted.streams() {
        settled.push(match word {
            b"$" => {
                let found = stream::find(cx.txn, &cx.scope.at(key)).ok()?;
                let last = found.map_or(Id::MIN, |found| found.tail.last_generated);
                last.to_string().into_bytes()
            }
            word => word.to_vec(),
        });
    }
    Some(settled)
}

/// Where `$` has not been settled, in EXEC and where it does not wait, it means now.
pub(super) fn xread<'a>(
    cx: &ReadCx<'_>,
    args: &mut Args<'a>,
    reply: Reply<'_>,
) -> Result<Taken<'a>> {
    let words = args.all();
    let wanted = Wanted::read(args, false, cx.scope.now_ms)?;
    let wanted = wanted.served(cx.serves.is_some());
    let snapshot = cx.txn.snapshot();
    let mut sources = Vec::new();
    for (key, word) in wanted.streams() {
        let found = cx.find_or_wait(key, || Ok(stream::find(&snapshot, &cx.scope.at(key))?))?;
        let after = match word {
            b"$" => found.as_ref().map_or(Id::MIN, |found| found.tail.last_generated),
            b">" => {
                return Err(Error::text(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP \
                     <group> <consumer> option.",
                ));
            }
            word => id(word, 0)?,
        };
        sources.extend(found.map(|found| (key, found, after)));
    }
    let mut found = Found::new(&reply);
    for (key, source, after) in sources {
        let Some(span) = Span::after(after) else { continue };
        let (order, from, mut count) = ((Direction::Forward, wanted.count), found.bytes.len(), 0);
        let mut writer = found.writer();
        stream::range(&snapshot, &source, span, order, |id, fields| {
            count += 1;
            write_entry(&mut writer, id, fields);
        })?;
        if count > 0 {
            found.begin(from, key, count);
        }
    }
    let mut taken = wanted.answer(found, reply);
    if let Taken::Nothing(wait) = &mut taken {
        // What was settled is not settled anew where it begins anew.
        wait.words = Some(words.iter().map(|word| word.to_vec()).collect());
    }
    Ok(taken)
}

/// What a consumer reads: what is new to its group, or what it has got behind an identifier.
#[derive(Clone, Copy)]
enum From {
    New,
    After(Id),
}

fn from(word: &[u8]) -> Result<From> {
    match word {
        b"$" => Err(Error::text(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the \
             history of this consumer by specifying a proper ID, or use the > ID to get new \
             messages. The $ ID would just return an empty result set.",
        )),
        b">" => Ok(From::New),
        word => match id(word, 0)? {
            // As in Redis, which has no other sign for it.
            Id::MAX => Ok(From::New),
            id => Ok(From::After(id)),
        },
    }
}

/// The group at a key. One that a command waits in may be gone when it is tried again: as in Redis
/// 7.2 it is told what it would be told had it come then.
fn group_at<'n>(cx: &WriteCx<'_>, key: &[u8], name: &'n [u8]) -> Result<InGroup<'n>> {
    let found = stream::find_group(&cx.txn, &cx.scope.at(key), name)?;
    there(found, (key, name), " in XREADGROUP with GROUP option")
}

pub(super) fn xreadgroup<'a>(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'a>,
    reply: Reply<'_>,
) -> Result<Taken<'a>> {
    let wanted = Wanted::read(args, true, cx.scope.now_ms)?;
    let wanted = wanted.served(cx.serves.is_some());
    let (name, consumer) = wanted.group.unwrap_or_default();
    let reader = Reader { consumer, count: wanted.count, acknowledges: wanted.acknowledges };
    let mut sources = Vec::new();
    for (key, word) in wanted.streams() {
        if cx.serves.is_none_or(|served| served == key) {
            group_at(cx, key, name)?;
            sources.push((key, from(word)?));
        }
    }
    let mut found = Found::new(&reply);
    for (key, from) in sources {
        // A key may be named twice: what the first time has delivered is not new the second time.
        let group = group_at(cx, key, name)?;
        note_consumer(cx, key, &group, consumer)?;
        let place = found.bytes.len();
        match from {
            From::New => {
                let entries = stream::read_new(&mut cx.txn, group, &reader)?;
                for (id, value) in &entries {
                    write_entry(&mut found.writer(), *id, &fields::decode(value)?);
                }
                if !entries.is_empty() {
                    found.begin(place, key, entries.len());
                }
            }
            From::After(id) => {
                let entries = stream::read_history(&mut cx.txn, group, id, &reader)?;
                for (id, value) in &entries {
                    write_delivered(&mut found.writer(), *id, value.as_deref())?;
                }
                found.begin(place, key, entries.len());
            }
        }
    }
    let mut taken = wanted.answer(found, reply);
    if let Taken::Nothing(wait) = &mut taken {
        wait.minds_end = true;
    }
    Ok(taken)
}

/// An entry that was delivered before; it may have been deleted since.
fn write_delivered(writer: &mut Writer<'_>, id: Id, value: Option<&[u8]>) -> Result<()> {
    match value {
        Some(value) => write_entry(writer, id, &fields::decode(value)?),
        None => {
            writer.array(2);
            write_id(writer, id);
            writer.null_array();
        }
    }
    Ok(())
}
