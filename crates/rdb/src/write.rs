//! Values as DUMP answers them: in plain forms, which Redis reads since version 4.0, streams since
//! 7.0, and hashes whose fields end since 7.4.
//!
//! They are the forms of Kvrocks, to the byte: the footer says version 6, a list is a quicklist of
//! ziplists with an element each, whole numbers in strings are packed, nothing is compressed.

use crate::checksum::seal;
use crate::part::Id;

/// The version in the footer of what every Redis reads. It is older than some of the types, which
/// Redis does not mind.
const VERSION: u16 = 6;
/// That of streams.
const STREAM_VERSION: u16 = 10;
/// That of hashes whose fields end.
const TIMED_VERSION: u16 = 12;

/// Appends a number in the form of lengths.
fn push_length(out: &mut Vec<u8>, length: u64) {
    match length {
        0..0x40 => out.push(length as u8),
        0x40..0x4000 => out.extend_from_slice(&(length as u16 | 0x4000).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

/// Appends a string; a whole number of up to 32 bits as such, if it comes back as the same text.
fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    let number = match text.len() {
        1..=11 => std::str::from_utf8(text).ok().and_then(|text| text.parse::<i32>().ok()),
        _ => None,
    };
    let is_plain = |number: &i32| itoa::Buffer::new().format(*number).as_bytes() == text;
    let Some(number) = number.filter(is_plain) else { return push_bytes(out, text) };
    if let Ok(number) = i8::try_from(number) {
        out.push(0xc0);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i16::try_from(number) {
        out.push(0xc1);
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        out.push(0xc2);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// Appends a string as it is.
pub(crate) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_length(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The payload of a string.
pub fn string(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    push_string(&mut out, text);
    seal(out, VERSION)
}

/// The payload of a value with elements, of which the number is known at the end.
#[derive(Debug)]
pub struct Elements {
    code: u8,
    count: u64,
    out: Vec<u8>,
}

impl Elements {
    fn new(code: u8) -> Self {
        Self { code, count: 0, out: Vec::new() }
    }

    /// A list.
    pub fn list() -> Self {
        Self::new(14)
    }

    /// A set.
    pub fn set() -> Self {
        Self::new(2)
    }

    /// A sorted set.
    pub fn zset() -> Self {
        Self::new(5)
    }

    /// A hash without ends.
    pub fn hash() -> Self {
        Self::new(4)
    }

    /// How long it is so far.
    pub fn len_bytes(&self) -> usize {
        self.out.len()
    }

    /// The next element of a list: a ziplist of its own.
    pub fn element(&mut self, element: &[u8]) {
        let mut entry = Vec::with_capacity(element.len() + 6);
        entry.push(0);
        match element.len() {
            length @ 0..0x40 => entry.push(length as u8),
            length @ 0x40..0x4000 => {
                entry.extend_from_slice(&(length as u16 | 0x4000).to_be_bytes());
            }
            length => {
                entry.push(0x80);
                entry.extend_from_slice(&(length as u32).to_be_bytes());
            }
        }
        entry.extend_from_slice(element);
        let total = 4 + 4 + 2 + entry.len() + 1;
        push_length(&mut self.out, total as u64);
        self.out.extend_from_slice(&(total as u32).to_le_bytes());
        // The last element begins where the first one does.
        self.out.extend_from_slice(&10_u32.to_le_bytes());
        self.out.extend_from_slice(&1_u16.to_le_bytes());
        self.out.extend_from_slice(&entry);
        self.out.push(0xff);
        self.count += 1;
    }

    /// The next member of a set.
    pub fn member(&mut self, member: &[u8]) {
        push_string(&mut self.out, member);
        self.count += 1;
    }

    /// The next member of a sorted set.
    pub fn scored(&mut self, member: &[u8], score: f64) {
        push_string(&mut self.out, member);
        self.out.extend_from_slice(&score.to_le_bytes());
        self.count += 1;
    }

    /// The next field of a hash.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        push_string(&mut self.out, name);
        push_string(&mut self.out, value);
        self.count += 1;
    }

    /// The payload.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.out.len() + 20);
        out.push(self.code);
        push_length(&mut out, self.count);
        out.extend_from_slice(&self.out);
        seal(out, VERSION)
    }
}

/// The payload of a hash whose fields end: (name, value, end in Unix ms or 0).
pub fn timed_hash<'a>(fields: &[(&'a [u8], &'a [u8], u64)]) -> Vec<u8> {
    let ends = fields.iter().map(|(_, _, end_ms)| *end_ms).filter(|end_ms| *end_ms > 0);
    let least_ms = ends.min().unwrap_or(0);
    let mut out = vec![24];
    out.extend_from_slice(&least_ms.to_le_bytes());
    push_length(&mut out, fields.len() as u64);
    for (name, value, end_ms) in fields {
        let later = if *end_ms == 0 { 0 } else { end_ms - least_ms + 1 };
        push_length(&mut out, later);
        push_string(&mut out, name);
        push_string(&mut out, value);
    }
    seal(out, TIMED_VERSION)
}

/// What is known of a stream beside its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamState {
    /// Of the newest entry, also if it is deleted.
    pub last: Id,
    /// The greatest one that was deleted.
    pub max_deleted: Id,
    /// Entries ever added.
    pub entries_added: u64,
}

/// A group of consumers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Its name.
    pub name: Vec<u8>,
    /// The last entry that was delivered.
    pub last_delivered: Id,
    /// Which one it was of all that were ever added, if that is known.
    pub entries_read: Option<u64>,
    /// Its consumers: name, and when it last asked, Unix ms.
    pub consumers: Vec<(Vec<u8>, u64)>,
    /// What is pending, in the order of the identifiers.
    pub pending: Vec<Pending>,
}

/// An entry that was delivered and is not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pending {
    /// The entry.
    pub id: Id,
    /// When it was delivered last, Unix ms.
    pub delivered_ms: u64,
    /// How often.
    pub count: u64,
    /// Which of the consumers has it, as its place among them.
    pub consumer: usize,
}

