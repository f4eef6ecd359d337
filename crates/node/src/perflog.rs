//! PERFLOG: what RocksDB did for commands that were sampled, as in Kvrocks.
//!
//! Before a command runs dice decide whether RocksDB counts and takes times for it; where nothing
//! is sampled that is a look at one number. A command that asked nothing of RocksDB, because all it
//! needed was in memory, leaves no sample.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use storage::perf::{Report, Sample};

use crate::clock;
use crate::command::Row;
use crate::config::Values;
use crate::config::sampled::Sampled;

/// One sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Rises by one per entry, from 1 on.
    pub id: u64,
    /// Unix seconds at its end.
    pub at: u64,
    /// The command, by the name that the table gives it.
    pub command: &'static str,
    /// Microseconds it took.
    pub micros: u64,
    /// What RocksDB counted of its own work.
    pub work: String,
    /// And of files.
    pub files: String,
}

/// The log.
#[derive(Debug, Default)]
pub struct Perflog(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    last_id: u64,
    newest_first: VecDeque<Entry>,
}

impl Perflog {
    /// Ends a sample, and keeps it as the options say.
    pub fn note(&self, sampling: Sampling, config: &Values) {
        let took = sampling.started.elapsed();
        if !is_kept(config.profiling_sample_record_threshold_ms, took) {
            return;
        }
        let Report { work, files } = sampling.sample.end();
        if work.is_empty() {
            return;
        }
        let (command, at) = (sampling.command, clock::unix_ms() / 1000);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let entry = Entry { id: 0, at, command, micros, work, files };
        self.add(entry, config.profiling_sample_record_max_len);
    }

    fn add(&self, entry: Entry, limit: u32) {
        let mut entries = self.0.lock();
        entries.last_id += 1;
        let id = entries.last_id;
        entries.newest_first.push_front(Entry { id, ..entry });
        entries.bound(limit);
    }

    /// Drops the oldest entries beyond so many.
    pub fn bound(&self, limit: u32) {
        self.0.lock().bound(limit);
    }

    /// The newest entries.
    pub fn newest(&self, count: usize) -> Vec<Entry> {
        self.0.lock().newest_first.iter().take(count).cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().newest_first.len()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all; ids go on.
    pub fn clear(&self) {
        self.0.lock().newest_first.clear();
    }
}

impl Entries {
    fn bound(&mut self, limit: u32) {
        self.newest_first.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
}

/// A command for which RocksDB counts until it is noted, or dropped.
#[derive(Debug)]
#[must_use = "it ends with this value"]
pub struct Sampling {
    command: &'static str,
    started: Instant,
    sample: Sample,
}

impl Sampling {
    /// Begins with a command if it is chosen.
    pub fn begin(config: &Values, command: &'static Row) -> Option<Self> {
        if is_chosen(config, command) { Self::of_chosen(command) } else { None }
    }

    /// Begins with a command that is; `None` where it is a part of one that is sampled as a whole.
    pub fn of_chosen(command: &'static Row) -> Option<Self> {
        let sample = Sample::begin()?;
        Some(Self { command: command.first_word(), started: Instant::now(), sample })
    }
}

/// Throws the dice for a command.
pub fn is_chosen(config: &Values, command: &Row) -> bool {
    let (ratio, commands) = (config.profiling_sample_ratio, &config.profiling_sample_commands);
    ratio > 0 && falls(ratio, commands, command.first_word(), rand::random_range(0..100))
}

/// Whether a command is sampled: `roll` is one of the numbers from 0 to 99.
fn falls(ratio: u32, commands: &Sampled, command: &str, roll: u32) -> bool {
    roll < ratio && commands.has(command)
}

/// Whether a sample of a command that took so long is kept.
fn is_kept(threshold_ms: u32, took: Duration) -> bool {
    took >= Duration::from_millis(threshold_ms.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Value as _;

    fn entry(command: &'static str) -> Entry {
        let (work, files) = ("a = 1".to_owned(), String::new());
        Entry { id: 0, at: 1, command, micros: 2, work, files }
    }

    fn ids(log: &Perflog, count: usize) -> Vec<u64> {
        log.newest(count).iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn the_newest_are_kept_and_shown_first() {
        let log = Perflog::default();
        for command in ["get", "set", "del", "get"] {
            log.add(entry(command), 3);
        }
        assert_eq!((ids(&log, 10), ids(&log, 2)), (vec![4, 3, 2], vec![4, 3]));
        assert_eq!(log.newest(2)[1].command, "del");
        log.bound(2);
        assert_eq!((ids(&log, 10), log.len()), (vec![4, 3], 2));
        log.bound(9);
        log.add(entry("get"), 9);
        assert_eq!(ids(&log, 10), [5, 4, 3]);
        log.add(entry("get"), 0);
        assert!(log.is_empty());
    }

    #[test]
    fn ids_go_on_after_all_is_forgotten() {
        let log = Perflog::default();
        log.add(entry("get"), 3);
        log.clear();
        assert!(log.is_empty());
        log.add(entry("get"), 3);
        assert_eq!(ids(&log, 3), [2]);
    }

    #[test]
    fn as_many_rolls_in_a_hundred_fall_as_the_ratio_says() {
        let (_, get) = crate::shell::table().find(b"get").unwrap();
        let (none, some) = (Sampled::default(), Sampled::parse("get,set").unwrap());
        for ratio in [0, 1, 37, 100] {
            let count = |commands: &Sampled, command| {
                (0..100).filter(|roll| falls(ratio, commands, command, *roll)).count()
            };
            assert_eq!(count(&some, "get"), ratio as usize);
            assert_eq!((count(&some, "del"), count(&none, "get")), (0, 0));
        }
        let chosen = |ratio| {
            let config = Values {
                profiling_sample_ratio: ratio,
                profiling_sample_commands: Sampled::parse("*").unwrap(),
                ..Values::default()
            };
            is_chosen(&config, get)
        };
        assert!(chosen(100) && !chosen(0));
    }

    #[test]
    fn what_took_as_long_as_the_threshold_is_kept() {
        let ms = Duration::from_millis;
        assert!(is_kept(0, Duration::ZERO) && is_kept(100, ms(100)) && is_kept(100, ms(101)));
        assert!(!is_kept(100, ms(100) - Duration::from_nanos(1)));
    }
}
