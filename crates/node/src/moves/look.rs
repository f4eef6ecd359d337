//! What orders and streams are judged by.

use ::replication::history::EpochId as HistoryId;
use ::replication::slots::{Felt, Least, Slots};
use api::grant::EpochId;
use api::moves::Rate;
use storage::Store;
use topology::{Cluster, Viewer};

use super::guest::Paced;
use crate::gate::Engine;
use crate::node::Node;

/// The database of a master that serves under a grant, and its epoch.
pub(super) fn master<'e>(node: &Node, engine: &'e Engine) -> Option<(&'e Store, u64)> {
    let store = engine.store.as_ref().filter(|_| engine.role.is_master())?;
    Some((store, node.grants.granted_epoch()?))
}

/// How fast a copy may go here now whose rate is `most` (rule M16).
pub(super) fn pace(node: &Node, store: &Store, most: Rate) -> Paced {
    let felt = || Felt {
        p99_us: None,
        bound_us: fixed_us(node),
        // What cannot be told holds nothing up: it is the copy that would meet the error.
        is_pressed: store.is_pressed().unwrap_or(false),
        // What is given takes no room in the log here.
        is_replica_missed: node.moves.takes_any() && node.moves.guests.is_replica_missed(),
        unacked_bytes: node.grants.commit.tail_bytes(store),
    };
    node.moves.guests.pace(&node.stats, most, felt)
}

/// Looks whether replicas of this node are there, once a second.
pub fn note_replicas(node: &Node) {
    let (appended, kept) = {
        let engine = node.engine();
        let Some((store, _)) = master(node, &engine) else {
            return node.moves.guests.note_replicas(false, (0, 0));
        };
        (store.appended_bytes(), store.options().wal_size_limit_mb.saturating_mul(1 << 20))
    };
    let cluster = node.cluster.load();
    let is_away = match (cluster.topology(), cluster.myself()) {
        (Ok(topology), Some(me)) => topology.replicas_of(me.id).any(|replica| {
            let local = replica.endpoint(Viewer::Peer);
            !replica.failed && node.replication.offset_of(replica.id, local).is_none()
        }),
        _ => false,
    };
    node.moves.guests.note_replicas(is_away, (appended, kept));
}

/// What 99 of 100 commands may take while something is copied, µs.
pub fn bound_us(node: &Node) -> u64 {
    node.moves.guests.bound_us(fixed_us(node))
}

/// As an operator has set it; 0: it was not.
fn fixed_us(node: &Node) -> u64 {
    u64::from(node.config.now().move_p99_ms) * 1_000
}

/// What a copy brings here, or from here, where no rate was said.
pub(super) fn usual_rate(node: &Node) -> Rate {
    Rate::new(node.config.now().move_rate_mb).unwrap_or(Rate::USUAL)
}

/// By the topology this node owns all of them, or none; `None`: some.
pub(super) fn owns(cluster: &Cluster, slots: &Slots) -> Option<bool> {
    let mine = cluster.myself().map(|me| &me.slots);
    let is_mine =
        |slot| mine.is_some_and(|mine| topology::Slot::new(slot).is_some_and(|s| mine.contains(s)));
    let count = slots.iter().filter(|slot| is_mine(*slot)).count();
    match count {
        0 => Some(false),
        count if count == slots.iter().count() => Some(true),
        _ => None,
    }
}

/// A sequence of this history, and the epoch it belongs to.
pub(super) fn least(store: &Store, sequence: u64) -> Least {
    let id = store.history().at(sequence).map(|entry| EpochId(entry.id.bits()));
    Least { id, sequence }
}

/// Whether this history has it: number and epoch (rule M7).
pub(super) fn holds(store: &Store, at: Least) -> bool {
    let history = store.history();
    let known = history.at(at.sequence).map(|entry| entry.id);
    at.sequence <= store.latest_sequence() && known == at.id.map(|id| HistoryId::from_random(id.0))
}
