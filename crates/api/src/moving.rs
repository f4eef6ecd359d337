//! What a session takes with it when a balancer moves it from one node to another
//! (`docs/protocol.md` §12).
//!
//! Pure: bytes in, bytes out. A node gives a session back as a *trailer* behind its last reply: a
//! record and a footer that can be found from the end of the stream. The balancer never looks into
//! a record; it passes it on behind the next PROXY header, in which [`crate::proxy`] writes how
//! long it is. Not here: the authentication of records, which is the nodes' affair: a record is a
//! body and 32 bytes that only nodes can make.

use std::net::SocketAddr;
use std::ops::Range;

use thiserror::Error;

/// Longest record, in bytes: a session that has more to take with it does not move.
pub const RECORD_MAX: usize = 1 << 20;

/// Bytes of authentication at the end of a record.
pub const MAC_BYTES: usize = 32;

/// Longest trailer, in bytes: what a balancer withholds at most while it waits for the end of a
/// stream.
pub const TRAILER_MAX: usize = RECORD_MAX + FOOTER;

/// The end of every trailer. Whole replies end in CR LF, so no stream without a trailer ends like
/// this unless it was cut short.
const MAGIC: [u8; 8] = *b"HF:moved";
const FOOTER: usize = 4 + MAGIC.len();

const FORMAT: u8 = 1;
/// With subscriptions behind it: written for a session that has some, so that nodes that know the
/// first format alone still take all others.
const SUBSCRIBED: u8 = 2;
/// With subscriptions, perhaps none, and the name of the user behind them: written for a session of
/// another user than the default one.
const OF_USER: u8 = 3;

/// What a balancer sends behind a client's last byte, where it must keep its own side open: random
/// for each connection, and known to balancer and node only.
///
/// No byte of it is LF, the last byte of every command: a node that holds back what may be its
/// beginning delays no command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mark([u8; Self::BYTES]);

impl Mark {
    /// Its length.
    pub const BYTES: usize = 16;

    /// A mark of these bytes, which are to be random.
    pub fn new(random: [u8; Self::BYTES]) -> Self {
        Self(random.map(|byte| if byte == b'\n' { b'\x0b' } else { byte }))
    }

    /// The same for a new one. It begins like no TLS record either: behind what a client encrypted
    /// it is told from more of that.
    pub fn fresh(random: [u8; Self::BYTES]) -> Self {
        let mut mark = Self::new(random);
        if let Some(first) = mark.0.first_mut().filter(|first| (20..=24).contains(*first)) {
            *first |= 0x80;
        }
        mark
    }

    /// As it is sent.
    pub fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// How many of the last bytes of a stream may be its beginning; [`Self::BYTES`] if it is all
    /// there.
    pub fn begun_in(&self, stream: &[u8]) -> usize {
        let is_begun =
            |count: &usize| self.0.get(..*count).is_some_and(|part| stream.ends_with(part));
        (1..=Self::BYTES).rev().find(is_begun).unwrap_or(0)
    }
}

impl std::fmt::Debug for Mark {
    /// It is nobody's business.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mark")
    }
}

/// `record` as a node sends it behind its last reply; `None` if it is too long.
pub fn trailer(mut record: Vec<u8>) -> Option<Vec<u8>> {
    let length = u32::try_from(record.len()).ok().filter(|_| record.len() <= RECORD_MAX)?;
    record.extend_from_slice(&length.to_be_bytes());
    record.extend_from_slice(&MAGIC);
    Some(record)
}

/// Where the record lies in the last bytes of a stream that has ended; `None` if no trailer is
/// there. What lies before it are replies.
pub fn find(end: &[u8]) -> Option<Range<usize>> {
    let rest = end.strip_suffix(&MAGIC)?;
    let (rest, length) = rest.split_last_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let start = rest.len().checked_sub(length).filter(|_| length <= RECORD_MAX)?;
    Some(start..rest.len())
}

/// CLIENT REPLY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replies {
    /// Replies are sent.
    #[default]
    On,
    /// None are.
    Off,
    /// So many more are not sent.
    Skip(u8),
}

