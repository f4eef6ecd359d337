//! CLUSTER, CLUSTERX, and the flags of a connection that concern slots. Texts and rules: Kvrocks'
//! cluster reference.

mod deposed;
mod discarded;
mod migrate;
mod moves;
mod redis;
mod reset;
mod store;
mod wishes;

use std::sync::Arc;

use storage::types::keyspace;
use topology::view;
use topology::{Change, Cluster, ClusterError, NodeId, key_slot, parse_slots};

use crate::command::args::parse_integer;
use crate::command::row::Usage;
use crate::command::texts::LOADING;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::grants;
use crate::moves::orders;
use crate::node::Node;
use crate::role::{change, heartbeat_reply, identifies};
use crate::session::table::SessionHandler;
use crate::session::{After, Command, SessionCx, Tells, gates};
use ::grant::{Grant, Heartbeat};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::container("cluster",  CLUSTER).usage(CLUSTER_USAGE).no_script().stale(),
    Command::container("clusterx", CLUSTERX).usage(CLUSTERX_USAGE).no_script().stale().loading().admin().peer(),
    Command::session("readonly",   1, readonly).fast().stale().loading().no_multi(),
    Command::session("readwrite",  1, readwrite).fast().stale().loading().no_multi(),
    Command::session("asking",     1, asking).fast(),
];

#[rustfmt::skip]
const CLUSTER: &[Command] = &[
    cluster("cluster|cancelslotmigrations", 2, wishes::cancel_slot_migrations).no_multi().admin().at_node(),
    cluster("cluster|count-failure-reports", 3, redis::count_failure_reports),
    cluster("cluster|countkeysinslot", 3, count_keys_in_slot),
    cluster("cluster|getkeysinslot",   4, get_keys_in_slot),
    cluster("cluster|getslotmigrations", 2, wishes::get_slot_migrations).admin(),
    cluster("cluster|help",            2, redis::help).loading(),
    cluster("cluster|import",         -2, migrate::import).no_multi().admin().at_node().skip_slowlog(),
    cluster("cluster|info",            2, info),
    cluster("cluster|keyslot",         3, key_slot_of),
    cluster("cluster|links",           2, redis::links),
    cluster("cluster|migrateslots",   -7, wishes::migrate_slots).no_multi().admin().at_node(),
    cluster("cluster|migration",      -3, wishes::migration).no_multi().admin().at_node(),
    cluster("cluster|myid",            2, my_id),
    cluster("cluster|myshardid",       2, redis::my_shard_id),
    cluster("cluster|nodes",           2, nodes),
    cluster("cluster|replicas",        3, replicas),
    cluster("cluster|reset",          -2, reset::reset).no_multi().admin(),
    cluster("cluster|shards",          2, shards),
    cluster("cluster|slaves",          3, replicas),
    cluster("cluster|slots",           2, slots),
];

/// What changes more than a connection, or waits for others, does not run inside EXEC.
#[rustfmt::skip]
const CLUSTERX: &[Command] = &[
    clusterx("clusterx|as",          -4, as_term).no_multi(),
    clusterx("clusterx|controller",   2, controller),
    clusterx("clusterx|deposed",     -3, deposed::run).no_multi(),
    clusterx("clusterx|discarded",   -3, discarded::run).no_multi(),
    clusterx("clusterx|down",        -3, down),
    clusterx("clusterx|flushslots",   3, flush_slots).no_multi(),
    clusterx("clusterx|heartbeat",   -5, heartbeat).no_multi(),
    clusterx("clusterx|migrate",     -2, migrate::migrate).no_multi(),
    clusterx("clusterx|move",        -3, moves::of_move).no_multi().skip_slowlog(),
    clusterx("clusterx|myid",         2, my_id),
    clusterx("clusterx|nodes",        2, nodes_of_kvrocks),
    clusterx("clusterx|observe",      2, observe),
    clusterx("clusterx|relay",       -7, relay).no_multi(),
    clusterx("clusterx|setclusterid", 3, set_cluster_id).no_multi(),
    clusterx("clusterx|setnodeid",    3, set_node_id).no_multi(),
    clusterx("clusterx|setnodes",    -4, set_nodes).no_multi(),
    clusterx("clusterx|setslot",      6, set_slot).no_multi(),
    clusterx("clusterx|version",      2, version),
];

const fn cluster(name: &'static str, arity: i8, handler: SessionHandler) -> Command {
    let command = Command::session(name, arity, handler).usage(CLUSTER_USAGE);
    command.in_cluster().no_script().stale()
}

const fn clusterx(name: &'static str, arity: i8, handler: SessionHandler) -> Command {
    let command = Command::session(name, arity, handler).usage(CLUSTERX_USAGE);
    command.in_cluster().no_script().stale().loading().admin().peer()
}

const CLUSTER_TEXT: &str = "ERR CLUSTER command, CLUSTER INFO|NODES|SLOTS|KEYSLOT|RESET|REPLICAS";
const CLUSTER_USAGE: Usage = Usage::Text(CLUSTER_TEXT);
const CLUSTERX_TEXT: &str =
    "ERR CLUSTERX command, CLUSTERX VERSION|MYID|SETNODEID|SETNODES|SETSLOT|MIGRATE";
