//! SLOWLOG: the commands that took longest lately.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Arguments kept per entry, and bytes kept per argument (Redis: `SLOWLOG_ENTRY_MAX_ARGC`, `…_MAX_STRING`).
const ARGUMENTS_MAX: usize = 32;
const BYTES_MAX: usize = 128;

/// One slow command.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Rises by one per entry.
    pub id: u64,
    /// Unix seconds.
    pub at: u64,
    /// Microseconds it took.
    pub micros: u64,
    /// The command, shortened.
    pub words: Vec<Vec<u8>>,
    /// Address of the client.
    pub client: String,
    /// Its name.
    pub name: String,
}

/// The log.
#[derive(Debug, Default)]
pub struct Slowlog {
    next: AtomicU64,
    entries: Mutex<VecDeque<Entry>>,
}

impl Slowlog {
    /// Adds an entry and keeps at most `limit`.
    pub fn add(&self, mut entry: Entry, limit: usize) {
        entry.id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.entries.lock();
        entries.push_front(entry);
        entries.truncate(limit);
    }

    /// The newest entries.
    pub fn newest(&self, count: usize) -> Vec<Entry> {
        self.entries.lock().iter().take(count).cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.entries.lock().clear();
    }
}

/// Words as an entry keeps them.
pub fn shorten(words: &[&[u8]]) -> Vec<Vec<u8>> {
    let kept = if words.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { words.len() };
    let mut short: Vec<Vec<u8>> = words.iter().take(kept).map(|word| shorten_word(word)).collect();
    if kept < words.len() {
        short.push(format!("... ({} more arguments)", words.len() - kept).into_bytes());
    }
    short
}

fn shorten_word(word: &[u8]) -> Vec<u8> {
    if word.len() <= BYTES_MAX {
        return word.to_vec();
    }
    let mut short = word[..BYTES_MAX].to_vec();
    short.extend_from_slice(format!("... ({} more bytes)", word.len() - BYTES_MAX).as_bytes());
    short
}
