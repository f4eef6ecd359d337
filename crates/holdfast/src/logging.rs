//! Log lines as plain text on standard error; whoever runs the process decides where they go.
//!
//! `RUST_LOG` wins over the configured level, so that one module can be looked at without editing files.

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;

/// Sets up logging for this process, once. `level` is `error`, `warn`, `info`, `debug` or `trace`, a filter such as
/// `info,controller=debug`, or one of Kvrocks' own words.
pub(crate) fn init(level: &str) -> Result<()> {
    let level = match level {
        "warning" => "warn",
        "fatal" => "error",
        level => level,
    };
    let filter = match EnvFilter::try_from_default_env() {
        Ok(filter) => filter,
        Err(_) => EnvFilter::try_new(level).with_context(|| format!("read log level `{level}`"))?,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init()
        .map_err(|error| anyhow::anyhow!("set up logging: {error}"))
}
