//! The scope (namespace, cluster mode, clock) a command runs in, and a key in it.

use crate::key::{KeyBuf, key_slot, prefix_end, split_namespace};

/// What turns a user key into keys on disk, and when "now" is. Made once per command.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// 1..=255 bytes; longer names are refused where namespaces are created and cut here.
    pub namespace: &'a [u8],
    /// Keys carry their slot.
    pub cluster: bool,
    /// Unix time in milliseconds that decides about expiry.
    pub now_ms: u64,
}

impl<'a> Scope<'a> {
    /// A key in this scope, for those who watch it or wait for it.
    pub fn name(&self, key: &'a [u8]) -> Name<'a> {
        Name { namespace: self.namespace, key }
    }

    /// A key in this scope.
    pub fn at(self, key: &'a [u8]) -> At<'a> {
        At { ns_key: self.ns_key(key), scope: self, key }
    }

    /// `u8 len(ns) | ns`.
    pub fn namespace_prefix(&self) -> KeyBuf {
        let namespace = self.namespace.get(..255).unwrap_or(self.namespace);
        let mut key = KeyBuf::default();
        key.push(&[namespace.len() as u8]);
        key.push(namespace);
        key
    }

    /// `u8 len(ns) | ns | u16 slot`: every key of one slot starts with it. Cluster mode only.
    pub fn slot_prefix(&self, slot: u16) -> KeyBuf {
        let mut key = self.namespace_prefix();
        key.push(&slot.to_be_bytes());
        key
    }

    /// Key of the metadata family.
    pub fn ns_key(&self, user_key: &[u8]) -> KeyBuf {
        let mut key = self.namespace_prefix();
        if self.cluster {
            key.push(&key_slot(user_key).to_be_bytes());
        }
        key.push(user_key);
        key
    }

    /// Prefix of all sub-keys of one version of a key.
    pub fn sub_key_prefix(&self, user_key: &[u8], version: u64) -> KeyBuf {
        let mut key = self.namespace_prefix();
        if self.cluster {
            key.push(&key_slot(user_key).to_be_bytes());
        }
        // A key longer than u32 cannot be received: the protocol limit is far below.
        key.push(&(user_key.len() as u32).to_be_bytes());
        key.push(user_key);
        key.push(&version.to_be_bytes());
        key
    }

    /// Internal key of one sub-key.
    pub fn sub_key(&self, user_key: &[u8], version: u64, sub_key: &[u8]) -> KeyBuf {
        let mut key = self.sub_key_prefix(user_key, version);
        key.push(sub_key);
        key
    }

    /// Whether a key on disk, or the beginning of one, lies in this namespace.
    pub fn owns(&self, key: &[u8]) -> bool {
        split_namespace(key).is_some_and(|(namespace, _)| namespace == self.namespace)
    }

    /// The user key in a key of the metadata family; `None` if that belongs to another namespace or
    /// is malformed.
    pub fn user_key<'k>(&self, ns_key: &'k [u8]) -> Option<&'k [u8]> {
        let (namespace, rest) = split_namespace(ns_key)?;
        if namespace != self.namespace {
            return None;
        }
        if self.cluster { rest.get(2..) } else { Some(rest) }
    }
}

/// A key and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    /// 1..=255 bytes.
    pub namespace: &'a [u8],
    /// As the user wrote it.
    pub key: &'a [u8],
}

impl<'a> Name<'a> {
    /// Both as one text, by which names can be looked up. It is the metadata key where there are no
    /// slots.
    pub fn id(&self) -> KeyBuf {
        Scope { namespace: self.namespace, cluster: false, now_ms: 0 }.ns_key(self.key)
    }

    /// The name with this id.
    pub fn of(id: &'a [u8]) -> Option<Self> {
        split_namespace(id).map(|(namespace, key)| Self { namespace, key })
    }
}

/// The namespace that holds all keys of a range of the metadata family, if one does.
pub(crate) fn namespace_of_range<'a>(begin: &'a [u8], end: &[u8]) -> Option<&'a [u8]> {
    let (namespace, _) = split_namespace(begin)?;
    let prefix = begin.get(..=namespace.len())?;
    (end <= prefix_end(prefix).as_slice()).then_some(namespace)
}

/// A key in a scope: what the function of a data type is about.
#[derive(Debug, Clone)]
pub struct At<'a> {
    /// Namespace, cluster mode and clock.
    pub scope: Scope<'a>,
    /// As the user wrote it.
    pub key: &'a [u8],
    /// In the metadata family.
    pub ns_key: KeyBuf,
}
