//! A value on its way into a key.

use rdb::Part;

use super::stream::StreamSink;
use crate::types::bounds::SubRange;
use crate::types::expiry::Expiry;
use crate::types::fields::{Stored, Times, is_over};
use crate::types::hash::{Changes, Hash};
use crate::types::kind::Type;
use crate::types::list::{End, List};
use crate::types::object::{IfEmpty, Kind, Object};
use crate::types::set::{MEMBERS, Set};
use crate::types::strings::{self, SetOptions};
use crate::types::zset::{self, Zset};
use crate::types::{CommandError, fields::Form, hyperloglog, log};
use crate::{At, Direction, Family, Txn};

/// Takes the parts of one value, in their order, and puts them into a transaction. What the key
/// holds is replaced, its end too. Ended well with [`Sink::finish`]; a transaction of which that
/// was not called is to be rolled back.
pub struct Sink<'s, 'a> {
    txn: &'s mut Txn<'a>,
    at: At<'s>,
    end_ms: u64,
    /// Its fields may have ends.
    is_timed: bool,
    /// Parts taken: elements, members, fields, entries.
    taken: u64,
    value: Value,
}

enum Value {
    Nothing,
    /// Written already.
    Single,
    List(Object<List>),
    Set(Object<Set>),
    Zset(Object<Zset>),
    Hash(Box<HashSink>),
    Stream(Box<StreamSink>),
}

/// Fields that are being written, and how many were stored.
struct HashSink {
    changes: Changes,
    stored: u64,
}

impl<'s, 'a> Sink<'s, 'a> {
    /// For a value of this type of the RDB, at a key that is to end then (Unix ms; 0 for never).
    pub fn new(txn: &'s mut Txn<'a>, at: At<'s>, code: u8, end_ms: u64) -> Self {
        let is_timed = matches!(code, 22..=25);
        Self { txn, at, end_ms, is_timed, taken: 0, value: Value::Nothing }
    }

    fn new_object<K: Kind>(&mut self) -> Object<K> {
        let mut object = Object::new(&self.at);
        object.set_expire_ms(self.end_ms);
        object
    }

    /// Takes the next part.
    ///
    /// # Errors
    /// It does not fit the ones before; the batch is longer than any may be.
    pub fn take(&mut self, part: Part<'_>) -> Result<(), CommandError> {
        if let Value::Nothing = self.value {
            self.value = self.begin(&part)?;
        }
        match (&mut self.value, part) {
            (Value::Single, Part::String(_)) => {}
            (Value::List(list), Part::Element(element)) => {
                list.push(self.txn, End::Right, element)?;
            }
            (Value::Set(set), Part::Member(member)) => set.put(self.txn, MEMBERS, &[member], &[]),
            (Value::Zset(zset), Part::Scored(member, score)) => {
                zset::put(self.txn, zset, member, score);
            }
            (Value::Hash(hash), Part::Field { name, value, end_ms }) => {
                if !is_over(end_ms, self.at.scope.now_ms) {
                    hash.changes.put(self.txn, name, Stored::Nothing, (end_ms, value));
                    hash.stored += 1;
                }
            }
            (Value::Stream(stream), part) => stream.take(self.txn, &self.at, &part)?,
            _ => return Err(CommandError::malformed("a value has parts of several kinds")),
        }
        self.taken += 1;
        Ok(self.txn.must_fit()?)
    }

    fn begin(&mut self, part: &Part<'_>) -> Result<Value, CommandError> {
        Ok(match part {
            Part::String(text) => {
                self.put_string(text)?;
                Value::Single
            }
            Part::Element(_) => {
                self.txn.log(&log::words(Type::List, &[b"7"]));
                Value::List(self.new_object())
            }
            Part::Member(_) => {
                self.txn.log(Type::Set.log_data());
                Value::Set(self.new_object())
            }
            Part::Scored(..) => {
                self.txn.log(Type::Zset.log_data());
                Value::Zset(self.new_object())
            }
            Part::Field { .. } => {
                let mut hash: Object<Hash> = self.new_object();
                let changes = if self.is_timed {
                    hash.tail = Form::Timed(Times::default());
                    Changes::begin_anew(self.txn, hash)
                } else {
                    Changes::begin(self.txn, hash)
                };
                Value::Hash(Box::new(HashSink { changes, stored: 0 }))
            }
            _ => {
                self.txn.log(Type::Stream.log_data());
                Value::Stream(Box::new(StreamSink::new(self.new_object())))
            }
        })
    }

    /// A string; one in which Redis keeps a HyperLogLog becomes one.
    fn put_string(&mut self, text: &[u8]) -> Result<(), CommandError> {
        if let Some(registers) = hyperloglog::of_redis(text) {
            hyperloglog::replace(self.txn, &self.at, self.end_ms, &registers);
            return Ok(());
        }
        let expiry = if self.end_ms == 0 { Expiry::Never } else { Expiry::At(self.end_ms) };
        strings::set(self.txn, &self.at, text, &SetOptions { expiry, ..SetOptions::default() })?;
        Ok(())
    }

    /// Writes what is known at the end. Returns whether the key is there now: all fields of a hash
    /// may have ended.
    ///
    /// # Errors
    /// The value is empty, has an element twice, or contradicts itself.
    pub fn finish(self) -> Result<bool, CommandError> {
        let Self { txn, taken, value, .. } = self;
        match value {
            Value::Nothing => return Err(CommandError::malformed("a value is empty")),
            Value::Single => {}
            Value::List(list) => drop(list.close(txn)),
            Value::Set(mut set) => {
                set.size = distinct(txn, &set, MEMBERS, taken)?;
                set.store(txn, IfEmpty::Keep);
            }
            Value::Zset(mut zset) => {
                zset.size = distinct(txn, &zset, zset::MEMBERS, taken)?;
                zset.store(txn, IfEmpty::Keep);
            }
            Value::Hash(hash) => {
                distinct(txn, hash.changes.hash(), crate::types::hash::FIELDS, hash.stored)?;
                if hash.stored == 0 {
                    return Ok(false);
                }
                hash.changes.close(txn)?;
            }
            Value::Stream(stream) => stream.finish(txn)?,
        }
        Ok(true)
    }
}

/// That so many elements are so many different ones. They are counted where they lie: a set of
/// their names would take as much memory as they do.
fn distinct<K: Kind>(
    txn: &Txn<'_>,
    object: &Object<K>,
    family: Family,
    taken: u64,
) -> Result<u64, CommandError> {
    if taken > 1 {
        let mut count = 0;
        let mut all = object.elements(txn, family, &SubRange::all(), Direction::Forward)?;
        while all.next()?.is_some() {
            count += 1;
        }
        if count != taken {
            return Err(CommandError::malformed("an element is there twice"));
        }
    }
    Ok(taken)
}
