//! Patterns of subscriptions, found by the beginning that all texts have which they match.
//!
//! Every message is compared with patterns, and they may be many: of a hundred thousand such as
//! `user:7:*` a message to `user:7:x` is compared with one. Those that begin with a `*` or a `?`
//! are all compared.

use std::collections::BTreeMap;
use std::ops::Bound;

use storage::types::glob;

/// What is kept of each pattern.
#[derive(Debug, Default)]
pub(super) struct Patterns<T> {
    by_beginning: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, T>>,
    count: usize,
}

/// A pattern that matches, and what is kept of it.
pub(super) type Matching<'a, T> = (&'a [u8], &'a T);

impl<T: Default> Patterns<T> {
    /// What is kept of a pattern; of a new one nothing yet.
    pub(super) fn entry(&mut self, pattern: &[u8]) -> &mut T {
        let beginning = glob::literal_prefix(pattern).to_vec();
        let alike = self.by_beginning.entry(beginning).or_default();
        self.count += usize::from(!alike.contains_key(pattern));
        alike.entry(pattern.to_vec()).or_default()
    }

    /// The same of one that is there.
    pub(super) fn get_mut(&mut self, pattern: &[u8]) -> Option<&mut T> {
        self.by_beginning.get_mut(glob::literal_prefix(pattern))?.get_mut(pattern)
    }

    /// Removes one, if it is there.
    pub(super) fn remove(&mut self, pattern: &[u8]) {
        let beginning = glob::literal_prefix(pattern);
        let Some(alike) = self.by_beginning.get_mut(beginning) else { return };
        self.count -= usize::from(alike.remove(pattern).is_some());
        if alike.is_empty() {
            self.by_beginning.remove(beginning);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Those that match a text.
    pub(super) fn matching(&self, text: &[u8]) -> Vec<Matching<'_, T>> {
        let mut found = Vec::new();
        let mut bound: Bound<&[u8]> = Bound::Included(text);
        // From the longest beginning of the text that is one of a pattern to the shortest.
        while let Some((beginning, alike)) =
            self.by_beginning.range::<[u8], _>((Bound::<&[u8]>::Unbounded, bound)).next_back()
        {
            if text.starts_with(beginning) {
                found.push(alike);
                bound = Bound::Excluded(beginning);
            } else {
                // What the text begins with, and is longer than what both have in common, stands
                // behind this one.
                let common = beginning.iter().zip(text).take_while(|(one, other)| one == other);
                bound = Bound::Included(text.get(..common.count()).unwrap_or_default());
            }
        }
        let alike = found.into_iter().rev().flatten();
        let matching = alike.filter(|(pattern, _)| glob::matches(pattern, text));
        matching.map(|(pattern, kept)| (pattern.as_slice(), kept)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    #[test]
    fn what_is_found_is_what_matches() {
        let mut random = StdRng::seed_from_u64(7);
        let mut word = |letters: &[u8]| -> Vec<u8> {
            let length = random.random_range(0..6_usize);
            (0..length).map(|_| letters[random.random_range(0..letters.len())]).collect()
        };
        let mut count = 0;
        for _ in 0..500 {
            let (mut patterns, mut all) = (Patterns::<u8>::default(), BTreeSet::new());
            for _ in 0..20 {
                let pattern = word(b"aaabb*?\\[");
                *patterns.entry(&pattern) += 1;
                all.insert(pattern);
            }
            for _ in 0..5 {
                let gone = all.pop_last().unwrap_or_default();
                patterns.remove(&gone);
                patterns.remove(&gone);
                assert_eq!(patterns.get_mut(&gone), None);
            }
            assert_eq!(patterns.len(), all.len());
            for _ in 0..20 {
                let text = word(b"aaabb*");
                let found: Vec<&[u8]> =
                    patterns.matching(&text).into_iter().map(|(pattern, _)| pattern).collect();
                let expected = all.iter().filter(|pattern| glob::matches(pattern, &text));
                let mut expected: Vec<&[u8]> = expected.map(Vec::as_slice).collect();
                expected.sort_by_key(|pattern| (glob::literal_prefix(pattern).len(), *pattern));
                assert_eq!(found, expected, "{}", text.escape_ascii());
                count += found.len();
            }
        }
        assert!(count > 1_000, "{count}");
    }
}
