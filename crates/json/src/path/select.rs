//! What a path leads to in a document.

mod evaluate;

use std::cell::Cell;

use super::function::Failed;
use super::{Slice, Step};
use crate::value::{Number, Value};
use crate::{Error, Result};

/// Values a path may look at, and steps of the places it tells of.
const WORK_MAX: u64 = 10_000_000;
/// Calls within each other: some more than a document is deep.
const CALLS_MAX: u32 = 2_500;

/// A step from a value into it. Elements come before members, as in jsoncons' order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// An element.
    Index(usize),
    /// A member.
    Name(Box<str>),
}

/// How a value was reached: a list from the value back to the root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trail<'t> {
    before: Option<&'t Trail<'t>>,
    last: Part<'t>,
    length: u64,
}

#[derive(Debug, Clone, Copy)]
enum Part<'t> {
    Root,
    Index(usize),
    Name(&'t str),
}

impl<'t> Trail<'t> {
    pub(super) const ROOT: Self = Trail { before: None, last: Part::Root, length: 0 };

    fn index(&'t self, index: usize) -> Self {
        Trail { before: Some(self), last: Part::Index(index), length: self.length + 1 }
    }

    fn name(&'t self, name: &'t str) -> Self {
        Trail { before: Some(self), last: Part::Name(name), length: self.length + 1 }
    }

    /// From the root.
    pub(super) fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        let mut part = Some(self);
        while let Some(trail) = part {
            match trail.last {
                Part::Root => {}
                Part::Index(index) => keys.push(Key::Index(index)),
                Part::Name(name) => keys.push(Key::Name(name.into())),
            }
            part = trail.before;
        }
        keys.reverse();
        keys
    }
}

/// Takes a value: how it was reached, it, and whether the document holds it.
pub(super) type Visit<'v> = dyn FnMut(&Trail<'_>, &Value, bool) -> Result<()> + 'v;

/// What is left to go: these steps, and then those behind a union they are in.
#[derive(Clone, Copy)]
pub(super) struct Way<'w> {
    steps: &'w [Step],
    then: Option<&'w Way<'w>>,
}

impl<'w> Way<'w> {
    pub(super) fn of(steps: &'w [Step]) -> Self {
        Self { steps, then: None }
    }
}

/// A walk through one document.
pub(super) struct Walk<'d> {
    pub(super) document: &'d Value,
    work: Cell<u64>,
    calls: Cell<u32>,
}

/// Goes all ways from the root.
pub(super) fn run(steps: &[Step], document: &Value, visit: &mut Visit<'_>) -> Result<()> {
    let walk = Walk { document, work: Cell::new(WORK_MAX), calls: Cell::new(CALLS_MAX) };
    walk.select(Way::of(steps), &Trail::ROOT, document, true, visit)
}

