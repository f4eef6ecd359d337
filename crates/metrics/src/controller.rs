//! What a controller tells. Labels are clusters, shards, nodes, balancers and moves of the record,
//! and never a key or a client.

use crate::rows;

rows! {
    BUILD_INFO Gauge "holdfast_controller_build_info" ["version"] "Version of this build; always 1.";
    READY Gauge "holdfast_controller_ready"
        "1 while `/healthz` answers 200: a failover could be carried out.";
    TERM Gauge "holdfast_controller_term" "Term of this controller.";
    HEARTBEAT_MISSES Counter "holdfast_controller_heartbeat_misses_total" "Heartbeats without an answer.";
    PUSHES Counter "holdfast_controller_pushes_total" "Topologies sent to nodes.";
    RECORD_CHANGES Counter "holdfast_controller_record_changes_total" "Records written by the planner.";
    TOPOLOGY_CHANGES Counter "holdfast_controller_topology_changes_total" "Topology versions made by the planner.";
    FAILOVERS Counter "holdfast_controller_failovers_total" "Masters replaced without being asked.";
    SWITCHOVERS Counter "holdfast_controller_switchovers_total" "Planned changes of a master, begun or taken back.";
    LOST_WRITES Counter "holdfast_controller_lost_writes_total"
        "Writes that failovers of asynchronous shards are known to have lost.";
    MOVES_DONE Counter "holdfast_controller_moves_done_total" "Moves of slots that came to their end.";
    MOVES_GIVEN_UP Counter "holdfast_controller_moves_given_up_total"
        "Moves of slots that were cancelled, given up or begun anew.";
    SLOTS_MOVED Counter "holdfast_controller_slots_moved_total" "Slots that changed their shard.";
    REQUESTS Counter "holdfast_controller_requests_total" "REST requests.";
    REQUESTS_REFUSED Counter "holdfast_controller_requests_refused_total"
        "REST requests without a token that is good, or by a role that is too low.";
    STORE_WRITE_AGE_SECONDS Gauge "holdfast_controller_store_write_age_seconds"
        "Since the store was last written durably.";
    ETCD_READ_SECONDS Histogram "holdfast_controller_etcd_read_seconds"
        "How long reads took that etcd answered, but for those of all that there is.";
    ETCD_WRITE_SECONDS Histogram "holdfast_controller_etcd_write_seconds" "How long changes took that etcd answered.";
    ETCD_FAILURES Counter "holdfast_controller_etcd_failures_total"
        "Calls that etcd refused, or did not answer in time.";
    ETCD_ANSWER_AGE_SECONDS Gauge "holdfast_controller_etcd_answer_age_seconds" "Since etcd last answered.";
    ETCD_SIZE_BYTES Gauge "holdfast_controller_etcd_size_bytes" "Bytes that etcd has on its disk.";
    ETCD_QUOTA_BYTES Gauge "holdfast_controller_etcd_quota_bytes"
        "Bytes that it may have there; etcd says so from version 3.6 on.";
    ETCD_REQUEST_MAX_BYTES Gauge "holdfast_controller_etcd_request_max_bytes"
        "Bytes of the largest request that it takes, as `etcd_max_request_bytes` says.";
    ETCD_RAFT_TERM Gauge "holdfast_controller_etcd_raft_term" "Rises with each election among etcd's members.";
    LEADER_CHANGES Counter "holdfast_controller_leader_changes_total"
        "Times that the lead was claimed while this controller watched.";
    UNREAD_RECORDS Gauge "holdfast_controller_unread_records"
        "Clusters in the store whose record this controller cannot read, so that it does not look after them.";
    TOPOLOGY_VERSION Gauge "holdfast_controller_topology_version" ["cluster"] "Version of the cluster's topology.";
    RECORD_BYTES Gauge "holdfast_controller_record_bytes" ["cluster"]
        "Bytes of the cluster's record in a store that bounds it.";
    ALARMS Gauge "holdfast_controller_alarms" ["cluster"] "Alarms that last.";
    HEALTHY Gauge "holdfast_controller_healthy" ["cluster"] "1 for a cluster that is as it should be.";
    SHARD_STATE Gauge "holdfast_controller_shard_state" ["cluster", "shard", "state"] "1 for what a shard is doing.";
    SHARD_DEGRADED Gauge "holdfast_controller_shard_degraded" ["cluster", "shard"]
        "1 while a node is missing in the in-sync set.";
    NODE_UP Gauge "holdfast_controller_node_up" ["cluster", "shard", "node"]
        "1 for a node that answers heartbeats and takes writes.";
    NODE_LAG Gauge "holdfast_controller_node_lag" ["cluster", "shard", "node"]
        "Sequence numbers a replica is behind its master.";
    NODE_MISSES Gauge "holdfast_controller_node_misses" ["cluster", "shard", "node"]
        "Heartbeats in a row without an answer.";
    BALANCER_IN_FORCE Gauge "holdfast_controller_balancer_in_force" ["cluster", "balancer"]
        "1 for a balancer that does what it was told.";
    MOVES Gauge "holdfast_controller_moves" ["cluster", "state"] "Moves of slots, by how far they are.";
    MOVE_WAITS_SECONDS Gauge "holdfast_controller_move_waits_seconds" ["cluster", "move"]
        "For how long a move has not advanced.";
    MOVE_COPIED_BYTES Gauge "holdfast_controller_move_copied_bytes" ["cluster", "move"]
        "Bytes that a move has copied.";
}
