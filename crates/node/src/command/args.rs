//! A cursor over the arguments of one command.

use std::time::Duration;

use smallvec::SmallVec;
use storage::types::bounds::{Lex, Score};
use storage::types::pick::Wanted;
use storage::types::score;

use super::error::{Error, Result};

pub use storage::types::numbers::parse_integer;

/// Words of one command; most have few.
pub type Words<'a> = SmallVec<[&'a [u8]; 16]>;

/// Arguments in pairs; most commands have one.
pub type Pairs<'a> = SmallVec<[(&'a [u8], &'a [u8]); 4]>;

/// Arguments behind the command name, taken from the front.
#[derive(Debug, Clone)]
pub struct Args<'a> {
    words: &'a [&'a [u8]],
    next: usize,
}

/// A word in upper case on the stack, to match options against; longer words than any option are
/// cut, and match none.
#[derive(Debug, Default)]
pub struct Word {
    bytes: [u8; 32],
    length: usize,
}

impl std::ops::Deref for Word {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<'a> Args<'a> {
    /// A cursor behind the command name; `words` includes it.
    pub fn new(words: &'a [&'a [u8]]) -> Self {
        Self::behind(1, words)
    }

    /// A cursor behind a name of that many words.
    pub fn behind(names: u8, words: &'a [&'a [u8]]) -> Self {
        Self { words, next: usize::from(names) }
    }

    /// The whole command, its name included.
    pub fn all(&self) -> &'a [&'a [u8]] {
        self.words
    }

    /// Arguments not taken yet.
    pub fn rest(&mut self) -> &'a [&'a [u8]] {
        let rest = self.words.get(self.next..).unwrap_or_default();
        self.next = self.words.len();
        rest
    }

    /// Cuts off what stands behind an argument `word`, of any case, which is not one of the next
    /// `least`; `None` without it.
    pub fn split_behind(&mut self, least: usize, word: &[u8]) -> Option<&'a [&'a [u8]]> {
        let from = self.next.saturating_add(least);
        let rest = self.words.get(from..)?;
        let place = rest.iter().position(|found| found.eq_ignore_ascii_case(word))?;
        self.words = self.words.get(..from + place)?;
        rest.get(place + 1..)
    }

    /// The argument so many behind the next one, which stays where it is.
    pub fn ahead(&self, count: usize) -> Option<&'a [u8]> {
        self.words.get(self.next.saturating_add(count)).copied()
    }

    /// How many arguments are not taken yet.
    pub fn len(&self) -> usize {
        self.words.len().saturating_sub(self.next)
    }

    /// True when all are taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next argument; [`Error::Syntax`] at the end.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let word = self.words.get(self.next).copied().ok_or(Error::Syntax)?;
        self.next += 1;
        Ok(word)
    }

    /// The next argument as text.
    pub fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::Syntax)
    }

    /// The next argument in upper case, or `None` at the end.
    pub fn word(&mut self) -> Option<Word> {
        let word = self.words.get(self.next)?;
        self.next += 1;
        let mut bytes = [0; 32];
        let length = word.len().min(bytes.len());
        bytes[..length].copy_from_slice(&word[..length]);
        bytes.make_ascii_uppercase();
        Some(Word { bytes, length })
    }

    /// The next argument as a decimal integer in the strict form Redis accepts: no blanks, no plus,
    /// no leading zeros.
    pub fn integer(&mut self) -> Result<i64> {
        parse_integer(self.bytes()?).ok_or(Error::NotInteger)
    }

    /// The next argument as an integer of another type.
    pub fn number<T: TryFrom<i64>>(&mut self) -> Result<T> {
        T::try_from(self.integer()?).map_err(|_| Error::NotInteger)
    }

    /// The next argument as a floating-point number that is no NaN.
    pub fn float(&mut self) -> Result<f64> {
        score::parse(self.bytes()?).ok_or_else(|| Error::text("ERR value is not a valid float"))
    }

    /// What is left, in pairs; as a wrong number of arguments of `command` if one is left over.
    pub fn pairs(&mut self, command: &str) -> Result<Pairs<'a>> {
        let (pairs, rest) = self.rest().as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Error::Arity(command.into()));
        }
        Ok(pairs.iter().map(|[first, second]| (*first, *second)).collect())
    }

    /// A number of keys, and so many keys; `least` keys at least.
    pub fn numkeys(&mut self, least: usize) -> Result<&'a [&'a [u8]]> {
        let count = self.number::<usize>()?;
        if count < least {
            return Err(Error::text("ERR numkeys should be greater than 0"));
        }
        let end = self.next.checked_add(count).ok_or(Error::Syntax)?;
        let keys = self.words.get(self.next..end).ok_or(Error::Syntax)?;
        self.next = end;
        Ok(keys)
    }

    /// How many random elements are wanted, and whether the word behind that asks for more than
    /// their names; the last arguments.
    pub fn draws(&mut self, more: &[u8]) -> Result<(Wanted, bool)> {
        let wanted = Wanted::of(self.integer()?);
        let has_more = match self.word() {
            Some(word) if *word != *more => return Err(Error::Syntax),
            word => word.is_some(),
        };
        self.end()?;
        if matches!(wanted, Wanted::Repeated(DRAWS_MAX..)) {
            return Err(Error::text("ERR value is out of range"));
        }
        Ok((wanted, has_more))
    }

    /// The next so many arguments.
    pub fn take(&mut self, count: usize) -> Result<&'a [&'a [u8]]> {
        let end = self.next.checked_add(count).ok_or(Error::Syntax)?;
        let words = self.words.get(self.next..end).ok_or(Error::Syntax)?;
        self.next = end;
        Ok(words)
    }

    /// What follows LIMIT: how many are left out, and how many come then.
    pub fn limit(&mut self) -> Result<Limit> {
        Ok(Limit { offset: self.integer()?, count: self.integer()? })
    }

    /// A bound of names: `-`, `+`, `[name`, `(name`.
    pub fn lex_bound(&mut self) -> Result<Lex<'a>> {
        Lex::parse(self.bytes()?)
            .ok_or_else(|| Error::text("ERR min or max not valid string range item"))
    }

    /// A bound of scores: a number, or `(` and a number.
    pub fn score_bound(&mut self) -> Result<Score> {
        Score::parse(self.bytes()?).ok_or_else(|| Error::text("ERR min or max is not a float"))
    }

    /// The options behind a cursor: MATCH, COUNT, and TYPE where keys are walked.
    pub fn scan_options(&mut self, words: ScanWords) -> Result<ScanOptions<'a>> {
        let mut options = ScanOptions { pattern: None, count: SCAN_COUNT, type_name: None };
        while let Some(word) = self.word() {
            match &*word {
                b"MATCH" => options.pattern = Some(self.bytes()?),
                b"COUNT" => {
                    let wanted = usize::try_from(self.integer()?).ok();
                    options.count = wanted.filter(|count| *count > 0).ok_or(Error::Syntax)?;
                }
                b"TYPE" if words == ScanWords::WithType => options.type_name = Some(self.bytes()?),
                _ => return Err(Error::Syntax),
            }
        }
        Ok(options)
    }

    /// The time for which a command waits from `now_ms` on, in seconds; 0, here `None`, for ever.
    /// As in Redis part of a millisecond is a whole one.
    pub fn patience(&mut self, now_ms: u64) -> Result<Option<Duration>> {
        const WRONG: &str = "ERR timeout is not a float or out of range";
        let seconds = score::parse(self.bytes()?).ok_or_else(|| Error::text(WRONG))?;
        if seconds < 0.0 {
            return Err(Error::text("ERR timeout is negative"));
        }
        let patience = Duration::try_from_secs_f64((seconds * 1_000.0).ceil() / 1_000.0).ok();
        let patience = patience.filter(|patience| is_in_time(patience.as_millis(), now_ms));
        let patience = patience.ok_or_else(|| Error::text(TOO_LATE))?;
        Ok((!patience.is_zero()).then_some(patience))
    }

    /// The same in whole milliseconds.
    pub fn patience_ms(&mut self, now_ms: u64) -> Result<Option<Duration>> {
        const WRONG: &str = "ERR timeout is not an integer or out of range";
        let ms = self.integer().map_err(|_| Error::text(WRONG))?;
        let ms = u64::try_from(ms).map_err(|_| Error::text("ERR timeout is negative"))?;
        if !is_in_time(ms.into(), now_ms) {
            return Err(Error::text(TOO_LATE));
        }
        Ok((ms > 0).then(|| Duration::from_millis(ms)))
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(Error::Syntax) }
    }
}

