//! Lines of an export, however long. Of those above a bound only the beginning is held: what it is
//! about, and how much it is; and, where it is wanted, the value, without its text.

use std::io::{BufRead, Error, ErrorKind, Read as _, Result};

/// What stands between the key and the value of a put. No text has it inside: its quotes are
/// escaped there.
pub(super) const VALUE: &[u8] = b"\",\"value\":\"";
/// What stands before the key of a put or a deletion.
const KEY: &[u8] = b"\",\"key\":\"";
/// Bytes behind a value: a quote and a brace.
const END_BYTES: usize = 2;

/// A line that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// Its length in the file, with the line feed.
    pub bytes: u64,
    /// Of a line above the bound: for how many bytes its value stands (of one that is no put: all
    /// that follows the bound). What was left in the buffer ends before the value then, and is `{}`
    /// where there is none.
    pub value_bytes: Option<u64>,
    /// Of a line above the bound: what was left in the buffer has the whole key.
    pub has_key: bool,
}

/// Reads the next line into `line`, which holds `max` bytes of it at most; `None` at the end of the
/// file.
///
/// # Errors
/// I/O errors, also where the file ends within a line.
pub(super) fn next(
    file: &mut impl BufRead,
    line: &mut Vec<u8>,
    max: usize,
) -> Result<Option<Line>> {
    with_value(file, line, max, (&mut Vec::new(), 0))
}

/// The same. Of a put above the bound `value` is its value, if that has `value_max` bytes at most;
/// else it is empty. Of a line whose key is above it, the beginning of the key is left in the
/// buffer, if `value_max` is not 0.
///
/// # Errors
/// As [`next`], and a value that is none.
pub(super) fn with_value(
    file: &mut impl BufRead,
    line: &mut Vec<u8>,
    max: usize,
    (value, value_max): (&mut Vec<u8>, usize),
) -> Result<Option<Line>> {
    line.clear();
    value.clear();
    let held = file.by_ref().take(max as u64).read_until(b'\n', line)?;
    if held == 0 {
        return Ok(None);
    }
    let mut bytes = held as u64;
    if line.last() == Some(&b'\n') {
        return Ok(Some(Line { bytes, value_bytes: None, has_key: true }));
    }
    let place = line.windows(VALUE.len()).position(|window| window == VALUE);
    let kept = place.map_or(0, |_| value_max.saturating_add(END_BYTES));
    let mut decoder = Decoder::new(value, kept);
    match place {
        Some(place) => {
            decoder.take(line.get(place + VALUE.len()..).unwrap_or_default());
            line.truncate(place);
            line.extend_from_slice(b"\"}");
        }
        None if value_max > 0 => close(line),
        None => {
            line.clear();
            line.extend_from_slice(b"{}");
        }
    }
    loop {
        let found = file.fill_buf()?;
        if found.is_empty() {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the file ends within a line"));
        }
        let end = found.iter().position(|byte| *byte == b'\n');
        decoder.take(found.get(..end.unwrap_or(found.len())).unwrap_or_default());
        let used = end.map_or(found.len(), |end| end + 1);
        file.consume(used);
        bytes += used as u64;
        if end.is_some() {
            let value_bytes = Some(decoder.finish(value_max)?);
            return Ok(Some(Line { bytes, value_bytes, has_key: place.is_some() }));
        }
    }
}

/// Makes an object again of the beginning of one that ends within its key, or behind it: of other
/// ones an empty one.
fn close(line: &mut Vec<u8>) {
    let Some(begin) = line.windows(KEY.len()).position(|window| window == KEY) else {
        line.clear();
        line.extend_from_slice(b"{}");
        return;
    };
    let mut end = begin + KEY.len();
    while let Some(byte) = line.get(end) {
        let length = match (byte, line.get(end + 1)) {
            (b'"', _) | (b'\\', None) => break,
            (b'\\', Some(b'u')) => 6,
            (b'\\', Some(_)) => 2,
            _ => 1,
        };
        if end + length > line.len() {
            break;
        }
        end += length;
    }
    line.truncate(end);
    line.extend_from_slice(b"\"}");
}

/// Counts the bytes that escaped text stands for, and keeps them.
struct Decoder<'v> {
    bytes: u64,
    escape: Escape,
    value: &'v mut Vec<u8>,
    /// So many at most.
    kept: usize,
    /// A character stood for no byte.
    is_foreign: bool,
}

/// Where in an escape the text is.
#[derive(Debug, Clone, Copy)]
enum Escape {
    None,
    /// Behind the backslash.
    Begun,
    /// Of a number in hexadecimal, so many digits are left.
    Number {
        left: u32,
        code: u32,
    },
}

impl<'v> Decoder<'v> {
    fn new(value: &'v mut Vec<u8>, kept: usize) -> Self {
        Self { bytes: 0, escape: Escape::None, value, kept, is_foreign: false }
    }

