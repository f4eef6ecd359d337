//! Configuration of the built-in balancer (TOML).
//!
//! Unknown keys are errors; an admin address that is not loopback needs a token.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use web::certs::Fault;
use web::tls::Files;
use web::{Reloaded, Settings};

/// Everything an operator can say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name in logs and metrics.
    pub name: String,
    /// Admin HTTP address.
    pub listen: SocketAddr,
    /// Secret that `/api` and `/metrics` ask for as `Authorization: Bearer`.
    pub token: Option<String>,
    /// File whose only line is the token, in place of `token`.
    pub token_file: Option<PathBuf>,
    /// Names, beside its own addresses, under which the admin interface is reached.
    pub allowed_hosts: Vec<String>,
    /// File of the log; without: standard error.
    pub log_file: Option<PathBuf>,
    /// Least severe message that is logged.
    pub log_level: String,
    /// Address nodes are dialled from, so that they can tell a balancer by it.
    pub bind_source: Option<IpAddr>,
    /// Whether backends get a PROXY protocol v2 header. Holdfast nodes need it; switch it off only
    /// for other servers.
    pub send_proxy: bool,
    /// Threads that move bytes, up to 256; 0 means one per CPU.
    pub workers: usize,
    /// Milliseconds between two health checks of a backend (PING behind a LOCAL header), up to
    /// 60,000; 0 means that only clients' connections tell.
    pub health_interval_ms: u64,
    /// Limits on what clients can make the balancer hold.
    pub limits: Limits,
    /// HTTPS at the admin address.
    pub tls: Files,
}

/// Limits; all times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Sessions over all frontends, 1 to 1,000,000; a connection above is reset.
    pub max_sessions: usize,
    /// Longest time to reach a backend, 1 to 60,000; then the client is reset.
    pub connect_timeout_ms: u64,
    /// Time that sessions get to finish when the process is told to stop, up to 3,600,000.
    pub drain_ms: u64,
}

