//! The `holdfast` binary: picks the subcommand, sets up logging and signals, and turns outcomes
//! into exit codes.
//!
//! No logic of its own. Exit codes: 0 done or stopped by a signal, 1 failed, 2 the command line was
//! not understood (clap's), and for `ctl` and `node` whatever they return; a node whose disk is
//! full or fails ends with 74, as does a controller that starts on a full one; a node that met a
//! limit of open files or memory with 71, one of which a needed thread panicked with 70.

mod client;
mod ctl;
mod drill;
mod generate;
mod logging;
mod out;
mod private;
mod serve;
mod signals;
mod up;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc does unless `MALLOC_CONF` says otherwise: asks for huge pages. Memtables are read
/// in no order, and most of a look-up in one with small pages is the way to the page.
#[expect(unsafe_code, reason = "jemalloc looks for a symbol of this name")]
// SAFETY: jemalloc declares the symbol as a weak `const char *`, for programs to define; this is a
// pointer to bytes that end with a zero and never change.
#[unsafe(export_name = "malloc_conf")]
pub static ALLOCATOR_OPTIONS: &[u8; 11] = b"thp:always\0";

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
    #[command(version)]
    Controller {
        #[command(flatten)]
        configured: serve::Configured,
        /// Lead although the store was copied or moved here, without asking the nodes whether
        /// another controller leads them: only when that one is stopped for good
        #[arg(long)]
        take_over: bool,
    },
    /// Run the built-in TCP load balancer
    #[command(version)]
    Balancer(serve::Configured),
    /// Talk to the controller
    #[command(version)]
    Ctl(Box<ctl::Args>),
    /// Run a whole local cluster, load balancers included, until Ctrl-C
    Up(up::Args),
    /// Kill, stop and restart masters of a local cluster under load, and time the outages
    Drill(drill::Args),
    /// Write the man pages and shell completions of a package
    #[command(hide = true)]
    Generate(generate::Args),
}

/// Of this build.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A command line that was not understood.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(cli) => run(cli.command),
        // Help and version are asked for; whether they could be written is ours to say.
        Err(asked) if !asked.use_stderr() => {
            out::text(&asked.render().to_string()).map(|()| ExitCode::SUCCESS)
        }
        Err(error) => {
            // There is nobody else to be told.
            let _ = error.print();
            Ok(ExitCode::from(USAGE))
        }
    };
    outcome.unwrap_or_else(|error| {
        out::complain(&out::chain(&*error));
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode> {
    // `ctl` writes nothing but to its terminal, and what a package ships is for everybody.
    if !matches!(command, Command::Ctl(_) | Command::Generate(_)) {
        private::from_now_on();
    }
    match command {
        Command::Node { arguments } => {
            let log = logging::init("info")?;
            let outcome = node::main(&utf8(arguments)?, Box::new(log.clone()));
            log.flush();
            outcome
        }
        Command::Controller { configured, take_over } => {
            let lead = |config: &mut controller::Config| config.take_over = take_over;
            serve::run("controller", configured, controller::Config::sample, lead, |live| {
                let shutdown = signals::shutdown()?;
                Ok(controller::run(live, shutdown))
            })
        }
        Command::Balancer(configured) => serve::run(
            "balancer",
            configured,
            balancer::server::Config::sample,
            |_| (),
            |live| {
                let (shutdown, again) = signals::shutdown_and_again()?;
                Ok(balancer::server::run(live, shutdown, again))
            },
        ),
        Command::Ctl(args) => current_thread()?.block_on(ctl::run(*args)),
        // These two start children that must die with this very thread (see `up::process`).
        Command::Up(args) => current_thread()?.block_on(up::run(args)),
        Command::Drill(args) => current_thread()?.block_on(drill::run(args)),
        Command::Generate(args) => generate::run(&args).map(|()| ExitCode::SUCCESS),
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
