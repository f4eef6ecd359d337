//! Metadata entries that were used lately, kept in memory in front of RocksDB.
//!
//! A look-up in RocksDB walks the trees of up to four memtables and then filters and blocks of
//! tables, each step of which may be a cache miss. An entry that is kept here costs three. Only the
//! metadata family is kept (strings lie there as a whole, every other type begins there), only
//! small entries, and of those the ones last read or written.
//!
//! Reads stay linearizable, across keys too: before a batch reaches RocksDB every stripe it touches
//! is marked; afterwards all of them are brought up to date, in the order of the log, and only then
//! unmarked. A reader that finds its stripe marked reads RocksDB instead, where the batch is there
//! as a whole or not at all. What was read from RocksDB is kept only if no batch touched its stripe
//! since the look-up. In the same way it is told whether several entries were there at one moment.
//! A stripe also remembers the newest record that touched it: a snapshot that is as new sees what
//! is kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use entries::{Entries, Entry};

use crate::Family;
use crate::batch::{self, Record};
use crate::versions::{Versions, is_of_scripts};

mod entries;

/// Bytes of a stripe, at most: some twenty entries of a hundred bytes.
const STRIPE_BYTES: usize = 4096;
/// Longest key and value together that is kept.
const ENTRY_BYTES_MAX: usize = 2048;

/// See the module documentation.
pub(crate) struct Hot {
    /// Empty: nothing is kept.
    stripes: Box<[Mutex<Stripe>]>,
    /// Bytes of a stripe for now: fewer where the whole was made smaller.
    stripe_bytes: AtomicUsize,
    /// Batches being written that remove a range.
    removing: AtomicUsize,
    /// Rises when such a batch is written: what was kept before is void where it removes something.
    ranges: AtomicU64,
    /// Locked behind a stripe.
    removed: Mutex<Removed>,
    /// Of scripts and libraries of functions, of which nothing is kept here.
    pub(crate) scripts: Versions,
}

/// Which ranges were removed lately. Slots that move are removed when they come and when they have
/// gone, and what is kept of all others is none the worse for it.
#[derive(Default)]
struct Removed {
    /// Of batches up to this value of `ranges` not all is known any more.
    forgotten: u64,
    /// From which value of `ranges` on each counts. The oldest first.
    of_late: VecDeque<(u64, Range)>,
}

/// Begin and end; an empty end is none.
type Range = (Box<[u8]>, Box<[u8]>);

/// Ranges that are known.
const REMOVED_MAX: usize = 64;

#[derive(Default)]
struct Stripe {
    /// Value of `ranges` the entries belong to.
    ranges: u64,
    /// Rises with every batch that touches the stripe.
    version: u32,
    /// The newest record of these batches.
    sequence: u64,
    /// Batches being written that touch the stripe.
    marks: u32,
    bytes: usize,
    /// Where eviction goes on.
    hand: usize,
    entries: Entries,
}

/// Answer of [`Hot::get`].
pub(crate) enum Found {
    /// Key and value, and where the value begins. That is so for as long as the ticket is current.
    Entry(Arc<[u8]>, usize, Ticket),
    /// Not here: read RocksDB, and give what it says to [`Hot::keep`].
    Missing(Ticket),
    /// Not to be told here: read RocksDB.
    Unknown,
}

/// When a key was looked up.
pub(crate) struct Ticket {
    hash: u64,
    version: u32,
    ranges: u64,
}

/// A batch that is being written; dropped when it is in RocksDB or has failed.
pub(crate) struct Writing<'h, 'b> {
    hot: &'h Hot,
    touched: SmallVec<[Touched<'b>; 4]>,
    /// Begin and end of each range that it removes.
    removes: SmallVec<[(&'b [u8], &'b [u8]); 1]>,
    is_written: bool,
    /// It changes scripts or libraries.
    changes_scripts: bool,
}

struct Touched<'b> {
    hash: u64,
    key: &'b [u8],
    /// The new value; `None` for deletions.
    value: Option<&'b [u8]>,
    /// Bytes of key and value that are kept.
    kept: Option<usize>,
    /// What is kept once it is written, unless in the place of another value; `None` if large.
    data: Option<Arc<[u8]>>,
}

