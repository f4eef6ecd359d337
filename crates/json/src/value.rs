//! A document in memory.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::{Error, Result};

/// The members of an object, sorted by the bytes of their names.
pub type Object = BTreeMap<String, Value>;

/// A document, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// Any number.
    Number(Number),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object.
    Object(Object),
}

/// A number keeps how it was written: with a point or an exponent it is a double.
#[derive(Debug, Clone, PartialEq)]
pub enum Number {
    /// A whole number that is not negative.
    Unsigned(u64),
    /// A whole number below zero.
    Negative(i64),
    /// A double; one that is infinite is written as `null`.
    Double(f64),
    /// The digits of a whole number beyond 64 bits, with its sign.
    Big(String),
}

/// What TYPE tells of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `boolean`.
    Boolean,
    /// `integer`.
    Integer,
    /// `number`.
    Number,
    /// `string`.
    String,
    /// `array`.
    Array,
    /// `object`.
    Object,
}

impl Kind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

impl Number {
    /// A whole number.
    pub fn whole(value: i64) -> Self {
        u64::try_from(value).map_or(Self::Negative(value), Self::Unsigned)
    }

    /// The nearest double.
    pub fn double(&self) -> f64 {
        match self {
            Self::Unsigned(value) => *value as f64,
            Self::Negative(value) => *value as f64,
            Self::Double(value) => *value,
            Self::Big(digits) => digits.parse().unwrap_or(f64::NAN),
        }
    }

    /// The whole number, if it is one of 64 bits.
    pub fn integer(&self) -> Option<i128> {
        match self {
            Self::Unsigned(value) => Some(i128::from(*value)),
            Self::Negative(value) => Some(i128::from(*value)),
            Self::Double(_) | Self::Big(_) => None,
        }
    }

    /// The whole number of 64 bits with this value.
    pub(crate) fn of_integer(value: i128) -> Option<Self> {
        let unsigned = u64::try_from(value).map(Self::Unsigned);
        unsigned.or_else(|_| i64::try_from(value).map(Self::Negative)).ok()
    }

    /// The outcome of arithmetic with doubles: whole, if it is and fits.
    ///
    /// # Errors
    /// [`Error::Infinite`].
    pub(crate) fn of_double(value: f64) -> Result<Self> {
        /// 2^63, the first double beyond.
        const BEYOND: f64 = 9_223_372_036_854_775_808.0;
        if !value.is_finite() {
            return Err(Error::Infinite);
        }
        let is_whole = value.fract() == 0.0 && -BEYOND < value && value < BEYOND;
        Ok(if is_whole { Self::whole(value as i64) } else { Self::Double(value) })
    }

    /// By their values, whatever their forms; numbers that are none are equal to nothing.
    pub(crate) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self.integer(), other.integer()) {
            (Some(one), Some(two)) => Some(one.cmp(&two)),
            _ => self.double().partial_cmp(&other.double()),
        }
    }
}

impl Value {
    /// What TYPE tells of it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Boolean,
            Self::Number(Number::Double(_)) => Kind::Number,
            Self::Number(_) => Kind::Integer,
            Self::String(_) => Kind::String,
            Self::Array(_) => Kind::Array,
            Self::Object(_) => Kind::Object,
        }
    }

    /// How many arrays and objects are within each other.
    ///
    /// # Errors
    /// [`Error::TooDeep`] beyond `depth_max`, without looking further.
    pub fn depth(&self, depth_max: usize) -> Result<usize> {
        let left = depth_max.checked_sub(1).ok_or(Error::TooDeep);
        let deepest = |deepest: usize, part: &Self| Ok(deepest.max(1 + part.depth(left.clone()?)?));
        match self {
            Self::Array(items) => left.clone().and(items.iter().try_fold(1, deepest)),
            Self::Object(members) => left.clone().and(members.values().try_fold(1, deepest)),
            _ => Ok(0),
        }
    }

    /// Whether both are the same document: numbers count by their values.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(one), Self::Number(two)) => one.order(two) == Some(Ordering::Equal),
            (Self::Array(one), Self::Array(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.is_same(two))
            }
            (Self::Object(one), Self::Object(two)) => {
                let is_pair =
                    |((name, one), (other, two)): ((&String, &Self), (&String, &Self))| {
                        name == other && one.is_same(two)
                    };
                one.len() == two.len() && one.iter().zip(two).all(is_pair)
            }
            _ => self == other,
        }
    }

    /// How two numbers or two strings compare; `None` for other pairs.
    #[expect(clippy::option_option, reason = "a number that is none compares with nothing")]
    pub(crate) fn order(&self, other: &Self) -> Option<Option<Ordering>> {
        match (self, other) {
            (Self::Number(one), Self::Number(two)) => Some(one.order(two)),
            (Self::String(one), Self::String(two)) => Some(Some(one.cmp(two))),
            _ => None,
        }
    }

    /// Whether a filter takes it for true: what is empty, `false` and `null` are not.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(_) => true,
            Self::String(text) => !text.is_empty(),
            Self::Array(items) => !items.is_empty(),
            Self::Object(members) => !members.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(levels: usize) -> Value {
        (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
    }

    #[test]
    fn depth_is_counted_to_a_limit() {
        assert_eq!(Value::Null.depth(0), Ok(0));
        assert_eq!(array(3).depth(3), Ok(3));
        assert_eq!(array(4).depth(3), Err(Error::TooDeep));
    }

    #[test]
    fn numbers_are_the_same_by_their_values() {
        let number = |number| Value::Number(number);
        let one = number(Number::Unsigned(1));
        assert!(one.is_same(&number(Number::Double(1.0))));
        assert!(!one.is_same(&Value::Bool(true)));
        assert!(!number(Number::Double(f64::NAN)).is_same(&number(Number::Double(f64::NAN))));
        // They are told apart where doubles are not.
        let large = number(Number::Unsigned((1 << 53) + 1));
        assert!(!large.is_same(&number(Number::Unsigned(1 << 53))));
    }

    #[test]
    fn sums_are_whole_where_they_can_be() {
        assert_eq!(Number::of_double(3.0), Ok(Number::Unsigned(3)));
        assert_eq!(Number::of_double(-3.0), Ok(Number::Negative(-3)));
        assert_eq!(Number::of_double(0.5), Ok(Number::Double(0.5)));
        assert_eq!(Number::of_double(1e19), Ok(Number::Double(1e19)));
        assert_eq!(Number::of_double(f64::INFINITY), Err(Error::Infinite));
        assert_eq!(Number::of_double(f64::NAN), Err(Error::Infinite));
    }
}
