//! Streams: a sub-key for each entry, which is its identifier as sixteen bytes, in a family of
//! their own; behind the entries the groups of consumers (`member`). The metadata holds what is
//! known of the whole ([`State`]).
//!
//! Batches are those of Kvrocks: log data `8`, the entries, the metadata. A stream without entries
//! stays. Trimming counts as deleting, also for [`State::max_deleted`], which Redis leaves alone.
//!
//! Directories of Kvrocks may hold streams whose size says more than there is (its XGROUP DESTROY
//! removed entries too): what is listed is what is there.

mod claim;
mod edit;
pub mod fields;
mod group;
mod id;
mod lag;
mod member;
mod pending;
mod read_group;

pub use claim::{AutoClaim, AutoClaimed, Claim, autoclaim, claim};
pub use edit::{Addition, NewId, SetId, Strategy, Trim, add, del, set_id, trim};
pub use group::{
    Creation, Position, create_consumer, create_group, delete_consumer, destroy_group, set_group,
};
pub use id::{Id, Span};
pub use lag::lag;
pub use member::{Consumer, Group, InGroup, Pending, find_group, groups};
pub use pending::{Delivery, Filter, Listed, Summary, ack, list_all, list_pending, summary};
pub use read_group::{Delivered, Reader, read_history, read_new};

use super::bounds::SubRange;
use super::kind::Type;
use super::object::{Kind, Object, Tail};
use super::{CommandError, elements::Elements};
use crate::key::GROUPS;
use crate::{At, Direction, Family, Read, Value};

/// Why a stream refuses a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A new entry must come behind all that ever were.
    #[error("the identifier is not greater than the last one")]
    NotGreater,
    /// No entry can come behind the last possible one.
    #[error("no identifier is left")]
    NoneLeft,
    /// XSETID would go back before an entry that is there.
    #[error("the identifier is smaller than that of an entry")]
    BelowEntries,
    /// XSETID would count fewer entries than there are.
    #[error("fewer entries added than there are")]
    TooFewAdded,
}

/// An entry: its identifier, and its fields as they lie ([`fields::decode`]).
pub type Entry = (Id, Box<[u8]>);

/// The type.
#[derive(Debug)]
pub enum Stream {}

impl Kind for Stream {
    const TYPE: Type = Type::Stream;
    type Tail = State;
}

/// What is known of a stream beside its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// Of the newest entry, also if it is deleted: the next one comes behind it.
    pub last_generated: Id,
    /// Of the first entry; nothing if there is none.
    pub recorded_first: Id,
    /// The greatest one that was deleted.
    pub max_deleted: Id,
    /// Of the first entry; nothing if there is none.
    pub first: Id,
    /// Of the last entry; nothing if there is none.
    pub last: Id,
    /// Entries ever added.
    pub entries_added: u64,
    /// Groups of consumers.
    pub groups: u64,
}

/// Numbers in the metadata.
const NUMBERS: usize = 12;

impl Tail for State {
    fn fresh() -> Self {
        Self::default()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (found, []) = bytes.as_chunks::<8>() else { return None };
        // Old data does not count its groups.
        let mut numbers = [0; NUMBERS];
        numbers.get_mut(..found.len()).filter(|_| found.len() >= NUMBERS - 1)?;
        for (number, found) in numbers.iter_mut().zip(found) {
            *number = u64::from_be_bytes(*found);
        }
        let [a, b, c, d, e, f, g, h, i, j, entries_added, groups] = numbers;
        let id = |ms, seq| Id { ms, seq };
        Some(Self {
            last_generated: id(a, b),
            recorded_first: id(c, d),
            max_deleted: id(e, f),
            first: id(g, h),
            last: id(i, j),
            entries_added,
            groups,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let Self { last_generated, recorded_first, max_deleted, first, last, .. } = *self;
        let ids = [last_generated, recorded_first, max_deleted, first, last];
        out.extend_from_slice(ids.map(Id::to_bytes).as_flattened());
        let counts = [self.entries_added, self.groups];
        out.extend_from_slice(counts.map(u64::to_be_bytes).as_flattened());
    }
}

/// Where entries and groups lie.
pub(super) const STREAM: Family = Family::Stream;

impl Object<Stream> {
    /// Calls `visit` with entries and their values, until it says `false`.
    fn walk(
        &self,
        read: &impl Read,
        span: Span,
        direction: Direction,
        mut visit: impl FnMut(Id, &[u8]) -> Result<bool, CommandError>,
    ) -> Result<(), CommandError> {
        if span.first > span.last {
            return Ok(());
        }
        let mut subs = self.entries(read, span, direction)?;
        while let Some((sub, value)) = subs.next()? {
            // Groups lie among the entries of the last possible millisecond; their keys are longer.
            let Some(id) = Id::from_bytes(sub) else { continue };
            if !visit(id, value)? {
                break;
            }
        }
        Ok(())
    }

    fn entries<'r>(
        &self,
        read: &'r impl Read,
        span: Span,
        direction: Direction,
    ) -> Result<Elements<'r>, CommandError> {
        // What was deleted from the front is not passed over.
        let front = Some(self.tail.first).filter(|first| *first <= self.tail.last_generated);
        let first = front.map_or(span.first, |front| span.first.max(front)).to_bytes();
        // Nor are groups, where the last possible millisecond has no entries.
        let limit = match self.tail.last_generated.ms {
            u64::MAX => vec![u8::MAX; 17],
            _ => GROUPS.to_vec(),
        };
        let behind =
            span.last.next().map_or_else(|| limit.clone(), |next| next.to_bytes().to_vec());
        let range = SubRange::between(&first, &behind.min(limit));
        Ok(self.elements(read, STREAM, &range, direction)?)
    }

