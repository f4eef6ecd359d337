//! Two things at once: HGETDEL, HGETEX, HSETEX.

use super::lifetimes::change_fields;
use super::{find, find_or_new, mget};
use crate::types::CommandError;
use crate::{At, Txn};

/// Values of fields, in their order; `None` for those that are not there.
type Values = Vec<Option<Vec<u8>>>;

/// HGETDEL: the values of fields, which are removed. A field that comes twice is gone the second
/// time.
///
/// # Errors
/// Wrong type.
pub fn get_and_delete(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    fields: &[&[u8]],
) -> Result<Values, CommandError> {
    let Some(hash) = find(txn, at)? else { return Ok(vec![None; fields.len()]) };
    change_fields(txn, at, hash, fields, |_, field| {
        let value = field.seen().map(<[u8]>::to_vec);
        field.end = None;
        value
    })
}

/// HGETEX: the values of fields, which end at `end_ms` (Unix ms) from then on, with 0 never; at
/// once if that is not ahead.
///
/// # Errors
/// Wrong type.
pub fn get_and_expire(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    fields: &[&[u8]],
    end_ms: u64,
) -> Result<Values, CommandError> {
    let Some(hash) = find(txn, at)? else { return Ok(vec![None; fields.len()]) };
    let end = Some(end_ms).filter(|end_ms| *end_ms == 0 || *end_ms > hash.now_ms);
    change_fields(txn, at, hash, fields, |_, field| {
        let value = field.seen().map(<[u8]>::to_vec);
        if value.is_some() {
            field.end = end;
        }
        value
    })
}

/// What must be so for HSETEX to set anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnlyIf {
    /// Nothing.
    #[default]
    Always,
    /// None of the fields is there.
    None,
    /// All of them are.
    All,
}

/// When fields end that HSETEX sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// Never.
    #[default]
    Never,
    /// When they did.
    Kept,
    /// Then, Unix ms; at once if that is not ahead.
    At(u64),
}

/// HSETEX: sets fields to values, of a field that comes twice to the last one. False if the
/// condition is not met.
///
/// # Errors
/// Wrong type.
pub fn set_and_expire(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    pairs: &[(&[u8], &[u8])],
    (only_if, end): (OnlyIf, End),
) -> Result<bool, CommandError> {
    let names: Vec<&[u8]> = pairs.iter().map(|(name, _)| *name).collect();
    let mut there = 0;
    mget(txn, at, &names, |value| {
        there += usize::from(value.is_some());
        Ok(())
    })?;
    let is_met = match only_if {
        OnlyIf::Always => true,
        OnlyIf::None => there == 0,
        OnlyIf::All => there == names.len(),
    };
    if !is_met {
        return Ok(false);
    }
    let hash = find_or_new(txn, at)?;
    let now_ms = hash.now_ms;
    change_fields(txn, at, hash, &names, |place, field| {
        field.value = pairs.get(place).map(|(_, value)| *value);
        field.end = match end {
            End::Never => Some(0),
            End::Kept => Some(field.end.unwrap_or(0)),
            End::At(end_ms) => Some(end_ms).filter(|end_ms| *end_ms > now_ms),
        };
    })?;
    Ok(true)
}
