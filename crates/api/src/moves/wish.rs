//! What users ask of a node for its slots, and what becomes of it: a `wish<i>` line of the node's
//! reply, and a word behind `MOVES` of the next heartbeats.
//!
//! A node decides nothing by a wish: it keeps it in memory until a controller has taken it into its
//! queue, or refused it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Malformed, Slots};

/// Most parts of one wish, each of slots that are to go to one node.
pub const PARTS_MAX: usize = 16;
/// Longest text of why something was not done, bytes.
const WHY_BYTES_MAX: usize = 512;
/// Bytes of a node's id.
const NODE_BYTES: usize = 40;

/// The name of a part of a wish, 40 hexadecimal digits, as Valkey and Redis name what they were
/// asked for. The last two number the parts of one wish; the wish has the name of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PartId([u8; 20]);

impl PartId {
    /// Of a wish, by random bytes of which the last one does not count.
    pub const fn of_wish(random: [u8; 20]) -> Self {
        Self(random).part(0)
    }

    /// Of a part of the same wish.
    #[must_use]
    pub const fn part(mut self, number: u8) -> Self {
        self.0[19] = number;
        self
    }

    /// Of the wish.
    #[must_use]
    pub const fn wish(self) -> Self {
        self.part(0)
    }
}

impl fmt::Display for PartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PartId {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(Malformed) };
        let byte = |pair: &[u8; 2]| Some((digit(&pair[0])? << 4) | digit(&pair[1])?);
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(Malformed)
    }
}

impl From<PartId> for String {
    fn from(id: PartId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for PartId {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

/// Slots that are to go to a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    /// Which.
    pub slots: Slots,
    /// Id of the node: a master, or another one of its shard.
    pub to: String,
}

/// What is wished.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wish {
    /// All of these, or none; the first has number 0. 1 to [`PARTS_MAX`].
    Move(Vec<Part>),
    /// Give these parts up, as far as they can be: at least one.
    Cancel(Vec<PartId>),
}

/// A wish as the node tells of it that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wished {
    /// Its name.
    pub id: PartId,
    /// The node has heard that it was taken.
    pub is_heard: bool,
    /// What it is.
    pub wish: Wish,
}

impl fmt::Display for Wished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.id, if self.is_heard { "heard" } else { "-" })?;
        match &self.wish {
            Wish::Move(parts) => {
                f.write_str("move")?;
                parts.iter().try_for_each(|Part { slots, to }| write!(f, " {slots}:{to}"))
            }
            Wish::Cancel(ids) => {
                f.write_str("cancel")?;
                ids.iter().try_for_each(|id| write!(f, " {id}"))
            }
        }
    }
}

impl FromStr for Wished {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut words = text.split(' ');
        let mut next = || words.next().ok_or(Malformed);
        let id: PartId = next()?.parse()?;
        let is_heard = match next()? {
            "heard" => true,
            "-" => false,
            _ => return Err(Malformed),
        };
        let what = next()?;
        // Counted before anything is kept: the text is foreign.
        let words: Vec<&str> = words.take(PARTS_MAX * PARTS_MAX + 1).collect();
        let wish = match what {
            "move" if (1..=PARTS_MAX).contains(&words.len()) => {
                Wish::Move(words.into_iter().map(part).collect::<Result<_, _>>()?)
            }
            "cancel" if (1..=PARTS_MAX * PARTS_MAX).contains(&words.len()) => {
                let ids = words.into_iter().map(str::parse::<PartId>);
                Wish::Cancel(ids.collect::<Result<_, _>>()?)
            }
            _ => return Err(Malformed),
        };
        if id == id.wish() { Ok(Self { id, is_heard, wish }) } else { Err(Malformed) }
    }
}

fn part(text: &str) -> Result<Part, Malformed> {
    let (slots, to) = text.split_once(':').ok_or(Malformed)?;
    let slots = slots.parse().map_err(|_| Malformed)?;
    if to.len() != NODE_BYTES { Err(Malformed) } else { Ok(Part { slots, to: to.to_owned() }) }
}

/// How far a part is that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// It waits for its turn.
    Queued,
    /// It is copied.
    Copy,
    /// The slots have changed hands.
    Owned,
    /// It is given up, and what was copied is deleted.
    Drop,
}

impl Stage {
    const WORDS: [(Self, &'static str); 4] = [
        (Self::Queued, "queued"),
        (Self::Copy, "copy"),
        (Self::Owned, "owned"),
        (Self::Drop, "drop"),
    ];

    /// One word, as the controller has it.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(known, _)| *known == self).map_or("queued", |(_, word)| *word)
    }

    /// By its word; one of a later controller counts as [`Stage::Queued`].
    pub fn of(word: &str) -> Self {
        let found = Self::WORDS.iter().find(|(_, known)| *known == word);
        found.map_or(Self::Queued, |(stage, _)| *stage)
    }
}

/// What becomes of a part of a wish.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// It is in the queue, or under way.
    Taken(Stage),
    /// It is done; of a wish to cancel: as far as it could be.
    Done,
    /// It was given up.
    Failed(String),
    /// Nothing of the whole wish is done.
    Refused(String),
}

impl Fate {
    /// Nothing follows any more.
    pub fn is_end(&self) -> bool {
        !matches!(self, Self::Taken(_))
    }
}

