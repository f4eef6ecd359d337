//! Counters and the text of `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::health::Health;
use api::rest::{BalancerStatus, Move, NodeStatus, ShardStatus, Status};
use metrics::controller as rows;
use metrics::{Metric, Page};
use planner::ShardState;
use planner::moves::Phase;

use crate::store::{Measures, Times};

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the controller counts since its start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) heartbeat_misses: Counter,
    pub(crate) pushes: Counter,
    pub(crate) record_changes: Counter,
    pub(crate) topology_changes: Counter,
    pub(crate) failovers: Counter,
    pub(crate) switchovers: Counter,
    pub(crate) lost_writes: Counter,
    pub(crate) moves_done: Counter,
    pub(crate) moves_given_up: Counter,
    pub(crate) slots_moved: Counter,
    pub(crate) requests: Counter,
    pub(crate) refused: Counter,
}

/// What the page tells of this process, beside its counters.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) term: u64,
    /// What `/healthz` says.
    pub(crate) is_ready: bool,
    /// Since the store was last written; `None` before.
    pub(crate) store_age: Option<Duration>,
    /// Of an etcd.
    pub(crate) etcd: Option<Measures>,
    /// Records that could not be read.
    pub(crate) unread: usize,
    /// Unix time; `None` without a certificate.
    pub(crate) certificate_ends_s: Option<i64>,
}

/// The page: what `metrics::controller` lists.
pub(crate) fn render(process: &Process, counters: &Counters, clusters: &[Status]) -> String {
    let Process { term, is_ready, store_age, ref etcd, unread, certificate_ends_s } = *process;
    let mut page = Page::default();
    page.family(&rows::BUILD_INFO, [(env!("CARGO_PKG_VERSION"), 1)]);
    page.value(&rows::READY, u8::from(is_ready));
    page.value(&rows::TERM, term);
    for (metric, counter) in COUNTERS {
        page.value(metric, counter(counters).get());
    }
    if let Some(age) = store_age {
        page.value(&rows::STORE_WRITE_AGE_SECONDS, age.as_secs());
    }
    if let Some(etcd) = etcd {
        of_etcd(&mut page, etcd);
    }
    page.value(&rows::UNREAD_RECORDS, unread);
    for (metric, samples) in FAMILIES {
        page.head(metric);
        for status in clusters {
            let cluster = format!("{}/{}", status.namespace, status.name);
            for (labels, value) in samples(status) {
                let labels: Vec<&str> = [cluster.as_str()]
                    .into_iter()
                    .chain(labels.iter().map(String::as_str))
                    .collect();
                page.sample(metric, &labels, value);
            }
        }
    }
    metrics::process::render(&mut page, &web::bounded::closed(), certificate_ends_s);
    page.into_text()
}

fn of_etcd(page: &mut Page, etcd: &Measures) {
    let mut times = |metric, of: &Times| {
        page.histogram(metric, of.within(), of.sum(), of.count());
    };
    times(&rows::ETCD_READ_SECONDS, &etcd.reads);
    times(&rows::ETCD_WRITE_SECONDS, &etcd.writes);
    page.value(&rows::ETCD_FAILURES, etcd.failures);
    if let Some(ago) = etcd.answered_ago {
        page.value(&rows::ETCD_ANSWER_AGE_SECONDS, ago.as_secs());
    }
    for (metric, bytes) in [
        (&rows::ETCD_SIZE_BYTES, etcd.size),
        (&rows::ETCD_QUOTA_BYTES, etcd.quota),
        (&rows::ETCD_REQUEST_MAX_BYTES, etcd.request_max),
    ] {
        if let Some(bytes) = bytes {
            page.value(metric, bytes);
        }
    }
    page.value(&rows::ETCD_RAFT_TERM, etcd.raft_term);
    page.value(&rows::LEADER_CHANGES, etcd.leader_changes);
}

