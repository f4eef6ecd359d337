//! The pages of a chain: each holds so many buckets of one filter, one behind the other, and is not
//! there before something is put into it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::filter::{EMPTY, Mark};
use super::{Cuckoo, PAGES, Slots};
use crate::types::CommandError;
use crate::types::object::Object;
use crate::{Read, Txn, budget};

/// Which filter of a chain, and which page of it.
type Name = (u16, u32);

/// Pages that are kept although nothing was put into them.
const CLEAN_MAX: usize = 1024;

/// A page as it is to be.
#[derive(Debug)]
struct Page {
    bytes: Vec<u8>,
    is_changed: bool,
}

/// A slot as it was.
#[derive(Debug)]
struct Before {
    name: Name,
    place: usize,
    fingerprint: u8,
    was_changed: bool,
}

/// The pages that a command has looked at, with what it has put into them.
#[derive(Debug, Default)]
pub(super) struct Pages {
    held: BTreeMap<Name, Page>,
    /// What was changed since [`Pages::settle`], in order.
    changes: Vec<Before>,
    /// Bytes of the pages that are to be written.
    changed_bytes: usize,
    /// Bytes of all pages, and the most that were told of.
    held_bytes: usize,
    told_bytes: usize,
}

fn sub_key((filter, page): Name) -> [u8; 6] {
    let mut key = [0; 6];
    let (first, second) = key.split_at_mut(2);
    first.copy_from_slice(&filter.to_be_bytes());
    second.copy_from_slice(&page.to_be_bytes());
    key
}

impl Pages {
    /// The slots of a page.
    pub(super) fn page(
        &mut self,
        read: &impl Read,
        object: &Object<Cuckoo>,
        (slots, page): (&Slots, u32),
    ) -> Result<&[u8], CommandError> {
        let first = page.saturating_mul(slots.per_page);
        let (name, _) = self.load(read, object, (slots, first))?;
        Ok(self.held.get(&name).map(|page| &*page.bytes).unwrap_or_default())
    }

    /// The slots of a bucket.
    fn bucket(
        &mut self,
        read: &impl Read,
        object: &Object<Cuckoo>,
        (slots, bucket): (&Slots, u32),
    ) -> Result<&[u8], CommandError> {
        let (name, begin) = self.load(read, object, (slots, bucket))?;
        let end = begin.saturating_add(slots.per_bucket);
        let page = self.held.get(&name).and_then(|page| page.bytes.get(begin..end));
        page.ok_or_else(|| CommandError::corrupt("a bucket is in no page"))
    }

    /// Looks up the page of a bucket, if that has not been done; where the bucket is.
    fn load(
        &mut self,
        read: &impl Read,
        object: &Object<Cuckoo>,
        (slots, bucket): (&Slots, u32),
    ) -> Result<(Name, usize), CommandError> {
        let name = (slots.filter, bucket / slots.per_page);
        let begin = (bucket % slots.per_page) as usize * slots.per_bucket;
        if let Entry::Vacant(entry) = self.held.entry(name) {
            let length = slots.page_bytes(name.1);
            let bytes = match object.element(read, PAGES, &sub_key(name))? {
                Some(page) if page.len() == length => page.to_vec(),
                Some(_) => {
                    return Err(CommandError::corrupt("a page of a filter has another length"));
                }
                None => vec![EMPTY; length],
            };
            self.held_bytes = self.held_bytes.saturating_add(length);
            budget::gather(self.held_bytes.saturating_sub(self.told_bytes))?;
            self.told_bytes = self.told_bytes.max(self.held_bytes);
            entry.insert(Page { bytes, is_changed: false });
        }
        Ok((name, begin))
    }

