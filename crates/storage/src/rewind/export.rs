//! Discarded writes as a text file: one JSON object a line, bytes as characters U+0000 to U+00FF,
//! so that it can be read, searched, and applied again byte for byte.
//!
//! ```text
//! {"discarded":1,"fork":600,"at_ms":1790000000000,"cluster":true,"epoch":3,"epoch_id":"00000000c0ffee00"}
//! {"batch":601,"count":2}
//! {"log":"1"}
//! {"put":"metadata","key":"\u000b__namespace<\u0087a","value":"…"}
//! {"delete":"default","key":"…"}
//! {"delete_range":"default","begin":"…","end":"…"}
//! {"end":602,"batches":1}
//! ```
//!
//! Of a batch of a slot move, whose log data is `M` and the move's number, nothing else is told.
//!
//! A file without the last line is not complete; such a file never has the name [`path`] gives. The
//! epoch is the one that held the fork when the file was made: later the same node may have another
//! one there, and only the former says which logs go on from this fork. Files of earlier versions
//! have no such fields, nor have those of databases without epochs.

use std::fmt::Write as _;
use std::fs::{DirBuilder, File};
use std::io::{BufWriter, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use replication::history::{EpochId, History};

use crate::batch::{self, Record};
use crate::{Error, FeedRead, Store, slots};

const ACTION: &str = "export discarded writes";

/// What the first line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Newest sequence before the discarded ones.
    pub fork: u64,
    /// Unix ms of the decision.
    pub at_ms: u64,
    /// Keys carry their slot.
    pub cluster: bool,
    /// Number and id of the epoch that held the fork when the export was made; `None` if there was
    /// none, or where it was not written down.
    pub epoch: Option<(u64, EpochId)>,
}

/// Number and id of the epoch that holds a sequence.
pub fn epoch_at(history: &History, sequence: u64) -> Option<(u64, EpochId)> {
    history.at(sequence).map(|entry| (entry.epoch, entry.id))
}

/// Name of an export in the folder `discarded`.
pub fn path(discarded: &Path, at_ms: u64, fork: u64) -> PathBuf {
    discarded.join(format!("{at_ms}-{fork}.jsonl"))
}

/// Exports everything behind `fork` that the log of an open database still holds, for a database
/// that cannot be rewound. The path, and whether that is all up to the newest record.
///
/// # Errors
/// I/O errors; no file of the final name is left then.
pub fn from_feed(
    store: &Store,
    discarded: &Path,
    fork: u64,
    at_ms: u64,
) -> Result<(Option<PathBuf>, bool), Error> {
    let latest = store.publish()?;
    let epoch = epoch_at(&store.history(), fork);
    let head = Head { fork, at_ms, cluster: store.options().cluster, epoch };
    let mut writer = Writer::new(path(discarded, at_ms, fork), head);
    let (mut feed, mut next) = (store.feed(), fork + 1);
    while next <= latest {
        let FeedRead::Batches(batches) = feed.read(next, 1 << 20)? else { break };
        for found in &batches {
            writer.batch(&found.data)?;
            next = found.end();
        }
    }
    Ok((writer.finish()?, next > latest))
}

/// Writes one export. No file appears before the first batch.
pub(super) struct Writer {
    path: PathBuf,
    head: Head,
    file: Option<BufWriter<File>>,
    line: String,
    end: u64,
    batches: u64,
}

impl Writer {
    pub(super) fn new(path: PathBuf, head: Head) -> Self {
        Self { path, head, file: None, line: String::new(), end: 0, batches: 0 }
    }

    fn unfinished(&self) -> PathBuf {
        self.path.with_extension("unfinished")
    }

    pub(super) fn batch(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let (sequence, count) = batch::header(bytes)?;
        if self.file.is_none() {
            self.create().map_err(|error| Error::io(ACTION, &error))?;
        }
        self.line.clear();
        // Writing into a String cannot fail.
        let _ = writeln!(self.line, "{{\"batch\":{sequence},\"count\":{count}}}");
        // A copy of slots is the giver's data: it is not put back, where it might be older by then.
        let is_guest = slots::is_of_move(bytes);
        for record in batch::records(bytes) {
            let record = record?;
            if !is_guest || matches!(record, Record::LogData(_)) {
                record_line(&mut self.line, record);
            }
        }
        self.end = (sequence + u64::from(count)).saturating_sub(1);
        self.batches += 1;
        self.flush_line()
    }

