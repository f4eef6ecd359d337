//! What clients are shown of a topology: CLUSTER NODES, SLOTS, REPLICAS, SHARDS, INFO and the
//! target of MOVED.
//!
//! Every address in here is [`Node::shown`]: a local endpoint never leaves through this module
//! where another is announced, nor to clients that reach announced ones only
//! ([`Reach::Announced`](crate::Reach)). For these a master without one serves nobody, and its
//! slots are left out with it. Clients over TLS are told ports of TLS, as in Redis; CLUSTER SHARDS
//! alone tells both. Replies are plain values or text; the protocol's framing is the caller's.

use std::net::IpAddr;

use crate::{
    model::{Address, Asker, Node, NodeId, Role, Slot, SlotRange, Topology},
    state::ClusterError,
};

/// State of an import or of a migration, as CLUSTER INFO spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum JobState {
    None,
    Start,
    Success,
    Failed,
}

/// A slot range that moves away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrating {
    /// The slots; `None` is shown as `-1`.
    pub range: Option<SlotRange>,
    /// Where to.
    pub to: NodeId,
    /// How far.
    pub state: JobState,
}

/// A slot range that is taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Importing {
    /// The slots; `None` is shown as `-1`.
    pub range: Option<SlotRange>,
    /// How far.
    pub state: JobState,
}

/// Slot jobs of this node, shown while it is master in the topology and in fact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jobs {
    /// Present while one runs, forbids writes or has failed.
    pub migrating: Option<Migrating>,
    /// Present once one was started.
    pub importing: Option<Importing>,
}

/// A node as CLUSTER SLOTS shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotNode {
    /// Host shown to clients.
    pub host: String,
    /// Port shown to clients.
    pub port: u16,
    /// Id.
    pub id: NodeId,
}

/// Consecutive slots of one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRun {
    /// First slot.
    pub start: u16,
    /// Last slot.
    pub end: u16,
    /// The master, then its replicas in table order.
    pub nodes: Vec<SlotNode>,
}

/// A master, its slots and its replicas, in the shape of Redis 7's CLUSTER SHARDS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Flattened into `start, end, start, end …` in the reply.
    pub slots: Vec<(u16, u16)>,
    /// The master, then its replicas in table order.
    pub nodes: Vec<ShardNode>,
}

/// A node as CLUSTER SHARDS shows it; the fields are the keys of the reply's map
/// (`replication-offset` with a dash).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardNode {
    /// Id.
    pub id: NodeId,
    /// Port shown to clients in clear, whoever asks.
    pub port: u16,
    /// Port shown to clients that speak TLS, where that is another one; the key is left out
    /// otherwise.
    pub tls_port: Option<u16>,
    /// Host shown to clients, name or address.
    pub ip: String,
    /// The same host.
    pub endpoint: String,
    /// The same host if it is a name; the key is left out otherwise.
    pub hostname: Option<String>,
    /// `master` or `replica`.
    pub role: &'static str,
    /// Its newest sequence number as far as the node that answers knows it, else 0.
    pub replication_offset: u64,
    /// `online` or `failed`.
    pub health: &'static str,
}

/// CLUSTER NODES: one line per node in table order. Bytes, because ids may be any. A node that
/// cannot be reached is left out, but for the one that answers: programs look for `myself`, and
/// read `noaddr` as it is meant.
pub fn nodes_text(
    topology: &Topology,
    myself: Option<NodeId>,
    asker: Asker,
    now_ms: u64,
    jobs: &Jobs,
) -> Vec<u8> {
    let mut text = Vec::new();
    for node in &topology.nodes {
        let is_myself = Some(node.id) == myself;
        let shown = node.shown(asker);
        if shown.is_none() && !is_myself {
            continue;
        }
        write_node(&mut text, (node, shown), is_myself, topology.version, now_ms);
        for range in node.slots.ranges() {
            text.extend_from_slice(format!(" {range}").as_bytes());
        }
        if is_myself {
            write_jobs(&mut text, topology, jobs);
        }
        text.push(b'\n');
    }
    text
}

