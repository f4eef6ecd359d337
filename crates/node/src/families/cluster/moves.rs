//! Slots that move: the words of heartbeats, the copy's request, and what only clusters without
//! grants do.

use std::sync::Arc;

use ::replication::slots::{Cursor, Mark, State};
use api::moves::{ASKED_MAX, Asked, Found, Slots, weights};
use resp::{Protocol, Writer};
use storage::Store;
use topology::SlotRange;

use super::CLUSTERX_TEXT;
use crate::command::texts::LOADING;
use crate::command::{Args, Error, Reply, Result};
use crate::moves::give;
use crate::node::Node;
use crate::session::{After, Auth, SessionCx, Tells};

/// What is counted here could not be compared.
const UNSETTLED: &str = "ERR commands are counted here for less than about 5 minutes: it has just \
                         started, or become the master; ask another time";

/// The words behind `MOVES`, at the end of a heartbeat.
pub(super) fn asked(args: &mut Args<'_>) -> Result<Vec<Asked>> {
    let malformed = || Error::text("ERR malformed word of a slot move");
    let Some(words) = args.split_behind(3, b"moves") else { return Ok(Vec::new()) };
    if words.len() > ASKED_MAX {
        return Err(malformed());
    }
    let text = |word: &&[u8]| std::str::from_utf8(word).ok()?.parse().ok();
    words.iter().map(text).collect::<Option<_>>().ok_or_else(malformed)
}

/// `MOVE PULL …`: a taker of slots asks for their copy. `MOVE SHOW`: what the data here says of
/// moves. `MOVE WEIGH …`: a controller asks how many bytes slots take; `MOVE LOAD …`: how many
/// commands they get; `MOVE KEYS`: which have keys.
pub(super) fn of_move(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    // Both are for those who show that they are of the cluster.
    if cx.config.peer_secrets().next().is_some() && cx.session.auth != Auth::Peer {
        return Err(Error::text("NOPERM only peers may take slots"));
    }
    match args.word().as_deref() {
        Some(b"PULL") => {}
        Some(b"SHOW") if args.rest().is_empty() => {
            return Ok(reply.bulk(show(cx)?.as_bytes()).into());
        }
        Some(b"WEIGH") if args.len() == 1 => {
            let slots = args.text()?.parse::<Slots>().map_err(Error::err)?;
            return Ok(weigh(cx.node, slots));
        }
        Some(b"LOAD") if args.len() == 1 => {
            let slots = args.text()?.parse::<Slots>().map_err(Error::err)?;
            if !cx.node.moves.loads.is_settled(cx.node.grants.granted_epoch()) {
                return Err(Error::text(UNSETTLED));
            }
            let loads: Vec<u64> = slots.iter().map(|slot| cx.node.moves.loads.of(slot)).collect();
            return Ok(reply.bulk(weights::render(&loads).as_bytes()).into());
        }
        Some(b"KEYS") if args.rest().is_empty() => return Ok(occupied(cx.node)),
        _ => return Err(Error::text(CLUSTERX_TEXT)),
    }
    let request = give::Request::parse(args.rest()).ok_or(Error::Syntax)?;
    Ok(After::Leave(Box::new(move |detached| give::serve(detached, request))))
}

/// Files' indexes may have to be read for it: another thread does that.
fn weigh(node: &Arc<Node>, slots: Slots) -> After {
    read(node, move |store| {
        let mut bytes = Vec::new();
        for &(first, last) in slots.ranges() {
            bytes.extend(store.weigh(first, last)?);
        }
        Ok(weights::render(&bytes))
    })
}

/// Which slots have keys that are this shard's, and of which slots the data here is not, see
/// `docs/protocol.md`.
fn occupied(node: &Arc<Node>) -> After {
    read(node, |store| {
        let foreign = store.marks().map(|marks| marks.foreign().to_vec()).unwrap_or_default();
        Ok(Found { keys: store.occupied()?, foreign }.to_string())
    })
}

/// What another thread reads, as a bulk string.
fn read(
    node: &Arc<Node>,
    read: impl FnOnce(&Store) -> std::result::Result<String, storage::Error> + Send + 'static,
) -> After {
    let node = Arc::clone(node);
    let answer = Box::pin(async move {
        let found = tokio::task::spawn_blocking(move || {
            let Some(store) = node.engine().store.clone() else { return Err(LOADING.to_owned()) };
            read(&store).map_err(|error| format!("ERR {error}"))
        });
        let found = found.await.unwrap_or_else(|error| Err(format!("ERR {error}")));
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, Protocol::V2);
        match found {
            Ok(text) => writer.bulk(text.as_bytes()),
            Err(error) => writer.error(&error),
        }
        bytes
    });
    After::Later(answer, Tells::Nothing)
}

/// Records that are counted of one move.
const SHOWN_MAX: u64 = 10_000;

/// A line for each mark, see `docs/protocol.md`.
fn show(cx: &SessionCx<'_>) -> Result<String> {
    let engine = cx.node.engine();
    let store = engine.store.as_ref().ok_or_else(|| Error::text(LOADING))?;
    let line = |(mark, records): (Mark, u64)| {
        let state = match &mark.state {
            State::Staged { cursor: Cursor::End, .. } => "whole",
            State::Staged { .. } => "part",
            State::Held => "held",
            State::Gone { is_empty: false } => "gone",
            State::Gone { is_empty: true } => "empty",
        };
        format!("{} {} {} {state} {records}\r\n", mark.id, mark.slots, mark.version)
    };
    let lying = store.lying(SHOWN_MAX).map_err(|error| Error::text(format!("ERR {error}")))?;
    Ok(lying.into_iter().map(line).collect())
}

/// Under a grant a slot's owner is the record's, and changes there alone (rule M18).
pub(super) fn only_without_grants(node: &Node) -> Result<()> {
    match node.grants.granted_epoch() {
        None => Ok(()),
        Some(_) => Err(Error::text(
            "ERR a controller leads this node, and it alone says who owns slots: move them with `holdfast ctl move slots <slots> --to <shard>`",
        )),
    }
}

/// Slots that the record does not give it would be served under the grant, until the controller has
/// seen it and gives its own topology again: what was written there meanwhile is lost.
pub(super) fn only_its_controllers(node: &Node) -> Result<()> {
    let is_granted = node.grants.granted_epoch().is_some();
    match is_granted && node.grants.heard.has_name(crate::clock::boottime_ns()) {
        false => Ok(()),
        true => Err(Error::text(
            "ERR a controller leads this node, and it alone gives the topology: change the cluster with `holdfast ctl`, or end the controller and say this again 10 s later",
        )),
    }
}

/// What is staged for a move, or was given away, is deleted by that move alone (rule M12).
pub(super) fn are_own(store: &Store, slots: &[SlotRange]) -> Result<()> {
    let Some(marks) = store.marks() else { return Ok(()) };
    let is_foreign =
        |slot: u16| marks.foreign().iter().any(|range| (range.0..=range.1).contains(&slot));
    match slots.iter().flat_map(|range| range.slots()).any(|slot| is_foreign(slot.number())) {
        true => Err(Error::text("ERR some of these slots move: their data is deleted by the move")),
        false => Ok(()),
    }
}
