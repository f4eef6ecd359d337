use std::{cell::RefCell, collections::BTreeMap};

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::description::tests::{EXAMPLE, topologies};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

#[test]
fn writes_the_example() {
    let conf = NodesConf {
        id: NodeId::new(A.as_bytes()),
        topology: Some(Topology::parse(EXAMPLE, 5).unwrap()),
        mastered_at: Some(4),
        cluster: "00000000000000aa".parse().ok(),
    };
    let text = conf.to_bytes();
    expect![[r#"
        version 5
        id aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        # holdfast-mastered-at 4
        # holdfast-cluster 00000000000000aa
        node ZrFserb4Mqi5dbyCLCMUm9zFXMNPhzKE4RbFauJa 10.190.28.10 7115 master - 0-5460
        node qhbVLW9dc2VF9CZOmvBJOzzqkhNA3oHoD3NVWVyg 10.190.28.10 7133 master - 5461-10921
        node 9cnjXnaNK5KfPtX01V0wn7ZtM7FDPnz7va9qPJBs 10.190.28.10 7237 master - 10922-16383 192.168.0.2 1222
        node fuCHh8Ru9tFSY313QPfBcPQ3QeP63Z4rWpqpyaOl 10.190.28.10 7255 slave ZrFserb4Mqi5dbyCLCMUm9zFXMNPhzKE4RbFauJa
        node cIqdj5C37cMrr7r7ydZDZ8zm1T1vPLMWj8516rrF 10.190.28.10 6741 slave qhbVLW9dc2VF9CZOmvBJOzzqkhNA3oHoD3NVWVyg
        node 3D8JRN8YVONqRU57jP99E3JdH2QnLHzZpFN4rcQQ 10.190.28.10 6765 slave 9cnjXnaNK5KfPtX01V0wn7ZtM7FDPnz7va9qPJBs 192.168.0.1 1234
    "#]]
    .assert_eq(&String::from_utf8(text.clone()).unwrap());
    assert_eq!(NodesConf::parse(&text), Ok(conf));
}

#[test]
fn an_earlier_version_reads_a_file_with_ports_of_tls() {
    let lines = format!("{A} h 1 master - 0-5 lb1 7 tls=11,8\n{B} h 2 slave {A} tls=12,0");
    let conf =
        NodesConf { topology: Some(Topology::parse(lines, 5).unwrap()), ..NodesConf::default() };
    let text = String::from_utf8(conf.to_bytes()).unwrap();
    expect![[r#"
        version 5
        id 
        # holdfast-tls 11,8 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        # holdfast-tls 12,0 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
        node aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa h 1 master - 0-5 lb1 7
        node bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb h 2 slave aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    "#]]
    .assert_eq(&text);
    assert_eq!(NodesConf::parse(text.as_bytes()), Ok(conf));
    // It knows no such comments, and no such words in lines.
    let plain: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .fold(String::new(), |text, line| text + line + "\n");
    let read = NodesConf::parse(plain.as_bytes()).unwrap().topology.unwrap();
    assert!(!plain.contains("tls") && !read.has_tls_ports());
}

#[test]
fn reads_files_of_kvrocks() {
    let text = format!(
        "version 5\nid {A}\nnode {B} 127.0.0.1 2 master -  101-199 201-16383\nnode {A} 127.0.0.1 1 master -  0-100 200\n"
    );
    let conf = NodesConf::parse(text.as_bytes()).unwrap();
    assert_eq!(conf.id, NodeId::new(A.as_bytes()));
    let topology = conf.topology.unwrap();
    assert_eq!((topology.version, topology.assigned_slots()), (5, 16_384));
    let text = format!("version 3\nid \nnode {B} h 2 master - \nnode {A} h 1 slave {B} \n");
    let conf = NodesConf::parse(text.as_bytes()).unwrap();
    assert_eq!((conf.id, conf.topology.unwrap().nodes.len()), (None, 2));
}

fn understood(text: &str) -> String {
    match NodesConf::parse(text.as_bytes()) {
        Ok(conf) => String::from_utf8_lossy(&conf.to_bytes()).into_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn comments_quotes_and_ids_only() {
    let only_id = format!("version -1\nid {A}\n");
    assert_eq!(understood(&only_id), only_id);
    assert_eq!(understood(&format!("# x\n\n  version  \"-1\" # y\r\nid '{A}'\t\n")), only_id);
    assert_eq!(understood(&format!("id {A} # z\nversion -1")), only_id);
    assert_eq!(
        understood(&format!("version 1\nnode \"{A} h 1 master - 0\" # c")),
        format!("version 1\nid \nnode {A} h 1 master - 0\n")
    );
}

#[test]
fn refused_files() {
    for (text, expected) in [
        ("", "Invalid cluster version"),
        ("version x", "Invalid cluster version"),
        ("version -2", "Invalid cluster version"),
        ("version 1\nwhat 2", "unknown key: what"),
        ("version 1\nid abc", "Invalid cluster node id"),
        ("version 1", "Invalid cluster nodes info"),
        ("version 1\nnode x", "Invalid cluster nodes info"),
        ("version \"1", "line 1: bad quotes"),
        ("version 1\nid \"\\xg0\"", "line 2: bad quotes"),
        ("version \"1\" 2", "line 1: bad quotes"),
        ("# holdfast-mastered-at x\nversion -1", "Invalid cluster version"),
        (
            "# holdfast-cluster a\nversion -1",
            "Invalid cluster name: 16 hexadecimal digits expected",
        ),
        ("# holdfast-tls 1 a\nversion -1", "Invalid cluster node tls ports"),
    ] {
        assert_eq!(understood(text), expected, "{text:?}");
    }
    let unfit = format!("version 1\n# holdfast-tls 0,8 {A}\nnode {A} h 1 master -");
    assert_eq!(understood(&unfit), "Invalid cluster node tls ports");
    let nodes_without_version = format!("version -1\nnode {A} h 1 master -");
    assert_eq!(understood(&nodes_without_version), "Invalid cluster version");
}

proptest! {
    #[test]
    fn any_topology_and_id_survive(
        topology in prop::option::of(topologies()),
        id in prop::option::of(prop::collection::vec(any::<u8>(), 40)),
        mastered_at in prop::option::of(any::<i64>()),
        cluster in prop::option::of(any::<u64>()),
    ) {
        let cluster = cluster.and_then(|bits| format!("{bits:016x}").parse().ok());
        let id = id.and_then(|id| NodeId::new(&id));
        let conf = NodesConf { id, topology, mastered_at, cluster };
        prop_assert_eq!(NodesConf::parse(&conf.to_bytes()), Ok(conf));
    }

    #[test]
    fn any_value_survives_the_quotes(value in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut text = Vec::new();
        write_value(&mut text, &value);
        prop_assert!(!text.contains(&b'\n'));
        prop_assert_eq!(unquote(&text), Some(value));
    }
}

/// Keeps files in memory, records calls, and fails the call it is told to.
#[derive(Default)]
struct Recorder {
    files: RefCell<BTreeMap<PathBuf, Vec<u8>>>,
    calls: RefCell<Vec<String>>,
    failing: Option<&'static str>,
}

impl Recorder {
    fn call(&self, name: &'static str, path: &Path) -> io::Result<()> {
        self.calls.borrow_mut().push(format!("{name} {}", path.display()));
        match self.failing == Some(name) {
            true => Err(io::Error::other("broken")),
            false => Ok(()),
        }
    }

    fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.files.borrow().get(Path::new(path)).cloned()
    }
}

impl FileSystem for Recorder {
    type File = PathBuf;

    fn create(&self, path: &Path) -> io::Result<PathBuf> {
        self.call("create", path)?;
        self.files.borrow_mut().insert(path.to_owned(), Vec::new());
        Ok(path.to_owned())
    }

    fn write(&self, file: &mut PathBuf, bytes: &[u8]) -> io::Result<()> {
        // A write that fails may have written a part.
        let result = self.call("write", file);
        let length = if result.is_ok() { bytes.len() } else { bytes.len() / 2 };
        self.files.borrow_mut().insert(file.clone(), bytes[..length].to_vec());
        result
    }

    fn sync_file(&self, file: &PathBuf) -> io::Result<()> {
        self.call("sync", file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename", to)?;
        let content = self.files.borrow_mut().remove(from).unwrap();
        self.files.borrow_mut().insert(to.to_owned(), content);
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.call("sync folder", path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.borrow().get(path).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path)?;
        self.files.borrow_mut().remove(path).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }
}

#[test]
fn durable_in_this_order() {
    let disk = Recorder::default();
    save(&disk, Path::new("d"), b"new").unwrap();
    remove(&disk, Path::new("d")).unwrap();
    remove(&disk, Path::new("d")).unwrap();
    expect![[r#"
        create d/nodes.conf.tmp
        write d/nodes.conf.tmp
        sync d/nodes.conf.tmp
        rename d/nodes.conf
        sync folder d
        remove d/nodes.conf
        sync folder d
        remove d/nodes.conf
        sync folder d"#]]
    .assert_eq(&disk.calls.borrow().join("\n"));
}

#[test]
fn a_failure_leaves_the_old_file() {
    for failing in ["create", "write", "sync", "rename"] {
        let mut disk = Recorder::default();
        save(&disk, Path::new("d"), b"old").unwrap();
        disk.failing = Some(failing);
        let error = save(&disk, Path::new("d"), b"new").unwrap_err();
        assert_eq!(error.step, failing);
        if failing == "rename" {
            assert_eq!(error.reply(), "ERR rename file encounter error: broken");
        }
        assert_eq!(disk.content("d/nodes.conf").unwrap(), b"old", "{failing}");
        assert_eq!(disk.content("d/nodes.conf.tmp"), None, "{failing}");
        assert!(disk.calls.borrow().last().unwrap().starts_with("remove"), "{failing}");
    }
}

#[test]
fn a_folder_that_is_not_synced_is_no_success() {
    let disk = Recorder { failing: Some("sync folder"), ..Recorder::default() };
    let error = save(&disk, Path::new("d"), b"new").unwrap_err();
    assert_eq!(error.reply(), "ERR sync folder d: broken");
    assert_eq!(disk.content("d/nodes.conf").unwrap(), b"new");
    // Nor is its removal, however often that is tried.
    for _ in 0..2 {
        assert!(remove(&disk, Path::new("d")).unwrap_err().is_in_place());
        assert_eq!(disk.content("d/nodes.conf"), None);
    }
}

#[test]
fn on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    assert!(load(&Disk, folder.path()).unwrap().is_none());
    let conf =
        NodesConf { topology: Some(Topology::parse(EXAMPLE, 5).unwrap()), ..NodesConf::default() };
    for content in [NodesConf::default(), conf] {
        save(&Disk, folder.path(), &content.to_bytes()).unwrap();
        assert_eq!(load(&Disk, folder.path()).unwrap(), Some(content));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    fs::write(folder.path().join(FILE_NAME), "what 1").unwrap();
    assert!(matches!(load(&Disk, folder.path()), Err(LoadError::Content { .. })));
    remove(&Disk, folder.path()).unwrap();
    assert!(load(&Disk, folder.path()).unwrap().is_none());
    assert!(save(&Disk, &folder.path().join("missing"), b"").is_err());
}
