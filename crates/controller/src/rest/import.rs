//! `/import`: a cluster that runs is taken over by asking one of its nodes.
//!
//! One node's topology is as old as that node. So all others are asked as well, and the newest must
//! be the one that was given: from an older one, nodes that were removed would come back, and
//! masters that were replaced.

use std::time::Duration;

use api::heartbeat::Reply;
use api::moves::MoveId;
use api::rest::{Actor, ClusterAnswer, ImportSpec, NodeFields, NodeSpec};
use api::store::{Heeds, StoreId};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;
use planner::{Node, Record, Role, Shard, Stated};
use topology::description::Form;
use topology::{Endpoint, Topology};

use super::clusters::{balancers, default_mode, known_namespace, least, new_name};
use super::error::{ApiError, ok};
use super::table::Within;
use super::{App, body, namespaces, probe, view};
use crate::client::{ClientError, Connection};
use crate::transfer::newest;

/// Longest wait for a node's topology.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn import(
    registry: App,
    Extension(by): Extension<Actor>,
    Extension(within): Extension<Within>,
    Path((ns, name)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    known_namespace(&registry, &ns).await?;
    namespaces::check_name("cluster", &name)?;
    let spec: ImportSpec = body(&bytes)?;
    let fields: Vec<_> = spec.nodes.into_iter().map(NodeSpec::into_fields).collect();
    let first = fields.first().ok_or_else(|| ApiError::bad("cluster nodes should NOT be empty"))?;
    let first_at = view::endpoint(&first.addr)?;
    let password = spec.password.or_else(|| first.password.clone());
    probe::unled(&registry, std::slice::from_ref(&first_at), password.as_deref()).await?;
    let reply = probe::hello(&registry, &first_at, password.as_deref()).await?;
    if reply.version < 0 {
        return Err(ApiError::bad(format!(
            "node {first_at} holds no topology: create the cluster"
        )));
    }
    let topology = topology_at(&registry, (&first_at, password.as_deref()), reply.version).await?;
    let mut shards = imported_shards(&topology)?;
    let plain_hash = topology.hash_in(Form::Plain);
    let first = First { at: &first_at, reply: &reply, plain_hash: &plain_hash };
    let (cluster_id, instead_of, newest) =
        survey(&registry, &mut shards, first, password.as_deref()).await?;
    let sizes = || shards.iter().map(|shard| shard.nodes.len());
    let (smallest, largest) = (sizes().min().unwrap_or(1), sizes().max().unwrap_or(1));
    let mut record = Record {
        namespace: ns,
        name,
        revision: 1,
        tag: 0,
        version: reply.version,
        balancers: balancers(spec.balancers, &within)?,
        longest_lease_ms: registry.shared.policy.lease_ms,
        allow_unfenced: spec.allow_unfenced,
        password: password.clone().filter(|password| !password.is_empty()),
        // As after a change of the mode: each shard's first epoch has its master alone in the set,
        // and only nodes that it asks for join. Nothing is believed of nodes that no grant has
        // reached.
        commit_mode: spec.commit_mode.unwrap_or(default_mode(largest)),
        min_in_sync: least(spec.min_in_sync.unwrap_or(1), smallest)?,
        max_lag: None,
        term: 0,
        shards,
        cluster_id,
        paused: None,
        instead_of,
        // What nodes know of moves is of another record: their numbers are given no more.
        moves: planner::moves::Moves { newest, ..planner::moves::Moves::default() },
    };
    if announce(&mut record.shards, &fields, &first_at)? {
        // Every node must learn it: a version nobody holds yet.
        record.version = reply.version + 1;
    }
    probe::fenceable(&record)?;
    let mut reason = format!("imported version {} from {first_at}", reply.version);
    for taken in &record.instead_of {
        reason.push_str(&format!(", in the place of {}", taken.told()));
    }
    let cluster = registry.create(record, &by, reason).await?;
    Ok(ok(ClusterAnswer { cluster: view::cluster(&cluster.record()) }))
}

/// Says of nodes what was given of them, where it is said at all; whether that is another topology.
/// A port of TLS stays beside its endpoint unless another one is given, or 0.
fn announce(
    shards: &mut [Shard],
    fields: &[NodeFields],
    first_at: &Endpoint,
) -> Result<bool, ApiError> {
    let mut is_other = false;
    for given in fields {
        let local = view::endpoint(&given.addr)?;
        let mut announced = view::announced(&given.announced)?;
        let mut known = shards.iter_mut().flat_map(|shard| &mut shard.nodes);
        let node = known.find(|node| node.local == local).ok_or_else(|| {
            ApiError::bad(format!("node {local} is not in the topology of {first_at}"))
        })?;
        if given.announced.announced_tls_port.is_none() && announced.endpoint == node.announced {
            announced.tls = node.tls.announced;
        }
        if announced.endpoint.is_some() && !announced.is_of(node) {
            announced.put(node);
            is_other = true;
        }
        if let Some(port) = given.tls_port {
            let port = view::tls_port(port, &local)?;
            is_other |= port != node.tls.local;
            node.tls.local = port;
        }
    }
    Ok(is_other)
}

