//! What users ask of a node for its slots where a controller leads it: Valkey's MIGRATESLOTS and
//! its kin, Redis' CLUSTER MIGRATION. A front door to the controller's queue: the node decides
//! nothing, tells of the wish with its next heartbeat, and answers once it was taken.

use std::sync::Arc;

use ::replication::slots::wishes::{End, Job};
use api::moves::Slots;
use api::moves::wish::{Fate, Part, PartId, Stage};
use resp::{Protocol, Writer};
use topology::Slot;

use crate::command::{Args, Error, Reply, Result};
use crate::moves::wishes::ranges;
use crate::node::Node;
use crate::session::{After, Answer, SessionCx, Tells};

/// What a move ends with that somebody cancelled, as the controller says it.
const CANCELLED: &str = "cancelled";

fn must_be_led(node: &Node) -> Result<()> {
    match node.grants.granted_epoch() {
        Some(_) => Ok(()),
        None => Err(Error::text(
            "ERR no controller leads this node, and it alone moves slots here: by hand CLUSTERX MIGRATE does",
        )),
    }
}

/// The slots from each start to its end, both included.
fn slots(pairs: &[(u16, u16)]) -> Result<Slots> {
    let mut pairs = pairs.to_vec();
    pairs.sort_unstable();
    Slots::new(&pairs).map_err(Error::err)
}

fn slot(args: &mut Args<'_>) -> Result<u16> {
    let slot = args.integer().ok().and_then(|slot| u16::try_from(slot).ok());
    let slot = slot.filter(|slot| *slot < topology::SLOT_COUNT);
    slot.ok_or_else(|| Error::text("ERR Invalid or out of range slot"))
}

fn pair(args: &mut Args<'_>) -> Result<(u16, u16)> {
    Ok((slot(args)?, slot(args)?))
}

/// The node that has these slots by the topology here; empty if it is not one.
fn giver(node: &Node, slots: &Slots) -> String {
    let cluster = node.cluster.load();
    let owner = |slot| Some(cluster.owner(Slot::new(slot)?)?.id);
    let mut owners = slots.iter().map(owner);
    let first = owners.next().flatten();
    let is_one = first.is_some() && owners.all(|owner| owner == first);
    first.filter(|_| is_one).map(|id| id.to_string()).unwrap_or_default()
}

/// An answer that is made once a controller has said a word.
fn later(
    cx: &SessionCx<'_>,
    wish: PartId,
    write: impl FnOnce(&Node, &mut Writer<'_>) + 'static,
) -> After {
    let (node, protocol) = (Arc::clone(cx.node), cx.session.protocol);
    let answer: Answer = Box::pin(async move {
        let answered = node.moves.wishes.answered(wish).await;
        written(protocol, |writer| match answered {
            Ok(()) => write(&node, writer),
            Err(why) => writer.error(&format!("ERR {why}")),
        })
    });
    After::Later(answer, Tells::Nothing)
}

fn written(protocol: Protocol, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Writer::new(&mut bytes, protocol));
    bytes
}

/// `MIGRATESLOTS SLOTSRANGE <start> <end> … NODE <id> [SLOTSRANGE … NODE <id>]…`, at who gives
/// them.
pub(super) fn migrate_slots(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    _reply: Reply<'_>,
) -> Result<After> {
    let mut parts = Vec::new();
    while !args.is_empty() {
        if args.word().as_deref() != Some(b"SLOTSRANGE") {
            return Err(Error::Syntax);
        }
        let mut pairs = vec![pair(args)?];
        while args.ahead(0).is_some_and(|word| !word.eq_ignore_ascii_case(b"node")) {
            pairs.push(pair(args)?);
        }
        args.word();
        let (slots, to) = (slots(&pairs)?, args.text()?.to_owned());
        parts.push(Part { slots, to });
    }
    must_be_led(cx.node)?;
    let mine = cx.node.cluster.load().id().map(|id| id.to_string()).unwrap_or_default();
    let parts: Vec<(Part, String)> = (parts.into_iter())
        .map(|part| {
            let from = giver(cx.node, &part.slots);
            (part, from)
        })
        .collect();
    if parts.iter().any(|(_, from)| *from != mine) {
        return Err(Error::text("ERR Slots are not served by this node."));
    }
    known(cx.node, &parts)?;
    let wish = cx.node.moves.wishes.wish(parts, End::Giver).map_err(Error::err)?;
    Ok(later(cx, wish, |_, writer| writer.simple("OK")))
}

