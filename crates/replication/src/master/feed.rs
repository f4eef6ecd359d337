//! What one replica is sent: framed batches in sequence, heartbeats when idle; and what it
//! acknowledged.

use super::acks::{Ack, AckReader};
use super::replconf::Replconf;
use crate::history::EpochId;
use crate::wire::{self, BatchHead, Leave, Malformed, Stamp};

/// Times and limits of a feed.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Longest silence towards the replica, in milliseconds. Kvrocks waits 2 s; 200 ms lets a
    /// replica bear witness that its master is alive.
    pub ping_interval_ms: u64,
    /// Enough for one write to the socket, in bytes. What is published is sent at once; this only
    /// bounds a group.
    pub group_bytes_max: usize,
    /// `max-replication-lag`: a replica further behind is dropped (it can come back); in sequences.
    pub lag_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { ping_interval_ms: 200, group_bytes_max: 256 << 10, lag_max: 100_000_000 }
    }
}

/// Why a replica is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The WAL goes on elsewhere than where the replica is.
    #[error("WAL goes on at {found}, the replica needs {expected}")]
    Discrete {
        /// Sequence the replica needs.
        expected: u64,
        /// Sequence found.
        found: u64,
    },
    /// A batch of the WAL, or what the replica sent, is no such thing.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The replica acknowledges what it was never sent.
    #[error("replica acknowledges {acked}, it was sent up to {sent}")]
    AheadOfMaster {
        /// What it claims to have.
        acked: u64,
        /// What it can have.
        sent: u64,
    },
    /// The replica is further behind than allowed.
    #[error("replica is {lag} sequences behind")]
    Lag {
        /// How far.
        lag: u64,
    },
}

/// One replica's feed.
#[derive(Debug)]
pub struct Feed {
    config: Config,
    next: u64,
    acked: Option<u64>,
    acks: AckReader,
    epoch: Option<EpochId>,
    echo: Option<Stamp>,
    /// What a replica that leaves was answered last.
    leave: Option<Leave>,
    ping_at: u64,
    stamp_at: u64,
    /// What the replica said of itself.
    pub replica: Replconf,
}

impl Feed {
    /// Goes by other times and limits from now on.
    pub fn set_config(&mut self, config: Config) {
        let moved = |at: u64| {
            let since = at.saturating_sub(self.config.ping_interval_ms);
            since.saturating_add(config.ping_interval_ms)
        };
        (self.ping_at, self.stamp_at) = (moved(self.ping_at), moved(self.stamp_at));
        self.config = config;
    }

    /// A feed that was accepted at `next`.
    pub fn new(config: Config, replica: Replconf, next: u64, now: u64) -> Self {
        let ping_at = now.saturating_add(config.ping_interval_ms);
        Self {
            config,
            next,
            acked: None,
            acks: AckReader::default(),
            epoch: None,
            echo: None,
            leave: None,
            ping_at,
            stamp_at: now,
            replica,
        }
    }

    /// Sequence of the next batch to send.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Sequence for INFO and ROLE: acknowledged, or – from replicas that do not say – sent.
    pub fn offset(&self) -> u64 {
        self.acked.unwrap_or(self.next.saturating_sub(1))
    }

    /// Newest sequence acknowledged as applied.
    pub fn acked(&self) -> Option<u64> {
        self.acked
    }

    /// Newest epoch it has applied, as its last acknowledgement said.
    pub fn epoch(&self) -> Option<EpochId> {
        self.epoch
    }

    /// A stamp of the master's clock that came back since the last call.
    pub fn take_echo(&mut self) -> Option<Stamp> {
        self.echo.take()
    }

    /// Appends a batch to the group in `out`.
    pub fn batch(&mut self, batch: &[u8], now: u64, out: &mut Vec<u8>) -> Result<(), Fault> {
        let head = BatchHead::parse(batch)?;
        if head.sequence != self.next {
            return Err(Fault::Discrete { expected: self.next, found: head.sequence });
        }
        wire::bulk(batch, out);
        self.next = head.next();
        self.sent(now);
        Ok(())
    }

    /// Is the group in `out` large enough to be written before more is added?
    pub fn is_full(&self, out: &[u8]) -> bool {
        out.len() >= self.config.group_bytes_max
    }

