//! One CA takes the place of another by `ctl rotate ca`: real processes that know each other by it,
//! and a command that changes their files, which fails half way once.

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::process::{self, Process, Server};
use testkit::wait;

use common::certs::{Ca, GOOD, HERE};
use common::{PATIENCE, ctl};

const SECRET: &str = "hush";

/// A master, its replica and their controller, each with a folder of files of its own.
struct Site {
    folder: tempfile::TempDir,
    old: Ca,
    new: Ca,
    nodes: Vec<Server>,
    port: u16,
}

impl Site {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("create a folder")?;
        let (old, new) = (Ca::new(folder.path(), "old")?, Ca::new(folder.path(), "new")?);
        let mut site = Self { folder, old, new, nodes: Vec::new(), port: process::free_port()? };
        site.files("controller")?;
        for _ in 0..2 {
            let port = process::free_port()?;
            let name = port.to_string();
            site.files(&name)?;
            let file = |kind: &str| site.path(&name).join(kind).display().to_string();
            let lines = format!(
                "cluster-enabled yes\npeer-auth {SECRET}\nmasterauth {SECRET}\nworkers 1\n\
                 master-lease-mode block-all\nrocksdb.block_cache_size 16\nvalue-cache-size 16\n\
                 tls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\n\
                 tls-auth-clients yes\ntls-replication yes",
                file("cert.pem"),
                file("cert.key"),
                file("ca.pem")
            );
            let node = Server::node_at(&site.path(&name), port, &lines)?;
            site.has_pid(&name, node.process().pid())?;
            site.nodes.push(node);
        }
        let both = [site.old.path("ca.pem"), site.new.path("ca.pem")];
        let both: Vec<String> =
            both.iter().map(std::fs::read_to_string).collect::<Result<_, _>>()?;
        std::fs::write(site.path("both.pem"), both.concat())?;
        Ok(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the process of that name has at first, and what it may get.
    fn files(&self, name: &str) -> Result<()> {
        let to = self.path(name);
        std::fs::create_dir_all(&to)?;
        for ca in [&self.old, &self.new] {
            ca.issue(name, &[HERE], GOOD)?;
        }
        for (from, kind) in [
            ("ca.pem", "ca.pem"),
            (&*format!("{name}.pem"), "cert.pem"),
            (&*format!("{name}.key"), "cert.key"),
        ] {
            std::fs::copy(self.old.path(from), to.join(kind))?;
        }
        Ok(())
    }

    fn has_pid(&self, name: &str, pid: u32) -> Result<()> {
        Ok(std::fs::write(self.path(name).join("pid"), pid.to_string())?)
    }

    fn controller(&self, log: &str) -> Result<Process> {
        let file = |kind: &str| self.path("controller").join(kind);
        let text = format!(
            "listen = '{HERE}:{}'\ndata = {:?}\n[tls]\ncert_file = {:?}\nkey_file = {:?}\nca_file = {:?}\nnodes = true\n",
            self.port,
            self.path("store.redb"),
            file("cert.pem"),
            file("cert.key"),
            file("ca.pem")
        );
        let config = self.path("controller.toml");
        std::fs::write(&config, text)?;
        let arguments = [Path::new("controller"), Path::new("-c"), &config];
        let process = Process::start(&process::holdfast()?, &arguments, &self.path(log))?;
        self.has_pid("controller", process.pid())?;
        Ok(process)
    }

    fn ctl(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(process::holdfast()?)
            .args(["ctl", "-H", &format!("https://{HERE}:{}", self.port), "--cacert"])
            .arg(self.path("both.pem"))
            .args(words)
            .output()
            .context("run ctl")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let failed = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{words:?}: {said}{failed}");
        Ok(said)
    }

    fn rotate(&self, more: &[&str]) -> Result<String> {
        let (old, new) = (self.old.path("ca.pem"), self.new.path("ca.pem"));
        self.ctl(&[&["rotate", "ca", "--old", &old, "--new", &new], more].concat())
    }

    /// What an operator would have: it changes a file and has its process read it again. With a
    /// file `broken` beside it, it replaces no certificate.
    fn hook(&self) -> Result<String> {
        let script = format!(
            "#!/bin/sh\nset -e\ncd '{}'\n\
             case \"$HOLDFAST_KIND\" in node) name=${{HOLDFAST_NAME##*:}};; *) name=controller;; esac\n\
             case \"$HOLDFAST_STEP\" in\n\
             accept) cat new/ca.pem >> $name/ca.pem;;\n\
             replace) test ! -e broken; cp new/$name.pem $name/cert.pem; cp new/$name.key $name/cert.key;;\n\
             forget) cp new/ca.pem $name/ca.pem;;\n\
             esac\n\
             kill -HUP $(cat $name/pid)\n",
            self.folder.path().display()
        );
        let path = self.path("hook");
        std::fs::write(&path, script)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
        Ok(path.display().to_string())
    }

    /// The topology's version, once the cluster is healthy.
    fn is_healthy(&self) -> Result<u64> {
        wait::until("a healthy cluster", 2 * PATIENCE, || {
            let status: Value = serde_json::from_str(&self.ctl(&["--json", "status"])?)?;
            ensure!(status["healthy"] == true, "{status:#}");
            status["version"].as_u64().context("a version")
        })
    }

    fn create(&self) -> Result<u64> {
        ctl::create(|words| self.ctl(words), &self.nodes, SECRET)?;
        self.is_healthy()
    }

    fn logs(&self) -> String {
        let log = |name: &&str| std::fs::read_to_string(self.path(name)).unwrap_or_default();
        let controllers = ["one.log", "two.log"].iter().map(log);
        let nodes = self.nodes.iter().map(|node| node.process().log());
        controllers.chain(nodes).collect::<Vec<_>>().join("\n--\n")
    }
}

fn rotated(site: &Site) -> Result<()> {
    let before = site.create()?;
    let hook = site.hook()?;
    let told = wait::until("all tell of their CAs", PATIENCE, || {
        let told = site.rotate(&[])?;
        ensure!(told.contains("0 of 3 files know the new CA, 0 of 3 certificates"), "{told}");
        Ok(told)
    })?;
    ensure!(told.contains("add the new CA to the file of `tls-ca-cert-file`"), "{told}");
    ensure!(told.contains("add the new CA to the file of `tls.ca_file`"), "{told}");

    // Nobody shows a certificate of the new CA before it is said that others know it.
    let told = site.rotate(&["--hook", &hook, "--run"])?;
    ensure!(told.contains("3 of 3 files know the new CA, 0 of 3 certificates"), "{told}");
    ensure!(told.contains("--replace"), "{told}");

    // It ends after the first step, and the next run goes on.
    std::fs::write(site.path("broken"), "")?;
    let replace: [&str; 4] = ["--hook", &hook, "--run", "--replace"];
    let why = site.rotate(&replace).expect_err("the hook fails").to_string();
    ensure!(why.contains("put a certificate of the new CA into the file of"), "{why}");
    let told = site.rotate(&[])?;
    ensure!(told.contains("3 of 3 files know the new CA, 0 of 3 certificates"), "{told}");
    std::fs::remove_file(site.path("broken"))?;
    let told = site.rotate(&replace)?;
    ensure!(told.contains("3 of 3 certificates") && told.contains("--finish"), "{told}");
    let told = site.rotate(&["--hook", &hook, "--run", "--finish"])?;
    ensure!(told.contains("Done: nothing here knows the old CA any more"), "{told}");
    ensure!(site.is_healthy()? == before, "a node was replaced meanwhile");
    Ok(())
}

#[test]
fn a_ca_is_replaced_by_a_command_that_failed_once_and_nobody_loses_anybody() -> Result<()> {
    let site = Site::new()?;
    let controller = site.controller("one.log")?;
    rotated(&site).with_context(|| site.logs())?;
    // All connections are made anew, by the new CA alone.
    ensure!(controller.terminate()?.success());
    let again = site.controller("two.log")?;
    site.is_healthy().with_context(|| site.logs())?;
    ensure!(again.terminate()?.success());
    Ok(())
}
