//! Random elements of an object: HRANDFIELD, SRANDMEMBER, SPOP, ZRANDMEMBER.
//!
//! Each is as likely as any other where the object is small, or many are wanted: then all are
//! passed over. Of a large object some are taken near random points between its first and its last
//! name, and those behind a large gap in the order of bytes are likelier.

use std::collections::HashSet;

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

/// Bytes of an element beside its name and its value.
const ELEMENT_BYTES: usize = size_of::<Element>();

/// What was picked. An element that comes many times is held once, so that draws of a few large
/// elements take no more memory than these.
#[derive(Debug)]
pub struct Picked {
    elements: Vec<Element>,
    order: Order,
}

/// How elements come out of what is held.
#[derive(Debug)]
enum Order {
    /// Each once.
    Each,
    /// Those at these places.
    Places(Vec<usize>),
    /// So many, any of them each time.
    Any(u64),
}

impl Picked {
    fn none() -> Self {
        Self { elements: Vec::new(), order: Order::Each }
    }

    /// How many come.
    pub fn len(&self) -> usize {
        match &self.order {
            Order::Each => self.elements.len(),
            Order::Places(places) => places.len(),
            Order::Any(_) if self.elements.is_empty() => 0,
            Order::Any(count) => usize::try_from(*count).unwrap_or(usize::MAX),
        }
    }

    /// Whether none comes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first one that is held; it is one that comes.
    pub fn first(&self) -> Option<&Element> {
        self.elements.first()
    }

    /// Those that are held, which are all that come where each comes once; in any order.
    pub fn into_elements(self) -> Vec<Element> {
        self.elements
    }

    /// Calls `visit` with each that comes.
    ///
    /// # Errors
    /// Those of `visit`; the end of a read's budget.
    pub fn each<E: From<Error>>(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut come = |element: &Element| -> Result<(), E> {
            let (name, value) = element;
            budget::step(1)?;
            budget::found(name.len() + value.len());
            visit(name, value)
        };
        match &self.order {
            Order::Each => self.elements.iter().try_for_each(come),
            Order::Places(places) => {
                places.iter().filter_map(|place| self.elements.get(*place)).try_for_each(come)
            }
            Order::Any(count) => {
                for _ in 0..*count {
                    let place = rand::random_range(0..self.elements.len().max(1));
                    let Some(element) = self.elements.get(place) else { break };
                    come(element)?;
                }
                Ok(())
            }
        }
    }
}

/// Random elements; none of an object without any.
///
/// # Errors
/// Those of the engine.
pub fn pick<K: Kind>(
    object: &Object<K>,
    read: &impl Read,
    family: Family,
    wanted: Wanted,
) -> Result<Picked, Error> {
    pick_within(object, read, family, wanted, &budget::gather)
}

/// The same; `gather` is told how many bytes are held each time there are more.
///
/// # Errors
/// Those of the engine; those of `gather`.
pub(super) fn pick_within<K: Kind>(
    object: &Object<K>,
    read: &impl Read,
    family: Family,
    wanted: Wanted,
    gather: &Gather<'_>,
) -> Result<Picked, Error> {
    let all = There { size: object.size, value: &|stored| Ok(Some(stored)), gather };
    pick_there(object, read, family, wanted, &all)
}

/// The value of an element by what is stored for it; `None` if it is none.
type ValueOf<'f> = dyn for<'v> Fn(&'v [u8]) -> Result<Option<&'v [u8]>, Error> + 'f;

/// See [`pick_within`].
pub(super) type Gather<'f> = dyn Fn(usize) -> Result<(), Error> + 'f;

/// Which of the sub-keys are elements.
pub(super) struct There<'f> {
    /// How many.
    pub(super) size: u64,
    /// What tells.
    pub(super) value: &'f ValueOf<'f>,
    /// What bounds how much is held.
    pub(super) gather: &'f Gather<'f>,
}

