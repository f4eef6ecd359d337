//! Data folders at the wrong place: swapped, taken apart, of a later version. A node says what it
//! found and what to do, and touches nothing.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use testkit::process::{self, Process, Server};
use testkit::wait;
use testkit::wire::Reply;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
const LINES: &str = "cluster-enabled yes\nworkers 1\nrocksdb.block_cache_size 16";
const NAMES: [&str; 2] =
    ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"];
const CLUSTER: &str = "00000000000000aa";

/// A master and its replica, each in a folder and on a port of its own.
struct Pair {
    folder: tempfile::TempDir,
    ports: [u16; 2],
}

impl Pair {
    fn start(&self, index: usize) -> Result<Server> {
        let dir = self.folder.path().join(NAMES[index]);
        std::fs::create_dir_all(&dir).context("create a folder")?;
        Server::node_at(&dir, self.ports[index], LINES)
    }

    /// Exchanges what the two folders have under that name.
    fn swap(&self, name: &str) -> Result<()> {
        let place = |index: usize| self.folder.path().join(NAMES[index]).join(name);
        let aside = self.folder.path().join("aside");
        std::fs::rename(place(0), &aside)?;
        std::fs::rename(place(1), place(0))?;
        std::fs::rename(&aside, place(1)).context("swap")
    }

    /// It must not start, and say these words.
    fn refuses(&self, words: &str) -> Result<()> {
        let dir = self.folder.path().join(NAMES[0]);
        let (log, config) = (dir.join("log"), dir.join("node.conf"));
        let arguments = [Path::new("node"), Path::new("-c"), &config];
        let mut node = Process::start(&process::holdfast()?, &arguments, &log)?;
        let status = wait::until("it to end", PATIENCE, || {
            node.ended()?.with_context(|| format!("it runs; wanted: {words}"))
        })?;
        let said = node.log();
        ensure!(!status.success() && said.contains(words), "{status}: {said}");
        Ok(())
    }
}

fn ok(server: &Server, words: &[&str]) -> Result<()> {
    let said = server.connect()?.call(words)?;
    ensure!(said == Reply::Simple(b"OK".to_vec()), "{words:?}: {said:?}");
    Ok(())
}

fn pair() -> Result<Pair> {
    let folder = tempfile::tempdir().context("create a folder")?;
    let pair = Pair { folder, ports: [process::free_port()?, process::free_port()?] };
    let nodes = [pair.start(0)?, pair.start(1)?];
    let [a, b] = NAMES;
    let [at_a, at_b] = pair.ports;
    let topology = format!("{a} 127.0.0.1 {at_a} master - 0-16383\n{b} 127.0.0.1 {at_b} slave {a}");
    for (node, name) in nodes.iter().zip(NAMES) {
        ok(node, &["CLUSTERX", "SETNODEID", name])?;
        ok(node, &["CLUSTERX", "SETNODES", &topology, "1"])?;
        ok(node, &["CLUSTERX", "SETCLUSTERID", CLUSTER])?;
    }
    ok(&nodes[0], &["SET", "key", "value"])?;
    wait::until("the replica to have it", PATIENCE, || {
        let mut replica = nodes[1].connect()?;
        replica.call(&["READONLY"])?;
        ensure!(replica.call(&["GET", "key"])?.text() == "value");
        Ok(())
    })?;
    for node in nodes {
        ensure!(node.terminate()?.success());
    }
    Ok(pair)
}

fn keeps(path: &Path, what: &str) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    ensure!(text == what, "{text}");
    Ok(())
}

#[test]
fn a_node_starts_on_its_own_folder_only() -> Result<()> {
    let pair = pair()?;
    // All of it, as two disks that were put into each other's machine.
    pair.swap("nodes.conf")?;
    pair.swap("db")?;
    pair.refuses("the folders of the two were swapped; start each of them with its own")?;
    // The database alone.
    pair.swap("nodes.conf")?;
    pair.refuses(&format!("holds the data of node {} of cluster {CLUSTER}", NAMES[1]))?;
    pair.swap("db")?;
    let node = pair.start(0)?;
    ensure!(node.connect()?.call(&["GET", "key"])?.text() == "value");
    ensure!(node.terminate()?.success());
    Ok(())
}

