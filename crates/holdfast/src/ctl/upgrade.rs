//! `ctl upgrade`: restarts the nodes of a cluster one after the other, in the order in which nobody
//! notices, by a command of the operator's.
//!
//! What is to be done next is made anew from what is seen, before each step: so a run may end
//! anywhere and be made again, and a failover in between changes nothing but the order. It does not
//! know how a process is started; that is the hook's.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use api::rest::{Failover, FailoverSpec, Status};
use controller::client::{ClientError, Connection};
use reqwest::Method;
use serde_json::json;
use web::tls::Tls;

use super::secret::Password;
use super::table::{json as print_json, render, text};
use super::tls::TlsArgs;
use super::words::{endpoint, value};
use super::{Context, Place, well};

/// Longest wait for a node's answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest wait for a switchover.
const SWITCHOVER: Duration = Duration::from_secs(30);
/// For how long a cluster must have been healthy before the next step: a node that has just gone is
/// missed by then.
const STEADY: Duration = Duration::from_secs(2);
/// Longest wait for a node that was restarted, and for a healthy cluster after it, unless --timeout
/// is said: a long log is read first, and a replica catches up.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often a node that was restarted is asked.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    password: Password,
    /// Version that the nodes are to run; that of this program if left out
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    /// Restart all nodes, also those that run that version: for an option that is read at the
    /// start; with --to they must come back with that one
    #[arg(long)]
    all: bool,
    /// Command that restarts the node HOLDFAST_NODE (host:port) on HOLDFAST_HOST, run by `sh -c`:
    /// `ssh "$HOLDFAST_HOST" systemctl restart holdfast-node`. Its input is empty, and its time has
    /// no limit
    #[arg(long, value_name = "COMMAND")]
    hook: Option<String>,
    /// Do it; without, it says what would be done
    #[arg(long, requires = "hook")]
    run: bool,
    /// Dial the nodes over TLS; they are known by --cacert
    #[arg(long)]
    nodes_tls: bool,
}

/// A node, as far as the order goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    addr: String,
    shard: usize,
    is_master: bool,
    /// It is to be restarted.
    is_due: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The role goes to a replica, so that its node is one when it is restarted.
    SwitchOver {
        shard: usize,
    },
    /// Nobody takes over: its keys are away meanwhile.
    RestartAlone {
        addr: String,
    },
    Restart {
        addr: String,
    },
}

impl Step {
    fn about(&self) -> String {
        match self {
            Self::SwitchOver { shard } => format!("switch over shard {shard}"),
            Self::Restart { addr } => format!("restart {addr}"),
            Self::RestartAlone { addr } => {
                format!("restart {addr}, which has no replica: its keys are away meanwhile")
            }
        }
    }
}

/// Shard by shard: its replicas, then a switchover, then the former master.
fn plan(nodes: &[Node]) -> Vec<Step> {
    let shards: BTreeSet<usize> = nodes.iter().map(|node| node.shard).collect();
    let mut steps = Vec::new();
    for shard in shards {
        let of_shard = || nodes.iter().filter(|node| node.shard == shard);
        let due = |is_master: bool| {
            let these = of_shard().filter(move |node| node.is_due && node.is_master == is_master);
            these.map(|node| node.addr.clone())
        };
        steps.extend(due(false).map(|addr| Step::Restart { addr }));
        let has_replica = of_shard().any(|node| !node.is_master);
        for addr in due(true) {
            if has_replica {
                steps.extend([Step::SwitchOver { shard }, Step::Restart { addr }]);
            } else {
                steps.push(Step::RestartAlone { addr });
            }
        }
    }
    steps
}

/// What a node says of its process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    version: String,
    /// New with each start.
    run_id: String,
}

impl Process {
    /// Of INFO server.
    fn parse(info: &str) -> Option<Self> {
        let of = |name: &str| value(info, name, ':').map(str::to_owned);
        Some(Self { version: of("holdfast_version")?, run_id: of("run_id")? })
    }
}

/// An upgrade of one cluster.
struct Rolling<'a> {
    cx: &'a Context,
    /// Path of the cluster.
    path: String,
    password: Option<String>,
    tls: Arc<Tls>,
    to: &'a str,
    /// Whether a node that was restarted must run it.
    is_checked: bool,
    /// Addresses of those that are restarted whatever they run, and were not yet; `None`: by
    /// version.
    left: Option<BTreeSet<String>>,
}

