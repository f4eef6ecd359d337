//! The replica's side: from a master's address to an up-to-date copy, for ever.
//!
//! One attempt = a connection with AUTH, `_db_name`, `replconf`, `PSYNC`; then the stream, or a
//! full sync over further connections and another attempt. A failed attempt is followed by the next
//! one after a delay of 50 ms doubling to 5 s.
//!
//! Invariant: batches are handed out for application only in unbroken sequence, and acknowledged
//! only after the driver said that they are in the database. A node that must not trust its own
//! data never sends `PSYNC` before a full sync.

mod compare;
mod config;
mod copy;
mod dialog;
mod download;
mod event;
mod judgement;
mod stream;

#[cfg(test)]
mod capture_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod tests;

pub use config::{Config, Options};
pub use event::{Action, Blame, Conn, Event, Fault, Held, Part, Peer, Progress, Reason, State};

use std::sync::Arc;

use crate::backoff::Backoff;
use crate::files::{FileList, ListReader};
use crate::history::{EpochId, History};
use crate::lineage::Lineage;
use crate::wire::Stamp;
use config::{COPIES_MS, FULL_MS};
use dialog::{Dialog, Outcome, Purpose};
use download::Download;
use stream::Stream;

#[derive(Debug)]
enum Phase {
    /// Nothing open; the next attempt at this time, or at `Start`.
    Idle {
        retry_at: Option<u64>,
    },
    /// Up to the answer to `PSYNC`.
    Handshake(Dialog),
    Streaming(Stream),
    /// Up to the end of the file list.
    Listing {
        dialog: Dialog,
        is_asked: bool,
        list: ListReader,
    },
    /// The driver prepares the folder.
    Preparing(FileList),
    Downloading {
        download: Download,
        sequence: u64,
    },
    /// The driver swaps the database.
    Swapping {
        sequence: u64,
    },
    /// The driver cuts the database off behind this record.
    Rewinding(u64),
}

/// The replica's link to its master. See the module's page.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    backoff: Backoff,
    /// Between copies that turn out to be of no use.
    copies: Backoff,
    phase: Phase,
    conns: u32,
    peer: Peer,
    reported: Option<State>,
    /// The last comparison found data here that the master has not.
    is_parted: bool,
    /// A rewind to this fork turned out to be impossible.
    unrewindable: Option<u64>,
    /// The present master was streamed or copied from, and is a Kvrocks.
    is_proven: bool,
    /// Since when the master's epoch is awaited.
    waiting_since: Option<u64>,
    /// What the master said of its lineage when it was last asked: outside `None` before that,
    /// inside if it keeps none.
    their_lineage: Option<Option<History>>,
    /// Up to where the master had written when it was last asked, if it told.
    their_latest: Option<u64>,
    /// The master told epochs when it was last asked.
    has_epochs: bool,
    /// This process is about to end.
    is_leaving: bool,
}

impl Machine {
    /// A machine that waits for [`Event::Start`]; `seed` spreads the retries of many replicas.
    pub fn new(config: Config, seed: u64) -> Self {
        let backoff = Backoff::new(config.retry_ms.0, config.retry_ms.1, seed);
        let phase = Phase::Idle { retry_at: None };
        Self {
            config,
            backoff,
            copies: Backoff::new(COPIES_MS.0, COPIES_MS.1, seed),
            phase,
            conns: 0,
            peer: Peer::Kvrocks,
            reported: None,
            is_parted: false,
            unrewindable: None,
            is_proven: false,
            waiting_since: None,
            their_lineage: None,
            their_latest: None,
            has_epochs: false,
            is_leaving: false,
        }
    }

