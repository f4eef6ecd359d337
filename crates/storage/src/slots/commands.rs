//! Slots as commands, for a target that takes nothing else.
//!
//! A key is sent whole ([`whole`]) as Kvrocks sends it: 16 elements a command, a time to live
//! behind. What was written since is sent as the difference of two moments ([`changes`]), and not
//! as the commands that made it: the difference is right for every way of writing, and may be sent
//! twice.
//!
//! What no command can make (a filter, a sketch, a document byte by byte, a stream without entries
//! or with groups, fields with lifetimes) goes as a batch of that key alone. Such a key has the
//! same version on both sides; one that was made by commands has a version of the target's own.

use std::collections::BTreeSet;

use super::dirty::{Dirty, Subs};
use super::keys::{Stored, score_text};
use super::raw::Batches;
use crate::types::fields::Form;
use crate::types::head::Header;
use crate::types::kind::Type;
use crate::types::object::Tail as _;
use crate::types::stream::{Id, State, fields};
use crate::{Error, Snapshot};

mod parts;

use parts::{Ends, Items, bits, elements, ends, entry};

/// Takes commands.
pub trait Out {
    /// One more.
    fn command(&mut self, words: &[&[u8]]);
    /// What it has may leave now, if it is enough.
    ///
    /// # Errors
    /// Nothing more is taken.
    fn may_send(&mut self) -> Result<(), Closed>;
}

/// The other side takes nothing more; it knows why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// Why keys are not sent.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// See [`Closed`].
    #[error("the target takes nothing more")]
    Closed,
    /// A stored value is not what its type says, or the engine failed.
    #[error(transparent)]
    Storage(#[from] Error),
}

impl From<Closed> for Halt {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

/// Bytes of a batch of one key.
const BATCH_BYTES: usize = 1 << 20;
/// A key that ends so soon may be gone at the target before it is told of a later end, ms.
const SOON_MS: u64 = 60_000;

fn corrupt(message: &'static str) -> Error {
    Error::corrupt("send a key of a slot", message)
}

/// How a key can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By commands of its type.
    Commands(Type),
    /// As records.
    Records,
}

fn way(at: &Snapshot<'_>, key: &Stored, header: &Header<'_>) -> Result<Way, Error> {
    let Some(kind) = header.kind() else { return Ok(Way::Records) };
    let is_by_commands = match kind {
        Type::String | Type::List | Type::Set | Type::Zset | Type::Bitmap | Type::SortedInt => true,
        Type::Hash => header.form() == Some(Form::Plain),
        // Groups lie behind the entries, under longer names.
        Type::Stream => key.last(at)?.is_some_and(|last| last.len() == Id::MIN.to_bytes().len()),
        _ => false,
    };
    Ok(if is_by_commands { Way::Commands(kind) } else { Way::Records })
}

/// Sends a key; nothing if it is dead at `now_ms`.
///
/// # Errors
/// See [`Halt`].
pub fn whole(at: &Snapshot<'_>, key: &Stored, now_ms: u64, out: &mut dyn Out) -> Result<(), Halt> {
    let header = key.header().ok_or_else(|| corrupt("metadata is too short"))?;
    if header.is_dead(now_ms) {
        return Ok(());
    }
    match way(at, key, &header)? {
        Way::Records => records(at, key, false, out)?,
        Way::Commands(Type::String) => {
            let end = header.expire_ms.to_string();
            let words: [&[u8]; 5] = [b"SET", &key.name, header.rest, b"PXAT", end.as_bytes()];
            let count = if header.expire_ms == 0 { 3 } else { 5 };
            out.command(words.get(..count).unwrap_or(&words));
        }
        Way::Commands(kind) => {
            made_of_elements(at, (key, &header, kind), out)?;
            if header.expire_ms != 0 {
                end_at(key, header.expire_ms, out);
            }
        }
    }
    Ok(out.may_send()?)
}

