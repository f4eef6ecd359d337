//! What a scripted node does with grants and with slots that move: the machine of nodes that ship,
//! on marks that are kept in memory, and a copy that takes one heartbeat.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::grant::{EpochId, Grant, Least};
use api::heartbeat::Standing;
use api::moves::wish::{Told, Wished};
use api::moves::{Asked, Feed, Flow, MoveId, Ordered, Progress, Rate, Said, Slots, weights};
use parking_lot::Mutex;
use replication::slots::{Access, Act, Cursor, Here, Machine, Mark, State, Table};
use topology::model::Slot;

use super::fake_node::{Inside, World};

/// What one node has of grants and moves. Marks and epochs survive a restart, the rest does not.
#[derive(Default)]
pub struct Mover {
    pub table: Table,
    history: (u64, Option<EpochId>),

    granted: Option<Grant>,
    machine: Machine,
    /// What it takes, from which node, and at which rate.
    pulls: BTreeMap<MoveId, (String, Option<Rate>)>,
    /// What it gives, and whether the taker keeps up.
    feeds: BTreeMap<MoveId, Feed>,
    /// With which rates it was told to.
    pub rates: Vec<Option<Rate>>,
    /// What it says that a slot weighs; without, it does not know the question.
    pub weigh: Option<fn(u16) -> u64>,
    /// How many commands it says that a slot gets.
    pub load: Option<fn(u16) -> u64>,
    /// What users ask of it, and what it has heard of that.
    pub wishes: Vec<Wished>,
    pub told: Vec<Told>,
    /// It takes nothing, though it was told to.
    pub is_stuck: bool,
    /// Orders that it obeyed, as `<move> <term> <word>`; not again what was done already.
    pub obeyed: Vec<String>,
}

impl Mover {
    /// A new process on the same data.
    pub fn restart(&mut self) {
        let (table, history) = (std::mem::take(&mut self.table), self.history);
        let (is_stuck, weigh) = (self.is_stuck, self.weigh);
        *self = Self { table, history, is_stuck, weigh, ..Self::default() };
    }

    /// The highest number of a move that is known here.
    pub fn newest(&self) -> MoveId {
        self.machine.newest(&self.table)
    }

    /// Takes the grant among the words behind a heartbeat's clock and nonce.
    pub fn grant(&mut self, words: &[&str]) {
        let end = words.iter().position(|word| *word == "MOVES").unwrap_or(words.len());
        let Some(("GRANT", grant)) = words[..end].split_first().map(|(word, rest)| (*word, rest))
        else {
            return;
        };
        let grant = Grant::parse(grant).expect("a grant");
        self.history = (grant.epoch, Some(grant.id));
        self.granted = Some(grant);
    }

    pub fn standing(&self, sequence: u64) -> Standing {
        let (history_epoch, history_id) = self.history;
        Standing {
            incarnation: Some(1),
            history_epoch,
            history_id,
            granted_epoch: self.granted.as_ref().map_or(0, |grant| grant.epoch),
            granted_version: Some(self.granted.as_ref().map_or(0, |grant| grant.version)),
            committed: sequence,
            ..Standing::default()
        }
    }
}

/// Where the data of a node ends.
fn end(inside: &Inside, mover: &Mover) -> Least {
    Least { id: mover.history.1, sequence: inside.sequence }
}

fn is_staged(mark: &Mark) -> bool {
    matches!(mark.state, State::Staged { .. })
}

/// Copies what is pulled, whoever was asked just now.
pub fn flow(world: &World) {
    let nodes: Vec<Arc<Mutex<Inside>>> = world.0.lock().values().cloned().collect();
    let mut streams = Vec::new();
    for node in &nodes {
        let inside = node.lock();
        let Some(mover) = inside.mover.as_ref().filter(|_| inside.alive) else { continue };
        for (id, (giver, _)) in &mover.pulls {
            streams.push((*id, giver.clone(), mover.is_stuck, Arc::clone(node)));
        }
    }
    for node in &nodes {
        let mut inside = node.lock();
        let own = inside.id.clone();
        let Some(mover) = &mut inside.mover else { continue };
        // Those of streams that have ended are gone.
        mover.feeds.retain(|of, _| streams.iter().any(|(id, giver, ..)| id == of && *giver == own));
    }
    for (id, giver, is_stuck, taker) in streams {
        let of = nodes.iter().find(|node| node.lock().id == giver);
        let at = of.and_then(|node| feed(&mut node.lock(), id, is_stuck));
        let Some(at) = at.filter(|_| !is_stuck) else { continue };
        let mut inside = taker.lock();
        let Some(mover) = &mut inside.mover else { continue };
        let Some(mark) = mover.table.of(id).filter(|mark| is_staged(mark)).cloned() else {
            continue;
        };
        let state = State::Staged { at: Some(at), cursor: Cursor::End };
        mover.table.put(Mark { state, ..mark });
    }
}

/// The giver's end: up to where its data goes, or went when it was frozen.
fn feed(inside: &mut Inside, id: MoveId, is_stuck: bool) -> Option<Least> {
    if !inside.alive {
        return None;
    }
    let mover = inside.mover.as_ref()?;
    let at = end(inside, mover);
    let frozen = mover.machine.say(id, &mover.table).frozen;
    let feed = if is_stuck { Feed::Far } else { Feed::Close };
    inside.mover.as_mut()?.feeds.insert(id, feed);
    Some(frozen.and_then(|frozen| frozen.at).unwrap_or(at))
}

