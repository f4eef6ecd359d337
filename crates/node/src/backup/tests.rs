use storage::{Family, Options, Read as _, Store};
use topology::Cluster;

use super::*;
use crate::config::{Config, Values};

fn node(dir: &Path) -> Arc<Node> {
    let store = Store::open(&dir.join("db"), small()).unwrap();
    let config = Config::new(Values::default(), None);
    Arc::new(Node::new(
        config,
        dir.to_owned(),
        store,
        Cluster::default(),
        Role::Master,
        crate::shell::commands(),
    ))
}

fn small() -> Options {
    Options { block_cache_size: 8 << 20, ..Options::default() }
}

fn put(node: &Node, key: &str) {
    let engine = node.engine();
    let store = engine.store.as_ref().unwrap();
    let mut txn = store.txn();
    txn.put(Family::Metadata, key.as_bytes(), b"v");
    txn.commit().unwrap();
}

fn has(folder: &Path, key: &str) -> bool {
    // A copy: opening changes it.
    let copy = tempfile::tempdir().unwrap();
    for part in parts(folder).unwrap() {
        fs::copy(&part, copy.path().join(part.file_name().unwrap())).unwrap();
    }
    let store = Store::open(copy.path(), small()).unwrap();
    store.get(Family::Metadata, key.as_bytes()).unwrap().is_some()
}

#[test]
fn a_backup_is_whole_named_and_replaces_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    put(&node, "a");
    let (folder, sequence) = make(&node).unwrap();
    assert_eq!((folder.clone(), sequence), (dir.path().join("backup"), 1));
    let name = fs::read_to_string(folder.join(NAME)).unwrap();
    assert!(name.starts_with("backup 1\n") && name.contains("\nsequence 1\n"), "{name}");
    assert!(!folder.join("holdfast.incarnation").exists());
    put(&node, "b");
    assert!(has(&folder, "a") && !has(&folder, "b"));
    make(&node).unwrap();
    assert!(has(&folder, "a") && has(&folder, "b"));
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| name == "db" || name == "backup"), "{left:?}");
    clear(&folder).unwrap();
    assert!(!folder.exists());
}

#[test]
fn an_attempt_that_was_cut_short_costs_no_earlier_backup() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    put(&node, "a");
    let (folder, _) = make(&node).unwrap();
    // Between the two renames.
    fs::rename(&folder, dir.path().join("backup.old")).unwrap();
    fs::create_dir(dir.path().join("backup.new")).unwrap();
    fs::write(dir.path().join("backup.new/000012.sst"), "half").unwrap();
    // Within the checkpoint.
    fs::create_dir(dir.path().join("backup.new.tmp")).unwrap();
    fs::write(dir.path().join("backup.new.tmp/000013.sst"), "half").unwrap();
    sweep(&node);
    assert!(!dir.path().join("backup.new.tmp").exists());
    node.gate.write().store = None;
    assert!(matches!(make(&node), Err(Failed::NoData)));
    assert!(has(&folder, "a"));
}

#[test]
fn no_folder_is_replaced_that_holds_anything_else() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    put(&node, "a");
    let precious = dir.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("thesis.txt"), "years").unwrap();
    for (path, why) in [
        (precious.to_str().unwrap(), "holds `thesis.txt`"),
        ("db", "is the database itself"),
        (".", "is the database itself"),
        ("db/inside", "is the database itself"),
    ] {
        node.config.set(&[("backup-dir", path)]).unwrap();
        let error = make(&node).unwrap_err().to_string();
        assert!(error.contains(why), "{path}: {error}");
    }
    assert!(clear(&precious).is_err());
    assert_eq!(fs::read_to_string(precious.join("thesis.txt")).unwrap(), "years");
}

