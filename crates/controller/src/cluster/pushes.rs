//! Topologies on their way to nodes: so many at a time.
//!
//! A new version goes to every node of a cluster at once, each with all of it: of a thousand shards
//! that is several hundred KB to thousands of nodes, which would all be in memory together.
//!
//! What a shard waits for goes at once, also where that comes to be so while it waits for its turn:
//! a replica that is to hear of one failover may be the next master. A node that does not answer
//! keeps the others waiting for a moment only.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// How many nodes are told at a time.
const AT_A_TIME: usize = 64;
/// A node that has not answered by then does not count any more.
const SILENT: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(super) struct Pushes {
    turns: Semaphore,
    silent: Duration,
}

impl Default for Pushes {
    fn default() -> Self {
        Self { turns: Semaphore::new(AT_A_TIME), silent: SILENT }
    }
}

impl Pushes {
    /// Does `work` once it has its turn; at once if it `is_urgent`, which `changes` may make it.
    pub(super) async fn run<T>(
        &self,
        mut changes: watch::Receiver<u64>,
        is_urgent: impl Fn() -> bool,
        work: impl Future<Output = T>,
    ) -> T {
        let turn = {
            let mut turn = pin!(self.turns.acquire());
            loop {
                changes.mark_unchanged();
                if is_urgent() {
                    break None;
                }
                tokio::select! {
                    // Nobody closes it.
                    turn = &mut turn => break turn.ok(),
                    Ok(()) = changes.changed() => {}
                }
            }
        };
        let Some(turn) = turn else { return work.await };
        let mut work = pin!(work);
        if let Ok(done) = timeout(self.silent, work.as_mut()).await {
            return done;
        }
        drop(turn);
        work.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use tokio::task::JoinSet;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    /// No limit that a test lives to see.
    const NEVER: Duration = Duration::from_secs(3_600);

    /// Of what does not change any more.
    fn never() -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    /// Begins so many that are never answered; how many have begun.
    fn begin(pushes: &Arc<Pushes>, count: usize) -> (Arc<AtomicUsize>, JoinSet<()>) {
        let begun = Arc::new(AtomicUsize::new(0));
        let mut all = JoinSet::new();
        for _ in 0..count {
            let (pushes, begun) = (Arc::clone(pushes), Arc::clone(&begun));
            all.spawn(async move {
                let work = async {
                    begun.fetch_add(1, Ordering::SeqCst);
                    std::future::pending::<()>().await;
                };
                pushes.run(never(), || false, work).await;
            });
        }
        (begun, all)
    }

    async fn until(begun: &AtomicUsize, count: usize) {
        let waiting = async {
            while begun.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("as many begin");
    }

    #[tokio::test]
    async fn so_many_are_told_at_a_time_and_what_is_urgent_at_once() {
        let pushes = Arc::new(Pushes { silent: NEVER, ..Pushes::default() });
        let (begun, all) = begin(&pushes, AT_A_TIME + 10);
        until(&begun, AT_A_TIME).await;
        // All tasks have been polled by then, several times.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(begun.load(Ordering::SeqCst), AT_A_TIME);
        let urgent = pushes.run(never(), || true, async { 7 });
        assert_eq!(timeout(PATIENCE, urgent).await, Ok(7));
        drop(all);
    }

    #[tokio::test]
    async fn what_comes_to_be_urgent_while_it_waits_goes_at_once() {
        let pushes = Arc::new(Pushes { silent: NEVER, ..Pushes::default() });
        let (begun, all) = begin(&pushes, AT_A_TIME);
        until(&begun, AT_A_TIME).await;
        let (changed, changes) = watch::channel(0);
        let is_urgent = Arc::new(AtomicBool::new(false));
        let (of, told) = (Arc::clone(&pushes), Arc::clone(&is_urgent));
        let waits = tokio::spawn(async move {
            of.run(changes, || told.load(Ordering::SeqCst), async { 7 }).await
        });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!waits.is_finished(), "it had no turn");
        is_urgent.store(true, Ordering::SeqCst);
        changed.send_replace(1);
        let done = timeout(PATIENCE, waits).await.expect("it goes");
        assert_eq!(done.expect("no panic"), 7);
        drop(all);
    }

    #[tokio::test]
    async fn a_node_that_does_not_answer_keeps_others_waiting_for_a_moment_only() {
        let pushes = Arc::new(Pushes { silent: Duration::from_millis(1), ..Pushes::default() });
        let (begun, all) = begin(&pushes, 3 * AT_A_TIME);
        until(&begun, 3 * AT_A_TIME).await;
        let next = pushes.run(never(), || false, async { 7 });
        assert_eq!(timeout(PATIENCE, next).await, Ok(7));
        drop(all);
    }

    #[tokio::test]
    async fn a_turn_is_free_again_once_a_node_has_answered() {
        let pushes = Pushes { silent: NEVER, ..Pushes::default() };
        for number in 0..3 * AT_A_TIME {
            let next = pushes.run(never(), || false, async { number });
            assert_eq!(timeout(PATIENCE, next).await, Ok(number));
        }
    }
}
