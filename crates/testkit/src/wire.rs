//! RESP2 and RESP3 as a test sees them: every type kept apart, nothing interpreted.
//!
//! Written apart from the crate `resp`, so that the two check each other.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

const PATIENCE: Duration = Duration::from_secs(10);

/// A reply, as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+`
    Simple(Vec<u8>),
    /// `-`
    Error(Vec<u8>),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `$-1`
    NilBulk,
    /// `*-1`
    NilArray,
    /// `_`
    Null,
    /// `,` as written
    Double(Vec<u8>),
    /// `#`
    Boolean(bool),
    /// `(`
    BigNumber(Vec<u8>),
    /// `=` with its three letters
    Verbatim(Vec<u8>),
    /// `*`, `~`, `>` or `%`, with the elements; a map has two for each entry. `|` has so too, and
    /// behind them the reply that they are said of
    Many(Shape, Vec<Reply>),
}

/// Which kind of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `*`
    Array,
    /// `~`
    Set,
    /// `>`
    Push,
    /// `%`
    Map,
    /// `|`
    Attribute,
}

impl Shape {
    /// The byte that stands for it, on the wire and in transcripts.
    pub fn sign(self) -> char {
        match self {
            Self::Array => '*',
            Self::Set => '~',
            Self::Push => '>',
            Self::Map => '%',
            Self::Attribute => '|',
        }
    }
}

impl Reply {
    /// The text of anything that has one.
    pub fn text(&self) -> String {
        match self {
            Self::Simple(bytes)
            | Self::Error(bytes)
            | Self::Bulk(bytes)
            | Self::Double(bytes)
            | Self::BigNumber(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Verbatim(bytes) => {
                String::from_utf8_lossy(bytes.get(4..).unwrap_or_default()).into_owned()
            }
            Self::Integer(number) => number.to_string(),
            _ => String::new(),
        }
    }

    /// The elements of anything that has them.
    pub fn elements(&self) -> &[Self] {
        match self {
            Self::Many(_, elements) => elements,
            _ => &[],
        }
    }

    /// The code of an error: its first word.
    pub fn error_code(&self) -> Option<String> {
        match self {
            Self::Error(_) => Some(self.text().split(' ').next().unwrap_or_default().to_owned()),
            _ => None,
        }
    }
}

/// A connection whose every wait is bounded.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Result<Self> {
        Self::open_within(address, PATIENCE, PATIENCE)
    }

    /// Connects, with limits for that and for each read or write afterwards.
    pub fn open_within(address: SocketAddr, to_connect: Duration, each: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, to_connect)
            .with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(each))?;
        stream.set_write_timeout(Some(each))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Two handles of one connection: to read from, and to write to.
    pub fn halves(self) -> Result<(Self, TcpStream)> {
        let writer = self.reader.get_ref().try_clone().context("take a second handle")?;
        Ok((self, writer))
    }

    /// How long a read may take.
    pub fn set_patience(&mut self, patience: Duration) -> Result<()> {
        self.reader.get_ref().set_read_timeout(Some(patience)).context("set a time limit")
    }

    /// One command, one reply.
    pub fn call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<Reply> {
        self.send(arguments)?;
        self.receive()
    }

    /// The same; `None` if the connection was closed instead. Silence is an error: what comes later
    /// would be taken for the answer to the next command.
    pub fn ask<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<Option<Reply>> {
        match self.call(arguments) {
            Ok(reply) => Ok(Some(reply)),
            Err(error) if is_silence(&error) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Sends a command.
    pub fn send<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<()> {
        self.send_raw(&encode(arguments))
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.reader.get_mut().write_all(bytes).context("send")
    }

    /// Reads one reply.
    pub fn receive(&mut self) -> Result<Reply> {
        let line = self.line()?;
        let (kind, rest) = line.split_first().context("read an empty line as a reply")?;
        let rest = rest.to_vec();
        Ok(match kind {
            b'+' => Reply::Simple(rest),
            b'-' => Reply::Error(rest),
            b':' => Reply::Integer(number(&rest)?),
            b',' => Reply::Double(rest),
            b'(' => Reply::BigNumber(rest),
            b'#' => Reply::Boolean(rest == b"t"),
            b'_' => Reply::Null,
            b'$' => match number(&rest)? {
                -1 => Reply::NilBulk,
                length => Reply::Bulk(self.bulk(length)?),
            },
            b'=' => Reply::Verbatim(self.bulk(number(&rest)?)?),
            b'*' if number(&rest)? == -1 => Reply::NilArray,
            b'*' => self.many(Shape::Array, number(&rest)?)?,
            b'~' => self.many(Shape::Set, number(&rest)?)?,
            b'>' => self.many(Shape::Push, number(&rest)?)?,
            b'%' => self.many(Shape::Map, 2 * number(&rest)?)?,
            b'|' => self.many(Shape::Attribute, 2 * number(&rest)? + 1)?,
            other => bail!("a reply begins with {:?}", char::from(*other)),
        })
    }

    /// Reads so many bytes of replies, as they come.
    pub fn receive_raw(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut at = 0;
        while at < length {
            match self.reader.read(&mut bytes[at..]).context("read replies")? {
                0 => bail!("closed after {:?}", String::from_utf8_lossy(&bytes[..at])),
                read => at += read,
            }
        }
        Ok(bytes)
    }

    fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).context("read a reply")?;
        if !line.ends_with(b"\r\n") {
            bail!("the connection was closed after {:?}", String::from_utf8_lossy(&line));
        }
        line.truncate(line.len() - 2);
        Ok(line)
    }

    fn bulk(&mut self, length: i64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).context("a negative length")? + 2];
        self.reader.read_exact(&mut bytes).context("read a bulk string")?;
        if !bytes.ends_with(b"\r\n") {
            bail!("a bulk string of {length} bytes does not end where it says");
        }
        bytes.truncate(bytes.len() - 2);
        Ok(bytes)
    }

    fn many(&mut self, shape: Shape, count: i64) -> Result<Reply> {
        let elements = (0..count).map(|_| self.receive()).collect::<Result<_>>()?;
        Ok(Reply::Many(shape, elements))
    }
}

