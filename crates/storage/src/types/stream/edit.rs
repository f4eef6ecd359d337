//! What adds entries and removes them: XADD, XTRIM, XDEL, and XSETID.

use super::{Id, Refusal, STREAM, Span, State, Stream, fields, find};
use crate::types::kind::Type;
use crate::types::object::{IfEmpty, Object};
use crate::types::{CommandError, log};
use crate::{At, Direction, Txn};

/// Which identifier a new entry gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewId {
    /// The time, or the one behind the last.
    Auto,
    /// The next one within this millisecond.
    Within(u64),
    /// This one.
    Given(Id),
}

impl NewId {
    /// The one it is behind `last`.
    fn behind(self, last: Id, now_ms: u64) -> Result<Id, Refusal> {
        if last == Id::MAX {
            return Err(Refusal::NoneLeft);
        }
        let id = match self {
            Self::Auto if now_ms > last.ms => Some(Id { ms: now_ms, seq: 0 }),
            Self::Auto => last.next(),
            Self::Within(ms) if ms == last.ms => last.next().filter(|next| next.ms == ms),
            Self::Within(ms) => Some(Id { ms, seq: 0 }),
            Self::Given(id) => Some(id),
        };
        id.filter(|id| *id > last).ok_or(Refusal::NotGreater)
    }
}

/// Which entries stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The last so many.
    MaxLen(u64),
    /// From this one on.
    MinId(Id),
}

/// Entries that go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    /// All but those.
    pub strategy: Strategy,
    /// In whole hundreds, or all: so many entries Redis keeps together.
    pub is_rough: bool,
    /// So many at most; 0 is no bound.
    pub limit: u64,
}

/// See [`Trim::is_rough`].
const TOGETHER: usize = 100;
/// What removes an entry takes that many bytes of a batch at least: the identifier and the version.
const RECORD_BYTES: usize = 24;

/// What goes, and what is the first entry then.
#[derive(Default)]
struct Leaving {
    ids: Vec<Id>,
    next: Option<Id>,
    /// How many entries there were, where all of them were seen: the size may say more.
    counted: Option<u64>,
}

impl Trim {
    /// The entries that go from the front, a new one among them, which is not there yet.
    fn leaving(
        &self,
        txn: &Txn<'_>,
        stream: &Object<Stream>,
        new: Option<Id>,
    ) -> Result<Leaving, CommandError> {
        let total = stream.size.saturating_add(u64::from(new.is_some()));
        let (most, behind) = match self.strategy {
            Strategy::MaxLen(length) => (total.saturating_sub(length), None),
            Strategy::MinId(id) => (u64::MAX, Some(id)),
        };
        let most = if self.limit == 0 { most } else { most.min(self.limit) };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let is_whole = most as u64 >= total;
        let most = if self.is_rough && !is_whole { most - most % TOGETHER } else { most };
        let (mut ids, mut next): (Vec<Id>, Option<Id>) = (Vec::new(), None);
        if most == 0 {
            return Ok(Leaving::default());
        }
        let is_before = |id: Id| behind.is_none_or(|behind| id < behind);
        stream.walk(txn, Span::ALL, Direction::Forward, |id, _| {
            if ids.len() < most && is_before(id) {
                ids.push(id);
                txn.must_have_room(ids.len().saturating_mul(RECORD_BYTES))?;
                return Ok(true);
            }
            next = Some(id);
            Ok(false)
        })?;
        let mut is_all = next.is_none();
        let counted = is_all.then_some(ids.len() as u64);
        // Where the size says more than there is, fewer go.
        let most = match (counted, self.strategy) {
            (Some(counted), Strategy::MaxLen(length)) => {
                let total = counted.saturating_add(u64::from(new.is_some()));
                usize::try_from(total.saturating_sub(length)).unwrap_or(usize::MAX).min(most)
            }
            _ => most,
        };
        if let (true, Some(new)) = (is_all, new) {
            is_all = ids.len() < most && is_before(new);
            ids.extend(Some(new).filter(|_| is_all));
        }
        if ids.len() > most {
            (is_all, next) = (false, ids.get(most).copied());
            ids.truncate(most);
        }
        let is_rounded = self.is_rough && !is_all;
        let going = if is_rounded { ids.len() - ids.len() % TOGETHER } else { ids.len() };
        next = ids.get(going).copied().or(next);
        ids.truncate(going);
        Ok(Leaving { ids, next, counted })
    }
}

impl Object<Stream> {
    fn remove_entry(&mut self, txn: &mut Txn<'_>, id: Id) {
        self.remove(txn, STREAM, &[&id.to_bytes()]);
        self.tail.max_deleted = self.tail.max_deleted.max(id);
        self.size = self.size.saturating_sub(1);
    }

    /// Removes entries from the front. With a new one among them, which was never put.
    fn remove_front(
        &mut self,
        txn: &mut Txn<'_>,
        leaving: &Leaving,
        new: Option<Id>,
    ) -> Result<(), CommandError> {
        self.size = leaving.counted.unwrap_or(self.size);
        for id in leaving.ids.iter().filter(|id| Some(**id) != new) {
            self.remove_entry(txn, *id);
            txn.must_fit()?;
        }
        if leaving.ids.is_empty() {
            return Ok(());
        }
        match leaving.next {
            Some(first) => self.begin_at(first),
            None => self.be_empty(),
        }
        Ok(())
    }

