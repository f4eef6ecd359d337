//! Writing fields: each record is counted, and the metadata follows if its numbers changed.
//!
//! A small hash is rid of what has ended whenever it is written, so that its size is exact again
//! and its bounds are tight. A large one keeps that for compaction: its size is then what HLEN
//! begins with, and a key of which the last field goes may be seen until its upper bound is past.

use super::fields::{Count, Form, Stored, Times, is_over};
use super::{FIELDS, Hash};
use crate::types::bounds::SubRange;
use crate::types::object::{IfEmpty, Object};
use crate::{Direction, Error, Txn};

/// Up to so many fields are all looked at when one of them is written.
const SMALL: u64 = 512;

/// A hash whose fields are being written.
pub(in crate::types) struct Changes {
    hash: Object<Hash>,
    count: Count,
    /// Fields were written.
    has_records: bool,
    /// The metadata differs from what is stored, whatever the numbers say.
    is_new: bool,
}

impl Changes {
    /// Begins with the log data.
    pub(in crate::types) fn begin(txn: &mut Txn<'_>, hash: Object<Hash>) -> Self {
        txn.log(hash.tail.log_data());
        let count = Count { size: hash.size, form: hash.tail, is_loose: false };
        Self { hash, count, has_records: false, is_new: false }
    }

    /// The same for a hash all of whose fields are going to be written.
    pub(in crate::types) fn begin_anew(txn: &mut Txn<'_>, hash: Object<Hash>) -> Self {
        let form = Form::Timed(Times::default());
        let count = Count { size: 0, form, is_loose: false };
        Self { count, is_new: true, ..Self::begin(txn, hash) }
    }

    /// What is being written.
    pub(in crate::types) fn hash(&self) -> &Object<Hash> {
        &self.hash
    }

    /// Sets a field to an end and a value; only a hash with lifetimes keeps the end.
    pub(in crate::types) fn put(
        &mut self,
        txn: &mut Txn<'_>,
        field: &[u8],
        was: Stored,
        (end_ms, value): (u64, &[u8]),
    ) {
        let end = end_ms.to_be_bytes();
        let ahead = end.get(..self.hash.tail.ahead()).unwrap_or_default();
        self.hash.put(txn, FIELDS, &[field], &[ahead, value]);
        self.count.note(was, Stored::Until(if ahead.is_empty() { 0 } else { end_ms }));
        self.has_records = true;
    }

    /// Removes a field that would have ended then.
    pub(super) fn remove(&mut self, txn: &mut Txn<'_>, field: &[u8], end_ms: u64) {
        self.hash.remove(txn, FIELDS, &[field]);
        self.count.note(Stored::Until(end_ms), Stored::Nothing);
        self.has_records = true;
    }

    /// Lets the whole key end then.
    pub(super) fn end_key_at(&mut self, end_ms: u64) {
        self.is_new |= self.hash.expire_ms() != end_ms;
        self.hash.set_expire_ms(end_ms);
    }

    /// Writes the metadata if it is another one.
    pub(in crate::types) fn close(mut self, txn: &mut Txn<'_>) -> Result<(), Error> {
        if self.has_records {
            self.tidy(txn)?;
        }
        let Count { size, form, .. } = self.count;
        if self.is_new || (size, form) != (self.hash.size, self.hash.tail) {
            (self.hash.size, self.hash.tail) = (size, form);
            self.hash.store(txn, IfEmpty::Keep);
        }
        Ok(())
    }

    /// Removes what has ended from a small hash, and counts what is left.
    fn tidy(&mut self, txn: &mut Txn<'_>) -> Result<(), Error> {
        let Count { size, form, is_loose } = self.count;
        let is_exact = form.is_exact(size, self.hash.now_ms) && !is_loose;
        if is_exact || size > SMALL {
            return Ok(());
        }
        let form = Form::Timed(Times::default());
        let mut left = Count { size: 0, form, is_loose: false };
        let (mut ended, mut looked_at) = (Vec::new(), 0);
        let mut elements = self.hash.elements(txn, FIELDS, &SubRange::all(), Direction::Forward)?;
        while let Some((field, stored)) = elements.next()? {
            let (end_ms, _) = self.hash.tail.split(stored)?;
            if is_over(end_ms, self.hash.now_ms) {
                ended.push(field.to_vec());
            } else {
                left.note(Stored::Nothing, Stored::Until(end_ms));
            }
            looked_at += 1;
            if looked_at > SMALL {
                // The size is wrong: it is left to those who know better.
                return Ok(());
            }
        }
        drop(elements);
        for field in ended {
            self.hash.remove(txn, FIELDS, &[&field]);
        }
        self.count = left;
        Ok(())
    }
}
