//! One user: who it is, and what it may do. Values only.
//!
//! Words and rules are Redis 7's. A user has a [`Selector`], and may have more: a call is allowed
//! if one of them allows all of it.

use sha2::{Digest as _, Sha256};

use super::selector::{Denied, RuleError, Selector};
use crate::command::Row;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// It may log in.
    pub is_on: bool,
    /// Any password will do.
    pub is_open: bool,
    /// `sanitize-payload` or its contrary, where it was said; it changes nothing here.
    sanitizes: Option<bool>,
    /// SHA-256, in hexadecimal digits.
    pub passwords: Vec<String>,
    /// All passwords were taken from it, and `requirepass` with them, which was not set since. Of
    /// the default user alone.
    pub has_own_alone: bool,
    /// What it may do by itself.
    pub root: Selector,
    /// What it may do besides, each for itself.
    pub selectors: Vec<Selector>,
}

impl User {
    /// As SETUSER makes one: it may do nothing.
    pub fn new() -> Self {
        Self {
            is_on: false,
            is_open: false,
            sanitizes: None,
            passwords: Vec::new(),
            has_own_alone: false,
            root: Selector::default(),
            selectors: Vec::new(),
        }
    }

    /// The default user as it is before anybody changes it: it may do everything, without a
    /// password.
    pub fn unrestricted() -> Self {
        Self { is_on: true, is_open: true, root: Selector::everything(), ..Self::new() }
    }

    /// Whether nothing is refused.
    pub fn is_unrestricted(&self) -> bool {
        self.root.is_everything()
    }

