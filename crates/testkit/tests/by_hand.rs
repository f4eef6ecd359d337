//! No controller: topologies sent with redis-cli, HAProxy pointed by hand, addresses of another
//! network.
//!
//! Runs in network namespaces of its own, and fails where it may not make them (it needs root): a
//! pass always means that it was tried.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::netns::Namespace;
use testkit::process::{self, Process, Server};
use testkit::wait;

const PATIENCE: Duration = Duration::from_secs(30);
const HOST: &str = "10.190.28.10";
const VERSION: u64 = 1_754_120_940;

/// Id and port of the six nodes; the third is the master that is announced, the sixth its replica.
const NODES: [(&str, &str); 6] = [
    ("ZrFserb4Mqi5dbyCLCMUm9zFXMNPhzKE4RbFauJa", "7115"),
    ("qhbVLW9dc2VF9CZOmvBJOzzqkhNA3oHoD3NVWVyg", "7133"),
    ("9cnjXnaNK5KfPtX01V0wn7ZtM7FDPnz7va9qPJBs", "7237"),
    ("fuCHh8Ru9tFSY313QPfBcPQ3QeP63Z4rWpqpyaOl", "7255"),
    ("cIqdj5C37cMrr7r7ydZDZ8zm1T1vPLMWj8516rrF", "6741"),
    ("3D8JRN8YVONqRU57jP99E3JdH2QnLHzZpFN4rcQQ", "6765"),
];
/// Hashes to slot 12182, of the third master.
const KEY: &str = "foo";

struct Network {
    space: Namespace,
    dir: tempfile::TempDir,
    nodes: Vec<Process>,
}

impl Network {
    fn create() -> Result<Self> {
        let space = Namespace::create("lb")?;
        for address in [HOST, "192.168.0.1", "192.168.0.2"] {
            space.own(address)?;
        }
        let dir = tempfile::tempdir().context("create a folder")?;
        let mut network = Self { space, dir, nodes: Vec::new() };
        network.start_nodes()?;
        Ok(network)
    }

    fn start_nodes(&mut self) -> Result<()> {
        for (_, port) in NODES {
            self.nodes.push(start_node(&self.space, self.dir.path(), HOST, port)?);
        }
        for (_, port) in NODES {
            wait::until("a node answers", PATIENCE, || self.cli(port, &["PING"]))?;
        }
        Ok(())
    }

    /// redis-cli against a node's own address.
    fn cli(&self, port: &str, arguments: &[&str]) -> Result<String> {
        cli(&self.space, HOST, port, arguments)
    }

    /// The same topology to every node.
    fn set_nodes(&self, text: &str, version: u64) -> Result<()> {
        for (id, port) in NODES {
            for command in [
                vec!["CLUSTERX", "SETNODEID", id],
                vec!["CLUSTERX", "SETNODES", text, &version.to_string()],
            ] {
                let said = self.cli(port, &command)?;
                ensure!(said.trim() == "OK", "{port}: {command:?}: {said}");
            }
        }
        Ok(())
    }

    /// What clients are shown, from any node.
    fn check_view(&self) -> Result<()> {
        for (_, port) in NODES {
            let nodes = self.cli(port, &["CLUSTER", "NODES"])?;
            for shown in
                ["192.168.0.2:1222@11222", "192.168.0.1:1234@11234", "10.190.28.10:7115@17115"]
            {
                ensure!(nodes.contains(shown), "{port} does not show {shown}:\n{nodes}");
            }
            for hidden in ["10.190.28.10:7237", "10.190.28.10:6765"] {
                ensure!(!nodes.contains(hidden), "{port} shows {hidden}:\n{nodes}");
            }
            let slots = self.cli(port, &["CLUSTER", "SLOTS"])?;
            ensure!(
                slots.contains("192.168.0.2\n1222\n") && slots.contains("192.168.0.1\n1234\n"),
                "{slots}"
            );
        }
        let (owner, _) = NODES[2];
        let replicas = self.cli("7115", &["CLUSTER", "REPLICAS", owner])?;
        ensure!(replicas.contains("192.168.0.1:1234"), "{replicas}");
        let moved = self.cli("7115", &["GET", KEY])?;
        ensure!(moved.trim() == "MOVED 12182 192.168.0.2:1222", "{moved}");
        Ok(())
    }
}