impl Hot {
    /// Keeps up to about that many bytes; 0 for nothing.
    pub(crate) fn new(bytes: usize) -> Self {
        let count = match bytes / STRIPE_BYTES {
            0 => 0,
            // A power of two, so that a hash finds its stripe by a mask.
            count => 1 << count.ilog2(),
        };
        Self {
            stripes: (0..count).map(|_| Mutex::default()).collect(),
            stripe_bytes: AtomicUsize::new(STRIPE_BYTES),
            removing: AtomicUsize::new(0),
            ranges: AtomicU64::new(0),
            removed: Mutex::default(),
            scripts: Versions::default(),
        }
    }

    /// Keeps up to about so many bytes from here on, and no more than it was made for. What is kept
    /// is forgotten where it becomes smaller.
    pub(crate) fn resize(&self, bytes: usize) {
        let Some(each) = bytes.checked_div(self.stripes.len()) else { return };
        let each = each.min(STRIPE_BYTES);
        if self.stripe_bytes.swap(each, Ordering::Relaxed) > each {
            self.clear();
        }
    }

    /// Bytes that are kept, about: told by some of the stripes.
    pub(crate) fn bytes(&self) -> usize {
        /// Of more stripes only so many are looked at.
        const LOOKED_AT: usize = 1024;
        let step = (self.stripes.len() / LOOKED_AT).max(1);
        let some: usize = self.stripes.iter().step_by(step).map(|one| one.lock().bytes).sum();
        some.saturating_mul(step)
    }

    /// Bytes that a stripe may hold; 0 for nothing.
    fn room(&self) -> usize {
        self.stripe_bytes.load(Ordering::Relaxed)
    }

    /// A batch that removes these ranges is written.
    fn remove(&self, ranges: &[(&[u8], &[u8])]) {
        let mut removed = self.removed.lock();
        let value = self.ranges.load(Ordering::SeqCst) + 1;
        let new = ranges.iter().map(|(begin, end)| (value, (Box::from(*begin), Box::from(*end))));
        removed.of_late.extend(new);
        while removed.of_late.len() > REMOVED_MAX {
            removed.forgotten = removed.of_late.pop_front().map_or(value, |(gone, _)| gone);
        }
        // Known before it counts.
        self.ranges.store(value, Ordering::SeqCst);
    }

    /// It is not known what is left of what was kept.
    fn remove_all(&self) {
        let mut removed = self.removed.lock();
        let value = self.ranges.load(Ordering::SeqCst) + 1;
        removed.of_late.clear();
        removed.forgotten = value;
        self.ranges.store(value, Ordering::SeqCst);
    }

    fn stripe(&self, hash: u64) -> Option<&Mutex<Stripe>> {
        // The upper half chooses the stripe, the lower one is compared within it.
        let index = (hash >> 32) as usize & self.stripes.len().saturating_sub(1);
        self.stripes.get(index)
    }

    /// Looks a key of the metadata family up.
    pub(crate) fn get(&self, key: &[u8]) -> Found {
        let hash = xxh3_64(key);
        let Some(stripe) = self.stripe(hash) else { return Found::Unknown };
        let mut stripe = stripe.lock();
        if stripe.marks > 0 || self.removing.load(Ordering::SeqCst) > 0 {
            return Found::Unknown;
        }
        let ranges = self.ranges.load(Ordering::SeqCst);
        stripe.forget_removed(&self.removed, ranges);
        let ticket = Ticket { hash, version: stripe.version, ranges };
        match stripe.entry(hash, key) {
            Some(entry) => {
                entry.is_used = true;
                Found::Entry(Arc::clone(&entry.data), usize::from(entry.key_len), ticket)
            }
            None => Found::Missing(ticket),
        }
    }

    /// The same as a snapshot sees it that was taken at this sequence number, if that can be told:
    /// key and value, and where the value begins.
    pub(crate) fn get_at(&self, key: &[u8], sequence: u64) -> Option<(Arc<[u8]>, usize)> {
        let hash = xxh3_64(key);
        let mut stripe = self.stripe(hash)?.lock();
        let is_being_written = stripe.marks > 0 || self.removing.load(Ordering::SeqCst) > 0;
        if is_being_written || stripe.sequence > sequence {
            return None;
        }
        stripe.forget_removed(&self.removed, self.ranges.load(Ordering::SeqCst));
        let entry = stripe.entry(hash, key)?;
        entry.is_used = true;
        Some((Arc::clone(&entry.data), usize::from(entry.key_len)))
    }

