//! `nodes.conf`: the topology and the identity of a node, kept over restarts.
//!
//! ```text
//! version 5
//! id <40 bytes>
//! node <a line of the topology>
//! ```
//!
//! [`save`] returns only when the new content survives a power cut; when it fails before the
//! rename, the old file is still there in full. Files of Kvrocks are read, and ours by Kvrocks:
//! what we add stands in a comment. So do the ports of TLS, which are a word of the line everywhere
//! else: an earlier version starts with the file, and shows one port for both kinds. Migration
//! marks are not kept.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    description::Form,
    model::{ClusterId, NodeId, Topology},
    parse_error::ParseError,
    tls_ports::TlsPorts,
};

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "nodes.conf";
const TEMPORARY_NAME: &str = "nodes.conf.tmp";
/// Comment of ours that names the version under which this node was last a master.
const MASTERED_AT: &[u8] = b"# holdfast-mastered-at ";
/// Comment of ours that names the cluster of this node.
const CLUSTER: &[u8] = b"# holdfast-cluster ";
/// Comment of ours that names ports of TLS, `<local>,<announced>`, and the node whose they are.
const TLS_PORTS: &[u8] = b"# holdfast-tls ";

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodesConf {
    /// This node's id.
    pub id: Option<NodeId>,
    /// `None` is written as version -1.
    pub topology: Option<Topology>,
    /// This node is no master now, but was one under that version, and no full sync replaced its
    /// data since.
    pub mastered_at: Option<i64>,
    /// The cluster this node belongs to, once its controller said so.
    pub cluster: Option<ClusterId>,
}

/// Why a file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfError {
    /// The line starts with a word that is none of ours.
    #[error("unknown key: {0}")]
    UnknownKey(String),
    /// No version, one that is no number, or none that goes with the node lines.
    #[error("Invalid cluster version")]
    Version,
    /// The id has not 40 bytes.
    #[error("Invalid cluster node id")]
    NodeId,
    /// The cluster is not named by 16 hexadecimal digits.
    #[error("Invalid cluster name: 16 hexadecimal digits expected")]
    ClusterId,
    /// A quote that does not end, or an escape that is none.
    #[error("line {0}: bad quotes")]
    Quotes(usize),
    /// The node lines.
    #[error(transparent)]
    Description(#[from] ParseError),
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file system said no.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Its words.
        source: io::Error,
    },
    /// The content is bad.
    #[error("failed to load cluster nodes info from {path}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is bad.
        source: ConfError,
    },
}

/// The step behind which what was written is in place.
const SYNC_FOLDER: &str = "sync folder";

/// Why a file could not be written durably.
#[derive(Debug, thiserror::Error)]
#[error("{step} {path}")]
pub struct SaveError {
    /// What was tried: `create`, `write`, `sync`, `rename`, `sync folder`, `remove`.
    pub step: &'static str,
    /// On which file or folder.
    pub path: PathBuf,
    /// What the file system said.
    pub source: io::Error,
}

impl SaveError {
    /// What was to be written is in place, and a power cut may bring back what was there before.
    pub fn is_in_place(&self) -> bool {
        self.step == SYNC_FOLDER
    }

    /// The error line of the reply with its code, without the leading `-`. The text of a failed
    /// rename is Kvrocks'.
    pub fn reply(&self) -> String {
        match self.step {
            "rename" => format!("ERR rename file encounter error: {}", self.source),
            step => format!("ERR {step} {}: {}", self.path.display(), self.source),
        }
    }
}

impl NodesConf {
    /// Parses a file of ours or of Kvrocks.
    pub fn parse(text: &[u8]) -> Result<Self, ConfError> {
        let mut version = None;
        let mut id = None;
        let mut mastered_at = None;
        let mut cluster = None;
        let mut tls_ports = Vec::new();
        let mut lines = Vec::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if let Some(number) = line.strip_prefix(MASTERED_AT) {
                mastered_at = Some(integer(number).ok_or(ConfError::Version)?);
            }
            if let Some(id) = line.strip_prefix(CLUSTER) {
                let id = std::str::from_utf8(id.trim_ascii()).ok();
                cluster = Some(id.and_then(|id| id.parse().ok()).ok_or(ConfError::ClusterId)?);
            }
            if let Some(words) = line.strip_prefix(TLS_PORTS) {
                tls_ports.push(node_and_ports(words).ok_or(ParseError::TlsPorts)?);
            }
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let key_end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
            let (key, rest) = line.split_at(key_end);
            let value = unquote(rest.trim_ascii()).ok_or(ConfError::Quotes(index + 1))?;
            match key {
                b"version" => version = Some(integer(&value).ok_or(ConfError::Version)?),
                // Kvrocks writes an empty id when it has none.
                b"id" if value.is_empty() => id = None,
                b"id" => id = Some(NodeId::new(&value).ok_or(ConfError::NodeId)?),
                b"node" => {
                    lines.extend_from_slice(&value);
                    lines.push(b'\n');
                }
                key => {
                    let key = String::from_utf8_lossy(key).into_owned();
                    return Err(ConfError::UnknownKey(key));
                }
            }
        }
        let topology = match version {
            Some(-1) if lines.is_empty() => None,
            Some(version @ 0..) => {
                Some(Topology::parse(&lines, version)?.with_tls_ports(&tls_ports)?)
            }
            _ => return Err(ConfError::Version),
        };
        Ok(Self { id, topology, mastered_at, cluster })
    }

    /// The file's content. Values are quoted only where an unquoted one would read differently.
    pub fn to_bytes(&self) -> Vec<u8> {
        let version = self.topology.as_ref().map_or(-1, |topology| topology.version);
        let mut text = format!("version {version}\nid ").into_bytes();
        if let Some(id) = &self.id {
            write_value(&mut text, id.as_bytes());
        }
        text.push(b'\n');
        if let Some(mastered_at) = self.mastered_at {
            text.extend_from_slice(MASTERED_AT);
            text.extend_from_slice(format!("{mastered_at}\n").as_bytes());
        }
        if let Some(cluster) = &self.cluster {
            text.extend_from_slice(CLUSTER);
            text.extend_from_slice(format!("{cluster}\n").as_bytes());
        }
        if let Some(topology) = &self.topology {
            for node in topology.nodes.iter().filter(|node| !node.tls.is_none()) {
                text.extend_from_slice(TLS_PORTS);
                text.extend_from_slice(format!("{} ", node.tls).as_bytes());
                text.extend_from_slice(node.id.as_bytes());
                text.push(b'\n');
            }
            for line in topology.to_bytes_in(Form::Plain).split(|byte| *byte == b'\n') {
                text.extend_from_slice(b"node ");
                write_value(&mut text, line);
                text.push(b'\n');
            }
        }
        text
    }
}

