//! The way from a label to a series that has it, in the family `index`: `u8 len(ns) | ns | u8 0 |
//! u32 len(label) | label | u32 len(value) | value | key`, as Kvrocks has it, and without a slot.
//! And where the series itself has the label. Bytes alone.

use crate::key::split_namespace;
use crate::{At, Scope};

/// A label and its value.
pub type Label<'a> = (&'a [u8], &'a [u8]);

/// What sub-keys of labels begin with.
pub(super) const LABELS: &[u8] = &[1];

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

/// The way from a label to this series.
pub(super) fn way(to: &At<'_>, label: Label<'_>) -> Vec<u8> {
    [&ways(&to.scope, label)[..], to.key].concat()
}

#[cfg(test)]
mod tests;
