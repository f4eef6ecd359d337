//! HTTPS of controller and balancer with real processes, certificates made here.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use testkit::process::{self, Process, Server};
use testkit::wait;

use common::PATIENCE;
use common::certs::{Ca, GOOD, HERE};

/// The first second of the year until which certificates are valid.
const ENDS_S: &str = "7258118400";

/// A controller or a balancer.
struct Service {
    process: Process,
    port: u16,
}

impl Service {
    /// `tls` are lines of the table of that name.
    fn start(folder: &Path, kind: &str, lines: &str, tls: &str) -> Result<Self> {
        let port = process::free_port()?;
        let config = folder.join(format!("{kind}.toml"));
        let text = format!("listen = '{HERE}:{port}'\n{lines}\n[tls]\n{tls}");
        std::fs::write(&config, text).context("write the configuration")?;
        let config = config.display().to_string();
        let log = folder.join(format!("{kind}.log"));
        let process = Process::start(&process::holdfast()?, &[kind, "-c", &config], &log)?;
        Ok(Self { process, port })
    }

    fn url(&self) -> String {
        format!("https://{HERE}:{}", self.port)
    }

    /// Asks for a path over HTTPS; shows the certificate `client` where one is named, and says the
    /// token `hush`, for which nobody asks but who has it.
    fn get(&self, ca: &Ca, client: Option<&str>, path: &str) -> Result<String> {
        get(ca, client, &format!("{}{path}", self.url()))
    }

    /// What ctl says, which knows it by `ca`.
    fn ctl(&self, ca: &Ca, words: &[&str]) -> Result<String> {
        let cacert = ca.path("ca.pem");
        ctl(&self.url(), &[&["--cacert", &cacert], words].concat())
    }

    /// Has it read its files again; returns once it has said so in words that contain these.
    fn reload(&self, words: &str) -> Result<()> {
        let count = || self.process.log().matches(words).count();
        let before = count();
        process::signal(self.process.pid(), libc::SIGHUP)?;
        wait::until("SIGHUP is told of", PATIENCE, || {
            if count() > before { Ok(()) } else { Err(self.process.log()) }
        })
    }
}

/// Asks who is known by `ca`; shows the certificate `client` where one is named.
fn get(ca: &Ca, client: Option<&str>, url: &str) -> Result<String> {
    let mut builder = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    let root = std::fs::read(ca.path("ca.pem"))?;
    builder = builder.add_root_certificate(reqwest::Certificate::from_pem(&root)?);
    if let Some(name) = client {
        let mut pem = std::fs::read(ca.path(&format!("{name}.key")))?;
        pem.extend(std::fs::read(ca.path(&format!("{name}.pem")))?);
        builder = builder.identity(reqwest::Identity::from_pem(&pem)?);
    }
    let client = builder.build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let answer = client.get(url).bearer_auth("hush").send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{status}: {text}");
        Ok(text)
    })
}

/// Lines of the table `tls`.
fn table(ca: &Ca, name: &str) -> String {
    let (pem, key) = (ca.path(&format!("{name}.pem")), ca.path(&format!("{name}.key")));
    format!("cert_file = '{pem}'\nkey_file = '{key}'\n")
}

fn ctl(url: &str, words: &[&str]) -> Result<String> {
    let mut command = Command::new(process::holdfast()?);
    command.args(["ctl", "-H", url]).args(words);
    let output = command.output().context("run ctl")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(text)
}

