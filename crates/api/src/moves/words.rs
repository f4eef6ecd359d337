//! Orders and answers as text: what stands behind `MOVES` in a heartbeat, and the `move<i>` lines
//! of its reply.
//!
//! Parts are divided by spaces, which no node id has. What is foreign is bounded by the form: one
//! line is one order or one answer.

use std::fmt;
use std::str::FromStr;

use super::wish::{self, Told};
use super::{Copying, Feed, Frozen, Mark, MoveId, Order, Ordered, Progress, Rate, Said, Slots};
use crate::grant::{Least, parse_id, show_id};

/// Longest text of what stands in a copy's way, bytes.
const CLASH_BYTES_MAX: usize = 512;

/// Most words behind `MOVES` in one heartbeat.
pub const ASKED_MAX: usize = 64;

/// One word behind `MOVES`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Asked {
    /// What is so with a move.
    Of(MoveId),
    /// What is to be done for one; its answer is asked for as well.
    Do(Ordered),
    /// What becomes of a wish. Said only to nodes that tell of one.
    Told(Told),
}

impl Asked {
    /// Which move it asks about.
    pub fn id(&self) -> Option<MoveId> {
        match self {
            Self::Of(id) => Some(*id),
            Self::Do(ordered) => Some(ordered.id),
            Self::Told(_) => None,
        }
    }
}

/// Text that is no order, or no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed word of a slot move")]
pub struct Malformed;

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ordered { id, slots, term, order } = match self {
            Self::Of(id) => return write!(f, "{id}"),
            Self::Told(told) => return told.fmt(f),
            Self::Do(ordered) => ordered,
        };
        write!(f, "{id} {term} {slots} ")?;
        match order {
            Order::Pull { node, nonce, epoch, rate } => {
                write!(f, "pull {node} {nonce} {epoch}")?;
                rate.map_or(Ok(()), |rate| write!(f, " {rate}"))
            }
            Order::Freeze { number } => write!(f, "freeze {number}"),
            Order::Thaw { number } => write!(f, "thaw {number}"),
            Order::Seal => f.write_str("seal"),
            Order::Open { at, version } => write!(f, "open {} {version}", At(Some(*at))),
            Order::Leave { version } => write!(f, "leave {version}"),
            Order::Clean => f.write_str("clean"),
            Order::Drop => f.write_str("drop"),
            Order::Rest => f.write_str("rest"),
        }
    }
}

impl FromStr for Asked {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.starts_with(wish::WORD) {
            return Ok(Self::Told(text.parse()?));
        }
        let parts: Vec<&str> = text.splitn(8, ' ').collect();
        let (id, term, slots, order) = match &parts[..] {
            [id] => return Ok(Self::Of(MoveId(number(id)?))),
            [id, term, slots, order @ ..] => (id, term, slots, order),
            _ => return Err(Malformed),
        };
        let order = match order {
            ["pull", node, nonce, epoch, rate @ ..] if !node.is_empty() && !nonce.is_empty() => {
                let rate = rate.first().map(|rate| rate.parse::<Rate>().map_err(|_| Malformed));
                Order::Pull {
                    node: (*node).to_owned(),
                    nonce: (*nonce).to_owned(),
                    epoch: number(epoch)?,
                    rate: rate.transpose()?,
                }
            }
            ["freeze", attempt] => Order::Freeze { number: number(attempt)? },
            ["thaw", attempt] => Order::Thaw { number: number(attempt)? },
            ["seal"] => Order::Seal,
            ["open", at, version] => {
                let at = at.parse::<At>()?.0.ok_or(Malformed)?;
                Order::Open { at, version: number(version)? }
            }
            ["leave", version] => Order::Leave { version: number(version)? },
            ["clean"] => Order::Clean,
            ["drop"] => Order::Drop,
            ["rest"] => Order::Rest,
            _ => return Err(Malformed),
        };
        let slots: Slots = slots.parse().map_err(|_| Malformed)?;
        Ok(Self::Do(Ordered { id: MoveId(number(id)?), slots, term: number(term)?, order }))
    }
}

/// A position: `<epoch id or ->:<sequence>`, or `-`.
struct At(Option<Least>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("-"),
            Some(at) => write!(f, "{}:{}", show_id(at.id), at.sequence),
        }
    }
}

