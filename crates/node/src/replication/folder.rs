//! The folder a full sync is downloaded into: `sync_checkpoint`, beside the data that stays in service meanwhile.
//!
//! Invariant: everything in it belongs to the checkpoint named in `sync_checkpoint.id`, and a file without the suffix `.tmp` is complete,
//! checked and on disk. A master that names no checkpoint finds the folder empty each time.

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

/// Removes what was downloaded, whole or not.
pub(super) fn discard_all(dir: &Path) -> io::Result<()> {
    remove_if_there(&dir.join(ID_NAME))?;
    remove_folder_if_there(&dir.join(NAME))?;
    sync_folder(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

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