/// Two nodes were given one folder, as by one `node.conf` for all nodes of a host.
#[test]
fn the_backup_of_another_shard_is_neither_replaced_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    let (me, other) = ("a".repeat(40), "b".repeat(40));
    let mut cluster = Cluster::default();
    let change = cluster.prepare_set_node_id(me.as_bytes(), true).unwrap();
    cluster.commit(change).unwrap();
    let text = format!("{me} h1 1 master - 0-99\n{other} h2 2 master - 100-16383");
    let change = cluster.prepare_set_nodes(text.as_bytes(), 1, false, &|_| false).unwrap();
    cluster.commit(change).unwrap();
    node.cluster.store(Arc::new(cluster));
    put(&node, "a");
    let (folder, _) = make(&node).unwrap();
    let name = folder.join(NAME);
    let own = fs::read_to_string(&name).unwrap();
    assert!(own.contains(&format!("\nnode {me}\n")) && own.contains("\nslots 0-99\n"), "{own}");
    assert!(is_there(&node));

    let theirs = own.replace(&me, &other).replace("slots 0-99", "slots 100-16383");
    fs::write(&name, &theirs).unwrap();
    let error = make(&node).unwrap_err().to_string();
    assert!(error.contains("of another shard, made by node b"), "{error}");
    assert!(!is_there(&node) && not_of_others(&node, &folder).is_err());
    assert_eq!(fs::read_to_string(&name).unwrap(), theirs);
    // The same slots, as of a node of this shard: an earlier master, or a host that was replaced.
    fs::write(&name, own.replace(&me, &other)).unwrap();
    make(&node).unwrap();
    assert_eq!(fs::read_to_string(&name).unwrap().lines().nth(1), own.lines().nth(1));
}

#[test]
fn what_is_not_to_be_trusted_or_changes_meanwhile_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    put(&node, "a");
    node.resync.set_required(true);
    assert!(matches!(make(&node), Err(Failed::NoData)));
    node.resync.set_required(false);
    let origin = Origin::of(&node).unwrap();
    node.gate.write().generation += 1;
    let new = dir.path().join("backup.new");
    assert!(matches!(fill(&node, &origin, &new), Err(Failed::Changed)));
    assert!(make(&node).is_ok());
    assert!(!new.exists());
}

#[test]
fn a_master_that_holds_no_grant_for_its_epochs_does_not_know_what_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    put(&node, "a");
    let store = node.engine().store.clone().unwrap();
    store.open_epoch(1, replication::history::EpochId::from_random(5), 0).unwrap();
    let origin = Origin::of(&node).unwrap();
    let now = std::time::Instant::now();
    let error = tail::acknowledged(&node, &origin, store.latest_sequence(), now).unwrap_err();
    assert!(error.to_string().contains("holds no grant"), "{error}");
}

#[test]
fn one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    assert!(node.backups.begin());
    assert_eq!((begin(&node), remove(&node)), (Err(Running), Err(Running)));
    node.backups.end(0, Err(()));
    let state = node.backups.state();
    assert!(state.has_failed && !state.is_running && state.last_ms.is_none());
}

#[test]
fn what_belongs_to_a_backup_is_known_by_name() {
    let parts = ["CURRENT", "MANIFEST-000005", "OPTIONS-000007", "000012.sst", "000009.log", NAME];
    assert!(parts.iter().all(|name| is_part(name)));
    let others = [
        "thesis.txt",
        "LOCK",
        "MANIFEST-x",
        ".sst",
        "notes.log",
        "12.sst.bak",
        "holdfast.format",
        "IDENTITY.old",
    ];
    assert!(!others.iter().any(|name| is_part(name)));
}

#[test]
fn who_waits_for_a_backup_is_told_when_it_is_made_or_why_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    put(&node, "a");
    assert_eq!(make_and_tell(&node).unwrap().blocking_recv().unwrap(), Ok(()));
    assert!(has(&folder(&node), "a") && node.backups.state().last_ms.is_some());
    fs::write(folder(&node).join("letter"), "to be kept").unwrap();
    let told = make_and_tell(&node).unwrap().blocking_recv().unwrap().unwrap_err();
    assert!(told.contains("holds `letter`, which is no part of a backup"), "{told}");
    assert!(node.backups.state().has_failed && !node.backups.state().is_running);
}
