//! Where lines go.
//!
//! A file is written by a thread of its own, so that a disk that hangs stops nobody who logs. What
//! it does not take in time is dropped, counted, and said once it takes lines again.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use parking_lot::RwLock;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait for a file at most.
const QUEUE: usize = 4_096;
/// How long a line of an error, and the end of the process, wait for the file.
const PATIENCE: Duration = Duration::from_millis(200);
/// Of a log that is made: its group may read it. No secret is ever logged.
const MODE: u32 = 0o640;

enum Message {
    Line(Vec<u8>),
    /// Lines go here from now on.
    Switch(File),
    /// To be answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Output(RwLock<Place>);

#[derive(Debug, Default)]
struct Place {
    file: Option<Queue>,
    is_stdout: bool,
}

#[derive(Debug, Clone)]
struct Queue {
    messages: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    /// The file did not take an error in time: nobody waits for it until it does.
    is_late: Arc<AtomicBool>,
}

impl Output {
    pub(super) fn direct(&self, file: Option<&Path>, is_stdout: bool) -> io::Result<()> {
        let opened = file.map(open).transpose()?;
        let mut place = self.0.write();
        place.is_stdout = is_stdout;
        place.file = match (opened, place.file.take()) {
            (None, _) => None,
            (Some(file), Some(queue)) => {
                // In order behind what was logged before. Where the queue is full its disk hangs,
                // and a new one is begun.
                match queue.messages.try_send(Message::Switch(file)) {
                    Ok(()) => Some(queue),
                    Err(TrySendError::Full(Message::Switch(file)))
                    | Err(TrySendError::Disconnected(Message::Switch(file))) => {
                        Some(Queue::begin(file)?)
                    }
                    Err(_) => Some(queue),
                }
            }
            (Some(file), None) => Some(Queue::begin(file)?),
        };
        Ok(())
    }

    pub(super) fn has_file(&self) -> bool {
        self.0.read().file.is_some()
    }

    pub(super) fn flush(&self) {
        let queue = self.0.read().file.clone();
        if let Some(queue) = queue {
            queue.flush();
        }
    }

    fn line(&self, line: &[u8], is_error: bool) {
        let (queue, is_stdout) = {
            let place = self.0.read();
            (place.file.clone(), place.is_stdout)
        };
        // Where a stream cannot be written there is nobody left to be told.
        if is_stdout {
            let mut out = io::stdout().lock();
            let _ = out.write_all(line).and_then(|()| out.flush());
        }
        if (queue.is_none() && !is_stdout) || (queue.is_some() && is_error) {
            let _ = io::stderr().lock().write_all(line);
        }
        let Some(queue) = queue else { return };
        queue.send(line);
        // The process may be about to end because of it.
        if is_error {
            queue.flush();
        }
    }
}

impl Queue {
    fn begin(file: File) -> io::Result<Self> {
        let (messages, received) = sync_channel(QUEUE);
        let dropped = Arc::<AtomicU64>::default();
        let lost = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(file, &received, &lost))?;
        Ok(Self { messages, dropped, is_late: Arc::default() })
    }

    fn send(&self, line: &[u8]) {
        if self.messages.try_send(Message::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        if self.is_late.load(Ordering::Relaxed) {
            return;
        }
        if self.messages.try_send(Message::Flush(done)).is_err() {
            return;
        }
        if is_done.recv_timeout(PATIENCE).is_err() {
            self.is_late.store(true, Ordering::Relaxed);
            let is_late = Arc::clone(&self.is_late);
            let waiting = std::thread::Builder::new().name("log-late".to_owned());
            // Without the thread nobody waits any more, which only makes the last line of the
            // process unsure.
            let _ = waiting.spawn(move || {
                let _ = is_done.recv();
                is_late.store(false, Ordering::Relaxed);
            });
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true);
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let file = options.create(true).open(path)?;
            // The mask of this process would leave it to its user alone.
            file.set_permissions(Permissions::from_mode(MODE))?;
            Ok(file)
        }
        opened => opened,
    }
}

fn write_all(mut file: File, received: &Receiver<Message>, dropped: &AtomicU64) {
    let mut has_failed = false;
    for message in received {
        let line = match message {
            Message::Line(line) => line,
            Message::Switch(next) => {
                file = next;
                continue;
            }
            Message::Flush(done) => {
                // The thread that asked may not wait any more.
                let _ = done.send(());
                continue;
            }
        };
        match write(&mut file, &line, dropped) {
            Ok(()) => has_failed = false,
            Err(error) => {
                dropped.fetch_add(1, Ordering::Relaxed);
                if !has_failed {
                    let _ = writeln!(io::stderr(), "holdfast: the log cannot be written: {error}");
                }
                has_failed = true;
            }
        }
    }
}

fn write(file: &mut File, line: &[u8], dropped: &AtomicU64) -> io::Result<()> {
    file.write_all(line)?;
    let lost = dropped.swap(0, Ordering::Relaxed);
    if lost > 0 {
        writeln!(file, "{lost} lines are missing here: the disk of this log did not take them")?;
    }
    Ok(())
}

/// What the subscriber writes with.
#[derive(Debug, Clone, Default)]
pub(super) struct Writer(Arc<Output>);

impl std::ops::Deref for Writer {
    type Target = Output;

    fn deref(&self) -> &Output {
        &self.0
    }
}

/// One event's line.
pub(super) struct Line {
    output: Arc<Output>,
    is_error: bool,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.output.line(line, self.is_error);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Writer {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { output: Arc::clone(&self.0), is_error: false }
    }

    fn make_writer_for(&self, event: &Metadata<'_>) -> Line {
        Line { output: Arc::clone(&self.0), is_error: *event.level() == Level::ERROR }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_again_and_no_line_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
        let output = Output::default();
        output.direct(Some(&path), false).unwrap();
        output.line(b"one\n", false);
        std::fs::rename(&path, &moved).unwrap();
        output.line(b"two\n", false);
        output.direct(Some(&path), false).unwrap();
        output.line(b"three\n", false);
        output.flush();
        assert_eq!((text(&moved).as_str(), text(&path).as_str()), ("one\ntwo\n", "three\n"));
        let missing = folder.path().join("none").join("a.log");
        assert!(output.direct(Some(&missing), false).is_err());
        output.line(b"four\n", false);
        output.flush();
        assert_eq!(text(&path), "three\nfour\n", "what cannot be opened changes nothing");
    }

    #[test]
    fn a_disk_that_takes_nothing_holds_nobody_up_and_the_gap_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix_mkfifo(&path);
        // Nobody reads the pipe, so after 64 KiB it takes nothing.
        let reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let output = Output::default();
        output.direct(Some(&path), false).unwrap();
        let line = [b'x'; 1_023].iter().chain(b"\n").copied().collect::<Vec<u8>>();
        for _ in 0..(QUEUE + 200) {
            output.line(&line, false);
        }
        drain(reader, output);
    }

    fn nix_mkfifo(path: &Path) {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    /// Reads until the line that tells of the gap.
    fn drain(reader: File, output: Output) {
        use std::io::BufRead as _;
        let mut lines = io::BufReader::new(reader).lines();
        let told = lines.by_ref().take(2 * QUEUE).any(|line| {
            output.line(b"next\n", false);
            line.is_ok_and(|line| line.ends_with("the disk of this log did not take them"))
        });
        assert!(told);
    }
}