/// The payload of a stream.
#[derive(Debug, Default)]
pub struct Stream {
    /// Listpacks that are done, each with its name before it.
    out: Vec<u8>,
    nodes: u64,
    length: u64,
    first: Id,
    open: Option<Node>,
}

/// A listpack that still grows.
#[derive(Debug)]
struct Node {
    first: Id,
    entries: u64,
    names: Vec<Vec<u8>>,
    /// Its elements behind those about the whole.
    list: List,
}

/// Entries of a listpack, as many as Redis puts there itself.
const NODE_ENTRIES: u64 = 100;
/// So long it may be before the next one begins.
const NODE_BYTES: usize = 4096;

impl Stream {
    /// Appends an entry, which comes behind the ones before: fields and values in turn.
    pub fn entry(&mut self, id: Id, fields: &[&[u8]]) {
        let is_full = |node: &Node| {
            node.entries >= NODE_ENTRIES
                || node.list.bytes.len() >= NODE_BYTES
                || id.ms < node.first.ms
                || i64::try_from(id.ms - node.first.ms).is_err()
        };
        if self.open.as_ref().is_some_and(is_full) {
            self.close();
        }
        if self.length == 0 {
            self.first = id;
        }
        self.length += 1;
        let names: Vec<&[u8]> = fields.iter().step_by(2).copied().collect();
        let node = self.open.get_or_insert_with(|| Node {
            first: id,
            entries: 0,
            names: names.iter().map(|name| name.to_vec()).collect(),
            list: List::default(),
        });
        node.entries += 1;
        let is_same = node.names.iter().map(Vec::as_slice).eq(names.iter().copied());
        let list = &mut node.list;
        list.number(if is_same { 2 } else { 0 });
        list.number(id.ms.wrapping_sub(node.first.ms) as i64);
        list.number(id.seq.wrapping_sub(node.first.seq) as i64);
        let count = fields.len() as i64;
        if is_same {
            fields.iter().skip(1).step_by(2).for_each(|value| list.bytes(value));
            list.number(count / 2 + 3);
        } else {
            list.number(count / 2);
            fields.iter().for_each(|word| list.bytes(word));
            list.number(count + 4);
        }
    }

