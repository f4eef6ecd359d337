//! LATENCY: moments at which something took longer than `latency-monitor-threshold`.
//!
//! Of each kind of event the newest are kept, one a second, as in Redis. The kinds are few: they
//! are named here, never by clients.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

/// Samples kept of each kind.
const SAMPLES_MAX: usize = 160;

/// A command that is fast by its row.
pub const FAST_COMMAND: &str = "fast-command";
/// Any other.
pub const COMMAND: &str = "command";

/// What happened at one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Unix seconds.
    pub at: u64,
    /// The longest of that second, milliseconds.
    pub ms: u64,
}

/// One kind of event.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Oldest first; never empty where it is shown.
    pub samples: VecDeque<Sample>,
    /// The longest ever, milliseconds.
    pub max_ms: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Monitor(Mutex<BTreeMap<&'static str, Series>>);

impl Monitor {
    /// Something took that long.
    pub fn add(&self, event: &'static str, at: u64, ms: u64) {
        let mut all = self.0.lock();
        let series = all.entry(event).or_default();
        series.max_ms = series.max_ms.max(ms);
        match series.samples.back_mut() {
            Some(last) if last.at == at => last.ms = last.ms.max(ms),
            _ => series.samples.push_back(Sample { at, ms }),
        }
        if series.samples.len() > SAMPLES_MAX {
            series.samples.pop_front();
        }
    }

    /// A command took that long; it is kept if that is too long.
    pub fn note_command(&self, is_fast: bool, micros: u64, threshold_ms: u32, at: u64) {
        let ms = micros / 1000;
        if threshold_ms > 0 && ms >= u64::from(threshold_ms) {
            self.add(if is_fast { FAST_COMMAND } else { COMMAND }, at, ms);
        }
    }

    /// All kinds that were met, by name.
    pub fn all(&self) -> Vec<(&'static str, Series)> {
        self.0.lock().iter().map(|(name, series)| (*name, series.clone())).collect()
    }

    /// One kind.
    pub fn of(&self, event: &[u8]) -> Option<Series> {
        let all = self.0.lock();
        all.iter().find(|(name, _)| name.as_bytes() == event).map(|(_, series)| series.clone())
    }

    /// Forgets these kinds, all if none is named; how many there were.
    pub fn reset(&self, events: &[&[u8]]) -> usize {
        let mut all = self.0.lock();
        let before = all.len();
        all.retain(|name, _| !events.is_empty() && !events.contains(&name.as_bytes()));
        before - all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_one_sample_and_old_ones_go() {
        let monitor = Monitor::default();
        monitor.add(COMMAND, 1, 5);
        monitor.add(COMMAND, 1, 3);
        monitor.add(FAST_COMMAND, 2, 1);
        let series = monitor.of(b"command").unwrap();
        assert_eq!((series.samples.len(), series.max_ms), (1, 5));
        for at in 2..500 {
            monitor.add(COMMAND, at, 1);
        }
        let series = monitor.of(b"command").unwrap();
        assert_eq!((series.samples.len(), series.max_ms), (SAMPLES_MAX, 5));
        assert_eq!(series.samples.back(), Some(&Sample { at: 499, ms: 1 }));
        assert_eq!((monitor.reset(&[b"command"]), monitor.all().len()), (1, 1));
        assert_eq!((monitor.reset(&[b"none"]), monitor.reset(&[])), (0, 1));
    }
}
