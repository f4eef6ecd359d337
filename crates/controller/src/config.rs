//! The controller's configuration file (TOML).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use web::tls::{Files, Tls};
use web::{Reloaded, Settings};

use crate::store::Place;

/// Where records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// In a file of this one controller.
    #[default]
    Embedded,
    /// In an etcd that several controllers share.
    Etcd,
}

/// Everything that can be set; each field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the REST interface listens.
    pub listen: SocketAddr,
    /// Bearer token every request must carry; required to listen beyond loopback.
    pub token: Option<String>,
    /// File whose only line is the token, in place of `token`.
    pub token_file: Option<PathBuf>,
    /// Names, beside its own addresses, under which the REST interface is reached.
    pub allowed_hosts: Vec<String>,
    /// File of the log; without: standard error.
    pub log_file: Option<PathBuf>,
    /// Least severe message that is logged.
    pub log_level: String,
    /// Where records are kept.
    pub store: Kind,
    /// File of the embedded store.
    pub data: PathBuf,
    /// `http://host:port` or `https://host:port` of each member of the etcd.
    pub etcd_endpoints: Vec<String>,
    /// What all keys in it begin with; ends in `/`. One for each group of controllers.
    pub etcd_prefix: String,
    /// Name by which etcd knows this controller.
    pub etcd_user: Option<String>,
    /// File whose only line is the password of that name.
    pub etcd_password_file: Option<PathBuf>,
    /// Limit of a call to it, ms, 100..=10000.
    pub etcd_limit_ms: u64,
    /// URL under which the other controllers reach this one; see [`Config::url`].
    pub advertise: Option<String>,
    /// Pause between heartbeats, ms, 10..=60000.
    pub heartbeat_ms: u64,
    /// Heartbeats without an answer before a node counts as down, 1..=1000.
    pub misses: u32,
    /// Lease of a master, ms, `2 × heartbeat_ms ..= 60000`.
    pub lease_ms: u64,
    /// How much clocks may differ in speed, parts per thousand, 0..=500.
    pub drift_permille: u64,
    /// Least term to start with: for a store that was restored from a backup, or lost.
    pub min_term: u64,
    /// HTTPS, here and where balancers, etcd and other controllers speak it.
    pub tls: Files,
    /// Lead although the store was copied or moved, without asking the nodes. Said on the command line, once.
    #[serde(skip)]
    pub take_over: bool,
}

