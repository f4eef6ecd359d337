//! What the controller says and does when a node, or its own disk, has stopped without a word. The
//! second part needs root.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use common::{PATIENCE, in_set, key_at, post, write_until_ok};
use testkit::cluster::{Cluster, Options};
use testkit::{disk, process, wait};

const CLUSTER: &str = "api/v1/namespaces/local/clusters/main";

/// Goes on when this is dropped.
struct Stopped(u32);

impl Stopped {
    fn new(pid: u32) -> Result<Self> {
        process::signal(pid, libc::SIGSTOP)?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have ended.
        let _ = process::signal(self.0, libc::SIGCONT);
    }
}

/// On an idle shard the last answer of the replica shows everything that a switchover waits for.
#[test]
fn a_switchover_to_a_replica_that_has_just_stopped_changes_nothing_and_says_so() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, replicas: 1, ..Options::default() })?;
    let (master, replica) = (cluster.master(0)?, cluster.replica(0)?);
    in_set(&cluster, &master, &replica)?;
    let address = master.announced()?;
    let key = key_at(address)?;
    write_until_ok(address, &key, "before")?;
    let url = format!("{}/{CLUSTER}/shards/0/failover", cluster.state()?.controller.url);
    let stopped = Stopped::new(replica.running()?)?;
    let (status, answer) = post(&url, serde_json::json!({}))?;
    ensure!(status != 200, "done, it says: {answer}; {}", cluster.logs());
    ensure!(answer.contains("answer"), "{answer}");
    // The master goes on, alone in its set.
    let by = write_until_ok(address, &key, "after")?;
    ensure!(by == master.id, "{by} serves, not {}; {}", master.id, cluster.logs());
    drop(stopped);
    in_set(&cluster, &master, &replica)?;
    let (status, answer) = wait::until("a switchover", PATIENCE, || {
        let (status, answer) = post(&url, serde_json::json!({}))?;
        ensure!(status == 200, "{status}: {answer}");
        Ok((status, answer))
    })?;
    ensure!(status == 200 && answer.contains(&replica.id), "{status}: {answer}");
    ensure!(write_until_ok(address, &key, "moved")? == replica.id, "{}", cluster.logs());
    Ok(())
}

/// A controller that hangs takes connections, and answers none.
#[test]
fn ctl_waits_for_no_controller_for_ever() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, replicas: 0, ..Options::default() })?;
    let controller = cluster.state()?.controller;
    let ctl = |words: &[&str]| -> Result<(bool, String)> {
        // Ended by force if it has no limit of its own.
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", "60"]).arg(process::holdfast()?);
        let output = command.args(["ctl", "-H", &controller.url]).args(words).output()?;
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        Ok((output.status.code() == Some(1), String::from_utf8_lossy(&said).into_owned()))
    };
    let stopped = Stopped::new(controller.pid.context("the controller runs")?)?;
    let silent = format!("the controller at {} has not answered within", controller.url);
    for (words, told) in [
        (&["status"][..], "10 s: does it hang?"),
        (&["--timeout", "1", "events"], "1 s: does it hang? --timeout changes the limit"),
        (&["--timeout", "1", "create", "namespace", "n"], "1 s, and may do it yet: look with"),
    ] {
        let (is_failure, said) = ctl(words)?;
        let said: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(is_failure && said.contains(&silent) && said.contains(told), "{words:?}: {said}");
    }
    drop(stopped);
    wait::until("an answer", PATIENCE, || {
        // It may have made the namespace: nobody has taken that back.
        let (_, said) = ctl(&["status", "-n", "local"])?;
        ensure!(said.contains("cluster local/main"), "{said}");
        Ok(())
    })
}

/// Status and text of a GET.
fn get(url: &str, path: &str) -> Result<(u16, String)> {
    let address = url.strip_prefix("http://").context("an URL")?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    let status = said.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok((status.with_context(|| said.clone())?, said))
}

struct Mounted(tempfile::TempDir);

impl Drop for Mounted {
    fn drop(&mut self) {
        disk::unmount(self.0.path());
    }
}

#[test]
fn a_controller_whose_disk_was_full_says_so_and_goes_on_once_there_is_room() -> Result<()> {
    disk::unshare()?;
    let disk = Mounted(tempfile::tempdir()?);
    disk::mount(disk.0.path(), 16, "controller")?;
    let options = Options { shards: 1, replicas: 1, ..Options::default() };
    let cluster = Cluster::prepared(options, |dir: &Path, _| {
        std::fs::create_dir_all(dir).context("create the folder of the cluster")?;
        std::os::unix::fs::symlink(disk.0.path(), dir.join("controller"))
            .context("put the controller on its disk")
    })?;
    let (master, replica) = (cluster.master(0)?, cluster.replica(0)?);
    in_set(&cluster, &master, &replica)?;
    let url = cluster.state()?.controller.url;
    ensure!(get(&url, "/healthz")?.0 == 200, "it is not healthy to begin with");

    disk::fill(disk.0.path())?;
    let namespaces = format!("{url}/api/v1/namespaces");
    let fails = (0..2_000).find_map(|number| {
        let name = format!("{number:0>200}");
        match post(&namespaces, serde_json::json!({ "namespace": name })) {
            Ok((201, _)) => None,
            other => Some(other),
        }
    });
    let (status, answer) = fails.context("the disk is never full")??;
    ensure!(status >= 500 && answer.contains("space"), "{status}: {answer}");
    let (status, said) = get(&url, "/healthz")?;
    ensure!(status == 503 && said.contains("the store does not work"), "{said}");
    let (_, said) = get(&url, &format!("/{CLUSTER}/status"))?;
    ensure!(
        said.contains("the store does not work") && said.contains("\"healthy\":false"),
        "{said}"
    );

    disk::free(disk.0.path())?;
    wait::until("it is healthy again", PATIENCE, || {
        let (status, said) = get(&url, "/healthz")?;
        ensure!(status == 200, "{said}");
        Ok(())
    })
    .with_context(|| cluster.logs())?;
    // It can do its work: a killed master is replaced.
    process::signal(master.running()?, libc::SIGKILL)?;
    let address = master.announced()?;
    write_until_ok(address, "key", "1").with_context(|| cluster.logs())?;
    Ok(())
}
