//! One connection's requests up to the point where data flows, strictly one request and one line of
//! answer at a time.

use super::event::{Action, Conn, Fault, Peer};
use super::{Config, State};
use crate::answer::{self, Answer};
use crate::files::{self, CheckpointId, LIST_BYTES_MAX, Wanted};
use crate::history::{History, Position};
use crate::wire::{LineReader, request};
use crate::{EXTENSION, EXTENSION_VERSION, GRANTED, HISTORY, LINEAGE, ReplicationId};

/// What the connection is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The stream, after the histories were compared.
    Psync { replication_id: Option<ReplicationId>, full_sync: bool },
    /// The file list.
    Meta,
    /// Some files.
    Files { checkpoint: Option<CheckpointId>, wanted: Vec<Wanted> },
}

/// The request whose answer is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Connect,
    Auth,
    DbName,
    Listening {
        with_address: bool,
    },
    Extension,
    /// `is_plain`: in the form that older versions know.
    History {
        is_plain: bool,
    },
    /// The histories were handed to the caller, which compares them.
    Compared,
    Member,
    Psync {
        with_id: bool,
    },
    Data,
}

/// What a dialog came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Go on.
    Pending,
    /// The master streams; what follows belongs to the stream.
    Streaming,
    /// The master's history, `None` if it keeps none. Go on with [`Dialog::psync_now`], or not.
    Compare(Option<Answer>),
    /// Partial sync is impossible. The text is the master's.
    Refused(String),
    /// The node must not try a partial sync; the master's identity is checked.
    FullSync,
    /// `_fetch_meta` or `_fetch_file` is sent; what follows is its answer.
    Data,
}

/// Longest answer to a request of the handshake.
const ANSWER_BYTES_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Dialog {
    pub(super) conn: Conn,
    purpose: Purpose,
    step: Step,
    pub(super) lines: LineReader,
    /// When patience ends.
    pub(super) deadline: u64,
    /// How long each answer may take.
    patience_ms: u64,
    /// What the master turned out to be.
    pub(super) peer: Peer,
    /// What the master said of its lineage where it is copied from: outside `None` before it was
    /// asked there.
    pub(super) copied: Option<Option<History>>,
    /// From which record on the stream was asked for.
    pub(super) asked: u64,
}

