//! Records for tests, and somebody who changes them.

use api::heartbeat::Reply;
use api::rest::{Actor, UserRole};
use planner::{Observed, Record, Role, Seen, Time};
use topology::Endpoint;

/// One shard of one node that does not answer.
pub(crate) fn test_record() -> Record {
    let node = planner::Node {
        id: "a".repeat(40),
        local: Endpoint { host: "127.0.0.1".to_owned(), port: 1 },
        announced: None,
        tls: topology::TlsPorts::default(),
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
        instead_of: Vec::new(),
    }
}

/// Somebody who may do anything.
pub(crate) fn test_actor() -> Actor {
    Actor { who: "deploy".to_owned(), role: UserRole::Admin, from: "127.0.0.1".to_owned() }
}

/// One shard of two nodes that do not answer.
pub(crate) fn test_pair() -> Record {
    let mut record = test_record();
    let mut replica = record.shards[0].nodes[0].clone();
    (replica.id, replica.local.port, replica.role) = ("b".repeat(40), 2, Role::Slave);
    record.shards[0].nodes.push(replica);
    record
}

/// The next record, in which its replica is master.
pub(crate) fn test_failover(record: &Record) -> Record {
    let mut after = record.next();
    assert!(after.promote(0, &"b".repeat(40)), "a replica of that name");
    after.version += 1;
    after
}

/// Its master was seen at one sequence, its replica at the other.
pub(crate) fn test_sequences(observed: &mut Observed, master: u64, replica: u64) {
    // Of no node of the record: no plan makes anything of it while a test runs.
    let myid = "c".repeat(40);
    let text = format!("role:slave\r\nsequence:{replica}\r\nmyid:{myid}\r\nversion:0\r\n");
    let reply = Reply::parse(&text).expect("a reply");
    let (sent_at, received_at) = (Time::default(), Time::default());
    let seen = Some(Seen { reply, sent_at, received_at });
    observed.nodes.entry("b".repeat(40)).or_default().seen = seen;
    observed.nodes.entry("a".repeat(40)).or_default().master_sequence = Some(master);
}
