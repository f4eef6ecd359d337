//! A set of permissions: commands, keys, channels. Values only.
//!
//! Rules about commands are gone through once, when they change, so that no call has to.

use std::collections::BTreeSet;

use storage::types::glob;

use super::access::needs;
use crate::command::{Catalog, Flags, Row};

/// What is said of a modifier that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// No such command or category.
    #[error("Unknown command or category name in ACL")]
    Unknown,
    /// No such modifier.
    #[error("Syntax error")]
    Syntax,
    /// `#` and something else.
    #[error(
        "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
    )]
    Hash,
    /// `<` or `!` of a password that is not there.
    #[error("The password you are trying to remove from the user does not exist")]
    NoPassword,
    /// It would change nothing.
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns"
    )]
    AfterAllKeys,
    /// It would change nothing.
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try 'resetchannels' to start with an empty list of channels"
    )]
    AfterAllChannels,
}

/// What a user may not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Run this command.
    Command(&'static str),
    /// Touch this key as the command does.
    Key(Vec<u8>),
    /// Use this channel.
    Channel(Vec<u8>),
}

/// A rule about commands, as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    allows: bool,
    /// `@category`, a name, or `name|argument`, in lower case.
    what: String,
}

/// A pattern of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    text: Vec<u8>,
    read: bool,
    write: bool,
}

/// Whether words end there.
pub(super) fn is_blank(byte: u8) -> bool {
    byte == 0 || byte == 0x0b || byte.is_ascii_whitespace()
}

/// A set of permissions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// `+@all`, before the rules.
    all_commands: bool,
    rules: Vec<Rule>,
    /// What the rules come to: entries of the catalog.
    allowed: BTreeSet<usize>,
    /// Commands that are allowed with this first argument only.
    first: Vec<(usize, String)>,
    all_keys: bool,
    keys: Vec<Pattern>,
    all_channels: bool,
    channels: Vec<Vec<u8>>,
}

impl Selector {
    pub(super) fn everything() -> Self {
        Self { all_commands: true, all_keys: true, all_channels: true, ..Self::default() }
    }

    /// Whether nothing is refused.
    pub(super) fn is_everything(&self) -> bool {
        self.all_commands && self.rules.is_empty() && self.all_keys && self.all_channels
    }

    pub(super) fn change(&mut self, modifier: &str) -> Result<(), RuleError> {
        match modifier.to_ascii_lowercase().as_str() {
            "allcommands" | "+@all" => return self.reset_commands(true),
            "nocommands" | "-@all" => return self.reset_commands(false),
            "allkeys" | "~*" => {
                (self.all_keys, self.keys) = (true, Vec::new());
                return Ok(());
            }
            "resetkeys" => {
                (self.all_keys, self.keys) = (false, Vec::new());
                return Ok(());
            }
            "allchannels" | "&*" => {
                (self.all_channels, self.channels) = (true, Vec::new());
                return Ok(());
            }
            "resetchannels" => {
                (self.all_channels, self.channels) = (false, Vec::new());
                return Ok(());
            }
            _ => {}
        }
        // Lines of a file are divided at blanks: what has one could not be read back.
        if modifier.bytes().any(is_blank) {
            return Err(RuleError::Syntax);
        }
        match modifier.split_at_checked(1) {
            Some(("+", what)) => self.add_rule(true, what),
            Some(("-", what)) => self.add_rule(false, what),
            Some(("~", pattern)) => self.add_keys(pattern, true, true),
            Some(("%", rest)) => {
                let (flags, pattern) = rest.split_once('~').ok_or(RuleError::Syntax)?;
                let (read, write) = match flags.to_ascii_uppercase().as_str() {
                    "R" => (true, false),
                    "W" => (false, true),
                    "RW" | "WR" => (true, true),
                    _ => return Err(RuleError::Syntax),
                };
                self.add_keys(pattern, read, write)
            }
            Some(("&", _)) if self.all_channels => Err(RuleError::AfterAllChannels),
            Some(("&", pattern)) => {
                let pattern = pattern.as_bytes().to_vec();
                if !self.channels.contains(&pattern) {
                    self.channels.push(pattern);
                }
                Ok(())
            }
            _ => Err(RuleError::Syntax),
        }
    }

