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
    let _ = writeln!(io::stderr(), "holdfast: {words}");
}
