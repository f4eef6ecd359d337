//! Namespaces: several key spaces in one database, each reached by a token of its own.
//!
//! Behaviour is Kvrocks'. A token is a password: a connection that authenticates with it sees the
//! keys of its namespace and is no administrator. Tokens stand in the configuration file, or, with
//! `repl-namespace-enabled`, in the database, from where replicas have them too.
//!
//! Not here: the commands (`families::server::namespace`), and keys, which carry their namespace
//! ([`storage::Scope`]).

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use storage::changes::{self, Change, NAMESPACES};
use storage::{DEFAULT_NAMESPACE, Family, Store};

pub use crate::config::Tokens;
use crate::config::Values;

/// Longest name, in bytes: keys carry its length in one.
pub const NAME_MAX: usize = 255;

/// Why a namespace is not as it was asked for. The words are Kvrocks'.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// [`check_name`].
    #[error("{0}")]
    Name(&'static str),
    /// Without one, nobody needs a token.
    #[error("forbidden to add namespace when requirepass was empty")]
    NoPassword,
    /// Keys of a cluster belong to the default namespace.
    #[error("forbidden to add namespace when cluster mode was enabled")]
    Cluster,
    /// SELECT names key spaces by their numbers, which a namespace could have too.
    #[error("forbidden to add namespace when redis-databases was enabled")]
    Databases,
    /// It is there without a token.
    #[error("forbidden to add the default namespace")]
    AddDefault,
    /// As above.
    #[error("forbidden to delete the default namespace")]
    DeleteDefault,
    /// An empty token.
    #[error("the token must not be empty")]
    NoToken,
    /// A token that is a password.
    #[error("the token is duplicated with requirepass or masterauth")]
    Password,
    /// ADD of one that has another token.
    #[error("the namespace already exists")]
    Exists,
    /// The token of another namespace.
    #[error("the token already exists")]
    TokenExists,
    /// DEL of none.
    #[error("the namespace was not found")]
    NotFound,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Wish<'a> {
    /// Another namespace.
    Add(&'a str, &'a str),
    /// A namespace, new or not, and its token.
    Set(&'a str, &'a str),
    /// None of that name. Its keys stay.
    Delete(&'a str),
}

/// Whether a namespace can have this name, also in a configuration file.
///
/// # Errors
/// Why not.
pub fn check_name(name: &str) -> Result<(), Refused> {
    if name.is_empty() {
        return Err(Refused::Name("the namespace must have a name"));
    }
    if name.len() > NAME_MAX {
        return Err(Refused::Name("size exceed limit 255"));
    }
    if name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(Refused::Name("namespace contain illegal letter"));
    }
    Ok(())
}

/// The tokens as they are to be; `None` if they are so already.
///
/// # Errors
/// Why they stay as they are.
pub fn plan(tokens: &Tokens, values: &Values, wish: Wish<'_>) -> Result<Option<Tokens>, Refused> {
    let is_default = |name: &str| name.as_bytes() == DEFAULT_NAMESPACE;
    let present = |name: &str| tokens.iter().find(|(_, namespace)| *namespace == name);
    let (name, token) = match wish {
        Wish::Delete(name) if is_default(name) => return Err(Refused::DeleteDefault),
        Wish::Delete(name) => {
            let (token, _) = present(name).ok_or(Refused::NotFound)?;
            let mut next = tokens.clone();
            next.remove(&token.clone());
            return Ok(Some(next));
        }
        Wish::Add(name, token) => match present(name) {
            Some((other, _)) if other == token => return Ok(None),
            Some(_) => return Err(Refused::Exists),
            None => (name, token),
        },
        Wish::Set(name, token) => (name, token),
    };
    check_name(name)?;
    if values.requirepass.is_empty() {
        return Err(Refused::NoPassword);
    }
    if values.cluster_enabled {
        return Err(Refused::Cluster);
    }
    if values.redis_databases > 0 {
        return Err(Refused::Databases);
    }
    if is_default(name) {
        return Err(Refused::AddDefault);
    }
    if token.is_empty() {
        return Err(Refused::NoToken);
    }
    if values.secrets().iter().any(|(_, secret)| *secret == token) {
        return Err(Refused::Password);
    }
    match tokens.get(token) {
        Some(namespace) if namespace == name => return Ok(None),
        Some(_) => return Err(Refused::TokenExists),
        None => {}
    }
    let mut next = tokens.clone();
    next.retain(|_, namespace| namespace != name);
    next.insert(token.to_owned(), name.to_owned());
    Ok(Some(next))
}

/// The namespaces of a node.
#[derive(Debug, Default)]
pub struct Namespaces {
    tokens: ArcSwap<Tokens>,
    changing: Mutex<()>,
}

impl Namespaces {
    /// These, before the database was looked into.
    pub fn new(tokens: Tokens) -> Self {
        Self { tokens: ArcSwap::from_pointee(tokens), changing: Mutex::new(()) }
    }

    /// The current tokens.
    pub fn tokens(&self) -> Arc<Tokens> {
        self.tokens.load_full()
    }

