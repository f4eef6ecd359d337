//! What one node knows of its cluster, and how `SETNODES`, `SETNODEID`, `SETSLOT` and `RESET`
//! change it.
//!
//! Every change is prepared on a copy and committed later: the caller writes `nodes.conf` between
//! the two, so that `+OK` means durable and a failed write leaves nothing half applied. Nothing
//! here reads files, sockets or clocks, or starts a replication; [`Outcome`] says what the node
//! must do.

pub(crate) mod names;

use std::collections::BTreeMap;

use crate::{
    model::{
        ClusterId, Endpoint, Node, NodeId, Role, SLOT_COUNT, Slot, SlotRange, SlotSet, Topology,
        VERSION_MAX,
    },
    parse_error::ParseError,
    persist::NodesConf,
};

/// In the owner table: nobody's slot.
const NOBODY: u16 = u16::MAX;

/// Why a change or a question was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum ClusterError {
    #[error("Invalid cluster version")]
    Version,
    #[error("Invalid cluster node id")]
    NodeId,
    #[error("Invalid cluster name: 16 hexadecimal digits expected")]
    ClusterId,
    #[error("the data folder of this node belongs to cluster {0}")]
    OtherCluster(ClusterId),
    #[error(
        "the data here is that of node {0} of cluster {1}; give this address the folder of its own node, or remove the \
         folder while the process is stopped, and it is copied anew"
    )]
    OtherNode(NodeId, ClusterId),
    #[error("No this node in the cluster")]
    UnknownNode,
    #[error("The node isn't a master")]
    NotAMaster,
    #[error(transparent)]
    Description(#[from] ParseError),
    #[error("The cluster is not initialized")]
    NotInitialized,
    #[error("Can't reset cluster while migrating slot")]
    ResetWhileMigrating,
    #[error("Can't reset cluster while importing slot")]
    ResetWhileImporting,
    #[error("Can't reset cluster while database is not empty")]
    ResetWithData,
}

impl ClusterError {
    /// The error line of the reply with its code, without the leading `-`.
    pub fn reply(&self) -> String {
        match self {
            Self::NotInitialized => format!("CLUSTERDOWN {self}"),
            _ => format!("ERR {self}"),
        }
    }
}

/// The change was prepared from a state that is no longer the current one; prepare it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cluster state changed meanwhile")]
pub struct StaleChange;

/// The part the topology gives this node. Applying the one that is already in force must do
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// Nothing to do: no topology yet, the same version again, or a replica whose master is not in
    /// the table.
    Unchanged,
    /// Stop replicating and accept writes.
    Master,
    /// Replicate from that node.
    ReplicaOf {
        /// The master.
        id: NodeId,
        /// Its local endpoint; the announced one is not for peers.
        local: Endpoint,
    },
    /// This node is in no line of the table: stop replicating. Every keyed command is redirected.
    NotInTable,
}

/// What the node must do once a change is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The role to take.
    pub assignment: Assignment,
    /// True when this node's data was written under an older mastership and it is a replica now: it
    /// must replace its data by a full sync, never join by partial sync. Stays true in later
    /// outcomes, also after a restart, until [`Cluster::prepare_full_sync_done`].
    pub full_sync_required: bool,
    /// Slots handed over to another master whose keys must be deleted here.
    pub clear_slots: SlotSet,
    /// Slots whose owner this change says, or says once more.
    pub told: SlotSet,
}

/// What must become of `nodes.conf` before the change is committed (where persistence is on).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileChange {
    /// Replace it durably by these bytes.
    Write(Vec<u8>),
    /// Remove it.
    Remove,
}

/// A prepared change: the new state and what follows from it.
#[derive(Debug)]
pub struct Change {
    next: Cluster,
    base: u64,
    /// To be made durable first.
    pub file: FileChange,
    /// To be done after the commit.
    pub outcome: Outcome,
}

impl Change {
    /// The state after the change.
    pub fn next(&self) -> &Cluster {
        &self.next
    }

