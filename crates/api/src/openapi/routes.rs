//! What can be asked of a controller: a line for each route, in the order of its table of routes.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::components::Components;
use super::said::Said;
use super::schema::{self, Way};
use crate::rest::UserRole::{self, Admin, Operator, Viewer};
use crate::rest::*;

type Schema = fn(&mut Components, &Said, Way) -> Value;

/// What an answer holds.
pub(super) enum Holds {
    /// `{"data": …}`
    Data(Schema),
    /// Text of this type.
    Text(&'static str),
    /// Any JSON.
    Json,
    Nothing,
}

/// A method of a path.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: String,
    /// The least role that may ask; none where nobody is asked who they are.
    pub(super) needs: Option<UserRole>,
    pub(super) id: &'static str,
    pub(super) about: &'static str,
    pub(super) body: Option<Schema>,
    pub(super) answers: Vec<(u16, Holds)>,
    /// Name, schema and meaning of words behind the path.
    pub(super) query: Vec<(&'static str, Value, &'static str)>,
    /// `X-Dont-Check-Cluster-Mode` means something.
    pub(super) has_header: bool,
}

fn of<T: Serialize + DeserializeOwned>(
    components: &mut Components,
    said: &Said,
    way: Way,
) -> Value {
    schema::of::<T>(components, said, way)
}

/// `METHOD path`, the role, an id for programs that make clients, and what it does.
fn route(
    asked: &str,
    needs: impl Into<Option<UserRole>>,
    id: &'static str,
    about: &'static str,
) -> Route {
    let (method, path) = asked.split_once(' ').expect("a method and a path");
    let method = ["get", "post", "patch", "delete"]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(method))
        .expect("a method");
    let path = path.replace('…', "/api/v1/namespaces/{ns}/clusters/{c}");
    let (body, answers, query) = (None, Vec::new(), Vec::new());
    let needs = needs.into();
    Route { method, path, needs, id, about, body, answers, query, has_header: false }
}

impl Route {
    fn takes<T: Serialize + DeserializeOwned>(mut self) -> Self {
        self.body = Some(of::<T>);
        self
    }

    fn answers<T: Serialize + DeserializeOwned>(self, status: u16) -> Self {
        self.holds(status, Holds::Data(of::<T>))
    }

    fn holds(mut self, status: u16, holds: Holds) -> Self {
        self.answers.push((status, holds));
        self
    }

    fn gone(self) -> Self {
        self.holds(204, Holds::Nothing)
    }

    fn query(mut self, name: &'static str, schema: Value, about: &'static str) -> Self {
        self.query.push((name, schema, about));
        self
    }

    fn unchecked(mut self) -> Self {
        self.has_header = true;
        self
    }

    fn events(self) -> Self {
        let yes = || json!({ "type": "string", "enum": ["yes", "no"] });
        let limit = json!({ "type": "integer", "minimum": 1, "maximum": 10_000, "default": 100 });
        self.query("limit", limit, "The newest so many.")
            .query("audit", yes(), "Only what somebody asked for.")
            .query(
                "history",
                yes(),
                "Only failovers, switchovers, losses, moves, starts, and what somebody asked for.",
            )
            .answers::<Events>(200)
    }
}

pub(super) fn all() -> Vec<Route> {
    let mut routes = of_site();
    routes.extend(of_cluster());
    routes.extend(of_shards());
    routes
}

