//! The stream after `PSYNC`: batches, heartbeats, requests for an acknowledgement; and when to
//! acknowledge.

use super::Config;
use super::event::{Action, Conn, Fault, Peer};
use crate::history::EpochId;
use crate::wire::{self, BatchHead, BulkReader, GETACK_PAYLOAD, Leave, PING_PAYLOAD, Stamp};

/// Least time between unasked acknowledgements to Kvrocks, as Kvrocks' own replicas keep; longest
/// one to a Holdfast that sends.
const ACK_INTERVAL_MS: u64 = 1000;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) conn: Conn,
    peer: Peer,
    /// The master was told which member this is, or would not hear it: either way it reads the
    /// longer acknowledgement.
    is_member: bool,
    /// Newest epoch in the database.
    pub(super) epoch: Option<EpochId>,
    echo: Option<Stamp>,
    /// The master was told that this process is about to end.
    has_said_leave: bool,
    bulks: BulkReader,
    /// Sequence of the next batch.
    pub(super) next: u64,
    /// When silence has lasted too long.
    pub(super) deadline: u64,
    /// Has anything come? Only then was the attempt worth something.
    pub(super) is_alive: bool,
    /// Batches were handed out whose `Applied` is not in yet.
    is_applying: bool,
    /// An acknowledgement was asked for.
    is_ack_owed: bool,
    acked: Option<u64>,
    ack_at: u64,
}

impl Stream {
    pub(super) fn new(conn: Conn, peer: Peer, next: u64, config: &Config, now: u64) -> Self {
        Self {
            conn,
            peer,
            is_member: peer == Peer::Holdfast && config.member.is_some(),
            epoch: config.epoch,
            echo: None,
            has_said_leave: false,
            bulks: BulkReader::new(config.batch_bytes_max),
            next,
            deadline: now.saturating_add(config.receive_timeout_ms),
            is_alive: false,
            is_applying: false,
            is_ack_owed: true,
            acked: None,
            ack_at: now,
        }
    }

    /// Takes all of `input`. Batches that came before a fault are good and are applied.
    pub(super) fn received<'a>(
        &mut self,
        mut input: &'a [u8],
        config: &Config,
        now: u64,
        out: &mut Vec<Action<'a>>,
    ) -> Result<(), Fault> {
        self.deadline = now.saturating_add(config.receive_timeout_ms);
        while !input.is_empty() {
            let Some(payload) = self.bulks.read(&mut input)? else { break };
            self.is_alive = true;
            match &*payload {
                // An answer to each heartbeat shows a Holdfast master that this end still applies.
                PING_PAYLOAD => self.is_ack_owed |= self.peer == Peer::Holdfast,
                GETACK_PAYLOAD => self.is_ack_owed = true,
                stamp if self.is_member && Stamp::parse_ping(stamp).is_some() => {
                    self.is_ack_owed = true;
                    self.echo = None;
                    out.extend(Stamp::parse_ping(stamp).map(Action::Pinged));
                }
                word if self.has_said_leave && Leave::parse(word).is_some() => {
                    out.extend(Leave::parse(word).map(Action::Leaves));
                }
                batch => {
                    let head = BatchHead::parse(batch)?;
                    // RocksDB ignores the sequence in the batch: a gap would shift all that
                    // follows, silently.
                    if head.sequence != self.next {
                        return Err(Fault::Gap { expected: self.next, found: head.sequence });
                    }
                    self.next = head.next();
                    self.is_applying = true;
                    out.push(Action::Apply(payload));
                }
            }
        }
        // A large batch may be long on its way, and the pings wait behind it: its master hears
        // meanwhile that this end is there.
        self.is_ack_owed |= self.peer == Peer::Holdfast && now >= self.ack_at;
        Ok(())
    }

    /// Returns the master's clock with the acknowledgements until it sends it again: each of them
    /// may take the place of one that was not sent yet.
    pub(super) fn echo(&mut self, stamp: Stamp) {
        self.echo = Some(stamp);
        self.is_ack_owed = true;
    }

    /// Asks the master to count on this replica no more, once. One that knows no members has no
    /// sets; to Kvrocks nothing is sent that it does not know.
    pub(super) fn leave(&mut self, out: &mut Vec<Action<'_>>) {
        if self.has_said_leave {
            return;
        }
        self.has_said_leave = true;
        if self.is_member {
            out.push(Action::Send { conn: self.conn, bytes: wire::leaving() });
            out.push(Action::Leaves(Leave::Told));
        } else {
            out.push(Action::Leaves(Leave::Gone));
        }
    }

    /// The batches handed out are in the database.
    pub(super) fn applied(&mut self) {
        self.is_applying = false;
    }

    /// Acknowledges, if it is time to and nothing is on its way into the database.
    pub(super) fn acknowledge(&mut self, now: u64, out: &mut Vec<Action<'_>>) {
        if self.is_applying || self.ack_deadline().is_none_or(|at| at > now) {
            return;
        }
        let sequence = self.next.saturating_sub(1);
        let bytes = if self.is_member {
            wire::ack_of_member(sequence, self.epoch, self.echo)
        } else {
            wire::ack(sequence)
        };
        out.push(Action::SendAck { conn: self.conn, bytes });
        self.is_ack_owed = false;
        self.acked = Some(sequence);
        self.ack_at = now.saturating_add(ACK_INTERVAL_MS);
    }

    /// When the next acknowledgement is due, if one is.
    pub(super) fn ack_deadline(&self) -> Option<u64> {
        if self.is_applying {
            return None;
        }
        let is_news = self.acked != Some(self.next.saturating_sub(1));
        if self.is_ack_owed || (is_news && self.peer == Peer::Holdfast) {
            return Some(0);
        }
        is_news.then_some(self.ack_at)
    }
}