impl FromStr for At {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text == "-" {
            return Ok(Self(None));
        }
        let (id, sequence) = text.split_once(':').ok_or(Malformed)?;
        let id = parse_id(id).map_err(|_| Malformed)?;
        Ok(Self(Some(Least { id, sequence: number(sequence)? })))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.id)?;
        match self.frozen {
            None => f.write_str("-")?,
            Some(Frozen { term, number, at }) => write!(f, "{term}/{number}/{}", At(at))?,
        }
        let feed = match self.feed {
            None => "-",
            Some(Feed::Misfit) => "misfit",
            Some(Feed::Close) => "close",
            Some(Feed::Far) => "far",
        };
        write!(f, " {} {feed} ", u8::from(self.is_sealed))?;
        match self.mark {
            None => f.write_str("-")?,
            Some(Mark::Held) => f.write_str("held")?,
            Some(Mark::Gone { is_empty: false }) => f.write_str("gone")?,
            Some(Mark::Gone { is_empty: true }) => f.write_str("empty")?,
            Some(Mark::Staged { at, is_whole: false }) => write!(f, "part/{}", At(at))?,
            Some(Mark::Staged { at, is_whole: true }) => write!(f, "whole/{}", At(at))?,
        }
        let (committed, synced) = (u8::from(self.is_committed), u8::from(self.is_synced));
        write!(f, " {} {committed} {synced}", self.sequence)
    }
}

impl FromStr for Said {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let parts: Vec<&str> = text.splitn(9, ' ').collect();
        let [id, frozen, sealed, feed, mark, sequence, committed, synced] = parts[..] else {
            return Err(Malformed);
        };
        let frozen = match frozen {
            "-" => None,
            frozen => {
                let (term, rest) = frozen.split_once('/').ok_or(Malformed)?;
                let (attempt, at) = rest.split_once('/').ok_or(Malformed)?;
                let at = at.parse::<At>()?.0;
                Some(Frozen { term: number(term)?, number: number(attempt)?, at })
            }
        };
        let feed = match feed {
            "-" => None,
            "misfit" => Some(Feed::Misfit),
            "close" => Some(Feed::Close),
            "far" => Some(Feed::Far),
            _ => return Err(Malformed),
        };
        let mark = match mark.split_once('/').unwrap_or((mark, "")) {
            ("-", "") => None,
            ("held", "") => Some(Mark::Held),
            ("gone", "") => Some(Mark::Gone { is_empty: false }),
            ("empty", "") => Some(Mark::Gone { is_empty: true }),
            ("part", at) => Some(Mark::Staged { at: at.parse::<At>()?.0, is_whole: false }),
            ("whole", at) => Some(Mark::Staged { at: at.parse::<At>()?.0, is_whole: true }),
            _ => return Err(Malformed),
        };
        Ok(Self {
            id: MoveId(number(id)?),
            frozen,
            is_sealed: flag(sealed)?,
            feed,
            mark,
            sequence: number(sequence)?,
            is_committed: flag(committed)?,
            is_synced: flag(synced)?,
            // On a line of its own, see [`OfSlots`].
            slots: None,
        })
    }
}

/// The slots that go by the number of a move at a node: a `move_slots<i>` line of its reply. A word
/// more in [`Said`] would be none to an older controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfSlots {
    /// Which move.
    pub id: MoveId,
    /// Its slots there.
    pub slots: Slots,
}

impl fmt::Display for OfSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.slots)
    }
}

impl FromStr for OfSlots {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (id, slots) = text.split_once(' ').ok_or(Malformed)?;
        let slots = slots.parse().map_err(|_| Malformed)?;
        Ok(Self { id: MoveId(number(id)?), slots })
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.id, self.records, self.bytes)?;
        match self.of_bytes {
            Some(bytes) => bytes.fmt(f),
            None => f.write_str("-"),
        }
    }
}

impl FromStr for Progress {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let parts: Vec<&str> = text.splitn(5, ' ').collect();
        let [id, records, bytes, of_bytes] = parts[..] else { return Err(Malformed) };
        let of_bytes = if of_bytes == "-" { None } else { Some(number(of_bytes)?) };
        let (id, records, bytes) = (MoveId(number(id)?), number(records)?, number(bytes)?);
        Ok(Self { id, records, bytes, of_bytes })
    }
}

impl fmt::Display for Copying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.id, self.parts, self.clash.as_deref().unwrap_or("-"))
    }
}

impl FromStr for Copying {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut parts = text.splitn(3, ' ');
        let mut next = || parts.next().ok_or(Malformed);
        let (id, parts, clash) = (MoveId(number(next()?)?), number(next()?)?, next()?);
        let clash = (clash != "-").then(|| clash.to_owned());
        if clash.as_ref().is_some_and(|clash| clash.is_empty() || clash.len() > CLASH_BYTES_MAX) {
            return Err(Malformed);
        }
        Ok(Self { id, parts, clash })
    }
}

/// Decimal digits only.
pub(super) fn number<T: FromStr>(text: &str) -> Result<T, Malformed> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten().ok_or(Malformed)
}

