//! Between the model's small states and the planner's types: the planner that is to ship decides.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use api::grant::{CommitMode, Least, Members};
use api::moves::{Mark, Ordered};
use planner::moves::{Answer, Observed};
use planner::{Record, Role, Shard, Time};
use topology::Endpoint;

use super::Moving;
use super::world::{Controller, Epoch, SHARD_IDS, SLOT, Stored, epoch_id};

fn name(shard: u8) -> String {
    char::from(b'a' + shard).to_string().repeat(40)
}

/// The process that an epoch is for.
fn nonce(epoch: u8) -> String {
    format!("{epoch:x}")
}

/// What a plan asks for.
#[derive(Debug, Clone, Default)]
pub(super) struct Planned {
    /// By shard.
    pub(super) orders: [Vec<Ordered>; 2],
    /// A compare-and-swap.
    pub(super) swap: Option<Arc<Stored>>,
}

/// Plans kept at most.
const CACHE_MAX: usize = 200_000;

type Cache = HashMap<Controller, Rc<Planned>>;

thread_local! {
    static CACHE: RefCell<(Option<Moving>, Cache)> = RefCell::new((None, HashMap::new()));
}

/// What the controller does, by the planner that is to ship.
pub(super) fn plan(model: &Moving, controller: &Controller) -> Rc<Planned> {
    CACHE.with_borrow_mut(|(of, cache)| {
        if of.is_none_or(|of| of.rules != model.rules) || cache.len() > CACHE_MAX {
            *of = Some(*model);
            cache.clear();
        }
        if let Some(known) = cache.get(controller) {
            return Rc::clone(known);
        }
        let planned = Rc::new(think(model, controller));
        cache.insert(controller.clone(), Rc::clone(&planned));
        planned
    })
}

/// The controller's clock. Attempts began at 0.
pub(super) fn now(controller: &Controller) -> Time {
    Time::from_millis([0, planner::moves::FREEZE_MS, 60_000][usize::from(controller.clock.min(2))])
}

fn think(model: &Moving, controller: &Controller) -> Planned {
    let mut planned = Planned::default();
    let stored = &controller.record;
    if stored.term < controller.term {
        // The first act of a controller, before it orders anything (`planner::plan`).
        let mut next = (**stored).clone();
        (next.revision, next.term) = (next.revision + 1, controller.term);
        planned.swap = Some(Arc::new(next));
        return planned;
    }
    let record = record(stored);
    let plan =
        planner::moves::plan(&record, &observed(model, controller, record.term), now(controller));
    for (node, ordered) in plan.orders {
        let shard = usize::from(node == name(1));
        planned.orders[shard].push(ordered);
    }
    planned.swap = plan.swap.map(|(record, _)| Arc::new(stored_of(&record, stored)));
    planned
}

fn stored_of(record: &Record, before: &Stored) -> Stored {
    let owns = |shard: &Shard| shard.slot_ranges.iter().any(|&(a, b)| (a..=b).contains(&SLOT));
    Stored {
        revision: before.revision + 1,
        term: before.term,
        version: u8::try_from(record.version).unwrap_or(u8::MAX),
        owner: u8::from(record.shards.get(1).is_some_and(owns)),
        epochs: before.epochs,
        floors: [0, 1].map(|index| record.shards[index].floor),
        // Where slots came is told to people, and no step rests on it.
        moves: planner::moves::Moves { came: Vec::new(), ..record.moves.clone() },
    }
}

fn record(stored: &Stored) -> Record {
    let shard = |index: u8| {
        let Epoch { number, version } = stored.epochs[usize::from(index)];
        let is_owner = stored.owner == index;
        Shard {
            id: SHARD_IDS[usize::from(index)],
            nodes: vec![planner::Node {
                id: name(index),
                local: Endpoint { host: name(index), port: 1 },
                announced: None,
                tls: topology::TlsPorts::default(),
                role: Role::Master,
                created_at: 0,
                stated: None,
            }],
            slot_ranges: if is_owner { vec![(SLOT, SLOT)] } else { Vec::new() },
            intent: None,
            last_intent: None,
            fence: None,
            epoch: planner::Epoch {
                number: u64::from(number),
                id: epoch_id(index, number),
                nonce: nonce(number),
                least: Least::default(),
                request: 0,
                in_sync: Members::default(),
                version: i64::from(version),
            },
            floor: stored.floors[usize::from(index)],
        }
    };
    Record {
        namespace: String::new(),
        name: String::new(),
        revision: u64::from(stored.revision),
        tag: 0,
        version: i64::from(stored.version),
        shards: vec![shard(0), shard(1)],
        balancers: Vec::new(),
        longest_lease_ms: 1_000,
        allow_unfenced: false,
        password: None,
        commit_mode: CommitMode::InSync,
        min_in_sync: 1,
        max_lag: None,
        term: u64::from(stored.term),
        cluster_id: String::new(),
        paused: None,
        moves: stored.moves.clone(),
        instead_of: Vec::new(),
    }
}

/// What the controller heard, made worse where a rule is off.
fn observed(model: &Moving, controller: &Controller, term: u64) -> Observed {
    let rules = &model.rules;
    let mut answers = BTreeMap::new();
    for (index, heard) in (0_u8..).zip(&controller.heard) {
        let Some(heard) = heard else { continue };
        let is_believed = if index == 0 { !rules.giver_epoch } else { !rules.taker_epoch };
        let epoch = match is_believed {
            true => controller.record.epochs[usize::from(index)].number,
            false => heard.epoch,
        };
        let mut said = heard.said.clone();
        let newest = said.keys().last().copied().filter(|_| rules.one_number);
        let newest = newest.unwrap_or_default();
        for one in said.values_mut() {
            if !rules.one_number {
                one.slots = None;
            }
            one.is_committed |= !rules.committed;
            if !rules.held_on_disk && one.mark == Some(Mark::Held) {
                (one.is_committed, one.is_synced) = (true, true);
            }
            one.is_sealed |= !rules.sealed || (!rules.silence_is_no_seal && controller.is_silent);
            if let (false, Some(frozen)) = (rules.freeze_of_term, &mut one.frozen) {
                let attempt = controller.attempts.get(&one.id);
                frozen.term = u64::from(controller.term);
                frozen.number = attempt.map_or(frozen.number, |attempt| attempt.number);
            }
        }
        let answer = Answer {
            nonce: nonce(epoch),
            granted_epoch: if heard.is_granted { u64::from(epoch) } else { 0 },
            granted_id: epoch_id(index, epoch),
            version: i64::from(heard.version),
            knows_moves: true,
            newest,
            knows_rates: true,
            has_room: true,
            is_reached: true,
            clock_ahead_ms: None,
            clock_error_ms: 0,
            takes: None,
            clashes: BTreeMap::new(),
            said,
        };
        answers.insert(name(index), answer);
    }
    let mut attempts = controller.attempts.clone();
    if !rules.freeze_of_term {
        // Whatever is frozen counts, whoever asked for it.
        let frozen = answers.values().flat_map(|answer| answer.said.values());
        for one in frozen.filter(|one| one.frozen.is_some()) {
            let number = one.frozen.map_or(0, |frozen| frozen.number);
            let fresh = planner::moves::Attempt { number, at: Time::default(), is_given_up: false };
            attempts.entry(one.id).or_insert(fresh);
        }
    }
    Observed { term, answers, attempts }
}
