//! The stream that a Redis sends its replicas: asked for, taken into the spool, asked for again
//! from where it broke.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use resp::encode_command;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::super::link::Access;
use super::progress::Progress;
use super::spool::Writer;

/// For one answer, and for a sign of life: a master sends one each ten seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a stream that broke is asked for again.
const RETRIES: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);
/// Between two words of how far the target is.
const ACK_EVERY: Duration = Duration::from_secs(1);
/// Longest line of an answer.
const LINE_MAX: usize = 1024;
/// No stream is as long; what is added to a place does not overflow.
const OFFSET_MAX: u64 = 1 << 62;
/// Length of the mark behind data whose length is not told.
const MARK: usize = 40;
/// Bytes that are taken at once.
const READ: usize = 256 << 10;

/// A place in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    /// Whose stream it is.
    id: String,
    /// Bytes of it that are here.
    offset: u64,
}

/// What the bytes are that come next.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// The data of the beginning, of so many bytes.
    Counted(u64),
    /// The same, up to this mark.
    Marked([u8; MARK]),
    Commands,
}

/// See the module.
pub(super) struct Stream {
    access: Access,
    connection: Connection,
    position: Position,
    part: Part,
    /// The newest bytes of data that ends with a mark: they may be the mark.
    held: Vec<u8>,
}

struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
}

/// What a Redis answers to PSYNC.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// All of it, from the beginning.
    Whole(Position),
    /// It goes on; under another name, if one is told.
    Goes(Option<String>),
}

impl Stream {
    /// Asks for all: the data, and the commands behind it.
    pub(super) async fn open(access: Access) -> Result<Self> {
        let mut connection = Connection::open(&access).await?;
        let position = match connection.psync("?", "-1").await? {
            Answer::Whole(position) => position,
            Answer::Goes(_) => bail!("the Redis goes on with a stream that it was not asked for"),
        };
        let part = connection.head().await?;
        Ok(Self { access, connection, position, part, held: Vec::new() })
    }

    /// Where the commands begin.
    pub(super) fn offset(&self) -> u64 {
        self.position.offset
    }

    /// Takes all that comes; it ends with an error alone.
    pub(super) async fn run(
        mut self,
        mut spool: Writer,
        progress: Arc<Progress>,
    ) -> Result<Infallible> {
        let mut ticks = interval(ACK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            let mut bytes = std::mem::take(&mut self.connection.buffer);
            let was_data = self.part != Part::Commands;
            self.take(&bytes, &mut spool).context("keep what the Redis sends")?;
            bytes.clear();
            self.connection.buffer = bytes;
            progress.receive(self.position.offset);
            let broke = if was_data && self.part == Part::Commands {
                // It sends commands once it is told that the data is here.
                self.connection.ack(progress.applied()).await.err()
            } else {
                let connection = &mut self.connection;
                tokio::select! {
                    read = connection.socket.read_buf(&mut connection.buffer) => {
                        heard = Instant::now();
                        match read {
                            Ok(0) => Some(anyhow::anyhow!("it was closed")),
                            Ok(_) => None,
                            Err(error) => Some(error.into()),
                        }
                    }
                    _ = ticks.tick() => match self.part {
                        _ if heard.elapsed() > PATIENCE => Some(anyhow::anyhow!("nothing came for {PATIENCE:?}")),
                        Part::Commands => connection.ack(progress.applied()).await.err(),
                        _ => None,
                    },
                }
            };
            if let Some(why) = broke {
                self.again(why).await?;
                heard = Instant::now();
            }
        }
    }

    /// Puts bytes into the spool. The mark behind data is none of it.
    fn take(&mut self, mut bytes: &[u8], spool: &mut Writer) -> std::io::Result<()> {
        if let Part::Counted(left) = &mut self.part {
            let now = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
            let (data, rest) = bytes.split_at(now);
            spool.write(data)?;
            *left -= now as u64;
            if *left > 0 {
                return Ok(());
            }
            self.part = Part::Commands;
            bytes = rest;
        }
        if let Part::Marked(mark) = &self.part {
            // Commands come when they are asked for: the mark is the end of what there is.
            self.held.extend_from_slice(bytes);
            let at = self.held.len().saturating_sub(MARK);
            let is_over = self.held.get(at..) == Some(&mark[..]);
            spool.write(self.held.get(..at).unwrap_or_default())?;
            self.held.drain(..at);
            if is_over {
                self.held.clear();
                self.part = Part::Commands;
            }
            return Ok(());
        }
        spool.write(bytes)?;
        self.position.offset += bytes.len() as u64;
        Ok(())
    }

