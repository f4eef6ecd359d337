//! `/accept-loss` of a shard: nobody holds what its in-sync set acknowledged, and an operator lets
//! a node go on.

use std::time::Duration;

use api::moves::Slots;
use api::rest::{Actor, LossAnswer, LossSpec, LostMember, NeverHad, NodeHolding};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;
use planner::{Holding, Intent, Loss};

use super::error::{ApiError, ok};
use super::intent::{self, Asked};
use super::{App, body, find, shard_index};
use crate::cluster::Cluster;

/// The longest lease of an old master that cannot be reached, and a slow store.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn accept(
    registry: App,
    Extension(by): Extension<Actor>,
    Path((ns, name, index)): Path<(String, String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let spec: LossSpec = body(&bytes)?;
    let record = cluster.record();
    let index = shard_index(&index, &record)?;
    let (addr, loss) = judged(&cluster, index, &spec.node_id)?;
    if !spec.confirm {
        return Ok(ok(answer(addr, loss, false)));
    }
    if !spec.despite_deposed {
        refuse_to_overlook(index, &addr, &loss)?;
    }
    refuse_unless_named(index, &addr, &loss, spec.give_up.as_deref())?;
    let intent = Intent {
        id: intent::new_id(),
        preferred: Some(spec.node_id.clone()),
        force: true,
        sync_timeout_ms: 0,
        pause_ms: 0,
        accept_loss: true,
    };
    let reason = format!(
        "shard {index}: AN OPERATOR ACCEPTED ITS LOSS: {addr} goes on from epoch {} sequence {}; \
         given up: {}",
        loss.node_at.0,
        loss.node_at.1,
        told(&loss)
    );
    tracing::warn!(cluster = %cluster.label(), "{reason}");
    let asked = Asked { index, intent, reason, by };
    intent::carry_out(&cluster, asked, PATIENCE, |_, _| Ok(())).await?;
    Ok(ok(answer(addr, loss, true)))
}

/// Data that goes further is not given up by the way: neither a node's that serves it, nor what
/// lies in a `db.deposed`.
fn refuse_to_overlook(index: usize, addr: &str, loss: &Loss) -> Result<(), ApiError> {
    let of = |holding: &Holding, end: Option<(u64, u64)>| {
        let (epoch, sequence) = end.unwrap_or_default();
        format!("{} (node {}, epoch {epoch}, sequence {sequence})", holding.node, holding.id)
    };
    let served: Vec<String> = loss.passed_over().map(|one| of(one, one.at)).collect();
    let deposed: Vec<String> = loss.overlooked().map(|one| of(one, one.deposed)).collect();
    let mut found = Vec::new();
    if !served.is_empty() {
        let nodes = served.join(", ");
        found.push(format!("is in service at {nodes}: let that one go on (`--node ID`)"));
    }
    if !deposed.is_empty() {
        found.push(format!(
            "lies in db.deposed of {}: `ctl shard restore-deposed {index} --node ID` brings it back",
            deposed.join(", ")
        ));
    }
    if found.is_empty() {
        return Ok(());
    }
    let (epoch, sequence) = loss.node_at;
    Err(ApiError::conflict(format!(
        "shard {index}: more than {addr} has (epoch {epoch}, sequence {sequence}) {}; to give it up, \
         say so with `--despite-deposed`",
        found.join(", and ")
    )))
}

/// Slots that the node never had are given up only where each of them is named (rule M6).
fn refuse_unless_named(
    index: usize,
    addr: &str,
    loss: &Loss,
    named: Option<&str>,
) -> Result<(), ApiError> {
    let mut of = Vec::new();
    for piece in named.unwrap_or_default().split(',').filter(|piece| !piece.is_empty()) {
        let slots: Slots = piece
            .trim()
            .parse()
            .map_err(|_| ApiError::bad(format!("give_up is {piece}; accepted: 0-99,200")))?;
        of.push(slots);
    }
    let is_named = |slot: u16| of.iter().any(|slots| slots.contains(slot));
    let all = loss.slots_never_had();
    if all.iter().all(|&(first, last)| (first..=last).all(is_named)) {
        return Ok(());
    }
    Err(ApiError::conflict(format!(
        "shard {index}: slots {0} were moved to the shard above what {addr} has, so it never had them and \
         would serve them as empty: to give them up, say so with `--give-up {0}`",
        ranges(&all)
    )))
}

