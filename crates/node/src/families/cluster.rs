//! CLUSTER, CLUSTERX, and the flags of a connection that concern slots. Texts and rules: Kvrocks' cluster reference.

mod deposed;
mod discarded;

use std::sync::Arc;

use topology::state::ResetGuards;
use topology::view::{self, Jobs};
use topology::{Change, Cluster, ClusterError, NodeId, key_slot, parse_slots};

use crate::command::args::parse_integer;
use crate::command::texts::LOADING;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::grants;
use crate::node::Node;
use crate::role::{change, heartbeat_reply, identifies};
use crate::session::{Command, Flow, SessionCx, Tells, gates};
use ::grant::{Grant, Heartbeat};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::session("cluster",   -2, cluster).no_script().stale().outside_multi(&["reset"]),
    Command::session("clusterx",  -2, clusterx).no_script().stale().loading().admin().peer().outside_multi(CHANGES),
    Command::session("readonly",   1, readonly).fast().stale().loading().no_multi(),
    Command::session("readwrite",  1, readwrite).fast().stale().loading().no_multi(),
    Command::session("asking",     1, asking).fast(),
];

/// What changes more than a connection, or waits for others.
const CHANGES: &[&str] = &[
    "setnodeid",
    "setclusterid",
    "setnodes",
    "setslot",
    "flushslots",
    "heartbeat",
    "relay",
    "discarded",
    "deposed",
];

const CLUSTER_USAGE: &str = "ERR CLUSTER command, CLUSTER INFO|NODES|SLOTS|KEYSLOT|RESET|REPLICAS";
const CLUSTERX_USAGE: &str =
    "ERR CLUSTERX command, CLUSTERX VERSION|MYID|SETNODEID|SETNODES|SETSLOT|MIGRATE";

impl From<ClusterError> for Error {
    fn from(error: ClusterError) -> Self {
        Self::text(error.reply())
    }
}

fn must_be_cluster(cx: &SessionCx<'_>) -> Result<()> {
    if cx.config.cluster_enabled {
        return Ok(());
    }
    Err(Error::text("ERR Cluster mode is not enabled"))
}

