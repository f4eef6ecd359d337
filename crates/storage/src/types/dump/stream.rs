//! Streams: their payload, and their way into a key.

use std::collections::{BTreeMap, BTreeSet};

use rdb::write::{self, StreamState};
use rdb::{Part, Read as EntriesRead};

use crate::types::CommandError;
use crate::types::object::{IfEmpty, Object};
use crate::types::stream::{self, Consumer, Group, Id, InGroup, Pending, STREAM, Span, Stream};
use crate::types::strings::MAX_BYTES;
use crate::{At, Direction, Snapshot, Txn};

fn to_rdb(id: Id) -> rdb::Id {
    rdb::Id { ms: id.ms, seq: id.seq }
}

fn of_rdb(id: rdb::Id) -> Id {
    Id { ms: id.ms, seq: id.seq }
}

/// The payload of a stream that is there.
pub(super) fn payload(read: &Snapshot<'_>, at: &At<'_>) -> Result<Vec<u8>, CommandError> {
    let found = stream::find(read, at)?.ok_or(CommandError::NoSuchKey)?;
    let mut out = write::Stream::default();
    let all = (Direction::Forward, u64::MAX);
    stream::range(read, &found, Span::ALL, all, |id, fields| {
        if out.len_bytes() <= MAX_BYTES {
            out.entry(to_rdb(id), fields);
        }
    })?;
    let mut groups = Vec::new();
    for (name, group) in stream::groups(read, &found)? {
        groups.push(group_of(read, at, name, &group)?);
    }
    if out.len_bytes() > MAX_BYTES {
        return Err(CommandError::TooLong);
    }
    let state = StreamState {
        last: to_rdb(found.tail.last_generated),
        max_deleted: to_rdb(found.tail.max_deleted),
        entries_added: found.tail.entries_added,
    };
    Ok(out.finish(&state, &groups))
}

fn group_of(
    read: &Snapshot<'_>,
    at: &At<'_>,
    name: Vec<u8>,
    group: &Group,
) -> Result<write::Group, CommandError> {
    let found = stream::find(read, at)?.ok_or(CommandError::NoSuchKey)?;
    let inside = InGroup::new(at, found, &name, *group);
    let mut consumers: Vec<(Vec<u8>, u64)> = Vec::new();
    let mut places = BTreeMap::new();
    for (consumer, known) in inside.consumers(read)? {
        places.insert(consumer.clone(), consumers.len());
        consumers.push((consumer, known.seen_ms));
    }
    let mut pending = Vec::new();
    inside.walk_pending(read, Span::ALL, Direction::Forward, |id, one| {
        // Kvrocks' own records may name a consumer that is gone.
        let consumer = *places.entry(one.consumer).or_insert_with_key(|name| {
            consumers.push((name.clone(), one.delivered_ms));
            consumers.len() - 1
        });
        let (delivered_ms, count) = (one.delivered_ms, one.count);
        pending.push(write::Pending { id: to_rdb(id), delivered_ms, count, consumer });
        Ok(true)
    })?;
    let (last_delivered, entries_read) = (to_rdb(group.last_delivered), group.entries_read);
    Ok(write::Group { name, last_delivered, entries_read, consumers, pending })
}

/// A stream on its way into a key.
pub(super) struct StreamSink {
    stream: Option<Object<Stream>>,
    entries: u64,
    /// What is known of it came: the entries are over.
    is_known: bool,
    groups: BTreeSet<Vec<u8>>,
    /// Consumers of the group that comes.
    consumers: BTreeSet<Vec<u8>>,
}

impl StreamSink {
    /// For a stream that is new.
    pub(super) fn new(stream: Object<Stream>) -> Self {
        let (groups, consumers) = (BTreeSet::new(), BTreeSet::new());
        Self { stream: Some(stream), entries: 0, is_known: false, groups, consumers }
    }

