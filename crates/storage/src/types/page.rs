//! Walking step by step: what SCAN, HSCAN, SSCAN and ZSCAN have in common.
//!
//! A page ends with the name that was looked at last, and the next one begins behind it. So what is
//! there during the whole walk is met exactly once, whatever is written meanwhile.

use super::bounds::SubRange;
use super::glob;
use super::object::{Kind, Object};
use crate::{Direction, Error, Family, Read, budget};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// [`Page::next`] of the page before; empty at the start.
    pub position: &'a [u8],
    /// COUNT: how many names are looked at.
    pub count: usize,
    /// MATCH.
    pub pattern: Option<&'a [u8]>,
}

impl Request<'_> {
    /// Names that are left.
    pub fn range(&self) -> SubRange {
        let range = match self.pattern {
            Some(pattern) => SubRange::starting_with(glob::literal_prefix(pattern)),
            None => SubRange::all(),
        };
        if self.position.is_empty() { range } else { range.continued_after(self.position) }
    }

    /// Whether a name is wanted.
    pub fn matches(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::selects(pattern, name))
    }
}

/// A page of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What was found.
    pub items: Vec<T>,
    /// Position of the next page; `None` at the end.
    pub next: Option<Vec<u8>>,
}

/// A page that is being filled.
pub(super) struct Filling<T> {
    page: Page<T>,
    looked_at: usize,
    count: usize,
}

impl<T> Filling<T> {
    pub(super) fn new(count: usize) -> Self {
        let page = Page { items: Vec::new(), next: None };
        Self { page, looked_at: 0, count: count.max(1) }
    }

    /// A name was looked at. Returns whether there is room for another one.
    pub(super) fn pass(&mut self, position: &[u8], item: Option<T>) -> bool {
        self.page.items.extend(item);
        self.looked_at += 1;
        // The empty name has the position that means "start", so a page never ends with it.
        let is_full = self.looked_at >= self.count && !position.is_empty();
        if is_full {
            self.page.next = Some(position.to_vec());
        }
        !is_full
    }

    pub(super) fn done(self) -> Page<T> {
        self.page
    }
}

/// A page of an object's sub-keys: of each that is wanted what `item` makes of it and its value.
///
/// # Errors
/// Those of the engine.
pub fn page<K: Kind, T>(
    object: &Object<K>,
    read: &impl Read,
    family: Family,
    request: &Request<'_>,
    mut item: impl FnMut(&[u8], &[u8]) -> Option<T>,
) -> Result<Page<T>, Error> {
    let mut filling = Filling::new(request.count);
    let mut elements = object.elements(read, family, &request.range(), Direction::Forward)?;
    while let Some((name, value)) = elements.next()? {
        let item = if request.matches(name) { item(name, value) } else { None };
        if item.is_some() {
            budget::gather(name.len() + value.len())?;
        }
        if !filling.pass(name, item) {
            break;
        }
    }
    Ok(filling.done())
}