    /// A heartbeat, when nothing was sent for the interval.
    pub fn ping(&mut self, now: u64, out: &mut Vec<u8>) {
        if now >= self.ping_at {
            out.extend_from_slice(wire::PING);
            self.sent(now);
        }
    }

    /// A heartbeat with the master's clock, once an interval even where batches leave no silence.
    /// Only for replicas that said which member they are.
    pub fn stamp(&mut self, now: u64, stamp: Stamp, out: &mut Vec<u8>) {
        if self.replica.member.is_some() && now >= self.stamp_at {
            stamp.ping(out);
            self.stamp_at = now.saturating_add(self.config.ping_interval_ms);
            self.sent(now);
        }
    }

    /// When [`Self::ping`] has something to send, or [`Self::stamp`] where `is_stamped` says that
    /// this is asked.
    pub fn due_at(&self, is_stamped: bool) -> u64 {
        if is_stamped { self.ping_at.min(self.stamp_at) } else { self.ping_at }
    }

    /// Asks for an acknowledgement at once, for a waiting WAIT. Holdfast replicas acknowledge
    /// unasked. Kvrocks before 2.14 would take `_getack` for a batch: it is only sent to replicas
    /// that have acknowledged before.
    pub fn getack(&mut self, now: u64, out: &mut Vec<u8>) {
        if !self.replica.is_holdfast && self.acked.is_some() {
            out.extend_from_slice(wire::GETACK);
            self.sent(now);
        }
    }

    /// Whether the replica's process is about to end, and it has asked to be in no set first.
    pub fn is_leaving(&self) -> bool {
        self.acks.is_leaving()
    }

    /// Answers a replica that leaves: at once that it was heard, and later that it is counted on no
    /// more.
    pub fn answer_leave(&mut self, is_gone: bool, now: u64, out: &mut Vec<u8>) {
        let answer = if is_gone { Leave::Gone } else { Leave::Heard };
        if !self.is_leaving() || self.leave == Some(answer) || self.leave == Some(Leave::Gone) {
            return;
        }
        answer.answer(out);
        self.leave = Some(answer);
        self.sent(now);
    }

    /// Takes what the replica sent; true if its acknowledged sequence rose.
    pub fn received(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        let Some(Ack { sequence: acked, epoch, echo }) = self.acks.read(bytes)? else {
            return Ok(false);
        };
        let sent = self.next.saturating_sub(1);
        if acked > sent {
            return Err(Fault::AheadOfMaster { acked, sent });
        }
        let rose = self.acked.is_none_or(|before| before < acked);
        self.acked = self.acked.max(Some(acked));
        // A replica says nothing of epochs it has left: what it said last is what it has.
        self.epoch = epoch;
        self.echo = echo.or(self.echo);
        Ok(rose)
    }

    /// Drops a replica that is too far behind to be worth feeding.
    pub fn check_lag(&self, latest: u64) -> Result<(), Fault> {
        let lag = latest.saturating_sub(self.next.saturating_sub(1));
        if lag > self.config.lag_max { Err(Fault::Lag { lag }) } else { Ok(()) }
    }

