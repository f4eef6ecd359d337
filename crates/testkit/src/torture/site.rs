//! The cluster of a run: configuration files, processes, and its creation through a controller.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value as Json, json};

use super::actions::Target;
use super::etcd::{self, Etcd};
use super::health::obstacle;
use super::host::{Host, Role};
use super::http::{Caller, Door, apart};
use super::keys::Ranges;
use super::movers;
use super::network::{ANNOUNCED, Network, Wish};
use super::rest::{self, Control};
use super::schedule::{BALANCERS, MEMBERS, Plan};
use super::setup::{Balancer, Mode, Store};
use crate::disk;
use crate::process::{START_PATIENCE, holdfast};
use crate::wait;
use crate::wire::Connection;

/// Stem of the names of namespaces; the process id follows.
pub const STEM: &str = "hft";
/// Name under which small disks are mounted.
pub const DISK: &str = "holdfast-torture";
/// `peer-auth` of the nodes.
pub const SECRET: &str = "torture";
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
    control: Control,
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
        let roles = roles(plan);
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
            control: Control::new(Vec::new(), None),
            disks: Vec::new(),
        };
        for (place, (name, role)) in roles.iter().enumerate() {
            let dir = dir.join(name);
            std::fs::create_dir_all(&dir).context("create a host's folder")?;
            let is_node = matches!(role, Role::Node(_));
            let is_hit = |target: Target| match role {
                Role::Controller(_) => target == Target::Controller,
                Role::Member(_) => target.is_member(),
                Role::Node(_) => target.is_node(),
                Role::Balancer(_) => false,
            };
            let (hangs, fills) = (plan.hangs_disks(is_hit), plan.fills_disks(is_hit));
            if hangs || fills {
                match (plan.errands.is_empty() || !is_node, hangs) {
                    (false, _) => disk::mount_ext4(&dir, GUESTS_DISK_MB)?,
                    (true, true) => disk::mount_ext4(&dir, LARGE_DISK_MB)?,
                    (true, false) => disk::mount(&dir, DISK_MB, DISK)?,
                }
                site.disks.push(dir.clone());
            }
            let address = site.network.places[place].address;
            site.hosts.push(Host::new(name, *role, place, address, dir));
        }
        site.control = site.ways(plan.store);
        Ok(site)
    }

    /// Where controllers and members of etcd are asked.
    fn ways(&self, store: Store) -> Control {
        let doors = |port: u16, token, is_meant: fn(Role) -> bool| -> Vec<Door> {
            let door = |host: &Host| {
                let space = self.network.places.get(host.place)?.space.name().to_owned();
                let address = format!("{}:{port}", host.address);
                Some(Door { name: host.name.clone(), space, address, token })
            };
            self.hosts.iter().filter(|host| is_meant(host.role)).filter_map(door).collect()
        };
        let token = (store == Store::Etcd).then_some(rest::TOKEN);
        let mut controllers = doors(rest::PORT, token, |role| matches!(role, Role::Controller(_)));
        if store == Store::Embedded {
            for door in &mut controllers {
                rest::LISTEN.clone_into(&mut door.address);
            }
            return Control::new(controllers, None);
        }
        let members = doors(etcd::PORT, None, |role| matches!(role, Role::Member(_)));
        Control::new(controllers, Some(Etcd::new(members)))
    }

    fn addresses(&self, is_meant: fn(Role) -> bool) -> Vec<std::net::Ipv4Addr> {
        let hosts = self.hosts.iter().filter(|host| is_meant(host.role));
        hosts.map(|host| host.address).collect()
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
            Role::Controller(_) => {
                ours("controller", "controller.toml", self.controller_conf(address, &dir, plan))?
            }
            Role::Member(number) => {
                let members = self.addresses(|role| matches!(role, Role::Member(_)));
                let may_be_filled = plan.uses_up_quota();
                let arguments = etcd::arguments((number, members.as_slice()), &dir, may_be_filled);
                ("etcd".into(), arguments)
            }
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

    fn controller_conf(&self, address: std::net::Ipv4Addr, dir: &Path, plan: &Plan) -> String {
        let (misses, lease_ms) = (plan.misses, plan.lease_ms);
        let how = format!("heartbeat_ms = 200\nmisses = {misses}\nlease_ms = {lease_ms}\n");
        if plan.store == Store::Embedded {
            let data = dir.join("controller.redb");
            return format!("listen = \"{}\"\ndata = {data:?}\n{how}", rest::LISTEN);
        }
        let members = self.addresses(|role| matches!(role, Role::Member(_)));
        let members: Vec<String> =
            members.iter().map(|member| format!("http://{member}:{}", etcd::PORT)).collect();
        format!(
            "listen = \"{address}:{}\"\ntoken = \"{}\"\nstore = \"etcd\"\n\
             etcd_endpoints = {members:?}\n{how}",
            rest::PORT,
            rest::TOKEN
        )
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
            .args(["ctl", "haproxy-config", "--maxconn", "2000", "--open-sockets"])
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

    /// A command to a node, as its controller would send it, from its own namespace: cuts do not
    /// matter.
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

    /// Its controllers.
    pub fn control(&self) -> &Control {
        &self.control
    }

    fn create(&mut self, plan: &Plan, mode: Mode) -> Result<()> {
        let body = self.cluster_spec(plan, mode);
        // What was made without an answer is found to be there.
        let made = |client: &rest::Client, path: &str, body: &Json| match client.post(path, body) {
            Err(error) if !format!("{error:#}").contains("HTTP 409") => Err(error),
            _ => Ok(()),
        };
        wait::until("a controller creates the namespace", START_PATIENCE, || {
            let space = json!({"namespace": "torture"});
            self.control.once(ANSWER_PATIENCE, |client| made(client, "/namespaces", &space))
        })?;
        let told = wait::until("a controller creates the cluster", START_PATIENCE, || {
            self.control.once(START_PATIENCE, |client| {
                made(client, "/namespaces/torture/clusters", &body)?;
                client.get(rest::CLUSTER)
            })
        })?;
        self.check_mode(&told, mode)?;
        self.read_members(&told)
    }

    /// A binary that does not know the field ignores it, and its acknowledgements would be judged
    /// by the wrong rule.
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

    /// The slots of each shard now, as the controllers tell.
    pub fn owners(&self) -> Result<Vec<Ranges>> {
        wait::until("a controller that leads tells of slots", ANSWER_PATIENCE, || {
            let status = self.control.once(ANSWER_PATIENCE, rest::Client::status);
            status.and_then(|status| movers::owners(&status)).map_err(|error| format!("{error:#}"))
        })
    }

    /// Fine if the controller that leads calls the cluster healthy, every replica follows, and each
    /// other controller and each member of etcd does its part; else what is in the way.
    pub fn health(&self) -> Result<(), String> {
        let status = self.control.once(ANSWER_PATIENCE, rest::Client::status);
        if let Some(obstacle) = obstacle(&status.map_err(|error| format!("{error:#}"))?) {
            return Err(obstacle);
        }
        let Some(etcd) = self.control.etcd() else { return Ok(()) };
        let of_each = || -> Result<()> {
            for one in self.control.each() {
                one.once(ANSWER_PATIENCE, |client| client.get(rest::CLUSTER))?;
            }
            apart(|| etcd.answers(&Caller::new(ANSWER_PATIENCE)?))
        };
        of_each().map_err(|error| format!("{error:#}"))
    }

    /// What the controller and every node say of themselves, for reports.
    pub fn state(&self) -> String {
        let status = self
            .control
            .once(ANSWER_PATIENCE, |client| client.get(&format!("{}/status", rest::CLUSTER)));
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

/// Names and roles of all hosts, in the order in which they are started.
fn roles(plan: &Plan) -> Vec<(String, Role)> {
    let mut roles = Vec::new();
    if plan.store == Store::Etcd {
        roles.extend((0..MEMBERS).map(|number| (format!("etcd{number}"), Role::Member(number))));
    }
    roles.extend((0..plan.controllers).map(|number| {
        let name = if plan.controllers == 1 { "ctl".to_owned() } else { format!("ctl{number}") };
        (name, Role::Controller(number))
    }));
    roles.extend((0..BALANCERS).map(|number| (format!("lb{number}"), Role::Balancer(number))));
    let nodes = plan.shape.shards * plan.shape.nodes;
    roles.extend((0..nodes).map(|number| (format!("n{number}"), Role::Node(number))));
    roles
}

/// As `up` numbers them: masters come first.
fn announced_port(plan: &Plan, node: usize) -> u16 {
    let (shard, number) = (node / plan.shape.nodes, node % plan.shape.nodes);
    // At most 8 shards of 5 nodes.
    FIRST_ANNOUNCED + u16::try_from(number * plan.shape.shards + shard).unwrap_or_default()
}
