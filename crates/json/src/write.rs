//! A document as text.

use std::collections::BTreeMap;

use crate::path::Path;
use crate::value::{Number, Value};
use crate::{BYTES_MAX, DEPTH_MAX, Error, Result};

/// How a text is laid out. The default is one line without blanks: the form on disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layout<'a> {
    /// Blanks for each level.
    pub indent: usize,
    /// What ends a line.
    pub newline: &'a str,
    /// A blank behind the colon.
    pub is_spaced: bool,
}

/// The text of a document.
///
/// # Errors
/// [`Error::TooDeep`], [`Error::TooLarge`].
pub fn to_text(value: &Value, depth_max: usize) -> Result<String> {
    let mut out = String::new();
    write(value, Layout::default(), depth_max, &mut out)?;
    Ok(out)
}

/// Appends the text of a document.
///
/// # Errors
/// [`Error::TooDeep`], [`Error::TooLarge`].
pub fn write(value: &Value, layout: Layout<'_>, depth_max: usize, out: &mut String) -> Result<()> {
    Text { out, layout, depth_max }.value(value, 0)
}

/// Appends an array of what a path leads to.
///
/// # Errors
/// [`Error::TooLarge`], and those of a path.
pub fn write_found(
    path: &Path,
    document: &Value,
    layout: Layout<'_>,
    out: &mut String,
) -> Result<()> {
    Text { out, layout, depth_max: DEPTH_MAX + 2 }.found(path, document, 0)
}

/// Appends an object of what paths lead to, by their texts.
///
/// # Errors
/// As [`write_found`].
pub fn write_all(
    paths: &BTreeMap<&str, Path>,
    document: &Value,
    layout: Layout<'_>,
    out: &mut String,
) -> Result<()> {
    let mut text = Text { out, layout, depth_max: DEPTH_MAX + 2 };
    text.begin('{', 0)?;
    for (place, (name, path)) in paths.iter().enumerate() {
        text.line(place, 0)?;
        text.name(name);
        text.found(path, document, 1)?;
    }
    text.end('}', paths.is_empty(), 0)
}

struct Text<'a> {
    out: &'a mut String,
    layout: Layout<'a>,
    depth_max: usize,
}

impl Text<'_> {
    fn value(&mut self, value: &Value, level: usize) -> Result<()> {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(true) => self.out.push_str("true"),
            Value::Bool(false) => self.out.push_str("false"),
            Value::Number(number) => self.out.push_str(&number_text(number)),
            Value::String(text) => quote(text, self.out),
            Value::Array(items) => {
                self.begin('[', level)?;
                for (place, item) in items.iter().enumerate() {
                    self.line(place, level)?;
                    self.value(item, level + 1)?;
                }
                self.end(']', items.is_empty(), level)?;
            }
            Value::Object(members) => {
                self.begin('{', level)?;
                for (place, (name, member)) in members.iter().enumerate() {
                    self.line(place, level)?;
                    self.name(name);
                    self.value(member, level + 1)?;
                }
                self.end('}', members.is_empty(), level)?;
            }
        }
        Ok(())
    }

    fn found(&mut self, path: &Path, document: &Value, level: usize) -> Result<()> {
        self.begin('[', level)?;
        let mut count = 0;
        path.each(document, |value| {
            self.line(count, level)?;
            count += 1;
            self.value(value, level + 1)
        })?;
        self.end(']', count == 0, level)
    }

    fn name(&mut self, name: &str) {
        quote(name, self.out);
        self.out.push_str(if self.layout.is_spaced { ": " } else { ":" });
    }

    fn begin(&mut self, bracket: char, level: usize) -> Result<()> {
        if level >= self.depth_max {
            return Err(Error::TooDeep);
        }
        self.out.push(bracket);
        Ok(())
    }

    /// What stands before an element.
    fn line(&mut self, place: usize, level: usize) -> Result<()> {
        if place > 0 {
            self.out.push(',');
        }
        self.new_line(level + 1)
    }

    fn new_line(&mut self, level: usize) -> Result<()> {
        let blanks = self.layout.indent.saturating_mul(level);
        let more = blanks.saturating_add(self.layout.newline.len());
        if self.out.len().saturating_add(more) > BYTES_MAX {
            return Err(Error::TooLarge);
        }
        self.out.push_str(self.layout.newline);
        self.out.extend(std::iter::repeat_n(' ', blanks));
        Ok(())
    }

    fn end(&mut self, bracket: char, is_empty: bool, level: usize) -> Result<()> {
        if !is_empty {
            self.new_line(level)?;
        }
        self.out.push(bracket);
        Ok(())
    }
}

/// A string between quotes.
fn quote(text: &str, out: &mut String) {
    const HEX: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_control() || c == '"' || c == '\\') {
        let (plain, from) = rest.split_at(at);
        out.push_str(plain);
        let Some(c) = from.chars().next() else { break };
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => {
                let code = c as usize;
                out.push_str("\\u00");
                out.extend([HEX[code >> 4 & 15], HEX[code & 15]]);
            }
        }
        rest = from.get(c.len_utf8()..).unwrap_or_default();
    }
    out.push_str(rest);
    out.push('"');
}

/// A number as it is written.
pub fn number_text(number: &Number) -> String {
    match number {
        Number::Unsigned(value) => itoa::Buffer::new().format(*value).to_owned(),
        Number::Negative(value) => itoa::Buffer::new().format(*value).to_owned(),
        Number::Big(digits) => digits.clone(),
        Number::Double(value) if !value.is_finite() => "null".to_owned(),
        Number::Double(0.0) => "0.0".to_owned(),
        Number::Double(value) => double_text(*value),
    }
}

/// The shortest digits that read back as this double; an exponent, of two digits at least, only
/// where there would be more than 17 digits before the point or four zeros behind it.
fn double_text(value: f64) -> String {
    let scientific = format!("{:e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    // The value is 0.DIGITS times ten to the power of `point`.
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let sign = if value < 0.0 { "-" } else { "" };
    match usize::try_from(point) {
        Ok(before) if (1..=17).contains(&before) => {
            let padded = format!("{digits:0<before$}");
            let (whole, part) = padded.split_at_checked(before).unwrap_or((&padded, ""));
            format!("{sign}{whole}.{}", if part.is_empty() { "0" } else { part })
        }
        _ if (-3..=0).contains(&point) => {
            let zeros = "0".repeat(point.unsigned_abs() as usize);
            format!("{sign}0.{zeros}{digits}")
        }
        _ => {
            let (first, part) = digits.split_at_checked(1).unwrap_or((&digits, ""));
            let point_and_part = if part.is_empty() { String::new() } else { format!(".{part}") };
            let exponent = point - 1;
            let minus = if exponent < 0 { '-' } else { '+' };
            format!("{sign}{first}{point_and_part}e{minus}{:02}", exponent.abs())
        }
    }
}
