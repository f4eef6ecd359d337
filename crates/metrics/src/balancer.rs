//! What a built-in balancer tells. Labels are the balancer and its frontends, so their number is
//! bounded by the configuration.

use crate::rows;

rows! {
    ACCEPTED Counter "holdfast_balancer_accepted_total" ["balancer", "frontend"] "Connections accepted.";
    REFUSED Counter "holdfast_balancer_refused_total" ["balancer", "frontend"]
        "Connections reset: no backend, backend not reached, or too many.";
    CUT Counter "holdfast_balancer_cut_total" ["balancer", "frontend"]
        "Sessions reset because their node is no longer the backend.";
    MOVED Counter "holdfast_balancer_moved_total" ["balancer", "frontend"]
        "Sessions that their node gave back, to go on at another one.";
    RECEIVED_BYTES Counter "holdfast_balancer_received_bytes_total" ["balancer", "frontend"] "Bytes from clients.";
    SENT_BYTES Counter "holdfast_balancer_sent_bytes_total" ["balancer", "frontend"] "Bytes to clients.";
    SESSIONS Gauge "holdfast_balancer_sessions" ["balancer", "frontend"] "Sessions established or being set up.";
    HELD Gauge "holdfast_balancer_held" ["balancer", "frontend"] "Connections that wait for a backend.";
    BACKEND_SET Gauge "holdfast_balancer_backend_set" ["balancer", "frontend"] "1 if the frontend has a backend.";
    BACKEND_UP Gauge "holdfast_balancer_backend_up" ["balancer", "frontend"]
        "1 if the last attempt to reach the backend succeeded, 0 if not; left out before the first one.";
    LISTENING Gauge "holdfast_balancer_listening" ["balancer", "frontend"] "1 if connections are accepted.";
    APPLIED_TERM Gauge "holdfast_balancer_applied_term" ["balancer"] "Term of the state in force.";
    APPLIED_VERSION Gauge "holdfast_balancer_applied_version" ["balancer"] "Version of the state in force.";
    READY Gauge "holdfast_balancer_ready" ["balancer"] "1 while `/healthz` answers 200: clients may be sent here.";
    CLOSED Gauge "holdfast_balancer_closed" ["balancer"] "1 while no frontend leads to a node.";
    BUILD_INFO Gauge "holdfast_balancer_build_info" ["balancer", "version"] "Version of this build; always 1.";
}
