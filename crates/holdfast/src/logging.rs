//! Log lines as plain text on standard error; whoever runs the process decides where they go.
//!
//! `RUST_LOG` wins over the configured level, also over one that is set later, so that one module can be looked at
//! without editing files.

use anyhow::{Context as _, Result};
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

type Lines = fmt::Layer<Registry, DefaultFields, Format, fn() -> std::io::Stderr>;
type Filtered = tracing_subscriber::layer::Layered<Lines, Registry>;

/// The log of this process, for changing its level.
#[derive(Debug)]
pub(crate) struct Log {
    /// None where `RUST_LOG` decides.
    filter: Option<reload::Handle<EnvFilter, Filtered>>,
}

/// Sets up logging for this process, once.
pub(crate) fn init(level: &str) -> Result<Log> {
    let from_environment = EnvFilter::try_from_default_env().ok();
    let is_pinned = from_environment.is_some();
    let filter = match from_environment {
        Some(filter) => filter,
        None => filter(level)?,
    };
    let log = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr as fn() -> std::io::Stderr)
        .with_ansi(false)
        .with_filter_reloading();
    let handle = log.reload_handle();
    log.try_init().map_err(|error| anyhow::anyhow!("set up logging: {error}"))?;
    Ok(Log { filter: (!is_pinned).then_some(handle) })
}

impl Log {
    /// From now on logs what `level` asks for: `error`, `warn`, `info`, `debug`, `trace`, a filter such as
    /// `info,controller=debug`, or one of Kvrocks' own words. A level that cannot be read changes nothing but says so.
    pub(crate) fn set_level(&self, level: &str) {
        let Some(handle) = &self.filter else { return };
        let outcome = filter(level).and_then(|filter| Ok(handle.reload(filter)?));
        if let Err(error) = outcome {
            tracing::warn!(error = format!("{error:#}"), "the log level stays as it is");
        }
    }
}

fn filter(level: &str) -> Result<EnvFilter> {
    let level = match level {
        "warning" => "warn",
        "fatal" => "error",
        level => level,
    };
    EnvFilter::try_new(level).with_context(|| format!("read log level `{level}`"))
}
