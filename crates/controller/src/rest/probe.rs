//! Looking at nodes before they are taken into a cluster.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::heartbeat::Reply;
use api::moves::{Found, MoveId};
use planner::{Node, Record, Role, Shard, Stated, soundness};
use topology::{Endpoint, TlsPorts};
use web::tls::Tls;

use super::App;
use super::error::ApiError;
use crate::client::{ClientError, Connection};
use crate::cluster::rival;

/// Longest time one node may take.
const LIMIT: Duration = Duration::from_secs(3);

/// Says hello: a heartbeat that grants nothing.
pub(super) async fn hello(
    registry: &App,
    at: &Endpoint,
    password: Option<&str>,
) -> Result<Reply, ApiError> {
    let dials_tls = registry.shared.tls.dials_nodes();
    greet(registry, at, password).await.map_err(|error| explain((at, dials_tls), &error))
}

async fn greet(
    registry: &App,
    at: &Endpoint,
    password: Option<&str>,
) -> Result<Reply, ClientError> {
    let term = registry.shared.store.term().to_string();
    let nobody = "0".repeat(40);
    let ask = async {
        let mut connection = Connection::open(at, password, &registry.shared.tls).await?;
        let arguments = ["CLUSTERX", "HEARTBEAT", &nobody, "1000", &term, "CLOCK", "0", "0"];
        let value = connection.command(&arguments).await?;
        let text =
            value.as_str().ok_or(ClientError::Unexpected { command: "CLUSTERX HEARTBEAT" })?;
        Reply::parse(text).map_err(|error| ClientError::Node(error.to_string()))
    };
    tokio::time::timeout(LIMIT, ask).await.unwrap_or(Err(ClientError::Timeout(LIMIT)))
}

/// `dials_tls`: nodes are dialled over TLS.
fn explain((at, dials_tls): (&Endpoint, bool), error: &ClientError) -> ApiError {
    let text = error.to_string();
    let remedy = if text.contains("not enabled") {
        "; start it with `cluster-enabled yes`"
    } else if is_outranked(error) {
        "; another controller leads it, or led it with a higher term: stop that one, and set \
         `min_term` above it"
    } else if is_locked(error) {
        "; the password that is given (`--password-file`, `password`) must be its `peer-auth`"
    } else if dials_tls && is_unbelieved(error) {
        "; nodes are dialled over TLS (`nodes = true` in `[tls]`): it needs a certificate that names \
         this address, of the CAs in `tls.ca_file`"
    } else if is_absent(error) {
        "; does it run, and is this its `port`, or, with `port 0`, its `tls-port`?"
    } else {
        ""
    };
    ApiError::bad(format!("node {at}: {text}{remedy}"))
}

/// TLS with the node came to nothing.
fn is_unbelieved(error: &ClientError) -> bool {
    matches!(error, ClientError::Io(error) if error.kind() == io::ErrorKind::InvalidData)
}

/// Nobody listens there.
fn is_absent(error: &ClientError) -> bool {
    let is_refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    matches!(error, ClientError::Refused(Some(error)) if is_refused(error))
}

/// The node refuses this controller's term.
fn is_outranked(error: &ClientError) -> bool {
    matches!(error, ClientError::Node(text) if text.contains("election version mismatch"))
}

/// The node refuses the password.
fn is_locked(error: &ClientError) -> bool {
    const WORDS: [&str; 4] =
        ["NOAUTH", "WRONGPASS", "invalid password", "without any password configured"];
    matches!(error, ClientError::Node(text) if WORDS.iter().any(|word| text.contains(word)))
}

/// [`hello`] to all nodes at once; `None` for one that does not answer.
///
/// # Errors
/// A node refuses the term or the password: whoever leads it so would never be obeyed there, and
/// would replace it if it is a master.
pub(super) async fn hello_all(
    registry: &App,
    nodes: &[Endpoint],
    password: Option<&str>,
) -> Result<Vec<Option<Reply>>, ApiError> {
    let ask = |at: &Endpoint| {
        let (registry, at, password) = (registry.clone(), at.clone(), password.map(str::to_owned));
        tokio::spawn(async move {
            let answer = greet(&registry, &at, password.as_deref()).await;
            (at, answer)
        })
    };
    let asked: Vec<_> = nodes.iter().map(ask).collect();
    let mut answers = Vec::new();
    for answer in asked {
        let (at, answer) = answer.await.map_err(|_| ApiError::failed("a probe was cut short"))?;
        match answer {
            Err(error) if is_outranked(&error) || is_locked(&error) => {
                return Err(explain((&at, registry.shared.tls.dials_nodes()), &error));
            }
            answer => answers.push(answer.ok()),
        }
    }
    Ok(answers)
}

