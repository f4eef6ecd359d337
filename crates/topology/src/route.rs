//! The routing gate: whether a command with these slots runs here, and the exact error if it does
//! not.
//!
//! Asked once per keyed command, so the way to "runs here" is a table look-up without allocation.
//! It knows slots only: what the keys of a command are, and whether a replica may write, is decided
//! elsewhere.

use std::fmt;

use crate::{
    model::{Asker, Node, NodeId, Role, Slot},
    state::Cluster,
};

/// What the gate must know of a command and of its connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouteRequest {
    /// The command writes.
    pub is_write: bool,
    /// The connection sent READONLY.
    pub readonly: bool,
    /// The connection sent ASKING just before, or is the link of the running import.
    pub asking: bool,
    /// The client that asks: where it is sent depends on what it can reach.
    pub asker: Asker,
}

/// Keys a script touched so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScriptScope {
    /// Slot of the last key, first of all of the declared ones.
    pub last_slot: Option<Slot>,
    /// The script has the flag `allow-cross-slot-keys`.
    pub allow_cross_slot: bool,
}

impl ScriptScope {
    /// Whether the script may use keys of this slot next; then it does.
    pub fn admit(&mut self, slot: Slot) -> bool {
        let is_same = self.last_slot.is_none_or(|last| last == slot);
        let is_admitted = is_same || self.allow_cross_slot;
        if is_admitted {
            self.last_slot = Some(slot);
        }
        is_admitted
    }
}

/// Where a command belongs. `Display` of all but `Run` is the error line with its code, without the
/// leading `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Here.
    Run,
    /// The keys are in more than one slot.
    CrossSlot,
    /// Nobody owns the slot.
    SlotNotServed,
    /// Its owner is another node, which this client cannot reach.
    OwnerNotReached,
    /// The slot is about to be handed over.
    TryAgain,
    /// Elsewhere.
    Moved {
        /// The slot.
        slot: Slot,
        /// `host:port` as clients are shown it.
        to: String,
    },
    /// A script touched a key of another node.
    ScriptNonLocal,
    /// A script touched keys of several slots of this node.
    ScriptCrossSlot,
}

impl Route {
    /// The error line, `None` for `Run`.
    pub fn error(&self) -> Option<String> {
        (*self != Self::Run).then(|| self.to_string())
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run => "",
            Self::CrossSlot => {
                "CROSSSLOT Attempted to access keys that don't hash to the same slot"
            }
            Self::SlotNotServed => "CLUSTERDOWN Hash slot not served",
            Self::OwnerNotReached => {
                "CLUSTERDOWN Hash slot not served: its master has no announced endpoint"
            }
            Self::TryAgain => {
                "TRYAGAIN Can't write to slot being migrated which is in write forbidden phase"
            }
            Self::Moved { slot, to } => return write!(f, "MOVED {slot} {to}"),
            Self::ScriptNonLocal => {
                "ERR Script attempted to access a non local key in a cluster node script"
            }
            Self::ScriptCrossSlot => {
                "CROSSSLOT Script attempted to access keys that do not hash to the same slot"
            }
        })
    }
}

impl Cluster {
    /// Where a command with keys in these slots belongs. Without any slot it runs here.
    pub fn route(&self, slots: impl IntoIterator<Item = Slot>, request: RouteRequest) -> Route {
        let mut slots = slots.into_iter();
        let Some(slot) = slots.next() else { return Route::Run };
        if slots.any(|other| other != slot) {
            return Route::CrossSlot;
        }
        let Some(owner) = self.owner_index(slot) else { return Route::SlotNotServed };
        if self.my_index() == Some(owner) {
            return self.route_own(slot, request);
        }
        if self.my_index().is_some() && self.serves_foreign(slot, owner, request) {
            return Route::Run;
        }
        match self.node_at(owner) {
            Some(node) => moved(slot, node, request.asker),
            None => Route::SlotNotServed,
        }
    }

    /// As [`Cluster::route`], for a call made by a script. Every key is checked, also the first one
    /// that was not declared.
    pub fn route_in_script(
        &self,
        slots: impl IntoIterator<Item = Slot>,
        request: RouteRequest,
        scope: &mut ScriptScope,
    ) -> Route {
        let mut first = None;
        let slots = slots.into_iter().inspect(|slot| first = first.or(Some(*slot)));
        match (self.route(slots, request), first) {
            (Route::Moved { .. } | Route::OwnerNotReached, _) => Route::ScriptNonLocal,
            (Route::Run, Some(slot)) => {
                if scope.admit(slot) {
                    Route::Run
                } else {
                    Route::ScriptCrossSlot
                }
            }
            (route, _) => route,
        }
    }

    fn route_own(&self, slot: Slot, request: RouteRequest) -> Route {
        let marks = self.marks();
        if let Some(target) = marks.migrated.get(&slot).and_then(|id| self.node(id)) {
            return moved(slot, target, request.asker);
        }
        if request.is_write && marks.write_forbidden.is_some_and(|range| range.contains(slot)) {
            return Route::TryAgain;
        }
        Route::Run
    }

    /// Whether this node may serve a slot that another node owns.
    fn serves_foreign(&self, slot: Slot, owner: u16, request: RouteRequest) -> bool {
        let marks = self.marks();
        if request.asking && marks.importing.is_some_and(|range| range.contains(slot)) {
            return true;
        }
        if marks.imported.contains(slot) {
            return true;
        }
        if request.is_write || !request.readonly {
            return false;
        }
        let master = match self.myself().map(|node| &node.role) {
            Some(Role::Replica { of }) => *of,
            _ => return false,
        };
        self.node_at(owner).is_some_and(|node| node.id == master)
    }

    fn node(&self, id: &NodeId) -> Option<&Node> {
        self.topology().ok()?.node(id)
    }
}

/// Nobody is sent where he cannot go: a client that tries waits for its own time-out, and asks the
/// next time again.
fn moved(slot: Slot, node: &Node, asker: Asker) -> Route {
    match node.shown(asker) {
        Some(address) => Route::Moved { slot, to: address.to_string() },
        None => Route::OwnerNotReached,
    }
}

#[cfg(test)]
mod tests;