fn start_node(space: &Namespace, dir: &Path, host: &str, port: &str) -> Result<Process> {
    let dir = dir.join(port);
    std::fs::create_dir_all(&dir).context("create a folder")?;
    let config = dir.join("node.conf");
    let text = format!(
        "bind {host}\nport {port}\ndir {}\ncluster-enabled yes\nprotected-mode no\nworkers 1\n\
         rocksdb.block_cache_size 16\n",
        dir.display()
    );
    std::fs::write(&config, text).context("write node.conf")?;
    let arguments = ["node".into(), "-c".into(), config];
    space.start::<PathBuf>(&process::holdfast()?, &arguments, &dir.join("log"))
}

fn cli(space: &Namespace, host: &str, port: &str, arguments: &[&str]) -> Result<String> {
    let mut all = vec!["-h", host, "-p", port];
    all.extend(arguments);
    space.run("redis-cli", &all)
}

/// Some nodes announced, some not. `swapped`: the third master and its replica change places,
/// and the announced address of the role goes with it.
fn topology(swapped: bool) -> String {
    let id = |index: usize| NODES[index].0;
    let line =
        |index: usize, rest: &str| format!("{} {HOST} {} {rest}\n", id(index), NODES[index].1);
    let (master, replica) = if swapped { (5, 2) } else { (2, 5) };
    [
        line(0, "master - 0-5460"),
        line(1, "master - 5461-10921"),
        line(master, "master - 10922-16383 192.168.0.2 1222"),
        line(3, &format!("slave {}", id(0))),
        line(4, &format!("slave {}", id(1))),
        line(replica, &format!("slave {} 192.168.0.1 1234", id(master))),
    ]
    .concat()
}

fn haproxy(network: &Network) -> Result<Process> {
    let path = network.dir.path();
    let config = path.join("haproxy.cfg");
    let text = format!(
        "global\n  stats socket {socket} mode 600 level admin\n\
         defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1m\n  timeout server 1m\n\
         listen master\n  bind 192.168.0.2:1222\n  server node {HOST}:7237\n\
         listen replica\n  bind 192.168.0.1:1234\n  server node {HOST}:6765\n",
        socket = path.join("sock").display()
    );
    std::fs::write(&config, text).context("write haproxy.cfg")?;
    let arguments = [PathBuf::from("-f"), config];
    network.space.start(Path::new("/usr/sbin/haproxy"), &arguments, &path.join("haproxy.log"))
}

/// Points HAProxy elsewhere and cuts what is left.
fn repoint(network: &Network, listen: &str, port: &str) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let path = network.dir.path().join("sock");
    for command in [
        format!("set server {listen}/node addr {HOST} port {port}"),
        format!("shutdown sessions server {listen}/node"),
    ] {
        let mut socket = std::os::unix::net::UnixStream::connect(&path).context("reach HAProxy")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(format!("{command}\n").as_bytes())?;
        socket.read_to_string(&mut String::new())?;
    }
    Ok(())
}

#[test]
fn a_topology_set_by_hand_shows_announced_addresses() -> Result<()> {
    let mut network = Network::create()?;
    network.set_nodes(&topology(false), VERSION)?;
    let _haproxy = haproxy(&network)?;
    network.check_view()?;
    let through = |network: &Network, arguments: &[&str]| {
        cli(&network.space, "192.168.0.2", "1222", arguments)
    };
    wait::until("a write through HAProxy", PATIENCE, || {
        let said = through(&network, &["SET", KEY, "bar"])?;
        ensure!(said.trim() == "OK", "{said}");
        Ok(())
    })?;

    for node in std::mem::take(&mut network.nodes) {
        node.kill()?;
    }
    network.start_nodes()?;
    network.check_view()?;
    ensure!(through(&network, &["GET", KEY])?.trim() == "bar");

    let old_replica = NODES[5].1;
    wait::until("the replica has the key", PATIENCE, || {
        let info = network.cli(old_replica, &["INFO", "replication"])?;
        ensure!(info.contains("master_link_status:up"), "{info}");
        let size = network.cli("6765", &["CLUSTER", "COUNTKEYSINSLOT", "12182"])?;
        ensure!(size.trim() == "1", "{size}");
        Ok(())
    })?;
    network.set_nodes(&topology(true), VERSION + 1)?;
    repoint(&network, "master", "6765")?;
    repoint(&network, "replica", "7237")?;
    network.check_view_swapped()?;
    wait::until("a write to the new master", PATIENCE, || {
        let said = through(&network, &["SET", KEY, "baz"])?;
        ensure!(said.trim() == "OK", "{said}");
        Ok(())
    })?;
    ensure!(through(&network, &["CLUSTER", "MYID"])?.trim() == NODES[5].0);
    Ok(())
}