impl Dialog {
    /// Opens the connection. For file connections `peer` is what the first one found out.
    pub(super) fn open<'a>(
        conn: Conn,
        purpose: Purpose,
        peer: Peer,
        config: &Config,
        now: u64,
        out: &mut Vec<Action<'a>>,
    ) -> Self {
        out.push(Action::Connect(conn));
        let deadline = now.saturating_add(config.connect_timeout_ms);
        let patience_ms = config.connect_timeout_ms;
        let lines = LineReader::new(ANSWER_BYTES_MAX);
        let step = Step::Connect;
        Self { conn, purpose, step, lines, deadline, patience_ms, peer, copied: None, asked: 0 }
    }

    /// How long was waited when the deadline passed.
    pub(super) fn patience_ms(&self) -> u64 {
        self.patience_ms
    }

    /// The connection is open: the first request.
    pub(super) fn connected(
        &mut self,
        config: &Config,
        now: u64,
        out: &mut Vec<Action<'_>>,
    ) -> Outcome {
        if self.step != Step::Connect {
            return Outcome::Pending;
        }
        match &config.password {
            Some(password) => {
                self.ask(Step::Auth, request(&[b"AUTH", password]), config, now, out);
                Outcome::Pending
            }
            None => self.authenticated(config, now, out),
        }
    }

    /// Takes bytes until the dialog is over or the input is used up.
    pub(super) fn received(
        &mut self,
        input: &mut &[u8],
        config: &Config,
        now: u64,
        out: &mut Vec<Action<'_>>,
    ) -> Result<Outcome, Fault> {
        while !input.is_empty() {
            let Some(line) = self.lines.read(input)? else { break };
            let outcome = self.answer(&line, config, now, out)?;
            if outcome != Outcome::Pending {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Pending)
    }

    fn answer(
        &mut self,
        line: &[u8],
        config: &Config,
        now: u64,
        out: &mut Vec<Action<'_>>,
    ) -> Result<Outcome, Fault> {
        let text = String::from_utf8_lossy(line);
        let refused = |request| Err(Fault::Refused { request, reply: text.to_string() });
        match self.step {
            Step::Connect | Step::Compared | Step::Data => refused("a connection"),
            Step::Auth if line == b"+OK" => Ok(self.authenticated(config, now, out)),
            Step::Auth => refused("AUTH"),
            Step::DbName if line.starts_with(b"-") => refused("_db_name"),
            Step::DbName if line != config.db_name.as_bytes() => Err(Fault::OtherDatabase {
                theirs: text.into_owned(),
                ours: config.db_name.clone(),
            }),
            Step::DbName => {
                self.listening(config.announce_ip.is_some(), config, now, out);
                Ok(Outcome::Pending)
            }
            Step::Listening { with_address: true } if is_unknown_option(line) => {
                self.listening(false, config, now, out);
                Ok(Outcome::Pending)
            }
            Step::Listening { .. } if line.starts_with(b"-LOADING") => refused("REPLCONF"),
            // Any other error only means that the master shows no address of this replica.
            Step::Listening { .. } => Ok(self.offer(config, now, out)),
            Step::Extension => self.offered(line == b"+OK", &text, config, now, out),
            Step::History { is_plain: false } if is_unknown_option(line) => {
                self.history(true, config, now, out);
                Ok(Outcome::Pending)
            }
            Step::History { .. } if is_unknown_option(line) => self.shown(None, config, now, out),
            Step::History { .. } => match line.strip_prefix(b"+").map(Answer::parse) {
                Some(Ok(answer)) => self.shown(Some(answer), config, now, out),
                _ => refused("REPLCONF history"),
            },
            // A master of a version without members needs nothing.
            Step::Member => Ok(self.data(config, now, out)),
            Step::Psync { .. } if line.starts_with(b"+") => Ok(Outcome::Streaming),
            Step::Psync { with_id: true } if line == b"-ERR wrong number of arguments" => {
                self.psync(false, config, now, out);
                Ok(Outcome::Pending)
            }
            // Other codes (LOADING, NOAUTH, NOPERM) say "not now" or "not you", not "other
            // history".
            Step::Psync { .. } if line.starts_with(b"-ERR ") => {
                Ok(Outcome::Refused(text.into_owned()))
            }
            Step::Psync { .. } => refused("PSYNC"),
        }
    }

    fn authenticated(&mut self, config: &Config, now: u64, out: &mut Vec<Action<'_>>) -> Outcome {
        match (&self.purpose, self.peer) {
            (Purpose::Psync { .. }, _) => {
                self.ask(Step::DbName, request(&[b"_db_name"]), config, now, out);
                Outcome::Pending
            }
            (_, Peer::Holdfast) => self.offer(config, now, out),
            (_, Peer::Kvrocks) => self.data(config, now, out),
        }
    }

    fn listening(
        &mut self,
        with_address: bool,
        config: &Config,
        now: u64,
        out: &mut Vec<Action<'_>>,
    ) {
        let port = config.announce_port.to_string();
        let mut args: Vec<&[u8]> = vec![b"replconf", b"listening-port", port.as_bytes()];
        if let Some(address) = config.announce_ip.as_ref().filter(|_| with_address) {
            args.extend([b"ip-address".as_slice(), address.as_bytes()]);
        }
        self.ask(Step::Listening { with_address }, request(&args), config, now, out);
    }

    fn offer(&mut self, config: &Config, now: u64, out: &mut Vec<Action<'_>>) -> Outcome {
        if !config.offer_extension {
            self.peer = Peer::Kvrocks;
            return self.data(config, now, out);
        }
        let args = [b"replconf".as_slice(), EXTENSION.as_bytes(), EXTENSION_VERSION.as_bytes()];
        self.ask(Step::Extension, request(&args), config, now, out);
        Outcome::Pending
    }

    fn offered(
        &mut self,
        accepted: bool,
        text: &str,
        config: &Config,
        now: u64,
        out: &mut Vec<Action<'_>>,
    ) -> Result<Outcome, Fault> {
        // On a file connection the form was agreed upon before; the master is another one now.
        if !accepted && !matches!(self.purpose, Purpose::Psync { .. }) {
            return Err(Fault::Refused { request: "REPLCONF", reply: text.to_owned() });
        }
        self.peer = if accepted { Peer::Holdfast } else { Peer::Kvrocks };
        let is_named = match self.purpose {
            Purpose::Psync { full_sync, .. } => !full_sync,
            // A master that counts this data in its set does not let it be replaced.
            Purpose::Meta => self.is_asked(),
            Purpose::Files { .. } => false,
        };
        match config.member.as_ref().filter(|_| accepted && is_named) {
            Some(member) => {
                let words = [b"replconf".as_slice(), b"member", member.as_bytes()];
                self.ask(Step::Member, request(&words), config, now, out);
                Ok(Outcome::Pending)
            }
            None => Ok(self.data(config, now, out)),
        }
    }

    /// The request all this was for.
    fn data(&mut self, config: &Config, now: u64, out: &mut Vec<Action<'_>>) -> Outcome {
        let bytes = match &self.purpose {
            Purpose::Psync { full_sync: true, .. } if config.history.is_empty() => {
                return Outcome::FullSync;
            }
            Purpose::Psync { .. } if self.peer == Peer::Kvrocks => return self.compare(None),
            Purpose::Psync { .. } => {
                self.history(false, config, now, out);
                return Outcome::Pending;
            }
            Purpose::Meta if self.is_asked() => {
                self.history(false, config, now, out);
                return Outcome::Pending;
            }
            Purpose::Meta => request(&[b"_fetch_meta"]),
            Purpose::Files { checkpoint, wanted } => files::fetch(checkpoint.as_ref(), wanted),
        };
        self.lines = LineReader::new(LIST_BYTES_MAX);
        self.ask(Step::Data, bytes, config, now, out);
        Outcome::Data
    }

    /// Data of an epoch is given up only for a master that shows a grant, which is looked at once
    /// more where it is copied from; and the copy is of the lineage that is told there.
    fn is_asked(&self) -> bool {
        self.peer == Peer::Holdfast && self.copied.is_none()
    }

    fn history(&mut self, is_plain: bool, config: &Config, now: u64, out: &mut Vec<Action<'_>>) {
        let position =
            Position { history: (*config.history).clone(), latest: config.next.saturating_sub(1) };
        let (position, lineage) = (position.to_string(), config.lineage.history().to_string());
        let mut args: Vec<&[u8]> = vec![b"replconf", HISTORY, position.as_bytes()];
        if !is_plain {
            args.extend([GRANTED, b"?", LINEAGE, lineage.as_bytes()]);
        }
        self.lines = LineReader::new(answer::ANSWER_BYTES_MAX + 1);
        self.ask(Step::History { is_plain }, request(&args), config, now, out);
    }

    /// The master's answer is known.
    fn shown(
        &mut self,
        theirs: Option<Answer>,
        config: &Config,
        now: u64,
        out: &mut Vec<Action<'_>>,
    ) -> Result<Outcome, Fault> {
        let cluster = theirs.as_ref().and_then(|theirs| theirs.cluster.as_ref());
        if let Some((ours, theirs)) = config.cluster.as_ref().zip(cluster)
            && ours != theirs
        {
            let (theirs, ours) = (theirs.clone(), ours.clone());
            return Err(Fault::OtherCluster { theirs, ours });
        }
        if matches!(self.purpose, Purpose::Psync { .. }) {
            return Ok(self.compare(theirs));
        }
        if let Some(newest) = config.history.newest()
            && !theirs.as_ref().is_some_and(|theirs| theirs.shows(newest))
        {
            return Err(Fault::no_grant(newest.epoch, theirs.as_ref()));
        }
        self.copied = Some(theirs.and_then(|theirs| theirs.lineage));
        Ok(self.data(config, now, out))
    }

    fn compare(&mut self, theirs: Option<Answer>) -> Outcome {
        self.step = Step::Compared;
        Outcome::Compare(theirs)
    }

    /// The comparison allows a partial sync: asks for it.
    pub(super) fn psync_now(&mut self, config: &Config, now: u64, out: &mut Vec<Action<'_>>) {
        if let Purpose::Psync { replication_id, .. } = &self.purpose {
            self.psync(replication_id.is_some(), config, now, out);
        }
    }

    fn psync(&mut self, with_id: bool, config: &Config, now: u64, out: &mut Vec<Action<'_>>) {
        let Purpose::Psync { replication_id, .. } = &self.purpose else { return };
        self.asked = config.next;
        let next = config.next.to_string();
        let mut args: Vec<&[u8]> = vec![b"PSYNC"];
        args.extend(replication_id.as_ref().filter(|_| with_id).map(|id| id.as_slice()));
        args.push(next.as_bytes());
        let bytes = request(&args);
        self.ask(Step::Psync { with_id }, bytes, config, now, out);
    }

    fn ask(
        &mut self,
        step: Step,
        bytes: Vec<u8>,
        config: &Config,
        now: u64,
        out: &mut Vec<Action<'_>>,
    ) {
        // Opening the WAL at a position and making a checkpoint take the master longer than a plain
        // answer.
        self.patience_ms = match step {
            Step::Data | Step::Psync { .. } => config.transfer_timeout_ms,
            _ => config.connect_timeout_ms,
        };
        self.step = step;
        self.deadline = now.saturating_add(self.patience_ms);
        out.push(Action::Send { conn: self.conn, bytes });
    }

    /// What the link is doing while this dialog runs.
    pub(super) fn state(&self) -> State {
        if matches!(self.purpose, Purpose::Psync { .. }) { State::Connecting } else { State::Sync }
    }
}

fn is_unknown_option(line: &[u8]) -> bool {
    line == b"-ERR unknown option"
}