    fn close(&mut self) {
        let Some(node) = self.open.take() else { return };
        let mut list = List::default();
        list.number(node.entries as i64);
        list.number(0);
        list.number(node.names.len() as i64);
        node.names.iter().for_each(|name| list.bytes(name));
        list.number(0);
        list.append(&node.list);
        push_bytes(&mut self.out, &node.first.to_bytes());
        push_bytes(&mut self.out, &list.finish());
        self.nodes += 1;
    }

    /// How long it is so far.
    pub fn len_bytes(&self) -> usize {
        self.out.len() + self.open.as_ref().map_or(0, |node| node.list.bytes.len())
    }

    /// The payload, once all entries are there.
    pub fn finish(mut self, state: &StreamState, groups: &[Group]) -> Vec<u8> {
        self.close();
        let mut out = vec![19];
        push_length(&mut out, self.nodes);
        out.extend_from_slice(&self.out);
        push_length(&mut out, self.length);
        for id in [state.last, self.first, state.max_deleted] {
            push_id(&mut out, id);
        }
        push_length(&mut out, state.entries_added);
        push_length(&mut out, groups.len() as u64);
        groups.iter().for_each(|group| push_group(&mut out, group));
        seal(out, STREAM_VERSION)
    }
}

fn push_id(out: &mut Vec<u8>, id: Id) {
    push_length(out, id.ms);
    push_length(out, id.seq);
}

fn push_group(out: &mut Vec<u8>, group: &Group) {
    push_bytes(out, &group.name);
    push_id(out, group.last_delivered);
    push_length(out, group.entries_read.unwrap_or(u64::MAX));
    push_length(out, group.pending.len() as u64);
    for pending in &group.pending {
        out.extend_from_slice(&pending.id.to_bytes());
        out.extend_from_slice(&pending.delivered_ms.to_le_bytes());
        push_length(out, pending.count);
    }
    push_length(out, group.consumers.len() as u64);
    let mut own = vec![Vec::new(); group.consumers.len()];
    for pending in &group.pending {
        own.get_mut(pending.consumer).into_iter().for_each(|ids| ids.push(pending.id));
    }
    for ((name, seen_ms), ids) in group.consumers.iter().zip(own) {
        push_bytes(out, name);
        out.extend_from_slice(&seen_ms.to_le_bytes());
        push_length(out, ids.len() as u64);
        ids.iter().for_each(|id| out.extend_from_slice(&id.to_bytes()));
    }
}

/// The elements of a listpack.
#[derive(Debug, Default)]
struct List {
    bytes: Vec<u8>,
    count: u64,
}

impl List {
    fn number(&mut self, number: i64) {
        let mut element = Vec::with_capacity(9);
        match number {
            0..128 => element.push(number as u8),
            -4096..4096 => {
                element.extend_from_slice(&((number as u16 & 0x1fff) | 0xc000).to_be_bytes());
            }
            -0x8000..0x8000 => {
                element.push(0xf1);
                element.extend_from_slice(&(number as i16).to_le_bytes());
            }
            -0x80_0000..0x80_0000 => {
                element.push(0xf2);
                element.extend((number as i32).to_le_bytes().iter().take(3));
            }
            -0x8000_0000..0x8000_0000 => {
                element.push(0xf3);
                element.extend_from_slice(&(number as i32).to_le_bytes());
            }
            _ => {
                element.push(0xf4);
                element.extend_from_slice(&number.to_le_bytes());
            }
        }
        self.push(&element, &[]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        match bytes.len() {
            length @ 0..64 => self.push(&[length as u8 | 0x80], bytes),
            length @ 64..4096 => self.push(&(length as u16 | 0xe000).to_be_bytes(), bytes),
            length => {
                let [a, b, c, d] = (length as u32).to_le_bytes();
                self.push(&[0xf0, a, b, c, d], bytes);
            }
        }
    }

    fn push(&mut self, code: &[u8], bytes: &[u8]) {
        self.bytes.extend_from_slice(code);
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend(crate::packed::back_length(code.len() + bytes.len()));
        self.count += 1;
    }

    fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
    }

    fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len() + 7);
        out.extend_from_slice(&((self.bytes.len() + 7) as u32).to_le_bytes());
        let count = u16::try_from(self.count).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&self.bytes);
        out.push(0xff);
        out
    }
}

#[cfg(test)]
mod tests;