#[test]
fn a_database_of_a_later_version_is_not_opened() -> Result<()> {
    let pair = pair()?;
    let record = pair.folder.path().join(NAMES[0]).join("db/holdfast.format");
    let written = std::fs::read_to_string(&record)?;
    let later = "format 99\ncluster yes\n";
    std::fs::write(&record, later)?;
    pair.refuses(
        "has format 99, this version reads formats up to 1; start the version that wrote it",
    )?;
    keeps(&record, later)?;
    std::fs::write(&record, written)?;
    ensure!(pair.start(0)?.terminate()?.success());
    Ok(())
}

/// The file that says who a node is can be lost; its data still knows, and takes no other name.
#[test]
fn data_keeps_the_name_of_its_node() -> Result<()> {
    let pair = pair()?;
    std::fs::remove_file(pair.folder.path().join(NAMES[0]).join("nodes.conf"))?;
    let node = pair.start(0)?;
    let mut connection = node.connect()?;
    ensure!(connection.call(&["CLUSTERX", "MYID"])?.text() == NAMES[0]);
    let said = connection.call(&["CLUSTERX", "SETNODEID", NAMES[1]])?.text();
    let wanted = format!("ERR the data here is that of node {} of cluster {CLUSTER}", NAMES[0]);
    ensure!(said.starts_with(&wanted), "{said}");
    let said = connection.call(&["CLUSTERX", "SETCLUSTERID", "00000000000000bb"])?.text();
    ensure!(said.ends_with(&format!("belongs to cluster {CLUSTER}")), "{said}");
    let told = connection.call(&["CLUSTERX", "CONTROLLER"])?.text();
    let wanted = format!("myid:{}\r\ncluster_id:{CLUSTER}\r\nterm:0\r\nstore:-\r\n", NAMES[0]);
    ensure!(told == wanted, "{told}");
    // A heartbeat that names nobody says hello, and leads nobody.
    let nobody = "0".repeat(40);
    for (master, is_led) in [(nobody.as_str(), false), (NAMES[0], true)] {
        connection.call(&["CLUSTERX", "HEARTBEAT", master, "1000", "7", "CLOCK", "0", "0"])?;
        let told = connection.call(&["CLUSTERX", "CONTROLLER"])?.text();
        ensure!(told.contains("term:7\r\n") && told.contains("heard_term:7") == is_led, "{told}");
    }
    // The next process knows whom this one obeyed.
    let term = pair.folder.path().join(NAMES[0]).join("term");
    wait::until("the term on disk", PATIENCE, || {
        let kept = std::fs::read_to_string(&term).unwrap_or_default();
        ensure!(kept == "7\n", "{kept:?}");
        Ok(())
    })?;
    ensure!(node.terminate()?.success());
    let node = pair.start(0)?;
    let told = node.connect()?.call(&["CLUSTERX", "CONTROLLER"])?.text();
    ensure!(told.ends_with("term:7\r\nstore:-\r\n"), "{told}");
    ensure!(node.terminate()?.success());
    Ok(())
}

/// As `cp -r` leaves it that puts a backup into the place of a living node's database.
#[test]
fn a_backup_takes_no_place_in_a_shard_that_lives() -> Result<()> {
    let pair = pair()?;
    let dir = pair.folder.path().join(NAMES[0]);
    let (db, conf) = (dir.join("db"), dir.join("nodes.conf"));
    std::fs::write(db.join("holdfast.backup"), "made by a test\n")?;
    for name in ["holdfast.incarnation", "holdfast.owner"] {
        std::fs::remove_file(db.join(name)).context(name)?;
    }
    pair.refuses("is a backup, and by")?;
    ensure!(!db.join("holdfast.incarnation").exists(), "it was taken into service");
    // On a new node it is that node's data from then on.
    std::fs::remove_file(&conf)?;
    let node = pair.start(0)?;
    ok(&node, &["CLUSTERX", "SETNODEID", NAMES[0]])?;
    ensure!(node.terminate()?.success());
    ensure!(pair.start(0)?.terminate()?.success());
    Ok(())
}
