//! Text as a document.
//!
//! As jsoncons reads it: comments are blanks, of members with one name the first one counts, a byte
//! order mark is skipped. Unlike there, half of a surrogate pair is refused, not dropped.

use crate::value::{Number, Object, Value};
use crate::{Error, Result};

/// Reads a document of at most `depth_max` arrays and objects within each other.
///
/// # Errors
/// [`Error::Syntax`], [`Error::Nothing`].
pub fn from_text(text: &[u8], depth_max: usize) -> Result<Value> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut reader = Reader { text, at: 0, line: 1, begin: 0, depth_max };
    reader.blanks()?;
    if reader.peek().is_none() {
        return Err(Error::Nothing);
    }
    let value = reader.value(0)?;
    reader.blanks()?;
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.error("Unexpected non-whitespace character after JSON text")),
    }
}

/// Reads the document at the beginning of a text, and tells how many bytes it has.
///
/// # Errors
/// [`Error::Syntax`].
pub(crate) fn first_of(text: &[u8], depth_max: usize) -> Result<(Value, usize)> {
    let mut reader = Reader { text, at: 0, line: 1, begin: 0, depth_max };
    let value = reader.value(0)?;
    Ok((value, reader.at))
}

/// The four digits of an escape; `None` if they are not all there.
pub(crate) fn hex4(digits: &[u8]) -> Option<u32> {
    let digits = digits.get(..4).filter(|four| four.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

const END: &str = "Unexpected end of file";

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
    /// Where the line begins.
    begin: usize,
    depth_max: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, what: &'static str) -> Error {
        let column = self.at.saturating_sub(self.begin) + 1;
        Error::Syntax { what, line: self.line, column }
    }

    /// An error at the next byte, or that there is none.
    fn wrong<T>(&self, what: &'static str) -> Result<T> {
        Err(self.error(if self.peek().is_none() { END } else { what }))
    }

    /// An error that jsoncons tells one byte behind where it is.
    fn wrong_behind<T>(&mut self, what: &'static str) -> Result<T> {
        let what = if self.peek().is_none() { END } else { what };
        self.at = self.text.len().min(self.at + 1);
        Err(self.error(what))
    }

    fn new_line(&mut self) {
        self.line += 1;
        self.begin = self.at;
    }

    fn blanks(&mut self) -> Result<()> {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' => self.at += 1,
                b'\r' | b'\n' => {
                    self.at += if self.rest().starts_with(b"\r\n") { 2 } else { 1 };
                    self.new_line();
                }
                b'/' => self.comment()?,
                _ => break,
            }
        }
        Ok(())
    }

    fn comment(&mut self) -> Result<()> {
        let length = match self.rest() {
            [b'/', b'/', rest @ ..] => {
                2 + rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len())
            }
            [b'/', b'*', rest @ ..] => match rest.windows(2).position(|two| two == b"*/") {
                Some(length) => length + 4,
                None => {
                    self.at = self.text.len();
                    return self.wrong(END);
                }
            },
            _ => return self.wrong("JSON syntax_error"),
        };
        self.at += length;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => Ok(Value::Number(self.number()?)),
            Some(b't') => self.word(b"true", Value::Bool(true)),
            Some(b'f') => self.word(b"false", Value::Bool(false)),
            Some(b'n') => self.word(b"null", Value::Null),
            _ => self.wrong(if depth == 0 { "JSON syntax_error" } else { "Expected value" }),
        }
    }

    fn word(&mut self, word: &[u8], value: Value) -> Result<Value> {
        for byte in word {
            if self.peek() != Some(*byte) {
                return self.wrong("Invalid value");
            }
            self.at += 1;
        }
        Ok(value)
    }

    /// A bracket that begins something within `depth` others.
    fn enter(&mut self, depth: usize) -> Result<()> {
        self.at += 1;
        if depth >= self.depth_max {
            return Err(self.error("Data item nesting exceeds limit in options"));
        }
        self.blanks()
    }

    fn array(&mut self, depth: usize) -> Result<Value> {
        self.enter(depth)?;
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blanks()?;
            match self.peek() {
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Array(items));
                }
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    return self.wrong_behind("Expected comma or right bracket ']'");
                }
                _ => return self.wrong("Expected comma or right bracket ']'"),
            }
            self.blanks()?;
            if self.peek() == Some(b']') {
                return self.wrong_behind("Extra comma");
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value> {
        self.enter(depth)?;
        let mut members = Object::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.wrong("Expected object member key");
            }
            let name = self.string()?;
            self.blanks()?;
            if self.peek() != Some(b':') {
                return self.wrong("Expected name separator ':'");
            }
            self.at += 1;
            self.blanks()?;
            let value = self.value(depth + 1)?;
            members.entry(name).or_insert(value);
            self.blanks()?;
            match self.peek() {
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(members));
                }
                Some(b',') => self.at += 1,
                _ => return self.wrong("Expected comma or right brace '}'"),
            }
            self.blanks()?;
            if self.peek() == Some(b'}') {
                return self.wrong("Extra comma");
            }
        }
    }

    fn string(&mut self) -> Result<String> {
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let rest = self.rest();
            let is_plain = |byte: &u8| !matches!(byte, b'"' | b'\\') && *byte >= b' ';
            let length = rest.iter().take_while(|byte| is_plain(byte)).count();
            bytes.extend_from_slice(rest.get(..length).unwrap_or_default());
            self.at += length;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return String::from_utf8(bytes)
                        .map_err(|_| self.error("Illegal codepoint (>= 0xd800 && <= 0xdfff)"));
                }
                Some(b'\\') => {
                    let mut buffer = [0; 4];
                    bytes.extend_from_slice(self.escape()?.encode_utf8(&mut buffer).as_bytes());
                }
                _ => return self.wrong_behind("Illegal character in string"),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        self.at += 1;
        let c = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.codepoint();
            }
            _ => return self.wrong("Illegal escaped character in string"),
        };
        self.at += 1;
        Ok(c)
    }

    fn unit(&mut self) -> Result<u32> {
        match hex4(self.rest()) {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => {
                self.at += self.rest().iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                self.wrong("Invalid codepoint, expected four hexadecimal digits.")
            }
        }
    }

    fn codepoint(&mut self) -> Result<char> {
        const HALF: &str = "Invalid codepoint, expected another \\u token to begin the second half \
                            of a codepoint surrogate pair.";
        let first = self.unit()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first).ok_or_else(|| self.error(HALF));
        }
        if !self.rest().starts_with(b"\\u") {
            return self.wrong(HALF);
        }
        self.at += 2;
        let second = self.unit()?;
        let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400);
        let both = low.map(|low| 0x10000 + ((first - 0xd800) << 10) + low);
        both.and_then(char::from_u32)
            .ok_or_else(|| self.error("Expected low surrogate following the high surrogate"))
    }

    fn digits(&mut self) -> usize {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn number(&mut self) -> Result<Number> {
        let begin = self.at;
        let is_negative = self.peek() == Some(b'-');
        self.at += usize::from(is_negative);
        let first = self.peek();
        match self.digits() {
            0 => return self.wrong("Expected value"),
            2.. if first == Some(b'0') => {
                self.at = begin + usize::from(is_negative) + 1;
                return self.wrong("A number cannot have a leading zero");
            }
            _ => {}
        }
        let mut is_whole = true;
        if self.peek() == Some(b'.') {
            (is_whole, self.at) = (false, self.at + 1);
            if self.digits() == 0 {
                return self.wrong("Invalid number");
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            (is_whole, self.at) = (false, self.at + 1);
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return self.wrong("Expected value");
            }
        }
        if self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
            return self.wrong("Invalid number");
        }
        let text = self.text.get(begin..self.at).and_then(|text| std::str::from_utf8(text).ok());
        let text = text.unwrap_or_default();
        if !is_whole {
            let double = text.parse().map_err(|_| self.error("Invalid number"))?;
            return Ok(Number::Double(double));
        }
        let small = text.parse::<i128>().ok().and_then(Number::of_integer);
        Ok(small.unwrap_or_else(|| Number::Big(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DEPTH_MAX, to_text};

    fn again(text: &str) -> String {
        let value = from_text(text.as_bytes(), DEPTH_MAX).unwrap_or_else(|e| panic!("{text}: {e}"));
        to_text(&value, DEPTH_MAX).unwrap()
    }

    /// As jsoncons 0.177 writes what it has read; a whole number beyond 64 bits is a string there.
    #[test]
    fn documents_are_written_as_kvrocks_writes_them() {
        for (text, written) in [
            ("1e400", "null"),
            ("1e-400", "0.0"),
            ("-0", "0"),
            ("-0.0", "0.0"),
            ("1.0", "1.0"),
            ("100000000000000000000.0", "1e+20"),
            ("1e17", "1e+17"),
            ("1e15", "1000000000000000.0"),
            ("1e16", "10000000000000000.0"),
            ("123456789012345678.0", "1.2345678901234568e+17"),
            ("1e-5", "1e-05"),
            ("0.0001", "0.0001"),
            ("1.5e300", "1.5e+300"),
            ("1E5", "100000.0"),
            ("1.25E-10", "1.25e-10"),
            ("5e-324", "5e-324"),
            ("-0.5e-3", "-0.0005"),
            ("4.35", "4.35"),
            ("18446744073709551615", "18446744073709551615"),
            ("9007199254740993", "9007199254740993"),
            ("18446744073709551616", "18446744073709551616"),
            ("1.0000000000000002", "1.0000000000000002"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("0.3e1", "3.0"),
            ("-9223372036854775809", "-9223372036854775809"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            (r#""a\u0000b\u001f\u007f/\/\n\"\\""#, r#""a\u0000b\u001F\u007F//\n\"\\""#),
            (r#""\ud83d\ude00 \u00e9""#, "\"\u{1f600} \u{e9}\""),
            (r#"{"b":1,"a":2,"b":3}"#, r#"{"a":2,"b":1}"#),
            ("{\"a\":1,\"\":2,\"\u{e9}\":3,\"Z\":4}", "{\"\":2,\"Z\":4,\"a\":1,\"\u{e9}\":3}"),
            (" /*c*/ [ 1 , // x\n 2 ]\r\n", "[1,2]"),
            ("\u{feff}1", "1"),
            ("[[1],{\"a\":[]}]", "[[1],{\"a\":[]}]"),
        ] {
            assert_eq!(again(text), written, "{text}");
            assert_eq!(again(written), written, "{text}");
        }
    }

    /// The words and places of jsoncons 0.177.
    #[test]
    fn wrong_texts_are_told_where_they_are_wrong() {
        for (text, said) in [
            ("[1,]", "Extra comma at line 1 and column 5"),
            ("[1 2]", "Expected comma or right bracket ']' at line 1 and column 4"),
            ("{\"a\":1,}", "Extra comma at line 1 and column 8"),
            ("01", "A number cannot have a leading zero at line 1 and column 2"),
            ("1.", "Unexpected end of file at line 1 and column 3"),
            (".5", "JSON syntax_error at line 1 and column 1"),
            ("-", "Unexpected end of file at line 1 and column 2"),
            ("tru", "Unexpected end of file at line 1 and column 4"),
            ("1 2", "Unexpected non-whitespace character after JSON text at line 1 and column 3"),
            ("", "Failed to parse json string: Source error"),
            ("{\"a\"", "Unexpected end of file at line 1 and column 5"),
            ("bad", "JSON syntax_error at line 1 and column 1"),
            ("{bad", "Expected object member key at line 1 and column 2"),
            ("nan", "Invalid value at line 1 and column 2"),
            ("{\"a\" 1}", "Expected name separator ':' at line 1 and column 6"),
            ("\"\t\"", "Illegal character in string at line 1 and column 3"),
            ("\"\\x\"", "Illegal escaped character in string at line 1 and column 3"),
            ("-a", "Expected value at line 1 and column 2"),
            ("123a", "Invalid number at line 1 and column 4"),
            ("[1}", "Expected comma or right bracket ']' at line 1 and column 4"),
            ("\n [1\r\n 2]", "Expected comma or right bracket ']' at line 3 and column 2"),
            ("[1,/*", "Unexpected end of file at line 1 and column 6"),
        ] {
            assert_eq!(
                from_text(text.as_bytes(), DEPTH_MAX).unwrap_err().to_string(),
                said,
                "{text}"
            );
        }
        for bytes in [
            &b"\"\xff\""[..],
            b"\"\xed\xa0\x80\"",
            b"\"\xc0\x80\"",
            b"\"\\udc00\"",
            b"\"\\ud83dx\"",
        ] {
            assert!(from_text(bytes, DEPTH_MAX).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_too_deep_is_not_read() {
        let nested = |levels| ["[".repeat(levels), "]".repeat(levels)].concat();
        assert_eq!(again(&nested(DEPTH_MAX)), nested(DEPTH_MAX));
        let refused = from_text(nested(DEPTH_MAX + 1).as_bytes(), DEPTH_MAX).unwrap_err();
        assert!(refused.to_string().starts_with("Data item nesting exceeds limit in options"));
        assert!(from_text(nested(1_000_000).as_bytes(), DEPTH_MAX).is_err());
        assert!(from_text(b"[]", 0).is_err());
    }
}
