//! A cursor over the arguments of one command.

use smallvec::SmallVec;

use super::error::{Error, Result};

/// Words of one command; most have few.
pub type Words<'a> = SmallVec<[&'a [u8]; 16]>;

/// Arguments behind the command name, taken from the front.
#[derive(Debug, Clone)]
pub struct Args<'a> {
    words: &'a [&'a [u8]],
    next: usize,
}

/// A word in upper case on the stack, to match options against; longer words than any option are cut, and match none.
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

    /// The next argument as a decimal integer in the strict form Redis accepts: no blanks, no plus, no leading zeros.
    pub fn integer(&mut self) -> Result<i64> {
        parse_integer(self.bytes()?).ok_or(Error::NotInteger)
    }

    /// The next argument as an integer of another type.
    pub fn number<T: TryFrom<i64>>(&mut self) -> Result<T> {
        T::try_from(self.integer()?).map_err(|_| Error::NotInteger)
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(Error::Syntax) }
    }
}

/// A decimal integer as Redis' `string2ll` takes it.
pub fn parse_integer(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let is_plain = match digits {
        [b'0'] => bytes.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.len() < 19 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_plain {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
