//! Kvrocks' own slot migration: CLUSTERX MIGRATE and CLUSTER IMPORT.

use std::sync::Arc;
use std::time::Duration;

use ::replication::slots::wishes::End;
use api::moves::Slots;
use api::moves::wish::Part;
use resp::{Protocol, Writer};
use topology::view::Jobs;
use topology::{Cluster, Route, SlotRange, parse_slots};

use super::moves;
use crate::command::args::parse_integer;
use crate::command::{Args, Error, Reply, Result};
use crate::migration::import::{Link, drop_slots};
use crate::migration::{checks, marks, run};
use crate::node::Node;
use crate::session::{After, Answer, SessionCx, Tells, gates};

/// What is shown of migrations: by a master, in the topology and in fact.
pub(super) fn jobs(node: &Node, cluster: &Cluster) -> Jobs {
    let is_master = node.engine().role.is_master();
    match is_master && cluster.myself().is_none_or(topology::Node::is_master) {
        true => node.migration.jobs(),
        false => Jobs::default(),
    }
}

/// As in Kvrocks, of several ranges the first one counts.
fn first_range(slots: &[u8]) -> Result<SlotRange> {
    let ranges = parse_slots(slots).map_err(Error::err)?;
    ranges.first().copied().ok_or_else(|| Error::err("Slot range is invalid"))
}

fn wrong_number() -> Error {
    Error::text("ERR wrong number of arguments")
}

/// All keys of these slots are about to be deleted here, with the gate held alone.
///
/// # Errors
/// Some of them are handed over just now.
pub(super) fn flushed(node: &Node, slots: &[SlotRange]) -> Result<()> {
    let frozen = node.migration.frozen();
    if slots.iter().any(|range| frozen.is_some_and(|frozen| checks::overlap(frozen, *range))) {
        return Err(Error::text(Route::TryAgain.to_string()));
    }
    slots.iter().for_each(|range| node.migration.flushed(Some(*range)));
    Ok(())
}

/// How long a client waits for the end of a migration.
#[derive(Clone, Copy)]
enum Sync {
    No,
    /// Seconds; 0: without end.
    Within(u64),
}

fn parse_sync(args: &mut Args<'_>) -> Result<Sync> {
    let (word, timeout) = (args.word(), args.rest().first());
    match (word.as_deref(), timeout) {
        (None | Some(b"ASYNC"), None) => Ok(Sync::No),
        (Some(b"ASYNC"), Some(_)) => Err(Error::err("Async migration does not support timeout")),
        (Some(b"SYNC"), None) => Ok(Sync::Within(0)),
        (Some(b"SYNC"), Some(seconds)) => {
            let seconds = parse_integer(seconds)
                .ok_or_else(|| Error::err("timeout is not an integer or out of range"))?;
            let seconds = u64::try_from(seconds).map_err(|_| Error::err("timeout is negative"))?;
            Ok(Sync::Within(seconds))
        }
        _ => Err(Error::err("Invalid sync flag")),
    }
}

/// `MIGRATE <slots> <node id> [ASYNC | SYNC [<timeout>]]`: gives slots to another master. When it
/// is done, the client that asked tells the topology.
pub(super) fn migrate(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    if !(2..=4).contains(&args.len()) {
        return Err(wrong_number());
    }
    let range = first_range(args.bytes()?)?;
    let to = args.bytes()?;
    let sync = parse_sync(args)?;
    if cx.node.grants.granted_epoch().is_some() {
        return wish(cx, range, to, sync);
    }
    let job = {
        let engine = cx.node.engine();
        let cluster = cx.node.cluster.load();
        let (id, at) = checks::may_migrate(&cluster, engine.role.is_master(), range, to)
            .map_err(Error::err)?;
        if let Some(store) = &engine.store {
            moves::are_own(store, &[range])?;
        }
        let job = cx.node.migration.begin(range, id).map_err(Error::err)?;
        run::start(cx.node, Arc::clone(&job), at);
        job
    };
    let Sync::Within(seconds) = sync else { return Ok(reply.ok().into()) };
    let protocol = cx.session.protocol;
    let answer: Answer = Box::pin(async move {
        let ended = match seconds {
            0 => Some(job.wait().await),
            seconds => tokio::time::timeout(Duration::from_secs(seconds), job.wait()).await.ok(),
        };
        written(protocol, |writer| match ended {
            Some(Ok(())) => writer.simple("OK"),
            Some(Err(why)) => writer.error(&format!("ERR {why}")),
            // It goes on.
            None => writer.null(),
        })
    });
    Ok(After::Later(answer, Tells::Nothing))
}

