//! Whether clients who come through balancers reach a master.

use topology::Endpoint;

use crate::sources::is_hidden;
use crate::{Balancer, Node, Observed, Record};

/// Every balancer leads to the master, where clients come through balancers.
pub(super) fn is_reached(record: &Record, observed: &Observed, master: &Node) -> bool {
    !is_hidden(record, observed, master) && unled(record, observed, master).next().is_none()
}

/// The balancers that do not lead to the master, as far as they say.
pub(super) fn unled<'a>(
    record: &'a Record,
    observed: &'a Observed,
    master: &'a Node,
) -> impl Iterator<Item = &'a Balancer> {
    let staying = record.balancers.iter().filter(|balancer| !balancer.closing);
    staying.filter(move |balancer| {
        let seen = observed.balancers.get(&balancer.name);
        let in_force = seen.and_then(|seen| seen.in_force.as_ref());
        let leads = |announced: &Endpoint| {
            in_force.is_some_and(|in_force| {
                in_force.frontends.iter().any(|frontend| {
                    frontend.listen == *announced
                        && frontend.backend.as_ref().is_some_and(|at| at.node == master.id)
                })
            })
        };
        !master.announced_addresses().all(|announced| leads(&announced))
    })
}