/// Why a configuration is not usable.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key, or a value of the wrong type: where, and what was expected.
    #[error("{0}")]
    Syntax(String),
    /// Reachable from elsewhere without a secret.
    #[error(
        "listen = \"{0}\" is not a loopback address: set token = \"…\", or listen on 127.0.0.1"
    )]
    OpenAdmin(SocketAddr),
    /// A value out of its range.
    #[error("{key} is {value}; accepted: {} to {}", accepted.start(), accepted.end())]
    Range {
        /// The key.
        key: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        accepted: RangeInclusive<u64>,
    },
    /// The limit of the process is too low for anything.
    #[error(
        "this process may have {limit} files and connections open and needs {needed} at least: raise the limit (`ulimit -n`, LimitNOFILE of systemd)"
    )]
    TooFewFiles {
        /// What it may have.
        limit: u64,
        /// What it needs.
        needed: u64,
    },
    /// An empty token would let everybody in.
    #[error("token must not be empty")]
    EmptyToken,
    /// Two tokens.
    #[error("set one of token and token_file")]
    TwoTokens,
    /// The token's file cannot be used.
    #[error("token_file: {0}")]
    Secret(#[from] web::SecretError),
    /// A host that is none.
    #[error("allowed_hosts: {0}")]
    Host(#[from] web::BadName),
    /// A certificate or key cannot be used.
    #[error("{0}")]
    Tls(#[from] web::certs::Fault),
    /// The file cannot be read.
    #[error("cannot be read")]
    Read(#[source] std::io::Error),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "balancer".to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9400)),
            token: None,
            token_file: None,
            allowed_hosts: Vec::new(),
            log_file: None,
            log_level: "info".to_owned(),
            bind_source: None,
            send_proxy: true,
            workers: 0,
            health_interval_ms: 200,
            limits: Limits::default(),
            tls: Files::default(),
        }
    }
}

/// A key that is a number, what it may be, and where it stands.
type Bound = (&'static str, RangeInclusive<u64>, fn(&Config) -> u64);

/// Every number. A day for a timeout, or a million threads, is a slip of the pen.
const BOUNDS: [Bound; 5] = [
    ("workers", 0..=256, |of| of.workers as u64),
    ("health_interval_ms", 0..=60_000, |of| of.health_interval_ms),
    ("limits.max_sessions", 1..=1_000_000, |of| of.limits.max_sessions as u64),
    ("limits.connect_timeout_ms", 1..=60_000, |of| of.limits.connect_timeout_ms),
    ("limits.drain_ms", 0..=3_600_000, |of| of.limits.drain_ms),
];

/// Connections to the admin address at a time.
pub(super) const ADMIN_CONNECTIONS: usize = 64;
/// A client's and a node's socket, and the client's once more when it has ended its side.
const PER_SESSION: u64 = 3;
/// A worker's runtime.
const PER_WORKER: u64 = 4;
/// Descriptors for listeners, health checks and the like.
const OWN: u64 = 128;

/// The part of the sample that is about the TLS of clients.
const TERMINATE: &str = r#"# [tls.terminate]
# TLS of clients ends here: what they send goes to the nodes in clear, behind a header that says so, and their sessions
# move in a switchover; with `nodes` above it goes over TLS, and they do not. Without this table TLS is passed on to the
# nodes. All of it is read again at SIGHUP.
# Certificate that clients see, then those that lead to its CA, PEM; it names the frontends' addresses.
# cert_file = "/etc/holdfast/clients.pem"

# Its key, PEM, not encrypted.
# key_file = "/etc/holdfast/clients.key"

# Certificates of the CAs of which clients must show one, PEM. Default: none is asked for.
# client_ca_file = "/etc/holdfast/client-ca.pem"

# Whether a client may show none; one that is shown must be of these CAs all the same.
# client_optional = false

# The frontends where TLS ends, `host:port` as they are announced. Empty: all.
# frontends = []

# Whether clients may speak in clear there too; the first byte tells which it is.
# plain = false
"#;

impl Default for Limits {
    fn default() -> Self {
        Self { max_sessions: 20_000, connect_timeout_ms: 1_000, drain_ms: 1_000 }
    }
}

impl Config {
    /// Every key with its unit, range and default, as a file in which nothing is set.
    pub fn sample() -> String {
        // A key that is added and not shown here does not compile.
        let Self {
            name,
            listen,
            token: _,
            token_file: _,
            allowed_hosts,
            log_file: _,
            log_level,
            bind_source: _,
            send_proxy,
            workers,
            health_interval_ms,
            limits,
            tls: _,
        } = Self::default();
        let Limits { max_sessions, connect_timeout_ms, drain_ms } = limits;
        format!(
            "\
# Configuration of `holdfast balancer`. What is commented out is the default. Which addresses it serves and
# where they lead is the controller's to say: it starts closed. SIGHUP has this file read again: `token`, `allowed_hosts`,
# `log_file`, `log_level` and `tls` are then in force, the rest after a restart.

# Name in logs and metrics.
# name = \"{name}\"

# Where the controller reaches it (HTTP, also /metrics and /healthz), address:port. Loopback only, unless `token` is set.
# listen = \"{listen}\"

# Secret that /api and /metrics ask for as `Authorization: Bearer`; `token=` of `ctl balancer`. Default: none.
# token = \"…\"

# File whose only line is that secret; in place of `token`. Read again at SIGHUP.
# token_file = \"/etc/holdfast/balancer.token\"

# Names under which the admin interface is reached, beside `localhost` and the address it listens on: `name` or
# `name:port`. Requests to others are refused, because a web page may have sent them.
# allowed_hosts = {allowed_hosts:?}

# File of the log, opened again at SIGUSR1 and at SIGHUP. Default: standard error, where errors go in any case.
# log_file = \"/var/log/holdfast/balancer.log\"

# Least severe message that is logged: error, warn, info, debug or trace, also per module. RUST_LOG wins.
# log_level = {log_level:?}

# Address that nodes are dialled from; inside their `balancer-sources`, and the `source=` of `ctl balancer`.
# Default: what the kernel chooses.
# bind_source = \"192.0.2.1\"

# Whether nodes get a PROXY protocol v2 header, true or false. Holdfast nodes need it.
# send_proxy = {send_proxy}

# Threads that move bytes, 0 to 256; 0: one per CPU.
# workers = {workers}

# Time between two health checks of a backend, ms, 0 to 60000; 0: only clients' connections tell.
# health_interval_ms = {health_interval_ms}

# [limits]
# Sessions over all frontends, 1 to 1000000; a connection above that is reset.
# max_sessions = {max_sessions}

# Longest time to reach a node, ms, 1 to 60000; then the client is reset.
# connect_timeout_ms = {connect_timeout_ms}

# Time that sessions get to finish when the process is told to stop, ms, 0 to 3600000.
# drain_ms = {drain_ms}

# [tls]
# Certificate, then those that lead to its CA, PEM: the port speaks HTTPS only then. `ctl balancer` is told `https://…`.
# All files of this table are read again at SIGHUP; with a fault in one of them the old ones stay in force. Default: none.
# cert_file = \"/etc/holdfast/balancer.pem\"

# Its key, PEM, not encrypted.
# key_file = \"/etc/holdfast/balancer.key\"

# Certificates of the CAs of which clients must show one, PEM, beside the token. Default: none is asked for.
# client_ca_file = \"/etc/holdfast/ca.pem\"

# Whether a client may show none; one that is shown must be of these CAs all the same.
# client_optional = false

# Certificates of the CAs by which nodes are known, PEM, where `nodes` is set.
# ca_file = \"/etc/holdfast/ca.pem\"

# Whether nodes are spoken to over TLS for clients whose TLS ends here, true or false. Their certificates must name their
# local addresses; they see `cert_file` if they ask for one. Such sessions do not move in a switchover.
# nodes = false

{TERMINATE}"
        )
    }

    /// Descriptors that this configuration needs.
    pub(super) fn open_files(&self) -> u64 {
        self.own_files() + PER_SESSION * self.limits.max_sessions as u64
    }

    /// Of these, what sessions must leave.
    fn own_files(&self) -> u64 {
        OWN + ADMIN_CONNECTIONS as u64 + PER_WORKER * self.worker_count() as u64
    }

    /// Lowers `max_sessions` to what the limit of the process has descriptors for, and says so.
    pub(super) fn fit_into(&mut self, limit: limits::OpenFiles) -> Result<(), ConfigError> {
        let sessions = limit.soft.saturating_sub(self.own_files()) / PER_SESSION;
        let sessions = usize::try_from(sessions).unwrap_or(usize::MAX);
        if sessions == 0 {
            let needed = self.own_files() + PER_SESSION;
            return Err(ConfigError::TooFewFiles { limit: limit.soft, needed });
        }
        if sessions < self.limits.max_sessions {
            tracing::warn!(
                limit = limit.soft,
                hard_limit = limit.hard,
                "limits.max_sessions is {sessions} and not {}: raise the limit of open files (`ulimit -n`, LimitNOFILE of systemd)",
                self.limits.max_sessions
            );
            self.limits.max_sessions = sessions;
        }
        Ok(())
    }

    /// Reads and checks a configuration.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let misread = |error: toml::de::Error| ConfigError::Syntax(web::misread(text, &error));
        let mut config: Self = toml::from_str(text).map_err(misread)?;
        if let Some(file) = &config.token_file {
            if config.token.is_some() {
                return Err(ConfigError::TwoTokens);
            }
            config.token = Some(web::read_secret(file)?);
        }
        config.check()?;
        Ok(config)
    }

    /// Where TLS of clients ends here.
    fn check_terminate(&self) -> Result<(), Fault> {
        let Some(table) = &self.tls.terminate else { return Ok(()) };
        if !self.send_proxy {
            let why = "with tls.terminate it must be true: by its header alone a node knows who speaks TLS";
            return Err(Fault::of("send_proxy", why));
        }
        table.places().map(drop)
    }

    pub(super) fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            given => given,
        }
    }
}

