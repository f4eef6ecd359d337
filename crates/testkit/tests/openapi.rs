//! `docs/openapi.json` held against both ends: what `ctl` asks for, and what a controller answers.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use testkit::cluster::{Cluster, Options};
use testkit::openapi::{Document, Operation};
use testkit::{process, wait};

use common::certs::Ca;
use common::{PATIENCE, get};

/// What `ctl` does not ask for: probes and scrapes, the document itself, what the web page is made
/// of, and what is there for programs made for kvrocks-controller.
const NOT_ASKED: [&str; 10] = [
    "health",
    "metrics",
    "openapi",
    "get_overview",
    "get_namespace",
    "list_shards",
    "get_move",
    "migrate_slot",
    "list_nodes",
    "announce_node_of_shard",
];

/// Verbs that ask no controller, or work on the store itself.
const NOT_ASKING: [&str; 8] = [
    "backup",
    "haproxy-config",
    "openapi",
    "import redis",
    "store key",
    "store import",
    "store migrate",
    "store adopt",
];

/// One command line for each verb, and more where it may ask for different things. `DIR` is a
/// folder with the files `old` and `new`, a secret in each.
const LINES: &str = "\
list namespaces
list clusters
create namespace m
create cluster d --nodes 10.0.0.1:1,10.0.0.2:1 --nodes-per-shard 2 --password-file DIR/old \
 --balancer name=lb1,endpoint=http://10.0.0.9:1,source=10.0.0.9 --commit-mode in-sync
create shard --nodes 10.0.0.4:1
create node 10.0.0.4:1 -s 0 --announce 10.0.9.4:6379
get cluster c
get shard 0
delete namespace n
delete cluster c --yes c
delete cluster c
delete shard 1
delete node 10.0.0.2:1
failover shard 0 --preferred 10.0.0.2:1
set cluster --min-in-sync 2 --max-lag none --password-file DIR/old
pause cluster --reason x
resume cluster
release cluster c
shard add --json --nodes 10.0.0.4:1/2 --announce 10.0.9.4:6379/6380
shard remove 1
shard drain 0 --yes --by bytes --bandwidth 20 --max-concurrent 2
shard accept-loss 0 --node 10.0.0.2:1 --despite-deposed
shard restore-deposed 0 --node 10.0.0.2:1
move slots 0-9 --to 1 --yes
moves
moves list
moves pause 7
moves resume 7
moves pace 7 --bandwidth 5
moves cancel 7
rebalance --yes --by bytes --tolerance 10
discarded list
discarded show 1-2.jsonl
discarded apply 1-2.jsonl --if-absent
node announce 10.0.0.2:1 10.0.9.2:6379/6380
node tls-port 10.0.0.2:1 6667
import cluster d --nodes 10.0.0.1:1 --password-file DIR/old
balancer add lb1 --endpoint http://10.0.0.9:1 --source 10.0.0.9 --balancer-token-file DIR/old
balancer list
balancer change lb1 --endpoint https://10.0.0.9:1 --balancer-token-file DIR/new
balancer remove lb1 --force
store status
store export DIR/export
store export --clear DIR/clear
store reseal
status
events --audit
events -c c --history --limit 5
user add duty --role viewer --expires 1d
user list
user remove duty
rotate clients --password-file DIR/old --new-file DIR/new
rotate clients --finish --password-file DIR/old --new-file DIR/new
rotate ca --old DIR/old-ca/ca.pem --new DIR/new-ca/ca.pem
";

fn node(letter: &str, addr: &str, role: &str) -> Json {
    json!({ "id": letter.repeat(40), "addr": addr, "role": role, "password": "", "created_at": 1 })
}

fn shards() -> Json {
    json!([
        {
            "id": "1".repeat(16), "slot_ranges": ["0-16383"], "target_shard_index": -1, "migrating_slot": null,
            "nodes": [node("a", "10.0.0.1:1", "master"), node("b", "10.0.0.2:1", "slave")],
        },
        {
            "id": "2".repeat(16), "slot_ranges": [], "target_shard_index": -1, "migrating_slot": null,
            "nodes": [node("c", "10.0.0.3:1", "master")],
        },
    ])
}

fn cluster() -> Json {
    json!({ "cluster": {
        "name": "c", "version": 1, "shards": shards(), "allow_unfenced": false,
        "commit_mode": "in-sync", "min_in_sync": 1,
    } })
}