    /// Completes the file; its path, if there was any batch.
    pub(super) fn finish(&mut self) -> Result<Option<PathBuf>, Error> {
        if self.file.is_none() {
            return Ok(None);
        }
        self.line.clear();
        let _ = writeln!(self.line, "{{\"end\":{},\"batches\":{}}}", self.end, self.batches);
        self.flush_line()?;
        self.complete().map_err(|error| Error::io(ACTION, &error))?;
        Ok(Some(self.path.clone()))
    }

    fn complete(&mut self) -> std::io::Result<()> {
        if let Some(file) = self.file.take() {
            file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        }
        std::fs::rename(self.unfinished(), &self.path)?;
        self.path.parent().map_or(Ok(()), super::sync)
    }

    fn create(&mut self) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent().filter(|folder| !folder.exists()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            folder.parent().map_or(Ok(()), super::sync)?;
        }
        let unfinished = self.unfinished();
        // One that is left of another process may be open to others.
        if let Err(error) = std::fs::remove_file(&unfinished)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        // It holds keys and values: its user's alone from the start, whatever the mask says.
        let file = File::options().write(true).create_new(true).mode(0o600).open(unfinished)?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let Head { fork, at_ms, cluster, epoch } = self.head;
        write!(file, "{{\"discarded\":1,\"fork\":{fork},\"at_ms\":{at_ms},\"cluster\":{cluster}")?;
        if let Some((epoch, id)) = epoch {
            write!(file, ",\"epoch\":{epoch},\"epoch_id\":\"{id}\"")?;
        }
        file.write_all(b"}\n")?;
        self.file = Some(file);
        Ok(())
    }

    fn flush_line(&mut self) -> Result<(), Error> {
        let file = self.file.as_mut();
        file.map_or(Ok(()), |file| file.write_all(self.line.as_bytes()))
            .map_err(|error| Error::io(ACTION, &error))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Given up: what is left of it says nothing.
            let _ = std::fs::remove_file(self.unfinished());
        }
    }
}

fn record_line(out: &mut String, record: Record<'_>) {
    match record {
        Record::LogData(data) => fields(out, &[("log", data)]),
        Record::Put { family, key, value } => {
            fields(out, &[("put", family.name().as_bytes()), ("key", key), ("value", value)]);
        }
        Record::Delete { family, key } => {
            fields(out, &[("delete", family.name().as_bytes()), ("key", key)]);
        }
        Record::DeleteRange { family, begin, end } => {
            let family = family.name().as_bytes();
            fields(out, &[("delete_range", family), ("begin", begin), ("end", end)]);
        }
    }
}

fn fields(out: &mut String, fields: &[(&str, &[u8])]) {
    for (index, (name, bytes)) in fields.iter().enumerate() {
        out.push_str(if index == 0 { "{\"" } else { ",\"" });
        out.push_str(name);
        out.push_str("\":\"");
        escape(out, bytes);
        out.push('"');
    }
    out.push_str("}\n");
}

fn escape(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(char::from(*byte)),
            other => {
                let _ = write!(out, "\\u{other:04x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::Family;

    #[test]
    fn every_byte_comes_back_from_json() {
        let all: Vec<u8> = (0..=255).collect();
        let mut line = String::new();
        record_line(&mut line, Record::Put { family: Family::Default, key: &all, value: b"" });
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["put"], "default");
        let back: Vec<u8> =
            json["key"].as_str().unwrap().chars().map(|c| u8::try_from(c).unwrap()).collect();
        assert_eq!(back, all);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("discarded");
        let head = Head { fork: 1, at_ms: 2, cluster: false, epoch: None };
        let mut batch = crate::batch::Writer::new(Vec::new());
        batch.delete(Family::Default, b"k");
        let bytes = batch.finish().clone();
        let mut writer = Writer::new(path(&folder, 2, 1), head);
        writer.batch(&bytes).unwrap();
        drop(writer);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        // One of another process, which others may read.
        std::fs::write(folder.join("2-1.unfinished"), "x").unwrap();
        let mut writer = Writer::new(path(&folder, 2, 1), head);
        assert_eq!(writer.finish().unwrap(), None);
        writer.batch(&bytes).unwrap();
        assert_eq!(writer.finish().unwrap(), Some(folder.join("2-1.jsonl")));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("2-1.jsonl"))), (0o700, 0o600));
        let text = std::fs::read_to_string(folder.join("2-1.jsonl")).unwrap();
        assert_eq!(
            text,
            "{\"discarded\":1,\"fork\":1,\"at_ms\":2,\"cluster\":false}\n{\"batch\":0,\"count\":1}\n\
             {\"delete\":\"default\",\"key\":\"k\"}\n{\"end\":0,\"batches\":1}\n"
        );
    }
}