    /// Held from the look at the tokens to the change.
    pub fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock()
    }

    /// The same for one that may not wait.
    pub fn try_change(&self) -> Option<MutexGuard<'_, ()>> {
        self.changing.try_lock()
    }

    /// These from now on.
    pub fn put_in_force(&self, tokens: Tokens) {
        self.tokens.store(Arc::new(tokens));
    }

    /// Whose token it is.
    pub fn of_token(&self, token: &[u8]) -> Option<Arc<[u8]>> {
        let token = std::str::from_utf8(token).ok()?;
        self.tokens.load().get(token).map(|namespace| namespace.as_bytes().into())
    }
}

/// The tokens that a database holds; `None` if it holds none, or such that cannot be read.
pub fn stored(store: &Store) -> Option<Tokens> {
    match store.txn().get(Family::Propagate, NAMESPACES) {
        Ok(value) => parse(&value?),
        Err(error) => {
            tracing::error!(%error, "cannot read the tokens of namespaces");
            None
        }
    }
}

fn parse(json: &[u8]) -> Option<Tokens> {
    match serde_json::from_slice::<Tokens>(json) {
        Ok(tokens) => Some(tokens),
        Err(error) => {
            tracing::error!(%error, "the tokens of namespaces in the database make no sense");
            None
        }
    }
}

/// The tokens as a database holds them, as Kvrocks writes them.
pub fn to_json(tokens: &Tokens) -> Vec<u8> {
    // Text to text: nothing in it cannot be written.
    serde_json::to_vec(tokens).unwrap_or_default()
}

impl Namespaces {
    /// Looks into a database that was put in service. What stands there counts beside what stands
    /// in the configuration file, as in Kvrocks.
    pub fn look_into(&self, values: &Values, store: &Store) {
        if values.cluster_enabled || !values.repl_namespace_enabled {
            return;
        }
        let mut tokens = stored(store).unwrap_or_default();
        // With both, SELECT 0 would lead a tenant to the keys of all.
        if values.redis_databases > 0 {
            if !tokens.is_empty() {
                let count = tokens.len();
                tracing::warn!(
                    count,
                    "tokens of namespaces in the database are not in force: there are either \
                     namespaces or redis-databases"
                );
            }
            return;
        }
        for (token, namespace) in &values.namespaces {
            tokens.entry(token.clone()).or_insert_with(|| namespace.clone());
        }
        self.put_in_force(tokens);
    }

    /// Takes up the tokens that a batch of the master holds, if it holds any.
    pub fn take_up(&self, values: &Values, batch: &[u8]) {
        let has_databases = values.redis_databases > 0;
        if !values.repl_namespace_enabled
            || has_databases
            || memchr::memmem::find(batch, NAMESPACES).is_none()
        {
            return;
        }
        for change in changes::of(batch, values.cluster_enabled) {
            if let Change::Namespaces(json) = change
                && let Some(tokens) = parse(json)
            {
                self.put_in_force(tokens);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_one_token_and_a_token_one_namespace() {
        let values = Values { requirepass: "secret".into(), ..Values::default() };
        let mut tokens = Tokens::new();
        let mut ask = |wish| match plan(&tokens, &values, wish)? {
            Some(next) => {
                tokens = next;
                Ok::<_, Refused>(true)
            }
            None => Ok(false),
        };
        assert_eq!(ask(Wish::Add("ns1", "tok1")), Ok(true));
        assert_eq!(ask(Wish::Add("ns1", "tok1")), Ok(false));
        assert_eq!(ask(Wish::Add("ns1", "tok2")), Err(Refused::Exists));
        assert_eq!(ask(Wish::Add("ns2", "tok1")), Err(Refused::TokenExists));
        assert_eq!(ask(Wish::Set("ns2", "tok1")), Err(Refused::TokenExists));
        assert_eq!(ask(Wish::Add("ns2", "secret")), Err(Refused::Password));
        assert_eq!(ask(Wish::Add("ns2", "")), Err(Refused::NoToken));
        assert_eq!(ask(Wish::Add("__namespace", "tok9")), Err(Refused::AddDefault));
        assert_eq!(ask(Wish::Delete("__namespace")), Err(Refused::DeleteDefault));
        assert_eq!(ask(Wish::Delete("ns2")), Err(Refused::NotFound));
        assert_eq!(ask(Wish::Set("ns1", "tok3")), Ok(true));
        assert_eq!(ask(Wish::Set("nsx", "tok1")), Ok(true));
        assert_eq!(to_json(&tokens), br#"{"tok1":"nsx","tok3":"ns1"}"#);
        assert_eq!(parse(&to_json(&tokens)), Some(tokens.clone()));
        assert_eq!(parse(b"{\"a\":1}"), None);
    }

    #[test]
    fn names_that_a_file_cannot_hold_are_refused() {
        for name in ["", "a b", "a#", "a\n", &"n".repeat(256)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert_eq!(check_name(&"n".repeat(255)), Ok(()));
    }

    #[test]
    fn nothing_is_added_where_no_token_would_count() {
        let ask = |values: Values| plan(&Tokens::new(), &values, Wish::Set("ns", "tok"));
        assert_eq!(ask(Values::default()), Err(Refused::NoPassword));
        let secret = || Values { requirepass: "s".into(), ..Values::default() };
        assert_eq!(ask(Values { cluster_enabled: true, ..secret() }), Err(Refused::Cluster));
        assert_eq!(ask(Values { redis_databases: 4, ..secret() }), Err(Refused::Databases));
    }
}
