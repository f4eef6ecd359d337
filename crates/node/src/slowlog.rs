//! SLOWLOG: the commands that took longest lately.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::command::Flags;
use crate::config::value::DumpLevel;
use crate::config::{Values, options};

/// Arguments kept per entry, and bytes kept per argument (Redis: `SLOWLOG_ENTRY_MAX_ARGC`,
/// `…_MAX_STRING`).
const ARGUMENTS_MAX: usize = 32;
const BYTES_MAX: usize = 128;
/// Bytes kept of a client's name, which may be of any length and is in each of its entries.
const NAME_MAX: usize = 1024;

/// One slow command.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Rises by one per entry.
    pub id: u64,
    /// Unix seconds.
    pub at: u64,
    /// Microseconds it took.
    pub micros: u64,
    /// The command, shortened.
    pub words: Vec<Vec<u8>>,
    /// Address of the client.
    pub client: String,
    /// Its name, or the beginning of a long one.
    pub name: String,
}

/// The log.
#[derive(Debug, Default)]
pub struct Slowlog {
    next: AtomicU64,
    entries: Mutex<VecDeque<Entry>>,
}

impl Slowlog {
    /// Adds an entry, and keeps as many and tells the log as the options say.
    pub fn add(&self, mut entry: Entry, config: &Values) {
        let limit = usize::try_from(config.slowlog_max_len).unwrap_or(0);
        tell(&entry, config.slowlog_dump_logfile_level);
        entry.id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.entries.lock();
        entries.push_front(entry);
        entries.truncate(limit);
    }

    /// The newest entries.
    pub fn newest(&self, count: usize) -> Vec<Entry> {
        self.entries.lock().iter().take(count).cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.entries.lock().clear();
    }
}

/// Writes an entry to the log of the process.
fn tell(entry: &Entry, level: DumpLevel) {
    let words = || {
        let words: Vec<String> =
            entry.words.iter().map(|word| word.escape_ascii().to_string()).collect();
        words.join(" ")
    };
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(
                command = words(),
                micros = entry.micros,
                client = entry.client,
                name = entry.name,
                "slow command"
            )
        };
    }
    match level {
        DumpLevel::Off => {}
        DumpLevel::Debug => tell!(debug),
        DumpLevel::Info => tell!(info),
        DumpLevel::Warning => tell!(warn),
    }
}

/// Whether a command that took so long is noted.
pub fn is_slow(config: &Values, flags: Flags, micros: u64) -> bool {
    let limit = config.slowlog_log_slower_than;
    u64::try_from(limit).is_ok_and(|limit| micros >= limit) && !flags.has(Flags::SKIP_SLOWLOG)
}

/// What stands in place of a secret, as in Redis.
const REDACTED: &[u8] = b"(redacted)";

/// Which words of a command are secrets: of AUTH all, of HELLO what follows AUTH, of CONFIG SET the
/// values of secret options. `command` is its own name, whatever `rename-command` calls it.
fn is_secret(command: &str, words: &[&[u8]], index: usize) -> bool {
    let is = |at: usize, word: &str| {
        words.get(at).is_some_and(|it| it.eq_ignore_ascii_case(word.as_bytes()))
    };
    if command == "auth" {
        return index > 0;
    }
    if command == "hello" {
        return (1..index).rev().take(2).any(|at| is(at, "auth"));
    }
    if command == "config" && is(1, "set") && index > 2 && index % 2 == 1 {
        let option = words.get(index - 1).and_then(|name| std::str::from_utf8(name).ok());
        return option.and_then(options::find).is_some_and(|option| option.is_secret);
    }
    false
}

/// The name of a client as an entry keeps it.
pub fn shorten_name(name: &str) -> String {
    name[..name.floor_char_boundary(NAME_MAX)].to_owned()
}

/// Words as an entry keeps them, of the command (a container, if it is in one) of that own name.
pub fn shorten(command: &str, words: &[&[u8]]) -> Vec<Vec<u8>> {
    let shown: Vec<&[u8]> = (words.iter().enumerate())
        .map(|(index, word)| if is_secret(command, words, index) { REDACTED } else { word })
        .collect();
    let words = shown.as_slice();
    let kept = if words.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { words.len() };
    let mut short: Vec<Vec<u8>> = words.iter().take(kept).map(|word| shorten_word(word)).collect();
    if kept < words.len() {
        short.push(format!("... ({} more arguments)", words.len() - kept).into_bytes());
    }
    short
}

fn shorten_word(word: &[u8]) -> Vec<u8> {
    if word.len() <= BYTES_MAX {
        return word.to_vec();
    }
    let mut short = word[..BYTES_MAX].to_vec();
    short.extend_from_slice(format!("... ({} more bytes)", word.len() - BYTES_MAX).as_bytes());
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_kept() {
        let kept_of = |command: &str, line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            String::from_utf8(shorten(command, &words).join(&b' ')).unwrap()
        };
        let kept = |line: &str| {
            let command = line.split(' ').next().unwrap_or_default().to_lowercase();
            kept_of(&command, line)
        };
        assert_eq!(kept("AUTH s3cret"), "AUTH (redacted)");
        assert_eq!(kept("auth user s3cret"), "auth (redacted) (redacted)");
        let hello = "HELLO 3 AUTH (redacted) (redacted) SETNAME me";
        assert_eq!(kept("HELLO 3 AUTH user s3cret SETNAME me"), hello);
        let set = "config set maxclients 10 RequirePass (redacted) peer-auth (redacted)";
        assert_eq!(kept("config set maxclients 10 RequirePass a peer-auth b"), set);
        // By another name they are as secret.
        assert_eq!(kept_of("config", "cfg set requirepass a"), "cfg set requirepass (redacted)");
        assert_eq!(kept_of("set", "config set requirepass a"), "config set requirepass a");
        assert_eq!(kept("set auth value"), "set auth value");
        assert_eq!(kept("config get requirepass x"), "config get requirepass x");
    }

    #[test]
    fn of_long_names_the_beginning_is_kept() {
        assert_eq!(shorten_name("me"), "me");
        let long = format!("m{}", "\u{e9}".repeat(NAME_MAX));
        // A letter of two bytes is whole, or not there.
        assert_eq!(shorten_name(&long), long[..NAME_MAX - 1]);
    }
}
