//! The connection to a target: plain TCP to its local address, one request at a time or a pipeline.

use std::cell::Cell;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use resp::value::{Value, encode_command};
use topology::Endpoint;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_millis(3_000);
/// Longest wait for a reply, or for a target that takes nothing. Kvrocks waits 1 s, and fails at
/// that under load.
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

/// What is said of a freeze that has taken too long.
const LATE: &str = "writes of the slots were stopped as long as they may be, and the target has not taken the rest: lower migrate-sequence-gap, or migrate them when less is written";

/// When a migration is to end.
pub struct Limits<'n> {
    stop: &'n dyn Fn() -> Option<&'static str>,
    /// Writes of the slots are stopped, and are to be taken again by then.
    frozen_until: Cell<Option<Instant>>,
    /// The target is asked to take over: until it has answered no time decides.
    is_asked: Cell<bool>,
}

impl<'n> Limits<'n> {
    /// `stop` says why it is to end.
    pub fn new(stop: &'n dyn Fn() -> Option<&'static str>) -> Self {
        Self { stop, frozen_until: Cell::new(None), is_asked: Cell::new(false) }
    }

    /// Writes of the slots are stopped from now on, for so long at most.
    pub fn freeze(&self, longest: Duration) {
        self.frozen_until.set(Some(Instant::now() + longest));
    }

    /// The target is asked to take over, or has refused.
    pub fn note_asked(&self, is_asked: bool) {
        self.is_asked.set(is_asked);
    }

    /// Why it is to end, if it is.
    pub fn why(&self) -> Option<&'static str> {
        let is_late = || self.frozen_until.get().is_some_and(|until| Instant::now() >= until);
        (self.stop)().or_else(|| (!self.is_asked.get() && is_late()).then_some(LATE))
    }
}

/// See the module documentation.
pub struct Link<'n> {
    stream: TcpStream,
    unread: Vec<u8>,
    at: String,
    limits: &'n Limits<'n>,
    /// A request was sent in part: whatever came behind it would be taken for the rest.
    is_torn: bool,
}

impl<'n> Link<'n> {
    /// Connects.
    ///
    /// # Errors
    /// [`Failed::Unreachable`].
    pub fn open(to: &Endpoint, limits: &'n Limits<'n>) -> Result<Self, Failed> {
        let at = to.to_string();
        let unreachable = |why: String| Failed::Unreachable { at: at.clone(), why };
        let found = (to.host.as_str(), to.port).to_socket_addrs();
        let mut why = "the name has no address".to_owned();
        for address in found.map_err(|error| unreachable(error.to_string()))? {
            match TcpStream::connect_timeout(&address, CONNECT).and_then(prepared) {
                Ok(stream) => {
                    return Ok(Self { stream, unread: Vec::new(), at, limits, is_torn: false });
                }
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
    /// [`Failed::Broken`], [`Failed::Stopped`].
    pub fn send(&mut self, requests: &[u8]) -> Result<(), Failed> {
        if self.is_torn {
            return Err(self.broken("a request was sent in part".into()));
        }
        self.is_torn = true;
        let (mut rest, mut moved) = (requests, Instant::now());
        loop {
            match self.stream.write(rest) {
                Ok(0) => return Err(self.broken("it takes nothing more".into())),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    moved = Instant::now();
                }
                Err(error) if may_go_on(&error) => {}
                Err(error) => return Err(self.broken(error.to_string())),
            }
            if rest.is_empty() {
                break;
            }
            if let Some(why) = self.limits.why() {
                return Err(Failed::Stopped(why));
            }
            if moved.elapsed() > PATIENCE {
                let why = format!("it took nothing for {} s", PATIENCE.as_secs());
                return Err(self.broken(why));
            }
        }
        self.is_torn = false;
        Ok(())
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
            if let Some(why) = self.limits.why() {
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
            Err(error) if may_go_on(&error) => Ok(()),
            Err(error) => Err(self.broken(error.to_string())),
        }
    }

    fn broken(&self, why: String) -> Failed {
        Failed::Broken { at: self.at.clone(), why }
    }

    /// Waits for a pace to be kept, unless the migration is to end. While writes of the slots are
    /// stopped no pace is kept.
    ///
    /// # Errors
    /// [`Failed::Stopped`].
    #[expect(clippy::disallowed_methods, reason = "a thread for one migration serves nobody else")]
    pub fn pause(&self, time: Duration) -> Result<(), Failed> {
        let is_frozen = self.limits.frozen_until.get().is_some();
        let until = Instant::now() + if is_frozen { Duration::ZERO } else { time };
        loop {
            if let Some(why) = self.limits.why() {
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

fn may_go_on(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn prepared(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(LOOK))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn goes_on() -> Option<&'static str> {
        None
    }

    fn silent() -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, Endpoint { host: "127.0.0.1".into(), port })
    }

    #[test]
    fn a_target_that_takes_nothing_holds_a_freeze_no_longer_than_it_may_last() {
        let (_listener, at) = silent();
        let (long, frozen) = (vec![b'x'; 64 << 20], Duration::from_millis(200));
        for request in [&long[..], b"PING\r\n"] {
            let limits = Limits::new(&goes_on);
            let mut link = Link::open(&at, &limits).unwrap();
            let begun = Instant::now();
            limits.freeze(frozen);
            let asked = link.send(request).and_then(|()| link.receive("it").map(|_| ()));
            assert_eq!(asked, Err(Failed::Stopped(LATE)));
            let taken = begun.elapsed();
            assert!(taken >= frozen && taken < PATIENCE, "{taken:?}");
            let again = link.send(b"PING\r\n");
            let is_torn =
                matches!(&again, Err(Failed::Broken { why, .. }) if why.contains("in part"));
            assert_eq!(is_torn, request.len() > 10, "{again:?}");
        }
    }

    #[test]
    fn a_freeze_keeps_no_pace_and_an_answer_to_the_last_step_has_its_own_time() {
        let (_listener, at) = silent();
        let limits = Limits::new(&goes_on);
        let link = Link::open(&at, &limits).unwrap();
        limits.freeze(Duration::from_secs(3_600));
        let begun = Instant::now();
        link.pause(Duration::from_secs(3_600)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60));
        limits.freeze(Duration::ZERO);
        assert_eq!(limits.why(), Some(LATE));
        limits.note_asked(true);
        assert_eq!(limits.why(), None);
        limits.note_asked(false);
        assert_eq!(limits.why(), Some(LATE));
    }
}
