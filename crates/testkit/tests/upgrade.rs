//! `ctl upgrade` restarts every node of a cluster in turn, and a client that writes meanwhile sees
//! no error.

mod common;

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow, ensure};
use testkit::cluster::{Cluster, Options};
use testkit::process;
use testkit::wire::{Connection, Reply};

use common::{in_set, key_at};

/// A client with one connection that writes without a rest.
struct Writer {
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicUsize>,
    thread: JoinHandle<Result<()>>,
}

impl Writer {
    fn start(cluster: &Cluster) -> Result<Self> {
        let address = cluster.master(0)?.announced()?;
        let key = key_at(address)?;
        let (stop, writes) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stopped, done) = (Arc::clone(&stop), Arc::clone(&writes));
        let thread = std::thread::spawn(move || {
            let mut client = Connection::open(address)?;
            while !stopped.load(Ordering::SeqCst) {
                let number = done.load(Ordering::SeqCst).to_string();
                let said = client.call(&["SET", &key, &number])?;
                ensure!(said == Reply::Simple(b"OK".to_vec()), "write {number}: {said:?}");
                done.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        });
        Ok(Self { stop, writes, thread })
    }

    fn end(self) -> Result<usize> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow!("the writer panicked"))??;
        Ok(self.writes.load(Ordering::SeqCst))
    }
}

fn upgrade(cluster: &Cluster, words: &[&str]) -> Result<Output> {
    Command::new(process::holdfast()?)
        .args(["ctl", "-H", &cluster.state()?.controller.url, "--wide", "--timeout", "90"])
        .args(["upgrade", "--password-file"])
        .arg(cluster.dir().join("secret"))
        .args(words)
        .output()
        .context("run ctl")
}

#[test]
fn every_node_is_restarted_in_turn_and_a_client_that_writes_sees_no_error() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 2, ..Options::default() })?;
    for shard in 0..2 {
        in_set(&cluster, &cluster.master(shard)?, &cluster.replica(shard)?)?;
    }
    let before = cluster.state()?.nodes;
    // What stands for `systemctl restart`: a SIGTERM, after which the supervisor starts it again.
    let pids = cluster.dir().join("pids");
    let mut lines = String::new();
    for node in &before {
        lines.push_str(&format!("{} {}\n", node.local()?, node.running()?));
    }
    std::fs::write(&pids, lines)?;
    let hook = format!("kill $(sed -n \"s/^$HOLDFAST_NODE //p\" '{}')", pids.display());

    let shown = upgrade(&cluster, &[])?;
    let said = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(shown.status.success() && said.contains("nothing to do"), "{said}");
    let shown = upgrade(&cluster, &["--all"])?;
    let said = String::from_utf8_lossy(&shown.stdout).into_owned();
    let replica = format!("restart {}\n", cluster.replica(0)?.local()?);
    let master = format!("switch over shard 0\nrestart {}\n", cluster.master(0)?.local()?);
    ensure!(said.contains(&format!("{replica}{master}")), "{said}");
    ensure!(said.contains("Nothing was changed"), "{said}");

    let writer = Writer::start(&cluster)?;
    let output = upgrade(&cluster, &["--all", "--hook", &hook, "--run"])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}{failed}\n{}", cluster.logs());
    let writes = writer.end().with_context(|| format!("{said}\n{}", cluster.logs()))?;
    ensure!(writes > 0, "nothing was written");
    ensure!(said.matches("done: switch over").count() == 2, "{said}");
    let after = cluster.state()?.nodes;
    for old in &before {
        let new = after.iter().find(|node| node.id == old.id).context("the node is there")?;
        ensure!(new.running()? != old.running()?, "{} was not restarted: {said}", old.port);
    }
    let output = upgrade(&cluster, &["--all", "--run", "--hook", "exit 3"])?;
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && failed.contains("the hook for"), "{failed}");
    Ok(())
}