    fn sent(&mut self, now: u64) {
        self.ping_at = now.saturating_add(self.config.ping_interval_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(sequence: u64, count: u32) -> Vec<u8> {
        let mut bytes = sequence.to_le_bytes().to_vec();
        bytes.extend(count.to_le_bytes());
        bytes.push(0);
        bytes
    }

    fn feed(next: u64) -> Feed {
        Feed::new(Config::default(), Replconf::default(), next, 1000)
    }

    #[test]
    fn batches_are_framed_in_sequence() {
        let (mut feed, mut out) = (feed(5), Vec::new());
        feed.batch(&batch(5, 2), 1000, &mut out).unwrap();
        feed.batch(&batch(7, 1), 1000, &mut out).unwrap();
        assert!(out.starts_with(b"$13\r\n\x05\0\0\0"));
        assert_eq!(out.len(), 2 * (5 + 13 + 2));
        let gap = Err(Fault::Discrete { expected: 8, found: 9 });
        assert_eq!(feed.batch(&batch(9, 1), 1000, &mut out), gap);
        assert_eq!(feed.offset(), 7);
    }

    #[test]
    fn heartbeats_fill_silence_only() {
        let (mut feed, mut out) = (feed(1), Vec::new());
        feed.ping(1199, &mut out);
        assert!(out.is_empty());
        feed.ping(1200, &mut out);
        assert_eq!(out, b"$4\r\nping\r\n");
        feed.batch(&batch(1, 1), 1350, &mut Vec::new()).unwrap();
        assert_eq!(feed.due_at(false), 1550);
    }

    #[test]
    fn a_clock_is_sent_to_members_even_in_a_busy_stream() {
        let stamp = Stamp { clock_ns: 1, lease_ms: 2 };
        let (mut plain, mut out) = (feed(5), Vec::new());
        plain.stamp(5000, stamp, &mut out);
        assert!(out.is_empty());
        let replica = Replconf { member: Some("m".into()), ..Replconf::default() };
        let mut feed = Feed::new(Config::default(), replica, 1, 1000);
        feed.stamp(1000, stamp, &mut out);
        feed.batch(&batch(1, 1), 1150, &mut Vec::new()).unwrap();
        feed.stamp(1199, stamp, &mut out);
        feed.stamp(1200, stamp, &mut out);
        assert_eq!(out, b"$8\r\nping 1 2\r\n".repeat(2));
        // It is due in time whatever else is sent, and sooner once the interval is shorter.
        feed.batch(&batch(2, 1), 1350, &mut Vec::new()).unwrap();
        assert_eq!((feed.due_at(true), feed.due_at(false)), (1400, 1550));
        feed.set_config(Config { ping_interval_ms: 100, ..Config::default() });
        assert_eq!((feed.due_at(true), feed.due_at(false)), (1300, 1450));
        feed.set_config(Config::default());
        assert_eq!((feed.due_at(true), feed.due_at(false)), (1400, 1550));
        feed.received(&wire::ack_of_member(1, Some(EpochId::from_random(3)), Some(stamp))).unwrap();
        assert_eq!((feed.epoch(), feed.take_echo()), (Some(EpochId::from_random(3)), Some(stamp)));
        assert_eq!(feed.take_echo(), None);
    }

    #[test]
    fn acknowledgements_rise_and_never_pass_what_was_sent() {
        let mut feed = feed(10);
        assert_eq!((feed.acked(), feed.offset()), (None, 9));
        assert_eq!(feed.received(&wire::ack(7)), Ok(true));
        assert_eq!(feed.received(&wire::ack(6)), Ok(false));
        assert_eq!((feed.acked(), feed.offset()), (Some(7), 7));
        let ahead = Err(Fault::AheadOfMaster { acked: 10, sent: 9 });
        assert_eq!(feed.received(&wire::ack(10)), ahead);
    }

    #[test]
    fn who_leaves_is_answered_once_each_and_nobody_else() {
        let (mut feed, mut out) = (feed(10), Vec::new());
        feed.answer_leave(true, 1000, &mut out);
        assert!(out.is_empty() && !feed.is_leaving(), "it has not asked");
        assert_eq!(feed.received(&wire::leaving()), Ok(false));
        assert!(feed.is_leaving());
        for _ in 0..2 {
            feed.answer_leave(false, 1100, &mut out);
        }
        assert_eq!(out, b"$7\r\nleaving\r\n");
        assert_eq!(feed.due_at(false), 1300, "it is a sign of life");
        out.clear();
        // A later grant may name it again: it was told, and may be gone.
        for is_gone in [true, false, true] {
            feed.answer_leave(is_gone, 1200, &mut out);
        }
        assert_eq!(out, b"$4\r\nleft\r\n");
        assert_eq!(feed.received(&wire::ack(7)), Ok(true), "it acknowledges all the same");
    }

    #[test]
    fn getack_goes_only_to_those_who_know_it() {
        let (mut old, mut out) = (feed(10), Vec::new());
        old.getack(0, &mut out);
        assert!(out.is_empty());
        old.received(&wire::ack(7)).unwrap();
        old.getack(0, &mut out);
        assert_eq!(out, b"$7\r\n_getack\r\n");
    }

    #[test]
    fn a_replica_too_far_behind_is_dropped() {
        let feed = feed(10);
        assert_eq!(feed.check_lag(9), Ok(()));
        assert_eq!(feed.check_lag(200_000_000), Err(Fault::Lag { lag: 199_999_991 }));
    }
}