#[test]
fn ctl_reaches_a_controller_whose_ca_it_is_told_and_nobody_else_is_let_in() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (ca, other) = (Ca::new(folder.path(), "ca")?, Ca::new(folder.path(), "other")?);
    ca.issue("controller", &[HERE], GOOD)?;
    for ca in [&ca, &other] {
        ca.issue("client", &[], GOOD)?;
    }
    let data = format!("data = '{}'", folder.path().join("store.redb").display());
    let tls = format!("{}client_ca_file = '{}'\n", table(&ca, "controller"), ca.path("ca.pem"));
    let controller = Service::start(folder.path(), "controller", &data, &tls)?;
    let (cacert, other_cacert) = (ca.path("ca.pem"), other.path("ca.pem"));
    let shown =
        |ca: &Ca| ["--cert".into(), ca.path("client.pem"), "--key".into(), ca.path("client.key")];
    let ctl_with = |cacert: &str, shown: &[String]| {
        let mut words = vec!["--cacert", cacert];
        words.extend(shown.iter().map(String::as_str));
        words.extend(["list", "namespaces"]);
        ctl(&controller.url(), &words)
    };
    wait::until("ctl is answered", PATIENCE, || ctl_with(&cacert, &shown(&ca)))?;
    // By the environment too.
    let mut command = Command::new(process::holdfast()?);
    command.args(["ctl", "list", "namespaces"]).env("HOLDFAST_CONTROLLER", controller.url());
    command.env("HOLDFAST_CACERT", &cacert).env("HOLDFAST_CERT", ca.path("client.pem"));
    let output = command.env("HOLDFAST_KEY", ca.path("client.key")).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The other side is another, or nothing is shown to it, or what it does not know.
    let refused = |cacert: &str, shown: &[String]| match ctl_with(cacert, shown) {
        Ok(said) => anyhow::bail!("it was let in: {said}"),
        Err(error) => Ok(error.to_string()),
    };
    let why = refused(&other_cacert, &shown(&ca))?;
    ensure!(why.contains("UnknownIssuer"), "{why}");
    let why = refused(&cacert, &[])?;
    ensure!(why.contains("CertificateRequired"), "{why}");
    let why = refused(&cacert, &shown(&other))?;
    ensure!(why.contains("reach the controller"), "{why}");
    // Nothing is answered in clear.
    let mut plain = TcpStream::connect((HERE, controller.port))?;
    plain.set_read_timeout(Some(PATIENCE))?;
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    // A reset is as good as an end.
    let _ = plain.read_to_end(&mut answer);
    ensure!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    let page = controller.get(&ca, Some("client"), "/metrics")?;
    ensure!(page.contains(&format!("process_certificate_end_time_seconds {ENDS_S}\n")), "{page}");
    ensure!(controller.get(&ca, None, "/metrics").is_err());
    Ok(())
}