/// What a controller says of a part of a wish; of the first one, if it is about the wish.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Told {
    /// Which.
    pub id: PartId,
    /// What becomes of it.
    pub fate: Fate,
}

/// The first word of what is said of a wish.
pub(super) const WORD: &str = "wish ";

/// One line, and no longer than it may be.
fn line(why: &str) -> String {
    let mut line: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    while line.len() > WHY_BYTES_MAX {
        line.pop();
    }
    line
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{WORD}{} ", self.id)?;
        match &self.fate {
            Fate::Taken(stage) => write!(f, "taken {}", stage.word()),
            Fate::Done => f.write_str("done"),
            Fate::Failed(why) => write!(f, "failed {}", line(why)),
            Fate::Refused(why) => write!(f, "refused {}", line(why)),
        }
    }
}

impl FromStr for Told {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let text = text.strip_prefix(WORD).ok_or(Malformed)?;
        let (id, fate) = text.split_once(' ').ok_or(Malformed)?;
        let (word, rest) = fate.split_once(' ').unwrap_or((fate, ""));
        if rest.len() > WHY_BYTES_MAX {
            return Err(Malformed);
        }
        let fate = match (word, rest) {
            ("taken", stage) => Fate::Taken(Stage::of(stage)),
            ("done", _) => Fate::Done,
            ("failed", why) => Fate::Failed(why.to_owned()),
            ("refused", why) => Fate::Refused(why.to_owned()),
            _ => return Err(Malformed),
        };
        Ok(Self { id: id.parse()?, fate })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> PartId {
        PartId::of_wish(std::array::from_fn(|at| at as u8))
    }

    #[test]
    fn a_name_has_a_number_for_each_part() {
        let id = id();
        assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0e0f10111200");
        assert_eq!(id.part(255).to_string(), "000102030405060708090a0b0c0d0e0f101112ff");
        assert_eq!((id.part(7).wish(), id.part(7).to_string().parse()), (id, Ok(id.part(7))));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<PartId>(&json).unwrap(), id);
        for bad in ["", "0", &"0".repeat(39), &"0".repeat(41), &"g".repeat(40), &"+".repeat(40)] {
            assert_eq!(bad.parse::<PartId>(), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn a_wish_is_read_back_as_it_was_written() {
        let part = |slots: &str, to: char| Part {
            slots: slots.parse().unwrap(),
            to: to.to_string().repeat(40),
        };
        let wishes = [
            Wish::Move(vec![part("0-9,12", 'a')]),
            Wish::Move((0..16).map(|slot: u16| part(&slot.to_string(), 'b')).collect()),
            Wish::Cancel(vec![id().part(3), id()]),
        ];
        for (wish, is_heard) in wishes.into_iter().zip([false, true, false]) {
            let wished = Wished { id: id(), is_heard, wish };
            assert_eq!(wished.to_string().parse(), Ok(wished));
        }
        let first = Wished { id: id(), is_heard: false, wish: Wish::Move(vec![part("5", 'a')]) };
        assert_eq!(first.to_string(), format!("{} - move 5:{}", id(), "a".repeat(40)));
        let (a, of) = ("a".repeat(40), id());
        for bad in [
            String::new(),
            format!("{of}"),
            format!("{of} -"),
            format!("{of} - move"),
            format!("{of} - cancel"),
            format!("{of} - move 5"),
            format!("{of} - move 5:{}", &a[1..]),
            format!("{of} - move 5-4:{a}"),
            format!("{of} - move{}", format!(" 5:{a}").repeat(17)),
            format!("{of} - cancel{}", format!(" {of}").repeat(257)),
            format!("{of} - cancel x"),
            format!("{} - cancel {of}", of.part(1)),
        ] {
            assert_eq!(bad.parse::<Wished>(), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn what_becomes_of_it_is_read_back_as_it_was_written() {
        let stages = Stage::WORDS.map(|(stage, _)| Fate::Taken(stage));
        let ends =
            [Fate::Done, Fate::Failed("cancelled".into()), Fate::Refused("no, it is not".into())];
        for fate in stages.into_iter().chain(ends) {
            let told = Told { id: id().part(2), fate };
            assert_eq!(told.to_string().parse(), Ok(told));
        }
        let long = Told { id: id(), fate: Fate::Failed(format!("a\n{}", "ä".repeat(400))) };
        let read: Told = long.to_string().parse().unwrap();
        let Fate::Failed(why) = &read.fate else { panic!("{read:?}") };
        assert!(why.starts_with("a ä") && why.len() <= WHY_BYTES_MAX && why.len() > 500, "{why}");
        assert_eq!(Stage::of("flown"), Stage::Queued);
        for bad in ["", "wish", "wish x done", &format!("wish {}", id()), &format!("{} done", id())]
        {
            assert_eq!(bad.parse::<Told>(), Err(Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(wish )?[0-9a-f]{40}( [a-z0-9:-]{0,50}){0,4}") {
            if let Ok(told) = text.parse::<Told>() {
                prop_assert_eq!(told.to_string().parse(), Ok(told));
            }
            if let Ok(wished) = text.parse::<Wished>() {
                prop_assert_eq!(wished.to_string().parse(), Ok(wished));
            }
        }
    }
}
