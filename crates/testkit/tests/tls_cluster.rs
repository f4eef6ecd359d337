//! TLS in cluster mode with real processes: client libraries and redis-cli through balancers that
//! pass it on and where it ends, and links between nodes.

mod common;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use testkit::clients;
use testkit::cluster::{Cluster, Options};
use testkit::process::{self, Process, Server};
use testkit::wait;
use testkit::wire::Connection;

use common::certs::{Ca, GOOD, HERE};
use common::wiretap::wiretap;
use common::{PATIENCE, ctl};

const KEYS: u32 = 300;
/// So far behind its announced port is where TLS alone is spoken.
const BEHIND: u16 = 50;

/// All nodes speak TLS with whoever comes.
fn secure(cluster: &Cluster, ca: &Ca, more: &[(&str, &str)]) -> Result<()> {
    let options = ca.options("node");
    let options = options.iter().map(|(name, value)| (*name, value.as_str()));
    let pairs = options.chain([("tls-auth-clients", "no")]).chain(more.iter().copied());
    let words: Vec<&str> =
        ["CONFIG", "SET"].into_iter().chain(pairs.flat_map(|(n, v)| [n, v])).collect();
    for node in cluster.state()?.nodes {
        let reply = cluster.peer(&node)?.call(&words)?;
        ensure!(reply.text() == "OK", "{reply:?}");
    }
    Ok(())
}

/// What redis-cli says over TLS.
fn said(ca: &Ca, at: SocketAddr, name: Option<&str>, words: &[&str]) -> Result<String> {
    let host = at.ip().to_string();
    let output = ca.cli((&host, at.port()), name).args(words).output().context("run redis-cli")?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// Each library is told one address, and finds all masters by what the cluster tells it.
fn clients_run(cluster: &Cluster, ca: &Ca, start: SocketAddr) -> Result<()> {
    for client in clients::over_tls(Path::new(&ca.path("ca.pem")))? {
        let masters = client.run(start, KEYS).with_context(|| cluster.logs())?;
        ensure!(masters == 3, "{} knows {masters} masters", client.name);
    }
    Ok(())
}

/// The ports that CLUSTER NODES shows.
fn ports(text: &str) -> Result<Vec<u16>> {
    let port = |line: &str| -> Result<u16> {
        let address = line.split(' ').nth(1).with_context(|| line.to_owned())?;
        let (_, port) =
            address.split('@').next().unwrap_or_default().rsplit_once(':').context("a port")?;
        port.parse().with_context(|| line.to_owned())
    };
    let mut ports = text.lines().map(port).collect::<Result<Vec<_>>>()?;
    ports.sort_unstable();
    Ok(ports)
}

/// Announces all nodes with ports of TLS; the ports for clear text, sorted.
fn announce(cluster: &Cluster) -> Result<Vec<u16>> {
    let mut clear = Vec::new();
    for node in cluster.state()?.nodes {
        let at = node.announced()?;
        let endpoint = format!("{at}/{}", at.port() + BEHIND);
        ctl::done(cluster, &["node", "announce", &node.id, &endpoint])?;
        clear.push(at.port());
    }
    clear.sort_unstable();
    Ok(clear)
}

/// Waits until who comes by either port is shown ports of that kind, and no others.
fn each_is_shown_its_kind(cluster: &Cluster, ca: &Ca, clear: &[u16]) -> Result<SocketAddr> {
    let at = cluster.master(0)?.announced()?;
    let secure_at = SocketAddr::new(at.ip(), at.port() + BEHIND);
    wait::until("TLS is spoken at its ports", PATIENCE, || {
        let shown = ports(&said(ca, secure_at, None, &["CLUSTER", "NODES"])?)?;
        let wanted: Vec<u16> = clear.iter().map(|port| port + BEHIND).collect();
        ensure!(shown == wanted, "{shown:?}");
        Ok(())
    })
    .with_context(|| cluster.logs())?;
    let shown = ports(&Connection::open(at)?.call(&["CLUSTER", "NODES"])?.text())?;
    ensure!(shown == clear, "{shown:?}");
    Ok(secure_at)
}

/// The port that takes both kinds is announced for both.
fn passed_through(balancer: &'static str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(folder.path(), "ca")?;
    ca.issue("node", &[HERE], GOOD)?;
    let cluster = Cluster::start(Options { balancer, ..Options::default() })?;
    secure(&cluster, &ca, &[])?;
    clients_run(&cluster, &ca, cluster.master(0)?.announced()?)
}

#[test]
fn libraries_speak_tls_through_the_builtin_balancer() -> Result<()> {
    passed_through("builtin")
}

#[test]
fn libraries_speak_tls_through_haproxy() -> Result<()> {
    passed_through("haproxy")
}

#[test]
fn libraries_speak_tls_without_balancers() -> Result<()> {
    passed_through("none")
}

/// Both ports of an endpoint go with the role.
#[test]
fn libraries_are_sent_to_ports_of_tls_and_these_move_in_a_switchover() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(folder.path(), "ca")?;
    ca.issue("node", &[HERE], GOOD)?;
    let cluster = Cluster::start(Options::default())?;
    secure(&cluster, &ca, &[])?;
    let clear = announce(&cluster)?;
    let start = each_is_shown_its_kind(&cluster, &ca, &clear)?;
    clients_run(&cluster, &ca, start)?;
    let (old, new) = (cluster.master(0)?, cluster.replica(0)?);
    common::in_set(&cluster, &old, &new)?;
    wait::until("a switchover", PATIENCE, || ctl::done(&cluster, &["failover", "shard", "0"]))?;
    wait::until("the port of TLS leads to the new master", PATIENCE, || {
        let id = said(&ca, start, None, &["CLUSTER", "MYID"])?;
        ensure!(id == new.id, "{id}");
        Ok(())
    })
    .with_context(|| cluster.logs())?;
    clients_run(&cluster, &ca, start)
}

