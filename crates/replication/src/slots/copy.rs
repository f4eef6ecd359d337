//! The copy of slots that move: a moving watermark.
//!
//! Records have one order: slot; metadata before the other families; key. The giver takes a
//! snapshot, forwards its log up to exactly there, of it what lies *below the cursor*, and sends
//! the next chunk above the cursor as of the snapshot. What lies above is not forwarded: it comes
//! with its chunk. So there is no backlog and no long snapshot, and the copy can be gone on with
//! from any mark.
//!
//! Invariant: nothing leaves that the giver's set has not acknowledged (rule M7), and what is
//! staged is the giver's data at the position, below the cursor.

use api::grant::Least;
use api::moves::MoveId;

use super::marks::{Bytes, Cursor, Malformed, Mark, State, put_at, put_cursor};

/// What the giver does next for one taker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Nothing, until more is acknowledged.
    Wait,
    /// Take a snapshot, and say its sequence by [`Sender::snapshot`].
    Snapshot,
    /// Send the log behind `after` up to `through`, of it what lies below the cursor.
    Forward {
        /// Newest sequence that was sent.
        after: u64,
        /// Newest to send.
        through: u64,
    },
    /// Send what lies above the cursor, as of the snapshot, as much as fits.
    Chunk {
        /// Sequence of the snapshot.
        as_of: u64,
    },
}

/// The giver's end of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sender {
    id: MoveId,
    /// What the taker has, by its own account and by what was sent since.
    has: Option<Least>,
    /// Newest sequence that was sent.
    sent: u64,
    cursor: Cursor,
    snapshot: Option<u64>,
}

impl Sender {
    /// A stream to a taker that has this. Whether the giver's history holds the position has been
    /// looked at: by id and sequence, since another history has other writes under its numbers.
    pub fn new(id: MoveId, has: Option<Least>, cursor: Cursor) -> Self {
        let sent = has.map_or(0, |at| at.sequence);
        // Without a position there is nothing that could lie below a cursor.
        let cursor = if has.is_some() { cursor } else { Cursor::Start };
        Self { id, has, sent, cursor, snapshot: None }
    }

    /// How far the copy has come.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Newest sequence that was sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// What to do while the set has everything up to `committed`.
    pub fn step(&self, committed: u64) -> Step {
        let limit = match (&self.cursor, self.snapshot) {
            (Cursor::End, _) => committed,
            (_, None) => return Step::Snapshot,
            (_, Some(as_of)) if self.sent == as_of => {
                return if committed >= as_of { Step::Chunk { as_of } } else { Step::Wait };
            }
            (_, Some(as_of)) => as_of.min(committed),
        };
        match limit > self.sent {
            true => Step::Forward { after: self.sent, through: limit },
            false => Step::Wait,
        }
    }

    /// A snapshot was taken.
    pub fn snapshot(&mut self, sequence: u64) {
        if self.cursor == Cursor::Start {
            // Nothing lies below: there is nothing to forward.
            self.sent = sequence;
        }
        self.snapshot = Some(sequence);
    }

    /// The log was read up to `to`; the frame's head.
    pub fn forwarded(&mut self, to: Least) -> Head {
        self.sent = to.sequence;
        self.head(to)
    }

    /// A chunk was read as of `to`, up to `cursor`; the frame's head.
    pub fn copied(&mut self, to: Least, cursor: Cursor) -> Head {
        self.cursor = cursor;
        self.snapshot = None;
        self.head(to)
    }

    /// The head of a frame that goes beside the copy, and changes nothing of how far it is; `None`
    /// while nothing was sent.
    pub fn beside(&self) -> Option<Head> {
        let at = self.has?;
        Some(Head { id: self.id, from: Some(at), to: at, cursor: self.cursor.clone() })
    }

    fn head(&mut self, to: Least) -> Head {
        let from = self.has.replace(to);
        Head { id: self.id, from, to, cursor: self.cursor.clone() }
    }
}

/// What a frame says beside its records.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Head {
    /// Of which move.
    pub id: MoveId,
    /// It fits what is staged exactly there.
    pub from: Option<Least>,
    /// Then that is the giver's data here,
    pub to: Least,
    /// below this.
    pub cursor: Cursor,
}

/// What a taker asks a giver for, behind `CLUSTERX MOVE PULL <id> <slots> <nonce> <epoch>`: where
/// it is, as bytes.
pub fn encode_place(has: Option<Least>, cursor: &Cursor) -> Vec<u8> {
    let mut out = Vec::new();
    put_at(&mut out, has);
    put_cursor(&mut out, cursor);
    out
}

