//! Random elements of an object: HRANDFIELD, SRANDMEMBER, SPOP, ZRANDMEMBER.
//!
//! Each is as likely as any other where the object is small, or many are wanted: then all are
//! passed over. Of a large object some are taken near random points between its first and its last
//! name, and those behind a large gap in the order of bytes are likelier.

use std::collections::{BTreeMap, HashSet};

use super::bounds::SubRange;
use super::object::{Kind, Object};
use crate::{Direction, Error, Family, Read, budget};

/// Up to so many elements are all passed over.
const SMALL: u64 = 10_000;
/// Elements near a random point, one of which is taken.
const WINDOW: usize = 32;
/// Passing over so many elements takes as long as looking around one random point.
const STEPS_OF_A_POINT: u64 = 64;

/// How many, and whether one may come twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// So many different ones, or all there are.
    Distinct(u64),
    /// So many draws.
    Repeated(u64),
}

impl Wanted {
    /// A count as commands take it: negative for draws.
    pub fn of(count: i64) -> Self {
        match u64::try_from(count) {
            Ok(count) => Self::Distinct(count),
            Err(_) => Self::Repeated(count.unsigned_abs()),
        }
    }
}

/// A sub-key and its value.
pub type Element = (Vec<u8>, Vec<u8>);

/// Random elements; none of an object without any.
///
/// # Errors
/// Those of the engine.
pub fn pick<K: Kind>(
    object: &Object<K>,
    read: &impl Read,
    family: Family,
    wanted: Wanted,
) -> Result<Vec<Element>, Error> {
    let all = There { size: object.size, value: &|stored| Ok(Some(stored)) };
    pick_there(object, read, family, wanted, &all)
}

/// The value of an element by what is stored for it; `None` if it is none.
type ValueOf<'f> = dyn for<'v> Fn(&'v [u8]) -> Result<Option<&'v [u8]>, Error> + 'f;

/// Which of the sub-keys are elements.
pub(super) struct There<'f> {
    /// How many.
    pub(super) size: u64,
    /// What tells.
    pub(super) value: &'f ValueOf<'f>,
}

/// The same of an object some of whose sub-keys are no elements.
///
/// # Errors
/// Those of the engine.
pub(super) fn pick_there<K: Kind>(
    object: &Object<K>,
    read: &impl Read,
    family: Family,
    wanted: Wanted,
    there: &There<'_>,
) -> Result<Vec<Element>, Error> {
    let size = there.size;
    let count = match wanted {
        Wanted::Distinct(count) => count.min(size),
        Wanted::Repeated(count) => count,
    };
    if count == 0 || size == 0 {
        return Ok(Vec::new());
    }
    if size > SMALL && count.saturating_mul(STEPS_OF_A_POINT) < size {
        let picked = near_points(object, read, family, (wanted, count), there)?;
        // Where nearly all names lie close together, too few of them are met.
        if picked.len() as u64 == count {
            return Ok(picked);
        }
    }
    let ranks: Vec<u64> = match wanted {
        Wanted::Distinct(_) if count == size => (0..size).collect(),
        Wanted::Distinct(_) => distinct_ranks(size, count),
        Wanted::Repeated(_) => (0..count).map(|_| rand::random_range(0..size)).collect(),
    };
    at_ranks(object, read, family, &ranks, there)
}

/// Floyd's way of drawing without repetition.
fn distinct_ranks(size: u64, count: u64) -> Vec<u64> {
    let (mut seen, mut ranks) = (HashSet::new(), Vec::new());
    for last in size - count..size {
        let drawn = rand::random_range(0..=last);
        let rank = if seen.insert(drawn) { drawn } else { last };
        seen.insert(rank);
        ranks.push(rank);
    }
    ranks
}

/// The elements of these ranks, in their order.
fn at_ranks<K: Kind>(
    object: &Object<K>,
    read: &impl Read,
    family: Family,
    ranks: &[u64],
    there: &There<'_>,
) -> Result<Vec<Element>, Error> {
    let mut wanted: Vec<u64> = ranks.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let mut found = BTreeMap::new();
    let mut elements = object.elements(read, family, &SubRange::all(), Direction::Forward)?;
    let mut rank = 0;
    for next in wanted {
        let element = loop {
            let Some((name, stored)) = elements.next()? else { break None };
            let Some(value) = (there.value)(stored)? else { continue };
            rank += 1;
            if rank > next {
                break Some((name.to_vec(), value.to_vec()));
            }
        };
        let Some(element) = element else { break };
        budget::gather(element.0.len() + element.1.len())?;
        found.insert(next, element);
    }
    Ok(ranks.iter().filter_map(|rank| found.get(rank).cloned()).collect())
}

fn near_points<K: Kind>(
    object: &Object<K>,
    read: &impl Read,
    family: Family,
    (wanted, count): (Wanted, u64),
    there: &There<'_>,
) -> Result<Vec<Element>, Error> {
    let end = |direction| -> Result<Option<Vec<u8>>, Error> {
        let mut elements = object.elements(read, family, &SubRange::all(), direction)?;
        Ok(elements.next()?.map(|(name, _)| name.to_vec()))
    };
    let ends = end(Direction::Forward)?.zip(end(Direction::Reverse)?);
    let Some((first, last)) = ends else { return Ok(Vec::new()) };
    let (mut taken, mut picked) = (HashSet::new(), Vec::new());
    // A point behind the last name finds nothing, and one may find what was taken before.
    let mut tries = count.saturating_mul(16);
    while (picked.len() as u64) < count && tries > 0 {
        tries -= 1;
        let range = SubRange::from(&random_between(&first, &last));
        let mut elements = object.elements(read, family, &range, Direction::Forward)?;
        let mut window = Vec::with_capacity(WINDOW);
        // A window in which none is an element finds nothing, as one behind the last name.
        for _ in 0..WINDOW {
            let Some((name, stored)) = elements.next()? else { break };
            let value = (there.value)(stored)?;
            window.extend(value.map(|value| (name.to_vec(), value.to_vec())));
        }
        if window.is_empty() {
            continue;
        }
        let element = window.swap_remove(rand::random_range(0..window.len()));
        if wanted == Wanted::Repeated(count) || taken.insert(element.0.clone()) {
            picked.push(element);
        }
    }
    Ok(picked)
}

/// A random name from the first one to the last one.
pub(super) fn random_between(first: &[u8], last: &[u8]) -> Vec<u8> {
    let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    // Eight bytes behind the common beginning are spread evenly enough.
    let number = |name: &[u8]| {
        let mut bytes = [0; 8];
        for (byte, of_name) in bytes.iter_mut().zip(name.iter().skip(common)) {
            *byte = *of_name;
        }
        u64::from_be_bytes(bytes)
    };
    // Both ends were looked up one after the other: what is written meanwhile may have changed their
    // order, and there is no number between a greater and a smaller one.
    let (one, other) = (number(first), number(last));
    let point = rand::random_range(one.min(other)..=one.max(other));
    [first.get(..common).unwrap_or_default(), &point.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_drawn_between_two_in_any_order() {
        for (one, other) in [(&b"a"[..], &b"b"[..]), (b"b", b"a"), (b"key", b"key"), (b"", b"x")] {
            for _ in 0..50 {
                let drawn = random_between(one, other);
                let (least, most) = (one.min(other), one.max(other));
                assert!(drawn[..] >= *least, "{drawn:?}");
                assert!(drawn.get(..most.len()) <= Some(most), "{drawn:?}");
            }
        }
    }
}