/// The state of a session and what it has not been answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The client, as the PROXY header named it.
    pub client: SocketAddr,
    /// The address it dialled.
    pub frontend: SocketAddr,
    /// When the record was made, Unix ms.
    pub issued_ms: u64,
    /// Random: a record is taken once.
    pub nonce: u128,
    /// When the client connected, Unix ms.
    pub since_ms: u64,
    /// It may run commands: it gave a password, or needed none.
    pub is_authenticated: bool,
    /// Protected mode refuses it everything but authentication.
    pub is_denied: bool,
    /// It speaks RESP3.
    pub is_resp3: bool,
    /// READONLY was sent.
    pub is_readonly: bool,
    /// ASKING was sent just before.
    pub is_asking: bool,
    /// It watches keys. The next node cannot know what happened to them: its EXEC fails there.
    pub is_watching: bool,
    /// A command was refused since MULTI.
    pub is_aborted: bool,
    /// CLIENT REPLY.
    pub replies: Replies,
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub library: String,
    /// CLIENT SETINFO LIB-VER.
    pub version: String,
    /// Commands queued since MULTI.
    pub queue: Option<Vec<Vec<Vec<u8>>>>,
    /// What it sent and nobody has run: whole commands, and perhaps the beginning of one.
    pub unread: Vec<u8>,
    /// What it subscribes to.
    pub subscriptions: Subscriptions,
    /// Whose it is; empty: the default user's.
    pub user: String,
}

/// Names of what a session subscribes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscriptions {
    /// SUBSCRIBE.
    pub channels: Vec<Vec<u8>>,
    /// PSUBSCRIBE.
    pub patterns: Vec<Vec<u8>>,
    /// SSUBSCRIBE.
    pub shards: Vec<Vec<u8>>,
}

impl Subscriptions {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty() && self.shards.is_empty()
    }
}

/// Why bytes are no state of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// They end too early.
    #[error("the record is cut short")]
    Short,
    /// They go on where they should end.
    #[error("the record is followed by other bytes")]
    Long,
    /// Another format.
    #[error("the record has format {0}, this node knows {FORMAT}")]
    Format(u8),
    /// A field has an impossible value.
    #[error("the record has an impossible {0}")]
    Value(&'static str),
}

impl Session {
    /// The body of a record, without authentication; `None` if it would be longer than a record may
    /// be.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(256 + self.unread.len());
        let format = match (self.user.is_empty(), self.subscriptions.is_empty()) {
            (true, true) => FORMAT,
            (true, false) => SUBSCRIBED,
            (false, _) => OF_USER,
        };
        out.push(format);
        out.push(self.bits());
        out.push(match self.replies {
            Replies::On => 0,
            Replies::Off => 1,
            Replies::Skip(left) => left.saturating_add(2),
        });
        out.extend_from_slice(&self.issued_ms.to_be_bytes());
        out.extend_from_slice(&self.nonce.to_be_bytes());
        out.extend_from_slice(&self.since_ms.to_be_bytes());
        for text in [&self.client.to_string(), &self.frontend.to_string()] {
            put(&mut out, text.as_bytes())?;
        }
        for text in [&self.name, &self.library, &self.version] {
            put(&mut out, text.as_bytes())?;
        }
        put_count(&mut out, self.queue.as_ref().map_or(0, |queue| queue.len() + 1))?;
        for command in self.queue.iter().flatten() {
            put_words(&mut out, command)?;
        }
        put(&mut out, &self.unread)?;
        if format != FORMAT {
            let Subscriptions { channels, patterns, shards } = &self.subscriptions;
            for names in [channels, patterns, shards] {
                put_words(&mut out, names)?;
            }
        }
        if format == OF_USER {
            put(&mut out, self.user.as_bytes())?;
        }
        (out.len() + MAC_BYTES <= RECORD_MAX).then_some(out)
    }

    fn bits(&self) -> u8 {
        let all = [
            self.is_authenticated,
            self.is_denied,
            self.is_resp3,
            self.is_readonly,
            self.is_asking,
            self.is_watching,
            self.is_aborted,
        ];
        all.into_iter().zip(0..).fold(0, |bits, (is_set, bit)| bits | u8::from(is_set) << bit)
    }

    /// Reads a body whose authentication was checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Input(bytes);
        let format = input.byte()?;
        if ![FORMAT, SUBSCRIBED, OF_USER].contains(&format) {
            return Err(Error::Format(format));
        }
        let bits = input.byte()?;
        if bits & 0x80 != 0 {
            return Err(Error::Value("flag"));
        }
        let is = |bit: u8| bits & (1 << bit) != 0;
        let replies = match input.byte()? {
            0 => Replies::On,
            1 => Replies::Off,
            more => Replies::Skip(more - 2),
        };
        let issued_ms = u64::from_be_bytes(input.array()?);
        let nonce = u128::from_be_bytes(input.array()?);
        let since_ms = u64::from_be_bytes(input.array()?);
        let (client, frontend) = (input.address()?, input.address()?);
        let (name, library, version) = (input.text()?, input.text()?, input.text()?);
        let queue = match input.count()? {
            0 => None,
            more => Some((1..more).map(|_| input.words()).collect::<Result<_, _>>()?),
        };
        let unread = input.bytes()?.to_vec();
        let mut subscriptions = Subscriptions::default();
        if format != FORMAT {
            let Subscriptions { channels, patterns, shards } = &mut subscriptions;
            for names in [channels, patterns, shards] {
                *names = input.words()?;
            }
            if format == SUBSCRIBED && subscriptions.is_empty() {
                return Err(Error::Value("list of subscriptions"));
            }
        }
        let user = if format == OF_USER { input.text()? } else { String::new() };
        if format == OF_USER && user.is_empty() {
            return Err(Error::Value("name of a user"));
        }
        if !input.0.is_empty() {
            return Err(Error::Long);
        }
        Ok(Self {
            client,
            frontend,
            issued_ms,
            nonce,
            since_ms,
            is_authenticated: is(0),
            is_denied: is(1),
            is_resp3: is(2),
            is_readonly: is(3),
            is_asking: is(4),
            is_watching: is(5),
            is_aborted: is(6),
            replies,
            name,
            library,
            version,
            queue,
            unread,
            subscriptions,
            user,
        })
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) -> Option<()> {
    out.extend_from_slice(&u32::try_from(count).ok()?.to_be_bytes());
    Some(())
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    put_count(out, bytes.len())?;
    // A session with too much to take along is found out before it is copied.
    (out.len() + bytes.len() <= RECORD_MAX).then(|| out.extend_from_slice(bytes))
}

