//! Verbs by which an operator decides what a cluster promises, and what it gives up.

use anyhow::{Context as _, Result};
use api::grant::CommitMode;
use api::rest::{ClusterAnswer, ClusterChange, LossAnswer, LossSpec};
use clap::Subcommand;
use reqwest::Method;

use super::table::{json, render, text};
use super::{Context, Place, ids};

#[derive(Debug, Subcommand)]
pub(crate) enum Set {
    /// Of a whole cluster: when writes count as done
    ///
    /// Each shard changes with its next epoch, which its master gets as soon as it answers; connections
    /// with replies under way at that moment may be closed. On the way to `in-sync` a shard begins with
    /// its master alone: `status` says DEGRADED until the replicas are in the set.
    Cluster {
        #[command(flatten)]
        place: Place,
        /// `in-sync`: once every member of the in-sync set has it; `async`: once the master has it
        #[arg(long)]
        commit_mode: Option<CommitMode>,
        /// Refuse writes below so many members of the in-sync set, the master included
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        min_in_sync: Option<u32>,
    },
}

pub(crate) async fn set(cx: &Context, set: Set) -> Result<()> {
    let Set::Cluster { place, commit_mode, min_in_sync } = set;
    let path = cx.cluster(&place).await?;
    let before: ClusterAnswer = cx.http.get(&path).await?;
    let body = ClusterChange { commit_mode, min_in_sync };
    let value = cx.http.call(Method::PATCH, &path, Some(&body)).await?;
    if cx.json {
        return json(&value);
    }
    let now: ClusterAnswer = serde_json::from_value(value).context("read the cluster")?;
    let is_same = now.cluster.commit_mode == before.cluster.commit_mode
        && now.cluster.min_in_sync == before.cluster.min_in_sync;
    text(match is_same {
        true => "nothing to change: it is so already\n",
        false => "changed; `status` shows when it is in force\n",
    })
}

#[derive(Debug, Subcommand)]
pub(crate) enum ShardVerb {
    /// Let a node go on although nobody holds what the in-sync set acknowledged: gives that up
    ///
    /// Only for a shard whose members' data was all lost or replaced; refused as long as a member of its set answers
    /// with its data. Without --yes it changes nothing and says what would be given up. With it the old
    /// master is fenced as in any failover, the node goes on in a new epoch, alone in its set, and the
    /// other nodes follow it. The decision stands in `events`.
    AcceptLoss {
        /// Index of the shard
        index: usize,
        #[command(flatten)]
        place: Place,
        /// The node that goes on: its id, the beginning of it, or its address
        #[arg(long)]
        node: String,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn shard(cx: &Context, verb: ShardVerb) -> Result<()> {
    let ShardVerb::AcceptLoss { index, place, node, yes } = verb;
    let path = format!("{}/shards/{index}/accept-loss", cx.cluster(&place).await?);
    let node_id = ids::find(cx, &place, &node).await?.id;
    let body = LossSpec { node_id, confirm: yes };
    let value = cx.http.call(Method::POST, &path, Some(&body)).await?;
    if cx.json {
        return json(&value);
    }
    let answer = serde_json::from_value(value).context("read the answer")?;
    text(&loss_text(cx.width, index, &answer))
}

fn loss_text(width: usize, index: usize, answer: &LossAnswer) -> String {
    let LossAnswer { addr, node_epoch, node_sequence, epoch, .. } = answer;
    let rows: Vec<Vec<String>> = (answer.members.iter())
        .map(|member| {
            let seen = match (member.seen_epoch, member.seen_sequence) {
                (Some(epoch), Some(sequence)) => format!("{epoch}/{sequence}"),
                _ => "-".to_owned(),
            };
            vec![member.node.clone(), member.why.clone(), seen]
        })
        .collect();
    let verb = if answer.done { "goes on" } else { "would go on" };
    let given = if answer.done { "was given up" } else { "would be given up" };
    let mut out = format!(
        "shard {index}: {addr} {verb} as master with what it has: epoch {node_epoch}, sequence {node_sequence}.\n\
         Everything that was acknowledged and that it does not hold {given}: no member of the\n\
         in-sync set of epoch {epoch} answers with its data.\n\n{}",
        render(width, &["MEMBER", "WHY IT DOES NOT COUNT", "LAST SEEN AT"], &rows)
    );
    if !answer.done {
        out.push_str(
            "\nIf one of them can come back with its data, bring it back instead: it will take over by itself.\n\
             Nothing was changed; --yes does it.\n",
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use api::rest::LostMember;

    use super::*;

    #[test]
    fn what_is_given_up_is_said_before_and_after() {
        let member = LostMember {
            node: "a:1".into(),
            why: "does not answer".into(),
            seen_epoch: Some(3),
            seen_sequence: Some(100),
        };
        let mut answer = LossAnswer {
            addr: "b:1".into(),
            node_epoch: 2,
            node_sequence: 90,
            epoch: 3,
            members: vec![member],
            done: false,
        };
        let before = loss_text(100, 0, &answer);
        assert!(before.contains("would be given up") && before.contains("--yes does it"));
        assert!(before.contains("a:1     does not answer        3/100"), "{before}");
        answer.done = true;
        let after = loss_text(100, 0, &answer);
        assert!(after.contains("was given up") && !after.contains("--yes"), "{after}");
    }
}