const CLUSTERX_USAGE: Usage = Usage::Text(CLUSTERX_TEXT);

impl From<ClusterError> for Error {
    fn from(error: ClusterError) -> Self {
        Self::text(error.reply())
    }
}

fn info(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let state = cx.node.cluster.load();
    let jobs = migrate::jobs(cx.node, &state);
    Ok(text(reply, view::info_text(state.topology()?, &jobs)).into())
}

fn nodes(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let state = cx.node.cluster.load();
    let (topology, jobs) = (cx.node.shown(state.topology()?), migrate::jobs(cx.node, &state));
    let asker = cx.session.asker(cx.config);
    Ok(text(reply, view::nodes_text(&topology, state.id(), asker, cx.now_ms, &jobs)).into())
}

fn my_id(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let id = cx.node.cluster.load().id();
    Ok(reply.bulk(id.as_ref().map_or(b"".as_slice(), |id| id.as_bytes())).into())
}

fn key_slot_of(_cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.integer(i64::from(key_slot(args.bytes()?).number())).into())
}

fn replicas(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let state = cx.node.cluster.load();
    let (topology, asker) = (cx.node.shown(state.topology()?), cx.session.asker(cx.config));
    Ok(text(reply, view::replicas_text(&topology, args.bytes()?, asker, cx.now_ms)?).into())
}

fn count_keys_in_slot(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let count = count_in_slot(cx, slot_number(args)?)?;
    Ok(reply.integer(i64::try_from(count).unwrap_or(i64::MAX)).into())
}

fn get_keys_in_slot(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let (slot, most) = (slot_number(args)?, args.integer()?);
    let most = usize::try_from(most).map_err(|_| Error::text("ERR Invalid number of keys"))?;
    Ok(reply.bulks(&keys_in_slot(cx, slot, most)?).into())
}

fn slot_number(args: &mut Args<'_>) -> Result<u16> {
    let slot = args.integer()?;
    let slot = u16::try_from(slot).ok().filter(|slot| *slot < topology::SLOT_COUNT);
    slot.ok_or_else(|| Error::text("ERR Invalid slot"))
}

fn keys_in_slot(cx: &SessionCx<'_>, slot: u16, most: usize) -> Result<Vec<Vec<u8>>> {
    let engine = cx.node.engine();
    let store = engine.store.as_ref().ok_or_else(|| Error::text(LOADING))?;
    Ok(keyspace::keys_in_slot(&store.txn(), &cx.scope(), slot, most)?)
}

fn count_in_slot(cx: &SessionCx<'_>, slot: u16) -> Result<u64> {
    let engine = cx.node.engine();
    let store = engine.store.as_ref().ok_or_else(|| Error::text(LOADING))?;
    Ok(keyspace::count_in_slot(&store.txn(), &cx.scope(), slot)?)
}

/// A text for people: a verbatim string in RESP3.
fn text(reply: Reply<'_>, bytes: Vec<u8>) -> Replied {
    reply.with(|writer| writer.verbatim(&bytes))
}

fn shards(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
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

fn slots(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
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

fn version(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.bulk(cx.node.cluster.load().version().to_string().as_bytes()).into())
}

fn nodes_of_kvrocks(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let state = cx.node.cluster.load();
    Ok(reply.bulk(&view::clusterx_nodes_text(state.topology()?)).into())
}

fn set_node_id(cx: &mut SessionCx<'_>, args: &mut Args<'_>, _reply: Reply<'_>) -> Result<After> {
    let id = args.bytes()?.to_vec();
    if id.len() != 40 {
        return Err(Error::text(CLUSTERX_TEXT));
    }
    let has_data = reset::has_data(cx)?;
    Ok(change_later(cx.node, move |cluster, _| cluster.prepare_set_node_id(&id, has_data)))
}

fn set_cluster_id(cx: &mut SessionCx<'_>, args: &mut Args<'_>, _reply: Reply<'_>) -> Result<After> {
    let id = args.bytes()?.to_vec();
    Ok(change_later(cx.node, move |cluster, _| cluster.prepare_set_cluster_id(&id)))
}

fn controller(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.bulk(grants::drive::told(cx.node).render().as_bytes()).into())
}

/// What a heartbeat's reply says, and whom this node hears; changes nothing, and is no controller
/// heard (rule O3).
fn observe(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let text = grants::drive::told(cx.node).behind(&heartbeat_reply(cx.node));
    Ok(reply.bulk(text.as_bytes()).into())
}

/// `AS <term> [STORE …] SETNODES|SETNODEID|SETCLUSTERID|PAUSE|UNPAUSE …`: said by a controller that
/// names its term, and refused once a higher one was seen (rule O5), or where another store leads
/// (O7).
fn as_term(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let (term, said, word) = (args.number()?, store::before(args)?, args.word());
    let run: SessionHandler = match word.as_deref() {
        Some(b"SETNODES") => take_nodes,
        Some(b"SETNODEID") => set_node_id,
        Some(b"SETCLUSTERID") => set_cluster_id,
        Some(b"PAUSE") => super::client::pause,
        Some(b"UNPAUSE") => super::client::unpause,
        _ => return Err(Error::text(CLUSTERX_TEXT)),
    };
    let obeyed = grants::leader::obey(cx.node, term, said);
    obeyed.map_err(|error| Error::text(error.to_string()))?;
    run(cx, args, reply)
}

