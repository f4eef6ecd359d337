//! The words of slot moves: what a controller orders a master to do for a move, and what a master
//! says of it.
//!
//! Orders ride in heartbeats: they may be lost, come late and come twice. So each names its move
//! and the term of its controller, and acts only on the state before it. What follows from them is
//! decided in `planner::moves` and `replication::slots`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use topology::SLOT_COUNT;

use crate::grant::Least;

mod flow;
mod found;
mod rate;
pub mod weights;
pub mod wish;
mod words;

pub use flow::{Brake, Flow};
pub use found::{Found, Ranges};
pub use rate::{Rate, RateError};
pub use weights::Weights;
pub use words::{ASKED_MAX, Asked, Malformed, OfSlots};

/// Most ranges of one move.
pub const RANGES_MAX: usize = 1024;

/// Number of a move. It rises within a cluster's record, and each new try of one has a new number:
/// of two moves of a slot the higher is the newer one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MoveId(pub u64);

impl fmt::Display for MoveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why ranges are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotsError {
    /// No range at all.
    #[error("slots expected: n or a-b, separated by commas")]
    Empty,
    /// Not `n` or `a-b`.
    #[error("slots `{0}`: n or a-b expected, from 0 to 16383")]
    Range(String),
    /// A slot is named twice, or the order is another one.
    #[error("slots must rise and not overlap")]
    Order,
    /// More than [`RANGES_MAX`].
    #[error("more than {RANGES_MAX} ranges")]
    TooMany,
}

/// The slots of one move: ranges, both ends included, that rise and do not touch each other. At
/// least one. As text `0-99,200`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "Vec<(u16, u16)>", try_from = "Vec<(u16, u16)>")]
pub struct Slots(Vec<(u16, u16)>);

impl Slots {
    /// Ranges that rise; those that touch become one.
    ///
    /// # Errors
    /// When they are none, too many, out of range, or not in order.
    pub fn new(ranges: &[(u16, u16)]) -> Result<Self, SlotsError> {
        if ranges.is_empty() {
            return Err(SlotsError::Empty);
        }
        if ranges.len() > RANGES_MAX {
            return Err(SlotsError::TooMany);
        }
        let mut joined: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for &(first, last) in ranges {
            if first > last || last >= SLOT_COUNT {
                return Err(SlotsError::Range(format!("{first}-{last}")));
            }
            match joined.last_mut() {
                Some((_, end)) if *end >= first => return Err(SlotsError::Order),
                Some((_, end)) if *end + 1 == first => *end = last,
                _ => joined.push((first, last)),
            }
        }
        Ok(Self(joined))
    }

    /// The ranges.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// Every slot, in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().flat_map(|&(first, last)| first..=last)
    }

    /// Whether a slot is one of them.
    pub fn contains(&self, slot: u16) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&slot))
    }

    /// Whether they share a slot.
    pub fn meet(&self, other: &Self) -> bool {
        let meets = |&(a, b): &(u16, u16)| other.0.iter().any(|&(c, d)| a <= d && c <= b);
        self.0.iter().any(meets)
    }

    /// Whether each of them lies in one of `ranges`, which do not touch each other.
    pub fn lie_in(&self, ranges: &[(u16, u16)]) -> bool {
        let lies = |&(a, b): &(u16, u16)| ranges.iter().any(|&(c, d)| c <= a && b <= d);
        self.0.iter().all(lies)
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, &(first, last)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Slots {
    type Err = SlotsError;
    fn from_str(text: &str) -> Result<Self, SlotsError> {
        if text.is_empty() {
            return Err(SlotsError::Empty);
        }
        let number = |digits: &str| {
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse::<u16>().ok()).flatten()
        };
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let range = number(first).zip(number(last));
            range.ok_or_else(|| SlotsError::Range(text.to_owned()))
        };
        // Counted before anything is kept: the text is foreign.
        if text.bytes().filter(|byte| *byte == b',').count() >= RANGES_MAX {
            return Err(SlotsError::TooMany);
        }
        Self::new(&text.split(',').map(range).collect::<Result<Vec<_>, _>>()?)
    }
}

impl From<Slots> for Vec<(u16, u16)> {
    fn from(slots: Slots) -> Self {
        slots.0
    }
}

impl TryFrom<Vec<(u16, u16)>> for Slots {
    type Error = SlotsError;
    fn try_from(ranges: Vec<(u16, u16)>) -> Result<Self, SlotsError> {
        Self::new(&ranges)
    }
}

/// What a master is to do for a move. S gives the slots, D takes them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Order {
    /// D: pull from that process of S, under that epoch.
    Pull {
        /// Id of the node.
        node: String,
        /// Of its process.
        nonce: String,
        /// What that process is granted.
        epoch: u64,
        /// No faster; `None`: at the usual rate. Said only where both sides know it.
        rate: Option<Rate>,
    },
    /// S: take no writes of the slots, and say where its data of them ends.
    Freeze {
        /// Rises with every attempt of this term.
        number: u64,
    },
    /// S: take writes again.
    Thaw {
        /// The attempt that is given up.
        number: u64,
    },
    /// S: the record has given the slots away; answer no read of them either.
    Seal,
    /// D: the record has given you the slots, and nobody else answers for them any more.
    Open {
        /// What must be staged.
        at: Least,
        /// Of the record that gives them.
        version: i64,
    },
    /// S: note in the data that the slots are gone.
    Leave {
        /// Of the record that gave them away.
        version: i64,
    },
    /// S: delete what is gone.
    Clean,
    /// D: delete what is staged, the move is given up.
    Drop,
    /// D: pull no more, and keep what is staged. Said only to nodes that tell of their streams.
    Rest,
}

