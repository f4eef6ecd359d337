//! The configuration files of the processes, and the command lines that use them. Written anew at
//! every start.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use api::rest::BalancerSpec;
use balancer::haproxy::{ConfigFile, Listen, RuntimeAddress, render_config};

use super::folder::Folder;
use super::layout::{BalancerKind, HOST, Layout};
use super::process::Spec;
use super::state::replace;

/// Name of the controller's process.
pub(crate) const CONTROLLER: &str = "controller";

/// Down detection and leases as the controller is told.
pub(crate) const HEARTBEAT_MS: u64 = 200;
/// Heartbeats in a row without an answer before a node counts as down.
pub(crate) const MISSES: u32 = 4;
/// How long a master may serve after the last heartbeat it saw.
pub(crate) const LEASE_MS: u64 = 1000;

/// Small: many nodes share one machine.
const BLOCK_CACHE_MB: u32 = 16;
const VALUE_CACHE_MB: u32 = 16;
/// Log files that are kept for replicas that come back, MB: the default would fill a laptop's disk
/// under load.
const WAL_KEPT_MB: u32 = 512;
const WORKERS: u32 = 2;
/// Of one HAProxy, if the system lets it open that many files.
const MAX_CONNECTIONS: u32 = 10_000;
/// Files a HAProxy needs besides the two of each connection: listeners, sockets, event queues.
const OTHER_FILES: u64 = 200;

/// The processes that come in numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Numbered by port.
    Node,
    /// Numbered from 0.
    Balancer,
    /// Numbered from 0; the first has no number.
    Controller,
    /// Numbered from 0.
    Etcd,
}

impl Kind {
    /// What relies on others stops before them: clients see a clean end, and no node is replaced.
    fn rank(self) -> u8 {
        match self {
            Self::Node => 0,
            Self::Etcd => 1,
            Self::Controller => 2,
            Self::Balancer => 3,
        }
    }
}

/// Name of a process: also of its log.
pub(crate) fn name(kind: Kind, number: u16) -> String {
    match kind {
        Kind::Node => format!("node-{number}"),
        Kind::Balancer => format!("balancer-{number}"),
        Kind::Controller if number == 0 => CONTROLLER.to_owned(),
        Kind::Controller => format!("{CONTROLLER}-{number}"),
        Kind::Etcd => format!("etcd-{number}"),
    }
}

/// Writes all files; returns what to start, in order.
pub(crate) fn write_all(folder: &Folder, layout: &Layout) -> Result<Vec<Spec>> {
    let holdfast = std::env::current_exe().context("find the path of this program")?;
    let ours = |kind: Kind, name: &str, command: &str, config: &Path| Spec {
        name: name.to_owned(),
        program: holdfast.clone(),
        arguments: vec![command.into(), "-c".into(), config.into()],
        log: folder.log(name),
        rank: kind.rank(),
    };
    let mut specs = Vec::new();
    for node in 0..layout.nodes() {
        let port = layout.node_port(node);
        let dir = folder.of("nodes", &port.to_string())?;
        let config = write(dir.join("node.conf"), &node_conf(folder, layout, node, &dir))?;
        specs.push(ours(Kind::Node, &name(Kind::Node, port), "node", &config));
    }
    for member in 0..layout.members() {
        specs.push(etcd(folder, layout, member)?);
    }
    let dir = folder.path().join("controller");
    for controller in 0..layout.controllers {
        let name = name(Kind::Controller, controller.into());
        let text = controller_toml(layout, controller, &dir);
        let config = write(dir.join(format!("{name}.toml")), &text)?;
        specs.push(ours(Kind::Controller, &name, "controller", &config));
    }
    for balancer in 0..layout.balancers {
        let name = name(Kind::Balancer, u16::from(balancer));
        let dir = folder.of("balancers", &balancer.to_string())?;
        specs.push(match layout.balancer {
            BalancerKind::Haproxy => haproxy(folder, layout, balancer, &name, &dir)?,
            _ => {
                let text = balancer_toml(folder, layout, balancer, &name);
                let config = write(dir.join("balancer.toml"), &text)?;
                ours(Kind::Balancer, &name, "balancer", &config)
            }
        });
    }
    Ok(specs)
}

/// Every file may hold the secret, so none is for others to read.
fn write(path: PathBuf, text: &str) -> Result<PathBuf> {
    replace(&path, text.as_bytes(), 0o600)?;
    Ok(path)
}