/// The node that was given.
#[derive(Clone, Copy)]
struct First<'a> {
    at: &'a Endpoint,
    reply: &'a Reply,
    /// Hash of its topology at a node that knows no ports of TLS.
    plain_hash: &'a str,
}

/// Asks every node at once, notes what each states of itself, and returns the name of the cluster,
/// whose place this store takes there, and the highest number of a move that a node knows. Silent
/// nodes say nothing against it.
async fn survey(
    registry: &App,
    shards: &mut [Shard],
    first: First<'_>,
    password: Option<&str>,
) -> Result<(String, Vec<StoreId>, MoveId), ApiError> {
    let nodes = || shards.iter().flat_map(|shard| &shard.nodes);
    let locals: Vec<Endpoint> = nodes().map(|node| node.local.clone()).collect();
    probe::unled(registry, &locals, password).await?;
    let answers = probe::hello_all(registry, &locals, password).await?;
    let heard: Vec<(&Node, Reply)> =
        nodes().zip(&answers).filter_map(|(node, reply)| Some((node, reply.clone()?))).collect();
    let name = judge(&heard, first).map_err(ApiError::bad)?;
    let own = registry.shared.store.about().identity.id();
    let led_from = heard.iter().map(|(node, reply)| (&node.local, reply.standing.store));
    let places = places(led_from, own).map_err(ApiError::bad)?;
    let newest = heard.iter().filter_map(|(_, reply)| reply.newest_move).max().unwrap_or_default();
    let mut answers = answers.into_iter();
    for node in shards.iter_mut().flat_map(|shard| &mut shard.nodes) {
        node.stated = answers.next().flatten().as_ref().map(Stated::of);
    }
    Ok((name.unwrap_or_else(new_name), places, newest))
}

/// The stores whose place `own` takes with an import of nodes that heed these; or why it is not to
/// be made: of this very store the nodes know a later life. That no other leads them now was looked
/// at.
fn places<'a>(
    nodes: impl Iterator<Item = (&'a Endpoint, Heeds)>,
    own: Option<StoreId>,
) -> Result<Vec<StoreId>, String> {
    let Some(own) = own else { return Ok(Vec::new()) };
    let mut others = Vec::new();
    for (local, heeds) in nodes {
        match heeds.store() {
            Some(known) if known.name != own.name => others.push(known),
            Some(known) if known.generation > own.generation => {
                return Err(format!(
                    "node {local} was led from {}, and this controller leads from generation {} of it, which was left behind: \
                     stop it, and `holdfast ctl store adopt` first if it is to lead",
                    known.told(),
                    own.generation
                ));
            }
            _ => {}
        }
    }
    Ok(newest(others))
}

/// The name that all nodes have for their cluster, if they have one; or why this topology is not to
/// be taken over.
fn judge(heard: &[(&Node, Reply)], first: First<'_>) -> Result<Option<String>, String> {
    let First { at: first_at, reply: first, plain_hash } = first;
    let newest = heard.iter().max_by_key(|(_, reply)| reply.version);
    if let Some((node, reply)) = newest.filter(|(_, reply)| reply.version > first.version) {
        return Err(format!(
            "node {first_at} knows version {} of the topology, node {} knows version {}: give that one first",
            first.version, node.local, reply.version
        ));
    }
    if first.version > planner::KNOWN_VERSION_MAX {
        return Err(format!(
            "node {first_at} knows version {} of the topology, and soon none would be above it: stop the nodes that know such \
             a one, remove their nodes.conf, start them, and give them their ids and the topology with a low version first",
            first.version
        ));
    }
    for (node, reply) in heard {
        if !reply.myid.is_empty() && reply.myid != node.id {
            return Err(format!(
                "node {} answers as {}, in the topology of {first_at} it is {}: give each node its own data folder first",
                node.local, reply.myid, node.id
            ));
        }
        // One that knows no ports of TLS has the topology without them.
        let is_plain = first.knows_tls_ports && !reply.knows_tls_ports;
        let same = if is_plain { plain_hash } else { first.topology_hash.as_str() };
        if reply.version != first.version || reply.topology_hash == same {
            continue;
        }
        if reply.knows_tls_ports && !first.knows_tls_ports {
            return Err(format!(
                "node {} knows ports of TLS, which node {first_at} may lack in its topology: give an upgraded node first",
                node.local
            ));
        }
        return Err(format!(
            "nodes {first_at} and {} hold different topologies of version {}: CLUSTERX NODES shows them; give the right one a \
             higher version with CLUSTERX SETNODES first",
            node.local, first.version
        ));
    }
    let mut named = heard.iter().filter(|(_, reply)| reply.has_cluster());
    let Some((one, name)) = named.next().map(|(node, reply)| (node, &reply.cluster_id)) else {
        return Ok(None);
    };
    match named.find(|(_, reply)| reply.cluster_id != *name) {
        Some((other, reply)) => Err(format!(
            "node {} belongs to cluster {name}, node {} to cluster {}: give each node its own data folder first",
            one.local, other.local, reply.cluster_id
        )),
        None => Ok(Some(name.clone())),
    }
}