#[test]
fn certificates_are_read_again_and_bad_ones_change_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (old, new) = (Ca::new(folder.path(), "old")?, Ca::new(folder.path(), "new")?);
    for ca in [&old, &new] {
        ca.issue("balancer", &[HERE], GOOD)?;
    }
    let tls = table(&old, "balancer");
    let balancer = Service::start(folder.path(), "balancer", "", &tls)?;
    wait::until("it serves", PATIENCE, || balancer.get(&old, None, "/api/v1/state"))?;
    // A handshake that is not finished holds up nobody, and is given up.
    let mut silent = TcpStream::connect((HERE, balancer.port))?;
    let mut half = TcpStream::connect((HERE, balancer.port))?;
    half.write_all(&[0x16, 3, 1, 2, 0, 1, 0])?;
    ensure!(balancer.get(&new, None, "/api/v1/state").is_err());
    // Certificate first, key later: what is in force in between is the old pair.
    std::fs::copy(new.path("balancer.pem"), old.path("balancer.pem"))?;
    balancer.reload("it is not the key of the certificate")?;
    ensure!(balancer.get(&old, None, "/api/v1/state").is_ok());
    std::fs::write(old.path("balancer.key"), "-----BEGIN PRIVATE KEY-----\nAAAA\n")?;
    balancer.reload("there is no key in it that can be read")?;
    ensure!(balancer.get(&old, None, "/api/v1/state").is_ok());
    std::fs::copy(new.path("balancer.key"), old.path("balancer.key"))?;
    balancer.reload("configuration read again")?;
    ensure!(balancer.get(&new, None, "/api/v1/state").is_ok());
    ensure!(balancer.get(&old, None, "/api/v1/state").is_err());
    let page = balancer.get(&new, None, "/metrics")?;
    ensure!(page.contains(&format!("process_certificate_end_time_seconds {ENDS_S}\n")), "{page}");
    for stream in [&mut silent, &mut half] {
        stream.set_read_timeout(Some(PATIENCE))?;
        if let Err(error) = stream.read_to_end(&mut Vec::new()) {
            ensure!(error.kind() == std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
    // One that has run out is found by --check. Where nothing else is in force it is told and used:
    // clients decide.
    new.issue("late", &[HERE], 2001)?;
    let (late, folder) = (table(&new, "late"), folder.path().join("late"));
    std::fs::create_dir(&folder)?;
    let config = folder.join("late.toml");
    std::fs::write(&config, format!("[tls]\n{late}"))?;
    for kind in ["balancer", "controller"] {
        let mut command = Command::new(process::holdfast()?);
        let output = command.args([kind, "--check", "-c"]).arg(&config).output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        let is_told = text.contains("tls.cert_file") && text.contains("it ran out at");
        ensure!(!output.status.success() && is_told, "{kind}: {text}");
    }
    let balancer = Service::start(&folder, "balancer", "", &late)?;
    wait::until("it is told", PATIENCE, || {
        let log = balancer.process.log();
        if log.contains("it ran out at") { Ok(()) } else { Err(log) }
    })?;
    // What else is read again does not wait for a better one.
    balancer.reload("configuration read again")?;
    wait::until("clients are told too", PATIENCE, || match balancer.get(&new, None, "/metrics") {
        Ok(said) => anyhow::bail!("it was believed: {said}"),
        Err(error) => {
            let text = format!("{error:#}");
            ensure!(text.contains("certificate expired"), "{text}");
            Ok(())
        }
    })
}

/// A controller that knows others by `ca`, and its cluster of one node.
fn with_a_cluster(folder: &Path, ca: &Ca) -> Result<(Service, Server)> {
    let data = format!("data = '{}'", folder.join("store.redb").display());
    let tls = format!("{}ca_file = '{}'\n", table(ca, "controller"), ca.path("ca.pem"));
    let controller = Service::start(folder, "controller", &data, &tls)?;
    let node =
        Server::node("cluster-enabled yes\nmaster-lease-mode block-all\npeer-auth secret\n")?;
    let ctl = |words: &[&str]| controller.ctl(ca, words);
    wait::until("ctl is answered", PATIENCE, || ctl(&["create", "namespace", "prod"]))?;
    let address = node.address.to_string();
    let cluster = ["create", "cluster", "main", "--nodes-per-shard", "1"];
    ctl(&[&cluster[..], &["--password", "secret", "--nodes", &address]].concat())?;
    Ok((controller, node))
}

#[test]
fn a_controller_knows_a_balancer_by_its_ca_and_shows_who_it_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (ca, other) = (Ca::new(folder.path(), "ca")?, Ca::new(folder.path(), "other")?);
    for (ca, name) in [(&ca, "balancer"), (&ca, "controller"), (&other, "balancer")] {
        ca.issue(name, &[HERE], GOOD)?;
    }
    let tls = format!("{}client_ca_file = '{}'\n", table(&ca, "balancer"), ca.path("ca.pem"));
    let balancer = Service::start(folder.path(), "balancer", "token = 'hush'", &tls)?;
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere)?;
    let foreign = Service::start(&elsewhere, "balancer", "", &table(&other, "balancer"))?;
    let (controller, _node) = with_a_cluster(folder.path(), &ca)?;
    let ctl = |words: &[&str]| controller.ctl(&ca, words);
    let add = |name: &str, of: &Service, token: &str| {
        ctl(&["balancer", "add", name, "--endpoint", &of.url(), "--balancer-token", token])
    };
    wait::until("the balancer is added", PATIENCE, || add("lb", &balancer, "hush"))?;
    let told = wait::until("it is told what to open", PATIENCE, || {
        let state = balancer.get(&ca, Some("controller"), "/api/v1/state")?;
        let state: serde_json::Value = serde_json::from_str(&state)?;
        ensure!(state["term"].as_u64() > Some(0), "{state}");
        Ok(state)
    });
    told.with_context(|| controller.process.log())?;
    let refused = match add("foreign", &foreign, "") {
        Ok(said) => anyhow::bail!("it was believed: {said}"),
        Err(error) => error.to_string(),
    };
    ensure!(refused.contains("UnknownIssuer"), "{refused}");
    for log in [balancer.process.log(), controller.process.log()] {
        ensure!(!log.contains("hush") && !log.contains("PRIVATE KEY"), "{log}");
    }
    Ok(())
}

