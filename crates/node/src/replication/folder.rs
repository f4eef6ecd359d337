//! The folder that a full sync is downloaded into: `sync_checkpoint`, beside the data that stays in
//! service meanwhile.
//!
//! Invariant: everything in it belongs to the checkpoint named in `sync_checkpoint.id`, and a file
//! without the suffix `.tmp` is complete, checked and on disk. If the master names no checkpoint,
//! the folder is emptied each time.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use replication::FileName;
use replication::files::{CheckpointId, RemoteFile};
use replication::replica::{Conn, Held, Part};

use crate::durable::{remove_folder_if_there, remove_if_there, sync_folder, write_durably};

/// Name of the folder in `dir`.
pub(crate) const NAME: &str = "sync_checkpoint";
/// Name of the folder with a download that nobody will go on with, until it is removed.
pub(super) const STALE: &str = "sync_checkpoint.stale";
/// Name of the checkpoint's folder in `dir`.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// Name of the file in `dir` that tells which checkpoint is in the folder.
const ID_NAME: &str = "sync_checkpoint.id";

/// The folder and the files being written.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    path: PathBuf,
    open: HashMap<Conn, Unfinished>,
}

#[derive(Debug)]
struct Unfinished {
    file: File,
    name: FileName,
}

impl Folder {
    /// The download folder of the node with that `dir`.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), path: dir.join(NAME), open: HashMap::new() }
    }

    /// Keeps what belongs to the checkpoint, removes everything else, and says what there is.
    pub(super) fn prepare(
        &mut self,
        checkpoint: Option<&CheckpointId>,
        files: &[RemoteFile],
    ) -> io::Result<Vec<Held>> {
        self.open.clear();
        let id_path = self.dir.join(ID_NAME);
        let is_same = checkpoint.is_some_and(|id| {
            fs::read(&id_path).is_ok_and(|found| found == id.as_str().as_bytes())
        });
        if !is_same || !self.path.is_dir() {
            remove_if_there(&id_path)?;
            remove_folder_if_there(&self.path)?;
            fs::create_dir(&self.path)?;
            if let Some(id) = checkpoint {
                write_durably(&id_path, id.as_str().as_bytes())?;
            }
            sync_folder(&self.dir)?;
            return Ok(Vec::new());
        }
        self.remove_strangers(files)?;
        let mut held = Vec::new();
        for file in files {
            if let Some(part) = self.part(file)? {
                held.push(Held { name: file.name.clone(), part });
            }
        }
        Ok(held)
    }

    /// What is here already, if the rest has room beside the data in service; sizes that the master
    /// does not say are counted as they come.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`].
    pub(super) fn has_room(&self, files: &[RemoteFile], held: Vec<Held>) -> io::Result<Vec<Held>> {
        let missing = missing(files, &held);
        let free = crate::info::process::disk(&self.dir).map_or(u64::MAX, |disk| disk.free);
        if fits(missing, free) {
            return Ok(held);
        }
        let text = format!(
            "{} MB are to come, beside the data in service, and there is room for {} MB",
            missing / 1_000_000,
            free / 1_000_000
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, text))
    }

    /// Removes what was downloaded: the disk is full.
    pub(super) fn give_room_back(&mut self) {
        self.open.clear();
        if let Err(error) = discard_all(&self.dir) {
            tracing::warn!(%error, dir = %self.path.display(), "cannot remove what a full sync has brought");
        }
    }

    /// Nobody will go on with what was downloaded: the folder that is to be removed, if there is
    /// any. It has another name by then, and is in nobody's way.
    pub(super) fn let_go(&mut self) -> io::Result<Option<PathBuf>> {
        self.open.clear();
        if !self.path.is_dir() {
            return Ok(None);
        }
        let stale = self.dir.join(STALE);
        remove_folder_if_there(&stale)?;
        remove_if_there(&self.dir.join(ID_NAME))?;
        fs::rename(&self.path, &stale)?;
        Ok(Some(stale))
    }

    fn remove_strangers(&self, files: &[RemoteFile]) -> io::Result<()> {
        let known: HashSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            if !known.contains(name.strip_suffix(".tmp").unwrap_or(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn part(&self, file: &RemoteFile) -> io::Result<Option<Part>> {
        let path = self.path.join(file.name.as_str());
        if let Ok(metadata) = fs::metadata(&path) {
            if Some(metadata.len()) == file.size {
                return Ok(Some(Part::Whole));
            }
            fs::remove_file(&path)?;
        }
        match File::open(self.unfinished_path(&file.name)) {
            Ok(mut unfinished) => {
                let (bytes, crc32c) = checksum(&mut unfinished)?;
                Ok(Some(Part::Beginning { bytes, crc32c }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn unfinished_path(&self, name: &FileName) -> PathBuf {
        self.path.join(format!("{name}.tmp"))
    }

    /// Opens a file for this connection, keeping its first `offset` bytes.
    pub(super) fn open(&mut self, conn: Conn, name: FileName, offset: u64) -> io::Result<()> {
        let path = self.unfinished_path(&name);
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        file.set_len(offset)?;
        file.seek(SeekFrom::Start(offset))?;
        self.open.insert(conn, Unfinished { file, name });
        Ok(())
    }

    /// Appends to the open file of this connection.
    pub(super) fn write(&mut self, conn: Conn, bytes: &[u8]) -> io::Result<()> {
        match self.open.get_mut(&conn) {
            Some(unfinished) => unfinished.file.write_all(bytes),
            None => Err(io::Error::other("no file is open for this connection")),
        }
    }

    /// Makes the open file of this connection durable and gives it its name.
    pub(super) fn finish(&mut self, conn: Conn) -> io::Result<()> {
        let Some(Unfinished { file, name }) = self.open.remove(&conn) else {
            return Err(io::Error::other("no file is open for this connection"));
        };
        file.sync_all()?;
        fs::rename(self.unfinished_path(&name), self.path.join(name.as_str()))
    }

    /// Removes the open file of this connection.
    pub(super) fn discard(&mut self, conn: Conn) -> io::Result<()> {
        match self.open.remove(&conn) {
            Some(Unfinished { name, .. }) => fs::remove_file(self.unfinished_path(&name)),
            None => Ok(()),
        }
    }

    /// The connection is over; what was written stays.
    pub(super) fn close(&mut self, conn: Conn) {
        self.open.remove(&conn);
    }

    /// Everything is here: makes the names durable too.
    pub(super) fn seal(&self) -> io::Result<()> {
        sync_folder(&self.path)?;
        // Once in service, it is no checkpoint any more that could be resumed.
        remove_if_there(&self.dir.join(ID_NAME))
    }
}

fn checksum(file: &mut File) -> io::Result<(u64, u32)> {
    let mut buffer = vec![0; 1 << 20];
    let (mut bytes, mut crc32c) = (0, 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, crc32c));
        }
        crc32c = crc32c::crc32c_append(crc32c, &buffer[..read]);
        bytes += read as u64;
    }
}

/// So much of what comes stays free besides, and no more than that: the log is written meanwhile.
const SPARE_PART: u64 = 10;
const SPARE_BYTES_MAX: u64 = 2 << 30;
/// What a node wants to find at its next start.
const START_BYTES: u64 = 8 << 20;

pub(super) fn fits(missing: u64, free: u64) -> bool {
    let spare = (missing / SPARE_PART).min(SPARE_BYTES_MAX).saturating_add(START_BYTES);
    missing.saturating_add(spare) <= free
}

/// Bytes that are still to come. Sizes are what the master says: they may be anything.
fn missing(files: &[RemoteFile], held: &[Held]) -> u64 {
    let all = files.iter().filter_map(|file| file.size).fold(0_u64, u64::saturating_add);
    let sizes: HashMap<_, _> = files.iter().map(|file| (&file.name, file.size)).collect();
    let here = |held: &Held| match held.part {
        Part::Whole => sizes.get(&held.name).copied().flatten().unwrap_or(0),
        Part::Beginning { bytes, .. } => bytes,
    };
    all.saturating_sub(held.iter().map(here).fold(0_u64, u64::saturating_add))
}

/// Removes what was downloaded, whole or not.
pub(crate) fn discard_all(dir: &Path) -> io::Result<()> {
    remove_if_there(&dir.join(ID_NAME))?;
    remove_folder_if_there(&dir.join(NAME))?;
    sync_folder(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_fits_beside_what_is_there_or_is_not_begun() {
        let files = [file("CURRENT", 10), file("000001.sst", 1_000), file("000002.sst", 500)];
        let held = [
            Held { name: files[0].name.clone(), part: Part::Whole },
            Held { name: files[1].name.clone(), part: Part::Beginning { bytes: 300, crc32c: 0 } },
        ];
        assert_eq!((missing(&files, &[]), missing(&files, &held)), (1_510, 1_200));
        let endless = [file("CURRENT", u64::MAX), file("000001.sst", u64::MAX)];
        assert!(!fits(missing(&endless, &[]), u64::MAX - 1));
        let (start, mb) = (START_BYTES, 1_000_000);
        assert!(fits(0, start) && !fits(0, start - 1));
        assert!(fits(100 * mb, 110 * mb + start) && !fits(100 * mb, 110 * mb + start - 1));
        let large = 1_u64 << 40;
        assert!(fits(large, large + (2 << 30) + start), "no more than 2 GiB");
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(dir.path());
        let id = CheckpointId::from_random(1);
        folder.prepare(Some(&id), &endless).unwrap();
        let refused = folder.has_room(&endless, Vec::new()).unwrap_err();
        assert!(crate::disk::has_no_room(&refused), "{refused}");
        folder.give_room_back();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    fn file(name: &str, size: u64) -> RemoteFile {
        RemoteFile { name: FileName::parse(name.as_bytes()).unwrap(), size: Some(size) }
    }

    #[test]
    fn a_broken_transfer_resumes_only_for_the_same_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let files = [file("CURRENT", 3), file("000001.sst", 6), file("000002.sst", 9)];
        let (one, two) = (CheckpointId::from_random(1), CheckpointId::from_random(2));
        let mut folder = Folder::new(dir.path());
        assert_eq!(folder.prepare(Some(&one), &files).unwrap(), []);
        folder.open(Conn(1), files[0].name.clone(), 0).unwrap();
        folder.write(Conn(1), b"abc").unwrap();
        folder.finish(Conn(1)).unwrap();
        folder.open(Conn(1), files[1].name.clone(), 0).unwrap();
        folder.write(Conn(1), b"abcd").unwrap();
        folder.close(Conn(1));
        fs::write(dir.path().join(NAME).join("stranger"), b"x").unwrap();

        let mut folder = Folder::new(dir.path());
        let crc32c = crc32c::crc32c(b"abcd");
        let expected = [
            Held { name: files[0].name.clone(), part: Part::Whole },
            Held { name: files[1].name.clone(), part: Part::Beginning { bytes: 4, crc32c } },
        ];
        assert_eq!(folder.prepare(Some(&one), &files).unwrap(), expected);
        assert!(!dir.path().join(NAME).join("stranger").exists());
        folder.open(Conn(2), files[1].name.clone(), 2).unwrap();
        folder.write(Conn(2), b"CDEF").unwrap();
        folder.finish(Conn(2)).unwrap();
        assert_eq!(fs::read(dir.path().join(NAME).join("000001.sst")).unwrap(), b"abCDEF");

        assert_eq!(folder.prepare(Some(&two), &files).unwrap(), []);
        assert_eq!(fs::read_dir(dir.path().join(NAME)).unwrap().count(), 0);
        assert_eq!(folder.prepare(None, &files).unwrap(), []);
        assert_eq!(folder.prepare(None, &files).unwrap(), []);
    }

    #[test]
    fn a_damaged_file_does_not_stay() {
        let dir = tempfile::tempdir().unwrap();
        let files = [file("CURRENT", 3)];
        let id = CheckpointId::from_random(1);
        let mut folder = Folder::new(dir.path());
        folder.prepare(Some(&id), &files).unwrap();
        folder.open(Conn(1), files[0].name.clone(), 0).unwrap();
        folder.write(Conn(1), b"abc").unwrap();
        folder.discard(Conn(1)).unwrap();
        assert_eq!(folder.prepare(Some(&id), &files).unwrap(), []);
        assert!(folder.write(Conn(1), b"x").is_err());
    }
}