impl There<'_> {
    /// One more element is held.
    fn hold(&self, (name, value): &Element) -> Result<(), Error> {
        (self.gather)(name.len() + value.len() + ELEMENT_BYTES)
    }
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
) -> Result<Picked, Error> {
    let size = there.size;
    let count = match wanted {
        Wanted::Distinct(count) => count.min(size),
        Wanted::Repeated(count) => count,
    };
    if count == 0 || size == 0 {
        return Ok(Picked::none());
    }
    if size > SMALL && count.saturating_mul(STEPS_OF_A_POINT) < size {
        let elements = near_points(object, read, family, (wanted, count), there)?;
        // Where nearly all names lie close together, too few of them are met.
        if elements.len() as u64 == count {
            return Ok(Picked { elements, order: Order::Each });
        }
    }
    if count >= size {
        let elements = at_ranks(object, read, family, 0..size, there)?;
        let order = match wanted {
            Wanted::Distinct(_) => Order::Each,
            Wanted::Repeated(_) => Order::Any(count),
        };
        return Ok(Picked { elements, order });
    }
    (there.gather)(usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(size_of::<u64>()))?;
    let ranks: Vec<u64> = match wanted {
        Wanted::Distinct(_) => distinct_ranks(size, count),
        Wanted::Repeated(_) => (0..count).map(|_| rand::random_range(0..size)).collect(),
    };
    let mut sorted = ranks.clone();
    sorted.sort_unstable();
    sorted.dedup();
    let elements = at_ranks(object, read, family, sorted.iter().copied(), there)?;
    let places = ranks.iter().filter_map(|rank| sorted.binary_search(rank).ok());
    let places = places.filter(|place| *place < elements.len()).collect();
    Ok(Picked { elements, order: Order::Places(places) })
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

/// The elements of these ranks, which ascend.
fn at_ranks<K: Kind>(
    object: &Object<K>,
    read: &impl Read,
    family: Family,
    ranks: impl Iterator<Item = u64>,
    there: &There<'_>,
) -> Result<Vec<Element>, Error> {
    let mut found = Vec::new();
    let mut elements = object.elements(read, family, &SubRange::all(), Direction::Forward)?;
    let mut rank = 0;
    for next in ranks {
        let element = loop {
            let Some((name, stored)) = elements.next()? else { break None };
            let Some(value) = (there.value)(stored)? else { continue };
            rank += 1;
            if rank > next {
                break Some((name.to_vec(), value.to_vec()));
            }
        };
        let Some(element) = element else { break };
        there.hold(&element)?;
        found.push(element);
    }
    Ok(found)
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
            there.hold(&element)?;
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
    // Both ends were looked up one after the other: what is written meanwhile may have changed
    // their order, and there is no number between a greater and a smaller one.
    let (one, other) = (number(first), number(last));
    let point = rand::random_range(one.min(other)..=one.max(other));
    [first.get(..common).unwrap_or_default(), &point.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::types::bench::{SCOPE, store};
    use crate::types::set;

    /// Draws of a few elements hold each of them once, however many draws there are.
    #[test]
    fn what_is_drawn_many_times_is_held_once() {
        let (_dir, store) = store();
        let names: Vec<Vec<u8>> = (0..5_u8).map(|n| vec![n; 100_000]).collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let at = SCOPE.at(b"s");
        let mut txn = store.txn();
        set::add(&mut txn, &at, &names).unwrap();
        txn.commit().unwrap();
        let set = set::find(&store, &at).unwrap().unwrap();
        let held = Cell::new(0);
        let gather = |bytes: usize| {
            held.set(held.get() + bytes);
            Ok::<_, Error>(())
        };
        let wanted = Wanted::Repeated(20_000);
        let picked = pick_within(&set, &store, set::MEMBERS, wanted, &gather).unwrap();
        assert_eq!(picked.len(), 20_000);
        assert!((500_000..600_000).contains(&held.get()), "{}", held.get());
        let (mut come, mut seen) = (0, HashSet::new());
        let visit = |name: &[u8], _: &[u8]| {
            come += 1;
            seen.insert(name.first().copied());
            Ok::<_, Error>(())
        };
        picked.each(visit).unwrap();
        assert_eq!((come, seen.len()), (20_000, 5));
        // A bound on what is held ends it before all is.
        let refuse = |_: usize| Err::<(), _>(Error::Stopped);
        assert!(pick_within(&set, &store, set::MEMBERS, Wanted::Distinct(5), &refuse).is_err());
    }

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