#[rustfmt::skip]
fn of_site() -> Vec<Route> {
    let offers = "All that the store has, with its secrets: sealed as they are there, or else `clear` must say that they may be in clear. That it was asked for stands in the events.";
    let clear = json!({ "type": "string", "enum": ["yes", "no"], "default": "no" });
    let wait = json!({ "type": "integer", "minimum": 0, "maximum": 10_000, "default": 0 });
    vec![
        route("GET /healthz", None, "health", "Whether a failover could be carried out now; 503 says why not. Asks nobody for a token.")
            .holds(200, Holds::Text("text/plain")).holds(503, Holds::Text("text/plain")),
        route("GET /metrics", Viewer, "metrics", "Numbers for Prometheus.")
            .holds(200, Holds::Text("text/plain")),
        route("GET /certificates", Viewer, "get_own_certificates", "Certificates and CAs of this very controller, whoever leads.")
            .answers::<CertificateHolder>(200),
        route("GET /api/v1/openapi.json", Viewer, "openapi", "This document.")
            .holds(200, Holds::Json),
        route("GET /api/v1/overview", Viewer, "get_overview", "All clusters in short, the controller itself, and who asks.")
            .query("wait_ms", wait, "How long to wait for an answer other than the one that `If-None-Match` names.")
            .answers::<Overview>(200).holds(304, Holds::Nothing),
        route("GET /api/v1/namespaces", Viewer, "list_namespaces", "All namespaces.")
            .answers::<Namespaces>(200),
        route("POST /api/v1/namespaces", Admin, "create_namespace", "Makes a namespace.")
            .takes::<NamespaceSpec>().answers::<NamespaceSpec>(201),
        route("GET /api/v1/namespaces/{ns}", Viewer, "get_namespace", "Whether there is this namespace: 404 if not.")
            .answers::<()>(200),
        route("DELETE /api/v1/namespaces/{ns}", Admin, "delete_namespace", "Forgets a namespace without clusters.")
            .gone(),
        route("GET /api/v1/users", Admin, "list_users", "All users, without their tokens.")
            .answers::<Users>(200),
        route("POST /api/v1/users", Admin, "add_user", "Adds a user; its token is in the answer, this once, unless it is known by certificates.")
            .takes::<UserSpec>().answers::<UserAdded>(201),
        route("DELETE /api/v1/users/{name}", Admin, "remove_user", "Removes a user: its token is refused from now on.")
            .gone(),
        route("GET /api/v1/store", Viewer, "get_store", "Where all records are kept, and who leads by them.")
            .answers::<StoreStatus>(200),
        route("GET /api/v1/store/export", Admin, "export_store", offers)
            .query("clear", clear, "Secrets in clear.")
            .answers::<StoreExport>(200),
        route("POST /api/v1/store/reseal", Admin, "reseal_store", "Writes each record anew whose secrets are not sealed with the key that seals now.")
            .answers::<StoreResealed>(200),
        route("GET /api/v1/events", Viewer, "list_events", "What happened in all clusters, and why.")
            .events(),
        route("GET /api/v1/namespaces/{ns}/clusters", Viewer, "list_clusters", "The clusters of a namespace.")
            .answers::<Clusters>(200),
        route("POST /api/v1/namespaces/{ns}/clusters", Admin, "create_cluster", "Makes a cluster of nodes that are in none.")
            .takes::<ClusterSpec>().answers::<ClusterAnswer>(201).unchecked(),
    ]
}

