//! Identifiers of entries: Unix milliseconds, and a number among the entries of one millisecond.

use std::fmt;

/// See the module. Ordered as entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Id {
    /// Unix milliseconds.
    pub ms: u64,
    /// Number within them.
    pub seq: u64,
}

impl Id {
    /// Before every entry: no entry has it.
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    /// Behind which there is none.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// `ms-seq` or `ms`, which then has `missing_seq`; `None` if it is neither.
    pub fn parse(text: &[u8], missing_seq: u64) -> Option<Self> {
        let Some(dash) = text.iter().position(|byte| *byte == b'-') else {
            return Some(Self { ms: number(text)?, seq: missing_seq });
        };
        let (ms, seq) = (text.get(..dash)?, text.get(dash + 1..)?);
        Some(Self { ms: number(ms)?, seq: number(seq)? })
    }

    /// The first one behind it.
    pub fn next(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => self.ms.checked_add(1).map(|ms| Self { ms, seq: 0 }),
        }
    }

    /// The last one before it.
    pub fn previous(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => self.ms.checked_sub(1).map(|ms| Self { ms, seq: u64::MAX }),
        }
    }

    /// As it lies on disk: its order is that of its bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (ms, seq) = bytes.split_at_mut(8);
        ms.copy_from_slice(&self.ms.to_be_bytes());
        seq.copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    /// `None` if these bytes are not the sixteen of one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (ms, rest) = bytes.split_first_chunk::<8>()?;
        let seq = <[u8; 8]>::try_from(rest).ok()?;
        Some(Self { ms: u64::from_be_bytes(*ms), seq: u64::from_be_bytes(seq) })
    }
}

/// A number as Redis reads it here: blanks and a plus before it do not matter, nor do zeros.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.trim_ascii_start();
    let digits = digits.strip_prefix(b"+").unwrap_or(digits);
    // A number that begins with a sign of its own would pass as one to the parser.
    let is_plain = digits.first().is_some_and(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|_| is_plain)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// Entries between two identifiers, these included. Nothing if they are in the wrong order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The least.
    pub first: Id,
    /// The greatest.
    pub last: Id,
}

impl Span {
    /// All entries.
    pub const ALL: Self = Self { first: Id::MIN, last: Id::MAX };

    /// What lies behind an identifier; `None` if nothing can.
    pub fn after(id: Id) -> Option<Self> {
        id.next().map(|first| Self { first, last: Id::MAX })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn identifiers_are_read_as_redis_reads_them() {
        let parse = |text: &str| Id::parse(text.as_bytes(), 7).map(|id| id.to_string());
        for (text, expected) in [
            ("5", Some("5-7")),
            ("5-0", Some("5-0")),
            ("0-0", Some("0-0")),
            ("01-002", Some("1-2")),
            (" 1-+2", Some("1-2")),
            (
                "18446744073709551615-18446744073709551615",
                Some("18446744073709551615-18446744073709551615"),
            ),
            ("18446744073709551616", None),
            ("-1-1", None),
            ("1--1", None),
            ("1-", None),
            ("", None),
            ("-", None),
            ("+", None),
            ("++1", None),
            ("1-*", None),
            ("1-2-3", None),
            ("1 ", None),
            ("abc", None),
        ] {
            assert_eq!(parse(text).as_deref(), expected, "{text:?}");
        }
        assert_eq!((Id::MAX.next(), Id::MIN.previous()), (None, None));
    }

    proptest! {
        #[test]
        fn bytes_and_texts_lead_back_and_keep_the_order(a: (u64, u64), b: (u64, u64)) {
            let (a, b) = (Id { ms: a.0, seq: a.1 }, Id { ms: b.0, seq: b.1 });
            prop_assert_eq!(Id::from_bytes(&a.to_bytes()), Some(a));
            prop_assert_eq!(Id::parse(a.to_string().as_bytes(), 0), Some(a));
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
            prop_assert!(a.next().is_none_or(|next| next.previous() == Some(a) && next > a));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (Id::parse(&bytes, 0), Id::from_bytes(&bytes));
        }
    }
}
