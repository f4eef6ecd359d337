//! XREADGROUP: what is new to a group, and what a consumer has got and not acknowledged.
//!
//! An entry counts as delivered once when it is delivered, and once more each time its consumer
//! reads it again, at that time, as in Redis. What makes a consumer and what it reads are one
//! batch.
//!
//! Without COUNT a consumer may ask for more than there is memory for: what it reads is no more
//! than a batch may be.

use super::member::{InGroup, Pending, RECORD_BYTES};
use super::{Entry, Id, Span};
use crate::types::CommandError;
use crate::types::kind::Type;
use crate::{Direction, Txn};

/// What a consumer asks for.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// Its name.
    pub consumer: &'a [u8],
    /// So many entries at most.
    pub count: u64,
    /// NOACK: what is delivered is not pending.
    pub acknowledges: bool,
}

/// XREADGROUP with `>`: delivers what no consumer of the group has got. Without any nothing is
/// written but that the consumer has asked.
///
/// # Errors
/// Those of the engine.
pub fn read_new(
    txn: &mut Txn<'_>,
    mut group: InGroup<'_>,
    reader: &Reader<'_>,
) -> Result<Vec<Entry>, CommandError> {
    let (mut entries, mut bytes): (Vec<Entry>, usize) = (Vec::new(), 0);
    if let Some(span) = Span::after(group.group.last_delivered) {
        group.stream.walk(txn, span, Direction::Forward, |id, value| {
            bytes += RECORD_BYTES + value.len();
            txn.must_have_room(bytes)?;
            entries.push((id, value.into()));
            Ok((entries.len() as u64) < reader.count)
        })?;
    }
    txn.log(Type::Stream.log_data());
    if entries.is_empty() {
        if group.note_asking(txn, reader.consumer)? {
            group.store(txn);
        }
        return Ok(entries);
    }
    let mut consumer = group.asking(txn, reader.consumer)?;
    if !reader.acknowledges {
        consumer.active_ms = Some(group.now_ms);
    }
    // Behind the last pending entry there is nothing to look for.
    let mut last_pending = None;
    group.walk_pending(txn, Span::ALL, Direction::Reverse, |id, _| {
        last_pending = Some(id);
        Ok(false)
    })?;
    for (id, _) in &entries {
        group.advance(*id);
        if reader.acknowledges {
            continue;
        }
        let before = match last_pending.is_some_and(|last| *id <= last) {
            true => group.pending(txn, *id)?,
            false => None,
        };
        match before.map(|before| before.consumer) {
            None => {
                group.group.pending = group.group.pending.saturating_add(1);
                consumer.pending = consumer.pending.saturating_add(1);
            }
            Some(other) if other != reader.consumer => {
                group.relieve(txn, &other, 1)?;
                consumer.pending = consumer.pending.saturating_add(1);
            }
            Some(_) => {}
        }
        let (delivered_ms, consumer) = (group.now_ms, reader.consumer.to_vec());
        group.put_pending(txn, *id, &Pending { delivered_ms, count: 1, consumer });
    }
    group.store(txn);
    group.put_consumer(txn, reader.consumer, &consumer);
    Ok(entries)
}

/// An entry that was delivered before: its fields as they lie, if it is still there.
pub type Delivered = (Id, Option<Box<[u8]>>);

/// XREADGROUP with an identifier: what this consumer has got behind it and not acknowledged, which
/// is delivered once more; `None` in place of an entry that was deleted since.
///
/// # Errors
/// Those of the engine.
pub fn read_history(
    txn: &mut Txn<'_>,
    mut group: InGroup<'_>,
    after: Id,
    reader: &Reader<'_>,
) -> Result<Vec<Delivered>, CommandError> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    if let Some(span) = Span::after(after) {
        let stream = &group.stream;
        group.walk_pending(txn, span, Direction::Forward, |id, pending| {
            if pending.consumer == reader.consumer {
                let value: Option<Box<[u8]>> = stream.entry(txn, id)?.map(|value| (*value).into());
                bytes += RECORD_BYTES + value.as_ref().map_or(0, |value| value.len());
                txn.must_have_room(bytes)?;
                found.push((id, pending.count, value));
            }
            Ok((found.len() as u64) < reader.count)
        })?;
    }
    let before = group.group;
    let consumer = group.asking(txn, reader.consumer)?;
    txn.log(Type::Stream.log_data());
    let mut entries = Vec::with_capacity(found.len());
    for (id, count, value) in found {
        // One that was deleted is shown, and not delivered.
        if value.is_some() {
            let (delivered_ms, consumer) = (group.now_ms, reader.consumer.to_vec());
            let count = count.saturating_add(1);
            group.put_pending(txn, id, &Pending { delivered_ms, count, consumer });
        }
        entries.push((id, value));
    }
    if group.group != before {
        group.store(txn);
    }
    group.put_consumer(txn, reader.consumer, &consumer);
    Ok(entries)
}

impl InGroup<'_> {
    /// The group has read as far as this entry.
    fn advance(&mut self, id: Id) {
        let read = self.group.entries_read.filter(|_| !self.stream.has_gaps_from(id));
        self.group.entries_read = match read {
            Some(read) => Some(read.saturating_add(1)),
            None if self.stream.tail.entries_added > 0 => self.stream.added_up_to(id),
            None => self.group.entries_read,
        };
        self.group.last_delivered = id;
    }
}
