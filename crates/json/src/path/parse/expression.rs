//! A text as an expression: a filter's, a computed name's, a function's argument.

use regex::RegexBuilder;

use super::{Cursor, Expression, Step, call, steps_behind};
use crate::path::Operator;
use crate::read::first_of;
use crate::value::Value;
use crate::{DEPTH_MAX, Result, from_text};

/// Bytes a compiled regular expression may take.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// How strongly operators bind: the smaller, the more.
impl Operator {
    fn rank(self) -> u8 {
        match self {
            Self::Times | Self::Divided | Self::Modulo => 3,
            Self::Plus | Self::Minus => 4,
            Self::Less | Self::AtMost | Self::Greater | Self::AtLeast => 5,
            Self::Equal | Self::Unequal => 6,
            Self::And => 8,
            Self::Or => 9,
        }
    }
}

/// Reads an expression as far as it goes.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Expression> {
    cursor.deeper(|cursor| ranked(cursor, u8::MAX))
}

/// Operands and operators up to a rank. Those of one rank group from the right.
fn ranked(cursor: &mut Cursor<'_>, weakest: u8) -> Result<Expression> {
    let mut left = operand(cursor)?;
    loop {
        cursor.blanks();
        let (operator, length) = match cursor.rest() {
            [b'|', b'|', ..] => (Operator::Or, 2),
            [b'&', b'&', ..] => (Operator::And, 2),
            [b'=', b'=', ..] => (Operator::Equal, 2),
            [b'!', b'=', ..] => (Operator::Unequal, 2),
            [b'<', b'=', ..] => (Operator::AtMost, 2),
            [b'<', ..] => (Operator::Less, 1),
            [b'>', b'=', ..] => (Operator::AtLeast, 2),
            [b'>', ..] => (Operator::Greater, 1),
            [b'+', ..] => (Operator::Plus, 1),
            [b'-', ..] => (Operator::Minus, 1),
            [b'*', ..] => (Operator::Times, 1),
            [b'/', ..] => (Operator::Divided, 1),
            [b'%', ..] => (Operator::Modulo, 1),
            [b'|', ..] => return cursor.wrong("Expected operator '||'"),
            [b'&', ..] => return cursor.wrong("Expected operator '&&'"),
            [b'=' | b'!', ..] => return cursor.wrong("Expected comparator"),
            [b')' | b']' | b',', ..] | [] => return Ok(left),
            _ => return cursor.wrong("Expected dot or left bracket separator"),
        };
        if operator.rank() > weakest {
            return Ok(left);
        }
        cursor.at += length;
        let right = cursor.deeper(|cursor| ranked(cursor, operator.rank()))?;
        left = Expression::Binary(operator, Box::new(left), Box::new(right));
    }
}

/// One operand with what stands before and behind it.
fn operand(cursor: &mut Cursor<'_>) -> Result<Expression> {
    let mut operand = signed(cursor)?;
    loop {
        cursor.blanks();
        let [b'=', b'~', ..] = cursor.rest() else { return Ok(operand) };
        cursor.at += 2;
        operand = matching(cursor, operand)?;
    }
}

fn matching(cursor: &mut Cursor<'_>, operand: Expression) -> Result<Expression> {
    cursor.expect(b'/', "Invalid path filter, expected '/'")?;
    let length = cursor.rest().iter().position(|byte| *byte == b'/');
    let Some(length) = length else { return Err(cursor.error("Syntax error")) };
    let pattern = cursor.utf8(cursor.rest().get(..length).unwrap_or_default().to_vec())?;
    cursor.at += length + 1;
    let mut builder = RegexBuilder::new(&pattern);
    builder.size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX);
    while cursor.peek() == Some(b'i') {
        builder.case_insensitive(true);
        cursor.at += 1;
    }
    let regex = builder.build().map_err(|_| cursor.error("Invalid regular expression"))?;
    Ok(Expression::Matches(Box::new(operand), regex))
}

fn signed(cursor: &mut Cursor<'_>) -> Result<Expression> {
    cursor.blanks();
    match cursor.peek() {
        Some(b'!') => {
            cursor.at += 1;
            Ok(Expression::Not(Box::new(cursor.deeper(signed)?)))
        }
        Some(b'-') => {
            cursor.at += 1;
            Ok(Expression::Minus(Box::new(cursor.deeper(signed)?)))
        }
        _ => with_steps(cursor),
    }
}

/// A value, and the steps from it.
fn with_steps(cursor: &mut Cursor<'_>) -> Result<Expression> {
    let begin = match cursor.peek() {
        Some(b'@') => {
            cursor.at += 1;
            Expression::Current
        }
        Some(b'$') => {
            cursor.at += 1;
            Expression::Root
        }
        Some(b'(') => {
            cursor.at += 1;
            let within = parse(cursor)?;
            cursor.expect(b')', "Expected )")?;
            within
        }
        Some(b'\'' | b'"') => Expression::Literal(Value::String(cursor.quoted()?)),
        Some(b'{' | b'[') => literal(cursor, first_of)?,
        Some(b'0'..=b'9') => number(cursor)?,
        Some(_) => named(cursor)?,
        None => return cursor.wrong("Syntax error"),
    };
    let mut steps = Vec::new();
    steps_behind(cursor, &mut steps)?;
    if steps.is_empty() {
        return Ok(begin);
    }
    // A function forgets where the path began, unlike the steps before it.
    Ok(match steps.first() {
        Some(Step::Function(_)) => Expression::Path(Box::new(Expression::Current), steps),
        _ => Expression::Path(Box::new(begin), steps),
    })
}

fn literal(
    cursor: &mut Cursor<'_>,
    read: impl FnOnce(&[u8], usize) -> Result<(Value, usize)>,
) -> Result<Expression> {
    let (value, length) = read(cursor.rest(), DEPTH_MAX)?;
    cursor.at += length;
    Ok(Expression::Literal(value))
}

fn number(cursor: &mut Cursor<'_>) -> Result<Expression> {
    let is_part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'e' | b'E' | b'.');
    let length = cursor.rest().iter().take_while(is_part).count();
    let text = cursor.rest().get(..length).unwrap_or_default();
    let value = from_text(text, 0).map_err(|_| cursor.error("Invalid number"))?;
    literal(cursor, |_, _| Ok((value, length)))
}

/// `true`, `false`, `null`, or a call.
fn named(cursor: &mut Cursor<'_>) -> Result<Expression> {
    let name = cursor.unquoted();
    cursor.blanks();
    if cursor.peek() == Some(b'(') {
        let call = cursor.deeper(|cursor| call(cursor, &name))?;
        let steps = vec![Step::Function(call)];
        return Ok(Expression::Path(Box::new(Expression::Current), steps));
    }
    Ok(Expression::Literal(match name.as_slice() {
        b"true" => Value::Bool(true),
        b"false" => Value::Bool(false),
        b"null" => Value::Null,
        _ => return cursor.wrong("JSON syntax_error"),
    }))
}
