//! Longest common subsequence of two strings (LCS).

use super::CommandError;
use crate::budget;

/// Cells of the table, 4 bytes each; Redis' limit is the one for strings.
const MAX_CELLS: usize = (512 << 20) / 4;

/// Cells that take about as long as a step.
const CELLS_OF_A_STEP: usize = 512;

/// A stretch that both strings have in common, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// First and last byte in the first string.
    pub first: (usize, usize),
    /// First and last byte in the second string.
    pub second: (usize, usize),
}

impl Match {
    /// Number of bytes, at least 1.
    pub fn length(&self) -> usize {
        self.first.1 - self.first.0 + 1
    }
}

/// Result of [`lcs`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lcs {
    /// The subsequence.
    pub text: Vec<u8>,
    /// Its stretches, the last first (as the IDX option lists them).
    pub matches: Vec<Match>,
}

/// Computes the longest common subsequence of `a` and `b`.
///
/// # Errors
/// [`CommandError::TooLong`] if the table would need more than 512 MiB; the end of a read's budget.
pub fn lcs(a: &[u8], b: &[u8]) -> Result<Lcs, CommandError> {
    let width = b.len() + 1;
    let cells = (a.len() + 1).checked_mul(width).filter(|cells| *cells <= MAX_CELLS);
    let cells = cells.ok_or(CommandError::TooLong)?;
    // Before it is there: a table that is not to be had is not made.
    budget::gather(cells * size_of::<u32>())?;
    budget::step(1)?;
    let mut table = vec![0u32; cells];
    let at = |i: usize, j: usize| i * width + j;
    for (i, left) in a.iter().enumerate() {
        budget::step((width / CELLS_OF_A_STEP) as u64 + 1)?;
        for (j, right) in b.iter().enumerate() {
            table[at(i + 1, j + 1)] = if left == right {
                table[at(i, j)] + 1
            } else {
                table[at(i, j + 1)].max(table[at(i + 1, j)])
            };
        }
    }
    let mut text = Vec::with_capacity(table[at(a.len(), b.len())] as usize);
    let mut matches: Vec<Match> = Vec::new();
    let (mut i, mut j) = (a.len(), b.len());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            text.push(a[i - 1]);
            match matches.last_mut() {
                Some(last) if last.first.0 == i && last.second.0 == j => {
                    last.first.0 -= 1;
                    last.second.0 -= 1;
                }
                _ => {
                    budget::gather(size_of::<Match>())?;
                    matches.push(Match { first: (i - 1, i - 1), second: (j - 1, j - 1) });
                }
            }
            (i, j) = (i - 1, j - 1);
        } else if table[at(i - 1, j)] > table[at(i, j - 1)] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    text.reverse();
    Ok(Lcs { text, matches })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_documentation() {
        let found = lcs(b"ohmytext", b"mynewtext").unwrap();
        assert_eq!(found.text, b"mytext");
        assert_eq!(
            found.matches,
            [Match { first: (4, 7), second: (5, 8) }, Match { first: (2, 3), second: (0, 1) },]
        );
        assert_eq!(found.matches[0].length(), 4);
        assert_eq!(lcs(b"", b"x").unwrap(), Lcs { text: vec![], matches: vec![] });
        assert!(lcs(&vec![0; 20_000], &vec![0; 20_000]).is_err());
    }
}
