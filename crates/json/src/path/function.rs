//! The functions of paths.

use regex::RegexBuilder;

use crate::Error;
use crate::value::{Number, Value};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Abs,
    Avg,
    Ceil,
    Contains,
    EndsWith,
    Floor,
    Keys,
    Length,
    Max,
    Min,
    Prod,
    StartsWith,
    Sum,
    ToNumber,
    Tokenize,
}

/// Why there is no value.
#[derive(Debug)]
pub(super) enum Failed {
    /// A function was told what it cannot take: a filter is not met, a path leads nowhere.
    NoValue,
    /// The walk ends.
    Stopped(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Stopped(error)
    }
}

type Outcome = Result<Value, Failed>;

impl Function {
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"abs" => Self::Abs,
            b"avg" => Self::Avg,
            b"ceil" => Self::Ceil,
            b"contains" => Self::Contains,
            b"ends_with" => Self::EndsWith,
            b"floor" => Self::Floor,
            b"keys" => Self::Keys,
            b"length" | b"count" => Self::Length,
            b"max" => Self::Max,
            b"min" => Self::Min,
            b"prod" => Self::Prod,
            b"starts_with" => Self::StartsWith,
            b"sum" => Self::Sum,
            b"to_number" => Self::ToNumber,
            b"tokenize" => Self::Tokenize,
            _ => return None,
        })
    }

    /// How many arguments it takes.
    pub(super) fn arity(self) -> usize {
        match self {
            Self::Contains | Self::EndsWith | Self::StartsWith | Self::Tokenize => 2,
            _ => 1,
        }
    }

    /// What it says.
    ///
    /// # Errors
    /// [`Failed::NoValue`] to what it cannot take.
    pub(super) fn call(self, arguments: &[&Value]) -> Outcome {
        match arguments {
            [one] => self.of_one(one),
            [one, two] => self.of_two(one, two),
            _ => Err(Failed::NoValue),
        }
    }

    fn of_one(self, value: &Value) -> Outcome {
        match (self, value) {
            (Self::Abs, Value::Number(number)) => Ok(Value::Number(abs(number))),
            (Self::Ceil, Value::Number(number)) => Ok(double(number.double().ceil())),
            (Self::Floor, Value::Number(number)) => Ok(double(number.double().floor())),
            (Self::ToNumber, Value::Number(_)) => Ok(value.clone()),
            (Self::ToNumber, Value::String(text)) => Ok(to_number(text)),
            (Self::Keys, Value::Object(members)) => {
                Ok(Value::Array(members.keys().cloned().map(Value::String).collect()))
            }
            (Self::Length, Value::Array(items)) => Ok(count(items.len())),
            (Self::Length, Value::Object(members)) => Ok(count(members.len())),
            (Self::Length, Value::String(text)) => Ok(count(text.chars().count())),
            (Self::Min | Self::Max, Value::Array(items)) => self.extreme(items),
            (Self::Sum, Value::Array(items)) => Ok(double(numbers(items)?.iter().sum())),
            (Self::Prod, Value::Array(items)) if !items.is_empty() => {
                Ok(double(numbers(items)?.iter().product()))
            }
            (Self::Avg, Value::Array(items)) if items.is_empty() => Ok(Value::Null),
            (Self::Avg, Value::Array(items)) => {
                Ok(double(numbers(items)?.iter().sum::<f64>() / items.len() as f64))
            }
            _ => Err(Failed::NoValue),
        }
    }

    fn of_two(self, one: &Value, two: &Value) -> Outcome {
        let is_so = match (self, one, two) {
            (Self::Contains, Value::Array(items), two) => {
                items.iter().any(|item| item.is_same(two))
            }
            (Self::Contains, Value::String(one), Value::String(two)) => one.contains(&**two),
            (Self::StartsWith, Value::String(one), Value::String(two)) => one.starts_with(&**two),
            (Self::EndsWith, Value::String(one), Value::String(two)) => one.ends_with(&**two),
            (Self::Tokenize, Value::String(one), Value::String(two)) => return tokens(one, two),
            _ => return Err(Failed::NoValue),
        };
        Ok(Value::Bool(is_so))
    }

    /// The first of the smallest or largest, of numbers only or of strings only.
    fn extreme(self, items: &[Value]) -> Outcome {
        let Some((first, rest)) = items.split_first() else { return Ok(Value::Null) };
        if !matches!(first, Value::Number(_) | Value::String(_)) {
            return Err(Failed::NoValue);
        }
        let mut best = first;
        for item in rest {
            let order = item.order(best).ok_or(Failed::NoValue)?;
            let is_better = if self == Self::Min {
                std::cmp::Ordering::is_lt
            } else {
                std::cmp::Ordering::is_gt
            };
            if order.is_some_and(is_better) {
                best = item;
            }
        }
        Ok(best.clone())
    }
}

fn double(value: f64) -> Value {
    Value::Number(Number::Double(value))
}

fn count(value: usize) -> Value {
    Value::Number(Number::Unsigned(value as u64))
}

fn abs(number: &Number) -> Number {
    match number {
        Number::Negative(value) => Number::Unsigned(value.unsigned_abs()),
        Number::Double(value) => Number::Double(value.abs()),
        Number::Big(digits) => Number::Big(digits.trim_start_matches('-').to_owned()),
        Number::Unsigned(_) => number.clone(),
    }
}

fn to_number(text: &str) -> Value {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let whole = text.parse::<i128>().ok().and_then(Number::of_integer);
    let number = whole.or_else(|| text.parse().ok().map(Number::Double));
    number.filter(|_| is_number).map_or(Value::Null, Value::Number)
}

fn numbers(items: &[Value]) -> Result<Vec<f64>, Failed> {
    let number = |item: &Value| match item {
        Value::Number(number) => Ok(number.double()),
        _ => Err(Failed::NoValue),
    };
    items.iter().map(number).collect()
}

fn tokens(text: &str, pattern: &str) -> Outcome {
    const BYTES_MAX: usize = 1 << 20;
    let mut builder = RegexBuilder::new(pattern);
    let regex = builder.size_limit(BYTES_MAX).dfa_size_limit(BYTES_MAX).build();
    let regex = regex.map_err(|_| Failed::NoValue)?;
    Ok(Value::Array(regex.split(text).map(|part| Value::String(part.to_owned())).collect()))
}
