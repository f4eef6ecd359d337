//! TS.DEL.

use super::chunk::{self, Split};
use super::rules::{self, Holds};
use super::{FAMILY, TimeSeries, chunk as chunk_of, chunk_id, chunk_sub, open};
use crate::types::CommandError;
use crate::types::kind::Type;
use crate::types::object::Object;
use crate::{At, Direction, Txn};

impl Object<TimeSeries> {
    /// Deletes the samples of a time; how many. The metadata is written if it is another one then.
    pub(super) fn take_out(
        &mut self,
        txn: &mut Txn<'_>,
        (from, to): (u64, u64),
    ) -> Result<u64, CommandError> {
        // Chunks that go as a whole, and what is left of the others: those at the ends of the span.
        let (mut whole, mut parts) = (Vec::new(), Vec::new());
        let mut deleted = 0_u64;
        self.walk(txn, ((from, to), Direction::Forward), |sub, value| {
            let id = chunk_id(sub)?;
            let span = chunk::span(value).filter(|(first, last, _)| from <= *first && *last <= to);
            if let Some((.., count)) = span {
                deleted = deleted.saturating_add(count);
                whole.push(id);
                return Ok(true);
            }
            let (_, mut left) = chunk_of(sub, value)?;
            let count = left.len();
            left.retain(|sample| !(from..=to).contains(&sample.at));
            if left.len() < count {
                deleted = deleted.saturating_add((count - left.len()) as u64);
                parts.push((id, left));
            }
            Ok(true)
        })?;
        if deleted == 0 {
            return Ok(0);
        }
        txn.log(Type::TimeSeries.log_data());
        let before = self.size;
        for id in whole {
            self.remove(txn, FAMILY, &[&chunk_sub(id)]);
            self.size = self.size.saturating_sub(1);
            txn.must_fit()?;
        }
        for (id, left) in parts {
            self.put_chunk(txn, Some(id), &left, Split::Even);
        }
        if self.size != before {
            self.write(txn);
        }
        txn.must_fit()?;
        Ok(deleted)
    }
}

/// TS.DEL: deletes the samples of a time; how many. `None` if there is no series.
///
/// # Errors
/// As [`super::add`]; [`CommandError::BeyondRetention`].
pub fn delete(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    span: (u64, u64),
    holds: Holds<'_>,
) -> Result<Option<u64>, CommandError> {
    let Some((mut series, mut leads)) = open(txn, at, None, holds)? else { return Ok(None) };
    rules::may_delete(txn, &series, (leads.as_slice(), span))?;
    let deleted = series.take_out(txn, span)?;
    if deleted > 0 {
        rules::forget(txn, at, &series, (leads.as_mut_slice(), span))?;
    }
    Ok(Some(deleted))
}
