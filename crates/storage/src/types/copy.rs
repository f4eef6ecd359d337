//! RENAME and COPY: the value of one key, sub-keys of all families included, under another name.
//!
//! One batch: (RENAME) delete of the old metadata, the new metadata, the sub-keys. The log data is the type's. The old
//! sub-keys stay as garbage.
//!
//! One deliberate difference from Kvrocks: the copy gets a version of its own. With the version of the source, sub-keys
//! that are garbage under the destination's name from an earlier rename would come back to life (RENAME a b, remove an
//! element of b, RENAME b a: the element is there again).

use super::metadata::{Header, Metadata, Type};
use super::{CommandError, version};
use crate::key::prefix_end;
use crate::{Direction, Family, Scope, Txn, Value};

/// What happens to the source, and to a destination that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    removes_source: bool,
    replaces: bool,
}

/// RENAME; over an existing destination too.
///
/// # Errors
/// [`CommandError::NoSuchKey`].
pub fn rename(
    txn: &mut Txn<'_>,
    scope: &Scope<'_>,
    from: &[u8],
    to: &[u8],
) -> Result<(), CommandError> {
    transfer(txn, scope, from, to, Mode { removes_source: true, replaces: true }).map(|_| ())
}

/// RENAMENX. False if the destination exists.
///
/// # Errors
/// [`CommandError::NoSuchKey`].
pub fn renamenx(
    txn: &mut Txn<'_>,
    scope: &Scope<'_>,
    from: &[u8],
    to: &[u8],
) -> Result<bool, CommandError> {
    transfer(txn, scope, from, to, Mode { removes_source: true, replaces: false })
}

/// COPY; `replaces` is the option REPLACE. False if there is no source, or a destination and no REPLACE. Source and
/// destination must differ.
///
/// # Errors
/// Wrong type for types this version does not know.
pub fn copy(
    txn: &mut Txn<'_>,
    scope: &Scope<'_>,
    from: &[u8],
    to: &[u8],
    replaces: bool,
) -> Result<bool, CommandError> {
    match transfer(txn, scope, from, to, Mode { removes_source: false, replaces }) {
        Err(CommandError::NoSuchKey) => Ok(false),
        outcome => outcome,
    }
}

fn transfer(
    txn: &mut Txn<'_>,
    scope: &Scope<'_>,
    from: &[u8],
    to: &[u8],
    mode: Mode,
) -> Result<bool, CommandError> {
    let (from_key, to_key) = (scope.ns_key(from), scope.ns_key(to));
    let source = txn.get(Family::Metadata, &from_key)?;
    let source = source.filter(|value| is_living(value, scope)).ok_or(CommandError::NoSuchKey)?;
    if from == to {
        return Ok(mode.replaces);
    }
    if !mode.replaces {
        let destination = txn.get(Family::Metadata, &to_key)?;
        if destination.is_some_and(|value| is_living(&value, scope)) {
            return Ok(false);
        }
    }
    let kind = Header::decode(&source).and_then(|header| header.kind());
    let kind = kind.ok_or(CommandError::WrongType)?;
    txn.log(kind.log_data());
    if mode.removes_source {
        txn.delete(Family::Metadata, &from_key);
    }
    if kind.is_single() {
        txn.put(Family::Metadata, &to_key, &source);
        return Ok(true);
    }
    let Some(mut metadata) = Metadata::decode(&source, kind, scope.now_ms)? else {
        return Err(CommandError::NoSuchKey);
    };
    let old_version = std::mem::replace(&mut metadata.version, version::next());
    txn.put(Family::Metadata, &to_key, &metadata.encode());
    let from_prefix = scope.sub_key_prefix(from, old_version);
    let to_prefix = scope.sub_key_prefix(to, metadata.version);
    for family in families(kind) {
        copy_sub_keys(txn, *family, &from_prefix, &to_prefix)?;
    }
    Ok(true)
}

fn is_living(value: &Value<'_>, scope: &Scope<'_>) -> bool {
    Header::decode(value).is_some_and(|header| !header.is_dead(scope.now_ms))
}

/// Families that hold sub-keys of a type.
fn families(kind: Type) -> &'static [Family] {
    match kind {
        Type::String | Type::Json => &[],
        Type::Zset => &[Family::Default, Family::ZsetScore],
        Type::Stream => &[Family::Stream],
        _ => &[Family::Default],
    }
}

fn copy_sub_keys(
    txn: &mut Txn<'_>,
    family: Family,
    from_prefix: &[u8],
    to_prefix: &[u8],
) -> Result<(), CommandError> {
    let end = prefix_end(from_prefix);
    let mut cursor = txn.scan(family, from_prefix, &end, Direction::Forward)?;
    while let Some((key, value)) = cursor.next()? {
        let sub_key = key.strip_prefix(from_prefix).unwrap_or_default();
        txn.put_parts(family, &[to_prefix, sub_key], &[value]);
    }
    Ok(())
}
