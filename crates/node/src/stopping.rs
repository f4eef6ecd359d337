//! A process that was told to end, and whether it may: first somebody else should do what it does.
//!
//! The controller learns of it by heartbeats (`stopping:1`), and makes a planned switchover where
//! the node is a master. Nothing here changes what the node serves: until a topology says otherwise
//! it is what it was, and who waits too long ends as a killed one would.
//!
//! A replica also asks its master to count on it no more (`replconf leaving`), and acknowledges
//! until that is so: if it just ended, writes would wait until the store has a set without it.

use std::sync::atomic::{AtomicU64, Ordering};

use ::replication::wire::Leave;
use api::heartbeat::{Reply, Role};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a controller was told. Times are ms of CLOCK_BOOTTIME; 0: not yet.
#[derive(Debug, Default)]
pub struct Stopping {
    begun_ms: AtomicU64,
    told_ms: AtomicU64,
    /// How far the leave of the master's set is on the present stream, and since when.
    leave: Mutex<Option<(Leave, u64)>>,
    /// Rung for the link to the master.
    bell: Notify,
}

impl Stopping {
    /// From now on heartbeats say so.
    pub fn begin(&self, now_ms: u64) {
        self.begun_ms.store(now_ms.max(1), Ordering::SeqCst);
        self.bell.notify_one();
    }

    /// Returns once after [`Self::begin`], to wake the link to the master; one that begins later
    /// looks at [`Self::has_begun`].
    pub async fn begun(&self) {
        self.bell.notified().await;
    }

    /// How far the leave is now; `None` when a stream has ended, and with it what was said there.
    pub fn leaves(&self, leave: Option<Leave>, now_ms: u64) {
        *self.leave.lock() = leave.map(|leave| (leave, now_ms));
    }

    /// What [`Self::leaves`] said last.
    pub fn leave(&self) -> Option<(Leave, u64)> {
        *self.leave.lock()
    }

    /// Whether the process was told to end.
    pub fn has_begun(&self) -> bool {
        self.begun_ms.load(Ordering::SeqCst) > 0
    }

