//! XCLAIM and XAUTOCLAIM: pending entries that change hands. What was deleted from the stream is
//! not pending any more once somebody looks.

use super::member::{InGroup, Pending, RECORD_BYTES};
use super::{Entry, Id, Span, Stream};
use crate::types::CommandError;
use crate::types::kind::Type;
use crate::types::object::Object;
use crate::{Direction, Txn};

/// How entries change hands.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The consumer that gets them.
    pub consumer: &'a [u8],
    /// Delivered so long ago at least, in milliseconds.
    pub idle_ms: u64,
    /// When they count as delivered, Unix ms.
    pub delivered_ms: u64,
    /// RETRYCOUNT.
    pub count: Option<u64>,
    /// FORCE: also what is not pending.
    pub forces: bool,
    /// JUSTID: that is no delivery, and the entries that are returned have no fields.
    pub only_ids: bool,
    /// LASTID: the group has read so far at least.
    pub last_id: Option<Id>,
}

impl Claim<'_> {
    /// A pending entry in its new hands.
    fn applied(&self, before: &Pending) -> Pending {
        let count = before.count.saturating_add(u64::from(!self.only_ids));
        Pending {
            delivered_ms: self.delivered_ms,
            count: self.count.unwrap_or(count),
            consumer: self.consumer.to_vec(),
        }
    }

    /// What is kept of an entry, if it is there; nothing of it where only its identifier is shown.
    fn value(
        &self,
        txn: &Txn<'_>,
        stream: &Object<Stream>,
        id: Id,
    ) -> Result<Option<Box<[u8]>>, CommandError> {
        let value = stream.entry(txn, id)?;
        Ok(value.map(|value| if self.only_ids { Box::default() } else { (*value).into() }))
    }
}

/// Puts entries into the hands of one consumer, which is made if it is not there.
struct Hands<'g, 'n> {
    group: &'g mut InGroup<'n>,
    consumer: Option<super::Consumer>,
}

impl Hands<'_, '_> {
    /// `before` is `None` for one that was not pending.
    fn take(
        &mut self,
        txn: &mut Txn<'_>,
        (id, before): (Id, Option<&Pending>),
        claim: &Claim<'_>,
    ) -> Result<(), CommandError> {
        let mut consumer = match self.consumer {
            Some(consumer) => consumer,
            None => self.group.asking(txn, claim.consumer)?,
        };
        consumer.active_ms = Some(self.group.now_ms);
        match before {
            Some(before) if before.consumer == claim.consumer => {}
            Some(before) => {
                self.group.relieve(txn, &before.consumer, 1)?;
                consumer.pending = consumer.pending.saturating_add(1);
            }
            None => {
                self.group.group.pending = self.group.group.pending.saturating_add(1);
                consumer.pending = consumer.pending.saturating_add(1);
            }
        }
        self.consumer = Some(consumer);
        // As in Redis it counts as delivered once before that.
        let first = Pending { count: 1, ..Pending::default() };
        self.group.put_pending(txn, id, &claim.applied(before.unwrap_or(&first)));
        Ok(())
    }

    /// An entry that was deleted from the stream is not pending any more.
    fn drop(
        &mut self,
        txn: &mut Txn<'_>,
        (id, before): (Id, &Pending),
        claim: &Claim<'_>,
    ) -> Result<(), CommandError> {
        self.group.remove_pending(txn, id);
        self.group.group.pending = self.group.group.pending.saturating_sub(1);
        match &mut self.consumer {
            // What is known of the one who claims is written at the end.
            Some(consumer) if before.consumer == claim.consumer => {
                consumer.pending = consumer.pending.saturating_sub(1);
                Ok(())
            }
            _ => self.group.relieve(txn, &before.consumer, 1),
        }
    }

    /// Writes what is known of the consumer, and of the group if that changed.
    fn close(self, txn: &mut Txn<'_>, name: &[u8], writes_group: bool) -> Result<(), CommandError> {
        let has_changed = match &self.consumer {
            Some(consumer) => {
                self.group.put_consumer(txn, name, consumer);
                true
            }
            None => self.group.note_asking(txn, name)?,
        };
        if writes_group || has_changed {
            self.group.store(txn);
        }
        Ok(())
    }
}

