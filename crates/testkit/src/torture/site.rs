//! The cluster of a run: configuration files, processes, and its creation through the controller.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value as Json, json};

use super::args::{Balancer, Mode};
use super::host::{Host, Role};
use super::keys::Ranges;
use super::movers;
use super::network::{ANNOUNCED, Network, Wish};
use super::rest;
use super::schedule::{BALANCERS, Plan, Target};
use crate::disk;
use crate::process::{START_PATIENCE, holdfast};
use crate::wait;
use crate::wire::Connection;

/// Stem of the names of namespaces; the process id follows.
pub const STEM: &str = "hft";
/// Name under which small disks are mounted.
pub const DISK: &str = "holdfast-torture";
const SECRET: &str = "torture";
const NODE_PORT: u16 = 6666;
const FIRST_ANNOUNCED: u16 = 6379;
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// A disk that can be filled.
const DISK_MB: u32 = 192;
/// One that hangs, and is not to fill up by itself.
const LARGE_DISK_MB: u64 = 768;
/// One with place for slots of others; a file with holes, as it is not used.
const GUESTS_DISK_MB: u64 = 4_096;

/// A node as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// 40 characters.
    pub id: String,
    /// Position of its host.
    pub host: usize,
    /// From 0.
    pub shard: usize,
}

/// A running cluster; ends with its handle.
#[derive(Debug)]
pub struct Site {
    /// All hosts. Before the network, so that processes end before their namespaces.
    pub hosts: Vec<Host>,
    /// Its network.
    pub network: Network,
    /// All nodes.
    pub members: Vec<Member>,
    /// Slots of each shard.
    pub slots: Vec<Ranges>,
    /// Kind of the load balancers.
    pub balancer: Balancer,
    /// Nodes in each shard.
    nodes_per_shard: usize,
    disks: Vec<PathBuf>,
}

impl Site {
    /// Starts it in a folder and waits until the controller calls it healthy.
    pub fn start(dir: &Path, plan: &Plan, mode: Mode) -> Result<Self> {
        let mut site = Self::lay_out(dir, plan)?;
        for index in 0..site.hosts.len() {
            site.configure(index, plan).with_context(|| site.hosts[index].name.clone())?;
            site.hosts[index].start(&site.network)?;
        }
        site.await_nodes()?;
        site.create(plan, mode)?;
        wait::until("the cluster is healthy", START_PATIENCE, || site.health())?;
        Ok(site)
    }

    fn lay_out(dir: &Path, plan: &Plan) -> Result<Self> {
        let node_count = plan.shape.shards * plan.shape.nodes;
        let mut roles = vec![("ctl".to_owned(), Role::Controller)];
        roles.extend((0..BALANCERS).map(|number| (format!("lb{number}"), Role::Balancer(number))));
        roles.extend((0..node_count).map(|number| (format!("n{number}"), Role::Node(number))));
        let wishes: Vec<Wish> = roles
            .iter()
            .map(|(name, role)| Wish {
                name: name.clone(),
                is_balancer: matches!(role, Role::Balancer(_)),
            })
            .collect();
        let network = Network::create(&format!("{STEM}{}", std::process::id()), &wishes)?;
        let mut site = Self {
            hosts: Vec::new(),
            network,
            members: Vec::new(),
            slots: Vec::new(),
            balancer: plan.balancer,
            nodes_per_shard: plan.shape.nodes,
            disks: Vec::new(),
        };
        for (place, (name, role)) in roles.iter().enumerate() {
            let dir = dir.join(name);
            std::fs::create_dir_all(&dir).context("create a host's folder")?;
            let is_controller = matches!(role, Role::Controller);
            let has_disk = is_controller || matches!(role, Role::Node(_));
            let is_hit = |target| has_disk && (target == Target::Controller) == is_controller;
            let (hangs, fills) = (plan.hangs_disks(is_hit), plan.fills_disks(is_hit));
            if hangs || fills {
                match (plan.errands.is_empty() || is_controller, hangs) {
                    (false, _) => disk::mount_ext4(&dir, GUESTS_DISK_MB)?,
                    (true, true) => disk::mount_ext4(&dir, LARGE_DISK_MB)?,
                    (true, false) => disk::mount(&dir, DISK_MB, DISK)?,
                }
                site.disks.push(dir.clone());
            }
            let address = site.network.places[place].address;
            site.hosts.push(Host::new(name, *role, place, address, dir));
        }
        Ok(site)
    }