/// Reads what [`encode_place`] writes.
///
/// # Errors
/// When it is nothing of that.
pub fn parse_place(bytes: &[u8]) -> Result<(Option<Least>, Cursor), Malformed> {
    let mut bytes = Bytes(bytes);
    let place = (bytes.at()?, bytes.cursor()?);
    if bytes.0.is_empty() { Ok(place) } else { Err(Malformed) }
}

impl Head {
    /// The head and the records of a frame, as they are sent: the length of what follows the first
    /// eight bytes, its CRC32C, the head, the records.
    pub fn frame(&self, records: &[u8]) -> Vec<u8> {
        let mut out = vec![0; FRAME_HEAD_BYTES];
        out.extend(self.id.0.to_be_bytes());
        put_at(&mut out, self.from);
        put_at(&mut out, Some(self.to));
        put_cursor(&mut out, &self.cursor);
        out.extend(records);
        let body = &out[FRAME_HEAD_BYTES..];
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
        let sum = crc32c::crc32c(body).to_be_bytes();
        out[..4].copy_from_slice(&length);
        out[4..FRAME_HEAD_BYTES].copy_from_slice(&sum);
        out
    }

    /// Reads what follows the first eight bytes of a frame: the head, and the records.
    ///
    /// # Errors
    /// When it is none, or its sum is another one.
    pub fn parse(sum: u32, body: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        if crc32c::crc32c(body) != sum {
            return Err(Malformed);
        }
        let mut bytes = Bytes(body);
        let id = MoveId(u64::from_be_bytes(bytes.take()?));
        let from = bytes.at()?;
        let to = bytes.at()?.ok_or(Malformed)?;
        let cursor = bytes.cursor()?;
        Ok((Self { id, from, to, cursor }, bytes.0))
    }
}

/// Bytes of a frame before what its length and its sum are of.
pub const FRAME_HEAD_BYTES: usize = 8;

/// A frame that does not fit what is staged: late, or of another stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame that does not fit what is staged")]
pub struct Misfit;

