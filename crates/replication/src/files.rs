//! Wire text of `_fetch_meta` and `_fetch_file`: Kvrocks' form and ours.
//!
//! | | Kvrocks | with the extension |
//! |---|---|---|
//! | `_fetch_meta` | `<f1>,<f2>…\r\n` | `holdfast 1 <checkpoint id> <sequence> <count>\r\n`, then per file `<name> <size>\r\n` |
//! | `_fetch_file` | `<f1>,<f2>…` | `<checkpoint id> <f1>:<offset>,<f2>:<offset>…` |
//! | per file | `<size>\r\n<bytes>` | `<size> <offset>\r\n<bytes from offset><CRC32C of the whole file, 8 hex digits>\r\n` |
//!
//! The checksum follows the bytes, so that a master reads each file once, while it sends it. It
//! covers the whole file also when a transfer resumes in the middle: what an earlier attempt left
//! on the replica's disk is checked too.

use crate::history::EpochId;
use crate::name::{BadName, FileName};
use crate::number::decimal;
use crate::wire;
use std::collections::HashSet;

/// Most files of one checkpoint that a replica accepts.
pub const FILES_MAX: usize = 500_000;
/// Longest file list of one checkpoint, in bytes.
pub const LIST_BYTES_MAX: usize = 64 << 20;
/// Longest head or trailer of one file, in bytes.
pub const FILE_LINE_BYTES_MAX: usize = 64;

/// Names one checkpoint of one master: letters and digits, new for each checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CheckpointId(String);

impl CheckpointId {
    /// Takes 1 to 64 letters and digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let plain = (1..=64).contains(&text.len()) && text.iter().all(u8::is_ascii_alphanumeric);
        plain.then(|| Self(String::from_utf8_lossy(text).into_owned()))
    }

    /// The id of a checkpoint made now from 64 random bits.
    pub fn from_random(bits: u64) -> Self {
        Self(format!("{bits:016x}"))
    }

    /// The id of a checkpoint made in an epoch, so that none is resumed under another history.
    pub fn in_epoch(epoch: Option<EpochId>, bits: u64) -> Self {
        match epoch {
            Some(epoch) => Self(format!("{epoch}{bits:016x}")),
            None => Self::from_random(bits),
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its name.
    pub name: FileName,
    /// Its size in bytes; Kvrocks does not tell before it sends the file.
    pub size: Option<u64>,
}

/// Why a file list or a file's head cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFiles {
    /// A name that is not a plain file name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The same name twice.
    #[error("file {0} is listed twice")]
    Twice(FileName),
    /// More than [`FILES_MAX`] files.
    #[error("more than {FILES_MAX} files")]
    TooMany,
    /// Without this file there is no database.
    #[error("the list has no CURRENT")]
    NoCurrent,
    /// A line that is not of the form expected.
    #[error("unexpected line `{0}`")]
    Line(String),
}

fn bad_line(line: &[u8]) -> BadFiles {
    BadFiles::Line(String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned())
}

/// Collects the answer to `_fetch_meta` line by line.
#[derive(Debug, Default)]
pub struct ListReader {
    names: HashSet<FileName>,
    files: Vec<RemoteFile>,
    head: Option<Head>,
}

#[derive(Debug)]
struct Head {
    id: CheckpointId,
    sequence: u64,
    left: usize,
}

/// What a master has to offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileList {
    /// Which checkpoint, if the master says so; only the same one may be resumed.
    pub checkpoint: Option<CheckpointId>,
    /// Least sequence the database has once opened; 0 if the master does not say.
    pub sequence: u64,
    /// All files.
    pub files: Vec<RemoteFile>,
}

impl ListReader {
    /// Reads Kvrocks' form, a single line.
    pub fn plain(line: &[u8]) -> Result<FileList, BadFiles> {
        let mut reader = Self::default();
        for name in line.split(|b| *b == b',') {
            reader.add(FileName::parse(name)?, None)?;
        }
        reader.finish()
    }