/// What the words behind `MOVES` ask for; the answer.
pub fn asked(inside: &mut Inside, words: &[&str], term: u64) -> Option<Vec<Said>> {
    let behind = words.iter().position(|word| *word == "MOVES");
    let words = behind.map_or(&words[..0], |at| &words[at + 1..]);
    let asked: Vec<Asked> = words.iter().map(|word| word.parse().expect("a word")).collect();
    for asked in &asked {
        match asked {
            Asked::Do(ordered) => {
                assert_eq!(ordered.term, term, "an order of another term");
                obey(inside, ordered);
            }
            Asked::Told(told) => hear(inside, told),
            Asked::Of(_) => {}
        }
    }
    let mover = inside.mover.as_ref()?;
    let mut ids: BTreeSet<MoveId> = asked.iter().filter_map(Asked::id).collect();
    ids.extend(mover.machine.held());
    let say = |id: MoveId| {
        let mut said = mover.machine.say(id, &mover.table);
        said.feed = mover.feeds.get(&id).copied();
        (said.is_committed, said.is_synced) = (said.mark.is_some(), said.mark.is_some());
        said.sequence = inside.sequence;
        said
    };
    Some(ids.into_iter().map(say).collect())
}

/// As a node does: what is over is told of no more.
fn hear(inside: &mut Inside, told: &Told) {
    let Some(mover) = &mut inside.mover else { return };
    for wished in mover.wishes.iter_mut().filter(|wished| wished.id == told.id.wish()) {
        wished.is_heard = true;
    }
    if told.fate.is_end() {
        mover.wishes.retain(|wished| wished.id != told.id.wish());
    }
    if mover.told.last() != Some(told) {
        mover.told.push(told.clone());
    }
}

fn obey(inside: &mut Inside, ordered: &Ordered) {
    let version = inside.topology.as_ref().map_or(-1, |topology| topology.version);
    let owned = ordered.slots.iter().filter(|slot| owns(inside, *slot)).count();
    let all = ordered.slots.iter().count();
    let owns = [(0, false), (all, true)].into_iter().find(|(count, _)| *count == owned);
    let Some(mut mover) = inside.mover.take() else { return };
    let newest = |slot| mover.table.newest(slot);
    let is_held = |slot| newest(slot).is_some_and(|mark| mark.state == State::Held);
    let keeps = ordered.slots.iter().any(is_held);
    let here = Here { table: &mover.table, version, owns: owns.map(|(_, owns)| owns), keeps };
    let act = mover.granted.as_ref().map(|_| mover.machine.obey(ordered, here));
    let Ordered { id, term, order, .. } = ordered;
    let word = format!("{order:?}").split([' ', '{']).next().unwrap_or_default().to_lowercase();
    if let Some(Ok(act)) = act
        && act != Act::Nothing
    {
        mover.obeyed.push(format!("{id} {term} {word}"));
        match act {
            Act::Nothing => {}
            Act::Rest => {
                mover.pulls.remove(id);
            }
            Act::Drain => {
                let at = end(inside, &mover);
                mover.machine.drained(*id, at);
            }
            Act::Put(mark) | Act::Empty(mark) => {
                if !is_staged(&mark) {
                    mover.pulls.remove(id);
                }
                mover.table.put(mark);
            }
            Act::Pull { node, rate, .. } => {
                mover.rates.push(rate);
                mover.pulls.insert(*id, (node, rate));
            }
        }
    }
    inside.mover = Some(mover);
}

/// What the node says that slots weigh, or, of `LOAD`, how many commands they get.
pub fn counted(inside: &Inside, what: &str, slots: &str) -> Option<String> {
    let mover = inside.mover.as_ref()?;
    let of = if what == "LOAD" { mover.load? } else { mover.weigh? };
    let slots: Slots = slots.parse().expect("slots");
    assert!(slots.iter().all(|slot| owns(inside, slot)), "{slots:?} of others");
    Some(weights::render(&slots.iter().map(of).collect::<Vec<_>>()))
}

/// By the topology in force.
fn owns(inside: &Inside, slot: u16) -> bool {
    let slot = Slot::new(slot).expect("a slot");
    inside.myself().is_some_and(|node| node.slots.contains(slot))
}

/// Whether a client may write to the slot here, as far as moves are concerned.
#[allow(dead_code, reason = "not every test that shares this module uses it")]
pub fn takes_writes(inside: &Inside, slot: u16) -> bool {
    let version = inside.topology.as_ref().map_or(-1, |topology| topology.version);
    let owns = owns(inside, slot);
    inside.mover.as_ref().map_or(owns, |mover| {
        mover.table.serves(slot, owns, version) && mover.machine.access(slot) == Access::Free
    })
}

/// Its streams, as a node tells of them.
pub fn flows(inside: &Inside) -> Option<Vec<Flow>> {
    let mover = inside.mover.as_ref()?;
    let flow = |id: &MoveId, is_taken, rate| {
        let (id, bytes_per_s, brake) = (*id, 1_000_000, None);
        Flow { id, is_taken, rate, bytes_per_s, brake, written_per_s: 0, taken_per_s: 0 }
    };
    let taken = mover.pulls.iter().map(|(id, (_, rate))| flow(id, true, *rate));
    Some(taken.chain(mover.feeds.keys().map(|id| flow(id, false, None))).collect())
}

/// What users ask of it.
pub fn wishes(inside: &Inside) -> Vec<Wished> {
    inside.mover.as_ref().map(|mover| mover.wishes.clone()).unwrap_or_default()
}

/// As a taker tells of its copies.
pub fn copies(inside: &Inside) -> Vec<Progress> {
    let Some(mover) = &inside.mover else { return Vec::new() };
    let progress = |id: &MoveId| Progress {
        id: *id,
        records: inside.sequence,
        bytes: 10 * inside.sequence,
        of_bytes: Some(1_000),
    };
    mover.pulls.keys().map(progress).collect()
}
