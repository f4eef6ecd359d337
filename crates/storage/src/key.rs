//! Keys as they lie on disk (Kvrocks' encoding), both ways; [`crate::Scope`] makes them.
//!
//! * Namespace key (metadata family): `u8 len(ns) | ns | [u16 slot] | user key`.
//! * Internal key (sub-keys): `u8 len(ns) | ns | [u16 slot] | u32 len(key) | key | u64 version |
//!   sub-key`.
//!
//! The slot is present in cluster mode only.

use std::ops::Deref;

/// Name of the namespace of connections without one of their own.
pub const DEFAULT_NAMESPACE: &[u8] = b"__namespace";

/// Splits any key of the metadata, default, zset_score or stream family into namespace and rest.
pub fn split_namespace(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = key.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// Takes an internal key apart: what stands before the user key, the user key, the version. The
/// first two are the halves of the owning metadata key. `None` if the key is malformed.
pub(crate) fn split_internal(internal: &[u8], cluster: bool) -> Option<(&[u8], &[u8], u64)> {
    let (_, rest) = split_namespace(internal)?;
    let slot_bytes = if cluster { 2 } else { 0 };
    let rest = rest.get(slot_bytes..)?;
    let (prefix, _) = internal.split_at_checked(internal.len() - rest.len())?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (user_key, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (version, _) = rest.split_first_chunk::<8>()?;
    Some((prefix, user_key, u64::from_be_bytes(*version)))
}

/// With what the sub-keys of a stream's groups begin. Those of its entries may too, and are
/// shorter.
pub(crate) const GROUPS: [u8; 8] = [u8::MAX; 8];
/// Bytes of the sub-key of an entry.
const ENTRY_BYTES: usize = 16;

/// Whether an internal key of the family of streams is that of a record of a group.
pub(crate) fn is_of_group(internal: &[u8], cluster: bool) -> bool {
    let Some((prefix, key, _)) = split_internal(internal, cluster) else { return false };
    let begin = prefix.len() + size_of::<u32>() + key.len() + size_of::<u64>();
    let sub_key = internal.get(begin..).unwrap_or_default();
    sub_key.len() > ENTRY_BYTES && sub_key.starts_with(&GROUPS)
}

/// Calls `owner` with the two halves of the metadata key that owns an internal key, and returns the
/// version. `None` (and no call) if the key is malformed.
pub(crate) fn metadata_key_of(
    internal: &[u8],
    cluster: bool,
    owner: impl FnOnce(&[u8], &[u8]),
) -> Option<u64> {
    let (prefix, user_key, version) = split_internal(internal, cluster)?;
    owner(prefix, user_key);
    Some(version)
}

/// The smallest byte string that is greater than every string starting with `prefix`; empty if
/// there is none.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            break;
        }
        end.pop();
    }
    end
}

/// Hash slot of a user key, 0..=16383.
pub fn key_slot(key: &[u8]) -> u16 {
    topology::key_slot(key).number()
}

/// Bytes a [`KeyBuf`] holds without allocating.
const INLINE_BYTES: usize = 104;

/// A key on disk, built on the stack unless it is long.
#[derive(Clone)]
pub struct KeyBuf {
    inline: [u8; INLINE_BYTES],
    inline_length: usize,
    /// Holds everything as soon as the inline part is too small.
    heap: Vec<u8>,
}

impl Default for KeyBuf {
    fn default() -> Self {
        Self { inline: [0; INLINE_BYTES], inline_length: 0, heap: Vec::new() }
    }
}

impl KeyBuf {
    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let end = self.inline_length + bytes.len();
        if self.heap.is_empty() {
            if let Some(room) = self.inline.get_mut(self.inline_length..end) {
                room.copy_from_slice(bytes);
                self.inline_length = end;
                return;
            }
            self.heap.reserve(end);
            self.heap.extend_from_slice(self.inline.get(..self.inline_length).unwrap_or_default());
        }
        self.heap.extend_from_slice(bytes);
    }

    /// Shortens to `length` bytes; does nothing if it is not longer.
    pub fn truncate(&mut self, length: usize) {
        if self.heap.is_empty() {
            self.inline_length = self.inline_length.min(length);
        } else {
            // An emptied heap would read as "inline", with the old inline bytes.
            self.inline_length = self.inline_length.min(length);
            self.heap.truncate(length);
        }
    }
}

impl Deref for KeyBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.heap.is_empty() {
            self.inline.get(..self.inline_length).unwrap_or_default()
        } else {
            &self.heap
        }
    }
}

impl AsRef<[u8]> for KeyBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for KeyBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyBuf(\"{}\")", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scope;
    use proptest::prelude::*;

    fn scope(cluster: bool) -> Scope<'static> {
        Scope { namespace: DEFAULT_NAMESPACE, cluster, now_ms: 0 }
    }

    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(key_slot(b"a"), 0x3c87);
        assert_eq!(key_slot(b"foo"), 12182);
        assert_eq!(key_slot(b"{foo}.bar"), 12182);
        assert_eq!(key_slot(b"x{foo}{bar}"), 12182);
        assert_eq!(key_slot(b"foo{}{bar}"), 8363);
        assert_eq!(key_slot(b""), 0);
    }

    #[test]
    fn worked_examples() {
        assert_eq!(&*scope(true).ns_key(b"a"), b"\x0b__namespace\x3c\x87a");
        assert_eq!(
            &*scope(false).sub_key(b"h", 1, b"f"),
            b"\x0b__namespace\0\0\0\x01h\0\0\0\0\0\0\0\x01f"
        );
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), b"");
    }

    proptest! {
        #[test]
        fn sub_keys_lead_back_to_their_owner(
            key in proptest::collection::vec(any::<u8>(), 0..200),
            sub_key in proptest::collection::vec(any::<u8>(), 0..20),
            version: u64,
            cluster: bool,
        ) {
            let scope = scope(cluster);
            let internal = scope.sub_key(&key, version, &sub_key);
            let mut owner = Vec::new();
            let found = metadata_key_of(&internal, cluster, |a, b| owner = [a, b].concat());
            prop_assert_eq!(found, Some(version));
            let ns_key = scope.ns_key(&key);
            prop_assert_eq!(&*owner, &*ns_key);
            prop_assert_eq!(scope.user_key(&ns_key), Some(&*key));
        }

        #[test]
        fn foreign_keys_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), cluster: bool) {
            let _ = metadata_key_of(&bytes, cluster, |_, _| {});
            let _ = scope(cluster).user_key(&bytes);
        }
    }
}
