//! `ctl backup`: has the nodes of this host save themselves, and keeps copies of that elsewhere.
//!
//! A node's own backup is one folder that the next one takes the place of. A copy here is whole or
//! not there: it is made under another name, and is renamed once all of it is on the disk and the
//! folder is still the one that it is a copy of. Nothing is removed but copies of the same node, by
//! their names.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use api::time::utc;
use controller::client::{ClientError, Connection};
use resp::Value;
use serde_json::json;
use web::tls::Tls;

use super::Context;
use super::secret::Password;
use super::table::json as print_json;
use super::tls::TlsArgs;
use super::words::{endpoint, value};

/// What a backup is a copy of, in its folder.
const NAME: &str = "holdfast.backup";
/// A copy that is not whole.
const PART: &str = ".part-";
/// Longest wait for a node to save itself, unless --timeout is said.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// Letters of a node's id in the name of its copies.
const SHORT: usize = 8;

#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// Nodes of this host: addresses, host:port,…
    #[arg(long, value_delimiter = ',', required = true, value_name = "ADDRESSES")]
    nodes: Vec<String>,
    #[command(flatten)]
    password: Password,
    /// Folder for the copies, on another disk or machine
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Keep so many copies of each node, and remove older ones; all if left out
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    keep: Option<u16>,
    /// Leave masters with replicas alone: one of those makes the backup of the shard
    #[arg(long)]
    replicas_only: bool,
    /// Dial the nodes over TLS; they are known by --cacert
    #[arg(long)]
    nodes_tls: bool,
}

pub(crate) async fn run(cx: &Context, tls: &TlsArgs, backup: Backup) -> Result<()> {
    let tls = Arc::new(tls.nodes(backup.nodes_tls)?);
    let password = backup.password.get()?;
    ensure!(backup.to.is_dir(), "--to: {} is no folder", backup.to.display());
    let _lock = lock(&backup.to)?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for node in &backup.nodes {
        // One that cannot be saved keeps no other from it.
        match of_node(cx, &backup, node, (password.as_deref(), &tls)).await {
            Ok(text) => {
                if !cx.json {
                    cx.say(&format!("{node}: {text}"))?;
                }
                done.push(json!({ "node": node, "done": text }));
            }
            Err(error) => failed.push(format!("node {node}: {error:#}")),
        }
    }
    if cx.json {
        print_json(&json!({ "nodes": done, "failed": failed }))?;
    }
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

/// What was done, for people.
async fn of_node(
    cx: &Context,
    backup: &Backup,
    node: &str,
    (password, tls): (Option<&str>, &Arc<Tls>),
) -> Result<String> {
    let endpoint = endpoint(node).context("host:port expected")?;
    let work = async {
        let mut connection = Connection::open(&endpoint, password, tls).await?;
        let info = connection.command(&["INFO", "replication"]).await?;
        if backup.replicas_only && is_left_to_replicas(info.as_str().unwrap_or_default()) {
            return Ok(None);
        }
        connection.expect_ok("SAVE", &["SAVE"]).await.context("SAVE")?;
        let told = connection.command(&["CONFIG", "GET", "dir", "backup-dir"]).await?;
        let folder = folder(&told).context("it does not say where its backup is")?;
        anyhow::Ok(Some((folder, id(&mut connection).await?)))
    };
    let limit = cx.http.limit_or(PATIENCE);
    let Some((folder, id)) =
        tokio::time::timeout(limit, work).await.context("it has not answered in time")??
    else {
        return Ok("a master with replicas, which is left to them".to_owned());
    };
    let name = copy(&folder, &backup.to, (endpoint.port, id.as_deref()))?;
    let removed = match backup.keep {
        Some(keep) => prune(&backup.to, &name, usize::from(keep))?,
        None => 0,
    };
    let removed = if removed > 0 { format!(", {removed} older removed") } else { String::new() };
    Ok(format!("saved as {}{removed}", backup.to.join(name.folder()).display()))
}

/// Keeps other runs from the folder while it is there. One that cannot be locked is used as it is:
/// a file system over the network may lock no folders.
fn lock(to: &Path) -> Result<File> {
    let folder = File::open(to).with_context(|| format!("--to: open {}", to.display()))?;
    if matches!(folder.try_lock(), Err(TryLockError::WouldBlock)) {
        bail!("--to: another `holdfast ctl backup` writes to {}", to.display());
    }
    Ok(folder)
}

/// The id that a node has in its cluster, empty outside one; nothing where it may not be asked.
async fn id(connection: &mut Connection) -> Result<Option<String>> {
    match connection.command(&["CLUSTER", "MYID"]).await {
        Ok(id) => Ok(id.as_str().map(str::to_owned)),
        Err(ClientError::Node(_)) => Ok(None),
        Err(error) => Err(error).context("CLUSTER MYID"),
    }
}

/// Of INFO replication.
fn is_left_to_replicas(info: &str) -> bool {
    let of = |name: &str| value(info, name, ':').unwrap_or_default();
    of("role") == "master" && !matches!(of("connected_slaves"), "" | "0")
}

/// Where the backup is, by what CONFIG GET tells: a relative `backup-dir` lies in `dir`.
fn folder(told: &Value) -> Option<PathBuf> {
    let Value::Array(words) = told else { return None };
    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    let of = |name: &str| {
        words
            .chunks(2)
            .find_map(|pair| (pair.first() == Some(&name)).then(|| pair.get(1).copied())?)
    };
    let backup = of("backup-dir").filter(|path| !path.is_empty()).unwrap_or("backup");
    Some(Path::new(of("dir")?).join(backup))
}

/// What a copy is of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    /// Beginning of the node's id; outside a cluster `single` and its port.
    node: String,
    at_ms: u64,
    sequence: u64,
}

