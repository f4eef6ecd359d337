//! Is a history of one object linearizable? Wing and Gong's search with Lowe's memory of what was
//! tried.
//!
//! Pure. The history of a cluster is split by key before it comes here, because a history is
//! linearizable exactly when that of each object is (Herlihy and Wing). An operation whose outcome
//! is unknown (a time limit, a cut connection) has no return: it may take effect at any time after
//! its invocation, or never.
//!
//! The memory ([`memory`]) holds 128-bit hashes of (set of operations placed, state), so that it
//! stays small. Two different entries with one hash would be able to hide a way out; with a million
//! entries that happens once in 10^26 histories.

pub mod counter;
pub mod list;
pub mod lock;
mod memory;
pub mod queue;
pub mod register;
pub mod set;
#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash, Hasher as _};

use memory::{Memory, Rest};

/// An operation of a history. Times are nanoseconds of one clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<C, R> {
    /// What was asked.
    pub call: C,
    /// What was answered; `None` where nobody knows.
    pub reply: Option<R>,
    /// No effect before this moment.
    pub invoked: u64,
    /// The effect is there at this moment; `None`: any later time, or never.
    pub returned: Option<u64>,
}

/// The operations of a model's object.
pub type History<M> = Vec<Operation<<M as Model>::Call, <M as Model>::Reply>>;

/// What an object does, one operation after the other.
pub trait Model {
    /// What it remembers.
    type State: Clone + Hash + PartialEq;
    /// What can be asked.
    type Call;
    /// What can be answered.
    type Reply;

    /// Before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after an operation; `None` where this state cannot have given that reply.
    fn step(
        &self,
        state: &Self::State,
        operation: &Operation<Self::Call, Self::Reply>,
    ) -> Option<Self::State>;

    /// How late it is in a state, where that is part of it and is not hashed: whatever a state can
    /// explain, the same at an earlier time can explain as well.
    fn lateness(&self, _state: &Self::State) -> u64 {
        0
    }

    /// Whether two calls with unknown outcomes do the same, so that one order of them stands for
    /// both.
    fn alike(&self, _one: &Self::Call, _other: &Self::Call) -> bool {
        false
    }
}

/// What the search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every reply.
    Linearizable,
    /// There is none.
    Violated(Violation),
    /// More states than allowed: nothing is known.
    Undecided,
}

/// How far the search came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The longest order found, as positions in the history.
    pub order: Vec<usize>,
    /// The operation that had to come next and could not.
    pub stuck: usize,
}

/// Searches with a memory of at most `limit` entries (some 60 bytes each).
pub fn check<M: Model>(
    model: &M,
    history: &[Operation<M::Call, M::Reply>],
    limit: usize,
) -> Verdict {
    Search::new(model, history).run(limit)
}

/// Positions in the list of events: 0 is its head; a bounded operation's call and return are two of
/// the others.
const HEAD: usize = 0;

