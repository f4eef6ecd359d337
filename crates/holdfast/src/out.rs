//! Standard output, as a program in a pipe should use it: a reader that has seen enough is no
//! failure, and what could not be written is one.
//!
//! Keys, names and errors come from others: what would make a terminal do something is shown, and
//! not done.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Write};
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result};
pub(crate) use web::causes::chain;

/// Empties a terminal.
const EMPTY: &[u8] = b"\x1b[H\x1b[J";
/// What could not be done.
const ACTION: &str = "write to standard output";

/// Characters that turn the direction of what follows.
const TURNS: [RangeInclusive<char>; 4] = [
    '\u{061c}'..='\u{061c}',
    '\u{200e}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2066}'..='\u{2069}',
];

/// Writes `text`.
///
/// # Errors
/// It could not be written; not when the reader is gone.
pub(crate) fn text(text: &str) -> Result<()> {
    part(text)?;
    Ok(())
}

/// Writes a part of something long; false if nobody reads it any more, and what follows need not be
/// made.
///
/// # Errors
/// As [`text`].
pub(crate) fn part(text: &str) -> Result<bool> {
    is_read(written(text)).context(ACTION)
}

/// Writes a part in place of all that the terminal shows.
///
/// # Errors
/// As [`text`].
pub(crate) fn anew(text: &str) -> Result<bool> {
    let mut out = io::stdout().lock();
    is_read(out.write_all(EMPTY).and_then(|()| put(&mut out, text))).context(ACTION)
}

/// A line for the person who started this; who has stopped listening is told nothing.
pub(crate) fn say(line: &str) {
    let _ = written(&format!("{line}\n"));
}

fn written(text: &str) -> io::Result<()> {
    put(&mut io::stdout().lock(), text)
}

fn put(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(shown(text).as_bytes())?;
    out.flush()
}

/// The text with every character as `\u001b` that a terminal would obey: in JSON that is the same
/// string.
fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        match is_obeyed(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Control characters but ends of lines and tabs, and those of [`TURNS`].
fn is_obeyed(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t')) || TURNS.iter().any(|range| range.contains(&c))
}

fn is_read(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true),
    }
}

/// To people, beside what is printed: the last words of a process that failed, or why it waits.
pub(crate) fn complain(words: &str) {
    let _ = put(&mut io::stderr().lock(), &format!("holdfast: {}\n", words.trim_end()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_no_failure_and_a_full_disk_is() {
        let of = |kind: ErrorKind| is_read(Err(kind.into()));
        assert!(matches!((is_read(Ok(())), of(ErrorKind::BrokenPipe)), (Ok(true), Ok(false))));
        assert_eq!(
            of(ErrorKind::StorageFull).map_err(|error| error.kind()),
            Err(ErrorKind::StorageFull)
        );
    }

    #[test]
    fn what_others_say_does_nothing_to_a_terminal() {
        let told = |text: &str| {
            let mut out = Vec::new();
            put(&mut out, text).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            told("alarm: \x1b]0;x\x07 \x1b[2J \u{9b}1m\u{202e}\r\x7f\tä\n"),
            "alarm: \\u001b]0;x\\u0007 \\u001b[2J \\u009b1m\\u202e\\u000d\\u007f\tä\n"
        );
        // Programs read what they read before.
        let value = serde_json::json!({ "why": "\u{1b}\u{9b}\u{7f}\u{202e}ä" });
        let json = told(&format!("{value:#}\n"));
        assert!(!json.contains(is_obeyed), "{json:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
    }
}
