//! The last states of keys, out of the records that nodes tell of an export.
//!
//! Only the last record of each place counts, and what belongs to an earlier life of the key is
//! forgotten. What a state means is for the master to say: here nothing is known of types.

use std::collections::BTreeMap;

use resp::{Value, encode_command};

/// Bytes of the records of one key above which it is named and not put back.
pub(super) const KEY_BYTES_MAX: usize = 64 << 20;
/// Words of a record, as nodes tell them.
const RECORD_WORDS: usize = 5;
/// What an entry of a map takes besides.
const ENTRY_BYTES: usize = 64;
/// The first byte of a place that is metadata.
const METADATA: u8 = 1;
/// The bytes of a place that say in which life it is.
const LIFE: std::ops::Range<usize> = 1..9;

/// A part of an export.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Where the next one begins.
    pub next: Option<u64>,
    /// How many bytes stand before the name of a key on disk.
    pub skip: usize,
    pub records: Vec<Record>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    what: What,
    key: Vec<u8>,
    /// Where in the key it is; of a range its end.
    place: Vec<u8>,
    value: Vec<u8>,
    was_endless: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Put,
    Delete,
    Large,
    Range,
    Foreign,
    Copied,
}

impl Page {
    /// `None` if it is no such answer.
    pub(super) fn read(value: Value) -> Option<Self> {
        let Value::Array(words) = value else { return None };
        let mut words = words.into_iter();
        let (Value::Integer(next), Value::Integer(skip)) = (words.next()?, words.next()?) else {
            return None;
        };
        if !words.len().is_multiple_of(RECORD_WORDS) {
            return None;
        }
        let mut records = Vec::with_capacity(words.len() / RECORD_WORDS);
        while let Some(what) = words.next() {
            let what = match what.as_bytes()? {
                b"put" => What::Put,
                b"del" => What::Delete,
                b"large" => What::Large,
                b"range" => What::Range,
                b"foreign" => What::Foreign,
                b"copied" => What::Copied,
                _ => return None,
            };
            let mut bytes = || match words.next()? {
                Value::Bulk(bytes) => Some(bytes),
                _ => None,
            };
            let (key, place, value) = (bytes()?, bytes()?, bytes()?);
            let was_endless = bytes()? == b"1";
            records.push(Record { what, key, place, value, was_endless });
        }
        let skip = usize::try_from(skip).ok()?;
        Some(Self { next: u64::try_from(next).ok(), skip, records })
    }
}

/// What became of one place.
#[derive(Debug, PartialEq, Eq)]
enum Last {
    Put(Vec<u8>),
    Gone,
    /// A value that is not told.
    Large,
}

impl Last {
    fn bytes(&self) -> usize {
        if let Self::Put(value) = self { value.len() } else { 0 }
    }
}

/// What became of a key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Key {
    was_endless: bool,
    /// By place. Metadata is one of them.
    places: BTreeMap<Vec<u8>, Last>,
    bytes: usize,
    /// Its records were too many to be held.
    is_too_large: bool,
    /// It is another namespace's.
    is_foreign: bool,
}

impl Key {
    fn take(&mut self, record: Record) {
        let Record { what, place, value, was_endless, .. } = record;
        if what == What::Foreign {
            self.is_foreign = true;
            return;
        }
        if place.first() == Some(&METADATA) {
            let is_known = self.places.contains_key(&place);
            self.forget_but(place.get(LIFE));
            // That of the first record of this life, which says how it was before.
            if !is_known {
                self.was_endless = was_endless;
            }
            // Whatever there was before is gone.
            self.is_too_large &= what != What::Delete;
        }
        let last = match what {
            What::Put => Last::Put(value),
            What::Large => Last::Large,
            _ => Last::Gone,
        };
        self.set(place, last);
    }

    /// Drops metadata, and the elements of other lives.
    fn forget_but(&mut self, life: Option<&[u8]>) {
        let bytes = &mut self.bytes;
        self.places.retain(|place, last| {
            let stays = place.first() != Some(&METADATA) && place.get(LIFE) == life;
            if !stays {
                *bytes = bytes.saturating_sub(place.len() + last.bytes() + ENTRY_BYTES);
            }
            stays
        });
    }

    fn set(&mut self, place: Vec<u8>, last: Last) {
        let length = place.len();
        self.bytes += length + last.bytes() + ENTRY_BYTES;
        if let Some(old) = self.places.insert(place, last) {
            self.bytes = self.bytes.saturating_sub(length + old.bytes() + ENTRY_BYTES);
        }
        if self.bytes > KEY_BYTES_MAX {
            // From here on nobody could say what its last state is.
            self.is_too_large = true;
        }
        if self.is_too_large {
            self.places = BTreeMap::new();
            self.bytes = 0;
        }
    }

