//! The controller's configuration file (TOML).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Everything that can be set; each field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the REST interface listens.
    pub listen: SocketAddr,
    /// Bearer token every request must carry; required to listen beyond loopback.
    pub token: Option<String>,
    /// File of the store.
    pub data: PathBuf,
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
            data: PathBuf::from("controller.redb"),
            heartbeat_ms: policy.heartbeat_ms,
            misses: policy.misses,
            lease_ms: policy.lease_ms,
            drift_permille: policy.drift_permille,
            min_term: 0,
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
    /// Every key with its unit, range and default, as a file in which nothing is set.
    pub fn sample() -> String {
        // A key that is added and not shown here does not compile.
        let Self {
            listen,
            token: _,
            data,
            heartbeat_ms,
            misses,
            lease_ms,
            drift_permille,
            min_term,
            take_over: _,
        } = Self::default();
        format!(
            "\
# Configuration of `holdfast controller`. What is commented out is the default.

# Where the REST interface listens, address:port. Loopback only, unless `token` is set.
# listen = \"{listen}\"

# Secret that every request but /healthz must carry as `Authorization: Bearer`. Default: none.
# token = \"…\"

# File of the store: clusters, terms, the log of events. One controller at a time opens it. Back it up.
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
"
        )
    }

    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        let config: Self = toml::from_str(&text).map_err(|cause| ConfigError::Parse {
            path: path.to_owned(),
            cause: Box::new(cause),
        })?;
        config.check()?;
        Ok(config)
    }

    /// Checks the ranges of all values.
    pub fn check(&self) -> Result<(), ConfigError> {
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
        if !self.listen.ip().is_loopback() && self.token.as_deref().unwrap_or("").is_empty() {
            return Err(ConfigError::Range {
                key: "listen",
                value: self.listen.to_string(),
                accepted: "a loopback address, or any with `token` set",
            });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_has_every_key_with_its_default() {
        let sample = Config::sample();
        let unset: Config = toml::from_str(&sample).expect("TOML");
        assert_eq!(unset, Config::default());
        let is_key = |line: &&str| line.contains(" = ");
        let lines: Vec<&str> =
            sample.lines().filter_map(|line| line.strip_prefix("# ")).filter(is_key).collect();
        assert_eq!(lines.len(), 8, "{lines:?}");
        let set = toml::from_str::<Config>(&lines.join("\n")).expect("every key is known");
        assert_eq!(set, Config { token: Some("…".into()), ..Config::default() });
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
    }
}
