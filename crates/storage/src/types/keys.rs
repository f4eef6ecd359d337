//! Commands on keys of every type: existence, type, time to live, deletion.
//!
//! Deleting removes the metadata only; sub-keys without living metadata are garbage that compaction
//! removes.

use super::head::{Header, Prefix};
use super::kind::Type;
use super::living::Living;
use super::{CommandError, log};
use crate::read::each;
use crate::{At, Family, Read, Scope, Txn};

/// TYPE: the name, `none` for a missing key.
///
/// # Errors
/// Those of the engine.
pub fn type_name(read: &impl Read, at: &At<'_>) -> Result<&'static str, CommandError> {
    let living = at.living(read)?;
    let kind = living.map(|living| living.header().kind());
    // A type that this version does not know has no name, but the key is there.
    Ok(kind.map_or("none", |kind| kind.map_or("unknown", Type::name)))
}

/// EXISTS: how many of `keys` exist; a key given twice counts twice.
///
/// # Errors
/// Those of the engine.
pub fn exists(read: &impl Read, scope: &Scope<'_>, keys: &[&[u8]]) -> Result<u64, CommandError> {
    if let [key] = keys {
        return Ok(u64::from(scope.at(key).living(read)?.is_some()));
    }
    let ns_keys: Vec<_> = keys.iter().map(|key| scope.ns_key(key)).collect();
    let mut count = 0;
    // A string stands behind its metadata, and is not wanted.
    each(read, Family::Metadata, &ns_keys, |value| {
        count += u64::from(Living::of(value, scope.now_ms)?.is_some());
        Ok::<_, CommandError>(())
    })?;
    Ok(count)
}

/// Whether a key is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    There,
    /// Its end is past, and it is still stored.
    Ended,
    /// It is not.
    Absent,
}

/// Whether a key is there, and why not.
///
/// # Errors
/// Those of the engine; the entry is none.
pub fn standing(read: &impl Read, at: &At<'_>) -> Result<Standing, CommandError> {
    let Some(value) = read.get(Family::Metadata, &at.ns_key)? else { return Ok(Standing::Absent) };
    let header =
        Header::decode(&value).ok_or_else(|| CommandError::corrupt("metadata is too short"))?;
    Ok(match header {
        header if header.has_ended(at.scope.now_ms) => Standing::Ended,
        header if header.is_dead(at.scope.now_ms) => Standing::Absent,
        _ => Standing::There,
    })
}

/// Removes a key whose end is past, as DEL removes one that is there; false if it is no such one.
///
/// # Errors
/// Those of the engine; the entry is none.
pub fn remove_ended(txn: &mut Txn<'_>, at: &At<'_>) -> Result<bool, CommandError> {
    if standing(&*txn, at)? != Standing::Ended {
        return Ok(false);
    }
    txn.log(log::DELETE);
    txn.delete(Family::Metadata, &at.ns_key);
    Ok(true)
}

/// When a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// There is no such key.
    Absent,
    /// Never.
    Endless,
    /// Unix time in milliseconds.
    Until(u64),
}

impl Lifetime {
    /// Reply of PTTL: -2, -1, or the milliseconds left.
    pub fn ttl_ms(self, now_ms: u64) -> i64 {
        match self {
            Self::Absent => -2,
            Self::Endless => -1,
            Self::Until(at) => i64::try_from(at.saturating_sub(now_ms)).unwrap_or(i64::MAX),
        }
    }

    /// Reply of TTL: -2, -1, or the seconds left, rounded to the nearest.
    pub fn ttl_seconds(self, now_ms: u64) -> i64 {
        match self.ttl_ms(now_ms) {
            code @ ..0 => code,
            milliseconds => milliseconds.saturating_add(500) / 1000,
        }
    }

    /// Reply of PEXPIRETIME: -2, -1, or Unix milliseconds.
    pub fn unix_ms(self) -> i64 {
        self.ttl_ms(0)
    }

    /// Reply of EXPIRETIME: -2, -1, or Unix seconds, rounded to the nearest.
    pub fn unix_seconds(self) -> i64 {
        self.ttl_seconds(0)
    }
}