/// Each goes to a node of this cluster.
fn known(node: &Node, parts: &[(Part, String)]) -> Result<()> {
    let cluster = node.cluster.load();
    let nodes = &cluster.topology()?.nodes;
    let is_known = |to: &str| nodes.iter().any(|node| node.id.as_bytes() == to.as_bytes());
    match parts.iter().find(|(part, _)| !is_known(&part.to)) {
        Some((part, _)) => Err(Error::err(format_args!("Unknown node name: {}", part.to))),
        None => Ok(()),
    }
}

/// `CANCELSLOTMIGRATIONS`: all that was asked for here.
pub(super) fn cancel_slot_migrations(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    _reply: Reply<'_>,
) -> Result<After> {
    must_be_led(cx.node)?;
    let wish = cancel(cx.node, &open(cx.node))?;
    Ok(later(cx, wish, |_, writer| writer.simple("OK")))
}

/// What was asked for here and is not over.
fn open(node: &Node) -> Vec<PartId> {
    let jobs = node.moves.wishes.jobs().into_iter();
    jobs.filter(|job| !job.is_over()).map(|job| job.id).collect()
}

fn cancel(node: &Node, parts: &[PartId]) -> Result<PartId> {
    node.moves.wishes.cancel(parts).map_err(Error::err)
}

/// `GETSLOTMIGRATIONS`: what was asked for here, and how far it is.
pub(super) fn get_slot_migrations(
    cx: &mut SessionCx<'_>,
    _args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let jobs = cx.node.moves.wishes.jobs();
    let replied = reply.with(|writer| {
        writer.array(jobs.len());
        for job in &jobs {
            of_valkey(writer, job);
        }
    });
    Ok(replied.into())
}

fn text(writer: &mut Writer<'_>, name: &str, value: &str) {
    writer.bulk(name.as_bytes());
    writer.bulk(value.as_bytes());
}

fn number(writer: &mut Writer<'_>, name: &str, value: u64) {
    writer.bulk(name.as_bytes());
    writer.integer(i64::try_from(value).unwrap_or(i64::MAX));
}

/// Why it was not done; empty where it may yet be.
fn why(job: &Job) -> &str {
    match &job.fate {
        Some(Fate::Failed(why) | Fate::Refused(why)) => why,
        _ => "",
    }
}

fn of_valkey(writer: &mut Writer<'_>, job: &Job) {
    let state = match &job.fate {
        None => "waiting",
        Some(Fate::Taken(Stage::Queued)) => "queued",
        Some(Fate::Taken(Stage::Copy)) => "copying",
        Some(Fate::Taken(Stage::Owned)) => "finishing",
        Some(Fate::Taken(Stage::Drop)) => "cancelling",
        Some(Fate::Done) => "success",
        Some(Fate::Failed(why)) if why == CANCELLED => "cancelled",
        Some(Fate::Failed(_) | Fate::Refused(_)) => "failed",
    };
    writer.map(11);
    text(writer, "name", &job.id.to_string());
    text(writer, "operation", if job.end == End::Giver { "EXPORT" } else { "IMPORT" });
    text(writer, "slot_ranges", &ranges(&job.part.slots));
    text(writer, "target_node", &job.part.to);
    text(writer, "source_node", &job.from);
    number(writer, "create_time", job.created_ms / 1_000);
    number(writer, "last_update_time", job.updated_ms / 1_000);
    number(writer, "last_ack_time", job.updated_ms / 1_000);
    text(writer, "state", state);
    text(writer, "message", why(job));
    number(writer, "cow_size", 0);
}

