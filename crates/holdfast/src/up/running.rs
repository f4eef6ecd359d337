//! A running local cluster: starts its processes, waits until it is usable, keeps `cluster.json`
//! true.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use api::grant::CommitMode;
use api::rest::{Announced, ClusterSpec, NodeFields, NodeSpec};
use tokio::sync::watch;

use super::configs::{self, Kind};
use super::controller::{CLUSTER, Controller, NodeView, endpoint};
use super::folder::Folder;
use super::layout::{BalancerKind, DEFAULT_BASE_PORT, HOST, Layout, Store};
use super::ports;
use super::process;
use super::slots::{self, Keys};
use super::state::{self, State};
use super::supervisor::{Restart, Supervisor};

/// How long a dead child stays dead.
pub(crate) const RESTART_DELAY: Duration = Duration::from_secs(2);
/// How long a start may take, a recovery of the data included.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How often the controller is asked for changes of role.
const POLL: Duration = Duration::from_millis(100);

/// What the command line says about the shape.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) shards: Option<u16>,
    pub(crate) replicas: Option<u16>,
    pub(crate) balancer: Option<BalancerKind>,
    pub(crate) balancers: Option<u8>,
    pub(crate) base_port: Option<u16>,
    pub(crate) controllers: Option<u8>,
    pub(crate) store: Option<Store>,
    /// No part of the shape: the controller keeps it, and may be told to change it.
    pub(crate) commit_mode: Option<CommitMode>,
}

/// The processes and what is known of them.
#[derive(Debug)]
pub(crate) struct Running {
    folder: Folder,
    layout: Layout,
    supervisor: Supervisor,
    changes: watch::Receiver<u64>,
    controller: Controller,
    state: State,
    /// To be asked for once, if the cluster is there already.
    commit_mode: Option<CommitMode>,
}

