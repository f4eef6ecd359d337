//! etcd's JSON gateway: what is asked, and what of the answers is used. Keys and values are base64,
//! numbers are strings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

fn coded(text: &str) -> String {
    STANDARD.encode(text)
}

/// The end of the range of all keys that begin with `prefix`, which ends in `/`.
fn end_of(prefix: &str) -> String {
    // `0` follows `/`.
    let end = prefix.strip_suffix('/').map(|rest| format!("{rest}0"));
    end.unwrap_or_else(|| format!("{prefix}\u{1}"))
}

/// One read inside a transaction.
#[derive(Debug, Clone)]
pub(super) enum Range {
    /// One key.
    Key(String),
    /// All keys with this prefix.
    All(String),
    /// Those of them that were written after a revision.
    Since(String, i64),
    /// Their names.
    Names(String),
    /// The last of them, at most so many, from the last one on; before a key, if one is given.
    Last(String, usize, Option<String>),
}

impl Range {
    fn json(&self) -> Value {
        match self {
            Self::Key(key) => json!({ "key": coded(key) }),
            Self::All(prefix) => {
                json!({ "key": coded(prefix), "range_end": coded(&end_of(prefix)) })
            }
            Self::Since(prefix, revision) => json!({
                "key": coded(prefix),
                "range_end": coded(&end_of(prefix)),
                "min_mod_revision": revision.saturating_add(1).to_string(),
            }),
            Self::Names(prefix) => json!({
                "key": coded(prefix),
                "range_end": coded(&end_of(prefix)),
                "keys_only": true,
            }),
            Self::Last(prefix, limit, before) => json!({
                "key": coded(prefix),
                "range_end": coded(before.as_deref().unwrap_or(&end_of(prefix))),
                "sort_order": "DESCEND",
                "sort_target": "KEY",
                "limit": limit.to_string(),
            }),
        }
    }
}

/// What must be so for a transaction to be made.
#[derive(Debug, Clone)]
pub(super) enum Compare {
    /// The key has this value.
    Is(String, String),
    /// There is no such key.
    Absent(String),
    /// There is no key with this prefix.
    NoneOf(String),
    /// There is such a key.
    Present(String),
}

impl Compare {
    fn json(&self) -> Value {
        match self {
            Self::Is(key, value) => json!({
                "target": "VALUE", "result": "EQUAL", "key": coded(key), "value": coded(value),
            }),
            Self::Absent(key) => json!({
                "target": "CREATE", "result": "EQUAL", "key": coded(key), "create_revision": "0",
            }),
            Self::NoneOf(prefix) => json!({
                "target": "CREATE", "result": "EQUAL", "key": coded(prefix),
                "range_end": coded(&end_of(prefix)), "create_revision": "0",
            }),
            Self::Present(key) => json!({
                "target": "CREATE", "result": "GREATER", "key": coded(key), "create_revision": "0",
            }),
        }
    }

    /// Whether it is that this key has this value.
    pub(super) fn wants(&self, key: &str, value: &str) -> bool {
        matches!(self, Self::Is(of, wanted) if of == key && wanted == value)
    }

    /// The read that shows why it was not so.
    fn shown(&self) -> Range {
        match self {
            Self::Is(key, _) | Self::Absent(key) | Self::Present(key) => Range::Key(key.clone()),
            Self::NoneOf(prefix) => Range::Last(prefix.clone(), 1, None),
        }
    }
}

/// What a transaction does.
#[derive(Debug, Clone)]
pub(super) enum Write {
    /// Puts a value.
    Put(String, String),
    /// Removes a key.
    Remove(String),
    /// Removes the keys from the first to before the second.
    Trim(String, String),
    /// Removes all keys with this prefix.
    Clear(String),
}

impl Write {
    fn json(&self) -> Value {
        match self {
            Self::Put(key, value) => {
                json!({ "request_put": { "key": coded(key), "value": coded(value) } })
            }
            Self::Remove(key) => json!({ "request_delete_range": { "key": coded(key) } }),
            Self::Trim(from, to) => json!({
                "request_delete_range": { "key": coded(from), "range_end": coded(to) },
            }),
            Self::Clear(prefix) => json!({
                "request_delete_range": {
                    "key": coded(prefix), "range_end": coded(&end_of(prefix)),
                },
            }),
        }
    }
}