/// `MIGRATION IMPORT <start> <end> … | STATUS [ID <id> | ALL] | CANCEL ID <id> | CANCEL ALL`, at
/// the node that takes the slots.
pub(super) fn migration(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    match args.word().as_deref() {
        Some(b"IMPORT") => import(cx, args),
        Some(b"STATUS") => {
            let which = if args.is_empty() { None } else { which(args)? };
            let mut jobs = cx.node.moves.wishes.jobs();
            jobs.retain(|job| which.is_none_or(|id| id == job.id));
            let replied = reply.with(|writer| {
                writer.array(jobs.len());
                for job in &jobs {
                    of_redis(writer, job);
                }
            });
            Ok(replied.into())
        }
        Some(b"CANCEL") => {
            let which = which(args)?;
            must_be_led(cx.node)?;
            let mut parts = open(cx.node);
            parts.retain(|id| which.is_none_or(|which| which == *id));
            let wish = cancel(cx.node, &parts)?;
            Ok(later(cx, wish, move |node, writer| {
                // What has changed hands meanwhile is not cancelled.
                let jobs = node.moves.wishes.jobs();
                let has_moved =
                    |job: &Job| matches!(job.fate, Some(Fate::Done | Fate::Taken(Stage::Owned)));
                let is_kept = |id: &PartId| jobs.iter().any(|job| job.id == *id && has_moved(job));
                let count = parts.iter().filter(|id| !is_kept(id)).count();
                writer.integer(i64::try_from(count).unwrap_or(i64::MAX));
            }))
        }
        _ => Err(Error::Syntax),
    }
}

/// `ID <id>`, or `ALL`: `None`.
fn which(args: &mut Args<'_>) -> Result<Option<PartId>> {
    let which = match args.word().as_deref() {
        Some(b"ALL") => None,
        Some(b"ID") => {
            let id = args.text()?.parse();
            Some(id.map_err(|_| Error::text("ERR Invalid task id"))?)
        }
        _ => return Err(Error::Syntax),
    };
    if args.is_empty() { Ok(which) } else { Err(Error::Syntax) }
}

fn import(cx: &mut SessionCx<'_>, args: &mut Args<'_>) -> Result<After> {
    let mut pairs = Vec::new();
    while pairs.is_empty() || !args.is_empty() {
        pairs.push(pair(args)?);
    }
    let slots = slots(&pairs)?;
    must_be_led(cx.node)?;
    let cluster = cx.node.cluster.load();
    let to = cluster.id().map(|id| id.to_string()).ok_or(Error::Syntax)?;
    let from = giver(cx.node, &slots);
    let wish = cx.node.moves.wishes.wish(vec![(Part { slots, to }, from)], End::Taker);
    let wish = wish.map_err(Error::err)?;
    Ok(later(cx, wish, move |_, writer| writer.bulk(wish.to_string().as_bytes())))
}

fn of_redis(writer: &mut Writer<'_>, job: &Job) {
    let state = match &job.fate {
        Some(Fate::Done) => "completed",
        Some(Fate::Failed(why)) if why == CANCELLED => "canceled",
        Some(Fate::Failed(_) | Fate::Refused(_)) => "failed",
        None | Some(Fate::Taken(_)) => "in_progress",
    };
    writer.map(12);
    text(writer, "id", &job.id.to_string());
    text(writer, "slots", &ranges(&job.part.slots));
    text(writer, "source", &job.from);
    text(writer, "dest", &job.part.to);
    text(writer, "operation", if job.end == End::Giver { "migrate" } else { "import" });
    text(writer, "state", state);
    text(writer, "last_error", why(job));
    number(writer, "retries", 0);
    number(writer, "create_time", job.created_ms);
    number(writer, "start_time", job.created_ms);
    number(writer, "end_time", if job.is_over() { job.updated_ms } else { 0 });
    number(writer, "write_pause_ms", 0);
}