    fn configure(&mut self, index: usize, plan: &Plan) -> Result<()> {
        let host = self.hosts.get(index).context("find a host")?;
        let (role, address, dir) = (host.role, host.address, host.dir.clone());
        let ours = |command: &str, name: &str, text: String| -> Result<(PathBuf, Vec<OsString>)> {
            let config = dir.join(name);
            std::fs::write(&config, text).with_context(|| format!("write {name}"))?;
            Ok((holdfast()?, vec![command.into(), "-c".into(), config.into()]))
        };
        let (program, arguments) = match role {
            Role::Node(_) => ours("node", "node.conf", self.node_conf(address, &dir, plan))?,
            Role::Controller => ours(
                "controller",
                "controller.toml",
                format!(
                    "listen = \"{}\"\ndata = {:?}\nheartbeat_ms = 200\nmisses = 4\nlease_ms = {}\n",
                    rest::LISTEN,
                    dir.join("controller.redb"),
                    plan.lease_ms
                ),
            )?,
            Role::Balancer(number) if plan.balancer == Balancer::Builtin => ours(
                "balancer",
                "balancer.toml",
                format!(
                    "name = \"lb{number}\"\nlisten = \"{address}:9400\"\ntoken = \"{SECRET}\"\n\
                     bind_source = \"{address}\"\nworkers = 1\n"
                ),
            )?,
            Role::Balancer(_) => {
                let config = dir.join("haproxy.cfg");
                std::fs::write(&config, self.haproxy_config(address, plan)?)?;
                let master = format!("ipv4@{address}:9002");
                let arguments: Vec<OsString> =
                    vec!["-W".into(), "-S".into(), master.into(), "-f".into(), config.into()];
                ("/usr/sbin/haproxy".into(), arguments)
            }
        };
        let host = self.hosts.get_mut(index).context("find a host")?;
        (host.program, host.arguments) = (program, arguments);
        Ok(())
    }

    fn node_conf(&self, address: std::net::Ipv4Addr, dir: &Path, plan: &Plan) -> String {
        let balancers = self.hosts.iter().filter(|host| matches!(host.role, Role::Balancer(_)));
        let sources: Vec<String> = balancers.map(|host| format!("{}/32", host.address)).collect();
        format!(
            "bind {address}\nport {NODE_PORT}\ndir {}\ncluster-enabled yes\nprotected-mode no\n\
             workers 2\nrocksdb.block_cache_size 16\nrocksdb.write_buffer_size {}\n\
             peer-auth {SECRET}\nmasterauth {SECRET}\nmaster-lease-mode block-all\n\
             client-access balancer-only\nbalancer-sources {}\n",
            dir.display(),
            plan.memtable_mb,
            sources.join(",")
        )
    }