fn put_words(out: &mut Vec<u8>, words: &[Vec<u8>]) -> Option<()> {
    put_count(out, words.len())?;
    words.iter().try_for_each(|word| put(out, word))
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Error::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Error::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn count(&mut self) -> Result<usize, Error> {
        usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| Error::Value("length"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let count = self.count()?;
        self.take(count)
    }

    fn text(&mut self) -> Result<String, Error> {
        let bytes = self.bytes()?.to_vec();
        String::from_utf8(bytes).map_err(|_| Error::Value("name"))
    }

    fn address(&mut self) -> Result<SocketAddr, Error> {
        self.text()?.parse().map_err(|_| Error::Value("address"))
    }

    /// Counts are not believed: every element takes bytes that must be there.
    fn words(&mut self) -> Result<Vec<Vec<u8>>, Error> {
        let words = self.count()?;
        (0..words).map(|_| self.bytes().map(<[u8]>::to_vec)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session() -> Session {
        Session {
            client: "10.0.0.1:5".parse().unwrap(),
            frontend: "[2001:db8::1]:6379".parse().unwrap(),
            issued_ms: 1,
            nonce: 2,
            since_ms: 3,
            is_authenticated: true,
            is_denied: false,
            is_resp3: true,
            is_readonly: false,
            is_asking: true,
            is_watching: true,
            is_aborted: false,
            replies: Replies::Skip(1),
            name: "worker-1".into(),
            library: "redis-py".into(),
            version: "7".into(),
            queue: Some(vec![vec![b"SET".to_vec(), b"k".to_vec(), vec![0, 255]], vec![]]),
            unread: b"*1\r\n$4\r\nPI".to_vec(),
            subscriptions: Subscriptions::default(),
            user: String::new(),
        }
    }

    #[test]
    fn a_session_is_read_as_it_was_written() {
        let all = session();
        assert_eq!(Session::decode(&all.encode().unwrap()), Ok(all.clone()));
        for queue in [None, Some(vec![])] {
            let plain = Session { queue, replies: Replies::Off, ..all.clone() };
            assert_eq!(Session::decode(&plain.encode().unwrap()), Ok(plain));
        }
        let subscriptions =
            Subscriptions { shards: vec![b"s".to_vec(), vec![]], ..Subscriptions::default() };
        let subscriber = Session { subscriptions, ..all };
        assert_eq!(Session::decode(&subscriber.encode().unwrap()), Ok(subscriber));
    }

    /// A node that does not know users must not make such a session the default user's.
    #[test]
    fn the_session_of_a_user_has_a_format_of_its_own() {
        let record = |user: &str, channels: usize| {
            let channels = vec![b"c".to_vec(); channels];
            let subscriptions = Subscriptions { channels, ..Subscriptions::default() };
            let session = Session { user: user.into(), subscriptions, ..session() };
            let bytes = session.encode().unwrap();
            assert_eq!(Session::decode(&bytes), Ok(session));
            bytes
        };
        assert_eq!([record("", 0)[0], record("", 1)[0], record("ann", 0)[0]], [1, 2, 3]);
        let of_user = record("ann", 2);
        assert_eq!(of_user[0], 3);
        for cut in 0..of_user.len() {
            assert!(Session::decode(&of_user[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_record_that_was_cut_or_made_longer_is_none() {
        let bytes = session().encode().unwrap();
        for cut in 0..bytes.len() {
            assert!(Session::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        assert_eq!(Session::decode(&[&bytes[..], b"x"].concat()), Err(Error::Long));
        let mut other = bytes;
        other[0] = 9;
        assert_eq!(Session::decode(&other), Err(Error::Format(9)));
    }

    #[test]
    fn what_is_too_long_to_move_is_not_written() {
        let unread = |length| Session { unread: vec![0; length], ..session() };
        assert!(unread(RECORD_MAX).encode().is_none());
        assert!(unread(RECORD_MAX - 1_000).encode().is_some());
        let queue = Some(vec![vec![vec![0; 600_000]], vec![vec![0; 600_000]]]);
        assert!(Session { queue, ..session() }.encode().is_none());
        assert!(trailer(vec![0; RECORD_MAX + 1]).is_none());
    }

    #[test]
    fn a_trailer_is_found_behind_replies_and_nowhere_else() {
        let stream = [b"+OK\r\n".to_vec(), trailer(b"record".to_vec()).unwrap()].concat();
        assert_eq!(find(&stream), Some(5..11));
        assert_eq!(find(&stream[5..]), Some(0..6));
        assert_eq!(find(&stream[6..]), None, "the record is not all there");
        assert_eq!(find(b"+OK\r\n"), None);
        assert_eq!(find(b""), None);
        // A value that looks like one is followed by CR LF.
        assert_eq!(find(&[&stream[..], b"\r\n"].concat()), None);
        let endless = [&u32::MAX.to_be_bytes()[..], &MAGIC[..]].concat();
        assert_eq!(find(&endless), None);
    }

    #[test]
    fn a_mark_is_seen_as_it_comes_and_delays_no_command() {
        let mark = Mark::new(*b"\n0123456789abcde");
        assert!(!mark.bytes().contains(&b'\n'));
        let stream = [b"PING\r\n", &mark.bytes()[..]].concat();
        for seen in 0..=stream.len() {
            assert_eq!(mark.begun_in(&stream[..seen]), seen.saturating_sub(6), "{seen}");
        }
        // What looked like its beginning and goes on otherwise is the client's.
        assert_eq!(mark.begun_in(&[&stream[..10], b"\r\n"].concat()), 0);
        assert_eq!(mark.begun_in(&[&stream[6..10], &stream[6..8]].concat()), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            keep in 0usize..60,
            magic: bool,
        ) {
            let mut record = session().encode().unwrap();
            record.truncate(keep);
            record.append(&mut bytes);
            if magic {
                record.extend_from_slice(&MAGIC);
            }
            if let Some(range) = find(&record) {
                prop_assert!(range.end <= record.len());
            }
            if let Ok(read) = Session::decode(&record) {
                prop_assert_eq!(read.encode().unwrap(), record);
            }
        }

        #[test]
        fn whatever_it_holds_it_comes_back(
            words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..5),
            unread in proptest::collection::vec(any::<u8>(), 0..100),
            name in "[!-~]{0,20}",
            user in "[!-~]{0,20}",
            is_open: bool,
        ) {
            let queue = is_open.then(|| vec![words.clone(), words]);
            let session = Session { queue, unread, name, user, ..session() };
            let body = session.encode().unwrap();
            prop_assert_eq!(Session::decode(&body), Ok(session));
            let stream = [b"$1\r\nx\r\n".to_vec(), trailer(body.clone()).unwrap()].concat();
            prop_assert_eq!(find(&stream).map(|range| stream[range].to_vec()), Some(body));
        }
    }
}
