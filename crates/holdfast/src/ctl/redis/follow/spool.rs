//! Bytes that came and are not read yet, on disk: a Redis ends the stream of a replica that reads
//! too slowly, so what it sends is taken at once.
//!
//! They lie in parts without a name: nothing is left when the process ends, however it ends. A part
//! that was read is given back to the disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Bytes of a part.
const PART: u64 = 64 << 20;

#[derive(Default)]
struct State {
    /// Those that are not read to their end; the last one is written to.
    parts: VecDeque<Arc<File>>,
    written: u64,
    /// Nothing more comes.
    has_ended: bool,
}

#[derive(Default)]
struct Spool {
    state: Mutex<State>,
    more: Condvar,
}

/// The end that is written to. When it goes, the reader finds the end.
pub(super) struct Writer {
    spool: Arc<Spool>,
    folder: PathBuf,
    part: Option<Arc<File>>,
    at: u64,
}

/// The end that is read from: it waits for what is not there yet.
pub(super) struct Reader {
    spool: Arc<Spool>,
    at: u64,
}

/// Both ends of a spool in a folder.
pub(super) fn open(folder: &Path) -> (Writer, Reader) {
    let spool = Arc::<Spool>::default();
    let writer = Writer { spool: Arc::clone(&spool), folder: folder.to_owned(), part: None, at: 0 };
    (writer, Reader { spool, at: 0 })
}

impl Writer {
    /// Appends.
    ///
    /// # Errors
    /// The disk is full, or fails.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let place = self.at % PART;
            let part = match self.part.take().filter(|_| place > 0) {
                Some(part) => part,
                None => {
                    let part = Arc::new(tempfile::tempfile_in(&self.folder)?);
                    self.spool.state.lock().parts.push_back(Arc::clone(&part));
                    part
                }
            };
            let room = usize::try_from(PART - place).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            part.write_all_at(now, place)?;
            self.part = Some(part);
            self.at += now.len() as u64;
            self.spool.state.lock().written = self.at;
            self.spool.more.notify_one();
            bytes = later;
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.spool.state.lock().has_ended = true;
        self.spool.more.notify_one();
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (part, ready) = {
            let mut state = self.spool.state.lock();
            while state.written == self.at && !state.has_ended {
                self.spool.more.wait(&mut state);
            }
            let Some(part) = state.parts.front().cloned() else { return Ok(0) };
            (part, state.written - self.at)
        };
        let place = self.at % PART;
        let most = ready.min(PART - place).min(buffer.len() as u64);
        let most = usize::try_from(most).unwrap_or(buffer.len());
        let count = part.read_at(buffer.get_mut(..most).unwrap_or_default(), place)?;
        self.at += count as u64;
        if count > 0 && self.at.is_multiple_of(PART) {
            self.spool.state.lock().parts.pop_front();
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, mut reader) = open(folder.path());
        let bytes: Vec<u8> = (0..PART + PART / 2).map(|at| (at % 251) as u8).collect();
        let expected = bytes.clone();
        let writing = std::thread::spawn(move || {
            for part in bytes.chunks(1_000_003) {
                writer.write(part).unwrap();
            }
        });
        let mut found = Vec::new();
        reader.read_to_end(&mut found).unwrap();
        writing.join().unwrap();
        assert!(found == expected);
        assert_eq!(reader.spool.state.lock().parts.len(), 1, "a part that was read is kept");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it has a name");
    }

    #[test]
    fn a_part_that_ends_with_the_stream_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, mut reader) = open(folder.path());
        writer.write(&vec![1; PART as usize]).unwrap();
        drop(writer);
        let mut found = Vec::new();
        assert_eq!(reader.read_to_end(&mut found).unwrap(), PART as usize);
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    }
}
