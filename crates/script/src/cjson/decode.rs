//! JSON as Lua values. As lenient as lua-cjson: `0x10`, `nan`, `infinity` and control characters
//! in strings are read.

use mlua::{Lua, Value};

use super::{DEPTH_MAX, Options};
use crate::guard::Fail;

/// The value of a text.
pub(super) fn decode(lua: &Lua, text: &[u8], options: &Options) -> Result<Value, Fail> {
    // Texts in UTF-16 and UTF-32 begin so.
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(Fail::At("JSON parser does not support UTF-16 or UTF-32".into()));
    }
    let mut decoder = Decoder { lua, text, at: 0, depth: 0, options };
    let token = decoder.next();
    let value = decoder.value(token)?;
    match decoder.next() {
        (Token::End, _) => Ok(value),
        token => Err(decoder.expected("the end", &token)),
    }
}

#[derive(Debug, PartialEq)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Comma,
    Colon,
    Text(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    End,
    Wrong(&'static str),
}

impl Token {
    fn name(&self) -> &'static str {
        match self {
            Self::ObjectBegin => "T_OBJ_BEGIN",
            Self::ObjectEnd => "T_OBJ_END",
            Self::ArrayBegin => "T_ARR_BEGIN",
            Self::ArrayEnd => "T_ARR_END",
            Self::Comma => "T_COMMA",
            Self::Colon => "T_COLON",
            Self::Text(_) => "T_STRING",
            Self::Number(_) => "T_NUMBER",
            Self::Boolean(_) => "T_BOOLEAN",
            Self::Null => "T_NULL",
            Self::End => "T_END",
            Self::Wrong(why) => why,
        }
    }
}

/// A token and where it begins.
type At = (Token, usize);

struct Decoder<'d> {
    lua: &'d Lua,
    text: &'d [u8],
    at: usize,
    depth: i64,
    options: &'d Options,
}

