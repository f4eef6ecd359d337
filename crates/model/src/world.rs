//! Everything there is at one moment.

use std::sync::Arc;

use grant::{Heartbeat, Link};

use crate::control::Controller;
use crate::node::{Answered, Node};
use crate::second::Apart;
use crate::stored::Stored;
use crate::time::{NOW, TICK_NS};

/// One instance of the balancer. It starts closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Instance {
    /// Highest term it took orders from.
    pub term: u8,
    /// Newest order of that term.
    pub version: u8,
    /// Where the frontend leads.
    pub backend: Option<u8>,
}

/// A message that is late: it may arrive at any time from now on, and more than once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Late {
    /// A heartbeat on its way to a node.
    Beat(u8, Heartbeat),
    /// An answer on its way to a controller of a term.
    Reply {
        /// To which of the two.
        to: u8,
        /// If it is still in this term.
        term: u8,
        /// From which node.
        node: u8,
        /// When it was asked for.
        sent: u8,
        /// In which epoch of the record, as far as the controller knew.
        epoch: u64,
        /// What it says.
        reply: Answered,
    },
    /// A replica's acknowledgement on its way to a master's process.
    Ack {
        /// The replica.
        from: u8,
        /// The master.
        to: u8,
        /// What it says.
        link: Link,
    },
    /// A compare-and-swap on its way to the store.
    Swap {
        /// If the sender's store still has the claim of this term, which is the sender's,
        term: u8,
        /// and still has this.
        old: Arc<Stored>,
        /// Then it has this.
        new: Arc<Stored>,
    },
    /// An order on its way to an instance of the balancer.
    Order(u8, Instance),
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Violation {
    /// Two nodes can answer clients.
    TwoAnswer(u8, u8),
    /// A node can answer that lacks a write a client was shown.
    Lost {
        /// The node.
        node: u8,
        /// The write.
        write: u8,
    },
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// The tick it is: always the same, since all other times are moved instead. So a world does
    /// not differ from another in how long it has lasted, and the search need not end at some time.
    pub now: u8,
    /// Faults so far.
    pub faults: u8,
    /// Writes so far.
    pub writes: u8,
    /// Switchovers so far.
    pub wanted: u8,
    /// The record.
    pub store: Arc<Stored>,
    /// Whose claim the store has.
    pub leader: u8,
    /// Of that claim.
    pub term: u8,
    /// The second store, if a controller leads from it.
    pub second: Option<Apart>,
    /// The controllers.
    pub controllers: [Arc<Controller>; 2],
    /// The nodes.
    pub nodes: [Arc<Node>; 3],
    /// The balancer.
    pub balancer: [Instance; 2],
    /// Links that are cut: bit `3 * controller + node`.
    pub cut: u8,
    /// Replicas that get no stream: a bit each.
    pub parted: u8,
    /// Messages that are late.
    pub late: Vec<Late>,
    /// Writes that some client was shown, by an acknowledgement or a read: a bit each.
    pub shown: u8,
    /// What went wrong.
    pub violation: Option<Violation>,
}

impl World {
    /// Nothing has happened yet; no node has data or a topology.
    pub(crate) fn new() -> Self {
        Self {
            now: NOW,
            faults: 0,
            writes: 0,
            wanted: 0,
            store: Arc::new(Stored::new()),
            leader: 0,
            term: 0,
            second: None,
            controllers: [Arc::new(Controller::new()), Arc::new(Controller::new())],
            nodes: [0, 1, 2].map(|index| Arc::new(Node::new(index))),
            balancer: [Instance::default(); 2],
            cut: 0,
            parted: 0,
            late: Vec::new(),
            shown: 0,
            violation: None,
        }
    }

    pub(crate) fn node(&mut self, index: u8) -> &mut Node {
        Arc::make_mut(&mut self.nodes[usize::from(index)])
    }

    pub(crate) fn controller(&mut self, index: u8) -> &mut Controller {
        Arc::make_mut(&mut self.controllers[usize::from(index)])
    }

    /// The store of a controller.
    pub(crate) fn stored(&self, at: u8) -> &Arc<Stored> {
        match &self.second {
            Some(second) if self.controllers[usize::from(at)].is_apart => &second.store,
            _ => &self.store,
        }
    }

    /// The same, to be changed.
    pub(crate) fn stored_mut(&mut self, at: u8) -> &mut Arc<Stored> {
        match &mut self.second {
            Some(second) if self.controllers[usize::from(at)].is_apart => &mut second.store,
            _ => &mut self.store,
        }
    }

    /// Whether the store of a controller has its claim.
    pub(crate) fn leads(&self, at: u8) -> bool {
        self.controllers[usize::from(at)].is_apart || self.leader == at
    }

    pub(crate) fn is_cut(&self, controller: u8, node: u8) -> bool {
        self.cut & (1 << (3 * controller + node)) != 0
    }

    /// A tick passes: whatever has a time is a tick longer ago, or less far ahead.
    pub(crate) fn pass(&mut self) {
        for controller in &mut self.controllers {
            Arc::make_mut(controller).pass();
        }
        for node in &mut self.nodes {
            Arc::make_mut(node).pass();
        }
        for late in &mut self.late {
            match late {
                Late::Beat(_, beat) => {
                    beat.clock = beat.clock.map(|(ns, nonce)| (ns.saturating_sub(TICK_NS), nonce));
                }
                Late::Reply { sent, reply, .. } => {
                    *sent = sent.saturating_sub(1);
                    reply.clock = reply.clock.saturating_sub(1);
                }
                Late::Ack { .. } | Late::Swap { .. } | Late::Order(..) => {}
            }
        }
    }

    /// States that differ only in which instance of the balancer is which are one.
    pub(crate) fn normalize(&mut self) {
        let seen = |world: &Self, at: usize| {
            world.controllers.clone().map(|controller| controller.instances[at])
        };
        if self.late.iter().any(|late| matches!(late, Late::Order(..))) {
            return;
        }
        if (self.balancer[0], seen(self, 0)) > (self.balancer[1], seen(self, 1)) {
            self.balancer.swap(0, 1);
            for controller in &mut self.controllers {
                if controller.instances[0] != controller.instances[1] {
                    Arc::make_mut(controller).instances.swap(0, 1);
                }
            }
        }
    }
}