fn ranges(all: &[(u16, u16)]) -> String {
    let one = |&(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    all.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Address of the node, and what is lost if it goes on.
fn judged(cluster: &Cluster, index: usize, id: &str) -> Result<(String, Loss), ApiError> {
    let policy = &cluster.shared.policy;
    let state = cluster.state.lock();
    let loss = planner::loss(&state.record, &state.observed, policy, index, id);
    let loss = loss.map_err(|why| ApiError::conflict(format!("shard {index}: {why}")))?;
    let node = state.record.node(id).ok_or_else(|| ApiError::not_found("node: not found"))?;
    Ok((node.local.to_string(), loss))
}

fn told(loss: &Loss) -> String {
    let member = |member: &planner::MemberLoss| match member.seen_at {
        Some((epoch, sequence)) => {
            format!("{} ({}, last seen at {epoch}/{sequence})", member.node, member.why)
        }
        None => format!("{} ({})", member.node, member.why),
    };
    let members: Vec<String> = loss.members.iter().map(member).collect();
    let of_set =
        format!("what only the in-sync set of epoch {} held, {}", loss.epoch, members.join(", "));
    let of_set = Some(of_set).filter(|_| !members.is_empty());
    let never = ranges(&loss.slots_never_had());
    let never = Some(format!("slots {never}, which it never had")).filter(|_| !never.is_empty());
    let all: Vec<String> = of_set.into_iter().chain(never).collect();
    match all.is_empty() {
        // Records of earlier versions do not say which.
        true => "what was moved to the shard above that".to_owned(),
        false => all.join("; "),
    }
}

fn held(holding: Holding) -> NodeHolding {
    let Holding { id, node, is_up, at, deposed } = holding;
    NodeHolding { id, node, answers: is_up, at, deposed }
}

fn answer(addr: String, loss: Loss, done: bool) -> LossAnswer {
    let member = |member: planner::MemberLoss| LostMember {
        node: member.node,
        why: member.why,
        seen_epoch: member.seen_at.map(|at| at.0),
        seen_sequence: member.seen_at.map(|at| at.1),
    };
    let give_up = Some(ranges(&loss.slots_never_had())).filter(|slots| !slots.is_empty());
    let never = |never: planner::NeverHad| NeverHad {
        move_id: never.id.0,
        slots: never.slots.to_string(),
        giver: never.giver,
    };
    LossAnswer {
        addr,
        node_epoch: loss.node_at.0,
        node_sequence: loss.node_at.1,
        epoch: loss.epoch,
        members: loss.members.into_iter().map(member).collect(),
        holds: loss.holds.into_iter().map(held).collect(),
        never_had: loss.never_had.into_iter().map(never).collect(),
        give_up,
        done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_a_node_never_had_are_to_be_named_one_and_all() {
        let never = |id: u64, slots: &str| planner::NeverHad {
            id: api::moves::MoveId(id),
            slots: slots.parse().unwrap(),
            giver: None,
        };
        let mut loss = Loss {
            epoch: 3,
            members: Vec::new(),
            node_at: (3, 98),
            holds: Vec::new(),
            never_had: Vec::new(),
        };
        let may = |loss: &Loss, named: Option<&str>| refuse_unless_named(0, "a:1", loss, named);
        assert!(may(&loss, None).is_ok());
        assert_eq!(told(&loss), "what was moved to the shard above that");
        loss.never_had = vec![never(7, "20-25"), never(9, "50")];
        for wrong in [None, Some(""), Some("20-25"), Some("20-24,50"), Some("x")] {
            assert!(may(&loss, wrong).is_err(), "{wrong:?}");
        }
        for right in ["20-25,50", "0-16383", "50, 20-25"] {
            assert!(may(&loss, Some(right)).is_ok(), "{right}");
        }
        assert_eq!(told(&loss), "slots 20-25,50, which it never had");
        let shown = answer("a:1".to_owned(), loss, false);
        assert_eq!(shown.give_up.as_deref(), Some("20-25,50"));
        assert_eq!(shown.never_had.len(), 2);
    }
}
