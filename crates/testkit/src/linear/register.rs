//! A register of unique values: SET, GET, SET … GET, and compare-and-set.

use std::collections::{HashMap, HashSet};

use super::{Model, Operation};

/// What can be asked. No value is written twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// GET
    Read,
    /// SET
    Write(u64),
    /// SET … GET: writes, and answers what was there.
    Swap(u64),
    /// Writes the second where the first is there, and answers what was there.
    Compare(Option<u64>, u64),
}

/// What was there; writes ignore it.
pub type Reply = Option<u64>;

/// An operation on a register.
pub type RegisterOperation = Operation<Call, Reply>;

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct Register;

impl Model for Register {
    type State = Option<u64>;
    type Call = Call;
    type Reply = Reply;

    fn initial(&self) -> Self::State {
        None
    }

    fn step(&self, state: &Self::State, operation: &RegisterOperation) -> Option<Self::State> {
        let fits = operation.reply.is_none_or(|seen| seen == *state);
        match operation.call {
            Call::Read => fits.then_some(*state),
            Call::Write(value) => Some(Some(value)),
            Call::Swap(value) => fits.then_some(Some(value)),
            // Without an answer it counts only where it wrote: otherwise it can be left out.
            Call::Compare(old, value) if *state == old => fits.then_some(Some(value)),
            Call::Compare(..) => (fits && operation.reply.is_some()).then_some(*state),
        }
    }
}

/// Leaves out what says nothing, and bounds open-ended writes: one whose value was seen took effect
/// before that; one whose value nobody saw can be thought away, because nothing happened between it
/// and the next write. A value that a compare-and-set without an answer waits for may have been
/// seen by that.
pub fn prepare(history: Vec<RegisterOperation>) -> Vec<RegisterOperation> {
    let mut seen: HashMap<u64, u64> = HashMap::new();
    for operation in &history {
        if let (Some(Some(value)), Some(returned), Call::Read | Call::Swap(_) | Call::Compare(..)) =
            (operation.reply, operation.returned, operation.call)
        {
            let first = seen.entry(value).or_insert(returned);
            *first = returned.min(*first);
        }
    }
    let awaited: HashSet<u64> = history.iter().filter_map(awaited).collect();
    let bound = |mut operation: RegisterOperation| {
        if operation.returned.is_some() {
            return Some(operation);
        }
        let (Call::Write(value) | Call::Swap(value) | Call::Compare(_, value)) = operation.call
        else {
            return None;
        };
        let Some(first) = seen.get(&value).copied() else {
            return awaited.contains(&value).then_some(operation);
        };
        // A value seen before it was written is left open-ended, for the search to stumble over.
        operation.returned = (first >= operation.invoked).then_some(first);
        Some(operation)
    };
    history.into_iter().filter_map(bound).collect()
}

/// The value that a compare-and-set without an answer needs.
fn awaited(operation: &RegisterOperation) -> Option<u64> {
    match operation.call {
        Call::Compare(old, _) if operation.returned.is_none() => old,
        _ => None,
    }
}
