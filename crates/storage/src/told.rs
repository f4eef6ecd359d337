//! Write batches told as commands, for clients that follow the log without knowing how data is
//! stored.
//!
//! As in Kvrocks: one command for each record of an element, by the type that the log data before
//! it names, and those of lists and bitmaps by the command that the log data names. Of a key that
//! took the place of another one (RENAME, RESTORE, the stores of sets) the elements are told, and
//! not that older ones have gone.
//!
//! Nothing is told of types whose values no single commands make (HyperLogLogs, filters, sketches,
//! time series), of bitmaps that are copied, of groups of consumers, scripts and messages, of
//! FLUSHDB and FLUSHALL, and of slots that come or go.

use std::collections::BTreeMap;

use crate::batch::{self, Record};
use crate::key::{is_of_group, split_internal, split_namespace};
use crate::types::fields::{Form, Times};
use crate::types::head::Header;
use crate::types::kind::Type;
use crate::types::object::Tail as _;
use crate::types::stream::{Id, State, fields};
use crate::types::{json, log, score};
use crate::{Error, Family};

/// A command: its words.
pub type Command = Vec<Vec<u8>>;

/// What batches tell, in the order of their records.
#[derive(Debug, Default)]
pub struct Told {
    cluster: bool,
    commands: BTreeMap<Vec<u8>, Vec<Command>>,
}

impl Told {
    /// Of a database of a cluster, whose keys carry their slots, or of another one.
    pub fn new(cluster: bool) -> Self {
        Self { cluster, commands: BTreeMap::new() }
    }

    /// One more batch. A record whose key or value is none tells nothing.
    ///
    /// # Errors
    /// It is no batch.
    pub fn add(&mut self, batch: &[u8]) -> Result<(), Error> {
        batch::header(batch)?;
        let mut said = Said::default();
        for record in batch::records(batch) {
            // What cannot be read is nobody's command.
            let _ = match record? {
                Record::LogData(data) => {
                    said = Said { ends: said.ends, ..Said::of(data) };
                    Some(())
                }
                Record::DeleteRange { .. } => None,
                Record::Put { family: Family::Metadata, key, value } => {
                    self.metadata(&mut said, key, value)
                }
                Record::Put { family: Family::Default, key, value } => {
                    self.element(&mut said, key, value)
                }
                Record::Put { family: Family::Stream, key, value } => self.entry(key, value),
                Record::Delete { family: Family::Metadata, key } => self.deletion(&mut said, key),
                Record::Delete { family: Family::Default, key } => self.removal(&mut said, key),
                Record::Delete { family: Family::Stream, key } => self.removed_entry(key),
                // What follows from these, and what is no key.
                Record::Put { .. } | Record::Delete { .. } => None,
            };
        }
        for ((namespace, name), end) in said.ends {
            self.tell_end(&Place { namespace, name, sub: &[] }, end);
        }
        Ok(())
    }

    /// The commands of each namespace.
    pub fn by_namespace(&self) -> impl ExactSizeIterator<Item = (&[u8], &[Command])> {
        self.commands.iter().map(|(name, commands)| (name.as_slice(), commands.as_slice()))
    }

    fn tell(&mut self, place: &Place<'_>, words: &[&[u8]]) {
        let command = words.iter().map(|word| word.to_vec()).collect();
        match self.commands.get_mut(place.namespace) {
            Some(commands) => commands.push(command),
            None => {
                self.commands.insert(place.namespace.to_vec(), vec![command]);
            }
        }
    }

    fn tell_end(&mut self, place: &Place<'_>, end_ms: u64) {
        self.tell(place, &[b"PEXPIREAT", place.name, end_ms.to_string().as_bytes()]);
    }

