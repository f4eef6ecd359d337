//! Streams of moves, as the node says at which they run: a `flow<i>` line of its reply each.
//!
//! A controller goes by whether a stream is there, and at which rate it was ordered; what it brings
//! and what holds it back is for people.

use std::fmt;
use std::str::FromStr;

use super::words::number;
use super::{Malformed, MoveId, Rate};

/// What holds a copy back at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Brake {
    /// Clients wait longer than they should.
    Latency,
    /// The database slows writes down, or nearly does.
    Engine,
    /// The in-sync set does not follow.
    Set,
    /// The disk has no room for guests, or the database none below its `max-db-size`.
    Room,
    /// Writes are paused for a switchover.
    Paused,
    /// A replica is away, and half of the log that it could go on from is used up.
    Replica,
}

impl Brake {
    /// All, with their words.
    const WORDS: [(Self, &'static str); 6] = [
        (Self::Latency, "latency"),
        (Self::Engine, "engine"),
        (Self::Set, "set"),
        (Self::Room, "room"),
        (Self::Paused, "paused"),
        (Self::Replica, "replica"),
    ];

    /// One word.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(known, _)| *known == self).map_or("-", |(_, word)| *word)
    }

    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Latency => "what clients wait",
            Self::Engine => "RocksDB, which is about to hold writes back",
            Self::Set => "replicas that are behind",
            Self::Room => "the room on its disk or below max-db-size",
            Self::Paused => "a pause of writes",
            Self::Replica => "a replica that is away, whose log is half used up",
        }
    }
}

/// A stream of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Which move.
    pub id: MoveId,
    /// It comes here; else it goes from here.
    pub is_taken: bool,
    /// What it may bring at most, as the order to pull said; `None`: that said nothing.
    pub rate: Option<Rate>,
    /// What it may bring just now, bytes a second.
    pub bytes_per_s: u64,
    /// Why that is less.
    pub brake: Option<Brake>,
    /// Where it goes from: by how much the log grows there, bytes a second, of all slots.
    pub written_per_s: u64,
    /// And how much of it the taker keeps up with, bytes a second: less, if it falls behind.
    pub taken_per_s: u64,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.id, if self.is_taken { "take" } else { "give" })?;
        match self.rate {
            Some(rate) => rate.fmt(f)?,
            None => f.write_str("-")?,
        }
        write!(f, " {} {}", self.bytes_per_s, self.brake.map_or("-", Brake::word))?;
        write!(f, " {} {}", self.written_per_s, self.taken_per_s)
    }
}

impl FromStr for Flow {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        // What a later node says behind that is passed over, and so is a brake of its own.
        let mut parts = text.split(' ');
        let mut next = || parts.next().ok_or(Malformed);
        let id = MoveId(number(next()?)?);
        let is_taken = match next()? {
            "take" => true,
            "give" => false,
            _ => return Err(Malformed),
        };
        let rate = match next()? {
            "-" => None,
            rate => Some(rate.parse().map_err(|_| Malformed)?),
        };
        let bytes_per_s = number(next()?)?;
        let word = next()?;
        let brake = Brake::WORDS.iter().find(|(_, known)| *known == word).map(|(brake, _)| *brake);
        let (written_per_s, taken_per_s) = (number(next()?)?, number(next()?)?);
        Ok(Self { id, is_taken, rate, bytes_per_s, brake, written_per_s, taken_per_s })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flow_is_read_back_as_it_was_written() {
        let flow = |is_taken, rate, brake| {
            let (id, rate, bytes_per_s) = (MoveId(5), Rate::new(rate).ok(), 4_000_000);
            let (written_per_s, taken_per_s) = (7, 6);
            Flow { id, is_taken, rate, bytes_per_s, brake, written_per_s, taken_per_s }
        };
        assert_eq!(flow(true, 0, None).to_string(), "5 take - 4000000 - 7 6");
        let slow = flow(false, 64, Some(Brake::Latency));
        assert_eq!(slow.to_string(), "5 give 64 4000000 latency 7 6");
        for (brake, _) in Brake::WORDS {
            for is_taken in [false, true] {
                let flow = flow(is_taken, 64, Some(brake));
                assert_eq!(flow.to_string().parse(), Ok(flow));
            }
        }
        assert_eq!("5 give 64 4000000 latency 7 6 more".parse(), Ok(slow));
        assert_eq!("5 give 64 4000000 wind 7 6".parse(), Ok(flow(false, 64, None)));
        for bad in
            ["", "5", "5 take - 1 - 2", "5 keep - 1 - 2 3", "5 take 0 1 - 2 3", "x take - 1 - 2 3"]
        {
            assert_eq!(bad.parse::<Flow>(), Err(Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[0-9a-z -]{0,40}") {
            if let Ok(flow) = text.parse::<Flow>() {
                prop_assert_eq!(flow.to_string().parse(), Ok(flow));
            }
        }
    }
}
