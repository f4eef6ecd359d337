//! What clients are shown of the cluster: its state, nodes and slots. Nodes are named as the
//! asking client reaches them.

use topology::{key_slot, view};

use super::migrate;
use crate::command::{Args, Replied, Reply, Result};
use crate::session::{After, SessionCx};

pub(super) fn info(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let state = cx.node.cluster.load();
    let jobs = migrate::jobs(cx.node, &state);
    Ok(text(reply, view::info_text(state.topology()?, &jobs)).into())
}

pub(super) fn nodes(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let state = cx.node.cluster.load();
    let (topology, jobs) = (cx.node.shown(state.topology()?), migrate::jobs(cx.node, &state));
    let asker = cx.session.asker(cx.config);
    Ok(text(reply, view::nodes_text(&topology, state.id(), asker, cx.now_ms, &jobs)).into())
}

pub(super) fn my_id(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let id = cx.node.cluster.load().id();
    Ok(reply.bulk(id.as_ref().map_or(b"".as_slice(), |id| id.as_bytes())).into())
}

pub(super) fn key_slot_of(
    _cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    Ok(reply.integer(i64::from(key_slot(args.bytes()?).number())).into())
}

pub(super) fn replicas(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let state = cx.node.cluster.load();
    let (topology, asker) = (cx.node.shown(state.topology()?), cx.session.asker(cx.config));
    Ok(text(reply, view::replicas_text(&topology, args.bytes()?, asker, cx.now_ms)?).into())
}

/// A text for people: a verbatim string in RESP3.
fn text(reply: Reply<'_>, bytes: Vec<u8>) -> Replied {
    reply.with(|writer| writer.verbatim(&bytes))
}

pub(super) fn shards(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let state = cx.node.cluster.load();
    let topology = cx.node.shown_with_lost(state.topology()?);
    let asker = cx.session.asker(cx.config);
    let sequence = cx.node.engine().store.as_ref().map_or(0, storage::Store::latest_sequence);
    let offset = |node: &topology::Node| match state.id() == Some(node.id) {
        true => sequence,
        false => cx.node.replication.offset_of(node.id, &node.local).unwrap_or(0),
    };
    Ok(write_shards(reply, &view::shards(&topology, asker, offset)).into())
}

pub(super) fn slots(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let state = cx.node.cluster.load();
    let runs = view::slots(&cx.node.shown(state.topology()?), cx.session.asker(cx.config));
    let replied = reply.with(|writer| {
        writer.array(runs.len());
        for run in &runs {
            writer.array(2 + run.nodes.len());
            writer.integer(i64::from(run.start));
            writer.integer(i64::from(run.end));
            for node in &run.nodes {
                writer.array(3);
                writer.bulk(node.host.as_bytes());
                writer.integer(i64::from(node.port));
                writer.bulk(node.id.as_bytes());
            }
        }
    });
    Ok(replied.into())
}

fn write_shards(reply: Reply<'_>, shards: &[view::Shard]) -> Replied {
    reply.with(|writer| {
        writer.array(shards.len());
        for shard in shards {
            writer.map(2);
            writer.bulk(b"slots");
            writer.array(shard.slots.len() * 2);
            for (first, last) in &shard.slots {
                writer.integer(i64::from(*first));
                writer.integer(i64::from(*last));
            }
            writer.bulk(b"nodes");
            writer.array(shard.nodes.len());
            for node in &shard.nodes {
                let ports = [("port", Some(node.port)), ("tls-port", node.tls_port)];
                let count = 6 + ports.iter().filter(|(_, port)| port.is_some()).count();
                writer.map(count + usize::from(node.hostname.is_some()));
                writer.bulk(b"id");
                writer.bulk(node.id.as_bytes());
                for (name, port) in ports.iter().filter_map(|(n, port)| port.map(|port| (n, port)))
                {
                    writer.bulk(name.as_bytes());
                    writer.integer(i64::from(port));
                }
                let texts = [
                    ("ip", Some(node.ip.as_str())),
                    ("endpoint", Some(node.endpoint.as_str())),
                    ("hostname", node.hostname.as_deref()),
                    ("role", Some(node.role)),
                ];
                for (name, value) in texts.iter().filter_map(|(n, v)| v.map(|v| (n, v))) {
                    writer.bulk(name.as_bytes());
                    writer.bulk(value.as_bytes());
                }
                writer.bulk(b"replication-offset");
                writer.integer(i64::try_from(node.replication_offset).unwrap_or(i64::MAX));
                writer.bulk(b"health");
                writer.bulk(node.health.as_bytes());
            }
        }
    })
}
