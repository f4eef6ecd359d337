//! Marks: what a database says of slots that move. One record of the propagate family for each
//! move, which Kvrocks replicates and ignores.
//!
//! Of the marks of a slot the one of the highest move is the newest: numbers of moves rise, and
//! each try has one of its own. So the table follows from the records alone, in whatever order they
//! are read, and is the same after a rewind, a copy or a failover.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::grant::{EpochId, Least};
use api::moves::{self, MoveId, RANGES_MAX, Slots};

/// What the keys of marks begin with, in the propagate family; the move's number follows, 8 bytes.
pub const KEY_PREFIX: &[u8] = b"__holdfast_move__";
/// Longest key that a cursor may name.
pub const CURSOR_BYTES_MAX: usize = 1 << 20;
/// Form of the value.
const FORM: u8 = 1;

/// Bytes that are no mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed mark of a slot move")]
pub struct Malformed;

/// How far a copy has come, in the order in which records are copied.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cursor {
    /// Nothing is below it.
    Start,
    /// What lies below this key.
    At(Vec<u8>),
    /// Everything.
    End,
}

impl Cursor {
    /// Whether a record lies below it.
    pub fn is_above(&self, key: &[u8]) -> bool {
        match self {
            Self::Start => false,
            Self::At(at) => key < &at[..],
            Self::End => true,
        }
    }
}

/// What is so with the slots.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// A copy in part; nobody's yet.
    Staged {
        /// It is the giver's data there; `None` before the first of it.
        at: Option<Least>,
        /// Below this.
        cursor: Cursor,
    },
    /// This shard owns them.
    Held,
    /// This shard gave them away, or gave up to take them.
    Gone {
        /// And deleted them.
        is_empty: bool,
    },
}

/// What a database says of the slots of one move.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// The move.
    pub id: MoveId,
    /// Its slots.
    pub slots: Slots,
    /// Of the record that gave the slots from one to the other; 0 while they are staged.
    pub version: i64,
    /// What is so.
    pub state: State,
}

impl Mark {
    /// Key of its record.
    pub fn key(id: MoveId) -> Vec<u8> {
        [KEY_PREFIX, &id.0.to_be_bytes()].concat()
    }

    /// The move of a key; `None` for keys of other things.
    pub fn move_of(key: &[u8]) -> Option<MoveId> {
        let number = key.strip_prefix(KEY_PREFIX)?;
        Some(MoveId(u64::from_be_bytes(number.try_into().ok()?)))
    }

    /// Value of its record.
    pub fn value(&self) -> Vec<u8> {
        let mut out = vec![FORM];
        out.extend(self.version.to_be_bytes());
        match &self.state {
            State::Held => out.push(1),
            State::Gone { is_empty: false } => out.push(2),
            State::Gone { is_empty: true } => out.push(3),
            State::Staged { at, cursor } => {
                out.push(0);
                put_at(&mut out, *at);
                put_cursor(&mut out, cursor);
            }
        }
        let ranges = self.slots.ranges();
        out.extend(u16::try_from(ranges.len()).unwrap_or(u16::MAX).to_be_bytes());
        for (first, last) in ranges {
            out.extend(first.to_be_bytes());
            out.extend(last.to_be_bytes());
        }
        out
    }

    /// Reads a value.
    ///
    /// # Errors
    /// When it is none, of another form, or above a bound.
    pub fn parse(id: MoveId, value: &[u8]) -> Result<Self, Malformed> {
        let mut bytes = Bytes(value);
        if bytes.take::<1>()? != [FORM] {
            return Err(Malformed);
        }
        let version = i64::from_be_bytes(bytes.take()?);
        let [tag] = bytes.take()?;
        let state = match tag {
            0 => bytes.staged()?,
            1 => State::Held,
            2 => State::Gone { is_empty: false },
            3 => State::Gone { is_empty: true },
            _ => return Err(Malformed),
        };
        let slots = bytes.slots()?;
        if version < 0 || !bytes.0.is_empty() {
            return Err(Malformed);
        }
        Ok(Self { id, slots, version, state })
    }

    /// As a controller is told.
    pub fn told(&self) -> moves::Mark {
        match &self.state {
            State::Staged { at, cursor } => {
                moves::Mark::Staged { at: *at, is_whole: *cursor == Cursor::End }
            }
            State::Held => moves::Mark::Held,
            State::Gone { is_empty } => moves::Mark::Gone { is_empty: *is_empty },
        }
    }
}