/// A heartbeat that is older leads nobody, ms.
const LED_MS: u64 = 2_000;
/// How long the next one is waited for.
const NEXT: Duration = Duration::from_millis(1_200);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Why a node is not to be asked to follow this controller.
#[derive(Debug, Clone, Copy)]
enum Bound {
    /// A controller of this term leads it now.
    Led(u64),
    /// It has obeyed a controller of this term, which is above this one's.
    Obeyed(u64),
}

/// Refuses nodes that another controller leads now: already a hello would depose it there. Whether
/// one that was heard a moment ago lives is seen when it is heard again. Refuses nodes as well that
/// have obeyed a higher term than this controller's: none of its heartbeats would be taken, and to
/// the others it must not have said anything by then. Older nodes cannot say, and silent ones are
/// the next question's affair.
pub(super) async fn unled(
    registry: &App,
    nodes: &[Endpoint],
    password: Option<&str>,
) -> Result<(), ApiError> {
    let own = registry.shared.store.term();
    let ask = |at: &Endpoint| {
        let (at, password) = (at.clone(), password.map(str::to_owned));
        let tls = Arc::clone(&registry.shared.tls);
        tokio::spawn(async move {
            let bound = bound(&at, password.as_deref(), &tls, own).await;
            bound.map(|bound| (at, bound))
        })
    };
    let asked: Vec<_> = nodes.iter().map(ask).collect();
    let (mut led, mut obeyed) = (None, None);
    for answer in asked {
        match answer.await.ok().flatten() {
            Some((at, Bound::Led(term))) => led = led.or(Some((at, term))),
            Some((at, Bound::Obeyed(term))) => obeyed = obeyed.or(Some((at, term))),
            None => {}
        }
    }
    match (led, obeyed) {
        (None, None) => Ok(()),
        (Some((at, term)), _) if term == own => {
            let is_there = |record: &Arc<Record>| record.nodes().any(|(_, node)| node.local == at);
            let whose = registry.all().iter().map(|cluster| cluster.record()).find(is_there);
            let whose = whose.map_or_else(
                || "a cluster of this controller".to_owned(),
                |record| format!("cluster {}/{}", record.namespace, record.name),
            );
            Err(ApiError::conflict(format!("node {at} is in {whose} already")))
        }
        (Some((at, term)), _) => Err(ApiError::conflict(format!(
            "node {at} is led by the controller of term {term} now: stop that one, or take the node out of its cluster first"
        ))),
        (None, Some((at, term))) => Err(ApiError::bad(format!(
            "node {at} has obeyed a controller of term {term} and refuses this one, of term {own}: stop that controller if it runs, \
             and start this one with `min_term` above {term}"
        ))),
    }
}

/// What keeps the node from following a controller of term `own`.
async fn bound(at: &Endpoint, password: Option<&str>, tls: &Arc<Tls>, own: u64) -> Option<Bound> {
    let ask = async {
        let mut connection = Connection::open(at, password, tls).await?;
        rival::ask(&mut connection).await
    };
    let asked_at = Instant::now();
    let told = tokio::time::timeout(LIMIT, ask).await.ok()?.ok()?;
    if told.heard_ms.is_some_and(|ms| ms < LED_MS)
        && let Some(term) = led(at, password, tls, asked_at).await
    {
        return Some(Bound::Led(term));
    }
    (told.term > own).then_some(Bound::Obeyed(told.term))
}