fn status() -> Json {
    let node = |letter: &str, addr: &str, role: &str| {
        json!({
            "id": letter.repeat(40), "addr": addr, "announced": null, "role": role, "health": "up",
            "settled": true, "lag": null, "misses": 0, "error": null,
            "answer": {
                "age_ms": 1, "role": role, "sequence": 1, "version": 1, "lease_mode": "block-all",
                "lease_remaining_ms": 1, "log_wait_ms": 0, "client_access": "any", "link_status": "up",
                "link_error": null, "deposed": null, "resync": "none", "paused": false, "loading": false,
            },
        })
    };
    json!({
        "namespace": "n", "name": "c", "version": 1, "topology_hash": "x", "term": 1, "healthy": true,
        "commit_mode": "in-sync", "min_in_sync": 1, "balancers": [], "alarms": [],
        "shards": [{
            "index": 0, "id": "1".repeat(16), "state": "steady", "detail": "", "slot_ranges": ["0-16383"],
            "epoch": 1, "in_sync": [], "degraded": false,
            "nodes": [node("a", "10.0.0.1:1", "master"), node("b", "10.0.0.2:1", "slave")],
        }],
    })
}

fn holder(kind: &str, name: &str) -> Json {
    json!({ "kind": kind, "name": name, "told": true, "certificates": [], "trust": [] })
}

/// An export of a store without clusters.
const EXPORT: &str = "holdfast-store-export 1 5eb6b1d8d7d1d3899894f99d4e6b319b0755b08c92e0fbbbd1f9a9cbee55e2a5\n{\"clusters\":[]}\n";

/// What the controller that is none answers to an operation.
fn answer(id: &str) -> Option<Json> {
    let one = json!({ "id": 7, "slots": "0-9", "from": "1".repeat(16), "to": "2".repeat(16) });
    let past = json!({
        "id": 7, "slots": "0-9", "from": "1".repeat(16), "to": "2".repeat(16), "error": null,
    });
    let balancer =
        json!({ "name": "lb1", "kind": "builtin", "endpoint": "x", "source": "10.0.0.9" });
    Some(match id {
        "list_namespaces" => json!({ "namespaces": ["n"] }),
        "create_namespace" => json!({ "namespace": "m" }),
        "list_clusters" => json!({ "clusters": ["c"] }),
        "create_cluster" | "get_cluster" | "change_cluster" | "import_cluster" => cluster(),
        "create_shard" | "get_shard" => json!({ "shard": shards()[0] }),
        "add_node" => json!("b".repeat(40)),
        "announce_node" => node("b", "10.0.0.2:1", "slave"),
        "switch_over" => json!({ "new_master_id": "b".repeat(40), "stall_ms": 7 }),
        "release_cluster" => json!({ "nodes": [], "done": false }),
        "get_status" => status(),
        "list_events" | "list_cluster_events" => json!({ "events": [] }),
        "list_balancers" => json!({ "balancers": [balancer] }),
        "add_balancer" | "change_balancer" => balancer,
        "remove_balancer" => json!({ "closed": false, "why": "x" }),
        "accept_loss" => json!({
            "addr": "10.0.0.2:1", "node_epoch": 1, "node_sequence": 1, "epoch": 1,
            "members": [{ "node": "x", "why": "x", "seen_epoch": null, "seen_sequence": 1 }],
            "holds": [{ "id": "x", "node": "x", "answers": true, "at": [1, 2], "deposed": null }],
            "done": false,
        }),
        "restore_deposed" => json!({
            "addr": "10.0.0.2:1", "deposed_epoch": 1, "deposed_sequence": 1, "node_epoch": 1,
            "node_sequence": 1, "done": false,
        }),
        "list_moves" => json!({ "moves": [], "done": [past], "max_concurrent": null }),
        "queue_moves" | "rebalance" | "drain_shard" => {
            json!({ "moves": [one], "slots": 10, "done": true })
        }
        "pause_move" | "cancel_move" => json!({ "move": null, "done": past }),
        "list_discarded" => json!({
            "exports": [{
                "node": "b".repeat(40), "addr": "10.0.0.2:1", "shard": 0, "file": "1-2.jsonl", "bytes": 1,
                "at_ms": 1, "fork": 1, "epoch": 1, "epoch_id": "-", "records": 1,
            }],
            "silent": [],
        }),
        "get_discarded" => json!({
            "changes": [{
                "what": "command", "key": "k", "value": "", "words": ["SET", "k", "v"],
            }],
            "next": null,
        }),
        "apply_discarded" => json!({
            "master": "10.0.0.1:1", "done": false, "counts": { "applied": 1 }, "keys": { "applied": ["k"] },
        }),
        "list_certificates" => json!({ "holders": [holder("node", "10.0.0.1:1")] }),
        "get_own_certificates" => holder("controller", "x"),
        "get_store" => json!({
            "kind": "embedded", "place": "x", "name": "x", "generation": 1, "format": 1, "term": 1,
            "clusters": 1,
        }),
        "export_store" => json!({ "file": EXPORT }),
        "reseal_store" => json!({ "resealed": 0, "left": [] }),
        "list_users" => json!({ "users": [] }),
        "add_user" => json!({
            "user": {
                "name": "duty", "role": "viewer", "created_at_ms": 1, "created_by": "x", "expired": false,
            },
            "token": "hft_x",
        }),
        _ => return None,
    })
}

