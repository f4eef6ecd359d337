//! A site goes from a file to etcd while a client writes, and back by export and import: real
//! processes, and `ctl` as an operator uses it. What is left behind is booted once more each time.
//! Secrets are sealed wherever they lie.

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;
use testkit::process::{self, Process, Server};
use testkit::wait;
use testkit::wire::Connection;

use common::{PATIENCE, counts_up, ctl};

const SECRET: &str = "hush-hush-hush";

/// A master and its replica, an etcd, and a port where one controller at a time listens.
struct Site {
    folder: tempfile::TempDir,
    nodes: Vec<Server>,
    etcd: Process,
    port: u16,
}

impl Site {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("create a folder")?;
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let port = process::free_port()?;
            let dir = folder.path().join(port.to_string());
            std::fs::create_dir(&dir).context("create a data folder")?;
            let lines = format!(
                "cluster-enabled yes\npeer-auth {SECRET}\nmasterauth {SECRET}\nworkers 1\n\
                 master-lease-mode block-all\nrocksdb.block_cache_size 16\nvalue-cache-size 16"
            );
            nodes.push(Server::node_at(&dir, port, &lines)?);
        }
        let (client, peer) = (process::free_port()?, process::free_port()?);
        let [client, peer] = [client, peer].map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new("etcd");
        command.args(["--name", "m", "--data-dir"]).arg(folder.path().join("etcd"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("m={peer}"), "--log-level", "error"]);
        let etcd = Process::start_command(command, &folder.path().join("etcd.log"))?;
        let port = process::free_port()?;
        let site = Self { folder, nodes, etcd, port };
        let (key, data) = (site.path("store.key"), site.path("store.redb"));
        site.ctl(&["store", "key", &key.display().to_string()])?;
        let mode = std::fs::metadata(&key)?.permissions().mode();
        ensure!(mode & 0o777 == 0o600, "{mode:o}");
        let sealed = format!("store_key_file = {key:?}\n");
        let listen = format!("listen = \"127.0.0.1:{port}\"\n");
        std::fs::write(site.path("no-key.toml"), format!("{listen}data = {data:?}\n"))?;
        let listen = format!("{listen}{sealed}");
        std::fs::write(site.path("file.toml"), format!("{listen}data = {data:?}\n"))?;
        let lines = format!("store = \"etcd\"\netcd_endpoints = [{client:?}]\n");
        std::fs::write(site.path("etcd.toml"), listen + &lines)?;
        // The same stores from hosts that are booted once more, beside the one that leads.
        let listen = format!("listen = \"127.0.0.1:{}\"\n{sealed}", process::free_port()?);
        std::fs::write(site.path("old-file.toml"), format!("{listen}data = {data:?}\n"))?;
        std::fs::write(site.path("old-etcd.toml"), listen + &lines)?;
        Ok(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A controller with the configuration of that name, and a log of its own.
    fn boot(&self, config: &str, log: &str) -> Result<Process> {
        let config = self.path(config);
        let arguments = [Path::new("controller"), Path::new("-c"), &config];
        Process::start(&process::holdfast()?, &arguments, &self.path(log))
    }

    fn ctl(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(process::holdfast()?)
            .args(["ctl", "-H", &format!("http://127.0.0.1:{}", self.port)])
            .args(words)
            .output()
            .context("run ctl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{words:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same with paths of this site in place of names that end so.
    fn on_stores(&self, words: &[&str]) -> Result<String> {
        let is_file = |word: &str| word.ends_with(".toml") || word.ends_with(".store");
        let words = words.iter().map(|word| match is_file(word) {
            true => self.path(word).display().to_string(),
            false => (*word).to_owned(),
        });
        let words: Vec<String> = words.collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.ctl(&[&["store"][..], &words].concat())
    }

    fn is_healthy(&self, kind: &str, generation: u64) -> Result<()> {
        wait::until("a healthy cluster", 2 * PATIENCE, || {
            let status: Value = serde_json::from_str(&self.ctl(&["--json", "status"])?)?;
            ensure!(status["healthy"] == true, "{status:#}");
            let store: Value = serde_json::from_str(&self.on_stores(&["status", "--json"])?)?;
            ensure!(
                (&store["kind"], &store["generation"]) == (&kind.into(), &generation.into()),
                "{store}"
            );
            Ok(())
        })
    }

    fn create(&self) -> Result<()> {
        ctl::create(|words| self.ctl(words), &self.nodes, SECRET)?;
        self.is_healthy("embedded", 1)
    }

    fn logs(&self) -> String {
        let log = |name: &&str| std::fs::read_to_string(self.path(name)).unwrap_or_default();
        let controllers = ["one.log", "two.log", "three.log"].iter().map(log);
        let nodes = self.nodes.iter().map(|node| node.process().log());
        let all: Vec<String> = controllers.chain(nodes).chain([self.etcd.log()]).collect();
        all.join("\n--\n")
    }
}

/// A controller ends by itself, and its log has these words.
fn ends(mut controller: Process, words: &str) -> Result<()> {
    let status = wait::until("the end of a controller", PATIENCE, || {
        controller.ended()?.with_context(|| format!("it runs: {}", controller.log()))
    })?;
    let said = controller.log();
    ensure!(!status.success() && said.contains(words), "{status}: {said}");
    Ok(())
}

/// A copy from before the move bears no mark. Whatever its terms are, and although it asks nobody
/// first, nodes refuse its generation, and its status says so.
fn a_copy_leads_nobody(site: &Site) -> Result<()> {
    let (port, data) = (process::free_port()?, site.path("copy.redb"));
    let lines = format!(
        "listen = \"127.0.0.1:{port}\"\ndata = {data:?}\nstore_key_file = {:?}\nmin_term = 900000000000\n",
        site.path("store.key")
    );
    let config = site.path("copy.toml");
    std::fs::write(&config, lines)?;
    let asks_nobody = Path::new("--take-over");
    let arguments = [Path::new("controller"), Path::new("-c"), &config, asks_nobody];
    let copy = Process::start(&process::holdfast()?, &arguments, &site.path("copy.log"))?;
    wait::until("the alarm of a copy", PATIENCE, || {
        let at = format!("http://127.0.0.1:{port}");
        let status = Command::new(process::holdfast()?)
            .args(["ctl", "-H", &at, "--json", "status"])
            .output()?;
        let said = String::from_utf8_lossy(&status.stdout);
        ensure!(said.contains("are led from store") && said.contains("generation 3"), "{said}");
        ensure!(said.contains("generation 1: it does nothing"), "{said}");
        Ok(())
    })?;
    site.is_healthy("embedded", 3)?;
    ensure!(copy.terminate()?.success());
    Ok(())
}

fn there_and_back(site: &Site, old: Process) -> Result<()> {
    let migrate = ["migrate", "--from", "file.toml", "--to", "etcd.toml", "--yes"];
    let said = site.on_stores(&migrate).expect_err("its controller runs").to_string();
    ensure!(said.contains("another controller uses"), "{said}");
    ensure!(old.terminate()?.success());
    std::fs::copy(site.path("store.redb"), site.path("copy.redb")).context("copy the store")?;
    let said = site.on_stores(&migrate)?;
    ensure!(said.contains("2 of 2 nodes say that they hear no controller"), "{said}");
    let new = site.boot("etcd.toml", "two.log")?;
    site.is_healthy("etcd", 2)?;
    let given_up = "was given up for etcd";
    ends(site.boot("old-file.toml", "refused.log")?, given_up)?;

    let give_up = ["export", "--config", "etcd.toml", "--give-up", "--yes", "site.store"];
    let said = site.on_stores(&give_up)?;
    ensure!(said.contains("are sealed in it with key"), "{said}");
    let export = std::fs::read_to_string(site.path("site.store"))?;
    ensure!(export.contains("\"sealed\"") && !export.contains(SECRET), "{export}");
    let mode = std::fs::metadata(site.path("site.store"))?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    ends(new, "was given up for the export")?;
    site.on_stores(&["import", "--config", "file.toml", "--replace", "site.store"])?;
    ends(site.boot("no-key.toml", "no-key.log")?, "sealed with key")?;
    let stored = std::fs::read(site.path("store.redb"))?;
    ensure!(!stored.windows(SECRET.len()).any(|some| some == SECRET.as_bytes()));
    let back = site.boot("file.toml", "three.log")?;
    site.is_healthy("embedded", 3)?;
    ends(site.boot("old-etcd.toml", "refused-too.log")?, "was given up for the export")?;
    a_copy_leads_nobody(site)?;
    ensure!(back.terminate()?.success());
    Ok(())
}

#[test]
fn a_site_moves_to_etcd_and_back_under_load_and_no_old_controller_leads() -> Result<()> {
    let site = Site::new()?;
    let old = site.boot("file.toml", "one.log")?;
    site.create().with_context(|| site.logs())?;
    let (master, stop) = (site.nodes[0].address, AtomicBool::new(false));
    let (moved, count) = std::thread::scope(|scope| {
        // A command waits for the next controller's lease, however long that takes to come.
        let writer =
            scope.spawn(|| counts_up(Connection::open_within(master, PATIENCE, PATIENCE)?, &stop));
        let moved = there_and_back(&site, old);
        stop.store(true, Ordering::Relaxed);
        (moved, writer.join().map_err(|_| anyhow!("the writer has panicked")))
    });
    moved.with_context(|| site.logs())?;
    let count = count?.with_context(|| site.logs())?;
    ensure!(count > 100, "{count} writes");
    let mut replica = site.nodes[1].connect()?;
    replica.call(&["READONLY"])?;
    ensure!(replica.call(&["GET", "counter"])?.text() == count.to_string());
    Ok(())
}