/// An order for one move.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ordered {
    /// Which move.
    pub id: MoveId,
    /// Its slots.
    pub slots: Slots,
    /// Of the controller.
    pub term: u64,
    /// What to do.
    pub order: Order,
}

/// Where S's data of the slots ends while it takes no writes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frozen {
    /// Of the controller that asked.
    pub term: u64,
    /// Its attempt.
    pub number: u64,
    /// The end, in S's history; `None` while writes that began before are under way.
    pub at: Option<Least>,
}

/// What the newest mark of a move's slots says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mark {
    /// D holds a copy in part.
    Staged {
        /// Of S's history: the copy is S's data there, below a cursor. `None`: nothing was copied.
        at: Option<Least>,
        /// The cursor is at the end.
        is_whole: bool,
    },
    /// D owns them.
    Held,
    /// S gave them away, or D gave up to take them.
    Gone {
        /// And has deleted them.
        is_empty: bool,
    },
}

/// What S says of the stream to D.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feed {
    /// D asked for what S's history does not hold.
    Misfit,
    /// D has everything but the newest writes, and keeps up: a stop would be short.
    Close,
    /// There is more to copy, or it is too slow.
    Far,
}

/// What a master says of one move.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Said {
    /// Which.
    pub id: MoveId,
    /// S: no writes.
    pub frozen: Option<Frozen>,
    /// S: no reads either.
    pub is_sealed: bool,
    /// S: the stream to D, while there is one.
    pub feed: Option<Feed>,
    /// The newest mark of its slots, if it is of this move.
    pub mark: Option<Mark>,
    /// Sequence of the mark's record in the log here; 0 without one.
    pub sequence: u64,
    /// The whole in-sync set has that mark.
    pub is_committed: bool,
    /// It is on the disk here.
    pub is_synced: bool,
    /// The slots that go by this number here: of the mark, of what is held back, or of the stream.
    /// They are another move's where an earlier state of the store has given its number again.
    /// `None` from nodes that do not say, and where nothing goes by it.
    pub slots: Option<Slots>,
}

/// How far a copy is, as the taker counts it: for people, nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Progress {
    /// Which move.
    pub id: MoveId,
    /// Records that were copied since this process began to.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many bytes there are to copy, as the giver estimates; `None` if it does not.
    pub of_bytes: Option<u64>,
}

/// Where a copy is, as its taker says: the controller decides by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Copying {
    /// Which move.
    pub id: MoveId,
    /// Parts of the slots that this stream has brought: while it stays the same the copy does not
    /// advance, whatever comes of what clients write meanwhile.
    pub parts: u64,
    /// What a person has to mend before the copy can go on: one line.
    pub clash: Option<String>,
}

impl Said {
    /// Nothing is known of the move.
    pub fn nothing(id: MoveId) -> Self {
        Self {
            id,
            frozen: None,
            is_sealed: false,
            feed: None,
            mark: None,
            sequence: 0,
            is_committed: false,
            is_synced: false,
            slots: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slots_are_ranges_in_order() {
        let slots: Slots = "0-99,100,200,300-300".parse().unwrap();
        assert_eq!(slots.ranges(), [(0, 100), (200, 200), (300, 300)]);
        assert_eq!(slots.to_string(), "0-100,200,300");
        assert!(slots.contains(200) && !slots.contains(201) && slots.iter().count() == 103);
        assert!(slots.meet(&"99-150".parse().unwrap()) && !slots.meet(&"101-199".parse().unwrap()));
        assert!(slots.lie_in(&[(0, 250), (300, 400)]) && !slots.lie_in(&[(0, 199), (201, 400)]));
        for bad in ["", ",", "1,", "-1", "+1", "2-1", "16384", "1-2-3", "5,4", "5,5", "99999", " 1"]
        {
            assert!(bad.parse::<Slots>().is_err(), "{bad}");
        }
        let many: Vec<String> = (0..=1024).map(|slot| (2 * slot).to_string()).collect();
        assert_eq!(many.join(",").parse::<Slots>(), Err(SlotsError::TooMany));
        assert!(many[1..].join(",").parse::<Slots>().is_ok());
        let json = serde_json::to_string(&slots).unwrap();
        assert_eq!(serde_json::from_str::<Slots>(&json).unwrap(), slots);
        assert!(serde_json::from_str::<Slots>("[[5,4]]").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[0-9,+ -]{0,40}") {
            if let Ok(slots) = text.parse::<Slots>() {
                prop_assert_eq!(slots.to_string().parse(), Ok(slots));
            }
        }
    }
}
