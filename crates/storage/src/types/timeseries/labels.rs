//! Labels of a series, and the way from a label to its series.
//!
//! A label is a sub-key of its series. That a series has it stands in the family `index`, too,
//! where it is found: `u8 len(ns) | ns | u8 0 | u32 len(label) | label | u32 len(value) | value |
//! key`, as Kvrocks has it, and without a slot. So series get labels outside of cluster mode only.
//!
//! Such a way stays when its series is deleted, ends, or is replaced by another value, until a
//! compaction drops it. Nothing is believed of it but where to look: the labels that a series has
//! are those among its sub-keys.

use std::collections::{BTreeMap, BTreeSet};

use super::{FAMILY, LABELS, RULES, TimeSeries, find};
use crate::key::split_namespace;
use crate::types::CommandError;
use crate::types::bounds::SubRange;
use crate::types::kind::Type;
use crate::types::object::Object;
use crate::{At, Direction, Error, Family, Read, Scope, Txn};

/// A label and its value.
pub type Label<'a> = (&'a [u8], &'a [u8]);

/// The same, owned.
pub type OwnLabel = (Vec<u8>, Vec<u8>);

/// With what ways from labels begin behind the namespace. Kvrocks keeps the other bytes for more.
const KIND: &[u8] = &[0];

/// A way from a label with a value to a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way<'k> {
    /// Whose series it is.
    pub(crate) namespace: &'k [u8],
    /// The label.
    pub(crate) label: &'k [u8],
    /// Its value.
    pub(crate) value: &'k [u8],
    /// The series.
    pub(crate) key: &'k [u8],
}

impl<'k> Way<'k> {
    /// What a key of the family says; `None` if it is none, or of another kind.
    pub(crate) fn read(key: &'k [u8]) -> Option<Self> {
        let (namespace, rest) = split_namespace(key)?;
        let (label, rest) = split_sized(rest.strip_prefix(KIND)?)?;
        let (value, key) = split_sized(rest)?;
        Some(Self { namespace, label, value, key })
    }
}

fn split_sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// The sub-key of a label.
pub(crate) fn sub_key(label: &[u8]) -> Vec<u8> {
    [LABELS, label].concat()
}

/// What the ways from a label with a value begin with.
pub(super) fn ways(scope: &Scope<'_>, (label, value): Label<'_>) -> Vec<u8> {
    let mut key = [&*scope.namespace_prefix(), KIND].concat();
    for part in [label, value] {
        // Nothing longer can be received: the limit of the protocol is far below.
        key.extend_from_slice(&(part.len() as u32).to_be_bytes());
        key.extend_from_slice(part);
    }
    key
}

fn way(to: &At<'_>, label: Label<'_>) -> Vec<u8> {
    [&ways(&to.scope, label)[..], to.key].concat()
}

/// The labels of a series, in their order.
pub(super) fn of(
    read: &impl Read,
    series: &Object<TimeSeries>,
) -> Result<Vec<OwnLabel>, CommandError> {
    let range = SubRange::between(LABELS, RULES);
    let mut elements = series.elements(read, FAMILY, &range, Direction::Forward)?;
    let mut labels = Vec::new();
    while let Some((sub, value)) = elements.next()? {
        let label = sub.strip_prefix(LABELS).unwrap_or_default();
        labels.push((label.to_vec(), value.to_vec()));
    }
    Ok(labels)
}

/// The value of one of these labels, which stand in their order.
pub(super) fn value<'l>(labels: &'l [OwnLabel], label: &[u8]) -> Option<&'l [u8]> {
    let place = labels.binary_search_by(|(name, _)| name.as_slice().cmp(label)).ok()?;
    labels.get(place).map(|(_, value)| value.as_slice())
}

/// Of labels that are named twice the last one counts.
fn distinct<'a>(labels: &[Label<'a>]) -> BTreeMap<&'a [u8], &'a [u8]> {
    labels.iter().copied().collect()
}

/// Gives a series labels that it does not have. Sub-keys first, as Kvrocks orders its batches.
pub(super) fn put(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    series: &Object<TimeSeries>,
    labels: &[Label<'_>],
) -> Result<(), Error> {
    let labels = distinct(labels);
    for (label, value) in &labels {
        series.put(txn, FAMILY, &[LABELS, *label], &[*value]);
        txn.must_fit()?;
    }
    for (label, value) in labels {
        txn.put(Family::Index, &way(at, (label, value)), &[]);
        txn.must_fit()?;
    }
    Ok(())
}

/// TS.ALTER: these are the labels of a series from now on. False if there is no series. Outside of
/// cluster mode only.
///
/// # Errors
/// Wrong type.
pub fn relabel(txn: &mut Txn<'_>, at: &At<'_>, labels: &[Label<'_>]) -> Result<bool, CommandError> {
    let Some(series) = find(txn, at)? else { return Ok(false) };
    let old = of(txn, &series)?;
    let old: BTreeSet<Label<'_>> =
        old.iter().map(|(label, value)| (&label[..], &value[..])).collect();
    let new = distinct(labels);
    let is_kept = |(label, value): Label<'_>| new.get(label).is_some_and(|new| *new == value);
    let gone: Vec<Label<'_>> = old.iter().copied().filter(|label| !is_kept(*label)).collect();
    let new: Vec<Label<'_>> = new.iter().map(|(label, value)| (*label, *value)).collect();
    let added: Vec<Label<'_>> = new.into_iter().filter(|label| !old.contains(label)).collect();
    if gone.is_empty() && added.is_empty() {
        return Ok(true);
    }
    txn.log(Type::TimeSeries.log_data());
    for label in gone {
        series.remove(txn, FAMILY, &[LABELS, label.0]);
        txn.delete(Family::Index, &way(at, label));
    }
    put(txn, at, &series, &added)?;
    Ok(true)
}

/// The labels of a series that gets another name, or another series with it: found among its
/// sub-keys while they are carried over.
#[derive(Debug, Default)]
pub(crate) struct Carried(Vec<OwnLabel>);

impl Carried {
    /// Takes note of a sub-key, if it is a label.
    pub(crate) fn take(&mut self, sub: &[u8], value: &[u8]) {
        if let Some(label) = sub.strip_prefix(LABELS) {
            self.0.push((label.to_vec(), value.to_vec()));
        }
    }

    /// Lets them lead to a series, and no longer to another one.
    pub(crate) fn lead(self, txn: &mut Txn<'_>, no_longer: Option<&At<'_>>, to: &At<'_>) {
        if to.scope.cluster {
            return;
        }
        for (label, value) in &self.0 {
            let label = (label.as_slice(), value.as_slice());
            if let Some(from) = no_longer {
                txn.delete(Family::Index, &way(from, label));
            }
            txn.put(Family::Index, &way(to, label), &[]);
        }
    }
}

#[cfg(test)]
mod tests;
