//! Which store the controllers of a node lead it from: what a controller says, what a node says,
//! and whether the two fit (rule O7).
//!
//! A store's name stays with its content, its generation rises each time that content is taken up
//! anew. A node that was led from a store refuses older generations of it, whatever their term, and
//! every other store, until a controller names the one whose place its own takes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a node's refusal begins with, behind `ERR `.
pub const MISMATCH: &str = "store mismatch";

/// A store, and which life of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoreId {
    /// Its random name: 16 hexadecimal digits.
    pub name: u64,
    /// 1 at first, higher with each import, migration and adoption.
    pub generation: u64,
}

impl StoreId {
    /// From a name as stores spell it; `None` if it is none of 1 to 16 hexadecimal digits.
    pub fn new(name: &str, generation: u64) -> Option<Self> {
        let is_name = (1..=16).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit());
        let name = u64::from_str_radix(name, 16).ok().filter(|_| is_name)?;
        Some(Self { name, generation })
    }

    fn words(self) -> [String; 2] {
        [format!("{:016x}", self.name), self.generation.to_string()]
    }

    /// For people.
    pub fn told(self) -> String {
        format!("store {:016x}, generation {}", self.name, self.generation)
    }
}

/// `<name>/<generation>`.
impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{}", self.name, self.generation)
    }
}

impl FromStr for StoreId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let read = || {
            let (name, generation) = text.split_once('/')?;
            Self::new(name, generation.parse().ok()?)
        };
        read().ok_or("`<name>/<generation>` expected")
    }
}

impl TryFrom<String> for StoreId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl From<StoreId> for String {
    fn from(store: StoreId) -> Self {
        store.to_string()
    }
}

/// What a controller says of the store that it leads from: `STORE <name> <generation> [FOR <name>
/// <generation>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Said {
    /// That store.
    pub by: StoreId,
    /// The store whose place it takes, up to that generation.
    pub instead_of: Option<StoreId>,
}

impl Said {
    /// What the controller of `own` says to a node that heeds `heeds`; `takes`: whose place that
    /// store takes. `None` to a node that does not know the word.
    pub fn to(
        own: StoreId,
        takes: impl IntoIterator<Item = StoreId>,
        heeds: Heeds,
    ) -> Option<Self> {
        let known = match heeds {
            Heeds::Unsaid => return None,
            Heeds::Nobody => None,
            Heeds::Store(known) => Some(known).filter(|known| known.name != own.name),
        };
        let instead_of =
            known.and_then(|known| takes.into_iter().find(|taken| covers(*taken, known)));
        Some(Self { by: own, instead_of })
    }

    /// The words that go over the wire.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec!["STORE".to_owned()];
        words.extend(self.by.words());
        if let Some(other) = self.instead_of {
            words.push("FOR".to_owned());
            words.extend(other.words());
        }
        words
    }

    /// Reads the words behind `STORE`; `None` if they are none.
    pub fn parse(words: &[&str]) -> Option<Self> {
        let id = |name: &str, generation: &str| StoreId::new(name, generation.parse().ok()?);
        match *words {
            [name, generation] => Some(Self { by: id(name, generation)?, instead_of: None }),
            [name, generation, word, other, of] if word.eq_ignore_ascii_case("for") => {
                Some(Self { by: id(name, generation)?, instead_of: Some(id(other, of)?) })
            }
            _ => None,
        }
    }

    /// Whether a node that was led from `known` obeys; true if it is to keep the store from then
    /// on.
    ///
    /// # Errors
    /// It does not.
    pub fn against(&self, known: Option<StoreId>) -> Result<bool, Mismatch> {
        let Some(known) = known else { return Ok(true) };
        let mismatch = Mismatch { said: self.by, known };
        if self.by.name == known.name {
            return match self.by.generation >= known.generation {
                true => Ok(self.by.generation > known.generation),
                false => Err(mismatch),
            };
        }
        self.instead_of.filter(|taken| covers(*taken, known)).map(|_| true).ok_or(mismatch)
    }
}

/// The place of `taken` is that of its earlier lives as well, and not of a later one: it has been
/// taken up again since.
fn covers(taken: StoreId, known: StoreId) -> bool {
    taken.name == known.name && taken.generation >= known.generation
}

/// Why a node obeys no controller of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mismatch {
    /// The store of the controller that was refused.
    pub said: StoreId,
    /// The store that has led the node.
    pub known: StoreId,
}

impl Mismatch {
    /// What is to be done, for people, behind what is wrong.
    pub fn remedy(&self) -> &'static str {
        match self.said.name == self.known.name {
            true => {
                "that one counts: let its controllers lead, or, once they are stopped for good, take this one up again by `holdfast ctl store adopt`"
            }
            false => {
                "stop the controllers of one of the two for good; if this one is to lead, `holdfast ctl store adopt` on it takes the place of the other"
            }
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (said, known) = (self.said.told(), self.known.told());
        write!(
            f,
            "{MISMATCH}: this node is led from {known}, and refuses {said}: {}",
            self.remedy()
        )
    }
}

impl std::error::Error for Mismatch {}