    fn begin_at(&mut self, first: Id) {
        self.tail.first = first;
        self.tail.recorded_first = first;
    }

    fn be_empty(&mut self) {
        self.size = 0;
        self.begin_at(Id::MIN);
        self.tail.last = Id::MIN;
    }
}

/// What XADD adds.
#[derive(Debug, Clone, Copy)]
pub struct Addition<'a> {
    /// Under which identifier.
    pub id: NewId,
    /// Fields and values in turn.
    pub fields: &'a [&'a [u8]],
    /// What goes for it.
    pub trim: Option<Trim>,
    /// Also where there is no stream.
    pub makes_stream: bool,
}

/// XADD. Returns the new identifier; `None` if there is no stream and none is made.
///
/// # Errors
/// Wrong type, [`Refusal::NotGreater`], [`Refusal::NoneLeft`].
pub fn add(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    addition: &Addition<'_>,
) -> Result<Option<Id>, CommandError> {
    let mut stream = match find(txn, at)? {
        Some(stream) => stream,
        None if !addition.makes_stream => return Ok(None),
        None => Object::new(at),
    };
    let id = addition.id.behind(stream.tail.last_generated, at.scope.now_ms)?;
    let leaving = match &addition.trim {
        Some(trim) => trim.leaving(txn, &stream, Some(id))?,
        None => Leaving::default(),
    };
    txn.log(Type::Stream.log_data());
    // What goes goes first, as Kvrocks orders its batches.
    stream.remove_front(txn, &leaving, Some(id))?;
    stream.tail.last_generated = id;
    stream.tail.entries_added = stream.tail.entries_added.saturating_add(1);
    if leaving.ids.last() == Some(&id) {
        stream.tail.max_deleted = id;
    } else {
        stream.put_written(txn, STREAM, &id.to_bytes(), |value| {
            fields::write(addition.fields, value);
        });
        stream.tail.last = id;
        stream.size = stream.size.saturating_add(1);
        if stream.size == 1 {
            stream.begin_at(id);
        }
    }
    stream.store(txn, IfEmpty::Keep);
    Ok(Some(id))
}

/// XTRIM. Returns how many entries went.
///
/// # Errors
/// Wrong type.
pub fn trim(txn: &mut Txn<'_>, at: &At<'_>, trim: &Trim) -> Result<u64, CommandError> {
    let Some(mut stream) = find(txn, at)? else { return Ok(0) };
    let leaving = trim.leaving(txn, &stream, None)?;
    if !leaving.ids.is_empty() {
        txn.log(Type::Stream.log_data());
        stream.remove_front(txn, &leaving, None)?;
        stream.store(txn, IfEmpty::Keep);
    }
    Ok(leaving.ids.len() as u64)
}

/// XDEL. Returns how many entries were there.
///
/// # Errors
/// Wrong type.
pub fn del(txn: &mut Txn<'_>, at: &At<'_>, ids: &[Id]) -> Result<u64, CommandError> {
    let Some(mut stream) = find(txn, at)? else { return Ok(0) };
    let State { first, last, .. } = stream.tail;
    txn.log(Type::Stream.log_data());
    let (mut deleted, mut ends) = (0, (false, false));
    for id in ids {
        if stream.entry(txn, *id)?.is_none() {
            continue;
        }
        stream.remove_entry(txn, *id);
        deleted += 1;
        ends = (ends.0 || *id == first, ends.1 || *id == last);
    }
    if deleted == 0 {
        return Ok(0);
    }
    if stream.size == 0 {
        stream.be_empty();
    }
    if ends.0 && stream.size > 0 {
        let first = stream.outermost(txn, Direction::Forward)?;
        stream.begin_at(first.unwrap_or_default());
    }
    if ends.1 && stream.size > 0 {
        stream.tail.last = stream.outermost(txn, Direction::Reverse)?.unwrap_or_default();
    }
    stream.store(txn, IfEmpty::Keep);
    Ok(deleted)
}

/// What XSETID sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetId {
    /// The next entry comes behind it.
    pub last_generated: Id,
    /// ENTRIESADDED.
    pub entries_added: Option<u64>,
    /// MAXDELETEDID.
    pub max_deleted: Option<Id>,
}

/// XSETID.
///
/// # Errors
/// Wrong type, [`CommandError::NoSuchKey`], [`Refusal::BelowEntries`], [`Refusal::TooFewAdded`].
pub fn set_id(txn: &mut Txn<'_>, at: &At<'_>, set: &SetId) -> Result<(), CommandError> {
    let mut stream = find(txn, at)?.ok_or(CommandError::NoSuchKey)?;
    if let (true, Some(last)) = (stream.size > 0, stream.outermost(txn, Direction::Reverse)?) {
        if set.last_generated < last {
            return Err(Refusal::BelowEntries.into());
        }
        if set.entries_added.is_some_and(|added| added < stream.size) {
            return Err(Refusal::TooFewAdded.into());
        }
    }
    stream.tail.last_generated = set.last_generated;
    if let Some(added) = set.entries_added {
        stream.tail.entries_added = added;
    }
    if let Some(deleted) = set.max_deleted.filter(|deleted| *deleted != Id::MIN) {
        stream.tail.max_deleted = deleted;
    }
    txn.log(&log::words(Type::Stream, &[b"XSETID"]));
    stream.store(txn, IfEmpty::Keep);
    Ok(())
}
