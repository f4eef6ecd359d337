//! Orders of a controller, carried out; and what is said of moves.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::replication::slots::{Act, Here, Mark, MoveId, Slots, State, Table};
use api::moves::{Asked, Mark as SaidMark, Order, Ordered, Said};
use parking_lot::RwLockWriteGuard;
use storage::Store;

use super::look::{least, master, owns};
use super::state::{Give, Held, Source};
use super::take;
use super::tries::Tries;
use crate::clock;
use crate::gate::Engine;
use crate::node::Node;
use crate::threads::spawn;

/// How long commands that began before a freeze may go on; then it is tried another time (rule
/// M10).
const DRAIN: Duration = Duration::from_millis(20);

/// So often what a copy in part has brought goes to the disk, ms: each sync is one that commands
/// wait for where the disk is shared.
const SYNC_MS: u64 = 1_000;

/// Carries out what a heartbeat orders, under its term: `None` where it is another master's. What
/// it says of wishes is heard in any case.
pub fn obey_all(node: &Arc<Node>, asked: &[Asked], term: Option<u64>) {
    for asked in asked {
        match asked {
            Asked::Do(ordered) if Some(ordered.term) == term => {
                let opens = matches!(ordered.order, Order::Open { .. });
                match opens && !node.moves.may_open(ordered.id) {
                    true => {
                        tracing::debug!(id = %ordered.id, "the clock here is behind the giver's");
                    }
                    false => obey(node, ordered),
                }
            }
            Asked::Told(told) => node.moves.wishes.told(told),
            Asked::Do(_) | Asked::Of(_) => {}
        }
    }
}

/// Nothing brings the slots back here: who subscribes to their channels is not to wait for the
/// topology.
fn tell_subscribers(node: &Node, slots: &Slots) {
    let is_gone = |name: &[u8]| slots.contains(topology::key_slot(name).number());
    let limit = node.config.now().subscriber_limit();
    node.pubsub.drop_shards(is_gone, limit, clock::unix_ms());
}

/// Moves of which something is said unasked, at most.
const LEFT_MAX: usize = 16;

/// What is said of these moves, and of all for which something is held back, or staged; not of what
/// lies under a later mark, of which no order would be obeyed.
pub fn say(node: &Arc<Node>, ids: impl Iterator<Item = MoveId>) -> Vec<Said> {
    let engine = node.engine();
    let (Some(store), Some(epoch)) = (&engine.store, node.grants.granted_epoch()) else {
        return Vec::new();
    };
    let marks = store.marks().unwrap_or_default();
    let held = node.moves.lock(epoch);
    let is_staged = |mark: &&Mark| {
        matches!(mark.state, State::Staged { .. }) && !marks.table().is_newer(mark.id, &mark.slots)
    };
    let staged = marks.table().iter().filter(is_staged).map(|mark| mark.id).take(LEFT_MAX);
    let mut ids: Vec<MoveId> = ids.chain(held.machine.held()).chain(staged).collect();
    ids.sort_unstable();
    ids.dedup();
    let said = ids.into_iter().map(|id| {
        let sequence = marks.sequence(id);
        let said = held.machine.say(id, marks.table());
        let give = node.moves.gives.lock().get(&id).cloned();
        // A stream of other slots is another move's, of a store of later.
        let is_of = |give: &Arc<Give>| said.slots.as_ref().is_none_or(|slots| *slots == give.slots);
        let give = give.filter(is_of);
        Said {
            feed: give.as_ref().and_then(|give| *give.feed.lock()),
            slots: said.slots.or_else(|| give.map(|give| give.slots.clone())),
            sequence,
            is_committed: sequence > 0 && is_committed(node, store, sequence),
            is_synced: sequence > 0 && (sequence <= held.synced || is_durable(store, sequence)),
            ..said
        }
    });
    let said: Vec<Said> = said.collect();
    let is_unsynced = |said: &&Said| said.mark.is_some() && !said.is_synced;
    // What is copied in part is asked for by nobody: it goes to the disk so that there is not too
    // much of it in the end.
    let is_part = |said: &Said| matches!(said.mark, Some(SaidMark::Staged { is_whole: false, .. }));
    let now_ms = clock::boottime_ms();
    let is_due = now_ms.saturating_sub(node.moves.synced_at_ms.load(Ordering::SeqCst)) >= SYNC_MS;
    if said.iter().filter(is_unsynced).any(|said| is_due || !is_part(said)) {
        node.moves.synced_at_ms.store(now_ms, Ordering::SeqCst);
        sync_in_background(node, store, epoch);
    }
    said
}

/// The whole in-sync set has it; without one, a replica, if there is any (rule M5).
fn is_committed(node: &Node, store: &Store, sequence: u64) -> bool {
    if store.published() < sequence || !node.grants.commit.has(sequence) {
        return false;
    }
    let replicas = node.replication.acked();
    node.grants.commit.is_waiting()
        || replicas.is_empty()
        || replicas.iter().any(|acked| *acked >= sequence)
}

/// What is published is on the disk.
fn is_durable(store: &Store, sequence: u64) -> bool {
    store.options().sync_writes && store.published() >= sequence
}

/// Syncs on a thread of its own: heartbeats do not wait for disks.
fn sync_in_background(node: &Arc<Node>, store: &Store, epoch: u64) {
    if node.moves.is_syncing.swap(true, Ordering::SeqCst) {
        return;
    }
    let (node, store) = (Arc::clone(node), store.clone());
    spawn("move-sync", move || {
        match store.sync() {
            Ok(sequence) => node.moves.note_synced(epoch, sequence),
            Err(error) => tracing::error!(%error, "cannot sync the log for a slot move"),
        }
        drop(store);
        node.moves.is_syncing.store(false, Ordering::SeqCst);
    });
}