/// Appends a position, see [`Bytes::at`].
pub(super) fn put_at(out: &mut Vec<u8>, at: Option<Least>) {
    let id = at.and_then(|at| at.id);
    out.push(u8::from(at.is_some()) | u8::from(id.is_some()) << 1);
    out.extend(id.map_or(0, |id| id.0).to_be_bytes());
    out.extend(at.map_or(0, |at| at.sequence).to_be_bytes());
}

/// Appends a cursor, see [`Bytes::cursor`].
pub(super) fn put_cursor(out: &mut Vec<u8>, cursor: &Cursor) {
    let (tag, key): (u8, &[u8]) = match cursor {
        Cursor::Start => (0, &[]),
        Cursor::At(key) => (1, key),
        Cursor::End => (2, &[]),
    };
    out.push(tag);
    out.extend(u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(key);
}

/// What is left to read.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn run(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn staged(&mut self) -> Result<State, Malformed> {
        Ok(State::Staged { at: self.at()?, cursor: self.cursor()? })
    }

    pub(super) fn at(&mut self) -> Result<Option<Least>, Malformed> {
        let [flags] = self.take()?;
        let id = u64::from_be_bytes(self.take()?);
        let sequence = u64::from_be_bytes(self.take()?);
        match flags {
            0 if id == 0 && sequence == 0 => Ok(None),
            1 if id == 0 => Ok(Some(Least { id: None, sequence })),
            3 => Ok(Some(Least { id: Some(EpochId(id)), sequence })),
            _ => Err(Malformed),
        }
    }

    pub(super) fn cursor(&mut self) -> Result<Cursor, Malformed> {
        let [tag] = self.take()?;
        let length = u32::from_be_bytes(self.take()?);
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        if length > CURSOR_BYTES_MAX {
            return Err(Malformed);
        }
        let key = self.run(length)?;
        match (tag, key) {
            (0, []) => Ok(Cursor::Start),
            (1, key) => Ok(Cursor::At(key.to_vec())),
            (2, []) => Ok(Cursor::End),
            _ => Err(Malformed),
        }
    }

    fn slots(&mut self) -> Result<Slots, Malformed> {
        let count = usize::from(u16::from_be_bytes(self.take()?));
        if count > RANGES_MAX {
            return Err(Malformed);
        }
        let mut ranges = Vec::with_capacity(count);
        for _ in 0..count {
            ranges.push((u16::from_be_bytes(self.take()?), u16::from_be_bytes(self.take()?)));
        }
        let slots = Slots::new(&ranges).map_err(|_| Malformed)?;
        // One mark has one form.
        if slots.ranges() == ranges { Ok(slots) } else { Err(Malformed) }
    }
}

/// All marks of a database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Table {
    /// Shared: a table is copied where somebody reads it while a mark is put.
    marks: BTreeMap<MoveId, Arc<Mark>>,
}

impl Table {
    /// A mark was put.
    pub fn put(&mut self, mark: Mark) {
        self.marks.insert(mark.id, Arc::new(mark));
    }