    /// Asks for the rest of a stream that broke.
    async fn again(&mut self, why: anyhow::Error) -> Result<()> {
        if self.part != Part::Commands {
            return Err(why.context("the connection to the Redis broke while it sent its data: begin anew, with an empty target"));
        }
        let deadline = Instant::now() + RETRIES;
        let mut last = why;
        while Instant::now() < deadline {
            sleep(PAUSE).await;
            let next = (self.position.offset + 1).to_string();
            let mut connection = match Connection::open(&self.access).await {
                Ok(connection) => connection,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            match connection.psync(&self.position.id, &next).await {
                Ok(Answer::Goes(id)) => {
                    self.connection = connection;
                    self.position.id = id.unwrap_or_else(|| std::mem::take(&mut self.position.id));
                    return Ok(());
                }
                Ok(Answer::Whole(_)) => bail!(
                    "the connection to the Redis broke ({last:#}), and it has no more what came after offset {}: begin anew, with an \
                     empty target; a larger repl-backlog-size at the Redis bridges longer breaks",
                    self.position.offset
                ),
                Err(error) => last = error,
            }
        }
        Err(last.context(format!("the Redis was not reached again for {RETRIES:?}")))
    }
}

impl Connection {
    async fn open(access: &Access) -> Result<Self> {
        let address = &access.address;
        let socket = timeout(PATIENCE, TcpStream::connect(address)).await;
        let socket = socket.context("no answer").and_then(|socket| Ok(socket?));
        let socket = socket.with_context(|| format!("connect to {address}"))?;
        socket.set_nodelay(true).context("set up the connection")?;
        let mut connection = Self { socket, buffer: Vec::with_capacity(READ) };
        if let Some(words) = access.auth() {
            connection.must(&words).await.context("authenticate at the Redis")?;
        }
        connection.must(&["REPLCONF", "capa", "eof", "capa", "psync2"]).await?;
        Ok(connection)
    }

    async fn send(&mut self, words: &[&str]) -> Result<()> {
        let bytes = encode_command(words);
        let sent = timeout(PATIENCE, self.socket.write_all(&bytes)).await;
        sent.context("it takes nothing")?.context("send to the Redis")
    }

    async fn ack(&mut self, offset: u64) -> Result<()> {
        self.send(&["REPLCONF", "ACK", &offset.to_string()]).await
    }

    /// The next line that is not empty: a Redis that is busy sends empty ones meanwhile.
    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                if line.is_empty() {
                    continue;
                }
                return Ok(line);
            }
            ensure!(
                self.buffer.len() <= LINE_MAX,
                "the Redis answers with a line that does not end"
            );
            let read = timeout(PATIENCE, self.socket.read_buf(&mut self.buffer)).await;
            ensure!(
                read.context("the Redis does not answer")?? > 0,
                "the Redis closed the connection"
            );
        }
    }

    async fn must(&mut self, words: &[&str]) -> Result<()> {
        self.send(words).await?;
        let line = self.line().await?;
        ensure!(line == "+OK", "{}: {}", words[0], line.trim_start_matches('-'));
        Ok(())
    }

    async fn psync(&mut self, id: &str, next: &str) -> Result<Answer> {
        self.send(&["PSYNC", id, next]).await?;
        answer(&self.line().await?)
    }

    /// How the data is sent.
    async fn head(&mut self) -> Result<Part> {
        head(&self.line().await?)
    }
}

fn answer(line: &str) -> Result<Answer> {
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next()) {
        (Some("+FULLRESYNC"), Some(id), Some(offset)) => {
            let offset = offset.parse().ok().filter(|offset| *offset < OFFSET_MAX);
            let offset = offset.with_context(|| format!("PSYNC: {line}"))?;
            Ok(Answer::Whole(Position { id: id.to_owned(), offset }))
        }
        (Some("+CONTINUE"), id, None) => Ok(Answer::Goes(id.map(str::to_owned))),
        _ => bail!("PSYNC: {}", line.trim_start_matches('-')),
    }
}

fn head(line: &str) -> Result<Part> {
    let length =
        line.strip_prefix('$').with_context(|| format!("the Redis sends no data: {line}"))?;
    if let Some(mark) = length.strip_prefix("EOF:") {
        let mark = mark.as_bytes().try_into();
        return Ok(Part::Marked(
            mark.ok().context("the mark of the Redis' data has another length")?,
        ));
    }
    Ok(Part::Counted(length.parse().context("the length of the Redis' data is no number")?))
}
