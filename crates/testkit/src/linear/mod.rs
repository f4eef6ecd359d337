//! Is a history of one object linearizable? Wing and Gong's search with Lowe's memory of what was tried.
//!
//! Pure. The history of a cluster is split by key before it comes here, because a history is linearizable exactly when
//! that of each object is (Herlihy and Wing). An operation whose outcome is unknown (a time limit, a cut connection) has
//! no return: it may take effect at any time after its invocation, or never.
//!
//! The memory holds 128-bit hashes of (set of operations placed, state), so that it stays small. Two different entries
//! with one hash would be able to hide a way out; with a million entries that happens once in 10^26 histories.

pub mod counter;
pub mod list;
pub mod lock;
pub mod register;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};

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

/// What an object does, one operation after the other.
pub trait Model {
    /// What it remembers.
    type State: Clone + Hash;
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

    /// Whether two calls with unknown outcomes do the same, so that one order of them stands for both.
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

/// Searches with a memory of at most `limit` entries (16 bytes and the set's overhead each).
pub fn check<M: Model>(
    model: &M,
    history: &[Operation<M::Call, M::Reply>],
    limit: usize,
) -> Verdict {
    Search::new(model, history).run(limit)
}

/// Positions in the list of events: 0 is its head; an operation's call and return are two of the others.
const HEAD: usize = 0;

struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a [Operation<M::Call, M::Reply>],
    /// Doubly linked list of the events of operations that are not placed; `next` of the last is `HEAD`.
    next: Vec<usize>,
    previous: Vec<usize>,
    /// By event: the operation, and whether the event is its return.
    events: Vec<(usize, bool)>,
    call_of: Vec<usize>,
    return_of: Vec<Option<usize>>,
    /// The operation of the same effect that must be placed before this one.
    twin: Vec<Option<usize>>,
    placed: Vec<bool>,
    to_place: usize,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, history: &'a [Operation<M::Call, M::Reply>]) -> Self {
        let mut timed: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * history.len());
        for (index, operation) in history.iter().enumerate() {
            timed.push((operation.invoked, false, index));
            if let Some(returned) = operation.returned {
                timed.push((returned, true, index));
            }
        }
        // Calls before returns of the same moment: such operations overlap.
        timed.sort_unstable();
        let count = timed.len() + 1;
        let mut events = vec![(usize::MAX, false)];
        let (mut call_of, mut return_of) = (vec![0; history.len()], vec![None; history.len()]);
        for (position, (_, is_return, index)) in timed.into_iter().enumerate() {
            events.push((index, is_return));
            if is_return {
                return_of[index] = Some(position + 1);
            } else {
                call_of[index] = position + 1;
            }
        }
        Self {
            model,
            history,
            next: (0..count).map(|event| (event + 1) % count).collect(),
            previous: (0..count).map(|event| (event + count - 1) % count).collect(),
            twin: twins(model, history, &events),
            events,
            call_of,
            to_place: return_of.iter().flatten().count(),
            return_of,
            placed: vec![false; history.len()],
        }
    }

    fn run(mut self, limit: usize) -> Verdict {
        let mut state = self.model.initial();
        let mut memory: HashSet<u128> = HashSet::new();
        let mut stack: Vec<(usize, M::State)> = Vec::new();
        let mut placed_hash = 0_u128;
        let mut best: Option<(usize, Violation)> = None;
        let mut event = self.next[HEAD];
        while self.to_place > 0 {
            let (operation, is_return) = self.events[event];
            if event != HEAD && !is_return {
                let then = if self.may_place(operation) {
                    self.model.step(&state, &self.history[operation])
                } else {
                    None
                };
                if let Some(then) = then {
                    let hash = placed_hash ^ of_operation(operation);
                    if memory.insert(hash ^ of_state(&then)) {
                        if memory.len() > limit {
                            return Verdict::Undecided;
                        }
                        self.place(operation);
                        stack.push((operation, std::mem::replace(&mut state, then)));
                        placed_hash = hash;
                        event = self.next[HEAD];
                        continue;
                    }
                }
                event = self.next[event];
                continue;
            }
            // An operation returned before anything else could be placed: what was placed last was wrong.
            if event != HEAD && best.as_ref().is_none_or(|(left, _)| self.to_place < *left) {
                let order = stack.iter().map(|(operation, _)| *operation).collect();
                best = Some((self.to_place, Violation { order, stuck: operation }));
            }
            let Some((last, before)) = stack.pop() else {
                let none = Violation { order: Vec::new(), stuck: 0 };
                return Verdict::Violated(best.map_or(none, |(_, violation)| violation));
            };
            self.take_back(last);
            placed_hash ^= of_operation(last);
            state = before;
            event = self.next[self.call_of[last]];
        }
        Verdict::Linearizable
    }

    fn may_place(&self, operation: usize) -> bool {
        self.twin[operation].is_none_or(|twin| self.placed[twin])
    }

    fn place(&mut self, operation: usize) {
        self.placed[operation] = true;
        self.unlink(self.call_of[operation]);
        if let Some(event) = self.return_of[operation] {
            self.unlink(event);
            self.to_place -= 1;
        }
    }

    fn take_back(&mut self, operation: usize) {
        self.placed[operation] = false;
        // In the opposite order of `place`, or neighbours would be linked wrongly.
        if let Some(event) = self.return_of[operation] {
            self.relink(event);
            self.to_place += 1;
        }
        self.relink(self.call_of[operation]);
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

/// For every open-ended operation the one of the same effect that was invoked before it.
fn twins<M: Model>(
    model: &M,
    history: &[Operation<M::Call, M::Reply>],
    events: &[(usize, bool)],
) -> Vec<Option<usize>> {
    let mut twin = vec![None; history.len()];
    let mut open: Vec<usize> = Vec::new();
    for (index, is_return) in events.iter().skip(1).copied() {
        if is_return || history[index].returned.is_some() {
            continue;
        }
        let same = |other: &&usize| model.alike(&history[index].call, &history[**other].call);
        twin[index] = open.iter().rev().find(same).copied();
        open.push(index);
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