impl Running {
    /// Starts all processes. Returns at once; see [`Self::ready`].
    pub(crate) fn start(
        dir: &Path,
        wanted: &Wanted,
        restart: bool,
        announce: bool,
    ) -> Result<Self> {
        let folder = Folder::open(dir)?;
        // What a run that was killed left says nothing about this one: gone before anything else
        // can fail or take time.
        let _ = std::fs::remove_file(folder.path().join(state::FILE));
        let layout = settle(wanted, folder.layout()?)?;
        layout.check()?;
        ports::check_free(&layout)?;
        folder.keep_layout(&layout)?;
        let restart = if restart { Restart::After(RESTART_DELAY) } else { Restart::Never };
        let mut supervisor = Supervisor::new(announce);
        for spec in configs::write_all(&folder, &layout)? {
            supervisor.start(spec, restart)?;
        }
        let url = |controller| format!("http://{HOST}:{}", layout.controller_port(controller));
        let urls: Vec<String> = (0..layout.controllers).map(url).collect();
        let known = |url: &String| state::Controller { url: url.clone(), pid: None };
        let state = State {
            controller: known(&url(0)),
            controllers: urls.iter().map(known).collect(),
            etcd: Vec::new(),
            nodes: Vec::new(),
            balancers: Vec::new(),
        };
        let changes = supervisor.changes();
        let controller = Controller::new(urls)?;
        let commit_mode = wanted.commit_mode;
        Ok(Self { folder, layout, supervisor, changes, controller, state, commit_mode })
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn controller(&self) -> &Controller {
        &self.controller
    }

    pub(crate) fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Creates the cluster if the controller does not know it yet, and waits until every slot
    /// accepts writes.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let keys = Keys::find();
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let Err(obstacle) = self.try_ready(&keys).await else { break };
            if let Some(name) = self.supervisor.ended().first() {
                let log = self.folder.log(name);
                bail!(
                    "{name} ended while starting; the end of {}:\n{}",
                    log.display(),
                    process::tail(&log, 12)
                );
            }
            if Instant::now() > deadline {
                return Err(obstacle.context(self.given_up().await));
            }
            tokio::time::sleep(POLL).await;
        }
        self.state.write(self.folder.path())
    }

    /// Why the start is given up, in the controller's words where it has some.
    async fn given_up(&self) -> String {
        let mut told = format!(
            "the cluster is not usable after {} s; logs are in {}",
            START_PATIENCE.as_secs(),
            self.folder.path().join("logs").display()
        );
        for alarm in self.controller.alarms().await {
            told.push_str(&format!("\nalarm: {alarm}"));
        }
        told
    }

    async fn try_ready(&mut self, keys: &Keys) -> Result<()> {
        if !self.controller.has_cluster().await? {
            self.controller.create(&self.cluster_spec()).await?;
        } else if let Some(mode) = self.commit_mode {
            self.controller.set_commit_mode(mode).await?;
        }
        self.commit_mode = None;
        self.refresh().await?;
        if let Some(node) = self.state.nodes.iter().find(|node| node.pid.is_none()) {
            bail!("node {}:{} is not running", node.host, node.port);
        }
        slots::all_accept(&self.client_addresses()?, keys).await
    }

    fn cluster_spec(&self) -> ClusterSpec {
        let node = |node| {
            let announced_port = self.layout.announced_port(node);
            NodeSpec::Full(NodeFields {
                addr: format!("{HOST}:{}", self.layout.node_port(node)),
                announced: Announced {
                    announced_host: announced_port.map(|_| HOST.to_owned()),
                    announced_port,
                    announced_tls_port: None,
                },
                ..NodeFields::default()
            })
        };
        ClusterSpec {
            name: CLUSTER.to_owned(),
            nodes: (0..self.layout.nodes()).map(node).collect(),
            password: Some(self.folder.secret.clone()),
            // The controller counts the master too.
            replicas: Some(i64::from(self.layout.replicas) + 1),
            balancers: configs::balancers_for_controller(&self.folder, &self.layout),
            commit_mode: self.commit_mode,
            ..ClusterSpec::default()
        }
    }

    /// Where clients reach the masters.
    fn client_addresses(&self) -> Result<Vec<SocketAddr>> {
        (0..usize::from(self.layout.shards))
            .map(|shard| {
                let master = self
                    .state
                    .master(shard)
                    .with_context(|| format!("shard {shard} has no master"))?;
                client_address(master)
            })
            .collect()
    }

    /// Waits for the next change of a pid or, by asking the controller, of a role; writes
    /// `cluster.json` if there is one.
    pub(crate) async fn changed(&mut self) -> Result<()> {
        // A closed channel cannot be: the supervisor is ours. Both outcomes lead to a look.
        let _ = tokio::time::timeout(POLL, self.changes.changed()).await;
        let before = self.state.clone();
        // A controller that does not answer (it may be restarting) is no reason to stop: the pids
        // are still news.
        let _ = self.refresh().await;
        if before != self.state { self.state.write(self.folder.path()) } else { Ok(()) }
    }

    /// Brings the state up to date: pids from the supervisor, roles from the controller.
    async fn refresh(&mut self) -> Result<()> {
        let nodes = self.controller.nodes().await;
        let pid = |name: &str| self.supervisor.status(name).and_then(|status| status.pid);
        for (controller, known) in (0_u16..).zip(&mut self.state.controllers) {
            known.pid = pid(&configs::name(Kind::Controller, controller));
        }
        self.state.controller.pid = pid(configs::CONTROLLER);
        self.state.etcd = (0..self.layout.members())
            .map(|member| {
                let url = configs::etcd_url(&self.layout, member);
                state::Controller { url, pid: pid(&configs::name(Kind::Etcd, member.into())) }
            })
            .collect();
        self.state.balancers = (0..self.layout.balancers)
            .map(|balancer| {
                let name = configs::name(Kind::Balancer, u16::from(balancer));
                state::Balancer {
                    kind: self.layout.balancer.to_string(),
                    host: HOST.to_owned(),
                    port: (self.layout.balancer == BalancerKind::Builtin)
                        .then(|| self.layout.balancer_port(balancer)),
                    pid: pid(&name),
                    name,
                }
            })
            .collect();
        if let Ok(views) = &nodes {
            let nodes = views.iter().map(|view| self.node(view)).collect::<Result<_>>()?;
            self.state.nodes = nodes;
        } else {
            for node in &mut self.state.nodes {
                node.pid = pid(&configs::name(Kind::Node, node.port));
            }
        }
        nodes.map(|_| ())
    }

    fn node(&self, view: &NodeView) -> Result<state::Node> {
        let (host, port) = endpoint(&view.address)?;
        let name = configs::name(Kind::Node, port);
        Ok(state::Node {
            id: view.id.clone(),
            pid: self.supervisor.status(&name).and_then(|status| status.pid),
            host,
            port,
            admin_port: self.layout.admin_port_of(port),
            shard: view.shard,
            role: view.role,
            announced_host: view.announced.as_ref().map(|(host, _)| host.clone()),
            announced_port: view.announced.as_ref().map(|(_, port)| *port),
        })
    }

    /// Stops all processes.
    pub(crate) async fn stop(self) {
        self.supervisor.stop().await;
        let _ = std::fs::remove_file(self.folder.path().join(state::FILE));
    }
}

