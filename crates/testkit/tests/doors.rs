//! A load balancer that nobody told the nodes of: its clients are told nothing, and the operator
//! everything.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use common::PATIENCE;
use serde_json::{Value, json};
use testkit::cluster::{Cluster, Node, Options};
use testkit::process::{self, Process};
use testkit::wait;

/// Dials nodes from an address that is in no `balancer-sources`.
const SOURCE: &str = "127.0.0.77";

/// One frontend that leads to `node`, at a balancer that no controller knows.
struct Stray {
    process: Process,
    admin: String,
    frontend: SocketAddr,
}

impl Stray {
    fn start(folder: &Path, node: &Node) -> Result<Self> {
        let (admin, port) = (process::free_port()?, process::free_port()?);
        let config = folder.join("stray.toml");
        let text = format!(
            "name = 'stray'\nlisten = '127.0.0.1:{admin}'\nbind_source = '{SOURCE}'\nhealth_interval_ms = 50\n"
        );
        std::fs::write(&config, text).context("write stray.toml")?;
        let config = config.display().to_string();
        let arguments = ["balancer", "-c", &config];
        let process = Process::start(&process::holdfast()?, &arguments, &folder.join("stray.log"))?;
        let admin = format!("http://127.0.0.1:{admin}");
        let backend = json!({"node": node.id, "host": node.host, "port": node.port});
        let listen = json!({"host": "127.0.0.1", "port": port});
        let desired = json!({
            "term": 1, "version": 1, "frontends": [{"listen": listen, "backend": backend}]
        });
        wait::until("the stray balancer is open", PATIENCE, || {
            call("PUT", &format!("{admin}/api/v1/desired"), Some(&desired))
        })?;
        Ok(Self { process, admin, frontend: SocketAddr::from(([127, 0, 0, 1], port)) })
    }

    /// What a client gets that sends a command and waits.
    fn answer(&self, command: &[u8]) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.frontend).context("connect to the frontend")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // The balancer may have reset it already.
        let _ = stream.write_all(command);
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
                Err(error).context("wait for the end of the connection")
            }
            _ => Ok(bytes),
        }
    }
}

fn call(method: &str, url: &str, body: Option<&Value>) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let request = client.request(method.parse()?, url);
        let request = if let Some(body) = body { request.json(body) } else { request };
        let answer = request.send().await.with_context(|| format!("reach {url}"))?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{url}: {status}: {text}");
        Ok(text)
    })
}

#[test]
fn a_balancer_that_nodes_do_not_list_answers_nothing_and_is_told_of() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, ..Options::default() })?;
    let master = cluster.master(0)?;
    let folder = tempfile::tempdir().context("create a folder")?;
    let stray = Stray::start(folder.path(), &master)?;

    let commands: [&[u8]; 4] = [
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
        b"SET a b\r\nGET a\r\n",
        b"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n",
        b"",
    ];
    for _ in 0..20 {
        for command in commands {
            let said = stray.answer(command)?;
            ensure!(said.is_empty(), "{command:?} was answered {said:?}");
        }
    }
    let info = cluster.peer(&master)?.call(&["INFO", "holdfast"])?.text();
    let count = info.lines().find_map(|line| line.strip_prefix("proxy_refused_unlisted:"));
    let count: u64 = count.context("find the counter")?.trim().parse()?;
    ensure!(count >= 80, "{count} connections were counted:\n{info}");
    ensure!(info.contains(&format!("address={SOURCE},")), "{info}");

    wait::until("the balancer's own check", PATIENCE, || {
        let state = call("GET", &format!("{}/api/v1/state", stray.admin), None)?;
        let state: Value = serde_json::from_str(&state)?;
        let frontend = &state["frontends"][0];
        ensure!(frontend["backend_up"] == false, "{state}");
        let why = frontend["backend_error"].as_str().unwrap_or_default();
        ensure!(why.contains("balancer-sources") && why.contains(SOURCE), "{state}");
        Ok(())
    })?;

    let url =
        format!("{}/api/v1/namespaces/local/clusters/main/status", cluster.state()?.controller.url);
    wait::until("the controller tells of it", PATIENCE, || {
        let status: Value = serde_json::from_str(&call("GET", &url, None)?)?;
        let alarms = status["data"]["alarms"].to_string();
        let words = [&format!("a load balancer at {SOURCE} is refused"), &master.port.to_string()];
        ensure!(words.iter().all(|word| alarms.contains(*word)), "{status}");
        ensure!(status["data"]["healthy"] == false, "healthy above an alarm: {status}");
        Ok(())
    })?;
    let mut told = 0;
    for entry in std::fs::read_dir(cluster.dir().join("logs"))?.flatten() {
        let text = String::from_utf8_lossy(&std::fs::read(entry.path())?).into_owned();
        told += text.matches("not in `balancer-sources`: what comes").count();
    }
    ensure!((1..=3).contains(&told), "a line a minute, not one for each connection: {told}");
    stray.process.kill()
}
