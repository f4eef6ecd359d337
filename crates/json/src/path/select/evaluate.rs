//! What an expression is, for the value at hand.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::{Step, Trail, Walk, Way, index_in};
use crate::path::function::Failed;
use crate::path::{Call, Expression, Operator};
use crate::value::{Number, Value};

type Found<'v> = Result<Cow<'v, Value>, Failed>;

const NULL: Cow<'static, Value> = Cow::Owned(Value::Null);

fn owned<'v>(value: Value) -> Cow<'v, Value> {
    Cow::Owned(value)
}

impl Walk<'_> {
    /// Evaluates an expression.
    pub(super) fn evaluate<'v>(&'v self, of: &'v Expression, value: &'v Value) -> Found<'v> {
        self.pay(1)?;
        self.within(|| match of {
            Expression::Literal(literal) => Ok(Cow::Borrowed(literal)),
            Expression::Current => Ok(Cow::Borrowed(value)),
            Expression::Root => Ok(Cow::Borrowed(self.document)),
            Expression::Path(from, steps) => {
                let from = self.evaluate(from, value)?;
                self.follow(steps, from)
            }
            Expression::Not(operand) => {
                let operand = self.evaluate(operand, value)?;
                Ok(owned(Value::Bool(!operand.is_true())))
            }
            Expression::Minus(operand) => Ok(owned(negated(&*self.evaluate(operand, value)?))),
            Expression::Matches(operand, regex) => match &*self.evaluate(operand, value)? {
                Value::String(text) => {
                    self.pay(text.len() as u64 / 16)?;
                    Ok(owned(Value::Bool(regex.is_match(text))))
                }
                _ => Ok(NULL),
            },
            Expression::Binary(operator, one, two) => {
                let (one, two) = (self.evaluate(one, value)?, self.evaluate(two, value)?);
                Ok(binary(*operator, one, two))
            }
        })
    }

    /// What a path leads to: one value or `null`, or an array of all if it may lead to several.
    fn follow<'v>(&'v self, steps: &'v [Step], from: Cow<'v, Value>) -> Found<'v> {
        let (mut at, mut steps) = (from, steps);
        while let Some((step, rest)) = steps.split_first() {
            self.pay(1)?;
            let next = match step {
                Step::Root => Some(Cow::Borrowed(self.document)),
                Step::Name(name) => part(at, |value| named(value, name)),
                Step::Index(index) => part(at, |value| indexed(value, *index)),
                Step::Function(call) => Some(owned(self.call(call, &at)?)),
                // There is nothing above the value at hand.
                Step::Parent(_) => None,
                _ => return self.gather(steps, &at),
            };
            match next {
                Some(next) => (at, steps) = (next, rest),
                None => return Ok(NULL),
            }
        }
        Ok(at)
    }

    fn gather<'v>(&self, steps: &[Step], from: &Value) -> Found<'v> {
        let mut found = Vec::new();
        self.select(Way::of(steps), &Trail::ROOT, from, false, &mut |_, value, _| {
            self.pay(weight(value))?;
            found.push(value.clone());
            Ok(())
        })?;
        Ok(owned(Value::Array(found)))
    }

    /// What a function says to its arguments.
    pub(super) fn call(&self, call: &Call, value: &Value) -> Result<Value, Failed> {
        let arguments = call.arguments.iter().map(|argument| self.evaluate(argument, value));
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        for argument in &arguments {
            self.pay(weight(argument))?;
        }
        let arguments: Vec<&Value> = arguments.iter().map(|argument| &**argument).collect();
        call.function.call(&arguments)
    }
}

/// How much work a value is to look at or copy: what it holds, and sixteenths of its texts.
fn weight(value: &Value) -> u64 {
    match value {
        Value::String(text) => 1 + text.len() as u64 / 16,
        Value::Array(items) => 1 + items.iter().map(weight).sum::<u64>(),
        Value::Object(members) => {
            let each = |(name, member): (&String, &Value)| name.len() as u64 / 16 + weight(member);
            1 + members.iter().map(each).sum::<u64>()
        }
        _ => 1,
    }
}

/// A part of a value, whoever owns that.
fn part<'v>(
    of: Cow<'v, Value>,
    find: impl for<'a> FnOnce(&'a Value) -> Option<Cow<'a, Value>>,
) -> Option<Cow<'v, Value>> {
    match of {
        Cow::Borrowed(value) => find(value),
        Cow::Owned(value) => find(&value).map(|part| Cow::Owned(part.into_owned())),
    }
}

fn named<'a>(value: &'a Value, name: &str) -> Option<Cow<'a, Value>> {
    match value {
        Value::Object(members) => members.get(name).map(Cow::Borrowed),
        Value::Array(items) if items.is_empty() => None,
        _ => match index_in(name) {
            Some(index) => indexed(value, index),
            None => value.made_length(name).map(Cow::Owned),
        },
    }
}

fn indexed(value: &Value, index: i64) -> Option<Cow<'_, Value>> {
    value.element(index).map(|(_, item)| Cow::Borrowed(item))
}

fn negated(value: &Value) -> Value {
    match value {
        Value::Number(Number::Double(double)) => Value::Number(Number::Double(-double)),
        Value::Number(number) => {
            let negated = number.integer().map(|integer| -integer);
            negated.and_then(Number::of_integer).map_or(Value::Null, Value::Number)
        }
        _ => Value::Null,
    }
}

fn binary<'v>(operator: Operator, one: Cow<'v, Value>, two: Cow<'v, Value>) -> Cow<'v, Value> {
    let compared = |is_so: fn(Ordering) -> bool| match one.order(&two) {
        Some(order) => owned(Value::Bool(order.is_some_and(is_so))),
        None => NULL,
    };
    match operator {
        Operator::Or if one.is_true() => one,
        Operator::Or => two,
        Operator::And if one.is_true() => two,
        Operator::And => one,
        Operator::Equal => owned(Value::Bool(one.is_same(&two))),
        Operator::Unequal => owned(Value::Bool(!one.is_same(&two))),
        Operator::Less => compared(Ordering::is_lt),
        Operator::AtMost => compared(Ordering::is_le),
        Operator::Greater => compared(Ordering::is_gt),
        Operator::AtLeast => compared(Ordering::is_ge),
        _ => owned(match (&*one, &*two) {
            (Value::Number(one), Value::Number(two)) => arithmetic(operator, one, two),
            _ => Value::Null,
        }),
    }
}

/// With whole numbers as long as they fit, with doubles otherwise. Nothing is divided by zero: the
/// outcome is an infinity or no number.
fn arithmetic(operator: Operator, one: &Number, two: &Number) -> Value {
    let whole = one.integer().zip(two.integer()).and_then(|(one, two)| match operator {
        Operator::Plus => one.checked_add(two),
        Operator::Minus => one.checked_sub(two),
        Operator::Times => one.checked_mul(two),
        Operator::Divided => one.checked_div(two),
        _ => one.checked_rem(two),
    });
    if let Some(number) = whole.and_then(Number::of_integer) {
        return Value::Number(number);
    }
    let (one, two) = (one.double(), two.double());
    Value::Number(Number::Double(match operator {
        Operator::Plus => one + two,
        Operator::Minus => one - two,
        Operator::Times => one * two,
        Operator::Divided => one / two,
        _ => one % two,
    }))
}
