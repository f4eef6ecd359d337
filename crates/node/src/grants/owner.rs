//! Whose data the database folder holds: the node and its cluster, written beside the incarnation.
//!
//! `nodes.conf` says who this node is, and lies outside of the database; an operator may move one
//! without the other. If the database names another node than `nodes.conf` does, the start is
//! refused: its epochs and positions would be taken for this node's. If `nodes.conf` is gone, the
//! database still knows.

use std::io;
use std::path::{Path, PathBuf};

use topology::persist::NodesConf;
use topology::{ClusterId, NodeId};

use super::identity::INCARNATION;
use crate::durable::{replace_durably, sync_folder};
use crate::node::Node;

/// File in a database folder that says that it is a backup, and of what.
pub const BACKUP: &str = "holdfast.backup";

/// File in the database folder: 40 bytes of the node's id, a blank, the cluster's name or `-`, LF.
/// Only Holdfast reads it; without it a folder may be any node's.
const FILE: &str = "holdfast.owner";

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The node whose data it is.
    pub node: NodeId,
    /// The cluster of that node.
    pub cluster: Option<ClusterId>,
}

/// A database and a `nodes.conf` that do not belong together.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} holds the data of node {}{}, but {} is that of node {}{}: put the database of that node there, or remove {} to have its data copied anew \
     from its master",
    db.display(), found.node, of(found.cluster), conf.display(), wanted.node, of(wanted.cluster), db.display()
)]
pub struct Misfit {
    db: PathBuf,
    conf: PathBuf,
    found: Owner,
    wanted: Owner,
}

/// A backup that was put in the place of the database of a node that has a name already.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is a backup, and by {} this is node {node}{}: a backup is restored into a new cluster, on nodes with empty folders, as its shard would go on \
     with what it has and take it for a replica that is behind; put the node's own database back, or remove {} to have its data copied anew from its master",
    db.display(), conf.display(), of(*cluster), db.display()
)]
pub struct Restored {
    db: PathBuf,
    conf: PathBuf,
    node: NodeId,
    cluster: Option<ClusterId>,
}

fn of(cluster: Option<ClusterId>) -> String {
    cluster.map(|cluster| format!(" of cluster {cluster}")).unwrap_or_default()
}

/// Checks that the database of `dir` is that of the node which `conf` names. If `conf` names none,
/// it takes the database's name: a node that lost the file must not pass for one whose data is
/// nobody's.
///
/// # Errors
/// [`Misfit`], [`Restored`]; a file that is there and cannot be read.
pub fn check(dir: &Path, conf: Option<NodesConf>) -> anyhow::Result<Option<NodesConf>> {
    let db = dir.join("db");
    let Some(found) = read(&db)? else {
        let named = conf.as_ref().and_then(|conf| Some((conf.id?, conf.cluster)));
        return match named {
            Some((node, cluster)) if is_untouched_backup(&db)? => {
                let conf = dir.join(topology::persist::FILE_NAME);
                Err(Restored { db, conf, node, cluster }.into())
            }
            _ => Ok(conf),
        };
    };
    let mut conf = conf.unwrap_or_default();
    let wanted =
        Owner { node: conf.id.unwrap_or(found.node), cluster: conf.cluster.or(found.cluster) };
    let is_same = found.node == wanted.node
        && found.cluster.is_none_or(|cluster| Some(cluster) == wanted.cluster);
    if !is_same {
        let conf = dir.join(topology::persist::FILE_NAME);
        return Err(Misfit { db, conf, found, wanted }.into());
    }
    (conf.id, conf.cluster) = (Some(wanted.node), wanted.cluster);
    Ok(Some(conf))
}

/// No node has started on it yet: data in service has a name of its own.
fn is_untouched_backup(db: &Path) -> io::Result<bool> {
    Ok(db.join(BACKUP).try_exists()? && !db.join(INCARNATION).try_exists()?)
}

/// Writes the node's name, and that of its cluster, into the database in service. What cannot be
/// written is logged: the folder is anybody's then.
pub fn keep(node: &Node) {
    let db = node.db_path();
    if node.engine().store.is_none() {
        return;
    }
    if let Err(error) = name(node, &db) {
        tracing::warn!(%error, path = %db.join(FILE).display(), "cannot write whose data this is");
    }
}

/// The same for a database folder that is about to be put in service: a process that ends right
/// behind the exchange must not leave one that is anybody's.
///
/// # Errors
/// The disk did not take it.
pub fn name(node: &Node, db: &Path) -> io::Result<()> {
    if !node.config.now().persist_cluster_nodes_enabled {
        return Ok(());
    }
    // One at a time, each with what is known by then: links and changes of topology come here.
    let _alone = node.grants.naming.lock();
    let cluster = node.cluster.load();
    match cluster.id() {
        Some(id) => write(db, Owner { node: id, cluster: cluster.cluster_id() }),
        None => remove(db),
    }
}

