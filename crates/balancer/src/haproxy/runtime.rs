//! One connection to a Runtime API socket, in prompt mode: every answer ends with the prompt, so
//! that each command has its own answer.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Longest answer read, in bytes: `show sess` of 200,000 sessions is below.
const MAX_ANSWER: usize = 128 << 20;

/// Where a Runtime API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeAddress {
    /// Path of a unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

impl RuntimeAddress {
    /// `/path`, `unix@/path`, or `host:port`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let path = text.strip_prefix("unix@").unwrap_or(text);
        if path.starts_with('/') {
            return Some(Self::Unix(PathBuf::from(path)));
        }
        let (host, port) = text.rsplit_once(':')?;
        (!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
            .then(|| Self::Tcp(text.to_owned()))
    }
}

impl fmt::Display for RuntimeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix@{}", path.display()),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection; it always talks to the process that accepted it, even when a reload has
/// replaced that one since.
pub(super) struct Link {
    stream: Box<dyn Stream>,
    limit: Duration,
}

impl Link {
    /// Connects and switches to prompt mode. `limit` bounds each exchange.
    pub(super) async fn open(address: &RuntimeAddress, limit: Duration) -> io::Result<Self> {
        let connecting = async {
            let stream: Box<dyn Stream> = match address {
                RuntimeAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
                RuntimeAddress::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
            };
            io::Result::Ok(stream)
        };
        let stream = timeout(limit, connecting).await.map_err(|_| timed_out("connect"))??;
        let mut link = Self { stream, limit };
        link.ask("prompt").await?;
        Ok(link)
    }

    /// One command, one answer, without the prompt.
    pub(super) async fn ask(&mut self, command: &str) -> io::Result<String> {
        // A line feed or semicolon would smuggle in a second command.
        if command.contains(['\n', '\r', ';']) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a single command"));
        }
        let line = format!("{command}\n");
        let exchange = async {
            self.stream.write_all(line.as_bytes()).await?;
            let mut answer = Vec::new();
            loop {
                if self.stream.read_buf(&mut answer).await? == 0 {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("connection closed during `{command}`"),
                    ));
                }
                if let Some(end) = end_of_answer(&answer) {
                    answer.truncate(end);
                    return String::from_utf8(answer)
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
                }
                if answer.len() > MAX_ANSWER {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "answer too long"));
                }
            }
        };
        timeout(self.limit, exchange).await.map_err(|_| timed_out(command))?
    }
}

/// Where the answer ends if a prompt follows: `> ` of a worker, `master> ` of the master, at the
/// start of the last line.
fn end_of_answer(bytes: &[u8]) -> Option<usize> {
    ["master> ", "> "].iter().find_map(|prompt| {
        let rest = bytes.strip_suffix(prompt.as_bytes())?;
        (rest.is_empty() || rest.ends_with(b"\n")).then_some(rest.len())
    })
}

fn timed_out(command: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer to `{command}` in time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(
            RuntimeAddress::parse("/run/h.sock"),
            Some(RuntimeAddress::Unix("/run/h.sock".into()))
        );
        assert_eq!(RuntimeAddress::parse("unix@/a"), Some(RuntimeAddress::Unix("/a".into())));
        assert_eq!(RuntimeAddress::parse("h:99"), Some(RuntimeAddress::Tcp("h:99".to_owned())));
        for bad in ["", "h", "h:", ":1", "h:0", "h:x"] {
            assert_eq!(RuntimeAddress::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_answer_ends_at_the_prompt() {
        assert_eq!(end_of_answer(b"\n> "), Some(1));
        assert_eq!(end_of_answer(b"master> "), Some(0));
        assert_eq!(end_of_answer(b"x\n\nmaster> "), Some(3));
        assert_eq!(end_of_answer(b"x> "), None);
        assert_eq!(end_of_answer(b"Name: HAProxy\n"), None);
    }
}
