//! A lock: SET … NX PX by unique tokens, release by token (WATCH, GET, MULTI, DEL, EXEC), GET.
//!
//! Time is part of what a lock promises: it cannot be free before its time to live ran out, and
//! cannot be held long after. The moment of an operation is only known to lie between its call and
//! its return, so that each rule here is applied where no moment in between obeys it.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use super::{Model, Operation};

/// What can be asked. No token is used for two locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// GET
    Read,
    /// SET token NX PX
    Acquire {
        /// The token that is to hold it.
        token: u64,
        /// For how long, ns.
        ttl: u64,
    },
    /// Delete if it is this token's.
    Release {
        /// Whose.
        token: u64,
    },
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// To a read: whose it is.
    Holder(Option<u64>),
    /// To an acquisition or a release: whether it did anything.
    Done(bool),
}

/// An operation on a lock.
pub type LockOperation = Operation<Call, Reply>;

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct Lock {
    /// Clocks of nodes are in ms and may be slewed: so much, in ns, an expiry may be early or late.
    pub slack: u64,
}

/// What holds the lock, and what is known of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    holder: Option<Held>,
    /// It is this late at least, because an expiry was used. Not hashed: see [`Model::lateness`].
    now: u64,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.holder.hash(hasher);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Held {
    token: u64,
    /// Not over before this.
    may_end: u64,
    /// Over after this.
    must_end: u64,
}

impl Lock {
    fn held(&self, operation: &LockOperation, token: u64, ttl: u64) -> Held {
        let late = |returned: u64| returned.saturating_add(ttl).saturating_add(self.slack);
        Held {
            token,
            may_end: operation.invoked.saturating_add(ttl).saturating_sub(self.slack),
            must_end: operation.returned.map_or(u64::MAX, late),
        }
    }
}

impl Model for Lock {
    type State = State;
    type Call = Call;
    type Reply = Reply;

    fn initial(&self) -> State {
        State::default()
    }

    fn step(&self, state: &State, operation: &LockOperation) -> Option<State> {
        let returned = operation.returned.unwrap_or(u64::MAX);
        if returned < state.now {
            return None;
        }
        // What the state is if the lock is free at some moment of the operation.
        let freed = match state.holder {
            None => Some(*state),
            Some(held) => (returned >= held.may_end)
                .then(|| State { holder: None, now: state.now.max(held.may_end) }),
        };
        let held = state.holder.filter(|held| operation.invoked.max(state.now) <= held.must_end);
        let is_its = |token: u64| held.is_some_and(|held| held.token == token);
        match (operation.call, operation.reply) {
            (Call::Read, Some(Reply::Holder(None))) => freed,
            (Call::Read, Some(Reply::Holder(Some(token)))) => is_its(token).then_some(*state),
            (Call::Read, _) => Some(*state),
            (Call::Acquire { .. }, Some(Reply::Done(false))) => held.map(|_| *state),
            (Call::Acquire { token, ttl }, _) => {
                freed.map(|state| State { holder: Some(self.held(operation, token, ttl)), ..state })
            }
            (Call::Release { token }, Some(Reply::Done(false))) => match state.holder {
                Some(held) if held.token == token => freed,
                _ => Some(*state),
            },
            (Call::Release { token }, _) => {
                is_its(token).then_some(State { holder: None, ..*state })
            }
        }
    }

    /// In every rule a later moment only forbids.
    fn lateness(&self, state: &State) -> u64 {
        state.now
    }

    fn alike(&self, one: &Call, other: &Call) -> bool {
        one == other
    }
}

/// Leaves out what says nothing, and bounds open-ended acquisitions whose token was seen later.
pub fn prepare(history: Vec<LockOperation>) -> Vec<LockOperation> {
    let mut seen: HashMap<u64, u64> = HashMap::new();
    for operation in &history {
        let token = match (operation.call, operation.reply) {
            (Call::Read, Some(Reply::Holder(Some(token))))
            | (Call::Release { token }, Some(Reply::Done(true))) => token,
            _ => continue,
        };
        if let Some(returned) = operation.returned {
            let first = seen.entry(token).or_insert(returned);
            *first = returned.min(*first);
        }
    }
    let bound = |mut operation: LockOperation| {
        if operation.returned.is_some() {
            return Some(operation);
        }
        match operation.call {
            Call::Read => None,
            Call::Release { .. } => Some(operation),
            Call::Acquire { token, .. } => {
                operation.returned =
                    seen.get(&token).copied().filter(|first| *first >= operation.invoked);
                Some(operation)
            }
        }
    };
    history.into_iter().filter_map(bound).collect()
}
