//! Users and what they may do, as in Redis 7.
//!
//! A connection is of one user; the gate `session::gates::permitted` asks once for every command,
//! also for those of EXEC. Peers are no users: what they may do, `peer-auth` says. Users belong to
//! a node, as in Redis: each node of a cluster is told by itself, by its file.
//!
//! Invariant: a user that is changed is changed for all of its connections, and one that is gone
//! has none.

mod access;
pub mod log;
pub mod selector;
pub mod user;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::command::Row;

pub(crate) use access::needs;
use log::{Log, Reason};
use selector::Denied;
use user::{User, join_selectors};

/// The user of connections that name none.
pub const DEFAULT: &str = "default";

/// A user as its connections hold it.
#[derive(Debug)]
pub struct Account {
    /// Its name.
    pub name: String,
    user: ArcSwap<User>,
    /// Nothing is refused: every command looks.
    is_unrestricted: AtomicBool,
}

impl Account {
    fn new(name: &str, user: User) -> Arc<Self> {
        let is_unrestricted = AtomicBool::new(user.is_unrestricted());
        Arc::new(Self { name: name.to_owned(), user: ArcSwap::from_pointee(user), is_unrestricted })
    }

    /// What it is now.
    pub fn user(&self) -> Arc<User> {
        self.user.load_full()
    }

    /// Whether nothing is refused.
    pub fn is_unrestricted(&self) -> bool {
        self.is_unrestricted.load(Ordering::Acquire)
    }

    /// What it may not, of that command with these words; `None` if it may.
    pub fn refusal(&self, command: &Row, words: &[&[u8]]) -> Option<NotPermitted> {
        if self.is_unrestricted() {
            return None;
        }
        let denied = self.user().check(command, words).err()?;
        let (reason, object, text) = match denied {
            Denied::Command(name) => {
                let text = format!("NOPERM {}", may_not_run(&self.name, name));
                (Reason::Command, name.as_bytes().to_vec(), text)
            }
            Denied::Key(key) => (Reason::Key, key, NO_KEY.to_owned()),
            Denied::Channel(channel) => (Reason::Channel, channel, NO_CHANNEL.to_owned()),
        };
        Some(NotPermitted { reason, object, text })
    }

    fn put(&self, user: User) {
        // In between a call may be looked at that need not be; none is let through that must be.
        self.is_unrestricted.store(false, Ordering::Release);
        let is_unrestricted = user.is_unrestricted();
        self.user.store(Arc::new(user));
        self.is_unrestricted.store(is_unrestricted, Ordering::Release);
    }
}

const NO_KEY: &str = "NOPERM No permissions to access a key";
const NO_CHANNEL: &str = "NOPERM No permissions to access a channel";

/// What is said of a command that a user may not run, in the words of Redis 7.2.
pub fn may_not_run(user: &str, command: &str) -> String {
    format!("User {user} has no permissions to run the '{command}' command")
}

/// What a user may not, as ACL LOG and its client are told.
#[derive(Debug, PartialEq, Eq)]
pub struct NotPermitted {
    /// What is in the way.
    pub reason: Reason,
    /// The command, key or channel.
    pub object: Vec<u8>,
    /// The reply, without the leading `-`.
    pub text: String,
}

/// All users of a node.
#[derive(Debug)]
pub struct Acl {
    default: Arc<Account>,
    others: Mutex<BTreeMap<String, Arc<Account>>>,
    /// What was refused.
    pub log: Log,
}

impl Default for Acl {
    fn default() -> Self {
        Self {
            default: Account::new(DEFAULT, User::unrestricted()),
            others: Mutex::default(),
            log: Log::default(),
        }
    }
}

/// Whether a user can have this name: lines of a file are divided at blanks.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name != "#" && !name.bytes().any(selector::is_blank)
}

impl Acl {
    /// The user of connections that name none.
    pub fn default_account(&self) -> &Arc<Account> {
        &self.default
    }

    /// The user of that name.
    pub fn find(&self, name: &str) -> Option<Arc<Account>> {
        if name == DEFAULT {
            return Some(Arc::clone(&self.default));
        }
        self.others.lock().get(name).cloned()
    }

    /// Whether it is still a user's.
    pub fn has(&self, account: &Arc<Account>) -> bool {
        self.find(&account.name).is_some_and(|known| Arc::ptr_eq(&known, account))
    }