fn made_of_elements(
    at: &Snapshot<'_>,
    (key, header, kind): (&Stored, &Header<'_>, Type),
    out: &mut dyn Out,
) -> Result<(), Halt> {
    match kind {
        Type::Bitmap => return bits_of(at, (key, header), out),
        Type::Stream => return entries_of(at, (key, header), out),
        _ => {}
    }
    let word: &[u8] = match kind {
        Type::Hash => b"hmset",
        Type::List => b"rpush",
        Type::Set => b"sadd",
        Type::Zset => b"zadd",
        _ => b"siadd",
    };
    let mut items = Items::new(out, word, &key.name);
    let ends = if kind == Type::List { Some(ends(header)?) } else { None };
    key.for_each::<Halt>(at, |sub, value| {
        // Sub-keys outside of a list's indexes are nobody's.
        if ends.is_none_or(|ends| ends.contains(sub)) {
            items.add(elements(kind, sub, value)?)?;
        }
        Ok(())
    })?;
    items.close();
    Ok(())
}

fn bits_of(
    at: &Snapshot<'_>,
    (key, header): (&Stored, &Header<'_>),
    out: &mut dyn Out,
) -> Result<(), Halt> {
    let mut highest = None;
    key.for_each::<Halt>(at, |sub, value| bits(&key.name, sub, (&[], value), out, &mut highest))?;
    reach(key, header, highest, out);
    Ok(())
}

/// A bitmap is as long as it says, also if it ends in bytes without a bit.
fn reach(key: &Stored, header: &Header<'_>, highest: Option<u64>, out: &mut dyn Out) {
    let size = header.version_and_size().map_or(0, |(_, size)| size);
    let is_reached = highest.is_some_and(|bit| bit / 8 + 1 >= size);
    if let Some(last) = size.checked_mul(8).and_then(|bits| bits.checked_sub(1))
        && !is_reached
    {
        out.command(&[b"setbit", &key.name, last.to_string().as_bytes(), b"0"]);
    }
}

fn entries_of(
    at: &Snapshot<'_>,
    (key, header): (&Stored, &Header<'_>),
    out: &mut dyn Out,
) -> Result<(), Halt> {
    key.for_each::<Halt>(at, |sub, value| {
        entry(&key.name, sub, value, out)?;
        Ok(out.may_send()?)
    })?;
    known_of(key, header, out)
}

/// What is known of a stream as a whole.
fn known_of(key: &Stored, header: &Header<'_>, out: &mut dyn Out) -> Result<(), Halt> {
    let state = State::read(header.tail()).ok_or_else(|| corrupt("a stream without its state"))?;
    let [last, added, deleted] = [
        state.last_generated.to_string(),
        state.entries_added.to_string(),
        state.max_deleted.to_string(),
    ];
    out.command(&[
        b"XSETID",
        &key.name,
        last.as_bytes(),
        b"ENTRIESADDED",
        added.as_bytes(),
        b"MAXDELETEDID",
        deleted.as_bytes(),
    ]);
    Ok(())
}

fn end_at(key: &Stored, expire_ms: u64, out: &mut dyn Out) {
    out.command(&[b"PEXPIREAT", &key.name, expire_ms.to_string().as_bytes()]);
}

/// With `clears` the target forgets first what it has of this version.
fn records(at: &Snapshot<'_>, key: &Stored, clears: bool, out: &mut dyn Out) -> Result<(), Halt> {
    let mut batches = Batches::new(BATCH_BYTES);
    if clears {
        batches.clear(key);
    }
    let mut sink = |bytes: &[u8]| -> Result<(), Halt> {
        out.command(&[b"APPLYBATCH", bytes]);
        Ok(out.may_send()?)
    };
    batches.add_key(at, key, &mut sink)?;
    batches.flush(&mut sink)
}

/// Keys of which a part of the same difference was sent already.
#[derive(Debug, Default)]
pub struct Sent(BTreeSet<Vec<u8>>);

/// Sends what has become of keys that changed between two moments. The target has them as they were
/// at `old`. What changed may come in parts, at the same moments; `sent` is empty before the first.
/// `now_ms` is asked for each key: a part may take long.
///
/// # Errors
/// See [`Halt`].
pub fn changes(
    (old, new): (&Snapshot<'_>, &Snapshot<'_>),
    (dirty, sent): (Dirty, &mut Sent),
    now_ms: impl Fn() -> u64,
    out: &mut dyn Out,
) -> Result<(), Halt> {
    for (name, subs) in dirty.into_keys() {
        // The difference of a list, or of a stream, is not for one that has a part of it.
        let is_sent = sent.0.contains(&name);
        let was = if is_sent { None } else { Stored::find(old, &name)? };
        let now = Stored::find(new, &name)?;
        let kind = now.as_ref().and_then(|now| now.header()?.kind());
        change((old, new), (was, now), (&name, is_sent), (&subs, now_ms()), out)?;
        if matches!(kind, Some(Type::List | Type::Stream)) {
            sent.0.insert(name);
        }
        out.may_send()?;
    }
    Ok(())
}

fn change(
    moments: (&Snapshot<'_>, &Snapshot<'_>),
    (was, now): (Option<Stored>, Option<Stored>),
    (name, is_sent): (&[u8], bool),
    (subs, now_ms): (&Subs, u64),
    out: &mut dyn Out,
) -> Result<(), Halt> {
    let (old, new) = moments;
    let Some(now) = now else {
        out.command(&[b"DEL", name]);
        return Ok(());
    };
    let header = now.header().ok_or_else(|| corrupt("metadata is too short"))?;
    if header.is_dead(now_ms) {
        out.command(&[b"DEL", name]);
        return Ok(());
    }
    let is_now = way(new, &now, &header)?;
    if is_now == Way::Commands(Type::String) {
        // SET replaces whatever there is.
        return whole(new, &now, now_ms, out);
    }
    let before = was.as_ref().and_then(|was| Some((was, was.header()?)));
    // Sub-keys of this version may lie at the target that have gone here since.
    let is_known =
        is_sent || before.as_ref().is_some_and(|(_, was)| version(was) == version(&header));
    let anew = |out: &mut dyn Out| anew(new, &now, (now_ms, is_known), out);
    let before = before.filter(|(_, was)| goes_on(was, &header, now_ms));
    let Some((was, was_header)) = before else { return anew(out) };
    if way(old, was, &was_header)? != is_now {
        return anew(out);
    }
    let Way::Commands(kind) = is_now else {
        let mut batches = Batches::new(usize::MAX);
        batches.add_part(new, &now, subs.iter())?;
        return batches.flush(&mut |bytes: &[u8]| -> Result<(), Halt> {
            out.command(&[b"APPLYBATCH", bytes]);
            Ok(())
        });
    };
    let pair = Pair { moments, was: (was, &was_header), now: (&now, &header), subs };
    if !pair.send(kind, out)? {
        return anew(out);
    }
    match (was_header.expire_ms, header.expire_ms) {
        (0, 0) => {}
        (_, 0) => out.command(&[b"PERSIST", name]),
        // Also the same one: the target's key may have ended before it got this, which has made
        // another one then.
        (_, end) => end_at(&now, end, out),
    }
    Ok(())
}

fn version(header: &Header<'_>) -> Option<u64> {
    header.version_and_size().map(|(version, _)| version)
}

/// Whether a key is still the one that the target has.
fn goes_on(was: &Header<'_>, now: &Header<'_>, now_ms: u64) -> bool {
    let is_empty =
        |header: &Header<'_>| header.version_and_size().is_some_and(|(_, size)| size == 0);
    let may_be_empty = was.kind().is_some_and(Type::may_be_empty);
    let may_be_gone = was.expire_ms != 0
        && was.expire_ms != now.expire_ms
        && was.expire_ms < now_ms.saturating_add(SOON_MS);
    // One without elements was not sent.
    was.kind() == now.kind()
        && version(was) == version(now)
        && !may_be_gone
        && (may_be_empty || !is_empty(was))
        && !(was.expire_ms != 0 && was.expire_ms < now_ms)
}

/// Instead of what the target has, which may be of the same version (`is_known`): DEL leaves its
/// sub-keys to compactions.
fn anew(
    at: &Snapshot<'_>,
    key: &Stored,
    (now_ms, is_known): (u64, bool),
    out: &mut dyn Out,
) -> Result<(), Halt> {
    out.command(&[b"DEL", &key.name]);
    let header = key.header().ok_or_else(|| corrupt("metadata is too short"))?;
    if is_known && !header.is_dead(now_ms) && way(at, key, &header)? == Way::Records {
        records(at, key, true, out)?;
        return Ok(out.may_send()?);
    }
    whole(at, key, now_ms, out)
}

/// A key at two moments.
struct Pair<'a, 's> {
    moments: (&'a Snapshot<'s>, &'a Snapshot<'s>),
    was: (&'a Stored, &'a Header<'a>),
    now: (&'a Stored, &'a Header<'a>),
    subs: &'a Subs,
}

impl Pair<'_, '_> {
    /// Sends the difference; false if that is the whole key.
    fn send(&self, kind: Type, out: &mut dyn Out) -> Result<bool, Halt> {
        match kind {
            Type::List => self.list(out),
            Type::Bitmap => self.bitmap(out).map(|()| true),
            Type::Stream => self.stream(out).map(|()| true),
            _ => self.elements(kind, out).map(|()| true),
        }
    }

    /// Calls `visit` with each sub-key of the current version that was touched, in order: its name,
    /// what it was and what it is.
    fn for_each(
        &self,
        mut visit: impl FnMut(&[u8], Option<&[u8]>, Option<&[u8]>) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let (key, _) = self.now;
        let (Some(prefix), Some(family)) = (key.prefix(), key.family()) else { return Ok(()) };
        for (_, internal) in self.subs.iter().filter(|(place, _)| *place == family) {
            let Some(sub) = internal.strip_prefix(&*prefix) else { continue };
            let was = self.moments.0.find(family, internal)?;
            let now = self.moments.1.find(family, internal)?;
            visit(sub, was.as_deref(), now.as_deref())?;
        }
        Ok(())
    }

    fn elements(&self, kind: Type, out: &mut dyn Out) -> Result<(), Halt> {
        let name = &self.now.0.name;
        let [add, remove]: [&[u8]; 2] = match kind {
            Type::Hash => [b"HSET", b"HDEL"],
            Type::Set => [b"SADD", b"SREM"],
            Type::Zset => [b"ZADD", b"ZREM"],
            _ => [b"SIADD", b"SIREM"],
        };
        // What comes is sent before what goes: the key is never empty in between.
        let mut items = Items::new(out, add, name);
        self.for_each(|sub, _, now| match now {
            Some(value) => items.add(elements(kind, sub, value)?),
            None => Ok(()),
        })?;
        items.close();
        let mut items = Items::new(out, remove, name);
        self.for_each(|sub, _, now| match now {
            Some(_) => Ok(()),
            None => items.add(vec![parts::name_of(kind, sub)?]),
        })?;
        items.close();
        Ok(())
    }

    fn bitmap(&self, out: &mut dyn Out) -> Result<(), Halt> {
        let (key, header) = self.now;
        let mut highest = None;
        self.for_each(|sub, was, now| {
            let before = (was.unwrap_or_default(), now.unwrap_or_default());
            bits(&key.name, sub, before, out, &mut highest)
        })?;
        let size = |header: &Header<'_>| header.version_and_size().map(|(_, size)| size);
        if size(header) != size(self.was.1) {
            reach(key, header, highest, out);
        }
        Ok(())
    }

    fn stream(&self, out: &mut dyn Out) -> Result<(), Halt> {
        let (key, header) = self.now;
        self.for_each(|sub, was, now| match (was, now) {
            (None, Some(value)) => {
                entry(&key.name, sub, value, out)?;
                Ok(out.may_send()?)
            }
            _ => Ok(()),
        })?;
        let mut items = Items::new(out, b"XDEL", &key.name);
        self.for_each(|sub, _, now| match now {
            Some(_) => Ok(()),
            None => {
                let id = Id::from_bytes(sub).ok_or_else(|| corrupt("an entry without its id"))?;
                items.add(vec![id.to_string().into_bytes()])
            }
        })?;
        items.close();
        known_of(key, header, out)
    }

    /// A list is cut to what is left of it, what was replaced is set, and what came at its ends is
    /// pushed.
    fn list(&self, out: &mut dyn Out) -> Result<bool, Halt> {
        let (key, header) = self.now;
        let (was, now) = (ends(self.was.1)?, ends(header)?);
        let stays = Ends { head: was.head.max(now.head), tail: was.tail.min(now.tail) };
        if stays.head >= stays.tail {
            return Ok(false);
        }
        if stays != was {
            let rank = |index: u64| index.saturating_sub(was.head).to_string();
            let (first, last) = (rank(stays.head), rank(stays.tail.saturating_sub(1)));
            out.command(&[b"LTRIM", &key.name, first.as_bytes(), last.as_bytes()]);
        }
        self.for_each(|sub, was, now| {
            let value = now.filter(|now| stays.contains(sub) && was != Some(now));
            let Some(value) = value else { return Ok(()) };
            let rank = parts::index(sub)?.saturating_sub(stays.head).to_string();
            out.command(&[b"LSET", &key.name, rank.as_bytes(), value]);
            Ok(out.may_send()?)
        })?;
        self.pushed((now.head..stays.head).rev(), b"LPUSH", out)?;
        self.pushed(stays.tail..now.tail, b"RPUSH", out)?;
        Ok(true)
    }

    fn pushed(
        &self,
        indexes: impl Iterator<Item = u64>,
        word: &[u8],
        out: &mut dyn Out,
    ) -> Result<(), Halt> {
        let (key, _) = self.now;
        let (Some(prefix), Some(family)) = (key.prefix(), key.family()) else { return Ok(()) };
        let mut items = Items::new(out, word, &key.name);
        for index in indexes {
            let internal = [&*prefix, &index.to_be_bytes()].concat();
            let value = self.moments.1.find(family, &internal)?;
            let value = value.ok_or_else(|| corrupt("an element of a list is missing"))?;
            items.add(vec![value.to_vec()])?;
        }
        items.close();
        Ok(())
    }
}
