//! Verbs by which an operator decides what a cluster promises, and what it gives up: `set`, `shard
//! accept-loss` and `shard restore-deposed`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use api::grant::CommitMode;
use api::rest::{
    ClusterAnswer, ClusterChange, LossAnswer, LossSpec, MaxLag, RestoreAnswer, RestoreSpec,
};
use clap::Subcommand;
use reqwest::Method;

use super::http::PATIENCE;
use super::ids::{self, ShardWord};
use super::shards::{self, SlotsVerb};
use super::table::{json, render};
use super::{Context, Place};

#[derive(Debug, Subcommand)]
pub(crate) enum Set {
    /// Of a whole cluster: when writes count as done, and the password of its nodes
    ///
    /// Each shard changes with its next epoch, which its master gets as soon as it answers;
    /// connections with replies under way at that moment may be closed. On the way to `in-sync` a
    /// shard begins with its master alone: `status` says DEGRADED until the replicas are in the
    /// set.
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
        .args(["commit_mode", "min_in_sync", "password_file", "max_lag"]))]
    Cluster {
        /// Its name; the only one if left out
        #[arg(conflicts_with = "cluster")]
        name: Option<String>,
        #[command(flatten)]
        place: Place,
        /// `in-sync`: once every member of the in-sync set has it; `async`: once the master has it
        #[arg(long)]
        commit_mode: Option<CommitMode>,
        /// Refuse writes below so many members of the in-sync set, the master included
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        min_in_sync: Option<u32>,
        /// File with the password that the controller says to the nodes from now on, their
        /// `peer-auth`; `-`: standard input. Nodes must take it already, as `peer-auth-also`
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// With `async`: nobody is promoted that is known to lack more writes than so many; `none`
        /// for no bound
        #[arg(long, value_name = "WRITES")]
        max_lag: Option<MaxLag>,
    },
}

/// A secret in a file, or from standard input. The end of its line is not part of it.
fn secret(file: &Path) -> Result<String> {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
            .context("read the password from standard input")?
    } else {
        std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?
    };
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

pub(crate) async fn set(cx: &Context, set: Set) -> Result<()> {
    let Set::Cluster { name, place, commit_mode, min_in_sync, password_file, max_lag } = set;
    let path = cx.cluster(&place.or(name)).await?;
    let before: ClusterAnswer = cx.http.get(&path).await?;
    let password = password_file.as_deref().map(secret).transpose()?;
    let is_secret = password.is_some();
    let body =
        ClusterChange { commit_mode, min_in_sync, max_lag, password, ..ClusterChange::default() };
    let value = cx.http.call(Method::PATCH, &path, Some(&body)).await?;
    if cx.json {
        return json(&value);
    }
    let now: ClusterAnswer = serde_json::from_value(value).context("read the cluster")?;
    let is_same = !is_secret
        && max_lag.is_none()
        && now.cluster.commit_mode == before.cluster.commit_mode
        && now.cluster.min_in_sync == before.cluster.min_in_sync;
    cx.say(match is_same {
        true => "nothing to change: it is so already",
        false => "changed; `status` shows when it is in force",
    })
}

