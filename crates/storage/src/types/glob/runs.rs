//! Matching without trying again: what stands between two stars is a run, and each run is looked
//! for once, from where the one before was found.
//!
//! The first place where a run lies is good enough, because what follows a star may begin anywhere
//! behind it. A run of literal bytes is found as Knuth, Morris and Pratt do, in one pass over the
//! text. One with `?` or classes is found by following all its beginnings at once, 64 to a word: in
//! one pass too where it is not longer than 64 bytes, and in a 64th of the product of both lengths
//! at worst.

use super::class;
use crate::budget;

/// Steps that take as long as one of a read.
const STEPS_OF_A_STEP: u64 = 4096;

/// What has been done.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Steps: a byte of a pattern or a text that is looked at, or a word of beginnings.
    pub(super) steps: u64,
    /// Of them, those that no budget was told of.
    untold: u64,
}

impl Work {
    /// `None` where a read has used up its budget.
    fn take(&mut self, steps: usize) -> Option<()> {
        self.steps += steps as u64;
        self.untold += steps as u64;
        if self.untold < STEPS_OF_A_STEP {
            return Some(());
        }
        let told = self.untold / STEPS_OF_A_STEP;
        self.untold %= STEPS_OF_A_STEP;
        budget::step(told).ok()
    }
}

/// An element that takes one byte.
#[derive(Debug, Clone, Copy)]
enum Element {
    Byte(u8),
    /// The bytes that it takes: a bit for each.
    Set([u64; 4]),
}

impl Element {
    fn takes(self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => own == byte,
            Self::Set(bits) => {
                bits.get(usize::from(byte / 64)).is_some_and(|word| (word >> (byte % 64)) & 1 == 1)
            }
        }
    }
}

/// What stands between two stars.
#[derive(Debug)]
enum Run {
    Literal(Vec<u8>),
    Mixed(Vec<Element>),
}

impl Run {
    fn len(&self) -> usize {
        match self {
            Self::Literal(bytes) => bytes.len(),
            Self::Mixed(elements) => elements.len(),
        }
    }

    fn push(&mut self, element: Element) {
        match (&mut *self, element) {
            (Self::Literal(bytes), Element::Byte(byte)) => bytes.push(byte),
            (Self::Literal(bytes), element) => {
                let before = bytes.iter().map(|byte| Element::Byte(*byte));
                *self = Self::Mixed(before.chain([element]).collect());
            }
            (Self::Mixed(elements), element) => elements.push(element),
        }
    }

    /// Whether all of a text of its length matches.
    fn is(&self, text: &[u8], work: &mut Work) -> Option<bool> {
        work.take(text.len())?;
        Some(match self {
            Self::Literal(bytes) => bytes == text,
            Self::Mixed(elements) => {
                elements.len() == text.len()
                    && elements.iter().zip(text).all(|(element, byte)| element.takes(*byte))
            }
        })
    }

    /// Behind the first place in a text where it lies. `None`: nowhere, or the budget is used up.
    fn end_in(&self, text: &[u8], work: &mut Work) -> Option<usize> {
        match self {
            Self::Literal(bytes) => end_of(bytes, text, work),
            Self::Mixed(elements) => end_of_mixed(elements, text, work),
        }
    }
}

/// The runs of a pattern, of which the first one and the last one stand at the ends of a text; just
/// one where there is no star. `None` if they are longer than `most`: then nothing matches.
fn runs(pattern: &[u8], most: usize, work: &mut Work) -> Option<Vec<Run>> {
    let mut runs = vec![Run::Literal(Vec::new())];
    let (mut at, mut length) = (0, 0);
    while let Some(first) = pattern.get(at) {
        if *first == b'*' {
            // Several stars are one.
            if runs.len() == 1 || runs.last()?.len() > 0 {
                runs.push(Run::Literal(Vec::new()));
            }
            at += 1;
            work.take(1)?;
            continue;
        }
        let (element, behind) = element(pattern, at, work)?;
        length += 1;
        if length > most {
            return None;
        }
        runs.last_mut()?.push(element);
        at = behind;
    }
    Some(runs)
}

/// The element at a place of a pattern, and the place behind it.
fn element(pattern: &[u8], at: usize, work: &mut Work) -> Option<(Element, usize)> {
    work.take(1)?;
    match *pattern.get(at)? {
        b'?' => Some((Element::Set([u64::MAX; 4]), at + 1)),
        b'[' => {
            let mut bits = [0_u64; 4];
            let (is_negated, behind) = class(pattern, at + 1, |low, high| {
                for byte in low..=high {
                    if let Some(word) = bits.get_mut(usize::from(byte / 64)) {
                        *word |= 1 << (byte % 64);
                    }
                }
            });
            work.take(behind - at)?;
            let bits = if is_negated { bits.map(|word| !word) } else { bits };
            Some((Element::Set(bits), behind))
        }
        b'\\' if at + 1 < pattern.len() => Some((Element::Byte(*pattern.get(at + 1)?), at + 2)),
        literal => Some((Element::Byte(literal), at + 1)),
    }
}

/// Whether the whole of a text matches, which is not empty.
pub(super) fn matches(pattern: &[u8], text: &[u8], work: &mut Work) -> bool {
    found(pattern, text, work).unwrap_or(false)
}

