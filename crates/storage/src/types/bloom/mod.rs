//! Bloom filters: a chain of them, each under its number as two bytes. Only the last one grows;
//! when it has the items it was made for, another one follows, which is larger by the expansion.
//!
//! Batches are those of Kvrocks: log data `9 createBloomChain`, the metadata, an empty filter; for
//! items log data `9 insert`, a filter that became full and the metadata that tells of the next
//! one, the metadata, the last filter. What makes a key and what it adds are one batch here.

use super::kind::Type;
use super::object::{Kind, Object, Tail};
use super::{CommandError, log, score};
use crate::{At, Family, Read, Txn, Value, budget};

mod filter;

/// The type.
#[derive(Debug)]
pub enum Bloom {}

impl Kind for Bloom {
    const TYPE: Type = Type::Bloom;
    type Tail = Chain;
}

/// How a chain was made, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chain {
    /// Filters there are.
    pub filters: u16,
    /// How many times more items each next one takes; 0: there is no next one.
    pub expansion: u16,
    /// Items the first one takes.
    pub capacity: u32,
    /// Errors of each filter that has all its items.
    pub error_rate: f64,
    /// Bytes of all filters.
    pub bytes: u32,
}

impl Tail for Chain {
    fn fresh() -> Self {
        Self::new(&Shape::default())
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (filters, rest) = bytes.split_first_chunk::<2>()?;
        let (expansion, rest) = rest.split_first_chunk::<2>()?;
        let (capacity, rest) = rest.split_first_chunk::<4>()?;
        let (error_rate, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            filters: u16::from_be_bytes(*filters),
            expansion: u16::from_be_bytes(*expansion),
            capacity: u32::from_be_bytes(*capacity),
            error_rate: score::decode(*error_rate),
            bytes: u32::from_be_bytes(rest.try_into().ok()?),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.filters.to_be_bytes());
        out.extend_from_slice(&self.expansion.to_be_bytes());
        out.extend_from_slice(&self.capacity.to_be_bytes());
        out.extend_from_slice(&score::encode(self.error_rate));
        out.extend_from_slice(&self.bytes.to_be_bytes());
    }
}

/// How a chain is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Above 0 and below 1.
    pub error_rate: f64,
    /// Items the first filter takes, at least 1.
    pub capacity: u32,
    /// See [`Chain::expansion`].
    pub expansion: u16,
}

impl Default for Shape {
    fn default() -> Self {
        Self { error_rate: 0.01, capacity: 100, expansion: 2 }
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::fresh()
    }
}

impl Chain {
    fn new(shape: &Shape) -> Self {
        let Shape { error_rate, capacity, expansion } = *shape;
        let mut chain = Self { filters: 1, expansion, capacity, error_rate, bytes: 0 };
        chain.bytes = u32::try_from(chain.bytes_of_last()).unwrap_or(u32::MAX);
        chain
    }

    /// Bytes of the last filter when it was made.
    fn bytes_of_last(&self) -> u64 {
        let exponent = i32::from(self.filters.saturating_sub(1));
        let items = f64::from(self.capacity) * f64::from(self.expansion.max(1)).powi(exponent);
        filter::bytes_for(items, self.error_rate)
    }

    /// Items that all filters take.
    pub fn items_max(&self) -> u64 {
        let (mut all, mut next) = (0_u64, u64::from(self.capacity));
        for _ in 0..self.filters {
            all = all.saturating_add(next);
            next = next.saturating_mul(u64::from(self.expansion));
            if all == u64::MAX || next == 0 {
                break;
            }
        }
        all
    }

    /// The chain with one filter more; `None` if it has no next one, or its numbers no place.
    fn longer(&self) -> Option<Self> {
        let filters = self.filters.checked_add(1).filter(|_| self.expansion > 0)?;
        let chain = Self { filters, ..*self };
        let bytes = u32::try_from(chain.bytes_of_last()).ok()?;
        Some(Self { bytes: self.bytes.checked_add(bytes)?, ..chain })
    }
}

/// Where filters lie.
const FILTERS: Family = Family::Default;

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is new.
    Added,
    /// It is there already, as far as a Bloom filter can tell.
    There,
    /// There is no room for it.
    Full,
}

/// A chain that is there; `None` if there is none.
///
/// # Errors
/// Wrong type.
pub fn find(read: &impl Read, at: &At<'_>) -> Result<Option<Object<Bloom>>, CommandError> {
    Object::find(read, at)
}

