//! Brings a desired state into force: mark, look, cut, wait until nothing is left, open.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use api::balancer::Desired;
use tokio::time::{Instant, sleep};
use topology::Endpoint;

use super::names::{ServerName, find_backends};
use super::parse::{self, Deleted, Server, Session};
use super::{Cx, Memory, Target};
use crate::driver::Error;

/// First pause between two looks at a server that is still busy; doubles up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Answers the frontends that could not be served as wished. An error means: not known to be in force, apply again.
pub(super) async fn apply(
    cx: &mut Cx<'_>,
    memory: &mut Memory,
    desired: &Desired,
) -> Result<Vec<(Endpoint, String)>, Error> {
    let backends = cx.backends().await?;
    let mut errors = Vec::new();
    let mut targets = HashMap::new();
    let endpoints: Vec<&Endpoint> = desired.frontends.iter().map(|f| &f.listen).collect();
    let found = find_backends(&endpoints, &backends);
    for (frontend, (name, found)) in desired.frontends.iter().zip(found) {
        let Some(name) = found else {
            let why = format!(
                "no backend {name} in its configuration: make it anew with `holdfast ctl haproxy-config`"
            );
            errors.push((frontend.listen.clone(), why));
            continue;
        };
        memory.endpoints.insert(name.clone(), frontend.listen.clone());
        let Some(backend) = &frontend.backend else { continue };
        match Target::resolve(backend).await {
            Ok(target) => {
                memory.hosts.insert(target.address, backend.host.clone());
                targets.insert(name, target);
            }
            Err(error) => {
                errors
                    .push((frontend.listen.clone(), format!("resolve {}: {error}", backend.host)));
            }
        }
    }
    mark(cx, &backends, desired).await?;
    let servers = look(cx, desired).await?;
    let victims = victims(&servers, &targets, desired.term);
    for victim in victims.iter().filter(|victim| !victim.maintenance) {
        cx.tell(&format!("set server {}/{} state maint", victim.backend, victim.name)).await?;
    }
    for victim in victims.iter().filter(|victim| is_node(victim)) {
        shut(cx, victim).await?;
    }
    sweep(cx, &dirty(&backends, &servers, &victims, &targets)).await?;
    remove(cx, &victims).await?;
    for (backend, target) in &targets {
        open(cx, backend, target, &servers, desired).await?;
    }
    cut_old_workers(cx, &targets).await?;
    Ok(errors)
}

/// Puts the marker of this term into every backend that has none.
async fn mark(cx: &mut Cx<'_>, backends: &[String], desired: &Desired) -> Result<(), Error> {
    let servers = look(cx, desired).await?;
    let marker = ServerName::Marker { term: desired.term }.to_string();
    for backend in backends {
        if servers.iter().any(|server| server.backend == *backend && server.name == marker) {
            continue;
        }
        add(cx, &format!("add server {backend}/{marker} 127.0.0.1:1 weight 0")).await?;
    }
    Ok(())
}

/// All servers; an error if one of them is newer than `desired`.
async fn look(cx: &mut Cx<'_>, desired: &Desired) -> Result<Vec<Server>, Error> {
    let servers = cx.servers().await?;
    let now = (desired.term, desired.version);
    let newer = servers
        .iter()
        .find(|server| ServerName::parse(&server.name).is_some_and(|name| name.is_newer_than(now)));
    match newer {
        None => Ok(servers),
        Some(server) => Err(Error::Stale {
            instance: cx.driver.config.name.clone(),
            detail: format!("server {}/{}", server.backend, server.name),
        }),
    }
}

/// Servers that are neither their backend's target nor this term's marker.
fn victims(servers: &[Server], targets: &HashMap<String, Target>, term: u64) -> Vec<Server> {
    let marker = ServerName::Marker { term };
    let mut kept = Vec::new();
    let mut victims = Vec::new();
    for server in servers {
        let is_target = targets.get(&server.backend).is_some_and(|target| target.is_behind(server));
        // A second server to the same node can only come from an interrupted apply.
        let keep = if is_target && !kept.contains(&&server.backend) {
            kept.push(&server.backend);
            true
        } else {
            ServerName::parse(&server.name) == Some(marker.clone())
        };
        if !keep {
            victims.push(server.clone());
        }
    }
    victims
}

fn is_node(server: &Server) -> bool {
    !matches!(ServerName::parse(&server.name), Some(ServerName::Marker { .. }))
}

/// Backends in which a session may be on its way to a node that is not the target.
fn dirty(
    backends: &[String],
    servers: &[Server],
    victims: &[Server],
    targets: &HashMap<String, Target>,
) -> HashSet<String> {
    let behind = |backend: &String| {
        let target = targets.get(backend);
        target.is_some_and(|t| servers.iter().any(|s| s.backend == *backend && t.is_behind(s)))
    };
    let cut = |backend: &String| victims.iter().any(|v| v.backend == *backend && is_node(v));
    backends.iter().filter(|backend| cut(backend) || !behind(backend)).cloned().collect()
}

