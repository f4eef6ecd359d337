//! Which series are meant, by their labels. Pure.
//!
//! Conditions are Redis': `label=value`, `label=(value,value)`, `label!=value`,
//! `label!=(value,value)`, `label=` (it has no such label), `label!=` (it has one, and not an empty
//! one). Names and values may stand in quotes. All conditions must hold; the values that several of
//! them give one label with `=` are alternatives, as in Kvrocks.

use std::collections::{BTreeMap, BTreeSet};

use super::labels::{self, OwnLabel};

type Values = BTreeSet<Vec<u8>>;

/// What the labels of a series must be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these values; without any: none at all.
    equal: BTreeMap<Vec<u8>, Values>,
    /// None of these values; what is missing is as what is empty.
    other: BTreeMap<Vec<u8>, Values>,
    has_matcher: bool,
}

/// Why words are no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoFilter {
    /// A condition has neither `=` nor `!=`.
    #[error("a condition has no operator")]
    NoOperator,
    /// No condition says which value a label has: it would be looked for among all series.
    #[error("no condition gives a label a value")]
    NoMatcher,
}

impl Filter {
    /// With one condition more. Nothing is one that always holds.
    ///
    /// # Errors
    /// [`NoFilter::NoOperator`].
    pub fn add(&mut self, condition: &[u8]) -> Result<(), NoFilter> {
        if condition.is_empty() {
            return Ok(());
        }
        let (label, is_equal, value) = split(condition).ok_or(NoFilter::NoOperator)?;
        let label = label.trim_ascii().to_vec();
        match (is_equal, value) {
            (true, b"") => {
                self.equal.insert(label, Values::new());
            }
            (true, value) => {
                self.has_matcher = true;
                // That it is missing was said before, and stays.
                if self.equal.get(&label).is_none_or(|values| !values.is_empty()) {
                    self.equal.entry(label).or_default().extend(values(value));
                }
            }
            (false, b"") => {
                self.other.entry(label).or_default().insert(Vec::new());
            }
            (false, value) => self.other.entry(label).or_default().extend(values(value)),
        }
        Ok(())
    }

    /// To be called once all conditions are known.
    ///
    /// # Errors
    /// [`NoFilter::NoMatcher`].
    pub fn check(&self) -> Result<(), NoFilter> {
        if self.has_matcher { Ok(()) } else { Err(NoFilter::NoMatcher) }
    }

    /// Of how many labels something is said.
    pub(super) fn conditions(&self) -> usize {
        self.equal.len() + self.other.len()
    }

    /// Whether a series with these labels, which stand in their order, is meant.
    pub fn admits(&self, labels: &[OwnLabel]) -> bool {
        let value = |label: &[u8]| labels::value(labels, label);
        let is_equal = self.equal.iter().all(|(label, values)| match value(label) {
            Some(value) => values.contains(value),
            None => values.is_empty(),
        });
        let is_other = |(label, values): (&Vec<u8>, &Values)| {
            !values.contains(value(label).unwrap_or_default())
        };
        is_equal && self.other.iter().all(is_other)
    }

    /// Labels of which a series must have one of some values.
    pub(super) fn required(&self) -> impl Iterator<Item = (&[u8], &Values)> {
        let required = self.equal.iter().filter(|(_, values)| !values.is_empty());
        required.map(|(label, values)| (label.as_slice(), values))
    }
}

/// Where quotes stand in what is passed byte by byte.
#[derive(Default)]
struct Quotes(Option<u8>);

impl Quotes {
    /// Whether a byte is a quote, or stands between two.
    fn hold(&mut self, byte: u8) -> bool {
        match (self.0, byte) {
            (None, b'\'' | b'"') => self.0 = Some(byte),
            (None, _) => return false,
            (Some(quote), _) if quote == byte => self.0 = None,
            (Some(_), _) => {}
        }
        true
    }
}

/// Label, whether it is equal, and value.
fn split(condition: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let mut quotes = Quotes::default();
    for (at, byte) in condition.iter().enumerate() {
        if quotes.hold(*byte) {
            continue;
        }
        let (label, rest) = condition.split_at_checked(at)?;
        if let Some(value) = rest.strip_prefix(b"!=") {
            return Some((label, false, value));
        }
        if let Some(value) = rest.strip_prefix(b"=") {
            return Some((label, true, value));
        }
    }
    None
}

