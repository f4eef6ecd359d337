//! The files of one checkpoint, arriving on one or four connections.

use super::Config;
use super::dialog::{Dialog, Outcome, Purpose};
use super::event::{Action, Conn, Fault, Held, Part, Peer, Progress};
use crate::files::{
    CheckpointId, FILE_LINE_BYTES_MAX, FileHead, FileList, RemoteFile, Wanted, parse_trailer,
};
use crate::name::FileName;
use crate::wire::LineReader;
use std::collections::{HashMap, VecDeque};

/// Above this many files four connections are used.
const FILES_OF_ONE_CONNECTION: usize = 20;
const CONNECTIONS: usize = 4;

/// A file still to come and what is here of it.
#[derive(Debug, Clone)]
struct Expected {
    name: FileName,
    size: Option<u64>,
    offset: u64,
    crc32c: u32,
}

impl Expected {
    fn wanted(&self) -> Wanted {
        Wanted { name: self.name.clone(), offset: self.offset }
    }
}

#[derive(Debug)]
enum Stage {
    /// Before the file's size.
    Head,
    /// Within its bytes.
    Body { left: u64, crc32c: u32 },
    /// Before its checksum.
    Trailer { crc32c: u32 },
}

/// One connection and the files it brings, in order.
#[derive(Debug)]
struct Fetcher {
    dialog: Dialog,
    is_asked: bool,
    queue: VecDeque<Expected>,
    stage: Stage,
    lines: LineReader,
}

#[derive(Debug)]
pub(super) struct Download {
    fetchers: Vec<Fetcher>,
    progress: Progress,
}

/// Deals the missing files round robin over the connections.
fn deal(list: &FileList, held: &[Held]) -> Vec<Vec<Expected>> {
    let held: HashMap<&FileName, Part> = held.iter().map(|h| (&h.name, h.part)).collect();
    // Without an id of the checkpoint nothing that is here can be known to belong to it.
    let part =
        |file: &RemoteFile| list.checkpoint.as_ref().and_then(|_| held.get(&file.name).copied());
    let missing: Vec<Expected> = list
        .files
        .iter()
        .filter_map(|file| {
            let (offset, crc32c) = match (part(file), file.size) {
                (Some(Part::Whole), _) => return None,
                (Some(Part::Beginning { bytes, crc32c }), Some(size)) if bytes <= size => {
                    (bytes, crc32c)
                }
                _ => (0, 0),
            };
            Some(Expected { name: file.name.clone(), size: file.size, offset, crc32c })
        })
        .collect();
    let connections = if missing.len() > FILES_OF_ONE_CONNECTION { CONNECTIONS } else { 1 };
    let mut hands = vec![Vec::new(); connections];
    for (index, file) in missing.into_iter().enumerate() {
        hands[index % connections].push(file);
    }
    hands.retain(|hand| !hand.is_empty());
    hands
}

/// What is here before anything has come. Sizes are what the master says: they may be anything.
fn at_first(list: &FileList, hands: &[Vec<Expected>]) -> Progress {
    let mut sizes = list.files.iter().map(|file| file.size);
    let of = sizes.try_fold(0_u64, |sum, size| Some(sum.saturating_add(size?)));
    let missing =
        hands.iter().flatten().map(|file| file.size.unwrap_or(0).saturating_sub(file.offset));
    let missing = missing.fold(0_u64, u64::saturating_add);
    // Of files whose sizes are not known nothing is kept.
    Progress { done: of.map_or(0, |of| of.saturating_sub(missing)), of }
}

impl Download {
    /// Opens the connections; `next_conn` gives their numbers.
    pub(super) fn open(
        list: &FileList,
        held: &[Held],
        peer: Peer,
        config: &Config,
        now: u64,
        mut next_conn: impl FnMut() -> Conn,
        out: &mut Vec<Action<'_>>,
    ) -> Self {
        let open = |hand: Vec<Expected>| {
            let wanted = hand.iter().map(Expected::wanted).collect();
            let checkpoint: Option<CheckpointId> = list.checkpoint.clone();
            let purpose = Purpose::Files { checkpoint, wanted };
            Fetcher {
                dialog: Dialog::open(next_conn(), purpose, peer, config, now, out),
                is_asked: false,
                queue: hand.into(),
                stage: Stage::Head,
                lines: LineReader::new(FILE_LINE_BYTES_MAX),
            }
        };
        let hands = deal(list, held);
        let progress = at_first(list, &hands);
        Self { fetchers: hands.into_iter().map(open).collect(), progress }
    }

    /// How much of the files is here.
    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    pub(super) fn is_done(&self) -> bool {
        self.fetchers.is_empty()
    }