/// More draws than any client reads.
const DRAWS_MAX: u64 = 1 << 24;

const TOO_LATE: &str = "ERR timeout is out of range";

/// Whether a time ends before what Redis can count, Unix ms.
fn is_in_time(ms: u128, now_ms: u64) -> bool {
    ms.saturating_add(now_ms.into()) <= i64::MAX as u128
}

/// Names that a walk looks at unless told otherwise: Kvrocks' default; Redis looks at 10.
const SCAN_COUNT: usize = 20;

/// Which options a walk knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanWords {
    /// SCAN's.
    WithType,
    /// Those of HSCAN, SSCAN, ZSCAN.
    WithoutType,
}

/// See [`Args::scan_options`].
#[derive(Debug, Clone, Copy)]
pub struct ScanOptions<'a> {
    /// MATCH.
    pub pattern: Option<&'a [u8]>,
    /// COUNT, at least 1.
    pub count: usize,
    /// TYPE.
    pub type_name: Option<&'a [u8]>,
}

/// See [`Args::limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// So many are left out; a negative number leaves out all.
    pub offset: i64,
    /// So many at most; a negative number is no bound.
    pub count: i64,
}

impl Limit {
    /// No bound.
    pub const NONE: Self = Self { offset: 0, count: -1 };

    /// The part of a listing.
    pub fn range(self) -> std::ops::Range<u64> {
        let Ok(offset) = u64::try_from(self.offset) else { return 0..0 };
        let count = u64::try_from(self.count).unwrap_or(u64::MAX);
        offset..offset.saturating_add(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_ends_within_what_redis_counts() {
        let now_ms = 1_000_000;
        for (word, expected) in [
            ("0", Some(None)),
            ("1500", Some(Some(Duration::from_millis(1500)))),
            ("9223372036853775807", Some(Some(Duration::from_millis(i64::MAX as u64 - now_ms)))),
            ("9223372036853775808", None),
            ("9223372036854775807", None),
            ("-1", None),
            ("1.5", None),
        ] {
            let words: [&[u8]; 2] = [b"", word.as_bytes()];
            assert_eq!(Args::new(&words).patience_ms(now_ms).ok(), expected, "{word}");
        }
        for (word, expected) in [
            ("0.0001", Some(Some(Duration::from_millis(1)))),
            ("-0.0", Some(None)),
            ("9223372036854775", None),
            ("9223372036000", Some(Some(Duration::from_secs(9_223_372_036_000)))),
            ("inf", None),
        ] {
            let words: [&[u8]; 2] = [b"", word.as_bytes()];
            assert_eq!(Args::new(&words).patience(now_ms).ok(), expected, "{word}");
        }
    }

    #[test]
    fn integers_are_strict() {
        for (text, value) in [
            ("0", 0),
            ("-1", -1),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), Some(value));
        }
        for text in ["", "-", "-0", "01", "+1", " 1", "1 ", "9223372036854775808", "1.0", "1e3"] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text:?}");
        }
    }
}