/// Term of the controller that the node hears again, if it does soon.
async fn led(
    at: &Endpoint,
    password: Option<&str>,
    tls: &Arc<Tls>,
    asked_at: Instant,
) -> Option<u64> {
    let answered_at = Instant::now();
    let mut connection =
        tokio::time::timeout(LIMIT, Connection::open(at, password, tls)).await.ok()?.ok()?;
    loop {
        tokio::time::sleep(LOOK).await;
        // Once more when the time is over: where this process is late itself it has not looked yet.
        let is_last = asked_at.elapsed() >= NEXT;
        let since = answered_at.elapsed();
        let told = tokio::time::timeout(LIMIT, rival::ask(&mut connection)).await.ok()?.ok()?;
        let heard = told.heard_ms.map(Duration::from_millis);
        if heard.is_some_and(|ago| ago < since) {
            return Some(told.heard_term);
        }
        if is_last {
            return None;
        }
    }
}

/// A master with data, as one that a backup was restored to: keys in slots of others would be found
/// by nobody, and slots whose data is elsewhere would seem empty. Nor is a node without any the
/// master of one that has them: its replica's data would give way to nothing.
pub(super) async fn keys_fit(
    registry: &App,
    shard: &Shard,
    password: Option<&str>,
) -> Result<(), ApiError> {
    let Some(master) = shard.master() else { return Ok(()) };
    let found = keys_of(registry, &master.local, password).await?;
    if found.keys.is_empty() {
        for replica in shard.replicas() {
            if !keys_of(registry, &replica.local, password).await?.keys.is_empty() {
                return Err(ApiError::bad(format!(
                    "node {} has keys, and {}, which is to be its master, has none: what it has would give way to nothing. Name the \
                     node with the data first in its shard, or start it on an empty `dir`",
                    replica.local, master.local
                )));
            }
        }
    }
    found.fits(&shard.slot_ranges).map_err(|why| {
        ApiError::bad(format!(
            "node {}: {why}: start it on an empty `dir`, or, with a new cluster, give each shard the \
             slots of its data (`slots`, `--slots`), shards in the order of their nodes",
            master.local
        ))
    })
}

/// Slots with keys at the node. One that does not know the question is taken as it is.
async fn keys_of(registry: &App, at: &Endpoint, password: Option<&str>) -> Result<Found, ApiError> {
    let ask = async {
        let mut connection = Connection::open(at, password, &registry.shared.tls).await?;
        connection.command(&["CLUSTERX", "MOVE", "KEYS"]).await
    };
    let answer = tokio::time::timeout(LIMIT, ask).await.unwrap_or(Err(ClientError::Timeout(LIMIT)));
    let found = match answer {
        Err(ClientError::Node(_)) => return Ok(Found::default()),
        answer => {
            answer.map_err(|error| explain((at, registry.shared.tls.dials_nodes()), &error))?
        }
    };
    Ok(found.as_str().and_then(|text| text.parse().ok()).unwrap_or_default())
}

/// Asks every node at once; each must be in cluster mode, hold no topology, and be another process
/// than the others. The highest number of a move that a node knows.
pub(super) async fn fresh(
    registry: &App,
    nodes: &mut [Node],
    password: Option<&str>,
) -> Result<MoveId, ApiError> {
    let locals: Vec<Endpoint> = nodes.iter().map(|node| node.local.clone()).collect();
    unled(registry, &locals, password).await?;
    let asked: Vec<_> = nodes
        .iter()
        .map(|node| {
            let (registry, at) = (registry.clone(), node.local.clone());
            let password = password.map(str::to_owned);
            tokio::spawn(async move { hello(&registry, &at, password.as_deref()).await })
        })
        .collect();
    let mut newest = MoveId(0);
    let mut processes = BTreeMap::new();
    for (node, answer) in nodes.iter_mut().zip(asked) {
        let reply = answer.await.map_err(|_| ApiError::failed("a probe was cut short"))??;
        // Earlier nodes do not name their process.
        let other = match reply.nonce.as_str() {
            "0" => None,
            nonce => processes.insert(nonce.to_owned(), node.local.clone()),
        };
        if let Some(other) = other {
            return Err(ApiError::bad(format!(
                "nodes {other} and {} are one process at two addresses: name each node once",
                node.local
            )));
        }
        if reply.version >= 0 {
            return Err(ApiError::bad(format!(
                "node {}: node is already in cluster mode: it has a topology of version {}; start it on an empty `dir`, or, \
                 if it has no keys, let CLUSTER RESET HARD make it forget",
                node.local, reply.version
            )));
        }
        if !reply.myid.is_empty() && reply.myid != node.id {
            return Err(ApiError::bad(format!(
                "node {}: it already is node {}: it was told so by hand, or its folder is one of another cluster or a copy; \
                 start it on an empty `dir`, or, if it has no keys, let CLUSTER RESET HARD make it forget",
                node.local, reply.myid
            )));
        }
        newest = newest.max(reply.newest_move.unwrap_or_default());
        node.stated = Some(Stated::of(&reply));
    }
    Ok(newest)
}

