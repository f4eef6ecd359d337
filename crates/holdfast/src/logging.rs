//! The log: plain text on standard error, standard output or in a file that can be opened again.
//!
//! `RUST_LOG` is read on top of the configured level, and wins over it, also over one that is set
//! later, so that one module can be looked at without editing files. What it names and nobody knows
//! mutes nothing.

mod output;

use std::path::Path;

use anyhow::{Context as _, Result};
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use output::Writer;

type Lines = fmt::Layer<Registry, DefaultFields, Format, Writer>;
type Filtered = tracing_subscriber::layer::Layered<Lines, Registry>;

/// The log of this process, for changing its level and its place.
#[derive(Clone)]
pub(crate) struct Log {
    filter: reload::Handle<EnvFilter, Filtered>,
    environment: Option<String>,
    output: Writer,
}

/// Sets up logging for this process, once: to standard error, until [`Log::direct`] says otherwise.
pub(crate) fn init(level: &str) -> Result<Log> {
    let given = std::env::var("RUST_LOG").ok().filter(|given| !given.trim().is_empty());
    let (environment, complaint) = match given.map(|given| understood(&given)) {
        None => (None, None),
        Some(Ok((given, complaint))) => (Some(given), complaint),
        Some(Err(complaint)) => (None, Some(complaint)),
    };
    let output = Writer::default();
    let log = fmt()
        .with_env_filter(filter(level, environment.as_deref())?)
        .with_writer(output.clone())
        .with_ansi(false)
        .with_filter_reloading();
    let filter = log.reload_handle();
    log.try_init().map_err(|error| anyhow::anyhow!("set up logging: {error}"))?;
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
    Ok(Log { filter, environment, output })
}

impl Log {
    /// From now on logs what `level` asks for: `error`, `warn`, `info`, `debug`, `trace`, a filter
    /// such as `info,controller=debug`, or one of Kvrocks' own words. A level that cannot be read
    /// changes nothing but says so. One that names nobody is none either: it would mute all others.
    pub(crate) fn set_level(&self, level: &str) {
        let outcome = check_level(level)
            .and_then(|()| filter(level, self.environment.as_deref()))
            .and_then(|filter| Ok(self.filter.reload(filter)?));
        if let Err(error) = outcome {
            tracing::warn!(error = format!("{error:#}"), "the log level stays as it is");
        }
    }

    /// From now on lines go to the end of `file`, which is made, or opened again, and to standard
    /// output if `is_stdout`; without both to standard error. Where there is a file, errors go to
    /// standard error as well.
    pub(crate) fn direct(&self, file: Option<&Path>, is_stdout: bool) -> Result<()> {
        self.output.direct(file, is_stdout).with_context(|| match file {
            Some(file) => format!("open the log {}", file.display()),
            None => "open the log".to_owned(),
        })
    }

    /// Whether lines go to a file.
    pub(crate) fn has_file(&self) -> bool {
        self.output.has_file()
    }

    /// Waits a moment until the file has what was logged.
    pub(crate) fn flush(&self) {
        self.output.flush();
    }
}

impl node::log::Log for Log {
    fn set_level(&self, level: &str) {
        self.set_level(level);
    }

    fn direct(&self, file: Option<&Path>, is_stdout: bool) -> Result<()> {
        self.direct(file, is_stdout)
    }
}

/// Whether `text` is a level, or a filter such as `info,controller=debug`.
pub(crate) fn check_level(text: &str) -> Result<()> {
    filter(text, None).map(drop)?;
    match strange(text) {
        Some(word) => anyhow::bail!(
            "log level `{text}`: `{word}` is neither a level (error, warn, info, debug, trace) nor \
             a module of this program"
        ),
        None => Ok(()),
    }
}

fn filter(level: &str, environment: Option<&str>) -> Result<EnvFilter> {
    let level = match level {
        "warning" => "warn",
        "fatal" => "error",
        level => level,
    };
    // The later of two directives for the same thing wins.
    let all = match environment {
        Some(more) => format!("{level},{more}"),
        None => level.to_owned(),
    };
    EnvFilter::try_new(all).with_context(|| format!("read log level `{level}`"))
}

/// What `RUST_LOG` says, and a word about what nobody knows in it; or why it says nothing.
fn understood(given: &str) -> Result<(String, Option<String>), String> {
    if let Err(error) = EnvFilter::try_new(given) {
        return Err(format!("RUST_LOG is `{given}`, which is no filter ({error}): it is ignored"));
    }
    let complaint = strange(given).map(|word| {
        format!(
            "RUST_LOG names `{word}`, which is neither a level (error, warn, info, debug, trace, \
             off) nor a module of this program"
        )
    });
    Ok((given.to_owned(), complaint))
}

/// Crates whose lines this process may log.
const MODULES: &[&str] = &[
    "api",
    "axum",
    "balancer",
    "controller",
    "grant",
    "holdfast",
    "hyper",
    "hyper_util",
    "mio",
    "node",
    "planner",
    "replication",
    "reqwest",
    "resp",
    "storage",
    "tokio",
    "topology",
    "web",
];

/// The first word that is neither level nor module.
fn strange(text: &str) -> Option<&str> {
    let levels = ["off", "error", "warn", "warning", "fatal", "info", "debug", "trace"];
    let is_known = |word: &str| {
        let target = word.split(['=', '[']).next().unwrap_or_default().trim();
        let module = target.split("::").next().unwrap_or_default();
        let is_level = levels.iter().any(|level| target.eq_ignore_ascii_case(level))
            || matches!(target.parse(), Ok(0..=5u8));
        target.is_empty() || is_level || MODULES.contains(&module)
    };
    // A filter on fields (`[span{field=value}]`) is for people who know what they do.
    if text.contains('[') {
        return None;
    }
    text.split(',').map(str::trim).find(|word| !is_known(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a file may say at SIGHUP.
    #[test]
    fn a_level_that_is_none_leaves_the_one_before() {
        let output = Writer::default();
        let lines = fmt()
            .with_env_filter(filter("info", None).unwrap())
            .with_writer(output.clone())
            .with_ansi(false)
            .with_filter_reloading();
        let log = Log { filter: lines.reload_handle(), environment: None, output };
        // The handle is good for as long as this lives.
        let _subscriber = lines.finish();
        let set = |level: &str| {
            log.set_level(level);
            log.filter.with_current(ToString::to_string).unwrap()
        };
        assert_eq!(set("warning"), "warn");
        for wrong in ["inof", "debug,contoller=trace", "=,=x=y"] {
            assert_eq!(set(wrong), "warn", "{wrong}");
        }
        assert_eq!(set("debug"), "debug");
    }

    #[test]
    fn a_filter_that_names_nobody_mutes_nothing() {
        for (given, word) in [
            ("bogus", Some("bogus")),
            ("info,bogus=debug", Some("bogus=debug")),
            ("warn", None),
            ("info,controller=debug,node::replication=trace", None),
            ("OFF", None),
            ("3", None),
        ] {
            assert_eq!(strange(given), word, "{given}");
        }
        let shown = |level, more| filter(level, more).unwrap().to_string();
        assert!(shown("info", Some("bogus")).contains("info"), "{}", shown("info", Some("bogus")));
        assert_eq!(shown("info", Some("warn")), "warn", "RUST_LOG wins");
        assert_eq!(shown("warning", None), "warn");
        assert!(understood("=,=x=y").is_err());
        assert!(check_level("info,planner=debug").is_ok());
        assert!(check_level("inof").unwrap_err().to_string().contains("`inof` is neither"));
    }
}
