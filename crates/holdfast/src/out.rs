//! Standard output, as a program in a pipe should use it: a reader that has seen enough is no failure, and what could not
//! be written is one.

use std::io::{self, ErrorKind, Write as _};

use anyhow::{Context as _, Result};

/// Writes `text` as it is.
///
/// # Errors
/// It could not be written; not when the reader is gone.
pub(crate) fn text(text: &str) -> Result<()> {
    forgiven(written(text)).context("write to standard output")
}

/// A line for the person who started this; who has stopped listening is told nothing.
pub(crate) fn say(line: &str) {
    let _ = written(&format!("{line}\n"));
}

fn written(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn forgiven(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// The last words of a process that failed.
pub(crate) fn complain(words: &str) {
    let _ = writeln!(io::stderr(), "holdfast: {}", words.trim_end());
}

/// An error with its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some name their cause in their own text.
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_no_failure_and_a_full_disk_is() {
        let of = |kind: ErrorKind| forgiven(Err(kind.into()));
        assert!(of(ErrorKind::BrokenPipe).is_ok());
        assert_eq!(
            of(ErrorKind::StorageFull).map_err(|error| error.kind()),
            Err(ErrorKind::StorageFull)
        );
    }

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("file: {0}")]
        struct Outer(#[from] std::num::ParseIntError);
        let inner = "x".parse::<u8>().unwrap_err();
        let error = anyhow::Error::new(Outer(inner)).context("start");
        assert_eq!(chain(&*error), "start: file: invalid digit found in string");
    }
}