/// From which store a node takes heartbeats, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Heeds {
    /// It does not know the word: a node of an earlier version.
    #[default]
    Unsaid,
    /// None has led it so far, or none that said its name: `-`.
    Nobody,
    /// This one.
    Store(StoreId),
}

impl Heeds {
    /// Of a node that knows the word.
    pub fn of(store: Option<StoreId>) -> Self {
        store.map_or(Self::Nobody, Self::Store)
    }

    /// The store, if there is one.
    pub fn store(self) -> Option<StoreId> {
        match self {
            Self::Store(store) => Some(store),
            Self::Unsaid | Self::Nobody => None,
        }
    }

    /// What stands in a reply behind `store:`; `None` for no line.
    pub(crate) fn shown(self) -> Option<String> {
        match self {
            Self::Unsaid => None,
            Self::Nobody => Some("-".to_owned()),
            Self::Store(store) => Some(store.to_string()),
        }
    }

    /// Reads that.
    pub(crate) fn read(text: Option<&str>) -> Result<Self, &'static str> {
        match text {
            None => Ok(Self::Unsaid),
            Some("-") => Ok(Self::Nobody),
            Some(text) => text.parse().map(Self::Store),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: u64, generation: u64) -> StoreId {
        StoreId { name, generation }
    }

    fn said(by: StoreId, instead_of: Option<StoreId>) -> Said {
        Said { by, instead_of }
    }

    #[test]
    fn an_older_life_and_another_store_are_refused_and_both_are_named() {
        let known = Some(id(0xa, 3));
        assert_eq!(said(id(0xa, 3), None).against(known), Ok(false), "nothing new");
        assert_eq!(said(id(0xa, 4), None).against(known), Ok(true));
        assert_eq!(said(id(0xb, 1), None).against(None), Ok(true), "the first one");
        let older = said(id(0xa, 2), None).against(known).unwrap_err();
        assert_eq!(
            older.to_string(),
            "store mismatch: this node is led from store 000000000000000a, generation 3, and refuses store 000000000000000a, \
             generation 2: that one counts: let its controllers lead, or, once they are stopped for good, take this one up again \
             by `holdfast ctl store adopt`"
        );
        let other = said(id(0xb, 9), None).against(known).unwrap_err();
        let text = other.to_string();
        assert!(text.contains("led from store 000000000000000a, generation 3"), "{text}");
        assert!(text.contains("refuses store 000000000000000b, generation 9: stop"), "{text}");
        assert!(text.contains("`holdfast ctl store adopt` on it"), "{text}");
    }

    #[test]
    fn a_place_is_taken_by_name_and_up_to_a_generation() {
        let known = Some(id(0xa, 3));
        assert_eq!(said(id(0xb, 1), Some(id(0xa, 3))).against(known), Ok(true));
        assert_eq!(said(id(0xb, 1), Some(id(0xa, 4))).against(known), Ok(true));
        let late = said(id(0xb, 1), Some(id(0xa, 2)));
        assert!(late.against(known).is_err(), "it was taken up again since");
        assert!(said(id(0xb, 1), Some(id(0xc, 9))).against(known).is_err());
        // Of one store the generation decides, whatever it says beside.
        assert!(said(id(0xa, 2), Some(id(0xa, 3))).against(known).is_err());
    }

    #[test]
    fn a_controller_says_whose_place_it_takes_only_to_nodes_of_that_store() {
        let (own, takes) = (id(0xb, 2), [id(0xc, 1), id(0xa, 3)]);
        let to = |heeds| Said::to(own, takes, heeds);
        assert_eq!(to(Heeds::Unsaid), None, "an older node would refuse the word");
        for heeds in [Heeds::Nobody, Heeds::Store(own), Heeds::Store(id(0xb, 9))] {
            assert_eq!(to(heeds), Some(said(own, None)));
        }
        assert_eq!(to(Heeds::Store(id(0xa, 2))), Some(said(own, Some(id(0xa, 3)))));
        assert_eq!(to(Heeds::Store(id(0xa, 4))), Some(said(own, None)), "a later life of it");
        assert_eq!(to(Heeds::Store(id(0xd, 1))), Some(said(own, None)));
    }

    #[test]
    fn words_and_lines_are_read_back() {
        for said in [said(id(0xb, 2), None), said(id(u64::MAX, 2), Some(id(0, u64::MAX)))] {
            let words = said.words();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert_eq!(words[0], "STORE");
            assert_eq!(Said::parse(&words[1..]), Some(said));
        }
        for bad in [
            &["b"][..],
            &["b", "-1"],
            &["g", "1"],
            &["", "1"],
            &["+1", "1"],
            &["00000000000000001", "1"],
            &["b", "1", "FOR", "a"],
            &["b", "1", "AND", "a", "1"],
            &["b", "1", "FOR", "a", "1", "x"],
        ] {
            assert_eq!(Said::parse(bad), None, "{bad:?}");
        }
        for heeds in [Heeds::Unsaid, Heeds::Nobody, Heeds::Store(id(0xb, 2))] {
            assert_eq!(Heeds::read(heeds.shown().as_deref()), Ok(heeds));
        }
        assert!(Heeds::read(Some("b")).is_err() && Heeds::read(Some("b/x")).is_err());
    }
}
