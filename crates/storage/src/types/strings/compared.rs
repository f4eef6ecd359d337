//! Conditions on the present value of a string, as Redis 8.4 has them: that it is, or is not, a
//! given one, told by the value itself or by its digest. And Kvrocks' CAS and CAD.

use xxhash_rust::xxh3::xxh3_64;

use crate::types::CommandError;
use crate::types::expiry::Expiry;
use crate::types::head::Prefix;
use crate::types::kind::Type;
use crate::{At, Family, Txn};

/// Hexadecimal digits of a digest.
pub const DIGEST_DIGITS: usize = 16;

/// The digest of a value: XXH3, 64 bits, as [`DIGEST_DIGITS`] digits in lower case.
pub fn digest(value: &[u8]) -> String {
    format!("{:0DIGEST_DIGITS$x}", xxh3_64(value))
}

/// What a value is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With<'a> {
    /// This value.
    Value(&'a [u8]),
    /// One of this digest, in either case; a text that is none is that of no value.
    Digest(&'a [u8]),
}

/// IFEQ, IFNE, IFDEQ, IFDNE. A key that is not there has no value, so it is unlike any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison<'a> {
    /// What it is compared with.
    pub with: With<'a>,
    /// Whether it is to be that one.
    pub is_equal: bool,
}

impl Comparison<'_> {
    /// Whether the condition is met by a present value, or by there being none.
    pub fn is_met(&self, value: Option<&[u8]>) -> bool {
        let is_that = value.is_some_and(|value| match self.with {
            With::Value(wanted) => value == wanted,
            With::Digest(wanted) => digest(value).as_bytes().eq_ignore_ascii_case(wanted),
        });
        is_that == self.is_equal
    }
}

/// DELEX with a condition: deletes the key if it is met. False if it is not, or there is no key.
/// The delete carries no log data.
///
/// # Errors
/// Wrong type.
pub fn delex(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    condition: &Comparison<'_>,
) -> Result<bool, CommandError> {
    let Some(found) = super::load(txn, at)? else { return Ok(false) };
    let is_met = condition.is_met(Some(&found.payload));
    if is_met {
        txn.delete(Family::Metadata, &at.ns_key);
    }
    Ok(is_met)
}

/// Result of [`cas`] and [`cad`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// -1.
    Absent,
    /// 0.
    Different,
    /// 1: the key was changed.
    Equal,
}

/// CAS: sets `new` if the value is `old`. Without an expiry the key lives on without end.
///
/// # Errors
/// Wrong type.
pub fn cas(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    old: &[u8],
    new: &[u8],
    expiry: Expiry,
) -> Result<Compared, CommandError> {
    let Some(found) = super::load(txn, at)? else { return Ok(Compared::Absent) };
    if *found.payload != *old {
        return Ok(Compared::Different);
    }
    let expire_ms = match expiry {
        Expiry::Never => 0,
        Expiry::Keep => found.expire_ms,
        Expiry::At(end_ms) => end_ms,
    };
    super::put(txn, at, &Prefix::new(Type::String, expire_ms), &[new]);
    Ok(Compared::Equal)
}

/// CAD: deletes the key if the value is `old`. The delete carries no log data.
///
/// # Errors
/// Wrong type.
pub fn cad(txn: &mut Txn<'_>, at: &At<'_>, old: &[u8]) -> Result<Compared, CommandError> {
    let Some(found) = super::load(txn, at)? else { return Ok(Compared::Absent) };
    if *found.payload != *old {
        return Ok(Compared::Different);
    }
    txn.delete(Family::Metadata, &at.ns_key);
    Ok(Compared::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_redis() {
        // As the documentation of Redis and the tests of Kvrocks have them; the second one begins
        // with zeros.
        assert_eq!(digest(b"Hello world"), "b6acb9d84a38ff74");
        let begins_with_zeros = b"v8lf0c11xh8ymlqztfd3eeq16kfn4sspw7fqmnuuq3k3t75em5wdizgcdw7uc26nnf961u2jkfzkjytls2kwlj7626sd";
        assert_eq!(digest(begins_with_zeros), "00006c38adf31777");
    }

    #[test]
    fn what_is_not_there_is_unlike_any_value() {
        let of = |with, is_equal| Comparison { with, is_equal };
        let (a, of_a) = (With::Value(b"a"), digest(b"a").to_uppercase());
        for (with, is_that) in [
            (a, true),
            (With::Value(b"b"), false),
            (With::Digest(of_a.as_bytes()), true),
            (With::Digest(b"zzzzzzzzzzzzzzzz"), false),
        ] {
            assert_eq!(of(with, true).is_met(Some(b"a")), is_that, "{with:?}");
            assert_eq!(of(with, false).is_met(Some(b"a")), !is_that, "{with:?}");
            assert!(!of(with, true).is_met(None) && of(with, false).is_met(None), "{with:?}");
        }
    }
}