pub(crate) async fn run(cx: &Context, tls: &TlsArgs, upgrade: Upgrade) -> Result<()> {
    let mut rolling = Rolling {
        cx,
        path: cx.cluster(&upgrade.place).await?,
        password: upgrade.password.get()?,
        tls: Arc::new(tls.nodes(upgrade.nodes_tls)?),
        to: upgrade.to.as_deref().unwrap_or(crate::VERSION),
        is_checked: !upgrade.all || upgrade.to.is_some(),
        left: None,
    };
    let status: Status = cx.http.get(&format!("{}/status", rolling.path)).await?;
    if upgrade.all {
        rolling.left = Some(addresses(&status).map(|(_, addr, _)| addr).collect());
    }
    let Some(hook) = upgrade.hook.filter(|_| upgrade.run) else {
        let why = well::is_healthy(&status);
        let (nodes, versions) = rolling.look(&status).await?;
        return rolling.show(&nodes, &versions, why.as_deref());
    };
    let limit = cx.http.limit_or(PATIENCE);
    let mut done = 0;
    loop {
        let asked = (STEADY, limit);
        let status = well::wait(cx, &rolling.path, well::is_healthy, asked).await;
        let status = status.context("the next node is not restarted")?;
        let (nodes, _) = rolling.look(&status).await?;
        let Some(step) = plan(&nodes).into_iter().next() else { break };
        rolling.carry_out(&step, &hook, limit).await?;
        done += 1;
        if !cx.json {
            cx.say(&format!("done: {}", step.about()))?;
        }
    }
    if cx.json {
        return print_json(&json!({ "steps": done, "done": true }));
    }
    cx.say(&match done {
        0 => format!("nothing to do: all nodes run {}", rolling.to),
        _ => "all nodes are done, and the cluster is healthy".to_owned(),
    })
}

/// Shard, address and role of each node.
fn addresses(status: &Status) -> impl Iterator<Item = (usize, String, bool)> + '_ {
    status.shards.iter().flat_map(|shard| {
        let node = move |node: &api::rest::NodeStatus| {
            (shard.index, node.addr.clone(), node.role == "master")
        };
        shard.nodes.iter().map(node)
    })
}

