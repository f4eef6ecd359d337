//! What controller and balancer have in common as processes: a file with options, a log, SIGHUP,
//! which reads the one and opens the other again, and SIGUSR1, which only opens the log.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use web::{Live, Settings, supervisor};

use crate::logging::{self, Log};
use crate::{VERSION, out, signals};

/// The command line of both.
#[derive(Debug, clap::Args)]
pub(crate) struct Configured {
    /// Configuration file (TOML)
    #[arg(short, long, value_name = "FILE", required_unless_present = "sample")]
    config: Option<PathBuf>,
    /// Read the file, say what is wrong with it, and end
    #[arg(long, requires = "config")]
    check: bool,
    /// Print a configuration file with every key, its unit, range and default, and end
    #[arg(long)]
    sample: bool,
}

/// Runs a process named `name` as its file, and then `prepare`, says, until it ends.
pub(crate) fn run<C: Settings, F: Future<Output = Result<()>>>(
    name: &str,
    configured: Configured,
    sample: fn() -> String,
    prepare: impl FnOnce(&mut C),
    process: impl FnOnce(Arc<Live<C>>) -> Result<F>,
) -> Result<ExitCode> {
    let Some(file) = configured.config.filter(|_| !configured.sample) else {
        out::text(&sample())?;
        return Ok(ExitCode::SUCCESS);
    };
    let wrong = |error: C::Error| {
        let place = place(&file, &C::keys_of(&error));
        anyhow::Error::new(error).context(place)
    };
    let mut config = C::load(&file).map_err(wrong)?;
    logging::check_level(config.log().0).with_context(|| place(&file, &["log_level"]))?;
    if configured.check {
        let live = Live::new(config).map_err(wrong)?;
        live.tls().check().map_err(|fault| wrong(fault.into()))?;
        out::text(&format!("{}: ok\n", file.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    prepare(&mut config);
    let runtime = runtime()?;
    // Before the first line of the log: whoever has read that may send them. They wait until there
    // is something to be read again.
    let (mut hangup, mut reopen) = {
        let _inside = runtime.enter();
        (signals::hangup()?, signals::reopen()?)
    };
    let (level, log_file) = config.log();
    let log = logging::init(level)?;
    log.direct(log_file.map(PathBuf::as_path), false)
        .with_context(|| place(&file, &["log_file"]))?;
    tracing::info!(version = VERSION, config = %file.display(), "{name} starts");
    let live = Arc::new(Live::new(config).map_err(wrong)?);
    let done = runtime.block_on(async {
        let (log, live_again) = (log.clone(), Arc::clone(&live));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = hangup.recv() => {
                        supervisor::reloading();
                        reload(&live_again, &file, &log);
                        supervisor::ready();
                    }
                    Some(()) = reopen.recv() => match direct(&live_again, &log) {
                        Ok(()) => tracing::info!("SIGUSR1: log opened again"),
                        Err(error) => stays(&error),
                    },
                    else => return,
                }
            }
        });
        process(live)?.await
    });
    if let Err(error) = &done {
        tell_log(&log, error);
        supervisor::ends(&out::chain(&**error));
    }
    log.flush();
    match done {
        // As a node does: a supervisor knows that it may try again.
        Err(error) if node::disk::is_full(&error) => {
            out::complain(&format!("the disk is full: {}", out::chain(&*error)));
            Ok(ExitCode::from(node::disk::EXIT_CODE))
        }
        done => done.map(|()| ExitCode::SUCCESS),
    }
}

/// Where something is to be corrected: the file, and the line of the first of these keys that is in
/// it.
fn place(file: &Path, keys: &[&str]) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = web::line_of(&text, keys).map(|line| format!(", line {line}"));
    format!("configuration {}{}", file.display(), line.unwrap_or_default())
}

/// Where the log is a file, the end is told there too; standard error is told by `main`.
fn tell_log(log: &Log, error: &anyhow::Error) {
    if log.has_file() {
        tracing::warn!(error = format!("{error:#}"), "this process ends");
    }
}

fn reload<C: Settings>(live: &Live<C>, file: &Path, log: &Log) {
    let reloaded = live.reload(file);
    log.set_level(live.config().log().0);
    // Opened again whether or not the rest was understood: the old file may be gone.
    if let Err(error) = direct(live, log) {
        stays(&error);
    }
    match reloaded {
        Ok(reloaded) => {
            tracing::info!(file = %file.display(), changed = ?reloaded.changed, "SIGHUP: configuration read again");
            if !reloaded.restart.is_empty() {
                tracing::warn!(keys = ?reloaded.restart, "in force only after a restart");
            }
        }
        Err(error) => {
            let error = format!("{}: {}", place(file, &C::keys_of(&error)), out::chain(&error));
            tracing::error!(error, "SIGHUP: the configuration stays as it is");
        }
    }
}

/// Opens the log that is in force, again.
fn direct<C: Settings>(live: &Live<C>, log: &Log) -> Result<()> {
    let config = live.config();
    log.direct(config.log().1.map(PathBuf::as_path), false)
}

fn stays(error: &anyhow::Error) {
    tracing::error!(error = format!("{error:#}"), "the log stays where it is");
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")
}
