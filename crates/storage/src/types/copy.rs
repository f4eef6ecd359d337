//! RENAME and COPY: the value of one key, sub-keys of all families included, under another name.
//!
//! One batch: (RENAME) delete of the old metadata, the new metadata, the sub-keys, the ways from
//! the labels of a time series. The log data is the type's. The old sub-keys stay as garbage.
//!
//! One deliberate difference from Kvrocks: the copy gets a version of its own. With the version of
//! the source, sub-keys that are garbage under the destination's name from an earlier rename would
//! come back to life (RENAME a b, remove an element of b, RENAME b a: the element is there again).

use super::head::Metadata;
use super::kind::Type;
use super::timeseries::labels::Carried;
use super::{CommandError, version};
use crate::key::prefix_end;
use crate::{At, Cursor, Direction, Family, Txn};

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
pub fn rename(txn: &mut Txn<'_>, from: &At<'_>, to: &At<'_>) -> Result<(), CommandError> {
    transfer(txn, from, to, Mode { removes_source: true, replaces: true }).map(|_| ())
}

/// RENAMENX. False if the destination exists.
///
/// # Errors
/// [`CommandError::NoSuchKey`].
pub fn renamenx(txn: &mut Txn<'_>, from: &At<'_>, to: &At<'_>) -> Result<bool, CommandError> {
    transfer(txn, from, to, Mode { removes_source: true, replaces: false })
}

/// COPY; `replaces` is the option REPLACE. False if there is no source, or a destination and no
/// REPLACE. Source and destination must differ.
///
/// # Errors
/// Wrong type for types this version does not know.
pub fn copy(
    txn: &mut Txn<'_>,
    from: &At<'_>,
    to: &At<'_>,
    replaces: bool,
) -> Result<bool, CommandError> {
    match transfer(txn, from, to, Mode { removes_source: false, replaces }) {
        Err(CommandError::NoSuchKey) => Ok(false),
        outcome => outcome,
    }
}

fn transfer(
    txn: &mut Txn<'_>,
    from: &At<'_>,
    to: &At<'_>,
    mode: Mode,
) -> Result<bool, CommandError> {
    let source = from.load(txn)?.ok_or(CommandError::NoSuchKey)?;
    if *from.ns_key == *to.ns_key {
        return Ok(mode.replaces);
    }
    if !mode.replaces && to.living(txn)?.is_some() {
        return Ok(false);
    }
    let header = source.header();
    let kind = header.kind().ok_or(CommandError::WrongType)?;
    let log_data = header.log_data().unwrap_or_else(|| kind.log_data());
    if kind.is_single() {
        begin(txn, from, log_data, mode);
        txn.put(Family::Metadata, &to.ns_key, &source.into_value().0);
        return Ok(true);
    }
    let mut metadata = Metadata::of(&header)?;
    let old_version = std::mem::replace(&mut metadata.version, version::next());
    let from_prefix = from.scope.sub_key_prefix(from.key, old_version);
    let to_prefix = to.scope.sub_key_prefix(to.key, metadata.version);
    // Opened before anything is written, so that what is written need not be looked at.
    let mut cursors: Vec<(Family, Cursor<'_>)> = Vec::new();
    for family in kind.families() {
        let end = prefix_end(&from_prefix);
        cursors.push((*family, txn.scan(*family, &from_prefix, &end, Direction::Forward)?));
    }
    begin(txn, from, log_data, mode);
    txn.put(Family::Metadata, &to.ns_key, &metadata.encode());
    let mut labels = Carried::default();
    for (family, mut cursor) in cursors {
        while let Some((key, value)) = cursor.next()? {
            let sub_key = key.strip_prefix(&*from_prefix).unwrap_or_default();
            txn.put_parts(family, &[&to_prefix, sub_key], &[value]);
            txn.must_fit()?;
            if kind == Type::TimeSeries {
                labels.take(sub_key, value);
            }
        }
    }
    labels.lead(txn, Some(from).filter(|_| mode.removes_source), to);
    txn.must_fit()?;
    Ok(true)
}

fn begin(txn: &mut Txn<'_>, from: &At<'_>, log_data: &[u8], mode: Mode) {
    txn.log(log_data);
    if mode.removes_source {
        txn.delete(Family::Metadata, &from.ns_key);
    }
}
