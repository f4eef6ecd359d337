//! A queue and the list its consumers put elements aside in: pushes and pops at both ends, BLMOVE
//! from one to the other, LREM of what was put aside, LRANGE of either.
//!
//! That a pop waited is not part of it: one that found nothing in the end found nothing at some
//! moment, and one that was served was served at some moment. The order in which waiting pops were
//! served is not checked.

use std::collections::{HashMap, VecDeque};

use super::{Model, Operation};

/// Of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its head.
    Left,
    /// Its tail.
    Right,
}

/// What can be asked. No element is pushed twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// LPUSH, RPUSH
    Push(End, u64),
    /// LPOP, RPOP, BLPOP, BRPOP
    Pop(End),
    /// BLMOVE from the right of the queue to the left of the other list.
    Move,
    /// LREM from the other list.
    Remove(u64),
    /// LRANGE of the queue.
    Read,
    /// LRANGE of the other list.
    ReadAside,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To a push: elements after it.
    Length(u64),
    /// To a pop or a move.
    Taken(Option<u64>),
    /// To LREM.
    Removed(bool),
    /// To LRANGE.
    Content(Vec<u64>),
}

/// An operation on a queue.
pub type QueueOperation = Operation<Call, Reply>;

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct Queue;

/// Both lists.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct State {
    queue: VecDeque<u64>,
    aside: VecDeque<u64>,
}

fn take(queue: &mut VecDeque<u64>, end: End) -> Option<u64> {
    match end {
        End::Left => queue.pop_front(),
        End::Right => queue.pop_back(),
    }
}

/// Whether a pop can have been answered like this. One that took nothing and was not answered need
/// not be placed at all.
fn fits(taken: Option<u64>, reply: Option<&Reply>) -> bool {
    match reply {
        Some(Reply::Taken(seen)) => *seen == taken,
        _ => taken.is_some(),
    }
}

impl Model for Queue {
    type State = State;
    type Call = Call;
    type Reply = Reply;

    fn initial(&self) -> State {
        State::default()
    }

    fn step(&self, state: &State, operation: &QueueOperation) -> Option<State> {
        let reply = operation.reply.as_ref();
        let reads = |list: &VecDeque<u64>| match reply {
            Some(Reply::Content(seen)) => list.iter().eq(seen),
            _ => true,
        };
        match operation.call {
            Call::Read => return reads(&state.queue).then(|| state.clone()),
            Call::ReadAside => return reads(&state.aside).then(|| state.clone()),
            _ => {}
        }
        let mut then = state.clone();
        let is_right = match operation.call {
            Call::Read | Call::ReadAside => true,
            Call::Push(end, element) => {
                match end {
                    End::Left => then.queue.push_front(element),
                    End::Right => then.queue.push_back(element),
                }
                !matches!(reply, Some(Reply::Length(length)) if *length != then.queue.len() as u64)
            }
            Call::Pop(end) => fits(take(&mut then.queue, end), reply),
            Call::Move => {
                let taken = take(&mut then.queue, End::Right);
                then.aside.extend(taken);
                // What was put there is its head.
                then.aside.rotate_right(usize::from(taken.is_some()));
                fits(taken, reply)
            }
            Call::Remove(element) => {
                let found = then.aside.iter().position(|other| *other == element);
                found.and_then(|position| then.aside.remove(position));
                match reply {
                    Some(Reply::Removed(seen)) => *seen == found.is_some(),
                    _ => found.is_some(),
                }
            }
        };
        is_right.then_some(then)
    }

    fn alike(&self, one: &Call, other: &Call) -> bool {
        one == other
    }
}

/// Leaves out reads that nobody saw the answer of, and bounds open-ended pushes whose element was
/// seen later.
pub fn prepare(history: Vec<QueueOperation>) -> Vec<QueueOperation> {
    let mut seen: HashMap<u64, u64> = HashMap::new();
    for operation in &history {
        let Some(returned) = operation.returned else { continue };
        let elements = match (&operation.call, &operation.reply) {
            (_, Some(Reply::Content(content))) => content.as_slice(),
            (_, Some(Reply::Taken(Some(element))))
            | (Call::Remove(element), Some(Reply::Removed(true))) => std::slice::from_ref(element),
            _ => continue,
        };
        for element in elements {
            let first = seen.entry(*element).or_insert(returned);
            *first = returned.min(*first);
        }
    }
    let bound = |mut operation: QueueOperation| {
        if operation.returned.is_some() {
            return Some(operation);
        }
        match operation.call {
            Call::Read | Call::ReadAside => return None,
            Call::Push(_, element) => {
                operation.returned =
                    seen.get(&element).copied().filter(|first| *first >= operation.invoked);
            }
            Call::Pop(_) | Call::Move | Call::Remove(_) => {}
        }
        Some(operation)
    };
    history.into_iter().filter_map(bound).collect()
}
