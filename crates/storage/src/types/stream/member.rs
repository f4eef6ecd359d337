//! Records of groups: the group, its consumers, and what was delivered to them and is not
//! acknowledged yet. All lie behind the entries of their stream.
//!
//! Numbers that count records are only as good as the commands that kept them: Kvrocks' own are off
//! in places. So nothing here relies on them but what shows them.

use super::{Id, STREAM, Span, Stream, find};
use crate::key::GROUPS;
use crate::types::CommandError;
use crate::types::bounds::SubRange;
use crate::types::object::Object;
use crate::{At, Direction, Read, Txn};

/// What becomes of an entry that is delivered or changes hands takes that many bytes of a batch at
/// least, and of what is kept meanwhile.
pub(super) const RECORD_BYTES: usize = 64;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Group = 1,
    Consumer = 2,
    Pending = 3,
}

/// Where the records of a part begin.
fn of_part(part: Part) -> Vec<u8> {
    [&GROUPS[..], &[part as u8]].concat()
}

/// Where those of a group begin: its name, with its length before it.
fn of_group(part: Part, group: &[u8]) -> Vec<u8> {
    let mut key = of_part(part);
    push_name(&mut key, group);
    key
}

fn push_name(key: &mut Vec<u8>, name: &[u8]) {
    key.extend((name.len() as u64).to_be_bytes());
    key.extend_from_slice(name);
}

/// A name with its length before it, and what follows.
fn split_name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)
}

/// The numbers that a record begins with, and the rest.
fn numbers<const N: usize>(value: &[u8]) -> Result<([u64; N], &[u8]), CommandError> {
    let cut = || CommandError::corrupt("a record of a stream's group is cut");
    let (mut numbers, mut rest) = ([0; N], value);
    for number in &mut numbers {
        let (bytes, behind) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        (*number, rest) = (u64::from_be_bytes(*bytes), behind);
    }
    Ok((numbers, rest))
}

fn written(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A group of consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Group {
    /// How many they are.
    pub consumers: u64,
    /// Entries delivered and not acknowledged.
    pub pending: u64,
    /// The last entry that was delivered.
    pub last_delivered: Id,
    /// Which one it was of all that were ever added, if that is known.
    pub entries_read: Option<u64>,
}

impl Group {
    fn decode(value: &[u8]) -> Result<Self, CommandError> {
        let ([consumers, pending, ms, seq, read], _) = numbers(value)?;
        // The unknown is -1; nothing else below zero means anything.
        let entries_read = Some(read).filter(|read| i64::try_from(*read).is_ok());
        Ok(Self { consumers, pending, last_delivered: Id { ms, seq }, entries_read })
    }

    fn encode(&self) -> Vec<u8> {
        let Id { ms, seq } = self.last_delivered;
        let read = self.entries_read.unwrap_or(u64::MAX);
        // The last one is the lag, which is computed when it is asked for.
        written(&[self.consumers, self.pending, ms, seq, read, 0])
    }
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Consumer {
    /// Entries delivered to it and not acknowledged.
    pub pending: u64,
    /// When it last asked, Unix ms.
    pub seen_ms: u64,
    /// When it last got something, Unix ms. As in Kvrocks what is new counts as active; `None`, for
    /// never, only a Redis says that sends one.
    pub active_ms: Option<u64>,
}

/// How old what is known of when a consumer asked may become, ms: one that asks again and again and
/// gets nothing does not write each time.
const SEEN_AGE_MS: u64 = 1000;

impl Consumer {
    /// One that asks just now.
    fn new(now_ms: u64) -> Self {
        Self { pending: 0, seen_ms: now_ms, active_ms: Some(now_ms) }
    }

    fn decode(value: &[u8]) -> Result<Self, CommandError> {
        let ([pending, seen_ms, active_ms], _) = numbers(value)?;
        Ok(Self { pending, seen_ms, active_ms: Self::time(active_ms) })
    }

    fn encode(&self) -> Vec<u8> {
        written(&[self.pending, self.seen_ms, self.active_ms.unwrap_or(u64::MAX)])
    }

    /// A time as it is stored: -1 is none, as in Redis.
    pub(in crate::types) fn time(stored: u64) -> Option<u64> {
        Some(stored).filter(|ms| i64::try_from(*ms).is_ok())
    }
}

/// An entry that was delivered and is not acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pending {
    /// When it was delivered last, Unix ms.
    pub delivered_ms: u64,
    /// How often.
    pub count: u64,
    /// To whom.
    pub consumer: Vec<u8>,
}

impl Pending {
    fn decode(value: &[u8]) -> Result<Self, CommandError> {
        let ([delivered_ms, count], rest) = numbers(value)?;
        let (consumer, _) = split_name(rest)
            .ok_or_else(|| CommandError::corrupt("a record of a pending entry is cut"))?;
        Ok(Self { delivered_ms, count, consumer: consumer.to_vec() })
    }

    fn encode(&self) -> Vec<u8> {
        let mut value = written(&[self.delivered_ms, self.count]);
        push_name(&mut value, &self.consumer);
        value
    }

    /// How long ago it was delivered, in milliseconds.
    pub fn idle_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.delivered_ms)
    }
}