/// Ends every session that was in one of these backends when all its victims were in maintenance already, and waits until each is gone.
///
/// `shutdown sessions server` misses a session that waits for its next connection attempt, `del server` succeeds in spite of it, and HAProxy 2.6
/// then connects it to the *deleted* server's address, though it shows the new server's name. Later sessions never saw a victim.
async fn sweep(cx: &mut Cx<'_>, backends: &HashSet<String>) -> Result<(), Error> {
    let deadline = Instant::now() + cx.driver.timeout;
    let mut pause = SHORTEST_PAUSE;
    let mut doomed: Option<HashSet<(String, String)>> = None;
    loop {
        let text = cx.ask("show sess").await?;
        let mut seen = parse::sessions(&text).map_err(|error| cx.driver.nonsense(error))?;
        seen.retain(|session| backends.contains(&session.backend));
        let key = |session: &Session| (session.id.clone(), session.source.clone());
        match &doomed {
            // The bulk is on its way out by `shutdown sessions server`; give it one pause.
            None => doomed = Some(seen.iter().map(key).collect()),
            Some(doomed) => {
                seen.retain(|session| doomed.contains(&key(session)));
                for session in &seen {
                    // The answer does not matter: the next round looks again.
                    cx.ask(&format!("shutdown session {}", session.id)).await?;
                }
            }
        }
        let Some(last) = seen.last() else { return Ok(()) };
        if Instant::now() >= deadline {
            let server = format!("{}/{}", last.backend, last.server);
            return Err(remaining(cx, server, seen.len() as u64));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Makes sure that the backend's one enabled server leads to the target.
async fn open(
    cx: &mut Cx<'_>,
    backend: &str,
    target: &Target,
    servers: &[Server],
    desired: &Desired,
) -> Result<(), Error> {
    let there = servers.iter().find(|s| s.backend == backend && target.is_behind(s));
    let name = match there {
        Some(server) if !server.maintenance => return Ok(()),
        Some(server) => server.name.clone(),
        None => {
            let (term, version) = (desired.term, desired.version);
            let name = ServerName::Node { term, version, node: target.node.clone() }.to_string();
            let address = target.address;
            add(
                cx,
                &format!("add server {backend}/{name} {address} send-proxy-v2 on-marked-down shutdown-sessions"),
            )
            .await?;
            name
        }
    };
    cx.tell(&format!("set server {backend}/{name} state ready")).await
}

async fn add(cx: &mut Cx<'_>, command: &str) -> Result<(), Error> {
    let answer = cx.ask(command).await?;
    match answer.trim() {
        "New server registered." => Ok(()),
        _ => Err(cx.driver.refused(command, &answer)),
    }
}

async fn shut(cx: &mut Cx<'_>, victim: &Server) -> Result<(), Error> {
    cx.tell(&format!("shutdown sessions server {}/{}", victim.backend, victim.name)).await
}

/// Deletes the victims; each deletion is HAProxy's word that nothing is attached any more.
async fn remove(cx: &mut Cx<'_>, victims: &[Server]) -> Result<(), Error> {
    let deadline = Instant::now() + cx.driver.timeout;
    for victim in victims {
        // A server of the configuration file cannot be deleted; `view` reports what it still does.
        if ServerName::parse(&victim.name).is_none() {
            continue;
        }
        let mut pause = SHORTEST_PAUSE;
        loop {
            let answer = cx.ask(&format!("del server {}/{}", victim.backend, victim.name)).await?;
            match parse::deleted(&answer).map_err(|error| cx.driver.nonsense(error))? {
                Deleted::Yes => break,
                Deleted::Busy if Instant::now() >= deadline => {
                    return Err(remaining(cx, format!("{}/{}", victim.backend, victim.name), 1));
                }
                // Shutting down is only scheduled, and a connection may have been on its way to the server.
                Deleted::Busy => shut(cx, victim).await?,
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
    Ok(())
}

/// Ends, in workers left by a reload, every session that does not lead to its backend's target. They refuse commands on servers, so it goes one by one.
async fn cut_old_workers(cx: &mut Cx<'_>, targets: &HashMap<String, Target>) -> Result<(), Error> {
    let deadline = Instant::now() + cx.driver.timeout;
    let mut pause = SHORTEST_PAUSE;
    loop {
        let mut left = 0;
        let mut worker = String::new();
        // Read anew each time: an old worker exits with its last session.
        let Some((mut master, processes)) = cx.driver.processes().await? else { return Ok(()) };
        for pid in processes.old_workers {
            let Some(sessions) = super::view::sessions_of(cx.driver, &mut master, pid).await?
            else {
                break;
            };
            for session in sessions {
                let node = ServerName::parse(&session.server);
                let node = node.as_ref().and_then(ServerName::node);
                let target = targets.get(&session.backend).map(|target| target.node.as_str());
                if node.is_some() && node == target {
                    continue;
                }
                left += 1;
                worker = format!("{}/{} of old worker {pid}", session.backend, session.server);
                let command = format!("@!{pid} shutdown session {}", session.id);
                // The answer does not matter: the next round looks again.
                if master.ask(&command).await.is_err() {
                    break;
                }
            }
        }
        if left == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(remaining(cx, worker, left));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn remaining(cx: &Cx<'_>, server: String, count: u64) -> Error {
    Error::Remaining { instance: cx.driver.config.name.clone(), server, count }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, port: u16) -> Server {
        Server {
            backend: "hf_1".to_owned(),
            name: name.to_owned(),
            address: "127.0.0.1".to_owned(),
            port,
            maintenance: false,
        }
    }

    fn names(victims: &[Server]) -> Vec<&str> {
        victims.iter().map(|victim| victim.name.as_str()).collect()
    }

    #[test]
    fn everything_but_the_target_and_the_marker_goes() {
        let target = Target { node: "a".to_owned(), address: "127.0.0.1:5".parse().unwrap() };
        let targets = HashMap::from([("hf_1".to_owned(), target)]);
        let servers = [
            server("t3", 1),
            server("t2", 1),
            server("t2.9-a", 5),
            server("t3.0-a", 5),
            server("t2.1-a", 6),
            server("t2.8-b", 5),
            server("main", 5),
        ];
        assert_eq!(
            names(&victims(&servers, &targets, 3)),
            ["t2", "t3.0-a", "t2.1-a", "t2.8-b", "main"]
        );
        assert_eq!(names(&victims(&servers[2..4], &HashMap::new(), 3)), ["t2.9-a", "t3.0-a"]);
    }
}
