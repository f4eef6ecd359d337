//! What a person is told once the cluster is usable.

use std::fmt::Write as _;
use std::path::Path;

use super::layout::{BalancerKind, Layout};
use super::state::{Role, State};

/// The table of what to connect to, and an example.
pub(crate) fn render(layout: &Layout, state: &State, folder: &Path) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let mut line = |words: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{words}");
    };
    line(format_args!(
        "{:<6} {:<8} {:<22} {:<22} {:<22} pid",
        "shard", "role", "clients connect to", "node", "admin"
    ));
    let mut nodes: Vec<_> = state.nodes.iter().collect();
    nodes.sort_by_key(|node| (node.shard, node.role != Role::Master, node.port));
    for node in nodes {
        let local = format!("{}:{}", node.host, node.port);
        let announced = match (&node.announced_host, node.announced_port) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            _ => local.clone(),
        };
        let role = if node.role == Role::Master { "master" } else { "replica" };
        let admin = format!("{}:{}", node.host, node.admin_port);
        let pid = node.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        line(format_args!(
            "{:<6} {role:<8} {announced:<22} {local:<22} {admin:<22} {pid}",
            node.shard
        ));
    }
    line(format_args!(""));
    match layout.balancer {
        BalancerKind::None => {
            line(format_args!("no balancers: clients reach the nodes themselves"))
        }
        kind => line(format_args!(
            "{} {kind} balancers share the addresses that clients connect to; nodes serve no client otherwise",
            layout.balancers
        )),
    }
    let program = shown(std::env::current_exe().ok().as_deref());
    let urls = || state.controllers.iter().map(|of| of.url.as_str());
    let urls = urls().collect::<Vec<_>>().join(",");
    line(format_args!("controller  {}", urls.replace(',', " ")));
    if let Some(controller) = state.controllers.first() {
        line(format_args!("web page    {}/", controller.url));
    }
    line(format_args!("ask it      {program} ctl -H {urls} status"));
    if layout.members() > 0 {
        let members: Vec<&str> = state.etcd.iter().map(|of| of.url.as_str()).collect();
        line(format_args!("etcd        {}", members.join(" ")));
    }
    line(format_args!("folder      {}   (logs/, cluster.json)", folder.display()));
    if let Some(master) = state.master(0) {
        let host = master.announced_host.as_deref().unwrap_or(&master.host);
        let port = master.announced_port.unwrap_or(master.port);
        line(format_args!("try         redis-cli -c -h {host} -p {port} set hello world"));
    }
    text
}

/// What is said at once: until the cluster is usable there is nothing else to see.
pub(crate) fn starting(layout: &Layout, folder: &Path) -> String {
    let count = |count: u16, what: &str| match count {
        1 => format!("a {what}"),
        _ => format!("{count} {what}s"),
    };
    format!(
        "starting, in {}: {}, {}, {}; this takes some seconds",
        folder.display(),
        count(layout.nodes(), "node"),
        count(layout.balancers.into(), "balancer"),
        count(layout.controllers.into(), "controller")
    )
}

/// This program as a person can type it: by the path it was started from, since `PATH` may not have
/// it.
fn shown(program: Option<&Path>) -> String {
    program.map_or_else(|| "holdfast".to_owned(), |path| path.display().to_string())
}
