//! What deliberately differs, and what is not there yet: `tests/compat/exceptions.txt` and
//! `not-yet.txt`.
//!
//! Both lists are kept honest: an exception that no transcript needs any more, or a command listed
//! as missing that the server knows, is a failure.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Declared differences.
#[derive(Debug, Default)]
pub struct Exceptions {
    entries: Vec<Entry>,
    used: RefCell<BTreeSet<usize>>,
    /// Commands, in lower case, that are not implemented yet.
    pub not_yet: BTreeSet<String>,
}

#[derive(Debug)]
struct Entry {
    file: String,
    command: String,
    line: String,
}

impl Exceptions {
    /// Reads both lists of a folder.
    pub fn read(dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        Self::parse(&read("exceptions.txt")?, &read("not-yet.txt")?)
    }

    fn parse(exceptions: &str, not_yet: &str) -> Result<Self> {
        let entries = content(exceptions)
            .map(|line| {
                let mut parts = line.split(" | ");
                let (file, command, reason) = (parts.next(), parts.next(), parts.next());
                let (Some(file), Some(command), Some(_)) = (file, command, reason) else {
                    anyhow::bail!("`{line}` is not `file | command | reason`");
                };
                Ok(Entry {
                    file: file.trim().to_owned(),
                    command: command.trim().to_owned(),
                    line: line.to_owned(),
                })
            })
            .collect::<Result<_>>()?;
        let not_yet =
            content(not_yet).flat_map(str::split_whitespace).map(str::to_lowercase).collect();
        Ok(Self { entries, used: RefCell::default(), not_yet })
    }

    /// Whether this command of this file may differ.
    pub fn allow(&self, file: &str, command: &str) -> bool {
        let found = self.entries.iter().enumerate().filter(|(_, entry)| {
            entry.file == file
                && match entry.command.strip_suffix('*') {
                    Some(prefix) => command.starts_with(prefix),
                    None => command == entry.command,
                }
        });
        let found: Vec<usize> = found.map(|(index, _)| index).collect();
        self.used.borrow_mut().extend(&found);
        !found.is_empty()
    }

    /// Exceptions for a file that nothing needed.
    pub fn unused(&self, file: &str) -> Vec<String> {
        let used = self.used.borrow();
        let entries = self.entries.iter().enumerate();
        let unused = entries.filter(|(index, entry)| entry.file == file && !used.contains(index));
        unused.map(|(_, entry)| entry.line.clone()).collect()
    }
}

/// Lines that say something.
fn content(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_by_file_and_command_and_unused_ones_are_told() {
        let text = "# why\na.resp | GET k | because\na.resp | INFO * | differs\n";
        let exceptions = Exceptions::parse(text, "# no\nSORT move\n").unwrap();
        assert!(exceptions.allow("a.resp", "INFO server"));
        assert!(!exceptions.allow("b.resp", "GET k"));
        assert_eq!(exceptions.unused("a.resp"), ["a.resp | GET k | because"]);
        assert!(exceptions.not_yet.contains("sort"));
        assert!(Exceptions::parse("a.resp | GET k", "").is_err());
    }
}