/// Where clients reach a node.
pub(crate) fn client_address(node: &state::Node) -> Result<SocketAddr> {
    let host = node.announced_host.as_deref().unwrap_or(&node.host);
    let port = node.announced_port.unwrap_or(node.port);
    Ok(SocketAddr::new(host.parse().with_context(|| format!("read address `{host}`"))?, port))
}

/// The shape: the folder's if it has one, and then the command line may only repeat it.
fn settle(wanted: &Wanted, kept: Option<Layout>) -> Result<Layout> {
    let Some(kept) = kept else {
        let balancer = wanted.balancer.unwrap_or(BalancerKind::Builtin);
        let default_balancers = if balancer == BalancerKind::None { 0 } else { 2 };
        return Ok(Layout {
            shards: wanted.shards.unwrap_or(3),
            replicas: wanted.replicas.unwrap_or(1),
            balancer,
            balancers: wanted.balancers.unwrap_or(default_balancers),
            base_port: wanted.base_port.unwrap_or(DEFAULT_BASE_PORT),
            controllers: wanted.controllers.unwrap_or(1),
            store: wanted.store.unwrap_or_default(),
        });
    };
    fn same<T: PartialEq + std::fmt::Display>(
        option: &str,
        wanted: Option<&T>,
        kept: &T,
    ) -> Result<()> {
        match wanted {
            Some(wanted) if wanted != kept => {
                bail!(
                    "this folder was made with {option} {kept}, not {wanted}: leave the option out, or use another --dir"
                )
            }
            _ => Ok(()),
        }
    }
    same("--shards", wanted.shards.as_ref(), &kept.shards)?;
    same("--replicas", wanted.replicas.as_ref(), &kept.replicas)?;
    same("--balancer", wanted.balancer.as_ref(), &kept.balancer)?;
    same("--balancers", wanted.balancers.as_ref(), &kept.balancers)?;
    same("--base-port", wanted.base_port.as_ref(), &kept.base_port)?;
    same("--controllers", wanted.controllers.as_ref(), &kept.controllers)?;
    same("--store", wanted.store.as_ref(), &kept.store)?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_folder_keeps_its_shape() {
        let first = settle(&Wanted { shards: Some(2), ..Wanted::default() }, None).unwrap();
        assert_eq!((first.shards, first.replicas, first.balancers), (2, 1, 2));
        assert_eq!(settle(&Wanted::default(), Some(first.clone())).unwrap(), first);
        let other = Wanted { shards: Some(3), ..Wanted::default() };
        let error = settle(&other, Some(first)).unwrap_err().to_string();
        assert!(error.contains("made with --shards 2, not 3"), "{error}");
    }
}