async fn topology_at(
    registry: &App,
    (at, password): (&Endpoint, Option<&str>),
    version: i64,
) -> Result<Topology, ApiError> {
    let failed = |error: &ClientError| ApiError::node(at, error);
    let ask = async {
        let mut connection = Connection::open(at, password, &registry.shared.tls).await?;
        connection.command(&["CLUSTERX", "NODES"]).await
    };
    let answer = tokio::time::timeout(ANSWER_LIMIT, ask).await;
    let value =
        answer.unwrap_or(Err(ClientError::Timeout(ANSWER_LIMIT))).map_err(|e| failed(&e))?;
    let text = value.as_bytes().unwrap_or_default();
    Topology::parse(text, version)
        .map_err(|error| ApiError::bad(format!("node {at}: its topology cannot be read: {error}")))
}

fn imported_shards(topology: &Topology) -> Result<Vec<Shard>, ApiError> {
    let now = crate::events::now_ms() / 1_000;
    let node = |node: &topology::Node| Node {
        id: node.id.to_string(),
        local: node.local.clone(),
        announced: node.announced.clone(),
        tls: node.tls,
        role: if node.is_master() { Role::Master } else { Role::Slave },
        created_at: now,
        stated: None,
    };
    let mut shards = Vec::new();
    for master in topology.nodes.iter().filter(|node| node.is_master()) {
        let follows =
            |other: &&topology::Node| other.role == topology::Role::Replica { of: master.id };
        let replicas = topology.nodes.iter().filter(follows).map(node);
        let ranges = master.slots.ranges();
        shards.push(Shard {
            id: super::new_shard_id(),
            nodes: std::iter::once(node(master)).chain(replicas).collect(),
            slot_ranges: ranges
                .iter()
                .map(|range| (range.first().number(), range.last().number()))
                .collect(),
            intent: None,
            last_intent: None,
            fence: None,
            epoch: planner::Epoch::default(),
            floor: None,
        });
    }
    let placed: usize = shards.iter().map(|shard| shard.nodes.len()).sum();
    if placed != topology.nodes.len() {
        return Err(ApiError::bad("the topology has a replica without its master"));
    }
    Ok(shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(id: &str, version: i64) -> (Node, Reply) {
        let text = format!(
            "role:master\r\nsequence:1\r\nmyid:{}\r\nversion:{version}\r\ntopology_hash:h{version}\r\n",
            id.repeat(40)
        );
        let node = Node {
            id: id.repeat(40),
            local: Endpoint { host: id.to_owned(), port: 1 },
            announced: None,
            tls: topology::TlsPorts::default(),
            role: Role::Slave,
            created_at: 0,
            stated: None,
        };
        (node, Reply::parse(&text).expect("a reply"))
    }

    fn judged(heard: &[(Node, Reply)]) -> Result<Option<String>, String> {
        let (node, reply) = heard.first().expect("a node");
        let heard: Vec<_> = heard.iter().map(|(node, reply)| (node, reply.clone())).collect();
        judge(&heard, First { at: &node.local, reply, plain_hash: "h29" })
    }

    #[test]
    fn an_import_takes_the_place_of_whoever_led_and_not_of_a_later_life_of_its_own_store() {
        let of = |name, generation| StoreId { name, generation };
        let at = |host: &str| Endpoint { host: host.to_owned(), port: 1 };
        let (a, b, c) = (at("a"), at("b"), at("c"));
        let own = Some(of(0xb, 2));
        let told = |heeds: [Heeds; 3]| places([&a, &b, &c].into_iter().zip(heeds), own);
        let nobody = [Heeds::Unsaid, Heeds::Nobody, Heeds::Store(of(0xb, 2))];
        assert_eq!(told(nobody), Ok(Vec::new()));
        let lost = [3, 4, 3].map(|generation| Heeds::Store(of(0xa, generation)));
        assert_eq!(told(lost), Ok(vec![of(0xa, 4)]));
        let later = [Heeds::Nobody, Heeds::Store(of(0xa, 1)), Heeds::Store(of(0xb, 3))];
        let refused = told(later).expect_err("a copy that was left behind");
        assert!(refused.starts_with("node c:1 was led from store 000000000000000b, generation 3"));
        assert!(refused.contains("`holdfast ctl store adopt`"), "{refused}");
        assert_eq!(places([(&c, later[2])].into_iter(), None), Ok(Vec::new()));
    }

    #[test]
    fn only_the_newest_topology_is_taken_over() {
        assert_eq!(judged(&[heard("a", 29), heard("b", 29), heard("c", 7)]), Ok(None));
        let told = judged(&[heard("a", 29), heard("b", 40), heard("c", 41)]).expect_err("stale");
        assert_eq!(
            told,
            "node a:1 knows version 29 of the topology, node c:1 knows version 41: give that one first"
        );
        let most = planner::KNOWN_VERSION_MAX;
        assert_eq!(judged(&[heard("a", most), heard("b", 7)]), Ok(None));
        for mistyped in [most + 1, i64::MAX] {
            let told = judged(&[heard("a", mistyped), heard("b", 7)]).expect_err("no next one");
            assert!(told.contains("remove their nodes.conf"), "{told}");
        }
        let mut other = heard("b", 29);
        other.1.topology_hash = "x".to_owned();
        assert!(
            judged(&[heard("a", 29), other]).expect_err("two").contains("different topologies")
        );
    }

    #[test]
    fn a_topology_without_the_ports_of_tls_is_not_taken_over_where_another_node_has_them() {
        let mut upgraded = heard("b", 29);
        upgraded.1.knows_tls_ports = true;
        // There are none.
        assert_eq!(judged(&[heard("a", 29), upgraded.clone()]), Ok(None));
        upgraded.1.topology_hash = "x".to_owned();
        let told = judged(&[heard("a", 29), upgraded.clone()]).expect_err("ports that are lost");
        assert!(told.ends_with("give an upgraded node first"), "{told}");
        assert_eq!(judged(&[upgraded.clone(), heard("a", 29)]), Ok(None));
        let mut other = heard("a", 29);
        other.1.topology_hash = "y".to_owned();
        let told = judged(&[upgraded, other]).expect_err("another one, not only without ports");
        assert!(told.contains("different topologies"), "{told}");
    }

    #[test]
    fn an_endpoint_that_is_said_again_keeps_its_port_of_tls() {
        let line = format!("{} 10.0.0.1 1 master - 0-16383 lb 6379 tls=2,6380", "a".repeat(40));
        let topology = Topology::parse(line.as_bytes(), 1).expect("a topology");
        let mut shards = imported_shards(&topology).expect("a shard");
        let first_at = Endpoint { host: "10.0.0.1".to_owned(), port: 1 };
        let mut said = |announced_port, announced_tls_port| {
            let announced = api::rest::Announced {
                announced_host: Some("lb".to_owned()),
                announced_port: Some(announced_port),
                announced_tls_port,
            };
            let addr = first_at.to_string();
            let fields = [NodeFields { addr, announced, ..NodeFields::default() }];
            let is_other = announce(&mut shards, &fields, &first_at).ok();
            (is_other, shards[0].nodes[0].tls.announced.map(std::num::NonZeroU16::get))
        };
        assert_eq!(said(6379, None), (Some(false), Some(6380)));
        assert_eq!(said(6379, Some(0)), (Some(true), None));
        assert_eq!(said(6379, Some(6381)), (Some(true), Some(6381)));
        // It was that of another one.
        assert_eq!(said(7379, None), (Some(true), None));
    }

    #[test]
    fn nodes_on_folders_of_others_are_not_taken_over() {
        let mut swapped = heard("b", 29);
        swapped.1.myid = "c".repeat(40);
        assert!(judged(&[heard("a", 29), swapped]).expect_err("swapped").contains("its own data"));
        let of = |id, cluster: &str| {
            let mut node = heard(id, 29);
            node.1.cluster_id = cluster.to_owned();
            node
        };
        let ours = "00000000000000aa";
        let all = [of("a", "-"), of("b", ours), heard("c", 29), of("d", ours)];
        assert_eq!(judged(&all), Ok(Some(ours.to_owned())));
        let told = judged(&[of("a", ours), of("b", "00000000000000bb")]).expect_err("two clusters");
        assert!(told.contains("node b:1 to cluster 00000000000000bb"), "{told}");
    }
}
