//! Where the keys of a command are among its words.

use super::args::parse_integer;

/// Where a command's keys are among its words, its name included.
///
/// Locks, the slot gate, WATCH and joined writes go by these positions alone. A key that a handler
/// writes and that is not among them is written without its lock, unless the handler asks for it
/// (`Flags::LEADS`).
#[derive(Debug, Clone, Copy)]
pub enum Keys {
    /// It has none.
    None,
    /// Positions `first..=last` in steps; a negative `last` counts from the end.
    Range {
        /// First key; 1 is the first argument.
        first: u8,
        /// Last key.
        last: i8,
        /// Distance.
        step: u8,
    },
    /// As many as an argument says, right behind it (`numkeys`).
    Counted {
        /// One more key, before the count; 0: none.
        also: u8,
        /// Where the count is.
        count: u8,
    },
    /// The first argument, and more as its own rule says, which COMMAND does not show.
    FirstAnd(fn(&[&[u8]]) -> Vec<usize>),
    /// As its own rule says.
    With(fn(&[&[u8]]) -> Vec<usize>),
}

/// One key, the first argument.
pub const KEY: Keys = Keys::Range { first: 1, last: 1, step: 1 };
/// Two keys, the first two arguments.
pub const KEYS2: Keys = Keys::Range { first: 1, last: 2, step: 1 };
/// All arguments are keys.
pub const KEYS: Keys = Keys::Range { first: 1, last: -1, step: 1 };
/// Keys and values alternate.
pub const PAIRS: Keys = Keys::Range { first: 1, last: -1, step: 2 };
/// No keys.
pub const NONE: Keys = Keys::None;

impl Keys {
    /// Positions of the keys in `words`; empty when the command is too short for them, or the count
    /// of them is none: its handler says so.
    pub fn positions(self, words: &[&[u8]]) -> impl Iterator<Item = usize> + use<> {
        let length = words.len();
        let (mut also, mut first, mut end, mut step, mut listed) = (None, 0, 0, 1, None);
        match self {
            Self::None => {}
            Self::Range { first: from, last, step: distance } => {
                let last = match usize::try_from(last) {
                    Ok(last) => last,
                    Err(_) => length.saturating_sub(usize::from(last.unsigned_abs())),
                };
                (first, end, step) = (usize::from(from), last + 1, usize::from(distance).max(1));
            }
            Self::Counted { also: one, count } => {
                also = (one > 0).then_some(usize::from(one));
                let count = usize::from(count);
                let keys = words.get(count).and_then(|word| parse_integer(word)).unwrap_or(0);
                (first, end) =
                    (count + 1, count + 1 + usize::try_from(keys).unwrap_or(0).min(length));
            }
            Self::FirstAnd(find) => (first, end, listed) = (1, 2, Some(find(words))),
            Self::With(find) => listed = Some(find(words)),
        }
        let listed = listed.into_iter().flatten();
        also.into_iter()
            .chain((first..end).step_by(step))
            .chain(listed)
            .filter(move |position| *position < length)
    }

    /// Whether the command has all keys that its count promises, and promises one at least.
    pub fn are_all_there(self, words: &[&[u8]]) -> bool {
        let Self::Counted { count, .. } = self else { return true };
        let count = usize::from(count);
        let keys = words.get(count).and_then(|word| parse_integer(word));
        let keys = keys.and_then(|keys| usize::try_from(keys).ok()).unwrap_or(0);
        keys > 0 && keys < words.len().saturating_sub(count)
    }

    /// First, last and step as COMMAND shows them; zeros where no three numbers tell.
    pub fn shown(self) -> (i64, i64, i64) {
        match self {
            Self::Range { first, last, step } => {
                (i64::from(first), i64::from(last), i64::from(step))
            }
            Self::Counted { also, .. } if also > 0 => (i64::from(also), i64::from(also), 1),
            Self::FirstAnd(_) => (1, 1, 1),
            Self::None | Self::Counted { .. } | Self::With(_) => (0, 0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keys: Keys, command: &str, expected: &[usize]) {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        assert_eq!(keys.positions(&words).collect::<Vec<_>>(), expected, "{command}");
    }

    #[test]
    fn key_positions_count_from_both_ends() {
        check(PAIRS, "mset a 1 b 2", &[1, 3]);
        check(KEYS, "del a b c", &[1, 2, 3]);
        check(KEYS2, "copy a", &[1]);
        check(NONE, "ping a b", &[]);
    }

    #[test]
    fn keys_behind_a_count_are_as_many_as_it_says() {
        let union = Keys::Counted { also: 0, count: 1 };
        check(union, "zunion 2 a b WITHSCORES", &[2, 3]);
        check(union, "zunion 9 a b", &[2, 3]);
        for wrong in ["zunion -1 a", "zunion x a", "zunion 0 a", "zunion"] {
            check(union, wrong, &[]);
        }
        for (command, is_so) in [
            ("zunion 2 a b", true),
            ("zunion 1 a b", true),
            ("zunion 3 a b", false),
            ("zunion 0 a", false),
            ("zunion -1 a", false),
            ("zunion x a", false),
            ("zunion 9223372036854775807 a", false),
        ] {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            assert_eq!(union.are_all_there(&words), is_so, "{command}");
        }
        check(Keys::Counted { also: 1, count: 2 }, "zunionstore to 1 a WEIGHTS 2", &[1, 3]);
        let streams = |words: &[&[u8]]| {
            let at = words.iter().position(|word| word.eq_ignore_ascii_case(b"streams"));
            at.map_or_else(Vec::new, |at| (at + 1..at + 1 + (words.len() - at) / 2).collect())
        };
        let stored = |words: &[&[u8]]| vec![words.len().saturating_sub(1)];
        check(Keys::FirstAnd(stored), "sort l STORE d", &[1, 3]);
        assert_eq!(Keys::FirstAnd(stored).shown(), (1, 1, 1));
        check(Keys::With(streams), "xread COUNT 2 STREAMS a b 0 0", &[4, 5]);
    }
}