fn node_and_ports(words: &[u8]) -> Option<(NodeId, TlsPorts)> {
    let blank = words.iter().position(|byte| *byte == b' ')?;
    Some((NodeId::new(&words[blank + 1..])?, TlsPorts::parse(&words[..blank])?))
}

fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// Takes quotes and escapes off a value; a `#` outside of quotes starts a comment. `None` for
/// quotes that do not match.
fn unquote(value: &[u8]) -> Option<Vec<u8>> {
    let Some((quote @ (b'"' | b'\''), inside)) = value.split_first() else {
        let end = value.iter().position(|byte| *byte == b'#').unwrap_or(value.len());
        return Some(value[..end].trim_ascii_end().to_vec());
    };
    let mut plain = Vec::new();
    let mut bytes = inside.iter();
    loop {
        match bytes.next()? {
            b'\\' => plain.push(unescape(&mut bytes)?),
            byte if byte == quote => break,
            byte => plain.push(*byte),
        }
    }
    let rest = bytes.as_slice().trim_ascii_start();
    (rest.is_empty() || rest.starts_with(b"#")).then_some(plain)
}

fn unescape(bytes: &mut std::slice::Iter<'_, u8>) -> Option<u8> {
    Some(match bytes.next()? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => {
            let digits = [*bytes.next()?, *bytes.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        }
        byte => *byte,
    })
}

fn write_value(text: &mut Vec<u8>, value: &[u8]) {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !b"\"'\\#".contains(byte);
    if value.iter().all(is_plain) && value.trim_ascii() == value {
        text.extend_from_slice(value);
        return;
    }
    text.push(b'"');
    for byte in value {
        match byte {
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => text.push(*byte),
            byte => text.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    text.push(b'"');
}

/// The calls of a file system that durability is made of.
pub trait FileSystem {
    /// An open file.
    type File;
    /// Creates or empties a file.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Writes all of it.
    fn write(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;
    /// Makes the file's content durable.
    fn sync_file(&self, file: &Self::File) -> io::Result<()>;
    /// Replaces `to` by `from` at once.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// The content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl FileSystem for Disk {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        File::create(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// Reads `folder/nodes.conf`; `None` if there is none. A half-written temporary file beside it does
/// not count.
pub fn load(disk: &impl FileSystem, folder: &Path) -> Result<Option<NodesConf>, LoadError> {
    let path = folder.join(FILE_NAME);
    let text = match disk.read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LoadError::Read { path, source }),
    };
    match NodesConf::parse(&text) {
        Ok(content) => Ok(Some(content)),
        Err(source) => Err(LoadError::Content { path, source }),
    }
}

/// Replaces `folder/nodes.conf` durably: temporary file, fsync, rename, fsync of the folder.
///
/// # Errors
/// Before and at the rename: the old file is untouched. After it: the new content is in place, but
/// a power cut may bring the old one back; the caller must not report success.
pub fn save(disk: &impl FileSystem, folder: &Path, content: &[u8]) -> Result<(), SaveError> {
    let temporary = folder.join(TEMPORARY_NAME);
    let path = folder.join(FILE_NAME);
    let replaced = write_temporary(disk, &temporary, content).and_then(|()| {
        let fault = |source| SaveError { step: "rename", path: path.clone(), source };
        disk.rename(&temporary, &path).map_err(fault)
    });
    if replaced.is_err() {
        // Only tidiness: the next save overwrites it, and no reader looks at it.
        let _ = disk.remove(&temporary);
    }
    replaced.and_then(|()| sync_folder(disk, folder))
}

/// Removes `folder/nodes.conf` durably; not an error if there is none. One that is gone already may
/// have been removed without its folder being synced.
pub fn remove(disk: &impl FileSystem, folder: &Path) -> Result<(), SaveError> {
    let path = folder.join(FILE_NAME);
    match disk.remove(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SaveError { step: "remove", path, source })
        }
        _ => sync_folder(disk, folder),
    }
}

fn write_temporary(disk: &impl FileSystem, path: &Path, content: &[u8]) -> Result<(), SaveError> {
    let fault = |step| move |source| SaveError { step, path: path.to_owned(), source };
    let mut file = disk.create(path).map_err(fault("create"))?;
    disk.write(&mut file, content).map_err(fault("write"))?;
    disk.sync_file(&file).map_err(fault("sync"))
}

fn sync_folder(disk: &impl FileSystem, folder: &Path) -> Result<(), SaveError> {
    let fault = |source| SaveError { step: SYNC_FOLDER, path: folder.to_owned(), source };
    disk.sync_folder(folder).map_err(fault)
}

#[cfg(test)]
mod tests;
