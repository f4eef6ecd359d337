//! What may change while a balancer runs: read again at SIGHUP.

use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use web::Names;

use super::config::{Config, ConfigError};

/// The configuration that is in force.
#[derive(Debug)]
pub struct Live {
    config: RwLock<Arc<Config>>,
    names: RwLock<Names>,
}

/// What reading a file again came to, by the names of the keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// In force from now on.
    pub changed: Vec<&'static str>,
    /// Different in the file, and in force after a restart.
    pub restart: Vec<&'static str>,
}

impl Live {
    /// `config` must have been checked; names in it that are none are left out.
    pub fn new(config: Config) -> Self {
        let names = Names::parse(&config.allowed_hosts).unwrap_or_default();
        Self { config: RwLock::new(Arc::new(config)), names: RwLock::new(names) }
    }

    /// What is in force now.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read())
    }

    pub(crate) fn token(&self) -> Option<String> {
        self.config.read().token.clone()
    }

    pub(crate) fn names(&self) -> Names {
        self.names.read().clone()
    }

    /// Reads the file and takes what is live from it: all or, after an error, nothing.
    ///
    /// # Errors
    /// As [`Config::load`], and a listener that would be left open without its token.
    pub fn reload(&self, path: &Path) -> Result<Reloaded, ConfigError> {
        let read = Config::load(path)?;
        let now = self.config();
        // All keys by name: one that is added must be put on one of the two lists.
        let Config {
            name,
            listen,
            token,
            token_file,
            allowed_hosts,
            log_file,
            log_level,
            bind_source,
            send_proxy,
            workers,
            health_interval_ms,
            limits,
        } = read;
        let mut reloaded = Reloaded::default();
        let restart = [
            ("name", name != now.name),
            ("listen", listen != now.listen),
            ("bind_source", bind_source != now.bind_source),
            ("send_proxy", send_proxy != now.send_proxy),
            ("workers", workers != now.workers),
            ("health_interval_ms", health_interval_ms != now.health_interval_ms),
            ("limits", limits != now.limits),
        ];
        let changed = [
            ("token", token != now.token),
            ("allowed_hosts", allowed_hosts != now.allowed_hosts),
            ("log_file", log_file != now.log_file),
            ("log_level", log_level != now.log_level),
        ];
        let names = |list: &[(&'static str, bool)]| {
            list.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect()
        };
        reloaded.restart = names(&restart);
        reloaded.changed = names(&changed);
        let next =
            Config { token, token_file, allowed_hosts, log_file, log_level, ..Config::clone(&now) };
        next.check()?;
        *self.names.write() = Names::parse(&next.allowed_hosts)?;
        *self.config.write() = Arc::new(next);
        Ok(reloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_live_is_in_force_and_what_needs_a_restart_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("token = 'one'\n");
        let live = Live::new(Config::load(&path).unwrap());
        write("token = 'two'\nallowed_hosts = ['ops.example']\nworkers = 9\n");
        let reloaded = live.reload(&path).unwrap();
        assert_eq!(reloaded.changed, ["token", "allowed_hosts"]);
        assert_eq!(reloaded.restart, ["workers"]);
        assert_eq!(live.token().as_deref(), Some("two"));
        assert_eq!(live.names().texts().collect::<Vec<_>>(), ["ops.example"]);
        assert_eq!(live.config().workers, 0);

        write("token = 'three'\n[limits]\nmax_sessions = 0\n");
        assert!(live.reload(&path).unwrap_err().to_string().contains("max_sessions"));
        assert_eq!(live.token().as_deref(), Some("two"), "a file with an error changes nothing");
    }

    #[test]
    fn an_open_listener_keeps_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, "listen = '0.0.0.0:1'\ntoken = 'one'\n").unwrap();
        let live = Live::new(Config::load(&path).unwrap());
        std::fs::write(&path, "").unwrap();
        assert!(live.reload(&path).unwrap_err().to_string().contains("token"));
        assert_eq!(live.token().as_deref(), Some("one"));
    }
}