/// A transaction that only reads: linearizable, all of one revision.
pub(super) fn reads(ranges: &[Range]) -> Value {
    let ranges = ranges.iter().map(|range| json!({ "request_range": range.json() }));
    json!({ "success": ranges.collect::<Vec<_>>() })
}

/// A transaction; where it is not made, its answer has a range for each compare.
pub(super) fn transaction(compares: &[Compare], writes: &[Write]) -> Value {
    let shown = compares.iter().map(|compare| json!({ "request_range": compare.shown().json() }));
    json!({
        "compare": compares.iter().map(Compare::json).collect::<Vec<_>>(),
        "success": writes.iter().map(Write::json).collect::<Vec<_>>(),
        "failure": shown.collect::<Vec<_>>(),
    })
}

/// What is counted of a transaction against the largest request that is taken, but for a few bytes:
/// its keys and values.
pub(super) fn bytes(compares: &[Compare], writes: &[Write]) -> usize {
    let compared = compares.iter().map(|compare| match compare {
        Compare::Is(key, value) => key.len() + value.len(),
        Compare::Absent(key) | Compare::NoneOf(key) | Compare::Present(key) => key.len(),
    });
    let written = writes.iter().map(|write| match write {
        Write::Put(one, other) | Write::Trim(one, other) => one.len() + other.len(),
        Write::Remove(key) | Write::Clear(key) => key.len(),
    });
    compared.chain(written).sum()
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

fn decoded<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let bytes = STANDARD.decode(String::deserialize(from)?).map_err(serde::de::Error::custom)?;
    String::from_utf8(bytes).map_err(serde::de::Error::custom)
}

/// Of every answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    /// Which etcd.
    pub(super) cluster_id: String,
    /// How far it is.
    #[serde(deserialize_with = "number")]
    pub(super) revision: i64,
    #[serde(deserialize_with = "number")]
    pub(super) raft_term: i64,
}

/// A key and its value.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pair {
    #[serde(deserialize_with = "decoded")]
    pub(super) key: String,
    #[serde(deserialize_with = "decoded")]
    pub(super) value: String,
}

/// What a range found.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Found {
    #[serde(rename = "kvs")]
    pub(super) pairs: Vec<Pair>,
}

impl Found {
    /// The value of the only key.
    pub(super) fn value(&self) -> Option<&str> {
        self.pairs.first().map(|pair| pair.value.as_str())
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct One {
    response_range: Found,
}

/// The answer to a transaction.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    pub(super) header: Header,
    pub(super) succeeded: bool,
    responses: Vec<One>,
}

impl Answer {
    /// What the range of this index found.
    pub(super) fn found(&self, index: usize) -> Found {
        self.responses.get(index).map(|one| one.response_range.clone()).unwrap_or_default()
    }
}

/// An error of etcd.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    /// Of gRPC.
    pub(super) code: i64,
    pub(super) message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_etcd_is_read() {
        let text = r#"{"header":{"cluster_id":"7801","member_id":"1345","revision":"3","raft_term":"2"},
            "responses":[{"response_range":{"header":{"revision":"3"},"kvs":[{"key":"Zm8=",
            "create_revision":"3","mod_revision":"3","version":"1","value":"eA=="}],"count":"2"}},
            {"response_range":{"header":{"revision":"3"}}},{"response_put":{"header":{"revision":"3"}}}]}"#;
        let answer: Answer = serde_json::from_str(text).expect("an answer");
        assert!(!answer.succeeded);
        assert_eq!((answer.header.revision, answer.header.raft_term), (3, 2));
        assert_eq!(answer.found(0).value(), Some("x"));
        assert_eq!(answer.found(0).pairs[0].key, "fo");
        assert!(answer.found(1).pairs.is_empty() && answer.found(7).pairs.is_empty());
        for bad in [
            "{\"header\":{\"revision\":\"x\"}}",
            "{\"responses\":[{\"response_range\":{\"kvs\":[{\"key\":\"%\"}]}}]}",
        ] {
            assert!(serde_json::from_str::<Answer>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_covers_what_begins_with_it_and_no_more() {
        let end = end_of("/holdfast/clusters/");
        assert!(*"/holdfast/clusters/zzz" < *end && *"/holdfast/clusters0" >= *end);
    }
}