    /// Whether no batch has touched the key's stripe since, or is about to.
    pub(crate) fn is_current(&self, ticket: &Ticket) -> bool {
        self.stripe(ticket.hash).is_some_and(|stripe| self.is_of(&stripe.lock(), ticket))
    }

    fn is_of(&self, stripe: &Stripe, ticket: &Ticket) -> bool {
        stripe.marks == 0
            && stripe.version == ticket.version
            && stripe.ranges == ticket.ranges
            && self.removing.load(Ordering::SeqCst) == 0
            && self.ranges.load(Ordering::SeqCst) == ticket.ranges
    }

    /// Keeps what RocksDB said after the ticket was given, if that is still so.
    pub(crate) fn keep(&self, ticket: &Ticket, key: &[u8], value: &[u8]) {
        let Some(stripe) = self.stripe(ticket.hash) else { return };
        let Some(data) = joined(key, value) else { return };
        let mut stripe = stripe.lock();
        if self.is_of(&stripe, ticket) && stripe.entry(ticket.hash, key).is_none() {
            stripe.add(ticket.hash, key.len(), data, self.room());
        }
    }

    /// Forgets everything, and gives the memory back. What is being read or written meanwhile may
    /// be kept again.
    pub(crate) fn clear(&self) {
        for stripe in &self.stripes {
            let mut stripe = stripe.lock();
            stripe.entries = Entries::default();
            (stripe.bytes, stripe.hand) = (0, 0);
        }
    }

    /// Marks what a batch is about to change.
    pub(crate) fn writing<'b>(&self, bytes: &'b [u8]) -> Writing<'_, 'b> {
        let mut writing = Writing {
            hot: self,
            touched: SmallVec::new(),
            removes: SmallVec::new(),
            is_written: false,
            changes_scripts: false,
        };
        if self.stripes.is_empty() {
            if batch::records(bytes).flatten().any(|record| is_of_scripts(&record)) {
                writing.change_scripts();
            }
            return writing;
        }
        for record in batch::records(bytes).flatten() {
            let (key, value) = match record {
                Record::Put { family: Family::Metadata, key, value } => (key, Some(value)),
                Record::Delete { family: Family::Metadata, key } => (key, None),
                Record::DeleteRange { family: Family::Metadata, begin, end } => {
                    writing.removes.push((begin, end));
                    continue;
                }
                other => {
                    if is_of_scripts(&other) {
                        writing.change_scripts();
                    }
                    continue;
                }
            };
            // As commands do that follow each other and are about one key.
            if let Some(last) = writing.touched.last_mut().filter(|last| last.key == key) {
                last.value = value;
                continue;
            }
            let hash = xxh3_64(key);
            if let Some(stripe) = self.stripe(hash) {
                // A lock waits for its stripe to come from memory, and keeps all that follows from
                // being asked for. This does not: they come together.
                std::hint::black_box(stripe.is_locked());
                writing.touched.push(Touched { hash, key, value, kept: None, data: None });
            }
        }
        for Touched { hash, key, value, kept, data } in &mut writing.touched {
            if let Some(stripe) = self.stripe(*hash) {
                let mut stripe = stripe.lock();
                stripe.marks += 1;
                stripe.version = stripe.version.wrapping_add(1);
                *kept = stripe.entry(*hash, key).map(|entry| entry.data.len());
            }
            let is_other = |value: &&[u8]| *kept != Some(key.len() + value.len());
            *data = value.filter(is_other).and_then(|value| joined(key, value));
        }
        if !writing.removes.is_empty() {
            self.removing.fetch_add(1, Ordering::SeqCst);
        }
        writing
    }
}

impl Writing<'_, '_> {
    /// It changes scripts or libraries: as one batch, however many.
    fn change_scripts(&mut self) {
        if !std::mem::replace(&mut self.changes_scripts, true) {
            self.hot.scripts.begin();
        }
    }

    /// The batch is in RocksDB, its last record under this number. To be called in the order of the
    /// log.
    pub(crate) fn written(&mut self, sequence: u64) {
        self.is_written = true;
        // One key cannot be seen apart from others.
        let (unmarks, room) = (self.touched.len() == 1, self.hot.room());
        for touched in &mut self.touched {
            if let Some(stripe) = self.hot.stripe(touched.hash) {
                let mut stripe = stripe.lock();
                stripe.change(touched, room);
                stripe.sequence = sequence;
                stripe.marks -= u32::from(unmarks);
            }
        }
        if unmarks {
            self.touched.clear();
        }
        if !self.removes.is_empty() {
            self.hot.remove(&self.removes);
        }
        if self.changes_scripts {
            self.hot.scripts.written(sequence);
        }
    }
}