    /// A controller that leads is given this answer.
    pub fn tell(&self, reply: &Reply, now_ms: u64) {
        if !reply.stopping {
            return;
        }
        if reply.role == Role::Master {
            self.told_ms.store(0, Ordering::SeqCst);
        } else {
            let now_ms = now_ms.max(1);
            let _ = self.told_ms.compare_exchange(0, now_ms, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// When a controller was first told that the node is a replica, and is about to end.
    pub fn told_ms(&self) -> Option<u64> {
        Some(self.told_ms.load(Ordering::SeqCst)).filter(|told| *told > 0)
    }
}

/// What the decision looks at. Times are ms of one clock.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Now.
    pub now_ms: u64,
    /// When the process was told to end.
    pub begun_ms: u64,
    /// How long it may take.
    pub limit_ms: u64,
    /// When a controller's heartbeat was last taken.
    pub heard_ms: Option<u64>,
    /// The shard has another node.
    pub has_fellows: bool,
    /// The node is a master.
    pub is_master: bool,
    /// See [`Stopping::told_ms`].
    pub told_ms: Option<u64>,
    /// Clients that came through balancers, which may take them elsewhere.
    pub sessions: usize,
    /// The node has a stream from its master.
    pub is_linked: bool,
    /// See [`Stopping::leave`].
    pub leave: Option<(Leave, u64)>,
}

/// A controller that has been silent for so long leads nobody: longer than it takes to count a node
/// as down.
const LED_MS: u64 = 2_000;
/// So that an answer leaves before the process does.
const ANSWER_MS: u64 = 50;
/// How long a replica waits until balancers have taken its sessions back.
const SESSIONS_MS: u64 = 1_000;
/// This part of its time a replica waits for a word of its master that it was heard: one of an
/// earlier version says none.
const WORD_PART: u64 = 5;

/// Why the process may end now; `None` while it should wait.
pub fn may_end(look: &Look) -> Option<&'static str> {
    let since = |then: u64| look.now_ms.saturating_sub(then);
    if look.heard_ms.is_none_or(|heard| since(heard) >= LED_MS) {
        return Some("no controller leads this node");
    }
    if !look.has_fellows {
        return Some("its shard has no other node");
    }
    if since(look.begun_ms) >= look.limit_ms {
        return Some(match look.is_master {
            true => "nobody has taken over in time (handover-timeout-ms)",
            false => "it was not let go in time (handover-timeout-ms)",
        });
    }
    if look.is_master {
        return None;
    }
    let told = since(look.told_ms?);
    let is_emptied = look.sessions == 0 || told >= SESSIONS_MS;
    let may = is_emptied && told >= ANSWER_MS && is_let_go(look);
    may.then_some("it is a replica, and its controller knows")
}

/// Whether no write waits for a replica once it ends, as far as its master says.
fn is_let_go(look: &Look) -> bool {
    let is_late = |since_ms: u64| look.now_ms.saturating_sub(since_ms) >= look.limit_ms / WORD_PART;
    match look.leave.filter(|_| look.is_linked) {
        // Without a stream it is as good as gone, and dropped already.
        None => !look.is_linked || is_late(look.begun_ms),
        Some((Leave::Told, since_ms)) => is_late(since_ms),
        Some((Leave::Heard, _)) => false,
        Some((Leave::Gone, _)) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A master that was told a moment ago, among others, led by a controller.
    const MASTER: Look = Look {
        now_ms: 10_000,
        begun_ms: 9_900,
        limit_ms: 5_000,
        heard_ms: Some(9_800),
        has_fellows: true,
        is_master: true,
        told_ms: None,
        sessions: 7,
        is_linked: false,
        leave: None,
    };

    #[test]
    fn a_master_waits_while_somebody_could_take_over_and_no_longer() {
        assert_eq!(may_end(&MASTER), None);
        let late = Look { begun_ms: 5_000, ..MASTER };
        assert_eq!(may_end(&late), Some("nobody has taken over in time (handover-timeout-ms)"));
        for alone in [None, Some(8_000)] {
            let alone = Look { heard_ms: alone, ..MASTER };
            assert_eq!(may_end(&alone), Some("no controller leads this node"));
        }
        let single = Look { has_fellows: false, ..MASTER };
        assert_eq!(may_end(&single), Some("its shard has no other node"));
    }

    #[test]
    fn a_replica_ends_once_its_controller_knows_and_its_sessions_are_gone() {
        let replica = Look { is_master: false, sessions: 0, ..MASTER };
        assert_eq!(may_end(&replica), None, "nobody was told");
        let told = |ago: u64, sessions| {
            may_end(&Look { told_ms: Some(10_000 - ago), sessions, ..replica }).is_some()
        };
        assert!(!told(49, 0) && told(50, 0));
        assert!(!told(999, 1) && told(1_000, 1));
    }

    #[test]
    fn a_replica_ends_once_its_master_counts_on_it_no_more() {
        let replica =
            Look { is_master: false, sessions: 0, told_ms: Some(9_900), is_linked: true, ..MASTER };
        let may = |leave| may_end(&Look { leave, ..replica }).is_some();
        assert!(!may(None), "the link has not said it yet");
        assert!(!may(Some((Leave::Told, 9_950))) && !may(Some((Leave::Heard, 5_001))));
        assert!(may(Some((Leave::Gone, 10_000))));
        // A master of an earlier version says nothing.
        assert!(!may(Some((Leave::Told, 9_001))) && may(Some((Leave::Told, 9_000))));
        let late = Look { begun_ms: 9_000, ..replica };
        assert!(may_end(&late).is_some(), "the link is busy");
        // The stream is gone: whatever was said on it is nothing any more.
        let parted = Look { is_linked: false, leave: Some((Leave::Heard, 9_950)), ..replica };
        assert!(may_end(&parted).is_some());
        let heard = Look { leave: Some((Leave::Heard, 9_950)), begun_ms: 5_000, ..replica };
        assert_eq!(may_end(&heard), Some("it was not let go in time (handover-timeout-ms)"));
        let hurried = Look { sessions: 1, leave: Some((Leave::Gone, 9_950)), ..replica };
        assert_eq!(may_end(&hurried), None, "sessions have their time all the same");
    }

    #[tokio::test]
    async fn the_link_hears_of_a_stop_that_began_while_it_was_busy() {
        let stopping = Stopping::default();
        stopping.begin(1);
        stopping.begun().await;
        stopping.leaves(Some(Leave::Told), 5);
        assert_eq!(stopping.leave(), Some((Leave::Told, 5)));
        stopping.leaves(None, 6);
        assert_eq!(stopping.leave(), None);
    }

    #[test]
    fn who_becomes_a_master_again_has_told_nobody() {
        let stopping = Stopping::default();
        let mut reply = Reply::parse("role:slave\r\nsequence:1\r\nversion:1\r\n").unwrap();
        stopping.tell(&reply, 1);
        assert!(stopping.told_ms().is_none() && !stopping.has_begun());
        stopping.begin(2);
        reply.stopping = stopping.has_begun();
        stopping.tell(&reply, 3);
        stopping.tell(&reply, 4);
        assert_eq!(stopping.told_ms(), Some(3));
        reply.role = Role::Master;
        stopping.tell(&reply, 5);
        assert_eq!(stopping.told_ms(), None);
    }
}