impl Settings for Config {
    type Error = ConfigError;

    fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(ConfigError::Read)?;
        Self::from_toml(&text)
    }

    /// The rules that types cannot say.
    fn check(&self) -> Result<(), ConfigError> {
        web::Names::parse(&self.allowed_hosts)?;
        if self.token.as_deref() == Some("") {
            return Err(ConfigError::EmptyToken);
        }
        if self.token.is_none() && !self.listen.ip().is_loopback() {
            return Err(ConfigError::OpenAdmin(self.listen));
        }
        if self.tls.nodes && self.tls.terminate.is_none() {
            let why = "it is for clients whose TLS ends here (tls.terminate): what others encrypt is passed on";
            return Err(Fault::of("tls.nodes", why).into());
        }
        self.check_terminate()?;
        for (key, accepted, of) in BOUNDS {
            let value = of(self);
            if !accepted.contains(&value) {
                return Err(ConfigError::Range { key, value, accepted });
            }
        }
        Ok(())
    }

    fn keys_of(error: &ConfigError) -> Vec<&'static str> {
        match error {
            ConfigError::OpenAdmin(_) => vec!["listen"],
            ConfigError::Range { key, .. } => vec![key],
            ConfigError::EmptyToken => vec!["token"],
            ConfigError::TwoTokens | ConfigError::Secret(_) => vec!["token_file"],
            ConfigError::Host(_) => vec!["allowed_hosts"],
            ConfigError::Tls(fault) => vec![fault.option],
            ConfigError::Syntax(_) | ConfigError::TooFewFiles { .. } | ConfigError::Read(_) => {
                Vec::new()
            }
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
            name,
            listen,
            token,
            token_file: _,
            allowed_hosts,
            log_file,
            log_level,
            bind_source,
            send_proxy,
            workers,
            health_interval_ms,
            limits,
            tls,
        } = read;
        let live = [
            ("token", *token != self.token),
            ("allowed_hosts", *allowed_hosts != self.allowed_hosts),
            ("log_file", *log_file != self.log_file),
            ("log_level", *log_level != self.log_level),
            ("tls", *tls != self.tls),
        ];
        let others = [
            ("name", *name != self.name),
            ("listen", *listen != self.listen),
            ("bind_source", *bind_source != self.bind_source),
            ("send_proxy", *send_proxy != self.send_proxy),
            ("workers", *workers != self.workers),
            ("health_interval_ms", *health_interval_ms != self.health_interval_ms),
            ("limits", *limits != self.limits),
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
    }
}