impl Walk<'_> {
    /// Takes note of work.
    pub(super) fn pay(&self, work: u64) -> Result<()> {
        let left = self.work.get().checked_sub(work).ok_or(Error::TooMuch)?;
        self.work.set(left);
        Ok(())
    }

    /// Calls something within what is being called.
    pub(super) fn within<T, E: From<Error>>(
        &self,
        call: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let left = self.calls.get().checked_sub(1).ok_or(Error::TooMuch)?;
        self.calls.set(left);
        let outcome = call();
        self.calls.set(left + 1);
        outcome
    }

    /// Goes all ways from a value.
    pub(super) fn select(
        &self,
        way: Way<'_>,
        trail: &Trail<'_>,
        value: &Value,
        is_held: bool,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        self.pay(1)?;
        self.within(|| {
            let Some((step, steps)) = way.steps.split_first() else {
                return match way.then {
                    Some(then) => self.select(*then, trail, value, is_held, visit),
                    None => {
                        self.pay(trail.length)?;
                        visit(trail, value, is_held)
                    }
                };
            };
            let rest = Way { steps, then: way.then };
            self.step(step, rest, trail, value, is_held, visit)
        })
    }

    fn step(
        &self,
        step: &Step,
        rest: Way<'_>,
        trail: &Trail<'_>,
        value: &Value,
        is_held: bool,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        match step {
            Step::Root => self.select(rest, &Trail::ROOT, self.document, true, visit),
            Step::Name(name) => self.name(name, rest, trail, value, is_held, visit),
            Step::Index(index) => match (value, value.element(*index)) {
                (Value::Array(_), Some((place, item))) => {
                    self.select(rest, &trail.index(place), item, is_held, visit)
                }
                _ => Ok(()),
            },
            Step::Every => self.children(trail, value, &mut |trail, child| {
                self.select(rest, trail, child, is_held, visit)
            }),
            Step::Descend => self.descend(rest, trail, value, is_held, visit),
            Step::Slice(slice) => {
                let Value::Array(items) = value else { return Ok(()) };
                slice.places(items.len()).try_for_each(|place| match items.get(place) {
                    Some(item) => self.select(rest, &trail.index(place), item, is_held, visit),
                    None => Ok(()),
                })
            }
            Step::Union(alternatives) => alternatives.iter().try_for_each(|steps| {
                let way = Way { steps, then: Some(&rest) };
                self.select(way, trail, value, is_held, visit)
            }),
            Step::Filter(filter) => self.children(trail, value, &mut |trail, child| match self
                .evaluate(filter, child)
            {
                Ok(found) if found.is_true() => self.select(rest, trail, child, is_held, visit),
                Ok(_) | Err(Failed::NoValue) => Ok(()),
                Err(Failed::Stopped(error)) => Err(error),
            }),
            Step::Computed(computed) => match self.evaluate(computed, value) {
                Ok(found) => self.at(&found, rest, trail, value, is_held, visit),
                Err(Failed::NoValue) => Ok(()),
                Err(Failed::Stopped(error)) => Err(error),
            },
            Step::Parent(levels) => self.parent(*levels, rest, trail, visit),
            Step::Function(call) => match self.call(call, value) {
                Ok(made) => self.select(rest, trail, &made, false, visit),
                Err(Failed::NoValue) => Ok(()),
                Err(Failed::Stopped(error)) => Err(error),
            },
        }
    }

    fn name(
        &self,
        name: &str,
        rest: Way<'_>,
        trail: &Trail<'_>,
        value: &Value,
        is_held: bool,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let index = index_in(name);
        if let Value::Object(members) = value {
            return match members.get(name) {
                Some(member) => self.select(rest, &trail.name(name), member, is_held, visit),
                None => Ok(()),
            };
        }
        if let Some((place, item)) = index.and_then(|index| value.element(index)) {
            return self.select(rest, &trail.index(place), item, is_held, visit);
        }
        match value.made_length(name) {
            Some(length) => self.select(rest, &trail.name(name), &length, false, visit),
            None => Ok(()),
        }
    }

    /// What a computed name or index leads to.
    fn at(
        &self,
        key: &Value,
        rest: Way<'_>,
        trail: &Trail<'_>,
        value: &Value,
        is_held: bool,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        match (key, value) {
            (Value::Number(Number::Unsigned(index)), Value::Array(items)) => {
                let place = usize::try_from(*index).unwrap_or(usize::MAX);
                match items.get(place) {
                    Some(item) => self.select(rest, &trail.index(place), item, is_held, visit),
                    None => Ok(()),
                }
            }
            (Value::String(name), Value::Object(members)) => match members.get(name) {
                Some(member) => self.select(rest, &trail.name(name), member, is_held, visit),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn children(
        &self,
        trail: &Trail<'_>,
        value: &Value,
        each: &mut dyn FnMut(&Trail<'_>, &Value) -> Result<()>,
    ) -> Result<()> {
        match value {
            Value::Array(items) => {
                let mut items = items.iter().enumerate();
                items.try_for_each(|(place, item)| {
                    self.pay(1)?;
                    each(&trail.index(place), item)
                })
            }
            Value::Object(members) => members.iter().try_for_each(|(name, member)| {
                self.pay(1)?;
                each(&trail.name(name), member)
            }),
            _ => Ok(()),
        }
    }

    /// The value itself, then what is within it, if it is a container.
    fn descend(
        &self,
        rest: Way<'_>,
        trail: &Trail<'_>,
        value: &Value,
        is_held: bool,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        if !matches!(value, Value::Array(_) | Value::Object(_)) {
            return Ok(());
        }
        self.within(|| {
            self.select(rest, trail, value, is_held, visit)?;
            self.children(trail, value, &mut |trail, child| {
                self.descend(rest, trail, child, is_held, visit)
            })
        })
    }

    fn parent(
        &self,
        levels: usize,
        rest: Way<'_>,
        trail: &Trail<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let mut above = Some(trail);
        for _ in 0..levels {
            above = above.and_then(|trail| trail.before);
        }
        let Some(above) = above else { return Ok(()) };
        self.pay(above.length)?;
        match self.document.at(&above.keys()) {
            Some(value) => self.select(rest, above, value, true, visit),
            None => Ok(()),
        }
    }
}

/// A name that is a number leads into an array.
pub(super) fn index_in(name: &str) -> Option<i64> {
    let digits = name.strip_prefix('-').unwrap_or(name);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok()).flatten()
}

impl Value {
    /// An element by its index, from the end if that is negative.
    pub(super) fn element(&self, index: i64) -> Option<(usize, &Self)> {
        let Self::Array(items) = self else { return None };
        let place = match usize::try_from(index) {
            Ok(place) => place,
            Err(_) => items.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?,
        };
        Some((place, items.get(place)?))
    }

    /// The `length` that arrays and strings have without holding it.
    pub(super) fn made_length(&self, name: &str) -> Option<Self> {
        let length = match self {
            Self::Array(items) if name == "length" => items.len(),
            Self::String(text) if name == "length" => text.chars().count(),
            _ => return None,
        };
        Some(Self::Number(Number::Unsigned(length as u64)))
    }

    /// What is at a place.
    pub(crate) fn at(&self, keys: &[Key]) -> Option<&Self> {
        keys.iter().try_fold(self, |value, key| match (value, key) {
            (Self::Array(items), Key::Index(index)) => items.get(*index),
            (Self::Object(members), Key::Name(name)) => members.get(&**name),
            _ => None,
        })
    }

    /// What is at a place, to be changed.
    pub(crate) fn at_mut(&mut self, keys: &[Key]) -> Option<&mut Self> {
        keys.iter().try_fold(self, |value, key| match (value, key) {
            (Self::Array(items), Key::Index(index)) => items.get_mut(*index),
            (Self::Object(members), Key::Name(name)) => members.get_mut(&**name),
            _ => None,
        })
    }
}

impl Slice {
    /// The places it names in an array of this length.
    fn places(self, length: usize) -> impl Iterator<Item = usize> {
        let length = i128::try_from(length).unwrap_or(i128::MAX);
        let step = i128::from(self.step.unwrap_or(1));
        let from_end = |index: i64| {
            let index = i128::from(index);
            (if index < 0 { index + length } else { index }).min(length)
        };
        let (start, stop) = if step > 0 {
            (self.start.map_or(0, from_end).max(0), self.stop.map_or(length, from_end))
        } else {
            let start = self.start.map_or(length, from_end).min(length - 1);
            (start, self.stop.map_or(-1, from_end).max(-1))
        };
        let mut next = start;
        std::iter::from_fn(move || {
            let place = next;
            let is_within = if step > 0 { place < stop } else { place > stop };
            next += step;
            is_within.then(|| usize::try_from(place).unwrap_or(usize::MAX))
        })
    }
}