/// What `ctl rotate peers` changes at the nodes, and has them write into their files: the
/// controller knows the passwords that stand there, and no others.
const PASSWORDS: [&str; 3] = ["peer-auth ", "peer-auth-also ", "masterauth "];

/// The lines with the passwords of a node: those of its file, or the folder's secret at the first
/// start.
fn passwords(secret: &str, written: &str) -> String {
    let is_of_these = |line: &&str| PASSWORDS.iter().any(|name| line.starts_with(name));
    let kept: Vec<&str> = written.lines().filter(is_of_these).collect();
    match kept.iter().any(|line| line.starts_with(PASSWORDS[0])) {
        true => kept.iter().map(|line| format!("{line}\n")).collect(),
        false => format!("peer-auth {secret}\nmasterauth {secret}\n"),
    }
}

fn node_conf(folder: &Folder, layout: &Layout, node: u16, dir: &Path) -> String {
    let written = std::fs::read_to_string(dir.join("node.conf")).unwrap_or_default();
    let passwords = passwords(&folder.secret, &written);
    let access = match layout.balancer {
        BalancerKind::None => "client-access any\n".to_owned(),
        _ => {
            let sources: Vec<String> = (0..layout.balancers)
                .map(|balancer| format!("{}/32", layout.balancer_source(balancer)))
                .collect();
            format!("client-access balancer-only\nbalancer-sources {}\n", sources.join(","))
        }
    };
    format!(
        "# Written by `holdfast up` at every start, but for the passwords of nodes.\n\
         bind {HOST}\n\
         port {port}\n\
         admin-port {admin}\n\
         dir {dir}\n\
         cluster-enabled yes\n\
         workers {WORKERS}\n\
         rocksdb.block_cache_size {BLOCK_CACHE_MB}\n\
         value-cache-size {VALUE_CACHE_MB}\n\
         rocksdb.wal_size_limit_mb {WAL_KEPT_MB}\n\
         {passwords}\
         master-lease-mode block-all\n\
         {access}",
        port = layout.node_port(node),
        admin = layout.admin_port(node),
        dir = dir.display(),
    )
}

/// Where controllers reach a member.
pub(crate) fn etcd_url(layout: &Layout, member: u8) -> String {
    format!("http://{HOST}:{}", layout.etcd_ports(member).0)
}

/// A member of the etcd. What controllers write is little, and is kept for an hour.
fn etcd(folder: &Folder, layout: &Layout, member: u8) -> Result<Spec> {
    let name = |member: u8| name(Kind::Etcd, member.into());
    let peer_url = |member: u8| format!("http://{HOST}:{}", layout.etcd_ports(member).1);
    let dir = folder.of("etcd", &member.to_string())?;
    let all = (0..layout.members()).map(|member| format!("{}={}", name(member), peer_url(member)));
    let (clients, peers) = (etcd_url(layout, member), peer_url(member));
    let program = ["/usr/bin/etcd", "/usr/local/bin/etcd"].map(PathBuf::from);
    let program = program.into_iter().find(|path| path.exists());
    let options = [
        ("--name", name(member)),
        ("--data-dir", dir.display().to_string()),
        ("--listen-client-urls", clients.clone()),
        ("--advertise-client-urls", clients),
        ("--listen-peer-urls", peers.clone()),
        ("--initial-advertise-peer-urls", peers),
        ("--initial-cluster", all.collect::<Vec<_>>().join(",")),
        ("--heartbeat-interval", "50".to_owned()),
        ("--election-timeout", "500".to_owned()),
        ("--auto-compaction-retention", "1".to_owned()),
    ];
    Ok(Spec {
        name: name(member),
        program: program.context("find etcd (on Debian: apt-get install etcd-server)")?,
        arguments: options
            .into_iter()
            .flat_map(|(key, value)| [key.into(), value.into()])
            .collect(),
        log: folder.log(&name(member)),
        rank: Kind::Etcd.rank(),
    })
}

fn controller_toml(layout: &Layout, controller: u8, dir: &Path) -> String {
    let members: Vec<String> =
        (0..layout.members()).map(|member| etcd_url(layout, member)).collect();
    format!(
        "# Written by `holdfast up` at every start.\n\
         listen = \"{HOST}:{port}\"\n\
         data = {data:?}\n\
         heartbeat_ms = {HEARTBEAT_MS}\n\
         misses = {MISSES}\n\
         lease_ms = {LEASE_MS}\n\
         store = \"{store}\"\n\
         etcd_endpoints = {members:?}\n",
        port = layout.controller_port(controller),
        store = layout.store,
        data = dir.join("controller.redb"),
    )
}