    /// The new state and what to do, for a caller that publishes states by swapping a pointer.
    /// Unlike [`Cluster::commit`] this cannot notice another change: the caller holds one lock from
    /// the preparation to the swap.
    pub fn into_parts(self) -> (Cluster, Outcome) {
        (self.next, self.outcome)
    }
}

/// What forbids a reset.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResetGuards {
    /// A slot is being moved away.
    pub is_migrating: bool,
    /// A slot is being taken over.
    pub is_importing: bool,
    /// There are keys.
    pub has_data: bool,
}

/// Marks of slot migration. In memory only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Handed over to that node, but still this node's in the topology.
    pub migrated: BTreeMap<Slot, NodeId>,
    /// Taken over, but still another node's in the topology.
    pub imported: SlotSet,
    /// Being taken over now.
    pub importing: Option<SlotRange>,
    /// Own slots in the last phase of a migration: reads only.
    pub write_forbidden: Option<SlotRange>,
}

/// The cluster as this node knows it.
#[derive(Debug, Clone)]
pub struct Cluster {
    id: Option<NodeId>,
    /// Which cluster the folder belongs to.
    cluster: Option<ClusterId>,
    topology: Option<Topology>,
    /// Slot → index into the topology's nodes, or [`NOBODY`].
    owners: Box<[u16; SLOT_COUNT as usize]>,
    myself: Option<u16>,
    marks: Marks,
    /// Version under which this node was last a master, until a full sync replaced what it wrote
    /// then.
    mastered_at: Option<i64>,
    generation: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            id: None,
            cluster: None,
            topology: None,
            owners: Box::new([NOBODY; SLOT_COUNT as usize]),
            myself: None,
            marks: Marks::default(),
            mastered_at: None,
            generation: 0,
        }
    }
}

impl Cluster {
    /// The state a node starts with. `identify` is asked only if the file names no id. Take the
    /// role from [`Cluster::outcome`].
    pub fn load(file: NodesConf, identify: &dyn Fn(&Endpoint) -> bool) -> Self {
        let NodesConf { id, cluster, mastered_at, .. } = file;
        let mut cluster = Self { id, cluster, mastered_at, ..Self::default() };
        if let Some(topology) = file.topology {
            cluster.install(topology, false, identify);
        }
        cluster
    }

    /// -1 before the first topology.
    pub fn version(&self) -> i64 {
        self.topology.as_ref().map_or(-1, |topology| topology.version)
    }

    /// The topology.
    ///
    /// # Errors
    /// `NotInitialized` before the first one.
    pub fn topology(&self) -> Result<&Topology, ClusterError> {
        self.topology.as_ref().ok_or(ClusterError::NotInitialized)
    }

    /// [`Topology::hash`], empty before the first topology.
    pub fn hash(&self) -> String {
        self.topology.as_ref().map_or_else(String::new, Topology::hash)
    }

    /// This node's line of the table.
    pub fn myself(&self) -> Option<&Node> {
        self.node_at(self.myself?)
    }

    /// The master that owns the slot in the topology.
    pub fn owner(&self, slot: Slot) -> Option<&Node> {
        self.node_at(self.owner_index(slot)?)
    }

    /// The marks of slot migration.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Changes the marks. A change that was prepared before can no longer be committed.
    pub fn update_marks(&mut self, update: impl FnOnce(&mut Marks)) {
        update(&mut self.marks);
        self.generation += 1;
    }

    /// The content `nodes.conf` should have now.
    pub fn nodes_conf(&self) -> NodesConf {
        let is_master = self.myself().is_some_and(Node::is_master);
        NodesConf {
            id: self.id,
            cluster: self.cluster,
            topology: self.topology.clone(),
            // A master's own line says it already.
            mastered_at: self.mastered_at.filter(|_| !is_master),
        }
    }

    /// What the node must do to be as this state says; for the start, and to repeat an attempt that
    /// failed.
    pub fn outcome(&self) -> Outcome {
        Outcome {
            assignment: self.assignment(),
            full_sync_required: self.is_full_sync_required(),
            clear_slots: SlotSet::default(),
            told: SlotSet::default(),
        }
    }

