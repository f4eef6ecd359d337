//! Names of checkpoint files as they may cross the wire: a plain name, never a path.

use std::fmt;

/// A file name of letters, digits, `.`, `_` and `-` that cannot leave its folder.
///
/// Refused besides: an empty or over-long name, a leading dot (`..`, hidden files), the suffix
/// `.tmp`, which belongs to downloads in progress, and what begins with `holdfast.`: files that a
/// node keeps beside its data, and that say which data it is, whose, and whether it may be opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(String);

/// A name that is not a plain file name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a plain file name")]
pub struct BadName(pub String);

/// How the names of the files begin that a node adds to a database folder. No master sends them.
const OWN: &[u8] = b"holdfast.";

/// Longest name accepted, that of common file systems less room for a suffix.
const BYTES_MAX: usize = 200;

impl FileName {
    /// Checks a name received from a peer.
    pub fn parse(text: &[u8]) -> Result<Self, BadName> {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let refused = text.is_empty()
            || text.len() > BYTES_MAX
            || text.starts_with(b".")
            || text.ends_with(b".tmp")
            || text.starts_with(OWN)
            || !text.iter().all(plain);
        match std::str::from_utf8(text) {
            Ok(name) if !refused => Ok(Self(name.to_owned())),
            _ => Err(BadName(String::from_utf8_lossy(&text[..text.len().min(64)]).into_owned())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::FileName;

    #[test]
    fn takes_what_rocksdb_makes_and_nothing_that_leaves_the_folder() {
        for good in ["000012.sst", "MANIFEST-000004", "CURRENT", "OPTIONS-000022", "000019.log"] {
            assert_eq!(FileName::parse(good.as_bytes()).unwrap().as_str(), good);
        }
        let long = "a".repeat(201);
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc/passwd",
            ".hidden",
            "a.tmp",
            "holdfast.incarnation",
            "holdfast.rewind",
            "a b",
            "a\0",
            "ü",
            &long,
        ] {
            assert!(FileName::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