/// The mark that a frame's records are appended with, in one batch: so that what is staged and how
/// far it goes are one thing for every failover, rewind and restart (M8).
///
/// # Errors
/// When it does not fit.
pub fn staged(mark: &Mark, head: &Head) -> Result<Mark, Misfit> {
    let State::Staged { at, cursor } = &mark.state else { return Err(Misfit) };
    let goes_on = at.is_none_or(|at| at.sequence <= head.to.sequence) && *cursor <= head.cursor;
    if mark.id != head.id || *at != head.from || !goes_on {
        return Err(Misfit);
    }
    let state = State::Staged { at: Some(head.to), cursor: head.cursor.clone() };
    Ok(Mark { state, ..mark.clone() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use api::grant::EpochId;
    use proptest::prelude::*;

    use super::super::marks::Mark;
    use super::*;

    const ID: MoveId = MoveId(1);

    fn least(sequence: u64) -> Least {
        Least { id: Some(EpochId(1)), sequence }
    }

    fn empty() -> Mark {
        let state = State::Staged { at: None, cursor: Cursor::Start };
        Mark { id: ID, slots: "0".parse().unwrap(), version: 0, state }
    }

    /// A log of writes: at sequence n + 1, key and value, or a deletion.
    type Log = Vec<(u8, Option<u64>)>;

    fn data(log: &[(u8, Option<u64>)]) -> BTreeMap<u8, u64> {
        let mut data = BTreeMap::new();
        for (key, value) in log {
            match value {
                Some(value) => data.insert(*key, *value),
                None => data.remove(key),
            };
        }
        data
    }

    /// The giver does what it may; the frame that comes of it.
    fn send(sender: &mut Sender, log: &Log, committed: usize, chunk: usize) -> Option<(Head, Log)> {
        match sender.step(committed as u64) {
            Step::Wait => None,
            Step::Snapshot => {
                sender.snapshot(log.len() as u64);
                None
            }
            Step::Forward { after, through } => {
                assert!(through <= committed as u64 && after < through);
                let span = &log[usize::try_from(after).unwrap()..usize::try_from(through).unwrap()];
                let below = sender.cursor().clone();
                let records = span.iter().filter(|(key, _)| below.is_above(&[*key])).copied();
                let records = records.collect();
                Some((sender.forwarded(least(through)), records))
            }
            Step::Chunk { as_of } => {
                assert!(as_of <= committed as u64);
                let now = data(&log[..usize::try_from(as_of).unwrap()]);
                let above = now.iter().filter(|(key, _)| !sender.cursor().is_above(&[**key]));
                let all: Log = above.map(|(key, value)| (*key, Some(*value))).collect();
                let cursor = match all.get(chunk) {
                    Some((key, _)) => Cursor::At(vec![*key]),
                    None => Cursor::End,
                };
                let records = all.into_iter().take(chunk).collect();
                Some((sender.copied(least(as_of), cursor), records))
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        /// Whatever is written, acknowledged, broken off and gone on with: what is staged is the
        /// giver's data at the position, below the cursor.
        #[test]
        fn what_is_staged_is_the_givers_data_below_the_cursor(
            steps in prop::collection::vec((0_u8..8, 0_u8..12, 1_usize..4), 1..120),
        ) {
            let (mut log, mut committed): (Log, usize) = ((0..8).map(|key| (key, Some(1))).collect(), 8);
            let (mut mark, mut staged_log): (Mark, Log) = (empty(), Log::new());
            let mut sender = Sender::new(ID, None, Cursor::Start);
            for (what, key, chunk) in steps {
                match what {
                    0 | 1 => log.push((key, Some(log.len() as u64))),
                    2 => log.push((key, None)),
                    3 => committed = log.len(),
                    4 => {
                        let State::Staged { at, cursor } = &mark.state else { unreachable!() };
                        sender = Sender::new(ID, *at, cursor.clone());
                    }
                    _ => if let Some((head, records)) = send(&mut sender, &log, committed, chunk) {
                        mark = staged(&mark, &head).unwrap();
                        staged_log.extend(records);
                        prop_assert_eq!(staged(&mark, &head).is_ok(), head.from == Some(head.to));
                    },
                }
                let State::Staged { at, cursor } = &mark.state else { unreachable!() };
                let end = usize::try_from(at.map_or(0, |at| at.sequence)).unwrap();
                prop_assert!(end <= committed);
                let mut expected = data(&log[..end]);
                expected.retain(|key, _| cursor.is_above(&[*key]));
                prop_assert_eq!(data(&staged_log), expected);
            }
            // It comes to an end once writes do.
            committed = log.len();
            for _ in 0..64 {
                if let Some((head, records)) = send(&mut sender, &log, committed, 1) {
                    mark = staged(&mark, &head).unwrap();
                    staged_log.extend(records);
                }
            }
            let at = Some(least(committed as u64));
            prop_assert_eq!(&mark.state, &State::Staged { at, cursor: Cursor::End });
            prop_assert_eq!(data(&staged_log), data(&log));
        }
    }

    #[test]
    fn a_frame_is_read_back_as_it_was_sent() {
        let cursors = [Cursor::Start, Cursor::At(b"key".to_vec()), Cursor::End];
        for (cursor, from) in cursors.into_iter().zip([None, Some(least(4)), Some(least(9))]) {
            assert_eq!(parse_place(&encode_place(from, &cursor)), Ok((from, cursor.clone())));
            let head = Head { id: ID, from, to: least(9), cursor };
            let frame = head.frame(b"records");
            let sum = u32::from_be_bytes(frame[4..8].try_into().unwrap());
            assert_eq!(frame[..4], (frame.len() as u32 - 8).to_be_bytes());
            assert_eq!(Head::parse(sum, &frame[8..]), Ok((head, &b"records"[..])));
            for length in 8..frame.len() {
                assert!(Head::parse(sum, &frame[8..length]).is_err());
                let body = &frame[8..length];
                let _ = Head::parse(crc32c::crc32c(body), body);
                let _ = parse_place(body);
            }
        }
    }

    #[test]
    fn a_frame_fits_one_place_only() {
        let mut sender = Sender::new(ID, None, Cursor::At(b"x".to_vec()));
        assert_eq!(sender.step(5), Step::Snapshot, "without a position, from the start");
        sender.snapshot(7);
        assert_eq!(sender.step(5), Step::Wait, "not acknowledged");
        assert_eq!(sender.step(7), Step::Chunk { as_of: 7 });
        let head = sender.copied(least(7), Cursor::At(b"m".to_vec()));
        let mark = staged(&empty(), &head).unwrap();
        assert_eq!(staged(&mark, &head), Err(Misfit), "twice");
        assert_eq!(staged(&empty(), &Head { id: MoveId(2), ..head.clone() }), Err(Misfit));
        let back = Head { from: Some(least(7)), cursor: Cursor::Start, ..head.clone() };
        assert_eq!(staged(&mark, &back), Err(Misfit), "the cursor never falls");
        let other = Some(Least { id: Some(EpochId(2)), sequence: 7 });
        assert_eq!(staged(&mark, &Head { from: other, ..head }), Err(Misfit), "another history");
        assert_eq!(
            staged(&Mark { state: State::Held, ..mark }, &sender.forwarded(least(8))),
            Err(Misfit)
        );
    }
}
