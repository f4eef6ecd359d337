//! Where in a batch the newest record of each key begins.
//!
//! Nothing of the batch is copied, and nothing allocated but tables that grow: most records are
//! never looked for. E.g. each ZUNIONSTORE looks for keys, and has written hundreds of sub-keys,
//! which nobody looks for. So those are tables of their own, and of a record no more is noted than
//! where it begins until one of its table is looked for.
//!
//! Each bucket is a chain that begins with its newest record, so what is taken back, always the
//! newest, is taken off the heads of the chains.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Family;
use crate::batch::{Record, Writer};

/// Behind the last record of a chain: a batch counts its records in 32 bits.
const END: u32 = u32::MAX;
/// Buckets of a batch of few records.
const BUCKETS_MIN: usize = 64;
/// Larger tables are not kept for the next batch: those of 64 commands that write four records each
/// are.
const KEPT_MAX: usize = 512;
/// More spans than these are not kept apart: those of 64 commands that write to four families.
const SPANS_MAX: usize = 256;

/// Another one in each process: a client that knew it could send keys that all share a bucket, and
/// each look-up of one would pass all others.
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0_u64));

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Points {
    /// Records of keys.
    keys: Table,
    /// Those of all other families.
    parts: Table,
    /// Removed ranges, in their order: of which family, and where the record begins.
    ranges: Vec<(Family, usize)>,
    /// Between which keys the records lie, a family and a part of the batch each.
    spans: Vec<Span>,
    /// Bytes of the batch that are known here.
    seen: usize,
}

/// Records that are found by what they name.
#[derive(Debug, Default)]
struct Table {
    /// The newest record of each; a power of two of them, or none.
    buckets: Vec<u32>,
    /// In their order.
    records: Vec<Point>,
    /// So many of these are in the buckets: the others came since one was looked for.
    known: usize,
}

/// A record that sets a key, or deletes it. Of one that is in no bucket only `at` is known.
#[derive(Debug, Clone, Copy)]
struct Point {
    hash: u32,
    /// The one before it in its bucket.
    before: u32,
    /// Where it begins.
    at: usize,
}

/// A part of the batch as far as it is of one family.
#[derive(Debug, Clone, Copy)]
struct Span {
    family: Family,
    /// Where the first record of the part begins.
    begin: usize,
    /// Where the record of the least key begins, and that of the greatest. `None` once records of
    /// the part were taken back.
    outermost: Option<(usize, usize)>,
}