/// It is known by its place, so nothing is closed and nothing is added for it.
#[test]
fn a_balancer_that_is_listed_is_spoken_to_over_tls_from_then_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(folder.path(), "ca")?;
    for name in ["balancer", "controller"] {
        ca.issue(name, &[HERE], GOOD)?;
    }
    let port = process::free_port()?;
    let config = folder.path().join("balancer.toml");
    let serve = |tls: &str| -> Result<Process> {
        std::fs::write(&config, format!("listen = '{HERE}:{port}'\n{tls}"))?;
        let arguments = ["balancer", "-c", &config.display().to_string()];
        Process::start(&process::holdfast()?, &arguments, &folder.path().join("balancer.log"))
    };
    let in_clear = serve("")?;
    let (controller, _node) = with_a_cluster(folder.path(), &ca)?;
    let ctl = |words: &[&str]| controller.ctl(&ca, words);
    let at = |scheme: &str, port: u16| format!("{scheme}://{HERE}:{port}");
    let add = ["balancer", "add", "lb", "--endpoint", &at("http", port)];
    wait::until("the balancer is added", PATIENCE, || ctl(&add))?;
    let is_told = |url: &str| {
        wait::until("it is told what to open", PATIENCE, || {
            let state = get(&ca, None, &format!("{url}/api/v1/state"))?;
            let state: serde_json::Value = serde_json::from_str(&state)?;
            ensure!(state["term"].as_u64() > Some(0), "{state}");
            Ok(())
        })
        .with_context(|| controller.process.log())
    };
    is_told(&at("http", port))?;
    in_clear.kill()?;
    let _secure = serve(&format!("[tls]\n{}", table(&ca, "balancer")))?;
    let change = |endpoint: &str| ctl(&["balancer", "change", "lb", "--endpoint", endpoint]);
    let refused = match change(&at("https", port.wrapping_add(1).max(1))) {
        Ok(said) => anyhow::bail!("another place is another instance: {said}"),
        Err(error) => error.to_string(),
    };
    ensure!(refused.contains("is another place"), "{refused}");
    wait::until("it is listed by its new URL", PATIENCE, || change(&at("https", port)))?;
    is_told(&at("https", port))?;
    let listed = ctl(&["balancer", "list"])?;
    ensure!(listed.contains(&at("https", port)), "{listed}");
    Ok(())
}

#[test]
fn a_controller_asks_nodes_over_tls_and_believes_those_of_its_ca() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (ca, other) = (Ca::new(folder.path(), "ca")?, Ca::new(folder.path(), "other")?);
    for (ca, name) in [(&ca, "node"), (&ca, "controller"), (&other, "node")] {
        ca.issue(name, &[HERE], GOOD)?;
    }
    let data = format!("data = '{}'", folder.path().join("store.redb").display());
    let ca_file = format!("ca_file = '{}'\n", ca.path("ca.pem"));
    let config = folder.path().join("none.toml");
    std::fs::write(&config, "[tls]\nnodes = true\n")?;
    let output = Command::new(process::holdfast()?)
        .args(["controller", "--check", "-c"])
        .arg(&config)
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && text.contains("tls.ca_file"), "{text}");
    let tls = format!("{}{ca_file}nodes = true\n", table(&ca, "controller"));
    let controller = Service::start(folder.path(), "controller", &data, &tls)?;
    let ctl = |words: &[&str]| controller.ctl(&ca, words);
    wait::until("ctl is answered", PATIENCE, || ctl(&["create", "namespace", "prod"]))?;
    // It is told the port where nothing but TLS is spoken.
    let serve = |ca: &Ca| -> Result<(Server, String)> {
        let port = process::free_port()?;
        let lines = format!("{}tls-port {port}\n", ca.lines("node"));
        let node = Server::node(&format!(
            "{lines}cluster-enabled yes\nmaster-lease-mode block-all\npeer-auth secret\n"
        ))?;
        Ok((node, format!("{HERE}:{port}")))
    };
    let (_foreign, at) = serve(&other)?;
    let create = |name: &str, at: &str| {
        let cluster = ["create", "cluster", name, "-n", "prod", "--nodes-per-shard", "1"];
        ctl(&[&cluster[..], &["--password", "secret", "--nodes", at]].concat())
    };
    let refused = match create("foreign", &at) {
        Ok(said) => anyhow::bail!("it was believed: {said}"),
        Err(error) => error.to_string(),
    };
    ensure!(refused.contains("UnknownIssuer"), "{refused}");
    let (node, at) = serve(&ca)?;
    create("main", &at)?;
    let mut client = node.connect()?;
    wait::until("the node serves under a grant", PATIENCE, || {
        let reply = client.call(&["SET", "key", "value"])?;
        ensure!(reply.text() == "OK", "{reply:?}");
        Ok(())
    })
    .with_context(|| controller.process.log())
}

