//! Lines of an export, however long. Of those above a bound only the beginning is held: what it is about, and how much it is.

use std::io::{BufRead, Error, ErrorKind, Read as _, Result};

/// What stands between the key and the value of a put. No text has it inside: its quotes are escaped there.
pub(super) const VALUE: &[u8] = b"\",\"value\":\"";

/// A line that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// Its length in the file, with the line feed.
    pub bytes: u64,
    /// Of a line above the bound: for how many bytes its value stands (of one that is no put: all that follows the
    /// bound). What was left in the buffer ends before the value then, and is `{}` where there is none.
    pub value_bytes: Option<u64>,
}

/// Reads the next line into `line`, which holds `max` bytes of it at most; `None` at the end of the file.
///
/// # Errors
/// I/O errors, also where the file ends within a line.
pub(super) fn next(
    file: &mut impl BufRead,
    line: &mut Vec<u8>,
    max: usize,
) -> Result<Option<Line>> {
    line.clear();
    let held = file.by_ref().take(max as u64).read_until(b'\n', line)?;
    if held == 0 {
        return Ok(None);
    }
    let mut bytes = held as u64;
    if line.last() == Some(&b'\n') {
        return Ok(Some(Line { bytes, value_bytes: None }));
    }
    let mut counter = Counter::default();
    match line.windows(VALUE.len()).position(|window| window == VALUE) {
        Some(place) => {
            counter.take(line.get(place + VALUE.len()..).unwrap_or_default());
            line.truncate(place);
            line.extend_from_slice(b"\"}");
        }
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
        counter.take(found.get(..end.unwrap_or(found.len())).unwrap_or_default());
        let used = end.map_or(found.len(), |end| end + 1);
        file.consume(used);
        bytes += used as u64;
        if end.is_some() {
            // Without the quote and brace at the end.
            let value_bytes = Some(counter.bytes.saturating_sub(2));
            return Ok(Some(Line { bytes, value_bytes }));
        }
    }
}

/// Counts the bytes that escaped text stands for.
#[derive(Debug, Default)]
struct Counter {
    bytes: u64,
    /// Characters that still belong to the escape: after a backslash one, after `\u` four.
    escaped: u32,
    is_after_backslash: bool,
}

impl Counter {
    fn take(&mut self, text: &[u8]) {
        for byte in text {
            if self.is_after_backslash {
                self.is_after_backslash = false;
                self.escaped = if *byte == b'u' { 4 } else { 0 };
            } else if self.escaped > 0 {
                self.escaped -= 1;
            } else {
                self.bytes += 1;
                self.is_after_backslash = *byte == b'\\';
            }
        }
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
        assert!(next(&mut &b"{\"log\":"[..], &mut Vec::new(), 4).is_err());
        assert!(next(&mut &b"{\"log\":"[..], &mut Vec::new(), 100).is_err());
    }
}