/// Nodes have no certificate: what is not redirected by its kind does not come through.
#[test]
fn libraries_are_redirected_where_their_tls_ends_at_the_balancer() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(folder.path(), "ca")?;
    ca.issue("clients", &[HERE], GOOD)?;
    let cluster = Cluster::start(Options::default())?;
    let clear = announce(&cluster)?;
    let frontends: Vec<String> =
        clear.iter().map(|port| format!("'{HERE}:{}'", port + BEHIND)).collect();
    let table = format!(
        "[tls.terminate]\ncert_file = '{}'\nkey_file = '{}'\nfrontends = [{}]\n",
        ca.path("clients.pem"),
        ca.path("clients.key"),
        frontends.join(", ")
    );
    for (index, balancer) in cluster.state()?.balancers.into_iter().enumerate() {
        let place = cluster.dir().join("balancers").join(index.to_string());
        let config = place.join("balancer.toml");
        std::fs::File::options().append(true).open(config)?.write_all(table.as_bytes())?;
        process::signal(balancer.pid.context("it runs")?, libc::SIGHUP)?;
        let log = cluster.dir().join("logs").join(format!("{}.log", balancer.name));
        wait::until("it has read its configuration again", PATIENCE, || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text.contains("configuration read again") { Ok(()) } else { Err(text) }
        })?;
    }
    let start = each_is_shown_its_kind(&cluster, &ca, &clear)?;
    let info = said(&ca, start, None, &["CLIENT", "INFO"])?;
    ensure!(info.contains(" tls=TLSv1.3"), "{info}");
    clients_run(&cluster, &ca, start)
}