/// Changes the topology and answers once the change is durable and in force.
fn change_later(
    node: &Arc<Node>,
    prepare: impl FnOnce(&Cluster, &Node) -> std::result::Result<Change, ClusterError> + 'static,
) -> After {
    let (node, asked) = (Arc::clone(node), Arc::clone(node));
    // A task of its own: a connection that ends meanwhile must not leave nodes.conf ahead of the
    // node.
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
    After::Later(answer, Tells::Nothing)
}

fn set_nodes(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    moves::only_its_controllers(cx.node)?;
    take_nodes(cx, args, reply)
}

fn take_nodes(cx: &mut SessionCx<'_>, args: &mut Args<'_>, _reply: Reply<'_>) -> Result<After> {
    let description = args.bytes()?.to_vec();
    let version = parse_integer(args.bytes()?).ok_or_else(|| Error::text("ERR Invalid version"))?;
    let invalid = || Error::text("ERR Invalid setnodes options");
    let force = match args.word().as_deref() {
        None => false,
        Some(b"FORCE") => {
            moves::only_without_grants(cx.node)?;
            true
        }
        Some(_) => return Err(invalid()),
    };
    if !args.is_empty() {
        return Err(invalid());
    }
    Ok(change_later(cx.node, move |cluster, node| {
        cluster
            .prepare_set_nodes(&description, version, force, &|endpoint| identifies(node, endpoint))
    }))
}

fn set_slot(cx: &mut SessionCx<'_>, args: &mut Args<'_>, _reply: Reply<'_>) -> Result<After> {
    moves::only_without_grants(cx.node)?;
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
    Ok(change_later(cx.node, move |cluster, _| cluster.prepare_set_slot(&slots, &id, version)))
}

fn flush_slots(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let slots = parse_slots(args.bytes()?).map_err(Error::err)?;
    let engine = cx.node.gate.write();
    let store = gates::may_write(cx.node, cx.config, &engine)?;
    moves::are_own(store, &slots)?;
    migrate::flushed(cx.node, &slots)?;
    let scope = cx.node.scope(cx.now_ms);
    let mut txn = store.txn();
    for slot in slots.iter().flat_map(|range| range.slots()) {
        keyspace::delete_slot(&mut txn, &scope, slot.number());
    }
    txn.commit()?;
    store.publish()?;
    cx.node.touch_all();
    Ok(After::Wrote(reply.ok()))
}

fn heartbeat(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let (asked, said) = (moves::asked(args)?, store::behind(args)?);
    if !matches!(args.len(), 3 | 6 | 15 | 16) {
        return Err(Error::text(CLUSTERX_TEXT));
    }
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
    let id = cx.node.cluster.load().id();
    let is_for_me = id.is_some_and(|id| id.as_bytes() == master);
    let store = store::of_own(cx.node, master, said);
    let beat = Heartbeat { is_for_me, lease_ms, term, clock, grant, store };
    grants::drive::heartbeat(cx.node, &beat).map_err(|error| Error::text(error.to_string()))?;
    cx.node.grants.heard.note(master, term, store.is_some(), crate::clock::boottime_ns());
    orders::obey_all(cx.node, &asked, is_for_me.then_some(term));
    let moves = Some(orders::say(cx.node, asked.iter().filter_map(api::moves::Asked::id)));
    let said = api::heartbeat::Reply { moves, ..heartbeat_reply(cx.node) };
    cx.node.stopping.tell(&said, crate::clock::boottime_ms());
    Ok(reply.bulk(said.render().as_bytes()).into())
}

/// `DOWN <term> [<id> …]`: the nodes that a controller has found gone, all of them.
fn down(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let term = args.number()?;
    let ids = args.rest().iter().map(|id| NodeId::new(id));
    let ids: Option<_> = ids.collect();
    let ids = ids.ok_or_else(|| Error::text("ERR Invalid node id"))?;
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

/// `RELAY <master id> HEARTBEAT …`: passes a heartbeat to this replica's master, which its
/// controller cannot reach.
fn relay(cx: &mut SessionCx<'_>, args: &mut Args<'_>, _reply: Reply<'_>) -> Result<After> {
    let master = args.bytes()?;
    let words: Vec<Vec<u8>> = args.rest().iter().map(|word| word.to_vec()).collect();
    if !words.first().is_some_and(|word| word.eq_ignore_ascii_case(b"heartbeat")) {
        return Err(Error::Syntax);
    }
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
    Ok(After::Later(answer, Tells::Nothing))
}

fn readonly(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    cx.session.is_readonly = true;
    Ok(reply.ok().into())
}

fn readwrite(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    cx.session.is_readonly = false;
    Ok(reply.ok().into())
}

fn asking(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    cx.session.is_asking = true;
    Ok(reply.ok().into())
}