    /// As an operator makes it.
    fn haproxy_config(&self, address: std::net::Ipv4Addr, plan: &Plan) -> Result<String> {
        let nodes = plan.shape.shards * plan.shape.nodes;
        let listen: Vec<String> =
            (0..nodes).map(|node| format!("{ANNOUNCED}:{}", announced_port(plan, node))).collect();
        let output = Command::new(holdfast()?)
            .args(["ctl", "haproxy-config", "--maxconn", "2000"])
            .args(["--announce", &listen.join(","), "--source", &address.to_string()])
            .args(["--runtime", &format!("{address}:9001")])
            .args(["--master", &format!("{address}:9002")])
            .output()
            .context("ask for HAProxy's configuration")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).context("read HAProxy's configuration")
    }

    fn await_nodes(&mut self) -> Result<()> {
        for index in 0..self.hosts.len() {
            if !matches!(self.hosts[index].role, Role::Node(_)) {
                continue;
            }
            wait::until("a node answers", START_PATIENCE, || {
                self.ask(index, &["PING"]).map(|_| ())
            })?;
        }
        Ok(())
    }

    /// A command to a node, as its controller would send it, from its own namespace: cuts do not matter.
    pub fn ask(&self, host: usize, command: &[&str]) -> Result<String> {
        let host = self.hosts.get(host).context("find a host")?;
        let space = self.network.places.get(host.place).context("find a place")?.space.name();
        let address = SocketAddr::new(host.address.into(), NODE_PORT);
        crate::netns::inside(space, || {
            let mut link = Connection::open_within(address, ANSWER_PATIENCE, ANSWER_PATIENCE)?;
            link.call(&["AUTH", SECRET])?;
            Ok(link.call(command)?.text())
        })
    }

    /// A node's own address, and the namespace of its host.
    pub fn door(&self, host: usize) -> Option<(String, SocketAddr)> {
        let host = self.hosts.get(host)?;
        let space = self.network.places.get(host.place)?.space.name().to_owned();
        Some((space, SocketAddr::new(host.address.into(), NODE_PORT)))
    }

    /// The controller's namespace.
    pub fn control(&self) -> &str {
        let is_controller = |host: &&Host| host.role == Role::Controller;
        let place = self.hosts.iter().find(is_controller).map_or(0, |host| host.place);
        self.network.places.get(place).map_or("", |place| place.space.name())
    }

    fn create(&mut self, plan: &Plan, mode: Mode) -> Result<()> {
        let body = self.cluster_spec(plan, mode);
        let control = self.control().to_owned();
        wait::until("the controller creates the namespace", START_PATIENCE, || {
            let space = json!({"namespace": "torture"});
            rest::once(&control, ANSWER_PATIENCE, |client| client.post("/namespaces", &space))
        })?;
        let told = rest::once(&control, START_PATIENCE, |client| {
            client.post("/namespaces/torture/clusters", &body)?;
            client.get(rest::CLUSTER)
        })
        .context("create the cluster")?;
        self.check_mode(&told, mode)?;
        self.read_members(&told)
    }

    /// A binary that does not know the field ignores it, and its acknowledgements would be judged by the wrong rule.
    fn check_mode(&self, told: &Json, mode: Mode) -> Result<()> {
        let said = rest::find(told, "commit_mode").and_then(Json::as_str);
        let wanted = mode.as_str();
        match (said, mode) {
            (Some(said), _) if said == wanted => Ok(()),
            (None, Mode::Async) => Ok(()),
            (Some(said), _) => bail!("asked for commit_mode {wanted}, the cluster has {said}"),
            (None, Mode::InSync) => bail!(
                "this binary does not know `commit_mode`: it acknowledges asynchronously. Use MODE=async"
            ),
        }
    }

    fn cluster_spec(&self, plan: &Plan, mode: Mode) -> Json {
        let nodes: Vec<Json> = self
            .hosts
            .iter()
            .filter_map(|host| match host.role {
                Role::Node(number) => Some(json!({
                    "addr": format!("{}:{NODE_PORT}", host.address),
                    "announced_host": ANNOUNCED.to_string(),
                    "announced_port": announced_port(plan, number),
                })),
                _ => None,
            })
            .collect();
        let balancers: Vec<Json> = self
            .hosts
            .iter()
            .filter(|host| matches!(host.role, Role::Balancer(_)))
            .map(|host| {
                let address = host.address;
                let endpoint = match plan.balancer {
                    Balancer::Builtin => format!("http://{address}:9400"),
                    Balancer::Haproxy => format!("{address}:9001,{address}:9002"),
                };
                json!({
                    "name": host.name, "kind": plan.balancer.as_str(), "endpoint": endpoint,
                    "token": SECRET, "source": address.to_string(),
                })
            })
            .collect();
        json!({
            "name": "main", "nodes": nodes, "password": SECRET, "replicas": plan.shape.nodes,
            "balancers": balancers, "commit_mode": mode.as_str(),
        })
    }

    fn read_members(&mut self, told: &Json) -> Result<()> {
        self.slots = movers::owners(told.get("cluster").context("find the cluster")?)?;
        let shards = told.pointer("/cluster/shards").and_then(Json::as_array);
        for (index, shard) in shards.context("find the shards")?.iter().enumerate() {
            let nodes = shard.get("nodes").and_then(Json::as_array).context("find nodes")?;
            for node in nodes {
                let text = |name: &str| node.get(name).and_then(Json::as_str).unwrap_or_default();
                let address = text("addr");
                let host = self
                    .hosts
                    .iter()
                    .position(|host| address == format!("{}:{NODE_PORT}", host.address))
                    .with_context(|| format!("find the host of {address}"))?;
                self.members.push(Member { id: text("id").to_owned(), host, shard: index });
            }
        }
        Ok(())
    }

    /// The slots of each shard now, as the controller tells.
    pub fn owners(&self) -> Result<Vec<Ranges>> {
        let status = rest::once(self.control(), ANSWER_PATIENCE, |client| {
            client.get(&format!("{}/status", rest::CLUSTER))
        });
        movers::owners(&status?)
    }

    /// Fine if the controller calls the cluster healthy and every replica follows; else what is in the way.
    pub fn health(&self) -> Result<(), String> {
        let status = rest::once(self.control(), ANSWER_PATIENCE, |client| {
            client.get(&format!("{}/status", rest::CLUSTER))
        });
        match obstacle(&status.map_err(|error| format!("{error:#}"))?) {
            Some(obstacle) => Err(obstacle),
            None => Ok(()),
        }
    }

    /// What the controller and every node say of themselves, for reports.
    pub fn state(&self) -> String {
        let status = rest::once(self.control(), ANSWER_PATIENCE, |client| {
            client.get(&format!("{}/status", rest::CLUSTER))
        });
        let pretty = status.and_then(|status| Ok(serde_json::to_string_pretty(&status)?));
        let mut text = format!("{}\n", pretty.unwrap_or_else(|error| format!("{error:#}")));
        for (index, host) in self.hosts.iter().enumerate() {
            if !matches!(host.role, Role::Node(_)) {
                continue;
            }
            for command in [["INFO", "replication"], ["CLUSTERX", "NODES"]] {
                let said = self.ask(index, &command);
                let said = said.unwrap_or_else(|error| format!("{error:#}"));
                text += &format!("\n{}: {}\n{said}\n", host.name, command.join(" "));
            }
        }
        text
    }

    /// Where clients reach the master of a shard, or one of its replicas (from 1).
    pub fn announced(&self, shard: usize, number: usize) -> Result<SocketAddr> {
        let port = FIRST_ANNOUNCED + u16::try_from(number * self.slots.len() + shard)?;
        Ok(SocketAddr::new(ANNOUNCED.into(), port))
    }

    /// Nodes in each shard.
    pub fn nodes_per_shard(&self) -> usize {
        self.nodes_per_shard
    }

    /// A member by its id.
    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// What a report calls a node.
    pub fn name_of(&self, id: &str) -> String {
        let host = self.member(id).and_then(|member| self.hosts.get(member.host));
        host.map_or_else(|| id.to_owned(), |host| host.name.clone())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Processes first: they hold files on the disks.
        self.hosts.clear();
        for dir in &self.disks {
            disk::unmount(dir);
        }
    }
}