    /// Takes one line of our form; the list after the last one.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<FileList>, BadFiles> {
        let Some(head) = &mut self.head else {
            self.head = Some(head(line).ok_or_else(|| bad_line(line))?);
            return if self.head.as_ref().is_some_and(|h| h.left > FILES_MAX) {
                Err(BadFiles::TooMany)
            } else {
                Ok(None)
            };
        };
        head.left = head.left.saturating_sub(1);
        let done = head.left == 0;
        let space = line.iter().position(|b| *b == b' ').ok_or_else(|| bad_line(line))?;
        let size = decimal(&line[space + 1..]).ok_or_else(|| bad_line(line))?;
        self.add(FileName::parse(&line[..space])?, Some(size))?;
        if done { std::mem::take(self).finish().map(Some) } else { Ok(None) }
    }

    fn add(&mut self, name: FileName, size: Option<u64>) -> Result<(), BadFiles> {
        if self.files.len() >= FILES_MAX {
            return Err(BadFiles::TooMany);
        }
        if !self.names.insert(name.clone()) {
            return Err(BadFiles::Twice(name));
        }
        self.files.push(RemoteFile { name, size });
        Ok(())
    }

    fn finish(self) -> Result<FileList, BadFiles> {
        if !self.files.iter().any(|f| f.name.as_str() == "CURRENT") {
            return Err(BadFiles::NoCurrent);
        }
        let sequence = self.head.as_ref().map_or(0, |h| h.sequence);
        Ok(FileList { checkpoint: self.head.map(|h| h.id), sequence, files: self.files })
    }
}

fn head(line: &[u8]) -> Option<Head> {
    let mut words = line.split(|b| *b == b' ');
    if words.next()? != b"holdfast" || words.next()? != b"1" {
        return None;
    }
    let id = CheckpointId::parse(words.next()?)?;
    let sequence = decimal(words.next()?)?;
    let left = usize::try_from(decimal(words.next()?)?).ok()?;
    (left > 0 && words.next().is_none()).then_some(Head { id, sequence, left })
}

/// Kvrocks' answer to `_fetch_meta`.
pub fn plain_list(files: &[FileName]) -> Vec<u8> {
    let mut out = files.iter().map(FileName::as_str).collect::<Vec<_>>().join(",").into_bytes();
    out.extend_from_slice(b"\r\n");
    out
}

/// Kvrocks' answer when it has no checkpoint to give.
pub const NO_CHECKPOINT: &[u8] = b"-can't create db checkpoint\r\n";

/// Our answer to `_fetch_meta`.
pub fn list(id: &CheckpointId, sequence: u64, files: &[(FileName, u64)]) -> Vec<u8> {
    let mut out = format!("holdfast 1 {} {sequence} {}\r\n", id.as_str(), files.len());
    for (name, size) in files {
        out.push_str(&format!("{name} {size}\r\n"));
    }
    out.into_bytes()
}

/// A file to fetch, from an offset on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: FileName,
    /// First byte wanted; 0 in Kvrocks' form.
    pub offset: u64,
}

/// A `_fetch_file` request; our form if `checkpoint` is given.
pub fn fetch(checkpoint: Option<&CheckpointId>, files: &[Wanted]) -> Vec<u8> {
    let Some(id) = checkpoint else {
        let names = files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(",");
        return wire::request(&[b"_fetch_file", names.as_bytes()]);
    };
    let names = files.iter().map(|f| format!("{}:{}", f.name, f.offset)).collect::<Vec<_>>();
    wire::request(&[b"_fetch_file", id.as_str().as_bytes(), names.join(",").as_bytes()])
}

/// Reads the file list of a Kvrocks `_fetch_file`.
pub fn parse_plain_fetch(names: &[u8]) -> Result<Vec<Wanted>, BadFiles> {
    names
        .split(|b| *b == b',')
        .take(FILES_MAX)
        .map(|name| Ok(Wanted { name: FileName::parse(name)?, offset: 0 }))
        .collect()
}

/// Reads the file list of our `_fetch_file`.
pub fn parse_fetch(names: &[u8]) -> Result<Vec<Wanted>, BadFiles> {
    names
        .split(|b| *b == b',')
        .take(FILES_MAX)
        .map(|word| {
            let colon = word.iter().position(|b| *b == b':').ok_or_else(|| bad_line(word))?;
            let offset = decimal(&word[colon + 1..]).ok_or_else(|| bad_line(word))?;
            Ok(Wanted { name: FileName::parse(&word[..colon])?, offset })
        })
        .collect()
}

/// Size of a file and where its bytes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHead {
    /// Bytes of the whole file.
    pub size: u64,
    /// First byte sent.
    pub offset: u64,
}

impl FileHead {
    /// As Kvrocks sends it.
    pub fn plain(size: u64) -> Vec<u8> {
        format!("{size}\r\n").into_bytes()
    }

    /// As we send it.
    pub fn text(self) -> Vec<u8> {
        format!("{} {}\r\n", self.size, self.offset).into_bytes()
    }

    /// Reads Kvrocks' form.
    pub fn parse_plain(line: &[u8]) -> Result<Self, BadFiles> {
        let size = decimal(line).ok_or_else(|| bad_line(line))?;
        Ok(Self { size, offset: 0 })
    }