fn read(db: &Path) -> io::Result<Option<Owner>> {
    let text = match std::fs::read(db.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let parse = || {
        let (id, rest) = text.split_at_checked(40)?;
        let rest = std::str::from_utf8(rest).ok()?.trim();
        let cluster = if rest == "-" { None } else { Some(rest.parse().ok()?) };
        Some(Owner { node: NodeId::new(id)?, cluster })
    };
    let owner = parse();
    if owner.is_none() {
        tracing::warn!(path = %db.join(FILE).display(), "unreadable: this data is taken for anybody's");
    }
    Ok(owner)
}

fn write(db: &Path, owner: Owner) -> io::Result<()> {
    if read(db)? == Some(owner) {
        return Ok(());
    }
    let cluster = owner.cluster.map_or_else(|| "-".to_owned(), |cluster| cluster.to_string());
    let text = [owner.node.as_bytes(), b" ", cluster.as_bytes(), b"\n"].concat();
    replace_durably(&db.join(FILE), &text)?;
    sync_folder(db)
}

fn remove(db: &Path) -> io::Result<()> {
    match std::fs::remove_file(db.join(FILE)) {
        Ok(()) => sync_folder(db),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(letter: u8, cluster: Option<&str>) -> Owner {
        let node = NodeId::new(&[letter; 40]).unwrap();
        Owner { node, cluster: cluster.and_then(|name| name.parse().ok()) }
    }

    fn conf(letter: u8, cluster: Option<&str>) -> Option<NodesConf> {
        let Owner { node, cluster } = owner(letter, cluster);
        Some(NodesConf { id: Some(node), cluster, ..NodesConf::default() })
    }

    const ONE: Option<&str> = Some("0000000000000001");
    const TWO: Option<&str> = Some("0000000000000002");

    #[test]
    fn a_database_of_another_node_or_cluster_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("db");
        std::fs::create_dir(&db).unwrap();
        assert_eq!(check(dir.path(), conf(b'a', ONE)).unwrap(), conf(b'a', ONE), "anybody's");
        write(&db, owner(b'a', ONE)).unwrap();
        assert_eq!(check(dir.path(), conf(b'a', ONE)).unwrap(), conf(b'a', ONE));
        let told = check(dir.path(), conf(b'b', ONE)).unwrap_err().to_string();
        assert!(told.contains(&"a".repeat(40)) && told.contains(&"b".repeat(40)), "{told}");
        assert!(told.contains("put the database of that node there, or remove"), "{told}");
        let told = check(dir.path(), conf(b'a', TWO)).unwrap_err().to_string();
        assert!(told.contains(&format!("of cluster {}", ONE.unwrap())), "{told}");
        // Not yet told by its controller: the database knows.
        assert_eq!(check(dir.path(), conf(b'a', None)).unwrap(), conf(b'a', ONE));
    }

    #[test]
    fn a_backup_is_nobodys_first_data_only() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("db");
        std::fs::create_dir(&db).unwrap();
        std::fs::write(db.join(BACKUP), "node x\n").unwrap();
        assert_eq!(check(dir.path(), None).unwrap(), None, "a new node's");
        let unnamed = NodesConf::default();
        assert_eq!(check(dir.path(), Some(unnamed.clone())).unwrap(), Some(unnamed));
        let told = check(dir.path(), conf(b'a', ONE)).unwrap_err().to_string();
        assert!(told.contains("is a backup") && told.contains(&"a".repeat(40)), "{told}");
        // In service since: the file says where it came from, and nothing of what it is now.
        std::fs::write(db.join(INCARNATION), "00000000000000aa\n").unwrap();
        assert_eq!(check(dir.path(), conf(b'a', ONE)).unwrap(), conf(b'a', ONE));
    }

    #[test]
    fn a_node_that_lost_its_file_has_the_name_of_its_data() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("db");
        std::fs::create_dir(&db).unwrap();
        assert_eq!(check(dir.path(), None).unwrap(), None);
        write(&db, owner(b'a', None)).unwrap();
        assert_eq!(check(dir.path(), None).unwrap(), conf(b'a', None));
        write(&db, owner(b'a', TWO)).unwrap();
        assert_eq!(check(dir.path(), None).unwrap(), conf(b'a', TWO));
        std::fs::write(db.join(FILE), "x").unwrap();
        assert_eq!(check(dir.path(), None).unwrap(), None);
        remove(&db).unwrap();
        remove(&db).unwrap();
        assert_eq!(read(&db).unwrap(), None);
    }
}