    /// The mark of a move.
    pub fn of(&self, id: MoveId) -> Option<&Mark> {
        self.marks.get(&id).map(Arc::as_ref)
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Mark> {
        self.marks.values().map(Arc::as_ref)
    }

    /// The highest number of a move that has a mark.
    pub fn newest_move(&self) -> Option<MoveId> {
        self.marks.last_key_value().map(|(id, _)| *id)
    }

    /// The newest mark of a slot.
    pub fn newest(&self, slot: u16) -> Option<&Mark> {
        self.marks.values().rev().map(Arc::as_ref).find(|mark| mark.slots.contains(slot))
    }

    /// The newest mark of each of these slots, in their order.
    pub fn newest_each(&self, slots: &Slots) -> Vec<Option<&Mark>> {
        let all: Vec<u16> = slots.iter().collect();
        let mut newest = vec![None; all.len()];
        // The oldest first.
        for mark in self.iter().filter(|mark| mark.slots.meet(slots)) {
            for (place, slot) in newest.iter_mut().zip(&all) {
                if mark.slots.contains(*slot) {
                    *place = Some(mark);
                }
            }
        }
        newest
    }

    /// Whether a newer move than `id` has a mark for one of the slots.
    pub fn is_newer(&self, id: MoveId, slots: &Slots) -> bool {
        let after = (std::ops::Bound::Excluded(id), std::ops::Bound::Unbounded);
        self.marks.range(after).any(|(_, mark)| mark.slots.meet(slots))
    }

    /// Whether this node serves a slot that the topology of `version` gives it, or does not.
    ///
    /// What is staged or gone is served by no topology: the data is not here. What is held is,
    /// until the topology that says so, or a later one, is here.
    pub fn serves(&self, slot: u16, is_given: bool, version: i64) -> bool {
        serves(self.newest(slot), is_given, version)
    }
}

/// The same of a slot whose newest mark is known.
pub fn serves(newest: Option<&Mark>, is_given: bool, version: i64) -> bool {
    match newest {
        None => is_given,
        Some(Mark { state: State::Held, version: since, .. }) => is_given || version < *since,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::slots) fn mark(id: u64, slots: &str, state: State) -> Mark {
        let version = if matches!(state, State::Staged { .. }) { 0 } else { 7 };
        Mark { id: MoveId(id), slots: slots.parse().unwrap(), version, state }
    }

    fn states() -> Vec<State> {
        let least = |id: Option<u64>| Some(Least { id: id.map(EpochId), sequence: 9 });
        let staged = |at, cursor| State::Staged { at, cursor };
        vec![
            State::Held,
            State::Gone { is_empty: false },
            State::Gone { is_empty: true },
            staged(None, Cursor::Start),
            staged(least(None), Cursor::At(b"k".to_vec())),
            staged(least(Some(0)), Cursor::At(Vec::new())),
            staged(least(Some(5)), Cursor::End),
        ]
    }

    #[test]
    fn a_mark_is_read_back_as_it_was_written() {
        for state in states() {
            let mark = mark(5, "0-99,16383", state);
            assert_eq!(Mark::parse(mark.id, &mark.value()), Ok(mark.clone()));
            assert_eq!(Mark::move_of(&Mark::key(mark.id)), Some(mark.id));
            for length in 0..mark.value().len() {
                assert_eq!(Mark::parse(mark.id, &mark.value()[..length]), Err(Malformed));
            }
            let longer = [mark.value(), vec![0]].concat();
            assert_eq!(Mark::parse(mark.id, &longer), Err(Malformed));
        }
        assert_eq!(Mark::move_of(b"__holdfast_epoch__12345678"), None);
    }

    /// The bytes are on disks and on the wire.
    #[test]
    fn the_form_is_this_one() {
        let held = mark(1, "1,3-4", State::Held).value();
        assert_eq!(held, *b"\x01\0\0\0\0\0\0\0\x07\x01\0\x02\0\x01\0\x01\0\x03\0\x04");
        let at = Some(Least { id: Some(EpochId(2)), sequence: 3 });
        let staged = State::Staged { at, cursor: Cursor::At(b"ab".to_vec()) };
        let expected = b"\x01\0\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\x01\0\0\0\x02ab\0\x01\0\0\0\0";
        assert_eq!(mark(1, "0", staged).value(), expected);
    }

    #[test]
    fn lengths_are_not_believed() {
        let state = State::Staged { at: None, cursor: Cursor::At(b"k".to_vec()) };
        let mut value = mark(1, "0", state).value();
        let length = value.len() - 6 - 1 - 4;
        value[length..length + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(Mark::parse(MoveId(1), &value), Err(Malformed));
        let mut value = mark(1, "0", State::Held).value();
        value[10..12].copy_from_slice(&u16::MAX.to_be_bytes());
        assert_eq!(Mark::parse(MoveId(1), &value), Err(Malformed));
    }

    #[test]
    fn the_newest_mark_of_a_slot_decides() {
        let mut table = Table::default();
        let gives = |table: &Table, version| {
            [0, 5, 9]
                .map(|slot| (table.serves(slot, true, version), table.serves(slot, false, version)))
        };
        let (topology, nobody) = ((true, false), (false, false));
        assert_eq!(gives(&table, 6), [topology; 3]);
        // Read in whatever order.
        table.put(mark(8, "0-4", State::Gone { is_empty: true }));
        table.put(mark(3, "0-9", State::Held));
        assert_eq!(gives(&table, 6), [nobody, (true, true), (true, true)]);
        assert_eq!(gives(&table, 7), [nobody, topology, topology], "the topology that says so");
        table.put(mark(9, "0", State::Staged { at: None, cursor: Cursor::End }));
        assert_eq!(gives(&table, 6)[0], nobody);
        assert!(table.is_newer(MoveId(8), &"0-20".parse().unwrap()));
        let slots: Slots = "0-2,4-10,77".parse().unwrap();
        let each: Vec<Option<&Mark>> = slots.iter().map(|slot| table.newest(slot)).collect();
        assert_eq!(table.newest_each(&slots), each);
        assert!(!table.is_newer(MoveId(8), &"1-20".parse().unwrap()));
        table.put(mark(9, "0", State::Held));
        assert_eq!(gives(&table, 6)[0], (true, true));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(mark) = Mark::parse(MoveId(1), &bytes) {
                prop_assert_eq!(mark.value(), bytes);
            }
        }
    }
}