impl Limits {
    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(super) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}

#[cfg(test)]
mod tests {
    use web::terminate::Terminate;

    use super::*;

    #[test]
    fn the_sample_has_every_key_with_its_default() {
        let sample = Config::sample();
        assert_eq!(Config::from_toml(&sample).unwrap(), Config::default());
        let is_toml = |line: &&str| line.contains(" = ") || line.starts_with('[');
        let lines: Vec<&str> =
            sample.lines().filter_map(|line| line.strip_prefix("# ")).filter(is_toml).collect();
        assert_eq!(lines.len(), 29, "{lines:?}");
        let lines: Vec<&str> =
            lines.into_iter().filter(|line| !line.starts_with("token_file")).collect();
        let shown = Config {
            token: Some("…".into()),
            log_file: Some("/var/log/holdfast/balancer.log".into()),
            bind_source: Some("192.0.2.1".parse().unwrap()),
            tls: Files {
                cert_file: Some("/etc/holdfast/balancer.pem".into()),
                key_file: Some("/etc/holdfast/balancer.key".into()),
                client_ca_file: Some("/etc/holdfast/ca.pem".into()),
                client_optional: false,
                ca_file: Some("/etc/holdfast/ca.pem".into()),
                nodes: false,
                terminate: Some(Terminate {
                    cert_file: Some("/etc/holdfast/clients.pem".into()),
                    key_file: Some("/etc/holdfast/clients.key".into()),
                    client_ca_file: Some("/etc/holdfast/client-ca.pem".into()),
                    ..Terminate::default()
                }),
            },
            ..Config::default()
        };
        assert_eq!(Config::from_toml(&lines.join("\n")).unwrap(), shown);
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::from_toml("").unwrap(), Config::default());
    }

    #[test]
    fn every_key_is_read() {
        let config = Config::from_toml(
            "name = 'lb1'\nlisten = '0.0.0.0:9401'\ntoken = 's'\nbind_source = '127.0.0.2'\nsend_proxy = false\n\
             workers = 3\nhealth_interval_ms = 9\n[limits]\nmax_sessions = 5\nconnect_timeout_ms = 6\ndrain_ms = 7\n",
        )
        .unwrap();
        assert_eq!(config.worker_count(), 3);
        assert_eq!(config.bind_source, Some("127.0.0.2".parse().unwrap()));
        assert_eq!(config.limits.drain(), Duration::from_millis(7));
    }

    #[test]
    fn errors_name_the_key() {
        let error = |text: &str| Config::from_toml(text).unwrap_err().to_string();
        assert!(error("nmae = 'x'").contains("nmae"));
        assert!(error("[limits]\nmax_sesions = 1").contains("max_sesions"));
        assert!(error("[limits]\nmax_sessions = 0").contains("limits.max_sessions"));
        assert!(error("listen = '0.0.0.0:1'").contains("token"));
        assert!(error("token = ''").contains("token"));
        assert!(error("workers = 'many'").contains("workers"));
        for text in ["token = s3cret", "token = \"s3cret", "name = 'x'\ntoken = [\"s3cret\"]"] {
            assert!(!error(text).contains("s3cret"), "{}", error(text));
        }
        let told = error("send_proxy = false\n[tls.terminate]\ncert_file = 'x'\n");
        assert!(
            told.starts_with("option `send_proxy`: with tls.terminate it must be true"),
            "{told}"
        );
        for wrong in ["lb.test", "lb.test:", "lb.test:70000", ""] {
            let told =
                error(&format!("[tls.terminate]\nfrontends = ['lb.test:7000', '{wrong}']\n"));
            assert!(told.contains(&format!("`{wrong}` is no frontend")), "{told}");
        }
        assert!(error("[tls.terminate]\ncert = 'x'\n").contains("cert"));
        let told = error("[tls]\nca_file = 'x'\nnodes = true\n");
        assert!(told.starts_with("option `tls.nodes`: it is for clients whose TLS ends"), "{told}");
    }

    #[test]
    fn every_number_has_a_range_that_the_sample_tells_and_both_its_ends_are_taken() {
        let sample = Config::sample();
        for (key, accepted, of) in BOUNDS {
            let (table, name) = key.split_once('.').unwrap_or(("", key));
            let section = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
            let with = |value: u64| Config::from_toml(&format!("{section}{name} = {value}\n"));
            let (least, most) = accepted.into_inner();
            for end in [least, most] {
                assert_eq!(of(&with(end).unwrap()), end, "{key}");
            }
            let told = format!("{least} to {most}");
            let beyond = [Some(most + 1), least.checked_sub(1)];
            for value in beyond.into_iter().flatten() {
                let said = with(value).unwrap_err().to_string();
                assert!(said.contains(&format!("{key} is {value}; accepted: {told}")), "{said}");
            }
            let line = sample.find(&format!("# {name} = ")).unwrap();
            let comment = sample[..line].rsplit("\n\n").next().unwrap();
            assert!(comment.contains(&told), "{key}: {comment}");
        }
    }

    #[test]
    fn sessions_are_as_many_as_there_are_descriptors_for() {
        let mut config = Config::default();
        let limit = |soft| limits::OpenFiles { soft, hard: soft };
        config.fit_into(limit(config.open_files())).unwrap();
        assert_eq!(config.limits.max_sessions, 20_000);
        config.fit_into(limit(1024)).unwrap();
        assert!((200..300).contains(&config.limits.max_sessions), "{:?}", config.limits);
        assert!(config.open_files() <= 1024);
        let why = config.fit_into(limit(64)).unwrap_err().to_string();
        assert!(why.contains("may have 64 files") && why.contains("ulimit -n"), "{why}");
    }
}
