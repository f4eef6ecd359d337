//! A record for tests, and somebody who changes it.

use api::rest::{Actor, UserRole};
use planner::Record;
use topology::Endpoint;

/// One shard of one node that does not answer.
pub(crate) fn test_record() -> Record {
    let node = planner::Node {
        id: "a".repeat(40),
        local: Endpoint { host: "127.0.0.1".to_owned(), port: 1 },
        announced: None,
        role: planner::Role::Master,
        created_at: 0,
        stated: None,
    };
    let shard = planner::Shard {
        id: planner::ShardId(1),
        nodes: vec![node],
        slot_ranges: vec![(0, 16_383)],
        intent: None,
        last_intent: None,
        fence: None,
        epoch: planner::Epoch::default(),
        floor: None,
    };
    Record {
        namespace: "n".to_owned(),
        name: "c".to_owned(),
        revision: 1,
        tag: 0,
        version: 1,
        shards: vec![shard],
        balancers: Vec::new(),
        longest_lease_ms: 1_000,
        allow_unfenced: true,
        password: None,
        commit_mode: api::grant::CommitMode::Async,
        min_in_sync: 1,
        max_lag: None,
        term: 0,
        cluster_id: String::new(),
        paused: None,
        moves: planner::moves::Moves::default(),
    }
}

/// Somebody who may do anything.
pub(crate) fn test_actor() -> Actor {
    Actor { who: "deploy".to_owned(), role: UserRole::Admin, from: "127.0.0.1".to_owned() }
}