impl Default for Config {
    fn default() -> Self {
        let policy = planner::Policy::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9379)),
            token: None,
            token_file: None,
            allowed_hosts: Vec::new(),
            log_file: None,
            log_level: "info".to_owned(),
            store: Kind::Embedded,
            data: PathBuf::from("controller.redb"),
            etcd_endpoints: Vec::new(),
            etcd_prefix: "/holdfast/".to_owned(),
            etcd_user: None,
            etcd_password_file: None,
            etcd_limit_ms: 250,
            advertise: None,
            heartbeat_ms: policy.heartbeat_ms,
            misses: policy.misses,
            lease_ms: policy.lease_ms,
            drift_permille: policy.drift_permille,
            min_term: 0,
            tls: Files::default(),
            take_over: false,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The file is not what it should be; the message names line and key.
    #[error("{}: {cause}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        cause: Box<toml::de::Error>,
    },
    /// The file of etcd's password cannot be used.
    #[error("`etcd_password_file`: {0}")]
    Password(#[source] web::SecretError),
    /// The token's file cannot be used.
    #[error("`token_file`: {0}")]
    Secret(#[from] web::SecretError),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] web::certs::Fault),
    /// A host that is none.
    #[error("`allowed_hosts`: {0}")]
    Host(#[from] web::BadName),
    /// A value is out of range.
    #[error("`{key}` is {value}; accepted: {accepted}")]
    Range {
        /// The key.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        accepted: &'static str,
    },
}

impl Config {
    /// Where the other controllers reach this one, which listens there: `advertise`, or that
    /// address as it is spoken with.
    pub fn url(&self, listens: SocketAddr) -> String {
        let scheme = if self.tls.cert_file.is_some() { "https" } else { "http" };
        self.advertise.clone().unwrap_or_else(|| format!("{scheme}://{listens}"))
    }

    /// Every key with its unit, range and default, as a file in which nothing is set.
    #[expect(clippy::too_many_lines, reason = "one text, a paragraph per key")]
    pub fn sample() -> String {
        // A key that is added and not shown here does not compile.
        let Self {
            listen,
            token: _,
            token_file: _,
            allowed_hosts,
            log_file: _,
            log_level,
            store: _,
            data,
            etcd_endpoints,
            etcd_prefix,
            etcd_user: _,
            etcd_password_file: _,
            etcd_limit_ms,
            advertise: _,
            heartbeat_ms,
            misses,
            lease_ms,
            drift_permille,
            min_term,
            tls: _,
            take_over: _,
        } = Self::default();
        format!(
            "\
# Configuration of `holdfast controller`. What is commented out is the default. SIGHUP has this file read again: `token`,
# `allowed_hosts`, `log_file`, `log_level` and `tls` are then in force, the rest after a restart.

# Where the REST interface listens, address:port. Loopback only, unless `token` is set.
# listen = \"{listen}\"

# Secret that every request but /healthz must carry as `Authorization: Bearer`. Default: none.
# token = \"…\"

# File whose only line is that secret; in place of `token`. Read again at SIGHUP.
# token_file = \"/etc/holdfast/controller.token\"

# Names under which the REST interface is reached, beside `localhost` and the address it listens on: `name` or
# `name:port`. Requests to others are refused, because a web page may have sent them.
# allowed_hosts = {allowed_hosts:?}

# File of the log, opened again at SIGHUP. Default: standard error, where errors go in any case.
# log_file = \"/var/log/holdfast/controller.log\"

# Least severe message that is logged: error, warn, info, debug or trace, also per module, such as
# \"info,controller=debug\". RUST_LOG wins.
# log_level = {log_level:?}

# Where clusters, terms and the log of events are kept: \"embedded\" in a file of this one controller, or \"etcd\",
# which several controllers share: one leads, the others stand by.
# store = \"embedded\"

# Members of that etcd, of which all are needed here: version 3.4 or later, not 3.5.0 to 3.5.2, with its JSON gateway on,
# as it is by default. Each is `http://host:port`, or `https://host:port` with `ca_file` below.
# etcd_endpoints = {etcd_endpoints:?}

# What all keys in it begin with; ends in `/`. Controllers with the same one are one group.
# etcd_prefix = {etcd_prefix:?}

# Name and password, where etcd asks for them. Default: none.
# etcd_user = \"holdfast\"
# etcd_password_file = \"/etc/holdfast/etcd.password\"

# Limit of a call to it, ms, 100 to 10000.
# etcd_limit_ms = {etcd_limit_ms}

# URL under which the other controllers reach this one. Default: `listen`, which must be an address of this host then,
# as `https://` where there is a `cert_file`.
# advertise = \"http://10.0.0.1:9379\"

# File of the embedded store: clusters, terms, the log of events. One controller at a time opens it. Back it up.
# A relative path counts from where the process is started.
# data = {data:?}

# Pause between two heartbeats to a node, ms, 10 to 60000.
# heartbeat_ms = {heartbeat_ms}

# Heartbeats without an answer before a node counts as down, 1 to 1000. So a node is down after
# heartbeat_ms × misses.
# misses = {misses}

# How long a master may serve after a heartbeat, ms, twice heartbeat_ms to 60000.
# lease_ms = {lease_ms}

# How much the clocks of hosts may differ in speed, parts per thousand, 0 to 500.
# drift_permille = {drift_permille}

# Least term to start with, 0 and up. Only for a store that was lost or restored from a backup: set it above
# the term that `holdfast ctl status` showed last.
# min_term = {min_term}

# [tls]
# Certificate, then those that lead to its CA, PEM: the REST interface speaks HTTPS only then. It is also shown to
# balancers, nodes, etcd and other controllers that ask for one. All four files are read again at SIGHUP; with a fault
# in one of them the old ones stay in force. Default: none.
# cert_file = \"/etc/holdfast/controller.pem\"

# Its key, PEM, not encrypted.
# key_file = \"/etc/holdfast/controller.key\"

# Certificates of the CAs of which clients must show one, PEM, beside the token. Default: none is asked for.
# client_ca_file = \"/etc/holdfast/ca.pem\"

# Certificates of the CAs by which balancers, etcd and other controllers are known where they are `https://`, and
# nodes with `nodes`, PEM. Default: none is known.
# ca_file = \"/etc/holdfast/ca.pem\"

# Whether nodes are dialled over TLS, true or false. Each of them needs a certificate that names its address first.
# nodes = false
"
        )
    }

    /// How to reach the etcd, over TLS where it is `https://`.
    ///
    /// # Errors
    /// The password cannot be read.
    pub fn place(&self, tls: &Arc<Tls>) -> Result<Place, ConfigError> {
        let password = self.etcd_password_file.as_deref().map(web::read_secret).transpose();
        let password = password.map_err(ConfigError::Password)?.unwrap_or_default();
        let endpoints = self.etcd_endpoints.iter().map(|at| at.trim_end_matches('/').to_owned());
        Ok(Place {
            endpoints: endpoints.collect(),
            prefix: self.etcd_prefix.clone(),
            user: self.etcd_user.clone().map(|name| (name, password)),
            limit: Duration::from_millis(self.etcd_limit_ms),
            tls: Arc::clone(tls),
        })
    }

    fn check_etcd(&self) -> Result<(), ConfigError> {
        let wrong = |key, value: &str, accepted| {
            Err(ConfigError::Range { key, value: value.to_owned(), accepted })
        };
        if !(100..=10_000).contains(&self.etcd_limit_ms) {
            return wrong("etcd_limit_ms", &self.etcd_limit_ms.to_string(), "100..=10000");
        }
        if !self.etcd_prefix.ends_with('/') {
            return wrong("etcd_prefix", &self.etcd_prefix, "what ends in `/`");
        }
        let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        if let Some(other) = self.etcd_endpoints.iter().find(|at| !is_url(at)) {
            return wrong("etcd_endpoints", other, "http://host:port or https://host:port each");
        }
        if let Some(other) = self.advertise.as_deref().filter(|at| !is_url(at)) {
            return wrong("advertise", other, "http://host:port or https://host:port");
        }
        // The port speaks HTTPS only then: a token would be sent in clear, and in vain.
        let in_clear = self.advertise.as_deref().filter(|at| at.starts_with("http://"));
        if let Some(other) = in_clear.filter(|_| self.tls.cert_file.is_some()) {
            return wrong("advertise", other, "https://host:port, since `tls.cert_file` is set");
        }
        if self.store != Kind::Etcd {
            return Ok(());
        }
        if self.etcd_endpoints.is_empty() {
            return wrong("etcd_endpoints", "empty", "the members, with `store = \"etcd\"`");
        }
        if self.listen.ip().is_unspecified() && self.advertise.is_none() {
            return wrong(
                "listen",
                &self.listen.to_string(),
                "one address, or any with `advertise` set",
            );
        }
        Ok(())
    }

    /// The numbers the planner works with.
    pub fn policy(&self) -> planner::Policy {
        planner::Policy {
            heartbeat_ms: self.heartbeat_ms,
            misses: self.misses,
            lease_ms: self.lease_ms,
            drift_permille: self.drift_permille,
            ..planner::Policy::default()
        }
    }
}

impl Settings for Config {
    type Error = ConfigError;

    fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        let mut config: Self = toml::from_str(&text).map_err(|cause| ConfigError::Parse {
            path: path.to_owned(),
            cause: Box::new(cause),
        })?;
        if let Some(file) = &config.token_file {
            if config.token.is_some() {
                return Err(ConfigError::Range {
                    key: "token_file",
                    value: file.display().to_string(),
                    accepted: "one of `token` and `token_file`",
                });
            }
            config.token = Some(web::read_secret(file)?);
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let range = |ok: bool, key, value: u64, accepted| {
            if ok {
                Ok(())
            } else {
                Err(ConfigError::Range { key, value: value.to_string(), accepted })
            }
        };
        range(
            (10..=60_000).contains(&self.heartbeat_ms),
            "heartbeat_ms",
            self.heartbeat_ms,
            "10..=60000",
        )?;
        range((1..=1_000).contains(&self.misses), "misses", self.misses.into(), "1..=1000")?;
        let lease = self.lease_ms >= 2 * self.heartbeat_ms && self.lease_ms <= 60_000;
        range(lease, "lease_ms", self.lease_ms, "twice heartbeat_ms ..=60000")?;
        range(self.drift_permille <= 500, "drift_permille", self.drift_permille, "0..=500")?;
        web::Names::parse(&self.allowed_hosts)?;
        self.check_etcd()?;
        if self.token.as_deref() == Some("") {
            return Err(ConfigError::Range {
                key: "token",
                value: "empty".to_owned(),
                accepted: "a secret, or no `token` at all",
            });
        }
        if !self.listen.ip().is_loopback() && self.token.as_deref().unwrap_or("").is_empty() {
            return Err(ConfigError::Range {
                key: "listen",
                value: self.listen.to_string(),
                accepted: "a loopback address, or any with `token` set",
            });
        }
        Ok(())
    }

    fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    fn allowed_hosts(&self) -> &[String] {
        &self.allowed_hosts
    }

    fn tls(&self) -> &Files {
        &self.tls
    }

    fn log(&self) -> (&str, Option<&PathBuf>) {
        (&self.log_level, self.log_file.as_ref())
    }

    fn differences(&self, read: &Self) -> Reloaded {
        // All keys by name: one that is added must be put on one of the two lists.
        let Self {
            listen,
            token,
            token_file: _,
            allowed_hosts,
            log_file,
            log_level,
            store,
            data,
            etcd_endpoints,
            etcd_prefix,
            etcd_user,
            etcd_password_file,
            etcd_limit_ms,
            advertise,
            heartbeat_ms,
            misses,
            lease_ms,
            drift_permille,
            min_term,
            tls,
            // Said on the command line, not in the file.
            take_over: _,
        } = read;
        let live = [
            ("token", *token != self.token),
            ("allowed_hosts", *allowed_hosts != self.allowed_hosts),
            ("log_file", *log_file != self.log_file),
            ("log_level", *log_level != self.log_level),
            ("tls", *tls != self.tls),
            ("advertise", *advertise != self.advertise),
        ];
        let others = [
            ("listen", *listen != self.listen),
            ("store", *store != self.store),
            ("data", *data != self.data),
            ("etcd_endpoints", *etcd_endpoints != self.etcd_endpoints),
            ("etcd_prefix", *etcd_prefix != self.etcd_prefix),
            ("etcd_user", *etcd_user != self.etcd_user),
            ("etcd_password_file", *etcd_password_file != self.etcd_password_file),
            ("etcd_limit_ms", *etcd_limit_ms != self.etcd_limit_ms),
            ("heartbeat_ms", *heartbeat_ms != self.heartbeat_ms),
            ("misses", *misses != self.misses),
            ("lease_ms", *lease_ms != self.lease_ms),
            ("drift_permille", *drift_permille != self.drift_permille),
            ("min_term", *min_term != self.min_term),
        ];
        Reloaded::of(&live, &others)
    }

    fn adopt(&mut self, read: Self) {
        self.token = read.token;
        self.token_file = read.token_file;
        self.allowed_hosts = read.allowed_hosts;
        self.log_file = read.log_file;
        self.log_level = read.log_level;
        self.tls = read.tls;
        self.advertise = read.advertise;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_has_every_key_with_its_default() {
        let sample = Config::sample();
        let unset: Config = toml::from_str(&sample).expect("TOML");
        assert_eq!(unset, Config::default());
        let is_key = |line: &&str| line.contains(" = ") || line.starts_with('[');
        let lines: Vec<&str> =
            sample.lines().filter_map(|line| line.strip_prefix("# ")).filter(is_key).collect();
        assert_eq!(lines.len(), 25, "{lines:?}");
        let set = toml::from_str::<Config>(&lines.join("\n")).expect("every key is known");
        let shown = Config {
            token: Some("…".into()),
            token_file: Some("/etc/holdfast/controller.token".into()),
            log_file: Some("/var/log/holdfast/controller.log".into()),
            etcd_user: Some("holdfast".into()),
            etcd_password_file: Some("/etc/holdfast/etcd.password".into()),
            advertise: Some("http://10.0.0.1:9379".into()),
            tls: Files {
                cert_file: Some("/etc/holdfast/controller.pem".into()),
                key_file: Some("/etc/holdfast/controller.key".into()),
                client_ca_file: Some("/etc/holdfast/ca.pem".into()),
                ca_file: Some("/etc/holdfast/ca.pem".into()),
                nodes: false,
            },
            ..Config::default()
        };
        assert_eq!(set, shown);
    }

    #[test]
    fn defaults_pass_and_bad_values_name_the_key() {
        Config::default().check().expect("defaults are fine");
        let open = Config { listen: ([0, 0, 0, 0], 9379).into(), ..Config::default() };
        assert!(open.check().unwrap_err().to_string().contains("`token` set"));
        let guarded = Config { token: Some("secret".into()), ..open };
        guarded.check().expect("a token opens other addresses");
        let short = Config { lease_ms: 100, ..Config::default() };
        assert!(short.check().unwrap_err().to_string().starts_with("`lease_ms` is 100"));
        assert!(toml::from_str::<Config>("haertbeat_ms = 1").is_err());
        let nowhere = Config { store: Kind::Etcd, ..Config::default() };
        assert!(nowhere.check().unwrap_err().to_string().starts_with("`etcd_endpoints` is empty"));
        let shared = Config { etcd_endpoints: vec!["http://127.0.0.1:2379".into()], ..nowhere };
        shared.check().expect("an etcd");
        let open = Config {
            listen: ([0, 0, 0, 0], 9379).into(),
            token: Some("s".into()),
            ..shared.clone()
        };
        assert!(open.check().unwrap_err().to_string().contains("`advertise` set"));
        let certified = |advertise: Option<&str>| Config {
            advertise: advertise.map(Into::into),
            tls: Files {
                cert_file: Some("a".into()),
                key_file: Some("b".into()),
                ..Files::default()
            },
            ..shared.clone()
        };
        let why = certified(Some("http://c:1")).check().unwrap_err().to_string();
        assert!(why.starts_with("`advertise`") && why.contains("`tls.cert_file` is set"), "{why}");
        let at = ([10, 0, 0, 1], 9379).into();
        assert_eq!(shared.url(at), "http://10.0.0.1:9379");
        assert_eq!(certified(None).url(at), "https://10.0.0.1:9379");
        let named = certified(Some("https://c:1"));
        assert_eq!((named.check().is_ok(), named.url(at)), (true, "https://c:1".to_owned()));
        let hosts = Config { allowed_hosts: vec!["http://x".into()], ..Config::default() };
        assert!(hosts.check().unwrap_err().to_string().starts_with("`allowed_hosts`: `http://x`"));
        let empty = Config { token: Some(String::new()), ..Config::default() };
        assert!(empty.check().unwrap_err().to_string().starts_with("`token` is empty"));
    }

    #[test]
    fn a_token_may_lie_in_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (path, secret) = (folder.path().join("c.toml"), folder.path().join("token"));
        std::fs::write(&secret, "s3cret\n").unwrap();
        let line = format!("listen = \"0.0.0.0:1\"\ntoken_file = {secret:?}\n");
        std::fs::write(&path, &line).unwrap();
        assert_eq!(Config::load(&path).unwrap().token.as_deref(), Some("s3cret"));
        std::fs::write(&path, format!("{line}token = \"x\"\n")).unwrap();
        assert!(Config::load(&path).unwrap_err().to_string().contains("one of `token`"));
        std::fs::write(&secret, "").unwrap();
        std::fs::write(&path, &line).unwrap();
        assert!(Config::load(&path).unwrap_err().to_string().contains("it is empty"));
    }

    #[test]
    fn what_is_live_is_in_force_and_what_needs_a_restart_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("token = 'one'\n");
        let live = web::Live::new(Config::load(&path).unwrap()).unwrap();
        assert!(live.lets_in(Some(b"Bearer one")));
        write("token = 'two'\nallowed_hosts = ['ops.example']\nlease_ms = 2000\n");
        let reloaded = live.reload(&path).unwrap();
        assert_eq!(reloaded.changed, ["token", "allowed_hosts"]);
        assert_eq!(reloaded.restart, ["lease_ms"]);
        assert!(live.lets_in(Some(b"Bearer two")) && !live.lets_in(Some(b"Bearer one")));
        assert!(!live.lets_in(None) && !live.lets_in(Some(b"two")));
        assert_eq!(live.names().texts().collect::<Vec<_>>(), ["ops.example"]);
        assert_eq!(live.config().lease_ms, 1_000);

        write("token = 'three'\nmisses = 0\n");
        assert!(live.reload(&path).unwrap_err().to_string().contains("misses"));
        assert!(live.lets_in(Some(b"Bearer two")), "a file with an error changes nothing");
    }

    #[test]
    fn an_open_listener_keeps_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, "listen = '0.0.0.0:1'\ntoken = 'one'\n").unwrap();
        let live = web::Live::new(Config::load(&path).unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(live.reload(&path).unwrap_err().to_string().contains("`token` set"));
        assert!(!live.lets_in(None));
    }
}
