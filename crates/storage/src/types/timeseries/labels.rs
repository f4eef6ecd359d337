//! Labels of a series, and the way from a label to its series.
//!
//! A label is a sub-key of its series. That a series has it stands in the family `index`, too,
//! where it is found ([`super::way`]), without a slot. So series get labels outside of cluster mode
//! only.
//!
//! Such a way stays when its series is deleted, ends, or is replaced by another value, until a
//! compaction drops it. Nothing is believed of it but where to look: the labels that a series has
//! are those among its sub-keys.

use std::collections::{BTreeMap, BTreeSet};

use super::way::{LABELS, Label, way};
use super::{FAMILY, RULES, TimeSeries, find};
use crate::types::CommandError;
use crate::types::bounds::SubRange;
use crate::types::kind::Type;
use crate::types::object::Object;
use crate::{At, Direction, Error, Family, Read, Txn};

/// A label and its value, owned.
pub type OwnLabel = (Vec<u8>, Vec<u8>);

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