fn balancer_toml(folder: &Folder, layout: &Layout, balancer: u8, name: &str) -> String {
    format!(
        "# Written by `holdfast up` at every start.\n\
         name = \"{name}\"\n\
         listen = \"{HOST}:{port}\"\n\
         token = \"{token}\"\n\
         bind_source = \"{source}\"\n\
         workers = {WORKERS}\n",
        port = layout.balancer_port(balancer),
        token = folder.secret,
        source = layout.balancer_source(balancer),
    )
}

/// Master-worker mode: a reload leaves the old worker where the controller can see it, on the
/// master's socket.
fn haproxy(folder: &Folder, layout: &Layout, balancer: u8, name: &str, dir: &Path) -> Result<Spec> {
    let listen: Vec<Listen> = (0..layout.nodes())
        .filter_map(|node| layout.announced_port(node))
        .map(|port| topology::Endpoint { host: HOST.to_owned(), port })
        .map(|endpoint| Listen { endpoint, bind: None })
        .collect();
    let runtime = RuntimeAddress::Unix(runtime_socket(folder, balancer));
    let master_path = master_socket(folder, balancer);
    let master = RuntimeAddress::Unix(master_path.clone());
    let text = render_config(&ConfigFile {
        frontends: &listen,
        bind_source: Some(layout.balancer_source(balancer).into()),
        runtime: &runtime,
        master: Some(&master),
        maxconn: max_connections(),
    })
    .context("make HAProxy's configuration")?;
    let config = write(dir.join("haproxy.cfg"), &text)?;
    let program = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy", "/usr/bin/haproxy"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .context("find haproxy (on Debian: apt-get install haproxy)")?;
    Ok(Spec {
        name: name.to_owned(),
        program,
        arguments: vec!["-W".into(), "-S".into(), master_path.into(), "-f".into(), config.into()],
        log: folder.log(name),
        rank: Kind::Balancer.rank(),
    })
}

/// HAProxy refuses to start with more connections than the hard limit of open files allows.
fn max_connections() -> u32 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[expect(unsafe_code, reason = "std does not read resource limits")]
    // SAFETY: getrlimit writes one rlimit to the address, which is that of a live local.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    if read { connections_within(limit.rlim_max) } else { MAX_CONNECTIONS }
}

fn connections_within(files: u64) -> u32 {
    let possible = files.saturating_sub(OTHER_FILES) / 2;
    u32::try_from(possible).unwrap_or(MAX_CONNECTIONS).clamp(1, MAX_CONNECTIONS)
}

/// How the controller reaches the balancers: part of the request that creates the cluster.
pub(crate) fn balancers_for_controller(folder: &Folder, layout: &Layout) -> Vec<BalancerSpec> {
    let balancer = |balancer: u8| {
        let (endpoint, token) = match layout.balancer {
            BalancerKind::Haproxy => {
                let runtime = runtime_socket(folder, balancer);
                let master = master_socket(folder, balancer);
                (format!("{},{}", runtime.display(), master.display()), None)
            }
            _ => {
                let url = format!("http://{HOST}:{}", layout.balancer_port(balancer));
                (url, Some(folder.secret.clone()))
            }
        };
        BalancerSpec {
            name: name(Kind::Balancer, u16::from(balancer)),
            kind: layout.balancer.to_string(),
            endpoint,
            token,
            source: Some(layout.balancer_source(balancer).to_string()),
        }
    };
    (0..layout.balancers).map(balancer).collect()
}

fn runtime_socket(folder: &Folder, balancer: u8) -> PathBuf {
    folder.path().join("balancers").join(balancer.to_string()).join("runtime.sock")
}

fn master_socket(folder: &Folder, balancer: u8) -> PathBuf {
    folder.path().join("balancers").join(balancer.to_string()).join("master.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_was_changed_at_a_node_is_kept() {
        assert_eq!(passwords("s", ""), "peer-auth s\nmasterauth s\n");
        let written = "port 1\npeer-auth n\nmasterauth n\npeer-auth-also \"\"\nrequirepass x\n";
        assert_eq!(passwords("s", written), "peer-auth n\nmasterauth n\npeer-auth-also \"\"\n");
    }

    #[test]
    fn haproxy_asks_for_no_more_files_than_it_may_open() {
        assert_eq!(connections_within(u64::MAX), MAX_CONNECTIONS);
        assert_eq!(connections_within(20_000), 9_900);
        assert_eq!(connections_within(100), 1);
    }
}
