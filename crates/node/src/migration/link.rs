//! The connection to a target: plain TCP to its local address, one request at a time or a pipeline.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use resp::value::{Value, encode_command};
use topology::Endpoint;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_millis(3_000);
/// Longest wait for a reply. Kvrocks waits 1 s, and fails at that under load.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at whether the migration goes on.
const LOOK: Duration = Duration::from_millis(100);
/// Longest reply that makes sense.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// Why a migration ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// There is no connection.
    #[error("cannot reach the target at its local address {at}: {why}")]
    Unreachable {
        /// Where.
        at: String,
        /// What the system says.
        why: String,
    },
    /// The connection broke, or nothing came.
    #[error("connection to the target {at}: {why}")]
    Broken {
        /// Where.
        at: String,
        /// What happened.
        why: String,
    },
    /// An error reply.
    #[error("the target answers to {request}: {said}")]
    Refused {
        /// What was asked.
        request: String,
        /// The reply without its `-`.
        said: String,
    },
    /// It is to end.
    #[error("{0}")]
    Stopped(&'static str),
    /// What is to be sent cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

impl From<storage::Error> for Failed {
    fn from(error: storage::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Says why a migration is to end.
pub type Stop<'n> = &'n dyn Fn() -> Option<&'static str>;

/// See the module documentation.
pub struct Link<'n> {
    stream: TcpStream,
    unread: Vec<u8>,
    at: String,
    stop: Stop<'n>,
}

impl<'n> Link<'n> {
    /// Connects.
    ///
    /// # Errors
    /// [`Failed::Unreachable`].
    pub fn open(to: &Endpoint, stop: Stop<'n>) -> Result<Self, Failed> {
        let at = to.to_string();
        let unreachable = |why: String| Failed::Unreachable { at: at.clone(), why };
        let found = (to.host.as_str(), to.port).to_socket_addrs();
        let mut why = "the name has no address".to_owned();
        for address in found.map_err(|error| unreachable(error.to_string()))? {
            match TcpStream::connect_timeout(&address, CONNECT).and_then(prepared) {
                Ok(stream) => return Ok(Self { stream, unread: Vec::new(), at, stop }),
                Err(error) => why = error.to_string(),
            }
        }
        Err(unreachable(why))
    }

    /// Says a password, if there is one.
    ///
    /// # Errors
    /// See [`Failed`].
    pub fn greet(&mut self, secret: Option<&str>) -> Result<(), Failed> {
        match secret {
            Some(secret) => self.ask("auth", &[b"auth", secret.as_bytes()]).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Asks, and waits for the answer; an error is none.
    ///
    /// # Errors
    /// See [`Failed`].
    pub fn ask(&mut self, what: &str, words: &[&[u8]]) -> Result<Value, Failed> {
        self.send(&encode_command(words))?;
        self.receive(what)
    }

    /// Sends requests.
    ///
    /// # Errors
    /// [`Failed::Broken`].
    pub fn send(&mut self, requests: &[u8]) -> Result<(), Failed> {
        let sent = self.stream.write_all(requests);
        sent.map_err(|error| self.broken(error.to_string()))
    }

    /// The reply to a request, which must be no error.
    ///
    /// # Errors
    /// See [`Failed`].
    pub fn receive(&mut self, what: &str) -> Result<Value, Failed> {
        let begun = Instant::now();
        loop {
            let parsed = Value::parse(&self.unread, REPLY_BYTES_MAX);
            match parsed.map_err(|error| self.broken(error.to_string()))? {
                Some((Value::Error(said), _)) => {
                    return Err(Failed::Refused { request: what.to_owned(), said });
                }
                Some((value, length)) => {
                    self.unread.drain(..length);
                    return Ok(value);
                }
                None => {}
            }
            if let Some(why) = (self.stop)() {
                return Err(Failed::Stopped(why));
            }
            if begun.elapsed() > PATIENCE {
                return Err(self.broken(format!("no reply within {} s", PATIENCE.as_secs())));
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<(), Failed> {
        let mut some = [0; 16 << 10];
        match self.stream.read(&mut some) {
            Ok(0) => Err(self.broken("closed by the target".into())),
            Ok(read) => {
                self.unread.extend_from_slice(some.get(..read).unwrap_or_default());
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(()),
                _ => Err(self.broken(error.to_string())),
            },
        }
    }

    fn broken(&self, why: String) -> Failed {
        Failed::Broken { at: self.at.clone(), why }
    }

    /// Waits, unless the migration is to end.
    ///
    /// # Errors
    /// [`Failed::Stopped`].
    #[expect(clippy::disallowed_methods, reason = "a thread for one migration serves nobody else")]
    pub fn pause(&self, time: Duration) -> Result<(), Failed> {
        let until = Instant::now() + time;
        loop {
            if let Some(why) = (self.stop)() {
                return Err(Failed::Stopped(why));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}

fn prepared(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