/// One value, or a list of them.
fn values(text: &[u8]) -> Values {
    match text {
        [b'(', list @ .., b')'] => listed(list),
        value => Values::from([unquoted(value).to_vec()]),
    }
}

/// What stands between commas.
fn listed(list: &[u8]) -> Values {
    let (mut quotes, mut depth, mut begin) = (Quotes::default(), 0_usize, 0);
    let mut found = Values::new();
    let mut take = |part: &[u8]| {
        let value = unquoted(part.trim_ascii()).trim_ascii();
        if !value.is_empty() {
            found.insert(value.to_vec());
        }
    };
    for (at, byte) in list.iter().enumerate() {
        if quotes.hold(*byte) {
            continue;
        }
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                take(list.get(begin..at).unwrap_or_default());
                begin = at + 1;
            }
            _ => {}
        }
    }
    take(list.get(begin..).unwrap_or_default());
    found
}

fn unquoted(text: &[u8]) -> &[u8] {
    match text {
        [b'"', inside @ .., b'"'] | [b'\'', inside @ .., b'\''] => inside,
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(conditions: &[&str]) -> Result<Filter, NoFilter> {
        let mut filter = Filter::default();
        for condition in conditions {
            filter.add(condition.as_bytes())?;
        }
        filter.check().map(|()| filter)
    }

    fn admits(conditions: &[&str], labels: &[(&str, &str)]) -> bool {
        let own =
            |(label, value): &(&str, &str)| (label.as_bytes().to_vec(), value.as_bytes().to_vec());
        let mut labels: Vec<OwnLabel> = labels.iter().map(own).collect();
        labels.sort();
        filter(conditions).unwrap().admits(&labels)
    }

    #[test]
    fn all_conditions_must_hold() {
        let room = [("floor", "2"), ("room", "a b"), ("empty", "")];
        for (conditions, is_meant) in [
            (&["floor=2"][..], true),
            (&["floor=3"], false),
            (&["floor=(1,2)"], true),
            (&["floor=( 1 , '2' )"], true),
            (&["floor=(1,3)"], false),
            (&[" floor =2"], true),
            (&["floor=2", "room=a b"], true),
            (&["floor=2", "room=\"a b\""], true),
            (&["floor=2", "room='a b'"], true),
            (&["floor=2", "room=x"], false),
            (&["floor=1", "floor=2"], true),
            (&["floor=2", "door="], true),
            (&["floor=2", "room="], false),
            (&["floor=2", "room!="], true),
            (&["floor=2", "door!="], false),
            (&["floor=2", "empty!="], false),
            (&["floor=2", "empty="], false),
            (&["floor=2", "room!=x"], true),
            (&["floor=2", "room!=(x,a b)"], false),
            (&["floor=2", "door!=x"], true),
            (&["floor=2", "door=()"], true),
            (&["floor=", "floor=2"], false),
            (&["floor=2", ""], true),
        ] {
            assert_eq!(admits(conditions, &room), is_meant, "{conditions:?}");
        }
    }

    #[test]
    fn quotes_hide_what_means_something_else_without_them() {
        assert!(admits(&["'a=b'=c"], &[("'a=b'", "c")]));
        assert!(admits(&["a=('x,y',z)"], &[("a", "x,y")]));
        assert!(!admits(&["a=('x,y',z)"], &[("a", "x")]));
        assert!(admits(&["a=(f(x,y),z)"], &[("a", "f(x,y)")]));
        assert!(admits(&["a=b=c"], &[("a", "b=c")]));
        assert!(admits(&["a=\"'\""], &[("a", "'")]));
    }

    #[test]
    fn what_says_too_little_is_no_filter() {
        assert_eq!(filter(&["floor"]), Err(NoFilter::NoOperator));
        assert_eq!(filter(&["'floor=2'"]), Err(NoFilter::NoOperator));
        assert_eq!(filter(&["floor!"]), Err(NoFilter::NoOperator));
        for nothing in [&[""][..], &[], &["floor!=2"], &["floor="], &["floor!="]] {
            assert_eq!(filter(nothing), Err(NoFilter::NoMatcher), "{nothing:?}");
        }
        assert_eq!(filter(&["floor=()"]).unwrap().required().count(), 0);
    }

    proptest! {
        #[test]
        fn no_condition_panics(text in "[ab=!()',\"\\PC]{0,20}") {
            let mut filter = Filter::default();
            if filter.add(text.as_bytes()).is_ok() {
                let _ = filter.admits(&[(b"a".to_vec(), b"b".to_vec())]);
            }
        }
    }
}