/// Which counter a metric shows.
type OfCounter = (&'static Metric, fn(&Counters) -> &Counter);

const COUNTERS: [OfCounter; 12] = [
    (&rows::HEARTBEAT_MISSES, |of| &of.heartbeat_misses),
    (&rows::PUSHES, |of| &of.pushes),
    (&rows::RECORD_CHANGES, |of| &of.record_changes),
    (&rows::TOPOLOGY_CHANGES, |of| &of.topology_changes),
    (&rows::FAILOVERS, |of| &of.failovers),
    (&rows::SWITCHOVERS, |of| &of.switchovers),
    (&rows::LOST_WRITES, |of| &of.lost_writes),
    (&rows::MOVES_DONE, |of| &of.moves_done),
    (&rows::MOVES_GIVEN_UP, |of| &of.moves_given_up),
    (&rows::SLOTS_MOVED, |of| &of.slots_moved),
    (&rows::REQUESTS, |of| &of.requests),
    (&rows::REQUESTS_REFUSED, |of| &of.refused),
];

/// Samples of one cluster: the labels behind the cluster's own, and the number.
type Samples = Vec<(Vec<String>, u64)>;

/// What a metric shows of a cluster.
type OfCluster = (&'static Metric, fn(&Status) -> Samples);

/// What is measured of each cluster.
const FAMILIES: [OfCluster; 13] = [
    (&rows::TOPOLOGY_VERSION, |status| one(u64::try_from(status.version).unwrap_or(0))),
    (&rows::RECORD_BYTES, |status| status.record_bytes.map_or_else(Vec::new, one)),
    (&rows::ALARMS, |status| one(status.alarms.len() as u64)),
    (&rows::HEALTHY, |status| one(u64::from(status.healthy))),
    (&rows::SHARD_STATE, |status| {
        let states = |shard: &ShardStatus| {
            let index = shard.index.to_string();
            ShardState::WORDS.map(|state| {
                (vec![index.clone(), state.to_owned()], u64::from(shard.state == state))
            })
        };
        status.shards.iter().flat_map(states).collect()
    }),
    (&rows::SHARD_DEGRADED, |status| {
        let sample = |shard: &ShardStatus| (vec![shard.index.to_string()], shard.degraded.into());
        status.shards.iter().map(sample).collect()
    }),
    (&rows::NODE_UP, |status| of_nodes(status, |node| Some((node.health == Health::Up).into()))),
    (&rows::NODE_LAG, |status| of_nodes(status, |node| node.lag)),
    (&rows::NODE_MISSES, |status| of_nodes(status, |node| Some(node.misses.into()))),
    (&rows::BALANCER_IN_FORCE, |status| {
        let sample = |one: &BalancerStatus| (vec![one.name.clone()], one.in_force.into());
        status.balancers.iter().map(sample).collect()
    }),
    (&rows::MOVES, |status| {
        let count = |state: &str| status.moves.iter().filter(|one| one.state == state).count();
        let sample = |state: &str| (vec![state.to_owned()], count(state) as u64);
        Phase::WORDS.map(sample).to_vec()
    }),
    (&rows::MOVE_WAITS_SECONDS, |status| of_moves(status, |one| Some(one.since_ms / 1_000))),
    (&rows::MOVE_COPIED_BYTES, |status| {
        of_moves(status, |one| one.progress.as_ref().map(|progress| progress.bytes))
    }),
];

fn one(value: u64) -> Samples {
    vec![(Vec::new(), value)]
}

fn of_moves(status: &Status, value: fn(&Move) -> Option<u64>) -> Samples {
    let sample = |one: &Move| Some((vec![one.id.to_string()], value(one)?));
    status.moves.iter().filter_map(sample).collect()
}

fn of_nodes(status: &Status, value: fn(&NodeStatus) -> Option<u64>) -> Samples {
    let nodes = status.shards.iter().flat_map(|shard| {
        shard.nodes.iter().map(move |node| (vec![shard.index.to_string(), node.addr.clone()], node))
    });
    nodes.filter_map(|(labels, node)| Some((labels, value(node)?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> Status {
        let node = |addr: &str, role: &str, lag: Option<u64>| {
            json!({
                "id": "a", "addr": addr, "announced": null, "role": role, "health": "up",
                "settled": true, "answer": null, "lag": lag, "misses": 2, "error": null,
            })
        };
        let shard = json!({
            "index": 0, "state": "stuck", "detail": "", "slot_ranges": [], "degraded": true,
            "nodes": [node("10.0.0.1:1", "master", None), node("10.0.0.2:1", "slave", Some(7))],
        });
        serde_json::from_value(json!({
            "namespace": "n", "name": "a\"b", "version": 3, "topology_hash": "", "term": 1,
            "healthy": false, "shards": [shard], "alarms": ["x"], "record_bytes": 50,
            "balancers": [{
                "name": "lb1", "kind": "builtin", "endpoint": "", "in_force": true,
                "error": null, "frontends": [],
            }],
            "moves": [{
                "id": 7, "slots": "0-9", "from": "a", "to": "b", "state": "copy", "paused": false,
                "tries": 0, "waits_for": "the copy", "since_ms": 61_000,
            }],
        }))
        .unwrap()
    }

    #[test]
    fn the_page_announces_every_metric_of_the_table_and_tells_what_status_does() {
        let store_age = Some(Duration::from_secs(9));
        let etcd = Some(Measures {
            failures: 3,
            answered_ago: Some(Duration::from_secs(5)),
            size: Some(20),
            quota: Some(30),
            request_max: Some(40),
            raft_term: 6,
            leader_changes: 8,
            ..Measures::default()
        });
        let certificate_ends_s = Some(7);
        let process =
            Process { term: 4, is_ready: true, store_age, etcd, unread: 2, certificate_ends_s };
        let text = render(&process, &Counters::default(), &[status()]);
        let announced: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        let expected: Vec<&str> =
            rows::ALL.iter().chain(metrics::process::ALL).map(|row| row.name).collect();
        assert_eq!(announced, expected);
        let of = r#"cluster="n/a\"b""#;
        for row in [
            format!("holdfast_controller_healthy{{{of}}} 0"),
            format!("holdfast_controller_alarms{{{of}}} 1"),
            format!("holdfast_controller_record_bytes{{{of}}} 50"),
            format!("holdfast_controller_shard_state{{{of},shard=\"0\",state=\"stuck\"}} 1"),
            format!("holdfast_controller_shard_state{{{of},shard=\"0\",state=\"steady\"}} 0"),
            format!("holdfast_controller_shard_degraded{{{of},shard=\"0\"}} 1"),
            format!("holdfast_controller_node_up{{{of},shard=\"0\",node=\"10.0.0.1:1\"}} 1"),
            format!("holdfast_controller_node_lag{{{of},shard=\"0\",node=\"10.0.0.2:1\"}} 7"),
            format!("holdfast_controller_balancer_in_force{{{of},balancer=\"lb1\"}} 1"),
            format!("holdfast_controller_moves{{{of},state=\"copy\"}} 1"),
            format!("holdfast_controller_moves{{{of},state=\"owned\"}} 0"),
            format!("holdfast_controller_move_waits_seconds{{{of},move=\"7\"}} 61"),
            "holdfast_controller_slots_moved_total 0".to_owned(),
            "holdfast_controller_store_write_age_seconds 9".to_owned(),
            "holdfast_controller_etcd_read_seconds_count 0".to_owned(),
            "holdfast_controller_etcd_failures_total 3".to_owned(),
            "holdfast_controller_etcd_answer_age_seconds 5".to_owned(),
            "holdfast_controller_etcd_size_bytes 20".to_owned(),
            "holdfast_controller_etcd_quota_bytes 30".to_owned(),
            "holdfast_controller_etcd_request_max_bytes 40".to_owned(),
            "holdfast_controller_etcd_raft_term 6".to_owned(),
            "holdfast_controller_leader_changes_total 8".to_owned(),
            "holdfast_controller_unread_records 2".to_owned(),
            "holdfast_controller_failovers_total 0".to_owned(),
            "holdfast_controller_ready 1".to_owned(),
        ] {
            assert!(text.contains(&format!("{row}\n")), "{row}\n{text}");
        }
        assert!(text.contains("holdfast_controller_build_info{version=\""));
        let alone = render(&Process { etcd: None, ..process }, &Counters::default(), &[]);
        assert!(!alone.contains("etcd"), "{alone}");
    }
}