    /// `CLUSTERX SETNODES`. `identify` tells whether a local endpoint is one of this process'
    /// listeners; it is asked when this node has no id yet, or with `force`.
    ///
    /// # Errors
    /// `Version` for a version below 0, for the first one above [`VERSION_MAX`] or, without
    /// `force`, below the current one; `Description` as the parser says.
    /// The same version again is no error and changes nothing, whatever the description says.
    pub fn prepare_set_nodes(
        &self,
        description: &[u8],
        version: i64,
        force: bool,
        identify: &dyn Fn(&Endpoint) -> bool,
    ) -> Result<Change, ClusterError> {
        // Where it is so high already, it goes on from there.
        let is_beyond = version > VERSION_MAX && self.version() <= VERSION_MAX;
        if version < 0 || is_beyond || (!force && version < self.version()) {
            return Err(ClusterError::Version);
        }
        if !force && version == self.version() {
            return Ok(self.unchanged());
        }
        let topology = Topology::parse(description, version)?;
        let mut next = self.clone();
        next.install(topology, force, identify);
        let marks = std::mem::take(&mut next.marks);
        // A replica deletes nothing by itself: its data is its master's. A slot that nobody owns
        // keeps its keys.
        let is_master = next.myself().is_some_and(Node::is_master);
        let clear_slots = marks
            .migrated
            .into_keys()
            .filter(|slot| is_master && next.is_elsewhere(*slot))
            .collect();
        let mut change = self.change(next, clear_slots);
        change.outcome.told = (0..SLOT_COUNT).filter_map(Slot::new).collect();
        Ok(change)
    }

    /// `CLUSTERX SETSLOT … NODE`.
    ///
    /// # Errors
    /// In this order: `Version` unless it is the current one plus 1 and above 0, `NodeId`,
    /// `UnknownNode`, `NotAMaster`.
    pub fn prepare_set_slot(
        &self,
        slots: &[SlotRange],
        id: &[u8],
        version: i64,
    ) -> Result<Change, ClusterError> {
        if version <= 0 || self.version().checked_add(1) != Some(version) {
            return Err(ClusterError::Version);
        }
        let id = NodeId::new(id).ok_or(ClusterError::NodeId)?;
        let mut next = self.clone();
        let topology = next.topology.as_mut().ok_or(ClusterError::UnknownNode)?;
        let target = topology
            .nodes
            .iter()
            .position(|node| node.id == id)
            .ok_or(ClusterError::UnknownNode)?;
        if !topology.nodes[target].is_master() {
            return Err(ClusterError::NotAMaster);
        }
        topology.version = version;
        let moved: SlotSet = slots.iter().flat_map(|range| range.slots()).collect();
        for slot in moved.iter() {
            let old = self.owners[slot.index()];
            if let Some(node) = topology.nodes.get_mut(usize::from(old)) {
                node.slots.remove(slot);
            }
            topology.nodes[target].slots.insert(slot);
        }
        next.index_owners();
        next.find_myself();
        let mut clear_slots = SlotSet::default();
        for slot in moved.iter() {
            if self.myself.is_none() || !next.is_elsewhere(slot) {
                continue;
            }
            // What came here and is left with its owner is served there alone.
            next.marks.imported.remove(slot);
            let was_mine = self.owner_index(slot) == self.myself;
            if was_mine && next.marks.migrated.remove(&slot).is_some() {
                clear_slots.insert(slot);
            }
        }
        let mut change = self.change(next, clear_slots);
        change.outcome.told = moved;
        Ok(change)
    }

    /// `CLUSTER RESET`: forgets everything.
    ///
    /// # Errors
    /// The first of the guards that is set, in the order of its fields.
    pub fn prepare_reset(&self, guards: ResetGuards) -> Result<Change, ClusterError> {
        if guards.is_migrating {
            return Err(ClusterError::ResetWhileMigrating);
        }
        if guards.is_importing {
            return Err(ClusterError::ResetWhileImporting);
        }
        if guards.has_data {
            return Err(ClusterError::ResetWithData);
        }
        let mut change = self.change(Self::default(), SlotSet::default());
        change.file = FileChange::Remove;
        change.outcome.assignment = Assignment::NotInTable;
        Ok(change)
    }