#[derive(Debug, Subcommand)]
pub(crate) enum ShardVerb {
    #[command(flatten)]
    Slots(SlotsVerb),
    /// Let a node go on although nobody holds what the in-sync set acknowledged: gives that up
    ///
    /// Only for a shard whose members' data was all lost or replaced; refused as long as a member
    /// of its set answers with its data. Without --yes it changes nothing and says what would be
    /// given up. With it the old master is fenced as in any failover, the node goes on in a new
    /// epoch, alone in its set, and the other nodes follow it. The decision stands in `events`.
    AcceptLoss {
        /// Index or id of the shard
        index: ShardWord,
        #[command(flatten)]
        place: Place,
        /// The node that goes on: its id, the beginning of it, or its address
        #[arg(long)]
        node: String,
        /// Do it
        #[arg(long)]
        yes: bool,
        /// Do it although a node has more than this one, in service or in its `db.deposed`
        #[arg(long)]
        despite_deposed: bool,
        /// Do it although these slots were moved to the shard above what the node has, so that it
        /// never had them: all that are named without --yes, such as 0-99,200
        #[arg(long, value_name = "SLOTS")]
        give_up: Option<String>,
    },
    /// Let a node put what lies in its `db.deposed` back in service
    ///
    /// A full sync does not remove the data it takes the place of, where that may hold what nobody
    /// else has: it lies in `db.deposed` of its node. This exchanges both, whole or not at all:
    /// what the node has now lies in `db.deposed` afterwards. A node that serves as master under a
    /// grant refuses. Data that the shard's in-sync set still counts takes over by itself then;
    /// otherwise `accept-loss` for that node follows. Without --yes it changes nothing and says
    /// what lies where.
    RestoreDeposed {
        /// Index or id of the shard
        index: ShardWord,
        #[command(flatten)]
        place: Place,
        /// The node: its id, the beginning of it, or its address
        #[arg(long)]
        node: String,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn shard(cx: &Context, verb: ShardVerb) -> Result<()> {
    let (index, place, node, spec) = match verb {
        ShardVerb::RestoreDeposed { index, place, node, yes } => {
            let node = ids::find(cx, &place, &node).await?;
            index.is_of(&node)?;
            let node_id = node.id;
            return restore(cx, &index, &place, RestoreSpec { node_id, confirm: yes }).await;
        }
        ShardVerb::Slots(verb) => return shards::run(cx, verb).await,
        ShardVerb::AcceptLoss { index, place, node, yes, despite_deposed, give_up } => {
            let node_id = String::new();
            (index, place, node, LossSpec { node_id, confirm: yes, despite_deposed, give_up })
        }
    };
    let path = format!("{}/shards/{index}/accept-loss", cx.cluster(&place).await?);
    let node = ids::find(cx, &place, &node).await?;
    index.is_of(&node)?;
    let body = LossSpec { node_id: node.id, ..spec };
    // The longest lease of the old master is waited for.
    let patience = Duration::from_secs(15) + PATIENCE;
    let value = cx.http.call_long(Method::POST, &path, Some(&body), patience).await?;
    if cx.json {
        return json(&value);
    }
    let answer = serde_json::from_value(value).context("read the answer")?;
    cx.say(&loss_text(cx.width, &index, &answer))
}

async fn restore(cx: &Context, index: &ShardWord, place: &Place, spec: RestoreSpec) -> Result<()> {
    let path = format!("{}/shards/{index}/restore-deposed", cx.cluster(place).await?);
    let value = cx.http.call(Method::POST, &path, Some(&spec)).await?;
    if cx.json {
        return json(&value);
    }
    let answer = serde_json::from_value(value).context("read the answer")?;
    cx.say(&restore_text(index, &answer))
}

fn restore_text(index: &ShardWord, answer: &RestoreAnswer) -> String {
    let RestoreAnswer { addr, deposed_epoch, deposed_sequence, node_epoch, node_sequence, .. } =
        answer;
    if answer.done {
        return format!(
            "shard {index}: {addr} has its data of epoch {deposed_epoch}, sequence {deposed_sequence} in service again.\n\
             What it had (epoch {node_epoch}, sequence {node_sequence}) lies in its db.deposed now.\n\
             `status` shows whether it takes over by itself; if the shard stays stuck, `accept-loss` lets it.\n"
        );
    }
    format!(
        "shard {index}: {addr} has epoch {node_epoch}, sequence {node_sequence} in service, and\n\
         epoch {deposed_epoch}, sequence {deposed_sequence} in its db.deposed. Both would change places.\n\
         Nothing was changed; --yes does it.\n"
    )
}

fn loss_text(width: usize, index: &ShardWord, answer: &LossAnswer) -> String {
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
         Everything that was acknowledged and that it does not hold {given}",
    );
    out.push_str(&match rows.is_empty() {
        true => ".\n".to_owned(),
        false => format!(
            ": no member of the\n\
             in-sync set of epoch {epoch} answers with its data.\n\n{}",
            render(width, &["MEMBER", "WHY IT DOES NOT COUNT", "LAST SEEN AT"], &rows)
        ),
    });
    let end = |end: Option<(u64, u64)>| {
        end.map_or_else(|| "-".to_owned(), |(epoch, sequence)| format!("{epoch}/{sequence}"))
    };
    let rows: Vec<Vec<String>> = (answer.holds.iter())
        .map(|held| {
            let name =
                if held.answers { held.node.clone() } else { format!("{} (silent)", held.node) };
            vec![name, held.id.clone(), end(held.at), end(held.deposed)]
        })
        .collect();
    if !rows.is_empty() {
        out.push_str("\nWhat lies where, as epoch/sequence:\n\n");
        out.push_str(&render(width, &["NODE", "ID", "IN SERVICE", "IN DB.DEPOSED"], &rows));
    }
    let here = Some((*node_epoch, *node_sequence));
    for held in answer.holds.iter().filter(|held| held.answers && held.at > here) {
        out.push_str(&format!(
            "\n{} has more in service than {addr}: let that one go on (`--node {}`).\n\
             Going on without it takes --despite-deposed.\n",
            held.node, held.id
        ));
    }
    let more = answer.holds.iter().filter(|held| held.deposed > here);
    for held in more {
        out.push_str(&format!(
            "\nThe db.deposed of {} holds more than {addr}: `shard restore-deposed {index} --node {}` brings it\n\
             back. Going on without it takes --despite-deposed.\n",
            held.node, held.id
        ));
    }
    out.push_str(&never_had_text(answer));
    if !answer.done {
        out.push_str(
            "\nIf one of them can come back with its data, bring it back instead: it will take over by itself.\n\
             Nothing was changed; --yes does it.\n",
        );
    }
    out
}

/// Slots that the node would serve as empty, or does.
fn never_had_text(answer: &LossAnswer) -> String {
    let mut out = String::new();
    for never in &answer.never_had {
        out += &format!(
            "\nSlots {} came to the shard by move {}, above what {} has: it never had them.\n",
            never.slots, never.move_id, answer.addr
        );
        if let Some(giver) = never.giver {
            out += &format!("Shard {giver}, which gave them, may not have deleted them yet.\n");
        }
    }
    match &answer.give_up {
        Some(slots) if !answer.done => {
            out += &format!("It would serve them as empty. That takes --give-up {slots}.\n");
        }
        _ => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use api::rest::{LostMember, NeverHad, NodeHolding};

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
            holds: vec![NodeHolding {
                id: "c".into(),
                node: "c:1".into(),
                answers: true,
                at: Some((0, 0)),
                deposed: Some((3, 95)),
            }],
            never_had: vec![NeverHad { move_id: 7, slots: "0-9".into(), giver: Some(2) }],
            give_up: Some("0-9".into()),
            done: false,
        };
        let before = loss_text(100, &"0".parse().unwrap(), &answer);
        assert!(before.contains("would be given up") && before.contains("--yes does it"));
        assert!(before.contains("a:1     does not answer        3/100"), "{before}");
        assert!(before.contains("c:1   c   0/0         3/95"), "{before}");
        assert!(before.contains("`shard restore-deposed 0 --node c`"), "{before}");
        assert!(
            before.contains("Slots 0-9 came to the shard by move 7, above what b:1"),
            "{before}"
        );
        assert!(before.contains("Shard 2, which") && before.contains("--give-up 0-9."), "{before}");
        assert!(!before.contains("more in service"), "{before}");
        answer.holds[0].at = Some((2, 91));
        let told = loss_text(100, &"0".parse().unwrap(), &answer);
        assert!(told.contains("c:1 has more in service than b:1"), "{told}");
        answer.holds[0].answers = false;
        let told = loss_text(100, &"0".parse().unwrap(), &answer);
        assert!(!told.contains("more in service"), "{told}");
        answer.done = true;
        let after = loss_text(100, &"0".parse().unwrap(), &answer);
        assert!(after.contains("was given up") && !after.contains("--yes"), "{after}");
        assert!(after.contains("by move 7") && !after.contains("--give-up"), "{after}");
        // Of an asynchronous shard nobody is a member of anything.
        answer.members.clear();
        let text = loss_text(100, &"0".parse().unwrap(), &answer);
        assert!(
            text.contains("does not hold was given up.\n") && !text.contains("MEMBER"),
            "{text}"
        );
    }
}