/// Whether what earlier moves have brought lies where an order would delete it, or give it up; what
/// cannot be read is there.
fn keeps(store: &Store, table: &Table, ordered: &Ordered) -> bool {
    let deletes = matches!(ordered.order, Order::Pull { .. } | Order::Drop);
    deletes && table.of(ordered.id).is_none() && store.keeps(&ordered.slots).unwrap_or(true)
}

/// Carries out one order, if it fits what is so; if not, the answer shows what is.
fn obey(node: &Arc<Node>, ordered: &Ordered) {
    let (id, slots) = (ordered.id, &ordered.slots);
    let act = match ordered.order {
        // What began to read before the seal, under the gate, has come to its end: it would find
        // nothing where there was something, and say so. What comes now sees the mark, and does not
        // wait for the disk with this.
        Order::Clean => match behind_all(node) {
            Some(engine) => carry_out(node, &RwLockWriteGuard::downgrade(engine), ordered),
            None => {
                tracing::debug!(%id, "what is gone is deleted later: something reads for long");
                None
            }
        },
        _ => carry_out(node, &node.engine(), ordered),
    };
    let Some(act) = act else { return };
    if ordered.order == Order::Seal {
        tell_subscribers(node, slots);
    }
    match act {
        Act::Put(mark) if mark.state != State::Held => node.touch_all(),
        Act::Drain => drain(node, id),
        Act::Rest => take::rest(node, id),
        Act::Pull { node: giver, nonce, epoch, rate } => {
            take::pull(node, id, slots, Source { node: giver, nonce, epoch, rate });
        }
        // Staging has begun: the stream follows at once.
        Act::Empty(Mark { state: State::Staged { .. }, .. }) => {
            if let Order::Pull { node: giver, nonce, epoch, rate } = &ordered.order {
                let (giver, nonce) = (giver.clone(), nonce.clone());
                let source = Source { node: giver, nonce, epoch: *epoch, rate: *rate };
                take::pull(node, id, slots, source);
            }
        }
        Act::Put(_) | Act::Empty(_) | Act::Nothing => {}
    }
}

/// The gate, behind all that holds it; `None` where something does for longer than is waited for,
/// or did a short while ago.
fn behind_all(node: &Node) -> Option<RwLockWriteGuard<'_, Engine>> {
    let wait = node.moves.cleans.lock().wait(clock::boottime_ms())?;
    let engine = node.gate.try_write_for(wait);
    let mut cleans = node.moves.cleans.lock();
    match engine.is_some() {
        true => *cleans = Tries::default(),
        false => cleans.fails(clock::boottime_ms()),
    }
    engine
}

/// Under the write gate; what is left to be done without it, if the order is obeyed.
fn carry_out(node: &Node, engine: &Engine, ordered: &Ordered) -> Option<Act> {
    let (id, slots) = (ordered.id, &ordered.slots);
    let (store, epoch) = master(node, engine)?;
    let marks = store.marks().unwrap_or_default();
    let cluster = node.cluster.load();
    let here = Here {
        table: marks.table(),
        version: cluster.version(),
        owns: owns(&cluster, slots),
        keeps: keeps(store, marks.table(), ordered),
    };
    let mut held = node.moves.lock(epoch);
    let act = match held.machine.obey(ordered, here) {
        Ok(act) => act,
        Err(refusal) => {
            tracing::debug!(%id, order = ?ordered.order, %refusal, "an order of a move is refused");
            return None;
        }
    };
    // While writes are paused for a switchover nothing is appended; but for the one mark that
    // clients wait for, which a successor that lacks it is ordered to put again.
    let is_urgent = matches!(act, Act::Put(Mark { state: State::Held, .. }));
    let appends = matches!(act, Act::Put(_) | Act::Empty(_));
    if appends && !is_urgent && node.clients.paused(clock::boottime_ns).is_some() {
        return None;
    }
    let put = match &act {
        Act::Put(mark) => store.put_mark(mark, false).map(|_| Some(mark)),
        Act::Empty(mark) => store.put_mark(mark, true).map(|_| Some(mark)),
        Act::Nothing | Act::Drain | Act::Pull { .. } | Act::Rest => Ok(None),
    };
    match put.and_then(|mark| store.publish().map(|_| mark)) {
        Ok(Some(mark)) => {
            node.moves.marked();
            tracing::info!(%id, %slots, mark = ?mark.told(), "slot move");
            if let State::Gone { is_empty: false } = mark.state {
                let marks = store.marks().unwrap_or_default();
                let_go(&mut held, ordered, Here { table: marks.table(), ..here });
            }
        }
        Ok(None) => {}
        Err(error) => {
            tracing::error!(%id, %error, "cannot carry out an order of a slot move");
            return None;
        }
    }
    node.moves.mirror(&held);
    Some(act)
}

/// The data says that the slots are gone: what was held back for it ends.
fn let_go(held: &mut Held, ordered: &Ordered, here: Here<'_>) {
    if let Err(refusal) = held.machine.obey(ordered, here) {
        tracing::debug!(id = %ordered.id, %refusal, "slots that are gone are still held back");
    }
}

/// Waits, a little, until every batch that began before the freeze has let go of the gate. One that
/// begins now sees the freeze.
fn drain(node: &Arc<Node>, id: MoveId) {
    let Some(engine) = node.gate.try_write_for(DRAIN) else {
        tracing::info!(%id, "a freeze is not met: something writes for long");
        return;
    };
    let Some((store, epoch)) = master(node, &engine) else { return };
    if let Err(error) = store.publish() {
        tracing::error!(%id, %error, "cannot publish what was written before a freeze");
        return;
    }
    let at = least(store, store.latest_sequence());
    node.moves.lock(epoch).machine.drained(id, at);
}
