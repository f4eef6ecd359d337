//! The `holdfast` binary: picks the subcommand, sets up logging and signals, and turns outcomes into exit codes.
//!
//! No logic of its own. Exit codes: 0 done or stopped by a signal, 1 failed, 2 the command line was not understood
//! (clap's), and for `ctl` and `node` whatever they return; a node whose disk is full or fails ends with 74,
//! one that met a limit of open files or memory with 71.

mod client;
mod ctl;
mod drill;
mod logging;
mod signals;
mod up;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A Redis-protocol database cluster on RocksDB whose clients come through load balancers.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a data node: `holdfast node -c FILE [--name value …]`
    #[command(disable_help_flag = true)]
    Node {
        /// Passed on as they are: option names are Kvrocks'; see `holdfast node --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run the controller: observes nodes, plans and carries out failover
    Controller(Configured),
    /// Run the built-in TCP load balancer
    Balancer(Configured),
    /// Talk to the controller
    Ctl(Box<ctl::Args>),
    /// Run a whole local cluster, load balancers included, until Ctrl-C
    Up(up::Args),
    /// Kill, stop and restart masters of a local cluster under load, and time the outages
    Drill(drill::Args),
}

#[derive(Debug, clap::Args)]
struct Configured {
    /// Configuration file (TOML)
    #[arg(short, long, value_name = "FILE", required_unless_present = "sample")]
    config: Option<PathBuf>,
    /// Print a configuration file with every key, its unit, range and default, and end
    #[arg(long)]
    sample: bool,
    /// Read the configuration file, say what is wrong with it, and end
    #[arg(long, requires = "config")]
    check: bool,
}

impl Configured {
    /// What to run with, read from the file; none where the sample or a check is all that is
    /// wanted.
    fn load<C>(
        self,
        sample: fn() -> String,
        load: impl FnOnce(&Path) -> Result<C>,
    ) -> Result<Option<C>> {
        let mut out = std::io::stdout().lock();
        if self.sample {
            out.write_all(sample().as_bytes()).context("write the sample")?;
            return Ok(None);
        }
        let Some(file) = self.config else { return Ok(None) };
        let config = load(&file)?;
        if self.check {
            writeln!(out, "{}: ok", file.display()).context("write the result")?;
            return Ok(None);
        }
        Ok(Some(config))
    }
}

fn balancer_config(file: &Path) -> Result<balancer::server::Config> {
    let named = || file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", named()))?;
    balancer::server::Config::from_toml(&text).with_context(named)
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("holdfast: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Node { arguments } => {
            let log = logging::init("info")?;
            node::main(&utf8(arguments)?, move |level| log.set_level(level))
        }
        Command::Controller(configured) => {
            let load = |file: &Path| Ok(controller::Config::load(file)?);
            let Some(config) = configured.load(controller::Config::sample, load)? else {
                return Ok(ExitCode::SUCCESS);
            };
            logging::init("info")?;
            multi_thread()?
                .block_on(async { controller::run(config, signals::shutdown()?).await })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Balancer(configured) => {
            let sample = balancer::server::Config::sample;
            let Some(config) = configured.load(sample, balancer_config)? else {
                return Ok(ExitCode::SUCCESS);
            };
            logging::init("info")?;
            multi_thread()?
                .block_on(async { balancer::server::run(config, signals::shutdown()?).await })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Ctl(args) => current_thread()?.block_on(ctl::run(*args)),
        // These two start children that must die with this very thread (see `up::process`).
        Command::Up(args) => current_thread()?.block_on(up::run(args)),
        Command::Drill(args) => current_thread()?.block_on(drill::run(args)),
    }
}

fn utf8(arguments: Vec<OsString>) -> Result<Vec<String>> {
    arguments
        .into_iter()
        .map(|argument| {
            argument
                .into_string()
                .map_err(|raw| anyhow::anyhow!("argument {} is not UTF-8", raw.display()))
        })
        .collect()
}

fn current_thread() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}

fn multi_thread() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")
}
