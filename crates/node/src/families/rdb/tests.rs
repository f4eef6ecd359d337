use super::*;
use crate::clients::PauseKind;
use crate::gate::Role;
use crate::shell;

/// Three strings, of which one has ended and one is of another database.
const FILE: &[u8] = b"REDIS0010\xfe\x00\x00\x01a\x01x\xfd\x0a\0\0\0\x00\x01o\x01x\x00\x01b\x01y\
    \xfe\x01\x00\x01c\x01z\xff\0\0\0\0\0\0\0\0";

fn request(path: &str, only_new: bool) -> Request {
    let namespace = storage::DEFAULT_NAMESPACE.into();
    Request { path: path.into(), only_new, db: 0, namespace }
}

fn value(node: &Node, key: &[u8]) -> Option<Vec<u8>> {
    let (engine, scope) = (node.engine(), node.scope(clock::unix_ms()));
    let store = engine.store.as_ref().unwrap();
    let payload = storage::types::strings::get(store, &scope.at(key)).unwrap();
    payload.map(|payload| payload.to_vec())
}

fn text(outcome: Result<()>) -> String {
    outcome.err().map_or_else(String::new, |error| error.to_string())
}

#[test]
fn keys_of_one_database_are_loaded_and_others_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let node = shell::node(dir.path(), shell::small(), topology::Cluster::default(), Role::Master);
    fs::write(dir.path().join("dump.rdb"), FILE).unwrap();
    assert_eq!(text(run(&node, &request("dump.rdb", false))), "");
    assert_eq!(value(&node, b"a").as_deref(), Some(&b"x"[..]));
    assert_eq!(value(&node, b"b").as_deref(), Some(&b"y"[..]));
    assert_eq!([value(&node, b"o"), value(&node, b"c")], [None, None]);
    let progress = node.loads.now();
    assert_eq!((progress.keys, progress.skipped, progress.is_running), (2, 2, false));
    assert_eq!(progress.total_bytes, FILE.len() as u64);
    // A file that is cut leaves what came before, and says so.
    let changed = [&FILE[..15], b"w", &FILE[16..30]].concat();
    fs::write(dir.path().join("cut.rdb"), changed).unwrap();
    let refused = text(run(&node, &request("cut.rdb", true)));
    assert_eq!(refused, "ERR the dump file cannot be read at key b: the data ends too early");
    assert_eq!(value(&node, b"a").as_deref(), Some(&b"x"[..]));
    assert!(node.loads.now().has_failed);
    assert!(run(&node, &request("cut.rdb", false)).is_err());
    assert_eq!(value(&node, b"a").as_deref(), Some(&b"w"[..]));
}

/// What holds the key may wait for a change that takes the gate.
#[test]
fn a_load_that_waits_for_a_key_lets_the_gate_go() {
    let dir = tempfile::tempdir().unwrap();
    let node = shell::node(dir.path(), shell::small(), topology::Cluster::default(), Role::Master);
    fs::write(dir.path().join("dump.rdb"), FILE).unwrap();
    std::thread::scope(|scope| {
        // It goes before the scope waits for the load, whatever happens.
        let held = node.locks.lock(&Locks::stripes([b"a".as_slice()].into_iter()));
        let load = scope.spawn(|| text(run(&node, &request("dump.rdb", false))));
        crate::replication::tests::wait_until(|| match node.gate.try_write() {
            None => Ok(()),
            Some(_) => Err("the load does not have the gate yet".to_owned()),
        });
        assert!(node.gate.try_write_for(Duration::from_secs(10)).is_some(), "it keeps the gate");
        drop(held);
        assert_eq!(load.join().unwrap(), "");
    });
    assert_eq!(value(&node, b"a").as_deref(), Some(&b"x"[..]));
}

#[test]
fn a_load_waits_while_writes_are_paused() {
    let dir = tempfile::tempdir().unwrap();
    let node = shell::node(dir.path(), shell::small(), topology::Cluster::default(), Role::Master);
    fs::write(dir.path().join("dump.rdb"), FILE).unwrap();
    let now_ns = clock::boottime_ns();
    node.clients.pause(PauseKind::Write, now_ns + 3_600_000_000_000, now_ns);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| text(run(&node, &request("dump.rdb", false))));
        crate::replication::tests::wait_until(|| match node.loads.now() {
            progress if progress.is_running => Ok(()),
            progress => Err(format!("{progress:?}")),
        });
        assert_eq!(value(&node, b"a"), None);
        node.clients.unpause();
        assert_eq!(load.join().unwrap(), "");
    });
    assert_eq!(value(&node, b"b").as_deref(), Some(&b"y"[..]));
}

#[test]
fn clients_reach_plain_files_in_the_folder_only() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("node")).unwrap();
    let node = shell::node(
        &dir.path().join("node"),
        shell::small(),
        topology::Cluster::default(),
        Role::Master,
    );
    fs::write(dir.path().join("outside.rdb"), FILE).unwrap();
    let inside = dir.path().join("node").join("link.rdb");
    std::os::unix::fs::symlink(dir.path().join("outside.rdb"), inside).unwrap();
    let absolute = dir.path().join("outside.rdb");
    for path in ["../outside.rdb", "link.rdb", "db", absolute.to_str().unwrap(), "/dev/zero"] {
        let refused = text(run(&node, &request(path, false)));
        assert!(refused.contains("plain files in the folder"), "{path}: {refused}");
    }
    assert!(text(run(&node, &request("none.rdb", false))).contains("open the dump file"));
    assert_eq!(value(&node, b"a"), None);
}

/// A file with one library, and its end.
fn with_library(source: &str) -> Vec<u8> {
    assert!((64..1 << 14).contains(&source.len()), "a length of two bytes");
    let length = (0x4000 | source.len() as u16).to_be_bytes();
    [&b"REDIS0010\xf5"[..], &length, source.as_bytes(), b"\xff\0\0\0\0\0\0\0\0"].concat()
}

#[test]
fn libraries_of_functions_are_loaded_and_with_nx_only_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let node = shell::node(dir.path(), shell::small(), topology::Cluster::default(), Role::Master);
    let source = |library: &str, function: &str| {
        format!(
            "#!lua name={library}\nredis.register_function('{function}', function() return 1 end)"
        )
    };
    let load = |source: &str, only_new: bool| {
        fs::write(dir.path().join("dump.rdb"), with_library(source)).unwrap();
        text(run(&node, &request("dump.rdb", only_new)))
    };
    let kept = || {
        let engine = node.engine();
        let libraries = storage::types::scripts::libraries(engine.store.as_ref().unwrap()).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        libraries.into_iter().map(|(name, code)| (text(name), text(code))).collect::<Vec<_>>()
    };
    let named = |name: &str, source: &str| (name.to_owned(), source.to_owned());
    let (first, second) = (source("lib", "f"), source("lib", "g"));
    assert_eq!(load(&first, true), "");
    assert_eq!(kept(), [named("lib", &first)]);
    assert_eq!(load(&second, true), "");
    assert_eq!(kept(), [named("lib", &first)]);
    assert_eq!(load(&second, false), "");
    assert_eq!(kept(), [named("lib", &second)]);
    let refused = load(&source("other", "g"), false);
    assert_eq!(refused, "ERR a library of the dump file cannot be kept: Function g already exists");
    let refused =
        load(&format!("#!lua name=wrong\n{}", "this is no Lua at all. ".repeat(4)), false);
    assert!(refused.contains("Error compiling function"), "{refused}");
    assert_eq!(kept(), [named("lib", &second)]);
}