/// The least key of a span that is being found, and the greatest, and where their records begin.
#[derive(Clone, Copy)]
struct Found<'b> {
    least: (&'b [u8], usize),
    most: (&'b [u8], usize),
}

impl Points {
    /// Takes note of the records that were appended to the batch since the last call.
    pub(super) fn follow(&mut self, batch: &Writer) {
        if self.seen == batch.len() {
            return;
        }
        let mut spans: SmallVec<[(Family, Found<'_>); 4]> = SmallVec::new();
        let mut records = batch.records_from(self.seen);
        let begin = records.position();
        loop {
            let at = records.position();
            // Our own bytes: every record decodes.
            match records.next() {
                Some(Ok(Record::Put { family, key, .. } | Record::Delete { family, key })) => {
                    self.table(family).add(at);
                    match spans.iter_mut().find(|(of, _)| *of == family) {
                        Some((_, span)) => span.widen(key, at),
                        None => spans.push((family, Found { least: (key, at), most: (key, at) })),
                    }
                }
                Some(Ok(Record::DeleteRange { family, begin, end })) if begin < end => {
                    self.ranges.push((family, at));
                }
                Some(Ok(Record::DeleteRange { .. } | Record::LogData(_))) => {}
                Some(Err(_)) | None => break,
            }
        }
        for (family, Found { least, most }) in spans {
            self.spans.push(Span { family, begin, outermost: Some((least.1, most.1)) });
        }
        self.seen = batch.len();
    }

    /// Forgets everything, for another batch.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.parts.clear();
        empty(&mut self.ranges);
        empty(&mut self.spans);
        self.seen = 0;
    }

    fn table(&mut self, family: Family) -> &mut Table {
        if family == Family::Metadata { &mut self.keys } else { &mut self.parts }
    }

    /// Forgets the records from this byte of the batch on.
    pub(super) fn rollback(&mut self, bytes: usize) {
        self.seen = self.seen.min(bytes);
        self.keys.rollback(bytes);
        self.parts.rollback(bytes);
        while self.ranges.pop_if(|(_, at)| *at >= bytes).is_some() {}
        while self.spans.pop_if(|span| span.begin >= bytes).is_some() {}
        let is_cut = |span: &&mut Span| {
            span.outermost.is_some_and(|(least, most)| least >= bytes || most >= bytes)
        };
        // Those of one part, at most one of each family, are the last ones.
        let last = self.spans.iter_mut().rev().take(Family::ALL.len());
        last.filter(is_cut).for_each(|span| span.outermost = None);
    }

    /// What the batch says of a key, `None` if nothing: its value, or that it is deleted.
    pub(super) fn find<'b>(
        &mut self,
        batch: &'b Writer,
        family: Family,
        key: &[u8],
    ) -> Option<Option<&'b [u8]>> {
        let newest = self.table(family).newest(batch, family, key);
        let since = newest.map_or(0, |(at, _)| at);
        let later = self.ranges.iter().rev().take_while(|(_, at)| *at > since);
        let mut later = later.filter(|(of, _)| *of == family);
        if later.any(|(_, at)| is_removed_by(batch, *at, key)) {
            return Some(None);
        }
        newest.map(|(_, value)| value)
    }

    /// Whether `[lower, upper)` may have records that begin behind so many bytes of the batch; an
    /// empty `upper` means no bound.
    pub(super) fn may_concern(
        &self,
        batch: &Writer,
        from: usize,
        family: Family,
        (lower, upper): (&[u8], &[u8]),
    ) -> bool {
        if self.spans.len() > SPANS_MAX {
            return true;
        }
        let is_within = |span: &Span| {
            let Some((least, most)) = span.outermost else { return true };
            let is_below = |at| key_at(batch, at).is_none_or(|key| upper.is_empty() || key < upper);
            let is_behind = |at| key_at(batch, at).is_none_or(|key| lower <= key);
            is_below(least) && is_behind(most)
        };
        let mut later = self.ranges.iter().rev().take_while(|(_, at)| *at >= from);
        later.any(|(of, _)| *of == family)
            || self.spans.iter().any(|span| span.family == family && is_within(span))
    }

    /// What was seen so far need not be told apart by [`Self::may_concern`] any more.
    pub(super) fn forget_spans(&mut self) {
        self.spans.clear();
    }
}

impl Table {
    fn clear(&mut self) {
        empty(&mut self.buckets);
        empty(&mut self.records);
        self.known = 0;
    }

    /// One more record, behind the others.
    fn add(&mut self, at: usize) {
        self.records.push(Point { hash: 0, before: END, at });
    }

    /// Puts the records into buckets that are in none yet.
    fn take_up(&mut self, batch: &Writer) {
        let count = self.records.len();
        if count > self.buckets.len() {
            // All are given to the buckets anew, in their order.
            self.buckets.clear();
            self.buckets.resize((2 * count).next_power_of_two().max(BUCKETS_MIN), END);
            (0..self.known).for_each(|index| self.link(index));
        }
        for index in self.known..count {
            if let Some(point) = self.records.get_mut(index) {
                point.hash = hash_at(batch, point.at);
            }
            self.link(index);
        }
        self.known = count;
    }

    /// Puts a record at the head of its chain.
    fn link(&mut self, index: usize) {
        let Some(point) = self.records.get_mut(index) else { return };
        let place = place(point.hash, self.buckets.len());
        if let Some(bucket) = self.buckets.get_mut(place) {
            point.before = std::mem::replace(bucket, index as u32);
        }
    }