    fn metadata<'b>(&mut self, said: &mut Said<'b>, key: &'b [u8], value: &'b [u8]) -> Option<()> {
        let place = Place::of_key(key, self.cluster)?;
        let (name, header) = (place.name, Header::decode(value)?);
        let kind = header.kind()?;
        match kind {
            Type::String => self.tell(&place, &[b"SET", name, header.rest]),
            Type::Json => {
                let text = json::text_of(&header)?;
                self.tell(&place, &[b"JSON.SET", name, b"$", text.as_bytes()]);
            }
            Type::Stream if said.kind == Some(kind) && said.words == b"XSETID" => {
                let state = State::read(header.tail())?;
                let [last, added, deleted] = [
                    state.last_generated.to_string(),
                    state.entries_added.to_string(),
                    state.max_deleted.to_string(),
                ];
                self.tell(
                    &place,
                    &[
                        b"XSETID",
                        name,
                        last.as_bytes(),
                        b"ENTRIESADDED",
                        added.as_bytes(),
                        b"MAXDELETEDID",
                        deleted.as_bytes(),
                    ],
                );
            }
            Type::List if said.kind == Some(kind) => {
                if let Some((side, pivot, element)) = said.insertion() {
                    self.tell(&place, &[b"LINSERT", name, side, pivot, element]);
                    said.is_told = true;
                }
            }
            // One that has set no bit.
            Type::Bitmap if said.kind == Some(kind) => self.bits(said, &place, None),
            _ => {}
        }
        said.ends.remove(&(place.namespace, name));
        match header.expire_ms {
            0 if said.is_expiry && kind != Type::String => {
                self.tell(&place, &[b"PERSIST", name]);
            }
            0 => {}
            end if said.is_expiry || kind.is_single() => self.tell_end(&place, end),
            // Its elements may come behind it.
            end => {
                said.ends.insert((place.namespace, name), end);
            }
        }
        Some(())
    }

    fn element<'b>(&mut self, said: &mut Said<'b>, key: &'b [u8], value: &'b [u8]) -> Option<()> {
        let place = Place::of_element(key, self.cluster)?;
        let (name, sub) = (place.name, place.sub);
        match said.kind? {
            Type::Hash => {
                let (end, value) = said.fields().split(value).ok()?;
                self.tell(&place, &[b"HSET", name, sub, value]);
                if end != 0 {
                    let end = end.to_string();
                    let words: [&[u8]; 6] =
                        [b"HPEXPIREAT", name, end.as_bytes(), b"FIELDS", b"1", sub];
                    self.tell(&place, &words);
                }
            }
            Type::Set => self.tell(&place, &[b"SADD", name, sub]),
            Type::Zset => {
                let score = score::format(score::decode(value.try_into().ok()?));
                self.tell(&place, &[b"ZADD", name, score.as_bytes(), sub]);
            }
            Type::SortedInt => self.tell(&place, &[b"SIADD", name, number(sub)?.as_bytes()]),
            Type::List => {
                said.element = Some(value);
                match cut(said.words) {
                    (b"0", rank) => self.tell(&place, &[b"LSET", name, rank, value]),
                    (b"6", _) => self.tell(&place, &[b"LPUSH", name, value]),
                    // What is copied comes in order, and names no command.
                    (b"7" | b"", _) => self.tell(&place, &[b"RPUSH", name, value]),
                    _ => {}
                }
            }
            Type::Bitmap => self.bits(said, &place, Some(value)),
            _ => {}
        }
        Some(())
    }

    /// A segment of a bitmap, or that its size has changed.
    fn bits(&mut self, said: &mut Said<'_>, place: &Place<'_>, segment: Option<&[u8]>) {
        let (command, words) = cut(said.words);
        let mut told: Vec<&[u8]> = match (command, segment) {
            (b"9", Some(segment)) => {
                let (first, offset) = (integer(place.sub), integer(words));
                let Some((first, offset)) = first.zip(offset) else { return };
                let value: &[u8] = if is_set(segment, first, offset) { b"1" } else { b"0" };
                return self.tell(place, &[b"SETBIT", place.name, words, value]);
            }
            (b"10", _) if !said.is_told => vec![b"BITOP", cut(words).0, place.name],
            (b"11", _) if !said.is_told => vec![b"BITFIELD", place.name],
            _ => return,
        };
        said.is_told = true;
        let rest = if command == b"10" { cut(words).1 } else { words };
        told.extend(rest.split(|byte| *byte == b' '));
        self.tell(place, &told);
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (place, id) = self.place_of_entry(key)?;
        let mut words: Vec<&[u8]> = vec![b"XADD", place.name, id.as_bytes()];
        words.extend(fields::decode(value).ok()?);
        self.tell(&place, &words);
        Some(())
    }

    fn removed_entry(&mut self, key: &[u8]) -> Option<()> {
        let (place, id) = self.place_of_entry(key)?;
        self.tell(&place, &[b"XDEL", place.name, id.as_bytes()]);
        Some(())
    }

    /// Where an entry of a stream is, and its id; `None` for what groups of consumers have.
    fn place_of_entry<'k>(&self, key: &'k [u8]) -> Option<(Place<'k>, String)> {
        if is_of_group(key, self.cluster) {
            return None;
        }
        let place = Place::of_element(key, self.cluster)?;
        let id = Id::from_bytes(place.sub)?.to_string();
        Some((place, id))
    }

    fn deletion<'b>(&mut self, said: &mut Said<'b>, key: &'b [u8]) -> Option<()> {
        let place = Place::of_key(key, self.cluster)?;
        said.ends.remove(&(place.namespace, place.name));
        self.tell(&place, &[b"DEL", place.name]);
        Some(())
    }

    fn removal(&mut self, said: &mut Said<'_>, key: &[u8]) -> Option<()> {
        let place = Place::of_element(key, self.cluster)?;
        let (name, sub) = (place.name, place.sub);
        match said.kind? {
            Type::Hash => self.tell(&place, &[b"HDEL", name, sub]),
            Type::Set => self.tell(&place, &[b"SREM", name, sub]),
            Type::Zset => self.tell(&place, &[b"ZREM", name, sub]),
            Type::SortedInt => self.tell(&place, &[b"SIREM", name, number(sub)?.as_bytes()]),
            Type::List => match cut(said.words) {
                (b"3", _) => self.tell(&place, &[b"LPOP", name]),
                (b"4", _) => self.tell(&place, &[b"RPOP", name]),
                (command @ (b"2" | b"5" | b"12"), words) if !said.is_told => {
                    said.is_told = true;
                    let (first, second) = cut(words);
                    match command {
                        b"2" => self.tell(&place, &[b"LTRIM", name, first, second]),
                        b"5" => self.tell(&place, &[b"LREM", name, first, second]),
                        _ => {
                            let [to, from_end, to_end] = ways(words, name)?;
                            self.tell(&place, &[b"LMOVE", name, to, from_end, to_end]);
                        }
                    }
                }
                _ => {}
            },
            _ => {}
        }
        Some(())
    }
}

