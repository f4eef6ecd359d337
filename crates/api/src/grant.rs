//! The words of grants: the members of an in-sync set, the name of an epoch, and the `GRANT` of a
//! heartbeat.
//!
//! Written by controllers and read by nodes, and the other way round in the reply of a heartbeat.
//! What follows from them is decided in crate `grant`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use topology::NodeId;

use crate::words::words;

/// Most members a set may have on the wire.
pub const MEMBERS_MAX: usize = 64;

/// Words of a grant behind `GRANT`, where the node takes the version of the topology with it.
pub const GRANT_WORDS: usize = 9;

/// Why a text is none of the forms here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// Not 1 to 16 hexadecimal digits.
    #[error("epoch id expected: 1 to 16 hexadecimal digits")]
    EpochId,
    /// Not `<node id>/<incarnation>/<boot>`.
    #[error("member expected: <node id>/<incarnation>/<boot id or ->")]
    Member,
    /// More than [`MEMBERS_MAX`].
    #[error("more than {MEMBERS_MAX} members")]
    TooMany,
    /// A number of a grant.
    #[error("`{0}` of a grant is no number")]
    Number(&'static str),
    /// Neither `in-sync` nor `async`.
    #[error("commit mode: {0}")]
    Mode(String),
    /// Neither eight words nor nine.
    #[error("a grant has {GRANT_WORDS} words, or one less")]
    Arity,
}

/// Random name of an epoch, 16 hexadecimal digits: two controllers that open the same number are
/// told apart by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EpochId(pub u64);

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EpochId {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        hex(text, 16)
            .and_then(|value| u64::try_from(value).ok())
            .map(Self)
            .ok_or(WordError::EpochId)
    }
}

/// One to `digits` hexadecimal digits, without a sign.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = !text.is_empty()
        && text.len() <= digits
        && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// `-` or an epoch id.
pub fn parse_id(text: &str) -> Result<Option<EpochId>, WordError> {
    if text == "-" { Ok(None) } else { text.parse().map(Some) }
}

/// An epoch id, or `-` for none.
pub fn show_id(id: Option<EpochId>) -> String {
    id.map_or_else(|| "-".to_owned(), |id| id.to_string())
}

/// What an in-sync set names: data, not a node. A node whose data was replaced, or may have lost
/// what was not on its disk, is another member.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Member {
    node: NodeId,
    /// Of the data; replaced with it.
    pub incarnation: u64,
    /// Of the kernel; `None` where acknowledged means on disk (`durable-ack`), so that a reboot
    /// loses nothing.
    pub boot: Option<u128>,
}

impl Member {
    /// `None` for a node id that cannot be told from the signs between members.
    pub fn new(node: NodeId, incarnation: u64, boot: Option<u128>) -> Option<Self> {
        let is_plain =
            node.as_bytes().iter().all(|b| b.is_ascii_graphic() && !matches!(b, b',' | b'/'));
        is_plain.then_some(Self { node, incarnation, boot })
    }

    /// Id of the node that holds the data.
    pub fn node(&self) -> NodeId {
        self.node
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}/", self.node, self.incarnation)?;
        match self.boot {
            Some(boot) => write!(f, "{boot:032x}"),
            None => f.write_str("-"),
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Member {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let parse = || {
            let mut parts = text.split('/');
            let (node, incarnation, boot) = (parts.next()?, parts.next()?, parts.next()?);
            let boot = if boot == "-" { None } else { Some(hex(boot, 32)?) };
            let incarnation = u64::try_from(hex(incarnation, 16)?).ok()?;
            if parts.next().is_some() {
                return None;
            }
            Self::new(NodeId::new(node.as_bytes())?, incarnation, boot)
        };
        parse().ok_or(WordError::Member)
    }
}

/// A set of members. Its text is a comma-separated list, `-` when empty.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Members(pub BTreeSet<Member>);

impl Members {
    /// Whether `member` is one of them.
    pub fn contains(&self, member: &Member) -> bool {
        self.0.contains(member)
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True for no members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Member> for Members {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        Self(members.into_iter().collect())
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (index, member) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            fmt::Display::fmt(member, f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Members {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        if text == "-" {
            return Ok(Self::default());
        }
        let members = text.split(',').map(str::parse).collect::<Result<Self, _>>()?;
        if members.len() > MEMBERS_MAX { Err(WordError::TooMany) } else { Ok(members) }
    }
}

macro_rules! text_in_serde {
    ($($type:ty),+) => { $(
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
        impl TryFrom<String> for $type {
            type Error = WordError;
            fn try_from(text: String) -> Result<Self, WordError> {
                text.parse()
            }
        }
    )+ };
}
text_in_serde!(EpochId, Member);

/// When a reply may leave (`commit-mode`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum CommitMode {
    /// Once every member of the in-sync set has what the command could see.
    InSync,
    /// At once, as Kvrocks.
    #[default]
    Async,
}
words!(CommitMode { InSync = "in-sync", Async = "async" });

/// What a node must hold at least to take a grant: everything of an epoch up to a sequence.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct Least {
    /// The epoch; `None` for data from before all epochs.
    pub id: Option<EpochId>,
    /// Newest sequence that must be there, as a part of that epoch.
    pub sequence: u64,
}

/// The right to serve as master, as the record of a shard has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Grant {
    /// Rises with every change of master, and with every new process of a master; 1 or more.
    pub epoch: u64,
    /// Its random name.
    pub id: EpochId,
    /// What the node must hold.
    pub least: Least,
    /// When replies may leave.
    pub mode: CommitMode,
    /// Least size of the set, the master included, for writes to be accepted; 1 or more.
    pub min_in_sync: u32,
    /// The request of this epoch that the store has adopted; 0 is the set the epoch began with.
    pub request: u64,
    /// The set the store holds.
    pub members: Members,
    /// Version of the topology at the opening of the epoch: its holder serves nothing before it has
    /// that one. 0: none is asked for, as by older controllers.
    pub version: i64,
}

impl Grant {
    /// Reads the words behind `GRANT`.
    pub fn parse(words: &[&str]) -> Result<Self, WordError> {
        let (words, version) = match words {
            [words @ .., version] if words.len() + 1 == GRANT_WORDS => (words, *version),
            words => (words, "0"),
        };
        let [epoch, id, least_id, least, mode, min, request, members] = words else {
            return Err(WordError::Arity);
        };
        let number = |text: &str, name| number(text).ok_or(WordError::Number(name));
        let epoch = number(epoch, "epoch")?;
        let min_in_sync = u32::try_from(number(min, "min-in-sync")?);
        if epoch == 0 {
            return Err(WordError::Number("epoch"));
        }
        Ok(Self {
            epoch,
            id: id.parse()?,
            least: Least { id: parse_id(least_id)?, sequence: number(least, "least sequence")? },
            mode: mode.parse().map_err(WordError::Mode)?,
            min_in_sync: min_in_sync.map_err(|_| WordError::Number("min-in-sync"))?.max(1),
            request: number(request, "request")?,
            members: members.parse()?,
            version: i64::try_from(number(version, "version")?)
                .map_err(|_| WordError::Number("version"))?,
        })
    }