/// XCLAIM: puts entries into other hands. Returns those that were.
///
/// # Errors
/// Those of the engine.
pub fn claim(
    txn: &mut Txn<'_>,
    mut group: InGroup<'_>,
    ids: &[Id],
    claim: &Claim<'_>,
) -> Result<Vec<Entry>, CommandError> {
    txn.log(Type::Stream.log_data());
    let before = group.group;
    if let Some(last) = claim.last_id {
        group.group.last_delivered = group.group.last_delivered.max(last);
    }
    let now_ms = group.now_ms;
    let mut hands = Hands { group: &mut group, consumer: None };
    let (mut claimed, mut bytes) = (Vec::new(), 0);
    for id in ids {
        let pending = hands.group.pending(txn, *id)?;
        let value = claim.value(txn, &hands.group.stream, *id)?;
        match (value, pending) {
            (None, Some(pending)) => hands.drop(txn, (*id, &pending), claim)?,
            (Some(value), Some(pending)) if pending.idle_ms(now_ms) >= claim.idle_ms => {
                hands.take(txn, (*id, Some(&pending)), claim)?;
                bytes += value.len();
                claimed.push((*id, value));
            }
            (Some(value), None) if claim.forces => {
                hands.take(txn, (*id, None), claim)?;
                bytes += value.len();
                claimed.push((*id, value));
            }
            _ => {}
        }
        txn.must_have_room(bytes)?;
    }
    let has_changed = hands.group.group != before;
    hands.close(txn, claim.consumer, has_changed)?;
    Ok(claimed)
}

/// Which pending entries change hands.
#[derive(Debug, Clone, Copy)]
pub struct AutoClaim {
    /// From this one on.
    pub first: Id,
    /// So many at most, deleted ones included; ten times as many are looked at.
    pub count: u64,
}

/// What did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AutoClaimed {
    /// Where to go on; nothing at the end.
    pub next: Id,
    /// Those in new hands.
    pub entries: Vec<Entry>,
    /// Those that are not in the stream any more, and not pending either.
    pub deleted: Vec<Id>,
}

/// Looks of XAUTOCLAIM for each entry that is wanted.
const LOOKS: u64 = 10;

/// XAUTOCLAIM: puts entries into other hands that were delivered too long ago.
///
/// # Errors
/// Those of the engine.
pub fn autoclaim(
    txn: &mut Txn<'_>,
    mut group: InGroup<'_>,
    auto: &AutoClaim,
    claim: &Claim<'_>,
) -> Result<AutoClaimed, CommandError> {
    let mut found = AutoClaimed::default();
    let (mut looks, mut chosen) = (auto.count.saturating_mul(LOOKS), Vec::new());
    let mut bytes = 0_usize;
    let span = Span { first: auto.first, last: Id::MAX };
    let (stream, now_ms) = (&group.stream, group.now_ms);
    group.walk_pending(txn, span, Direction::Forward, |id, pending| {
        if looks == 0 || chosen.len() as u64 >= auto.count {
            found.next = id;
            return Ok(false);
        }
        looks -= 1;
        let value = claim.value(txn, stream, id)?;
        if value.is_none() || pending.idle_ms(now_ms) >= claim.idle_ms {
            bytes += RECORD_BYTES + value.as_ref().map_or(0, |value| value.len());
            txn.must_have_room(bytes)?;
            chosen.push((id, pending, value));
        }
        Ok(true)
    })?;
    txn.log(Type::Stream.log_data());
    let before = group.group;
    let mut hands = Hands { group: &mut group, consumer: None };
    for (id, pending, value) in chosen {
        match value {
            Some(value) => {
                hands.take(txn, (id, Some(&pending)), claim)?;
                found.entries.push((id, value));
            }
            None => {
                hands.drop(txn, (id, &pending), claim)?;
                found.deleted.push(id);
            }
        }
    }
    let has_changed = hands.group.group != before;
    hands.close(txn, claim.consumer, has_changed)?;
    Ok(found)
}