impl Decoder<'_> {
    fn expected(&self, what: &str, (token, at): &At) -> Fail {
        Fail::At(format!("Expected {what} but found {} at character {}", token.name(), at + 1))
    }

    fn descend(&mut self) -> Result<(), Fail> {
        self.depth += 1;
        if self.depth <= self.options.decode_depth.min(DEPTH_MAX) {
            return Ok(());
        }
        let (depth, at) = (self.depth, self.at);
        Err(Fail::At(format!("Found too many nested data structures ({depth}) at character {at}")))
    }

    fn value(&mut self, token: At) -> Result<Value, Fail> {
        match token.0 {
            Token::Text(text) => Ok(Value::String(self.lua.create_string(text)?)),
            Token::Number(number) => Ok(Value::Number(number)),
            Token::Boolean(value) => Ok(Value::Boolean(value)),
            Token::Null => Ok(Value::NULL),
            Token::ObjectBegin => self.object(),
            Token::ArrayBegin => self.array(),
            _ => Err(self.expected("value", &token)),
        }
    }

    fn array(&mut self) -> Result<Value, Fail> {
        self.descend()?;
        let table = self.lua.create_table()?;
        let mut token = self.next();
        if token.0 != Token::ArrayEnd {
            for at in 1_i64.. {
                let value = self.value(token)?;
                table.raw_set(at, value)?;
                match self.next() {
                    (Token::Comma, _) => token = self.next(),
                    (Token::ArrayEnd, _) => break,
                    other => return Err(self.expected("comma or array end", &other)),
                }
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }

    fn object(&mut self) -> Result<Value, Fail> {
        self.descend()?;
        let table = self.lua.create_table()?;
        let mut token = self.next();
        if token.0 != Token::ObjectEnd {
            loop {
                let (Token::Text(key), _) = token else {
                    return Err(self.expected("object key string", &token));
                };
                match self.next() {
                    (Token::Colon, _) => {}
                    other => return Err(self.expected("colon", &other)),
                }
                let token_of_value = self.next();
                let value = self.value(token_of_value)?;
                table.raw_set(self.lua.create_string(key)?, value)?;
                match self.next() {
                    (Token::Comma, _) => token = self.next(),
                    (Token::ObjectEnd, _) => break,
                    other => return Err(self.expected("comma or object end", &other)),
                }
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }

    fn next(&mut self) -> At {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        let at = self.at;
        let Some(byte) = self.text.get(at).copied() else { return (Token::End, at) };
        let punctuation = match byte {
            b'{' => Some(Token::ObjectBegin),
            b'}' => Some(Token::ObjectEnd),
            b'[' => Some(Token::ArrayBegin),
            b']' => Some(Token::ArrayEnd),
            b',' => Some(Token::Comma),
            b':' => Some(Token::Colon),
            _ => None,
        };
        if let Some(token) = punctuation {
            self.at += 1;
            return (token, at);
        }
        if byte == b'"' {
            return self.string();
        }
        for (word, token) in [
            ("true", Token::Boolean(true)),
            ("false", Token::Boolean(false)),
            ("null", Token::Null),
        ] {
            if self.text[at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return (token, at);
            }
        }
        (self.number(byte), at)
    }

    fn number(&mut self, first: u8) -> Token {
        let rest = &self.text[self.at..];
        let is_number = matches!(first, b'0'..=b'9' | b'-' | b'+' | b'.')
            || ["inf", "nan"].iter().any(|word| {
                rest.get(..3).is_some_and(|begin| begin.eq_ignore_ascii_case(word.as_bytes()))
            });
        if !is_number {
            return Token::Wrong("invalid token");
        }
        let Some((value, length)) = parse_number(rest) else {
            return Token::Wrong("invalid number");
        };
        let is_plain = value.is_finite() && !rest[..length].contains(&b'x');
        if !is_plain && !self.options.decode_invalid {
            return Token::Wrong("invalid number");
        }
        self.at += length;
        Token::Number(value)
    }

    fn string(&mut self) -> At {
        let begin = self.at;
        let mut text = Vec::new();
        let mut at = begin + 1;
        loop {
            let rest = &self.text[at..];
            let Some(plain) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
                return (Token::Wrong("unexpected end of string"), self.text.len());
            };
            text.extend_from_slice(&rest[..plain]);
            at += plain;
            if self.text[at] == b'"' {
                self.at = at + 1;
                return (Token::Text(text), begin);
            }
            let byte = match self.text.get(at + 1) {
                Some(b'u') => {
                    let Some((character, length)) = escaped(&self.text[at..]) else {
                        return (Token::Wrong("invalid unicode escape code"), at);
                    };
                    let mut utf8 = [0; 4];
                    text.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
                    at += length;
                    continue;
                }
                Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
                Some(b'b') => 0x08,
                Some(b'f') => 0x0c,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                _ => return (Token::Wrong("invalid escape code"), at),
            };
            text.push(byte);
            at += 2;
        }
    }
}

/// The character of `\u…`, with its other half if it has one, and its length.
fn escaped(text: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        let digits = std::str::from_utf8(digits).ok()?;
        // `from_str_radix` would take a sign.
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u32::from_str_radix(digits, 16).ok()
    };
    match unit(0)? {
        high @ 0xd800..=0xdbff => match unit(6)? {
            low @ 0xdc00..=0xdfff => {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                Some((char::from_u32(code)?, 12))
            }
            _ => None,
        },
        code => Some((char::from_u32(code)?, 6)),
    }
}

/// The number that a text begins with, as C's `strtod` reads it, and its length.
fn parse_number(text: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let factor = if text.first() == Some(&b'-') { -1.0 } else { 1.0 };
    let rest = &text[sign..];
    let begins = |word: &str| {
        rest.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word.as_bytes()))
    };
    if begins("infinity") {
        return Some((factor * f64::INFINITY, sign + 8));
    }
    if begins("inf") {
        return Some((factor * f64::INFINITY, sign + 3));
    }
    if begins("nan") {
        return Some((f64::NAN, sign + 3));
    }
    if begins("0x") {
        let digits = rest[2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits > 0 {
            let value = rest[2..2 + digits].iter().fold(0.0, |value, byte| {
                value * 16.0 + f64::from(char::from(*byte).to_digit(16).unwrap_or(0))
            });
            return Some((factor * value, sign + 2 + digits));
        }
    }
    let digits_at = |at: usize| rest[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits_at(0);
    let mut length = whole;
    if rest.get(length) == Some(&b'.') {
        let fraction = digits_at(length + 1);
        if whole + fraction == 0 {
            return None;
        }
        length += 1 + fraction;
    } else if whole == 0 {
        return None;
    }
    if matches!(rest.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(rest.get(length + 1), Some(b'-' | b'+')));
        let exponent =
            if rest.len() > length + 1 + sign { digits_at(length + 1 + sign) } else { 0 };
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    let text = std::str::from_utf8(&rest[..length]).ok()?;
    let value = text.trim_end_matches('.').parse::<f64>().ok()?;
    Some((factor * value, sign + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        for (text, value, length) in [
            ("12,", 12.0, 2),
            ("01", 1.0, 2),
            ("1e5", 100_000.0, 3),
            ("1e", 1.0, 1),
            ("1.", 1.0, 2),
            (".5", 0.5, 2),
            ("0x10", 16.0, 4),
            ("-1.5.5", -1.5, 4),
            ("+1", 1.0, 2),
            ("1e+", 1.0, 1),
        ] {
            assert_eq!(parse_number(text.as_bytes()), Some((value, length)), "{text}");
        }
        for text in ["-", ".", "+.", "e5", ""] {
            assert_eq!(parse_number(text.as_bytes()), None, "{text}");
        }
    }
}