/// CLUSTER REPLICAS: the lines of a master's replicas.
///
/// # Errors
/// `NodeId` for an id that is not in the table, `NotAMaster` for a replica's.
pub fn replicas_text(
    topology: &Topology,
    master: &[u8],
    asker: Asker,
    now_ms: u64,
) -> Result<Vec<u8>, ClusterError> {
    let master =
        NodeId::new(master).and_then(|id| topology.node(&id)).ok_or(ClusterError::NodeId)?;
    if !master.is_master() {
        return Err(ClusterError::NotAMaster);
    }
    let mut text = Vec::new();
    for replica in topology.replicas_of(master.id) {
        let Some(shown) = replica.shown(asker) else { continue };
        write_node(&mut text, (replica, Some(shown)), false, topology.version, now_ms);
        text.push(b'\n');
    }
    Ok(text)
}

/// CLUSTER SLOTS: runs of slots with one owner, ascending. Replicas that have failed are left out,
/// as in Redis: clients read from those that are named.
pub fn slots(topology: &Topology, asker: Asker) -> Vec<SlotRun> {
    let mut runs = Vec::new();
    let reachable = |node: &&Node| !node.slots.is_empty() && node.shown(asker).is_some();
    for master in topology.nodes.iter().filter(reachable) {
        let replicas = topology.replicas_of(master.id).filter(|replica| !replica.failed);
        let members = std::iter::once(master).chain(replicas);
        let nodes: Vec<SlotNode> = members.filter_map(|node| slot_node(node, asker)).collect();
        runs.extend(master.slots.ranges().into_iter().map(|range| SlotRun {
            start: range.first().number(),
            end: range.last().number(),
            nodes: nodes.clone(),
        }));
    }
    runs.sort_by_key(|run| run.start);
    runs
}

/// CLUSTER SHARDS: one per master in table order. `offset` says how far a node is, 0 where that is
/// not known.
pub fn shards(topology: &Topology, asker: Asker, offset: impl Fn(&Node) -> u64) -> Vec<Shard> {
    let in_clear = Asker { is_tls: false, ..asker };
    let shard_node = |node: &Node| {
        let Address { host, port } = node.shown(in_clear)?;
        let address = host.split('%').next().unwrap_or_default();
        Some(ShardNode {
            id: node.id,
            port,
            tls_port: node.shown_tls_port(asker.reach),
            ip: host.to_owned(),
            hostname: address.parse::<IpAddr>().is_err().then(|| host.to_owned()),
            endpoint: host.to_owned(),
            role: if node.is_master() { "master" } else { "replica" },
            replication_offset: offset(node),
            health: if node.failed { "failed" } else { "online" },
        })
    };
    let shard = |master: &Node| Shard {
        slots: (master.slots.ranges().into_iter())
            .map(|range| (range.first().number(), range.last().number()))
            .collect(),
        nodes: std::iter::once(master)
            .chain(topology.replicas_of(master.id))
            .filter_map(shard_node)
            .collect(),
    };
    let reachable = |node: &&Node| node.is_master() && node.shown(asker).is_some();
    topology.nodes.iter().filter(reachable).map(shard).collect()
}

/// The least id among the nodes of the shard that a node is in: the nodes of a shard agree on it,
/// and no two shards do. It stays through failovers, as long as that node is in the shard. `None`
/// for a node that is not in the table.
pub fn least_in_shard(topology: &Topology, id: NodeId) -> Option<NodeId> {
    let master_of = |node: &Node| match &node.role {
        Role::Master => node.id,
        Role::Replica { of } => *of,
    };
    let master = topology.nodes.iter().find(|node| node.id == id).map(master_of)?;
    topology.nodes.iter().filter(|node| master_of(node) == master).map(|node| node.id).min()
}

