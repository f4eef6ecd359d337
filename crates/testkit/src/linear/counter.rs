//! A counter: INCR and GET.

use super::{Model, Operation};

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// GET; nothing there counts as 0.
    Read,
    /// INCR
    Add,
}

/// An operation on a counter; the reply is the value after it.
pub type CounterOperation = Operation<Call, i64>;

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct Counter;

impl Model for Counter {
    type State = i64;
    type Call = Call;
    type Reply = i64;

    fn initial(&self) -> i64 {
        0
    }

    fn step(&self, state: &i64, operation: &CounterOperation) -> Option<i64> {
        let then = match operation.call {
            Call::Read => *state,
            Call::Add => state.checked_add(1)?,
        };
        operation.reply.is_none_or(|seen| seen == then).then_some(then)
    }

    fn alike(&self, one: &Call, other: &Call) -> bool {
        one == other
    }
}

/// Leaves out reads that nobody saw the answer of.
pub fn prepare(history: Vec<CounterOperation>) -> Vec<CounterOperation> {
    let says = |operation: &CounterOperation| {
        operation.call != Call::Read || (operation.reply.is_some() && operation.returned.is_some())
    };
    history.into_iter().filter(says).collect()
}
