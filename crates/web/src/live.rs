//! A configuration of which a part may change while its process runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::authority::{BadName, Names};
use crate::certs::Fault;
use crate::tls::{Files, Tls};

/// A configuration file of a process with an HTTP port.
pub trait Settings: Clone + Send + Sync + 'static {
    /// Why a file cannot be used.
    type Error: std::error::Error + From<BadName> + From<Fault> + Send + Sync + 'static;

    /// Reads and checks a file.
    ///
    /// # Errors
    /// It cannot be read, or says what cannot be.
    fn load(path: &Path) -> Result<Self, Self::Error>;

    /// Looks at the values, each and together.
    ///
    /// # Errors
    /// One that cannot be.
    fn check(&self) -> Result<(), Self::Error>;

    /// The keys that an error is about, as a file spells them (`limits.drain_ms`), the one that is
    /// at fault first; empty where it is about the whole file, or names its line itself.
    fn keys_of(error: &Self::Error) -> Vec<&'static str>;

    /// The token that requests must carry.
    fn token(&self) -> Option<&str>;

    /// Names, beside its own addresses, that the port answers to.
    fn allowed_hosts(&self) -> &[String];

    /// What TLS is spoken with.
    fn tls(&self) -> &Files;

    /// Level and file of the log.
    fn log(&self) -> (&str, Option<&PathBuf>);

    /// In what `read` differs from these.
    fn differences(&self, read: &Self) -> Reloaded;

    /// Takes from `read` what may change at run time.
    fn adopt(&mut self, read: Self);
}

/// Keys of a file that was read again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// In force from now on.
    pub changed: Vec<&'static str>,
    /// Different in the file, and in force after a restart.
    pub restart: Vec<&'static str>,
}

impl Reloaded {
    /// From keys and whether each differs: the live ones, and the others.
    pub fn of(live: &[(&'static str, bool)], others: &[(&'static str, bool)]) -> Self {
        let names = |list: &[(&'static str, bool)]| {
            list.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect()
        };
        Self { changed: names(live), restart: names(others) }
    }
}

/// The configuration that is in force.
#[derive(Debug)]
pub struct Live<C> {
    config: RwLock<Arc<C>>,
    names: RwLock<Names>,
    tls: Arc<Tls>,
}

impl<C: Settings> Live<C> {
    /// # Errors
    /// Values that cannot be, files of TLS that cannot be used.
    pub fn new(config: C) -> Result<Self, C::Error> {
        config.check()?;
        let names = Names::parse(config.allowed_hosts())?;
        let tls = Arc::new(Tls::read(config.tls())?);
        Ok(Self { config: RwLock::new(Arc::new(config)), names: RwLock::new(names), tls })
    }

    /// What is in force now.
    pub fn config(&self) -> Arc<C> {
        Arc::clone(&self.config.read())
    }

    /// What TLS is spoken with.
    pub fn tls(&self) -> &Arc<Tls> {
        &self.tls
    }

    /// The names that [`crate::Door`] asks for.
    pub fn names(&self) -> Names {
        self.names.read().clone()
    }

    /// Whether a request may come in: none but `Bearer <token>` does where there is a token.
    pub fn lets_in(&self, authorization: Option<&[u8]>) -> bool {
        self.admits(authorization) != Admission::Stranger
    }

    /// The same, and why.
    pub fn admits(&self, authorization: Option<&[u8]>) -> Admission {
        let config = self.config.read();
        let Some(token) = config.token() else { return Admission::Open };
        match bearer(authorization).is_some_and(|given| same(given, token.as_bytes())) {
            true => Admission::Token,
            false => Admission::Stranger,
        }
    }

    /// Reads the file, and those of TLS that it names, and takes what is live from it: all or,
    /// after an error, nothing.
    ///
    /// # Errors
    /// Those of the file, and what is live in it does not fit to what stays.
    pub fn reload(&self, path: &Path) -> Result<Reloaded, C::Error> {
        let read = C::load(path)?;
        let now = self.config();
        let reloaded = now.differences(&read);
        let mut next = C::clone(&now);
        next.adopt(read);
        next.check()?;
        let names = Names::parse(next.allowed_hosts())?;
        // Files of the same name may hold others.
        self.tls.renew(next.tls())?;
        *self.config.write() = Arc::new(next);
        *self.names.write() = names;
        Ok(reloaded)
    }
}

/// What the configuration makes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// No token is configured: anybody may come in.
    Open,
    /// It carries the configured token.
    Token,
    /// It does not.
    Stranger,
}

/// The token in the value of an `Authorization` header.
pub fn bearer(authorization: Option<&[u8]>) -> Option<&[u8]> {
    authorization?.strip_prefix(b"Bearer ")
}

/// Compares in a time that depends on the length of `given` only.
pub fn same(given: &[u8], wanted: &[u8]) -> bool {
    let mut difference = u8::from(given.len() != wanted.len());
    for (index, byte) in given.iter().enumerate() {
        difference |= byte ^ wanted.get(index % wanted.len().max(1)).copied().unwrap_or(0);
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_token_is_the_same() {
        assert!(same(b"secret", b"secret"));
        for other in ["", "secre", "secrets", "secreT", "secretsecret"] {
            assert!(!same(other.as_bytes(), b"secret"), "{other}");
        }
    }

    #[test]
    fn a_token_is_what_follows_the_word_bearer() {
        assert_eq!(bearer(Some(b"Bearer x y")), Some(&b"x y"[..]));
        for other in [None, Some(&b"bearer x"[..]), Some(b"Bearer"), Some(b"x")] {
            assert_eq!(bearer(other), None);
        }
    }
}