    /// Applies a modifier of SETUSER.
    ///
    /// # Errors
    /// Why it is none.
    pub fn change(&mut self, modifier: &str) -> Result<(), RuleError> {
        if let Some(inside) = modifier.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            let mut selector = Selector::default();
            for modifier in inside.split_ascii_whitespace() {
                selector.change(modifier)?;
            }
            self.selectors.push(selector);
            return Ok(());
        }
        match modifier.to_ascii_lowercase().as_str() {
            "on" => self.is_on = true,
            "off" => self.is_on = false,
            // Where there is a `requirepass`, it is asked for all the same.
            "nopass" => {
                (self.is_open, self.passwords, self.has_own_alone) = (true, Vec::new(), false);
            }
            "resetpass" => {
                (self.is_open, self.passwords, self.has_own_alone) = (false, Vec::new(), true);
            }
            "sanitize-payload" => self.sanitizes = Some(true),
            "skip-sanitize-payload" => self.sanitizes = Some(false),
            "clearselectors" => self.selectors.clear(),
            "reset" => {
                *self = Self { sanitizes: Some(true), has_own_alone: true, ..Self::new() };
            }
            _ => return self.change_passwords_or_root(modifier),
        }
        Ok(())
    }

    fn change_passwords_or_root(&mut self, modifier: &str) -> Result<(), RuleError> {
        let Some((begin, rest)) = modifier.split_at_checked(1) else {
            return Err(RuleError::Syntax);
        };
        let hash = match begin {
            ">" | "<" => hash(rest.as_bytes()),
            "#" | "!" if is_hash(rest) => rest.to_owned(),
            "#" | "!" => return Err(RuleError::Hash),
            _ => return self.root.change(modifier),
        };
        if matches!(begin, ">" | "#") {
            if !self.passwords.contains(&hash) {
                self.passwords.push(hash);
            }
            self.is_open = false;
            return Ok(());
        }
        let before = self.passwords.len();
        self.passwords.retain(|known| *known != hash);
        if self.passwords.len() == before { Err(RuleError::NoPassword) } else { Ok(()) }
    }

    /// Whether this password lets one in.
    pub fn accepts(&self, password: &[u8]) -> bool {
        let given = hash(password);
        self.is_on && (self.is_open || self.passwords.iter().any(|known| is_same(known, &given)))
    }

    /// Whether it may run this.
    ///
    /// # Errors
    /// What it may not, by the selector that allows most.
    pub fn check(&self, row: &Row, words: &[&[u8]]) -> Result<(), Denied> {
        let mut worst = match self.root.check(row, words) {
            Ok(()) => return self.check_unnamed(row, words),
            Err(denied) => denied,
        };
        for selector in &self.selectors {
            match selector.check(row, words) {
                Ok(()) => return self.check_unnamed(row, words),
                // Closer to being allowed is what is told.
                Err(denied) if matches!(worst, Denied::Command(_)) => worst = denied,
                Err(_) => {}
            }
        }
        Err(worst)
    }

    /// Whether it may read of keys that its words do not name.
    fn check_unnamed(&self, row: &Row, words: &[&[u8]]) -> Result<(), Denied> {
        let mut selectors = std::iter::once(&self.root).chain(&self.selectors);
        let pattern = match row.name {
            "sort" | "sort_ro" => words.windows(2).skip(2).find_map(|pair| match pair {
                [word, pattern] => {
                    let is_by = word.eq_ignore_ascii_case(b"by") && pattern.contains(&b'*');
                    let is_get = word.eq_ignore_ascii_case(b"get") && *pattern != b"#";
                    (is_by || is_get).then_some(*pattern)
                }
                _ => None,
            }),
            // Series are found by their labels, whatever their keys are.
            "ts.mget" | "ts.mrange" | "ts.mrevrange" | "ts.queryindex" => Some(b"*".as_slice()),
            _ => None,
        };
        match pattern {
            // The one that allows the command has to allow what it looks up, too.
            Some(pattern)
                if !selectors.any(|selector| {
                    selector.reads_everything() && selector.check(row, words).is_ok()
                }) =>
            {
                Err(Denied::Key(pattern.to_vec()))
            }
            _ => Ok(()),
        }
    }

    /// Whether it may go on with a subscription.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        let mut selectors = std::iter::once(&self.root).chain(&self.selectors);
        selectors.any(|selector| selector.allows_channel(channel, is_pattern))
    }

    /// The flags that GETUSER shows.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.is_on { "on" } else { "off" }];
        if self.is_open {
            flags.push("nopass");
        }
        flags.extend(self.sanitizes.map(|sanitizes| match sanitizes {
            true => "sanitize-payload",
            false => "skip-sanitize-payload",
        }));
        flags
    }

    /// The modifiers that make it.
    pub fn describe(&self) -> String {
        let mut parts: Vec<String> = self.flags().into_iter().map(str::to_owned).collect();
        parts.extend(self.passwords.iter().map(|hash| format!("#{hash}")));
        parts.push(self.root.describe());
        parts.extend(self.selectors.iter().map(|selector| format!("({})", selector.describe())));
        parts.join(" ")
    }
}

impl Default for User {
    fn default() -> Self {
        Self::new()
    }
}

/// SHA-256 in hexadecimal digits: passwords are kept no other way.
pub fn hash(password: &[u8]) -> String {
    Sha256::digest(password).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Compares in time that does not depend on where the difference is.
fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one.bytes().zip(other.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// Modifiers in order, those of a selector that was given in several words put together.
///
/// # Errors
/// The text of an error for a parenthesis that is not closed.
pub fn join_selectors(words: &[&str]) -> Result<Vec<String>, String> {
    let mut joined: Vec<String> = Vec::with_capacity(words.len());
    let mut open: Option<String> = None;
    for word in words {
        let text = match open.take() {
            Some(begun) => format!("{begun} {word}"),
            None => (*word).to_owned(),
        };
        match text.starts_with('(') && !text.ends_with(')') {
            true => open = Some(text),
            false => joined.push(text),
        }
    }
    match open {
        Some(begun) => Err(format!("Unmatched parenthesis in acl selector starting at '{begun}'.")),
        None => Ok(joined),
    }
}

#[cfg(test)]
mod tests;