    /// All users, by name.
    pub fn all(&self) -> Vec<Arc<Account>> {
        let mut all: Vec<_> = self.others.lock().values().cloned().collect();
        all.push(Arc::clone(&self.default));
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Changes a user, or makes one: all of it or nothing.
    ///
    /// # Errors
    /// Redis' text for what is wrong.
    pub fn set(&self, name: &str, modifiers: &[&str]) -> Result<(), String> {
        let mut others = self.others.lock();
        let present = if name == DEFAULT { Some(&self.default) } else { others.get(name) };
        let mut user = present.map_or_else(User::new, |account| User::clone(&account.user()));
        for modifier in join_selectors(modifiers)? {
            user.change(&modifier)
                .map_err(|error| format!("Error in ACL SETUSER modifier '{modifier}': {error}"))?;
        }
        // `requirepass` is nobody else's.
        user.has_own_alone &= name == DEFAULT;
        match present {
            Some(account) => account.put(user),
            None => {
                others.insert(name.to_owned(), Account::new(name, user));
            }
        }
        Ok(())
    }

    /// `requirepass` was set, which makes it a password of the default user.
    pub fn take_requirepass(&self) {
        let _one_at_a_time = self.others.lock();
        let mut user = User::clone(&self.default.user());
        if user.has_own_alone {
            user.has_own_alone = false;
            self.default.put(user);
        }
    }

    /// Removes a user; false if there was none. The default one stays.
    pub fn remove(&self, name: &str) -> bool {
        self.others.lock().remove(name).is_some()
    }

    /// The lines of a file that make these users, in order.
    pub fn lines(&self) -> Vec<String> {
        let line = |account: Arc<Account>| {
            let user = account.user();
            let first = if user.has_own_alone { "resetpass " } else { "" };
            format!("user {} {first}{}", account.name, user.describe())
        };
        self.all().into_iter().map(line).collect()
    }

    /// These users instead, as lines `user NAME MODIFIER…` say; the names of users that are gone or
    /// different now.
    ///
    /// # Errors
    /// Number of the line and what is wrong with it; nothing was changed.
    pub fn replace(&self, text: &str) -> Result<Vec<String>, String> {
        let read = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            read.add_line(line).map_err(|why| format!("line {}: {why}", index + 1))?;
        }
        let mut others = self.others.lock();
        let next = read.others.into_inner();
        let mut changed = Vec::new();
        if *self.default.user() != *read.default.user() {
            changed.push(DEFAULT.to_owned());
            self.default.put(User::clone(&read.default.user()));
        }
        others.retain(|name, account| {
            let stays = next.get(name).is_some_and(|other| *other.user() == *account.user());
            if !stays {
                changed.push(name.clone());
            }
            stays
        });
        for (name, account) in next {
            others.entry(name).or_insert(account);
        }
        Ok(changed)
    }

    /// Takes a line `user NAME MODIFIER…`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add_line(&self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [user, name, modifiers @ ..] = words.as_slice() else {
            return Err("`user`, a name and modifiers are needed".into());
        };
        if *user != "user" || !is_name(name) {
            return Err("it must begin with `user` and a name".into());
        }
        if *name == DEFAULT {
            // Nothing of what it may do without a word stays.
            self.default.put(User::new());
        } else if self.find(name).is_some() {
            return Err(format!("user `{name}` is there twice"));
        }
        self.set(name, modifiers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_replaces_all_users_or_none() {
        crate::shell::table();
        let acl = Acl::default();
        acl.set("a", &["on", "nopass", "+get"]).unwrap();
        acl.set("b", &["on"]).unwrap();
        assert_eq!(
            acl.set("a", &["+set", "+nosuch"]).unwrap_err(),
            "Error in ACL SETUSER modifier '+nosuch': Unknown command or category name in ACL"
        );
        let lines = acl.lines();
        assert_eq!(lines[0], "user a on nopass resetchannels -@all +get");
        assert_eq!(lines[2], "user default on nopass ~* &* +@all");
        let (account, other) = (acl.find("a").unwrap(), acl.find("b").unwrap());
        let text = format!("# mine\n\n{}\nuser c off\n", lines[0]);
        assert_eq!(acl.replace(&text), Ok(vec!["b".to_owned()]));
        assert!(acl.has(&account) && acl.find("b").is_none());
        acl.set("b", &["on"]).unwrap();
        assert!(!acl.has(&other), "another one of the same name");
        assert!(acl.remove("b"));
        let before = acl.lines();
        for wrong in ["usr a on\n", "user a on\nuser a on\n", "user a +nosuch\n", "user\n"] {
            assert!(acl.replace(wrong).unwrap_err().starts_with("line "), "{wrong}");
        }
        assert_eq!(acl.lines(), before);
        assert_eq!(
            acl.replace("user default off\n"),
            Ok(vec![DEFAULT.to_owned(), "a".to_owned(), "c".to_owned()])
        );
        assert!(!acl.default_account().user().is_on);
    }

    #[test]
    fn a_change_is_seen_by_who_holds_the_account() {
        crate::shell::table();
        let acl = Acl::default();
        let account = Arc::clone(acl.default_account());
        assert!(account.is_unrestricted());
        acl.set(DEFAULT, &["-@dangerous"]).unwrap();
        assert!(!account.is_unrestricted());
        acl.set(DEFAULT, &["+@all"]).unwrap();
        assert!(account.is_unrestricted() && !acl.remove(DEFAULT));
    }
}
