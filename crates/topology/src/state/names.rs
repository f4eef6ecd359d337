//! This node's id, the cluster that its folder belongs to, and whether it runs where that folder
//! belongs.

use super::{Assignment, Change, Cluster, ClusterError, SlotSet};
use crate::model::{ClusterId, Endpoint, Node, NodeId};

/// A folder that belongs to the node of another address of its own cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the data folder is that of node {owner} at {home}, but this process listens at {here}, which is node {tenant}: \
     the folders of the two were swapped; start each of them with its own, or remove this folder to have the data copied anew"
)]
pub struct Misplaced {
    /// Whose folder it is.
    pub owner: NodeId,
    /// Where that node is.
    pub home: Endpoint,
    /// The node that is where this process listens.
    pub tenant: NodeId,
    /// Where this process listens.
    pub here: Endpoint,
}

impl Cluster {
    /// This node's id, once known.
    pub fn id(&self) -> Option<NodeId> {
        self.id
    }

    /// The cluster this node belongs to, once known.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// `CLUSTERX SETNODEID`. A node that has data keeps the id under which its cluster knows that.
    ///
    /// # Errors
    /// `NodeId` unless `id` has 40 bytes; `OtherNode`.
    pub fn prepare_set_node_id(&self, id: &[u8], has_data: bool) -> Result<Change, ClusterError> {
        let id = NodeId::new(id).ok_or(ClusterError::NodeId)?;
        if let (Some(known), Some(cluster)) = (self.id, self.cluster)
            && has_data
            && known != id
        {
            return Err(ClusterError::OtherNode(known, cluster));
        }
        let mut next = self.clone();
        next.id = Some(id);
        next.find_myself();
        Ok(self.change(next, SlotSet::default()))
    }

    /// `CLUSTERX SETCLUSTERID`: which cluster this node belongs to, until a reset.
    ///
    /// # Errors
    /// `ClusterId` unless it is 16 hexadecimal digits, `OtherCluster` if it belongs to one already.
    pub fn prepare_set_cluster_id(&self, id: &[u8]) -> Result<Change, ClusterError> {
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        let id: ClusterId = id.ok_or(ClusterError::ClusterId)?;
        match self.cluster {
            Some(known) if known != id => Err(ClusterError::OtherCluster(known)),
            _ => {
                let mut change =
                    self.change(Self { cluster: Some(id), ..self.clone() }, SlotSet::default());
                change.outcome.assignment = Assignment::Unchanged;
                Ok(change)
            }
        }
    }

    /// Whether the topology of this folder has another node where this process listens, and this
    /// one elsewhere. `identify` tells whether an endpoint is one of this process' listeners. A
    /// node whose address is nobody else's may have moved: that is not told apart from a translated
    /// address.
    ///
    /// # Errors
    /// [`Misplaced`].
    pub fn check_place(&self, identify: &dyn Fn(&Endpoint) -> bool) -> Result<(), Box<Misplaced>> {
        let Some(myself) = self.myself().filter(|myself| !identify(&myself.local)) else {
            return Ok(());
        };
        let nodes = self.topology.iter().flat_map(|topology| &topology.nodes);
        let here = |node: &&Node| identify(&node.local);
        match nodes.filter(here).find(|node| node.id != myself.id) {
            None => Ok(()),
            Some(tenant) => Err(Box::new(Misplaced {
                owner: myself.id,
                home: myself.local.clone(),
                tenant: tenant.id,
                here: tenant.local.clone(),
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Topology;
    use crate::persist::NodesConf;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const CLUSTER: &[u8] = b"00000000000000aa";

    fn file(id: &str) -> NodesConf {
        let text = format!("{A} h1 1 master - 0-16383\n{B} h2 2 slave {A}");
        let topology = Some(Topology::parse(text.as_bytes(), 3).unwrap());
        NodesConf { id: NodeId::new(id.as_bytes()), topology, ..NodesConf::default() }
    }

    fn at(port: u16) -> impl Fn(&Endpoint) -> bool {
        move |endpoint| endpoint.port == port
    }

    #[test]
    fn a_folder_at_the_address_of_another_node_of_its_cluster_is_refused() {
        let cluster = Cluster::load(file(B), &at(1));
        let told = cluster.check_place(&at(1)).unwrap_err();
        assert_eq!((told.home.port, told.here.port), (2, 1));
        assert!(told.to_string().contains("start each of them with its own"), "{told}");
        assert_eq!(cluster.check_place(&at(2)), Ok(()));
        assert_eq!(cluster.check_place(&at(3)), Ok(()), "it may have moved");
        // Without an id it is whoever listens here.
        let nameless = NodesConf { id: None, ..file(B) };
        assert_eq!(Cluster::load(nameless, &at(1)).check_place(&at(1)), Ok(()));
    }

    #[test]
    fn a_folder_belongs_to_one_cluster_until_it_is_reset() {
        let mut cluster = Cluster::load(file(A), &at(1));
        let refused = cluster.prepare_set_cluster_id(b"x").unwrap_err();
        assert_eq!(refused, ClusterError::ClusterId);
        let change = cluster.prepare_set_cluster_id(CLUSTER).unwrap();
        assert_eq!(change.outcome.assignment, Assignment::Unchanged);
        cluster.commit(change).unwrap();
        // Kept over restarts, and said once more without harm.
        cluster = Cluster::load(cluster.nodes_conf(), &at(1));
        assert!(cluster.prepare_set_cluster_id(CLUSTER).is_ok());
        let refused = cluster.prepare_set_cluster_id(b"00000000000000bb").unwrap_err();
        assert!(refused.reply().ends_with("belongs to cluster 00000000000000aa"), "{refused}");
        // Data keeps the name of its node; without any it takes another.
        assert!(cluster.prepare_set_node_id(A.as_bytes(), true).is_ok());
        let refused = cluster.prepare_set_node_id(B.as_bytes(), true).unwrap_err();
        assert!(refused.reply().starts_with(&format!("ERR the data here is that of node {A}")));
        assert!(cluster.prepare_set_node_id(B.as_bytes(), false).is_ok());
        let change = cluster.prepare_reset(crate::state::ResetGuards::default()).unwrap();
        cluster.commit(change).unwrap();
        assert_eq!((cluster.id(), cluster.cluster_id()), (None, None));
    }
}