    fn add_keys(&mut self, pattern: &str, read: bool, write: bool) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::AfterAllKeys);
        }
        if pattern == "*" && read && write {
            (self.all_keys, self.keys) = (true, Vec::new());
            return Ok(());
        }
        let text = pattern.as_bytes().to_vec();
        match self.keys.iter_mut().find(|known| known.text == text) {
            Some(known) => (known.read, known.write) = (known.read || read, known.write || write),
            None => self.keys.push(Pattern { text, read, write }),
        }
        Ok(())
    }

    fn reset_commands(&mut self, all: bool) -> Result<(), RuleError> {
        (self.all_commands, self.rules, self.first) = (all, Vec::new(), Vec::new());
        self.compile();
        Ok(())
    }

    fn add_rule(&mut self, allows: bool, what: &str) -> Result<(), RuleError> {
        let what = what.to_ascii_lowercase();
        let catalog = Catalog::get();
        let is_known = match (what.strip_prefix('@'), what.split_once('|')) {
            (Some(category), _) => catalog.has_category(category),
            (None, None) => catalog.find(&what).is_some(),
            (None, Some((name, argument))) => {
                let container = catalog.find(name).and_then(|at| catalog.entries().get(at));
                let is_container = container.is_some_and(|entry| entry.row.is_container);
                catalog.find(&what).is_some()
                    || allows && container.is_some() && !is_container && !argument.is_empty()
            }
        };
        if !is_known {
            return Err(RuleError::Unknown);
        }
        // An earlier rule about the same says nothing any more; nor does one about a part of it.
        let part = format!("{what}|");
        let is_over = |rule: &Rule| {
            rule.what == what || !what.starts_with('@') && rule.what.starts_with(&part)
        };
        self.rules.retain(|rule| !is_over(rule));
        self.rules.push(Rule { allows, what });
        self.compile();
        Ok(())
    }

    /// Goes through the rules in order; what they come to is kept, so that no call has to.
    fn compile(&mut self) {
        let entries = Catalog::get().entries();
        self.allowed.clear();
        self.first.clear();
        // Without rules nobody looks.
        if self.all_commands && !self.rules.is_empty() {
            self.allowed.extend(0..entries.len());
        }
        for rule in &self.rules {
            let mut is_found = false;
            for (index, entry) in entries.iter().enumerate() {
                let name = entry.row.name;
                let is_meant = match rule.what.strip_prefix('@') {
                    Some(category) => entry.categories.iter().any(|other| other == category),
                    None => name == rule.what || entry.row.first_word() == rule.what,
                };
                if !is_meant {
                    continue;
                }
                is_found = true;
                match rule.allows {
                    true => self.allowed.insert(index),
                    false => self.allowed.remove(&index),
                };
                self.first.retain(|(known, _)| *known != index);
            }
            if let (false, Some((name, argument))) = (is_found, rule.what.split_once('|'))
                && let Some(index) = Catalog::get().find(name)
            {
                self.first.push((index, argument.to_owned()));
            }
        }
    }

    fn allows_command(&self, row: &Row, words: &[&[u8]]) -> bool {
        if self.all_commands && self.rules.is_empty() {
            return true;
        }
        let Some(index) = Catalog::get().find(row.name) else { return false };
        if self.allowed.contains(&index) {
            return true;
        }
        let first = words.get(1).copied().unwrap_or_default();
        let is_it = |argument: &str| argument.as_bytes().eq_ignore_ascii_case(first);
        self.first.iter().any(|(known, argument)| *known == index && is_it(argument))
    }

    fn allows_key(&self, key: &[u8], read: bool, write: bool) -> bool {
        self.all_keys
            || self.keys.iter().any(|pattern| {
                (!read || pattern.read)
                    && (!write || pattern.write)
                    && glob::matches(&pattern.text, key)
            })
    }

    /// Whether a channel may be used; a pattern only if the very same is allowed.
    pub(super) fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_channels
            || self.channels.iter().any(|allowed| match is_pattern {
                true => allowed == channel,
                false => glob::matches(allowed, channel),
            })
    }

    pub(super) fn check(&self, row: &Row, words: &[&[u8]]) -> Result<(), Denied> {
        // What comes before authentication is for everybody.
        if !row.flags.has(Flags::NO_AUTH) && !self.allows_command(row, words) {
            return Err(Denied::Command(row.name));
        }
        let is_shard = row.flags.has(Flags::PUBSUB);
        let count = if is_shard || self.all_keys { 0 } else { row.keys_in(words).count() };
        for (place, key) in row.keys_in(words).take(count).enumerate() {
            let needs = needs(row, words, (place, count));
            if !self.allows_key(key, needs.read, needs.write) {
                return Err(Denied::Key(key.to_vec()));
            }
        }
        if self.all_channels {
            return Ok(());
        }
        for (channel, is_pattern) in channels(row, words) {
            if !self.allows_channel(channel, is_pattern) {
                return Err(Denied::Channel(channel.to_vec()));
            }
        }
        Ok(())
    }

    /// Whether of every key something may be read: what SORT's patterns and labels of time series
    /// lead to is not declared.
    pub(super) fn reads_everything(&self) -> bool {
        self.all_keys || self.keys.iter().any(|pattern| pattern.read && pattern.text == b"*")
    }

    /// The patterns of keys, as they are given.
    pub fn keys_text(&self) -> String {
        if self.all_keys {
            return "~*".to_owned();
        }
        let text = |pattern: &Pattern| {
            let begin = match (pattern.read, pattern.write) {
                (true, true) => "~",
                (true, false) => "%R~",
                (false, _) => "%W~",
            };
            format!("{begin}{}", String::from_utf8_lossy(&pattern.text))
        };
        self.keys.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    /// The patterns of channels, as they are given.
    pub fn channels_text(&self) -> String {
        if self.all_channels {
            return "&*".to_owned();
        }
        let text = |pattern: &Vec<u8>| format!("&{}", String::from_utf8_lossy(pattern));
        self.channels.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    /// The rules about commands, as they are given.
    pub fn commands_text(&self) -> String {
        let mut text = if self.all_commands { "+@all" } else { "-@all" }.to_owned();
        for Rule { allows, what } in &self.rules {
            text.push_str(if *allows { " +" } else { " -" });
            text.push_str(what);
        }
        text
    }

    pub(super) fn describe(&self) -> String {
        let mut parts = vec![self.keys_text()];
        if !self.all_channels {
            parts.push("resetchannels".to_owned());
        }
        parts.extend([self.channels_text(), self.commands_text()]);
        parts.retain(|part| !part.is_empty());
        parts.join(" ")
    }
}

/// The channels that a call names, and whether they are patterns. Ending a subscription takes no
/// permission.
fn channels<'w>(row: &Row, words: &'w [&'w [u8]]) -> impl Iterator<Item = (&'w [u8], bool)> {
    let (count, is_pattern) = match row.name {
        "publish" | "spublish" | "mpublish" => (1, false),
        "subscribe" | "ssubscribe" => (usize::MAX, false),
        "psubscribe" => (usize::MAX, true),
        _ => (0, false),
    };
    words.iter().skip(1).take(count).map(move |word| (*word, is_pattern))
}