/// Whether a read or a write ended because its time was over.
fn is_silence(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    let mut kinds = causes.map(std::io::Error::kind);
    kinds.any(|kind| matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// A command as it is sent.
pub fn encode<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        let argument = argument.as_ref();
        bytes.extend(format!("${}\r\n", argument.len()).bytes());
        bytes.extend(argument);
        bytes.extend(b"\r\n");
    }
    bytes
}

fn number(text: &[u8]) -> Result<i64> {
    let text = String::from_utf8_lossy(text);
    text.parse().with_context(|| format!("read `{text}` as a number"))
}

/// What is answered first to bytes that come from an address of this machine, as a balancer's;
/// nothing where the connection is ended.
///
/// # Errors
/// It cannot be reached, or says nothing within `patience`.
pub fn answer_from(
    source: IpAddr,
    target: SocketAddr,
    bytes: &[u8],
    patience: Duration,
) -> Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let connected = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source, 0))?;
        socket.connect(target).await
    });
    let mut stream = connected.with_context(|| format!("reach {target}"))?.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(bytes)?;
    let mut answer = [0; 512];
    match stream.read(&mut answer) {
        Ok(read) => Ok(answer[..read].to_vec()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_end_is_an_answer_and_silence_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let open = || Connection::open_within(at, PATIENCE, Duration::from_millis(50)).unwrap();
        let mut connection = open();
        let held = listener.accept().unwrap();
        assert!(connection.ask(&["BLPOP", "k", "0"]).is_err());
        drop(held);
        let mut connection = open();
        drop(listener.accept().unwrap());
        connection.set_patience(PATIENCE).unwrap();
        assert_eq!(connection.ask(&["QUIT"]).unwrap(), None);
    }
}