/// Asks every node at once whether it takes a password. One that cannot be reached may refuse it
/// when it comes back: that is the operator's to know.
pub(super) async fn accepted(
    record: &Record,
    password: &str,
    tls: &Arc<Tls>,
) -> Result<(), ApiError> {
    let asked: Vec<_> = record
        .nodes()
        .map(|(_, node)| {
            let (at, password) = (node.local.clone(), password.to_owned());
            let tls = Arc::clone(tls);
            tokio::spawn(async move {
                let ask = async {
                    let mut connection = Connection::open(&at, Some(&password), &tls).await?;
                    connection.command(&["PING"]).await.map(|_| ())
                };
                let limit = tokio::time::timeout(LIMIT, ask).await;
                (at.clone(), limit.unwrap_or(Err(ClientError::Timeout(LIMIT))))
            })
        })
        .collect();
    let mut refusing = Vec::new();
    for answer in asked {
        let (at, asked) = answer.await.map_err(|_| ApiError::failed("a probe was cut short"))?;
        match asked {
            Ok(()) => {}
            Err(ClientError::Node(_)) => refusing.push(at.to_string()),
            Err(error) => {
                tracing::warn!(node = %at, %error, "cannot ask whether it takes the new password");
            }
        }
    }
    if refusing.is_empty() {
        return Ok(());
    }
    Err(ApiError::bad(format!(
        "not taken by {}: set it there as `peer-auth-also` first (CONFIG SET), so that both passwords \
         are taken while they are changed",
        refusing.join(", ")
    )))
}

/// A cluster whose masters nothing could fence can never fail over safely.
pub(super) fn fenceable(record: &Record) -> Result<(), ApiError> {
    if record.allow_unfenced {
        return Ok(());
    }
    for (_, node) in record.nodes() {
        let sound = soundness(node.stated.as_ref(), record);
        if !sound.any() {
            return Err(ApiError::bad(format!(
                "node {} could not be fenced, so a failover would risk two masters: {}. Start \
                 nodes with `master-lease-mode block-all`, or with `client-access balancer-only` \
                 and list every balancer with its source; or send `allow_unfenced: true`",
                node.local,
                sound.reasons.join("; ")
            )));
        }
    }
    Ok(())
}

/// A node nobody knows yet.
pub(super) fn new_node(fields: &api::rest::NodeFields, role: Role) -> Result<Node, ApiError> {
    let local = super::view::endpoint(&fields.addr)?;
    let announced = super::view::announced(&fields.announced)?;
    let tls_port = super::view::tls_port(fields.tls_port.unwrap_or_default(), &local)?;
    let mut node = Node {
        id: topology::NodeId::random(&mut rand::rng()).to_string(),
        local,
        announced: None,
        tls: TlsPorts { local: tls_port, announced: None },
        role,
        created_at: crate::events::now_ms() / 1_000,
        stated: None,
    };
    announced.put(&mut node);
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_be_asked_is_told_what_to_do() {
        let at = Endpoint { host: "10.0.0.1".to_owned(), port: 6666 };
        let said = |dials_tls, error: ClientError| explain((&at, dials_tls), &error).to_string();
        let refused = || ClientError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        let absent = said(false, refused());
        assert!(absent.contains("node 10.0.0.1:6666: ") && absent.contains("tls-port"), "{absent}");
        let alone = said(false, ClientError::TlsAlone);
        assert!(alone.contains("`nodes = true`"), "{alone}");
        let corrupt = || ClientError::from(io::Error::from(io::ErrorKind::InvalidData));
        let unbelieved = said(true, corrupt());
        assert!(unbelieved.contains("needs a certificate"), "{unbelieved}");
        assert!(!said(false, corrupt()).contains("certificate"), "nobody spoke TLS");
    }
}
