//! Where the records of a slot lie: in which families, between which keys.

use crate::{DEFAULT_NAMESPACE, Family, Scope};

/// Keys of a cluster. Nothing here is decided by the clock.
pub(super) const SCOPE: Scope<'static> =
    Scope { namespace: DEFAULT_NAMESPACE, cluster: true, now_ms: 0 };

/// Families with records of keys, in the order in which the records of a slot are copied.
pub(super) const STAGES: [Family; 4] =
    [Family::Metadata, Family::Default, Family::ZsetScore, Family::Stream];

/// Bounds of a slot in every family of data.
pub(super) fn bounds(slot: u16) -> (crate::KeyBuf, crate::KeyBuf) {
    (SCOPE.slot_prefix(slot), SCOPE.slot_prefix(slot.saturating_add(1)))
}

/// The slot of a key on disk.
pub(super) fn slot_of(key: &[u8]) -> Option<u16> {
    let (namespace, rest) = crate::key::split_namespace(key)?;
    let slot = u16::from_be_bytes(*rest.first_chunk::<2>()?);
    (namespace == DEFAULT_NAMESPACE && slot < topology::SLOT_COUNT).then_some(slot)
}

/// Ranges of slots that come in order.
pub(super) fn joined(slots: impl Iterator<Item = u16>) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for slot in slots {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    ranges
}

/// Parts of `[lower, upper)` of a family of data that hold no records of others.
pub(crate) fn visible(
    foreign: &[(u16, u16)],
    lower: &[u8],
    upper: &[u8],
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut parts = Vec::with_capacity(1);
    let mut from = lower.to_vec();
    let is_before = |key: &[u8], end: &[u8]| end.is_empty() || key < end;
    for &(first, last) in foreign {
        let (hidden, _) = bounds(first);
        let (_, end) = bounds(last);
        if *end <= *from || !is_before(&hidden, upper) {
            continue;
        }
        if *from < *hidden {
            parts.push((from, hidden.to_vec()));
        }
        from = end.to_vec();
    }
    if is_before(&from, upper) {
        parts.push((from, upper.to_vec()));
    }
    parts
}
