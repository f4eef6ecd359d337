//! Parts of a value: ranks counted from either end, names and scores between two bounds; and the
//! range of sub-keys that each of them is.

use std::ops::Range;

use super::score;
use crate::KeyBuf;
use crate::key::prefix_end;

/// Sub-keys of `[lower, upper)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubRange {
    lower: Vec<u8>,
    /// `None`: to the end.
    upper: Option<Vec<u8>>,
}

impl SubRange {
    /// All of them.
    pub fn all() -> Self {
        Self::default()
    }

    /// From `lower` to the last one before `upper`.
    pub fn between(lower: &[u8], upper: &[u8]) -> Self {
        Self { lower: lower.to_vec(), upper: Some(upper.to_vec()) }
    }

    /// From `lower` on.
    pub fn from(lower: &[u8]) -> Self {
        Self { lower: lower.to_vec(), upper: None }
    }

    /// Behind this one.
    pub fn after(sub: &[u8]) -> Self {
        Self { lower: successor(sub), upper: None }
    }

    /// Those that begin so.
    pub fn starting_with(prefix: &[u8]) -> Self {
        let end = prefix_end(prefix);
        Self { lower: prefix.to_vec(), upper: Some(end).filter(|end| !end.is_empty()) }
    }

    /// Between two names.
    pub fn lex(min: &Lex<'_>, max: &Lex<'_>) -> Self {
        let lower = match min {
            Lex::Least => Vec::new(),
            Lex::Included(name) => name.to_vec(),
            Lex::Excluded(name) => successor(name),
            Lex::Greatest => return Self::between(&[], &[]),
        };
        let upper = match max {
            Lex::Least => return Self::between(&[], &[]),
            Lex::Included(name) => Some(successor(name)),
            Lex::Excluded(name) => Some(name.to_vec()),
            Lex::Greatest => None,
        };
        Self { lower, upper }
    }

    /// Between two scores, where sub-keys begin with one ([`score::encode`]).
    pub fn scores(min: Score, max: Score) -> Self {
        // -0 is a record of its own, but the same number.
        let least = |score: f64| score::encode(if score == 0.0 { -0.0 } else { score }).to_vec();
        let behind =
            |score: f64| prefix_end(&score::encode(if score == 0.0 { 0.0 } else { score }));
        let lower = if min.is_excluded { behind(min.score) } else { least(min.score) };
        let upper = if max.is_excluded { least(max.score) } else { behind(max.score) };
        Self { lower, upper: Some(upper) }
    }

    /// The same without what lies before the successor of `sub`.
    pub fn continued_after(mut self, sub: &[u8]) -> Self {
        self.lower = self.lower.max(successor(sub));
        self
    }

    /// Keys on disk: the first one, and the first one behind, under a prefix. Never an open end.
    pub fn under(&self, prefix: &[u8]) -> (KeyBuf, Vec<u8>) {
        let mut lower = KeyBuf::default();
        lower.push(prefix);
        lower.push(&self.lower);
        let upper = match &self.upper {
            Some(upper) => [prefix, upper].concat(),
            None => prefix_end(prefix),
        };
        let upper = if *upper < *lower { lower.to_vec() } else { upper };
        (lower, upper)
    }
}

/// The smallest name behind this one.
fn successor(name: &[u8]) -> Vec<u8> {
    [name, &[0]].concat()
}

/// A bound of names, as ZRANGEBYLEX takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lex<'a> {
    /// `-`.
    Least,
    /// `[name`.
    Included(&'a [u8]),
    /// `(name`.
    Excluded(&'a [u8]),
    /// `+`.
    Greatest,
}

impl<'a> Lex<'a> {
    /// `None` if it is none.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        match text {
            b"-" => Some(Self::Least),
            b"+" => Some(Self::Greatest),
            [b'[', name @ ..] => Some(Self::Included(name)),
            [b'(', name @ ..] => Some(Self::Excluded(name)),
            _ => None,
        }
    }
}

/// A bound of scores, as ZRANGEBYSCORE takes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The number; may be infinite.
    pub score: f64,
    /// Written with `(`: the number itself is outside.
    pub is_excluded: bool,
}

impl Score {
    /// `None` if it is none.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let is_excluded = text.first() == Some(&b'(');
        let score = score::parse_loosely(text.get(usize::from(is_excluded)..)?)?;
        Some(Self { score, is_excluded })
    }

    /// Whether a score may stand behind this one, as the least.
    pub fn admits_from(self, score: f64) -> bool {
        if self.is_excluded { score > self.score } else { score >= self.score }
    }

    /// Whether a score may stand before this one, as the greatest.
    pub fn admits_to(self, score: f64) -> bool {
        if self.is_excluded { score < self.score } else { score <= self.score }
    }
}

