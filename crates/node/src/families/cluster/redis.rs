//! What Redis' clients ask of a cluster that has a bus between its nodes. Here there is none: the
//! controller watches the nodes and says what they are.

use topology::{NodeId, view};

use crate::command::{Args, Error, Reply, Result};
use crate::session::{After, SessionCx};

const HELP: &[&str] = &[
    "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CANCELSLOTMIGRATIONS",
    "    Give up what MIGRATESLOTS and MIGRATION IMPORT asked for here.",
    "COUNT-FAILURE-REPORTS <node-id>",
    "    Answer 0 for a node that is known: nodes report no failures, the controller finds them.",
    "COUNTKEYSINSLOT <slot>",
    "    Count the keys in a slot.",
    "GETKEYSINSLOT <slot> <count>",
    "    List so many keys in a slot.",
    "GETSLOTMIGRATIONS",
    "    List what was asked for here, and how far it is.",
    "IMPORT <slot> <state>",
    "    Between nodes of Kvrocks: begin or end to take a slot.",
    "INFO",
    "    Tell of the cluster as a whole.",
    "KEYSLOT <key>",
    "    Tell the slot of a key.",
    "LINKS",
    "    List the links of the cluster bus: there are none.",
    "MIGRATESLOTS SLOTSRANGE <start> <end> ... NODE <node-id> ...",
    "    Ask the controller to move slots of this node to another one.",
    "MIGRATION IMPORT <start> <end> ... | STATUS [ID <id> | ALL] | CANCEL <ID <id> | ALL>",
    "    Ask the controller to move slots to this node; list that; give it up.",
    "MYID",
    "    Tell the id of this node.",
    "MYSHARDID",
    "    Tell the id that the nodes of this shard have in common.",
    "NODES",
    "    List all nodes, a line each.",
    "REPLICAS <node-id>",
    "    List the replicas of a node.",
    "RESET [HARD|SOFT]",
    "    Forget the cluster.",
    "SHARDS",
    "    List the slots and nodes of each shard.",
    "SLOTS",
    "    List ranges of slots, each with its master and replicas.",
    "HELP",
    "    Print this help.",
];

pub(super) fn help(
    _cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    Ok(reply.help(HELP).into())
}

pub(super) fn links(
    _cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    Ok(reply.with(|writer| writer.array(0)).into())
}

pub(super) fn count_failure_reports(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let id = args.bytes()?;
    let state = cx.node.cluster.load();
    if !state.topology()?.nodes.iter().any(|node| node.id.as_bytes() == id) {
        return Err(Error::err(format_args!("Unknown node {}", String::from_utf8_lossy(id))));
    }
    Ok(reply.integer(0).into())
}

/// 40 hexadecimal digits, made of the least id in the shard: its nodes know no other name of it.
pub(super) fn my_shard_id(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let state = cx.node.cluster.load();
    let topology = state.topology()?;
    let me = state.id();
    let least = me.map(|me| view::least_in_shard(topology, me).unwrap_or(me));
    let id = least.as_ref().map_or(b"".as_slice(), NodeId::as_bytes);
    Ok(reply.bulk(script::sha1_hex(id).as_bytes()).into())
}