#[rustfmt::skip]
fn of_cluster() -> Vec<Route> {
    let offset = json!({ "type": "integer", "format": "int64", "minimum": 0, "default": 0 });
    let force = json!({ "type": "string", "enum": ["yes", "no"], "default": "no" });
    vec![
        route("GET …", Viewer, "get_cluster", "What the store holds of a cluster.")
            .answers::<ClusterAnswer>(200),
        route("PATCH …", Operator, "change_cluster", "Changes what a cluster promises, and whether failovers happen by themselves. All but `paused` and `reason` needs the role `admin`.")
            .takes::<ClusterChange>().answers::<ClusterAnswer>(200),
        route("DELETE …", Admin, "delete_cluster", "Forgets a cluster; its nodes get no more leases.")
            .gone(),
        route("POST …/import", Admin, "import_cluster", "Takes over a cluster that runs.")
            .takes::<ImportSpec>().answers::<ClusterAnswer>(200),
        route("POST …/release", Admin, "release_cluster", "Lets the nodes go on without a controller.")
            .takes::<ReleaseSpec>().answers::<ReleaseAnswer>(200),
        route("GET …/status", Viewer, "get_status", "What is seen of a cluster now.")
            .answers::<Status>(200),
        route("GET …/events", Viewer, "list_cluster_events", "What happened in a cluster, and why.")
            .events(),
        route("GET …/certificates", Viewer, "list_certificates", "Certificates and CAs of a cluster's nodes and balancers.")
            .answers::<CertificateHolders>(200),
        route("GET …/balancers", Viewer, "list_balancers", "The load balancers of a cluster.")
            .answers::<Balancers>(200),
        route("POST …/balancers", Operator, "add_balancer", "Adds a load balancer.")
            .takes::<BalancerSpec>().answers::<Balancer>(201).unchecked(),
        route("PATCH …/balancers/{name}", Operator, "change_balancer", "Changes how a load balancer is spoken to: over TLS or in clear, by another token.")
            .takes::<BalancerChange>().answers::<Balancer>(200).unchecked(),
        route("DELETE …/balancers/{name}", Operator, "remove_balancer", "Closes a load balancer, then forgets it.")
            .query("force", force, "Forget it also where it cannot be closed, or is the last one.")
            .answers::<BalancerRemoved>(200).gone(),
        route("PATCH …/nodes/{id}", Operator, "announce_node", "Changes where clients reach a node (`{}`: its own address), or at which port it speaks TLS.")
            .takes::<NodeChange>().answers::<Node>(200),
        route("GET …/discarded", Viewer, "list_discarded", "Writes that deposed masters had to discard and keep.")
            .answers::<Discarded>(200),
        route("GET …/discarded/{id}/{file}", Operator, "get_discarded", "A part of such an export: keys and values.")
            .query("offset", offset, "Where the part begins, as `next` of the one before says.")
            .answers::<DiscardedPage>(200),
        route("POST …/discarded/{id}/{file}/apply", Admin, "apply_discarded", "Puts discarded writes back through the present master.")
            .takes::<DiscardedApply>().answers::<DiscardedOutcome>(200),
        route("GET …/moves", Viewer, "list_moves", "Slots that are queued to move, move, or have moved.")
            .answers::<Moves>(200),
        route("POST …/moves", Operator, "queue_moves", "Moves slots to another shard. 200 where nothing was changed.")
            .takes::<MovesSpec>().answers::<MovesAnswer>(200).answers::<MovesAnswer>(201),
        route("GET …/moves/{id}", Viewer, "get_move", "A move.")
            .answers::<MoveAnswer>(200),
        route("PATCH …/moves/{id}", Operator, "pause_move", "Pauses a move, lets it go on, or gives it another rate.")
            .takes::<MoveChange>().answers::<MoveAnswer>(200),
        route("DELETE …/moves/{id}", Operator, "cancel_move", "Gives a move up whose slots have not changed hands.")
            .answers::<MoveAnswer>(200),
        route("POST …/migrate", Operator, "migrate_slot", "Moves slots to another shard, as kvrocks-controller is asked to.")
            .takes::<MigrateSpec>().answers::<ClusterAnswer>(200),
        route("POST …/rebalance", Operator, "rebalance", "Shares slots or bytes out evenly.")
            .takes::<RebalanceSpec>().answers::<MovesAnswer>(200).answers::<MovesAnswer>(201),
    ]
}

#[rustfmt::skip]
fn of_shards() -> Vec<Route> {
    vec![
        route("GET …/shards", Viewer, "list_shards", "What the store holds of all shards.")
            .answers::<Shards>(200),
        route("POST …/shards", Admin, "create_shard", "Adds a shard without slots.")
            .takes::<ShardSpec>().answers::<ShardAnswer>(201).unchecked(),
        route("GET …/shards/{i}", Viewer, "get_shard", "What the store holds of a shard.")
            .answers::<ShardAnswer>(200),
        route("DELETE …/shards/{i}", Operator, "remove_shard", "Removes a shard without slots.")
            .gone(),
        route("POST …/shards/{i}/failover", Operator, "switch_over", "Makes a replica the master, without losing writes.")
            .takes::<FailoverSpec>().answers::<Failover>(200),
        route("POST …/shards/{i}/accept-loss", Admin, "accept_loss", "Lets a node go on as master although the in-sync set is lost.")
            .takes::<LossSpec>().answers::<LossAnswer>(200),
        route("POST …/shards/{i}/restore-deposed", Admin, "restore_deposed", "Puts what lies in a node's `db.deposed` back in service.")
            .takes::<RestoreSpec>().answers::<RestoreAnswer>(200),
        route("POST …/shards/{i}/drain", Operator, "drain_shard", "Moves all slots of a shard to the others.")
            .takes::<DrainSpec>().answers::<MovesAnswer>(200).answers::<MovesAnswer>(201),
        route("GET …/shards/{i}/nodes", Viewer, "list_nodes", "The nodes of a shard.")
            .answers::<Nodes>(200),
        route("POST …/shards/{i}/nodes", Admin, "add_node", "Adds a replica; the answer is its id.")
            .takes::<NodeFields>().answers::<String>(201).unchecked(),
        route("DELETE …/shards/{i}/nodes/{id}", Operator, "remove_node", "Removes a replica.")
            .gone(),
        route("PATCH …/shards/{i}/nodes/{id}", Operator, "announce_node_of_shard", "As `PATCH …/nodes/{id}`.")
            .takes::<NodeChange>().answers::<Node>(200),
    ]
}
