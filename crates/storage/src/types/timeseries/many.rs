//! Series that are found by their labels, and what several of them say together.
//!
//! Reads alone. What the index says is a hint: the labels that count are those of the series.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::bucket::{Aggregator, Bucket};
use super::chunk::Sample;
use super::filter::Filter;
use super::find;
use super::labels::{self, OwnLabel};
use super::way::{Label, ways};
use crate::key::prefix_end;
use crate::types::CommandError;
use crate::{Direction, Family, Scope, Snapshot, budget};

/// A series and its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its key.
    pub key: Vec<u8>,
    /// Its labels, in their order.
    pub labels: Vec<OwnLabel>,
}

impl Named {
    /// The value of a label.
    pub fn value(&self, label: &[u8]) -> Option<&[u8]> {
        labels::value(&self.labels, label)
    }

    /// Labels of these names. One that it does not have is empty.
    ///
    /// # Errors
    /// The read is to end.
    pub fn select(&self, names: &BTreeSet<&[u8]>) -> Result<Vec<OwnLabel>, CommandError> {
        let own = |name: &&[u8]| -> Result<OwnLabel, CommandError> {
            let value = self.value(name).unwrap_or_default();
            // All series together may have far more than they were found with.
            budget::step(1)?;
            budget::gather(size_of::<OwnLabel>() + name.len() + value.len())?;
            Ok((name.to_vec(), value.to_vec()))
        };
        names.iter().map(own).collect()
    }
}

/// The series of a scope that are meant, in the order of their keys.
///
/// # Errors
/// Those of the engine.
pub fn named(
    read: &Snapshot<'_>,
    scope: Scope<'_>,
    filter: &Filter,
) -> Result<Vec<Named>, CommandError> {
    let mut keys: Option<BTreeSet<Vec<u8>>> = None;
    for (label, values) in filter.required() {
        let mut found = BTreeSet::new();
        for value in values {
            let is_wanted = |key: &[u8]| keys.as_ref().is_none_or(|keys| keys.contains(key));
            follow(read, &scope, (label, value.as_slice()), |key| {
                if is_wanted(key) {
                    budget::gather(key.len())?;
                    found.insert(key.to_vec());
                }
                Ok(())
            })?;
        }
        keys = Some(found);
    }
    let mut meant = Vec::new();
    for key in keys.unwrap_or_default() {
        let series = match find(read, &scope.at(&key)) {
            Ok(Some(series)) => series,
            // A way that is left of a series which is gone.
            Ok(None) | Err(CommandError::WrongType) => continue,
            Err(error) => return Err(error),
        };
        let labels = labels::of(read, &series)?;
        budget::step(filter.conditions() as u64)?;
        if filter.admits(&labels) {
            let bytes_of = |(label, value): &OwnLabel| label.len() + value.len();
            let bytes: usize = labels.iter().map(bytes_of).sum();
            budget::gather(size_of::<OwnLabel>() * labels.len() + key.len() + bytes)?;
            meant.push(Named { key, labels });
        }
    }
    Ok(meant)
}

/// Passes on the keys that the ways from a label with a value lead to.
fn follow(
    read: &Snapshot<'_>,
    scope: &Scope<'_>,
    label: Label<'_>,
    mut f: impl FnMut(&[u8]) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let begin = ways(scope, label);
    let mut ways = read.walk(Family::Index, (&begin, &prefix_end(&begin)), Direction::Forward)?;
    while let Some((way, _)) = ways.next()? {
        f(way.strip_prefix(begin.as_slice()).unwrap_or_default())?;
    }
    Ok(())
}

/// The samples of several series as those of one: what there is of one time is one sample.
#[derive(Debug, Default)]
pub struct Joined(BTreeMap<u64, Bucket>);

impl Joined {
    /// With the samples of one series more.
    ///
    /// # Errors
    /// The read is to end.
    pub fn take(&mut self, samples: &[Sample]) -> Result<(), CommandError> {
        for sample in samples {
            match self.0.entry(sample.at) {
                Entry::Occupied(mut at) => at.get_mut().take(*sample),
                Entry::Vacant(at) => {
                    budget::gather(size_of::<(u64, Bucket)>())?;
                    at.insert(Bucket::of(*sample));
                }
            }
        }
        Ok(())
    }

    /// What the samples of each time say together, the first ones first, or the last ones.
    pub fn samples(&self, reducer: Aggregator, is_reverse: bool) -> Vec<Sample> {
        let sample =
            |(at, bucket): (&u64, &Bucket)| Sample { at: *at, value: bucket.value(reducer) };
        let mut samples: Vec<Sample> = self.0.iter().map(sample).collect();
        if is_reverse {
            samples.reverse();
        }
        samples
    }
}

#[cfg(test)]
mod tests;
