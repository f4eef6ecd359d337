//! A text as a path.

mod expression;

use super::function::Function;
use super::{Call, Expression, NESTING_MAX, Slice, Step};
use crate::{Error, Result};

/// Takes a whole text for a path.
pub(super) fn path(text: &[u8]) -> Result<Vec<Step>> {
    let mut cursor = Cursor::new(text);
    cursor.blanks();
    let mut steps = Vec::new();
    match cursor.peek() {
        Some(b'$' | b'@') => cursor.at += 1,
        None => return Err(cursor.error("Syntax error")),
        Some(_) => {
            let name = cursor.unquoted();
            cursor.blanks();
            if cursor.peek() != Some(b'(') {
                return Err(cursor.error("Expected '$' or function expression"));
            }
            steps.push(Step::Function(call(&mut cursor, &name)?));
        }
    }
    steps_behind(&mut cursor, &mut steps)?;
    match cursor.peek() {
        None => Ok(steps),
        Some(_) => Err(cursor.error("Syntax error")),
    }
}

/// The text, and how far it has been read.
pub(super) struct Cursor<'t> {
    text: &'t [u8],
    pub(super) at: usize,
    line: usize,
    /// Where the line begins.
    begin: usize,
    nesting: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0, line: 1, begin: 0, nesting: 0 }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn rest(&self) -> &'t [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn error(&self, what: &'static str) -> Error {
        let column = self.at.saturating_sub(self.begin) + 1;
        Error::Syntax { what, line: self.line, column }
    }

    /// An error at the next byte, or that there is none.
    pub(super) fn wrong<T>(&self, what: &'static str) -> Result<T> {
        Err(self.error(if self.peek().is_none() { "Syntax error" } else { what }))
    }

    pub(super) fn blanks(&mut self) {
        loop {
            match self.rest() {
                [b' ' | b'\t', ..] => self.at += 1,
                [b'\r', b'\n', ..] => self.new_line(2),
                [b'\r' | b'\n', ..] => self.new_line(1),
                _ => break,
            }
        }
    }

    fn new_line(&mut self, bytes: usize) {
        self.at += bytes;
        self.line += 1;
        self.begin = self.at;
    }

    /// Takes a byte that must be there.
    pub(super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<()> {
        self.blanks();
        if self.peek() != Some(byte) {
            return self.wrong(what);
        }
        self.at += 1;
        Ok(())
    }

    /// Does something one level deeper.
    pub(super) fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.nesting >= NESTING_MAX {
            return Err(Error::TooMuch);
        }
        self.nesting += 1;
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }

    /// A name without quotes; empty if there is none.
    pub(super) fn unquoted(&mut self) -> Vec<u8> {
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_' || **byte > 127;
        let name: Vec<u8> = self.rest().iter().take_while(is_part).copied().collect();
        self.at += name.len();
        name
    }

    /// A name in quotes, which are ahead.
    pub(super) fn quoted(&mut self) -> Result<String> {
        let quote = self.peek();
        self.at += 1;
        let mut name = Vec::new();
        loop {
            let Some(byte) = self.peek() else { return Err(self.error("Syntax error")) };
            match byte {
                b'\\' => {
                    let mut buffer = [0; 4];
                    name.extend_from_slice(self.escape()?.encode_utf8(&mut buffer).as_bytes());
                    continue;
                }
                byte if Some(byte) == quote => {
                    self.at += 1;
                    return self.utf8(name);
                }
                byte => name.push(byte),
            }
            self.at += 1;
        }
    }

    pub(super) fn utf8(&self, bytes: Vec<u8>) -> Result<String> {
        String::from_utf8(bytes).map_err(|_| self.error("Invalid codepoint"))
    }

    fn escape(&mut self) -> Result<char> {
        self.at += 1;
        let c = match self.peek() {
            Some(c @ (b'"' | b'\'' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.codepoint(),
            _ => return self.wrong("Illegal escaped character"),
        };
        self.at += 1;
        Ok(c)
    }

    /// What stands behind a backslash, from its `u` on.
    fn codepoint(&mut self) -> Result<char> {
        let unit = |digits: &[u8]| crate::read::hex4(digits);
        let wrong = self.error("Invalid codepoint");
        let rest = self.rest().get(1..).unwrap_or_default();
        let Some(first) = unit(rest) else { return Err(wrong) };
        if let Some(c) = char::from_u32(first) {
            self.at += 5;
            return Ok(c);
        }
        let second = rest.get(4..).and_then(|rest| rest.strip_prefix(b"\\u")).and_then(unit);
        let pair = second.filter(|_| first < 0xdc00).and_then(|second| {
            let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
            char::from_u32(0x10000 + ((first - 0xd800) << 10) + low)
        });
        self.at += 11;
        pair.ok_or(wrong)
    }

    /// A number of an index; `None` if there is no digit.
    fn index(&mut self) -> Result<Option<i64>> {
        let sign = usize::from(self.peek() == Some(b'-'));
        let digits = self.rest().iter().skip(sign).take_while(|byte| byte.is_ascii_digit());
        let length = sign + digits.count();
        let text = self.rest().get(..length).unwrap_or_default();
        let text = std::str::from_utf8(text).unwrap_or_default();
        if text.is_empty() {
            return Ok(None);
        }
        let number = text.parse().map_err(|_| self.error("Invalid number"))?;
        self.at += length;
        Ok(Some(number))
    }
}

/// The steps that follow, as far as they go.
pub(super) fn steps_behind(cursor: &mut Cursor<'_>, steps: &mut Vec<Step>) -> Result<()> {
    loop {
        cursor.blanks();
        match cursor.peek() {
            Some(b'.') => {
                cursor.at += 1;
                dotted(cursor, steps)?;
            }
            Some(b'[') => {
                cursor.at += 1;
                let step = cursor.deeper(bracketed)?;
                steps.push(step);
            }
            Some(b'^') => {
                let mut levels = 0;
                while cursor.peek() == Some(b'^') {
                    (levels, cursor.at) = (levels + 1, cursor.at + 1);
                    cursor.blanks();
                }
                steps.push(Step::Parent(levels));
            }
            _ => return Ok(()),
        }
    }
}

/// What stands behind a dot.
fn dotted(cursor: &mut Cursor<'_>, steps: &mut Vec<Step>) -> Result<()> {
    let is_descent = cursor.peek() == Some(b'.');
    if is_descent {
        cursor.at += 1;
        steps.push(Step::Descend);
        cursor.blanks();
        if cursor.peek() == Some(b'[') {
            return Ok(());
        }
    }
    cursor.blanks();
    match cursor.peek() {
        Some(b'*') => {
            cursor.at += 1;
            steps.push(Step::Every);
        }
        Some(b'\'' | b'"') => steps.push(Step::Name(cursor.quoted()?)),
        Some(b'[' | b'.') => {
            return cursor.wrong(
                "Expected unquoted string, or single or double quoted string, or index or '*'",
            );
        }
        _ => {
            let name = cursor.unquoted();
            cursor.blanks();
            if cursor.peek() == Some(b'(') {
                // It stands alone: what it is told is all it knows.
                steps.clear();
                steps.push(Step::Function(call(cursor, &name)?));
            } else if !name.is_empty() || cursor.peek().is_some() {
                let name = cursor.utf8(name)?;
                steps.push(Step::Name(name));
            } else if !is_descent {
                return cursor.wrong("Syntax error");
            }
        }
    }
    Ok(())
}

const BRACKET: &str = "Expected index, single or double quoted name, expression, filter, absolute ('$') path or relative ('@') path";

/// What stands in brackets, and the closing one.
fn bracketed(cursor: &mut Cursor<'_>) -> Result<Step> {
    let mut alternatives = Vec::new();
    loop {
        let mut steps = vec![element(cursor)?];
        steps_behind(cursor, &mut steps)?;
        alternatives.push(steps);
        cursor.blanks();
        match cursor.peek() {
            Some(b',') => cursor.at += 1,
            Some(b']') => {
                cursor.at += 1;
                break;
            }
            _ => return cursor.wrong("Expected ]"),
        }
    }
    let is_simple = matches!(
        alternatives.as_slice(),
        [one] if matches!(one.as_slice(), [Step::Name(_) | Step::Index(_) | Step::Every])
    );
    match alternatives.pop() {
        Some(mut only) if is_simple => only.pop().ok_or_else(|| cursor.error(BRACKET)),
        Some(last) => {
            alternatives.push(last);
            Ok(Step::Union(alternatives))
        }
        None => cursor.wrong(BRACKET),
    }
}

/// One of what stands in brackets.
fn element(cursor: &mut Cursor<'_>) -> Result<Step> {
    cursor.blanks();
    match cursor.peek() {
        Some(b'(') => {
            cursor.at += 1;
            let computed = expression::parse(cursor)?;
            cursor.expect(b')', "Expected )")?;
            Ok(Step::Computed(computed))
        }
        Some(b'?') => {
            cursor.at += 1;
            Ok(Step::Filter(expression::parse(cursor)?))
        }
        Some(b'*') => {
            cursor.at += 1;
            Ok(Step::Every)
        }
        Some(b'\'' | b'"') => Ok(Step::Name(cursor.quoted()?)),
        Some(b':' | b'-' | b'0'..=b'9') => index_or_slice(cursor),
        Some(b'$') => {
            cursor.at += 1;
            Ok(Step::Root)
        }
        Some(b'@') => {
            cursor.at += 1;
            Ok(Step::Union(vec![Vec::new()]))
        }
        _ => cursor.wrong(BRACKET),
    }
}

fn index_or_slice(cursor: &mut Cursor<'_>) -> Result<Step> {
    let start = cursor.index()?;
    cursor.blanks();
    if cursor.peek() != Some(b':') {
        return start.map(Step::Index).map_or_else(|| cursor.wrong("Invalid number"), Ok);
    }
    cursor.at += 1;
    let mut slice = Slice { start, stop: cursor.index()?, step: None };
    cursor.blanks();
    if cursor.peek() == Some(b':') {
        cursor.at += 1;
        slice.step = cursor.index()?;
        if slice.step == Some(0) {
            return Err(cursor.error("Slice step cannot be zero"));
        }
    }
    Ok(Step::Slice(slice))
}

/// A call; the opening bracket is ahead.
pub(super) fn call(cursor: &mut Cursor<'_>, name: &[u8]) -> Result<Call> {
    let Some(function) = Function::named(name) else {
        return Err(cursor.error("Unknown function"));
    };
    cursor.at += 1;
    let mut arguments: Vec<Expression> = Vec::new();
    loop {
        cursor.blanks();
        match cursor.peek() {
            Some(b')') => break,
            Some(b',') if !arguments.is_empty() => cursor.at += 1,
            _ if arguments.is_empty() => {}
            _ => return cursor.wrong("Expected comma or right parenthesis"),
        }
        arguments.push(expression::parse(cursor)?);
    }
    cursor.at += 1;
    if arguments.len() != function.arity() {
        return Err(cursor.error("Incorrect number of arguments"));
    }
    Ok(Call { function, arguments })
}
