//! How a node answers, as the planner judges it: one type for the status, its metrics, `ctl` and
//! `holdfast up`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::words::words;

/// How a node answers. In JSON it is its word; a word of a later controller reads as `unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "&'static str")]
pub enum Health {
    /// Never heard of, and not yet missed long enough.
    #[default]
    Unknown,
    /// Answered last time.
    Up,
    /// Missed some heartbeats, or answers with errors, or cannot be asked.
    Suspect,
    /// Missed too many, refused twice, or somebody else answers; or a master that errors kept from
    /// a lease.
    Down,
}

words!(Health { Unknown = "unknown", Up = "up", Suspect = "suspect", Down = "down" });

impl From<String> for Health {
    fn from(word: String) -> Self {
        word.parse().unwrap_or_default()
    }
}

impl From<Health> for &'static str {
    fn from(health: Health) -> Self {
        health.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_word_in_json_and_a_word_of_later_is_unknown() {
        for (health, word) in [(Health::Up, "\"up\""), (Health::Suspect, "\"suspect\"")] {
            assert_eq!(serde_json::to_string(&health).unwrap(), word);
            assert_eq!(serde_json::from_str::<Health>(word).unwrap(), health);
        }
        assert_eq!(serde_json::from_str::<Health>("\"poorly\"").unwrap(), Health::Unknown);
    }
}