#[test]
fn the_http_port_of_a_node_speaks_tls_alone_where_it_is_told_to() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (old, new) = (Ca::new(folder.path(), "old")?, Ca::new(folder.path(), "new")?);
    for ca in [&old, &new] {
        ca.issue("node", &[HERE], GOOD)?;
    }
    let port = process::free_port()?;
    let admin = format!("admin-port {port}\ntls-admin yes\n");
    let node = Server::node(&format!("{}tls-auth-clients no\n{admin}", old.lines("node")))?;
    let url = format!("https://{HERE}:{port}");
    let asked = |ca: &Ca, path: &str| get(ca, None, &format!("{url}{path}"));
    wait::until("it answers", PATIENCE, || asked(&old, "/healthz"))?;
    let page = asked(&old, "/metrics")?;
    ensure!(page.contains(&format!("process_certificate_end_time_seconds {ENDS_S}\n")), "{page}");
    ensure!(asked(&new, "/healthz").is_err());
    let mut plain = TcpStream::connect((HERE, port))?;
    plain.set_read_timeout(Some(PATIENCE))?;
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    // A reset is as good as an end.
    let _ = plain.read_to_end(&mut answer);
    ensure!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    // Replaced under their old names: both ports take up the new pair together.
    for file in ["node.pem", "node.key"] {
        std::fs::copy(new.path(file), old.path(file))?;
    }
    process::signal(node.process().pid(), libc::SIGHUP)?;
    wait::until("the new certificate is in force", PATIENCE, || asked(&new, "/healthz"))?;
    ensure!(asked(&old, "/healthz").is_err());
    // Without a certificate there is nothing to speak TLS by.
    let config = folder.path().join("node.conf");
    std::fs::write(&config, format!("dir {}\n{admin}", folder.path().display()))?;
    let mut command = Command::new(process::holdfast()?);
    let output = command.args(["node", "--check", "-c"]).arg(&config).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let is_told = text.contains("line 3: option `tls-admin`: a certificate is needed");
    ensure!(!output.status.success() && is_told, "{text}");
    Ok(())
}

#[test]
fn tls_ends_at_a_balancer_and_its_node_knows_who_came() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(folder.path(), "ca")?;
    for name in ["clients", "ann"] {
        ca.issue(name, &[HERE], GOOD)?;
    }
    let user = "user ann on nopass ~* &* +@all\n";
    let node = Server::node(&format!(
        "requirepass hush\nbalancer-sources 127.0.0.2/32\ntls-auth-clients-user CN\n{user}"
    ))?;
    let (pem, key) = (ca.path("clients.pem"), ca.path("clients.key"));
    let ends = format!(
        "[tls.terminate]\ncert_file = '{pem}'\nkey_file = '{key}'\nclient_ca_file = '{}'\n",
        ca.path("ca.pem")
    );
    let lines = "bind_source = '127.0.0.2'";
    let balancer = Service::start(folder.path(), "balancer", lines, &ends)?;
    let port = process::free_port()?;
    let backend = serde_json::json!({
        "node": "a".repeat(40), "host": HERE, "port": node.address.port(),
    });
    let desired = serde_json::json!({
        "term": 1, "version": 1,
        "frontends": [{ "listen": { "host": HERE, "port": port }, "backend": backend }],
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let url = format!("http://{HERE}:{}/api/v1/desired", balancer.port);
    wait::until("the frontend is open", PATIENCE, || {
        let answer = runtime.block_on(async { client.put(&url).json(&desired).send().await })?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        Ok(())
    })?;
    let cli = |name: Option<&str>, words: &[&str]| -> Result<String> {
        let output = ca.cli((HERE, port), name).args(words).output().context("run redis-cli")?;
        let text = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
    };
    wait::until("the client is served", PATIENCE, || {
        let said = cli(Some("ann"), &["ACL", "WHOAMI"])?;
        ensure!(said == "ann", "{said}");
        Ok(())
    })?;
    let said = cli(Some("ann"), &["CLIENT", "INFO"])?;
    let is_told = said.contains(" user=ann ") && said.contains("via=balancer:127.0.0.2:");
    ensure!(is_told && said.contains(" tls=TLSv1.3"), "{said}");
    let nobody = cli(None, &["PING"])?;
    ensure!(!nobody.contains("PONG") && !nobody.contains("NOAUTH"), "{nobody}");
    // What cannot be is refused with file, line and remedy.
    let config = folder.path().join("wrong.toml");
    for (text, line, why) in [
        ("[tls.terminate]\nkey_file = 'x'\n", "", "tls.terminate.cert_file"),
        ("send_proxy = false\n[tls.terminate]\ncert_file = 'x'\n", "line 1", "`send_proxy`"),
        ("\n[tls.terminate]\nfrontends = ['lb']\n", "line 3", "`lb` is no frontend"),
    ] {
        std::fs::write(&config, text)?;
        let mut command = Command::new(process::holdfast()?);
        let output = command.args(["balancer", "--check", "-c"]).arg(&config).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let is_told = said.contains(why) && said.contains(line);
        ensure!(!output.status.success() && is_told, "{text}: {said}");
    }
    Ok(())
}

/// An etcd of one member that speaks TLS with whoever shows a certificate of the same CA.
fn etcd(folder: &Path, ca: &Ca) -> Result<(Process, String)> {
    let (client, peer) = (process::free_port()?, process::free_port()?);
    let (url, peer) = (format!("https://{HERE}:{client}"), format!("http://{HERE}:{peer}"));
    let mut command = Command::new("etcd");
    command.args(["--name", "m", "--data-dir"]).arg(folder.join("etcd"));
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("m={peer}"), "--log-level", "error"]);
    command.args(["--cert-file", &ca.path("etcd.pem"), "--key-file", &ca.path("etcd.key")]);
    command.args(["--client-cert-auth", "--trusted-ca-file", &ca.path("ca.pem")]);
    Ok((Process::start_command(command, &folder.join("etcd.log"))?, url))
}