/// BF.RESERVE. False if the key is there.
///
/// # Errors
/// Wrong type.
pub fn reserve(txn: &mut Txn<'_>, at: &At<'_>, shape: &Shape) -> Result<bool, CommandError> {
    if find(txn, at)?.is_some() {
        return Ok(false);
    }
    create(txn, at, shape)?;
    Ok(true)
}

fn create(txn: &mut Txn<'_>, at: &At<'_>, shape: &Shape) -> Result<(), CommandError> {
    let mut object = Object::<Bloom>::new(at);
    object.tail = Chain::new(shape);
    txn.log(&log::words(Type::Bloom, &[b"createBloomChain"]));
    object.write(txn);
    object.put(txn, FILTERS, &[&0_u16.to_be_bytes()], &[&empty(&object.tail)]);
    Ok(txn.must_fit()?)
}

/// The last filter of a chain, without an item.
fn empty(chain: &Chain) -> Vec<u8> {
    vec![0; usize::try_from(chain.bytes_of_last()).unwrap_or(0)]
}

impl Object<Bloom> {
    fn names(&self) -> Vec<[u8; 2]> {
        (0..self.tail.filters).map(u16::to_be_bytes).collect()
    }

    /// All filters, the first one first.
    fn filters<'r>(&self, read: &'r impl Read) -> Result<Vec<Value<'r>>, CommandError> {
        let names = self.names();
        let names: Vec<&[u8]> = names.iter().map(<[u8; 2]>::as_slice).collect();
        let stored = self.elements_at(read, FILTERS, &names)?;
        let all: Option<Vec<Value<'r>>> = stored.into_iter().collect();
        all.ok_or_else(|| CommandError::corrupt("a filter of a chain is missing"))
    }

    fn put_last(&self, txn: &mut Txn<'_>, filter: &[u8]) {
        let name = self.tail.filters.saturating_sub(1).to_be_bytes();
        self.put(txn, FILTERS, &[&name], &[filter]);
    }
}

/// BF.ADD, BF.MADD and BF.INSERT: what became of each item. `shape` is that of a chain which is
/// made if there is none; `None` if there is none and none is to be made.
///
/// # Errors
/// Wrong type.
pub fn insert(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    items: &[&[u8]],
    shape: Option<&Shape>,
) -> Result<Option<Vec<Inserted>>, CommandError> {
    if find(txn, at)?.is_none() {
        let Some(shape) = shape else { return Ok(None) };
        create(txn, at, shape)?;
    }
    let mut object = find(txn, at)?.ok_or(CommandError::NoSuchKey)?;
    let mut full: Vec<Vec<u8>> =
        object.filters(txn)?.iter().map(|filter| filter.to_vec()).collect();
    let mut last = full.pop().ok_or_else(|| CommandError::corrupt("a chain has no filters"))?;
    let (before, mut outcomes) = (object.size, Vec::with_capacity(items.len()));
    txn.log(&log::words(Type::Bloom, &[b"insert"]));
    for item in items {
        let hash = filter::hash(item);
        if filter::has(&last, hash) || full.iter().any(|filter| filter::has(filter, hash)) {
            outcomes.push(Inserted::There);
            continue;
        }
        if object.size >= object.tail.items_max() {
            let Some(longer) = object.tail.longer() else {
                outcomes.push(Inserted::Full);
                continue;
            };
            object.put_last(txn, &last);
            object.tail = longer;
            object.write(txn);
            txn.must_fit()?;
            full.push(std::mem::replace(&mut last, empty(&object.tail)));
        }
        filter::add(&mut last, hash);
        object.size = object.size.saturating_add(1);
        outcomes.push(Inserted::Added);
    }
    if object.size != before {
        object.write(txn);
        object.put_last(txn, &last);
    }
    Ok(Some(outcomes))
}

/// BF.EXISTS and BF.MEXISTS: which items are there, as far as a Bloom filter can tell.
///
/// # Errors
/// Wrong type.
pub fn has(read: &impl Read, at: &At<'_>, items: &[&[u8]]) -> Result<Vec<bool>, CommandError> {
    let Some(object) = find(read, at)? else { return Ok(vec![false; items.len()]) };
    let (filters, mut there) = (object.filters(read)?, Vec::with_capacity(items.len()));
    for item in items {
        let (hash, mut is_there) = (filter::hash(item), false);
        for filter in &filters {
            budget::step(1)?;
            is_there = filter::has(filter, hash);
            if is_there {
                break;
            }
        }
        there.push(is_there);
    }
    Ok(there)
}

#[cfg(test)]
mod tests;
