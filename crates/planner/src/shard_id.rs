//! What a shard is called for good.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Random name of a shard, 16 hexadecimal digits: its index shifts when another one is removed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ShardId(pub u64);

impl ShardId {
    /// Digits of its text.
    const DIGITS: usize = 16;

    /// Not given yet: the record was written before shards had names.
    pub fn is_none(&self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.0, width = Self::DIGITS)
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// All digits are there, so that no index is taken for a name.
impl FromStr for ShardId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let is_name =
            text.len() == Self::DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = is_name.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        value.map(Self).ok_or_else(|| format!("shard id `{text}`: 16 hexadecimal digits expected"))
    }
}

impl From<ShardId> for String {
    fn from(id: ShardId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for ShardId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
