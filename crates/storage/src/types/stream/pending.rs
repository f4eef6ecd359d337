//! What was delivered and is not acknowledged yet: XPENDING shows it, XACK ends it.

use std::collections::BTreeMap;

use super::member::{InGroup, Pending};
use super::{Id, Span};
use crate::types::CommandError;
use crate::types::kind::Type;
use crate::{Direction, Error, Read, Txn, budget};

/// XACK. Returns how many of the entries were pending.
///
/// # Errors
/// Those of the engine.
pub fn ack(txn: &mut Txn<'_>, mut group: InGroup<'_>, ids: &[Id]) -> Result<u64, CommandError> {
    let (mut acknowledged, mut relieved) = (0, BTreeMap::<Vec<u8>, u64>::new());
    txn.log(Type::Stream.log_data());
    for id in ids {
        let Some(pending) = group.pending(txn, *id)? else { continue };
        group.remove_pending(txn, *id);
        acknowledged += 1;
        *relieved.entry(pending.consumer).or_default() += 1;
    }
    if acknowledged > 0 {
        group.group.pending = group.group.pending.saturating_sub(acknowledged);
        group.store(txn);
    }
    for (consumer, count) in relieved {
        group.relieve(txn, &consumer, count)?;
    }
    Ok(acknowledged)
}

/// What XPENDING says of a whole group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// How many entries are pending.
    pub count: u64,
    /// The first one and the last one.
    pub ends: Option<(Id, Id)>,
    /// Consumers that have some, and how many, by name.
    pub consumers: Vec<(Vec<u8>, u64)>,
}

/// XPENDING of a whole group.
///
/// # Errors
/// Those of the engine.
pub fn summary(read: &impl Read, group: &InGroup<'_>) -> Result<Summary, CommandError> {
    let outermost = |direction| {
        let mut found = None;
        let visit = |id, _| {
            found = Some(id);
            Ok(false)
        };
        group.walk_pending(read, Span::ALL, direction, visit)?;
        Ok::<_, CommandError>(found)
    };
    let Some(first) = outermost(Direction::Forward)? else { return Ok(Summary::default()) };
    let last = outermost(Direction::Reverse)?.unwrap_or(first);
    let mut consumers = group.consumers(read)?;
    consumers.retain(|(_, consumer)| consumer.pending > 0);
    Ok(Summary {
        count: group.group.pending,
        ends: Some((first, last)),
        consumers: consumers.into_iter().map(|(name, its)| (name, its.pending)).collect(),
    })
}

/// Which pending entries are listed.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a> {
    /// Between these.
    pub span: Span,
    /// So many at most.
    pub count: u64,
    /// Delivered so long ago at least, in milliseconds.
    pub idle_ms: u64,
    /// Of this consumer.
    pub consumer: Option<&'a [u8]>,
}

/// XPENDING one by one.
///
/// # Errors
/// Those of the engine.
pub fn list_pending(
    read: &impl Read,
    group: &InGroup<'_>,
    filter: &Filter<'_>,
) -> Result<Vec<(Id, Pending)>, CommandError> {
    let mut found = Vec::new();
    if filter.count == 0 {
        return Ok(found);
    }
    group.walk_pending(read, filter.span, Direction::Forward, |id, pending| {
        let is_theirs = filter.consumer.is_none_or(|consumer| consumer == pending.consumer);
        if is_theirs && pending.idle_ms(group.now_ms) >= filter.idle_ms {
            gather(&pending)?;
            found.push((id, pending));
        }
        Ok((found.len() as u64) < filter.count)
    })?;
    Ok(found)
}

/// One more entry is held.
fn gather(pending: &Pending) -> Result<(), Error> {
    budget::gather(pending.consumer.len() + size_of::<(Id, Pending)>())
}

/// A pending entry of a consumer that is known: its identifier, when it was delivered last (Unix
/// ms) and how often.
pub type Delivery = (Id, u64, u64);

/// What is pending in a group, and for each of its consumers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed {
    /// The first ones of the group.
    pub all: Vec<(Id, Pending)>,
    /// The first ones of each consumer, by its name.
    pub of_consumers: BTreeMap<Vec<u8>, Vec<Delivery>>,
}

/// What is pending in a group, and for each of these consumers of it: so many at most for each. It
/// walks once, however many they are.
///
/// # Errors
/// Those of the engine.
pub fn list_all(
    read: &impl Read,
    group: &InGroup<'_>,
    consumers: impl Iterator<Item = Vec<u8>>,
    count: u64,
) -> Result<Listed, CommandError> {
    let of_consumers = consumers.map(|name| (name, Vec::new())).collect();
    let mut listed = Listed { all: Vec::new(), of_consumers };
    let mut wanting = listed.of_consumers.len();
    group.walk_pending(read, Span::ALL, Direction::Forward, |id, pending| {
        let theirs = listed.of_consumers.get_mut(&pending.consumer);
        if let Some(theirs) = theirs.filter(|theirs| (theirs.len() as u64) < count) {
            gather(&pending)?;
            theirs.push((id, pending.delivered_ms, pending.count));
            wanting -= usize::from(theirs.len() as u64 == count);
        }
        if (listed.all.len() as u64) < count {
            gather(&pending)?;
            listed.all.push((id, pending));
        }
        Ok(wanting > 0 || (listed.all.len() as u64) < count)
    })?;
    Ok(listed)
}
