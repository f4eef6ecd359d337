//! Which cluster mode a data directory belongs to. Keys of a cluster carry their slot, others do
//! not, and nothing in Kvrocks' format says which; opened in the wrong mode every key would be
//! misread.
//!
//! We record it in the file `holdfast.format` inside the database folder. Directories without the
//! file (those of Kvrocks, and copies made by a full sync, which carry only RocksDB's files) are
//! judged by their keys. A directory without any key takes the configured mode.

use std::io::Write as _;
use std::path::Path;

use rocksdb::{DB, IteratorMode};

use crate::key::{key_slot, split_namespace};
use crate::{Error, Family};

const FILE: &str = "holdfast.format";
/// The format this version writes, and the newest that it reads.
const NUMBER: u32 = 1;
/// Keys looked at; a directory of the other mode passes with a probability of 2^-14 per key.
const SAMPLE: usize = 256;

/// Refuses a directory of a later format, before anything in it is touched. One without a record is
/// of this format, or of Kvrocks.
///
/// # Errors
/// [`Error::NewerFormat`], I/O errors.
pub fn check_number(dir: &Path) -> Result<(), Error> {
    let text = match std::fs::read(dir.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read holdfast.format", &error)),
    };
    let text = String::from_utf8_lossy(&text);
    // A file without the line is damaged, and is judged by the keys as before.
    let Some(found) = text.lines().find_map(|line| line.strip_prefix("format ")) else {
        return Ok(());
    };
    // What is no number is one that later versions write.
    if found.trim().parse().is_ok_and(|number: u32| number <= NUMBER) {
        return Ok(());
    }
    Err(Error::NewerFormat { dir: dir.to_owned(), found: found.trim().to_owned(), known: NUMBER })
}

/// Was the directory opened by Holdfast before? Not a copy made by a full sync, nor one of Kvrocks.
pub(crate) fn is_recorded(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

/// Refuses a directory of the other mode, and records the mode.
pub(crate) fn check(db: &DB, dir: &Path, cluster: bool) -> Result<(), Error> {
    let recorded = read(dir)?;
    if recorded == Some(cluster) {
        return Ok(());
    }
    let found = match (judge(db)?, recorded) {
        (None, _) => cluster,
        (Some(_), Some(recorded)) => recorded,
        (Some(judged), None) => judged,
    };
    if found != cluster {
        return Err(Error::WrongMode { dir: dir.to_owned(), found });
    }
    write(dir, cluster)
}

/// `None` if there is no record or none this version understands.
fn read(dir: &Path) -> Result<Option<bool>, Error> {
    match std::fs::read_to_string(dir.join(FILE)) {
        Ok(text) => Ok(text.lines().find_map(|line| match line {
            "cluster yes" => Some(true),
            "cluster no" => Some(false),
            _ => None,
        })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(Error::io("read holdfast.format", &error)),
    }
}

fn write(dir: &Path, cluster: bool) -> Result<(), Error> {
    let text = format!("format {NUMBER}\ncluster {}\n", if cluster { "yes" } else { "no" });
    let new = dir.join(format!("{FILE}.new"));
    let replace = || {
        let mut file = std::fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, dir.join(FILE))?;
        std::fs::File::open(dir)?.sync_all()
    };
    replace().map_err(|error| Error::io("write holdfast.format", &error))
}

/// Whether every sampled key carries the slot it hashes to; `None` without keys.
fn judge(db: &DB) -> Result<Option<bool>, Error> {
    const ACTION: &str = "sample keys";
    let Some(metadata) = db.cf_handle(Family::Metadata.name()) else { return Ok(None) };
    let mut verdict = None;
    for entry in db.iterator_cf(metadata, IteratorMode::Start).take(SAMPLE) {
        let (key, _) = entry.map_err(|error| Error::engine(ACTION, error))?;
        let Some((_, rest)) = split_namespace(&key) else { continue };
        let carries_slot = rest
            .split_first_chunk::<2>()
            .is_some_and(|(slot, user_key)| u16::from_be_bytes(*slot) == key_slot(user_key));
        if !carries_slot {
            return Ok(Some(false));
        }
        verdict = Some(true);
    }
    Ok(verdict)
}
