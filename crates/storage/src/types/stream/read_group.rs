//! XREADGROUP: what is new to a group, and what a consumer has got and not acknowledged.
//!
//! One deliberate difference from Kvrocks: an entry counts as delivered once when it is delivered,
//! at that time, and reading it again changes neither, all as in Redis. And what makes a consumer
//! and what it reads are one batch.

use super::member::{InGroup, Pending};
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
/// written.
///
/// # Errors
/// Those of the engine.
pub fn read_new(
    txn: &mut Txn<'_>,
    mut group: InGroup<'_>,
    reader: &Reader<'_>,
) -> Result<Vec<Entry>, CommandError> {
    let mut entries: Vec<Entry> = Vec::new();
    let Some(span) = Span::after(group.group.last_delivered) else { return Ok(entries) };
    group.stream.walk(txn, span, Direction::Forward, |id, value| {
        entries.push((id, value.into()));
        Ok((entries.len() as u64) < reader.count)
    })?;
    if entries.is_empty() {
        return Ok(entries);
    }
    txn.log(Type::Stream.log_data());
    let mut consumer = group.asking(txn, reader.consumer)?;
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

/// XREADGROUP with an identifier: what this consumer has got behind it and not acknowledged; `None`
/// in place of an entry that was deleted since.
///
/// # Errors
/// Those of the engine.
pub fn read_history(
    txn: &mut Txn<'_>,
    mut group: InGroup<'_>,
    after: Id,
    reader: &Reader<'_>,
) -> Result<Vec<Delivered>, CommandError> {
    let mut ids = Vec::new();
    if let Some(span) = Span::after(after) {
        group.walk_pending(txn, span, Direction::Forward, |id, pending| {
            if pending.consumer == reader.consumer {
                ids.push(id);
            }
            Ok((ids.len() as u64) < reader.count)
        })?;
    }
    let entries = ids
        .into_iter()
        .map(|id| Ok((id, group.stream.entry(txn, id)?.map(|value| (*value).into()))))
        .collect::<Result<_, CommandError>>()?;
    let before = group.group;
    let consumer = group.asking(txn, reader.consumer)?;
    txn.log(Type::Stream.log_data());
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