/// TTL, PTTL, EXPIRETIME, PEXPIRETIME.
///
/// # Errors
/// Those of the engine.
pub fn lifetime(read: &impl Read, at: &At<'_>) -> Result<Lifetime, CommandError> {
    let living = at.living(read)?;
    Ok(match living.map(|living| living.header().expire_ms) {
        None => Lifetime::Absent,
        Some(0) => Lifetime::Endless,
        Some(expire_ms) => Lifetime::Until(expire_ms),
    })
}

/// When EXPIRE acts. NX excludes the others, GT excludes LT; XX goes with either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpireCondition {
    /// NX: only without a time to live.
    pub only_endless: bool,
    /// XX: only with one.
    pub only_limited: bool,
    /// GT: only later; no time to live is the latest.
    pub only_later: bool,
    /// LT: only earlier.
    pub only_earlier: bool,
}

impl ExpireCondition {
    /// Whether it lets a time to live that ends at `current_ms` (0: never) end at `at_ms`.
    pub(super) fn is_met(self, current_ms: u64, at_ms: u64) -> bool {
        let is_endless = current_ms == 0;
        !(self.only_endless && !is_endless
            || self.only_limited && is_endless
            || self.only_later && (is_endless || at_ms <= current_ms)
            || self.only_earlier && !is_endless && at_ms >= current_ms)
    }
}

/// EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT: lets a key end at `end_ms` (Unix milliseconds, at least 1;
/// see [`super::expiry::Unit::for_expire`]). A time in the past ends it at once. Returns whether it
/// did.
///
/// # Errors
/// Those of the engine.
pub fn expire(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    end_ms: u64,
    condition: ExpireCondition,
) -> Result<bool, CommandError> {
    set_lifetime(txn, at, |current_ms| condition.is_met(current_ms, end_ms).then_some(end_ms))
}

/// PERSIST. Returns whether there was a time to live.
///
/// # Errors
/// Those of the engine.
pub fn persist(txn: &mut Txn<'_>, at: &At<'_>) -> Result<bool, CommandError> {
    set_lifetime(txn, at, |current_ms| (current_ms != 0).then_some(0))
}

fn set_lifetime(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    new: impl FnOnce(u64) -> Option<u64>,
) -> Result<bool, CommandError> {
    let Some(living) = at.load(txn)? else { return Ok(false) };
    let header = living.header();
    let Some(expire_ms) = new(header.expire_ms) else { return Ok(false) };
    if expire_ms != 0 && expire_ms < at.scope.now_ms && txn.store().removes_ended() {
        txn.log(log::DELETE);
        txn.delete(Family::Metadata, &at.ns_key);
        return Ok(true);
    }
    let prefix = Prefix::rewritten(&header, expire_ms);
    txn.log(log::EXPIRE);
    txn.put_parts(Family::Metadata, &[&at.ns_key], &[prefix.as_bytes(), header.rest]);
    Ok(true)
}

/// DEL and UNLINK: how many of `keys` existed; a key given twice counts once.
///
/// # Errors
/// Those of the engine.
pub fn del(txn: &mut Txn<'_>, scope: &Scope<'_>, keys: &[&[u8]]) -> Result<u64, CommandError> {
    let ns_keys: Vec<_> = keys.iter().map(|key| scope.ns_key(key)).collect();
    let mut is_living = Vec::with_capacity(keys.len());
    each(&*txn, Family::Metadata, &ns_keys, |value| {
        is_living.push(Living::of(value, scope.now_ms)?.is_some());
        Ok::<_, CommandError>(())
    })?;
    let mut deleted = std::collections::HashSet::new();
    for (ns_key, _) in ns_keys.iter().zip(is_living).filter(|(_, is_living)| *is_living) {
        if deleted.insert(&**ns_key) {
            if deleted.len() == 1 {
                txn.log(log::DELETE);
            }
            txn.delete(Family::Metadata, ns_key);
        }
    }
    Ok(deleted.len() as u64)
}

#[cfg(test)]
mod tests;