impl Drop for Writing<'_, '_> {
    fn drop(&mut self) {
        for touched in &self.touched {
            if let Some(stripe) = self.hot.stripe(touched.hash) {
                let mut stripe = stripe.lock();
                if !self.is_written {
                    // RocksDB refused; whatever it did, what it says next is true.
                    stripe.forget(touched.hash, touched.key);
                }
                stripe.marks -= 1;
            }
        }
        if !self.removes.is_empty() {
            if !self.is_written {
                self.hot.remove_all();
            }
            self.hot.removing.fetch_sub(1, Ordering::SeqCst);
        }
        if self.changes_scripts {
            self.hot.scripts.end();
        }
    }
}

impl Stripe {
    /// Forgets what was removed until `ranges` had this value.
    fn forget_removed(&mut self, removed: &Mutex<Removed>, ranges: u64) {
        if self.ranges == ranges {
            return;
        }
        let removed = removed.lock();
        if self.ranges < removed.forgotten {
            self.entries.clear();
        } else {
            let since = removed.of_late.iter().filter(|(value, _)| *value > self.ranges);
            let since: SmallVec<[(&[u8], &[u8]); 4]> =
                since.map(|(_, (begin, end))| (&**begin, &**end)).collect();
            let is_removed = |key: &[u8]| {
                since.iter().any(|(begin, end)| key >= *begin && (end.is_empty() || key < *end))
            };
            self.entries.retain(|entry| entry.key().map(is_removed) == Some(false));
        }
        self.bytes = self.entries.iter().map(Entry::bytes).sum();
        (self.hand, self.ranges) = (0, ranges);
    }

    fn entry(&mut self, hash: u64, key: &[u8]) -> Option<&mut Entry> {
        let position = self.entries.position(hash as u32, key)?;
        self.entries.at(position)
    }

    /// A new value for a key, or none.
    fn change(&mut self, touched: &mut Touched<'_>, room: usize) {
        let Touched { hash, key, value, data, .. } = touched;
        let kept = self.entry(*hash, key).zip(*value);
        if kept.and_then(|(entry, value)| entry.set(value)).is_some() {
            return;
        }
        self.forget(*hash, key);
        // What had a place may have none any more.
        if let Some(data) = data.take().or_else(|| value.and_then(|value| joined(key, value))) {
            self.add(*hash, key.len(), data, room);
        }
    }

    fn forget(&mut self, hash: u64, key: &[u8]) {
        if let Some(position) = self.entries.position(hash as u32, key) {
            self.remove(position);
        }
    }

    fn remove(&mut self, position: usize) {
        let entry = self.entries.swap_remove(position);
        self.bytes = self.bytes.saturating_sub(entry.bytes());
    }

    fn add(&mut self, hash: u64, key_len: usize, data: Arc<[u8]>, room: usize) {
        let Ok(key_len) = u16::try_from(key_len) else { return };
        let entry = Entry { hash: hash as u32, key_len, is_used: false, data };
        if entry.bytes() > room {
            return;
        }
        self.bytes += entry.bytes();
        while self.bytes > room && !self.entries.is_empty() {
            self.evict();
        }
        self.entries.push(entry);
    }

    /// Second chance: the hand takes the first entry nobody read since it last came by.
    fn evict(&mut self) {
        loop {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            match self.entries.at(self.hand) {
                None => return,
                Some(entry) if entry.is_used => entry.is_used = false,
                Some(_) => return self.remove(self.hand),
            }
            self.hand += 1;
        }
    }
}

/// Key and value, if they are short enough to be kept.
fn joined(key: &[u8], value: &[u8]) -> Option<Arc<[u8]>> {
    if key.len() + value.len() > ENTRY_BYTES_MAX {
        return None;
    }
    let mut both: SmallVec<[u8; ENTRY_BYTES_MAX]> = SmallVec::new();
    both.extend_from_slice(key);
    both.extend_from_slice(value);
    Some(Arc::from(both.as_slice()))
}

#[cfg(test)]
mod tests;
