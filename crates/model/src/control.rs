//! One controller: what it saw, and what it was told of the store.

use std::sync::Arc;

use crate::node::Answered;
use crate::stored::Stored;

/// What a controller knows of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Seen {
    /// Newest answer.
    pub reply: Option<Arc<Answered>>,
    /// When it was asked for.
    pub sent: u8,
    /// When it was read.
    pub received: u8,
    /// The last heartbeat was not answered.
    pub missed: bool,
    /// It refused the last one, for the sake of another store.
    pub is_led: bool,
    /// The store was read since the answer came, and showed the claim of this controller.
    pub is_read: bool,
    /// The answer was asked for after the newest epoch was known.
    pub is_fresh: bool,
    /// End of the newest lease that was granted.
    pub lease_until: Option<u8>,
    /// Version it acknowledged.
    pub pushed: u8,
    /// Epoch and request of the newest grant it answered.
    pub confirmed: Option<(u64, u64)>,
    /// For which switchover it was told to pause, and when.
    pub paused: Option<(u8, u8)>,
}

/// What an instance of the balancer confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InForce {
    /// The order it answered to.
    pub version: u8,
    /// Where it leads.
    pub backend: Option<u8>,
    /// When it said so.
    pub at: u8,
}

/// One controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Controller {
    /// Its term, 0 before it ever led.
    pub term: u8,
    /// When that began.
    pub started: u8,
    /// It leads from the second store.
    pub is_apart: bool,
    /// It reaches the store.
    pub is_connected: bool,
    /// It will not, once it has sent its next change.
    pub is_swap_late: bool,
    /// Its next change will be late, and it goes on without an answer.
    pub is_swap_lost: bool,
    /// What the store had when it sent a change whose outcome it does not know.
    pub in_doubt: Option<Arc<Stored>>,
    /// Its copy of the record.
    pub record: Arc<Stored>,
    /// By node.
    pub nodes: [Seen; 3],
    /// What it wants the balancer to do: number and backend.
    pub desired: Option<(u8, Option<u8>)>,
    /// By instance.
    pub instances: [Option<InForce>; 2],
}

impl Controller {
    pub(crate) fn new() -> Self {
        Self {
            term: 0,
            started: 0,
            is_apart: false,
            is_connected: true,
            is_swap_late: false,
            is_swap_lost: false,
            in_doubt: None,
            record: Arc::new(Stored::new()),
            nodes: std::array::from_fn(|_| Seen::default()),
            desired: None,
            instances: [None; 2],
        }
    }

    /// A tick passes.
    pub(crate) fn pass(&mut self) {
        let earlier = |time: &mut u8| *time = time.saturating_sub(1);
        earlier(&mut self.started);
        for seen in &mut self.nodes {
            earlier(&mut seen.sent);
            earlier(&mut seen.received);
            // What is over needs no end.
            seen.lease_until = seen.lease_until.filter(|until| *until > 1).map(|until| until - 1);
            if let Some((_, paused)) = &mut seen.paused {
                earlier(paused);
            }
            if let Some(reply) = &mut seen.reply {
                earlier(&mut Arc::make_mut(reply).clock);
            }
        }
        for in_force in self.instances.iter_mut().flatten() {
            earlier(&mut in_force.at);
        }
    }

    /// A new leader has seen nothing.
    pub(crate) fn elected(&mut self, term: u8, now: u8, record: &Arc<Stored>) {
        *self = Self { term, started: now, record: Arc::clone(record), ..Self::new() };
    }

    /// The store's record became known.
    pub(crate) fn adopt(&mut self, record: &Arc<Stored>) {
        if (record.epoch, record.id) != (self.record.epoch, self.record.id) {
            for node in &mut self.nodes {
                node.is_fresh = false;
            }
        }
        self.record = Arc::clone(record);
    }

    /// The store is read, and shows that this controller leads.
    pub(crate) fn read(&mut self) {
        for seen in &mut self.nodes {
            seen.is_read = seen.reply.is_some();
        }
    }

    /// An answer is read at `now` that was asked for at `sent`, in the epoch `epoch` of the record.
    pub(crate) fn answered(
        &mut self,
        node: u8,
        reply: Answered,
        (sent, now): (u8, u8),
        epoch: u64,
    ) {
        let is_fresh = epoch == self.record.epoch;
        let seen = &mut self.nodes[usize::from(node)];
        seen.reply = Some(Arc::new(reply));
        (seen.sent, seen.received) = (sent, now);
        (seen.missed, seen.is_fresh, seen.is_read) = (false, is_fresh, false);
        seen.is_led = false;
    }

    /// A node says that it is led from another store.
    pub(crate) fn refused(&mut self, node: u8) {
        let seen = &mut self.nodes[usize::from(node)];
        (seen.missed, seen.is_led) = (false, true);
    }
}