    /// Forgets the records from this byte of the batch on.
    fn rollback(&mut self, bytes: usize) {
        while let Some(point) = self.records.pop_if(|point| point.at >= bytes) {
            if self.records.len() >= self.known {
                continue;
            }
            self.known = self.records.len();
            let place = place(point.hash, self.buckets.len());
            if let Some(bucket) = self.buckets.get_mut(place) {
                *bucket = point.before;
            }
        }
    }

    /// Where the newest record of a key begins, and what it says.
    fn newest<'b>(
        &mut self,
        batch: &'b Writer,
        family: Family,
        key: &[u8],
    ) -> Option<(usize, Option<&'b [u8]>)> {
        if self.records.is_empty() {
            return None;
        }
        self.take_up(batch);
        let hash = hash(family, key);
        let mut next = *self.buckets.get(place(hash, self.buckets.len()))?;
        while let Some(point) = self.records.get(next as usize) {
            if point.hash == hash
                && let Some(value) = said_of(batch, point.at, family, key)
            {
                return Some((point.at, value));
            }
            next = point.before;
        }
        None
    }
}

impl<'b> Found<'b> {
    /// One more key, whose record begins there.
    fn widen(&mut self, key: &'b [u8], at: usize) {
        if key > self.most.0 {
            self.most = (key, at);
        } else if key < self.least.0 {
            self.least = (key, at);
        }
    }
}

/// Empties it, and keeps its place in memory if that is small.
fn empty<T>(list: &mut Vec<T>) {
    if list.capacity() > KEPT_MAX {
        *list = Vec::new();
    }
    list.clear();
}

fn hash(family: Family, key: &[u8]) -> u32 {
    let of_key = xxh3_64_with_seed(key, *SEED) as u32;
    of_key.wrapping_add(u32::from(family.id()).wrapping_mul(0x9e37_79b9))
}

/// Of so many buckets the one of a hash; none where there are no buckets.
fn place(hash: u32, count: usize) -> usize {
    hash as usize & count.wrapping_sub(1)
}

/// The hash of what the record that begins there names.
fn hash_at(batch: &Writer, at: usize) -> u32 {
    match batch.records_from(at).next() {
        Some(Ok(Record::Put { family, key, .. } | Record::Delete { family, key })) => {
            hash(family, key)
        }
        // No such record is noted.
        _ => 0,
    }
}

/// What the record that begins there says of a key, if it is one of that key.
fn said_of<'b>(
    batch: &'b Writer,
    at: usize,
    family: Family,
    key: &[u8],
) -> Option<Option<&'b [u8]>> {
    match batch.records_from(at).next()?.ok()? {
        Record::Put { family: of, key: found, value } if of == family && found == key => {
            Some(Some(value))
        }
        Record::Delete { family: of, key: found } if of == family && found == key => Some(None),
        _ => None,
    }
}

/// The key of the record that begins there.
fn key_at(batch: &Writer, at: usize) -> Option<&[u8]> {
    match batch.records_from(at).next()?.ok()? {
        Record::Put { key, .. } | Record::Delete { key, .. } => Some(key),
        Record::DeleteRange { .. } | Record::LogData(_) => None,
    }
}

