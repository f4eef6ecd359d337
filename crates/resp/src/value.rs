//! The client's side: encoding a command, reading a reply.

use memchr::memchr;

/// Deepest nesting of a reply that is read.
const DEPTH_MAX: usize = 32;

/// A reply. RESP3's doubles, big numbers and verbatim strings are read as [`Value::Text`], sets and
/// pushes as arrays: enough for those who ask nodes about their state.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any null.
    Null,
    /// `+…`, and RESP3's double and big number.
    Text(String),
    /// `-…`
    Error(String),
    /// `:…`
    Integer(i64),
    /// `$…` and RESP3's verbatim string, without its prefix.
    Bulk(Vec<u8>),
    /// `*…`, `~…`, `>…`, and maps as flat arrays.
    Array(Vec<Value>),
    /// `#t` or `#f`.
    Boolean(bool),
}

/// Why a reply could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The first byte of a value is none of RESP's.
    #[error("a reply may not begin with byte {0:#04x}")]
    Kind(u8),
    /// A length or number is no number.
    #[error("a reply has `{0}` where a number belongs")]
    Number(String),
    /// More than allowed.
    #[error("a reply is nested too deeply or larger than {0} bytes")]
    TooLarge(usize),
}

impl Value {
    /// The bytes of a bulk or simple string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bulk(bytes) => Some(bytes),
            Self::Text(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// The text of a bulk or simple string that is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// `+OK`?
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Text(text) if text == "OK")
    }

    /// Reads one reply from the front of `buffer`: the value and its length, or `None` when bytes
    /// are missing. Replies of more than `max` bytes are refused.
    pub fn parse(buffer: &[u8], max: usize) -> Result<Option<(Self, usize)>, ValueError> {
        let mut reader = Reader { buffer, position: 0, max };
        Ok(reader.value(0)?.map(|value| (value, reader.position)))
    }
}

struct Reader<'a> {
    buffer: &'a [u8],
    position: usize,
    max: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Option<Value>, ValueError> {
        if depth > DEPTH_MAX {
            return Err(ValueError::TooLarge(self.max));
        }
        let Some(kind) = self.buffer.get(self.position).copied() else { return Ok(None) };
        let Some(line) = self.line()? else { return Ok(None) };
        Ok(Some(match kind {
            b'+' | b',' | b'(' => Value::Text(line),
            b'-' => Value::Error(line),
            b':' => Value::Integer(number(&line)?),
            b'#' => Value::Boolean(line == "t"),
            b'_' => Value::Null,
            b'$' | b'=' | b'!' => return self.bulk(kind, number(&line)?),
            b'*' | b'~' | b'>' => return self.array(number(&line)?, 1, depth),
            b'%' => return self.array(number(&line)?, 2, depth),
            other => return Err(ValueError::Kind(other)),
        }))
    }

    fn line(&mut self) -> Result<Option<String>, ValueError> {
        let rest = &self.buffer[self.position + 1..];
        let Some(end) = memchr(b'\n', rest) else {
            return if rest.len() > self.max {
                Err(ValueError::TooLarge(self.max))
            } else {
                Ok(None)
            };
        };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        self.position += end + 2;
        Ok(Some(String::from_utf8_lossy(line).into_owned()))
    }

    fn bulk(&mut self, kind: u8, length: i64) -> Result<Option<Value>, ValueError> {
        let Ok(length) = usize::try_from(length) else { return Ok(Some(Value::Null)) };
        if length > self.max {
            return Err(ValueError::TooLarge(self.max));
        }
        let Some(bytes) = self.buffer.get(self.position..self.position + length) else {
            return Ok(None);
        };
        if self.buffer.len() < self.position + length + 2 {
            return Ok(None);
        }
        self.position += length + 2;
        Ok(Some(match kind {
            b'!' => Value::Error(String::from_utf8_lossy(bytes).into_owned()),
            b'=' => Value::Bulk(bytes.get(4..).unwrap_or_default().to_vec()),
            _ => Value::Bulk(bytes.to_vec()),
        }))
    }

    fn array(
        &mut self,
        length: i64,
        factor: usize,
        depth: usize,
    ) -> Result<Option<Value>, ValueError> {
        let Ok(length) = usize::try_from(length) else { return Ok(Some(Value::Null)) };
        let length = length.saturating_mul(factor);
        if length > self.max {
            return Err(ValueError::TooLarge(self.max));
        }
        let mut elements = Vec::with_capacity(length.min(1024));
        for _ in 0..length {
            let Some(element) = self.value(depth + 1)? else { return Ok(None) };
            elements.push(element);
        }
        Ok(Some(Value::Array(elements)))
    }
}

fn number(text: &str) -> Result<i64, ValueError> {
    text.parse().map_err(|_| ValueError::Number(text.chars().take(32).collect()))
}

/// A command as an array of bulk strings.
pub fn encode_command<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut out =
        Vec::with_capacity(16 + arguments.iter().map(|a| a.as_ref().len() + 16).sum::<usize>());
    let mut writer = crate::Writer::new(&mut out, crate::Protocol::V2);
    writer.array(arguments.len());
    for argument in arguments {
        writer.bulk(argument.as_ref());
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kind_is_read() {
        let bytes =
            b"*7\r\n+OK\r\n-ERR x\r\n:-3\r\n$2\r\nab\r\n$-1\r\n%1\r\n#t\r\n_\r\n=7\r\ntxt:abc\r\n";
        let expected = Value::Array(vec![
            Value::Text("OK".into()),
            Value::Error("ERR x".into()),
            Value::Integer(-3),
            Value::Bulk(b"ab".to_vec()),
            Value::Null,
            Value::Array(vec![Value::Boolean(true), Value::Null]),
            Value::Bulk(b"abc".to_vec()),
        ]);
        assert_eq!(Value::parse(bytes, 1000), Ok(Some((expected, bytes.len()))));
        for end in 0..bytes.len() {
            assert_eq!(Value::parse(&bytes[..end], 1000), Ok(None), "cut at {end}");
        }
    }

    #[test]
    fn what_is_too_large_or_no_resp_is_refused() {
        assert_eq!(Value::parse(b"$2000\r\n", 1000), Err(ValueError::TooLarge(1000)));
        assert_eq!(Value::parse(b"x\r\n", 1000), Err(ValueError::Kind(b'x')));
        assert_eq!(Value::parse(&b"*1\r\n".repeat(40), 1000), Err(ValueError::TooLarge(1000)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Value::parse(&bytes, 1 << 20);
        }
    }
}