    /// Removed with all others of a range.
    fn remove(&mut self) {
        self.is_too_large = false;
        self.forget_but(None);
        let place = [&[METADATA][..], &[0; 8]].concat();
        self.set(place, Last::Gone);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is in the way of asking the master: the word that the key is counted under.
    pub(super) fn refused(&self) -> Option<&'static str> {
        match self {
            Self { is_foreign: true, .. } => Some("unsupported"),
            Self { is_too_large: true, .. } => Some("large"),
            _ if self.places.values().any(|last| *last == Last::Large) => Some("large"),
            _ => None,
        }
    }

    /// Two words of RESTORE, behind that of the key. Where slots were copied meanwhile, the first
    /// record of a life says nothing of how the key was before.
    pub(super) fn words(&self, has_copies: bool) -> [Vec<u8>; 2] {
        let mut records: Vec<&[u8]> = Vec::with_capacity(self.places.len() * 3);
        for (place, last) in &self.places {
            match last {
                Last::Put(value) => records.extend([&b"put"[..], place, value]),
                Last::Gone | Last::Large => records.extend([&b"del"[..], place, b""]),
            }
        }
        let endless = if self.was_endless && !has_copies { b"1" } else { b"0" };
        [endless.to_vec(), encode_command(&records)]
    }
}

/// The keys of a share of an export, by how they are written on disk.
#[derive(Debug, Default)]
pub(super) struct Fold {
    pub keys: BTreeMap<Vec<u8>, Key>,
    bytes: usize,
    /// Slots came from another shard meanwhile, of which no record is told.
    pub has_copies: bool,
    /// What is of no key that is known, and cannot be put back, by the word it is counted under.
    pub nameless: Vec<&'static str>,
}

impl Fold {
    /// Takes what comes next.
    pub(super) fn take(&mut self, record: Record) {
        match record.what {
            What::Range => {
                // What was not written besides is in no record, and is not removed anew.
                self.nameless.push("unsupported");
                let (begin, end) = (record.key, record.place);
                if begin < end {
                    for (_, key) in self.keys.range_mut(begin..end) {
                        self.bytes = self.bytes.saturating_sub(key.bytes);
                        key.remove();
                        self.bytes += key.bytes;
                    }
                }
            }
            What::Copied => self.has_copies = true,
            What::Foreign if record.key.is_empty() => self.nameless.push("unsupported"),
            What::Large if record.key.is_empty() => self.nameless.push("large"),
            _ => {
                let name_bytes = record.key.len() + ENTRY_BYTES;
                let is_new = !self.keys.contains_key(&record.key);
                let key = self.keys.entry(record.key.clone()).or_default();
                let before = key.bytes;
                key.take(record);
                self.bytes = self.bytes.saturating_sub(before) + key.bytes;
                if is_new {
                    self.bytes += name_bytes;
                }
            }
        }
    }

