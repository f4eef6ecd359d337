//! JSONPath in jsoncons' dialect, which is Kvrocks': a path begins with `$` or is a function of
//! paths. Names with a dot, in brackets and quoted; indexes and slices, from the end as well; `*`,
//! `..`, `^` (the parent), unions, filters `[?…]`, computed names `[(…)]`, functions.
//!
//! What is peculiar, and kept: operators of one rank group from the right; `length` is a member of
//! arrays and strings that the document does not hold; a function behind a path begins anew at the
//! root; a value that a path makes and the document does not hold can be read, and edits of it are
//! lost.
//!
//! Paths come from clients: they nest at most [`NESTING_MAX`] levels, and what one may visit is
//! bounded ([`crate::Error::TooMuch`]). A regular expression takes linear time: it knows no
//! references to what was found, nor looks around.

mod function;
pub(crate) mod location;
mod parse;
mod select;

use regex::Regex;

use crate::value::Value;
use crate::{Error, Result};
use function::Function;
pub(crate) use select::Key;

/// Brackets, filters and operators within each other, at most.
pub const NESTING_MAX: usize = 200;

/// Bytes of a path, at most.
pub const PATH_BYTES_MAX: usize = 1 << 16;

/// A path, taken apart.
#[derive(Debug, Clone)]
pub struct Path {
    steps: Vec<Step>,
}

/// One step from a value to others.
#[derive(Debug, Clone)]
enum Step {
    Root,
    Name(String),
    Index(i64),
    Every,
    Descend,
    Slice(Slice),
    Union(Vec<Vec<Step>>),
    Filter(Expression),
    Computed(Expression),
    Parent(usize),
    Function(Call),
}

#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    start: Option<i64>,
    stop: Option<i64>,
    step: Option<i64>,
}

#[derive(Debug, Clone)]
struct Call {
    function: Function,
    arguments: Vec<Expression>,
}

/// What is computed about the value at hand.
#[derive(Debug, Clone)]
enum Expression {
    Literal(Value),
    /// The value at hand.
    Current,
    /// The document.
    Root,
    /// What a path leads to from another expression.
    Path(Box<Expression>, Vec<Step>),
    Not(Box<Expression>),
    Minus(Box<Expression>),
    Matches(Box<Expression>, Regex),
    Binary(Operator, Box<Expression>, Box<Expression>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Plus,
    Minus,
    Times,
    Divided,
    Modulo,
}

impl Path {
    /// Takes a text apart.
    ///
    /// # Errors
    /// [`Error::Syntax`], [`Error::TooMuch`].
    pub fn parse(text: &[u8]) -> Result<Self> {
        if text.len() > PATH_BYTES_MAX {
            return Err(Error::TooMuch);
        }
        Ok(Self { steps: parse::path(text)? })
    }

    /// Calls `visit` with every value the path leads to, in its order, each as often as it does.
    ///
    /// # Errors
    /// [`Error::TooMuch`], and those of `visit`.
    pub fn each(
        &self,
        document: &Value,
        mut visit: impl FnMut(&Value) -> Result<()>,
    ) -> Result<()> {
        select::run(&self.steps, document, &mut |_, value, _| visit(value))
    }

    /// Every place the path leads to once, the last one first and what is within another before it.
    ///
    /// # Errors
    /// [`Error::TooMuch`].
    pub(crate) fn places(&self, document: &Value) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        select::run(&self.steps, document, &mut |trail, value, is_held| {
            let keys = trail.keys();
            let made = if is_held { None } else { Some(value.clone()) };
            places.push(Place { keys, made });
            Ok(())
        })?;
        places.sort_by(|one, two| two.keys.cmp(&one.keys));
        places.dedup_by(|one, two| one.keys == two.keys);
        Ok(places)
    }
}

/// Where a path leads to.
#[derive(Debug)]
pub(crate) struct Place {
    /// From the root.
    pub(crate) keys: Vec<Key>,
    /// A value that the document does not hold.
    pub(crate) made: Option<Value>,
}

#[cfg(test)]
mod tests;