    /// The data of this replica now is its master's: a partial sync is sound again.
    pub fn prepare_full_sync_done(&self) -> Change {
        let mut next = self.clone();
        if !next.myself().is_some_and(Node::is_master) {
            next.mastered_at = None;
        }
        self.change(next, SlotSet::default())
    }

    /// Makes a prepared change the state.
    ///
    /// # Errors
    /// When this state is not the one the change was prepared from.
    pub fn commit(&mut self, change: Change) -> Result<Outcome, StaleChange> {
        if change.base != self.generation {
            return Err(StaleChange);
        }
        *self = change.next;
        Ok(change.outcome)
    }

    pub(crate) fn owner_index(&self, slot: Slot) -> Option<u16> {
        Some(self.owners[slot.index()]).filter(|index| *index != NOBODY)
    }

    pub(crate) fn my_index(&self) -> Option<u16> {
        self.myself
    }

    pub(crate) fn node_at(&self, index: u16) -> Option<&Node> {
        self.topology.as_ref()?.nodes.get(usize::from(index))
    }

    /// Whether somebody else owns the slot.
    fn is_elsewhere(&self, slot: Slot) -> bool {
        self.owner_index(slot).is_some_and(|owner| Some(owner) != self.myself)
    }

    fn unchanged(&self) -> Change {
        let mut change = self.change(self.clone(), SlotSet::default());
        change.outcome.assignment = Assignment::Unchanged;
        change
    }

    fn change(&self, mut next: Self, clear_slots: SlotSet) -> Change {
        next.generation = self.generation + 1;
        Change {
            base: self.generation,
            file: FileChange::Write(next.nodes_conf().to_bytes()),
            outcome: Outcome { clear_slots, ..next.outcome() },
            next,
        }
    }

    /// Takes a topology over: owners from scratch, then who this node is, then its role.
    fn install(
        &mut self,
        topology: Topology,
        identify_again: bool,
        identify: &dyn Fn(&Endpoint) -> bool,
    ) {
        if self.id.is_none() || identify_again {
            let found = topology.nodes.iter().find(|node| identify(&node.local));
            self.id = found.map(|node| node.id).or(self.id);
        }
        self.topology = Some(topology);
        self.index_owners();
        self.find_myself();
    }

    fn index_owners(&mut self) {
        self.owners.fill(NOBODY);
        let Some(topology) = &self.topology else { return };
        // The parser allows far fewer nodes than a u16 counts.
        for (index, node) in (0..NOBODY).zip(&topology.nodes) {
            for slot in node.slots.iter() {
                self.owners[slot.index()] = index;
            }
        }
    }

    fn find_myself(&mut self) {
        let nodes = self.topology.as_ref().map_or(&[][..], |topology| &topology.nodes);
        let found = (0..NOBODY).zip(nodes).find(|(_, node)| Some(node.id) == self.id);
        self.myself = found.map(|(index, _)| index);
        if self.myself().is_some_and(Node::is_master) {
            self.mastered_at = Some(self.version());
        }
    }

    fn is_full_sync_required(&self) -> bool {
        self.mastered_at.is_some() && self.myself().is_some_and(|node| !node.is_master())
    }

    fn assignment(&self) -> Assignment {
        let Some(topology) = &self.topology else { return Assignment::Unchanged };
        match self.myself().map(|node| &node.role) {
            None => Assignment::NotInTable,
            Some(Role::Master) => Assignment::Master,
            Some(Role::Replica { of }) => match topology.node(of) {
                Some(master) => Assignment::ReplicaOf { id: *of, local: master.local.clone() },
                None => Assignment::Unchanged,
            },
        }
    }
}

#[cfg(test)]
mod tests;