    /// The words behind `GRANT`. Without a version they are those that older nodes take.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![
            self.epoch.to_string(),
            self.id.to_string(),
            show_id(self.least.id),
            self.least.sequence.to_string(),
            self.mode.to_string(),
            self.min_in_sync.to_string(),
            self.request.to_string(),
            self.members.to_string(),
        ];
        if self.version > 0 {
            words.push(self.version.to_string());
        }
        words
    }
}

/// Decimal digits only.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(letter: char, boot: Option<u128>) -> Member {
        let node = NodeId::new(letter.to_string().repeat(40).as_bytes()).unwrap();
        Member::new(node, 0xbeef, boot).unwrap()
    }

    #[test]
    fn a_member_names_node_data_and_boot() {
        let text = format!("{}/000000000000beef/{:032x}", "a".repeat(40), 7);
        assert_eq!(member('a', Some(7)).to_string(), text);
        assert_eq!(text.parse(), Ok(member('a', Some(7))));
        let durable = format!("{}/000000000000beef/-", "a".repeat(40));
        assert_eq!(durable.parse(), Ok(member('a', None)));
        assert_ne!(member('a', None), member('a', Some(7)));
        for bad in ["", "a/b/c", "-", &text[1..], &format!("{text}/x"), &text.replace("be", "+e")] {
            assert_eq!(bad.parse::<Member>(), Err(WordError::Member), "{bad}");
        }
        let odd = NodeId::new("a,".repeat(20).as_bytes()).unwrap();
        assert_eq!(Member::new(odd, 1, None), None);
    }

    #[test]
    fn a_grant_is_read_back_as_it_was_written() {
        let grant = Grant {
            epoch: 7,
            id: EpochId(0xabc),
            least: Least { id: Some(EpochId(1)), sequence: 99 },
            mode: CommitMode::InSync,
            min_in_sync: 2,
            request: 3,
            members: [member('a', Some(1)), member('b', None)].into_iter().collect(),
            version: 12,
        };
        for grant in [grant.clone(), Grant { version: 0, ..grant }] {
            let words = grant.words();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert_eq!(words.len(), if grant.version == 0 { 8 } else { 9 });
            assert_eq!(Grant::parse(&words), Ok(grant));
        }
        let none = ["1", "1", "-", "0", "async", "0", "0", "-"];
        let none = Grant::parse(&none).unwrap();
        assert_eq!((none.least, none.min_in_sync, none.members.len()), (Least::default(), 1, 0));
        let words = ["1", "1", "-", "0", "async", "0", "0", "-", "9223372036854775807", "1"];
        assert_eq!(Grant::parse(&words[..9]).unwrap().version, i64::MAX);
        assert_eq!(Grant::parse(&words[..7]), Err(WordError::Arity));
        assert_eq!(Grant::parse(&words), Err(WordError::Arity));
        let beyond = ["1", "1", "-", "0", "async", "0", "0", "-", "9223372036854775808"];
        assert_eq!(Grant::parse(&beyond), Err(WordError::Number("version")));
        let zero = ["0", "1", "-", "0", "async", "1", "0", "-"];
        assert_eq!(Grant::parse(&zero), Err(WordError::Number("epoch")));
        let mode = ["1", "1", "-", "0", "sync", "1", "0", "-"];
        assert!(matches!(Grant::parse(&mode), Err(WordError::Mode(_))));
    }

    #[test]
    fn a_store_keeps_members_as_text() {
        let members: Members = [member('a', Some(1)), member('b', None)].into_iter().collect();
        let json = serde_json::to_string(&members).unwrap();
        assert!(json.starts_with("[\"aaaa"), "{json}");
        assert_eq!(serde_json::from_str::<Members>(&json).unwrap(), members);
    }

    proptest! {
        #[test]
        fn arbitrary_words_never_panic(words in prop::collection::vec(".{0,60}", 0..10)) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let _ = Grant::parse(&words);
            for word in words {
                let _ = word.parse::<Members>();
            }
        }
    }
}