    /// About what is held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(records: &[[&[u8]; 5]]) -> Page {
        let words = records.iter().flatten().map(|word| Value::Bulk(word.to_vec()));
        let head = [Value::Integer(-1), Value::Integer(2)];
        Page::read(Value::Array(head.into_iter().chain(words).collect())).expect("a page")
    }

    fn fold(records: &[[&[u8]; 5]]) -> Fold {
        let mut fold = Fold::default();
        page(records).records.into_iter().for_each(|record| fold.take(record));
        fold
    }

    /// The id of a family, a version, and what is behind it.
    fn place(family: u8, version: u64, sub: &[u8]) -> Vec<u8> {
        [&[family][..], &version.to_be_bytes(), sub].concat()
    }

    /// The words that are sent of a key.
    fn sent(fold: &Fold, key: &[u8]) -> Vec<Vec<u8>> {
        let [endless, records] = fold.keys[key].words(fold.has_copies);
        let Ok(Some((Value::Array(words), _))) = Value::parse(&records, records.len()) else {
            panic!("{records:?}")
        };
        let words = words.into_iter().filter_map(|word| word.as_bytes().map(<[u8]>::to_vec));
        std::iter::once(endless).chain(words).collect()
    }

    #[test]
    fn the_last_record_of_each_place_counts_and_those_of_other_lives_do_not() {
        let (old, new) = (place(1, 7, b""), place(1, 8, b""));
        let (a, b) = (place(0, 7, b"a"), place(0, 8, b"b"));
        let gone = place(1, 0, b"");
        let folded = fold(&[
            [b"put", b"k", &a, b"1", b"0"],
            [b"put", b"k", &old, b"old", b"1"],
            [b"put", b"k", &old, b"older", b"0"],
            [b"put", b"k", &a, b"2", b"0"],
            [b"put", b"l", &b, b"1", b"0"],
            [b"put", b"l", &old, b"first", b"1"],
            [b"del", b"l", &gone, b"", b"0"],
            [b"put", b"l", &b, b"2", b"0"],
            [b"put", b"l", &new, b"second", b"0"],
            [b"del", b"l", &b, b"", b"0"],
            [b"put", b"m", &a, b"1", b"0"],
            [b"del", b"m", &gone, b"", b"0"],
        ]);
        let put = |place: &[u8], value: &[u8]| [b"put".to_vec(), place.to_vec(), value.to_vec()];
        let del = |place: &[u8]| [b"del".to_vec(), place.to_vec(), Vec::new()];
        let with = |endless: &[u8], records: &[[Vec<u8>; 3]]| -> Vec<Vec<u8>> {
            let records = records.iter().flatten().cloned();
            std::iter::once(endless.to_vec()).chain(records).collect()
        };
        assert_eq!(sent(&folded, b"k"), with(b"1", &[put(&a, b"2"), put(&old, b"older")]));
        assert_eq!(sent(&folded, b"l"), with(b"0", &[del(&b), put(&new, b"second")]));
        assert_eq!(sent(&folded, b"m")[1..], del(&gone));
        let mut copied = fold(&[[b"put", b"k", &old, b"v", b"1"]]);
        assert_eq!(sent(&copied, b"k")[0], b"1");
        page(&[[b"copied", b"", b"", b"", b"0"]]).records.into_iter().for_each(|r| copied.take(r));
        assert_eq!(sent(&copied, b"k")[0], b"0");
        let held: usize = folded.keys.values().map(|key| key.bytes() + 1 + ENTRY_BYTES).sum();
        assert_eq!(folded.bytes(), held);
    }

    #[test]
    fn ranges_remove_what_was_written_before_them_and_large_values_are_told_of() {
        let (metadata, element) = (place(1, 7, b""), place(0, 7, b"a"));
        let folded = fold(&[
            [b"put", b"a1", &metadata, b"v", b"1"],
            [b"put", b"b1", &metadata, b"v", b"1"],
            [b"range", b"a", b"b", b"", b"0"],
            [b"range", b"z", b"a", b"", b"0"],
            [b"put", b"a2", &metadata, b"v", b"1"],
            [b"large", b"c1", &element, b"", b"0"],
            [b"put", b"c1", &metadata, b"v", b"1"],
            [b"large", b"c2", &element, b"", b"0"],
            [b"put", b"c2", &element, b"small", b"1"],
            [b"foreign", b"f", b"", b"", b"0"],
            [b"foreign", b"", b"", b"", b"0"],
            [b"large", b"", b"", b"", b"0"],
        ]);
        assert_eq!(sent(&folded, b"a1")[1], b"del");
        for key in [b"a2", b"b1"] {
            assert_eq!(sent(&folded, key)[1], b"put");
        }
        let refused: Vec<_> = folded.keys.values().map(Key::refused).collect();
        let expected = [None, None, None, Some("large"), None, Some("unsupported")];
        assert_eq!(refused, expected);
        assert_eq!(folded.nameless, ["unsupported", "unsupported", "unsupported", "large"]);
    }

    #[test]
    fn a_key_of_too_many_bytes_is_not_held() {
        let mut fold = Fold::default();
        let value = vec![0; KEY_BYTES_MAX / 4];
        for number in 0..6 {
            let element = place(0, 7, &[number]);
            let records = page(&[[b"put", b"k", &element, &value, b"0"]]).records;
            records.into_iter().for_each(|record| fold.take(record));
            assert!(fold.bytes() <= KEY_BYTES_MAX + 1_000);
        }
        assert_eq!(fold.keys[&b"k"[..]].refused(), Some("large"));
        assert!(fold.bytes() < 1_000);
    }

    #[test]
    fn pages_are_read_whole_or_not_at_all() {
        let bulk = |text: &str| Value::Bulk(text.into());
        let mut words = vec![Value::Integer(9), Value::Integer(2)];
        words.extend(["del", "k", "p", "", "0"].map(bulk));
        let read = |words: &[Value]| Page::read(Value::Array(words.to_vec()));
        let page = read(&words).expect("a page");
        assert_eq!((page.next, page.skip, page.records.len()), (Some(9), 2, 1));
        for end in [0, 1, 3, 6] {
            assert_eq!(read(&words[..end]), None, "{end}");
        }
        words[2] = bulk("other");
        assert_eq!(read(&words), None);
        assert_eq!(Page::read(Value::Null), None);
    }
}