impl Name {
    /// Of the file in the folder.
    fn parse(text: &str, port: u16) -> Option<Self> {
        let of = |name: &str| value(text, name, ' ');
        let node: String = of("node").unwrap_or_default().chars().take(SHORT).collect();
        Some(Self {
            node: if node.is_empty() { format!("single{port}") } else { node },
            at_ms: of("at_ms")?.parse().ok()?,
            sequence: of("sequence")?.parse().ok()?,
        })
    }

    /// `20261130T031500123-0a1b2c3d-123456`: in the order of time.
    fn folder(&self) -> String {
        let mut time = utc(self.at_ms).replace(['-', ':'], "").replace(' ', "T");
        time.retain(|c| c.is_ascii_alphanumeric());
        format!("{time}-{}-{}", self.node, self.sequence)
    }
}

/// Copies a backup, whole, of the node with this port and id.
///
/// # Errors
/// It is another node's, cannot be read or written, or another one came in its place; nothing is
/// left of it then.
fn copy(from: &Path, to: &Path, (port, id): (u16, Option<&str>)) -> Result<Name> {
    let read = || {
        let path = from.join(NAME);
        fs::read_to_string(&path).with_context(|| {
            format!(
                "read {}: is this the host of the node, and may its folder be read?",
                path.display()
            )
        })
    };
    let text = read()?;
    let name = Name::parse(&text, port).context("its backup does not say what it is of")?;
    let of = value(&text, "node", ' ').unwrap_or_default();
    ensure!(
        of.is_empty() || id.is_none_or(|id| id == of),
        "the backup in {} is that of node {of}: is this the host of the node?",
        from.display()
    );
    let (part, whole) = (to.join(format!("{PART}{}", name.node)), to.join(name.folder()));
    if whole.exists() {
        bail!("{} is there already", whole.display());
    }
    // Of a run that was cut short.
    remove(&part)?;
    let made = fill(from, &part).and_then(|()| {
        ensure!(read()? == text, "another backup came in its place meanwhile");
        fs::rename(&part, &whole).with_context(|| format!("make {}", whole.display()))?;
        sync(to)
    });
    if made.is_err() {
        // The first error is the one to tell.
        let _ = remove(&part);
    }
    made.map(|()| name)
}

fn fill(from: &Path, part: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700).create(part).with_context(|| format!("make {}", part.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry.with_context(|| format!("read {}", from.display()))?;
        let (source, target) = (entry.path(), part.join(entry.file_name()));
        let copied = fs::copy(&source, &target);
        copied.with_context(|| format!("copy {} to {}", source.display(), target.display()))?;
        sync(&target)?;
    }
    sync(part)
}