fn found(pattern: &[u8], text: &[u8], work: &mut Work) -> Option<bool> {
    let runs = runs(pattern, text.len(), work)?;
    let (first, rest) = runs.split_first()?;
    let Some((last, between)) = rest.split_last() else { return first.is(text, work) };
    let (head, text) = text.split_at_checked(first.len())?;
    let (text, tail) = text.split_at_checked(text.len().checked_sub(last.len())?)?;
    if !first.is(head, work)? || !last.is(tail, work)? {
        return Some(false);
    }
    let mut rest = text;
    for run in between {
        rest = rest.get(run.end_in(rest, work)?..)?;
    }
    Some(true)
}

/// Behind the first place where `wanted` lies in a text.
fn end_of(wanted: &[u8], text: &[u8], work: &mut Work) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    let borders = borders(wanted, work)?;
    let mut matched = 0;
    for (at, byte) in text.iter().enumerate() {
        work.take(1)?;
        while matched > 0 && wanted.get(matched) != Some(byte) {
            matched = *borders.get(matched - 1)?;
            work.take(1)?;
        }
        matched += usize::from(wanted.get(matched) == Some(byte));
        if matched == wanted.len() {
            return Some(at + 1);
        }
    }
    None
}

/// For each beginning of `wanted`: how long a shorter beginning is that it ends with, the longest.
fn borders(wanted: &[u8], work: &mut Work) -> Option<Vec<usize>> {
    let mut borders = vec![0; wanted.len()];
    let mut length = 0;
    for at in 1..wanted.len() {
        work.take(1)?;
        while length > 0 && wanted.get(length) != wanted.get(at) {
            length = *borders.get(length - 1)?;
            work.take(1)?;
        }
        length += usize::from(wanted.get(length) == wanted.get(at));
        *borders.get_mut(at)? = length;
    }
    Some(borders)
}

/// The same where elements take more than one byte.
fn end_of_mixed(wanted: &[Element], text: &[u8], work: &mut Work) -> Option<usize> {
    let words = wanted.len().div_ceil(64);
    // By byte: which elements take it. Made for those bytes alone that the text has.
    let mut masks: Vec<Option<Box<[u64]>>> = vec![None; 256];
    // Bit n: the n + 1 bytes behind which we are match the first n + 1 elements.
    let mut begun = vec![0_u64; words];
    let (last_word, last_bit) = ((wanted.len() - 1) / 64, (wanted.len() - 1) % 64);
    for (at, byte) in text.iter().enumerate() {
        let mask = masks.get_mut(usize::from(*byte))?;
        if mask.is_none() {
            work.take(wanted.len())?;
            let mut bits = vec![0_u64; words].into_boxed_slice();
            for (place, element) in wanted.iter().enumerate() {
                if element.takes(*byte) {
                    *bits.get_mut(place / 64)? |= 1 << (place % 64);
                }
            }
            *mask = Some(bits);
        }
        work.take(words)?;
        // The first element may begin anywhere.
        let mut carry = 1;
        for (word, bits) in begun.iter_mut().zip(mask.as_deref()?) {
            let above = *word >> 63;
            *word = ((*word << 1) | carry) & bits;
            carry = above;
        }
        if (begun.get(last_word)? >> last_bit) & 1 == 1 {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::by_trying;
    use super::*;

    fn steps(pattern: &[u8], text: &[u8]) -> u64 {
        let mut work = Work::default();
        matches(pattern, text, &mut work);
        work.steps
    }

    /// Told by steps, not by time: ten times the length takes ten times the steps.
    #[test]
    fn what_a_pattern_takes_grows_with_its_length_and_not_with_the_texts_times_its_own() {
        let patterns: [fn(usize) -> Vec<u8>; 4] = [
            |n| [b"a*".repeat(n), b"b*".to_vec()].concat(),
            |n| [b"*".to_vec(), b"a".repeat(n), b"b*".to_vec()].concat(),
            |n| [b"*a*".repeat(n), b"ab*aab*".to_vec()].concat(),
            |n| [b"*".to_vec(), b"aaaaaaab".repeat(n), b"*".to_vec()].concat(),
        ];
        for pattern in patterns {
            for n in [100, 1_000, 10_000] {
                let (pattern, text) = (pattern(n), b"a".repeat(10 * n));
                let most = 4 * (pattern.len() + text.len()) as u64;
                let taken = steps(&pattern, &text);
                assert!(taken <= most, "{taken} for {} and {}", pattern.len(), text.len());
            }
        }
        // With any byte in the run: one pass over the text for each 64 bytes of it.
        for n in [60, 1_000, 10_000] {
            let pattern = [b"*?".to_vec(), b"a".repeat(n), b"b*".to_vec()].concat();
            let text = b"a".repeat(10 * n);
            let most = (text.len() * (n / 64 + 2) + 4 * (text.len() + pattern.len())) as u64;
            let taken = steps(&pattern, &text);
            assert!(taken <= most, "{taken} for {} and {}", pattern.len(), text.len());
        }
    }

    proptest! {
        #[test]
        fn it_says_what_trying_says(
            pattern in "[ab*?\\\\\\[\\]^-]{0,12}",
            text in "[ab*\\\\]{1,12}",
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            let tried = by_trying(pattern, text, usize::MAX);
            prop_assert_eq!(Some(matches(pattern, text, &mut Work::default())), tried);
        }

        #[test]
        fn long_runs_are_found_as_short_ones(
            before in 0..200_usize,
            run in proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'?')], 1..150),
            text in proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b')], 1..400),
        ) {
            let pattern = [b"*", &run[..], b"*"].concat();
            let inside = [&vec![b'b'; before][..], &text].concat();
            let tried = by_trying(&pattern, &inside, usize::MAX);
            prop_assert_eq!(Some(matches(&pattern, &inside, &mut Work::default())), tried);
        }
    }
}