/// What log data says of the records behind it, and what is to be told at the end of the batch.
#[derive(Debug, Default)]
struct Said<'b> {
    /// The type of the elements.
    kind: Option<Type>,
    /// What stands behind it: the number of a command, and its words.
    words: &'b [u8],
    /// The records change nothing but when keys end.
    is_expiry: bool,
    /// The command of these words was told.
    is_told: bool,
    /// The last element of a list that was put.
    element: Option<&'b [u8]>,
    /// When keys end that are made of elements, by namespace and name.
    ends: BTreeMap<(&'b [u8], &'b [u8]), u64>,
}

impl<'b> Said<'b> {
    fn of(data: &'b [u8]) -> Self {
        let (kind, words) = cut(data);
        let kind = integer(kind).and_then(|id| Type::from_id(u8::try_from(id).ok()?));
        Self { kind, words, is_expiry: data == log::EXPIRE, ..Self::default() }
    }

    /// How fields of a hash are kept.
    fn fields(&self) -> Form {
        let timed = Form::Timed(Times::default());
        let (_, words) = cut(timed.log_data());
        if self.words == words { timed } else { Form::Plain }
    }

    /// LINSERT's side, pivot and element. Blanks within them are not escaped: the element is known
    /// by its record, and the pivot is what is left.
    fn insertion(&self) -> Option<(&'static [u8], &'b [u8], &'b [u8])> {
        let (command, words) = cut(self.words);
        if command != b"1" || self.is_told {
            return None;
        }
        let (side, words) = cut(words);
        let side: &'static [u8] = if side == b"1" { b"before" } else { b"after" };
        let known = self.element.and_then(|element| {
            let pivot = words.strip_suffix(element)?.strip_suffix(b" ")?;
            Some((side, pivot, element))
        });
        known.or_else(|| {
            let (pivot, element) = cut(words);
            (!element.contains(&b' ')).then_some((side, pivot, element))
        })
    }
}

/// Whose record it is.
#[derive(Debug, Clone, Copy)]
struct Place<'k> {
    namespace: &'k [u8],
    /// The key, as users write it.
    name: &'k [u8],
    /// Which element.
    sub: &'k [u8],
}

impl<'k> Place<'k> {
    fn of_key(key: &'k [u8], cluster: bool) -> Option<Self> {
        let (namespace, rest) = split_namespace(key)?;
        let name = if cluster { rest.get(2..)? } else { rest };
        Some(Self { namespace, name, sub: &[] })
    }

    fn of_element(key: &'k [u8], cluster: bool) -> Option<Self> {
        let (prefix, name, _) = split_internal(key, cluster)?;
        let (namespace, _) = split_namespace(prefix)?;
        let begin = prefix.len() + size_of::<u32>() + name.len() + size_of::<u64>();
        Some(Self { namespace, name, sub: key.get(begin..)? })
    }
}

/// The first word, and what stands behind the blank.
fn cut(text: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = text.splitn(2, |byte| *byte == b' ');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// The same from the end: what stands before the blank, and the last word.
fn cut_last(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().rposition(|byte| *byte == b' ')?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// What LMOVE's words say behind the source: the destination, and the two ends.
fn ways<'b>(words: &'b [u8], source: &[u8]) -> Option<[&'b [u8]; 3]> {
    let words = words.strip_prefix(source)?.strip_prefix(b" ")?;
    let (words, to_end) = cut_last(words)?;
    let (destination, from_end) = cut_last(words)?;
    Some([destination, from_end, to_end])
}

fn integer(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The text of a number of eight bytes.
fn number(sub: &[u8]) -> Option<String> {
    Some(u64::from_be_bytes(sub.try_into().ok()?).to_string())
}

/// A bit of a segment that begins at this byte of a bitmap. The lowest bit of a byte is the first.
fn is_set(segment: &[u8], first_byte: u64, offset: u64) -> bool {
    let place = (offset / 8).checked_sub(first_byte).and_then(|at| usize::try_from(at).ok());
    place.and_then(|at| segment.get(at)).is_some_and(|byte| byte >> (offset % 8) & 1 == 1)
}

#[cfg(test)]
mod tests;
