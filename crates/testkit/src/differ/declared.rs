//! Differences that are known, each with its reason: `tests/compat/differ.txt`.
//!
//! A sequence ends where one of them shows, because what the servers hold may have parted. Whether
//! one is still needed only a long run can say.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::difference::Difference;

/// The list.
#[derive(Debug, Default)]
pub struct Declared {
    entries: Vec<Entry>,
    used: RefCell<BTreeSet<usize>>,
}

/// Patterns: `*` is any text, `?` any byte, `\\` takes both from what follows.
#[derive(Debug)]
struct Entry {
    command: String,
    ours: String,
    redis: String,
    line: String,
}

impl Declared {
    /// Reads the file.
    pub fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/compat/differ.txt");
        let text = std::fs::read_to_string(&path);
        Self::parse(&text.with_context(|| format!("read {}", path.display()))?)
    }

    fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let entries = lines.map(|line| {
            let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
            let [command, ours, redis, _] = parts[..] else {
                bail!("`{line}` is not `command | ours | redis | reason`");
            };
            let [command, ours, redis] = [command, ours, redis].map(str::to_owned);
            Ok(Entry { command, ours, redis, line: line.to_owned() })
        });
        Ok(Self { entries: entries.collect::<Result<_>>()?, used: RefCell::default() })
    }

    /// Whether this one is known.
    pub fn allows(&self, difference: &Difference) -> bool {
        let found = self.entries.iter().position(|entry| {
            fits(entry.command.as_bytes(), difference.command.as_bytes())
                && fits(entry.ours.as_bytes(), difference.ours.as_bytes())
                && fits(entry.redis.as_bytes(), difference.redis.as_bytes())
        });
        self.used.borrow_mut().extend(found);
        found.is_some()
    }

    /// Lines that no difference has needed so far.
    pub fn unused(&self) -> Vec<&str> {
        let used = self.used.borrow();
        let entries = self.entries.iter().enumerate();
        let unused = entries.filter(|(index, _)| !used.contains(index));
        unused.map(|(_, entry)| entry.line.as_str()).collect()
    }
}

/// Whether a text fits a pattern; case is open, as it is in names of commands.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (byte, rest) = match pattern {
        [] => return text.is_empty(),
        [b'*', rest @ ..] => return (0..=text.len()).any(|at| fits(rest, &text[at..])),
        [b'?', rest @ ..] => return !text.is_empty() && fits(rest, &text[1..]),
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (byte, rest),
    };
    text.split_first()
        .is_some_and(|(first, text)| first.eq_ignore_ascii_case(byte) && fits(rest, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(command: &str, ours: &str, redis: &str) -> Difference {
        let [command, ours, redis] = [command, ours, redis].map(str::to_owned);
        Difference { at: 0, command, ours, redis }
    }

    #[test]
    fn a_difference_is_declared_with_both_replies_and_its_reason() {
        let text = "# why\n\nSET * GET* | nil | -ERR * | because\nPING | * | * | never\n";
        let declared = Declared::parse(text).unwrap();
        assert!(declared.allows(&difference("set k v NX GET", "nil", "-ERR syntax error")));
        assert!(!declared.allows(&difference("SET k v NX GET", "nil", "+OK")));
        assert!(!declared.allows(&difference("SET k v NX", "nil", "-ERR syntax error")));
        assert_eq!(declared.unused(), ["PING | * | * | never"]);
        assert!(fits(b"KEYS \\*?", b"KEYS *a") && !fits(b"KEYS \\*?", b"KEYS *"));
        assert!(!fits(b"KEYS \\*?", b"KEYS aa"));
        assert!(Declared::parse("SET | nil | because").is_err());
    }
}