/// Ranks `start..=stop` of `length` elements, as LRANGE and ZRANGE count: negative ones from the
/// end.
pub fn ranks(start: i64, stop: i64, length: u64) -> Range<u64> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let from_end = |rank: i64| if rank < 0 { rank.saturating_add(length) } else { rank };
    let (start, stop) = (from_end(start).max(0), from_end(stop).min(length - 1));
    if start > stop { 0..0 } else { start.unsigned_abs()..stop.unsigned_abs() + 1 }
}

/// Bytes `start..=end` of `length`, as GETRANGE counts: negative ones from the end, where an end
/// before the first byte is the first byte.
pub fn bytes(start: i64, end: i64, length: usize) -> Range<usize> {
    let length = length as i64;
    let from_end = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
    // Both negative and in the wrong order is empty whatever the length.
    let is_reversed = start < 0 && end < 0 && start > end;
    let (start, end) = (from_end(start).max(0), from_end(end).max(0).min(length - 1));
    if is_reversed || start > end || length == 0 { 0..0 } else { start as usize..end as usize + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(range: &SubRange, sub: &[u8]) -> bool {
        let (lower, upper) = range.under(b"p");
        let key = [b"p", sub].concat();
        *lower <= *key && key < upper
    }

    #[test]
    fn ranks_count_from_either_end() {
        for (start, stop, expected) in [
            (0, -1, 0..5),
            (1, 2, 1..3),
            (-2, -1, 3..5),
            (-100, 100, 0..5),
            (5, 9, 0..0),
            (3, 1, 0..0),
            (-1, -3, 0..0),
            (0, -6, 0..0),
            (i64::MIN, i64::MAX, 0..5),
        ] {
            assert_eq!(ranks(start, stop, 5), expected, "{start} {stop}");
        }
        assert_eq!(ranks(0, -1, 0), 0..0);
        assert_eq!(bytes(0, -100, 3), 0..1);
        assert_eq!(bytes(-1, -2, 3), 0..0);
        assert_eq!(bytes(1, 100, 3), 1..3);
    }

    #[test]
    fn names_lie_between_their_bounds() {
        let range = |min: &str, max: &str| {
            let bound = |text: &str| Lex::parse(text.as_bytes().to_vec().leak()).unwrap();
            SubRange::lex(&bound(min), &bound(max))
        };
        for (min, max, expected) in [
            ("-", "+", "abcd"),
            ("[b", "[c", "bc"),
            ("(b", "(d", "c"),
            ("[c", "+", "cd"),
            ("-", "(b", "a"),
            ("+", "-", ""),
            ("[c", "[a", ""),
            ("+", "[c", ""),
            ("[a", "-", ""),
        ] {
            let found: String = ["a", "b", "c", "d"]
                .into_iter()
                .filter(|name| holds(&range(min, max), name.as_bytes()))
                .collect();
            assert_eq!(found, expected, "{min} {max}");
        }
        assert_eq!(Lex::parse(b"a"), None);
        assert!(holds(&SubRange::after(b"a"), b"a\0") && !holds(&SubRange::after(b"a"), b"a"));
        assert!(holds(&SubRange::starting_with(b"\xff"), b"\xff\xff"));
        assert!(!holds(&SubRange::all().continued_after(b"b"), b"b"));
    }

    #[test]
    fn scores_lie_between_their_bounds() {
        let all = [f64::NEG_INFINITY, -1.5, -0.0, 0.0, 2.0, f64::INFINITY];
        for text in ["-inf", "(-1.5", "-1.5", "0", "(0", "-0", "2", "(2", "inf", "(inf"] {
            let bound = Score::parse(text.as_bytes()).unwrap();
            let (least, greatest) = (Score::parse(b"-inf").unwrap(), Score::parse(b"inf").unwrap());
            for score in all {
                let sub = [&score::encode(score)[..], b"member"].concat();
                let from = holds(&SubRange::scores(bound, greatest), &sub);
                assert_eq!(from, bound.admits_from(score), "{text} <= {score}");
                let to = holds(&SubRange::scores(least, bound), &sub);
                assert_eq!(to, bound.admits_to(score), "{score} <= {text}");
            }
        }
    }
}