/// Asks until it is done, and returns what was said; `None` if it turns out to be done already. An
/// etcd that is late once makes a leader doubt, and what it was asked just then may be done all the
/// same.
fn until_done(what: &str, mut ask: impl FnMut() -> Result<String>) -> Result<Option<String>> {
    let mut is_first = true;
    wait::until(what, PATIENCE, || {
        let said = ask();
        let is_again = !std::mem::take(&mut is_first);
        match said {
            Err(error) if is_again && is_done_already(&error.to_string()) => Ok(None),
            said => said.map(Some),
        }
    })
}

fn is_done_already(said: &str) -> bool {
    said.contains("already exists") || said.contains("not found")
}

#[test]
fn controllers_speak_tls_with_etcd_and_with_each_other() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(folder.path(), "ca")?;
    for name in ["etcd", "controller"] {
        ca.issue(name, &[HERE], GOOD)?;
    }
    let (etcd, endpoint) = etcd(folder.path(), &ca)?;
    let lines = format!("store = 'etcd'\netcd_endpoints = ['{endpoint}']\n");
    let both = format!("client_ca_file = '{0}'\nca_file = '{0}'\n", ca.path("ca.pem"));
    let tls = format!("{}{both}", table(&ca, "controller"));
    let start = |name: &str| {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder)?;
        Service::start(&folder, "controller", &lines, &tls)
    };
    let mut pair = vec![start("one")?, start("two")?];
    let (cacert, cert, key) =
        (ca.path("ca.pem"), ca.path("controller.pem"), ca.path("controller.key"));
    let shown = ["--cacert", &cacert, "--cert", &cert, "--key", &key];
    let say = |of: &Service, words: &[&str]| ctl(&of.url(), &[&shown[..], words].concat());
    let logs = |pair: &[Service]| {
        let logs: Vec<String> = pair.iter().map(|one| one.process.log()).collect();
        format!("{}\netcd: {}", logs.join("\n"), etcd.log())
    };
    until_done("a namespace is made", || say(&pair[0], &["create", "namespace", "a"]))
        .with_context(|| logs(&pair))?;
    // One of the two leads, the other one passes on.
    for one in &pair {
        wait::until("both answer", PATIENCE, || {
            let said = say(one, &["list", "namespaces"])?;
            ensure!(said.lines().eq(["a"]), "{said}");
            Ok(())
        })
        .with_context(|| logs(&pair))?;
    }
    // Whichever of them led: once each has ended, the other one leads.
    for (name, namespace) in [("three", "b"), ("four", "c")] {
        pair.remove(0).process.kill()?;
        until_done("the other one leads", || say(&pair[0], &["create", "namespace", namespace]))
            .with_context(|| logs(&pair))?;
        pair.push(start(name)?);
        wait::until("a new one passes on", PATIENCE, || say(&pair[1], &["list", "namespaces"]))
            .with_context(|| logs(&pair))?;
    }
    Ok(())
}

