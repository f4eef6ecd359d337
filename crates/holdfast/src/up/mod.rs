//! `holdfast up`: a whole cluster on this machine, each part a real process, load balancers
//! included.
//!
//! Invariants: the folder alone decides what is started the second time; `cluster.json` is first
//! written when every slot accepts writes; when this process ends, however it ends, so do its
//! children. It takes no part in failover: the controller does that, `up` only looks.

pub(crate) mod configs;
pub(crate) mod controller;
mod folder;
pub(crate) mod layout;
mod ports;
pub(crate) mod process;
pub(crate) mod running;
mod slots;
pub(crate) mod state;
pub(crate) mod supervisor;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use api::grant::CommitMode;

use crate::out::say;

use self::layout::BalancerKind;
use self::running::Running;

/// `holdfast up`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Masters (3 at the first start; later, what the folder was made with)
    #[arg(long)]
    shards: Option<u16>,
    /// Replicas of each master, not counting it (1 at the first start)
    #[arg(long)]
    replicas: Option<u16>,
    /// Where configuration, data and logs go; the same folder starts the same cluster again
    #[arg(long, default_value = "holdfast-local")]
    dir: PathBuf,
    /// What stands in front of the nodes (builtin at the first start)
    #[arg(long, value_enum)]
    balancer: Option<BalancerKind>,
    /// How many balancers share each announced address (2 at the first start)
    #[arg(long)]
    balancers: Option<u8>,
    /// When a write counts as done: in-sync (with replicas, at the first start) or async; a later
    /// start changes it
    #[arg(long)]
    commit_mode: Option<CommitMode>,
    /// Leave a dead process dead instead of restarting it after 2 s
    #[arg(long)]
    no_restart: bool,
    /// First of some 320 ports (7000 at the first start)
    #[arg(long)]
    base_port: Option<u16>,
    /// Controllers (1 at the first start); several need `--store etcd`
    #[arg(long)]
    controllers: Option<u8>,
    /// Where controllers keep their records (embedded at the first start)
    #[arg(long, value_enum)]
    store: Option<layout::Store>,
}

/// Runs until SIGINT or SIGTERM, or until its terminal is closed.
pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut shutdown = std::pin::pin!(crate::signals::terminal()?);
    let wanted = running::Wanted {
        shards: args.shards,
        replicas: args.replicas,
        balancer: args.balancer,
        balancers: args.balancers,
        base_port: args.base_port,
        controllers: args.controllers,
        store: args.store,
        commit_mode: args.commit_mode,
    };
    let mut running = Running::start(&args.dir, &wanted, !args.no_restart, true)?;
    say(&table::starting(running.layout(), running.folder()));
    let outcome = tokio::select! {
        outcome = follow(&mut running, args.no_restart) => outcome,
        () = &mut shutdown => Ok(()),
    };
    say("stopping");
    running.stop().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Waits until the cluster is usable, says so, and then keeps `cluster.json` true.
async fn follow(running: &mut Running, no_restart: bool) -> Result<()> {
    running.ready().await?;
    say(&table::render(running.layout(), running.state(), running.folder()));
    if no_restart {
        say("A process that dies stays dead (--no-restart). Ctrl-C stops all of it.");
    } else {
        say("A process that dies is restarted after 2 s. Ctrl-C stops all of it.");
    }
    loop {
        running.changed().await?;
    }
}
