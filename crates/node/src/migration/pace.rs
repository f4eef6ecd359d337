//! Pipelines of commands, and batches, each at its pace.

use std::time::{Duration, Instant};

use resp::value::encode_command;
use storage::slots::commands::{Closed, Out};

use super::link::{Failed, Link};
use crate::config::Values;

/// Commands as they are collected and sent: as many as a pipeline has, or a few more, and then all
/// the replies.
pub struct Pipeline<'l, 'n> {
    link: &'l mut Link<'n>,
    requests: Vec<u8>,
    /// First words of what is in `requests`.
    names: Vec<String>,
    size: usize,
    interval: Duration,
    next: Instant,
    failed: Option<Failed>,
}

/// Bytes after which a pipeline leaves, however few commands it has.
const PIPELINE_BYTES: usize = 4 << 20;

/// How long a pipeline takes at least; nothing without a limit.
fn interval(size: u32, speed: u32) -> Duration {
    match speed {
        0 => Duration::ZERO,
        speed => Duration::from_secs_f64(f64::from(size) / f64::from(speed)),
    }
}

impl<'l, 'n> Pipeline<'l, 'n> {
    /// An empty one, as large and as fast as the options say.
    pub fn new(link: &'l mut Link<'n>, options: &Values) -> Self {
        let size = options.migrate_pipeline_size;
        Self {
            link,
            requests: Vec::new(),
            names: Vec::new(),
            size: usize::try_from(size).unwrap_or(usize::MAX),
            interval: interval(size, options.migrate_speed),
            next: Instant::now(),
            failed: None,
        }
    }

    /// Sends what there is.
    ///
    /// # Errors
    /// See [`Failed`].
    pub fn flush(&mut self) -> Result<(), Failed> {
        if let Some(failed) = self.failed.clone() {
            return Err(failed);
        }
        if self.names.is_empty() {
            return Ok(());
        }
        self.link.pause(self.next.saturating_duration_since(Instant::now()))?;
        self.next = Instant::now() + self.interval;
        self.link.send(&std::mem::take(&mut self.requests))?;
        for name in std::mem::take(&mut self.names) {
            self.link.receive(&name)?;
        }
        Ok(())
    }
}

impl Out for Pipeline<'_, '_> {
    fn command(&mut self, words: &[&[u8]]) {
        self.requests.extend(encode_command(words));
        let name = words.first().copied().unwrap_or_default();
        let key = words.get(1).filter(|_| name != b"APPLYBATCH").copied().unwrap_or_default();
        let key = String::from_utf8_lossy(key.get(..64).unwrap_or(key)).into_owned();
        self.names.push(format!("{} {key}", String::from_utf8_lossy(name)).trim_end().to_owned());
    }

    fn may_send(&mut self) -> Result<(), Closed> {
        if self.names.len() < self.size && self.requests.len() < PIPELINE_BYTES {
            return Ok(());
        }
        self.flush().map_err(|failed| {
            self.failed = Some(failed);
            Closed
        })
    }
}

/// When the next batch may leave.
#[derive(Debug, Default)]
pub struct Rate {
    /// None: at once.
    next: Option<Instant>,
}

impl Rate {
    /// Sends a batch when its time has come, and waits for the reply.
    ///
    /// # Errors
    /// See [`Failed`].
    pub fn send(
        &mut self,
        link: &mut Link<'_>,
        batch: &[u8],
        options: &Values,
    ) -> Result<(), Failed> {
        let left = self.next.map(|next| next.saturating_duration_since(Instant::now()));
        link.pause(left.unwrap_or_default())?;
        let bytes_per_second = u64::from(options.migrate_batch_rate_limit_mb) << 20;
        self.next = Some(Instant::now() + time_of(batch.len(), bytes_per_second));
        link.ask("APPLYBATCH", &[b"APPLYBATCH", batch]).map(|_| ())
    }
}

/// How long so many bytes take; nothing without a limit.
fn time_of(bytes: usize, bytes_per_second: u64) -> Duration {
    match bytes_per_second {
        0 => Duration::ZERO,
        rate => Duration::from_secs_f64(bytes as f64 / rate as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_are_those_of_the_options() {
        assert_eq!(interval(4, 64), Duration::from_micros(62_500));
        assert_eq!(interval(16, 0), Duration::ZERO);
        assert_eq!(time_of(1 << 20, 16 << 20), Duration::from_micros(62_500));
        assert_eq!(time_of(usize::MAX, 0), Duration::ZERO);
        assert!(interval(u32::MAX, 1) > Duration::from_secs(1 << 31));
    }
}