    /// Takes one event; `now` never goes back.
    pub fn step<'a>(&mut self, event: Event<'a>, now: u64) -> Vec<Action<'a>> {
        let mut out = Vec::new();
        if let Err(fault) = self.take(event, now, &mut out) {
            self.fail(fault, now, &mut out);
        }
        self.report(&mut out);
        out
    }

    /// When to send [`Event::Tick`], if nothing else happens before.
    pub fn deadline(&self) -> Option<u64> {
        match &self.phase {
            Phase::Idle { retry_at } => *retry_at,
            Phase::Handshake(dialog) | Phase::Listing { dialog, .. } => Some(dialog.deadline),
            Phase::Streaming(stream) => {
                Some(stream.ack_deadline().map_or(stream.deadline, |at| at.min(stream.deadline)))
            }
            Phase::Downloading { download, .. } => download.deadline().map(|(at, _)| at),
            Phase::Preparing(_) | Phase::Swapping { .. } | Phase::Rewinding(_) => None,
        }
    }

    /// State for ROLE and INFO.
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Idle { .. } => State::Connecting,
            Phase::Handshake(dialog) | Phase::Listing { dialog, .. } => dialog.state(),
            Phase::Streaming(_) => State::Connected,
            Phase::Preparing(_)
            | Phase::Downloading { .. }
            | Phase::Swapping { .. }
            | Phase::Rewinding(_) => State::Sync,
        }
    }

    /// How far a full sync is, while its files come.
    pub fn progress(&self) -> Option<Progress> {
        match &self.phase {
            Phase::Downloading { download, .. } => Some(download.progress()),
            _ => None,
        }
    }

    /// What the master is, as far as known.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Is a full sync due before the data here may be trusted, whatever master it is?
    pub fn must_full_sync(&self) -> bool {
        self.config.must_full_sync
    }

    /// May the data here hold what the master has not? Not any more once its stream is accepted.
    pub fn is_distrusted(&self) -> bool {
        self.config.must_full_sync || self.config.is_deposed || self.is_parted
    }

    /// Tells the current epochs and lineage of the data here and the number of its newest record.
    /// Needed before every step outside the stream: a replica may have been written to meanwhile.
    pub fn know(&mut self, history: Arc<History>, lineage: Arc<Lineage>, latest: u64) {
        (self.config.history, self.config.lineage) = (history, lineage);
        self.config.next = latest.saturating_add(1);
    }

    /// Which nodes wrote the data that is copied. The inner `None`: the master keeps no lineage;
    /// the outer one: that cannot be known.
    pub fn copied_lineage(&self) -> Option<Option<&History>> {
        let theirs = self.their_lineage.as_ref().map(Option::as_ref)?;
        // An earlier Holdfast keeps none, and begins one when it is upgraded.
        (theirs.is_some() || self.peer == Peer::Kvrocks).then_some(theirs)
    }

    /// Goes by other options from now on: each attempt, and each wait for an answer, uses the
    /// newest. An open stream stays open.
    pub fn set_options(&mut self, options: Options) {
        let Options {
            password,
            announce_port,
            announce_ip,
            epoch_patience_ms,
            connect_timeout_ms,
            receive_timeout_ms,
        } = options;
        let config = &mut self.config;
        (config.password, config.announce_port, config.announce_ip) =
            (password, announce_port, announce_ip);
        config.epoch_patience_ms = epoch_patience_ms;
        (config.connect_timeout_ms, config.receive_timeout_ms) =
            (connect_timeout_ms, receive_timeout_ms);
    }

    /// The newest epoch in the database: acknowledgements name it from now on. To be said before
    /// [`Event::Applied`].
    pub fn set_epoch(&mut self, epoch: Option<EpochId>) {
        self.config.epoch = epoch;
        if let Phase::Streaming(stream) = &mut self.phase {
            stream.epoch = epoch;
        }
    }

    /// What the data here is called from now on; to be said before [`Event::Swapped`].
    pub fn set_member(&mut self, member: Option<String>) {
        self.config.member = member;
    }

    /// The stamp of [`Action::Pinged`] may go back: this node has promised what that means. It
    /// leaves with the next [`Event::Tick`].
    pub fn echo(&mut self, stamp: Stamp) {
        if let Phase::Streaming(stream) = &mut self.phase {
            stream.echo(stamp);
        }
    }

    fn take<'a>(
        &mut self,
        event: Event<'a>,
        now: u64,
        out: &mut Vec<Action<'a>>,
    ) -> Result<(), Fault> {
        match event {
            Event::Start => {
                if matches!(self.phase, Phase::Idle { retry_at: None }) {
                    self.attempt(now, out);
                }
                Ok(())
            }
            Event::Retry => {
                self.forget_delays();
                if matches!(self.phase, Phase::Idle { retry_at: Some(_) }) {
                    self.attempt(now, out);
                }
                Ok(())
            }
            Event::Leave => {
                self.is_leaving = true;
                if let Phase::Streaming(stream) = &mut self.phase {
                    stream.leave(out);
                }
                Ok(())
            }
            Event::Tick => self.tick(now, out),
            Event::Connected(conn) => self.connected(conn, now, out),
            Event::Closed { conn, cause } if self.is_open(conn) => Err(Fault::Closed(cause)),
            Event::Closed { .. } => Ok(()),
            Event::Received { conn, bytes } if self.is_open(conn) => {
                self.received(conn, bytes, now, out)
            }
            Event::Received { .. } => Ok(()),
            Event::Applied { next } => self.applied(next, now, out),
            Event::Diverged { next } => Err(self.diverged(next)),
            Event::ApplyFailed { next, cause } => {
                self.config.next = next;
                Err(Fault::Local(cause))
            }
            Event::Prepared { held } => {
                self.download(&held, now, out);
                Ok(())
            }
            Event::FileFailed { cause, is_full } => match self.phase {
                // With its last file a download orders the swap, which the driver leaves out then.
                Phase::Preparing(_) | Phase::Downloading { .. } | Phase::Swapping { .. } => {
                    Err(if is_full { Fault::Full(cause) } else { Fault::Local(cause) })
                }
                _ => Ok(()),
            },
            Event::Swapped { next, replication_id } => self.swapped(next, replication_id, now, out),
            Event::SwapFailed { cause } => Err(Fault::Unusable(cause)),
            Event::Rewound { next } => {
                self.config.next = next;
                self.attempt(now, out);
                Ok(())
            }
            Event::RewindImpossible { cause, is_spoilt } => {
                if let Phase::Rewinding(fork) = self.phase {
                    self.unrewindable = Some(fork);
                }
                self.config.must_full_sync |= is_spoilt;
                self.full_sync(Reason::Unrewindable(cause), now, out);
                Ok(())
            }
            Event::RewindFailed { cause } => Err(Fault::Local(cause)),
        }
    }

    fn next_conn(&mut self) -> Conn {
        self.conns = self.conns.wrapping_add(1);
        Conn(self.conns)
    }

    fn open_conns(&self) -> Vec<Conn> {
        match &self.phase {
            Phase::Handshake(dialog) | Phase::Listing { dialog, .. } => vec![dialog.conn],
            Phase::Streaming(stream) => vec![stream.conn],
            Phase::Downloading { download, .. } => download.conns().collect(),
            Phase::Idle { .. }
            | Phase::Preparing(_)
            | Phase::Swapping { .. }
            | Phase::Rewinding(_) => Vec::new(),
        }
    }

    fn is_open(&self, conn: Conn) -> bool {
        self.open_conns().contains(&conn)
    }

    fn attempt(&mut self, now: u64, out: &mut Vec<Action<'_>>) {
        let conn = self.next_conn();
        let purpose = Purpose::Psync {
            replication_id: self.config.replication_id,
            full_sync: self.config.must_full_sync,
        };
        let dialog = Dialog::open(conn, purpose, Peer::Kvrocks, &self.config, now, out);
        self.phase = Phase::Handshake(dialog);
    }

    fn connected(&mut self, conn: Conn, now: u64, out: &mut Vec<Action<'_>>) -> Result<(), Fault> {
        let config = &self.config;
        match &mut self.phase {
            Phase::Handshake(dialog) if dialog.conn == conn => {
                dialog.connected(config, now, out);
            }
            Phase::Listing { dialog, is_asked, .. } if dialog.conn == conn => {
                *is_asked |= dialog.connected(config, now, out) == Outcome::Data;
            }
            Phase::Downloading { download, .. } => download.connected(conn, config, now, out),
            _ => {}
        }
        Ok(())
    }

    fn received<'a>(
        &mut self,
        conn: Conn,
        mut input: &'a [u8],
        now: u64,
        out: &mut Vec<Action<'a>>,
    ) -> Result<(), Fault> {
        match &mut self.phase {
            Phase::Handshake(dialog) => {
                let outcome = dialog.received(&mut input, &self.config, now, out)?;
                self.peer = dialog.peer;
                let asked = dialog.asked;
                match outcome {
                    Outcome::Pending | Outcome::Data => Ok(()),
                    Outcome::Refused(text) => {
                        self.full_sync(Reason::Refused(text), now, out);
                        Ok(())
                    }
                    Outcome::FullSync => {
                        self.full_sync(Reason::Required, now, out);
                        Ok(())
                    }
                    Outcome::Compare(theirs) => {
                        self.compare(theirs.as_ref(), now, out)?;
                        // The master answers one request at a time: there is nothing more, unless
                        // it is none.
                        if input.is_empty() { Ok(()) } else { self.received(conn, input, now, out) }
                    }
                    // Written to while the answer was on its way.
                    Outcome::Streaming if asked != self.config.next => {
                        let found = self.config.next;
                        self.config.next = asked;
                        Err(self.diverged(found))
                    }
                    Outcome::Streaming => {
                        let is_kvrocks = self.peer == Peer::Kvrocks;
                        (self.config.is_deposed, self.is_proven) = (false, is_kvrocks);
                        let next = self.config.next;
                        let mut stream = Stream::new(conn, self.peer, next, &self.config, now);
                        if self.is_leaving {
                            stream.leave(out);
                        }
                        self.phase = Phase::Streaming(stream);
                        self.adopt(out);
                        self.stream(input, now, out)
                    }
                }
            }
            Phase::Streaming(_) => self.stream(input, now, out),
            Phase::Listing { .. } => self.listed(conn, input, now, out),
            Phase::Downloading { download, sequence } => {
                download.received(conn, input, &self.config, now, out)?;
                if download.is_done() {
                    self.phase = Phase::Swapping { sequence: *sequence };
                    out.push(Action::Swap);
                }
                Ok(())
            }
            Phase::Idle { .. }
            | Phase::Preparing(_)
            | Phase::Swapping { .. }
            | Phase::Rewinding(_) => Ok(()),
        }
    }

    fn stream<'a>(
        &mut self,
        input: &'a [u8],
        now: u64,
        out: &mut Vec<Action<'a>>,
    ) -> Result<(), Fault> {
        let Phase::Streaming(stream) = &mut self.phase else { return Ok(()) };
        let result = stream.received(input, &self.config, now, out);
        self.config.next = stream.next;
        if stream.is_alive {
            self.backoff.reset();
        }
        stream.acknowledge(now, out);
        result
    }

    fn applied(&mut self, next: u64, now: u64, out: &mut Vec<Action<'_>>) -> Result<(), Fault> {
        if self.config.next != next {
            return Err(self.diverged(next));
        }
        if let Phase::Streaming(stream) = &mut self.phase {
            stream.applied();
            stream.acknowledge(now, out);
        }
        Ok(())
    }

    /// Two histories under the same numbers: only a copy of the master's data helps.
    fn diverged(&mut self, found: u64) -> Fault {
        let expected = std::mem::replace(&mut self.config.next, found);
        self.config.must_full_sync = true;
        Fault::Diverged { expected, found }
    }

    fn tick(&mut self, now: u64, out: &mut Vec<Action<'_>>) -> Result<(), Fault> {
        match &mut self.phase {
            Phase::Idle { retry_at: Some(at) } if *at <= now => {
                self.attempt(now, out);
                Ok(())
            }
            Phase::Handshake(dialog) | Phase::Listing { dialog, .. } if dialog.deadline <= now => {
                Err(Fault::TimedOut(dialog.patience_ms()))
            }
            Phase::Streaming(stream) if stream.deadline <= now => {
                Err(Fault::TimedOut(self.config.receive_timeout_ms))
            }
            Phase::Streaming(stream) => {
                stream.acknowledge(now, out);
                Ok(())
            }
            Phase::Downloading { download, .. } => match download.deadline() {
                Some((at, patience_ms)) if at <= now => Err(Fault::TimedOut(patience_ms)),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Gives the attempt up and plans the next one.
    fn fail(&mut self, fault: Fault, now: u64, out: &mut Vec<Action<'_>>) {
        out.extend(self.open_conns().into_iter().map(Action::Close));
        let retry_ms = match fault {
            // The master keeps the files meanwhile, and lists them each time.
            Fault::Full(_) => FULL_MS,
            Fault::Unusable(_) | Fault::ShortCopy { .. } => self.copies.next_delay_ms(),
            _ => self.backoff.next_delay_ms(),
        };
        self.phase = Phase::Idle { retry_at: Some(now.saturating_add(retry_ms)) };
        out.push(Action::Failed { fault, retry_ms });
    }

    fn report(&mut self, out: &mut Vec<Action<'_>>) {
        let state = self.state();
        if self.reported != Some(state) {
            self.reported = Some(state);
            out.push(Action::Report(state));
        }
    }
}