impl Network {
    fn check_view_swapped(&self) -> Result<()> {
        let nodes = self.cli("7133", &["CLUSTER", "NODES"])?;
        let master = format!("{} 192.168.0.2:1222@11222", NODES[5].0);
        let replica = format!("{} 192.168.0.1:1234@11234", NODES[2].0);
        ensure!(nodes.contains(&master) && nodes.contains(&replica), "{nodes}");
        Ok(())
    }
}

/// Replication uses local addresses: the announced ones do not even route where the replica is.
/// What `docs/operating.md` says of CLUSTER RESET HARD and FLUSHALL.
#[test]
fn a_node_with_keys_is_not_reset_and_flushall_takes_those_of_a_master() -> Result<()> {
    let (master, replica) =
        (Server::node("cluster-enabled yes")?, Server::node("cluster-enabled yes")?);
    let place = |server: &Server| format!("{} {}", server.address.ip(), server.address.port());
    let (id, other) = (NODES[0].0, NODES[1].0);
    let text = format!(
        "{id} {} master - 0-16383\n{other} {} slave {id}\n",
        place(&master),
        place(&replica)
    );
    let (mut first, mut second) = (master.connect()?, replica.connect()?);
    for (connection, id) in [(&mut first, id), (&mut second, other)] {
        ensure!(connection.call(&["CLUSTERX", "SETNODEID", id])?.text() == "OK");
        ensure!(connection.call(&["CLUSTERX", "SETNODES", &text, "1"])?.text() == "OK");
    }
    ensure!(first.call(&["SET", KEY, "1"])?.text() == "OK");
    wait::until("the replica has it", PATIENCE, || {
        second.call(&["READONLY"])?;
        let said = second.call(&["GET", KEY])?.text();
        ensure!(said == "1", "{said}");
        Ok(())
    })?;
    for connection in [&mut first, &mut second] {
        let said = connection.call(&["CLUSTER", "RESET", "HARD"])?.text();
        ensure!(said.contains("database is not empty"), "{said}");
    }
    let said = second.call(&["FLUSHALL"])?.text();
    ensure!(said.starts_with("READONLY"), "{said}");
    ensure!(first.call(&["FLUSHALL"])?.text() == "OK");
    ensure!(first.call(&["CLUSTER", "RESET", "HARD"])?.text() == "OK");
    let said = first.call(&["CLUSTERX", "VERSION"])?.text();
    ensure!(said == "-1", "it has a topology: {said}");
    let said = first.call(&["CLUSTERX", "MYID"])?.text();
    ensure!(said != id, "it is {said}");
    Ok(())
}

#[test]
fn a_replica_in_a_network_without_the_announced_addresses() -> Result<()> {
    let (near, far) = (Namespace::create("near")?, Namespace::create("far")?);
    near.connect("10.190.28.1/24", &far, "10.190.28.2/24")?;
    near.own("192.168.0.2")?;
    let dir = tempfile::tempdir().context("create a folder")?;
    let _master = start_node(&near, dir.path(), "10.190.28.1", "7115")?;
    let _replica = start_node(&far, dir.path(), "10.190.28.2", "7255")?;
    let (master_id, replica_id) = (NODES[0].0, NODES[3].0);
    let text = format!(
        "{master_id} 10.190.28.1 7115 master - 0-16383 192.168.0.2 1222\n\
         {replica_id} 10.190.28.2 7255 slave {master_id} 192.168.0.2 1223\n"
    );
    let master = |arguments: &[&str]| cli(&near, "10.190.28.1", "7115", arguments);
    let replica = |arguments: &[&str]| cli(&far, "10.190.28.2", "7255", arguments);
    wait::until("both nodes answer", PATIENCE, || {
        master(&["PING"]).and_then(|_| replica(&["PING"]))
    })?;
    ensure!(far.run("ip", &["route", "get", "192.168.0.2"]).is_err(), "192.168.0.2 routes");
    for said in [
        master(&["CLUSTERX", "SETNODEID", master_id])?,
        replica(&["CLUSTERX", "SETNODEID", replica_id])?,
        master(&["CLUSTERX", "SETNODES", &text, "1"])?,
        replica(&["CLUSTERX", "SETNODES", &text, "1"])?,
        master(&["SET", KEY, "bar"])?,
    ] {
        ensure!(said.trim() == "OK", "{said}");
    }
    let shown = replica(&["CLUSTER", "NODES"])?;
    ensure!(shown.contains("192.168.0.2:1222@11222"), "{shown}");
    wait::until("the replica has the key", PATIENCE, || {
        let count = replica(&["CLUSTER", "COUNTKEYSINSLOT", "12182"])?;
        ensure!(count.trim() == "1", "{count}\n{}", replica(&["INFO", "replication"])?);
        Ok(())
    })
}
