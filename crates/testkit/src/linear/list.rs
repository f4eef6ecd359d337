//! A list that only grows: APPEND of unique elements of one length, and GET.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{Model, Operation};

/// What can be asked. No element is appended twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// GET
    Read,
    /// APPEND
    Append(u64),
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To APPEND: elements after it.
    Length(u64),
    /// To GET.
    Content(Vec<u64>),
}

/// An operation on a list.
pub type ListOperation = Operation<Call, Reply>;

/// The model. Its state is length and a running hash, so that it costs the same however long the
/// list is.
#[derive(Debug, Clone, Copy)]
pub struct List;

/// Length and hash of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest {
    length: u64,
    hash: u64,
}

impl Digest {
    fn with(self, element: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        (self.hash, element).hash(&mut hasher);
        Self { length: self.length + 1, hash: hasher.finish() }
    }

    fn of(content: &[u64]) -> Self {
        content.iter().fold(Self::default(), |digest, element| digest.with(*element))
    }
}

impl Model for List {
    type State = Digest;
    type Call = Call;
    type Reply = Reply;

    fn initial(&self) -> Digest {
        Digest::default()
    }

    fn step(&self, state: &Digest, operation: &ListOperation) -> Option<Digest> {
        match (operation.call, &operation.reply) {
            (Call::Read, Some(Reply::Content(content))) => {
                // The length first: it is cheap, and mostly tells.
                let fits = state.length == content.len() as u64 && *state == Digest::of(content);
                fits.then_some(*state)
            }
            (Call::Read, _) => Some(*state),
            (Call::Append(element), reply) => {
                let then = state.with(element);
                match reply {
                    Some(Reply::Length(length)) if *length != then.length => None,
                    _ => Some(then),
                }
            }
        }
    }
}

/// Leaves out what says nothing, and bounds open-ended appends: an element that was seen was there
/// by then; one that is missing in a read made after every append had returned can be thought away,
/// because a list never shrinks.
pub fn prepare(history: Vec<ListOperation>) -> Vec<ListOperation> {
    let mut seen: HashMap<u64, u64> = HashMap::new();
    let mut last_append = 0;
    let mut last_read = None;
    for operation in &history {
        let Some(returned) = operation.returned else { continue };
        match (&operation.call, &operation.reply) {
            (Call::Read, Some(Reply::Content(content))) => {
                last_read = last_read.max(Some(operation.invoked));
                for element in content {
                    let first = seen.entry(*element).or_insert(returned);
                    *first = returned.min(*first);
                }
            }
            (Call::Append(_), _) => last_append = last_append.max(returned),
            _ => {}
        }
    }
    let is_complete = last_read.is_some_and(|read| read > last_append);
    let bound = |mut operation: ListOperation| {
        if operation.returned.is_some() {
            return Some(operation);
        }
        let Call::Append(element) = operation.call else { return None };
        match seen.get(&element) {
            Some(first) => {
                operation.returned = (*first >= operation.invoked).then_some(*first);
                Some(operation)
            }
            None => (!is_complete).then_some(operation),
        }
    };
    history.into_iter().filter_map(bound).collect()
}
