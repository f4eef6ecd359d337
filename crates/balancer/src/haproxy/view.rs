//! What an instance has in force, from its own answers: enabled servers, sessions of every worker,
//! and what cannot be known.

use std::collections::BTreeMap;

use api::balancer::Backend;
use topology::Endpoint;

use super::names::{self, ServerName};
use super::parse::{self, Server, Session};
use super::runtime::Link;
use super::{Cx, Haproxy, Memory};
use crate::driver::{Applied, Error, SessionCount};

/// What `show sess` says of a session that has no backend yet.
const NO_BACKEND: &str = "<NONE>";

/// Reads servers, sessions and processes.
pub(super) async fn applied(cx: &mut Cx<'_>, memory: &Memory) -> Result<Applied, Error> {
    let mut applied = Applied {
        start_id: cx.start_id(),
        // As every server is made. Where it dials from is in no answer of the Runtime API: nodes
        // tell.
        sends_header: Some(true),
        ..Applied::default()
    };
    let backends = cx.backends().await?;
    let servers = cx.servers().await?;
    for backend in &backends {
        let endpoint = memory.endpoint(backend);
        let mut open =
            servers.iter().filter(|s| s.backend == *backend && !s.maintenance).peekable();
        if open.peek().is_none() {
            applied.in_force.push((endpoint.clone(), None));
        }
        for server in open {
            let Some(found) = behind(server, memory) else {
                applied.uncertain = Some(format!(
                    "server {backend}/{} was not made by a controller and is enabled",
                    server.name
                ));
                continue;
            };
            if server.idle {
                let why = format!(
                    "server {backend}/{} gets no clients: it is drained, without weight or called down",
                    server.name
                );
                applied.errors.push((endpoint.clone(), why));
            }
            applied.in_force.push((endpoint.clone(), Some(found)));
        }
    }
    let text = cx.ask("show sess").await?;
    let mut sessions = parse::sessions(&text).map_err(|error| cx.driver.nonsense(error))?;
    let old = old_sessions(cx, &mut applied).await?;
    sessions.extend(old);
    count(sessions, memory, &mut applied);
    Ok(applied)
}

/// The node a server leads to; `None` for names that are not ours.
fn behind(server: &Server, memory: &Memory) -> Option<Backend> {
    let name = ServerName::parse(&server.name)?;
    // An enabled marker has no node; that is somebody's hand in the machine.
    let node = name.node()?.to_owned();
    let spelled = server.address().and_then(|address| memory.hosts.get(&address).cloned());
    let host = spelled.unwrap_or_else(|| server.address.clone());
    Some(Backend { node, host, port: server.port })
}

fn count(sessions: Vec<Session>, memory: &Memory, applied: &mut Applied) {
    let mut counts: BTreeMap<(Endpoint, String), u64> = BTreeMap::new();
    for session in sessions.iter().filter(|session| names::is_ours(&session.backend)) {
        match ServerName::parse(&session.server) {
            Some(ServerName::Node { node, .. }) => {
                *counts.entry((memory.endpoint(&session.backend), node)).or_default() += 1;
            }
            // Not assigned to a server yet; deleted servers cannot be chosen any more.
            _ if session.server == "<none>" => {}
            _ => {
                applied.uncertain = Some(format!(
                    "a session leads to {}/{}, which was not made by a controller",
                    session.backend, session.server
                ));
            }
        }
    }
    applied.sessions = counts
        .into_iter()
        .map(|((frontend, node), count)| SessionCount { frontend, node, count })
        .collect();
}

/// Sessions of workers that a reload left behind. Notes what cannot be seen.
async fn old_sessions(cx: &mut Cx<'_>, applied: &mut Applied) -> Result<Vec<Session>, Error> {
    let Some((mut master, processes)) = cx.driver.processes().await? else {
        applied.uncertain =
            Some("no master socket configured: old workers cannot be seen".to_owned());
        return Ok(Vec::new());
    };
    if !processes.workers.contains(&cx.info.pid) {
        return Err(Error::Restarted {
            instance: cx.driver.config.name.clone(),
            detail: format!("process {} is not a current worker any more", cx.info.pid),
        });
    }
    if processes.workers.len() > 1 {
        // Only one was asked what it has.
        applied.uncertain = Some(format!("{} workers are current", processes.workers.len()));
    }
    let mut sessions = Vec::new();
    for pid in processes.old_workers {
        match sessions_of(cx.driver, &mut master, pid).await? {
            // Any of these may still be given a server: an old worker cannot be told otherwise.
            Old::Has(found) => {
                if let Some(unassigned) =
                    found.iter().find(|s| ServerName::parse(&s.server).is_none())
                {
                    applied.uncertain = Some(format!(
                        "old worker {pid} has a session at {} with server {}",
                        unassigned.frontend, unassigned.server
                    ));
                }
                sessions.extend(found);
            }
            told => {
                applied.uncertain = Some(format!("old worker {pid} did not tell its sessions"));
                // What comes on this link now may be its answer, late.
                if matches!(told, Old::Silent) {
                    break;
                }
            }
        }
    }
    Ok(sessions)
}

/// What an old worker tells through the master.
pub(super) enum Old {
    /// Its client sessions that are ours.
    Has(Vec<Session>),
    /// The master does not find it: it ends.
    Gone,
    /// No answer, or not in time. The link to the master is good for nothing more.
    Silent,
}

/// Asks one old worker for its sessions.
pub(super) async fn sessions_of(
    driver: &Haproxy,
    master: &mut Link,
    pid: u32,
) -> Result<Old, Error> {
    let Ok(text) = master.ask(&format!("@!{pid} show sess")).await else { return Ok(Old::Silent) };
    if text.starts_with("Can't find the target") {
        return Ok(Old::Gone);
    }
    let mut sessions = parse::sessions(&text).map_err(|error| driver.nonsense(error))?;
    sessions.retain(is_ours);
    Ok(Old::Has(sessions))
}

/// Whether a session is, or may come to be, in a backend of ours. One that has no backend yet is
/// known by its frontend: those of other proxies are none of our business, however long they last.
fn is_ours(session: &Session) -> bool {
    match session.backend.as_str() {
        NO_BACKEND => session.frontend.strip_prefix(names::FRONTEND).is_some_and(names::is_ours),
        backend => names::is_ours(backend),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_other_proxies_are_not_ours() {
        for (frontend, backend, ours) in [
            ("fe_hf_lb_1", "hf_lb_1", true),
            ("fe_hf_lb_1", "<NONE>", true),
            ("web", "hf_lb_1", true),
            ("web", "<NONE>", false),
            ("web", "app", false),
            ("fe_web", "<NONE>", false),
        ] {
            let session = Session {
                id: "0x1".to_owned(),
                source: "127.0.0.1:9".to_owned(),
                frontend: frontend.to_owned(),
                backend: backend.to_owned(),
                server: "<none>".to_owned(),
            };
            assert_eq!(is_ours(&session), ours, "{frontend} {backend}");
        }
    }
}
