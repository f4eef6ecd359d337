//! Whose answer it is: what another node says at a node's address, or one whose data belongs to
//! another cluster, counts for nothing but the alarm.
//!
//! Folders of data are swapped by hand, copied, mounted at the wrong host. What such a node holds
//! (epochs, versions, positions) is no evidence of what this node, or this store, has lost.

use api::heartbeat::Reply;

use crate::Record;

/// The answer is another node's, or another cluster's. A node that has no id yet, or does not know
/// its cluster, is none.
pub fn is_stranger(record: &Record, id: &str, reply: &Reply) -> bool {
    let is_other_node = !reply.myid.is_empty() && reply.myid != id;
    is_other_node || is_other_cluster(record, reply)
}

/// The node knows its cluster, and that is not this one.
pub(crate) fn is_other_cluster(record: &Record, reply: &Reply) -> bool {
    let is_known = !record.cluster_id.is_empty() && reply.has_cluster();
    is_known && reply.cluster_id != record.cluster_id
}
