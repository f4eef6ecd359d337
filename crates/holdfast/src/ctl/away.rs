//! Verbs by which a controller keeps its hands off a cluster: for a while, or for good.
//!
//! What takes a cluster out of service is never done unasked: its consequences are told, and it has
//! to be said with the cluster's name.

use anyhow::{Context as _, Result, bail};
use api::grant::CommitMode;
use api::rest::{ClusterChange, ReleaseAnswer, ReleaseSpec, Status};
use clap::Subcommand;
use reqwest::Method;

use super::table::{json, render};
use super::{Context, Place};

#[derive(Debug, Subcommand)]
pub(crate) enum Pause {
    /// Of a whole cluster: a master that fails is not replaced before `resume`
    ///
    /// For the time of a maintenance. Leases and grants go on, a master that comes back serves
    /// again, and `failover shard` works as ever. `status` has an alarm as long as it lasts.
    Cluster {
        /// Its name; the only one if left out
        #[arg(conflicts_with = "cluster")]
        name: Option<String>,
        #[command(flatten)]
        place: Place,
        /// Why, for those who read `status`
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Resume {
    /// Of a whole cluster: failovers happen by themselves again
    Cluster {
        /// Its name; the only one if left out
        #[arg(conflicts_with = "cluster")]
        name: Option<String>,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Release {
    /// Let the nodes of a cluster go on without leases, and forget it
    ///
    /// Only a cluster in which everything is settled. It becomes asynchronous, `master-lease-mode`
    /// becomes `disabled` on every node, in its configuration file too where it has one, and the
    /// controller forgets the cluster. From then on nothing fails over. `import cluster` takes it
    /// back once the lease mode is what it was.
    Cluster {
        /// Its name
        name: String,
        /// Namespace; the only one if left out
        #[arg(short, long)]
        namespace: Option<String>,
        /// Do it; the name once more
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
    },
}

pub(crate) async fn pause(cx: &Context, pause: Pause) -> Result<()> {
    let Pause::Cluster { name, place, reason } = pause;
    let body = ClusterChange {
        paused: Some(true),
        reason: Some(reason).filter(|reason| !reason.is_empty()),
        ..ClusterChange::default()
    };
    let done = "automatic failover is paused: a master that fails is not replaced before `ctl resume cluster`";
    change(cx, &place.or(name), &body, done).await
}

pub(crate) async fn resume(cx: &Context, resume: Resume) -> Result<()> {
    let Resume::Cluster { name, place } = resume;
    let body = ClusterChange { paused: Some(false), ..ClusterChange::default() };
    change(cx, &place.or(name), &body, "failovers happen by themselves again").await
}

async fn change(cx: &Context, place: &Place, body: &ClusterChange, done: &str) -> Result<()> {
    let path = cx.cluster(place).await?;
    let value = cx.http.call(Method::PATCH, &path, Some(body)).await?;
    if cx.json { json(&value) } else { cx.say(done) }
}

pub(crate) async fn release(cx: &Context, release: Release) -> Result<()> {
    let Release::Cluster { name, namespace, yes } = release;
    let path = cx.named(namespace.as_deref(), &name).await?;
    let confirm = said(&name, yes.as_deref())?;
    let body = ReleaseSpec { confirm };
    let value = cx.http.call(Method::POST, &format!("{path}/release"), Some(&body)).await?;
    if cx.json {
        return json(&value);
    }
    let answer = serde_json::from_value(value).context("read the answer")?;
    cx.say(&released(cx.width, &name, &answer))
}

/// True if the name was said once more; an error if another one was.
fn said(name: &str, yes: Option<&str>) -> Result<bool> {
    match yes {
        Some(other) if other != name => {
            bail!("--yes {other}: the cluster is called {name}; nothing was changed")
        }
        said => Ok(said.is_some()),
    }
}

fn released(width: usize, name: &str, answer: &ReleaseAnswer) -> String {
    let verb = if answer.done { "go on" } else { "would go on" };
    let rows: Vec<_> = (answer.nodes.iter())
        .map(|node| vec![node.addr.clone(), node.lease_mode.clone(), "disabled".to_owned()])
        .collect();
    let mut out = format!(
        "The nodes of cluster {name} {verb} without leases, asynchronously, and without failover:\n\n{}",
        render(width, &["NODE", "LEASE MODE", "THEN"], &rows)
    );
    for node in &answer.nodes {
        if let Some(why) = &node.forgets {
            out.push_str(&format!(
                "\n{}: asks for leases again after a restart ({why}): set `master-lease-mode disabled` where it is started\n",
                node.addr
            ));
        }
    }
    out.push_str(match answer.done {
        true => "\nThe controller has forgotten it.\n",
        false => "\nNothing was changed; --yes and the name of the cluster does it.\n",
    });
    out
}

/// Before a cluster is forgotten: what that does to it, unless its name was said once more.
pub(crate) async fn may_forget(
    cx: &Context,
    path: &str,
    name: &str,
    yes: Option<&str>,
) -> Result<()> {
    if said(name, yes)? {
        return Ok(());
    }
    let status: Status = cx.http.get(&format!("{path}/status")).await?;
    bail!("{}", forgotten(name, &status))
}

fn forgotten(name: &str, status: &Status) -> String {
    let nodes = || status.shards.iter().flat_map(|shard| &shard.nodes);
    let blocks = |mode: &str| mode.starts_with("block");
    let answers = || nodes().filter_map(|node| node.answer.as_ref());
    let has_leases = answers().any(|answer| blocks(&answer.lease_mode));
    let what = match (has_leases, status.commit_mode) {
        _ if answers().next().is_none() => "none of them answers now",
        (false, _) => "they need no leases and go on, without failover",
        (true, CommitMode::Async) => {
            "their leases run out within a second or so: then every shard answers CLUSTERDOWN"
        }
        (true, CommitMode::InSync) => {
            "they go on for as long as no in-sync set has to change: a replica that goes away stops its shard's \
             writes, and so does a master that ends; nothing fails over"
        }
    };
    format!(
        "cluster {name} has {} nodes. If the controller forgets it, {what}.\n\
         To let them go on without leases: holdfast ctl release cluster {name}\n\
         To forget it all the same: holdfast ctl delete cluster {name} --yes {name}\n\
         Nothing was changed",
        nodes().count()
    )
}

#[cfg(test)]
mod tests {
    use api::rest::ReleasedNode;
    use serde_json::json;

    use super::*;

    fn status(commit_mode: &str, lease_mode: Option<&str>) -> Status {
        let answer = lease_mode.map(|mode| {
            json!({
                "age_ms": 1, "role": "master", "sequence": 1, "version": 1, "lease_mode": mode, "lease_remaining_ms": 1,
                "client_access": "any", "link_status": "up", "resync": "none", "paused": false, "loading": false
            })
        });
        let node = json!({
            "id": "a", "addr": "h:1", "announced": null, "role": "master", "health": "up", "settled": true,
            "answer": answer, "lag": null, "misses": 0, "error": null
        });
        let shard = json!({
            "index": 0, "state": "steady", "detail": "", "slot_ranges": [], "nodes": [node]
        });
        serde_json::from_value(json!({
            "namespace": "n", "name": "c", "version": 1, "topology_hash": "", "term": 1, "healthy": true,
            "commit_mode": commit_mode, "shards": [shard], "balancers": [], "alarms": []
        }))
        .expect("a status")
    }

    #[test]
    fn what_forgetting_a_cluster_does_is_told() {
        let told = |mode, lease| forgotten("c", &status(mode, lease));
        assert!(told("async", Some("block-all")).contains("every shard answers CLUSTERDOWN"));
        assert!(told("in-sync", Some("block-write")).contains("nothing fails over"));
        assert!(told("async", Some("disabled")).contains("need no leases"));
        assert!(told("async", None).contains("none of them answers"));
        assert!(told("async", None).contains("ctl delete cluster c --yes c\n"));
    }

    #[test]
    fn a_name_has_to_be_said_once_more() {
        assert!(!said("c", None).expect("nothing said"));
        assert!(said("c", Some("c")).expect("said"));
        let other = said("c", Some("d")).expect_err("another").to_string();
        assert!(other.contains("is called c"), "{other}");
    }

    #[test]
    fn a_node_that_forgets_it_is_told() {
        let node = ReleasedNode {
            addr: "h:1".into(),
            lease_mode: "block-all".into(),
            forgets: Some("no file".into()),
        };
        let mut answer = ReleaseAnswer { nodes: vec![node], done: true };
        assert!(
            released(100, "c", &answer)
                .contains("h:1: asks for leases again after a restart (no file)")
        );
        answer.done = false;
        assert!(
            released(100, "c", &answer).contains("would go on")
                && released(100, "c", &answer).contains("--yes")
        );
    }
}