fn sync(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.with_context(|| format!("sync {}", path.display()))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Removes copies of the same node but for the one that was made now, and the newest of the others,
/// `keep` in all; says how many.
fn prune(to: &Path, newest: &Name, keep: usize) -> Result<usize> {
    let mut names = Vec::new();
    for entry in fs::read_dir(to).with_context(|| format!("read {}", to.display()))? {
        let entry = entry.with_context(|| format!("read {}", to.display()))?;
        // What is none of ours stays, whatever it is called.
        if entry.path().join(NAME).is_file() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    // It stays whatever the others are called: the clock of the node may have been set back.
    names.retain(|name| *name != newest.folder());
    let old = outdated(names, &newest.node, keep.saturating_sub(1));
    let part = to.join(format!("{PART}{}", newest.node));
    for name in &old {
        let folder = to.join(name);
        // What is left of it, if this is cut short, has not the name of a whole one.
        fs::rename(&folder, &part).with_context(|| format!("remove {}", folder.display()))?;
        remove(&part)?;
    }
    Ok(old.len())
}

/// Which of these names are copies of this node that are older than those to be kept.
fn outdated(names: Vec<String>, node: &str, keep: usize) -> Vec<String> {
    let is_copy = |name: &String| {
        let parts: Vec<&str> = name.split('-').collect();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        matches!(parts.as_slice(), [time, of, sequence]
            if *of == node && is_number(sequence) && time.bytes().all(|c| c.is_ascii_alphanumeric()))
    };
    let mut copies: Vec<String> = names.into_iter().filter(is_copy).collect();
    copies.sort_unstable();
    copies.truncate(copies.len().saturating_sub(keep));
    copies
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn write(path: &Path, text: &str) {
        File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn text(node: &str, at_ms: u64, sequence: u64) -> String {
        format!(
            "backup 1\nnode {node}\nrole slave\nslots 0-9\nepoch 1 x\nsequence {sequence}\nat_ms {at_ms}\nversion 1\n"
        )
    }

    #[test]
    fn a_copy_is_named_by_time_node_and_sequence() {
        let name = Name::parse(&text(&"ab".repeat(20), 1_796_000_000_123, 7), 1).unwrap();
        assert_eq!(name.node, "abababab");
        let folder = name.folder();
        assert!(folder.starts_with("2026") && folder.ends_with("-abababab-7"), "{folder}");
        assert_eq!(outdated(vec![folder.clone()], "abababab", 0), std::slice::from_ref(&folder));
        let later = Name { at_ms: name.at_ms + 1_000, sequence: 1, ..name };
        assert!(later.folder() > folder);
        assert_eq!(Name::parse(&text("", 1, 7), 6666).unwrap().node, "single6666");
        assert_eq!(Name::parse("backup 1\n", 1), None);
    }

    #[test]
    fn a_copy_is_whole_and_only_old_ones_of_the_same_node_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("backup"), root.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        let foreign = ["20200101T000000-abababab-1", "20990101T000000-abababab-1"];
        for name in foreign {
            fs::create_dir(to.join(name)).unwrap();
        }
        fs::create_dir(to.join(format!("{PART}abababab"))).unwrap();
        write(&from.join("000001.sst"), "table");
        let id = "ab".repeat(20);
        let mut made = Vec::new();
        for round in 0..3 {
            write(&from.join(NAME), &text(&id, 1_796_000_000_000 + round * 1_000, round));
            made.push(copy(&from, &to, (1, Some(&id))).unwrap());
        }
        assert!(copy(&from, &to, (1, Some(&id))).is_err(), "it is there already");
        assert_eq!(prune(&to, &made[2], 2).unwrap(), 1);
        let there = |name: &Name| to.join(name.folder()).is_dir();
        assert_eq!(made.iter().map(there).collect::<Vec<_>>(), [false, true, true]);
        assert!(foreign.iter().all(|name| to.join(name).is_dir()), "they are none of ours");
        assert!(!to.join(format!("{PART}abababab")).exists());
        let table = to.join(made[2].folder()).join("000001.sst");
        assert_eq!(fs::read_to_string(table).unwrap(), "table");
        // The clock was set back: what was made now is not removed for one that is named later.
        assert_eq!(prune(&to, &made[1], 1).unwrap(), 1);
        assert_eq!(made.iter().map(there).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn a_backup_of_another_node_is_not_copied_and_a_folder_is_for_one_run() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("backup"), root.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        write(&from.join(NAME), &text(&"ab".repeat(20), 1, 1));
        for id in ["", "cd"] {
            let error = copy(&from, &to, (1, Some(id))).unwrap_err().to_string();
            assert!(error.contains("is that of node abab"), "{error}");
        }
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
        copy(&from, &to, (1, None)).unwrap();
        // A node that has an id, and no place in a cluster yet.
        write(&from.join(NAME), &text("", 2, 2));
        copy(&from, &to, (1, Some("cd"))).unwrap();

        let _held = lock(&to).unwrap();
        let error = lock(&to).unwrap_err().to_string();
        assert!(error.contains("another `holdfast ctl backup`"), "{error}");
    }

    #[test]
    fn a_backup_is_where_the_node_says() {
        let told = |pairs: &[&str]| {
            let words = pairs.iter().map(|word| Value::Text((*word).into())).collect();
            folder(&Value::Array(words))
        };
        let place = told(&["dir", "/data", "backup-dir", ""]);
        assert_eq!(place.as_deref(), Some(Path::new("/data/backup")));
        let place = told(&["dir", "/data", "backup-dir", "/other/place"]);
        assert_eq!(place.as_deref(), Some(Path::new("/other/place")));
        assert_eq!(told(&["backup-dir", "x"]), None);
    }

    #[test]
    fn a_master_with_replicas_is_left_to_them() {
        assert!(is_left_to_replicas("# Replication\r\nrole:master\r\nconnected_slaves:1\r\n"));
        assert!(!is_left_to_replicas("role:master\r\nconnected_slaves:0\r\n"));
        assert!(!is_left_to_replicas("role:slave\r\nconnected_slaves:0\r\n"));
    }
}
