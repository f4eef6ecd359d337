//! Lua values as JSON.

use mlua::{Lua, Table, Value};

use super::{DEPTH_MAX, Invalid, Options};
use crate::args::type_name;
use crate::guard::Fail;
use crate::looks::Steps;

/// Longest text: a small table that holds another one many times, a few levels deep, has one
/// without end.
const BYTES_MAX: usize = 256 << 20;

/// JSON of a value.
pub(super) fn encode(lua: &Lua, value: &Value, options: &Options) -> Result<Vec<u8>, Fail> {
    let mut encoder = Encoder { lua, options, out: Vec::new(), steps: Steps::default() };
    encoder.value(value, 0)?;
    Ok(encoder.out)
}

struct Encoder<'e> {
    lua: &'e Lua,
    options: &'e Options,
    out: Vec<u8>,
    steps: Steps,
}

fn fail(what: &str, why: &str) -> Fail {
    Fail::At(format!("Cannot serialise {what}: {why}"))
}

/// A number as C's `%.14g` writes it.
pub(super) fn number(value: f64, precision: i64) -> String {
    let digits = usize::try_from(precision).unwrap_or(14).clamp(1, 17);
    let scientific = format!("{value:.*e}", digits - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let count = i32::try_from(digits).unwrap_or(14);
    if (-4..count).contains(&exponent) {
        let decimals = usize::try_from(count - 1 - exponent).unwrap_or(0);
        return trim(&format!("{value:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
}

impl Encoder<'_> {
    fn value(&mut self, value: &Value, depth: i64) -> Result<(), Fail> {
        let more = if let Value::String(text) = value { text.as_bytes().len() } else { 0 };
        if self.out.len().saturating_add(more) > BYTES_MAX {
            return Err(Fail::At("Cannot serialise: the text is too long".into()));
        }
        self.steps.take(self.lua, more)?;
        match value {
            Value::Nil => self.out.extend_from_slice(b"null"),
            Value::Boolean(true) => self.out.extend_from_slice(b"true"),
            Value::Boolean(false) => self.out.extend_from_slice(b"false"),
            Value::LightUserData(pointer) if pointer.0.is_null() => {
                self.out.extend_from_slice(b"null");
            }
            Value::Integer(value) => self.number(*value as f64)?,
            Value::Number(value) => self.number(*value)?,
            Value::String(text) => self.string(&text.as_bytes()),
            Value::Table(table) => self.table(table, depth + 1)?,
            other => return Err(fail(type_name(other), "type not supported")),
        }
        Ok(())
    }

    fn number(&mut self, value: f64) -> Result<(), Fail> {
        if !value.is_finite() {
            match self.options.encode_invalid {
                Invalid::Refused => return Err(fail("number", "must not be NaN or Inf")),
                Invalid::AsNull => {
                    self.out.extend_from_slice(b"null");
                    return Ok(());
                }
                Invalid::Written => {}
            }
        }
        let text = match value {
            value if value.is_nan() => "nan".to_owned(),
            value if value.is_infinite() => if value > 0.0 { "inf" } else { "-inf" }.to_owned(),
            value => number(value, self.options.precision),
        };
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn string(&mut self, text: &[u8]) {
        self.out.push(b'"');
        for byte in text {
            match byte {
                b'"' => self.out.extend_from_slice(b"\\\""),
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                b'/' => self.out.extend_from_slice(b"\\/"),
                0x08 => self.out.extend_from_slice(b"\\b"),
                0x0c => self.out.extend_from_slice(b"\\f"),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                0..=0x1f | 0x7f => {
                    self.out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                }
                other => self.out.push(*other),
            }
        }
        self.out.push(b'"');
    }

    fn table(&mut self, table: &Table, depth: i64) -> Result<(), Fail> {
        if depth > self.options.encode_depth.min(DEPTH_MAX) {
            return Err(Fail::At(format!("Cannot serialise, excessive nesting ({depth})")));
        }
        match self.length(table)? {
            Some(length) => self.array(table, length, depth),
            None => self.object(table, depth),
        }
    }

    /// The length of a table that is an array; `None` for an object.
    fn length(&mut self, table: &Table) -> Result<Option<i64>, Fail> {
        let (mut max, mut items) = (0, 0_i64);
        for pair in table.pairs::<Value, Value>() {
            self.steps.take(self.lua, 0)?;
            let index = match pair?.0 {
                Value::Integer(index) if index >= 1 => index,
                Value::Number(index) if index >= 1.0 && index.fract() == 0.0 => index as i64,
                _ => return Ok(None),
            };
            max = max.max(index);
            items += 1;
        }
        let options = self.options;
        let is_sparse = options.sparse_ratio > 0
            && max > items.saturating_mul(options.sparse_ratio)
            && max > options.sparse_safe;
        match (is_sparse, options.sparse_converts) {
            (true, false) => Err(fail("table", "excessively sparse array")),
            (true, true) => Ok(None),
            (false, _) => Ok((max > 0).then_some(max)),
        }
    }

    fn array(&mut self, table: &Table, length: i64, depth: i64) -> Result<(), Fail> {
        self.out.push(b'[');
        for at in 1..=length {
            if at > 1 {
                self.out.push(b',');
            }
            let item: Value = table.raw_get(at)?;
            self.value(&item, depth)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, table: &Table, depth: i64) -> Result<(), Fail> {
        self.out.push(b'{');
        let mut is_first = true;
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if !std::mem::take(&mut is_first) {
                self.out.push(b',');
            }
            match key {
                Value::String(key) => self.string(&key.as_bytes()),
                Value::Integer(_) | Value::Number(_) => {
                    let number = self.lua.coerce_number(key)?.unwrap_or_default();
                    self.out.push(b'"');
                    self.number(number)?;
                    self.out.push(b'"');
                }
                _ => return Err(fail("table", "table key must be a number or string")),
            }
            self.out.push(b':');
            self.value(&value, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_they_need() {
        for (value, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (1e14, "1e+14"),
            (1e15, "1e+15"),
            (123_456_789_012_345_680.0, "1.2345678901235e+17"),
            (-1e300, "-1e+300"),
            (1e-5, "1e-05"),
            (std::f64::consts::PI, "3.1415926535898"),
            (-0.0, "-0"),
        ] {
            assert_eq!(number(value, 14), text);
        }
        assert_eq!(number(1234.5, 3), "1.23e+03");
    }
}
