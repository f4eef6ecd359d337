//! Errors that clients are answered, by their codes: INFO errorstats and `total_error_replies`.
//!
//! As in Redis the number of codes is bounded, because scripts may make up any: with one too many
//! none is told apart any more, until CONFIG RESETSTAT.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

/// Codes that are told apart.
const CODES_MAX: usize = 128;
/// What stands for all of them once there were more.
const DISABLED: &str = "ERRORSTATS_DISABLED";
/// A code that is longer is taken for none, as in Redis.
const CODE_MAX: usize = 30;

/// The code that an error without its `-` begins with: `ERR` where it begins with none, and what
/// would end a line or a name of INFO replaced.
pub fn code(text: &[u8]) -> Cow<'_, str> {
    let head = text.get(..=CODE_MAX).unwrap_or(text);
    let end = head.iter().position(|byte| *byte == b' ');
    let code = end.and_then(|end| head.get(..end)).filter(|code| !code.is_empty());
    let code = String::from_utf8_lossy(code.unwrap_or(b"ERR"));
    match code.contains(['#', ':', '\r', '\n']) {
        true => code.replace(['#', ':', '\r', '\n'], "_").into(),
        false => code,
    }
}

/// The counters of a node.
#[derive(Debug, Default)]
pub struct Errors {
    total: AtomicU64,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_code: BTreeMap<String, AtomicU64>,
    /// There were too many.
    is_over: bool,
}

impl Errors {
    /// One more error, by its text without the `-`.
    pub fn note(&self, text: &[u8]) {
        self.add(&code(text), 1);
    }

    /// One more reply that may be an error, as RESP.
    pub fn note_reply(&self, reply: &[u8]) {
        if let [b'-', text @ ..] = reply {
            self.note(text);
        }
    }

    /// So many more with that code.
    pub fn add(&self, code: &str, count: u64) {
        self.total.fetch_add(count, Ordering::Relaxed);
        {
            let known = self.known.read();
            if known.is_over {
                return;
            }
            if let Some(sum) = known.by_code.get(code) {
                sum.fetch_add(count, Ordering::Relaxed);
                return;
            }
        }
        if self.known.write().begin(code, count) {
            tracing::warn!(
                "clients were answered errors of more than {CODES_MAX} codes, as scripts may make \
                 up: INFO errorstats tells none apart until CONFIG RESETSTAT"
            );
        }
    }

    /// Each code with its count, in the order of the codes.
    pub fn counts(&self) -> Vec<(String, u64)> {
        let known = self.known.read();
        let counts = known.by_code.iter();
        counts.map(|(code, count)| (code.clone(), count.load(Ordering::Relaxed))).collect()
    }

    /// All errors together.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Back to none.
    pub fn reset(&self) {
        *self.known.write() = Known::default();
        self.total.store(0, Ordering::Relaxed);
    }
}

impl Known {
    /// Counts what was not known a moment ago; true if that is one code too many.
    fn begin(&mut self, code: &str, count: u64) -> bool {
        if self.is_over {
            return false;
        }
        let is_known = self.by_code.contains_key(code);
        if !is_known && self.by_code.len() >= CODES_MAX {
            let disabled = (DISABLED.to_owned(), AtomicU64::new(1));
            *self = Self { by_code: BTreeMap::from([disabled]), is_over: true };
            return true;
        }
        *self.by_code.entry(code.to_owned()).or_default().get_mut() += count;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_first_word_if_it_is_no_longer_than_codes_are() {
        let longest = "A".repeat(CODE_MAX);
        let (fits, too_long) = (format!("{longest} x"), format!("{longest}A x"));
        for (text, expected) in [
            ("WRONGTYPE Operation against a key", "WRONGTYPE"),
            ("ERR", "ERR"),
            ("NOSCRIPT", "ERR"),
            (" x", "ERR"),
            ("", "ERR"),
            ("MY:#CODE x", "MY__CODE"),
            (fits.as_str(), longest.as_str()),
            (too_long.as_str(), "ERR"),
        ] {
            assert_eq!(code(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn one_code_too_many_ends_the_telling_apart_until_the_counters_are_reset() {
        let errors = Errors::default();
        for number in 0..CODES_MAX {
            errors.note(format!("C{number:03} x").as_bytes());
        }
        errors.add("C000", 2);
        errors.note_reply(b"-C001 x\r\n");
        errors.note_reply(b"$3\r\n-C1\r\n");
        let counts = errors.counts();
        assert_eq!((counts.len(), errors.total()), (CODES_MAX, 131));
        let first: Vec<_> = counts[..3].iter().map(|(code, n)| (code.as_str(), *n)).collect();
        assert_eq!(first, [("C000", 3), ("C001", 2), ("C002", 1)]);
        for text in ["MORE x", "C000 x"] {
            errors.note(text.as_bytes());
            assert_eq!(errors.counts(), [(DISABLED.to_owned(), 1)]);
        }
        assert_eq!(errors.total(), 133);
        errors.reset();
        errors.note(b"ERR x");
        assert_eq!((errors.counts(), errors.total()), (vec![("ERR".to_owned(), 1)], 1));
    }
}
