//! Keeps one balancer instance at what is wanted.
//!
//! Applies at every change, and again regularly: a balancer that restarted starts closed and is
//! told again. Its answer is the only proof of what is in force.

use std::sync::Arc;
use std::time::Duration;

use api::balancer as wire;
use planner::{Balancer, Desired, InForce};
use tokio::sync::watch;

use super::Cluster;
use super::driver::Driver;

/// Longest time one application may take.
const APPLY_LIMIT: Duration = Duration::from_secs(2);
/// Between two applications when all is well.
const REFRESH: Duration = Duration::from_millis(500);
/// After a failure, or while old sessions remain.
const RETRY: Duration = Duration::from_millis(50);

pub(super) async fn run(
    cluster: Arc<Cluster>,
    balancer: Balancer,
    mut wanted: watch::Receiver<Option<Desired>>,
) {
    let driver = Driver::new(&balancer);
    loop {
        let desired = wanted.borrow_and_update().clone();
        let mut pause = REFRESH;
        if let Some(desired) = desired {
            let term = cluster.shared.store.term();
            let work = tokio::time::timeout(APPLY_LIMIT, driver.apply(term, &desired));
            let result = tokio::select! {
                result = work => result,
                // Something newer is wanted: this answer no longer matters.
                Ok(()) = wanted.changed() => {
                    wanted.mark_changed();
                    continue;
                }
            };
            let result =
                result.unwrap_or_else(|_| Err(format!("no answer within {APPLY_LIMIT:?}")));
            if !report(&cluster, &balancer.name, &desired, result) {
                pause = RETRY;
            }
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Writes down the answer; true if what is wanted is in force.
fn report(
    cluster: &Arc<Cluster>,
    name: &str,
    desired: &Desired,
    result: Result<wire::State, String>,
) -> bool {
    let now = cluster.shared.now();
    let mut done = false;
    {
        let mut state = cluster.state.lock();
        let seen = state.observed.balancers.entry(name.to_owned()).or_default();
        match result {
            Ok(answer) => {
                let in_force = InForce {
                    start_id: answer.start_id,
                    version: desired.version,
                    sessions: answer.frontends.iter().flat_map(|f| f.sessions.clone()).collect(),
                    frontends: answer
                        .frontends
                        .into_iter()
                        .map(|f| wire::Frontend { listen: f.listen, backend: f.backend })
                        .collect(),
                    at: now,
                };
                done = desired.frontends.iter().all(|f| in_force.frontends.contains(f));
                seen.in_force = Some(in_force);
                seen.error = None;
            }
            Err(error) => seen.error = Some(error),
        }
    }
    cluster.wake.notify_one();
    done
}