    fn take(&mut self, text: &[u8]) {
        for byte in text {
            self.escape = match self.escape {
                Escape::None => {
                    self.bytes += 1;
                    if *byte == b'\\' {
                        Escape::Begun
                    } else {
                        self.keep(*byte);
                        Escape::None
                    }
                }
                Escape::Begun if *byte == b'u' => Escape::Number { left: 4, code: 0 },
                Escape::Begun => {
                    self.keep(*byte);
                    Escape::None
                }
                Escape::Number { left, code } => {
                    let digit = char::from(*byte).to_digit(16);
                    self.is_foreign |= digit.is_none();
                    let code = code << 4 | digit.unwrap_or_default();
                    if left > 1 {
                        Escape::Number { left: left - 1, code }
                    } else {
                        let byte = u8::try_from(code);
                        self.is_foreign |= byte.is_err();
                        self.keep(byte.unwrap_or_default());
                        Escape::None
                    }
                }
            };
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.value.len() < self.kept {
            self.value.push(byte);
        }
    }

    /// How many bytes the value has. It is kept if that are no more than `max`.
    fn finish(self, max: usize) -> Result<u64> {
        let bytes = self.bytes.saturating_sub(END_BYTES as u64);
        // What follows the bound of a line without a value is none.
        if self.kept == 0 {
            return Ok(bytes);
        }
        if self.is_foreign {
            return Err(Error::new(ErrorKind::InvalidData, "a value holds no bytes"));
        }
        match usize::try_from(bytes) {
            Ok(bytes) if bytes <= max => self.value.truncate(bytes),
            _ => self.value.clear(),
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_line_the_key_is_told_and_how_much_it_is() {
        let long = r#"{"put":"metadata","key":"\",\"value\":\"\\","value":"\u0000\\\"ab"}"#;
        let text =
            format!("{{\"log\":\"1\"}}\n{long}\n{{\"delete\":\"metadata\",\"key\":\"kkkk\"}}\n");
        for max in 12..=100 {
            let (mut file, mut line, mut at) = (text.as_bytes(), Vec::new(), 0);
            let mut next = |line: &mut Vec<u8>| {
                let found = next(&mut file, line, max).unwrap();
                at += found.map_or(0, |line| line.bytes);
                (found.and_then(|line| line.value_bytes), found.is_some())
            };
            assert_eq!(next(&mut line), (None, true), "{max}");
            assert_eq!(line, b"{\"log\":\"1\"}\n");
            let (value_bytes, _) = next(&mut line);
            let head = long.find("\",\"value\":\"\\u").unwrap();
            let (told, expected) =
                (String::from_utf8_lossy(&line), format!("{}\"}}", &long[..head]));
            match value_bytes {
                None => assert_eq!(told, format!("{long}\n")),
                Some(5) => assert_eq!(told, expected, "{max}"),
                // The bound was in the key.
                Some(_) => assert!(told == "{}" && max < head + VALUE.len(), "{max}: {told}"),
            }
            next(&mut line);
            assert_eq!(next(&mut line), (None, false));
            assert_eq!(at, text.len() as u64, "{max}");
        }
        for (value_max, expected) in [(5, &b"\0\\\"ab"[..]), (6, b"\0\\\"ab"), (4, b"")] {
            let (mut line, mut value) = (Vec::new(), b"of before".to_vec());
            let max = long.find("\",\"value\":\"\\u").unwrap() + VALUE.len() + 3;
            let mut file = long.as_bytes().to_vec();
            file.push(b'\n');
            let found = with_value(&mut &file[..], &mut line, max, (&mut value, value_max));
            assert_eq!(found.unwrap().and_then(|line| line.value_bytes), Some(5));
            assert_eq!(value, expected, "{value_max}");
        }
        let foreign = b"{\"put\":\"x\",\"key\":\"k\",\"value\":\"\\u0100\"}\n";
        assert!(with_value(&mut &foreign[..], &mut Vec::new(), 32, (&mut Vec::new(), 9)).is_err());
        assert!(next(&mut &b"{\"log\":"[..], &mut Vec::new(), 4).is_err());
        assert!(next(&mut &b"{\"log\":"[..], &mut Vec::new(), 100).is_err());
    }

    #[test]
    fn of_a_key_above_the_bound_the_beginning_is_told() {
        let key = r#"a\u0001\"\\b"#;
        let line = format!("{{\"delete\":\"default\",\"key\":\"{key}\"}}\n");
        let begin = line.find(key).unwrap();
        // Before each of its characters, and behind the last one; where it is cut within one, that
        // is not told.
        let ends = [0_usize, 1, 7, 9, 11, 12];
        for max in begin..line.len() {
            let (mut held, mut value) = (Vec::new(), Vec::new());
            let mut file = line.as_bytes();
            let found = with_value(&mut file, &mut held, max, (&mut value, 9)).unwrap().unwrap();
            assert!(!found.has_key && found.bytes == line.len() as u64, "{max}");
            let end = ends.into_iter().rfind(|end| begin + end <= max).unwrap();
            let expected = format!("{}\"}}", &line[..begin + end]);
            assert_eq!(String::from_utf8_lossy(&held), expected, "{max}");
        }
        let mut held = Vec::new();
        with_value(&mut line.as_bytes(), &mut held, begin - 1, (&mut Vec::new(), 9)).unwrap();
        assert_eq!(held, b"{}");
    }
}