    pub(super) fn conns(&self) -> impl Iterator<Item = Conn> + '_ {
        self.fetchers.iter().map(|f| f.dialog.conn)
    }

    /// The earliest moment at which a connection has been silent for too long, and for how long
    /// that is.
    pub(super) fn deadline(&self) -> Option<(u64, u64)> {
        self.fetchers.iter().map(|f| (f.dialog.deadline, f.dialog.patience_ms())).min()
    }

    pub(super) fn connected(
        &mut self,
        conn: Conn,
        config: &Config,
        now: u64,
        out: &mut Vec<Action<'_>>,
    ) {
        if let Some(fetcher) = self.fetchers.iter_mut().find(|f| f.dialog.conn == conn) {
            fetcher.is_asked |= fetcher.dialog.connected(config, now, out) == Outcome::Data;
        }
    }

    pub(super) fn received<'a>(
        &mut self,
        conn: Conn,
        mut input: &'a [u8],
        config: &Config,
        now: u64,
        out: &mut Vec<Action<'a>>,
    ) -> Result<(), Fault> {
        let Some(index) = self.fetchers.iter().position(|f| f.dialog.conn == conn) else {
            return Ok(());
        };
        let fetcher = &mut self.fetchers[index];
        if !fetcher.is_asked {
            let outcome = fetcher.dialog.received(&mut input, config, now, out)?;
            fetcher.is_asked = outcome == Outcome::Data;
        }
        if fetcher.is_asked {
            fetcher.dialog.deadline = now.saturating_add(config.transfer_timeout_ms);
            let taken = fetcher.take(input, out)?;
            self.progress.done = self.progress.done.saturating_add(taken);
        }
        if self.fetchers[index].queue.is_empty() {
            out.push(Action::Close(conn));
            self.fetchers.swap_remove(index);
        }
        Ok(())
    }
}

impl Fetcher {
    /// Takes what has come; how many bytes of files that were.
    fn take<'a>(&mut self, mut input: &'a [u8], out: &mut Vec<Action<'a>>) -> Result<u64, Fault> {
        let (conn, mut bytes_taken) = (self.dialog.conn, 0);
        // A body of no bytes ends without input, so the stage is looked at once more after the last
        // byte.
        while let Some(file) = self.queue.front() {
            match self.stage {
                Stage::Body { left: 0, crc32c } if self.dialog.peer == Peer::Holdfast => {
                    self.stage = Stage::Trailer { crc32c };
                }
                Stage::Body { left: 0, .. } => self.finish(out),
                _ if input.is_empty() => break,
                Stage::Body { left, crc32c } => {
                    let taken = usize::try_from(left).map_or(input.len(), |l| l.min(input.len()));
                    let (bytes, rest) = input.split_at(taken);
                    input = rest;
                    out.push(Action::WriteFile { conn, bytes });
                    bytes_taken += taken as u64;
                    let crc32c = match self.dialog.peer {
                        Peer::Holdfast => crc32c::crc32c_append(crc32c, bytes),
                        Peer::Kvrocks => 0,
                    };
                    self.stage = Stage::Body { left: left - taken as u64, crc32c };
                }
                Stage::Head => {
                    let Some(line) = self.lines.read(&mut input)? else { break };
                    let head = head(&line, file, self.dialog.peer)?;
                    let offset = head.offset;
                    out.push(Action::OpenFile { conn, name: file.name.clone(), offset });
                    self.stage = Stage::Body { left: head.size - offset, crc32c: file.crc32c };
                }
                Stage::Trailer { crc32c } => {
                    let Some(line) = self.lines.read(&mut input)? else { break };
                    if parse_trailer(&line)? != crc32c {
                        out.push(Action::DiscardFile { conn });
                        return Err(Fault::Checksum(file.name.clone()));
                    }
                    self.finish(out);
                }
            }
        }
        Ok(bytes_taken)
    }

    fn finish(&mut self, out: &mut Vec<Action<'_>>) {
        out.push(Action::FinishFile { conn: self.dialog.conn });
        self.queue.pop_front();
        self.stage = Stage::Head;
    }
}

/// Reads a file's head and holds it against what was announced and asked for.
fn head(line: &[u8], file: &Expected, peer: Peer) -> Result<FileHead, Fault> {
    if line.starts_with(b"-") {
        let reply = String::from_utf8_lossy(line).into_owned();
        return Err(Fault::Refused { request: "_fetch_file", reply });
    }
    let head = match peer {
        Peer::Kvrocks => FileHead::parse_plain(line)?,
        Peer::Holdfast => FileHead::parse(line)?,
    };
    let announced = file.size.unwrap_or(head.size);
    if head.size != announced || head.offset != file.offset {
        return Err(Fault::Size { name: file.name.clone(), announced, found: head.size });
    }
    Ok(head)
}