    /// Puts a fingerprint into a slot; returns what was there.
    pub(super) fn replace(
        &mut self,
        read: &impl Read,
        object: &Object<Cuckoo>,
        (slots, bucket, slot): (&Slots, u32, usize),
        fingerprint: u8,
    ) -> Result<u8, CommandError> {
        let (name, begin) = self.load(read, object, (slots, bucket))?;
        let place = begin.saturating_add(slot);
        let page = self.held.get_mut(&name);
        let page = page.ok_or_else(|| CommandError::corrupt("a bucket is in no page"))?;
        let was_changed = std::mem::replace(&mut page.is_changed, true);
        if !was_changed {
            self.changed_bytes = self.changed_bytes.saturating_add(page.bytes.len());
        }
        let held = page.bytes.get_mut(place);
        let held = held.ok_or_else(|| CommandError::corrupt("a slot is in no page"))?;
        let before = std::mem::replace(held, fingerprint);
        self.changes.push(Before { name, place, fingerprint: before, was_changed });
        Ok(before)
    }

    /// Puts a fingerprint into a bucket in the place of another one; whether that is there.
    pub(super) fn swap(
        &mut self,
        read: &impl Read,
        object: &Object<Cuckoo>,
        (slots, bucket): (&Slots, u32),
        (from, to): (u8, u8),
    ) -> Result<bool, CommandError> {
        let held = self.bucket(read, object, (slots, bucket))?;
        let Some(slot) = held.iter().position(|slot| *slot == from) else { return Ok(false) };
        self.replace(read, object, (slots, bucket, slot), to)?;
        Ok(true)
    }

    /// The same in the first of the buckets of a mark that has the other one.
    pub(super) fn swap_either(
        &mut self,
        read: &impl Read,
        object: &Object<Cuckoo>,
        (slots, mark): (&Slots, Mark),
        change: (u8, u8),
    ) -> Result<bool, CommandError> {
        for bucket in mark.both(slots.buckets) {
            if self.swap(read, object, (slots, bucket), change)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How often a filter has a mark.
    pub(super) fn count(
        &mut self,
        read: &impl Read,
        object: &Object<Cuckoo>,
        slots: &Slots,
        mark: Mark,
    ) -> Result<u64, CommandError> {
        let mut count = 0_u64;
        for bucket in mark.both(slots.buckets) {
            let held = self.bucket(read, object, (slots, bucket))?;
            count += held.iter().filter(|slot| **slot == mark.fingerprint).count() as u64;
        }
        Ok(count)
    }

    /// Takes back what was changed since [`Pages::settle`].
    pub(super) fn take_back(&mut self) {
        while let Some(before) = self.changes.pop() {
            let Some(page) = self.held.get_mut(&before.name) else { continue };
            page.is_changed = before.was_changed;
            if !before.was_changed {
                self.changed_bytes = self.changed_bytes.saturating_sub(page.bytes.len());
            }
            if let Some(slot) = page.bytes.get_mut(before.place) {
                *slot = before.fingerprint;
            }
        }
    }

    /// What was changed stays so. Pages that were only looked at are forgotten, once they are many.
    pub(super) fn settle(&mut self) {
        self.changes.clear();
        if self.held.len() > CLEAN_MAX {
            self.held.retain(|_, page| page.is_changed);
            self.held_bytes = self.changed_bytes;
        }
    }

    /// Bytes of the pages that are to be written.
    pub(super) fn changed_bytes(&self) -> usize {
        self.changed_bytes
    }

    /// Forgets the pages of a filter that is no more.
    pub(super) fn drop_filter(&mut self, filter: u16) {
        self.held.retain(|name, _| name.0 != filter);
    }

    /// Writes what was changed.
    pub(super) fn write(&self, txn: &mut Txn<'_>, object: &Object<Cuckoo>) {
        for (name, page) in self.held.iter().filter(|(_, page)| page.is_changed) {
            object.put(txn, PAGES, &[&sub_key(*name)], &[&page.bytes]);
        }
    }
}

/// Removes the pages of a filter, as far as they are there.
pub(super) fn remove(
    txn: &mut Txn<'_>,
    object: &Object<Cuckoo>,
    slots: &Slots,
) -> Result<(), CommandError> {
    for page in 0..slots.pages() {
        let sub = sub_key((slots.filter, page));
        if object.element(txn, PAGES, &sub)?.is_some() {
            object.remove(txn, PAGES, &[&sub]);
        }
    }
    Ok(())
}