/// Where a controller leads, it moves the slots: the node tells of the wish.
fn wish(cx: &SessionCx<'_>, range: SlotRange, to: &[u8], sync: Sync) -> Result<After> {
    let (from, to) = {
        let engine = cx.node.engine();
        let cluster = cx.node.cluster.load();
        let (id, _) = checks::may_migrate(&cluster, engine.role.is_master(), range, to)
            .map_err(Error::err)?;
        (cluster.id().map(|id| id.to_string()).unwrap_or_default(), id.to_string())
    };
    let slots = Slots::new(&[(range.first().number(), range.last().number())]);
    let part = Part { slots: slots.map_err(Error::err)?, to };
    let wish = cx.node.moves.wishes.wish(vec![(part, from)], End::Giver).map_err(Error::err)?;
    let (node, protocol) = (Arc::clone(cx.node), cx.session.protocol);
    let answer: Answer = Box::pin(async move {
        let wishes = &node.moves.wishes;
        // Before a controller has taken it nothing goes on: that is waited for in any case.
        let ended = match (wishes.answered(wish).await, sync) {
            (Err(why), _) => Some(Err(why)),
            (Ok(()), Sync::No) => Some(Ok(())),
            (Ok(()), Sync::Within(0)) => Some(wishes.over(wish).await),
            (Ok(()), Sync::Within(seconds)) => {
                let over = wishes.over(wish);
                tokio::time::timeout(Duration::from_secs(seconds), over).await.ok()
            }
        };
        written(protocol, |writer| match ended {
            Some(Ok(())) => writer.simple("OK"),
            Some(Err(why)) => writer.error(&format!("ERR {why}")),
            // It goes on.
            None => writer.null(),
        })
    });
    Ok(After::Later(answer, Tells::Nothing))
}

fn written(protocol: Protocol, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Writer::new(&mut bytes, protocol));
    bytes
}

/// What a giver says of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// They come over this connection.
    Begin,
    /// All of them have come.
    Whole,
    /// They do not come.
    Over,
}

/// `IMPORT <slots> <state>`: another master gives slots to this one over this connection.
pub(super) fn import(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    _reply: Reply<'_>,
) -> Result<After> {
    if args.len() != 2 {
        return Err(wrong_number());
    }
    let range = first_range(args.bytes()?)?;
    let state = match parse_integer(args.bytes()?) {
        Some(0) => State::Begin,
        Some(1) => State::Whole,
        Some(2) => State::Over,
        _ => return Err(Error::err("Invalid import state")),
    };
    moves::only_without_grants(cx.node)?;
    let (node, id) = (Arc::clone(cx.node), cx.session.client.id);
    let link = match (&cx.session.importing, state) {
        (Some(link), _) => Arc::clone(link),
        (None, State::Begin) => Arc::clone(cx.session.importing.insert(Link::new(&node, id))),
        // From another connection than theirs, for people.
        (None, _) => Link::new(&node, id),
    };
    // A task of its own: what has begun ends, also if the connection does not wait for it.
    let task = tokio::task::spawn_local(async move {
        let _one_at_a_time = node.changing.lock().await;
        match state {
            State::Begin => begin(&node, range, &link),
            State::Whole => whole(&node, range),
            State::Over => over(&node, range),
        }
    });
    let protocol = cx.session.protocol;
    let answer: Answer = Box::pin(async move {
        let done = task.await.unwrap_or_else(|error| Err(Error::err(error)));
        written(protocol, |writer| match done {
            Ok(()) => writer.simple("OK"),
            Err(error) => writer.error(&error.to_string()),
        })
    });
    Ok(After::Later(answer, Tells::Nothing))
}

fn begin(node: &Arc<Node>, range: SlotRange, link: &Link) -> Result<()> {
    let config = node.config.now();
    marks::update(node, |engine, cluster, marks| -> Result<()> {
        checks::may_import(cluster, engine.role.is_master(), range).map_err(Error::err)?;
        let store = gates::may_write(node, &config, engine)?;
        moves::are_own(store, &[range])?;
        node.migration.take(range, link.id).map_err(Error::err)?;
        if let Err(error) = store.empty_slots(range).and_then(|_| store.publish()) {
            node.migration.link_ended(link.id);
            store.slots_have_come(range);
            return Err(error.into());
        }
        node.touch_all();
        for slot in range.slots() {
            marks.imported.remove(slot);
        }
        marks.importing = Some(range);
        link.activate();
        tracing::info!(%range, "slots come from another node");
        Ok(())
    })
}

fn whole(node: &Arc<Node>, range: SlotRange) -> Result<()> {
    marks::update(node, |engine, cluster, marks| -> Result<()> {
        checks::may_import(cluster, engine.role.is_master(), range).map_err(Error::err)?;
        node.migration.taken(range, true).map_err(Error::err)?;
        for slot in range.slots() {
            marks.imported.insert(slot);
        }
        marks.importing = None;
        if let Some(store) = &engine.store {
            store.slots_have_come(range);
        }
        tracing::info!(%range, "slots have come: they are served from now on");
        Ok(())
    })
}

fn over(node: &Arc<Node>, range: SlotRange) -> Result<()> {
    {
        let engine = node.engine();
        checks::may_import(&node.cluster.load(), engine.role.is_master(), range)
            .map_err(Error::err)?;
    }
    node.migration.taken(range, false).map_err(Error::err)?;
    tracing::warn!(%range, "the giver says that slots do not come");
    drop_slots(node, range);
    Ok(())
}
