//! Commands for what a node does not have, modules, a failover of its own and pictures: they answer
//! what there is to say, and little more.

use crate::command::{Args, Error, Reply, Result};
use crate::session::{After, Command, SessionCx};
use crate::version::VERSION;

#[rustfmt::skip]
pub(super) const MODULE: &[Command] = &[
    Command::session("module|help", 2, module_help).loading().stale(),
    Command::session("module|list", 2, module_list).admin().no_script(),
];

const MODULE_HELP: &[&str] = &[
    "MODULE <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "LIST",
    "    List what is loaded: nothing, there are no modules.",
    "HELP",
    "    Print this help.",
];

fn module_help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(MODULE_HELP).into())
}

fn module_list(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.with(|writer| writer.array(0)).into())
}

/// In a cluster the controller decides which node is master; outside it, SLAVEOF does.
pub(super) fn failover(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    _reply: Reply<'_>,
) -> Result<After> {
    if cx.config.cluster_enabled {
        return Err(Error::err(
            "FAILOVER not allowed in cluster mode: the controller decides, see `ctl switchover`",
        ));
    }
    let mut is_abort = false;
    while let Some(word) = args.word() {
        match &*word {
            b"TO" => {
                args.bytes()?;
                args.number::<u16>()?;
            }
            b"TIMEOUT" => {
                args.number::<u64>()?;
            }
            b"FORCE" => {}
            b"ABORT" => is_abort = true,
            _ => return Err(Error::Syntax),
        }
    }
    if is_abort {
        return Err(Error::err("No failover in progress."));
    }
    if !cx.node.engine().role.is_master() {
        return Err(Error::err("FAILOVER is not valid when server is a replica."));
    }
    if cx.node.replication.replicas().is_empty() {
        return Err(Error::err("FAILOVER requires connected replicas."));
    }
    Err(Error::err(
        "FAILOVER is not done by this node: without a controller, send the replica SLAVEOF NO ONE, \
         and this node SLAVEOF to it",
    ))
}

pub(super) fn lolwut(
    _cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    if let [word, version, ..] = args.rest()
        && word.eq_ignore_ascii_case(b"version")
        && crate::command::args::parse_integer(version).is_none()
    {
        return Err(Error::NotInteger);
    }
    Ok(reply.verbatim(&format!("Holdfast ver. {VERSION}\n")).into())
}