    /// Takes the next part.
    pub(super) fn take(
        &mut self,
        txn: &mut Txn<'_>,
        at: &At<'_>,
        part: &Part<'_>,
    ) -> Result<(), CommandError> {
        match *part {
            Part::Entry { id, fields } if !self.is_known => self.entry(txn, of_rdb(id), fields),
            Part::Stream { length, last, max_deleted, entries_added } if !self.is_known => {
                self.is_known = true;
                let added = entries_added.unwrap_or(length);
                self.state(length, of_rdb(last), (of_rdb(max_deleted), added))
            }
            Part::Consumer { group, name, seen_ms, active_ms, pending } if self.is_known => {
                if !self.consumers.insert(name.to_vec()) {
                    return Err(CommandError::malformed("a consumer is there twice"));
                }
                let active_ms = Consumer::time(active_ms);
                let consumer = Consumer { pending, seen_ms, active_ms };
                self.within(at, group, Group::default(), |inside| {
                    inside.put_consumer(txn, name, &consumer);
                })
            }
            Part::Pending { group, consumer, id, delivered_ms, count } if self.is_known => {
                let pending = Pending { delivered_ms, count, consumer: consumer.to_vec() };
                self.within(at, group, Group::default(), |inside| {
                    inside.put_pending(txn, of_rdb(id), &pending);
                })
            }
            Part::Group { name, last_delivered, entries_read, consumers, pending }
                if self.is_known =>
            {
                if !self.groups.insert(name.to_vec()) {
                    return Err(CommandError::malformed("a group is there twice"));
                }
                self.consumers.clear();
                let last_delivered = of_rdb(last_delivered);
                let stream = self.stream.as_ref();
                let entries_read = match entries_read {
                    EntriesRead::Known(read) => Some(read),
                    EntriesRead::Unknown => None,
                    EntriesRead::Unsaid => {
                        stream.and_then(|stream| stream.added_up_to(last_delivered))
                    }
                };
                let group = Group { consumers, pending, last_delivered, entries_read };
                self.within(at, name, group, |inside| inside.store(txn))
            }
            _ => Err(CommandError::malformed("a stream has parts that are none of it")),
        }
    }

    fn entry(&mut self, txn: &mut Txn<'_>, id: Id, fields: &[&[u8]]) -> Result<(), CommandError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if id <= stream.tail.last {
            return Err(CommandError::malformed("entries of a stream are not in their order"));
        }
        if self.entries == 0 {
            stream.tail.first = id;
            stream.tail.recorded_first = id;
        }
        stream.tail.last = id;
        self.entries += 1;
        stream.put_written(txn, STREAM, &id.to_bytes(), |value| {
            stream::fields::write(fields, value);
        });
        Ok(())
    }

    fn state(
        &mut self,
        length: u64,
        last: Id,
        (max_deleted, entries_added): (Id, u64),
    ) -> Result<(), CommandError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if length != self.entries || last < stream.tail.last {
            return Err(CommandError::malformed("a stream has other entries than it says"));
        }
        stream.size = length;
        stream.tail.last_generated = last;
        stream.tail.max_deleted = max_deleted;
        stream.tail.entries_added = entries_added;
        Ok(())
    }

    /// Lends the stream to a group.
    fn within(
        &mut self,
        at: &At<'_>,
        name: &[u8],
        group: Group,
        write: impl FnOnce(&InGroup<'_>),
    ) -> Result<(), CommandError> {
        if let Some(stream) = self.stream.take() {
            let inside = InGroup::new(at, stream, name, group);
            write(&inside);
            self.stream = Some(inside.stream);
        }
        Ok(())
    }

    /// Writes what is known of the whole.
    pub(super) fn finish(self, txn: &mut Txn<'_>) -> Result<(), CommandError> {
        let Some(mut stream) = self.stream.filter(|_| self.is_known) else {
            return Err(CommandError::malformed("a stream ends before it says what it is"));
        };
        stream.tail.groups = self.groups.len() as u64;
        stream.store(txn, IfEmpty::Keep);
        Ok(())
    }
}
