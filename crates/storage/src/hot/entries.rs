//! What a stripe keeps, and where a key is among it.
//!
//! A look-up compares one byte of its hash with those of all entries, which lie in the stripe
//! itself. Of the list, which lies elsewhere, it touches what is meant alone: one line of the cache
//! instead of one for every two or three entries that it passes, and none for most keys that are
//! not kept.

use std::sync::Arc;

/// What an entry takes beside key and value.
const OVERHEAD: usize = 48;
/// Entries whose bytes are beside each other: more than nearly all stripes have. Those behind them
/// are looked at one after the other. With so many a stripe and its lock are two lines of a cache.
const PRINTS: usize = 56;

/// See the module documentation.
pub(super) struct Entries {
    list: Vec<Entry>,
    /// [`print_of`] of each of the first ones; of no meaning behind the end of the list.
    prints: [u8; PRINTS],
}

pub(super) struct Entry {
    pub(super) hash: u32,
    pub(super) key_len: u16,
    /// Read, or written once more, since the hand last came by.
    pub(super) is_used: bool,
    /// Key, then value.
    pub(super) data: Arc<[u8]>,
}

impl Default for Entries {
    fn default() -> Self {
        Self { list: Vec::new(), prints: [0; PRINTS] }
    }
}

impl Entries {
    /// Where the entry of a key is.
    pub(super) fn position(&self, hash: u32, key: &[u8]) -> Option<usize> {
        let (print, count) = (print_of(hash), self.list.len());
        let prints = self.prints.get(..count.min(PRINTS)).unwrap_or_default();
        let alike = prints.iter().enumerate().filter(|(_, other)| **other == print);
        let is_it = |entry: &Entry| entry.hash == hash && entry.key() == Some(key);
        let mut places = alike.map(|(position, _)| position).chain(PRINTS..count);
        places.find(|position| self.list.get(*position).is_some_and(is_it))
    }

    /// The entry that is there.
    pub(super) fn at(&mut self, position: usize) -> Option<&mut Entry> {
        self.list.get_mut(position)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.list.push(entry);
        self.note(self.list.len() - 1);
    }

    /// Takes out the entry that is there, and puts the last one into its place.
    pub(super) fn swap_remove(&mut self, position: usize) -> Entry {
        let gone = self.list.swap_remove(position);
        self.note(position);
        gone
    }

    pub(super) fn retain(&mut self, stays: impl FnMut(&Entry) -> bool) {
        self.list.retain(stays);
        (0..self.list.len().min(PRINTS)).for_each(|position| self.note(position));
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.list.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes note of which entry is there now.
    fn note(&mut self, position: usize) {
        if let (Some(noted), Some(entry)) = (self.prints.get_mut(position), self.list.get(position))
        {
            *noted = print_of(entry.hash);
        }
    }
}

impl Entry {
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.data.get(..usize::from(self.key_len))
    }

    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.data.len() + OVERHEAD
    }

    /// Puts a value in the place of one of the same length, unless that is still being read.
    pub(super) fn set(&mut self, value: &[u8]) -> Option<()> {
        let kept = Arc::get_mut(&mut self.data)?.get_mut(usize::from(self.key_len)..)?;
        self.is_used = true;
        (kept.len() == value.len()).then(|| kept.copy_from_slice(value))
    }
}

/// The byte of a hash that is compared first.
fn print_of(hash: u32) -> u8 {
    hash as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of another key a hash that has the same byte in common, or all of it.
    fn hash(key: u8) -> u32 {
        [7, 7, 0x107, u32::from(key)][usize::from(key % 4)]
    }

    fn entry(key: u8, value: u8) -> Entry {
        Entry { hash: hash(key), key_len: 1, is_used: false, data: [key, value].into() }
    }

    proptest! {
        /// Also where there are more than have a byte of their own.
        #[test]
        fn each_entry_is_found_where_it_is(
            steps in proptest::collection::vec((0..10_u8, any::<u8>()), 0..400),
        ) {
            let (mut entries, mut model) = (Entries::default(), Vec::<[u8; 2]>::new());
            for (step, key) in steps {
                let place = model.iter().position(|kept| kept[0] == key);
                prop_assert_eq!(entries.position(hash(key), &[key]), place);
                match (step, place) {
                    (0, _) => {
                        entries.retain(|entry| entry.data[0] % 64 != key % 64);
                        model.retain(|kept| kept[0] % 64 != key % 64);
                    }
                    (1..=3, Some(place)) => {
                        let (gone, kept) = (entries.swap_remove(place), model.swap_remove(place));
                        prop_assert_eq!(&gone.data[..], kept.as_slice());
                    }
                    (_, Some(place)) => {
                        prop_assert!(entries.at(place).unwrap().set(&[step]).is_some());
                        model[place][1] = step;
                    }
                    (_, None) => {
                        entries.push(entry(key, step));
                        model.push([key, step]);
                    }
                }
            }
            for key in 0..=u8::MAX {
                let place = model.iter().position(|kept| kept[0] == key);
                prop_assert_eq!(entries.position(hash(key), &[key]), place);
            }
            let kept: Vec<&[u8]> = entries.iter().map(|entry| &*entry.data).collect();
            prop_assert_eq!(kept, model.iter().map(|kept| kept.as_slice()).collect::<Vec<_>>());
            entries.clear();
            prop_assert_eq!(entries.position(7, &[0]), None);
        }
    }
}