impl Rolling<'_> {
    /// The nodes as they are, and what each runs.
    async fn look(&self, status: &Status) -> Result<(Vec<Node>, Vec<String>)> {
        let (mut nodes, mut versions) = (Vec::new(), Vec::new());
        for (shard, addr, is_master) in addresses(status) {
            let process = self.process(&addr).await.map_err(|error| unasked(&addr, error))?;
            let is_due = match &self.left {
                Some(left) => left.contains(&addr),
                None => process.version != self.to,
            };
            nodes.push(Node { addr, shard, is_master, is_due });
            versions.push(process.version);
        }
        Ok((nodes, versions))
    }

    async fn process(&self, addr: &str) -> Result<Process> {
        let endpoint = endpoint(addr).context("no address")?;
        let asked = async {
            let password = self.password.as_deref();
            let mut connection = Connection::open(&endpoint, password, &self.tls).await?;
            connection.command(&["INFO", "server"]).await
        };
        let asked = tokio::time::timeout(ANSWER, asked).await;
        let info = asked.unwrap_or(Err(ClientError::Timeout(ANSWER)))?;
        let process = info.as_str().and_then(Process::parse);
        process.context("it does not say its version")
    }

    fn show(&self, nodes: &[Node], versions: &[String], why: Option<&str>) -> Result<()> {
        let steps = plan(nodes);
        if self.cx.json {
            let steps: Vec<String> = steps.iter().map(Step::about).collect();
            let versions: Vec<_> = (nodes.iter().zip(versions))
                .map(|(node, version)| json!({ "node": node.addr, "version": version }))
                .collect();
            return print_json(&json!({
                "nodes": versions, "steps": steps, "done": false, "not_healthy": why,
            }));
        }
        let row = |(node, version): (&Node, &String)| {
            let role = if node.is_master { "master" } else { "replica" };
            let due = if node.is_due { "is restarted" } else { "" };
            vec![
                node.shard.to_string(),
                node.addr.clone(),
                role.to_owned(),
                version.clone(),
                due.to_owned(),
            ]
        };
        let rows: Vec<_> = nodes.iter().zip(versions).map(row).collect();
        let head = ["SHARD", "NODE", "ROLE", "VERSION", "NOW"];
        text(&format!("{}\n", render(self.cx.width, &head, &rows)))?;
        if steps.is_empty() {
            return self.cx.say(&format!("nothing to do: all nodes run {}", self.to));
        }
        let lines: Vec<String> = steps.iter().map(Step::about).collect();
        self.cx.say(&format!(
            "In this order, the cluster being healthy before each step:\n{}",
            lines.join("\n")
        ))?;
        if let Some(why) = why {
            self.cx.say(&format!("It would wait now: {why}"))?;
        }
        self.cx.say("Nothing was changed; --hook and --run do it.")
    }

    async fn carry_out(&mut self, step: &Step, hook: &str, limit: Duration) -> Result<()> {
        match step {
            Step::SwitchOver { shard } => {
                let path = format!("{}/shards/{shard}/failover", self.path);
                let body = FailoverSpec::default();
                let http = &self.cx.http;
                let value = http.call_long(Method::POST, &path, Some(&body), SWITCHOVER).await?;
                let _: Failover = serde_json::from_value(value).context("read the switchover")?;
                Ok(())
            }
            Step::Restart { addr } | Step::RestartAlone { addr } => {
                let before = self.process(addr).await.map_err(|error| unasked(addr, error))?;
                let status = command(hook, addr, self.cx.json).status().context("run the hook")?;
                ensure!(status.success(), "the hook for {addr} ends with {status}");
                self.is_back(addr, &before, limit).await?;
                if let Some(left) = &mut self.left {
                    left.remove(addr);
                }
                Ok(())
            }
        }
    }

    /// Waits for another process at an address, of the version that is wanted.
    async fn is_back(&self, addr: &str, before: &Process, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let seen = self.process(addr).await;
            match seen {
                Ok(now) if now.run_id != before.run_id => {
                    ensure!(
                        !self.is_checked || now.version == self.to,
                        "node {addr} was restarted and runs {}, not {}: has its host the package?",
                        now.version,
                        self.to
                    );
                    return Ok(());
                }
                Ok(_) if Instant::now() >= end => {
                    bail!("node {addr} is the process that it was before the hook")
                }
                Err(error) if Instant::now() >= end => {
                    return Err(error).with_context(|| format!("node {addr} does not come back"));
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

/// Why a node did not say what it runs, and what to do where it wants another password.
fn unasked(addr: &str, error: anyhow::Error) -> anyhow::Error {
    let words = format!("{error:#}");
    let wants = ["NOAUTH", "WRONGPASS"].iter().any(|word| words.contains(word));
    let remedy = if wants { ": give its `peer-auth` (--password-file)" } else { "" };
    error.context(format!("ask node {addr}{remedy}"))
}

/// The hook, for one node. Where standard output has JSON, what it says goes elsewhere.
fn command(hook: &str, addr: &str, is_json: bool) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", hook]).stdin(Stdio::null());
    if is_json {
        command.stdout(std::io::stderr());
    }
    command.env("HOLDFAST_NODE", addr).env("HOLDFAST_HOST", web::tls::host(addr));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(addr: &str, shard: usize, is_master: bool, is_due: bool) -> Node {
        Node { addr: addr.to_owned(), shard, is_master, is_due }
    }

    fn restart(addr: &str) -> Step {
        Step::Restart { addr: addr.to_owned() }
    }

    #[test]
    fn replicas_first_then_a_switchover_then_the_former_master_shard_by_shard() {
        let nodes = [
            node("m0", 0, true, true),
            node("r0", 0, false, true),
            node("r1", 1, false, true),
            node("s1", 1, false, true),
            node("m1", 1, true, true),
        ];
        assert_eq!(
            plan(&nodes),
            [
                restart("r0"),
                Step::SwitchOver { shard: 0 },
                restart("m0"),
                restart("r1"),
                restart("s1"),
                Step::SwitchOver { shard: 1 },
                restart("m1"),
            ]
        );
    }

    #[test]
    fn what_is_done_is_not_done_again_and_a_switchover_that_was_made_leaves_a_replica() {
        // As after the switchover of the plan above.
        let nodes = [node("m0", 0, false, true), node("r0", 0, true, false)];
        assert_eq!(plan(&nodes), [restart("m0")]);
        let nodes = [node("m0", 0, false, false), node("r0", 0, true, false)];
        assert!(plan(&nodes).is_empty());
        let alone = [node("m0", 0, true, true)];
        assert_eq!(plan(&alone), [Step::RestartAlone { addr: "m0".to_owned() }]);
    }

    #[test]
    fn a_process_is_told_by_its_run_id_and_version() {
        let info = "# Server\r\nversion:2.8.0\r\nholdfast_version:0.1.0\r\nrun_id:abc\r\n";
        let process = Process::parse(info).expect("both are there");
        assert_eq!((process.version.as_str(), process.run_id.as_str()), ("0.1.0", "abc"));
        assert_eq!(Process::parse("# Server\r\nversion:2.8.0\r\n"), None);
    }

    #[test]
    fn a_hook_is_told_which_node_it_is_for() {
        let hook = "test \"$HOLDFAST_NODE $HOLDFAST_HOST\" = '[::1]:6666 ::1'";
        let is_well = |hook: &str, addr: &str, is_json: bool| {
            command(hook, addr, is_json).status().expect("sh runs").success()
        };
        assert!(is_well(hook, "[::1]:6666", false));
        assert!(!is_well("exit 3", "h:1", false));
        assert!(is_well("test \"$(readlink /proc/$$/fd/0)\" = /dev/null", "h:1", false));
        let same = "test \"$(readlink /proc/$$/fd/1)\" = \"$(readlink /proc/$$/fd/2)\"";
        assert!(is_well(same, "h:1", true), "its output is among the JSON");
    }
}