/// Whether the removed range that begins there holds a key.
fn is_removed_by(batch: &Writer, at: usize, key: &[u8]) -> bool {
    matches!(
        batch.records_from(at).next(),
        Some(Ok(Record::DeleteRange { begin, end, .. })) if begin <= key && key < end
    )
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    #[test]
    fn keys_that_were_chosen_for_one_bucket_are_in_many() {
        let mut batch = Writer::new(Vec::new());
        // Of so many, nine bits of the hash choose the bucket.
        let chosen = (0_u32..).map(u32::to_be_bytes).filter(|key| xxh3_64(key) & 0x1ff == 0);
        for key in chosen.take(200) {
            batch.put(Family::Default, &[&key], &[b"value"]);
        }
        let mut points = Points::default();
        points.follow(&batch);
        assert_eq!(points.parts.known, 0);
        assert!(points.find(&batch, Family::Default, b"another").is_none());
        let table = &points.parts;
        assert_eq!((table.records.len(), table.known, table.buckets.len()), (200, 200, 512));
        let length = |bucket: &u32| {
            let (mut count, mut next) = (0, *bucket);
            while let Some(point) = table.records.get(next as usize) {
                (count, next) = (count + 1, point.before);
            }
            count
        };
        let lengths: Vec<usize> = table.buckets.iter().map(length).collect();
        assert_eq!(lengths.iter().sum::<usize>(), 200);
        assert!(lengths.iter().all(|length| *length < 30), "{lengths:?}");
    }

    #[test]
    fn of_another_batch_nothing_is_found_and_small_tables_keep_their_place() {
        let mut points = Points::default();
        let write = |points: &mut Points, keys: u32| {
            let mut batch = Writer::new(Vec::new());
            batch.delete_range(Family::Default, b"a", b"b");
            for key in 0..keys {
                for family in [Family::Metadata, Family::Stream] {
                    batch.put(family, &[&key.to_be_bytes()], &[b"value"]);
                }
            }
            points.follow(&batch);
            for family in [Family::Metadata, Family::Stream] {
                assert!(points.find(&batch, family, &0_u32.to_be_bytes()).is_some());
            }
            assert_eq!(points.find(&batch, Family::Default, b"ab"), Some(None));
        };
        let place = |table: &Table| (table.records.as_ptr(), table.buckets.as_ptr());
        let places = |points: &Points| [&points.keys, &points.parts].map(place);
        write(&mut points, 20);
        let before = places(&points);
        points.clear();
        let nothing = Writer::new(Vec::new());
        points.follow(&nothing);
        let key = 0_u32.to_be_bytes();
        for family in [Family::Metadata, Family::Stream] {
            assert!(points.find(&nothing, family, &key).is_none());
        }
        assert!(points.find(&nothing, Family::Default, b"ab").is_none());
        assert!(!points.may_concern(&nothing, 0, Family::Stream, (b"", b"")));
        write(&mut points, 10);
        assert_eq!(places(&points), before);
        points.clear();
        write(&mut points, KEPT_MAX as u32 + 1);
        points.clear();
        for table in [&points.keys, &points.parts] {
            assert_eq!((table.records.capacity(), table.buckets.capacity()), (0, 0));
        }
    }

    #[test]
    fn what_is_taken_back_is_not_found_whether_it_was_looked_for_or_not() {
        const FAMILIES: [Family; 3] = [Family::Metadata, Family::Default, Family::ZsetScore];
        let (mut batch, mut points) = (Writer::new(Vec::new()), Points::default());
        let put = |batch: &mut Writer, values: [u8; 3]| {
            for (family, value) in FAMILIES.into_iter().zip(values) {
                batch.put(family, &[b"a"], &[&[value]]);
            }
        };
        let found = |points: &mut Points, batch: &Writer| {
            points.follow(batch);
            FAMILIES.map(|family| points.find(batch, family, b"a").flatten().map(<[u8]>::to_vec))
        };
        put(&mut batch, [1, 2, 3]);
        points.follow(&batch);
        assert!(points.find(&batch, Family::Metadata, b"b").is_none());
        assert_eq!((points.keys.known, points.parts.known), (1, 0));
        let mark = batch.mark();
        for is_looked_for in [false, true, false] {
            put(&mut batch, [4, 5, 6]);
            points.follow(&batch);
            if is_looked_for {
                assert_eq!(found(&mut points, &batch), [4, 5, 6].map(|value| Some(vec![value])));
            }
            batch.rollback(mark);
            points.rollback(mark.bytes());
            assert_eq!(found(&mut points, &batch), [1, 2, 3].map(|value| Some(vec![value])));
        }
    }
}
