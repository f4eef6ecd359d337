//! Keeps one balancer instance at what is wanted.
//!
//! Applies at every change, and again regularly: a balancer that restarted starts closed and is
//! told again. Its answer is the only proof of what is in force.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::balancer::Frontend;
use balancer::{AnyDriver, Applied, Driver as _, Error};
use planner::{Balancer, Desired};
use tokio::sync::watch;
use web::causes::chain;

use super::{Cluster, driver};

/// Longest time one application may take.
const APPLY_LIMIT: Duration = Duration::from_secs(2);
/// Between two applications when all is well.
const REFRESH: Duration = Duration::from_millis(200);
/// After a failure, or while old sessions remain.
const RETRY: Duration = Duration::from_millis(50);

pub(super) async fn run(
    cluster: Arc<Cluster>,
    balancer: Balancer,
    mut wanted: watch::Receiver<Option<Desired>>,
) {
    let driver = match driver::open(&balancer, &cluster.shared.tls) {
        Ok(driver) => driver,
        Err(error) => {
            failed(&cluster, &balancer, error);
            // As long as it is listed so, there is an alarm and nothing to be done.
            return std::future::pending().await;
        }
    };
    loop {
        let desired = wanted.borrow_and_update().clone();
        let mut pause = REFRESH;
        // A balancer that restarts knows no term: who may lead no more would open it to whom it
        // granted last (rule O3).
        if let Some(desired) = desired.filter(|_| cluster.may_tell()) {
            let result = tokio::select! {
                result = apply(&cluster, &driver, &balancer.name, &desired) => result,
                // Something newer is wanted: this answer no longer matters.
                Ok(()) = wanted.changed() => {
                    wanted.mark_changed();
                    continue;
                }
            };
            let done = match result {
                Ok(Some(answer)) => answered(&cluster, &balancer, &desired, answer),
                Ok(None) => false,
                Err(error) => {
                    failed(&cluster, &balancer, error);
                    false
                }
            };
            if !done {
                pause = RETRY;
            }
        }
        tokio::select! {
            changed = wanted.changed() => match changed {
                Ok(()) => wanted.mark_changed(),
                Err(_) => return,
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// `None`: this process does not lead any more, which says nothing of the balancer.
async fn apply(
    cluster: &Cluster,
    driver: &AnyDriver,
    name: &str,
    desired: &Desired,
) -> Result<Option<Applied>, String> {
    let wire = api::balancer::Desired {
        term: cluster.shared.store.term(),
        version: desired.version,
        frontends: frontends(desired, name).to_vec(),
    };
    let applying = driver.apply_while(&wire, || cluster.may_tell());
    match tokio::time::timeout(APPLY_LIMIT, applying).await {
        Ok(Ok(answer)) => Ok(Some(answer)),
        Ok(Err(Error::Ended { .. })) => Ok(None),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("no answer within {APPLY_LIMIT:?}")),
    }
}

/// What this instance is to have: nothing while it is being removed.
fn frontends<'a>(desired: &'a Desired, name: &str) -> &'a [Frontend] {
    if desired.closing.contains(name) { &[] } else { &desired.frontends }
}

/// Writes down the answer; true if what is wanted is in force.
pub(super) fn answered(
    cluster: &Cluster,
    balancer: &Balancer,
    desired: &Desired,
    mut answer: Applied,
) -> bool {
    let reach = std::mem::take(&mut answer.reach);
    let faults = std::mem::take(&mut answer.faults).into_iter().collect();
    let dials = std::mem::take(&mut answer.dials).into_iter().collect();
    let (source, sends_header) = (answer.source.take(), answer.sends_header);
    let certificates = std::mem::take(&mut answer.certificates);
    let trust = std::mem::take(&mut answer.trust);
    let now = cluster.shared.now();
    let (in_force, error) = driver::in_force(answer, desired.version, now);
    let done = error.is_none() && is_there(frontends(desired, &balancer.name), &in_force.frontends);
    let (is_news, rests);
    {
        let mut state = cluster.state.lock();
        rests = state.rests;
        let Some(seen) = state.seen_of_balancer(balancer) else { return false };
        let before = seen.clone();
        seen.in_force = Some(in_force);
        seen.reaches(reach, now);
        (seen.faults, seen.dials) = (faults, dials);
        (seen.source, seen.sends_header) = (source, sends_header);
        (seen.certificates, seen.trust) = (certificates, trust);
        seen.error = error;
        is_news = planner::is_news_of_balancer(&before, seen);
    }
    cluster.seen(is_news, rests);
    done
}

/// Whether all that is wanted is there. Not every kind of balancer can hold: those are closed then,
/// which is as far as they go.
fn is_there(wanted: &[Frontend], there: &[Frontend]) -> bool {
    let there: BTreeMap<_, _> = there.iter().map(|there| (&there.listen, there)).collect();
    wanted.iter().all(|wanted| {
        let found = there.get(&wanted.listen);
        found.is_some_and(|found| found.backend == wanted.backend)
    })
}

fn failed(cluster: &Cluster, balancer: &Balancer, error: String) {
    // Drivers name the instance themselves, and so does whoever shows this.
    let error = match error.strip_prefix(&format!("balancer {}: ", balancer.name)) {
        Some(rest) => rest.to_owned(),
        None => error,
    };
    let mut state = cluster.state.lock();
    let rests = state.rests;
    let Some(seen) = state.seen_of_balancer(balancer) else { return };
    let before = seen.clone();
    seen.error = Some(error);
    // What it reached when it answered last says nothing about the present.
    seen.reach.clear();
    seen.faults.clear();
    let is_news = planner::is_news_of_balancer(&before, seen);
    drop(state);
    cluster.seen(is_news, rests);
}