/// A group that is there, in its stream.
#[derive(Debug)]
pub struct InGroup<'n> {
    /// The stream.
    pub stream: Object<Stream>,
    /// Name of the group.
    pub name: &'n [u8],
    /// What is known of it.
    pub group: Group,
    /// Unix ms of the command.
    pub now_ms: u64,
}

/// A group; `None` if there is none, or no stream.
///
/// # Errors
/// Wrong type.
pub fn find_group<'n>(
    read: &impl Read,
    at: &At<'_>,
    name: &'n [u8],
) -> Result<Option<InGroup<'n>>, CommandError> {
    match find(read, at)? {
        Some(stream) => InGroup::of(read, at, stream, name),
        None => Ok(None),
    }
}

impl<'n> InGroup<'n> {
    /// A group of this stream; `None` if there is none.
    pub(super) fn of(
        read: &impl Read,
        at: &At<'_>,
        stream: Object<Stream>,
        name: &'n [u8],
    ) -> Result<Option<Self>, CommandError> {
        let value = stream.element(read, STREAM, &of_group(Part::Group, name))?;
        let Some(value) = value else { return Ok(None) };
        let group = Group::decode(&value)?;
        drop(value);
        Ok(Some(Self { stream, name, group, now_ms: at.scope.now_ms }))
    }

    /// Whether a stream has such a group.
    pub(super) fn is_there(
        read: &impl Read,
        stream: &Object<Stream>,
        name: &[u8],
    ) -> Result<bool, CommandError> {
        Ok(stream.element(read, STREAM, &of_group(Part::Group, name))?.is_some())
    }

    /// A group that is made anew, once it is stored.
    pub(in crate::types) fn new(
        at: &At<'_>,
        stream: Object<Stream>,
        name: &'n [u8],
        group: Group,
    ) -> Self {
        Self { stream, name, group, now_ms: at.scope.now_ms }
    }

    /// Writes what is known of the group.
    pub(in crate::types) fn store(&self, txn: &mut Txn<'_>) {
        let key = of_group(Part::Group, self.name);
        self.stream.put(txn, STREAM, &[&key], &[&self.group.encode()]);
    }

    /// All records of the group.
    ///
    /// # Errors
    /// What removes them is no batch any more; those of the engine.
    pub(super) fn records(&self, txn: &Txn<'_>) -> Result<Vec<Vec<u8>>, CommandError> {
        let (mut keys, mut bytes) = (vec![of_group(Part::Group, self.name)], 0);
        for part in [Part::Consumer, Part::Pending] {
            let range = SubRange::starting_with(&of_group(part, self.name));
            let mut subs = self.stream.elements(txn, STREAM, &range, Direction::Forward)?;
            while let Some((sub, _)) = subs.next()? {
                bytes += sub.len();
                txn.must_have_room(bytes)?;
                keys.push(sub.to_vec());
            }
        }
        Ok(keys)
    }

    fn consumer_key(&self, name: &[u8]) -> Vec<u8> {
        let mut key = of_group(Part::Consumer, self.name);
        push_name(&mut key, name);
        key
    }

