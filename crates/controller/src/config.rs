//! The controller's configuration file (TOML).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use web::certs::Fault;
use web::tls::{Files, Tls};
use web::{Reloaded, Settings};

use crate::seal::{BadKeys, Keys};
use crate::store::Place;

mod sample;

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
    /// Bearer token of an admin; required to listen beyond loopback.
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
    /// File of the keys by which secrets are sealed in the store, the first of which seals.
    pub store_key_file: Option<PathBuf>,
    /// What that file holds. Read with it.
    #[serde(skip)]
    pub store_keys: Arc<Keys>,
    /// `http://host:port` or `https://host:port` of each member of the etcd.
    pub etcd_endpoints: Vec<String>,
    /// What all keys in it begin with; ends in `/`. One for each group of controllers.
    pub etcd_prefix: String,
    /// Name by which etcd knows this controller.
    pub etcd_user: Option<String>,
    /// File whose only line is the password of that name.
    pub etcd_password_file: Option<PathBuf>,
    /// Limit of a call to it, ms, 100..=10000; of a read by which this process leads at most 250.
    pub etcd_limit_ms: u64,
    /// Largest request that its members take (`--max-request-bytes`), bytes, 1024..=1073741824:
    /// they do not say.
    pub etcd_max_request_bytes: usize,
    /// URL under which the other controllers reach this one; see [`Config::url`].
    pub advertise: Option<String>,
    /// Pause between heartbeats, ms, 10..=60000.
    pub heartbeat_ms: u64,
    /// Heartbeats without an answer before a node counts as down, 1..=1000.
    pub misses: u32,
    /// Lease of a master, ms, `4 × heartbeat_ms ..= 60000`.
    pub lease_ms: u64,
    /// How much clocks may differ in speed, parts per thousand, 0..=500.
    pub drift_permille: u64,
    /// Least term to start with: for a store that was restored from a backup, or lost.
    pub min_term: u64,
    /// HTTPS, here and where balancers, etcd and other controllers speak it.
    pub tls: Files,
    /// Lead although the store was copied or moved, without asking the nodes. Said on the command
    /// line, once.
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
            store_key_file: None,
            store_keys: Arc::default(),
            etcd_endpoints: Vec::new(),
            etcd_prefix: "/holdfast/".to_owned(),
            etcd_user: None,
            etcd_password_file: None,
            etcd_limit_ms: 250,
            etcd_max_request_bytes: Place::default().request_max,
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
    #[error("cannot be read")]
    Read(#[source] std::io::Error),
    /// The file is not what it should be: where, and what was expected.
    #[error("{0}")]
    Parse(String),
    /// The file of etcd's password cannot be used.
    #[error("`etcd_password_file`: {0}")]
    Password(#[source] web::SecretError),
    /// The key file cannot be used.
    #[error("`store_key_file`: {0}")]
    Keys(#[from] BadKeys),
    /// The token's file cannot be used.
    #[error("`token_file`: {0}")]
    Secret(#[from] web::SecretError),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] web::certs::Fault),
    /// A host that is none.
    #[error("`allowed_hosts`: {0}")]
    Host(#[from] web::BadName),
    /// A value is out of range, or cannot have an effect.
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
            request_max: self.etcd_max_request_bytes,
            tls: Arc::clone(tls),
            keys: Arc::clone(&self.store_keys),
        })
    }

    fn check_etcd(&self) -> Result<(), ConfigError> {
        let wrong = |key, value: &str, accepted| {
            Err(ConfigError::Range { key, value: value.to_owned(), accepted })
        };
        if !(100..=10_000).contains(&self.etcd_limit_ms) {
            return wrong("etcd_limit_ms", &self.etcd_limit_ms.to_string(), "100..=10000");
        }
        let largest = self.etcd_max_request_bytes;
        if !(1_024..=1 << 30).contains(&largest) {
            return wrong("etcd_max_request_bytes", &largest.to_string(), "1024..=1073741824");
        }
        if !self.etcd_prefix.ends_with('/') {
            return wrong("etcd_prefix", &self.etcd_prefix, "what ends in `/`");
        }
        // Without a name and a password in it: it is shown to whoever may look.
        let is_url = |text: &str| {
            (text.starts_with("http://") || text.starts_with("https://")) && !text.contains('@')
        };
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
            return self.check_without_etcd();
        }
        if self.etcd_password_file.is_some() && self.etcd_user.is_none() {
            return wrong("etcd_password_file", "set", "the password of `etcd_user`, with that");
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

    /// With the embedded store nothing of an etcd can have an effect: whoever sets it means one.
    fn check_without_etcd(&self) -> Result<(), ConfigError> {
        let unset = Self::default();
        let set = [
            ("etcd_endpoints", self.etcd_endpoints != unset.etcd_endpoints),
            ("etcd_prefix", self.etcd_prefix != unset.etcd_prefix),
            ("etcd_user", self.etcd_user.is_some()),
            ("etcd_password_file", self.etcd_password_file.is_some()),
            ("etcd_limit_ms", self.etcd_limit_ms != unset.etcd_limit_ms),
            ("etcd_max_request_bytes", self.etcd_max_request_bytes != unset.etcd_max_request_bytes),
            ("advertise", self.advertise.is_some()),
        ];
        match set.iter().find(|(_, is_set)| *is_set) {
            None => Ok(()),
            Some((key, _)) => Err(ConfigError::Range {
                key,
                value: "set".to_owned(),
                accepted: "that only with `store = \"etcd\"`",
            }),
        }
    }

    /// Looks at the files that a start reads, but for those of TLS. Folders that it writes to may
    /// be made by its unit.
    fn check_files(&self) -> Result<(), ConfigError> {
        let password = self.etcd_password_file.as_deref().map(web::read_secret).transpose();
        password.map(drop).map_err(ConfigError::Password)
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
        let text = std::fs::read_to_string(path).map_err(ConfigError::Read)?;
        let misread = |error: toml::de::Error| ConfigError::Parse(web::misread(&text, &error));
        let mut config: Self = toml::from_str(&text).map_err(misread)?;
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
        if let Some(file) = &config.store_key_file {
            config.store_keys = Arc::new(Keys::read(file)?);
        }
        config.check()?;
        config.check_files()?;
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
        // Replicas lend after a third of it: a controller must be heard more often.
        let lease = self.lease_ms >= 4 * self.heartbeat_ms && self.lease_ms <= 60_000;
        range(lease, "lease_ms", self.lease_ms, "four times heartbeat_ms ..=60000")?;
        range(self.drift_permille <= 500, "drift_permille", self.drift_permille, "0..=500")?;
        if self.tls.terminate.is_some() {
            let why = "no client of a cluster comes by a controller: it belongs into balancer.toml";
            return Err(Fault::of("tls.terminate", why).into());
        }
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

    fn keys_of(error: &ConfigError) -> Vec<&'static str> {
        match error {
            // What is out of range beside another key may be that one's fault.
            ConfigError::Range { key: "lease_ms", .. } => vec!["lease_ms", "heartbeat_ms"],
            ConfigError::Range { key: "etcd_endpoints", .. } => vec!["etcd_endpoints", "store"],
            ConfigError::Range { key, .. } => vec![key],
            ConfigError::Password(_) => vec!["etcd_password_file"],
            ConfigError::Keys(_) => vec!["store_key_file"],
            ConfigError::Secret(_) => vec!["token_file"],
            ConfigError::Tls(fault) => vec![fault.option],
            ConfigError::Host(_) => vec!["allowed_hosts"],
            ConfigError::Read(_) | ConfigError::Parse(_) => Vec::new(),
        }
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
            store_key_file,
            store_keys,
            etcd_endpoints,
            etcd_prefix,
            etcd_user,
            etcd_password_file,
            etcd_limit_ms,
            etcd_max_request_bytes,
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
            (
                "store_key_file",
                *store_key_file != self.store_key_file || *store_keys != self.store_keys,
            ),
            ("etcd_endpoints", *etcd_endpoints != self.etcd_endpoints),
            ("etcd_prefix", *etcd_prefix != self.etcd_prefix),
            ("etcd_user", *etcd_user != self.etcd_user),
            ("etcd_password_file", *etcd_password_file != self.etcd_password_file),
            ("etcd_limit_ms", *etcd_limit_ms != self.etcd_limit_ms),
            ("etcd_max_request_bytes", *etcd_max_request_bytes != self.etcd_max_request_bytes),
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
        assert_eq!(lines.len(), 28, "{lines:?}");
        let set = toml::from_str::<Config>(&lines.join("\n")).expect("every key is known");
        let shown = Config {
            token: Some("…".into()),
            token_file: Some("/etc/holdfast/controller.token".into()),
            log_file: Some("/var/log/holdfast/controller.log".into()),
            store_key_file: Some("/etc/holdfast/store.key".into()),
            etcd_user: Some("holdfast".into()),
            etcd_password_file: Some("/etc/holdfast/etcd.password".into()),
            advertise: Some("http://10.0.0.1:9379".into()),
            tls: Files {
                cert_file: Some("/etc/holdfast/controller.pem".into()),
                key_file: Some("/etc/holdfast/controller.key".into()),
                client_ca_file: Some("/etc/holdfast/ca.pem".into()),
                client_optional: false,
                ca_file: Some("/etc/holdfast/ca.pem".into()),
                nodes: false,
                terminate: None,
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
        let ending = toml::from_str::<Config>("[tls.terminate]\n").expect("keys are known");
        let why = ending.check().unwrap_err();
        assert!(why.to_string().contains("it belongs into balancer.toml"), "{why}");
        assert_eq!(Config::keys_of(&why), ["tls.terminate"]);
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
        for (bytes, is_good) in [(1_023, false), (1_024, true), (1 << 30, true), (1 << 31, false)] {
            let large = Config { etcd_max_request_bytes: bytes, ..shared.clone() };
            let why = large.check().err().map_or_else(String::new, |error| error.to_string());
            assert_eq!(why.starts_with("`etcd_max_request_bytes` is"), !is_good, "{bytes}: {why}");
        }
        let empty = Config { token: Some(String::new()), ..Config::default() };
        assert!(empty.check().unwrap_err().to_string().starts_with("`token` is empty"));
    }

    #[test]
    fn what_is_of_an_etcd_is_refused_without_one() {
        let said = |text: &str| {
            let config = toml::from_str::<Config>(text).unwrap();
            config.check().map_err(|error| error.to_string())
        };
        for line in [
            "etcd_endpoints = ['http://127.0.0.1:2379']",
            "etcd_prefix = '/other/'",
            "etcd_user = 'x'",
            "etcd_password_file = '/x'",
            "etcd_limit_ms = 251",
            "etcd_max_request_bytes = 4194304",
            "advertise = 'http://10.0.0.1:9379'",
        ] {
            let key = line.split(' ').next().unwrap();
            let wanted = format!("`{key}` is set; accepted: that only with `store = \"etcd\"`");
            assert_eq!(said(line), Err(wanted));
            if key != "etcd_endpoints" && key != "etcd_password_file" {
                let etcd = "store = 'etcd'\netcd_endpoints = ['http://127.0.0.1:2379']\n";
                assert_eq!(said(&format!("{etcd}{line}")), Ok(()));
            }
        }
        let nobody = "store = 'etcd'\netcd_endpoints = ['http://h:1']\netcd_password_file = '/x'";
        assert!(
            said(nobody).unwrap_err().starts_with("`etcd_password_file` is set; accepted: the")
        );
    }

    #[test]
    fn a_file_is_refused_that_names_what_a_start_does_not_find() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let load = |text: String| {
            std::fs::write(&path, text).unwrap();
            Config::load(&path)
        };
        let etcd = "store = 'etcd'\netcd_endpoints = ['http://h:1']\netcd_user = 'x'\n";
        let secret = folder.path().join("password");
        let with = || format!("{etcd}etcd_password_file = {secret:?}\n");
        let error = load(with()).unwrap_err();
        assert!(error.to_string().starts_with("`etcd_password_file`: "), "{error}");
        assert_eq!(Config::keys_of(&error), ["etcd_password_file"]);
        std::fs::write(&secret, "s3cret\n").unwrap();
        load(with()).unwrap();
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