/// HAProxy's own words in the PROXY header: that there is TLS, and whose certificate was shown.
#[test]
fn tls_may_end_at_haproxy_if_it_says_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(folder.path(), "ca")?;
    for name in ["clients", "ann"] {
        ca.issue(name, &[HERE], GOOD)?;
    }
    let node = Server::node(
        "cluster-enabled yes\nbalancer-sources 127.0.0.2/32\ntls-auth-clients-user CN\n\
         user ann on nopass ~* &* +@all\n",
    )?;
    let (clear, secure) = (process::free_port()?, process::free_port()?);
    let id = "a".repeat(40);
    let place = format!("{HERE} {} master - 0-16383 {HERE} {clear}", node.address.port());
    let mut at_node = node.connect()?;
    for words in [
        vec!["CLUSTERX", "SETNODEID", &id],
        vec!["CLUSTERX", "SETNODES", &format!("{id} {place} tls=0,{secure}"), "1"],
    ] {
        let reply = at_node.call(&words)?;
        ensure!(reply.text() == "OK", "{reply:?}");
    }
    let pair = folder.path().join("pair.pem");
    let both = ["clients.pem", "clients.key"].map(|name| std::fs::read_to_string(ca.path(name)));
    let [pem, key] = both;
    std::fs::write(&pair, format!("{}{}", pem?, key?))?;
    let config = folder.path().join("haproxy.cfg");
    let text = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
         listen clear\n  bind {HERE}:{clear}\n  server node {} source 127.0.0.2 send-proxy-v2\n\
         listen secure\n  bind {HERE}:{secure} ssl crt {} ca-file {} verify optional\n  \
         server node {} source 127.0.0.2 send-proxy-v2-ssl-cn\n",
        node.address,
        pair.display(),
        ca.path("ca.pem"),
        node.address,
    );
    std::fs::write(&config, text)?;
    let arguments = ["-db".to_owned(), "-f".to_owned(), config.display().to_string()];
    let log = folder.path().join("haproxy.log");
    let haproxy = Process::start(Path::new("/usr/sbin/haproxy"), &arguments, &log)?;
    let at = SocketAddr::from(([127, 0, 0, 1], secure));
    let ask = |name: Option<&str>, words: &[&str]| said(&ca, at, name, words);
    wait::until("HAProxy serves", PATIENCE, || {
        let reply = ask(None, &["PING"])?;
        ensure!(reply == "PONG", "{reply}: {}", haproxy.log());
        Ok(())
    })?;
    let info = ask(Some("ann"), &["CLIENT", "INFO"])?;
    ensure!(info.contains(" user=ann ") && info.contains(" tls=TLSv1."), "{info}");
    let info = ask(None, &["CLIENT", "INFO"])?;
    ensure!(info.contains(" user=default ") && info.contains(" tls=TLSv1."), "{info}");
    ensure!(ports(&ask(None, &["CLUSTER", "NODES"])?)? == [secure]);
    let mut in_clear = Connection::open(SocketAddr::from(([127, 0, 0, 1], clear)))?;
    ensure!(ports(&in_clear.call(&["CLUSTER", "NODES"])?.text())? == [clear]);
    ensure!(!in_clear.call(&["CLIENT", "INFO"])?.text().contains(" tls="));
    Ok(())
}

/// Nothing of it can be read on its way.
fn is_encrypted(heard: &[u8], words: &[&str]) -> Result<()> {
    ensure!(heard.len() > 1_000 && heard.first() == Some(&0x16), "{} bytes", heard.len());
    for word in words {
        ensure!(!heard.windows(word.len()).any(|bytes| bytes == word.as_bytes()), "{word}");
    }
    Ok(())
}