/// As `up` numbers them: masters come first.
fn announced_port(plan: &Plan, node: usize) -> u16 {
    let (shard, number) = (node / plan.shape.nodes, node % plan.shape.nodes);
    // At most 8 shards of 5 nodes.
    FIRST_ANNOUNCED + u16::try_from(number * plan.shape.shards + shard).unwrap_or_default()
}

/// What keeps a status from being healthy.
fn obstacle(status: &Json) -> Option<String> {
    let is_healthy = status.get("healthy").and_then(Json::as_bool).unwrap_or(false);
    let Some(shards) = status.get("shards").and_then(Json::as_array) else {
        return Some("the status has no shards".to_owned());
    };
    let nodes = shards
        .iter()
        .flat_map(|shard| shard.get("nodes").and_then(Json::as_array).into_iter().flatten());
    for node in nodes {
        let text = |path: &str| node.pointer(path).and_then(Json::as_str).unwrap_or("?");
        let is_replica = text("/role") == "slave";
        let follows = text("/answer/link_status") == "up" && text("/answer/resync") == "none";
        if text("/health") != "up" || (is_replica && !follows) {
            let address = text("/addr");
            let (health, link) = (text("/health"), text("/answer/link_status"));
            let (resync, error) = (text("/answer/resync"), text("/error"));
            return Some(format!(
                "{address}: {health}, link {link}, resync {resync}, error {error}"
            ));
        }
    }
    if is_healthy {
        return None;
    }
    let states: Vec<String> = shards
        .iter()
        .map(|shard| {
            let text = |name: &str| shard.get(name).and_then(Json::as_str).unwrap_or("?");
            let set = shard.get("in_sync").map(|set| format!(" in-sync set {set}"));
            format!("{} ({}){}", text("state"), text("detail"), set.unwrap_or_default())
        })
        .collect();
    let balancers = status.get("balancers").map(ToString::to_string).unwrap_or_default();
    Some(format!("shards: {}; balancers: {balancers}", states.join(", ")))
}