    /// A consumer of the group; `None` if there is none.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn consumer(
        &self,
        read: &impl Read,
        name: &[u8],
    ) -> Result<Option<Consumer>, CommandError> {
        let value = self.stream.element(read, STREAM, &self.consumer_key(name))?;
        value.map(|value| Consumer::decode(&value)).transpose()
    }

    /// The consumer that asks just now, made if it is not there: the group counts it then.
    pub(super) fn asking(
        &mut self,
        read: &impl Read,
        name: &[u8],
    ) -> Result<Consumer, CommandError> {
        match self.consumer(read, name)? {
            Some(consumer) => Ok(Consumer { seen_ms: self.now_ms, ..consumer }),
            None => {
                self.group.consumers = self.group.consumers.saturating_add(1);
                Ok(Consumer::new(self.now_ms))
            }
        }
    }

    /// Notes that a consumer asks and gets nothing: it is made if it is not there, as in Redis 7.2.
    /// Returns whether the group counts one more, and is to be stored.
    pub(super) fn note_asking(
        &mut self,
        txn: &mut Txn<'_>,
        name: &[u8],
    ) -> Result<bool, CommandError> {
        let seen_ms = self.consumer(txn, name)?.map(|known| known.seen_ms);
        if seen_ms.is_some_and(|seen_ms| self.now_ms.saturating_sub(seen_ms) < SEEN_AGE_MS) {
            return Ok(false);
        }
        let consumer = self.asking(txn, name)?;
        self.put_consumer(txn, name, &consumer);
        Ok(seen_ms.is_none())
    }

    pub(in crate::types) fn put_consumer(
        &self,
        txn: &mut Txn<'_>,
        name: &[u8],
        consumer: &Consumer,
    ) {
        self.stream.put(txn, STREAM, &[&self.consumer_key(name)], &[&consumer.encode()]);
    }

    pub(super) fn remove_consumer(&self, txn: &mut Txn<'_>, name: &[u8]) {
        self.stream.remove(txn, STREAM, &[&self.consumer_key(name)]);
    }

    /// A consumer has so many pending entries less.
    pub(super) fn relieve(
        &self,
        txn: &mut Txn<'_>,
        name: &[u8],
        count: u64,
    ) -> Result<(), CommandError> {
        if let Some(mut consumer) = self.consumer(txn, name)? {
            consumer.pending = consumer.pending.saturating_sub(count);
            self.put_consumer(txn, name, &consumer);
        }
        Ok(())
    }

    fn pending_key(&self, id: Id) -> Vec<u8> {
        let mut key = of_group(Part::Pending, self.name);
        key.extend(id.to_bytes());
        key
    }

    /// An entry of the group that is pending; `None` if it is not.
    pub(super) fn pending(
        &self,
        read: &impl Read,
        id: Id,
    ) -> Result<Option<Pending>, CommandError> {
        let value = self.stream.element(read, STREAM, &self.pending_key(id))?;
        value.map(|value| Pending::decode(&value)).transpose()
    }

    pub(in crate::types) fn put_pending(&self, txn: &mut Txn<'_>, id: Id, pending: &Pending) {
        self.stream.put(txn, STREAM, &[&self.pending_key(id)], &[&pending.encode()]);
    }

    pub(super) fn remove_pending(&self, txn: &mut Txn<'_>, id: Id) {
        self.stream.remove(txn, STREAM, &[&self.pending_key(id)]);
    }

    /// Calls `visit` with the pending entries of a span, until it says `false`.
    pub(in crate::types) fn walk_pending(
        &self,
        read: &impl Read,
        span: Span,
        direction: Direction,
        mut visit: impl FnMut(Id, Pending) -> Result<bool, CommandError>,
    ) -> Result<(), CommandError> {
        let prefix = of_group(Part::Pending, self.name);
        let mut behind = self.pending_key(span.last);
        behind.push(0);
        let range = SubRange::between(&self.pending_key(span.first), &behind);
        let mut subs = self.stream.elements(read, STREAM, &range, direction)?;
        while let Some((sub, value)) = subs.next()? {
            let id = sub.strip_prefix(&*prefix).and_then(Id::from_bytes);
            let id =
                id.ok_or_else(|| CommandError::corrupt("a pending entry has no identifier"))?;
            if !visit(id, Pending::decode(value)?)? {
                break;
            }
        }
        Ok(())
    }

    /// The consumers of the group, by name.
    ///
    /// # Errors
    /// A record is none.
    pub fn consumers(&self, read: &impl Read) -> Result<Vec<(Vec<u8>, Consumer)>, CommandError> {
        let prefix = of_group(Part::Consumer, self.name);
        named(read, &self.stream, &prefix, Consumer::decode)
    }
}

/// The groups of a stream, by name.
///
/// # Errors
/// A record is none.
pub fn groups(
    read: &impl Read,
    stream: &Object<Stream>,
) -> Result<Vec<(Vec<u8>, Group)>, CommandError> {
    named(read, stream, &of_part(Part::Group), Group::decode)
}

/// Records whose keys end with a name, in the order of the names: on disk the shorter ones come
/// first.
fn named<T>(
    read: &impl Read,
    stream: &Object<Stream>,
    prefix: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, CommandError>,
) -> Result<Vec<(Vec<u8>, T)>, CommandError> {
    let range = SubRange::starting_with(prefix);
    let mut found = Vec::new();
    let mut subs = stream.elements(read, STREAM, &range, Direction::Forward)?;
    while let Some((sub, value)) = subs.next()? {
        // Entries of the last possible millisecond lie among the groups, and are no names.
        let name = sub.strip_prefix(prefix).and_then(split_name);
        if let Some((name, [])) = name {
            found.push((name.to_vec(), decode(value)?));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_are_those_of_kvrocks() {
        let key = of_group(Part::Consumer, b"g");
        assert_eq!(key, b"\xff\xff\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\0\0\0\x01g");
        let pending = Pending { delivered_ms: 1, count: 2, consumer: b"c".to_vec() };
        let value = b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01c";
        assert_eq!(pending.encode(), value);
        let consumer = Consumer { pending: 1, seen_ms: 2, active_ms: None };
        let value = b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(consumer.encode(), value);
        assert_eq!(Consumer::decode(value).unwrap(), consumer);
        let group = Group { entries_read: None, ..Group::default() };
        assert_eq!(group.encode().get(32..), Some(&written(&[u64::MAX, 0])[..]));
    }

    proptest! {
        #[test]
        fn foreign_records_never_panic(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = (Group::decode(&value).is_ok(), Consumer::decode(&value).is_ok());
            if let Ok(pending) = Pending::decode(&value) {
                prop_assert_eq!(Pending::decode(&pending.encode()).unwrap(), pending);
            }
            let _ = split_name(&value);
        }
    }
}
