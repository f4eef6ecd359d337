//! From a balancer of the record to the driver that speaks to it, and from its answer to what the
//! planner takes as proof.

use std::sync::Arc;

use balancer::haproxy::RuntimeAddress;
use balancer::{AnyDriver, Applied, Builtin, Haproxy, HaproxyConfig};
use planner::{Balancer, BalancerKind, InForce, Time};
use web::causes::chain;
use web::tls::Tls;

/// The driver of one instance, which is known by `tls` where it is `https://`.
pub(super) fn open(of: &Balancer, tls: &Arc<Tls>) -> Result<AnyDriver, String> {
    match of.kind {
        BalancerKind::Builtin => {
            let scheme = if of.endpoint.contains("://") { "" } else { "http://" };
            let url = format!("{scheme}{}", of.endpoint);
            let tls = tls.client().map_err(|error| error.to_string())?;
            let driver = Builtin::new(&of.name, &url, of.token.clone(), None);
            let driver = driver.and_then(|driver| driver.over(tls));
            driver.map(AnyDriver::Builtin).map_err(|error| chain(&error))
        }
        BalancerKind::Haproxy => haproxy(of).map(AnyDriver::Haproxy),
    }
}

/// `RUNTIME[,MASTER]`: without the master's socket the old workers of a reload stay unseen, and
/// the instance never counts as a fence.
fn haproxy(of: &Balancer) -> Result<Haproxy, String> {
    let address = |text: &str| {
        // A URL would be read as a host of a strange name.
        let address = RuntimeAddress::parse(text.trim()).filter(|_| !text.contains("://"));
        address.ok_or_else(|| {
            format!("`{text}` is neither host:port nor a path, as HAProxy's Runtime API has them")
        })
    };
    let (runtime, master) = match of.endpoint.split_once(',') {
        Some((runtime, master)) => (address(runtime)?, Some(address(master)?)),
        None => (address(&of.endpoint)?, None),
    };
    Ok(Haproxy::new(HaproxyConfig { name: of.name.clone(), runtime, master, timeout: None }))
}

/// Whether a driver could be made: the endpoint can be read.
pub(crate) fn check(of: &Balancer) -> Result<(), String> {
    open(of, &Arc::default()).map(drop)
}

/// Longest time an instance may take to answer when it is added.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(2);

/// What an instance says of itself before it is taken into a cluster; it is told nothing.
pub(crate) async fn hello(of: &Balancer, tls: &Arc<Tls>) -> Result<Applied, String> {
    use balancer::Driver as _;
    let driver = open(of, tls)?;
    let error = match tokio::time::timeout(ANSWER, driver.observe()).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => chain(&error),
        Err(_) => format!("no answer within {ANSWER:?}"),
    };
    // Drivers name the instance themselves, and so does whoever shows this.
    Err(error.strip_prefix(&format!("balancer {}: ", of.name)).unwrap_or(&error).to_owned())
}

/// What the instance has in force after `version` was applied, and what is wrong with it.
///
/// An answer that does not cover every process of the instance proves nothing: it is given a
/// version nobody asks for.
pub(super) fn in_force(answer: Applied, version: u64, at: Time) -> (InForce, Option<String>) {
    let error = answer.uncertain.clone().or_else(|| {
        let (listen, why) = answer.errors.first()?;
        Some(format!("frontend {listen}: {why}"))
    });
    let version = if answer.uncertain.is_some() { 0 } else { version };
    let frontends = answer
        .in_force
        .into_iter()
        .map(|(listen, backend)| api::balancer::Frontend { listen, backend, hold: false })
        .collect();
    let sessions = answer
        .sessions
        .into_iter()
        .map(|sessions| api::balancer::Sessions { node: sessions.node, count: sessions.count })
        .collect();
    let (moved, cut) = (answer.moved, answer.cut);
    (InForce { start_id: answer.start_id, version, frontends, sessions, moved, cut, at }, error)
}
