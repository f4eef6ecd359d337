//! Brings a desired state into force: mark, look, cut, wait until nothing is left, look names up,
//! make servers, look again, open.
//!
//! What leads to a node that is not wished goes before any name is looked up, so no resolver holds
//! a fence up. A server of the wished node stays while its name cannot be looked up.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use api::balancer::Desired;
use tokio::time::{Instant, sleep};
use topology::Endpoint;

use super::names::{ServerName, find_backends};
use super::parse::{self, Deleted, Server, Session};
use super::view::{self, Old};
use super::{Cx, Haproxy, Memory, Wish};
use crate::driver::Error;

/// First pause between two looks at a server that is still busy; doubles up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Frontends that are not served as wished, and why.
type Errors = Vec<(Endpoint, String)>;

/// What the backends should lead to; one that is missing should be closed.
type Wishes = HashMap<String, Wish>;

/// Answers the frontends that could not be served as wished. An error means: not known to be in
/// force, apply again.
pub(super) async fn apply(
    cx: &mut Cx<'_>,
    memory: &mut Memory,
    desired: &Desired,
    may: &(dyn Fn() -> bool + Send + Sync),
) -> Result<Errors, Error> {
    let still = |of: &Haproxy| match may() {
        true => Ok(()),
        false => Err(Error::Ended { instance: of.config.name.clone() }),
    };
    let backends = cx.backends().await?;
    let (mut wishes, mut errors) = wishes(memory, desired, &backends);
    still(cx.driver)?;
    mark(cx, &backends, desired).await?;
    let mut servers = look(cx, desired).await?;
    let foreign = victims(&servers, &wishes, desired.term);
    cut(cx, &foreign, &dirty(&backends, &servers, &foreign, &wishes)).await?;
    servers.retain(|server| !foreign.contains(server));
    look_up(cx.driver, &mut wishes, &servers, &mut errors).await;
    for Wish { address, host, .. } in wishes.values() {
        memory.hosts.extend(address.map(|address| (address, host.clone())));
    }
    // The wished node is elsewhere than it was.
    let left = victims(&servers, &wishes, desired.term);
    let dirty: HashSet<String> = left.iter().map(|server| server.backend.clone()).collect();
    still(cx.driver)?;
    cut(cx, &left, &dirty).await?;
    servers.retain(|server| !left.contains(server));
    let mut closed = Vec::new();
    for (backend, wish) in &wishes {
        still(cx.driver)?;
        match make(cx, (backend.as_str(), wish), &servers, desired).await {
            Ok(server) => closed.extend(server),
            // The others are opened all the same.
            Err(error @ Error::Refused { .. }) => {
                errors.push((wish.listen.clone(), error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    if !closed.is_empty() {
        // Another driver may have marked and read all names since ours were read: its marker is
        // there by now. One that marks later than this finds what was made above, and deletes it.
        look(cx, desired).await?;
    }
    for server in closed {
        still(cx.driver)?;
        cx.tell(&format!("set server {server} state ready")).await?;
    }
    still(cx.driver)?;
    cut_old_workers(cx, &wishes).await?;
    Ok(errors)
}

/// What is wished of each backend that is there.
fn wishes(memory: &mut Memory, desired: &Desired, backends: &[String]) -> (Wishes, Errors) {
    let (mut wishes, mut errors) = (Wishes::new(), Errors::new());
    let endpoints: Vec<&Endpoint> = desired.frontends.iter().map(|f| &f.listen).collect();
    let found = find_backends(&endpoints, backends);
    for (frontend, (name, found)) in desired.frontends.iter().zip(found) {
        let Some(name) = found else {
            let why = format!(
                "no backend {name} in its configuration: make it anew with `holdfast ctl haproxy-config`"
            );
            errors.push((frontend.listen.clone(), why));
            continue;
        };
        memory.endpoints.insert(name.clone(), frontend.listen.clone());
        if let Some(backend) = &frontend.backend {
            wishes.insert(name, Wish::new(&frontend.listen, backend));
        }
    }
    (wishes, errors)
}

/// Finds the addresses of all wishes that have a name instead, and says which could not be found.
async fn look_up(driver: &Haproxy, wishes: &mut Wishes, servers: &[Server], errors: &mut Errors) {
    let mut named: Vec<(&String, &mut Wish)> =
        wishes.iter_mut().filter(|(_, wish)| wish.address.is_none()).collect();
    if named.is_empty() {
        return;
    }
    let asked: Vec<(&str, u16)> =
        named.iter().map(|(_, wish)| (wish.host.as_str(), wish.port)).collect();
    let answers = driver.lookups.all(&asked).await;
    for ((backend, wish), answer) in named.iter_mut().zip(answers) {
        let in_use = kept(servers, backend, wish);
        wish.address = answer.choose(in_use.and_then(Server::address));
        if let Some(fault) = answer.fault {
            let goes_on = wish.address.map_or(String::new(), |at| format!("; {at} stays in use"));
            errors.push((wish.listen.clone(), format!("resolve {}: {fault}{goes_on}", wish.host)));
        }
    }
}

/// Takes servers out of service, and ends every session that may be on its way to one of them.
async fn cut(cx: &mut Cx<'_>, victims: &[Server], backends: &HashSet<String>) -> Result<(), Error> {
    for victim in victims.iter().filter(|victim| !victim.maintenance) {
        cx.tell(&format!("set server {}/{} state maint", victim.backend, victim.name)).await?;
    }
    for victim in victims.iter().filter(|victim| is_node(victim)) {
        shut(cx, victim).await?;
    }
    if !backends.is_empty() {
        sweep(cx, backends).await?;
    }
    remove(cx, victims).await
}

/// Puts the marker of this term into every backend that has none, and out of service where it is
/// not.
async fn mark(cx: &mut Cx<'_>, backends: &[String], desired: &Desired) -> Result<(), Error> {
    let servers = look(cx, desired).await?;
    let marker = ServerName::Marker { term: desired.term }.to_string();
    for backend in backends {
        match servers.iter().find(|there| there.backend == *backend && there.name == marker) {
            Some(there) if there.maintenance => {}
            // Somebody has enabled all servers: as long as it leads somewhere nothing is proven.
            Some(_) => cx.tell(&format!("set server {backend}/{marker} state maint")).await?,
            None => add(cx, &format!("add server {backend}/{marker} 127.0.0.1:1 weight 0")).await?,
        }
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

/// Servers that are neither what their backend should lead to nor this term's marker.
fn victims(servers: &[Server], wishes: &Wishes, term: u64) -> Vec<Server> {
    let marker = ServerName::Marker { term };
    let kept: Vec<&Server> =
        wishes.iter().filter_map(|(backend, wish)| kept(servers, backend, wish)).collect();
    let stays = |server: &Server| {
        kept.contains(&server) || ServerName::parse(&server.name) == Some(marker.clone())
    };
    servers.iter().filter(|server| !stays(server)).cloned().collect()
}

/// The one server that a backend keeps: a second one to the same node can only come from an
/// interrupted apply. One that serves, if there is one.
fn kept<'a>(servers: &'a [Server], backend: &str, wish: &Wish) -> Option<&'a Server> {
    let behind = || servers.iter().filter(|s| s.backend == backend && wish.is_behind(s));
    behind().find(|server| !server.maintenance).or_else(|| behind().next())
}

fn is_node(server: &Server) -> bool {
    !matches!(ServerName::parse(&server.name), Some(ServerName::Marker { .. }))
}

/// Backends in which a session may be on its way to a node that is not wished.
fn dirty(
    backends: &[String],
    servers: &[Server],
    victims: &[Server],
    wishes: &Wishes,
) -> HashSet<String> {
    let behind = |backend: &String| {
        wishes.get(backend).is_some_and(|wish| kept(servers, backend, wish).is_some())
    };
    let cut = |backend: &String| victims.iter().any(|v| v.backend == *backend && is_node(v));
    backends.iter().filter(|backend| cut(backend) || !behind(backend)).cloned().collect()
}

/// Ends every session that was in one of these backends when all its victims were in maintenance
/// already, and waits until each is gone.
///
/// `shutdown sessions server` misses a session that waits for its next connection attempt, `del
/// server` succeeds in spite of it, and HAProxy 2.6 then connects it to the *deleted* server's
/// address, though it shows the new server's name. Later sessions never saw a victim.
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

/// The server that is to be put into service, so that the backend leads where it should: made
/// where there is none, out of service; `None` where one serves. A wish whose address nobody knows
/// has to wait.
async fn make(
    cx: &mut Cx<'_>,
    (backend, wish): (&str, &Wish),
    servers: &[Server],
    desired: &Desired,
) -> Result<Option<String>, Error> {
    let name = match (kept(servers, backend, wish), wish.address) {
        (Some(server), _) if !server.maintenance && !server.idle => return Ok(None),
        (Some(server), _) => {
            if server.idle {
                for word in ["health up", "weight 100%"] {
                    // The answers do not matter: what it is then is looked at afterwards.
                    cx.ask(&format!("set server {backend}/{} {word}", server.name)).await?;
                }
            }
            server.name.clone()
        }
        (None, None) => return Ok(None),
        (None, Some(address)) => {
            let (term, version) = (desired.term, desired.version);
            let name = ServerName::Node { term, version, node: wish.node.clone() }.to_string();
            add(
                cx,
                &format!("add server {backend}/{name} {address} send-proxy-v2 on-marked-down shutdown-sessions"),
            )
            .await?;
            name
        }
    };
    Ok(Some(format!("{backend}/{name}")))
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
                // Shutting down is only scheduled, and a connection may have been on its way to the
                // server.
                Deleted::Busy => shut(cx, victim).await?,
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
    Ok(())
}

/// Ends, in workers left by a reload, every session of ours that does not lead to the node that is
/// wished. They refuse commands on servers, so it goes one by one.
async fn cut_old_workers(cx: &mut Cx<'_>, wishes: &Wishes) -> Result<(), Error> {
    let deadline = Instant::now() + cx.driver.timeout;
    let mut pause = SHORTEST_PAUSE;
    loop {
        let mut left = 0;
        let mut worker = String::new();
        // Read anew each time: an old worker exits with its last session.
        let Some((mut master, processes)) = cx.driver.processes().await? else { return Ok(()) };
        'workers: for pid in processes.old_workers {
            let sessions = match view::sessions_of(cx.driver, &mut master, pid).await? {
                Old::Has(sessions) => sessions,
                Old::Gone => continue,
                // Whether anything is left there is looked at in the end.
                Old::Silent => break,
            };
            for session in sessions {
                let node = ServerName::parse(&session.server);
                let node = node.as_ref().and_then(ServerName::node);
                let wished = wishes.get(&session.backend).map(|wish| wish.node.as_str());
                if node.is_some() && node == wished {
                    continue;
                }
                left += 1;
                worker = format!("{}/{} of old worker {pid}", session.backend, session.server);
                let command = format!("@!{pid} shutdown session {}", session.id);
                // The answer does not matter: the next round looks again. One that is late would
                // be taken for that of the next worker.
                if master.ask(&command).await.is_err() {
                    break 'workers;
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
    use api::balancer::Backend;

    use super::*;

    fn server(name: &str, port: u16) -> Server {
        Server {
            backend: "hf_1".to_owned(),
            name: name.to_owned(),
            address: "127.0.0.1".to_owned(),
            port,
            maintenance: false,
            idle: false,
        }
    }

    fn names(victims: &[Server]) -> Vec<&str> {
        victims.iter().map(|victim| victim.name.as_str()).collect()
    }

    fn wishes(host: &str) -> Wishes {
        let backend = Backend { node: "a".to_owned(), host: host.to_owned(), port: 5 };
        let listen = Endpoint { host: "lb".to_owned(), port: 1 };
        Wishes::from([("hf_1".to_owned(), Wish::new(&listen, &backend))])
    }

    #[test]
    fn everything_but_the_target_and_the_marker_goes() {
        let wishes = wishes("127.0.0.1");
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
            names(&victims(&servers, &wishes, 3)),
            ["t2", "t3.0-a", "t2.1-a", "t2.8-b", "main"]
        );
        assert_eq!(names(&victims(&servers[2..4], &Wishes::new(), 3)), ["t2.9-a", "t3.0-a"]);
    }

    #[test]
    fn before_its_name_is_looked_up_a_node_keeps_the_server_that_serves() {
        let mut wishes = wishes("a.test");
        let cut = Server { maintenance: true, ..server("t2.1-a", 5) };
        let elsewhere = Server { address: "127.0.0.2".to_owned(), ..server("t2.2-a", 5) };
        let servers = [cut, elsewhere, server("t2.3-a", 6), server("t2.4-b", 5)];
        assert_eq!(names(&victims(&servers, &wishes, 3)), ["t2.1-a", "t2.3-a", "t2.4-b"]);
        let backends = ["hf_1".to_owned()];
        assert!(dirty(&backends, &servers[1..2], &[], &wishes).is_empty());
        // Once it is known where the node is, the server goes that leads elsewhere.
        for wish in wishes.values_mut() {
            wish.address = Some("127.0.0.1:5".parse().unwrap());
        }
        assert_eq!(names(&victims(&servers[1..2], &wishes, 3)), ["t2.2-a"]);
    }
}