/// CLUSTER INFO. The state is always `ok`, as in Kvrocks.
pub fn info_text(topology: &Topology, jobs: &Jobs) -> Vec<u8> {
    let assigned = topology.assigned_slots();
    let version = topology.version;
    let mut text = format!(
        "cluster_state:ok\r\ncluster_slots_assigned:{assigned}\r\ncluster_slots_ok:{assigned}\r\n\
         cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:{nodes}\r\n\
         cluster_size:{size}\r\ncluster_current_epoch:{version}\r\ncluster_my_epoch:{version}\r\n",
        nodes = topology.nodes.len(),
        size = topology.size(),
    )
    .into_bytes();
    if let Some(job) = &jobs.migrating {
        let state = state_word(job.state, "fail");
        text.extend_from_slice(b"migrating_slot(s): ");
        text.extend_from_slice(range_text(job.range).as_bytes());
        text.extend_from_slice(b"\r\ndestination_node: ");
        text.extend_from_slice(job.to.as_bytes());
        text.extend_from_slice(format!("\r\nmigrating_state: {state}\r\n").as_bytes());
    }
    if let Some(job) = &jobs.importing {
        let (range, state) = (range_text(job.range), state_word(job.state, "error"));
        text.extend_from_slice(
            format!("importing_slot(s): {range}\r\nimport_state: {state}\r\n").as_bytes(),
        );
    }
    text
}

/// CLUSTERX NODES: the one text here that is for peers, with local *and* announced endpoints, as
/// SETNODES takes it.
pub fn clusterx_nodes_text(topology: &Topology) -> Vec<u8> {
    topology.to_bytes()
}

/// A line of CLUSTER NODES up to `connected`. The bus port is fiction and may exceed 65535; the
/// stamps are invented.
fn write_node(
    text: &mut Vec<u8>,
    (node, shown): (&Node, Option<Address<'_>>),
    is_myself: bool,
    version: i64,
    now_ms: u64,
) {
    text.extend_from_slice(node.id.as_bytes());
    // Without an address as Redis writes it: `:0@0` and the flag `noaddr`.
    let (address, no_address) = match shown {
        Some(address) => {
            let bus_port = u32::from(address.port) + 10_000;
            (format!(" {address}@{bus_port} "), "")
        }
        None => (" :0@0 ".to_owned(), ",noaddr"),
    };
    text.extend_from_slice(address.as_bytes());
    if is_myself {
        text.extend_from_slice(b"myself,");
    }
    match &node.role {
        Role::Master => text.extend_from_slice(format!("master{no_address} -").as_bytes()),
        Role::Replica { of } => {
            let fail = if node.failed { ",fail" } else { "" };
            text.extend_from_slice(format!("slave{fail}{no_address} ").as_bytes());
            text.extend_from_slice(of.as_bytes());
        }
    }
    let ping_ms = now_ms.saturating_sub(1);
    text.extend_from_slice(format!(" {ping_ms} {now_ms} {version} connected").as_bytes());
}

fn write_jobs(text: &mut Vec<u8>, topology: &Topology, jobs: &Jobs) {
    if let Some(job) = jobs.migrating.as_ref().filter(|job| job.state == JobState::Start) {
        text.extend_from_slice(format!(" [{}->-", range_text(job.range)).as_bytes());
        text.extend_from_slice(job.to.as_bytes());
        text.push(b']');
    }
    if let Some(job) = jobs.importing.as_ref().filter(|job| job.state == JobState::Start) {
        text.extend_from_slice(format!(" [{}-<-", range_text(job.range)).as_bytes());
        if let Some(owner) = job.range.and_then(|range| owner_of(topology, range.first())) {
            text.extend_from_slice(owner.id.as_bytes());
        }
        text.push(b']');
    }
}

fn owner_of(topology: &Topology, slot: Slot) -> Option<&Node> {
    topology.nodes.iter().find(|node| node.slots.contains(slot))
}

fn slot_node(node: &Node, asker: Asker) -> Option<SlotNode> {
    let Address { host, port } = node.shown(asker)?;
    Some(SlotNode { host: host.to_owned(), port, id: node.id })
}

fn range_text(range: Option<SlotRange>) -> String {
    range.map_or_else(|| "-1".to_owned(), |range| range.to_string())
}

/// Migrations fail with `fail`, imports with `error`.
fn state_word(state: JobState, failed: &'static str) -> &'static str {
    match state {
        JobState::None => "none",
        JobState::Start => "start",
        JobState::Success => "success",
        JobState::Failed => failed,
    }
}

#[cfg(test)]
mod tests;