fn cluster(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Flow> {
    let usage = || Error::text(CLUSTER_USAGE);
    let word = args.word().ok_or_else(usage)?;
    let count = args.len();
    let is_known = match &*word {
        b"INFO" | b"NODES" | b"SLOTS" | b"SHARDS" | b"MYID" => count == 0,
        b"KEYSLOT" | b"REPLICAS" | b"SLAVES" | b"COUNTKEYSINSLOT" => count == 1,
        b"GETKEYSINSLOT" => count == 2,
        b"RESET" => count <= 1,
        _ => false,
    };
    if !is_known {
        return Err(usage());
    }
    if &*word == b"RESET" {
        return reset(cx, args);
    }
    must_be_cluster(cx)?;
    let state = cx.node.cluster.load();
    let myself = state.id();
    let topology = || state.topology().map(|topology| cx.node.shown(topology));
    let reach = cx.session.reach(cx.config);
    Ok(match &*word {
        b"INFO" => text(reply, view::info_text(state.topology()?, &Jobs::default())),
        b"NODES" => {
            let (topology, jobs) = (topology()?, Jobs::default());
            text(reply, view::nodes_text(&topology, myself, reach, cx.now_ms, &jobs))
        }
        b"SLOTS" => slots(reply, &view::slots(&*topology()?, reach)),
        b"SHARDS" => {
            let store_sequence =
                cx.node.engine().store.as_ref().map_or(0, storage::Store::latest_sequence);
            shards(reply, &view::shards(&*topology()?, myself, reach, store_sequence))
        }
        b"MYID" => reply.bulk(myself.as_ref().map_or(b"".as_slice(), |id| id.as_bytes())),
        b"KEYSLOT" => reply.integer(i64::from(key_slot(args.bytes()?).number())),
        b"REPLICAS" | b"SLAVES" => {
            text(reply, view::replicas_text(&*topology()?, args.bytes()?, reach, cx.now_ms)?)
        }
        b"COUNTKEYSINSLOT" => {
            let count = count_in_slot(cx.node, cx.now_ms, slot_number(args)?)?;
            reply.integer(i64::try_from(count).unwrap_or(i64::MAX))
        }
        _ => {
            let slot = slot_number(args)?;
            let most = args.integer()?;
            let most =
                usize::try_from(most).map_err(|_| Error::text("ERR Invalid number of keys"))?;
            reply.bulks(&keys_in_slot(cx.node, cx.now_ms, slot, most)?)
        }
    }
    .into())
}

fn slot_number(args: &mut Args<'_>) -> Result<u16> {
    let slot = args.integer()?;
    let slot = u16::try_from(slot).ok().filter(|slot| *slot < topology::SLOT_COUNT);
    slot.ok_or_else(|| Error::text("ERR Invalid slot"))
}

fn keys_in_slot(node: &Node, now_ms: u64, slot: u16, most: usize) -> Result<Vec<Vec<u8>>> {
    let engine = node.engine();
    let store = engine.store.as_ref().ok_or_else(|| Error::text(LOADING))?;
    let scope = storage::Scope { namespace: storage::DEFAULT_NAMESPACE, cluster: true, now_ms };
    Ok(storage::types::keyspace::keys_in_slot(&store.txn(), &scope, slot, most)?)
}

fn count_in_slot(node: &Node, now_ms: u64, slot: u16) -> Result<u64> {
    let engine = node.engine();
    let store = engine.store.as_ref().ok_or_else(|| Error::text(LOADING))?;
    let scope = storage::Scope { namespace: storage::DEFAULT_NAMESPACE, cluster: true, now_ms };
    Ok(storage::types::keyspace::count_in_slot(&store.txn(), &scope, slot)?)
}

/// A text for people: a verbatim string in RESP3.
fn text(reply: Reply<'_>, bytes: Vec<u8>) -> Replied {
    reply.with(|writer| writer.verbatim(&bytes))
}

fn slots(reply: Reply<'_>, runs: &[view::SlotRun]) -> Replied {
    reply.with(|writer| {
        writer.array(runs.len());
        for run in runs {
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
    })
}

fn shards(reply: Reply<'_>, shards: &[view::Shard]) -> Replied {
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
                writer.map(7 + usize::from(node.hostname.is_some()));
                writer.bulk(b"id");
                writer.bulk(node.id.as_bytes());
                writer.bulk(b"port");
                writer.integer(i64::from(node.port));
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

/// Whether there is any key; while the database is being replaced, nobody knows.
fn has_data(cx: &SessionCx<'_>) -> Result<bool> {
    let engine = cx.node.engine();
    let scope =
        storage::Scope { namespace: storage::DEFAULT_NAMESPACE, cluster: true, now_ms: cx.now_ms };
    Ok(match &engine.store {
        Some(store) => storage::types::keyspace::random_key(&store.txn(), &scope)?.is_some(),
        None => true,
    })
}

fn reset(cx: &mut SessionCx<'_>, args: &mut Args<'_>) -> Result<Flow> {
    match args.word().as_deref() {
        None | Some(b"HARD" | b"SOFT") => {}
        Some(_) => return Err(Error::Syntax),
    }
    must_be_cluster(cx)?;
    if cx.session.client.via != crate::clients::Via::Direct {
        return Err(Error::text(
            "ERR CLUSTER RESET is only possible on a connection to the node itself",
        ));
    }
    let guards = ResetGuards { has_data: has_data(cx)?, ..ResetGuards::default() };
    Ok(change_later(cx.node, move |cluster, _| cluster.prepare_reset(guards)))
}

fn clusterx(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Flow> {
    let usage = || Error::text(CLUSTERX_USAGE);
    let word = args.word().ok_or_else(usage)?;
    match (&*word, args.len()) {
        (b"VERSION", 0) => {
            must_be_cluster(cx)?;
            Ok(reply.bulk(cx.node.cluster.load().version().to_string().as_bytes()).into())
        }
        (b"MYID", 0) => {
            must_be_cluster(cx)?;
            let id = cx.node.cluster.load().id();
            Ok(reply.bulk(id.as_ref().map_or(b"".as_slice(), |id| id.as_bytes())).into())
        }
        (b"NODES", 0) => {
            must_be_cluster(cx)?;
            let state = cx.node.cluster.load();
            Ok(reply.bulk(&view::clusterx_nodes_text(state.topology()?)).into())
        }
        (b"SETNODEID", 1) => {
            let id = args.bytes()?.to_vec();
            if id.len() != 40 {
                return Err(usage());
            }
            must_be_cluster(cx)?;
            let has_data = has_data(cx)?;
            Ok(change_later(cx.node, move |cluster, _| cluster.prepare_set_node_id(&id, has_data)))
        }
        (b"SETCLUSTERID", 1) => {
            let id = args.bytes()?.to_vec();
            must_be_cluster(cx)?;
            Ok(change_later(cx.node, move |cluster, _| cluster.prepare_set_cluster_id(&id)))
        }
        (b"CONTROLLER", 0) => {
            must_be_cluster(cx)?;
            Ok(reply.bulk(grants::drive::told(cx.node).render().as_bytes()).into())
        }
        (b"SETNODES", 2..) => set_nodes(cx, args),
        (b"SETSLOT", 4) => set_slot(cx, args),
        (b"FLUSHSLOTS", 1) => flush_slots(cx, args, reply),
        (b"HEARTBEAT", 3 | 6 | 15) => heartbeat(cx, args, reply),
        (b"RELAY", 5..) => relay(cx, args),
        (b"DOWN", 1..) => down(cx, args, reply),
        (b"DISCARDED", 1..) => discarded::run(cx, args),
        (b"DEPOSED", 1..) => deposed::run(cx, args, reply),
        _ => Err(usage()),
    }
}

/// Changes the topology and answers once the change is durable and in force.
fn change_later(
    node: &Arc<Node>,
    prepare: impl FnOnce(&Cluster, &Node) -> std::result::Result<Change, ClusterError> + 'static,
) -> Flow {
    let (node, asked) = (Arc::clone(node), Arc::clone(node));
    // A task of its own: a connection that ends meanwhile must not leave nodes.conf ahead of the node.
    let task = tokio::task::spawn_local(change(node, move |cluster| prepare(cluster, &asked)));
    let answer = Box::pin(async move {
        let result = task.await.unwrap_or_else(|error| Err(error.into()));
        let mut bytes = Vec::new();
        let mut writer = resp::Writer::new(&mut bytes, resp::Protocol::V2);
        match result {
            Ok(()) => writer.simple("OK"),
            Err(error) => writer.error(&error.to_string()),
        }
        bytes
    });
    Flow::Later(answer, Tells::Nothing)
}

fn set_nodes(cx: &mut SessionCx<'_>, args: &mut Args<'_>) -> Result<Flow> {
    let description = args.bytes()?.to_vec();
    let version = parse_integer(args.bytes()?).ok_or_else(|| Error::text("ERR Invalid version"))?;
    let invalid = || Error::text("ERR Invalid setnodes options");
    let force = match args.word().as_deref() {
        None => false,
        Some(b"FORCE") => true,
        Some(_) => return Err(invalid()),
    };
    if !args.is_empty() {
        return Err(invalid());
    }
    must_be_cluster(cx)?;
    Ok(change_later(cx.node, move |cluster, node| {
        cluster
            .prepare_set_nodes(&description, version, force, &|endpoint| identifies(node, endpoint))
    }))
}

fn set_slot(cx: &mut SessionCx<'_>, args: &mut Args<'_>) -> Result<Flow> {
    let slots = parse_slots(args.bytes()?).map_err(Error::err)?;
    if args.word().as_deref() != Some(b"NODE") {
        return Err(Error::text("ERR Invalid setslot options"));
    }
    let id = args.bytes()?.to_vec();
    if id.len() != 40 {
        return Err(Error::text("ERR Invalid node id"));
    }
    let version = parse_integer(args.bytes()?).ok_or(Error::NotInteger)?;
    if version < 0 {
        return Err(Error::text("ERR Invalid version"));
    }
    must_be_cluster(cx)?;
    Ok(change_later(cx.node, move |cluster, _| cluster.prepare_set_slot(&slots, &id, version)))
}

fn flush_slots(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Flow> {
    let slots = parse_slots(args.bytes()?).map_err(Error::err)?;
    must_be_cluster(cx)?;
    let engine = cx.node.gate.write();
    let store = gates::may_write(cx.node, cx.config, &engine)?;
    let scope =
        storage::Scope { namespace: storage::DEFAULT_NAMESPACE, cluster: true, now_ms: cx.now_ms };
    let mut txn = store.txn();
    for slot in slots.iter().flat_map(|range| range.slots()) {
        storage::types::keyspace::delete_slot(&mut txn, &scope, slot.number());
    }
    txn.commit()?;
    store.publish()?;
    cx.node.watches.touch_all();
    Ok(Flow::Wrote(reply.ok()))
}

fn heartbeat(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Flow> {
    let master = args.bytes()?;
    let lease_ms = args.integer().ok().and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
    let term: u64 = args.number()?;
    let clock = match args.word().as_deref() {
        None => None,
        Some(b"CLOCK") => {
            let ns = args.text()?.parse().map_err(|_| Error::NotInteger)?;
            let nonce = u64::from_str_radix(args.text()?, 16)
                .map_err(|_| Error::text("ERR invalid nonce: hexadecimal digits expected"))?;
            Some((ns, nonce))
        }
        Some(_) => return Err(Error::Syntax),
    };
    let grant = match args.word().as_deref() {
        None => None,
        Some(b"GRANT") => Some(parse_grant(args)?),
        Some(_) => return Err(Error::Syntax),
    };
    if !cx.config.cluster_enabled {
        return Err(Error::text("ERR cluster mode is not enabled"));
    }
    let id = cx.node.cluster.load().id();
    let is_for_me = id.is_some_and(|id| id.as_bytes() == master);
    let beat = Heartbeat { is_for_me, lease_ms, term, clock, grant };
    grants::drive::heartbeat(cx.node, &beat).map_err(|error| Error::text(error.to_string()))?;
    cx.node.grants.heard.note(master, term, crate::clock::boottime_ns());
    Ok(reply.bulk(heartbeat_reply(cx.node).render().as_bytes()).into())
}

/// `DOWN <term> [<id> …]`: the nodes that a controller has found gone, all of them.
fn down(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Flow> {
    let term = args.number()?;
    let ids = args.rest().iter().map(|id| NodeId::new(id));
    let ids: Option<_> = ids.collect();
    let ids = ids.ok_or_else(|| Error::text("ERR Invalid node id"))?;
    must_be_cluster(cx)?;
    if !cx.node.gone.tell(term, ids, crate::clock::boottime_ms()) {
        return Err(Error::text(
            "ERR election version mismatch: a controller with a higher term leads",
        ));
    }
    Ok(reply.ok().into())
}

fn parse_grant(args: &mut Args<'_>) -> Result<Grant> {
    let words = args.rest().iter().map(|word| std::str::from_utf8(word));
    let words = words.collect::<std::result::Result<Vec<_>, _>>().map_err(|_| Error::Syntax)?;
    Grant::parse(&words).map_err(|error| Error::text(format!("ERR grant refused: {error}")))
}

/// `RELAY <master id> HEARTBEAT …`: passes a heartbeat to this replica's master, which its controller cannot reach.
fn relay(cx: &mut SessionCx<'_>, args: &mut Args<'_>) -> Result<Flow> {
    let master = args.bytes()?;
    let words: Vec<Vec<u8>> = args.rest().iter().map(|word| word.to_vec()).collect();
    if !words.first().is_some_and(|word| word.eq_ignore_ascii_case(b"heartbeat")) {
        return Err(Error::Syntax);
    }
    must_be_cluster(cx)?;
    let crate::gate::Role::Replica { from } = cx.node.engine().role.clone() else {
        return Err(Error::text("ERR relay: this node is no replica"));
    };
    let cluster = cx.node.cluster.load();
    let is_known =
        cluster.topology()?.nodes.iter().any(|node| {
            node.id.as_bytes() == master && *node.endpoint(topology::Viewer::Peer) == from
        });
    if !is_known {
        return Err(Error::text("ERR relay: that is not the master of this node"));
    }
    let answer = Box::pin(grants::relay::pass_on(Arc::clone(cx.node), from, words));
    Ok(Flow::Later(answer, Tells::Nothing))
}

fn readonly(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<Flow> {
    cx.session.is_readonly = true;
    Ok(reply.ok().into())
}

fn readwrite(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<Flow> {
    cx.session.is_readonly = false;
    Ok(reply.ok().into())
}

fn asking(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<Flow> {
    cx.session.is_asking = true;
    Ok(reply.ok().into())
}
