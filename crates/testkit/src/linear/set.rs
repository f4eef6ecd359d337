//! A set of few members: SADD, SREM, SPOP, SISMEMBER, SMEMBERS.
//!
//! SPOP takes whatever member it likes. Where its answer is not known, neither is the set: a state
//! is all sets that it may be, and what is answered afterwards rules some of them out.

use super::{Model, Operation};

/// Members are below this.
pub const MEMBERS: u64 = 16;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// SADD
    Add(u64),
    /// SREM
    Remove(u64),
    /// SPOP
    Pop,
    /// SISMEMBER
    Has(u64),
    /// SMEMBERS
    Read,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To SADD and SREM: whether they changed it; to SISMEMBER: whether it is one.
    Whether(bool),
    /// To SPOP.
    Popped(Option<u64>),
    /// To SMEMBERS.
    Members(Vec<u64>),
}

/// An operation on a set.
pub type SetOperation = Operation<Call, Reply>;

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct Set;

/// A bit for each member.
type Mask = u64;

fn bit(member: u64) -> Mask {
    1_u64.checked_shl(u32::try_from(member).unwrap_or(u32::MAX)).unwrap_or(0)
}

/// What one set becomes: nothing where it cannot have answered so.
fn after(mask: Mask, call: Call, reply: Option<&Reply>, into: &mut Vec<Mask>) {
    let is = |right: bool| match reply {
        Some(Reply::Whether(seen)) => *seen == right,
        _ => true,
    };
    match call {
        Call::Add(member) if is(mask & bit(member) == 0) => into.push(mask | bit(member)),
        Call::Remove(member) if is(mask & bit(member) != 0) => into.push(mask & !bit(member)),
        Call::Has(member) if is(mask & bit(member) != 0) => into.push(mask),
        Call::Add(_) | Call::Remove(_) | Call::Has(_) => {}
        Call::Pop => match reply {
            Some(Reply::Popped(None)) => into.extend((mask == 0).then_some(mask)),
            Some(Reply::Popped(Some(member))) => {
                into.extend((mask & bit(*member) != 0).then_some(mask & !bit(*member)));
            }
            _ => into
                .extend((0..MEMBERS).map(bit).filter(|bit| mask & bit != 0).map(|bit| mask & !bit)),
        },
        Call::Read => {
            let seen = match reply {
                Some(Reply::Members(seen)) => {
                    seen.iter().fold(0, |mask, member| mask | bit(*member)) == mask
                }
                _ => true,
            };
            into.extend(seen.then_some(mask));
        }
    }
}

impl Model for Set {
    /// In order, each once.
    type State = Vec<Mask>;
    type Call = Call;
    type Reply = Reply;

    fn initial(&self) -> Vec<Mask> {
        vec![0]
    }

    fn step(&self, state: &Vec<Mask>, operation: &SetOperation) -> Option<Vec<Mask>> {
        let mut then = Vec::with_capacity(state.len());
        for mask in state {
            after(*mask, operation.call, operation.reply.as_ref(), &mut then);
        }
        then.sort_unstable();
        then.dedup();
        (!then.is_empty()).then_some(then)
    }

    fn alike(&self, one: &Call, other: &Call) -> bool {
        one == other
    }
}

/// Leaves out reads that nobody saw the answer of.
pub fn prepare(history: Vec<SetOperation>) -> Vec<SetOperation> {
    let is_read = |call: Call| matches!(call, Call::Read | Call::Has(_));
    let says = |operation: &SetOperation| operation.returned.is_some() || !is_read(operation.call);
    history.into_iter().filter(says).collect()
}