/// Operations that must be placed are in a doubly linked list of calls and returns; those that may
/// be are apart and are tried last: most are needed nowhere, and each one placed in vain doubles
/// what is to be searched.
struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a [Operation<M::Call, M::Reply>],
    /// The list of events that are not placed; `next` of the last is `HEAD`.
    next: Vec<usize>,
    previous: Vec<usize>,
    /// By event: its time, the operation, and whether it is the return.
    events: Vec<(u64, usize, bool)>,
    call_of: Vec<usize>,
    return_of: Vec<usize>,
    /// Open-ended operations by the time of their calls.
    open: Vec<usize>,
    /// Position in `open`, for those in it.
    rank: Vec<Option<usize>>,
    /// The open-ended operation of the same effect that must be placed before this one.
    twin: Vec<Option<usize>>,
    placed: Vec<bool>,
    to_place: usize,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, history: &'a [Operation<M::Call, M::Reply>]) -> Self {
        let mut events = vec![(0, usize::MAX, false)];
        let mut open = Vec::new();
        for (index, operation) in history.iter().enumerate() {
            match operation.returned {
                Some(returned) => {
                    events.push((operation.invoked, index, false));
                    events.push((returned, index, true));
                }
                None => open.push(index),
            }
        }
        // Calls before returns of the same moment: such operations overlap.
        events[1..].sort_unstable_by_key(|(at, index, is_return)| (*at, *is_return, *index));
        open.sort_by_key(|index| history[*index].invoked);
        let (mut call_of, mut return_of) = (vec![HEAD; history.len()], vec![HEAD; history.len()]);
        for (event, (_, index, is_return)) in events.iter().enumerate().skip(1) {
            if *is_return { return_of[*index] = event } else { call_of[*index] = event }
        }
        let mut rank = vec![None; history.len()];
        for (position, index) in open.iter().enumerate() {
            rank[*index] = Some(position);
        }
        let count = events.len();
        Self {
            model,
            history,
            next: (0..count).map(|event| (event + 1) % count).collect(),
            previous: (0..count).map(|event| (event + count - 1) % count).collect(),
            twin: twins(model, history, &open),
            events,
            call_of,
            return_of,
            open,
            rank,
            placed: vec![false; history.len()],
            to_place: (count - 1) / 2,
        }
    }

    fn run(mut self, limit: usize) -> Verdict {
        let mut state = self.model.initial();
        let mut memory = Memory::default();
        let mut stack: Vec<(usize, M::State, bool)> = Vec::new();
        let mut placed = Placed::default();
        let mut best: Option<(usize, Violation)> = None;
        let mut event = self.next[HEAD];
        let mut optional = 0;
        while self.to_place > 0 {
            let (_, operation, is_return) = self.events[event];
            // An operation returned before anything that must be placed could be: is something else
            // in between?
            let candidate =
                if is_return { self.optional(&mut optional, event) } else { Some(operation) };
            let mut is_dead_end = false;
            if let Some(candidate) = candidate {
                let then = self.model.step(&state, &self.history[candidate]);
                // What changes nothing loses nothing by being early: where this leads nowhere,
                // neither does anything else.
                let is_idle = then.as_ref().is_some_and(|then| *then == state);
                let with = placed.toggled(candidate, self.rank[candidate]);
                // Nobody need know that an operation which may be left out changed nothing.
                let then = then.filter(|_| !(is_idle && is_return));
                let fits = then.is_some();
                if let Some(then) = then.filter(|then| memory.insert(self.entry(with, then))) {
                    if memory.len() > limit {
                        return Verdict::Undecided;
                    }
                    self.place(candidate);
                    stack.push((candidate, std::mem::replace(&mut state, then), is_idle));
                    (placed, event, optional) = (with, self.next[HEAD], 0);
                    continue;
                }
                is_dead_end = fits && is_idle;
                if !is_dead_end {
                    if !is_return {
                        event = self.next[event];
                    }
                    continue;
                }
            }
            if !is_dead_end && best.as_ref().is_none_or(|(left, _)| self.to_place < *left) {
                let order = stack.iter().map(|(operation, ..)| *operation).collect();
                best = Some((self.to_place, Violation { order, stuck: operation }));
            }
            let last = loop {
                let Some((last, before, is_idle)) = stack.pop() else {
                    let none = Violation { order: Vec::new(), stuck: operation };
                    return Verdict::Violated(best.map_or(none, |(_, violation)| violation));
                };
                self.take_back(last);
                placed = placed.toggled(last, self.rank[last]);
                state = before;
                if !is_idle {
                    break last;
                }
            };
            (event, optional) = match self.rank[last] {
                None => (self.next[self.call_of[last]], 0),
                Some(position) => (self.first_return(), position + 1),
            };
        }
        Verdict::Linearizable
    }

    fn entry(&self, placed: Placed, state: &M::State) -> (u128, Rest) {
        let rest = Rest { optional: placed.optional, late: self.model.lateness(state) };
        (placed.hash ^ of_state(state), rest)
    }

    /// The next open-ended operation that was invoked before a return, from a position on.
    fn optional(&self, position: &mut usize, event: usize) -> Option<usize> {
        let (before, ..) = self.events[event];
        while let Some(index) = self.open.get(*position).copied() {
            if self.history[index].invoked > before {
                return None;
            }
            *position += 1;
            if !self.placed[index] && self.may_place(index) {
                return Some(index);
            }
        }
        None
    }

    fn first_return(&self) -> usize {
        let mut event = self.next[HEAD];
        while event != HEAD && !self.events[event].2 {
            event = self.next[event];
        }
        event
    }

    fn may_place(&self, operation: usize) -> bool {
        self.twin[operation].is_none_or(|twin| self.placed[twin])
    }

    fn place(&mut self, operation: usize) {
        self.placed[operation] = true;
        if self.rank[operation].is_none() {
            self.unlink(self.call_of[operation]);
            self.unlink(self.return_of[operation]);
            self.to_place -= 1;
        }
    }

    fn take_back(&mut self, operation: usize) {
        self.placed[operation] = false;
        if self.rank[operation].is_none() {
            // In the opposite order of `place`, or neighbours would be linked wrongly.
            self.relink(self.return_of[operation]);
            self.relink(self.call_of[operation]);
            self.to_place += 1;
        }
    }

    fn unlink(&mut self, event: usize) {
        let (before, after) = (self.previous[event], self.next[event]);
        self.next[before] = after;
        self.previous[after] = before;
    }

    fn relink(&mut self, event: usize) {
        let (before, after) = (self.previous[event], self.next[event]);
        self.next[before] = event;
        self.previous[after] = event;
    }
}

/// Which operations are placed: the first 128 open-ended ones as a set, all others as a hash.
#[derive(Debug, Clone, Copy, Default)]
struct Placed {
    hash: u128,
    optional: u128,
}

impl Placed {
    /// With an operation placed that was not, or taken back that was.
    fn toggled(self, operation: usize, rank: Option<usize>) -> Self {
        let bit = rank.and_then(|rank| 1_u128.checked_shl(u32::try_from(rank).ok()?));
        match bit {
            Some(bit) => Self { optional: self.optional ^ bit, ..self },
            None => Self { hash: self.hash ^ of_operation(operation), ..self },
        }
    }
}

/// For every open-ended operation the last one of the same effect that was invoked before it.
fn twins<M: Model>(
    model: &M,
    history: &[Operation<M::Call, M::Reply>],
    open: &[usize],
) -> Vec<Option<usize>> {
    let mut twin = vec![None; history.len()];
    for (position, index) in open.iter().enumerate() {
        let same = |other: &&usize| model.alike(&history[*index].call, &history[**other].call);
        twin[*index] = open[..position].iter().rev().find(same).copied();
    }
    twin
}

/// A fixed pseudo-random number for each operation: a set is the exclusive or of its members.
fn of_operation(operation: usize) -> u128 {
    let number = operation as u64;
    (u128::from(scatter(number)) << 64) | u128::from(scatter(number ^ 0xa5a5_5a5a_0f0f_f0f0))
}

/// The finalizer of SplitMix64.
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn of_state<S: Hash>(state: &S) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        state.hash(&mut hasher);
        hasher.finish()
    };
    (u128::from(half(1)) << 64) | u128::from(half(2))
}