fn flag(text: &str) -> Result<bool, Malformed> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::grant::EpochId;

    const AT: Least = Least { id: Some(EpochId(0xabc)), sequence: 9 };

    #[test]
    fn an_order_is_read_back_as_it_was_written() {
        let pull = |rate| {
            let (node, nonce) = ("a".repeat(40), "beef".into());
            Order::Pull { node, nonce, epoch: 4, rate }
        };
        let orders = [
            (pull(None), format!("pull {} beef 4", "a".repeat(40))),
            (pull(Rate::new(5).ok()), format!("pull {} beef 4 5", "a".repeat(40))),
            (Order::Freeze { number: 2 }, "freeze 2".into()),
            (Order::Thaw { number: 2 }, "thaw 2".into()),
            (Order::Seal, "seal".into()),
            (Order::Open { at: AT, version: 7 }, "open 0000000000000abc:9 7".into()),
            (Order::Leave { version: 7 }, "leave 7".into()),
            (Order::Clean, "clean".into()),
            (Order::Drop, "drop".into()),
            (Order::Rest, "rest".into()),
        ];
        for (order, text) in orders {
            let slots: Slots = "0-99,200".parse().unwrap();
            let asked = Asked::Do(Ordered { id: MoveId(5), slots, term: 3, order });
            assert_eq!(asked.to_string(), format!("5 3 0-99,200 {text}"));
            assert_eq!(asked.to_string().parse(), Ok(asked.clone()));
            assert_eq!(format!("{asked} more").parse::<Asked>(), Err(Malformed), "{asked}");
        }
        assert_eq!("17".parse(), Ok(Asked::Of(MoveId(17))));
        let told = Told { id: wish::PartId::of_wish([7; 20]), fate: wish::Fate::Done };
        assert_eq!(told.to_string().parse(), Ok(Asked::Told(told)));
        assert_eq!("wish 5 done".parse::<Asked>(), Err(Malformed));
        let slow = format!("5 3 0-99 pull {} beef 4 0", "a".repeat(40));
        for bad in [
            "",
            "x",
            "+1",
            "1 2",
            "1 2 3",
            "1 2 3 melt",
            "1 2 3 open - 4",
            "1 2 5-4 seal",
            slow.as_str(),
        ] {
            assert_eq!(bad.parse::<Asked>(), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn an_answer_is_read_back_as_it_was_written() {
        let nothing = Said::nothing(MoveId(5));
        assert_eq!(nothing.to_string(), "5 - 0 - - 0 0 0");
        let staged = |at, is_whole| Some(Mark::Staged { at, is_whole });
        let marks = [
            None,
            Some(Mark::Held),
            Some(Mark::Gone { is_empty: false }),
            Some(Mark::Gone { is_empty: true }),
            staged(None, false),
            staged(Some(AT), false),
            staged(Some(Least { id: None, ..AT }), true),
        ];
        let feeds = [None, Some(Feed::Misfit), Some(Feed::Close), Some(Feed::Far)];
        for (index, mark) in marks.into_iter().enumerate() {
            let frozen = Frozen { term: 3, number: 1, at: (index % 2 == 0).then_some(AT) };
            let said = Said {
                frozen: (index % 3 > 0).then_some(frozen),
                is_sealed: index % 2 == 1,
                feed: feeds[index % 4],
                mark,
                sequence: 77,
                is_committed: index % 2 == 0,
                is_synced: index % 3 == 0,
                ..nothing.clone()
            };
            assert_eq!(said.to_string().parse(), Ok(said));
        }
        for bad in ["", "5", "5 - 2 - - 0 0 0", "5 - 0 - held/x 0 0 0", "5 1/2 0 - - 0 0 0"] {
            assert_eq!(bad.parse::<Said>(), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn progress_is_read_back_as_it_was_written() {
        for of_bytes in [None, Some(7)] {
            let progress = Progress { id: MoveId(5), records: 3, bytes: 4, of_bytes };
            assert_eq!(progress.to_string().parse(), Ok(progress));
        }
        for bad in ["", "5 1 2", "5 1 2 x", "5 1 2 3 4", "5 +1 2 3"] {
            assert_eq!(bad.parse::<Progress>(), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn what_stands_in_the_way_of_a_copy_is_read_back_as_it_was_written() {
        for clash in [None, Some("library `a` is another one there".to_owned())] {
            let copying = Copying { id: MoveId(5), parts: 3, clash };
            assert_eq!(copying.to_string().parse(), Ok(copying));
        }
        let long = format!("5 1 {}", "x".repeat(CLASH_BYTES_MAX + 1));
        for bad in ["", "5", "5 1", "5 1 ", "5 -1 x", "x 1 -", long.as_str()] {
            assert_eq!(bad.parse::<Copying>(), Err(Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[0-9a-f:/ -]{0,60}") {
            if let Ok(said) = text.parse::<Said>() {
                prop_assert_eq!(said.to_string().parse(), Ok(said));
            }
            if let Ok(asked) = text.parse::<Asked>() {
                prop_assert_eq!(asked.to_string().parse(), Ok(asked));
            }
        }
    }
}