/// The stream of a move is dialled as a replica's link is: at the port of TLS of the giver.
#[test]
fn slots_move_over_tls_where_links_are_over_tls() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(folder.path(), "ca")?;
    ca.issue("node", &[HERE], GOOD)?;
    let cluster = Cluster::start(Options { shards: 2, ..Options::default() })?;
    secure(&cluster, &ca, &[("tls-replication", "yes")])?;
    let (giver, taker) = (cluster.master(0)?, cluster.master(1)?);
    let (tap, heard) = wiretap(giver.local()?)?;
    ctl::done(&cluster, &["node", "tls-port", &giver.id, &tap.to_string()])?;
    wait::until("the taker knows the port", PATIENCE, || {
        let topology = cluster.peer(&taker)?.call(&["CLUSTERX", "NODES"])?.text();
        ensure!(topology.contains(&format!(" tls={tap},0")), "{topology}");
        Ok(())
    })
    .with_context(|| cluster.logs())?;
    // Of slot 866.
    let keys: Vec<String> = (0..50).map(|number| format!("{{hello}}visible-{number}")).collect();
    for key in &keys {
        common::write_until_ok(giver.announced()?, key, "visible-value")?;
    }
    ctl::done(&cluster, &["move", "slots", "866", "--to", "1", "--yes"])?;
    let last = ctl::moves_over(&cluster)?;
    ensure!(last["error"].is_null(), "{last:#}\n{}", cluster.logs());
    let mut at_taker = Connection::open(taker.announced()?)?;
    for key in &keys {
        let reply = at_taker.call(&["GET", key])?;
        ensure!(reply.text() == "visible-value", "{key}: {reply:?}");
    }
    let heard = heard.lock().clone();
    is_encrypted(&heard, &["visible", "AUTH", "PULL", &cluster.secret()?])
}

/// Of a topology without a controller, as Kvrocks' are set by hand.
#[test]
fn links_and_redirections_go_to_the_ports_of_tls() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(folder.path(), "ca")?;
    ca.issue("node", &[HERE], GOOD)?;
    let lines = format!("{}tls-auth-clients no\ncluster-enabled yes\n", ca.lines("node"));
    let master = Server::node(&lines)?;
    let replica = Server::node(&format!("{lines}tls-replication yes\n"))?;
    let (tap, heard) = wiretap(master.address)?;
    let ids = ["m", "r"].map(|letter| letter.repeat(40));
    let text = format!(
        "{} {HERE} {} master - 0-16383 tls={tap},0\n{} {HERE} {} slave {}",
        ids[0],
        master.address.port(),
        ids[1],
        replica.address.port(),
        ids[0],
    );
    for (node, id) in [(&master, &ids[0]), (&replica, &ids[1])] {
        let mut connection = node.connect()?;
        ensure!(connection.call(&["CLUSTERX", "SETNODEID", id])?.text() == "OK");
        ensure!(connection.call(&["CLUSTERX", "SETNODES", &text, "1"])?.text() == "OK");
        ensure!(connection.call(&["CLUSTERX", "NODES"])?.text() == text);
    }
    let mut at_master = master.connect()?;
    ensure!(at_master.call(&["SET", "visible-key", "visible-value"])?.text() == "OK");
    let mut at_replica = replica.connect()?;
    ensure!(at_replica.call(&["READONLY"])?.text() == "OK");
    wait::until("the replica has it", PATIENCE, || {
        let reply = at_replica.call(&["GET", "visible-key"])?;
        ensure!(reply.text() == "visible-value", "{reply:?}: {}", replica.process().log());
        Ok(())
    })?;
    is_encrypted(&heard.lock().clone(), &["visible", "PSYNC", "REPLCONF"])?;
    // It is known by its local address all the same.
    let info = at_replica.call(&["INFO", "replication"])?.text();
    ensure!(info.contains(&format!("master_port:{}\r\n", master.address.port())), "{info}");
    let shown = |text: &str| ports(text).map(|ports| ports.contains(&tap));
    ensure!(!shown(&at_master.call(&["CLUSTER", "NODES"])?.text())?);
    ensure!(shown(&said(&ca, master.address, None, &["CLUSTER", "NODES"])?)?);
    // redis-cli follows over TLS, to the port for it.
    let before = heard.lock().len();
    let value = said(&ca, replica.address, None, &["-c", "GET", "visible-key"])?;
    ensure!(value == "visible-value" && heard.lock().len() > before, "{value}");
    Ok(())
}