    /// The first entry in a direction.
    fn outermost(
        &self,
        read: &impl Read,
        direction: Direction,
    ) -> Result<Option<Id>, CommandError> {
        let mut found = None;
        self.walk(read, Span::ALL, direction, |id, _| {
            found = Some(id);
            Ok(false)
        })?;
        Ok(found)
    }

    /// The value of an entry.
    fn entry<'r>(&self, read: &'r impl Read, id: Id) -> Result<Option<Value<'r>>, CommandError> {
        Ok(self.element(read, STREAM, &id.to_bytes())?)
    }

    /// Whether something was deleted behind an identifier, and not from the front.
    fn has_gaps_from(&self, id: Id) -> bool {
        let deleted = self.tail.max_deleted;
        self.size > 0 && deleted != Id::MIN && self.tail.first <= deleted && id <= deleted
    }

    /// How many entries were ever added up to this one, if that can be told.
    pub(super) fn added_up_to(&self, id: Id) -> Option<u64> {
        let State { entries_added, last_generated, max_deleted, first, .. } = self.tail;
        if entries_added == 0 {
            return Some(0);
        }
        if id == last_generated || self.size == 0 && id < last_generated {
            return Some(entries_added);
        }
        let has_gaps = max_deleted != Id::MIN && max_deleted >= first;
        if id > last_generated || has_gaps || id > first {
            return None;
        }
        let gone = entries_added.saturating_sub(self.size);
        Some(if id < first { gone } else { gone.saturating_add(1) })
    }
}

/// A stream that is there; `None` if there is none.
///
/// # Errors
/// Wrong type.
pub fn find(read: &impl Read, at: &At<'_>) -> Result<Option<Object<Stream>>, CommandError> {
    Object::find(read, at)
}

/// XLEN.
///
/// # Errors
/// Wrong type.
pub fn len(read: &impl Read, at: &At<'_>) -> Result<u64, CommandError> {
    Ok(find(read, at)?.map_or(0, |stream| stream.size))
}

/// XRANGE, XREVRANGE, XREAD: calls `visit` with each entry of a span and its fields, up to `count`
/// of them.
///
/// # Errors
/// An entry is none.
pub fn range(
    read: &impl Read,
    stream: &Object<Stream>,
    span: Span,
    (direction, count): (Direction, u64),
    mut visit: impl FnMut(Id, &[&[u8]]),
) -> Result<(), CommandError> {
    let mut left = count;
    if left == 0 {
        return Ok(());
    }
    stream.walk(read, span, direction, |id, value| {
        visit(id, &fields::decode(value)?);
        left -= 1;
        Ok(left > 0)
    })
}

/// The fields of an entry, as they lie ([`fields::decode`]); `None` if it is not there.
///
/// # Errors
/// Those of the engine.
pub fn entry<'r>(
    read: &'r impl Read,
    stream: &Object<Stream>,
    id: Id,
) -> Result<Option<Value<'r>>, CommandError> {
    stream.entry(read, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_stream_is_twelve_numbers_in_their_order() {
        let id = |ms, seq| Id { ms, seq };
        let state = State {
            last_generated: id(1, 2),
            recorded_first: id(3, 4),
            max_deleted: id(5, 6),
            first: id(7, 8),
            last: id(9, 10),
            entries_added: 11,
            groups: 12,
        };
        let mut bytes = vec![0];
        state.write(&mut bytes);
        let (numbers, rest) = bytes[1..].as_chunks::<8>();
        let numbers: Vec<u64> = numbers.iter().map(|number| u64::from_be_bytes(*number)).collect();
        assert!(rest.is_empty());
        assert_eq!(numbers, (1..=12).collect::<Vec<u64>>());
        assert_eq!(State::read(&bytes[1..]), Some(state));
        assert_eq!(State::read(&bytes[1..89]), Some(State { groups: 0, ..state }));
    }
}
