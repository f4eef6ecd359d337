//! Where the keys of a command are among its words.

/// Where a command's keys are, as COMMAND shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Positions of the keys in `words`; empty when the command is too short for them.
    pub fn positions(self, words: usize) -> impl Iterator<Item = usize> {
        let (first, last, step) = match self {
            Self::None => (1, 0, 1),
            Self::Range { first, last, step } => {
                let last = match usize::try_from(last) {
                    Ok(last) => last,
                    Err(_) => words.saturating_sub(usize::from(last.unsigned_abs())),
                };
                (usize::from(first), last, usize::from(step))
            }
        };
        (first..=last).step_by(step.max(1)).filter(move |position| *position < words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_positions_count_from_both_ends() {
        assert_eq!(PAIRS.positions(5).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(KEYS.positions(4).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(KEYS2.positions(2).collect::<Vec<_>>(), [1]);
        assert_eq!(NONE.positions(9).count(), 0);
    }
}
