//! What may be migrated and imported, in the order and words of Kvrocks.

use topology::{Cluster, Endpoint, NodeId, SlotRange, Viewer};

/// Why not. `Display` is the reply without `ERR `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum Refused {
    #[error("Can't find the destination node id")]
    NoTarget,
    #[error("Can't migrate slot which has been migrated")]
    Migrated,
    #[error("Can't migrate slot which doesn't belong to me")]
    NotMine,
    #[error("Slave can't migrate slot")]
    GiverIsReplica,
    #[error("Can't migrate slot to a slave")]
    ToReplica,
    #[error("Can't migrate slot to myself")]
    ToMyself,
    #[error("There is already a migrating job")]
    Busy,
    #[error("Slave can't import slot")]
    TakerIsReplica,
    #[error("Can't import slot which belongs to me")]
    Mine,
    #[error("only one importing job is allowed, current importing: {0}")]
    Importing(SlotRange),
    #[error("keys of the slots {0} were deleted here with all others while they came")]
    Flushed(SlotRange),
    #[error("mismatch slot, importing slot(s): {}, but got: {got}", shown(*.known))]
    Mismatch { known: Option<SlotRange>, got: SlotRange },
}

fn shown(range: Option<SlotRange>) -> String {
    range.map_or_else(|| "-1".to_owned(), |range| range.to_string())
}

/// Whether two ranges have a slot in common.
pub fn overlap(one: SlotRange, other: SlotRange) -> bool {
    one.first() <= other.last() && other.first() <= one.last()
}

/// Whether every slot is this node's by the topology.
pub fn are_mine(cluster: &Cluster, range: SlotRange) -> bool {
    let me = cluster.myself().map(|me| me.id);
    me.is_some() && range.slots().all(|slot| cluster.owner(slot).map(|owner| owner.id) == me)
}

/// The node that these slots may be given to, and its local address. The job before is looked at
/// when this one begins.
///
/// # Errors
/// See [`Refused`].
pub fn may_migrate(
    cluster: &Cluster,
    is_master: bool,
    range: SlotRange,
    to: &[u8],
) -> Result<(NodeId, Endpoint), Refused> {
    let topology = cluster.topology().map_err(|_| Refused::NoTarget)?;
    let target = NodeId::new(to).and_then(|id| topology.node(&id)).ok_or(Refused::NoTarget)?;
    // Kvrocks refuses all that lies between two slots that were given away, too.
    if range.slots().any(|slot| cluster.marks().migrated.contains_key(&slot)) {
        return Err(Refused::Migrated);
    }
    if !are_mine(cluster, range) {
        return Err(Refused::NotMine);
    }
    if !is_master || !cluster.myself().is_some_and(topology::Node::is_master) {
        return Err(Refused::GiverIsReplica);
    }
    if !target.is_master() {
        return Err(Refused::ToReplica);
    }
    if Some(target.id) == cluster.id() {
        return Err(Refused::ToMyself);
    }
    Ok((target.id, target.endpoint(Viewer::Peer).clone()))
}

/// Whether these slots may come here.
///
/// # Errors
/// See [`Refused`].
pub fn may_import(cluster: &Cluster, is_master: bool, range: SlotRange) -> Result<(), Refused> {
    let is_replica = cluster.myself().is_some_and(|me| !me.is_master());
    if !is_master || is_replica {
        return Err(Refused::TakerIsReplica);
    }
    let me = cluster.myself().map(|me| me.id);
    let is_mine = |slot| me.is_some() && cluster.owner(slot).map(|owner| owner.id) == me;
    if range.slots().any(is_mine) {
        return Err(Refused::Mine);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use topology::state::Change;
    use topology::{Slot, parse_slots};

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const C: &str = "cccccccccccccccccccccccccccccccccccccccc";

    fn cluster(me: &str) -> Cluster {
        let text = format!(
            "{A} 127.0.0.1 1 master - 0-99\n{B} 127.0.0.1 2 master - 100-16383\n{C} 127.0.0.1 3 slave {A}"
        );
        let take = |change: Change| change.into_parts().0;
        let cluster = take(Cluster::default().prepare_set_node_id(me.as_bytes(), false).unwrap());
        take(cluster.prepare_set_nodes(text.as_bytes(), 1, false, &|_| false).unwrap())
    }

    fn range(text: &str) -> SlotRange {
        parse_slots(text.as_bytes()).unwrap()[0]
    }

    #[test]
    fn refusals_to_migrate_come_in_their_order() {
        let try_it = |cluster: &Cluster, is_master, slots: &str, to: &str| {
            may_migrate(cluster, is_master, range(slots), to.as_bytes())
        };
        let mut own = cluster(A);
        let unknown = "dddddddddddddddddddddddddddddddddddddddd";
        assert_eq!(try_it(&Cluster::default(), true, "1", B), Err(Refused::NoTarget));
        assert_eq!(try_it(&own, true, "1", unknown), Err(Refused::NoTarget));
        assert_eq!(try_it(&own, true, "1", "short"), Err(Refused::NoTarget));
        assert_eq!(try_it(&own, true, "99-100", C), Err(Refused::NotMine));
        assert_eq!(try_it(&own, false, "1", B), Err(Refused::GiverIsReplica));
        assert_eq!(try_it(&cluster(C), true, "1", B), Err(Refused::NotMine));
        assert_eq!(try_it(&own, true, "1", C), Err(Refused::ToReplica));
        assert_eq!(try_it(&own, true, "1", A), Err(Refused::ToMyself));
        let (id, at) = try_it(&own, true, "0-99", B).unwrap();
        assert_eq!((id.to_string().as_str(), at.port), (B, 2));
        let b = NodeId::new(B.as_bytes()).unwrap();
        own.update_marks(|marks| {
            marks.migrated = [1, 5].map(|slot| (Slot::new(slot).unwrap(), b)).into();
        });
        assert_eq!(try_it(&own, true, "4-6", B), Err(Refused::Migrated));
        assert!(try_it(&own, true, "2-4", B).is_ok(), "what lies between two that went");
    }

    #[test]
    fn refusals_to_import_come_in_their_order() {
        let own = cluster(A);
        assert_eq!(may_import(&own, false, range("200")), Err(Refused::TakerIsReplica));
        assert_eq!(may_import(&cluster(C), true, range("200")), Err(Refused::TakerIsReplica));
        assert_eq!(may_import(&own, true, range("99-100")), Err(Refused::Mine));
        assert_eq!(may_import(&own, true, range("100-200")), Ok(()));
        let said = Refused::Mismatch { known: None, got: range("7") }.to_string();
        assert_eq!(said, "mismatch slot, importing slot(s): -1, but got: 7");
        let said = Refused::Importing(range("7-9")).to_string();
        assert_eq!(said, "only one importing job is allowed, current importing: 7-9");
    }
}