/// What was asked of the controller that is none.
#[derive(Debug, Default)]
struct Asked {
    operations: BTreeSet<Operation>,
    faults: Vec<String>,
}

fn id_of<'d>(document: &'d Document, of: &Operation) -> &'d str {
    let method = of.method.to_ascii_lowercase();
    document.json()["paths"][&of.path][method]["operationId"].as_str().unwrap_or_default()
}

/// Reads one request, looks at it, answers it, and closes.
fn serve(document: &Document, asked: &Mutex<Asked>, stream: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next().context("a method")?, words.next().context("a path")?);
    loop {
        let mut head = String::new();
        reader.read_line(&mut head)?;
        let head = head.trim().to_ascii_lowercase();
        if head.is_empty() {
            break;
        }
        if let Some(bytes) = head.strip_prefix("content-length:") {
            length = bytes.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body)?;
    let (status, text) = match document.find(method, path) {
        None => {
            asked.lock().faults.push(format!("{method} {path} is not in the document"));
            (404, json!({ "error": { "message": "not found" }, "data": null }).to_string())
        }
        Some(operation) => {
            let looked = document.check_request(&operation, path, &body);
            let (status, text, answered) = answered(document, &operation);
            let mut asked = asked.lock();
            for fault in [looked, answered].into_iter().filter_map(Result::err) {
                asked.faults.push(format!("{fault:#}"));
            }
            asked.operations.insert(operation);
            (status, text)
        }
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    )?;
    Ok(())
}

/// What is answered, and whether that is what the document says.
fn answered(document: &Document, operation: &Operation) -> (u16, String, Result<()>) {
    match answer(id_of(document, operation)) {
        None => {
            let method = operation.method.to_ascii_lowercase();
            let responses = &document.json()["paths"][&operation.path][method]["responses"];
            let is_known = responses.get("204").is_some();
            let result =
                if is_known { Ok(()) } else { Err(anyhow::anyhow!("{operation}: no answer")) };
            (204, String::new(), result)
        }
        Some(data) => {
            let body = json!({ "data": data });
            let status = [200, 201]
                .into_iter()
                .find(|status| document.check_answer(operation, *status, &body).is_ok());
            let status = status.unwrap_or(200);
            (status, body.to_string(), document.check_answer(operation, status, &body))
        }
    }
}

/// Leaves of `ctl`, as the man pages of the binary have them: `balancer add`.
fn verbs() -> Result<BTreeSet<String>> {
    let folder = tempfile::tempdir()?;
    let done = Command::new(process::holdfast()?)
        .args(["generate", "--dir"])
        .arg(folder.path())
        .status()?;
    ensure!(done.success(), "holdfast generate: {done}");
    let mut pages = BTreeSet::new();
    for entry in std::fs::read_dir(folder.path().join("man"))? {
        let name = entry?.file_name().into_string().ok().context("a name in UTF-8")?;
        let verb = name.strip_prefix("holdfast-ctl-").and_then(|name| name.strip_suffix(".1"));
        pages.extend(verb.map(str::to_owned));
    }
    let has_parts = |page: &str| {
        let begin = format!("{page}-");
        pages.iter().any(|other| other.starts_with(&begin))
    };
    let mut verbs = BTreeSet::new();
    for page in pages.iter().filter(|page| !has_parts(page)) {
        // Of the dashes one parts the verb from what it is about.
        let group = pages.iter().filter(|group| page.starts_with(&format!("{group}-"))).max();
        verbs.insert(match group {
            Some(group) => format!("{group} {}", &page[group.len() + 1..]),
            None => page.clone(),
        });
    }
    ensure!(verbs.len() > 40, "{verbs:?}");
    Ok(verbs)
}