    /// Reads our form.
    pub fn parse(line: &[u8]) -> Result<Self, BadFiles> {
        let read = || {
            let space = line.iter().position(|b| *b == b' ')?;
            let (size, offset) = (decimal(&line[..space])?, decimal(&line[space + 1..])?);
            (offset <= size).then_some(Self { size, offset })
        };
        read().ok_or_else(|| bad_line(line))
    }
}

/// Checksum line behind the bytes of a file.
pub fn trailer(crc32c: u32) -> Vec<u8> {
    format!("{crc32c:08x}\r\n").into_bytes()
}

/// Reads a checksum line.
pub fn parse_trailer(line: &[u8]) -> Result<u32, BadFiles> {
    let text = std::str::from_utf8(line).ok().filter(|t| t.len() == 8);
    text.filter(|t| t.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|t| u32::from_str_radix(t, 16).ok())
        .ok_or_else(|| bad_line(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> FileName {
        FileName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn our_list_round_trips() {
        let id = CheckpointId::from_random(7);
        let files = [(name("CURRENT"), 16), (name("000012.sst"), 0)];
        let text = list(&id, 99, &files);
        assert_eq!(text, b"holdfast 1 0000000000000007 99 2\r\nCURRENT 16\r\n000012.sst 0\r\n");
        let mut reader = ListReader::default();
        let mut input = &text[..];
        let mut lines = wire::LineReader::new(LIST_BYTES_MAX);
        let mut found = None;
        while let Some(line) = lines.read(&mut input).unwrap() {
            found = reader.line(&line).unwrap();
            if found.is_some() {
                break;
            }
        }
        let found = found.unwrap();
        assert_eq!((found.checkpoint, found.sequence), (Some(id), 99));
        assert_eq!(found.files.len(), 2);
        assert_eq!(found.files[0], RemoteFile { name: name("CURRENT"), size: Some(16) });
    }

    #[test]
    fn bad_lists_are_refused() {
        let plain = |text: &str| ListReader::plain(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(plain("CURRENT,../x"), "`../x` is not a plain file name");
        assert_eq!(plain("CURRENT,"), "`` is not a plain file name");
        assert_eq!(plain("CURRENT,CURRENT"), "file CURRENT is listed twice");
        assert_eq!(plain("000001.log"), "the list has no CURRENT");
        for head in
            ["", "holdfast 2 a 1 1", "holdfast 1 a/b 1 1", "holdfast 1 a 1 0", "holdfast 1 a 1 1 1"]
        {
            assert!(ListReader::default().line(head.as_bytes()).is_err(), "{head}");
        }
        assert_eq!(ListReader::default().line(b"holdfast 1 a 1 9999999"), Err(BadFiles::TooMany));
    }

    #[test]
    fn fetch_requests_have_two_forms() {
        let wanted = [
            Wanted { name: name("CURRENT"), offset: 0 },
            Wanted { name: name("000012.sst"), offset: 65536 },
        ];
        assert_eq!(
            fetch(None, &wanted),
            b"*2\r\n$11\r\n_fetch_file\r\n$18\r\nCURRENT,000012.sst\r\n"
        );
        let id = CheckpointId::parse(b"c1").unwrap();
        assert_eq!(
            fetch(Some(&id), &wanted),
            b"*3\r\n$11\r\n_fetch_file\r\n$2\r\nc1\r\n$26\r\nCURRENT:0,000012.sst:65536\r\n"
        );
        assert_eq!(parse_fetch(b"CURRENT:0,000012.sst:65536").unwrap(), wanted);
        assert!(parse_fetch(b"CURRENT").is_err());
        assert!(parse_plain_fetch(b"CURRENT,..").is_err());
    }

    #[test]
    fn heads_and_trailers_round_trip() {
        let head = FileHead { size: 10, offset: 4 };
        assert_eq!(head.text(), b"10 4\r\n");
        assert_eq!(FileHead::parse(b"10 4"), Ok(head));
        assert!(FileHead::parse(b"4 10").is_err());
        assert_eq!(FileHead::parse_plain(b"10"), Ok(FileHead { size: 10, offset: 0 }));
        assert!(FileHead::parse_plain(b"-1").is_err());
        assert_eq!(parse_trailer(b"0000beef"), Ok(0xbeef));
        assert!(parse_trailer(b"+000beef").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = ListReader::plain(&line);
            let _ = ListReader::default().line(&line);
            let _ = FileHead::parse(&line);
            let _ = parse_fetch(&line);
            let _ = parse_trailer(&line);
        }
    }
}