/// What ctl says to one that shows this certificate; without, to one that has the token.
fn asked_by(
    of: &Service,
    cacert: &str,
    shown: Option<(&Ca, &str)>,
    words: &[&str],
) -> Result<String> {
    let mut command = Command::new(process::holdfast()?);
    command.args(["ctl", "--wide", "-H", &of.url(), "--cacert", cacert]);
    command.env_remove("HOLDFAST_TOKEN").env_remove("HOLDFAST_TOKEN_FILE");
    match shown {
        Some((ca, name)) => {
            command.args(["--cert", &ca.path(&format!("{name}.pem"))]);
            command.args(["--key", &ca.path(&format!("{name}.key"))]);
        }
        None => {
            command.env("HOLDFAST_TOKEN", "hush");
        }
    }
    let output = command.args(words).output().context("run ctl")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// It is whoever shows a certificate of that name, at the controller that leads and at the one that
/// stands by, which vouches for what the other cannot see.
#[test]
fn a_user_is_known_by_its_certificate_at_every_controller() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (ca, other) = (Ca::new(folder.path(), "ca")?, Ca::new(folder.path(), "other")?);
    for name in ["etcd", "controller"] {
        ca.issue(name, &[HERE], GOOD)?;
    }
    for (ca, name) in [(&ca, "duty"), (&ca, "stranger"), (&other, "duty")] {
        ca.issue(name, &[], GOOD)?;
    }
    let (etcd, endpoint) = etcd(folder.path(), &ca)?;
    let lines = format!("token = 'hush'\nstore = 'etcd'\netcd_endpoints = ['{endpoint}']\n");
    let tls = format!(
        "{}client_ca_file = '{1}'\nclient_optional = true\nca_file = '{1}'\n",
        table(&ca, "controller"),
        ca.path("ca.pem")
    );
    let start = |name: &str| {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder)?;
        Service::start(&folder, "controller", &lines, &tls)
    };
    let pair = [start("one")?, start("two")?];
    let logs = || format!("{}\n{}\n{}", pair[0].process.log(), pair[1].process.log(), etcd.log());
    let cacert = ca.path("ca.pem");
    let asked = |of: &Service, shown: Option<(&Ca, &str)>, words: &[&str]| {
        asked_by(of, &cacert, shown, words)
    };
    let refused = |of: &Service, shown: (&Ca, &str), words: &[&str], why: &str| match asked(
        of,
        Some(shown),
        words,
    ) {
        Ok(said) => anyhow::bail!("it was let in: {said}"),
        Err(error) => {
            let said = error.to_string();
            ensure!(said.contains(why), "{why}: {said}\n{}", logs());
            Ok(())
        }
    };
    until_done("a namespace is made", || asked(&pair[0], None, &["create", "namespace", "prod"]))
        .with_context(logs)?;
    let add = ["user", "add", "duty", "--role", "viewer", "--certificate", "duty"];
    let said = until_done("a user is added", || asked(&pair[0], None, &add)).with_context(logs)?;
    let is_told = |said: &str| said.contains("whoever shows a certificate of duty");
    ensure!(said.as_deref().is_none_or(is_told), "{said:?}");
    let list = ["list", "namespaces"];
    for one in &pair {
        wait::until("the user is known", PATIENCE, || {
            let said = asked(one, Some((&ca, "duty")), &list)?;
            ensure!(said.contains("prod"), "{said}");
            Ok(())
        })
        .with_context(logs)?;
        let has = "needs the role `admin`, and duty has `viewer`";
        refused(one, (&ca, "duty"), &["create", "namespace", "b"], has)?;
        refused(one, (&ca, "stranger"), &list, "stands for no user")?;
        refused(one, (&other, "duty"), &list, "reach the controller")?;
    }
    wait::until("the user was seen", PATIENCE, || {
        let said = asked(&pair[1], None, &["user", "list"])?;
        ensure!(said.contains("certificate duty") && !said.contains("never"), "{said}");
        Ok(())
    })
    .with_context(logs)?;
    until_done("the user is gone", || asked(&pair[1], None, &["user", "remove", "duty"]))?;
    for one in &pair {
        wait::until("it is nobody", PATIENCE, || {
            refused(one, (&ca, "duty"), &list, "stands for no user")
        })?;
    }
    Ok(())
}