#[test]
fn ctl_asks_for_what_the_document_has_and_as_it_says() -> Result<()> {
    let document = Arc::new(Document::read()?);
    let asked = Arc::new(Mutex::new(Asked::default()));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = listener.local_addr()?.to_string();
    let (of_server, by_server) = (Arc::clone(&document), Arc::clone(&asked));
    // It ends with the process of the tests.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = serve(&of_server, &by_server, stream) {
                by_server.lock().faults.push(format!("{error:#}"));
            }
        }
    });
    let folder = tempfile::tempdir()?;
    for name in ["old", "new"] {
        std::fs::write(folder.path().join(name), format!("{name}\n"))?;
        Ca::new(folder.path(), &format!("{name}-ca"))?;
    }
    let dir = folder.path().to_str().context("a folder in UTF-8")?;
    let mut left = verbs()?;
    for line in LINES.lines() {
        let line = line.replace("DIR", dir);
        let mut command = Command::new(process::holdfast()?);
        command.args(["ctl", "-H", &url]).args(line.split_whitespace());
        for name in ["HOLDFAST_TOKEN", "HOLDFAST_PASSWORD"] {
            command.env_remove(name).env_remove(format!("{name}_FILE"));
        }
        let output = command.output().context("run ctl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        // It says what it would forget, and forgets nothing.
        let is_refused = line == "delete cluster c";
        ensure!(output.status.success() != is_refused, "ctl {line}: {said}");
        let words: Vec<&str> = line.split_whitespace().take(2).collect();
        left.remove(words[0]);
        left.remove(&words.join(" "));
    }
    left.retain(|verb| !NOT_ASKING.contains(&verb.as_str()));
    // Nodes are asked first.
    for verb in ["rotate peers", "upgrade"] {
        left.remove(verb);
    }
    ensure!(left.is_empty(), "verbs without a line here: {left:?}");
    let asked = asked.lock();
    ensure!(asked.faults.is_empty(), "{:#?}", asked.faults);
    let all = document.operations();
    let idle: Vec<&str> = (all.iter().filter(|one| !asked.operations.contains(one)))
        .map(|one| id_of(&document, one))
        .filter(|id| !NOT_ASKED.contains(id))
        .collect();
    ensure!(idle.is_empty(), "ctl asks for none of these any more: {idle:?}");
    for id in NOT_ASKED {
        let is_asked = asked.operations.iter().any(|one| id_of(&document, one) == id);
        ensure!(!is_asked, "ctl asks for {id}");
    }
    Ok(())
}

/// The body of an answer, if it is 200.
fn body(said: &str) -> Result<&str> {
    let (head, body) = said.split_once("\r\n\r\n").context("an answer")?;
    let status = head.split(' ').nth(1);
    if status != Some("200") {
        bail!("{said}");
    }
    Ok(body)
}

#[test]
fn what_a_controller_answers_is_what_the_document_says() -> Result<()> {
    let document = Document::read()?;
    let cluster = Cluster::start(Options { shards: 1, ..Options::default() })?;
    let url = cluster.state()?.controller.url;
    let address: SocketAddr = url.trim_start_matches("http://").parse().context(url.clone())?;
    let name = "/api/v1/namespaces/local/clusters/main";
    wait::until("the cluster is healthy", PATIENCE, || {
        let said = get(address, &format!("{name}/status"))?;
        ensure!(said.contains("\"healthy\":true"), "{said}");
        Ok(())
    })
    .with_context(|| cluster.logs())?;
    let mut looked = 0;
    for operation in document.operations() {
        let path =
            operation.path.replace("{ns}", "local").replace("{c}", "main").replace("{i}", "0");
        let id = id_of(&document, &operation);
        let is_other = ["health", "metrics", "openapi"].contains(&id);
        if operation.method != "GET" || path.contains('{') || is_other {
            continue;
        }
        // Where no key seals secrets they come in clear, or not at all.
        let query = if id == "export_store" { "?clear=yes" } else { "" };
        let said = get(address, &format!("{path}{query}"))?;
        let json: Json = serde_json::from_str(body(&said)?).with_context(|| said.clone())?;
        document.check_answer(&operation, 200, &json)?;
        looked += 1;
    }
    ensure!(looked >= 14, "{looked} operations were looked at");
    // What is not there is told in the form of failures.
    let operation = document.find("GET", &format!("{name}/moves/7")).context("an operation")?;
    let said = get(address, &format!("{name}/moves/7"))?;
    let (head, text) = said.split_once("\r\n\r\n").context("an answer")?;
    ensure!(head.contains(" 404 "), "{said}");
    document.check_answer(&operation, 404, &serde_json::from_str(text)?)?;
    let served: Json = serde_json::from_str(body(&get(address, "/api/v1/openapi.json")?)?)?;
    ensure!(served == *document.json(), "the controller serves another document");
    let printed = Command::new(process::holdfast()?).args(["ctl", "openapi"]).output()?;
    let printed: Json =
        serde_json::from_slice(&printed.stdout).context("ctl openapi prints JSON")?;
    ensure!(printed == *document.json(), "ctl prints another document");
    Ok(())
}
