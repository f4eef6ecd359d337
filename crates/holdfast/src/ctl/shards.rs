//! Shards that come and go: `shard add`, `remove` and `drain`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use api::rest::{NodeAnswer, NodeStatus, ShardAnswer, ShardSpec, ShardStatus, Status};
use clap::Subcommand;
use reqwest::Method;
use topology::Endpoint;

use super::ids::ShardWord;
use super::moves::{self, How, What};
use super::table::json;
use super::words;
use super::{Context, Place};

/// How long the new shard's way is waited for.
const OPENS: Duration = Duration::from_secs(10);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Subcommand)]
pub(crate) enum SlotsVerb {
    /// Add a shard without slots, of nodes that hold no topology yet
    ///
    /// Its id stays the same whatever else is added or removed. The balancers open the announced
    /// endpoints as frontends, so those must be free there. Then `ctl rebalance` or `ctl move
    /// slots` gives it slots. `ctl create shard` is for scripts that were written for kvctl: it
    /// announces nothing, and waits for nothing.
    Add {
        /// Addresses, host:port[/port of TLS alone],…; the first is the master
        #[arg(long, value_delimiter = ',', required = true)]
        nodes: Vec<String>,
        /// Announced endpoints in the order of --nodes, host:port[/port of TLS alone] or `-` for
        /// none
        #[arg(long, value_delimiter = ',', value_name = "ENDPOINTS")]
        announce: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Remove a shard that has no slots and is in no move; its nodes are left as they are
    Remove {
        /// Index or id of the shard
        index: ShardWord,
        #[command(flatten)]
        place: Place,
    },
    /// Move all slots of a shard to the others, evenly
    ///
    /// Shows the moves and asks; `--yes` does not ask. Once `ctl moves` shows no more of them, the
    /// shard can be removed.
    Drain {
        /// Index or id of the shard
        index: ShardWord,
        /// What the others are to be as even in as what they get allows
        #[arg(long, value_enum, default_value = "slots")]
        by: What,
        #[command(flatten)]
        how: How,
    },
}

pub(crate) async fn run(cx: &Context, verb: SlotsVerb) -> Result<()> {
    match verb {
        SlotsVerb::Add { nodes, announce, place } => add(cx, &nodes, &announce, &place).await,
        SlotsVerb::Drain { index, by, how } => moves::drain(cx, &index, by, how).await,
        SlotsVerb::Remove { index, place } => {
            let path = format!("{}/shards/{index}", cx.cluster(&place).await?);
            let value = cx.http.call(Method::DELETE, &path, None::<&()>).await?;
            if cx.json { json(&value) } else { cx.say(&format!("shard {index} removed")) }
        }
    }
}

async fn add(cx: &Context, nodes: &[String], announce: &[String], place: &Place) -> Result<()> {
    let nodes = words::nodes(nodes, announce)?;
    let base = cx.cluster(place).await?;
    let body = ShardSpec { nodes, password: None };
    let value = cx.http.call(Method::POST, &format!("{base}/shards"), Some(&body)).await?;
    if cx.json {
        return json(&value);
    }
    let added: ShardAnswer = serde_json::from_value(value).context("read the shard")?;
    let id = added.shard.id;
    let started = tokio::time::Instant::now();
    loop {
        let status: Status = cx.http.get(&format!("{base}/status")).await?;
        let shard = status.shards.iter().find(|shard| shard.id == id);
        let shard = shard.with_context(|| format!("shard {id} was removed meanwhile"))?;
        let mut missing = missing(&status, shard);
        if missing.is_empty() || started.elapsed() >= OPENS {
            missing.extend(unreached(&status, shard));
            return cx.say(&added_text(shard, &missing));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What is not yet as it should be for the shard to take slots.
fn missing(status: &Status, shard: &ShardStatus) -> Vec<String> {
    let settled = shard.nodes.iter().filter(|node| !node.settled);
    let mut missing: Vec<String> =
        settled.map(|node| format!("{} does not play its role yet", node.addr)).collect();
    let Some(master) = master(shard) else { return missing };
    for (balancer, endpoint) in
        status.balancers.iter().flat_map(|balancer| listens(master).map(move |at| (balancer, at)))
    {
        let frontend = balancer.frontends.iter().find(|frontend| frontend.listen == endpoint);
        if frontend.and_then(|frontend| frontend.node.as_ref()) != Some(&master.id) {
            let error = balancer.error.as_ref().or(frontend.and_then(|f| f.error.as_ref()));
            let why = error.map(|error| format!(": {error}")).unwrap_or_default();
            missing.push(format!(
                "balancer {} has no frontend at {endpoint} yet that leads to {}{why}",
                balancer.name, master.addr
            ));
        }
    }
    missing
}

fn master(shard: &ShardStatus) -> Option<&NodeStatus> {
    shard.nodes.iter().find(|node| node.role == "master")
}

/// That no client comes to the shard, which no wait mends.
fn unreached(status: &Status, shard: &ShardStatus) -> Option<String> {
    let is_closed = |answer: &NodeAnswer| answer.client_access == "balancer-only";
    let master = master(shard).filter(|master| {
        master.announced.is_none()
            && !status.balancers.is_empty()
            && master.answer.as_ref().is_some_and(is_closed)
    })?;
    Some(format!(
        "no client reaches {0}, which takes them through balancers only: `ctl node announce {0} HOST:PORT`",
        master.addr
    ))
}

/// Where balancers are to listen for it.
fn listens(node: &NodeStatus) -> impl Iterator<Item = String> {
    let announced = node.announced.as_deref().and_then(words::endpoint);
    let tls = announced.clone().zip(node.announced_tls_port);
    let tls = tls.map(|(endpoint, port)| Endpoint { port, ..endpoint });
    announced.into_iter().chain(tls).map(|endpoint| endpoint.to_string())
}

fn added_text(shard: &ShardStatus, missing: &[String]) -> String {
    let ShardStatus { index, id, nodes, .. } = shard;
    let nodes = words::counted(nodes.len(), "node");
    let mut out = format!("shard {index} of {nodes} added, without slots; its id is {id}\n");
    for line in missing {
        out.push_str(&format!("not yet: {line}\n"));
    }
    out.push_str(&format!(
        "`ctl rebalance` gives it its share, `ctl move slots … --to {index}` some slots\n"
    ));
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_new_shard_is_not_ready_before_every_balancer_leads_to_it() {
        let node = json!({
            "id": "n", "addr": "10.0.0.5:6666", "announced": "lb:7005", "role": "master",
            "health": "up", "settled": true, "answer": null, "lag": null, "misses": 0,
            "error": null,
        });
        let mut status: Status = serde_json::from_value(json!({
            "namespace": "n", "name": "c", "version": 7, "topology_hash": "0", "term": 1,
            "healthy": true, "alarms": [], "shards": [{
                "index": 3, "id": "00000000000000aa", "state": "steady", "detail": "",
                "slot_ranges": [], "nodes": [node],
            }],
            "balancers": [{
                "name": "lb1", "kind": "haproxy", "endpoint": "", "in_force": false,
                "error": "no such frontend", "frontends": [],
            }],
        }))
        .unwrap();
        let told = missing(&status, &status.shards[0]);
        let why = "balancer lb1 has no frontend at lb:7005 yet that leads to 10.0.0.5:6666: no such frontend";
        assert_eq!(told, [why]);
        let text = added_text(&status.shards[0], &told);
        assert!(text.contains("its id is 00000000000000aa") && text.contains("not yet: balancer"));
        status.balancers[0].frontends =
            serde_json::from_value(json!([{"listen": "lb:7005", "node": "n"}])).unwrap();
        assert_eq!(missing(&status, &status.shards[0]), [""; 0]);
        status.shards[0].nodes[0].settled = false;
        assert_eq!(missing(&status, &status.shards[0]).len(), 1);
        let node = &mut status.shards[0].nodes[0];
        (node.settled, node.announced) = (true, None);
        assert_eq!(unreached(&status, &status.shards[0]), None, "clients may dial it");
        let answer = json!({
            "age_ms": 1, "role": "master", "sequence": 1, "version": 7, "lease_mode": "block-all",
            "lease_remaining_ms": 1, "client_access": "balancer-only", "link_status": "up",
            "resync": "none", "paused": false, "loading": false,
        });
        status.shards[0].nodes[0].answer = Some(serde_json::from_value(answer).unwrap());
        let told = unreached(&status, &status.shards[0]).unwrap();
        assert!(told.contains("ctl node announce 10.0.0.5:6666"), "{told}");
        assert_eq!(missing(&status, &status.shards[0]), [""; 0], "nobody waits for that");
    }
}
