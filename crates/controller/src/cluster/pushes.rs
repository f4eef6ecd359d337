//! Topologies on their way to nodes: so many at a time.
//!
//! A new version goes to every node of a cluster at once, each with all of it: of a thousand shards
//! that is several hundred KB to thousands of nodes, which would all be in memory together.
//!
//! What a shard waits for goes at once, and a node that does not answer keeps the others waiting
//! for a moment only.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::Semaphore;
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
    /// Does `work` once it has its turn; at once if it `is_urgent`.
    pub(super) async fn run<T>(&self, is_urgent: bool, work: impl Future<Output = T>) -> T {
        if is_urgent {
            return work.await;
        }
        // Nobody closes it.
        let turn = self.turns.acquire().await;
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::JoinSet;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    /// No limit that a test lives to see.
    const NEVER: Duration = Duration::from_secs(3_600);

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
                pushes.run(false, work).await;
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
        assert_eq!(timeout(PATIENCE, pushes.run(true, async { 7 })).await, Ok(7));
        drop(all);
    }

    #[tokio::test]
    async fn a_node_that_does_not_answer_keeps_others_waiting_for_a_moment_only() {
        let pushes = Arc::new(Pushes { silent: Duration::from_millis(1), ..Pushes::default() });
        let (begun, all) = begin(&pushes, 3 * AT_A_TIME);
        until(&begun, 3 * AT_A_TIME).await;
        assert_eq!(timeout(PATIENCE, pushes.run(false, async { 7 })).await, Ok(7));
        drop(all);
    }

    #[tokio::test]
    async fn a_turn_is_free_again_once_a_node_has_answered() {
        let pushes = Pushes { silent: NEVER, ..Pushes::default() };
        for number in 0..3 * AT_A_TIME {
            let done = timeout(PATIENCE, pushes.run(false, async { number })).await;
            assert_eq!(done, Ok(number));
        }
    }
}
