//! Looking at nodes before they are taken into a cluster.

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
    let answer = tokio::time::timeout(LIMIT, ask).await.unwrap_or(Err(ClientError::Timeout(LIMIT)));
    answer.map_err(|error| explain(at, &error))
}

fn explain(at: &Endpoint, error: &ClientError) -> ApiError {
    let text = error.to_string();
    let remedy = if text.contains("not enabled") {
        "; start it with `cluster-enabled yes`"
    } else if text.contains("election version mismatch") {
        "; another controller leads it, or led it with a higher term: stop that one, and set \
         `min_term` above it"
    } else if text.contains("NOAUTH")
        || text.contains("WRONGPASS")
        || text.contains("invalid password")
    {
        "; the password that is given (`--password-file`, `password`) must be its `peer-auth`"
    } else {
        ""
    };
    ApiError::bad(format!("node {at}: {text}{remedy}"))
}

/// [`hello`] to all nodes at once; `None` for one that does not answer.
pub(super) async fn hello_all(
    registry: &App,
    nodes: &[Endpoint],
    password: Option<&str>,
) -> Result<Vec<Option<Reply>>, ApiError> {
    let ask = |at: &Endpoint| {
        let (registry, at, password) = (registry.clone(), at.clone(), password.map(str::to_owned));
        tokio::spawn(async move { hello(&registry, &at, password.as_deref()).await })
    };
    let asked: Vec<_> = nodes.iter().map(ask).collect();
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.map_err(|_| ApiError::failed("a probe was cut short"))?.ok());
    }
    Ok(answers)
}

/// A heartbeat that is older leads nobody, ms.
const LED_MS: u64 = 2_000;
/// How long the next one is waited for.
const NEXT: Duration = Duration::from_millis(1_200);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Refuses nodes that another controller leads now: already a hello would depose it there. Whether
/// one that was heard a moment ago lives is seen when it is heard again. Older nodes cannot say,
/// and silent ones are the next question's affair.
pub(super) async fn unled(
    registry: &App,
    nodes: &[Endpoint],
    password: Option<&str>,
) -> Result<(), ApiError> {
    let ask = |at: &Endpoint| {
        let (at, password) = (at.clone(), password.map(str::to_owned));
        let tls = Arc::clone(&registry.shared.tls);
        tokio::spawn(
            async move { led(&at, password.as_deref(), &tls).await.map(|term| (at, term)) },
        )
    };
    let asked: Vec<_> = nodes.iter().map(ask).collect();
    let mut found = None;
    for answer in asked {
        found = found.or(answer.await.ok().flatten());
    }
    match found {
        None => Ok(()),
        Some((at, term)) if term == registry.shared.store.term() => {
            let is_there = |record: &Arc<Record>| record.nodes().any(|(_, node)| node.local == at);
            let whose = registry.all().iter().map(|cluster| cluster.record()).find(is_there);
            let whose = whose.map_or_else(
                || "a cluster of this controller".to_owned(),
                |record| format!("cluster {}/{}", record.namespace, record.name),
            );
            Err(ApiError::conflict(format!("node {at} is in {whose} already")))
        }
        Some((at, term)) => Err(ApiError::conflict(format!(
            "node {at} is led by the controller of term {term} now: stop that one, or take the node out of its cluster first"
        ))),
    }
}

/// Term of the controller that the node hears, if that one is alive.
async fn led(at: &Endpoint, password: Option<&str>, tls: &Arc<Tls>) -> Option<u64> {
    let ask = async {
        let mut connection = Connection::open(at, password, tls).await?;
        rival::ask(&mut connection).await
    };
    let asked_at = Instant::now();
    let told = tokio::time::timeout(LIMIT, ask).await.ok()?.ok()?;
    told.heard_ms.filter(|ms| *ms < LED_MS)?;
    let answered_at = Instant::now();
    let mut connection =
        tokio::time::timeout(LIMIT, Connection::open(at, password, tls)).await.ok()?.ok()?;
    while asked_at.elapsed() < NEXT {
        tokio::time::sleep(LOOK).await;
        let since = answered_at.elapsed();
        let told = tokio::time::timeout(LIMIT, rival::ask(&mut connection)).await.ok()?.ok()?;
        let heard = told.heard_ms.map(Duration::from_millis);
        if heard.is_some_and(|ago| ago < since) {
            return Some(told.heard_term);
        }
    }
    None
}

/// A master with data, as one that a backup was restored to: keys in slots of others would be found
/// by nobody, and slots whose data is elsewhere would seem empty. Nodes that do not know the
/// question are taken as they are.
pub(super) async fn keys_fit(
    registry: &App,
    shard: &Shard,
    password: Option<&str>,
) -> Result<(), ApiError> {
    let Some(at) = shard.master().map(|master| &master.local) else { return Ok(()) };
    let ask = async {
        let mut connection = Connection::open(at, password, &registry.shared.tls).await?;
        connection.command(&["CLUSTERX", "MOVE", "KEYS"]).await
    };
    let answer = tokio::time::timeout(LIMIT, ask).await.unwrap_or(Err(ClientError::Timeout(LIMIT)));
    let found = match answer {
        Err(ClientError::Node(_)) => return Ok(()),
        answer => answer.map_err(|error| explain(at, &error))?,
    };
    let found = found.as_str().and_then(|text| text.parse::<Found>().ok());
    found.unwrap_or_default().fits(&shard.slot_ranges).map_err(|why| {
        ApiError::bad(format!(
            "node {at}: {why}: give each shard the slots of its data (`slots`, `--slots`), shards in \
             the order of their nodes, or start the node on an empty `dir`"
        ))
    })
}

/// Asks every node at once; each must be in cluster mode and hold no topology. The highest number
/// of a move that a node knows.
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
    for (node, answer) in nodes.iter_mut().zip(asked) {
        let reply = answer.await.map_err(|_| ApiError::failed("a probe was cut short"))??;
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
